"""Every format: what a library writes is read back, or refused in one line with what to do."""

from __future__ import annotations

import bz2
import datetime
import gzip
import lzma
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat
import pytest
import scipy.io
import scipy.sparse
import xarray as xr
from PIL import Image

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.contained import read_data
from pyrozoo.data.readers.columnar import read_parquet
from pyrozoo.data.readers.formats import open_raw
from pyrozoo.data.readers.frames import frame_raw
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.texts import words
from pyrozoo.data.survey import Survey
from tests.case import refused
from tests.files import ods, xlsx

PLAIN = Layout()
DAY = datetime.date(2024, 3, 1)


def read(path: Path, **said):
    return open_raw(path, Layout(**said))


def said(path: Path, error: type[Exception] = DataError, **settings) -> str:
    return refused(error, open_raw, path, Layout(**settings))


def cells(raw, name: str) -> list:
    return raw.columns[list(raw.names).index(name)].to_pylist()


def frame() -> pd.DataFrame:
    """A table with holes and every type of cell."""
    return pd.DataFrame(
        {
            "count": pd.array([3, None, 5, 1], dtype="Int64"),
            "share": [0.25, np.nan, 1e300, -2.0],
            "town": ["Å", None, "b,c", "d"],
            "open": pd.array([True, None, False, True], dtype="boolean"),
            "day": [DAY, None, DAY, DAY],
            "size": pd.Categorical(["L", "S", None, "L"], categories=["S", "M", "L"], ordered=True),
        }
    )


def same(raw, labels: list[str] | None = None) -> None:
    """Hold what is read of ``frame()`` to it."""
    expected = frame()
    assert list(raw.names) == list(expected.columns)
    assert cells(raw, "count") == [3, None, 5, 1]
    assert cells(raw, "share") == [0.25, None, 1e300, -2.0]
    assert cells(raw, "town") == ["Å", None, "b,c", "d"]
    assert cells(raw, "open") == [True, None, False, True]
    assert [None if day is None else str(day)[:10] for day in cells(raw, "day")] == [str(DAY), None, str(DAY), str(DAY)]
    assert cells(raw, "size") == ["L", "S", None, "L"]
    assert (None if raw.labels is None else list(raw.labels)) == labels


def levels(raw, name: str) -> list:
    column = raw.columns[list(raw.names).index(name)]
    return column.unify_dictionaries().chunk(0).dictionary.to_pylist()


# Columns --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_columnar_files_keep_types_levels_holes_and_labels(tmp_path, ending):
    path = tmp_path / f"shops{ending}"
    write = {".parquet": lambda f: f.to_parquet(path), ".feather": lambda f: f.to_feather(path)}[ending]
    write(frame())
    raw = read(path)
    same(raw)
    assert levels(raw, "size") == ["S", "M", "L"]
    assert (raw.unit, raw.first, raw.notes) == ("row", 1, ())
    if ending == ".parquet":
        write(frame().set_axis(["n", "e", "s", "w"]))
        same(read(path), ["n", "e", "s", "w"])
        write(frame().set_axis(pd.Index([4, 7, 8, 9], name="shop")))
        same(read(path), ["4", "7", "8", "9"])
        write(frame().set_axis(pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1), ("b", 2)], names=["x", "y"])))
        raw = read(path)
        same(raw, ["a / 1", "a / 2", "b / 1", "b / 2"])
        assert raw.notes == ("rows are named by the 2 levels of the index (x, y), joined by ' / '",)


def test_parquet_reads_the_columns_that_are_needed(tmp_path):
    path = tmp_path / "year=2024" / "list.parquet"
    path.parent.mkdir()
    pd.DataFrame({"user": [1, 2], "item": [3, 4], "stars": [5.0, 1.0], "text": ["a", "b"]}).to_parquet(path)
    assert read_parquet(path, ["stars", "user"]).names == ["stars", "user"]
    assert read(path).names == ["user", "item", "stars", "text"]
    assert read(path, row="user", column="item", value="stars").names == ["user", "item", "stars"]
    assert read(path, row="user", column="item", value="star").names == ["user", "item", "stars", "text"]


def test_types_that_no_model_reads_are_problems_unless_they_are_left_out(tmp_path):
    path = tmp_path / "odd.parquet"
    table = pa.table(
        {"x": [1, 2], "tags": [["a"], ["b"]], "raw": [b"a", b"b"], "took": pa.array([1, 2], pa.duration("s"))}
    )
    pq.write_table(table, path)
    raw = read(path)
    assert [problem.split(",")[0] for problem in raw.problems] == [
        "column 'tags' holds lists or other objects",
        "column 'raw' holds bytes",
        "column 'took' holds durations",
    ]
    assert "data.exclude=[tags] leaves it out" in raw.problems[0]
    assert read(path, exclude=["tags", 2, "took"]).problems == ()
    assert read(path, columns=["x"]).problems == ()
    money = pa.table({"price": pa.array([1, 2], pa.decimal128(5, 2))})
    pq.write_table(money, path)
    assert read(path).columns[0].type == pa.float64()


# Workbooks ------------------------------------------------------------------------------------------------------------


