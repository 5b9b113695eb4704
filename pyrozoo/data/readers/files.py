"""Data from files: tables (CSV, TSV, NumPy .npy and .npz), surveys (CSV, TSV), triplets, ratings (also Parquet)."""

from __future__ import annotations

import csv
import itertools
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.container import labels
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.survey import MISSING, Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Repeated, Triplets

LONGEST_CELL = 2**31 - 1
"""Characters in a cell of a list of triplets; the csv module's own limit is short of some labels."""

RECORDS = 2**16
"""Records of a list of triplets held as Python objects at a time."""


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


def _delimiter(delimiter: str | None, ending: str) -> str:
    if delimiter is None:
        return "\t" if ending == ".tsv" else ","
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise SettingError(f"data.delimiter is {delimiter!r}; it must be one character, and no quote or line break")
    return delimiter


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_csv(
    path: Path, header: bool | None, columns: Sequence[str] | None, row_labels: str | None, delimiter: str
) -> Table:
    lines = _lines(path, delimiter)
    if header is None:
        asked = {str(name) for name in (*(columns or ()), *([row_labels] if row_labels is not None else ()))}
        named = {cell.strip() for cell in lines[0] if not _is_number(cell)}
        header = bool(asked & named) or not any(_is_number(cell) for cell in lines[0])
    cells = _cells(path, lines, header, columns, row_labels)
    values = np.empty((len(cells.rows), len(cells.columns)))
    for i, line in enumerate(cells.body):
        for j, column in enumerate(cells.chosen):
            cell = line[column].strip()
            try:
                values[i, j] = np.nan if cell.lower() in MISSING else _number(cell)
            except ValueError:
                raise DataError(
                    f"{path.name}: row {cells.rows[i]!r}, column {cells.columns[j]!r}: {cell!r} is not a number"
                    + (" (is it a column of labels? then set data.row_labels, or choose data.columns)"
                       if row_labels is None else "")
                ) from None  # fmt: skip
    return Table(torch.as_tensor(values), cells.rows, cells.columns, path.name).checked()


