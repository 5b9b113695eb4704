"""What can be asked of a fitted mixture: clusters of rows, affinity, completion of missing counts."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture.likelihood import Layout, weights_of

MOST_DRAWS = 1000
"""Posterior draws used by a query; more change nothing that a reader could see."""

PREDICTIVE_DRAWS = 1000
"""Values behind a predictive interval; with very many entries fewer, but never below 200 (quantiles to about 2%)."""

BLOCK_ELEMENTS = 2**22

MOST_ELEMENTS = 10**9
"""Entries times draws times components of a prediction; draws are thinned to stay below (a minute's work)."""


def _some(draws: Values, most: int = MOST_DRAWS) -> dict[str, Tensor]:
    return Draws({site: draws[site] for site in ("weights", "on_prob", "rate")}).some(most).flat()


def predict(draws: Values, table: Table) -> Prediction:
    """Predict hidden counts: E[x | x_obs] = sum_k p(k | x_obs) omega_k lambda_k, averaged over draws, with intervals.

    Args:
        draws: Site -> [chain, draw, *event].
        table: Its hidden entries are predicted from the observed ones of the same row; the rows may be new.

    Returns:
        The prediction of every hidden entry, in their order.
    """
    hidden = table.hidden
    if hidden is None:
        raise ValueError("the table hides no entries")
    K = draws["weights"].shape[-1]
    flat = _some(draws, min(MOST_DRAWS, max(50, MOST_ELEMENTS // (len(hidden.rows) * K + 1))))
    S = len(flat["weights"])
    predictive = max(200, min(PREDICTIVE_DRAWS, 10**8 // (len(hidden.rows) + 1)))
    parts: list[tuple[Tensor, ...]] = []
    step = max(1, BLOCK_ELEMENTS // (max(S, predictive) * K))
    with seeded(0):  # a query of one fit always answers the same
        for start in range(0, len(hidden.rows), step):
            block = slice(start, start + step)
            cells = hidden.rows[block], hidden.columns[block], hidden.values[block]
            parts.append(_predict_block(flat, table, *cells, predictive))
    return Prediction(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _predict_block(
    flat: dict[str, Tensor], table: Table, rows: Tensor, columns: Tensor, x: Tensor, predictive: int
) -> tuple[Tensor, ...]:
    unique, position = rows.unique(return_inverse=True)
    layout = Layout.of(table.batch(unique))
    r, _ = layout.responsibilities(weights_of(flat, layout), flat["weights"].log(), slice(None))
    r = r[position]  # [entry, S, K]
    on, rate = (flat[site][:, :, columns].permute(2, 0, 1) for site in ("on_prob", "rate"))
    mean = (r * on * rate).sum(-1).mean(-1)
    value = x[:, None, None]
    zip_log = torch.log(on) + torch.xlogy(value, rate) - rate - torch.lgamma(value + 1)
    zip_log = torch.where(value == 0, torch.logaddexp(zip_log, torch.log1p(-on)), zip_log)
    log_density = torch.logsumexp(zip_log + r.log(), (1, 2)) - np.log(r.shape[1])
    # Predictive draws: pick a posterior draw and a component, then a count. Every posterior draw serves equally often.
    repeats = -(-predictive // r.shape[1])
    component = torch.multinomial(r.flatten(0, 1), repeats, replacement=True).unflatten(0, r.shape[:2])
    on, rate = torch.take_along_dim(on, component, 2), torch.take_along_dim(rate, component, 2)
    counts = (torch.poisson(rate) * (torch.rand_like(on) < on)).flatten(1)
    bounds = torch.quantile(counts, counts.new_tensor([0.05, 0.95]), dim=1, interpolation="nearest")
    less, equal = (counts < x[:, None]).to(x.dtype).mean(1), (counts == x[:, None]).to(x.dtype).mean(1)
    return mean, bounds[0], bounds[1], log_density, less + torch.rand_like(x) * equal


def assign(layout: Layout, draws: Values) -> Float[Tensor, "N K"]:
    """Return p(z_i = k | x_i) of rows, old or new, averaged over draws.

    Args:
        layout: Of the rows.
        draws: Draws with aligned labels.
    """
    flat = _some(draws)
    weights, log_prior = weights_of(flat, layout), flat["weights"].log()
    blocks = layout.blocks(log_prior.numel())
    return torch.cat([layout.responsibilities(weights, log_prior, rows)[0].mean(1) for rows in blocks])


def affinity(layout: Layout, draws: Values) -> Float[Tensor, "N N"]:
    """Return A_ij = P(z_i = z_j | data): the average over draws of r_i . r_j, and 1 on the diagonal.

    For a point or variational fit z_i and z_j are independent given the parameters, so r r^T is exact; for samples the
    average over draws is the Rao-Blackwellised co-assignment. N x N: choose the rows.
    """
    flat, size = _some(draws), len(layout.design)
    weights, log_prior = weights_of(flat, layout), flat["weights"].log()
    total = layout.design.new_zeros(size, size)
    step = max(1, BLOCK_ELEMENTS // (log_prior.shape[1] * size))
    for start in range(0, len(weights), step):
        block = slice(start, start + step)
        r = layout.responsibilities(weights[block], log_prior[block], slice(None))[0].flatten(1)
        total.addmm_(r, r.T)
    return (total / len(weights)).fill_diagonal_(1.0)
