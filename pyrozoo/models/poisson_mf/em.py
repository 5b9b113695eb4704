"""EM for the posterior mode, every restart in one batch."""

from __future__ import annotations

import torch

from pyrozoo.contracts.solver import Info
from pyrozoo.models.poisson_mf.factors import rates_given
from pyrozoo.models.poisson_mf.likelihood import column_exposure, expected_total, row_exposure, shared
from pyrozoo.models.poisson_mf.point import PointSolver, State, log_prior, prior_rates


class Solver(PointSolver, kind="point", objective="log_joint", monotone=True):
    """EM for the MAP with z_nmk, the share of factor k in x_nm, as what is missing (Cemgil 2009, section 2.1).

    The M-step goes through theta, eta, xi, omega in turn, each at its mode given the others (Meng and Rubin 1993,
    Biometrika 80: ECM). With flat priors it is the multiplicative update of non-negative matrix factorization (Lee and
    Seung 2001). The objective is log p(X, theta, eta) of the state before the step, a by-product of the E-step.

    Raises:
        SettingError: A shape below 1, for which the posterior has no mode.
    """

    at_least_one = "row_shape", "column_shape"

    def step(self, state: State) -> tuple[State, Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        m, data = self.model, self.data
        theta, eta = state.row_factors, state.column_factors
        of_rows, of_columns, evidence = shared(theta, eta, data)
        objective = evidence - expected_total(theta, eta, data) + log_prior(m, state)
        b, d = prior_rates(m, state)
        tiny = torch.finfo(theta.dtype).tiny
        theta = ((m.row_shape - 1 + of_rows) / (b + row_exposure(eta, data))).clamp(min=tiny)
        eta = ((m.column_shape - 1 + of_columns) / (d + column_exposure(theta, data))).clamp(min=tiny)
        rates = [(shape - 1) / rate for shape, rate in rates_given(m, theta, eta)]
        return self.state_class(theta, eta, *rates), Info(objective)
