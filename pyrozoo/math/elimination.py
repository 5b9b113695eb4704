"""Exact sums, maxima and draws of a field on a grid, by eliminating its pixels one after another.

Pixels are taken line by line along the shorter side, of m pixels. What is known of all pixels before the next one is a
table over the labels of the last m, K^m numbers, oldest pixel first: adding a pixel and summing out the oldest costs
K^(m+1) (variable elimination, Koller and Friedman 2009, section 9.3; on a grid, the transfer matrix of Onsager 1944
taken pixel by pixel). The table is kept where a line begins; within a line tables are made again on the way back, so
that memory is (H + W) K^m and not H W K^m.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical

from pyrozoo.core.errors import NotApplicable

MOST_TABLE, MOST_BYTES = 2**24, 4e9
"""Numbers in a step's table, K^(m+1); memory of all tables that are kept at a time."""

Reduce = Callable[[Tensor], Tensor]
"""Sums or maximises over the first axis of a table."""

_sum: Reduce = partial(torch.logsumexp, dim=0)
_most: Reduce = partial(torch.amax, dim=0)


def work(shape: tuple[int, int], labels: int) -> int:
    """Return how many multiplications one elimination takes, H W K^(m+1)."""
    return shape[0] * shape[1] * labels ** (min(shape) + 1)


def fits(shape: tuple[int, int], labels: int) -> bool:
    """Return whether the tables of a field can be held."""
    side, size = min(shape), labels ** min(shape)
    return size * labels <= MOST_TABLE and 8 * size * (max(shape) + 4 * labels * side) <= MOST_BYTES


def refuse_large(shape: tuple[int, int], labels: int) -> None:
    """Raise NotApplicable, saying which size would do, when the tables of a field cannot be held."""
    if not fits(shape, labels):
        most = at_most(shape, labels, lambda smaller: fits(smaller, labels))
        raise NotApplicable(
            f"an exact answer for {shape[0]} x {shape[1]} pixels with {labels} labels needs tables of "
            f"{labels}^{min(shape) + 1} numbers; {most}"
        )


def at_most(shape: tuple[int, int], labels: int, can: Callable[[tuple[int, int]], bool]) -> str:
    """Return how short the shorter side of a field must be for something that can be done with small fields."""
    side = next(side for side in itertools.count() if not can((side + 1, max(shape))))
    return f"with {labels} labels the shorter side may be at most {side} pixels"


def _add(table: Tensor, unary: Tensor, left: Tensor | None, above: Tensor | None, reduce: Reduce) -> Tensor:
    """Add a pixel to a table [K^n] of the last n, summing (or maximising) out the oldest where it lies above.

    Args:
        table: What is known of the pixels so far.
        unary: Of the new pixel, [K].
        left: J between the pixel before and the new one, [K, K]; None at the beginning of a line.
        above: J between the oldest pixel and the new one, [K, K]; None in the first line.
        reduce: Takes the oldest out.
    """
    K = len(unary)
    if above is None:
        table = table.reshape(-1, 1) + unary
    else:
        table = reduce(table.reshape(K, -1, 1) + above.unsqueeze(1)) + unary
    if left is not None:
        table = table.reshape(-1, K, K) + left
    return table.reshape(-1)


def _line(reduce: Reduce, table: Tensor, unary: Tensor, right: Tensor, below: Tensor | None = None) -> Tensor:
    """Add a line of pixels: unary [m, K], right [m - 1, K, K], below [m, K, K] or None."""
    for i, each in enumerate(unary):
        table = _add(table, each, right[i - 1] if i else None, None if below is None else below[i], reduce)
    return table


@dataclass(frozen=True)
class Marginals:
    """Exact marginal probabilities, for a field of H x W pixels.

    Attributes:
        label: P(y_i = k), [H, W, K].
        right: Of a pixel and its right neighbour, [H, W - 1, K, K].
        below: Of a pixel and its lower neighbour, [H - 1, W, K, K].
    """

    label: Tensor
    right: Tensor
    below: Tensor


