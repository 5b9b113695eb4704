"""Moments of a fit: what its state said at some steps of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from pyrozoo.core.draws import Draws, evenly

T = TypeVar("T")

DRAWS = 50
"""Draws from q that a moment of a variational fit has."""


@dataclass(frozen=True)
class Moment:
    """A state of the run, and what it says.

    Attributes:
        step: Iterations made when its objective was known, as in ``Fit.trace``; a start is 0.
        seconds: Wall-clock seconds since the start, in the engine.
        passes: Times that all the data, or their gradient, had been gone through, over all restarts or chains.
        objective: Of the state, of each of its chains; empty where it has none.
        kept: Draws of every chain that ``Fit.draws`` had by then: of samplers, after the warm-up.
        sample: n -> n draws from q, the same at every call, site -> [chain, draw, *event]; of a point, a sampler's
            state, or a fit that was read from a file, what there is, whatever n.
        count: Draws that ``draws`` has of a q.
    """

    step: int
    seconds: float
    passes: float
    objective: tuple[float, ...]
    kept: int
    sample: Callable[[int], Draws]
    count: int = DRAWS

    @cached_property
    def draws(self) -> Draws:
        """What the state says, site -> [chain, draw, *event]: a point, draws from q, or a state of every chain."""
        return self.sample(self.count)


def chosen(moments: Sequence[T], most: int) -> list[T]:
    """Return at most so many of some moments, evenly chosen in their order, the first and the last among them."""
    return [moments[int(i)] for i in evenly(len(moments), most)]
