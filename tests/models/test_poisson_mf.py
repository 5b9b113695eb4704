"""poisson_mf: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import gammaln, logsumexp

import pyrozoo
from pyrozoo.compiler.kernels import Kernels, switched
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.core.settings import wrong_values
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.triplets import Triplets
from pyrozoo.inference.sample import Sample
from pyrozoo.math import sparse
from pyrozoo.math.multinomial import allot
from pyrozoo.math.sparse import Pattern
from pyrozoo.models.poisson_mf import cavi, em, gibbs, likelihood, queries, stochastic_cavi
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.models.poisson_mf.view import View
from pyrozoo.testing.samplers import calibration_ranks, geweke, uniformity
from tests.case import Case, Oracle

NAN = float("nan")
MODEL = PoissonMF(2, 1.5, 1.0, 1.2, 0.8, False, 1.0)
HIERARCHICAL = dataclasses.replace(MODEL, hierarchical=True, rate_shape=2.0)
TINY = Triplets.of(np.array([[1, 0, 2.0], [0, 3, NAN], [0, 1, 0]]))
QUIET = {"progress": False}
unchecked = pytest.mark.usefixtures("unchecked")


def exact() -> Oracle:
    """Return the exact answer to the tiny instance, of which no row has an exposure."""
    return enumerated((1.0, 1.0, 1.0))


@cache
def enumerated(exposure: tuple[float, ...]) -> Oracle:
    """Enumerate every allotment z of counts to factors; given z, all but two numbers per factor are closed form.

    Given z and eta, theta is Gamma and is integrated out. With e the eta of the column that row r does not observe and
    H the sum of the others, which are Dirichlet given it, what is left is a smooth integral over log e and log H.
    """
    m, x = MODEL, TINY.values.numpy()
    (N, M), K = TINY.shape, m.num_factors
    ((r, c),) = TINY.unobserved.tolist()
    a, b, d, f = m.row_shape, m.row_rate, m.column_shape, m.column_rate
    h = 0.06
    grid = np.arange(-16.0, 6.0, h)
    log_H, log_e = np.meshgrid(grid, grid, indexing="ij")

    @cache
    def integral(of_rows: tuple[int, ...], of_columns: tuple[int, ...]):
        """Return the log of the integral over theta_k and eta_k, and the log weights of the grid."""
        n, z = np.asarray(of_rows), np.asarray(of_columns)
        others = np.delete(z, c)
        constant = (gammaln(a + n) - gammaln(a)).sum() + N * a * np.log(b)
        constant += M * (d * np.log(f) - gammaln(d)) + gammaln(d + z[c])
        constant += gammaln(d + others).sum()
        shape = (M - 1) * d + others.sum()  # of H, whose parts are Dirichlet(d + others)
        constant -= gammaln(d + z[c]) + gammaln(shape)
        weights = shape * log_H + (d + z[c]) * log_e - f * (np.exp(log_H) + np.exp(log_e))
        for i, each in enumerate(exposure):
            weights -= (n[i] + a) * np.log(b + each * (np.exp(log_H) + (0.0 if i == r else np.exp(log_e))))
        constant += gammaln(d + z[c])
        return constant + logsumexp(weights) + 2 * np.log(h), weights - logsumexp(weights)

    log_p, allotments = [], []
    for first in itertools.product(*[range(int(count) + 1) for count in x[:, 2]]):
        of_rows, of_columns = np.zeros((K, N), int), np.zeros((K, M), int)
        total = float(x[:, 2] @ np.log(np.asarray(exposure))[x[:, 0].astype(int)])
        for (i, j, count), part in zip(x.astype(int), first, strict=True):
            for k, z in enumerate((part, count - part)):
                of_rows[k, i] += z
                of_columns[k, j] += z
                total -= gammaln(z + 1)
        margins = [(tuple(map(int, of_rows[k])), tuple(map(int, of_columns[k]))) for k in range(K)]
        log_p.append(total + sum(integral(*margin)[0] for margin in margins))
        allotments.append(margins)
    evidence = logsumexp(log_p)
    generator, S = np.random.default_rng(0), 100_000
    counts = generator.multinomial(S, np.exp(np.asarray(log_p) - evidence))
    theta, eta = [], []
    for margins, count in zip(allotments, counts, strict=True):
        if not count:
            continue
        t, e = np.empty((count, N, K)), np.empty((count, M, K))
        for k, (of_rows, of_columns) in enumerate(margins):
            p = np.exp(integral(of_rows, of_columns)[1]).ravel()
            cell = generator.choice(p.size, count, p=p / p.sum())
            H, own = (np.exp(g.ravel()[cell] + generator.uniform(-h / 2, h / 2, count)) for g in (log_H, log_e))
            parts = generator.gamma(d + np.delete(of_columns, c), size=(count, M - 1))
            e[:, c, k] = own
            e[:, np.arange(M) != c, k] = H[:, None] * parts / parts.sum(1, keepdims=True)
            rate = b + (H + own)[:, None] * np.asarray(exposure)
            rate[:, r] = b + exposure[r] * H
            t[:, :, k] = generator.gamma(a + np.asarray(of_rows), size=(count, N)) / rate
        theta.append(t)
        eta.append(e)
    order = generator.permutation(S)
    draws = {"row_factors": np.concatenate(theta)[order], "column_factors": np.concatenate(eta)[order]}
    return Oracle(float(evidence), {site: torch.as_tensor(value)[None] for site, value in draws.items()})


class ForgetsPrior(gibbs.Solver):
    """Plant: the shape of the prior is left out of the row factors' conditional."""

    def gamma(self, shape, rate):
        lost = self.model.row_shape if shape.shape[1] == self.data.shape[0] else 0
        return super().gamma((shape - lost).clamp(min=1e-3), rate)


