"""Survey: categories from DataFrames, arrays and files, test rows matched by name, Cramér's V, the way to disk."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
from dataclasses import dataclass

import arviz as az
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats.contingency import association

from pyrozoo.contracts.model import Model
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.settings import check_types
from pyrozoo.data.container import Hidden
from pyrozoo.data.named import read_named, votes
from pyrozoo.data.readers.cells import MISSING
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.survey import MOST_LEVELS, Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.math.association import cramers_v, pair_counts
from pyrozoo.run import catalog
from pyrozoo.run.names import model_of
from pyrozoo.run.source import read
from tests.case import refused
from tests.files import read_survey

NAN = float("nan")

FRAME = pd.DataFrame(
    {
        "party": pd.Categorical(["left", "right", None, "left"], categories=["right", "centre", "left"]),
        "vote": [" y", "n", "?", "y "],
        "grade": [10.0, 2.0, NAN, 2.0],
        "age": ["10", "9", "N/A", "9"],
        "member": [True, False, True, True],
    },
    index=["a", "b", "c", "d"],
)


def write(folder, text, name="survey.csv"):
    path = folder / name
    path.write_bytes(text.encode())
    return path


def drawn(rows, sizes, missing=0.2, seed=0):
    """Codes with missing answers, related by a common cause."""
    generator = np.random.default_rng(seed)
    cause = generator.integers(0, 2, rows)
    codes = np.stack([(generator.integers(0, size, rows) * cause) for size in sizes], 1).astype(float)
    codes[generator.random(codes.shape) < missing] = NAN
    return codes


def test_columns_of_every_kind_become_categories():
    survey = Survey.of(FRAME)
    assert survey.levels == (("right", "left"), ("n", "y"), ("2", "10"), ("9", "10"), ("False", "True"))
    assert survey.categories == (2, 2, 2, 2, 2)
    expected = [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [NAN, NAN, NAN, NAN, 1], [1, 1, 0, 0, 1]]
    np.testing.assert_array_equal(survey.values, expected)
    assert survey.values.dtype == torch.float64
    assert survey.row_labels == ["a", "b", "c", "d"]
    assert survey.column_labels == list(FRAME.columns)
    assert survey.name == "survey"
    assert survey.notes == ()


def test_arrays_tensors_and_tables_are_the_same_survey():
    codes = np.array([[0, 2.0], [1, 7], [NAN, 2]])
    survey = Survey.of(codes)
    assert survey.levels == (("0", "1"), ("2", "7"))
    assert survey.column_labels == ["column_0", "column_1"]
    for other in (torch.as_tensor(codes), Table.of(codes), codes.astype(object), np.ma.masked_invalid(codes)):
        assert Survey.of(other).same(survey), type(other)
    text = np.array([["0", "2"], ["1", "7"], ["nan", "2"]])
    assert Survey.of(text).same(survey)
    assert Survey.of(text.tolist()).same(survey)
    assert not Survey.of(codes + 1).same(survey), "the same codes of other categories"
    assert Survey.of(survey) is survey


def test_a_table_keeps_what_it_hides_and_its_test_rows():
    hidden = Hidden(torch.tensor([0]), torch.tensor([1]), torch.tensor([9.0]), at_random=False)
    test = Table(torch.tensor([[7.0, NAN]]), ["new"], ["a", "b"], hidden=dataclasses.replace(hidden, at_random=True))
    values = torch.tensor([[5.0, NAN], [7.0, 3.0], [5.0, 3.0]])
    survey = Survey.of(Table(values, "xyz", ["a", "b"], hidden=hidden, test=test, notes=("as read",)))
    assert survey.levels == (("5", "7"), ("3", "9"))
    np.testing.assert_array_equal(survey.values, [[0, NAN], [1, 0], [0, 0]])
    assert survey.hidden.values.tolist() == [1]
    assert not survey.hidden.at_random
    assert survey.notes[0] == "as read"
    np.testing.assert_array_equal(survey.test.values, [[1, NAN]])
    assert survey.test.hidden.values.tolist() == [1]


def test_numbers_and_numbers_as_text_are_in_order_of_size():
    frame = pd.DataFrame({"number": [10.5, 9, -1], "text": ["1e1", "-3", "9"], "mixed": ["10", "9", "x"]})
    assert Survey.of(frame).levels == (("-1", "9", "10.5"), ("-3", "9", "1e1"), ("10", "9", "x"))
    single = np.array([[0.1], [16777216.0]], dtype=np.float32)
    assert Survey.of(single).levels == (("0.1", "16777216"),), "spelled as short as its precision allows"
    assert Survey.of(np.array([["1_0"], ["9"]])).levels == (("1_0", "9"),), "which is no number"


def test_equal_cells_of_other_types_stay_apart():
    column = np.array([[1], [True], ["1"], [1.0], [" 1 "], [np.int8(1)]], dtype=object)
    survey = Survey.of(column)
    assert survey.levels == (("1", "True"),)
    assert survey.values.flatten().tolist() == [0, 1, 0, 0, 0, 0]


def test_classes_of_pandas_cut_keep_their_order():
    ages = pd.cut(pd.Series([70, 5, NAN, 31, 30]), [0, 9, 30, 50, 100])
    survey = Survey.of(pd.DataFrame({"age": ages}))
    assert survey.levels == (("(0, 9]", "(9, 30]", "(30, 50]", "(50, 100]"),)
    np.testing.assert_array_equal(survey.values.flatten(), [3, 0, NAN, 2, 1])


@pytest.mark.parametrize("kind", ["Int64", "string", "boolean", "category", "str", object])
def test_extension_types_of_pandas(kind):
    cells = pd.Series(
        [True, None, False] if kind == "boolean" else [1, None, 0] if kind == "Int64" else ["b", None, "a"]
    )
    survey = Survey.of(pd.DataFrame({"x": cells.astype(kind)}))
    np.testing.assert_array_equal(survey.values.flatten(), [1, NAN, 0])
    assert len(survey.levels[0]) == 2


@pytest.mark.parametrize("spelling", sorted(MISSING))
def test_spellings_of_missing_answers(spelling):
    cells = ["x", f" {spelling.upper()} ", "y", "y"]
    for column in (np.array(cells, dtype=object), pd.Categorical(cells), np.array([*cells[:3], 7], dtype=object)):
        survey = Survey.of(pd.DataFrame({"a": column}), "poll")
        assert survey.observed.flatten().tolist() == [True, False, True, True]
        notes = ["1 rows of poll have no answer"]
        notes += ["1 answers of poll are spelled 'none', which is taken for a missing answer"] * (spelling == "none")
        assert list(survey.notes) == notes


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (np.zeros(3), "two axes (rows, columns), not shape (3,)"),
        (np.zeros((2, 2, 2)), "two axes (rows, columns), not shape (2, 2, 2)"),
        (pd.Series(["a"]), "two axes"),
        ([["a"], ["b", "c"]], "different lengths"),
        (np.empty((0, 2)), "empty"),
        (pd.DataFrame(), "empty"),
        (np.zeros((2, 2), complex), "complex128"),
        (np.zeros((2, 2), "datetime64[D]"), "not categories"),
        (np.array([[1.0], [np.inf]]), "row 'row_1', column 'column_0': a value of type float64 is infinite"),
        (Table(torch.tensor([[math.inf]]), ["r"], ["c"]), "infinite"),
        (
            np.array([["a"], [[1]]], dtype=object),
            "row 'row_1', column 'column_0': a value of type list is neither text nor a number",
        ),
        (
            pd.DataFrame({"when": [datetime.datetime(2020, 1, 1)]}),
            "column 'when': a value of type datetime64 is neither text nor a number",
        ),
        (pd.DataFrame({"who": pd.Categorical([b"x"])}), "column 'who'"),
        (pd.DataFrame({"long": pd.to_timedelta([1])}), "column 'long': a value of type timedelta64 is neither"),
        (pd.DataFrame([["a\nb", object()]], columns=["x\ny", "z"]), "column 'z'"),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), "'x' appears twice"),
        (pd.DataFrame([["a", "b"]], columns=["1", 1]), "'1' appears twice"),
        (pd.DataFrame([["b=c", "c"]], columns=["a", "a=b"]), "called 'a=b=c'"),
        (Triplets.of(np.eye(2)), "a survey (rows by columns) is needed, not triplets"),
    ],
)
def test_what_is_no_survey_is_refused_by_name(source, named):
    assert named in refused(DataError, Survey.of, source)


def test_columns_of_many_categories_are_refused_by_name():
    count = MOST_LEVELS + 1
    for cells in (np.arange(count) / 3, [f"{i / 3:.3f}" for i in range(count)], range(count)):
        message = refused(DataError, Survey.of, pd.DataFrame({"fine": 0, "income": cells}))
        assert f"column 'income' has {count} categories, more than {MOST_LEVELS}" in message
        assert "looks like a numeric column; cut it into classes (pandas.cut), or leave it out" in message
    for cells in ([f"id {i}" for i in range(count)], ["x", *range(count - 1)]):
        message = refused(DataError, Survey.of, pd.DataFrame({"who": cells}))
        assert "column 'who'" in message
        assert "identifiers or free text" in message
    fewer = Survey.of(pd.DataFrame({"who": range(count - 1)}))
    assert fewer.categories == (MOST_LEVELS,)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (-1, "column 'b': -1 is negative"),
        (0.5, "column 'b': 0.5 is not a whole number"),
        (2, "column 'b': 2 is too large"),
        (math.inf, "column 'b': inf is infinite"),
        (-math.inf, "infinite"),
    ],
)
def test_values_that_are_no_codes_are_refused_by_name(value, named):
    values = torch.tensor([[2.0, 0.0], [NAN, value]])
    levels = [["x", "y", "z"], ["n", "y"]]
    assert named in refused(DataError, Survey(values, ["r", "s"], ["a", "b"], levels=levels).checked)
    assert "row 's'" in refused(DataError, Survey.of, Survey(values, ["r", "s"], ["a", "b"], levels=levels))


def test_levels_are_numbered_unless_they_are_given():
    values = torch.tensor([[2, 0], [1, 0]])
    survey = Survey(values, ["r", "s"], ["a", "b"])
    assert survey.levels == (("0", "1", "2"), ("0",))
    assert survey.values.is_floating_point()
    assert survey.checked() is survey
    assert Survey(torch.full((2, 1), NAN), "rs", "a").levels == (("0",),)
    assert Survey(torch.empty(0, 1), [], "a").levels == (("0",),)
    hidden = Hidden(torch.tensor([0]), torch.tensor([0]), torch.tensor([3.0]))
    assert Survey(torch.tensor([[NAN], [1.0]]), "rs", "a", hidden=hidden).categories == (4,)
    huge = Survey(torch.tensor([[1e12]]), "r", "a")
    assert "too large" in refused(DataError, huge.checked)
    assert "levels of 1 columns" in refused(DataError, Survey, values, "rs", "ab", levels=[["x"]])
    assert "column 'b' has the category 'x' twice" in refused(
        DataError, Survey, values, "rs", "ab", levels=[["x", "y", "z"], ["x", "x"]]
    )


def test_columns_of_which_nothing_can_be_learned_are_refused_in_training_only():
    frame = pd.DataFrame({"a": ["x", "y"], "b": ["only", "only"]})
    message = refused(DataError, Survey.of(frame).refuse_degenerate)
    assert message == "survey: column 'b' has one category only ('only'): nothing can be learned of it"
    empty = Survey.of(frame.assign(b=None))
    assert "column 'b' has no answer at all" in refused(DataError, empty.refuse_degenerate)
    good = Survey.of(frame.assign(b=["u", "v"]))
    good.refuse_degenerate()
    assert good.with_test(empty).test.observed.tolist() == [[True, False], [True, False]]
    hidden = Survey.of(pd.DataFrame({"a": ["x", "y"] * 5})).hold_out(0.99, 0)
    assert int(hidden.observed.sum()) == 1
    hidden.refuse_degenerate()  # both categories are known all the same


def test_rows_without_an_answer_are_noted():
    survey = Survey.of(pd.DataFrame({"a": ["x", None, "y"], "b": ["u", "?", "v"]}), "poll")
    assert survey.notes == ("1 rows of poll have no answer",)
    assert not survey.observed[1].any()


def test_coordinates_name_every_category_once():
    coords = Survey.of(FRAME).coords
    assert coords["category"][:4] == ["party=right", "party=left", "vote=n", "vote=y"]
    assert coords["contrast"] == ["party=right", "vote=n", "grade=2", "age=9", "member=False"]
    assert len(set(coords["category"])) == 10
    assert coords["column"] == list(FRAME.columns)


def test_test_rows_are_matched_by_the_names_of_categories():
    survey = Survey.of(pd.DataFrame({"a": ["z", "y", "x"], "b": ["n", "y", "n"]}))
    new = Survey.of(pd.DataFrame({"a": ["z", None, "z"], "b": ["y", "y", None]}, index=["p", "q", "r"])).hold_out(
        0.2, 1
    )
    assert len(new.hidden.values) == 1
    known = survey.with_test(new)
    assert known.same(survey)
    assert known.test.levels == survey.levels
    whole = known.test.values.clone()
    whole[known.test.hidden.rows, known.test.hidden.columns] = known.test.hidden.values
    np.testing.assert_array_equal(whole, [[2, 1], [NAN, 1], [2, NAN]])
    assert known.test.row_labels == ["p", "q", "r"]


def test_test_rows_that_do_not_fit_are_refused_by_name():
    survey = Survey.of(pd.DataFrame({"a": ["x", "y"], "b": ["n", "y"]}))
    new = pd.DataFrame({"a": ["x", "y"], "b": ["n", "maybe"]}, index=["p", "q"])
    message = refused(DataError, survey.with_test, Survey.of(new, "new.csv"))
    expected = "new.csv: row 'q', column 'b': 'maybe' is a category never seen in training; it knows 'n', 'y'"
    assert message == expected
    hidden = Survey.of(new, "new.csv").hide(torch.tensor([1]), torch.tensor([1]))
    assert refused(DataError, survey.with_test, hidden) == expected, "hidden answers too"
    assert "1 columns where survey has 2" in refused(DataError, survey.with_test, Survey.of(new[["a"]]))
    other = Survey.of(new.rename(columns={"b": "c"}))
    assert refused(DataError, survey.with_test, other) == "the new rows have column 'c' where survey has 'b'"
    assert "column 'b' where survey has 'a'" in refused(DataError, survey.with_test, Survey.of(new[["b", "a"]]))
    unnamed = Survey.of(np.array([["y", "y"], ["y", None]], dtype=object))
    np.testing.assert_array_equal(survey.with_test(unnamed).test.values, [[1, 1], [1, NAN]])
    assert survey.with_test(unnamed).test.column_labels == ["a", "b"]


def test_what_is_given_is_found_by_name():
    survey = Survey.of(FRAME)
    assert survey.codes_of({"vote": "y", "grade": 10.0, "member": False}) == {1: 1, 2: 1, 4: 0}
    assert survey.codes_of({}) == {}
    message = refused(SettingError, survey.codes_of, {"vot": "y"})
    assert message.startswith("survey has no column 'vot'; did you mean 'vote'? choices: age, grade")
    message = refused(SettingError, survey.codes_of, {"party": "lefty"})
    assert message == "survey: column 'party' has no category 'lefty'; did you mean 'left'? choices: left, right"
    for value in (None, "?", [1], math.inf):
        assert "column 'vote' has no category" in refused(SettingError, survey.codes_of, {"vote": value})
    assert "no column" in refused(SettingError, Survey.of(np.array([["a\nb"]])).codes_of, {"x\ny": "z"})


def test_parts_keep_the_categories():
    survey = Survey.of(FRAME)
    assert survey.first(1).levels == survey.levels
    assert survey.first(1).shape == (1, 5)
    part = survey.batch(torch.tensor([1, 3])).batch(torch.tensor([1]))
    assert part.levels == survey.levels
    assert (part.total_rows, part.rows.tolist(), part.row_labels) == (4, [3], ["d"])
    single = survey.to("cpu", torch.float32)
    assert single.values.dtype == torch.float32
    assert single.levels == survey.levels
    assert single.same(survey)
    assert survey.missing.hidden.values.isnan().all()
    assert len(survey.missing.hidden.values) == 4


def test_frames_give_back_the_names():
    survey = Survey.of(FRAME)
    frame = survey.frame()
    assert frame["vote"].tolist()[:2] == ["y", "n"]
    assert frame["vote"].isna().tolist() == [False, False, True, False]
    assert frame["party"].cat.categories.tolist() == ["right", "left"]
    assert frame.index.tolist() == list("abcd")
    assert frame.columns.tolist() == list(FRAME.columns)
    assert Survey.of(frame).same(survey)
    other = survey.frame(torch.tensor([[0, NAN, 1, 1, 0]]))
    assert other.index.tolist() == [0]
    assert other.iloc[0].tolist()[2:] == ["10", "10", "False"]
    assert other["party"].tolist() == ["right"]
    assert other["vote"].isna().all()
    assert survey.frame(torch.empty(0, 5)).shape == (0, 5)


# -- association --


def reference(codes):
    """Cramér's V from scipy, pair by pair over the rows that answer both."""
    width = codes.shape[1]
    result = np.eye(width)
    for i, j in itertools.permutations(range(width), 2):
        both = ~np.isnan(codes[:, [i, j]]).any(1)
        table = pd.crosstab(codes[both, i], codes[both, j]).to_numpy()
        result[i, j] = association(table, method="cramer") if min(table.shape, default=0) > 1 else 0
    return result


