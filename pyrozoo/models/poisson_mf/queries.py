"""What can be asked of a fitted factorization: predictions, genres, recommendations, similar columns, new rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributions import Gamma

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.triplets import Triplets
from pyrozoo.drawing.tables import TOP, listed, recommended
from pyrozoo.math.sparse import Pattern
from pyrozoo.models.poisson_mf.factors import fit_rows
from pyrozoo.models.poisson_mf.likelihood import exposed

MOST_DRAWS, RATE_DRAWS, BLOCK = 1000, 100, 2**22
"""Posterior draws used by a prediction, and values behind its intervals: more change nothing that a reader could see.
With very many cells values are fewer, but never below 200 (quantiles to about 2%). Posterior draws behind the
expected rates of whole rows. Rates held at a time."""

SIMILAR, MOST_COLUMNS = 5, 5000
"""Neighbours shown of each column, and columns for which they are written: those with the largest totals."""

MOST_ROWS, RANKED = 2000, 20
"""Rows by which ranking is judged: of more, so many are chosen evenly; and how many recommendations are judged."""

DAMPING = 5.0
"""Cells of the mean of all by which a row's and a column's own mean is damped in a baseline."""

Scores = Callable[[Tensor], Tensor]
"""Rows [n] -> how much each column is recommended to them, [n, M], at least 0."""


def factors(draws: Values, most: int = MOST_DRAWS) -> tuple[Float[Tensor, "S N K"], Float[Tensor, "S M K"]]:
    """Return row and column factors of at most so many draws, thinned evenly over chains."""
    flat = Draws({site: draws[site] for site in ("row_factors", "column_factors")}).some(most).flat()
    return flat["row_factors"], flat["column_factors"]


def cell_rates(
    theta: Float[Tensor, "*b N K"], eta: Float[Tensor, "*b M K"], cells: Int[Tensor, "cell 2"]
) -> Float[Tensor, "*b cell"]:
    """Return theta_n . eta_m at cells, which must be sorted by row."""
    return Pattern.of(cells[:, 0], cells[:, 1], theta.shape[-2], eta.shape[-2]).sampled(theta, eta)


def expected_rates(theta: Float[Tensor, "S n K"], eta: Float[Tensor, "S M K"]) -> Float[Tensor, "n M"]:
    """Return posterior mean rates of whole rows: n x M numbers, so choose the rows."""
    total = theta.new_zeros(theta.shape[1], eta.shape[1])
    for a, b in zip(theta, eta, strict=True):
        total.addmm_(a, b.T)
    return total / len(theta)


def predictive(
    theta: Float[Tensor, "S N K"], eta: Float[Tensor, "S M K"], cells: Int[Tensor, "cell 2"], x: Float[Tensor, cell]
) -> Prediction:
    """Predict counts: a mixture over draws of Poissons.

    Args:
        theta: Row factors of every draw, exposed.
        eta: Column factors.
        cells: Rows and columns, in any order.
        x: Their true counts; NaN where nobody knows them.
    """
    order = (cells[:, 0] * eta.shape[1] + cells[:, 1]).argsort()
    S, total = len(theta), max(200, min(MOST_DRAWS, 4 * 10**7 // (len(cells) + 1)))
    repeats = -(-total // S)
    with seeded(0):  # a query of one fit always answers the same
        parts = [
            _block(cell_rates(theta, eta, cells[index]), x[index], repeats)
            for index in order.split(max(1, BLOCK // (S * repeats)))
            if len(index)
        ]
    return Prediction.joined(parts, x).at(order.argsort())


def _block(rates: Float[Tensor, "S cell"], x: Float[Tensor, cell], repeats: int) -> Prediction:
    """Predict some cells, with so many counts for every rate."""
    tiny = torch.finfo(rates.dtype).tiny
    log_mass = torch.xlogy(x, rates.clamp(min=tiny)) - rates - torch.lgamma(x + 1)
    log_density = log_mass.logsumexp(0) - math.log(len(rates))
    return Prediction.of_counts(rates.mean(0), log_density, torch.poisson(rates.repeat(repeats, 1)), x)


def genres(mean: Values, data: Triplets, count: int = TOP) -> pd.DataFrame:
    """Return the top columns of each factor.

    Args:
        mean: Site -> the mean of aligned draws, [*event].
        data: Its labels.
        count: Columns per factor.

    Returns:
        One line per factor and rank: ``share``, the factor's part of all that is expected; ``weight``, the column's
        part of the factor; ``lift``, that weight over the column's part of everything.
    """
    eta, mass = mean["column_factors"], exposed(mean["row_factors"], data).sum(0)
    everything = (eta * mass).sum(1) / mass.sum()
    weights, order = (each[:count].T for each in eta.sort(dim=0, descending=True, stable=True))
    (K, ranks), columns = order.shape, order.flatten()
    rows = {
        "factor": np.repeat(np.arange(K), ranks),
        "share": (mass / mass.sum()).repeat_interleave(ranks),
        "rank": np.tile(np.arange(1, ranks + 1), K),
        "column": [data.column_labels[j] for j in columns.tolist()],
        "weight": weights.flatten(),
        "lift": weights.flatten() / everything[columns],
    }
    return pd.DataFrame({name: each.cpu().numpy() if isinstance(each, Tensor) else each for name, each in rows.items()})


def similar(mean: Values, data: Triplets, count: int = SIMILAR) -> pd.DataFrame:
    """Return the nearest columns of each column: by the cosine of how factors share what is expected of them.

    Returns:
        One line per column and rank, columns with the largest totals first.
    """
    eta = mean["column_factors"]
    profile = torch.nn.functional.normalize(eta * exposed(mean["row_factors"], data).sum(0), dim=1)
    totals = data.statistics(data.values, "counts")["column_total"][1]
    chosen = torch.as_tensor(np.argsort(-totals, kind="stable")[:MOST_COLUMNS].copy())
    rows = []
    for index in chosen.split(max(1, BLOCK // len(eta))):
        cosine = profile[index] @ profile.T
        cosine[torch.arange(len(index)), index] = -1.0
        best, near = cosine.topk(min(count, len(eta) - 1), 1)
        for j, values, neighbours in zip(index.tolist(), best.tolist(), near.tolist(), strict=True):
            rows += [
                {"column": data.column_labels[j], "rank": r + 1, "similar": data.column_labels[i], "cosine": v}
                for r, (i, v) in enumerate(zip(neighbours, values, strict=True))
            ]
    return pd.DataFrame(rows, columns=["column", "rank", "similar", "cosine"])


def recommend(
    draws: Values, data: Triplets, rows: list[int] | None = None, count: int = TOP, seen: bool = False
) -> pd.DataFrame:
    """Recommend columns to rows: those that a row does not list, by expected count.

    Args:
        draws: Site -> [chain, draw, *event], with a row factor for every row of the data.
        data: What has been seen.
        rows: Which rows; None: all, or an even choice of very many.
        count: Columns per row.
        seen: Whether columns that the row lists follow after all others.

    Returns:
        One line per row and rank: mean and 90% predictive interval of the count, and whether it was seen.
    """
    theta, eta = factors(draws, RATE_DRAWS)

    def predict(cells: Tensor) -> Prediction:  # by the draws that ranked them
        return predictive(exposed(theta, data), eta, cells, eta.new_full((len(cells),), torch.nan))

    return recommended(data, scores(draws, data)[0], predict, rows, count, seen, "seen")


def fold_in(posterior: Posterior, draws: Values, rows: Triplets, most: int = RATE_DRAWS) -> Values:
    """Place new rows among the factors without fitting anew.

    For every draw of eta, q(theta_n) is brought to its optimum given it, and theta_n is drawn from it: labels never
    matter, and what is not known of eta stays in the answer.

    Args:
        posterior: What was fitted.
        draws: Site -> [chain, draw, *event] of the fit.
        rows: New rows; their columns are matched by label.
        most: Values of eta used.

    Returns:
        Values with the row factors of the new rows, [1, draw, *event], for ``recommend`` and ``predictive``.
    """
    eta, rows = factors(draws, most)[1], posterior.data.matched(rows)
    tiny = torch.finfo(eta.dtype).tiny
    with seeded(0):
        found = fit_rows(posterior.model, eta.clamp(min=tiny).log(), eta, rows, steps=200, tol=1e-4)
        times = max(1, most // len(eta))  # of a point the rows alone are drawn again and again
        theta = Gamma(found.shape, found.rate).sample((times,)).clamp(min=tiny).flatten(0, 1)
    return {"row_factors": theta[None], "column_factors": eta.repeat(times, 1, 1)[None]}


def scores(draws: Values, data: Triplets) -> tuple[Scores, Scores]:
    """Return what ranks columns: the expected counts of a fit, and how many rows list them, whoever asks."""
    theta, eta = factors(draws, RATE_DRAWS)
    popularity = torch.bincount(data.pattern.columns, minlength=data.shape[1]).to(eta.dtype)
    return lambda index: expected_rates(theta[:, index], eta), lambda index: popularity.expand(len(index), -1)


def independent(data: Triplets) -> Float[Tensor, entry]:
    """Return rates of the hidden cells if rows and columns went their own ways: mean x row's part x column's part.

    A row's part is its mean count over the mean of all, damped: as if it had ``DAMPING`` more cells of the mean. Means
    are per unit of exposure, and damping cells are of the mean exposure.
    """
    assert data.hidden is not None
    unseen, ones, (N, M) = data.unobserved_pattern, data.values.new_ones, data.shape
    exposure = ones(N) if data.exposure is None else data.exposure
    usual = exposure.mean()
    mean = (data.counts.sum() + 1) / (data.observed_exposure.sum() + usual)  # never 0
    parts = []
    for axis, (at, seen) in enumerate(((data.hidden.rows, exposure * M), (data.hidden.columns, exposure.sum()))):
        total = ones(data.shape[axis]).zero_().index_add(0, data.values[:, axis].long(), data.counts)
        if unseen is not None:
            where = unseen.columns if axis else unseen.rows
            seen = seen - torch.zeros_like(total).index_add(0, where, exposure[unseen.rows])
        parts.append(((total + DAMPING * usual * mean) / ((seen + DAMPING * usual) * mean))[at])
    return exposure[data.hidden.rows] * mean * parts[0] * parts[1]


def judged(data: Triplets) -> tuple[Int[Tensor, rows], int]:
    """Return the rows by which ranking is judged, and how many rows hide counts above 0."""
    assert data.hidden is not None
    every = data.hidden.rows[data.hidden.values > 0].unique()
    return every[evenly(len(every), MOST_ROWS).to(every.device)], len(every)


def wanted_and_seen(data: Triplets) -> Iterator[tuple[Tensor, Bool[Tensor, "n M"], Bool[Tensor, "n M"]]]:
    """Go through the rows that are judged in blocks: rows, which columns should be found, and which they list."""
    hidden, M = data.hidden, data.shape[1]
    assert hidden is not None
    rows, columns = hidden.rows[hidden.values > 0], hidden.columns[hidden.values > 0]
    for index in judged(data)[0].split(max(1, BLOCK // M)):
        place = torch.searchsorted(index, rows).clamp(max=len(index) - 1)
        mine = index[place] == rows
        wanted = torch.zeros(len(index), M, dtype=torch.bool, device=index.device)
        wanted[place[mine], columns[mine]] = True
        yield index, wanted, listed(data, index)


def discounted_gain(wanted: Bool[Tensor, "n M"], scored: Float[Tensor, "n M"]) -> Float[Tensor, n]:
    """Return the normalised discounted gain of the first 20 columns; columns of one score share their mean gain."""
    ordered, order = scored.sort(1, descending=True)
    gains = wanted.gather(1, order).to(scored.dtype)
    group = torch.nn.functional.pad((ordered[:, 1:] != ordered[:, :-1]).long(), (1, 0)).cumsum(1)
    total, size = (torch.zeros_like(gains).scatter_add_(1, group, each) for each in (gains, torch.ones_like(gains)))
    shared = (total / size.clamp(min=1)).gather(1, group)[:, :RANKED]
    discount = 1 / torch.arange(2, shared.shape[1] + 2, dtype=gains.dtype, device=gains.device).log2()
    best = discount.cumsum(0)[gains.sum(1).long().clamp(max=len(discount)) - 1]
    return shared @ discount / best


def ranking(data: Triplets, score: Scores) -> dict[str, float]:
    """Judge how a score ranks the hidden columns of each row among all that the row does not list.

    Args:
        data: With hidden entries; those above 0 are what should be found.
        score: What ranks them.

    Returns:
        ``ndcg_at_20``, with gain 1 for each hidden column (Järvelin and Kekäläinen 2002), and ``recall_at_20``, the
        part of the hidden columns among the first 20; means over rows that hide any.
    """
    ndcg, recall = [], []
    for index, wanted, seen in wanted_and_seen(data):
        scored = torch.where(seen, -1.0, score(index).double())
        if data.shape[1] > 1:
            ndcg += discounted_gain(wanted, scored).tolist()
        found = wanted.gather(1, scored.topk(min(RANKED, data.shape[1]), 1).indices)
        recall += (found.sum(1) / wanted.sum(1)).tolist()
    result = {f"recall_at_{RANKED}": float(np.mean(recall))}
    return result | ({f"ndcg_at_{RANKED}": float(np.mean(ndcg))} if ndcg else {})


def recall_curves(data: Triplets, rank: tuple[Scores, ...], most: int) -> Float[np.ndarray, "scores_and_chance k"]:
    """Return the recall of lists of every length up to ``most`` by every score, then by chance; means over rows."""
    M = data.shape[1]
    most = min(most, M)
    sums = np.zeros((len(rank) + 1, most))
    for index, wanted, seen in wanted_and_seen(data):
        count = wanted.sum(1, keepdim=True)
        for i, score in enumerate(rank):
            first = torch.where(seen, -1.0, score(index).double()).topk(most, 1).indices
            sums[i] += (wanted.gather(1, first).cumsum(1) / count).sum(0).double().cpu().numpy()
        unseen = (M - seen.sum(1, keepdim=True)).double().cpu().numpy()
        sums[-1] += np.minimum(np.arange(1, most + 1) / unseen, 1.0).sum(0)
    return sums / len(judged(data)[0])
