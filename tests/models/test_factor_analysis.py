"""factor_analysis: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
from functools import cache

import arviz as az
import numpy as np
import pandas as pd
import pyro.poutine as poutine
import pytest
import torch
from scipy import stats
from scipy.special import gammaln, logsumexp
from sklearn.decomposition import PCA

import pyrozoo
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.container import Hidden
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.diagnostics.compare import _moments
from pyrozoo.math.alignment import procrustes, rotations
from pyrozoo.math.linear_algebra import inverse_and_log_determinant, standard_normal
from pyrozoo.models.factor_analysis import collapse, em, gibbs, queries
from pyrozoo.models.factor_analysis.expansion import expansion
from pyrozoo.models.factor_analysis.likelihood import Layout, Moments
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.models.factor_analysis.regression import Prior, Regression
from pyrozoo.models.factor_analysis.stretch import stretch
from pyrozoo.models.factor_analysis.view import completed
from tests.case import Case, Oracle
from tests.command.test_command import run

NAN = float("nan")


def make(num_factors: int = 1, *, kept: bool = False, **changes) -> FactorAnalysis:
    values = {"num_factors": num_factors, "prior": "independent", "loadings_precision": 1.0,
              "loadings_covariance": None, "mean_precision": 0.5, "noise_degrees": 12.0, "noise_scale": 1.0,
              "sum_out_factors": not kept}  # fmt: skip
    return FactorAnalysis(**{**values, **changes})


MODEL = make()
TINY = Table.of(np.array([[0.3, 1.1], [-1.6, NAN], [2.0, 2.6], [-0.4, -1.9]]))


def column_evidence(z: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return log p(x_d | z) of one column for many z [S, N], and the normal-inverse-gamma that it implies (K = 1)."""
    m, seen = MODEL, ~np.isnan(x)
    z, x, n = z[:, seen], x[seen], seen.sum()
    p11, p12, p22 = m.loadings_precision + (z**2).sum(1), z.sum(1), m.mean_precision + n
    r1, r2 = z @ x, x.sum()
    determinant = p11 * p22 - p12**2
    mean = np.stack([(p22 * r1 - p12 * r2) / determinant, (p11 * r2 - p12 * r1) / determinant], 1)
    a0, b0 = m.noise_degrees / 2, m.noise_degrees * m.noise_scale / 2
    a, b = a0 + n / 2, b0 + 0.5 * ((x**2).sum() - mean[:, 0] * r1 - mean[:, 1] * r2)
    log_p = (
        -0.5 * n * np.log(2 * np.pi) + 0.5 * np.log(m.loadings_precision * m.mean_precision) - 0.5 * np.log(determinant)
        + a0 * np.log(b0) - a * np.log(b) + gammaln(a) - gammaln(a0)
    )  # fmt: skip
    return log_p, (mean, b, p11, p12, determinant)


