"""From data settings (conf/data/*.yaml) to a data container."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, Literal

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.settings import check_types
from pyrozoo.data.contained import CONTAINERS, contained, narrow_to, wanted_by
from pyrozoo.data.container import Data, labels, storable
from pyrozoo.data.documents import Documents
from pyrozoo.data.holdout import hold_out_chosen, read_chosen
from pyrozoo.data.images import mask_images
from pyrozoo.data.named import read_named
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers.layout import KINDS, Layout, Wanted, layout_of
from pyrozoo.data.readers.reading import Reading
from pyrozoo.data.readers.source import is_frame, read_frame, read_source, taken
from pyrozoo.data.responses import Responses
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.data.texts import read_documents
from pyrozoo.run import catalog


def read(
    settings: Mapping[str, Any], model: Model, *, given: Any = None, test: Any = None, holdout: Any = None,
    readings: list[Reading] | None = None, dtype: str = "float64",
) -> Any:  # fmt: skip
    """Read or simulate the data that the settings describe, with noise, masks and hold-out as they ask.

    Args:
        settings: One choice of conf/data, resolved.
        model: The model, whose program simulates.
        given: Data from Python, in place of the settings' source.
        test: New rows from Python, or a file of them.
        holdout: Cells to hide from Python, in place of what the settings say.
        readings: Gets what was read of a file or a frame.
        dtype: The precision in which what is read is kept; with noise on it, double.

    Returns:
        The container, checked by the model.

    Raises:
        DataError: If the data cannot be read or used.
        SettingError: If a setting is out of range or missing.
    """
    rest, container = dict(settings), container_of(model, given)
    source = rest.pop("source")
    preparation = {key: rest.pop(key, default) for key, default in PREPARATION.items()}
    layout = layout_of(rest)
    if holdout is not None:
        preparation["holdout"] = read_chosen(holdout, layout)
    elif isinstance(preparation["holdout"], str | list | tuple):
        preparation["holdout"] = read_chosen(preparation["holdout"], layout)
    if layout.holdout_after is not None:
        preparation["holdout"] = 0.0  # the time says what is held out
    seed = preparation["seed"]
    check_types(prepared, preparation, "data")
    if not 0 <= seed < 2**31:
        raise SettingError(f"data.seed is {seed}; it must be between 0 and 2^31")
    found: Reading | None = None
    documents = isinstance(container, type) and issubclass(container, Documents)
    if layout.text is not None and not documents:
        raise SettingError(f"data.text is for documents; {model.name} takes {container.__name__.lower()}")
    own = given if given is not None else rest.get("path") if source in (*KINDS, "file") else None
    texts = read_documents(own, layout) if documents and own is not None and not isinstance(own, Data) else None
    if isinstance(given, Data) and source == "given" and layout.stated:
        raise SettingError(f"data.{next(iter(layout.stated))} is for files and tables; {given.name} is data already")
    if texts is not None:
        data = texts
    elif isinstance(given, Data) or (given is not None and not is_frame(given) and not layout.stated):
        data = container.of(given)
    elif given is not None or source in (*KINDS, "file"):
        found, container, data = _read(
            rest, source, model, container, layout, given, dtype if preparation["noise"] == 0 else "float64"
        )
    elif source == "simulated":
        truth = rest.pop("truth")
        check_types(container.blank, {k: v for k, v in rest.items() if k != "missing"}, "data")
        check_types(simulate_data, {"missing": rest["missing"]}, "data")
        data = simulate_data(_generator(model, truth), seed=seed, **rest)
    elif source == "named":
        data = container.of(read_named(rest | {"seed": seed}))
    else:
        raise SettingError(f"data.source is {source!r}; it must be simulated, file, {', '.join(KINDS)} or named")
    test = rest.get("test_path") if test is None else test
    if test is not None:
        texts = read_documents(test, layout, data) if documents and not isinstance(test, Data) else None
        data = data.with_test(_test_rows(test, layout, found, data, container) if texts is None else texts)
    if found is not None and readings is not None:
        readings.append(found)
    return prepared(data, model, listed=found is not None and found.listed, **preparation)


def _read(
    settings: Mapping[str, Any], source: str, model: Model, container: Any, layout: Layout, given: Any, dtype: str
) -> tuple[Reading, Any, Any]:  # fmt: skip
    """Read a file or a frame; a model that takes any data gets what the source is called, or a table."""
    if given is None and settings.get("path") is None:
        raise SettingError(f"data={source} needs data.path=FILE")
    wanted = replace(wanted_of(model, source if given is None else "file", container), dtype=dtype)
    if model.container is None:
        container = CONTAINERS.get(source, container)
    found = taken(settings["path"], layout, wanted) if given is None else read_source(given, layout, wanted)
    return found, container, contained(found, container)


def read_again(settings: Mapping[str, Any], model: Model, data: Any) -> Reading | None:
    """Read the file of a saved fit once more; None where its data came from none.

    Raises:
        DataError: It is not there any more, or has other rows or columns.
    """
    source = settings.get("source", "")
    if settings.get("path") is None or source not in (*KINDS, "file"):
        return None
    found = read_source(settings["path"], layout_of(settings), wanted_of(model, source, type(data)))
    if isinstance(data, Responses):
        narrow_to(found, data.response)
    if (list(map(storable, found.rows)), list(map(storable, found.columns))) != (
        list(data.row_labels), list(data.column_labels)
    ):  # fmt: skip
        raise DataError(f"{found.name} is not what it was when it was read")
    return found.emptied()


def wanted_of(model: Model, source: str, container: Any) -> Wanted:
    """Return what is wanted of a source: by what it is called, or, of ``file``, by what the model takes."""
    if catalog.in_zoo(model) or source != "file":
        return catalog.wanted(model.name if catalog.in_zoo(model) else catalog.ANY, source)
    return wanted_by(container)


def _test_rows(test: Any, layout: Layout, fitted: Reading | None, data: Any, container: Any) -> Any:
    """Read new rows, laid out as the data are: the same columns of a table, in any order."""
    if not isinstance(test, str | Path) and not is_frame(test):
        return container.of(test)
    if isinstance(data, Responses):
        return data.like(read_frame(test, layout_of({**layout.stated, "columns": None})))
    wanted = fitted.wanted if fitted is not None else wanted_by(container)
    own = ("time", "holdout_after", "exclude", "exclude_rows", "columns")
    rest = {name: value for name, value in layout.stated.items() if name not in own}
    if wanted.listed and (fitted is None or fitted.listed):
        like = layout_of(rest)
    else:
        like = layout_of({**rest, "columns": list(data.column_labels), "layout": "table"})
        frame = is_frame(test) and not set(map(str, test.columns)) & set(data.column_labels)
        if frame or list(data.column_labels) == labels("column", data.shape[1]):
            like = layout_of(rest)  # matched by place
    return contained(read_source(test, like, wanted, "the new rows"), container)


def container_of(model: Model, given: Any = None) -> Any:
    """Return the class of data that a model wants: its own, or that of what is given; of the rest a table."""
    return model.container or (type(given) if isinstance(given, Data) else Table)


def _generator(model: Model, truth: Mapping[str, Any] | None) -> Model:
    """Return the model that data are simulated from: its defaults with the changes asked for.

    Not the model that is fitted: a sweep over its hyper-parameters, such as K, must see one data set.
    """
    usual = catalog.settings("model", model.name) if catalog.in_zoo(model) else {}
    values = {k: v for k, v in usual.items() if k != "name"} | dict(truth or {})
    with_prefix = type(model).of
    try:
        return with_prefix(values) if usual else with_prefix(usual_values(model) | values)
    except SettingError as error:
        raise SettingError(str(error).replace("model.", "data.truth.", 1)) from None


def depends_on(settings: Mapping[str, Any], model: Model) -> list[Any]:
    """Return what of a model the data depend on that settings describe: its class, and of simulated ones their truth.

    So fits of one model with several K share what they were fitted to.
    """
    known = [type(model).__module__, type(model).__qualname__]
    return [*known, _generator(model, settings.get("truth")).values()] if settings["source"] == "simulated" else known


def usual_values(model: Model) -> dict[str, Any]:
    """Return the defaults of a model's fields, of those without one its own values."""
    return {f.name: getattr(model, f.name) if f.default is MISSING else f.default for f in fields(model)}


def prepared(
    data: Any,
    model: Model,
    *,
    listed: bool = False,
    holdout: float | Sequence[Any] | None,
    holdout_of: Literal["all", "listed"] | None,
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

    The settings are those that every choice of conf/data may state; ``listed``: whether the data
    came as a list. Noise, masks and hold-out draw from one seed, each from a stream of its own. Test rows stay as they
    are.
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
    if by_hand is not None:
        data = hold_out_chosen(data, by_hand)
    else:
        usual = USUAL_HOLDOUT if isinstance(data, Ratings) else 0.0
        data = data.hold_out(usual if holdout is None else holdout, seed, holdout_of or ("listed" if listed else "all"))
    return data.set_aside(validation, seed + 1) if validation != 0 else data


USUAL_HOLDOUT = 0.1
"""The part of ratings that is held out unless something else is said."""

PREPARATION: Mapping[str, Any] = {
    name: value
    for name, value in catalog.settings("data", "file").items()
    if name in inspect.signature(prepared).parameters
} | {"holdout": 0.0, "holdout_of": "all"}
"""What ``prepared`` does unless the settings say otherwise, as conf/data/file.yaml states it: of what is no file."""
