"""EM with Laplace's approximation of every row's latent vector: a normal at the mode, with the curvature there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info
from pyrozoo.core.errors import SettingError
from pyrozoo.math.linear_algebra import covariance_factor
from pyrozoo.math.newton import Evaluated, maximise
from pyrozoo.math.quadrature import cubature
from pyrozoo.models.categorical_fa.layout import Block, Layout, Matrices, Numbers, Parameters, Vectors
from pyrozoo.models.categorical_fa.likelihood import evaluate_rows, find_modes
from pyrozoo.models.categorical_fa.maximisation import EM, Globals, Points, log_prior
from pyrozoo.models.categorical_fa.posterior import Posterior

DELTA_ROUNDS = 3
"""Rounds of mean given covariance and covariance given mean in the delta variant."""


@dataclass(frozen=True)
class State(Globals):
    """The global sites, and the mean of q(z_u) of the last E-step, where the next one starts."""

    q_mean: Float[Tensor, "C N d"]


class Solver(EM, kind="point", objective="log_joint_laplace", state=State, by_row=("q_mean",)):
    """EM with q(z_u) = N(mode, (- Hessian)^-1) of log p(x_u, z_u).

    Laplace variational inference: Wang and Blei 2013, JMLR 14; Tierney and Kadane 1986, JASA 81. E-step: modes by
    Newton's method. M-step: mean and covariance of the latent vector in closed form; contrasts and hidden units by
    Newton steps, expectations over q by a rule of 2d points that is exact to third order. The objective is Laplace's
    log evidence of all rows plus the log prior of the global sites before the step. It is no bound, and may fall:
    where a row has few answers and loadings are free, EM does not end at its maximum but beyond it, at loadings that
    are too large (``exact`` is the yardstick).

    Args:
        variant: ``laplace``, or ``delta``: q's mean maximises the bound with the log joint density replaced by its
            second-order expansion, f + tr(f'' V) / 2, given V; the objective is that bound (ibid., section 3.2).

    Raises:
        SettingError: The delta variant with hidden units, whose third derivatives it would need.
    """

    def __init__(self, posterior: Posterior, *, variant: Literal["laplace", "delta"] = "laplace"):
        if variant == "delta" and posterior.model.hidden_units:
            raise SettingError("solver.variant=delta needs model.hidden_units=0: it takes third derivatives of logits")
        super().__init__(posterior)
        self.variant = variant

    def init(self, chains: int) -> State:
        """Return starting values of the sites (``Posterior.initial``), modes at the prior's mean."""
        return State(**self.start(chains)[0])

    def step(self, state: State) -> tuple[State, Info]:
        """Update q(z), then the global sites; return the objective of the argument."""
        sites, points = self.sites(state), {}
        p = self.layout.parameters(sites)

        def expect(part: Posterior, start: Vectors) -> tuple[Any, Any]:
            mean, factor, value = self.expected(part.layout, p, start)
            points[part] = partial(_points, part.layout, mean, factor)
            flat = factor.transpose(1, 2).flatten(2)
            return mean, (value, mean.sum(1), mean.mT @ mean + flat @ flat.mT)

        mean, (value, first, second) = self.posterior.over_rows(expect, state.q_mean)
        now = self.maximise(sites, first, second, points)
        return State(**self.stored(now), q_mean=mean), Info(log_prior(self.model, sites) + value)

    def expected(self, layout: Layout, p: Parameters, start: Vectors) -> tuple[Vectors, Matrices, Float[Tensor, C]]:
        """Return mean and factor of the covariance of q of rows, and Laplace's log evidence of all of them."""
        mean, d = torch.empty_like(start), start.shape[-1]
        factor, total = mean.new_empty(*mean.shape, d), mean.new_zeros(len(mean))
        for block in layout.blocks(len(mean) * layout.num_categories * 4):
            at = (slice(None), block.rows)
            modes = find_modes(layout, p, block, start[at])
            mean[at], factor[at], value = modes.mode, modes.factor, modes.log_joint
            if self.variant == "delta":
                mean[at], factor[at], value = delta_rows(layout, block, p, mean[at], factor[at])
            volume = factor[at].diagonal(dim1=-2, dim2=-1).log().sum(-1)
            total = total + (value + volume + 0.5 * d * math.log(2 * math.pi)).sum(1)
        return mean, factor, total


def _points(layout: Layout, mean: Vectors, factor: Matrices) -> Iterator[Points]:
    """Yield points that stand for q of rows, exact to third order."""
    at = cubature(mean.shape[-1], mean)
    for block in layout.blocks(len(mean) * layout.num_categories * at.shape[1]):
        z = mean[:, block.rows].unsqueeze(-1) + factor[:, block.rows] @ at
        weights = z.new_full((len(z), z.shape[1], z.shape[3]), 1 / at.shape[1])
        yield Points(block, z.transpose(1, 2), weights)


def third_moments(layout: Layout, block: Block, p: Parameters, z: Vectors, covariance: Matrices) -> Vectors:
    """Return the gradient in z of tr(K(z) V), K minus the Hessian of the log likelihood.

    K = sum_i m_i Cov_pi(beta_i), whose derivatives are third central moments: with delta_k = beta_k - E beta, the
    gradient is sum_ik m_i pi_ik (delta_k^T V delta_k) delta_k.
    """
    logits = p.logits(z.mT)
    prob, _ = layout.softmax(logits)
    d = z.shape[-1]
    centred = [
        p.beta[..., s, None] - layout.spread(layout.sums(prob * p.beta[..., s, None])) for s in range(d)
    ]  # [C, P, B] each
    length = torch.zeros_like(prob)
    for s in range(d):
        for t in range(d):
            length += centred[s] * centred[t] * covariance[..., s, t].unsqueeze(1)
    weight = prob * length * layout.spread(block.answers.expand(len(prob), -1, -1))
    return torch.stack([(weight * each).sum(1) for each in centred], -1)


def evaluate_delta(layout: Layout, block: Block, p: Parameters, z: Vectors, covariance: Matrices) -> Evaluated:
    """Return f + tr(f'' V) / 2 of every row, its gradient, and minus the Hessian of f in the place of its own."""
    value, gradient, curvature = evaluate_rows(layout, block, p, z)
    value = value - 0.5 * (curvature * covariance).sum((-1, -2))
    return value, gradient - 0.5 * third_moments(layout, block, p, z, covariance), curvature


def delta_rows(
    layout: Layout, block: Block, p: Parameters, mean: Vectors, factor: Matrices
) -> tuple[Vectors, Matrices, Numbers]:
    """Return mean, factor of the covariance, and f + tr(f'' V) / 2 + d / 2, of q by the delta method."""
    for _ in range(DELTA_ROUNDS):
        covariance = factor @ factor.mT
        mean, _ = maximise(lambda z, V=covariance: evaluate_delta(layout, block, p, z, V), mean)  # type: ignore[misc]
        value, _, curvature = evaluate_rows(layout, block, p, mean)
        factor = covariance_factor(curvature)  # V = (- f'')^-1, where tr(f'' V) = -d
    return mean, factor, value
