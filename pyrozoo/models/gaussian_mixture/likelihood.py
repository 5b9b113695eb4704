"""The likelihood of rows with holes as one matrix product for each pattern of holes, and its transpose as their sums.

Of matrices, log N(x; mu, Sigma) is linear in [1 | x | x x^T], D (D + 1) / 2 products of columns: so the log-likelihood
of all rows of a pattern under every component of every chain is one product, N K D^2 operations, and what the M-step
needs is the transposed one. A pattern has a precision of its own, the inverse of what is observed of Sigma. Rows go
through in blocks that stay in cache, and nothing of size N x K x D, nor the N x D^2 / 2 of the design, is ever stored.
Of variances it is linear in [1 | x | x^2 | observed], whatever is missing: there is one pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.core.blocks import at_once
from pyrozoo.data.table import Table
from pyrozoo.math.linear_algebra import lower_factor, pack, safe_cholesky, standard_normal, unpack
from pyrozoo.math.multinomial import choose
from pyrozoo.program.covariances import log_diagonal

BLOCK_ELEMENTS, MATRIX_ELEMENTS = 2**18, 2**21
"""Numbers of a block of rows and of the matrices of patterns that are worked on at a time, on a CPU."""


class Known(NamedTuple):
    """What rows see of the components: values, or what stands for expectations, relative to the prior's location.

    ``covariance``: matrices [C, K, D, D] or [C, 1, D, D], or variances [C, K, D] or [C, K, 1]. ``bonus`` is added to
    the log density of each observed cell.
    """

    log_weights: Float[Tensor, "C K"]
    mean: Float[Tensor, "C K D"]
    covariance: Float[Tensor, C * form]
    bonus: Float[Tensor, "C K D"] | None = None


@dataclass(frozen=True)
class Sums:
    """Sums over the rows of each component, of x relative to the prior's location, missing cells filled in.

    Attributes:
        counts: Rows.
        seen: Cells that count for the mean of a column: observed ones of variances; of matrices all rows, [C, K, 1].
        total: Of x.
        second: Of x x^T, or of x^2.
    """

    counts: Float[Tensor, "*P C K"]
    seen: Float[Tensor, "*P C K cells"]
    total: Float[Tensor, "*P C K D"]
    second: Float[Tensor, "*any"]

    @classmethod
    def over(cls, parts: list[Sums]) -> Sums:
        """Return the sum of sums over some rows each."""
        return cls(*(torch.stack([getattr(part, each.name) for part in parts]).sum(0) for each in fields(cls)))

    def times(self, shares: Float[Tensor, "C K"]) -> Sums:
        """Return sums of one row as its shares in the components."""
        parts = (getattr(self, each.name) for each in fields(self))
        return Sums(*(part * shares[(..., *[None] * (part.ndim - 2))] for part in parts))

    def ordered(self, order: Int[Tensor, "C K"]) -> Sums:
        """Return the same with components in another order."""
        chains = torch.arange(len(order), device=order.device).unsqueeze(-1)
        return Sums(*(getattr(self, each.name)[chains, order] for each in fields(self)))


@dataclass(frozen=True)
class Conditional:
    """Missing cells given the others, for some patterns: E[x | observed] = mean + B (x - mean), and the covariance V.

    Attributes:
        seen: Which columns the patterns have.
        slope: B, zero in the columns that are missing; of rows that are observed it is the identity.
        covariance: V, zero in rows and columns that are observed.
    """

    seen: Float[Tensor, "*P D"]
    slope: Float[Tensor, "*P C k D D"]
    covariance: Float[Tensor, "*P C k D D"]

    def at(self, pattern: int) -> Conditional | None:
        """Return that of one pattern, None where nothing is missing."""
        parts = self.seen[pattern], self.slope[pattern], self.covariance[pattern]
        return None if bool(parts[0].all()) else Conditional(*parts)

    def complete(self, sums: Sums, mean: Float[Tensor, "C K D"]) -> Sums:
        """Return sums over the rows of all patterns, missing cells in expectation, from those of observed cells."""
        n, at = sums.seen, mean * self.seen[:, None, None]
        centred = sums.total - n * at
        cross = _outer(sums.total, at)
        second = sums.second - cross - cross.mT + n.unsqueeze(-1) * _outer(at, at)
        moved = (self.slope @ centred.unsqueeze(-1)).squeeze(-1)
        cross = _outer(moved, mean)
        around = self.slope @ second @ self.slope.mT + n.unsqueeze(-1) * (self.covariance + _outer(mean, mean))
        parts = sums.counts, n, n * mean + moved, around + cross + cross.mT
        return Sums(*(part.sum(0) for part in parts))

    def draw(self, mean: Float[Tensor, "C K D"], x: Float[Tensor, "C D n"], z: Int[Tensor, "C n"]) -> Tensor:
        """Draw whole rows of one pattern, given their components."""
        chains = torch.arange(len(z), device=z.device).unsqueeze(-1)
        which, own = (z if self.slope.shape[1] > 1 else torch.zeros_like(z)), mean[chains, z]
        hidden = 1 - self.seen
        factor = safe_cholesky(self.covariance + self.seen.diag_embed(), "what is missing") * hidden.unsqueeze(-1)
        away = (x.mT - own * self.seen).unsqueeze(-1)
        moved = self.slope[chains, which] @ away + factor[chains, which] @ standard_normal(away)
        return torch.where(self.seen > 0, x.mT, own + moved.squeeze(-1)).mT


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left.unsqueeze(-1) * right.unsqueeze(-2)


@dataclass(frozen=True, eq=False)
class Layout:
    """A table, its rows sorted by pattern of holes.

    Attributes:
        values: x relative to the prior's location, 0 where missing, a column in a line, [D, N].
        order: Which row of the table stands at each place.
        seen: Which columns the patterns have, [P, D]; of variances, whose rows have one pattern, [N, D].
        starts: First row of every pattern, and N at the end.
        matrices: Whether covariances are matrices.
    """

    values: Float[Tensor, "D N"]
    order: Int[Tensor, N]
    seen: Float[Tensor, "patterns D"]
    starts: list[int]
    matrices: bool

    @classmethod
    def of(cls, table: Table, location: Float[Tensor, D], matrices: bool) -> Layout:
        """Sort a table."""
        x, observed = torch.where(table.observed, table.filled - location, 0.0), table.observed
        if not matrices:
            return cls(x.T.contiguous(), torch.arange(len(x), device=x.device), observed.to(x), [0, len(x)], False)
        seen, pattern = observed.unique(dim=0, return_inverse=True)
        order = pattern.argsort(stable=True)
        starts = [0, *pattern.bincount(minlength=len(seen)).cumsum(0).tolist()]
        return cls(x[order].T.contiguous(), order, seen.to(x), starts, True)

    @cached_property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return bool(self.seen.all())

    @cached_property
    def empty(self) -> int:
        """How many rows, the first, have no value at all; of variances none has a pattern of its own."""
        return self.starts[1] if self.matrices and not self.seen[0].any() else 0

    def design(self, rows: slice | Tensor) -> Float[Tensor, "*C F n"]:
        """Return what the log-likelihood is linear in, of rows or of values in the place of theirs, [*C, D, n]."""
        x = self.values[:, rows] if isinstance(rows, slice) else rows
        ones = torch.ones_like(x[..., :1, :])
        if not self.matrices:
            seen = [] if self.complete else [self.seen[rows].T]
            return torch.cat([ones, x, x * x, *seen])
        i, j = torch.tril_indices(len(self.values), len(self.values), device=x.device)
        return torch.cat([ones, x, x.index_select(-2, i) * x.index_select(-2, j)], -2)

    @cached_property
    def back(self) -> Int[Tensor, N]:
        """The place of every row of the table."""
        return self.order.argsort()

    def patterns(self, known: Known) -> Iterator[tuple[list[slice], Float[Tensor, "P C K F"], Any]]:
        """Go through patterns, some at a time: the rows of each, what multiplies their design, what completes them."""
        if not self.matrices:
            yield [slice(0, self.starts[-1])], self._by_cell(known)[None], None
            return
        step = max(1, at_once(MATRIX_ELEMENTS, self.values) // (known.mean.numel() * len(self.values)))
        # A row without any value says nothing, and is left out.
        for first in range(1 if self.empty else 0, len(self.seen), step):
            seen = self.seen[first : first + step]
            edges = self.starts[first : first + len(seen) + 1]
            yield [slice(*edge) for edge in pairwise(edges)], *self._by_pattern(known, seen)

    def _by_cell(self, known: Known) -> Float[Tensor, "C K F"]:
        mean, precision = known.mean, 1 / known.covariance.expand_as(known.mean)
        cell = 0.5 * (precision.log() - math.log(2 * math.pi) - mean.square() * precision)
        cell = cell if known.bonus is None else cell + known.bonus
        ones, parts = known.log_weights.unsqueeze(-1), (mean * precision, -0.5 * precision)
        if self.complete:
            return torch.cat([ones + cell.sum(-1, keepdim=True), *parts], -1)
        return torch.cat([ones, *parts, cell], -1)

    @staticmethod
    def _by_pattern(known: Known, seen: Float[Tensor, "P D"]) -> tuple[Float[Tensor, "P C K F"], Conditional]:
        o, S = seen[:, None, None, :], known.covariance
        both = o.unsqueeze(-1) * o.unsqueeze(-2)
        factor = lower_factor(S * both + (1 - o).diag_embed())
        inverse = torch.linalg.solve_triangular(factor, torch.eye(seen.shape[-1]).to(seen), upper=False)
        precision = inverse.mT @ inverse * both
        mean = known.mean * o
        linear = (precision @ mean.unsqueeze(-1)).squeeze(-1)
        size = 0.5 * ((linear * mean).sum(-1) + math.log(2 * math.pi) * o.sum(-1))
        constant = known.log_weights - log_diagonal(factor) - size
        twice = 0.5 * torch.eye(seen.shape[-1]).to(seen) - 1  # what is off the diagonal counts twice
        quadratic = pack(precision * twice).expand(*linear.shape[:-1], -1)
        slope = (S * o.unsqueeze(-2)) @ precision
        conditional = Conditional(seen, slope, S - slope @ (S * o.unsqueeze(-1)))
        return torch.cat([constant.unsqueeze(-1), linear, quadratic], -1), conditional

    def blocks(self, rows: slice, width: int) -> Iterator[slice]:
        """Cut rows so that a block of ``width`` numbers a row stays in cache."""
        step = max(16, at_once(BLOCK_ELEMENTS, self.values) // width)
        for start in range(rows.start, rows.stop, step):
            yield slice(start, min(start + step, rows.stop))

    def by_row(self, known: Known, say: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what is said of log p(x_i, z_i = k), [C, K, n], of every row: [..., n] becomes [..., N]."""
        parts = [say(known.log_weights.unsqueeze(-1).expand(-1, -1, self.empty))] if self.empty else []
        for slices, natural, _ in self.patterns(known):
            for rows, weights in zip(slices, natural, strict=True):
                for block in self.blocks(rows, weights[..., 0].numel() + weights.shape[-1]):
                    logits = weights.flatten(0, 1) @ self.design(block)  # out of place: gradients flow through
                    parts.append(say(logits.unflatten(0, weights.shape[:2])))
        return torch.cat(parts, -1)[..., self.back]

    def conditional(self, known: Known, columns: Int[Tensor, N]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of one missing cell of every row under every component, [C, K, N]."""
        if not self.matrices:
            return known.mean[..., columns], known.covariance.expand_as(known.mean)[..., columns]
        shape, at = (*known.mean.shape[:2], len(columns)), self.order[: self.empty]
        mean, variance = known.mean[..., columns], known.mean.new_empty(shape)
        variance[..., at] = known.covariance.diagonal(dim1=-2, dim2=-1)[..., columns[at]].expand(*shape[:2], -1)
        for slices, _, given in self.patterns(known):
            for p, rows in enumerate(slices):
                at, x, seen = self.order[rows], self.values[:, rows].T, given.seen[p]
                d = columns[at]
                slope, expected = given.slope[p][..., d, :], (known.mean * seen).unsqueeze(-1)
                mean[..., at] += (slope * x).sum(-1) - (slope @ expected).squeeze(-1)
                variance[..., at] = given.covariance[p][..., d, d].expand(*shape[:2], -1)
        return mean, variance

    def expect(self, known: Known, sample: bool = False, keep: list[Any] | None = None) -> tuple[Sums, Tensor]:
        """Return sums over the rows of each component, and sum_i log p(x_i), [C].

        Args:
            known: The components.
            sample: Draw each row's component, and its missing cells, in place of expectations.
            keep: Takes what is drawn, block by block: which rows, components [C, n] and whole rows [C, D, n].
        """
        evidence, sums = known.mean.new_zeros(len(known.mean)), []
        for slices, natural, given in self.patterns(known):
            found = torch.zeros_like(natural)
            for p, rows in enumerate(slices):
                fill = given.at(p) if sample and given is not None else None
                for block in self.blocks(rows, natural[0, ..., 0].numel() + natural.shape[-1]):
                    design = self.design(block)
                    logits = (natural[p].flatten(0, 1) @ design).unflatten(0, natural.shape[1:3])
                    top = logits.amax(1, keepdim=True)
                    r = logits.sub_(top).exp_()
                    total = r.sum(1, keepdim=True)
                    evidence += (top + total.log()).sum((1, 2))
                    if not sample:
                        found[p].flatten(0, 1).addmm_(r.div_(total).flatten(0, 1), design.T)
                        continue
                    z = choose(r.movedim(1, -1))
                    x = self.values[:, block].expand(len(z), -1, -1)
                    x = x if fill is None else fill.draw(known.mean, x, z)
                    r = torch.zeros_like(r).scatter_(1, z.unsqueeze(1), 1.0)
                    found[p] += r @ (design if fill is None else self.design(x)).mT
                    if keep is not None:
                        keep.append((self.order[block], z, x))
            done = sample or given is None or bool(given.seen.all())
            sums.append(self.sums(found.sum(0)) if done else given.complete(self.sums(found), known.mean))
        if not sums:  # no row has a value
            D = len(self.values)
            sums.append(self.sums(known.mean.new_zeros(*known.mean.shape[:2], 1 + D + D * (D + 1) // 2)))
        return Sums.over(sums), evidence

    def sums(self, found: Float[Tensor, "*P C K F"]) -> Sums:
        """Return sums of the design as sums over rows."""
        D, ones = len(self.values), found[..., :1]
        if self.matrices:
            return Sums(found[..., 0], ones, found[..., 1 : D + 1], unpack(found[..., D + 1 :], D))
        total, second, seen = found[..., 1:].split([D, D, found.shape[-1] - 2 * D - 1], -1)
        return Sums(found[..., 0], seen if seen.shape[-1] else ones.expand_as(total), total, second)
