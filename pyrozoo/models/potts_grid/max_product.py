"""Max-product: the most probable labelling by messages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Values
from pyrozoo.models.potts_grid import messages
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.messages import Passing


@dataclass(frozen=True)
class State(messages.State):
    """Messages, the best labelling that any of them gave, [C, H, W], and its log joint density, [C]."""

    label: Int[Tensor, "C H W"]
    log_joint: Float[Tensor, C]


class Solver(SolverContract, kind="point", objective="log_joint", of="result", monotone=True, state=State):
    """Belief propagation with the largest term in place of sums (Weiss and Freeman 2001, IEEE Trans. Inf. Theory 47).

    After every sweep each pixel takes the label of its largest belief; the best labelling so far is kept. Converged
    when no log message changes by more than the tolerance; on an image with loops that proves nothing of the labelling,
    and where several labellings are best, pixels may take theirs from different ones.

    Args:
        model: The model.
        data: The image.
        damping: Share of the old message in the new one, in [0, 1).

    Raises:
        SettingError: Damping out of range.
    """

    def __init__(self, posterior: Posterior, damping: float = 0.5):
        model, data = posterior.model, posterior.data
        self.model, self.data, self.potentials = model, data, Potentials.of(model, data)
        self.passing = Passing(self.potentials, damping, maximise=True)

    def init(self, chains: int) -> State:
        """Start from messages that say nothing, and from random ones."""
        start = self.passing.start(chains)
        label = self.posterior.initial(chains)["label"]
        return State(start.messages, start.residual, label, start.residual.new_full((chains,), -torch.inf))

    def step(self, state: State) -> tuple[State, Info]:
        """Send all messages once and read off a labelling."""
        sent, _ = self.passing.sweep(state)
        label = self.passing.beliefs(sent.messages).argmax(1)
        value = self.potentials.log_joint(label)
        better = value > state.log_joint
        best = torch.where(better, value, state.log_joint)
        label = torch.where(better[:, None, None], label, state.label)
        return State(sent.messages, sent.residual, label, best), Info(best)

    def residual(self, state: State) -> Float[Tensor, C]:
        """Return the largest change of a log message."""
        return state.residual

    def draws(self, state: State) -> Values:
        """Return the best labelling so far."""
        return {"label": state.label}
