"""hidden_markov: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache

import numpy as np
import pandas as pd
import torch
from scipy.special import gammaln, logsumexp

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.data.sequences import Sequences
from pyrozoo.math.markov_chains import _filter, _one_of
from pyrozoo.models.hidden_markov import gibbs
from pyrozoo.models.hidden_markov.model import HiddenMarkov
from tests.case import Case, Oracle

NAN = float("nan")
MODEL = HiddenMarkov(2, "gaussian", 1.5, 1.2, 0.8, 0.3, 0.9, 0.5, 6.0, 2.0, 1.5, None)
TINY = Sequences.of(
    pd.DataFrame(
        {
            "sequence": list("aaabb"),
            "time": [0, 1, 2, 4, 6],
            "x": [0.1, NAN, 1.4, -0.9, 1.1],
            "y": [0.3, 0.2, NAN, 1.2, 1],
        }
    )
)


def model(emission: str, **changes) -> HiddenMarkov:
    usual = {"num_components": 3, "emission": emission, "num_levels": 3, "initial_concentration": 1.5}
    gentle = {"mean_precision": 4.0} if emission == "autoregressive" else {}  # slopes below 1, as a rule
    return dataclasses.replace(MODEL, **{**usual, **gentle, **changes})


EMISSIONS = ("gaussian", "autoregressive", "poisson", "categorical")


@cache
def exact() -> Oracle:
    """Enumerate every path, those through the gap included; given one, everything is conjugate."""
    m, x = MODEL, TINY.values.numpy()
    K, lengths = m.num_components, TINY.steps.lengths.tolist()
    rows = {int(place): i for i, place in enumerate(TINY.place)}
    starts = np.cumsum([0, *lengths[:-1]])
    first0 = np.full(K, m.initial_concentration)
    pairs0 = np.full((K, K), m.transition_concentration) + m.stay_concentration * np.eye(K)
    log_p, parameters = [], []
    for z in itertools.product(range(K), repeat=sum(lengths)):
        first, pairs = first0.copy(), pairs0.copy()
        for start, length in zip(starts, lengths, strict=True):
            first[z[start]] += 1
            for t in range(start + 1, start + length):
                pairs[z[t - 1], z[t]] += 1
        total = dirichlet(first) - dirichlet(first0) + sum(map(dirichlet, pairs)) - sum(map(dirichlet, pairs0))
        found = np.zeros((4, K, x.shape[1]))
        for k, d in itertools.product(range(K), range(x.shape[1])):
            mine = np.array([x[i, d] for t, i in rows.items() if z[t] == k and not np.isnan(x[i, d])])
            kappa, a, b = m.mean_precision, m.degrees / 2, m.degrees * m.scale**2 / 2
            n, centre = len(mine), (m.mean_precision * m.location + mine.sum()) / (m.mean_precision + len(mine))
            a_n = a + n / 2
            b_n = b + 0.5 * ((mine**2).sum() + kappa * m.location**2 - (kappa + n) * centre**2)
            total += a * np.log(b) - a_n * np.log(b_n) + gammaln(a_n) - gammaln(a) - n / 2 * np.log(2 * np.pi)
            total += 0.5 * np.log(kappa / (kappa + n))
            found[:, k, d] = centre, kappa + n, a_n, b_n
        log_p.append(total)
        parameters.append((first, pairs, found))
    evidence, rng = logsumexp(log_p), np.random.default_rng(0)
    chosen = rng.choice(len(log_p), 100_000, p=np.exp(np.asarray(log_p) - evidence))
    first, pairs, found = (np.stack([each[j] for each in parameters])[chosen] for j in range(3))
    gammas = [rng.gamma(each) for each in (first, pairs)]
    centre, kappa, a_n, b_n = found.swapaxes(0, 1)
    variance = b_n / rng.gamma(a_n)
    draws = {
        "initial": gammas[0] / gammas[0].sum(-1, keepdims=True),
        "transition": gammas[1] / gammas[1].sum(-1, keepdims=True),
        "variance": variance,
        "mean": centre + rng.standard_normal(centre.shape) * np.sqrt(variance / kappa),
    }
    return Oracle(float(evidence), {site: torch.as_tensor(value)[None] for site, value in draws.items()})


def dirichlet(alpha):
    return gammaln(alpha).sum() - gammaln(alpha.sum())


class ForgetsToStay(gibbs.Solver):
    """Plant: the prior of transitions forgets that states stay."""

    def __init__(self, posterior):
        super().__init__(Posterior.of(dataclasses.replace(posterior.model, stay_concentration=0.0), posterior.data))


class FiltersOnly(gibbs.Solver):
    """Plant: states are drawn from what is known up to their step, not backward."""

    def step(self, state):
        emission, steps = self.posterior.emission, self.data.steps
        natural = emission.natural(vars(state))
        filtered, log_scale = _filter(steps, state.initial, state.transition, emission.log_density(natural))
        drawn = _one_of(filtered, torch.rand_like(log_scale))
        follow = torch.ones(steps.count, dtype=torch.bool)
        follow[steps.starts] = False
        later = follow.nonzero().flatten()
        pairs = torch.einsum("nci,ncj->cij", drawn[later - 1], drawn[later])
        new = self.draw(drawn[steps.starts].sum(0), pairs, emission.sums(drawn, natural))
        return self.state_class(**new), Info(log_scale.sum(0))


class HolesAreZero(gibbs.Solver):
    """Plant: missing values are read as zeros."""

    def __init__(self, posterior):
        super().__init__(posterior.on(dataclasses.replace(posterior.data, values=posterior.data.filled)))


class IgnoresData(gibbs.Solver):
    """Plant: draws from the prior, whatever the data."""

    def draw(self, first, pairs, sums):
        return super().draw(*(torch.zeros_like(each) for each in (first, pairs, sums)))


def lose(data: Sequences) -> Sequences:
    return dataclasses.replace(data.hide(torch.tensor([1, 4, 6]), torch.tensor([0, 0, 0])), hidden=None)


CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"sequences": 2, "steps": 4, "columns": 1},
    larger={"sequences": 15, "steps": 20, "columns": 2},
    lose=lose,
    settings={
        "em": {"restarts": 5},
        "cavi": {"restarts": 5},
        "gibbs": {"warmup": 100, "draws": 300, "thin": 1},
        "svi": {
            "max_steps": 300,
            "restarts": 2,
            "restart_steps": 20,
            "window": 100,
            "draws": 200,
            "evaluation_draws": 100,
        },
        "nuts": {"chains": 2, "warmup": 30, "draws": 30, "max_tree_depth": 5},
        "laplace": {"restarts": 3, "draws": 200},
    },
    elbo_gap=3.0,
    laplace_error=2.0,
    bad={
        "infinite": (np.array([[1, np.inf], [0, 3]]), "column_1"),
        "empty": (np.empty((0, 3)), "empty"),
        "text": (np.array([["a", "b"], ["c", "d"]]), "not numbers"),
        "two rows at a time": (pd.DataFrame({"sequence": [1, 1], "time": [3, 3], "x": [0.1, 0.2]}), "time 3"),
        "half a step": (pd.DataFrame({"sequence": [1, 1], "time": [0.5, 1], "x": [0.1, 0.2]}), "whole number"),
        "too large": (np.array([[1e200], [1.0]]), "too large"),
    },
    odd={
        "one row": np.array([[0.5, 3.0, 1]]),
        "one column": np.array([[0.0], [3], [1], [0]]),
        "constant": np.full((6, 2), 3.0),
        "missing row": np.array([[NAN, NAN], [1, 2], [0, 3]]),
        "missing column": np.array([[NAN, 1.0], [NAN, 2.0]]),
        "large numbers": 1e8 + np.random.default_rng(0).standard_normal((20, 2)),
        "sequences of one step": pd.DataFrame({"sequence": range(5), "x": [0.0, 1, 2, 0.5, 1]}),
        "a long gap": pd.DataFrame({"time": [0, 500], "x": [0.0, 1]}),
        "an outlier": np.array([[0.1], [0.2], [1e5], [0.3], [0.2]]),
    },
    bugs={"holes": HolesAreZero, "filter": FiltersOnly, "stay": ForgetsToStay, "data": IgnoresData},
)
