"""Normal distributions from their natural parameters, many in a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MultivariateNormal

from pyrozoo.math.linear_algebra import safe_cholesky


@dataclass(frozen=True)
class NaturalNormal:
    """N(mean, covariance), by the Cholesky factor of its precision."""

    mean: Float[Tensor, "C P"]
    factor: Float[Tensor, "C P P"]

    @classmethod
    def of(cls, precision: Float[Tensor, "C P P"], shift: Float[Tensor, "*C P"]) -> NaturalNormal:
        """Return the normal distribution of density prop. to exp(-x' precision x / 2 + shift' x)."""
        factor = safe_cholesky(precision, "the precision of a normal distribution")
        shift = shift.expand(len(factor), -1).unsqueeze(-1)
        return cls(torch.cholesky_solve(shift, factor).squeeze(-1), factor)

    @property
    def covariance(self) -> Float[Tensor, "C P P"]:
        """Its covariance."""
        return torch.cholesky_inverse(self.factor)

    @property
    def log_determinant(self) -> Float[Tensor, C]:
        """Log of the determinant of the precision."""
        return 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @property
    def distribution(self) -> MultivariateNormal:
        """The same as torch has it."""
        return MultivariateNormal(self.mean, scale_tril=safe_cholesky(self.covariance, "a covariance"))

    def along(self, design: Float[Tensor, "N P"]) -> tuple[Float[Tensor, "C N"], Float[Tensor, "C N"]]:
        """Return mean and variance of design_i' x of every row."""
        half = torch.linalg.solve_triangular(self.factor, design.mT.expand(len(self.factor), -1, -1), upper=False)
        return self.mean @ design.mT, half.square().sum(-2)

    def draw(self) -> Float[Tensor, "C P"]:
        """Draw from each once."""
        noise = torch.randn_like(self.mean).unsqueeze(-1)
        return self.mean + torch.linalg.solve_triangular(self.factor.mT, noise, upper=True).squeeze(-1)
