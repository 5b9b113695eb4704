"""What is shown of a fitted factorization: recommendations, factors, offsets, and how well it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture
from pyrozoo.drawing.labels import drawable, families
from pyrozoo.drawing.panels import array, over_run, panels
from pyrozoo.drawing.predictions import completion
from pyrozoo.drawing.scenes import MOST_COLUMNS, MOST_LINES, heatmap, some
from pyrozoo.models.gaussian_mf.queries import SCORE_DRAWS, fold_in, predictive, recommend

TRAIN, GROUPS = 200_000, 8
"""Ratings behind the density of those that were fitted: of more, so many are chosen evenly; and groups of rows by how
many ratings they have."""

MOST_NAMED, MOST_LABELLED = 12, 20
"""Columns named at either end of the offsets, and on the map: those furthest from the middle."""

PARTS = {"train_nll": "C0", "validation_nll": "C1", "test_nll": "C3"}


class View(view.View):
    """Figures, tables and pictures of a factorization."""

    main = ("column_factors", "map")
    moves = ("column_factors",)
    rows_have_own = True
    recommends = True

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene:
        """Return the ratings that are expected of some rows and columns."""
        lines, columns = some(fit.data.shape[0], MOST_LINES), some(fit.data.shape[1], MOST_COLUMNS)

        def expected(then: Fit) -> Tensor:
            draws, device = then.draws, then.draws["row_factors"].device
            i, j = lines.to(device), columns.to(device)
            found = draws["row_factors"][:, :, i] @ draws["column_factors"][:, :, j].mT
            if "mean" in draws:
                sides = draws["row_offsets"][..., i, None] + draws["column_offsets"][..., None, j]
                found = found + sides + draws["mean"][..., None, None]
            return found.mean((0, 1))

        names = [fit.data.row_labels[int(i)] for i in lines], [fit.data.column_labels[int(j)] for j in columns]
        said = "What is expected of some rows and columns."
        return heatmap("reconstruction", said, "row", "column", expected, names[0], names[1])

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the model's own figures: negative log predictive densities per rating, and the test error.

        ``test_*`` are of the ratings held out, ``validation_*`` of those set aside, ``train_nll`` of those fitted (an
        even choice of very many); ``baseline_rmse`` is the test error of the mean of all plus what rows and columns are
        above it, shrunk by how little is known of each.
        """
        data, result = fit.data, {}
        if fit.objective_name == "elbo":
            result["elbo_per_rating"] = fit.objective / len(data.values)
        at = evenly(len(data.values), TRAIN)
        parts = {"train_nll": (data.values[at, :2].long(), data.counts[at])}
        if (aside := data.validation) is not None:
            aside = aside.at(evenly(len(aside.values), TRAIN).to(aside.values.device))
            parts["validation_nll"] = torch.stack([aside.rows, aside.columns], 1), aside.values
        for name, (pairs, ratings) in parts.items():
            found = predictive(fit.model, fit.draws.some(SCORE_DRAWS), pairs, ratings)
            result[name] = -found.log_density.mean().item()
        if data.hidden is not None:
            found, hidden = fit.held_out
            truth = hidden.values
            result["test_nll"] = -found.log_density.mean().item()
            result["test_rmse"] = found.rmse(truth)
            result["baseline_rmse"] = (_baseline(data, hidden) - truth).square().mean().sqrt().item()
        return result

    def tables(self, fit: Fit) -> view.Tables:
        """Return recommendations, factors and offsets, and held-out ratings.

        ``test_recommendations`` are those of new rows, folded in; ``holdout`` ratings that were hidden; ``missing``
        pairs that the data list without a rating.
        """
        data = fit.data
        result: dict[str, Callable[[], pd.DataFrame]] = {
            "recommendations": partial(recommend, fit.model, fit.draws, data),
            "row_factors": lambda: _factors(fit.aligned, data.row_labels, "row"),
            "column_factors": lambda: _factors(fit.aligned, data.column_labels, "column"),
        }
        if data.test is not None:
            result["test_recommendations"] = lambda: recommend(
                fit.model, fold_in(fit.posterior, fit.draws, data.test), data.test
            )
        return view.Tables(result) | self.predicted(fit)

    def draws_of(self, fit: Fit, part: Any) -> Draws:
        """Return draws with the factors of the rows, new ones folded in."""
        return fit.draws if part is fit.data else fold_in(fit.posterior, fit.draws, part)

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return each row's offset and factors and how unsure they are."""
        return view.own_factors(fit.aligned if part is fit.data else fold_in(fit.posterior, fit.aligned, part), part)

    def recommend(self, fit: Fit, draws: Draws, part: Any, rows: Sequence[int], count: int) -> pd.DataFrame:
        """Return the columns that rows have not rated, by expected rating."""
        return recommend(fit.model, draws, part, list(rows), count).drop(columns="rated")

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return densities while the method ran, held-out ratings, factors and offsets."""
        found: list[Callable[[], Picture | None]] = [partial(_curves, fit)]
        hidden = fit.data.hidden
        if hidden is not None and len(hidden.values):
            found += [partial(_holdout, fit), partial(_by_activity, fit)]
        found.append(partial(_map, fit))
        if "mean" in fit.draws:
            found.append(partial(_offsets, fit))
        return view.Pictures(*found)


def _holdout(fit: Fit) -> Picture:
    found, hidden = fit.held_out
    said = f"{len(hidden.values)} held-out ratings against their predictions"
    return completion("holdout", said, found, hidden.values, "rating")


def _baseline(data: Any, hidden: Any = None) -> Tensor:
    """Return what biases alone predict for hidden ratings, [entry]: the mean, and what columns and rows add.

    First columns, then rows on what is left, each mean shrunk toward 0 by how noisy it is (``_biases``).
    """
    hidden = data.hidden if hidden is None else hidden
    rows, columns = data.pattern.rows.cpu(), data.pattern.columns.cpu()
    ratings = data.counts.double().cpu()
    mean = ratings.mean()
    of_columns = _biases(ratings - mean, columns, data.shape[1])
    of_rows = _biases(ratings - mean - of_columns[columns], rows, data.shape[0])
    found = mean + of_columns[hidden.columns.cpu()] + of_rows[hidden.rows.cpu()]
    return found.to(hidden.values)


def _biases(values: Tensor, group: Tensor, size: int) -> Tensor:
    """Return the biases of groups, sum / (n + lambda): lambda is the variance within groups over that between them.

    Both are estimated by the method of moments for one-way random effects: within, SSW / (N - G); between,
    (SSB - (G - 1) within) / (N - sum n^2 / N), with G groups. When nothing shows that groups differ, or no group has
    two values, all biases are 0.
    """
    count = torch.bincount(group, minlength=size).double()
    sums = values.new_zeros(size).index_add(0, group, values)
    means, total, groups = sums / count.clamp(min=1), count.sum(), (count > 0).sum()
    free = total - groups
    within = (values - means[group]).square().sum() / free.clamp(min=1)
    apart = (count * (means - values.mean()).square()).sum() - (groups - 1) * within
    between = apart / (total - count.square().sum() / total).clamp(min=1e-12)
    if free < 1 or not between > 0:
        return torch.zeros_like(sums)
    return sums / (count + within / between)


def _factors(aligned: Draws, labels: Sequence[str], side: str) -> pd.DataFrame:
    """Return posterior means of factors, draws turned onto each other, and of offsets."""
    means = aligned.means()
    offsets = {"offset": means[f"{side}_offsets"].cpu().numpy()} if f"{side}_offsets" in means else {}
    return pd.DataFrame({side: list(labels), **offsets, **view.numbered("factor", means[f"{side}_factors"])})


def _curves(fit: Fit) -> Picture | None:
    """Draw negative log predictive densities while the method ran."""
    trace = fit.trace
    if len(fit.runs) and fit.kind != "samples":
        trace = trace[trace["chain"] == int(np.nanargmax(fit.runs["objective"].to_numpy()))]
    known = [name for name in PARTS if name in trace and trace[name].notna().any()]
    if not known:
        return None
    curves = [(trace, name, name.removesuffix("_nll"), {"color": PARTS[name], "lw": 1}) for name in known]
    figure, left, _ = over_run(curves, "iteration", "negative log density per rating")
    values = trace[known].to_numpy()
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [0.0, 0.9]) if len(values) > 20 else (values.min(), values.max())
    left.set_ylim(low - 0.05 * (high - low + 1e-3), high + 0.3 * (high - low + 1e-3))
    left.legend()
    how = (
        "averaged over sweeps, anew from the end of the warm-up" if fit.kind == "samples"
        else "averaged over 100 draws from q" if fit.kind == "variational" else "at the point"
    )  # fmt: skip
    return Picture(
        "densities",
        f"Log loss of the prediction, {how}. Lower is better. "
        "A test curve that rises while the training curve falls is overfitting.",
        figure,
    )


def _by_activity(fit: Fit) -> Picture | None:
    """Draw the error of held-out ratings by how many other ratings their row has."""
    data, (found, hidden) = fit.data, fit.held_out
    count = array(torch.bincount(data.pattern.rows, minlength=data.shape[0])[hidden.rows])
    error, width = array((found.mean - hidden.values).square()), array(found.upper - found.lower)
    edges = np.unique(np.quantile(count, np.linspace(0, 1, GROUPS + 1)))
    if len(edges) < 3:
        return None
    group = np.clip(np.searchsorted(edges, count, side="right") - 1, 0, len(edges) - 2)
    groups = [group == g for g in range(len(edges) - 1) if (group == g).any()]
    middle = [np.median(count[each]) for each in groups]
    rmse = [np.sqrt(error[each].mean()) for each in groups]
    sd = [width[each].mean() / (2 * 1.645) for each in groups]
    figure, axes = panels(6, 3.2)
    axes.plot(middle, rmse, "o-", color="C3", label="error that was made (RMSE)")
    axes.plot(middle, sd, "s--", color="C0", label="error that was expected")
    axes.set(xlabel="other ratings of the same row", title="Rows with few ratings are predicted worse: is it known?")
    axes.legend()
    return Picture(
        "activity",
        "Held-out error by how much is known of the row. Where red is above blue, intervals are too short.",
        figure,
    )


def _map(fit: Fit) -> Picture:
    """Draw the columns by their two largest factors, or along the only one."""
    data, values = fit.data, array(fit.aligned.means()["column_factors"])
    figure, axes = panels(7.5, 5)
    y = values[:, 1] if values.shape[1] > 1 else np.zeros(len(values))
    axes.plot(values[:, 0], y, "o", ms=4, color="C0")
    middle = np.median(values[:, 0]), np.median(y)
    far = np.argsort(-np.hypot(values[:, 0] - middle[0], y - middle[1]), kind="stable")[:MOST_LABELLED]
    for j in far:
        name, spot = drawable(data.column_labels[j], j), (values[j, 0], y[j])
        axes.annotate(name, spot, (3, 2), textcoords="offset points", fontsize=7, family=families())
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.axvline(0, color="0.8", lw=0.8, zorder=0)
    second = "factor 1" if values.shape[1] > 1 else ""
    axes.set(xlabel="factor 0", ylabel=second, title="Columns by their largest factors")
    if values.shape[1] == 1:
        axes.set_yticks([])
    return Picture(
        "columns",
        "Columns that lie together please the same rows; those that lie opposite divide them. Signs are a convention.",
        figure,
    )


def _offsets(fit: Fit) -> Picture:
    """Draw the columns with the highest and lowest offsets, with intervals, and the offsets of rows."""
    offsets, rows = array(fit.draws["column_offsets"].flatten(0, 1)), array(fit.draws["row_offsets"].mean((0, 1)))
    mean = offsets.mean(0)
    order = np.argsort(-mean, kind="stable")
    if len(order) > 2 * MOST_NAMED:
        order = np.concatenate([order[:MOST_NAMED], order[-MOST_NAMED:]])
    figure, (left, right) = panels(9, max(2.4, 0.22 * len(order) + 0.9), 1, 2, width_ratios=[3, 2])
    low, high = np.quantile(offsets[:, order], [0.05, 0.95], axis=0)
    y = np.arange(len(order))
    left.errorbar(mean[order], y, xerr=[mean[order] - low, high - mean[order]], fmt="o", ms=3, lw=1)
    left.set_yticks(y, [drawable(fit.data.column_labels[j], j) for j in order], fontsize=7, family=families())
    left.invert_yaxis()
    left.axvline(0, color="0.7", lw=0.8)
    which = "Columns" if len(order) == len(mean) else f"The {MOST_NAMED} highest and lowest columns"
    left.set(xlabel="offset", title=which)
    right.hist(rows, bins=min(40, max(5, len(rows) // 5)), color="C0")
    right.set(xlabel="offset", title="Rows", yticks=[])
    return Picture(
        "offsets",
        "Left: how much columns are liked beyond the mean of all, with 90% intervals. Right: how generous rows are.",
        figure,
    )
