"""Regressions with a conjugate prior: coefficients and variance at once, many independent ones in a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma, kl_divergence


@dataclass(frozen=True)
class NormalInverseGamma:
    """v ~ InvGamma(shape, rate), b | v ~ N(centre, v strength^-1) (Bishop 2006, section 3.3; O'Hagan 2004, 11.3).

    Attributes:
        centre: Of the P coefficients.
        strength: Their precision in units of 1 / v.
        shape: Of the variance.
        rate: Likewise.
    """

    centre: Float[Tensor, "*b P"]
    strength: Float[Tensor, "*b P P"]
    shape: Float[Tensor, "*b"]
    rate: Float[Tensor, "*b"]

    def given(
        self, count: Float[Tensor, "*b"], xx: Float[Tensor, "*b"], xu: Float[Tensor, "*b P"],
        uu: Float[Tensor, "*b P P"],
    ) -> NormalInverseGamma:  # fmt: skip
        """Return the same given responses x and covariates u: how many, and sums of x^2, x u and u u^T."""
        strength = self.strength + uu
        pull = (self.strength @ self.centre.unsqueeze(-1)).squeeze(-1)
        centre = torch.linalg.solve(strength, pull + xu)
        squares = xx + (self.centre * pull).sum(-1) - (centre * (pull + xu)).sum(-1)
        return NormalInverseGamma(centre, strength, self.shape + count / 2, self.rate + squares.clamp(min=0) / 2)

    def expanded(self, count: int) -> NormalInverseGamma:
        """Return one as so many, [1, ...] to [count, ...]."""
        return NormalInverseGamma(*(value.expand(count, *value.shape[1:]) for value in vars(self).values()))

    @property
    def mode(self) -> tuple[Float[Tensor, "*b P"], Float[Tensor, "*b"]]:
        """Where the density of coefficients and variance is highest."""
        return self.centre, self.rate / (self.shape + self.centre.shape[-1] / 2 + 1)

    def sample(self) -> tuple[Float[Tensor, "*b P"], Float[Tensor, "*b"]]:
        """Draw coefficients and variance."""
        tiny = torch.finfo(self.rate.dtype).tiny
        variance = self.rate / torch._standard_gamma(self.shape).clamp(min=tiny)
        noise = torch.randn_like(self.centre) * variance.sqrt().unsqueeze(-1)
        factor = torch.linalg.cholesky(self.strength)
        away = torch.linalg.solve_triangular(factor.mT, noise.unsqueeze(-1), upper=True)
        return self.centre + away.squeeze(-1), variance.clamp(min=tiny)

    def log_prob(self, coefficients: Float[Tensor, "*b P"], variance: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Return the log density."""
        away, P = coefficients - self.centre, self.centre.shape[-1]
        square = (away.unsqueeze(-2) @ self.strength @ away.unsqueeze(-1)).squeeze((-2, -1))
        normal = 0.5 * (torch.logdet(self.strength) - P * (math.log(2 * math.pi) + variance.log()) - square / variance)
        gamma = self.shape * self.rate.log() - torch.lgamma(self.shape) - (self.shape + 1) * variance.log()
        return normal + gamma - self.rate / variance

    @property
    def expected(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """E log v, E 1/v, E b/v and E b b^T/v."""
        precision = self.shape / self.rate
        outer = self.centre.unsqueeze(-1) * self.centre.unsqueeze(-2) * precision[..., None, None]
        log_variance = self.rate.log() - torch.digamma(self.shape)
        return log_variance, precision, self.centre * precision.unsqueeze(-1), outer + torch.linalg.inv(self.strength)

    def divergence(self, other: NormalInverseGamma) -> Float[Tensor, "*b"]:
        """Return KL(self || other)."""
        away, P = self.centre - other.centre, self.centre.shape[-1]
        square = (away.unsqueeze(-2) @ other.strength @ away.unsqueeze(-1)).squeeze((-2, -1)) * self.shape / self.rate
        trace = torch.linalg.solve(self.strength, other.strength).diagonal(dim1=-2, dim2=-1).sum(-1)
        logs = torch.logdet(self.strength) - torch.logdet(other.strength)
        gamma = kl_divergence(Gamma(self.shape, self.rate), Gamma(other.shape, other.rate.expand_as(self.rate)))
        return 0.5 * (trace + square - P + logs) + gamma