def read_survey(
    path: str | Path,
    *,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    row_labels: str | None = None,
    delimiter: str | None = None,
) -> Survey:
    """Read a survey from a CSV or TSV file: each cell is the name of a category, as it is spelled there.

    CSV is UTF-8 with or without a byte order mark. Cells in ``MISSING`` are missing answers.

    Args:
        path: The file.
        header: Whether the first line names the columns; None: it does, since names and categories look alike.
        columns: The columns to use, in this order (names, or positions as numbers); None takes all.
        row_labels: The column that names the rows; it is not data.
        delimiter: Between cells; None means a comma, or a tab for .tsv.

    Returns:
        The survey, checked.

    Raises:
        DataError: Missing or unreadable file, no such column, ragged or truncated lines, too many categories.
        SettingError: One column asked for twice, or a delimiter that cannot be one.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"data.path: there is no file {path}")
    lines = _lines(path, _delimiter(delimiter, path.suffix.lower()))
    hint = " (if the first line does not name the columns, set data.header=false)" if header is None else ""
    cells = _cells(path, lines, header is not False, columns, row_labels, hint)
    answers = {j: [line[column] for line in cells.body] for j, column in enumerate(cells.chosen)}
    frame = pd.DataFrame(answers, index=list(cells.rows), dtype=object)
    return Survey.of(frame.set_axis(list(cells.columns), axis=1), path.name)


@dataclass(frozen=True)
class _Cells:
    """The records of a CSV file: all of their cells, what the rows and the chosen columns are called, and where."""

    body: Sequence[Sequence[str]]
    rows: Sequence[str]
    columns: Sequence[str]
    chosen: Sequence[int]


def _lines(path: Path, delimiter: str) -> list[list[str]]:
    """Return the cells of every line that is not blank, at least one line."""
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
    return [line or [""] for line in lines] if len(lines[0]) == 1 else [line for line in lines if line]


def _cells(
    path: Path,
    lines: Sequence[Sequence[str]],
    header: bool,
    columns: Sequence[str] | None,
    row_labels: str | None,
    hint: str = "",
) -> _Cells:
    """Tell names from records, and choose columns.

    Args:
        path: The file, for messages.
        lines: What ``_lines`` returns.
        header: Whether the first line names the columns.
        columns: Those to use; None: all but that of ``row_labels``.
        row_labels: The column that names the rows.
        hint: What to add when a name appears twice.

    Raises:
        DataError: No such column, ragged lines, or two columns of one name.
        SettingError: One column asked for twice.
    """
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
            raise DataError(f"{path.name}: column name {name!r} appears twice{hint}")
    index = [_position(row_labels, names, path.name)] if row_labels is not None else []
    chosen = [_position(c, names, path.name) for c in columns or [n for i, n in enumerate(names) if i not in index]]
    for position in chosen:
        if chosen.count(position) > 1:
            raise SettingError(f"data.columns asks for column {names[position]!r} twice")
    rows = [line[index[0]].strip() for line in body] if index else labels("row", len(body))
    return _Cells(body, rows, [names[c] for c in chosen], chosen)


def read_triplets(
    path: str | Path,
    *,
    row: str | None = None,
    column: str | None = None,
    value: str | None = None,
    row_label: str | None = None,
    column_label: str | None = None,
    repeated: Repeated = "sum",
    delimiter: str | None = None,
    unknown: float | None = None,
    container: type[Triplets] = Triplets,
) -> Any:
    """Read a file with one line per row, column and value; pairs that it does not list are zeros.

    CSV is UTF-8 with or without a byte order mark, and its first line names the columns; files that end in .parquet are
    Parquet. A value in ``MISSING`` says that the pair is unobserved. Where ``row_label`` or ``column_label`` spell one
    row or column in several ways, the spelling with the largest sum of values is used.

    Args:
        path: The file.
        row: The column that tells rows apart; None: the first.
        column: The column that tells columns apart; None: the second.
        value: The column with the numbers; None: the third.
        row_label: The column with labels of rows; None: ``row`` itself.
        column_label: The same for columns.
        repeated: Whether values of a repeated pair are summed or averaged, or the file refused.
        delimiter: Between cells of a CSV file; None means a comma, or a tab for .tsv.
        unknown: A number in the place of a value that says that there is none: such lines are left out; None: there is
            no such number.
        container: What to make: triplets, or ratings, of which pairs that the file does not list are unknown.

    Returns:
        The triplets, checked.

    Raises:
        DataError: Missing or unreadable file, no such column, a value that is not a number, a repeated pair.
        SettingError: One column asked for twice, or a delimiter that cannot be one.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"data.path: there is no file {path}")
    ending = path.suffix.lower()
    if ending == ".parquet":
        if delimiter is not None:
            raise SettingError("data.delimiter has no meaning for a .parquet file")
        frame = _read_parquet(path)
    else:
        frame = read_frame(path, _delimiter(delimiter, ending))
    names = [str(name) for name in frame.columns]
    if len(names) < 3:
        raise DataError(f"{path.name} has {len(names)} columns; row, column and value take three")
    chosen = [
        _position(name, names, path.name) if name is not None else default
        for default, name in enumerate((row, column, value))
    ]
    if len(set(chosen)) < 3:
        raise SettingError("data.row, data.column and data.value must be three different columns")
    first, second, third = (frame.iloc[:, position] for position in chosen)
    values = numbers(third, path.name, names[chosen[2]], first=1 if ending == ".parquet" else 2)
    spelled = {}
    for which, key, label in (("row_labels", first, row_label), ("column_labels", second, column_label)):
        if label is not None:
            spelled[which] = most_used(key, frame.iloc[:, _position(label, names, path.name)], values)
    left_out = np.zeros(len(values), dtype=bool) if unknown is None else values == unknown
    made = container.of_columns(
        first[~left_out], second[~left_out], values[~left_out], name=path.name, repeated=repeated, **spelled
    )
    if not left_out.any():
        return made
    return replace(
        made, notes=(*made.notes, f"{int(left_out.sum())} lines have the value {unknown:.10g}, which is none")
    )


