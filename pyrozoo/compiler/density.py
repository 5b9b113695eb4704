"""A density as compiled C: load it, and hand out what samplers call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pyrozoo.compiler.build import NotCompiled, build
from pyrozoo.compiler.lowering import TRANSLATED, Lowering
from pyrozoo.compiler.source import Source
from pyrozoo.compiler.tape import Untraceable, record

MEMORY = np.dtype(
    [("constants", np.uintp), ("work", np.uintp), ("seconds", np.uintp), ("drawn", np.int64), ("room", np.int64)]
)
"""The C function's last argument."""


class Callee(Protocol):
    """A density that samplers call by its address; ``CompiledDensity`` says what these are."""

    pointers: np.ndarray
    work: int


class Memory:
    """What one thread needs to call a compiled density.

    Args:
        density: The density.
        room: For the times of how many draws.

    Attributes:
        struct: What the C functions take, a NumPy array without dimensions.
        seconds: When each draw was made, by the monotonic clock.
    """

    def __init__(self, density: Callee, room: int = 0):
        self._density = density  # its constants must outlive this
        self._work = torch.zeros(density.work // 8 + 8, dtype=torch.float64)
        self.seconds = np.full(max(room, 1), np.nan)
        self.struct = np.zeros((), MEMORY)
        self.struct["constants"] = density.pointers.ctypes.data
        self.struct["work"] = -(-self._work.data_ptr() // 64) * 64
        self.struct["seconds"], self.struct["room"] = self.seconds.ctypes.data, room

    @property
    def drawn(self) -> int:
        """Return how many draws a sampler has made with it."""
        return int(self.struct["drawn"])


class CompiledDensity:
    """A log density and its gradient as one C function.

    Args:
        function: From a vector to a scalar, in PyTorch; its course may depend on data, not on the vector.
        point: A vector where it is finite.

    Attributes:
        size: Length of the vector.
        text: The C source.
        single: Whether any part of it is computed in single precision.
        address: The C function (length, vector, gradient, value, memory) -> 0, or 1 where a result is not finite.
        draw_address: The C function (length, length, vector, copy, memory) that takes a sampler's draw.
        pointers: Where the constants lie.
        work: Bytes of work space that a call needs.

    Raises:
        Untraceable: It cannot be recorded, translated or compiled.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], point: Tensor):
        function(point.detach())  # whatever the function prepares once is no part of it
        tape = record(function, point, TRANSLATED)
        results = [leaf for call in tape.calls for leaf in tree_leaves(call.result) if isinstance(leaf, Tensor)]
        self.single = any(result.dtype == torch.float32 for result in results)
        source = Source(Lowering(tape))
        self.text, self.size, self.work = source.text, point.numel(), source.work
        try:
            self._library = ctypes.CDLL(str(build(source.text)))
        except NotCompiled as error:
            raise Untraceable(str(error)) from None
        self._function = self._library.zoo_density
        self._function.restype = ctypes.c_int
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value
        self.draw_address = ctypes.cast(self._library.zoo_draw, ctypes.c_void_p).value
        self._constants = [constant.clone() for constant in source.constants]
        self.pointers = np.array([constant.data_ptr() for constant in self._constants] or [0], dtype=np.uintp)
        self._memory = Memory(self)

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]:
        """Return value and gradient at a vector."""
        x = np.ascontiguousarray(vector.detach().numpy(), dtype=np.float64)
        gradient, value = np.empty(self.size), ctypes.c_double()
        self._function(
            ctypes.c_ulong(self.size), ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(gradient.ctypes.data),
            ctypes.byref(value), ctypes.c_void_p(self._memory.struct.ctypes.data),
        )  # fmt: skip
        return value.value, torch.from_numpy(gradient)
