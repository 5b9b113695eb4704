"""What is shown of a fitted factorization: genres, loadings, recommendations, rates, held-out counts, ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture
from pyrozoo.data.triplets import Triplets
from pyrozoo.drawing.labels import counted, drawable, families, percent
from pyrozoo.drawing.panels import array, bar, grid, panels
from pyrozoo.drawing.predictions import calibration
from pyrozoo.drawing.scenes import MOST_COLUMNS as MOST_SEEN
from pyrozoo.drawing.scenes import MOST_LINES, heatmap, some
from pyrozoo.models.poisson_mf import queries
from pyrozoo.models.poisson_mf.likelihood import exposed
from pyrozoo.models.poisson_mf.queries import BLOCK, RATE_DRAWS, cell_rates, expected_rates, factors

MOST_GENRES, LISTED, ACROSS = 12, 8, 4
"""Factors whose top columns are listed, the largest first; columns listed of each; lists side by side."""

MOST_FACTORS, MOST_COLUMNS = 20, 60
"""Factors of a heat map, the largest first, and columns, each of which is named."""

MOST_SHARES, MOST_NAMED = 60, 30
"""Rows whose factors are shown, and rows up to which each is named."""

IMAGE = 100, 1000
"""Most rows and columns of an image of rates."""

MOST_POINTS, MOST_CELLS, MOST_INTERVALS = 2000, 50_000, 300
"""Cells up to which each is a point, more are counted in squares; listed cells whose counts are compared with what is
expected; and hidden entries shown with intervals."""

FAINT, DYNAMIC = 0.01, 1e4
"""Rate below which cells are hardly ever above 0, so that the data say next to nothing of how far below; largest over
smallest rate that colours tell apart where all are faint."""

LINEAR = 20
"""Largest count up to which axes of counts are linear: over few powers of ten a logarithmic one has hardly a tick."""

MOST_RECOMMENDED = 100
"""Longest list of recommendations that is judged."""

BLUES = ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0.25, 1, 256)))
"""For numbers of cells: the fewest can be told from none."""


class View(view.View):
    """Figures, tables and pictures of a factorization."""

    main = ("genres",)
    moves = ("column_factors",)
    rows_have_own = True
    recommends = True

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene:
        """Return the counts that are expected of some rows and columns."""
        lines, columns = some(fit.data.shape[0], MOST_LINES), some(fit.data.shape[1], MOST_SEEN)

        def expected(then: Fit) -> Tensor:
            theta, eta = then.draws["row_factors"].nan_to_num(), then.draws["column_factors"]
            theta = exposed(theta, fit.data)
            found = theta[:, :, lines.to(theta.device)] @ eta[:, :, columns.to(eta.device)].mT
            return found.mean((0, 1)).sqrt()

        names = [fit.data.row_labels[int(i)] for i in lines], [fit.data.column_labels[int(j)] for j in columns]
        said = "Counts that are expected of some rows and columns, square roots."
        return heatmap("reconstruction", said, "row", "column", expected, names[0], names[1])

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the model's own figures: the ELBO per count, and how well hidden columns are ranked.

        ``baseline_elpd`` is what ``holdout_elpd`` would be without factors (``queries.independent``).
        """
        data, result = fit.data, {}
        total = float(data.counts.sum())
        if fit.objective_name.startswith("elbo") and total > 0:
            result["elbo_per_count"] = fit.objective / total
        if data.hidden is not None and len(data.hidden.values):
            x, rate = data.hidden.values, queries.independent(data)
            result["baseline_elpd"] = (torch.xlogy(x, rate) - rate - torch.lgamma(x + 1)).mean().item()
        if data.hidden is not None and bool((data.hidden.values > 0).any()):
            for prefix, score in zip(("", "popularity_"), queries.scores(fit.draws, data), strict=True):
                result |= {f"{prefix}{name}": value for name, value in queries.ranking(data, score).items()}
        return result

    def tables(self, fit: Fit) -> view.Tables:
        """Return genres, recommendations, similar columns, factors of rows, held-out counts.

        ``test_recommendations`` are those of new rows, folded in; ``holdout`` entries whose true count is known;
        ``missing`` those that nobody knows.
        """
        data, mean = fit.data, fit.aligned.means()
        result: dict[str, Callable[[], pd.DataFrame]] = {
            "genres": partial(queries.genres, mean, data),
            "recommendations": partial(queries.recommend, fit.draws, data),
            "similar": partial(queries.similar, mean, data),
            "row_factors": partial(_parts, mean["row_factors"], data),
        }
        if data.test is not None:
            new = cache(partial(queries.fold_in, fit.posterior, fit.draws, data.test))

            def factors() -> pd.DataFrame:
                return _parts(Draws(fit.posterior.align(new(), fit.aligned)).means()["row_factors"], data.test)

            result["test_recommendations"] = lambda: queries.recommend(new(), data.test)
            result["test_row_factors"] = factors
        return view.Tables(result) | self.predicted(fit)

    def draws_of(self, fit: Fit, part: Any) -> Draws:
        """Return draws with the factors of the rows, new ones folded in."""
        return fit.draws if part is fit.data else Draws(queries.fold_in(fit.posterior, fit.draws, part))

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return each row's factors and how unsure they are."""
        own = part is fit.data
        return view.own_factors(fit.aligned if own else Draws(queries.fold_in(fit.posterior, fit.aligned, part)), part)

    def recommend(self, fit: Fit, draws: Draws, part: Any, rows: Sequence[int], count: int) -> pd.DataFrame:
        """Return the columns that rows do not list, by expected count."""
        return queries.recommend(draws, part, list(rows), count).drop(columns="seen")

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return genres, loadings, rates (true ones where they are known), and what was hidden."""
        data: Triplets = fit.data
        mean = fit.aligned.means()
        theta, eta = (mean[site].nan_to_num() for site in ("row_factors", "column_factors"))
        true = [data.truth[site] for site in ("row_factors", "column_factors") if site in data.truth]
        known = len(true) == 2 and tuple(map(len, true)) == data.shape
        theta = exposed(theta, data)  # shares are of what is expected of these rows
        result = [partial(_genres, theta, eta, data), partial(_loadings, theta, eta, data)]
        if known or len(data.values):
            result.append(partial(_true_rates, fit, *true) if known else partial(_listed_rates, fit))
        if data.hidden is not None and len(data.hidden.values):
            result.append(partial(_holdout, fit))
            if bool((data.hidden.values > 0).any()) and data.shape[1] > 1:
                result.append(partial(_ranking, fit))
        return view.Pictures(*result)


def _parts(theta: Float[Tensor, "N K"], data: Triplets) -> pd.DataFrame:
    """Return each row's expected total and the factors' parts of it."""
    total = exposed(theta, data).sum(1, keepdim=True)
    rows = {"row": list(data.row_labels), "expected_total": total[:, 0].cpu()}
    return pd.DataFrame({**rows, **view.numbered("factor", exposed(theta, data) / total)})


# Factors --------------------------------------------------------------------------------------------------------------


def _genres(theta: Float[Tensor, "N K"], eta: Float[Tensor, "M K"], data: Triplets) -> Picture:
    shares, order = _shares(theta)
    count, lines = min(MOST_GENRES, len(order)), min(LISTED, len(eta))
    close = ConstrainedLayoutEngine(wspace=0.04, hspace=0.04)
    figure, every = grid(count, ACROSS, (2.7 if count > 1 else 3.0, 0.42 + 0.17 * lines), layout=close)
    for axes, k in zip(every, order.tolist(), strict=False):
        axes.set_axis_off()
        weights, top = (each[:lines] for each in eta[:, k].sort(descending=True, stable=True))
        sizes, y = array(weights), np.arange(lines)
        axes.barh(y, sizes / (sizes.max() or 1.0), height=0.84, color="#c6dbef")
        for i, j in enumerate(top.tolist()):
            style: dict[str, Any] = {"va": "center_baseline", "fontsize": 7.5}
            axes.text(0.012, i, drawable(data.column_labels[j], j), family=families(), **style)
            axes.text(1.2, i, percent(sizes[i]), ha="right", color="0.45", **style)
        axes.set(xlim=(0, 1.2), ylim=(lines - 0.5, -0.5))
        axes.set_title(f"factor {k}: {percent(shares[k])} of all", fontsize=9, loc="left", pad=3, fontweight="bold")
    some = counted(count, "factor", of=len(order))
    return Picture(
        "genres",
        f"The columns with the largest weights in {some}. Do the names of a list belong together? Numbers are parts of "
        "the factor, titles its share of all that is expected.",
        figure,
    )


def _loadings(theta: Float[Tensor, "N K"], eta: Float[Tensor, "M K"], data: Triplets) -> Picture:
    shares, order = _shares(theta)
    N, M = data.shape
    shown = order[:MOST_FACTORS]
    count = len(shown)
    each = min(M, LISTED, MOST_COLUMNS // count)
    tops = eta[:, shown].argsort(dim=0, descending=True, stable=True)[:each].T.flatten().tolist()
    columns = list(dict.fromkeys(tops))
    weights = array(eta[columns][:, shown].T)
    rows = evenly(N, MOST_SHARES)
    parts = array((theta[rows] / theta[rows].sum(1, keepdim=True)).nan_to_num()[:, shown])
    sorted_rows = np.lexsort((-parts.max(1), parts.argmax(1)))  # by their largest factor, then by its part
    rows, parts = rows[torch.as_tensor(sorted_rows)], parts[sorted_rows]

    row_names = len(rows) <= MOST_NAMED
    width = max(1.2, 0.12 * len(columns)), max(1.0, 0.12 * len(rows) if row_names else 3.2)
    size = max(5.0, sum(width) + 2.8), 2.3 + 0.19 * count
    figure, (left, right) = panels(*size, 1, 2, width_ratios=width)
    thin = max(8.0, 7 * (size[1] - 1.2))
    # One column may be most of its factor; the scale ends where half of the factors have their largest weight.
    peaks = weights.max(1)
    top = float(np.median(peaks)) or float(peaks.max()) or 1.0
    image = left.imshow(weights, aspect="auto", cmap="viridis", norm=PowerNorm(0.5, 0, top), interpolation="nearest")
    more = "max" if peaks.max() > top else "neither"
    bar(figure, image, left, "weight (√ scale)", pad=0.01, aspect=thin, extend=more)
    names = [drawable(data.column_labels[j], j) for j in columns]
    left.set_xticks(range(len(columns)), names, rotation=90, fontsize=6.5, family=families())
    left.set_yticks(range(count), [f"{k}: {percent(shares[k])}" for k in shown.tolist()], fontsize=7)
    left.set_ylabel("factor: share of all", fontsize=8)
    left.set_title(f"top {each} columns of each factor" if each > 1 else "top column of each factor", fontsize=9)
    image = right.imshow(parts.T, aspect="auto", cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    bar(figure, image, right, "part of the row's total", pad=0.02, aspect=thin)
    right.set_yticks(range(count), [])
    if row_names:
        names = [drawable(data.row_labels[i], i, "row") for i in rows.tolist()]
        right.set_xticks(range(len(rows)), names, rotation=90, fontsize=6.5, family=families())
    else:
        right.set(xticks=[])
        right.set_xlabel("row", fontsize=8)
    right.set_title(f"{len(rows)} of {N} rows" if len(rows) < N else counted(N, "row"), fontsize=9)
    some = f" The {count} largest of {len(order)} factors." if count < len(order) else ""
    return Picture(
        "loadings",
        "Left: a column bright in one line belongs to one factor. Right: a row with one bright cell has one taste, "
        f"with several a mixture.{some}",
        figure,
    )


def _shares(theta: Float[Tensor, "N K"]) -> tuple[np.ndarray, Tensor]:
    """Return each factor's part of all that is expected, and the factors by falling part."""
    mass = theta.sum(0)
    shares = (mass / mass.sum()).nan_to_num()
    return array(shares), shares.argsort(descending=True, stable=True).cpu()


