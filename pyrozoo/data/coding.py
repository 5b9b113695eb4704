"""Cells become codes: what a category is called, which there are of each column, and in which order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pyrozoo.data.readers.arrow import mask_of_true
from pyrozoo.data.readers.blocks import FEW, Block, split
from pyrozoo.data.readers.cells import MISSING, is_text

ALIKE = frozenset({"string", "integer", "floating", "mixed-integer-float", "boolean", "empty"})
"""Kinds of object columns (as pandas infers them) in which equal cells have equal labels: unlike True and 1."""

AMBIGUOUS = "none"
"""A spelling of a missing answer that might be meant as an answer: a note says how often it occurs."""

WANTED = "categories are text, finite numbers, true or false"


# Names of categories --------------------------------------------------------------------------------------------------


def label_of(cell: Any) -> str | None:
    """Return how a category is called, None where the cell says that it is missing; 3.0 is called 3.

    Raises:
        ValueError: A cell that is neither text, nor a finite number, nor true or false, nor an interval of pandas.cut.
    """
    if isinstance(cell, str):
        stripped = str(cell).strip()
        return None if stripped.lower() in MISSING else stripped
    if isinstance(cell, bool | np.bool_ | pd.Interval):
        return str(cell)
    if not isinstance(cell, Real | Decimal) or isinstance(cell, np.timedelta64):
        raise ValueError("is neither text nor a number")
    if isinstance(cell, Integral):
        return str(int(cell))
    number: Any = cell
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError("is infinite")
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else str(number)


def label_or_none(cell: Any) -> str | None:
    """Return how a category is called, None also where it can be none."""
    try:
        return label_of(cell)
    except ValueError:
        return None


def as_number(level: str) -> float | None:
    """Return the finite number that a level looks like, if any."""
    if "_" in level:  # Python reads 1_000 as a number; nobody else does
        return None
    try:
        number = float(level)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def in_order(levels: Iterable[str]) -> list[str]:
    """Return each level once, as numbers when all of them look like numbers and otherwise alphabetically."""
    distinct = sorted(set(levels))
    numbers = {level: as_number(level) for level in distinct}
    return distinct if None in numbers.values() else sorted(distinct, key=lambda level: numbers[level] or 0.0)


# Blocks ---------------------------------------------------------------------------------------------------------------


def is_objects(kind: Any) -> bool:
    """Return whether a type of pandas is that of any objects."""
    return isinstance(kind, np.dtype) and kind.kind == "O"


def of_frame(frame: pd.DataFrame) -> Iterator[Block]:
    """Tell the cells of a frame's columns apart, those of short columns of one type together."""
    kinds: dict[Any, list[int]] = {}
    for place, kind in enumerate(frame.dtypes):
        key: Any = kind
        if isinstance(kind, pd.CategoricalDtype):
            alike = len(kind.categories) <= FEW and not is_objects(kind.categories.dtype)  # of objects 1 may be True
            key = (str(kind.categories.dtype), *kind.categories) if alike else place
        kinds.setdefault(key, []).append(place)
    for kind, places in kinds.items():
        for part in split(places, len(frame)):
            some: Any = frame if len(part) == frame.shape[1] else frame.iloc[:, [*part]]
            if is_objects(kind):
                yield from _of_objects(part, some.to_numpy().T)
            elif isinstance(kind, np.dtype):
                # As an array where it is one: an index would spell 0.1 in single precision as 0.10000000149.
                yield _of_cells(part, some.to_numpy().T.ravel())
            else:
                arrays: list[Any] = [column.array for _, column in some.items()]
                if isinstance(kind, int | tuple):
                    codes = np.stack([each.codes for each in arrays])
                    yield Block(part, codes, list(arrays[0].categories), ranked=True)
                else:
                    yield _of_cells(part, type(arrays[0])._concat_same_type(arrays) if len(part) > 1 else arrays[0])


def _of_cells(places: Sequence[int], cells: Any) -> Block:
    codes, found = pd.factorize(cells)
    return Block(places, codes.reshape(len(places), -1), list(found))


def _of_objects(places: Sequence[int], cells: np.ndarray) -> Iterator[Block]:
    """Tell objects apart: of several columns together where all are text, for 1 in one may be True in another."""
    flat = np.ascontiguousarray(cells).ravel()
    inferred = pd.api.types.infer_dtype(flat, skipna=True)
    texts = {kind for kind in {*map(type, flat)} if issubclass(kind, str)} if len(places) > 1 else set()
    if len(places) > 1 and not (inferred in ("string", "empty") and texts <= {str, np.str_}):
        for place, column in zip(places, cells, strict=True):
            yield from _of_objects([place], column[None])
    elif inferred in ALIKE:
        yield _of_cells(places, flat)
    else:  # each cell is one of its own
        yield Block(places, np.where(pd.isna(flat), -1, np.arange(len(flat)))[None], flat.tolist())


