"""The page of a calibration: how the truth ranks among a method's draws; and the page over several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyrozoo.core.errors import DataError
from pyrozoo.core.paths import replacing
from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.verdict import LEVELS, Line
from pyrozoo.report import html
from pyrozoo.run import catalog
from pyrozoo.store.inference_data import versions
from pyrozoo.store.run_directory import absent_row, read_config, write_table, write_text
from pyrozoo.studies.calibrate.judge import (
    FAIL,
    FEWEST,
    FITS,
    INVARIANT,
    PARAMETER,
    WARN,
    WORDS,
    bins_for,
    ecdf_band,
    ecdf_difference,
    histogram_band,
    sentences,
    summarise,
)

TASK = "calibrate"
"""What the configuration of a calibration says under ``task``."""

RANKS, SUMMARY = "ranks.csv", "calibration.csv"

MOST_PANELS = 24
MOST_NAMED = 8
"""Lines of a picture that are named; the rest are grey."""

POINTS = np.linspace(0.02, 0.98, 49)
"""Where ECDFs are compared: within the resolution of 50 ranks."""

LOG_LIKELIHOOD = "log_likelihood"
GROUPS = {INVARIANT: "invariants", PARAMETER: "raw parameters"}
GOOD, BAD, GREY = "C0", "C3", "0.6"


def write_ranks(directory: Path, fits: pd.DataFrame, ranks: pd.DataFrame) -> None:
    """Write ranks.csv: what is kept of every fit, then its ranks."""
    write_table(directory / RANKS, pd.concat([fits.reset_index(drop=True), ranks.reset_index(drop=True)], axis=1))


def read_ranks(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return fits and ranks of a calibration's directory, to the last bit.

    Raises:
        DataError: The file cannot be read.
    """
    path = directory / RANKS
    texts = {name: str for name in ("kind", "status", "error")}
    try:
        frame = pd.read_csv(path, dtype=texts, float_precision="round_trip")
        fits = frame[list(FITS)].fillna(dict.fromkeys(texts, ""))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({(str(error).splitlines() or ['?'])[0]})") from None
    ranks = frame.drop(columns=list(FITS)).astype(float)
    return fits, ranks.set_index(pd.Index(fits["simulation"], name="simulation"))


def write_calibration(
    directory: Path, model: str, method: str, settings: Mapping[str, Any], summary: pd.DataFrame, fits: pd.DataFrame,
    ranks: pd.DataFrame, status: str,
) -> None:  # fmt: skip
    """Write ranks.csv, calibration.csv, figures/ranks.png, figures/ecdf.png and report.html.

    Args:
        directory: Where to.
        model: The model's name.
        method: The method's name.
        settings: All settings.
        summary: As ``diagnostics.calibrate.summarise`` returns it.
        fits: Rows of ``diagnostics.calibrate.FITS``.
        ranks: Scaled ranks, simulation x quantity.
        status: completed or interrupted.
    """
    write_ranks(directory, fits, ranks)
    write_table(directory / SUMMARY, summary)
    pictures = [_histograms(summary, ranks), _ecdfs(summary, ranks)] if len(ranks.columns) else []
    text = html.page(
        "calibration.html.j2",
        {
            "title": f"Calibration: {model} by {method}",
            "lead": _lead(settings, fits, status),
            "lines": sentences(summary, fits),
            "pictures": _drawn(directory, pictures),
            "table": html.table(summary.drop(columns=_same(summary)), 200),
            "words": _words(summary["verdict"]),
            "limits": {"warn": WARN, "fail": FAIL, "fewest": FEWEST},
            "mode": _mode(method, fits),
            "settings": yaml.safe_dump(dict(settings), sort_keys=False),
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        },
    )
    write_text(directory / "report.html", text)


def _lead(settings: Mapping[str, Any], fits: pd.DataFrame, status: str) -> str:
    shape = ", ".join(
        f"{value} {key}" if key in ("rows", "columns") else f"{key} {value}"
        for key, value in settings["data"].items()
        if key in ("rows", "columns", "categories") or (key == "missing" and value)
    )
    kept = fits["draws"].max() if len(fits) else 0
    return (
        f"{len(fits)} data sets ({shape}) drawn from the model's own program, fitted one by one, and the truth ranked "
        f"among {kept} draws of each fit; {fits['seconds'].sum():.0f} s; seed {settings['seed']}; {status}"
    )


def _mode(method: str, fits: pd.DataFrame) -> str:
    kinds = set(fits.loc[fits["error"] == "", "kind"])
    what = {
        "samples": "A sampler's draws: as many effective ones were made as are ranked, or as its settings allow, and "
        "those that are ranked are evenly chosen from them.",
        "exact": "Independent draws from what the method says is the posterior.",
    }
    if kinds & set(what):
        return what[kinds.pop()]
    if catalog.settings("inference", method).get("engine") == "optimise" and "draws" not in catalog.settings(
        "inference", method
    ):
        return (
            f"{method} finds a mode of the log joint; the draws are those of Laplace's Gaussian around it, in "
            "unconstrained space."
        )
    return "Independent draws from the approximation q."


