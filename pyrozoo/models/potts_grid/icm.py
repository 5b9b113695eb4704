"""Iterated conditional modes: the baseline for the most probable labelling."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Draws
from pyrozoo.data.grid import Grid
from pyrozoo.models.potts_grid.checkerboard import Checkerboard
from pyrozoo.models.potts_grid.gibbs import State
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.model import PottsGrid


class Solver(SolverContract):
    """Every pixel takes its most probable label given its neighbours, one colour after the other.

    Besag 1986, Journal of the Royal Statistical Society B 48.

    The first restart begins at the image itself, missing pixels at random; the others have a tenth of its pixels
    replaced at random. Ends where no change of a single pixel is better, which may be far from the best labelling.

    Args:
        model: The model.
        data: The image.

    Raises:
        NotApplicable: The coupling forbids pairs, and single changes may be unable to leave what is forbidden.
    """

    kind = "point"
    objective_name = "log_joint"
    objective_of = "after"
    monotone = True
    state_class = State

    REPLACED = 0.1

    def __init__(self, model: PottsGrid, data: Grid):
        model.refuse_hard("icm", "and single changes may be unable to leave what is forbidden; max_product can")
        self.model, self.data = model, data
        self.potentials = Potentials.of(model, data)
        self.board = Checkerboard(self.potentials)

    def init(self, chains: int) -> State:
        """Start from the image."""
        label = self.model.initial(self.data, chains)["label"]
        share = torch.full((chains, 1, 1), self.REPLACED, dtype=self.data.values.dtype, device=label.device)
        share[0] = 0.0
        kept = self.data.observed & (torch.rand(label.shape, dtype=share.dtype, device=label.device) >= share)
        return State(torch.where(kept, self.data.filled.long(), label))

    def step(self, state: State) -> tuple[State, Float[Tensor, C]]:
        """Improve one colour, then the other."""
        new = dataclasses.replace(state, label=self.board.sweep(state.label, lambda logits: logits.argmax(-1)))
        return new, self.potentials.log_joint(new.label)

    def draws(self, state: State) -> Draws:
        """Return the labels."""
        return {"label": state.label}