def book(path: Path, **sheets: list[list]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, rows in sheets.items():
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def test_workbooks_keep_types_and_holes(tmp_path):
    path = tmp_path / "shops.xlsx"
    frame().to_excel(path, index=False)
    raw = read(path)
    assert raw.names is None
    assert list(raw.head) == list(frame().columns)
    assert [column.to_pylist() for column in raw.columns] == [
        [3, None, 5, 1], [0.25, None, 1e300, -2], ["Å", None, "b,c", "d"], [True, None, False, True],
        [DAY, None, DAY, DAY], ["L", "S", None, "L"],
    ]  # fmt: skip
    assert (raw.unit, raw.first, raw.facts, raw.notes) == ("row", 2, {"sheet": "Sheet1"}, ())


def test_a_table_anywhere_in_a_sheet_is_found(tmp_path):
    rows = [
        [],
        [None, "Sales of 2024"],
        [],
        [None, "shop", "a", None, 2024],
        [None, "x", 1, None, 2],
        [None, "y", "#N/A", None, "-"],
    ]
    raw = read(book(tmp_path / "b.xlsx", Sales=[*rows, [], [None, "z", 3, None, True], []]))
    assert list(raw.head) == ["shop", "a", 2024]
    assert [column.to_pylist() for column in raw.columns] == [
        ["x", "y", None, "z"], [1, None, None, 3], ["2", "-", None, "True"],
    ]  # fmt: skip
    assert raw.first == 5
    assert raw.notes == (
        "above the table, left out: row 2 ('Sales of 2024')",
        "the table begins in column B of sheet 'Sales'",
        "empty columns of sheet 'Sales' are left out: D",
        "empty rows of sheet 'Sales' are rows of missing cells: 7",
    )


def test_sheets_are_chosen_by_name_or_place(tmp_path):
    path = book(tmp_path / "b.xlsx", Sales=[["a"], [1]], Empty=[], Costs=[["b"], [2]])
    assert said(path) == "b.xlsx has several sheets; set data.key to one of 'Sales', 'Costs'"
    assert read(path, key="Costs").head == ("b",)
    assert read(path, key=0).head == ("a",)
    assert (
        said(path, key="cost")
        == "b.xlsx has no sheet 'cost' (data.key); did you mean 'Costs'? choices: Costs, Empty, Sales"
    )
    assert said(path, key="Empty") == "b.xlsx: sheet 'Empty' is empty"
    assert said(book(tmp_path / "e.xlsx", Empty=[])) == "e.xlsx: the workbook is empty"
    made = openpyxl.load_workbook(path)
    made["Costs"].sheet_state = "hidden"
    made.save(path)
    raw = read(path)
    assert raw.head == ("a",)
    assert raw.notes == ("hidden sheet 'Costs' is left out (data.key=Costs)",)


def test_formulas_and_errors_of_a_sheet_are_not_lost(tmp_path):
    path = book(tmp_path / "b.xlsx", S=[["a", "b"], [1, "=A2*2"], [2, "#DIV/0!"], [3, 4]])
    made = openpyxl.load_workbook(path)
    made["S"].merge_cells("A3:A4")
    made.save(path)
    raw = read(path)
    assert raw.columns[1].to_pylist() == ["=A2*2", "#DIV/0!", "4"]
    assert raw.columns[0].to_pylist() == [1, 2, None]
    assert "formulas have no stored value (B2) and are read as text" in raw.notes[0]
    assert raw.notes[1] == "sheet 'S' has merged cells: of each, only the first holds the value"


def test_a_formula_that_stored_an_empty_text_is_missing(tmp_path):
    path = book(tmp_path / "b.xlsx", S=[["a", "b"], [1, "=IF(A2>1,1,x)"], [2, 3]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    assert b'<c r="B2"><f>IF(A2&gt;1,1,x)</f><v /></c>' in sheet
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b'<c r="B2">', b'<c r="B2" t="str">')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    raw = read(path)
    assert raw.columns[1].to_pylist() == [None, 3]
    assert raw.notes == ()


def cell(kind: str, value: str = "", text: str = "", **more: int) -> str:
    """Return a cell of an OpenDocument workbook, perhaps repeated or spanned."""
    said = " ".join(f"table:number-columns-{name}='{count}'" for name, count in more.items())
    name = f"{kind}-value" if kind in ("date", "time", "boolean") else "value"
    return f"<table:table-cell {said} office:value-type='{kind}' office:{name}='{value}'>{text}</table:table-cell>"


def row(*found: str, repeated: int = 1) -> str:
    return f"<table:table-row table:number-rows-repeated='{repeated}'>{''.join(found)}</table:table-row>"


def test_open_document_workbooks_keep_types_and_holes(tmp_path):
    """Values are the stored ones, whatever is shown; a row or a cell may be written once and meant often."""
    blank = "<table:table-cell table:number-columns-repeated='2'/>"
    words = [f"<text:p>{name}</text:p>" for name in ("count", "share", "day", "at", "open", "town", "span")]
    note = "<office:annotation><text:p>not of the table</text:p></office:annotation>"
    town = f"{note}<text:p>a<text:s text:c='2'/><text:span>b</text:span>c</text:p><text:p>d</text:p>"
    dates = cell("date", "2024-03-01", "<text:p>1. März</text:p>"), cell("time", "PT12H30M01S")
    first = [
        cell("float", "3", "<text:p>3,00</text:p>"),
        cell("percentage", "0.5"),
        *dates,
        cell("boolean", "true", "WAHR"),
    ]
    last = [
        cell("float", "4"),
        cell("float", "0.25"),
        blank,
        cell("boolean", "false"),
        cell("string", text="<text:p>#N/A</text:p>"),
    ]
    path = tmp_path / "x.ods"
    path.write_bytes(ods(
        Empty=row(blank, repeated=1_000_000),
        Shops=row(repeated=2) + row(*(cell("string", text=each) for each in words))
        + row(*first, cell("string", text=town), cell("float", "1", repeated=2, spanned=2), repeated=2)
        + row(*last) + row(blank, repeated=1_000_000),
    ))  # fmt: skip
    raw = read(path)
    assert raw.head == ("count", "share", "day", "at", "open", "town", "span", None)
    at = datetime.time(12, 30, 1)
    assert [column.to_pylist() for column in raw.columns] == [
        [3, 3, 4], [0.5, 0.5, 0.25], [DAY, DAY, None], [at, at, None], [True, True, False], ["a  bc\nd"] * 2 + [None],
        [1, 1, None], [1, 1, None],
    ]  # fmt: skip
    assert (raw.format, raw.first, raw.facts) == ("OpenDocument", 4, {"sheet": "Shops"})
    assert raw.notes == (
        "sheet 'Shops' has merged cells: of each, only the first holds the value",
        "the table begins in row 3 of sheet 'Shops'",
    )
    assert said(path, key="Empty") == "x.ods: sheet 'Empty' is empty"
    odd = [cell("date", "-0044-03-15", "<text:p>Ides</text:p>"), cell("time", "PT30H00M00S", "<text:p>30:00</text:p>")]
    path.write_bytes(ods(S=row(cell("string", text=words[0]), cell("string", text=words[1])) + row(*odd)))
    assert [column.to_pylist() for column in read(path).columns] == [["Ides"], ["30:00"]], "as they are shown"


def test_cells_of_a_sheet_stand_where_they_are_written(tmp_path):
    """Rows and cells in no order, without places, or far away without a value; a formula stands in its row."""
    head = '<row r="1"><c r="B1" t="str"><v>b</v></c><c r="A1" t="str"><v>a</v></c></row>'
    rows = (
        '<row><c><v>1</v></c><c r="B99999999"><f>A2*2</f></c></row><row r="3"/><row r="4"><c r="B4"><v>2</v></c></row>'
    )
    far = '<row r="99999999"><c r="A1"/><c r="ZZZ99999999" s="0"/></row>'
    path = tmp_path / "x.xlsx"
    path.write_bytes(xlsx(head + rows + far))
    raw = read(path)
    assert raw.head == ("a", "b")
    assert [column.to_pylist() for column in raw.columns] == [[1, None, None], ["=A2*2", None, "2"]]
    assert "formulas have no stored value (B2)" in raw.notes[0]


# Statistics programs --------------------------------------------------------------------------------------------------


def survey(path: Path, write) -> None:
    table = pd.DataFrame({"Q1": [1.0, 2.0, 9.0, np.nan], "Q2": [1.0, 4.0, 5.0, 2.0], "NAME": ["å", "b", "", "dd"]})
    table["DAY"] = [DAY] * 4
    labels = {"Q1": {2: "yes", 1: "no", 3: "often", 9: "refused"}, "Q2": {1: "never", 5: "always"}}
    write(table, path, labels)


WRITERS = {
    ".sav": lambda table, path, labels: pyreadstat.write_sav(
        table, path, variable_value_labels=labels, missing_ranges={"Q1": [9]}, column_labels=["Smokes?", "", "", ""]
    ),
    ".zsav": lambda table, path, labels: pyreadstat.write_sav(
        table, path, variable_value_labels=labels, missing_ranges={"Q1": [{"lo": 8, "hi": 9}]}, compress=True
    ),
    ".dta": lambda table, path, labels: pyreadstat.write_dta(
        table.astype({"Q1": object}).assign(Q1=[1, 2, "a", "b"], Q2=[1, 4, 5, 2]), path,
        variable_value_labels={"Q1": {2: "yes", 1: "no", 3: "often", "a": "refused"}, "Q2": labels["Q2"]},
        missing_user_values={"Q1": ["a", "b"]},
    ),
    ".por": lambda table, path, labels: pyreadstat.write_por(table.replace("å", "a"), path),
    ".xpt": lambda table, path, labels: pyreadstat.write_xport(table, path),
}  # fmt: skip


@pytest.mark.parametrize("ending", [".sav", ".zsav", ".dta"])
def test_files_of_statistics_programs_keep_labels_and_missing_values(tmp_path, ending):
    path = tmp_path / f"survey{ending}"
    survey(path, WRITERS[ending])
    raw = read(path)
    assert raw.names == ["Q1", "Q2", "NAME", "DAY"]
    assert cells(raw, "Q1") == ["no", "yes", None, None]
    assert levels(raw, "Q1") == ["no", "yes", "often"]
    assert raw.codes[0].to_pylist() == [1, 2, None, None]
    assert cells(raw, "Q2") == [1, 4, 5, 2]
    assert cells(raw, "NAME")[0] == "å"
    assert cells(raw, "DAY") == [DAY] * 4
    assert "read as numbers, since not each value has a label of its own: Q2" in raw.notes
    if ending == ".sav":
        assert "missing, as the file says: Q1 (9)" in raw.notes
        assert raw.facts["labels of variables"] == "Q1: Smokes?"
    if ending == ".zsav":
        assert "missing, as the file says: Q1 (8 to 9)" in raw.notes
    assert (raw.unit, raw.first) == ("row", 1)


@pytest.mark.parametrize("ending", [".por", ".xpt"])
def test_older_files_of_statistics_programs_are_read(tmp_path, ending):
    path = tmp_path / f"survey{ending}"
    survey(path, WRITERS[ending])
    raw = read(path)
    assert cells(raw, "Q2") in ([1, 4, 5, 2], [1.0, 4.0, 5.0, 2.0])
    assert cells(raw, "NAME")[1] == "b"


def test_old_stata_files_are_recognised_by_their_first_bytes(tmp_path):
    path = tmp_path / "old.data"
    pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}).to_stata(path, write_index=False, version=114)
    raw = read(path)
    assert raw.format == "Stata"
    assert cells(raw, "x") == [1, 2]


