"""factor_analysis: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pandas as pd
import torch
from scipy.special import gammaln, logsumexp

from pyrozoo.data.table import Table
from pyrozoo.math.linear_algebra import standard_normal
from pyrozoo.models.factor_analysis import gibbs
from pyrozoo.models.factor_analysis.likelihood import Layout
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.models.factor_analysis.regression import Regression, draw_columns, prior
from tests.case import Case, Oracle

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

    def __init__(self, model, data):
        super().__init__(model, data, missing="marginal")
        self.layout = dataclasses.replace(self.layout)
        self.layout.__dict__["observations"] = torch.full_like(self.layout.offset, len(data.values))
        self.shared = self.layout


class FactorTwoInAScale(gibbs.Solver):
    """Plant: the inverse gamma's scale is nu s^2 instead of half of it."""

    def step(self, state):
        new, objective = super().step(state)
        return dataclasses.replace(new, noise_variance=2 * new.noise_variance), objective


class PrecisionAsCovariance(gibbs.Solver):
    """Plant: factors are drawn with covariance J instead of its inverse."""

    def _draw_factors_of_filled(self, beta, noise_variance):
        weighted = beta[..., :-1] / noise_variance.unsqueeze(-1)
        J = torch.eye(beta.shape[-1] - 1).double() + beta[..., :-1].mT @ weighted
        h = self.filler.values @ weighted - beta[..., -1].unsqueeze(1) @ weighted
        L = torch.linalg.cholesky(J)
        return torch.cholesky_solve(h.mT, L).mT + standard_normal(h) @ L.mT


class IgnoresData(gibbs.Solver):
    """Plant: draws from the prior, whatever the data; parameter ranks alone would pass it."""

    def step(self, state):
        C, D = state.mean.shape
        precision, mean0 = prior(self.model, self.shared)
        shape = (C, len(self.shared.sizes), 1, 1)
        found = Regression(
            torch.linalg.cholesky(precision).repeat(*shape), mean0.expand(C, -1, -1),
            torch.full((C, D), self.model.noise_degrees * self.model.noise_scale).double(),
            torch.full((D,), self.model.noise_degrees).double(),
        )  # fmt: skip
        beta, noise = draw_columns(found, self.shared)
        new = gibbs.State(beta[..., :-1], beta[..., -1] + self.layout.offset, noise, standard_normal(state.factors))
        return new, torch.zeros(C).double()


CASE = Case(
    model=MODEL,
    joint=make(kept=True),
    tiny=TINY,
    oracle=exact,
    shape={"rows": 5, "columns": 3},
    lose=lose,
    larger={"rows": 300, "columns": 8},
    settings={
        "em": {"restarts": 3},
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
        "frame with text": (pd.DataFrame({"size": [1, 2], "name": ["x", "y"]}), "name"),
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


def rotated(draws, seed: int = 0):
    """Return draws with loadings turned by a random orthogonal matrix each."""
    generator = torch.Generator().manual_seed(seed)
    W = draws["loadings"]
    turn = torch.linalg.qr(torch.randn(*W.shape[:2], W.shape[-1], W.shape[-1], generator=generator, dtype=W.dtype))[0]
    return {**draws, "loadings": W @ turn}


assert math.isfinite(1.0)
assert Layout
