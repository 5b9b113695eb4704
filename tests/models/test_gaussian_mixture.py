"""gaussian_mixture: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
import re
import warnings
from functools import cache, partial
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import gammaln, logsumexp, multigammaln
from scipy.stats import chi2, invwishart, multivariate_normal
from sklearn import mixture

import pyrozoo
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.paths import PACKAGE
from pyrozoo.core.seeds import seeded
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.models.gaussian_mixture import cavi, em, gibbs, likelihood
from pyrozoo.models.gaussian_mixture.likelihood import Sums
from pyrozoo.models.gaussian_mixture.model import GaussianMixture
from pyrozoo.program.covariances import InverseWisharts
from pyrozoo.program.stick_breaking import StickBreaking
from pyrozoo.testing import laws
from pyrozoo.testing.samplers import geweke
from tests.case import Case, Oracle, refused

NAN = float("nan")
MODEL = GaussianMixture(2, "full", "dirichlet", 1.5, (0.2, -0.1), 0.4, (0.9, 1.3), 8.0)
TINY = Table.of(np.array([[0.1, 1.2], [2.3, -0.4], [NAN, 0.8], [1.9, -0.9], [-0.3, 0.7], [2.6, -1.5]]))
FORMS = ("full", "tied", "diagonal", "spherical")
KINDS = list(itertools.product(FORMS, ("dirichlet", "stick_breaking")))
HOLE = np.linspace(-12, 12, 241)
"""Values of the missing cell of ``TINY`` that the oracle goes through: the trapezoid rule is exact to 1e-7 here."""


def of_cluster(m: GaussianMixture, x: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Return log p(rows of one cluster) in closed form, and its normal-inverse-Wishart posterior (Murphy 2007, 9.5)."""
    (n, D), m0, psi0 = x.shape, np.asarray(m.location), m.degrees * np.diag(np.square(m.scale))
    nu0, kappa0 = m.degrees + D - 1, m.mean_precision
    nu, kappa = nu0 + n, kappa0 + n
    mean = (kappa0 * m0 + x.sum(0)) / kappa
    psi = psi0 + x.T @ x + kappa0 * np.outer(m0, m0) - kappa * np.outer(mean, mean)
    log_p = multigammaln(nu / 2, D) - multigammaln(nu0 / 2, D) + 0.5 * D * np.log(kappa0 / kappa)
    log_p += 0.5 * (nu0 * np.linalg.slogdet(psi0)[1] - nu * np.linalg.slogdet(psi)[1]) - 0.5 * n * D * np.log(np.pi)
    return log_p, [nu, kappa, mean, psi]


@cache
def exact() -> Oracle:
    """Enumerate every assignment z, and the missing cell over a grid; given both, everything is in closed form."""
    m, x, K = MODEL, TINY.values.numpy(), MODEL.num_components
    (row, column), rng = np.argwhere(np.isnan(x))[0], np.random.default_rng(0)
    log_p, found = [], []
    for value in HOLE:
        whole = x.copy()
        whole[row, column] = value
        subsets = {
            s: of_cluster(m, whole[list(s)])
            for n in range(len(x) + 1)
            for s in itertools.combinations(range(len(x)), n)
        }
        for z in itertools.product(range(K), repeat=len(x)):
            members = [tuple(i for i in range(len(x)) if z[i] == k) for k in range(K)]
            alpha = m.concentration + np.array([len(each) for each in members])
            weights = (
                gammaln(K * m.concentration) - gammaln(alpha.sum()) + (gammaln(alpha) - gammaln(m.concentration)).sum()
            )
            log_p.append(weights + sum(subsets[each][0] for each in members) + np.log(HOLE[1] - HOLE[0]))
            found.append(
                (alpha, *(np.array(part) for part in zip(*(subsets[each][1] for each in members), strict=True)))
            )
    evidence = logsumexp(log_p)
    chosen = rng.choice(len(log_p), 100_000, p=np.exp(np.asarray(log_p) - evidence))
    alpha, nu, kappa, centre, psi = (np.stack([each[i] for each in found])[chosen] for i in range(5))
    gamma, shape = rng.gamma(alpha), (len(chosen), K, 2, 2)
    # Sigma^-1 = Psi^-1/2 A A^T Psi^-1/2, A of normal numbers and roots of chi-squares (Bartlett 1933)
    bartlett = (
        np.tril(rng.standard_normal(shape), -1)
        + np.eye(2) * np.sqrt(rng.chisquare(np.stack([nu, nu - 1], -1)))[..., None]
    )
    half = np.linalg.cholesky(psi) @ np.linalg.inv(bartlett).swapaxes(-1, -2)
    covariance = half @ half.swapaxes(-1, -2)
    noise = np.linalg.cholesky(covariance) @ rng.standard_normal((*shape[:-1], 1))
    mean = centre + noise[..., 0] / np.sqrt(kappa)[..., None]
    draws = {"weights": gamma / gamma.sum(1, keepdims=True), "mean": mean, "covariance": covariance}
    return Oracle(float(evidence), {site: torch.as_tensor(value)[None] for site, value in draws.items()})


