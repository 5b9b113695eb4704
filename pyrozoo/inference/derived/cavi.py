"""Coordinate ascent variational inference of any program whose expected natural parameters are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Answer, Info
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NumericalError
from pyrozoo.inference.derived import state
from pyrozoo.inference.derived.parent import Derived
from pyrozoo.program.conditionals.evaluation import Evaluation
from pyrozoo.program.conditionals.mean_field import MeanField
from pyrozoo.program.conditionals.structure import Structure

SURE = 0.9
"""Probability of what a discrete site starts from."""


@dataclass(frozen=True)
class Factors:
    """q of the sites that a fit has: independent blocks of independent sites.

    Attributes:
        structures: Site -> its structure.
        parameters: Site -> parameters, [chain, ...].
    """

    structures: dict[str, Structure]
    parameters: dict[str, Sequence[Tensor]]

    def sample(self) -> Values:
        """Return one draw per chain, site -> [chain, *shape]."""
        found = {}
        for site, structure in self.structures.items():
            assert structure.family is not None
            found[site] = structure.unshaped(structure.family.draw(self.parameters[site]))
        return found

    def log_prob(self, values: Values) -> Tensor:
        """Return the log density of one draw per chain, [chain]."""
        total: Any = 0.0
        for site, structure in self.structures.items():
            assert structure.family is not None
            each = structure.family.log_prob(structure.shaped(values[site]), self.parameters[site])
            total = total + each.reshape(len(each), -1).sum(1)
        return total


class Solver(Derived, kind="variational", objective="elbo", monotone=True):
    """CAVI (Bishop 2006, section 10.1): every site, and every independent block of it, has a factor of its own.

    Discrete sites come first, then the others, both in the program's order. A factor gets the expected natural
    parameters of its conditional, which are exact sums (``program/conditionals/mean_field.py``). The objective is the
    ELBO of the state before the step.

    Raises:
        NotApplicable: A site is neither conjugate nor discrete, or an expectation is not exact; the message names it.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.mean_field = MeanField(self.joint, self.structures)
        self.evaluation = Evaluation(self.joint)
        self.names = {site: self._parameters(site) for site in self.joint.sites}
        self.layout = state.Layout(f"{site}_{name}" for site, names in self.names.items() for name in names)
        self.state_class = self.layout.state_class
        discrete = [site for site in self.joint.sites if self.joint.discrete(site)]
        self.order = [*discrete, *(site for site in self.joint.sites if site not in discrete)]

    def _parameters(self, site: str) -> tuple[str, ...]:
        family = self.structures[site].family
        return ("probability",) if family is None else family.parameters

    def _state(self, factors: dict[str, Sequence[Tensor]]) -> Any:
        return self.layout.state(
            {f"{site}_{name}": each for site, names in self.names.items()
             for name, each in zip(names, factors[site], strict=True)}
        )  # fmt: skip

    def factors(self, state: Any) -> dict[str, Sequence[Tensor]]:
        """Return the parameters of all factors, site -> [chain, ...]."""
        values = self.layout.values(state)
        return {site: [values[f"{site}_{name}"] for name in names] for site, names in self.names.items()}

    def init(self, chains: int) -> Any:
        """Return factors that are the conditionals at the posterior's starting points."""
        values = state.starting(self.posterior, self.joint, chains)
        with torch.no_grad():
            factors = {site: self._conditional(site, values) for site in self.joint.sites}
        return self._state(factors)

    def _conditional(self, site: str, values: Values) -> Sequence[Tensor]:
        structure, value = self.structures[site], values[site]
        if structure.kind == "discrete":
            known = self.joint.candidates[site]
            like = next(each for each in values.values() if each.is_floating_point())
            hit = (value.unsqueeze(-1) == known).to(like.dtype)
            return [SURE * hit + (1 - SURE) / len(known)]
        assert structure.family is not None
        points = structure.points(value)
        slopes = self.evaluation.slopes(site, values, points, structure.terms)
        return self._valid(structure, structure.parameters(points, slopes))

    def step(self, state: Any) -> tuple[Any, Info]:
        """Update every factor; return the ELBO of the argument."""
        factors = self.factors(state)
        with torch.no_grad():
            objective = self.mean_field.expected(factors) + self.mean_field.entropy(factors)
            for site in self.order:
                factors[site] = self.update(site, factors)
        return self._state(factors), Info(objective)

    def update(self, site: str, factors: dict[str, Sequence[Tensor]]) -> Sequence[Tensor]:
        """Return the parameters of a site's factor, given those of all others."""
        structure = self.structures[site]
        found = self._added(structure, factors, structure.terms)
        if structure.family is None:
            return [found[0].softmax(-1)]
        return self._valid(structure, structure.family.together([found], structure.event_size))

    def contributions(self, site: str, factors: dict[str, Sequence[Tensor]]) -> dict[str, tuple[Tensor, ...]]:
        """Return what each term adds, expected, to the parameters of a site's factor, or to its log probabilities."""
        structure = self.structures[site]
        return {name: self._added(structure, factors, (name,)) for name in structure.terms}

    def _added(
        self, structure: Structure, factors: dict[str, Sequence[Tensor]], names: Sequence[str]
    ) -> tuple[Tensor, ...]:  # fmt: skip
        site = structure.site
        if structure.family is None:
            return (self.mean_field.logits(site, factors, names),)
        points = structure.points(self.mean_field.nodes(site, factors[site])[0])
        return structure.read(points, self.mean_field.slopes(site, factors, points, names))

    def _valid(self, structure: Structure, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        if not all(bool(each.isfinite().all()) for each in parameters):
            raise NumericalError(f"cavi: the factor of {structure.site} is not finite")
        return parameters

    def answer(self, state: Any) -> Answer:
        """Return q."""
        factors = self.factors(state)
        sites = list(self.posterior.sites)
        structures = {site: self.structures[site] for site in sites}
        return Answer(q=Factors(structures, {site: factors[site] for site in sites}))
