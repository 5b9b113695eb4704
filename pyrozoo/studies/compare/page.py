"""The page over several runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Self

import pandas as pd

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import DataError
from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.accuracy import Accuracy, accuracy_of
from pyrozoo.diagnostics.card import COLOURS, LEVELS, ORDER
from pyrozoo.diagnostics.compare import Comparison, compare
from pyrozoo.diagnostics.planes import Planes
from pyrozoo.diagnostics.verdict import USUAL, Thresholds
from pyrozoo.report import html
from pyrozoo.report.movie import Movie
from pyrozoo.run.reference import load_run, serves
from pyrozoo.store.run_directory import ABSENT, absent_row, report_of, write_pictures, write_report, write_table
from pyrozoo.studies.compare.accuracy import accuracy_page
from pyrozoo.studies.compare.pictures import comparison_pictures
from pyrozoo.studies.compare.planes import plane_page, planes
from pyrozoo.studies.study import Written

SHORT = ("method", "status", "objective", "elbo", "elbo_gap", "khat", "mean_error", "sd_ratio_median", "overlap_median",
         "holdout_elpd", "holdout_rmse", "completion_rmse", "loo_elpd", "rhat_max_invariants",
         "ess_bulk_min_invariants", "ess_per_second", "seconds_to_error", "seconds")  # fmt: skip
"""Figures that the page shows; comparison.csv has all."""


MOST_ROWS = 200


CARD = ("fit", "level", "about", "sentence")


class ComparisonResult(Comparison):
    """Several fits side by side; printing it shows the table, a notebook the verdicts."""

    @classmethod
    def of(cls, comparison: Comparison) -> Self:
        """Dress a comparison with what is shown of it."""
        result = cls.__new__(cls)
        result.__dict__.update(comparison.__dict__)
        return result

    __repr__ = Comparison.__str__

    def _repr_html_(self) -> str:
        shown = self.verdicts.map(lambda word: html.level(word) if word in COLOURS else word)
        table = shown.rename(index=escape).to_html(escape=False, index_names=False)
        return f"<p><b>{escape(self.answer)}</b></p><p>{escape(self.reference_sentence)}</p>{table}"

    @cached_property
    def overview(self) -> dict[str, Any]:
        """The cards as a table: a row per fit, a column per thing judged, the level and the sentence in a cell."""
        there = {line.about for lines in self.cards for line in lines}
        about = [word for word in ORDER if word in there]
        rows = []
        for name, lines in zip(self.names, self.cards, strict=True):
            by = {word: [line for line in lines if line.about == word] for word in about}
            cells = [max(found, key=lambda line: LEVELS.index(line.level), default=None) for found in by.values()]
            rows.append({"name": name, "level": lines.level, "cells": cells})
        return {"columns": about, "rows": rows}

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Every card in a row: pass, warn or fail, overall and of each thing judged; empty where it does not arise."""
        rows = self.overview["rows"]
        levels = [[row["level"], *(line.level if line else "" for line in row["cells"])] for row in rows]
        names = pd.Index([row["name"] for row in rows], name="fit")
        return pd.DataFrame(levels, index=names, columns=["overall", *self.overview["columns"]])

    @cached_property
    def reasons(self) -> pd.DataFrame:
        """Every line of every card with its sentence: fit, level, about, sentence."""
        cards = zip(self.names, self.cards, strict=True)
        rows = [(name, line.level, line.about, line.sentence) for name, lines in cards for line in lines]
        return html.Sentences(rows, columns=list(CARD))

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The model's own tables over several fits, name -> table; most models have none."""
        return view_of(self.fits[0].model).compared_tables(self.fits, self.names)

    @cached_property
    def pictures(self) -> dict[str, Picture]:
        """The pictures of the report, name -> picture; a notebook shows one that ends a cell."""
        own = view_of(self.fits[0].model).compared_pictures(self.fits, self.names)
        return {picture.name: picture for picture in (*comparison_pictures(self, self.planes, self.accuracy), *own)}

    @cached_property
    def accuracy(self) -> Accuracy | None:
        """How errors fall with work; None without a reference that has converged."""
        return accuracy_of(self)

    def movie(self, path: str | Path | None = None) -> Movie:
        """Return a movie of all fits side by side, over steps or seconds, which a notebook plays.

        Args:
            path: Where to write the page, ending in .html; None: nowhere.

        Raises:
            NotApplicable: No fit has moments.
        """
        named = next((each for each in self.references if each is not None), None)
        base = None if named is None else self.fit(named)
        movie = Movie(self.fits, self.names, None if base is None or base.kind == "point" else base)
        if path is not None:
            movie.save(path)
        return movie

    @cached_property
    def planes(self) -> Planes | None:
        """The fits in the plane of any two quantities, first of the pair on which they differ most."""
        return planes(self)

    @cached_property
    def reference_sentence(self) -> str:
        """What the fits are held to."""
        named = dict.fromkeys(name for name in self.references if name is not None)
        if not named:
            none = "Nothing says which fit is right: no exact answer, no sampler, no stored reference."
            return f"{none} Fits are compared pair by pair. Add inference=gibbs or nuts, or reference=DIRECTORY."
        sentences = []
        for name in named:
            row = self.table.iloc[self.names.index(name)]
            if not row.get("reference_judges", 1):
                sentences.append(f"The reference, {name}, has not converged. Ignore the errors below")
            else:
                sentences.append(f"Fits are held to {name} ({row.get('reference_is') or 'the only fit'})")
        lacking = [n for n, r in zip(self.names, self.references, strict=True) if r is None]
        if lacking:
            sentences.append(f"Without a reference: {', '.join(lacking)}")
        return ". ".join(sentences) + "."

    def save(self, directory: str | Path) -> Path:
        """Write comparison.csv and report.html."""
        write_comparison(Path(directory), [self])
        return Path(directory)


