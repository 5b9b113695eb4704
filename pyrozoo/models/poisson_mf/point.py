"""A point in parameter space per chain: the state of EM and of Gibbs, and its prior density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
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