# Rates ----------------------------------------------------------------------------------------------------------------


def _true_rates(fit: Fit, theta: Float[Tensor, "N J"], eta: Float[Tensor, "M J"]) -> Picture:
    of_rows, of_columns = theta * eta.sum(0), eta * theta.sum(0)  # what each factor adds to the totals
    largest = of_rows.sum(0).argsort(descending=True)
    chosen = []
    for part, most in zip((of_rows, of_columns), IMAGE, strict=True):
        index = evenly(len(part), most)
        values = array(part[index][:, largest])
        chosen.append(index[torch.as_tensor(np.lexsort((-values.sum(1), values.argmax(1))))])
    rows, columns = chosen
    true = array(theta[rows] @ eta[columns].T)
    left, right = factors(fit.draws, RATE_DRAWS)
    inferred = array(expected_rates(left[:, rows], right[:, columns]))

    high = float(max(true.max(), inferred.max())) or 1.0
    low = min(max(float(np.quantile(true, 0.01)), min(FAINT, high / DYNAMIC)), high / 10)
    figure, axes = panels(11, 3.7, 1, 3, width_ratios=[1, 1, 1.05])
    for axis, values, title in zip(axes, (true, inferred), ("true rates", "inferred, posterior mean"), strict=False):
        image = axis.imshow(
            values.clip(min=low), aspect="auto", cmap="viridis", norm=LogNorm(low, high),
            interpolation="nearest" if len(columns) <= 300 else "auto",
        )  # fmt: skip
        axis.set(title=title, xlabel="column", xticks=[], yticks=[])
    axes[0].set_ylabel("row")
    less = bool(min(true.min(), inferred.min()) < low)
    figure.colorbar(image, ax=list(axes[:2]), pad=0.02, label="rate", extend="min" if less else "neither")
    ends = low / 1.15, high * 1.15
    _density(figure, axes[2], true.ravel(), inferred.ravel(), ends, ends)
    axes[2].plot(ends, ends, color="C3", lw=1)
    axes[2].set(xlabel="true rate", ylabel="inferred rate", title="true against inferred")
    some = ""
    if len(rows) < len(theta) or len(columns) < len(eta):
        some = f" {len(rows)} of {len(theta)} rows and {len(columns)} of {len(eta)} columns, evenly chosen."
    edge = " Still smaller rates are at its end." if less else ""
    edge += "" if fit.data.exposure is None else " Rates are per unit of exposure."
    return Picture(
        "rates",
        "Rows and columns are ordered by their largest true factor. The second image should repeat the first. Cells "
        f"should lie along the line, more loosely where rates are small.{edge}{some}",
        figure,
    )


