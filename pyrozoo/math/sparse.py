"""Products with a matrix of which few cells are listed, differentiable any number of times, batched over a first axis.

For a pattern P, values v on its cells, and matrices A [N, K] and B [M, K]: ``sampled`` gives A B^T at the cells,
``times`` gives V B, ``transposed_times`` gives V^T A. Each is the derivative of the others, so second derivatives come
free. Nothing of size N x M or cells x K is built, but for patterns so small that gathering is faster than a call per
matrix.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from pyrozoo.compiler.cuda import CudaKernels, power_of_two

CUDA = CudaKernels(__file__)

PRODUCTS, WARPS, VECTOR = 2**9, 1, 4
"""Products that a program on CUDA holds, its warps, and numbers of its vectors."""

SMALL = 2**12
"""Cells times K up to which values are gathered, all matrices of the batch at once."""

BLOCK = 2**22
"""Numbers that gathering may hold at a time."""

CHUNK = 1024
"""Most cells of a chunk of a row."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which cells of an N x M matrix are listed, in compressed rows.

    Attributes:
        starts: Where each row begins in ``columns``, and its end, [N + 1].
        columns: Column of each cell, row by row, [cell].
        width: M.
    """

    starts: Int[Tensor, ends]
    columns: Int[Tensor, cell]
    width: int

    @classmethod
    def of(cls, rows: Int[Tensor, cell], columns: Int[Tensor, cell], height: int, width: int) -> Pattern:
        """Make a pattern of cells sorted by row, then by column, each once."""
        starts = torch.zeros(height + 1, dtype=torch.long, device=rows.device)
        torch.cumsum(torch.bincount(rows, minlength=height), 0, out=starts[1:])
        return cls(starts, columns.contiguous(), width)

    @property
    def height(self) -> int:
        """Return N."""
        return len(self.starts) - 1

    @cached_property
    def rows(self) -> Int[Tensor, cell]:
        """Return the row of each cell."""
        lengths = self.starts.diff()
        return torch.repeat_interleave(torch.arange(self.height, device=lengths.device), lengths)

    @cached_property
    def by_column(self) -> Int[Tensor, cell]:
        """Return the order that sorts the cells by column, then by row."""
        return torch.sort(self.columns, stable=True).indices

    @cached_property
    def transposed(self) -> Pattern:
        """Return the pattern of the transposed matrix; its cells are ours in the order ``by_column``."""
        return Pattern.of(self.columns[self.by_column], self.rows[self.by_column], self.width, self.height)

    @cached_property
    def chunks(self) -> tuple[Int[Tensor, chunk], Int[Tensor, chunk], Int[Tensor, chunk], Int[Tensor, ends]]:
        """Return where chunks of rows begin and end among the cells, their rows, and the first chunk of each row.

        Rows are cut so that work on long ones can be shared; an empty one has no chunk.
        """
        counts = (self.starts.diff() + (CHUNK - 1)) // CHUNK
        firsts = torch.zeros_like(self.starts)
        torch.cumsum(counts, 0, out=firsts[1:])
        row = torch.repeat_interleave(torch.arange(self.height, device=counts.device), counts)
        within = torch.arange(len(row), device=row.device) - firsts[row]
        begin = self.starts[row] + within * CHUNK
        return begin, torch.minimum(begin + CHUNK, self.starts[row + 1]), row, firsts

    def sampled(self, left: Float[Tensor, "*b N K"], right: Float[Tensor, "*b M K"]) -> Float[Tensor, "*b cell"]:
        """Return the cells of left right^T."""
        left, right, batch = _matched(left, right, 2)
        return _Sampled.apply(left, right, self).reshape(*batch, len(self.columns))

    def times(self, values: Float[Tensor, "*b cell"], right: Float[Tensor, "*b M K"]) -> Float[Tensor, "*b N K"]:
        """Return V right, V holding the values on the cells."""
        values, right, batch = _matched(values, right, 1)
        return _Times.apply(values, right, self).reshape(*batch, self.height, right.shape[-1])

    def transposed_times(
        self, values: Float[Tensor, "*b cell"], left: Float[Tensor, "*b N K"]
    ) -> Float[Tensor, "*b M K"]:
        """Return V^T left, V holding the values on the cells."""
        return self.transposed.times(values.index_select(-1, self.by_column), left)

    def shared(
        self, values: Float[Tensor, cell], left: Float[Tensor, "C N K"], right: Float[Tensor, "C M K"],
        by_column: Float[Tensor, cell] | None = None,
    ) -> tuple[Float[Tensor, "C N K"], Float[Tensor, "C _ K"], Float[Tensor, C], Float[Tensor, ""]]:  # fmt: skip
        """Return A * (V B) and B * (V^T A), V being the values over the cells of A B^T.

        Args:
            values: Of each cell.
            left: A.
            right: B.
            by_column: The values in the order ``by_column``; without them the second result has no column.

        Returns:
            Both; the sum of values times logarithms of cells of A B^T; and the least of these.
        """
        if len(self.columns) and CUDA.serve(left, right, values):
            of_rows, evidence, lowest = _on_cuda(self, values.unsqueeze(0), right, left)
            of_columns = right[:, :0]
            if by_column is not None:
                of_columns = _on_cuda(self.transposed, by_column.unsqueeze(0), left, right)[0]
            return of_rows, of_columns, evidence.sum(-1), lowest.min()
        s = self.sampled(left, right)
        lowest, ratio = s.min(), values / s
        of_columns = right[:, :0] if by_column is None else right * self.transposed_times(ratio, left)
        return left * self.times(ratio, right), of_columns, s.log_() @ values, lowest

    def row_sums(self, values: Float[Tensor, "*b cell"]) -> Float[Tensor, "*b N"]:
        """Return the sum of the values of each row."""
        total = values.new_zeros(*values.shape[:-1], self.height)
        return total.index_add(-1, self.rows, values)


def _matched(first: Tensor, right: Tensor, axes: int) -> tuple[Tensor, Tensor, torch.Size]:
    """Give both tensors one batch axis."""
    batch = torch.Size(np.broadcast_shapes(first.shape[:-axes], right.shape[:-2]))  # torch's own loads SymPy
    first, right = first.expand(*batch, *first.shape[-axes:]), right.expand(*batch, *right.shape[-2:])
    size = batch.numel()
    return first.reshape(size, *first.shape[-axes:]), right.reshape(size, *right.shape[-2:]), batch


class _Product(torch.autograd.Function):
    """A function of two tensors with a batch axis each, and of a pattern; further axes of vmap are batch axes, too."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *both, ctx.pattern = inputs
        ctx.save_for_backward(*both)

    @classmethod
    def vmap(
        cls, info: Any, in_dims: tuple[int | None, ...], first: Tensor, right: Tensor, pattern: Pattern
    ) -> tuple[Tensor, int]:  # fmt: skip
        size = info.batch_size
        first, right = (
            each.expand(size, *each.shape) if dim is None else each.movedim(dim, 0)
            for each, dim in zip((first, right), in_dims, strict=False)
        )
        return cls.apply(first.flatten(0, 1), right.flatten(0, 1), pattern).unflatten(0, (size, -1)), 0