def lose(table: Table) -> Table:
    """Lose some cells, always the same ones."""
    values = table.values.clone()
    values[1:5, 1] = NAN
    values[5, 0] = NAN
    return dataclasses.replace(table, values=values)


def of_other_prior(posterior: Posterior) -> gibbs.Solver:
    """Plant: the means' prior counts for twice as many rows."""
    return gibbs.Solver(Posterior.of(dataclasses.replace(posterior.model, mean_precision=0.8), posterior.data))


def with_zeros(posterior: Posterior) -> gibbs.Solver:
    """Plant: missing cells are read as zeros."""
    return gibbs.Solver(posterior.on(dataclasses.replace(posterior.data, values=posterior.data.filled)))


def without_data(posterior: Posterior) -> gibbs.Solver:
    """Plant: draws from the prior, whatever the data; ranks of parameters alone would pass it."""
    return gibbs.Solver(
        posterior.on(dataclasses.replace(posterior.data, values=torch.full_like(posterior.data.values, NAN)))
    )


class WithoutNoise(gibbs.Solver):
    """Plant: missing cells are filled by their expectation, not drawn."""

    def step(self, state):
        with mock.patch.object(likelihood, "standard_normal", torch.zeros_like):
            return super().step(state)


CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"rows": 6, "columns": 2},
    lose=lose,
    larger={"rows": 400, "columns": 2},
    settings={
        "em": {"restarts": 5},
        "cavi": {"restarts": 5},
        "gibbs": {"warmup": 100, "draws": 300, "thin": 1},
        "svi": {"max_steps": 300, "restarts": 2, "restart_steps": 20, "window": 100, "draws": 200,
                "evaluation_draws": 100},
        "nuts": {"chains": 2, "warmup": 30, "draws": 30, "max_tree_depth": 5},
        "laplace": {"restarts": 3, "draws": 200},
    },
    elbo_gap=5.0,
    laplace_error=3.0,
    bad={
        "infinite": (np.array([[1, np.inf], [0, 3]]), "column_1"),
        "empty": (np.empty((0, 2)), "empty"),
        "one axis": (np.array([1.0, 2]), "two axes"),
        "missing column": (np.array([[1, NAN], [0, NAN]]), "column_1"),
        "text": (np.array([["a", "b"], ["c", "d"]]), "not numbers"),
        "frame with text": (pd.DataFrame({"size": [1, 2], "name": ["x", 2]}), "name"),
        "huge": (np.array([[1, 1e200], [0, 3]]), "too large"),
    },
    odd={
        "one row": np.array([[0, 3.0]]),
        "constant": np.full((6, 2), 3.0),
        "missing row": np.array([[NAN, NAN], [1, 2], [0, 3]]),
        "tiny and huge": np.array([[1e-9, 1e9], [2e-9, -1e9], [3e-9, 2e9], [0, 1e8]]),
        "fewer distinct rows than components": np.array([[1, 2.0]] * 4),
        "columns that are one": np.array([[1.0, 2], [2, 4], [3, 6], [5, 10], [7, 14]]),
    },
    bugs={"zeros": with_zeros, "mean_precision": of_other_prior, "noise": WithoutNoise, "data": without_data},
)  # fmt: skip


