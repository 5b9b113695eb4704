"""Tables from files: CSV, TSV, NumPy's .npy and .npz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.readers.arrays import NUMPY, read_numpy
from pyrozoo.data.readers.delimited import Sheet, existing, is_number, lines_of, number, position, separator
from pyrozoo.data.table import Table


def read_table(
    path: str | Path, *, header: bool | None = None, columns: Sequence[str] | None = None,
    row_labels: str | None = None, delimiter: str | None = None, key: str | None = None,
) -> Table:  # fmt: skip
    """Read a table from a file, by its ending: .npy, .npz, .tsv, and otherwise CSV.

    The first line is a header when not one of its cells is a number (an empty cell is allowed in a header), or when it
    holds a name asked for in ``columns`` or ``row_labels``; ``header`` says so outright.

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
        SettingError: One column asked for twice, or a setting that has no meaning for the file.
    """
    path = existing(path)
    ending = path.suffix.lower()
    if ending in NUMPY:
        for name, value in (("header", header), ("row_labels", row_labels), ("delimiter", delimiter)):
            if value is not None:
                raise SettingError(f"data.{name} has no meaning for a {ending} file")
        table = Table.of(read_numpy(path, key), path.name)
        if not columns:
            return table
        chosen = [position(column, list(table.column_labels), table.name) for column in columns]
        names = [table.column_labels[column] for column in chosen]
        return Table(table.values[:, chosen], table.row_labels, names, table.name).checked()
    if key is not None:
        raise SettingError(f"data.key has no meaning for a {ending or 'CSV'} file")
    lines = lines_of(path, separator(delimiter, ending))
    if header is None:
        asked = {str(name) for name in (*(columns or ()), *([row_labels] if row_labels is not None else ()))}
        words = [cell.strip() for cell in lines[0] if not is_number(cell)]
        header = bool(asked & {*words}) or len(words) == len(lines[0])
    sheet = Sheet.of(lines, path.name, header, columns, row_labels)
    values = np.empty((len(sheet.rows), len(sheet.columns)))
    for i, line in enumerate(sheet.body):
        for j, column in enumerate(sheet.chosen):
            cell = line[column].strip()
            try:
                values[i, j] = number(cell)
            except ValueError:
                hint = " (is it a column of labels? then set data.row_labels, or choose data.columns)"
                raise DataError(
                    f"{path.name}: row {sheet.rows[i]!r}, column {sheet.columns[j]!r}: {cell!r} is not a number"
                    + (hint if row_labels is None else "")
                ) from None
    return Table(torch.as_tensor(values), sheet.rows, sheet.columns, path.name).checked()