class HalfExposure(gibbs.Solver):
    """Plant: half of the column factors' rate is lost."""

    def gamma(self, shape, rate):
        return super().gamma(shape, rate / 2 if shape.shape[1] == self.data.shape[1] else rate)


class IgnoresMissing(gibbs.Solver):
    """Plant: what is unobserved counts as zero."""

    def __init__(self, posterior):
        super().__init__(posterior.on(dataclasses.replace(posterior.data, unobserved=None)))


class IgnoresData(gibbs.Solver):
    """Plant: draws from the prior, whatever the data; parameter ranks alone would pass it."""

    def step(self, state):
        _, info = super().step(state)
        m = self.model
        theta = self.gamma(torch.full_like(state.row_factors, m.row_shape), torch.tensor(m.row_rate))
        eta = self.gamma(torch.full_like(state.column_factors, m.column_shape), torch.tensor(m.column_rate))
        return type(state)(theta, eta), info


def loses(data: Triplets) -> Triplets:
    """Lose two cells, always the same ones."""
    return dataclasses.replace(data.hide(torch.tensor([[0, 1], [2, 0]])), hidden=None)


SVI = {"max_steps": 300, "restarts": 2, "restart_steps": 20, "window": 100, "draws": 200, "evaluation_draws": 100}
CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"rows": 3, "columns": 2},
    larger={"rows": 60, "columns": 30},
    lose=loses,
    settings={
        "em": {"restarts": 5},
        "cavi": {"restarts": 5},
        "stochastic_cavi": {"restarts": 2, "max_iterations": 100, "tol": 1e-7},
        "gibbs": {"warmup": 100, "draws": 300, "thin": 1},
        "svi": SVI,
        "nuts": {"chains": 2, "warmup": 30, "draws": 30, "max_tree_depth": 5},
        "laplace": {"restarts": 3, "draws": 200},
    },
    elbo_gap=5.0,
    laplace_error=2.0,
    bad={
        "negative": (np.array([[1, -2.0], [0, 3]]), "column_1"),
        "fraction": (np.array([[1, 2.0], [0.5, 3]]), "row_1"),
        "infinite": (np.array([[1, np.inf], [0, 3]]), "column_1"),
        "empty": (np.empty((0, 3)), "empty"),
        "no columns": (np.empty((3, 0)), "empty"),
        "one axis": (np.array([1.0, 2]), "two axes"),
        "text": (np.array([["a", "b"], ["c", "d"]]), "not numbers"),
        "triplets with text": (
            pd.DataFrame({"row": [1, 2], "column": [1, 2], "value": ["x", "y"]}),
            "'x' is not a number",
        ),
        "a triplet without a row": (pd.DataFrame({"row": [1, None], "column": [1, 2], "value": [1, 2]}), "no row"),
        "a negative triplet": (pd.DataFrame({"row": ["a"], "column": ["b"], "value": [-1]}), "row 'a', column 'b'"),
    },
    odd={
        "one row": np.array([[0, 3.0, 1]]),
        "one column": np.array([[0.0], [3], [1]]),
        "one cell": np.array([[4.0]]),
        "all zeros": np.zeros((4, 3)),
        "empty rows and columns": np.array([[0, 0, 0.0], [0, 5, 0], [0, 0, 0]]),
        "huge counts": np.array([[1e9, 0, 3], [0, 1e7, 1], [1, 0, 0]]),
        "unobserved row and column": np.array([[NAN, NAN, NAN], [NAN, 3, 1], [NAN, 0, 2]]),
        "nothing observed": np.full((2, 3), NAN),
        "repeated triplets": pd.DataFrame({"row": [2, 1, 2, 1], "column": ["b", "a", "b", "c"], "value": [1, 2, 3, 0]}),
    },
    bugs={"prior": ForgetsPrior, "exposure": HalfExposure, "missing": IgnoresMissing, "data": IgnoresData},
)


def larger(model: PoissonMF = MODEL, missing: float = 0.2) -> Triplets:
    return simulate_data(model, seed=5, missing=missing, rows=40, columns=25)


