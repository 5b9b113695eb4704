"""What files hold, letter by letter, and how much of it: digits, cells, thinning, summaries worked out by hand."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyrozoo.contracts.moments import Moment
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.table import Table
from pyrozoo.diagnostics.outline import Outline
from pyrozoo.store import inference_data, results, run_directory
from pyrozoo.store.answer import answered, beside, neutral, short, unindexed, write_answer
from pyrozoo.store.foreign import stored_yaml
from pyrozoo.store.groups import Groups
from pyrozoo.store.lines import texts, write_lines
from pyrozoo.store.moments import add_moments, read_moments
from pyrozoo.store.outlined import add_outline, read_outline
from pyrozoo.store.run_directory import _figures, _shown
from pyrozoo.store.sheets import _cell, _cells
from pyrozoo.store.synthetic import check_request
from pyrozoo.store.tables import readable, significant
from tests.case import case


def test_significant_digits():
    values = np.array([123456.789, -0.00123456, 9.99996, 0.0, 1e-300, 5e22, math.nan, math.inf])
    expected = [123500, -0.001235, 10, 0, 1e-300, 5e22]
    assert significant(values, 4)[:6].tolist() == pytest.approx(expected, rel=1e-12)
    assert np.isnan(significant(values, 4)[6])
    assert significant(values, 4)[7] == math.inf
    assert significant(values, 4, whole=True)[0] == 123457, "the part before the point stays whole"
    assert significant(np.array([123.456]), 4, whole=True)[0] == 123.5


def test_tables_are_read_with_whole_numbers_whole():
    frame = pd.DataFrame({"a": [1.0, math.nan, 3.0], "b": [1.5, 2.0, 1234.56789], "c": ["x", "y", "z"], "d": [1, 2, 3]})
    found = readable(frame)
    assert str(found["a"].dtype) == "Int64"
    assert found["a"].isna().tolist() == [False, True, False]
    assert found["b"].tolist() == [1.5, 2, 1234.57]
    assert frame["b"][2] == 1234.56789, "the table itself stays"
    assert readable(frame, None)["b"][2] == 1234.56789


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_lines_letter_by_letter(batch, monkeypatch):
    monkeypatch.setattr("pyrozoo.store.lines.BATCH", batch)
    frame = pd.DataFrame({
        "x,y": [1.0, 0.1, math.nan], "flag": [True, False, True], "n": pd.array([1, None, 3], "Int64"),
        "text": ['say "no"', None, "two\nlines"], "level": pd.Categorical(["b", "a", None]),
        "day": pd.to_datetime(["2020-01-02", None, "2021-03-04"]), "large": [12345678901.0, -0.0, 2.5e300],
    })  # fmt: skip
    file = io.BytesIO()
    write_lines(file, frame)
    assert file.getvalue().decode() == (
        '"x,y",flag,n,text,level,day,large\n'
        '1,True,1,"say ""no""",b,2020-01-02,12345678901\n'
        "0.1,False,,,a,,0\n"
        ',True,3,"two\nlines",,2021-03-04,2.5e+300\n'
    )
    again = pd.read_csv(io.BytesIO(file.getvalue()))
    assert again["x,y"].iloc[:2].tolist() == [1, 0.1]
    file = io.BytesIO()
    write_lines(file, frame[["x,y", "text"]].iloc[:1], ";", header=False)
    assert file.getvalue().decode() == '1;"say ""no"""\n'
    file = io.BytesIO()
    write_lines(file, pd.DataFrame({"one": ["a", "", None]}))
    assert file.getvalue().decode() == 'one\na\n""\n""\n', "an empty line would be none"


def test_text_stays_text_and_numbers_stay_numbers():
    frame = pd.DataFrame({"=a": ["=1+1", "-", "+5", "-x", "plain", None], "n": [1] * 6,
                          "c": pd.Categorical(["@b", "c", "c", "c", "c", "@b"])})  # fmt: skip
    found = neutral(frame)
    assert list(found.columns) == ["'=a", "n", "c"]
    assert found["'=a"].tolist()[:5] == ["'=1+1", "-", "+5", "'-x", "plain"]
    assert found["c"].tolist() == ["'@b", "c", "c", "c", "c", "'@b"]
    assert frame["=a"][0] == "=1+1"


