"""The laws of every model and method, found from the folders: a new model is under them without being listed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from functools import cache

import arviz as az
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pyrozoo
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.posterior import HandBuilt, Posterior
from pyrozoo.core.errors import DataError, UserError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.diagnostics.compare import _moments
from pyrozoo.diagnostics.predictive import FEWEST
from pyrozoo.inference.nuts import Nuts
from pyrozoo.inference.optimise import Optimise
from pyrozoo.inference.sample import Sample
from pyrozoo.inference.state import take
from pyrozoo.run import catalog
from pyrozoo.testing import laws
from pyrozoo.testing.samplers import calibration_ranks, geweke, uniformity
from tests.case import PAIRS, case, pairs, solver_class

MODELS = catalog.models()
SAMPLERS = pairs(engine="sample")
OPTIMISERS = pairs(engine="optimise")
MONOTONE = [pair for pair in OPTIMISERS if solver_class(*pair).monotone]
# Of labels there are no derivatives; what a point of them must be is the model's own test.
SMOOTH = [pair for pair in MONOTONE if solver_class(*pair).kind != "point" or "laplace" in catalog.methods(pair[0])]
VARIATIONAL = [
    *(pair for pair in OPTIMISERS if solver_class(*pair).kind == "variational"),
    *pairs(engine="svi"),
    *pairs(engine="laplace"),
]
# Objectives that are bounds are held by law 2 and by a Monte Carlo ELBO in the model's own tests.
JOINTS = [pair for pair in OPTIMISERS + SAMPLERS if solver_class(*pair).objective_name == "log_joint"]


def sizes(model):
    """Return the settings of a model that say how many components, factors, states or topics it has."""
    return [name for name, value in vars(model).items() if name.startswith("num_") and isinstance(value, int)]


WITH_SIZE = [(m, x, name) for m, x in PAIRS for name in sizes(case(m, x).model)]

QUIET = {"progress": False}
pytestmark = pytest.mark.usefixtures("unchecked")  # one law below looks at all shapes


def fit_tiny(model: str, method: str, **changes):
    its = case(model, method)
    return pyrozoo.fit(its.model, method, data=its.tiny, **{**QUIET, **its.settings[method], **changes})


@cache
def plain_fit(model: str, method: str):
    """Return the quick fit of the tiny instance that several laws look at."""
    return fit_tiny(model, method)


# What ends a run of each engine early, for laws that do not ask where it ends; and what lets it draw enough to be held
# to the exact posterior.
EARLY = {
    "optimise": {"max_iterations": 60},
    "sample": {"warmup": 20, "draws": 20},
    "nuts": {"warmup": 10, "draws": 5, "chains": 1},
    "svi": {"max_steps": 60, "restarts": 1},
}
ENOUGH = {
    "sample": {"chains": 16, "draws": 400, "warmup": 200},
    "nuts": {"draws": 600, "warmup": 400, "backend": "nutpie"},
}


def engine(method: str) -> str:
    """Return the name of a method's engine."""
    return catalog.settings("inference", method)["engine"]


def short(model: str, method: str):
    """Return settings that end a run early."""
    return EARLY.get(engine(method), {}) | ({"draws": 30} if (model, method) in VARIATIONAL else {})


def prior_draws(model: str, data, count: int):
    its = case(model)
    with seeded(7):
        draws = [Posterior.of(its.model, data).simulate() for _ in range(count)]
    return {site: torch.stack([draw[site] for draw in draws])[None] for site in Posterior.of(its.model, None).sites}


def larger(model: str, missing: float = 0.0, seed: int = 5, method: str = ""):
    its = case(model, method)
    return simulate_data(its.model, seed=seed, missing=missing, **its.larger)


# 1. One density -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_hand_built_density_is_the_programs(model):
    laws.one_density(Posterior.of(case(model).model, larger(model, missing=0.2)))


@pytest.mark.parametrize(("model", "method"), JOINTS)
def test_solvers_objective_is_the_programs_joint(model, method):
    posterior = Posterior.of(case(model, method).model, larger(model, missing=0.2, method=method))
    laws.objective_is_the_joint(solver_class(model, method)(posterior))