def write_comparison(
    directory: Path, comparisons: Sequence[ComparisonResult], missing: Sequence[Mapping[str, str]] = (),
    links: Mapping[int, str] | None = None,
) -> Written:  # fmt: skip
    """Write comparison.csv, cards.csv, parameters.csv, invariants.csv, accuracy.csv, figures and report.html.

    Args:
        directory: Where to.
        comparisons: One per model and data set.
        missing: What is said of runs without a fit.
        links: id of a fit -> address of its own report.
    """
    absent, named = pd.DataFrame(missing, columns=list(ABSENT)), zip(comparisons, _suffixes(comparisons), strict=True)
    parts = [_write_part(directory, each, suffix, links or {}) for each, suffix in named]
    frames = [each.table for each in comparisons] + ([absent] if len(absent) or not comparisons else [])
    # Whole numbers stay whole beside rows that lack them.
    write_table(directory / "comparison.csv", pd.concat(frames, ignore_index=True).convert_dtypes())
    write_table(
        directory / "cards.csv", pd.concat([pd.DataFrame(columns=list(CARD)), *(each.reasons for each in comparisons)])
    )
    models = ", ".join(dict.fromkeys(each.fits[0].model_name for each in comparisons)) or "no fit"
    lead = _counted(sum(len(each.names) for each in comparisons), "fit")
    if len(absent):
        lead += f", {_counted(len(absent), 'run')} without one"
    limits = comparisons[0].limits if comparisons else USUAL
    write_report(directory, "comparison.html.j2", {
        "title": f"Comparison: {models}",
        "lead": f"{lead}. Every figure of every fit is in comparison.csv, every sentence in cards.csv.",
        "absent": html.table(absent),
        "parts": parts,
        "thresholds": html.table(pd.DataFrame(_thresholds(limits), columns=["threshold", "value"])),
    })  # fmt: skip
    return Written(absent, tuple(each.answer for each in comparisons))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _thresholds(limits: Thresholds) -> list[tuple[str, str]]:
    values = dataclasses.asdict(limits)
    if limits.khat is None:
        values["khat"] = "min(1 - 1/log10 S, 0.7)"
    return [(name, html.number(value)) for name, value in values.items()]


