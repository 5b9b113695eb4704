"""Rows in shards: seconds of a step, memory of a process and bytes sent, of counts that are generated on the fly.

``torchrun --nproc-per-node 2 -m benchmarks.scale cavi --rows 1000000 --columns 50000 --entries 100``; without
torchrun in one process, and with ``--shards 0`` as it is without shards.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import distributed

from benchmarks.harness import peak_megabytes
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.shards import USUAL, leaves
from pyrozoo.core.seeds import seeded
from pyrozoo.core.world import close, world
from pyrozoo.data.readers.labels import Labels
from pyrozoo.data.shards import in_shards, own_rows
from pyrozoo.data.triplets import Triplets
from pyrozoo.run import catalog
from pyrozoo.run.names import model_of

BLOCK = 2**14
"""Rows generated at a time, from a seed of their own: whoever generates them gets the same."""


def counts(rows: range, columns: int, entries: int, dtype: torch.dtype) -> Triplets:
    """Generate counts of some rows: columns as words are used, by Zipf's law, most counts 1."""
    weight = 1 / np.arange(1, columns + 1) ** 1.1
    edges, parts = np.cumsum(weight / weight.sum()), []
    for start in range(rows.start - rows.start % BLOCK, rows.stop, BLOCK):
        generator, size = np.random.default_rng(start), (BLOCK, entries)
        column = np.searchsorted(edges, generator.random(size)).clip(max=columns - 1)
        row = np.broadcast_to(np.arange(start, start + BLOCK)[:, None], size)
        inside = (row >= rows.start) & (row < rows.stop)
        place, count = np.unique((row[inside] - rows.start) * columns + column[inside], return_counts=True)
        parts.append(torch.as_tensor(np.stack([place // columns, place % columns, count], 1)).to(dtype))
    names = Labels(range(rows.start, rows.stop), "row_"), Labels(range(columns), "column_")
    return Triplets(torch.cat(parts), *names, "generated")


@contextmanager
def bytes_sent() -> Iterator[list[int]]:
    """Count the bytes that this process sends to another, on average, in all sums."""
    sent, whole, pieces = [0], distributed.all_gather, distributed.all_to_all_single

    def gather(got: list[torch.Tensor], own: torch.Tensor) -> Any:
        sent[0] += own.numel() * own.element_size()
        return whole(got, own)

    def exchange(got: torch.Tensor, own: torch.Tensor) -> Any:
        sent[0] += own.numel() * own.element_size() // len(own)
        return pieces(got, own)

    distributed.all_gather, distributed.all_to_all_single = gather, exchange
    try:
        yield sent
    finally:
        distributed.all_gather, distributed.all_to_all_single = whole, pieces


def prepared(asked: argparse.Namespace) -> Posterior:
    """Return the posterior, its rows generated."""
    model = model_of({**catalog.model_settings("poisson_mf"), "num_factors": asked.factors})
    dtype = getattr(torch, asked.dtype)
    if not asked.shards:
        return Posterior.of(model, counts(range(asked.rows), asked.columns, asked.entries, dtype))
    places = own_rows(asked.rows, asked.shards, world())
    parts = [counts(place, asked.columns, asked.entries, dtype) for place in places]
    return in_shards(model, parts, asked.rows, asked.shards, world())


def main() -> None:
    """Time the steps of one method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=("cavi", "em", "gibbs", "stochastic_cavi"))
    for name, usual in {"rows": 100_000, "columns": 20_000, "entries": 44, "factors": 50, "steps": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--shards", type=int, default=USUAL)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--batch", type=int, default=4096, help="rows of a minibatch of stochastic_cavi")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    posterior = prepared(asked)
    options = {"batch_size": asked.batch} if asked.method == "stochastic_cavi" else {}
    solver = importlib.import_module(f"pyrozoo.models.poisson_mf.{asked.method}").Solver(posterior, **options)
    data = peak_megabytes()
    with seeded(0), bytes_sent() as sent, torch.no_grad():
        state, _ = solver.step(solver.init(1))  # the first one makes the layouts
        world().wait()
        started, sent[0] = time.perf_counter(), 0
        for _ in range(asked.steps):
            state, info = solver.step(state)
        seconds = (time.perf_counter() - started) / asked.steps
    shared = [value for name, value in vars(state).items() if name not in (solver.by_row or ())]
    bits = hashlib.sha256(b"".join(each.contiguous().numpy().tobytes() for each in leaves(tuple(shared)))).hexdigest()
    parts = (posterior,) if posterior.shards is None else posterior.shards.parts
    total = sum(world().gathered(sum(len(part.data.values) for part in parts)))
    peaks = world().gathered((data, peak_megabytes()))
    if world().rank == 0:
        print(
            f"{asked.method}: {posterior.rows} rows, {total} counts, K={asked.factors}, {asked.dtype}, "
            f"{asked.shards} shards, {world().size} processes: {seconds:.3f} s a step, "
            f"{sent[0] / asked.steps / 1e6:.3f} MB sent to each other process a step, peak MB of each process "
            f"{[round(peak) for _, peak in peaks]} (data {[round(each) for each, _ in peaks]}), "
            f"objective {float(info.objective[0]):.6f}, bits of what is shared {bits[:12]}"
        )
    close()


if __name__ == "__main__":
    main()