def test_one_label_of_two_values_is_no_category(tmp_path):
    path = tmp_path / "x.sav"
    table = pd.DataFrame({"q": [1.0, 2.0]})
    pyreadstat.write_sav(table, path, variable_value_labels={"q": {1: "yes", 2: "yes"}})
    assert cells(read(path), "q") == [1, 2]


# Arrays ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["uint8", "int64", ">i4", "float16", "float32", ">f8", "longdouble", "bool", "U3", "S3", "datetime64[M]"]
)
def test_arrays_of_any_type_are_read(tmp_path, kind):
    array = np.array([[1, 0, 1], [0, 1, 1]]).astype(kind)
    np.save(tmp_path / "a.npy", array)
    raw = read(tmp_path / "a.npy")
    expected = array.astype(str) if kind[0] in "US" else array.astype("datetime64[D]") if kind[0] == "d" else array
    assert [column.to_pylist() for column in raw.columns] == expected.T.tolist()
    assert (raw.names, raw.headless, raw.length) == (None, True, 2)


def test_holes_and_names_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.5, np.nan], [np.inf, 2]]))
    assert [column.to_pylist() for column in read(tmp_path / "a.npy").columns] == [[1.5, np.inf], [None, 2.0]]
    masked = np.ma.masked_equal(np.array([[1, 2], [3, 1]]), 1)
    assert [column.to_pylist() for column in frame_raw(masked, "x", PLAIN).columns] == [[None, 3], [2, None]]
    np.save(tmp_path / "s.npy", np.array([(1, "a"), (2, "b")], dtype=[("x", "i4"), ("y", "U1")]))
    raw = read(tmp_path / "s.npy")
    assert raw.names == ["x", "y"]
    assert cells(raw, "y") == ["a", "b"]


