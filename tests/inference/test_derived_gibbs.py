"""Gibbs sampling derived from six programs draws from their posteriors: rank statistics, and Geweke's test.

Every row of a table is a data set of its own, with parameters of its own, so that one sampler has many of them at once.
A chain that starts at the parameters that data were drawn from starts at a draw from the posterior, and every sweep
leaves it one. So parameters are as likely to have any rank among draws of later sweeps (Talts et al. 2018), and no
moment may change, however slowly a chain mixes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.seeds import seeded
from pyrozoo.data.table import Table
from pyrozoo.inference.derived import gibbs
from pyrozoo.testing.samplers import geweke

pytestmark = pytest.mark.usefixtures("unchecked", "double")

SITES, COLUMNS = 60, 6
"""Data sets of one sampler, and values of each."""


@dataclass(frozen=True)
class Line(Model):
    """A regression: two coefficients that are drawn together, and a precision."""

    def __call__(self, data: Table) -> None:
        x, at = data.filled, torch.linspace(-1, 2, data.shape[1])
        with pyro.plate("row", len(x), dim=-2):
            precision = pyro.sample("precision", dist.Gamma(x.new_tensor(3.0), 2.0))
            with pyro.plate("coefficient", 2, dim=-1):
                line = pyro.sample("line", dist.Normal(x.new_zeros(()), 1.0))
            with pyro.plate("column", len(at), dim=-1):
                pyro.sample("values", dist.Normal(line[..., :1] + line[..., 1:] * at, precision.rsqrt()), obs=x)


@dataclass(frozen=True)
class Batches(Model):
    """Three batches of two values: a hierarchy whose conditionals all have a family, woven with NUTS."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        with pyro.plate("row", len(x), dim=-2):
            mean = pyro.sample("mean", dist.Normal(x.new_zeros(()), 1.0))
            between, within = (pyro.sample(name, dist.Gamma(x.new_tensor(3.0), 2.0)) for name in ("between", "within"))
            with pyro.plate("batch", 3, dim=-1):
                batch = pyro.sample("batch_mean", dist.Normal(mean, between.rsqrt()))
            with pyro.plate("column", data.shape[1], dim=-1):
                pyro.sample("values", dist.Normal(batch.repeat_interleave(2, -1), within.rsqrt()), obs=x)


@dataclass(frozen=True)
class Seeds(Model):
    """Counts of successes with random effects: logits have no family."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        with pyro.plate("row", len(x), dim=-2):
            alpha = pyro.sample("alpha", dist.Normal(x.new_zeros(()), 1.0))
            tau = pyro.sample("tau", dist.Gamma(x.new_tensor(3.0), 2.0))
            with pyro.plate("column", data.shape[1], dim=-1):
                effect = pyro.sample("effect", dist.Normal(x.new_zeros(()), tau.rsqrt()))
                pyro.sample("values", dist.Binomial(6, logits=alpha + effect), obs=x)


@dataclass(frozen=True)
class Pumps(Model):
    """Failures of pumps: rates and their rate are Gamma, their shape has no family."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        with pyro.plate("row", len(x), dim=-2):
            alpha = pyro.sample("alpha", dist.Gamma(x.new_tensor(3.0), 2.0))
            beta = pyro.sample("beta", dist.Gamma(x.new_tensor(3.0), 2.0))
            with pyro.plate("column", data.shape[1], dim=-1):
                theta = pyro.sample("theta", dist.Gamma(alpha, beta))
                pyro.sample("values", dist.Poisson(2 * theta), obs=x)


@dataclass(frozen=True)
class Kinds(Model):
    """A mixture of two kinds, one of them at 0."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        with pyro.plate("row", len(x), dim=-2):
            share = pyro.sample("share", dist.Beta(x.new_tensor(2.0), 2.0))
            centre = pyro.sample("centre", dist.Normal(x.new_ones(()), 1.0))
            with pyro.plate("column", data.shape[1], dim=-1):
                kind = pyro.sample("kind", dist.Bernoulli(share), infer={"enumerate": "parallel"})
                pyro.sample("values", dist.Normal(kind * centre, 0.7), obs=x)


@dataclass(frozen=True)
class Steps(Model):
    """A hidden chain of three states, each a site: what stays is Beta, and their level is normal."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        with pyro.plate("row", len(x), dim=-2):
            stays = pyro.sample("stays", dist.Beta(x.new_tensor(3.0), 1.0))
            level = pyro.sample("level", dist.Normal(x.new_ones(()), 1.0))
            states, last = [], torch.zeros_like(level)
            for step in range(3):
                up = torch.where(last == 1, stays, 1 - stays)
                last = pyro.sample(f"state_{step}", dist.Bernoulli(up), infer={"enumerate": "parallel"})
                states.append(last)
            where = torch.cat(torch.broadcast_tensors(*states), -1).repeat_interleave(2, -1)
            with pyro.plate("column", data.shape[1], dim=-1):
                pyro.sample("values", dist.Normal(where * level, 0.7), obs=x)


