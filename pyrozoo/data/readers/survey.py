"""Surveys from CSV and TSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyrozoo.data.readers.delimited import Sheet, existing, lines_of, separator
from pyrozoo.data.survey import Survey


def read_survey(
    path: str | Path, *, header: bool | None = None, columns: Sequence[str] | None = None,
    row_labels: str | None = None, delimiter: str | None = None,
) -> Survey:  # fmt: skip
    """Read a survey from a file: each cell is the name of a category, as it is spelled there.

    Settings and mistakes are those of ``read_table``, but the first line names the columns unless ``header`` says that
    it does not: names and categories look alike.
    """
    path = existing(path)
    lines = lines_of(path, separator(delimiter, path.suffix.lower()))
    hint = " (if the first line does not name the columns, set data.header=false)" if header is None else ""
    sheet = Sheet.of(lines, path.name, header is not False, columns, row_labels, hint)
    answers = {j: [line[column] for line in sheet.body] for j, column in enumerate(sheet.chosen)}
    frame = pd.DataFrame(answers, index=list(sheet.rows), dtype=object)
    return Survey.of(frame.set_axis(list(sheet.columns), axis=1), path.name)
