"""Figures with their panels, bars of colours in small letters, and curves over a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

Curve = tuple[pd.DataFrame, str, str, dict[str, Any]]
"""A trace, the column that is drawn of it chain by chain, what to call it, and the style of its lines."""


def array(values: Tensor) -> np.ndarray:
    """Return numbers to draw, in double precision."""
    return values.detach().double().cpu().numpy()


def panels(
    width: float, height: float, down: int = 1, across: int = 1, *, layout: Any = "constrained", **more: Any
) -> tuple[Figure, Any]:
    """Return a figure of a size in inches, and its axes: one, or an array of them (see ``Figure.subplots``)."""
    figure = Figure(figsize=(width, height), layout=layout)
    return figure, figure.subplots(down, across, **more)


def grid(
    count: int, across: int, each: tuple[float, float], beside: tuple[float, float] = (0.0, 0.0), *, least: int = 1,
    **more: Any,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """Return a figure with so many panels in lines; what is left over of the last line stays blank.

    Args:
        count: Panels.
        across: In a line, at most.
        each: Width and height of a panel.
        beside: What the figure has beside all of them.
        least: Panels for which there is room in a line in any case.
        more: For ``panels``.
    """
    across = min(across, count)
    down = -(-count // across)
    size = each[0] * max(least, across) + beside[0], each[1] * down + beside[1]
    figure, every = panels(*size, down, across, squeeze=False, **more)
    for axes in every.flat[count:]:
        axes.set_axis_off()
    return figure, list(every.flat[:count])


def bare(axes: Axes) -> None:
    """Leave away ticks and frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def bar(figure: Figure, image: Any, axes: Any, label: str = "", size: int = 7, **style: Any) -> None:
    """Add the bar of an image's colours, in small letters."""
    added = figure.colorbar(image, ax=axes, **style)
    added.set_label(label, fontsize=size)
    added.ax.tick_params(labelsize=7)


def over_run(curves: Sequence[Curve], step: str, what: str) -> tuple[Figure, Axes, Axes]:
    """Draw columns of the trace over iterations and, beside them, over seconds.

    Args:
        curves: What is drawn.
        step: What an iteration is called.
        what: What the columns are.
    """
    figure, (left, right) = panels(10, 3.4, 1, 2, sharey=True)
    for axes, over in ((left, "iteration"), (right, "seconds")):
        for trace, column, label, style in curves:
            for i, (_, line) in enumerate(trace.dropna(subset=[column]).groupby("chain")):
                axes.plot(line[over], line[column], label=None if i else label, **style)
    left.set(xlabel=step, ylabel=what, title=f"by {step}")
    right.set(xlabel="seconds", title="by time")
    return figure, left, right
