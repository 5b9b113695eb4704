"""A zoo of classical latent-variable models on Pyro: fit, compare, calibrate, recover, load, list_models, nuts."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrozoo.contracts.model import Model
    from pyrozoo.contracts.symmetry import Relabel, Rotate
    from pyrozoo.core.settings import between, not_negative, one_of, positive, whole
    from pyrozoo.data.table import Table
    from pyrozoo.run.explain import explain
    from pyrozoo.run.fit import Result, fit, list_models, load, resume
    from pyrozoo.run.nuts import nuts
    from pyrozoo.run.reading import read
    from pyrozoo.run.score import score
    from pyrozoo.run.synthesize import synthesize
    from pyrozoo.studies.calibrate.run import calibrate
    from pyrozoo.studies.compare.run import compare
    from pyrozoo.studies.recover.run import recover

MODULES = {
    "Model": "contracts.model", "Relabel": "contracts.symmetry", "Rotate": "contracts.symmetry", "Table": "data.table",
    **dict.fromkeys(("between", "not_negative", "one_of", "positive", "whole"), "core.settings"),
    **dict.fromkeys(("Result", "fit", "list_models", "load", "resume"), "run.fit"),
    "explain": "run.explain", "nuts": "run.nuts", "read": "run.reading", "score": "run.score",
    "synthesize": "run.synthesize", "compare": "studies.compare.run",
    "recover": "studies.recover.run", "calibrate": "studies.calibrate.run",
}  # fmt: skip
"""What the package offers -> where it is."""

__all__ = [
    "Model", "Relabel", "Result", "Rotate", "Table", "between", "calibrate", "compare", "explain", "fit", "list_models",
    "load", "not_negative", "nuts", "one_of", "positive", "read", "recover", "resume", "score", "synthesize", "whole",
]  # fmt: skip

# OpenMP reads these once, when torch loads. Its threads would otherwise spin at every barrier for as long as it takes:
# beside another busy program that is ten times the time of a fit. To sleep at once is no better: to wake a thread takes
# 15 microseconds, more than it saves of 65,000 additions. 400 turns before it sleeps do for what follows at once.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "400")
# Likewise PyTorch, when it first asks for memory: an array of megabytes in pages of 4 KB takes longer to be given its
# memory, at every step anew, than to be filled.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# ArviZ announces its next version at every import; the pin in pyproject.toml says which one is meant.
warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing", category=FutureWarning)
warnings.filterwarnings("ignore", message="IProgress not found")  # of a library; our bars are plain text


def __getattr__(name: str) -> Any:
    # torch, pyro and arviz take seconds to import; help and mistakes must not wait for them.
    if name in MODULES:
        return getattr(importlib.import_module(f"pyrozoo.{MODULES[name]}"), name)
    raise AttributeError(f"module 'pyrozoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
