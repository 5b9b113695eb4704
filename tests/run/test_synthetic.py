"""Synthetic rows: types, holes and levels are those of the data, from a fit or from its run directory."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

import pyrozoo
from pyrozoo.data.kinds import Kind
from pyrozoo.data.survey import Survey
from tests.command.test_command import run
from tests.files import read_survey

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")
RNG = np.random.default_rng(8)
ROWS = 60
DATA = pd.DataFrame(
    {
        "whole": RNG.integers(1, 5, ROWS),
        "small": RNG.integers(0, 3, ROWS).astype("uint8"),
        "gaps": pd.array([*RNG.integers(0, 3, ROWS - 6), *[None] * 6], dtype="Int64"),
        "floats": [1.5, 2.5, np.nan, 3.0] * (ROWS // 4),
        "sure": RNG.random(ROWS) < 0.5,
        "maybe": pd.array([True, False, None] * (ROWS // 3), dtype="boolean"),
        "text": ["y", "x"] * (ROWS // 2),
        "string": pd.array(["p", None, "q"] * (ROWS // 3), dtype="string"),
        "grade": pd.Categorical(["lo", "hi"] * (ROWS // 2), categories=["hi", "mid", "lo"], ordered=True),
        "numbered": pd.Categorical([3, 1] * (ROWS // 2), categories=[3, 2, 1]),
        "many": [f"v{i}" for i in range(ROWS)],
    }
)
SETTINGS = {"latent_dimension": 1, "max_iterations": 5, "most_levels": 60, "progress": False}


@cache
def fitted():
    return pyrozoo.fit("categorical_fa", "vem", data=DATA, **SETTINGS)


def check(rows: pd.DataFrame, data: pd.DataFrame) -> None:
    """Types and categories are those of the data; columns have holes as often, within five standard errors."""
    assert list(rows.dtypes) == list(data.dtypes)
    share = data.isna().mean()
    error = np.sqrt(share * (1 - share) / len(rows))
    assert (abs(rows.isna().mean() - share) <= 5 * error).all()
    for name in data:
        assert set(rows[name].dropna()) <= set(data[name].dropna()), name


def test_types_holes_and_levels_come_back(tmp_path):
    rows = pyrozoo.synthesize(fitted(), 3000)
    check(rows, DATA)
    assert len(set(rows["many"])) > 50, "60 categories are not too many where that is said"
    fitted().save(tmp_path / "run", report="none")
    pd.testing.assert_frame_equal(pyrozoo.synthesize(pyrozoo.load(tmp_path / "run"), 3000), rows)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda rows: rows.astype({"small": "int64"}),
        lambda rows: rows.assign(gaps=rows["gaps"].fillna(0)),
        lambda rows: rows.assign(grade=rows["grade"].cat.remove_unused_categories()),
        lambda rows: rows.assign(sure=rows["sure"].astype(str)),
        lambda rows: rows.assign(text=rows["text"].str.upper()),
    ],
)
def test_mistakes_are_seen(mistake):
    with pytest.raises(AssertionError):
        check(mistake(pyrozoo.synthesize(fitted(), 300)), DATA)


def test_holes_come_together_as_in_the_data_and_can_be_left_out():
    rows = pyrozoo.synthesize(fitted(), 2000)
    both = {tuple(each) for each in DATA[["maybe", "string", "floats"]].isna().to_numpy()}
    assert {tuple(each) for each in rows[["maybe", "string", "floats"]].isna().to_numpy()} == both
    whole = pyrozoo.synthesize(fitted(), 2000, holes=False)
    assert whole.notna().all().all()
    assert list(whole.dtypes) == list(DATA.dtypes)
    for name in DATA:
        there = rows[name].notna()
        assert (rows[name][there] == whole[name][there]).all(), "holes change no answer"
    given = pyrozoo.synthesize(fitted(), 200, given={"maybe": "True", "gaps": "2"})
    assert given["maybe"].all()
    assert (given["gaps"] == 2).all()
    assert given["string"].isna().any()


def test_held_out_answers_are_no_holes():
    fit = pyrozoo.fit("categorical_fa", "vem", data=DATA[["whole", "sure", "text"]], holdout=0.3, **SETTINGS)
    assert pyrozoo.synthesize(fit, 100).notna().all().all()


def test_rows_of_a_file_are_spelled_as_there(here, capsys):
    DATA.drop(columns="many").to_csv("survey.csv", index=False)
    code, _, err = run(
        capsys, "model=categorical_fa", "inference=vem", "data=survey.csv", "model.latent_dimension=1",
        "inference.max_iterations=5", "synthetic_rows=400", "report=brief", "hydra.run.dir=here",
    )  # fmt: skip
    assert (code, err) == (0, "")
    rows, data = (pd.read_csv(path) for path in ("here/tables/synthetic.csv", "survey.csv"))
    check(rows, data)
    text = (here / "here/tables/synthetic.csv").read_text()
    assert ".0" not in text, "3.0 is 3"
    whole = pyrozoo.synthesize(pyrozoo.load("here"), 300)
    assert whole[["whole", "gaps", "floats", "sure", "maybe"]].dtypes.astype(str).tolist() == [
        "int64", "Int64", "float64", "bool", "boolean"
    ]  # fmt: skip
    code, _, _ = run(
        capsys, "model=categorical_fa", "inference=vem", "data=survey.csv", "model.latent_dimension=1",
        "inference.max_iterations=5", "synthetic_rows=50", "synthetic_holes=false", "report=brief",
        "hydra.run.dir=there",
    )  # fmt: skip
    assert code == 0
    assert pd.read_csv("there/tables/synthetic.csv").notna().all().all()


def test_categories_of_a_file_keep_their_order(tmp_path):
    DATA[["grade", "gaps", "maybe"]].to_parquet(tmp_path / "s.parquet")
    data = read_survey(tmp_path / "s.parquet")
    rows = data.typed(data.values)
    assert [str(each) for each in rows.dtypes] == ["category", "Int64", "boolean"]
    assert [*rows["grade"].cat.categories] == ["hi", "mid", "lo"]
    assert rows["grade"].tolist() == DATA["grade"].tolist()


def test_what_no_type_can_hold_is_text():
    odd = pd.DataFrame({"mixed": [1, "two", 1, None], "cut": pd.cut([1.0, 2.0, 3.0, 4.0], 2)})
    rows = Survey.of(odd).typed(torch.tensor([[0.0, 0], [1, 1]]))
    assert rows["mixed"].tolist() == ["1", "two"]
    assert [*rows["cut"]] == [str(each) for each in odd["cut"].cat.categories]
    kind = Kind("category", ("a", "b"), ordered=True)
    assert Kind.from_text(kind.text) == kind
    holes = pd.Series(Kind("int64").column(np.array([0, -1]), ["7"]))
    pd.testing.assert_series_equal(holes, pd.Series([7, None], dtype="Int64"))
