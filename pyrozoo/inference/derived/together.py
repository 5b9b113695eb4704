"""Continuous sites that move together: a density of flat vectors of all chains, hierarchies without their centres."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to, constraints

from pyrozoo.compiler.density import CompiledDensity
from pyrozoo.compiler.kernels import switched_on
from pyrozoo.compiler.tape import Untraceable
from pyrozoo.core.draws import Values
from pyrozoo.core.seeds import undisturbed
from pyrozoo.inference.derived.trees import DENSE
from pyrozoo.inference.starts import pathfinder
from pyrozoo.math.branches import without_branches
from pyrozoo.program.conditionals.blocks import over_points
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.evaluation import Replays, moved
from pyrozoo.program.density import ends

log = logging.getLogger(__name__)

AGREE = 1e-8
"""Relative difference up to which compiled and recorded density are one."""

LOST = 100.0
"""How far below the best start another may be, beside five times the size: the bulk of a posterior is nowhere near."""

PATHS = 4
"""Paths from which all chains begin."""


def located(fn: Any) -> tuple[Tensor, Tensor] | None:
    """Return location and scale of a distribution, out of what is wrapped round it; None: it has none, or ends."""
    while hasattr(fn, "base_dist") and type(fn).__name__ != "MaskedDistribution":
        fn = fn.base_dist
    known = {"loc", "scale"} <= set(getattr(fn, "arg_constraints", ()))
    return (fn.loc, fn.scale) if known and fn.support is constraints.real else None


def of_scale(node: Any) -> tuple[Tensor, Tensor]:
    """Return location and scale of a site that has them."""
    found = located(node["fn"])
    assert found is not None
    return found


class Decentred(Messenger):
    """Has sites be location + scale x what is given.

    Args:
        given: Site -> value.
    """

    def __init__(self, given: Mapping[str, Tensor]):
        super().__init__()
        self.given = given

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.given:
            loc, scale = of_scale(msg)
            msg["value"] = loc + scale * self.given[msg["name"]]


def hierarchies(joint: Joint, states: Sequence[Values]) -> list[str]:
    """Return the continuous sites that are location + scale x deviation, with a scale that depends on other sites."""
    found = []
    for site, nodes in _nodes(joint, states):
        each = [located(node["fn"]) for node in nodes]
        plain = all(node["mask"] is None and isinstance(node["scale"], int | float) for node in nodes)
        known = [one[1] for one in each if one is not None]
        if plain and len(known) == len(nodes) and any(not torch.equal(one, known[0]) for one in known[1:]):
            found.append(site)
    return found


def shared(joint: Joint, states: Sequence[Values], site: str) -> bool:
    """Return whether some elements of a site that has a scale have it in common: only such hold each other."""
    node = next(nodes[0] for name, nodes in _nodes(joint, states[:1]) if name == site)
    return len(of_scale(node)[1].unique()) < node["value"].numel()


def movable(joint: Joint, states: Sequence[Values]) -> list[str]:
    """Return the continuous sites that can be mapped to real numbers, wherever other sites are."""
    found = []
    for site, nodes in _nodes(joint, states):
        supports = [node["fn"].support for node in nodes]
        try:
            biject_to(supports[0])
        except NotImplementedError:
            continue
        first, *others = (ends(support) for support in supports)
        same = all(torch.equal(*pair) for other in others for pair in zip(first, other, strict=True))
        if same and not joint.discrete(site):
            found.append(site)
    return found


def _nodes(joint: Joint, states: Sequence[Values]) -> Iterator[tuple[str, list[Any]]]:
    """Yield every latent site with what traces at some states have of it."""
    every = [poutine.trace(poutine.condition(joint.program, data=dict(each))).get_trace(joint.data) for each in states]
    for site in joint.sites:
        yield site, [trace.nodes[site] for trace in every]


@dataclass(frozen=True)
class Given:
    """The density of sites that move together, given all others (``trees.Target``).

    Attributes:
        of: The sites.
        others: Values of the other sites, each [chain, *shape].
        rest: The same as vectors, [chain, rest].
    """

    of: Together
    others: Sequence[Tensor]
    rest: Tensor

    @property
    def compiled(self) -> CompiledDensity | None:
        """The density of one vector with the rest after it."""
        return self.of.compiled

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return log densities [chain] and gradients [chain, size] of vectors."""
        return self.of.gradient(vectors, self.others)

    def one(self, vector: Tensor) -> tuple[float, Tensor]:
        """Return log density and gradient of one vector, given what the first chain has."""
        if self.compiled is not None:
            value, slope = self.compiled(torch.cat([vector, self.rest[0]]))
            return value, slope[: len(vector)]
        values, slopes = self(vector.unsqueeze(0))
        return float(values), slopes[0]