def dense(data: Triplets) -> tuple[torch.Tensor, torch.Tensor]:
    """Return counts [N, M] and which are observed."""
    x, observed = torch.zeros(data.shape, dtype=torch.float64), torch.ones(data.shape, dtype=torch.bool)
    x[data.pattern.rows, data.pattern.columns] = data.counts
    if data.unobserved is not None:
        observed[data.unobserved[:, 0], data.unobserved[:, 1]] = False
    return x, observed


# Sparse algebra -------------------------------------------------------------------------------------------------------


def random_pattern(height, width, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    chosen = (torch.rand(height, width, generator=generator) < share).nonzero()
    return Pattern.of(chosen[:, 0], chosen[:, 1], height, width)


@pytest.mark.parametrize("small", [0, 2**30])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_sparse_products_are_the_dense_ones(small, share, monkeypatch):
    monkeypatch.setattr(sparse, "SMALL", small)
    pattern = random_pattern(7, 9, share)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(3, n, 4, dtype=torch.float64, generator=generator) for n in (7, 9))
    v = torch.rand(3, len(pattern.columns), dtype=torch.float64, generator=generator)
    full = torch.zeros(3, 7, 9, dtype=torch.float64)
    full[:, pattern.rows, pattern.columns] = v
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(pattern.sampled(a, b), (a @ b.mT)[:, pattern.rows, pattern.columns], **close)
    torch.testing.assert_close(pattern.times(v, b), full @ b, **close)
    torch.testing.assert_close(pattern.transposed_times(v, a), full.mT @ a, **close)
    torch.testing.assert_close(pattern.row_sums(v), full.sum(-1), **close)
    torch.testing.assert_close(pattern.sampled(a[0], b[0]), pattern.sampled(a, b)[0])


@pytest.mark.parametrize("small", [0, 2**30])
def test_sparse_products_have_first_and_second_derivatives(small, monkeypatch):
    monkeypatch.setattr(sparse, "SMALL", small)
    pattern = random_pattern(4, 5, 0.4)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, n, 3, dtype=torch.float64, generator=generator, requires_grad=True) for n in (4, 5))
    v = torch.rand(2, len(pattern.columns), dtype=torch.float64, generator=generator, requires_grad=True)
    for function, arguments in ((pattern.sampled, (a, b)), (pattern.times, (v, b)), (pattern.transposed_times, (v, a))):
        assert torch.autograd.gradcheck(function, arguments)
        assert torch.autograd.gradgradcheck(function, arguments)


def test_allotted_counts_are_multinomial():
    """Against the multinomial's own means, variances and covariances, each within 4.5 standard errors."""
    S, weights = 40_000, torch.tensor([0.5, 0.0, 2.0, 1.0, 0.7], dtype=torch.float64)
    p = (weights / weights.sum()).numpy()
    for count in (1.0, 7.0, 1e6):
        with seeded(0):
            z, total = allot(torch.full((S,), count, dtype=torch.float64), weights.expand(S, -1))
        assert (z.sum(-1) == count).all()
        assert (z[:, 1] == 0).all()
        assert float(total[0]) == pytest.approx(float(weights.sum()))
        z = z.numpy()
        expected = count * (np.diag(p) - np.outer(p, p))
        error = (z.mean(0) - count * p)[p > 0] / np.sqrt(np.diag(expected)[p > 0] / S)
        assert np.abs(error).max() < 4.5
        covariance = np.cov(z.T)
        # The variance of a sample covariance is at most (s_ii s_jj + s_ij^2) / S times a little for counts of 1.
        scale = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / S) + 1e-12
        assert (np.abs(covariance - expected) / scale)[p > 0][:, p > 0].max() < 7


def test_nothing_to_share_by_is_shared_equally():
    z, _ = allot(torch.tensor([3000.0]), torch.zeros(1, 4))
    assert float(z.sum()) == 3000
    assert (z > 500).all()


