"""Lists that stay in their files: a minibatch of rows is read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor

from pyrozoo.data.shards import together
from pyrozoo.data.triplets import Triplets

HELD = 2
"""Chunks that are held at a time: neighbours in an order of rows come from one, or from two."""


@dataclass(frozen=True, eq=False)
class Streamed(Triplets):
    """Triplets of which only the names of rows and columns are in memory, and where each row is to be found.

    Attributes:
        chunk_of: In which chunk each row is, [N].
        place_of: Which row of its chunk it is, [N].
        read: The number of a chunk -> its rows as triplets of their own.
        numbers: How many numbers there are in all.
    """

    chunk_of: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    place_of: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    read: Callable[[int], Triplets] | None = None
    numbers: int = 0

    @classmethod
    def of_chunks(
        cls, rows: Sequence[str], columns: Sequence[str], where: tuple[Tensor, Tensor],
        read: Callable[[int], Triplets], numbers: int, name: str,
    ) -> Self:  # fmt: skip
        """Return a list of rows that are read chunk by chunk.

        Args:
            rows: Their names.
            columns: Names of columns.
            where: The chunk of each row, [N], and its place there, [N].
            read: Reads a chunk.
            numbers: How many numbers there are in all.
            name: What messages call it.
        """
        nothing = torch.zeros(0, 3, dtype=torch.float64)
        held: Any = lru_cache(HELD)(read)
        return cls(nothing, rows, columns, name, chunk_of=where[0], place_of=where[1], read=held, numbers=numbers)

    def batch(self, index: Tensor) -> Any:
        """Return a minibatch of rows, read from their chunks, that remembers the size of the whole."""
        chunks, parts, places = self.chunk_of[index], [], []
        for chunk in chunks.unique().tolist():
            at = (chunks == chunk).nonzero().flatten()
            parts.append(self._chunk(chunk).only(self.place_of[index[at]]))
            places.append(at)
        order = torch.cat(places).argsort() if places else index
        if not parts:
            parts = [Triplets(self.values, self.row_labels[:0], self.column_labels, self.name)]
        found = together(parts).batch(order)
        object.__setattr__(found, "total_rows", self.shape[0])
        object.__setattr__(found, "row_index", index)
        return found

    def _chunk(self, chunk: int) -> Triplets:
        assert self.read is not None
        return self.read(chunk).to(self.values.device, self.values.dtype)

    def shuffled(self) -> Tensor:
        """Return a random order of chunks, and of the rows in each: what is read for one minibatch serves the next."""
        chunks = self.chunk_of.unique()
        rank = torch.empty(int(chunks.max()) + 1 if len(chunks) else 0, dtype=torch.long)
        rank[chunks] = torch.randperm(len(chunks))
        random = torch.randperm(self.shape[0])
        return random[rank[self.chunk_of[random]].argsort(stable=True)]
