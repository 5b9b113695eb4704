"""EM with the latent vectors integrated exactly, by quadrature: the yardstick of the other methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.models.categorical_fa.layout import Layout, Parameters, Vectors
from pyrozoo.models.categorical_fa.likelihood import NODES, Modes, find_modes, integrate, node_places, nodes_per_row
from pyrozoo.models.categorical_fa.maximisation import EM, Globals, Points, log_prior
from pyrozoo.models.categorical_fa.posterior import Posterior


@dataclass(frozen=True)
class State(Globals):
    """The global sites, the modes of the last E-step, where the next one starts, and the last objective."""

    q_mean: Float[Tensor, "C N d"]
    objective: Float[Tensor, C]


class Solver(EM, kind="point", objective="log_joint", monotone=True, state=State, by_row=("q_mean",)):
    """EM with adaptive Gauss-Hermite quadrature (Bock and Aitkin 1981, Psychometrika 46; Schilling and Bock 2005, 70).

    E-step: nodes around every row's mode, as wide as the curvature there says. M-step: mean and covariance of the
    latent vector in closed form, contrasts and hidden units by Newton steps on the nodes. The objective is the log
    joint density of data and global sites before the step, exact to the quadrature's error: the fit is its mode, a
    point.

    Args:
        nodes: Per dimension; None: 61, 11, 9 for one, two, three dimensions.

    Raises:
        NotApplicable: More than three latent dimensions.
    """

    def __init__(self, posterior: Posterior, *, nodes: int | None = None):
        d = posterior.model.latent_dimension
        if d not in NODES:
            raise NotApplicable(
                f"exact integrates up to {max(NODES)} dimensions, and model.latent_dimension is {d}; vem and "
                "laplace_em do not mind"
            )
        if nodes is not None and nodes < 2:
            raise SettingError(f"solver.nodes is {nodes}; it must be at least 2, or null")
        super().__init__(posterior)
        self.nodes = nodes

    def init(self, chains: int) -> State:
        """Return starting values of the sites (``Posterior.initial``), modes at the prior's mean."""
        fields, variance = self.start(chains)
        return State(**fields, objective=variance.new_full((chains,), -torch.inf))

    def step(self, state: State) -> tuple[State, Info]:
        """Integrate every row, update the global sites; return the log joint density of the argument."""
        sites, points = self.sites(state), {}
        p = self.layout.parameters(sites)

        def expect(part: Posterior, start: Vectors) -> tuple[Any, Any]:
            mode, kept, sums = self.integrated(part.layout, p, start)
            points[part] = partial(self._points, kept)
            return mode, sums

        mode, (evidence, first, second) = self.posterior.over_rows(expect, state.q_mean)
        objective = log_prior(self.model, sites) + evidence
        now = self.maximise(sites, first, second, points)
        change = (objective - state.objective).abs() / objective.abs().clamp(min=1e-12)
        return State(**self.stored(now), q_mean=mode, objective=objective), Info(objective, residual=change)

    def integrated(
        self, layout: Layout, p: Parameters, start: Vectors
    ) -> tuple[Vectors, list[tuple[Modes, Tensor]], tuple[Tensor, Tensor, Tensor]]:
        """Return modes of rows; by block what makes nodes, and their weights; log evidence, sum E z and E z z^T."""
        mode = torch.empty_like(start)
        C, _, d = mode.shape
        evidence, first, second = mode.new_zeros(C), mode.new_zeros(C, d), mode.new_zeros(C, d, d)
        kept: list[tuple[Modes, Tensor]] = []
        for whole in layout.blocks(C * layout.num_categories * 4):
            found_modes = find_modes(layout, p, whole, start[:, whole.rows])
            mode[:, whole.rows] = found_modes.mode
            for modes in found_modes.parts(C * layout.num_categories * nodes_per_row(d, self.nodes)):
                found = integrate(layout, p, modes, self.nodes)
                weights = found.weights
                evidence = evidence + found.log_evidence.sum(1)
                weighted = (found.z * weights.unsqueeze(1)).flatten(2)
                first = first + weighted.sum(-1)
                second = second + weighted @ found.z.flatten(2).mT
                kept.append((modes, weights))
        return mode, kept, (evidence, first, second)

    def _points(self, kept: list[tuple[Modes, Tensor]]) -> Iterator[Points]:
        for modes, weights in kept:
            yield Points(modes.block, node_places(modes, self.nodes), weights)
