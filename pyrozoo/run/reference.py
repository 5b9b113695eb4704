"""What a fit is held to: the stored reference and the thresholds of a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import SettingError
from pyrozoo.core.settings import check_types
from pyrozoo.diagnostics.card import Card
from pyrozoo.diagnostics.compare import compare
from pyrozoo.diagnostics.verdict import Thresholds, verdict
from pyrozoo.run.names import stored_class
from pyrozoo.run.source import depends_on, read
from pyrozoo.store.groups import Groups
from pyrozoo.store.origin import Origin
from pyrozoo.store.run_directory import read_run


def load_run(
    directory: Path, given: Posterior | None = None, data: Any = None, later: bool = False
) -> tuple[Fit, Groups, dict[str, Any]]:  # fmt: skip
    """Return the fit, its groups and its configuration from a run directory.

    Args:
        directory: The run directory.
        given: The model given again in Python, and the arguments of a program.
        data: The data given again in Python, where the directory does not hold them.
        later: Whether draws are read when somebody asks for them.

    Raises:
        DataError: Something is missing or cannot be read, or the data are not what they were.
    """
    return read_run(directory, stored_class, partial(_again, directory, data), given, later)


def _again(directory: Path, data: Any, model: Model, config: Mapping[str, Any], origin: Origin) -> Any:
    """Return the data of a run that stand elsewhere: read or simulated once more, and held to what they were.

    Runs of the same data share them, as long as one of them is there.
    """
    settings = config["data"] | origin.found(directory)
    if settings["source"] == GIVEN and data is None:
        large = f"was given its data in Python, which are too large to be stored: load({str(directory)!r}, data=...)"
        raise SettingError(f"{directory} {large} gives them again")
    dtype = config["dtype"] or "float64"  # which a run says itself, once it has begun
    key = json.dumps([origin.text, config["data"], dtype, depends_on(config["data"], model)], default=str)
    known = _SHARED.get(key) if data is None else None
    if known is None:
        known = read(settings, model, given=data, dtype=dtype).storable().to("cpu", getattr(torch, dtype))
        origin.check(directory, known)
        _SHARED[key] = known
    return known


_SHARED: WeakValueDictionary[str, Any] = WeakValueDictionary()

GIVEN = "given"
"""The source of data that were given in Python."""


def verdict_settings(config: Mapping[str, Any]) -> tuple[Thresholds, Fit | None]:
    """Return the thresholds of a configuration and its stored reference, if any.

    Raises:
        SettingError: No such threshold, or one out of range.
        DataError: The reference is not a run directory, or is damaged.
    """
    limits = dict(config.get("verdict") or {})
    check_types(Thresholds.__init__, limits, "verdict")
    path = config.get("reference")
    if not isinstance(path, str | Path | None):
        raise SettingError(f"reference is {path!r}; it must be a run directory, or null")
    return Thresholds(**limits), None if path is None else load_run(Path(path))[0]


def judge(fit: Fit, config: Mapping[str, Any]) -> Card:
    """Return the verdict on a fit, held to the configuration's reference where it is one of this posterior."""
    limits, reference = verdict_settings(config)
    if reference is None or not serves(reference, [fit]):
        return verdict(fit.metrics, limits)
    return compare([fit], reference=reference, limits=limits).cards[0]


def serves(reference: Fit, group: Sequence[Fit]) -> bool:
    """Return whether a stored fit can be the reference of fits of one model to the same data."""
    models = [fit.model for fit in group]
    return reference.kind != "point" and reference.model in models and group[0].data.same(reference.data)