@pytest.mark.parametrize(
    ("rows", "missing", "seed"), [(500, 0.0, 0), (300, 0.3, 1), (40, 0.5, 2), (12, 0.6, 3), (8, 0.6, 4), (3, 0.5, 5)]
)
def test_cramers_v_is_that_of_scipy(rows, missing, seed):
    codes = drawn(rows, (2, 3, 5, 4, 7), missing, seed)
    codes[:, 2] = (codes[:, 0] + codes[:, 1]) % 5  # strongly related, and with fewer rows
    survey = Survey(torch.as_tensor(codes), range(rows), "abcde", levels=[list("0123456")] * 5)
    np.testing.assert_allclose(survey.cramers_v(), reference(codes), atol=1e-12)
    torch.testing.assert_close(survey.cramers_v(survey.values.float()), survey.cramers_v())


def test_cramers_v_at_its_ends():
    codes = torch.tensor([[0, 2, 1], [1, 0, 1], [2, 1, 1], [0, 2, 1.0]]).double()
    found = Survey(codes, range(4), "abc", levels=[list("0123")] * 3).cramers_v()
    torch.testing.assert_close(found, torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1.0]]).double())
    empty = Survey(torch.full((4, 2), NAN), range(4), "ab", levels=[list("01")] * 2)
    torch.testing.assert_close(empty.cramers_v(), torch.eye(2).double())
    independent = torch.tensor(list(itertools.product(range(3), range(4)))).double().repeat(100, 1)
    assert cramers_v(pair_counts(independent, (3, 4)), (3, 4))[0, 1] == 0


