"""Cells: which spell numbers, with which decimal mark, and which say that they are missing."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.data.readers.arrow import distinct, numeric, strings

MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "."})
"""Spellings (in lower case) of a missing cell, and of a missing answer wherever it is text."""

_MISSING = strings(sorted(MISSING))

SPELLINGS = sorted({each for word in MISSING for each in (word, word.upper(), word.capitalize())} | {"NaN"})
"""The usual ones of them, as Arrow looks for them."""

DOUBTFUL = re.compile(
    r"[-\u2013\u2014]+|n\.?a\.?|k\.? ?a\.?|missing|unknown|not available|#(ref|value|div/0|num|name|null)[!?]?", re.I
)
"""What may mean that a cell is missing, and may not."""

EVASIVE = re.compile(
    r"(i )?(do not|don['\u2019]?t) know|dk|dk/na|refused|prefer not to (say|answer)|"
    r"no answer|no response|not applicable|not stated|"
    r"wei(ss|\u00df) (ich )?nicht|keine angabe|verweigert|ne sait pas|no sabe|no contesta|"
    r"\(missing\)|\*", re.I
)  # fmt: skip
"""Answers that may be one of several, and may mean that there is none."""

CODES = (-9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0)
"""Numbers that often stand for a missing one."""

INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")

TRUE = {"true": 1.0, "false": 0.0}

LOOKED = 20_000
"""Cells that the decimal mark is found by."""

PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.I)

_NUMBER = re.compile(r"[\d.,' \u00a0\u202f\u2019]+(e[+-]?\d+)?", re.I)

_THOUSAND = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")

_GROUPED = re.compile(r"([+-]?[1-9]\d{0,2})((?:([.,' \u00a0\u202f\u2019])\d{3})+)")


def plain(cell: str, decimal: str = ".") -> float | None:
    """Return the number that a cell spells, if any; anything but the decimal mark may group thousands."""
    cell = cell.strip().replace("\u2212", "-")
    if decimal != ".":
        cell = cell.replace(".", "\u00a0").replace(decimal, ".")
    if PLAIN.fullmatch(cell):
        return float(cell)
    if cell.lower().lstrip("+-") in ("inf", "infinity"):
        return -math.inf if cell.startswith("-") else math.inf
    whole, point, rest = cell.partition(".")
    if (found := _GROUPED.fullmatch(whole)) and (not rest or rest.isdecimal()):
        marks = set(re.sub(r"\d", "", found[2]))
        if len(marks) == 1:
            return float(re.sub(r"[^\d+-]", "", whole) + point + rest)
    return None


def decimal_of(cells: Iterable[str], stated: str | None, delimiter: str) -> tuple[str, str | None, str | None]:
    """Find the decimal mark of a text.

    Args:
        cells: Some of its cells.
        stated: What is said.
        delimiter: What stands between cells: beside commas a decimal mark is a point.

    Returns:
        The mark, a note where it is a comma that was found, and what is wrong: ``1.234`` or ``1,234`` might be one or a
        thousand, or both marks occur.
    """
    if stated is not None:
        return stated, None, None
    seen: dict[str, str] = {}
    for cell in itertools.islice(dict.fromkeys(cells), LOOKED):
        text = cell.strip().lstrip("+-\u2212")
        if ("," in text or "." in text) and _NUMBER.fullmatch(text):
            mark = "," if "," in text else "."
            if text.count(mark) < 2 or "." in text.replace(mark, "") or _GROUPED.fullmatch(text):  # no date, no version
                seen.setdefault(_says(text), cell.strip())
    said = "data.decimal=, (then a point groups thousands) or data.decimal=. (then a comma does)"
    if "," in seen and "." in seen:
        return ".", None, f"{seen[',']!r} has a decimal comma and {seen['.']!r} a decimal point: set {said}"
    if "," in seen:
        return ",", "the decimal mark is a comma (data.decimal)", None
    doubtful = seen.get("1,234") or (seen.get("1.234") if delimiter != "," else None)
    if doubtful and "." not in seen:
        return ".", None, f"{doubtful!r} may be a thousand and more, or a decimal: set {said}"
    return ".", None, None


def _says(text: str) -> str:
    """Return which decimal mark a number says there is, or ``1,234`` or ``1.234`` where it may be either."""
    comma, point = text.rfind(","), text.rfind(".")
    if comma >= 0 and point >= 0:
        return "," if comma > point else "."
    mark = "," if comma >= 0 else "."
    if text.count(mark) > 1:
        return "." if mark == "," else ","  # groups of thousands
    return f"1{mark}234" if _THOUSAND.fullmatch(text) else mark


@dataclass(frozen=True)
class Bad:
    """Cells of a column that are no numbers.

    Attributes:
        spelled: What they say -> how many, and the first place from 0.
        truth: Whether others are true or false, which are taken for 1 and 0.
    """

    spelled: dict[str, tuple[int, int]]
    truth: bool = False

    @property
    def count(self) -> int:
        """Return how many they are."""
        return sum(count for count, _ in self.spelled.values())


def texts(column: pa.ChunkedArray, missing: Sequence[Any] = ()) -> pa.ChunkedArray:
    """Return a column of text, stripped, with null where a cell says that it is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    column = pc.utf8_trim_whitespace(column)
    gone = pc.is_in(pc.utf8_lower(column), _MISSING)
    if missing:
        gone = pc.or_(gone, pc.is_in(column, strings(str(each).strip() for each in missing)))
    return pc.if_else(gone, pa.nulls(len(column), pa.string()), column)


