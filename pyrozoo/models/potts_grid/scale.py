"""What an image says of its own noise and smoothness, before any fit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyrozoo.data.grid import Grid

USUAL_RATE, WORTH = 0.1, 10
"""The rate of flips before any pixel is seen, and how many pixels it is worth."""

WEAKEST = 0.1
"""The least reward of equal neighbours: images without any have one all the same."""


def flip_rate(data: Grid, labels: int) -> float:
    """Return the share of pixels that differ from their four neighbours, of those whose neighbours are all equal.

    Borders between regions have no such neighbours, so that they are not taken for noise. At most nine tenths of the
    rate at which the image would say nothing.
    """
    x = data.values
    inner, ring = x[1:-1, 1:-1], (x[:-2, 1:-1], x[2:, 1:-1], x[1:-1, :-2], x[1:-1, 2:])
    agree = torch.stack([each == ring[0] for each in ring]).all(0) & ~inner.isnan()  # NaN equals nothing
    lone = int((agree & (inner != ring[0])).sum())
    return min(nothing(labels), (lone + USUAL_RATE * WORTH) / (int(agree.sum()) + WORTH))


def nothing(labels: int) -> float:
    """Return nine tenths of the rate of flips at which a pixel would say nothing of its label."""
    return 0.9 * (labels - 1) / labels


def rate_of(strength: float, labels: int) -> float:
    """Return the rate of flips that an observation strength stands for."""
    return min(nothing(labels), (labels - 1) / (math.exp(min(strength, 700.0)) + labels - 1))


def clean_share(data: Grid, rate: float, labels: int) -> float:
    """Return the share of neighbours that would be equal without flips.

    Flips at rate e bring the share nearer to 1 / K, by the factor (1 - e K / (K - 1))^2, whatever the labels are.
    """
    x = data.values
    sides = (x[:, :-1], x[:, 1:]), (x[:-1], x[1:])
    equal, both = (sum(int(count(a, b)) for a, b in sides) for count in (_equal, _both))
    share = (equal + 0.5) / (both + 1)
    return 1 / labels + (share - 1 / labels) / (1 - rate * labels / (labels - 1)) ** 2


def _equal(one: Tensor, other: Tensor) -> Tensor:
    return (one == other).sum()


def _both(one: Tensor, other: Tensor) -> Tensor:
    return (~(one.isnan() | other.isnan())).sum()


def critical(labels: int) -> float:
    """Return the reward of equal neighbours from which on a large field without data is mostly of one label."""
    return math.log(1 + math.sqrt(labels))


def reward(share: float, labels: int) -> float:
    """Return the reward of equal neighbours of a Potts field in which this share of them are equal.

    log(s (K - 1) / (1 - s)) is the reward in a chain. On a grid half of it is right at the critical point, for every K:
    there s = (1 + 1 / sqrt(K)) / 2 (Wu 1982). Above twice the critical reward single pixels cannot move.
    """
    most = 2 * critical(labels)
    if share * (labels - 1) <= 1 - share:
        return WEAKEST
    return max(WEAKEST, min(most, 0.5 * math.log(share * (labels - 1) / (1 - share)) if share < 1 else most))
