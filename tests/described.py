"""What people read of a fit, as short lines that can be kept: a digest of all words, and sums of all numbers.

A sum weighs every number by its place and takes its size on a logarithmic scale, so that none hides another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import BboxBase, Transform

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.view import view_of
from pyrozoo.core.movie import Scene
from pyrozoo.core.seeds import seeded

WORDS = 6
"""Letters of a digest."""

SMALL = 1e-2
"""Below it a number's own size counts, above it its logarithm."""

SAME = 1e-6
"""By how much, relative to a sum's terms, another processor's rounding may change it."""

GOLDEN = (5**0.5 - 1) / 2


Line = tuple[str, float, float]
"""A digest of words, a sum of numbers, and the sum of their sizes."""

Lines = dict[str, list[Any]]
"""Name -> what is said under it, a line of the record each."""


class Said:
    """Words and numbers in the order in which they were said."""

    def __init__(self, *values: Any):
        self.words: list[str] = []
        self.numbers: list[np.ndarray] = []
        for value in values:
            self.add(value)

    def add(self, value: Any) -> None:
        """Add anything: numbers to the numbers, all else in words."""
        match value:
            case bool() | None | str():
                self.words.append(str(value))
            case int() | float() | np.number():
                self.numbers.append(np.array([float(value)]))
            case torch.Tensor():
                self.add(value.detach().cpu().numpy())
            case np.ma.MaskedArray():
                self.add(np.ma.filled(value.astype(float), np.nan))
            case np.ndarray() if value.dtype.kind in "fiub":
                self.words.append(str(value.shape))
                self.numbers.append(value.astype(float).ravel())
            case Mapping():
                for name in sorted(value, key=str):
                    self.add(str(name))
                    self.add(value[name])
            case pd.DataFrame():
                for name, column in value.items():
                    self.add(str(name))
                    self.add(column.to_numpy() if column.dtype.kind in "fiub" else list(map(str, column)))
            case Colormap():
                self.add(value(np.array([-1.0, 0.0, 0.2, 0.7, 1.0, 2.0, np.nan])))
            case Normalize():
                self.add([type(value).__name__, value.vmin, value.vmax, getattr(value, "gamma", 0.0)])
            case BboxBase():
                self.add(value.bounds)
            case Transform():
                self.add(type(value).__name__)
            case Sequence() | range() | np.ndarray():
                self.words.append(f"[{len(value)}]")
                for each in value:
                    self.add(each)
            case _:
                self.words.append(type(value).__name__)

    def line(self) -> Line:
        """Return the digest of the words, the sum of the numbers, and the sum of their sizes."""
        every = np.concatenate([np.zeros(0), *self.numbers])
        known = np.isfinite(every)
        words = [*self.words, str(len(every)), str(np.flatnonzero(~known)[:99]), str(every[~known][:99])]
        sizes = np.arcsinh(np.where(known, every, 0.0) / SMALL)
        weights = 1 + (GOLDEN * np.arange(1, len(every) + 1)) % 1
        digest = hashlib.sha1("\0".join(words).encode()).hexdigest()[:WORDS]
        return digest, float(weights @ sizes), float(weights @ np.abs(sizes))


def written(lines: Lines) -> dict[str, str]:
    """Return lines as they are recorded."""
    return {
        name: " ".join(f"{digest}{total:.12g}" for digest, total, _ in (Said(each).line() for each in said))
        for name, said in lines.items()
    }


def other(known: dict[str, str], now: Lines) -> list[str]:
    """Return the names of what is not said as it was recorded, beyond rounding."""
    names = [name for name in (*known, *(set(now) - set(known))) if name not in known or name not in now]
    for name in set(known) & set(now):
        was = known[name].split(" ") if known[name] else []
        lines = [Said(each).line() for each in now[name]]
        same = len(was) == len(lines) and all(
            each[:WORDS] == digest and abs(float(each[WORDS:]) - total) <= SAME * size
            for each, (digest, total, size) in zip(was, lines, strict=True)
        )
        names += [] if same else [name]
    return sorted(names)


def described(fit: Fit, *others: Fit) -> Lines:
    """Return all that is read of a fit, and of it beside others."""
    view, parts = view_of(fit.model), fit.data.with_new_rows
    fit.metrics = {**fit.metrics, **(own := view.metrics(fit))}
    found: dict[str, Any] = {"metrics": [own], "responsibilities": [view.responsibilities(fit)]}
    found |= {f"table {name}": _of_table(table) for name, table in view.tables(fit).items()}
    for name, part in zip(("rows", "new rows"), parts, strict=False):
        found[name] = _of_table(view.rows(fit, part))
        if view.recommends:
            found[f"recommended to {name}"] = [view.recommend(fit, view.draws_of(fit, part), part, [0, 2], 3)]
    found |= {f"predicted {name}": [list(vars(fit.prediction(part)).values())] for name, part in view.hiding(fit)}
    fits, names = [fit, *others], [f"fit {i}" for i in range(1 + len(others))]
    if scene := view.scene(fit, fits):
        found["scene"] = _of_scene(scene, fit)
    pictures = list(view.pictures(fit))
    if others:
        found |= {f"compared {name}": [table] for name, table in view.compared_tables(fits, names).items()}
        pictures += view.compared_pictures(fits, names)
    for picture in pictures:
        found |= {f"picture {picture.name} {name}": said for name, said in _of_figure(picture.figure)}
        found[f"picture {picture.name}"] = [picture.caption]
    if view.synthesizes:
        level = {fit.data.column_labels[0]: fit.data.levels[0][-1]}
        with seeded(0):
            found["synthetic"] = [[list(view.synthesize(fit, 7, given)) for given in (None, level)]]
    return found


