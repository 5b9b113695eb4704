"""Belief propagation: marginal probabilities of pixels from messages, exact without loops, good with weak ones."""

from __future__ import annotations

from pyrozoo.contracts import solver
from pyrozoo.models.potts_grid.likelihood import Pixels
from pyrozoo.models.potts_grid.messages import Passing, State
from pyrozoo.models.potts_grid.posterior import Posterior


class Solver(solver.Solver, kind="variational", objective="log_evidence_bethe", state=State):
    """Loopy sum-product: all messages at once, sweep after sweep (Pearl 1988; Yedidia, Freeman and Weiss 2005).

    The message from i to j is sum_k exp(J(k, l) + c 1[x_i = k]) prod over the other neighbours of i of their messages,
    and a belief is c 1[x_i = k] times all messages that come in. Converged when no log message changes by more than the
    tolerance. The objective, Bethe's estimate of the log evidence, is no bound. Draws are from the product of the
    beliefs, which are marginal probabilities: what neighbours have to do with each other is not in them.

    Args:
        posterior: The model given an image.
        damping: Share of the old message in the new one, in [0, 1): more of it helps where messages go round.

    Raises:
        SettingError: Damping out of range.
    """

    def __init__(self, posterior: Posterior, damping: float = 0.3):
        super().__init__(posterior)
        self.normaliser = posterior.potentials.normaliser
        self.passing = Passing(posterior.potentials, damping, maximise=False)

    def init(self, chains: int) -> State:
        """Start from messages that say nothing, and from random ones."""
        return self.passing.start(chains)

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Send all messages once."""
        new, residual, log_z = self.passing.sweep(state)
        return new, solver.Info(log_z - self.normaliser, residual)

    def answer(self, state: State) -> solver.Answer:
        """Return the beliefs, and their product."""
        prob = self.passing.probability(state)
        return solver.Answer(q=Pixels(prob), expectations={"label_probability": prob})
