"""Pictures of a fitted survey: association, shares, how answers depend on the latent vector, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import evenly
from pyrozoo.core.picture import Picture
from pyrozoo.data.survey import Survey
from pyrozoo.drawing.labels import on_one_line, short
from pyrozoo.drawing.names import name_inside, name_points
from pyrozoo.drawing.panels import array, bar, grid, panels
from pyrozoo.models.categorical_fa.queries import affordable, response, scores
from pyrozoo.models.categorical_fa.synthesis import association_error, judged, marginal_tv, shares

MOST_NAMED, MOST_ORDERED, MOST_BARS = 24, 200, 16
"""Items up to which matrices of their association name them; neighbours in the tree of items are ordered too, which
takes long beyond; and shares are bars, where those of more are points along a diagonal."""

MOST_ITEMS, MOST_REGIONS = 12, 6
"""Items with colours or panels of their own, and those of which the most probable category is drawn over the plane."""

MOST_TIPS, MOST_MARKED = 24, 8
"""Categories that are named where items have no colours of their own; categories of all items alike up to which each
has a mark of its own."""

MOST_ROWS, MOST_DRAWS = 2000, 50
"""Rows whose scores are drawn, evenly chosen; posterior draws behind response curves and scores."""

MOST_WORK, LEAST_DRAWS = 1e9, 4
"""Multiplications behind scores, a few seconds, and draws behind them in any case, where there are so many."""

MOST_DIMENSIONS, MOST_FITS, MOST_ELEMENTS = 6, 8, 36
"""Latent dimensions whose uncertainty is drawn, the first ones; fits whose association is drawn; elements of a latent
covariance that are drawn: all of eight dimensions."""

REACH, CURVE_POINTS, PLANE_POINTS = 3.0, 121, 101
"""How far curves and planes reach, in standard deviations of the latent vector, and their points along one axis."""

FLOOR, LEAST_GAP = 0.2, 0.05
"""Depth of the histograms of scores below response curves, which end at 0 and 1; least end of the scale of differences,
so that small ones look small."""

MARKS = "osD^vP*X"
DATA, SYNTHETIC, BLANK = "0.35", "C1", "0.85"


def some_rows(fit: Fit) -> tuple[Survey, Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Return some of the rows, evenly chosen, with means and standard deviations of their latent vectors."""
    survey, part = fit.data, fit.data
    if survey.shape[0] > MOST_ROWS:
        part = survey.batch(evenly(survey.shape[0], MOST_ROWS).to(survey.values.device))
    layout = fit.model.layout(part)
    mean, sd = scores(layout, affordable(layout, fit.aligned, MOST_DRAWS, LEAST_DRAWS, MOST_WORK))
    return part, array(mean), array(sd)


# Association ----------------------------------------------------------------------------------------------------------


def item_order(association: np.ndarray) -> np.ndarray:
    """Return an order of items in which those of strong association stand together, [D]."""
    if len(association) < 3:
        return np.arange(len(association))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = squareform(1 - np.clip(association, 0, 1), checks=False)
    return leaves_list(linkage(distance, "average", optimal_ordering=len(association) <= MOST_ORDERED))


