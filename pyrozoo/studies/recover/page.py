"""The page of a recovery study: what each method makes of a known truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes

from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import DataError, first_line
from pyrozoo.core.picture import Picture
from pyrozoo.drawing.panels import grid
from pyrozoo.report import html
from pyrozoo.store.run_directory import write_pictures, write_report, write_table, write_text
from pyrozoo.studies.compare.pictures import MOST_NAMED
from pyrozoo.studies.recover.judge import (
    FAR,
    FIGURES,
    fitted,
    plus_minus,
    recovered,
    refused,
    sentences,
    shares,
    summarise,
)
from pyrozoo.studies.study import Study

ESTIMATES = "estimates.csv"

KINDS = {
    "point": "the point",
    "variational": "the mean of draws from the approximation",
    "samples": "the mean of samples",
    "exact": "the mean of exact draws",
}
"""What the estimate of a fit is, by its kind."""


def read_estimates(directory: Path) -> pd.DataFrame:
    """Return the estimates of a study directory, to the last bit.

    Raises:
        DataError: The file cannot be read.
    """
    path = directory / ESTIMATES
    texts = {name: str for name in ("setting", "method", "kind", "status", "quantity", "error")}
    missing = {name: [""] for name in FIGURES}
    try:
        return pd.read_csv(path, dtype=texts, float_precision="round_trip", keep_default_na=False, na_values=missing)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)})") from None


def study_in(directory: str | Path | None) -> Study:
    """Return where a recovery study is kept."""
    return Study("study", None if directory is None else Path(directory), ESTIMATES, "simulations and methods")


def as_stored(experiment: str, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a study's directory."""
    return {"experiment": experiment, "recovery": dict(study)}


@dataclass(frozen=True)
class Recovery:
    """What methods recovered of the truth; printing it shows a table.

    Attributes:
        experiment: The study's name.
        study: Its settings.
        estimates: Rows of ``studies.recover.judge.COLUMNS``.
        status: completed or interrupted.
    """

    experiment: str
    study: Mapping[str, Any]
    estimates: pd.DataFrame
    status: str

    @property
    def summary(self) -> pd.DataFrame:
        """A row per setting, method and quantity: see ``studies.recover.judge.summarise``."""
        return summarise(self.estimates)

    @property
    def sentences(self) -> dict[str, list[str]]:
        """What the estimates show, in plain words."""
        return sentences(self.estimates)

    @property
    def answer(self) -> str:
        """Which methods recover the truth, in a sentence."""
        return recovered(self.estimates)

    @property
    def picture(self) -> Picture:
        """The estimates of every setting and method against the truth."""
        return picture(self.estimates, self.summary)

    def __repr__(self) -> str:
        return f"{self.answer}\nShare of the truth recovered:\n{share_table(self.estimates).to_string(index=False)}"

    def save(self, directory: str | Path) -> Path:
        """Write estimates.csv, summary.csv, figures/recovery.png, report.html and, when all is there, metrics.json."""
        directory, summary, estimates = Path(directory), self.summary, self.estimates
        study_in(directory).remember(as_stored(self.experiment, self.study))
        write_table(directory / ESTIMATES, estimates, digits=None)
        write_table(directory / "summary.csv", summary)
        fits = fitted(estimates).drop_duplicates(["setting", "simulation", "method"])
        seconds = float(fits["seconds"].sum())
        counts = summary.groupby("setting", sort=False)["data_sets"].max()
        sets = " to ".join(dict.fromkeys((str(counts.min()), str(counts.max())))) if len(counts) else "0"
        known = f"{len(counts)} settings, simulated from a known truth; {len(fits)} fits in {seconds:.0f} s"
        write_report(directory, "recovery.html.j2", {
            "title": f"Recovery: {self.experiment}",
            "lead": f"{self.study['model']}: {summary['method'].nunique()} methods on {sets} data sets in each of "
            f"{known}; seed {self.study['seed']}; {self.status}",
            "answer": self.answer,
            "claim": self.study.get("conclusion", ""),
            "sentences": self.sentences,
            "share": _shown(share_table(estimates)),
            "estimates": _shown(_wide(summary, _estimate_cell, truth=True)),
            "far": f"{FAR:g}",
            "kinds": _kinds(estimates),
            "pictures": write_pictures(directory, [self.picture] if len(summary) else []),
            "differences": _shown(_wide(summary.dropna(subset=["difference"]), _difference_cell)),
            "references": ", ".join(dict.fromkeys(each for each in summary["reference"] if each)),
            "seconds": _shown(_wide(summary.drop_duplicates(["setting", "method"]), _seconds_cell, quantity=False)),
            "refused": html.table(refused(estimates)),
            "settings": html.table(_settings(self.study)),
            "config": yaml.safe_dump(dict(self.study), sort_keys=False),
        })  # fmt: skip
        metrics = {"experiment": self.experiment, "fits": len(fits), "seconds": seconds, "status": self.status}
        write_text(directory / "metrics.json", json.dumps(metrics, indent=1) + "\n")
        return directory


