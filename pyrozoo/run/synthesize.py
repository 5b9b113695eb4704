"""``pyrozoo.synthesize``: synthetic rows of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pyrozoo.contracts.fit import Fit
from pyrozoo.store.synthetic import synthetic_frame, write_synthetic


def synthesize(
    fit: Fit, count: int, *, given: Mapping[str, str] | None = None, path: str | Path | None = None, seed: int = 0,
    progress: bool = True, holes: bool = True,
) -> pd.DataFrame | Path:  # fmt: skip
    """Draw synthetic rows from a fit: with the data's dependence between columns, and none of its rows copied.

    Args:
        fit: A fit of a model that can (categorical_fa).
        count: How many rows.
        given: Column -> level that all rows have; the other columns follow from it.
        path: A CSV file to write, a chunk at a time: for millions of rows. None: return a table.
        seed: Of the rows.
        progress: Show a progress bar while writing, on a terminal.
        holes: Whether answers are missing as in the data: each row has the holes of some row of these, drawn at random,
            whatever its answers. Columns in ``given`` have none.

    Returns:
        The rows with the data's column names and labels, each column of the type that it has there (whole numbers and
        truth values of one that knows holes, such as ``Int64``, where there are any), or the path of the file.

    Raises:
        SettingError: The model cannot, fewer than one row, or a column or level that the data do not have.
    """
    if path is None:
        return synthetic_frame(fit, count, given, seed, holes)
    return write_synthetic(fit, Path(path), count, given, seed, progress, holes)
