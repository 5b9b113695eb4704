"""Files read into containers, as a command does it, and workbooks as they are written."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import openpyxl
from openpyxl.xml.constants import SHARED_STRINGS, SHEET_MAIN_NS

from pyrozoo.data.contained import read_data
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets


def read_table(path: Any, **settings: Any) -> Table:
    """Read a table of numbers."""
    return read_data(path, Table, layout="table", **settings)


def read_survey(path: Any, **settings: Any) -> Survey:
    """Read a table of categories."""
    return read_data(path, Survey, **settings)


def read_triplets(path: Any, **settings: Any) -> Triplets:
    """Read a list of counts."""
    return read_data(path, Triplets, layout="list", **settings)


def read_ratings(path: Any, **settings: Any) -> Ratings:
    """Read a list of ratings."""
    return read_data(path, Ratings, layout="list", **settings)


def zipped(parts: dict[str, bytes]) -> bytes:
    """Return an archive of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return buffer.getvalue()


def xlsx(*sheets: str, shared: str = "") -> bytes:
    """Return an Excel workbook of sheets whose rows are XML, with a text that its cells share."""
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for number in range(1, len(sheets)):
        book.create_sheet(f"Sheet{number}")
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = f"xmlns='{SHEET_MAIN_NS}'"
    for number, rows in enumerate(sheets, 1):
        content = f"<worksheet {name}><sheetData>{rows}</sheetData></worksheet>"
        parts[f"xl/worksheets/sheet{number}.xml"] = content.encode()
    kind, types = f"<Override PartName='/xl/sharedStrings.xml' ContentType='{SHARED_STRINGS}'/>", "[Content_Types].xml"
    parts[types] = parts[types].replace(b"</Types>", f"{kind}</Types>".encode())
    parts["xl/sharedStrings.xml"] = f"<sst {name}><si><t>{shared}</t></si></sst>".encode()
    return zipped(parts)


def ods(**sheets: str) -> bytes:
    """Return an OpenDocument workbook of sheets whose rows are XML."""
    names = " ".join(
        f"xmlns:{each}='urn:oasis:names:tc:opendocument:xmlns:{each}:1.0'" for each in ("office", "table", "text")
    )
    tables = "".join(f"<table:table table:name='{name}'>{rows}</table:table>" for name, rows in sheets.items())
    content = f"<office:spreadsheet {names}>{tables}</office:spreadsheet>".encode()
    return zipped({"mimetype": b"application/vnd.oasis.opendocument.spreadsheet", "content.xml": content})
