"""Polya-Gamma variables (Polson, Scott and Windle 2013, JASA 108): with them a logistic likelihood is a normal one.

1 / (1 + exp(-psi)) prop. to exp(psi / 2) E exp(-omega psi^2 / 2), omega ~ PG(1, 0), and omega | psi ~ PG(1, psi).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SMALL = 0.3
"""Below this psi moments come from their series."""

CUT = 0.64
"""Where the two expansions of the density of a Jacobi variable meet (Devroye 2009, Statistics and Probability Letters
79)."""


def moments(psi: Float[Tensor, "*b"]) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Return mean and variance of PG(1, psi); those of PG(N, psi) are N times as large.

    They are tanh(psi / 2) / (2 psi) and (sinh psi - psi) / (4 psi^3 cosh^2(psi / 2)).
    """
    size = psi.abs()
    safe, square = size.clamp(min=SMALL), psi.square()
    e = torch.exp(-safe)  # sinh psi / cosh^2(psi / 2) = 2 (1 - e) / (1 + e)
    near = 1 / 4 - square / 48 + square.square() / 480 - 17 * square.pow(3) / 80640
    mean = torch.where(size < SMALL, near, torch.tanh(0.5 * safe) / (2 * safe))
    spread = (2 * (1 - e) / (1 + e) - 4 * safe * e / (1 + e).square()) / (4 * safe.pow(3))
    near = 1 / 24 - square / 120 + 17 * square.square() / 13440 - 31 * square.pow(3) / 181440
    return mean, torch.where(size < SMALL, near, spread)


def draw(psi: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Draw from PG(1, psi) exactly, all at once, from torch's global generator.

    A fourth of a Jacobi variable tilted by z = |psi| / 2: it is proposed from an inverse Gaussian below ``CUT``, from
    an exponential above, and accepted by an alternating series, whose partial sums close in on the density (Devroye
    2009; Polson, Scott and Windle 2013, section 4).
    """
    z = psi.abs().flatten() / 2
    rate = math.pi**2 / 8 + z.square() / 2
    above = (math.pi / 2 / rate).log() - rate * CUT  # log mass of the exponential part, and of the other
    ends = [z * side + torch.special.log_ndtr(-(side * z * CUT + 1) / CUT**0.5) for side in (1, -1)]
    below = math.log(2) + torch.logaddexp(*ends)
    share = torch.sigmoid(above - below)

    def propose(at: Tensor) -> tuple[Tensor, Tensor]:
        far = torch.rand_like(z[at]) < share[at]
        value = CUT + torch.empty_like(z[at]).exponential_() / rate[at]
        near = (~far).nonzero().flatten()
        value[near] = _inverse_gaussian(z[at][near])
        return value, _accepted(value)

    return (_until_accepted(propose, z) / 4).reshape(psi.shape)


def _until_accepted(propose: Callable[[Tensor], tuple[Tensor, Tensor]], like: Float[Tensor, n]) -> Float[Tensor, n]:
    """Propose at places, given by their indices, until each is accepted."""
    result, left = torch.empty_like(like), torch.arange(len(like), device=like.device)
    while len(left):
        value, accepted = propose(left)
        result[left[accepted]] = value[accepted]
        left = left[~accepted]
    return result


def _inverse_gaussian(z: Float[Tensor, n]) -> Float[Tensor, n]:
    """Draw from the inverse Gaussian distribution of mean 1 / z and shape 1, cut at ``CUT``."""
    tail = torch.special.ndtr(z.new_tensor(-(CUT**-0.5)))

    def propose(at: Tensor) -> tuple[Tensor, Tensor]:
        its = z[at]
        uniform = torch.rand_like(its).clamp(min=torch.finfo(z.dtype).tiny)
        # Of small z: 1 / n^2, n a normal variable beyond CUT^-1/2, tilted by exp(-z^2 x / 2).
        light = torch.special.ndtri(uniform * tail).square().reciprocal()
        # Of others: Michael, Schucany and Haas 1976, The American Statistician 30, the cut by rejection.
        mean, square = 1 / its.clamp(min=1 / CUT), torch.randn_like(its).square()
        half = 0.5 * mean * square
        small = mean / (1 + half + (half * (2 + half)).sqrt())
        heavy = torch.where(torch.rand_like(its) <= mean / (mean + small), small, mean.square() / small)
        value = torch.where(its < 1 / CUT, light, heavy)
        kept = torch.where(its < 1 / CUT, torch.rand_like(its) <= torch.exp(-0.5 * its.square() * light), heavy <= CUT)
        return value, kept

    return _until_accepted(propose, z)


def _accepted(value: Float[Tensor, n]) -> Bool[Tensor, n]:
    """Return whether uniform numbers below the first term of the series are below its sum."""

    def log_term(k: int) -> Tensor:
        c = k + 0.5
        near = 1.5 * (2 / (math.pi * value)).log() - 2 * c**2 / value
        return math.log(math.pi * c) + torch.where(value > CUT, -(c**2) * math.pi**2 * value / 2, near)

    first = log_term(0)
    level, total = torch.rand_like(value), torch.ones_like(value)  # in units of the first term
    accepted, undecided = torch.zeros_like(value, dtype=torch.bool), torch.ones_like(value, dtype=torch.bool)
    k = 0
    while bool(undecided.any()):
        k += 1
        step = torch.exp(log_term(k) - first)
        if k % 2:  # sums up to here are below the limit
            total = total - step
            accepted |= undecided & (level <= total)
            undecided &= level > total
        else:  # and up to here above it
            total = total + step
            undecided &= (level <= total) & (step > 0)
    return accepted