# Sparse equals dense --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [True, False])
def test_logarithms_serve_where_products_underflow(on):
    """Blocks of cells from logarithms give what the sparse products give, and stay finite far below floats."""
    data = larger()
    generator = torch.Generator().manual_seed(0)
    logs = [torch.randn(2, n, 3, dtype=torch.float64, generator=generator) for n in data.shape]
    with switched(on):
        fast, slow = likelihood.shared(logs[0].exp(), logs[1].exp(), data), likelihood.shared_logs(*logs, data)
        for ours, theirs in zip(fast, slow, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)
        far = [each - 800 for each in logs]
        low = likelihood.shared(far[0].exp(), far[1].exp(), data, tuple(far))
        torch.testing.assert_close(likelihood.row_shares(far[0].exp(), far[1].exp(), data, tuple(far)), low[0])
    torch.testing.assert_close(low[0], slow[0], rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(low[2], slow[2] - 1600 * data.counts.sum())


def counts_to_share(chains, K, dtype, shape=(40, 30), listed=0.3):
    """Return factors, and counts with rows and columns that have none."""
    generator = torch.Generator().manual_seed(K)
    x = torch.poisson(3 * torch.rand(shape, generator=generator), generator=generator)
    x *= torch.rand(shape, generator=generator) < listed
    x[::7], x[:, 3] = 0, 0
    x[1, 1] = 5
    draw = [torch.rand(chains, size, K, generator=generator, dtype=torch.float64) + 0.01 for size in shape]
    return [each.to(dtype) for each in draw], Triplets.of(x.numpy()).to("cpu", dtype)


def apart(ours, theirs):
    """Return the largest difference, relative to the largest entry of each."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize("K", [1, 3, 4, 5, 10, 16, 33])
def test_the_kernel_shares_counts_as_pytorch_does(K, dtype, tolerance):
    # One count; long rows, of which there are few or many cells for a column.
    cases = (1, 0.3, (40, 30)), (3, 1.0, (40, 30)), (2, 0.0, (40, 30)), (2, 0.3, (3, 400)), (1, 1.0, (9, 200))
    for chains, listed, shape in cases:
        factors, data = counts_to_share(chains, K, dtype, shape, listed)
        assert likelihood.KERNELS.serve(*factors, data.counts)
        ours, alone = likelihood.shared(*factors, data), likelihood.row_shares(*factors, data)
        with switched(False):
            theirs = likelihood.shared(*factors, data)
            torch_alone = likelihood.row_shares(*factors, data)
        assert apart((*ours, alone), (*theirs, torch_alone)) < tolerance


def test_shares_do_not_depend_on_the_number_of_threads(monkeypatch):
    factors, data = counts_to_share(2, 6, torch.float64)
    monkeypatch.setattr(likelihood, "ALONE", 0)
    monkeypatch.setattr(likelihood, "BLOCK_CELLS", 1)
    found = []
    for number in (1, 2, 3, 8):
        monkeypatch.setattr(likelihood, "threads", lambda number=number: number)
        found.append(likelihood.shared(*factors, data))
    assert all(a.equal(b) for each in found for a, b in zip(each, found[0], strict=True))


def test_a_wrong_kernel_is_caught(monkeypatch):
    bad, right, wrong = Kernels(likelihood.__file__), "counts[e] / s", "counts[e] / (s + 1e-9)"
    assert right in bad.text
    bad.text = bad.text.replace(right, wrong)
    monkeypatch.setattr(likelihood, "KERNELS", bad)
    with pytest.raises(AssertionError):
        test_the_kernel_shares_counts_as_pytorch_does(3, torch.float64, 1e-13)


def test_vague_priors_of_tiny_shape_stay_finite():
    model = PoissonMF(3, 1e-3, 1e-3, 1e-3, 1e-3, False, 1.0)
    data = np.array([[5.0, 0, 0], [0, 3, 0], [0, 0, 9]])
    fit = pyrozoo.fit(model, "cavi", data=data, restarts=3, max_iterations=200, **QUIET)
    assert fit.status in ("converged", "max_iterations")
    assert all(torch.isfinite(value).all() for value in fit.draws.values())


# The hierarchical option ----------------------------------------------------------------------------------------------


def test_hierarchical_densities_are_the_programs():
    posterior = Posterior.of(HIERARCHICAL, larger(HIERARCHICAL))
    with seeded(7):
        draws = [posterior.simulate() for _ in range(16)]
    stacked = {site: torch.stack([draw[site] for draw in draws])[None] for site in posterior.sites}
    ours = posterior.pointwise(stacked).sum(-1) + posterior.log_prior(stacked)
    torch.testing.assert_close(ours, posterior.log_joint(stacked), rtol=1e-10, atol=0)
    for module in (em, gibbs):
        solver = module.Solver(posterior)
        with seeded(0):
            state, _ = solver.step(solver.init(5))
            _, info = solver.step(state)
        at = {site: value[None] for site, value in solver.answer(state).draws().items()}
        torch.testing.assert_close(info.objective[None], posterior.log_joint(at), rtol=1e-10, atol=0)


@unchecked
@pytest.mark.parametrize("module", [em, cavi])
def test_hierarchical_objectives_never_fall_and_come_to_rest(module):
    data = larger(HIERARCHICAL)
    solver = module.Solver(Posterior.of(HIERARCHICAL, data))
    with seeded(0):
        state = solver.init(4)
    path = []
    for _ in range(1000):
        state, info = solver.step(state)
        path.append(info.objective)
    steps = torch.stack(path).diff(dim=0)
    assert (steps >= -1e-12 * path[-1].abs()).all()
    assert steps[-1].max() < 1e-2


@pytest.mark.slow
@unchecked
def test_geweke_of_the_hierarchical_sampler():
    z = geweke(
        HIERARCHICAL, Triplets.blank(3, 2), gibbs.Solver, sweeps=1200, seed=4, lose=loses,
    )  # fmt: skip
    assert z.abs().max() < 4.5, z[z.abs() > 3]


@unchecked
@pytest.mark.slow
def test_geweke_of_the_hierarchical_sampler_sees_rates_that_forget_the_factors():
    class Forgets(gibbs.Solver):
        def gamma(self, shape, rate):
            return super().gamma(shape - 2.0 if shape.ndim == 2 else shape, rate)

    z = geweke(HIERARCHICAL, Triplets.blank(3, 2), Forgets, sweeps=600, seed=4, lose=loses)
    assert z.abs().max() > 4.5


@unchecked
@pytest.mark.slow
def test_calibration_of_the_hierarchical_sampler():
    def infer(data, seed):
        sampler = Sample(name="gibbs", part=gibbs.Solver, chains=31, warmup=40, draws=1, thin=1)
        return sampler(Posterior.of(HIERARCHICAL, data), Loop(seed=seed, progress=False)).draws

    p = uniformity(calibration_ranks(HIERARCHICAL, Triplets.blank(3, 2), infer, simulations=100, seed=3, lose=loses))
    assert p.min() > 1e-4, p[p < 1e-3]


@unchecked
@pytest.mark.parametrize("method", ["em", "cavi", "stochastic_cavi", "svi", "gibbs", "laplace"])
def test_every_method_takes_the_hierarchical_model(method):
    settings = {"draws": 50} if method not in ("em",) else {}
    settings |= {"svi": {**SVI, "max_steps": 60, "draws": 50}, "gibbs": {"warmup": 20, "thin": 1}}.get(
        method, {"restarts": 2}
    )
    data = simulate_data(HIERARCHICAL, seed=1, missing=0.2, rows=6, columns=5)
    fit = pyrozoo.fit(HIERARCHICAL, method, data=data, **QUIET, **settings)
    assert set(fit.draws) == {"row_factors", "column_factors", "row_rates", "column_rates"}
    assert all(torch.isfinite(value).all() for value in fit.draws.values())


# Stochastic CAVI ------------------------------------------------------------------------------------------------------


@unchecked
@pytest.mark.parametrize("model", [MODEL, HIERARCHICAL], ids=["plain", "hierarchical"])
def test_one_batch_of_all_rows_at_full_step_is_a_fixed_point_of_cavi(model):
    data = larger(model)
    batch = cavi.Solver(Posterior.of(model, data))
    with seeded(0):
        state = batch.init(1)
        for _ in range(2000):
            state, info = batch.step(state)
    elbo = info.objective
    solver = stochastic_cavi.Solver(Posterior.of(model, data), batch_size=40, local_steps=1000, local_tol=1e-10)
    names = ["column_shape", "column_rate", *(["column_rates_rate"] if model.hierarchical else [])]
    start = {name: getattr(state, name) for name in names}
    start["column_rate"] = start["column_rate"].expand_as(start["column_shape"])
    own = solver.state_class(seen=torch.zeros(1, dtype=torch.float64), **start)
    after, info = solver.step(own)
    torch.testing.assert_close(after.column_shape, own.column_shape, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(info.objective, elbo, rtol=1e-6, atol=0)
    finished = solver.finish(own)
    torch.testing.assert_close(batch.step(finished)[1].objective, elbo, rtol=1e-6, atol=0)


@pytest.mark.slow
@unchecked
def test_minibatches_come_close_to_the_batch():
    data = simulate_data(MODEL, seed=2, missing=0.05, rows=120, columns=30)
    posterior = Posterior.of(MODEL, data)
    batch, solver = cavi.Solver(posterior), stochastic_cavi.Solver(posterior, batch_size=40)
    with seeded(0):
        state = batch.init(1)
        for _ in range(500):
            state, info = batch.step(state)
        elbo, own = info.objective, solver.init(1)
        for _ in range(60):
            own, info = solver.step(own)
    reached = batch.step(solver.finish(own))[1].objective
    assert float(reached) == pytest.approx(float(elbo), rel=0.01)
    assert float(info.objective) == pytest.approx(float(reached), rel=0.01)


def test_settings_of_minibatches_are_checked():
    assert {name for name, _ in wrong_values(stochastic_cavi.Options)} == {
        "batch_size", "delay", "forgetting", "local_steps", "local_tol",
    }  # fmt: skip
    for name, value in wrong_values(stochastic_cavi.Options):
        with pytest.raises(SettingError, match=f"solver.{name} is .*; it must be"):
            pyrozoo.fit(MODEL, "stochastic_cavi", data=TINY, solver={name: value}, **QUIET)


# Predictions and queries ----------------------------------------------------------------------------------------------


def test_predictions_are_those_of_a_mixture_of_poissons():
    theta = torch.tensor([[[1.0, 2.0]], [[0.5, 0.1]]], dtype=torch.float64)
    eta = torch.tensor([[[3.0, 1.0], [0.2, 0.1]], [[3.0, 1.0], [4.0, 0.1]]], dtype=torch.float64)
    cells = torch.tensor([[0, 1], [0, 0]])
    x = torch.tensor([2.0, 7.0], dtype=torch.float64)
    found = queries.predictive(theta, eta, cells, x)
    rates = np.array([[0.4, 5.0], [2.01, 1.6]])
    np.testing.assert_allclose(found.mean, rates.mean(0))
    np.testing.assert_allclose(found.log_density, np.log(stats.poisson.pmf(x.numpy(), rates).mean(0)), rtol=1e-12)
    cdf = np.stack([stats.poisson.cdf(np.arange(40)[:, None], rate).mean(1) for rate in rates.T])
    for end, level in ((found.lower, 0.05), (found.upper, 0.95)):
        for i in range(2):
            # The quantile of a thousand draws: within three standard errors of the level on one side or the other.
            k = int(end[i])
            assert cdf[i][k] > level - 0.021
            assert (cdf[i][k - 1] if k else 0.0) < level + 0.021


@cache
def genre_fit():
    """Return a fit of data with three plain groups of columns, and rows that use one each."""
    generator = np.random.default_rng(0)
    x = np.zeros((60, 30))
    for row in range(60):
        group = row % 3
        x[row, group * 10 : group * 10 + 10] = generator.poisson(6, 10)
    frame = pd.DataFrame(x, index=[f"user {i}" for i in range(60)], columns=[f"g{j // 10} item {j}" for j in range(30)])
    test = pd.DataFrame(x[:2], index=["new a", "new b"], columns=frame.columns)
    test.iloc[:, 5] = 0
    return pyrozoo.fit("poisson_mf", "cavi", data=frame, test=test, num_factors=3, restarts=4, holdout=0.1, **QUIET)


def test_genres_are_the_groups():
    table = View().tables(genre_fit())["genres"]
    assert len(table) == 3 * queries.TOP
    for _, part in table.groupby("factor"):
        assert part["column"].str[:2].nunique() == 1, "ten columns of one group"
        assert part["weight"].is_monotonic_decreasing
        assert part["weight"].sum() == pytest.approx(1, abs=0.05)
        assert (part["lift"] > 1).all()
    assert table.groupby("factor")["share"].first().sum() == pytest.approx(1)


def test_recommendations_are_unseen_first_and_of_the_rows_group():
    fit = genre_fit()
    table = queries.recommend(fit.draws, fit.data, rows=[3, 4], count=12, seen=True)
    listed = {(fit.data.row_labels[int(i)], fit.data.column_labels[int(j)]) for i, j, _ in fit.data.values.tolist()}
    for row, part in table.groupby("row"):
        assert [((row, column) in listed) for column in part["column"]] == part["seen"].tolist()
        assert part["seen"].is_monotonic_increasing, "what the row lists comes last"
        unseen = part[~part["seen"]]
        assert unseen["mean"].is_monotonic_decreasing
        assert (unseen["lower_90"] <= unseen["upper_90"]).all(), unseen
        assert (unseen["mean"] <= unseen["upper_90"] + 1).all(), unseen
    plain = queries.recommend(fit.draws, fit.data, rows=[3])
    assert not plain["seen"].any()
    assert plain["column"].iloc[0].startswith("g0"), "what is hidden of its own group comes first"


def test_similar_columns_are_of_the_same_group():
    table = View().tables(genre_fit())["similar"]
    assert (table["column"].str[:2] == table["similar"].str[:2]).all()
    assert (table["column"] != table["similar"]).all()
    assert table["cosine"].between(-1e-9, 1 + 1e-9).all()


def test_new_rows_are_folded_in():
    fit = genre_fit()
    tables = View().tables(fit)
    new = tables["test_recommendations"]
    assert new[new["row"] == "new a"]["column"].iloc[0] == "g0 item 5", "the one column of its group that it has not"
    shares = tables["test_row_factors"].set_index("row").filter(like="factor")
    assert (shares.max(axis=1) > 0.9).all()
    assert shares.to_numpy().argmax(1)[0] != shares.to_numpy().argmax(1)[1]
    # A row that was fitted is placed where the fit has it.
    again = queries.fold_in(fit.posterior, fit.draws, fit.data)
    mine, theirs = (fit.posterior.invariants(d)["row_total"].mean((0, 1)) for d in (fit.draws, again))
    torch.testing.assert_close(theirs, mine, rtol=0.05, atol=0.5)


def test_ranking_is_the_textbooks():
    fit = genre_fit()
    data, hidden = fit.data, fit.data.hidden
    scores = queries.expected_rates(*queries.factors(fit.draws, queries.RATE_DRAWS))
    seen = {(int(i), int(j)) for i, j, _ in data.values.tolist()}
    ndcg, recall, entries = [], [], (hidden.rows, hidden.columns, hidden.values)
    for row in sorted(set(hidden.rows[hidden.values > 0].tolist())):
        wanted = {j for i, j, v in zip(*map(torch.Tensor.tolist, entries), strict=True) if i == row and v > 0}
        order = sorted((j for j in range(30) if (row, j) not in seen), key=lambda j, row=row: -float(scores[row, j]))[
            :20
        ]
        gains = [1 / np.log2(rank + 2) for rank, j in enumerate(order) if j in wanted]
        ideal = sum(1 / np.log2(rank + 2) for rank in range(min(len(wanted), 20)))
        ndcg.append(sum(gains) / ideal)
        recall.append(len(gains) / len(wanted))
    assert fit.metrics["ndcg_at_20"] == pytest.approx(np.mean(ndcg))
    assert fit.metrics["recall_at_20"] == pytest.approx(np.mean(recall))
    assert fit.metrics["ndcg_at_20"] > fit.metrics["popularity_ndcg_at_20"] + 0.2


def test_elbo_per_count():
    fit = genre_fit()
    assert fit.metrics["elbo_per_count"] == pytest.approx(fit.objective / float(fit.data.counts.sum()))


def test_aligned_columns_sum_to_one_and_fall_in_mass():
    draws = genre_fit().aligned
    torch.testing.assert_close(
        draws["column_factors"].sum(-2), torch.ones(1, len(draws["row_factors"][0]), 3, dtype=torch.float64)
    )
    mass = draws["row_factors"].sum(-2).mean((0, 1))
    assert (mass.diff() <= 0).all()


# Simulation, settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.05, 3.0])
def test_simulated_cells_are_poisson(scale):
    """Drawn as events where they are few, as cells where they are many: means and variances of each cell agree."""
    from pyrozoo.models.poisson_mf.likelihood import FactorPoisson

    generator = torch.Generator().manual_seed(0)
    theta, eta = (torch.rand(n, 2, dtype=torch.float64, generator=generator) * scale for n in (3, 4))
    rates, total, squares, S = theta @ eta.T, torch.zeros(3, 4).double(), torch.zeros(3, 4).double(), 4000
    with seeded(1):
        for _ in range(S):
            x = dense(
                dataclasses.replace(
                    Triplets.blank(3, 4), values=FactorPoisson(theta, eta, Triplets.blank(3, 4)).sample()
                )
            )[0]
            total += x
            squares += x.square()
    mean = total / S
    assert ((mean - rates).abs() / (rates / S).sqrt()).max() < 4.5
    variance = squares / S - mean.square()
    assert ((variance - rates).abs() / ((rates + 2 * rates.square()) / S).sqrt()).max() < 4.5


@pytest.mark.parametrize("field", ["row_shape", "row_rate", "column_shape", "column_rate", "rate_shape"])
def test_settings_must_be_positive(field):
    with pytest.raises(SettingError, match=f"model.{field} is 0.0; it must be a positive number"):
        dataclasses.replace(MODEL, **{field: 0.0})


@pytest.mark.parametrize(("field", "value"), [*wrong_values(PoissonMF), ("hierarchical", 1)])
def test_settings_are_checked(field, value):
    with pytest.raises(SettingError, match=f"model.{field} is .*; it must be"):
        PoissonMF.of({**MODEL.values(), field: value})


def test_em_needs_shapes_of_one():
    with pytest.raises(SettingError, match="row_shape"):
        pyrozoo.fit(dataclasses.replace(MODEL, row_shape=0.5), "em", data=TINY, **QUIET)


def test_single_precision_cannot_hold_all_counts():
    with pytest.raises(DataError, match="dtype=float64"):
        pyrozoo.fit(MODEL, "cavi", data=np.array([[2.0**25 + 2, 1]]), dtype="float32", **QUIET)


# Scale ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"row_rate": 0.3}, {"column_rate": 5.0}, {"row_rate": 0.3, "column_rate": 5.0}])
def test_a_count_has_the_datas_mean_under_the_prior(given):
    """The mean is K a c / (b d) = 20 / 7 of the 7 observed cells of 9, whatever of it is given."""
    data = Triplets.of(np.array([[1, 0, 2.0], [0, 3, NAN], [0, 14, 90]])).hide(torch.tensor([[2, 2]]))
    model = dataclasses.replace(PoissonMF(3, 1.5, None, 0.8, None, False, 1.0), **given)
    filled = Posterior.of(model, data).model
    assert {name: getattr(filled, name) for name in given} == given
    mean = 3 * 1.5 * 0.8 / (filled.row_rate * filled.column_rate)
    if len(given) < 2:
        assert mean == pytest.approx(20 / 7, rel=0.01)  # three digits of each rate
    if not given:
        assert 1.5 / filled.row_rate == pytest.approx(0.8 / filled.column_rate, rel=0.01), "both sides alike"
    assert all("mean count of a cell" in each.how for each in model.derived(data).values())
    assert Posterior.of(PoissonMF(3, 1.0, None, 1.0, None, False, 1.0), None).model.row_rate == 1


@pytest.mark.parametrize(("level", "hierarchical"), [(0.01, False), (1.0, False), (100.0, False), (100.0, True)])
def test_counts_of_any_level_are_fitted_as_well_as_with_the_prior_that_made_them(level, hierarchical):
    """Mean log densities of hidden counts are within three standard errors and 0.02 nats of the matched prior's."""
    truth = PoissonMF(2, 1.0, (2 / level) ** 0.5, 1.0, (2 / level) ** 0.5, hierarchical, 3.0)
    data = simulate_data(truth, seed=1, rows=40, columns=30).hold_out(0.2, 0)
    free = dataclasses.replace(truth, row_rate=None, column_rate=None)
    fits = [pyrozoo.fit(model, "cavi", data=data, restarts=1, max_iterations=150, **QUIET) for model in (truth, free)]
    matched, ours = (fit.prediction(fit.data).log_density for fit in fits)
    apart = matched - ours
    assert abs(float(apart.mean())) < 3 * float(apart.std()) / len(apart) ** 0.5 + 0.02
    assert ours.isfinite().all()


# What is left out, and what it is held against ----------------------------------------------------------------------


def test_what_is_left_out_are_cells(monkeypatch):
    """All observed ones, zeros among them, if they are few; else an even share of them."""
    data = larger()
    posterior = Posterior.of(MODEL, data)
    with seeded(0):
        draws = {site: value.unsqueeze(1) for site, value in posterior.initial(3).items()}
    out = posterior.left_out
    assert (out.unit, out.total) == ("cell", data.observed_cells)
    logs = out.logs(draws)
    assert logs.shape == (3, 1, data.observed_cells)
    torch.testing.assert_close(logs.sum(-1), posterior.log_likelihood(draws))
    monkeypatch.setattr("pyrozoo.models.poisson_mf.posterior.MOST_LEFT_OUT", 100)
    some = Posterior.of(MODEL, data).left_out.logs(draws)
    assert some.shape == (3, 1, 100)
    error = float(logs[0].std()) / 10
    assert abs(float(some[0].mean() - logs[0].mean())) < 4 * error


def test_loo_of_cells_is_trusted_where_rows_could_not_be():
    fit = pyrozoo.fit(
        "poisson_mf",
        "gibbs",
        rows=30,
        columns=20,
        num_factors=1,
        truth={"num_factors": 1},
        warmup=100,
        draws=200,
        thin=1,
        **QUIET,
    )
    assert fit.metrics["loo_unit"] == "cell"
    assert fit.metrics["loo_bad_khat_share"] < 0.05
    cells = fit.data.observed_cells
    assert fit.metrics["loo_elpd"] / cells == pytest.approx(fit.metrics["holdout_elpd"], abs=0.5)
    assert 20 < fit.metrics["loo_p"] < 60, "there are 50 unknowns, less one"


def test_the_baseline_is_damped():
    """By hand: 4 cells of [[3, 0], [0, 1]] and a hidden one; parts are (row's total + 5 mean) / ((cells + 5) mean)."""
    data = Triplets.of(np.array([[3, 0, 8.0], [0, 1, 0]])).hide(torch.tensor([[0, 2]]))
    mean = (4 + 1) / (5 + 1)
    row, column = (3 + 5 * mean) / ((2 + 5) * mean), (0 + 5 * mean) / ((1 + 5) * mean)
    assert queries.independent(data).tolist() == pytest.approx([mean * row * column])
    fit = pyrozoo.fit("poisson_mf", "cavi", data=data, num_factors=1, restarts=1, max_iterations=20, **QUIET)
    expected = stats.poisson.logpmf(8, mean * row * column)
    assert fit.metrics["baseline_elpd"] == pytest.approx(expected)


def test_what_is_recorded_to_be_compiled_calls_no_sparse_routine(monkeypatch):
    from torch.utils._python_dispatch import TorchDispatchMode

    names = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(sparse, "SMALL", 0)
    pattern = random_pattern(4, 5, 0.4)
    a, b = (torch.rand(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 5))
    with Recorder():
        pattern.sampled(a, b).sum().backward()
    assert names
    assert not [name for name in names if "sparse" in name or "sampled_addmm" in name]
    assert torch.allclose(a.grad, torch.autograd.grad(pattern.sampled(a, b).sum(), a)[0])


def test_a_factor_of_nothing_has_the_density_of_its_prior():
    """Of shape 1 and rate 2 the density at 0 is 2; of shape 2 it is 0, which the smallest number stands for."""
    zero = torch.zeros(1, dtype=torch.float64)
    assert float(em._log_gamma(zero, 1.0, 2.0)) == pytest.approx(float(torch.tensor(2.0).log()))
    assert -750 < float(em._log_gamma(zero, 2.0, 2.0)) < -700


def test_rows_are_judged_one_by_one_where_columns_are_many(monkeypatch):
    data = Triplets.of(np.array([[3, 0, 8.0], [0, 1, 5], [2, 2, 0]])).hide(torch.tensor([[0, 2], [1, 1], [1, 2]]))
    expected = [[0, 1], [[False, False, True], [False, True, True]], [[True, False, False], [False, False, False]]]
    for block, count in ((queries.BLOCK, 1), (1, 2)):
        monkeypatch.setattr(queries, "BLOCK", block)
        found = list(queries.wanted_and_seen(data))
        assert len(found) == count
        assert [torch.cat(part).tolist() for part in zip(*found, strict=True)] == expected