def association(fit: Fit) -> Picture:
    """Draw the association of every pair of items in the data and in synthetic rows, and the difference."""
    survey, D = fit.data, fit.data.shape[1]
    seen, drawn = array(survey.cramers_v()), array(survey.cramers_v(judged(fit)))
    order = item_order(seen)
    common = array(survey.observed.double().mT @ survey.observed.double())
    blank = (common == 0) | np.eye(D, dtype=bool)  # an item with itself says nothing
    most = max(float(np.max(np.where(blank, 0.0, np.maximum(seen, drawn)))), LEAST_GAP)
    apart = max(float(np.max(np.where(blank, 0.0, np.abs(drawn - seen)))), LEAST_GAP)
    matrices = (
        ("the data", seen, "viridis", 0.0, most),
        ("synthetic rows", drawn, "viridis", 0.0, most),
        ("synthetic - data", drawn - seen, "RdBu_r", -apart, apart),
    )
    named = D <= MOST_NAMED
    side, beside = (max(2.2, 0.125 * D), (2.7, 1.4)) if named else (3.0, (1.8, 0.8))
    figure, every = panels(3 * side + beside[0], side + beside[1], 1, 3, layout="compressed")
    labels, images = [short(survey.column_labels[i], 18) for i in order], []
    for axes, (title, matrix, colours, low, high) in zip(every, matrices, strict=True):
        shown = np.ma.masked_array(matrix, blank)[np.ix_(order, order)]
        colour_map = mpl.colormaps[colours].with_extremes(bad=BLANK)
        images.append(axes.imshow(shown, cmap=colour_map, vmin=low, vmax=high, interpolation="nearest"))
        axes.set_title(title, fontsize=10)
        if named:
            axes.set_xticks(range(D), labels, rotation=90, fontsize=7)
            axes.set_yticks(range(D), labels if axes is every[0] else [], fontsize=7)
        else:
            axes.set(xticks=[], yticks=[], xlabel=f"{D} items")
    bar(figure, images[1], list(every[:2]), "Cramér's V", 8, shrink=0.8, pad=0.02)
    bar(figure, images[2], every[2], "difference", 8, shrink=0.8, pad=0.03)
    return Picture("association", _association_caption(fit, common), figure)


def _association_caption(fit: Fit, common: Float[np.ndarray, "D D"]) -> str:
    error = float(fit.metrics.get("mean_association_error", association_error(fit.data, judged(fit))))
    naive = fit.metrics.get("independent_association_error")
    beside = "" if naive is None else f"; independent columns are {float(naive):.3f} off"
    # E chi^2 = (I - 1)(J - 1) for independent items, of which V divides by the smaller.
    sizes = np.array(fit.data.categories) - 1
    pairs = np.tri(len(sizes), k=-1, dtype=bool) & (common > 0)
    chance = np.sqrt(np.maximum.outer(sizes, sizes)[pairs] / common[pairs])
    by_chance = f" By chance alone independent items have a V of about {chance.mean():.2f} here." if len(chance) else ""
    grey = " Grey where no row answers both." if (common == 0).any() else ""
    return (
        "Cramér's V of every pair of items. Synthetic rows should have the data's blocks. "
        f"They are {error:.3f} off on average{beside}.{by_chance}{grey}"
    )


def associations(fits: Sequence[Fit], names: Sequence[str]) -> Picture | None:
    """Draw the association in synthetic rows of each fit against the data's."""
    several = [(i, fit, name) for i, (fit, name) in enumerate(zip(fits, names, strict=True)) if fit.data.shape[1] > 1]
    shown = several[:MOST_FITS]
    if not shown:
        return None
    more = {"layout": "compressed", "sharey": True}
    figure, every = _panels(len(shown), 4, (2.4, 2.9), (0.6, 0.2), "V in the data", "V in synthetic rows", **more)
    most = 0.1
    for axes, (place, fit, name) in zip(every, shown, strict=True):
        survey = fit.data
        i, j = np.tril_indices(survey.shape[1], -1)
        seen, drawn = (array(v)[i, j] for v in (survey.cramers_v(), survey.cramers_v(judged(fit))))
        axes.plot(seen, drawn, "o", color=f"C{place}", ms=3.5 if len(i) <= 500 else 1.5, alpha=0.6, mew=0)
        axes.set_title(f"{short(name, 26)}\nmean error {np.abs(drawn - seen).mean():.3f}", fontsize=8)
        most = max(most, float(seen.max()), float(drawn.max()))
    for axes in every:
        _equal(axes, 1.05 * most)
    some = f" The first {MOST_FITS} of {len(several)} fits." if len(several) > MOST_FITS else ""
    return Picture(
        "associations",
        "Cramér's V of every pair of items, synthetic rows against the data. Below the line, the fit misses an "
        f"association.{some}",
        figure,
    )


# Shares ---------------------------------------------------------------------------------------------------------------


