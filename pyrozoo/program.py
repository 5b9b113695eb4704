"""What can be done with any model's Pyro program: simulate from it, evaluate it, map it to unconstrained space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import TraceEinsumEvaluator, initialize_model
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrozoo.types import Draws, Model


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under its own random state: torch's distributions take no generator, so fork the global one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def simulate(model: Model, blank: Any, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Draw every site of the program, the observed one included, from torch's global generator.

    Args:
        model: The model.
        blank: A data container that gives the shape; its values are not looked at.
        given: Sites held at a value.

    Returns:
        Site name -> value.
    """
    program = poutine.condition(poutine.uncondition(model), data=dict(given or {}))
    trace = poutine.trace(program).get_trace(blank)
    return {
        name: node["value"]
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and not site_is_subsample(node)
    }


def each(draws: Draws) -> Iterator[dict[str, Tensor]]:
    """Go through draws [chain, draw, *event] one by one, site -> [*event]."""
    chains, count = next(iter(draws.values())).shape[:2]
    for chain in range(chains):
        for draw in range(count):
            yield {name: value[chain, draw] for name, value in draws.items()}


def _stacked(values: list[Tensor], draws: Draws) -> Tensor:
    return torch.stack(values).reshape(next(iter(draws.values())).shape[:2])


def log_prior(model: Model, draws: Draws, data: Any) -> Tensor:
    """Return log p(global sites) under the program's priors, [chain, draw]."""
    values = []
    for draw in each(draws):
        trace = poutine.trace(poutine.condition(model, data=draw)).get_trace(data)
        values.append(torch.stack([trace.nodes[s]["fn"].log_prob(draw[s]).sum() for s in model.sites]).sum())
    return _stacked(values, draws)


def log_joint(model: Model, draws: Draws, data: Any) -> Tensor:
    """Return the program's own log p(data, global sites), discrete sites summed out by enumeration, [chain, draw].

    The truth that hand-built densities are held to; slower than they are.
    """
    depth = max(len(site["cond_indep_stack"]) for site in _prototype(model, data).nodes.values() if "fn" in site)
    values = []
    for draw in each(draws):
        program = poutine.enum(poutine.condition(model, data=draw), first_available_dim=-1 - depth)
        trace = poutine.trace(program).get_trace(data)
        values.append(TraceEinsumEvaluator(trace, True, depth).log_prob(trace))
    return _stacked(values, draws)


def _prototype(model: Model, data: Any) -> poutine.Trace:
    return poutine.trace(model).get_trace(data)


def count_unknowns(model: Model, draws: Draws) -> int:
    """Return the number of scalar unknowns in the global sites."""
    return sum(int(draws[site][0, 0].numel()) for site in model.sites)


class Unconstrained:
    """The program's log joint density over a flat real vector, Jacobians of the transforms included.

    Args:
        model: The model; its discrete sites are summed out by enumeration.
        data: The data.
        start: Site -> [*event], a valid value of every global site (it fixes shapes).
    """

    def __init__(self, model: Model, data: Any, start: Mapping[str, Tensor]):
        with torch.no_grad():
            initial, self.potential, self.transforms, _ = initialize_model(
                model, (data,), init_strategy=init_to_value(values=dict(start)), skip_jit_warnings=True
            )
        self.sites = [site for site in model.sites if site in initial]
        self.shapes = [initial[site].shape for site in self.sites]
        self.size = sum(shape.numel() for shape in self.shapes)

    def flatten(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return unconstrained values by site as one vector."""
        return torch.cat([parts[site].reshape(-1) for site in self.sites])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return one vector as unconstrained values by site."""
        parts = vector.split([shape.numel() for shape in self.shapes])
        return {s: part.reshape(shape) for s, part, shape in zip(self.sites, parts, self.shapes, strict=True)}

    def unconstrain(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map site values to unconstrained ones."""
        return {site: self.transforms[site](values[site]) for site in self.sites}

    def constrain(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map unconstrained values to site values."""
        return {site: self.transforms[site].inv(parts[site]) for site in self.sites}

    def log_jacobian(self, vector: Tensor) -> Tensor:
        """Return log |d values / d vector|, a scalar: the density of values is that of the vector divided by it."""
        total = vector.new_zeros(())
        for site, part in self.unflatten(vector).items():
            inverse = self.transforms[site].inv
            total = total + inverse.log_abs_det_jacobian(part, inverse(part)).sum()
        return total

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the log joint density of the vector (up to nothing: constants are kept), a scalar."""
        return -self.potential(self.unflatten(vector))