# 2. Oracle ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "method"), [*SAMPLERS, *pairs(engine="nuts")])
def test_samplers_agree_with_the_oracle(model, method):
    its = case(model, method)
    exact = its.oracle().draws
    fit = fit_tiny(model, method, **ENOUGH[engine(method)])
    invariants = _moments("ours", fit, Posterior.of(its.model, its.tiny).invariants(fit.draws)).set_index("quantity")
    truth = Posterior.of(its.model, its.tiny).invariants(exact)
    expected = np.concatenate([value[0].mean(0).flatten().numpy() for value in truth.values()])
    spread = np.concatenate([value[0].std(0).flatten().numpy() for value in truth.values()])
    error = (invariants["mean"].to_numpy() - expected) / np.hypot(invariants["mcse"], spread / math.sqrt(100_000))
    assert np.abs(error).max() < 5, dict(zip(invariants.index, error, strict=True))
    # The log-likelihood's skewed tail makes a standard deviation from a few hundred effective draws this loose.
    assert np.abs(invariants["sd"].to_numpy() / spread - 1).max() < 0.3


@pytest.mark.parametrize(("model", "method"), VARIATIONAL)
def test_variational_bounds_stay_below_the_evidence(model, method):
    its = case(model, method)
    evidence = its.oracle().log_evidence
    fit = plain_fit(model, method)
    slack = 4 * float(fit.metrics["elbo_se"])
    assert float(fit.metrics["elbo"]) <= evidence + slack
    assert float(fit.metrics["elbo"]) >= evidence - its.elbo_gap - slack
    if fit.objective_name == "elbo":
        assert fit.objective <= evidence + slack
    if fit.objective_name == "log_evidence_laplace":
        assert fit.objective == pytest.approx(evidence, abs=its.laplace_error)


@pytest.mark.parametrize(("model", "method"), [p for p in PAIRS if p[1] == "em"])
def test_point_estimates_beat_every_exact_draw(model, method):
    its = case(model, method)
    draws = {site: value[:, :2000] for site, value in its.oracle().draws.items()}
    few = its.tiny.first(1)
    best = Posterior.of(its.model, its.tiny).pointwise(draws).sum(-1) + Posterior.of(its.model, few).log_prior(draws)
    assert fit_tiny(model, method, restarts=20).objective > float(best.max())


# 3. Monotone ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("model", "method"), MONOTONE)
def test_objectives_never_fall(model, method, dtype):
    data = larger(model, missing=0.2, method=method).to("cpu", dtype)
    laws.never_falls(solver_class(model, method)(Posterior.of(case(model, method).model, data)))


class Falling:
    """Wrap a solver so that its objective falls at the second step, before any can have converged."""

    def __init__(self, solver):
        self.solver, self.steps = solver, 0

    def __getattr__(self, name):
        return getattr(self.solver, name)

    def step(self, state):
        self.steps += 1
        state, info = self.solver.step(state)
        fall = 10 * info.objective.abs() if self.steps == 2 else 0
        return state, dataclasses.replace(info, objective=info.objective - fall)


@pytest.mark.parametrize(("model", "method"), MONOTONE)
def test_a_fall_ends_the_run_and_is_never_called_converged(model, method):
    its, data = case(model, method).model, larger(model, method=method)
    solver = Falling(solver_class(model, method)(Posterior.of(its, data)))
    falling = Optimise(name=method, part=lambda _: solver, restarts=3, max_iterations=200, tol=1e-12, draws=5)
    fit = falling(Posterior.of(its, data), Loop(progress=False))
    assert fit.status == "objective_decreased"
    assert (fit.runs["status"] == "objective_decreased").any()


# 4. Stationary --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "method"), SMOOTH)
def test_converged_points_are_stationary(model, method):
    """Directional derivatives of the objective over the solver's own parameters vanish, by central differences."""
    its, data = case(model, method).model, larger(model, method=method)
    solver = solver_class(model, method)(Posterior.of(its, data))
    with seeded(0):
        state = solver.init(6)
        before = torch.full((6,), -torch.inf)
        for _ in range(3000):
            state, info = solver.step(state)
            objective = info.objective
            if torch.equal(objective, before):
                break
            before = objective
        best = take(state, objective.argmax()[None])
        generator = torch.Generator().manual_seed(1)
        size, directions = 1e-4, 20

        def moved(sign):
            """Move log parameters (and renormalise what sums to one) along random directions."""
            generator.manual_seed(1)
            changes = {}
            for field in dataclasses.fields(best):
                value = getattr(best, field.name).expand(directions, *getattr(best, field.name).shape[1:])
                noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
                new = value * torch.exp(sign * size * noise)
                if (
                    solver.kind == "point"
                    and field.name in Posterior.of(its, None).sites
                    and torch.allclose(value.sum(-1), torch.ones(1).double())
                ):
                    new = new / new.sum(-1, keepdim=True)
                changes[field.name] = new.clamp(max=1 - 1e-12) if field.name == "on_prob" else new
            return solver.step(type(best)(**changes))[1].objective

        slope = (moved(1) - moved(-1)) / (2 * size)
        curvature = (2 * objective.max() - moved(1) - moved(-1)) / size**2
    # A maximum: slopes vanish against the curvature that a step away from it would show.
    assert (slope.abs() < 1e-2 * curvature.abs().clamp(min=1).sqrt()).all(), slope
    assert (curvature > 0).all()


