"""Many short columns are read together: each as it is read alone, and none by work of its own."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pyrozoo.core.errors import DataError
from pyrozoo.data.container import Hidden
from pyrozoo.data.readers import blocks
from pyrozoo.data.readers.cells import numbers
from pyrozoo.data.readers.layout import Layout, Wanted
from pyrozoo.data.readers.source import own_table
from pyrozoo.data.readers.words import place, places
from pyrozoo.data.survey import Survey
from tests.case import refused
from tests.files import read_survey

NAN = float("nan")


class Word(str):
    """Text that is called otherwise than it is spelled."""

    def __str__(self) -> str:
        return "called"


MIXED: dict[str, tuple[object, list[str], list[float]]] = {
    "text": (pd.Series([" yes", "no", "none", "NA", "none"], dtype=object), ["no", "yes"], [1, 0, NAN, NAN, NAN]),
    "other": (pd.Series(["no", "yes ", "b", "no", "none"], dtype=object), ["b", "no", "yes"], [1, 2, 0, 1, NAN]),
    "words": (["10", "9", "9", "x", "10"], ["10", "9", "x"], [0, 1, 1, 2, 0]),
    "numbers": (["10", "9", "1e1", "9", "09"], ["09", "9", "10", "1e1"], [2, 1, 3, 1, 0]),
    "nothing": (pd.Series([None] * 5, dtype=object), [], [NAN] * 5),
    "truth": ([True, False, True, True, False], ["False", "True"], [1, 0, 1, 1, 0]),
    "doubt": (pd.Series([True, None, True, True, None], dtype="boolean"), ["True"], [0, NAN, 0, 0, NAN]),
    "mixed": (
        pd.Series([True, 1, "1", 0.0, False], dtype=object), ["0", "1", "False", "True"], [3, 1, 1, 0, 2]
    ),
    "ones": (pd.Series([1, 1, 0, 0, 1], dtype=object), ["0", "1"], [1, 1, 0, 0, 1]),
    "called": (pd.Series([Word("no"), "yes", "yes", None, "yes"], dtype=object), ["called", "yes"], [0, 1, 1, NAN, 1]),
    "single": (np.array([0.1, 2, 0.1, NAN, 2], np.float32), ["0.1", "2"], [0, 1, 0, NAN, 1]),
    "double": ([0.1, -0.0, 0.0, 1e15, 12.0], ["0", "0.1", "12", "1000000000000000.0"], [1, 0, 0, 3, 2]),
    "whole": (np.array([3, 12, 3, -1, 3], np.int8), ["-1", "3", "12"], [1, 2, 1, 0, 1]),
    "narrow": (np.array([12, 3, 3, 3, 7], np.int8), ["3", "7", "12"], [2, 0, 0, 0, 1]),
    "holes": (pd.Series([3, None, 12, 3, 12], dtype="Int64"), ["3", "12"], [0, NAN, 1, 0, 1]),
    "large": ([2**53 + 1, 10**16, 2**53, 3, 3], ["3", "9007199254740992", "9007199254740993", "1" + "0" * 16],
              [2, 3, 1, 0, 0]),
    "vast": (pd.Series([10**16, None, 3, 3, 12], dtype="Int64"), ["3", "12", "1" + "0" * 16], [2, NAN, 0, 0, 1]),
    "decimal": (pd.Series([Decimal("1.50"), Decimal("2"), None, Decimal("2.0"), Decimal("-3")], dtype=object),
                ["-3", "1.50", "2"], [1, 2, NAN, 2, 0]),
    "ranked": (pd.Categorical(["b", "a", None, "a", "b"], ["c", "b", "a"]), ["b", "a"], [0, 1, NAN, 1, 0]),
    "likewise": (pd.Categorical(["a", "a", "c", "a", "a"], ["c", "b", "a"]), ["c", "a"], [1, 1, 0, 1, 1]),
    "classes": (pd.Categorical(["z", "y", "z", "z", "y"], ["z", "y"]), ["z", "y"], [0, 1, 0, 0, 1]),
    "coded": (pd.Categorical([2, 1, 2, 2, None], [2, 1]), ["2", "1"], [0, 1, 0, 0, NAN]),
    "cut": (pd.cut(pd.Series([1.0, 3, 9, NAN, 1]), [0, 2, 4, 10]), ["(0, 2]", "(2, 4]", "(4, 10]"], [0, 1, 2, NAN, 0]),
}  # fmt: skip
"""Columns, their levels and codes by hand."""

FRAME = pd.DataFrame({name: pd.Series(cells) for name, (cells, _, _) in MIXED.items()})


@pytest.fixture(params=[(1, 4), (7, 0), (25, 4), (2**16, 4), (2**16, 0)], ids=str)
def sizes(request, monkeypatch):
    """Blocks of one column, of a few or of all, counted in either way."""
    monkeypatch.setattr(blocks, "CELLS", request.param[0])
    monkeypatch.setattr(blocks, "SPARSE", request.param[1])


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("names", [[*MIXED], ["text", "other", "called"]], ids=["all", "texts"])
def test_columns_of_every_type_beside_each_other(names):
    survey = Survey.of(FRAME[names])
    for column, name in enumerate(names):
        _, levels, codes = MIXED[name]
        assert list(survey.levels[column]) == levels, name
        np.testing.assert_array_equal(survey.values[:, column], codes, err_msg=name)
    assert survey.notes == ("3 answers of survey are spelled 'none', which is taken for a missing answer",)
    kinds = {name: kind.name for name, kind in zip(names, survey.kinds, strict=True)}
    wanted = {
        "truth": "bool", "doubt": "boolean", "ones": "int64", "single": "float32", "whole": "int8", "holes": "Int64",
        "decimal": "object", "cut": "category",
    }  # fmt: skip
    assert {name: kinds[name] for name in wanted if name in kinds} == {n: k for n, k in wanted.items() if n in kinds}


@pytest.mark.usefixtures("sizes")
def test_whole_numbers_are_floats_in_files_where_some_are_missing():
    table = pa.table({"vast": [10**16, None, 3], "large": [10**16, 10**16, 3], "few": [7, None, 7]})
    assert read_survey(table).levels == (("3", "1e+16"), ("3", "1" + "0" * 16), ("7",))


def source(folder, frame, kind):
    """Return a table as it may come."""
    if kind == "csv":
        frame.to_csv(folder / "x.csv", index=False)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "x.parquet")
    else:
        return frame if kind == "frame" else pa.Table.from_pandas(frame, preserve_index=False)
    return folder / f"x.{kind}"


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("kind", ["of", "frame", "arrow", "csv", "parquet"])
def test_a_column_beside_others_is_read_as_it_is_alone(tmp_path, kind):
    def read(frame):
        return Survey.of(frame) if kind == "of" else read_survey(source(tmp_path, frame, kind), missing=["b"])

    frame = FRAME if kind == "of" else FRAME.drop(columns=["cut", "mixed", "called", "decimal"])  # which Arrow has not
    whole = read(frame)
    for column, name in enumerate(frame):
        alone = read(pd.DataFrame({"line": [1, 1, 1, 2, 2], name: frame[name]}))  # alone, a blank line were none
        assert alone.levels[1] == whole.levels[column], name
        assert alone.kinds[1] == whole.kinds[column], name
        np.testing.assert_array_equal(alone.values[:, 1], whole.values[:, column], err_msg=name)


@pytest.mark.parametrize("cells", [["yes", "no", "no"], [3, 1, 3], [0.5, NAN, 2], ["", "", "a"], [True, False, True]])
@pytest.mark.parametrize("kind", ["npz", "csv", "parquet", "frame", "array"])
def test_short_columns_are_told_apart_together(tmp_path, monkeypatch, kind, cells):
    """Of 500 columns, not one by one: the most is 30 blocks."""
    array = np.array([cells] * 500).T
    frame = pd.DataFrame(array).add_prefix("q")
    np.savez(tmp_path / "x.npz", array)
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet")
    made, distinct, factorize, series = [], blocks.distinct, pd.factorize, pd.Series.__init__
    monkeypatch.setattr(blocks, "distinct", lambda *each: made.append(1) or distinct(*each))
    monkeypatch.setattr(pd, "factorize", lambda *each: made.append(1) or factorize(*each))
    if kind != "frame":  # whose columns are such
        monkeypatch.setattr(pd.Series, "__init__", lambda *each, **more: made.append(1) or series(*each, **more))
    found = read_survey({"frame": frame, "array": array}.get(kind, tmp_path / f"x.{kind}"))
    assert found.shape == (3, 500)
    assert len({*found.levels}) == len({*found.kinds}) == 1
    assert len(made) <= 30


@pytest.mark.usefixtures("sizes")
def test_the_first_cell_that_is_no_category_is_named():
    """The first column, and in it the first row, whatever their types; of a category the first in its order."""
    days, large = pd.to_datetime(["2020-01-02", None, "2020-01-01"]), [1.0, np.inf, np.inf]
    frame = pd.DataFrame({"a": ["a", "b", "a"], "b": large, "c": days, "d": [[1], "x", "x"], "e": large})
    said = refused(DataError, Survey.of, frame)
    assert said.startswith("survey: row '1', column 'b': a value of type float64 is infinite")
    said = refused(DataError, Survey.of, frame.drop(columns="b"))
    assert said.startswith("survey: row '0', column 'c': a value of type datetime64 is neither text nor a number")
    assert "row '0', column 'd': a value of type list" in refused(DataError, Survey.of, frame[["a", "d", "c", "b"]])
    ranked = frame.assign(b=pd.Categorical(days))
    assert "row '2', column 'b': a value of type Timestamp" in refused(DataError, Survey.of, ranked)
    said = refused(DataError, Survey.of, frame.assign(a=["x", "y", "z"]), most_levels=2)
    assert said.startswith("survey: column 'a' has 3 categories, more than 2"), "which comes before"
    assert "column 'b': a value" in refused(DataError, Survey.of, frame.assign(c=["x", "y", "z"]), most_levels=2)


def test_the_first_cell_is_that_of_the_rows_that_are_left():
    days = pa.array([2, 1, 1, 2], pa.date32())
    table = pa.table({"row": [*"wxyz"], "a": ["p", "q", "p", "q"], "b": days, "times": [0, 0, 1, 1]})
    said = refused(DataError, read_survey, table, row_labels="row", frequency="times")
    assert said.startswith("the data: row 'y', column 'b': a value of type date is neither text nor a number")


@pytest.mark.usefixtures("sizes")
def test_what_is_said_of_columns_is_said_in_their_order(tmp_path):
    frame = pd.DataFrame({
        "a": ["-", "x", "x", "-", "y"], "b": [1, 2, 3, 4, 5], "c": ["x", "y", "z", "v", "w"],
        "d": ["x", "*", "*", "x", "x"], "e": [1, -99, 2, 2, -99], "f": ["-9", "1", "1", "2", "2"],
        "g": ["missing", "-", "-", "x", "x"],
    })  # fmt: skip
    frame.to_csv(tmp_path / "x.csv", index=False)
    doubt = "may mean that there is no answer: data.missing=[] takes it as a category"
    many, out = "has 5 categories, more than 3", "or leave it out (data.exclude; data.most_levels=5 takes them)"
    for given, name in ((tmp_path / "x.csv", "x.csv"), (frame, "the data")):
        said = refused(DataError, read_survey, given, most_levels=3).partition(". Type: ")[0]
        assert said.removeprefix(f"{name}: ").replace("; column", "\ncolumn").splitlines() == [
            f"column 'a': '-' (2 times) {doubt}",
            f"column 'b' {many}: it looks like a numeric column; cut it into classes, {out}",
            f"column 'c' {many}: are they identifiers or free text? merge some, {out}",
            f"column 'e': '-99' (2 times) {doubt}",
            f"column 'f': '-9' (1 times) {doubt}",
            f"column 'g': 'missing' (1 times) {doubt}",
            f"column 'g': '-' (2 times) {doubt}",
        ]
    found = read_survey(frame, missing=["-99", "-9", "*"])
    assert found.levels[3:6] == (("x",), ("1", "2"), ("1", "2"))
    assert read_survey(frame[["b", "c", "d"]], most_levels=5).notes[0].startswith("column 'd': '*' is a cat")


def test_numbers_that_mean_missing_do_in_categories_of_numbers():
    frame = pd.DataFrame({"q": pd.Categorical([3, 1, 99, 3]), "r": [3, 1, 99, 3]})
    for column in read_survey(frame, missing=[99]).values.T:
        np.testing.assert_array_equal(column, [1, 0, NAN, 1])


def test_a_column_whose_type_spells_no_levels_is_text_and_others_are_not():
    frame = pd.DataFrame(
        {"a": pd.Series([10**30, 5], dtype=object), "b": pd.Series([7, None], dtype=object), "c": [1, 2]}
    )
    assert [kind.name for kind in Survey.of(frame).kinds] == ["object", "Int64", "int64"]


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize(("decimal", "missing"), [(".", ()), (",", ("9", "x"))])
def test_numbers_of_columns_are_those_of_each(decimal, missing):
    """And what spells none, as it occurs, how often and where first."""
    words = {
        "a": ["1", " x", "9", "x", "n/a"], "b": ["x", "true", "y ", "y", "1,5"], "c": ["False", "9.0", "", None, "2"],
        "d": [None] * 5, "e": ["y", "x", "y", "1.234", "9"], "f": ["1", "2", "3", "4", "5"],
    }  # fmt: skip
    columns = [pa.chunked_array([pa.array(cells[:2], pa.string()), cells[2:]]) for cells in words.values()]
    columns += [columns[0].dictionary_encode(), pa.chunked_array([[True, None, True, False, True]])]
    columns += [pa.chunked_array([[1, 9, None, 3, 9]])]
    for found, column in zip(blocks.numbers_in(columns, decimal, missing), columns, strict=True):
        values, bad = numbers(column, decimal, missing)
        np.testing.assert_array_equal(found[0], values)
        assert (list(found[1].spelled.items()), found[1].truth) == (list(bad.spelled.items()), bad.truth)
    _, bad = next(blocks.numbers_in(columns[1:]))
    assert list(bad.spelled.items()) == [("x", (1, 0)), ("y", (2, 2)), ("1,5", (1, 4))]
    assert bad.truth


def test_ones_own_table_loses_no_digit_and_no_word(tmp_path):
    """Of whole numbers with and without holes; a word after many numbers leaves the column as it is spelled."""
    lines = ["a,b,c,d", "12345678901234567,12345678901234567,1,0.5", "5,,007,.5", *["1,1,1,1"] * 120, "1,1,1,true"]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    own = own_table(tmp_path / "x.csv", Layout(), Wanted())
    assert own["a"].tolist()[:2] == [12345678901234567, 5]
    assert own["b"].tolist()[:1] == [12345678901234567]
    assert [str(own[name].dtype) for name in "ab"] == ["int64", "Int64"]
    assert own["b"].isna().tolist()[:3] == [False, True, False]
    assert own["c"].tolist()[:2] == ["1", "007"]
    assert (own["d"].iloc[0], own["d"].iloc[-1]) == ("0.5", "true")


def test_recoded_surveys_keep_what_is_hidden_and_name_what_is_new():
    """The first column with an unknown level is named: its observed cells first, then its hidden ones."""
    values = torch.tensor([[0, 1.0, NAN], [1, NAN, 0], [NAN, 0, NAN]], dtype=torch.float64)
    cells = torch.tensor([[0, 2, 1], [2, 2, NAN], [2, 0, 2]], dtype=torch.float64)
    hidden = Hidden(cells[:, 0].long(), cells[:, 1].long(), cells[:, 2])
    survey = Survey(values, [*"xyz"], [*"abc"], levels=[["m", "n", "l"], ["o", "p"], ["q", "r"]], hidden=hidden)
    found = survey.recoded([["l", "n", "m"], ["o", "p"], ["r", "q"]])
    np.testing.assert_array_equal(found.values, [[2, 1, NAN], [1, NAN, 1], [NAN, 0, NAN]])
    np.testing.assert_array_equal(found.hidden.values, [0, NAN, 0])
    assert found.levels == (("l", "n", "m"), ("o", "p"), ("r", "q"))
    said = "row {!r}, column {!r}: {!r} is a category never seen in training; it knows {}"
    for levels, named in (
        ([["m"], ["p"], ["q"]], said.format("y", "a", "n", "'m'")),
        ([["m", "n"], ["p"], ["q"]], said.format("z", "a", "l", "'m', 'n'")),
        ([["m", "n", "l"], ["p"], ["q"]], said.format("z", "b", "o", "'p'")),
        ([["m", "n", "l"], ["o", "p"], ["q"]], said.format("x", "c", "r", "'q'")),
        ([["m", "n", "l"], ["o", "p"], ["s"]], said.format("y", "c", "q", "'s'")),
    ):
        assert refused(DataError, survey.recoded, levels).endswith(named)


def test_units_are_told_from_words_column_by_column(tmp_path):
    """A second line of words is one of units over numbers, not over nothing."""
    (tmp_path / "x.csv").write_text("a,b,c\nkg,cm,x\n,1,y\n,2,z\n")
    assert list(own_table(tmp_path / "x.csv", Layout(), Wanted())) == ["a", "b [cm]", "c"]
    (tmp_path / "x.csv").write_text("a,b,c\nkg,cm,3\n1,1,4\n2,2,5\n")
    assert list(own_table(tmp_path / "x.csv", Layout(), Wanted())) == ["a", "b", "c"], "c has a number there"


def test_many_columns_are_found_by_any_of_their_names():
    names = ["a", "b [kg]", "2", "b", "a", "c (m)", "c (s)"]
    assert places(["a", " b ", "2", 2, "B", "5", -1, "c", "7", "x"], names) == [
        0,
        3,
        2,
        2,
        None,
        5,
        6,
        None,
        None,
        None,
    ]
    assert [place(each, names) for each in ("a", 5, "x")] == [0, 5, None]
