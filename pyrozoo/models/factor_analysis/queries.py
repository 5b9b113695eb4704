"""What users ask of a fitted factor analysis: factors of rows, reconstructions of holes, loadings."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.table import Table
from pyrozoo.math.linear_algebra import pack, packed_outer
from pyrozoo.math.mixture import RunningPrediction
from pyrozoo.models.factor_analysis.likelihood import BLOCK_ELEMENTS, Columns, Layout, point_columns

MOST_DRAWS, LEAST_DRAWS = 400, 10
"""Posterior draws behind a prediction: the more the fewer the rows, columns and factors."""

MOST_WORK = 1e11
"""Multiplications that a prediction may take, unless that left fewer than ``LEAST_DRAWS``: a few seconds."""

MOST_CELLS = 100_000
"""Cells of a table written out; with more, the pictures and metrics show them."""

SITES = ("loadings", "mean", "noise_variance")


def _thinned(draws: Values, most: int) -> list[Tensor]:
    """Return loadings, mean and noise [S, ...], evenly chosen over chains."""
    flat = [draws[site].flatten(0, 1) for site in SITES]
    total = len(flat[0])
    keep = torch.linspace(0, total - 1, min(total, most)).round().long().to(flat[0].device)
    return [value[keep] for value in flat]


def _batches(draws: Values, layout: Layout) -> Iterator[tuple[Columns, Tensor]]:
    """Yield draws as the rows see them, as many at once as memory allows, with their noise variances."""
    (D, M), (P, G) = draws["loadings"].shape[2:], layout.seen.shape
    work = 2.0 * P * G * M**2 + 2.0 * P * M**3 + 4.0 * layout.values.numel() * M
    chosen = _thinned(draws, int(min(MOST_DRAWS, max(LEAST_DRAWS, MOST_WORK / work))))
    size = max(layout.values.numel(), D * M, G * (M + 1) ** 2)
    for part in zip(*(value.split(max(1, BLOCK_ELEMENTS // size)) for value in chosen), strict=True):
        yield point_columns(part[0], part[1], part[2], layout), part[2]


def predict(draws: Values, table: Table) -> Prediction:
    """Predict hidden values: x_nd | observed x_n ~ N(w_d . E z_n + mu_d, w_d^T J_n^-1 w_d + sigma_d^2), over draws.

    Args:
        draws: Site -> [chain, draw, *event].
        table: Its hidden entries are predicted from the observed ones of the same row; the rows may be new.

    Returns:
        The prediction of every hidden entry, in their order; intervals are a normal's with the mixture's moments.
    """
    hidden = table.hidden
    if hidden is None:
        raise ValueError("the table hides no entries")
    rows, position = hidden.rows.unique(return_inverse=True)
    part = table.batch(rows)
    layout = Layout.of(part)
    place = layout.back[position]
    order = place.argsort(stable=True)
    place, columns = place[order], hidden.columns[order]
    result = RunningPrediction(hidden.values[order])
    for known, noise in _batches(draws, layout):
        W = known.coefficients[..., :-1]
        mean, variance = (W.new_empty(len(W), len(place)) for _ in range(2))
        for block, z, covariance in layout.posteriors(known):
            start, stop = torch.searchsorted(
                place, torch.tensor([block.start, block.stop], device=place.device)
            ).tolist()
            local, d = place[start:stop] - block.start, columns[start:stop]
            pattern = torch.zeros_like(local) if block.index is None else block.index[local]
            mean[:, start:stop], variance[:, start:stop] = _cells(W, z, covariance, local, pattern, d)
        mean += known.coefficients[..., -1][:, columns] + layout.offset[columns]
        result.add(mean, variance + noise[:, columns])
    found, back = result.prediction(), order.argsort()
    return Prediction(*(getattr(found, name)[back] for name in ("mean", "lower", "upper", "log_density", "pit")))


def _cells(
    W: Tensor, z: Tensor, covariance: Tensor, row: Tensor, pattern: Tensor, column: Tensor
) -> tuple[Tensor, Tensor]:
    """Return w_d . z_n and w_d^T cov_n w_d of some cells, [C, cell]."""
    (C, D, M), patterns = W.shape, covariance.shape[1]
    # For many cells whole products are faster than gathering M^2 numbers for each.
    many = len(row) * 8 > z.shape[1] * D
    mean = (z @ W.mT)[:, row, column] if many else (z[:, row] * W[:, column]).sum(-1)
    if len(row) * 8 > patterns * D:
        doubled = packed_outer(W, W) * (2 - pack(torch.eye(M, dtype=W.dtype, device=W.device)))
        return mean, (pack(covariance) @ doubled.mT)[:, pattern, column]
    parts = []
    for at in torch.arange(len(row), device=row.device).split(max(1, BLOCK_ELEMENTS // (C * M * M))):
        w = W[:, column[at]]
        parts.append(((covariance[:, pattern[at]] @ w.unsqueeze(-1)).squeeze(-1) * w).sum(-1))
    return mean, torch.cat(parts, 1) if parts else torch.zeros_like(mean)


def factors(draws: Values, table: Table) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M"]]:
    """Return mean and standard deviation of the factors of rows, old or new, without refitting.

    Args:
        draws: Values turned onto each other (``FactorAnalysis.canonical``).
        table: The rows; those without any value get the prior.
    """
    layout = Layout.of(table)
    count, first, second = 0, torch.zeros(()), torch.zeros(())
    for known, _ in _batches(draws, layout):
        for block, z, covariance in layout.posteriors(known):
            variance = covariance.diagonal(dim1=-2, dim2=-1)
            variance = variance if block.index is None else variance[:, block.index]
            if first.ndim == 0:
                first = second = z.new_zeros(len(layout.values), z.shape[-1])
                second = second.clone()
            first[block.rows] += z.sum(0)
            second[block.rows] += (z.square() + variance).sum(0)
        count += len(known.coefficients)
    mean = first / count
    return mean[layout.back], (second / count - mean.square()).clamp(min=0).sqrt()[layout.back]


def reconstruct(draws: Values, table: Table) -> Float[Tensor, "N D"]:
    """Return E[w_d . z_n + mu_d | observed x_n] of every cell: rows, old or new, without noise and holes."""
    layout = Layout.of(table)
    count, total = 0, torch.zeros_like(layout.values)
    for known, _ in _batches(draws, layout):
        for block, z, _covariance in layout.posteriors(known):
            total[block.rows] += (z @ known.coefficients[..., :-1].mT + known.coefficients[..., -1:].mT).sum(0)
        count += len(known.coefficients)
    return total[layout.back] / count + layout.offset


def completed(fit: Fit, table: Table) -> Float[Tensor, "N D"]:
    """Return a table with its holes filled by the predictive mean, hidden entries by what the fit already knows."""
    values = table.values.clone()
    for part in (table, table.missing):
        if part is not None and part.hidden is not None and len(part.hidden.values):
            values[part.hidden.rows, part.hidden.columns] = fit.predict(part).mean.to(values)
    return values


def tables(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return what goes into tables/: loadings, factors of all rows, predictions of hidden and missing cells."""
    draws, table = fit.model.canonical(fit.draws), fit.data
    result = {"loadings": _loadings(draws, table), "factors": _factors(draws, table)}
    if table.test is not None:
        result["test_factors"] = _factors(draws, table.test)
    for prefix, part in (("", table), ("test_", table.test)):
        if part is None:
            continue
        if part.hidden is not None and 0 < len(part.hidden.values) <= MOST_CELLS:
            result[f"{prefix}holdout"] = part.predictions(fit.predict(part))
        unknown = part.missing
        if unknown is not None and unknown.hidden is not None and len(unknown.hidden.values) <= MOST_CELLS:
            frame = unknown.predictions(fit.predict(unknown))
            result[f"{prefix}missing"] = frame.drop(columns="true")
    return result