def test_cramers_v_of_probabilities_is_that_of_counts(monkeypatch):
    sizes = (3, 2, 4)
    codes = torch.as_tensor(drawn(200, sizes, 0.0))
    counts = pair_counts(codes, sizes)
    assert counts.sum() == 200 * 9
    assert torch.equal(counts, counts.mT)
    expected = torch.tensor(
        [[(codes[:, 0] == i).double() @ (codes[:, 2] == j).double() for j in range(4)] for i in range(3)]
    )
    torch.testing.assert_close(counts[:3, 5:], expected.double())
    batch = torch.stack([counts / 200, counts])
    torch.testing.assert_close(cramers_v(batch, sizes), cramers_v(counts, sizes).expand(2, -1, -1))
    monkeypatch.setattr("pyrozoo.math.association.BLOCK", 70)  # blocks of 7 rows
    assert torch.equal(pair_counts(codes, sizes), counts)


def test_statistics_are_of_the_cells_that_are_observed():
    codes = drawn(400, (2, 3, 4), 0.3, 6)
    survey = Survey.of(pd.DataFrame(codes, columns=list("abc")))
    found = survey.statistics(survey.values, "answer")
    assert found["answer_share"][0] == ("category",)
    expected = [
        float((codes[:, j] == i).sum() / (~np.isnan(codes[:, j])).sum()) for j in range(3) for i in range(2 + j)
    ]
    np.testing.assert_allclose(found["answer_share"][1], expected)
    assert found["association"][0] == ("pair",)
    row, column = np.tril_indices(3, -1)
    np.testing.assert_allclose(found["association"][1], reference(codes)[row, column])
    # Simulated values are complete: what the survey does not observe says nothing.
    complete = torch.where(survey.observed, survey.values, 0.0).long()
    again = survey.statistics(complete, "answer")
    for name in found:
        np.testing.assert_allclose(again[name][1], found[name][1])
    assert set(Survey.of(codes[:, :1]).statistics(torch.as_tensor(codes[:, :1]), "answer")) == {"answer_share"}
    wide = Survey.blank(5, 31)
    assert set(wide.statistics(wide.values, "answer")) == {"answer_share"}
    assert (wide.statistics(wide.values, "answer")["answer_share"][1] == 0).all()


