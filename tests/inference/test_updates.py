"""A law: every hand-built update is the one that follows from the program, at random states; slips turn it red."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import Augmented, updates_of
from pyrozoo.core.seeds import seeded
from pyrozoo.data.simulate import simulate_data
from pyrozoo.inference.derived import em
from pyrozoo.models.gaussian_mf import point
from pyrozoo.models.poisson_mf import updates as poisson
from pyrozoo.models.zip_mixture import cavi
from pyrozoo.models.zip_mixture.updates import with_switches
from pyrozoo.program.conditionals.conditional import Conditionals
from pyrozoo.program.conditionals.held import held
from pyrozoo.run import catalog

pytestmark = pytest.mark.usefixtures("unchecked")

SET = {
    "zip_mixture": {"num_components": 3, "rate_rate": 1.0},
    "factor_analysis": {"num_factors": 2},
    "gaussian_mf": {"num_factors": 2, "hierarchical": True},
    "poisson_mf": {"num_factors": 2, "hierarchical": True},
}
METHODS = ("gibbs", "em", "cavi")


@cache
def posterior_of(name: str) -> Posterior:
    values = {key: value for key, value in catalog.settings("model", name).items() if key != "name"}
    model = catalog.model_class(name).of({**values, **SET[name]})
    return Posterior.of(model, simulate_data(model, seed=5, rows=5, columns=4))


@cache
def solver_of(name: str, method: str):
    return catalog.part(name, method).Solver(posterior_of(name))


@cache
def conditionals_of(update) -> Conditionals:
    """Return the conditionals of one program, which several updates share."""
    name, program = update
    posterior = posterior_of(name)
    every = [each for method in METHODS for each in updates_of(posterior.model, method)]
    found = next(each for each in every if each.program == program)
    return Conditionals(found.program_of(posterior), posterior.data)


CASES = [
    (name, method, update)
    for name in SET
    for method in METHODS
    for update in updates_of(posterior_of(name).model, method)
    if method != "em" or update.site in ("assignment", "on")  # the M-step is held to as a whole
]


def difference(name, method, update, seed=0):
    posterior, solver = posterior_of(name), solver_of(name, method)
    conditionals = conditionals_of((name, update.program))
    where = None if update.where is None else update.where(posterior)
    with seeded(seed):
        values = conditionals.draw()
    return held(conditionals, update.site, values, lambda each: update.parameters(solver, each), where)


@pytest.mark.parametrize(
    ("name", "method", "update"), CASES, ids=[f"{name}-{method}-{update.site}" for name, method, update in CASES]
)
def test_hand_built_updates_follow_from_the_program(name, method, update):
    for seed in range(3):
        found = difference(name, method, update, seed)
        assert found.same, found.difference


def test_every_model_that_says_its_updates_is_here():
    said = {path.parent.name for path in catalog.MODELS.glob("*/updates.py")}
    assert said == {name for name, _, _ in CASES}


def of(name, method, site):
    return next(case for case in CASES if (case[0], case[1], case[2].site) == (name, method, site))


def test_a_slip_in_sums_turns_red(monkeypatch):
    given = cavi.State.given.__func__

    def slipped(cls, posterior, sums):
        return given(cls, posterior, dataclasses.replace(sums, exposed=sums.seen))  # cells that are off, too

    monkeypatch.setattr(cavi.State, "given", classmethod(slipped))
    assert not difference(*of("zip_mixture", "gibbs", "rate")).same
    assert difference(*of("zip_mixture", "gibbs", "weights")).same


def test_a_slip_in_degrees_turns_red(monkeypatch):
    made = point.NormalWishart.of.__func__

    def slipped(cls, model, variance, first, second, count):
        return made(cls, model, variance, first, second, count - 1)

    monkeypatch.setattr(point.NormalWishart, "of", classmethod(slipped))
    assert not difference(*of("gaussian_mf", "gibbs", "row_precision")).same
    assert difference(*of("gaussian_mf", "gibbs", "row_factors")).same


def test_a_slip_in_a_prior_turns_red(monkeypatch):
    given = poisson.rates_given
    monkeypatch.setattr(poisson, "rates_given", lambda m, *both: [(a + 1e-6, b) for a, b in given(m, *both)])
    assert not difference(*of("poisson_mf", "gibbs", "row_rates")).same


def test_em_steps_as_one():
    """EM of the zoo, and that derived from the program with switches: one step, from random points."""
    values = {key: value for key, value in catalog.settings("model", "zip_mixture").items() if key != "name"}
    model = catalog.model_class("zip_mixture").of(
        {**values, "num_components": 2, "rate_shape": 2.0, "rate_rate": 1.0, "on_prob_alpha": 2.0, "on_prob_beta": 3.0}
    )
    data = simulate_data(model, seed=5, missing=0.1, rows=7, columns=3)
    posterior = Posterior.of(model, data)
    built, derived = (
        catalog.part("zip_mixture", "em").Solver(posterior),
        em.Solver(Augmented(posterior, with_switches(posterior))),
    )
    with seeded(1):
        state = built.init(3)
    found, info = derived.step(derived.layout.state(vars(state)))
    expected, told = built.step(state)
    assert torch.allclose(info.objective, told.objective, rtol=1e-10)
    for site in ("weights", "on_prob", "rate"):
        assert torch.allclose(getattr(found, site), getattr(expected, site), rtol=1e-8)
