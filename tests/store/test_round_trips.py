"""What is written is read back as it was: every type, label and order; and what does not fit is said, to the byte."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import zipfile
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import h5netcdf
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
import torch

import pyrozoo
from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.moments import Moment
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.store import answer, inference_data, origin, results, run_directory, sheets, synthetic
from pyrozoo.store.answer import answered, beside, check_ending, probability, rounded, short, unindexed, write_answer
from pyrozoo.store.groups import Groups, _shrinks
from pyrozoo.store.inference_data import _add_pointwise, _notes, _truth, to_groups
from pyrozoo.store.lines import joined, numbers, write_lines
from pyrozoo.store.moments import add_moments, read_moments
from pyrozoo.store.origin import Origin
from pyrozoo.store.run_directory import _figures, _shown, write_failure
from pyrozoo.store.sheets import _cell, _held, write_book
from pyrozoo.store.tables import neutral, readable, significant, write_table
from tests.case import case, refused
from tests.run.test_results import OWN, mixture

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")


# Groups ---------------------------------------------------------------------------------------------------------------

ARRAYS = {
    "real": np.random.default_rng(0).normal(size=(2, 5, 3)), "single": np.arange(10, dtype=np.float32).reshape(2, 5),
    "count": np.zeros((2, 5, 2000), np.int64), "small": np.arange(10, dtype=np.int8).reshape(2, 5),
    "flag": np.arange(10).reshape(2, 5) % 3 == 0, "gaps": np.where(np.eye(2, 5) == 1, np.nan, -np.inf),
}  # fmt: skip


def test_groups_are_read_back_with_types_labels_and_attributes(tmp_path):
    groups = Groups(attrs={"model": "a", "seed": 3, "seconds": 0.5, "notes": '["é", "$"]'})
    groups.add("posterior", ARRAYS, {"real": ["row"]}, {"row": ["x", "y é", "$\\frac{"], "unused": ["z"]})
    groups.add("data", {"text": np.array(["a", "bc"], object)}, {}, {}, drawn=False)
    groups.add("none", {}, {}, {})
    assert set(groups) == {"posterior", "data"}, "a group of nothing is none"
    (tmp_path / "a.nc").write_bytes(groups.netcdf())
    found = Groups.read(tmp_path / "a.nc")
    assert dict(found.attrs) == groups.attrs
    assert list(found) == ["posterior", "data"]
    assert len(found) == 2
    posterior = found["posterior"]
    for name, array in ARRAYS.items():
        assert posterior[name].dtype == array.dtype, name
        np.testing.assert_array_equal(posterior[name].values, array)
    assert posterior["real"].dims == ("chain", "draw", "row")
    assert posterior["count"].dims == ("chain", "draw", "count_dim_0")
    assert posterior["row"].values.tolist() == ["x", "y é", "$\\frac{"]
    assert posterior["chain"].values.tolist() == [0, 1]
    assert posterior["draw"].values.tolist() == [0, 1, 2, 3, 4]
    assert posterior["count_dim_0"].values.tolist() == list(range(2000))
    assert "unused" not in posterior.coords
    assert found["data"]["text"].values.tolist() == ["a", "bc"]
    assert found["data"]["text"].dims == ("text_dim_0",)
    del found["data"]
    assert "data" not in found
    with h5netcdf.File(tmp_path / "a.nc", "r") as file:
        kinds = {name: file["posterior"].variables[name] for name in ("count", "real")}
        assert (kinds["count"].compression, kinds["count"].compression_opts) == ("gzip", 1)
        assert kinds["real"].compression is None, "real numbers become little smaller, and slow"
    assert len(groups.netcdf()) < 80_000, "20,000 zeros of eight bytes"


def test_what_packing_halves_is_packed():
    """Whole numbers with 5 random bits of 16 shrink to 0.42 of their size, those with 7 to 0.59, real ones hardly."""
    generator = np.random.default_rng(0)
    five, seven = (generator.integers(0, 2**bits, 50_000).astype(np.int16) for bits in (5, 7))
    assert _shrinks(five)
    assert _shrinks(five.astype(np.float64)[::2].reshape(5, -1).T)
    assert not _shrinks(seven)
    assert not _shrinks(generator.normal(size=1000))
    assert not _shrinks(np.array([]))
    assert not _shrinks(np.array(["a"] * 1000, object))
    assert _shrinks(np.zeros(1000, bool))
    half = np.concatenate([generator.normal(size=200_000), np.zeros(10)])
    assert not _shrinks(half), "an even choice of all of it is looked at"
    assert _shrinks(np.concatenate([np.zeros(200_000), generator.normal(size=10)]))


# Lines, cells and digits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [3, 7, 2**16])
def test_lines_of_every_type_come_back(batch, monkeypatch):
    monkeypatch.setattr("pyrozoo.store.lines.BATCH", batch)
    values = [
        0.0,
        -0.0,
        1e10,
        -1e10,
        9999999999.5,
        2.0**53,
        -(2.0**53),
        2.0**53 - 1,
        1e-300,
        0.1,
        -2.5e17,
        123456789012.25,
    ]
    frame = pd.DataFrame({"x": values, "n": np.arange(12) - 6, "t": [*'a,b"c\n\r;é ', "", "null"]})
    file = io.BytesIO()
    write_lines(file, frame)
    again = pd.read_csv(io.BytesIO(file.getvalue()), keep_default_na=False, lineterminator="\n")
    assert again["x"].tolist() == values
    assert again["n"].tolist() == frame["n"].tolist()
    assert b"-0," not in file.getvalue()
    file = io.BytesIO()
    write_lines(file, frame[["x"]])
    assert file.getvalue().decode().split("\n")[1:9] == [
        "0", "0", "10000000000", "-10000000000", "9999999999.5", "9.007199254740992e+15", "-9.007199254740992e+15",
        "9007199254740991",
    ]  # fmt: skip
    tabbed = io.BytesIO()
    write_lines(tabbed, frame[["t", "n"]], "\t")
    assert (
        pd.read_csv(io.BytesIO(tabbed.getvalue()), sep="\t", keep_default_na=False, lineterminator="\n")["n"].tolist()
        == frame["n"].tolist()
    )
    empty = io.BytesIO()
    write_lines(empty, frame.iloc[:0])
    assert empty.getvalue() == b"x,n,t\n"
    none = io.BytesIO()
    write_lines(none, frame[[]].iloc[:2])
    assert none.getvalue() in (b"\n\n", b"\n\n\n")


def test_large_numbers_have_all_of_their_digits():
    assert numbers(np.array([1e10, 9.9e9, 2.0**53, 2.0**53 - 1, -1.5e10, math.nan, -0.0])).to_pylist() == [
        "10000000000", "9900000000", "9.007199254740992e+15", "9007199254740991", "-15000000000", None, "0",
    ]  # fmt: skip
    assert numbers(np.array([-0.0, -0.5])).to_pylist() == ["0", "-0.5"]
    assert joined([pa.array(["z", "a", None, "c"]).slice(1, 3), "-", pa.array(["1", "2", "3"])]) == b"a-1-2c-3"
    assert joined([pa.array([], pa.string()), "x"]) == b""


@pytest.mark.parametrize("digits", [1, 3, 4, 6])
def test_digits_are_what_python_writes(digits):
    """Of numbers of all sizes, whether powers of ten can be held exactly or not."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=400) * 10.0 ** generator.integers(-30, 30, 400)
    found = significant(values, digits)
    assert found.tolist() == pytest.approx([float(f"{value:.{digits - 1}e}") for value in values], rel=1e-12)
    assert (significant(-values, digits) == -found).all()
    whole = significant(values, digits, whole=True)
    large = np.abs(values) >= 10.0 ** (digits - 1)
    few = large & (np.abs(values) < 1e15)
    assert (whole[few] == np.round(values[few])).all()
    assert (whole[~large] == found[~large]).all()


