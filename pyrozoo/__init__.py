"""A zoo of classical latent-variable models on Pyro: fit, compare, recover, load, list_models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrozoo.api import Result, compare, fit, list_models, load, resume, synthesize
    from pyrozoo.recovery import recover

__all__ = ["Result", "compare", "fit", "list_models", "load", "recover", "resume", "synthesize"]


def __getattr__(name: str) -> Any:
    # torch, pyro and arviz take seconds to import; help and mistakes must not wait for them.
    if name in __all__:
        return getattr(importlib.import_module("pyrozoo.recovery" if name == "recover" else "pyrozoo.api"), name)
    raise AttributeError(f"module 'pyrozoo' has no attribute {name!r}")
