"""A movie of fits: one page that plays their moments, drawn by Bokeh, whose script is in it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.moments import Moment, chosen
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.movie import Columns, Layer, Scene
from pyrozoo.core.paths import replacing
from pyrozoo.report import html
from pyrozoo.report.quantities import alike, plane

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure

MOST_FITS, MOST_FRAMES = 8, 60
"""Fits that play side by side, and moments of each."""

MOST_BYTES = 1_500_000
"""What frames may take in a page, beside the script's 1.3 MB; of more, some are left out evenly."""

DIGITS = 4
"""Of numbers that move: a pixel is a thousandth of a picture."""

COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
GREY = "#9aa3ad"


@dataclass(frozen=True)
class Film:
    """A fit as a movie shows it.

    Attributes:
        name: What it is called.
        fit: The fit.
        moments: Those shown.
        thens: The fit as it was at each of them.
        scenes: What is drawn, each with the columns of its layers at each moment.
    """

    name: str
    fit: Fit
    moments: Sequence[Moment]
    thens: Sequence[Fit]
    scenes: Sequence[tuple[Scene, Sequence[Sequence[Columns]]]]


class Movie:
    """A movie of one fit, or of several side by side; a notebook plays it.

    Args:
        fits: The fits, each with moments.
        names: What they are called.
        base: Draws of one of them are shown under all others; None: each has its own.

    Raises:
        NotApplicable: A fit has no moments.
    """

    def __init__(self, fits: Sequence[Fit], names: Sequence[str] | None = None, base: Fit | None = None):
        names = names or [each.method for each in fits]
        known = [(name, fit) for name, fit in zip(names, fits, strict=True) if fit.moments]
        if not known:
            raise NotApplicable(_why_none(fits))
        if len(known) > MOST_FITS:  # what moves at all comes first
            known = sorted(known, key=lambda each: len(each[1].moments) == 1)[:MOST_FITS]
        self.names, self.fits = [name for name, _ in known], [fit for _, fit in known]
        self.base, self.left_out = base, len(fits) - len(known)

    @cached_property
    def films(self) -> list[Film]:
        """The fits with what is shown of them."""
        anchor = self.base or max(self.fits, key=lambda fit: fit.draws.shape[1] * fit.draws.shape[0])
        moments = [chosen(fit.moments, MOST_FRAMES) for fit in self.fits]
        thens = [_backwards(fit, some, anchor) for fit, some in zip(self.fits, moments, strict=True)]
        planes = plane(self.fits, thens, self.base)
        films = []
        for i, fit in enumerate(self.fits):
            own = view_of(fit.model).scene(fit, self.fits)
            scenes = [_shot(own, thens[i])] if own is not None else []
            scenes += [planes[i]] if planes else []
            films.append(Film(self.names[i], fit, moments[i], thens[i], scenes))
        return films

    @cached_property
    def page(self) -> str:
        """The page, HTML: nothing is fetched."""
        from bokeh.resources import Resources

        script = "".join(Resources(mode="inline", components=["bokeh"]).js_raw)
        title = self.names[0] if len(self.names) == 1 else ", ".join(self.names)
        data = self.fits[0].data
        left = f"; {self.left_out} fits are not shown" if self.left_out else ""
        return html.page("movie.html.j2", {
            "title": f"{self.fits[0].model_name} by {title}", "lead": f"{data.name}: {data.size}{left}",
            "script": script, "colors": COLORS, "films": _literal(self._played()), "several": len(self.fits) > 1,
        })  # fmt: skip

    def _played(self) -> list[dict[str, Any]]:
        """Return what the page's own script plays: of more frames than there is room for an even choice."""
        step = 1
        while True:
            played = [_played(film, i, step, small=len(self.films) > 1) for i, film in enumerate(self.films)]
            frames = sum(len(json.dumps(each["scenes"])) for each in played)
            if frames <= MOST_BYTES or step >= MOST_FRAMES:
                return played
            step += 1

    def save(self, path: str | Path) -> Path:
        """Write the page.

        Args:
            path: Where to, ending in .html.

        Returns:
            The path.
        """
        with replacing(Path(path)) as temporary:
            temporary.write_text(self.page, encoding="utf-8")
        return Path(path)

    def embedded(self) -> str:
        """Return the movie as a frame of another page."""
        height = 480 if len(self.fits) == 1 else 760
        return (
            f'<iframe class="movie" loading="lazy" title="a movie of the fit" style="width: 100%; height: {height}px; '
            f'border: 1px solid #d8dbe0" srcdoc="{escape(self.page, quote=True)}"></iframe>'
        )

    def _repr_html_(self) -> str:
        return self.embedded()

    def __repr__(self) -> str:
        frames = ", ".join(f"{film.name}: {len(film.moments)} moments" for film in self.films)
        return f"Movie of {self.fits[0].model_name} ({frames})"


