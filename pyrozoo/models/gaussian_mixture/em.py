"""EM for the posterior mode, missing values summed out, every restart in one batch; its state is that of Gibbs too."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.models.gaussian_mixture.posterior import Posterior


@dataclass(frozen=True)
class State:
    """Parameters per chain."""

    weights: Float[Tensor, "C K"]
    mean: Float[Tensor, "C K D"]
    covariance: Float[Tensor, C * form]


class Solver(solver.PointSolver, kind="point", objective="log_joint", monotone=True, state=State, by_row=()):
    """EM for the MAP (Fraley and Raftery 2007, J. Classification 24; with holes Ghahramani and Jordan 1994, NIPS 6).

    The objective is log p(X, Theta) of the state before the step, a by-product of the E-step.

    Raises:
        SettingError: The weights' prior has no mode inside: a concentration below 1, or ``stick_breaking``.
    """

    at_least_one = ("concentration",)

    def __init__(self, posterior: Posterior):
        if posterior.model.weight_prior != "dirichlet":
            posterior.model.refuse(
                "weight_prior", "its sticks have no mode: type dirichlet, or take cavi, gibbs or svi"
            )
        super().__init__(posterior)

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        known, prior = self.posterior.known(vars(state)), self.posterior.prior
        sums, evidence = self.posterior.total(lambda part: part.layout.expect(known))
        return State(**prior.given(sums).mode), solver.Info(evidence + prior.log_prob(vars(state)))
