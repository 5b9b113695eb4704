"""Mean field by coordinate ascent, all pixels of one colour of the checkerboard at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.contracts import solver
from pyrozoo.models.potts_grid.checkerboard import Checkerboard
from pyrozoo.models.potts_grid.likelihood import Pixels
from pyrozoo.models.potts_grid.posterior import Posterior

KERNELS = Kernels(__file__)

STRIP = 16
"""Rows that the kernel goes through at a time."""


@dataclass(frozen=True)
class State:
    """q(y_i = k) for the two colours of the checkerboard, packed as ``Checkerboard`` says."""

    black: Float[Tensor, "C H half K"]
    white: Float[Tensor, "C H half K"]


class Solver(solver.Solver, kind="variational", objective="elbo", of="result", monotone=True, state=State):
    """log q(y_i = k) = c 1[x_i = k] + sum over neighbours sum_l q(y_nbr = l) J(k, l) + constant.

    Jaakkola 2001, in Opper and Saad, Advanced mean field methods, chapter 10; Bishop 2006, eq. 10.9. Pixels of one
    colour do not depend on each other, so updating all of them is coordinate ascent and the bound never falls. The
    first restart begins with every label equally likely, the others at random.

    Raises:
        NotApplicable: The coupling forbids pairs: independent pixels cannot avoid them.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.model.refuse_hard("cavi", "which independent pixels cannot avoid; exact and bp can do with it")
        self.potentials, self.board = posterior.potentials, Checkerboard(posterior.potentials)

    def init(self, chains: int) -> State:
        """Start from equal probabilities, and from random ones."""
        random = self.posterior.normal(chains, *self.potentials.unary.shape)
        random[0] = 0.0
        return State(*self.board.pack(random.softmax(-1)))

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update black given white, then white given the new black."""
        board = self.board
        if KERNELS.serve(state.black, state.white, board.coupling, *board.unary):
            black, half = self._updated(state.white.contiguous(), 0)
            white, other = self._updated(black, 1)
            return State(black, white), solver.Info(half + other - self.potentials.normaliser)
        pulled = board.pull(state.white @ self.potentials.coupling, 0)
        logits = board.unary[0] + pulled
        black = logits.softmax(-1)
        # Of a colour that has just been updated, E log potential of its pixels + entropy is the log of the sum; black's
        # leaves out its edges, which white's counts.
        half = (logits.logsumexp(-1, keepdim=True) - (black * pulled).sum(-1, keepdim=True)) * board.exists[0]
        logits = board.unary[1] + board.pull(black @ self.potentials.coupling, 1)
        other = logits.logsumexp(-1, keepdim=True) * board.exists[1]
        bound = half.sum((1, 2, 3)) + other.sum((1, 2, 3))
        return State(black, logits.softmax(-1)), solver.Info(bound - self.potentials.normaliser)

    def _updated(self, other: Tensor, colour: int) -> tuple[Tensor, Float[Tensor, C]]:
        """Return one colour given the other and what it adds to the bound, in C."""
        board, found = self.board, torch.empty_like(other)
        (C, H, _, K), strips = other.shape, -(-other.shape[1] // STRIP)
        bound = other.new_empty(C, strips)
        KERNELS(
            "colour", other.dtype, other, board.unary[colour].contiguous(), board.coupling.contiguous(), found, bound,
            C, H, board.width, K, colour, STRIP, threads(),
        )  # fmt: skip
        return found, bound.sum(1)

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        prob = self.board.unpack((state.black, state.white))
        return solver.Answer(q=Pixels(prob), expectations={"label_probability": prob})
