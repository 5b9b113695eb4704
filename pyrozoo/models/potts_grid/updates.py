"""What Gibbs, ICM and mean field say of a pixel given its neighbours, and the program that has pixels one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import Messages, Step, Update
from pyrozoo.core.draws import Values
from pyrozoo.models.potts_grid.checkerboard import Checkerboard
from pyrozoo.models.potts_grid.messages import SHIFTS, Passing
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
        if width > 1:
            with pyro.plate("row ", height, dim=-2), pyro.plate("edge", width - 1, dim=-1):
                pyro.factor("right", coupling[label[..., :-1], label[..., 1:]])
        if height > 1:
            with pyro.plate("edge ", height - 1, dim=-2), pyro.plate("column ", width, dim=-1):
                pyro.factor("below", coupling[label[..., :-1, :], label[..., 1:, :]])

    return program


def label(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return log p(label | neighbours) of all pixels."""
    board = solver.board
    colours = board.pack(values["label"])
    return [board.unpack([board.logits(colours[1 - colour], colour) for colour in (0, 1)])]


def probabilities(solver: Any, state: Any) -> list[Values]:
    """Return the probabilities of labels."""
    return [{"label": solver.answer(state).q.prob[0]}]


def messages(solver: Any, state: Any) -> Tensor:
    """Return what every pixel hears from every other one, of the first chain, [to, from, label]."""
    found = state.messages[0]  # [direction, label, height, width]
    number = torch.arange(found[0, 0].numel()).reshape(found.shape[2:])
    result = found.new_zeros(number.numel(), number.numel(), found.shape[1])
    for direction, (to, source) in enumerate(SHIFTS):
        result[number[to].flatten(), number[source].flatten()] = found[direction][:, *to].flatten(1).T
    return result


def beliefs(solver: Any, state: Any) -> Tensor:
    """Return the probabilities of labels, pixel by pixel, [pixel, label]."""
    found: Tensor = solver.passing.probability(state)[0]
    return found.flatten(0, 1)


def undamped(solver: Any, state: Any) -> Any:
    """Return the state after a sweep that has nothing of the old messages in the new ones."""
    return Passing(solver.posterior.potentials, 0.0, solver.passing.maximise).sweep(state)[0]


UPDATES = (Update("label", ("gibbs", "icm"), label, (Checkerboard.logits, Checkerboard.pull), by_pixel),)
STEPS = (Step("cavi", by_pixel, nodes=probabilities),)
MESSAGES = (Messages("bp", "label", messages, beliefs, undamped, (Passing.sweep, Passing._cavities), by_pixel),)
NOT_HELD = {
    "bp": "messages, which are no conditionals",
    "exact": "no update: a sum over all labellings",
    "max_product": "messages, which are no conditionals",
}
