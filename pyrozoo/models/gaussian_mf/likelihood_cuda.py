"""Regressions of rows on the other side's columns: products of vectors summed up over each row's listed pairs.

Rows are cut into chunks, so that long ones are shared among programs; what chunks come to is added up in their order.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def regress(
    starts, stops, columns, ratings, numbers, partial, m, C,
    L: tl.constexpr, WIDTH: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the packed lower triangle of the sum of z z^T of a chunk, z = (x, r - b).

    ``numbers`` holds x and b of the other side, [chain, m, WIDTH].
    """
    chunk, chain = tl.program_id(0), tl.program_id(1)
    start, stop = tl.load(starts + chunk), tl.load(stops + chunk)
    axis = tl.arange(0, WIDTH)
    mine = numbers + chain.to(tl.int64) * m * WIDTH
    total = tl.zeros((WIDTH, WIDTH), numbers.dtype.element_ty)
    for first in range(start, stop, E):
        at = first + tl.arange(0, E)
        inside = at < stop
        column = tl.load(columns + at, mask=inside, other=0)
        rating = tl.load(ratings + at, mask=inside, other=0.0)
        z = tl.load(mine + column[:, None] * WIDTH + axis[None, :], mask=inside[:, None], other=0.0)
        z = tl.where(axis[None, :] == L, rating[:, None] - z, z)
        total = tl.dot(tl.trans(z), z, total, input_precision=PRECISION, out_dtype=numbers.dtype.element_ty)
    i, j = axis[:, None], axis[None, :]
    packed: tl.constexpr = (L + 1) * (L + 2) // 2
    place = (chunk.to(tl.int64) * C + chain) * packed + i * (i + 1) // 2 + j
    tl.store(partial + place, total, mask=(j <= i) & (i <= L))


@triton.jit
def gather(firsts, partial, gram, dot, n, C, L: tl.constexpr, ROWS: tl.constexpr, PART: tl.constexpr):
    """Add up the chunks of some rows: ``gram`` [packed, chain, n] and, of the last row of the triangle, ``dot``."""
    packed: tl.constexpr = (L + 1) * (L + 2) // 2
    below: tl.constexpr = L * (L + 1) // 2
    row, part = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.program_id(1) * PART + tl.arange(0, PART)
    chain, there = tl.program_id(2), row < n
    first = tl.load(firsts + row, mask=there, other=0)
    count = tl.load(firsts + row + 1, mask=there, other=0) - first
    total = tl.zeros((ROWS, PART), partial.dtype.element_ty)
    for t in range(0, tl.max(count, 0)):
        place = ((first + t) * C + chain) * packed
        mask = (t < count)[:, None] & (part < packed)[None, :]
        total += tl.load(partial + place[:, None] + part[None, :], mask=mask, other=0.0)
    at = part.to(tl.int64)[None, :]
    tl.store(gram + (at * C + chain) * n + row[:, None], total, mask=there[:, None] & (at < below))
    tl.store(
        dot + ((at - below) * C + chain) * n + row[:, None],
        total,
        mask=there[:, None] & (at >= below) & (at < below + L),
    )
