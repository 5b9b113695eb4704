"""Names of points and regions in a picture, placed so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

HALO = withStroke(linewidth=2, foreground="white")


def name_points(
    figure: Figure,
    axes: Axes,
    points: Sequence[tuple[np.ndarray, np.ndarray, str, str]],
    marks: Float[np.ndarray, "P 2"],
) -> int:
    """Write names beside points, away from where their lines come from, as far as there is room; return how many.

    Args:
        figure: The figure.
        axes: With their final limits.
        points: Place, direction of its line, name and colour of each; the first ones go first.
        marks: Points that no name may cover.
    """
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    pixel = figure.dpi / 72
    covered = axes.transData.transform(marks)
    taken: list[Bbox] = []
    for point, direction, text, colour in points:
        at = float(point[0]), float(point[1])
        darker = tuple(0.7 * value for value in to_rgb(colour))
        written = axes.annotate(text, at, xytext=(0, 0), textcoords="offset points", color=darker, fontsize=7,
                                ha="center", va="center", zorder=5, path_effects=[HALO])  # fmt: skip
        box = written.get_window_extent()
        half = 0.5 * np.array([box.width, box.height])
        centre = axes.transData.transform(point)
        norm = float(np.linalg.norm(direction))
        outward = direction / norm if norm > 0 else np.array([1.0, 0.0])
        for offset in _offsets(outward, half, 5 * pixel):
            tried = Bbox([centre + offset - half - pixel, centre + offset + half + pixel])
            inside = frame.x0 <= tried.x0 and tried.x1 <= frame.x1 and frame.y0 <= tried.y0 and tried.y1 <= frame.y1
            free = not any(tried.overlaps(other) for other in taken)
            if inside and free and not any(tried.padded(pixel).contains(*each) for each in covered):
                written.set_position(tuple(offset / pixel))
                taken.append(tried)
                break
        else:
            written.remove()
    return len(taken)


def _offsets(outward: np.ndarray, half: np.ndarray, gap: float) -> list[np.ndarray]:
    """Return offsets of a name's centre from its point, by how well they continue the line."""
    angles = np.arctan2(outward[1], outward[0]) + np.array([0, 0.5, -0.5, 1, -1, 1.5, -1.5])
    result = []
    for far in (1.0, 2.5):
        for angle in angles:
            way = np.array([np.cos(angle), np.sin(angle)])
            # To where the box, moved out along the way, no longer holds the point.
            reach = float(np.min(half / np.maximum(np.abs(way), 1e-6)))
            result.append(way * (reach + far * gap))
    return result


def name_inside(axes: Axes, point: tuple[float, float], text: str, ground: str | None, taken: list[Bbox]) -> None:
    """Write a name on a point, moved to stay inside the axes, unless it would cover another one.

    Args:
        axes: Already drawn once.
        point: Where.
        text: What.
        ground: The colour below; None: it varies, so that the name gets a ground of its own.
        taken: Boxes of other names; the name's own is added.
    """
    light = ground is not None and float(np.dot(to_rgb(ground), (0.299, 0.587, 0.114))) < 0.5
    box_of = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "edgecolor": "none"}
    written = axes.text(*point, text, fontsize=7, ha="center", va="center", color="white" if light else "black",
                        bbox=box_of if ground is None else None)  # fmt: skip
    box, frame = written.get_window_extent(), axes.get_window_extent()
    pad = 6.0
    move = np.array([
        max(0.0, frame.x0 + pad - box.x0) - max(0.0, box.x1 + pad - frame.x1),
        max(0.0, frame.y0 + pad - box.y0) - max(0.0, box.y1 + pad - frame.y1),
    ])  # fmt: skip
    box = box.translated(*move).padded(2.0)
    if any(box.overlaps(other) for other in taken) or box.width > frame.width:
        written.remove()
        return
    written.set_position(tuple(axes.transData.inverted().transform(axes.transData.transform(point) + move)))
    taken.append(box)