def _suffixes(comparisons: Sequence[ComparisonResult]) -> Iterator[str]:
    """Yield what file names end with: the model where there are several, and a number where it is there twice."""
    models = [each.fits[0].model_name for each in comparisons]
    for i, model in enumerate(models):
        number = f"_{models[: i + 1].count(model)}" if models.count(model) > 1 else ""
        yield f"_{model}{number}" if len(comparisons) > 1 else ""


def _write_part(directory: Path, each: ComparisonResult, suffix: str, links: Mapping[int, str]) -> dict[str, Any]:
    """Write the tables and pictures of one comparison; return what the page says of it."""
    name = each.fits[0].model_name
    write_table(directory / f"parameters{suffix}.csv", each.parameters)
    write_table(directory / f"invariants{suffix}.csv", each.invariants)
    if len(each.pairwise):
        write_table(directory / f"pairwise{suffix}.csv", each.pairwise)
    if each.accuracy is not None:
        write_table(directory / f"accuracy{suffix}.csv", each.accuracy.curves)
        write_table(directory / f"accuracy_reached{suffix}.csv", each.accuracy.table)
    for title, frame in each.tables.items():
        write_table(directory / "tables" / f"{title}{suffix}.csv", frame)
    pictures = write_pictures(directory, list(each.pictures.values()), suffix)
    short = each.table[["fit", *(c for c in SHORT if c in each.table and each.table[c].notna().any())]]
    data = each.fits[0].data
    return {
        "title": f"{name} on {data.name} ({data.size})",
        "answer": each.answer,
        "reference": each.reference_sentence,
        "overview": each.overview,
        "table": html.table(short),
        "tables": {title: html.table(frame) for title, frame in each.tables.items()},
        "cards": [
            {"name": n, "level": lines.level, "card": lines, "link": links.get(id(fit), "")}
            for n, fit, lines in zip(each.names, each.fits, each.cards, strict=True)
        ],
        "pictures": pictures,
        "movie": each.movie().embedded() if any(len(fit.moments) > 1 for fit in each.fits) else "",
        "plane": plane_page(each.planes, each),
        "accuracy": accuracy_page(each.accuracy),
        "pairwise": html.table(each.pairwise),
        "invariants": html.table(_shown(each.invariants), MOST_ROWS),
        "parameters": html.table(_shown(each.parameters), MOST_ROWS),
    }


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that a page has room for."""
    left_out = ("reference_mean", "reference_sd", "reference_mcse", "sd_ratio_se", "raw_mean", "raw_sd")
    return frame.drop(columns=[c for c in left_out if c in frame])


def compare_directories(
    directories: Sequence[Path], target: Path, *, reference: Path | None = None, limits: Thresholds = USUAL
) -> Written:
    """Compare run directories and write the page; runs without a fit are named in it.

    Args:
        directories: Run directories.
        target: Where the comparison goes.
        reference: The run directory of a fit to hold the others to.
        limits: Thresholds of the verdicts.

    Raises:
        SettingError: The reference is of another model or of other data than all fits.
        DataError: It cannot be read.
    """
    stored = None if reference is None else load_run(reference, later=True)[0]
    alike: list[list[Fit]] = []
    links, absent = {}, []
    for directory in directories:
        try:
            fit, _, _ = load_run(directory, later=True)
        except DataError as error:
            absent.append(absent_row(directory, error))
            continue
        links[id(fit)] = report_of(directory, target)
        group = next((g for g in alike if g[0].model_name == fit.model_name and g[0].data.same(fit.data)), None)
        alike.append([fit]) if group is None else group.append(fit)
    held = [stored if stored is not None and serves(stored, group) else None for group in alike]
    if stored is not None and alike and not any(held):
        compare(alike[0], reference=stored, limits=limits)  # says what is wrong with it
    made = (compare(group, reference=it, limits=limits) for group, it in zip(alike, held, strict=True))
    comparisons = [ComparisonResult.of(each) for each in made]
    return write_comparison(target, comparisons, absent, links)
