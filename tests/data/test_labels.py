"""Labels that become strings only where one is asked for, and what reading and holding out take of memory."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
import torch

from pyrozoo.data.contained import read_data
from pyrozoo.data.container import all_storable, labels, storable
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers.labels import Labels, joined, some
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets

KINDS = {
    "counted": (labels("row", 5), ["row_0", "row_1", "row_2", "row_3", "row_4"]),
    "numbers": (Labels(np.array([7, -1, 300])), ["7", "-1", "300"]),
    "words": (Labels.of(pa.chunked_array([["b", "ä"], ["", "c,d"]])), ["b", "ä", "", "c,d"]),
    "none": (Labels(range(0)), []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_a_sequence_of_texts(kind):
    found, texts = KINDS[kind]
    assert found == texts
    assert texts == found
    assert [*found] == texts
    assert len(found) == len(texts)
    assert found != [*texts, "more"]
    assert found.arrow().to_pylist() == texts
    assert found[1:] == texts[1:]
    assert found[::-1] == texts[::-1]
    assert some(found, torch.arange(len(texts)).flip(0)) == texts[::-1]
    assert found.take(np.ones(len(texts), bool)) == texts
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == texts
    assert pd.Series(found, dtype=object).tolist() == texts
    assert [found[i - len(texts)] for i in range(len(texts))] == texts
    assert joined([found, found]) == [*texts, *texts]
    assert joined([found, KINDS["numbers"][0], KINDS["words"][0]]) == [*texts, "7", "-1", "300", *KINDS["words"][1]]
    assert joined([found, ["x"]]) == [*texts, "x"]
    with pytest.raises(IndexError):
        found[len(texts)]


@pytest.fixture
def unspelled(monkeypatch):
    """No label may become a string of Python."""

    def refuse(self, *_):
        raise AssertionError("a label was spelled")

    for name in ("__iter__", "_texts"):
        monkeypatch.setattr(Labels, name, refuse)


def a_list(count, words=False):
    """Return a list of ratings, sorted by row, without repeated pairs."""
    generator = np.random.default_rng(0)
    keys = np.unique(generator.integers(0, 8000 * 3000, count))
    user, item = pa.array(keys // 3000 + 1), pa.array(keys % 3000 + 1)
    if words:
        user, item = (pa.compute.binary_join_element_wise("u", each.cast(pa.string()), "") for each in (user, item))
    return pa.table({"userId": user, "movieId": item, "rating": generator.integers(1, 11, len(keys)) / 2})


def written(path, table):
    (arrow_csv.write_csv if path.suffix == ".csv" else pq.write_table)(table, path)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_reading_and_preparing_a_table_spells_no_label(tmp_path, unspelled, ending):
    values = np.random.default_rng(0).poisson(3, (20_000, 4))
    table = read_data(written(tmp_path / f"t.{ending}", pa.table(dict(zip("abcd", values.T, strict=True)))), Table)
    part = table.hold_out(0.1, 0).batch(torch.arange(0, 20_000, 2))
    assert (part.row_labels[1], len(part.row_labels)) == ("row_2", 10_000)
    assert table.storable() is table


POOLS = []
"""What arrays may lie in as long as they live."""


@contextmanager
def peak():
    """Yield a list that gets the most bytes that Arrow, NumPy and Python held together, at most."""
    pool, usual, found = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool(), []
    POOLS.append(pool)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        yield found
    finally:
        found.append(tracemalloc.get_traced_memory()[1] + pool.max_memory())
        tracemalloc.stop()
        pa.set_memory_pool(usual)


@pytest.mark.parametrize("words", [False, True])
def test_reading_a_list_takes_few_bytes_an_entry(tmp_path, words):
    path = written(tmp_path / "ratings.parquet", a_list(200_000, words))
    with peak() as most:
        data = read_data(path, Ratings, layout="list", dtype="float32")
    assert data.values.dtype == torch.float32
    assert most[0] < 80 * len(data.values)


def test_single_precision_is_read_as_it_would_be_made(tmp_path):
    path = written(tmp_path / "ratings.csv", a_list(2000))
    table = {"layout": "table", "exclude": ["userId", "movieId"]}
    for container, more in ((Ratings, {"layout": "list"}), (Triplets, {"layout": "list"}), (Table, table)):
        wide, narrow = (read_data(path, container, dtype=each, **more) for each in ("float64", "float32"))
        assert torch.equal(wide.values.float(), narrow.values)
        assert narrow.values.dtype == torch.float32
        assert wide.notes == narrow.notes
    large = written(tmp_path / "large.csv", pa.table({"a": [1.0, 1e100, 2.0], "b": [1.5, 2.5, 3.5]}))
    assert read_data(large, Table, dtype="float32").values.dtype == torch.float64, "single precision cannot hold it"


@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_holding_out_chooses_by_a_permutation_and_holds_little(holes):
    generator = np.random.default_rng(1)
    values = np.where(generator.random((20_000, 20)) < holes, np.nan, generator.normal(size=(20_000, 20)))
    data = Table.of(values)
    rows, columns = data.observed.numpy().nonzero()
    order = np.random.default_rng(3).permutation(len(rows))
    _, first = np.unique(columns[order], return_index=True)
    chosen = np.sort(np.delete(order, first)[: round(0.2 * len(order))])
    with peak() as most:
        found = data.hold_out(0.2, 3).hidden
    assert (found.rows.numpy() == rows[chosen]).all()
    assert (found.columns.numpy() == columns[chosen]).all()
    assert most[0] < 24 * len(rows)


def test_labels_are_made_storable_one_by_one_or_at_once():
    for names in (Labels(range(3), "row_"), Labels(np.array([3, 1])), Labels.of(["a", "b\x00"]), ["x", 2, "\udfff"]):
        assert list(all_storable(names)) == [storable(str(name)) for name in names]
        assert all_storable(names).dtype == object
