"""What users ask of a fitted factorization: predictions of pairs, what to recommend, new rows, how well it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.ratings import Ratings
from pyrozoo.models.gaussian_mf import point
from pyrozoo.models.gaussian_mf.likelihood import Listed, linear
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.gaussian_mf.prediction import log_densities, predictive, thinned
from pyrozoo.models.gaussian_mf.regression import Conditional

TOP = 10
"""Columns recommended to each row."""

MOST_ROWS = 2000
"""Rows whose recommendations are written; of more, so many are chosen evenly."""

SCORE_DRAWS = 100
"""Posterior draws behind the expected ratings of whole rows."""

TRAIN = 200_000
"""Ratings behind the density of those that were fitted; of more, so many are chosen evenly."""

BLOCK = 2**22


def predictions(
    model: GaussianMF, draws: Values, data: Ratings, pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:  # fmt: skip
    """Predict the ratings of chosen pairs.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event].
        data: Its labels.
        pairs: Labels of a row and of a column.

    Returns:
        One line per pair: mean and 90% predictive interval.

    Raises:
        DataError: A label that the data do not have.
    """
    places = [{label: i for i, label in enumerate(names)} for names in (data.row_labels, data.column_labels)]
    for pair in pairs:
        for label, place, what in zip(pair, places, ("row", "column"), strict=True):
            if label not in place:
                raise DataError(f"{data.name} has no {what} {label!r}")
    index = torch.tensor([[place[label] for label, place in zip(pair, places, strict=True)] for pair in pairs])
    index = index.reshape(-1, 2)
    found = predictive(model, draws, index, data.values.new_full((len(index),), torch.nan))
    return _frame(data, index, found)


def _frame(data: Ratings, pairs: Tensor, found: Prediction) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": [data.row_labels[i] for i in pairs[:, 0].tolist()],
            "column": [data.column_labels[j] for j in pairs[:, 1].tolist()],
            "mean": found.mean.cpu(),
            "lower_90": found.lower.cpu(),
            "upper_90": found.upper.cpu(),
        }
    )


def recommend(
    model: GaussianMF, draws: Values, data: Ratings, rows: list[int] | None = None, count: int = TOP, seen: bool = False
) -> pd.DataFrame:
    """Recommend columns to rows: those that a row has not rated, by expected rating.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event], with a row factor for every row of the data.
        data: What has been rated.
        rows: Which rows; None: all, or an even choice of very many.
        count: Columns per row.
        seen: Whether rated columns may be recommended too.

    Returns:
        One line per row and rank: mean and 90% predictive interval of the rating, and whether it was rated.
    """
    N, M = data.shape
    some = thinned(draws, SCORE_DRAWS)
    chosen = torch.linspace(0, N - 1, min(N, MOST_ROWS)).round().long() if rows is None else torch.as_tensor(rows)
    U, V, mean, a, b = (value[0] for value in linear(some))
    picked, marked, ranks = [], [], []
    for index in chosen.split(max(1, BLOCK // M)):
        # Means over draws of u_i . v_j, one product per draw: never draws x rows x columns.
        score = b.mean(0) + (a[:, index] + mean[:, None]).mean(0)[:, None]
        for u, v in zip(U[:, index], V, strict=True):
            score.addmm_(u, v.T, alpha=1 / len(U))
        old = _rated(data, index)
        if not seen:
            score = score.masked_fill(old, -torch.inf)
        best, order = score.topk(min(count, M), 1)
        keep = torch.isfinite(best)
        cells = torch.stack([index[:, None].expand_as(order), order], -1)
        picked.append(cells[keep])
        marked.append(old.gather(1, order)[keep])
        ranks.append(torch.arange(1, order.shape[1] + 1, device=order.device).expand_as(order)[keep])
    pairs = torch.cat(picked)
    found = predictive(model, some, pairs, V.new_full((len(pairs),), torch.nan))
    frame = _frame(data, pairs, found)
    frame.insert(1, "rank", torch.cat(ranks).cpu().numpy())
    return frame.assign(rated=torch.cat(marked).cpu().numpy())


def _rated(data: Ratings, index: Tensor) -> Bool[Tensor, "n M"]:
    """Return which columns some rows have rated."""
    part = data.batch(index)
    old = torch.zeros(part.shape, dtype=torch.bool, device=data.values.device)
    old[part.pattern.rows, part.pattern.columns] = True
    return old


def fold_in(model: GaussianMF, draws: Values, rows: Ratings, most: int = SCORE_DRAWS) -> Values:
    """Give new rows factors and offsets without fitting anew.

    For every draw of all else, a new row's factors have a normal conditional in closed form and are drawn from it.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event] of the fit.
        rows: New rows over the same columns.
        most: Values used.

    Returns:
        Values with the row factors (and offsets) of the new rows, [1, draw, *event], for ``recommend`` and others.
    """
    some = {site: value[0] for site, value in thinned(draws, most).items()}
    with seeded(0):
        # A state of as many chains as draws, of which only the rows are not yet known.
        kept = {site: value for site, value in some.items() if site not in ("row_factors", "row_offsets")}
        state = point.complete(model, replace(point.initial(model, rows, len(some["column_factors"])), **kept))
        found = Listed(rows, model.offsets).regress("row", point.block(model, state, "column"))
        mean = state.mean if model.offsets else None
        conditional = Conditional.of(found, *point.prior(model, state, "row"), 1 / state.noise_variance, mean)
        state = point.with_block(state, "row", conditional.draw("the precision of a new row's factors"))
    return {site: getattr(state, site).unsqueeze(0) for site in model.sites}


def tables(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return what goes into tables/: recommendations, factors and offsets, held-out ratings.

    ``test_recommendations`` are those of new rows, folded in; ``holdout`` ratings that were hidden; ``missing`` pairs
    that the data list without a rating.
    """
    model, data = fit.model, fit.data
    assert isinstance(model, GaussianMF)
    aligned = model.canonical(fit.draws)
    result = {
        "recommendations": recommend(model, fit.draws, data),
        "row_factors": _factors(model, aligned, data.row_labels, "row"),
        "column_factors": _factors(model, aligned, data.column_labels, "column"),
    }
    if data.test is not None:
        new = fold_in(model, fit.draws, data.test)
        result["test_recommendations"] = recommend(model, new, data.test)
    if data.hidden is not None:
        result["holdout"] = data.predictions(fit.predict(data))
    if (unknown := data.missing) is not None:
        result["missing"] = unknown.predictions(fit.predict(unknown)).drop(columns="true")
    return result


