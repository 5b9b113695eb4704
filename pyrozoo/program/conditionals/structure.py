"""What the conditional of each site of a program is: found once, by probing the log joint, and confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.program.conditionals.blocks import (
    Blocks,
    Owners,
    candidates,
    cells_at,
    elsewhere,
    independent,
    owners,
    slopes_at,
)
from pyrozoo.program.conditionals.cells import Joint, near
from pyrozoo.program.conditionals.families import FAMILIES, Family, NormalFamily

CONFIRMED = 1e-8
"""Relative difference up to which a family's derivatives and values are those of the log joint."""

SCALES = (0.1, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0)
"""How far from a draw, in unconstrained space, a family is confirmed."""

OUTWARD = (1e2, 1e2, 1e4, 1e4)
"""And how far of a real number: where data are far from 0, a kink such as that of a double exponential is far, too."""

MOST_COUPLED = 512
"""Elements of a site whose dependence on each other is looked at one by one, where no dimension tells them apart."""

STATES = 3
"""Values of all sites at which a family must hold."""


@dataclass(frozen=True)
class Structure:
    """What the conditional of one site given all others is.

    Attributes:
        site: The site.
        kind: ``conjugate``, ``discrete``, or ``other``: what is neither.
        terms: The sites whose densities have to do with it, itself first.
        blocks: Its independent blocks.
        family: Of a conjugate site, its family.
        values: Of a discrete site, the values of an element, [value].
        owners: Which block every cell has to do with, term -> owners; None: not known, or cells have to do with
            several.
        fixed: Whether these owners are the same whatever other sites are.
        colours: Of blocks that depend on each other, sets that do not, each [*batch]; they are updated in turn.
        reason: Why it is not conjugate, in words.
        nearest: What would make it so, where that is known.
    """

    site: str
    kind: str
    terms: tuple[str, ...]
    blocks: Blocks
    family: Family | None = None
    values: Tensor | None = None
    owners: Mapping[str, Owners] | None = None
    fixed: bool = True
    colours: tuple[Tensor, ...] = ()
    reason: str = ""
    nearest: str = ""

    def shaped(self, value: Tensor) -> Tensor:
        """Return values [*lead, *shape] as the family takes them: a block's elements last where it has several."""
        return self.blocks.apart(value) if isinstance(self.family, NormalFamily) else value

    def unshaped(self, value: Tensor) -> Tensor:
        """Return what ``shaped`` changed."""
        return self.blocks.joined(value) if isinstance(self.family, NormalFamily) else value

    @property
    def event_size(self) -> int:
        """How many numbers an element of the family has along an axis."""
        return self.blocks.size if isinstance(self.family, NormalFamily) else (self.blocks.shape or (1,))[-1]

    def points(self, value: Tensor) -> Tensor:
        """Return values near one, [point, *value], at which slopes say what contributions are."""
        assert self.family is not None
        return self.unshaped(self.family.points(self.shaped(value)))

    def read(self, points: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
        """Return contributions, given points and slopes there."""
        assert self.family is not None
        return self.family.read(self.shaped(points), self.shaped(slopes))

    def parameters(self, points: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
        """Return the family's parameters, given points and slopes of the whole log joint there."""
        assert self.family is not None
        return self.family.together([self.read(points, slopes)], self.event_size)


@dataclass
class Structures:
    """The structures of all sites of a program, found from a few random states of it.

    Attributes:
        joint: The log joint.
        states: The states.
        found: Site -> structure.
    """

    joint: Joint
    states: list[dict[str, Tensor]]
    found: dict[str, Structure] = field(default_factory=dict)

    @classmethod
    def of(cls, joint: Joint) -> Structures:
        """Find them."""
        try:
            states = [joint.draw(one=near) for _ in range(STATES)]
        except NotApplicable:  # bounds that data are far inside of
            states = [joint.draw() for _ in range(STATES)]
        result = cls(joint, states)
        for site in joint.sites:
            result.found[site] = result._discrete(site) if joint.discrete(site) else result._continuous(site)
        return result

    def __getitem__(self, site: str) -> Structure:
        return self.found[site]

    def _terms(self, site: str) -> tuple[str, ...]:
        """Return the sites whose densities change with a site, itself first."""
        found = set()
        for values in self.states:
            value = values[site]
            others = torch.stack([elsewhere(self.joint, site, value, scale) for scale in SCALES])
            # Parts of it too: turning all spins of a field round changes nothing.
            elements = Blocks(tuple(value.shape), tuple(range(-self._event(site), 0)))
            some = elements.spread(torch.rand(len(others), *elements.batch, device=value.device) < 0.5)
            points = torch.cat([value.unsqueeze(0), others, torch.where(some, others, value)])
            for term, cells in cells_at(self.joint, site, values, points).items():
                if not torch.allclose(cells[1:], cells[:1].expand_as(cells[1:]), rtol=1e-13, atol=0, equal_nan=True):
                    found.add(term)
        every = (site, *(name for name in (*self.joint.sites, *self.joint.observed) if name != site))
        return tuple(name for name in every if name in found or name == site)

    def _event(self, site: str) -> int:
        """Return how many dimensions an element has that is no number, such as a vector of probabilities."""
        return int(getattr(self.joint.support(site), "event_dim", 0))

    def _discrete(self, site: str) -> Structure:
        shape, node = tuple(self.states[0][site].shape), self.joint.nodes[site]
        blocks = Blocks(shape, ())
        if site not in self.joint.candidates:
            whole = node["fn"].event_dim and node["fn"].has_enumerate_support
            reason = "its elements are drawn together, as one event" if whole else "it has no end of values"
            return Structure(site, "other", self._terms(site), blocks, reason=reason)
        values, terms = self.joint.candidates[site], self._terms(site)
        known, fixed = self._owners(site, blocks)
        colours: tuple[Tensor, ...] = ()
        if known is None and blocks.count > 1:
            colours = tuple(torch.eye(blocks.count, dtype=torch.bool).reshape(blocks.count, *blocks.batch))
        return Structure(site, "discrete", terms, blocks, values=values, owners=known, fixed=fixed, colours=colours)

    def _owners(self, site: str, blocks: Blocks) -> tuple[dict[str, Owners] | None, bool]:
        """Return owners, from all states at once where they agree, and whether they do."""
        each = [owners(self.joint, site, values, blocks) for values in self.states]
        if any(one is None for one in each):
            return None, True
        merged: dict[str, Owners] = {}
        for one in each:
            for term, found in (one or {}).items():
                known = merged.get(term)
                if known is None:
                    merged[term] = found
                    continue
                both = (known.owner < known.count) & (found.owner < found.count)
                if bool((known.owner != found.owner)[both].any()):
                    return each[0], False
                merged[term] = Owners(term, torch.minimum(known.owner, found.owner), found.count)
        return merged, True

    def _continuous(self, site: str) -> Structure:
        support, shape, terms = self.joint.support(site), tuple(self.states[0][site].shape), self._terms(site)
        families = [family for family in FAMILIES if family.fits(support)]
        reasons = {}
        for family in families:
            normal = isinstance(family, NormalFamily)
            ways = candidates(shape, 0) if normal else [Blocks(shape, tuple(range(-family.event, 0)))]
            blocks = next((way for way in ways if self._independent(site, way, terms)), None)
            colours: tuple[Tensor, ...] = ()
            if blocks is None:
                blocks = ways[0]
                if blocks.count > MOST_COUPLED:
                    reasons[family.name] = "its elements depend on each other"
                    continue
                colours = self._coloured(site, blocks, terms)
            structure = Structure(site, "conjugate", terms, blocks, family=family, colours=colours)
            wrong = self._wrong(structure)
            if wrong is None:
                return structure
            reasons[family.name] = wrong
        names = " nor ".join(family.name for family in families)
        reason = f"it is not {names}: {next(iter(reasons.values()))}" if families else f"no family has {support}"
        return self._other(site, terms, reason)

    def _other(self, site: str, terms: tuple[str, ...], reason: str) -> Structure:
        """Return the structure of a continuous site without a family: blocks that slices can move at once."""
        shape = tuple(self.states[0][site].shape)
        for blocks in candidates(shape, self._event(site)):
            known, fixed = self._owners(site, blocks)
            if known is not None:
                break
        nearest = _nearest(self.joint, terms)
        return Structure(site, "other", terms, blocks, owners=known, fixed=fixed, reason=reason, nearest=nearest)

    def _independent(self, site: str, blocks: Blocks, terms: tuple[str, ...]) -> bool:
        return all(independent(self.joint, site, values, blocks, terms) for values in self.states)

    def _coloured(self, site: str, blocks: Blocks, terms: tuple[str, ...]) -> tuple[Tensor, ...]:
        """Return sets of blocks that do not depend on each other, greedily: moving one changes no slope of another."""
        count, near = blocks.count, torch.zeros(blocks.count, blocks.count, dtype=torch.bool)
        for values in self.states:
            value, one = values[site], torch.eye(count, dtype=torch.bool).reshape(count, *blocks.batch)
            other = elsewhere(self.joint, site, value, 0.5)
            points = torch.cat([value.unsqueeze(0), torch.where(blocks.spread(one), other, value)])
            found = slopes_at(self.joint, site, values, points, terms)
            moved = (found[1:] - found[:1]).abs() > 1e-9 * (found[1:].abs() + found[:1].abs())
            near |= blocks.apart(moved.any(1)).any(-1).reshape(count, count)
        near |= near.T.clone()
        colour = torch.full((count,), -1)
        for i in range(count):
            taken = {int(c) for c in colour[near[i]] if c >= 0}
            colour[i] = next(c for c in range(count) if c not in taken)
        return tuple((colour == c).reshape(blocks.batch) for c in range(int(colour.max()) + 1))

    def _wrong(self, structure: Structure) -> str | None:
        """Return why a family does not hold, or None: read from a few points, it is held to others, far and near."""
        for values in self.states:
            for colour in structure.colours or (None,):
                if (wrong := self._wrong_at(structure, values, colour)) is not None:
                    return wrong
        return None

    def _wrong_at(self, structure: Structure, values: Values, colour: Tensor | None) -> str | None:
        joint, site, family, terms = self.joint, structure.site, structure.family, structure.terms
        assert family is not None
        value = values[site]
        mask = None if colour is None else structure.blocks.spread(colour)
        points = structure.points(value)
        scales = SCALES + OUTWARD if isinstance(family, NormalFamily) else SCALES
        others = torch.stack([elsewhere(joint, site, value, scale) for scale in scales])
        every = torch.cat([points, value.unsqueeze(0), others])
        if mask is not None:
            every = torch.where(mask, every, value)
        slopes, cells = slopes_at(joint, site, values, every, terms), cells_at(joint, site, values, every)
        at, slopes = structure.shaped(every), structure.shaped(slopes)
        for i, term in enumerate(terms):
            found = family.read(at[: len(points)], slopes[: len(points), i])
            kept = slice(len(points), None)
            expected, size = family.slope(at[kept], found)
            given = family.scaled(at[kept], slopes[kept, i])
            right = (given - expected).abs() <= CONFIRMED * (size + given.abs())
            if mask is not None:
                right = right | ~structure.shaped(mask.expand_as(value)).expand_as(right)
            finite = given.isfinite().reshape(len(given), -1).all(1)
            if not bool(right[finite].all()) or int(finite.sum()) < 3:
                return f"{term} is no such function of it"
            if not self._same_values(structure, at[kept], cells[term][kept], found, mask):
                return f"{term} is such a function of it on a part of its support only"
        return None

    def _same_values(self, structure: Structure, at: Tensor, cells: Tensor, found: Any, mask: Tensor | None) -> bool:
        """Return whether log densities, too, change as the family's do: a bound has no slope."""
        assert structure.family is not None
        energy, parts = structure.family.energy(at, found)
        if mask is not None:
            keep = structure.blocks.apart(mask.expand(structure.blocks.shape)).any(-1)
            energy, parts = torch.where(keep, energy, 0.0), torch.where(keep, parts, 0.0)
        total, size, expected, parts = (
            each.reshape(len(each), -1).sum(1) for each in (cells, cells.abs(), energy, parts)
        )
        change, wanted = total[1:] - total[0], expected[1:] - expected[0]
        if bool((wanted.isfinite() & ~total[1:].isfinite()).any()):
            return False
        finite = wanted.isfinite()
        room = CONFIRMED * (size[1:] + size[0] + parts[1:] + parts[0])
        return bool(((change - wanted).abs() <= room)[finite].all())


NEAREST = {
    "Poisson": "allot its counts to what adds up to the rate (a multinomial given the total)",
    "Bernoulli": "a Polya-Gamma variable per observation for a logit, or a truncated normal one for a probit",
    "Binomial": "a Polya-Gamma variable per observation",
    "Categorical": "Polya-Gamma variables by stick breaking, or truncated normal utilities",
    "ZeroInflatedPoisson": "a discrete site that says of every zero whether its cell is on",
    "StudentT": "a Gamma scale per observation: the Student t is a mixture of normals",
    "NegativeBinomial": "a Gamma factor per observation: the count is Poisson given it",
    "GammaPoisson": "a Gamma factor per observation: the count is Poisson given it",
    "Laplace": "an exponential variance per observation: the Laplace is a mixture of normals",
    "MixtureSameFamily": "the component of every observation as a discrete site",
}
"""Distribution -> the augmentation that makes what it depends on conjugate, where one is known."""


def _nearest(joint: Joint, terms: tuple[str, ...]) -> str:
    for term in terms[::-1]:
        node = joint.nodes.get(term) or joint.data_nodes.get(term)
        fn = node["fn"] if node else None
        while fn is not None:
            if type(fn).__name__ in NEAREST:
                return f"{term}: {NEAREST[type(fn).__name__]}"
            fn = getattr(fn, "base_dist", None)
    return ""
