"""Many covariance matrices at once: inverse Wishart distributions with a scale matrix each."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrozoo.math.linear_algebra import lower_factor, standard_normal
from pyrozoo.program.inverse_wishart import covariance_matrix


class InverseWisharts(TorchDistribution):
    """Inverse Wisharts: density proportional to |S|^-((nu + D + 1) / 2) exp(-tr(Psi S^-1) / 2) (Gelman 2013, app. A).

    Args:
        degrees: nu, above D - 1, [*batch].
        scale: Psi, positive definite, [*batch, D, D].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = covariance_matrix
    has_rsample = True

    def __init__(self, degrees: Tensor, scale: Tensor):
        batch = torch.broadcast_shapes(degrees.shape, scale.shape[:-2])
        self.degrees, self.scale = degrees.expand(batch), scale.expand(*batch, *scale.shape[-2:])
        super().__init__(batch, scale.shape[-2:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> InverseWisharts:
        """Return the same with a larger batch."""
        return InverseWisharts(self.degrees.expand(batch_shape), self.scale.expand(*batch_shape, *self.event_shape))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw matrices by Bartlett's decomposition of their inverse."""
        shape = torch.Size(sample_shape) + self.batch_shape
        size = self.event_shape[-1]
        half = (self.degrees.unsqueeze(-1) - torch.arange(size).to(self.degrees)) / 2
        roots = (2 * torch._standard_gamma(half.expand(*shape, size).contiguous())).sqrt()
        roots = roots.clamp(min=torch.finfo(roots.dtype).tiny ** 0.25)  # a draw of 0 is none
        bartlett = standard_normal(roots.new_empty(*shape, size, size)).tril(-1) + roots.diag_embed()
        upper = torch.linalg.solve_triangular(bartlett, lower_factor(self.scale).mT, upper=False)
        return upper.mT @ upper

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density with respect to the lower triangle of the matrix."""
        size, nu, factor = self.event_shape[-1], self.degrees, lower_factor(value)
        half = torch.linalg.solve_triangular(factor, lower_factor(self.scale), upper=False)
        trace = half.square().sum((-2, -1))
        power = nu * (log_determinant(self.scale) - size * math.log(2)) - (nu + size + 1) * 2 * log_diagonal(factor)
        return 0.5 * (power - trace) - torch.mvlgamma(nu / 2, size)

    @property
    def mean_log_determinant(self) -> Tensor:
        """Return E log |S|."""
        size = self.event_shape[-1]
        return log_determinant(self.scale) - size * math.log(2) - digammas(self.degrees, size)

    def divergence(self, other: InverseWisharts) -> Tensor:
        """Return KL(self || other), [*batch]."""
        size, nu, mu = self.event_shape[-1], self.degrees, other.degrees
        trace = (other.scale * torch.cholesky_inverse(lower_factor(self.scale))).sum((-2, -1))
        scales = nu * log_determinant(self.scale) - mu * log_determinant(other.scale)
        powers = (nu - mu) * (size * math.log(2) + self.mean_log_determinant)
        constants = torch.mvlgamma(mu / 2, size) - torch.mvlgamma(nu / 2, size)
        return 0.5 * (scales - powers + nu * (trace - size)) + constants


def digammas(degrees: Tensor, size: int) -> Tensor:
    """Return sum_i psi((nu + 1 - i) / 2), i = 1..size: the derivative of the multivariate log Gamma function."""
    return torch.digamma((degrees.unsqueeze(-1) - torch.arange(size).to(degrees)) / 2).sum(-1)


def log_diagonal(factor: Float[Tensor, "*batch D D"]) -> Float[Tensor, "*batch"]:
    """Return the sum of the logarithms of the diagonal of a Cholesky factor: half a log determinant."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def log_determinant(matrix: Float[Tensor, "*batch D D"]) -> Float[Tensor, "*batch"]:
    """Return log |A| of positive definite matrices."""
    return 2 * log_diagonal(lower_factor(matrix))
