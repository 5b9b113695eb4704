"""Whether code may look at values to decide what to do next: a density that is recorded for compiling may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_MAY: ContextVar[bool] = ContextVar("may_branch", default=True)


def may_branch() -> bool:
    """Return whether values may decide what is done; where not, the course that is right for all values is taken."""
    return _MAY.get()


@contextmanager
def without_branches() -> Iterator[None]:
    """Inside, the course of a computation depends on shapes alone.

    A matrix without a Cholesky factor then gives NaN in place of a jitter, sums of exponentials take the stable way
    always, and iterations make a fixed number of steps.
    """
    token = _MAY.set(False)
    try:
        yield
    finally:
        _MAY.reset(token)


_NOTED: ContextVar[list[Tensor] | None] = ContextVar("noted", default=None)


def holds(condition: Tensor) -> bool:
    """Return whether a condition, a scalar, holds: what usually does, and decides what is done.

    Where nothing may wait for a device, it is noted and taken to hold: who has it so looks at it later (``assuming``).
    """
    noted = _NOTED.get()
    if noted is None:
        return bool(condition)
    noted.append(condition)
    return True


@contextmanager
def assuming() -> Iterator[list[Tensor]]:
    """Inside, take conditions to hold; the list has them all in the end, and what was computed is right if they do."""
    noted: list[Tensor] = []
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)
