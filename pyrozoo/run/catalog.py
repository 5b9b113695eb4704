"""What is in the zoo, read from the folders. Imports nothing heavy, so that help and mistakes answer at once."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import yaml

from pyrozoo.core.errors import SettingError
from pyrozoo.core.paths import CONF, PACKAGE
from pyrozoo.core.settings import suggestion
from pyrozoo.data.readers.layout import KINDS, Wanted
from pyrozoo.run import own

if TYPE_CHECKING:
    from pyrozoo.contracts.model import Model

MODELS, DERIVED = PACKAGE / "models", PACKAGE / "inference" / "derived"

ANY = "any.py"
"""Stands for the file of a model given in Python: every method for programs applies."""

ABOUT = ("name", "summary", "also", "needs", "guide", "engine", "source")
"""What a file of conf says of a method or of data; the rest are settings. ``also``: other words for a method."""


@cache
def options(group: str) -> tuple[str, ...]:
    """Return the names in one folder of conf (model, inference, data, device, experiment)."""
    return tuple(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


@cache
def _settings(group: str, name: str) -> dict[str, Any]:
    stated = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    others = [each for each in stated.pop("defaults", ()) if each != "_self_"] if group == "data" else []
    return {key: value for other in others for key, value in _settings(group, other).items()} | stated


def settings(group: str, name: str) -> dict[str, Any]:
    """Return the default settings of one choice, as its file in conf states them."""
    return dict(_settings(group, name))


@cache
def own_settings() -> tuple[str, ...]:
    """Return a run's own settings: the names in conf/config.yaml beside its groups."""
    stated = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    return tuple(name for name in stated if name not in ("defaults", "hydra"))


def described(group: str, name: str) -> str:
    """Return what one choice is: the first comment of its file, else where its data come from."""
    lines = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#") and "@package" not in line]
    return comments[0] if comments else settings(group, name).get("source_page", "")


def recoveries() -> tuple[str, ...]:
    """Return the experiments that are recovery studies (``pyrozoo.studies.recover.run``)."""
    return tuple(name for name in options("experiment") if "recovery" in _settings("experiment", name))


@cache
def models() -> tuple[str, ...]:
    """Return the models: the folders of pyrozoo/models that hold a model.py."""
    return tuple(sorted(path.parent.name for path in MODELS.glob("*/model.py")))


def in_zoo(model: Model) -> bool:
    """Return whether a model is one of these folders', rather than somebody's own of the same name."""
    return type(model).__module__ == f"pyrozoo.models.{model.name}.model"


@cache
def _literal(path: Path, name: str) -> Any:
    """Read one literal assignment of a module without importing it; nobody changes what it is."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return ast.literal_eval(node.value)
    return None


def title(model: str) -> str:
    """Return the first line of the model's package docstring."""
    if source := source_of(model):
        return own.declared(source)[2]
    docstring = ast.get_docstring(ast.parse((MODELS / model / "__init__.py").read_text(encoding="utf-8")))
    return (docstring or model).splitlines()[0]


def installed() -> tuple[str, ...]:
    """Return the models of installed packages (``own.GROUP``)."""
    return tuple(sorted(own.installed()))


def source_of(model: str) -> str | None:
    """Return the file of a model from outside of the zoo, as it is asked for; None: it is none."""
    return None if model in models() else own.source_of(model)


def model_settings(model: str) -> dict[str, Any]:
    """Return the default settings of a model: of the zoo, of a file that defines one, or of an installed package."""
    if model in models():
        return settings("model", model)
    if (source := own.source_of(model)) is None:
        raise SettingError(check_choice("model", model) or "")
    name, defaults, _ = own.declared(source)
    return {"name": snake(name), "source": str(Path(source).resolve()), **defaults}


def refused(model: str) -> dict[str, str]:
    """Return generic methods that make no sense for the model, with the reason (``REFUSED`` in its package)."""
    if model not in models():
        return {}
    return _literal(MODELS / model / "__init__.py", "REFUSED") or {}


def default_data(model: str) -> str:
    """Return the choice of conf/data that a model is tried on unless another is asked for (``DATA`` in its package)."""
    return "simulated" if model not in models() else _literal(MODELS / model / "__init__.py", "DATA") or "simulated"


