"""categorical_fa: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

import pyrozoo
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.core.settings import wrong_values
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.survey import Survey
from pyrozoo.math import newton
from pyrozoo.models.categorical_fa import beta_prior, exact, laplace_em, likelihood, mc_em, vem
from pyrozoo.models.categorical_fa.distributions import Answers
from pyrozoo.models.categorical_fa.maximisation import Points, _Regression, log_prior
from pyrozoo.models.categorical_fa.model import CategoricalFA
from pyrozoo.models.categorical_fa.queries import answer_probabilities
from pyrozoo.models.categorical_fa.synthesis import synthesize
from pyrozoo.program.inverse_wishart import CovarianceTransform, InverseWishart
from tests.case import Case, Oracle, refused

NAN = float("nan")
pytestmark = pytest.mark.usefixtures("unchecked")  # the laws look at all shapes


def make(latent_dimension: int = 1, **changes) -> CategoricalFA:
    values = {"latent_dimension": latent_dimension, "loadings": "free", "fixed_loadings": None, "intercepts": True,
              "hidden_units": 0, "loading_scale": 1.0, "intercept_scale": 1.0, "mean_scale": 1.0,
              "covariance_degrees": 1.0, "covariance_scale": 1.0, "sum_out_latent": True}  # fmt: skip
    return CategoricalFA(**{**values, **changes})


MODEL = make()
SIZES = (2, 3)


def survey(codes, sizes=SIZES) -> Survey:
    codes = torch.as_tensor(codes, dtype=torch.float64)
    rows, columns = ([f"{word}_{i}" for i in range(n)] for word, n in zip(("row", "column"), codes.shape, strict=True))
    return Survey(codes, rows, columns, "survey", levels=[[str(k) for k in range(size)] for size in sizes])


TINY = survey([[0, 2], [1, 0], [NAN, 2], [0, 1], [0, 2], [1, NAN]])


def brute_log_evidence(loadings, intercepts, codes, nodes=40):
    """Return log p(x_u) of rows of two items [S, N], z summed out on a grid, by explicit loops over items."""
    z = np.linspace(-7, 7, nodes)
    weight = np.log(z[1] - z[0]) - 0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    total = np.tile(weight, (len(loadings), len(codes), 1))
    first = 0
    for item, size in enumerate(SIZES):
        place = slice(first, first + size - 1)
        first += size - 1
        logits = loadings[:, place, :1] * z + intercepts[:, place, None]
        logits = np.concatenate([logits, np.zeros_like(logits[:, :1])], 1)
        logs = logits - logsumexp(logits, 1, keepdims=True)
        for u, row in enumerate(codes):
            if not np.isnan(row[item]):
                total[:, u] += logs[:, int(row[item])]
    return logsumexp(total, 2)


@cache
def oracle() -> Oracle:
    """Weigh draws from the prior by the likelihood: the data are few, so the weights are even enough."""
    generator = np.random.default_rng(0)
    count, F = 100_000, sum(SIZES) - len(SIZES)
    loadings, intercepts = generator.normal(size=(count, F, 1)), generator.normal(size=(count, F))
    codes = TINY.values.numpy()
    log_p = np.concatenate(
        [brute_log_evidence(loadings[at : at + 20_000], intercepts[at : at + 20_000], codes).sum(1)
         for at in range(0, count, 20_000)]
    )  # fmt: skip
    evidence = logsumexp(log_p) - np.log(count)
    weight = np.exp(log_p - logsumexp(log_p))
    assert 1 / (weight**2).sum() > 15_000
    chosen = generator.choice(count, 100_000, p=weight)
    draws = {"loadings": loadings[chosen], "intercepts": intercepts[chosen]}
    return Oracle(float(evidence), {site: torch.as_tensor(value)[None] for site, value in draws.items()})


EM = {"restarts": 2, "max_iterations": 400}
CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=oracle,
    shape={"rows": 6, "columns": 3, "categories": 3},
    larger={"rows": 120, "columns": 6, "categories": 3},
    settings={
        "vem": EM,
        "laplace_em": EM,
        "mc_em": {"restarts": 1, "max_iterations": 80},
        "beta_prior": {**EM, "draws": 400},
        "exact": {"max_iterations": 400, "tol": 1e-10},
        "svi": {"max_steps": 600, "restarts": 2, "draws": 400, "evaluation_draws": 50},
        "vae": {"max_steps": 600, "restarts": 2, "draws": 400, "evaluation_draws": 50, "batch_size": 64},
        "nuts": {"chains": 2, "warmup": 40, "draws": 60},
    },
    elbo_gap=1.2,
    laplace_error=0.0,
    bad={
        "one category": (pd.DataFrame({"a": ["x", "x", "x"], "b": ["u", "v", "u"]}), "column 'a'"),
        "no answers": (pd.DataFrame({"a": [None, None, None], "b": ["u", "v", "u"]}), "column 'a'"),
        "numeric column": (pd.DataFrame({"income": np.linspace(0, 9, 40), "b": ["u", "v"] * 20}), "column 'income'"),
        "three axes": (np.zeros((2, 2, 2)), "two axes"),
        "infinite": (np.array([[0.0, 1.0], [1.0, np.inf]]), "column_1"),
    },
    odd={
        "a row without answers": survey([[0, 2], [NAN, NAN], [1, 0], [0, 1]]),
        "one item": survey([[0], [1], [0]], (2,)),
        "one row each": survey([[0, 1], [1, 2]]),
        "a category that nobody chose": survey([[0, 0], [1, 0], [0, 1], [1, 1]], (2, 4)),
        "all alike but one": survey([[0, 0]] * 30 + [[1, 1]], (2, 2)),
    },
)


def mixed(missing: float = 0.2, seed: int = 0, rows: int = 40, **changes) -> tuple[CategoricalFA, Survey]:
    """Return a model and data simulated from it, with items of two, three and four categories."""
    model = make(**{"latent_dimension": 2, **changes})
    sizes = [3] * 5 if model.loadings == "fixed" else [2, 3, 4, 2, 3]
    return model, simulate_data(model, seed=seed, missing=missing, rows=rows, columns=5, categories=sizes)


FIXED = {"loadings": "fixed", "intercepts": False}
VARIANTS = {
    "intercepts": {},
    "a latent mean": {"intercepts": False},
    "fixed": FIXED,
    "fixed per item": {**FIXED, "fixed_loadings": [[[1.0, 0.5], [0.0, 1.0], [0.0, 0.0]]] * 5},
    "fixed with intercepts": {"loadings": "fixed"},
    "three dimensions": {"latent_dimension": 3},
}


def simulated_sites(model, data):
    """Return values of the global sites from the prior."""
    posterior = Posterior.of(model, data)
    with seeded(1):
        drawn = posterior.simulate()
    return {site: drawn[site].detach() for site in posterior.sites}


def simulated_draws(model, data):
    """Return the same as draws, [chain, draw, *event]."""
    return Draws({site: value[None, None] for site, value in simulated_sites(model, data).items()})


def prepared(changes, rows=40):
    model, data = mixed(rows=rows, **changes)
    layout, sites = model.layout(data), simulated_sites(model, data)
    p = layout.parameters({site: value[None] for site, value in sites.items()})
    return model, data, layout, p, layout.block(slice(0, rows)), sites


def assert_derivatives(evaluate, x, tolerance=1e-6):
    """Hold a value's hand-built gradient and curvature to autograd, problem by problem."""
    x = x.clone().requires_grad_(True)
    value, gradient, curvature = evaluate(x)
    auto = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    torch.testing.assert_close(gradient, auto, rtol=tolerance, atol=tolerance)
    rows = [torch.autograd.grad(auto[..., s].sum(), x, retain_graph=True)[0] for s in range(x.shape[-1])]
    torch.testing.assert_close(curvature, -torch.stack(rows, -2), rtol=tolerance, atol=tolerance)


