"""Moments: states on the way, evenly chosen, kept without a change to the run; resumed, and stored."""

import dataclasses

import pytest
import torch

import pyrozoo
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.moments import Recorded, Recorder
from tests.case import case, pairs, solver_class
from tests.inference.test_inference import RUNS, interrupt_at

SOLVERS = [*pairs(engine="optimise"), *pairs(engine="sample")]
pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.parametrize(("model", "method"), SOLVERS)
def test_no_step_writes_into_a_state_that_came_before(model, method):
    its = case(model, method)
    solver = solver_class(model, method)(Posterior.of(its.model, its.tiny))
    with seeded(0):
        state, seen = solver.init(2), []
        for _ in range(3):
            seen.append((state, {f.name: getattr(state, f.name).clone() for f in dataclasses.fields(state)}))
            state, _ = solver.step(state)
    for state, copy in seen:
        for name, value in copy.items():
            assert getattr(state, name).equal(value) or bool(value.isnan().any()), name


def recorded(step, numbers=1):
    return Recorded(step, float(step), float(step), 0, torch.zeros(1), {"x": torch.full((numbers,), float(step))})


@pytest.mark.parametrize("steps", [1, 59, 60, 61, 1000])
def test_an_even_choice_of_steps_though_their_number_is_not_known(steps):
    recorder = Recorder(60, None)
    for step in range(1, steps + 1):
        if recorder.due(step):
            recorder.add(recorded(step))
    found = [each.step for each in recorder.states]
    assert min(steps, 30) <= len(found) <= 60
    even = {*range(recorder.every, steps + 1, recorder.every)}
    assert found == sorted(even | {2**i for i in range(10) if 2**i <= steps})
    assert not recorder.notes()


def test_the_way_of_a_restart_that_ended_early_is_kept_while_others_go_on():
    recorder = Recorder(60, None)
    for step in range(1, 1001):
        if recorder.due(step):
            recorder.add(recorded(step), settled=14 if step > 14 else 0)
    found = [each.step for each in recorder.states]
    assert found[:14] == list(range(1, 15))
    assert 30 <= len(found) - 14 <= 60


def test_what_does_not_fit_is_fewer_moments_and_a_note():
    recorder = Recorder(60, 8 * 8e-4)  # room for a hundred numbers
    for step in range(1, 50):
        if recorder.due(step):
            recorder.add(recorded(step, 20))
    assert 5 <= len(recorder.states) <= 10
    assert "posterior_megabytes" in recorder.notes()[0]
    assert not Recorder(0, None).due(1)


def test_moments_of_a_large_fit_have_fewer_draws():
    settings = {"rows": 30, "columns": 4, "num_components": 3, "restarts": 1, "draws": 1, "progress": False}
    fit = pyrozoo.fit("zip_mixture", "cavi", posterior_megabytes=0.02, **settings)
    assert fit.draws.scalars == 3 + 2 * 12
    assert fit.moments[0].draws.shape == (1, 2500 // (8 * 27))
    assert fit.moments[0].sample(60).shape == (1, 60)


@pytest.mark.parametrize("method", ["em", "gibbs", "svi"])
def test_resumed_runs_have_the_moments_of_whole_ones(method, tmp_path, monkeypatch):
    settings = {**RUNS[method], "moments": 7, "progress": False}
    whole = pyrozoo.fit("zip_mixture", method, seed=4, **settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 31)
        pyrozoo.fit("zip_mixture", method, seed=4, directory=tmp_path, checkpoint_every=10, **settings)
    again = pyrozoo.resume(tmp_path)
    assert [each.step for each in again.moments] == [each.step for each in whole.moments]
    for mine, its in zip(again.moments, whole.moments, strict=True):
        assert (mine.passes, mine.kept, mine.objective) == (its.passes, its.kept, its.objective)
        assert all(mine.draws[site].equal(value) for site, value in its.draws.items())


@pytest.mark.parametrize("method", ["cavi", "gibbs", "nuts"])
def test_a_run_directory_has_its_moments(method, tmp_path):
    its = case("zip_mixture")
    settings = {**its.settings[method], **({"warmup": 20, "draws": 20} if method != "cavi" else {})}
    fit = pyrozoo.fit(its.model, method, data=its.tiny, moments=9, progress=False, **settings)
    stored = pyrozoo.load(fit.save(tmp_path, report="none"))
    assert len(fit.moments) == len(stored.moments) > 2
    for mine, made in zip(stored.moments, fit.moments, strict=True):
        about = ("step", "seconds", "passes", "objective", "kept")
        assert [getattr(mine, name) for name in about] == [getattr(made, name) for name in about]
        assert all(mine.draws[site].equal(value) for site, value in made.draws.items())
    first = stored.at(stored.moments[0])
    assert first.aligned.shape == first.draws.shape
    assert first.invariants.shape == first.draws.shape
