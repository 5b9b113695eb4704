"""Settings against the signature of what they are for: unknown names and wrong types in one line."""

from __future__ import annotations

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrozoo.core.errors import SettingError


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Return the end of an error line: a near miss if there is one, and all valid choices."""
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, 1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"choices: {', '.join(choices)}"


def check_types(
    function: Callable[..., Any], values: Mapping[str, Any], prefix: str, whose: str = "", inner: Sequence[str] = ()
) -> None:
    """Raise SettingError when a value does not fit the parameter of that name.

    Args:
        function: Its annotations are the specification.
        values: Parameter name -> value.
        prefix: The config group, for the message.
        whose: Who has these settings, for the message.
        inner: Parameters that are not settings.
    """
    names = [name for name in inspect.signature(function).parameters if name not in ("self", *inner)]
    hints = typing.get_type_hints(function)
    for name, value in values.items():
        if name not in names:
            known = suggestion(name, names) if names else "it has none"
            raise SettingError(f"{prefix}.{name}: {whose or prefix} has no such setting; {known}")
        if name in hints and not _fits(value, hints[name]):
            raise SettingError(f"{prefix}.{name} is {value!r}; it must be {_spelled(hints[name])}")


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(hint))
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str | Path)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        inner = typing.get_args(hint)
        return isinstance(value, list | tuple) and all(_fits(each, inner[0]) for each in value if inner)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _spelled(hint: Any) -> str:
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", type(None): "null"}
    words[Mapping] = "names with values"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_spelled(each) for each in typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(str(each) for each in typing.get_args(hint))
    return words.get(hint, "a list" if typing.get_origin(hint) else "a file name" if hint is Path else str(hint))
