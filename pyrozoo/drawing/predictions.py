"""Predictions of hidden entries against the truth, and whether they are calibrated."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from pyrozoo.core.picture import Picture
from pyrozoo.core.prediction import Prediction

BINS = 20

MOST_POINTS = 3000
"""Entries up to which each is a point; more are counted in hexagons."""


def completion(
    name: str, caption: str, prediction: Prediction, truth: Tensor, what: str, *, jitter: float = 0.0
) -> Picture:  # fmt: skip
    """Draw true values against predicted means, and the histogram of randomised PIT values: flat is right.

    Args:
        name: Of the picture.
        caption: Shown under it.
        prediction: Of the hidden entries.
        truth: Their true values, [entry].
        what: What a value is, such as ``count``.
        jitter: By how much, at most, whole numbers are moved to be told apart.
    """
    true, mean = truth.cpu().numpy(), prediction.mean.cpu().numpy()
    rmse = float(np.sqrt(((mean - true) ** 2).mean()))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    moved = true + np.random.default_rng(0).uniform(-jitter, jitter, len(true))
    if len(true) <= MOST_POINTS:
        left.plot(mean, moved, ".", ms=3, alpha=0.4)
    else:
        cells = left.hexbin(mean, moved, gridsize=45, bins="log", cmap="Blues", mincnt=1)
        figure.colorbar(cells, ax=left, label="entries")
    ends = [min(0.0, true.min(), mean.min()), max(true.max(), mean.max())]
    left.plot(ends, ends, color="0.6", lw=0.8)
    said = f"true {what} (jittered)" if jitter else f"true {what}"
    left.set(xlabel="predicted mean", ylabel=said, title=f"RMSE {rmse:.3f}")
    right.hist(prediction.pit.cpu().numpy(), bins=BINS, range=(0, 1), color="C0")
    right.axhline(len(true) / BINS, color="0.4", lw=0.8)
    right.set(xlabel="randomised PIT", title="Calibration: flat is right")
    return Picture(name, caption, figure)
