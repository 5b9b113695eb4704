"""How a reader's data are laid out: every setting of ``data=FILE``. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pyrozoo.core.settings import Settings, between, flag, one_of, whole

MOST_LEVELS = 30
"""Categories that a column may have unless ``data.most_levels`` says otherwise."""

DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
"""Delimiters as people type them."""


@dataclass(frozen=True)
class Layout(Settings):
    """What can be said of data: None leaves it to the data, and what was found is a note.

    Attributes:
        layout: ``table``: a line per row. ``list``: a line per row, column and value.
        header: Whether the first line names the columns.
        delimiter: Between cells; one or more characters, or tab.
        encoding: Of text, as Python calls it.
        decimal: The decimal mark.
        missing: What says that a cell is missing, beside the usual spellings.
        columns: The columns to use, by name or position.
        exclude: Columns to leave out, by name or position.
        exclude_rows: Rows to leave out, by their label, or by position from 0.
        transpose: Whether the file has a line per column.
        row_labels: The column that names the rows.
        row: Of a list: the column that says which row.
        column: The same for columns.
        value: The same for values; of a list without, each line is a 1.
        row_label: A column with names of the rows.
        column_label: The same for columns.
        repeated: What becomes of a pair that is listed twice.
        time: The column that says when.
        holdout_after: A number or a date: what is listed later is held out.
        unknown: A value that stands for none.
        absent: Of a list that becomes a table: whether a pair that it lacks is zero or missing.
        response: The column that the others explain; None: the last.
        exposure: The column with what counts are in proportion to: hours, population, library size.
        frequency: The column that says how often a line counts.
        text: Of documents: the column with their text.
        least_documents: Of words in texts: in how many documents one must be to count.
        most_share: In what share of the documents it may be at most.
        stop_words: A language whose commonest words do not count (english), or none.
        vocabulary: A file with a word a line: of an LDA-C file, which numbers them.
        most_levels: Categories that a column may have.
        key: The array of an archive, or the sheet of a workbook.
        colours: Reduce a picture to so many colours.
    """

    prefix: ClassVar[str] = "data."

    layout: str | None = one_of("table", "list", optional=True, default=None)
    header: bool | None = None
    delimiter: str | None = None
    encoding: str | None = None
    decimal: str | None = one_of(".", ",", optional=True, default=None)
    missing: Sequence[Any] | None = None
    columns: Sequence[Any] | None = None
    exclude: Sequence[Any] | None = None
    exclude_rows: Sequence[Any] | None = None
    transpose: bool = flag(default=False)
    row_labels: str | int | None = None
    row: str | int | None = None
    column: str | int | None = None
    value: str | int | None = None
    row_label: str | int | None = None
    column_label: str | int | None = None
    repeated: str | None = one_of("sum", "mean", "last", "refuse", optional=True, default=None)
    time: str | int | None = None
    holdout_after: float | str | None = None
    unknown: float | None = None
    absent: str | None = one_of("zero", "missing", optional=True, default=None)
    response: str | int | None = None
    exposure: str | int | None = None
    frequency: str | int | None = None
    text: str | None = None
    least_documents: int = whole(default=2)
    most_share: float = between(0, 1, "(]", default=0.5)
    stop_words: str | None = one_of("english", "none", optional=True, default="english")
    vocabulary: str | None = None
    most_levels: int = whole(2, 32_767, default=MOST_LEVELS)
    key: str | int | None = None
    colours: int | None = whole(1, 256, optional=True, default=None)

    @property
    def separator(self) -> str | None:
        """Return what stands between cells, if it is said."""
        return None if self.delimiter is None else DELIMITERS.get(self.delimiter.lower(), self.delimiter)

    @property
    def stated(self) -> dict[str, Any]:
        """Return what is said, name -> value."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


NAMES = tuple(field.name for field in fields(Layout))


def layout_of(settings: Mapping[str, Any]) -> Layout:
    """Return the layout that settings of data state, among others; one word is a list of one.

    Raises:
        SettingError: One that is out of range.
    """
    stated = {name: settings[name] for name in NAMES if name in settings}
    for name in ("missing", "columns", "exclude", "exclude_rows"):
        if isinstance(stated.get(name), str | int | float):
            stated[name] = [stated[name]]
    return Layout.of(stated, "data")


@dataclass(frozen=True)
class Wanted:
    """What a model's data are.

    Attributes:
        cells: ``numbers``, ``counts``, ``categories``, ``mixed`` (numbers, and text that is categories), or ``labels``
            of an image.
        listed: Whether they are a list of row, column and value by nature.
        zeros: Whether a pair that a list lacks is zero, and not unknown.
        dtype: The precision of numbers: ``float32`` where that can hold them.
    """

    cells: str = "numbers"
    listed: bool = False
    zeros: bool = False
    dtype: str = "float64"


KINDS: dict[str, Wanted] = {
    "table": Wanted(),
    "survey": Wanted("categories"),
    "responses": Wanted("mixed"),
    "triplets": Wanted(listed=True, zeros=True),
    "ratings": Wanted(listed=True),
    "documents": Wanted("counts", listed=True, zeros=True),
    "picture": Wanted("labels"),
}
"""What a file is called -> what is wanted of it."""
