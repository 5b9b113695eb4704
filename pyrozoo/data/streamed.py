"""Rows that stay in their files: a minibatch of them is read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, Self

import torch
from torch import Tensor

from pyrozoo.data.container import Data
from pyrozoo.data.shards import together

HELD = 2
"""Chunks that are held at a time: neighbours in an order of rows come from one, or from two."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """Where rows are to be found.

    Attributes:
        starts: How many rows there are before each chunk, and at the end how many in all.
        read: The number of a chunk -> its rows, as data of their own.
        rows: Which rows lie in the first chunk, in the second, and so on, in order, [N]; None: as they are numbered.
    """

    starts: Tensor
    read: Callable[[int], Any]
    rows: Tensor | None = None

    @cached_property
    def places(self) -> Tensor:
        """The place of every row among those of all chunks, [N]."""
        assert self.rows is not None
        return torch.empty_like(self.rows).scatter_(0, self.rows, torch.arange(len(self.rows)))

    def of(self, chunk: int) -> Tensor:
        """Return which rows lie in a chunk, [n]."""
        start, stop = self.starts[chunk : chunk + 2].tolist()
        return torch.arange(start, stop) if self.rows is None else self.rows[start:stop]

    def where(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return in which chunk some rows are, and which rows of it they are."""
        place = index if self.rows is None else self.places[index]
        chunk = torch.searchsorted(self.starts, place, right=True) - 1
        return chunk, place - self.starts[chunk]


@dataclass(frozen=True, eq=False)
class Streamed(Data):
    """Data of which only the names of rows and columns are in memory, and where the rows are to be found.

    ``values`` has no row. What is asked for is a minibatch, a choice of rows, or all of them piece by piece.

    Attributes:
        source: Where the rows are.
        numbers: How many numbers they have in all.
    """

    source: Chunks | None = None
    numbers: int = 0

    @cached_property
    def _held(self) -> Callable[[int], Any]:
        assert self.source is not None
        read, device, dtype = self.source.read, self.values.device, self.values.dtype
        return lru_cache(HELD)(lambda chunk: read(chunk).to(device, dtype))

    @property
    def chunks(self) -> int:
        """Return how many chunks the rows lie in."""
        assert self.source is not None
        return len(self.source.starts) - 1

    def of_chunk(self, chunk: int) -> Tensor:
        """Return which rows lie in a chunk."""
        assert self.source is not None
        return self.source.of(chunk)

    def pieces(self) -> Iterator[Any]:
        """Go through the rows chunk by chunk."""
        for chunk in range(self.chunks):
            yield self._held(chunk)

    def batch(self, index: Tensor) -> Any:
        """Return a minibatch of rows, read from their chunks, that remembers the size of the whole."""
        assert self.source is not None
        chunks, place = self.source.where(index.cpu())
        each, parts, places = chunks.unique().tolist(), [], []
        if len(each) == 1:
            found = self._held(each[0]).batch(place)
        else:
            for chunk in each:
                at = (chunks == chunk).nonzero().flatten()
                parts.append(self._held(chunk).only(place[at]))
                places.append(at)
            found = together(parts or [self._held(0).only(place)])
            found = found.batch(torch.cat(places).argsort() if places else place)
        object.__setattr__(found, "total_rows", self.shape[0])
        object.__setattr__(found, "row_index", index.to(self.values.device))
        return found

    def only(self, index: Tensor) -> Self:
        """Return some rows as data of their own, in memory."""
        found = self.batch(index)
        object.__setattr__(found, "total_rows", None)
        object.__setattr__(found, "row_index", None)
        return found


@cache
def streamed(container: Any) -> Any:
    """Return the class of such data of a container."""
    name = f"Streamed{container.__name__}"
    return dataclass(frozen=True, eq=False)(type(name, (Streamed, container), {"__doc__": Streamed.__doc__}))
