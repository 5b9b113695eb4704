"""Random states: a block under its own, and seeds of places."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave torch's random state, that of the card in use too, as it was before a block."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under its own random state: torch's distributions take no generator, so fork the global one."""
    with undisturbed():
        if torch.cuda.is_available():
            torch.manual_seed(seed)
        else:  # torch would note for every device that there is not what it is to do there: a millisecond
            torch.default_generator.manual_seed(seed)
        yield


def seed_of(*place: int) -> int:
    """Return the seed of a place in a study: a hash of it, so that no two streams have to do with each other.

    It has 30 bits: who takes a seed may take the next ones, too, and ``data.seed`` has 31.
    """
    return int(np.random.SeedSequence(place).generate_state(1)[0]) >> 2
