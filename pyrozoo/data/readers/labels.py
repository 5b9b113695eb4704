"""Labels of rows and columns: numbers or text of Arrow, which become strings of Python only where one is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.data.readers.arrow import column_of, strings

BLOCK = 2**16
"""Labels that become Python's at a time."""


class Labels(Sequence[str]):
    """Names of rows or columns. They are equal to any sequence of the same texts.

    Attributes:
        cells: A range or an array of whole numbers, or Arrow's array of text.
        word: What stands before each of them: ``row_`` of ``row_0``, ``row_1``, ...
    """

    __slots__ = ("cells", "word")

    def __init__(self, cells: range | np.ndarray | pa.Array, word: str = "") -> None:
        self.cells, self.word = cells, word

    @classmethod
    def of(cls, names: Sequence[str] | pa.ChunkedArray) -> Labels:
        """Return names of any kind as labels."""
        if isinstance(names, Labels):
            return names
        if isinstance(names, pa.ChunkedArray):
            whole = names.cast(pa.large_string()).combine_chunks()
            return cls(whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole)
        return cls(strings(names).cast(pa.large_string()))

    def __len__(self) -> int:
        return len(self.cells)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Labels: ...
    def __getitem__(self, at: int | slice) -> str | Labels:
        if isinstance(at, slice):
            if isinstance(self.cells, pa.Array):
                return self.take(np.arange(len(self))[at])
            return Labels(self.cells[at], self.word)
        cell = self.cells[range(len(self))[at]]
        return f"{self.word}{cell.as_py() if isinstance(cell, pa.Scalar) else cell}"

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self._texts(self.cells[start : start + BLOCK])

    def _texts(self, cells: Any) -> list[str]:
        if isinstance(cells, pa.Array):
            return [f"{self.word}{each}" for each in cells.to_pylist()] if self.word else cells.to_pylist()
        return [f"{self.word}{each}" for each in (cells.tolist() if isinstance(cells, np.ndarray) else cells)]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Labels) and other.word == self.word:
            if isinstance(self.cells, pa.Array) or isinstance(other.cells, pa.Array):
                return len(self) == len(other) and bool(self.arrow().equals(other.arrow()))
            return np.array_equal(np.asarray(self.cells), np.asarray(other.cells))
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def __repr__(self) -> str:
        more = f", ... ({len(self)} of them)" if len(self) > 6 else ""
        return f"[{', '.join(map(repr, self[:6]))}{more}]"

    def has(self, text: str) -> bool:
        """Return whether a text is in one of the labels: numbers hold none but digits."""
        if text in self.word:
            return True
        return isinstance(self.cells, pa.Array) and bool(pc.any(pc.match_substring(self.cells, text)).as_py())

    def take(self, index: Any) -> Labels:
        """Return some of the labels, by places: an array or a tensor of whole numbers, or one of truth values."""
        at = np.asarray(index.cpu() if hasattr(index, "cpu") else index)
        at = np.flatnonzero(at) if at.dtype == bool else at.astype(np.int64)
        if isinstance(self.cells, pa.Array):
            return Labels(self.cells.take(column_of(at).chunk(0)), self.word)
        if isinstance(self.cells, range) and not (at < 0).any():  # of many numbers some: they are not all made
            return Labels(self.cells.start + self.cells.step * self._inside(at), self.word)
        return Labels(np.asarray(self.cells)[at], self.word)

    def _inside(self, at: np.ndarray) -> np.ndarray:
        if len(at) and at.max() >= len(self):
            raise IndexError(f"there are {len(self)} labels, no label {at.max()}")
        return at

    def arrow(self) -> pa.Array:
        """Return the labels as Arrow's text."""
        cells, kind = self.cells, pa.large_string()
        if not isinstance(cells, pa.Array):
            cells = column_of(np.asarray(cells, np.int64)).chunk(0).cast(kind)
        if not self.word:
            return cells
        return pc.binary_join_element_wise(pa.scalar(self.word, kind), cells, pa.scalar("", kind))


def some(names: Sequence[str], index: Any) -> Sequence[str]:
    """Return some of the names of rows or columns, by places: an array or a tensor."""
    return names.take(index) if isinstance(names, Labels) else [names[i] for i in index.tolist()]


def joined(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    """Return names of rows or columns one after another, those of labels unspelled."""
    if not all(isinstance(each, Labels) for each in parts):
        return [name for names in parts for name in names]
    found = cast("Sequence[Labels]", parts)
    if len({each.word for each in found}) == 1 and not any(isinstance(each.cells, pa.Array) for each in found):
        return Labels(np.concatenate([np.asarray(each.cells, np.int64) for each in found]), found[0].word)
    return Labels(pa.concat_arrays([each.arrow() for each in found]))
