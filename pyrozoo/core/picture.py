"""A figure with its caption."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

    def __repr__(self) -> str:
        return f"{self.name}: {self.caption}"

    def _repr_png_(self) -> bytes:
        """Show the figure in a notebook."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=90)
        return buffer.getvalue()