@pytest.mark.parametrize("model", [model for model, _ in pairs(engine="nuts")])
def test_the_potential_has_the_gradient_of_the_enumerated_program(model):
    its, data = case(model).model, larger(model, missing=0.1).first(HandBuilt.CHECKED_UNITS)
    with seeded(0):
        start = {site: value[0] for site, value in Posterior.of(its, data).initial(1).items()}
        space = Posterior.of(its, data).density(start)
        vector = space.flatten(space.unconstrain(start)).requires_grad_(True)
        fast = torch.autograd.grad(space(vector), vector)[0]
        slow = torch.autograd.grad(-space.enumerated(space.unflatten(vector)), vector)[0]
    torch.testing.assert_close(fast, slow, rtol=1e-8, atol=1e-8)


# 5. Samplers ----------------------------------------------------------------------------------------------------------

GEWEKE_LIMIT = 4.5  # 4 for one quantity; there are dozens


def quick_geweke(model, make, sweeps):
    its = case(model)
    blank = its.model.container.blank(**its.shape)
    return geweke(its.joint or its.model, blank, make, sweeps=sweeps, seed=11, lose=its.lose)


def ranks(model, make, simulations, seed=3):
    """Calibration ranks from 31 chains from the solver's own starts, long enough to forget them."""
    its = case(model)

    def infer(data, seed):
        sampler = Sample(name="sampler", part=make, chains=31, warmup=40, draws=1, thin=1)
        return sampler(Posterior.of(its.model, data), Loop(seed=seed, progress=False)).draws

    return calibration_ranks(
        its.model, its.model.container.blank(**its.shape), infer, simulations=simulations, seed=seed, lose=its.lose
    )


@pytest.mark.parametrize(("model", "method"), SAMPLERS)
def test_geweke(model, method):
    z = quick_geweke(model, solver_class(model, method), 1000)
    assert z.abs().max() < GEWEKE_LIMIT, z[z.abs() > 3]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "method"), SAMPLERS)
def test_geweke_long(model, method):
    z = quick_geweke(model, solver_class(model, method), 8000)
    assert z.abs().max() < GEWEKE_LIMIT, z[z.abs() > 3]


@pytest.mark.parametrize(("model", "method"), SAMPLERS)
def test_calibration(model, method):
    p = uniformity(ranks(model, solver_class(model, method), 60))
    assert p.min() > 1e-4, p[p < 1e-3]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "method"), SAMPLERS)
def test_calibration_long(model, method):
    p = uniformity(ranks(model, solver_class(model, method), 1000), bins=20)
    assert p.min() > 1e-4, p[p < 1e-3]


def nuts_ranks(model, simulations, bug=None):
    """Calibration ranks from compiled NUTS, thinned to nearly independent draws."""
    its = case(model)

    def infer(data, seed):
        sampler = Nuts(
            name="nuts", backend="nutpie", chains=2, warmup=300, draws=320, start="model", target_accept_prob=0.9,
            max_tree_depth=10, max_unknowns=2000,
        )  # fmt: skip
        fit = sampler(Posterior.of(its.model, bug(data) if bug else data), Loop(seed=seed, progress=False))
        return {site: value[:, ::20] for site, value in fit.draws.items()}

    return calibration_ranks(
        its.model, its.model.container.blank(**its.shape), infer, simulations=simulations, seed=5, lose=its.lose
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", ["zip_mixture", "factor_analysis"])
def test_calibration_of_compiled_nuts(model):
    p = uniformity(nuts_ranks(model, 200))
    assert p.min() > 1e-4, p[p < 1e-3]


@pytest.mark.slow
def test_calibration_of_nuts_sees_wrong_data():
    p = uniformity(nuts_ranks("zip_mixture", 100, bug=lambda data: dataclasses.replace(data, values=data.values + 1)))
    assert p.min() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model, _ in pairs(engine="nuts")])
