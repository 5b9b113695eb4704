"""Reading: lists and tables from files into containers, against the library that reads the same columns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from benchmarks.harness import Row
from pyrozoo.data.contained import read_data
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.table import Table

USERS, ITEMS = 160_000, 60_000


def ratings(count: int, seed: int = 0) -> pa.Table:
    """Return a list of ratings with as many lines, sorted by user, as such lists are; no pair twice."""
    generator = np.random.default_rng(seed)
    keys = np.unique(generator.integers(0, USERS * ITEMS, int(count * 1.01)))[:count]
    columns = {
        "userId": keys // ITEMS + 1,
        "movieId": keys % ITEMS + 1,
        "rating": generator.integers(1, 11, len(keys)) / 2,
    }
    return pa.table(columns)


def best(function: Callable[[], Any], times: int = 3) -> float:
    """Return the fewest seconds of several calls."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def rows() -> Iterator[Row]:
    """Yield a row per file: seconds of ours, and of the library's reading of the same columns."""
    with tempfile.TemporaryDirectory() as folder:
        for count, ending in ((25_000_000, "parquet"), (10_000_000, "csv")):
            path, table = Path(folder) / f"ratings.{ending}", ratings(count)
            if ending == "parquet":
                pq.write_table(table, path)
                library, what = (lambda path=path: pd.read_parquet(path)), "pandas, read_parquet"
            else:
                arrow_csv.write_csv(table, path)
                library, what = (lambda path=path: pd.read_csv(path)), "pandas, read_csv"
            lines = table.num_rows
            del table
            theirs = best(library)
            ours = best(lambda path=path: read_data(path, Ratings, layout="list"))
            note = f"{lines / ours / 1e6:.1f} M lines a second"
            yield Row(f"{lines / 1e6:.0f} M ratings, {ending}: file to container", ours, what, theirs, note=note)
        path = Path(folder) / "table.csv"
        generator = np.random.default_rng(0)
        pd.DataFrame(generator.poisson(3, (1_000_000, 20))).add_prefix("c").to_csv(path, index=False)
        theirs, ours = best(lambda: pd.read_csv(path)), best(lambda: read_data(path, Table))
        yield Row("1 M x 20 counts, csv: file to container", ours, "pandas, read_csv", theirs)
