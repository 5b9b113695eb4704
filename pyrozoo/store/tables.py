"""Tables as files: the one writer, with digits that people send on and letters that a file can hold."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyrozoo.core.paths import replacing
from pyrozoo.data.container import storable

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
    buffer = io.StringIO()
    readable(frame, digits).to_csv(buffer, index=False)
    write_text(path, buffer.getvalue())


def readable(frame: pd.DataFrame, digits: int | None = DIGITS) -> pd.DataFrame:
    """Return a table as it is written: texts storable, numbers rounded, whole ones whole."""
    result = frame.copy(deep=False)
    for place, kind in enumerate(frame.dtypes):
        if digits is not None and pd.api.types.is_float_dtype(kind):
            result.isetitem(place, _rounded(frame.iloc[:, place].to_numpy(np.float64, na_value=np.nan), digits))
    return result


def _rounded(values: np.ndarray, digits: int) -> Any:
    known = np.isfinite(values)
    size = np.zeros(len(values))
    size[known] = np.floor(np.log10(np.maximum(np.abs(values[known]), np.finfo(float).tiny)))
    places = np.clip(digits - 1 - size, 0, 22)  # up to 10^22 powers of ten are exact
    found = np.where(known & (values != 0), np.round(values * 10**places) / 10**places, values)
    small = known & (digits - 1 - size > 22) & (values != 0)
    found[small] = [float(f"{value:.{digits}g}") for value in values[small]]
    whole = known.any() and not np.isinf(values).any() and np.array_equal(found[known], np.round(found[known]))
    if not whole or np.abs(found[known]).max() >= 2**53:
        return found
    counts = pd.array(np.where(known, found, 0).astype(np.int64), dtype="Int64")
    counts[~known] = pd.NA
    return counts