def _same(summary: pd.DataFrame) -> list[str]:
    """Return the column of the number of data sets when all quantities have as many, which the page says above."""
    return ["data_sets"] if summary["data_sets"].nunique() == 1 else []


def _words(found: pd.Series) -> dict[str, str]:
    return {word: meaning for word, meaning in WORDS.items() if word in set(found)}


def _drawn(directory: Path, pictures: Sequence[Picture]) -> list[dict[str, str]]:
    drawn = [(picture, html.png(picture)) for picture in pictures]
    for picture, image in drawn:
        with replacing(directory / "figures" / f"{picture.name}.png") as temporary:
            temporary.write_bytes(image)
    return html.figures(drawn)


def _shown(summary: pd.DataFrame, most: int) -> list[str]:
    """Return at most so many quantities in their order: the log-likelihood, the worst ones, others evenly chosen."""
    names = summary["quantity"].tolist()
    if len(names) <= most:
        return names
    worst = summary.sort_values("p", kind="stable", na_position="last")
    wrong = worst.loc[worst["p"] < WARN, "quantity"].tolist()
    chosen = dict.fromkeys([*(n for n in names if n == LOG_LIKELIHOOD), *wrong[: most - 1]])
    rest = [name for name in names if name not in chosen]
    left = most - len(chosen)
    chosen |= dict.fromkeys(rest[i] for i in np.linspace(0, len(rest) - 1, left).round().astype(int)) if left else {}
    return [name for name in names if name in chosen]


def _histograms(summary: pd.DataFrame, ranks: pd.DataFrame) -> Picture:
    """Draw a histogram of ranks per quantity, with what a uniform's bars do in 99 of 100 cases."""
    names = _shown(summary, MOST_PANELS)
    words, groups = (summary.set_index("quantity")[key] for key in ("verdict", "group"))
    across = min(4, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(2.6 * max(across, 2), 1.75 * down + 0.5), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        values = ranks[name].dropna().to_numpy()
        bins = bins_for(len(values))
        low, high = histogram_band(len(values), bins)
        fine = words[name] in ("calibrated", "too few")
        axes.axhspan(low, high, color="0.88", zorder=0)
        axes.axhline(len(values) / bins, color="0.6", lw=0.8, zorder=1)
        axes.hist(values, bins, (0, 1), color=GOOD if fine else BAD, alpha=0.8, zorder=2, rwidth=0.92)
        said = name + ("" if groups[name] == INVARIANT else " (raw)") + ("" if fine else f"\n{words[name]}")
        axes.set_title(said, fontsize=9, color="black" if fine else BAD)
        axes.set(xlim=(0, 1), xticks=[0, 0.5, 1])
        axes.tick_params(labelsize=7)
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.15 * high))
    for axes in panels[len(names) :]:
        axes.axis("off")
    for i in range(max(0, len(names) - across), len(names)):  # the lowest of every column
        panels[i].tick_params(labelbottom=True)
    figure.supxlabel("rank of the truth among the draws, as a share", fontsize=9)
    figure.supylabel("data sets", fontsize=9)
    left = len(summary) - len(names)
    return Picture(
        "ranks",
        "Flat is right. A valley (high at both ends) says that draws are too narrow, a hill that they are too wide; a "
        "slope that they lie to one side of the truth: rising, below it; falling, above it. Of a uniform's bars, 99 of "
        "100 end in the grey band; red quantities are not calibrated."
        + (f" {left} quantities are not shown, and none of the worst." if left else ""),
        figure,
    )


def _ecdfs(summary: pd.DataFrame, ranks: pd.DataFrame) -> Picture:
    """Draw ECDFs of ranks less the uniform's, with the band that holds the whole of a uniform's in 95 of 100 cases."""
    groups = [group for group in GROUPS if (summary["group"] == group).any()]
    figure = Figure(figsize=(4.9 * max(len(groups), 1.4), 4.2), layout="constrained")
    row = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for axes, group in zip(row, groups, strict=True):
        rows = summary[summary["group"] == group]
        _band(axes, int(rows["data_sets"].max()))
        wrong = rows[rows["p"] < WARN].sort_values("p", kind="stable")["quantity"].tolist()
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
            axes.plot(POINTS, ecdf_difference(values, POINTS), color=color, lw=width, **style)
        others = len(rows) - len(named)
        if others:
            axes.plot([], [], color=GREY, lw=0.8, label=f"{others} other{'s' if others > 1 else ''}")
        axes.set(title=GROUPS[group], xlabel="rank of the truth, as a share", xlim=(0, 1))
        axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    row[0].set_ylabel("ECDF less the uniform's")
    return Picture(
        "ecdf",
        "The share of data sets whose truth ranks up to x, less x. A uniform stays in the grey band over its whole "
        "length in 95 of 100 cases. An S that rises first says that draws are too narrow, one that falls first that "
        "they are too wide; an arch above 0 that draws lie above the truth, below 0 that they lie below it.",
        figure,
    )


