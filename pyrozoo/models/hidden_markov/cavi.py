"""Coordinate ascent variational inference with conjugate factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.contracts import solver
from pyrozoo.core.draws import Values
from pyrozoo.math.exponential_family import expected_log_dirichlet
from pyrozoo.math.markov_chains import smooth
from pyrozoo.models.hidden_markov.posterior import Posterior
from pyrozoo.models.hidden_markov.queries import smooth_at

SHARE = 0.2
"""Part of the rows that the starting factors are worth: enough to break symmetry, little enough to move."""


@dataclass(frozen=True)
class State:
    """What the factors are conjugate posteriors given: expected first states, transitions, and sums of features."""

    first: Float[Tensor, "C K"]
    pairs: Float[Tensor, "C K K"]
    sums: Float[Tensor, "C K F"]


@dataclass(frozen=True)
class Factors:
    """The chain's own factors, and the emission's, as one distribution."""

    chain: solver.Independent
    emission: Any

    def sample(self) -> Values:
        """Return one draw per chain, site -> [C, *event]."""
        chain = {site: value.clamp(min=torch.finfo(value.dtype).tiny) for site, value in self.chain.sample().items()}
        return {**chain, **self.emission.sample()}

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log density of one draw per chain."""
        return self.chain.log_prob(values) + self.emission.log_prob(values)


def factors(posterior: Posterior, first: Tensor, pairs: Tensor, sums: Tensor) -> Factors:
    """Return the sites' distribution given how often states come first and follow each other, and sums over their rows.

    Of these Gibbs knows numbers, and CAVI expectations.
    """
    prior = dict(zip(("initial", "transition"), posterior.concentration, strict=True))
    seen = {"initial": first, "transition": pairs}
    chain = {site: Dirichlet(each + seen[site], validate_args=False) for site, each in prior.items()}
    return Factors(solver.Independent(chain), posterior.emission.conjugate(sums))


class Solver(solver.Solver, kind="variational", objective="elbo", monotone=True, state=State):
    """CAVI with q(path) q(pi) q(A) q(emission) (Beal 2003, thesis, section 3.4; MacKay 1997).

    q(path) is a chain with exp E log of every parameter in place of it, whose normaliser less the divergences from the
    priors is the ELBO: the objective, with q(path) at its optimum for the state before the step.
    """

    def q(self, state: State) -> Factors:
        """Return the factors of a state."""
        return factors(self.posterior, state.first, state.pairs, state.sums)

    def init(self, chains: int) -> State:
        """Return part of the sums that are expected at random starting points."""
        start, emission = self.posterior.start(chains), self.posterior.emission
        found = smooth_at(self.posterior, start)
        sums = emission.sums(found.probability, emission.natural(start))
        return State(SHARE * found.first, SHARE * found.pairs, SHARE * sums)

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update q(path), then the factors; return the ELBO of the argument."""
        q, emission = self.q(state), self.posterior.emission
        chain: Any = q.chain.q
        first, rows = (expected_log_dirichlet(chain[site].concentration).exp() for site in ("initial", "transition"))
        natural = emission.expected_natural(q.emission)
        found = smooth(self.data.steps, first, rows, emission.log_density(natural))
        prior = dict(zip(q.chain.q, map(Dirichlet, self.posterior.concentration), strict=True))
        away = q.chain.divergence(prior) + q.emission.divergence(emission.prior_factor.q)
        new = State(found.first, found.pairs, emission.sums(found.probability, natural))
        return new, solver.Info(found.log_evidence.sum(0) - away)

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        return solver.Answer(q=self.q(state))
