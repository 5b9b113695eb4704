"""gaussian_mf: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from scipy.stats import multivariate_normal
from torch.distributions import MultivariateNormal, kl_divergence

import pyrozoo
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, NotApplicable, NumericalError, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.triplets import Triplets
from pyrozoo.inference.state import take
from pyrozoo.math.small_systems import backward_, factored, forward_, inverses, log_determinants
from pyrozoo.models.gaussian_mf import cavi, em, gibbs, likelihood, mle, point, queries
from pyrozoo.models.gaussian_mf.guide import Guide
from pyrozoo.models.gaussian_mf.likelihood import Block, Listed, residuals
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.testing.samplers import geweke
from tests.case import Case, Oracle
from tests.inference.test_inference import interrupt_at, same

NAN = float("nan")
MODEL = GaussianMF(2, 0.5, 0.6, 1.0, True, 4.0, True, 2.0, 0.7, False, None, 1.0)
PLAIN = dataclasses.replace(MODEL, learn_noise=False, offsets=False)
HIERARCHICAL = dataclasses.replace(MODEL, hierarchical=True, degrees_of_freedom=6.0, mean_strength=2.0)
OPTIONS = {"plain": PLAIN, "offsets": MODEL, "hierarchical": HIERARCHICAL}
TINY = Ratings.of(np.array([[0.9, -0.4], [0.6, NAN]]))
QUIET = {"progress": False}
unchecked = pytest.mark.usefixtures("unchecked")


def covariance(model: GaussianMF, gram: np.ndarray, noise: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the covariance of the ratings given s^2 and the products of column factors, all else integrated out."""
    i, j = pairs.T
    row, column = i[:, None] == i, j[:, None] == j
    fixed = model.mean_variance + model.offset_variance * (row.astype(float) + column)
    products = gram[..., j[:, None], j] * model.row_factor_variance * row
    return fixed + products + noise[..., None, None] * np.eye(len(pairs))


@cache
def exact() -> Oracle:
    """Sum over a grid of s^2 and of two column factors, one on an axis; all else is a normal given them."""
    m, K = MODEL, MODEL.num_factors
    pairs, r = TINY.values[:, :2].long().numpy(), TINY.counts.numpy()
    sv, half = m.column_factor_variance**0.5, 4.6
    h = (0.13, 0.19)
    log_s = np.arange(-4.2, 4.2, h[0])
    length = np.arange(h[1] / 2, half * sv, h[1])  # of v_0; its direction is uniform
    side = np.arange(-half * sv, half * sv, h[1])
    S, R, X, Y = (axis.ravel() for axis in np.meshgrid(log_s, length, side, side, indexing="ij"))
    gram = np.empty((len(S), 2, 2))
    gram[:, 0, 0], gram[:, 0, 1], gram[:, 1, 1] = R**2, R * X, X**2 + Y**2
    gram[:, 1, 0] = gram[:, 0, 1]
    noise, a, b = np.exp(S), m.noise_shape, m.noise_shape * m.noise_variance
    log_p = np.empty(len(S))
    for part in np.array_split(np.arange(len(S)), 40):
        C = covariance(m, gram[part], noise[part], pairs)
        factor = np.linalg.cholesky(C)
        white = np.linalg.solve(factor, np.broadcast_to(r[:, None], (len(part), len(r), 1)))[..., 0]
        log_p[part] = -0.5 * (white**2).sum(-1) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(-1)
    log_p += -0.5 * len(r) * math.log(2 * math.pi)
    log_p += a * math.log(b) - math.lgamma(a) - a * S - b / noise  # density of log s^2
    log_p += np.log(R / sv**2) - 0.5 * (R / sv) ** 2  # Rayleigh
    log_p += -0.5 * (X**2 + Y**2) / sv**2 - math.log(2 * math.pi * sv**2)
    cell = h[0] * h[1] ** 3
    weight = np.exp(log_p - log_p.max())
    evidence = math.log(weight.sum() * cell) + log_p.max()
    generator, count = np.random.default_rng(0), 100_000
    at = generator.choice(len(weight), count, p=weight / weight.sum())
    jitter = generator.uniform(-0.5, 0.5, (4, count))
    s2 = np.exp(S[at] + h[0] * jitter[0])
    v = np.zeros((count, 2, 2))
    v[:, 0, 0] = R[at] + h[1] * jitter[1]
    v[:, 1, 0], v[:, 1, 1] = X[at] + h[1] * jitter[2], Y[at] + h[1] * jitter[3]
    angle = generator.uniform(0, 2 * np.pi, count)
    turn = np.stack([np.stack([np.cos(angle), np.sin(angle)], -1), np.stack([-np.sin(angle), np.cos(angle)], -1)], 1)
    v = v @ turn
    # (mu, a, b, u) given v and s^2: a normal with design D, r = D x + noise.
    N, M = TINY.shape
    size = 1 + N + M + N * K
    D = np.zeros((count, len(r), size))
    D[:, :, 0] = 1
    for e, (i, j) in enumerate(pairs):
        D[:, e, 1 + i] = D[:, e, 1 + N + j] = 1
        D[:, e, 1 + N + M + i * K : 1 + N + M + (i + 1) * K] = v[:, j]
    sizes = [(1, m.mean_variance), (N + M, m.offset_variance), (N * K, m.row_factor_variance)]
    prior = np.repeat([variance for _, variance in sizes], [n for n, _ in sizes])
    A = np.swapaxes(D, 1, 2) @ D / s2[:, None, None] + np.diag(1 / prior)
    mean = np.linalg.solve(A, (np.swapaxes(D, 1, 2) @ r / s2[:, None])[..., None])[..., 0]
    root = np.linalg.cholesky(np.linalg.inv(A))
    x = mean + (root @ generator.normal(size=(count, size, 1)))[..., 0]
    draws = {
        "noise_variance": s2, "row_factors": x[:, 1 + N + M :].reshape(count, N, K), "column_factors": v,
        "mean": x[:, 0], "row_offsets": x[:, 1 : 1 + N], "column_offsets": x[:, 1 + N : 1 + N + M],
    }  # fmt: skip
    return Oracle(evidence, {site: torch.as_tensor(value)[None] for site, value in draws.items()})


