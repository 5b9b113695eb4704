"""Iterated conditional modes: the baseline for the most probable labelling."""

from __future__ import annotations

import torch

from pyrozoo.contracts.solver import Answer, Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.models.potts_grid.checkerboard import Checkerboard
from pyrozoo.models.potts_grid.gibbs import State
from pyrozoo.models.potts_grid.posterior import Posterior


class Solver(SolverContract, kind="point", objective="log_joint", of="result", monotone=True, state=State):
    """Every pixel takes its most probable label given its neighbours, one colour after the other.

    Besag 1986, Journal of the Royal Statistical Society B 48.

    The first restart begins at the image itself, missing pixels at random; the others have a tenth of its pixels
    replaced at random. Ends where no change of a single pixel is better, which may be far from the best labelling.

    Raises:
        NotApplicable: The coupling forbids pairs, and single changes may be unable to leave what is forbidden.
    """

    REPLACED = 0.1

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.model.refuse_hard("icm", "and single changes may be unable to leave what is forbidden; max_product can")
        self.potentials, self.board = posterior.potentials, Checkerboard(posterior.potentials)

    def init(self, chains: int) -> State:
        """Start from the image."""
        label = self.posterior.initial(chains)["label"]
        share = torch.full((chains, 1, 1), self.REPLACED, dtype=self.data.values.dtype, device=label.device)
        share[0] = 0.0
        kept = self.data.observed & (torch.rand(label.shape, dtype=share.dtype, device=label.device) >= share)
        return State(torch.where(kept, self.data.filled.long(), label))

    def step(self, state: State) -> tuple[State, Info]:
        """Improve one colour, then the other."""
        label = self.board.sweep(state.label, lambda logits: logits.argmax(-1))
        return State(label), Info(self.potentials.log_joint(label))

    def answer(self, state: State) -> Answer:
        """Return the labels."""
        return Answer(point=vars(state))
