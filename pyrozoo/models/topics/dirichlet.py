"""Dirichlet factors, batched over any axes: expected logarithms, and how far they are from their prior."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.special import digamma, gamma_functions


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
    of_prior = prior.expand(shape.shape[1:])
    own = shape.sum(axis).lgamma().sum(-1) - gamma_functions(shape)[1].sum((1, 2))
    their = of_prior.sum(axis - 1).lgamma().sum() - of_prior.lgamma().sum()
    return own - their + ((shape - of_prior) * logs).sum((1, 2))