def _factors(model: GaussianMF, aligned: Values, labels: Sequence[str], side: str) -> pd.DataFrame:
    """Return posterior means of factors, draws turned onto each other, and of offsets."""
    frame = pd.DataFrame({side: list(labels)})
    if model.offsets:
        frame["offset"] = aligned[f"{side}_offsets"].mean((0, 1)).cpu().numpy()
    means = aligned[f"{side}_factors"].mean((0, 1)).cpu()
    return pd.concat([frame, pd.DataFrame({f"factor[{k}]": means[:, k] for k in range(means.shape[1])})], axis=1)


def metrics(fit: Fit) -> dict[str, float]:
    """Return the model's own figures: negative log predictive densities per rating, and the test error.

    ``test_*`` are of the ratings held out, ``validation_*`` of those set aside, ``train_nll`` of those fitted (an even
    choice of very many); ``baseline_rmse`` is the test error of the mean of all plus what rows and columns are above
    it.
    """
    data, model, result = fit.data, fit.model, {}
    assert isinstance(model, GaussianMF)
    if fit.objective_name == "elbo":
        result["elbo_per_rating"] = fit.objective / len(data.values)
    some = thinned(fit.draws, SCORE_DRAWS)
    at = torch.linspace(0, len(data.values) - 1, min(len(data.values), TRAIN), dtype=torch.float64).long()
    result["train_nll"] = _nll(model, some, data.values[at, :2].long(), data.counts[at])
    if (aside := data.validation) is not None:
        result["validation_nll"] = _nll(model, some, torch.stack([aside.rows, aside.columns], 1), aside.values)
    if data.hidden is not None:
        found, truth = fit.predict(data), data.hidden.values
        result["test_nll"] = -found.log_density.mean().item()
        result["test_rmse"] = (found.mean - truth).square().mean().sqrt().item()
        result["baseline_rmse"] = (baseline(data) - truth).square().mean().sqrt().item()
    return result


def _nll(model: GaussianMF, draws: Values, pairs: Tensor, truth: Tensor) -> float:
    """Return minus the mean log density of some ratings, averaged over draws inside the log."""
    count = draws["row_factors"].shape[1]
    total = 0.0
    for index in torch.arange(len(pairs), device=pairs.device).split(max(1, BLOCK // (count * model.num_factors))):
        logs = log_densities(model, draws, pairs[index], truth[index])
        total += float((logs[0].double().logsumexp(0)).sum()) - len(index) * float(torch.tensor(count).log())
    return -total / len(pairs)


def baseline(data: Ratings) -> Tensor:
    """Return what the means of rows and of columns predict for the hidden ratings, [entry]."""
    assert data.hidden is not None
    means = data.statistics(data.values, "ratings")
    row, column, mean = (torch.as_tensor(means[name][1]) for name in ("mean_by_row", "mean_by_column", "rating_mean"))
    found = row[data.hidden.rows.cpu()] + column[data.hidden.columns.cpu()] - mean
    return found.to(data.hidden.values)
