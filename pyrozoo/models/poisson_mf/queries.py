"""What users ask of a fitted factorization: genres, recommendations, similar items, new rows, how well it ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from sklearn.metrics import ndcg_score
from torch import Tensor
from torch.distributions import Gamma

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Values
from pyrozoo.core.seeds import seeded
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.poisson_mf.factors import fit_rows
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.models.poisson_mf.prediction import expected_rates, factors, predictive

TOP = 10
"""Columns shown of each factor, and recommended to each row."""

SIMILAR = 5
"""Neighbours shown of each column."""

MOST_ROWS = 2000
"""Rows whose recommendations are written, and by which ranking is judged; of more, so many are chosen evenly."""

MOST_COLUMNS = 5000
"""Columns whose neighbours are written: those with the largest totals."""

RATE_DRAWS = 100
"""Posterior draws behind the expected rates of whole rows."""

RANKED = 20
"""How many recommendations are judged."""

BLOCK = 2**22


def genres(model: PoissonMF, draws: Values, data: Triplets, count: int = TOP) -> pd.DataFrame:
    """Return the top columns of each factor.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event].
        data: Its labels.
        count: Columns per factor.

    Returns:
        One line per factor and rank: ``share``, the factor's part of all that is expected; ``weight``, the column's
        part of the factor; ``lift``, that weight over the column's part of everything.
    """
    theta, eta = _means(model, draws)
    mass = theta.sum(0)
    everything = (eta * mass).sum(1) / mass.sum()
    weights, order = eta.sort(dim=0, descending=True, stable=True)
    count = min(count, len(eta))
    rows = [
        {
            "factor": k,
            "share": float(mass[k] / mass.sum()),
            "rank": rank + 1,
            "column": data.column_labels[int(order[rank, k])],
            "weight": float(weights[rank, k]),
            "lift": float(weights[rank, k] / everything[order[rank, k]]),
        }
        for k in range(eta.shape[1])
        for rank in range(count)
    ]
    return pd.DataFrame(rows)


def _means(model: PoissonMF, draws: Values) -> tuple[Float[Tensor, "N K"], Float[Tensor, "M K"]]:
    """Return mean factors, labels and scale aligned: every column of eta sums to 1."""
    aligned = model.canonical(draws)
    return aligned["row_factors"].mean((0, 1)), aligned["column_factors"].mean((0, 1))


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
    N, M = data.shape
    chosen = _chosen(N) if rows is None else torch.as_tensor(rows, dtype=torch.long)
    theta, eta = factors(draws, RATE_DRAWS)
    picked, marked = [], []
    for index in chosen.split(max(1, BLOCK // M)):
        score, old = expected_rates(theta[:, index], eta), _seen(data, index)
        order = torch.where(old, score - 2 * score.max() - 1, score).argsort(dim=1, descending=True, stable=True)
        order = order[:, : min(count, M)]
        picked.append(torch.stack([index[:, None].expand_as(order), order], -1))
        marked.append(old.gather(1, order))
    cells, old = torch.cat(picked), torch.cat(marked)
    rank = torch.arange(1, cells.shape[1] + 1).expand(old.shape)
    keep = torch.ones_like(old) if seen else ~old
    flat, rank, old = cells[keep], rank[keep], old[keep]
    prediction = predictive(theta, eta, flat, eta.new_full((len(flat),), torch.nan))  # the draws that ranked them
    return pd.DataFrame(
        {
            "row": [data.row_labels[i] for i in flat[:, 0].tolist()],
            "rank": rank.cpu(),
            "column": [data.column_labels[j] for j in flat[:, 1].tolist()],
            "mean": prediction.mean.cpu(),
            "lower_90": prediction.lower.cpu(),
            "upper_90": prediction.upper.cpu(),
            "seen": old.cpu(),
        }
    )


def _chosen(size: int, most: int = MOST_ROWS) -> Tensor:
    return torch.linspace(0, size - 1, min(size, most)).round().long()


def _seen(data: Triplets, index: Tensor) -> Bool[Tensor, "n M"]:
    """Return which columns some rows list."""
    part = data.batch(index)
    old = torch.zeros(part.shape, dtype=torch.bool, device=data.values.device)
    old[part.pattern.rows, part.pattern.columns] = True
    return old


def similar(model: PoissonMF, draws: Values, data: Triplets, count: int = SIMILAR) -> pd.DataFrame:
    """Return the nearest columns of each column: by the cosine of how factors share what is expected of them.

    Returns:
        One line per column and rank, columns with the largest totals first.
    """
    theta, eta = _means(model, draws)
    profile = torch.nn.functional.normalize(eta * theta.sum(0), dim=1)
    totals = data.statistics(data.values, "counts")["column_total"][1]
    chosen = torch.as_tensor(np.argsort(-totals, kind="stable")[:MOST_COLUMNS].copy())
    count = min(count, len(eta) - 1)
    rows = []
    for index in chosen.split(max(1, BLOCK // len(eta))):
        cosine = profile[index] @ profile.T
        cosine[torch.arange(len(index)), index] = -1.0
        best, near = cosine.topk(count, 1)
        for j, values, neighbours in zip(index.tolist(), best.tolist(), near.tolist(), strict=True):
            rows += [
                {"column": data.column_labels[j], "rank": r + 1, "similar": data.column_labels[i], "cosine": v}
                for r, (i, v) in enumerate(zip(neighbours, values, strict=True))
            ]
    return pd.DataFrame(rows, columns=["column", "rank", "similar", "cosine"])


def fold_in(model: PoissonMF, draws: Values, rows: Triplets, most: int = RATE_DRAWS) -> Values:
    """Place new rows among the factors without fitting anew.

    For every draw of eta, q(theta_n) is brought to its optimum given it, and theta_n is drawn from it: labels never
    matter, and what is not known of eta stays in the answer.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event] of the fit.
        rows: New rows over the same columns.
        most: Values of eta used.

    Returns:
        Values with the row factors of the new rows, [1, draw, *event], for ``recommend`` and ``predictive``.
    """
    eta = factors(draws, most)[1]
    tiny = torch.finfo(eta.dtype).tiny
    with seeded(0):
        found = fit_rows(model, eta.clamp(min=tiny).log(), eta, rows, steps=200, tol=1e-4)
        theta = Gamma(found.shape, found.rate).sample().clamp(min=tiny)
    return {"row_factors": theta[None], "column_factors": eta[None]}


def tables(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return what goes into tables/: genres, recommendations, similar columns, factors of rows, held-out counts.

    ``test_recommendations`` are those of new rows, folded in; ``holdout`` entries whose true count is known;
    ``missing`` those that nobody knows.
    """
    model, data = fit.model, fit.data
    assert isinstance(model, PoissonMF)
    theta, _ = _means(model, fit.draws)
    result = {
        "genres": genres(model, fit.draws, data),
        "recommendations": recommend(fit.draws, data),
        "similar": similar(model, fit.draws, data),
        "row_factors": _shares(theta, data),
    }
    if data.test is not None:
        new = fold_in(model, fit.draws, data.test)
        result["test_recommendations"] = recommend(new, data.test)
        result["test_row_factors"] = _shares(model.canonical(new, fit.draws)["row_factors"].mean((0, 1)), data.test)
    if data.hidden is not None:
        result["holdout"] = data.predictions(fit.predict(data))
    if (unknown := data.missing) is not None:
        result["missing"] = unknown.predictions(fit.predict(unknown)).drop(columns="true")
    return result


