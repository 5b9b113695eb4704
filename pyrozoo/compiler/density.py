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
from torch.utils._pytree import tree_leaves

from pyrozoo.compiler.lowering import TRANSLATED, Lowering
from pyrozoo.compiler.source import Source
from pyrozoo.compiler.tape import Untraceable, record
from pyrozoo.core.paths import replacing

FLAGS = [
    "-std=gnu11", "-shared", "-fPIC", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd",
    "-Werror=incompatible-pointer-types",
]  # fmt: skip
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
    """Compile C source into a shared library, or find it compiled, and return its path.

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


MEMORY = np.dtype(
    [("constants", np.uintp), ("work", np.uintp), ("seconds", np.uintp), ("drawn", np.int64), ("room", np.int64)]
)
"""The C function's last argument."""


class Memory:
    """What one thread needs to call a compiled density.

    Args:
        density: The density.
        room: For the times of how many draws.

    Attributes:
        struct: What the C functions take, a NumPy array without dimensions.
        seconds: When each draw was made, by the monotonic clock.
    """

    def __init__(self, density: CompiledDensity, room: int = 0):
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
        self._library = ctypes.CDLL(str(build(source.text)))
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
