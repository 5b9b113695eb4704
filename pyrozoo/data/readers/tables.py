"""Tables: which columns are data, which one names the rows, and what is wrong with cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.data.readers.arrow import distinct, holds, mask_of_true, numeric
from pyrozoo.data.readers.blocks import Block, blocks, numbers_in
from pyrozoo.data.readers.cells import (
    CODES,
    DOUBTFUL,
    EVASIVE,
    TRUE,
    Bad,
    is_text,
    named,
    numbers,
    plain,
    texts,
)
from pyrozoo.data.readers.labels import Labels, some
from pyrozoo.data.readers.raw import Raw
from pyrozoo.data.readers.reading import Reading
from pyrozoo.data.readers.words import (
    IDS,
    LABELS,
    MAYBE_TOTAL,
    TOTAL,
    UNNAMED,
    apart,
    as_typed,
    listed,
    no_column,
    place,
    places,
)

MOST_ROWS = 10_000_000
"""Rows that a column of frequencies may make of a table."""

DATE = re.compile(r"\d{1,4}[-./ ](\d{1,2}|\w{3,9})[-./ ]\d{2,4}\b|\d{4}-\d\d")

BLOCK = 4096
"""Rows that are put together at a time."""

LOOKED = 1000
"""Rows that tell whether a column may be the sum of the others."""

FEW = 3
"""Words that a column of numbers may hold, however often: these are asked about."""

COUNTED = 4
"""Rows from which on a column that counts them is told so."""

UNIT = re.compile(
    r"[-+(]*[$\u20ac\xa3\xa5]\s?\d[\d.,' ]*\)?|\(\d[\d.,]*\)|[-+]?\d[\d.,' ]*(\s?[%\u2030$\u20ac\xa3\xa5]|"
    r"\s(k?g|[kcm]?m|m[l2\xb2]|l|h|s|min|eur|usd|chf|gbp|\xb0?c))", re.I
)  # fmt: skip
"""Numbers with a sign or a unit beside them."""

APART = 2
"""A code such as 999 must occur so often to be taken for one."""


def read_into(reading: Reading, raw: Raw, names: Sequence[str]) -> None:
    """Choose columns and read them, collecting all problems.

    Args:
        reading: What is found goes here.
        raw: The source.
        names: Names of its columns.
    """
    if reading.wanted.cells != "categories" and raw.codes:
        raw = replace(raw, columns=[raw.codes.get(i, column) for i, column in enumerate(raw.columns)])
    twice = [name for name, count in Counter(names).items() if count > 1]
    for name in twice:
        hint = " (if the first line does not name the columns, set data.header=false)" if raw.head else ""
        reading.problems.append(f"column name {name!r} appears twice{hint}")
    left_out = _excluded(reading, names)
    label = None if twice else _label_column(reading, raw, names, left_out)
    roles = {role: _asked(reading, names, role) for role in ("exposure", "frequency")}
    apart = {*left_out, *(each for each in (label, *roles.values()) if each is not None)}
    chosen = _chosen(reading, raw, names, apart)
    rows = _row_names(reading, raw, label)
    kept = _kept_rows(reading, raw, rows)
    reading.rows = some(rows, kept) if len(kept) < len(rows) else rows
    reading.lines, reading.places = kept, chosen
    reading.label_column = None if label is None else names[label]
    if behind := [names[i] for i in chosen if i in raw.codes and reading.wanted.cells != "categories"]:
        reading.notes.append(f"of labelled columns the numbers behind the labels are taken: {listed(behind)}")
    columns = [raw.columns[i] if len(kept) == raw.length else raw.columns[i].take(_index(kept)) for i in chosen]
    first = raw.first + kept
    if reading.wanted.cells == "categories":
        _categories(reading, columns, [names[i] for i in chosen])
    else:
        _numbers(reading, raw, columns, [names[i] for i in chosen], chosen, first)
    for role, at in roles.items():
        if at is not None:
            _weighted(reading, raw, role, names[at], raw.columns[at].take(_index(kept)), first)
    if not reading.problems and not reading.columns and not reading.coded:
        reasons = {**({names[label]: "it names the rows"} if label is not None else {}), **reading.left_out}
        why = "; ".join(f"{name}: {said}" for name, said in list(reasons.items())[:5])
        reading.problems.append("no column is left" + (f" ({why})" if why else ""))


def _index(kept: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(kept), [None, pa.py_buffer(np.ascontiguousarray(kept, np.int64))])


def _asked(reading: Reading, names: Sequence[str], setting: str) -> int | None:
    """Return the place of a column that a setting asks for."""
    asked = getattr(reading.layout, setting)
    if asked is None:
        return None
    found = place(asked, names)
    if found is None:
        reading.problems.append(no_column(asked, names, setting))
    return found


def _excluded(reading: Reading, names: Sequence[str]) -> set[int]:
    found, all_asked = set(), reading.layout.exclude or ()
    for asked, at in zip(all_asked, places(all_asked, names), strict=True):
        if at is None:
            reading.problems.append(no_column(asked, names, "exclude"))
        else:
            found.add(at)
            reading.left_out[names[at]] = "as data.exclude says"
    return found


# Names of rows --------------------------------------------------------------------------------------------------------


def _label_column(reading: Reading, raw: Raw, names: Sequence[str], left_out: set[int]) -> int | None:
    """Find the column that names the rows: the one that is said, one without a name, or one of identifiers."""
    if reading.layout.row_labels is not None:
        return _asked(reading, names, "row_labels")
    asked = {*places(reading.layout.columns or (), names)}
    free = [i for i in range(len(names)) if i not in left_out and i not in asked]
    if raw.headless or (raw.labels is not None and not raw.counted) or not raw.length:
        return None
    nothing = raw.names is None and reading.facts.get("header") == "no"
    for i in free:
        called = "" if nothing and i == 0 else names[i]
        if called == "x" or (i and UNNAMED.fullmatch(called) and not called.startswith(("U", "_"))):
            continue  # X, X1 and nothing are what programs call a first column; x is data
        labelled = bool(LABELS.fullmatch(apart(called)))
        if i and (nothing or not labelled):
            continue  # what a place is called says nothing
        text = _is_words(raw.columns[i], reading.facts.get("decimal", "."))
        if (nothing and not text) or not (labelled or (text and not _united(raw.columns[i]))):
            continue
        nameless = i == 0 and bool(UNNAMED.fullmatch(called))
        if _names_rows(reading, raw.columns[i], called, text, nameless):
            what = f"column {names[i]!r}" if names[i] and not nothing else "the first column"
            reading.notes.append(f"{what} names the rows (data.row_labels)")
            return i
        known = (nameless and not called) or bool(IDS.fullmatch(apart(called)))
        if known and not nothing and reading.wanted.cells != "categories" and (text or _whole(raw.columns[i])):
            _doubtful_labels(reading, names[i], i)
    if free and free[0] == 0 and raw.length >= COUNTED and reading.wanted.cells != "categories":
        _counting(reading, raw.columns[0], names[0], nothing)
    return None


def _counting(reading: Reading, column: pa.ChunkedArray, name: str, nothing: bool) -> None:
    """Refuse a first column without a name that counts the rows, and note one with a name."""
    if not _names_rows(reading, column, "", False, False):
        return
    if nothing:
        reading.problems.append(
            "the first column counts the rows: data.row_labels=0 says that it names them, data.exclude=[0] leaves it "
            "out, data.columns lists the columns that are data"
        )
    else:
        said = (
            f"column {name!r} counts the rows, and is taken as data: {as_typed('row_labels', name)} says that it names"
        )
        reading.notes.append(f"{said} them, {as_typed('exclude', [name])} leaves it out")


def _names_rows(reading: Reading, column: pa.ChunkedArray, called: str, text: bool, nameless: bool) -> bool:
    """Return whether a column can name the rows: all of its cells differ, and they are words or count the rows."""
    if not is_text(column) and not _whole(column.slice(0, LOOKED)):
        return False
    codes, found = distinct(texts(column) if is_text(column) else column)
    if not len(codes) or (codes < 0).any() or len(found) < len(codes):
        return False
    known = bool(IDS.fullmatch(apart(called)))
    if text:
        labelled = nameless or bool(LABELS.fullmatch(apart(called)))
        return reading.wanted.cells != "categories" or labelled or len(codes) > reading.layout.most_levels
    if not _whole(column):
        return False
    values = numbers(column)[0]
    return known or (values[0] in (0, 1) and bool((np.diff(values) == 1).all()))


def _doubtful_labels(reading: Reading, name: str, at: int) -> None:
    called = repr(name) if name else "without a name"
    asked = name or at
    reading.problems.append(
        f"column {called} may name rows, but is not told apart from data: data.row_labels={asked} says that it does, "
        f"data.exclude=[{asked}] leaves it out, data.columns lists the columns that are data"
    )
    reading.suggest("exclude", asked)


def _united(column: pa.ChunkedArray) -> bool:
    """Return whether most cells of a column of text are numbers with signs or units."""
    words = [each for each in distinct(texts(column))[1].to_pylist()[:1000] if each is not None]
    return 2 * sum(bool(UNIT.fullmatch(word)) for word in words) > len(words)


def _is_words(column: pa.ChunkedArray, decimal: str) -> bool:
    """Return whether a column is text of which no cell is a number, or true or false."""
    if not is_text(column):
        return False
    _, found = distinct(texts(column))
    return len(found) > 0 and not any(
        plain(cell, decimal) is not None or cell.lower() in TRUE for cell in found.to_pylist()[:1000]
    )


def _whole(column: pa.ChunkedArray) -> bool:
    values, bad = numbers(column)
    known = values[~np.isnan(values)]
    return not bad.spelled and len(known) > 0 and bool((known == np.rint(known)).all())


def _row_names(reading: Reading, raw: Raw, label: int | None) -> Sequence[str]:
    """Return the names of all rows."""
    if label is None:
        if raw.labels is not None:
            return raw.labels
        reading.numbered = True
        word = "" if raw.first == 0 and not raw.headless else "row_"  # a frame numbers its rows itself
        return Labels(range(raw.length), word)
    column = raw.columns[label]
    if pa.types.is_integer(column.type) and not column.null_count:
        return Labels(numeric(column, np.int64))
    if pa.types.is_string(column.type) and not column.null_count:
        words = Labels.of(pc.utf8_trim_whitespace(column))
        if not pc.any(pc.equal(words.cells, "")).as_py():
            return words
    names = ["" if each is None else named(each).strip() for each in column.to_pylist()]
    if blank := [i for i, name in enumerate(names) if not name]:
        reading.notes.append(f"{len(blank)} rows have no name: row_{blank[0]} and so on")
        names = [name or f"row_{i}" for i, name in enumerate(names)]
    return names


def _kept_rows(reading: Reading, raw: Raw, rows: Sequence[str]) -> np.ndarray:
    """Return which lines are kept: not those that are excluded, nor blank ones at the end."""
    keep = np.ones(raw.length, bool)
    if raw.head is not None and raw.length and not raw.headless:
        blank = np.ones(raw.length, bool)
        for column in raw.columns:
            words = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            gone = pc.equal(pc.utf8_trim_whitespace(words), "") if is_text(column) else pc.is_null(column)
            blank &= np.array(pc.fill_null(gone, True).to_pylist(), bool) if raw.length < 10_000 else False
            if not blank[-1]:
                break
        end = raw.length
        while end and blank[end - 1] and len(raw.columns) > 1:
            end -= 1
        if end < raw.length:
            keep[end:] = False
            reading.notes.append(f"{raw.length - end} blank lines at the end are left out")
    places: dict[str, list[int]] = {}
    for asked in reading.layout.exclude_rows or ():
        places = places or _by_name(rows)
        word = str(asked).strip()
        found = places.get(word) or ([int(word)] if word.isdecimal() and int(word) < raw.length else [])
        if not found:
            reading.problems.append(f"data.exclude_rows: there is no row {word!r}")
        keep[found] = False
    return np.flatnonzero(keep)


def _by_name(rows: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        found.setdefault(row, []).append(i)
    return found


# Columns --------------------------------------------------------------------------------------------------------------


def _chosen(reading: Reading, raw: Raw, names: Sequence[str], apart: set[int]) -> list[int]:
    """Return the places of the columns that are data, in the order in which they are asked for."""
    if reading.layout.columns:
        chosen: dict[int, None] = {}
        for asked, at in zip(reading.layout.columns, places(reading.layout.columns, names), strict=True):
            if at is None:
                reading.problems.append(no_column(asked, names, "columns"))
            elif at in chosen:
                reading.problems.append(f"data.columns asks for column {names[at]!r} twice")
            else:
                chosen[at] = None
        for i, name in enumerate(names):
            if i not in chosen and i not in apart:
                reading.left_out[name] = "not among data.columns"
        return [*chosen]
    found = []
    for i, name in enumerate(names):
        if i in apart:
            continue
        if not raw.headless and raw.columns[i].null_count == raw.length and (not name or name.startswith("column_")):
            reading.left_out[name or f"column_{i}"] = "it has neither a name nor a cell"
            continue
        found.append(i)
    return found


def _numbers(
    reading: Reading, raw: Raw, columns: Sequence[pa.ChunkedArray], names: Sequence[str], places: Sequence[int],
    first: np.ndarray,
) -> None:  # fmt: skip
    """Read columns of numbers; those of text or times are left out, unless they are asked for."""
    missing, decimal = reading.layout.missing or (), reading.facts.get("decimal", ".")
    found, kept, at = [], [], []
    read = numbers_in([each for each in columns if not pa.types.is_temporal(each.type)], decimal, missing)
    for column, name, where in zip(columns, names, places, strict=True):
        if pa.types.is_temporal(column.type):
            _no_numbers(reading, name, "holds dates or times")
            continue
        values, bad = next(read)
        if bad.spelled and (np.isnan(values).all() or (bad.count > len(values) / 2 and len(bad.spelled) > FEW)):
            dates = sum(bool(DATE.match(cell)) for cell in bad.spelled) > len(bad.spelled) / 2
            example = next(iter(bad.spelled))
            if sum(bool(UNIT.fullmatch(cell)) for cell in bad.spelled) > len(bad.spelled) / 2:
                reading.problems.append(
                    f"column {name!r} holds numbers with signs or units, such as {example!r}: take these off; "
                    f"{as_typed('exclude', [name])} leaves the column out"
                )
                continue
            if reading.wanted.cells == "mixed" and not dates:
                reading.coded[name] = where
                continue
            _no_numbers(reading, name, f"holds {'dates' if dates else 'text'}, such as {example!r}")
            continue
        if bad.spelled:
            _bad_cells(reading, name, bad, raw, first)
        if bad.truth:
            reading.notes.append(f"column {name!r}: true is 1 and false is 0")
        found.append(values)
        kept.append(name)
        at.append(where)
        _codes(reading, name, values)
        if reading.wanted.cells == "counts":
            _counts(reading, name, values, raw, first)
    reading.columns, reading.places = kept, at
    if left := [f"{name!r} {why}" for name, why in reading.left_out.items() if why.startswith("holds ")]:
        reading.notes.append(f"columns left out: {listed(left)}")
    if found and len(found[0]):
        reading.values = _beside(found, reading.wanted.dtype)
        _totals(reading, found)
        if np.isinf(reading.values).any():
            row, column = (int(i) for i in np.argwhere(np.isinf(reading.values))[0])
            reading.problems.append(f"row {reading.rows[row]!r}, column {kept[column]!r} is infinite")
    elif found:
        reading.problems.append("the table is empty: it has no rows")


def _no_numbers(reading: Reading, name: str, why: str) -> None:
    if reading.layout.columns:
        reading.problems.append(f"column {name!r} {why}: leave it out of data.columns")
    else:
        reading.left_out[name] = why


def _bad_cells(reading: Reading, name: str, bad: Bad, raw: Raw, first: np.ndarray) -> None:
    """Say which cells of a column are no numbers: how they are spelled, how many, and where the first one is."""
    spelled = sorted(bad.spelled.items(), key=lambda each: (-each[1][0], each[1][1]))
    said = []
    for cell, (count, where) in spelled[:3]:
        times = f"{count} times, first in " if count > 1 else ""
        said.append(f"{cell!r} is not a number ({times}{raw.unit} {first[where]})")
    more = f" and {len(spelled) - 3} more spellings" if len(spelled) > 3 else ""
    reading.problems.append(f"column {name!r}: {', '.join(said)}{more}")
    if len(spelled) <= 3 or all(DOUBTFUL.fullmatch(cell) for cell in bad.spelled):
        reading.suggest("missing", *(cell for cell, _ in spelled))
    else:
        reading.suggest("exclude", name)


def _codes(reading: Reading, name: str, values: np.ndarray) -> None:
    """Refuse or note numbers that look like codes of a missing one, unless ``data.missing`` has been said."""
    if reading.layout.missing is not None or not len(values):
        return
    known = values[~np.isnan(values)]
    ends = {float(known.min()), float(known.max())} if len(known) else set()
    for code in (each for each in CODES if each in ends):  # a code stands at an end, apart from all others
        at = known == code
        others = known[~at]
        if int(at.sum()) < APART or not len(others) or code in others:
            continue
        low, high = float(others.min()), float(others.max())
        if code < 0 <= low and -code > high - low and code != CODES[0]:
            reading.problems.append(
                f"column {name!r}: {code:g} occurs {int(at.sum())} times where all others are at least {low:g}: "
                "data.missing=[] takes it as it is"
            )
            reading.suggest("missing", f"{code:g}")
        elif abs(code) > max(abs(high), abs(low)) and (code < low or code - high > high - low):
            reading.notes.append(
                f"column {name!r}: {code:g} occurs {int(at.sum())} times, far from all others (at most {high:g}): if "
                f"it means missing, set data.missing=[{code:g}]"
            )


def _counts(reading: Reading, name: str, values: np.ndarray, raw: Raw, first: np.ndarray) -> None:
    """Refuse what is no count."""
    with np.errstate(invalid="ignore"):
        for wrong, what in ((values < 0, "is negative"), (values != np.rint(values), "is not a whole number")):
            wrong = wrong & ~np.isnan(values) & ~np.isinf(values)
            if what != "is negative":
                wrong &= values >= 0
            if wrong.any():
                at = int(wrong.argmax())
                more = f", and {int(wrong.sum()) - 1} more such" if wrong.sum() > 1 else ""
                reading.problems.append(
                    f"row {reading.rows[at]!r} ({raw.unit} {first[at]}), column {name!r}: {values[at]:g} {what}{more}; "
                    "counts are needed"
                )
                code = float(values[wrong][0])
                if what == "is negative" and code in CODES and (values[wrong] == code).all():
                    reading.suggest("missing", f"{code:g}")
                else:
                    reading.suggest("exclude", name)


def _totals(reading: Reading, columns: Sequence[np.ndarray]) -> None:
    """Note rows that are the sum of all others, and columns."""
    for i in _total_rows(columns):
        row = reading.rows[i]
        known = sum(bool(np.nan_to_num(column[i]) != 0) for column in columns)
        if known >= 2 or (known and TOTAL.fullmatch(row)):
            called = i if reading.numbered else row
            setting = as_typed("exclude_rows", [called])
            reading.notes.append(f"row {row!r} is the sum of the others: {setting} leaves it out")
            reading.suggest("exclude_rows", called)
    for row in () if reading.numbered else _called_totals(reading.rows):
        if row not in reading.advice.get("exclude_rows", ()):
            setting = as_typed("exclude_rows", [row])
            reading.notes.append(
                f"row {row!r} is called as a total is, and is not the sum of the others: {setting} leaves it out"
            )
    for j in _total_columns(columns):
        name = reading.columns[j]
        reading.notes.append(f"column {name!r} is the sum of the others: {as_typed('exclude', [name])} leaves it out")
        reading.suggest("exclude", name)


def _called_totals(rows: Sequence[str]) -> list[str]:
    """Return the names of rows that are called as totals are; most names are told apart without Python."""
    if isinstance(rows, Labels):
        if not isinstance(rows.cells, pa.Array):
            return []  # numbers
        rows = rows.take(mask_of_true(pc.match_substring_regex(rows.arrow(), MAYBE_TOTAL, ignore_case=True)))
    return [row for row in rows if TOTAL.fullmatch(row)]


def _total_rows(columns: Sequence[np.ndarray]) -> list[int]:
    """Return the rows each of whose cells is half of its column's sum: the sum of the others."""
    count = len(columns[0])
    rows = np.arange(count) if count >= 3 else np.arange(0)
    for column in columns:
        if not len(rows):
            break
        here, total = column[rows], float(np.nansum(column))
        with np.errstate(invalid="ignore"):
            rows = rows[np.isnan(here) | (np.abs(2 * here - total) <= 1e-9 * max(1.0, abs(total)))]
    return rows.tolist()


