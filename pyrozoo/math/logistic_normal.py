"""A normal density times a logistic function of its variable: mass, mean and variance, by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

NODES, HALVINGS, BENDS, NEGLIGIBLE = 24, 16, (-8.0, 0.0, 8.0), 36.0
"""Of the moments of one row: nodes of each piece, steps of a search, where pieces meet, and what a log density may fall
below its mode."""


def tilted(
    mean: Float[Tensor, "*b"], variance: Float[Tensor, "*b"], sign: Float[Tensor, "*b"]
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Return log mass, mean and variance of N(psi; mean, variance) sigma(sign psi), by quadrature.

    Gauss-Legendre rules between the mode, where the logistic function bends, and where the density is negligible.
    """
    centre = mean * sign

    def log_density(at: Tensor) -> Tensor:
        return logsigmoid(at) - 0.5 * (at - centre).square() / variance

    def bisected(left: Tensor, right: Tensor, beyond: Callable[[Tensor], Tensor]) -> Tensor:
        for _ in range(HALVINGS):
            middle = (left + right) / 2
            past = beyond(middle)
            left, right = torch.where(past, left, middle), torch.where(past, middle, right)
        return right

    # At the mode psi - mean = variance sigma(-psi); there the density is log-concave, and falls to either side.
    mode = bisected(centre, centre + variance, lambda at: at - centre > variance * torch.sigmoid(-at))
    least = log_density(mode) - NEGLIGIBLE
    width = (2 * NEGLIGIBLE * variance).sqrt()
    both = torch.stack([mode - width, mode + width])
    low, high = bisected(mode.expand_as(both), both, lambda at: log_density(at) < least).unbind(0)
    ends = [low, mode, high, *(torch.minimum(torch.maximum(low, low.new_tensor(bend)), high) for bend in BENDS)]
    pieces = torch.stack(ends, -1).sort(-1).values
    nodes, weights = (mean.new_tensor(each) for each in _rule())
    half, start = pieces.diff(dim=-1).unsqueeze(-1) / 2, pieces[..., :-1].unsqueeze(-1)
    at = (start + half * (1 + nodes)).flatten(-2)
    logs = logsigmoid(at) - 0.5 * (at - centre.unsqueeze(-1)).square() / variance.unsqueeze(-1)
    logs = logs + (half * weights).flatten(-2).log()
    log_mass = logs.logsumexp(-1)
    share = (logs - log_mass.unsqueeze(-1)).exp()
    middle = (share * at).sum(-1)
    spread = (share * (at - middle.unsqueeze(-1)).square()).sum(-1)
    return log_mass - 0.5 * (2 * torch.pi * variance).log(), middle * sign, spread


@cache
def _rule() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(NODES)
