"""EM of any program: discrete sites summed out exactly, conjugate sites at their modes, others by Newton's method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.inference.derived import state
from pyrozoo.inference.derived.parent import Derived
from pyrozoo.program.conditionals.blocks import Blocks
from pyrozoo.program.conditionals.expectation import Expectation
from pyrozoo.program.conditionals.structure import Structure

NEWTON_STEPS, HALVINGS = 2, 30
"""Steps of a site that is not conjugate in one step of EM, and how often each may be halved until it climbs."""

LARGEST = 5.0
"""How far a step may go, in unconstrained space: a mode may be on the edge of the support."""

MOST_IN_A_BLOCK = 500
"""Elements that depend on each other, whose Hessian is dense."""


class Solver(Derived, kind="point", objective="log_joint", monotone=True):
    """EM for the mode (Dempster, Laird and Rubin 1977), its M-step site by site (Meng and Rubin 1993: ECM).

    The E-step finds the posterior of all discrete sites given the others, exactly. The M-step takes the continuous
    sites in the program's order: a conjugate one goes to the mode of its expected conditional, another climbs by a few
    steps of Newton's method. Without discrete sites it is coordinate ascent. The objective is log p(data, sites) of the
    state before the step, discrete sites summed out.

    Raises:
        NotApplicable: A discrete site cannot be summed out, or a conditional has no mode inside of its support.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        for site in self.joint.sites:
            if self.joint.discrete(site) and not self.joint.nodes[site]["fn"].has_enumerate_support:
                raise NotApplicable(f"em cannot sum {site} out: {self.structures[site].reason}")
        self.expectation = Expectation(self.joint)
        self.sites = self.expectation.sites
        self.layout = state.Layout(self.sites)
        self.state_class = self.layout.state_class
        for site in self.sites:
            if self.structures[site].kind == "other" and self.structures[site].blocks.size > MOST_IN_A_BLOCK:
                said = f"{self.structures[site].blocks.size} elements of {site} depend on each other"
                raise NotApplicable(f"em: {said}, and it is not conjugate ({self.structures[site].reason})")

    def init(self, chains: int) -> Any:
        """Return the posterior's starting points."""
        return self.layout.state(state.starting(self.posterior, self.joint, chains))

    def step(self, state: Any) -> tuple[Any, Info]:
        """Do one E-step and M-step; return the log joint of the argument."""
        values = self.layout.values(state)
        with torch.no_grad():
            objective, weights = self.expectation.weights(values)
            for site in self.sites:
                values[site] = self.best(site, values, weights)
        return self.layout.state(values), Info(objective)

    def best(self, site: str, values: Values, weights: list[Tensor]) -> Tensor:
        """Return the value of a site, given all other continuous ones, that the M-step comes to."""
        structure = self.structures[site]
        return (self._mode if structure.kind == "conjugate" else self._climbed)(structure, values, weights)

    def _mode(self, structure: Structure, values: Values, weights: list[Tensor]) -> Tensor:
        site, family = structure.site, structure.family
        assert family is not None

        def slopes(now: Values, points: Tensor) -> Tensor:
            return self.expectation.slopes(site, now, points, weights)

        mode = self.visited(structure, values, slopes, lambda given: family.inside(family.mode(given)))
        if not bool(mode.isfinite().all()):
            said = f"the {family.name} conditional of {site} has no mode inside of its support"
            raise NotApplicable(f"em: {said}: give it a prior that is 0 on the edge, or use inference=gibbs")
        return mode

    def _climbed(self, structure: Structure, values: Values, weights: list[Tensor]) -> Tensor:
        """Climb by Newton's method with absolute curvature, halving steps until the expected log joint rises."""
        site, now = structure.site, dict(values)
        transform = biject_to(self.joint.nodes[site]["fn"].support)
        for _ in range(NEWTON_STEPS):
            free = transform.inv(now[site])
            blocks = Blocks(tuple(free.shape[1:]), structure.blocks.within)
            slope, hessian = self.expectation.curvature(site, now, free, transform, blocks, weights)
            curvature, axes = torch.linalg.eigh(0.5 * (hessian + hessian.mT))
            size = curvature.abs()
            floor = 1e-10 * size.amax(-1, keepdim=True).clamp(min=1e-10)
            along = (axes.mT @ slope.unsqueeze(-1)).squeeze(-1) / torch.maximum(size, floor)
            step = blocks.joined((axes @ along.unsqueeze(-1)).squeeze(-1))
            longest = step.abs().reshape(len(step), -1).amax(1).clamp(min=LARGEST)
            step = step * (LARGEST / longest).reshape(-1, *[1] * (free.ndim - 1))
            now[site] = self._risen(site, now, free, step, transform, weights)
        return now[site]

    def _risen(
        self, site: str, values: Values, free: Tensor, step: Tensor, transform: Any, weights: list[Tensor]
    ) -> Tensor:  # fmt: skip
        chains, value = len(free), values[site]
        before = self.expectation.values_at(site, values, value.unsqueeze(0), weights)[0]
        left = torch.ones(chains, dtype=torch.bool, device=free.device)
        for halving in range(HALVINGS):
            tried = transform(free + 0.5**halving * step)
            after = self.expectation.values_at(site, values, tried.unsqueeze(0), weights)[0]
            good = left & (after >= before)
            value = torch.where(good.reshape(-1, *[1] * (value.ndim - 1)), tried, value)
            left = left & ~good
            if not bool(left.any()):
                break
        return value
