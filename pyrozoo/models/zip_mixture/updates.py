"""What EM, CAVI and Gibbs say of the conditionals, and the program with b, whether a cell is on, in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import Step, Update
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.models.zip_mixture import cavi, em
from pyrozoo.models.zip_mixture.likelihood import Layout, Sums, zero_is_on
from pyrozoo.program.trace import Program


def with_switches(posterior: Posterior) -> Program:
    """Return the program in which b_id says of every zero whether its cell is on; a cell above 0 is.

    Raises:
        NotApplicable: Counts are negative binomial: no conditional of their sizes is known.
    """
    m: Any = posterior.model
    if m.overdispersed:
        raise NotApplicable("sizes of negative binomials are not conjugate")

    def program(data: Any) -> None:
        x, seen, (N, D) = data.filled, data.observed, data.shape
        weights = pyro.sample("weights", dist.Dirichlet(m.concentration(x)))
        columns = pyro.plate("column", D, dim=-1)
        with pyro.plate("component", m.num_components, dim=-2), columns:
            on_prob = pyro.sample(
                "on_prob", dist.Beta(x.new_tensor(m.on_prob_alpha), x.new_tensor(m.on_prob_beta))
            )  # fmt: skip
            rate = pyro.sample("rate", dist.Gamma(x.new_tensor(m.rate_shape), x.new_tensor(m.rate_rate)))
        index = torch.arange(D, device=x.device)
        with pyro.plate("row", N, dim=-2):
            z = pyro.sample("assignment", dist.Categorical(weights), infer={"enumerate": "parallel"})
            with columns:
                omega, mean = Vindex(on_prob)[z, index], exposure(data) * Vindex(rate)[z, index]
                pyro.sample("above", dist.Bernoulli(omega).mask(seen & (x > 0)), obs=torch.ones_like(x))
                # Of other cells it is a coin that nothing depends on.
                chance = torch.where(seen & (x == 0), omega, 0.5)
                on = pyro.sample("on", dist.Bernoulli(chance), infer={"enumerate": "parallel"})
                pyro.sample("counts", dist.Poisson(mean).mask(seen & ((x > 0) | (on == 1))), obs=x)

    return program


def sums(solver: Any, values: Values) -> Sums:
    """Return what the solvers need of the data, given z and b."""
    m, data = solver.model, solver.data
    z = values["assignment"].squeeze(-1).long()
    r = torch.nn.functional.one_hot(z, m.num_components).to(data.values.dtype).mT  # [C, K, N]
    positive, zero = data.filled > 0, data.observed & (data.filled == 0)
    on = positive + zero * values["on"]
    exposed = r @ (exposure(data) * on)
    return Sums(r.sum(-1), r @ data.filled, r @ on, r @ data.observed.to(r.dtype), exposed)


def exposure(data: Any) -> Tensor:
    """Return the exposure of every row, [N, 1]."""
    ones = data.filled.new_ones(len(data.filled), 1)
    return ones if data.exposure is None else data.exposure.unsqueeze(-1)


def weights(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return the Dirichlet's concentration."""
    return [cavi.State.given(solver.posterior, sums(solver, values)).concentration]


def on_prob(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return the Beta's parameters."""
    found = cavi.State.given(solver.posterior, sums(solver, values))
    return [found.on_alpha, found.on_beta]


def rate(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return the Gamma's shape and rate."""
    found = cavi.State.given(solver.posterior, sums(solver, values))
    return [found.shape, found.rate]


def assignment(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return log p(z_i = k | x_i), b summed out."""
    layout = solver.posterior.layout
    r, _ = layout.responsibilities(layout.given(values), slice(None))
    return [r.transpose(0, 1).log().unsqueeze(-2)]  # [C, N, 1, K]


def on(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return log p(b = 0) and log p(b = 1) of every zero, given its component."""
    z = values["assignment"].long().expand(-1, -1, solver.data.shape[1])
    omega, mean = (values[site].gather(1, z) for site in ("on_prob", "rate"))
    phi = zero_is_on(omega.log(), exposure(solver.data) * mean, torch.log1p(-omega))
    return [torch.stack([torch.log1p(-phi), phi.log()], -1)]


def zeros(posterior: Posterior) -> Tensor:
    """Return which cells can be off."""
    return posterior.data.observed & (posterior.data.filled == 0)


def stepped(site: str) -> Callable[[Any, Values], Sequence[Tensor]]:
    """Return what says where EM takes a site."""

    def moved(solver: Any, values: Values) -> Sequence[Tensor]:
        names = [each.name for each in dataclasses.fields(solver.state_class)]
        new, _ = solver.step(solver.state_class(**{name: values[name] for name in names}))
        return [getattr(new, site)]

    return moved


GIVEN = ("gibbs", "cavi")
UPDATES = (
    Update("assignment", ("gibbs", "em"), assignment, (Layout.responsibilities,)),
    Update("on", ("gibbs", "em"), on, (zero_is_on,), with_switches, zeros),
    Update("weights", GIVEN, weights, (cavi.State.given,), with_switches),
    Update("on_prob", GIVEN, on_prob, (cavi.State.given,), with_switches),
    Update("rate", GIVEN, rate, (cavi.State.given,), with_switches),
    Update("weights", ("em",), stepped("weights"), (em.Solver.maximise,), with_switches),
    Update("on_prob", ("em",), stepped("on_prob"), (em.Solver.maximise,), with_switches),
    Update("rate", ("em",), stepped("rate"), (em.Solver.maximise, em.Solver._best_rates), with_switches),
)
STEPS = (Step("em", with_switches), Step("cavi", with_switches))
NOT_HELD = {"stochastic_em": "em's update on minibatches, whose sums are estimates"}
