"""What tells rows and columns of a list apart: a place for each line, and labels in order by number or by letter."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.data.readers.arrow import column_of, distinct, numeric, strings, view
from pyrozoo.data.readers.cells import is_number, is_text, named, plain
from pyrozoo.data.readers.labels import Labels

DENSE = 4
"""Whole numbers are told apart by counting where their range is at most so many times their number."""

BLOCK = 2**16
"""Lines that are gone through at a time."""

LARGEST = 1e15
"""Floats below it that are whole are called as whole numbers are."""

COUNTED = "^(0|-?[1-9][0-9]{0,17})$"
"""Texts that are what a whole number is called."""


def places(column: pa.ChunkedArray) -> tuple[np.ndarray, Labels] | None:
    """Return the place of each cell's label, -1 where there is none, and the labels in order; None: they name nothing.

    Labels are in the order of numbers where all of them are numbers, else in the order of letters. A cell that is
    missing, blank or ``nan`` has none.
    """
    if not (is_text(column) or is_number(column) or pa.types.is_temporal(column.type)):
        return None
    if whole := _whole(column):
        return _counted(whole)
    codes, found = distinct(column, np.int32)
    used = np.zeros(len(found) + 1, bool)
    used[codes] = True
    used = used[:-1] & ~nameless(found)  # a dictionary may hold more than the cells
    at, labels = ordered(found.filter(column_of(used).chunk(0)))
    place = np.full(len(used) + 1, -1, np.int32)
    place[:-1][used] = at
    return place[codes], labels


def ordered(found: pa.Array) -> tuple[np.ndarray, Labels]:
    """Return for each of the cells that occur its place among the labels, and the labels in order.

    Cells that are called the same, such as ``1`` and ``1.0``, have one place.
    """
    if pa.types.is_integer(found.type):
        numbers, at = np.unique(numeric(pa.chunked_array([found]), np.int64), return_inverse=True)
        return at, Labels(numbers)
    if not is_text(found):
        found = strings(named(each) for each in found.to_pylist())
    if len(found) and pc.all(pc.match_substring_regex(found, COUNTED)).as_py():
        return ordered(found.cast(pa.int64()))
    coded = pc.dictionary_encode(found)
    words = Labels.of(pa.chunked_array([coded.dictionary]))
    if all(plain(word) is not None for word in words):
        order = np.array(sorted(range(len(words)), key=[(plain(word), word) for word in words].__getitem__), np.int64)
    else:
        order = numeric(pa.chunked_array([pc.sort_indices(words.cells)]), np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[numeric(pa.chunked_array([coded.indices]), np.int64)], words.take(order)


def nameless(found: pa.Array) -> np.ndarray:
    """Return which of the cells that occur name nothing, bool."""
    if not is_text(found):
        gone = pc.is_nan(found) if pa.types.is_floating(found.type) else pc.is_null(found)
    else:
        gone = pc.is_in(pc.utf8_trim_whitespace(found), strings(("",)).cast(found.type))
        gone = pc.or_(gone, pc.equal(found, "nan"))
    return numeric(pa.chunked_array([pc.fill_null(gone, True)]), np.uint8).astype(bool)


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column of whole numbers without a missing one, also of floats that are whole; None: it is no such."""
    if column.null_count:
        return None
    if pa.types.is_integer(column.type):
        return column
    if not pa.types.is_floating(column.type) or not len(column):
        return None
    values = numeric(column)
    if not (np.abs(values) < LARGEST).all() or (values != np.floor(values)).any():
        return None
    return column_of(values.astype(np.int64))


def _counted(column: pa.ChunkedArray) -> tuple[np.ndarray, Labels]:
    """Return the places of whole numbers among the distinct ones, and these, in order."""
    if not len(column):
        return np.zeros(0, np.int32), Labels(np.zeros(0, np.int64))
    low, high = (int(each) for each in pc.min_max(column).as_py().values())
    if high - low > DENSE * len(column) + 1000:
        found, codes = np.unique(numeric(column, np.int64), return_inverse=True)
        return codes.astype(np.int32), Labels(found)
    codes, there, start = np.empty(len(column), np.int32), np.zeros(high - low + 1, bool), 0
    for chunk in column.chunks:  # no array of all of them but the places: lists may be as large as memory allows
        values = view(chunk)
        assert values is not None
        for at in range(0, len(values), BLOCK):
            block = values[at : at + BLOCK]
            part = codes[start : start + len(block)]
            np.subtract(block, low, out=part, casting="unsafe")
            there[part] = True
            start += len(block)
    found = np.flatnonzero(there)
    if len(found) < len(there):
        place_of = np.cumsum(there, dtype=np.int32) - np.int32(1)
        for start in range(0, len(codes), BLOCK):
            codes[start : start + BLOCK] = place_of[codes[start : start + BLOCK]]
    return codes, Labels(found + low)