def model_of(form: str, weights: str) -> GaussianMixture:
    return GaussianMixture(3, form, weights, 1.7, 0.3, 0.5, 1.2, 6.0)


@pytest.mark.parametrize(("form", "weights"), KINDS)
def test_every_kind_is_under_the_laws(form, weights):
    model = model_of(form, weights)
    posterior = Posterior.of(model, simulate_data(model, rows=40, columns=3, missing=0.2, seed=3))
    laws.one_density(posterior)
    laws.a_gradient(posterior)
    laws.symmetric(posterior)
    laws.missing_means_missing(posterior)
    laws.objective_is_the_joint(gibbs.Solver(posterior))
    laws.never_falls(cavi.Solver(posterior), steps=40)
    if weights == "dirichlet":
        laws.objective_is_the_joint(em.Solver(posterior))
        laws.never_falls(em.Solver(posterior), steps=40)


def test_a_setting_derived_from_the_data_is_one_number_per_column():
    table = Table.of(np.array([[1.0, 1000.0], [2, 3000], [3, 2000], [6, 2400]]))
    model = GaussianMixture(2, "full", "dirichlet", 2.0, None, 0.1, None, 3.0)
    found = model.derived(table)
    assert found["location"].value == (3.0, 2100.0)
    assert found["scale"].value == (0.764, 297.0)
    assert str(found["scale"]) == "[0.764,297]"
    stated = dataclasses.replace(model, location=0.0, scale=1.0)
    assert (
        stated.to_rescale(table)
        == "set model.location=null ([3,2100] in place of 0), model.scale=null ([0.764,297] in place of 1)"
    )
    assert dataclasses.replace(model, location=(3, 2000), scale=(1, 300)).to_rescale(table).startswith("widen")
    wide = GaussianMixture(2, "full", "dirichlet", 2.0, None, 0.1, None, 3.0).derived(Table.of(np.eye(9)))["scale"]
    assert str(wide) == "0.168 to 0.168"


def test_the_e_step_is_the_textbooks():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(7, 3))
    x[1, 0] = x[2, 1:] = x[4] = NAN
    weights, mean = np.array([0.3, 0.7]), rng.normal(size=(2, 3))
    root = rng.normal(size=(2, 3, 3))
    covariance = root @ root.transpose(0, 2, 1) + np.eye(3)
    posterior = Posterior.of(GaussianMixture(2, "full", "dirichlet", 2.0, 0.5, 0.1, 1.0, 3.0), Table.of(x))
    parts = {"weights": weights, "mean": mean, "covariance": covariance}
    known = posterior.known({site: torch.as_tensor(value)[None] for site, value in parts.items()})
    sums, evidence = posterior.layout.expect(known)
    logs = np.zeros((7, 2))
    filled, spread = np.zeros((7, 2, 3)), np.zeros((7, 2, 3, 3))
    for i, k in itertools.product(range(7), range(2)):
        o, m = ~np.isnan(x[i]), np.isnan(x[i])
        S = covariance[k]
        if o.any():
            logs[i, k] = multivariate_normal.logpdf(x[i, o], mean[k, o], S[np.ix_(o, o)])
        slope = S[np.ix_(m, o)] @ np.linalg.inv(S[np.ix_(o, o)])
        filled[i, k, o], filled[i, k, m] = x[i, o], mean[k, m] + slope @ (x[i, o] - mean[k, o])
        spread[i, k][np.ix_(m, m)] = S[np.ix_(m, m)] - slope @ S[np.ix_(o, m)]
    r = np.exp(logs + np.log(weights) - logsumexp(logs + np.log(weights), axis=1, keepdims=True))
    np.testing.assert_allclose(evidence[0], logsumexp(logs + np.log(weights), axis=1).sum(), rtol=1e-12)
    some, away = [0, 1, 2, 3, 5, 6], filled - 0.5  # relative to the prior's location; a row without values says nothing
    np.testing.assert_allclose(sums.counts[0], r[some].sum(0), rtol=1e-12)
    np.testing.assert_allclose(sums.total[0], np.einsum("ik,ikd->kd", r[some], away[some]), rtol=1e-12)
    second = np.einsum("ik,ikd,ike->kde", r[some], away[some], away[some]) + np.einsum(
        "ik,ikde->kde", r[some], spread[some]
    )
    np.testing.assert_allclose(sums.second[0], second, rtol=1e-11, atol=1e-12)
    shares = posterior.layout.by_row(known, lambda logits: logits.softmax(1))
    np.testing.assert_allclose(shares[0].T, r, rtol=1e-12)


