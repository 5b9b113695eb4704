"""EM for the posterior mode, every restart in one batch; its state, a point per chain, is that of Gibbs too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.models.poisson_mf.factors import rates_given
from pyrozoo.models.poisson_mf.likelihood import column_exposure, expected_total, row_exposure, shared
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.models.poisson_mf.posterior import Posterior


@dataclass(frozen=True)
class State:
    """Parameters per chain."""

    row_factors: Float[Tensor, "C N K"]
    column_factors: Float[Tensor, "C M K"]


@dataclass(frozen=True)
class HierarchicalState(State):
    """The same with the rates of rows and columns."""

    row_rates: Float[Tensor, "C N"]
    column_rates: Float[Tensor, "C M"]


class PointSolver(solver.PointSolver, state=State):
    """A solver whose state is a point."""

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.state_class = HierarchicalState if self.model.hierarchical else State

    def with_columns(self, state: State, likelihood: Tensor, prior: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the log joint, given what the rows have of it [C], and the rate of the columns' prior."""
        m, omega = self.model, vars(state).get("column_rates")
        of_columns = log_prior_of(m, state.column_factors, m.column_shape, m.column_rate, omega)
        return likelihood + (prior + of_columns), m.column_rate if omega is None else omega.unsqueeze(-1)


def log_prior(model: PoissonMF, state: State) -> Float[Tensor, C]:
    """Return log p(theta, eta, xi, omega), hand-summed; a test holds it to the Pyro program."""
    xi, omega = (vars(state).get(name) for name in ("row_rates", "column_rates"))
    rows = log_prior_of(model, state.row_factors, model.row_shape, model.row_rate, xi)
    return rows + log_prior_of(model, state.column_factors, model.column_shape, model.column_rate, omega)


def log_prior_of(
    model: PoissonMF, factors: Float[Tensor, "C N K"], shape: float, rate: float, rates: Float[Tensor, "C N"] | None
) -> Float[Tensor, C]:
    """Return that of one side: log p(theta), and log p(xi) when the model is hierarchical."""
    if rates is None:
        return _log_gamma(factors, shape, rate).sum((-1, -2))
    above = _log_gamma(rates, model.rate_shape, model.rate_shape / rate).sum(-1)
    return _log_gamma(factors, shape, rates.unsqueeze(-1)).sum((-1, -2)) + above


def _log_gamma(x: Tensor, shape: float, rate: Tensor | float) -> Tensor:
    """Return log Gamma(x; shape, rate); torch's own evaluates lgamma of the shape in every cell."""
    log_rate = rate.log() if isinstance(rate, Tensor) else math.log(rate)
    tiny = torch.finfo(x.dtype).tiny
    return (shape - 1) * x.clamp(min=tiny).log() - rate * x + (shape * log_rate - math.lgamma(shape))


BY_ROW = "row_factors", "row_rates"


class Solver(PointSolver, kind="point", objective="log_joint", monotone=True, by_row=BY_ROW, graph=True):
    """EM for the MAP with z_nmk, the share of factor k in x_nm, as what is missing (Cemgil 2009, section 2.1).

    The M-step goes through theta, eta, xi, omega in turn, each at its mode given the others (Meng and Rubin 1993,
    Biometrika 80: ECM). With flat priors it is the multiplicative update of non-negative matrix factorization (Lee and
    Seung 2001). The objective is log p(X, theta, eta) of the state before the step, a by-product of the E-step.

    Raises:
        SettingError: A shape below 1, for which the posterior has no mode.
    """

    at_least_one = "row_shape", "column_shape"

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        m, eta, tiny = self.model, state.column_factors, torch.finfo(state.row_factors.dtype).tiny

        of_all, whole = eta.sum(-2, keepdim=True), self.posterior.whole_vectors(eta)

        def update(part: Posterior, theta: Tensor, xi: Tensor | None) -> tuple[Tensor, Any]:
            of_rows, of_columns, evidence = shared(theta, eta, part.data, whole=whole)
            likelihood = evidence - expected_total(theta, eta, part.data, of_all)
            prior = log_prior_of(m, theta, m.row_shape, m.row_rate, xi)
            b = m.row_rate if xi is None else xi.unsqueeze(-1)
            theta = ((m.row_shape - 1 + of_rows) / (b + row_exposure(eta, part.data, of_all))).clamp(min=tiny)
            return theta, (of_columns, column_exposure(theta, part.data), likelihood, prior)

        theta, (of_columns, exposure, *logs) = self.posterior.over_rows(
            update, state.row_factors, vars(state).get("row_rates")
        )
        objective, d = self.with_columns(state, *logs)
        new = ((m.column_shape - 1 + of_columns) / (d + exposure)).clamp(min=tiny)
        rates = [(shape - 1) / rate for shape, rate in rates_given(m, theta, new)]
        return self.state_class(theta, new, *rates), solver.Info(objective)
