"""C functions for what steps spend their time on, called with tensors.

A kernel stands beside PyTorch code that computes the same, which is its oracle in tests, and runs on other devices
(CUDA has kernels of its own, ``cuda.py``), where there is no C compiler, and with ``PYROZOO_KERNELS=off``. The C file
has the Python file's name, and is compiled for float64 and float32 when first called for (``kernels.h`` says how it is
written), once per machine.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from pyrozoo.compiler.build import NotCompiled, build

log = logging.getLogger(__name__)

VARIABLE = "PYROZOO_KERNELS"
"""The environment variable that switches kernels off."""

TYPES = {torch.float64: "double", torch.float32: "float"}
KINDS = {int: ctypes.c_long, float: ctypes.c_double}
"""What C takes for what is no tensor."""

_switch = {"on": os.environ.get(VARIABLE, "on").lower() not in ("off", "0", "no", "false")}


def switched_on() -> bool:
    """Return whether kernels run where they can."""
    return _switch["on"]


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Switch kernels on or off for a while."""
    before, _switch["on"] = _switch["on"], on
    try:
        yield
    finally:
        _switch["on"] = before


def threads() -> int:
    """Return on how many threads kernels run: as many as PyTorch. No result depends on it."""
    return torch.get_num_threads()


def servable(tensors: Sequence[Tensor], device: str) -> bool:
    """Return whether kernels may be called for these tensors: all of one type that they know, on such a device.

    Not where gradients are wanted, nor where PyTorch or Pyro record or transform operations.
    """
    dtype, gradients = tensors[0].dtype, torch.is_grad_enabled()
    if not _switch["on"] or dtype not in TYPES or _get_current_dispatch_mode() is not None:
        return False
    for each in tensors:
        if type(each) is not Tensor and type(each) is not torch.nn.Parameter:
            return False
        if each.device.type != device or each.dtype != dtype or (gradients and each.requires_grad):
            return False
        if torch._C._functorch.is_functorch_wrapped_tensor(each):
            return False
    return True


class Kernels:
    """The functions of a C file.

    Args:
        file: ``__file__`` of the Python file beside it.
    """

    def __init__(self, file: str):
        self.path = Path(file).with_suffix(".c")
        self._functions: dict[tuple[str, torch.dtype], Any] = {}

    @cached_property
    def text(self) -> str:
        """The C source, for each type."""
        header = Path(__file__).with_suffix(".h").read_text(encoding="utf-8")
        body, parts = self.path.read_text(encoding="utf-8"), [header]
        for dtype, real in TYPES.items():
            parts += [
                f"#define REAL {real}",
                f"#define NAME(f) f##_{_suffix(dtype)}",
                body,
                "#undef REAL",
                "#undef NAME",
            ]
        return "\n".join(parts) + "\n"

    @cached_property
    def compiled(self) -> ctypes.CDLL | None:
        """The compiled functions; None, which is said once, where they cannot be compiled."""
        try:
            return ctypes.CDLL(str(build(self.text, self.path.stem)))
        except NotCompiled as error:
            log.warning("%s.c runs as PyTorch code, which is slower: %s", self.path.stem, error)
            return None

    def serve(self, *tensors: Tensor) -> bool:
        """Return whether the functions can be called for these tensors, all of one type (``servable``)."""
        if not servable(tensors, "cpu"):
            return False
        return self.compiled is not None

    def __call__(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | float | None) -> None:
        """Call a function.

        Args:
            name: Of the function.
            dtype: For which type.
            arguments: As in C: contiguous tensors of that type, or of whole numbers, as pointers, None as none; int as
                long, float as double.

        Raises:
            TypeError: A tensor is of another type, elsewhere, or not contiguous.
        """
        function = self._functions.get((name, dtype))
        if function is None:
            function = getattr(self.compiled, f"{name}_{_suffix(dtype)}")
            function.restype, function.argtypes = None, [KINDS.get(type(each), ctypes.c_void_p) for each in arguments]
            self._functions[name, dtype] = function
        passed = [_address(each, dtype) if isinstance(each, Tensor) else each for each in arguments]
        if not torch.autograd._profiler_enabled():
            function(*passed)
            return
        with torch.profiler.record_function(f"kernel {name}"):
            function(*passed)


def _suffix(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _address(tensor: Tensor, dtype: torch.dtype) -> int:
    fits = tensor.dtype == dtype or not (tensor.is_floating_point() or tensor.is_complex())
    if not fits or not tensor.is_contiguous() or tensor.device.type != "cpu":
        kind = f"{tensor.dtype} on {tensor.device}, strides {tensor.stride()}"
        raise TypeError(f"a kernel for {dtype} cannot take a tensor of {kind}")
    return tensor.data_ptr()
