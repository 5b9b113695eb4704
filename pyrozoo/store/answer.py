"""A table with the answers of a fit, written for people: CSV, TSV, Parquet, or a spreadsheet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from pyrozoo.core.errors import SettingError
from pyrozoo.core.paths import replacing
from pyrozoo.data.coding import as_number, label_of
from pyrozoo.store.lines import write_lines
from pyrozoo.store.sheets import MOST_COLUMNS, MOST_LINES, write_book
from pyrozoo.store.tables import neutral, significant

ENDINGS = (".csv", ".tsv", ".xlsx", ".parquet")

DIGITS = 4
"""Significant digits of answers in a file."""


# What stands beside a table -------------------------------------------------------------------------------------------


def beside(frame: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return a table with answers beside it, line by line, under names of their own."""
    taken = set(map(str, frame.columns))
    names = [f"{name} (fit)" if str(name) in taken else name for name in answers.columns]
    return pd.concat([frame, answers.set_axis(frame.index).set_axis(names, axis=1)], axis=1)


def rounded(values: Any, digits: int | None) -> np.ndarray:
    """Return numbers with so many significant digits."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    return array if digits is None else significant(array, digits)


def probability(values: Any, digits: int | None) -> np.ndarray:
    """Return probabilities with so many decimals."""
    array = np.asarray(values, dtype=np.float64)
    return array if digits is None else array.round(digits)


def short(answers: pd.DataFrame, digits: int | None) -> pd.DataFrame:
    """Return what is said of rows with so many digits."""

    def one(column: pd.Series) -> Any:
        if str(column.name).startswith("probability"):
            return probability(column, digits)
        return rounded(column, digits) if column.dtype.kind == "f" else column

    return answers.apply(one) if len(answers.columns) else answers


def answered(own: Any, lines: np.ndarray, levels: Sequence[str]) -> Any:
    """Return a column of answers with some put in, as its other cells spell them."""
    categories = isinstance(own.dtype, pd.CategoricalDtype)
    spelled = {label_of(each): each for each in (own.cat.categories if categories else own.dropna().unique())}
    text = bool(own.notna().any()) and pd.api.types.is_string_dtype(own.dropna())
    for level in set(levels) - set(spelled):
        value = None if text else as_number(level)
        spelled[level] = level if value is None else int(value) if value.is_integer() else value
    if categories:
        more = dict.fromkeys(spelled[level] for level in levels)
        result = own.cat.add_categories([each for each in more if each not in own.cat.categories])
    else:
        result = own.astype(object)
    result.iloc[lines] = [spelled[level] for level in levels]
    return result if categories else result.infer_objects()


# Files ----------------------------------------------------------------------------------------------------------------


def check_ending(path: str | Path, setting: str = "output") -> Path:
    """Return a path that can be written, or raise SettingError."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise SettingError(f"{setting}={path}: its name must end in {', '.join(ENDINGS)}")
    return path


def write_answer(
    path: str | Path, frame: pd.DataFrame, marked: Collection[tuple[int, int]] = (),
    sheets: Mapping[str, pd.DataFrame] | None = None,
) -> Path:  # fmt: skip
    """Write a table, its index first unless it only counts rows, by the ending of the file's name.

    Text stays text: where a spreadsheet would take it for a formula, CSV and TSV get an apostrophe before it.

    Args:
        path: The file.
        frame: The table.
        marked: Line and place of cells that get a colour in .xlsx, of a table whose index only counts rows.
        sheets: Further sheets of .xlsx, by name.

    Raises:
        SettingError: Another ending, or more rows than a sheet has.
    """
    path, frame = check_ending(path), unindexed(frame)
    ending = path.suffix.lower()
    if ending == ".xlsx" and (len(frame) > MOST_LINES or len(frame.columns) > MOST_COLUMNS):
        size = f"{len(frame)} rows" if len(frame) > MOST_LINES else f"{len(frame.columns)} columns"
        raise SettingError(f"output={path}: {size} do not fit into a sheet; write .csv or .parquet")
    with replacing(path) as temporary:
        if ending == ".xlsx":
            write_book(temporary, {"scored": frame, **(sheets or {})}, marked)
        elif ending == ".parquet":
            _one_typed(frame.set_axis([*map(str, frame.columns)], axis=1)).to_parquet(
                temporary, engine="pyarrow", index=False
            )
        else:
            with temporary.open("wb") as file:
                write_lines(file, neutral(frame), "\t" if ending == ".tsv" else ",")
    return path


def unindexed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its index as its first columns, unless it only counts rows."""
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return frame
    taken = {*frame.columns}
    names = [name if name is not None else "row" for name in frame.index.names]
    return frame.reset_index(names=[f"{name} (index)" if name in taken else name for name in names])


def _one_typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which a column of numbers and texts is one of texts: Parquet has no other."""
    frame = frame.copy(deep=False)
    for place, kind in enumerate(frame.dtypes):
        if not pd.api.types.is_object_dtype(kind):
            continue
        column = frame.iloc[:, place]
        if pd.api.types.infer_dtype(column, skipna=True).startswith("mixed"):
            cells = [each if isinstance(each, str) or _gone(each) else str(each) for each in column]
            frame.isetitem(place, pd.Series(cells, dtype=object).array)
    return frame


def _gone(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))