def test_columns_of_whole_numbers_are_whole():
    """Up to 2^53, of either sign; one more, an infinite one or nothing at all leaves numbers as they are."""

    def kind(*values: float) -> str:
        return str(readable(pd.DataFrame({"x": np.array(values)}))["x"].dtype)

    for values in ((1.0, 2.0**53 - 1), (-(2.0**53) + 1, 0.0), (3.0, math.nan)):
        assert kind(*values) == "Int64"
    for values in ((1.0, 2.0**53), (-(2.0**53), 0.0), (1.0, math.inf), (math.nan, math.nan), (1.0, 0.5), ()):
        assert kind(*values) == "float64"
    frame = readable(pd.DataFrame({"x": [2.0, math.nan, -4.0]}))
    assert frame["x"].tolist()[::2] == [2, -4]
    assert frame["x"].isna().tolist() == [False, True, False]
    assert str(readable(pd.DataFrame({"x": [1, 2]}), None)["x"].dtype) == "int64"


def test_formulas_are_text_whatever_the_column(tmp_path):
    risky = ["=1", "+x", "-x", "@a", "\tx", "\rx", "\nx", "\uff1dx", "\uff0bx", "\uff0dx", "\uff20x"]
    plain = ["-", "--", "+1", "-1,5", "-1.5", "a=", "", "1"]
    for column in (pd.Series(risky + plain), pd.Series(risky + plain, dtype="string"), pd.Categorical(risky + plain),
                   pd.Series([*risky, *plain, 3, None], dtype=object)):  # fmt: skip
        found = neutral(pd.DataFrame({"a": column}))["a"].tolist()
        assert found[: len(risky)] == [f"'{each}" for each in risky]
        assert found[len(risky) : len(risky) + len(plain)] == plain
        assert found[len(risky) + len(plain) :] in ([], [3, None])
    kept = pd.DataFrame({"a": pd.Categorical(["x", "y"])})
    assert isinstance(neutral(kept)["a"].dtype, pd.CategoricalDtype), "levels that are none stay"
    write_table(tmp_path / "a.csv", pd.DataFrame({"=a": ["=b"]}))
    assert (tmp_path / "a.csv").read_text() == "'=a\n'=b\n"
    write_table(tmp_path / "a.csv", pd.DataFrame({"=a": ["=b"]}), digits=None)
    assert (tmp_path / "a.csv").read_text() == "=a\n=b\n", "what is read back is as it was"


# Answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".xlsx"])
def test_tables_of_every_type_come_back(ending, tmp_path):
    frame = pd.DataFrame({
        "t": ["a", None, "é\tb", "x,y", "1"], "n": [1, -2, 3, 10**14, 0], "x": [0.5, math.nan, -1e-7, 3.0, 2.5e20],
        "m": pd.array([1, None, 3, -4, 5], "Int64"), "f": [True, False, True, True, False],
        "d": pd.to_datetime(["2020-01-02", "1999-12-31", None, "2021-03-04", "1900-03-01"]),
        "c": pd.Categorical(["u", "v", None, "u", "v"], categories=["v", "u"]),
    })  # fmt: skip
    path = write_answer(tmp_path / f"a{ending}", frame)
    read: Any = {
        ".csv": lambda: pd.read_csv(path, parse_dates=["d"]), ".parquet": lambda: pd.read_parquet(path),
        ".tsv": lambda: pd.read_csv(path, sep="\t", parse_dates=["d"]), ".xlsx": lambda: pd.read_excel(path),
    }[ending]  # fmt: skip
    found = read()
    assert list(found.columns) == list(frame.columns)
    for name in frame:
        expected = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        seen = found[name].astype(object).where(found[name].notna(), None).tolist()
        assert seen == pytest.approx(expected) if name in ("x", "m") else seen == expected, name
    indexed = frame[["n"]].set_index(pd.Index(list("vwxyz"), name="key"))
    assert write_answer(path, indexed.assign(d=frame["d"].to_numpy())) == path
    assert list(read().columns) == ["key", "n", "d"]
    assert not [each for each in tmp_path.iterdir() if each != path], "one file, in one move"


