"""The normal likelihood of listed pairs, and the regressions of rows on columns and of columns on rows.

Given the columns, the ratings of a row are a linear regression on x_j = (v_j, 1) with coefficients w_i = (u_i, a_i) and
response r_ij - mu - b_j (without offsets: x = v, w = u), and likewise the other way round. Sums over listed pairs of
x x^T, x r and x b are products of the mask, or of the ratings, with a few columns of numbers per row: nothing of size
N x M x K is built. Vectors and matrices of rows are stored with the row as last axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pyro.distributions import Normal, constraints
from torch import Tensor

from pyrozoo.compiler.cuda import CudaKernels, power_of_two
from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.core.draws import Values
from pyrozoo.data.ratings import Ratings
from pyrozoo.math.sparse import Pattern
from pyrozoo.program.whole import Whole

Side = Literal["row", "column"]
Name = Literal["mask", "ratings"]

KERNELS, CUDA = Kernels(__file__), CudaKernels(__file__)

VECTOR = 32
"""Bytes that the kernel in C reads at a time."""

TOGETHER, LEAST_WIDTH, MOST_WIDTH, SMALL = 16, 16, 64, 32
"""Ratings that the kernel on CUDA multiplies at a time, how many numbers each has, and up to which two warps do."""

TILE = 32
"""Rows, and sums of each, that it adds up at a time."""

DENSE = 3
"""With at most so many cells per rating the mask is stored cell by cell: it is then no larger than the ratings."""


def linear(draws: Values) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return row and column factors, mean, row and column offsets; what the model leaves out is 0."""
    U, V = draws["row_factors"], draws["column_factors"]
    if "mean" in draws:
        return U, V, draws["mean"], draws["row_offsets"], draws["column_offsets"]
    zero = U.new_zeros(())
    return U, V, zero.expand(U.shape[:-2]), zero.expand(U.shape[:-1]), zero.expand(V.shape[:-1])


def fitted(draws: Values, pattern: Pattern) -> Float[Tensor, "*b entry"]:
    """Return mu + a_i + b_j + u_i . v_j of the pairs of a pattern."""
    U, V, mean, a, b = linear(draws)
    product = pattern.sampled(U, V)
    if "mean" not in draws:
        return product
    return product + mean.unsqueeze(-1) + a.index_select(-1, pattern.rows) + b.index_select(-1, pattern.columns)


def expected(draws: Values, pairs: Int[Tensor, "entry 2"]) -> Float[Tensor, "*b entry"]:
    """Return mu + a_i + b_j + u_i . v_j of pairs in any order; for many pairs take them in blocks."""
    U, V, mean, a, b = linear(draws)
    i, j = pairs.unbind(1)
    product = (U.index_select(-2, i) * V.index_select(-2, j)).sum(-1)
    if "mean" not in draws:
        return product
    return product + mean.unsqueeze(-1) + a.index_select(-1, i) + b.index_select(-1, j)


class ListedNormal(Whole):
    """r_e ~ N(mean_e, variance) for listed pairs e; a value is a list of entries, as ``Ratings.values``.

    Batch shape (entry,), event shape (3,): row, column, rating.

    Args:
        mean: Of each pair.
        variance: Of the noise, a scalar.
        entries: Whose rows and columns a draw has.
    """

    support = constraints.real_vector

    def __init__(self, mean: Float[Tensor, entry], variance: Float[Tensor, ""], entries: Float[Tensor, "entry 3"]):
        self.normal, self.pairs = Normal(mean, variance.sqrt(), validate_args=False), entries[:, :2]
        super().__init__(mean.shape, (3,))

    def log_prob(self, value: Tensor) -> Float[Tensor, entry]:
        """Return the log density of each rating."""
        return self.normal.log_prob(value[..., 2])

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "entry 3"]:
        """Draw a rating for every listed pair."""
        with torch.no_grad():
            return torch.cat([self.pairs, self.normal.sample().unsqueeze(-1)], 1)


@dataclass(frozen=True)
class Block:
    """w_i = (u_i, a_i) of all rows, or (v_j, b_j) of all columns; L is K, or K + 1 with offsets.

    Attributes:
        mean: Values, or means of q.
        covariance: Covariances of q; None for values that are known.
    """

    mean: Float[Tensor, "L C n"]
    covariance: Float[Tensor, "L L C n"] | None = None

    @classmethod
    def of(cls, factors: Float[Tensor, "C n K"], offsets: Float[Tensor, "C n"] | None) -> Block:
        """Make a block of values."""
        parts = [factors.permute(2, 0, 1), *([] if offsets is None else [offsets.unsqueeze(0)])]
        return cls(torch.cat(parts))

    def second(self) -> Float[Tensor, "F C n"]:
        """Return the lower triangles of E w w^T, row by row: F = L (L + 1) / 2."""
        i, j = torch.tril_indices(len(self.mean), len(self.mean), device=self.mean.device)
        product = self.mean[i] * self.mean[j]
        return product if self.covariance is None else product.add_(self.covariance[i, j])


