"""Sums of numbers by group, always with the same bits: what the derivative of looking numbers up is, on a device.

PyTorch's own sorts the indices at every call, and adds up each group's numbers one after another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Most numbers of a group that are added up before the sums of its chunks are."""


class Groups:
    """Which numbers go together.

    Args:
        index: The group of each number, of any shape, not negative.
        count: How many groups there are.
    """

    def __init__(self, index: Tensor, count: int):
        index = index.flatten()
        self.order = torch.sort(index, stable=True).indices
        sizes = torch.bincount(index, minlength=count)
        self.chunks = (sizes + (CHUNK - 1)) // CHUNK
        group = torch.repeat_interleave(torch.arange(count, device=index.device), self.chunks)
        within = torch.arange(len(group), device=index.device) - (self.chunks.cumsum(0) - self.chunks)[group]
        self.sizes = (sizes[group] - within * CHUNK).clamp(max=CHUNK)

    def sums(self, values: Tensor) -> Tensor:
        """Return the sums by group, [count, ...], of values [number, ...]."""
        parts = values.index_select(0, self.order)
        for lengths in (self.sizes, self.chunks):
            parts = torch.segment_reduce(parts, "sum", lengths=lengths, unsafe=True)
        return parts


class LookedUp(torch.autograd.Function):
    """``values[..., index, ...]``, the index along one axis, whose derivative takes the groups that are known."""

    @staticmethod
    def forward(context: Any, values: Tensor, axis: int, index: Tensor, groups: Groups) -> Tensor:
        """Return the values at the indices, in their place."""
        context.axis, context.groups, context.shape = axis, groups, index.shape
        found = values.index_select(axis, index.flatten())
        return found.unflatten(axis, index.shape) if index.ndim != 1 else found

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the sums by group."""
        axis = context.axis
        by_number = gradient.flatten(axis, axis + len(context.shape) - 1) if len(context.shape) != 1 else gradient
        rows = by_number.movedim(axis, 0)
        sums = context.groups.sums(rows.reshape(len(rows), -1).squeeze(-1) if rows[0].numel() == 1 else rows.flatten(1))
        return sums.reshape(-1, *rows.shape[1:]).movedim(0, axis), None, None, None
