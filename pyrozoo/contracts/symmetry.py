"""What the likelihood of a model leaves free, and how draws are brought onto each other in spite of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrozoo.core.draws import Draws, Values
from pyrozoo.math.alignment import log_orbit, match_components, procrustes, relabelling, rotations

Sites = Mapping[str, Sequence[str]]
"""Site -> names of its event dimensions."""


class Symmetry:
    """Nothing is left free: the symmetry of a model that declares none, and the class of those that are."""

    def align(self, draws: Draws, sites: Sites, reference: Draws | None = None) -> Draws:
        """Bring draws onto each other, or onto the mean of a reference's."""
        return draws

    def invariants(self, draws: Draws, sites: Sites) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Return what the symmetry leaves as it is, name -> (dimensions, values): here every site."""
        return {site: (tuple(sites[site]), value) for site, value in draws.items()}

    def orbit(self, values: Values, sites: Sites) -> tuple[int, float]:
        """Return dimension and log volume of the points that say the same as ``values``, site -> [*event].

        The volume is that of the orbit of a continuous symmetry, such as rotations, in the coordinates of the sites
        that it moves. Along the orbit the density has no curvature, which Laplace's method must know.
        """
        return 0, 0.0

    def log_copies(self, values: Values, sites: Sites) -> float:
        """Return the logarithm of how many equal modes the likelihood has: a q that holds one lacks as much evidence.

        Args:
            values: Site -> [*event].
            sites: Names of their dimensions.
        """
        return 0.0


NONE = Symmetry()


def axes_of(dim: str, dims: Sequence[str]) -> list[int]:
    """Return the axes that a dimension has in a site; a second one has an underscore behind its name."""
    return [axis for axis, name in enumerate(dims) if name.rstrip("_") == dim]


@dataclass(frozen=True)
class Relabel(Symmetry):
    """Labels along a dimension can be exchanged, in all sites that have it at once.

    Attributes:
        dim: The dimension, such as ``component``.
        features: What describes each label for matching, on comparable scales: site -> [S, *event] to [S, label, P].
            None: all sites that have the dimension, each in units of its own spread.
        weight: The site that holds the labels' probabilities: they are ordered by it, the likeliest first, where there
            is no reference.
    """

    dim: str
    features: Callable[[Values], Tensor] | None = None
    weight: str | None = None

    def _describe(self, flat: Values, sites: Sites) -> Tensor:
        """Return what describes each label, [S, label, P]; sites with two axes of labels say nothing of one."""
        if self.features is not None:
            return self.features(flat)
        parts = []
        for site, dims in sites.items():
            axes = axes_of(self.dim, dims)
            if len(axes) == 1:
                value = (
                    flat[site].movedim(1 + axes[0], 1).flatten(2) if flat[site].ndim > 2 else flat[site].unsqueeze(2)
                )
                scale = value.flatten(0, 1).std(0, correction=0).mean()
                parts.append(value / scale.clamp(min=1e-12))
        return torch.cat(parts, -1)

    def _permuted(self, flat: Values, sites: Sites, order: Tensor) -> dict[str, Tensor]:
        result, same = dict(flat), bool((order == order[:1]).all())
        for site, dims in sites.items():
            for axis in axes_of(self.dim, dims):
                if same:  # as where draws are from around one mode; a third of the time
                    result[site] = result[site].index_select(1 + axis, order[0])
                    continue
                shape = [1] * flat[site].ndim
                shape[0], shape[1 + axis] = order.shape
                result[site] = torch.take_along_dim(result[site], order.reshape(shape), 1 + axis)
        return result

    def align(self, draws: Draws, sites: Sites, reference: Draws | None = None) -> Draws:
        """Relabel draw by draw: toward the reference's mean, else onto each other, the heaviest label first."""
        flat = draws.flat()
        if reference is None:
            order = relabelling(self._describe(flat, sites))
            if self.weight:
                weight = flat[self.weight].gather(1, order)
            else:
                weight = self._describe(self._permuted(flat, sites, order), sites).sum(-1)
            heaviest = weight.mean(0).argsort(descending=True)
            flat = self._permuted(flat, sites, order[:, heaviest])
        else:
            pivot = self._describe(Draws(reference).flat(), sites).mean(0)
            flat = self._permuted(flat, sites, match_components(self._describe(flat, sites), pivot))
        return Draws({site: value.unflatten(0, draws.shape) for site, value in flat.items()})

    def log_copies(self, values: Values, sites: Sites) -> float:
        """Return log K!, K the number of labels."""
        sizes = [values[site].shape[axis] for site, dims in sites.items() for axis in axes_of(self.dim, dims)]
        return math.lgamma(max(sizes, default=1) + 1)

    def invariants(self, draws: Draws, sites: Sites) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Return sites without the dimension, and of others the mean over labels and the spread between them.

        Of a site with two axes of labels it is the diagonal that is looked at: whether states stay, for example.
        """
        result = {}
        for site, value in draws.items():
            axes = axes_of(self.dim, sites[site])
            left = tuple(dim for i, dim in enumerate(sites[site]) if i not in axes)
            if not axes:
                result[site] = left, value
                continue
            over = value.movedim(2 + axes[0], -1)
            if len(axes) == 2:
                over = value.diagonal(dim1=2 + axes[0], dim2=2 + axes[1])
            if site != self.weight:  # probabilities have one mean, whatever they are
                result[f"{site}_mean"] = left, over.mean(-1)
            result[f"{site}_spread"] = left, over.std(-1, correction=0)
        return result


@dataclass(frozen=True)
class Rotate(Symmetry):
    """Coordinates along a dimension can be turned and reflected, in all sites that have it at once.

    Attributes:
        dim: The dimension, such as ``factor``.
        scaled: What is laid onto each other, [S, row, factor]; None: all sites that have the dimension once, row by
            row, each side weighing the same.
    """

    dim: str
    scaled: Callable[[Values], Tensor] | None = None

    def _matrices(self, flat: Values, sites: Sites) -> Tensor:
        if self.scaled is not None:
            return self.scaled(flat)
        sides = []
        for site, dims in sites.items():
            if list(dims).count(self.dim) == 1 and len(dims) > 1:
                side = flat[site].movedim(1 + list(dims).index(self.dim), -1).flatten(1, -2)
                sides.append(side / side.shape[-2] ** 0.5)
        return torch.cat(sides, -2)

    def align(self, draws: Draws, sites: Sites, reference: Draws | None = None) -> Draws:
        """Turn draw by draw: toward the reference's mean, else onto each other and to principal axes."""
        mine = self._matrices(draws.flat(), sites)
        if reference is None:
            turn = rotations(mine)
        else:
            turn = procrustes(mine, self._matrices(Draws(reference).flat(), sites).mean(0))
        turn = turn.unflatten(0, draws.shape)
        result = Draws(draws)
        for site, dims in sites.items():
            if site not in draws:
                continue
            # A dimension's second name, ``factor_``, is turned with it.
            for axis in axes_of(self.dim, dims):
                moved = result[site].movedim(2 + axis, -1)
                turned = (moved.unsqueeze(-2) @ turn).squeeze(-2) if moved.ndim == 3 else _times(moved, turn)
                result[site] = turned.movedim(-1, 2 + axis)
        return result

    def invariants(self, draws: Draws, sites: Sites) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Return sites without the dimension, and of others their squared lengths along it."""
        result = {}
        for site, value in draws.items():
            if self.dim not in sites[site]:
                result[site] = tuple(sites[site]), value
                continue
            axis = 2 + list(sites[site]).index(self.dim)
            left = tuple(dim for dim in sites[site] if dim != self.dim)
            result[f"{site}_squared_length"] = left, value.square().sum(axis)
        return result

    def orbit(self, values: Values, sites: Sites) -> tuple[int, float]:
        """Return dimension and log volume of the orbit of all turns."""
        sides = [
            values[site].movedim(list(dims).index(self.dim), -1).flatten(0, -2)
            for site, dims in sites.items()
            if self.dim in dims and len(dims) > 1
        ]
        return log_orbit(sum((side.mT @ side for side in sides[1:]), sides[0].mT @ sides[0]))


def _times(value: Tensor, turn: Tensor) -> Tensor:
    """Multiply [chain, draw, ..., factor] by [chain, draw, factor, factor]."""
    flat = value.flatten(2, -2)
    return (flat @ turn).unflatten(2, value.shape[2:-1])