def test_pyros_own_kernel_agrees_with_compiled_nuts(model):
    its = case(model)
    theirs = fit_tiny(model, "nuts", backend="pyro", draws=150, warmup=100, chains=2)
    ours = fit_tiny(model, "nuts", backend="nutpie", draws=1500, warmup=500)
    tables = [_moments("x", fit, Posterior.of(its.model, its.tiny).invariants(fit.draws)) for fit in (ours, theirs)]
    error = (tables[0]["mean"] - tables[1]["mean"]) / np.hypot(tables[0]["mcse"], tables[1]["mcse"])
    assert error.abs().max() < 5


def bugs(model):
    """Return a model's planted bugs but that of ignoring the data, which has a law of its own."""
    return [bug for bug in case(model).bugs if bug != "data"]


@pytest.mark.parametrize(("model", "bug"), [(model, bug) for model in MODELS for bug in bugs(model)])
def test_planted_bugs_are_caught(model, bug):
    make = case(model).bugs[bug]
    # The cheaper test first; small faults, which are for the slow suite, need more sweeps.
    assert (
        quick_geweke(model, make, 1000).abs().max() > GEWEKE_LIMIT
        or uniformity(ranks(model, make, 150)).min() < 1e-4
        or quick_geweke(model, make, 8000).abs().max() > GEWEKE_LIMIT
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", [m for m in MODELS if case(m).bugs])
def test_geweke_alone_catches_a_bug(model):
    assert any(quick_geweke(model, make, 1000).abs().max() > GEWEKE_LIMIT for make in case(model).bugs.values())


@pytest.mark.parametrize("model", [m for m in MODELS if "data" in case(m).bugs])
def test_a_sampler_that_ignores_the_data_is_caught_by_the_log_likelihoods_rank_only(model):
    p = uniformity(ranks(model, case(model).bugs["data"], 60))
    assert p["log_likelihood"] < 1e-4
    assert p.drop("log_likelihood").min() > 1e-4


# 6 and 7. Variational figures, symmetry ------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "method"), VARIATIONAL)
def test_variational_fits_report_khat(model, method):
    fit = plain_fit(model, method)
    assert fit.kind == "variational"
    assert "khat" in fit.metrics
    assert not {"rhat_max", "ess_bulk_min"} & set(fit.metrics), "draws from q are no chain"
    again = fit.sample(3)
    assert all(value.shape == (1, 3, *fit.draws[site].shape[2:]) for site, value in again.items())


@pytest.mark.parametrize(("model", "method"), SAMPLERS)
def test_samples_report_rhat_raw_and_aligned(model, method):
    metrics = plain_fit(model, method).metrics
    assert {"rhat_max_raw", "rhat_max", "rhat_max_invariants", "ess_bulk_min", "ess_per_second"} <= set(metrics)


@pytest.mark.parametrize("model", MODELS)
def test_canonical_keeps_invariants_and_is_idempotent(model):
    laws.symmetric(Posterior.of(case(model).model, larger(model)))


# 8. Missing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "method"), [(m, x) for m, x in PAIRS if x not in case(m, x).fills])
def test_intervals_cover_what_is_hidden(model, method):
    """At random, 90% intervals hold 87 to 93% of hidden entries, give or take the sampling error of their number."""
    its = case(model, method)
    data = larger(model, missing=0.1, method=method)
    quick = {"warmup": 40, "draws": 40, "chains": 1} if engine(method) == "nuts" else {}
    fit = pyrozoo.fit(its.model, method, data=data, holdout=0.2, **{**QUIET, **its.settings[method], **quick})
    entries = int(fit.metrics["holdout_entries"])
    error = 3 * math.sqrt(0.09 / entries)
    assert 0.87 - error < float(fit.metrics["holdout_coverage_90"]) < 0.93 + error


@pytest.mark.parametrize("model", [m for m in MODELS if case(m).model.container in (Table, Survey)])
def test_a_unit_without_any_value_changes_no_likelihood(model):
    laws.missing_means_missing(Posterior.of(case(model).model, larger(model, missing=0.1)))


# 9. Bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "what"), [(m, what) for m in MODELS for what in case(m).bad])
def test_bad_data_is_refused_by_name(model, what):
    data, named = case(model).bad[what]
    for method in catalog.methods(model):
        with pytest.raises(DataError) as caught:
            pyrozoo.fit(case(model).model, method, data=data, **QUIET)
        assert named in str(caught.value)
        assert "\n" not in str(caught.value)


def assert_finite(fit):
    for value in [*fit.draws.values(), torch.tensor(fit.objective)]:
        assert torch.isfinite(value).all()
    assert all(math.isfinite(v) for v in fit.metrics.values() if isinstance(v, float))


@pytest.mark.parametrize(("model", "method", "what"), [(m, x, w) for m, x in PAIRS for w in case(m, x).odd])
def test_odd_data_gives_a_finite_fit(model, method, what, monkeypatch):
    its = case(model, method)
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", FEWEST)  # predictive checks are made, too
    changes = {**its.settings[method], **short(model, method)}
    assert_finite(pyrozoo.fit(its.model, method, data=its.odd[what], **QUIET, **changes))


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize(("model", "method", "name"), WITH_SIZE)
def test_one_component_and_more_components_than_rows(model, method, name, size):
    its = case(model, method)
    changes = {**its.settings[method], **short(model, method)}
    with contextlib.suppress(UserError):  # such as one label, where data have two
        assert_finite(pyrozoo.fit(model, method, data=its.tiny, **QUIET, **changes, **{name: size}))


numbers = st.one_of(
    st.integers(0, 50).map(float), st.just(float("nan")), st.sampled_from([-1.0, 0.5, 1e7, float("inf")])
)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=numbers))
def test_any_array_is_refused_or_fitted(model, data):
    quick = {"optimise": {"restarts": 2, "max_iterations": 50}, "sample": {"warmup": 5, "draws": 10, "chains": 2}}
    for method in (x for x in catalog.methods(model) if engine(x) in quick):
        try:
            fit = pyrozoo.fit(case(model, method).model, method, data=data, **QUIET, **quick[engine(method)])
        except DataError:
            continue
        assert_finite(fit)