def numbers(column: pa.ChunkedArray, decimal: str = ".", missing: Sequence[Any] = ()) -> tuple[np.ndarray, Bad]:
    """Return the numbers of a column, NaN where a cell is missing or spells none, and what spells none.

    Args:
        column: Of any type that Arrow has.
        decimal: The decimal mark of text.
        missing: What else says that a cell is missing.
    """
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan), Bad({})
    if is_number(column):
        values = numeric(column)
        codes = [value for each in missing if (value := plain(str(each))) is not None]
        values = np.where(np.isin(values, codes), np.nan, values) if codes else values
        return values, Bad({}, pa.types.is_boolean(kind))
    return _spelled(texts(column, missing), decimal, missing)


def _spelled(column: pa.ChunkedArray, decimal: str, missing: Sequence[Any]) -> tuple[np.ndarray, Bad]:
    """Read each distinct cell once."""
    codes, found = distinct(column)
    values, wrong, truth = spelled(found, decimal, missing)
    if not wrong.any():
        return values[codes], Bad({}, bool(truth.any()))
    count = np.bincount(codes[codes >= 0], minlength=len(found))
    first = np.full(len(found) + 1, len(codes))
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    said = {found[i].as_py(): (int(count[i]), int(first[i])) for i in np.flatnonzero(wrong).tolist()}
    return values[codes], Bad(said, bool(truth.any()))


def spelled(found: pa.Array, decimal: str, missing: Sequence[Any] = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read distinct cells of text without blanks around them.

    Args:
        found: The cells.
        decimal: The decimal mark.
        missing: What else says that a cell is missing.

    Returns:
        Their numbers, and NaN as the last one, which is that of missing cells; which spell no number, and which say
        true or false, bool.
    """
    gone = {value for each in missing if (value := plain(str(each), decimal)) is not None}
    words = found.to_pylist()
    read = [TRUE.get(cell.lower(), plain(cell, decimal)) for cell in words]
    values = np.array([np.nan if each is None or each in gone else each for each in read] + [np.nan])
    wrong, truth = (
        np.array([each is None for each in read], bool),
        np.array([cell.lower() in TRUE for cell in words], bool),
    )
    return values, wrong, truth


def is_number(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds numbers or booleans."""
    kind, types = column.type, pa.types
    return bool(types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def is_text(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds text or categories."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def named(value: Any) -> str:
    """Return how a value is called: 3.0 is called 3."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
