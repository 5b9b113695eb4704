"""What Gibbs, EM and CAVI say of the conditionals, and the program with the state of every step in it."""

from __future__ import annotations

from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import Block, Step
from pyrozoo.core.draws import Values
from pyrozoo.math import designs
from pyrozoo.models.hidden_markov import cavi
from pyrozoo.models.hidden_markov import posterior as posteriors
from pyrozoo.program.trace import Program


def with_path(posterior: Posterior) -> Program:
    """Return the program in which every step has a state."""
    emission: Any = cast(posteriors.Posterior, posterior).emission

    def program(data: Any) -> None:
        first, rows = posterior.model.concentration(data.values)
        initial = pyro.sample("initial", dist.Dirichlet(first))
        transition = pyro.sample("transition", dist.Dirichlet(rows).to_event(1))
        logs, starts, state = of_rows(emission.sample()), set(data.steps.starts.tolist()), None
        for t, row in enumerate(data.row_at.tolist()):
            each = initial if t in starts else transition[state]
            state = pyro.sample(f"state_{t}", dist.Categorical(each), infer={"enumerate": "parallel"})
            if row >= 0:
                pyro.factor(f"values_{t}", logs[row][state])

    def of_rows(values: Values) -> torch.Tensor:
        """Return log p(x_i | k), [row, state]."""
        x, seen = emission.data.filled, emission.data.observed
        if "covariance" in values:
            return dist.MultivariateNormal(values["mean"], values["covariance"]).log_prob(x[:, None])
        i, d = (each.flatten() for each in torch.meshgrid(*map(torch.arange, x.shape), indexing="ij"))
        cells = emission.cells({site: value[None] for site, value in values.items()}, i, d)
        found = cells.log_prob(x[i, d][:, None, None])[:, 0]
        return torch.where(seen[i, d][:, None], found, 0.0).unflatten(0, x.shape).sum(1)

    return program


def nodes(solver: Any, state: Any) -> list[Values]:
    """Return points of the factors."""
    factors = solver.q(state)
    chain = [{site: designs.of(each)[:, 0]} for site, each in factors.chain.q.items()]
    q, emission = factors.emission.q, solver.posterior.emission
    if isinstance(q, dict):
        return [*chain, *({site: designs.of(each)[:, 0]} for site, each in q.items())]
    if solver.model.emission == "full":
        outer = designs.inverse_wishart(q.covariance.degrees, q.covariance.scale)[:, 0]
        root = torch.linalg.cholesky(outer) / q.strength[0].sqrt()[:, None, None]
        return [*chain, dict(zip(("covariance", "mean"), designs.scaled(outer, q.mean[0], root), strict=True))]
    outer = designs.inverse_gamma(q.shape, q.rate)[:, 0]
    root = torch.linalg.cholesky(torch.linalg.inv(q.strength[0])) * outer.sqrt()[..., None, None]
    variance, coefficients = designs.scaled(outer, q.centre[0], root)
    return [*chain, emission.outward(coefficients, variance)]


def parameters(solver: Any, values: Values) -> cavi.Factors:
    """Return the distribution of all sites given states."""
    posterior = solver.posterior
    steps, K = posterior.data.steps, solver.model.num_components
    path = torch.cat([values[f"state_{t}"].reshape(1) for t in range(steps.count)])
    one = torch.nn.functional.one_hot(path, K).to(values["initial"])
    later = torch.ones_like(path, dtype=torch.bool).index_fill(0, steps.starts, False).nonzero().flatten()
    sums = posterior.emission.sums(one[:, None], posterior.emission.natural(values))
    return cavi.factors(posterior, one[steps.starts].sum(0)[None], (one[later - 1].T @ one[later])[None], sums)


def holes(model: Any) -> bool:
    """Return whether missing cells are drawn, or have a q: of matrices."""
    return bool(model.emission == "full")


SITES = ("initial", "transition", "variance", "mean", "slope", "covariance", "rate", "probability")
BLOCKS = (Block(SITES, "gibbs", parameters, with_path, holes),)
NOT_HELD = {"gibbs, path": "drawn as it is smoothed, and em holds what smoothing says of states and pairs of them"}
STEPS = (Step("em", with_path, complete=holes), Step("cavi", with_path, nodes=nodes, complete=holes))