def of_arrow(block: Block) -> list[Block]:
    """Return blocks of cells as pandas has them: whole numbers are floats in columns with holes."""
    found = block.found
    if found.null_count:  # a category of nothing
        block = block.left(~mask_of_true(found.is_null()))
    if pa.types.is_dictionary(block.kind):
        return [replace(block, found=list(pd.Index(found.to_pandas())))]
    if is_text(found):
        return [replace(block, found=found.to_pylist())]
    series = found.to_pandas()
    cells = series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array
    if not pa.types.is_integer(found.type):
        return [replace(block, found=list(cells))]
    parts = (np.flatnonzero(~block.holes), cells), (np.flatnonzero(block.holes), cells.astype(np.float64))
    return [Block([block.places[i] for i in at.tolist()], block.codes[at], list(its)) for at, its in parts if len(at)]


# Codes ----------------------------------------------------------------------------------------------------------------


@dataclass
class Codes:
    """What columns of categories hold.

    Attributes:
        values: Codes, NaN where a cell is missing, [row, column].
        levels: The names of every column's categories, in the order of their codes.
        wrong: Column -> row of the first cell that is no category, and what it is.
        ambiguous: How many answers are spelled ``AMBIGUOUS``.
    """

    values: np.ndarray
    levels: list[list[str]]
    wrong: dict[int, tuple[int, str]]
    ambiguous: int = 0

    @classmethod
    def of(cls, blocks: Iterable[Block], rows: int, columns: int) -> Codes:
        """Code columns. Of a block only the first column with a cell that is no category is named."""
        found = cls(np.full((rows, columns), np.nan), [[]] * columns, {})
        for block in blocks:
            found.add(block)
        return found

    def add(self, block: Block) -> None:
        """Code the columns of a block."""
        column, code, first, of_cell = block.pairs()
        labels, wrong = _named(block, np.unique(code).tolist())
        if wrong:
            bad = np.flatnonzero(np.isin(code, list(wrong)))
            at = bad[0] if block.ranked else bad[first[bad].argmin()]
            self.wrong[block.places[column[at]]] = int(first[at] % block.codes.shape[1]), wrong[int(code[at])]
        doubtful = [
            i for i in labels if isinstance(block.found[i], str) and block.found[i].strip().lower() == AMBIGUOUS
        ]
        if doubtful:
            self.ambiguous += int(np.isin(block.codes, doubtful).sum())
        words = list(dict.fromkeys(label for label in labels.values() if label is not None))
        place = {word: i for i, word in enumerate(words)}
        word = np.full(len(block.found) + 1, -1)
        word[[*labels]] = [-1 if label is None else place[label] for label in labels.values()]
        position, levels = _ranked(column, word[code], words, len(block.places), block.ranked)
        for its, names in zip(block.places, levels, strict=True):
            self.levels[its] = names
        # The last one is for the pair -1, which is of what is missing.
        self.values[:, block.places] = np.append(position, np.nan)[of_cell].reshape(block.codes.shape).T


def _named(block: Block, used: Sequence[int]) -> tuple[dict[int, str | None], dict[int, str]]:
    """Return how what occurs in a block is called, by code, and what is wrong with what is no category."""
    labels: dict[int, str | None] = {}
    wrong: dict[int, str] = {}
    for code in used:
        value = block.found[code]
        try:
            labels[code] = label_of(value)
        except (ValueError, OverflowError) as error:
            about = str(error) if isinstance(error, ValueError) else "is too large"
            wrong[code] = f"a value of type {type(value).__name__} {about}; {WANTED}"
    return labels, wrong


def _ranked(
    column: np.ndarray, word: np.ndarray, words: Sequence[str], width: int, ranked: bool
) -> tuple[np.ndarray, list[list[str]]]:  # fmt: skip
    """Put the levels of columns in order, each column's own (see ``in_order``).

    Args:
        column: Of each pair its column.
        word: Of each pair the place of its level among ``words``, -1 where it is missing.
        words: The levels of all columns.
        width: How many columns there are.
        ranked: Whether ``words`` are in order.

    Returns:
        The code of each pair, NaN where it is missing, [pair], and the levels of each column.
    """
    count, seen = max(len(words), 1), word >= 0
    orders = [*words] if ranked else sorted(words), in_order(each for each in words if as_number(each) is not None)
    names, places = np.full((2, count), "", object), np.full((2, count), -1)
    for i, order in enumerate(orders):
        place = {each: at for at, each in enumerate(order)}
        names[i, : len(order)], places[i, : len(words)] = order, [place.get(each, -1) for each in words]
    spelled = np.bincount(column[seen], places[1, word[seen]] < 0, minlength=width) > 0  # some are no numbers
    by = np.where(spelled | ranked, 0, 1)
    key = column * count + places[by[column], word]
    levels = np.unique(key[seen])
    of_level, rank = levels // count, levels % count
    starts = np.searchsorted(of_level, np.arange(width + 1))
    position = np.where(seen, np.searchsorted(levels, key) - starts[column], np.nan)
    found = names[by[of_level], rank].tolist()
    return position, [found[start:end] for start, end in itertools.pairwise(starts)]
