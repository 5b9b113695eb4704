"""The log joint and its slopes for many chains at once, recorded once as a list of tensor operations.

A Pyro program takes milliseconds of Python at every run, whatever its size. Its operations are the same each time; they
are recorded at one state, held to the program at another, and run without it from then on. A program that takes one
value at a time, or whose course depends on values, is run as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrozoo.compiler.replay import replayed
from pyrozoo.compiler.tape import Untraceable
from pyrozoo.core.draws import Values
from pyrozoo.core.seeds import undisturbed
from pyrozoo.program.conditionals.blocks import elsewhere, over_points
from pyrozoo.program.conditionals.cells import Joint

Function = Callable[..., tuple[Tensor, ...]]

AGREE = 1e-9
"""Relative difference up to which a recorded function is the program's."""


class Evaluation:
    """What is asked of the log joint at values of all latent sites, site -> [chain, *shape].

    Args:
        joint: The log joint.
    """

    def __init__(self, joint: Joint):
        self.joint, self.replays = joint, Replays()

    def cells(self, site: str, values: Values, points: Tensor, terms: Sequence[str]) -> dict[str, Tensor]:
        """Return cells of some sites with one site at several values, term -> [point, chain, *cell].

        Args:
            site: The site.
            values: Of all sites, site -> [chain, *shape].
            points: Of the site, [point, chain, *shape].
            terms: The sites whose cells are wanted.
        """

        def function(point: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
            found = self._cells(site, values, point, others)
            return tuple(found[term] for term in terms)

        parts = self._run(("cells", site, tuple(terms)), function, site, values, points)
        return {t: each.unflatten(0, points.shape[:2]) for t, each in zip(terms, parts, strict=True)}

    def slopes(self, site: str, values: Values, points: Tensor, terms: Sequence[str]) -> Tensor:
        """Return gradients of the sum of what some sites have of the log joint, [point, chain, *shape]."""

        def function(point: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                leaf = point.detach().requires_grad_(True)
                found = self._cells(site, values, leaf, others)
                total = torch.stack([found[term].sum() for term in terms]).sum()
            return torch.autograd.grad(total, leaf)

        (found,) = self._run(("slopes", site, tuple(terms)), function, site, values, points)
        return found.unflatten(0, points.shape[:2])

    def totals(self, values: Values) -> Tensor:
        """Return log p(data, all latent sites) of every chain, [chain]."""
        first = next(iter(values))

        def function(point: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
            found = self._cells(first, values, point, others)
            return (torch.stack([each.flatten(1).sum(1) if each.ndim > 1 else each for each in found.values()]).sum(0),)

        return self._run(("totals",), function, first, values, values[first].unsqueeze(0))[0]

    def _cells(self, site: str, values: Values, point: Tensor, others: Sequence[Tensor]) -> dict[str, Tensor]:
        names = [name for name in values if name != site]
        every = {site: point, **dict(zip(names, others, strict=True))}
        return over_points(self.joint.cells, every)

    def _run(self, key: Any, function: Function, site: str, values: Values, points: Tensor) -> tuple[Tensor, ...]:
        rest = {name: value for name, value in values.items() if name != site}
        arguments = spread(rest, points)
        names = [site, *rest]

        def elsewhere_too() -> list[Tensor]:
            return [moved(self.joint, name, each) for name, each in zip(names, arguments, strict=True)]

        return self.replays.run(key, function, arguments, elsewhere_too)


def spread(rest: Values, points: Tensor) -> list[Tensor]:
    """Return points [point, chain, *shape] and other values [chain, *shape] with one axis of all points and chains."""
    count, chains = points.shape[:2]
    others = (value.unsqueeze(0).expand(count, *value.shape).reshape(-1, *value.shape[1:]) for value in rest.values())
    return [points.reshape(count * chains, *points.shape[2:]), *others]


def moved(joint: Joint, site: str, values: Tensor) -> Tensor:
    """Return other values of a site, [point, *shape]."""
    return torch.stack([elsewhere(joint, site, each, 0.3) for each in values])


class Replays:
    """Functions of tensors, recorded where they can be."""

    def __init__(self) -> None:
        self._known: dict[Any, Function] = {}

    def run(
        self, key: Any, function: Function, arguments: Sequence[Tensor], others: Callable[[], Sequence[Tensor]]
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return what a function is at arguments.

        Args:
            key: What the function is known by, among all that have arguments of these shapes.
            function: From tensors to a tuple of tensors.
            arguments: The tensors.
            others: Makes other arguments, at which what is recorded is held to the function.
        """
        key = (key, *(tuple(each.shape) for each in arguments))
        if key not in self._known:
            self._known[key] = self._recorded(function, arguments, others)
        with torch.no_grad(), pyro.validation_enabled(False):
            return self._known[key](*arguments)

    def _recorded(
        self, function: Function, arguments: Sequence[Tensor], others: Callable[[], Sequence[Tensor]]
    ) -> Function:  # fmt: skip
        with undisturbed(), pyro.validation_enabled(False):
            try:
                replay = replayed(function, arguments)
                at = others()
                pairs = list(zip(replay(*at), function(*at), strict=True))
            except (Untraceable, RuntimeError, ValueError, NotImplementedError):
                return function  # whatever a program does that cannot be recorded, it can be run
        same = all(torch.allclose(a, b, rtol=AGREE, atol=AGREE, equal_nan=True) for a, b in pairs)
        return replay if same else function
