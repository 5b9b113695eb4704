"""A program as one density over a flat real vector."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, ClassVar

import numpy as np
import pyro.poutine as poutine
import torch
from pyro.infer.autoguide.initialization import InitMessenger, init_to_value
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor

from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.errors import NotApplicable, NumericalError
from pyrozoo.core.seeds import undisturbed
from pyrozoo.program.trace import (
    Program,
    anywhere,
    depth_of,
    dims_of,
    is_deterministic,
    log_density_at,
    log_prior,
    plate_depth,
    priors,
)


class FlatDensity(abc.ABC):
    """A log density over a flat real vector, Jacobians of the transforms to the sites included.

    Attributes:
        sites: The sites, in the order in which they stand in the vector.
        shapes: Their unconstrained shapes.
        transforms: Site -> the map to unconstrained space.
        size: Length of the vector.
        device: Where it is computed: vectors come from there or from the CPU, where samplers and optimisers have them.
        proper: Whether it is known to have an integral.
    """

    proper: ClassVar[bool] = False
    sites: list[str]
    shapes: list[torch.Size]
    transforms: dict[str, Any]
    size: int
    device: torch.device

    @abc.abstractmethod
    def potential(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return minus the log joint density of unconstrained values by site, a scalar."""

    def flatten(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return unconstrained values by site as one vector."""
        return torch.cat([parts[site].reshape(-1) for site in self.sites])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return vectors [*batch, size] as unconstrained values by site, [*batch, *shape], on the density's device."""
        parts = vector.to(self.device).split([shape.numel() for shape in self.shapes], -1)
        batch = vector.shape[:-1]
        return {s: part.reshape(batch + shape) for s, part, shape in zip(self.sites, parts, self.shapes, strict=True)}

    def unconstrain(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map site values to unconstrained ones."""
        return {site: self.transforms[site](values[site]) for site in self.sites}

    def constrain(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map unconstrained values to site values."""
        return {site: self.transforms[site].inv(parts[site]) for site in self.sites}

    def values(self, vectors: Tensor) -> Draws:
        """Return the site values of vectors [chain, draw, size], all at once where the transforms can."""
        with torch.no_grad():
            flat = vectors.flatten(0, 1)
            first = self.constrain(self.unflatten(flat[0]))
            result = Draws()
            for site, part in self.unflatten(flat).items():
                inverse = self.transforms[site].inv
                try:
                    found = inverse(part)
                    whole = found.shape == (len(flat), *first[site].shape) and torch.equal(found[0], first[site])
                except (RuntimeError, ValueError, IndexError):
                    whole = False
                if not whole:
                    found = torch.stack([inverse(each) for each in part])
                result[site] = found.unflatten(0, vectors.shape[:2])
        return result

    def log_jacobian(self, vector: Tensor) -> Tensor:
        """Return log |d values / d vector|, a scalar: the density of values is that of the vector divided by it."""
        total = vector.new_zeros((), device=self.device)
        for site, part in self.unflatten(vector).items():
            inverse = self.transforms[site].inv
            total = total + inverse.log_abs_det_jacobian(part, inverse(part)).sum()
        return total

    def where(self, position: int) -> str:
        """Return the name of an element of the vector, such as ``rate[3]``: the site and the place in it."""
        for site, shape in zip(self.sites, self.shapes, strict=True):
            if position < shape.numel():
                place = [int(i) for i in np.unravel_index(position, shape)] if shape else []
                return site + (f"[{', '.join(map(str, place))}]" if place else "")
            position -= shape.numel()
        raise IndexError(position)

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the log joint density of the vector (up to nothing: constants are kept), a scalar where it is."""
        return -self.potential(self.unflatten(vector)).to(vector.device)


class Unconstrained(FlatDensity):
    """The log joint density of a program whose local sites are summed out by hand.

    A hand-built likelihood is many times faster than enumeration in Pyro; it is held to the enumerated program at
    random points first.

    Args:
        program: The program.
        sites: Its global sites.
        likelihood: (site -> value [1, 1, *event], data) -> log densities whose sum is the log-likelihood.
        data: The data.
        few: The fewest units there can be: priors of global sites do not depend on them.
        part: Units that the likelihood is held to the program on: one that is right for some is right for all.
        start: Site -> [*event], a valid value of every global site (it fixes shapes).

    Raises:
        NotApplicable: If the program has local sites that are not summed out.
        NumericalError: If the likelihood and the program disagree.
    """

    proper = True  # the zoo's priors are
    CHECKS = 3
    AGREEMENT: ClassVar = {torch.float64: 1e-9, torch.float32: 1e-4}

    def __init__(
        self, program: Program, sites: Sequence[str], likelihood: Callable[[Values, Any], Tensor], data: Any, *,
        few: Any, part: Any, start: Values,
    ):  # fmt: skip
        self.program, self.likelihood, self.data, self.few, self.part = program, likelihood, data, few, part
        self.depth = plate_depth(program, few)
        try:
            initial, self.enumerated, self.transforms, _ = initialize_model(
                program, (part,), init_strategy=init_to_value(values=dict(start)), max_plate_nesting=self.depth
            )
        except NotImplementedError as error:
            raise NotApplicable(
                f"a site's support cannot be mapped to real numbers, which this method needs ({error}); "
                "other settings of the model or other methods can do without"
            ) from None
        if kept := sorted(set(initial) - set(sites)):
            raise NotApplicable(f"the program keeps {', '.join(kept)} as a site; this method needs it summed out")
        self.global_sites = list(sites)
        self.priors = priors(
            program, sites, {site: value for site, value in start.items() if site in sites}, few, self.depth
        )
        self.fixed_priors = True
        self.sites = [site for site in sites if site in initial]
        self.shapes = [initial[site].shape for site in self.sites]
        self.size = sum(shape.numel() for shape in self.shapes)
        vector = self.flatten(initial).detach()
        self.device = vector.device
        self._check(vector)

    def _check(self, vector: Tensor) -> None:
        tolerance = self.AGREEMENT[vector.dtype]
        with torch.no_grad(), undisturbed():
            for _ in range(self.CHECKS):
                point = vector + 0.1 * torch.randn_like(vector)
                values = {s: v[None, None] for s, v in self.constrain(self.unflatten(point)).items()}
                fixed = self._log_prior(values)
                program = log_prior(self.program, self.global_sites, values, self.few, self.depth).squeeze()
                # Priors that depend on no other site are kept: running the program for them costs more than all else.
                self.fixed_priors &= bool(abs(fixed - program) <= tolerance * max(1.0, abs(float(program))))
                parts = self.unflatten(point)
                fast, slow = float(self.potential(parts, self.part)), float(self.enumerated(parts))
                if not abs(fast - slow) <= tolerance * max(1.0, abs(slow)):
                    raise NumericalError(f"the hand-built likelihood and the Pyro program disagree: {fast} and {slow}")

    def _log_prior(self, draws: Values) -> Tensor:
        if not self.fixed_priors:
            return log_prior(self.program, self.global_sites, draws, self.few, self.depth).squeeze()
        return torch.stack([self.priors[site].log_prob(draws[site][0, 0]).sum() for site in self.sites]).sum()

    def potential(self, parts: Mapping[str, Tensor], data: Any = None) -> Tensor:
        """Return minus the log joint density of unconstrained values by site, a scalar."""
        values, total = {}, torch.zeros(())
        for site, part in parts.items():
            inverse = self.transforms[site].inv
            values[site] = inverse(part)
            jacobian = inverse.log_abs_det_jacobian(part, values[site]).sum()
            total = jacobian + total
        draws = {site: value[None, None] for site, value in values.items()}
        likelihood = self.likelihood(draws, self.data if data is None else data).sum()
        return -(total + likelihood + self._log_prior(draws))


class ProgramDensity(FlatDensity):
    """The log joint density of any Pyro program, its discrete sites summed out by enumeration.

    Args:
        program: The program.
        args: Its arguments.
        kwargs: Its keyword arguments.
        log_density: A faster log density of what the program says, (site -> value, *args, **kwargs) -> scalar,
            Jacobians not included: local sites summed out by hand. It is held to the program at random points.

    Attributes:
        dims: Site -> names of its dimensions: its plates and, for the dimensions of one event, ``site_dim_i``.
        observed: Observed site -> value.

    Raises:
        NotApplicable: The program has no continuous site, or one whose support is not fixed or cannot be mapped to real
            numbers.
        NumericalError: ``log_density`` and the program disagree.
    """

    CHECKS = 3

    def __init__(
        self, program: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
        log_density: Callable[..., Tensor] | None = None,
    ):  # fmt: skip
        self.program, self.args, self.kwargs = program, tuple(args), dict(kwargs or {})
        self.log_density = log_density
        first: Any = self._trace()
        self.depth = depth_of(first)
        try:
            _, self.enumerated, self.transforms, prototype = initialize_model(
                program, self.args, self.kwargs, init_strategy=anywhere, max_plate_nesting=self.depth, initial_params={}
            )
        except NotImplementedError as error:
            raise NotApplicable(f"NUTS cannot follow this program: {error}") from None
        self.sites = list(self.transforms)
        if not self.sites:
            raise NotApplicable("the program has no continuous latent site, so there is nothing for NUTS to move")
        second = self._trace()
        values = {site: prototype.nodes[site]["value"].detach() for site in self.sites}
        for site in self.sites:
            edges = [ends(trace.nodes[site]["fn"].support) for trace in (first, second)]
            if not all(torch.equal(one, other) for one, other in zip(*edges, strict=True)):
                raise NotApplicable(f"the support of {site} depends on other sites: give it a fixed one and scale it")
        self.shapes = [self.transforms[site](values[site]).shape for site in self.sites]
        self.size = sum(shape.numel() for shape in self.shapes)
        self.device = next(iter(values.values())).device
        self.dtype = reduce(torch.promote_types, [value.dtype for value in values.values()])
        self.dims = {site: dims_of(prototype.nodes[site]) for site in self.sites}
        self.observed = {
            name: (node["value"], dims_of(node))
            for name, node in first.nodes.items()
            if node["type"] == "sample" and node["is_observed"] and type(node["fn"]).__name__ != "Unit"
        }
        self.derived = {
            name: dims_of(node) for name, node in first.nodes.items()
            if node["type"] == "sample" and is_deterministic(node)
        }  # fmt: skip
        self.observed = {name: pair for name, pair in self.observed.items() if name not in self.derived}
        if log_density is not None:
            self._check(self.flatten(self.unconstrain(values)))

    def _trace(self) -> Any:
        with undisturbed():
            return poutine.trace(InitMessenger(anywhere)(self.program)).get_trace(*self.args, **self.kwargs)

    def _check(self, vector: Tensor) -> None:
        with torch.no_grad(), undisturbed():
            for _ in range(self.CHECKS):
                parts = self.unflatten(vector + 0.1 * torch.randn_like(vector))
                fast, slow = float(self.potential(parts)), float(self.enumerated(parts))
                if not abs(fast - slow) <= (1e-9 if vector.dtype == torch.float64 else 1e-4) * max(1.0, abs(slow)):
                    raise NumericalError(f"log_density and the Pyro program disagree: {-fast} and {-slow}")

    def potential(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return minus the log joint density of unconstrained values by site, a scalar."""
        values = self.constrain(parts)
        if self.log_density is None:
            total = log_density_at(lambda _: self.program(*self.args, **self.kwargs), values, None, self.depth)
        else:
            total = self.log_density(values, *self.args, **self.kwargs)
        for site, part in parts.items():
            total = total + self.transforms[site].inv.log_abs_det_jacobian(part, values[site]).sum()
        return -total

    def start(self, how: str) -> Tensor:
        """Return a random vector, on the CPU: ``uniform`` in [-2, 2], as Stan has it, or from the ``prior``.

        Raises:
            NotApplicable: The prior of a site cannot be drawn from.
        """
        if how == "uniform":
            return 4 * torch.rand(self.size, dtype=self.dtype) - 2
        try:
            trace: Any = poutine.trace(self.program).get_trace(*self.args, **self.kwargs)
        except NotImplementedError as error:
            raise NotApplicable(f"the prior cannot be drawn from ({error}): start from uniform") from None
        values = {site: trace.nodes[site]["value"] for site in self.sites}
        return self.flatten(self.unconstrain(values)).detach().cpu()

    def deterministic(self, draws: Draws) -> Draws:
        """Return the program's deterministic sites at draws, name -> [chain, draw, *event]."""
        if not self.derived:
            return Draws()

        def at(values: dict[str, Tensor]) -> dict[str, Tensor]:
            trace: Any = poutine.trace(poutine.condition(self.program, data=values)).get_trace(
                *self.args, **self.kwargs
            )
            return {name: trace.nodes[name]["value"] for name in self.derived}

        shape = next(iter(draws.values())).shape[:2]
        flat = {site: value.flatten(0, 1) for site, value in draws.items()}
        with torch.no_grad(), undisturbed():
            try:
                found = torch.func.vmap(at, randomness="different")(flat)
            except (RuntimeError, ValueError):  # a program whose course depends on values
                each_one = [at({s: v[i] for s, v in flat.items()}) for i in range(shape.numel())]
                found = {name: torch.stack([one[name] for one in each_one]) for name in self.derived}
        return Draws({name: value.unflatten(0, shape) for name, value in found.items()})


def ends(support: Any) -> list[Tensor]:
    """Return the numbers that say where a support ends."""
    own = [getattr(support, name, None) for name in ("lower_bound", "upper_bound")]
    inner = getattr(support, "base_constraint", None)
    return [torch.as_tensor(end) for end in own if end is not None] + (ends(inner) if inner is not None else [])
