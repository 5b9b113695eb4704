"""Arrays from files: NumPy's .npy and .npz, and IDX, as MNIST comes in."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from pyrozoo.core.errors import DataError, first_line
from pyrozoo.data.readers.delimited import existing

NUMPY = (".npy", ".npz")


def read_numpy(path: Path, key: str | None) -> np.ndarray:
    """Return the array of an .npy file, or the one named ``key`` (which may be left out when there is one) of an .npz.

    Raises:
        DataError: The file is unreadable, or has no such array.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if not loaded.files:
                raise DataError(f"{path.name} holds no array")
            if key is None and len(loaded.files) > 1:
                raise DataError(f"{path.name} holds several arrays; set data.key to one of {', '.join(loaded.files)}")
            if key is not None and key not in loaded.files:
                raise DataError(f"{path.name} holds no array {key!r}; it has {', '.join(loaded.files)}")
            return loaded[key or loaded.files[0]]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path.name} is not a readable NumPy file ({first_line(error)})") from None


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
