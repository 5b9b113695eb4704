"""The expected log joint of a program under a q that need not be its own: what steps of EM and CAVI are held to.

Sites of q, one or several that are a factor together, come as a few points of the same weight (``math/designs.py``).
Discrete sites beside them are summed out exactly, whatever they are to each other; continuous ones get the factor that
is best given the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import biject_to

from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.math import designs
from pyrozoo.program.conditionals.blocks import over_points
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.conditional import conditional_at
from pyrozoo.program.conditionals.families import NormalFamily, WishartFamily
from pyrozoo.program.conditionals.structure import Structures
from pyrozoo.program.trace import Program, Summed, plate_depth

Nodes = Values
"""Sites that are one factor -> their points, [node, *shape]."""


class Averages:
    """Expectations of the log densities of a program's sites.

    Args:
        program: The program.
        data: Its argument.
        sites: Those of q; the others are local.
    """

    def __init__(self, program: Program, data: Any, sites: Sequence[str]):
        with torch.no_grad(), pyro.validation_enabled(False):
            self.joint, self.depth = Joint(program, data), plate_depth(program, data)
            states = [self.joint.draw() for _ in range(2)]
        self.values = states[0]
        self.local = [each for each in self.joint.sites if each not in sites and not self.joint.discrete(each)]
        self.sites = [each for each in self.joint.sites if not self.joint.discrete(each)]
        self.structures = Structures.of(self.joint) if self.local else None
        both = {site: torch.stack([state[site] for state in states]) for site in self.sites}
        first = {site: torch.stack([states[0][site]] * 2) for site in self.sites}
        self.touched = {
            site: {name for name, log in self.logs({**first, site: both[site]}).items() if _changes(log)}
            for site in both
        }

    def logs(self, values: Values) -> dict[str, Tensor]:
        """Return log densities at values of the continuous sites, [node, *shape]: name -> [node, ...]."""

        def one(at: dict[str, Tensor]) -> dict[str, Tensor]:
            found = Summed(self.joint.program, at, self.joint.data, self.depth)
            return dict(zip(found.names, found.logs, strict=True))

        return over_points(one, dict(values))

    def mean_logs(self, factors: Sequence[Nodes]) -> dict[str, Tensor]:
        """Return expected log densities, over all combinations of points of the factors that one has to do with."""
        found = {}
        names = dict.fromkeys(name for site in self.sites for name in sorted(self.touched[site]))
        for mine in dict.fromkeys(self._of(name, factors) for name in names):
            logs = self.logs(self.combined([factors[i] for i in mine], factors))
            found.update({name: logs[name].mean(0) for name in names if self._of(name, factors) == mine})
        return found

    def _of(self, name: str, factors: Sequence[Nodes]) -> tuple[int, ...]:
        return tuple(i for i, each in enumerate(factors) if any(name in self.touched[site] for site in each))

    def combined(self, some: Sequence[Nodes], every: Sequence[Nodes]) -> dict[str, Tensor]:
        """Return all combinations of the points of some factors, with the first point of the others."""
        places = list(itertools.product(*(range(len(next(iter(each.values())))) for each in some)))
        values = {
            site: each[:1].expand(len(places), *each.shape[1:]) for nodes in every for site, each in nodes.items()
        }
        for i, nodes in enumerate(some):
            values |= {site: each[[place[i] for place in places]] for site, each in nodes.items()}
        return values

    def locals(self, factors: Sequence[Nodes]) -> tuple[list[Nodes], Tensor]:
        """Return the factors of the continuous local sites given those of the others, and their entropy."""
        added, entropy = list[Nodes](), torch.zeros((), dtype=torch.float64)
        for site in self.local:
            assert self.structures is not None
            structure = self.structures[site]
            states = self.combined(factors, factors)
            count = len(next(iter(states.values())))
            each = [
                conditional_at(self.joint, structure, {**self.values, **{s: v[i] for s, v in states.items()}})
                for i in range(count)
            ]
            found = [torch.stack(parts).mean(0) for parts in zip(*(one.parameters for one in each), strict=True)]
            if not isinstance(structure.family, NormalFamily):
                raise NotApplicable(f"the factor of {site} is not normal: there is no design of it here")
            root = torch.linalg.cholesky(torch.linalg.inv(found[0]))
            added.append({site: structure.unshaped(designs.normal(structure.family.mode(found), root))})
            entropy = entropy + structure.family.entropy(found).sum()
        return added, entropy

    def weights(self, factors: Sequence[Nodes]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the discrete sites out where all else is as expected.

        Returns:
            The expected log joint of the other sites and the entropy of the discrete ones, together; and the
            probabilities of these, by the site whose log density they weigh.
        """
        mean = self.mean_logs(factors)
        at = {site: value[0] for site, value in self.combined([], factors).items()}
        base = Summed(self.joint.program, at, self.joint.data, self.depth)
        with torch.enable_grad():
            more = [
                (mean.get(name, log) - log).detach().requires_grad_(True)
                for name, log in zip(base.names, base.logs, strict=True)
            ]
            total = base.total(more)
            found = torch.autograd.grad(total, more)
        return total.detach(), dict(zip(base.names, found, strict=True))

    def expected(self, factors: Sequence[Nodes], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return expected log densities, name -> a number, but for what no site of q has to do with."""
        # What has probability 0 may have a log density of minus infinity.
        return {
            name: (weights[name] * torch.where(weights[name] > 0, log, 0.0)).sum()
            for name, log in self.mean_logs(factors).items()
        }

    def slopes(self, site: str, factors: Sequence[Nodes], weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the gradient of the expected log joint along a site of a single point, and the size of its parts.

        Coordinates are unconstrained, without a Jacobian: it is 0 where the density of the site itself is highest.
        """
        (own,) = (each for each in factors if site in each)
        matrices = WishartFamily.fits(self.joint.support(site))
        transform = None if matrices else biject_to(self.joint.nodes[site]["fn"].support)
        free = torch.linalg.cholesky(own[site]) if transform is None else transform.inv(own[site])
        with torch.enable_grad():
            free = free.detach().requires_grad_(True)
            value = free.tril() @ free.tril().mT if transform is None else transform(free)
            moved = [{**each, site: value} if each is own else each for each in factors]
            terms = [term for term in self.expected(moved, weights).values() if term.requires_grad]
            slopes = [torch.autograd.grad(term, free, retain_graph=True)[0] for term in terms]
        return sum(slopes[1:], slopes[0]), sum((each.abs() for each in slopes[1:]), slopes[0].abs())


def _changes(log: Tensor) -> bool:
    return not torch.allclose(log[0], log[1], rtol=1e-13, atol=0.0, equal_nan=True)