def test_archives_of_arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.eye(2), y=np.ones((3, 2)))
    assert said(path) == "a.npz holds several arrays; set data.key to one of x, y"
    assert read(path, key="y").length == 3
    assert said(path, key="z") == "a.npz holds no array 'z'; it has x, y"
    np.savez_compressed(path, x=np.eye(2))
    assert read(path).length == 2
    assert said(path, SettingError, delimiter=";", encoding="utf-8") == (
        "data.delimiter and data.encoding have no meaning for a .npz file"
    )


@pytest.mark.parametrize("made", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array])
def test_sparse_matrices_are_lists(tmp_path, made):
    matrix = made(np.array([[0, 2.5, 0], [1, 0, 0]]))
    scipy.sparse.save_npz(tmp_path / "m.npz", matrix)
    scipy.io.mmwrite(tmp_path / "m.mtx", matrix)
    with gzip.open(tmp_path / "n.mtx.gz", "wb") as file:
        scipy.io.mmwrite(file, matrix)
    for raw in (
        read(tmp_path / "m.npz"),
        read(tmp_path / "m.mtx"),
        read(tmp_path / "n.mtx.gz"),
        frame_raw(matrix, "m", PLAIN),
    ):
        listed = set(zip(*(column.to_pylist() for column in raw.columns), strict=True))
        assert listed == {(0, 1, 2.5), (1, 0, 1.0)}
        assert (raw.names, raw.shape, raw.facts["layout"]) == (("row", "column", "value"), (2, 3), "list")