# -- the way to disk --


def test_everything_comes_back_from_a_run_directory(tmp_path):
    frame = pd.DataFrame(drawn(30, (2, 3, 4), 0.1, 7), columns=["a", "b=", "ü"]).replace({0.0: "no = 0"})
    new = Survey.of(frame.iloc[:5]).hold_out(0.3, 2)
    survey = Survey.of(frame).with_test(new).hold_out(0.2, seed=1)
    truth = {"scale": torch.arange(3.0).double()}
    observed, extra = survey.stored("answer")
    assert extra["categories"][0] == ("column",)
    extra = {**extra, "true_scale": (("column",), truth["scale"].numpy())}
    statistics = survey.statistics(survey.values, "answer")
    groups = {"observed_data": {**statistics, **observed}, "constant_data": extra}
    stored = az.from_dict(
        **{group: {name: array for name, (_, array) in arrays.items()} for group, arrays in groups.items()},
        coords={name: list(each) for name, each in survey.coords.items()} | {"test_row": list(survey.test.row_labels)},
        dims={name: list(dims) for arrays in groups.values() for name, (dims, _) in arrays.items()},
    )
    stored.to_netcdf(str(tmp_path / "run.nc"), engine="h5netcdf")
    loaded = az.from_netcdf(str(tmp_path / "run.nc"), engine="h5netcdf")
    arrays = [{str(k): np.asarray(v.values) for k, v in loaded[group].items()} for group in groups]
    coords = {str(k): [str(label) for label in v.values] for group in groups for k, v in loaded[group].coords.items()}
    again = Survey.restore(*arrays, coords, "answer")
    assert again.same(survey)
    assert again.levels == survey.levels
    assert again.test.levels == survey.levels
    assert list(again.row_labels) == list(survey.row_labels)
    assert list(again.column_labels) == list(survey.column_labels)
    for one, other in ((again, survey), (again.test, survey.test)):
        np.testing.assert_array_equal(one.values, other.values)
        for name in ("rows", "columns", "values"):
            assert torch.equal(getattr(one.hidden, name), getattr(other.hidden, name))
    assert torch.equal(again.truth["scale"], truth["scale"])
    plain = Survey.of(frame)
    observed, extra = ({n: array for n, (_, array) in each.items()} for each in plain.stored("answer"))
    bare = Survey.restore(observed, extra, plain.coords, "answer")
    assert bare.same(plain)
    assert bare.hidden is None
    assert bare.test is None


