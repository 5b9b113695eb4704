"""Predictions of hidden entries against the truth, and whether they are calibrated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from pyrozoo.core.picture import Picture
from pyrozoo.core.prediction import Prediction
from pyrozoo.drawing.panels import array, panels

MOST_POINTS = 3000
"""Entries up to which each is a point; more are counted in hexagons."""

OUTSIDE = 0.001
"""Share of predictions at either end that may lie beyond the axes, so that one wild guess does not hide the rest."""


def calibration(axes: Axes, pit: Tensor, randomised: bool) -> None:
    """Draw the histogram of PIT values: flat is right."""
    bins = 20 if len(pit) >= 200 else 10
    axes.hist(array(pit), bins=bins, range=(0, 1), color="C0")
    axes.axhline(len(pit) / bins, color="0.4", lw=0.8)
    axes.set(xlabel="randomised PIT" if randomised else "PIT", ylabel="entries", xlim=(0, 1))
    axes.set_title("calibration: flat is right", fontsize=10)


def completion(
    name: str, said: str, prediction: Prediction, truth: Tensor, what: str, *, jitter: float = 0.0,
    units: tuple[Tensor, Tensor] | None = None,
) -> Picture:  # fmt: skip
    """Draw true values against predicted means, and the histogram of PIT values.

    Args:
        name: Of the picture.
        said: What is predicted, and from what.
        prediction: Of the hidden entries.
        truth: Their true values, [entry].
        what: What a value is, such as ``count``.
        jitter: By how much, at most, whole numbers are moved to be told apart.
        units: Middle and scale of every entry's column where one scale does not do for all, [entry] each.
    """
    true, mean = array(truth), array(prediction.mean)
    if units is not None:
        middle, scale = (array(each) for each in units)
        true, mean = (true - middle) / scale, (mean - middle) / scale
    figure, (left, right) = panels(9, 3.6, 1, 2)
    many = len(true) > MOST_POINTS
    common = np.quantile(mean, [OUTSIDE, 1 - OUTSIDE]) if many else (mean.min(), mean.max())
    low, high = min(true.min(), common[0]), max(true.max(), common[1])
    margin = jitter + (0.03 * (high - low) or 0.05 * abs(high) or 1.0)
    ends = low - margin, high + margin
    inside = (mean >= ends[0]) & (mean <= ends[1])
    moved = true + np.random.default_rng(0).uniform(-jitter, jitter, len(true))
    if many:
        how: dict[str, Any] = {"gridsize": 45, "bins": "log", "mincnt": 1, "extent": (*ends, *ends), "cmap": "viridis"}
        figure.colorbar(left.hexbin(mean[inside], moved[inside], **how), ax=left, label="entries")
    else:
        left.plot(mean, moved, ".", ms=4, alpha=0.5)
    left.plot(ends, ends, color="C3" if many else "0.6", lw=0.8)
    of, in_units = ("", "") if units is None else (", in sds of its column", " in the units of the table")
    jittered = " (jittered)" if jitter else ""
    left.set(xlabel=f"predicted mean{of}", ylabel=f"true {what}{of}{jittered}", xlim=ends, ylim=ends)
    left.set_title(f"RMSE {prediction.rmse(truth):.4g}{in_units}", fontsize=10)
    calibration(right, prediction.pit, jitter > 0)
    outside = int((~inside).sum())
    beyond = f" ({outside} predictions lie beyond the axes)" if outside else ""
    return Picture(
        name,
        f"{said}. The truth should scatter evenly about the line{beyond}. The histogram should be flat: high at both "
        "ends, intervals are too short; high in the middle, too long.",
        figure,
    )


def completions(
    fit: Any, hiding: Iterable[tuple[str, Any]], what: str, units: tuple[Tensor, Tensor] | None = None, **more: Any
) -> list[Picture]:
    """Draw what is predicted of a table's rows from the rest of them (see ``completion``).

    Args:
        fit: The fit.
        hiding: Name and data, of which ``completion`` are new rows.
        what: What a value is.
        units: Middle and scale of every column, [column] each.
        more: For ``completion``.
    """
    result = []
    for name, part in hiding:
        if len(part.hidden.values):
            known = fit.held_out if part is fit.data else (fit.prediction(part), part.hidden)
            prediction, at, truth = known[0], known[1].columns, known[1].values
            where = f"missing {what}s in test rows" if name == "completion" else f"hidden {what}s"
            said = f"Prediction of {len(truth)} {where} from the rest of their rows"
            more["units"] = None if units is None else (units[0][at], units[1][at])
            result.append(completion(name, said, prediction, truth, what, **more))
    return result