class Together:
    """Sites given all others, as NUTS moves them: unconstrained, and of hierarchies the standardised deviations.

    Without their centres the effects of a hierarchy do not narrow where their scale is small (Papaspiliopoulos, Roberts
    and Skoeld 2007, Statistical Science 22); draws of single sites, which have the centres, take turns with it, so that
    one of both mixes (Yu and Meng 2011, JCGS 20).

    Args:
        joint: The log joint.
        sites: The sites.
        decentred: Those of them that are location + scale x deviation.

    Attributes:
        size: Length of a vector: small sites come first.
        first: How many coordinates of it those sites have of which a metric is to know the correlations.
        compiled: The density of one vector with other sites after it, once it is compiled.
    """

    compiled: CompiledDensity | None = None
    tried = False

    def __init__(self, joint: Joint, sites: Sequence[str], decentred: Sequence[str]):
        self.joint, self.decentred = joint, tuple(decentred)
        self.sites = tuple(sorted(sites, key=lambda site: joint.nodes[site]["value"].numel()))
        self.others = tuple(site for site in joint.sites if site not in self.sites)
        self.replays = Replays()
        self.transforms = {
            site: biject_to(constraints.real if site in decentred else joint.nodes[site]["fn"].support)
            for site in self.sites
        }
        shapes = {site: self.transforms[site].inv(joint.nodes[site]["value"]).shape for site in self.sites}
        self.shapes = shapes
        self.size = sum(shape.numel() for shape in shapes.values())
        ends_at = torch.tensor([shape.numel() for shape in shapes.values()]).cumsum(0)
        self.first = max((int(end) for end in ends_at if end <= DENSE), default=0)

    def vectors(self, values: Values) -> Tensor:
        """Return values [chain, *shape] as vectors [chain, size]."""
        names = list(values)

        def function(*given: Tensor) -> tuple[Tensor, ...]:
            return tuple(over_points(self._vector, dict(zip(names, given, strict=True))).values())

        (found,) = self._run("vectors", function, values)
        return found

    def values(self, vectors: Tensor, others: Values) -> dict[str, Tensor]:
        """Return the sites' values, [chain, *shape], at vectors, given all other sites."""
        names = self.others

        def function(vector: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
            points = {"": vector, **dict(zip(names, given, strict=True))}
            return tuple(over_points(lambda point: self._at(point)[1], points)[site] for site in self.sites)

        arguments = [vectors, *(others[site] for site in names)]
        found = self.replays.run("values", function, arguments, lambda: self._elsewhere(arguments))
        return dict(zip(self.sites, found, strict=True))

    def given(self, others: Values) -> Given:
        """Return the density of vectors, given all other sites."""
        rest = [others[site] for site in self.others]
        chains = len(next(iter(others.values())))
        flat = [each.reshape(chains, -1).double() for each in rest]
        return Given(self, rest, torch.cat([next(iter(others.values())).new_zeros(chains, 0).double(), *flat], 1))

    def gradient(self, vectors: Tensor, rest: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return log densities [chain] and gradients [chain, size] of vectors, given other sites."""

        def function(vector: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                leaf = vector.detach().requires_grad_(True)
                points = {"": leaf, **dict(zip(self.others, given, strict=True))}
                total = over_points(lambda point: {"total": self._at(point)[0]}, points)["total"]
                (slope,) = torch.autograd.grad(total.sum(), leaf)
            return total.detach(), slope

        arguments = [vectors, *rest]
        value, slope = self.replays.run("gradient", function, arguments, lambda: self._elsewhere(arguments))
        return value, slope

    def compile(self, vectors: Tensor, others: Values) -> None:
        """Compile the density of one vector with what does not move after it, once, where that can be done.

        Args:
            vectors: Where chains are, [chain, size]: there, and beside it, it is held to the program.
            others: Values of the other sites.
        """
        if self.tried:
            return
        self.tried = True
        rest = {site: others[site][0] for site in self.others}
        if vectors.device.type != "cpu" or vectors.dtype != torch.float64 or not switched_on():
            return

        def density(flat: Tensor) -> Tensor:
            vector, *parts = flat.split([self.size, *(value.numel() for value in rest.values())])
            point = {"": vector}
            for (site, value), part in zip(rest.items(), parts, strict=True):
                point[site] = part.reshape(value.shape).to(value.dtype)
            return self._at(point)[0]

        given = self.given(others)
        try:
            with without_branches(), pyro.validation_enabled(False), torch.enable_grad():
                found = CompiledDensity(density, torch.cat([vectors[0], given.rest[0]]))
        except (Untraceable, RuntimeError, ValueError, NotImplementedError) as error:
            log.debug("the density is not compiled: %s", error)
            return
        with undisturbed(), torch.no_grad():
            torch.manual_seed(0)
            points = vectors + 0.1 * torch.randn_like(vectors)
            values, slopes = given(points)
        for point, still, value, slope in zip(points, given.rest, values, slopes, strict=True):
            here, along = found(torch.cat([point, still]))
            same = abs(here - float(value)) <= AGREE * (1 + abs(float(value)))
            near = bool(((along[: self.size] - slope).abs() <= AGREE * (1 + slope.abs().max())).all())
            if bool(value.isfinite()) and bool(slope.isfinite().all()) and not (same and near):
                return
        self.compiled = found

    def started(self, values: Values) -> Tensor:
        """Return vectors [chain, size] near the bulk, from a few paths of an optimiser that starts at values.

        Where a gradient cannot be had of a start, it is returned as it is.
        """
        vectors = self.vectors(values)
        chains = len(vectors)
        self.compile(vectors, values)
        near = vectors.clone()
        for path in range(min(PATHS, chains)):
            here = self.given({site: value[path : path + 1] for site, value in values.items()})
            near[path::PATHS] = pathfinder(here.one, vectors[path], len(range(path, chains, PATHS)))
        value, slope = self.given(values)(near)
        sound = value.isfinite() & slope.isfinite().all(-1)
        if not bool(sound.any()):
            return vectors
        # A path that ended nowhere is none: its chains begin from what others have found.
        good = (sound & (value > value[sound].max() - LOST - 5 * self.size)).nonzero().flatten()
        taken = torch.arange(chains, device=good.device)
        taken[~torch.isin(taken, good)] = good[torch.randint(len(good), (chains - len(good),))]
        return near[taken]

    def _run(self, key: str, function: Any, values: Values) -> tuple[Tensor, ...]:
        def elsewhere_too() -> list[Tensor]:
            return [moved(self.joint, site, value) for site, value in values.items()]

        return self.replays.run(key, function, list(values.values()), elsewhere_too)

    def _elsewhere(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        vector, *rest = arguments
        others = [moved(self.joint, site, each) for site, each in zip(self.others, rest, strict=True)]
        return [vector + 0.3 * torch.randn_like(vector), *others]

    def _trace(self, values: Values, deviations: Mapping[str, Tensor]) -> Any:
        program = Decentred(deviations)(poutine.condition(self.joint.program, data=dict(values)))
        return poutine.trace(program).get_trace(self.joint.data)

    def _vector(self, values: Values) -> dict[str, Tensor]:
        """Return the vector of one chain's values."""
        nodes = self._trace(values, {}).nodes
        parts = []
        for site in self.sites:
            value = values[site]
            if site in self.decentred:
                loc, scale = of_scale(nodes[site])
                value = (value - loc) / scale
            parts.append(self.transforms[site].inv(value).reshape(-1))
        return {"vector": torch.cat(parts)}

    def _at(self, point: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the log density of one chain's vector, and the values of the sites."""
        given = {site: point[site] for site in self.others}
        parts = point[""].split([shape.numel() for shape in self.shapes.values()])
        total: Any = 0.0
        deviations = {}
        for (site, shape), part in zip(self.shapes.items(), parts, strict=True):
            free = part.reshape(shape)
            if site in self.decentred:
                deviations[site] = free
                continue
            given[site] = self.transforms[site](free)
            total = total + self.transforms[site].log_abs_det_jacobian(free, given[site]).sum()
        trace = self._trace(given, deviations)
        for site, free in deviations.items():
            total = total + of_scale(trace.nodes[site])[1].expand(free.shape).log().sum()
        found = {site: trace.nodes[site]["value"] for site in self.sites}
        cells = self.joint.cells_of(trace).values()
        return total + torch.stack([each.sum() for each in cells]).sum(), found
