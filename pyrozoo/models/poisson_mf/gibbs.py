"""Gibbs sampling: counts are allotted to factors, then factors are Gamma given the rest; all chains in one batch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma

from pyrozoo.contracts.solver import Info
from pyrozoo.models.poisson_mf.em import BY_ROW, PointSolver, State, log_prior_of
from pyrozoo.models.poisson_mf.factors import factors_given, rates_rate, rates_shape
from pyrozoo.models.poisson_mf.likelihood import allotted, column_exposure, expected_total, row_exposure
from pyrozoo.models.poisson_mf.posterior import Posterior


class Solver(PointSolver, kind="samples", objective="log_joint", by_row=BY_ROW, graph=True):
    """Gibbs with z_nmk, the share of factor k in x_nm, as auxiliary variables (Cemgil 2009, section 3.4).

    z_nm | - ~ Multinomial(x_nm, theta_nk eta_mk / s_nm) at the listed cells; theta_nk | z, eta ~ Gamma(row_shape +
    sum_m z_nmk, xi_n + sum_m eta_mk); eta likewise; xi_n | theta ~ Gamma(rate_shape + K row_shape, rate_shape /
    row_rate + sum_k theta_nk). Only sums of z over rows and over columns are kept. The objective is log p(X, theta,
    eta, ...) of the state before the step, z summed out.
    """

    def step(self, state: State) -> tuple[State, Info]:
        """Draw z, theta, eta, xi, omega in turn; return the log joint of the argument."""
        m, eta = self.model, state.column_factors

        def draw(part: Posterior, theta: Tensor, xi: Tensor | None) -> tuple[Tensor, Any]:
            of_rows, of_columns, evidence = allotted(theta, eta, part.data)
            likelihood = evidence - expected_total(theta, eta, part.data)
            prior = log_prior_of(m, theta, m.row_shape, m.row_rate, xi)
            theta = self.gamma(*factors_given(m, 0, of_rows, row_exposure(eta, part.data), xi))
            return theta, (of_columns, column_exposure(theta, part.data), likelihood, prior)

        theta, (of_columns, exposure, *logs) = self.posterior.over_rows(
            draw, state.row_factors, vars(state).get("row_rates")
        )
        objective, _ = self.with_columns(state, *logs)
        omega = vars(state).get("column_rates")
        new = self.gamma(*factors_given(m, 1, of_columns, exposure, omega))
        return self.state_class(theta, new, *self.rates(theta, new)), Info(objective)

    def rates(self, theta: Float[Tensor, "C N K"], eta: Float[Tensor, "C M K"]) -> list[Tensor]:
        """Draw xi and omega given factors, where the model has them."""
        m = self.model

        def draw(factors: Tensor, shape: float, mean: float) -> Tensor:
            rate = rates_rate(m, mean, factors)
            return self.gamma(torch.full_like(rate, rates_shape(m, shape)), rate)

        if not m.hierarchical:
            return []
        xi, _ = self.posterior.over_rows(lambda part, rows: (draw(rows, m.row_shape, m.row_rate), ()), theta)
        return [xi, draw(eta, m.column_shape, m.column_rate)]

    def gamma(self, shape: Tensor, rate: Tensor) -> Tensor:
        """Draw Gamma variables, kept above 0."""
        tiny = torch.finfo(shape.dtype).tiny
        return Gamma(shape, rate, validate_args=False).sample().clamp(min=tiny)
