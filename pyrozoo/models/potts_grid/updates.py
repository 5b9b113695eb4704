"""What Gibbs, ICM and mean field say of a pixel given its neighbours, and the program that has pixels one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import Step, Update
from pyrozoo.core.draws import Values
from pyrozoo.models.potts_grid.checkerboard import Checkerboard
from pyrozoo.models.potts_grid.model import pairs
from pyrozoo.program.trace import Program


def by_pixel(posterior: Posterior) -> Program:
    """Return the program whose pixels are elements of one site."""
    m: Any = posterior.model

    def program(data: Any) -> None:
        coupling, (height, width) = m.coupling_matrix(data), data.shape
        with pyro.plate("row", height, dim=-2), pyro.plate("column", width, dim=-1):
            label = pyro.sample("label", dist.Categorical(coupling.new_ones(len(coupling))))
            same = m.strength * (label == data.filled).to(coupling)
            pyro.factor("image", torch.where(data.observed, same, 0.0))
        pyro.factor("coupling", pairs(label, coupling))

    return program


def label(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return log p(label | neighbours) of all pixels."""
    board = solver.board
    colours = board.pack(values["label"])
    return [board.unpack([board.logits(colours[1 - colour], colour) for colour in (0, 1)])]


def probabilities(solver: Any, state: Any) -> list[Values]:
    """Return the probabilities of labels."""
    return [{"label": solver.answer(state).q.prob[0]}]


UPDATES = (Update("label", ("gibbs", "icm"), label, (Checkerboard.logits, Checkerboard.pull), by_pixel),)
STEPS = (Step("cavi", by_pixel, nodes=probabilities),)
NOT_HELD = {
    "bp": "messages, which are no conditionals",
    "exact": "no update: a sum over all labellings",
    "max_product": "messages, which are no conditionals",
}
