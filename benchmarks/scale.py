"""Rows in shards: seconds of a step, memory of a process and bytes sent, of data that are generated on the fly.

``torchrun --nproc-per-node 2 -m benchmarks.scale poisson_mf.cavi --rows 1000000 --columns 50000 --entries 100``;
without torchrun in one process, and with ``--shards 0`` as it is without shards. Several methods may be named; ``all``
are those that run on rows in shards. On a busy host read the seconds of CPU: those of a process's threads, of sending
among them.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import distributed

from benchmarks.bits import methods
from benchmarks.harness import peak_megabytes
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.shards import USUAL, leaves
from pyrozoo.core.seeds import seeded
from pyrozoo.core.world import close, world
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers.labels import Labels
from pyrozoo.data.shards import in_shards, own_rows
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.run import catalog
from pyrozoo.run.names import model_of

BLOCK = 2**14
"""Rows generated at a time, from a seed of their own: whoever generates them gets the same."""


LEVELS = 5
"""Categories of every item of a survey."""


@dataclass(frozen=True)
class Sizes:
    """Of data and model.

    Attributes:
        rows: N.
        columns: M.
        entries: Of a list, drawn for every row; some fall on the same column.
        factors: K.
    """

    rows: int
    columns: int
    entries: int
    factors: int


def blocks(rows: range) -> Iterator[tuple[np.random.Generator, int, np.ndarray]]:
    """Go through rows in blocks of the same beginnings, whoever asks: a generator, the first row, those that are in."""
    for start in range(rows.start - rows.start % BLOCK, rows.stop, BLOCK):
        place = np.arange(start, start + BLOCK)
        yield np.random.default_rng(start), start, (place >= rows.start) & (place < rows.stop)


def listed(rows: range, sizes: Sizes) -> tuple[np.ndarray, ...]:
    """Return row, column and how often it was drawn, of a list: columns as words are used, by Zipf's law."""
    weight = 1 / np.arange(1, sizes.columns + 1) ** 1.1
    edges, parts = np.cumsum(weight / weight.sum()), []
    for generator, start, inside in blocks(rows):
        drawn = generator.random((BLOCK, sizes.entries))[inside]
        column = np.searchsorted(edges, drawn).clip(max=sizes.columns - 1)
        row = np.flatnonzero(inside)[:, None] + start - rows.start
        parts.append(np.unique(row * sizes.columns + column, return_counts=True))
    place, count = (np.concatenate(each) for each in zip(*parts, strict=True))
    return place // sizes.columns, place % sizes.columns, count


def counts(rows: range, sizes: Sizes, names: Any) -> Triplets:
    """Return a list of counts, most of them 1."""
    return Triplets(torch.as_tensor(np.stack(listed(rows, sizes), 1)).double(), *names, "generated")


def ratings(rows: range, sizes: Sizes, names: Any) -> Ratings:
    """Return a list of ratings from 1 to 5, of the same pairs."""
    row, column, _ = listed(rows, sizes)
    taste = 1 + (row + rows.start) % 3 + column % 3
    return Ratings(torch.as_tensor(np.stack([row, column, taste], 1)).double(), *names, "generated")


