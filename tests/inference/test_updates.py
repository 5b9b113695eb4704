"""A law: every hand-built update is the one that follows from the program, at random states; slips turn it red.

Of Gibbs what is drawn from, parameter by parameter or as a log density; of EM and CAVI whole steps. All choices of a
model's settings are gone through, one at a time. A model says in ``updates.py`` what its folder alone knows, and why a
solver is not held to its program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from functools import cache, partial

import pytest
import torch

from pyrozoo.contracts.model import beside
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import blocks_of, step_of, updates_of
from pyrozoo.core.errors import UserError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.simulate import simulate_data
from pyrozoo.inference import held as updates
from pyrozoo.inference.held import averages_of, block_is_derived, step_is_derived
from pyrozoo.models.gaussian_mf import point
from pyrozoo.models.gaussian_mixture.conjugate import Components
from pyrozoo.models.hidden_markov import posterior as em_of_paths
from pyrozoo.models.poisson_mf import cavi as poisson_cavi
from pyrozoo.models.poisson_mf import factors
from pyrozoo.models.potts_grid.checkerboard import Checkerboard
from pyrozoo.program.conditionals.conditional import Conditionals
from pyrozoo.program.conditionals.held import AGREE, held
from pyrozoo.run import catalog
from tests.case import case

pytestmark = pytest.mark.usefixtures("unchecked")

MODELS, METHODS, HOLES = catalog.models(), ("gibbs", "em", "cavi"), 0.2


def changes(model):
    """Return one change for each choice of the settings that the case of a model has not."""
    found = [()]
    for field in dataclasses.fields(case(model).model):
        declared = field.metadata.get("range")
        for choice in () if declared is None else declared.choices:
            if choice != getattr(case(model).model, field.name):
                found.append((field.name, choice))
    return [*found, ("exposure", "given")] if case(model).model.uses_exposure else found


@cache
def posterior_of(model, change=(), missing=0.0):
    its = case(model)
    exposed = change[:1] == ("exposure",)
    made = dataclasses.replace(its.model, **dict([change] if change and not exposed else []))
    data = simulate_data(made, seed=3, missing=missing, **its.shape)
    if exposed:
        data = dataclasses.replace(data, exposure=torch.linspace(0.5, 2.0, data.shape[0], dtype=torch.float64))
    return Posterior.of(made, data)


@cache
def solver_of(model, method, change=(), missing=0.0):
    return catalog.part(model, method).Solver(posterior_of(model, change, missing))


def solver_for(said, model, method, change):
    """Return a solver, of data with holes where what is said of the model can do with them."""
    complete = said.complete is not None and said.complete(posterior_of(model, change).model)
    return solver_of(model, method, change, 0.0 if complete else HOLES)


def said_by(model):
    """Return what the model's folder says of its updates."""
    return beside(type(case(model).model), "updates")


CHOICES = [(model, change) for model in MODELS for change in changes(model)]
BLOCKED = [choice for choice in CHOICES if hasattr(said_by(choice[0]), "BLOCKS")]
UPDATED = [choice for choice in CHOICES if hasattr(said_by(choice[0]), "UPDATES")]
STEPS = [(*choice, method) for choice in CHOICES for method in ("em", "cavi") if catalog.has(choice[0], method)]


def named(case):
    return "-".join(str(part) for each in case for part in (each if isinstance(each, tuple) else (each,)))


@cache
def averages(model, change, method):
    """Return solver and expectations of a step."""
    step = step_of(case(model).model, method)
    solver = solver_for(step, model, method, change)
    return solver, averages_of(solver, step)


def of_step(model, change, method, seed=0):
    """Return the differences of a step; none of settings with which a model has not that method."""
    try:
        solver, known = averages(model, change, method)
    except UserError:
        assert change, "the settings that the case of the model has are refused"
        return {}
    return step_is_derived(solver, method, seed, known)


def of_blocks(model, change, seed=0):
    """Return the differences of what Gibbs draws from."""
    try:
        said = blocks_of(posterior_of(model, change))
    except UserError:
        return {}
    return {each.sites: block_is_derived(solver_for(each, model, each.method, change), each, seed) for each in said}


