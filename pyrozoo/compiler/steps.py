"""What a density is made of once views, shapes and types are settled: loops over strided memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

C_TYPES = {
    torch.float64: "double", torch.float32: "float", torch.int64: "long long", torch.int32: "int",
    torch.int16: "short", torch.int8: "signed char", torch.uint8: "unsigned char", torch.bool: "unsigned char",
}  # fmt: skip


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
        return seen(self, lambda view: view.expanded(domain))


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


def seen(operand: Any, view: Callable[[View], View]) -> Any:
    """Return an operand with its memory seen in another way; what is no memory stays."""
    if isinstance(operand, View):
        return view(operand)
    if isinstance(operand, Gather):
        indices = tuple((view(index), stride, size) for index, stride, size in operand.indices)
        return Gather(view(operand.base), indices)
    return tuple(seen(each, view) for each in operand) if isinstance(operand, tuple) else operand


class _Loop:
    """What every step has.

    Attributes:
        out: Where it writes.
    """

    out: View

    @property
    def domain(self) -> tuple[int, ...]:
        """Return the shape of the loop."""
        return self.writes().shape

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        raise NotImplementedError

    def writes(self) -> View:
        """Return the memory that it writes."""
        return self.out

    def seen(self, view: Callable[[View], View]) -> Any:
        """Return the step with its memory seen in another way."""
        parts = {name: seen(getattr(self, name), view) for name in self.__dataclass_fields__}  # type: ignore[attr-defined]
        return type(self)(**parts)


@dataclass(frozen=True)
class Pointwise(_Loop):
    """``out[i] = expression(operands[i])`` for every i of a shape.

    Attributes:
        out: Where to write; its shape is that of the loop.
        expression: C with {0}, {1} ... for the operands and {i0}, {i1} ... for the loop's indices.
        operands: What is read, in the loop's shape.
    """

    out: View
    expression: str
    operands: tuple[Operand, ...]

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return [view for operand in self.operands for view in views(operand)]


@dataclass(frozen=True)
class Reduce(_Loop):
    """Sum, product, largest or smallest over dimensions along which ``out`` has stride 0.

    Attributes:
        out: The result, expanded to the shape of the loop.
        kind: ``sum``, ``prod``, ``max`` or ``min``.
        operand: What is read, in the loop's shape.
    """

    out: View
    kind: str
    operand: View

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return [self.operand]


@dataclass(frozen=True)
class Scatter(_Loop):
    """``out[place(i)] = values[i]`` or ``+=`` one after another, since places may repeat.

    Attributes:
        place: Where to write.
        values: What, in the loop's shape.
        accumulate: Whether to add.
    """

    place: Gather
    values: Operand
    accumulate: bool

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return [*views(self.place), *views(self.values)]

    def writes(self) -> View:
        """Return the memory that it writes."""
        return self.place.base


@dataclass(frozen=True)
class Product(_Loop):
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


@dataclass(frozen=True)
class Batched(_Loop):
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

    def reads(self) -> list[View]:
        """Return the memory that it reads."""
        return list(self.operands)


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
