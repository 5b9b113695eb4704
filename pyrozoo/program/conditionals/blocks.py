"""Which elements of a site are conditionally independent, and which cells of the log joint each has to do with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import biject_to

from pyrozoo.core.draws import Values
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.families import WishartFamily

SAME = 1e-9
"""Relative difference up to which two numbers are one."""

HALVES = 8
"""Random halves of the blocks that are moved; a pair of blocks is in different halves of one of them almost surely."""

MIXES = 8
"""Values with every block from another: one may agree by chance, as a ring of spins has few energies."""


@dataclass(frozen=True)
class Blocks:
    """The elements of a site in blocks that are conditionally independent of each other.

    Attributes:
        shape: Of the site's value.
        within: Dimensions of the value, counted from the end, along which one block extends.
    """

    shape: tuple[int, ...]
    within: tuple[int, ...]

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of the blocks."""
        return tuple(size for i, size in enumerate(self.shape) if i - len(self.shape) not in self.within)

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return math.prod(self.batch)

    @property
    def size(self) -> int:
        """How many elements one has."""
        return math.prod(self.shape) // max(1, self.count)

    def apart(self, value: Tensor) -> Tensor:
        """Return values [*lead, *shape] as [*lead, *batch, size]."""
        if not self.within:
            return value.unsqueeze(-1)
        moved = value.movedim(self.within, tuple(range(-len(self.within), 0)))
        return moved.flatten(-len(self.within)) if len(self.within) > 1 else moved

    def joined(self, blocks: Tensor) -> Tensor:
        """Return what ``apart`` took apart."""
        if not self.within:
            return blocks.squeeze(-1)
        sizes = [self.shape[d] for d in self.within]
        return blocks.unflatten(-1, sizes).movedim(tuple(range(-len(self.within), 0)), self.within)

    def spread(self, each: Tensor) -> Tensor:
        """Return one number per block, [*lead, *batch], as one per element, [*lead, *shape]."""
        return self.joined(each.unsqueeze(-1).expand(*each.shape, self.size))


def candidates(shape: tuple[int, ...], least: int) -> list[Blocks]:
    """Return ways to cut a value into blocks, small ones first; the last ``least`` dimensions are never cut."""
    whole = tuple(range(-least, 0))
    others = range(-len(shape), -least)
    found = [
        Blocks(shape, (*some, *whole)) for n in range(len(others) + 1) for some in itertools.combinations(others, n)
    ]
    return sorted(found, key=lambda blocks: blocks.size)


def over_points(function: Callable[[Any], Any], points: Any) -> Any:
    """Return a function at several points, [point, ...]: at once where the program can, else one by one.

    Args:
        function: Of a tensor, or of a mapping site -> tensor, to a mapping site -> tensor.
        points: The tensors with a leading axis.
    """
    with pyro.validation_enabled(False):
        try:
            return torch.func.vmap(function, randomness="different")(points)
        except (RuntimeError, ValueError, NotImplementedError):
            pass
        count = len(next(iter(points.values())) if isinstance(points, dict) else points)
        every = [
            function({name: each[i] for name, each in points.items()} if isinstance(points, dict) else points[i])
            for i in range(count)
        ]
    return {name: torch.stack([one[name] for one in every]) for name in every[0]}


def cells_at(joint: Joint, site: str, values: Values, points: Tensor) -> dict[str, Tensor]:
    """Return all cells with a site at several values, site -> [point, *cell]."""
    return over_points(lambda point: joint.cells({**values, site: point}), points)


def slopes_at(joint: Joint, site: str, values: Values, points: Tensor, terms: tuple[str, ...]) -> Tensor:
    """Return the gradients of what some sites have of the log joint, [point, term, *value]."""
    with torch.enable_grad():
        leaf = points.detach().clone().requires_grad_(True)
        cells = cells_at(joint, site, values, leaf)  # of one point each, so that sums over points have their slopes
        sums = [cells[term].sum() for term in terms]
    slopes = [
        torch.autograd.grad(each, leaf, retain_graph=True, allow_unused=True)[0] if each.requires_grad else None
        for each in sums
    ]
    return torch.stack([torch.zeros_like(points) if each is None else each for each in slopes], 1)


def elsewhere(joint: Joint, site: str, value: Tensor, scale: float = 1.0) -> Tensor:
    """Return another random value of a site, of every element, from torch's global generator."""
    if site in joint.candidates:
        known = joint.candidates[site]
        place = (value.unsqueeze(-1) == known).long().argmax(-1)
        step = torch.randint(1, max(2, len(known)), value.shape, device=value.device)
        return known[(place + step) % len(known)]
    if joint.discrete(site):  # without an end of values, or drawn as one event
        drawn: Tensor = joint.nodes[site]["fn"].sample()
        return drawn
    if WishartFamily.fits(joint.support(site)):
        size = value.shape[-1]
        eye = torch.eye(size, dtype=value.dtype, device=value.device)
        # Far in size, never far in shape: a matrix that is nearly singular has no digits left.
        shape = eye + 0.5 * min(scale, 1.0) / size * torch.randn_like(value).tril()
        root = torch.linalg.cholesky(value) @ shape
        return (0.5 * scale * torch.randn_like(value[..., :1, :1])).exp() * (root @ root.mT)
    transform = biject_to(joint.nodes[site]["fn"].support)
    free = transform.inv(value)
    return transform(free + scale * torch.randn_like(free))