class PriorForgotten(gibbs.Solver):
    """Plant: half of the prior precision of the columns is lost."""

    def columns(self, state, found):
        halved = dataclasses.replace(state, column_precision=state.column_precision / 2)
        return dataclasses.replace(super().columns(halved, found), column_precision=state.column_precision)


class PrecisionAsCovariance(gibbs.Solver):
    """Plant: the noise added to a row's mean has the precision in the place of the covariance."""

    def chosen(self, conditional, what):
        mode = conditional.mode(what)
        L = conditional.precision.shape[0]
        A = conditional.precision.reshape(L, L, -1).permute(2, 0, 1).tril()
        A = A + A.tril(-1).mT
        noise = torch.linalg.cholesky(A) @ torch.randn(len(A), L, 1, dtype=A.dtype)
        return mode + noise.squeeze(-1).T.reshape(mode.shape)


class DataIgnored(gibbs.Solver):
    """Plant: draws from the prior."""

    def sweep(self, state):
        m, like = self.model, state.mean
        deviation = {
            "row_factors": m.row_factor_variance, "column_factors": m.column_factor_variance, "mean": m.mean_variance,
            "row_offsets": m.offset_variance, "column_offsets": m.offset_variance,
        }  # fmt: skip
        fresh = {site: v**0.5 * torch.randn_like(getattr(state, site)) for site, v in deviation.items()}
        gamma = torch.distributions.Gamma(torch.full_like(like, m.noise_shape), m.noise_shape * m.noise_variance)
        new = dataclasses.replace(state, **fresh, noise_variance=1 / gamma.sample())
        found = self.posterior.listed.regress("column", point.block(self.model, new, "row"))
        rss = point.squares(self.extent, self.model, new, found)
        return new, point.log_likelihood(self.extent, new, rss) + point.log_prior(self.model, self.posterior, new)


def lose(data: Ratings) -> Ratings:
    """Hide some ratings, always the same ones."""
    return dataclasses.replace(data.hide(data.values[[1, 6, 9], :2].long()), hidden=None, unobserved=None)


CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"rows": 5, "columns": 3},
    larger={"rows": 60, "columns": 12},
    settings={
        "em": {"restarts": 5, "max_iterations": 300},
        "mle": {"restarts": 5, "max_iterations": 300},
        "cavi": {"restarts": 5, "max_iterations": 2000, "draws": 1000},
        "gibbs": {"warmup": 100, "draws": 300, "thin": 1, "chains": 4},
        "svi": {"max_steps": 800, "restarts": 1, "draws": 300, "evaluation_draws": 50},
        "nuts": {"warmup": 60, "draws": 60, "chains": 2},
        "laplace": {"restarts": 4, "draws": 300},
    },
    elbo_gap=3.0,
    laplace_error=1.5,
    lose=lose,
    fills=frozenset({"em", "mle"}),
    bad={
        "infinite": (np.array([[1.0, float("inf")], [0.0, 1.0]]), "infinite"),
        "no rating": (np.full((2, 2), NAN), "there is no rating"),
        "too large": (np.array([[1e200, 1.0], [0.0, 1.0]]), "too large"),
        "empty": (np.empty((0, 3)), "empty"),
        "counts": (Triplets.of(np.array([[1, 0], [2, 1]])), "data=ratings"),
    },
    odd={
        "row and column without ratings": np.array([[1.0, NAN, 2.0], [NAN, NAN, NAN], [0.5, NAN, -1.0]]),
        "all equal": np.full((4, 3), 3.0),
        "one rating per row": np.array([[1.0, NAN], [NAN, 2.0], [3.0, NAN], [NAN, -1.0]]),
        "one cell": np.array([[2.0]]),
        "large numbers": 1e6 * np.array([[1.0, 2.0, 3.0], [2.0, NAN, 1.0], [5.0, 1.0, 2.0]]),
    },
    bugs={
        "prior": PriorForgotten,
        "precision": PrecisionAsCovariance,
        "data": DataIgnored,
    },
)


def simulated(
    model: GaussianMF = MODEL, missing: float = 0.3, rows: int = 20, columns: int = 8, seed: int = 1
) -> Ratings:
    return simulate_data(model, seed=seed, missing=missing, rows=rows, columns=columns)


def start(solver, chains: int = 4, steps: int = 3):
    with seeded(0):
        state = solver.init(chains)
        for _ in range(steps):
            state, _ = solver.step(state)
    return state


