"""What Gibbs and EM say of the conditionals, and the program with a Polya-Gamma variable of every row in it."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Independent
from pyrozoo.contracts.updates import Block, Drawn, Step
from pyrozoo.core.draws import Values
from pyrozoo.math.natural_normal import NaturalNormal
from pyrozoo.program.trace import Program, without


def with_weights(posterior: Posterior) -> Program:
    """Return the program in which a row has a weight omega, given which it is normal; of linear regression the model's.

    Given omega, whatever it is, p(y | psi) is prop. to exp((y - 1/2) psi - omega psi^2 / 2) (Polson, Scott and Windle
    2013, JASA 108, theorem 1). What omega itself is says nothing of the coefficients.
    """
    m: Any = posterior.model

    def program(data: Any) -> None:
        psi = m.design(data) @ without(m, data, "response")["coefficients"]
        y, seen = data.filled[:, 0], data.observed[:, 0]
        with pyro.plate("weight", len(y), dim=-1):
            omega = pyro.sample("omega", dist.Exponential(torch.ones_like(y)))
            pyro.factor("response", torch.where(seen, (y - 0.5) * psi - 0.5 * omega * psi.square(), 0.0))

    return posterior.program if m.linear else program


def expected_weights(solver: Any, state: Any) -> Values:
    """Return E omega of every row: what the slope of the program's own likelihood says, of a quadratic one."""
    if solver.model.linear:
        return {}
    psi = (state.coefficients @ solver.posterior.design.mT).detach()
    y = solver.data.filled[:, 0]
    with torch.enable_grad():
        leaf = psi.requires_grad_(True)
        (slope,) = torch.autograd.grad(dist.Bernoulli(logits=leaf).log_prob(y).sum(), leaf)
    return {"omega": (y - 0.5 - slope) / psi.detach()}


def coefficients(solver: Any, values: Values) -> Any:
    """Return the distribution of coefficients given weights, and of linear regression of the noise's variance, too."""
    p = solver.posterior
    if not p.model.linear:
        return Independent({"coefficients": NaturalNormal.of(p.precision(values["omega"]), p.pull).distribution})
    q = p.conjugate[1]
    return Drawn(
        lambda: dict(zip(("coefficients", "noise_variance"), q.sample(), strict=True)),
        lambda at: q.log_prob(at["coefficients"], at["noise_variance"]),
    )


BLOCKS = (Block(("coefficients", "noise_variance"), "gibbs", coefficients, with_weights),)
STEPS = (Step("em", with_weights, local=expected_weights),)
NOT_HELD = {
    "ep": "sites of an approximation, which are no conditionals",
    "exact": "no update: a grid",
    "gibbs, omega": "a sampler of its own, held to the moments of its distribution",
    "jaakkola_jordan": "where bounds touch, which is no site",
}
