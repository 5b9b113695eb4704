"""What columns of answers were before they became codes: types that synthetic rows get back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from pyrozoo.data.coding import is_objects, label_or_none

TEXT = "object"

Typed = tuple[Any, bool, str]
"""Of a column: its type in pandas, whether a cell is missing, and of objects what they are, as pandas infers it."""

PLAIN: Mapping[str, tuple[str, str]] = {
    "boolean": ("bool", "boolean"), "integer": ("int64", "Int64"), "floating": ("float64", "float64"),
    "mixed-integer-float": ("float64", "float64"),
}  # fmt: skip
"""What cells of a column of objects are, as pandas infers it -> the type of such a column, without and with holes."""


@dataclass(frozen=True)
class Kind:
    """The type of a column.

    Attributes:
        name: As pandas calls it, such as ``int64``, ``Int64``, ``boolean`` or ``category``.
        categories: Of a category: how each is called, in order, those that do not occur too.
        of: Of a category: the type of these.
        ordered: Whether their order means something.
    """

    name: str
    categories: tuple[str, ...] = ()
    of: str = TEXT
    ordered: bool = False

    @property
    def text(self) -> str:
        """Return the kind as a text for a run directory."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Kind:
        """Rebuild what ``text`` returned."""
        known = json.loads(text)
        return cls(**{**known, "categories": tuple(known["categories"])})

    def column(self, codes: np.ndarray, levels: Sequence[str]) -> Any:
        """Return a column of this kind.

        Args:
            codes: Place of each cell's category among the levels, -1 where there is none.
            levels: How they are called.
        """
        if self.name == "category":
            place = {level: i for i, level in enumerate(self.categories)}
            at = np.array([*(place[level] for level in levels), -1])[codes]
            return pd.Categorical.from_codes(at, categories=_values(self.of, self.categories), ordered=self.ordered)
        values, gone = _values(self.name, levels), codes < 0
        if not gone.any():
            return values.take(codes)
        kind = pd.api.types.pandas_dtype(self.name)
        if isinstance(kind, np.dtype) and kind.kind in "biu":
            with_holes = {"b": "boolean", "i": kind.name.replace("i", "I"), "u": kind.name.replace("ui", "UI")}
            values = _values(with_holes[kind.kind], levels)
        return values.take(codes, allow_fill=True)


def types_of(frame: pd.DataFrame) -> list[Typed]:
    """Return the types of a frame's columns."""
    kinds, missing = frame.dtypes.tolist(), frame.isna().to_numpy()
    gone = np.atleast_1d(missing.any(0)).tolist()
    objects = [place for place, kind in enumerate(kinds) if is_objects(kind)]
    inferred: dict[int, str] = {}
    if objects:
        cells: Any = frame if len(objects) == len(kinds) else frame.iloc[:, objects]
        each = zip(objects, cells.to_numpy().T, strict=True)
        inferred = {place: str(pd.api.types.infer_dtype(column, skipna=True)) for place, column in each}
    return [(kind, gone[place], inferred.get(place, "")) for place, kind in enumerate(kinds)]


def kinds_of(types: Sequence[Typed], levels: Sequence[Sequence[str]], spelled: bool = False) -> list[Kind]:
    """Return the kinds of columns; one whose categories' names do not spell values of its type is text.

    Args:
        types: Of the columns.
        levels: How their categories are called.
        spelled: Whether they stood in a file of text, where True and False are words.
    """
    each = zip(types, levels, strict=True)
    named = [_named(*kind, its, spelled) for kind, its in each]
    every: dict[str, set[str]] = {}
    for name, its in named:
        every.setdefault(name, set()).update(its)
    sure = {name for name, its in every.items() if _spells(name, [*its])}  # of all columns at once
    found = []
    for (kind, _, _), (name, its) in zip(types, named, strict=True):
        name = name if name in sure or _spells(name, its) else TEXT
        if isinstance(kind, pd.CategoricalDtype) and len(its) == len(kind.categories):
            found.append(Kind("category", tuple(its), name, bool(kind.ordered)))
        else:
            found.append(Kind(name))
    return found


def _named(
    kind: Any, gone: bool, inferred: str, levels: Sequence[str], spelled: bool
) -> tuple[str, Sequence[str]]:  # fmt: skip
    """Return the name of a type, of a category that of its values, and how these are called.

    A category of which two values are called the same, or one is missing, is text.
    """
    if isinstance(kind, pd.CategoricalDtype):
        known = [label_or_none(each) for each in kind.categories]
        called = tuple(each for each in known if each is not None)
        return (str(kind.categories.dtype), called) if len({*called}) == len(known) else (TEXT, ())
    name = str(kind)
    if name == TEXT:
        name = PLAIN.get(inferred, (TEXT, TEXT))[gone]
    if spelled and levels and {*levels} <= {"True", "False"}:
        name = PLAIN["boolean"][gone]
    return name, levels


def _spells(name: str, levels: Sequence[str]) -> bool:
    """Return whether levels are the names of values of a type."""
    try:
        _values(name, levels)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _values(name: str, levels: Sequence[str]) -> Any:
    """Return what levels spell, as an array of pandas of a type."""
    kind = pd.api.types.pandas_dtype(name)
    cells: list[Any] = list(levels)
    if pd.api.types.is_bool_dtype(kind):
        if not {*levels} <= {"True", "False"}:
            raise ValueError(f"{levels} are not all true or false")
        cells = [level == "True" for level in levels]
    elif pd.api.types.is_integer_dtype(kind):
        cells = [int(level) for level in levels]
    elif pd.api.types.is_float_dtype(kind):
        cells = [float(level) for level in levels]
    elif not pd.api.types.is_string_dtype(kind) and not pd.api.types.is_object_dtype(kind):
        raise TypeError(f"{name} is no type of answers")
    return pd.Series(cells, dtype=kind).array