def _of_table(table: pd.DataFrame) -> list[Any]:
    """Return a table's words, then each column of numbers."""
    numbers = [name for name in table if table[name].dtype.kind in "fiub"]
    words = table.drop(columns=numbers)
    return [[list(map(str, table.columns)), words], *(table[name].to_numpy() for name in numbers)]


def _of_scene(scene: Scene, fit: Fit) -> list[Any]:
    layers = [[vars(each).values(), [] if each.moving is None else each.moving(fit)] for each in scene.layers]
    layers = [[[value for value in values if not callable(value)], moved] for values, moved in layers]
    return [[value for name, value in vars(scene).items() if name != "layers"], *layers]


def _of_figure(figure: Figure) -> Iterator[tuple[str, list[Any]]]:
    """Yield what a figure was told, and each of its axes."""
    engine = figure.get_layout_engine()
    about = [figure.get_size_inches(), type(engine).__name__, {} if engine is None else engine.get(), figure.texts]
    yield "figure", [about, *map(_of_legend, figure.legends)]
    for i, axes in enumerate(figure.axes):
        yield f"{i}", list(_of_axes(axes, figure))


def _of_axes(axes: Axes, figure: Figure) -> Iterator[Any]:
    spec, bar = axes.get_subplotspec(), getattr(axes, "_colorbar_info", None)
    frame = [axes.get_xlim(), axes.get_ylim(), axes.get_aspect(), axes.axison, axes.get_facecolor(), axes.margins()]
    frame.append([[each.get_visible(), each.get_edgecolor()] for each in axes.spines.values()])
    if spec is not None:
        ratios = spec.get_gridspec()
        frame.append([spec.get_geometry(), ratios.get_width_ratios(), ratios.get_height_ratios()])
    if bar is not None:
        own = axes._colorbar
        frame.append([{name: value for name, value in bar.items() if name != "parents"}, own.extend])
        frame.append([figure.axes.index(each) for each in bar["parents"]])
    yield frame
    yield [_of_axis(axis) for axis in (axes.xaxis, axes.yaxis)]
    yield [_of(each) for each in (axes.title, axes._left_title, axes._right_title, *axes.texts)]
    for kind in (axes.lines, axes.collections, axes.patches, axes.images):
        yield [_of(each) for each in kind]
    if axes.get_legend() is not None:
        yield _of_legend(axes.get_legend())


def _of_axis(axis: Any) -> list[Any]:
    """Return an axis's scale, name and ticks: where they stand and what is written there."""
    places, scale = axis.get_major_locator(), vars(axis._scale)
    fixed = isinstance(places, FixedLocator)
    where = places.locs if fixed else axis.get_ticklocs()
    words = axis.get_major_formatter().format_ticks(where)
    style = [_of(each) for each in axis.get_ticklabels()[:1]] if fixed else []
    rules = [{n: v for n, v in vars(each).items() if isinstance(v, (int, float, tuple, str, bool, np.ndarray))}
             for each in (places, axis.get_major_formatter())]  # fmt: skip
    more = [type(places).__name__, type(axis.get_minor_locator()).__name__, axis.get_tick_params(), axis.get_inverted()]
    return [axis.get_scale(), {n: v for n, v in scale.items() if isinstance(v, float)}, _of(axis.label),
            axis.labelpad, where, words, style, rules, more, axis.get_visible()]  # fmt: skip


def _of(artist: Artist) -> list[Any]:
    """Return how a mark looks and where it is."""
    kept = [artist.get_alpha(), artist.get_zorder(), str(artist.get_label()), artist.get_visible()]
    match artist:
        case Text():
            box = artist.get_bbox_patch()
            return [*kept, artist.get_text(), artist.get_position(), artist.get_color(), artist.get_fontsize(),
                    artist.get_ha(), artist.get_va(), artist.get_rotation(), artist.get_rotation_mode(),
                    artist.get_fontweight(), artist.get_fontfamily()[:1], getattr(artist, "xy", ()),
                    getattr(artist, "xyann", ()), [] if box is None else _of(box)]  # fmt: skip
        case Line2D():
            return [*kept, artist.get_xydata(), artist.get_color(), artist.get_linestyle(), artist.get_linewidth(),
                    str(artist.get_marker()), artist.get_markersize(), artist.get_markeredgewidth(),
                    artist.get_markeredgecolor()]  # fmt: skip
        case Collection():
            paths = [path.vertices for path in artist.get_paths()]
            norm = artist.norm if artist.get_array() is not None else None
            return [*kept, artist.get_offsets(), artist.get_facecolor(), artist.get_edgecolor(), artist.get_linewidth(),
                    artist.get_array(), norm, artist.cmap if norm else None, paths,
                    getattr(artist, "get_sizes", list)(), _form(artist.get_transform())]  # fmt: skip
        case Patch():
            return [*kept, artist.get_patch_transform().transform(artist.get_path().vertices), artist.get_facecolor(),
                    artist.get_edgecolor(), artist.get_linewidth()]  # fmt: skip
        case AxesImage():
            return [*kept, artist.get_array(), artist.norm, artist.cmap, artist.get_extent(), artist.origin,
                    artist.get_interpolation()]  # fmt: skip
    return [*kept, type(artist).__name__]


def _form(transform: Transform) -> str:
    """Return whether marks are placed by the data on both axes, or otherwise."""
    return type(transform).__name__


def _of_legend(legend: Legend) -> list[Any]:
    handles = [_of(each) for each in legend.legend_handles if each is not None]
    return [legend._loc, legend.get_bbox_to_anchor(), legend._ncols, legend.get_frame_on(),
            [_of(each) for each in legend.get_texts()], handles, legend.get_title().get_text(),
            getattr(legend, "_outside_loc", None)]  # fmt: skip