def _shown(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a table whose columns are names of methods or settings, as they are written."""
    return html.table(frame) | {"columns": [str(name) for name in frame.columns]}


def share_table(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the truth recovered, a row per method and a column per setting."""
    long = shares(estimates)
    cells = [_percent(share, se) for share, se in zip(long["share"], long["se"], strict=True)]
    return _spread(long.assign(cell=cells), ["method"], "setting")


def _percent(share: float, se: float) -> str:
    if np.isnan(share):
        return ""
    return f"{100 * share:.0f}%" if np.isnan(se) else f"{100 * share:.1f} ± {100 * se:.1f}%"


def _spread(long: pd.DataFrame, index: list[str], across: str) -> pd.DataFrame:
    """Spread the column ``cell`` over columns, all in order of appearance."""
    names = long[across].drop_duplicates().tolist()
    rows = [
        dict(zip(index, key if isinstance(key, tuple) else (key,), strict=True))
        | dict(zip(part[across], part["cell"], strict=True))
        for key, part in long.groupby(index if len(index) > 1 else index[0], sort=False)
    ]
    return pd.DataFrame(rows, columns=[*index, *names]).fillna("")


def _wide(summary: pd.DataFrame, cell: Any, *, truth: bool = False, quantity: bool = True) -> pd.DataFrame:
    """Return a row per setting and quantity, a column per method."""
    index = ["setting", *(["quantity"] if quantity else []), *(["truth"] if truth else [])]
    cells = [cell(row) for row in summary.itertuples()]
    # Methods may estimate on unlike many data sets, so the truth is that of the quantity.
    shared = summary.assign(cell=cells, truth=summary.groupby(["setting", "quantity"])["truth"].transform("first"))
    return _spread(shared, index, "method")


def _estimate_cell(row: Any) -> str:
    mark = " ↓" if row.z < -FAR else " ↑" if row.z > FAR else ""
    return plus_minus(row.mean, row.se) + mark


def _difference_cell(row: Any) -> str:
    return plus_minus(row.difference, row.difference_se, signed=True)


def _seconds_cell(row: Any) -> str:
    return html.number(row.seconds) + (f" ({row.unfinished} of {row.data_sets} unfinished)" if row.unfinished else "")


def _kinds(estimates: pd.DataFrame) -> str:
    """Say which methods give points, and which draws."""
    kinds = fitted(estimates).groupby("kind", sort=False)["method"].unique()
    return "; ".join(f"{KINDS[str(kind)]} of {', '.join(methods)}" for kind, methods in kinds.items())


def _settings(study: Mapping[str, Any]) -> pd.DataFrame:
    def told(values: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in values.items())

    parts = ("shape", "truth", "model")
    return pd.DataFrame([{"setting": s["name"], **{p: told(s.get(p) or {}) for p in parts}} for s in study["settings"]])


def picture(estimates: pd.DataFrame, summary: pd.DataFrame) -> Picture:
    """Draw a panel per setting: methods down, estimates across, the truth as lines."""
    rows = fitted(estimates)
    settings, methods, quantities = (
        summary[name].drop_duplicates().tolist() for name in ("setting", "method", "quantity")
    )
    if len(quantities) > MOST_NAMED:
        quantities = [quantities[i] for i in evenly(len(quantities), MOST_NAMED)]
    # A truth that differs between data sets has no line: errors are drawn in place of estimates.
    fixed = bool((rows.groupby(["setting", "quantity"])["truth"].nunique() == 1).all())
    truths = rows.groupby("setting")["truth"]
    alike = not fixed or bool(truths.min().max() <= truths.max().min())
    each = 4.6, 0.5 * len(methods) + 0.8
    figure, every = grid(len(settings), 2, each, (0.0, 0.5), sharey=True, sharex=alike)
    for axes, setting in zip(every, settings, strict=True):
        here, means = (frame[frame["setting"] == setting] for frame in (rows, summary))
        _panel(axes, here, means, methods, quantities, fixed)
        axes.set_title(setting, fontsize=11)
    every[0].set_yticks(range(len(methods)), methods)
    every[0].set_ylim(len(methods) - 0.5, -0.5)
    what = "estimate" if fixed else "estimate - truth"
    for axes in every[-2:]:
        axes.set_xlabel(what if len(quantities) > 1 else f"{quantities[0]}: {what}")
    handles = {label: handle for axes in every
               for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
    if len(handles) > 1:
        named = {name: handles[name] for name in quantities if name in handles}
        style = {"loc": "outside lower center", "ncols": 4, "fontsize": 9, "frameon": False}
        figure.legend([*named.values()], [*named], **style)
    return Picture(
        "recovery",
        "Means over data sets, with two standard errors. Each faint dot is a data set; dashed lines are the truth. "
        "What stands between zero and its line shrinks.",
        figure,
    )


def _panel(
    axes: Axes, rows: pd.DataFrame, summary: pd.DataFrame, methods: list[str], quantities: list[str], fixed: bool
) -> None:
    there = [name for name in quantities if name in set(rows["quantity"])]
    lines: dict[float, list[str]] = {}
    for i, name in enumerate(there):
        color = f"C{quantities.index(name)}"
        step = 0.7 / len(there)
        offset = step * (i + 0.5) - 0.35
        each, means = rows[rows["quantity"] == name], summary[summary["quantity"] == name]
        shown = each["estimate"] - (0.0 if fixed else each["truth"])
        middle = means["mean"] if fixed else means["bias"]
        y, at = each["method"].map(methods.index), means["method"].map(methods.index)
        axes.plot(shown, y + offset + 0.2 * step, ".", color=color, ms=5, alpha=0.3, mew=0, zorder=1)
        axes.errorbar(
            middle, at + offset - 0.2 * step, xerr=2 * means["se"].fillna(0.0), fmt="o", ms=4, lw=1.5, color=color,
            zorder=3, label=name,
        )  # fmt: skip
        lines.setdefault(float(each["truth"].iloc[0]) if fixed else 0.0, []).append(color)
    for truth, colors in lines.items():  # a line that several quantities share has the colour of none of them
        axes.axvline(truth, color=colors[0] if len(colors) == 1 < len(there) else "0.4", lw=1, ls="--", zorder=2)
    for edge in range(1, len(methods)):
        axes.axhline(edge - 0.5, color="0.93", lw=0.8, zorder=0)
