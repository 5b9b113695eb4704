"""Sums of products in log space, for Pyro's contraction of discrete sites: plain enough for vmap to go through."""

from __future__ import annotations

from typing import Any

from pyro.ops.einsum.util import Tensordot
from torch import Tensor


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """Add what stands under the same letters, and sum out, in log space, those that the result lacks."""
    inputs, output = equation.split("->")
    letters = [*output, *sorted(set(inputs) - {*output, ","})]
    total: Any = 0.0
    for dims, operand in zip(inputs.split(","), operands, strict=True):
        there = [letter for letter in letters if letter in dims]
        moved = operand.permute([dims.index(letter) for letter in there])
        total = total + moved[tuple(slice(None) if letter in dims else None for letter in letters)]
    summed = tuple(range(len(output), len(letters)))
    return total.logsumexp(summed) if summed else total


def transpose(operand: Tensor, axes: Any) -> Tensor:
    """Permute axes, as opt_einsum asks."""
    return operand.permute(axes)


tensordot = Tensordot(einsum)
