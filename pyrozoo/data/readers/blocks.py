"""Columns of categories, many short ones at once: cells of one type are told apart together, and once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.data.readers.arrow import distinct, mask_of_true, strings
from pyrozoo.data.readers.cells import Bad, is_number, is_text, numbers, spelled, texts

CELLS = 2**16
"""Cells of a block: a longer column is one of its own."""

BYTES = 2**30
"""Bytes that are put together: a text of Arrow holds twice as many."""

FEW = 100
"""Categories of which columns are put together where they have the same."""

SPARSE = 4
"""Pairs of a column and what it may hold are counted where they are at most so many times the cells."""


@dataclass(frozen=True)
class Block:
    """Columns of one type.

    Attributes:
        places: Which columns they are.
        codes: Of each cell the place of what it holds among ``found``, -1 where it is missing, [column, row].
        found: What cells hold: an array of Arrow, or a list.
        kind: The type of the columns.
        ranked: Whether ``found`` is in an order that means something.
    """

    places: Sequence[int]
    codes: np.ndarray
    found: Any
    kind: Any = None
    ranked: bool = False

    @property
    def holes(self) -> np.ndarray:
        """Return which columns have missing cells, [column] bool."""
        return np.atleast_1d((self.codes < 0).any(1))

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return what each column holds, by column and code.

        Returns:
            The columns, the codes, the cells where each pair stands first, [pair], and the pair of each cell, -1 where
            it is missing, [cell]; cells are counted column by column.
        """
        width, rows = self.codes.shape
        most, flat = max(len(self.found), 1), self.codes.ravel()
        at = np.flatnonzero(flat >= 0)
        key = flat[at].astype(np.int64) + (most * (at // rows) if width > 1 else 0)
        of_cell = np.full(len(flat), -1)
        if width * most > SPARSE * len(flat):
            pair, first, of_cell[at] = np.unique(key, return_index=True, return_inverse=True)
            return pair // most, pair % most, at[first], of_cell
        first = np.full(width * most, -1)
        first[key[::-1]] = at[::-1]  # of several the last one stays
        pair = np.flatnonzero(first >= 0)
        place = np.empty(width * most, np.int64)
        place[pair] = np.arange(len(pair))
        of_cell[at] = place[key]
        return pair // most, pair % most, first[pair], of_cell

    def taken(self, index: np.ndarray) -> Block:
        """Return some rows, in an order."""
        return replace(self, codes=self.codes[:, index])

    def without(self, missing: Sequence[Any]) -> Block:
        """Return the block with what says that a cell is missing as missing; text is stripped."""
        if not missing or not (is_text(self.found) or is_number(self.found)):
            return self
        if is_text(self.found):
            return self.stripped(missing)
        gone = pc.is_in(self.found.cast(pa.string()), strings(str(each).strip() for each in missing))
        return self.left(~mask_of_true(gone))

    def left(self, there: np.ndarray) -> Block:
        """Return the block with some of what cells hold as missing, where ``there`` is false."""
        codes = np.append(np.where(there, np.arange(len(there)), -1), -1)
        return replace(self, codes=codes.astype(np.int32)[self.codes])

    def stripped(self, missing: Sequence[Any] = ()) -> Block:
        """Return columns of text without blanks around it; words for a missing cell are one."""
        codes, found = distinct(texts(pa.chunked_array([self.found]), missing), np.int32)
        return Block(self.places, np.append(codes, np.int32(-1))[self.codes], found, found.type)


def blocks(columns: Sequence[pa.ChunkedArray]) -> Iterator[Block]:
    """Tell the cells of columns apart, those of short columns of one type together."""
    rows = len(columns[0]) if columns else 0
    kinds: dict[Any, list[int]] = {}
    for place, column in enumerate(columns):
        key: Any = column.type
        if pa.types.is_dictionary(key) and column.num_chunks:
            levels = column.chunk(0).dictionary  # all chunks have the same: readers see to it
            key = (key, *levels.to_pylist()) if len(levels) <= FEW else place
        kinds.setdefault(key, []).append(place)
    for places in kinds.values():
        for part in split(places, rows):
            yield _block(columns, part, rows)


def _block(columns: Sequence[pa.ChunkedArray], places: Sequence[int], rows: int) -> Block:
    whole = columns[places[0]]
    kind, ranked = whole.type, pa.types.is_dictionary(whole.type)
    if len(places) > 1 and rows:
        whole = pa.chunked_array([chunk for place in places for chunk in columns[place].chunks], kind)
        whole = pa.chunked_array([pa.concat_arrays(whole.chunks)]) if whole.nbytes < BYTES else whole
    codes, found = distinct(whole, np.int32)
    return Block(places, codes.reshape(len(places), rows), found, kind, ranked)


def split(places: Sequence[int], rows: int) -> list[Sequence[int]]:
    """Return places of columns of one type, as many of them together as a block has."""
    width = max(CELLS // max(rows, 1), 1)
    return [places[start : start + width] for start in range(0, len(places), width)]


def numbers_in(
    columns: Sequence[pa.ChunkedArray], decimal: str = ".", missing: Sequence[Any] = ()
) -> Iterator[tuple[np.ndarray, Bad]]:  # fmt: skip
    """Return of each column what ``cells.numbers`` does; short columns of text are read together."""
    found: dict[int, tuple[np.ndarray, Bad]] = {}
    short = [at for at, column in enumerate(columns) if is_text(column) and 2 * len(column) <= CELLS]
    for block in blocks([columns[at] for at in short]):
        each = _numbers(block.stripped(missing), decimal, missing)
        found |= {short[at]: read for at, read in zip(block.places, each, strict=True)}
    for at, column in enumerate(columns):
        yield found.pop(at) if at in found else numbers(column, decimal, missing)


def _numbers(block: Block, decimal: str, missing: Sequence[Any]) -> list[tuple[np.ndarray, Bad]]:
    values, wrong, truth = spelled(block.found, decimal, missing)
    said: list[dict[str, tuple[int, int]]] = [{} for _ in block.places]
    if wrong.any():
        column, code, first, of_cell = block.pairs()
        counts = np.bincount(of_cell[of_cell >= 0], minlength=len(code))
        bad = np.flatnonzero(wrong[code])
        for at in bad[np.argsort(first[bad])].tolist():  # as they occur
            cell = block.found[int(code[at])].as_py()
            said[column[at]][cell] = int(counts[at]), int(first[at]) % block.codes.shape[1]
    each = zip(block.codes, said, np.append(truth, False)[block.codes], strict=True)
    return [(values[codes], Bad(words, bool(true.any()))) for codes, words, true in each]