def test_entries_of_a_matrix_that_are_listed_twice_are_summed(tmp_path):
    (tmp_path / "m.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n2 2 3\n1 1 2\n1 1 3\n2 2 1\n")
    assert [column.to_pylist() for column in read(tmp_path / "m.mtx").columns] == [[0, 1], [0, 1], [5, 1]]
    scipy.io.mmwrite(tmp_path / "full.mtx", np.array([[1.0, 2.0], [3.0, 4.0]]))
    raw = read(tmp_path / "full.mtx")
    assert [column.to_pylist() for column in raw.columns] == [[1, 3], [2, 4]]
    assert raw.headless


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("2 2 2\n1 1 1,5\n2 2 1\n", "m.mtx: line 3 is '1 1 1,5'; 3 numbers are expected there"),
        ("2 2 2\n1 1 1\n2 2\n", "m.mtx: line 4 is '2 2'; 3 numbers are expected there"),
        ("2 2 2\n1 1 1\n2 2 1 4\n", "m.mtx: line 4 is '2 2 1 4'; 3 numbers are expected there"),
        ("2 2 2\n1 1 1\n3 2 1\n", "m.mtx is not a readable MatrixMarket file (Line 4: Row index out of bounds)"),
        ("2 2 3\n1 1 1\n2 2 1\n", "m.mtx is not a readable MatrixMarket file (Truncated file."),
    ],
)
def test_malformed_lines_of_a_matrix_are_named(tmp_path, lines, message):
    (tmp_path / "m.mtx").write_text("%%MatrixMarket matrix coordinate real general\n" + lines)
    assert message in said(tmp_path / "m.mtx")
    good = "%%MatrixMarket matrix coordinate real general\n% c\n\n 2 2  2\r\n1  1 -1.5e+3 \n\n 2 2 .5"
    (tmp_path / "m.mtx").write_text(good)
    assert [column.to_pylist() for column in read(tmp_path / "m.mtx").columns] == [[0, 1], [0, 1], [-1500, 0.5]]


def test_headers_that_state_more_than_a_file_holds_take_no_memory(tmp_path):
    path = tmp_path / "x.dta"
    pd.DataFrame({"a": [1, 2]}).to_stata(path, write_index=False, version=114)
    content = bytearray(path.read_bytes())
    content[6:10] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    assert said(path) == f"x.dta is not a readable Stata file: it states {1 << 30} rows, more than it can hold"


def test_idx_files_have_a_column_per_pixel(tmp_path):
    content = b"\0\0\x08\x03" + np.array([2, 2, 3], ">u4").tobytes() + bytes(range(12))
    (tmp_path / "images-idx3-ubyte").write_bytes(content)
    (tmp_path / "images.gz").write_bytes(gzip.compress(content))
    for name in ("images-idx3-ubyte", "images.gz"):
        raw = read(tmp_path / name)
        assert [column.to_pylist() for column in raw.columns] == [[i, i + 6] for i in range(6)]
        assert "2 x 3 values for each row: 6 columns" in raw.notes[0]


# Texts ----------------------------------------------------------------------------------------------------------------


def counts(raw) -> dict:
    row, column, value = (each.to_pylist() for each in raw.columns)
    return {(r, c): v for r, c, v in zip(row, column, value, strict=True)}


