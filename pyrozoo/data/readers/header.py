"""Whether the first record of a table names its columns. What would lose or invent a record is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from pyrozoo.data.readers.blocks import blocks
from pyrozoo.data.readers.cells import DOUBTFUL, MISSING, is_number, is_text, numbers, plain
from pyrozoo.data.readers.words import LABELS, role_of

LOOKED = 5000
"""Cells of a column that are looked at."""

SURE = 5
"""Columns from which on 0, 1, 2 ... are taken for the names that pandas gives, and not for a record."""

ASK = "set data.header=true if the first line names the columns, data.header=false if it is a record"


def has_header(
    head: Sequence[Any], columns: Sequence[pa.ChunkedArray], decimal: str, asked: Sequence[str], listed: bool
) -> tuple[bool, str | None, str | None]:  # fmt: skip
    """Tell whether the first record names the columns.

    Args:
        head: The first record.
        columns: The others, column by column.
        decimal: The decimal mark.
        asked: Names of columns that settings ask for.
        listed: Whether the data are a list.

    Returns:
        Whether it does, a note where that is a guess, and what is wrong where nobody can tell.
    """
    cells = [str(each if each is not None else "").strip() for each in head]
    if {*asked} & {*cells} or len(columns) == len(cells) + 1:
        return True, None, None
    numeric = [plain(cell, decimal) is not None for cell in cells]
    words = [i for i in range(len(cells)) if cells[i] and not numeric[i]]
    sure = {i for i in words if cells[i].lower() not in MISSING and not DOUBTFUL.fullmatch(cells[i])}
    if any(i in sure and is_number(column) and _has_some(column) for i, column in enumerate(columns)):
        return True, None, None  # a word over numbers: no cell need be looked at
    body = _look(columns, decimal)
    if not body or not any(each for _, each in body):
        return not any(numeric), None, None
    if any(i in sure and kind == "numbers" for i, (kind, _) in enumerate(body)):
        return True, None, None
    if not any(numeric):
        return _among_words(cells, body, listed)
    return _among_numbers(cells, numeric, body)


def _has_some(column: pa.ChunkedArray) -> bool:
    """Return whether one of the first cells of a column of numbers has one."""
    part = column.slice(0, LOOKED)
    if pa.types.is_floating(part.type):
        return bool(np.isfinite(numbers(part)[0]).any())
    return part.null_count < len(part)


def _look(columns: Sequence[pa.ChunkedArray], decimal: str) -> list[tuple[str, list[str]]]:
    """Return whether the first cells of columns are numbers, text or neither, and the cells that there are."""
    parts = [column.slice(0, LOOKED) for column in columns]
    found = {at: _of_others(part, decimal) for at, part in enumerate(parts) if not is_text(part)}
    texts = [at for at in range(len(parts)) if at not in found]
    for block in blocks([parts[at] for at in texts]):
        block = block.stripped()  # in which missing cells are -1
        words = [each.strip() for each in block.found.to_pylist()]
        known = [plain(each, decimal) is not None or bool(DOUBTFUL.fullmatch(each)) for each in words]
        sums = np.array([*known, False])[block.codes].sum(1)
        for place, codes, numeric in zip(block.places, block.codes, sums, strict=True):
            cells = [words[code] for code in codes[codes >= 0].tolist()]
            found[texts[place]] = ("numbers" if 2 * numeric >= len(cells) else "text") if cells else "nothing", cells
    return [found[at] for at in range(len(parts))]


def _of_others(part: pa.ChunkedArray, decimal: str) -> tuple[str, list[str]]:
    """Return the same of a column that is no text."""
    cells = [str(each).strip() for each in part.to_pylist() if each is not None]
    cells = [cell for cell in cells if cell.lower() not in MISSING]
    if not cells or is_number(part):
        return "numbers" if cells else "nothing", cells
    each = Counter(cells).items()  # each spelling is looked at once
    known = sum(count for cell, count in each if plain(cell, decimal) is not None or DOUBTFUL.fullmatch(cell))
    return "numbers" if 2 * known >= len(cells) else "text", cells


def _among_words(
    cells: list[str], body: list[tuple[str, list[str]]], listed: bool
) -> tuple[bool, str | None, str | None]:
    """Decide where all of the first record is text: names do not occur again among the cells below them."""
    there = [cell for cell in cells if cell]
    if len({*there}) < len(there):
        return False, "the first line holds a cell twice: it is a record, and columns have no names (data.header)", None
    again = [cell in {*each} for cell, (_, each) in zip(cells, body, strict=False) if cell]
    if any(again):
        times = [list(line) for line in zip(*(each for _, each in body), strict=False)].count(cells)
        alike = all(each.count(cell) == times for cell, (_, each) in zip(cells, body, strict=False))
        if times and alike and len(cells) > 1 and 3 * times < len(body[0][1]):  # files put together, or a record twice
            return True, None, f"{times} more lines are {', '.join(cells[:3])}, as the first one is: {ASK}"
        return False, "cells of the first line occur again below it: it is a record (data.header)", None
    few = any(len(each) >= 8 and len({*each}) <= len(each) / 2 for _, each in body)
    if few or not listed or any(LABELS.fullmatch(cell) or role_of(cell) for cell in there):
        return True, None, None
    return True, None, f"nobody can tell whether {', '.join(map(repr, there[:3]))} are names or a record: {ASK}"


def _among_numbers(
    cells: list[str], numeric: list[bool], body: list[tuple[str, list[str]]]
) -> tuple[bool, str | None, str | None]:  # fmt: skip
    """Decide where some of the first record are numbers: years, or the places that pandas and R give for names."""
    values = [plain(cell) for cell, is_one in zip(cells, numeric, strict=True) if is_one]
    beside = [cell for cell, is_one in zip(cells, numeric, strict=True) if not is_one]
    whole = [int(value) for value in values if value is not None and float(value).is_integer()]
    steps = {later - earlier for earlier, later in pairwise(whole)}
    places = len(whole) == len(values) and steps <= {1} and whole[0] in (0, 1)
    below = [plain(cell) for (kind, each), is_one in zip(body, numeric, strict=False) if is_one for cell in each]
    known = [value for value in below if value is not None]
    outside = bool(known) and all(not min(whole, default=0) <= value <= max(whole, default=0) for value in known)
    years = len(whole) == len(values) and all(1800 <= each <= 2200 for each in whole) and sorted({*whole}) == whole
    labelled = len(beside) == 1 and not numeric[0] and bool(LABELS.fullmatch(cells[0]) or role_of(cells[0]))
    if labelled and cells[0]:
        return True, None, None
    if len(beside) == 1 and not cells[0] and _counts(body[0][1]):
        return True, None, None
    fractions = bool(known) and sum(not float(value).is_integer() for value in known) > len(known) / 2
    if places and (len(whole) >= SURE or (fractions and len(whole) > 1)):
        return (
            True,
            f"the first line, {', '.join(cells[:3])} ..., counts the columns: it names them (data.header)",
            None,
        )
    alone = years and not any(1800 <= value <= 2200 for value in known)
    single = len(whole) == 1 and ((places and whole[0] == 0) or alone) and _called(cells, body)
    if (places and len(whole) > 1) or (years and not outside and len(whole) > 1) or single:
        return True, None, f"the first line is {', '.join(cells[:6])}: {ASK}"
    if years and outside:
        return True, f"the first line holds years: they name the columns ({cells[-1]} ...; data.header)", None
    return False, "the first line holds numbers: it is a record, and columns have no names (data.header)", None


def _called(cells: list[str], body: list[tuple[str, list[str]]]) -> bool:
    """Return whether one number may be the name of a column: it is alone, or beside names of rows."""
    labels = body[0][1]
    return len(cells) == 1 or (len(cells) == 2 and body[0][0] == "text" and len({*labels, cells[0]}) == len(labels) + 1)


def _counts(cells: Sequence[str]) -> bool:
    """Return whether cells are text, or 0, 1, 2 ... or 1, 2, 3 ...: names of rows as pandas and R write them."""
    first = plain(cells[0]) if cells else None
    return bool(cells) and (first is None or list(cells) == [str(int(first) + i) for i in range(len(cells))])
