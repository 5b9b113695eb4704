"""Progress bars and notes: plain text, on a terminal only."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)

PROGRESS_AFTER_SECONDS = 2.0
"""Work that is done sooner shows no progress bar."""


def bar(total: int, description: str, *, shown: bool = True, initial: int = 0, unit: str = "it") -> Any:
    """Return a progress bar, to be entered as a context.

    Args:
        total: Steps in all.
        description: Shown beside it.
        shown: Whether it is wanted; never anywhere but on a terminal.
        initial: Steps made before.
        unit: What a step is called.
    """
    return tqdm(
        total=total, initial=initial, desc=description, unit=unit, leave=False, delay=PROGRESS_AFTER_SECONDS,
        disable=None if shown else True, dynamic_ncols=True,
    )  # fmt: skip


SOON, LONG = 10.0, 120.0
"""Seconds after which a forecast is made, and from which on one is told."""


class Forecast:
    """Says once how long a loop will take at its present speed, where that is long: in the log, on no terminal too.

    Args:
        total: Iterations in all.
        done: Iterations made before.
        description: What runs.
    """

    def __init__(self, total: int, done: int, description: str) -> None:
        self.total, self.first, self.description = total, done, description
        self.began, self.told = time.monotonic(), False

    def look(self, done: int) -> None:
        """Look at the clock after so many iterations."""
        elapsed, made = time.monotonic() - self.began, done - self.first
        if self.told or elapsed < SOON or (expected := elapsed * (self.total - self.first) / max(made, 1)) < LONG:
            return
        self.told = True
        log.warning(
            "%s: %d of %d iterations in %s: at this speed all take %s%s; seconds=N ends a run after so many, with what "
            "it has, and with checkpoint_every=N resume goes on",
            self.description, made, self.total - self.first, spelled(elapsed), "" if made else "more than ",
            spelled(expected),
        )  # fmt: skip


def spelled(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def tell(lines: Iterable[str], shown: bool = True) -> None:
    """Write lines to a terminal, where there is one: what was guessed of data, say."""
    if shown and sys.stderr.isatty():
        sys.stderr.writelines(f"  note  {line}\n" for line in lines)