def _total_columns(columns: Sequence[np.ndarray]) -> list[int]:
    """Return the columns that are the sum of the others, of three columns or more; a few rows tell most apart."""
    count, chosen = len(columns[0]), list(range(len(columns)))
    if len(columns) < 3 or count < 2:
        return []
    for size in sorted({min(LOOKED, count), count}):
        total = np.zeros(size)
        for column in columns:
            total += np.nan_to_num(column[:size])
        chosen = [j for j in chosen if _is_total(columns[j][:size], total)]
        if not chosen:
            break
    return chosen


def _is_total(column: np.ndarray, total: np.ndarray) -> bool:
    """Return whether a column is half of each row's sum, and has two cells or more that are not 0."""
    with np.errstate(invalid="ignore"):
        same = np.isnan(column) | (np.abs(2 * column - total) <= 1e-9 * np.maximum(1.0, np.abs(total)))
    return bool(same.all()) and int(((column != 0) & ~np.isnan(column)).sum()) >= 2


def _beside(columns: Sequence[np.ndarray], dtype: str) -> np.ndarray:
    """Return columns as a table, in blocks of rows that stay in the cache; in double precision where it must be."""
    kind = np.dtype(dtype)
    if kind == np.float32 and not all(holds(column) for column in columns):
        kind = np.dtype(np.float64)
    values = np.empty((len(columns[0]), len(columns)), kind)
    for start in range(0, len(values), BLOCK):
        for j, column in enumerate(columns):
            values[start : start + BLOCK, j] = column[start : start + BLOCK]
    return values


