"""Tables from files: CSV, TSV, NumPy .npy and .npz."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pyrozoo.data.table import Table, labels
from pyrozoo.types import DataError, SettingError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "."})
"""Spellings (in lower case) of a missing cell in CSV files."""


def read_table(
    path: str | Path,
    *,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    row_labels: str | None = None,
    delimiter: str | None = None,
    key: str | None = None,
) -> Table:
    """Read a table from a file, by its ending: .npy, .npz, .tsv, and otherwise CSV.

    CSV is UTF-8 with or without a byte order mark. The first line is a header when not one of its cells is a number
    (an empty cell is allowed in a header), or when it holds a name asked for in ``columns`` or ``row_labels``;
    ``header`` says so outright. Cells in ``MISSING`` are missing values.

    Args:
        path: The file.
        header: Whether the first line names the columns; None detects it.
        columns: The columns to use, in this order (names, or positions as numbers); None takes all.
        row_labels: The column that names the rows; it is not data.
        delimiter: Between cells; None means a comma, or a tab for .tsv.
        key: The array to take from an .npz file with several.

    Returns:
        The table, checked.

    Raises:
        DataError: Missing or unreadable file, no such column, ragged or truncated lines, a cell that is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"data.path: there is no file {path}")
    ending = path.suffix.lower()
    if ending in (".npy", ".npz"):
        given = {"header": header, "row_labels": row_labels, "delimiter": delimiter}
        for name, value in given.items():
            if value is not None:
                raise SettingError(f"data.{name} has no meaning for a {ending} file")
        table = Table.of(read_numpy(path, key), path.name)
        return _select(table, columns) if columns else table
    if key is not None:
        raise SettingError(f"data.key has no meaning for a {ending or 'CSV'} file")
    delimiter = delimiter or ("\t" if ending == ".tsv" else ",")
    return _read_csv(path, header, columns, row_labels, delimiter)


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
        raise DataError(f"{path.name} is not a readable NumPy file ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_csv(
    path: Path, header: bool | None, columns: Sequence[str] | None, row_labels: str | None, delimiter: str
) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, delimiter=delimiter, strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text (byte {error.start} cannot be read)") from None
    except (csv.Error, TypeError) as error:
        raise DataError(f"{path.name} is not a readable CSV file ({_first_line(error)})") from None
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path.name}: the table is empty")
    # In a table of one column a blank line is a missing value; in any other it is nothing.
    lines = [line or [""] for line in lines] if len(lines[0]) == 1 else [line for line in lines if line]
    if header is None:
        asked = {str(name) for name in (*(columns or ()), *([row_labels] if row_labels is not None else ()))}
        named = {cell.strip() for cell in lines[0] if not _is_number(cell)}
        header = bool(asked & named) or not any(_is_number(cell) for cell in lines[0])
    names = [cell.strip() or f"column_{i}" for i, cell in enumerate(lines[0])]
    if not header:
        names = labels("column", len(lines[0]))
    body = lines[1:] if header else lines
    for number, line in enumerate(body, start=2 if header else 1):
        if len(line) != len(names):
            raise DataError(
                f"{path.name}: record {number} has {len(line)} cells where {len(names)} are expected "
                "(a truncated file?)"
            )
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path.name}: column name {name!r} appears twice")
    index = [_position(row_labels, names, path.name)] if row_labels is not None else []
    chosen = [_position(c, names, path.name) for c in columns or [n for i, n in enumerate(names) if i not in index]]
    for position in chosen:
        if chosen.count(position) > 1:
            raise SettingError(f"data.columns asks for column {names[position]!r} twice")
    rows = [line[index[0]].strip() for line in body] if index else labels("row", len(body))
    values = np.empty((len(body), len(chosen)))
    for i, line in enumerate(body):
        for j, column in enumerate(chosen):
            cell = line[column].strip()
            try:
                values[i, j] = np.nan if cell.lower() in MISSING else _number(cell)
            except ValueError:
                raise DataError(
                    f"{path.name}: row {rows[i]!r}, column {names[column]!r}: {cell!r} is not a number"
                    + ("" if index else " (is it a column of labels? then set data.row_labels, or choose data.columns)")
                ) from None
    return Table(torch.as_tensor(values), rows, [names[c] for c in chosen], path.name).checked()


def _number(cell: str) -> float:
    if "_" in cell:  # Python reads 1_000 as a number; nobody else does
        raise ValueError(cell)
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _position(name: str, names: list[str], where: str) -> int:
    if str(name) in names:
        return names.index(str(name))
    if str(name).isdigit() and int(name) < len(names):
        return int(name)
    raise DataError(f"{where} has no column {str(name)!r}; it has {', '.join(names[:20])}")


def _select(table: Table, columns: Sequence[str]) -> Table:
    chosen = [_position(c, list(table.column_labels), table.name) for c in columns]
    return Table(
        table.values[:, chosen], table.row_labels, [table.column_labels[c] for c in chosen], table.name
    ).checked()
