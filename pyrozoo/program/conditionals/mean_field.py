"""Expectations of the log joint under independent factors of all sites: exact sums over a few values of each.

Where the log joint is linear in the sufficient statistics of every site, given the others, its expectation is a sum
over values of each site whose weights have the expected statistics (``Family.nodes``): over all pairs, triples ... of
the values of those sites that one cell has to do with. It is exact if, and almost surely only if, values somewhere else
give the same sum, which is asked of every site once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.program.conditionals.blocks import Owners, over_points, owners
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.evaluation import Replays
from pyrozoo.program.conditionals.structure import Structures

Factors = Mapping[str, Sequence[Tensor]]
"""Site -> parameters of its factor, [chain, ...]: its family's, or probabilities [chain, *batch, value]."""

MOST, MOST_ONE_BY_ONE = 5000, 200
"""Combinations of values of the sites that one cell has to do with: fewer of a program that takes one at a time."""

APART = 1e-7
"""Relative difference up to which two exact sums are one."""


@dataclass(frozen=True)
class Term:
    """One site's cells, and what they have to do with.

    Attributes:
        name: The site.
        sites: Latent sites that they have to do with.
        owners: Values of the discrete ones among these (places, in their order) -> site -> the block of every cell.
    """

    name: str
    sites: tuple[str, ...]
    owners: Mapping[tuple[int, ...], Mapping[str, Owners]]


