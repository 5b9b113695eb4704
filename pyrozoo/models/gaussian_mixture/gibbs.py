"""Gibbs sampling with all chains in one batch, and moves with the parameters summed out."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.core.errors import NotApplicable
from pyrozoo.models.gaussian_mixture.conjugate import Components
from pyrozoo.models.gaussian_mixture.em import State
from pyrozoo.models.gaussian_mixture.likelihood import Sums
from pyrozoo.models.gaussian_mixture.posterior import Posterior

ROUNDS = 3
"""Rounds of swaps of a sweep."""


class Solver(solver.PointSolver, kind="samples", objective="log_joint", state=State, by_row=()):
    """Blocked Gibbs: assignments and missing cells given the parameters, then the parameters given both.

    With ``stick_breaking`` labels are swapped between the two (Papaspiliopoulos and Roberts 2008, Biometrika 95, with
    weights and components summed out): sticks are ordered, and a cluster would keep its place for long. The objective
    is log p(X, Theta) of the state before the sweep.

    Args:
        collapsed: Whether assignments are drawn once more, one row after another, weights, means and covariances
            summed out (Neal 2000, J. Comput. Graph. Stat. 9, algorithm 3): slower, and less bound to where clusters
            are. The rows must be in one process, and ``spherical`` does not have it.
    """

    def __init__(self, posterior: Posterior, *, collapsed: bool = False):
        super().__init__(posterior)
        self.collapsed, self.prior = collapsed, posterior.prior
        if collapsed and (posterior.shards is not None or self.model.covariance_type == "spherical"):
            said = (
                "solver.collapsed=true goes through rows one by one: they cannot be in shards, nor clusters spherical"
            )
            raise NotApplicable(f"{said}; type solver.collapsed=false")

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Do one sweep; return the log joint of the argument."""
        known, keep = self.posterior.known(vars(state)), None if not self.collapsed else list[Any]()
        sums, evidence = self.posterior.total(lambda part: part.layout.expect(known, sample=True, keep=keep))
        if keep is not None:
            z, x = (torch.cat(parts, -1) for parts in list(zip(*keep, strict=True))[1:])
            sums = self.scan(z, x, sums)
        if self.model.weight_prior == "stick_breaking":
            sums = self.swapped(sums)
        return State(**self.prior.given(sums).sample()), solver.Info(evidence + self.prior.log_prob(vars(state)))

    def swapped(self, sums: Sums) -> Sums:
        """Swap neighbouring labels at random, given assignments and with all else summed out.

        Of a swap only the sticks of these two know, so that every other pair moves at once.
        """
        (C, K), counts = sums.counts.shape, sums.counts
        order = torch.arange(K, device=counts.device).repeat(C, 1)
        for first in (0, 1) * ROUNDS:
            left = torch.arange(first, K - 1, 2, device=counts.device)
            new = order.clone()
            new[:, left], new[:, left + 1] = order[:, left + 1], order[:, left]
            after, before = (self.prior.weights.log_marginals(counts.gather(1, each)) for each in (new, order))
            gain = after - before
            stays = torch.rand_like(gain[:, left]).log() >= gain[:, left] + gain[:, left + 1]
            for at in (left, left + 1):
                new[:, at] = torch.where(stays, order[:, at], new[:, at])
            order = new
        return sums.ordered(order)

    def scan(self, z: Int[Tensor, "C N"], x: Float[Tensor, "C D N"], sums: Sums) -> Sums:
        """Draw the component of one row after another given those of all others; return the new sums."""
        layout = self.posterior.layout
        for i in range(z.shape[1]):
            design = layout.design(x[..., i : i + 1]) if self.model.matrices else layout.design(slice(i, i + 1))[None]
            row = layout.sums(design.mT)
            left = Sums.over([sums, row.times(-_one(z[:, i], sums.counts))])
            logits = predictive(self.prior.given(left), x[..., i], row.seen)
            chosen = (logits - torch.empty_like(logits).exponential_().log()).argmax(-1)
            sums = Sums.over([left, row.times(_one(chosen, sums.counts))])
        return sums


def _one(z: Int[Tensor, C], like: Float[Tensor, "C K"]) -> Float[Tensor, "C K"]:
    return torch.zeros_like(like).scatter_(1, z.unsqueeze(-1), 1.0)


def predictive(q: Components, x: Float[Tensor, "C D"], seen: Tensor) -> Float[Tensor, "C K"]:
    """Return log p(z = k, x) of a new row, the parameters summed out: Student's t (Murphy 2007, eq. 258)."""
    s, size, away = q.state, q.size, x.unsqueeze(1) - q.state.mean
    nu, c = q.each(q.covariance.degrees), s.precision / (s.precision + 1)
    if q.model.matrices:
        factor = q.factor(s.spread)
        away = torch.linalg.solve_triangular(factor, away.unsqueeze(-1), upper=False)
        squares, logs = away.square().sum(-2), 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    else:
        squares, logs = away.square() / s.spread, s.spread.log()
    gammas = torch.lgamma((nu + 1) / 2) - torch.lgamma((nu + 1 - size) / 2)
    each = gammas + 0.5 * (size * (c.log() - math.log(math.pi)) - logs - (nu + 1) * torch.log1p(c * squares))
    return (each * seen).sum(-1) + q.weights.log_mean
