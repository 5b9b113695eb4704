"""Pareto-smoothed importance sampling (Vehtari et al. 2024, JMLR 25:72), of many units at once.

The largest weights of a unit are replaced by quantiles of a generalised Pareto distribution fitted to them (Zhang and
Stephens 2009, Technometrics 51), whose shape k says whether the weights can be believed.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BLOCK = 2**19
"""Numbers held at a time while tails are fitted: what stays in the cache of one core."""

FEWEST = 4
"""Weights of a tail up to which it is left as it is; k is infinite then."""


def tail_size(draws: int, efficiency: float = 1.0) -> int:
    """Return how many of the largest weights are a tail; ``efficiency`` is effective draws per draw."""
    return min(math.ceil(min(draws / 5, 3 * (draws / efficiency) ** 0.5)), draws - 1)


def tail_shapes(log_weights: Float[Tensor, "unit draw"], efficiency: float = 1.0) -> Float[Tensor, unit]:
    """Return k of weights, unit by unit."""
    x = log_weights - log_weights.amax(1, keepdim=True)
    return torch.cat([_smooth(part, efficiency)[0] for part in x.split(_step(x, efficiency))])


def leave_one_out(
    logs: Float[Tensor, "unit draw"], efficiency: float = 1.0
) -> tuple[Float[Tensor, unit], Float[Tensor, unit]]:
    """Return log p(unit | the others) and k, from log p(unit | draw): weights are 1 / p(unit | draw), smoothed."""
    elpd, shapes = [], []
    for part in logs.split(_step(logs, efficiency)):
        least = part.amin(1, keepdim=True)
        x = least - part
        k, tail, smoothed, inside = _smooth(x, efficiency)
        # sum over draws of w p, and of w: what is no tail has w p = 1, each in units of the largest w.
        tails, news = torch.where(inside, tail.exp(), 0.0).sum(1), torch.where(inside, smoothed.exp(), 0.0).sum(1)
        products = x.shape[1] - inside.sum(1) + torch.where(inside, (smoothed - tail).exp(), 0.0).sum(1)
        elpd.append(least.squeeze(1) + products.log() - (x.exp().sum(1) - tails + news).log())
        shapes.append(k)
    return torch.cat(elpd), torch.cat(shapes)


def _step(x: Tensor, efficiency: float) -> int:
    size = tail_size(x.shape[1], efficiency)
    return max(1, BLOCK // max(x.shape[1], size * _points(size)))


def _smooth(x: Float[Tensor, "unit draw"], efficiency: float) -> tuple[Tensor, Tensor, Tensor, Bool[Tensor, "unit T"]]:
    """Return k, the largest log weights by size, the same smoothed, and which of them are in the tail.

    Args:
        x: Log weights, the largest 0.
        efficiency: Effective draws per draw.
    """
    size = tail_size(x.shape[1], efficiency)
    top = x.topk(size + 1, 1).values.flip(1)
    cutoff, tail = top[:, :1].clamp(min=math.log(torch.finfo(torch.float64).tiny)), top[:, 1:]
    inside = tail > cutoff
    lengths, smoothed, shapes = inside.sum(1), tail.clone(), x.new_full((len(x),), torch.inf)
    for length in lengths.unique().tolist():  # equal weights shorten tails
        if length <= FEWEST:
            continue
        at = (lengths == length).nonzero().flatten()
        base = cutoff[at].exp()
        k, scale = _fit(tail[at, size - length :].exp() - base)
        found = (_quantiles(length, k, scale) + base).log().clamp(max=0)
        known = k.isfinite() & found.isfinite().all(1)
        shapes[at] = torch.where(known, k, torch.inf)
        smoothed[at[known], size - length :] = found[known]
    return shapes, tail, smoothed, inside


def _points(size: int) -> int:
    return 30 + math.isqrt(size)


def _fit(x: Float[Tensor, "unit n"]) -> tuple[Float[Tensor, unit], Float[Tensor, unit]]:
    """Return shape and scale of generalised Pareto distributions, given samples by size.

    The shape's prior is worth ten samples at 1/2.
    """
    n, m = x.shape[1], _points(x.shape[1])
    grid = 1 - (m / (torch.arange(1, m + 1, dtype=x.dtype, device=x.device) - 0.5)).sqrt()
    b = grid / (3 * x[:, int(n / 4 + 0.5) - 1, None]) + 1 / x[:, -1:]
    k = torch.log1p(-b.unsqueeze(-1) * x.unsqueeze(1)).mean(-1)
    weights = (n * ((-b / k).log() - k - 1)).softmax(1)
    weights = torch.where(weights >= 10 * torch.finfo(torch.float64).eps, weights, 0.0)
    b = (b * weights).sum(1) / weights.sum(1)
    k = torch.log1p(-b.unsqueeze(-1) * x).mean(-1)
    return (n * k + 5) / (n + 10), -k / b


def _quantiles(n: int, k: Float[Tensor, unit], scale: Float[Tensor, unit]) -> Float[Tensor, "unit n"]:
    """Return the quantiles at (i + 1/2) / n of generalised Pareto distributions."""
    rest = torch.log1p(-torch.arange(0.5, n, dtype=k.dtype, device=k.device) / n)
    k = k.unsqueeze(-1)
    return scale.unsqueeze(-1) * torch.where(k.abs() < torch.finfo(k.dtype).eps, -rest, torch.expm1(-k * rest) / k)