@dataclass(frozen=True)
class Apart:
    """What residuals are made of beside the columns and their regressions: sums over all listed pairs of rows.

    Attributes:
        squares: Of r^2, r what is above ``Listed.centre``.
        total: Of r.
        crossed: Of r E a, by chain; None without offsets.
        offsets: Of E a.
        offset_squares: Of E a^2.
    """

    squares: Float[Tensor, ""]
    total: Float[Tensor, ""]
    crossed: Float[Tensor, C] | None = None
    offsets: Float[Tensor, C] | None = None
    offset_squares: Float[Tensor, C] | None = None


@dataclass(frozen=True)
class Regressions:
    """Sums over the listed pairs of each row (or column), from which p(w_i | the other side) is made.

    Attributes:
        gram: Lower triangles of the sums of E x x^T, row by row.
        dot: Sums of E x (r - b), b the offset of the other side and r what is above ``Listed.centre``; mu is not in it.
        apart: Of columns, what residuals need of the rows beside.
    """

    gram: Float[Tensor, "F C n"]
    dot: Float[Tensor, "L C n"]
    apart: Apart | None = None


@dataclass(frozen=True)
class Extent:
    """What is known of all ratings together.

    Attributes:
        size: How many there are.
        centre: What they are held above.
    """

    size: int
    centre: float


def residuals(columns: Block, found: Regressions) -> tuple[Float[Tensor, C], Float[Tensor, C]]:
    """Return E sum (r - a - b - u . v)^2 and E sum (r - a - b - u . v), r above ``centre``, in double precision.

    Args:
        columns: The columns.
        found: Regressions of the columns on the rows.
    """
    L, apart = len(columns.mean), found.apart
    assert apart is not None
    i, j = torch.tril_indices(L, L, device=columns.mean.device)
    twice = torch.where(i == j, 1.0, 2.0).double()[:, None, None]
    w, gram = columns.mean.double(), found.gram.double()
    quadratic = (gram * columns.second().double() * twice).sum((0, 2))
    total = apart.squares - 2 * (w * found.dot.double()).sum((0, 2)) + quadratic
    if apart.crossed is None or apart.offsets is None or apart.offset_squares is None:
        return total.clamp(min=0), total.new_zeros(total.shape)
    total = total - 2 * apart.crossed + apart.offset_squares
    first = apart.total - apart.offsets - (w * gram[-L:]).sum((0, 2))
    return total.clamp(min=0), first