def test_answers_stand_beside_under_names_of_their_own():
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]}, index=[7, 9])
    found = beside(frame, pd.DataFrame({"b": [5, 6], "c": [7, 8]}))
    assert found.to_numpy().tolist() == [[1, 3, 5, 7], [2, 4, 6, 8]]
    assert list(found.columns) == ["a", "b", "b (fit)", "c"]
    assert unindexed(found).columns.tolist() == ["row", "a", "b", "b (fit)", "c"]
    assert unindexed(pd.DataFrame({"a": [1]})).columns.tolist() == ["a"]
    named = pd.DataFrame({"row": [1]}, index=["x"])
    assert unindexed(named).columns.tolist() == ["row (index)", "row"]
    said = short(pd.DataFrame({"probability[0]": [0.123456], "factor": [123.456], "cluster": [2]}), 3)
    assert said.iloc[0].tolist() == [0.123, 123, 2]


def test_answers_are_spelled_as_the_column_spells_them():
    lines = np.array([1])
    assert answered(pd.Series(["yes", None, "no"]), lines, ["no"]).tolist() == ["yes", "no", "no"]
    assert answered(pd.Series([1.0, math.nan, 2.0]), lines, ["2"]).tolist() == [1, 2, 2]
    categories = answered(pd.Series(pd.Categorical(["a", None])), lines, ["b"])
    assert categories.tolist() == ["a", "b"]
    assert list(categories.cat.categories) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (True, '<c t="b"><v>1</v></c>'), (3, "<c><v>3</v></c>"), (0.25, "<c><v>0.25</v></c>"), (None, "<c/>"),
        (10**15 - 1, f"<c><v>{10**15 - 1}</v></c>"),
        (10**15, f'<c t="inlineStr"><is><t xml:space="preserve">{10**15}</t></is></c>'),
        ("a<b\x01", '<c t="inlineStr"><is><t xml:space="preserve">a&lt;b</t></is></c>'),
        (math.inf, '<c t="inlineStr"><is><t xml:space="preserve">inf</t></is></c>'),
        (pd.Timestamp("1900-03-02"), '<c s="2"><v>62.0</v></c>'),
    ],
)  # fmt: skip
def test_cells_of_a_sheet(value, cell):
    assert _cell(value) == cell
    if value is not None and not isinstance(value, pd.Timestamp):
        assert _cells(pd.Series([value], dtype=object)).to_pylist() == [cell]
        assert _cells(pd.Series([value])).to_pylist() == [cell]


def test_draws_are_thinned_to_a_number_of_bytes():
    """2 chains of 100 draws of 5 numbers take 8000 bytes: all, every second, every third, and one of each."""
    fit = SimpleNamespace(draws=Draws(a=torch.zeros(2, 100, 5)))
    sizes = (8000, 7999, 4000, 3999, 1)
    assert [inference_data._thinning(fit, size) for size in sizes] == [1, 2, 2, 3, 100]


def test_simulated_sets_are_chosen_evenly():
    """A set of three numbers of four bytes: of five sets two fit into 24 bytes, the first and the last."""
    data = SimpleNamespace(coords={"place": ["a", "b", "c"]}, test=None)
    part = SimpleNamespace(posterior=SimpleNamespace(data=data))
    sets = SimpleNamespace(statistics={"x": (("place",), np.arange(15.0).reshape(5, 3))}, count=5, part=part)
    found = Groups()
    assert inference_data._add_sets(found, "posterior_predictive", sets, 24) == 2
    stored = found["posterior_predictive"]["x"]
    assert stored.values.tolist() == [[[0, 1, 2], [12, 13, 14]]]
    assert stored.coords["place"].values.tolist() == ["a", "b", "c"]
    assert inference_data._add_sets(Groups(), "posterior_predictive", sets, 3) == 0


def test_figures_of_a_summary():
    """Draws 1, 2, 3, 4 twice: mean 2.5, sd sqrt(10/7); a constant has no R-hat."""
    draws = torch.tensor([[[1.0, 5], [2, 5], [3, 5], [4, 5]], [[4.0, 5], [3, 5], [2, 5], [1, 5]]]).double()
    found = _figures(draws, "samples")
    assert found["mean"].tolist() == [2.5, 5]
    assert found["sd"].tolist() == pytest.approx([math.sqrt(10 / 7), 0])
    assert found["hdi_5%"].tolist() == [1, 5]
    assert found["hdi_95%"].tolist() == [4, 5]
    for name in ("r_hat", "ess_bulk", "ess_tail", "mcse_mean", "mcse_sd"):
        assert not math.isnan(found[name][0])
        assert math.isnan(found[name][1])
    assert "r_hat" not in _figures(draws, "variational")
    assert "r_hat" not in _figures(draws[:, :3], "samples")
    assert set(_figures(draws[:1, :1], "point")) == {"mean"}


