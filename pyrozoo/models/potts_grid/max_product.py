"""Max-product: the most probable labelling by messages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.models.potts_grid import messages
from pyrozoo.models.potts_grid.posterior import Posterior


@dataclass(frozen=True)
class State(messages.State):
    """Messages, the best labelling that any of them gave, [C, H, W], and its log joint density, [C]."""

    label: Int[Tensor, "C H W"]
    log_joint: Float[Tensor, C]


class Solver(PointSolver, kind="point", objective="log_joint", of="result", monotone=True, state=State):
    """Belief propagation with the largest term in place of sums (Weiss and Freeman 2001, IEEE Trans. Inf. Theory 47).

    After every sweep each pixel takes the label of its largest belief; the best labelling so far is kept. Converged
    when no log message changes by more than the tolerance; on an image with loops that proves nothing of the labelling,
    and where several labellings are best, pixels may take theirs from different ones.

    Args:
        posterior: The model given an image.
        damping: Share of the old message in the new one, in [0, 1).

    Raises:
        SettingError: Damping out of range.
    """

    def __init__(self, posterior: Posterior, damping: float = 0.5):
        super().__init__(posterior)
        self.potentials = posterior.potentials
        self.passing = messages.Passing(self.potentials, damping, maximise=True)

    def init(self, chains: int) -> State:
        """Start from messages that say nothing, and from random ones."""
        start = self.passing.start(chains).messages
        return State(start, self.posterior.initial(chains)["label"], start.new_full((chains,), -torch.inf))

    def step(self, state: State) -> tuple[State, Info]:
        """Send all messages once and read off a labelling."""
        sent, residual, _ = self.passing.sweep(state)
        label = self.passing.beliefs(sent.messages).max(1).indices  # argmax takes 20 times as long along this axis
        value = self.potentials.log_joint(label)
        better = value > state.log_joint
        best = torch.where(better, value, state.log_joint)
        label = torch.where(better[:, None, None], label, state.label)
        return State(sent.messages, label, best), Info(best, residual)
