"""Gibbs sampling: counts are allotted to factors, then factors are Gamma given the rest; all chains in one batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma

from pyrozoo.contracts.solver import Info
from pyrozoo.math.multinomial import allot
from pyrozoo.models.poisson_mf.em import PointSolver, State, log_prior, prior_rates
from pyrozoo.models.poisson_mf.factors import rates_given
from pyrozoo.models.poisson_mf.likelihood import cell_by_cell, column_exposure, expected_total, row_exposure


class Solver(PointSolver, kind="samples", objective="log_joint"):
    """Gibbs with z_nmk, the share of factor k in x_nm, as auxiliary variables (Cemgil 2009, section 3.4).

    z_nm | - ~ Multinomial(x_nm, theta_nk eta_mk / s_nm) at the listed cells; theta_nk | z, eta ~ Gamma(row_shape +
    sum_m z_nmk, xi_n + sum_m eta_mk); eta likewise; xi_n | theta ~ Gamma(rate_shape + K row_shape, rate_shape /
    row_rate + sum_k theta_nk). Only sums of z over rows and over columns are kept. The objective is log p(X, theta,
    eta, ...) of the state before the step, z summed out.
    """

    def step(self, state: State) -> tuple[State, Info]:
        """Draw z, theta, eta, xi, omega in turn; return the log joint of the argument."""
        m, data = self.model, self.data
        of_rows, of_columns, evidence = self.allotted(state.row_factors, state.column_factors)
        objective = evidence - expected_total(state.row_factors, state.column_factors, data) + log_prior(m, state)
        b, d = prior_rates(m, state)
        theta = self.gamma(m.row_shape + of_rows, b + row_exposure(state.column_factors, data))
        eta = self.gamma(m.column_shape + of_columns, d + column_exposure(theta, data))
        rates = [self.gamma(torch.full_like(rate, shape), rate) for shape, rate in rates_given(m, theta, eta)]
        return self.state_class(theta, eta, *rates), Info(objective)

    def allotted(
        self, theta: Float[Tensor, "C N K"], eta: Float[Tensor, "C M K"]
    ) -> tuple[Float[Tensor, "C N K"], Float[Tensor, "C M K"], Float[Tensor, C]]:
        """Draw z | x, theta, eta in blocks of listed cells; return its sums and sum of x log s - log x!."""

        def share(products: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
            z, s = allot(count.expand(len(products), -1), products)
            return z, s.clamp(min=torch.finfo(s.dtype).tiny).log()

        return cell_by_cell(share, theta, eta, self.data)

    def gamma(self, shape: Tensor, rate: Tensor) -> Tensor:
        """Draw Gamma variables, kept above 0."""
        tiny = torch.finfo(shape.dtype).tiny
        return Gamma(shape, rate, validate_args=False).sample().clamp(min=tiny)