def test_a_folder_of_texts_is_a_list_of_counts(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_bytes("\ufeffDon\u2019t stop, don't! Été 42 e_f".encode())
    (tmp_path / "sub" / "b.TXT").write_bytes("Été à Paris, où stop".encode("cp1252"))
    (tmp_path / "c.txt").write_text("12 34")
    (tmp_path / "notes.md").write_text("other")
    (tmp_path / ".hidden.txt").write_text("hidden")
    raw = read(tmp_path)
    assert counts(raw) == {
        ("a", "don't"): 2, ("a", "stop"): 1, ("a", "été"): 1, ("a", "e"): 1, ("a", "f"): 1,
        ("sub/b", "été"): 1, ("sub/b", "à"): 1, ("sub/b", "paris"): 1, ("sub/b", "où"): 1, ("sub/b", "stop"): 1,
    }  # fmt: skip
    assert raw.shape == (2, 8)
    assert raw.facts["layout"] == "list"
    assert raw.notes == (
        "of the folder only .txt files are read; 1 others are left out",
        "encodings of the texts: utf-8 (2), cp1252 (1) (data.encoding)",
        "texts without a counted word are left out: c",
    )


def test_words_of_one_text_of_many_are_left_out(tmp_path):
    for i in range(21):
        (tmp_path / f"{i:02d}.txt").write_text(f"common {'rare' * (i == 3)} {'pair' * (i < 2)}")
    raw = read(tmp_path)
    assert {word for _, word in counts(raw)} == {"common", "pair"}
    assert raw.notes == ("1 words that occur in one of the 21 texts only are left out",)


def test_words_are_letters_of_any_script():
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words("Cafe\u0301 rock'n'roll 'quoted' Ωmega") == ["café", "rock'n'roll", "quoted", "ωmega"]


def test_folders_without_texts_are_refused(tmp_path):
    assert said(tmp_path) == f"{tmp_path.name} is a folder without a .txt or Parquet file; it is empty"
    (tmp_path / "x.csv").write_text("a\n1\n")
    assert "it has files: 1 of .csv; set data.path to one of them" in said(tmp_path)
    (tmp_path / "x.txt").write_text("1")
    assert said(tmp_path) == f"{tmp_path.name}: its 1 .txt files hold no word that is counted"
    (tmp_path / "x.txt").write_bytes(b"a\0\1\2b")
    assert f"{tmp_path.name}/x.txt is not text" in said(tmp_path)
    assert said(tmp_path, SettingError, header=True) == "data.header has no meaning for a folder of texts"


# Packed and disguised -------------------------------------------------------------------------------------------------

CSV = b"a;b\n1;2\n3;4\n"


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


@pytest.mark.parametrize("codec", ["gz", "bz2", "xz", "zst", "zip"])
def test_compressed_files_are_read(tmp_path, codec):
    packed = {
        "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
        "zst": lambda content: pa.compress(content, "zstd", asbytes=True),
    }  # fmt: skip
    pd.DataFrame({"a": [1, 3], "b": [2, 4]}).to_stata(tmp_path / "x.dta", write_index=False)
    for name, content in (("x.csv", CSV), ("x.dta", (tmp_path / "x.dta").read_bytes())):
        path = tmp_path / f"{name}.{codec}"
        if codec == "zip":
            zipped(path, **{name.replace(".", "__"): content})
        else:
            path.write_bytes(packed[codec](content))
        raw = read(path)
        assert raw.name == path.name
        assert [column.to_pylist() for column in raw.columns] in ([["1", "3"], ["2", "4"]], [[1, 3], [2, 4]])
        assert list(raw.names or raw.head) == ["a", "b"]


def test_zip_archives_of_several_files(tmp_path):
    path = zipped(tmp_path / "a.zip", x__csv=CSV, y__csv=CSV)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._x.csv", b"\0")
    assert said(path) == "a.zip holds several files; set data.key to one of x.csv, y.csv"
    assert read(path, key="y.csv").head == ("a", "b")
    assert said(path, key="z.csv") == "a.zip holds no file 'z.csv' (data.key); it has x.csv, y.csv"
    assert said(zipped(tmp_path / "e.zip")) == "e.zip is empty: the archive holds no file"
    path = zipped(tmp_path / "n.zip", x__gz=gzip.compress(CSV))
    assert said(path) == "n.zip holds a compressed file or an archive: unpack it first"


def test_content_counts_more_than_the_ending(tmp_path):
    book(tmp_path / "real.xlsx", S=[["a"], [1]])
    (tmp_path / "x.csv").write_bytes((tmp_path / "real.xlsx").read_bytes())
    raw = read(tmp_path / "x.csv")
    assert raw.format == "Excel"
    assert raw.notes == ("x.csv is a .xlsx file in spite of its ending, and is read as one",)
    (tmp_path / "x.xlsx").write_bytes(CSV)
    raw = read(tmp_path / "x.xlsx")
    assert raw.head == ("a", "b")
    assert raw.notes[0] == "x.xlsx holds plain text in spite of its ending .xlsx, and is read as text"


OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.xls", OFFICE, "open it in a spreadsheet program and save it as .xlsx"),
        ("x.xlsx", OFFICE, "is protected by a password"),
        ("x.json", b'{"a": [1]}', "is JSON, which is not read: save it as CSV"),
        ("x.txt", b'[{"a": 1}]', "is JSON, which is not read: save it as CSV"),
        ("x.pkl", b"\x80\x04\x95abc", "is a pickle, which is never opened"),
        ("x.rds", gzip.compress(b"X\n\0\0\0\3abc", mtime=0), "is R data (.rds), which is not read: in R, save"),
        ("x.RData", gzip.compress(b"RDX3\nX\nabc", mtime=0), "is R data, which is not read: in R"),
        ("x.pdf", b"%PDF-1.7\n", "is a PDF document, which is not read: save the table as .xlsx or CSV"),
        ("x.xls", b"<html><table><tr><td>1</td></tr></table></html>", "is a web page (HTML), which is not read"),
        ("x.h5", b"\x89HDF\r\n\x1a\n\0\0", "is an HDF5 file, which is not read"),
        ("x.mat", b"MATLAB 5.0 MAT-file\0", "is a MATLAB file, which is not read"),
        ("x.tar.gz", gzip.compress(b"a" * 257 + b"ustar" + b"\0" * 99, mtime=0), "is a tar archive"),
        ("x.7z", b"7z\xbc\xaf'\x1c\0", "is a 7z archive, which is not read: unpack it first"),
        ("x.dat", b"\1\2\3\4\0\0\7", "x.dat is of no format that is read"),
        ("x.sav", b"\1\2\3\4\0\0\7", "x.sav is not a readable SPSS file: its first bytes are of another format"),
        ("x.csv", b"", "x.csv is empty"),
        ("x.csv.gz", gzip.compress(b"", mtime=0), "x.csv.gz is empty: nothing is compressed in it"),
    ],
)  # fmt: skip
def test_what_is_not_read_says_what_to_do(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in said(tmp_path / name)


def test_documents_and_pictures_are_refused(tmp_path):
    path = zipped(tmp_path / "x.docx", **{"word/document__xml": b"<a/>"})
    assert "x.docx is a document of a word processor, which is not read" in said(path)
    for ending in ("png", "jpg", "gif", "bmp", "tif", "webp"):
        Image.new("RGB", (2, 2)).save(tmp_path / f"p.{ending}")
        assert "this model takes a table, model=potts_grid takes pictures" in said(tmp_path / f"p.{ending}")
    assert said(tmp_path / "absent.csv") == f"data.path: there is no file {tmp_path / 'absent.csv'}"


def test_settings_without_a_meaning_are_refused_together(tmp_path):
    path = book(tmp_path / "b.xlsx", S=[["a"], [1]])
    assert said(path, SettingError, delimiter=";") == "data.delimiter has no meaning for a .xlsx file"
    (tmp_path / "x.csv").write_bytes(CSV)
    assert said(tmp_path / "x.csv", SettingError, key="a", colours=3) == (
        "data.key and data.colours have no meaning for a .csv file"
    )
    np.save(tmp_path / "a.npy", np.eye(2))
    assert said(tmp_path / "a.npy", SettingError, header=True) == "data.header has no meaning for a .npy file"
    assert read(tmp_path / "a.npy", header=False).length == 2
    assert refused(SettingError, frame_raw, frame(), "x", Layout(key="a")) == "data.key has no meaning for a DataFrame"


def test_arrays_that_are_no_tables_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    for array, message in (
        (np.zeros((2, 2, 2)), "a.npy: the array must have two axes (rows, columns), not shape (2, 2, 2)"),
        (np.zeros(3), "a.npy: the array must have two axes (rows, columns), not shape (3,)"),
        (np.zeros((3, 0)), "a.npy: the array has no column (shape (3, 0)): it is empty"),
        (np.eye(2) * 1j, "a.npy: the array holds complex numbers; it must hold numbers, text, booleans or times"),
    ):
        np.save(path, array)
        assert said(path) == message
    np.save(path, np.array([{}, 1], dtype=object), allow_pickle=True)
    assert "a.npy holds Python objects, which are not read" in said(path)


def every_format(folder: Path) -> list[Path]:
    """Write a file of each format."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(200, 5)), columns=list("ABCDE"))
    for ending, write in {
        "xlsx": lambda path: table.to_excel(path), "parquet": table.to_parquet, "feather": table.to_feather,
        "dta": table.to_stata, "sav": lambda path: pyreadstat.write_sav(table, path),
        "zsav": lambda path: pyreadstat.write_sav(table, path, compress=True),
        "por": lambda path: pyreadstat.write_por(table, path), "xpt": lambda path: pyreadstat.write_xport(table, path),
        "npy": lambda path: np.save(path, table), "npz": lambda path: np.savez(path, table),
        "sparse.npz": lambda path: scipy.sparse.save_npz(path, scipy.sparse.csr_array(table)),
        "mtx": lambda path: scipy.io.mmwrite(path, scipy.sparse.csr_array(table)), "csv.gz": table.to_csv,
        "csv.zip": table.to_csv, "csv.bz2": table.to_csv, "csv.xz": table.to_csv,
        "csv.zst": lambda path: path.write_bytes(pa.compress(table.to_csv().encode(), "zstd", asbytes=True)),
    }.items():  # fmt: skip
        write(folder / f"x.{ending}")
    (folder / "x.idx").write_bytes(b"\0\0\x08\x02" + np.array([20, 5], ">u4").tobytes() + bytes(100))
    return sorted(folder.iterdir())


def test_files_of_every_format_that_are_cut_are_one_line(tmp_path):
    """Cut anywhere; bytes that are overwritten are for the mutants of test_hostile."""
    for path in every_format(tmp_path):
        assert open_raw(path, PLAIN).length >= 20
        content = path.read_bytes()
        for share in (0.02, 0.3, 0.6, 0.9, 0.99):
            broken = path.with_name(f"cut.{path.name}")
            broken.write_bytes(content[: max(1, int(len(content) * share))])
            assert one_line(broken), (path, share)
        broken.unlink()


def one_line(path: Path) -> bool:
    """Return whether a file is refused, in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            open_raw(path, PLAIN)
            return False
        except DataError as error:
            message = str(error)
    assert len(message.splitlines()) == 1
    assert path.name in message
    return True


# Frames ---------------------------------------------------------------------------------------------------------------


def test_frames_of_pandas_keep_types_levels_holes_and_labels():
    raw = frame_raw(frame(), "data", PLAIN)
    same(raw)
    assert levels(raw, "size") == ["S", "M", "L"]
    same(frame_raw(frame().set_axis(list("abcd")), "data", PLAIN), list("abcd"))
    same(frame_raw(frame().set_axis([5, 2, 9, 1]), "data", PLAIN), ["5", "2", "9", "1"])
    days = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"])
    same(frame_raw(frame().set_axis(days), "data", PLAIN), [str(day)[:10] for day in days])
    levelled = frame_raw(frame().set_axis(pd.MultiIndex.from_product([["a", "b"], [1, 2]])), "data", PLAIN)
    same(levelled, ["a / 1", "a / 2", "b / 1", "b / 2"])
    assert levelled.notes == ("rows are named by the 2 levels of the index, joined by ' / '",)


def test_odd_columns_of_pandas():
    table = pd.DataFrame(
        {
            "mixed": [1, "a", None],
            "dates": [DAY, datetime.datetime(2024, 3, 1, 5), 7],
            "band": pd.cut([1, 5, 9], [0, 4, 10]),
            "span": pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3]),
            "month": pd.period_range("2024-01", periods=3, freq="M"),
            "thin": pd.arrays.SparseArray([0.0, 0.0, 2.0]),
            "level": pd.Categorical([10, 2, 10], categories=[10, 2]),
            "huge": [2**70, 1, None],
            "noon": pd.Series([pd.Timestamp(DAY), None, pd.Timestamp(DAY)], dtype=object),
            "wave": [1j, 2, 3],
            "took": pd.to_timedelta([1, 2, 3], unit="h"),
            "list": [[1], [2], [3]],
        }
    )
    raw = frame_raw(table, "data", PLAIN)
    assert cells(raw, "mixed") == ["1", "a", None]
    assert cells(raw, "dates") == ["2024-03-01", "2024-03-01 05:00:00", "7"]
    assert cells(raw, "band") == ["(0, 4]", "(4, 10]", "(4, 10]"]
    assert cells(raw, "span") == ["(0, 1]", "(1, 2]", "(2, 3]"]
    assert cells(raw, "month") == ["2024-01", "2024-02", "2024-03"]
    assert cells(raw, "thin") == [0, 0, 2]
    assert levels(raw, "level") == [10, 2]
    assert cells(raw, "noon") == [DAY, None, DAY]
    assert cells(raw, "huge") == [str(2**70), "1", None]
    assert [problem.split(",")[0] for problem in raw.problems] == [
        "column 'wave' holds complex numbers",
        "column 'took' holds durations",
        "column 'list' holds lists or other objects",
    ]
    assert frame_raw(table, "data", Layout(exclude=["wave", "took", "list"])).problems == ()


