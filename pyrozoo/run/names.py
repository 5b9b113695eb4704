"""Names become objects, once: models, methods, devices, starts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from pyrozoo.contracts.method import Method
from pyrozoo.contracts.model import Model
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.core.settings import check_types
from pyrozoo.run import catalog


def check_names(model: Mapping[str, Any], method: str) -> None:
    """Refuse, before any work, a model, a method or a pair that does not exist.

    Args:
        model: The settings of the model: its name and, of one from outside, its source.
        method: The method's name.

    Raises:
        SettingError: No such model or method.
        NotApplicable: The model has no such method.
    """
    named = model.get("source") or model["name"]
    for group, name in (("model", named), ("inference", method)):
        if problem := catalog.check_choice(group, name, named):
            raise SettingError(problem)
    if problem := catalog.check_pair(named, method):
        raise NotApplicable(problem)


def model_of(settings: Mapping[str, Any]) -> Model:
    """Return the model that settings name, with all of its fields.

    Raises:
        SettingError: A field that it does not have, or out of range.
    """
    values = dict(settings)
    return catalog.model_class(values.pop("name"), values.pop("source", None)).of(values)


def stored_class(name: str, config: Mapping[str, Any]) -> type[Model]:
    """Return the class of models that a run directory's configuration names.

    Raises:
        SettingError: It is that of a model given in Python, which only Python can give again.
    """
    source = (config.get("model") or {}).get("source")
    if source == PYTHON:
        raise SettingError(f"the model {name} was given in Python: load(directory, model=...) gives it again")
    return catalog.model_class(name, source)


PYTHON = "python"
"""The source of a model that was given in Python and stands in no file that can be found again."""


def engine_of(method: str) -> type[Method]:
    """Return the class of the engine that a method runs on."""
    engine = catalog.settings("inference", method)["engine"]
    found: type[Method] = getattr(importlib.import_module(f"pyrozoo.inference.{engine}"), engine.capitalize())
    return found


def method_of(settings: Mapping[str, Any], model: str, options: Mapping[str, Any], **changed: Any) -> Method:
    """Return the method that settings name, with what it needs of the model's folder.

    Args:
        settings: The group inference.
        model: The model's name; of one from outside nothing is looked for.
        options: Options of the model's own solver.
        **changed: Settings that are objects, such as draws to start from.

    Raises:
        SettingError: A setting or an option that there is not, or out of range.
    """
    name, about, engine = settings["name"], catalog.settings("inference", settings["name"]), engine_of(settings["name"])
    values = {key: value for key, value in settings.items() if key not in catalog.ABOUT} | changed
    part = None
    if engine.needs != "solver" and options:
        raise SettingError(f"solver.{next(iter(options))}: {name} is no solver of {model}'s own")
    if engine.needs == "solver":
        part = catalog.solver(model, name).Solver
        check_types(part.__init__, options, "solver", f"{name} of {model}", ("posterior",))
    elif engine.needs == "guide" and catalog.has(model, about.get("guide", "guide")):
        part = catalog.part(model, about.get("guide", "guide")).Guide
    return engine.of({**values, "name": name, "part": part, "options": dict(options)}, name)