def read_ratings(
    path: str | Path,
    *,
    row: str | None = None,
    column: str | None = None,
    value: str | None = None,
    row_label: str | None = None,
    column_label: str | None = None,
    repeated: Repeated = "refuse",
    delimiter: str | None = None,
    unknown: float | None = None,
) -> Ratings:
    """Read a file with one line per row, column and rating, as ``read_triplets`` does; other pairs are unknown.

    Args:
        path: The file.
        row: See ``read_triplets``, as for all of these.
        column: See there.
        value: See there.
        row_label: See there.
        column_label: See there.
        repeated: See there.
        delimiter: See there.
        unknown: A number that stands for no rating, such as 99; None: there is none.
    """
    return read_triplets(
        path, row=row, column=column, value=value, row_label=row_label, column_label=column_label, repeated=repeated,
        delimiter=delimiter, unknown=unknown, container=Ratings,
    )  # fmt: skip


def read_frame(path: Path, delimiter: str = ",") -> pd.DataFrame:
    """Read a CSV file as text, cell by cell, under the names in its first line; no cell is taken for a missing value.

    Raises:
        DataError: The file is empty, not UTF-8, has lines with too few or too many cells, or two columns of one name.
    """
    parts: list[pd.DataFrame] = []
    names: list[str] = []
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            records = (record for record in csv.reader(file, delimiter=delimiter, strict=True) if record)
            names = [cell.strip() or f"column_{i}" for i, cell in enumerate(next(records, []))]
            counted = itertools.count(2)
            while chunk := list(itertools.islice(records, RECORDS)):
                for record in chunk:
                    number = next(counted)
                    if len(record) != len(names):
                        raise DataError(
                            f"{path.name}: record {number} has {len(record)} cells where {len(names)} are expected "
                            "(a truncated file?)"
                        )
                parts.append(pd.DataFrame(chunk, columns=range(len(names)), dtype=str))
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text ({error.reason})") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path.name} is not a readable CSV file ({_first_line(error)})") from None
    finally:
        csv.field_size_limit(limit)
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path.name}: column name {name!r} appears twice")
    if not parts:
        raise DataError(f"{path.name}: the list is empty")
    return pd.concat(parts, ignore_index=True).set_axis(names, axis=1)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except ImportError:
        raise DataError(f"{path.name}: reading Parquet takes the package pyarrow (pip install pyarrow)") from None
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:  # what pyarrow's own errors are
        raise DataError(f"{path.name} is not a readable Parquet file ({_first_line(error)})") from None


def numbers(column: pd.Series, name: str, what: str, first: int = 2) -> np.ndarray:
    """Return the numbers of a column, NaN where a cell says that it is missing.

    Args:
        column: Numbers or text.
        name: The file, for the message.
        what: The column, for the message.
        first: Which record of the file the column's first cell is in.

    Raises:
        DataError: A cell is not a number.
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes, found = pd.factorize(column.astype(object).where(column.notna(), "").astype(str))
    values = np.empty(len(found))
    for i, cell in enumerate(found):
        cell = cell.strip()
        try:
            values[i] = np.nan if cell.lower() in MISSING else _number(cell)
        except ValueError:  # cells are numbered as they first occur
            at = int((codes == i).argmax())
            raise DataError(f"{name}: record {at + first}, column {what!r}: {cell!r} is not a number") from None
    return values[codes]


def most_used(keys: pd.Series, spellings: pd.Series, values: np.ndarray) -> dict[str, str]:
    """Return key -> the spelling of it with the largest sum of values, all as text; blank spellings do not count."""
    frame = pd.DataFrame({"key": keys.astype(object), "label": spellings.astype(object)}).assign(
        value=np.nan_to_num(values)
    )
    frame = frame.dropna().astype({"key": str, "label": str})
    frame = frame[frame["label"].str.strip() != ""]
    sums = frame.groupby(["key", "label"], sort=False)["value"].sum().reset_index()
    best = sums.loc[sums.groupby("key", sort=False)["value"].idxmax()]
    return dict(zip(best["key"], best["label"], strict=True))


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
    if str(name).isdecimal() and int(name) < len(names):
        return int(name)
    raise DataError(f"{where} has no column {str(name)!r}; it has {' '.join(', '.join(names[:20]).split())}")


def _select(table: Table, columns: Sequence[str]) -> Table:
    chosen = [_position(c, list(table.column_labels), table.name) for c in columns]
    return Table(
        table.values[:, chosen], table.row_labels, [table.column_labels[c] for c in chosen], table.name
    ).checked()
