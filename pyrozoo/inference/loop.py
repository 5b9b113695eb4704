"""What every long loop needs, written once: progress, Ctrl-C, checkpoints, resuming, the trace, the seed."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.shards import Shards
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.paths import alone, replacing
from pyrozoo.core.progress import Forecast, bar
from pyrozoo.core.seeds import seeded
from pyrozoo.core.world import World, world
from pyrozoo.inference.journal import LOG, Journal
from pyrozoo.inference.moments import Recorded, Recorder
from pyrozoo.inference.state import of_rows, plain


class Process:
    """One computation that the loop drives. What it needs to go on is its ``now``, which is the checkpoint.

    Attributes:
        total: Iterations at most.
        fixed: Whether it makes as many, whatever it finds: how long it takes can be said early.
        now: The state, a dataclass of tensors, numbers, strings, lists, dicts, and solver states.
        shards: Where the rows are that it has something of; None: they are not cut.
        by_row: The fields of its checkpoint that have a value for every row, [C, N, ...].
        grown_by_row: What of ``grown`` has a value for every row that is reported on, [C, draw, n, ...].
    """

    total: int
    now: Any
    fixed: ClassVar[bool] = False
    shards: Shards | None = None
    by_row: Sequence[str] = ()
    grown_by_row: Sequence[str] = ()

    def start(self) -> None:
        """Make the starting state, from torch's global generator."""
        raise NotImplementedError

    def advance(self) -> Tensor | None:
        """Do one iteration; return the objective of every chain (NaN where there is none), or None."""
        raise NotImplementedError

    def status(self) -> Status | None:
        """Return how the computation ended, or None while it goes on."""
        raise NotImplementedError

    def progress(self, advances: int) -> int:
        """Return how many iterations have been made after so many calls of ``advance``: as many, unless it says."""
        return advances

    def stop(self) -> None:
        """Stop whatever runs by itself: the loop has been interrupted."""
        return

    def history(self) -> pd.DataFrame | None:
        """Return the trace, at the end, of a process whose ``advance`` returns no objectives; None: it does."""
        return None

    def watched(self) -> dict[str, Tensor]:
        """Return further figures of every chain after the last iteration, for the trace; often none."""
        return {}

    def recorded(self) -> Mapping[str, Tensor] | None:
        """Return what the state that the last objective is of can be told from later, by name; None: nothing is."""
        return None

    def passes(self) -> float:
        """Return how often all the data, or their gradient, have been gone through, over all restarts or chains."""
        return 0.0

    def settled(self) -> int:
        """Return the step at which the best of the restarts that have ended did; 0: none has."""
        return 0

    def kept(self) -> int:
        """Return how many draws of every chain are kept by now."""
        return 0

    def resumable(self) -> bool:
        """Return whether ``now`` holds all that is needed; a checkpoint that is due waits until it does."""
        return True

    def checkpoint(self) -> dict[str, Any]:
        """Return the state as plain tensors, numbers, strings, lists and dicts, by field."""
        return plain(self.now)

    def grown(self) -> dict[str, Tensor]:
        """Return what of the state only grows and is new since the last call, which ``checkpoint`` leaves out."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Take up what ``checkpoint`` returned, to continue to the same bits."""
        raise NotImplementedError

    def regrow(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """Take up what ``grown`` returned each time, after ``restore``."""
        return


@dataclass
class Run:
    """What the loop itself has to say of a finished process."""

    status: Status
    trace: pd.DataFrame
    iterations: int
    seconds: float
    recorder: Recorder


@dataclass
class _Record:
    """The trace while it grows; a list of rows that becomes tensors in a checkpoint."""

    seconds: list[float] = field(default_factory=list)
    objectives: list[Tensor] = field(default_factory=list)
    figures: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    written: int = 0

    def grown(self) -> dict[str, Tensor]:
        """Return the rows that are new since the last call."""
        first, self.written = self.written, len(self.objectives)
        if first == self.written:
            return {}
        result = {"seconds": torch.tensor(self.seconds[first:], dtype=torch.float64)}
        result["objectives"] = torch.stack(self.objectives[first:])
        for name, known in self.figures.items():
            if at := [i for i in range(first, self.written) if i in known]:
                result[f"at {name}"], result[f"of {name}"] = torch.tensor(at), torch.stack([known[i] for i in at])
        return result

    def restore(self, saved: Mapping[str, Any], entries: Sequence[Mapping[str, Tensor]]) -> None:
        """Take up the rows of a checkpoint: earlier versions kept them all in it."""
        if "objectives" in saved:
            self.seconds, self.objectives = saved["seconds"].tolist(), list(saved["objectives"])
            self.figures = saved["figures"]
        for entry in entries:
            self.seconds += entry["seconds"].tolist() if "seconds" in entry else []
            self.objectives += list(entry.get("objectives", ()))
            for name in (each.removeprefix("at ") for each in entry if each.startswith("at ")):
                known = self.figures.setdefault(name, {})
                known |= dict(zip(entry[f"at {name}"].tolist(), entry[f"of {name}"], strict=True))
        self.written = len(self.objectives) if entries else 0

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


def drive(process: Process, settings: Loop, description: str) -> Run:
    """Run a process to its end, to Ctrl-C, or on from a checkpoint.

    Args:
        process: What to advance.
        settings: How.
        description: Shown beside the progress bar.

    Returns:
        Status, trace and time; the process holds its own results.
    """
    record, done, together = _Record(), 0, world()
    recorder = Recorder(settings.moments if process.shards is None else 0, settings.megabytes)
    with seeded(settings.seed), _interruption() as interrupted, _kept(settings, together):
        started = time.perf_counter()  # what a process prepares is part of its time
        journal = None if settings.checkpoint is None else Journal.beside(settings.checkpoint, together)
        if settings.resume:
            assert journal is not None
            saved = read_part(settings.checkpoint, journal, process, together)
            _take_up(saved, journal, process, record, recorder)
            done, started = saved["iterations"], time.perf_counter() - saved["elapsed"]
        else:
            process.start()

        def save() -> None:
            if settings.checkpoint and journal and settings.checkpoint_every and process.resumable():
                content = _checkpoint(journal, process, record, recorder, done, time.perf_counter() - started)
                write_part(settings.checkpoint, content, done, together)

        if not settings.resume:
            save()
        due, began = False, time.perf_counter()
        status = process.status()
        reached = process.progress(done)
        forecast = Forecast(process.total, reached, description)
        with bar(process.total, description, shown=settings.progress and not together.rank, initial=reached) as shown:
            # At least one iteration, so that even the earliest Ctrl-C leaves a valid partial result.
            while status is None and not (reached and together.any(interrupted.is_set() or _late(settings, began))):
                objective = process.advance()
                done += 1
                previous, reached = reached, process.progress(done)
                if objective is not None:
                    record.add(time.perf_counter() - started, objective, process.watched())
                    if not shown.disable:
                        shown.set_postfix_str(
                            f"objective {objective[~objective.isnan()].max().item():.6g}", refresh=False
                        )
                shown.update(reached - previous)
                if objective is not None and recorder.due(reached):
                    _look(process, recorder, reached, time.perf_counter() - started, objective)
                if process.fixed and not together.rank:
                    forecast.look(reached)
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
        trace = process.history()
    frame = record.frame() if trace is None else trace
    return Run(status or "interrupted", frame, reached, elapsed, recorder)


def _look(process: Process, recorder: Recorder, step: int, seconds: float, objective: Tensor) -> None:
    """Keep the state of a process as a moment, where it has one."""
    content = process.recorded()
    if content is not None:
        state = Recorded(step, seconds, process.passes(), process.kept(), objective, content)
        recorder.add(state, process.settled())


def _take_up(saved: dict[str, Any], journal: Journal, process: Process, record: _Record, recorder: Recorder) -> None:
    """Bring a process, and what is known of it, to where a checkpoint was written."""
    process.restore(saved["process"])
    process.regrow([_of(PROCESS, entry) for entry in journal.entries])
    record.restore(saved, [_of(RECORD, entry) for entry in journal.entries])
    recorder.restore(saved.get("moments", recorder.settings()), [_of(MOMENT, entry) for entry in journal.entries])
    journal.entries = []
    _restore_random_state(saved["random"])


@contextmanager
def _kept(settings: Loop, together: World) -> Iterator[None]:
    """Keep the directory of checkpoints to this run."""
    if settings.checkpoint is None or together.rank:
        yield
        return
    with alone(settings.checkpoint.parent) as free:
        if not free:
            raise SettingError(f"{settings.checkpoint.parent} is in use: another process runs in it")
        yield


def _late(settings: Loop, began: float) -> bool:
    """Return whether a loop has used the time that it may take."""
    return settings.seconds is not None and time.perf_counter() - began >= settings.seconds


def fit_of(
    method: Method, posterior: Posterior, run: Run, loop: Loop, runs: Mapping[str, Sequence[Any] | Any], **known: Any
) -> Fit:
    """Build the fit of a method: the one place where fits are made.

    Args:
        method: The method.
        posterior: What was fitted.
        run: What the loop says.
        loop: How it ran.
        runs: Objective, iterations and status of every restart or chain.
        **known: Fields of ``Fit`` that the method knows.
    """
    chains = len(runs["objective"])
    frame = pd.DataFrame({"chain": range(chains), **runs})
    about = {"status": run.status, "iterations": run.iterations, "seconds": run.seconds, "seed": loop.seed}
    fitted = {"posterior": posterior, "method": method.name, "draws": Draws(), "trace": run.trace, "runs": frame}
    return Fit(**{**fitted, **about, **known})


def last_objectives(trace: pd.DataFrame, chains: int) -> list[float]:
    """Return the last objective of every chain, NaN of those that have none."""
    last = trace.groupby("chain")["objective"].last()
    return [float(last.get(chain, np.nan)) for chain in range(chains)]


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, looked at between iterations, so that no state is left half made.

    So is SIGTERM where a command takes it for Ctrl-C. A second Ctrl-C is Python's own KeyboardInterrupt. Signals reach
    only the main thread; elsewhere nothing changes.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    if previous[signal.SIGTERM] is not signal.default_int_handler:
        del previous[signal.SIGTERM]

    def back() -> None:
        for each, handler in previous.items():
            signal.signal(each, handler)

    def handle(*_: Any) -> None:
        event.set()
        back()

    for each in previous:
        signal.signal(each, handle)
    try:
        yield event
    finally:
        back()


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


PROCESS, RECORD, MOMENT = "process ", "record ", "moment "
"""How the names of tensors in a journal begin."""


def _of(whose: str, entry: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what of an entry is the process's, or the record's."""
    return {name.removeprefix(whose): value for name, value in entry.items() if name.startswith(whose)}


def _checkpoint(
    journal: Journal, process: Process, record: _Record, recorder: Recorder, iterations: int, elapsed: float
) -> dict[str, Any]:
    """Append what is new to the journal, and return the rest with how much of that counts.

    A kill before this is written changes nothing: what was appended does not count yet.
    """
    news = ((PROCESS, process.grown()), (RECORD, record.grown()), (MOMENT, recorder.grown()))
    journal.append({f"{whose}{name}": value for whose, part in news for name, value in part.items()})
    return {
        "process": process.checkpoint(),
        "iterations": iterations,
        "elapsed": elapsed,
        "moments": recorder.settings(),
        "journal": journal.state(),
        "random": _random_state(),
    }


def write_part(path: Path, content: dict[str, Any], iterations: int, together: World) -> None:
    """Write a checkpoint; of several processes each its own part, and the first one, once all are there, which.

    Args:
        path: Of the checkpoint.
        content: What this process has to say.
        iterations: Iterations made.
        together: The processes.
    """
    if together.size == 1:
        _write(path, content)
    else:
        _write(_part(path, together, iterations), content)
        together.wait()
        if together.rank == 0:
            _write(path, {"processes": together.size, "iterations": iterations})
        together.wait()
    if together.rank == 0:
        kept = f"{path.stem}{LOG}" if together.size == 1 else f"{path.stem}.{together.size}."
        _remove(each for each in _beside(path) if not each.name.startswith(kept))  # another number of processes
    if together.size > 1:
        now = _part(path, together, iterations)
        _remove(each for each in path.parent.glob(_part(path, together, "*").name) if each != now)


def read_part(path: Path | None, journal: Journal, process: Process, together: World) -> dict[str, Any]:
    """Read what this process wrote into a checkpoint, or what others wrote of its rows when there were fewer or more.

    Args:
        path: Of the checkpoint.
        journal: The empty journal of this process, which gets what it held.
        process: What goes on.
        together: The processes.

    Raises:
        DataError: No such file, not a checkpoint, or one of another number of processes and of rows in no shards.
    """
    saved = read_checkpoint(path)
    assert path is not None
    processes, shards = saved.get("processes", 1), process.shards
    if processes != together.size and shards is None:
        raise DataError(f"{path} was written by {processes} processes; start as many to resume, not {together.size}")
    which = [together.rank] if shards is None or processes == together.size else shards.holders(processes)
    worlds = [World(rank, processes) for rank in which]
    parts = [saved if processes == 1 else read_checkpoint(_part(path, each, saved["iterations"])) for each in worlds]
    journals = [journal] if processes == together.size else [Journal.beside(path, each) for each in worlds]
    for old, part in zip(journals, parts, strict=True):
        old.read(part.get("journal"))
    if shards is None or processes == together.size:
        return parts[0]
    taken = partial(shards.taken, processes=processes)
    parts[0]["process"] = of_rows([part["process"] for part in parts], process.by_row, taken)
    names, taken = [f"{PROCESS}{name}" for name in process.grown_by_row], partial(taken, axis=2, chosen=True)
    for entries in zip(*(each.entries for each in journals), strict=True):
        journal.entries.append(of_rows(entries, names, taken))
        journal.append(journal.entries[-1])
    return parts[0]


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint with all of its parts."""
    _remove((path, *_beside(path)))


def _remove(paths: Iterable[Path]) -> None:
    for each in paths:
        each.unlink(missing_ok=True)


def _beside(path: Path) -> list[Path]:
    """Return the parts and journals of a checkpoint, of whatever number of processes."""
    return [*path.parent.glob(f"{path.stem}.*.*.*{path.suffix}"), *path.parent.glob(f"{path.stem}*{LOG}")]


def _part(path: Path, together: World, iterations: int | str) -> Path:
    return path.with_name(f"{path.stem}.{together.size}.{together.rank}.{iterations}{path.suffix}")


def _write(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()  # torch's own writer of files says nothing of a full disk
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


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