class Listed:
    """The listed pairs, laid out for products; totals of rows, and of all.

    With offsets, ratings are held as what they are above their mean, ``centre``, and so is the mean mu where it meets
    them: sums of squares of ratings far from 0 would leave few digits to the residuals.

    Args:
        data: The ratings.
        offsets: Whether the model has offsets.
        centre: What they are held above, of some ratings of many; None: their mean.
    """

    def __init__(self, data: Ratings, offsets: bool, centre: float | None = None):
        self.offsets, self.size = offsets, len(data.values)
        (N, M), pattern = data.shape, data.pattern
        wide = data.counts.double()
        mean = float(wide.mean()) if offsets and self.size else 0.0
        self.centre = mean if centre is None else centre
        wide = wide - self.centre
        r = wide.to(data.counts.dtype)
        self.squares = wide.square().sum()
        self.sums = wide.new_zeros(N).index_add(0, pattern.rows, wide)
        self.counts = torch.bincount(pattern.rows, minlength=N).double()
        self.matrices: dict[tuple[str, str], Tensor | tuple[Pattern, Tensor]] = {}
        for name, values in (("mask", torch.ones_like(r)), ("ratings", r)):
            if DENSE * self.size >= N * M:
                dense = values.new_zeros(N, M)
                dense[pattern.rows, pattern.columns] = values
                self.matrices[name, "row"], self.matrices[name, "column"] = dense.T, dense
            else:
                self.matrices[name, "row"] = pattern, values
                self.matrices[name, "column"] = pattern.transposed, values[pattern.by_column]

    def product(self, name: Name, side: Side, x: Float[Tensor, "F C m"]) -> Float[Tensor, "F C n"]:
        """Return, for every row (or column), the sum of x, or of r x, over its listed pairs."""
        matrix, flat = self.matrices[name, side], x.flatten(0, 1)
        if isinstance(matrix, Tensor):
            return (flat @ matrix).unflatten(0, x.shape[:2])
        pattern, values = matrix
        return pattern.times(values, flat.mT.contiguous()).mT.contiguous().unflatten(0, x.shape[:2])

    def regress(self, side: Side, other: Block) -> Regressions:
        """Sum up what the listed pairs say of one side given the other."""
        matrix, apart = self.matrices["ratings", side], self._apart(other) if side == "column" else None
        if other.covariance is None and not isinstance(matrix, Tensor):
            if KERNELS.serve(other.mean, matrix[1]):
                return Regressions(*self._summed(*matrix, other.mean), apart)
            if len(other.mean) < MOST_WIDTH and CUDA.serve(other.mean, matrix[1]):
                return Regressions(*self._summed_on_cuda(*matrix, other.mean), apart)
        second = other.second()
        if not self.offsets:
            return Regressions(self.product("mask", side, second), self.product("ratings", side, other.mean), apart)
        K = len(other.mean) - 1
        F = K * (K + 1) // 2
        # In place of the last coordinate, the offset of the other side, x has a 1.
        x = torch.cat([other.mean[:K], torch.ones_like(other.mean[:1])])
        # E x b: E v b, which is among second moments, and E b for the 1.
        cross = torch.cat([second[F : F + K], other.mean[K:]])
        sums = self.product("mask", side, torch.cat([second[:F], x, cross]))
        gram, lost = sums[: F + K + 1], sums[F + K + 1 :]
        return Regressions(gram, self.product("ratings", side, x) - lost, apart)

    def _summed(self, pattern: Pattern, ratings: Tensor, mean: Float[Tensor, "L C m"]) -> tuple[Tensor, Tensor]:
        """Return gram and dot, summed row by row, in C."""
        (L, C, m), n = mean.shape, pattern.height
        width = -(-(L + 1) * mean.itemsize // VECTOR) * VECTOR // mean.itemsize
        numbers = self._numbers(mean, width)
        gram, dot = mean.new_empty(L * (L + 1) // 2, C, n), mean.new_empty(L, C, n)
        KERNELS(
            "regress", mean.dtype, pattern.starts, pattern.columns, ratings, numbers, gram, dot, C, n, m, L, width,
            int(self.offsets), threads(),
        )  # fmt: skip
        return gram, dot

    def _numbers(self, mean: Float[Tensor, "L C m"], width: int) -> Float[Tensor, "C m width"]:
        """Return x and after it b of the other side, row by row."""
        L, C, m = mean.shape
        numbers = mean.new_zeros(C, m, width)
        numbers[..., :L] = mean.permute(1, 2, 0)
        if self.offsets:  # in place of the offset x has a 1
            numbers[..., L], numbers[..., L - 1] = mean[-1], 1.0
        return numbers

    def _summed_on_cuda(self, pattern: Pattern, ratings: Tensor, mean: Float[Tensor, "L C m"]) -> tuple[Tensor, Tensor]:
        """Return gram and dot, summed chunk by chunk of each row."""
        (L, C, m), n, (starts, stops, _, firsts) = mean.shape, pattern.height, pattern.chunks
        width, packed = max(LEAST_WIDTH, power_of_two(L + 1)), (L + 1) * (L + 2) // 2
        gram, dot = mean.new_empty(L * (L + 1) // 2, C, n), mean.new_empty(L, C, n)
        partial = mean.new_empty(len(starts), C, packed)
        if len(starts):
            single, numbers = mean.dtype == torch.float32, self._numbers(mean, width)
            CUDA(
                "regress", (len(starts), C), starts, stops, pattern.columns, ratings, numbers, partial, m, C, L=L,
                WIDTH=width, E=TOGETHER, PRECISION="tf32x3" if single else "ieee",
                num_warps=2 if width <= SMALL and single else 4,
            )  # fmt: skip
        tiles = -(-n // TILE), -(-packed // TILE), C
        CUDA("gather", tiles, firsts, partial, gram, dot, n, C, L=L, ROWS=TILE, PART=TILE)
        return gram, dot

    def _apart(self, rows: Block) -> Apart:
        if not self.offsets:
            return Apart(self.squares, self.sums.sum())
        a = rows.mean[-1].double()
        square = a.square() if rows.covariance is None else a.square() + rows.covariance[-1, -1].double()
        return Apart(self.squares, self.sums.sum(), a @ self.sums, a @ self.counts, square @ self.counts)
