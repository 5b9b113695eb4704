"""The data room: tables, files, named data sets, simulation, hold-out."""

from __future__ import annotations

import hashlib
import http.server
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.named import locate, read_named
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.run import catalog
from pyrozoo.run.source import read
from tests.files import read_table

MODEL = ZipMixture(3, 2.0, 2.0, 2.0, 2.0, 1.0)


def write(folder, text, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_with_header_labels_and_missing(tmp_path, encoding):
    path = write(tmp_path, 'site,Möwe,owl\nnorth,1,NA\n"sou,th",,3\n', encoding=encoding)
    table = read_table(path, row_labels="site")
    assert table.column_labels == ["Möwe", "owl"]
    assert table.row_labels == ["north", "sou,th"]
    np.testing.assert_array_equal(table.values, [[1, np.nan], [np.nan, 3]])


def test_csv_without_header_and_tsv(tmp_path):
    path = write(tmp_path, "1,2\n3,4\n")
    with pytest.raises(DataError, match=r"the first line is 1, 2: set data\.header=true .* data\.header=false"):
        read_table(path)  # names as pandas and R make them, or a record: nobody can tell
    table = read_table(path, header=False)
    assert table.values.tolist() == [[1, 2], [3, 4]]
    assert table.column_labels == ["column_0", "column_1"]
    table = read_table(write(tmp_path, "7.5,2\n3,4\n"))
    assert table.values.tolist() == [[7.5, 2], [3, 4]]
    assert table.notes == ("the first line holds numbers: it is a record, and columns have no names (data.header)",)
    assert read_table(write(tmp_path, "a\tb\n1\t2\n", "t.tsv")).column_labels == ["a", "b"]
    assert read_table(write(tmp_path, "1,2\n3,4\n"), header=True).shape == (1, 2)


def test_blank_lines_and_numeric_headers(tmp_path):
    assert torch.isnan(read_table(write(tmp_path, "1\n\n3\n\n")).values.flatten()).tolist() == [False, True, False]
    assert read_table(write(tmp_path, "5,2\n\n3,4\n")).values.tolist() == [[5, 2], [3, 4]]
    table = read_table(write(tmp_path, "site,2019,2020\nx,1,2\n"), row_labels="site")
    assert (table.column_labels, table.row_labels) == (["2019", "2020"], ["x"])


def test_settings_without_meaning_for_the_file_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    with pytest.raises(DataError, match=r"data\.row_labels: there is no column 'site'"):
        read_table(tmp_path / "x.npy", row_labels="site")
    with pytest.raises(SettingError, match="key"):
        read_table(write(tmp_path, "a,b\n1,2\n"), key="x")
    with pytest.raises(DataError, match=r"data\.columns asks for column 'a' twice"):
        read_table(write(tmp_path, "a,b\n1,2\n"), columns=["a", "a"])
    np.savez(tmp_path / "none.npz")
    with pytest.raises(DataError, match="no array"):
        read_table(tmp_path / "none.npz")


@pytest.mark.parametrize("array", [np.ones((2, 2), complex), np.zeros((2, 2), "datetime64[D]")])
def test_what_is_not_a_number_is_refused(array):
    with pytest.raises(DataError, match="not numbers"):
        Table.of(array)


def test_columns_are_chosen_by_name_or_position(tmp_path):
    path = write(tmp_path, "a,b,c\n1,2,3\n4,5,6\n")
    assert read_table(path, columns=["c", "a"]).values.tolist() == [[3, 1], [6, 4]]
    assert read_table(path, columns=["2"]).values.tolist() == [[3], [6]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a,b\n", "empty"),
        ("a,b\n1,2\n3\n", "record 3 has 1 cells"),
        ("a,b\n1,2,9\n", "record 2 has 3 cells"),
        ("a,b\n1,2\n3,x\n5,6\n", r"column 'b': 'x' is not a number \(record 3\)"),
        ("a,a\n1,2\n", "appears twice"),
        ("a,b\n1,inf\n", "infinite"),
        ("a,b\n1,2\n3,1_000\n5,6\n", r"column 'b': '1_000' is not a number \(record 3\)"),
        ("a\nx\ny\n", r"no column is left \(a: it names the rows\)"),
        ('a,b\n1,"2\n', "not a readable CSV"),
    ],
)
def test_bad_csv_is_named(tmp_path, text, says):
    with pytest.raises(DataError, match=says):
        read_table(write(tmp_path, text))


def test_columns_of_text_are_left_out_with_a_note(tmp_path):
    table = read_table(write(tmp_path, "a,city,b\n1,York,2\n3,1_000,4\n"))
    assert (table.column_labels, table.values.tolist()) == (["a", "b"], [[1, 2], [3, 4]])
    assert table.notes == ("columns left out: 'city' holds text, such as 'York'",)
    with pytest.raises(DataError, match=r"column 'city' holds text, such as 'York': leave it out of data\.columns"):
        read_table(write(tmp_path, "a,city,b\n1,York,2\n3,1_000,4\n"), columns=["a", "city"])