def test_a_mixture_of_types_is_text_in_parquet(tmp_path):
    frame = pd.DataFrame({"a": [1, "two", None, 2.5], "b": ["x", None, "y", "z"], "n": [None, 1, 2, 3]}, dtype=object)
    found = pd.read_parquet(write_answer(tmp_path / "a.parquet", frame))
    assert found["a"].fillna("gone").tolist() == ["1", "two", "gone", "2.5"]
    assert found["b"].fillna("gone").tolist() == ["x", "gone", "y", "z"]
    assert found["n"].iloc[1:].tolist() == [1, 2, 3], "numbers alone stay numbers"
    assert frame["a"].tolist() == [1, "two", None, 2.5], "the table itself stays"
    assert list(pd.read_parquet(write_answer(tmp_path / "b.parquet", pd.DataFrame({1: [2]}))).columns) == ["1"]


def test_sheets_have_their_sizes(tmp_path, monkeypatch):
    """2^20 lines with the header, 2^14 columns, cells of 2^15 - 1 letters."""
    written: list[Any] = []
    monkeypatch.setattr(answer, "write_book", lambda path, frames, marked: written.append(path.write_bytes(b"")))
    long, wide = pd.DataFrame({"a": np.zeros(2**20, np.int8)}), pd.DataFrame(np.zeros((1, 2**14 + 1), np.int8))
    assert "1048576 rows do not fit" in refused(SettingError, write_answer, tmp_path / "a.xlsx", long)
    assert "16385 columns do not fit" in refused(SettingError, write_answer, tmp_path / "a.xlsx", wide)
    assert not written
    write_answer(tmp_path / "a.xlsx", long.iloc[1:])
    write_answer(tmp_path / "A.XLSX", wide.iloc[:, 1:])
    assert len(written) == 2
    assert _cell("q" * 2**15).count("q") == _cell("q" * (2**15 - 1)).count("q") == 2**15 - 1
    assert sheets._cells(pd.Series(["y" * 2**15])).to_pylist()[0].count("y") == 2**15 - 1
    for wrong in ("a.xls", "a", "csv"):
        assert refused(SettingError, check_ending, wrong, "where").startswith(
            f"where={wrong}: its name must end in .csv"
        )


def test_cells_of_a_sheet_that_are_not_plain():
    zone = timezone(timedelta(hours=1))
    text = '<c t="inlineStr"><is><t xml:space="preserve">{}</t></is></c>'
    cells = {
        -(10**15) + 1: f"<c><v>{-(10**15) + 1}</v></c>", -(10**15): text.format(-(10**15)),
        np.int8(-3): "<c><v>-3</v></c>",
        np.float32(0.5): "<c><v>0.5</v></c>", Decimal("2.5"): "<c><v>2.5</v></c>", -math.inf: text.format("-inf"),
        date(1900, 3, 1): '<c s="2"><v>61.0</v></c>', datetime(2020, 1, 1, 12): '<c s="2"><v>43831.5</v></c>',
        datetime(2020, 1, 1, tzinfo=zone): text.format("2020-01-01T00:00:00+01:00"),
        date(1899, 12, 31): text.format("1899-12-31"), np.timedelta64(3, "s"): text.format("P0DT0H0M3S"),
        "a\rb\n": text.format("a&#13;b\n"), "\ud800\udfff\ue000\ufffd\ufffe\uffff\x1f ": text.format("\ue000\ufffd "),
        np.bool_(False): '<c t="b"><v>0</v></c>', pd.NaT: "<c/>",
    }  # fmt: skip
    for value, cell in cells.items():
        assert _cell(value) == cell, repr(value)
    ends = (0x8, 0x9, 0xA, 0xB, 0xD, 0xE, 0x1F, 0x20, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000)
    held = [code for code in ends if _held(chr(code))]
    assert held == [0x9, 0xA, 0xD, 0x20, 0xD7FF, 0xE000, 0xFFFD, 0x10000]
    one = "a\x00\x08\x0b\x1f\ufffe\uffffb&<>\r"
    assert sheets._cells(pd.Series([one])).to_pylist() == [_cell(one)], "a column at once as cell by cell"
    mixed = pd.Series([1, "a", None, 2.5, True, date(2020, 1, 1)], dtype=object)
    assert sheets._cells(mixed).to_pylist() == [_cell(each) for each in mixed]
    columns = [[1, 10**15], [1.0, math.inf, math.nan], [-(10**15), 5], [1.5, math.nan], [10**15 - 1]]
    for column in (*map(pd.Series, columns), pd.Series(pd.Categorical(["b", None, "a<"]))):
        assert sheets._cells(column).to_pylist() == [_cell(each) for each in column.tolist()]


