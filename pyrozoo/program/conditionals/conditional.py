"""The complete conditional of a site at values of all others, and what each site contributes to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.seeds import seeded
from pyrozoo.program.conditionals.blocks import cells_at, slopes_at
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.families import Parameters
from pyrozoo.program.conditionals.structure import Structure, Structures
from pyrozoo.program.trace import Program


@dataclass(frozen=True)
class Conditional:
    """The distribution of one site given all others.

    Attributes:
        structure: What it is.
        contributions: Site -> what its density adds to each parameter, summed over its plates: of a conjugate site
            as its family's ``parameters`` say, [*batch, ...]; of a discrete one log densities, [*batch, value].
    """

    structure: Structure
    contributions: Mapping[str, Parameters]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names."""
        return ("logits",) if self.structure.family is None else self.structure.family.parameters

    @property
    def parameters(self) -> Parameters:
        """The parameters: of a conjugate site its family's; of a discrete one unnormalised log probabilities."""
        parts = list(self.contributions.values())
        if self.structure.family is None:
            return (sum((each[0] for each in parts[1:]), parts[0][0]),)
        return self.structure.family.together(parts, self.structure.event_size)

    @property
    def distribution(self) -> Any:
        """The distribution, of torch: blocks of a normal one have their elements last (``structure.blocks.apart``)."""
        if self.structure.family is None:
            return torch.distributions.Categorical(logits=self.parameters[0])
        return self.structure.family.distribution(self.parameters)


def conditional_at(joint: Joint, structure: Structure, values: Values) -> Conditional:
    """Return the conditional of a site at values of all sites.

    Raises:
        NotApplicable: The site is neither conjugate nor discrete.
    """
    if structure.kind == "other":
        raise NotApplicable(f"{structure.site} is not conjugate: {structure.reason}")
    with torch.no_grad(), pyro.validation_enabled(False):
        if structure.kind == "discrete":
            return Conditional(structure, _logits(joint, structure, values))
        found = None
        for colour in structure.colours or (None,):
            each = _contributions(joint, structure, values, colour)
            found = each if found is None or colour is None else _chosen(structure, colour, each, found)
    assert found is not None
    return Conditional(structure, found)


def _contributions(
    joint: Joint, structure: Structure, values: Values, colour: Tensor | None
) -> dict[str, Parameters]:  # fmt: skip
    value = values[structure.site]
    points = structure.points(value)
    if colour is not None:
        points = torch.where(structure.blocks.spread(colour), points, value)
    slopes = slopes_at(joint, structure.site, values, points, structure.terms)
    return {term: structure.read(points, slopes[:, i]) for i, term in enumerate(structure.terms)}


def _chosen(
    structure: Structure, colour: Tensor, new: Mapping[str, Parameters], old: Mapping[str, Parameters]
) -> dict[str, Parameters]:  # fmt: skip
    def one(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(colour.reshape(colour.shape + (1,) * (a.ndim - colour.ndim)), a, b)

    return {term: tuple(map(one, new[term], old[term])) for term in new}


def _logits(joint: Joint, structure: Structure, values: Values) -> dict[str, Parameters]:
    site, known = structure.site, structure.values
    assert known is not None
    value, count = values[site], structure.blocks.count
    if structure.owners is not None:
        every = known.reshape(-1, *[1] * value.ndim).expand(-1, *value.shape)
        cells = cells_at(joint, site, values, every)
        sums = {term: each.add_up(cells[term]) for term, each in structure.owners.items()}
        return {term: (each.T.reshape(*structure.blocks.batch, len(known)),) for term, each in sums.items()}
    one = torch.eye(count, dtype=torch.bool, device=value.device).reshape(count, 1, *value.shape)
    every = torch.where(one, known.reshape(1, -1, *[1] * value.ndim), value).flatten(0, 1)
    cells = cells_at(joint, site, values, every)
    return {
        term: (cells[term].reshape(count, len(known), -1).sum(-1).reshape(*structure.blocks.batch, len(known)),)
        for term in structure.terms
    }


@dataclass
class Conditionals:
    """The complete conditionals of all sites of a program.

    Args:
        program: The program.
        data: Its argument.
    """

    program: Program
    data: Any = None

    def __post_init__(self) -> None:
        # The same points whoever asks, and whenever: what is found does not depend on the caller's random state.
        with torch.no_grad(), pyro.validation_enabled(False), seeded(0):
            self.joint = Joint(self.program, self.data)
            self.structures = Structures.of(self.joint)

    def __call__(self, site: str, values: Values) -> Conditional:
        """Return the conditional of a site at values of all sites (see ``conditional_at``)."""
        return conditional_at(self.joint, self.structures[site], values)

    def draw(self) -> dict[str, Tensor]:
        """Return values of all latent sites from their priors."""
        return self.joint.draw()