@pytest.mark.parametrize(("model", "change", "method"), STEPS, ids=map(named, STEPS))
def test_steps_of_em_and_cavi_follow_from_the_program(model, change, method):
    found = of_step(model, change, method)
    assert all(each < AGREE for each in found.values()), found


@pytest.mark.parametrize(("model", "change"), BLOCKED, ids=map(named, BLOCKED))
def test_what_gibbs_draws_from_follows_from_the_program(model, change):
    found = of_blocks(model, change)
    assert all(each < AGREE for each in found.values()), found


@cache
def conditionals_of(posterior, program):
    """Return the conditionals of one program, which several updates share."""
    found = next(each for each in updates_of(posterior.model) if each.program == program)
    return Conditionals(found.program_of(posterior), posterior.data)


def of_updates(model, change, seed=0):
    """Return the differences of parameters of conditionals; of EM, whose sites move together, of discrete ones."""
    found = {}
    for update in updates_of(case(model).model):
        posterior = solver_for(update, model, update.methods[0], change).posterior
        conditionals = conditionals_of(posterior, update.program)
        for method in update.methods if update.site in conditionals.joint.sites else ():
            if method == "em" and not conditionals.joint.discrete(update.site):
                continue
            where, solver = update.where and update.where(posterior), solver_for(update, model, method, change)
            with seeded(seed):
                values = conditionals.draw()
            each = held(conditionals, update.site, values, partial(update.parameters, solver), where)
            found[update.site, method] = max(each.difference)
    return found


@pytest.mark.parametrize(("model", "change"), UPDATED, ids=map(named, UPDATED))
def test_parameters_of_conditionals_follow_from_the_program(model, change):
    try:
        found = of_updates(model, change)
    except UserError:
        assert change
        return
    assert all(each < AGREE for each in found.values()), found


def test_every_solver_is_held_or_says_why_not():
    for model in MODELS:
        said, folder = said_by(model), catalog.MODELS / model
        solvers = {path.stem for path in folder.glob("*.py") if re.search(r"^class Solver\b", path.read_text(), re.M)}
        methods = {method for each in getattr(said, "UPDATES", ()) for method in each.methods}
        methods |= {each.method for each in getattr(said, "BLOCKS", ())} | ({"em", "cavi"} & solvers)
        excused = {name.split(",")[0] for name in getattr(said, "NOT_HELD", {})}
        assert not solvers & set(catalog.options("inference")) - methods - excused, model


SLIP = 1e-4
"""Of one number, relative. One that changes a thousandth of the log density by that much is seen from 1e-8 on."""

BASES = [(model, method) for model, change, method in STEPS if not change]


def slipped(step, name):
    """Return what makes a step, and a slip in one number of a field of the state."""

    def moved(solver, state):
        new, info = (step.moved or type(solver).step)(solver, state)
        value = getattr(new, name).clone(memory_format=torch.contiguous_format)
        value.view(-1)[0] *= 1 + SLIP
        return dataclasses.replace(new, **{name: value}), info

    return moved


@pytest.mark.parametrize(("model", "method"), BASES, ids=map(named, BASES))
def test_a_slip_in_any_field_of_a_step_turns_red(model, method, monkeypatch):
    solver, _ = averages(model, (), method)
    step, state = step_of(solver.model, method), solver.init(1)
    for field in dataclasses.fields(state):
        moved = dataclasses.replace(step, moved=slipped(step, field.name))
        with monkeypatch.context() as patch:
            patch.setattr(updates, "step_of", lambda *_, moved=moved: moved)
            worst = max(each for name, each in of_step(model, (), method).items() if name != "objective")
        assert worst > AGREE or not matters(solver, state, field.name), field.name


def matters(solver, state, name):
    """Return whether an answer depends on a field: some are of settings that the model has not."""
    found = []
    for each in (state, dataclasses.replace(state, **{name: getattr(state, name) * 1.5})):
        with seeded(1):
            found.append(solver.answer(each).draws())
    return any(not torch.equal(found[0][site], found[1][site]) for site in found[0])


