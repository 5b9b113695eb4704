"""Tables as a workbook (.xlsx, Office Open XML): lines of XML, made by Arrow column by column."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.store.lines import BATCH, joined, numbers, texts

MOST_LINES, MOST_COLUMNS, MOST_LETTERS = 2**20 - 1, 2**14, 2**15 - 1
"""Rows of a sheet beside its header, its columns, and the letters of a cell."""

MOST_EXACT = 10**15
"""Whole numbers from here on lose digits in a spreadsheet: they are text there."""

FILLED = "FFF2CC"
"""The colour of filled cells: a light yellow."""

UNPRINTABLE = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\ufffe\uffff]"
"""Characters that XML, and so a spreadsheet, cannot hold."""

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'

STYLES = f"""{HEAD}<styleSheet xmlns="{MAIN}">
<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy-mm-dd h:mm:ss"/></numFmts>
<fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>
<fills count="3"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>
<fill><patternFill patternType="solid"><fgColor rgb="FF{FILLED}"/></patternFill></fill></fills>
<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>
<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs><cellXfs count="4">
<xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>
<xf numFmtId="0" fontId="0" fillId="2" borderId="0" xfId="0" applyFill="1"/>
<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>
<xf numFmtId="164" fontId="0" fillId="2" borderId="0" xfId="0" applyNumberFormat="1" applyFill="1"/></cellXfs>
<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>"""
"""Cells as they are, filled ones, moments, and filled moments."""

BLANK, TEXT, END = "<c/>", '<c t="inlineStr"><is><t xml:space="preserve">', "</t></is></c>"


def write_book(path: Path, sheets: Mapping[str, pd.DataFrame], marked: Collection[tuple[int, int]] = ()) -> None:
    """Write sheets in which text is text, such as a label that begins with an equals sign.

    Args:
        path: The file.
        sheets: Name -> table.
        marked: Line and place of cells of the first that get a colour.
    """
    parts = [f"xl/worksheets/sheet{i + 1}.xml" for i in range(len(sheets))]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, text in _frame(list(sheets), parts).items():
            file.writestr(name, text)
        for i, (part, frame) in enumerate(zip(parts, sheets.values(), strict=True)):
            with file.open(part, "w") as sheet:
                for lines in _sheet(frame, () if i else marked):
                    sheet.write(lines)


def _frame(names: Sequence[str], parts: Sequence[str]) -> dict[str, str]:
    """Return what a workbook has beside its sheets: name of a file -> text."""
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    types = {"/xl/workbook.xml": f"{kind}.sheet.main+xml", "/xl/styles.xml": f"{kind}.styles+xml"}
    types |= {f"/{part}": f"{kind}.worksheet+xml" for part in parts}
    overrides = "".join(f'<Override PartName="{part}" ContentType="{its}"/>' for part, its in types.items())
    own = [f'<Relationship Id="rId{i + 1}" Type="{OFFICE}/worksheet" Target="{part.removeprefix("xl/")}"/>'
           for i, part in enumerate(parts)]  # fmt: skip
    own.append(f'<Relationship Id="rId{len(parts) + 1}" Type="{OFFICE}/styles" Target="styles.xml"/>')
    sheets = "".join(f'<sheet name={quoteattr(name)} sheetId="{i + 1}" r:id="rId{i + 1}"/>'
                     for i, name in enumerate(names))  # fmt: skip
    usual = (
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
    )
    book = f'<Relationship Id="rId1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
    relations = f'<Relationships xmlns="{PACKAGE}/relationships">'
    return {
        "[Content_Types].xml": f'{HEAD}<Types xmlns="{PACKAGE}/content-types">{usual}{overrides}</Types>',
        "_rels/.rels": f"{HEAD}{relations}{book}</Relationships>",
        "xl/workbook.xml": f'{HEAD}<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{sheets}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f"{HEAD}{relations}{''.join(own)}</Relationships>",
        "xl/styles.xml": STYLES,
    }


def _sheet(frame: pd.DataFrame, marked: Collection[tuple[int, int]]) -> Iterator[bytes]:
    """Yield a sheet, piece by piece."""
    head = "".join(_cell(str(name)) for name in frame.columns)
    yield f'{HEAD}<worksheet xmlns="{MAIN}"><sheetData><row>{head}</row>\n'.encode()
    filled: dict[int, list[int]] = {}
    for line, place in marked:
        filled.setdefault(place, []).append(line)
    for start in range(0, len(frame), BATCH):
        part = frame.iloc[start : start + BATCH]
        columns = [_cells(part.iloc[:, place]) for place in range(part.shape[1])]
        for place, lines in filled.items():
            mask = np.isin(np.arange(start, start + len(part)), lines)
            columns[place] = _filled(columns[place], mask) if mask.any() else columns[place]
        yield joined(["<row>", *columns, "</row>\n"]) if columns else b""
    yield b"</sheetData></worksheet>"


def _filled(cells: pa.Array, mask: np.ndarray) -> pa.Array:
    """Give some cells a colour."""
    moment = pc.starts_with(cells, '<c s="2"')
    plain = pc.replace_substring(cells, "<c", '<c s="1"', max_replacements=1)
    dated = pc.replace_substring(cells, '<c s="2"', '<c s="3"', max_replacements=1)
    return pc.if_else(pa.array(mask), pc.if_else(moment, dated, plain), cells)


def _cells(column: pd.Series) -> pa.Array:
    """Return the cells of a column."""
    kind: Any = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "iuf":
        values = column.to_numpy()
        exact = np.isfinite(values) if kind.kind == "f" else np.abs(values.astype(np.float64)) < MOST_EXACT
        if exact.all() or (kind.kind == "f" and not np.isinf(values).any()):
            spelled = numbers(values) if kind.kind == "f" else pa.array(values).cast(pa.string())
            return pc.fill_null(pc.binary_join_element_wise("<c><v>", spelled, "</v></c>", ""), BLANK)
    if pd.api.types.is_string_dtype(kind) and pd.api.types.infer_dtype(column, skipna=True) in ("string", "empty"):
        cells = pc.utf8_slice_codeunits(pc.replace_substring_regex(texts(column, ""), UNPRINTABLE, ""), 0, MOST_LETTERS)
        for letter, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;")):
            cells = pc.replace_substring(cells, letter, name)
        return pc.fill_null(pc.binary_join_element_wise(TEXT, cells, END, ""), BLANK)
    if isinstance(kind, pd.CategoricalDtype):
        named = pa.array([*map(_cell, column.cat.categories), BLANK])
        return named.take(pa.array(column.cat.codes.to_numpy() % len(named)))
    return pa.array([_cell(each) for each in column.to_list()], pa.string())


def _cell(value: Any) -> str:
    """Return one cell as a spreadsheet can hold it; what it cannot is text."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return BLANK
    if isinstance(value, np.timedelta64):  # to Python it is a whole number
        value = pd.Timedelta(value)
    if isinstance(value, bool | np.bool_):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, Integral):
        return f"<c><v>{int(value)}</v></c>" if abs(int(value)) < MOST_EXACT else _cell(str(int(value)))
    if isinstance(value, Real | Decimal):
        return f"<c><v>{float(value)!r}</v></c>" if math.isfinite(value) else _cell(str(float(value)))
    if isinstance(value, date) and getattr(value, "tzinfo", None) is None and value.year >= 1900:
        from openpyxl.utils.datetime import to_excel

        return f'<c s="2"><v>{to_excel(value)!r}</v></c>'
    text = value if isinstance(value, str) else value.isoformat() if hasattr(value, "isoformat") else str(value)
    plain = "".join(filter(_held, text[:MOST_LETTERS]))
    return f"{TEXT}{escape(plain, {chr(13): '&#13;'})}{END}"


def _held(letter: str) -> bool:
    """Return whether XML can hold a letter."""
    code = ord(letter)
    return letter in "\t\n\r" or (code >= 0x20 and not 0xD800 <= code <= 0xDFFF and code not in (0xFFFE, 0xFFFF))
