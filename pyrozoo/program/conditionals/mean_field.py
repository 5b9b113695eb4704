"""Expectations of the log joint under independent factors of all sites: exact means over a few values of each.

Where every site has a family the log joint is linear in the sufficient statistics of each, given the others. So its
expectation is a mean over values of each site that have the expected statistics (``Family.nodes``): over all pairs,
triples ... of the values of those sites that one term has to do with. Of discrete sites it is a sum over all values
that a cell's own element can have, with their probabilities.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyrozoo.core.errors import NotApplicable
from pyrozoo.program.conditionals.blocks import over_points
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.evaluation import Replays
from pyrozoo.program.conditionals.structure import Structures

Factors = Mapping[str, Sequence[Tensor]]
"""Site -> parameters of its factor, [chain, ...]: its family's, or probabilities [chain, *batch, value]."""

MOST, MOST_ONE_BY_ONE = 5000, 200
"""Combinations of values of the sites that one cell has to do with: fewer of a program that takes one at a time."""


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
            if structure.kind == "discrete" and (structure.owners is None or not structure.fixed):
                raise NotApplicable(f"cavi: some cell has to do with several elements of {site} at once")
        self.most = MOST if joint.batched else MOST_ONE_BY_ONE
        self.kept: dict[str, tuple[Sequence[Tensor], Tensor]] = {}  # values of the latest factors
        names = (*joint.sites, *joint.observed)
        self.sites = {name: tuple(site for site in joint.sites if name in structures[site].terms) for name in names}

    def nodes(self, site: str, factor: Sequence[Tensor]) -> Tensor:
        """Return values of a site, [node, chain, *shape]."""
        structure, kept = self.structures[site], self.kept.get(site)
        if structure.family is not None:
            if kept is None or kept[0] is not factor:
                kept = self.kept[site] = factor, structure.unshaped(structure.family.nodes(factor))
            return kept[1]
        known, lead = self.joint.candidates[site], factor[0].shape[:-1]
        return known.reshape(-1, *[1] * len(lead)).expand(-1, *lead)

    def slopes(self, site: str, factors: Factors, points: Tensor, names: Sequence[str]) -> Tensor:
        """Return the expected gradients of some terms along a continuous site, summed up, [point, chain, *shape]."""

        def slope(point: Tensor, expected: Callable[[Tensor], dict[str, Tensor]]) -> Tensor:
            with torch.enable_grad():
                leaf = point.detach().requires_grad_(True)
                total = torch.stack([each.sum() for each in expected(leaf).values()]).sum()
            return torch.autograd.grad(total, leaf)[0]

        return self._summed("slopes", site, factors, points, names, slope)

    def logits(self, site: str, factors: Factors, names: Sequence[str]) -> Tensor:
        """Return expected log densities of every value of a discrete site, of some terms, [chain, *batch, value]."""
        known, (probability,), owners = self.joint.candidates[site], factors[site], self.structures[site].owners
        lead = probability.shape[:-1]
        assert owners is not None

        def by_block(point: Tensor, expected: Callable[[Tensor], dict[str, Tensor]]) -> Tensor:
            cells = expected(point).items()
            parts = [
                owners[name].add_up(each.reshape(*each.shape[:2], *owners[name].owner.shape)) for name, each in cells
            ]
            return torch.stack(parts).sum(0)

        found = self._summed("logits", site, factors, self.nodes(site, factors[site]), names, by_block)
        return found.movedim(0, -1).reshape(*lead, len(known))

    def expected(self, factors: Factors) -> Tensor:
        """Return the expected log joint, [chain]."""

        def total(point: Tensor, expected: Callable[[Tensor], dict[str, Tensor]]) -> Tensor:
            return torch.stack([each.sum(-1) for each in expected(point).values()]).sum(0)[0]

        like = next(iter(factors.values()))[0]
        return self._summed("expected", "", factors, like.new_zeros(1, len(like)), tuple(self.sites), total)

    def _summed(
        self, what: str, site: str, factors: Factors, points: Tensor, names: Sequence[str], say: Any
    ) -> Tensor:  # fmt: skip
        """Add up what is said of expected cells, terms over the same sites together."""
        total: Any = 0.0
        for rest, some in self.groups(site, names).items():
            arguments, combinations = self._arguments(some, rest, factors)

            def function(
                point: Tensor, *more: Tensor, some: Any = some, rest: Any = rest, combinations: Any = combinations
            ) -> tuple[Tensor, ...]:
                return (say(point, lambda at: self._expected(some, site, at, more, rest, combinations)),)

            total = total + self._run((what, site, tuple(some)), function, [points, *arguments])[0]
        return total

    def groups(self, site: str, names: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
        """Return terms by the sites beside one that they have to do with; fewer of these go with more."""
        rests = {name: tuple(each for each in self.sites[name] if each != site) for name in names}
        largest = [rest for rest in rests.values() if not any(set(rest) < set(other) for other in rests.values())]
        found: dict[tuple[str, ...], list[str]] = {}
        for name, rest in rests.items():
            found.setdefault(next(each for each in largest if set(rest) <= set(each)), []).append(name)
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

    def _arguments(
        self, names: Sequence[str], rest: Sequence[str], factors: Factors
    ) -> tuple[list[Tensor], list[tuple[int, ...]]]:  # fmt: skip
        """Return values of sites, then probabilities of discrete ones, and all combinations."""
        nodes = [self.nodes(other, factors[other]) for other in rest]
        weights = [factors[other][0] for other in rest if self.structures[other].family is None]
        sizes = [len(points) for points in nodes]
        if math.prod(sizes) > self.most:
            said = f"{names[-1]} has to do with {', '.join(rest)} at once, {math.prod(sizes)} combinations of values"
            raise NotApplicable(f"cavi: {said}: at most {self.most} are added up")
        return [*nodes, *weights], list(itertools.product(*map(range, sizes)))

    def _run(self, key: Any, function: Any, arguments: list[Tensor]) -> tuple[Tensor, ...]:
        def others() -> list[Tensor]:
            return [self._near(each) for each in arguments]

        return self.replays.run(key, function, arguments, others)

    @staticmethod
    def _near(value: Tensor) -> Tensor:
        return value if not value.is_floating_point() else value * 1.01

    def _expected(
        self, names: Sequence[str], site: str, points: Tensor, more: Sequence[Tensor], rest: Sequence[str],
        combinations: Sequence[tuple[int, ...]],
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return cells of terms, expected over all sites but one, [point, chain, cell]."""
        count, chains = points.shape[:2]
        nodes = dict(zip(rest, more, strict=False))
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
        found, cells = {}, over_points(self.joint.cells, values)
        for name in names:
            flat = cells[name].reshape(count, len(combinations), chains, -1)
            found[name] = (flat * self._weights(name, rest, more[len(rest) :], combinations, flat)).sum(1)
        return found

    def _weights(
        self, name: str, rest: Sequence[str], probabilities: Sequence[Tensor],
        combinations: Sequence[tuple[int, ...]], like: Tensor,
    ) -> Tensor:  # fmt: skip
        """Return weights of combinations, for every cell by the element of a discrete site that it has to do with."""
        discrete = [other for other in rest if self.structures[other].family is None]
        given = [pair for pair in zip(discrete, probabilities, strict=True) if pair[0] in self.sites[name]]
        values = math.prod(len(self.joint.candidates[other]) for other, _ in given)
        weight = like.new_full((), values / len(combinations))
        for other, probability in given:
            known, at = self.structures[other].owners, rest.index(other)
            assert known is not None
            each = probability.flatten(1, -2) if probability.ndim > 2 else probability.unsqueeze(1)
            none = torch.full_like(each[:, :1], 1 / each.shape[-1])  # of cells that have to do with no element
            chosen = torch.cat([each, none], 1)[:, known[name].owner.flatten()].permute(2, 0, 1)  # [value, chain, cell]
            weight = weight * chosen[[combination[at] for combination in combinations]]
        return weight
