"""From data settings (conf/data/*.yaml) to a data container."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import SettingError
from pyrozoo.core.settings import check_types
from pyrozoo.data.container import Data
from pyrozoo.data.holdout import hold_out_chosen, read_chosen
from pyrozoo.data.images import mask_images
from pyrozoo.data.named import read_named
from pyrozoo.data.readers.lists import read_ratings, read_triplets
from pyrozoo.data.readers.picture import read_picture
from pyrozoo.data.readers.survey import read_survey
from pyrozoo.data.readers.table import read_table
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.run import catalog

FILES: Mapping[str, Callable[..., Any]] = {
    "table": read_table,
    "survey": read_survey,
    "triplets": read_triplets,
    "ratings": read_ratings,
    "picture": read_picture,
}
"""What reads a file that the settings give a path to, by source."""


def read(settings: Mapping[str, Any], model: Model, *, given: Any = None, test: Any = None, holdout: Any = None) -> Any:
    """Read or simulate the data that the settings describe, with noise, masks and hold-out as they ask.

    Args:
        settings: One choice of conf/data, resolved.
        model: The model, whose program simulates.
        given: Data from Python, in place of the settings' source.
        test: New rows from Python, or a file of them.
        holdout: Cells to hide from Python, in place of what the settings say.

    Returns:
        The container, checked by the model.

    Raises:
        DataError: If the data cannot be read or used.
        SettingError: If a setting is out of range or missing.
    """
    rest, container = dict(settings), container_of(model, given)
    source = rest.pop("source")
    preparation = {key: rest.pop(key, default) for key, default in PREPARATION.items()}
    if holdout is not None:
        preparation["holdout"] = read_chosen(holdout, rest)
    elif isinstance(preparation["holdout"], str | list | tuple):
        preparation["holdout"] = read_chosen(preparation["holdout"], rest)
    if rest.get("holdout_after") is not None:
        preparation["holdout"] = 0.0  # the time says what is held out
    seed = preparation["seed"]
    check_types(prepared, preparation, "data")
    if not 0 <= seed < 2**31:
        raise SettingError(f"data.seed is {seed}; it must be between 0 and 2^31")
    if given is not None:
        data = container.of(given)
    elif source == "simulated":
        truth = rest.pop("truth")
        check_types(container.blank, {k: v for k, v in rest.items() if k != "missing"}, "data")
        check_types(simulate_data, {"missing": rest["missing"]}, "data")
        data = simulate_data(_generator(model, truth), seed=seed, **rest)
    elif source in FILES:
        if rest.get("path") is None:
            raise SettingError(f"data={source} needs data.path=FILE")
        test_path = rest.pop("test_path", None)
        test = test_path if test is None else test
        check_types(FILES[source], rest, "data")
        data = container.of(FILES[source](**rest))
    elif source == "named":
        data = container.of(read_named(rest | {"seed": seed}))
    else:
        raise SettingError(f"data.source is {source!r}; it must be simulated, {', '.join(FILES)} or named")
    if test is not None:
        data = data.with_test(container.of(_read_test(test, source, rest, data) if _is_file(test) else test))
    return prepared(data, model, **preparation)


def container_of(model: Model, given: Any = None) -> Any:
    """Return the class of data that a model wants: its own, or that of what is given; of the rest a table."""
    return model.container or (type(given) if isinstance(given, Data) else Table)


def _is_file(test: Any) -> bool:
    return isinstance(test, str | Path)


def _read_test(path: str | Path, source: str, settings: Mapping[str, Any], data: Any) -> Any:
    """Read new rows from a file laid out as the data's own file is."""
    if source in ("triplets", "ratings"):
        own = ("path", "time", "holdout_after")  # of the fitted file: nothing of new rows is held out
        return FILES[source](path, **{key: value for key, value in settings.items() if key not in own})
    layout = {key: value for key, value in settings.items() if key in ("header", "row_labels", "delimiter", "key")}
    if isinstance(data, Survey):
        layout.pop("key", None)
        return read_survey(path, columns=list(data.column_labels), **layout)
    return read_table(path, columns=list(data.column_labels), **layout)


def _generator(model: Model, truth: Mapping[str, Any] | None) -> Model:
    """Return the model that data are simulated from: its defaults with the changes asked for.

    Not the model that is fitted: a sweep over its hyper-parameters, such as K, must see one data set.
    """
    usual = catalog.settings("model", model.name) if model.name in catalog.models() else {}
    values = {k: v for k, v in usual.items() if k != "name"} | dict(truth or {})
    with_prefix = type(model).of
    try:
        return with_prefix(values) if usual else with_prefix(usual_values(model) | values)
    except SettingError as error:
        raise SettingError(str(error).replace("model.", "data.truth.", 1)) from None


def usual_values(model: Model) -> dict[str, Any]:
    """Return the defaults of a model's fields, of those without one its own values."""
    return {f.name: getattr(model, f.name) if f.default is MISSING else f.default for f in fields(model)}


def prepared(
    data: Any,
    model: Model,
    *,
    holdout: float | Sequence[Any],
    holdout_of: Literal["all", "listed"],
    validation: float,
    seed: int,
    image_shape: Sequence[int] | None,
    noise: float,
    masks: Sequence[str] | None,
    mask_line_distance: float,
    mask_circle_spread: float,
    mask_circle_radius: Sequence[float],
    mask_speckle: float,
) -> Any:
    """Let the model check the data; then add noise, mask images, hide the entries to hold out, set others aside.

    The settings are those that every choice of conf/data may state. Noise, masks and hold-out draw from one seed, each
    from a stream of its own. Test rows stay as they are.
    """
    if image_shape is not None:
        data = data.with_image_shape(image_shape)
    Posterior.of(model, data).check()
    if noise != 0:
        data = data.with_noise(noise, seed)
    if masks is not None:
        if not isinstance(data, Table):
            raise SettingError(f"data.masks has no meaning for {type(data).__name__.lower()}")
        data = mask_images(
            data,
            masks,
            seed=seed,
            line_distance=mask_line_distance,
            circle_spread=mask_circle_spread,
            circle_radius=mask_circle_radius,
            speckle=mask_speckle,
        )
    by_hand = holdout if isinstance(holdout, Sequence) else None
    data = hold_out_chosen(data, by_hand) if by_hand is not None else data.hold_out(holdout, seed, holdout_of)
    return data.set_aside(validation, seed + 1) if validation != 0 else data


PREPARATION: Mapping[str, Any] = {
    name: value
    for name, value in catalog.settings("data", "table").items()
    if name in inspect.signature(prepared).parameters
}
"""What ``prepared`` does unless the settings say otherwise, as conf/data/table.yaml states it."""
