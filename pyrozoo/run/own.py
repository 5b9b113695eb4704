"""Models from outside: a file that defines one, or an installed package. Read without importing anything heavy."""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pyrozoo.core.errors import SettingError

GROUP = "pyrozoo.models"
"""The entry points of packages that bring models: NAME = MODULE, or MODULE:CLASS."""


@cache
def installed() -> dict[str, str]:
    """Return models of installed packages, name -> the file that defines it."""
    from importlib.metadata import entry_points  # a tenth of the time that help takes

    found = {}
    for point in entry_points(group=GROUP):
        spec = importlib.util.find_spec(point.module)
        if spec is not None and spec.origin:
            found[point.name] = spec.origin
    return found


def source_of(model: str) -> str | None:
    """Return the file of a model from outside, as it is asked for: its path, or a package's name; None: neither."""
    return model if model.endswith(".py") else installed().get(model)


@cache
def declared(path: str) -> tuple[str, dict[str, Any], str]:
    """Return the name, the defaults and the title of the one model that a file defines, without running it.

    Raises:
        SettingError: No such file, or it defines none, or several, or a field without a default that can be read.
    """
    file = Path(path)
    if not file.is_file():
        raise SettingError(f"model={path}: there is no such file")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise SettingError(f"model={path} is not readable Python ({error})") from None
    found = [each for each in tree.body if isinstance(each, ast.ClassDef) and _is_model(each)]
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise SettingError(f"model={path} must define one class of pyrozoo.Model; it defines {names}")
    (model,) = found
    defaults = {
        each.target.id: _default(each, path)
        for each in model.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and "ClassVar" not in ast.dump(each.annotation)
    }
    title = (ast.get_docstring(model) or ast.get_docstring(tree) or model.name).splitlines()[0]
    return model.name, defaults, title


@cache
def container(path: str) -> str:
    """Return the name of the class of data that the one model of a file takes, without running it; empty: any."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    for model in (each for each in tree.body if isinstance(each, ast.ClassDef) and _is_model(each)):
        for function in (each for each in model.body if isinstance(each, ast.FunctionDef) and each.name == "__call__"):
            annotation = [each.annotation for each in function.args.args[1:2]]
            return ast.unparse(annotation[0]).strip("'\"").rpartition(".")[2] if annotation and annotation[0] else ""
    return ""


def _is_model(node: ast.ClassDef) -> bool:
    return any((isinstance(b, ast.Name) and b.id == "Model") or (isinstance(b, ast.Attribute) and b.attr == "Model")
               for b in node.bases)  # fmt: skip


def _default(node: ast.AnnAssign, path: str) -> Any:
    value: ast.expr | None = node.value
    if isinstance(value, ast.Call):  # a declared range
        value = next((word.value for word in value.keywords if word.arg == "default"), None)
    try:
        return ast.literal_eval(value) if value is not None else _missing(node, path)
    except ValueError:
        return _missing(node, path)


def _missing(node: ast.AnnAssign, path: str) -> Any:
    raise SettingError(f"model={path}: the field {ast.unparse(node.target)} needs a default: a plain value")


def load(path: str) -> ModuleType:
    """Import the file of a model from outside, once.

    Raises:
        SettingError: It raises something itself.
    """
    file = Path(path).resolve()
    name = f"pyrozoo_own_{file.stem}_{abs(hash(str(file)))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look for it there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            said = (str(error).splitlines() or [""])[0]
            raise SettingError(f"model={path} cannot be imported ({type(error).__name__}: {said})") from error
    return sys.modules[name]
