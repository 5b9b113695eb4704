"""What a comparison looks at of a fit: an even choice of its parameters and of its invariants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, Values, evenly

MOST_LINES = 300
"""Rows, columns or whatever a dimension counts that are compared; of more, so many are chosen evenly."""

Labels = Mapping[str, tuple[Sequence[str], ...]]
"""Quantity -> labels of each of its dimensions."""


@dataclass(frozen=True)
class Outline:
    """Parts of a fit that are as many for all fits of the same data.

    Attributes:
        draws: Site -> [chain, draw, *event], of dimensions with many places some.
        invariants: The same of the invariants.
        labels: Of what is left of them.
    """

    draws: Draws
    invariants: Draws
    labels: Labels


def outline(fit: Fit) -> Outline:
    """Return the outline of a fit: computed, or as it was stored with it; once."""
    known: Outline | None = vars(fit).get("outline")
    if known is None:
        sites, more = fit.posterior.sites, fit.posterior.invariant_dims
        draws, labels = _some(fit, fit.draws, sites)
        invariants, others = _some(fit, fit.invariants, more)
        known = vars(fit)["outline"] = Outline(draws, invariants, {**labels, **others})
    return known


def invariants_at(fit: Fit, draws: Draws) -> Draws:
    """Return the same invariants of other draws, but for the log-likelihood, which takes long: it is 0."""
    none = torch.zeros(draws.shape, dtype=torch.float64)
    found = Draws(fit.posterior.invariants(draws, none))
    return _some(fit, {name: found[name] for name in outline(fit).invariants}, fit.posterior.invariant_dims)[0]


def _some(fit: Fit, draws: Values, dims: Mapping[str, Sequence[str]]) -> tuple[Draws, dict[str, Any]]:
    """Return lines of draws, evenly chosen along each dimension, and the data's own labels where these have any."""
    chosen, labels, coords = {}, {}, fit.data.coords
    for name, value in draws.items():
        own: list[Sequence[str]] = []
        for axis, (dim, size) in enumerate(zip(dims.get(name, ()), value.shape[2:], strict=True), 2):
            at = evenly(size, MOST_LINES)
            if len(at) < size:
                value = value.index_select(axis, at.to(value.device))
            known = coords.get(dim, ())
            own.append([str(known[i] if len(known) == size else i) for i in at.tolist()])
        chosen[name], labels[name] = value, tuple(own)
    return Draws(chosen), labels
