"""Products of listed cells with a matrix: each program adds up some cells of one row, always in the same order.

Rows are cut into chunks, so that long ones are shared among programs; what chunks come to is added up in their order.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(
    starts, stops, rows, columns, values, step, left, right, partial, evidence, lowest, n, m,
    K: tl.constexpr, WIDTH: tl.constexpr, E: tl.constexpr, SHARE: tl.constexpr, TINY: tl.constexpr,
):  # fmt: skip
    """Store V B of each chunk of a row, V the values on its cells.

    Rows of matrices have K numbers, whole vectors of the card's.

    With ``SHARE`` V is the values over the cells of A B^T, and what the chunk has of the sum of values times logarithms
    of the cells of A B^T is stored, too, and the least of these. ``step`` leads from one chain's values to the next.
    """
    kind: tl.constexpr = right.dtype.element_ty
    chunk, chain = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start, stop = tl.load(starts + chunk), tl.load(stops + chunk)
    factor, total = tl.arange(0, WIDTH), tl.zeros((E, WIDTH), kind)
    known = factor < K
    score, least = tl.zeros((E,), kind), tl.full((E,), float("inf"), kind)
    mine = tl.zeros((WIDTH,), kind)
    if SHARE:
        row = tl.load(rows + chunk)
        mine = tl.load(left + (chain * n + row) * K + factor, mask=known, other=0.0)
    for first in range(start, stop, E):
        at = first + tl.arange(0, E)
        inside = at < stop
        column = tl.load(columns + at, mask=inside, other=0)
        value = tl.load(values + chain * step + at, mask=inside, other=0.0)
        place = (chain * m + column)[:, None] * K + factor[None, :]
        other = tl.load(right + place, mask=inside[:, None] & known[None, :], other=0.0)
        if SHARE:
            s = tl.sum(mine[None, :] * other, 1)
            least = tl.minimum(least, tl.where(inside, s, float("inf")))
            score += value * tl.log(tl.maximum(s, tl.full((E,), TINY, kind)))
            value = tl.where(inside, value / s, 0.0)
        total += value[:, None] * other
    tl.store(partial + (chunk * tl.num_programs(1) + chain) * K + factor, tl.sum(total, 0), mask=known)
    if SHARE:
        tl.store(evidence + chain * tl.num_programs(0) + chunk, tl.sum(score, 0))
        tl.store(lowest + chain * tl.num_programs(0) + chunk, tl.min(least, 0))


@triton.jit
def add_up(
    firsts, partial, left, result, n, K: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, SHARE: tl.constexpr
):  # fmt: skip
    """Add up the chunks of some rows; with ``SHARE`` times the row's own factors."""
    row, factor = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    chain, chains, there = tl.program_id(1).to(tl.int64), tl.num_programs(1), row < n
    first = tl.load(firsts + row, mask=there, other=0)
    count = tl.load(firsts + row + 1, mask=there, other=0) - first
    total = tl.zeros((ROWS, WIDTH), partial.dtype.element_ty)
    inside = there[:, None] & (factor < K)[None, :]
    for t in range(0, tl.max(count, 0)):
        place = ((first + t) * chains + chain)[:, None] * K + factor[None, :]
        total += tl.load(partial + place, mask=inside & (t < count)[:, None], other=0.0)
    place = (chain * n + row)[:, None] * K + factor[None, :]
    if SHARE:
        total *= tl.load(left + place, mask=inside, other=0.0)
    tl.store(result + place, total, mask=inside)
