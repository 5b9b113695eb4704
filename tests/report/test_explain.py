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
from pyrozoo.models.factor_analysis import cavi as of_factors
from pyrozoo.models.potts_grid.messages import Passing
from pyrozoo.models.zip_mixture import cavi
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.pairs import Pairs
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
    more = " 5 checks of the whole method hold." if method == "em" else ""
    assert found.answer == "5 hand-built updates are those that follow from the program." + more
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


def test_a_slip_in_a_step_shows_in_red(monkeypatch):
    """The objective still rises, and no update of one site is compared: the step is."""
    step = of_factors.Solver.step

    def slipped(self, state):
        new, info = step(self, state)
        return dataclasses.replace(new, scale=1.01 * new.scale), info

    monkeypatch.setattr(of_factors.Solver, "step", slipped)
    found = pyrozoo.explain("factor_analysis", "cavi", num_factors=1, rows=4, columns=2)
    assert not found.same
    assert found.answer.startswith("It does not hold: after a hand-built step log q of loadings, mean, noise_variance")
    assert 'class="answer fail"' in found.html
    assert '<tr class="wrong">' in found.html


def test_whole_methods_are_held_to_the_program():
    """The log joint has no slope where EM ends; q is what its ELBO is highest for; blocks are drawn from the joint."""
    checks = {
        check.said: check
        for check in pyrozoo.explain("gaussian_mixture", "em", num_components=2, rows=4, columns=2).checks
    }
    assert checks["Where EM ends, the program's log joint has no slope, by automatic differentiation"].same
    assert all(check.same for check in checks.values())
    checks = pyrozoo.explain("factor_analysis", "cavi", num_factors=1, rows=4, columns=2).checks
    assert [check.same for check in checks] == [True] * 4
    (check,) = pyrozoo.explain("gaussian_mixture", "gibbs", num_components=2, rows=4, columns=2).checks
    assert check.same
    assert check.said.startswith("The density that weights, mean, covariance are drawn from together")


def test_messages_and_beliefs_are_those_of_the_program():
    """Of pixels in one line beliefs are exact; the program's potentials are found, and edges, whatever the solver."""
    found = pyrozoo.explain("potts_grid", "bp", num_labels=2, rows=1, columns=5)
    (section,) = found.sections
    assert "Its 5 elements act on each other in 4 pairs" in section.sentence
    assert section.same
    assert [check.same for check in found.checks] == [True, True]
    field = pyrozoo.explain("potts_grid", "bp")
    assert "Its 9 elements act on each other in 12 pairs" in field.sections[0].sentence
    assert field.same
    assert any(traced.parameter == "message to row 1, column 2" for traced in field.sections[0].traced)


def test_a_slip_in_messages_shows_in_red(monkeypatch):
    kept = Passing.__init__

    def slipped(self, *arguments, **settings):
        kept(self, *arguments, **settings)
        self.unary = 1.01 * self.unary

    monkeypatch.setattr(Passing, "__init__", slipped)
    found = pyrozoo.explain("potts_grid", "bp")
    assert not found.same
    assert found.answer == "The hand-built update of label is not the one that follows from the program."
    assert found.html.count('<tr class="wrong">') > 1


def test_what_acts_by_threes_sends_no_messages():
    def parity(_=None):
        with pyro.plate("bits", 4):
            bit = pyro.sample("bit", dist.Bernoulli(torch.full((4,), 0.5)))
        pyro.factor("odd", bit[..., :3].sum(-1) % 2)

    joint = Joint(parity, None)
    message = refused(NotApplicable, Pairs.of, joint, "bit", joint.draw())
    assert message == "odd has to do with more than two elements of bit: no messages go round"


def test_a_program_of_ones_own_is_explained_by_all_three():
    source = str(PACKAGE.parent / "examples" / "gaussian_mixture.py")
    for method in ("gibbs", "em", "cavi"):
        found = pyrozoo.explain(source, method, rows=4, columns=2)
        assert "Gamma, 4 independent blocks" in explained(found, "precision").sentence
    regression = str(PACKAGE.parent / "examples" / "bayesian_regression.py")
    assert "not conjugate" in explained(pyrozoo.explain(regression, "em"), "noise").sentence


def test_mistakes_are_one_line():
    assert "nuts cannot be explained: gibbs, em, cavi, bp can" in refused(
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
