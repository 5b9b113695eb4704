"""The page of a calibration: how the truth ranks among a method's draws; and the page over several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import DataError, first_line
from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.card import Line, worst
from pyrozoo.drawing.panels import grid
from pyrozoo.report import html
from pyrozoo.run import catalog
from pyrozoo.store import run_directory
from pyrozoo.studies.calibrate import judge
from pyrozoo.studies.calibrate.judge import sentences, summarise
from pyrozoo.studies.study import Written

TASK = "calibrate"
"""What the configuration of a calibration says under ``task``."""

RANKS, SUMMARY = "ranks.csv", "calibration.csv"

MOST_PANELS = 24
MOST_NAMED = 8
"""Lines of a picture that are named; the rest are grey."""

POINTS = np.linspace(0.02, 0.98, 49)
"""Where ECDFs are compared: within the resolution of 50 ranks."""

LOG_LIKELIHOOD = "log_likelihood"
GROUPS = {judge.INVARIANT: "invariants", judge.PARAMETER: "raw parameters"}
GOOD, BAD, GREY = "C0", "C3", "0.6"


def write_ranks(directory: Path, fits: pd.DataFrame, ranks: pd.DataFrame) -> None:
    """Write ranks.csv: what is kept of every fit, then its ranks."""
    both = pd.concat([fits.reset_index(drop=True), ranks.reset_index(drop=True)], axis=1)
    run_directory.write_table(directory / RANKS, both, digits=None)


def read_ranks(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return fits and ranks of a calibration's directory, to the last bit.

    Raises:
        DataError: The file cannot be read.
    """
    path = directory / RANKS
    texts = {name: str for name in ("kind", "status", "error")}
    try:
        frame = pd.read_csv(path, dtype=texts, float_precision="round_trip")
        fits = frame[list(judge.FITS)].fillna(dict.fromkeys(texts, ""))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)})") from None
    ranks = frame.drop(columns=list(judge.FITS)).astype(float)
    return fits, ranks.set_index(pd.Index(fits["simulation"], name="simulation"))


