"""The posterior itself: of up to three coefficients by a grid, of linear regression in closed form."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.math.concave_grid import ConcaveGrid
from pyrozoo.math.newton import maximise
from pyrozoo.models.logistic_regression.posterior import Posterior

MOST = 3
"""Coefficients that a grid goes through."""


class Solver(solver.ExactSolver):
    """Quadrature of up to three coefficients, along the axes of the curvature at the mode (``ConcaveGrid``).

    Of linear regression all is in closed form, whatever their number (Gelman et al. 2013, section 14.2).

    Raises:
        NotApplicable: There are more coefficients.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        size = posterior.design.shape[1]
        if size > MOST and not posterior.model.linear:
            said = "inference=ep comes closest, inference=gibbs is exact in the limit"
            raise NotApplicable(f"exact goes through a grid of at most {MOST} coefficients, there are {size}; {said}")

    def log_density(self, beta: Float[Tensor, "G P"]) -> Float[Tensor, G]:
        """Return the log posterior density of coefficients, but for a constant: of linear regression a t density."""
        if self.model.linear:
            known = self.posterior.conjugate[1]
            away = beta - known.centre
            square = ((away @ known.strength[0]) * away).sum(-1)
            return -(known.shape + beta.shape[-1] / 2) * (known.rate + square / 2).log()
        return self.posterior.log_density({"coefficients": beta[None]})[0]

    @cached_property
    def grid(self) -> ConcaveGrid:
        """The posterior on a grid."""
        p = self.posterior

        def evaluate(beta: Tensor) -> Any:
            prob = (p.design @ beta).sigmoid()
            slope = ((p.response - prob) * p.seen) @ p.design - p.prior_precision * beta
            return self.log_density(beta[None])[0], slope, p.precision(prob * (1 - prob))

        mode, (_, _, curvature) = maximise(evaluate, torch.zeros_like(p.pull))
        return ConcaveGrid.about(self.log_density, mode, curvature)

    @property
    def moments(self) -> tuple[Float[Tensor, P], Float[Tensor, "P P"]]:
        """Mean and covariance of the coefficients."""
        if not self.model.linear:
            return self.grid.moments
        known = self.posterior.conjugate[1]
        return known.centre[0], torch.linalg.inv(known.strength[0]) * known.rate / (known.shape - 1)

    def evidence(self) -> Float[Tensor, ""]:
        """Return the log evidence. In closed form it is joint over posterior, at any point."""
        if not self.model.linear:
            return self.grid.log_mass
        known = self.posterior.conjugate[1]
        site = dict(zip(("coefficients", "noise_variance"), known.mode, strict=True))
        joint = self.posterior.log_density({name: value[:, None] for name, value in site.items()})
        return (joint[:, 0] - known.log_prob(*known.mode))[0]

    def draw(self, count: int) -> Values:
        """Draw independently."""
        if not self.model.linear:
            return {"coefficients": self.grid.draw(count)}
        beta, variance = self.posterior.conjugate[1].expanded(count).sample()
        return {"noise_variance": variance, "coefficients": beta}
