"""The grid in two colours, like a checkerboard: given the pixels of one colour, those of the other are independent.

Pixels of a colour are packed into half the columns: packed column j of colour s in row r is column 2 j + (r + s) % 2.
Neighbours above and below have the other colour and the same packed column; of the two beside, one has the same packed
column and the other the one before or after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyrozoo.models.potts_grid.likelihood import Potentials


class Checkerboard:
    """The field of some potentials, packed by colour."""

    def __init__(self, potentials: Potentials):
        self.coupling = potentials.coupling
        self.height, self.width = potentials.unary.shape[:2]
        self.half = (self.width + 1) // 2
        self.unary = [packed[0] for packed in self.pack(potentials.unary[None])]
        # In images of odd width every other row of a colour ends in a pixel that does not exist.
        self.exists = [packed[0] for packed in self.pack(torch.ones_like(potentials.unary[None, ..., :1]))]

    def pack(self, values: Tensor) -> list[Tensor]:
        """Return the two colours of values [C, H, W, ...], each [C, H, half, ...]; 0 where no pixel is."""
        if self.width % 2:
            pad = values.new_zeros(*values.shape[:2], 1, *values.shape[3:])
            values = torch.cat([values, pad], 2)
        pairs = values.unflatten(2, (self.half, 2))
        result = []
        for colour in (0, 1):
            packed = values.new_empty(*values.shape[:2], self.half, *values.shape[3:])
            for row in (0, 1):
                packed[:, row::2] = pairs[:, row::2, :, (row + colour) % 2]
            result.append(packed)
        return result

    def unpack(self, colours: Sequence[Tensor]) -> Tensor:
        """Return what ``pack`` took."""
        first = colours[0]
        pairs = first.new_empty(*first.shape[:3], 2, *first.shape[3:])
        for colour, packed in enumerate(colours):
            for row in (0, 1):
                pairs[:, row::2, :, (row + colour) % 2] = packed[:, row::2]
        return pairs.flatten(2, 3)[:, :, : self.width]

    def pull(self, other: Tensor, colour: int) -> Tensor:
        """Return the sum over the neighbours of every pixel of a colour, 0 or 1, which have values [C, H, half, K]."""
        other = other * self.exists[1 - colour]
        total = other.clone()  # beside, in the same packed column
        total[:, 1:] += other[:, :-1]
        total[:, :-1] += other[:, 1:]
        before, after = colour, 1 - colour
        total[:, before::2, 1:] += other[:, before::2, :-1]
        total[:, after::2, :-1] += other[:, after::2, 1:]
        return total

    def logits(self, neighbours: Tensor, colour: int) -> Tensor:
        """Return log p(label | neighbours) of a colour's pixels, up to a constant; neighbours are [C, H, half]."""
        return self.unary[colour] + self.pull(self.coupling[neighbours], colour)

    def sweep(self, label: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Choose every pixel of a labelling [C, H, W] anew, one colour after the other, from its logits."""
        colours = self.pack(label)
        for colour in (0, 1):
            colours[colour] = choose(self.logits(colours[1 - colour], colour))
        return self.unpack(colours)