def _loadings(draws: Values, table: Table) -> pd.DataFrame:
    W, noise = draws["loadings"].flatten(0, 1), draws["noise_variance"].flatten(0, 1)
    explained = W.square().sum(-1)
    frame = pd.DataFrame(
        {
            "column": list(table.column_labels),
            "mean": draws["mean"].mean((0, 1)).cpu().numpy(),
            "noise_sd": noise.sqrt().mean(0).cpu().numpy(),
            "communality": (explained / (explained + noise)).mean(0).cpu().numpy(),
        }
    )
    means = W.mean(0).cpu().numpy()
    return pd.concat([frame, pd.DataFrame(means, columns=[f"factor[{m}]" for m in range(means.shape[1])])], axis=1)


def _factors(draws: Values, table: Table) -> pd.DataFrame:
    mean, sd = (value.cpu().numpy() for value in factors(draws, table))
    names = range(mean.shape[1])
    parts = [pd.DataFrame({"row": list(table.row_labels)}), pd.DataFrame(mean, columns=[f"mean[{m}]" for m in names])]
    return pd.concat([*parts, pd.DataFrame(sd, columns=[f"sd[{m}]" for m in names])], axis=1)


def metrics(fit: Fit) -> dict[str, float]:
    """Return the model's own figures: reconstruction of hidden entries, against the mean of their column."""
    table, hidden = fit.data, fit.data.hidden
    if hidden is None or not len(hidden.values):
        return {}
    prediction, truth = fit.predict(table), hidden.values
    naive = (table.filled.sum(0) / table.observed.sum(0))[hidden.columns]
    inside = (truth >= prediction.lower) & (truth <= prediction.upper)
    return {
        "reconstruction_rmse": (prediction.mean - truth).square().mean().sqrt().item(),
        "mean_imputation_rmse": (naive - truth).square().mean().sqrt().item(),
        "coverage_90": inside.double().mean().item(),
    }