def _literal(value: Any) -> str:
    """Return JSON that can stand in a page's script; keys keep their order, which Bokeh's references need."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _why_none(fits: Sequence[Fit]) -> str:
    if any(fit.posterior.shards is not None for fit in fits):
        return "rows in shards keep no moments, and there is nothing to play: run it without torchrun and shards"
    return "the fit has no moments, and there is nothing to play: fit it anew, with moments=60"


def _backwards(fit: Fit, moments: Sequence[Moment], anchor: Fit) -> list[Fit]:
    """Return a fit as it was at some moments, each aligned to the one after, and the last to another fit.

    So a component, or a direction, stays the same one while it moves.
    """
    toward: Any = anchor.aligned.to(fit.draws) if alike(anchor, fit) else None
    thens: list[Fit] = []
    for moment in reversed(moments):
        then = fit.at(moment, toward)
        toward = then.aligned
        thens.insert(0, then)
    return thens


def _shot(scene: Scene, thens: Sequence[Fit]) -> tuple[Scene, list[list[Columns]]]:
    """Return a scene with the moving columns of its layers at each moment."""
    return scene, [[layer.moving(then) if layer.moving else {} for then in thens] for layer in scene.layers]


# What a page gets -----------------------------------------------------------------------------------------------------


def _played(film: Film, number: int, step: int, *, small: bool) -> dict[str, Any]:
    """Return a film as plain values, with every so many-th frame and the last."""
    last = len(film.moments) - 1
    at = [i for i in range(len(film.moments)) if (last - i) % step == 0]
    moments = [film.moments[i] for i in at]
    scenes = [_scene(*shot, at, f"{number}-{k}") for k, shot in enumerate(film.scenes)]
    return {
        "name": film.name, "ended": film.fit.status, "objective": film.fit.objective_name.replace("_", " "),
        "moments": [_moment(each) for each in moments],
        "scenes": [*scenes, _path(film, moments, f"{number}-objective", small=small)],
    }  # fmt: skip


def _moment(moment: Moment) -> dict[str, Any]:
    return {"step": moment.step, "seconds": moment.seconds, "passes": moment.passes, "objective": _mean(moment)}


def _mean(moment: Moment) -> float | None:
    return sum(moment.objective) / len(moment.objective) if moment.objective else None


def _scene(scene: Scene, frames: Sequence[Sequence[Columns]], at: Sequence[int], key: str) -> dict[str, Any]:
    figure, layers = _figure(scene, key), []
    for k, (layer, each) in enumerate(zip(scene.layers, frames, strict=True)):
        ends = layer.ends or _ends(layer, each[-1])
        first = {**layer.still, **each[at[-1]]}
        _draw(figure, layer, {name: _packed(name, value, ends) for name, value in first.items()}, f"{key}-{k}")
        moving = [{name: _packed(name, value, ends) for name, value in each[i].items()} for i in at]
        layers.append([{name: _sent(value) for name, value in frame.items()} for frame in moving] if each[0] else [])
    return _item(figure, key, layers, scene.name, scene.caption)


def _item(figure: Figure, key: str, layers: list[Any], name: str, caption: str) -> dict[str, Any]:
    from bokeh.embed import json_item

    return {"key": key, "name": name, "caption": caption, "item": json_item(figure), "layers": layers}


def _ends(layer: Layer, last: Columns) -> tuple[float, float]:
    """Return the numbers that the first and the last colour of an image mean."""
    if layer.palette or "image" not in last:
        return 0.0, 255.0
    low, high = float(np.nanmin(last["image"])), float(np.nanmax(last["image"]))
    return (low, high) if high > low else (low, low + 1.0)


def _packed(name: str, value: Any, ends: tuple[float, float]) -> Any:
    """Return a column as a glyph reads it: colours by name, few digits, of an image a byte a cell, from below."""
    if name == "image":
        share = (np.nan_to_num(np.asarray(value, float)) - ends[0]) / (ends[1] - ends[0])
        return [np.ascontiguousarray((255 * share.clip(0, 1)).round().astype(np.uint8)[::-1])]
    if name == "color":
        return [COLORS[int(k) % len(COLORS)] for k in value]
    if name in ("xs", "ys"):
        return [_short(each) for each in value]
    return _short(value)


def _short(values: Any) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in np.asarray(values, float)]


def _sent(value: Any) -> Any:
    """Return a column as JSON holds it in little room."""
    if isinstance(value[0] if len(value) else None, np.ndarray):
        return {"bytes": base64.b64encode(value[0].tobytes()).decode("ascii")}
    if value and isinstance(value[0], str):  # colours
        return {"colors": "".join(str(COLORS.index(each)) for each in value)}
    return [_known(each) for each in value]


def _known(value: Any) -> Any:
    """Return a number, or a list of them, with null where there is none: JSON has no NaN."""
    return [_known(each) for each in value] if isinstance(value, list) else value if math.isfinite(value) else None


def _figure(scene: Scene, key: str, **more: Any) -> Figure:
    from bokeh.models import FixedTicker, Range1d
    from bokeh.plotting import figure as make

    known = {"x_range": scene.across, "y_range": scene.up}
    ranges: dict[str, Any] = {name: Range1d(start=ends[0], end=ends[1]) for name, ends in known.items() if ends}
    if scene.square:  # Bokeh widens one of the axes, which it must be free to do
        ranges = {"match_aspect": True}
    figure = make(
        name=key, sizing_mode="stretch_both", toolbar_location=None, tools="", x_axis_label=scene.x,
        y_axis_label=scene.y, min_border=4, **ranges, **more,
    )  # fmt: skip
    for axis, labels in ((figure.xaxis, scene.across_labels), (figure.yaxis, scene.up_labels[::-1])):
        if labels:
            places = [i + 0.5 for i in range(len(labels))]
            axis.ticker = FixedTicker(ticks=places)
            axis.major_label_overrides = {place: str(label) for place, label in zip(places, labels, strict=True)}
    if max((len(str(label)) for label in scene.across_labels), default=0) > 3:
        figure.xaxis.major_label_orientation = math.pi / 3
    for axis in (figure.xaxis, figure.yaxis):
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
        axis.minor_tick_line_color = None
    figure.grid.grid_line_color = "#eceef1"
    figure.outline_line_color = None
    return figure


def _draw(figure: Figure, layer: Layer, columns: dict[str, Any], key: str) -> None:
    from bokeh.models import ColumnDataSource, FixedTicker, LinearColorMapper

    color: Any = "color" if "color" in columns else GREY
    alpha: Any = "alpha" if "alpha" in columns else layer.alpha
    source = ColumnDataSource(columns, name=key)
    if layer.kind == "image":
        height, width = columns["image"][0].shape
        palette: Any = list(layer.palette) or layer.shades
        mapper = LinearColorMapper(palette, low=0, high=max(1, len(layer.palette) - 1) if layer.palette else 255)
        style: dict[str, Any] = {"color_mapper": mapper}
        figure.image("image", x=0, y=0, dw=width, dh=height, source=source, **style)
        figure.grid.visible = False
        for axis in (figure.xaxis, figure.yaxis):
            axis.ticker = axis.ticker if axis.major_label_overrides else FixedTicker(ticks=[])
    elif layer.kind == "points":
        figure.scatter(
            "x", "y", source=source, size=layer.size, fill_color=color, line_color=None, fill_alpha=alpha
        )  # fmt: skip
    elif layer.kind == "lines":
        figure.multi_line("xs", "ys", source=source, line_width=layer.size, line_color=color, line_alpha=alpha)
    else:
        figure.hbar("y", right="right", height=0.8, source=source, fill_color=color, line_color=None, fill_alpha=alpha)


MOST_ABOVE = 0.15
"""Share of moments, the first ones, whose objective is far below the others and would flatten all that matters."""


def _path(film: Film, moments: Sequence[Moment], key: str, *, small: bool) -> dict[str, Any]:
    """Return the scene of the objective over steps, with a dot that moves along it; a small one has few ticks."""
    from bokeh.models import BasicTicker, ColumnDataSource

    known = [_mean(each) for each in moments]
    steps, seconds = [max(1, each.step) for each in moments], [max(1e-6, each.seconds) for each in moments]
    late = [value for value in known[int(MOST_ABOVE * len(known)) :] if value is not None]
    room = 0.08 * (max(late) - min(late)) if late else 0.0
    up = (min(late) - room, max(late) + room) if room > 0 else None
    what = film.fit.objective_name.replace("_", " ")
    scene = Scene("objective", f"{what} over the run; the dot is now", "step", what, (), up=up)
    figure = _figure(scene, key, x_axis_type="log" if steps[-1] > 20 * steps[0] else "linear")
    if small:
        figure.xaxis.axis_label = figure.yaxis.axis_label = None
        figure.yaxis.ticker = BasicTicker(desired_num_ticks=2)
    line: dict[str, Any] = {"x": steps, "y": known, "step": steps, "seconds": seconds}
    figure.line("x", "y", source=ColumnDataSource(line, name=f"{key}-0"), line_width=1.5, line_color=COLORS[0])
    dot = {name: value[-1:] for name, value in line.items()}
    figure.scatter(
        "x", "y", source=ColumnDataSource(dot, name=f"{key}-1"), size=10, fill_color=COLORS[3], line_color=None
    )
    dots = [{name: [value[i]] for name, value in line.items()} for i in range(len(moments))]
    return _item(figure, key, [[], dots], scene.name, scene.caption)
