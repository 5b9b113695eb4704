"""EM for the posterior mode, every restart in one batch; its state, a point per chain, is that of Gibbs too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.math.natural_normal import NaturalNormal
from pyrozoo.math.polya_gamma import moments
from pyrozoo.models.logistic_regression.posterior import Posterior


@dataclass(frozen=True)
class State:
    """Coefficients per chain."""

    coefficients: Float[Tensor, "C P"]


@dataclass(frozen=True)
class LinearState(State):
    """Of linear regression the variance of the noise, too."""

    noise_variance: Float[Tensor, C]


class PointOf(PointSolver):
    """A solver whose state is a point; which sites it has, the likelihood says."""

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.state_class = LinearState if posterior.model.linear else State

    def objective(self, state: Any) -> Float[Tensor, C]:
        """Return the log joint density of a state."""
        return self.posterior.log_density({site: value[:, None] for site, value in vars(state).items()})[:, 0]


class Solver(PointOf, kind="point", objective="log_joint", monotone=True, state=State):
    """EM with Polya-Gamma variables as what is missing (Scott and Sun 2013, arXiv:1306.0040).

    E-step: E omega_i = tanh(psi_i / 2) / (2 psi_i); M-step: beta = (P + X' Omega X)^-1 X'(y - 1/2). Of linear
    regression the mode is known, and one step finds it. The objective is that of the state before the step.
    """

    def step(self, state: Any) -> tuple[Any, Info]:
        """Do one E-step and M-step; return the log joint of the argument."""
        info, p = Info(self.objective(state)), self.posterior
        if p.model.linear:
            return LinearState(*p.conjugate[1].expanded(len(state.coefficients)).mode), info
        weight, _ = moments(p.linear(vars(state)))
        return State(NaturalNormal.of(p.precision(weight), p.pull).mean), info
