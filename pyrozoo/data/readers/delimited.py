"""Delimited text, CSV and TSV: its records, the names in its first line, and the columns that were asked for.

Text is UTF-8 with or without a byte order mark. Cells in ``MISSING`` are missing values.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyrozoo.core.errors import DataError, SettingError, first_line
from pyrozoo.data.container import labels, refuse_twice
from pyrozoo.data.survey import MISSING

LONGEST_CELL = 2**31 - 1
"""Characters in a cell; the csv module's own limit is short of some labels."""


def existing(path: str | Path) -> Path:
    """Return the path of a file, or raise DataError when there is none."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"data.path: there is no file {path}")
    return path


def separator(delimiter: str | None, ending: str) -> str:
    """Return what stands between cells: by default a comma, or a tab in .tsv.

    Raises:
        SettingError: It cannot be one.
    """
    if delimiter is None:
        return "\t" if ending == ".tsv" else ","
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise SettingError(f"data.delimiter is {delimiter!r}; it must be one character, and no quote or line break")
    return delimiter


def records(path: Path, delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of every record.

    Raises:
        DataError: The file cannot be read, or is no such text.
    """
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(file, delimiter=delimiter, strict=True)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text ({error.reason})") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path.name} is not a readable CSV file ({first_line(error)})") from None
    finally:
        csv.field_size_limit(limit)


def complete(found: Iterable[list[str]], width: int, where: str, first: int = 2) -> Iterator[list[str]]:
    """Yield records that have as many cells as expected; the first one has this number.

    Raises:
        DataError: One has more or fewer.
    """
    for number, record in enumerate(found, first):
        if len(record) != width:
            raise DataError(
                f"{where}: record {number} has {len(record)} cells where {width} are expected (a truncated file?)"
            )
        yield record


def header_of(record: Sequence[str]) -> list[str]:
    """Return the names in a first line; a column without one is called by its place."""
    return [cell.strip() or f"column_{i}" for i, cell in enumerate(record)]


def position(name: str, names: Sequence[str], where: str) -> int:
    """Return the place of a column that is asked for by its name, or by its place.

    Raises:
        DataError: There is no such column.
    """
    if str(name) in names:
        return names.index(str(name))
    if str(name).isdecimal() and int(name) < len(names):
        return int(name)
    raise DataError(f"{where} has no column {str(name)!r}; it has {' '.join(', '.join(names[:20]).split())}")


def number(cell: str) -> float:
    """Return the number that a cell spells, NaN where it says that it is missing.

    Raises:
        ValueError: It spells none.
    """
    return np.nan if cell.lower() in MISSING else _plain(cell)


def is_number(cell: str) -> bool:
    """Return whether a cell spells a number."""
    try:
        _plain(cell)
    except ValueError:
        return False
    return True


def _plain(cell: str) -> float:
    if "_" in cell:  # Python reads 1_000 as a number; nobody else does
        raise ValueError(cell)
    return float(cell)


def lines_of(path: Path, delimiter: str) -> list[list[str]]:
    """Return the records of a table, at least one, without blank lines.

    Raises:
        DataError: The file cannot be read, is no such text, or has no record.
    """
    lines = list(records(path, delimiter))
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path.name}: the table is empty")
    # In a table of one column a blank line is a missing value; in any other it is nothing.
    return [line or [""] for line in lines] if len(lines[0]) == 1 else [line for line in lines if line]


@dataclass(frozen=True)
class Sheet:
    """The records of a table: all of their cells, what the rows and the chosen columns are called, and where."""

    body: Sequence[Sequence[str]]
    rows: Sequence[str]
    columns: Sequence[str]
    chosen: Sequence[int]

    @classmethod
    def of(
        cls, lines: Sequence[list[str]], where: str, header: bool, columns: Sequence[str] | None,
        row_labels: str | None, hint: str = "",
    ) -> Sheet:  # fmt: skip
        """Tell names from records, and choose columns.

        Args:
            lines: What ``lines_of`` returns.
            where: The file, for messages.
            header: Whether the first line names the columns.
            columns: Those to use; None: all but that of ``row_labels``.
            row_labels: The column that names the rows.
            hint: What to add when a name appears twice.

        Raises:
            DataError: No such column, ragged lines, or two columns of one name.
            SettingError: One column asked for twice.
        """
        names = header_of(lines[0]) if header else labels("column", len(lines[0]))
        body = list(complete(lines[header:], len(names), where, first=1 + header))
        refuse_twice(names, where, hint)
        index = [position(row_labels, names, where)] if row_labels is not None else []
        chosen = [position(c, names, where) for c in columns or [n for i, n in enumerate(names) if i not in index]]
        for each in chosen:
            if chosen.count(each) > 1:
                raise SettingError(f"data.columns asks for column {names[each]!r} twice")
        rows = [line[index[0]].strip() for line in body] if index else labels("row", len(body))
        return cls(body, rows, [names[c] for c in chosen], chosen)