@dataclass(frozen=True)
class Calibration:
    """How the truth ranks among a method's draws; printing it shows the verdict and a table.

    Attributes:
        model: The model's name.
        method: The method's name.
        settings: All settings, as conf/config.yaml composes them.
        ranks: Scaled ranks of the truth among the draws, simulation x quantity; NaN where a data set has no such
            quantity or could not be fitted.
        fits: A row per simulation: ``studies.calibrate.judge.FITS``.
        status: completed or interrupted.
        invariants: Names of the tensors that are invariants; other quantities are raw parameters.
    """

    model: str
    method: str
    settings: Mapping[str, Any]
    ranks: pd.DataFrame
    fits: pd.DataFrame
    status: str
    invariants: frozenset[str] = frozenset()

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per quantity: see ``studies.calibrate.judge.summarise``."""
        return summarise(self.ranks, self.invariants)

    @property
    def sentences(self) -> list[Line]:
        """The verdict, line by line."""
        return sentences(self.summary, self.fits)

    @property
    def answer(self) -> str:
        """Whether the method is calibrated, in a sentence."""
        lines, name = self.sentences, f"{self.method} of {self.model}"
        level, bad = worst(lines), next((line for line in lines if line.level == worst(lines)), None)
        if level == "pass" or bad is None:
            return f"{name} is calibrated, as far as {len(self.ranks)} data sets can tell."
        return f"{name} is {'not calibrated' if level == 'fail' else 'not known to be calibrated'}: see {bad.about}."

    def __repr__(self) -> str:
        shown = self.summary[["quantity", "group", "verdict", "p", "mean_rank", "spread"]]
        lines = [f"  {line.level:<4}  {line.about}: {line.sentence}" for line in self.sentences]
        title = f"Calibration of {self.model} by {self.method}: {len(self.ranks)} data sets, {self.status}"
        return "\n".join([self.answer, title, *lines, shown.to_string(index=False, float_format="{:.3g}".format)])

    def save(self, directory: str | Path, config: str | None = None) -> Path:
        """Write ranks.csv, calibration.csv, figures and report.html.

        Args:
            directory: Where to; made when missing.
            config: The configuration to store, YAML; its own settings when left out.

        Returns:
            The directory.
        """
        directory = Path(directory)
        text = yaml.safe_dump(dict(self.settings), sort_keys=False)
        run_directory.write_text(directory / run_directory.CONFIG, config or text)
        write_ranks(directory, self.fits, self.ranks)
        alike = self.summary["data_sets"].nunique() == 1  # then the page says above how many there are
        shown = self.summary.drop(columns=["data_sets"]) if alike else self.summary
        _write(
            directory, f"Calibration: {self.model} by {self.method}", self.answer,
            _lead(self.settings, self.fits, self.status), self.summary,
            [_histograms(self), _ecdfs(self)] if len(self.ranks.columns) else [], lines=self.sentences,
            table=html.table(shown, 200), mode=_mode(self.method, self.fits), settings=text,
        )  # fmt: skip
        return directory


def _write(
    directory: Path,
    title: str,
    answer: str,
    lead: str,
    summary: pd.DataFrame,
    pictures: Sequence[Picture],
    **values: Any,
) -> None:
    """Write calibration.csv, pictures and report.html."""
    run_directory.write_table(directory / SUMMARY, summary)
    found = set(summary["verdict"]) if len(summary) else set()
    run_directory.write_report(directory, "calibration.html.j2", {
        "title": title, "answer": answer, "lead": lead, "pictures": run_directory.write_pictures(directory, pictures),
        "words": {word: meaning for word, meaning in judge.WORDS.items() if word in found},
        "limits": {"warn": judge.WARN, "fail": judge.FAIL, "fewest": judge.FEWEST}, **values,
    })  # fmt: skip


def _lead(settings: Mapping[str, Any], fits: pd.DataFrame, status: str) -> str:
    words = ("rows", "columns", "categories")
    told = {k: v for k, v in settings["data"].items() if k in words or (k == "missing" and v)}
    shape = ", ".join(f"{v} {k}" if k in ("rows", "columns") else f"{k} {v}" for k, v in told.items())
    kept = fits["draws"].max() if len(fits) else 0
    return (
        f"{len(fits)} data sets ({shape}) drawn from the model. The truth is ranked among {kept} draws of each fit; "
        f"{fits['seconds'].sum():.0f} s; seed {settings['seed']}; {status}"
    )


DRAWS = {
    "samples": "A sampler's draws, evenly chosen: as many as are effective, or as its settings allow.",
    "exact": "Independent draws from what the method says is the posterior.",
}
"""What is ranked, by the kind of the fits."""


def _mode(method: str, fits: pd.DataFrame) -> str:
    kinds, inference = set(fits.loc[fits["error"] == "", "kind"]), catalog.settings("inference", method)
    if kinds & set(DRAWS):
        return DRAWS[kinds.pop()]
    if inference.get("engine") == "optimise" and "draws" not in inference:
        around = "the draws are those of Laplace's Gaussian around it, in unconstrained space."
        return f"{method} finds a mode of the log joint; {around}"
    return "Independent draws from the approximation q."


def _shown(summary: pd.DataFrame, most: int) -> list[str]:
    """Return at most so many quantities in their order: the log-likelihood, the worst ones, others evenly chosen."""
    names = summary["quantity"].tolist()
    if len(names) <= most:
        return names
    worst = summary.sort_values("p", kind="stable", na_position="last")
    wrong = worst.loc[worst["p"] < judge.WARN, "quantity"].tolist()
    chosen = dict.fromkeys([*(n for n in names if n == LOG_LIKELIHOOD), *wrong[: most - 1]])
    rest = [name for name in names if name not in chosen]
    left = most - len(chosen)
    chosen |= dict.fromkeys(rest[i] for i in evenly(len(rest), left))
    return [name for name in names if name in chosen]


def _histograms(calibration: Calibration) -> Picture:
    """Draw a histogram of ranks per quantity, with what a uniform's bars do in 99 of 100 cases."""
    summary, ranks = calibration.summary, calibration.ranks
    names = _shown(summary, MOST_PANELS)
    words, groups = (summary.set_index("quantity")[key] for key in ("verdict", "group"))
    figure, every = grid(len(names), 4, (2.6, 1.75), (0.0, 0.5), least=2, sharex=True)
    for axes, name in zip(every, names, strict=True):
        values = ranks[name].dropna().to_numpy()
        bins = judge.bins_for(len(values))
        low, high = judge.histogram_band(len(values), bins)
        fine = words[name] in ("calibrated", "too few")
        axes.axhspan(low, high, color="0.88", zorder=0)
        axes.axhline(len(values) / bins, color="0.6", lw=0.8, zorder=1)
        axes.hist(values, bins=bins, range=(0, 1), color=GOOD if fine else BAD, alpha=0.8, zorder=2, rwidth=0.92)
        said = name + ("" if groups[name] == judge.INVARIANT else " (raw)") + ("" if fine else f"\n{words[name]}")
        axes.set_title(said, fontsize=9, color="black" if fine else BAD)
        axes.tick_params(labelsize=7)
        axes.set(xlim=(0, 1), xticks=[0, 0.5, 1], ylim=(0, max(axes.get_ylim()[1], 1.15 * high)))
    for axes in every[-4:]:  # the lowest of every column
        axes.tick_params(labelbottom=True)
    figure.supxlabel("rank of the truth among the draws, as a share", fontsize=9)
    figure.supylabel("data sets", fontsize=9)
    left = len(summary) - len(names)
    return Picture(
        "ranks",
        "Flat is right. A valley: intervals are too short. A hill: too long. Rising: draws lie below the truth. "
        "Falling: above it. Red quantities are not calibrated. Of a calibrated method's bars, 99 in 100 end in the "
        "grey band." + (f" {left} quantities are not shown, and none of the worst." if left else ""),
        figure,
    )


