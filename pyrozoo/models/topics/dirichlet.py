"""Dirichlet factors, batched over any axes: expected logarithms, distance from the prior, and the best prior."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.special import digamma, gamma_functions

NEWTON_STEPS, NEWTON_TOL = 100, 1e-10
"""Most steps to the best prior, and the relative change at which it is found."""

LEAST, MOST = 1e-4, 1e4
"""Between which concentrations stay."""


def expected_log(shape: Float[Tensor, "C A B"], axis: int) -> Float[Tensor, "C A B"]:
    """Return E log of Dirichlet variables that sum to 1 along an axis."""
    return digamma(shape) - digamma(shape.sum(axis, keepdim=True))


def gap(
    shape: Float[Tensor, "C A B"], prior: Float[Tensor, "*p"], logs: Float[Tensor, "C A B"], axis: int
) -> Float[Tensor, C]:
    """Return KL(Dirichlet(shape) || Dirichlet(prior)), summed over all.

    Args:
        shape: Of q.
        prior: The same for all, broadcast along the other axis.
        logs: ``expected_log(shape, axis)``.
        axis: Along which the variables sum to 1.
    """
    of_prior = prior.expand_as(shape)
    own = shape.sum(axis).lgamma().sum(-1) - gamma_functions(shape)[1].sum((1, 2))
    their = of_prior.sum(axis).lgamma().sum(-1) - of_prior.lgamma().sum((1, 2))
    return own - their + ((shape - of_prior) * logs).sum((1, 2))


def best_shapes(shape: Float[Tensor, "C K"], logs: Float[Tensor, "C K"]) -> Float[Tensor, "C K"]:
    """Return the Dirichlet that gives variables with mean log ``logs`` the greatest density (Minka 2000).

    Newton's method, whose matrix is a diagonal plus a constant, from ``shape``.
    """
    alpha = shape.double()
    logs = logs.double()
    for _ in range(NEWTON_STEPS):
        total = alpha.sum(-1, keepdim=True)
        gradient = torch.digamma(total) - torch.digamma(alpha) + logs
        q, z = -torch.polygamma(1, alpha), torch.polygamma(1, total)
        shift = (gradient / q).sum(-1, keepdim=True) / (1 / z + (1 / q).sum(-1, keepdim=True))
        new = alpha - (gradient - shift) / q
        new = torch.where(new > 0, new, alpha / 2).clamp(LEAST, MOST)
        change, alpha = ((new - alpha).abs() / alpha).max(), new
        if float(change) < NEWTON_TOL:
            break
    return alpha.to(shape)


def best_shape(shape: Float[Tensor, C], logs: Float[Tensor, C], size: int) -> Float[Tensor, C]:
    """Return the same of Dirichlets whose ``size`` concentrations are all equal, with ``logs`` the mean of all logs.

    Newton's method in log b, in which the objective is concave wherever it matters.
    """
    b, logs = shape.double(), logs.double()
    for _ in range(NEWTON_STEPS):
        slope = b * (torch.digamma(size * b) - torch.digamma(b) + logs)
        curve = b * b * (size * torch.polygamma(1, size * b) - torch.polygamma(1, b)) + slope
        step = torch.where(curve < 0, -slope / curve, slope.sign()).clamp(-1, 1)
        b = (b * step.exp()).clamp(LEAST, MOST)
        if float(step.abs().max()) < NEWTON_TOL:
            break
    return b.to(shape)


def above_zero(shape: Float[Tensor, "C A B"]) -> Float[Tensor, "C A B"]:
    """Draw Dirichlet variables, kept above 0."""
    tiny = torch.finfo(shape.dtype).tiny
    drawn = torch._standard_gamma(shape).clamp_(min=tiny)
    return drawn.div_(drawn.sum(-1, keepdim=True)).clamp_(min=tiny)