class Exported:
    """A DataFrame of another library: all that is known of it is that it exports to Arrow."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_tables_of_other_libraries():
    table = pa.table({"x": pa.array([1, None]), "s": pa.array(["a", "b"], pa.string_view())})
    for given in (table, Exported(table), table.to_batches()[0], {"x": [1, None], "s": np.array(["a", "b"])}):
        raw = frame_raw(given, "data", PLAIN)
        assert list(raw.names) == ["x", "s"]
        assert cells(raw, "x") == [1, None]
        assert cells(raw, "s") == ["a", "b"]
    series = frame_raw(pd.Series([1, 2], name="x", index=["a", "b"]), "data", PLAIN)
    assert (list(series.names), list(series.labels)) == (["x"], ["a", "b"])
    array = xr.DataArray([[1, 2], [3, 4]], dims=("shop", "item"), coords={"item": ["p", "q"]})
    raw = frame_raw(array, "data", PLAIN)
    assert (list(raw.names), raw.labels) == (["p", "q"], None)
    assert cells(raw, "q") == [2, 4]


def test_what_is_no_table_in_python_is_refused():
    assert refused(DataError, frame_raw, {"x": [1], "y": [1, 2]}, "data", PLAIN) == (
        "data: columns have several lengths: 'x' 1, 'y' 2"
    )
    assert refused(DataError, frame_raw, {"x": 3}, "data", PLAIN) == "data: column 'x' must be a list of cells, not int"
    assert "data is of type int; give a DataFrame" in refused(DataError, frame_raw, 3, "data", PLAIN)
    assert refused(DataError, frame_raw, scipy.sparse.eye(2) * 1j, "data", PLAIN).startswith("data: the matrix holds")


# What it costs --------------------------------------------------------------------------------------------------------


def test_no_reader_imports_torch_and_files_need_no_pandas(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("some words")
    files = tmp_path / "files"
    files.mkdir()
    every_format(files)
    program = f"""
