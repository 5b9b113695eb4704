"""Scenes that several models share: numbers in lines and columns as an image that moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pyrozoo.core.draws import evenly
from pyrozoo.core.movie import Layer, Scene
from pyrozoo.drawing.panels import array

MOST_LINES, MOST_COLUMNS, MOST_PIXELS = 40, 60, 60
"""Lines and columns of numbers that a scene shows, and pixels along each side of a picture: of more an even choice."""

LETTERS = 14
"""Of a label."""


def some(count: int, most: int) -> Tensor:
    """Return places of so many things that a scene shows."""
    return evenly(count, most)


def heatmap(
    name: str, caption: str, lines: str, columns: str, values: Callable[[Any], Tensor | np.ndarray],
    line_labels: Sequence[Any] = (), column_labels: Sequence[Any] = (), ends: tuple[float, float] | None = None,
    palette: Sequence[str] = (), shades: str = "Viridis256", shape: tuple[int, int] | None = None,
    square: bool = False,
) -> Scene:  # fmt: skip
    """Return a scene of numbers in lines and columns, the first line on top.

    Args:
        name: What it is.
        caption: What to look for.
        lines: What lines are.
        columns: What columns are.
        values: From a fit at a moment to the numbers, [line, column].
        line_labels: Names of lines.
        column_labels: Names of columns.
        ends: Numbers of the first and the last shade (see ``Layer``).
        palette: Colours of whole numbers (see ``Layer``).
        shades: Colours of real numbers (see ``Layer``).
        square: Whether cells are pixels, as wide as high.
        shape: Numbers of lines and columns; None: there are labels of both.
    """
    height, width = shape or (len(line_labels), len(column_labels))

    def moving(then: Any) -> dict[str, Any]:
        found = values(then)
        return {"image": array(found) if isinstance(found, Tensor) else found}

    layer = Layer("image", moving, ends=ends, palette=palette, shades=shades)
    across, up = (0.0, float(width)), (0.0, float(height))
    names = _short(column_labels), _short(line_labels)
    return Scene(name, caption, columns, lines, [layer], across, up, *names, square=square)


def _short(labels: Sequence[Any]) -> list[str]:
    return [text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…" for text in map(str, labels)]
