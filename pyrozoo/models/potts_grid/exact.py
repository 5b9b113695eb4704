"""Exact answers: evidence, marginal probabilities, the most probable labelling, independent draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError
from pyrozoo.math.elimination import Eliminated, Marginals, refuse_large
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.model import FORBIDDEN
from pyrozoo.models.potts_grid.posterior import Posterior


@dataclass(frozen=True)
class State:
    """The log evidence, [C]; every chain is one independent draw."""

    log_evidence: Float[Tensor, C]


@dataclass(frozen=True)
class Exactly:
    """The posterior itself, as many times as there are log evidences, [C]."""

    potentials: Potentials
    eliminated: Eliminated
    log_evidence: Tensor

    def sample(self) -> Values:
        """Draw independent labellings."""
        return {"label": self.eliminated.draw(len(self.log_evidence))}

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log posterior probability of labellings."""
        return self.potentials.log_joint(values["label"]) - self.log_evidence


class Solver(solver.Solver, kind="exact", objective="log_evidence", of="result", state=State):
    """Elimination of pixels along the shorter side (see ``math/elimination.py``).

    Raises:
        NotApplicable: The image is too large; the message says which size would do.
        DataError: No labelling avoids what the coupling forbids.
    """

    eliminated: Eliminated
    marginals: Marginals

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        refuse_large(self.data.shape, self.model.labels(self.data))
        self.potentials = posterior.potentials

    def init(self, chains: int) -> State:
        """Return a state in which nothing is known yet."""
        return State(self.potentials.unary.new_full((chains,), torch.nan))

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Eliminate all pixels and compute the marginals: here, where it is timed."""
        self.eliminated = Eliminated(self.potentials.unary, self.potentials.coupling)
        if self.model.hard and float(self.eliminated.log_z) < 0.5 * FORBIDDEN:
            raise DataError(f"{self.data.name}: no labelling avoids the pairs that model.coupling forbids (-inf)")
        self.marginals = self.eliminated.marginals()
        new = State((self.eliminated.log_z - self.potentials.normaliser).expand(len(state.log_evidence)))
        return new, solver.Info(new.log_evidence)

    @cached_property
    def expectations(self) -> Values:
        """Marginal probabilities, of neighbours on average over the edges, and the most probable labelling."""
        found = self.marginals
        pairs = found.right.sum((0, 1)) + found.below.sum((0, 1))
        edges = max(1, found.right.shape[:2].numel() + found.below.shape[:2].numel())
        return {
            "label_probability": found.label,
            "most_probable": self.eliminated.most_probable(),
            "neighbours_probability": (pairs + pairs.T) / (2 * edges),
        }

    def answer(self, state: State) -> solver.Answer:
        """Return the posterior, and what is known of it."""
        chains = len(state.log_evidence)
        known = {name: value.expand(chains, *value.shape) for name, value in self.expectations.items()}
        return solver.Answer(q=Exactly(self.potentials, self.eliminated, state.log_evidence), expectations=known)
