"""Tables as files: the one writer, with digits that people send on and letters that a file can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyrozoo.core.paths import replacing
from pyrozoo.data.container import storable
from pyrozoo.store.lines import write_lines

DIGITS = 6
"""Significant digits of numbers that people read; the part before the point is always whole."""


def write_text(path: Path, text: str) -> None:
    """Write a text file in one move."""
    with replacing(path) as temporary:
        temporary.write_bytes(storable(text).encode("utf-8"))


def write_table(path: Path, frame: pd.DataFrame, digits: int | None = DIGITS) -> None:
    """Write a CSV file in one move: what is not known is an empty cell.

    Args:
        path: The file.
        frame: The table.
        digits: Significant digits; None keeps all, for what is read back. Whole numbers are written whole.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_lines(file, readable(frame, digits))


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