# Hand gradients and Newton steps against autograd ---------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_derivatives_of_rows(name):
    _, _, layout, p, block, _ = prepared(VARIANTS[name])
    d = p.mean.shape[1]
    with seeded(2):
        z = torch.randn(1, 40, d, dtype=torch.float64)
        x = torch.randn(1, 40, 2 * d, dtype=torch.float64)
        noise = torch.randn(1, 40, d, 6, dtype=torch.float64)
    assert_derivatives(lambda at: likelihood.evaluate_rows(layout, block, p, at), z)
    for zeta in ("per_item", "per_row"):
        assert_derivatives(lambda at, zeta=zeta: vem.evaluate_rows(layout, block, p, at, zeta), x)
    scales = torch.cat([x[..., :d], x[..., d:].exp()], -1)
    assert_derivatives(lambda at: mc_em.evaluate_rows(layout, block, p, at, noise), scales)


def test_derivatives_of_rows_with_hidden_units():
    _, _, layout, p, block, _ = prepared({"hidden_units": 3})
    with seeded(2):
        z = 0.3 * torch.randn(1, 40, 2, dtype=torch.float64)
    x = z.clone().requires_grad_(True)
    value, gradient, curvature = likelihood.evaluate_rows(layout, block, p, x)
    auto = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    torch.testing.assert_close(gradient, auto, rtol=1e-6, atol=1e-6)
    hessian = -torch.stack([torch.autograd.grad(auto[..., s].sum(), x, retain_graph=True)[0] for s in range(2)], -2)
    definite = torch.linalg.eigvalsh(hessian)[..., 0] > 0
    assert definite.any()
    torch.testing.assert_close(curvature[definite], hessian[definite], rtol=1e-6, atol=1e-6)
    assert (torch.linalg.eigvalsh(curvature) > 0).all()


def test_derivatives_of_the_delta_method():
    _, _, layout, p, block, _ = prepared({})
    with seeded(2):
        z = torch.randn(1, 40, 2, dtype=torch.float64, requires_grad=True)
        half = torch.randn(1, 40, 2, 2, dtype=torch.float64)
    value, gradient, _ = laplace_em.evaluate_delta(layout, block, p, z, half @ half.mT)
    auto = torch.autograd.grad(value.sum(), z)[0]
    torch.testing.assert_close(gradient, auto, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["intercepts", "a latent mean", "fixed with intercepts"])