MODELS = (Line(), Batches(), Seeds(), Pumps(), Kinds(), Steps())


def started(model: Model, seed: int) -> tuple[gibbs.Solver, dict[str, torch.Tensor]]:
    """Return a sampler of many data sets, and what they were drawn from."""
    whole = Posterior.of(model, Table.blank(rows=SITES, columns=COLUMNS))
    sites = whole.simulate()
    return gibbs.Solver(whole.on(whole.filled(sites))), sites


def draws(solver: gibbs.Solver, sites: dict[str, torch.Tensor], chains: int, sweeps: int) -> dict[str, torch.Tensor]:
    """Return where chains are after so many sweeps from the same point: what is tuned is tuned before."""
    state = solver.settled(solver.after(40)) if solver.together is not None else solver.init(1)
    state = type(state)(**{name: value.expand(chains, *value.shape[1:]) for name, value in vars(state).items()})
    at = {site: sites[site].expand(chains, *sites[site].shape) for site in solver.joint.sites}
    state = replace(state, **{name: at[site] for site, name in solver.layout.names.items()})
    for _ in range(sweeps):
        state, _ = solver.step(state)
    return solver.layout.values(state)


def judged(
    model: Model, seed: int, solvers: int, chains: int, sweeps: int, slip: Callable[[gibbs.Solver], None] | None = None
) -> tuple[float, float]:
    """Return the largest score of a moment that changes, and the smallest p-value of uniform ranks, of all sites."""
    changes: dict[str, list[torch.Tensor]] = {}
    ranks: dict[str, list[torch.Tensor]] = {}
    with seeded(seed), pyro.validation_enabled(False):
        for _ in range(solvers):
            solver, sites = started(model, seed)
            if slip is not None:
                slip(solver)
            for site, value in draws(solver, sites, chains, sweeps).items():
                truth = sites[site].reshape(SITES, -1)
                found = value.reshape(chains, SITES, -1)
                for power in (1, 2):
                    changes.setdefault(f"{site}^{power}", []).append(
                        (found**power).mean((0, 2)) - (truth**power).mean(1)
                    )
                ties = torch.rand_like(found) < 0.5
                ranks.setdefault(site, []).append(((found < truth) | ((found == truth) & ties)).sum(0)[:, 0])
    scores = [torch.cat(each) for each in changes.values()]
    largest = max(abs(float(each.mean() / each.std() * len(each) ** 0.5)) for each in scores)
    discrete = {site for site in ranks if solver.joint.discrete(site)}
    bins = [torch.cat(ranks[site]) * 5 // (chains + 1) for site in ranks if site not in discrete]
    return largest, min(float(stats.chisquare(torch.bincount(each, minlength=5)).pvalue) for each in bins)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_chains_that_start_at_the_posterior_stay_there(model):
    score, p = judged(model, 5, solvers=1, chains=19, sweeps=12)
    assert score < 4
    assert p > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_many_chains_that_start_at_the_posterior_stay_there(model):
    score, p = judged(model, 6, solvers=20, chains=19, sweeps=40)
    assert score < 4
    assert p > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_parameters_and_data_in_turn_are_from_the_joint_distribution(model):
    scores = geweke(model, Table.blank(rows=1, columns=COLUMNS), gibbs.Solver, sweeps=200, seed=3, warmup=60)
    assert float(scores.abs().max()) < 4.5, scores[scores.abs() > 4]


def test_a_slip_is_found():
    """A precision that is drawn 1.3 times too large."""

    def slip(solver: gibbs.Solver) -> None:
        draw = solver.draw
        solver.draw = lambda site, values: draw(site, values) * (1.3 if site == "precision" else 1.0)

    score, p = judged(Line(), 5, solvers=1, chains=19, sweeps=12, slip=slip)
    assert score > 5
    assert p < 1e-3
