"""The page of a recovery study: what each method makes of a known truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from pyrozoo.report import html
from pyrozoo.store.inference_data import versions
from pyrozoo.store.run_directory import write_table, write_text
from pyrozoo.studies.compare.pictures import MOST_NAMED
from pyrozoo.studies.recover.judge import FAR, FIGURES, fitted, plus_minus, refused, sentences, shares, summarise

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
        return pd.read_csv(
            path, dtype=texts, float_precision="round_trip", keep_default_na=False, na_values=missing
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({(str(error).splitlines() or ['?'])[0]})") from None


def write_recovery(
    directory: Path, experiment: str, study: Mapping[str, Any], estimates: pd.DataFrame, status: str
) -> None:
    """Write estimates.csv, summary.csv, figures/recovery.png, report.html and, when all is there, metrics.json.

    Args:
        directory: The study directory.
        experiment: The study's name.
        study: Its settings.
        estimates: Rows of ``diagnostics.recovery.COLUMNS``.
        status: completed or interrupted.
    """
    summary = summarise(estimates)
    write_table(directory / ESTIMATES, estimates)
    write_table(directory / "summary.csv", summary)
    pictures = [picture(estimates, summary)] if len(summary) else []
    drawn = [(each, html.png(each)) for each in pictures]
    for each, image in drawn:
        with replacing(directory / "figures" / f"{each.name}.png") as temporary:
            temporary.write_bytes(image)
    fits = fitted(estimates).drop_duplicates(["setting", "simulation", "method"])
    seconds = float(fits["seconds"].sum())
    counts = summary.groupby("setting", sort=False)["data_sets"].max()
    sets = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}" if len(counts) else "0"
    text = html.page(
        "recovery.html.j2",
        {
            "title": f"Recovery: {experiment}",
            "lead": f"{study['model']}: {summary['method'].nunique()} methods on {sets} data sets in each of "
            f"{len(counts)} settings, simulated from a known truth; {len(fits)} fits in {seconds:.0f} s; "
            f"seed {study['seed']}; {status}",
            "claim": study.get("conclusion", ""),
            "sentences": sentences(estimates),
            "share": _shown(share_table(estimates)),
            "estimates": _shown(_wide(summary, _estimate_cell, truth=True)),
            "far": f"{FAR:g}",
            "kinds": _kinds(estimates),
            "pictures": html.figures(drawn),
            "differences": _shown(_wide(summary.dropna(subset=["difference"]), _difference_cell)),
            "references": ", ".join(dict.fromkeys(each for each in summary["reference"] if each)),
            "seconds": _shown(_wide(summary.drop_duplicates(["setting", "method"]), _seconds_cell, quantity=False)),
            "refused": html.table(refused(estimates)),
            "settings": html.table(_settings(study)),
            "config": yaml.safe_dump(dict(study), sort_keys=False),
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        },
    )
    write_text(directory / "report.html", text)
    metrics = {"experiment": experiment, "fits": len(fits), "seconds": seconds, "status": status}
    write_text(directory / "metrics.json", json.dumps(metrics, indent=1) + "\n")


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
        quantities = [quantities[i] for i in np.linspace(0, len(quantities) - 1, MOST_NAMED).round().astype(int)]
    # A truth that differs between data sets has no line: errors are drawn in place of estimates.
    fixed = bool((rows.groupby(["setting", "quantity"])["truth"].nunique() == 1).all())
    truths = rows.groupby("setting")["truth"]
    alike = not fixed or bool(truths.min().max() <= truths.max().min())
    across = min(2, len(settings))
    down = -(-len(settings) // across)
    figure = Figure(figsize=(4.6 * across, down * (0.5 * len(methods) + 0.8) + 0.5), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True, sharex=alike).ravel()
    for axes in panels[len(settings) :]:
        axes.axis("off")
    for axes, setting in zip(panels, settings, strict=False):
        _panel(
            axes, rows[rows["setting"] == setting], summary[summary["setting"] == setting], methods, quantities, fixed
        )  # fmt: skip
        axes.set_title(setting, fontsize=11)
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    what = "estimate" if fixed else "estimate - truth"
    for axes in panels[max(0, len(settings) - across) : len(settings)]:
        axes.set_xlabel(what if len(quantities) > 1 else f"{quantities[0]}: {what}")
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if len(handles) > 1:
        named = [name for name in quantities if name in handles]
        figure.legend(
            [handles[name] for name in named], named, loc="outside lower center", ncols=4, fontsize=9, frameon=False
        )  # fmt: skip
    return Picture(
        "recovery",
        "Means over data sets with two standard errors, and below them every data set as a faint dot; dashed lines are "
        "the truth. What stands between zero and its line shrinks.",
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
