"""Draws of sites: what every fit has, and the one way to choose some of them evenly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

Values = Mapping[str, Tensor]
"""Site -> tensor: of one point [*event], inside solvers [chain, *event]."""


def evenly(total: int, count: int, *, again: bool = False) -> Tensor:
    """Return at most ``count`` of the whole numbers below ``total``, evenly chosen, the first and the last among them.

    In double precision: single precision puts the last of twenty million one past the end.

    Args:
        total: How many numbers there are.
        count: How many are chosen.
        again: Whether a number may be chosen again, so that ``count`` come in any case.
    """
    size = max(count, 0) if again else min(total, max(count, 0))
    return torch.from_numpy(np.linspace(0, max(total - 1, 0), size).round().astype(np.int64))


class Draws(dict[str, Tensor]):
    """Site -> tensor [chain, draw, *event]."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of chains and of draws of each."""
        chains, count = next(iter(self.values())).shape[:2]
        return chains, count

    @property
    def scalars(self) -> int:
        """Return how many numbers one draw has."""
        return sum(value[0, 0].numel() for value in self.values())

    def flat(self) -> dict[str, Tensor]:
        """Return all chains one after another, site -> [chain * draw, *event]."""
        return {site: value.flatten(0, 1) for site, value in self.items()}

    def some(self, most: int) -> Draws:
        """Return at most so many draws, evenly chosen over all chains, [1, draw, *event]; fewer stay as they are."""
        chains, count = self.shape
        if chains * count <= most:
            return self
        chosen = evenly(chains * count, most)
        return Draws({site: value[chosen.to(value.device)].unsqueeze(0) for site, value in self.flat().items()})

    def every(self, step: int) -> Draws:
        """Return one draw in so many of every chain."""
        return Draws({site: value[:, ::step] for site, value in self.items()})

    def blocks(self, size: int) -> Iterator[Draws]:
        """Cut every chain into blocks of at most so many draws."""
        for start in range(0, self.shape[1], max(1, size)):
            yield Draws({site: value[:, start : start + max(1, size)] for site, value in self.items()})

    def flat_blocks(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Cut all chains, one after another, into blocks of at most so many draws, site -> [block, *event]."""
        flat, (chains, count) = self.flat(), self.shape
        for start in range(0, chains * count, max(1, size)):
            yield {site: value[start : start + max(1, size)] for site, value in flat.items()}

    def each(self) -> Iterator[dict[str, Tensor]]:
        """Go through the draws one by one, site -> [*event]."""
        chains, count = self.shape
        for chain in range(chains):
            for draw in range(count):
                yield {site: value[chain, draw] for site, value in self.items()}

    def means(self) -> dict[str, Tensor]:
        """Return the mean over all draws, site -> [*event]."""
        return {site: value.mean((0, 1)) for site, value in self.items()}

    def to(self, like: Values | Tensor) -> Draws:
        """Return the draws on the device and in the precision of a tensor, or of the same sites of others."""
        at = {site: like if isinstance(like, Tensor) else like[site] for site in self}
        return Draws({site: value.to(at[site].device, at[site].dtype) for site, value in self.items()})

    @classmethod
    def stack(cls, values: list[dict[str, Tensor]]) -> Draws:
        """Make one chain of points, site -> [1, draw, *event]."""
        return cls({site: torch.stack([each[site] for each in values]).unsqueeze(0) for site in values[0]})
