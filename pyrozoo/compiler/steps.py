"""What a density is made of once views, shapes and types are settled: loops over strided memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

C_TYPES = {
    torch.float64: "double",
    torch.float32: "float",
    torch.int64: "long long",
    torch.int32: "int",
    torch.int16: "short",
    torch.int8: "signed char",
    torch.uint8: "unsigned char",
    torch.bool: "unsigned char",
}


class View(NamedTuple):
    """A strided window of a buffer: all that indexing, transposing and expanding ever make.

    Attributes:
        buffer: The buffer's number.
        dtype: The type of its elements.
        shape: Its shape.
        strides: Elements between neighbours along each dimension.
        offset: Of its first element.
    """

    buffer: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def expanded(self, domain: Sequence[int]) -> View:
        """Return the view broadcast to a shape."""
        missing = len(domain) - len(self.shape)
        strides = (0,) * missing + tuple(0 if n == 1 else s for n, s in zip(self.shape, self.strides, strict=True))
        return self._replace(shape=tuple(domain), strides=strides)


@dataclass(frozen=True)
class Gather:
    """Elements of a buffer whose places along some dimensions are told by integers.

    Attributes:
        base: The buffer with what the loop's own dimensions add to the place.
        indices: Integers in the loop's shape, each with the stride that it multiplies and the length that a negative
            one is counted from.
    """

    base: View
    indices: tuple[tuple[View, int, int], ...]

    def expanded(self, domain: Sequence[int]) -> Gather:
        """Return it broadcast to a shape."""
        indices = tuple((view.expanded(domain), stride, size) for view, stride, size in self.indices)
        return Gather(self.base.expanded(domain), indices)


@dataclass(frozen=True)
class Literal:
    """A number of the source code."""

    text: str

    def expanded(self, domain: Sequence[int]) -> Literal:
        """Return it: a number has every shape."""
        return self


Operand = View | Gather | Literal


def views(operand: Operand) -> list[View]:
    """Return all memory that an operand reads."""
    if isinstance(operand, View):
        return [operand]
    return [operand.base, *(view for view, _, _ in operand.indices)] if isinstance(operand, Gather) else []


@dataclass(frozen=True)
class Pointwise:
    """``out[i] = expression(operands[i])`` for every i of a shape.

    Attributes:
        out: Where to write; its shape is that of the loop.
        expression: C with {0}, {1} ... for the operands and {i0}, {i1} ... for the loop's indices.
        operands: What is read, in the loop's shape.
    """

    out: View
    expression: str
    operands: tuple[Operand, ...]

    @property
    def domain(self) -> tuple[int, ...]:
        """Return the shape of the loop."""
        return self.out.shape

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return [view for operand in self.operands for view in views(operand)]

    def writes(self) -> View:
        """Return the memory that it writes."""
        return self.out


@dataclass(frozen=True)
class Reduce:
    """Sum, product, largest or smallest over dimensions along which ``out`` has stride 0.

    Attributes:
        out: The result, expanded to the shape of the loop.
        kind: ``sum``, ``prod``, ``max`` or ``min``.
        operand: What is read, in the loop's shape.
    """

    out: View
    kind: str
    operand: View

    @property
    def domain(self) -> tuple[int, ...]:
        """Return the shape of the loop."""
        return self.out.shape

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return [self.operand]

    def writes(self) -> View:
        """Return the memory that it writes."""
        return self.out


@dataclass(frozen=True)
class Scatter:
    """``out[place(i)] = values[i]`` or ``+=`` one after another, since places may repeat.

    Attributes:
        place: Where to write.
        values: What, in the loop's shape.
        accumulate: Whether to add.
    """

    place: Gather
    values: Operand
    accumulate: bool

    @property
    def domain(self) -> tuple[int, ...]:
        """Return the shape of the loop."""
        return self.place.base.shape

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return [*views(self.place), *views(self.values)]

    def writes(self) -> View:
        """Return the memory that it writes."""
        return self.place.base


@dataclass(frozen=True)
class Product:
    """``out[b, i, j] = sum_k left[b, i, k] right[b, k, j]``."""

    out: View
    left: View
    right: View

    @property
    def domain(self) -> tuple[int, ...]:
        """Return the shape of the loop."""
        return (*self.left.shape, self.right.shape[2])

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return [self.left, self.right]

    def writes(self) -> View:
        """Return the memory that it writes."""
        return self.out


@dataclass(frozen=True)
class Batched:
    """A routine of the C prelude, called for each member of a batch with pointers and strides.

    Attributes:
        routine: Its name.
        out: The result; the last ``inner`` dimensions belong to the routine, the others are the batch.
        operands: Views with the same batch.
        inner: How many dimensions belong to the routine.
        sizes: Further numbers that it takes.
    """

    routine: str
    out: View
    operands: tuple[View, ...]
    inner: int
    sizes: tuple[int, ...]

    @property
    def domain(self) -> tuple[int, ...]:
        """Return the shape of the result."""
        return self.out.shape

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return list(self.operands)

    def writes(self) -> View:
        """Return the memory that it writes."""
        return self.out


Step = Pointwise | Reduce | Scatter | Product | Batched


@dataclass(frozen=True)
class Buffer:
    """A piece of memory.

    Attributes:
        dtype: The type of its elements.
        size: How many there are.
        constant: Its content where nothing writes it, flat; None for work space and for the vector.
    """

    dtype: torch.dtype
    size: int
    constant: torch.Tensor | None
