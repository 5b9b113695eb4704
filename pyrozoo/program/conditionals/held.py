"""A hand-built update held to the conditional that follows from the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.program.conditionals.conditional import Conditional, Conditionals

AGREE = 1e-8
"""Relative difference up to which a hand-built update is the derived one."""


@dataclass(frozen=True)
class Held:
    """Both, at one state.

    Attributes:
        conditional: The derived one.
        built: The parameters of the hand-built one.
        difference: The largest difference of each parameter, over its size.
    """

    conditional: Conditional
    built: tuple[Tensor, ...]
    difference: tuple[float, ...]

    @property
    def same(self) -> bool:
        """Whether they are one update."""
        return all(each <= AGREE for each in self.difference)


def held(
    conditionals: Conditionals, site: str, values: Values, parameters: Callable[[Values], Sequence[Tensor]],
    where: Tensor | None = None,
) -> Held:  # fmt: skip
    """Hold an update to the derived conditional at a state.

    Args:
        conditionals: Of the program.
        site: The site.
        values: Of all sites, site -> [*shape].
        parameters: The hand-built update, of one chain: values [1, *shape] to parameters [1, ...].
        where: The elements that it is about, [*batch]; None: all.
    """
    conditional = conditionals(site, values)
    derived = list(conditional.parameters)
    built = [each[0] for each in parameters({name: value[None] for name, value in values.items()})]
    if conditional.structure.family is None:  # log probabilities are known up to a constant
        derived, built = ([each[0].log_softmax(-1)] for each in (derived, built))
    if where is not None:
        derived, built = ([each[where] for each in both] for both in (derived, built))
    differences = [apart(one, other) for one, other in zip(derived, built, strict=True)]
    return Held(conditional, tuple(built), tuple(differences))


def apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two tensors, over the size of their numbers."""
    # A single factor's axis is one of blocks or of a block: both say so in their own way.
    other = other.reshape(one.shape) if one.numel() == other.numel() else other
    one, other = torch.broadcast_tensors(one, other)
    if not one.numel():
        return 0.0
    scale = max(float(one.abs().amax()), 1e-300)
    size = torch.maximum(one.abs(), torch.full_like(one, 1e-3 * scale))
    return float(((one - other).abs() / size).nan_to_num(nan=torch.inf).amax())
