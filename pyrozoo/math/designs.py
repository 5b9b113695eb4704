"""A few points, all of the same weight, whose mean of a family's sufficient statistics is the family's own.

A log joint is linear in the sufficient statistics of each conjugate site given the others. So its mean over the points
is its expectation, exactly, and over all pairs, triples ... of the points of several independent sites likewise.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma

from pyrozoo.math.exponential_family import expected_log_dirichlet, expected_log_gamma


def of(distribution: Any) -> Tensor:
    """Return the points of a distribution of torch, [node, *batch, *event].

    Raises:
        TypeError: There are none of its family here.
    """
    if isinstance(distribution, Dirichlet):
        return dirichlet(distribution.concentration)
    if isinstance(distribution, Gamma):
        return gamma(*torch.broadcast_tensors(distribution.concentration, distribution.rate))
    if isinstance(distribution, Beta):
        return beta(distribution.concentration1, distribution.concentration0)
    raise TypeError(f"{type(distribution).__name__} has no design")


def gamma(shape: Tensor, rate: Tensor) -> Tensor:
    """Return two numbers with E x and E log x: m (1 + t) and m (1 - t), 1 - t^2 = exp(2 (E log x - log m))."""
    mean = shape / rate
    t = torch.sqrt(-torch.expm1(2 * (expected_log_gamma(shape, rate) - mean.log())))
    return torch.stack([mean * (1 + t), mean * (1 - t)])


def inverse_gamma(shape: Tensor, scale: Tensor) -> Tensor:
    """Return two numbers with E 1 / x and E log x."""
    return 1 / gamma(shape, scale)


def beta(first: Tensor, second: Tensor) -> Tensor:
    """Return two numbers with E log x and E log(1 - x)."""
    return dirichlet(torch.stack([first, second], -1))[..., 0]


def dirichlet(concentration: Tensor) -> Tensor:
    """Return two vectors of probabilities with E log x_k.

    With p_k = exp E log x_k, which add up to less than 1, they are p_k u_k and p_k / u_k. The first u is a root of
    p u^2 - (1 + p^2 - r^2) u + p, r the sum of the other p_k, whose u are all (1 - p u) / r: both add up to 1.
    """
    logs = expected_log_dirichlet(concentration)
    p, r = logs[..., :1].exp(), logs[..., 1:].exp().sum(-1, keepdim=True)
    if concentration.shape[-1] == 1:
        return torch.stack([p, p])
    root = ((1 - p - r) * (1 - p + r) * (1 + p - r) * (1 + p + r)).sqrt()
    first = (1 + (p - r) * (p + r) + root) / (2 * p)
    u = torch.cat([first, ((1 - p * first) / r).expand_as(logs[..., 1:])], -1)
    return torch.stack([logs.exp() * u, logs.exp() / u])


def sticks(on: Tensor, rest: Tensor) -> Tensor:
    """Return two vectors of shares, of sticks Beta(on, rest), with E log of every stick and of what it leaves."""
    v = of(Beta(on, rest, validate_args=False))
    one = torch.ones_like(v[..., :1])
    return torch.cat([v, one], -1) * torch.cat([one, (1 - v).cumprod(-1)], -1)


def normal(mean: Tensor, root: Tensor) -> Tensor:
    """Return n + 1 vectors with mean m and covariance R R^T, [node, *batch, n]: R times corners of a simplex, and m.

    Corners are columns of sqrt(n + 1) H, with H the rows of Helmert's matrix that add up to 0.
    """
    return mean + (root @ _corners(mean.shape[-1], mean.dtype, mean.device)).movedim(-1, 0)


@cache
def _corners(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    at = torch.arange(1, n + 1, dtype=dtype, device=device)
    rows = at.new_ones(n, n + 1).tril() - torch.cat([at.new_zeros(n, 1), at.diag()], 1)
    return math.sqrt(n + 1) * rows / (at * (at + 1)).sqrt().unsqueeze(-1)


def scaled(outer: Tensor, mean: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Return points of something and of a normal variable given it.

    Args:
        outer: Points of the something, [node, ...].
        mean: Of the normal, [*batch, n].
        root: R at each of these points, [node, *batch, n, n].
    """
    inner = normal(mean, root)
    return outer.expand(len(inner), *outer.shape).flatten(0, 1), inner.flatten(0, 1)


def wishart(degrees: Tensor, inverse_scale: Tensor) -> Tensor:
    """Return two matrices with E X and E log |X|: M (1 + t) and M (1 - t), n log(1 - t^2) = 2 (E log |X| - log |M|)."""
    size = inverse_scale.shape[-1]
    place = torch.arange(size, dtype=degrees.dtype, device=degrees.device)
    apart = torch.digamma(0.5 * (degrees.unsqueeze(-1) - place)).sum(-1) - size * (0.5 * degrees).log()
    t = torch.sqrt(-torch.expm1(2 * apart / size))[..., None, None]
    mean = degrees[..., None, None] * torch.linalg.inv(inverse_scale)
    return torch.stack([mean * (1 + t), mean * (1 - t)])


def inverse_wishart(degrees: Tensor, scale: Tensor) -> Tensor:
    """Return two matrices with E X^-1 and E log |X|."""
    return torch.linalg.inv(wishart(degrees, scale))


def categorical(probability: Tensor) -> tuple[Tensor, Tensor]:
    """Return places of values of many variables at once, [node, *batch], and weights that give each its probabilities.

    Each variable is the inverse of its distribution function at one number between 0 and 1, the same for all: it
    changes at finitely many. What is linear in each of them has its expectation under independence.
    """
    below = probability.cumsum(-1)
    edges = torch.cat([below[..., :-1].flatten(), below.new_tensor([0.0, 1.0])]).clamp(0, 1).sort().values
    middle = 0.5 * (edges[1:] + edges[:-1])
    places = (middle.reshape(-1, *[1] * probability.ndim) > below[..., :-1]).sum(-1)
    return places, edges.diff()
