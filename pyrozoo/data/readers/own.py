"""A file of new rows as its reader's own table: all of its columns, each cell as it is spelled there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pyrozoo.core.errors import DataError, first_line
from pyrozoo.data.container import labels, refuse_twice
from pyrozoo.data.readers.arrays import NUMPY, read_numpy
from pyrozoo.data.readers.delimited import (
    complete,
    existing,
    header_of,
    is_number,
    lines_of,
    position,
    separator,
)

UNNAMED = {"Unnamed: 0", "__index_level_0__"}
"""What a first column without a name is called."""

WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")


def read_own(
    path: str | Path, known: Collection[str], settings: Mapping[str, Any], *, words: bool = False
) -> pd.DataFrame:  # fmt: skip
    """Read a file of new rows: CSV, TSV, .xlsx, Parquet, .npy or .npz.

    Args:
        path: The file.
        known: Names of columns, of which a header holds some.
        settings: Of the file that was fitted: header, row_labels, delimiter, key.
        words: Whether cells are words, so that a first line of words need not be a header.

    Returns:
        Its cells under the names of its columns; the column of row labels, if any, is the index.

    Raises:
        DataError: There is no such file, or it cannot be read.
    """
    path = existing(path)
    ending, key = path.suffix.lower(), settings.get("row_labels")
    try:
        if ending in NUMPY:
            array = read_numpy(path, settings.get("key"))
            if array.ndim != 2:
                raise DataError(f"{path.name}: the array must have two axes (rows, columns), not shape {array.shape}")
            return pd.DataFrame(array)
        if ending == ".xlsx":
            frame = pd.read_excel(path, dtype=object, engine="openpyxl")
        elif ending == ".parquet":
            frame = pd.read_parquet(path, engine="pyarrow")
        else:
            frame = _delimited(path, separator(settings.get("delimiter"), ending), known, settings, words)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise DataError(f"{path.name} is not a readable {ending or 'CSV'} file ({first_line(error)})") from None
    refuse_twice(list(map(str, frame.columns)), path.name)
    if key is None and len(frame.columns) and str(frame.columns[0]) in UNNAMED - {*known}:
        return frame.set_index(frame.columns[0]).rename_axis(None)  # labels, as pandas and R write them
    if key is None or str(key) not in map(str, frame.columns):
        return frame
    return frame.set_index(frame.columns[position(str(key), list(map(str, frame.columns)), path.name)])


def _delimited(
    path: Path, delimiter: str, known: Collection[str], settings: Mapping[str, Any], words: bool
) -> pd.DataFrame:  # fmt: skip
    lines = lines_of(path, delimiter)
    cells, header = [cell.strip() for cell in lines[0]], settings.get("header")
    if header is None:
        asked = {str(settings[name]) for name in ("row_labels", "row", "column", "value") if settings.get(name)}
        header = bool({*known, *asked} & {*cells}) or not (words or any(map(is_number, cells)))
    names = (
        header_of(["Unnamed: 0" if not cells[0] else cells[0], *cells[1:]]) if header else labels("column", len(cells))
    )
    body = list(complete(lines[header:], len(names), path.name, first=1 + header))
    refuse_twice(names, path.name)
    frame = pd.DataFrame(body, columns=range(len(names)), dtype=object)
    return frame.apply(lambda column: _plain(column.str.strip())).set_axis(names, axis=1)


def _plain(column: pd.Series) -> pd.Series:
    """Return a column of text as whole numbers where all of it is, so that a table of them stays one."""
    if len(column) and column.map(lambda cell: WHOLE.fullmatch(cell) is not None and len(cell) < 16).all():
        return column.astype("int64")
    return column
