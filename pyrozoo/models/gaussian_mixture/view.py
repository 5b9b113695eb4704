"""What is shown of a fitted mixture: components, ellipses, clusters of rows, outliers, how many clusters there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.movie import Layer, Scene, ellipse
from pyrozoo.core.picture import Picture
from pyrozoo.core.seeds import seeded
from pyrozoo.data.table import Table
from pyrozoo.drawing.labels import short
from pyrozoo.drawing.panels import array, panels
from pyrozoo.drawing.predictions import completions
from pyrozoo.math.multinomial import choose
from pyrozoo.models.gaussian_mixture import cavi, em

MOST_DRAWS, MOST_POINTS, MOST_NAMED, MOST_DRAWN, MOST_COUNTED, MOST_MOVING = 200, 2000, 12, 12, 2 * 10**7, 400
"""Draws behind what is said of rows; rows that are points; columns that are named; draws whose ellipses are drawn; rows
times draws that are gone through to count clusters; rows of a movie."""

TURN = np.linspace(0, 2 * np.pi, 121)
STEPS = 0, 1, 3, 10, 30, 100
LEAST = 0.02
"""Weight from which a component is drawn."""


class View(view.View):
    """Figures, tables and pictures of a mixture."""

    main = ("components", "ellipses")
    moves = ("mean",)

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return how many clusters have a row, on average over draws."""
        count = _occupied(fit)
        return {} if count is None else {"clusters": float(count.double().mean())}

    def responsibilities(self, fit: Fit) -> Tensor:
        """Return the probability of every component for every row."""
        return _said(fit, fit.data)[0]

    def tables(self, fit: Fit) -> view.Tables:
        """Return components, the cluster of every row, old and new, how many clusters there are, and predictions."""
        result = {"components": partial(_profiles, fit), "clusters": partial(_clusters, fit, fit.data)}
        if fit.data.test is not None:
            result["test_clusters"] = partial(_clusters, fit, fit.data.test)
        if fit.kind != "point" and _occupied(fit) is not None:
            result["num_clusters"] = partial(_counts, fit)
        return view.Tables(result) | self.predicted(fit)

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return the cluster of each row, its probability, how far out it lies, and every cluster's probability."""
        found = _clusters(fit, part).drop(columns="row")
        found.insert(1, "probability", found.iloc[:, 2:].max(axis=1))
        return found

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene | None:
        """Return the clusters in the two columns in which those of the first fit differ most."""
        return _scene(fit, _columns(fits[0])) if fit.data.shape[1] > 1 else None

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return ellipses, how they came to be, components, outliers, clusters, and predictions of what was hidden."""
        hidden = partial(completions, fit, self.hiding(fit), "value", _units(fit))
        own = (_ellipses, _steps, _components, _outliers, _num_clusters)
        return view.Pictures(*(partial(each, fit) for each in own), hidden)


def _scene(fit: Fit, at: list[int]) -> Scene:
    """Return rows in the colour of their cluster, and ellipses that move."""
    chosen = evenly(fit.data.shape[0], MOST_MOVING)
    part: Any = fit.posterior.on(fit.data.only(chosen))
    rows = array(part.data.values[:, at])

    def clusters(then: Fit) -> dict[str, Any]:
        known = part.known(then.aligned.some(MOST_DRAWN).flat())
        share = part.layout.by_row(known, lambda logits: logits.softmax(1)).mean(0)
        return {"color": share.argmax(0).tolist(), "alpha": array(share.amax(0)) ** 2}

    def ellipses(then: Fit) -> dict[str, Any]:
        weights, means, covariances = _matrices(then, then.aligned.means(), at)
        edges = [ellipse(mean, covariance, 2.0) for mean, covariance in zip(means, covariances, strict=True)]
        faint = np.where(weights < LEAST, 0.0, 1.0)
        return {"xs": [x for x, _ in edges], "ys": [y for _, y in edges], "color": range(len(edges)), "alpha": faint}

    low, high = np.nanmin(rows, 0), np.nanmax(rows, 0)
    room = 0.12 * (high - low) + 1e-9
    ends = [(float(a), float(b)) for a, b in zip(low - room, high + room, strict=True)]
    return Scene(
        "clusters", "Rows in the colour of their cluster, faint where unsure; ellipses hold 86% of its rows (2 sds).",
        short(fit.data.column_labels[at[0]]), short(fit.data.column_labels[at[1]]),
        [Layer("points", clusters, {"x": rows[:, 0], "y": rows[:, 1]}, 6), Layer("lines", ellipses, size=2.5)],
        ends[0], ends[1],
    )  # fmt: skip


def _said(fit: Fit, table: Table) -> tuple[Tensor, Tensor]:
    """Return probabilities of components, [N, K], and of a row of its cluster to lie farther out, [N], over draws."""

    def found() -> tuple[Tensor, Tensor]:
        posterior: Any = fit.posterior if table is fit.data else fit.posterior.on(table)
        known = posterior.known(Draws(fit.aligned).some(MOST_DRAWS).flat())
        share = posterior.layout.by_row(known, lambda logits: logits.softmax(1))
        wide = known._replace(covariance=2 * known.covariance)
        near, far = (posterior.layout.by_row(each, lambda logits: logits) for each in (known, wide))
        # log N of twice the covariance differs by half the squared distance, and by the determinant.
        seen = table.observed.sum(1).to(near)
        distance = (2 * seen * math.log(2) - 4 * (near - far)).clamp(min=0)
        tail = torch.special.gammaincc((seen / 2).clamp(min=0.5), distance / 2).where(seen > 0, 1.0)
        return share.mean(0).T, (share * tail).sum(1).mean(0)

    return fit.once("rows", found) if table is fit.data else found()


def _occupied(fit: Fit) -> Tensor | None:
    """Return how many components have a row, of every draw: assignments are drawn given its parameters."""
    draws, N = Draws(fit.draws).some(10 * MOST_DRAWS), fit.data.shape[0]
    if fit.posterior.shards is not None or N * draws.shape[0] * draws.shape[1] > MOST_COUNTED:
        return None

    def found() -> Tensor:
        posterior: Any = fit.posterior
        known = posterior.known(draws.flat())
        with seeded(0):  # a query of one fit always answers the same
            z = posterior.layout.by_row(known, lambda logits: choose(logits.softmax(1).movedim(1, -1)))
        return torch.zeros_like(known.log_weights).scatter_(1, z, 1.0).sum(1)

    return fit.once("occupied", found)


def _counts(fit: Fit) -> pd.DataFrame:
    found = _occupied(fit)
    assert found is not None
    count = found.long().cpu()
    share = torch.bincount(count, minlength=1).double() / len(count)
    return pd.DataFrame({"clusters": range(1, len(share)), "probability": share[1:]})


def _profiles(fit: Fit) -> pd.DataFrame:
    aligned = fit.aligned
    mean, sd = array(aligned.means()["mean"]), array(_sds(fit, aligned).mean((0, 1)))
    columns = enumerate(fit.data.column_labels)
    cells = {f"{name}[{c}]": part[:, d] for d, c in columns for name, part in (("mean", mean), ("sd", sd))}
    weight = array(aligned.means()["weights"])
    return pd.DataFrame({"component": range(len(weight)), "weight": weight, **cells})


def _sds(fit: Fit, draws: Draws) -> Tensor:
    return fit.model.variances(draws["covariance"]).sqrt().expand_as(draws["mean"])


def _clusters(fit: Fit, table: Table) -> pd.DataFrame:
    probability, tail = _said(fit, table)
    known = {
        "row": list(table.row_labels),
        "cluster": array(probability.argmax(1)).astype(int),
        "outlier": array(1 - tail),
    }
    return pd.DataFrame({**known, **view.numbered("probability", probability)})


def _units(fit: Fit) -> tuple[Tensor, Tensor]:
    posterior: Any = fit.posterior
    centre, covariance, _ = (part.mean((0, 1)) for part in posterior.moments(fit.draws.some(MOST_DRAWS)))
    return centre, covariance.diagonal().sqrt()


def _columns(fit: Fit) -> list[int]:
    """Return the two columns, or the one, whose variance lies most between components."""
    posterior: Any = fit.posterior
    _, covariance, between = posterior.moments(fit.draws.some(MOST_DRAWS))
    share = (between / covariance).diagonal(dim1=-2, dim2=-1).mean((0, 1))
    return sorted(share.argsort(descending=True)[:2].tolist())


def _matrices(fit: Fit, point: Any, at: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, means and covariances of some columns under every component of a point, site -> [*event]."""
    mean, covariance = point["mean"], point["covariance"]
    if not fit.model.matrices:
        covariance = fit.model.variances(covariance).expand_as(mean).diag_embed()
    covariance = covariance.expand(len(mean), *covariance.shape[-2:])[:, at][..., at]
    return array(point["weights"]), array(mean[:, at]), array(covariance)


