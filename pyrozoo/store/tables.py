"""Tables as files: the one writer, with digits that people send on and letters that a file can hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyrozoo.core.paths import replacing
from pyrozoo.data.container import storable
from pyrozoo.data.readers.cells import plain
from pyrozoo.store.lines import write_lines

DIGITS = 6
"""Significant digits of numbers that people read; the part before the point is always whole."""

FORMULA = re.compile(r"[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-](?!-*$)")
"""How a text begins that a spreadsheet takes for a formula (OWASP, CSV injection), wide letters too; a dash alone is
none."""


def write_text(path: Path, text: str) -> None:
    """Write a text file in one move."""
    with replacing(path) as temporary:
        temporary.write_bytes(storable(text).encode("utf-8"))


def write_table(path: Path, frame: pd.DataFrame, digits: int | None = DIGITS) -> None:
    """Write a CSV file in one move: what is not known is an empty cell.

    Args:
        path: The file.
        frame: The table.
        digits: Significant digits; None keeps all, for what is read back. Whole numbers are written whole. Where people
            read, text stays text: what a spreadsheet would take for a formula gets an apostrophe before it.
    """
    frame = readable(frame, digits)
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_lines(file, frame if digits is None else neutral(frame))


def readable(frame: pd.DataFrame, digits: int | None = DIGITS) -> pd.DataFrame:
    """Return a table as it is written: numbers rounded, whole ones whole."""
    result = frame.copy(deep=False)
    for place, kind in enumerate(frame.dtypes):
        if digits is not None and pd.api.types.is_float_dtype(kind):
            result.isetitem(place, _rounded(frame.iloc[:, place].to_numpy(np.float64, na_value=np.nan), digits))
    return result


def _rounded(values: np.ndarray, digits: int) -> Any:
    found, known = significant(values, digits, whole=True), np.isfinite(values)
    whole = known.any() and not np.isinf(values).any() and np.array_equal(found[known], np.round(found[known]))
    if not whole or np.abs(found[known]).max() >= 2**53:
        return found
    counts = pd.array(np.where(known, found, 0).astype(np.int64), dtype="Int64")
    counts[~known] = pd.NA
    return counts


def significant(values: np.ndarray, digits: int, *, whole: bool = False) -> np.ndarray:
    """Return numbers with so many significant digits.

    Args:
        values: The numbers.
        digits: How many.
        whole: Whether the part before the point stays whole.
    """
    known = np.isfinite(values) & (values != 0)
    size = np.floor(np.log10(np.abs(values), where=known, out=np.zeros_like(values)))
    places = (digits - 1 - size).astype(np.int64)
    places = np.maximum(places, 0) if whole else places
    up, down = (POWERS[np.clip(each, 0, len(POWERS) - 1)] for each in (places, -places))
    exact = known & (np.abs(places) < len(POWERS))
    found = np.where(exact, np.round(np.where(exact, values, 0) * up / down) * down / up, values)
    rest = known & ~exact
    found[rest] = [float(f"{value:.{digits}g}") for value in values[rest].tolist()]
    return found


POWERS = 10.0 ** np.arange(23)
"""Powers of ten that are exact."""


def neutral(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which no text begins as a formula does: such a one gets an apostrophe before it."""
    frame = frame.set_axis([_neutral(str(name)) for name in frame.columns], axis=1)
    for place, kind in enumerate(frame.dtypes):
        column = frame.iloc[:, place]
        if isinstance(kind, pd.CategoricalDtype):
            levels = [_neutral(each) for each in column.cat.categories]
            if any(one is not other for one, other in zip(levels, column.cat.categories, strict=True)):
                frame.isetitem(place, column.astype(object).map(_neutral, na_action="ignore").array)
        elif pd.api.types.is_string_dtype(kind) or pd.api.types.is_object_dtype(kind):
            found, texts = pd.factorize(column)
            changed = {code: new for code, each in enumerate(texts) if (new := _neutral(each)) is not each}
            if changed:
                column, at = column.astype(object), np.flatnonzero(np.isin(found, list(changed)))
                column.iloc[at] = [changed[code] for code in found[at].tolist()]
                frame.isetitem(place, column.array)
    return frame


def _neutral(cell: Any) -> Any:
    if isinstance(cell, str) and FORMULA.match(cell) and plain(cell) is None and plain(cell, ",") is None:
        return f"'{cell}"
    return cell
