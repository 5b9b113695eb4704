r"""The bound of variational EM: z_u ~ N(lambda_u, diag v_u), and a bound on the expected normaliser.

For every zeta > 0, log y <= y / zeta - 1 + log zeta, so that with exp terms e_ik = exp(lambda.beta_ik + a_ik +
sum_s beta_iks^2 v_s / 2), whose sum over k is the expected normaliser of item i,

    E log p(x_u | z_u) >= sum_ik x_ik (lambda.beta_ik + a_ik) - sum_i m_i [ sum_k e_ik / zeta_i - 1 + log zeta_i ].

The best zeta is that sum (``per_item``), or its mean over the row's answers where all items share one (``per_row``).
Putting the best zeta in, the bound is jointly concave in lambda and log v: log-sum-exp of convex functions is convex.
Blei and Lafferty 2007, Annals of Applied Statistics 1, have one zeta per row.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.linear_algebra import packed_outer, unpack
from pyrozoo.math.newton import Evaluated, maximise
from pyrozoo.models.categorical_fa.layout import Block, Layout, Parameters
from pyrozoo.models.categorical_fa.likelihood import moments

Zeta = Literal["per_item", "per_row"]


def exponents(p: Parameters, mean: Float[Tensor, "C B d"], variance: Float[Tensor, "C B d"]) -> Float[Tensor, "C P B"]:
    """Return log e_ik."""
    return p.logits(mean.mT) + 0.5 * p.beta.square() @ variance.mT


def evaluate_rows(layout: Layout, block: Block, p: Parameters, x: Float[Tensor, "C B d2"], zeta: Zeta) -> Evaluated:
    """Return the bound of every row at (lambda, log v) and the best zeta, its gradient, and minus its Hessian."""
    d = x.shape[-1] // 2
    mean, theta = x[..., :d], x[..., d:]
    variance = theta.exp()
    logs = exponents(p, mean, variance)
    weight, log_zeta = layout.weights(logs, block.answers, zeta == "per_row")
    features = torch.cat([p.beta, 0.5 * p.beta.square()], -1)
    if zeta == "per_item":
        expected, inner = moments(layout, block.answers, weight, features)
    else:
        expected, inner = _row_moments(block.answers.sum(0), weight, features)
    linear = block.counts.T @ p.beta
    precision = torch.linalg.inv(p.covariance)
    away = mean - p.mean.unsqueeze(1)
    pulled = away @ precision
    diagonal = precision.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
    value = (linear * mean).sum(-1) + p.offset @ block.counts - (block.answers * log_zeta).sum(1)
    value = value - 0.5 * (away * pulled).sum(-1) - 0.5 * (diagonal * variance).sum(-1) + 0.5 * theta.sum(-1)
    value = value + 0.5 * d - 0.5 * torch.logdet(p.covariance).unsqueeze(-1)
    slope = expected[..., d:] + 0.5 * diagonal
    gradient = torch.cat([linear - expected[..., :d] - pulled, 0.5 - variance * slope], -1)
    scale = torch.cat([torch.ones_like(mean), variance], -1)
    curvature = inner * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    curvature[..., :d, :d] += precision.unsqueeze(1)
    curvature[..., d:, d:] += torch.diag_embed(variance * slope)
    return value, gradient, curvature


def _row_moments(count: Tensor, weight: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum w phi and its covariance times the row's answers, with one zeta for the row."""
    first = weight.mT @ features
    second = weight.mT @ packed_outer(features, features)
    second = second - packed_outer(first, first) / count.clamp(min=1).unsqueeze(-1)
    return first, unpack(second, features.shape[-1])


def maximise_rows(
    layout: Layout, block: Block, p: Parameters, mean: Float[Tensor, "C B d"], variance: Float[Tensor, "C B d"],
    zeta: Zeta,
) -> tuple[Float[Tensor, "C B d"], Float[Tensor, "C B d"], Float[Tensor, "C B"]]:  # fmt: skip
    """Return lambda, v and the bound of every row at its maximum, from where to start."""
    start = torch.cat([mean, variance.log()], -1)
    x, (value, _, _) = maximise(lambda at: evaluate_rows(layout, block, p, at, zeta), start)
    d = mean.shape[-1]
    return x[..., :d], x[..., d:].exp(), value
