"""The laws: what must hold of any model, its posterior and its solvers. Each raises AssertionError with what is wrong.

``pyrozoo.testing.check(model, data)`` holds a model of one's own to all that apply to it; the zoo's models are under
the same ones. Numbers: two statements of one density agree to 1e-10, relative; gradients to central differences.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Solver
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.core.settings import wrong_values
from pyrozoo.data.container import Cells
from pyrozoo.data.simulate import simulate_data
from pyrozoo.inference.optimise import MONOTONE_TOLERANCE
from pyrozoo.run import catalog
from pyrozoo.run.fit import known_as
from pyrozoo.run.names import method_of

POINTS = 16
"""Draws from the prior at which densities are compared."""

PRECISION = 1e-10


def prior_draws(posterior: Posterior, count: int = POINTS, seed: int = 7) -> Draws:
    """Return independent draws from the prior, site -> [1, count, *event]."""
    with seeded(seed), pyro.validation_enabled(False):
        drawn = [posterior.prior_draw() for _ in range(count)]
    return Draws.stack([{site: draw[site] for site in posterior.sites} for draw in drawn])


def close(found: Tensor, expected: Tensor, what: str, precision: float = PRECISION) -> None:
    """Refuse two tensors that differ by more than a relative precision; what is not finite must be so in both."""
    wrong = ~torch.isclose(found, expected, rtol=precision, atol=precision * 1e-2, equal_nan=True)
    if bool(wrong.any()):
        first = tuple(int(i) for i in wrong.nonzero()[0])
        raise AssertionError(f"{what}: {float(found[first])!r} is not {float(expected[first])!r} (at {first})")


def one_density(posterior: Posterior) -> None:
    """Law 1: whatever is stated of the density is the program's ``log_joint``, discrete sites summed out by Pyro."""
    draws = prior_draws(posterior)
    with torch.no_grad(), pyro.validation_enabled(False):
        truth = posterior.log_joint(draws)
        close(posterior.log_density(draws), truth, "log_density and the program differ")
        pointwise = posterior.pointwise(draws)
        assert pointwise.shape == (*draws.shape, posterior.units), f"pointwise has shape {tuple(pointwise.shape)}"
        prior = posterior.log_prior(draws)
        if prior.shape == truth.shape:  # priors that depend on a discrete site have no value of their own
            close(pointwise.sum(-1) + prior, truth, "pointwise and the program differ")
        close(posterior.log_likelihood(draws), pointwise.sum(-1), "log_likelihood is not the sum of pointwise")


def a_gradient(posterior: Posterior) -> None:
    """Law 4: the flat density that NUTS and Laplace follow has the gradient that its values have."""
    with seeded(3), pyro.validation_enabled(False):
        start = {site: value[0] for site, value in posterior.initial(1).items()}
        space = posterior.density(start)
        point = space.flatten(space.unconstrain(start)).detach()
        leaf = point.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(space(leaf), leaf)
        for _ in range(3):
            along = torch.randn_like(point)
            step = 1e-5 * along
            with torch.no_grad():
                numeric = (space(point + step) - space(point - step)) / 2e-5
            scale = 1e-5 * float((slope * along).abs().sum()) + 1e-5
            assert abs(float(numeric - slope @ along)) <= scale, "the gradient is not that of the density's values"


def symmetric(posterior: Posterior) -> None:
    """Law 7: aligning draws changes no invariant and no likelihood, and aligning again changes nothing."""
    draws = prior_draws(posterior, 20)
    with torch.no_grad(), pyro.validation_enabled(False):
        once = Draws(posterior.align(draws))
        before, after = posterior.invariants(draws), posterior.invariants(once)
        assert set(before) <= set(posterior.invariant_dims), "an invariant has no dimensions in invariant_dims"
        for name, value in before.items():
            close(after[name], value, f"aligning changes {name}", 1e-9)
        toward = posterior.align(draws, once)
        again = posterior.align(toward, once)
        for site in posterior.sites:
            close(again[site].double(), toward[site].double(), f"aligning {site} twice is not aligning it once", 1e-8)


def missing_means_missing(posterior: Posterior) -> None:
    """Law 8: a row without any value says nothing, and changes nothing that other rows say. Of tables and surveys."""
    data = posterior.data
    if not isinstance(data, Cells) or posterior.unit != "row" or not posterior.cell_sites:
        return
    draws = prior_draws(posterior, 4)
    empty = torch.full_like(data.values[:1], math.nan)
    longer = dataclasses.replace(
        data, values=torch.cat([data.values, empty]), row_labels=[*data.row_labels, "empty"], truth={}
    )
    with torch.no_grad(), pyro.validation_enabled(False):
        found, expected = posterior.on(longer).pointwise(draws), posterior.pointwise(draws)
    assert float(found[..., -1].abs().max()) < 1e-12, "an empty row has a likelihood: the program does not mask it"
    close(found[..., :-1], expected, "an empty row changes what others say")


