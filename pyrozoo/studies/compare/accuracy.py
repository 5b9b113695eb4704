"""Accuracy against work as a picture and as the tables of a page."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.accuracy import OF, WORK, Accuracy
from pyrozoo.diagnostics.compare import Comparison
from pyrozoo.drawing.panels import panels
from pyrozoo.report import html
from pyrozoo.studies.compare.colors import MOST_NAMED, color_of

NAMED = {"mean": "error of means", "sd": "error of spreads"}
WORK_NAMED = {"seconds": "seconds", "steps": "iterations", "passes": "passes over the data, or gradients"}

LEAST_SECONDS = 1e-4

SMALLEST = 1e-4
"""Errors below it are drawn at it."""


def accuracy_picture(accuracy: Accuracy | None, comparison: Comparison) -> Picture | None:
    """Draw errors of means and of spreads against seconds, iterations and passes."""
    if accuracy is None or len(comparison.names) > MOST_NAMED:
        return None
    units = [unit for unit in WORK if accuracy.curves[unit].notna().any()]
    figure, every = panels(3.1 * len(units) + 1.9, 6.0, 2, len(units), squeeze=False, sharey="row")
    for of, row in zip(OF, every, strict=True):
        for unit, axes in zip(units, row, strict=True):
            for name, curve in accuracy.curves.groupby("fit", sort=False):
                _draw(axes, curve, unit, of, str(name), color_of(comparison, str(name)))
            axes.set(xscale="log", yscale="log")
            _floor(axes, accuracy, of)
            if of == OF[-1]:
                axes.set_xlabel(WORK_NAMED[unit], fontsize=9)
        row[0].set_ylabel(f"{NAMED[of]}, in sds", fontsize=9)
    shown = {label: line for axes in every.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", frameon=False, fontsize=9)
    return Picture("accuracy", _said(accuracy, comparison), figure)


def _draw(axes: Axes, curve: pd.DataFrame, unit: str, of: str, name: str, color: str) -> None:
    known = curve[curve[unit].notna() & curve[f"error_{of}"].notna()]
    if not len(known):
        return
    work = known[unit].clip(lower=LEAST_SECONDS if unit == "seconds" else 1)
    error, low, high = (known[f"error_{of}{end}"].clip(lower=SMALLEST) for end in ("", "_low", "_high"))
    if len(known) == 1:
        axes.errorbar(work, error, [np.maximum(error - low, 0), np.maximum(high - error, 0)], fmt="o", ms=5,
                      color=color, lw=1, label=name)  # fmt: skip
        return
    axes.fill_between(work, low, high, color=color, alpha=0.13, lw=0)
    axes.plot(work, error, color=color, lw=1.4, label=name)


def _floor(axes: Axes, accuracy: Accuracy, of: str) -> None:
    """Draw the line below which nothing can be said."""
    floor = max(accuracy.floors[of], SMALLEST)
    axes.axhline(floor, color="0.5", lw=1, zorder=0)
    low = min(axes.get_ylim()[0], floor / 2)
    axes.axhspan(low, floor, color="0.94", zorder=-1, lw=0)
    axes.set_ylim(bottom=low)


def _said(accuracy: Accuracy, comparison: Comparison) -> str:
    point = any(fit.kind == "point" for fit in comparison.fits)
    return (
        f"Root mean square error over {accuracy.quantities} invariants, held to {accuracy.base}, in its sds: above of "
        "means, below of the logarithm of sds. Down and left is better. A sampler halves it in four times the work; "
        "warm-up counts as work. A search falls fast and stays at its bias. Bands hold nine of ten repetitions with "
        f"other seeds. The grey line is {accuracy.base}'s own Monte Carlo error: below it nothing can be said."
        f"{' A point has no spread.' if point else ''}"
    )


def accuracy_page(accuracy: Accuracy | None) -> dict[str, object] | None:
    """Return what a page says: seconds until errors are reached, and which cannot be told from none."""
    if accuracy is None:
        return None
    keep = ["fit", *(f"error_{of}" for of in OF)]
    keep += [f"seconds_to_{of}_{target:g}" for of in OF for target in accuracy.targets(of)]
    floors = " and ".join(f"{accuracy.floors[of]:.2g} of {'means' if of == 'mean' else 'spreads'}" for of in OF)
    return {
        "table": html.table(accuracy.table[keep]),
        "note": f"Empty: the error does not stay below. {accuracy.base}'s own Monte Carlo error is {floors}; errors "
        "below it cannot be told from none and have no column. accuracy.csv has the curves and accuracy_reached.csv "
        "all kinds of work.",
    }
