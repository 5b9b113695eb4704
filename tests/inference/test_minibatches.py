"""Minibatches: a pass is all rows, and online EM is EM that sees them one minibatch after the other."""

from __future__ import annotations

from dataclasses import fields, replace
from unittest import mock

import pytest
import torch

import pyrozoo
from pyrozoo.contracts import minibatches
from pyrozoo.contracts.minibatches import Options
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.core.settings import wrong_values
from pyrozoo.core.world import World
from pyrozoo.data.shards import split
from pyrozoo.data.simulate import simulate_data
from tests.case import case, pairs, solver_class

ONLINE = [model for model, method in pairs(engine="optimise") if method == "stochastic_em"]
VARIANTS = {
    "zip_mixture": [{}, {"overdispersed": True}],
    "factor_analysis": [{}, {"num_factors": 2, "prior": "matrix_normal", "loadings_covariance": (1.0, 0.5)}],
}
CASES = [
    pytest.param(model, variant, id=f"{model}-{number}")
    for model in ONLINE
    for number, variant in enumerate(VARIANTS[model])
]
ALL = 10**6
NEAR, PASSES = 0.5, 40
"""Nats below EM's optimum at which 8 minibatches of 50 rows, with holes, end after so many passes: 0.03 to 0.3."""

pytestmark = pytest.mark.usefixtures("unchecked")


def posterior_of(model: str, rows: int = 60, **variant: object) -> Posterior:
    of = replace(case(model).model, **variant)
    return Posterior.of(of, simulate_data(of, seed=1, missing=0.1, rows=rows, columns=8))


def point(model: str, variant: dict[str, object], state: object) -> object:
    """Return the state of EM at the point of a state of online EM."""
    make = solver_class(model, "em")(posterior_of(model, **variant)).state_class
    return make(**{each.name: getattr(state, each.name) for each in fields(make)})


def after_one(model: str, variant: dict[str, object]) -> tuple[object, object]:
    """Return where one minibatch of everything at full step leads, and where a step of EM does."""
    posterior = posterior_of(model, **variant)
    solver = solver_class(model, "stochastic_em")(posterior, batch_size=ALL, delay=0.0)
    with seeded(0):
        state = solver.init(3)
        found, info = solver.step(state)
    new, before = solver_class(model, "em")(posterior).step(point(model, variant, state))
    # The likelihood is that of the point it met, the prior that of where the pass ends.
    moved = log_prior(point(model, variant, found), posterior) - log_prior(state, posterior)
    torch.testing.assert_close(info.objective, before.objective + moved, rtol=1e-9, atol=1e-9)
    return point(model, variant, found), new


def draws(state: object, posterior: Posterior) -> dict[str, torch.Tensor]:
    return {site: getattr(state, site).unsqueeze(1) for site in posterior.sites}


def log_prior(state: object, posterior: Posterior) -> torch.Tensor:
    values = draws(state, posterior)
    return (posterior.log_density(values) - posterior.log_likelihood(values))[:, 0]


@pytest.mark.parametrize(("model", "variant"), CASES)
def test_one_minibatch_of_everything_at_full_step_is_a_step_of_em(model, variant):
    found, new = after_one(model, variant)
    for name, value in vars(new).items():
        torch.testing.assert_close(getattr(found, name), value, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("model", ONLINE)
def test_that_law_sees_steps_of_another_length(model):
    """A bug planted: the old sums count as the new ones should."""
    wrong = mock.patch.object(Options, "weight", lambda self, seen: (seen + 2 + self.delay).pow(-self.forgetting))
    with wrong:
        found, new = after_one(model, {})
    worst = max(((getattr(found, name) - value).abs() / value.abs()).max() for name, value in vars(new).items())
    assert worst > 1e-3


@pytest.mark.parametrize("model", ONLINE)
def test_minibatches_of_a_pass_are_all_rows(model):
    """What they say adds up to what all rows say, in shards too; each stands for as many rows as all."""
    whole = posterior_of(model, rows=50)
    for posterior in (whole, split(whole, 3, World())):
        with seeded(0):
            found = [
                batch.total(lambda part: part.data.filled.sum(0)) for batch in minibatches.minibatches(posterior, 8)
            ]
        assert len(found) == 7
        torch.testing.assert_close(torch.stack([total for total, _ in found]).sum(0), whole.data.filled.sum(0))
        assert sum(50 / scale for _, scale in found) == pytest.approx(50)


@pytest.mark.parametrize("model", ONLINE)
def test_online_em_comes_to_the_optimum_of_em(model):
    posterior = posterior_of(model, rows=400)
    batch, solver = (solver_class(model, name)(posterior) for name in ("em", "stochastic_em"))
    solver.options = replace(solver.options, batch_size=50)
    with seeded(0):
        state, _ = solver.step(solver.init(2))
        early = batch.step(point(model, {}, state))[1].objective
        for _ in range(PASSES - 1):
            state, info = solver.step(state)
    start = point(model, {}, state)
    best, reached = start, batch.step(start)[1].objective
    for _ in range(300):
        best, after = batch.step(best)
    assert (after.objective - early).min() > 2 * NEAR
    assert (after.objective - reached).max() < NEAR
    assert (after.objective - reached).min() >= 0
    assert ((info.objective - reached).abs() < 0.002 * reached.abs()).all(), "what is shown is near what it estimates"


def test_settings_of_minibatches_are_checked():
    for name, value in wrong_values(Options):
        with pytest.raises(SettingError, match=f"solver.{name} is .*; it must be"):
            pyrozoo.fit("zip_mixture", "stochastic_em", rows=9, columns=2, progress=False, solver={name: value})
