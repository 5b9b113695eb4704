"""Cells and rows that are hidden because somebody chose them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pyrozoo
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.grid import Grid
from pyrozoo.data.holdout import hold_out_chosen
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.run.fit import Run, configuration
from tests.case import refused

NAN = np.nan
FRAME = pd.DataFrame([[1, NAN, 3], [4, 5, 6], [7, 8, 9]], columns=list("abc"), index=["u", "v", "w"])
LIST = pd.DataFrame(
    [(11, "p", 1), (11, "q", 2), (12, "p", 3), (12, "r", 4), (13, "q", 5)], columns=["row", "column", "value"]
)


def hidden(data) -> list[tuple[str, str, float]]:
    each = zip(data.hidden.rows.tolist(), data.hidden.columns.tolist(), data.hidden.values.tolist(), strict=True)
    return [(data.row_labels[i], data.column_labels[j], value) for i, j, value in each]


def test_cells_are_chosen_by_label_or_place_and_may_bring_their_value():
    data = hold_out_chosen(Table.of(FRAME), [("v", "b"), ("u", "b", 2.5), ("w", "c", 99), (0, 0)])
    assert hidden(data) == [("u", "a", 1), ("u", "b", 2.5), ("v", "b", 5), ("w", "c", 99)]
    assert data.observed.tolist() == [[False, False, True], [True, False, True], [True, True, False]]
    assert not data.hidden.at_random


def test_whole_rows_are_chosen_by_label():
    assert hidden(hold_out_chosen(Table.of(FRAME), ["u"])) == [("u", "a", 1), ("u", "c", 3)]
    assert hidden(hold_out_chosen(Triplets.of(LIST), [12])) == [("12", "p", 3), ("12", "r", 4)]


def test_an_absent_pair_of_counts_is_zero_and_one_of_ratings_has_no_value():
    chosen = [(12, "q"), (11, "p"), (13, "r", 7)]
    data = hold_out_chosen(Triplets.of(LIST), chosen)
    assert hidden(data) == [("11", "p", 1), ("12", "q", 0), ("13", "r", 7)]
    assert data.unobserved.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert data.values[:, 2].tolist() == [2, 3, 4, 5]
    message = refused(DataError, hold_out_chosen, Ratings.of(LIST), chosen)
    assert message == "data.holdout: row '12', column 'q' has no value"
    unknown = Triplets.of_columns(["s", "s"], ["p", "q"], [NAN, 2])
    assert "has no value" in refused(DataError, hold_out_chosen, unknown, [("s", "p")])


def test_categories_and_labels_of_pixels_go_by_name():
    survey = Survey.of(pd.DataFrame({"tea": ["yes", "no", None], "size": [1, 2, 2]}))
    assert hidden(hold_out_chosen(survey, [(2, "tea", "yes"), (0, "size")])) == [("0", "size", 0), ("2", "tea", 1)]
    message = refused(DataError, hold_out_chosen, survey, [(2, "tea", "often")])
    assert message == "data.holdout: row '2', column 'tea': 'often' is none of no, yes"
    assert hidden(hold_out_chosen(Grid.of(np.array([[0, 1], [1, 0]])), [(1, 0)])) == [("row_1", "column_0", 1)]


def test_all_problems_are_said_at_once():
    chosen = [("x", "a"), ("u", "z"), ("u", "b"), ("v", "a"), ("v", "a"), ("w", "a", "few")]
    assert refused(DataError, hold_out_chosen, Table.of(FRAME), chosen) == (
        "data.holdout: there is no row 'x'; there is no column 'z'; row 'w', column 'a': 'few' is not a number; "
        "row 'u', column 'b' has no value; row 'v', column 'a' is chosen twice"
    )
    assert "there is no row '2'" in refused(DataError, hold_out_chosen, Triplets.of(LIST), [(2, "p")])
    many = refused(DataError, hold_out_chosen, Table.of(FRAME), [(f"x{i}", "a") for i in range(25)])
    assert many.endswith("(and 5 more)")
    assert "nothing is left to fit" in refused(DataError, hold_out_chosen, Table.of(FRAME), ["u", "v", "w"])
    assert "nothing is chosen" in refused(DataError, hold_out_chosen, Table.of(FRAME), [])
    assert "it must be row, column" in refused(SettingError, hold_out_chosen, Table.of(FRAME), [("u",)])


def test_what_was_chosen_by_hand_is_remembered_in_a_file():
    for data in (Table.of(FRAME), Triplets.of(LIST)):
        chosen = hold_out_chosen(data, [(data.row_labels[0], data.column_labels[0])])
        seen, extra = ({n: a for n, (_, a) in part.items()} for part in chosen.stored("x"))
        coords = {"row": chosen.row_labels, "column": chosen.column_labels}
        again = type(data).restore(seen, extra, coords, "x")
        assert not again.hidden.at_random
        assert hidden(again) == hidden(chosen)
        random = data.hold_out(0.3, 0)
        seen, extra = ({n: a for n, (_, a) in part.items()} for part in random.stored("x"))
        assert type(data).restore(seen, extra, coords, "x").hidden.at_random


def data_of(model: str, method: str, data, holdout=None, **settings):
    return Run.from_config(configuration(model, method, data, settings), data=None, holdout=holdout).posterior.data


def test_files_of_cells_and_of_rows(here):
    FRAME.to_csv("table.csv", index_label="site")
    for name, text in (
        ("cells.csv", "row,column\nv,b\n"),
        ("truth.csv", "column,value,row\nb,2.5,u\nb,,v\n"),
        ("plain.csv", "v,b\n"),
        ("rows.csv", "row\nu\n"),
    ):
        (here / name).write_text(text)
    pd.DataFrame({"row": ["v"], "column": ["b"]}).to_excel("cells.xlsx", index=False)
    table = {"path": "table.csv", "row_labels": "site", "num_factors": 1}
    for name, expected in (
        ("cells.csv", [("v", "b", 5)]),
        ("cells.xlsx", [("v", "b", 5)]),
        ("truth.csv", [("u", "b", 2.5), ("v", "b", 5)]),
        ("plain.csv", [("v", "b", 5)]),
        ("rows.csv", [("u", "a", 1), ("u", "c", 3)]),
    ):
        assert hidden(data_of("factor_analysis", "em", "table", **table, holdout=name)) == expected, name
    message = refused(SettingError, data_of, "factor_analysis", "em", "table", **table, **{"holdout": "no.csv"})
    assert message == "data.holdout is 'no.csv': neither a fraction, nor a file that there is"


TIMES = [1, 2, 3, 4, 9]


@pytest.mark.parametrize(("source", "model"), [("triplets", "poisson_mf"), ("ratings", "gaussian_mf")])
def test_a_split_by_time(here, source, model):
    LIST.assign(when=TIMES).to_csv("list.csv", index=False)
    LIST.assign(when=[f"2024-0{month}-01" for month in TIMES]).to_csv("dates.csv", index=False)
    asked = {"path": "list.csv", "num_factors": 1, "time": "when", "holdout_after": 3}
    late = [("12", "r", 4), ("13", "q", 5)]
    data = data_of(model, "cavi", source, **asked)
    assert hidden(data) == late
    config = configuration(model, "cavi", source, {**asked, "holdout": 0.5})
    data = Run.from_config(config).posterior.data
    assert hidden(data) == late
    assert len(data.values) == 3, "nothing is hidden at random beside it"
    assert not data.hidden.at_random
    assert (
        hidden(data_of(model, "cavi", source, **asked | {"path": "dates.csv", "holdout_after": "2024-03-15"})) == late
    )
    for changes, said in (
        ({"time": None}, "data.time and data.holdout_after go together"),
        ({"holdout_after": 9}, "none of the pairs is listed after it"),
        ({"holdout_after": 0}, "all pairs are listed after it"),
    ):
        assert said in refused(DataError, data_of, model, "cavi", source, **asked | changes)
    assert "cannot be compared" in refused(
        DataError, data_of, model, "cavi", source, **asked | {"holdout_after": "soon"}
    )


def test_what_is_listed_before_is_not_held_out_later(here):
    again = pd.concat([LIST.assign(when=TIMES), pd.DataFrame([(11, "p", 50, 7)], columns=[*LIST.columns, "when"])])
    again.to_csv("list.csv", index=False)
    data = data_of("poisson_mf", "cavi", "triplets", path="list.csv", num_factors=1, time="when", holdout_after=3)
    assert hidden(data) == [("12", "r", 4), ("13", "q", 5)]
    assert data.values[0].tolist() == [0, 0, 1], "what comes later is not added"
    assert data.notes == ("1 lines after 3 repeat a pair that is listed before: left out",)


def test_a_fit_is_judged_by_the_cells_it_was_given():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(30, 1)) + rng.normal(size=(30, 3)) * 0.3, columns=list("abc"))
    cells = pd.DataFrame({"row": [0, 4, 9], "column": ["a", "b", "c"]})
    settings = {"num_factors": 1, "progress": False}
    fit = pyrozoo.fit("factor_analysis", "em", data=frame, holdout=cells, **settings)
    truth = [frame.loc[i, c] for i, c in zip(cells["row"], cells["column"], strict=True)]
    assert fit.data.hidden.values.tolist() == truth
    assert fit.metrics["holdout_entries"] == 3
    error = fit.tables["holdout"]["mean"].to_numpy() - truth
    assert fit.metrics["holdout_rmse"] == pytest.approx(float(np.sqrt((error**2).mean())))
    assert "holdout_coverage_90" not in fit.metrics, "cells chosen by hand say nothing of coverage"
    same = pyrozoo.fit("factor_analysis", "em", data=frame, holdout=cells.to_numpy().tolist(), **settings)
    assert same.settings["data"]["holdout"] == [[0, "a"], [4, "b"], [9, "c"]]
    assert same.metrics["holdout_rmse"] == fit.metrics["holdout_rmse"]


def test_a_resumed_run_wants_its_cells_again(here):
    cells = pd.DataFrame({"row": [1], "column": ["a"]})
    fit = {"data": FRAME, "num_factors": 1, "progress": False, "checkpoint_every": 2, "directory": here / "run"}
    pyrozoo.fit("factor_analysis", "em", holdout=cells.replace({1: "v"}), **fit)
    message = refused(SettingError, pyrozoo.resume, "run", FRAME)
    assert message == "the run in run was given its hold-out in Python: resume(directory, holdout=...)"