def _band(axes: Axes, count: int) -> None:
    if count > 1:
        low, high = ecdf_band(count, POINTS)
        axes.fill_between([0, *POINTS, 1], [0, *low, 0], [0, *high, 0], color="0.88", zorder=0, lw=0)
    axes.axhline(0, color="0.6", lw=0.8, zorder=1)


def is_calibration(directory: Path) -> bool:
    """Return whether a directory is a calibration's, finished or not."""
    try:
        return read_config(directory).get("task") == TASK
    except DataError:
        return False


@dataclass(frozen=True)
class _Found:
    """A calibration read back."""

    name: str
    model: str
    method: str
    fits: pd.DataFrame
    ranks: pd.DataFrame
    summary: pd.DataFrame
    lines: list[Line]
    link: str


def compare_calibrations(directories: Sequence[Path], target: Path) -> pd.DataFrame:
    """Write a page over several calibrations: calibration.csv, figures/log_likelihood.png and report.html.

    Args:
        directories: Their directories.
        target: Where the page goes.

    Returns:
        Those without ranks: run, model, method, status, error.
    """
    found: list[_Found] = []
    absent = []
    for directory in directories:
        try:
            found.append(_read(directory, target))
        except DataError as error:
            absent.append(absent_row(directory, error))
    missing = pd.DataFrame(absent, columns=["run", "model", "method", "status", "error"])
    tables = [each.summary.assign(run=each.name, model=each.model, method=each.method) for each in found]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["run", "model", "method"])
    first = ["run", "model", "method"]
    write_table(target / SUMMARY, whole[[*first, *(c for c in whole.columns if c not in first)]])
    rows = [_overview(each) for each in found]
    text = html.page(
        "calibration.html.j2",
        {
            "title": f"Calibration: {', '.join(dict.fromkeys(each.model for each in found)) or 'nothing'}",
            "lead": f"{len(found)} calibrations; runs without one: {len(missing)}. Methods of one model with the same "
            "settings saw the same data sets.",
            "lines": [],
            "overview": html.table(pd.DataFrame(rows)),
            "cards": [{"name": each.name, "lines": each.lines, "link": each.link} for each in found],
            "absent": html.table(missing),
            "pictures": _drawn(target, [_overlay(found)] if found else []),
            "table": None,
            "words": _words(whole["verdict"]) if len(whole) else {},
            "limits": {"warn": WARN, "fail": FAIL, "fewest": FEWEST},
            "mode": "",
            "settings": "",
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        },
    )
    write_text(target / "report.html", text)
    return missing


def _read(directory: Path, target: Path) -> _Found:
    """Read a calibration back.

    Raises:
        DataError: It has no ranks, or they cannot be read.
    """
    if not (directory / RANKS).is_file():
        raise DataError(f"{directory} holds no calibration (no {RANKS})")
    fits, ranks = read_ranks(directory)
    config = read_config(directory)
    try:
        model, method = config["model"]["name"], config["inference"]["name"]
    except (KeyError, TypeError):
        raise DataError(f"{directory} has no readable configuration") from None
    summary = summarise(ranks, _invariants(directory, ranks))
    inside = directory.is_relative_to(target) and (directory / "report.html").is_file()
    link = (directory.relative_to(target) / "report.html").as_posix() if inside else ""
    return _Found(directory.name, model, method, fits, ranks, summary, sentences(summary, fits), link)


def _invariants(directory: Path, ranks: pd.DataFrame) -> set[str]:
    """Return the names of invariants: as the summary says, which one cut short has not written."""
    if not (directory / SUMMARY).is_file():
        return {str(name).split("[")[0] for name in ranks.columns}
    rows = pd.read_csv(directory / SUMMARY)
    return {str(name).split("[")[0] for name in rows.loc[rows["group"] == INVARIANT, "quantity"]}


def _overview(found: _Found) -> dict[str, Any]:
    log = found.summary.set_index("quantity").loc[LOG_LIKELIHOOD] if LOG_LIKELIHOOD in found.ranks else None
    invariants = found.summary[found.summary["group"] == INVARIANT]
    judged = [line.level for line in found.lines]
    return {
        "run": found.name,
        "verdict": max(judged, key=LEVELS.index),
        "log_likelihood": "" if log is None else log["verdict"],
        "invariants_calibrated": f"{(invariants['verdict'] == 'calibrated').sum()} of {len(invariants)}",
        "smallest_p": invariants["p"].min(),
        "median_spread": invariants["spread"].median(),
        "data_sets": len(found.fits),
        "seconds": found.fits["seconds"].sum(),
    }


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
        axes.plot(POINTS, ecdf_difference(values, POINTS), style, color=f"C{i % 10}", lw=1.6, label=name)
    axes.set(
        title="log-likelihood", xlabel="rank of the truth, as a share", ylabel="ECDF less the uniform's", xlim=(0, 1)
    )
    if there:
        figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return Picture(
        "log_likelihood",
        "Ranks of the truth's log-likelihood among those of the draws. In the grey band all is well; an arch below 0 "
        "says that draws explain the data worse than the truth does, above 0 that they explain them better.",
        figure,
    )
