"""A table with the answers of a fit, written for people: CSV, TSV, Parquet, or a spreadsheet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from pyrozoo.core.errors import SettingError
from pyrozoo.core.paths import replacing

ENDINGS = (".csv", ".tsv", ".xlsx", ".parquet")

MOST_LINES = 2**20 - 1
"""Rows of a sheet of .xlsx beside its header."""

UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Characters that XML, and so a spreadsheet, cannot hold."""


def check_ending(path: str | Path) -> Path:
    """Return a path that can be written, or raise SettingError."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise SettingError(f"output={path}: its name must end in {', '.join(ENDINGS)}")
    return path


def write_answer(path: str | Path, frame: pd.DataFrame) -> Path:
    """Write a table, its index first unless it only counts rows, by the ending of the file's name.

    Raises:
        SettingError: Another ending, or more rows than a sheet has.
    """
    path = check_ending(path)
    if not (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None):
        names = [name if name is not None else "row" for name in frame.index.names]
        frame = frame.reset_index(names=names)
    ending = path.suffix.lower()
    if ending == ".xlsx" and len(frame) > MOST_LINES:
        raise SettingError(f"output={path}: {len(frame)} rows do not fit into a sheet; write .csv or .parquet")
    with replacing(path) as temporary:
        if ending == ".xlsx":
            _write_sheet(temporary, frame)
        elif ending == ".parquet":
            frame.rename(columns=str).to_parquet(temporary, engine="pyarrow", index=False)
        else:
            # A column of whole numbers with holes is one of floats: 3 stays 3.
            frame.to_csv(temporary, index=False, sep="\t" if ending == ".tsv" else ",", float_format="%.15g")
    return path


def _write_sheet(path: Path, frame: pd.DataFrame) -> None:
    """Write a sheet in which text is text, such as a label that begins with an equals sign."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    book = Workbook(write_only=True)
    sheet: Any = book.create_sheet("scored")

    def cell(value: Any) -> Any:
        if pd.isna(value):
            return None
        if isinstance(value, str) or not isinstance(value, int | float | bool):
            value = value if isinstance(value, str) or hasattr(value, "isoformat") else _number(value)
        if not isinstance(value, str):
            return value
        made = WriteOnlyCell(sheet, UNPRINTABLE.sub("", value))
        made.data_type = "s"  # otherwise = begins a formula
        return made

    sheet.append([cell(str(name)) for name in frame.columns])
    for line in frame.itertuples(index=False, name=None):
        sheet.append([cell(value) for value in line])
    book.save(path)


def _number(value: Any) -> Any:
    """Return a NumPy number as Python's own, and anything else as text."""
    plain = value.item() if hasattr(value, "item") else value
    return plain if isinstance(plain, int | float | bool) else str(plain)