def test_em_does_the_steps_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (60, 3)), rng.normal(3, 2, (60, 3)) @ rng.normal(size=(3, 3))])
    for form in FORMS:
        kind = {"diagonal": "diag"}.get(form, form)
        model = GaussianMixture(2, form, "dirichlet", 1.0, 0.0, 1e-12, 1e-9, 1e-12)
        posterior = Posterior.of(model, Table.of(x))
        with seeded(0):
            state = posterior.initial(1)
        start = {site: value[0].numpy() for site, value in state.items()}
        precision = np.linalg.inv(start["covariance"]) if model.matrices else 1 / start["covariance"]
        given = {"means_init": start["mean"], "weights_init": start["weights"], "precisions_init": precision}
        theirs = mixture.GaussianMixture(2, covariance_type=kind, max_iter=1, tol=0, reg_covar=0, **given)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.fit(x)
        found, _ = em.Solver(posterior).step(em.State(**state))
        divided = found.covariance[0].numpy()
        n = found.weights[0].numpy() * len(x)
        # Theirs is the likelihood's mode, ours that of the density, whose powers a flat prior of covariances adds to
        ours = {"full": n + 7, "tied": 120 + 8, "diagonal": n + 3, "spherical": 3 * n + 5}[form]
        plain = {"full": n, "tied": 120, "diagonal": n, "spherical": 3 * n}[form]
        factor = np.asarray(ours / plain).reshape(-1, *[1] * (divided.ndim - 1)) if form != "tied" else ours / plain
        np.testing.assert_allclose(found.mean[0], theirs.means_, rtol=1e-9)
        np.testing.assert_allclose(found.weights[0], theirs.weights_, rtol=1e-9)
        np.testing.assert_allclose(divided * factor, theirs.covariances_, rtol=1e-8)


