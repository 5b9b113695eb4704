"""Methods derived from a program: exact where the posterior is known, and right where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrozoo
from pyrozoo.contracts.model import Model, Program
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import NotApplicable
from pyrozoo.data.arguments import Arguments
from pyrozoo.data.table import Table
from pyrozoo.inference.derived import gibbs
from pyrozoo.testing.samplers import geweke
from tests.case import refused

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@dataclass(frozen=True)
class Clusters(Model):
    """Rows of two kinds: a conjugate mixture, its labels enumerated."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        weights = pyro.sample("weights", dist.Dirichlet(x.new_full((2,), 3.0)))
        with pyro.plate("component", 2, dim=-2), pyro.plate("column", x.shape[1], dim=-1) as column:
            centre = pyro.sample("centre", dist.Normal(x.new_zeros(()), 1.0))
            precision = pyro.sample("precision", dist.Gamma(x.new_tensor(4.0), 4.0))
        with pyro.plate("row", len(x), dim=-2):
            z = pyro.sample("cluster", dist.Categorical(weights)).squeeze(-1)
            with pyro.plate("column_", x.shape[1], dim=-1):
                cells = dist.Normal(centre[z], precision[z].rsqrt()).mask(data.observed)
                pyro.sample("values", cells, obs=x)
        assert len(column) == x.shape[1]


@dataclass(frozen=True)
class Curved(Model):
    """Counts whose logarithmic rates are normal: no conditional is conjugate, but for that of the mean."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        mean = pyro.sample("mean", dist.Normal(x.new_zeros(()), 1.0))
        spread = pyro.sample("spread", dist.HalfNormal(x.new_ones(())))
        with pyro.plate("row", len(x), dim=-2):
            log_rate = pyro.sample("log_rate", dist.Normal(mean, 0.3 + spread))
            with pyro.plate("column", x.shape[1], dim=-1):
                pyro.sample("counts", dist.Poisson(log_rate.exp()).mask(data.observed), obs=x)


@pytest.mark.slow
@pytest.mark.parametrize("model", [Clusters(), Curved()], ids=str)
def test_gibbs_draws_from_the_joint_distribution(model):
    scores = geweke(model, Table.blank(rows=4, columns=2), gibbs.Solver, sweeps=400, seed=3)
    assert float(scores.abs().max()) < 4.5, scores[scores.abs() > 4]


def test_gibbs_of_a_plain_function_is_exact():
    heads = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])

    def coin(heads):
        bias = pyro.sample("bias", dist.Beta(2.0, 2.0))
        with pyro.plate("toss", len(heads)):
            pyro.sample("heads", dist.Bernoulli(bias), obs=heads)

    fit = pyrozoo.fit(coin, "gibbs", args=(heads,), draws=1000, warmup=1, thin=1, progress=False)
    exact = torch.distributions.Beta(6.0, 3.0)
    bias = fit.draws["bias"]
    assert abs(float(bias.mean()) - float(exact.mean)) < 5 * float(exact.stddev) / bias.numel() ** 0.5
    assert abs(float(bias.var()) / float(exact.variance) - 1) < 0.15


def test_labels_that_depend_on_each_other_are_drawn_one_by_one():
    """A ring of four spins, each seen with noise, against all 16 fields."""
    seen = torch.tensor([1.0, -0.5, 0.3, 0.2])

    def ring(_=None):
        with pyro.plate("site", 4):
            spin = pyro.sample("spin", dist.Bernoulli(torch.full((4,), 0.5)))
        up = 2 * spin - 1
        pyro.factor("edges", 0.7 * (up * up.roll(-1, -1)).sum(-1))
        height = pyro.sample("height", dist.Normal(0.0, 1.0))
        with pyro.plate("site_", 4):
            pyro.sample("y", dist.Normal(up + height, 1.0), obs=seen)

    solver = gibbs.Solver(Posterior.of(Program(ring), Arguments(args=())))
    state = solver.init(200)
    total, count = torch.zeros(4), 0
    for sweep in range(60):
        state, _ = solver.step(state)
        if sweep >= 10:
            total, count = total + state.spin.mean(0), count + 1
    fields = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    up = 2 * fields - 1
    away = seen - up  # height is summed out: y - up ~ N(0, I + 1 1')
    covariance = torch.eye(4) + 1
    logs = torch.distributions.MultivariateNormal(torch.zeros(4), covariance).log_prob(away)
    logs = logs + 0.7 * (up * up.roll(-1, -1)).sum(-1)
    assert torch.allclose(total / count, logs.softmax(0) @ fields, atol=0.03)


def test_counts_without_end_are_refused_by_name():
    def program(seen):
        n = pyro.sample("n", dist.Poisson(3.0))
        pyro.sample("y", dist.Normal(n, 1.0), obs=seen)
        pyro.sample("x", dist.Normal(0.0, 1.0))

    message = refused(NotApplicable, pyrozoo.fit, program, "gibbs", args=(torch.tensor(2.0),))
    assert "n is a discrete latent site with too many values" in message


def test_one_seed_gives_one_result():
    first, second = (
        pyrozoo.fit(Clusters(), "gibbs", rows=8, columns=2, draws=20, warmup=2, thin=1, chains=2, progress=False)
        for _ in range(2)
    )
    assert all(torch.equal(first.draws[site], second.draws[site]) for site in first.draws)
    assert all(bool(value.isfinite().all()) for value in first.draws.values())
