"""Compile C source once per machine, load it, and hand out what samplers call."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pooch
import torch
from torch import Tensor

from pyrozoo.compiler.lowering import TRANSLATED, Lowering
from pyrozoo.compiler.source import Source
from pyrozoo.compiler.tape import Untraceable, record
from pyrozoo.paths import replacing

FLAGS = ["-std=gnu11", "-shared", "-fPIC", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
# Where the C library has vector mathematics, loops call it; elsewhere the plain functions do.
VARIANTS = (["-O3", "-DZOO_VECTOR_MATH", "-lmvec", "-lm"], ["-O3", "-lm"])


def cache_folder() -> Path:
    """Return where compiled densities are kept: below ``XDG_CACHE_HOME`` or what the system has for it."""
    return Path(pooch.os_cache("pyrozoo")) / "compiled"


def compiler() -> str:
    """Return the C compiler: ``CC``, else the first of cc, gcc and clang.

    Raises:
        Untraceable: There is none.
    """
    for each in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if each and (found := shutil.which(each.split()[0])):
            return found
    raise Untraceable("there is no C compiler here (cc, gcc or clang, or the one that CC names)")


def _processor() -> str:
    """Return what tells processors apart that -march=native makes different code for."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(errors="replace").splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    return f"{platform.machine()} {platform.processor()}"


def build(text: str) -> Path:
    """Compile C source into a shared library, or find it compiled.

    Args:
        text: The source.

    Returns:
        The library's path.

    Raises:
        Untraceable: There is no compiler, or it refuses.
    """
    chosen = compiler()
    key = hashlib.sha256("\n".join([text, chosen, _processor(), *FLAGS]).encode()).hexdigest()[:32]
    library = cache_folder() / f"{key}.so"
    if library.exists():
        return library
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "density.c"
        source.write_text(text, encoding="utf-8")
        for variant in VARIANTS:
            made = Path(folder) / "density.so"
            command = [chosen, *FLAGS, str(source), "-o", str(made), *variant]
            outcome = subprocess.run(command, capture_output=True, text=True, check=False)
            if outcome.returncode == 0 and _loads(made):
                try:
                    with replacing(library) as temporary:
                        shutil.copyfile(made, temporary)
                except OSError as error:
                    raise Untraceable(f"the compiled density cannot be kept in {library.parent} ({error})") from None
                return library
    lines = [line for line in outcome.stderr.splitlines() if "error" in line] or ["no reason given"]
    raise Untraceable(f"{Path(chosen).name} does not compile it ({lines[0].strip()})")


def _loads(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True


class _Memory(ctypes.Structure):
    _fields_ = [  # noqa: RUF012
        ("constants", ctypes.c_void_p), ("work", ctypes.c_void_p), ("busy", ctypes.c_void_p),
        ("slots", ctypes.c_long), ("stride", ctypes.c_long),
    ]  # fmt: skip


class CompiledDensity:
    """A log density and its gradient as one C function.

    Args:
        function: From a vector to a scalar, in PyTorch; its course may depend on data, not on the vector.
        point: A vector where it is finite.
        callers: How many threads may call it at a time.

    Attributes:
        size: Length of the vector.
        address: The C function (length, vector, gradient, value, memory) -> 0, or 1 where a result is not finite.
        copy_address: A C function that copies the vector.
        memory_address: What the C function takes last.

    Raises:
        Untraceable: It cannot be recorded, translated or compiled.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], point: Tensor, callers: int = 1):
        function(point.detach())  # whatever the function prepares once is no part of it
        tape = record(function, point, TRANSLATED)
        source = Source(Lowering(tape))
        self.text, self.size, self.dtype = source.text, point.numel(), point.dtype
        self._library = ctypes.CDLL(str(build(source.text)))
        self._function = self._library.zoo_density
        self._function.restype = ctypes.c_int
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value
        self.copy_address = ctypes.cast(self._library.zoo_copy, ctypes.c_void_p).value
        self._constants = [constant.contiguous().clone() for constant in source.constants]
        self._pointers = np.array([c.data_ptr() for c in self._constants] or [0], dtype=np.uintp)
        self._work = torch.zeros(callers * source.work, dtype=torch.uint8)
        self._busy = np.zeros(callers, dtype=np.int32)
        self._memory = _Memory(
            self._pointers.ctypes.data, self._work.data_ptr(), self._busy.ctypes.data, callers, source.work
        )
        self.memory_address = ctypes.addressof(self._memory)

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]:
        """Return value and gradient at a vector."""
        x = np.ascontiguousarray(vector.detach().numpy(), dtype=np.float64)
        gradient, value = np.empty(self.size), ctypes.c_double()
        self._function(
            ctypes.c_ulong(self.size), ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(gradient.ctypes.data),
            ctypes.byref(value), ctypes.c_void_p(self.memory_address),
        )  # fmt: skip
        return value.value, torch.from_numpy(gradient)
