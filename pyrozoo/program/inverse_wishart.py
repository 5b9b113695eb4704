"""Covariance matrices with a density: the inverse Wishart distribution, and their way to unconstrained numbers."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import biject_to, constraints, transforms

from pyrozoo.math.linear_algebra import standard_normal
from pyrozoo.program.whole import Whole


class _CovarianceMatrix(constraints.Constraint):
    """Symmetric positive definite matrices; Torch's own constraint of that name has no Jacobian."""

    event_dim = 2
    is_discrete = False

    def check(self, value: Tensor) -> Tensor:
        symmetric = torch.isclose(value, value.mT, atol=1e-6).flatten(-2).all(-1)
        return symmetric & (torch.linalg.cholesky_ex(value)[1] == 0)


covariance_matrix = _CovarianceMatrix()


class CovarianceTransform(transforms.Transform):
    """d (d + 1) / 2 real numbers -> Sigma = L L^T: the lower triangle of L row by row, its diagonal as logarithms.

    |d Sigma / d x| = 2^d prod_i L_ii^(d - i + 2), i from 1: the product of the Jacobians of L L^T (Gupta and Nagar
    1999, Matrix Variate Distributions, theorem 1.3.4) and of exp.
    """

    domain = constraints.real_vector
    codomain = covariance_matrix
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        L = self._lower(x)
        return L @ L.mT

    def _inverse(self, y: Tensor) -> Tensor:
        L = torch.linalg.cholesky(y)
        i, j = torch.tril_indices(y.shape[-1], y.shape[-1], device=y.device)
        values = L[..., i, j]
        return torch.where(i == j, values.clamp(min=1e-300).log(), values)

    @staticmethod
    def _lower(x: Tensor) -> Tensor:
        d = _side(x.shape[-1])
        i, j = torch.tril_indices(d, d, device=x.device)
        values = torch.where(i == j, x.clamp(max=300).exp(), x)
        flat = x.new_zeros(*x.shape[:-1], d * d).index_copy(-1, i * d + j, values)
        return flat.unflatten(-1, (d, d))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the logarithm of the Jacobian."""
        d = _side(x.shape[-1])
        place = torch.arange(d, device=x.device)
        power = (d - place + 1).to(x.dtype)
        return d * math.log(2) + (x[..., place * (place + 3) // 2] * power).sum(-1)

    def forward_shape(self, shape: Any) -> torch.Size:
        """Return the shape of Sigma."""
        d = _side(shape[-1])
        return torch.Size((*shape[:-1], d, d))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """Return the shape of the numbers."""
        d = shape[-1]
        return torch.Size((*shape[:-2], d * (d + 1) // 2))


def _side(length: int) -> int:
    return (math.isqrt(8 * length + 1) - 1) // 2


@biject_to.register(_CovarianceMatrix)
def _(_: _CovarianceMatrix) -> CovarianceTransform:
    return CovarianceTransform()


class InverseWishart(Whole):
    """Sigma ~ IW(nu, psi M): density prop. to |Sigma|^-(nu + d + 1)/2 exp(-psi tr(M Sigma^-1) / 2).

    Args:
        degrees: nu > d - 1.
        scale: psi > 0, a number.
        dimension: d.
        contrasts: Whether Sigma is of the differences of d + 1 exchangeable numbers from the last of them: then
            M = I + 1 1^T, whatever their order, and not I.
    """

    support = covariance_matrix
    has_rsample = True

    def __init__(self, degrees: Tensor, scale: Tensor, dimension: int, contrasts: bool = False):
        self.degrees, self.scale, self.contrasts = degrees, scale, contrasts
        super().__init__((), (dimension, dimension))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw by Bartlett's decomposition of Sigma^-1 (Anderson 2003, section 7.2)."""
        d = self.event_shape[-1]
        lower = standard_normal(self.scale.new_empty(*sample_shape, d, d)).tril(-1)
        half = 0.5 * (self.degrees - torch.arange(d, dtype=self.scale.dtype, device=self.scale.device))
        chi = (2 * dist.Gamma(half, torch.ones_like(half)).rsample(sample_shape)).sqrt()
        factor = torch.linalg.inv(lower + torch.diag_embed(chi))
        if self.contrasts:
            factor = factor @ self.root.mT
        return self.scale * factor.mT @ factor

    @property
    def root(self) -> Float[Tensor, "d d"]:
        """R of M = R R^T for contrasts, in closed form: I + c 1 1^T, c = (sqrt(d + 1) - 1) / d."""
        d = self.event_shape[-1]
        return torch.eye(d, dtype=self.scale.dtype, device=self.scale.device) + (math.sqrt(d + 1) - 1) / d

    def log_prob(self, value: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch"]:
        """Return the log density over the lower triangle of Sigma."""
        d, nu = self.event_shape[-1], self.degrees
        factor = torch.linalg.cholesky(value)
        log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        inverse = torch.cholesky_inverse(factor)
        trace, of_prior = inverse.diagonal(dim1=-2, dim2=-1).sum(-1), 0.0
        if self.contrasts:  # |I + 1 1^T| = d + 1
            trace, of_prior = trace + inverse.sum((-2, -1)), math.log(d + 1)
        return (
            0.5 * nu * (d * (self.scale.log() - math.log(2)) + of_prior) - torch.mvlgamma(0.5 * nu, d)
            - 0.5 * (nu + d + 1) * log_determinant - 0.5 * self.scale * trace
        )  # fmt: skip
