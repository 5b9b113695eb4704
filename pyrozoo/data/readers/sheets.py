"""Workbooks: Excel's .xlsx and .xlsm by openpyxl, and .ods by pandas where odfpy is installed."""

from __future__ import annotations

import html
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from pyrozoo.core.errors import DataError
from pyrozoo.core.settings import suggestion
from pyrozoo.data.readers.guard import cells, readable, shown, usable
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw

Row = Sequence[Any]

FORMULA = re.compile(
    rb"<(?:\w+:)?c ([^>]*)>\s*<(?:\w+:)?f(?:\s[^>]*)?(?:/>|>([^<]*)</(?:\w+:)?f>)\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
"""A cell with a formula and no stored value, in a sheet's XML."""

MOST_ROWS = 2**20
"""Rows of a sheet, as Excel has them: a number beyond is damage."""

MOST_EMPTY = 10_000_000
"""Cells of a sheet that may be empty, but for one in a hundred."""

MERGED = re.compile(rb"<(?:\w+:)?mergeCell ")


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
    import openpyxl

    with readable(path.name, "Excel workbook"), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # of styles and extensions that hold no cell
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)  # of a path it would judge the ending
        try:
            sheets = {each.title: each for each in book.worksheets}
            hidden = [name for name, each in sheets.items() if each.sheet_state != "visible"]
            name, notes = _chosen(path.name, sheets, hidden, layout.key)
            rows = _rows(sheets[name])
            with zipfile.ZipFile(path) as archive:
                content = archive.read(sheets[name]._worksheet_path)
        finally:
            book.close()
    if formulas := _uncomputed(content):
        rows, more = _with_formulas(name, rows, formulas)
        notes += more
    if MERGED.search(content):
        notes += (f"sheet {name!r} has merged cells: of each, only the first holds the value",)
    return _raw(path.name, "Excel", name, rows, notes, layout)


def read_ods(path: Path, layout: Layout) -> Raw:
    """Read the table of a sheet of an OpenDocument workbook, as ``read_workbook`` does.

    Raises:
        DataError: As there; or odfpy is not installed.
    """
    if find_spec("odf") is None:
        raise DataError(
            f"{path.name} is an OpenDocument workbook, which needs the package odfpy (pip install odfpy): install it, "
            "or save the table as .xlsx or CSV"
        )
    import pandas as pd

    with readable(path.name, "OpenDocument workbook"):
        frames = pd.read_excel(path, sheet_name=None, header=None, dtype=object, engine="odf")
        sheets = {str(title): [tuple(row) for row in each.itertuples(index=False)] for title, each in frames.items()}
    name, notes = _chosen(path.name, sheets, [], layout.key)
    return _raw(path.name, "OpenDocument", name, _rows(sheets[name]), notes, layout)


def _chosen(
    where: str, sheets: Mapping[str, Any], hidden: Sequence[str], key: str | int | None
) -> tuple[str, tuple[str, ...]]:  # fmt: skip
    """Return which sheet to read, and notes."""
    names = list(sheets)
    if key is not None:
        name = str(key) if str(key) in names else None
        if name is None and str(key).isdecimal() and int(key) < len(names):
            name = names[int(key)]
        if name is None:
            raise DataError(f"{where} has no sheet {key!r} (data.key); {suggestion(str(key), names)}")
        return name, ()
    shown = [each for each in names if each not in hidden and not _is_empty(sheets[each])]
    if not shown:
        said = f" (hidden sheets: {', '.join(map(repr, hidden))}; data.key names one)" if hidden else ""
        raise DataError(f"{where}: the workbook is empty{said}")
    if len(shown) > 1:
        raise DataError(f"{where} has several sheets; set data.key to one of {', '.join(map(repr, shown))}")
    notes = tuple(f"hidden sheet {each!r} is left out (data.key={each})" for each in hidden)
    return shown[0], notes


def _cells(sheet: Any) -> Iterator[Row]:
    if isinstance(sheet, list):
        yield from sheet
    else:
        sheet.reset_dimensions()  # what programs write of a sheet's size is often wrong
        yield from sheet.iter_rows(values_only=True)


def _is_empty(sheet: Any) -> bool:
    return all(_missing(cell) for row in _cells(sheet) for cell in row)


def _missing(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and (cell == "#N/A" or not cell.strip()))