def _color(k: int) -> str:
    return f"C{k % 10}"


def _draw(axes: Axes, fit: Fit, point: Any, at: list[int], alpha: float = 1.0) -> None:
    """Draw the ellipse of every component that holds 86% of its rows (2 sds), or the curve of its density."""
    for k, (weight, mean, covariance) in enumerate(zip(*_matrices(fit, point, at), strict=True)):
        if weight < LEAST:
            continue
        color = to_rgba(_color(k), alpha)
        if len(at) == 1:
            sd = covariance[0, 0] ** 0.5
            x = mean[0] + sd * np.linspace(-4, 4, 201)
            axes.plot(x, weight * np.exp(-0.5 * ((x - mean[0]) / sd) ** 2) / (sd * (2 * np.pi) ** 0.5), color=color)
            continue
        factor = np.linalg.cholesky(covariance)
        axes.plot(*(mean[:, None] + 2 * factor @ np.stack([np.cos(TURN), np.sin(TURN)])), color=color, lw=1.5)
        axes.plot(*mean, "+", color=color, ms=9)


def _points(axes: Axes, fit: Fit, at: list[int], cluster: Any = None) -> str:
    """Draw rows, in the colour of their cluster; say which."""
    chosen = evenly(fit.data.shape[0], MOST_POINTS)
    rows = array(fit.data.values[chosen.to(fit.data.values.device)][:, at])
    if len(at) == 1:
        seen = rows[~np.isnan(rows)]
        axes.hist(seen, bins=min(60, max(10, int(2 * len(seen) ** 0.5))), density=True, color="0.85")
        axes.set(xlabel=short(fit.data.column_labels[at[0]]), ylabel="density")
    else:
        # Components that have no rows are anywhere; what is seen are the rows.
        ends = np.stack([np.nanmin(rows, 0), np.nanmax(rows, 0)]) if len(rows) else np.zeros((2, 2))
        room = 0.15 * (ends[1] - ends[0]) + 1e-9 * np.abs(ends).max() + 1e-12
        axes.set(xlim=(ends[0, 0] - room[0], ends[1, 0] + room[0]), ylim=(ends[0, 1] - room[1], ends[1, 1] + room[1]))
        colors = "0.6" if cluster is None else [_color(k) for k in cluster[array(chosen).astype(int)]]
        axes.scatter(rows[:, 0], rows[:, 1], s=7, c=colors, alpha=0.45, linewidths=0)
        axes.set(xlabel=short(fit.data.column_labels[at[0]]), ylabel=short(fit.data.column_labels[at[1]]))
    return f" {len(chosen)} of {fit.data.shape[0]} rows, evenly chosen." if len(chosen) < fit.data.shape[0] else ""