@pytest.mark.parametrize("zeta", ["per_item", "per_row"])
def test_derivatives_of_contrasts_in_vem(name, zeta):
    model, data, layout, p, _, _ = prepared(VARIANTS[name])
    solver = vem.Solver(Posterior.of(model, data), zeta=zeta)
    with seeded(3):
        mean, variance = torch.randn(1, 40, 2).double(), torch.rand(1, 40, 2).double() + 0.1
    with switched(False):
        contrasts = vem._Contrasts(solver, p, mean, variance)
    parts = ([p.beta[:, layout.free]] if contrasts.free else []) + (
        [p.offset[:, layout.free, None]] if contrasts.shift else []
    )
    x = torch.cat(parts, -1)
    assert_derivatives(contrasts.evaluate, x + 0.1)


@pytest.mark.parametrize(("rows", "dtype"), [(1, torch.float64), (290, torch.float64), (290, torch.float32)])
@pytest.mark.parametrize("zeta", ["per_item", "per_row"])
@pytest.mark.parametrize("name", VARIANTS)
def test_kernels_of_vem_do_what_pytorch_does(name, zeta, rows, dtype, monkeypatch):
    """Chains, holes, a row without answers, one and two threads; both go on to the last digit."""
    monkeypatch.setattr(newton, "DECREMENT", 1e-30)
    model, data = mixed(rows=rows, **VARIANTS[name])
    data.values[rows // 2] = NAN
    posterior = Posterior.of(model, data.to("cpu", dtype))
    solver = vem.Solver(posterior, zeta=zeta)
    with seeded(0):
        state = dataclasses.replace(solver.init(3), q_mean=torch.randn(3, rows, model.latent_dimension, dtype=dtype))
    with switched(False):
        theirs, said = solver.step(state)
    ours, info = solver.step(state)
    monkeypatch.setattr(vem, "threads", lambda: 2)
    again, _ = solver.step(state)
    near = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-3, "atol": 2e-3}
    torch.testing.assert_close(info.objective, said.objective, rtol=1e-13 if dtype == torch.float64 else 1e-5, atol=0)
    for field in vars(ours):
        torch.testing.assert_close(getattr(ours, field), getattr(theirs, field), **near)
        assert getattr(ours, field).equal(getattr(again, field))


@pytest.mark.parametrize("name", ["intercepts", "a latent mean", "fixed with intercepts"])
def test_derivatives_of_the_regression_on_points(name):
    model, _, layout, p, block, _ = prepared(VARIANTS[name])
    with seeded(3):
        z, weights = torch.randn(1, 2, 40, 3).double(), torch.rand(1, 40, 3).double()
    for (items, size), (at, place) in zip(layout.groups, layout.slices(), strict=True):
        regression = _Regression(model, layout, p, lambda said: said(iter([Points(block, z, weights)])), at, place)
        parts = ([p.beta[:, place]] if regression.free else []) + (
            [p.offset[:, place, None]] if model.intercepts else []
        )
        x = torch.cat(parts, -1).unflatten(1, (items, size))[:, :, :-1].flatten(2)
        regression.evaluate(x)  # the part that does not change is summed once
        assert_derivatives(regression.evaluate, x + 0.1)


def test_derivatives_of_both_sides_of_beta_prior():
    with seeded(4):
        rows = torch.randn(1, 7, 3).double(), 0.5 * torch.rand(1, 7, 3).double() + 0.1
        contrasts = torch.randn(1, 5, 3).double(), torch.rand(1, 5, 3).double() + 0.1
        weight, linear = torch.randn(1, 7, 5).double(), torch.randn(1, 7, 3).double()
    for open_ in (2, 3):
        x = torch.cat([rows[0][..., :open_], rows[1][..., :open_].log()], -1)
        precision = torch.tensor([[1.0, 2.0, 0.5]]).double()
        assert_derivatives(
            lambda at, open_=open_, precision=precision: beta_prior.evaluate_side(
                at, rows, contrasts, weight, linear, torch.zeros(1, 1, 3).double(), precision, open_
            ),
            x,
        )


def test_exponential_moment_of_a_product_of_normals():
    """Against quadrature over both factors, and infinite where the product of variances reaches 1."""
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()
    for mean, v, p, w in ((0.3, 0.5, -0.7, 0.4), (1.0, 0.2, 0.5, 1.5), (-0.4, 0.9, 0.2, 0.3)):
        z = mean + v**0.5 * node
        # In beta it is in closed form for given z; what is left is one integral.
        exact_value = (weight * np.exp(z * p + 0.5 * z**2 * w)).sum()
        ours = beta_prior.log_expectation(
            (torch.tensor([[[mean]]]), torch.tensor([[[v]]])), (torch.tensor([[[p]]]), torch.tensor([[[w]]]))
        )
        assert float(ours.exp()) == pytest.approx(exact_value, rel=1e-5)
    infinite = beta_prior.log_expectation(
        (torch.zeros(1, 1, 1), torch.full((1, 1, 1), 2.0)), (torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.5))
    )
    assert torch.isinf(infinite).all()


def test_products_of_variances_stay_below_one_throughout():
    model, data = mixed(loading_scale=20.0, rows=100, missing=0.1)
    solver = beta_prior.Solver(Posterior.of(model, data), estimate_scale=True)
    with seeded(0):
        state = solver.init(3)
    for _ in range(80):
        state, info = solver.step(state)
        objective = info.objective
        most = state.row_variance.amax((1, 2)) * state.contrast_variance[..., :2].amax((1, 2))
        assert (most < 1).all()
        assert torch.isfinite(objective).all()


