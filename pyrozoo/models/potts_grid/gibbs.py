"""Gibbs sampling of the field, all pixels of one colour of the checkerboard at a time."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.math.multinomial import choose
from pyrozoo.models.potts_grid.checkerboard import Checkerboard
from pyrozoo.models.potts_grid.posterior import Posterior


@dataclass(frozen=True)
class State:
    """The labels, [C, H, W]."""

    label: Int[Tensor, "C H W"]


class Solver(PointSolver, kind="samples", objective="log_joint", of="result", state=State, graph=True):
    """Given its neighbours, a pixel is k with probability prop. to exp(c 1[x = k] + sum over neighbours J(k, y_nbr)).

    Geman and Geman 1984, IEEE PAMI 6, section VIII; pixels of one colour are independent given the other's, so each
    half of the field is drawn at once.

    Raises:
        NotApplicable: The coupling forbids pairs: single pixels may then be unable to move.
    """

    stuck = "gibbs", "and single pixels may then be unable to move; exact and bp can do with it"

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.model.refuse_hard(*self.stuck)
        self.potentials, self.board = posterior.potentials, Checkerboard(posterior.potentials)

    def step(self, state: State) -> tuple[State, Info]:
        """Choose one colour, then the other; the objective is the program's log joint of the new labels."""
        label = self.board.sweep(state.label, self.choose)
        return State(label), Info(self.potentials.log_joint(label))

    def choose(self, logits: Tensor) -> Tensor:
        """Draw labels given their neighbours."""
        return choose(logits.softmax(-1))
