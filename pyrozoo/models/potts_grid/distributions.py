"""The field of labels, before any pixel is seen, as a Pyro distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pyro.distributions import constraints
from torch import Tensor

from pyrozoo.core.errors import NotApplicable
from pyrozoo.models.potts_grid.elimination import Eliminated, at_most, work
from pyrozoo.program.whole import Whole

MOST_FIELDS, MOST_WORK = 2**20, 2e6
"""Labellings that enumeration lists; multiplications that one draw from the prior may take: simulations draw
hundreds."""


class PottsField(Whole):
    """log p(y) = sum over edges J(y_i, y_j), each edge once, *up to the normaliser*, which no method here needs.

    Draws are exact, by elimination, and therefore of small fields only.

    Args:
        coupling: J.
        shape: Height and width.
    """

    support = constraints.independent(constraints.nonnegative_integer, 2)
    has_enumerate_support = True

    def __init__(self, coupling: Float[Tensor, "K K"], shape: tuple[int, int]):
        self.coupling = coupling
        super().__init__((), shape)

    def log_prob(self, value: Int[Tensor, "*batch H W"]) -> Float[Tensor, "*batch"]:
        """Return the unnormalised log density."""
        return pairs(value, self.coupling)

    def sample(self, sample_shape: Sequence[int] = ()) -> Int[Tensor, "H W"]:
        """Draw exactly.

        Raises:
            NotApplicable: The field is too large for that.
        """
        if sample_shape:
            raise NotImplementedError("one draw at a time")
        height, width = shape = (self.event_shape[0], self.event_shape[1])
        labels = len(self.coupling)
        if work(shape, labels) > MOST_WORK:
            most = at_most(shape, labels, lambda smaller: work(smaller, labels) <= MOST_WORK)
            raise NotApplicable(f"a field of {height} x {width} pixels cannot be drawn from the prior: {most}")
        return Eliminated(self.coupling.new_zeros(height, width, labels), self.coupling).draw(1)[0]

    def enumerate_support(self, expand: bool = True) -> Int[Tensor, "S H W"]:
        """Return every labelling.

        Raises:
            NotImplementedError: There are more than ``MOST_FIELDS``.
        """
        labels, size, device = len(self.coupling), self.event_shape.numel(), self.coupling.device
        if labels**size > MOST_FIELDS:
            raise NotImplementedError(f"{labels}^{size} labellings are too many to list")
        code = torch.arange(labels**size, device=device).unsqueeze(1)
        powers = labels ** torch.arange(size - 1, -1, -1, device=device)
        return (code // powers % labels).reshape(-1, *self.event_shape)


def pairs(label: Int[Tensor, "*batch H W"], coupling: Float[Tensor, "K K"]) -> Float[Tensor, "*batch"]:
    """Return the sum of J over the edges of fields, each edge once."""
    across = coupling[label[..., :, :-1], label[..., :, 1:]].sum((-2, -1))
    return across + coupling[label[..., :-1, :], label[..., 1:, :]].sum((-2, -1))