def _ellipses(fit: Fit) -> Picture:
    at, (figure, axes) = _columns(fit), panels(6.4, 4.8)
    some = _points(axes, fit, at, array(_said(fit, fit.data)[0].argmax(1)).astype(int))
    drawn = Draws(fit.aligned).some(MOST_DRAWN)
    several = drawn.shape[1] > 1 and fit.kind != "point"
    for point in drawn.each() if several else [fit.aligned.means()]:
        _draw(axes, fit, point, at, 0.5 if several else 1.0)
    what = "Ellipses hold 86% of a cluster's rows" if len(at) == 2 else "Curves are densities times weights"
    more = f"; {drawn.shape[1]} draws show how well they are known" if several else ""
    two = " The two columns are those in which clusters differ most." if fit.data.shape[1] > 2 else ""
    return Picture("ellipses", f"{what}{more}. Crossing ones may be one cluster that is not normal.{two}{some}", figure)


def _steps(fit: Fit) -> Picture | None:
    """Draw how an optimiser comes to its ellipses from a start of its own."""
    solvers: dict[str, Any] = {"em": em.Solver, "cavi": cavi.Solver}
    if fit.method not in solvers or fit.posterior.shards is not None or fit.data.shape[1] < 2:
        return None
    some: Any = fit.posterior.on(fit.data.only(evenly(fit.data.shape[0], MOST_POINTS)))
    at, solver = _columns(fit), solvers[fit.method](some)
    figure, every = panels(9.6, 5.6, 2, 3, sharex=True, sharey=True)
    with seeded(fit.seed):
        state, done = solver.init(1), 0
        for axes, step in zip(every.flat, STEPS, strict=True):
            for _ in range(done, step):
                state, _ = solver.step(state)
            done = step
            _points(axes, fit, at)
            point = {site: value[0] for site, value in solver.answer(state).draws().items()}
            _draw(axes, fit, point, at)
            axes.set_title(f"after {step} steps" if step != 1 else "after 1 step", fontsize=10)
            axes.label_outer()
    said = f"One start of {fit.method}, step by step: ellipses that still move at the end ask for more iterations."
    return Picture("steps", f"{said} It need not be the start that was kept.", figure)