@pytest.mark.parametrize("batch", [2, 3, 100])
def test_colours_are_where_they_belong(batch, tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "BATCH", batch)
    frame = pd.DataFrame(
        {"=a": ["=1", "x", "<y>", "&", "z"], "d": pd.date_range("2020-01-01", periods=5), "n": range(5)}
    )
    marked = {(0, 0), (3, 0), (1, 1), (4, 1), (4, 2)}
    write_book(tmp_path / "a.xlsx", {'first "&"': frame, "second": frame.iloc[::-1]}, marked)
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    assert book.sheetnames == ['first "&"', "second"]
    for sheet, own, colours in ((book.worksheets[0], frame, marked), (book.worksheets[1], frame.iloc[::-1], set())):
        lines = list(sheet.iter_rows())
        assert [cell.value for cell in lines[0]] == ["=a", "d", "n"]
        assert [[cell.value for cell in line] for line in lines[1:]] == [
            [a, day.to_pydatetime(), n] for a, day, n in own.itertuples(index=False)
        ]
        assert {
            (i, j) for i, line in enumerate(lines[1:]) for j, cell in enumerate(line) if cell.fill.fill_type
        } == colours
        assert {cell.number_format for cell in next(sheet.iter_cols(2, 2, 2))} == {"yyyy-mm-dd h:mm:ss"}
        assert all(cell.data_type != "f" for line in lines for cell in line)
    with zipfile.ZipFile(tmp_path / "a.xlsx") as file:
        assert {each.compress_type for each in file.infolist()} == {zipfile.ZIP_DEFLATED}
        assert 'Target="styles.xml"' in file.read("xl/_rels/workbook.xml.rels").decode()


def test_answers_of_every_kind_of_column():
    lines = np.array([1, 2])
    booleans = answered(pd.Series([True, None, None], dtype=object), lines, ["False", "True"])
    assert [str(each) for each in booleans] == ["True", "False", "True"]
    assert answered(pd.Series([None, None, None], dtype=object), lines, ["1", "x"]).tolist()[1:] == [1, "x"]
    assert answered(pd.Series(["1", None, None]), lines, ["1", "2"]).tolist() == ["1", "1", "2"], "text stays text"
    assert answered(pd.Series([1.5, None, None]), lines, ["2.5", "3"]).tolist() == [1.5, 2.5, 3]
    ordered = pd.Series(pd.Categorical([2, None, None], categories=[2, 1]))
    found = answered(ordered, lines, ["1", "7"])
    assert found.tolist() == [2, 1, 7]
    assert list(found.cat.categories) == [2, 1, 7], "what it had stays where it was"


def test_digits_of_answers():
    said = pd.DataFrame({"probability": [0.123456], "probability[1]": [0.000012], "x": [1234.5678], "n": [12345],
                         "t": ["0.123456"]})  # fmt: skip
    assert short(said, 4).iloc[0].tolist() == [0.1235, 0.0, 1235, 12345, "0.123456"]
    assert short(said, None).equals(said)
    assert short(pd.DataFrame(index=range(3)), 4).shape == (3, 0)
    assert rounded(torch.tensor([1.23456]), None).tolist() == pytest.approx([1.23456])
    assert rounded(torch.tensor([1.23456]), 3).tolist() == [1.23]
    assert probability([0.00016, 0.5], 3).tolist() == [0, 0.5]
    assert probability([0.123456], None).tolist() == [0.123456]
    assert answer.DIGITS == 4
    frame = pd.DataFrame({1: [0], "b": [1]}, index=["x"])
    assert list(beside(frame, pd.DataFrame({"1": [5], "c": [6]})).columns) == [1, "b", "1 (fit)", "c"]
    two = pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 2)], names=["a", None]))
    assert unindexed(two).to_dict("records") == [{"a (index)": "x", "row": 2, "a": 1}]
    assert list(unindexed(pd.DataFrame({"a": [1]}, index=pd.RangeIndex(1, name="k"))).columns) == ["k", "a"]
    assert list(unindexed(pd.DataFrame({"a": [1, 2]}, index=[0, 1])).columns) == ["row", "a"]


# Moments and draws ----------------------------------------------------------------------------------------------------


def moment(step: int, width: int = 1, draws: int = 100) -> Moment:
    """Return a state of two chains whose draws are of five numbers."""
    values = torch.arange(2.0 * draws * 5).reshape(2, draws, 5) + step
    return Moment(step, 0.5 * step, 2.0 * step, tuple(float(step + k) for k in range(width)), step // 2,
                  lambda count: Draws(x=values, y=values[..., 0].long()))  # fmt: skip


def stored(budget: float, moments: list[Moment]) -> tuple[list[Moment], list[str], Groups]:
    groups, notes = Groups(), list[str]()
    add_moments(groups, SimpleNamespace(moments=moments), budget, notes)
    return read_moments(groups, ["x", "y"]), notes, groups


def test_moments_take_no_more_than_their_bytes():
    """Of six numbers of eight bytes in two chains: 96 bytes a draw of each; first fewer draws, twenty at least."""
    moments = [moment(step) for step in range(4)]
    for budget, count, draws in ((4 * 96 * 100, 4, 100), (1e9, 4, 100), (4 * 96 * 57, 4, 57), (4 * 96 * 57 - 1, 4, 56),
                                 (4 * 96 * 20, 4, 20), (4 * 96 * 20 - 1, 3, 20), (96 * 20, 1, 20)):  # fmt: skip
        found, notes, groups = stored(budget, moments)
        assert (len(found), found[0].draws.shape) == (count, (2, draws)), budget
        assert bool(notes) == (count < 4)
        assert sum(groups["moments"][name].size for name in ("x", "y")) * 8 <= budget
        whole = {each.step: each for each in moments}
        for each in found:
            assert torch.equal(each.draws["x"], whole[each.step].draws["x"][:, :draws])
            assert torch.equal(each.draws["y"], whole[each.step].draws["y"][:, :draws])
    found, notes, groups = stored(96 * 20 - 1, moments)
    assert (found, dict(groups)) == ([], {})
    assert notes == ["0 of 4 moments of the fit are stored, within 0.001919 MB"]
    assert stored(1e9, []) == ([], [], Groups())