def _poisson_quantile(share: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Return the smallest counts up to which Poisson counts of these rates have these shares, by halving a range."""
    wanted, expected = torch.from_numpy(share), torch.from_numpy(rate)
    below, high = torch.full_like(expected, -1), (expected + 40 * (expected + 1).sqrt()).ceil()
    while bool((high - below > 1).any()):
        middle = ((below + high) / 2).floor()
        enough = torch.special.gammaincc(middle + 1, expected) >= wanted
        below, high = below.where(enough, middle), middle.where(enough, high)
    return high.numpy()


def _listed_rates(fit: Fit) -> Picture:
    data: Triplets = fit.data
    total = len(data.values)
    entries = data.values[evenly(total, MOST_CELLS).to(data.values.device)]
    observed, cells = array(entries[:, 2]), entries[:, :2].long()
    theta, eta = factors(fit.draws, RATE_DRAWS)
    theta, parts = exposed(theta, data), cells.split(max(1, BLOCK // len(theta)))
    expected = np.concatenate([array(cell_rates(theta, eta, part).mean(0)) for part in parts])
    low = max(float(np.quantile(expected, 0.001)), float(expected.max()) / DYNAMIC**2, 1e-6)
    across = min(low, float(expected.max()) / 2) / 1.3, float(expected.max()) * 1.3
    upward = 0.7, float(max(observed.max(), across[1], 2.0)) * 1.3
    figure, axes = panels(6.4, 4.4)
    x = np.geomspace(*across, 400)
    zero = np.exp(-x)
    ends = [_poisson_quantile(zero + q * -np.expm1(-x), x).clip(min=1) for q in (0.05, 0.95)]
    _density(figure, axes, expected, observed, across, upward)
    for end in ends:
        axes.plot(x, end, color="C1", lw=1, label="90% of Poisson counts above 0" if end is ends[0] else None)
    axes.plot(x, x / -np.expm1(-x), color="C3", lw=1.4, label="their mean")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8, frameon=False)
    at = np.searchsorted(x, expected).clip(max=len(x) - 1)
    outside = ((observed < ends[0][at]) | (observed > ends[1][at])).mean()
    axes.set(xlabel="expected count", ylabel="observed count")
    axes.set_title(f"{outside:.0%} of listed counts lie outside", fontsize=10)
    some = f" {len(observed)} of {total} cells, evenly chosen." if len(observed) < total else ""
    return Picture(
        "rates",
        "Listed counts should follow the red line. A tenth should lie beyond the orange ones; if far more do, counts "
        f"vary more than a Poisson allows.{some}",
        figure,
    )


def _density(
    figure: Figure, axes: Axes, x: np.ndarray, y: np.ndarray, across: tuple[float, float], upward: tuple[float, float]
) -> None:
    """Draw few cells, or count many in squares, on logarithmic axes; what lies beyond them is drawn at their ends."""
    x, y = x.clip(*across), y.clip(*upward)
    axes.set(xscale="log", yscale="log", xlim=across, ylim=upward)
    if max(across[1] / across[0], upward[1] / upward[0]) < 1000:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
    if len(x) <= MOST_POINTS:
        axes.plot(x, y, ".", ms=4 if len(x) > 300 else 7, alpha=0.6, mew=0)
        return
    edges = [np.geomspace(*ends, 61) for ends in (across, upward)]
    for edge, ends in zip(edges, (across, upward), strict=True):
        edge[[0, -1]] = ends  # exactly, or a point at the end falls outside
    counts = np.histogram2d(x, y, edges)[0].T
    squares = axes.pcolormesh(
        *edges, np.where(counts > 0, counts, np.nan), norm=LogNorm(1, max(2.0, counts.max())), cmap=BLUES
    )
    figure.colorbar(squares, ax=axes, pad=0.02, label="cells")


# Hidden entries -------------------------------------------------------------------------------------------------------


def _holdout(fit: Fit) -> Picture:
    found, hidden = fit.held_out
    true, mean, lower, upper = map(array, (hidden.values, found.mean, found.lower, found.upper))
    hit = (lower <= true) & (true <= upper)
    order = np.lexsort((mean, true))  # by count, then by mean: an even choice has small and large ones
    at = order[evenly(len(order), MOST_INTERVALS).numpy()]
    x, mean, lower, upper, inside = true[at], mean[at], lower[at], upper[at], hit[at]
    beside = _spread(x)
    across = 2 if hidden.at_random else 1
    figure, axes = panels(5.4 if across == 1 else 9, 3.8, 1, across, squeeze=False)
    left = axes[0, 0]
    for which, color, label in ((inside, "C0", "the interval holds the truth"), (~inside, "C3", "it does not")):
        if not which.any():
            continue
        left.vlines(beside[which], lower[which], upper[which], color=color, lw=0.8, alpha=0.5)
        left.plot(beside[which], mean[which], ".", color=color, ms=4, label=label)
    top = float(max(x.max(), upper.max(), mean.max(), 1.0))
    ends = -0.6, (top * 1.3 if top > LINEAR else top * 1.04 + 0.6)
    line = np.concatenate([[0.0], np.geomspace(0.01, ends[1], 100)])
    left.plot(line, line, color="0.5", lw=0.8, zorder=0)
    left.set(xlabel="true count", ylabel="predicted mean, 90% interval")
    if top > LINEAR:
        left.set_xscale("symlog", linthresh=1, linscale=1)
        left.set_yscale("symlog", linthresh=1, linscale=1)
        for axis in (left.xaxis, left.yaxis):
            axis.set_major_formatter("{x:g}")
    else:
        for axis in (left.xaxis, left.yaxis):
            axis.set_major_locator(MaxNLocator("auto", integer=True))
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=8, frameon=False)
    left.set(xlim=ends, ylim=ends)
    some = f"{len(at)} of {len(true)} hidden entries, evenly chosen"
    every = counted(len(true), "hidden entry", "hidden entries")
    left.set_title(some if len(at) < len(true) else every, fontsize=10)
    if hidden.at_random:
        calibration(axes[0, 1], found.pit, randomised=True)
        rest = (
            f"Intervals hold {hit.mean():.0%} of them, and should hold 90% or somewhat more. The histogram should be "
            "flat: high at both ends, intervals are too short; high in the middle, too long."
        )
    else:
        rest = (
            "Only listed ones were hidden, and predictions allow for zeros. So they fall below the line; they should "
            "still rise with it."
        )
    return Picture("holdout", f"Counts that the fit has not seen. {rest}", figure)


def _spread(x: np.ndarray) -> np.ndarray:
    """Move equal numbers of a sorted list apart, by less than half."""
    _, first, times = np.unique(x, return_index=True, return_counts=True)
    start, count = np.repeat(first, times), np.repeat(times, times)
    return x + 0.72 * ((np.arange(len(x)) - start + 0.5) / count - 0.5)


def _ranking(fit: Fit) -> Picture:
    curves = queries.recall_curves(fit.data, queries.scores(fit.draws, fit.data), MOST_RECOMMENDED)
    k = np.arange(1, curves.shape[1] + 1)
    figure, axes = panels(6.2, 3.8)
    lines = (("C0", "-", "the fit"), ("C1", "-", "popularity"), ("0.6", ":", "chance"))
    for curve, (color, style, label) in zip(curves, lines, strict=True):
        axes.plot(k, curve, color=color, ls=style, label=label)
    axes.set(xlabel="length of the list", ylabel="found of the hidden columns", xlim=(0, len(k) + 1))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(fontsize=8)
    chosen, total = queries.judged(fit.data)
    some = f" {len(chosen)} of {total} rows, evenly chosen." if len(chosen) < total else ""
    return Picture(
        "ranking",
        "Recall: the part of a row's hidden columns that come first among all it does not list. The fit should lie "
        "above popularity, which knows no tastes."
        f"{some}",
        figure,
    )
