"""From data settings (conf/data/*.yaml) to a data container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyrozoo.data.files import read_table
from pyrozoo.data.named import read_named
from pyrozoo.data.simulate import simulate_data
from pyrozoo.settings import check_types
from pyrozoo.types import Model, SettingError


def read(settings: Mapping[str, Any], model: Model) -> Any:
    """Read or simulate the data that the settings describe, with entries held out as they ask.

    Args:
        settings: One choice of conf/data, resolved.
        model: The model, whose program simulates.

    Returns:
        The container, checked by the model.

    Raises:
        DataError: If the data cannot be read or used.
        SettingError: If a setting is out of range or missing.
    """
    rest = {key: value for key, value in settings.items() if key not in ("source", "seed", "holdout")}
    source, seed = settings["source"], settings["seed"]
    check_types(prepared, {"seed": seed, "holdout": settings["holdout"]}, "data")
    if source == "simulated":
        check_types(model.container.blank, {k: v for k, v in rest.items() if k != "missing"}, "data")
        data = simulate_data(model, seed=seed, **rest)
    elif source == "table":
        if rest.get("path") is None:
            raise SettingError("data=table needs data.path=FILE")
        check_types(read_table, rest, "data")
        data = read_table(**rest)
    elif source == "named":
        data = read_named(rest)
    else:
        raise SettingError(f"data.source is {source!r}; it must be simulated, table or named")
    return prepared(data, model, settings["holdout"], seed)


def prepared(data: Any, model: Model, holdout: float, seed: int) -> Any:
    """Let the model check the data, then hide the entries to hold out."""
    model.check(data)
    return data.hold_out(holdout, seed)
