"""Triton functions for what steps spend their time on, called with tensors on a CUDA device.

They stand beside PyTorch code like the kernels in C (``kernels.py``), which is their oracle and runs where Triton does
not. The Triton file has the Python file's name with ``_cuda`` after it. It is loaded, outside of the package's
modules, when a CUDA tensor first asks for it: nothing else needs Triton.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pyrozoo.compiler.kernels import servable

log = logging.getLogger(__name__)

DEVICE = "cuda"
"""The kind of device whose tensors are served; tests, in which Triton interprets its functions, say ``cpu``."""


class CudaKernels:
    """The functions of a Triton file.

    Args:
        file: ``__file__`` of the Python file beside it.
    """

    def __init__(self, file: str):
        self.path = Path(file).with_name(f"{Path(file).stem}_cuda.py")

    @cached_property
    def functions(self) -> ModuleType | None:
        """The functions; None, which is said once, where Triton does not run."""
        if reason := unusable():
            log.warning("%s runs as PyTorch code, which is slower on CUDA: %s", self.path.stem, reason)
            return None
        return _loaded(self.path)

    def serve(self, *tensors: Tensor) -> bool:
        """Return whether the functions can be called for these tensors, all of one type (``kernels.servable``)."""
        return servable(tensors, DEVICE) and self.functions is not None

    def __call__(self, name: str, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        """Call a function.

        Args:
            name: Of the function.
            grid: How many programs, by axis.
            arguments: Contiguous tensors and whole numbers. Floats would lose digits: they are constants, or tensors.
            constants: What is compiled in, and ``num_warps``.

        Raises:
            TypeError: A tensor is not contiguous.
        """
        for each in arguments:
            if isinstance(each, Tensor) and not each.is_contiguous():
                raise TypeError(f"kernel {name} cannot take a tensor of strides {each.stride()}")
        function, device = getattr(self.functions, name)[grid], arguments[0].device
        if device.type != "cuda" or device.index == torch.cuda.current_device():
            function(*arguments, **constants)
            return
        with torch.cuda.device(device):
            function(*arguments, **constants)


def power_of_two(number: int) -> int:
    """Return the least power of two that is not below a positive number: what sizes inside of programs must be."""
    return 1 << (number - 1).bit_length()


def _loaded(path: Path) -> ModuleType:
    """Load a file as a module that no other loads."""
    spec = importlib.util.spec_from_file_location(f"triton_of_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def unusable() -> str:
    """Return why Triton functions do not run here, in one line; empty where they do."""
    try:
        mark = torch.zeros(1, device=DEVICE)
        _loaded(Path(__file__).with_name("probe_cuda.py")).mark[(1,)](mark)
        return "" if float(mark) == 1 else "its compiled code does nothing"
    except Exception as error:  # of many kinds: no package, no C compiler for its launcher, an old card
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