# Small systems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_small_systems_are_solved(size):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(7, size, size, dtype=torch.float64, generator=generator)
    A = root @ root.mT + torch.eye(size)
    b = torch.randn(7, size, dtype=torch.float64, generator=generator)
    lower = A.tril() + torch.full_like(A, NAN).triu(1)  # what is above the diagonal is not read
    factor = factored(lower.permute(1, 2, 0).contiguous())
    y = forward_(factor, b.T.clone())
    torch.testing.assert_close(
        y.T, torch.linalg.solve_triangular(torch.linalg.cholesky(A), b[..., None], upper=False)[..., 0]
    )
    torch.testing.assert_close(backward_(factor, y).T, torch.linalg.solve(A, b))
    torch.testing.assert_close(inverses(factor).permute(2, 0, 1), torch.linalg.inv(A))
    torch.testing.assert_close(log_determinants(factor), torch.logdet(A))


def test_a_singular_system_gets_jitter_and_a_negative_one_is_named(caplog):
    singular = torch.ones(2, 2, 3, dtype=torch.float64)
    singular[:, :, 0] += torch.eye(2)
    factor = factored(singular, "a toy")
    assert torch.isfinite(factor[0, 0]).all()
    assert torch.isfinite(factor[1]).all()
    assert "a toy needed a jitter" in caplog.text
    torch.testing.assert_close(factor[1, 1, 0] ** -2, torch.tensor(1.5).double())
    with pytest.raises(NumericalError, match="a toy is not positive definite"):
        factored(-singular, "a toy")


# Scale ----------------------------------------------------------------------------------------------------------------

BY_DEFAULT = GaussianMF(3, None, None, None, True, 1.0, True, None, None, False, None, 1.0)


def stars(rows: int = 300, columns: int = 200, share: float = 0.1) -> np.ndarray:
    """Return ratings of one to five stars as people give them: generous rows, liked columns, three factors, noise."""
    rng = np.random.default_rng(0)
    product = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, columns))
    latent = 3.5 + 0.5 * rng.normal(size=(rows, 1)) + 0.5 * rng.normal(size=columns) + 0.35 * product
    given = np.clip(np.rint(latent + 0.8 * rng.normal(size=latent.shape)), 1, 5)
    given[rng.random(given.shape) > share] = NAN
    return given


def test_priors_left_to_the_data_are_shares_of_their_spread():
    """Of 1, 2, 3 and 6: variance 3.5, mean square 12.5; a hidden rating of 1000 is none of them."""
    data = Ratings.of(np.array([[1.0, 2.0, 1000.0], [3.0, 6.0, NAN]])).hide(torch.tensor([[0, 2]]))
    found = {name: each.value for name, each in dataclasses.replace(BY_DEFAULT, num_factors=2).derived(data).items()}
    assert found == {
        "noise_variance": 1.75, "offset_variance": 0.438, "mean_variance": 125.0,  # 0.4375 with three digits
        "row_factor_variance": 0.661, "column_factor_variance": 0.661,  # sqrt(3.5 / 4 / 2)
    }  # fmt: skip
    plain = dataclasses.replace(BY_DEFAULT, num_factors=2, offsets=False, row_factor_variance=3.0).derived(data)
    assert {name: each.value for name, each in plain.items()} == {
        "noise_variance": 6.25, "offset_variance": 1.56, "mean_variance": 125.0, "column_factor_variance": 1.77,
    }  # fmt: skip
    for equal in (0.0, 3.0):
        model = BY_DEFAULT.given(Ratings.of(np.full((3, 2), equal)))
        assert all(0 < getattr(model, name) < 1e3 for name in model.without_data)


def test_what_is_simulated_has_the_priors_of_no_data():
    truths = [
        simulate_data(model, seed=3, rows=4, columns=3).truth
        for model in (BY_DEFAULT, dataclasses.replace(BY_DEFAULT, **BY_DEFAULT.without_data))
    ]
    torch.testing.assert_close(*truths)


QUICK = {
    "em": {"restarts": 1, "max_iterations": 60},
    "mle": {"restarts": 1, "max_iterations": 40},
    "cavi": {"restarts": 1, "max_iterations": 40, "draws": 50},
    "gibbs": {"chains": 1, "warmup": 40, "draws": 40, "thin": 1},
    "svi": {"restarts": 1, "max_steps": 150, "window": 150, "draws": 50, "evaluation_draws": 2},
}


@unchecked
@pytest.mark.parametrize("method", sorted(QUICK))
def test_the_unit_of_the_ratings_is_only_that_of_the_answer(method):
    """A thousand times, from 0 to 1, and far from 0: the same predictions within a hundredth of their error."""
    ratings = stars(100, 60, 0.2)

    def error(unit: float, shift: float) -> float:
        data = Ratings.of(unit * ratings + shift).hold_out(0.1, 0)
        fit = pyrozoo.fit("gaussian_mf", method, data=data, num_factors=3, **QUICK[method], **QUIET)
        assert fit.status != "objective_decreased"
        return fit.metrics["test_rmse"] / unit

    usual = error(1.0, 0.0)
    assert error(1000.0, 0.0) == pytest.approx(usual, rel=0.01)
    assert error(0.25, -0.25) == pytest.approx(usual, rel=0.01)
    assert error(1.0, 1000.0) == pytest.approx(usual, rel=0.01)