def test_moments_come_back_with_all_that_is_known_of_them():
    found, _, groups = stored(1e9, [moment(0, 0), moment(3, 2), moment(8, 1)])
    for each, own in zip(found, [moment(0, 0), moment(3, 2), moment(8, 1)], strict=True):
        assert [getattr(each, name) for name in ("step", "seconds", "passes", "objective", "kept")] == [
            getattr(own, name) for name in ("step", "seconds", "passes", "objective", "kept")
        ]
        assert [type(getattr(each, name)) for name in ("step", "seconds", "passes", "kept")] == [int, float, float, int]
        assert each.draws["y"].dtype == torch.int64
    assert groups["moments"]["x"].dims == ("moments", "chain", "draw", "x_at_0")
    assert groups["moments"]["y"].dims == ("moments", "chain", "draw")
    assert read_moments(Groups(), ["x"]) == []


@pytest.fixture(scope="module")
def fitted():
    """A fit with moments, hidden entries, the truth of its simulation, and labels."""
    settings = {"rows": 12, "columns": 3, "num_components": 2, "holdout": 0.1, "draws": 30, "max_iterations": 8}
    return pyrozoo.fit("zip_mixture", "cavi", restarts=1, progress=False, **settings)


def renewed(fit: Fit, **fields: Any) -> Any:
    """Return a fit with other fields, of which nothing has been made."""
    result = pyrozoo.Result.of(fit, fit.settings)
    for name in ("pointwise", "invariants", "aligned", "groups", "outline"):
        vars(result).pop(name, None)
    for name, value in fields.items():
        vars(result)[name] = value
    return result


def test_a_file_is_shared_among_what_it_holds(fitted, monkeypatch):
    """Of 8 MB draws get 3, each of three kinds of simulated data two thirds of one, log-likelihoods 2, moments 1."""
    shares: dict[str, float] = {}
    plain = {
        name: getattr(inference_data, name) for name in ("_thinning", "_add_data", "_add_pointwise", "add_moments")
    }
    places = {"_thinning": 1, "_add_data": 2, "_add_pointwise": 5, "add_moments": 2}
    for name, place in places.items():

        def spy(*given: Any, name: str = name, place: int = place) -> Any:
            shares[name] = given[place]
            return plain[name](*given)

        monkeypatch.setattr(inference_data, name, spy)
    to_groups(renewed(fitted), 8.0)
    assert shares == {"_thinning": 3e6, "_add_data": pytest.approx(2e6 / 3), "_add_pointwise": 2e6, "add_moments": 1e6}
    assert shares["_thinning"] + 3 * shares["_add_data"] + shares["_add_pointwise"] + shares["add_moments"] == 8e6


def test_draw_i_is_the_same_draw_everywhere(fitted):
    """Log-likelihoods of one draw in two; draws that do not fit are thinned in step with them."""
    fit = renewed(fitted)
    whole = fit.pointwise[1]
    fit = renewed(fitted, pointwise=(2, whole[:, ::2]))
    groups = to_groups(fit)
    assert groups["posterior"].sizes["draw"] == 30, "all of them are stored"
    assert groups["log_likelihood"]["draw"].values.tolist() == list(range(0, 30, 2))
    assert "log-likelihoods, LOO and invariants are those of one draw in 2: each takes long" in fit.notes
    assert not [note for note in fit.notes if note.startswith("one draw in")]
    size = 8 * 30 * fit.draws.scalars
    fit = renewed(fitted, pointwise=(2, whole[:, ::2]))
    groups = to_groups(fit, size / 3 * 8 / 3 / 1e6)
    assert groups["posterior"].sizes["draw"] == 8, "every third would do, every fourth is known"
    assert np.array_equal(groups["posterior"]["rate"].values, fit.draws["rate"][:, ::4].numpy())
    name = next(iter(groups["log_likelihood"]))
    assert groups["log_likelihood"][name].values[0, :, 0].tolist() == whole[0, ::4, 0].tolist()
    assert [note for note in fit.notes if note.startswith("one draw in 4 is stored, to keep this file within")]
    fit = renewed(fitted)
    assert to_groups(fit)["log_likelihood"]["draw"].values.tolist() == list(range(30))
    assert not [note for note in fit.notes if "one draw in" in note]


def test_units_of_log_likelihoods_have_their_labels():
    """Of six units in 24 bytes a unit: as many as the bytes hold, evenly chosen, at least one."""
    whole = torch.arange(18.0).reshape(1, 3, 6)

    def added(
        budget: float, labels: dict[str, Any], units: Any = None, total: int = 6, every: int = 0
    ) -> tuple[Any, list[str]]:
        groups, notes = Groups(), list[str]()
        part = SimpleNamespace(units=units, total=total)
        fit: Any = SimpleNamespace(
            posterior=SimpleNamespace(observed="x", unit="row"), looked_at=part, draws=Draws(a=torch.zeros(1, 6))
        )
        _add_pointwise(groups, fit, whole, inference_data.Labels(labels), every, budget, notes)
        return groups["log_likelihood"]["x"], notes

    found, notes = added(1e9, {"row": list("abcdef")})
    assert found["row"].values.tolist() == list("abcdef")
    assert (found.values.tolist(), notes) == (whole.tolist(), [])
    found, notes = added(3 * 24, {"row": list("abcdef")})
    assert found["row"].values.tolist() == ["a", "c", "f"]
    assert found.values.tolist() == whole[..., [0, 2, 5]].tolist()
    assert notes == ["log-likelihoods are stored of 3 units of 6, evenly chosen"]
    assert added(0, {"row": list("abcdef")})[0]["row"].values.tolist() == ["a"]
    assert added(3 * 24, {})[0]["row"].values.tolist() == [0, 2, 5], "places where there are no labels"
    assert added(1e9, {})[0]["row"].values.tolist() == list(range(6))
    few = torch.tensor([1, 3, 5, 7, 9, 11])
    assert added(1e9, {}, few, 12)[0]["row"].values.tolist() == few.tolist()
    assert added(1e9, {"row": [str(i) for i in range(12)]}, few, 12)[0]["row"].values.tolist() == list(
        map(str, few.tolist())
    )
    assert added(1e9, {}, every=2)[0]["draw"].values.tolist() == [0, 2, 4]