def test_distributions_are_those_of_scipy_and_torch():
    rng = np.random.default_rng(1)
    psi = np.diag([1.0, 2.0, 0.5]) + 0.2
    q = InverseWisharts(torch.tensor(6.5).double(), torch.as_tensor(psi))
    draws = invwishart.rvs(6.5, psi, 4, rng)
    np.testing.assert_allclose(
        q.log_prob(torch.as_tensor(draws)), invwishart.logpdf(draws.transpose(1, 2, 0), 6.5, psi)
    )
    p = InverseWisharts(torch.tensor(4.0).double(), torch.eye(3).double())
    with seeded(0):
        ours, own = (
            q.rsample((40_000,)),
            StickBreaking(torch.tensor([1.0, 2]).double(), torch.tensor([3.0, 1.5]).double()),
        )
        shares = own.rsample((40_000,))
    np.testing.assert_allclose(ours.mean(0), psi / (6.5 - 4), rtol=0.1, atol=0.03)
    logs = q.log_prob(ours) - p.log_prob(ours)
    assert float(q.divergence(p)) == pytest.approx(float(logs.mean()), abs=5 * float(logs.std()) / 200)
    assert float(q.mean_log_determinant) == pytest.approx(float(ours.logdet().mean()), abs=0.05)
    other = StickBreaking.dirichlet(torch.tensor([2.0, 1.0, 3.0]).double())
    dirichlet = torch.distributions.Dirichlet(torch.tensor([2.0, 1.0, 3.0]).double())
    torch.testing.assert_close(other.log_prob(shares), dirichlet.log_prob(shares))
    logs = own.log_prob(shares) - other.log_prob(shares)
    assert float(own.divergence(other)) == pytest.approx(float(logs.mean()), abs=5 * float(logs.std()) / 200)
    torch.testing.assert_close(own.expected_log, shares.log().mean(0), rtol=0.03, atol=0)
    torch.testing.assert_close(own.log_mean.exp(), shares.mean(0), rtol=0.02, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_hidden_cells_are_predicted_by_the_mixture_of_conditionals(form):
    model = model_of(form, "dirichlet")
    table = simulate_data(model, rows=30, columns=3, missing=0.2, seed=4).hold_out(0.1, 1)
    posterior = Posterior.of(model, table)
    with seeded(0):
        draws = {site: value[None] for site, value in posterior.initial(5).items()}
    found, hidden = posterior.predict(draws), table.hidden
    for place in range(0, len(hidden.rows), 3):
        row, column = int(hidden.rows[place]), int(hidden.columns[place])
        density, mean = 0.0, 0.0
        values = table.values.numpy()[row]
        o = ~np.isnan(values)
        both = np.append(np.flatnonzero(o), column)
        with_truth = np.append(values[o], float(hidden.values[place]))
        for s in range(5):
            point = {site: value[0, s] for site, value in draws.items()}
            S = (
                point["covariance"]
                if model.matrices
                else model.variances(point["covariance"]).expand(3, 3).diag_embed()
            )
            S, m, w = S.expand(3, 3, 3).numpy(), point["mean"].numpy(), point["weights"].numpy()
            lower = [
                multivariate_normal.pdf(values[o], m[k, o], S[k][np.ix_(o, o)]) if o.any() else 1.0 for k in range(3)
            ]
            upper = [multivariate_normal.pdf(with_truth, m[k, both], S[k][np.ix_(both, both)]) for k in range(3)]
            density += np.dot(w, upper) / np.dot(w, lower) / 5
            each = [
                m[k, column] + (S[k][column, o] @ np.linalg.solve(S[k][np.ix_(o, o)], values[o] - m[k, o]))
                for k in range(3)
            ]
            mean += np.dot(w * lower, each) / np.dot(w, lower) / 5
        assert float(found.log_density[place]) == pytest.approx(np.log(density), abs=1e-9)
        assert float(found.mean[place]) == pytest.approx(mean, abs=1e-9)


def test_collapsed_sweeps_ask_for_the_ratio_of_closed_forms():
    x = np.array([[0.1, 1.2], [2.3, -0.4], [1.9, -0.9], [-0.3, 0.7]])
    posterior = Posterior.of(MODEL, Table.of(x[:3]))
    counts = torch.tensor([[1.0, 2.0]]).double()
    away = torch.as_tensor(x - np.array(MODEL.location))
    total = torch.stack([away[0], away[1] + away[2]])[None]
    second = torch.stack([torch.outer(away[0], away[0]), away[1:3].T @ away[1:3]])[None]
    q = posterior.prior.given(Sums(counts, counts.unsqueeze(-1), total, second))
    found = gibbs.predictive(q, away[3][None], torch.ones(1, 1, 1).double())[0]
    for k, rows in enumerate(([0], [1, 2])):
        ratio = of_cluster(MODEL, x[[*rows, 3]])[0] - of_cluster(MODEL, x[rows])[0]
        share = (MODEL.concentration + len(rows)) / (2 * MODEL.concentration + 3)
        assert float(found[k]) == pytest.approx(ratio + np.log(share), rel=1e-12)


@pytest.mark.slow
def test_collapsed_gibbs_agrees_with_the_oracle():
    fit = pyrozoo.fit(MODEL, "gibbs", data=TINY, progress=False, chains=16, warmup=30, draws=100, thin=1,
                      solver={"collapsed": True})  # fmt: skip
    posterior = Posterior.of(MODEL, TINY)
    found, truth = posterior.invariants(fit.draws), posterior.invariants(exact().draws)
    for name, value in truth.items():
        error = value[0].std(0) / (float(fit.metrics["ess_bulk_min"]) ** 0.5)
        assert ((found[name].mean((0, 1)) - value[0].mean(0)).abs() < 5 * error).all(), name


def test_outliers_are_rows_far_from_their_cluster():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (100, 2)), rng.normal(8, 1, (100, 2)), [[4.0, 4.0], [0, 6.0]]])
    x[5, 1] = NAN
    fit = pyrozoo.fit("gaussian_mixture", "em", data=x, num_components=2, restarts=5, progress=False)
    clusters = fit.tables["clusters"]
    assert clusters["outlier"].nlargest(2).index.isin([200, 201]).all()
    assert (clusters["cluster"][:100] == clusters["cluster"][0]).all()
    k = int(clusters["cluster"][5])
    point = {site: value[0, 0].numpy() for site, value in fit.aligned.items()}
    distance = (x[5, 0] - point["mean"][k, 0]) ** 2 / point["covariance"][k, 0, 0]
    assert clusters["outlier"][5] == pytest.approx(chi2.cdf(distance, 1), abs=1e-6)


