"""What stands in a file before anything is made of it: columns of cells as they are, and how the file is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pyrozoo.core.errors import DataError


@dataclass(frozen=True)
class Raw:
    """Columns of cells, as a file or a frame holds them.

    Attributes:
        name: What messages call the source: the file's name.
        format: What it is, such as "CSV" or "Stata".
        columns: The cells, column by column. Of text files all are strings; of others numbers, booleans and times have
            their own type, and categories are dictionaries (in the order of the file's own levels).
        names: Names of the columns; None: the source has none, or nobody knows yet whether ``head`` names them.
        head: The first record where nobody knows whether it is a header: it is not among the columns.
        headless: Whether the source has no place for names of columns: arrays.
        shape: Of a list: how many rows and columns there are, listed or not.
        codes: The numbers that stand in the file behind columns of labels, place of the column -> cells: for models of
            numbers.
        labels: Names of the rows, where the source holds them apart from its columns: the index of a frame.
        counted: Whether these are only numbers that a frame gave them: a column may name the rows yet.
        first: What the first cell of a column is called: record 1 of a file without a header line, 2 with one.
        unit: What messages call a line: record, row, line.
        facts: What was found of how it is written, name -> value: encoding, delimiter, sheet ...
        notes: What a reader should know, one line each.
        problems: What is wrong, and what to type, one line each.
        stated: Settings of the layout that this source gave a meaning to.
        own: Makes the reader's own table, a pandas DataFrame, where the columns do not say it all.
    """

    name: str
    format: str
    columns: Sequence[pa.ChunkedArray]
    names: Sequence[str] | None = None
    head: Sequence[Any] | None = None
    headless: bool = False
    shape: tuple[int, int] | None = None
    codes: Mapping[int, pa.ChunkedArray] = field(default_factory=dict)
    labels: Sequence[str] | None = None
    counted: bool = False
    first: int = 2
    unit: str = "record"
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    stated: frozenset[str] = frozenset()
    own: Callable[[], Any] | None = None

    @property
    def length(self) -> int:
        """Return how many lines there are."""
        return len(self.columns[0]) if self.columns else 0


def chunked(values: Any) -> pa.ChunkedArray:
    """Return cells as Arrow has them; what is of several types becomes text, cell by cell."""
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, pa.Array):
        return pa.chunked_array([values])
    try:
        made = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        made = pa.array([None if _gone(each) else str(each) for each in values], pa.string())
    return pa.chunked_array([made]) if isinstance(made, pa.Array) else made


def _gone(value: Any) -> bool:
    return value is None or value != value or type(value).__name__ in ("NAType", "NaTType")


def existing(path: str | Path) -> Path:
    """Return the path of a file or folder, or raise DataError when there is none."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"data.path: there is no file {path}")
    return path
