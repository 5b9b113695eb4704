"""Commands that torchrun starts several times: one run directory, one report, and on after a process was killed."""

from __future__ import annotations

import os
import re
import tempfile
from datetime import datetime
from pathlib import Path

from pyrozoo.core.launch import first, launched, restarts

PLACE = "hydra.run.dir=${outputs}/${model.name}/${inference.name}/"


def common_directory(words: list[str]) -> list[str]:
    """Return the words of a command with a run directory in which all of its processes agree, unless they name one.

    The first process says when the run began. What it said is kept for the processes that torchrun may start anew, so
    that they go on in the same directory.
    """
    from pyrozoo.core.world import world

    if any(word.startswith("hydra.run.dir=") for word in words):
        return words
    began = f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    if first():
        known = _known()
        if restarts() > 0 and known.is_file():
            began = known.read_text(encoding="utf-8")
        else:
            known.write_text(began, encoding="utf-8")
    return [*words, f"{PLACE}{world().of_first(began)}"]


def forget() -> None:
    """Forget when the run began: it has ended."""
    if launched() and first():
        _known().unlink(missing_ok=True)


def _known() -> Path:
    run = re.sub(r"\W", "", os.environ["TORCHELASTIC_RUN_ID"])
    return Path(tempfile.gettempdir()) / f"pyrozoo-{os.getuid()}-{run}-{os.getppid()}"
