"""A density on a CUDA device as one graph: a single launch, whatever it is made of, and what samplers call."""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrozoo.compiler.density import MEMORY
from pyrozoo.compiler.host import Host
from pyrozoo.compiler.tape import Untraceable

WARM = 3
"""Runs before a graph is captured: what libraries prepare once is no part of it."""

NUMBERS = ctypes.POINTER(ctypes.c_double)
DENSITY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_ulong, NUMBERS, NUMBERS, NUMBERS, ctypes.c_void_p)
DRAW = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, NUMBERS, NUMBERS, ctypes.c_void_p)


def rehearse(compute: Callable[[], Any]) -> Host:
    """Run a computation as often as libraries need, and make sure that the device can do it alone from then on.

    Args:
        compute: The computation, on a device.

    Returns:
        What the host makes in it.

    Raises:
        Untraceable: It waits for the host.
    """
    host = Host()
    for _ in range(WARM):
        with host.first():
            compute()
    with host.again(), waiting_refused():
        compute()
    return host


def capture(compute: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Capture a computation on a CUDA device.

    Args:
        compute: Reads tensors that stay where they are, and waits for the host nowhere.

    Returns:
        What runs it again, and its result, whose tensors are written anew each time.

    Raises:
        Untraceable: It waits for the host.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    before = generator.clone_state()
    try:
        with torch.cuda.stream(stream):
            host = rehearse(compute)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph), host.again():
            result = compute()
    except RuntimeError as error:
        generator.graphsafe_set_state(before)  # it would wait for the end of a capture that never comes
        raise Untraceable(f"it cannot be captured ({str(error).splitlines()[0]})") from None

    def replay(kept: Host = host) -> None:  # what the host has made is read by the graph
        graph.replay()

    return replay, result


@contextmanager
def waiting_refused() -> Iterator[None]:
    """Raise RuntimeError where the host waits for the device: a capture that meets it cannot be ended cleanly."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class CapturedDensity:
    """A log density and its gradient on a CUDA device, called as a compiled one is (``CompiledDensity``).

    Args:
        function: From a vector to a scalar; its course may depend on data, not on the vector.
        point: A vector where it is finite, on the device.

    Attributes:
        size: Length of the vector.
        single: Whether it is computed in single precision.
        address: The function (length, vector, gradient, value, memory) -> 0, or 1 where a result is not finite.
        draw_address: The function (length, length, vector, copy, memory) that takes a sampler's draw.
        pointers: None are needed.
        work: Bytes of work space that a call needs.

    Raises:
        Untraceable: It cannot be captured.
    """

    pointers = np.zeros(1, dtype=np.uintp)
    work = 0

    def __init__(self, function: Callable[[Tensor], Tensor], point: Tensor):
        function(point.detach())  # whatever the function prepares once is no part of it
        self.size, self.single = point.numel(), point.dtype == torch.float32
        self._at = point.detach().clone().requires_grad_(True)
        self._replay, self._result = capture(lambda: gradient_of(function, self._at))
        self._alone = threading.Lock()
        self._calls = DENSITY(self._density), DRAW(_draw)  # which must outlive their addresses
        self.address, self.draw_address = (ctypes.cast(each, ctypes.c_void_p).value for each in self._calls)

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]:
        """Return value and gradient at a vector, the gradient on the CPU."""
        with self._alone, torch.no_grad():
            self._at.copy_(vector)
            self._replay()
            result = self._result.to("cpu", copy=True)  # another chain may be next
        return float(result[0]), result[1:]

    def _density(self, size: int, x: Any, gradient: Any, value: Any, memory: int) -> int:
        found, slope = self(torch.from_numpy(np.ctypeslib.as_array(x, (size,))))
        np.ctypeslib.as_array(gradient, (size,))[:] = slope.numpy()
        np.ctypeslib.as_array(value, (1,))[0] = found
        return int(not (math.isfinite(found) and bool(torch.isfinite(slope).all())))


def gradient_of(function: Callable[[Tensor], Tensor], leaf: Tensor) -> Tensor:
    """Return log density and gradient as one tensor, in double precision."""
    with torch.enable_grad():
        value = function(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
    return torch.cat([value.detach().reshape(1), slope]).double()


def _draw(size: int, _: int, x: Any, copy: Any, memory: int) -> int:
    """Take a sampler's draw as it is, and the time it was made, as ``zoo_draw`` of prelude.h does."""
    np.ctypeslib.as_array(copy, (size,))[:] = np.ctypeslib.as_array(x, (size,))
    whole: Any = (ctypes.c_char * MEMORY.itemsize).from_address(memory)
    struct = np.frombuffer(whole, dtype=MEMORY)[0]
    drawn = int(struct["drawn"])
    if drawn < struct["room"]:
        address = int(struct["seconds"]) + drawn * ctypes.sizeof(ctypes.c_double)
        ctypes.c_double.from_address(address).value = time.monotonic()
    struct["drawn"] = drawn + 1
    return 0
