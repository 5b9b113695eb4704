"""Settings: what a thing can be told, declared once. Messages and wrong values of tests follow from the declaration."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from pyrozoo.core.errors import SettingError


@dataclass(frozen=True)
class Range:
    """The values that a setting may have.

    Attributes:
        said: What a message says after "it must be".
        holds: Whether a value is one.
        wrong: Values that are none, for tests.
        optional: Whether None is one, too.
        many: Whether a list of values is one, too; it is kept as a tuple.
        choices: All of them, where they are a few words.
    """

    said: str
    holds: Callable[[Any], bool]
    wrong: tuple[Any, ...]
    optional: bool = False
    many: bool = False
    choices: tuple[Any, ...] = ()

    def allows(self, value: Any) -> bool:
        """Return whether a setting may have the value."""
        if value is None:
            return self.optional
        if self.many and isinstance(value, list | tuple):
            return len(value) > 0 and all(self.holds(each) for each in value)
        return self.holds(value)

    def __str__(self) -> str:
        lists = ", or a list of such" if self.many else ""
        return self.said + lists + (", or null" if self.optional else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _field(said: str, holds: Callable[[Any], bool], wrong: tuple[Any, ...], default: Any, **more: Any) -> Any:
    given = {} if default is dataclasses.MISSING else {"default": default}
    return dataclasses.field(**given, metadata={"range": Range(said, holds, wrong, **more)})


def whole(
    least: int = 1, most: int | None = None, *, optional: bool = False, default: Any = dataclasses.MISSING
) -> Any:  # fmt: skip
    """Declare a whole number from ``least`` up, or up to ``most``."""

    def holds(value: Any) -> bool:
        right = isinstance(value, int) and not isinstance(value, bool)
        return right and least <= value and (most is None or value <= most)

    said = f"a whole number >= {least}" if most is None else f"a whole number from {least} to {most}"
    wrong = (least - 1, least + 0.5, "three", True, *(() if most is None else (most + 1,)))
    return _field(said, holds, wrong, default, optional=optional)


def positive(*, optional: bool = False, many: bool = False, default: Any = dataclasses.MISSING) -> Any:
    """Declare a positive number."""
    wrong = (0, -1.0, math.inf, math.nan, "one", True)
    return _field("a positive number", lambda v: _is_number(v) and v > 0, wrong, default, optional=optional, many=many)


def not_negative(*, optional: bool = False, default: Any = dataclasses.MISSING) -> Any:
    """Declare a number that is 0 or more."""
    wrong = (-1e-9, math.inf, math.nan, "one")
    return _field("a number >= 0", lambda v: _is_number(v) and v >= 0, wrong, default, optional=optional)


def between(
    low: float, high: float, ends: str = "()", *, optional: bool = False, default: Any = dataclasses.MISSING
) -> Any:
    """Declare a number between two; ``ends`` says which of them belong to it, as intervals are written."""

    def holds(value: Any) -> bool:
        inside = _is_number(value) and low <= value <= high
        return inside and (value != low or ends[0] == "[") and (value != high or ends[1] == "]")

    edges = (low,) * (ends[0] == "(") + (high,) * (ends[1] == ")")
    wrong = (low - 1, high + 1, *edges, math.nan, "half")
    return _field(f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}", holds, wrong, default, optional=optional)


def one_of(*choices: str, optional: bool = False, default: Any = dataclasses.MISSING) -> Any:
    """Declare one of several words."""
    said = " or ".join([", ".join(choices[:-1]), choices[-1]]) if len(choices) > 1 else choices[0]
    wrong = ("another", 1)
    return _field(
        said, lambda v: isinstance(v, str) and v in choices, wrong, default, optional=optional, choices=choices
    )


def stated() -> Any:
    """Declare a field that only its annotation describes, among others with a range."""
    return dataclasses.field()


def flag(default: Any = dataclasses.MISSING) -> Any:
    """Declare true or false."""
    return _field("true or false", lambda v: isinstance(v, bool), ("yes", 1), default, choices=(False, True))


@dataclass(frozen=True)
class Settings:
    """A frozen dataclass whose fields are settings: making one checks them, by their declared range or annotation.

    Attributes:
        prefix: What a message puts before a field's name: the group of settings that it belongs to.
    """

    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        self.check({field.name: getattr(self, field.name) for field in fields(self)})
        for field in fields(self):
            declared, value = field.metadata.get("range"), getattr(self, field.name)
            if declared is not None and declared.many and isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Refuse values that are out of a field's declared range, or do not fit its annotation.

        Raises:
            SettingError: The message names the field, its value, and what it must be.
        """
        hints = _hints(cls)
        for field in fields(cls):
            declared = field.metadata.get("range")
            if field.name not in values:
                continue
            value = values[field.name]
            if not (_fits(value, hints[field.name]) if declared is None else declared.allows(value)):
                must = _spelled(hints[field.name]) if declared is None else declared
                raise SettingError(f"{cls.prefix}{field.name} is {value!r}; it must be {must}")

    def refuse(self, name: str, why: str) -> typing.NoReturn:
        """Raise the error of one setting.

        Raises:
            SettingError: The message names the field, its value, and what to type instead.
        """
        raise SettingError(f"{self.prefix}{name} is {getattr(self, name)!r}; {why}")

    @classmethod
    def of(cls, values: Mapping[str, Any], whose: str = "") -> Self:
        """Make settings of names and values.

        Args:
            values: Field name -> value.
            whose: Who has these settings, for the message.

        Raises:
            SettingError: A name that no field has, one that is missing, or a value out of range.
        """
        names = [field.name for field in fields(cls)]
        required = [f.name for f in fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
        whose = whose or cls.prefix.rstrip(".") or cls.__name__
        for name in values:
            if name not in names:
                known = suggestion(name, names) if names else "it has none"
                raise SettingError(f"{cls.prefix}{name}: {whose} has no such setting; {known}")
        if missing := [name for name in required if name not in values]:
            raise SettingError(f"{cls.prefix}{missing[0]} is missing: {whose} needs a value of it")
        cls.check(values)
        return cls(**values)

    def values(self) -> dict[str, Any]:
        """Return the settings by name, as a file can hold them: tuples become lists."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def wrong_values(settings: type[Settings]) -> list[tuple[str, Any]]:
    """Return fields with values that their declared ranges refuse: what a test tries."""
    ranges = {field.name: field.metadata["range"] for field in fields(settings) if "range" in field.metadata}
    return [(name, value) for name, declared in ranges.items() for value in declared.wrong]


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
    hints = _hints(function)
    for name, value in values.items():
        if name not in names:
            known = suggestion(name, names) if names else "it has none"
            raise SettingError(f"{prefix}.{name}: {whose or prefix} has no such setting; {known}")
        if name in hints and not _fits(value, hints[name]):
            raise SettingError(f"{prefix}.{name} is {value!r}; it must be {_spelled(hints[name])}")


def _hints(where: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(where)
    except NameError:  # an annotation that only a type checker can read
        annotations = getattr(where, "__annotations__", {})
        return dict.fromkeys(annotations, Any) | {
            f.name: Any for f in getattr(where, "__dataclass_fields__", {}).values()
        }


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(hint))
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return _is_number(value)
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
