"""What many processes would gain: a model of the speed-up, from steps and sums measured in one process.

``python -m benchmarks.cluster poisson_mf.cavi ...``. A step of N rows takes ``a N + b shards + c`` seconds of CPU,
found from three sizes; each process has its part of the first two and all of the third. Every sum over rows is
exchanged as ``World.sum`` does: small ones whole, round a ring; large ones in pieces to whoever adds them, and added up
round a ring.

Assumed: each process has a link of 10 Gbit/s to itself (processes of one host that share one have a part of it), a
message takes 50 microseconds, all processes are as fast as this one and wait for nothing else, and sums are copied four
times at 5 GB a second on the way.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pandas as pd
import torch

from benchmarks.scale import DATA, prepared
from pyrozoo.contracts.shards import USUAL
from pyrozoo.core.seeds import seeded
from pyrozoo.core.world import SMALL, World
from pyrozoo.run import catalog

LINK, MESSAGE, COPIES = 10e9 / 8, 50e-6, 4 / 5e9
"""Bytes a second, seconds of a message, seconds of copies of a byte."""

PROCESSES, LARGER = (2, 4, 16, 64), (1, 10, 100)
"""Numbers of processes, and of times as many rows."""

STEPS, MANY, FEWER = 9, 64, 16
"""Steps that are timed; shards whose cost is seen well; how many times fewer rows show what does not go with them."""


@dataclass(frozen=True)
class Step:
    """Of one method.

    Attributes:
        rows: Seconds for all rows, without what each shard costs.
        shard: Seconds for a shard.
        alone: Seconds of what every process does.
        sums: Bytes of every sum over rows.
    """

    rows: float
    shard: float
    alone: float
    sums: tuple[int, ...]

    def seconds(self, processes: int, larger: float = 1) -> float:
        """Return the seconds of a step in so many processes, of so many times as many rows."""
        shards = max(USUAL, processes)
        exchanged = sum(exchange(each, processes) for each in self.sums) if processes > 1 else 0.0
        own = self.rows * larger / processes + self.shard * math.ceil(shards / processes)
        return own + self.alone + exchanged

    def sent(self, processes: int) -> float:
        """Return the bytes that a process sends in a step."""
        small, large = (sum(each for each in self.sums if (each <= SMALL) == whole) for whole in (True, False))
        return small * (processes - 1) + large * 2 * (processes - 1) / processes


def exchange(size: int, processes: int) -> float:
    """Return the seconds in which processes, a power of two of them, exchange a sum of so many bytes."""
    rounds = processes - 1
    if size <= SMALL:
        return rounds * (MESSAGE + size / LINK)
    return 2 * rounds * (MESSAGE + size / processes / LINK) + size * COPIES


def measured(model: str, method: str) -> Step:
    """Return the step of a method, at the usual sizes of ``benchmarks.scale``."""
    N, sums = DATA[model][0].rows, []
    whole, cut, few = (_seconds(model, method, *each, sums) for each in ((N, 1), (N, MANY), (N // FEWER, 1)))
    shard = max(0.0, (cut - whole) / (MANY - 1))
    rows = (whole - few) * FEWER / (FEWER - 1)
    return Step(rows, shard, max(0.0, few - rows / FEWER - shard), tuple(sums))


def _asked(rows: int | None, shards: int) -> argparse.Namespace:
    return argparse.Namespace(rows=rows, columns=None, entries=None, factors=None, shards=shards, dtype="float64")


def _seconds(model: str, method: str, rows: int, shards: int, sums: list[int]) -> float:
    """Return the seconds of CPU of a step, the least of some, and leave the sizes of its sums in a list."""
    posterior, _ = prepared(model, _asked(rows, shards))
    solver: Any = catalog.part(model, method).Solver(posterior)
    add, times = World.sum, []

    def noted(self: World, *arguments: Any) -> list[torch.Tensor]:
        found = add(self, *arguments)
        sums.append(sum(each.numel() * each.element_size() for each in found))
        return found

    with seeded(0), torch.no_grad(), mock.patch.object(World, "sum", noted):
        state, _ = solver.step(solver.init(1))
        for _ in range(STEPS):
            sums.clear()
            started = time.process_time()
            state, _ = solver.step(state)
            times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    lines = {}
    for name in sys.argv[1:]:
        step = measured(*name.split("."))
        line = {"rows s": step.rows, "shard ms": 1e3 * step.shard, "alone s": step.alone}
        line |= {"sums": len(step.sums), "MB": sum(step.sums) / 1e6, "MB sent by 1 of 64": step.sent(64) / 1e6}
        for larger in LARGER:
            for processes in PROCESSES:
                line[f"{processes} at {larger}N"] = step.seconds(1, larger) / step.seconds(processes, larger)
        lines[name] = line
        print(pd.DataFrame({name: line}).T.round(4).to_string(), flush=True)
    print(pd.DataFrame(lines).T.round(3).to_string())


if __name__ == "__main__":
    main()
