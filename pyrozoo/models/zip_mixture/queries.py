"""What can be asked of a fitted mixture: clusters of rows, affinity, completion of missing counts."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture.cellwise import Cellwise
from pyrozoo.models.zip_mixture.likelihood import Layout
from pyrozoo.models.zip_mixture.overdispersion import log_excess

MOST_DRAWS = 1000
"""Posterior draws used by a query, and values behind an interval; more change nothing that a reader could see.

With very many entries intervals take fewer values, but never below 200 (quantiles to about 2%).
"""

BLOCK_ELEMENTS = 2**22


def predict_cells(
    posterior: Any, flat: Values, predictive: int, rows: Tensor, columns: Tensor, x: Tensor
) -> Prediction:  # fmt: skip
    """Predict some cells [entry] whose true counts are x, with so many values behind an interval."""
    unique, position = rows.unique(return_inverse=True)
    table: Table = posterior.data
    layout = posterior.on(table.batch(unique)).layout
    r, _ = layout.responsibilities(layout.given(flat), slice(None))
    r = r[position]  # [entry, S, K]
    on, rate, *size = (flat[s][:, :, columns].permute(2, 0, 1) for s in ("on_prob", "rate", "size") if s in flat)
    if table.exposure is not None:
        rate = rate * table.exposure[rows, None, None]
    mean = (r * on * rate).sum(-1).mean(-1)
    value = x[:, None, None]
    excess = log_excess(value, rate, size[0] if size else None)
    zip_log = torch.log(on) + torch.xlogy(value, rate) + excess - torch.lgamma(value + 1)
    zip_log = torch.where(value == 0, torch.logaddexp(zip_log, torch.log1p(-on)), zip_log)
    log_density = torch.logsumexp(zip_log + r.log(), (1, 2)) - math.log(r.shape[1])
    # Predictive draws: pick a posterior draw and a component, then a count. Every posterior draw serves equally often.
    repeats = -(-predictive // r.shape[1])
    component = torch.multinomial(r.flatten(0, 1), repeats, replacement=True).unflatten(0, r.shape[:2])
    on, rate, *size = (torch.take_along_dim(each, component, 2) for each in (on, rate, *size))
    if size:
        rate = rate * torch._standard_gamma(size[0]) / size[0]
    counts = (torch.poisson(rate) * (torch.rand_like(on) < on)).flatten(1)
    return Prediction.of_counts(mean, log_density, counts.T, x)


def assign(layout: Layout | Cellwise, draws: Values) -> Float[Tensor, "N K"]:
    """Return p(z_i = k | x_i) of rows, old or new, averaged over draws.

    Args:
        layout: Of the rows.
        draws: Draws with aligned labels.
    """
    given: Any = layout.given(Draws(draws).some(MOST_DRAWS).flat())
    blocks = layout.blocks(given[-1].numel())
    return torch.cat([layout.responsibilities(given, rows)[0].mean(1) for rows in blocks])


def affinity(layout: Layout | Cellwise, draws: Values) -> Float[Tensor, "N N"]:
    """Return A_ij = P(z_i = z_j | data): the average over draws of r_i . r_j, and 1 on the diagonal.

    For a point or variational fit z_i and z_j are independent given the parameters, so r r^T is exact; for samples the
    average over draws is the Rao-Blackwellised co-assignment. N x N: choose the rows.
    """
    given: Any = layout.given(Draws(draws).some(MOST_DRAWS).flat())
    size, (count, K) = layout.rows, given[-1].shape
    total = given[-1].new_zeros(size, size)
    step = max(1, at_once(BLOCK_ELEMENTS, total) // (K * size))
    for block in zip(*(each.split(step) for each in given), strict=True):
        r = layout.responsibilities(block, slice(None))[0].flatten(1)
        total.addmm_(r, r.T)
    return (total / count).fill_diagonal_(1.0)
