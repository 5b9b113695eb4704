"""Coordinate ascent variational inference with conjugate factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.math.linear_algebra import safe_cholesky
from pyrozoo.models.factor_analysis.expansion import expansion
from pyrozoo.models.factor_analysis.likelihood import Columns
from pyrozoo.models.factor_analysis.posterior import Posterior
from pyrozoo.models.factor_analysis.regression import Prior, Regression


@dataclass(frozen=True)
class State:
    """q(w_d, mu_d, sigma_d^2) normal-inverse-gamma per restart (see ``Regression``); degrees are known beforehand."""

    factor: Float[Tensor, "C G A A"]
    mean: Float[Tensor, "C D A"]
    scale: Float[Tensor, "C D"]


class Solver(solver.Solver, kind="variational", objective="elbo", monotone=True, state=State, by_row=()):
    """CAVI with q(z_n) normal of full covariance and q(w_d, mu_d, sigma_d^2) normal-inverse-gamma (Bishop 1999, ICANN).

    Each step ends with a parameter expansion, chosen to raise the same bound (``expansion.py``). The objective is the
    ELBO with q(z) at its optimum for the state before the step.

    Args:
        expand: Whether to expand parameters; without it the same bound is climbed in many more steps.
    """

    def __init__(self, posterior: Posterior, *, expand: bool = True):
        super().__init__(posterior)
        self.layout, self.expand = posterior.columns, expand
        self.degrees = (self.model.noise_degrees + self.layout.observations).double()
        self.prior = Prior(self.model, self.layout)

    def init(self, chains: int) -> State:
        """Return factors around random starting points (``Posterior.initial``), as if rows' factors were known."""
        start = self.posterior.initial(chains)
        like = start["mean"]
        count = self.layout.observations[self.layout.firsts, None, None]  # observed rows per group of columns
        eye = torch.eye(self.model.num_factors + 1, dtype=like.dtype, device=like.device)
        factor = torch.linalg.cholesky(self.prior.precision.to(like) + count * eye)
        scale = self.degrees.to(like) * start["noise_variance"]
        return State(factor.expand(chains, -1, -1, -1).clone(), self.layout.coefficients(start), scale)

    def of_reported(self, posterior: Any, **options: Any) -> Solver:
        """Return the solver of rows that are reported on: q of the columns is what all rows have made it."""
        found: Solver = super().of_reported(posterior, **options)
        found.layout, found.degrees, found.prior = self.layout, self.degrees, self.prior
        return found

    def regression(self, state: State) -> Regression:
        """Return q of the columns in double precision."""
        factor, mean, scale = (value.double() for value in vars(state).values())
        return Regression(self.layout, factor, mean, scale, self.degrees)

    def columns(self, state: State) -> Columns:
        """Return the columns' expectations, as the rows see them."""
        degrees = self.degrees.to(state.mean)
        log_noise = (state.scale / 2).log() - torch.digamma(degrees / 2)
        return Columns(state.mean, degrees / state.scale, log_noise, torch.cholesky_inverse(state.factor))

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update q(z), then q(w, mu, sigma^2); return the ELBO of the argument."""
        columns = self.columns(state)
        moments = self.posterior.moments(columns)
        objective = moments.evidence - self.divergence(state).to(moments.evidence)
        found = self.prior.regress(moments)
        factor, mean = found.factor, found.mean
        if self.expand:
            whole = mean.clone()
            whole[..., -1] += self.layout.offset
            tau = self.degrees / found.scale
            second = whole.mT @ (whole * tau.unsqueeze(-1))
            second = second + (self.layout.sizes.double()[:, None, None] * torch.cholesky_inverse(factor)).sum(1)
            turn, unturn = expansion(
                moments.total.double(), second, self.model.loadings_precision if self.model.isotropic else None,
                self.model.mean_precision, float(self.posterior.rows - self.data.shape[1]),
            )  # fmt: skip
            mean = mean @ turn.mT
            half = unturn.mT.unsqueeze(1) @ factor
            factor = safe_cholesky(half @ half.mT, "the precision of the loadings")
        like = state.mean
        return State(factor.to(like), mean.to(like), found.scale.to(like)), solver.Info(objective)

    def divergence(self, state: State) -> Float[Tensor, C]:
        """Return KL(q || p) of the columns."""
        q, P = self.regression(state), self.prior.precision
        size, sizes = len(P), self.layout.sizes.double()
        covariance = torch.cholesky_inverse(q.factor)
        log_determinant = 2 * q.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        by_group = (P * covariance).sum((-1, -2)) + log_determinant - size - torch.linalg.slogdet(P)[1]
        tau = q.degrees / q.scale
        normal = 0.5 * ((by_group * sizes).sum(-1) + (tau * self.prior.away(q.mean)).sum(-1))
        a, b = q.degrees / 2, q.scale / 2
        a0, b0 = 0.5 * self.prior.degrees, 0.5 * self.prior.scale
        gamma = (
            (a - a0) * torch.digamma(a) - torch.lgamma(a) + math.lgamma(a0)
            + a0 * (b.log() - math.log(b0)) + a * (b0 - b) / b
        )  # fmt: skip
        return normal + gamma.sum(-1)

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        return solver.Answer(q=self.regression(state))
