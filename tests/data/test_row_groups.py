"""Parquet in row groups: a folder is one table, and parts of it are read as the whole is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyrozoo.core.errors import DataError
from pyrozoo.data.contained import read_data
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers.formats import open_raw
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.row_groups import Order, RowGroups, arrange
from pyrozoo.data.table import Table
from tests.case import refused

LISTED = {"row": "user", "column": "item", "value": "stars"}


def a_list(seed=0, count=600, words=False):
    """Return a list without repeated pairs, in no order."""
    generator = np.random.default_rng(seed)
    keys = generator.permutation(np.unique(generator.integers(0, 90 * 40, count)))
    user, item = keys // 40, keys % 40 + 5
    names = [f"u{i}" for i in user] if words else user
    return pa.table({"user": names, "item": item, "stars": generator.integers(1, 6, len(keys)).astype(float)})


def folder_of(path, table, files=11, size=7):
    path.mkdir()
    for i, part in enumerate(np.array_split(np.arange(len(table)), files)):
        pq.write_table(table.take(part), path / f"part-{i}.parquet", row_group_size=size)
    (path / "_SUCCESS").write_text("")
    return path


def test_a_folder_is_one_table_in_the_order_of_its_files(tmp_path):
    table = pa.table({"a": np.arange(60.0) ** 2, "b": np.arange(60) % 7})
    whole = Table.of(table.to_pandas())
    read = read_data(folder_of(tmp_path / "counts", table), Table)
    assert read.values.equal(whole.values)
    assert read.name == "counts"


@pytest.mark.parametrize("words", [False, True])
def test_a_folder_of_a_list_is_read_as_one_file_is(tmp_path, words):
    table = a_list(words=words)
    pq.write_table(table, tmp_path / "one.parquet")
    one = read_data(tmp_path / "one.parquet", Ratings, **LISTED)
    many = read_data(folder_of(tmp_path / "many", table), Ratings, **LISTED)
    assert one.same(many)
    assert one.row_labels == many.row_labels
    assert one.column_labels == many.column_labels


def test_what_differs_between_files_is_refused_and_widths_are_not(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    pq.write_table(pa.table({"a": pa.array([1, 2], pa.int32()), "b": [1.0, 2.0]}), folder / "1.parquet")
    pq.write_table(pa.table({"b": [3.0], "a": pa.array([3], pa.int64())}), folder / "2.parquet")
    assert read_data(folder, Table).values.tolist() == [[1, 1], [2, 2], [3, 3]]
    pq.write_table(pa.table({"a": [1]}), folder / "3.parquet")
    assert "mixed/3.parquet has no column 'b', unlike mixed/1.parquet" in refused(DataError, open_raw, folder, Layout())
    pq.write_table(pa.table({"a": ["x"], "b": [1.0]}), folder / "3.parquet")
    assert "mixed/3.parquet holds other types than" in refused(DataError, open_raw, folder, Layout())
    (folder / "about.txt").write_text("words")
    assert "put them apart" in refused(DataError, open_raw, folder, Layout())


def test_a_folder_called_like_a_column_is_none_and_said_to_be_none(tmp_path):
    folder_of(tmp_path / "year=2024", pa.table({"a": [1.0, 2.0]}), files=1)
    (tmp_path / "x").mkdir()
    (tmp_path / "year=2024").rename(tmp_path / "x" / "year=2024")
    raw = open_raw(tmp_path / "x", Layout())
    assert raw.names == ["a"]
    assert raw.notes == ("folders such as year=2024 are no column: only what stands in the files is read",)


def test_groups_say_what_they_hold_before_they_are_read(tmp_path, monkeypatch):
    groups = RowGroups.open(folder_of(tmp_path / "list", a_list()))
    assert groups.rows == len(a_list())
    assert groups.schema.names == ["user", "item", "stars"]
    read = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, i, *more: read.append(i) or whole(self, i, *more)
    )
    chosen = [3, 9, 4]
    tables = list(groups.tables(chosen, ["stars", "user"]))
    assert [len(each) for each in tables] == [groups.groups[i].rows for i in chosen]
    assert [each.column_names for each in tables] == [["stars", "user"]] * 3
    assert len(read) == 3, "nothing else is read"
    assert "there is no column 'star'" in refused(DataError, lambda: next(groups.tables([0], ["star"])))


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shares_are_neighbours_and_each_group_is_in_one(tmp_path, parts):
    groups = RowGroups.open(folder_of(tmp_path / "list", a_list(), files=3, size=30))
    shares = groups.shares(parts)
    assert [i for share in shares for i in share] == list(range(len(groups.groups)))
    assert all(map(len, shares))
    assert "row_group_size=" in refused(DataError, groups.shares, 10_000)


@pytest.mark.parametrize("kind", ["numbers", "words", "floats", "categories"])
def test_one_order_of_labels_for_all_groups_is_that_of_the_whole(tmp_path, kind):
    table = a_list(words=kind in ("words", "categories"))
    if kind == "floats":
        table = table.set_column(0, "user", table["user"].cast(pa.float64()))
    if kind == "categories":
        table = table.set_column(0, "user", table["user"].dictionary_encode())
    pq.write_table(table, tmp_path / "list.parquet", row_group_size=50)
    whole = read_data(tmp_path / "list.parquet", Ratings, **LISTED)
    groups = RowGroups.open(tmp_path / "list.parquet")
    rows, columns = groups.order("user"), groups.order("item")
    assert rows.labels == whole.row_labels
    assert columns.labels == whole.column_labels
    found = [
        np.stack([rows.places(t["user"]), columns.places(t["item"]), t["stars"].to_numpy()], 1)
        for t in groups.tables()
    ]  # fmt: skip
    entries = np.concatenate(found)
    assert (entries[np.lexsort((entries[:, 1], entries[:, 0]))] == whole.values.numpy()).all()
    strange = {"words": "who", "categories": "who", "floats": 0.5}.get(kind, 10**9)
    assert rows.places(pa.chunked_array([[strange, groups.order("user").cells[0].as_py()]])).tolist()[0] == -1
    far = pa.table({"user": [1, 10**12, 10**15], "item": [1, 2, 3]})
    pq.write_table(far, tmp_path / "far.parquet")
    assert RowGroups.open(tmp_path / "far.parquet").order("user").places(
        far["user"].take(pa.array([2, 1, 0]))
    ).tolist() == [2, 1, 0]
    halves = [groups.order("user", range(5)).cells, groups.order("user", range(5, len(groups.groups))).cells]
    assert Order.of(pa.concat_arrays(halves)).labels == whole.row_labels, "orders of two readers are one"


@pytest.mark.parametrize("words", [False, True])
def test_a_row_in_several_groups_is_refused_and_arranged(tmp_path, monkeypatch, words):
    monkeypatch.setattr("pyrozoo.data.readers.row_groups.HELD", 100)
    folder = folder_of(tmp_path / "list", a_list(words=words))
    message = refused(DataError, RowGroups.open(folder).rows_order, "user")
    assert "has lines in several row groups; in Python, " in message
    assert "arrange('list', 'arranged.parquet', row='user')" in message
    groups = arrange(folder, tmp_path / "arranged.parquet", row="user", size=20)
    assert len(groups.groups) > 20
    assert groups.rows_order("user").labels == groups.order("user").labels
    read = (read_data(each, Ratings, **LISTED) for each in (folder, tmp_path / "arranged.parquet"))
    assert next(read).same(next(read))
    assert "write another file" in refused(
        DataError, arrange, tmp_path / "arranged.parquet", tmp_path / "arranged.parquet", row="user"
    )


def test_a_cell_that_names_nothing_is_told_with_its_line(tmp_path):
    pq.write_table(pa.table({"user": ["a", "b", None, "c"], "item": [1, 2, 3, 4]}), tmp_path / "l.parquet")
    assert "l.parquet: row 3 has no cell in column 'user'" in refused(
        DataError, RowGroups.open(tmp_path / "l.parquet").order, "user"
    )
