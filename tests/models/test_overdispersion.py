"""Counts that vary more than Poisson ones: negative binomial counts of zip_mixture, and the check that names them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, logsumexp

import pyrozoo
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NotApplicable
from pyrozoo.data.container import Hidden
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.diagnostics.compare import _moments
from pyrozoo.diagnostics.verdict import verdict
from pyrozoo.inference.sample import Sample
from pyrozoo.models.zip_mixture import gibbs
from pyrozoo.models.zip_mixture.likelihood import Sums
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.models.zip_mixture.overdispersion import best_size, log_excess
from pyrozoo.testing import laws
from pyrozoo.testing.samplers import calibration_ranks, geweke, uniformity
from tests.case import case, refused

NAN = float("nan")
MODEL = ZipMixture(2, (2.0, 1.5), 1.5, 2.0, 2.0, 1.0, True, 2.0, 1.0)
TINY = Table.of(np.array([[0, 3.0], [9, NAN], [2, 0], [0, 8]]))
TINY = dataclasses.replace(TINY, exposure=torch.tensor([0.5, 2, 1, 3]).double())
pytestmark = pytest.mark.usefixtures("unchecked")


@cache
def exact():
    """Enumerate every assignment z and every b at a zero; rate and size of each column are then integrated on a grid.

    Returns:
        The log evidence, and draws.
    """
    m, x, E = MODEL, TINY.values.numpy(), TINY.exposure.numpy()
    (N, D), K, h = x.shape, m.num_components, 0.08
    log_rate, log_size = np.meshgrid(np.arange(-7, 5, h), np.arange(-7, 5, h), indexing="ij")
    rate, size = np.exp(log_rate), np.exp(log_size)
    prior = stats.gamma(m.rate_shape, scale=1 / m.rate_rate).logpdf(rate) + log_rate
    prior = prior + stats.gamma(m.size_shape, scale=1 / m.size_rate).logpdf(size) + log_size

    @cache
    def integral(d, rows):
        mass = prior + sum(stats.nbinom(size, size / (size + E[i] * rate)).logpmf(x[i, d]) for i in rows)
        return logsumexp(mass) + 2 * math.log(h), mass

    alpha, zeros = np.asarray(m.weight_concentration), [(i, d) for i in range(N) for d in range(D) if x[i, d] == 0]
    log_p, ways = [], []
    for z in itertools.product(range(K), repeat=N):
        for on in itertools.product((0, 1), repeat=len(zeros)):
            b = (x > 0).astype(int)
            for cell, value in zip(zeros, on, strict=True):
                b[cell] = value
            counts = np.bincount(z, minlength=K)
            total = gammaln(alpha.sum()) - gammaln(alpha.sum() + N) + (gammaln(alpha + counts) - gammaln(alpha)).sum()
            way = {}
            for k, d in itertools.product(range(K), range(D)):
                seen = [i for i in range(N) if z[i] == k and not np.isnan(x[i, d])]
                rows = tuple(i for i in seen if b[i, d])
                beta = m.on_prob_alpha + len(rows), m.on_prob_beta + len(seen) - len(rows)
                total += betaln(*beta) - betaln(m.on_prob_alpha, m.on_prob_beta) + integral(d, rows)[0]
                way[k, d] = rows, beta
            log_p.append(total)
            ways.append((alpha + counts, way))
    evidence, generator, S = logsumexp(log_p), np.random.default_rng(0), 20_000
    chosen = generator.multinomial(S, np.exp(np.asarray(log_p) - evidence))
    parts = {site: [] for site in ("weights", "on_prob", "rate", "size")}
    for (concentration, way), count in zip(ways, chosen, strict=True):
        cells = {site: np.empty((count, K, D)) for site in ("on_prob", "rate", "size")}
        for (k, d), (rows, beta) in way.items():
            mass = np.exp(integral(d, rows)[1] - integral(d, rows)[1].max()).ravel()
            at = generator.choice(mass.size, count, p=mass / mass.sum())
            cells["on_prob"][:, k, d] = generator.beta(*beta, count)
            for site, grid in (("rate", log_rate), ("size", log_size)):
                cells[site][:, k, d] = np.exp(grid.ravel()[at] + generator.uniform(-h / 2, h / 2, count))
        for site, values in (cells | {"weights": generator.dirichlet(concentration, count)}).items():
            parts[site].append(values)
    order = generator.permutation(S)
    draws = {site: torch.as_tensor(np.concatenate(each)[order])[None] for site, each in parts.items()}
    return float(evidence), Draws(draws)


LONG = {
    "gibbs": {"chains": 16, "draws": 300, "warmup": 200, "thin": 1},
    "nuts": {"chains": 4, "draws": 500, "warmup": 400, "backend": "nutpie"},
}


@pytest.mark.parametrize("method", LONG)
def test_samplers_agree_with_the_oracle(method):
    fit = pyrozoo.fit(MODEL, method, data=TINY, progress=False, **LONG[method])
    posterior = Posterior.of(MODEL, TINY)
    found = _moments("ours", fit, posterior.invariants(fit.draws)).set_index("quantity")
    truth = posterior.invariants(exact()[1])
    values = [value[0].flatten(1).numpy() if value.ndim > 2 else value[0, :, None].numpy() for value in truth.values()]
    mean, sd = (np.concatenate([f(each, 0) for each in values]) for f in (np.mean, np.std))
    middle = [name for name, each in zip(found.index, mean, strict=True) if not name.startswith("column_variance")]
    error = dict(
        zip(found.index, (found["mean"] - mean) / np.hypot(found["mcse"], sd / math.sqrt(20_000)), strict=True)
    )
    assert max(abs(error[name]) for name in middle) < 5, error  # a variance over a small size has no moments


@pytest.mark.parametrize("method", ["svi", "laplace"])
def test_bounds_stay_below_the_evidence(method):
    its = case("zip_mixture")
    fit = pyrozoo.fit(MODEL, method, data=TINY, progress=False, **its.settings[method])
    evidence, _ = exact()
    if method == "laplace":
        assert fit.objective == pytest.approx(evidence, abs=its.laplace_error)
    else:
        slack = 4 * float(fit.metrics["elbo_se"])
        assert evidence - its.elbo_gap - slack <= fit.metrics["elbo"] <= evidence + slack


def test_a_point_beats_every_exact_draw():
    draws = {site: value[:, :2000] for site, value in exact()[1].items()}
    posterior = Posterior.of(MODEL, TINY)
    best = float((posterior.log_likelihood(draws) + posterior.log_prior(draws)).max())
    assert pyrozoo.fit(MODEL, "em", data=TINY, restarts=20, progress=False).objective > best


@pytest.mark.parametrize("exposed", [False, True])
def test_laws_of_negative_binomial_counts(exposed, checked):
    from pyrozoo.models.zip_mixture import em

    blank = Table.blank(30, 4)
    blank = dataclasses.replace(blank, exposure=torch.arange(1.0, 31).double() / 10) if exposed else blank
    for dtype in (torch.float64, torch.float32):
        data = simulate_data(MODEL, seed=5, blank=blank, missing=0.2).to("cpu", dtype)
        laws.never_falls(em.Solver(Posterior.of(MODEL, data)), steps=60)
    laws.one_density(Posterior.of(MODEL, simulate_data(MODEL, seed=5, blank=blank, missing=0.2)))


@pytest.mark.parametrize("scale", [0.3, 5.0, 1000.0])
def test_em_ends_where_an_optimiser_does(scale):
    """One cluster, one column: of small counts one kind of missing data is quick, of large ones the other."""
    generator = np.random.default_rng(0)
    size, E = 2.0, generator.uniform(0.5, 2, 200)
    x = generator.poisson(scale * E * generator.gamma(size, 1 / size, 200)) * (generator.random(200) < 0.8)
    model = ZipMixture(1, 2.0, 2.0, 2.0, 2.0, 2 / scale, True)
    data = dataclasses.replace(Table.of(x[:, None].astype(float)), exposure=torch.as_tensor(E))
    fit = pyrozoo.fit(model, "em", data=data, restarts=3, tol=1e-12, max_iterations=3000, progress=False)

    def loss(theta):
        on, rate, size = 1 / (1 + np.exp(-theta[0])), np.exp(theta[1]), np.exp(theta[2])
        mass = on * stats.nbinom(size, size / (size + E * rate)).pmf(x) + (1 - on) * (x == 0)
        prior = stats.beta(2, 2).logpdf(on) + stats.gamma(2, scale=scale / 2).logpdf(rate)
        return -np.log(mass).sum() - prior - stats.gamma(2, scale=5).logpdf(size)

    best = -minimize(
        loss, [1.0, math.log(scale), 0.5], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    ).fun
    assert fit.objective == pytest.approx(best, abs=1e-5)


def test_the_size_of_the_m_step_is_a_maximum():
    generator = torch.Generator().manual_seed(0)
    W = 50 * torch.rand(1, 8, 5, generator=generator).double()
    W[0, 0] = 0
    g = torch.rand(1, 8, 5, generator=generator).double() + 0.5
    sums = Sums(W[..., 0], W, W, W, W, W * g, W * (g.log() - 0.2 * torch.rand(1, 8, 5, generator=generator)))
    change, start = torch.full_like(W, 1.1), torch.full_like(W, 3.0)
    best = best_size(MODEL, start, sums, change)

    def value(r):
        S = sums.log_factors + W * change.log() - change * sums.factors
        return W * (r * r.log() - torch.lgamma(r)) + r * S + r.log() * (MODEL.size_shape - 1) - MODEL.size_rate * r

    for other in (best * 0.99, best * 1.01):
        assert (value(best) > value(other)).all()


def test_a_large_size_is_a_poisson_count():
    x, mean = torch.arange(12).double(), torch.tensor(3.7, dtype=torch.float64)
    torch.testing.assert_close(
        log_excess(x, mean, torch.tensor(1e9).double()), (-mean).expand(12), rtol=1e-6, atol=1e-5
    )
    found = log_excess(x, mean, torch.tensor(2.5).double()) + x * mean.log() - torch.lgamma(x + 1)
    expected = stats.nbinom(2.5, 2.5 / 6.2).logpmf(x.numpy())
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-12, atol=1e-12)


class ForgetsPriorOfSize(gibbs.Solver):
    """Plant: sizes move without the shape of their prior."""

    def log_density(self, sums, on, rate, size=None):
        return super().log_density(sums, on, rate, size) - (self.model.size_shape - 1) * size.log()


class ForgetsJacobian(gibbs.Solver):
    """Plant: sizes are proposed on the scale of logarithms, and judged as if they were not."""

    def walked(self, state, assigned):
        new = super().walked(state, assigned)
        keep = torch.rand_like(new.size) < (state.size / new.size).clamp(max=1)
        return dataclasses.replace(new, size=torch.where(keep, new.size, state.size))


@pytest.mark.parametrize(
    "make", [gibbs.Solver, pytest.param(ForgetsPriorOfSize, marks=pytest.mark.slow), ForgetsJacobian]
)
def test_geweke(make):
    z = geweke(MODEL, Table.blank(5, 2), make, sweeps=600, seed=11).abs().max()
    assert (z > 4.5) == (make is not gibbs.Solver), z


@pytest.mark.slow
def test_calibration():
    def infer(data, seed):
        sampler = Sample(name="sampler", part=gibbs.Solver, chains=31, warmup=40, draws=1, thin=1)
        return sampler(Posterior.of(MODEL, data), Loop(seed=seed, progress=False)).draws

    p = uniformity(calibration_ranks(MODEL, Table.blank(5, 2), infer, simulations=25, seed=3))
    assert p.min() > 1e-4, p[p < 1e-3]


def test_cavi_says_which_methods_there_are():
    said = refused(NotApplicable, pyrozoo.fit, MODEL, "cavi", data=TINY, progress=False)
    assert all(name in said for name in ("model.overdispersed", "em", "gibbs", "svi", "nuts"))


@pytest.mark.parametrize("method", ["em", "gibbs"])
@pytest.mark.parametrize("what", case("zip_mixture").odd)
def test_odd_data_gives_a_finite_fit(what, method):
    quick = {"em": {"restarts": 2, "max_iterations": 60}, "gibbs": {"warmup": 10, "draws": 10, "chains": 2}}[method]
    model = dataclasses.replace(MODEL, rate_rate=None)
    fit = pyrozoo.fit(model, method, data=case("zip_mixture").odd[what], progress=False, **quick)
    assert all(torch.isfinite(value).all() for value in fit.draws.values())
    assert math.isfinite(fit.objective)


def test_completion_is_negative_binomial():
    data = simulate_data(MODEL, rows=8, columns=3, seed=2)
    row, column, truth = 3, 1, float(data.values[3, 1])
    values = data.values.clone()
    values[row, column] = NAN
    hidden = Hidden(torch.tensor([row]), torch.tensor([column]), torch.tensor([truth]).double())
    data = dataclasses.replace(data, values=values, hidden=hidden)
    draws = laws.prior_draws(Posterior.of(MODEL, data), 1)
    found = Posterior.of(MODEL, data).predict(draws)
    draw = {site: value[0, 0].numpy() for site, value in draws.items()}
    on, rate, size, counts = draw["on_prob"], draw["rate"], draw["size"], np.arange(3000)
    r = draw["weights"].copy()
    for d in (0, 2):
        mass = stats.nbinom(size[:, d], size[:, d] / (size[:, d] + rate[:, d])).pmf(float(values[row, d]))
        r *= on[:, d] * mass + (1 - on[:, d]) * (float(values[row, d]) == 0)
    r /= r.sum()
    pmf = on[:, [column]] * stats.nbinom(size[:, [column]], (size / (size + rate))[:, [column]]).pmf(counts)
    pmf[:, 0] += 1 - on[:, column]
    pmf = r @ pmf
    assert float(found.mean) == pytest.approx(float(pmf @ counts), rel=1e-6)
    assert float(found.log_density) == pytest.approx(math.log(pmf[int(truth)]), rel=1e-9)
    assert abs(int(found.upper) - int((pmf.cumsum() < 0.95).sum())) <= max(1, 0.1 * float(found.upper))


# The verdict ----------------------------------------------------------------------------------------------------------


def counts(size: float | None, seed: int) -> np.ndarray:
    """Two clusters of 60 rows in all, and negative binomial counts where a size is given."""
    generator = np.random.default_rng(seed)
    rate = np.array([[1.0, 6, 2, 4, 3, 1], [5, 1, 2, 1, 3, 2]])[generator.integers(0, 2, 60)]
    factor = 1.0 if size is None else generator.gamma(size, 1 / size, rate.shape)
    return (generator.poisson(3 * rate * factor) * (generator.random(rate.shape) < 0.8)).astype(float)


def judged(data, model: str, method: str = "em", **settings):
    quick = {"em": {"restarts": 4}, "gibbs": {"warmup": 100, "draws": 50, "chains": 2, "thin": 1}}[method]
    fit = pyrozoo.fit(model, method, data=data, progress=False, **quick, **settings)
    return fit, [line for line in verdict(fit.metrics) if line.sentence.startswith("Counts vary more")]


@pytest.mark.parametrize("method", ["em", "gibbs"])
def test_the_verdict_names_counts_that_vary_more_than_poisson_ones(method, monkeypatch):
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 100)
    fit, lines = judged(counts(3.0, 0), "zip_mixture", method, num_components=2)
    assert [line.level for line in lines] == ["fail"]
    assert "more than Poisson ones: set model.overdispersed=true" in lines[0].sentence
    assert fit.metrics["overdispersion_ratio"] > 1.5
    assert method != "em" or "model.overdispersed=true" in verdict(fit.metrics).answer
    fit, lines = judged(counts(3.0, 0), "zip_mixture", method, num_components=2, overdispersed=True)
    assert not lines, "what the verdict says helps"


@pytest.mark.parametrize("method", ["em", "gibbs"])
def test_poisson_counts_raise_no_alarm(method, monkeypatch):
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 25)
    fits = [judged(counts(None, seed), "zip_mixture", method, num_components=2)[0] for seed in range(5)]
    p = [fit.metrics["overdispersion_p"] for fit in fits]
    assert sum(each < 0.05 for each in p) <= 1, p


def test_factorizations_name_what_helps(monkeypatch):
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 100)
    generator = np.random.default_rng(0)
    rate = generator.gamma(1, 2, (50, 2)) @ generator.gamma(1, 2, (2, 10))
    good, bad = generator.poisson(rate), generator.poisson(rate * generator.gamma(2, 0.5, rate.shape))
    assert not judged(good.astype(float), "poisson_mf", num_factors=2)[1]
    fit, lines = judged(bad.astype(float), "poisson_mf", num_factors=2)
    assert "model.num_factors" in lines[0].sentence
    assert "zip_mixture" in lines[0].sentence
    assert fit.metrics["overdispersion_p"] < 0.01


def test_dispersion_of_a_factorization_is_the_textbooks(checked):
    """Against sums over all cells, some unobserved, rows with an exposure."""
    model = case("poisson_mf").model
    data = simulate_data(model, rows=12, columns=4, seed=1)
    data = dataclasses.replace(
        data.hide(torch.tensor([[0, 1], [5, 2], [7, 0]])), exposure=torch.arange(1.0, 13).double() / 4, hidden=None
    )
    posterior = Posterior.of(model, data)
    draw = {site: value[0, 0] for site, value in laws.prior_draws(posterior, 1).items()}
    s = (data.exposure[:, None] * draw["row_factors"]) @ draw["column_factors"].T
    x, seen = torch.zeros(12, 4).double(), torch.ones(12, 4).double()
    x[data.values[:, 0].long(), data.values[:, 1].long()] = data.counts
    seen[data.unobserved[:, 0], data.unobserved[:, 1]] = 0
    weight = x.mean(0) / (2 * x.mean(0) + 1)
    ratio = (seen * (x - s).square()).sum(0) / (seen * s).sum(0)
    torch.testing.assert_close(posterior.dispersion(data.values, draw), (weight * ratio).sum() / weight.sum())


def test_dispersion_of_a_mixture_is_the_textbooks(checked):
    data = simulate_data(MODEL, rows=12, columns=4, seed=1, missing=0.2)
    data = dataclasses.replace(data, exposure=torch.arange(1.0, 13).double() / 4)
    posterior = Posterior.of(MODEL, data)
    draws = laws.prior_draws(posterior, 1)
    draw = {site: value[0, 0] for site, value in draws.items()}
    layout = posterior.layout
    r = layout.responsibilities(layout.given({site: value[0] for site, value in draws.items()}), slice(None))[0][:, 0]
    m = data.exposure[:, None, None] * draw["rate"]
    mean = draw["on_prob"] * m
    variance = draw["on_prob"] * (m + m.square() + m.square() / draw["size"]) - mean.square()
    weight = r[:, :, None] * data.observed[:, None]
    top = (weight * (data.filled[:, None] - mean).square()).sum((0, 1))
    own = data.filled.sum(0) / data.observed.sum(0)
    each = own / (2 * own + 1)
    expected = (each * top / (weight * variance).sum((0, 1))).sum() / each.sum()
    torch.testing.assert_close(posterior.dispersion(data.values, draw), expected)