# Bounds and integrals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "three dimensions"])
def test_quadrature_against_a_plain_grid(name):
    """An evenly spaced grid in two dimensions, far finer than the nodes, by way of the program's own distribution."""
    model, data, layout, p, _, sites = prepared(VARIANTS[name])
    line = torch.linspace(-8, 8, 241, dtype=torch.float64)
    t = torch.cartesian_prod(line, line)
    z = p.mean[0] + t @ torch.linalg.cholesky(p.covariance[0]).mT
    table = model.answers(sites, data, z).log_table()
    total = 2 * torch.log(line[1] - line[0]) - 0.5 * t.square().sum(1) - np.log(2 * np.pi)
    total = total.expand(len(data.values), -1).clone()
    for item, logs in enumerate(table):
        seen = data.observed[:, item]
        total[seen] += logs.mT[data.filled[seen, item].long()]
    for nodes, tolerance in ((None, 2e-3), (31, 2e-5)):
        ours = torch.cat([each.log_evidence for each in likelihood.integrals(layout, p, nodes)], 1)[0]
        torch.testing.assert_close(ours, total.logsumexp(1), rtol=0, atol=tolerance)


def test_quadrature_in_four_dimensions_against_draws_from_the_prior():
    model, data = mixed(latent_dimension=4, rows=12)
    sites = simulated_sites(model, data)
    with seeded(1):
        z = torch.randn(200_000, 4, dtype=torch.float64)
    table = model.answers(sites, data, z).log_table()
    total = torch.zeros(12, len(z), dtype=torch.float64)
    for item, logs in enumerate(table):
        seen = data.observed[:, item]
        total[seen] += logs.mT[data.filled[seen, item].long()]
    plain = total.logsumexp(1) - np.log(len(z))
    ours = Posterior.of(model, data).pointwise({site: value[None, None] for site, value in sites.items()})[0, 0]
    relative = (2 * (total - plain[:, None])).exp().mean(1).sqrt() / len(z) ** 0.5
    assert ((ours - plain).abs() < 5 * relative + 0.02).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_bounds_stay_below_the_integral_and_per_item_above_per_row(name):
    _, _, layout, p, block, _ = prepared(VARIANTS[name])
    d = p.mean.shape[1]
    truth = torch.cat([nodes.log_evidence for nodes in likelihood.integrals(layout, p)], 1)
    start = torch.zeros(1, 40, d, dtype=torch.float64), torch.ones(1, 40, d, dtype=torch.float64)
    _, _, per_item = vem.maximise_rows(layout, p, *start, "per_item")
    _, _, per_row = vem.maximise_rows(layout, p, *start, "per_row")
    assert (per_item <= truth + 1e-6).all()
    assert (per_row <= per_item + 1e-9).all()
    if not layout.counts.numel() and not name.startswith("fixed"):
        assert (per_row < per_item - 1e-3).any()
    with seeded(5):  # at points that are no maximum, too
        x = torch.randn(1, 40, 2 * d, dtype=torch.float64)
    one, other = (vem.evaluate_rows(layout, block, p, x, zeta)[0] for zeta in ("per_item", "per_row"))
    assert (one <= truth).all()
    assert (other <= one + 1e-9).all()


def test_monte_carlo_bound_lies_between_the_bound_and_the_integral():
    _, _, layout, p, block, _ = prepared({})
    truth = torch.cat([nodes.log_evidence for nodes in likelihood.integrals(layout, p)], 1)
    start = torch.zeros(1, 40, 2, dtype=torch.float64), torch.ones(1, 40, 2, dtype=torch.float64)
    mean, variance, below = vem.maximise_rows(layout, p, *start, "per_item")
    with seeded(6):
        half = torch.randn(1, 40, 2, 10_000, dtype=torch.float64)
    noise = torch.cat([half, -half], -1)
    estimate = mc_em.evaluate_rows(layout, block, p, torch.cat([mean, variance.sqrt()], -1), noise)[0]
    assert (estimate >= below - 0.01).all()
    assert (estimate <= truth + 0.01).all()


def test_the_bound_of_beta_prior_stays_below_the_evidence():
    solver = beta_prior.Solver(Posterior.of(MODEL, TINY))
    with seeded(0):
        state = solver.init(4)
    for _ in range(100):
        state, info = solver.step(state)
        objective = info.objective
        assert (objective <= oracle().log_evidence + 0.01).all()