# Regressions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("side", ["row", "column"])
@pytest.mark.parametrize("options", sorted(OPTIONS))
def test_conditionals_are_those_of_numpy(options, side, dense, monkeypatch):
    """p(w_i | all else), one row at a time, by numpy.linalg."""
    model, data = OPTIONS[options], simulated(OPTIONS[options])
    monkeypatch.setattr("pyrozoo.models.gaussian_mf.likelihood.DENSE", 3 if dense else 0)
    solver = gibbs.Solver(Posterior.of(model, data))
    state = point.complete(model, vars(start(solver)))
    conditional, _ = point.conditional(model, solver.posterior.listed, state, side)
    mode = conditional.mode("w")
    block, _ = conditional.moments("w")
    entries, chain = data.values.numpy(), 2
    mine, other = (0, 1) if side == "row" else (1, 0)
    x = getattr(state, f"{point.OTHER[side]}_factors")[chain].numpy()
    b = getattr(state, f"{point.OTHER[side]}_offsets")[chain].numpy()
    mean, s = float(state.mean[chain]), float(state.noise_variance[chain])
    for i in range(data.shape[mine]):
        listed = entries[entries[:, mine] == i]
        j = listed[:, other].astype(int)
        design, response = x[j], listed[:, 2] - mean - b[j]
        A = getattr(state, f"{side}_precision")[chain].numpy()
        pull = A @ getattr(state, f"{side}_mean")[chain].numpy()
        if model.offsets:
            design = np.column_stack([design, np.ones(len(j))])
            A = np.block([[A, np.zeros((2, 1))], [np.zeros((1, 2)), 1 / model.offset_variance]])
            pull = np.append(pull, 0)
        A = A + design.T @ design / s
        expected = np.linalg.solve(A, pull + design.T @ response / s)
        np.testing.assert_allclose(mode[:, chain, i].numpy(), expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(block.mean[:, chain, i].numpy(), expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(block.covariance[:, :, chain, i].numpy(), np.linalg.inv(A), rtol=1e-10, atol=1e-12)


def test_draws_have_the_conditionals_moments():
    data = simulated()
    solver = gibbs.Solver(Posterior.of(MODEL, data))
    state = point.complete(MODEL, vars(take(start(solver, 1), torch.zeros(20_000, dtype=torch.long))))
    with seeded(1):
        new = solver.columns(state, solver.posterior.listed.regress("column", point.block(MODEL, state, "row")))
    conditional, _ = point.conditional(MODEL, solver.posterior.listed, state, "column")
    block, _ = conditional.moments("w")
    w = torch.cat([new.column_factors, new.column_offsets[..., None]], -1)
    mean, covariance = block.mean[:, 0].T, block.covariance[:, :, 0].permute(2, 0, 1)
    spread = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert ((w.mean(0) - mean) / spread).abs().max() < 5 / 20_000**0.5
    away = (w - mean) / spread
    found_correlation = torch.einsum("sjk,sjl->jkl", away, away) / 20_000
    assert (found_correlation - covariance / (spread[:, :, None] * spread[:, None])).abs().max() < 7 / 20_000**0.5


@pytest.mark.parametrize("options", sorted(OPTIONS))
def test_residuals_are_those_of_every_rating(options):
    model, data = OPTIONS[options], simulated(OPTIONS[options])
    solver = gibbs.Solver(Posterior.of(model, data))
    state = point.complete(model, vars(start(solver)))
    found = solver.posterior.listed.regress("column", point.block(model, state, "row"))
    rss = point.squares(solver.extent, model, state, found)
    i, j = data.values[:, :2].long().unbind(1)
    fitted = (state.row_factors[:, i] * state.column_factors[:, j]).sum(-1)
    fitted = fitted + state.mean[:, None] + state.row_offsets[:, i] + state.column_offsets[:, j]
    torch.testing.assert_close(rss, (data.counts - fitted).square().sum(1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("factors", [1, 3, 5, 7, 12])
def test_the_kernels_sums_over_pairs_are_those_of_pytorch(factors, offsets, dtype, monkeypatch):
    """Rows without ratings, one with more than go into one sum, three chains, one and two threads."""
    height, width = 37, 1500
    with seeded(0):
        listed = torch.rand(height, width) < 0.02
        listed[3], listed[5:8] = True, False
        cells = listed.nonzero()
        ratings = torch.cat([cells.double(), torch.randn(len(cells), 1).double() + 3], 1)
        blocks = {}
        for side, size in (("row", height), ("column", width)):
            u, b = torch.randn(3, size, factors, dtype=dtype), torch.randn(3, size, dtype=dtype)
            blocks[side] = Block.of(u, b if offsets else None)
    names = [[str(k) for k in range(size)] for size in (height, width)]
    sums = Listed(Ratings(ratings, *names, "sparse").to("cpu", dtype), offsets)
    near = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-3}
    for side in point.SIDES:
        other = blocks[point.OTHER[side]]
        ours = sums.regress(side, other)
        with switched(False):
            theirs = sums.regress(side, other)
        with monkeypatch.context() as patch:
            patch.setattr(likelihood, "threads", lambda: 2)
            again = sums.regress(side, other)
        for name in ("gram", "dot"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), **near)
            assert getattr(ours, name).equal(getattr(again, name))


# Gibbs ----------------------------------------------------------------------------------------------------------------


@unchecked
@pytest.mark.parametrize("options", ["plain", pytest.param("hierarchical", marks=pytest.mark.slow)])
def test_geweke_of_the_other_options(options):
    z = geweke(OPTIONS[options], Ratings.blank(5, 3), gibbs.Solver, sweeps=800, seed=5, lose=lose)
    assert z.abs().max() < 4.5, z[z.abs() > 3]


class DegreesLost(gibbs.Solver):
    """Plant: the prior's degrees of freedom are left out of the precision's."""

    def hyper(self, found):
        return dataclasses.replace(found, degrees=found.degrees - self.model.wishart_degrees + 1).draw()


@pytest.mark.parametrize("options", sorted(OPTIONS))
def test_rows_are_left_out_with_their_own_factors_integrated(options):
    """A row's ratings given the columns are a multivariate normal, here by scipy."""
    model, data = OPTIONS[options], simulated(OPTIONS[options], rows=6, columns=4).hold_out(0.5, 3)
    posterior = Posterior.of(model, data)
    state = point.complete(model, vars(start(gibbs.Solver(posterior), 2)))
    draws = {site: getattr(state, site)[:, None] for site in posterior.sites}
    found = posterior.left_out.logs(draws)[1, 0]
    V, b = state.column_factors[1].numpy(), state.column_offsets[1].numpy()
    covariance, centre = np.linalg.inv(state.row_precision[1].numpy()), state.row_mean[1].numpy()
    for i in range(6):
        listed = data.values[data.values[:, 0] == i].numpy()
        j = listed[:, 1].astype(int)
        if not len(j):
            assert abs(found[i]) < 1e-12
            continue
        spread = V[j] @ covariance @ V[j].T + float(state.noise_variance[1]) * np.eye(len(j))
        spread = spread + (model.offset_variance if model.offsets else 0.0)
        mean = float(state.mean[1]) + b[j] + V[j] @ centre
        expected = multivariate_normal.logpdf(listed[:, 2], mean, spread)
        np.testing.assert_allclose(float(found[i]), expected, rtol=1e-9)


@unchecked
@pytest.mark.slow
def test_geweke_sees_a_precision_without_its_prior():
    z = geweke(HIERARCHICAL, Ratings.blank(5, 3), DegreesLost, sweeps=1500, seed=5, lose=lose)
    assert z.abs().max() > 4.5


def test_the_normal_wishart_is_the_programs():
    """Density and draws: against log p(m, Lambda) of torch's own distributions and the moments that textbooks give."""
    prior = point.NormalWishart.prior(HIERARCHICAL, 1.0, torch.zeros(1, dtype=torch.float64))
    scale = torch.linalg.inv(prior.inverse_scale[0])
    wishart = torch.distributions.Wishart(torch.tensor(prior.degrees).double(), scale)
    with seeded(0):
        many = point.NormalWishart(
            prior.mean.repeat(20_000, 1), prior.strength, prior.degrees, prior.inverse_scale.repeat(20_000, 1, 1)
        )
        mean, precision = many.draw()
    centre = MultivariateNormal(prior.mean[0], precision_matrix=prior.strength * precision)
    torch.testing.assert_close(
        prior.log_prob(mean[:9], precision[:9]), (wishart.log_prob(precision) + centre.log_prob(mean))[:9]
    )
    assert (precision.mean(0) - prior.degrees * scale).abs().max() < 5 * float(precision.std(0).max()) / 20_000**0.5
    # Student's t with degrees - K + 1: covariance inverse_scale / (strength (degrees - K - 1)).
    expected = prior.inverse_scale[0] / (prior.strength * (prior.degrees - 3))
    assert (mean.T.cov() - expected).abs().max() < 0.1 * float(expected.max())


@pytest.mark.parametrize("options", ["offsets", "hierarchical"])
def test_what_slides_between_a_factor_and_offsets_is_drawn_from_its_conditional(options):
    """A grid of the program's own log prior along the slide, of which one factor is moved, gives mean and spread."""
    model = dataclasses.replace(OPTIONS[options], num_factors=1)
    data = simulated(model)
    posterior = Posterior.of(model, data)
    state = point.complete(model, vars(start(gibbs.Solver(posterior), 1)))
    many = point.Point(**{name: value.repeat(20_000, *[1] * (value.ndim - 1)) for name, value in vars(state).items()})
    with seeded(0):
        by = (point.slide(model, posterior, many, "row", 1.0).row_factors - many.row_factors)[:, 0, 0]
    at = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    V = state.column_factors[0, :, 0]
    along = point.Point(**{name: value.repeat(len(at), *[1] * (value.ndim - 1)) for name, value in vars(state).items()})
    along = dataclasses.replace(
        along, row_factors=along.row_factors + at[:, None, None], column_offsets=along.column_offsets - at[:, None] * V,
        row_mean=along.row_mean + (at[:, None] if model.hierarchical else 0),
    )  # fmt: skip
    weight = point.log_prior(model, posterior, along).softmax(0)
    mean = (weight * at).sum()
    sd = (weight * (at - mean).square()).sum().sqrt()
    assert abs(by.mean() - mean) < 5 * sd / 20_000**0.5
    assert abs(by.std() / sd - 1) < 5 / 40_000**0.5
    mode = point.slide(model, posterior, state, "row", 0.0)
    assert abs(float((mode.row_factors - state.row_factors)[0, 0, 0] - mean)) < 1e-3 * float(sd)


def test_a_shift_moves_nothing_that_the_ratings_see():
    posterior = Posterior.of(MODEL, simulated())
    state = point.complete(MODEL, vars(start(gibbs.Solver(posterior))))
    with seeded(0):
        moved = point.shift(MODEL, posterior, state, "row", 1.0)
    assert (moved.mean != state.mean).all()
    torch.testing.assert_close(moved.mean[:, None] + moved.row_offsets, state.mean[:, None] + state.row_offsets)
    best = point.shift(MODEL, posterior, state, "row", 0.0)
    assert (point.log_prior(MODEL, posterior, best) >= point.log_prior(MODEL, posterior, moved)).all()


# CAVI, EM, MLE --------------------------------------------------------------------------------------------------------


@unchecked
@pytest.mark.parametrize("options", sorted(OPTIONS))
def test_cavi_is_monotone(options):
    model, data = OPTIONS[options], simulated(OPTIONS[options])
    solver, path = cavi.Solver(Posterior.of(model, data)), []
    with seeded(0):
        state = solver.init(3)
        for _ in range(30):
            state, info = solver.step(state)
            bound = info.objective
            path.append(bound)
    path = torch.stack(path)
    assert (path[1:] - path[:-1] >= -1e-11 * path[1:].abs()).all()


@unchecked
@pytest.mark.parametrize("options", ["plain", pytest.param("offsets", marks=pytest.mark.slow)])
def test_modes_have_no_slope(options):
    """At the end of EM every partial derivative of the program's log joint vanishes."""
    model, data = OPTIONS[options], simulated(OPTIONS[options])
    solver = em.Solver(Posterior.of(model, data))
    state = start(solver, 2, 1000)
    values = {site: value[:1].clone().requires_grad_(True) for site, value in solver.answer(state).draws().items()}
    Posterior.of(model, data).log_joint({site: value[None] for site, value in values.items()}).sum().backward()
    for site, value in values.items():
        assert value.grad.abs().max() < 1e-4, site


def test_the_hierarchical_mode_is_climbed_to():
    solver, path = em.Solver(Posterior.of(HIERARCHICAL, simulated(HIERARCHICAL))), []
    with seeded(0):
        state = solver.init(3)
    for _ in range(200):
        state, info = solver.step(state)
        objective = info.objective
        path.append(objective)
    path = torch.stack(path)
    assert (path[1:] - path[:-1] >= -1e-11 * path[1:].abs()).all()
    assert (path[-1] > path[0] + 10).all()


@pytest.mark.parametrize("shape", [(30, 4), (3, 30), (1, 5)])
@pytest.mark.parametrize("options", ["offsets", "hierarchical"])
def test_what_rows_and_columns_trade_is_at_its_mode(options, shape):
    """No A near the one chosen makes U A and V A^-T more probable, mean and precision at their mode; products stay."""
    model = dataclasses.replace(OPTIONS[options], num_factors=3)
    posterior = Posterior.of(model, simulated(model, missing=0.0, rows=shape[0], columns=shape[1]))
    state = point.complete(model, posterior.initial(4))
    best = point.traded(model, posterior, state)
    product = best.row_factors @ best.column_factors.mT
    torch.testing.assert_close(product, state.row_factors @ state.column_factors.mT)

    def climbed(one):
        for side in point.SIDES if model.hierarchical else ():
            one = em.Solver(posterior).above(one, side)
        return point.log_prior(model, posterior, one)

    assert (climbed(best) > climbed(state) + 0.1).all()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        A = torch.eye(3, dtype=torch.float64) + 0.05 * torch.randn(3, 3, dtype=torch.float64, generator=generator)
        near = dataclasses.replace(
            best, row_factors=best.row_factors @ A, column_factors=best.column_factors @ torch.linalg.inv(A).mT
        )
        assert (climbed(near) <= climbed(best) + 1e-9).all()


@unchecked
@pytest.mark.parametrize(
    ("method", "hierarchical", "rounds"), [("em", True, 250), ("em", False, 40), ("mle", False, 40)]
)
def test_modes_are_reached_in_few_rounds(method, hierarchical, rounds):
    """Without trades 2000 rounds are not enough for the hierarchical model and for mle, nor 300 for em."""
    model = GaussianMF(3, 1.0, 1.0, 1.0, True, 1.0, True, 100.0, 1.0, hierarchical, None, 1.0)
    data = simulated(model, missing=0.0, rows=100, columns=8, seed=0)
    solver = {"em": em, "mle": mle}[method].Solver(Posterior.of(model, data))
    with seeded(0):
        state = solver.init(2)
    path = []
    for _ in range(2 * rounds):
        state, info = solver.step(state)
        path.append(info.objective)
    assert (path[-1] - path[rounds] < 1e-6 * path[-1].abs()).all()


@pytest.mark.slow
def test_maximum_likelihood_fits_better_and_predicts_worse():
    data = simulated(rows=40, columns=10).hold_out(0.2, 0)
    fits = {
        name: pyrozoo.fit(MODEL, name, data=data, **QUIET, **CASE.settings[name]) for name in ("mle", "em", "gibbs")
    }
    train, test = ({n: f.metrics[which] for n, f in fits.items()} for which in ("train_nll", "test_nll"))
    assert train["mle"] < train["em"] < train["gibbs"]
    assert test["mle"] > test["em"] > test["gibbs"]


def test_degrees_of_freedom_leave_the_precision_a_density():
    with pytest.raises(SettingError, match=r"model\.degrees_of_freedom is 1\.0; it must be above num_factors - 1 = 1"):
        dataclasses.replace(HIERARCHICAL, degrees_of_freedom=1.0)


def test_mle_has_no_priors_to_learn():
    with pytest.raises(SettingError, match=r"model\.hierarchical=false"):
        mle.Solver(Posterior.of(HIERARCHICAL, simulated()))


@pytest.mark.parametrize("method", ["laplace", "nuts"])
def test_what_needs_real_numbers_refuses_the_hierarchical_model(method):
    with pytest.raises(NotApplicable, match="cannot be mapped to real numbers"):
        pyrozoo.fit(HIERARCHICAL, method, data=simulated(rows=5, columns=3), **QUIET)


@unchecked
@pytest.mark.parametrize("method", ["em", "gibbs", *(pytest.param(m, marks=pytest.mark.slow) for m in ("cavi", "svi"))])
def test_every_method_takes_the_hierarchical_model(method):
    quick = {"svi": {"max_steps": 100, "restarts": 1, "draws": 30}, "cavi": {"max_iterations": 60, "draws": 50}}
    settings = quick.get(method, {**CASE.settings[method], **({"draws": 50} if method == "gibbs" else {})})
    fit = pyrozoo.fit(HIERARCHICAL, method, data=simulated(rows=8, columns=5), holdout=0.1, **settings, **QUIET)
    assert set(fit.draws) == set(Posterior.of(HIERARCHICAL, None).sites)
    assert math.isfinite(fit.metrics["test_nll"])


# SVI ------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@unchecked
def test_svi_s_bound_is_pyros_and_cavi_s():
    """The guide's ELBO at one q: closed form by hand, TraceMeanField_ELBO, and the mean of log p - log q."""
    model, data = PLAIN, simulated(PLAIN)
    with pyro.get_param_store().scope(), seeded(0):
        guide = Guide(Posterior.of(model, data))
        guide(data)
        params = {name: guide.factor_unit * value.detach().clone() for name, value in pyro.get_param_store().items()}
        with torch.no_grad():
            draws = [-TraceMeanField_ELBO().loss(model, guide, data) for _ in range(800)]
            plain = [-Trace_ELBO().loss(model, guide, data) for _ in range(800)]
    q = {
        name: torch.distributions.Normal(params[f"{name}_factors_loc"], params[f"{name}_factors_scale"])
        for name in point.SIDES
    }
    kl = sum(
        kl_divergence(q[side], torch.distributions.Normal(0.0, model.factor_variance(side) ** 0.5)).sum() for side in q
    )
    by_hand = sum(
        (
            torch.log(model.factor_variance(side) ** 0.5 / q[side].scale)
            + (q[side].variance + q[side].mean ** 2) / (2 * model.factor_variance(side))
            - 0.5
        ).sum()
        for side in q
    )
    torch.testing.assert_close(by_hand, kl)
    diagonal = {side: torch.diag_embed(q[side].variance).permute(1, 2, 0)[:, :, None] for side in q}
    blocks = {side: Block(q[side].mean.T[:, None], diagonal[side]) for side in q}
    listed = Listed(data, False)
    rss, _ = residuals(blocks["column"], listed.regress("column", blocks["row"]))
    elbo = -0.5 * (len(data.values) * math.log(2 * math.pi * model.noise_variance) + rss / model.noise_variance) - kl
    for values in (draws, plain):
        values = torch.tensor(values)
        assert abs(float(elbo) - float(values.mean())) < 5 * float(values.std()) / len(values) ** 0.5
    assert torch.tensor(draws).std() < torch.tensor(plain).std(), "what is in closed form has no noise"


@pytest.mark.slow
@unchecked
def test_minibatches_of_ratings_estimate_the_same_bound():
    model, data = MODEL, simulated()
    with pyro.get_param_store().scope(), seeded(0):
        guide, elbo = Guide(Posterior.of(model, data)), TraceMeanField_ELBO()
        guide(data)
        with torch.no_grad():
            whole = torch.tensor([-elbo.loss(model, guide, data) for _ in range(200)])
            parts = torch.tensor(
                [-elbo.loss(model, guide, data.part(torch.randperm(data.parts)[:20])) for _ in range(400)]
            )
    error = math.hypot(float(whole.std()) / 200**0.5, float(parts.std()) / 400**0.5)
    assert abs(float(whole.mean() - parts.mean())) < 5 * error


# Queries --------------------------------------------------------------------------------------------------------------


@cache
def fitted():
    data = simulated(rows=40, columns=10)
    return pyrozoo.fit(
        MODEL, "gibbs", data=data.hold_out(0.1, 0).set_aside(0.1, 1), warmup=100, draws=200, thin=1, **QUIET
    )


def test_predictions_of_chosen_pairs():
    fit = fitted()
    frame = queries.predictions(fit.model, fit.draws, fit.data, [("row_3", "column_2"), ("row_0", "column_9")])
    assert frame["row"].tolist() == ["row_3", "row_0"]
    d = fit.draws
    mean = (d["row_factors"][..., 3, :] * d["column_factors"][..., 2, :]).sum(-1)
    mean = mean + d["mean"] + d["row_offsets"][..., 3] + d["column_offsets"][..., 2]
    np.testing.assert_allclose(frame["mean"][0], float(mean.mean()), rtol=1e-2)
    assert (frame["lower_90"] < frame["mean"]).all()
    assert (frame["mean"] < frame["upper_90"]).all()
    with pytest.raises(DataError, match="no column 'x'"):
        queries.predictions(fit.model, fit.draws, fit.data, [("row_3", "x")])


def test_recommendations_are_the_best_of_what_was_not_rated():
    fit = fitted()
    frame = queries.recommend(fit.model, fit.draws, fit.data, rows=[5], count=3)
    rated = fit.data.values[fit.data.values[:, 0] == 5, 1].long().tolist()
    open_columns = [j for j in range(10) if j not in rated]
    every = queries.predictions(fit.model, fit.draws, fit.data, [("row_5", f"column_{j}") for j in open_columns])
    best = every.sort_values("mean", ascending=False)["column"].tolist()[:3]
    assert frame["column"].tolist() == best
    assert frame["rank"].tolist() == [1, 2, 3][: len(best)]
    assert not frame["rated"].any()
    again = queries.recommend(fit.model, fit.draws, fit.data, rows=[5], count=99, seen=True)
    assert len(again) == 10
    assert again["rated"].sum() == len(rated)


def test_rows_folded_in_are_placed_as_if_they_had_been_fitted():
    fit = fitted()
    data = fit.data
    rows = data.batch(torch.tensor([4, 7]))
    new = queries.fold_in(fit.posterior, fit.draws, rows, most=200)
    some = fit.draws.some(200)
    ours = (new["row_factors"][0, :, 0] * some["column_factors"][0, :, 3]).sum(-1) + new["row_offsets"][0, :, 0]
    theirs = (some["row_factors"][0, :, 4] * some["column_factors"][0, :, 3]).sum(-1) + some["row_offsets"][0, :, 4]
    error = math.hypot(float(ours.std()), float(theirs.std())) / 60**0.5
    assert abs(float(ours.mean() - theirs.mean())) < 4 * error
    assert 0.7 < float(ours.std() / theirs.std()) < 1.4


def test_curves_are_those_of_the_parts_and_end_where_the_figures_are():
    fit = fitted()
    assert {"train_nll", "validation_nll", "test_nll"} <= set(fit.trace)
    last = fit.trace[fit.trace["iteration"] == fit.trace["iteration"].max()]
    # Curves are by chain, figures of all chains together, which average more.
    assert abs(last["test_nll"].mean() - fit.metrics["test_nll"]) < 0.1
    assert abs(last["validation_nll"].mean() - fit.metrics["validation_nll"]) < 0.1
    assert fit.metrics["train_nll"] < fit.metrics["test_nll"]
    assert fit.metrics["test_rmse"] < fit.metrics["baseline_rmse"]


@pytest.mark.parametrize("method", [pytest.param("svi", marks=pytest.mark.slow), "cavi", "em"])
def test_every_engine_follows_the_parts(method):
    settings = {"svi": {"max_steps": 40, "restarts": 1, "batch_size": 100, "draws": 20}}.get(
        method, {"restarts": 2, "max_iterations": 30} | ({"draws": 20} if method == "cavi" else {})
    )
    data = simulated(rows=40, columns=10).hold_out(0.1, 0)
    fit = pyrozoo.fit(MODEL, method, data=data, **settings, **QUIET)
    looked = fit.trace["test_nll"].notna()
    assert looked.any()
    train = fit.trace.loc[looked, "train_nll"]
    assert train.iloc[-1] < train.iloc[0]
    if method == "svi":
        assert looked.sum() == 40 // -(-data.parts // 100), "once an epoch"


@unchecked
@pytest.mark.parametrize("method", ["gibbs", *(pytest.param(m, marks=pytest.mark.slow) for m in ("cavi", "svi"))])
def test_a_resumed_run_follows_the_parts_as_the_whole_run_does(method, tmp_path, monkeypatch, undrawn):
    settings = {
        "gibbs": {"chains": 2, "warmup": 10, "draws": 20, "thin": 1},
        "cavi": {"restarts": 3, "max_iterations": 40, "tol": 0.0, "draws": 10},
        "svi": {"max_steps": 40, "restarts": 1, "batch_size": 50, "draws": 10, "evaluation_draws": 2},
    }[method] | {"rows": 20, "columns": 8, "seed": 3, **QUIET}
    whole = pyrozoo.fit("gaussian_mf", method, **settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 17)
        part = pyrozoo.fit("gaussian_mf", method, checkpoint_every=7, directory=tmp_path, **settings)
    assert part.status == "interrupted"
    part.save(tmp_path, report="none")
    again = pyrozoo.resume(tmp_path)
    same(again, whole)
    curves = ["iteration", "chain", "train_nll", "test_nll"]
    assert whole.trace["test_nll"].notna().any()
    pd.testing.assert_frame_equal(again.trace[curves], whole.trace[curves], check_exact=True)


def test_figures_that_metrics_hold_are_those_of_the_draws():
    fit = fitted()
    logs = fit.posterior.watched(fit.draws)["test"]
    expected = -float((logs.flatten(0, 1).logsumexp(0) - math.log(logs.shape[0] * logs.shape[1])).mean())
    assert abs(fit.metrics["test_nll"] - expected) < 0.01