def refuses_wrong_settings(settings: type[Any], good: dict[str, Any]) -> None:
    """Law 9: a value that a declared range does not hold is refused, in one line that names the field."""
    for name, value in wrong_values(settings):
        message = ""
        try:
            settings.of({**good, name: value})
        except SettingError as error:
            message = str(error)
        assert message, f"{name} is {value!r} and nobody minds"
        assert name in message, f"the error of {name} does not name it: {message}"
        assert "\n" not in message, f"the error of {name} has several lines"


def same_seed_same_bits(posterior: Posterior, method: Method) -> None:
    """Law 11: one seed gives one result, to the bit, and leaves the caller's random state alone.

    What only watches, the moments that the first of two runs keeps, changes nothing; the last of them is the fit.
    """
    torch.manual_seed(1)
    first = method(posterior, Loop(seed=4, progress=False))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = method(posterior, Loop(seed=4, progress=False, moments=0))
    assert torch.equal(before, torch.get_rng_state()), f"{method.name} moves the caller's random state"
    for site, value in first.draws.items():
        assert torch.equal(value, second.draws[site]), f"{method.name}: one seed gave two results for {site}"
    for value in first.draws.values():
        assert bool(value.isfinite().all()), f"{method.name} drew what is not finite"
    assert not second.moments
    steps = [each.step for each in first.moments]
    assert steps == sorted(set(steps)), f"{method.name}: moments are not in order"
    for site, value in first.draws.items() if first.sampler is None else ():
        said = first.moments[-1].draws[site]
        assert torch.equal(said, value[:, -1:]), f"{method.name}: the last moment of {site} is not the fit"


def objective_is_the_joint(solver: Solver, chains: int = 16) -> None:
    """Law 1 of solvers whose objective is the log joint: it is the program's, at the state that it belongs to."""
    with seeded(0):
        state = solver.init(chains)
        for _ in range(3):
            state, _ = solver.step(state)
        new, info = solver.step(state)
    at = state if solver.objective_of == "argument" else new
    draws = {site: value[None] for site, value in solver.answer(at).draws().items()}
    close(info.objective[None], solver.posterior.log_joint(draws), "the objective is not the program's log joint")


def never_falls(solver: Solver, steps: int = 150, chains: int = 8) -> None:
    """Law 3: the objective of EM, CAVI and their kin never falls, but for rounding."""
    with seeded(0):
        state = solver.init(chains)
    path = []
    for _ in range(steps):
        state, info = solver.step(state)
        path.append(info.objective.double())
    objectives, tolerance = torch.stack(path), MONOTONE_TOLERANCE[info.objective.dtype]
    fall = objectives[1:] - objectives[:-1] < -tolerance * objectives[1:].abs()
    assert not bool(fall.any()), f"the objective falls at step {int(fall.nonzero()[0][0]) + 2}"
    assert bool((objectives[-1] > objectives[0]).all()), "the objective does not rise"


QUICK: dict[str, dict[str, Any]] = {
    "svi": {"max_steps": 40, "restarts": 1, "draws": 30, "evaluation_draws": 5},
    "laplace": {"restarts": 2, "max_iterations": 60, "draws": 30},
    "gibbs": {"warmup": 5, "draws": 10, "chains": 2, "thin": 1},
    "em": {"restarts": 2, "max_iterations": 20},
    "cavi": {"restarts": 2, "max_iterations": 20, "draws": 10},
    "nuts": {"warmup": 20, "draws": 10, "chains": 1, "backend": "pyro", "max_tree_depth": 4},
}
"""Settings that end a run early, for laws that do not ask where it ends."""


def check(model: Model, data: Any = None, methods: Iterable[str] = ("svi", "laplace", "nuts"), **shape: Any) -> None:
    """Hold a model to all laws that need nothing but its program.

    Args:
        model: The model.
        data: Its data, in a container; None: simulated from it, a tenth of the cells missing where they can be.
        methods: Methods whose results are looked at.
        **shape: Of simulated data: ``rows`` and ``columns``; 12 and 3 unless others are given.

    Raises:
        AssertionError: A law does not hold; the message says which, and where.
    """
    if data is None:
        sizes = {"rows": 12, "columns": 3, **shape}
        whole = simulate_data(model, seed=5, **sizes)
        data = whole if whole.replaced else whole.hold_out(0.1, 6)
        data = dataclasses.replace(data, hidden=None)
    posterior = Posterior.of(model, data)
    missing_means_missing(posterior)
    posterior.check()
    laws: tuple[Callable[[Posterior], None], ...] = (one_density, a_gradient, symmetric)
    for law in laws:
        law(posterior)
    refuses_wrong_settings(type(model), {f.name: getattr(model, f.name) for f in dataclasses.fields(model)})
    for name in methods:
        if problem := catalog.check_pair(known_as(model), name):
            raise NotApplicable(problem)
        method = method_of({**catalog.settings("inference", name), **QUICK.get(name, {})}, known_as(model), {})
        same_seed_same_bits(posterior, method)