# -- files --


def test_a_file_keeps_its_labels(tmp_path):
    text = 'id,Möwe,"answer, 2",size\n7,yes ,"a, b",10\n8,?,c,9\n9,no,c,\n'
    survey = read_survey(write(tmp_path, "\ufeff" + text), row_labels="id")
    assert survey.levels == (("no", "yes"), ("a, b", "c"), ("9", "10"))
    assert survey.column_labels == ["Möwe", "answer, 2", "size"]
    assert survey.row_labels == ["7", "8", "9"]
    assert survey.name == "survey.csv"
    np.testing.assert_array_equal(survey.values, [[1, 0, 1], [NAN, 1, 0], [0, 1, NAN]])
    tabs = write(
        tmp_path, text.replace(",", "\t").replace('"answer\t 2"', "x").replace('"a\t b"', "a, b"), "survey.tsv"
    )
    assert read_survey(tabs, columns=["2", "Möwe"]).levels == (("a, b", "c"), ("no", "yes"))
    semicolons = write(tmp_path, "a;b\nx;1,5\ny;2\n")
    assert read_survey(semicolons, delimiter=";").levels == (("x", "y"), ("1,5", "2"))


def test_the_first_line_names_the_columns_unless_it_is_said(tmp_path):
    path = write(tmp_path, "1,y\n2,n\n1,n\n")
    assert read_survey(path, header=True).column_labels == ["1", "y"]
    assert read_survey(path, header=True).levels == (("1", "2"), ("n",))
    assert read_survey(path).same(read_survey(path, header=False)), "a number is no name"
    assert read_survey(path, header=False).column_labels == ["column_0", "column_1"]
    assert read_survey(path, header=False).levels == (("1", "2"), ("n", "y"))
    path = write(tmp_path, "a,b\nx,None\ny,1.0\n")
    assert read_survey(path).notes == (
        "1 answers of survey.csv are spelled 'none', which is taken for a missing answer",
    )
    assert read_survey(path).levels[1] == ("1.0",), "as it is spelled"