def test_holes_cost_little_where_scikit_learn_refuses_them():
    rng = np.random.default_rng(3)
    root = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [0.5, 0.5, 0.7]])
    z = rng.integers(2, size=600)
    x = np.array([[0.0, 0, 0], [4, -3, 4]])[z] + rng.normal(size=(600, 3)) @ root.T
    holes = np.where(rng.random(x.shape) < 0.1, NAN, x)
    with pytest.raises(ValueError, match="NaN"):
        mixture.GaussianMixture(2).fit(holes)
    how = {"num_components": 2, "chains": 4, "warmup": 60, "draws": 150, "thin": 1, "progress": False}
    whole, part = (pyrozoo.fit("gaussian_mixture", "gibbs", data=each, **how) for each in (x, holes))
    aligned = whole.posterior.align(part.draws, whole.aligned)
    for site, value in whole.aligned.items():
        error = value.std((0, 1))
        away = (aligned[site].mean((0, 1)) - value.mean((0, 1))).abs() / error
        assert float(away.max()) < 2, site
    hidden = np.isnan(holes)
    missing = part.tables["missing"]
    truth = x[hidden]
    inside = (missing["lower_90"].to_numpy() <= truth) & (truth <= missing["upper_90"].to_numpy())
    assert 0.87 < inside.mean() < 0.93


def test_what_cannot_be_is_refused_in_a_line():
    table = Table.of(np.eye(4))
    process = dataclasses.replace(MODEL, weight_prior="stick_breaking", location=0.0, scale=1.0)
    round_ = dataclasses.replace(process, weight_prior="dirichlet", covariance_type="spherical")
    assert "model.weight_prior" in refused(SettingError, em.Solver, Posterior.of(process, table))
    assert "model.concentration" in refused(
        SettingError, em.Solver, Posterior.of(dataclasses.replace(round_, concentration=0.5), table)
    )
    assert "solver.collapsed" in refused(NotApplicable, gibbs.Solver, Posterior.of(round_, table), collapsed=True)
    assert "2 numbers" in refused(DataError, Posterior.of(MODEL, table).check)


SWEEPS = [(form, weights, collapsed) for form, weights in KINDS for collapsed in (False, True)]
SWEEPS = [each for each in SWEEPS if each[::2] != ("spherical", True)]
"""Kinds and their sweeps; collapsed ones of spherical covariances are refused, which another test asks for."""


@pytest.mark.slow
@pytest.mark.parametrize(("form", "weights", "collapsed"), SWEEPS)
def test_geweke_of_every_kind(form, weights, collapsed):
    make = partial(gibbs.Solver, collapsed=collapsed)
    z = geweke(model_of(form, weights), Table.blank(rows=6, columns=2), make, sweeps=800, seed=12, lose=lose)
    assert z.abs().max() < 4.5, z[z.abs() > 3]


GALAXIES = """
9172 9350 9483 9558 9775 10227 10406 16084 16170 18419 18552 18600 18927 19052 19070 19330 19343 19349 19440
19473 19529 19541 19547 19663 19846 19856 19863 19914 19918 19973 19989 20166 20175 20179 20196 20215 20221
20415 20629 20795 20821 20846 20875 20986 21137 21492 21701 21814 21921 21960 22185 22209 22242 22249 22314
22374 22495 22746 22747 22888 22914 23206 23241 23263 23484 23538 23542 23666 23706 23711 24129 24285 24289
24366 24717 24990 25633 26960 26995 32065 32789 34279
"""
"""Velocities of galaxies, km/s (Postman, Huchra and Geller 1986; Roeder 1990, table 1)."""


