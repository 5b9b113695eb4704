"""What rows and columns of a table with holes tell of each other, in batched matrix products.

Symbols: a_n = (z_n, 1) and beta_d = (w_d, mu_d - offset_d) have M + 1 entries, "augmented", so that x_nd - offset_d is
beta_d . a_n plus noise; S = diag(sigma^2). Everything stands for C chains at once.

Given the columns, row n has precision J_n = I + sum_{d observed} w_d w_d^T / sigma_d^2; given the rows, column d has
sum_{n observed} a_n a_n^T. Both are one product of a mask with packed outer products. The mask is reduced first: rows
with the same pattern of holes share a J, columns with the same pattern share a sum, so that a complete table needs
one of each, and the largest arrays are N x M, D x M and (distinct columns) x M^2 / 2, plus blocks of fixed size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Values
from pyrozoo.data.table import Table
from pyrozoo.math.linear_algebra import (
    inverse_and_log_determinant,
    pack,
    packed_outer,
    safe_cholesky,
    standard_normal,
    unpack,
)

BLOCK_ELEMENTS, SHARED = 2**22, 16
"""Entries of the M x M matrices held at once on a CPU, 32 MB in float64; rows from which a pattern of holes is worth a
block."""


@dataclass(frozen=True)
class Moments:
    """What the rows tell of the columns. [C, ...]; G groups of columns with the same holes.

    Attributes:
        groups: sum over observed rows of E[a a^T], per group of columns.
        cross: sum over observed rows of (x - offset) E[a], per column.
        total: sum over all rows of E[a a^T].
        factors: E[z_n], or a draw of z_n, in the layout's order of rows; None: they are not kept.
        evidence: sum_n log p(x_n | columns), or its bound when the columns are uncertain.
    """

    groups: Float[Tensor, "C G A A"]
    cross: Float[Tensor, "C D A"]
    total: Float[Tensor, "C A A"]
    factors: Float[Tensor, "C N M"] | None
    evidence: Float[Tensor, C]


@dataclass(frozen=True)
class Columns:
    """What is known of the columns, as the rows see it. [C, ...].

    Attributes:
        coefficients: E[beta_d].
        precision: E[1 / sigma_d^2].
        log_noise: E[log sigma_d^2].
        covariance: E[(beta - E beta)(beta - E beta)^T / sigma^2], the same for a group's columns; None when known.
    """

    coefficients: Float[Tensor, "C D A"]
    precision: Float[Tensor, "C D"]
    log_noise: Float[Tensor, "C D"]
    covariance: Float[Tensor, "C G A A"] | None = None


@dataclass(frozen=True)
class _Block:
    """Patterns, and the rows that have them; ``index``: the pattern of each row, None when all have one."""

    patterns: slice
    rows: slice
    index: Int[Tensor, R] | None


@dataclass(frozen=True, eq=False)
class Layout:
    """A table, sorted by what is missing.

    Attributes:
        values: x - offset, 0 where missing; rows in the layout's order.
        observed: Where there is a value, in the same order.
        offset: Observed mean of every column.
        order: Which row of the table stands at each place.
        seen: 1 where the pattern of rows meets the group of columns in observed cells.
        starts: First row of every pattern, and N at the end.
        group: The group of every column.
        ones: What stands in the place of 1 in every row of a squeezed layout.
    """

    values: Float[Tensor, "N D"]
    observed: Bool[Tensor, "N D"]
    offset: Float[Tensor, D]
    order: Int[Tensor, N]
    seen: Float[Tensor, "P G"]
    starts: Int[Tensor, Q]
    group: Int[Tensor, D]
    ones: Float[Tensor, N] | None = None

    @classmethod
    def of(cls, table: Table, offset: Float[Tensor, D] | None = None) -> Layout:
        """Sort a table.

        Args:
            table: The table.
            offset: What its columns are held above, of some rows of many, whose groups of columns are numbered by their
                first ones, as those of all rows are; None: their observed means.
        """
        device, dtype = table.values.device, table.values.dtype
        mask = table.observed.cpu().numpy()
        order, starts, _ = _patterns(mask)
        distinct = mask[order[starts[:-1]]]
        by_column, edges, group = _patterns(distinct.T)
        seen = distinct[:, by_column[edges[:-1]]]
        index = torch.as_tensor(order, device=device)
        observed = table.observed[index]
        if offset is None:
            offset = (table.filled.double().sum(0) / observed.sum(0).clamp(min=1)).to(dtype)
        else:
            places = np.unique(group, return_index=True)[1].argsort()
            group, seen = places.argsort()[group], seen[:, places]
        values = torch.where(observed, table.filled[index] - offset, 0.0)
        return cls(
            values, observed, offset, index, torch.as_tensor(seen, device=device).to(dtype), torch.as_tensor(starts),
            torch.as_tensor(group, device=device),
        )  # fmt: skip

    @cached_property
    def back(self) -> Tensor:
        """The place of every row of the table in the layout's order."""
        return self.order.argsort()

    @cached_property
    def squeezed(self) -> Layout:
        """Fewer rows of which sums of products are the same: a root of the sum of (x, 1)(x, 1)^T of every pattern."""
        parts, most = [], self.values.shape[1] + 1
        for start, stop in itertools.pairwise(self.starts.tolist()):
            rows = self.values[start:stop]
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
            parts.append(torch.linalg.qr(rows, mode="r")[1] if len(rows) > most else rows)
        whole, lengths = torch.cat(parts), torch.tensor([len(part) for part in parts])
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        observed = self.observed[self.starts[:-1].repeat_interleave(lengths)]
        order = torch.arange(len(whole), device=whole.device)
        return replace(
            self, values=whole[:, :-1], observed=observed, order=order, starts=starts, ones=whole[:, -1].contiguous()
        )

    @cached_property
    def counts(self) -> Float[Tensor, P]:
        """Rows per pattern."""
        return self.starts.diff().to(self.seen)

    @cached_property
    def sizes(self) -> Float[Tensor, G]:
        """Columns per group."""
        return torch.bincount(self.group, minlength=self.seen.shape[1]).to(self.seen)

    @cached_property
    def firsts(self) -> Int[Tensor, G]:
        """The first column of every group."""
        columns, none = torch.arange(len(self.group), device=self.group.device), len(self.group)
        return self.group.new_full((self.seen.shape[1],), none).scatter_reduce(0, self.group, columns, "amin")

    @cached_property
    def observations(self) -> Float[Tensor, D]:
        """Observed values per column."""
        return (self.counts @ self.seen)[self.group]

    @cached_property
    def squares(self) -> Float[Tensor, D]:
        """Sum over observed rows of (x - offset)^2, added up in double precision."""
        return torch.stack([block.double().square().sum(0) for block in self.values.split(4096)]).sum(0)

    @cached_property
    def sums(self) -> Float[Tensor, D]:
        """Sum over observed rows of x - offset: nothing but rounding, kept for exactness."""
        return self.values.double().sum(0).to(self.values.dtype)

    def coefficients(self, point: Values) -> Float[Tensor, "C D A"]:
        """Return beta of points, site -> [C, *event]."""
        return torch.cat([point["loadings"], (point["mean"] - self.offset).unsqueeze(-1)], -1)

    def point(self, beta: Float[Tensor, "C D A"], noise_variance: Float[Tensor, "C D"]) -> dict[str, Tensor]:
        """Return the sites that coefficients and noise variances stand for."""
        return {"loadings": beta[..., :-1], "mean": beta[..., -1] + self.offset, "noise_variance": noise_variance}

    def known(self, point: Values) -> Columns:
        """Return known columns, site -> [C, *event], as the rows see them."""
        noise = point["noise_variance"]
        return Columns(self.coefficients(point), 1 / noise, noise.log())

    @cached_property
    def members(self) -> list[Tensor]:
        """The columns of every group."""
        return list(self.group.argsort(stable=True).split(self.sizes.long().tolist()))

    @property
    def few_groups(self) -> bool:
        """Whether a loop over groups is cheaper than a matrix per column."""
        return len(self.sizes) <= max(1, len(self.group) // 4)

    def quadratic(self, columns: Columns) -> Float[Tensor, "C G T"]:
        """Return sum_{d in group} E[beta beta^T / sigma^2], packed."""
        beta, weighted = columns.coefficients, columns.coefficients * columns.precision.unsqueeze(-1)
        if self.few_groups:
            parts = [pack(weighted[:, each].mT @ beta[:, each]) for each in self.members]
            result = torch.stack(parts, 1)
        else:
            outer = packed_outer(weighted, beta)
            result = outer.new_zeros(len(beta), len(self.sizes), outer.shape[-1]).index_add(1, self.group, outer)
        return result if columns.covariance is None else result + self.sizes[:, None] * pack(columns.covariance)

    def regrouped(self, columns: Columns, layout: Layout) -> Columns:
        """Return columns as a layout of fewer rows sees them, of which each group is one or several of this one's."""
        if columns.covariance is None:
            return columns
        C, (_, G), size = len(columns.covariance), layout.seen.shape, columns.covariance.shape[-1]
        total = columns.covariance.new_zeros(C, G, size, size)
        total = total.index_add(1, layout.group[self.firsts], self.sizes[:, None, None] * columns.covariance)
        return replace(columns, covariance=total / layout.sizes[:, None, None])

    def _blocks(self, chains: int, size: int) -> Iterator[_Block]:
        """Go through the patterns: those of many rows one by one, others in blocks."""
        most = max(1, at_once(BLOCK_ELEMENTS, self.values) // (chains * size * size))
        starts = self.starts.tolist()
        first, total = 0, len(starts) - 1
        while first < total:
            last = first + 1
            if starts[last] - starts[first] < SHARED:
                while last < total and last - first < most and starts[last + 1] - starts[last] < SHARED:
                    last += 1
            index = None
            if last > first + 1:
                counts = self.starts[first : last + 1].diff()
                index = torch.repeat_interleave(torch.arange(last - first), counts).to(self.order.device)
            yield _Block(slice(first, last), slice(starts[first], starts[last]), index)
            first = last

    def _rows(self, columns: Columns) -> Iterator[tuple[_Block, Tensor, Tensor, Tensor]]:
        """Yield, by block, J of its patterns, h = J times the mean of its rows, and what the columns' means add."""
        M, beta = columns.coefficients.shape[-1] - 1, columns.coefficients
        quadratic, linear = self.quadratic(columns), beta[..., :-1] * columns.precision.unsqueeze(-1)
        for block in self._blocks(len(beta), M + 1):
            packed = self.seen[block.patterns] @ quadratic
            J = unpack(packed, M) + torch.eye(M, dtype=packed.dtype, device=packed.device)
            cross = packed[..., -M - 1 : -1]
            cross = cross if block.index is None else cross[:, block.index]
            h = self.values[block.rows] @ linear
            h = h - (cross if self.ones is None else cross * self.ones[block.rows].unsqueeze(-1))
            yield block, J, h, packed[..., -1]

    def moments(self, columns: Columns, *, draw: bool = False) -> Moments:
        """Return what the rows tell of the columns: expectations of the factors, or draws of them.

        z_n | x_n ~ N(J_n^-1 h_n, J_n^-1) with h_n = sum_{d observed} w_d (x_nd - mu_d) / sigma_d^2.

        Args:
            columns: What is known of the columns.
            draw: Draw every z_n instead of taking expectations.
        """
        beta = columns.coefficients
        C, D, size = beta.shape
        M, N = size - 1, len(self.values)
        packed = size * (size + 1) // 2
        groups, total = beta.new_zeros(C, len(self.sizes), packed), beta.new_zeros(C, packed)
        cross, factors = beta.new_zeros(C, D, M), beta.new_empty(C, N, M)
        evidence = self._apart(columns).double()
        for block, J, h, constant in self._rows(columns):
            counts = self.counts[block.patterns]
            if draw:
                L = safe_cholesky(J, "the precision of the factors")
                log_determinant = 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
                y = _triangular(L, h, block.index, transposed=False)
                quadratic_form = y.square().sum((1, 2))
                z = _triangular(L, y + standard_normal(y), block.index, transposed=True)
            else:
                covariance, log_determinant = inverse_and_log_determinant(J, "the precision of the factors")
                z = _times(covariance, h, block.index)
                quadratic_form = (h * z).sum((1, 2))
            second = _outer_sums(z, block.index, J.shape[1])
            if not draw:
                second[..., : -M - 1] += counts[:, None] * pack(covariance)
            groups += self.seen[block.patterns].T @ second
            total += second.sum(1)
            cross += self.values[block.rows].T @ z
            factors[:, block.rows] = z
            evidence = evidence + 0.5 * (quadratic_form - (counts * (log_determinant + constant)).sum(-1)).double()
        cross = torch.cat([cross, self.sums.expand(C, -1).unsqueeze(-1)], -1)
        return Moments(unpack(groups, size), cross, unpack(total, size), factors, evidence.to(beta))

    def _apart(self, columns: Columns) -> Float[Tensor, C]:
        """Return the part of sum_n log p(x_n | columns) that needs no rows.

        log p(x_n) = h^T J^-1 h / 2 - log|J| / 2 - sum (x - mu)^2 / (2 sigma^2) - ..., of which it is the last.
        """
        tau, mean = columns.precision, columns.coefficients[..., -1]
        squares = (self.squares.to(mean) * tau).sum(-1) - 2 * (self.sums * tau * mean).sum(-1)
        norms = (self.observations * (columns.log_noise + math.log(2 * math.pi))).sum(-1)
        return -0.5 * (squares + norms)

    def evidence(self, columns: Columns) -> Float[Tensor, C]:
        """Return sum_n log p(x_n | columns), the factors summed out, from sums over rows; differentiable."""
        total = self._apart(columns)
        for block, J, h, constant in self.squeezed._rows(columns):
            L = safe_cholesky(J, "the precision of the factors")
            y = _triangular(L, h, block.index, transposed=False)
            each = 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1) + constant
            total = total + 0.5 * (y.square().sum((1, 2)) - (self.counts[block.patterns] * each).sum(-1))
        return total

    def pointwise(self, columns: Columns) -> Float[Tensor, "C N"]:
        """Return log p(x_n | columns) of every row of the table, the factors summed out; differentiable."""
        beta, tau = columns.coefficients, columns.precision
        norms = columns.log_noise + math.log(2 * math.pi)
        norm = norms.new_zeros(len(norms), len(self.sizes)).index_add(1, self.group, norms)
        parts = []
        for block, J, h, constant in self._rows(columns):
            L = safe_cholesky(J, "the precision of the factors")
            y = _triangular(L, h, block.index, transposed=False)
            per_pattern = 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1) + constant + norm @ self.seen[block.patterns].T
            x = self.values[block.rows]
            squares = tau @ x.T.square() - 2 * (tau * beta[..., -1]) @ x.T
            each = per_pattern if block.index is None else per_pattern[:, block.index]
            parts.append(0.5 * (y.square().sum(-1) - squares - each))
        return torch.cat(parts, 1)[:, self.back]

    def posteriors(self, columns: Columns) -> Iterator[tuple[_Block, Tensor, Tensor]]:
        """Yield, block by block, the mean of every row's factors [C, R, M] and the covariance of every pattern's."""
        for block, J, h, _ in self._rows(columns):
            covariance, _ = inverse_and_log_determinant(J, "the precision of the factors")
            yield block, _times(covariance, h, block.index), covariance

    def conditionals(self, columns: Columns) -> tuple[Float[Tensor, "C N M"], Float[Tensor, "C N M M"]]:
        """Return mean and covariance of the factors of every row of the table: small tables and minibatches only."""
        means, covariances = [], []
        for block, mean, covariance in self.posteriors(columns):
            means.append(mean)
            shared = block.index is None
            covariances.append(covariance.expand(-1, mean.shape[1], -1, -1) if shared else covariance[:, block.index])
        return torch.cat(means, 1)[:, self.back], torch.cat(covariances, 1)[:, self.back]


