"""Rows in shards: what is done for each, and sums over all of them that no split among processes changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrozoo.core.draws import evenly
from pyrozoo.core.seeds import seeded
from pyrozoo.core.world import World, shares

USUAL = 16
"""Shards unless something else is said: what up to 16 processes can divide among them."""


def edges_of(rows: int, shards: int) -> list[int]:
    """Return where the rows of each shard begin, and where the last end: by the numbers of rows and shards alone."""
    return [rows * shard // shards for shard in range(shards + 1)]


@dataclass(frozen=True)
class Shards:
    """The shards of rows that this process has, among those of all.

    Every process has the same random stream, and each shard one of its own, which follows from the first and from the
    shard's number. So what is drawn for a row does not depend on the process that draws it, and what is drawn for all
    rows together is the same everywhere.

    Attributes:
        world: The processes.
        count: How many shards there are in all.
        rows: How many rows they have.
        parts: The posterior of each shard of this process, in order.
        reported: Which of the rows of each shard of this process are reported on, an even choice of all.
        seen: The posterior of all rows that are reported on, the same in every process.
    """

    world: World
    count: int
    rows: int
    parts: tuple[Any, ...]
    reported: tuple[Tensor, ...]
    seen: Any

    @property
    def share(self) -> range:
        """Return the numbers of the shards of this process."""
        return shares(self.count, self.world.size)[self.world.rank]

    @property
    def edges(self) -> list[int]:
        """Return where the rows of each shard of this process begin among its own, and where the last end."""
        edges = edges_of(self.rows, self.count)
        return [edges[shard] - edges[self.share.start] for shard in (*self.share, self.share.stop)]

    def over_rows(self, function: Callable[..., tuple[Any, Any]], by_row: Sequence[Tensor | None]) -> tuple[Any, Any]:
        """Do something for every shard (see ``Posterior.over_rows``)."""
        key, rows = int(torch.randint(2**62, ())), []
        like: list[Any] = []

        def said(shard: int, part: Any, given: list[Tensor | None]) -> list[Tensor]:
            with seeded(int(np.random.SeedSequence((key, shard)).generate_state(1, np.uint64)[0] >> 1)):
                own, total = function(part, *given)
            rows.append(own)
            if not like:
                like.append(rebuilt(total, (leaf.new_empty(()).expand(leaf.shape) for leaf in leaves(total))))
            return list(leaves(total))  # which nobody else keeps: sums of all shards would fill the memory

        total = self.world.sum(self.share, self.count, map(said, self.share, self.parts, self.split(by_row)))
        return self.joined(rows), rebuilt(like[0], iter(total))

    def holders(self, processes: int) -> range:
        """Return which of so many processes have some of the shards of this one."""
        own = self.share
        held = [
            i for i, each in enumerate(shares(self.count, processes)) if each.start < own.stop and own.start < each.stop
        ]
        return range(held[0], held[-1] + 1)

    def taken(self, values: Sequence[Tensor], processes: int, axis: int = 1, *, chosen: bool = False) -> Tensor:
        """Return the rows of this process, of what each of its ``holders`` has.

        Args:
            values: Tensors of each with its rows at an axis, or with one row that stands for all.
            processes: How many there were.
            axis: Which axis.
            chosen: Whether they have those rows alone that are reported on.
        """
        if not chosen and values[0].shape[axis] == 1:
            return values[0]
        edges, first = edges_of(self.rows, self.count), shares(self.count, processes)[self.holders(processes).start]
        before, start, stop = (edges[shard] for shard in (first.start, self.share.start, self.share.stop))
        if chosen:
            places = evenly(self.rows, self.seen.data.shape[0])
            before, start, stop = torch.searchsorted(places, torch.tensor([before, start, stop])).tolist()
        return torch.cat(list(values), axis).narrow(axis, start - before, stop - start).clone()

    def chosen(self, value: Tensor) -> Tensor:
        """Return those rows of a tensor [C, N, ...] of this process that are reported on."""
        if self._for_all(value):
            return value
        rows = [index + edge for index, edge in zip(self.reported, self.edges, strict=False)]
        return value[:, torch.cat(rows).to(value.device)]

    def gathered(self, value: Tensor) -> Tensor:
        """Return the rows that are reported on, [C, n, ...], of all processes, in every process."""
        return value if self._for_all(value) else torch.cat(self.world.gathered(self.chosen(value)), 1)

    def _for_all(self, value: Tensor) -> bool:
        """Return whether a tensor has one row that stands for all."""
        return value.shape[1] == 1 and self.edges[-1] != 1

    def split(self, by_row: Sequence[Tensor | None]) -> list[list[Tensor | None]]:
        """Return the rows of each shard, of tensors [C, N, ...]; what has one row for all goes to every shard whole."""
        edges = self.edges

        def rows(value: Tensor | None, start: int, stop: int) -> Tensor | None:
            if value is None or self._for_all(value):
                return value
            return value[:, start:stop].clone()  # the same bits of a product need the same layout

        return [[rows(value, *edge) for value in by_row] for edge in pairwise(edges)]

    def joined(self, rows: Sequence[Any]) -> Any:
        """Return the rows of all shards of this process one after another, of nested tensors [C, n, ...] of each."""
        sizes = np.diff(self.edges)

        def join(parts: tuple[Tensor, ...]) -> Tensor:
            shared = all(part.shape[1] == 1 for part in parts) and max(sizes) > 1
            return parts[0] if shared else torch.cat(parts, 1)

        return rebuilt(rows[0], map(join, zip(*map(leaves, rows), strict=True)))


def leaves(value: Any) -> Iterator[Tensor]:
    """Go through the tensors of nested tuples, dicts and dataclasses, in order; None has none."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from leaves(getattr(value, each.name))
    elif isinstance(value, dict):
        for one in value.values():
            yield from leaves(one)
    elif value is not None:
        for one in value:
            yield from leaves(one)


def rebuilt(like: Any, tensors: Iterator[Tensor]) -> Any:
    """Return the same with other tensors in the same order."""
    if isinstance(like, Tensor):
        return next(tensors)
    if is_dataclass(like) and not isinstance(like, type):
        return replace(like, **{each.name: rebuilt(getattr(like, each.name), tensors) for each in fields(like)})
    if isinstance(like, dict):
        return {name: rebuilt(each, tensors) for name, each in like.items()}
    return None if like is None else tuple(rebuilt(each, tensors) for each in like)
