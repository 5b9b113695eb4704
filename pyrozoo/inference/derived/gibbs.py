"""Gibbs sampling of any program: conjugate and discrete sites from their complete conditionals, others by slices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Answer, Info
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable, NumericalError
from pyrozoo.inference.derived import state
from pyrozoo.inference.derived.slices import Slicer
from pyrozoo.program.conditionals.conditional import Conditionals
from pyrozoo.program.conditionals.evaluation import Evaluation
from pyrozoo.program.conditionals.structure import Structure

MOST_IN_TURN = 512
"""Elements of a discrete site that are drawn one after another, where they depend on each other."""


class Solver(solver.Solver, kind="samples", objective="log_joint_of_all_sites", of="result"):
    """A sweep draws every latent site given all others, the program's last one first: those beside the data.

    So the first values of a hierarchy's effects are near the data, whatever its precisions begin with. From above, a
    noise would first be fitted to effects that nobody has drawn yet, and chains would take thousands of sweeps to leave
    that.

    The conditionals are found from the log joint once (``program/conditionals``); a sweep evaluates it at a few points
    per site, all chains and all independent elements at once. The objective is log p of the data and of all latent
    sites, discrete ones too, after the sweep.

    Raises:
        NotApplicable: A discrete site has no end of values, or too many elements that depend on each other.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.conditionals = Conditionals(posterior.program, posterior.data)
        self.joint, self.structures = self.conditionals.joint, self.conditionals.structures
        self.evaluation = Evaluation(self.joint)
        self.layout = state.Layout(self.joint.sites)
        self.state_class = self.layout.state_class
        self.slicers = {}
        for site in self.joint.sites:
            structure = self.structures[site]
            self._refuse(structure)
            if structure.kind == "other":
                self.slicers[site] = Slicer(self.evaluation, structure)

    def _refuse(self, structure: Structure) -> None:
        site = structure.site
        if structure.kind == "other" and self.joint.discrete(site):
            raise NotApplicable(f"gibbs cannot draw {site}: {structure.reason}")
        if structure.kind == "discrete" and structure.colours and structure.blocks.count > MOST_IN_TURN:
            said = f"the {structure.blocks.count} elements of {site} depend on each other"
            raise NotApplicable(f"gibbs cannot draw {site}: {said}, and more than {MOST_IN_TURN} take too long")

    def init(self, chains: int) -> Any:
        """Return the posterior's starting points, and draws of the discrete sites given them."""
        return self.layout.state(state.starting(self.posterior, self.joint, chains))

    def step(self, state: Any) -> tuple[Any, Info]:
        """Do one sweep; return the log joint of the result."""
        values = self.layout.values(state)
        with torch.no_grad():
            for site in reversed(self.joint.sites):
                values[site] = self.draw(site, values)
            return self.layout.state(values), Info(self.evaluation.totals(values))

    def draw(self, site: str, values: Values) -> Tensor:
        """Return new values of a site given all others, [chain, *shape]."""
        structure = self.structures[site]
        if structure.kind == "other":
            return self.slicers[site].draw(values)
        return self._discrete(structure, values) if structure.kind == "discrete" else self._conjugate(structure, values)

    def _conjugate(self, structure: Structure, values: Values) -> Tensor:
        now, family, site = dict(values), structure.family, structure.site
        assert family is not None
        for colour in structure.colours or (None,):
            value = now[site]
            mask = None if colour is None else structure.blocks.spread(colour)
            points = structure.unshaped(family.points(structure.shaped(value)))
            if mask is not None:
                points = torch.where(mask, points, value)
            slopes = self.evaluation.slopes(site, now, points, structure.terms)
            found = structure.read(structure.shaped(points), structure.shaped(slopes))
            drawn = structure.unshaped(self._drawn(structure, family.together([found], structure.event_size)))
            now[site] = drawn if mask is None else torch.where(mask, drawn, value)
        return now[site]

    def _drawn(self, structure: Structure, parameters: tuple[Tensor, ...]) -> Tensor:
        assert structure.family is not None
        try:
            found = structure.family.draw(parameters)
        except (RuntimeError, ValueError):
            found = None
        if found is None or (not structure.colours and not bool(found.isfinite().all())):
            raise NumericalError(f"gibbs: the {structure.family.name} conditional of {structure.site} is improper here")
        return found

    def _discrete(self, structure: Structure, values: Values) -> Tensor:
        now, site, known = dict(values), structure.site, structure.values
        assert known is not None
        for colour in structure.colours or (None,):
            value = now[site]
            points = known.reshape(-1, *[1] * value.ndim).expand(-1, *value.shape)
            if colour is not None:
                points = torch.where(colour, points, value)
            cells = self.evaluation.cells(site, now, points, structure.terms)
            lead = points.shape[:2]
            if structure.owners is not None and colour is None:
                parts = [each.add_up(cells[term]) for term, each in structure.owners.items()]
            else:
                parts = [each.reshape(*lead, -1).sum(-1, keepdim=True) for each in cells.values()]
            logits = sum(parts[1:], parts[0])  # [value, chain, element]
            noise = -torch.empty_like(logits).exponential_().log()
            drawn = known[(logits + noise).argmax(0)]
            now[site] = torch.where(colour, drawn.reshape(-1, *[1] * (value.ndim - 1)), value) if colour is not None \
                else drawn.reshape(value.shape)  # fmt: skip
        return now[site]

    def answer(self, state: Any) -> Answer:
        """Return the values of the sites that a fit has."""
        values = self.layout.values(state)
        return Answer(point={site: values[site] for site in self.posterior.sites})