class Eliminated:
    """A field whose pixels have been eliminated once, from which log Z, draws, the maximum and marginals follow.

    Args:
        unary: log potentials of single pixels, [H, W, K].
        coupling: J, [K, K], symmetric.

    Raises:
        NotApplicable: The tables would be too large; the message says which size would do.
    """

    def __init__(self, unary: Float[Tensor, "H W K"], coupling: Float[Tensor, "K K"]):
        height, width, K = unary.shape
        refuse_large((height, width), K)
        # Lines run along the shorter side.
        self.turned = width > height
        self.unary = unary.transpose(0, 1) if self.turned else unary
        self.labels = K
        self.lines, self.side = self.unary.shape[:2]
        self.right = coupling.expand(self.lines, self.side - 1, K, K)
        self.below = coupling.expand(self.lines - 1, self.side, K, K)
        self.tables = self._forward(_sum)
        self.log_z = self.tables[-1].logsumexp(0)

    def _forward(self, reduce: Reduce) -> list[Tensor]:
        """Return the table before every line, and after the last."""
        tables = [self.unary.new_zeros(1)]
        for line in range(self.lines):
            tables.append(_line(reduce, tables[-1], *self._potentials(line)))
        return tables

    def _potentials(self, line: int) -> list[Tensor]:
        """Return what a line brings: its pixels, the edges within, and those from the line before, if any."""
        return [self.unary[line], self.right[line], *([self.below[line - 1]] if line else [])]

    def marginals(self) -> Marginals:
        """Return all marginals: the derivatives of log Z by the potentials, line by line from the last."""
        label, across, down = (torch.empty_like(each) for each in (self.unary, self.right, self.below))
        slope = self.tables[-1].softmax(0)
        for line in range(self.lines - 1, -1, -1):
            # Within a line the tables are made again; before it they are known.
            parts = self.tables[line], *self._potentials(line)
            leaves = [part.detach().clone().requires_grad_(True) for part in parts]
            with torch.enable_grad():
                table = _line(_sum, *leaves)
            # A line of one pixel has no edges within.
            slope, label[line], across[line], *rest = torch.autograd.grad(
                table, leaves, slope, allow_unused=True, materialize_grads=True
            )
            if line:
                down[line - 1] = rest[0]
        if self.turned:
            return Marginals(label.transpose(0, 1), down.transpose(0, 1), across.transpose(0, 1))
        return Marginals(label, across, down)

    def draw(self, count: int) -> Int[Tensor, "count H W"]:
        """Draw independent labellings from torch's global generator: filter forward, draw backward."""
        last = torch.multinomial(self.tables[-1].softmax(0), count, replacement=True)
        return self._backward(self.tables, last, lambda each: Categorical(logits=each, validate_args=False).sample())

    def most_probable(self) -> Int[Tensor, "H W"]:
        """Return the labelling of the highest probability, the first of equal ones (Viterbi 1967)."""
        tables = self._forward(_most)
        return self._backward(tables, tables[-1].argmax()[None], lambda logits: logits.argmax(-1))[0]

    def _backward(self, tables: list[Tensor], code: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Choose every pixel given the m after it, from the code of the last m, oldest first, [count]."""
        K, reduce = self.labels, _sum if tables is self.tables else _most
        powers = K ** torch.arange(self.side - 1, -1, -1, device=code.device)
        result = code.new_empty(len(code), self.lines, self.side)
        result[:, -1] = code.unsqueeze(1) // powers % K
        for line in range(self.lines - 1, 0, -1):
            # The tables before every pixel of the line.
            before = [tables[line]]
            for i in range(self.side - 1):
                left = self.right[line, i - 1] if i else None
                before.append(_add(before[-1], self.unary[line, i], left, self.below[line - 1, i], reduce))
            for i in range(self.side - 1, -1, -1):
                rest, new = code // K, code % K
                oldest = choose(before.pop().reshape(K, -1)[:, rest].T + self.below[line - 1, i][:, new].T)
                result[:, line - 1, i] = oldest
                code = oldest * powers[0] + rest
        return result.transpose(1, 2) if self.turned else result