def _categories(reading: Reading, columns: Sequence[pa.ChunkedArray], names: Sequence[str]) -> None:
    """Take columns of categories, and say which have too many."""
    layout = reading.layout
    reading.answers = [block.without(layout.missing or ()) for block in blocks(columns)]
    reading.columns = list(names)
    said = [_looked_at(block, layout.most_levels, layout.missing is None) for block in reading.answers]
    for at, levels, counts in sorted((each for part in said for each in part), key=lambda each: each[0]):
        name = names[at]
        if len(levels) > layout.most_levels:
            numeric = all(plain(level) is not None for level in levels)
            about = ("it looks like a numeric column; cut it into classes" if numeric else
                     "are they identifiers or free text? merge some")  # fmt: skip
            reading.problems.append(
                f"column {name!r} has {len(levels)} categories, more than {layout.most_levels}: {about}, or leave it "
                f"out (data.exclude; data.most_levels={len(levels)} takes them)"
            )
            reading.suggest("exclude", name)
        else:
            _doubtful_answers(reading, name, levels, counts)
    if not reading.rows:
        reading.problems.append("the survey is empty: it has no rows")


def _looked_at(block: Block, most: int, doubtful: bool) -> list[tuple[int, list[str], list[int]]]:
    """Return the columns of a block that something is to be said of.

    Args:
        block: The columns.
        most: Categories that are not too many.
        doubtful: Whether to look for answers that may mean that there is none.

    Returns:
        The column, its categories in the order in which they occur, and how often each does.
    """
    words = is_text(block.found)
    block = block.stripped() if words else block
    column, code, first, of_cell = block.pairs()
    counts = np.bincount(of_cell[of_cell >= 0], minlength=len(code))
    if block.ranked:  # numbers or times that a file has put in order, those that do not occur, too
        count = np.zeros((len(block.places), len(block.found)), np.int64)
        count[column, code] = counts
        column, code = (each.ravel() for each in np.indices(count.shape))
        first, counts = code, count.ravel()
    levels = np.array([str(named(each)) for each in block.found.to_pylist()], dtype=object)
    starts = np.searchsorted(column, np.arange(len(block.places) + 1))
    chosen = np.diff(starts) > most
    if doubtful:
        chosen[column[np.array([_is_doubtful(level) for level in levels], bool)[code]]] = True
    found = []
    for at in np.flatnonzero(chosen).tolist():
        part = starts[at] + np.argsort(first[starts[at] : starts[at + 1]])
        found.append((block.places[at], levels[code[part]].tolist(), counts[part].tolist()))
    return found


