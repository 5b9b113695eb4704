"""q against p as a picture, and as what a page lets its readers choose from."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from pyrozoo.core.draws import evenly
from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.compare import Comparison
from pyrozoo.diagnostics.planes import MASSES, Line, Planes, planes_of
from pyrozoo.drawing.labels import short
from pyrozoo.drawing.panels import grid
from pyrozoo.studies.compare.colors import MOST_NAMED, color_of

MOST_DOTS = 700
"""Draws of the reference that are shown."""

MOST_POINTS = 60
"""Points of a line on a page."""

UNITS = 1000
"""Whole numbers across a window of the page: coordinates are rounded to them."""

GREY = "0.62"


def planes(comparison: Comparison) -> Planes | None:
    """Return the planes of a comparison, if it is one that a picture can show."""
    return planes_of(comparison) if 1 < len(comparison.names) <= MOST_NAMED else None


def plane_picture(planes: Planes | None, comparison: Comparison) -> Picture | None:
    """Draw every fit over the reference's draws, in the plane of the pair on which fits differ most."""
    if planes is None:
        return None
    shown = [name for name in planes.names if name != planes.base] or [*planes.names]
    figure, every = grid(len(shown), min(4, len(shown)), (2.9, 2.8), sharex=True, sharey=True)
    for axes, name in zip(every, shown, strict=True):
        _panel(axes, planes, name, color_of(comparison, name))
    across = min(4, len(shown))
    for axes in every[-across:]:
        axes.set_xlabel(short(planes.quantities[0], 34), fontsize=9)
        axes.tick_params(labelbottom=True)
    for axes in every[::across]:
        axes.set_ylabel(short(planes.quantities[1], 34), fontsize=9)
    return Picture("q_against_p", _said(planes), figure)


def _panel(axes: Axes, planes: Planes, name: str, color: str) -> None:
    if planes.base is not None:
        dots = _dots(planes)
        axes.plot(dots[:, 0], dots[:, 1], ".", ms=3, color=GREY, mew=0, zorder=0)
    for line in itertools.chain(*planes.exact):
        axes.plot(*line.T, color="0.35", lw=0.9, ls="--", zorder=1)
    for lines, width in zip(planes.lines(name, 0, 1), (1.2, 2.0), strict=False):
        for line in lines:
            axes.plot(*line.T, color=color, lw=width, zorder=2)
    draws = planes.draws[name]
    if len(draws) == 1:
        axes.plot(draws[:, 0], draws[:, 1], "X", ms=9, color=color, mec="white", zorder=3)
        if not _within(planes.windows[:2], draws[0, :2]):
            axes.text(0.5, 0.5, "outside", transform=axes.transAxes, ha="center", color=color)
    axes.set(xlim=planes.windows[0], ylim=planes.windows[1])
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=8)
    axes.set_title(name, fontsize=9)


def _within(windows: np.ndarray, point: np.ndarray) -> bool:
    return bool(((windows[:, 0] <= point) & (point <= windows[:, 1])).all())


def _dots(planes: Planes) -> np.ndarray:
    """Return draws of the reference to show, [draw, quantity]."""
    assert planes.base is not None
    draws = planes.draws[planes.base]
    return draws[evenly(len(draws), MOST_DOTS).numpy()]


def _said(planes: Planes) -> str:
    outer, inner = (f"{mass:.0%}" for mass in MASSES)
    first, second = planes.quantities[:2]
    held = ": they should hold as much of the dots" if planes.base is not None else ""
    dots = "There is no reference. " if planes.base is None else f"Dots are draws of {planes.base}. "
    grid = f"Dashed lines are the exact posterior, from a grid ({inner} and {outer}). " if planes.exact else ""
    point = any(len(each) == 1 for each in planes.draws.values())
    return (
        f"{first} against {second}, where methods differ most (distance of normal approximations, "
        f"{planes.distance:.2f} sds). {dots}{grid}Lines hold {inner} and {outer} of a method's draws{held}. "
        f"{'A cross is a point. ' if point else ''}"
        "Too small: intervals are too short. Upright where the dots lean: a correlation is lost."
    )


def plane_page(planes: Planes | None, comparison: Comparison) -> dict[str, Any] | None:
    """Return what a page draws any pair from, all coordinates in whole numbers across the windows.

    Returns:
        quantities: Names, and the ends of the window of each.
        dots: For each quantity, those of the reference's draws.
        fits: Name, colour, for each pair its lines, and for a point where it is.
        exact: Lines of the exact posterior, of the first pair.
    """
    if planes is None:
        return None
    low, high = planes.windows[:, 0], planes.windows[:, 1]

    def whole(values: np.ndarray, at: list[int]) -> np.ndarray:
        return np.round((values - low[at]) / (high - low)[at] * UNITS).astype(int)

    def drawn(lines: list[list[Line]], at: list[int]) -> list[list[list[int]]]:
        return [[whole(_thin(line), at).ravel().tolist() for line in level] for level in lines]

    count = len(planes.quantities)
    every, pairs = list(range(count)), list(itertools.combinations(range(count), 2))
    fits = []
    for name in planes.names:
        draws = planes.draws[name]
        lines = {f"{i}-{j}": drawn(planes.lines(name, i, j), [i, j]) for i, j in pairs}
        point = whole(draws[0], every).clip(-UNITS, 2 * UNITS).tolist() if len(draws) == 1 else None
        color = to_hex(color_of(comparison, name))
        fits.append({"name": name, "color": color, "lines": {} if point else lines, "point": point})
    return {
        "units": UNITS, "quantities": list(planes.quantities), "windows": planes.windows.tolist(),
        "base": planes.base, "dots": [] if planes.base is None else whole(_dots(planes), every).T.tolist(),
        "fits": fits, "exact": drawn(planes.exact, [0, 1]),
    }  # fmt: skip


def _thin(line: Line) -> Line:
    """Return some of the points of a line, its ends among them."""
    return line[evenly(len(line), MOST_POINTS).numpy()]
