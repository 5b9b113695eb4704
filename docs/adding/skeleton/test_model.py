"""my_model: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache

import numpy as np
import torch
from scipy.special import logsumexp

from pyrozoo.contracts.solver import Solver
from pyrozoo.data.table import Table
from pyrozoo.models.my_model.model import MyModel
from pyrozoo.models.my_model.posterior import Posterior
from tests.case import Case, Oracle, solver_class

# FILL imports: what your lines need beside these

NAN = float("nan")
MODEL = MyModel(...)  # FILL model: small, with hyper-parameters that are all different, so that mixing them up shows
TINY = Table.of(np.array(...))  # FILL tiny: about 5 rows by 2 columns, at least one cell missing


@cache
def exact() -> Oracle:
    """Enumerate every assignment of the rows; given one, everything is conjugate."""
    m, x = MODEL, TINY.values.numpy()
    rng = np.random.default_rng(0)
    log_p, posteriors = [], []  # log p(x, z) and the parameters of p(sites | x, z), of every z
    ...  # FILL enumerate: fill both lists, by sums over the definition: with nothing that solvers use
    evidence = logsumexp(log_p)
    chosen = rng.choice(len(log_p), 100_000, p=np.exp(np.asarray(log_p) - evidence))
    ...  # FILL exact_draws: `draws`, "site" -> a draw given the chosen assignment, [100_000, *event]
    return Oracle(float(evidence), {site: torch.as_tensor(value)[None] for site, value in draws.items()})


def lose(table: Table) -> Table:
    """Lose some cells, always the same ones."""
    values = table.values.clone()
    values[2:, 1] = NAN
    return dataclasses.replace(table, values=values)


def sampler(posterior: Posterior, values: torch.Tensor) -> Solver:
    """Plant: Gibbs of other values than the data's."""
    return solver_class("my_model", "gibbs")(posterior.on(dataclasses.replace(posterior.data, values=values)))


def with_zeros(posterior: Posterior) -> Solver:
    """Plant: missing cells are read as zeros."""
    return sampler(posterior, posterior.data.filled)


def without_data(posterior: Posterior) -> Solver:
    """Plant: draws from the prior, whatever the data; ranks of parameters alone would pass it."""
    return sampler(posterior, torch.full_like(posterior.data.values, NAN))


CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"rows": 6, "columns": 3},
    lose=lose,
    larger={"rows": 400, "columns": 8},
    settings={
        "em": {"restarts": 5},
        "gibbs": {"warmup": 100, "draws": 300, "thin": 1},
        "svi": {"max_steps": 300, "restarts": 2, "restart_steps": 20, "window": 100, "draws": 200,
                "evaluation_draws": 100},
        "nuts": {"chains": 2, "warmup": 30, "draws": 30, "max_tree_depth": 5},
        "laplace": {"restarts": 3, "draws": 200},
    },
    elbo_gap=5.0,
    laplace_error=2.0,
    bad={
        ...  # FILL bad: "name": (data as a user gives it, what the message must name)
    },
    odd={
        ...  # FILL odd: "name": data that is unusual but must be fitted
    },
    bugs={
        # FILL bugs: "name": posterior -> a sampler with a mistake in it; none until there is a sampler
    },
)  # fmt: skip
