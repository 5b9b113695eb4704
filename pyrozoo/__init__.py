"""A zoo of classical latent-variable models on Pyro: fit, compare, calibrate, recover, load, list_models, nuts."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrozoo.any_program import nuts
    from pyrozoo.api import Result, compare, fit, list_models, load, resume, synthesize
    from pyrozoo.calibration import calibrate
    from pyrozoo.recovery import recover

__all__ = ["Result", "calibrate", "compare", "fit", "list_models", "load", "nuts", "recover", "resume", "synthesize"]

# ArviZ announces its next version at every import; the pin in pyproject.toml says which one is meant.
warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing", category=FutureWarning)
warnings.filterwarnings("ignore", message="IProgress not found")  # of a library; our bars are plain text


def __getattr__(name: str) -> Any:
    # torch, pyro and arviz take seconds to import; help and mistakes must not wait for them.
    if name in __all__:
        module = {"nuts": "any_program", "recover": "recovery", "calibrate": "calibration"}.get(name, "api")
        return getattr(importlib.import_module(f"pyrozoo.{module}"), name)
    raise AttributeError(f"module 'pyrozoo' has no attribute {name!r}")