@pytest.mark.parametrize(
    ("text", "arguments", "error", "named"),
    [
        ("", {}, DataError, "survey.csv is empty"),
        ("a,b\n", {}, DataError, "the survey is empty: it has no rows"),
        ("a,b\nx,y\nx\n", {}, DataError, "record 3 has 1 cells where 2 are expected"),
        (
            "y,y\nn,y\n",
            {"header": True},
            DataError,
            "'y' appears twice (if the first line does not name the columns, set data.header=false)",
        ),
        ('a\n"x\n', {}, DataError, "not a readable CSV"),
        ("a\nx\n", {"columns": ["b"]}, DataError, "no column 'b'"),
        ("a\nx\n", {"row_labels": "b"}, DataError, "no column 'b'"),
        ("a,b\nx,y\n", {"columns": ["a", "a"]}, DataError, "column 'a' twice"),
        ("a\nx\n", {"delimiter": '"'}, SettingError, "data.delimiter"),
        ("a\n" + "\n".join(map(str, range(31))), {}, DataError, "column 'a' has 31 categories"),
    ],
)
def test_bad_files_are_named(tmp_path, text, arguments, error, named):
    assert named in refused(error, read_survey, write(tmp_path, text), **arguments)


def test_absent_and_other_files_are_named(tmp_path):
    assert "no file" in refused(DataError, read_survey, tmp_path / "absent.csv")
    np.save(tmp_path / "x.npy", np.full((2, 2), 255, dtype=np.uint8))
    assert read_survey(tmp_path / "x.npy").levels == (("255",), ("255",))
    (tmp_path / "x.npy").write_bytes(b"a,b\nx,y\n\0")
    assert "x.npy is not a readable NumPy file" in refused(DataError, read_survey, tmp_path / "x.npy")