def test_names_of_a_summary_are_the_data_s_own(monkeypatch):
    value = np.arange(12.0).reshape(1, 1, 3, 4)
    posterior = {"w": SimpleNamespace(dims=("chain", "draw", "row", "factor"))}
    coords = {"row": SimpleNamespace(values=["a", "b", "c"])}

    class Data(dict):
        def __getitem__(self, name: str) -> Any:
            return {**posterior, **coords}[name]

    data = Data()
    data.coords = coords
    names, found = _shown("w", value, data)
    assert names[:5] == ["w[a, 0]", "w[a, 1]", "w[a, 2]", "w[a, 3]", "w[b, 0]"]
    assert found.tolist() == [[list(range(12))]]
    monkeypatch.setattr(run_directory, "MOST_SUMMARISED", 8)
    names, found = _shown("w", value, data)
    assert names == [f"w[{row}, {k}]" for row in "ac" for k in range(4)], "whole lines, the first and the last"
    assert found.tolist() == [[[0, 1, 2, 3, 8, 9, 10, 11]]]


def test_rows_are_said_beside_the_line_that_they_come_from():
    """Rows 0, 1, 2 of lines 3, 0 and 3: line 0 has row 1, line 3 the first of its rows, the others none."""
    said = pd.DataFrame({"cluster": [5, 6, 7], "probability": [0.5, 0.6, 0.7]})
    found = results._by_line(said, np.array([3, 0, 3]), 5)
    assert found["cluster"].tolist()[0] == 6
    assert found["cluster"].tolist()[3] == 5
    assert found["cluster"].isna().tolist() == [False, True, True, False, True]
    assert found["probability"].iloc[[0, 3]].tolist() == [0.6, 0.5]
    whole = results._by_line(said, np.array([2, 0, 1]), 3)
    assert whole["cluster"].tolist() == [6, 7, 5]


def test_holes_are_filled_by_a_column_s_own_kind():
    reading: Any = SimpleNamespace(facts={}, layout=SimpleNamespace(missing=()))
    lines, mean = np.array([1, 2]), np.array([2.6, 123.456])
    put = results._put(pd.Series([1.0, math.nan, math.nan]), lines, mean, reading, 3)
    assert put.tolist() == [1, 2.6, 123]
    put = results._put(pd.Series(pd.array([1, None, None], "Int64")), lines, mean, reading, 3)
    assert put.tolist() == [1, 3, 123]
    put = results._put(pd.Series(pd.array([1, None, None], "Int8")), lines, np.array([-200.0, 200]), reading, 3)
    assert put.tolist() == [1, -128, 127], "as far as the type reaches"
    put = results._put(pd.Series(pd.array([True, None, None], "boolean")), lines, np.array([0.5, 0.4]), reading, 3)
    assert put.tolist() == [True, True, False]


@pytest.mark.parametrize(("rows", "columns", "fits"), [(10, 3, True), (2_000_001, 3, False), (2_000_000, 6, False)])
def test_tables_that_are_too_large_are_left_out(rows, columns, fits):
    reading: Any = SimpleNamespace(asked=None, lines=range(rows), left_out=(), places=range(columns))
    said = results.too_large(reading, SimpleNamespace(values=range(rows)))
    assert (said is None) == fits
    if not fits:
        assert ("2000001 lines are more than 2000000" in str(said)) == (rows == 2_000_001)
        assert ("12000000 cells are more than 10000000" in str(said)) == (columns == 6)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".xlsx"])
def test_answers_are_read_back_as_they_were(ending, tmp_path):
    frame = pd.DataFrame({"name": ["a", "b,c"], "n": [1, 2], "x": [0.5, math.nan]})
    path = write_answer(tmp_path / f"answer{ending}", frame, marked=[(1, 0)], sheets={"more": frame.iloc[:1]})
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".xlsx": pd.read_excel,
            ".tsv": lambda file: pd.read_csv(file, sep="\t")}[ending]  # fmt: skip
    pd.testing.assert_frame_equal(read(path), frame)
    if ending == ".xlsx":
        pd.testing.assert_frame_equal(pd.read_excel(path, sheet_name="more"), frame.iloc[:1], check_dtype=False)
        from openpyxl import load_workbook

        sheet = load_workbook(path)["scored"]
        assert [sheet.cell(line, 1).fill.fgColor.rgb[-6:] for line in (2, 3)] == ["000000", "FFF2CC"]
    with pytest.raises(SettingError, match="must end in"):
        write_answer(tmp_path / "answer.txt", frame)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("some", [True, False])
