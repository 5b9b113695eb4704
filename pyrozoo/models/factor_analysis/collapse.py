"""A sampler's moves of single columns, the factors summed out, where drawn factors would hold the noise fast."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.math.linear_algebra import lower_factor, standard_normal
from pyrozoo.models.factor_analysis.regression import Prior, draw_noise


def second_moments(values: Float[Tensor, "C N D"]) -> Float[Tensor, "C E E"]:
    """Return the sum over rows of (x, 1)(x, 1)^T in double precision, of complete rows."""
    chains, N, D = values.shape
    total = values.new_zeros(chains, D + 1, D + 1, dtype=torch.float64)
    for block in values.split(4096, 1):
        x = block.double()
        total[:, :D, :D] += x.mT @ x
        total[:, D, :D] += x.sum(1)
    total[:, :D, D] = total[:, D, :D]
    total[:, D, D] = N
    return total


def move(
    beta: Float[Tensor, "C D A"], noise: Float[Tensor, "C D"], second: Float[Tensor, "C E E"], prior: Prior,
    columns: Int[Tensor, K],
) -> tuple[Float[Tensor, "C D A"], Float[Tensor, "C D"]]:  # fmt: skip
    """Move (w_d, mu_d, sigma_d^2) of some columns, one after another, the others held and all factors summed out.

    Given the other columns z_n ~ N(m_n, V), so that x_nd ~ N(w_d . m_n + mu_d, tau) with tau = sigma_d^2 + w_d^T V w_d:
    a regression on m_n. It proposes (w_d, mu_d, tau), a normal-inverse-gamma whatever stands there now, and Metropolis
    accepts by what the priors say of sigma_d^2 = tau - w_d^T V w_d; none below zero is accepted. A Gibbs step given
    the factors cannot go far: where a factor is known from one column, its draw has fixed that column's residuals.

    Args:
        beta: Coefficients relative to the layout's offset.
        noise: Noise variances.
        second: sum over rows of (x, 1)(x, 1)^T, x relative to the offset: all that the likelihood of complete rows
            depends on.
        prior: Of the columns.
        columns: Which to move.
    """
    beta, noise = beta.double().clone(), noise.double().clone()
    (C, D, size), P = beta.shape, prior.precision
    M, eye = size - 1, torch.eye(size - 1, dtype=beta.dtype, device=beta.device)
    Q, K = beta.new_zeros(C, D + 1, size), P.repeat(C, 1, 1)
    Q[:, D, M] = 1
    degrees = prior.degrees + second[:, D, D:]
    power = 0.5 * (prior.degrees + 2 + size)
    T = beta[..., :M] / noise.unsqueeze(-1)
    for d in columns.tolist():
        # What the other columns say of the rows: m_n = Q^T (x_n, 1)
        T[:, d] = 0
        V = torch.cholesky_inverse(lower_factor(eye + T.mT @ beta[..., :M]))
        Q[:, :D, :M] = T @ V
        Q[:, D, :M] = -(beta[:, None, :, M] @ Q[:, :D, :M]).squeeze(1)
        products = second @ Q
        # The proposal, whose prior is that of the model with V added to the precision of w_d
        K[:, :M, :M] = P[:M, :M] + V
        start = prior.mean[d]
        L = lower_factor(Q.mT @ products + K)
        right = (products[:, d] + K @ start).unsqueeze(-1)
        half = torch.linalg.solve_triangular(L, right, upper=False)
        scale = prior.scale + second[:, d, d] + start @ P @ start - half.square().sum((1, 2))
        tau = draw_noise(scale.clamp(min=prior.scale).unsqueeze(-1), degrees).squeeze(-1)
        half = half + tau.sqrt()[:, None, None] * standard_normal(half)
        proposed = torch.linalg.solve_triangular(L.mT, half, upper=True).squeeze(-1)
        # Now, and proposed: log of target over proposal, in which the likelihood cancels
        both = torch.stack([beta[:, d], proposed], 1)
        lost = ((both[..., :M] @ V) * both[..., :M]).sum(-1)
        totals = torch.stack([noise[:, d] + lost[:, 0], tau], 1)
        kept = torch.stack([noise[:, d], tau - lost[:, 1]], 1)
        away = both - start
        penalty = prior.scale + ((away @ P) * away).sum(-1)
        weight = power * (totals / kept).log() - 0.5 * (penalty / kept - (penalty + lost) / totals)
        # A variance below zero, or a factor that does not exist, gives no number, which is no reason to go.
        go = torch.rand_like(tau).log() < weight[:, 1] - weight[:, 0]
        beta[:, d] = torch.where(go.unsqueeze(-1), proposed, beta[:, d])
        noise[:, d] = torch.where(go, kept[:, 1], noise[:, d])
        T[:, d] = beta[:, d, :M] / noise[:, d].unsqueeze(-1)
    return beta, noise
