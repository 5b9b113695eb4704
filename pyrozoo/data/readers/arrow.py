"""Arrow's arrays and NumPy's without pandas, which Arrow's own ways import: half a second that a mistake has not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def strings(cells: Iterable[str]) -> pa.Array:
    """Return texts as an Arrow array."""
    encoded = [cell.encode("utf-8", "replace") for cell in cells]
    ends = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(each) for each in encoded], out=ends[1:])
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers).cast(pa.string())


def mask_of(column: pa.Array) -> np.ndarray:
    """Return where an array has a value, bool."""
    bits = column.buffers()[0]
    if bits is None or not column.null_count:
        return np.ones(len(column), bool)
    every = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return every[column.offset : column.offset + len(column)].astype(bool)


def mask_of_true(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return where a column of truth values is true, bool; what is missing is not."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return numeric(pa.chunked_array(chunks, pa.bool_()), np.int8) == 1


def view(chunk: pa.Array) -> np.ndarray | None:
    """Return the numbers of an array without nulls where they lie, not to be written to; None: they are no such."""
    kind, types = chunk.type, pa.types
    if chunk.null_count or not (types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)):
        return None
    values = np.frombuffer(chunk.buffers()[1], kind.to_pandas_dtype())
    return values[chunk.offset : chunk.offset + len(chunk)]


def numeric(column: pa.ChunkedArray, kind: type = np.float64) -> np.ndarray:
    """Return numbers or booleans as one NumPy array of a kind; of floats NaN is what is missing, of others -1.

    Where Arrow has just this array it is returned as it is, and cannot be written to.
    """
    seen = view(column.chunk(0)) if column.num_chunks == 1 else None
    if seen is not None and seen.dtype == kind:
        return seen
    found: np.ndarray = np.empty(len(column), kind)
    start = 0
    for chunk in column.chunks:
        part = found[start : start + len(chunk)]
        start += len(chunk)
        if not len(chunk):
            continue
        if pa.types.is_boolean(chunk.type):
            chunk = chunk.cast(pa.uint8())
        elif pa.types.is_decimal(chunk.type) or pa.types.is_float16(chunk.type):
            chunk = chunk.cast(pa.float64())
        values = np.frombuffer(chunk.buffers()[1], chunk.type.to_pandas_dtype())
        part[:] = values[chunk.offset : chunk.offset + len(chunk)]
        if chunk.null_count:
            part[~mask_of(chunk)] = np.nan if np.issubdtype(kind, np.floating) else -1
    return found


def holds(values: np.ndarray) -> bool:
    """Return whether single precision can hold numbers: none becomes infinite."""
    ends = np.fmin.reduce(values, initial=0.0), np.fmax.reduce(values, initial=0.0)  # whatever is missing
    return not any(np.finfo(np.float32).max < abs(end) < np.inf for end in ends)


def distinct(column: pa.ChunkedArray, kind: type = np.int64) -> tuple[np.ndarray, pa.Array]:
    """Return codes of cells, -1 where one is null, and the distinct ones in the order in which they occur."""
    coded = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
    if not coded.num_chunks:
        return np.zeros(0, kind), strings(())
    coded = coded.unify_dictionaries()
    codes = pa.chunked_array([each.indices for each in coded.chunks])
    return numeric(codes, kind), coded.chunk(0).dictionary


def bits(seen: np.ndarray) -> pa.Buffer:
    """Return booleans as Arrow packs them."""
    return pa.py_buffer(np.packbits(seen, bitorder="little").tobytes())


def column_of(values: np.ndarray, gone: np.ndarray | None = None) -> pa.ChunkedArray:
    """Return an array with one axis as a column: NaN and NaT are null, and so is what ``gone`` says.

    Args:
        values: Numbers of a width that Arrow has, booleans, text, or times in D, s, ms, us or ns.
        gone: Where cells are missing, bool.
    """
    kind = values.dtype
    if kind.kind in "fM":
        empty = np.isnat(values) if kind.kind == "M" else np.isnan(values)
        gone = empty if gone is None else gone | empty
    nulls = int(gone.sum()) if gone is not None else 0
    valid = bits(~gone) if gone is not None and nulls else None
    if kind.kind in "UO":
        found = strings(values.tolist())
        found = pa.Array.from_buffers(pa.string(), len(values), [valid, *found.buffers()[1:]], nulls)
    elif kind.kind == "b":
        found = pa.Array.from_buffers(pa.bool_(), len(values), [valid, bits(values)], nulls)
    else:
        width = values.astype("datetime64[D]").astype(np.int32) if kind == "datetime64[D]" else values
        stored = pa.date32() if kind == "datetime64[D]" else pa.from_numpy_dtype(kind)
        found = pa.Array.from_buffers(stored, len(values), [valid, pa.py_buffer(np.ascontiguousarray(width))], nulls)
    return pa.chunked_array([found])
