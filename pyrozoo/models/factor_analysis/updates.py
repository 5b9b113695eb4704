"""What Gibbs, of tables without holes, EM and CAVI say of the conditionals, in the program that keeps the factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Independent, Info
from pyrozoo.contracts.updates import Block, Step, Update
from pyrozoo.core.draws import Values
from pyrozoo.math import designs
from pyrozoo.models.factor_analysis import cavi, em
from pyrozoo.models.factor_analysis.gibbs import Solver
from pyrozoo.models.factor_analysis.regression import Prior, Regression
from pyrozoo.program.trace import Program


def with_factors(posterior: Posterior) -> Program:
    """Return the program in which the factors are a site."""
    found: Program = replace(posterior.model, sum_out_factors=False)
    return found


def regression(solver: Any, values: Values) -> Regression:
    """Return the columns' normal-inverse-gammas given the factors."""
    filler = solver.filler(solver.posterior)
    filler.forget(len(values["mean"]), values["mean"])
    found: Regression = solver.prior.regress(filler.moments(values["factors"]), filler.squares())
    return found


def _joint(solver: Any, values: Values) -> tuple[Regression, Tensor, Tensor, Tensor]:
    """Return the regression, its precisions over noise variances, and where coefficients are from its mean."""
    found = regression(solver, values)
    precision = (found.factor @ found.factor.mT)[:, found.layout.group] / values["noise_variance"][..., None, None]
    beta = solver.layout.coefficients(values)
    return found, precision, beta, beta - found.mean


def loadings(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return precision, and precision times mean, of w_d given mu_d and sigma_d^2."""
    found, precision, _, away = _joint(solver, values)
    inner, cross = precision[..., :-1, :-1], precision[..., :-1, -1]
    return [inner, (inner @ found.mean[..., :-1].unsqueeze(-1)).squeeze(-1) - cross * away[..., -1:]]


def mean(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return precision, and precision times mean, of mu_d given w_d and sigma_d^2."""
    found, precision, _, away = _joint(solver, values)
    corner, cross = precision[..., -1, -1], precision[..., -1, :-1]
    middle = found.mean[..., -1] + found.layout.offset - (cross * away[..., :-1]).sum(-1) / corner
    return [corner[..., None, None], (corner * middle).unsqueeze(-1)]


def noise_variance(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return shape and scale of sigma_d^2 given w_d and mu_d."""
    found, _, beta, _ = _joint(solver, values)
    shape = 0.5 * (found.degrees + beta.shape[-1])
    scale = 0.5 * (found.scale + found.away(beta))
    return [shape.expand_as(scale), scale]


def factors(solver: Any, values: Values) -> Independent:
    """Return the distribution of the rows' factors given the columns."""
    filler, beta = solver.filler(solver.posterior), solver.layout.coefficients(values)
    filler.forget(1, values["mean"])
    mean, root = solver.factors_of_filled(filler, beta, values["noise_variance"])
    return Independent({"factors": MultivariateNormal(mean, (root.mT @ root).unsqueeze(1))})


BLOCKS = (Block(("factors",), "gibbs", factors, with_factors, lambda model: True),)
UPDATES = tuple(
    Update(site, ("gibbs",), said, (Prior.regress, Solver._one_by_one), with_factors, complete=lambda model: True)
    for site, said in (("loadings", loadings), ("mean", mean), ("noise_variance", noise_variance))
)


def unexpanded(solver: em.Solver, state: em.State) -> tuple[em.State, None]:
    """Return where the M-step comes to before the parameter expansion: the expansion is undone."""
    sites, unturn = solver.maximise(solver.posterior.moments(solver.layout.known(vars(state))))
    beta = torch.cat([sites["loadings"], sites["mean"].unsqueeze(-1)], -1) @ unturn.mT
    return em.State(beta[..., :-1], beta[..., -1], sites["noise_variance"]), None


def climbed(solver: cavi.Solver, state: cavi.State) -> tuple[cavi.State, Info]:
    """Return a step without parameter expansion."""
    return cavi.Solver(solver.posterior, expand=False).step(state)


def nodes(solver: Any, state: Any) -> list[Values]:
    """Return points of q(w, mu, sigma^2)."""
    q = solver.regression(state)
    noise = designs.inverse_gamma(0.5 * q.degrees, 0.5 * q.scale[0])
    inverse = torch.linalg.inv(q.factor[0, q.layout.group]).mT
    noise, beta = designs.scaled(noise, q.mean[0], inverse * noise.sqrt()[..., None, None])
    return [q.layout.point(beta, noise)]


STEPS = (Step("em", with_factors, moved=unexpanded), Step("cavi", with_factors, nodes=nodes, moved=climbed))
NOT_HELD = {
    "pca": "no update: one decomposition of a matrix",
    "ppca": "no update: one decomposition of a matrix",
    "stochastic_em": "em's update on minibatches, whose sums are estimates",
}