import pathlib, sys
from pyrozoo.data.readers import arrays, columnar, formats, frames, guard, layout, sheets, statistics, texts
for path in [pathlib.Path({str(tmp_path / "texts")!r}), *sorted(pathlib.Path({str(files)!r}).iterdir())]:
    formats.open_raw(path, layout.Layout())
    assert "torch" not in sys.modules, path
    assert "pandas" not in sys.modules, path
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("first", "rest", "expected"),
    [
        (2.5, [1, 3], ["2.5", "1", "3"]), (5, [True, False], ["5", "True", "False"]), (2.5, [], ["2.5"]),
        (1, [2.5, None], ["1", "2.5", None]), (None, [2.5, 1], [None, "2.5", "1"]), (True, [5, 2], ["True", "5", "2"]),
        (datetime.datetime(2024, 1, 2), [5, 6], ["2024-01-02", "5", "6"]),
        (True, [datetime.datetime(2024, 1, 2)], ["True", "2024-01-02"]),
    ],
)  # fmt: skip
def test_the_first_record_of_a_sheet_without_a_header_is_one_of_them(tmp_path, first, rest, expected):
    """In the type of the others 2.5 would be 2, and 5 true; alone there is no other."""
    book = openpyxl.Workbook()
    for value in (first, *rest):
        book.active.append([value, "a"])
    book.save(tmp_path / "one.xlsx")
    found = read_data(tmp_path / "one.xlsx", Survey, header=False)
    codes = found.values[:, 0].tolist()
    assert [None if code != code else found.levels[0][int(code)] for code in codes] == expected
