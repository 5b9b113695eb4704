"""What every long loop needs, written once: progress, Ctrl-C, checkpoints, resuming, the trace, the seed."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from pyrozoo.contracts.fit import Status
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.paths import replacing
from pyrozoo.core.progress import PROGRESS_AFTER_SECONDS
from pyrozoo.core.seeds import seeded


@dataclass(frozen=True)
class LoopSettings:
    """How a loop runs, the same for every engine.

    Attributes:
        seed: Of torch's generator inside the loop; the caller's random state is left alone.
        progress: Show a bar on anything over two seconds, when on a terminal.
        checkpoint: Where checkpoints go; None writes none.
        checkpoint_every: Iterations between checkpoints; None writes none.
        resume: Continue from the checkpoint.
        megabytes: What the draws that are kept may take; engines keep fewer of a large model, and say so.
    """

    seed: int = 0
    progress: bool = True
    checkpoint: Path | None = None
    checkpoint_every: int | None = None
    resume: bool = False
    megabytes: float = math.inf

    def __post_init__(self) -> None:
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise SettingError(f"checkpoint_every is {self.checkpoint_every}; it must be at least 1, or null")


class Process(Protocol):
    """One computation that the loop drives. Its state is a dict of tensors, numbers, strings, lists and dicts."""

    total: int

    def start(self) -> None:
        """Make the starting state, from torch's global generator."""

    def advance(self) -> Tensor | None:
        """Do one iteration; return the objective of every chain (NaN where there is none), or None."""

    def status(self) -> Status | None:
        """Return how the computation ended, or None while it goes on."""

    def progress(self, advances: int) -> int:
        """Return how many iterations have been made after so many calls of ``advance``: as many, unless it says."""
        return advances

    def stop(self) -> None:
        """Stop whatever runs by itself: the loop has been interrupted."""
        return

    def history(self) -> Iterable[tuple[float, Tensor]]:
        """Return seconds and objectives of iterations that ``advance`` did not return, at the end; often none."""
        return ()

    def watched(self) -> dict[str, Tensor]:
        """Return further figures of every chain after the last iteration, for the trace; often none."""
        return {}

    def resumable(self) -> bool:
        """Return whether ``state`` now holds all that is needed; a checkpoint that is due waits until it does."""

    def state(self) -> dict[str, Any]:
        """Return all that ``restore`` needs to continue to the same bits."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the state."""


@dataclass
class Run:
    """What the loop itself has to say of a finished process."""

    status: Status
    trace: pd.DataFrame
    iterations: int
    seconds: float


@dataclass
class _Record:
    """The trace while it grows; a list of rows that becomes tensors in a checkpoint."""

    seconds: list[float] = field(default_factory=list)
    objectives: list[Tensor] = field(default_factory=list)
    figures: dict[str, dict[int, Tensor]] = field(default_factory=dict)

    def add(self, seconds: float, objective: Tensor, figures: dict[str, Tensor]) -> None:
        for name, value in figures.items():
            self.figures.setdefault(name, {})[len(self.objectives)] = value
        self.seconds.append(seconds)
        self.objectives.append(objective)

    def frame(self) -> pd.DataFrame:
        if not self.objectives:
            return pd.DataFrame({"iteration": [], "chain": [], "objective": [], "seconds": []})
        values = torch.stack(self.objectives).double().cpu().numpy()
        iteration, chain = np.nonzero(~np.isnan(values))
        figures = {}
        for name, known in self.figures.items():
            whole = np.full_like(values, np.nan)
            for i, value in known.items():
                whole[i] = value.double().cpu().numpy()
            figures[name] = whole[iteration, chain]
        return pd.DataFrame(
            {
                "iteration": iteration + 1,
                "chain": chain,
                "objective": values[iteration, chain],
                "seconds": np.asarray(self.seconds)[iteration],
                **figures,
            }
        )


def drive(process: Process, settings: LoopSettings, description: str) -> Run:
    """Run a process to its end, to Ctrl-C, or on from a checkpoint.

    Args:
        process: What to advance.
        settings: How.
        description: Shown beside the progress bar.

    Returns:
        Status, trace and time; the process holds its own results.
    """
    record, done, before = _Record(), 0, 0.0
    with seeded(settings.seed), _interruption() as interrupted:
        started = time.perf_counter()  # what a process prepares is part of its time
        if settings.resume:
            saved = read_checkpoint(settings.checkpoint)
            process.restore(saved["process"])
            record.seconds, done, before = saved["seconds"].tolist(), saved["iterations"], saved["elapsed"]
            record.objectives, record.figures = list(saved["objectives"]), saved["figures"]
            _restore_random_state(saved["random"])
            started = time.perf_counter() - before
        else:
            process.start()

        def save() -> None:
            if settings.checkpoint and settings.checkpoint_every and process.resumable():
                _write_checkpoint(settings.checkpoint, process, record, done, time.perf_counter() - started)

        if not settings.resume:
            save()
        due = False
        status = process.status()
        reached = process.progress(done)
        bar = tqdm(
            total=process.total, initial=reached, desc=description, leave=False, delay=PROGRESS_AFTER_SECONDS,
            disable=None if settings.progress else True, dynamic_ncols=True,
        )  # fmt: skip
        with bar:
            # At least one iteration, so that even the earliest Ctrl-C leaves a valid partial result.
            while status is None and not (interrupted.is_set() and reached):
                objective = process.advance()
                done += 1
                previous, reached = reached, process.progress(done)
                if objective is not None:
                    record.add(time.perf_counter() - started, objective, process.watched())
                    if not bar.disable:
                        bar.set_postfix_str(
                            f"objective {objective[~objective.isnan()].max().item():.6g}", refresh=False
                        )
                bar.update(reached - previous)
                status = process.status()
                every = settings.checkpoint_every
                due |= every is not None and reached // every > previous // every
                if due and process.resumable():
                    save()
                    due = False
        if status is None:
            process.stop()
        elapsed = time.perf_counter() - started
        if status is None:
            save()
        for second, objective in process.history():
            record.add(second, objective, {})
    return Run(status or "interrupted", record.frame(), reached, elapsed)


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, looked at between iterations, so that no state is left half made.

    A second Ctrl-C is Python's own KeyboardInterrupt. Signals reach only the main thread; elsewhere nothing changes.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(*_: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _write_checkpoint(path: Path, process: Process, record: _Record, iterations: int, elapsed: float) -> None:
    content = {
        "process": process.state(),
        "iterations": iterations,
        "elapsed": elapsed,
        "seconds": torch.tensor(record.seconds, dtype=torch.float64),
        "objectives": torch.stack(record.objectives) if record.objectives else torch.empty(0, 1),
        "figures": record.figures,
        "random": _random_state(),
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def read_checkpoint(path: Path | None) -> dict[str, Any]:
    """Read a checkpoint: plain tensors, numbers and strings only; nothing is unpickled.

    Raises:
        DataError: No such file, or not a checkpoint.
    """
    if path is None or not path.is_file():
        raise DataError(f"there is no checkpoint to resume from at {path}")
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:
        raise DataError(f"{path} is not a readable checkpoint ({type(error).__name__})") from None
