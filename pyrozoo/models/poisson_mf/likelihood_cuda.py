"""Counts shared among the factors at random: each program draws the factor of every event of some listed cells.

An event's random number depends on the seed, the chain, the cell and the event alone, and whole numbers are added up:
results do not depend on which program runs when.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def beyond(bits, edges, scale, component, K: tl.constexpr):
    """Return which factor an event has: how many edges of cumulative weights a random number is beyond."""
    if edges.dtype == tl.float64:
        uniform = bits.to(tl.float64) * (1.0 / 4294967296.0)
    else:  # as many bits as it has
        uniform = (bits >> 8).to(tl.float32) * (1.0 / 16777216.0)
    passed = (edges <= (uniform * scale)[:, None]) & (component < K - 1)[None, :]
    return tl.sum(passed.to(tl.int32), 1)


@triton.jit
def allot(
    rows, columns, counts, theta, eta, seed, of_rows, of_columns, evidence, cells, N, M,
    K: tl.constexpr, WIDTH: tl.constexpr, B: tl.constexpr, MOST: tl.constexpr, TINY: tl.constexpr,
):  # fmt: skip
    """Add to ``of_rows`` and ``of_columns``, of whole numbers; of each program, store its sum of x log s.

    Counts above ``MOST`` are left out, but for x log s. Where all products are 0, the parts are equal.
    """
    kind: tl.constexpr = theta.dtype.element_ty
    cell, component, chain = tl.program_id(0) * B + tl.arange(0, B), tl.arange(0, WIDTH), tl.program_id(1)
    there = cell < cells
    listed = there[:, None] & (component < K)[None, :]
    count = tl.load(counts + cell, mask=there, other=0.0)
    row = (tl.load(rows + cell, mask=there, other=0) + chain.to(tl.int64) * N)[:, None] * K + component[None, :]
    column = (tl.load(columns + cell, mask=there, other=0) + chain.to(tl.int64) * M)[:, None] * K + component[None, :]
    weight = tl.load(theta + row, mask=listed, other=0.0) * tl.load(eta + column, mask=listed, other=0.0)
    total = tl.sum(weight, 1)
    log_s = tl.log(tl.maximum(total, tl.full((B,), TINY, kind)))
    tl.store(evidence + chain * tl.num_programs(0) + tl.program_id(0), tl.sum(count * log_s, 0))
    weight = tl.where((total > 0)[:, None], weight, tl.where(listed, 1.0, 0.0).to(kind))
    edges = tl.cumsum(weight, 1)
    scale = tl.max(edges, 1)
    events = tl.where(count <= MOST, count, 0.0).to(tl.int32)
    shares = tl.zeros((B, WIDTH), tl.int32)
    key, zero = tl.load(seed), cell * 0
    for turn in range(0, (tl.max(events, 0) + 3) // 4):
        first, second, third, fourth = tl.philox(key, cell, zero + turn, zero + chain, zero)
        left = events - 4 * turn
        chosen = tl.where(left > 0, beyond(first, edges, scale, component, K), -1)
        shares += (component[None, :] == chosen[:, None]).to(tl.int32)
        chosen = tl.where(left > 1, beyond(second, edges, scale, component, K), -1)
        shares += (component[None, :] == chosen[:, None]).to(tl.int32)
        chosen = tl.where(left > 2, beyond(third, edges, scale, component, K), -1)
        shares += (component[None, :] == chosen[:, None]).to(tl.int32)
        chosen = tl.where(left > 3, beyond(fourth, edges, scale, component, K), -1)
        shares += (component[None, :] == chosen[:, None]).to(tl.int32)
    some = shares > 0
    tl.atomic_add(of_rows + row, shares, mask=some, sem="relaxed")
    tl.atomic_add(of_columns + column, shares, mask=some, sem="relaxed")
