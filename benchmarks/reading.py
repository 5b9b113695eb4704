"""Reading: lists and tables from files into containers, against pandas, and against Arrow's reading in one thread."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from benchmarks.harness import Row, alone
from pyrozoo.data.contained import read_data
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.table import Table

USERS, ITEMS = 160_000, 60_000


def ratings(count: int, seed: int = 0, words: bool = False) -> pa.Table:
    """Return a list of ratings with as many lines, sorted by user, as such lists are; no pair twice."""
    generator = np.random.default_rng(seed)
    keys = np.unique(generator.integers(0, USERS * ITEMS, int(count * 1.01)))[:count]
    user, item = pa.array(keys // ITEMS + 1), pa.array(keys % ITEMS + 1)
    if words:
        user, item = (
            pc.binary_join_element_wise(letter, each.cast(pa.string()), "")
            for letter, each in (("u", user), ("m", item))
        )
    return pa.table({"userId": user, "movieId": item, "rating": generator.integers(1, 11, len(keys)) / 2})


def best(function: Callable[[], Any], times: int = 3, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the fewest seconds of several calls."""
    found = []
    for _ in range(times):
        start = clock()
        function()
        found.append(clock() - start)
    return min(found)


def floor(path: Path, listed: bool) -> np.ndarray:
    """Read a file by Arrow in one thread, put labels in order, and fill the array that a container has."""
    if path.suffix == ".csv":
        table = arrow_csv.read_csv(path, arrow_csv.ReadOptions(use_threads=False))
    else:
        table = pq.read_table(path, use_threads=False)
    values = np.empty((table.num_rows, table.num_columns))
    for j, column in enumerate(table.columns):
        values[:, j] = _places(column) if listed and j < 2 else column.to_numpy()
    return values


def _places(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_integer(column.type):
        cells = column.to_numpy()
        there = np.zeros(cells.max() + 1, bool)
        there[cells] = True
        return (np.cumsum(there, dtype=np.int32) - 1)[cells]
    coded = column.dictionary_encode().unify_dictionaries()
    order = pc.sort_indices(coded.chunk(0).dictionary).to_numpy()
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    return rank[np.concatenate([each.indices.to_numpy() for each in coded.chunks])]


def read(path: Path, listed: bool, dtype: str = "float64") -> Any:
    """Read a file into a container."""
    return read_data(path, Ratings, dtype, layout="list") if listed else read_data(path, Table, dtype)


def empty() -> None:
    """Do nothing: what a process holds before it reads."""


def files(folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """Write one file after the other, and yield what it is, where it is, and whether it is a list."""
    generator = np.random.default_rng(0)
    for count in (1_000_000, 10_000_000, 25_000_000):
        for words in (False, True) if count < 25_000_000 else (False,):
            table = ratings(count, words=words)
            ids = "string" if words else "int64"
            yield from _written(folder, f"{table.num_rows / 1e6:.0f} M ratings, {ids} ids", table, True)
    for shape in ((1_000_000, 20), (100_000, 100)):
        values = generator.poisson(3, shape) if shape[1] == 20 else generator.normal(size=shape)
        table = pa.table({f"c{j}": column for j, column in enumerate(values.T)})
        yield from _written(
            folder, f"{shape[0]} x {shape[1]} {'counts' if shape[1] == 20 else 'numbers'}", table, False
        )


def _written(folder: Path, what: str, table: pa.Table, listed: bool) -> Iterator[tuple[str, Path, bool]]:
    for ending, write in (("csv", arrow_csv.write_csv), ("parquet", pq.write_table)):
        if ending == "csv" and table.num_rows > 10_000_000:
            continue
        path = folder / f"data.{ending}"
        write(table, path)
        yield f"{what}, {ending}", path, listed
        path.unlink()


def rows() -> Iterator[Row]:
    """Yield rows per file: seconds against pandas, and CPU seconds against the floor, with the peak of reading."""
    with tempfile.TemporaryDirectory() as folder:
        before = alone(empty)[1]
        for what, path, listed in files(Path(folder)):
            library = pd.read_csv if path.suffix == ".csv" else pd.read_parquet
            theirs, ours = best(lambda: library(path)), best(lambda: read(path, listed))  # noqa: B023
            count = read(path, listed).values.shape[0]
            note = f"{count / ours / 1e6:.1f} M lines a second"
            yield Row(f"{what}: file to container", ours, f"pandas, {library.__name__}", theirs, note=note)
            least = best(lambda: floor(path, listed), clock=time.process_time)  # noqa: B023
            spent = best(lambda: read(path, listed), clock=time.process_time)  # noqa: B023
            held = [alone(read, path, listed, dtype)[1] - before for dtype in ("float64", "float32")]
            note = f"CPU seconds; bytes a line at the peak: {held[0] * 2**20 / count:.0f}, float32 " + (
                f"{held[1] * 2**20 / count:.0f}"
            )
            yield Row(f"{what}: CPU", spent, "Arrow in one thread, and indexing", least, note, held[0])
