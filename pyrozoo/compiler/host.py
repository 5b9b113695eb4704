"""What the host does in a computation on a device, so that a graph of the device's can do without it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MAKES = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}
MOVES = {torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.type_as}
CUMULATIVE = {torch.cumprod, torch.Tensor.cumprod}


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
        self._place: int | None = None

    def first(self) -> Host:
        """Return this mode, which will note anew."""
        self.made, self._place = [], None
        return self

    def again(self) -> Host:
        """Return this mode, which will give what it has noted."""
        self._place = 0
        return self

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in CUMULATIVE and args[0].requires_grad:
            return _CumulativeProduct.apply(args[0], kwargs["dim"] if "dim" in kwargs else args[1])
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

    @staticmethod
    def _asked(function: Any, args: Any, kwargs: Any) -> bool:
        """Return whether the result will be on a device."""
        wanted = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, str | torch.device | Tensor)]
        places = [each.device if isinstance(each, Tensor) else torch.device(each) for each in wanted]
        own = [args[0].device] if function is torch.Tensor.new_tensor and "device" not in kwargs else []
        return any(place.type != "cpu" for place in places + own)


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
