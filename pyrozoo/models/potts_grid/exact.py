"""Exact answers: evidence, marginal probabilities, the most probable labelling, independent draws."""

from __future__ import annotations

from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError
from pyrozoo.math.elimination import Eliminated, Marginals, refuse_large
from pyrozoo.models.potts_grid.model import FORBIDDEN
from pyrozoo.models.potts_grid.posterior import Posterior


class Solver(solver.ExactSolver):
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

    def evidence(self) -> Float[Tensor, ""]:
        """Eliminate all pixels and compute the marginals."""
        self.eliminated = Eliminated(self.potentials.unary, self.potentials.coupling)
        if self.model.hard and float(self.eliminated.log_z) < 0.5 * FORBIDDEN:
            raise DataError(f"{self.data.name}: no labelling avoids the pairs that model.coupling forbids (-inf)")
        self.marginals = self.eliminated.marginals()
        return self.eliminated.log_z - self.potentials.normaliser

    def draw(self, count: int) -> Values:
        """Draw independent labellings."""
        return {"label": self.eliminated.draw(count)}

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
