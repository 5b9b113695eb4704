"""Tests. Their numbers are rounded alike on x86-64 processors with AVX2, whoever made them and whatever else they can.

Intel's and AMD's would take other code of MKL, OpenBLAS and NumPy, whose sums differ in the last place.
"""

import os
import platform

SAME = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "PYROZOO_MARCH": "x86-64-v3",
}
"""Read once each, when torch, NumPy, or a kernel is loaded."""

if platform.machine() == "x86_64":
    for name, value in SAME.items():
        os.environ.setdefault(name, value)
