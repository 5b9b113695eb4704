"""Progress bars and notes: plain text, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

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


def tell(lines: Iterable[str], shown: bool = True) -> None:
    """Write lines to a terminal, where there is one: what was guessed of data, say."""
    if shown and sys.stderr.isatty():
        sys.stderr.writelines(f"  note  {line}\n" for line in lines)
