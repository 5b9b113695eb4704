"""What every benchmark shares: turns, peak memory, the table."""

from __future__ import annotations

import multiprocessing
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        task: What was computed.
        ours: Seconds of ours.
        peer: Who it is compared with.
        theirs: Seconds of theirs, or None.
        note: What a reader must know to read the figures.
        megabytes: Peak memory of ours, or None.
    """

    task: str
    ours: float
    peer: str
    theirs: float | None
    note: str = ""
    megabytes: float | None = None


def in_turns(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int = 3) -> tuple[float, float]:
    """Time two functions turn by turn, after one call of each; return the median seconds of both."""
    ours(), theirs()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, seconds in zip((ours, theirs), times, strict=True):
            started = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - started)
    return sorted(times[0])[rounds // 2], sorted(times[1])[rounds // 2]


def _measure(function: Callable[..., Any], arguments: tuple[Any, ...], pipe: Any) -> None:
    started = time.perf_counter()
    function(*arguments)
    seconds = time.perf_counter() - started
    pipe.send((seconds, peak_megabytes()))


def peak_megabytes() -> float:
    """Return the most memory this process has had; ``ru_maxrss`` would remember that of the parent, too."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(function: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Run a function in a process of its own; return seconds and peak resident megabytes, the imports' included."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(False)
    process = context.Process(target=_measure, args=(function, arguments, send))
    process.start()
    send.close()  # so that a process that fails is an error here, and no wait without end
    result = receive.recv()
    process.join()
    return result