def _is_doubtful(level: str) -> bool:
    """Return whether a level may mean that there is no answer, whatever the others are."""
    return bool(DOUBTFUL.fullmatch(level) or EVASIVE.fullmatch(level)) or plain(level) in CODES


def _doubtful_answers(reading: Reading, name: str, levels: Sequence[str], counts: Sequence[int]) -> None:
    """Refuse answers such as -, and codes such as -99, that may stand for a missing one."""
    values = {level: plain(level) for level in levels}
    others = [value for value in values.values() if value is not None and value not in CODES]
    for level, count in zip(levels, counts, strict=True):
        numeric = len(others) == len(levels) - 1 and all(0 <= v <= 20 for v in others)
        code = values[level] in CODES and (numeric or (not others and (values[level] or 0) < 0))
        if DOUBTFUL.fullmatch(level) or (code and (values[level] or 0) < 0):
            reading.problems.append(
                f"column {name!r}: {level!r} ({count} times) may mean that there is no answer: data.missing=[] takes "
                "it as a category"
            )
            reading.suggest("missing", level)
        elif EVASIVE.fullmatch(level):
            setting = as_typed("missing", [level])
            reading.notes.append(f"column {name!r}: {level!r} is a category; {setting} takes it as no answer")
        elif code:
            reading.notes.append(
                f"column {name!r}: {level} is a category; data.missing=[{level}] takes it as no answer"
            )


