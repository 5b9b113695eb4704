"""The reader's own table back: columns, order and types as they were, holes filled and marked, what the fit says."""

from __future__ import annotations

from functools import cache

import numpy as np
import openpyxl
import pandas as pd
import pytest

import pyrozoo
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.store import results
from pyrozoo.store.answer import write_answer
from tests.case import refused
from tests.command.test_command import run

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")
QUIET = {"progress": False}
RNG = np.random.default_rng(5)
EVIL = ["=1+1", "@SUM(A1)", "+x", "-x", "\tx", "plain", "-5", "-", "+4,5", "=cmd|' /C calc'!A0"]
SHOPS = "".join(
    f"s{i};{20 + i % 9}.01.2020;{'-' if i % 6 == 4 else RNG.poisson(3 + 9 * (i % 2))};{RNG.poisson(9)};{EVIL[i % 10]}\n"
    for i in range(30)
)
HEAD = "Shop;opened;Cakes (pcs);tea;note\n"


def frame() -> pd.DataFrame:
    """Return a table with a column of each kind, two holes, and an index of labels."""
    rows = 24
    counts = pd.DataFrame(
        {
            "when": pd.date_range("2020-01-01", periods=rows),
            "b": pd.array([*RNG.poisson(8, rows - 1), None], dtype="Int64"),
            "kind": pd.Categorical(["x", "y"] * (rows // 2), categories=["y", "x", "z"], ordered=True),
            "a": [*RNG.poisson(3, 3), np.nan, *RNG.poisson(3, rows - 4)],
            "c": RNG.poisson([1, 9] * (rows // 2)).astype(np.int16),
            "sum": ["=A1", "t"] * (rows // 2),
        },
        index=pd.Index([f"r{i}" for i in range(rows)], name="place"),
    )
    counts["a"] = counts["a"].astype(float)
    return counts


OWN = frame()


@cache
def mixture():
    return pyrozoo.fit("zip_mixture", "em", data=OWN, num_components=2, columns=["c", "a", "b"], **QUIET)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return mixture().save(tmp_path_factory.mktemp("results") / "run")


# What holds of every table that comes back ----------------------------------------------------------------------------


def check_frame(own: pd.DataFrame, found: pd.DataFrame, holes: dict[tuple[int, str], str]) -> None:
    """Their columns first, in order and type; nothing but holes differs, and each of them is named in its line."""
    assert list(found.columns[: len(own.columns)]) == list(own.columns)
    assert list(found.dtypes.iloc[: len(own.columns)]) == list(own.dtypes)
    for name in own:
        same = own[name].isna() & found[name].isna() | (own[name] == found[name]).fillna(False).astype(bool)
        changed = {(i, name) for i in np.flatnonzero(~same.to_numpy())}
        assert changed == {hole for hole in holes if hole[1] == name}
    named = [", ".join(name for name in own if (i, name) in holes) for i in range(len(own))]
    assert found.iloc[:, -1].tolist() == named


def check_csv(text: str) -> None:
    """No cell of the text begins a formula, unless it is a number or a dash."""
    for line in text.splitlines():
        for cell in line.split(","):
            cell = cell.strip('"')
            assert not cell.startswith(("=", "@", "\t")), cell
            assert not cell.startswith(("+", "-")) or cell in ("-5", "-", "+4"), cell


def check_sheet(path, own: pd.DataFrame, holes: set[tuple[int, str]]) -> None:
    """Filled cells, and no others, have a colour; text is text."""
    sheet = openpyxl.load_workbook(path).worksheets[0]
    names = [cell.value for cell in sheet[1]]
    assert names[: len(own.columns)] == list(own.columns)
    coloured = {
        (i, names[j]) for i, line in enumerate(sheet.iter_rows(min_row=2)) for j, cell in enumerate(line)
        if cell.fill.fill_type == "solid"
    }  # fmt: skip
    assert coloured == holes
    assert all(cell.data_type != "f" for line in sheet.iter_rows() for cell in line)


HOLES = {(23, "b"): "b", (3, "a"): "a"}


def test_a_frame_comes_back_with_its_columns_types_and_order():
    found = mixture().results
    check_frame(OWN.reset_index(), found, HOLES)
    assert list(found.columns[7:]) == ["cluster", "probability", "probability[0]", "probability[1]", "filled"]
    clusters = mixture().tables["clusters"]
    assert found["cluster"].tolist() == clusters["cluster"].tolist()
    np.testing.assert_allclose(found["probability[0]"], clusters["probability[0]"], atol=5e-5)
    missing = mixture().tables["missing"].set_index(["row", "column"])["mean"]
    assert found.loc[3, "a"] == pytest.approx(missing["r3", "a"], rel=5e-4)
    assert found.loc[23, "b"] == round(missing["r23", "b"]), "whole numbers stay whole"
    assert OWN["a"].isna().sum() == 1, "what the reader holds is not changed"


def test_files_of_a_run_directory(saved):
    text = (saved / "results.csv").read_text(encoding="utf-8")
    check_csv(text)
    check_sheet(saved / "results.xlsx", OWN.reset_index(), {*HOLES})
    again = pd.read_csv(saved / "results.csv")
    assert again["filled"].fillna("").tolist() == mixture().results["filled"].tolist()
    assert again["b"].dtype == np.int64
    said = pd.read_excel(saved / "results.xlsx", sheet_name="filled")
    assert list(said.columns) == ["line", "row", "column", "mean", "lower_90", "upper_90"]
    assert list(zip(said["line"], said["row"], said["column"], strict=True)) == [(4, "r3", "a"), (24, "r23", "b")]
    assert 'href="results.csv"' in (saved / "report.html").read_text(encoding="utf-8")
    sheet = pd.read_excel(saved / "results.xlsx")
    assert "filled" not in sheet, "colours say it"
    assert sheet["sum"].tolist() == OWN["sum"].tolist()


def swapped(found):
    return found[[found.columns[1], found.columns[0], *found.columns[2:]]]


def untyped(found):
    return found.astype({"c": "int64"})


def unmarked(found):
    return found.assign(filled=[each if i != 3 else "" for i, each in enumerate(found["filled"])])


def touched(found):
    found = found.copy()
    found.loc[7, "when"] += pd.Timedelta(days=1)
    return found


@pytest.mark.parametrize("mistake", [swapped, untyped, unmarked, touched], ids=lambda each: each.__name__)
def test_mistakes_are_seen(mistake):
    with pytest.raises(AssertionError):
        check_frame(OWN.reset_index(), mistake(mixture().results), HOLES)


def test_mistakes_in_files_are_seen(saved, tmp_path):
    found = mixture().results
    with pytest.raises(AssertionError):
        check_csv(found.to_csv(index=False))
    marked = mixture()._results().marked
    for wrong in (list(marked)[1:], [*marked, (0, 0)]):
        write_answer(tmp_path / "wrong.xlsx", found.iloc[:, :-1], wrong)
        with pytest.raises(AssertionError):
            check_sheet(tmp_path / "wrong.xlsx", OWN.reset_index(), {*HOLES})


# Files ----------------------------------------------------------------------------------------------------------------


def test_one_command_gives_a_file_back(here, capsys):
    """Dates, text, a column with dashes for holes, a Total row, cp1252 and a second file format: nothing is lost."""
    (here / "shops.csv").write_text(HEAD + SHOPS + "Total;;200;270;Café\n", encoding="cp1252")
    code, out, err = run(
        capsys, "model=zip_mixture", "inference=em", "data=shops.csv", "data.missing=[-]", "data.exclude_rows=[Total]",
        "model.num_components=2",
    )  # fmt: skip
    assert (code, err) == (0, "")
    files = [line.strip() for line in out.splitlines() if "results." in line]
    assert [each.rpartition("/")[2] for each in files] == ["results.csv", "results.xlsx"]
    own = pd.read_csv(here / "shops.csv", sep=";", encoding="cp1252")
    found = pd.read_csv(here / files[0], dtype={"opened": str})
    assert list(found.columns[:5]) == list(own.columns)
    assert len(found) == 31
    assert found["opened"].tolist()[:30] == own["opened"].tolist()[:30]
    holes = [i for i in range(30) if i % 6 == 4]
    assert found.index[found["filled"].notna()].tolist() == holes
    assert set(found["filled"].dropna()) == {"Cakes (pcs)"}
    known = [i for i in range(31) if i not in holes]
    assert found["Cakes (pcs)"][known].tolist() == own["Cakes (pcs)"][known].astype(int).tolist()
    assert found.loc[30, ["Shop", "note"]].tolist() == ["Total", "Café"], "a row that was left out is untouched"
    assert found.loc[30, ["cluster", "probability", "filled"]].isna().all()
    check_csv((here / files[0]).read_text(encoding="utf-8").replace('"+4,5"', "'+4"))
    sheet = openpyxl.load_workbook(here / files[1]).worksheets[0]
    assert [sheet.cell(i + 2, 5).value for i in range(30)] == [EVIL[i % 10] for i in range(30)]


def test_cells_that_were_held_out_stay_as_they_are():
    fit = pyrozoo.fit("zip_mixture", "em", data=OWN[["a", "b", "c"]], num_components=2, holdout=0.2, **QUIET)
    check_frame(OWN.reset_index()[["place", "a", "b", "c"]], fit.results, HOLES)


def test_rows_that_count_more_than_once_have_one_line(tmp_path):
    counts = OWN[["a", "b", "c"]].assign(times=[2] * 10 + [0] * 2 + [1] * 12)
    fit = pyrozoo.fit("zip_mixture", "em", data=counts, num_components=2, frequency="times", **QUIET)
    found = fit.results
    assert len(fit.data.row_labels) == 32
    assert len(found) == 24
    assert found["cluster"].isna().tolist() == [False] * 10 + [True] * 2 + [False] * 12
    assert fit._results().filled["line"].tolist() == [4, 24]


def test_answers_are_spelled_as_theirs(tmp_path):
    answers = pd.DataFrame(
        {
            "tea": pd.Categorical(["yes", "no", None, "yes"] * 8, categories=["yes", "no", "never"]),
            "score": pd.array([1, 2, 3, None] * 8, dtype="Int64"),
            "sure": [True, False] * 16,
            "why": [f"text {i}" for i in range(32)],
        }
    )
    fit = pyrozoo.fit(
        "categorical_fa", "vem", data=answers, exclude=["why"], latent_dimension=1, max_iterations=5, **QUIET
    )
    holes = {(i, name): name for i in range(32) for name in ("tea", "score") if pd.isna(answers[name][i])}
    check_frame(answers, fit.results.astype({"score": "Int64"}), holes)
    assert set(fit.results["tea"]) <= {"yes", "no"}
    assert list(fit._results().filled.columns) == ["line", "row", "column", "answer", "probability"]
    coded = answers[["score", "sure"]].assign(score=answers["score"].fillna(-9).astype(int))
    fit = pyrozoo.fit("categorical_fa", "vem", data=coded, missing=[-9], latent_dimension=1, max_iterations=5, **QUIET)
    assert fit.results["score"].isin([1, 2, 3]).all()
    assert (fit.results["filled"] == "score").tolist() == [i % 4 == 3 for i in range(32)]


@pytest.mark.parametrize("kind", ["float32", "Float32", "Int8", "UInt16", "boolean", "float64", "object"])
def test_filled_cells_are_of_the_type_of_their_column(kind):
    counts = OWN[["b", "c"]].assign(a=pd.array([*RNG.integers(0, 2, 23), None], dtype="Int8").astype(kind))
    fit = pyrozoo.fit("factor_analysis", "em", data=counts.reset_index(drop=True), num_factors=1, **QUIET)
    found = fit.results
    if kind == "object":
        assert found["a"].dtype == "Int64", "whole numbers among objects are whole numbers"
        found = found.astype({"a": object})
    check_frame(counts.reset_index(drop=True), found, {(23, "b"): "b", (23, "a"): "a"})


# Lists ----------------------------------------------------------------------------------------------------------------

PLAYS = pd.DataFrame(
    [(f"u{i}", f"c{j}", int(RNG.integers(1, 9)), "may") for i in range(12) for j in RNG.choice(6, 3, replace=False)],
    columns=["user", "song", "plays", "when"],
)
NAMED = {"row": "user", "column": "song", "value": "plays"}


@pytest.mark.parametrize(("model", "method"), [("poisson_mf", "cavi"), ("gaussian_mf", "em")])
def test_a_list_has_predictions_or_factors(model, method):
    settings = {"num_factors": 1, "restarts": 1, "max_iterations": 10, **NAMED, **QUIET}
    asked = PLAYS.astype({"plays": float})
    asked.loc[[2, 20], "plays"] = np.nan
    found = pyrozoo.fit(model, method, data=asked, **settings)
    pd.testing.assert_frame_equal(found.results[list(asked.columns)], asked)
    own = found.tables["missing"]
    assert np.flatnonzero(found.results["mean"].notna()).tolist() == [2, 20]
    for line in (2, 20):
        row, column = asked.loc[line, ["user", "song"]]
        same = own[(own["row"] == row) & (own["column"] == column)].iloc[0]
        for name in ("mean", "lower_90", "upper_90"):
            assert found.results.loc[line, name] == pytest.approx(same[name], rel=5e-4)
    fit = pyrozoo.fit(model, method, data=PLAYS, **settings)
    assert fit.results["user"].tolist() == list(fit.data.row_labels)
    np.testing.assert_allclose(fit.results["factor[0]"], fit.aligned.means()["row_factors"][:, 0], rtol=1e-3)


def test_a_matrix_of_ratings_is_filled():
    ratings = pd.DataFrame(RNG.integers(1, 6, (12, 5)).astype(float), columns=list("vwxyz"))
    ratings.iloc[[1, 4], [2, 3]] = np.nan
    fit = pyrozoo.fit(
        "gaussian_mf",
        "em",
        data=ratings,
        num_factors=1,
        restarts=1,
        max_iterations=10,
        layout="table",
        holdout=0.1,
        **QUIET,
    )
    check_frame(ratings, fit.results, {(i, name): name for i in (1, 4) for name in "xy"})


# What is not there ----------------------------------------------------------------------------------------------------


def test_sizes_are_bounded_and_said(tmp_path, monkeypatch):
    fit = pyrozoo.Result.of(mixture(), mixture().settings)
    fit.reading, fit.notes = mixture().reading, []
    monkeypatch.setattr(results, "MOST_SHEET_LINES", 20)
    results.write_results(fit, fit.reading, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv"}
    assert fit.notes == ["results.xlsx is left out: the table is large; fit.save_results(PATH) writes it all the same"]
    monkeypatch.setattr(results, "MOST_LINES", 20)
    (tmp_path / "results.csv").unlink()
    results.write_results(fit, fit.reading, tmp_path)
    assert not list(tmp_path.iterdir())
    assert "24 lines are more than 20" in fit.notes[1]
    assert fit.save_results(tmp_path / "mine.parquet").is_file()
    monkeypatch.setattr(results, "MOST_FILLED", 1)
    found = results.results_of(mixture(), mixture().reading)
    assert found.notes == ("holes are not filled: there are 2, more than 1",)
    assert not found.marked


def test_a_file_that_is_gone_or_another_is_a_note(tmp_path, lenient):
    path = tmp_path / "counts.csv"
    OWN[["a", "b", "c"]].to_csv(path)
    fit = pyrozoo.fit("zip_mixture", "em", data=path, num_components=2, **QUIET)
    again = pyrozoo.load(fit.save(tmp_path / "saved", report="none"))
    pd.testing.assert_frame_equal(again.results, fit.results)
    path.write_text("a,b,c\n1,2,3\n")
    assert refused(DataError, pyrozoo.load, tmp_path / "saved").endswith(f"fitted to {path}, which is not what it was")
    assert refused(DataError, fit.save_results, tmp_path / "x.csv") == "counts.csv is not what it was when it was read"
    path.unlink()
    assert refused(DataError, pyrozoo.load, tmp_path / "saved").endswith(f"fitted to {path}, which is gone")
    fit.save(tmp_path / "run")
    assert any(note.startswith("the reader's own table, results.csv, could not be made") for note in fit.notes)
    assert (tmp_path / "run" / "report.html").is_file(), "the fit is not lost"


def test_arrays_and_pictures_have_no_table_to_give_back(tmp_path):
    fit = pyrozoo.fit("zip_mixture", "em", data=OWN[["a", "b", "c"]].to_numpy(float), num_components=2, **QUIET)
    assert "neither a file nor a DataFrame" in refused(NotApplicable, fit.save_results, tmp_path / "x.csv")
    assert "must end in" in refused(SettingError, mixture().save_results, tmp_path / "x.txt")
    image = pyrozoo.fit("potts_grid", "icm", data=pd.DataFrame([[0, 1], [1, 1]]), **QUIET)
    image.save(tmp_path / "image")
    assert not (tmp_path / "image" / "results.csv").exists()
    assert "no lines" in refused(NotApplicable, image.save_results, tmp_path / "x.csv")


def test_cells_that_spreadsheets_cannot_hold(tmp_path):
    odd = pd.DataFrame(
        {
            "id": [10**17 + 1, 5], "when": pd.to_datetime(["2020-01-01T10:00Z", None]),
            "old": [pd.Timestamp("1800-01-01")] * 2,
            "x": [np.inf, 0.1 + 0.2], "t": ["a\x00b", "=1"], "mixed": [1, "two"], "long": ["y" * 40_000, "z"],
        }
    )  # fmt: skip
    line = [cell.value for cell in openpyxl.load_workbook(write_answer(tmp_path / "odd.xlsx", odd)).worksheets[0][2]]
    assert line[:6] == [str(10**17 + 1), "2020-01-01T10:00:00+00:00", "1800-01-01T00:00:00", "inf", "ab", 1]
    again = pd.read_csv(write_answer(tmp_path / "odd.csv", odd), float_precision="round_trip")
    assert again["x"].tolist() == [np.inf, 0.1 + 0.2], "all digits of theirs"
    assert again["id"].tolist() == odd["id"].tolist()
    assert pd.read_parquet(write_answer(tmp_path / "odd.parquet", odd))["mixed"].tolist() == ["1", "two"]
