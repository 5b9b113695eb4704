"""The evidence of an image for its two strengths, of small images exactly, of large ones by strips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from pyrozoo.core.draws import evenly

WORK, PIXELS, MOST_STATES, DENSE = 1_500_000, 12_000, 4096, 128
"""Multiplications that one evaluation may take; pixels whose evidence is enough; labellings of a column of a strip, and
up to how many of them the steps between columns are one matrix."""

LINES, FEWEST, PRIOR_STATES, PRIOR_COLUMNS = 3, 8, 700, 30
"""Lines of a strip where the work allows no more, and how few strips will do; labellings of a column, and columns, of
the strips of a field without data: longer ones grow in proportion."""

FALL = 1e-9
"""Relative change of the objective at which the search ends."""


@dataclass(frozen=True)
class Strips:
    """An image in strips: every m lines of it that follow each other.

    log p(image) is the log evidence of the first strip, and of every other the part of its last line, given the lines
    before it: log p(strip) - log p(its first m - 1 lines). The lines on the other side are left out: the reduced
    dependence approximation of Friel, Pettitt, Reeves and Wit (2009, Journal of Computational and Graphical Statistics
    18, 243-261). The normaliser of the field without data is taken likewise, of strips as wide as can be: near the
    critical point neighbours far away count, and no data stand between them. Exact where m is all lines of the image.

    Attributes:
        image: Labels, -1 where a pixel is missing, [line, column].
        labels: K.
        lines: m.
        strips: How many are looked at, an even choice where the image has more.
    """

    image: np.ndarray
    labels: int
    lines: int
    strips: int

    @classmethod
    def of(cls, values: np.ndarray, labels: int, work: float = WORK) -> Strips | None:
        """Cut an image, NaN where a pixel is missing, as the work allows; None: there are too many labels for that."""
        image = np.where(np.isnan(values), -1, values).astype(np.int64)
        image = image if image.shape[0] <= image.shape[1] else image.T
        height, width = image.shape

        def cost(lines: int, columns: int) -> float:
            return columns * lines * labels**lines if labels**lines <= MOST_STATES else math.inf

        if cost(height, width) <= work:
            return cls(image, labels, height, 1)
        image, height, width = image.T, width, height  # many strips of few columns
        lines = LINES if cost(LINES, width) * FEWEST <= 4 * work else 2
        if cost(lines, width) == math.inf:
            return None
        while lines + 1 < height and height * cost(lines + 1, width) <= work:
            lines += 1
        total = height - lines + 1
        return cls(image, labels, lines, min(total, max(FEWEST, int(min(work / cost(lines, width), PIXELS / width)))))

    @property
    def exact(self) -> bool:
        """Whether the strip is the whole image."""
        return self.lines == len(self.image)

    @property
    def said(self) -> str:
        """How the evidence is found, in words."""
        return "exact" if self.exact else f"by strips of {self.lines} lines"

    def log_evidence(self, observation: float, coupling: np.ndarray) -> float:
        """Return log p(image) at c and J, [K, K]."""
        later = 1 + evenly(len(self.image) - self.lines, max(1, self.strips - 1)).numpy()
        normaliser = observation + math.log1p((self.labels - 1) * math.exp(-observation))

        def seen(first: np.ndarray, lines: int) -> float:
            strips = self.image[first[:, None] + np.arange(lines)]  # [strip, line, column]
            return float(log_partition(strips, observation, coupling).sum() - normaliser * (strips >= 0).sum())

        found = seen(np.zeros(1, dtype=int), self.lines)
        if not self.exact:
            given = seen(later, self.lines) - seen(later, self.lines - 1)
            found += (len(self.image) - self.lines) / len(later) * given
        return found - _blank(self.image.shape, tuple(map(tuple, coupling.tolist())), self.lines)


@lru_cache(maxsize=8)
def _blank(shape: tuple[int, int], coupling: tuple[tuple[float, ...], ...], lines: int) -> float:
    """Return log Z of a field without data: exact where strips are whole, else of the widest strips that can be had."""
    (height, width), K = shape, len(coupling)

    def grown(lines: int, columns: int) -> float:
        return float(log_partition(np.full((1, lines, columns), -1), 0.0, np.array(coupling))[0])

    def of(lines: int) -> float:
        if width <= PRIOR_COLUMNS or lines == height:
            return grown(lines, width)
        last = grown(lines, PRIOR_COLUMNS)
        return last + (width - PRIOR_COLUMNS) * (last - grown(lines, PRIOR_COLUMNS - 1))

    if lines == height:
        return of(height)
    while lines + 1 < height and K ** (lines + 1) <= PRIOR_STATES:
        lines += 1
    return (height - lines + 1) * of(lines) - (height - lines) * of(lines - 1)


def log_partition(strips: np.ndarray, observation: float, coupling: np.ndarray) -> np.ndarray:
    """Return log Z of fields given their images, [B, m, W], by forward sums over the labels of columns, [B]."""
    count, lines, width = strips.shape
    K, top = len(coupling), float(coupling.max())
    pair = np.exp(coupling - top)
    states = K**lines
    edges: Any = 1.0  # those within a column, [K, ..., K]
    for i in range(lines - 1):
        edges = edges * pair.reshape([K if axis in (i, i + 1) else 1 for axis in range(lines)])
    edges = np.broadcast_to(edges, (K,) * lines).reshape(1, states)
    move = _steps(pair, lines)
    # A column's labels as seen: e^(c - c) where they agree, e^-c elsewhere; 1 where the pixel is missing.
    weight = np.exp(-observation) + (1 - np.exp(-observation)) * np.eye(K)
    weight = np.concatenate([weight, np.ones((1, K))])  # a missing pixel is number -1
    result = np.full(count, observation * 1.0) * (strips >= 0).sum((1, 2))
    result += top * (lines * (width - 1) + (lines - 1) * width)
    seen = edges[:, None]  # what a column adds, [B, W, K^m]
    for i in range(lines):
        own = weight[strips[:, i]]  # [B, W, K]
        seen = seen.reshape(len(seen), -1, K**i, K, K ** (lines - 1 - i)) * own[:, :, None, :, None]
    seen = seen.reshape(count, width, states)
    table = seen[:, 0]
    for column in range(1, width):
        scale = table.max(1)
        result += np.log(scale)
        table = move(table / scale[:, None]) * seen[:, column]
    return result + np.log(table.sum(1))


def _steps(pair: np.ndarray, lines: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what sums over the labels of a column, for each of the next one's, [B, K^m] -> the same."""
    K = len(pair)
    if K**lines <= DENSE:
        dense = reduce(np.kron, [pair] * lines)
        return lambda table: table @ dense
    off = pair[0, -1]
    alike = np.array_equal(pair, off + (pair[0, 0] - off) * np.eye(K))

    def move(table: np.ndarray) -> np.ndarray:
        for i in range(lines):
            parts = table.reshape(len(table), K**i, K, -1)
            # Of equal rewards one sum serves all labels.
            one = (pair[0, 0] - off) * parts + off * parts.sum(2, keepdims=True) if alike else np.matmul(pair, parts)
            table = one.reshape(len(table), -1)
        return table

    return move


def maximise(
    objective: Callable[[np.ndarray], float], starts: list[np.ndarray], bounds: list[tuple[float, float]]
) -> np.ndarray:  # fmt: skip
    """Return where an objective is largest within bounds, from the best start, the first of equal ones.

    The search is L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995, SIAM Journal on Scientific Computing 16).
    """
    from scipy.optimize import minimize  # which takes half a second to load

    options = {"ftol": FALL, "eps": 1e-5}
    begin = max((np.clip(start, *np.transpose(bounds)) for start in starts), key=objective)
    found = minimize(lambda at: -objective(at), begin, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x if math.isfinite(found.fun) else begin