SLOW = {"a latent mean", "fixed per item", "fixed with intercepts", "three dimensions"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in VARIANTS])
def test_exact_em_is_monotone_and_ends_where_the_likelihood_is_flat(name):
    model, data = mixed(rows=20, **VARIANTS[name])
    solver = exact.Solver(Posterior.of(model, data), nodes=9)
    with seeded(0):
        state = solver.init(1)
    path = []
    for _ in range(20):
        state, info = solver.step(state)
        objective = info.objective
        path.append(objective)
    fall = torch.stack(path).diff(dim=0)
    assert (fall >= -1e-6).all(), "but for the error of the quadrature, which moves with the nodes"
    sites = {site: value.clone().requires_grad_(True) for site, value in solver.sites(state).items()}
    draws = {site: value.unsqueeze(1) for site, value in sites.items()}
    total = Posterior.of(model, data).pointwise(draws).sum(-1).squeeze(1) + log_prior(model, sites)
    before = torch.autograd.grad(path[0].new_tensor(0.0) + total.sum(), list(sites.values()))
    for _ in range(150):
        state, info = solver.step(state)
        objective = info.objective
    sites = {site: value.clone().requires_grad_(True) for site, value in solver.sites(state).items()}
    draws = {site: value.unsqueeze(1) for site, value in sites.items()}
    total = Posterior.of(model, data).pointwise(draws).sum(-1).squeeze(1) + log_prior(model, sites)
    after = torch.autograd.grad(total.sum(), list(sites.values()))
    assert max(float(g.abs().max()) for g in after) < max(0.05, 0.2 * max(float(g.abs().max()) for g in before))


def test_solvers_objective_at_the_exact_solver_is_the_programs_joint():
    solver = exact.Solver(Posterior.of(MODEL, TINY))
    with seeded(0):
        state = solver.init(5)
        for _ in range(3):
            state, _ = solver.step(state)
    _, info = solver.step(state)
    objective = info.objective
    draws = {site: value[None] for site, value in solver.answer(state).draws().items()}
    torch.testing.assert_close(objective[None], Posterior.of(MODEL, TINY).log_joint(draws), rtol=1e-10, atol=0)


# The program and its distributions ------------------------------------------------------------------------------------


def test_scores_have_mean_zero_at_the_truth_over_simulations():
    """The expected gradient of the log likelihood at the parameters that simulated the data is zero."""
    for changes in ({"intercepts": False}, FIXED):
        model = make(2, **changes)
        sizes = [3] * 4
        blank = Survey.blank(30, 4, sizes)
        with seeded(8):
            truth = {
                s: v for s, v in Posterior.of(model, blank).simulate().items() if s in Posterior.of(model, None).sites
            }
            gradients = []
            for _ in range(100):
                values = Posterior.of(model, blank).simulate(truth)["answers"]
                data = dataclasses.replace(blank, values=values)
                leaves = {s: v.clone().requires_grad_(True) for s, v in truth.items()}
                draws = {s: v[None, None] for s, v in leaves.items()}
                total = Posterior.of(model, data).pointwise(draws).sum()
                gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, list(leaves.values()))]))
        scores = torch.stack(gradients)
        z = scores.mean(0) / (scores.std(0) / 10)
        assert z.abs().max() < 4, z


def test_answers_ignore_what_is_missing_and_sum_to_one():
    with seeded(0):
        logits = torch.randn(1, 9, dtype=torch.float64)
    sizes = (2, 3, 4)
    values = torch.cartesian_prod(*[torch.arange(size, dtype=torch.float64) for size in sizes])
    whole = Answers(logits.expand(len(values), -1), torch.ones_like(values, dtype=torch.bool), sizes)
    assert float(whole.log_prob(values).exp().sum()) == pytest.approx(1)
    seen = torch.tensor([[True, False, True]]).expand(len(values), -1)
    part = Answers(logits.expand(len(values), -1), seen, sizes).log_prob(values)
    assert float(part.exp().sum()) == pytest.approx(3), "the missing item is counted three times"


def test_answers_are_drawn_as_often_as_they_are_probable():
    with seeded(0):
        logits = torch.tensor([[0.5, -1.0, 1000.0, 0.0, 999.0, -2.0, -2.0, -3.0, 0.0]], dtype=torch.float64)
        sizes, count = (2, 3, 4), 40_000
        drawn = Answers(logits.expand(count, -1), torch.ones(1, 3, dtype=torch.bool), sizes).sample()
    for place, part in enumerate(logits[0].split(sizes)):
        share = torch.bincount(drawn[:, place].long(), minlength=len(part)) / count
        assert ((share - part.softmax(0)).abs() <= 4 * (part.softmax(0) / count).sqrt()).all()


def test_inverse_wishart_against_wishart_and_its_transform_against_autograd():
    d, nu, psi = 3, torch.tensor(6.5).double(), torch.tensor(1.7).double()
    ours = InverseWishart(nu, psi, d)
    with seeded(0):
        draws = ours.sample((40_000,))
    mean = psi / (nu - d - 1)
    error = draws.std(0) / 200
    assert ((draws.mean(0) - mean * torch.eye(d)).abs() < 5 * error).all()
    one = draws[0]
    wishart = torch.distributions.Wishart(nu, covariance_matrix=torch.eye(d).double() / psi)
    # |d Sigma^-1 / d Sigma| = |Sigma|^-(d + 1).
    expected = wishart.log_prob(torch.linalg.inv(one)) - (d + 1) * torch.logdet(one)
    assert float(ours.log_prob(one)) == pytest.approx(float(expected))
    transform = CovarianceTransform()
    x = transform.inv(one)
    torch.testing.assert_close(transform(x), one)
    i, j = torch.tril_indices(d, d)
    jacobian = torch.autograd.functional.jacobian(lambda at: transform(at)[i, j], x)
    assert float(transform.log_abs_det_jacobian(x, one)) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]))


