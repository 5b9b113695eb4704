"""A program, traced: simulated from, conditioned, its densities by site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pyro.poutine as poutine
import torch
from pyro.infer.mcmc.util import TraceEinsumEvaluator
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NotApplicable


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
        name: cast(Tensor, node["value"])
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and not site_is_subsample(node)
    }


def prior_draw(model: Model, data: Any) -> dict[str, Tensor]:
    """Draw the global sites from the program's priors, from torch's global generator; the data only give shapes."""
    trace = poutine.trace(model).get_trace(data)
    return {site: cast(Tensor, trace.nodes[site]["value"]) for site in model.sites}


def each(draws: Draws) -> Iterator[dict[str, Tensor]]:
    """Go through draws [chain, draw, *event] one by one, site -> [*event]."""
    chains, count = next(iter(draws.values())).shape[:2]
    for chain in range(chains):
        for draw in range(count):
            yield {name: value[chain, draw] for name, value in draws.items()}


def _stacked(values: list[Tensor], draws: Draws) -> Tensor:
    return torch.stack(values).reshape(next(iter(draws.values())).shape[:2])


def log_prior(model: Model, draws: Draws, data: Any) -> Tensor:
    """Return log p(global sites) under the program's priors, [chain, draw].

    The program is run for every draw, unless a few of them show that no prior depends on another site: then its
    distributions are the same for all draws, and thousands are evaluated at once.
    """
    shape = next(iter(draws.values())).shape[:2]
    if shape.numel() > PROBES:
        some = torch.linspace(0, shape.numel() - 1, PROBES).round().long()
        probes = {site: value.flatten(0, 1)[some].unsqueeze(0) for site, value in draws.items()}
        expected = _each_log_prior(model, probes, data)[0]
        found = _log_prior_at_once(_priors(model, next(each(probes)), data), draws)
        precision = 1e-10 if expected.dtype == torch.float64 else 1e-5
        if found is not None and torch.allclose(found.flatten()[some], expected, rtol=precision, atol=precision):
            return found
    return _each_log_prior(model, draws, data)


PROBES = 4
"""Draws that show whether priors depend on other sites; among continuous values a coincidence has probability 0."""

BLOCK = 2**21
"""Numbers whose log densities are held at a time."""


def _log_prior_at_once(priors: Mapping[str, Any], draws: Draws) -> Tensor | None:
    """Return the log density of all draws under fixed priors, or None when one of them takes one value at a time."""
    parts: list[Tensor] = []
    for site, prior in priors.items():
        value = draws[site]
        chains, event = len(value), value[0, 0].numel()
        sums = []
        for block in value.split(max(1, BLOCK // (chains * max(event, 1))), 1):
            try:
                logs = prior.log_prob(block)
            except (ValueError, RuntimeError):
                return None
            if logs.shape[:2] != block.shape[:2]:
                return None
            sums.append(logs.flatten(2).sum(2) if logs.ndim > 2 else logs)
        parts.append(torch.cat(sums, 1))
    return torch.stack(parts).sum(0)


def _each_log_prior(model: Model, draws: Draws, data: Any) -> Tensor:
    values = []
    for draw in each(draws):
        priors = _priors(model, draw, data)
        values.append(torch.stack([priors[site].log_prob(draw[site]).sum() for site in model.sites]).sum())
    return _stacked(values, draws)


def _priors(model: Model, values: Mapping[str, Tensor], data: Any) -> dict[str, Any]:
    """Return the distribution of every global site when the global sites have these values."""
    trace = poutine.trace(poutine.condition(model, data=dict(values))).get_trace(data)
    return {site: trace.nodes[site]["fn"] for site in model.sites}


def log_joint(model: Model, draws: Draws, data: Any) -> Tensor:
    """Return the program's own log p(data, global sites), discrete sites summed out by enumeration, [chain, draw].

    The truth that hand-built densities are held to; slower than they are.
    """
    depth = plate_depth(model, data)
    values = []
    for draw in each(draws):
        program = poutine.enum(poutine.condition(model, data=draw), first_available_dim=-1 - depth)
        trace = poutine.trace(program).get_trace(data)
        values.append(TraceEinsumEvaluator(trace, True, depth).log_prob(trace))
    return _stacked(values, draws)


def plate_depth(model: Model, data: Any) -> int:
    """Return how many dimensions the program's plates take; enumeration goes to the left of them."""
    with torch.random.fork_rng():  # a look at the program is no draw of the caller's
        trace = poutine.trace(model).get_trace(data.part(torch.arange(min(2, data.parts))))
    frames = [f for node in trace.nodes.values() if node["type"] == "sample" for f in node["cond_indep_stack"]]
    return max((-frame.dim for frame in frames if frame.dim is not None), default=0)


def refuse_large(method: str, starts: Draws, limit: int) -> None:
    """Refuse a problem with more unknowns than a method is good for, before any work.

    Args:
        method: Its name.
        starts: Site -> [chains, *event].
        limit: The most scalar unknowns.

    Raises:
        NotApplicable: The problem is larger.
    """
    size = sum(value[0].numel() for value in starts.values())
    if size > limit:
        raise NotApplicable(
            f"{method} is limited to {limit} unknowns (inference.max_unknowns) and the model has {size}"
        )