def test_a_fit_comes_back_whole(fitted, tmp_path):
    """All that a fit is, with types; and of what is made of it the figures and tables."""
    fit = renewed(fitted)
    directory = fit.save(tmp_path / "run", report="none")
    again = pyrozoo.load(directory)
    assert not isinstance(again, inference_data.Stored), "all of it is read"
    for name in ("method", "kind", "status", "objective_name", "objective", "iterations", "seconds", "seed", "settings",
                 "notes", "metrics", "model"):  # fmt: skip
        assert getattr(again, name) == getattr(fit, name), name
        assert type(getattr(again, name)) is type(getattr(fit, name)), name
    for name in ("draws", "sample_stats", "expectations"):
        ours, theirs = getattr(fit, name), getattr(again, name)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[site], theirs[site]) and ours[site].dtype == theirs[site].dtype for site in ours)
    for name in ("trace", "runs"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(fit, name).reset_index(drop=True), check_exact=True)
    assert again.data.same(fit.data)
    assert again.data.name == fit.data.name
    assert list(again.data.row_labels) == list(fit.data.row_labels)
    assert list(again.data.column_labels) == list(fit.data.column_labels)
    assert torch.equal(again.data.hidden.values, fit.data.hidden.values)
    assert torch.equal(again.data.hidden.rows, fit.data.hidden.rows)
    assert again.data.hidden.at_random == fit.data.hidden.at_random
    assert [(each.step, each.seconds, each.objective, each.kept) for each in again.moments] == [
        (each.step, each.seconds, each.objective, each.kept) for each in fit.moments
    ]
    assert again.verdict == fit.verdict
    assert list(again.tables) == list(fit.tables)
    for name in fit.tables:
        pd.testing.assert_frame_equal(again.tables[name], fit.tables[name])
    more = pyrozoo.load(again.save(tmp_path / "more", report="none"))
    for file in ("trace.csv", "runs.csv", "metrics.json", ".hydra/config.yaml"):
        assert (tmp_path / "more" / file).read_text() == (directory / file).read_text(), "time after time"
    assert more.metrics == fit.metrics


def test_what_is_known_beyond_draws_comes_back():
    """Probabilities of labels have no chains and no draws, as draws have."""
    field = case("potts_grid")
    fit = pyrozoo.fit(field.model, "bp", data=field.tiny, draws=3, progress=False)
    groups = to_groups(fit)
    stored = groups["expectations"]["label_probability"]
    assert stored.dims == ("row", "column", "label")
    assert stored.values.tolist() == fit.expectations["label_probability"].tolist()
    again = inference_data.from_groups(groups, fit.model).expectations
    assert torch.equal(again["label_probability"], fit.expectations["label_probability"])


def test_the_truth_that_is_stored_is_of_the_same_size():
    sites = {"a": ("row",), "b": (), "c": ("row",)}
    fit: Any = SimpleNamespace(
        posterior=SimpleNamespace(sites=sites), data=SimpleNamespace(truth={"a": torch.zeros(3), "b": torch.ones(())}),
        draws={"a": torch.zeros(1, 2, 4), "b": torch.zeros(1, 2), "c": torch.zeros(1, 2, 3)},
    )  # fmt: skip
    assert {name: (dims, value.tolist()) for name, (dims, value) in _truth(fit).items()} == {"true_b": ((), 1.0)}
    assert _notes('["a; b", "c"]') == ["a; b", "c"]
    assert _notes("a; b") == ["a", "b"], "as an earlier version wrote them"
    assert _notes("") == []


def test_summaries_of_large_sites_are_of_whole_lines(monkeypatch):
    monkeypatch.setattr(run_directory, "MOST_SUMMARISED", 6)

    def shown(*shape: int) -> list[str]:
        dims = ("chain", "draw", *(f"d{i}" for i in range(len(shape))))

        class Data(dict):
            coords = ()

        names, values = _shown(
            "w", np.arange(float(np.prod(shape))).reshape(1, 1, *shape), Data(w=SimpleNamespace(dims=dims))
        )
        numbers = [
            int(np.ravel_multi_index(tuple(map(int, n[2:-1].split(", "))), shape)) if shape else 0 for n in names
        ]
        assert values[0, 0].tolist() == numbers, "names and values are of the same places"
        return names

    assert shown() == ["w"]
    assert shown(6) == [f"w[{i}]" for i in range(6)]
    assert shown(12) == [f"w[{i}]" for i in (0, 2, 4, 7, 9, 11)]
    assert shown(4, 3) == [f"w[{i}, {k}]" for i in (0, 3) for k in range(3)]
    assert len(shown(2, 10)) == 6, "of one line some"
    assert shown(3, 2) == [f"w[{i}, {k}]" for i in range(3) for k in range(2)]
    assert shown(0) == []


