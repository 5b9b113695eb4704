"""Minibatches of rows: a pass over all of them, in memory or in files, and how much each counts in what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.settings import Settings, between, not_negative, whole


@dataclass(frozen=True)
class Left:
    """What is left of a pass: chunk after chunk in random order, the rows of each in random order.

    Data in memory are one chunk. Of data in files a chunk is what is read at a time, so that it is read once in a pass.

    Attributes:
        rows: Those that come next, in order.
        chunks: Those whose rows come then, in order.
    """

    rows: Int[Tensor, N]
    chunks: Int[Tensor, M]

    @classmethod
    def all_of(cls, data: Any) -> Left:
        """Begin a pass, from torch's global generator."""
        return cls(torch.empty(0, dtype=torch.long), torch.randperm(data.chunks))

    def next(self, data: Any, count: int) -> tuple[Int[Tensor, B], Left]:
        """Return the next rows, fewer at the end of the pass, and what is left then."""
        rows, chunks = self.rows, self.chunks
        while len(rows) < count and len(chunks):
            found = data.of_chunk(int(chunks[0]))
            rows, chunks = torch.cat([rows, found[torch.randperm(len(found))]]), chunks[1:]
        return rows[:count], Left(rows[count:], chunks)


class Minibatch:
    """One of the minibatches of a pass: so many rows of every shard, each in its turn.

    Args:
        posterior: Of all rows.
        number: Which minibatch it is.
        count: How many there are in a pass.
        left: What is left of the pass, of each shard of this process.
    """

    def __init__(self, posterior: Posterior, number: int, count: int, left: dict[Posterior, Left]):
        self.posterior, self.number, self.count, self.left = posterior, number, count, left

    def total(self, function: Callable[[Any], Any]) -> tuple[Any, float]:
        """Add up what the rows of the minibatch say, as ``Posterior.total`` does for all rows; it can be done once.

        Args:
            function: From the posterior of some rows to nested tensors.

        Returns:
            The sums, and for how many rows each row of the minibatch stands.
        """

        def of(part: Posterior) -> tuple[Any, Tensor]:
            data = self.taken(part)
            rows = torch.tensor(float(data.shape[0]), dtype=torch.float64, device=data.values.device)
            return function(part.of_shard(data)), rows

        sums, rows = self.posterior.total(of)
        return sums, self.posterior.rows / float(rows)

    def taken(self, part: Posterior) -> Any:
        """Take the minibatch's rows of a shard, or of all rows where there are no shards; it can be done once."""
        rows = part.data.shape[0]
        first, last = (rows * (self.number + more) // self.count for more in (0, 1))
        left = self.left.get(part) or Left.all_of(part.data)
        index, self.left[part] = left.next(part.data, last - first)
        return part.data.batch(index)


def minibatches(posterior: Posterior, size: int) -> Iterator[Minibatch]:
    """Go through all rows in a random order (torch's global generator), at most so many at a time, as even as can be.

    Args:
        posterior: Of all rows.
        size: Most rows of a minibatch.
    """
    count, left = -(-posterior.rows // size), dict[Posterior, Left]()
    for number in range(count):
        yield Minibatch(posterior, number, count, left)


@dataclass(frozen=True)
class Options(Settings):
    """How what is known moves toward what a minibatch says, with steps that become smaller (Robbins and Monro 1951).

    Attributes:
        batch_size: Most rows of a minibatch.
        delay: tau, how much early minibatches are held back, not negative.
        forgetting: kappa, in (0.5, 1], how fast later ones count for less.
    """

    prefix: ClassVar[str] = "solver."
    batch_size: int = whole()
    delay: float = not_negative()
    forgetting: float = between(0.5, 1, "(]")

    def weight(self, seen: Float[Tensor, C]) -> Float[Tensor, C]:
        """Return rho = (t + tau)^-kappa of minibatch t, the first after ``seen`` = t - 1."""
        return (seen + 1 + self.delay).pow(-self.forgetting)


def toward(old: Tensor, new: Tensor, weight: Float[Tensor, C]) -> Tensor:
    """Return old + rho (new - old) of every chain, [C, ...]."""
    rho = weight.to(old).view(-1, *(1,) * (old.ndim - 1))
    return old + rho * (new - old)
