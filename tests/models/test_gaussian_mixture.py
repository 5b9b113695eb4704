"""gaussian_mixture: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import gammaln, logsumexp, multigammaln
from scipy.stats import invwishart

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.models.gaussian_mixture import cavi, em, gibbs
from pyrozoo.models.gaussian_mixture.model import GaussianMixture
from pyrozoo.testing import laws
from tests.case import Case, Oracle

NAN = float("nan")
MODEL = GaussianMixture(2, "full", "dirichlet", 1.5, (0.2, -0.1), 0.4, (0.9, 1.3), 8.0)
TINY = Table.of(np.array([[0.1, 1.2], [2.3, -0.4], [NAN, 0.8], [1.9, -0.9], [-0.3, 0.7], [2.6, -1.5]]))
FORMS = ("full", "tied", "diagonal", "spherical")
KINDS = list(itertools.product(FORMS, ("dirichlet", "stick_breaking")))
HOLE = np.linspace(-12, 12, 1201)
"""Values of the missing cell of ``TINY`` that the oracle goes through: the trapezoid rule is exact to 1e-10 here."""


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
            found.append((alpha, [subsets[each][1] for each in members]))
    evidence = logsumexp(log_p)
    picked, times = np.unique(
        rng.choice(len(log_p), 100_000, p=np.exp(np.asarray(log_p) - evidence)), return_counts=True
    )
    parts = {"weights": [], "mean": [], "covariance": []}
    for place, count in zip(picked, times, strict=True):
        alpha, clusters = found[place]
        parts["weights"].append(rng.dirichlet(alpha, count))
        covariance = np.stack(
            [invwishart.rvs(nu, psi, count, rng).reshape(count, 2, 2) for nu, _, _, psi in clusters], 1
        )
        noise = rng.standard_normal((count, K, 2, 1)) / np.sqrt([kappa for _, kappa, _, _ in clusters])[:, None, None]
        parts["mean"].append(
            np.stack([mean for _, _, mean, _ in clusters]) + (np.linalg.cholesky(covariance) @ noise)[..., 0]
        )
        parts["covariance"].append(covariance)
    draws = {site: torch.as_tensor(np.concatenate(each)) for site, each in parts.items()}
    order = torch.as_tensor(rng.permutation(100_000))
    return Oracle(float(evidence), {site: value[order][None] for site, value in draws.items()})


def lose(table: Table) -> Table:
    """Lose some cells, always the same ones."""
    values = table.values.clone()
    values[2:4, 1] = NAN
    values[4, 0] = NAN
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
        posterior, known = self.posterior, self.posterior.known(vars(state))
        expected, evidence = posterior.layout.expect(known)
        drawn, _ = posterior.layout.expect(known, sample=True)
        second = torch.where(drawn.counts[..., None, None] > 0, expected.second, drawn.second)
        sums = dataclasses.replace(expected, second=second)
        return em.State(**self.prior.given(sums).sample()), gibbs.solver.Info(
            evidence + self.prior.log_prob(vars(state))
        )


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
