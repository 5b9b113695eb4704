"""A log-concave density of a few variables on a grid: its mass, its moments, and draws that are exact."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

NEGLIGIBLE, TOLERANCE, FEWEST, MOST_CELLS = 34.0, 1e-9, 24, 3_000_000
"""What the log density falls below the mode at the edge; change of the log mass at which a grid is fine enough; cells
of the first grid in each direction; of the last in all."""


@dataclass(frozen=True)
class ConcaveGrid:
    """Cells of equal size in coordinates z in which the density is about standard normal: x = mode + root z.

    Attributes:
        log_density: Of points, [G, P] to [G], concave; it need not have mass 1.
        mode: Where it is highest, [P].
        root: Of the inverse curvature there, [P, P].
        ends: Where the box ends in each direction, [2, P].
        cells: How many there are in each direction.
    """

    log_density: Callable[[Tensor], Tensor]
    mode: Float[Tensor, P]
    root: Float[Tensor, "P P"]
    ends: Float[Tensor, "2 P"]
    cells: int

    @classmethod
    def about(cls, log_density: Callable[[Tensor], Tensor], mode: Tensor, curvature: Tensor) -> ConcaveGrid:
        """Return a grid beyond which nothing is left, so fine that the log mass stands still.

        The midpoint rule converges faster than any power of the cells' size where a density is smooth and has no edge
        (Trefethen and Weideman 2014, SIAM Review 56).

        Args:
            log_density: Of points.
            mode: Where it is highest.
            curvature: Minus its Hessian there, [P, P].
        """
        size, root = len(mode), torch.linalg.inv(torch.linalg.cholesky(curvature)).mT
        ends = mode.new_tensor([[-6.0], [6.0]]).expand(2, size)
        least, grid = log_density(mode[None]) - NEGLIGIBLE, cls(log_density, mode, root, ends, FEWEST)
        while True:
            z = grid.corners
            inside = (log_density(grid.at(z)) > least).unsqueeze(-1)
            crossed = torch.stack([(inside & (z <= grid.ends[0])).any(0), (inside & (z >= grid.ends[1])).any(0)])
            if not bool(crossed.any()):
                break
            grid = replace(grid, ends=torch.where(crossed, 1.4 * grid.ends, grid.ends))
        before = math.inf
        while abs(float(grid.log_mass) - before) >= TOLERANCE and (3 * grid.cells // 2) ** size <= MOST_CELLS:
            grid, before = replace(grid, cells=3 * grid.cells // 2), float(grid.log_mass)
        return grid

    @property
    def width(self) -> Float[Tensor, P]:
        """Of a cell, in z."""
        return (self.ends[1] - self.ends[0]) / self.cells

    def _points(self, count: int, first: float) -> Float[Tensor, "G P"]:
        at = torch.arange(count).to(self.mode) + first
        each = [low + at * width for low, width in zip(self.ends[0], self.width, strict=True)]
        return torch.cartesian_prod(*each).reshape(-1, len(self.mode))

    @cached_property
    def middles(self) -> Float[Tensor, "G P"]:
        """Middles of the cells, in z."""
        return self._points(self.cells, 0.5)

    @property
    def corners(self) -> Float[Tensor, "G P"]:
        """Their corners, in z."""
        return self._points(self.cells + 1, 0.0)

    def at(self, z: Float[Tensor, "G P"]) -> Float[Tensor, "G P"]:
        """Return points, from z."""
        return self.mode + z @ self.root.mT

    @cached_property
    def logs(self) -> Float[Tensor, G]:
        """Log densities at the middles."""
        return self.log_density(self.at(self.middles))

    @cached_property
    def log_mass(self) -> Tensor:
        """Log of the integral."""
        return self.logs.logsumexp(0) + self.width.log().sum() + self.root.diagonal().abs().log().sum()

    @cached_property
    def moments(self) -> tuple[Float[Tensor, P], Float[Tensor, "P P"]]:
        """Mean and covariance."""
        share, points = self.logs.softmax(0), self.at(self.middles)
        mean = share @ points
        away = points - mean
        return mean, away.mT @ (share.unsqueeze(-1) * away)

    @cached_property
    def _bounds(self) -> Float[Tensor, G]:
        """What the log density g is nowhere above in each cell.

        With x in a cell of middle c is 2 c - x. As g is concave, g(x) <= 2 g(c) - g(2 c - x), and it is least at a
        corner.
        """
        corners = self.log_density(self.at(self.corners)).reshape([self.cells + 1] * len(self.mode))
        sides = itertools.product((slice(None, -1), slice(1, None)), repeat=len(self.mode))
        least = torch.stack([corners[side] for side in sides]).amin(0)
        return 2 * self.logs - least.flatten()

    def draw(self, count: int) -> Float[Tensor, "count P"]:
        """Draw independently, by rejection below the bounds, from torch's global generator."""
        share = (self._bounds - self._bounds.max()).exp().cumsum(0)
        kept: list[Tensor] = []
        while sum(map(len, kept)) < count:
            level = torch.rand(2 * count).to(share) * share[-1]
            cell = torch.searchsorted(share, level).clamp(max=len(share) - 1)
            z = self.middles[cell]
            points = self.at(z + (torch.rand_like(z) - 0.5) * self.width)
            under = self.log_density(points) - self._bounds[cell]
            kept.append(points[torch.rand_like(under).log() < under])
        return torch.cat(kept)[:count]