def test_a_slip_in_sums_turns_red(monkeypatch):
    given = Components.given

    def shifted(prior, sums):
        return given(prior, dataclasses.replace(sums, counts=sums.counts + 1e-6))

    monkeypatch.setattr(Components, "given", shifted)
    assert min(of_step("gaussian_mixture", (), "em")["weights"], *of_blocks("gaussian_mixture", ()).values()) > AGREE
    assert of_step("gaussian_mixture", (), "em")["mean"] < AGREE


def test_a_slip_in_degrees_turns_red(monkeypatch):
    made = point.NormalWishart.of.__func__

    def fewer(cls, model, variance, first, second, count):
        return made(cls, model, variance, first, second, count - 1)

    change = ("hierarchical", True)
    monkeypatch.setattr(point.NormalWishart, "of", classmethod(fewer))
    found = of_updates("gaussian_mf", change)
    assert found["row_precision", "gibbs"] > AGREE > found["row_factors", "gibbs"]
    assert of_step("gaussian_mf", change, "em")["row_precision"] > AGREE


def test_a_slip_in_a_prior_turns_red(monkeypatch):
    shape = factors.rates_shape
    monkeypatch.setattr(factors, "rates_shape", lambda model, given: shape(model, given) + 1e-6)
    assert of_updates("poisson_mf", ("hierarchical", True))["row_rates", "gibbs"] > AGREE
    assert of_step("poisson_mf", ("hierarchical", True), "cavi")["row_factors"] > AGREE


def test_a_flipped_sign_in_a_bound_turns_red(monkeypatch):
    total = poisson_cavi.expected_total
    monkeypatch.setattr(poisson_cavi, "expected_total", lambda *given: -total(*given))
    found = of_step("poisson_mf", (), "cavi")
    assert found["objective"] > AGREE > found["row_factors"]


def test_a_slip_in_smoothing_turns_red(monkeypatch):
    smooth = em_of_paths.smooth

    def often(steps, initial, transition, logs):
        found = smooth(steps, initial, transition, logs)
        return found._replace(pairs=found.pairs * (1 + 1e-6))

    monkeypatch.setattr(em_of_paths, "smooth", often)
    assert of_step("hidden_markov", (), "em")["transition"] > AGREE


def test_a_slip_in_neighbours_turns_red(monkeypatch):
    pull = Checkerboard.pull
    monkeypatch.setattr(Checkerboard, "pull", lambda board, other, colour: pull(board, other, 1 - colour))
    assert of_updates("potts_grid", ())["label", "gibbs"] > AGREE


def table(seeds=3):
    """Return the table of ``docs/derived.md``, line by line: model, method, what is held to its program, difference."""
    lines = []
    for model in MODELS:
        worst = {}
        for change in changes(model):
            for seed in range(seeds):
                found = {
                    (method, site): each
                    for method in ("em", "cavi")
                    if catalog.has(model, method)
                    for site, each in of_step(model, change, method, seed).items()
                }
                if (model, change) in BLOCKED:
                    found |= {("gibbs", ", ".join(sites)): x for sites, x in of_blocks(model, change, seed).items()}
                if (model, change) in UPDATED:
                    with contextlib.suppress(UserError):
                        found |= {(method, site): x for (site, method), x in of_updates(model, change, seed).items()}
                for key, each in found.items():
                    worst[key] = max(worst.get(key, 0.0), each)
        for method in dict.fromkeys(method for method, _ in worst):
            its = {site: each for (which, site), each in worst.items() if which == method}
            sites = dict.fromkeys(f"`{site}`" for sites in its for site in sites.split(", "))
            lines.append(f"| {model} | {method} | {', '.join(sites)} | {max(its.values()):.0e} |")
        for method, why in getattr(said_by(model), "NOT_HELD", {}).items():
            lines.append(f"| {model} | {method} | {why} | |")
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
