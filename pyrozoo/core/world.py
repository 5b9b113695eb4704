"""The processes that fit together: who they are, and sums over shards of rows that no split among them changes.

A sum over shards follows one binary tree over their numbers: shard 0 with shard 1, 2 with 3, then pairs of these. Each
process adds up what lies wholly in its own shards, sends the few sums that are left, and every process finishes the
tree. So 1, 2 and 8 processes add the same numbers in the same order, and get the same bits.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pyrozoo.core.devices import a_card_each
from pyrozoo.core.errors import UserError
from pyrozoo.core.launch import processes, restarts

Node = tuple[int, int]
"""A node of the tree: its level, and its place there. (l, i) is the sum of the shards from i 2^l to (i + 1) 2^l."""

PATIENCE = datetime.timedelta(minutes=30)
"""How long a process waits for the others before it takes them for lost: reading is the longest that any is alone."""

SMALL = 2**15
"""Bytes up to which every process gets every sum whole: one round trip, where larger sums are cut in pieces."""


def shares(shards: int, processes: int) -> list[range]:
    """Return the shards of every process, in order and as even as can be."""
    edges = [shards * rank // processes for rank in range(processes + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def nodes_of(share: range) -> list[Node]:
    """Return the fewest nodes that make up a share, in order."""
    found: list[Node] = []
    for shard in share:
        found.append((0, shard))
        while len(found) > 1 and _pair(found[-2], found[-1]):
            level, place = found[-2]
            found[-2:] = [(level + 1, place // 2)]
    return found


def _pair(one: Node, other: Node) -> bool:
    return one[0] == other[0] and one[1] % 2 == 0 and other[1] == one[1] + 1


class Sum:
    """A sum over the tree that grows shard by shard, or node by node, from the left.

    It holds one sum of every level at most, a logarithm of the nodes, and adds in place: what a single shard comes to
    may be somebody's and stays as it is, sums of several are this object's own.
    """

    def __init__(self) -> None:
        self.parts: list[tuple[Node, list[Tensor]]] = []
        self.spare: list[list[Tensor]] = []

    def add(self, node: Node, values: Sequence[Tensor]) -> None:
        """Add what a node comes to; of more shards than one it may be written over."""
        self.parts.append((node, list(values)))
        while len(self.parts) > 1 and _pair(self.parts[-2][0], self.parts[-1][0]):
            (_, right), ((level, place), left) = self.parts.pop(), self.parts.pop()
            self.parts.append(((level + 1, place // 2), self._together(left, right, level)))

    def _together(self, left: list[Tensor], right: list[Tensor], level: int) -> list[Tensor]:
        """Return the sum of two nodes, the left one of a level: in its memory, or where nobody looks any more."""
        into: Sequence[Tensor | None] = left if level else self.spare.pop() if self.spare else [None] * len(left)
        found = [torch.add(one, other, out=out) for one, other, out in zip(left, right, into, strict=True)]
        if level:
            self.spare.append(right)
        return found

    def total(self) -> list[Tensor]:
        """Return the sum of all; of a number of shards that is no power of two the last nodes follow one another."""
        ((level, _), total), *rest = self.parts
        for _, values in rest:
            total, level = self._together(total, values, level), 1
        return total


@dataclass(frozen=True)
class World:
    """The processes that fit together.

    Attributes:
        rank: The number of this one; 0 reports.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def sum(self, share: range, shards: int, values: Iterable[Sequence[Tensor]]) -> list[Tensor]:
        """Return the sum over all shards of what each comes to, the same bits in every process.

        Args:
            share: The shards of this process.
            shards: How many there are in all.
            values: Of each shard of this process, in order, its tensors: of all shards as many, alike in shape.
        """
        mine = Sum()
        for shard, each in zip(share, values, strict=True):
            mine.add((0, shard), each)
        return mine.total() if self.size == 1 else self._exchanged(mine, shards)

    def _exchanged(self, mine: Sum, shards: int) -> list[Tensor]:
        """Finish a sum with the others: every process gets a piece of all their sums, adds up, and passes it round."""
        import torch.distributed as dist

        nodes = [nodes_of(share) for share in shares(shards, self.size)]
        most, like = max(map(len, nodes)), mine.parts[0][1]
        result: list[Tensor | None] = [None] * len(like)
        for dtype in dict.fromkeys(each.dtype for each in like):
            chosen = [i for i, each in enumerate(like) if each.dtype == dtype]
            width = sum(like[i].numel() for i in chosen)
            whole = width * like[chosen[0]].element_size() <= SMALL
            piece = width if whole else -(-width // self.size)
            sent = like[chosen[0]].new_empty(most, piece if whole else piece * self.size)
            sent[:, width:] = 0
            for row, (_, given) in zip(sent, mine.parts, strict=False):
                torch.cat([given[i].flatten() for i in chosen], out=row[:width])
            total = Sum()
            for node, values in self._passed(sent, nodes, piece, whole=whole):
                total.add(node, [values])
            (done,) = total.total()
            if not whole:
                own, done = done, done.new_empty(piece * self.size)
                dist.all_gather(list(done.split(piece)), own)
            for i, part in zip(chosen, done[:width].split([like[i].numel() for i in chosen]), strict=True):
                result[i] = part.reshape(like[i].shape)
        return [each for each in result if each is not None]

    def _passed(
        self, sent: Tensor, nodes: list[list[Node]], piece: int, *, whole: bool
    ) -> Iterator[tuple[Node, Tensor]]:
        """Go through the sums of all processes, in order: whole, or this process's piece of each."""
        import torch.distributed as dist

        if whole:
            got = [torch.empty_like(sent) for _ in range(self.size)]
            dist.all_gather(got, sent)
        else:
            pieces = sent.unflatten(1, (self.size, piece)).movedim(1, 0).contiguous()
            together = torch.empty_like(pieces)
            dist.all_to_all_single(together, pieces)
            got = list(together)
        for theirs, values in zip(nodes, got, strict=True):
            yield from zip(theirs, values[: len(theirs)], strict=True)

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set in any process."""
        if self.size == 1:
            return flag
        import torch.distributed as dist

        found = torch.tensor(int(flag))
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order, in every process."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def agreed(self, function: Callable[[], Any]) -> list[Any]:
        """Return what a function returns in all processes, in order; a user's mistake that one meets is met by all.

        Args:
            function: Exchanges nothing with other processes.
        """
        if self.size == 1:
            return [function()]
        value, error = None, None
        try:
            value = function()
        except UserError as found:
            error = found
        everything = self.gathered((value, error))
        for _, theirs in everything:
            if theirs is not None:
                raise theirs
        return [each for each, _ in everything]

    def of_first(self, value: Any) -> Any:
        """Return the value that the first process has, in every process."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        found = [value]
        dist.broadcast_object_list(found, src=0)
        return found[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


@lru_cache
def world() -> World:
    """Return the processes that this one was started with: by torchrun as many as it says, else this one alone."""
    if processes() == 1:
        return World()
    import torch.distributed as dist

    if not dist.is_initialized():
        # Addresses of processes that were lost stand in the same store: each attempt has names of its own.
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        own = dist.PrefixStore(f"attempt {restarts()}", store)
        backend = "cpu:gloo,cuda:nccl" if a_card_each() else "gloo"
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=PATIENCE)
    return World(dist.get_rank(), dist.get_world_size())


def close() -> None:
    """Part from the other processes, whom nothing is asked of any more."""
    if world().size > 1:
        import torch.distributed as dist

        dist.destroy_process_group()