# 11. Same seed, same bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "method"), PAIRS)
def test_same_seed_same_bits(model, method, checked):
    quick = short(model, method)
    torch.manual_seed(1)
    first = fit_tiny(model, method, seed=4, **quick)
    torch.manual_seed(2)  # what the caller's generator holds does not matter, and is left alone
    before = torch.get_rng_state()
    second = fit_tiny(model, method, seed=4, **quick)
    assert torch.equal(before, torch.get_rng_state())
    for site, value in first.draws.items():
        assert torch.equal(value, second.draws[site])
    assert first.trace["objective"].equals(second.trace["objective"])
    if engine(method) != "direct":  # a closed form has no chance in it
        assert not first.trace["objective"].equals(fit_tiny(model, method, seed=5, **quick).trace["objective"])


@pytest.mark.parametrize(("model", "method"), MONOTONE)
def test_float32_agrees_with_float64(model, method):
    its, data = case(model, method).model, larger(model, missing=0.1, method=method)
    double = solver_class(model, method)(Posterior.of(its, data))
    single = solver_class(model, method)(Posterior.of(its, data.to("cpu", torch.float32)))
    with seeded(0):
        state = double.init(4)
    for _ in range(5):
        state, _ = double.step(state)
    values = [getattr(state, f.name) for f in dataclasses.fields(state)]
    narrow = type(state)(*(value.float() if value.is_floating_point() else value for value in values))
    torch.testing.assert_close(
        single.step(narrow)[1].objective.double(), double.step(state)[1].objective, rtol=1e-5, atol=0
    )


# Results --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "method"), PAIRS)
def test_inference_data_says_what_it_is(model, method):
    fit = plain_fit(model, method)
    data = fit.inference_data
    assert {"posterior", "log_likelihood", "posterior_predictive", "prior", "prior_predictive", "observed_data"} <= set(
        data.groups()
    )
    for site, dims in fit.posterior.sites.items():
        assert data.posterior[site].dims == ("chain", "draw", *dims)
    assert data.log_likelihood[fit.posterior.observed].dims[-1] == fit.posterior.unit
    assert (data.posterior.attrs["method"], data.posterior.attrs["kind"]) == (method, fit.kind)
    if fit.kind == "point":
        assert data.posterior.sizes["chain"] == data.posterior.sizes["draw"] == 1
    else:
        assert np.isfinite(az.loo(data, reff=1.0).elpd_loo)
