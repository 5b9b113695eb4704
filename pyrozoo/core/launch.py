"""Whether torchrun started this process, with which others; torch is not needed to know."""

from __future__ import annotations

import os


def launched() -> bool:
    """Return whether torchrun started this process, alone or with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def processes() -> int:
    """Return how many processes fit together."""
    return int(os.environ.get("WORLD_SIZE", "1")) if launched() else 1


def first() -> bool:
    """Return whether this process is the one that reports."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def restarts() -> int:
    """Return how often torchrun has started the processes anew, because one of them was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) if launched() else 0