def test_new_rows_are_read_as_the_survey_was(tmp_path):
    path = write(tmp_path, "who,a,b\n1,x,10\n2,y,9\n")
    settings = catalog.settings("data", "survey") | {"path": str(path), "columns": ["b", "a"], "row_labels": "who"}
    new = write(tmp_path, "b,who,a\n10,3,?\n10,4,x\n", "new.csv")
    known = read(settings | {"test_path": str(new)}, Coins())
    np.testing.assert_array_equal(known.test.values, [[1, NAN], [1, 0]])
    assert known.test.row_labels == ["3", "4"]
    again = read({"source": "given"}, Coins(), given=known, test=new)
    np.testing.assert_array_equal(again.test.values, known.test.values)
    assert again.test.levels == known.levels, "labels, although the survey came from Python"


# -- simulation, and all of what settings ask for --


@dataclass(frozen=True)
class Coins(Model):
    """Answers are random, the truth is a site of their own."""

    def __call__(self, data: Survey) -> None:
        chance = pyro.sample("chance", dist.Beta(1.0, 1.0))
        sizes = torch.tensor(data.categories)
        with pyro.plate("column", len(sizes)), pyro.plate("row", data.shape[0]), pyro.poutine.mask(mask=data.observed):
            pyro.sample("answer", dist.Binomial(sizes - 1, chance), obs=data.filled)


def test_simulated_surveys_have_the_categories_asked_for():
    data = simulate_data(Coins(), rows=200, columns=3, categories=[2, 5, 30], missing=0.2, seed=3)
    assert data.categories == (2, 5, 30)
    assert data.name == "simulated"
    assert set(data.truth) == {"chance"}
    assert 0.1 < (~data.observed).double().mean() < 0.3
    assert data.checked() is data
    data.refuse_degenerate()
    assert simulate_data(Coins(), rows=9, columns=2, seed=0).categories == (3, 3)
    settings = catalog.settings("data", "simulated_survey")
    assert settings["source"] == "simulated"
    check_types(Survey.blank, {name: settings[name] for name in ("rows", "columns", "categories")}, "data")
    check_types(Survey.blank, {"categories": [2, 3]}, "data")


def test_settings_make_surveys(tmp_path):
    path, new = write(tmp_path, "a,b\nx,1\ny,2\n" + "x,2\n" * 8), write(tmp_path, "a,b\ny,?\n", "new.csv")
    asked = catalog.settings("data", "survey") | {"path": str(path), "holdout": 0.25}
    data = read(asked | {"test_path": str(new)}, Coins())
    assert data.levels == (("x", "y"), ("1", "2"))
    assert len(data.hidden.values) == 5
    np.testing.assert_array_equal(data.test.values, [[1, NAN]])
    assert "needs data.path" in refused(SettingError, read, catalog.settings("data", "survey"), Coins())
    assert read(asked | {"columns": "b"}, Coins()).column_labels == ["b"], "one word is a list of one"
    assert "data.columns: there is no column 'c'" in refused(DataError, read, asked | {"columns": ["c"]}, Coins())
    constant = write(tmp_path, "a,b\nx,1\nx,2\n", "constant.csv")
    assert "constant.csv: column 'a' has one category only" in refused(
        DataError, read, asked | {"path": str(constant)}, model_of(catalog.settings("model", "categorical_fa"))
    )
    codes = write(tmp_path, "a,b\n1,1\n2,?\n2,5\n", "codes.csv")
    table = read(catalog.settings("data", "table") | {"path": str(codes)}, Coins())
    assert table.levels == (("1", "2"), ("1", "5"))
    asked = catalog.settings("data", "simulated_survey")
    data = read(asked | {"rows": 50, "columns": 2, "categories": [2, 4]}, Coins())
    assert data.categories == (2, 4)
    assert len(data.hidden.values) == 10
    assert "data.categories is 'x'" in refused(SettingError, read, asked | {"categories": "x"}, Coins())


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((0, 3), "data.rows"),
        ((3, 2, 1), "data.categories holds 1; it must be from 2 to 30"),
        ((3, 2, [2, 31]), "data.categories holds 31"),
        ((3, 2, [2]), "data.categories lists 1 numbers; there are 2 columns"),
        ((3, 2, []), "data.categories lists 0 numbers"),
    ],
)
def test_shapes_that_cannot_be_simulated_are_refused(shape, named):
    assert named in refused(SettingError, Survey.blank, *shape)


