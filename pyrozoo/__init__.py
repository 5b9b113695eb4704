"""A zoo of classical latent-variable models on Pyro: fit, compare, calibrate, recover, load, list_models, nuts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrozoo.any_program import nuts
    from pyrozoo.api import Result, compare, fit, list_models, load, resume, synthesize
    from pyrozoo.calibration import calibrate
    from pyrozoo.recovery import recover

__all__ = ["Result", "calibrate", "compare", "fit", "list_models", "load", "nuts", "recover", "resume", "synthesize"]


def __getattr__(name: str) -> Any:
    # torch, pyro and arviz take seconds to import; help and mistakes must not wait for them.
    if name in __all__:
        module = {"nuts": "any_program", "recover": "recovery", "calibrate": "calibration"}.get(name, "api")
        return getattr(importlib.import_module(f"pyrozoo.{module}"), name)
    raise AttributeError(f"module 'pyrozoo' has no attribute {name!r}")
