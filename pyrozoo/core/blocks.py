"""How much is worked on at a time: on a CPU what stays in a core's cache, on CUDA what keeps a whole card busy."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

ON_CUDA, SHARE = 2**28, 64
"""Bytes of a block on a CUDA device, and the part of its memory that a block takes at most, one in so many: work needs
several tensors of a block's size."""


def at_once(on_cpu: int, like: Tensor) -> int:
    """Return how many numbers a block may have.

    Args:
        on_cpu: As many as a block has on a CPU, whatever their type; elsewhere it has at least as many.
        like: Says of which type they are, and where.
    """
    if like.device.type != "cuda":
        return on_cpu
    return max(on_cpu, min(ON_CUDA, _memory(like.device) // SHARE) // like.element_size())


@cache
def _memory(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).total_memory)