def _ecdfs(calibration: Calibration) -> Picture:
    """Draw ECDFs of ranks less the uniform's, with the band that holds the whole of a uniform's in 95 of 100 cases."""
    summary, ranks = calibration.summary, calibration.ranks
    groups = [group for group in GROUPS if (summary["group"] == group).any()]
    figure = Figure(figsize=(4.9 * max(len(groups), 1.4), 4.2), layout="constrained")
    row = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for axes, group in zip(row, groups, strict=True):
        rows = summary[summary["group"] == group]
        _band(axes, int(rows["data_sets"].max()))
        wrong = rows[rows["p"] < judge.WARN].sort_values("p", kind="stable")["quantity"].tolist()
        named = [name for name in rows["quantity"] if name == LOG_LIKELIHOOD]
        named += [name for name in wrong if name not in named][: MOST_NAMED - len(named)]
        for name in [*(n for n in rows["quantity"] if n not in named), *named]:
            values = ranks[name].dropna().to_numpy()
            if not len(values):
                continue
            main = name == LOG_LIKELIHOOD
            color = "black" if main else f"C{named.index(name) % 10}" if name in named else GREY
            style = {"zorder": 3, "label": name} if name in named else {"zorder": 2, "alpha": 0.7}
            width = 2 if main else 1.3 if name in named else 0.8
            axes.plot(POINTS, judge.ecdf_difference(values, POINTS), color=color, lw=width, **style)
        if others := len(rows) - len(named):
            axes.plot([], [], color=GREY, lw=0.8, label=f"{others} other{'s' if others > 1 else ''}")
        axes.set(title=GROUPS[group], xlabel="rank of the truth, as a share", xlim=(0, 1))
        axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    row[0].set_ylabel("ECDF less the uniform's")
    return Picture(
        "ecdf",
        "The share of data sets whose truth ranks up to x, less x. In 95 of 100 cases a calibrated method stays in the "
        "grey band. An S that rises first: intervals are too short; that falls first: too long. An arch above 0: draws "
        "lie above the truth; below 0: below it.",
        figure,
    )


def _band(axes: Axes, count: int) -> None:
    if count > 1:
        low, high = judge.ecdf_band(count, POINTS)
        axes.fill_between([0, *POINTS, 1], [0, *low, 0], [0, *high, 0], color="0.88", zorder=0, lw=0)
    axes.axhline(0, color="0.6", lw=0.8, zorder=1)


def is_calibration(directory: Path) -> bool:
    """Return whether a directory is a calibration's, finished or not."""
    try:
        return run_directory.read_config(directory).get("task") == TASK
    except DataError:
        return False


@dataclass(frozen=True)
class _Found(Calibration):
    """A calibration read back, with its name and the address of its own page."""

    name: str = ""
    link: str = ""