def test_true_and_false_are_one_and_none_with_a_note(tmp_path):
    said = ("column 'on': true is 1 and false is 0",)
    frame = pd.DataFrame({"on": [True, False], "n": [3.0, 4.0]})
    frame.to_parquet(tmp_path / "t.parquet")
    for path in (write(tmp_path, "on,n\nTrue,3\nfalse,4\n"), tmp_path / "t.parquet"):
        assert (read_table(path).values.tolist(), read_table(path).notes) == ([[1, 3], [0, 4]], said)


def test_letters_of_western_europe_are_read_with_a_note(tmp_path):
    table = read_table(write(tmp_path, "a,ü\n1,2\n", encoding="latin-1"))
    assert (table.column_labels, table.values.tolist()) == (["a", "ü"], [[1, 2]])
    assert table.notes == ("encoding cp1252, as its letters suggest: 'ü' (data.encoding)",)
    with pytest.raises(DataError, match=r"is not text in utf-8 .* set data\.encoding"):
        read_table(write(tmp_path, "a,ü\n1,2\n", encoding="latin-1"), encoding="utf-8")


def test_bad_files_are_named(tmp_path):
    with pytest.raises(DataError, match="no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="no column 'z'"):
        read_table(write(tmp_path, "a,b\n1,2\n"), columns=["z"])
    truncated = tmp_path / "cut.npz"
    np.savez(truncated, x=np.ones((50, 50)))
    truncated.write_bytes(truncated.read_bytes()[:300])
    with pytest.raises(DataError, match="not a readable NumPy"):
        read_table(truncated)
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="holds Python objects"):
        read_table(tmp_path / "objects.npy")


