"""Workbooks: Excel's .xlsx and .xlsm by openpyxl, and OpenDocument's .ods.

A sheet is held as the cells that it has: places and repetitions that a file states are no reason to take memory.
"""

from __future__ import annotations

import datetime
import re
import warnings
import zipfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from pyrozoo.core.errors import DataError
from pyrozoo.core.settings import suggestion
from pyrozoo.data.readers.guard import cells, check_packed, readable, shown, usable
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw
from pyrozoo.data.readers.words import listed

MOST_ROWS, MOST_COLUMNS = 2**20, 2**14
"""Of a sheet, as spreadsheet programs have them: a place beyond is damage."""

MOST_EMPTY = 5_000_000
"""Cells of a sheet that may be empty, or repeat others, but for one in a hundred."""

OFFICE, TABLE, TEXT = (f"{{urn:oasis:names:tc:opendocument:xmlns:{each}:1.0}}" for each in ("office", "table", "text"))

Cell = tuple[int, int, Any]
"""Row and column, from 0, and what stands there."""


@dataclass(frozen=True)
class Sheet:
    """The cells of a sheet that hold something, row by row.

    Attributes:
        rows: Of each cell its row, from 0.
        columns: Of each cell its column, from 0.
        values: What it holds.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, path: Path, name: str, given: Iterable[Cell]) -> Sheet:
        """Hold cells.

        Raises:
            DataError: They lie where none can be, or too far apart, or hold more text than the file can.
        """
        rows, columns, values, letters, last = array("q"), array("q"), list[Any](), 0, 0
        where = f"{path.name}: sheet {name!r}"
        for row, column, value in given:
            if not (last <= row < MOST_ROWS and 0 <= column < MOST_COLUMNS):
                after = f", after row {last + 1}" if row < last else ""
                raise DataError(f"{where} has a cell in row {row + 1}, column {column + 1}{after}: it is damaged")
            letters += len(value) if isinstance(value, str) else 0
            rows.append(last := row)
            columns.append(column)
            values.append(value)
        check_packed(path.name, letters, path.stat().st_size)  # one text of the file may stand in any number of cells
        found = cls(np.array(rows, np.int64), np.array(columns, np.int64), np.empty(len(values), object))
        found.values[:] = values
        place = np.sort(found.rows * MOST_COLUMNS + found.columns)
        if (again := place[1:] == place[:-1]).any():
            row, column = divmod(int(place[:-1][again][0]), MOST_COLUMNS)
            raise DataError(f"{where} has the cell {_letters(column)}{row + 1} twice: it is damaged")
        if values:
            _refuse_far(last + 1, int(found.columns.max()) + 1, len(values))
        return found


def _refuse_far(height: int, width: int, held: int) -> None:
    """Refuse a table of far more cells than are written."""
    if height * width > MOST_EMPTY and height * width > 100 * held:
        raise DataError(
            f"the sheet reaches to row {height} and column {width}, and has values in {held} cells: delete what "
            "stands far from the table"
        )


def _missing(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and (cell == "#N/A" or not cell.strip()))


# Excel ----------------------------------------------------------------------------------------------------------------


def read_workbook(path: Path, layout: Layout) -> Raw:
    """Read the table of a sheet, cells in their own types.

    The stored values of formulas are read. The cell ``#N/A`` is missing; other errors stay text.

    Args:
        path: The workbook.
        layout: ``key`` is the sheet, by its name or its place from 0; it may be left out where only one is not empty.

    Returns:
        The table; its first row stands apart: it may be a header.

    Raises:
        DataError: Not a readable workbook, several sheets without a key, no such sheet, or nothing in it.
    """
    with readable(path.name, "Excel workbook"), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # of styles and extensions that hold no cell
        sheets = {each.title: each for each in _book(file, path.name).worksheets}
        hidden = [name for name, each in sheets.items() if each.sheet_state != "visible"]

        def is_empty(name: str) -> bool:
            with _parsed(sheets[name], []) as parser:
                return not any(True for _ in _cells(parser, stored=True))

        name, notes = _chosen(path.name, [*sheets], hidden, layout.key, is_empty)
        formulas: list[str] = []
        with _parsed(sheets[name], formulas) as parser:
            sheet = Sheet.of(path, name, _cells(parser))
    if formulas:
        notes += (
            f"sheet {name!r}: formulas have no stored value ({listed(formulas)}) and are read as text; open the "
            "workbook in a spreadsheet program and save it",
        )
    if parser.merged_cells is not None and parser.merged_cells.mergeCell:
        notes += (f"sheet {name!r} has merged cells: of each, only the first holds the value",)
    return _raw(path.name, "Excel", name, sheet, notes, layout)


def _book(file: BinaryIO, where: str) -> Any:
    """Open a workbook of which no part is two sheets: any number of them would be small in a file."""
    from openpyxl.reader.excel import ExcelReader

    book = ExcelReader(file, read_only=True, data_only=True, keep_links=False)  # of a path it would judge the ending
    read = book.read_worksheets

    def checked() -> None:
        found = list(book.parser.find_sheets())
        for what in ([sheet.name for sheet, _ in found], [part.target for _, part in found]):
            if twice := [each for each, count in Counter(what).items() if count > 1]:
                raise DataError(f"{where}: two sheets are {twice[0]!r}: the workbook is damaged")
        read()

    book.read_worksheets = checked
    book.read()
    return book.wb


@contextmanager
def _parsed(sheet: Any, formulas: list[str]) -> Iterator[Any]:
    """Read a sheet of a workbook as it is written, without the cells that the library puts between those there are.

    Args:
        sheet: The sheet.
        formulas: Gets the places of formulas that have no stored value.
    """
    from openpyxl.worksheet._reader import FORMULA_TAG, WorkSheetParser

    book = sheet.parent
    with sheet._get_source() as source:
        parser = WorkSheetParser(
            source, sheet._shared_strings, data_only=True, epoch=book.epoch, date_formats=book._date_formats,
            timedelta_formats=book._timedelta_formats,
        )  # fmt: skip
        plain = parser.parse_cell

        def parse_cell(element: Any) -> dict[str, Any]:
            """Give a cell its formula where it has no stored value: missing is not what it means."""
            cell: dict[str, Any] = plain(element)
            if cell["value"] is None and cell["data_type"] != "str":  # one that is of type text may have stored nothing
                formula = element.find(FORMULA_TAG)
                if formula is not None:
                    cell |= {"value": f"={formula.text or ''}", "data_type": "f"}
                    formulas.append(f"{_letters(cell['column'] - 1)}{parser.row_counter}")
            return cell

        parser.parse_cell = parse_cell
        yield parser


def _cells(parser: Any, stored: bool = False) -> Iterator[Cell]:
    """Go through the cells that hold something, or only through those with a stored value."""
    for row, found in parser.parse():
        for cell in found:
            if not _missing(cell["value"]) and not (stored and cell["data_type"] == "f"):
                yield row - 1, cell["column"] - 1, cell["value"]


# OpenDocument ---------------------------------------------------------------------------------------------------------


@dataclass
class _Repeated:
    """What an OpenDocument sheet holds, as it is written: rows and cells stand once, with how often they are meant.

    Attributes:
        lines: Of rows that hold something: place, how often, and the same of their cells with what these hold.
        height: Rows.
        merged: Whether cells are merged.
    """

    lines: list[tuple[int, int, list[tuple[int, int, Any]]]]
    height: int = 0
    merged: bool = False

    def add(self, row: ElementTree.Element) -> None:
        """Add a row."""
        place, held = 0, []
        for cell in row:
            times = int(cell.get(f"{TABLE}number-columns-repeated", 1))
            if cell.tag == f"{TABLE}table-cell" and not _missing(value := _value(cell)):
                held.append((place, times, value))
                self.merged |= any(
                    cell.get(f"{TABLE}number-{each}-spanned", "1") != "1" for each in ("columns", "rows")
                )
            place += times
        times = int(row.get(f"{TABLE}number-rows-repeated", 1))
        if held:
            self.lines.append((self.height, times, held))
        self.height += times

    def cells(self) -> Iterator[Cell]:
        """Go through the cells as they are meant."""
        ends = [first + times for first, times, _ in self.lines]
        widths = [at + often for _, _, held in self.lines for at, often, _ in held]
        _refuse_far(max(ends, default=0), max(widths, default=0), sum(len(held) for _, _, held in self.lines))
        for first, times, held in self.lines:
            for row in range(first, first + times):
                yield from ((row, column, value) for at, often, value in held for column in range(at, at + often))


def read_ods(path: Path, layout: Layout) -> Raw:
    """Read the table of a sheet of an OpenDocument workbook, as ``read_workbook`` does.

    Raises:
        DataError: As there.
    """
    with readable(path.name, "OpenDocument workbook"):
        sheets = _sheets(path)
        name, notes = _chosen(path.name, [*sheets], [], layout.key, lambda each: not sheets[each].lines)
        sheet = Sheet.of(path, name, sheets[name].cells())
    if sheets[name].merged:
        notes += (f"sheet {name!r} has merged cells: of each, only the first holds the value",)
    return _raw(path.name, "OpenDocument", name, sheet, notes, layout)


def _sheets(path: Path) -> dict[str, _Repeated]:
    """Read all sheets of an OpenDocument workbook."""
    found: dict[str, _Repeated] = {}
    with zipfile.ZipFile(path) as archive, archive.open("content.xml") as file:
        inside, blanks = list[_Repeated](), 0
        for event, element in ElementTree.iterparse(file, ("start", "end")):
            if element.tag == f"{TABLE}table" and event == "start":
                inside.append(_Repeated([]))
            elif element.tag == f"{TABLE}table" and len(inside) == 1:
                name = element.get(f"{TABLE}name", "")
                if name in found:
                    raise DataError(f"{path.name}: two sheets are {name!r}: the workbook is damaged")
                found[name] = inside.pop()
            elif element.tag == f"{TABLE}table":  # a table in a cell
                inside.pop()
            elif element.tag == f"{TABLE}table-row" and event == "end" and inside:
                inside[-1].add(element)
                element.clear()
            elif element.tag == f"{TEXT}s" and event == "end":  # blanks that are counted, before they are made
                blanks += int(element.get(f"{TEXT}c", 1))
                check_packed(path.name, blanks, path.stat().st_size)
    return found


def _value(cell: ElementTree.Element) -> Any:
    """Return what a cell of an OpenDocument sheet holds, None where it holds nothing."""
    kind = cell.get(f"{OFFICE}value-type")
    if kind in ("float", "percentage", "currency"):
        number = float(cell.get(f"{OFFICE}value", ""))
        return int(number) if number.is_integer() and kind == "float" else number
    if kind == "boolean":
        return cell.get(f"{OFFICE}boolean-value") == "true"
    stated = cell.get(f"{OFFICE}{kind}-value", "")
    with suppress(ValueError):  # hours beyond a day, and years that Python has not, are read as they are shown
        if kind == "date":
            return datetime.datetime.fromisoformat(stated)
        if kind == "time":
            return datetime.time.fromisoformat(re.sub(r"PT(\d+)H(\d+)M([\d.]+)S", r"\1:\2:\3", stated))
    return None if kind is None else "\n".join(_text(each) for each in cell if each.tag == f"{TEXT}p")


def _text(part: ElementTree.Element) -> str:
    """Return a text in which blanks may be counted."""
    blank = {f"{TEXT}s": " ", f"{TEXT}tab": "\t", f"{TEXT}line-break": "\n"}.get(part.tag)
    if blank is not None:
        return blank * int(part.get(f"{TEXT}c", 1))
    return (part.text or "") + "".join(_text(each) + (each.tail or "") for each in part)


# Tables in sheets -----------------------------------------------------------------------------------------------------


def _chosen(
    where: str, names: Sequence[str], hidden: Sequence[str], key: str | int | None, is_empty: Callable[[str], bool]
) -> tuple[str, tuple[str, ...]]:  # fmt: skip
    """Return which sheet to read, and notes."""
    if key is not None:
        name = str(key) if str(key) in names else None
        if name is None and str(key).isdecimal() and int(key) < len(names):
            name = names[int(key)]
        if name is None:
            raise DataError(f"{where} has no sheet {key!r} (data.key); {suggestion(str(key), names)}")
        return name, ()
    shown = [each for each in names if each not in hidden and not is_empty(each)]
    if not shown:
        said = f" (hidden sheets: {', '.join(map(repr, hidden))}; data.key names one)" if hidden else ""
        raise DataError(f"{where}: the workbook is empty{said}")
    if len(shown) > 1:
        raise DataError(f"{where} has several sheets; set data.key to one of {', '.join(map(repr, shown))}")
    notes = tuple(f"hidden sheet {each!r} is left out (data.key={each})" for each in hidden)
    return shown[0], notes


def _raw(where: str, what: str, name: str, sheet: Sheet, notes: tuple[str, ...], layout: Layout) -> Raw:
    """Cut the table out of a sheet: what is empty around it, and lines of a title above it."""
    if not len(sheet.rows):
        raise DataError(f"{where}: sheet {name!r} is empty")
    counts = np.bincount(sheet.rows)
    start, more = _below_title(sheet, counts)
    below = sheet.rows >= start
    rows, values = sheet.rows[below] - start, sheet.values[below]
    kept, at = np.unique(sheet.columns[below], return_inverse=True)
    if start and not more:
        more = (f"the table begins in row {start + 1} of sheet {name!r}",)
    if kept[0] > 0:
        more += (f"the table begins in column {_letters(kept[0])} of sheet {name!r}",)
    if len(gaps := np.setdiff1d(np.arange(kept[0], kept[-1]), kept)):
        more += (f"empty columns of sheet {name!r} are left out: {listed([*map(_letters, gaps)])}",)
    if len(empty := np.flatnonzero(counts[start:] == 0)):
        said = listed((start + 1 + empty).tolist())
        more += (f"empty rows of sheet {name!r} are rows of missing cells: {said}",)
    head, columns = [], []
    for part in np.split(np.argsort(at, kind="stable"), np.cumsum(np.bincount(at))[:-1]):
        column = np.full(len(counts) - start, None, object)
        column[rows[part]] = values[part]
        head.append(shown(column[0]))
        columns.append(cells(column[1:].tolist()))
    columns, problems = usable(columns, [str(cell or "") for cell in head], layout)
    return Raw(
        where, what, columns, head=tuple(head), first=start + 2, unit="row", facts={"sheet": name},
        notes=(*notes, *more), problems=problems, stated=frozenset({"header", "key", "decimal"}),
    )  # fmt: skip


def _below_title(sheet: Sheet, counts: np.ndarray) -> tuple[int, tuple[str, ...]]:
    """Return the first row of the table, from 0, and notes.

    A title is text alone in the first cell of its row, above a table of three columns or more.
    """
    titles: list[str] = []
    for row in np.flatnonzero(counts).tolist():
        first = sheet.values[int(np.searchsorted(sheet.rows, row))]
        if counts[row] > 1 or counts.max() < 3 or not isinstance(first, str):
            break
        titles.append(f"row {row + 1} ({first!r})")
    return row, (f"above the table, left out: {listed(titles)}",) if titles else ()


def _letters(place: int) -> str:
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(place + 1))