@pytest.mark.parametrize("value", [2.5, "3", None, True, [2, "3"], [2.5]])
def test_other_types_of_categories_are_refused(value):
    message = refused(SettingError, check_types, Survey.blank, {"categories": value}, "data")
    assert message.endswith("it must be a whole number or a list")


# -- named data sets --


def test_election(need):
    need("election")
    survey = read_named(catalog.settings("data", "election"))
    assert survey.shape == (1785, 12)
    assert survey.column_labels[0] == "MORALG"
    assert survey.column_labels[-1] == "INTELB"
    assert set(survey.levels) == {("1 Extremely well", "2 Quite well", "3 Not too well", "4 Not well at all")}
    assert (~survey.observed).sum(0).tolist() == [122, 99, 56, 92, 154, 49, 176, 101, 66, 104, 200, 73]
    assert survey.name == "election"
    survey.refuse_degenerate()
    # Whether Bush seems dishonest and whether he seems moral are related; whether Gore seems so, less.
    found = dict(zip(survey.column_labels, survey.cramers_v()[survey.column_labels.index("MORALB")], strict=True))
    assert found["DISHONB"] > found["DISHONG"]


def test_votes(need):
    path = need("votes")
    survey = read_named(catalog.settings("data", "votes"))
    raw = pd.read_csv(path, header=None)
    assert survey.shape == (435, 17)
    assert survey.levels == (("democrat", "republican"), *[("no", "yes")] * 16)
    assert survey.column_labels[:3] == ["party", "handicapped_infants", "water_project"]
    frame = survey.frame()
    assert frame["party"].value_counts().to_dict() == {"democrat": 267, "republican": 168}
    for position, column in enumerate(frame.columns[1:], start=1):
        expected = raw[position].str.strip().map({"y": "yes", "n": "no", "?": None})
        assert expected.fillna("-").tolist() == frame[column].astype(object).fillna("-").tolist()
    association = survey.cramers_v()[0]
    assert int(association[1:].argmax()) == survey.column_labels.index("physician_fee_freeze") - 1
    assert survey.notes == ()
    survey.refuse_degenerate()


def test_votes_of_another_shape_are_refused(tmp_path):
    assert "has 2 columns, not 17" in refused(DataError, votes, write(tmp_path, "democrat,y\ndemocrat,n\n"))
    line = ",".join(["democrat", *["y"] * 15, "maybe"])
    message = refused(DataError, votes, write(tmp_path, f"{line}\n{line}\n"))
    assert "south_africa_export_act has a vote 'maybe'" in message


# -- anything at all --

CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(width=32), st.floats(),
    st.sampled_from(["a", "B ", "none", "?", "1", "1.0", "inf"]), st.text(max_size=4),
    st.sampled_from([np.int8(1), np.float32(0.1), np.bool_(True), b"x", 1j, (1,), datetime.date(2020, 1, 1)]),
)  # fmt: skip
SHAPES = st.tuples(st.integers(0, 5), st.integers(0, 3))
NUMBERS = hnp.arrays(st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_]), SHAPES)
OBJECTS = SHAPES.flatmap(
    lambda shape: st.lists(CELLS, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda cells: _filled(shape, cells)
    )
)


def _filled(shape, cells):
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array.reshape(shape)


def label(cell):
    """How a cell must be called; None: it is missing."""
    if isinstance(cell, str):
        return None if cell.strip().lower() in MISSING else cell.strip()
    if cell is None or cell != cell:
        return None
    if isinstance(cell, bool | np.bool_):
        return str(cell)
    if isinstance(cell, int | np.integer):
        return str(int(cell))
    return str(int(cell)) if int(cell) == cell and abs(cell) < 1e15 else str(cell)


@settings(max_examples=300)
@given(st.one_of(NUMBERS, OBJECTS), st.booleans())
def test_any_array_is_refused_in_a_line_or_gives_back_its_labels(array, framed):
    array = array if array.dtype != object else _filled(array.shape, array.ravel().tolist())
    message = None
    try:
        survey = Survey.of(pd.DataFrame(array) if framed else array)
    except DataError as error:
        message = str(error)
    if message is not None:
        assert len(message.splitlines()) == 1
        cells = array.ravel().tolist()
        odd = any(isinstance(cell, bytes | complex | tuple | datetime.date) for cell in cells)
        infinite = any(isinstance(cell, float) and math.isinf(cell) for cell in cells)
        assert odd or infinite or array.size == 0
        return
    frame = survey.frame()
    assert frame.shape == array.shape
    for j in range(array.shape[1]):
        expected = [label(cell) for cell in array[:, j]]
        found = [None if pd.isna(cell) else cell for cell in frame.iloc[:, j]]
        assert found == expected
        assert list(survey.levels[j]) == [level for level in survey.levels[j] if level in expected]
