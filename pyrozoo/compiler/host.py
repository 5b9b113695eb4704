"""What the host does in a computation on a device, so that a graph of the device's can do without it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pyrozoo.compiler.segments import Groups, LookedUp

MAKES = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}
MOVES = {torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.type_as}
CUMULATIVE = {torch.cumprod, torch.Tensor.cumprod}
SELECTS = {torch.index_select, torch.Tensor.index_select}


class Host(TorchFunctionMode):
    """What the host makes in a computation on a device, and moves there: noted, and not made again.

    A computation that is captured runs without the host, whose numbers must be there already. Its course is the same at
    every run, so that the n-th of them always is the same one.

    Attributes:
        made: Tensors on the device, in the order in which they were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Tensor] = []
        self._groups: dict[tuple[int, int], tuple[Tensor, Groups]] = {}
        self._place: int | None = None

    def first(self) -> Host:
        """Return this mode, which will note anew."""
        self.made, self._groups, self._place = [], {}, None
        return self

    def again(self) -> Host:
        """Return this mode, which will give what it has noted."""
        self._place = 0
        return self

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in CUMULATIVE and args[0].requires_grad:
            return _CumulativeProduct.apply(args[0], kwargs["dim"] if "dim" in kwargs else args[1])
        if asked := _looked_up(function, args, kwargs):
            values, axis, index, rest = asked
            groups = self._known(index, values.shape[axis])
            if groups is not None:
                found = LookedUp.apply(values, axis, index, groups)
                for each in rest:
                    found = found.select(axis + index.ndim, each)
                return found
        made: Any = args[-1] if function is torch.Tensor.new_tensor else args[0] if args else None
        of_tensor = isinstance(made, Tensor)  # which the host moves, at most
        if function not in MAKES | MOVES or (of_tensor and (made.device.type != "cpu" or made.requires_grad)):
            return function(*args, **kwargs)
        if self._place is not None and self._place < len(self.made) and self._asked(function, args, kwargs):
            self._place += 1
            return self.made[self._place - 1].clone()  # which may be changed in place
        result = function(*args, **kwargs)
        if self._place is None and result.device.type != "cpu":
            self.made.append(result.detach().clone())
        return result

    def _known(self, index: Tensor, count: int) -> Groups | None:
        """Return which numbers an index looks up together; None where that is not known, as it is made anew each time.

        The index is held, so that no other can have its place.
        """
        key = id(index), count
        if self._place is None and key not in self._groups and not bool((index < 0).any()):
            self._groups[key] = index, Groups(index, count)
        return self._groups[key][1] if key in self._groups else None

    @staticmethod
    def _asked(function: Any, args: Any, kwargs: Any) -> bool:
        """Return whether the result will be on a device."""
        wanted = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, str | torch.device | Tensor)]
        places = [each.device if isinstance(each, Tensor) else torch.device(each) for each in wanted]
        own = [args[0].device] if function is torch.Tensor.new_tensor and "device" not in kwargs else []
        return any(place.type != "cpu" for place in places + own)


def _looked_up(function: Any, args: Any, kwargs: Any) -> tuple[Tensor, int, Tensor, tuple[int, ...]] | None:
    """Return values that a derivative is wanted by, an axis, the index along it, and places on the axes behind it."""
    if kwargs or not args or not isinstance(args[0], Tensor) or not args[0].requires_grad:
        return None
    rest: tuple[Any, ...] = ()
    if function in SELECTS:
        axis, index = args[1] % args[0].ndim, args[2]
    elif function is torch.Tensor.__getitem__:
        at = args[1] if isinstance(args[1], tuple) else (args[1],)
        axis = [isinstance(each, Tensor) for each in at].index(True) if _plain(at) else len(at)
        if axis == len(at) or any(each != slice(None) for each in at[:axis]):
            return None
        index, rest = at[axis], at[axis + 1 :]
    else:
        return None
    fits = isinstance(index, Tensor) and index.dtype == torch.long and index.ndim > 0 and index.numel() > 0
    if not fits or not all(type(each) is int for each in rest):
        return None
    return args[0], axis, index, tuple(rest)


def _plain(at: tuple[Any, ...]) -> bool:
    """Return whether an index is made of whole axes, whole numbers and one tensor."""
    kinds = [each for each in at if isinstance(each, Tensor)]
    return len(kinds) == 1 and all(isinstance(each, Tensor | slice | int) for each in at)


class _CumulativeProduct(torch.autograd.Function):
    """``cumprod``, whose derivative by x_k, the sum over i >= k of g_i times the other factors, asks for no zeros."""

    @staticmethod
    def forward(context: Any, values: Tensor, dim: int) -> Tensor:
        """Return the products up to each element."""
        context.save_for_backward(values)
        context.dim = dim
        return values.cumprod(dim)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the derivative; it takes memory of the square of the length."""
        (values,) = context.saved_tensors
        x, g = values.movedim(context.dim, -1), gradient.movedim(context.dim, -1)
        eye = torch.eye(x.shape[-1], dtype=torch.bool, device=x.device)
        others = torch.where(eye, 1.0, x.unsqueeze(-2)).cumprod(-1).triu()
        return (others @ g.unsqueeze(-1)).squeeze(-1).movedim(-1, context.dim), None