def _shares(theta: Float[Tensor, "N K"], data: Triplets) -> pd.DataFrame:
    """Return each row's expected total and the factors' parts of it."""
    total = theta.sum(1, keepdim=True)
    frame = pd.DataFrame({"row": list(data.row_labels), "expected_total": total[:, 0].cpu()})
    shares = (theta / total).cpu()
    return pd.concat([frame, pd.DataFrame({f"factor[{k}]": shares[:, k] for k in range(shares.shape[1])})], axis=1)


def metrics(fit: Fit) -> dict[str, float]:
    """Return the model's own figures: the ELBO per count, and how well hidden columns are ranked among the unseen."""
    data, result = fit.data, {}
    total = float(data.counts.sum())
    if fit.objective_name.startswith("elbo") and total > 0:
        result["elbo_per_count"] = fit.objective / total
    if data.hidden is not None and bool((data.hidden.values > 0).any()):
        theta, eta = factors(fit.draws, RATE_DRAWS)
        popularity = torch.bincount(data.pattern.columns, minlength=data.shape[1]).to(eta.dtype)
        result |= ranking(data, lambda index: expected_rates(theta[:, index], eta))
        result |= {
            f"popularity_{name}": value
            for name, value in ranking(data, lambda index: popularity.expand(len(index), -1)).items()
        }
    return result


def ranking(data: Triplets, scores: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Judge how a score ranks the hidden columns of each row among all that the row does not list.

    Args:
        data: With hidden entries; those above 0 are what should be found.
        scores: Rows [n] -> score [n, M], at least 0.

    Returns:
        ``ndcg_at_20``, with gain 1 for each hidden column (Järvelin and Kekäläinen 2002), and ``recall_at_20``, the
        part of the hidden columns among the first 20; means over rows that hide any.
    """
    hidden = data.hidden
    assert hidden is not None
    rows, columns = hidden.rows[hidden.values > 0], hidden.columns[hidden.values > 0]
    chosen = rows.unique()
    chosen = chosen[_chosen(len(chosen)).to(chosen.device)]
    ndcg, recall = [], []
    for index in chosen.split(max(1, BLOCK // data.shape[1])):
        wanted = torch.zeros(len(index), data.shape[1], dtype=torch.bool, device=index.device)
        place = torch.searchsorted(index, rows).clamp(max=len(index) - 1)
        mine = index[place] == rows
        wanted[place[mine], columns[mine]] = True
        score = torch.where(_seen(data, index), -1.0, scores(index).double())
        if data.shape[1] > 1:
            pairs = zip(wanted.cpu().numpy(), score.cpu().numpy(), strict=True)
            ndcg += [ndcg_score(each[None], scored[None], k=RANKED) for each, scored in pairs]
        found = wanted.gather(1, score.topk(min(RANKED, data.shape[1]), 1).indices)
        recall += (found.sum(1) / wanted.sum(1)).tolist()
    result = {f"recall_at_{RANKED}": float(np.mean(recall))}
    return result | ({f"ndcg_at_{RANKED}": float(np.mean(ndcg))} if ndcg else {})
