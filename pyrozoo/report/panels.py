"""Figures of several panels."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def panels(
    count: int, most: int, width: float, height: float, room: float = 0.0, least: int = 1, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, row by row; what is left over of the last row is blank.

    Args:
        count: How many.
        most: How many stand side by side.
        width: Of one, in inches.
        height: Of one.
        room: Height of what they have in common.
        least: Panels that the figure is wide enough for.
        **shared: What ``subplots`` takes, such as ``sharex``.
    """
    across = min(most, count)
    down = -(-count // across)
    figure = Figure(figsize=(width * max(across, least), height * down + room), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, **shared).ravel()
    for axes in grid[count:]:
        axes.axis("off")
    return figure, list(grid[:count])


def in_a_row(count: int, width: float, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of a size, in inches, and so many panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, **shared)[0])