def independent(joint: Joint, site: str, values: Values, blocks: Blocks, terms: tuple[str, ...]) -> bool:
    """Return whether moving some blocks of a continuous site leaves the slopes along the others as they are."""
    if blocks.count == 1:
        return True
    value = values[site]
    other = elsewhere(joint, site, value, 0.5)
    moved = torch.rand(HALVES, *blocks.batch, device=value.device) < 0.5
    mask = blocks.spread(moved)
    points = torch.cat([value.unsqueeze(0), torch.where(mask, other, value)])
    found = slopes_at(joint, site, values, points, terms)
    first, rest = found[:1], found[1:]
    size = first.abs() + rest.abs() + 1e-3 * first.abs().amax(tuple(range(2, first.ndim)), keepdim=True)
    return bool((((rest - first).abs() <= SAME * size) | mask.unsqueeze(1)).all())


@dataclass(frozen=True)
class Owners:
    """Which block every cell has to do with.

    Attributes:
        term: The site whose cells they are.
        owner: Number of the block of every cell, [*cell]; ``count`` of cells that have to do with none.
        count: How many blocks there are.
    """

    term: str
    owner: Tensor
    count: int

    @cached_property
    def _axis(self) -> int | None:
        """Along which axis cells of one block lie where they are cut as [block, rest] or [rest, block]."""
        flat, here = self.owner.flatten(), torch.arange(self.count, device=self.owner.device)
        if len(flat) % max(1, self.count):
            return None
        each = len(flat) // self.count
        for axis, cut in ((1, flat.reshape(self.count, each)), (0, flat.reshape(each, self.count).T)):
            known = (cut == here.unsqueeze(-1)) | (cut == self.count)  # a cell of none is 0 for everybody
            if bool(known.all()):
                return axis
        return None

    def add_up(self, cells: Tensor) -> Tensor:
        """Return sums of cells, [*lead, *cell], by block, [*lead, count]; but for what no block has to do with."""
        flat = cells.flatten(cells.ndim - self.owner.ndim) if self.owner.ndim else cells.unsqueeze(-1)
        if self._axis == 1:
            return flat.unflatten(-1, (self.count, -1)).sum(-1)
        if self._axis == 0:
            return flat.unflatten(-1, (-1, self.count)).sum(-2)
        result = flat.new_zeros(*flat.shape[:-1], self.count + 1)
        return result.index_add(-1, self.owner.flatten(), flat)[..., :-1]


def owners(
    joint: Joint, site: str, values: Values, blocks: Blocks, only: str | None = None
) -> dict[str, Owners] | None:  # fmt: skip
    """Find which block of a site every cell has to do with, by moving those whose number has a bit set.

    Args:
        joint: The log joint.
        site: The site.
        values: Of all sites.
        blocks: How it is cut.
        only: The term that is asked for; None: all.

    Returns:
        Term -> owners, of terms that have to do with the site; None: some cell has to do with several blocks.
    """
    count, device = blocks.count, values[site].device
    bits = max(1, count.bit_length())
    number = torch.arange(1, count + 1, device=device).reshape(blocks.batch)  # 0 stands for none
    found: dict[str, Tensor] = {}
    value = values[site]
    for _ in range(_pairs(joint, site)):
        other = elsewhere(joint, site, value)
        masks = torch.stack([blocks.spread((number >> bit) & 1 == 1) for bit in range(bits)])
        cells = cells_at(joint, site, values, torch.cat([value.unsqueeze(0), torch.where(masks, other, value)]))
        for term, each in cells.items():
            changed = ~torch.isclose(each[1:], each[:1], rtol=1e-12, atol=0.0, equal_nan=True)
            code = sum(((changed[bit].long() << bit) for bit in range(1, bits)), changed[0].long())
            found[term] = torch.maximum(found[term], code) if term in found else code
        value = other
    known = {
        term: Owners(term, torch.where(code > 0, code - 1, count).clamp(max=count), count)
        for term, code in found.items() if bool((code > 0).any())
    }  # fmt: skip
    if only is not None:
        known = {term: each for term, each in known.items() if term == only}
    return known if _holds(joint, site, values, blocks, known, only) else None


def _pairs(joint: Joint, site: str) -> int:
    return min(4, len(joint.candidates[site]) - 1) or 1 if site in joint.candidates else 1


def _holds(
    joint: Joint, site: str, values: Values, blocks: Blocks, known: Mapping[str, Owners], only: str | None
) -> bool:  # fmt: skip
    """Return whether every cell is what it would be if all blocks had the value that its own has."""
    value, device = values[site], values[site].device
    others = [value, elsewhere(joint, site, value)]
    others.append(elsewhere(joint, site, others[1]))
    pick = torch.randint(0, len(others), (MIXES, *blocks.batch), device=device)
    mixes = [torch.stack(others).gather(0, blocks.spread(mix).unsqueeze(0)).squeeze(0) for mix in pick]
    cells = cells_at(joint, site, values, torch.stack([*others, *mixes]))
    for term, each in cells.items():
        if only not in (None, term):
            continue
        pure, mixed = each[: len(others)], each[len(others) :]
        for mix, found in zip(pick, mixed, strict=True):
            if term in known:
                chosen = torch.cat([mix.flatten(), mix.new_zeros(1)])[known[term].owner]
                expected = pure.gather(0, chosen.unsqueeze(0)).squeeze(0)
            else:
                expected = pure[0]
            if not torch.allclose(found, expected, rtol=1e-10, atol=1e-10, equal_nan=True):
                return False
    return True
