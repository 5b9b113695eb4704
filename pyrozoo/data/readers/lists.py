"""Lists of row, column and value: which column says what, labels by number or letter, and what is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pyrozoo.data.readers.arrow import distinct, numeric
from pyrozoo.data.readers.cells import DOUBTFUL, Bad, is_number, is_text, named, numbers, plain, texts
from pyrozoo.data.readers.identifiers import places
from pyrozoo.data.readers.labels import Labels, some
from pyrozoo.data.readers.raw import Raw
from pyrozoo.data.readers.reading import Entries, Reading
from pyrozoo.data.readers.words import listed, no_column, place, role_of

ROLES = ("row", "column", "value")

EPOCH = 1e8
"""Numbers from which on times are seconds since 1970, and from a thousand times that milliseconds."""

MOSTLY = 0.7
"""Share of lines with a pair of their own in what may be a list."""

SORTED = 10
"""Lines from which on a sorted first column says that a table is a list."""


def looks_listed(raw: Raw, names: Sequence[str], headed: bool, decimal: str) -> tuple[bool | None, str]:
    """Tell whether columns are a list of row, column and value.

    Args:
        raw: The source.
        names: Names of its columns.
        headed: Whether somebody gave these names.
        decimal: The decimal mark.

    Returns:
        True, False, or None where nobody can tell; and why.
    """
    if raw.facts.get("layout") == "list":
        return True, "it is a sparse matrix"
    roles = [role_of(name) if headed else None for name in names]
    if called_so(names, headed):
        return True, f"columns are called {listed(names[:3])}"
    if not 2 <= len(names) <= 4 or not raw.length:
        return False, f"it has {len(names)} columns"
    first, second = (distinct(texts(each) if is_text(each) else each) for each in raw.columns[:2])
    words = [
        is_text(each) and not _numbers_in(found) for each, (_, found) in zip(raw.columns, (first, second), strict=False)
    ]
    if len(names) == 2:
        alone = [len(found) == raw.length for _, found in (first, second)]
        whole = (headed and any(roles)) or all(_ids(each, decimal) for each in raw.columns)
        return _pairs(words, alone, whole)
    keys = first[0] * (len(second[1]) + 1) + second[0]
    unique = (found := len(np.unique(keys))) == len(keys)
    repeats = len(first[1]) < raw.length
    if words[0] and not repeats and not words[1]:
        return False, "its first column names rows"
    if any(words) and (repeats or words[1]):
        return True, "its first two columns are names that occur again"
    ids = all(_ids(each, decimal) for each in raw.columns[:2])
    if not ids or found < MOSTLY * len(keys) or not repeats:
        return False, "its first columns are numbers like the others"
    values = numbers(raw.columns[0], decimal)[0]
    if raw.length >= SORTED and unique and bool((np.diff(values) >= 0).all()) and len(second[1]) < raw.length:
        return True, "its first column is sorted numbers that occur again, and no pair occurs twice"
    return None, "its first two columns are whole numbers that occur again"


def called_so(names: Sequence[str], headed: bool) -> bool:
    """Return whether columns are called as those of a list of row, column and value are."""
    roles = {role_of(name) for name in names} if headed else set()
    return {"row", "column"} <= roles and ("value" in roles or len(names) <= 4)


def _pairs(words: Sequence[bool], unique: Sequence[bool], whole: bool) -> tuple[bool | None, str]:
    """Tell whether two columns are pairs, of which the values are left out.

    Args:
        words: Which columns are text.
        unique: Which columns have no cell twice.
        whole: Whether both may be identifiers.
    """
    if all(words):
        return True, "it has two columns of text"
    if words[0] and unique[0]:
        return False, "its first column names rows"
    if words[1] and not unique[1]:
        return True, "its second column is names that occur again"
    if any(words) or whole:
        return None, "it has two columns"
    return False, "it has two columns"


def _numbers_in(found: pa.Array) -> bool:
    return any(plain(cell) is not None for cell in found.to_pylist()[:1000])


def _ids(column: pa.ChunkedArray, decimal: str) -> bool:
    values, bad = numbers(column.slice(0, 100_000), decimal)
    return not bad.spelled and bool(np.isfinite(values).all()) and bool((values == np.rint(values)).all())


def read_into(reading: Reading, raw: Raw, names: Sequence[str], headed: bool) -> None:
    """Read a list, collecting all problems.

    Args:
        reading: What is found goes here.
        raw: The source.
        names: Names of its columns.
        headed: Whether somebody gave these names.
    """
    for name in [name for name, count in Counter(names).items() if count > 1]:
        reading.problems.append(f"column name {name!r} appears twice")
    layout, where = reading.layout, _roles(reading, raw, names, headed)
    for setting in ("row_labels", "columns", "exclude", "exclude_rows", "frequency"):
        if getattr(layout, setting) is not None:
            reading.problems.append(f"data.{setting} has no meaning for a list of row, column and value")
    if reading.problems:
        return
    reading.label_column = names[where["row"]] if headed and raw.shape is None else None
    values = _values(reading, raw, names, where)
    codes: list[np.ndarray] = []
    called: list[Sequence[str]] = []
    for axis in ("row", "column"):
        its, words = _places(raw.columns[where[axis]], raw, reading, axis)
        codes.append(its)
        called.append(words)
    keep = _left_out(reading, values)
    if reading.problems:
        return
    late, keep = _later(reading, raw, names, codes, keep)
    for axis, label in (("row", layout.row_label), ("column", layout.column_label)):
        if label is not None:
            at = ("row", "column").index(axis)
            called[at] = _spelled(reading, raw, names, codes[at], called[at], label, axis, values)
    lines = None
    if not keep.all():
        codes, values = [each[keep] for each in codes], values[keep]
        lines, late = np.flatnonzero(keep), None if late is None else late[keep]
        codes, called = _used(codes, called)
    reading.entries = Entries(codes[0], called[0], codes[1], called[1], values, late)
    reading.rows, reading.columns, reading.lines = called[0], called[1], lines
    if layout.exposure is not None and not reading.problems:
        _exposure(reading, raw, names, codes[0], keep, len(called[0]))
    if raw.shape is not None and not is_text(raw.columns[where["row"]]):  # texts and their words have names
        _whole_shape(reading, raw.shape)
    if not len(values):
        reading.problems.append("the list is empty")


def _exposure(
    reading: Reading, raw: Raw, names: Sequence[str], rows: np.ndarray, keep: np.ndarray, count: int
) -> None:  # fmt: skip
    """Read the exposure of each row of a list, which all of its lines must state alike."""
    at = place(reading.layout.exposure, names)
    if at is None:
        reading.problems.append(no_column(reading.layout.exposure, names, "exposure"))
        return
    values, bad = numbers(raw.columns[at], reading.facts.get("decimal", "."), reading.layout.missing or ())
    values, lines = values[keep], np.flatnonzero(keep)
    wrong = ~(values > 0) | np.isinf(values)
    if bad.spelled or wrong.any():
        where = raw.first + (
            int(lines[wrong.argmax()]) if wrong.any() else min(first for _, first in bad.spelled.values())
        )
        reading.problems.append(f"column {names[at]!r}, {raw.unit} {where}: data.exposure needs positive numbers")
        return
    found = np.empty(count)
    found[rows] = values
    if (other := found[rows] != values).any():
        row = int(rows[int(other.argmax())])
        assert reading.entries is not None
        reading.problems.append(
            f"row {reading.entries.row_names[row]!r} has several values of data.exposure ({names[at]})"
        )
        return
    reading.exposure = found


def _whole_shape(reading: Reading, shape: tuple[int, int]) -> None:
    """Give a sparse matrix all of its rows and columns, listed or not."""
    entries = reading.entries
    assert entries is not None
    rows, columns = (np.array([*map(int, each)], np.int64) for each in (entries.row_names, entries.column_names))
    entries.rows, entries.columns = rows[entries.rows], columns[entries.columns]
    entries.row_names, entries.column_names = (
        Labels(range(size), f"{word}_") for word, size in zip(ROLES, shape, strict=False)
    )
    reading.rows, reading.columns = entries.row_names, entries.column_names


# Roles ----------------------------------------------------------------------------------------------------------------


def _roles(reading: Reading, raw: Raw, names: Sequence[str], headed: bool) -> dict[str, int]:
    """Find which columns say row, column and value: as they are said, as they are called, or the first ones."""
    found: dict[str, int] = {}
    for axis in ROLES:
        asked = getattr(reading.layout, axis)
        if asked is not None:
            at = place(asked, names)
            if at is None:
                reading.problems.append(no_column(asked, names, axis))
            else:
                found[axis] = at
    if len({*found.values()}) < len(found):
        reading.problems.append("data.row, data.column and data.value must be three different columns")
    taken = {*found.values()}
    beside = reading.layout.row_label, reading.layout.column_label, reading.layout.time, reading.layout.exposure
    others = {place(each, names) for each in beside}
    free = [i for i in range(len(names)) if i not in taken and i not in others - {None}]
    by_name = {role_of(names[i]): i for i in reversed(free)} if headed else {}
    for axis in ROLES:
        if axis not in found and by_name.get(axis) in free:
            found[axis] = by_name[axis]
            free.remove(found[axis])
    for axis in ("row", "column"):
        if axis not in found and free:
            found[axis] = free.pop(0)
    if "value" not in found:
        usable = [i for i in free if role_of(names[i]) != "time" or not headed]
        numeric = [i for i in usable if _is_value(raw.columns[i], reading)]
        if numeric and (len(names) <= 4 or numeric[0] == usable[0]):
            found["value"] = numeric[0]
        elif usable and len(names) > 2 and not reading.problems:
            reading.problems.append(f"no column says which value: data.value names it, of {listed(names)}")
    if not found.keys() >= {"row", "column"} and not reading.problems:
        reading.problems.append(f"a list has a row and a column in each line; there are {len(names)} columns")
    if reading.problems:
        return found
    said = [names[found[axis]] for axis in ROLES if axis in found]
    if headed or len(names) > 3:
        unsaid = [axis for axis in ROLES if axis in found and getattr(reading.layout, axis) is None]
        if unsaid and [found[axis] for axis in ROLES if axis in found] != [0, 1, 2][: len(said)]:
            setting = " ".join(f"data.{axis}={names[found[axis]]}" for axis in unsaid)
            reading.notes.append(f"row, column and value are {', '.join(said)} ({setting})")
    if "value" not in found:
        reading.notes.append("no column holds values: each line counts as 1")
    for i in range(len(names)):
        if i not in found.values() and i not in others:
            time = " (data.time splits by it)" if role_of(names[i]) == "time" else ""
            reading.left_out[names[i]] = f"not row, column or value{time}"
    if reading.left_out:
        reading.notes.append(f"columns left out: {listed([*reading.left_out])}")
    return found


def _is_value(column: pa.ChunkedArray, reading: Reading) -> bool:
    if is_number(column):
        return True
    if not is_text(column):
        return pa.types.is_null(column.type)
    part = column.slice(0, 10_000)
    _, bad = numbers(part, reading.facts.get("decimal", "."), reading.layout.missing or ())
    return bad.count <= len(part) / 2


def _values(reading: Reading, raw: Raw, names: Sequence[str], where: dict[str, int]) -> np.ndarray:
    """Return the value of each line, NaN where it has none; of true and false lists 1 and 0."""
    if "value" not in where:
        return np.ones(raw.length)
    column, name = raw.columns[where["value"]], names[where["value"]]
    if not is_number(column) and not is_text(column) and not pa.types.is_null(column.type):
        reading.problems.append(f"column {name!r} holds {column.type}, not numbers")
        return np.full(raw.length, np.nan)
    values, bad = numbers(column, reading.facts.get("decimal", "."), reading.layout.missing or ())
    spelled = sorted(bad.spelled.items(), key=lambda each: each[1][1])
    for cell, (count, at) in spelled[:3]:
        times = f" ({count} times)" if count > 1 else ""
        reading.problems.append(f"{raw.unit} {raw.first + at}, column {name!r}: {cell!r} is not a number{times}")
        if DOUBTFUL.fullmatch(cell):
            reading.suggest("missing", cell)
    if len(spelled) > 3:
        reading.problems.append(f"column {name!r}: {len(spelled) - 3} more cells that are no numbers")
    if bad.truth:
        reading.notes.append(f"column {name!r}: true is 1 and false is 0")
    if np.isinf(values).any():
        reading.problems.append(f"{raw.unit} {raw.first + int(np.isinf(values).argmax())}, column {name!r} is infinite")
    if reading.wanted.cells == "counts":
        _counts(reading, raw, values, where)
    return values


def _counts(reading: Reading, raw: Raw, values: np.ndarray, where: dict[str, int]) -> None:
    def pair(at: int) -> str:
        row, column = (named(raw.columns[where[axis]][at].as_py()) for axis in ("row", "column"))
        return f"row {row!r}, column {column!r} ({raw.unit} {raw.first + at})"

    with np.errstate(invalid="ignore"):
        for wrong, what in (
            (values < 0, "is negative"),
            ((values >= 0) & (values != np.floor(values)), "is not a whole number"),
        ):
            if wrong.any() and not np.isinf(values[wrong]).any():
                at, count = int(wrong.argmax()), int(wrong.sum())
                more = f", and {count - 1} more such" if count > 1 else ""
                reading.problems.append(f"{pair(at)}: {values[at]:g} {what}{more}; counts are needed")


def _left_out(reading: Reading, values: np.ndarray) -> np.ndarray:
    """Return which lines are kept: not those with the value that stands for none."""
    unknown = reading.layout.unknown
    keep = np.ones(len(values), bool) if unknown is None else values != unknown
    if not keep.all():
        reading.notes.append(f"{int((~keep).sum())} lines have the value {unknown:.10g}, which is none")
    return keep


# Labels ---------------------------------------------------------------------------------------------------------------


def _places(column: pa.ChunkedArray, raw: Raw, reading: Reading, axis: str) -> tuple[np.ndarray, Labels]:
    """Return the place of each line's label, and the labels in order."""
    found = places(column)
    if found is None:
        reading.problems.append(f"the column of {axis}s holds {column.type}, which names nothing")
        return np.zeros(raw.length, np.int64), Labels(range(0))
    lost = found[0] < 0
    if lost.any():
        more = f" (and {int(lost.sum()) - 1} more)" if lost.sum() > 1 else ""
        reading.problems.append(f"{raw.unit} {raw.first + int(lost.argmax())} has no {axis}{more}")
    return found


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _used(codes: list[np.ndarray], called: list[Sequence[str]]) -> tuple[list[np.ndarray], list[Sequence[str]]]:
    """Leave out labels of which no line is left."""
    for axis in (0, 1):
        there = np.zeros(len(called[axis]), bool)
        there[codes[axis]] = True
        if not there.all():
            codes[axis] = (np.cumsum(there, dtype=np.int32) - np.int32(1))[codes[axis]]
            called[axis] = some(called[axis], np.flatnonzero(there))
    return codes, called


