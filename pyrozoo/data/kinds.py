"""What columns of answers were before they became codes: types that synthetic rows get back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

TEXT = "object"

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

    @classmethod
    def of_column(
        cls, column: pd.Series, levels: Sequence[str], label: Callable[[Any], str | None], spelled: bool = False
    ) -> Kind:  # fmt: skip
        """Return the kind of a column.

        Args:
            column: The column.
            levels: How its categories are called.
            label: Cell -> how it is called.
            spelled: Whether it stood in a file of text, where True and False are words.
        """
        kind: Any = column.dtype
        if isinstance(kind, pd.CategoricalDtype):
            known = [label(each) for each in kind.categories]
            if None in known or len({*known}) < len(known):
                return cls(TEXT)
            called = tuple(str(each) for each in known)
            inner = cls._usable(str(kind.categories.dtype), called)
            return cls("category", called, inner, bool(kind.ordered))
        name, gone = str(kind), bool(column.isna().any())
        if name == TEXT:
            name = PLAIN.get(pd.api.types.infer_dtype(column, skipna=True), (TEXT, TEXT))[gone]
        if spelled and levels and {*levels} <= {"True", "False"}:
            name = PLAIN["boolean"][gone]
        return cls(cls._usable(name, levels))

    @classmethod
    def _usable(cls, name: str, levels: Sequence[str]) -> str:
        """Return the name of a type, or that of text where the names of categories do not spell its values."""
        try:
            _values(name, levels)
        except (TypeError, ValueError, OverflowError):
            return TEXT
        return name

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
