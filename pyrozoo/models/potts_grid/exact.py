"""Exact answers: evidence, marginal probabilities, the most probable labelling, independent draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError
from pyrozoo.models.potts_grid.elimination import Eliminated, Marginals, refuse_large
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.model import FORBIDDEN


@dataclass(frozen=True)
class State:
    """The log evidence, [C]; every chain is one independent draw."""

    log_evidence: Float[Tensor, C]


class Solver(SolverContract, kind="exact", objective="log_evidence", of="result", state=State):
    """Elimination of pixels along the shorter side (see ``elimination``).

    Args:
        model: The model.
        data: The image.

    Raises:
        NotApplicable: The image is too large; the message says which size would do.
        DataError: No labelling avoids what the coupling forbids.
    """

    def __init__(self, posterior: Posterior):
        model, data = posterior.model, posterior.data
        self.model, self.data, self.potentials = model, data, Potentials.of(model, data)
        refuse_large(data.shape, model.labels(data))
        self.eliminated: Eliminated | None = None
        self.found: Marginals | None = None

    def init(self, chains: int) -> State:
        """Return a state in which nothing is known yet."""
        return State(self.potentials.unary.new_full((chains,), torch.nan))

    def step(self, state: State) -> tuple[State, Info]:
        """Eliminate all pixels and compute the marginals: here, where it is timed."""
        self.eliminated = Eliminated(self.potentials.unary, self.potentials.coupling)
        if self.model.hard and float(self.eliminated.log_z) < 0.5 * FORBIDDEN:
            raise DataError(f"{self.data.name}: no labelling avoids the pairs that model.coupling forbids (-inf)")
        self.found = self.eliminated.marginals()
        new = State((self.eliminated.log_z - self.potentials.normaliser).expand(len(state.log_evidence)))
        return new, Info(new.log_evidence)

    def expectations(self, state: State) -> Values:
        """Return marginal probabilities, of neighbours on average over the edges, and the most probable labelling."""
        assert self.found is not None
        assert self.eliminated is not None
        pairs = self.found.right.sum((0, 1)) + self.found.below.sum((0, 1))
        edges = max(1, self.found.right.shape[:2].numel() + self.found.below.shape[:2].numel())
        chains = len(state.log_evidence)
        each = {
            "label_probability": self.found.label,
            "most_probable": self.eliminated.most_probable(),
            "neighbours_probability": (pairs + pairs.T) / (2 * edges),
        }
        return {name: value.expand(chains, *value.shape) for name, value in each.items()}

    def draws(self, state: State) -> Values:
        """Draw independent labellings."""
        assert self.eliminated is not None
        return {"label": self.eliminated.draw(len(state.log_evidence))}

    def log_q(self, state: State, draws: Values) -> Float[Tensor, C]:
        """Return the log posterior probability of labellings."""
        return self.potentials.log_joint(draws["label"]) - state.log_evidence