def test_counting_exchangeable_items_changes_nothing():
    """Stated once for all, or item by item: the same loadings give the same likelihood by different layouts."""
    model, data = mixed(**FIXED)
    rows = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    listed = make(2, **FIXED, fixed_loadings=[rows] * 5)
    assert model.exchangeable
    assert not listed.exchangeable
    draws = simulated_draws(model, data)
    one, other = (Posterior.of(each, data).pointwise(draws) for each in (model, listed))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    for method in ("vem", "laplace_em", "exact"):
        fits = [pyrozoo.fit(m, method, data=data, progress=False, max_iterations=20) for m in (model, listed)]
        assert fits[0].objective == pytest.approx(fits[1].objective, rel=1e-9)
    np.testing.assert_allclose(
        *(answer_probabilities(each.layout(data), draws).numpy() for each in (model, listed)), rtol=1e-8
    )


def test_with_nothing_missing_the_mask_changes_nothing_and_missing_is_summed_out():
    """Probabilities of a row over all answers to an item sum to the probability of the row without it."""
    model, data = mixed(missing=0.0, rows=6)
    draws = simulated_draws(model, data)
    without = data.values.clone()
    without[:, 2] = NAN
    marginal = Posterior.of(model, dataclasses.replace(data, values=without)).pointwise(draws)
    parts = []
    for code in range(4):
        values = data.values.clone()
        values[:, 2] = code
        parts.append(Posterior.of(model, dataclasses.replace(data, values=values)).pointwise(draws))
    torch.testing.assert_close(torch.stack(parts).logsumexp(0), marginal, rtol=0, atol=2e-3)


def test_predictions_are_ratios_of_row_probabilities():
    """p(hidden answer | observed) = p(observed and it) / p(observed), for items of different numbers of categories."""
    model, data = mixed(missing=0.0, rows=30)
    shown = data.hold_out(0.3, 2)
    draws = simulated_draws(model, data)
    prediction = Posterior.of(model, shown).predict(draws)
    before = Posterior.of(model, shown).pointwise(draws)[0, 0]
    ratios = []
    for row, column, value in zip(shown.hidden.rows, shown.hidden.columns, shown.hidden.values, strict=True):
        values = shown.values.clone()
        values[row, column] = value
        after = Posterior.of(model, dataclasses.replace(shown, values=values, hidden=None)).pointwise(draws)
        ratios.append(after[0, 0, row] - before[row])
    torch.testing.assert_close(prediction.log_density, torch.stack(ratios), rtol=0, atol=5e-3)
    assert ((prediction.lower <= prediction.mean.ceil()) & (prediction.mean.floor() <= prediction.upper)).all()


# Recovery -------------------------------------------------------------------------------------------------------------


def simulated_ladder(columns: int, d: int, seed: int = 0) -> tuple[CategoricalFA, Survey]:
    model = make(d, **FIXED)
    covariance = torch.eye(1) if d == 1 else torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    blank = Survey.blank(1000, columns, d + 1)
    with seeded(seed):
        given_sites = {"latent_mean": torch.zeros(d).double(), "latent_covariance": covariance.double()}
        return model, dataclasses.replace(blank, values=Posterior.of(model, blank).simulate(given_sites)["answers"])


def test_the_shrinkage_ladder_of_single_data_sets():
    """The bound shrinks the covariance where answers are few, Laplace less, exact integration not."""
    found = {}
    for method in ("vem", "laplace_em", "exact"):
        model, data = simulated_ladder(10, 2)
        fit = pyrozoo.fit(model, method, data=data, progress=False)
        found[method] = fit.draws["latent_covariance"][0, 0]
    assert found["vem"].diagonal().max() < 0.3
    assert found["vem"][0, 1].abs() < 0.2
    assert 0.6 < found["laplace_em"][0, 0] < 0.95
    assert abs(found["exact"][0, 0] - 1) < 0.25
    assert abs(found["exact"][0, 1] - 0.9) < 0.25


@pytest.mark.parametrize("method", ["laplace_em", "exact", pytest.param("mc_em", marks=pytest.mark.slow)])
def test_free_loadings_are_recovered(method):
    model = make(2)
    data = simulate_data(model, seed=3, missing=0.1, rows=1000, columns=8, categories=3)
    its = {"solver": {"nodes": 7}} if method == "exact" else {"restarts": 1}
    fit = pyrozoo.fit(model, method, data=data, progress=False, max_iterations=50, **its)
    truth = {s: data.truth[s][None, None] for s in Posterior.of(model, None).sites}
    for name in ("marginal_probability", "association"):
        ours, theirs = (Posterior.of(model, data).invariants(d)[name][0, 0] for d in (fit.draws, truth))
        assert float((ours - theirs).abs().max()) < 0.09, name


@pytest.mark.slow
def test_hidden_units_raise_the_likelihood_of_bent_data():
    model = make(1, hidden_units=3, loading_scale=3.0)
    data = simulate_data(model, seed=5, rows=400, columns=8, categories=3)
    best = {}
    for units in (0, 3):
        solver = exact.Solver(Posterior.of(dataclasses.replace(model, hidden_units=units), data), nodes=15)
        with seeded(0):
            state = solver.init(4)
        for _ in range(60):
            state, info = solver.step(state)
            objective = info.objective
        draws = {site: value[objective.argmax(), None, None] for site, value in solver.answer(state).draws().items()}
        best[units] = float(Posterior.of(solver.model, data).log_likelihood(draws))
    assert best[3] > best[0] + 5


