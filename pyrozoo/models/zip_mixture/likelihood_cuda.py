"""Responsibilities in one pass over their logarithms; each program is of some rows, each under some chain."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def soften(logits, added, constant, evidence, pairs, C, K: tl.constexpr, WIDTH: tl.constexpr, B: tl.constexpr):
    """Replace logits, [row, chain, K] less ``added``, by what they say of the components; store log p(x_i)."""
    pair = tl.program_id(0) * B + tl.arange(0, B)
    component = tl.arange(0, WIDTH)
    there = pair < pairs
    both = there[:, None] & (component < K)[None, :]
    row, chain = pair // C, pair % C
    place = pair[:, None] * K + component[None, :]
    more = tl.load(added + chain[:, None] * K + component[None, :], mask=both, other=0.0)
    value = tl.where(both, tl.load(logits + place, mask=both, other=0.0) + more, -float("inf"))
    # Rows beyond the last have no largest value, but need a finite one.
    top = tl.where(there, tl.max(value, 1), 0.0)
    value = tl.exp(value - top[:, None])
    total = tl.where(there, tl.sum(value, 1), 1.0)
    tl.store(logits + place, value / total[:, None], mask=both)
    known = tl.load(constant + row, mask=there, other=0.0)
    tl.store(evidence + pair, top + tl.log(total) + known, mask=there)