class _Sampled(_Product):
    """Cells of left right^T, [batch, cell]."""

    @staticmethod
    def forward(left: Tensor, right: Tensor, pattern: Pattern) -> Tensor:
        return _sampled(pattern, left, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        return (
            ctx.pattern.times(gradient, right) if ctx.needs_input_grad[0] else None,
            ctx.pattern.transposed_times(gradient, left) if ctx.needs_input_grad[1] else None,
            None,
        )


class _Times(_Product):
    """V right, [batch, N, K]."""

    @staticmethod
    def forward(values: Tensor, right: Tensor, pattern: Pattern) -> Tensor:
        return _times(pattern, values, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, right = ctx.saved_tensors
        return (
            ctx.pattern.sampled(gradient, right) if ctx.needs_input_grad[0] else None,
            ctx.pattern.transposed_times(values, gradient) if ctx.needs_input_grad[1] else None,
            None,
        )


def _gathers(pattern: Pattern, matrix: Tensor) -> int:
    """Return how many matrices of a batch to gather at a time; 0: call a sparse routine for each.

    Tensors that record where they come from, as Pyro's do when a model is drawn, cannot go through sparse routines, and
    what is recorded to be compiled must not: they have no translation.
    """
    size = len(pattern.columns) * matrix.shape[-1]
    plain = type(matrix) in (Tensor, torch.nn.Parameter) and _get_current_dispatch_mode() is None
    return 0 if size > SMALL and plain else max(1, BLOCK // max(size, 1))


def _sampled(pattern: Pattern, left: Tensor, right: Tensor) -> Tensor:
    if step := _gathers(pattern, left):
        parts = zip(left.split(step), right.split(step), strict=True)
        return torch.cat([(a[:, pattern.rows] * b[:, pattern.columns]).sum(-1) for a, b in parts])
    empty = _compressed(pattern, left.new_zeros(len(pattern.columns)))
    products = (torch.sparse.sampled_addmm(empty, a, b.mT, beta=0.0) for a, b in zip(left, right, strict=True))
    return _stacked([product.values() for product in products])


def _times(pattern: Pattern, values: Tensor, right: Tensor) -> Tensor:
    if len(pattern.columns) and CUDA.serve(values, right):
        return _on_cuda(pattern, values.contiguous(), right, None)[0]
    if step := _gathers(pattern, right):
        total = right.new_zeros(len(right), pattern.height, right.shape[-1])
        for sums, v, b in zip(total.split(step), values.split(step), right.split(step), strict=True):
            sums.index_add_(1, pattern.rows, v.unsqueeze(-1) * b[:, pattern.columns])
        return total
    return _stacked([_compressed(pattern, v) @ b for v, b in zip(values, right, strict=True)])


def _on_cuda(
    pattern: Pattern, values: Tensor, right: Tensor, left: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return V B, always with the same bits; of a given A as ``Pattern.shared`` does, chunk by chunk."""
    share, size, tiny = left is not None, right.shape[-1], torch.finfo(right.dtype).tiny
    right, left = _whole_vectors(right), right if left is None else _whole_vectors(left)
    (C, M, K), (starts, stops, rows, firsts) = right.shape, pattern.chunks
    width, partial = power_of_two(K), right.new_empty(len(starts), C, K)
    told, result = right.new_empty(2, C, len(starts) if share else 0), right.new_empty(C, pattern.height, K)
    constants = {"K": K, "WIDTH": width, "SHARE": share}
    CUDA(
        "product", (len(starts), C), starts, stops, rows, pattern.columns, values, len(values[0]) * (len(values) > 1),
        left, right, partial, *told, pattern.height, M, E=max(1, PRODUCTS // width), TINY=tiny, num_warps=WARPS,
        **constants,
    )  # fmt: skip
    at_once = max(1, PRODUCTS // width)
    tiles = -(-pattern.height // at_once), C
    CUDA("add_up", tiles, firsts, partial, left, result, pattern.height, ROWS=at_once, **constants)
    return result[..., :size], *told


def _whole_vectors(matrix: Float[Tensor, "C n K"]) -> Float[Tensor, "C n W"]:
    """Return rows with as many zeros behind them as fill a card's vectors."""
    more = -matrix.shape[-1] % VECTOR
    return torch.nn.functional.pad(matrix, (0, more)) if more else matrix.contiguous()


def _stacked(parts: list[Tensor]) -> Tensor:
    """Stack without a copy where there is one."""
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)


def _compressed(pattern: Pattern, values: Tensor) -> Tensor:
    return torch.sparse_csr_tensor(
        pattern.starts, pattern.columns, values, (pattern.height, pattern.width), check_invariants=False
    )


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # said once, by the first tensor
    _compressed(Pattern(torch.zeros(2, dtype=torch.long), torch.zeros(0, dtype=torch.long), 1), torch.zeros(0))
