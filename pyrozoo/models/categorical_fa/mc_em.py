"""Variational EM with the expectation of the bound by draws: independent normals, and no bound on the normaliser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts.solver import Answer, Info
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import SettingError
from pyrozoo.math.linear_algebra import standard_normal
from pyrozoo.math.newton import Evaluated, maximise
from pyrozoo.models.categorical_fa.layout import Block, Layout, Parameters, Vectors
from pyrozoo.models.categorical_fa.likelihood import moments
from pyrozoo.models.categorical_fa.maximisation import EM, Globals, Points, log_prior
from pyrozoo.models.categorical_fa.posterior import Posterior

E_STEPS = 3
"""Newton steps of an E-step at most: it starts where the last one ended, and draws are new in the next iteration."""


@dataclass(frozen=True)
class State(Globals):
    """The global sites, q(z_u) = N(lambda_u, diag sigma_u^2), and averages over iterations.

    Attributes:
        q_mean: lambda.
        q_scale: sigma.
        average: Mean of all global sites, flat, since averaging began.
        iterations: Iterations made.
    """

    q_mean: Float[Tensor, "C N d"]
    q_scale: Float[Tensor, "C N d"]
    average: Float[Tensor, "C all"]
    iterations: Int[Tensor, C]


BY_ROW = "q_mean", "q_scale"


class Solver(EM, kind="point", objective="log_joint_bound_estimate", state=State, by_row=BY_ROW):
    """Monte Carlo variational EM: E log p(x_u | z_u) is the mean over z_us = lambda_u + sigma_u eps_us.

    In an iteration all steps see the same draws (eps and -eps in pairs), so that the bound is a function, concave in
    lambda and sigma, which Newton's method maximises; the next iteration has new ones. With draws the iterates never
    settle: from iteration ``burn_in`` on their average is taken, and the run is done when the average moves less than
    the tolerance (Polyak and Juditsky 1992, SIAM J. Control Optim. 30). The objective is the estimated bound plus the
    log prior of the global sites before the step, its error that of the draws.

    Args:
        draws: eps per row and iteration, an even number. A bound that is maximised on few draws fits these draws, too:
            with ten binary answers per row, 20 of them overstate the latent variance by a twentieth, 80 by a hundredth.
        burn_in: Iterations before averaging begins.

    Raises:
        NotApplicable: The model has hidden units, with which the bound is not concave.
        SettingError: A number of draws that is not even, or out of range.
    """

    def __init__(self, posterior: Posterior, *, draws: int = 20, burn_in: int = 50):
        if draws < 2 or draws % 2:
            raise SettingError(f"solver.draws is {draws}; it must be an even number, at least 2")
        if burn_in < 1:
            raise SettingError(f"solver.burn_in is {burn_in}; it must be at least 1")
        posterior.refuse_hidden("mc_em", "its bound is concave for logits that are linear in the latent vector")
        super().__init__(posterior)
        self.pairs, self.burn_in = draws // 2, burn_in

    def init(self, chains: int) -> State:
        """Return starting values of the sites (``Posterior.initial``) and q at the prior."""
        fields, variance = self.start(chains)
        zero = torch.zeros(chains, dtype=torch.long, device=variance.device)
        average = _flat({site: fields[site] for site in self.posterior.sites})
        return State(**fields, q_scale=variance.sqrt(), average=average, iterations=zero)

    def step(self, state: State) -> tuple[State, Info]:
        """Draw eps; update q(z), the global sites, their average; return the estimated bound of the argument."""
        sites, points = self.sites(state), {}
        p = self.layout.parameters(sites)

        def expect(part: Posterior, mean: Vectors, scale: Vectors) -> tuple[Any, Any]:
            half = standard_normal(mean.new_empty(*mean.shape, self.pairs))
            noise = torch.cat([half, -half], -1)
            mean, scale, value = expected(part.layout, p, mean, scale, noise)
            points[part] = partial(_points, part.layout, mean, scale, noise)
            return (mean, scale), (value, mean.sum(1), mean.mT @ mean + torch.diag_embed(scale.square().sum(1)))

        (mean, scale), (value, first, second) = self.posterior.over_rows(expect, state.q_mean, state.q_scale)
        objective = log_prior(self.model, sites) + value
        now = self.maximise(sites, first, second, points)
        count = (state.iterations + 1 - self.burn_in).clamp(min=1)
        flat = _flat(now)
        moved = (flat - state.average) / count.unsqueeze(-1)
        average = state.average + moved
        relative = moved.norm(dim=1) / average.norm(dim=1).clamp(min=1e-12)
        change = torch.where(count > 1, relative, torch.inf)
        new = State(
            **self.stored(now), q_mean=mean, q_scale=scale, average=average, iterations=state.iterations + 1
        )  # fmt: skip
        return new, Info(objective, residual=change)

    def answer(self, state: State) -> Answer:
        """Return the average of the sites."""
        now = self.sites(state)
        parts = state.average.split([value[0].numel() for value in now.values()], 1)
        return Answer(point={s: part.reshape(now[s].shape) for s, part in zip(now, parts, strict=True)})


def expected(
    layout: Layout, p: Parameters, mean: Vectors, scale: Vectors, noise: Float[Tensor, "C N d S"]
) -> tuple[Vectors, Vectors, Float[Tensor, C]]:
    """Return lambda and sigma of rows, from where they are, and the estimated bound of all of them."""
    d, total = mean.shape[-1], mean.new_zeros(len(mean))
    new = torch.empty_like(mean), torch.empty_like(scale)
    for block in layout.blocks(len(mean) * layout.num_categories * noise.shape[-1]):
        at = (slice(None), block.rows)

        def evaluate(x: Tensor, block: Block = block, eps: Tensor = noise[at]) -> Evaluated:
            return evaluate_rows(layout, block, p, x, eps)

        x, found = maximise(evaluate, torch.cat([mean[at], scale[at]], -1), E_STEPS)
        total = total + found[0].sum(1)
        new[0][at], new[1][at] = x[..., :d], x[..., d:]
    return *new, total


def _points(layout: Layout, mean: Vectors, scale: Vectors, noise: Float[Tensor, "C N d S"]) -> Iterator[Points]:
    """Yield the draws that stand for q of rows."""
    for block in layout.blocks(len(mean) * layout.num_categories * noise.shape[-1]):
        at = (slice(None), block.rows)
        z = mean[at].unsqueeze(-1) + scale[at].unsqueeze(-1) * noise[at]
        weights = z.new_full((len(z), z.shape[1], z.shape[3]), 1 / z.shape[3])
        yield Points(block, z.transpose(1, 2), weights)


def _flat(sites: Values) -> Tensor:
    return torch.cat([value.flatten(1) for value in sites.values()], 1)


def evaluate_rows(
    layout: Layout, block: Block, p: Parameters, x: Float[Tensor, "C B d2"], noise: Float[Tensor, "C B d S"]
) -> Evaluated:
    r"""Return the estimated bound of every row at (lambda, sigma), its gradient, and minus its Hessian.

    With z_s = lambda + sigma eps_s, h_s the gradient and K_s minus the Hessian of log p(x_u | z_s): the mean over s of
    (h_s, eps_s h_s) and of [I, diag eps_s]^T K_s [I, diag eps_s]; and, of log q and log p(z), in closed form.
    """
    _, B, d, S = noise.shape
    mean, scale = x[..., :d], x[..., d:]
    z = (mean.unsqueeze(-1) + scale.unsqueeze(-1) * noise).transpose(1, 2)  # [C, d, B, S]
    logits = p.logits(z.flatten(2))
    answers = block.answers.repeat_interleave(S, 1)
    weight, normaliser = layout.weights(logits, answers)
    expected, inner = moments(layout, answers, weight, p.beta)
    linear = block.counts.T @ p.beta  # [C, B, d]
    slope = linear.unsqueeze(2) - expected.unflatten(1, (B, S))  # [C, B, S, d]
    eps = noise.mT
    precision = torch.linalg.inv(p.covariance)
    away = mean - p.mean.unsqueeze(1)
    pulled = away @ precision
    diagonal = precision.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
    likelihood = (z.permute(0, 2, 3, 1) * linear.unsqueeze(2)).sum(-1) - (answers * normaliser).sum(1).unflatten(
        1, (B, S)
    )
    value = likelihood.mean(-1) + p.offset @ block.counts - 0.5 * (away * pulled).sum(-1)
    value = value - 0.5 * (diagonal * scale.square()).sum(-1) + scale.log().sum(-1)
    value = value + 0.5 * d - 0.5 * torch.logdet(p.covariance).unsqueeze(-1)
    gradient = torch.cat([slope.mean(2) - pulled, (slope * eps).mean(2) - diagonal * scale + 1 / scale], -1)
    each = inner.unflatten(1, (B, S))
    cross = (each * eps.unsqueeze(-2)).mean(2)  # K diag(eps)
    both = (each * eps.unsqueeze(-1) * eps.unsqueeze(-2)).mean(2)
    upper = torch.cat([each.mean(2) + precision.unsqueeze(1), cross], -1)
    lower = torch.cat([cross.mT, both + torch.diag_embed(diagonal + scale.pow(-2))], -1)
    return value, gradient, torch.cat([upper, lower], -2)
