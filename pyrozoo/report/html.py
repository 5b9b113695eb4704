"""Self-contained pages: pictures inside, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.card import COLOURS

MOST_ROWS = 60
"""Rows of a table that a page shows; the CSV beside it has all."""

DPI = 130


def png(picture: Picture) -> bytes:
    """Return a picture as PNG."""
    figure, buffer = picture.figure, io.BytesIO()
    FigureCanvasAgg(figure)  # what it measures of texts serves layout and drawing
    figure.set_dpi(DPI)
    if (layout := figure.get_layout_engine()) is not None:
        for spine in (each for axes in figure.axes for each in axes.spines.values()):
            spine.set_in_layout(False)  # it has all its ticks placed again, and is no farther out than their labels
        # savefig would draw everything twice, the first time only to lay it out.
        layout.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def embedded(image: bytes) -> str:
    """Return a PNG as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


def number(value: Any) -> str:
    """Write a figure as a person reads it."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value}"
    if isinstance(value, float | np.floating):
        value = float(value)
        if value == 0 or 1e-3 <= abs(value) < 1e6:
            return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.2f}"
        return f"{value:.3g}"
    return str(value)


def level(word: str) -> str:
    """Return a level of a verdict in its colour; of other words nothing is made."""
    return f'<span style="color: {COLOURS.get(word, "inherit")}">{word}</span>'


def table(frame: pd.DataFrame, most: int = MOST_ROWS) -> dict[str, Any]:
    """Return a table for the templates: headers, cells, and how many rows were left out."""
    shown = frame.head(most)
    return {
        "columns": [str(c).replace("_", " ") for c in shown.columns],
        "rows": [[number(v) for v in row] for row in shown.itertuples(index=False)],
        "numeric": [pd.api.types.is_numeric_dtype(shown[c]) for c in shown.columns],
        "more": len(frame) - len(shown),
    }


class Sentences(pd.DataFrame):
    """A table of sentences, which a notebook shows whole."""

    @property
    def _constructor(self) -> type[Sentences]:
        return Sentences

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return str(super()._repr_html_())  # type: ignore[misc]


def page(template: str, values: Mapping[str, Any]) -> str:
    """Render a page of report/templates; everything is escaped."""
    environment = Environment(
        loader=PackageLoader("pyrozoo.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    return environment.get_template(template).render(values)


def figures(pictures: Sequence[tuple[Picture, bytes]]) -> list[dict[str, str]]:
    """Return pictures for the templates."""
    return [{"name": p.name, "caption": p.caption, "source": embedded(image)} for p, image in pictures]