def cells(rows: range, sizes: Sizes, draw: Callable[[np.random.Generator, np.ndarray], np.ndarray]) -> torch.Tensor:
    """Return a table whose rows are of four kinds, [N, M]."""
    parts = []
    for generator, start, inside in blocks(rows):
        kind = (np.arange(start, start + BLOCK)[:, None] // 7 + np.arange(sizes.columns)) % 4
        parts.append(draw(generator, kind)[inside])
    return torch.as_tensor(np.concatenate(parts)).double()


def table_of_counts(rows: range, sizes: Sizes, names: Any) -> Table:
    """Return counts, many of them 0."""
    return Table(cells(rows, sizes, lambda g, kind: g.poisson(2.0 * kind) * (g.random(kind.shape) < 0.7)), *names)


def table(rows: range, sizes: Sizes, names: Any) -> Table:
    """Return real numbers."""
    return Table(cells(rows, sizes, lambda g, kind: g.standard_normal(kind.shape) + kind), *names)


def survey(rows: range, sizes: Sizes, names: Any) -> Survey:
    """Return codes of categories."""
    codes = cells(rows, sizes, lambda g, kind: (kind + g.integers(0, 3, kind.shape)) % LEVELS)
    return Survey(codes, *names, levels=[[str(level) for level in range(LEVELS)]] * sizes.columns)


DATA: dict[str, tuple[Sizes, str, Callable[[range, Sizes, Any], Any]]] = {
    "poisson_mf": (Sizes(100_000, 20_000, 61, 50), "num_factors", counts),
    "gaussian_mf": (Sizes(100_000, 5_000, 70, 10), "num_factors", ratings),
    "zip_mixture": (Sizes(100_000, 44, 0, 10), "num_components", table_of_counts),
    "factor_analysis": (Sizes(100_000, 44, 0, 5), "num_factors", table),
    "categorical_fa": (Sizes(100_000, 44, 0, 2), "latent_dimension", survey),
}
"""Model -> usual sizes (4.4 million cells), the setting that is K, and how its data are made."""


@contextmanager
def bytes_sent() -> Iterator[list[int]]:
    """Count the bytes that this process sends to another, on average, in all sums."""
    sent = [0]

    def counted(call: Any, receivers: int) -> Any:
        def also(got: Any, own: torch.Tensor) -> Any:
            sent[0] += own.numel() * own.element_size() // receivers
            return call(got, own)

        return also

    gather, exchange = counted(distributed.all_gather, 1), counted(distributed.all_to_all_single, world().size)
    with mock.patch.multiple(distributed, all_gather=gather, all_to_all_single=exchange):
        yield sent


def prepared(model: str, asked: argparse.Namespace) -> tuple[Posterior, Sizes]:
    """Return the posterior, its rows generated, and their sizes."""
    usual, factors, make = DATA[model]
    given = {name: value for name in vars(usual) if (value := getattr(asked, name)) is not None}
    sizes, dtype = replace(usual, **given), getattr(torch, asked.dtype)
    made = model_of({**catalog.model_settings(model), factors: sizes.factors})

    def part(rows: range) -> Any:
        names = Labels(range(rows.start, rows.stop), "row_"), Labels(range(sizes.columns), "column_")
        return make(rows, sizes, names).to("cpu", dtype)

    if not asked.shards:
        return Posterior.of(made, part(range(sizes.rows))), sizes
    parts = [part(place) for place in own_rows(sizes.rows, asked.shards, world())]
    return in_shards(made, parts, sizes.rows, asked.shards, world()), sizes


def timed(model: str, method: str, asked: argparse.Namespace) -> str:
    """Return what there is to say of the steps of one method."""
    posterior, sizes = prepared(model, asked)
    options = {"batch_size": asked.batch} if method.startswith("stochastic") else {}
    solver: Any = catalog.part(model, method).Solver(posterior, **options)
    data = peak_megabytes()
    with seeded(0), bytes_sent() as sent, torch.no_grad():
        state, _ = solver.step(solver.init(1))  # the first one makes the layouts
        world().wait()
        started, worked, sent[0] = time.perf_counter(), time.process_time(), 0
        for _ in range(asked.steps):
            state, info = solver.step(state)
        seconds, worked = ((now - then) / asked.steps for now, then in
                           ((time.perf_counter(), started), (time.process_time(), worked)))  # fmt: skip
    shared = [value for name, value in vars(state).items() if name not in (solver.by_row or ())]
    bits = hashlib.sha256(b"".join(each.contiguous().numpy().tobytes() for each in leaves(tuple(shared)))).hexdigest()
    parts = (posterior,) if posterior.shards is None else posterior.shards.parts
    total = sum(world().gathered(sum(len(part.data.values) for part in parts)))
    peaks, cpu = world().gathered((data, peak_megabytes())), max(world().gathered(worked))
    return (
        f"{model}.{method}: {sizes.rows} x {sizes.columns}, {total} lines, K={sizes.factors}, {asked.dtype}, "
        f"{asked.shards} shards, {world().size} processes: {seconds:.3f} s a step, {cpu:.3f} s of CPU in a process, "
        f"{sent[0] / asked.steps / 1e6:.3f} MB sent to each other process a step, peak MB of each process "
        f"{[round(peak) for _, peak in peaks]} (data {[round(each) for each, _ in peaks]}), "
        f"objective {float(info.objective[0]):.6f}, bits of what is shared {bits[:12]}"
    )


def main() -> None:
    """Time the steps of some methods."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="+", metavar="MODEL.METHOD")
    for name in vars(Sizes(0, 0, 0, 0)):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--shards", type=int, default=USUAL)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--batch", type=int, default=4096, help="rows of a minibatch of stochastic methods")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    every = [".".join(each) for each in methods()] if asked.methods == ["all"] else asked.methods
    for name in every:
        said = timed(*name.split("."), asked)
        if world().rank == 0:
            print(said, flush=True)
    close()


if __name__ == "__main__":
    main()
