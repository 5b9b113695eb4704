"""Arrays and matrices from files: NumPy's .npy and .npz, SciPy's sparse .npz, MatrixMarket, and IDX, as MNIST comes."""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from pyrozoo.core.errors import DataError
from pyrozoo.data.readers.arrow import column_of
from pyrozoo.data.readers.blocks import split
from pyrozoo.data.readers.guard import readable, usable
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw, existing

NUMPY = (".npy", ".npz")

SPARSE = {"indices", "indptr", "data", "format", "shape"}
"""Arrays of an .npz file that ``scipy.sparse.save_npz`` wrote; its lists of coordinates have row and col instead."""


NUMBER = rb"[+-]?(?>[0-9]++\.?[0-9]*+|\.[0-9]++|inf(?:inity)?|nan)(?:e[+-]?[0-9]++)?"
"""A number of a MatrixMarket file."""


def read_numpy(path: Path, key: str | int | None) -> np.ndarray:
    """Return the array of an .npy file, or the one named ``key`` (which may be left out when there is one) of an .npz.

    Raises:
        DataError: The file is unreadable, or has no such array.
    """
    with readable(path.name, "NumPy file"):
        try:
            loaded = np.load(path, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return _possible(loaded, path.name)
            with loaded:
                return _possible(np.asarray(loaded[_chosen(path.name, loaded.files, key)]), path.name)
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise DataError(
                    f"{path.name} holds Python objects, which are not read; in Python, save numbers or text: "
                    "numpy.save(FILE, array.astype(float))"
                ) from None
            raise


def _possible(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array, unless it holds nothing and states billions: what is made of it would have them."""
    if not array.nbytes and max(array.shape, default=0) > 1_000_000:
        raise DataError(f"{name}: the array is empty (shape {array.shape})")
    return array


def _chosen(where: str, names: list[str], key: str | int | None) -> str:
    if not names:
        raise DataError(f"{where} holds no array")
    if key is None and len(names) > 1:
        raise DataError(f"{where} holds several arrays; set data.key to one of {', '.join(names)}")
    if key is None or str(key) in names:
        return names[0] if key is None else str(key)
    if str(key).isdecimal() and int(key) < len(names):
        return names[int(key)]
    raise DataError(f"{where} holds no array {key!r}; it has {', '.join(names)}")


def numpy_raw(path: Path, layout: Layout) -> Raw:
    """Read an .npy or .npz file; one that ``scipy.sparse.save_npz`` wrote is a sparse matrix.

    Raises:
        DataError: Not readable, no such array, or not one with two axes.
    """
    if path.suffix.lower() == ".npz" or _is_zip(path):
        with readable(path.name, "NumPy file"), np.load(path, allow_pickle=False) as loaded:
            names = set(loaded.files)
            found = names >= SPARSE or names >= {"row", "col", "data", "format", "shape"}
        if found and layout.key is None:
            from scipy.sparse import load_npz

            with readable(path.name, "SciPy matrix"):
                matrix = load_npz(path)
            return sparse_raw(matrix, path.name)
    return array_raw(read_numpy(path, layout.key), path.name, layout)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def matrix_raw(path: Path, layout: Layout, opened: Callable[[], BinaryIO] | None = None) -> Raw:
    """Read a MatrixMarket file: coordinates are a list, whose rows and columns count from 0; or a full array.

    Raises:
        DataError: Not readable.
    """
    from scipy.io import mmread

    with readable(path.name, "MatrixMarket file"), opened() if opened else path.open("rb") as file:
        content = file.read()
        _check_lines(content, path.name)
        matrix = mmread(io.BytesIO(content))
    if isinstance(matrix, np.ndarray):
        return array_raw(matrix, path.name, layout, format="MatrixMarket")
    return sparse_raw(matrix, path.name, format="MatrixMarket")


def _check_lines(content: bytes, where: str) -> None:
    """Refuse a line that is malformed: SciPy's reader takes 1,5 as 1, and a damaged file can end the process."""
    banner, _, body = content.partition(b"\n")
    words = banner.decode("latin-1").lower().split()
    fields = 1 if "array" in words else {"pattern": 2, "complex": 4}.get(words[3] if len(words) > 3 else "", 3)
    start = re.match(rb"(?:[ \t]*+(?:%[^\n]*+)?\r?\n)*+", body)
    begin = body.find(b"\n", start.end() if start else 0) + 1  # after the line of sizes
    _check_sizes(body[start.end() if start else 0 : begin or len(body)], words, body.count(b"\n", begin) + 1, where)
    line = NUMBER + rb"(?:[ \t]++" + NUMBER + rb"){%d}" % (fields - 1)
    found = re.compile(rb"(?>[ \t]*+(?:" + line + rb")?+[ \t]*+(?:\r?\n|\Z))*+", re.I).match(body, begin)
    end = found.end() if found else begin
    if begin and end < len(body):
        number = body.count(b"\n", 0, end) + 2
        text = body[end : end + 60].split(b"\n")[0].decode("latin-1")
        raise DataError(f"{where}: line {number} is {text!r}; {fields} numbers are expected there")


def _check_sizes(line: bytes, words: list[str], lines: int, where: str) -> None:
    """Refuse sizes that the file's lines cannot hold: SciPy would take memory for all, or never come to an end."""
    said = line.decode("latin-1").split()
    sizes = [int(each) if each.isdecimal() and len(each) < 20 else -1 for each in said]
    wanted = 2 if "array" in words else 3
    if len(sizes) != wanted or min(sizes) < 0:
        raise DataError(f"{where}: the line of sizes is {' '.join(said)[:60]!r}; {wanted} whole numbers are expected")
    rows, columns = sizes[:2]
    if not (rows and columns):  # by which SciPy would divide
        raise DataError(f"{where}: the matrix is empty ({rows} x {columns})")
    symmetric = bool({"symmetric", "hermitian", "skew-symmetric"} & {*words})
    if symmetric and rows != columns:
        raise DataError(f"{where} is no square matrix ({rows} x {columns}), and cannot be {words[-1]}")
    count = sizes[2] if wanted == 3 else rows * columns
    least = (count - rows) // 2 if symmetric and wanted == 2 else count  # a half, perhaps without its diagonal
    if least > lines:
        raise DataError(f"{where} states {count} entries, more than its {lines} lines can hold")


def idx_raw(path: Path, layout: Layout) -> Raw:
    """Read an IDX file as a table: of images, each pixel is a column.

    Raises:
        DataError: As ``read_idx``.
    """
    array = read_idx(path)
    notes: tuple[str, ...] = ()
    if array.ndim > 2:
        sizes = " x ".join(map(str, array.shape[1:]))
        notes = (f"{path.name} has {sizes} values for each row: {math.prod(array.shape[1:])} columns",)
    flat = array.reshape(len(array), -1) if array.size else array.reshape(len(array), math.prod(array.shape[1:]))
    return array_raw(flat, path.name, layout, format="IDX", notes=notes)


def array_raw(
    array: np.ndarray, name: str, layout: Layout, *, format: str = "NumPy", notes: tuple[str, ...] = ()
) -> Raw:  # fmt: skip
    """Return the columns of an array with two axes, or the fields of a structured array.

    Raises:
        DataError: Other axes, or values that are neither numbers, text, booleans nor times.
    """
    if array.dtype.names is not None:
        if array.ndim != 1:
            raise DataError(f"{name}: a structured array must have one axis, not shape {array.shape}")
        names = list(array.dtype.names)
        columns, problems = usable([_column(array[each], f"{name}: {each}") for each in names], names, layout)
        return Raw(
            name, format, columns, names=names, first=1, unit="row", notes=notes, problems=problems,
            stated=frozenset({"key"}),
        )  # fmt: skip
    if array.ndim != 2:
        raise DataError(f"{name}: the array must have two axes (rows, columns), not shape {array.shape}")
    for axis, what in enumerate(("row", "column")):
        if array.shape[axis] == 0:  # and perhaps billions of the other
            raise DataError(f"{name}: the array has no {what} (shape {array.shape}): it is empty")
    gone = np.ma.getmaskarray(array).T if isinstance(array, np.ma.MaskedArray) else None
    across, columns = np.ascontiguousarray(np.ma.getdata(array).T), list[pa.ChunkedArray]()
    for part in split(range(len(across)), len(array)):
        cells = across[part[0] : part[-1] + 1]
        whole = _column(cells.ravel(), name, None if gone is None else gone[part[0] : part[-1] + 1].ravel()).chunk(0)
        columns += [pa.chunked_array([whole.slice(at, len(array))]) for at in range(0, cells.size, len(array))]
    columns, problems = usable(columns, [f"column_{j}" for j in range(len(columns))], layout)
    return Raw(
        name, format, columns, headless=True, first=0, unit="row", notes=notes, problems=problems,
        stated=frozenset({"key"}),
    )  # fmt: skip


def _column(values: np.ndarray, where: str, gone: np.ndarray | None = None) -> pa.ChunkedArray:
    kind = values.dtype
    if values.ndim != 1 or kind.kind in "cVO":
        what = {"c": "complex numbers", "O": "Python objects"}.get(kind.kind, f"values of type {kind}")
        raise DataError(f"{where}: the array holds {what}; it must hold numbers, text, booleans or times")
    if kind.kind == "S":
        values = np.char.decode(values, "latin-1")
    elif kind.kind == "f" and kind.itemsize not in (4, 8):
        values = values.astype(np.float32 if kind.itemsize == 2 else np.float64)
    elif kind.kind == "M" and np.datetime_data(kind)[0] not in ("D", "s", "ms", "us", "ns"):
        values = values.astype("datetime64[D]" if np.datetime_data(kind)[0] in "YMW" else "datetime64[s]")
    if kind.kind == "U" and kind.itemsize:
        letters = np.ascontiguousarray(values).view(np.dtype("u4").newbyteorder(kind.byteorder))
        bad = (letters > 0x10FFFF) | ((letters >= 0xD800) & (letters < 0xE000))
        if bad.any():  # no letters
            values = np.where(bad, letters.dtype.type(0xFFFD), letters).astype(letters.dtype).view(kind)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if kind.kind == "m":
        return pa.chunked_array([pa.nulls(len(values), pa.duration("s"))])  # refused by its column
    return column_of(values, gone if gone is not None and gone.any() else None)


def sparse_raw(matrix: Any, name: str, *, format: str = "SciPy") -> Raw:
    """Return a sparse matrix (or sparse array) of SciPy as a list; what it lists twice is summed, as SciPy does.

    Raises:
        DataError: Not two axes, or values that are no real numbers.
    """
    if matrix.ndim != 2:
        raise DataError(f"{name}: the matrix must have two axes (rows, columns), not shape {matrix.shape}")
    if matrix.dtype.kind not in "biuf":
        raise DataError(f"{name}: the matrix holds values of type {matrix.dtype}; it must hold real numbers")
    _check_matrix(matrix, name)
    listed = matrix.tocoo(copy=True)
    listed.sum_duplicates()
    row, column = (np.asarray(each, np.int64) for each in (listed.row, listed.col))
    return Raw(
        name, format, [column_of(row), column_of(column), _column(listed.data, name)], names=("row", "column", "value"),
        shape=(int(matrix.shape[0]), int(matrix.shape[1])), first=0, unit="entry", facts={"layout": "list"},
    )  # fmt: skip


MOST_EMPTY = 1000
"""Rows and columns for each entry of a sparse matrix, beyond a million of them: more are a header that is not true."""


def _check_matrix(matrix: Any, name: str) -> None:
    """Refuse a sparse matrix whose indices are not within it: SciPy's compiled code would write beyond its memory."""
    if sum(matrix.shape) > 1_000_000 + MOST_EMPTY * matrix.nnz:
        raise DataError(f"{name}: the matrix has {matrix.nnz} entries, and states {' x '.join(map(str, matrix.shape))}")
    with readable(name, "sparse matrix"):
        if hasattr(matrix, "indptr"):
            if len(matrix.indptr) and (matrix.indptr[0] != 0 or (np.diff(matrix.indptr) < 0).any()):
                raise ValueError("its rows do not follow each other")  # SciPy looks only where the last says something
            matrix.check_format(full_check=True)
        elif hasattr(matrix, "offsets"):
            if matrix.data.ndim != 2 or len(matrix.offsets) != len(matrix.data):
                raise ValueError("its diagonals and their offsets differ in number")
        else:
            for axis, index in enumerate(matrix.coords):
                if len(index) and not 0 <= int(index.min()) <= int(index.max()) < matrix.shape[axis]:
                    raise ValueError("an index is not within the matrix")


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, as MNIST comes in, plain or compressed with gzip.

    The format: two zero bytes, the type (8: unsigned byte), the number of axes, then the axes' lengths as big-endian
    32-bit integers, then the values, last axis fastest (http://yann.lecun.com/exdb/mnist/).

    Returns:
        The values, uint8, in the shape that the header states.

    Raises:
        DataError: No such file, not IDX, not of unsigned bytes, or another length than the header states.
    """
    path = existing(path)
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path.name} is not a readable gzip file, perhaps cut short ({error})") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[3] == 0:
        raise DataError(f"{path.name} is not an IDX file")
    if content[2] != 8:
        raise DataError(f"{path.name} is an IDX file of type {content[2]}; only unsigned bytes (type 8) are read")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{path.name} is truncated: its header is incomplete")
    shape = [int(length) for length in np.frombuffer(content[4:start], ">u4")]
    expected, found = math.prod(shape), len(content) - start
    if found != expected:
        about = "is truncated" if found < expected else "is longer than it should be"
        raise DataError(f"{path.name} {about}: {found} bytes of values where its header states {expected}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
