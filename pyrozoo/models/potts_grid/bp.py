"""Belief propagation: marginal probabilities of pixels from messages, exact without loops, good with weak ones."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Values
from pyrozoo.models.potts_grid.likelihood import Potentials, draw, log_probability
from pyrozoo.models.potts_grid.messages import Passing, State


class Solver(SolverContract, kind="variational", objective="log_evidence_bethe", state=State):
    """Loopy sum-product: all messages at once, sweep after sweep (Pearl 1988; Yedidia, Freeman and Weiss 2005).

    The message from i to j is sum_k exp(J(k, l) + c 1[x_i = k]) prod over the other neighbours of i of their messages,
    and a belief is c 1[x_i = k] times all messages that come in. Converged when no log message changes by more than the
    tolerance. The objective, Bethe's estimate of the log evidence, is no bound. Values are from the product of the
    beliefs, which are marginal probabilities: what neighbours have to do with each other is not in them.

    Args:
        model: The model.
        data: The image.
        damping: Share of the old message in the new one, in [0, 1): more of it helps where messages go round.

    Raises:
        SettingError: Damping out of range.
    """

    def __init__(self, posterior: Posterior, damping: float = 0.3):
        model, data = posterior.model, posterior.data
        self.potentials = Potentials.of(model, data)
        self.passing = Passing(self.potentials, damping, maximise=False)

    def init(self, chains: int) -> State:
        """Start from messages that say nothing, and from random ones."""
        return self.passing.start(chains)

    def step(self, state: State) -> tuple[State, Info]:
        """Send all messages once."""
        new, log_z = self.passing.sweep(state)
        return new, Info(log_z - self.potentials.normaliser)

    def residual(self, state: State) -> Float[Tensor, C]:
        """Return the largest change of a log message."""
        return state.residual

    def expectations(self, state: State) -> Values:
        """Return the beliefs."""
        return {"label_probability": self.passing.probability(state)}

    def draws(self, state: State) -> Values:
        """Draw every pixel from its belief."""
        return {"label": draw(self.passing.probability(state))}

    def log_q(self, state: State, draws: Values) -> Float[Tensor, C]:
        """Return the log probability under the product of beliefs."""
        return log_probability(self.passing.probability(state), draws["label"])
