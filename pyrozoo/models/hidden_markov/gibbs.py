"""Gibbs sampling of whole paths: forward filtering, backward sampling, all chains in one batch."""

from __future__ import annotations

from typing import Any

from pyrozoo.contracts import solver
from pyrozoo.core.draws import Values
from pyrozoo.math.markov_chains import smooth
from pyrozoo.models.hidden_markov import cavi, em
from pyrozoo.models.hidden_markov.posterior import Posterior


class Solver(solver.PointSolver, kind="samples", objective="log_joint", state=em.State):
    """Paths given parameters, then parameters given paths (Scott 2002, JASA 97; Fruhwirth-Schnatter 2006, 11.5).

    Paths are drawn whole, backward from filtered states, missing values summed out. The objective is log p(X, Theta) of
    the state before the sweep, paths summed out.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.state_class = em.STATES[self.model.emission]

    def step(self, state: Any) -> tuple[Any, solver.Info]:
        """Do one sweep; return the log joint of the argument."""
        values, emission = vars(state), self.posterior.emission
        natural = emission.natural(values)
        uniform = self.posterior.uniform(self.data.steps.count, len(state.initial))
        log_e = emission.log_density(natural)
        found = smooth(self.data.steps, state.initial, state.transition, log_e, uniform=uniform)
        objective = found.log_evidence.sum(0) + self.posterior.prior_of(values)
        sums = emission.sums(found.probability, natural, draw=True)
        return self.state_class(**self.draw(found.first, found.pairs, sums)), solver.Info(objective)

    def draw(self, first: Any, pairs: Any, sums: Any) -> Values:
        """Draw the sites given how often states come first and follow each other, and sums over their rows."""
        return cavi.factors(self.posterior, first, pairs, sums).sample()