def _weighted(reading: Reading, raw: Raw, role: str, name: str, column: pa.ChunkedArray, first: np.ndarray) -> None:
    """Read the exposure of rows, or repeat rows as often as a column says."""
    values, bad = numbers(column, reading.facts.get("decimal", "."), reading.layout.missing or ())
    if bad.spelled:
        _bad_cells(reading, name, bad, raw, first)
        return
    wrong = ~(values > 0) | np.isinf(values) if role == "exposure" else ~(values >= 0) | (values != np.rint(values))
    if wrong.any():
        at = int(wrong.argmax())
        needed = "positive numbers" if role == "exposure" else "whole numbers from 0"
        given = "missing" if np.isnan(values[at]) else f"{values[at]:g}"
        reading.problems.append(f"column {name!r}, {raw.unit} {first[at]}: {given}; data.{role} needs {needed}")
        return
    if role == "exposure":
        reading.exposure = values
        return
    if values.sum() > MOST_ROWS:
        reading.problems.append(f"data.frequency: column {name!r} makes {values.sum():.0f} rows, more than {MOST_ROWS}")
        return
    index = np.repeat(np.arange(len(values)), values.astype(int))
    if not len(index):
        reading.problems.append(f"data.frequency: column {name!r} leaves no row")
        return
    assert reading.lines is not None
    reading.notes.append(f"each line counts as often as column {name!r} says: {len(index)} rows")
    reading.rows = some(reading.rows, index)
    reading.lines = reading.lines[index]
    reading.values = None if reading.values is None else reading.values[index]
    reading.answers = None if reading.answers is None else [each.taken(index) for each in reading.answers]
    reading.exposure = None if reading.exposure is None else reading.exposure[index]