def test_without_a_bound_on_the_normaliser_one_dimension_is_not_shrunk():
    model, data = simulated_ladder(10, 1)
    found = {m: float(pyrozoo.fit(model, m, data=data, progress=False).draws["latent_covariance"].mean())
             for m in ("vem", "mc_em", "exact")}  # fmt: skip
    assert found["vem"] < 0.7
    assert abs(found["mc_em"] - found["exact"]) < 0.15


@pytest.mark.parametrize("method", ["svi", "vae", "laplace_em"])
def test_neural_decoders_fit(method):
    model, data = mixed(hidden_units=2, rows=60)
    quick = {"max_steps": 30, "restarts": 1, "draws": 5, "evaluation_draws": 2} if method != "laplace_em" else {}
    fit = pyrozoo.fit(model, method, data=data, progress=False, **(quick or {"max_iterations": 5, "restarts": 1}))
    assert fit.draws["loadings"].shape[2:] == (9, 4)
    assert fit.draws["hidden_weights"].shape[2:] == (2, 2)
    assert all(torch.isfinite(value).all() for value in fit.draws.values())


def test_the_delta_variant_corrects_laplace():
    model, data = simulated_ladder(10, 1)
    fits = [pyrozoo.fit(model, "laplace_em", data=data, progress=False, solver={"variant": variant})
            for variant in ("laplace", "delta")]  # fmt: skip
    one, other = (float(fit.draws["latent_covariance"]) for fit in fits)
    assert abs(other - 1) < 0.3
    assert one != other


def test_a_learned_scale_of_the_loadings_is_the_models_own_afterwards():
    data = simulate_data(make(1, loading_scale=2.0), seed=1, rows=300, columns=6, categories=3)
    quick = {"progress": False, "restarts": 1, "draws": 30}
    fit = pyrozoo.fit(make(1), "beta_prior", data=data, solver={"estimate_scale": True}, **quick)
    assert 0.2 < fit.model.loading_scale < 4, "the bound shrinks it, but knows that there is something"
    plain = pyrozoo.fit(make(1), "beta_prior", data=data, **quick)
    assert plain.model.loading_scale == 1.0
    assert fit.objective > plain.objective


# Synthetic rows -------------------------------------------------------------------------------------------------------


@cache
def fitted():
    model = make(2)
    data = simulate_data(model, seed=3, missing=0.1, rows=500, columns=5, categories=[2, 3, 4, 2, 3])
    return pyrozoo.fit(model, "laplace_em", data=data, progress=False, max_iterations=60)


def test_synthetic_rows_have_the_models_own_marginals_and_association():
    fit = fitted()
    with seeded(0):
        rows = torch.cat(list(synthesize(fit, 100_000)))
    assert rows.shape == (100_000, 5)
    expected = fit.posterior.invariants(fit.draws)
    shares = torch.cat([torch.bincount(rows[:, i].long(), minlength=k) / len(rows)
                        for i, k in enumerate(fit.data.categories)])  # fmt: skip
    assert (shares - expected["marginal_probability"][0, 0]).abs().max() < 5 * 0.5 / len(rows) ** 0.5
    i, j = torch.tril_indices(5, 5, -1)
    assert (fit.data.cramers_v(rows)[i, j] - expected["association"][0, 0]).abs().max() < 0.015


def test_rows_given_some_answers_have_the_posterior_of_the_rest():
    """Against quadrature: the probabilities of the other answers of a row of which two answers are known."""
    fit = fitted()
    row = torch.full((1, 5), NAN, dtype=torch.float64)
    row[0, 1], row[0, 3] = 2, 0
    known = dataclasses.replace(fit.data, values=row, row_labels=["given"], hidden=None, truth={})
    expected = answer_probabilities(fit.model.layout(known), fit.draws)[0]
    levels = fit.data.levels
    with seeded(0):
        rows = torch.cat(list(synthesize(fit, 60_000, {"column_1": levels[1][2], "column_3": levels[3][0]})))
    assert (rows[:, 1] == 2).all()
    assert (rows[:, 3] == 0).all()
    first = 0
    for item, size in enumerate(fit.data.categories):
        if item not in (1, 3):
            share = torch.bincount(rows[:, item].long(), minlength=size) / len(rows)
            assert (share - expected[first : first + size]).abs().max() < 0.012, item
        first += size


def test_synthesize_returns_labels_writes_files_and_repeats_itself(tmp_path):
    fit = fitted()
    frame = pyrozoo.synthesize(fit, 300, seed=4, holes=False)
    assert list(frame.columns) == list(fit.data.column_labels)
    assert list(frame["column_2"].cat.categories) == list(fit.data.levels[2])
    assert frame.notna().all().all()
    pd.testing.assert_frame_equal(frame, pyrozoo.synthesize(fit, 300, seed=4, holes=False))
    path = pyrozoo.synthesize(fit, 300, seed=4, holes=False, path=tmp_path / "rows.csv", progress=False)
    assert pd.read_csv(path, dtype=str).equals(frame.astype(str))
    assert "column_9" in refused(SettingError, pyrozoo.synthesize, fit, 3, given={"column_9": "0"})
    assert "'7'" in refused(SettingError, pyrozoo.synthesize, fit, 3, given={"column_1": "7"})
    assert "at least 1" in refused(SettingError, pyrozoo.synthesize, fit, 0)
    other = pyrozoo.fit("zip_mixture", "em", progress=False, restarts=1, rows=20, columns=2)
    assert "zip_mixture" in refused(SettingError, pyrozoo.synthesize, other, 3)