def test_numpy_files(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    assert read_table(tmp_path / "x.npy").values.tolist() == [[0, 1, 2], [3, 4, 5]]
    np.savez(tmp_path / "two.npz", x=np.ones((2, 2)), y=np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"data\.key"):
        read_table(tmp_path / "two.npz")
    assert read_table(tmp_path / "two.npz", key="y").shape == (3, 3)
    with pytest.raises(DataError, match="no array 'z'"):
        read_table(tmp_path / "two.npz", key="z")


def test_tables_from_python():
    frame = pd.DataFrame({"a": [1, 2], "b": pd.array([3, None], dtype="Int64")}, index=["x", "y"])
    table = Table.of(frame)
    assert (list(table.row_labels), list(table.column_labels)) == (["x", "y"], ["a", "b"])
    assert torch.isnan(table.values[1, 1])
    assert Table.of(torch.ones(2, 3)).shape == (2, 3)
    assert Table.of(np.ma.masked_equal([[1, 2], [3, 4]], 2)).observed.tolist() == [[True, False], [True, True]]


@settings(max_examples=50)
@given(st.integers(1, 30), st.integers(1, 6), st.floats(0, 0.99), st.integers(0, 5))
def test_hold_out_hides_and_keeps(rows, columns, fraction, seed):
    values = torch.arange(1.0, rows * columns + 1).reshape(rows, columns).double()
    table = Table(values, range(rows), range(columns))
    out = table.hold_out(fraction, seed)
    assert out.observed.any(0).all(), "every column keeps a value"
    if fraction:
        hidden = out.hidden
        count = min(round(fraction * rows * columns), (rows - 1) * columns)
        if count == 0:
            assert hidden is None
            return
        assert len(hidden.values) == count
        assert torch.isnan(out.values[hidden.rows, hidden.columns]).all()
        assert torch.equal(values[hidden.rows, hidden.columns], hidden.values)
        assert torch.equal(out.hidden.values, table.hold_out(fraction, seed).hidden.values)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_hold_out_range(fraction):
    with pytest.raises(SettingError, match="holdout"):
        Table.of(np.ones((2, 2))).hold_out(fraction, 0)


def test_hold_out_adds_to_what_is_hidden():
    table = Table.of(np.arange(200.0).reshape(40, 5))
    first = table.hold_out(0.2, 0)
    second = first.hold_out(0.25, 0)
    cells = second.hidden.rows * 5 + second.hidden.columns
    assert torch.equal(second.hidden.values, cells.double())
    assert torch.equal(cells, cells.unique())
    assert len(cells) == 40 + 40
    assert set((first.hidden.rows * 5 + first.hidden.columns).tolist()) < set(cells.tolist())
    assert second.missing is None


def test_new_rows_from_python_go_with_a_file(tmp_path):
    path = write(tmp_path, "a,b\n1,2\n3,4\n")
    data = read(catalog.settings("data", "table") | {"path": str(path)}, MODEL, test=np.array([[5.0, 6.0]]))
    assert data.test.values.tolist() == [[5, 6]]


def test_batches_remember_the_whole():
    table = Table.of(np.arange(12).reshape(6, 2))
    part = table.batch(torch.tensor([1, 4])).batch(torch.tensor([1]))
    assert (part.total_rows, part.rows.tolist(), part.row_labels) == (6, [4], ["row_4"])


def test_simulation_keeps_the_truth_and_has_the_programs_mean():
    data = simulate_data(MODEL, rows=20_000, columns=4, missing=0.1, seed=2)
    assert set(data.truth) == {"weights", "on_prob", "rate", "assignment"}
    mean = (data.truth["weights"][:, None] * data.truth["on_prob"] * data.truth["rate"]).sum(0)
    counted = data.filled.sum(0) / data.observed.sum(0)
    torch.testing.assert_close(counted, mean, rtol=0.05, atol=0.02)
    assert 1 - data.observed.double().mean() == pytest.approx(0.1, abs=0.001)
    again = simulate_data(MODEL, rows=20_000, columns=4, missing=0.1, seed=2)
    assert torch.equal(again.filled, data.filled)


def entry(content: bytes, url: str | None = None, **changes):
    return {"file": "zoo_test.bin", "sha256": hashlib.sha256(content).hexdigest(), "url": url,
            "source_page": "a page", "terms": "free", **changes}  # fmt: skip


def test_named_data_is_found_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROZOO_DATA", str(tmp_path))
    (tmp_path / "zoo_test.bin").write_bytes(b"abc")
    assert locate(entry(b"abc")) == tmp_path / "zoo_test.bin"
    with pytest.raises(DataError, match="SHA-256"):
        locate(entry(b"other"))


def test_another_file_may_serve_when_its_checksum_is_stated(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROZOO_DATA", str(tmp_path))
    served = entry(b"abc", alternatives={"part.bin": hashlib.sha256(b"a").hexdigest()})
    with pytest.raises(DataError, match="PYROZOO_DATA"):
        locate(served)
    (tmp_path / "part.bin").write_bytes(b"a")
    assert locate(served) == tmp_path / "part.bin"
    (tmp_path / "zoo_test.bin").write_bytes(b"abc")
    assert locate(served) == tmp_path / "zoo_test.bin", "the file itself comes first"
    (tmp_path / "zoo_test.bin").unlink()
    (tmp_path / "part.bin").write_bytes(b"b")
    with pytest.raises(DataError, match=r"part\.bin in PYROZOO_DATA has SHA-256"):
        locate(served)


def test_named_data_without_an_address_says_where_to_get_it(monkeypatch):
    monkeypatch.delenv("PYROZOO_DATA", raising=False)
    with pytest.raises(DataError, match=r"a page.*PYROZOO_DATA"):
        locate(entry(b"abc"))


def test_named_data_is_downloaded_and_its_checksum_kept(tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    (served / "zoo_test.bin").write_bytes(b"from the net")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            pass

    monkeypatch.delenv("PYROZOO_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/zoo_test.bin"
        assert locate(entry(b"from the net", url)).read_bytes() == b"from the net"
        with pytest.raises(DataError, match="could not be downloaded"):
            locate(entry(b"something else", url, file="zoo_other.bin"))
        with pytest.raises(DataError, match="could not be downloaded"):
            locate(entry(b"x", url + ".absent", file="zoo_absent.bin"))
        server.shutdown()
    assert not list((tmp_path / "cache").glob("zoo_other*")), "a file with the wrong checksum is not kept"


def test_course_data(need):
    need("zip_mixture_course")
    table = read_named(catalog.settings("data", "zip_mixture_course"))
    assert table.shape == (1000, 10)
    assert table.observed.all()
    assert table.test.shape == (250, 10)
    assert len(table.test.hidden.values) == 750
    assert not table.test.observed[:, :3].any()
    assert table.test.observed[:, 3:].all()


def test_rows_of_a_part_of_a_frame_keep_their_numbers_unless_a_column_names_them():
    frame = pd.DataFrame({"id": [101, 102, 103, 104], "a": [1.5, 2, 3, 4], "b": [2, 2, 1, 2]})
    for part, kept in ((frame.tail(2), [2, 3]), (frame[frame["b"] == 2], [0, 1, 3]), (frame, [0, 1, 2, 3])):
        table = read_table(part)
        assert (table.column_labels, table.row_labels) == (["a", "b"], [str(101 + i) for i in kept])
        assert read_table(part[["a", "b"]]).row_labels == [str(i) for i in kept]
        assert read_table(part.drop(columns="id").rename_axis("site")).row_labels == [str(i) for i in kept]