def file_data(model: str) -> str:
    """Return what a user's file is for a model, by the container that its program says it takes."""
    source = source_of(model)
    if source is None and model not in models():
        return "table"
    container = own.container(source or str(MODELS / model / "model.py")).lower()
    return {"grid": "picture"}.get(container, container if container in KINDS else "table")


def wanted(model: str, source: str) -> Wanted:
    """Return what is wanted of a file: by what the data are called, or, of ``file``, by the model.

    A model of the zoo says in its package whether its numbers are counts (``CELLS``).
    """
    found = KINDS[file_data(model) if source == "file" else source]
    cells = _literal(MODELS / model / "__init__.py", "CELLS") if model in models() else None
    return replace(found, cells=cells) if cells and found.cells == "numbers" else found


def methods(model: str) -> tuple[str, ...]:
    """Return the methods of a model: solver files of that name, guides that methods name, and what any program allows.

    That is svi, by an automatic guide where the folder has none, laplace and nuts, and what is derived from a program
    (``derives``).
    """

    def there(name: str) -> bool:
        its = settings("inference", name)
        module = {"solver": name, "guide": its.get("guide")}.get(its["needs"])
        return module is None or has(model, module) or (its["needs"] == "solver" and derives(model, name))

    return tuple(name for name in options("inference") if there(name) and name not in refused(model))


def check_choice(group: str, name: str, model: str | None = None) -> str | None:
    """Return what is wrong with a choice, in one line, or None; a method may be asked for by another word for it."""
    valid = models() if group == "model" else options(group)
    if name in valid:
        return None
    if name == ANY:
        return None
    if group == "model" and (source := own.source_of(name)):
        return _said(lambda: own.declared(source))
    if group == "inference":
        valid = methods(model) if model in models() else valid
        if meant := [m for m in valid if name.lower() in settings(group, m).get("also", "").split(", ")]:
            return f"inference={name} does not exist; by {name} you may mean {' or '.join(meant)} ({', '.join(valid)})"
    return f"{group}={name} does not exist; {suggestion(name, valid)}"


def _said(look: Callable[[], Any]) -> str | None:
    try:
        look()
    except SettingError as error:
        return str(error)
    return None


def snake(name: str) -> str:
    """Return the name of a model: its class's, in small letters."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def check_pair(model: str, method: str) -> str | None:
    """Return why the method does not apply to the model, in one line, or None."""
    if method in methods(model):
        return None
    reason = refused(model).get(method)
    return (
        f"{model} has no method {method}" + (f" ({reason})" if reason else "") + f"; it has {', '.join(methods(model))}"
    )


@cache
def has(model: str, name: str) -> bool:
    """Return whether a model of the zoo has a module of that name in its folder."""
    return model in models() and (MODELS / model / f"{name}.py").exists()


def derives(model: str, name: str) -> bool:
    """Return whether a method is derived from a model's program.

    Every model from outside of the zoo has all that can be derived; a model of the zoo those without a solver of its
    own that its package names (``DERIVES``).
    """
    named = None if model not in models() else _literal(MODELS / model / "__init__.py", "DERIVES") or ()
    return (DERIVED / f"{name}.py").exists() and (named is None or name in named)


def solver(model: str, name: str) -> ModuleType:
    """Import the module of a model's solver: the hand-built one, or that which derives it from the program."""
    return part(model, name) if has(model, name) else importlib.import_module(f"pyrozoo.inference.derived.{name}")


def part(model: str, name: str) -> ModuleType:
    """Import a module of a model's folder, such as a solver's or the guide's."""
    return importlib.import_module(f"pyrozoo.models.{model}.{name}")


def model_class(name: str, source: str | None = None) -> type[Model]:
    """Import a model's class: the one subclass of Model that its model.py, or the file it comes from, defines."""
    from pyrozoo.contracts.model import Model

    module = part(name, "model") if source is None else own.load(source)
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Model) and each.__module__ == module.__name__
    )
    return found


def datasets() -> tuple[str, ...]:
    """Return the named data sets: the files of conf/data whose source says so."""
    return tuple(name for name in options("data") if settings("data", name)["source"] == "named")
