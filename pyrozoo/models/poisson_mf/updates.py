"""What Gibbs, EM and CAVI say of the conditionals, and the program in which every event is from one factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Gamma

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Independent
from pyrozoo.contracts.updates import Block, Step, Update
from pyrozoo.core.draws import Values
from pyrozoo.models.poisson_mf.factors import factors_given, rates_given, rates_rate, rates_shape
from pyrozoo.models.poisson_mf.likelihood import column_exposure, row_exposure
from pyrozoo.program.trace import Program, without


def with_events(posterior: Posterior) -> Program:
    """Return the program in which every one of the x_nm events of a cell is from one factor."""

    def program(data: Any) -> None:
        values, (n, m) = without(posterior.model, data, "counts"), places(data)
        theta, eta = values["row_factors"], values["column_factors"]
        K = theta.shape[-1]
        with pyro.plate("event", len(n), dim=-1):
            k = pyro.sample("factor", dist.Categorical(theta.new_ones(K)), infer={"enumerate": "parallel"})
            pyro.factor("events", theta[n, k].log() + eta[m, k].log() + math.log(K))
        seen = torch.ones(data.shape, dtype=theta.dtype)
        if data.unobserved is not None:
            seen[data.unobserved[:, 0], data.unobserved[:, 1]] = 0
        exposure = torch.ones(len(seen), 1).to(theta) if data.exposure is None else data.exposure[:, None]
        known = data.counts * exposure.log()[data.pattern.rows, 0] - torch.lgamma(data.counts + 1)
        pyro.factor("cells", known.sum() - (seen * exposure * (theta @ eta.mT)).sum())

    return program


def places(data: Any) -> tuple[Tensor, Tensor]:
    """Return row and column of every event."""
    count = data.counts.long()
    return data.pattern.rows.repeat_interleave(count), data.pattern.columns.repeat_interleave(count)


def factors(side: int) -> Callable[[Any, Values], Independent]:
    """Return what says the distribution of the factors of rows, 0, or of columns, 1, given those of events."""
    site, other, rates = SITES[side]

    def distribution(solver: Any, values: Values) -> Independent:
        data, like = solver.posterior.data, values[site]
        exposure = (row_exposure, column_exposure)[side](values[other], data)
        one = torch.nn.functional.one_hot(values["factor"][0], like.shape[-1]).to(like)
        counts = torch.zeros_like(like).index_add(1, places(data)[side], one[None])
        found = factors_given(solver.model, side, counts, exposure, values.get(rates))
        return Independent({site: Gamma(*torch.broadcast_tensors(*found))})

    return distribution


SITES = ("row_factors", "column_factors", "row_rates"), ("column_factors", "row_factors", "column_rates")


def rates(side: int) -> Callable[[Any, Values], Sequence[Tensor]]:
    """Return what says shape and rate of the rates of rows, 0, or of columns, 1."""

    def parameters(solver: Any, values: Values) -> Sequence[Tensor]:
        shape, rate = rates_given(solver.model, values["row_factors"], values["column_factors"])[side]
        return [torch.full_like(rate, shape), rate]

    return parameters


UPDATES = tuple(
    Update(f"{side}_rates", ("gibbs",), rates(i), (rates_given, rates_shape, rates_rate))
    for i, side in enumerate(("row", "column"))
)
BLOCKS = tuple(Block((SITES[side][0],), "gibbs", factors(side), with_events) for side in (0, 1))
ORDER = (("row_factors",), ("column_factors",), ("row_rates",), ("column_rates",))
STEPS = (Step("em", with_events, order=ORDER), Step("cavi", with_events, in_turn=True))
NOT_HELD = {"stochastic_cavi": "cavi's update on minibatches, whose sums are estimates"}