def test_outlines_are_read_back_as_they_were(some):
    """Parameters are stored once more only where they are some of many; then one draw in two is kept of them."""
    whole = torch.arange(24.0, dtype=torch.float64).reshape(1, 4, 3, 2)
    draws, invariants = Draws(w=whole[:, :, ::2] if some else whole), Draws(total=whole.sum((2, 3)))
    labels = {"w": (["a", "c"] if some else ["a", "b", "c"], ["x", "y"]), "total": ()}
    fit: Any = SimpleNamespace(draws=Draws(w=whole), outline=Outline(draws, invariants, labels))
    groups = Groups()
    if not some:
        groups.add(
            "posterior", {"w": whole.numpy()}, {"w": ["row", "column"]}, {"row": list("abc"), "column": ["x", "y"]}
        )
    assert read_outline(groups, ["w"]) is None, "as an earlier version left it"
    add_outline(groups, fit, 2)
    found = read_outline(groups, ["w"])
    assert found is not None
    assert found.labels == {"w": tuple([*each] for each in labels["w"]), "total": ()}
    assert found.draws["w"].tolist() == (draws.every(2) if some else draws)["w"].tolist()
    assert found.invariants["total"].tolist() == invariants["total"].tolist()


def test_only_the_project_s_own_data_are_read_back():
    assert inference_data._container("pyrozoo.data.table:Table") is Table
    for address in ("", "os:system", "evil.pyrozoo.data.:x", "pyrozoo.database:x", "numpy.pyrozoo.data.table:Table"):
        with pytest.raises(DataError, match="cannot be read back"):
            inference_data._container(address)


def test_moments_within_their_bytes_and_beyond():
    """Ten states of one chain with two numbers: all of them, or as many as the bytes hold, which is said."""

    def moment(step: int) -> Moment:
        return Moment(step, 0.5 * step, 2.0 * step, (-1.0 * step,), 0,
                      lambda count: Draws(x=torch.full((1, 1, 2), float(step), dtype=torch.float64)))  # fmt: skip

    fit: Any = SimpleNamespace(moments=[moment(step) for step in range(10)])
    for budget, steps in ((160, list(range(10))), (48, [0, 4, 9])):
        groups, notes = Groups(), list[str]()
        add_moments(groups, fit, budget, notes)
        found = read_moments(groups, ["x"])
        assert [each.step for each in found] == steps
        assert notes == ([] if budget == 160 else [f"3 of 10 moments of the fit are stored, within {48e-6:g} MB"])
        for each in found:
            assert (each.seconds, each.passes, each.objective) == (
                0.5 * each.step,
                2.0 * each.step,
                (-1.0 * each.step,),
            )
            assert each.draws["x"].flatten().tolist() == [each.step] * 2


def test_texts_hold_no_nul():
    assert texts(pd.Series(["a", None, "b\x00c"]), "?").to_pylist() == ["a", None, "b?c"]
    assert texts(pd.Series([1, "x\x00", None], dtype=object), "?").to_pylist()[2] is None
    assert texts(pd.Series(["a", "b"])).to_pylist() == ["a", "b"]


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "1: 2\n", "words\n", "a: 1\n2: 3\n", "{a: [}"])
def test_settings_are_a_mapping_of_names(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(DataError, match="is not"):
        stored_yaml(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("a: 1\nb: ${oc.env:HOME}\n")
    assert stored_yaml(tmp_path / "config.yaml") == {"a": 1, "b": "${oc.env:HOME}"}, "references as they are written"


def test_synthetic_rows_are_one_or_more():
    model = case("categorical_fa").model
    check_request(model, 1, None)
    check_request(case("zip_mixture").model, None, None)
    for wrong, count in ((model, 0), (model, -1), (case("zip_mixture").model, 1)):
        with pytest.raises(SettingError, match="synthetic_rows"):
            check_request(wrong, count, None)


def test_a_sheet_cuts_what_its_cells_cannot_hold():
    assert _cell("a" * 40_000).count("a" * 32_767) == 1
    assert "a" * 32_768 not in _cell("a" * 40_000)
