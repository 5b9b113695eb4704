"""Lists of row, column and value from files, which make triplets or ratings: CSV, TSV and Parquet."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyrozoo.core.errors import DataError, SettingError, first_line
from pyrozoo.data.container import refuse_twice
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers.delimited import (
    complete,
    existing,
    header_of,
    is_number,
    number,
    position,
    records,
    separator,
)
from pyrozoo.data.triplets import Repeated, Triplets

RECORDS = 2**16
"""Records held as Python objects at a time."""


def read_triplets(
    path: str | Path, *, row: str | None = None, column: str | None = None, value: str | None = None,
    row_label: str | None = None, column_label: str | None = None, repeated: Repeated = "sum",
    delimiter: str | None = None, unknown: float | None = None, time: str | None = None,
    holdout_after: float | str | None = None, container: type[Triplets] = Triplets,
) -> Any:  # fmt: skip
    """Read a file with one line per row, column and value; pairs that it does not list are zeros.

    The first line of CSV names the columns; files that end in .parquet are Parquet. A value in ``MISSING`` says that
    the pair is unobserved. Where ``row_label`` or ``column_label`` spell one row or column in several ways, the
    spelling with the largest sum of values is used.

    Args:
        path: The file.
        row: The column that tells rows apart; None: the first.
        column: The column that tells columns apart; None: the second.
        value: The column with the numbers; None: the third.
        row_label: The column with labels of rows; None: ``row`` itself.
        column_label: The same for columns.
        repeated: Whether values of a repeated pair are summed or averaged, or the file refused.
        delimiter: Between cells of a CSV file; None means a comma, or a tab for .tsv.
        unknown: A number in the place of a value that says that there is none: such lines are left out; None: there is
            no such number.
        time: The column that says when.
        holdout_after: A number or a date: pairs that are listed later, and not before, are hidden from the fit.
        container: What to make: triplets, or ratings, of which pairs that the file does not list are unknown.

    Returns:
        The triplets, checked.

    Raises:
        DataError: Missing or unreadable file, no such column, a value that is not a number, a repeated pair.
        SettingError: One column asked for twice, or a delimiter that cannot be one.
    """
    path = existing(path)
    parquet = path.suffix.lower() == ".parquet"
    if parquet and delimiter is not None:
        raise SettingError("data.delimiter has no meaning for a .parquet file")
    frame = _read_parquet(path) if parquet else read_frame(path, separator(delimiter, path.suffix.lower()))
    names = [str(name) for name in frame.columns]
    if len(names) < 3:
        raise DataError(f"{path.name} has {len(names)} columns; row, column and value take three")
    asked = enumerate((row, column, value))
    chosen = [usual if name is None else position(name, names, path.name) for usual, name in asked]
    if len(set(chosen)) < 3:
        raise SettingError("data.row, data.column and data.value must be three different columns")
    first, second, third = (frame.iloc[:, each] for each in chosen)
    values = numbers(third, path.name, names[chosen[2]], first=1 if parquet else 2)
    spelled = {}
    for which, key, label in (("row_labels", first, row_label), ("column_labels", second, column_label)):
        if label is not None:
            spelled[which] = most_used(key, frame.iloc[:, position(label, names, path.name)], values)
    left_out = np.zeros(len(values), dtype=bool) if unknown is None else values == unknown
    notes: list[str] = []
    if left_out.any():
        notes.append(f"{int(left_out.sum())} lines have the value {unknown:.10g}, which is none")
    late = np.zeros(len(values), dtype=bool)
    if holdout_after is not None or time is not None:
        if holdout_after is None or time is None:
            raise SettingError("data.time and data.holdout_after go together: a column, and when the hold-out begins")
        late = _later(frame.iloc[:, position(time, names, path.name)], holdout_after, path.name)
        pairs = pd.factorize(first)[0] * len(frame) + pd.factorize(second)[0]
        again = late & np.isin(pairs, pairs[~late & ~left_out]) & ~left_out
        if again.any():
            said = f"{int(again.sum())} lines after {holdout_after} repeat a pair that is listed before: left out"
            left_out, late, notes = left_out | again, late & ~again, [*notes, said]
    one, other, kept = first[~left_out], second[~left_out], values[~left_out]
    made = container.of_columns(one, other, kept, name=path.name, repeated=repeated, **spelled)
    made = replace(made, notes=(*made.notes, *notes))
    if holdout_after is None:
        return made
    # The same pairs in the same order of rows and columns, with 1 for those to hide.
    flags = Triplets.of_columns(one, other, (late[~left_out] & ~np.isnan(kept)).astype(float))
    if not 0 < len(flags.values) < len(made.values):
        which = "none of the pairs is" if not len(flags.values) else "all pairs are"
        raise SettingError(f"data.holdout_after is {holdout_after}: {which} listed after it")
    return made.hide(flags.values[:, :2].long(), at_random=False)


def read_ratings(
    path: str | Path, *, row: str | None = None, column: str | None = None, value: str | None = None,
    row_label: str | None = None, column_label: str | None = None, repeated: Repeated = "refuse",
    delimiter: str | None = None, unknown: float | None = None, time: str | None = None,
    holdout_after: float | str | None = None,
) -> Ratings:  # fmt: skip
    """Read a file with one line per row, column and rating; pairs that it does not list are unknown.

    All is as ``read_triplets`` does it. ``unknown`` is a number that stands for no rating, such as 99.
    """
    return read_triplets(
        path, row=row, column=column, value=value, row_label=row_label, column_label=column_label, repeated=repeated,
        delimiter=delimiter, unknown=unknown, time=time, holdout_after=holdout_after, container=Ratings,
    )  # fmt: skip


def _later(times: pd.Series, after: float | str, where: str) -> np.ndarray:
    """Return which times are after another, as numbers where all are, else as dates."""
    try:
        if isinstance(after, str) and not is_number(after):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # dates may be spelled in several ways
                return (pd.to_datetime(times) > pd.to_datetime(after)).to_numpy()
        return pd.to_numeric(times).to_numpy(dtype=float) > float(after)
    except (ValueError, TypeError, OverflowError) as error:
        said = first_line(error)
        raise DataError(f"{where}: data.time cannot be compared with data.holdout_after={after} ({said})") from None


def read_frame(path: Path, delimiter: str = ",") -> pd.DataFrame:
    """Read a CSV file as text, cell by cell, under the names in its first line; no cell is taken for a missing value.

    Raises:
        DataError: The file is empty, not UTF-8, has lines with too few or too many cells, or two columns of one name.
    """
    lines = (record for record in records(path, delimiter) if record)
    names = header_of(next(lines, []))
    whole, parts = complete(lines, len(names), path.name), []
    while chunk := list(itertools.islice(whole, RECORDS)):
        parts.append(pd.DataFrame(chunk, columns=range(len(names)), dtype=str))
    refuse_twice(names, path.name)
    if not parts:
        raise DataError(f"{path.name}: the list is empty")
    return pd.concat(parts, ignore_index=True).set_axis(names, axis=1)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except ImportError:
        raise DataError(f"{path.name}: reading Parquet takes the package pyarrow (pip install pyarrow)") from None
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:  # what pyarrow's own errors are
        raise DataError(f"{path.name} is not a readable Parquet file ({first_line(error)})") from None


def numbers(column: pd.Series, name: str, what: str, first: int = 2) -> np.ndarray:
    """Return the numbers of a column, NaN where a cell says that it is missing.

    Args:
        column: Numbers or text.
        name: The file, for the message.
        what: The column, for the message.
        first: Which record of the file the column's first cell is in.

    Raises:
        DataError: A cell is not a number.
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes, found = pd.factorize(column.astype(object).where(column.notna(), "").astype(str))
    values = np.empty(len(found))
    for i, cell in enumerate(found):
        cell = cell.strip()
        try:
            values[i] = number(cell)
        except ValueError:  # cells are numbered as they first occur
            at = int((codes == i).argmax())
            raise DataError(f"{name}: record {at + first}, column {what!r}: {cell!r} is not a number") from None
    return values[codes]


def most_used(keys: pd.Series, spellings: pd.Series, values: np.ndarray) -> dict[str, str]:
    """Return key -> the spelling of it with the largest sum of values, all as text; blank spellings do not count."""
    texts = pd.DataFrame({"key": keys.astype(object), "label": spellings.astype(object)})
    frame = texts.assign(value=np.nan_to_num(values)).dropna().astype({"key": str, "label": str})
    frame = frame[frame["label"].str.strip() != ""]
    sums = frame.groupby(["key", "label"], sort=False)["value"].sum().reset_index()
    best = sums.loc[sums.groupby("key", sort=False)["value"].idxmax()]
    return dict(zip(best["key"], best["label"], strict=True))