def _rows(sheet: Any) -> list[Row]:
    """Return the cells of a sheet, row by row from its first, without empty rows at the end."""
    rows: list[Row] = []
    for row in islice(_cells(sheet), MOST_ROWS):
        rows.append(tuple(None if _missing(cell) else cell for cell in row))
    while rows and not _filled(rows[-1]):
        rows.pop()
    wide, filled = max(map(len, rows), default=0), sum(len(_filled(row)) for row in rows)
    if wide * len(rows) > MOST_EMPTY and wide * len(rows) > 100 * filled:
        raise DataError(
            f"the sheet reaches to row {len(rows)} and column {wide}, and has values in {filled} cells: delete what "
            "stands far from the table"
        )
    return rows


def _filled(row: Row) -> list[int]:
    return [place for place, cell in enumerate(row) if cell is not None]


def _uncomputed(content: bytes) -> dict[str, str]:
    """Return formulas without a stored value: cell -> formula. One that is of type text may have stored nothing."""
    found = {}
    for each in FORMULA.finditer(content):
        place = re.search(rb'\br="([A-Z]+[0-9]+)"', each[1])
        if place and b't="str"' not in each[1]:
            found[place[1].decode()] = "=" + html.unescape((each[2] or b"").decode("utf-8", "replace"))
    return found


def _with_formulas(name: str, rows: list[Row], formulas: Mapping[str, str]) -> tuple[list[Row], tuple[str, ...]]:
    """Put formulas where there are no values: missing is not what they mean."""
    from openpyxl.utils.cell import coordinate_to_tuple

    made = [list(row) for row in rows]
    for place, formula in formulas.items():
        row, column = coordinate_to_tuple(place)
        made += [[] for _ in range(row - len(made))]
        made[row - 1] += [None] * (column - len(made[row - 1]))
        made[row - 1][column - 1] = formula
    first = list(formulas)[:3]
    more = f" and {len(formulas) - len(first)} more" if len(formulas) > len(first) else ""
    return [*made], (
        f"sheet {name!r}: formulas have no stored value ({', '.join(first)}{more}) and are read as text; open the "
        "workbook in a spreadsheet program and save it",
    )


def _raw(where: str, what: str, name: str, rows: list[Row], notes: tuple[str, ...], layout: Layout) -> Raw:
    """Cut the table out of a sheet: what is empty around it, and lines of a title above it."""
    rows, start, more = _below_title(rows)
    if not rows:
        raise DataError(f"{where}: sheet {name!r} is empty")
    width = max(map(len, rows))
    full = [tuple(row) + (None,) * (width - len(row)) for row in rows]
    kept = sorted({place for row in full for place in _filled(row)})
    if start > 1 and not more:
        more = (f"the table begins in row {start} of sheet {name!r}",)
    if kept[0] > 0:
        more += (f"the table begins in column {_letters(kept[0])} of sheet {name!r}",)
    if gaps := [_letters(place) for place in range(kept[0], kept[-1]) if place not in kept]:
        more += (f"empty columns of sheet {name!r} are left out: {', '.join(gaps)}",)
    if empty := [str(start + i) for i, row in enumerate(full) if not _filled(row)]:
        said = ", ".join(empty[:3]) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        more += (f"empty rows of sheet {name!r} are rows of missing cells: {said}",)
    body = full[1:]
    columns = [cells([row[place] for row in body]) for place in kept]
    head = tuple(shown(full[0][place]) for place in kept)
    columns, problems = usable(columns, [str(cell or "") for cell in head], layout)
    return Raw(
        where, what, columns, head=head, first=start + 1, unit="row", facts={"sheet": name}, notes=(*notes, *more),
        problems=problems, stated=frozenset({"header", "key", "decimal"}),
    )  # fmt: skip


def _below_title(rows: list[Row]) -> tuple[list[Row], int, tuple[str, ...]]:
    """Return the rows of the table, the number of its first in the sheet, and notes.

    A title is text alone in the first cell of its row, above a table of three columns or more.
    """
    start, titles = 0, []
    wide = max((len(_filled(row)) for row in rows), default=0)
    while start < len(rows):
        filled = _filled(rows[start])
        if len(filled) > 1 or (filled and (wide < 3 or not isinstance(rows[start][filled[0]], str))):
            break
        if filled:
            titles.append(f"row {start + 1} ({rows[start][filled[0]]!r})")
        start += 1
    more = (f"above the table, left out: {', '.join(titles)}",) if titles else ()
    return rows[start:], start + 1, more


def _letters(place: int) -> str:
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(place + 1))
