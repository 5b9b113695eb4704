"""Compile C source once per machine and keep the library."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from pyrozoo.core.paths import replacing

# Processors that are not alike round otherwise: one that all of them know makes hosts alike (docs/scale.md).
MARCH = os.environ.get("PYROZOO_MARCH", "native")
FLAGS = [
    "-std=gnu11", "-shared", "-fPIC", f"-march={MARCH}", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd",
    "-pthread", "-Werror=incompatible-pointer-types",
]  # fmt: skip
# Where the C library has vector mathematics, loops call it; elsewhere the plain functions do.
VARIANTS = (["-O3", "-DZOO_VECTOR_MATH", "-lmvec", "-lm"], ["-O3", "-lm"])


class NotCompiled(Exception):
    """C source of which there is no library here; the message is one line that says why."""


def cache_folder() -> Path:
    """Return where compiled libraries are kept: below ``XDG_CACHE_HOME`` or what the system has for it."""
    import pooch  # of no use but to this

    return Path(pooch.os_cache("pyrozoo")) / "compiled"


def compiler() -> str:
    """Return the C compiler: ``CC``, else the first of cc, gcc and clang.

    Raises:
        NotCompiled: There is none.
    """
    for each in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if each and (found := shutil.which(each.split()[0])):
            return found
    raise NotCompiled("there is no C compiler here (cc, gcc or clang, or the one that CC names)")


def _processor() -> str:
    """Return what tells processors apart that -march=native makes different code for."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(errors="replace").splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    return f"{platform.machine()} {platform.processor()}"


def build(text: str, what: str = "density") -> Path:
    """Compile C source into a shared library, or find it compiled, and return its path.

    Processes that compile the same source at a time each write a file of their own and move it into one place.

    Args:
        text: The source.
        what: It is, in one word, for errors.

    Raises:
        NotCompiled: There is no compiler, or it refuses.
    """
    chosen = compiler()
    key = hashlib.sha256("\n".join([text, chosen, _processor(), *FLAGS]).encode()).hexdigest()[:32]
    library = cache_folder() / f"{key}.so"
    if library.exists():
        return library
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / f"{what}.c", Path(folder) / f"{what}.so"
        source.write_text(text, encoding="utf-8")
        for variant in VARIANTS:
            command = [chosen, *FLAGS, str(source), "-o", str(made), *variant]
            outcome = subprocess.run(command, capture_output=True, text=True, check=False)
            if outcome.returncode == 0 and _loads(made):
                try:
                    with replacing(library) as temporary:
                        shutil.copyfile(made, temporary)
                except OSError as error:
                    raise NotCompiled(f"the compiled {what} cannot be kept in {library.parent} ({error})") from None
                return library
    lines = [line for line in outcome.stderr.splitlines() if "error" in line] or ["no reason given"]
    raise NotCompiled(f"{Path(chosen).name} does not compile it ({lines[0].strip()})")


def _loads(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True
