"""A figure with its caption."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure with the sentence that says what to look for.

    Attributes:
        name: File name without ending.
        caption: One or two sentences shown under the picture.
        figure: The matplotlib figure.
    """

    name: str
    caption: str
    figure: Figure

    def __post_init__(self) -> None:
        _words(self.figure)

    def __repr__(self) -> str:
        return f"{self.name}: {self.caption}"

    def _repr_png_(self) -> bytes:
        """Show the figure in a notebook."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=90)
        return buffer.getvalue()


def _words(artist: Artist) -> None:
    """Make texts words, dollars too: between two of them matplotlib sets formulas. Its own ticks stay as they are."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    for each in artist.get_children():
        if isinstance(each, Axis):
            each.label.set_text(_escaped(each.label.get_text()))
            for formatter in (each.get_major_formatter(), each.get_minor_formatter()):
                if isinstance(formatter, FixedFormatter):
                    formatter.seq = [_escaped(label) for label in formatter.seq]
                elif isinstance(formatter, FuncFormatter):
                    formatter.func = _Words(formatter.func)
        elif isinstance(each, Text):
            each.set_text(_escaped(each.get_text()))
        else:
            _words(each)


@dataclass(frozen=True)
class _Words:
    """A function for ticks that says them in words."""

    own: Callable[..., str]

    def __call__(self, value: float, place: int | None = None) -> str:
        return _escaped(self.own(value, place))


def _escaped(text: str) -> str:
    return re.sub(r"(?<!\\)\$", r"\\$", text)
