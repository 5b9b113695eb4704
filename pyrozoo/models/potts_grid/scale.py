"""What an image says of its own noise and smoothness, before any fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pyrozoo.data.grid import Grid
from pyrozoo.models.potts_grid.evidence import Strips, maximise

USUAL_RATE, WORTH = 0.1, 10
"""The rate of flips before any pixel is seen, and how many pixels it is worth."""

WEAKEST = 0.1
"""The least reward of equal neighbours: images without any have one all the same."""


Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Strengths:
    """The two strengths of an image.

    Attributes:
        observation: c.
        coupling: The reward of equal neighbours.
        said: How they were found.
    """

    observation: float
    coupling: float
    said: str


def strengths(
    data: Grid, labels: int, observation: float | None, coupling: float | None, matrix: Matrix | None = None
) -> Strengths:  # fmt: skip
    """Return the strengths at which the image is most probable, its hidden labels summed out.

    What is stated stays. Maximised is log p(image | c, J) + 9 log(1 - e) + log e, e = (K - 1) / (e^c + K - 1) being the
    rate of flips: ten pixels more, one of them flipped. The reward is at most twice the critical one. The search starts
    at the best of a few points, among them ``flip_rate`` and ``reward``, which are also what is returned where there
    are too many labels for it.

    Args:
        data: The image.
        labels: K.
        observation: c, where it is stated.
        coupling: The reward of equal neighbours, where it is stated.
        matrix: J, where the whole of it is stated.
    """
    codes = torch.nan_to_num(data.values, nan=-1.0).to("cpu", torch.int16)
    return _strengths(codes.numpy().tobytes(), data.shape, labels, observation, coupling, matrix)


@lru_cache(maxsize=8)
def _strengths(
    codes: bytes, shape: tuple[int, int], labels: int, observation: float | None, coupling: float | None,
    matrix: Matrix | None,
) -> Strengths:  # fmt: skip
    """Return the strengths of an image of labels, -1 where a pixel is missing."""
    image = np.frombuffer(codes, np.int16).reshape(shape).astype(np.float64)
    image[image < 0] = math.nan
    values = torch.as_tensor(image)
    rate = flip_rate(values, labels) if observation is None else rate_of(observation, labels)
    share = clean_share(values, rate, labels)
    c = strength_of(rate, labels) if observation is None else observation
    J = reward(share, labels) if coupling is None else coupling
    known = {0: observation, 1: coupling if matrix is None else 0.0}
    free = [i for i, value in known.items() if value is None]
    strips = Strips.of(image, labels)
    if strips is None or not free or np.isnan(image).all():
        return Strengths(c, J, f"from the shares of lone and of equal neighbours, {rate:.2g} and {share:.2g}")
    least = strength_of(nothing(labels), labels)

    def objective(at: np.ndarray) -> float:
        both = dict(known) | dict(zip(free, at.tolist(), strict=True))
        table = both[1] * np.eye(labels) if matrix is None else np.array(matrix)
        flips = rate_of(both[0], labels)
        return (
            strips.log_evidence(both[0], table)
            + (USUAL_RATE * WORTH) * math.log(flips)
            + ((1 - USUAL_RATE) * WORTH) * math.log1p(-flips)
        )

    bounds = {0: (least, MOST_OBSERVATION), 1: (WEAKEST, 2 * critical(labels))}
    # There may be two maxima, of many flips and of few.
    grid = [(strength_of(rate, labels), each * critical(labels)) for each in REWARDS for rate in RATES]
    starts = [np.array([start[i] for i in free]) for start in dict.fromkeys([(c, J), *grid])]
    found = maximise(objective, starts, [bounds[i] for i in free])
    best = {0: c, 1: J} | dict(zip(free, found.tolist(), strict=True))
    return Strengths(best[0], best[1], f"where the image is most probable, its labels summed out ({strips.said})")


REWARDS, RATES = (0.4, 0.7, 1.0, 1.4), (0.03, 0.1, 0.25)
"""Rewards, of the critical one, and rates of flips from which the best starts the search."""

MOST_OBSERVATION = 20.0
"""The largest observation strength that is looked at: one flip in hundreds of millions."""


def strength_of(rate: float, labels: int) -> float:
    """Return the observation strength that a rate of flips stands for."""
    return math.log((1 - rate) * (labels - 1) / rate)


def flip_rate(x: Tensor, labels: int) -> float:
    """Return the share of pixels that differ from their four neighbours, of those whose neighbours are all equal.

    Borders between regions have no such neighbours, so that they are not taken for noise. At most nine tenths of the
    rate at which the image would say nothing.
    """
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


def clean_share(x: Tensor, rate: float, labels: int) -> float:
    """Return the share of neighbours that would be equal without flips.

    Flips at rate e bring the share nearer to 1 / K, by the factor (1 - e K / (K - 1))^2, whatever the labels are.
    """
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