def marginals(fit: Fit) -> Picture:
    """Draw the share of every category in the data and in synthetic rows."""
    survey, few = fit.data, fit.data.shape[1] <= MOST_BARS
    seen, drawn = ([array(each) for each in shares(survey, values)] for values in (survey.values, judged(fit)))
    figure = (_bars if few else _diagonal)(survey, seen, drawn)
    one, other = np.concatenate(seen), np.concatenate(drawn)
    worst = int(np.abs(other - one).argmax())
    category = on_one_line(survey.coords["category"][worst], 50)
    moved = marginal_tv(survey, judged(fit))
    whiskers = " Whiskers are two standard errors of the data." if few else ""
    return Picture(
        "marginals",
        "Share of every category, in the data and in synthetic rows. On average "
        f"{moved:.1%} of an item's answers would have to move. They differ most for {category}: {one[worst]:.3f} in "
        f"the data, {other[worst]:.3f} in synthetic rows.{whiskers}",
        figure,
    )


def _bars(survey: Survey, seen: list[np.ndarray], drawn: list[np.ndarray]) -> Figure:
    D, sizes, across = survey.shape[1], survey.categories, 4
    longest = [max(sizes[i : i + across]) for i in range(0, D, across)]
    heights = [0.2 + 0.17 * size for size in longest]
    tall = sum(heights) / len(heights) + 0.35
    figure, every = _panels(D, across, (2.5, tall), (0.0, 0.6), "share", "", gridspec_kw={"height_ratios": heights})
    same = len(set(survey.levels)) == 1  # then the first column names them for all
    answers = survey.observed.sum(0).tolist()
    end = 1.08 * max(float(each.max()) for each in (*seen, *drawn))
    for item, axes in enumerate(every):
        place = np.arange(sizes[item])
        error = 2 * np.sqrt(seen[item] * (1 - seen[item]) / max(1, answers[item]))
        axes.barh(place - 0.2, seen[item], 0.4, color=DATA, xerr=error, error_kw={"lw": 0.8, "ecolor": "black"})
        axes.barh(place + 0.2, drawn[item], 0.4, color=SYNTHETIC)
        names = [short(level, 20 if same else 14) for level in survey.levels[item]]
        axes.set_yticks(place, names if not same or item % across == 0 else [""] * len(names), fontsize=7)
        axes.set(ylim=(longest[item // across] - 0.4, -0.6), xlim=(0, end))
        axes.set_title(short(survey.column_labels[item], 24), fontsize=8)
    handles = [Patch(color=DATA, label="the data"), Patch(color=SYNTHETIC, label="synthetic rows")]
    _legend(figure, handles, "lower center", ncols=2)
    return figure


def _diagonal(survey: Survey, seen: list[np.ndarray], drawn: list[np.ndarray]) -> Figure:
    figure, axes = panels(5.4, 5.0)
    x, y = np.concatenate(seen), np.concatenate(drawn)
    axes.plot(x, y, "o", color=SYNTHETIC, ms=4 if len(x) <= 300 else 2, alpha=0.6, mew=0)
    _equal(axes, 1.05 * max(float(x.max()), float(y.max())))
    axes.set(xlabel="share in the data", ylabel="share in synthetic rows")
    axes.set_title(f"{len(x)} categories of {survey.shape[1]} items", fontsize=10)
    return figure


# Categories and the latent vector -------------------------------------------------------------------------------------


def categories(fit: Fit, mean: Float[np.ndarray, "n d"]) -> Picture:
    """Draw how answers depend on the latent vector, whose posterior means of some rows are given."""
    if fit.model.latent_dimension == 1:
        return _curves(fit, mean)
    return _regions(fit, mean) if fit.model.hidden_units else _biplot(fit, mean)


class _Tip(NamedTuple):
    """A direction of a biplot: where it ends, the item, how it looks and is called, and whether it has a line."""

    place: Float[np.ndarray, 2]
    item: int
    colour: str
    mark: str
    name: str
    strong: bool


def _biplot(fit: Fit, mean: Float[np.ndarray, "n d"]) -> Picture:
    """Draw the scores of rows, and the directions in which the categories of every item become more probable."""
    model, survey = fit.model, fit.data
    titles, levels, loadings = _directions(fit)
    origin = _prior(fit)[0][:2]
    radius, length = np.linalg.norm(mean[:, :2] - origin, axis=1), np.linalg.norm(loadings, axis=1)
    scale = 0.95 * (float(np.quantile(radius, 0.98)) or 1.0) / (float(length.max()) or 1.0)
    coloured, several = len(titles) <= MOST_ITEMS, len(titles) > 1
    marked = several and len(set(levels)) == 1 and len(levels[0]) <= MOST_MARKED
    colours = [*(f"C{i}" for i in range(10)), "black", "saddlebrown"] if coloured else ["C0"] * len(titles)
    palette = [(colours[i], short(title, 22)) for i, title in enumerate(titles)]
    ends = [(i, k) for i, each in enumerate(levels) for k in range(len(each))]
    tips: list[_Tip] = []
    for rank, t in enumerate(np.argsort(-length, kind="stable")):
        i, k = ends[t]
        name = f"{short(titles[i], 16)}={short(levels[i][k], 10)}"
        if coloured:  # marks tell answers, so that items are to be named
            name = short(titles[i], 18) if marked else short(levels[i][k], 14)
        mark = MARKS[k] if marked else "o"
        tips.append(_Tip(origin + scale * loadings[t], i, palette[i][0], mark, name, coloured or rank < MOST_TIPS))
    figure, axes = _plane(mean, origin, tips, 8.0 if coloured and several else 6.6)
    if coloured and several:
        handles = [Line2D([], [], color=colour, lw=2, label=title) for colour, title in palette]
        _legend(figure, handles, "right upper", title="item", alignment="left")
    if marked:
        pairs = zip(MARKS, levels[0], strict=False)
        handles = [Line2D([], [], color="0.3", marker=m, ls="", ms=5, label=short(level, 22)) for m, level in pairs]
        _legend(figure, handles, "right lower", title="answer", alignment="left")
    named = [tip for tip in tips if tip.strong]
    if marked and coloured:  # once, at the longest of an item's directions
        named = [tip for n, tip in enumerate(tips) if tip.item not in {other.item for other in tips[:n]}]
    points = [(tip.place, tip.place - origin, tip.name, tip.colour) for tip in named]
    kept = name_points(figure, axes, points, np.stack([tip.place for tip in tips]))
    which = "the first two of the latent dimensions" if model.latent_dimension > 2 else "the two latent dimensions"
    some = f" (grey, {len(mean)} of {survey.shape[0]})" if len(mean) < survey.shape[0] else " (grey)"
    left_out = " Names without room are left out." if kept < len(named) or not coloured else ""
    turn = " Signs and the rotation are a convention." if model.loadings == "free" else ""
    return Picture(
        "categories",
        f"Rows{some} in {which}. Each direction is where an answer becomes likelier (its loading, times {scale:.2g}). "
        "The same rows give answers that point the same way. Long directions tell rows apart."
        f"{turn}{left_out}",
        figure,
    )


def _plane(
    mean: Float[np.ndarray, "n d"], origin: Float[np.ndarray, 2], tips: Sequence[_Tip], width: float
) -> tuple[Figure, Axes]:
    figure, axes = panels(width, 6.4)
    axes.plot(*mean[:, :2].T, "o", color="0.6", ms=2.5, alpha=0.5, mew=0, zorder=1)
    for tip in tips:
        if tip.strong:
            axes.plot(*np.stack([origin, tip.place]).T, color=tip.colour, lw=0.9, alpha=0.6, zorder=2)
        size, alpha = (5.0, 1.0) if tip.strong else (3.5, 0.5)
        axes.plot(*tip.place, tip.mark, color=tip.colour, ms=size, mew=0, alpha=alpha, zorder=3)
    every = np.concatenate([mean[:, :2], [tip.place for tip in tips]])
    low, high = every.min(0), every.max(0)
    half = 0.5 * 1.16 * max(float((high - low).max()), 1e-3)
    (left, bottom), (right, top) = 0.5 * (low + high) - half, 0.5 * (low + high) + half
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set(xlabel="latent dimension 0", ylabel="latent dimension 1")
    axes.tick_params(labelsize=8)
    axes.axhline(origin[1], color="0.9", lw=0.8, zorder=0)
    axes.axvline(origin[0], color="0.9", lw=0.8, zorder=0)
    return figure, axes


def _directions(fit: Fit) -> tuple[list[str], list[tuple[str, ...]], Float[np.ndarray, "P 2"]]:
    """Return items, the levels of each, and loadings of all categories centred per item, in two dimensions.

    Items of the same stated loadings count as one.
    """
    model, survey = fit.model, fit.data
    titles, levels = [str(label) for label in survey.column_labels], list(survey.levels)
    if model.shared:
        titles, levels = ["every item"], [_common_levels(survey)]
    if model.loadings == "fixed":
        loadings = np.array(model.stated_loadings([len(each) for each in levels]))
    else:
        free = np.array([k < len(each) - 1 for each in levels for k in range(len(each))])
        loadings = np.zeros((len(free), model.width))
        loadings[free] = array(fit.aligned.means()["loadings"])
    parts = np.split(loadings[:, :2], np.cumsum([len(each) for each in levels])[:-1])
    return titles, levels, np.concatenate([part - part.mean(0) for part in parts])


def _common_levels(survey: Survey) -> tuple[str, ...]:
    """Return the categories of items of equal numbers of them: their names, where all items call them the same."""
    first = survey.levels[0]
    return tuple(first) if all(each == first for each in survey.levels) else tuple(map(str, range(len(first))))


def _curves(fit: Fit, mean: Float[np.ndarray, "n 1"]) -> Picture:
    """Draw the probability of every category over a latent variable of one dimension."""
    (centre,), (sd,) = _prior(fit)
    t = np.linspace(-REACH, REACH, CURVE_POINTS)
    z = centre + sd * t
    prob = _response(fit, z[:, None])
    chosen, titles, levels = _most_telling(fit, prob, np.exp(-0.5 * t**2), MOST_ITEMS)
    figure, every = _panels(len(chosen), 4, (2.5, 1.9), (0.0, 0.9), "latent variable", "probability", sharey=True)
    same = _name_colours(figure, [levels[i] for i in chosen])
    counts, edges = np.histogram(np.clip(mean[:, 0], z[0], z[-1]), bins=40, range=(z[0], z[-1]))
    for axes, i in zip(every, chosen, strict=True):
        axes.stackplot(z, prob[i], colors=_ramp(len(prob[i])), lw=0.4, edgecolor="white")
        axes.stairs(0.9 * FLOOR * counts / max(1, counts.max()) - FLOOR, edges, baseline=-FLOOR, fill=True, color="0.5")
        axes.set(xlim=(z[0], z[-1]), ylim=(-FLOOR, 1), yticks=[0, 0.5, 1])
        axes.set_title(short(titles[i], 24), fontsize=8)
    if not same:
        figure.draw_without_rendering()
        for axes, i in zip(every, chosen, strict=True):
            _name_bands(axes, z, prob[i], levels[i])
    one = "; all items are alike" if fit.model.exchangeable and fit.data.shape[1] > 1 else ""
    few = f"; the {len(chosen)} of {len(titles)} items that tell most of it" if len(chosen) < len(titles) else one
    return Picture(
        "categories",
        f"How probable each answer is over the latent variable, within {REACH:g} of its sds{few}. Where bands change "
        "fast, the item tells rows apart. Below: where rows are.",
        figure,
    )


def _name_bands(axes: Axes, z: np.ndarray, prob: Float[np.ndarray, "K G"], levels: Sequence[str]) -> None:
    """Name the bands of a panel that are wide enough."""
    below, colours = np.cumsum(prob, 0) - prob, _ramp(len(prob))
    taken: list[Bbox] = []
    for k in np.argsort(-prob.max(1), kind="stable"):
        # Where the band is wide: in the middle of that part, for it may reach an end.
        wide = np.flatnonzero(prob[k] >= 0.93 * prob[k].max())
        place = int(wide[len(wide) // 2])
        if prob[k, place] >= 0.15:
            point = z[place], below[k, place] + 0.5 * prob[k, place]
            name_inside(axes, point, short(levels[k], 14), colours[k], taken)


def _regions(fit: Fit, mean: Float[np.ndarray, "n d"]) -> Picture:
    """Draw the most probable category over the first two latent dimensions."""
    centre, sd = _prior(fit)
    t = np.linspace(-REACH, REACH, PLANE_POINTS)
    x, y = centre[0] + sd[0] * t, centre[1] + sd[1] * t
    z = np.tile(centre, (PLANE_POINTS**2, 1))
    z[:, 0], z[:, 1] = (each.ravel() for each in np.meshgrid(x, y))
    prob = _response(fit, z)
    weight = np.exp(-0.5 * (t[:, None] ** 2 + t**2)).ravel()
    chosen, titles, levels = _most_telling(fit, prob, weight, MOST_REGIONS)
    names = "latent dimension 0", "latent dimension 1"
    figure, every = _panels(len(chosen), 3, (3.0, 3.0), (0.4, 0.4), *names, sharey=True)
    for axes, i in zip(every, chosen, strict=True):
        colours = np.array([to_rgb(colour) for colour in _ramp(len(prob[i]))])
        best, size = prob[i].argmax(0), len(prob[i])
        sure = 0.25 + 0.75 * (prob[i].max(0) * size - 1) / (size - 1)
        image = np.clip(1 - sure[:, None] * (1 - colours[best]), 0, 1).reshape(PLANE_POINTS, PLANE_POINTS, 3)
        axes.imshow(image, origin="lower", extent=(x[0], x[-1], y[0], y[-1]), interpolation="nearest", aspect="equal")
        axes.plot(*mean[:, :2].T, ".", color="black", ms=1.5, alpha=0.25, mew=0)
        axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
        axes.set_title(short(titles[i], 28), fontsize=9)
    if not _name_colours(figure, [levels[i] for i in chosen]):
        figure.draw_without_rendering()
        for axes, i in zip(every, chosen, strict=True):
            _name_regions(axes, x, y, prob[i], levels[i])
    few = f" Shown are the {len(chosen)} of {len(titles)} items that tell most." if len(chosen) < len(titles) else ""
    rest = ", the others at their means" if fit.model.latent_dimension > 2 else ""
    return Picture(
        "categories",
        f"The most probable answer over the first two latent dimensions{rest}, within {REACH:g} sds. The stronger the "
        "colour, the surer. Hidden units bend the borders. Dots are rows."
        f"{few}",
        figure,
    )


def _name_regions(
    axes: Axes, x: np.ndarray, y: np.ndarray, prob: Float[np.ndarray, "K G"], levels: Sequence[str]
) -> None:  # fmt: skip
    """Name the regions of a panel where they are deepest, large ones first."""
    from scipy.ndimage import distance_transform_edt

    best = prob.argmax(0).reshape(len(y), len(x))
    taken: list[Bbox] = []
    for k in np.argsort(-np.bincount(best.ravel(), minlength=len(prob)), kind="stable"):
        depth = distance_transform_edt(np.pad(best == k, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        if depth.max() >= 2:
            name_inside(axes, (float(x[column]), float(y[row])), short(levels[k], 14), None, taken)


def _response(fit: Fit, z: Float[np.ndarray, "G d"]) -> list[Float[np.ndarray, "K G"]]:
    layout = fit.model.layout(fit.data.first(1))  # which gives the items
    return [array(each) for each in response(layout, fit.aligned, torch.as_tensor(z), MOST_DRAWS)]


def _most_telling(
    fit: Fit, prob: list[np.ndarray], weight: np.ndarray, most: int
) -> tuple[list[int], list[str], list[tuple[str, ...]]]:
    """Return the items that tell most of the latent vector, in the data's order, and names of all items and levels.

    They are those of the largest mutual information, over points of these weights. Items that are alike count as one.
    """
    survey = fit.data
    if fit.model.exchangeable:
        return [0], ["every item" if survey.shape[1] > 1 else str(survey.column_labels[0])], [_common_levels(survey)]
    share = weight / weight.sum()

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(np.maximum(p, 1e-300))).sum(0)

    told = np.array([float(entropy(p @ share) - entropy(p) @ share) for p in prob])
    chosen = sorted(np.argsort(-told, kind="stable")[:most].tolist())
    return chosen, [str(label) for label in survey.column_labels], list(survey.levels)


# Uncertainty ----------------------------------------------------------------------------------------------------------


def uncertainty(fit: Fit, part: Survey, sd: Float[np.ndarray, "n d"]) -> Picture:
    """Draw how sure latent vectors are, whose posterior standard deviations of some rows are given."""
    d, prior = fit.model.latent_dimension, _prior(fit)[1]
    shown = min(MOST_DIMENSIONS, d)
    answers = part.observed.sum(1).cpu().numpy()
    missing = len(np.unique(answers)) > 1
    across = min(3, shown)
    blocks, each = -(-shown // across), 1 + missing
    size = 3.1 * across + (2.0 if across == 1 else 0.4), 2.3 * blocks * each + 0.3
    figure, every = panels(*size, blocks * each, across, squeeze=False)
    for axes in every.flat:
        axes.set_axis_off()
        axes.tick_params(labelsize=7)
    told = 1 - (sd**2).mean(0) / prior**2
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(answers))
    for s in range(shown):
        block, column = divmod(s, across)
        top, *below = every[block * each : (block + 1) * each, column]
        end = 1.08 * max(float(sd[:, s].max()), prior[s])
        top.set_axis_on()
        top.hist(sd[:, s], bins=40, range=(0, end), color="C0")
        top.axvline(prior[s], color="C3", ls="--", lw=1.2)
        top.set_title(f"latent dimension {s}: answers tell {told[s]:.0%}", fontsize=9)
        top.set(xlim=(0, end))
        top.set_xlabel("posterior sd of a row", fontsize=8)
        top.set_ylabel("" if column else "rows", fontsize=8)
        for axes in below:
            axes.set_axis_on()
            axes.plot(answers + jitter, sd[:, s], "o", color="C0", ms=2.5, alpha=0.35, mew=0)
            axes.axhline(prior[s], color="C3", ls="--", lw=1.2)
            axes.set(ylim=(0, end))
            axes.set_xlabel(f"answers that the row gave, of {fit.data.shape[1]}", fontsize=8)
            axes.set_ylabel("" if column else "posterior sd", fontsize=8)
            axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, [Line2D([], [], color="C3", ls="--", lw=1.2, label="sd before any answer")], "lower center")
    first = f" The first {shown} of {d} dimensions." if shown < d else ""
    few = "Rows of few answers lie to the left in the lower panels (jittered), near the line."
    by_answers = f" {few}" if missing else ""
    return Picture(
        "uncertainty",
        "Sds of rows, given their answers. They should lie far left of the dashed line, where a row without answers "
        f"is. Titles say how much of the variance answers explain.{by_answers}{first}",
        figure,
    )


# Several fits ---------------------------------------------------------------------------------------------------------


def covariances(fits: Sequence[Fit], names: Sequence[str]) -> Picture | None:
    """Draw the latent covariance that each fit estimates, beside the truth where it is known."""
    free = [(i, fit, fit.draws["latent_covariance"]) for i, fit in enumerate(fits) if "latent_covariance" in fit.draws]
    if not free:
        return None
    shape = free[0][2].shape[2:]
    shown = [each for each in free if each[2].shape[2:] == shape]
    row, column = (index[:MOST_ELEMENTS] for index in np.tril_indices(shape[0]))
    known = (fit.data.truth.get("latent_covariance") for _, fit, _ in shown)
    truth = next((each for each in known if each is not None and each.shape == shape), None)
    place = np.arange(len(row))
    figure, axes = panels(min(12.0, max(5.0, 2.4 + 0.1 * len(row) * (len(shown) + 2))), 3.6)
    if truth is not None:
        axes.hlines(array(truth)[row, column], place - 0.45, place + 0.45, color="black", lw=1.2, label="the truth")
    for k, (i, _, draws) in enumerate(shown):
        x = place + 0.7 * ((k + 0.5) / len(shown) - 0.5)
        flat = array(draws.flatten(0, 1))[:, row, column]
        if len(flat) > 1:
            axes.vlines(x, *np.quantile(flat, [0.05, 0.95], axis=0), color=f"C{i}", lw=1.2, alpha=0.6)
        axes.plot(x, flat.mean(0), "o", color=f"C{i}", ms=4, label=short(names[i], 26))
    for edge in place[1:] - 0.5:
        axes.axvline(edge, color="0.92", lw=0.8, zorder=0)
    axes.axhline(0, color="0.7", lw=0.8, zorder=0)
    axes.set_xticks(place, [f"{i}, {j}" for i, j in zip(row, column, strict=True)], fontsize=7,
                    rotation=90 if len(row) > 15 else 0)  # fmt: skip
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlim=(-0.5, len(row) - 0.5), xlabel="latent dimensions", ylabel="covariance")
    _legend(figure, None, "right upper")
    bars = " Bars are 90% intervals." if any(draws.shape[:2].numel() > 1 for _, _, draws in shown) else ""
    aim = "dots should lie on the black lines, the truth" if truth is not None else "the truth is not known"
    some = f" The first {len(row)} elements." if len(row) < shape[0] * (shape[0] + 1) // 2 else ""
    caption = f"Variances and covariances of the latent dimensions, by method; {aim}.{bars}{some}"
    return Picture("latent_covariance", caption, figure)


# Parts ----------------------------------------------------------------------------------------------------------------


def _prior(fit: Fit) -> tuple[Float[np.ndarray, d], Float[np.ndarray, d]]:
    """Return mean and standard deviation of the latent vector of a row without answers."""
    mean, like = fit.aligned.means(), torch.ones(fit.model.latent_dimension)
    covariance = mean.get("latent_covariance", torch.diag(like))
    return array(mean.get("latent_mean", 0 * like)), array(covariance.diagonal().sqrt())


def _panels(
    count: int, across: int, each: tuple[float, float], beside: tuple[float, float], x: str, y: str, **more: Any
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """Return a grid of panels (see ``grid``) over one horizontal axis, what axes are named at the edges only."""
    figure, every = grid(count, across, each, beside, least=2, sharex=True, **more)
    for k, axes in enumerate(every):
        axes.tick_params(labelsize=7)
        if k + min(across, count) >= count:  # nothing below
            axes.set_xlabel(x, fontsize=8)
            axes.tick_params(labelbottom=True)
        if k % across == 0:
            axes.set_ylabel(y, fontsize=8)
    return figure, every


def _equal(axes: Axes, end: float) -> None:
    """Draw the diagonal of two equal axes from 0."""
    axes.plot([0, end], [0, end], color="0.6", lw=0.8, zorder=0)
    axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")


def _legend(figure: Figure, handles: Sequence[Any] | None, where: str, **more: Any) -> None:
    given = {} if handles is None else {"handles": handles}
    figure.legend(loc=f"outside {where}", fontsize=8, frameon=False, **given, **more)


def _name_colours(figure: Figure, levels: Sequence[tuple[str, ...]]) -> bool:
    """Name the colours of categories below the figure, if all items have the same few; return whether they have."""
    if len(set(levels)) > 1 or len(levels[0]) > MOST_MARKED:
        return False
    ramp = zip(_ramp(len(levels[0])), levels[0], strict=True)
    handles = [Patch(color=colour, label=short(level, 24)) for colour, level in ramp]
    _legend(figure, handles, "lower center", ncols=min(4, len(handles)))
    return True


def _ramp(size: int) -> list[str]:
    """Return colours of categories in order."""
    return [to_hex(mpl.colormaps["viridis"](each)) for each in np.linspace(0.15, 0.88, max(2, size))]
