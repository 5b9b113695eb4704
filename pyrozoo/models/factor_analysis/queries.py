"""What can be asked of a fitted factor analysis: factors of rows, reconstructions, and what predictions are made of."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Draws, Values
from pyrozoo.math.linear_algebra import pack, packed_outer
from pyrozoo.models.factor_analysis.likelihood import BLOCK_ELEMENTS, Columns, Layout

MOST_DRAWS, LEAST_DRAWS, MOST_WORK = 400, 10, 1e11
"""Posterior draws behind a prediction, the more the fewer the rows, columns and factors, and at least; multiplications
that it may take, a few seconds, unless that left fewer."""


def batches(draws: Values, layout: Layout) -> Iterator[tuple[Columns, Tensor]]:
    """Yield draws as the rows see them, as many at once as memory allows, with their noise variances."""
    (D, M), (P, G) = draws["loadings"].shape[2:], layout.seen.shape
    work = 2.0 * P * G * M**2 + 2.0 * P * M**3 + 4.0 * layout.values.numel() * M
    some = Draws(draws).some(int(min(MOST_DRAWS, max(LEAST_DRAWS, MOST_WORK / work))))
    size = max(layout.values.numel(), D * M, G * (M + 1) ** 2)
    for part in some.flat_blocks(at_once(BLOCK_ELEMENTS, layout.values) // size):
        yield layout.known(part), part["noise_variance"]


def cells(
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
    for at in torch.arange(len(row), device=row.device).split(max(1, at_once(BLOCK_ELEMENTS, W) // (C * M * M))):
        w = W[:, column[at]]
        parts.append(((covariance[:, pattern[at]] @ w.unsqueeze(-1)).squeeze(-1) * w).sum(-1))
    return mean, torch.cat(parts, 1) if parts else torch.zeros_like(mean)


def factors(layout: Layout, draws: Values) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M"]]:
    """Return mean and standard deviation of the factors of rows, old or new, without refitting.

    Args:
        layout: Of the rows; those without any value get the prior.
        draws: Draws turned onto each other (``Fit.aligned``).
    """
    count, first = 0, layout.values.new_zeros(len(layout.values), draws["loadings"].shape[-1])
    second = first.clone()
    for known, _ in batches(draws, layout):
        for block, z, covariance in layout.posteriors(known):
            variance = covariance.diagonal(dim1=-2, dim2=-1)
            variance = variance if block.index is None else variance[:, block.index]
            first[block.rows] += z.sum(0)
            second[block.rows] += (z.square() + variance).sum(0)
        count += len(known.coefficients)
    mean = first / count
    return mean[layout.back], (second / count - mean.square()).clamp(min=0).sqrt()[layout.back]


def reconstruct(layout: Layout, draws: Values) -> Float[Tensor, "N D"]:
    """Return E[w_d . z_n + mu_d | observed x_n] of every cell: rows, old or new, without noise and holes."""
    count, total = 0, torch.zeros_like(layout.values)
    for known, _ in batches(draws, layout):
        for block, z, _covariance in layout.posteriors(known):
            total[block.rows] += (z @ known.coefficients[..., :-1].mT + known.coefficients[..., -1:].mT).sum(0)
        count += len(known.coefficients)
    return total[layout.back] / count + layout.offset
