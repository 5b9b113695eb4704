"""What readers of every format need: errors of libraries in one line, types that no model reads, labels of rows."""

from __future__ import annotations

import datetime
import numbers
import textwrap
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.core.errors import DataError, SettingError, UserError, first_line
from pyrozoo.data.readers.arrow import column_of, numeric
from pyrozoo.data.readers.labels import Labels
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import chunked

WRITTEN = ("header", "delimiter", "encoding", "decimal", "key", "colours")
"""Settings that say how a source is written: each has a meaning for some formats only."""

SUSPICIOUS, MOST_TIMES = 2**28, 200
"""Bytes above which a packed file may hold no more than so many times its own size."""

COMPLEX = pa.struct([("real", pa.float64()), ("imaginary", pa.float64())])
"""Arrow has no complex numbers; these stand for a column of them."""


@contextmanager
def readable(name: str, what: str) -> Iterator[None]:
    """Say in one line that a file cannot be read: of corrupt bytes a library may raise anything.

    Args:
        name: The file.
        what: What it should be, such as "Parquet file".

    Raises:
        DataError: For whatever is raised inside, unless it is a line for the reader already.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise DataError(f"{name} is damaged, or needs more memory than there is") from None
    except Exception as error:
        said = textwrap.shorten(first_line(error), 200, placeholder=" ...") or type(error).__name__
        raise DataError(f"{name} is not a readable {what} ({said}): perhaps it is cut short") from None


def check_packed(name: str, unpacked: int, packed: int) -> None:
    """Refuse what is packed so small that it is no data but a bomb, before it is unpacked, or while it is.

    Args:
        name: The file.
        unpacked: Bytes that it holds, or states to hold.
        packed: Bytes that it has.

    Raises:
        DataError: They are too many.
    """
    if unpacked > SUSPICIOUS and unpacked > MOST_TIMES * packed:
        raise DataError(
            f"{name} has {packed} bytes and unpacks to {unpacked} or more, as files do that are made to fill the "
            "memory: unpack it first, if you trust it"
        )


def meant(layout: Layout, settings: Collection[str], what: str) -> None:
    """Refuse what is said of how a source is written where that has no meaning.

    Args:
        layout: What is said.
        settings: Those of ``WRITTEN`` that have one.
        what: The kind of source, such as "a .npy file".

    Raises:
        SettingError: The message names all such settings.
    """
    wrong = [f"data.{name}" for name in WRITTEN if name in layout.stated and name not in settings]
    if wrong:
        verb = "has" if len(wrong) == 1 else "have"
        raise SettingError(f"{' and '.join(wrong)} {verb} no meaning for {what}")


def usable(
    columns: Sequence[pa.ChunkedArray], names: Sequence[str], layout: Layout
) -> tuple[list[pa.ChunkedArray], tuple[str, ...]]:  # fmt: skip
    """Return columns in types that cells may have, and what to type where one has none of them.

    Decimals become floats, all spellings of text one; a column that is left out may be of any type, and becomes empty.
    """
    found, problems = [], []
    for place, (column, name) in enumerate(zip(columns, names, strict=True)):
        made = _usable(column)
        if made is None:
            made = pa.chunked_array([pa.nulls(len(column))])
            if not _left_out(place, name, layout):
                problems.append(
                    f"column {name!r} holds {_kind(column.type)}, which no model reads: data.exclude=[{name}] leaves "
                    "it out"
                )
        found.append(made)
    return found, tuple(problems)


def _usable(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.unify_dictionaries() if _plain(kind.value_type) else None
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_uint64(kind):  # what no signed word holds is a name
        return column.cast(pa.int64() if _most(column) < 2**63 else pa.string())
    if (pa.types.is_timestamp(kind) or pa.types.is_date(kind)) and _beyond(column):
        return None
    return column if _plain(kind) else None


def _most(column: pa.ChunkedArray) -> int:
    return int(pc.max(column).as_py() or 0)


def _beyond(column: pa.ChunkedArray) -> bool:
    """Return whether times are not all within the years that Python knows, 1 to 9999."""
    ends = pc.min_max(pc.year(column)).as_py().values()
    return any(each is not None and not 1 < each < 9999 for each in ends)


def _plain(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_string,
             types.is_large_string, types.is_date, types.is_time, types.is_timestamp)  # fmt: skip
    return any(test(kind) for test in tests)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "times beyond the years 1 to 9999"
    if kind == COMPLEX:
        return "complex numbers"
    if pa.types.is_duration(kind):
        return "durations"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "bytes"
    return "lists or other objects" if pa.types.is_nested(kind) else f"cells of type {kind}"


def _left_out(place: int, name: str, layout: Layout) -> bool:
    def among(asked: Sequence[Any]) -> bool:
        return any(str(each) in (name, str(place)) for each in asked)

    if layout.exclude is not None and among(layout.exclude):
        return True
    used = (layout.row_labels, layout.row, layout.column, layout.value, layout.time, layout.exposure, layout.frequency)
    return layout.columns is not None and not among([*layout.columns, *(each for each in used if each is not None)])


def called(column: pa.ChunkedArray) -> Labels:
    """Return the names that a column gives to rows."""
    if pa.types.is_integer(column.type) and not column.null_count:
        return Labels(numeric(column, np.int64))
    return Labels.of(spelled(column))


def spelled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return what cells are called, as text: 3.0 is called 3, midnight by its date, and what is missing nothing."""
    column = dated(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
        if pc.all(whole).as_py():
            column = column.cast(pa.int64())
    return pc.fill_null(column.cast(pa.string()), "")


def dated(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return times that are all midnight as dates."""
    if not pa.types.is_timestamp(column.type) or column.type.tz is not None or column.null_count == len(column):
        return column
    day = column.cast(pa.date32(), safe=False)
    return day if pc.all(pc.equal(day.cast(column.type), column)).as_py() else column


def cells(values: Sequence[Any]) -> pa.ChunkedArray:
    """Return a list of cells as a column; one of several kinds becomes text, cell by cell.

    Arrow alone would read a number among dates as a date of 1970, and cut the hours off times among dates; and it
    imports pandas.
    """
    gone = np.fromiter(map(_gone, values), bool, len(values))
    present = [each for each, missing in zip(values, gone, strict=True) if not missing]
    kinds = {_family(each) for each in set(map(type, present))}
    if not present:
        return pa.chunked_array([pa.nulls(len(values))])
    kind = kinds.pop() if len(kinds) == 1 else "mixture"
    if kind in ("date", "datetime") and not any(getattr(each, "tzinfo", None) for each in present):
        made = np.array(present, "datetime64[D]" if kind == "date" else "datetime64[us]")
    elif kind in ("number", "bool"):
        made = np.array(present)
        kind = kind if made.dtype.kind in "biuf" else "mixture"  # whole numbers that no machine word holds
    elif kind not in ("str", "mixture"):
        return dated(chunked([None if missing else each for each, missing in zip(values, gone, strict=True)]))
    if kind in ("str", "mixture"):
        made = np.empty(len(present), object)
        made[:] = [str(shown(each)) for each in present]
    full = np.full(len(values), "" if made.dtype.kind == "O" else np.zeros((), made.dtype), made.dtype)
    full[~gone] = made
    return dated(column_of(full, gone))


def shown(cell: Any) -> Any:
    """Return a cell as a sheet shows it: of a time at midnight, the date."""
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time() and cell.tzinfo is None:
        return cell.date()
    return cell


def _family(kind: type) -> str:
    if issubclass(kind, numbers.Number) and kind is not bool:
        return "number"
    if issubclass(kind, str):
        return "str"
    return kind.__name__


def _gone(cell: Any) -> bool:
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)