def test_constants_are_told_from_what_varies_by_rounding():
    """Of -5 and 1e-12 of it more, nothing is said; of ten times that there is; a point has no spread."""
    draws = torch.full((2, 8, 3), -5.0, dtype=torch.float64)
    draws[0, 0, 1] -= 4e-12
    draws[0, ::2, 2] -= 5e-11
    found = _figures(draws, "samples")
    assert np.isnan(found["r_hat"]).tolist() == [True, True, False]
    assert (found["sd"] == 0).tolist() == [True, True, False]
    assert set(_figures(draws[:1, :2], "variational")) == {"mean", "sd", "hdi_5%", "hdi_95%"}
    assert "r_hat" in _figures(draws[:, :4], "samples")


# Where data come from -------------------------------------------------------------------------------------------------


def blake(*parts: bytes) -> str:
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def test_hashes_are_of_bytes(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, text in (("b", b"two"), ("a", b"one"), ("sub/c", b"three")):
        (tmp_path / name).write_bytes(text)
    assert origin.hash_of_files(tmp_path / "a") == origin.hash_of_files(str(tmp_path / "a")) == blake(b"one")
    lines = "".join(f"{name} {blake(text)}\n" for name, text in (("a", b"one"), ("b", b"two"), ("sub/c", b"three")))
    assert origin.hash_of_files(tmp_path) == blake(lines.encode())
    (tmp_path / "a").write_bytes(b"four")
    assert origin.hash_of_files(tmp_path / "a") == blake(b"four"), "touched, and read again"
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    hidden = SimpleNamespace(rows=torch.tensor([1]), columns=torch.tensor([2]), values=torch.tensor([0.5]))
    data = SimpleNamespace(values=torch.as_tensor(values.T.copy()).T, hidden=None)
    assert origin.hash_of(data) == blake(values.tobytes())
    data.hidden = hidden
    parts = (np.array([1]), np.array([2]), np.array([0.5], np.float32))
    assert origin.hash_of(data) == blake(values.tobytes(), *(part.tobytes() for part in parts))


def test_where_data_come_from(tmp_path, monkeypatch):
    """A file, by its setting; of what nobody else has, or is small, nothing; of large data of Python their hash."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "t.csv"):
        (tmp_path / name).write_text(name)
    small = SimpleNamespace(values=torch.zeros(1).expand(12_500_000), hidden=None, name="small")
    large = SimpleNamespace(values=torch.zeros(1).expand(12_500_001), hidden=None, name="large")
    monkeypatch.setattr(origin, "hash_of", lambda data: f"hash of {data.name}")
    a = {"path": "a.csv", "absolute": str(tmp_path / "a.csv"), "blake2b": blake(b"a.csv")}
    t = {"path": "t.csv", "absolute": str(tmp_path / "t.csv"), "blake2b": blake(b"t.csv")}
    for settings, files in (
        ({"source": "file", "path": "a.csv"}, {"path": a}), ({"source": "documents", "path": "a.csv"}, {"path": a}),
        ({"source": "file", "path": "a.csv", "test_path": "t.csv", "holdout": 0.1}, {"path": a, "test_path": t}),
        ({"source": "file", "path": tmp_path / "a.csv", "holdout": "t.csv"},
         {"path": {**a, "path": str(tmp_path / "a.csv")}, "holdout": t}),
        ({"source": "named", "file": "x", "path": "a.csv"}, {"path": a}), ({"source": "named", "file": "x"}, {}),
    ):  # fmt: skip
        assert Origin.of(settings, small) == Origin(files), settings
        assert Origin.of(settings, large, beside=True) is None
        assert Origin.of(settings, small, given=True) is None
        assert Origin.of(settings, large, given=True) == Origin(values="hash of large")
    for settings in ({"source": "simulate"}, {"source": "file"}, {"source": "named", "path": "a.csv"}, {},
                     {"source": "simulate", "path": "a.csv"}):  # fmt: skip
        assert Origin.of(settings, small) is None, settings
        assert Origin.of(settings, large) == Origin(values="hash of large"), settings


def test_origins_are_read_back_and_held_to(tmp_path):
    assert Origin.read(tmp_path) is None
    (tmp_path / "a.csv").write_text("one")
    given = Origin.of({"source": "file", "path": str(tmp_path / "a.csv")}, None)
    assert given is not None
    run = tmp_path / "run"
    run_directory.write_origin(run, given)
    assert Origin.read(run) == given
    assert json.loads((run / origin.ORIGIN).read_text()) == {"files": given.files, "values": ""}
    assert given.found(run) == {"path": str(tmp_path / "a.csv")}
    (tmp_path / "a.csv").rename(run / "a.csv")
    assert given.found(run) == {"path": str(run / "a.csv")}, "in the run directory"
    (tmp_path / "a.csv").write_text("another")
    assert given.found(run) == {"path": str(run / "a.csv")}, "the one that is the same"
    (run / "a.csv").unlink()
    assert refused(DataError, given.found, run).endswith("which is not what it was")
    (tmp_path / "a.csv").unlink()
    assert refused(DataError, given.found, run).endswith("which is gone")
    run_directory.write_origin(run, None)
    assert Origin.read(run) is None
    for wrong in ("{", "[]", '{"elsewhere": 1}'):
        (run / origin.ORIGIN).write_text(wrong)
        assert "cannot be read" in refused(DataError, Origin.read, run)
    Origin().check(run, SimpleNamespace(values=torch.zeros(2), hidden=None, name="a"))


# The reader's table ---------------------------------------------------------------------------------------------------


def test_a_table_that_lost_a_line_or_a_column_is_another():
    fit = mixture()
    (last,) = {int(fit.reading.lines.max()) + 1}
    assert last == len(OWN)

    def of(own: pd.DataFrame) -> Any:
        from dataclasses import replace

        return results.results_of(fit, replace(fit.reading, own=lambda: own))

    assert len(of(OWN).frame) == last
    assert len(of(pd.concat([OWN, OWN.iloc[:1]])).frame) == last + 1, "what came after it is left as it is"
    for short_of in (OWN.iloc[:-1], OWN.iloc[:, : max(fit.reading.places)]):
        assert "is not what it was when it was read" in refused(DataError, of, short_of)


def test_a_list_that_lost_its_last_line_is_another():
    from dataclasses import replace

    own = pd.DataFrame({"user": list("aabbc"), "item": list("xyxyx"), "stars": [1.0, 2, 3, 4, np.nan]})
    fit = pyrozoo.fit("gaussian_mf", "em", data=own, num_factors=1, max_iterations=3, restarts=1, progress=False)
    found = results.results_of(fit, fit.reading).frame
    assert found["mean"].notna().tolist() == [False] * 4 + [True]
    lost = replace(fit.reading, own=lambda: own.iloc[:-1])
    assert "is not what it was" in refused(DataError, results.results_of, fit, lost)


def test_sizes_up_to_which_a_table_is_given_back():
    def said(lines: int, left_out: int = 0, places: int = 2, asked: Any = None, rows: int = 3) -> str | None:
        reading: Any = SimpleNamespace(asked=asked, lines=range(lines), left_out=range(left_out), places=range(places))
        return results.too_large(reading, SimpleNamespace(values=range(lines), shape=(rows, 2)))

    assert said(2_000_000, 1, 4) is None
    assert "2000001 lines are more than 2000000" in str(said(2_000_001, 0, 1))
    assert "10000006 cells are more than 10000000" in str(said(1_666_667 + 1, 2, 4)) or said(1_666_666, 2, 4) is None
    assert "12000000 cells are more than 10000000" in str(said(2_000_000, 2, 4))
    assert said(5_000_000, asked=[], rows=2_000_000) is None, "a line for each row"
    assert said(10, asked=[], rows=2_000_001) is not None
    assert said(2_000_000, 2, 9, asked=[1]) is None, "a list has three columns"
    assert "12000000 cells" in str(said(2_000_000, 3, 9, asked=[1]))


def test_metrics_are_written_anew_where_the_fit_is_kept(tmp_path):
    fit: Any = SimpleNamespace(metrics={"rhat_max": 1.5, "status": "completed"})
    run_directory.write_run(fit, None, tmp_path, "", None, kept=True, report="none")
    assert run_directory.read_metrics(tmp_path) == fit.metrics
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_failures_are_told_of_their_directory(tmp_path):
    write_failure(tmp_path / "a", "failed", "no rows", "zip_mixture", "em")
    assert run_directory.read_metrics(tmp_path / "a") == {
        "model": "zip_mixture", "method": "em", "status": "failed", "error": "no rows",
    }  # fmt: skip
    row = run_directory.absent_row(tmp_path / "a", DataError("why"))
    assert row == {"run": "a", "model": "", "method": "", "status": "failed", "error": "why"}, "no configuration"
    (tmp_path / "a" / ".hydra").mkdir()
    (tmp_path / "a" / ".hydra" / "config.yaml").write_text("model: {name: m}\ninference: {name: i}\n")
    assert run_directory.absent_row(tmp_path / "a", DataError("why")) == {
        "run": "a", "model": "m", "method": "i", "status": "failed", "error": "no rows",
    }  # fmt: skip


# Synthetic rows -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def survey():
    return pyrozoo.fit(
        case("categorical_fa").model, "vem", data=case("categorical_fa").tiny, max_iterations=5, progress=False
    )


def test_synthetic_rows_are_the_same_as_a_table_and_as_a_file(survey, tmp_path, monkeypatch):
    for holes in (True, False):
        frame = synthetic.synthetic_frame(survey, 50, None, 3, holes)
        path = synthetic.write_synthetic(survey, tmp_path / "a.csv", 50, None, 3, progress=False, holes=holes)
        again = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert (
            again.to_numpy().tolist()
            == neutral(frame).astype(object).where(frame.notna(), "").astype(str).to_numpy().tolist()
        )
        assert list(again.columns) == list(frame.columns)
        assert frame.isna().any().any() == holes
    whole = synthetic.synthetic_frame(survey, 50, None, 3, holes=False)
    gaps = synthetic.synthetic_frame(survey, 50, None, 3)
    assert gaps.isna().any().any(), "unless they are left out"
    assert (whole.astype(str)[gaps.notna()] == gaps.astype(str)[gaps.notna()]).where(gaps.notna(), True).all().all(), (
        "holes change no answer"
    )
    column = str(survey.data.column_labels[0])
    level = survey.data.levels[0][0]
    given = synthetic.synthetic_frame(survey, 50, {column: level}, 3)
    assert set(given[column].astype(str)) == {level}, "what is given has no holes"
    told: list[int] = []
    shown = SimpleNamespace(update=told.append)
    monkeypatch.setattr(synthetic, "bar", lambda total, *_, **__: contextlib.nullcontext(shown))
    synthetic.write_synthetic(survey, tmp_path / "a.csv", 50, None, 3, progress=True)
    assert sum(told) == 50, "a bar goes as far as there are rows"
    monkeypatch.setattr(run_directory, "write_page", lambda *_, **__: None)
    for count, brief, lines in ((None, False, survey.data.shape[0]), (7, True, 7), (None, True, None)):
        run = tmp_path / f"{count} {brief}"
        run_directory.write_report_of(survey, {}, run, "", None, synthetic_rows=count, brief=brief)
        path = run / "tables" / "synthetic.csv"
        assert (len(pd.read_csv(path)) if path.exists() else None) == lines
    with pytest.raises(SettingError, match="synthetic_rows is 0"):
        synthetic.synthetic_frame(survey, 0, None, 3)