def _components(fit: Fit) -> Picture:
    centre, unit = (array(each) for each in _units(fit))
    weight, D = array(fit.aligned.means()["weights"]), fit.data.shape[1]
    shown_ones = np.flatnonzero(weight >= min(LEAST, weight.max()))
    mean = array(fit.aligned.means()["mean"])[shown_ones]
    sd = array(_sds(fit, fit.aligned).mean((0, 1)))[shown_ones]
    figure, axes = panels(10, 1.7 + 0.35 * len(mean), 1, 2, sharey=True)
    size = max(1.0, float(np.abs((mean - centre) / unit).max()))
    shown = ("mean, in sds of the column", (mean - centre) / unit, {"cmap": "RdBu_r", "vmin": -size, "vmax": size}), (
        "sd / sd of the column", sd / unit, {"cmap": "viridis", "vmin": 0})  # fmt: skip
    for axis, (title, values, style) in zip(axes, shown, strict=True):
        figure.colorbar(axis.imshow(values, aspect="auto", **style), ax=axis, shrink=0.85)
        axis.set(title=title, xlabel="column")
        if D <= MOST_NAMED:
            axis.set_xticks(range(D), list(map(short, fit.data.column_labels)), rotation=60, ha="right", fontsize=7)
    axes[0].set_yticks(range(len(mean)), [f"{k}: {weight[k]:.0%}" for k in shown_ones])
    axes[0].set_ylabel("component: weight")
    return Picture("components", "Where components lie that have 2% of the rows, and how wide they are.", figure)


def _outliers(fit: Fit) -> Picture:
    tail = array(_said(fit, fit.data)[1])
    figure, axes = panels(6, 3)
    axes.hist(tail, bins=20, range=(0, 1), color="C0")
    axes.axhline(len(tail) / 20, color="0.4", lw=0.8)
    axes.set(xlabel="share of its cluster that lies farther out", ylabel="rows", xlim=(0, 1))
    far = int((tail < 0.01).sum())
    said = f"Flat is right. {far} of {len(tail)} rows lie farther out than 99% of their cluster"
    return Picture(
        "outliers",
        f"{said}; by chance {0.01 * len(tail):.0f} would. Many are heavy tails, or clusters that are missing.",
        figure,
    )


def _num_clusters(fit: Fit) -> Picture | None:
    if fit.kind == "point" or fit.model.weight_prior != "stick_breaking" or _occupied(fit) is None:
        return None
    counts, (figure, axes) = _counts(fit), panels(5.5, 3)
    axes.bar(counts["clusters"], counts["probability"], color="C0")
    axes.set(xlabel="clusters that have a row", ylabel="probability")
    axes.xaxis.get_major_locator().set_params(integer=True)
    most = fit.model.num_components
    said = f"How many clusters have a row. A bar at {most}, where the process is cut, asks for more num_components."
    return Picture("num_clusters", said, figure)
