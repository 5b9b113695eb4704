"""Arrow's arrays and NumPy's without pandas, which Arrow's own ways import: it takes half a second that a mistake has not."""

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


def numeric(column: pa.ChunkedArray, kind: type = np.float64) -> np.ndarray:
    """Return numbers or booleans as one NumPy array of a kind; of floats NaN is what is missing, of others -1."""
    found = np.empty(len(column), kind)
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


def distinct(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Return codes of cells, -1 where one is null, and the distinct ones in the order in which they occur."""
    coded = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
    if not coded.num_chunks:
        return np.zeros(0, np.int64), strings(())
    coded = coded.unify_dictionaries()
    codes = pa.chunked_array([each.indices for each in coded.chunks])
    return numeric(codes, np.int64), coded.chunk(0).dictionary
