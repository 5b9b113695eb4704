"""Random states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under its own random state: torch's distributions take no generator, so fork the global one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
