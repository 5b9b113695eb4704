"""From data settings (conf/data/*.yaml) to a data container."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyrozoo import catalog
from pyrozoo.data.files import read_table
from pyrozoo.data.named import read_named
from pyrozoo.data.simulate import simulate_data
from pyrozoo.settings import check_types
from pyrozoo.types import Model, SettingError


def read(settings: Mapping[str, Any], model: Model, *, given: Any = None, test: Any = None) -> Any:
    """Read or simulate the data that the settings describe, with entries held out as they ask.

    Args:
        settings: One choice of conf/data, resolved.
        model: The model, whose program simulates.
        given: Data from Python, in place of the settings' source.
        test: New rows from Python, or a file of them.

    Returns:
        The container, checked by the model.

    Raises:
        DataError: If the data cannot be read or used.
        SettingError: If a setting is out of range or missing.
    """
    rest = {key: value for key, value in settings.items() if key not in ("source", "seed", "holdout")}
    source, seed = settings["source"], settings["seed"]
    check_types(prepared, {"seed": seed, "holdout": settings["holdout"]}, "data")
    if not 0 <= seed < 2**31:
        raise SettingError(f"data.seed is {seed}; it must be between 0 and 2^31")
    if given is not None:
        data = model.container.of(given)
    elif source == "simulated":
        truth = rest.pop("truth")
        check_types(model.container.blank, {k: v for k, v in rest.items() if k != "missing"}, "data")
        check_types(simulate_data, {"missing": rest["missing"]}, "data")
        data = simulate_data(_generator(model, truth), seed=seed, **rest)
    elif source == "table":
        if rest.get("path") is None:
            raise SettingError("data=table needs data.path=FILE")
        test = rest.pop("test_path") if test is None else test
        check_types(read_table, rest, "data")
        data = read_table(**rest)
    elif source == "named":
        data = read_named(rest)
    else:
        raise SettingError(f"data.source is {source!r}; it must be simulated, table or named")
    if test is not None:
        layout = {key: value for key, value in rest.items() if key in ("header", "row_labels", "delimiter", "key")}
        new = read_table(test, columns=list(data.column_labels), **layout) if isinstance(test, str | Path) else test
        data = data.with_test(model.container.of(new))
    return prepared(data, model, settings["holdout"], seed)


def _generator(model: Model, truth: Mapping[str, Any] | None) -> Model:
    """Return the model that data are simulated from: conf's defaults with the changes asked for.

    Not the model that is fitted: a sweep over its hyper-parameters, such as K, must see one data set.
    """
    settings = catalog.settings("model", type(model).__module__.split(".")[-2]) | dict(truth or {})
    name = settings.pop("name")
    check_types(type(model).__init__, settings, "data.truth", whose=name)
    return type(model)(**settings)


def prepared(data: Any, model: Model, holdout: float, seed: int) -> Any:
    """Let the model check the data, then hide the entries to hold out."""
    model.check(data)
    return data.hold_out(holdout, seed)
