"""The Baum-Welch algorithm: expectation maximisation for the MAP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.models.hidden_markov.posterior import Posterior


@dataclass(frozen=True)
class State:
    """The chain's own sites; each kind of emission adds its own."""

    initial: Float[Tensor, "C K"]
    transition: Float[Tensor, "C K K"]


@dataclass(frozen=True)
class CategoricalState(State):
    """With probabilities of levels."""

    probability: Float[Tensor, "C K D L"]


@dataclass(frozen=True)
class PoissonState(State):
    """With rates."""

    rate: Float[Tensor, "C K D"]


@dataclass(frozen=True)
class GaussianState(State):
    """With variances and means."""

    variance: Float[Tensor, "C K D"]
    mean: Float[Tensor, "C K D"]


@dataclass(frozen=True)
class AutoregressiveState(GaussianState):
    """With slopes."""

    slope: Float[Tensor, "C K D"]


@dataclass(frozen=True)
class FullState(State):
    """With covariances and means."""

    covariance: Float[Tensor, "C K D D"]
    mean: Float[Tensor, "C K D"]


STATES = {
    "categorical": CategoricalState, "poisson": PoissonState, "gaussian": GaussianState,
    "autoregressive": AutoregressiveState, "full": FullState,
}  # fmt: skip


class Solver(
    solver.PointSolver, kind="point", objective="log_joint", monotone=True, state=State
):  # fmt: skip
    """Baum-Welch (Rabiner 1989, Proc. IEEE 77, section III; Bishop 2006, section 13.2) with a prior.

    The E-step runs forward and backward over all sequences and restarts at once; the M-step takes the mode of the
    conjugate posterior given expected sums. The objective is log p(X, Theta) of the state before the step.

    Raises:
        SettingError: A Dirichlet or Gamma hyper-parameter below 1, for which there is no mode.
    """

    def __init__(self, posterior: Posterior):
        own = {"poisson": ("rate_shape",), "categorical": ("level_concentration",)}
        self.at_least_one = (  # type: ignore[misc]
            "initial_concentration", "transition_concentration", *own.get(posterior.model.emission, ()),
        )  # fmt: skip
        super().__init__(posterior)
        self.state_class = STATES[self.model.emission]

    def step(self, state: Any) -> tuple[Any, solver.Info]:
        """Do an E-step and an M-step; return the objective of the argument."""
        new, objective = self.posterior.improved(vars(state))
        return self.state_class(**new), solver.Info(objective)
