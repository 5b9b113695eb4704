"""What a movie shows, as numbers: scenes of layers, of which some columns move. A page draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Columns = Mapping[str, Any]
"""Name -> values, all of one length; of lines a sequence of arrays."""

Kind = Literal["points", "lines", "image", "bars"]


@dataclass(frozen=True)
class Layer:
    """Marks of one kind.

    Attributes:
        kind: ``points`` at ``x`` and ``y``; ``lines`` along ``xs`` and ``ys``; an ``image`` of one array
            [line, column], first line on top; ``bars`` as long as ``right`` at ``y``. Points, lines and bars may have
            ``color``, the number of a colour, and points and bars ``alpha``, how opaque they are.
        moving: (fit at a moment) -> columns that move, always as many and as long.
        still: Columns that stay.
        size: Of points, in pixels, or the width of lines.
        alpha: How opaque all are.
        ends: Of an image, the numbers that the first and the last colour mean; None: those of the last moment.
        palette: Of an image of whole numbers, the colours of 0, 1, ...
        shades: Of an image of real numbers, the name of Bokeh's colours.
    """

    kind: Kind
    moving: Callable[[Any], Columns] | None = None
    still: Columns = field(default_factory=dict)
    size: float = 6.0
    alpha: float = 1.0
    ends: tuple[float, float] | None = None
    palette: Sequence[str] = ()
    shades: str = "Viridis256"


@dataclass(frozen=True)
class Scene:
    """A picture that moves.

    Attributes:
        name: What it is, in a word or two.
        caption: What to look for, a sentence.
        x: What the axis across is.
        y: What the axis up is.
        layers: From below.
        across: Ends of the axis across; None: what it shows.
        up: Ends of the axis up.
        across_labels: Names of the columns of an image, or of positions 0, 1, ... across.
        up_labels: Names of the lines of an image, or of bars, from the top.
        square: Whether a unit across is as long as one up.
    """

    name: str
    caption: str
    x: str
    y: str
    layers: Sequence[Layer]
    across: tuple[float, float] | None = None
    up: tuple[float, float] | None = None
    across_labels: Sequence[str] = ()
    up_labels: Sequence[str] = ()
    square: bool = False


TURN = np.linspace(0, 2 * np.pi, 49)
"""Angles at which an ellipse is drawn."""


def ellipse(mean: np.ndarray, covariance: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the edge of what is within a Mahalanobis distance of a mean, x and y.

    Args:
        mean: [2].
        covariance: [2, 2], of which rounding may have left no positive one.
        radius: The distance.
    """
    values, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.clip(values, 0, None))
    x, y = mean[:, None] + radius * root @ np.stack([np.cos(TURN), np.sin(TURN)])
    return x, y