def _patterns(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort rows by their pattern: the order, the start of every pattern (and the end), the pattern of every row.

    Patterns of many rows come first, in one stretch, then those of few.
    """
    packed = np.ascontiguousarray(np.packbits(mask, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), dtype=int)
    rank[np.argsort(counts < SHARED, kind="stable")] = np.arange(len(counts))
    pattern = rank[inverse]
    sizes = np.empty_like(counts)
    sizes[rank] = counts
    return np.argsort(pattern, kind="stable"), np.concatenate([[0], np.cumsum(sizes)]), pattern


def augment(factors: Float[Tensor, "C N M"]) -> Float[Tensor, "C N A"]:
    """Return (z, 1) of every row."""
    return torch.cat([factors, torch.ones_like(factors[..., :1])], -1)


def _times(matrices: Tensor, rows: Tensor, index: Tensor | None) -> Tensor:
    """Multiply each row [C, R, M] by the symmetric matrix of its pattern [C, P, M, M]."""
    if index is None:
        return rows @ matrices[:, 0]
    if matrices.shape[1] != rows.shape[1]:
        matrices = matrices[:, index]
    return (matrices @ rows.unsqueeze(-1)).squeeze(-1)


def _triangular(L: Tensor, rows: Tensor, index: Tensor | None, *, transposed: bool) -> Tensor:
    """Solve L y = row, or L^T y = row, with the factor of each row's pattern."""
    if index is None:
        factor = L[:, 0]
        solved = torch.linalg.solve_triangular(factor.mT if transposed else factor, rows.mT, upper=transposed)
        return solved.mT
    if L.shape[1] != rows.shape[1]:
        L = L[:, index]
    solved = torch.linalg.solve_triangular(L.mT if transposed else L, rows.unsqueeze(-1), upper=transposed)
    return solved.squeeze(-1)


def _outer_sums(z: Tensor, index: Tensor | None, patterns: int) -> Float[Tensor, "C P T"]:
    """Return sum of (z, 1) (z, 1)^T over the rows of every pattern, packed."""
    augmented = augment(z)
    if index is None:
        return pack(augmented.mT @ augmented).unsqueeze(1)
    outer = packed_outer(augmented, augmented)
    if patterns == z.shape[1]:
        return outer
    return outer.new_zeros(len(z), patterns, outer.shape[-1]).index_add(1, index, outer)
