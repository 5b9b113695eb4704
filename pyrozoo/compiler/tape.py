"""Record the tensor operations of a function and of its gradient, as they go by below autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class Untraceable(Exception):
    """A density that cannot be recorded or translated; the message is one line that says why."""


VALUE_DEPENDENT = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique2", "allclose"}
"""Operations that hand values to Python, or whose result's shape depends on values."""

SHAPE_ONLY = {
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_empty_strided",
}  # fmt: skip
"""Operations that look at no value of their argument."""


def _variance(x: Tensor, dim: Any = None, unbiased: bool = True, **kwargs: Any) -> Tensor:
    correction = kwargs.get("correction", int(unbiased))
    dims = list(range(x.ndim)) if dim is None else ([dim] if isinstance(dim, int) else list(dim))
    size = math.prod(x.shape[d] for d in dims)
    away = x - x.sum(dims, keepdim=True) / size
    return (away * away).sum(dims, keepdim=kwargs.get("keepdim", False)) / (size - correction)


DECOMPOSITIONS: dict[str, Callable[..., Any]] = {
    "var": _variance,
    "std": lambda *args, **kwargs: _variance(*args, **kwargs).sqrt(),
}
"""Operations that PyTorch takes apart into others than ATen's."""


def storage(tensor: Tensor) -> int:
    """Return what identifies a tensor's memory, the same for all of its views."""
    return tensor.untyped_storage()._cdata


def name(operation: OpOverload) -> str:
    """Return an operation's name without overload, such as ``add``."""
    return operation._schema.name.split("::")[1]


@dataclass(frozen=True)
class Call:
    """One operation on values that depend on the vector.

    Attributes:
        operation: The operation of ATen.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        result: The tensor or tensors that it returned.
    """

    operation: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


@dataclass
class Tape(TorchDispatchMode):
    """What happened to the values that depend on a vector; all else was computed once and is constant.

    Memory stands for identity: a tensor depends on the vector when its storage has been written from something that
    does. Strides and offsets of the recorded tensors then say all there is to know of views.

    Attributes:
        translated: Names of operations that have a translation; others are decomposed into these where PyTorch can.
        calls: The operations in order.
        initial: Memory that is written after having been constant, with a copy from before.
        vector: The argument.
        value: The value, a scalar.
        gradient: The gradient, as long as the vector.
    """

    translated: frozenset[str]
    calls: list[Call] = field(default_factory=list)
    initial: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    vector: Tensor = field(init=False)
    value: Tensor = field(init=False)
    gradient: Tensor = field(init=False)

    def __post_init__(self) -> None:
        super().__init__()
        self.depends: set[int] = set()
        self.alive: list[Any] = []  # memory is identity, so none may be given back while recording

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Untraceable(f"the program draws random numbers ({name(func)})")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(storage(tensor) in self.depends for tensor in tensors) or name(func) in SHAPE_ONLY:
            result = func(*args, **kwargs)
            self.alive.append((tensors, result))
            return result
        if name(func) == "_is_all_true":  # how distributions validate parameters and values
            return torch.ones((), dtype=torch.bool)
        if name(func) in VALUE_DEPENDENT:
            raise Untraceable(f"its control flow or a shape depends on values of its sites ({name(func)})")
        if name(func) not in self.translated:
            return self._decomposed(func, args, kwargs)
        for tensor in self._written(func, args, kwargs):
            if storage(tensor) not in self.depends:
                whole = tensor.as_strided((tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)
                self.initial.append((whole, whole.clone()))
        result = func(*args, **kwargs)
        self.calls.append(Call(func, args, kwargs, result))
        for tensor in [*self._written(func, args, kwargs), *tree_leaves(result)]:
            if isinstance(tensor, Tensor):
                self.depends.add(storage(tensor))
        return result

    def _decomposed(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self:
            if name(func) in DECOMPOSITIONS:
                return DECOMPOSITIONS[name(func)](*args, **kwargs)
            if func in decomposition_table:
                return decomposition_table[func](*args, **kwargs)
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            raise Untraceable(f"the operation {func} has no translation into C")
        return result

    @staticmethod
    def _written(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        found = []
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[position] if position < len(args) else kwargs.get(argument.name)
                if isinstance(value, Tensor):
                    found.append(value)
        return found


def record(function: Callable[[Tensor], Tensor], point: Tensor, translated: frozenset[str]) -> Tape:
    """Run a function and its gradient at a point and return what happened.

    Args:
        function: From a vector to a scalar.
        point: A vector where both are finite.
        translated: Names of operations that may stand on the tape.

    Returns:
        The tape.

    Raises:
        Untraceable: The function's course depends on values or on chance, or an operation has no translation.
    """
    tape = Tape(translated)
    tape.vector = point.detach().clone()
    tape.depends.add(storage(tape.vector))
    leaf = tape.vector.requires_grad_(True)
    try:
        with tape:
            value = function(leaf)
            (gradient,) = torch.autograd.grad(value, leaf)
            tape.value, tape.gradient = value.detach(), gradient.detach()
    except Untraceable:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Untraceable(f"it cannot be recorded ({reason[0]})") from error
    return tape
