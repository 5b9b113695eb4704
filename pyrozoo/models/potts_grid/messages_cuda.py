"""A sweep of belief propagation in one pass over the pixels: each program is of some pixels, which receive.

A pixel's message from a direction is made of what its neighbour there knows, read anew, and mostly from a cache: only
what is received is written. All labels of a pixel stay in registers. Directions are those of ``messages.py``: 0 to 3
come from the left, the right, above and below; the opposite of d is d ^ 1.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def known(messages, unary, pixels, at, inside, without: tl.constexpr, K: tl.constexpr):
    """Return log beliefs of pixels by label, but for what came from one direction (4: from all)."""
    values = ()
    for k in tl.static_range(K):
        value = tl.load(unary + k * pixels + at, mask=inside, other=0.0)
        for d in tl.static_range(4):
            if d != without:
                value += tl.load(messages + (d * K + k) * pixels + at, mask=inside, other=0.0)
        values = values + (value,)
    return values


@triton.jit
def largest(values, K: tl.constexpr):
    """Return the largest over labels."""
    top = values[0]
    for k in tl.static_range(1, K):
        top = tl.maximum(top, values[k])
    return top


@triton.jit
def log_sum(values, K: tl.constexpr):
    """Return the log of the sum of exponentials over labels."""
    top = largest(values, K)
    total = tl.exp(values[0] - top)
    for k in tl.static_range(1, K):
        total += tl.exp(values[k] - top)
    return tl.log(total) + top


@triton.jit
def neighbour(at, row, column, H, W, d: tl.constexpr):
    """Return whether there is a neighbour in a direction, and its place."""
    if d == 0:
        there, source = column > 0, at - 1
    elif d == 1:
        there, source = column < W - 1, at + 1
    elif d == 2:
        there, source = row > 0, at - W
    else:
        there, source = row < H - 1, at + W
    return there, source


@triton.jit
def combined(values, coupling, label, K: tl.constexpr, MAXIMISE: tl.constexpr):
    """Return, of a label, the sum of products with the coupling's exponentials, or the maximum of sums with it."""
    if MAXIMISE:
        total = values[0] + tl.load(coupling + label * K)
        for k in tl.static_range(1, K):
            total = tl.maximum(total, values[k] + tl.load(coupling + label * K + k))
    else:
        total = values[0] * tl.load(coupling + label * K)
        for k in tl.static_range(1, K):
            total += values[k] * tl.load(coupling + label * K + k)
    return total


@triton.jit
def sweep(
    old, unary, coupling, numbers, new, estimate, change, H, W,
    K: tl.constexpr, MAXIMISE: tl.constexpr, FORBIDDEN: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Send all messages; of each program, the largest change and its part of Bethe's estimate.

    ``coupling`` holds exponentials of J less its largest value, unless it maximises: then J itself. That value and the
    damping are ``numbers``.
    """
    kind: tl.constexpr = old.dtype.element_ty
    pixels = tl.full((), 0, tl.int64) + H * W
    at = tl.program_id(0) * B + tl.arange(0, B)
    inside = at < H * W
    row, column, damping = at // W, at % W, tl.load(numbers + 1)
    first = tl.program_id(1).to(tl.int64) * 4 * K * pixels
    messages, sent, moved = old + first, new + first, tl.zeros((B,), kind)
    total, degree = tl.zeros((B,), kind), tl.zeros((B,), kind)
    for d in tl.static_range(4):
        there, source = neighbour(at, row, column, H, W, d)
        there = there & inside
        degree += tl.where(there, 1.0, 0.0).to(kind)
        cavity = known(messages, unary, pixels, source, there, d ^ 1, K)
        scale = largest(cavity, K)
        if not MAXIMISE:
            weights = ()
            for k in tl.static_range(K):
                weights = weights + (tl.exp(cavity[k] - scale),)
            cavity = weights
        received = ()
        for k in tl.static_range(K):
            received = received + (combined(cavity, coupling, k, K, MAXIMISE),)
        if not MAXIMISE:
            if d % 2 == 0:  # each edge once: log Z_ij, of what the source sends and the receiver knows without it
                mine = known(messages, unary, pixels, at, there, d, K)
                most = largest(mine, K)
                both = tl.zeros((B,), kind)
                for k in tl.static_range(K):
                    both += received[k] * tl.exp(mine[k] - most)
                edge = tl.log(both) + scale + most + tl.load(numbers)
                total += tl.where(there, edge, 0.0)
            logs = ()
            for k in tl.static_range(K):
                logs = logs + (tl.log(received[k]),)
            received = logs
        most = largest(received, K)
        for k in tl.static_range(K):
            place = (d * K + k) * pixels + at
            before = tl.load(messages + place, mask=inside, other=0.0)
            value = tl.maximum(received[k] - most, tl.full((B,), FORBIDDEN, kind))
            value = tl.where(there, value, 0.0)
            value += damping * (before - value)
            moved = tl.maximum(moved, tl.where(inside, tl.abs(value - before), 0.0))
            tl.store(sent + place, value, mask=inside)
    if not MAXIMISE:
        belief = known(messages, unary, pixels, at, inside, 4, K)
        total += tl.where(inside, (1.0 - degree) * log_sum(belief, K), 0.0)
    place = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(estimate + place, tl.sum(total, 0))
    tl.store(change + place, tl.max(moved, 0))