def compare_calibrations(directories: Sequence[Path], target: Path) -> Written:
    """Write a page over several calibrations into a directory, and return what it says.

    It has calibration.csv, figures/log_likelihood.png and report.html.
    """
    found: list[_Found] = []
    absent = []
    for directory in directories:
        try:
            found.append(_read(directory, target))
        except DataError as error:
            absent.append(run_directory.absent_row(directory, error))
    missing = pd.DataFrame(absent, columns=list(run_directory.ABSENT))
    first = ["run", "model", "method"]
    tables = [each.summary.assign(run=each.name, model=each.model, method=each.method) for each in found]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=first)
    columns = [*first, *(c for c in whole.columns if c not in first)]
    models = ", ".join(dict.fromkeys(each.model for each in found)) or "nothing"
    answer = " ".join(each.answer for each in found)
    lead = f"{len(found)} calibrations; runs without one: {len(missing)}. Methods of one model with the same settings "
    _write(
        target, f"Calibration: {models}", answer, f"{lead}saw the same data sets.", whole[columns],
        [_overlay(found)] if found else [], lines=[], overview=html.table(pd.DataFrame(map(_overview, found))),
        cards=[{"name": each.name, "lines": each.sentences, "link": each.link} for each in found],
        absent=html.table(missing), table=None, mode="", settings="",
    )  # fmt: skip
    return Written(missing, (answer,) if found else ())


def _read(directory: Path, target: Path) -> _Found:
    """Read a calibration back.

    Raises:
        DataError: It has no ranks, or they cannot be read.
    """
    if not (directory / RANKS).is_file():
        raise DataError(f"{directory} holds no calibration (no {RANKS})")
    fits, ranks = read_ranks(directory)
    config = run_directory.read_config(directory)
    try:
        model, method = config["model"]["name"], config["inference"]["name"]
    except (KeyError, TypeError):
        raise DataError(f"{directory} has no readable configuration") from None
    names, summary = pd.Series(ranks.columns.astype(str), dtype=object), directory / SUMMARY
    if summary.is_file():  # one cut short has not written it
        rows = pd.read_csv(summary)
        names = rows.loc[rows["group"] == judge.INVARIANT, "quantity"].astype(str)
    link = run_directory.report_of(directory, target)
    invariants = frozenset(names.str.split("[").str[0])
    return _Found(model, method, config, ranks, fits, "", invariants, directory.name, link)


def _overview(found: _Found) -> dict[str, Any]:
    log = found.summary.set_index("quantity").loc[LOG_LIKELIHOOD] if LOG_LIKELIHOOD in found.ranks else None
    invariants = found.summary[found.summary["group"] == judge.INVARIANT]
    return {
        "run": found.name, "verdict": worst(found.sentences), "log_likelihood": "" if log is None else log["verdict"],
        "invariants_calibrated": f"{(invariants['verdict'] == 'calibrated').sum()} of {len(invariants)}",
        "smallest_p": invariants["p"].min(), "median_spread": invariants["spread"].median(),
        "data_sets": len(found.fits), "seconds": found.fits["seconds"].sum(),
    }  # fmt: skip


def _overlay(found: Sequence[_Found]) -> Picture:
    """Draw the ECDF of the log-likelihood's ranks of every calibration."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    there = [each for each in found if LOG_LIKELIHOOD in each.ranks and each.ranks[LOG_LIKELIHOOD].notna().any()]
    _band(axes, min((int(each.ranks[LOG_LIKELIHOOD].notna().sum()) for each in there), default=0))
    models = {each.model for each in found}
    methods = [each.method for each in there]
    for i, each in enumerate(there):
        values = each.ranks[LOG_LIKELIHOOD].dropna().to_numpy()
        plain = len(models) == 1 and methods.count(each.method) == 1
        name = each.method if plain else each.name
        style = ("-", "--", ":")[i // 10 % 3]
        axes.plot(POINTS, judge.ecdf_difference(values, POINTS), style, color=f"C{i % 10}", lw=1.6, label=name)
    axes.set(
        title="log-likelihood", xlabel="rank of the truth, as a share", ylabel="ECDF less the uniform's", xlim=(0, 1)
    )
    if there:
        figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return Picture(
        "log_likelihood",
        "Ranks of the truth's log-likelihood among the draws'. In the grey band all is well. An arch below 0: draws "
        "explain the data worse than the truth does; above 0: better.",
        figure,
    )
