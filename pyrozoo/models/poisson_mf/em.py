"""EM for the posterior mode, every restart in one batch; its state, a point per chain, is that of Gibbs too."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


def prior_rates(model: PoissonMF, state: State) -> tuple[Tensor | float, Tensor | float]:
    """Return the rates of the priors of row and column factors, to be broadcast over factors."""
    if isinstance(state, HierarchicalState):
        return state.row_rates.unsqueeze(-1), state.column_rates.unsqueeze(-1)
    return model.row_rate, model.column_rate


def log_prior(model: PoissonMF, state: State) -> Float[Tensor, C]:
    """Return log p(theta, eta, xi, omega), hand-summed; a test holds it to the Pyro program."""
    rates = prior_rates(model, state)
    total = _log_gamma(state.row_factors, model.row_shape, rates[0]).sum((-1, -2))
    total = total + _log_gamma(state.column_factors, model.column_shape, rates[1]).sum((-1, -2))
    if isinstance(state, HierarchicalState):
        a = model.rate_shape
        total = total + _log_gamma(state.row_rates, a, a / model.row_rate).sum(-1)
        total = total + _log_gamma(state.column_rates, a, a / model.column_rate).sum(-1)
    return total


def _log_gamma(x: Tensor, shape: float, rate: Tensor | float) -> Tensor:
    """Return log Gamma(x; shape, rate); torch's own evaluates lgamma of the shape in every cell."""
    log_rate = rate.log() if isinstance(rate, Tensor) else math.log(rate)
    tiny = torch.finfo(x.dtype).tiny
    return (shape - 1) * x.clamp(min=tiny).log() - rate * x + (shape * log_rate - math.lgamma(shape))


class Solver(PointSolver, kind="point", objective="log_joint", monotone=True):
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
        m, data = self.model, self.data
        theta, eta = state.row_factors, state.column_factors
        of_rows, of_columns, evidence = shared(theta, eta, data)
        objective = evidence - expected_total(theta, eta, data) + log_prior(m, state)
        b, d = prior_rates(m, state)
        tiny = torch.finfo(theta.dtype).tiny
        theta = ((m.row_shape - 1 + of_rows) / (b + row_exposure(eta, data))).clamp(min=tiny)
        eta = ((m.column_shape - 1 + of_columns) / (d + column_exposure(theta, data))).clamp(min=tiny)
        rates = [(shape - 1) / rate for shape, rate in rates_given(m, theta, eta)]
        return self.state_class(theta, eta, *rates), solver.Info(objective)