class MeanField:
    """Expected natural parameters, and the expected log joint.

    Args:
        joint: The log joint.
        structures: Of its sites.

    Raises:
        NotApplicable: A site is neither conjugate nor discrete, or a cell has to do with several elements of one.
    """

    def __init__(self, joint: Joint, structures: Structures):
        self.joint, self.structures, self.replays = joint, structures, Replays()
        for site in joint.sites:
            structure = structures[site]
            if structure.kind == "other":
                more = f"; it would be with {structure.nearest}" if structure.nearest else ""
                raise NotApplicable(f"cavi: {site} is not conjugate ({structure.reason}){more}")
            if structure.colours:
                raise NotApplicable(f"cavi: the elements of {site} depend on each other, and are no one factor")
        self.most = MOST if joint.batched else MOST_ONE_BY_ONE
        names = (*joint.sites, *joint.observed)
        self.terms = {name: self._term(name) for name in names}

    def _term(self, name: str) -> Term:
        sites = tuple(site for site in self.joint.sites if name in self.structures[site].terms)
        discrete = [site for site in sites if self.structures[site].kind == "discrete"]
        known: dict[tuple[int, ...], Mapping[str, Owners]] = {}
        values = dict(self.structures.states[0])
        places = [range(len(self.joint.candidates[site])) for site in discrete]
        if math.prod(len(each) for each in places) > self.most:
            raise NotApplicable(f"cavi: {name} has to do with too many combinations of {', '.join(discrete)}")
        for combination in itertools.product(*places):
            for site, place in zip(discrete, combination, strict=True):
                values[site] = torch.full_like(values[site], float(self.joint.candidates[site][place]))
            known[combination] = {site: self._owners(name, site, values) for site in sites}
        return Term(name, sites, known)

    def _owners(self, name: str, site: str, values: Values) -> Owners:
        structure = self.structures[site]
        if structure.blocks.count == 1:
            shape = self._shape(name)
            return Owners(name, torch.zeros(shape, dtype=torch.long), 1)
        if structure.owners is not None and name in structure.owners:
            return structure.owners[name]
        with torch.no_grad(), pyro.validation_enabled(False):
            found = owners(self.joint, site, values, structure.blocks, name)
        if found is None:
            raise NotApplicable(f"cavi: {name} has cells that have to do with several elements of {site} at once")
        count = structure.blocks.count
        return found.get(name) or Owners(name, torch.full(self._shape(name), count), count)

    def _shape(self, name: str) -> tuple[int, ...]:
        if not hasattr(self, "_shapes"):
            with torch.no_grad(), pyro.validation_enabled(False):
                self._shapes = {n: tuple(c.shape) for n, c in self.joint.cells(self.structures.states[0]).items()}
        return self._shapes[name]

    def nodes(self, site: str, factor: Sequence[Tensor], spread: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return values [node, chain, *shape] and weights [node, chain, block] of a site's factor."""
        structure = self.structures[site]
        if structure.kind == "discrete":
            known, (probability,) = self.joint.candidates[site], factor
            lead = probability.shape[:-1]
            points = known.reshape(-1, *[1] * len(lead)).expand(-1, *lead)
            return points, probability.movedim(-1, 0).flatten(2) if len(lead) > 1 else probability.T.unsqueeze(-1)
        assert structure.family is not None
        points, weights = structure.family.nodes(factor, spread)
        return structure.unshaped(points), weights.reshape(*weights.shape[:2], -1)

    def slopes(self, site: str, factors: Factors, points: Tensor, spread: float = 1.0) -> dict[str, Tensor]:
        """Return expected gradients along a continuous site, by term, [point, chain, *shape]."""
        found = {}
        for name in self.structures[site].terms:
            arguments, rest, combinations = self._arguments(name, site, factors, spread)

            def function(
                point: Tensor, *more: Tensor, name: str = name, rest: Any = rest, combinations: Any = combinations
            ) -> tuple[Tensor, ...]:
                with torch.enable_grad():
                    leaf = point.detach().requires_grad_(True)
                    total = self._expected(name, site, leaf, more, rest, combinations).sum()
                return torch.autograd.grad(total, leaf)

            (found[name],) = self._run(("slopes", name, site), function, [points, *arguments])
        return found

    def logits(self, site: str, factors: Factors) -> dict[str, Tensor]:
        """Return expected log densities of every value of a discrete site, by term, [chain, *batch, value]."""
        structure, (probability,) = self.structures[site], factors[site]
        known = self.joint.candidates[site]
        lead = probability.shape[:-1]
        points = known.reshape(-1, *[1] * len(lead)).expand(-1, *lead)
        found = {}
        for name in structure.terms:
            arguments, rest, combinations = self._arguments(name, site, factors, 1.0)

            def function(
                point: Tensor, *more: Tensor, name: str = name, rest: Any = rest, combinations: Any = combinations
            ) -> tuple[Tensor, ...]:
                return (self._expected(name, site, point, more, rest, combinations, by_block=True),)

            (each,) = self._run(("logits", name, site), function, [points, *arguments])
            found[name] = each.movedim(0, -1).reshape(*lead, len(known))
        return found

    def expected(self, factors: Factors, spread: float = 1.0) -> dict[str, Tensor]:
        """Return the expected log density of every site, term -> [chain]."""
        found = {}
        for name in self.terms:
            arguments, rest, combinations = self._arguments(name, "", factors, spread)
            like = next(iter(factors.values()))[0]

            def function(
                point: Tensor, *more: Tensor, name: str = name, rest: Any = rest, combinations: Any = combinations
            ) -> tuple[Tensor, ...]:
                return (self._expected(name, "", point, more, rest, combinations)[0],)

            (found[name],) = self._run(("expected", name), function, [like.new_zeros(1, len(like)), *arguments])
        return found

    def entropy(self, factors: Factors) -> Tensor:
        """Return the entropy of all factors, [chain]."""
        total: Any = 0.0
        for site, factor in factors.items():
            structure = self.structures[site]
            if structure.family is None:
                each = -torch.special.xlogy(factor[0], factor[0]).sum(-1)
            else:
                each = structure.family.entropy(factor)
            total = total + each.reshape(len(each), -1).sum(1)
        return total

    def check(self, factors: Factors) -> None:
        """Raise NotApplicable, naming the term, where expectations depend on which values they are sums over."""
        for site in self.joint.sites:
            structure = self.structures[site]
            if structure.kind == "discrete":
                continue
            assert structure.family is not None
            points = structure.unshaped(structure.family.points(self._middle(site, factors)))
            near, far = (self.slopes(site, factors, points, spread) for spread in (0.6, 1.0))
            for name, one in near.items():
                size = one.abs() + far[name].abs() + one.abs().amax()
                if not bool(((one - far[name]).abs() <= APART * size).all()):
                    said = f"the expectation of {name} is no sum over expected statistics of what it has to do with"
                    raise NotApplicable(f"cavi: {site} has no exact update: {said}")

    def _middle(self, site: str, factors: Factors) -> Tensor:
        points, _ = self.nodes(site, factors[site])
        return self.structures[site].shaped(points[0])

    def _arguments(
        self, name: str, site: str, factors: Factors, spread: float
    ) -> tuple[list[Tensor], list[str], list[tuple[int, ...]]]:  # fmt: skip
        """Return nodes and weights of the other sites of a term, one after the other, and all combinations of these."""
        rest = [other for other in self.terms[name].sites if other != site]
        pairs = [self.nodes(other, factors[other], spread) for other in rest]
        sizes = [len(points) for points, _ in pairs]
        if math.prod(sizes) > self.most:
            said = f"{name} has to do with {', '.join(rest)} at once, {math.prod(sizes)} combinations of values"
            raise NotApplicable(f"cavi: {said}: at most {self.most} are added up")
        return [each for pair in pairs for each in pair], rest, list(itertools.product(*map(range, sizes)))

    def _run(self, key: Any, function: Any, arguments: list[Tensor]) -> tuple[Tensor, ...]:
        def others() -> list[Tensor]:
            return [self._near(each) for each in arguments]

        return self.replays.run(key, function, arguments, others)

    @staticmethod
    def _near(value: Tensor) -> Tensor:
        return value if not value.is_floating_point() else value * 1.01

    def _expected(
        self, name: str, site: str, points: Tensor, more: Sequence[Tensor], rest: Sequence[str],
        combinations: Sequence[tuple[int, ...]], by_block: bool = False,
    ) -> Tensor:  # fmt: skip
        """Return a term's expectation over all sites but one, [point, chain], or by the blocks of this one."""
        count, chains = points.shape[:2]
        nodes, weights = dict(zip(rest, more[::2], strict=True)), dict(zip(rest, more[1::2], strict=True))
        pairs = list(itertools.product(range(count), combinations))
        values = {}
        for other in self.joint.sites:
            if other == site:
                chosen = points[[i for i, _ in pairs]]
            elif other in nodes:
                at = rest.index(other)
                chosen = nodes[other][[combination[at] for _, combination in pairs]]
            else:  # of no concern to this term
                state = self.structures.states[0][other]
                chosen = state.expand(len(pairs), chains, *state.shape)
            values[other] = chosen.flatten(0, 1)
        cells = over_points(self.joint.cells, values)[name]
        flat = cells.reshape(count, len(combinations), chains, -1)
        weight: Any = flat.new_ones(())
        for at, other in enumerate(rest):
            each = weights[other][[combination[at] for combination in combinations]]
            each = torch.cat([each, torch.ones_like(each[..., :1])], -1)  # of cells that have to do with no block
            place = self._places(name, site, count, rest, combinations, other).to(each.device)
            shape = count, len(combinations), chains, place.shape[-1]
            weight = weight * each.expand(count, *each.shape).gather(-1, place.unsqueeze(2).expand(shape))
        weighed = (flat * weight).sum(1)
        if not by_block:
            return weighed.sum(-1)
        known = self.structures[site].owners
        assert known is not None
        return known[name].add_up(weighed.reshape(count, chains, *known[name].owner.shape))

    def _places(
        self, name: str, site: str, count: int, rest: Sequence[str], combinations: Sequence[tuple[int, ...]], other: str
    ) -> Tensor:
        """Return the block of a site that every cell has to do with, at all points and combinations, [..., cell]."""
        term = self.terms[name]
        discrete = [each for each in term.sites if each in self.joint.candidates]

        def at(point: int, combination: Sequence[int]) -> Tensor:
            places = tuple(point if each == site else combination[rest.index(each)] for each in discrete)
            return term.owners[places][other].owner.flatten()

        every = [at(point, combination) for point in range(count) for combination in combinations]
        return torch.stack(every).unflatten(0, (count, len(combinations)))
