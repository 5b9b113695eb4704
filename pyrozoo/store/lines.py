"""Tables as lines of text, made by Arrow column by column: no line is ever a string of Python's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.data.container import storable

BATCH = 2**16
"""Lines that are made at a time."""

LARGE, MOST_EXACT = 1e10, 2.0**53
"""Numbers between them Arrow spells with an exponent, and people with all of their digits."""


def write_lines(file: BinaryIO, frame: pd.DataFrame, separator: str = ",", *, header: bool = True) -> None:
    """Write a table as separated values, UTF-8: what is not known is an empty cell, whole numbers have no point.

    Numbers are spelled so that they are read back the same; cells are quoted that hold a separator, a quote or a line
    break.

    Args:
        file: Where to.
        frame: The table; its index is not written.
        separator: What stands between cells.
        header: Whether the first line has the names of the columns.
    """
    if header:
        names = [pa.array([storable(str(name))]) for name in frame.columns]
        file.write(_joined([_quoted(name, separator) for name in names], separator))
    for start in range(0, len(frame), BATCH):
        part = frame.iloc[start : start + BATCH]
        file.write(_joined([_spelled(part.iloc[:, place], separator) for place in range(part.shape[1])], separator))


def _joined(cells: list[pa.Array], separator: str) -> bytes:
    """Return lines of cells, a column each."""
    if not cells:
        return b"\n"
    if len(cells) == 1:  # an empty line would be none
        cells = [pc.fill_null(pc.if_else(pc.equal(cells[0], ""), '""', cells[0]), '""')]
    between = [part for cell in cells for part in (separator, cell)][1:]
    return joined([*between, "\n"])


def joined(parts: Sequence[pa.Array | str]) -> bytes:
    """Return columns of text side by side, line after line; a text is the same in every line, and null is nothing."""
    whole = pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="")
    _, ends, text = whole.buffers()  # of an array of its own, from its first line on
    return memoryview(text)[: np.frombuffer(ends, np.int32)[-1]].tobytes() if text is not None else b""


def _spelled(column: pd.Series, separator: str) -> pa.Array:
    """Return the cells of a column as text, null where there is nothing."""
    kind: Any = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        levels, codes = _spelled(pd.Series(column.cat.categories), separator), column.cat.codes.to_numpy()
        return levels.take(pa.array(codes.astype(np.int64), mask=codes < 0))
    if pd.api.types.is_bool_dtype(kind):
        return pc.if_else(_one(pa.array(column, pa.bool_(), from_pandas=True)), "True", "False")
    if pd.api.types.is_float_dtype(kind):
        return numbers(column.to_numpy(np.float32 if kind == np.float32 else np.float64, na_value=np.nan))
    if pd.api.types.is_integer_dtype(kind):
        return _one(pa.array(column, from_pandas=True)).cast(pa.string())
    if pd.api.types.is_string_dtype(kind) or pd.api.types.is_object_dtype(kind):
        return _quoted(texts(column), separator)
    printed = column.astype(str).mask(column.isna(), None)  # such as dates
    return _quoted(texts(printed), separator)


def numbers(values: np.ndarray) -> pa.Array:
    """Spell numbers: the fewest digits that say the same, whole ones whole."""
    gone = np.isnan(values)
    spelled = pa.array(values, mask=gone).cast(pa.string())
    size = np.abs(values)
    large = (size >= LARGE) & (size < MOST_EXACT)
    if large.any():
        at = np.flatnonzero(large)
        digits = [repr(value).removesuffix(".0") for value in values[at].tolist()]
        spelled = pc.replace_with_mask(spelled, pa.array(large), pa.array(digits))
    if (values == 0).any() and pc.any(zero := pc.equal(spelled, "-0")).as_py():
        return pc.if_else(zero, "0", spelled)
    return spelled


def _quoted(cells: pa.Array, separator: str) -> pa.Array:
    """Put cells into quotes that would be taken for several, or for the end of a line."""
    risky = pc.match_substring_regex(cells, f'["\\n\\r{separator}]')
    if not pc.any(risky).as_py():
        return cells
    inside = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(risky, inside, cells)


def texts(column: pd.Series, nul: str = storable("\x00")) -> pa.Array:
    """Return a column of texts, and of one that holds other things, too, what these are printed as.

    Args:
        column: The column.
        nul: What stands in the place of NUL, which no file can hold.
    """
    try:
        cells = _one(pa.array(column, pa.string(), from_pandas=True))
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        gone = column.isna().to_numpy()
        cells = pa.array([None if no else storable(str(each)) for each, no in zip(column, gone, strict=True)])
    cells = cells.cast(pa.string())
    unheld = pc.match_substring(cells, "\x00")
    return pc.replace_substring(cells, "\x00", nul) if pc.any(unheld).as_py() else cells


def _one(cells: Any) -> pa.Array:
    """Return cells as one piece."""
    return pa.concat_arrays(cells.chunks) if isinstance(cells, pa.ChunkedArray) else cells
