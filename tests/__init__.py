"""Tests. Their numbers are rounded alike on processors with AVX2, whatever else these can."""

import os
import platform

# Read once, when torch is imported.
if platform.machine() == "x86_64":
    os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
    os.environ.setdefault("PYROZOO_MARCH", "x86-64-v3")
