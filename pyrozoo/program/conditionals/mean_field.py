"""Expectations of the log joint under independent factors of all sites: exact means over a few values of each.

Where every site has a family the log joint is linear in the sufficient statistics of each, given the others. So its
expectation is a mean over values of each site that have the expected statistics (``Family.nodes``): over all pairs,
triples ... of the values of those sites that one term has to do with. Of discrete sites it is a sum over all values
that a cell's own element can have, with their probabilities.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
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

    def slopes(self, site: str, factors: Factors, points: Tensor) -> dict[str, Tensor]:
        """Return expected gradients along a continuous site, by term, [point, chain, *shape]."""
        found = {}
        for name in self.structures[site].terms:
            arguments, rest, combinations = self._arguments(name, site, factors)

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
            arguments, rest, combinations = self._arguments(name, site, factors)

            def function(
                point: Tensor, *more: Tensor, name: str = name, rest: Any = rest, combinations: Any = combinations
            ) -> tuple[Tensor, ...]:
                return (self._expected(name, site, point, more, rest, combinations, by_block=True),)

            (each,) = self._run(("logits", name, site), function, [points, *arguments])
            found[name] = each.movedim(0, -1).reshape(*lead, len(known))
        return found

    def expected(self, factors: Factors) -> dict[str, Tensor]:
        """Return the expected log density of every site, term -> [chain]."""
        found = {}
        for name in self.sites:
            arguments, rest, combinations = self._arguments(name, "", factors)
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

    def _arguments(
        self, name: str, site: str, factors: Factors
    ) -> tuple[list[Tensor], list[str], list[tuple[int, ...]]]:  # fmt: skip
        """Return values of the other sites of a term, then probabilities of discrete ones, and all combinations."""
        rest = [other for other in self.sites[name] if other != site]
        nodes = [self.nodes(other, factors[other]) for other in rest]
        weights = [factors[other][0] for other in rest if self.structures[other].family is None]
        sizes = [len(points) for points in nodes]
        if math.prod(sizes) > self.most:
            said = f"{name} has to do with {', '.join(rest)} at once, {math.prod(sizes)} combinations of values"
            raise NotApplicable(f"cavi: {said}: at most {self.most} are added up")
        return [*nodes, *weights], rest, list(itertools.product(*map(range, sizes)))

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
        cells = over_points(self.joint.cells, values)[name]
        flat = cells.reshape(count, len(combinations), chains, -1)
        weighed = (flat * self._weights(name, rest, more[len(rest) :], combinations, flat)).sum(1)
        if not by_block:
            return weighed.sum(-1)
        known = self.structures[site].owners
        assert known is not None
        return known[name].add_up(weighed.reshape(count, chains, *known[name].owner.shape))

    def _weights(
        self, name: str, rest: Sequence[str], probabilities: Sequence[Tensor],
        combinations: Sequence[tuple[int, ...]], like: Tensor,
    ) -> Tensor:  # fmt: skip
        """Return weights of combinations, for every cell by the element of a discrete site that it has to do with."""
        discrete = [other for other in rest if self.structures[other].family is None]
        values = math.prod(len(self.joint.candidates[other]) for other in discrete)
        weight = like.new_full((), values / len(combinations))
        for other, probability in zip(discrete, probabilities, strict=True):
            known, at = self.structures[other].owners, rest.index(other)
            assert known is not None
            each = probability.flatten(1, -2) if probability.ndim > 2 else probability.unsqueeze(1)
            each = torch.cat([each, torch.ones_like(each[:, :1])], 1)  # of cells that have to do with no element
            chosen = each[:, known[name].owner.flatten()].permute(2, 0, 1)  # [value, chain, cell]
            weight = weight * chosen[[combination[at] for combination in combinations]]
        return weight
