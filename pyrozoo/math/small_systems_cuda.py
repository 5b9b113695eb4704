"""Cholesky factors of small matrices and solutions with them, one system a thread: nothing goes between threads.

Loops are not unrolled, as compiling them would take minutes: a factor lies in memory, of which a cache holds what the
threads of a processor work on.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def solve(matrix, right, noise, factor, result, n, L, DRAW: tl.constexpr, S: tl.constexpr):
    """Store A^-1 b + F^-T noise, A = F F^T, of matrices [L, L, n], of which what is above the diagonal is not read.

    A matrix that has no factor gives no numbers. ``factor`` is room for F, packed, with 1 / F_kk on its diagonal.
    """
    system = tl.program_id(0) * S + tl.arange(0, S)
    there, wide = system < n, tl.full((), 0, tl.int64) + n
    matrix, right, factor, result = matrix + system, right + system, factor + system, result + system
    for i in range(0, L):
        row = factor + (i * (i + 1) // 2) * wide
        value = tl.load(right + i * wide, mask=there, other=0.0)
        for j in range(0, i):
            above = factor + (j * (j + 1) // 2) * wide
            cell = tl.load(matrix + (i * L + j) * wide, mask=there, other=0.0)
            for k in range(0, j):
                cell -= tl.load(row + k * wide, mask=there) * tl.load(above + k * wide, mask=there)
            cell *= tl.load(above + j * wide, mask=there)
            tl.store(row + j * wide, cell, mask=there)
            value -= cell * tl.load(result + j * wide, mask=there)
        pivot = tl.load(matrix + (i * L + i) * wide, mask=there, other=1.0)
        for k in range(0, i):
            cell = tl.load(row + k * wide, mask=there)
            pivot -= cell * cell
        pivot = 1.0 / tl.sqrt(pivot)
        tl.store(row + i * wide, pivot, mask=there)
        tl.store(result + i * wide, value * pivot, mask=there)
    for step in range(0, L):
        i = L - 1 - step
        value = tl.load(result + i * wide, mask=there, other=0.0)
        if DRAW:
            value += tl.load(noise + i * wide + system, mask=there, other=0.0)
        for k in range(i + 1, L):
            cell = tl.load(factor + (k * (k + 1) // 2 + i) * wide, mask=there)
            value -= cell * tl.load(result + k * wide, mask=there)
        value *= tl.load(factor + (i * (i + 1) // 2 + i) * wide, mask=there)
        tl.store(result + i * wide, value, mask=there)
