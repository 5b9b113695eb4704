"""What the draws of Markov chains are worth: R-hat, effective sample sizes, Monte Carlo errors, shortest intervals.

After Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021, Bayesian Analysis 16), all quantities at once. Chains are
split in halves. What is not finite gives NaN.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

SAME = 1e-15
"""A range of draws below which they are one value."""

TAILS = (0.05, 0.95)

LEAST = 4
"""Draws of a chain below which nothing can be said."""


def rhat(draws: Shaped[Tensor, "C S *at"]) -> Float[Tensor, "*at"]:
    """Return the larger of R-hat of the ranks, and of the ranks of distances from the median.

    Draws that are all the same have none: NaN. So have those of one chain.

    Args:
        draws: At least four of each chain.
    """
    lines = _lines(draws)
    if draws.shape[0] < 2 or draws.shape[1] < LEAST:
        return lines.new_full(draws.shape[2:], math.nan)
    halves = _halved(lines)
    away = (halves - _middle(halves)).abs()
    # Of two values that are as often, all distances are the same: their ranks have none.
    return _known(torch.fmax(_rhat(_normal_scores(halves)), _rhat(_normal_scores(away))), lines, draws)


def ess(draws: Shaped[Tensor, "C S *at"], of: str = "bulk") -> Float[Tensor, "*at"]:
    """Return the number of independent draws that would be worth as much, by Geyer's initial monotone sequence.

    Args:
        draws: At least four of each chain.
        of: ``bulk``, by ranks; ``tail``, of the ends of the central 90% interval, the lesser of the two; ``mean``.
    """
    lines = _lines(draws)
    if draws.shape[1] < LEAST:
        return lines.new_full(draws.shape[2:], math.nan)
    if of == "tail":
        ends = np.quantile(lines.flatten(1).numpy(), TAILS, axis=1)
        below = [(lines <= torch.from_numpy(end)[:, None, None]).to(lines.dtype) for end in ends]
        low, high = (_ess(_halved(each)) for each in below)
        return _known(torch.minimum(low, high), lines, draws)
    halves = _halved(lines)
    return _known(_ess(_normal_scores(halves) if of == "bulk" else halves), lines, draws)


def monte_carlo_errors(draws: Shaped[Tensor, "C S *at"]) -> tuple[Float[Tensor, "*at"], Float[Tensor, "*at"]]:
    """Return the Monte Carlo standard errors of the mean and of the standard deviation.

    Args:
        draws: At least four of each chain.
    """
    values = draws.detach().cpu().double()
    squares = (values - values.mean((0, 1))).square()
    variance = squares.mean((0, 1))
    spread = (squares.square().mean((0, 1)) - variance.square()) / ess(squares, "mean")
    return values.flatten(0, 1).std(0) / ess(values, "mean").sqrt(), (spread / variance / 4).sqrt()


def shortest_interval(
    draws: Shaped[Tensor, "C S *at"], probability: float
) -> tuple[Float[Tensor, "*at"], Float[Tensor, "*at"]]:
    """Return the ends of the shortest interval that holds a share of the draws: that of highest density.

    Args:
        draws: More than one in all.
        probability: The share.
    """
    ordered = _lines(draws).flatten(1).sort(1).values
    inside = math.floor(probability * ordered.shape[1])
    width = ordered[:, inside:] - ordered[:, : ordered.shape[1] - inside]
    begin = width.argmin(1, keepdim=True)
    low, high = (ordered.gather(1, begin + more).reshape(draws.shape[2:]) for more in (0, inside))
    return low, high


def missing_information(energy: Float[Tensor, "C S"]) -> Float[Tensor, C]:
    """Return the energy's Bayesian fraction of missing information (Betancourt 2016), chain by chain."""
    return energy.diff(dim=1).square().mean(1) / energy.var(1)


def _lines(draws: Tensor) -> Tensor:
    """Return draws [quantity, C, S] in double precision."""
    chains, count = draws.shape[:2]
    size = math.prod(draws.shape[2:])
    return draws.detach().cpu().double().reshape(chains, count, size).permute(2, 0, 1).contiguous()


def _known(found: Tensor, lines: Tensor, draws: Tensor) -> Tensor:
    return found.where(~lines.isnan().flatten(1).any(1), math.nan).reshape(draws.shape[2:])


def _halved(lines: Tensor) -> Tensor:
    half = lines.shape[2] // 2
    return torch.cat([lines[..., :half], lines[..., lines.shape[2] - half :]], 1)


def _middle(lines: Tensor) -> Tensor:
    return torch.from_numpy(np.median(lines.flatten(1).numpy(), axis=1))[:, None, None]


def _normal_scores(lines: Tensor) -> Tensor:
    """Return normal scores of ranks over all chains (Blom 1958); those of equal draws are the mean of theirs."""
    ordered, order = lines.flatten(1).sort(1)
    size = ordered.shape[1]
    place = torch.arange(size, dtype=lines.dtype).expand_as(ordered)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = place.where(new, 0).cummax(1).values
    ends = torch.ones_like(new)
    ends[:, :-1] = new[:, 1:]
    last = place.where(ends, size).flip(1).cummin(1).values.flip(1)
    ranks = torch.empty_like(ordered).scatter_(1, order, (first + last) / 2 + 1)
    return torch.special.ndtri((ranks - 3 / 8) / (size + 1 / 4)).reshape(lines.shape)


def _rhat(lines: Tensor) -> Tensor:
    count = lines.shape[2]
    between, within = count * lines.mean(2).var(1), lines.var(2).mean(1)
    return ((between / within + count - 1) / count).sqrt()


def _ess(lines: Tensor) -> Tensor:
    """Return effective sample sizes of chains that have been split, [quantity]."""
    chains, count = lines.shape[1:]
    covariance = _autocovariance(lines)
    within = covariance[:, :1] * count / (count - 1)
    total = covariance[:, :1] + (lines.mean(2).var(1)[:, None] if chains > 1 else 0)
    last = max(0, (count - 3) // 2)
    correlation = 1 - (within - covariance[:, : 2 * last + 2]) / total
    correlation[:, 0] = 1
    pairs = correlation.unflatten(1, (last + 1, 2)).sum(2)
    stopped = ~(pairs > 0)
    stopped[:, -1] = True
    end = stopped.int().argmax(1, keepdim=True)  # the first pair that is not positive, or the last there is
    monotone = pairs.cummin(1).values.where(torch.arange(last + 1) < end, 0).sum(1)
    even, pair = (each.gather(1, end)[:, 0] for each in (correlation[:, ::2], pairs))
    size = chains * count
    time = -1 + 2 * monotone + even.where((pair >= 0) | (even > 0), 0)
    low, high = lines.flatten(1).aminmax(dim=1)
    found = (size / time.clamp(min=1 / math.log10(size))).where(total[:, 0].isfinite(), math.nan)
    return found.where(high - low >= SAME, size)


def _autocovariance(lines: Tensor) -> Tensor:
    """Return autocovariances at every lag, the mean over chains, [quantity, lag]."""
    count = lines.shape[2]
    length = 1 << (2 * count - 1).bit_length()
    spectrum = torch.fft.rfft(lines - lines.mean(2, keepdim=True), n=length)
    power = (spectrum.real.square() + spectrum.imag.square()).mean(1)
    return torch.fft.irfft(power, n=length)[:, :count] / count