class WithHyperpriors(gibbs.Solver):
    """Concentration ~ Gamma(2, 4), 1 / mean_precision ~ InverseGamma(1/2, 50) of each chain, as Escobar and West have.

    Their mean of the means is unknown, too; here it is the data's.
    """

    def step(self, state):
        K, alpha = self.model.num_components, vars(self).setdefault("alpha", torch.ones(len(state.mean)).double())
        tau = vars(self).setdefault("tau", torch.full_like(alpha, 50.0))
        p = self.posterior.prior.state
        chains = {"rest": alpha[:, None].expand(-1, K - 1), "precision": (1 / tau)[:, None, None].expand(-1, K, 1)}
        chains |= {"on": p.on.expand(len(alpha), -1), "mean": p.mean.expand(len(alpha), -1, -1)}
        self.prior = self.posterior.prior.at(dataclasses.replace(p, **chains))
        state, info = super().step(state)
        self.alpha = torch.distributions.Gamma(2.0 + K - 1, 4 - state.weights[:, -1].log()).sample()
        away = ((state.mean - self.prior.location).square()[..., 0] / state.covariance[..., 0, 0]).sum(1)
        self.tau = 1 / torch.distributions.Gamma(torch.full_like(away, (1 + K) / 2), (100 + away) / 2).sample()
        return state, info

    def swapped(self, sums):
        self.clusters = (super().swapped(sums).counts > 0).sum(1)
        return super().swapped(sums)


@pytest.mark.slow
def test_the_galaxies_have_as_many_clusters_as_the_page_says():
    """Of another start, another number of components and fewer sweeps."""
    page = (PACKAGE.parent / "docs/models/gaussian_mixture.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\| \$c \\sim .*?\$ \|(.*) \|$", page, re.M)
    said = dict(enumerate((float(share) for share in line.split("|")), start=3))
    x = np.array(GALAXIES.split(), float)[:, None] / 1000
    model = GaussianMixture(30, "full", "stick_breaking", 1.0, float(x.mean()), 0.02, 0.5**0.5, 4.0)
    solver, found = WithHyperpriors(Posterior.of(model, Table.of(x))), []
    with seeded(0):
        state = solver.init(16)
        for sweep in range(2500):
            state, _ = solver.step(state)
            if sweep >= 500:
                found.append(solver.clusters)
    share = torch.bincount(torch.cat(found), minlength=31).double() / (16 * len(found))
    assert max(said, key=lambda k: said[k]) == int(share.argmax())
    assert max(abs(float(share[k]) - p) for k, p in said.items()) < 0.05


def test_clusters_that_have_rows_are_counted():
    """Four groups far apart, and more components than them."""
    x = np.repeat([[0.0], [100.0], [200.0], [300.0]], 15, 0) + np.linspace(-1, 1, 60)[:, None]
    fit = pyrozoo.fit(
        "gaussian_mixture", "gibbs", data=pd.DataFrame(x, columns=["x"]), weight_prior="stick_breaking",
        num_components=8, concentration=0.1, chains=1, warmup=100, draws=50, thin=1, progress=False,
    )  # fmt: skip
    table = fit.tables["num_clusters"].set_index("clusters")["probability"]
    assert table[4] > 0.6
    assert float(table.sum()) == pytest.approx(1)
    assert fit.tables["clusters"].groupby(np.repeat(range(4), 15))["cluster"].nunique().eq(1).all()


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_profiles_say_means_and_sds_in_the_columns_units(covariance):
    random = np.random.default_rng(0)
    groups = [(0.0, 1.0, 50.0, 9.0), (15.0, 3.0, 150.0, 20.0)]  # mean and sd of x, then of y
    x = pd.DataFrame(
        np.concatenate([np.stack([random.normal(a, b, 300), random.normal(c, d, 300)], 1) for a, b, c, d in groups]),
        columns=["x", "y"],
    )
    fit = pyrozoo.fit("gaussian_mixture", "em", data=x, num_components=2, covariance_type=covariance, progress=False)
    found = fit.tables["components"].sort_values("mean[x]")[["mean[x]", "sd[x]", "mean[y]", "sd[y]"]].to_numpy()
    np.testing.assert_allclose(found, groups, rtol=0.15, atol=0.3)
    np.testing.assert_allclose(fit.tables["components"]["weight"], 0.5, atol=0.02)
