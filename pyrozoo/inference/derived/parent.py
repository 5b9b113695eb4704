"""What methods derived from a program have in common: its conditionals, and how a conjugate site is visited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Answer
from pyrozoo.core.draws import Values
from pyrozoo.inference.derived import state
from pyrozoo.program.conditionals.conditional import Conditionals
from pyrozoo.program.conditionals.families import Parameters
from pyrozoo.program.conditionals.structure import Structure


class Derived(solver.Solver):
    """A solver whose state has sites of a program, and whose steps go from site to site.

    Attributes:
        conditionals: The complete conditionals of the program.
        joint: Its log joint.
        structures: What the conditional of each site is.
        layout: Sites as fields of a state.
    """

    layout: state.Layout

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.conditionals = Conditionals(posterior.program, posterior.data)
        self.joint, self.structures = self.conditionals.joint, self.conditionals.structures

    def visited(
        self, structure: Structure, values: Values, slopes: Callable[[Values, Tensor], Tensor],
        choose: Callable[[Parameters], Tensor],
    ) -> Tensor:  # fmt: skip
        """Return new values of a conjugate site given all others, [chain, *shape].

        Args:
            structure: What its conditional is.
            values: Of all sites, site -> [chain, *shape].
            slopes: (values, points of the site, [point, chain, *shape]) to gradients of the log joint there.
            choose: Parameters of the family to a value.
        """
        now, site = dict(values), structure.site
        for colour in structure.colours or (None,):
            value = now[site]
            mask = None if colour is None else structure.blocks.spread(colour)
            points = structure.points(value)
            if mask is not None:
                points = torch.where(mask, points, value)
            new = structure.unshaped(choose(structure.parameters(points, slopes(now, points))))
            now[site] = new if mask is None else torch.where(mask, new, value)
        return now[site]

    def answer(self, state: Any) -> Answer:
        """Return the values of the sites that a fit has."""
        values = self.layout.values(state)
        return Answer(point={site: values[site] for site in self.posterior.sites})
