"""The page that derives updates: what it says, where numbers come from, and that a slip shows in red."""

from __future__ import annotations

import dataclasses
import re

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrozoo
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.core.paths import PACKAGE
from pyrozoo.models.zip_mixture import cavi
from tests.case import refused
from tests.command.test_command import run

pytestmark = pytest.mark.usefixtures("unchecked")


def explained(found, site):
    return next(section for section in found.sections if section.site == site)


def test_numbers_are_traced_to_where_they_come_from():
    def rates(counts):
        rate = pyro.sample("rate", dist.Gamma(torch.tensor(2.0, dtype=torch.float64), 1.0))
        with pyro.plate("row", len(counts)):
            pyro.sample("counts", dist.Poisson(rate), obs=counts)

    found = pyrozoo.explain(rates, "gibbs", args=(torch.tensor([3.0, 1.0, 4.0], dtype=torch.float64),))
    shape, rate = explained(found, "rate").traced
    assert shape.said == "10 = 2 from the prior + 8 from 3 cells of counts"
    assert rate.said == "4 = 1 from the prior + 3 from 3 cells of counts"
    assert "1 of 1 sites have a conditional that gibbs knows exactly" in found.html
    assert str(found).startswith("rates by gibbs")


@pytest.mark.parametrize("method", ["gibbs", "em"])
def test_hand_built_updates_are_the_derived_ones(method, tmp_path):
    found = pyrozoo.explain("zip_mixture", method, num_components=2, path=tmp_path / "page.html")
    assert found.same
    assert found.answer == "5 hand-built updates are those that follow from the program."
    page = (tmp_path / "page.html").read_text()
    assert page == found.html
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # nothing is fetched
    assert "def " in page  # the solver's own lines
    modes = [traced for traced in explained(found, "rate").traced if traced.parameter == "mode"]
    assert all(mode.same for mode in modes)
    assert bool(modes) == (method == "em")


def test_a_slip_shows_in_red(monkeypatch):
    given = cavi.State.given.__func__

    def slipped(cls, posterior, sums):
        return given(cls, posterior, dataclasses.replace(sums, exposed=sums.seen))

    monkeypatch.setattr(cavi.State, "given", classmethod(slipped))
    found = pyrozoo.explain("zip_mixture", "gibbs", num_components=2)
    assert not found.same
    assert found.answer == "The hand-built update of rate is not the one that follows from the program."
    assert 'class="answer fail"' in found.html
    assert '<tr class="wrong">' in found.html


def test_a_program_of_ones_own_is_explained_by_all_three():
    source = str(PACKAGE.parent / "examples" / "gaussian_mixture.py")
    for method in ("gibbs", "em", "cavi"):
        found = pyrozoo.explain(source, method, rows=4, columns=2)
        assert "Gamma, 4 independent blocks" in explained(found, "precision").sentence
    regression = str(PACKAGE.parent / "examples" / "bayesian_regression.py")
    assert "not conjugate" in explained(pyrozoo.explain(regression, "em"), "noise").sentence


def test_mistakes_are_one_line():
    assert "nuts cannot be explained: gibbs, em, cavi can" in refused(
        NotApplicable, pyrozoo.explain, "zip_mixture", "nuts"
    )
    assert "there is no setting 'colums'" in refused(SettingError, pyrozoo.explain, "zip_mixture", "em", colums=2)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["model=zip_mixture"], "inference=... is missing"),
        (["model=zip_mixtur", "inference=em"], "did you mean 'zip_mixture'"),
        (["model=zip_mixture", "inference=em", "restarts=3"], "explain takes model=, inference=, data="),
    ],
)
def test_mistakes_of_the_command_are_one_line(here, capsys, typed, said):
    code, out, err = run(capsys, "explain", *typed)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not list(here.iterdir())


def test_the_command_writes_the_page(here, capsys):
    code, out, _ = run(capsys, "explain", "model=zip_mixture", "inference=gibbs", "model.num_components=2")
    assert code == 0
    assert out.splitlines()[-1].strip() == "outputs/explained/zip_mixture_gibbs.html"
    assert (here / "outputs" / "explained" / "zip_mixture_gibbs.html").is_file()