def _spelled(
    reading: Reading, raw: Raw, names: Sequence[str], codes: np.ndarray, called: Sequence[str], label: Any, axis: str,
    values: np.ndarray,
) -> Sequence[str]:  # fmt: skip
    """Return what labels are called by another column: by its spelling with the largest sum of values."""
    at = place(label, names)
    if at is None:
        reading.problems.append(no_column(label, names, f"{axis}_label"))
        return called
    found = most_used(codes, len(called), raw.columns[at], values)
    return told_apart([spelled or name for spelled, name in zip(found, called, strict=True)], called)


def most_used(codes: np.ndarray, count: int, spellings: pa.ChunkedArray, values: np.ndarray) -> list[str | None]:
    """Return for each code the spelling with the largest sum of values, the first of equal ones, and no blank one."""
    spelled, found = distinct(_plain(spellings))
    words = [str(named(each)).strip() for each in found.to_pylist()]
    there = spelled >= 0
    if blank := [i for i, word in enumerate(words) if not word]:
        there &= ~np.isin(spelled, blank)
    keys, first, inverse = np.unique(
        codes[there].astype(np.int64) * (len(words) + 1) + spelled[there], return_index=True, return_inverse=True
    )
    sums = np.bincount(inverse, np.nan_to_num(values[there]), minlength=len(keys))
    result: list[str | None] = [None] * count
    for i in np.lexsort((first, -sums))[::-1].tolist():
        result[int(keys[i] // (len(words) + 1))] = words[int(keys[i] % (len(words) + 1))]
    return result


def told_apart(called: list[str], names: Sequence[str]) -> list[str]:
    """Tell labels that two rows or columns share apart by adding what the data call them."""
    while len({*called}) < len(called):  # again where that made a label which another one has already
        times: dict[str, int] = {}
        for label in called:
            times[label] = times.get(label, 0) + 1
        called = [f"{label} ({name})" if times[label] > 1 else label for label, name in zip(called, names, strict=True)]
    return called


# Time -----------------------------------------------------------------------------------------------------------------


def _later(
    reading: Reading, raw: Raw, names: Sequence[str], codes: Sequence[np.ndarray], keep: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:  # fmt: skip
    """Return which lines are held out since they are later than ``data.holdout_after``, and which are kept."""
    layout = reading.layout
    last = layout.repeated == "last"
    if layout.holdout_after is None and not (layout.time is not None and last):
        if layout.time is not None:
            reading.problems.append(
                "data.time needs data.holdout_after (when the hold-out begins) or data.repeated=last"
            )
        return None, keep
    if layout.time is None:
        reading.problems.append("data.time and data.holdout_after go together: a column, and when the hold-out begins")
        return None, keep
    at = place(layout.time, names)
    if at is None:
        reading.problems.append(no_column(layout.time, names, "time"))
        return None, keep
    times, why = moments(raw.columns[at], layout.holdout_after, reading.facts.get("decimal", "."))
    if times is None:
        reading.problems.append(f"data.time: column {names[at]!r} {why}")
        return None, keep
    clock, after = times
    pairs = codes[0].astype(np.int64) * (int(codes[1].max(initial=0)) + 1) + codes[1]
    if last:
        keep = keep & _latest(pairs, clock, keep)
    if after is None:
        return None, keep
    late = clock > after
    again = late & np.isin(pairs, pairs[~late & keep]) & keep
    if again.any():
        reading.notes.append(
            f"{int(again.sum())} lines after {layout.holdout_after} repeat a pair that is listed before: left out"
        )
    keep, late = keep & ~again, late & ~again
    if not 0 < int((late & keep).sum()) < int(keep.sum()):
        which = "none of the pairs is" if not (late & keep).any() else "all pairs are"
        reading.problems.append(f"data.holdout_after is {layout.holdout_after}: {which} listed after it")
    return late, keep


def _latest(pairs: np.ndarray, clock: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return which lines are the last ones of their pair in time; of equal times the last line."""
    order = np.lexsort((np.arange(len(pairs)), clock, pairs))
    order = order[keep[order]]
    final = np.ones(len(order), bool)
    final[:-1] = pairs[order][1:] != pairs[order][:-1]
    found = np.zeros(len(pairs), bool)
    found[order[final]] = True
    return found


def moments(
    column: pa.ChunkedArray, after: Any, decimal: str
) -> tuple[tuple[np.ndarray, float | None] | None, str]:  # fmt: skip
    """Return times as numbers that can be compared, and ``after`` as such a number; or why that cannot be."""
    import pandas as pd

    spoken = after is not None and not isinstance(after, int | float) and plain(str(after)) is None
    try:
        if is_number(column) and not spoken:
            return (numeric(column), None if after is None else float(after)), ""
        if is_text(column) and not spoken:
            values, bad = numbers(column, decimal)
            if not bad.spelled and not np.isnan(values).any():
                return (values, None if after is None else float(after)), ""
        given = column.to_pandas()
        first, wrong = day_first(column) if is_text(column) else (False, None)
        if wrong is not None:
            return None, wrong
        values, bad = numbers(column, decimal) if is_number(column) or is_text(column) else (np.zeros(0), Bad({}))
        if len(values) and not bad.spelled and np.nanmin(values) >= EPOCH:  # as computers count time
            dates = pd.Series(pd.to_datetime(values, unit="s" if np.nanmin(values) < 1000 * EPOCH else "ms"))
        else:
            dates = pd.to_datetime(given, format="mixed", dayfirst=first)
        if dates.isna().any():
            return None, f"has no time in line {int(dates.isna().to_numpy().argmax()) + 1}"
        zone = dates.dt.tz
        limit = None if after is None else pd.to_datetime(str(after), dayfirst=_SHORT.match(str(after)) is not None)
        limit = limit.tz_localize(zone) if limit is not None and zone is not None and limit.tzinfo is None else limit
        clock = dates.astype("int64").to_numpy().astype(float)
        unit = None if limit is None else limit.as_unit(dates.dt.unit).to_datetime64().astype("int64")
        return (clock, None if unit is None else float(unit)), ""
    except (ValueError, TypeError, OverflowError) as error:
        return None, f"cannot be compared with data.holdout_after={after} ({str(error).splitlines()[0]})"


def day_first(column: pa.ChunkedArray) -> tuple[bool, str | None]:
    """Return whether dates such as 01.02.2020 begin with the day, and what is wrong where they do not tell."""
    found = [match for each in distinct(column)[1].to_pylist() if each and (match := _SHORT.match(each.strip()))]
    first, second = ({int(match[at]) for match in found} for at in (1, 3))
    if not found or max(second) > 12:
        return False, None
    if max(first) > 12 or any(match[2] == "." for match in found):
        return True, None
    return (
        False,
        f"holds dates such as {found[0].string.strip()!r}, which do not tell the day: write 2020-01-31",
    )


_SHORT = re.compile(r"(\d{1,2})([./-])(\d{1,2})[./-](\d{4}|\d\d)(?!\d)")
