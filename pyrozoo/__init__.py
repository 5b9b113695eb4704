"""A zoo of classical latent-variable models on Pyro: fit, compare, calibrate, recover, load, list_models, nuts."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrozoo.inference.any_program import nuts
    from pyrozoo.run.fit import Result, compare, fit, list_models, load, resume, synthesize
    from pyrozoo.studies.calibrate.run import calibrate
    from pyrozoo.studies.recover.run import recover

__all__ = ["Result", "calibrate", "compare", "fit", "list_models", "load", "nuts", "recover", "resume", "synthesize"]

MODULES = {"nuts": "inference.any_program", "recover": "studies.recover.run", "calibrate": "studies.calibrate.run"}
"""Where the names are that are not of run/fit.py."""

# ArviZ announces its next version at every import; the pin in pyproject.toml says which one is meant.
warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing", category=FutureWarning)
warnings.filterwarnings("ignore", message="IProgress not found")  # of a library; our bars are plain text


def __getattr__(name: str) -> Any:
    # torch, pyro and arviz take seconds to import; help and mistakes must not wait for them.
    if name in __all__:
        return getattr(importlib.import_module(f"pyrozoo.{MODULES.get(name, 'run.fit')}"), name)
    raise AttributeError(f"module 'pyrozoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
