"""Eigenvectors of small symmetric matrices, one matrix a program, without waiting for the host."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def jacobi(matrix, vectors, values, away, n, sweeps, WIDTH: tl.constexpr):
    """Store eigenvectors as columns, and eigenvalues, of positive semi-definite matrices [batch, n, n].

    Jacobi's method, one-sided (Hestenes 1958): columns of S V are made orthogonal two by two, each column together with
    the one whose number differs from its own by the same bits, whatever these are; then their lengths are the
    eigenvalues. ``away`` is the largest product of two columns met in the last sweep, in units of the sum of squares.
    """
    kind: tl.constexpr = matrix.dtype.element_ty
    row, column = tl.arange(0, WIDTH)[:, None], tl.arange(0, WIDTH)[None, :]
    place = tl.program_id(0).to(tl.int64) * n * n + row * n + column
    inside = (row < n) & (column < n)
    a = tl.load(matrix + place, mask=inside, other=0.0)
    v = tl.where(row == column, 1.0, 0.0).to(kind)
    whole, own = tl.sum(a * a), tl.arange(0, WIDTH)
    sweep, met = sweeps * 0, whole
    while (sweep < sweeps) & (met > 1e-15 * whole):
        sweep, mine = sweep + 1, tl.sum(a * a, 0)
        largest = mine * 0.0
        for bits in range(1, WIDTH):
            partner = (column ^ bits) + row * 0
            b, w = tl.gather(a, partner, 1), tl.gather(v, partner, 1)
            other, product = tl.gather(mine, own ^ bits, 0), tl.sum(a * b, 0)
            first = own < (own ^ bits)
            # The angle is that of the pair: its sine has one sign for the first column and another for the second.
            gap = tl.where(first, other - mine, mine - other)
            turn = tl.abs(product) > 1e-300
            ratio = gap / tl.where(turn, 2.0 * product, 1.0)
            tangent = tl.where(ratio >= 0, 1.0, -1.0) / (tl.abs(ratio) + tl.sqrt(1.0 + ratio * ratio))
            tangent = tl.where(turn, tangent, 0.0)
            tangent = tl.where(first, -tangent, tangent)
            cosine = 1.0 / tl.sqrt(1.0 + tangent * tangent)
            sine, mine = cosine * tangent, mine + tangent * product
            a = a * cosine[None, :] + b * sine[None, :]
            v = v * cosine[None, :] + w * sine[None, :]
            largest = tl.maximum(largest, tl.abs(product))
        met = tl.max(largest, 0)
    tl.store(vectors + place, v, mask=inside)
    tl.store(values + tl.program_id(0) * n + own, tl.sqrt(tl.sum(a * a, 0)), mask=own < n)
    tl.store(away + tl.program_id(0), met / tl.maximum(whole, 1e-300))