@cache
def exact() -> Oracle:
    """Integrate the factors by Gauss-Hermite quadrature; given them every column is conjugate."""
    x, m = TINY.values.numpy(), MODEL
    (N, D), generator = x.shape, np.random.default_rng(0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = np.stack([g.ravel() for g in np.meshgrid(*[nodes] * N, indexing="ij")], 1)
    log_w = sum(np.log(w / np.sqrt(2 * np.pi)).ravel() for w in np.meshgrid(*[weights] * N, indexing="ij"))
    evidence = logsumexp(log_w + sum(column_evidence(grid, x[:, d])[0] for d in range(D)))
    # Draws: factors from their prior, weighted by the evidence and chosen anew, then the columns given them.
    z = generator.normal(size=(3_000_000, N))
    log_p = sum(column_evidence(z, x[:, d])[0] for d in range(D))
    assert abs(logsumexp(log_p) - np.log(len(z)) - evidence) < 0.01
    z = z[generator.choice(len(z), 100_000, p=np.exp(log_p - logsumexp(log_p)))]
    draws = {
        "loadings": np.empty((len(z), D, 1)),
        "mean": np.empty((len(z), D)),
        "noise_variance": np.empty((len(z), D)),
    }
    for d in range(D):
        _, (mean, b, p11, p12, determinant) = column_evidence(z, x[:, d])
        noise = b / generator.gamma(m.noise_degrees / 2 + (~np.isnan(x[:, d])).sum() / 2, size=len(z))
        e1, e2 = generator.normal(size=(2, len(z)))
        mu = mean[:, 1] + np.sqrt(noise * p11 / determinant) * e1  # the marginal of mu, then w given it
        w = mean[:, 0] - p12 / p11 * (mu - mean[:, 1]) + np.sqrt(noise / p11) * e2
        draws["loadings"][:, d, 0], draws["mean"][:, d], draws["noise_variance"][:, d] = w, mu, noise
    return Oracle(float(evidence), {site: torch.as_tensor(value)[None] for site, value in draws.items()})


def lose(table: Table) -> Table:
    """Hide a quarter of the cells, always the same ones."""
    return dataclasses.replace(table.hold_out(0.25, 1), hidden=None)


class MaskIgnoredInACount(gibbs.Solver):
    """Plant: every column is taken to have N observations."""

    def __init__(self, posterior):
        super().__init__(posterior, missing="marginal")
        self.layout = dataclasses.replace(self.layout)
        self.layout.__dict__["observations"] = torch.full_like(self.layout.offset, len(self.data.values))
        self.prior = Prior(self.model, self.layout)


class FactorTwoInAScale(gibbs.Solver):
    """Plant: the inverse gamma's scale is nu s^2 instead of half of it."""

    def step(self, state):
        new, info = super().step(state)
        return dataclasses.replace(new, noise_variance=2 * new.noise_variance), info


class PrecisionAsCovariance(gibbs.Solver):
    """Plant: factors are drawn with covariance J instead of its inverse."""

    def _draw_factors_of_filled(self, filler, beta, noise_variance):
        weighted = beta[..., :-1] / noise_variance.unsqueeze(-1)
        J = torch.eye(beta.shape[-1] - 1).double() + beta[..., :-1].mT @ weighted
        h = filler.values @ weighted - beta[..., -1].unsqueeze(1) @ weighted
        L = torch.linalg.cholesky(J)
        return torch.cholesky_solve(h.mT, L).mT + standard_normal(h) @ L.mT


class IgnoresData(gibbs.Solver):
    """Plant: draws from the prior, whatever the data; parameter ranks alone would pass it."""

    def step(self, state):
        C, D = state.mean.shape
        layout = self.prior.layout
        found = Regression(
            layout, torch.linalg.cholesky(self.prior.precision).repeat(C, len(layout.sizes), 1, 1),
            self.prior.mean.expand(C, -1, -1), torch.full((C, D), self.prior.scale).double(),
            torch.full((D,), self.prior.degrees).double(),
        )  # fmt: skip
        new = gibbs.State(**found.sample(), factors=standard_normal(state.factors))
        return new, Info(torch.zeros(C).double())


CASE = Case(
    model=MODEL,
    joint=make(2, kept=True),
    tiny=TINY,
    oracle=exact,
    shape={"rows": 5, "columns": 3},
    lose=lose,
    larger={"rows": 300, "columns": 8},
    settings={
        "em": {"restarts": 3},
        "stochastic_em": {"restarts": 3},
        "cavi": {"restarts": 3},
        "gibbs": {"warmup": 100, "draws": 300, "thin": 1},
        "svi": {"max_steps": 300, "restarts": 2, "restart_steps": 20, "window": 100, "draws": 200,
                "evaluation_draws": 100},
        "nuts": {"chains": 2, "warmup": 30, "draws": 30, "max_tree_depth": 5},
        "laplace": {"restarts": 3, "draws": 200},
        "pca": {"solver": {"fill": "mean"}},
        "ppca": {"solver": {"fill": "mean"}},
    },
    fills=frozenset({"pca", "ppca"}),
    elbo_gap=5.0,
    laplace_error=2.0,
    bad={
        "infinite": (np.array([[1, np.inf], [0, 3]]), "column_1"),
        "minus infinite": (np.array([[1, 2.0], [-np.inf, 3]]), "row_1"),
        "huge": (np.array([[1, 2.0], [1e200, 3]]), "too large"),
        "empty": (np.empty((0, 3)), "empty"),
        "no columns": (np.empty((3, 0)), "empty"),
        "one axis": (np.array([1.0, 2]), "two axes"),
        "missing column": (np.array([[1, NAN], [0, NAN]]), "column_1"),
        "text": (np.array([["a", "b"], ["c", "d"]]), "not numbers"),
        "frame with text": (pd.DataFrame({"size": [1, 2], "name": ["x", 2]}), "name"),
    },
    odd={
        "one row": np.array([[0, 3.0, 1]]),
        "one column": np.array([[0.0], [3], [1], [0]]),
        "single cell": np.array([[2.0]]),
        "all zeros": np.zeros((6, 3)),
        "constant column": np.array([[2.0, 1.0], [2.0, 4], [2.0, 2], [2.0, 0]]),
        "missing row": np.array([[NAN, NAN], [1, 2], [0, 3]]),
        "far from zero": 1e6 + np.arange(12.0).reshape(6, 2),
        "tiny and huge columns": np.array([[1e-6, 1e6], [-2e-6, 3e6], [5e-6, -1e6], [1e-6, 2e6]]),
        "repeated columns": np.repeat(np.arange(6.0)[:, None], 3, 1),
    },
    bugs={
        "mask": MaskIgnoredInACount, "scale": FactorTwoInAScale, "covariance": PrecisionAsCovariance,
        "data": IgnoresData,
    },
)  # fmt: skip


def table(missing: float = 0.2, rows: int = 40, columns: int = 5, factors: int = 2, seed: int = 3) -> Table:
    return simulate_data(make(factors), rows=rows, columns=columns, missing=missing, seed=seed)


def one_factor() -> np.ndarray:
    """Return six columns that share 0.81 of their variance, which is 1."""
    rng = np.random.default_rng(0)
    return 0.9 * rng.normal(size=(200, 1)) + 0.436 * rng.normal(size=(200, 6))


def start(model: FactorAnalysis, data: Table, chains: int = 2, seed: int = 0):
    with seeded(seed):
        return Posterior.of(model, data).initial(chains)


def columns_of(draws, data: Table):
    return Layout.of(data).known(draws)


def given(layout: Layout, factors: torch.Tensor) -> Moments:
    """Return the moments of known factors [N, M], in the table's order of rows, by dense sums."""
    a = torch.cat([factors, torch.ones(len(factors), 1).double()], 1)[layout.order]
    by_column = torch.einsum("nd,ni,nj->dij", layout.observed.double(), a, a)
    groups = by_column[[int((layout.group == g).nonzero()[0]) for g in range(len(layout.sizes))]]
    moments = groups, layout.values.T @ a, a.T @ a, a[:, :-1], torch.zeros(()).double()
    return Moments(*(each.unsqueeze(0) for each in moments))


def dense_rows(draw, data: Table):
    """Return log p(x_n), E[z_n] and cov[z_n] of every row by dense Gaussian algebra on its observed entries."""
    W, mean, noise = (draw[s].numpy() for s in ("loadings", "mean", "noise_variance"))
    result = []
    for x in data.values.numpy():
        seen = ~np.isnan(x)
        w, away = W[seen], x[seen] - mean[seen]
        covariance = w @ w.T + np.diag(noise[seen])
        log_p = stats.multivariate_normal(np.zeros(seen.sum()), covariance).logpdf(away) if seen.any() else 0.0
        gain = w.T @ np.linalg.inv(covariance)
        result.append((log_p, gain @ away, np.eye(W.shape[1]) - gain @ w))
    return [np.stack(each) for each in zip(*result, strict=True)]


# The rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.3, "shared"])
def test_rows_equal_dense_algebra(missing, monkeypatch):
    """Sums of moments, evidence and conditionals; rows with one pattern, with patterns of their own, and both."""
    monkeypatch.setattr("pyrozoo.models.factor_analysis.likelihood.SHARED", 4)
    data = table(0.3 if missing == 0.3 else 0.0)
    if missing == "shared":
        values = data.values.clone()
        values[5:17, 2:4] = torch.nan
        values[30:32, 0] = torch.nan
        values[39] = torch.nan
        data = dataclasses.replace(data, values=values)
    draws, layout = start(make(2), data), Layout.of(data)
    draws = {**draws, "mean": draws["mean"] + torch.linspace(-1, 1, 5).double()}  # away from the columns' own
    moments = layout.moments(columns_of(draws, data))
    mean, covariance = layout.conditionals(columns_of(draws, data))
    pointwise = layout.pointwise(columns_of(draws, data))
    evidence = layout.evidence(columns_of(draws, data))
    assert (len(layout.squeezed.values) < len(data.values)) == (missing != 0.3)
    x = (data.values - layout.offset).nan_to_num(nan=0.0).numpy()
    for chain in range(2):
        log_p, z, cov = dense_rows({site: value[chain] for site, value in draws.items()}, data)
        np.testing.assert_allclose(pointwise[chain], log_p, rtol=1e-10)
        np.testing.assert_allclose(moments.evidence[chain], log_p.sum(), rtol=1e-10)
        np.testing.assert_allclose(evidence[chain], log_p.sum(), rtol=1e-10)
        np.testing.assert_allclose(mean[chain], z, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(covariance[chain], cov, rtol=1e-9, atol=1e-12)
        a = np.concatenate([z, np.ones((len(z), 1))], 1)
        second = a[:, :, None] * a[:, None, :]
        second[:, :-1, :-1] += cov
        seen = data.observed.numpy().astype(float)
        by_column = np.einsum("nd,nij->dij", seen, second)
        np.testing.assert_allclose(moments.groups[chain][layout.group], by_column, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(moments.cross[chain], np.einsum("nd,ni->di", x, a), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(moments.total[chain], second.sum(0), rtol=1e-9, atol=1e-10)


def test_small_inverses_are_inverses():
    generator = torch.Generator().manual_seed(0)
    for size in (1, 7, 8, 9, 33):
        root = torch.randn(3, 4, size, size + 2, generator=generator, dtype=torch.float64)
        matrix = root @ root.mT
        inverse, log_determinant = inverse_and_log_determinant(matrix)
        torch.testing.assert_close(inverse @ matrix, torch.eye(size).double().expand_as(matrix), rtol=0, atol=1e-7)
        torch.testing.assert_close(log_determinant, torch.logdet(matrix))


# One density ----------------------------------------------------------------------------------------------------------


def joint_of(model: FactorAnalysis, data: Table, draw, factors) -> torch.Tensor:
    """Return the density of the program that keeps the factors."""
    program = poutine.condition(model, data={**draw, "factors": factors})
    return poutine.trace(program).get_trace(data).log_prob_sum()


@pytest.mark.parametrize("prior", ["independent", "matrix_normal"])
@pytest.mark.parametrize("missing", ["impute", "marginal"])
@pytest.mark.parametrize("update", ["block", "single_site"])
def test_gibbs_objective_is_the_density_of_the_program_with_factors(missing, update, prior):
    covariance = [[1.0, 0.3], [0.3, 2.0]] if prior == "matrix_normal" else None
    model = make(2, kept=True, prior=prior, loadings_covariance=covariance)
    data = table()
    solver = gibbs.Solver(Posterior.of(model, data), missing=missing, update=update)
    with seeded(0):
        state = solver.init(3)
        for _ in range(3):
            state, info = solver.step(state)
            objective = info.objective
    for chain in range(3):
        draw = {site: value[chain] for site, value in solver.answer(state).draws().items()}
        expected = joint_of(model, data, draw, state.factors[chain])
        torch.testing.assert_close(objective[chain], expected, rtol=1e-10, atol=0)


def test_program_with_factors_integrates_to_the_one_without():
    """p(x, theta) = p(x, z, theta) / p(z | x, theta), at any z."""
    data, kept, summed = table(), make(2, kept=True), make(2)
    draws = start(summed, data, 1)
    draw = {site: value[0] for site, value in draws.items()}
    mean, covariance = Layout.of(data).conditionals(columns_of(draws, data))
    q = torch.distributions.MultivariateNormal(mean[0], covariance[0])
    with seeded(1):
        z = q.sample()
    expected = Posterior.of(summed, data).log_joint({s: v[None] for s, v in draws.items()})[0, 0]
    torch.testing.assert_close(joint_of(kept, data, draw, z) - q.log_prob(z).sum(), expected, rtol=1e-10, atol=0)


# Oracles of single pieces ---------------------------------------------------------------------------------------------


def test_matrix_normal_conditional_is_that_of_a_brute_force_normal():
    """W (3 x 2) and mu given X, Z and sigma^2: dense Gaussian conditioning over all nine unknowns at once."""
    sigma_c = np.array([[1.5, 0.4], [0.4, 0.7]])
    model = make(2, prior="matrix_normal", loadings_covariance=sigma_c.tolist())
    data = table(0.0, rows=7, columns=3)
    layout = Layout.of(data)
    with seeded(0):
        z = torch.randn(1, 7, 2).double()
    noise = np.array([0.5, 1.2, 2.0])
    found = Prior(model, layout).regress(given(layout, z[0]))
    a = np.concatenate([z[0].numpy(), np.ones((7, 1))], 1)
    prior_covariance = np.zeros((3, 3))
    prior_covariance[:2, :2], prior_covariance[2, 2] = sigma_c, 1 / model.mean_precision
    design = np.kron(a, np.eye(3))  # vec(X) by rows = (A kron I) vec(B) by rows of B^T, coefficient by coefficient
    before = np.kron(prior_covariance, np.diag(noise))
    evidence = design @ before @ design.T + np.kron(np.eye(7), np.diag(noise))
    gain = before @ design.T @ np.linalg.inv(evidence)
    mean = (gain @ data.values.numpy().ravel()).reshape(3, 3)  # [coefficient, column]
    covariance = (before - gain @ design @ before).reshape(3, 3, 3, 3)
    ours = found.mean[0].clone()
    ours[:, -1] += layout.offset
    np.testing.assert_allclose(ours.T, mean, rtol=1e-9, atol=1e-9)
    precision = (found.factor @ found.factor.mT)[0, 0].numpy()
    for d in range(3):
        np.testing.assert_allclose(noise[d] * np.linalg.inv(precision), covariance[:, d, :, d], rtol=1e-9, atol=1e-10)
    assert np.abs(covariance[:, 0, :, 1]).max() < 1e-12


def test_flat_priors_give_least_squares():
    data = table(0.0, rows=30, columns=3)
    model = make(2, prior="matrix_normal", loadings_covariance=[1e12, 1e12], mean_precision=1e-12)
    layout = Layout.of(data)
    with seeded(0):
        z = torch.randn(1, 30, 2).double()
    found = Prior(model, layout).regress(given(layout, z[0]))
    a = np.concatenate([z[0].numpy(), np.ones((30, 1))], 1)
    expected = np.linalg.lstsq(a, (data.values - layout.offset).numpy(), rcond=None)[0]
    np.testing.assert_allclose(found.mean[0].T, expected, rtol=1e-8, atol=1e-9)


def test_em_on_complete_data_is_the_textbooks():
    """One step, restricted to a complete table and written out for it; the solver's own is the one for holes."""
    model, data = make(2), table(0.0)
    solver = em.Solver(Posterior.of(model, data))
    with seeded(0):
        state = solver.init(1)
    new, _ = solver.step(state)
    W, mu, s, x = state.loadings[0], state.mean[0], state.noise_variance[0], data.values
    J = torch.linalg.inv(torch.eye(2).double() + W.T @ (W / s[:, None]))
    z = (x - mu) / s @ W @ J
    a = torch.cat([z, torch.ones(40, 1).double()], 1)
    second = a.T @ a
    second[:2, :2] += 40 * J
    P = torch.diag(torch.tensor([1.0, 1.0, 0.5]).double())
    beta = torch.linalg.solve(second + P, a.T @ x).T
    rss = x.square().sum(0) - (beta * (x.T @ a)).sum(1)
    noise = (rss + 12.0) / (12.0 + 40 + 2 + 3)
    turn, _ = expansion(second[None], (beta.T @ (beta / noise[:, None]))[None], 1.0, 0.5, 40.0)
    beta = beta @ turn[0].T
    torch.testing.assert_close(new.noise_variance[0], noise, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(new.loadings[0] @ new.loadings[0].T, beta[:, :2] @ beta[:, :2].T, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(new.mean[0], beta[:, 2], rtol=1e-8, atol=1e-10)


def test_em_at_equal_noise_is_ppca():
    data = simulate_data(make(2), rows=200, columns=6, seed=5)
    closed = pyrozoo.fit("factor_analysis", "ppca", data=data, num_factors=2)
    noise = float(closed.draws["noise_variance"][0, 0, 0])
    flat = make(2, loadings_precision=1e-10, mean_precision=1e-10, noise_degrees=1e10, noise_scale=noise)
    fit = pyrozoo.fit(flat, "em", data=data, restarts=2, tol=1e-14, max_iterations=20_000, progress=False)
    W, V = closed.draws["loadings"][0, 0], fit.draws["loadings"][0, 0]
    torch.testing.assert_close(V @ V.T, W @ W.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fit.draws["mean"], closed.draws["mean"], rtol=1e-6, atol=1e-6)
    assert closed.objective == pytest.approx(
        float(Posterior.of(closed.model, data).log_likelihood(closed.draws)), rel=1e-10
    )


def test_pca_and_ppca_are_scikit_learns():
    data = table(0.0, rows=60)
    theirs = PCA(2).fit(data.values.numpy())
    ours = pyrozoo.fit("factor_analysis", "pca", data=data, num_factors=2)
    W = ours.draws["loadings"][0, 0].numpy()
    expected = theirs.components_.T * theirs.singular_values_**2 / 60 @ theirs.components_
    np.testing.assert_allclose(W @ W.T, expected, rtol=1e-8, atol=1e-10)
    assert ours.objective == pytest.approx(theirs.explained_variance_ratio_.sum())
    ppca = pyrozoo.fit("factor_analysis", "ppca", data=data, num_factors=2)
    assert float(ppca.draws["noise_variance"][0, 0, 0]) == pytest.approx(theirs.noise_variance_ * 59 / 60)
    # Holes: refused, or filled and projected, which is what people do.
    holes = data.hold_out(0.2, 0)
    with pytest.raises(NotApplicable, match=r"solver\.fill"):
        pyrozoo.fit("factor_analysis", "pca", data=holes, num_factors=2)
    fit = pyrozoo.fit("factor_analysis", "pca", data=holes, num_factors=2, solver={"fill": "mean"})
    filled = torch.where(holes.observed, holes.filled, holes.filled.sum(0) / holes.observed.sum(0)).numpy()
    projected = PCA(2).fit(filled)
    expected = projected.inverse_transform(projected.transform(filled))[holes.hidden.rows, holes.hidden.columns]
    np.testing.assert_allclose(fit.prediction(fit.data).mean, expected, rtol=1e-8, atol=1e-8)


# Bounds and expansion -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["independent", "matrix_normal"])
def test_expansion_is_an_equivalent_that_the_priors_like_better(prior):
    """T beta and T^-T a fit as before; no small change of T raises the terms that it maximises."""
    generator = torch.Generator().manual_seed(0)
    kappa, lam, N, D, M = 0.7, 0.3, 50, 8, 3
    a = torch.cat([torch.randn(N, M, generator=generator) + 0.5, torch.ones(N, 1)], 1).double()
    beta = torch.randn(D, M + 1, generator=generator).double()
    rows, columns = a.T @ a, beta.T @ beta
    T, inverse = expansion(rows[None], columns[None], kappa if prior == "independent" else None, lam, float(N - D))
    torch.testing.assert_close(T[0] @ inverse[0], torch.eye(M + 1).double(), rtol=0, atol=1e-10)

    def terms(turn, unturn):
        z, b = (a @ unturn)[:, :M], beta @ turn.T
        jacobian = (N - D) * torch.linalg.slogdet(unturn)[1]
        return (
            -0.5 * z.square().sum()
            - 0.5 * kappa * b[:, :M].square().sum()
            - 0.5 * lam * b[:, M].square().sum()
            + jacobian
        )

    torch.testing.assert_close((a @ inverse[0]) @ (beta @ T[0].T).T, a @ beta.T)
    best = terms(T[0], inverse[0])
    assert best > terms(torch.eye(M + 1).double(), torch.eye(M + 1).double())
    for _ in range(20):
        nudge = torch.eye(M + 1).double()
        size = 1e-3 * torch.randn(M + 1, M + 1, generator=generator).double()
        size[:, M] = 0
        size[M if prior == "independent" else slice(0, M)] = 0  # the turn given the shift; or the shift alone
        nudge = nudge + size
        assert terms(nudge @ T[0], inverse[0] @ torch.linalg.inv(nudge)) < best + 1e-9


@pytest.mark.slow
def test_expansion_saves_steps():
    data = simulate_data(make(3, loadings_precision=0.1), rows=300, columns=10, missing=0.1, seed=1)
    model = make(3, loadings_precision=0.1)
    fits = {
        expand: pyrozoo.fit(model, "cavi", data=data, restarts=1, tol=1e-9, solver={"expand": expand}, progress=False)
        for expand in (True, False)
    }
    assert fits[True].objective >= fits[False].objective - 0.01
    assert fits[True].iterations * 3 < fits[False].iterations


# Samplers -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.25])
def test_samplers_of_all_options_agree(missing):
    """Imputing and summing out, blocks and single sites: samplers of one posterior, of a complete table too."""
    data, model = table(missing, rows=30, columns=4), make(2)
    ways = [("impute", "block"), ("marginal", "block")]
    ways += [("impute", "single_site"), ("marginal", "single_site")] if missing else []
    summaries = []
    for how, update in ways:
        fit = pyrozoo.fit(
            model, "gibbs", data=data, warmup=100, draws=700, thin=1, chains=8,
            solver={"missing": how, "update": update}, progress=False,
        )  # fmt: skip
        summaries.append(_moments("fit", fit, fit.invariants))
    first = summaries[0]
    for frame in summaries[1:]:
        z = (frame["mean"] - first["mean"]) / np.hypot(frame["mcse"], first["mcse"])
        assert np.nanmax(np.abs(z)) < 4.5
        assert np.abs(frame["sd"] / first["sd"] - 1).max() < 0.25


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("chains", [1, 3])
def test_chains_share_a_complete_table(chains, dtype):
    """One table in memory, and the products of every chain with it."""
    solver = gibbs.Solver(Posterior.of(make(2), table(0.0, rows=33, columns=5).to("cpu", dtype)))
    x, filler = solver.layout.values, solver.filler(solver.posterior)
    with seeded(0):
        new, _ = solver.step(solver.init(chains))
    assert filler.values.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    weights = new.loadings.double()
    z = torch.cat([new.factors.double(), torch.ones(chains, 33, 1)], -1)
    moments = filler.moments(new.factors)
    near = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-4}
    for chain in range(chains):
        torch.testing.assert_close(filler.times(new.loadings)[chain].double(), x.double() @ weights[chain], **near)
        torch.testing.assert_close(moments.cross[chain].double(), x.double().T @ z[chain], **near)
        torch.testing.assert_close(moments.total[chain].double(), z[chain].T @ z[chain], **near)


@pytest.mark.slow
def test_averaged_prediction_is_that_of_the_draws():
    """What the sampler averages over sweeps, against predicting anew from its kept draws."""
    data = table(0.0, rows=60).hold_out(0.15, 0)
    fit = pyrozoo.fit(make(2), "gibbs", data=data, warmup=300, draws=1000, thin=1, chains=2, progress=False)
    while_sampling, anew = fit.prediction(fit.data), fit.posterior.predict(fit.draws)
    spread = (anew.upper - anew.lower) / 3.29
    assert ((while_sampling.mean - anew.mean).abs() / spread).max() < 0.25
    assert (((while_sampling.upper - while_sampling.lower) / 3.29 / spread) - 1).abs().max() < 0.15
    assert (while_sampling.log_density - anew.log_density).abs().mean() < 0.05
    assert {"sweep_rmse", "average_rmse"} <= set(fit.trace.columns)
    last = fit.trace.groupby("chain")["average_rmse"].last()
    assert last.iloc[0] == pytest.approx(fit.metrics["reconstruction_rmse"], rel=1e-6)


def second(values: torch.Tensor) -> torch.Tensor:
    """Return matrices [S, size, size] as their distinct entries, their inverses' and squares', [S, k]."""
    pairs = torch.cat([values, torch.linalg.inv(values)], -1).flatten(1)
    return torch.cat([pairs, pairs.square()], 1)


@pytest.mark.parametrize(("M", "rows", "columns"), [(1, 9, 3), (2, 12, 4), (2, 6, 9)])
def test_stretch_draws_from_its_density(M, rows, columns):
    """Q = R^T R against weighted draws: |Q|^(n/2) exp(-tr(Q A)/2 - tr(Q^-1 B)/2) dQ / |Q|^((M+1)/2)."""
    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(rows, M)), 0.8 * rng.normal(size=(columns, M))
    A, B, n = z.T @ z, w.T @ w, rows - columns
    S, more = 4000, 40_000
    root, inverse = (torch.eye(M).double().repeat(S, 1, 1) for _ in range(2))
    A0, B0 = (torch.as_tensor(each) for each in (A, B))
    with seeded(0):
        for _ in range(25):
            R, back = stretch(root @ A0 @ root.mT, inverse.mT @ B0 @ inverse, float(n))
            root, inverse = R @ root, inverse @ back
    torch.testing.assert_close(root @ inverse, torch.eye(M).double().expand(S, -1, -1), rtol=0, atol=1e-9)
    ours = second(root.mT @ root)
    # Wishart of A + B has a finite weight where n > M - 1; else of the inverse
    sign = 1 if n > M - 1 else -1
    scale = np.linalg.inv((A if sign > 0 else B) + 0.2 * np.eye(M))
    draws = stats.wishart(abs(n), scale).rvs(more, random_state=rng).reshape(more, M, M)
    Q = draws if sign > 0 else np.linalg.inv(draws)
    log_w = 0.1 * np.trace(draws, axis1=1, axis2=2)
    log_w -= 0.5 * np.einsum("ij,sji->s", B if sign > 0 else A, np.linalg.inv(draws))
    weight = torch.as_tensor(np.exp(log_w - logsumexp(log_w)))
    theirs = second(torch.as_tensor(Q))
    mean = weight @ theirs
    variance = weight @ (theirs - mean).square()
    effective = 1 / weight.square().sum()
    z_score = (ours.mean(0) - mean) / (ours.var(0) / S + variance / effective).sqrt()
    assert z_score.abs().max() < 4.5, z_score


def test_moves_with_factors_summed_out_leave_the_posterior_of_a_column():
    """(w, mu, sigma^2) of one column given the other two, against weighted draws from its prior."""
    model = make(1, noise_degrees=5.0)
    data = simulate_data(model, rows=4, columns=3, seed=2)
    posterior = Posterior.of(model, data)
    layout, prior = posterior.layout, Prior(model, posterior.layout)
    here = {site: value[0] for site, value in posterior.initial(1).items()}
    S, draws = 4000, 100_000
    beta = layout.coefficients({site: value[None] for site, value in here.items()}).repeat(S, 1, 1)
    noise = here["noise_variance"].repeat(S, 1)
    moments = collapse.second_moments(layout.values.repeat(1, 1, 1)).expand(S, -1, -1)
    with seeded(1):
        for _ in range(25):
            beta, noise = collapse.move(beta, noise, moments, prior, torch.tensor([0]))
        sigma = 2.5 / torch.distributions.Gamma(2.5, 1.0).sample((draws,)).double()
        w, mu = (sigma.sqrt() * torch.randn(draws).double() / precision**0.5 for precision in (1.0, 0.5))
    assert torch.equal(beta[:, 1:], beta[:1, 1:].expand(S, -1, -1))
    assert torch.equal(noise[:, 1:], noise[:1, 1:].expand(S, -1))

    def replaced(site: str, value: torch.Tensor) -> torch.Tensor:
        whole = here[site].expand(draws, *here[site].shape).clone()
        whole[:, 0] = value
        return whole[None]

    many = {"loadings": replaced("loadings", w[:, None]), "mean": replaced("mean", mu),
            "noise_variance": replaced("noise_variance", sigma)}  # fmt: skip
    weight = posterior.log_likelihood(many)[0].softmax(0)
    theirs = torch.stack([w.square(), mu, sigma.log(), mu * w, w / sigma.sqrt(), sigma.log().square()], 1)
    w, mu, sigma = beta[:, 0, 0], beta[:, 0, 1] + layout.offset[0], noise[:, 0]
    ours = torch.stack([w.square(), mu, sigma.log(), mu * w, w / sigma.sqrt(), sigma.log().square()], 1)
    mean = weight @ theirs
    error = (ours.var(0) / S + (weight @ (theirs - mean).square()) * weight.square().sum()).sqrt()
    assert ((ours.mean(0) - mean) / error).abs().max() < 4.5


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", ["one factor too many", "small noise"])
def test_sampler_mixes(case):
    """Noise that a factor known from one column holds fast; loadings that factors known exactly hold fast."""
    if case == "small noise":
        data = simulate_data(make(2, loadings_precision=0.01), rows=200, columns=6, missing=0.1, seed=0)
    else:
        data = one_factor()
    fit = pyrozoo.fit(
        "factor_analysis", "gibbs", data=data, num_factors=2, warmup=100, draws=250, thin=2, chains=4, progress=False
    )
    for name, value in fit.invariants.items():
        drawn = az.convert_to_dataset({name: value.numpy()})
        assert float(az.rhat(drawn)[name].max()) < 1.05, name
        assert float(az.ess(drawn)[name].min()) > 60, name


@pytest.mark.usefixtures("unchecked")
def test_single_precision_keeps_small_noise():
    """Noise of a ten-thousandth of the signal's sd: sums of squares cancel in float32, residuals do not."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 1))
    x = z * [1.0, -2.0, 0.5, 1.5] + 1e-4 * rng.normal(size=(400, 4)) + [3.0, 0.0, -1.0, 2.0]
    model = make(1, noise_degrees=1.0, noise_scale=1e-8, loadings_precision=1e-8, mean_precision=1e-8)
    noise = {}
    for dtype in ("float64", "float32"):
        fit = pyrozoo.fit(model, "gibbs", data=x, dtype=dtype, warmup=50, draws=100, thin=1, chains=2, progress=False)
        noise[dtype] = fit.draws["noise_variance"].mean((0, 1)).double().sqrt()
    torch.testing.assert_close(noise["float32"], noise["float64"], rtol=0.1, atol=0)


# Symmetry -------------------------------------------------------------------------------------------------------------


def turned(draws, seed: int = 0):
    """Return draws with the loadings of each turned by a random orthogonal matrix of its own."""
    generator, W = torch.Generator().manual_seed(seed), draws["loadings"]
    size = W.shape[-1]
    turn = torch.linalg.qr(torch.randn(*W.shape[:2], size, size, generator=generator, dtype=W.dtype))[0]
    return {**draws, "loadings": W @ turn}


def test_rotations_are_taken_out():
    model, data = make(3), table(factors=3, columns=7)
    with seeded(0):
        one = {site: value.unsqueeze(1) for site, value in Posterior.of(model, data).initial(1).items()}
        near = {site: value.expand(2, 50, *value.shape[2:]).clone() for site, value in one.items()}
        near["loadings"] += 0.01 * torch.randn_like(near["loadings"])
    lost = turned(near)
    for name, value in Posterior.of(model, data).invariants(near).items():
        torch.testing.assert_close(Posterior.of(model, data).invariants(lost)[name], value, rtol=1e-8, atol=1e-8)
    assert Posterior.of(model, None).align(lost)["loadings"].std((0, 1)).max() < 0.05
    found = Posterior.of(model, None).align(lost, reference=near)["loadings"]
    torch.testing.assert_close(found, near["loadings"], rtol=0, atol=0.1)
    gram = (found[0, 0].T @ found[0, 0]).shape
    assert gram == (3, 3)


def test_procrustes_finds_a_known_rotation():
    generator = torch.Generator().manual_seed(0)
    pivot = torch.randn(9, 4, generator=generator).double()
    turn = torch.linalg.qr(torch.randn(5, 4, 4, generator=generator).double())[0]
    torch.testing.assert_close(procrustes(pivot @ turn.mT, pivot), turn)
    aligned = (pivot @ turn.mT) @ rotations(pivot @ turn.mT)
    torch.testing.assert_close(aligned, aligned[:1].expand_as(aligned))
    gram = aligned[0].T @ aligned[0]
    torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-9, rtol=0)
    assert (gram.diagonal().diff() <= 1e-9).all()
    assert (aligned[0].pow(3).sum(0) > 0).all()


def test_volume_of_the_rotations_of_two_factors():
    """{W R} for two factors is two closed curves; measure one in small steps."""
    W = torch.tensor([[1.0, 0.3], [-0.5, 2.0], [0.2, 0.7]]).double()
    angle = torch.linspace(0, 2 * np.pi, 200_001).double()
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], -2)
    length = (W @ turn).diff(dim=0).square().sum((1, 2)).sqrt().sum()
    flat, log_volume = Posterior.of(make(2), None).orbit({"loadings": W})
    assert flat == 1
    assert log_volume == pytest.approx(float((2 * length).log()), rel=1e-8)
    # of lower rank: W = (w, 0) turns to w times a unit vector; the orbit is a circle of radius |w|
    flat, log_volume = Posterior.of(make(2), None).orbit({"loadings": W * torch.tensor([1.0, 0.0]).double()})
    assert flat == 1
    assert log_volume == pytest.approx(float((2 * np.pi * W[:, 0].norm()).log()), rel=1e-8)
    assert Posterior.of(make(1), None).orbit({"loadings": W[:, :1]}) == (0, pytest.approx(np.log(2)))


# Queries --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.4])
def test_prediction_is_the_conditional_normal(share):
    """Against dense Gaussian conditioning; few hidden cells and many take different ways."""
    data, model = table(0.1, rows=50, columns=9, factors=3).hold_out(share, 1), make(3)
    draws = {site: value.unsqueeze(1) for site, value in start(model, data, 2).items()}
    prediction, hidden = Posterior.of(model, data).predict(draws), data.hidden
    assert len(hidden.values)
    for entry, (n, d) in enumerate(zip(hidden.rows.tolist(), hidden.columns.tolist(), strict=True)):
        means, variances = [], []
        for chain in range(2):
            draw = {site: value[chain, 0] for site, value in draws.items()}
            _, z, cov = dense_rows(draw, data.batch(torch.tensor([n])))
            w = draw["loadings"][d].numpy()
            means.append(float(w @ z[0] + draw["mean"][d].item()))
            variances.append(float(w @ cov[0] @ w + draw["noise_variance"][d].item()))
        mixture = stats.norm(means, np.sqrt(variances))
        x = hidden.values[entry].item()
        assert float(prediction.mean[entry]) == pytest.approx(np.mean(means), rel=1e-9)
        assert float(prediction.log_density[entry]) == pytest.approx(np.log(mixture.pdf(x).mean()), rel=1e-8)
        assert float(prediction.pit[entry]) == pytest.approx(mixture.cdf(x).mean(), rel=1e-8)
        sd = np.sqrt(np.mean(np.square(means) + variances) - np.mean(means) ** 2)
        assert float(prediction.upper[entry]) == pytest.approx(np.mean(means) + 1.6448536 * sd, rel=1e-6)


def test_new_rows_get_factors_and_reconstructions_without_refitting():
    data = table(0.1, rows=60)
    new = Table.of(np.array([[np.nan] * 5, data.values[3].tolist()]))
    fit = pyrozoo.fit(make(2), "em", data=data, test=new, progress=False)
    draws = fit.posterior.align(fit.draws)
    test = Layout.of(fit.data.test)
    mean, sd = queries.factors(test, draws)
    old, _ = queries.factors(fit.posterior.layout, draws)
    torch.testing.assert_close(mean[0], torch.zeros(2).double())  # nothing is known of it: the prior
    torch.testing.assert_close(sd[0], torch.ones(2).double())
    torch.testing.assert_close(mean[1], old[3])
    rebuilt = queries.reconstruct(test, fit.draws)
    torch.testing.assert_close(rebuilt[0], fit.draws["mean"][0, 0])
    torch.testing.assert_close(rebuilt[1], draws["loadings"][0, 0] @ mean[1] + draws["mean"][0, 0])
    tables = view_of(fit.model).tables(fit)
    assert list(tables["test_factors"]["row"]) == ["row_0", "row_1"]
    assert set(tables["test_missing"]["row"]) >= {"row_0"}
    full = completed(fit, fit.data)
    assert torch.equal(full[fit.data.observed], fit.data.values[fit.data.observed])
    assert torch.isfinite(full).all()


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 1000.0])
def test_the_answer_does_not_depend_on_units(scale, shift):
    """A communality of 0.81 is 0.81 in millimetres and in metres, from zero and from a thousand."""
    fit = pyrozoo.fit("factor_analysis", "em", data=scale * one_factor() + shift, num_factors=1, progress=False)
    found = fit.invariants["communality"][0, 0]
    assert found.mean() == pytest.approx(0.81, abs=0.02)
    usual = pyrozoo.fit("factor_analysis", "em", data=one_factor(), num_factors=1, progress=False)
    torch.testing.assert_close(found, usual.invariants["communality"][0, 0], rtol=0, atol=1e-3)
    (note,) = [each for each in fit.notes if "noise_scale" in each]
    assert "harmonic mean" in note


def test_settings_left_to_the_data_are_those_of_observed_columns_that_vary():
    left = FactorAnalysis(**{**vars(make()), "mean_precision": None, "noise_scale": None})
    # variances 1 and 4 / 9 around means 1 and 10 / 3; a constant; a hidden cell that would change all
    values = np.array([[0.0, 4, 7], [2, 3, 7], [NAN, 3, 7]])
    found = Posterior.of(left, Table.of(values)).model
    assert found.noise_scale == pytest.approx(0.1 * 2 / (1 + 1 / (2 / 9)), rel=1e-2)
    assert found.mean_precision == pytest.approx(0.01 * (2 / 9) / (2 / 9 + (10 / 3) ** 2), rel=1e-2)
    values[2, 0] = 1e6
    hidden = Table.of(values).hide(torch.tensor([2]), torch.tensor([0]))
    assert Posterior.of(left, hidden).model == found
    for flat in (np.zeros((4, 2)), np.full((4, 2), 7.0), np.array([[3.0]])):
        model = Posterior.of(left, Table.of(flat)).model
        assert (model.noise_scale, model.mean_precision) == (1.0, 0.01)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"num_factors": 0}, "num_factors"), ({"num_factors": 1.5}, "num_factors"), ({"prior": "flat"}, "prior"),
     ({"noise_scale": -1.0}, "noise_scale"), ({"loadings_covariance": [1.0]}, "matrix_normal"),
     ({"prior": "matrix_normal", "loadings_covariance": [1.0, 2.0]}, "1 variances"),
     ({"prior": "matrix_normal", "loadings_covariance": [-1.0]}, "not a covariance"),
     ({"prior": "matrix_normal", "loadings_covariance": [["a"]]}, "loadings_covariance")],
)  # fmt: skip
def test_model_validates_its_fields(changes, named):
    with pytest.raises(SettingError, match=named):
        pyrozoo.fit("factor_analysis", "em", data=TINY, **{"num_factors": 1, **changes})


@pytest.mark.parametrize(
    ("method", "solver", "named"),
    [("gibbs", {"missing": "guess"}, "missing"), ("gibbs", {"mising": "impute"}, "did you mean 'missing'"),
     ("gibbs", {"update": "all"}, "update"), ("pca", {"fill": "zero"}, "fill"), ("em", {"fill": "mean"}, "it has none"),
     ("nuts", {"missing": "impute"}, "no solver")],
)  # fmt: skip
def test_solver_options_are_checked(method, solver, named):
    with pytest.raises(SettingError, match=named):
        pyrozoo.fit(MODEL, method, data=TINY, solver=solver)


@pytest.mark.parametrize("method", ["nuts", "laplace"])
def test_methods_that_need_factors_summed_out_say_so(method):
    with pytest.raises(NotApplicable, match="factors"):
        pyrozoo.fit(make(2, kept=True), method, data=TINY, progress=False)


@pytest.mark.slow
def test_svi_with_factors_kept_reaches_the_same_bound():
    """Its guide draws them from their exact conditional, so nothing is lost but noise."""
    data = table(rows=30)
    settings = {"max_steps": 200, "restarts": 1, "draws": 50, "evaluation_draws": 100, "progress": False}
    summed, kept = (pyrozoo.fit(make(2, kept=kept), "svi", data=data, **settings) for kept in (False, True))
    assert kept.objective == pytest.approx(summed.objective, abs=4.0)


def test_a_hidden_entry_of_an_empty_row_is_predicted_by_the_prior_of_its_factors():
    values = torch.tensor([[1.0, 2.0], [0.0, torch.nan], [torch.nan, torch.nan], [2.0, 1.0]]).double()
    data = Table(
        values, list("abcd"), ["x", "y"], hidden=Hidden(torch.tensor([2]), torch.tensor([1]), torch.ones(1).double())
    )
    fit = pyrozoo.fit(MODEL, "em", data=data, progress=False)
    assert float(fit.prediction(fit.data).mean) == pytest.approx(float(fit.draws["mean"][0, 0, 1]))


# Headline -------------------------------------------------------------------------------------------------------------


def test_masked_digits_are_reconstructed():
    settings = {"num_factors": 15, "noise_scale": 1.0, "masks": ["line", "circle", "speckle"], "progress": False}
    fit = pyrozoo.fit("factor_analysis", "gibbs", data="digits", chains=1, warmup=50, draws=50, thin=1, **settings)
    assert fit.metrics["reconstruction_rmse"] < 0.72 * fit.metrics["mean_imputation_rmse"]
    assert 0.85 < fit.metrics["coverage_90"] < 0.95


@pytest.mark.slow
def test_masked_mnist_figures(need):
    """The page's figures: 200 sweeps, 50 factors, single precision."""
    need("mnist")
    settings = {"num_factors": 50, "noise": 3.0, "masks": ["line", "circle", "speckle"], "progress": False}
    fit = pyrozoo.fit(
        "factor_analysis", "gibbs", data="mnist", dtype="float32", chains=1, warmup=100, draws=100, thin=1, **settings
    )
    assert fit.metrics["reconstruction_rmse"] <= 64
    assert fit.metrics["mean_imputation_rmse"] == pytest.approx(82.6, abs=0.5)
    assert 0.85 <= fit.metrics["coverage_90"] <= 0.93


@pytest.mark.slow
def test_a_sweep_over_a_solvers_options_is_a_comparison(here, capsys):
    quick = ["inference.warmup=20", "inference.draws=20", "data.rows=30", "data.columns=3", "model.num_factors=1"]
    arguments = ["-m", "model=factor_analysis", "inference=gibbs", "solver.missing=impute,marginal", "data.missing=0.1"]
    code, _, err = run(capsys, *arguments, *quick)
    assert code == 0, err
    (path,) = here.rglob("comparison.csv")
    assert list(pd.read_csv(path)["fit"]) == ["gibbs missing=impute", "gibbs missing=marginal"]
