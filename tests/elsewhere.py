"""Tensors on a device that is not there: a test's stand-in for a GPU, on any machine.

Within ``a_device()`` the device ``AWAY`` exists: tensors moved to it, or made on it, are ordinary ones that say so. An
operation that mixes them with tensors that are not there fails, as on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

AWAY = torch.device("meta")

MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations whose indices may be on the CPU when what they index is not."""


class Away(torch.Tensor):
    """A tensor that says it is on ``AWAY``."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Away:
        kept = {"strides": inner.stride(), "dtype": inner.dtype, "device": AWAY}
        result = torch.Tensor._make_wrapper_subclass(cls, inner.size(), **kept)
        result.inner = inner
        return result

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self) -> str:
        return f"Away({self.inner})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carry_out(operation, args, kwargs or {})


def carry_out(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Carry an operation out on the CPU, and put its result where it would be.

    Raises:
        RuntimeError: Its tensors are not on one device.
    """
    if operation is aten._efficientzerotensor.default:  # it has no memory, which is known above alone
        operation = aten.zeros.default
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    away = [each for each in tensors if isinstance(each, Away)]
    if away and operation not in MOVES:
        here = [each for each in tensors if not isinstance(each, Away) and each.ndim]
        if operation in INDEXES and isinstance(args[0], Away):
            here = [each for each in here if each.dtype not in (torch.long, torch.bool)]
        if here:
            raise RuntimeError(f"{operation}: Expected all tensors to be on the same device")
    there = bool(away) and operation is not aten._local_scalar_dense.default
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == AWAY.type
        kwargs = {**kwargs, "device": "cpu"}
        if there and kwargs.get("generator") is not None:
            raise RuntimeError(f"{operation}: Expected a generator of the device")
    if operation is aten.copy_.default:
        there = isinstance(args[0], Away)
    same = {id(each.inner): each for each in away}  # what an operation changes in place stays itself
    mine, named = args, kwargs
    args, kwargs = (tree_map(lambda x: x.inner if isinstance(x, Away) else x, each) for each in (args, kwargs))

    def wrapped(found: Any) -> Any:
        if not there or not isinstance(found, torch.Tensor):
            return found
        return same[id(found)] if id(found) in same else Away(found)

    found = operation(*args, **kwargs)
    if torch.Tag.inplace_view in operation.tags and isinstance(
        mine[0], Away
    ):  # changes a shape: that of what stands for the tensor too
        with no_dispatch():
            operation(*mine, **named)
    return tree_map(wrapped, found)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carry_out(operation, args, kwargs or {})


class _Numbers(TorchFunctionMode):
    """What makes tensors of numbers asks no operation for them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):  # lists become tensors in no operation
            at = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (
                args[0],
                tuple(torch.tensor(i, dtype=None if i else torch.long) if isinstance(i, list) else i for i in at),
                *args[2:],
            )
        if function is torch.Tensor.new_tensor:
            kwargs = {"dtype": args[0].dtype, "device": args[0].device} | kwargs
            function, args = torch.tensor, args[1:]
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        return function(*args, **kwargs)


@contextmanager
def a_device() -> Iterator[None]:
    """Within it the device is there."""
    with _Numbers(), _Operations():
        yield


class Waits(TorchDispatchMode):
    """Refuse what waits for the host, or lets it wait for the device."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [each.device.type for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        away = any(each != "cpu" for each in given)
        if operation in INDEXES:
            at = [each for each in args[1] if each is not None]
            wait = any(each.dtype in (torch.bool, torch.uint8) or (away and each.device.type == "cpu") for each in at)
        else:
            unknown = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operation.tags)
            wait = bool(unknown) or operation is aten._local_scalar_dense.default
        result = operation(*args, **(kwargs or {}))
        if operation in (aten._to_copy.default, aten.copy_.default):
            wait = result.device.type != args[operation is aten.copy_.default].device.type
            away = True
        if wait and away:
            raise RuntimeError(f"it waits for the host ({operation})")
        return result


class _Drawn(TorchDispatchMode):
    """Random numbers are drawn on the CPU, and moved to where they are wanted."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        device = next((each.device for each in given if each.device.type != "cpu"), kwargs.get("device"))
        if torch.Tag.nondeterministic_seeded not in operation.tags or device is None:
            return operation(*args, **kwargs)
        here = [tree_map(lambda x: x.cpu() if isinstance(x, torch.Tensor) else x, each) for each in (args, kwargs)]
        if "device" in here[1]:
            here[1]["device"] = torch.device("cpu")
        found = operation(*here[0], **here[1])
        if operation._schema.is_mutable:  # in place
            return args[0].copy_(found)
        return tree_map(lambda x: x.to(device) if isinstance(x, torch.Tensor) else x, found)


@contextmanager
def alike() -> Iterator[None]:
    """Within it random numbers on a card are the CPU's, so that what differs is arithmetic alone."""
    with _Drawn():
        yield