def test_fidelity_is_judged_beside_independent_columns():
    metrics = fitted().metrics
    assert metrics["mean_association_error"] < metrics["independent_association_error"]
    assert metrics["mean_marginal_tv"] < 0.05
    assert 0 <= metrics["synthetic_coincide_share"] <= 1


def test_new_rows_get_a_joint_density():
    model = make(2)
    data = simulate_data(model, seed=3, rows=500, columns=6, categories=3)
    train, test = data.values[:400], data.values[400:]
    labels = list(data.column_labels)
    sets = [Survey(v, [f"r{i}" for i in range(len(v))], labels, "s", levels=data.levels) for v in (train, test)]
    fit = pyrozoo.fit(model, "laplace_em", data=sets[0], test=sets[1], progress=False, max_iterations=60)
    assert fit.metrics["test_joint_elpd"] > fit.metrics["independent_test_joint_elpd"]


# Bad input ------------------------------------------------------------------------------------------------------------


def test_settings_out_of_range_are_named():
    for field, value in wrong_values(CategoricalFA):
        assert field in refused(SettingError, make, **{field: value})
    for field, value in (("latent_dimension", 0), ("loadings", "some"), ("loading_scale", 0.0), ("hidden_units", -1),
                         ("fixed_loadings", [[1.0]]), ("covariance_degrees", -1.0)):  # fmt: skip
        assert field in refused(SettingError, make, **{field: value})
    assert "hidden_units" in refused(SettingError, make, **FIXED, hidden_units=2)
    assert "fixed_loadings" in refused(SettingError, make, 2, **FIXED, fixed_loadings=[[1.0], [0.0]])
    assert "fixed_loadings" in refused(SettingError, make, 1, **FIXED, fixed_loadings=[1.0, 0.0])


def test_data_that_the_model_cannot_carry():
    assert "more than the 2 items" in refused(DataError, pyrozoo.fit, make(3), "vem", data=TINY)
    assert "'column_0' has 2 categories" in refused(DataError, pyrozoo.fit, make(2, **FIXED), "vem", data=TINY)
    seen, unseen = pd.DataFrame({"a": ["x", "y"], "b": ["u", "v"]}), pd.DataFrame({"a": ["z"], "b": ["u"]})
    assert "'z'" in refused(DataError, pyrozoo.fit, make(), "vem", data=seen, test=unseen)


def test_methods_that_cannot_do_with_the_model_say_so():
    data = mixed()[1]
    hidden = make(2, hidden_units=2)
    for method in ("vem", "mc_em", "beta_prior"):
        assert "hidden_units" in refused(NotApplicable, pyrozoo.fit, hidden, method, data=data)
    assert "hidden_units" in refused(
        SettingError, pyrozoo.fit, hidden, "laplace_em", data=data, solver={"variant": "delta"}
    )
    assert "three" in refused(NotApplicable, pyrozoo.fit, make(4), "exact", data=data).replace("3", "three")
    fixed = mixed(**FIXED)
    assert "loadings" in refused(NotApplicable, pyrozoo.fit, fixed[0], "beta_prior", data=fixed[1])
    assert "laplace" in refused(NotApplicable, pyrozoo.fit, make(), "laplace", data=TINY)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    columns=st.lists(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=4, max_size=4), min_size=1, max_size=4)
)
def test_any_small_survey_is_refused_or_fitted(columns):
    frame = pd.DataFrame({f"item {i}": values for i, values in enumerate(columns)})
    for method in ("vem", "laplace_em"):
        try:
            fit = pyrozoo.fit(make(), method, data=frame, progress=False, max_iterations=15, restarts=1)
        except DataError:
            continue
        assert all(torch.isfinite(value).all() for value in fit.draws.values())
        assert np.isfinite(fit.objective)


@pytest.mark.parametrize(("category", "contrasts"), [(0, 1), (2, 2)])
def test_a_rare_category_is_hardly_moved(category, contrasts):
    """Chosen once, it is given one row, and a / s^2 of every contrast with log odds a, where the slope is none."""
    generator = np.random.default_rng(0)
    codes = generator.choice([k for k in range(3) if k != category], (1000, 2)).astype(float)
    codes[7, 0] = category
    codes[:, 1] = generator.integers(0, 2, 1000)
    model = make(intercept_scale=3.0, loading_scale=0.01)
    fit = pyrozoo.fit(model, "exact", data=survey(codes, (3, 2)), progress=False)
    odds = fit.draws["intercepts"].flatten()[:contrasts].abs().sum()
    share = fit.invariants["marginal_probability"].flatten()[category]
    assert 1000 * float(share) == pytest.approx(1 + float(odds) / 9, rel=0.02)
    assert 1.5 < 1000 * float(share) < 3.0
