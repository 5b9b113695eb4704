"""Eigenvectors of small symmetric matrices, one matrix a program, without waiting for the host."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def jacobi(matrix, vectors, values, n, sweeps, WIDTH: tl.constexpr):
    """Store eigenvectors as columns, and eigenvalues, of positive definite matrices [batch, n, n].

    Jacobi's method, one-sided (Hestenes 1958): columns of S V are made orthogonal two by two, each column together with
    the one whose number differs from its own by the same bits, whatever these are. Then their lengths are the
    eigenvalues, and their directions the eigenvectors, as S v = lambda v: V itself is not needed. Angles of a sweep are
    about the squares of those of the sweep before, so that small ones are the last.
    """
    row, column = tl.arange(0, WIDTH)[:, None], tl.arange(0, WIDTH)[None, :]
    place = tl.program_id(0).to(tl.int64) * n * n + row * n + column
    inside = (row < n) & (column < n)
    a = tl.load(matrix + place, mask=inside, other=0.0)
    own = tl.arange(0, WIDTH)
    sweep, widest = sweeps * 0, tl.sum(a * a) * 0.0 + 1.0
    while (sweep < sweeps) & (widest > 1e-8):
        sweep, mine = sweep + 1, tl.sum(a * a, 0)
        angles = mine * 0.0
        for bits in range(1, WIDTH):
            partner = (column ^ bits) + row * 0
            b = tl.gather(a, partner, 1)
            other, product = tl.gather(mine, own ^ bits, 0), tl.sum(a * b, 0)
            first = own < (own ^ bits)
            # The angle is that of the pair: its sine has one sign for the first column and another for the second.
            gap = tl.where(first, other - mine, mine - other)
            turn = tl.abs(product) > 1e-300
            ratio = gap / tl.where(turn, 2.0 * product, 1.0)
            tangent = tl.where(ratio >= 0, 1.0, -1.0) / (tl.abs(ratio) + tl.sqrt(1.0 + ratio * ratio))
            tangent = tl.where(turn, tangent, 0.0)
            # Of two equal lengths the angle may be any: what counts is a product that rounding has not made.
            met = tl.abs(product) > 1e-14 * tl.sqrt(tl.maximum(mine, 0.0) * tl.maximum(other, 0.0))
            angles = tl.maximum(angles, tl.where(met, tl.abs(tangent), 0.0))
            tangent = tl.where(first, -tangent, tangent)
            cosine = 1.0 / tl.sqrt(1.0 + tangent * tangent)
            sine, mine = cosine * tangent, mine + tangent * product
            a = a * cosine[None, :] + b * sine[None, :]
        widest = tl.max(angles, 0)
    length = tl.sqrt(tl.sum(a * a, 0))
    tl.store(vectors + place, a / tl.maximum(length, 1e-300)[None, :], mask=inside)
    tl.store(values + tl.program_id(0) * n + own, length, mask=own < n)
