"""What is written beside a fit: nothing, the main things, or all; and the rest at any time later."""

from __future__ import annotations

import pytest

import pyrozoo
from pyrozoo.core.errors import SettingError
from pyrozoo.report import __main__ as report
from tests.case import refused

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")

FIT = {"posterior.nc", "metrics.json", "trace.csv", "runs.csv", ".hydra"}


@pytest.fixture(scope="module")
def fit():
    return pyrozoo.fit("zip_mixture", "em", rows=30, columns=3, num_components=2, restarts=1, progress=False)


def names(directory):
    return {path.name for path in directory.iterdir()}


def test_none_keeps_the_fit_and_the_rest_is_made_later(fit, tmp_path):
    directory = fit.save(tmp_path / "run", report="none")
    assert names(directory) == FIT
    report.rebuild([str(directory)])
    assert names(directory) == FIT | {"report.html", "summary.csv", "tables", "figures"}
    assert names(directory / "tables") == {f"{name}.csv" for name in fit.tables}
    assert names(directory / "figures") == {f"{name}.png" for name in fit.pictures}
    assert "python -m pyrozoo.report" not in (directory / "report.html").read_text(encoding="utf-8")


def test_brief_has_what_is_main(fit, tmp_path):
    directory = fit.save(tmp_path / "run", report="brief")
    assert names(directory) == FIT | {"report.html", "summary.csv", "tables", "figures"}
    assert names(directory / "tables") == {"components.csv"}
    assert names(directory / "figures") == {"components.png", "predictive.png"}
    text = (directory / "report.html").read_text(encoding="utf-8")
    assert f"python -m pyrozoo.report {directory} makes all tables and pictures" in text
    assert "Verdict" in text


def test_a_table_that_was_not_written_comes_back_later(tmp_path):
    (tmp_path / "own.csv").write_text("a,b,c\n" + "1,0,2\n0,3,1\n2,2,0\n1,,4\n" * 5)
    quiet = {"num_components": 2, "restarts": 1, "max_iterations": 3, "progress": False}
    directory = pyrozoo.fit("zip_mixture", "em", data=tmp_path / "own.csv", report="none", **quiet).save(
        tmp_path / "run"
    )
    assert names(directory) == FIT
    report.rebuild([str(directory)])
    assert {"results.csv", "results.xlsx"} <= names(directory)


def test_another_word_is_refused(fit, tmp_path):
    assert "must be none, brief or full" in refused(SettingError, fit.save, tmp_path / "run", report="short")
    assert not (tmp_path / "run").exists()
