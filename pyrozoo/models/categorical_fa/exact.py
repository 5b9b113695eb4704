"""EM with the latent vectors integrated exactly, by quadrature: the yardstick of the other methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.models.categorical_fa.layout import Layout
from pyrozoo.models.categorical_fa.likelihood import Modes, find_modes, integrate, node_places, nodes_per_row
from pyrozoo.models.categorical_fa.maximisation import Points, log_prior, update_decoder, update_latent
from pyrozoo.models.categorical_fa.quadrature import NODES
from pyrozoo.models.categorical_fa.state import Globals, stored


@dataclass(frozen=True)
class State(Globals):
    """The global sites, the modes of the last E-step, where the next one starts, and how far the objective moved."""

    q_mean: Float[Tensor, "C N d"]
    objective: Float[Tensor, C]
    change: Float[Tensor, C]


class Solver(SolverContract, kind="point", objective="log_joint", monotone=True, state=State):
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
        model, data = posterior.model, posterior.data
        if model.latent_dimension not in NODES:
            raise NotApplicable(
                f"exact integrates up to {max(NODES)} dimensions, and model.latent_dimension is "
                f"{model.latent_dimension}; vem and laplace_em do not mind"
            )
        if nodes is not None and nodes < 2:
            raise SettingError(f"solver.nodes is {nodes}; it must be at least 2, or null")
        self.model, self.layout, self.nodes = model, Layout.of(model, data), nodes
        self.like = data.values

    def init(self, chains: int) -> State:
        """Return starting values of the sites (``CategoricalFA.initial``), modes at the prior's mean."""
        sites = self.model.initial_for(self.layout, self.like, chains)
        p = self.layout.parameters(self.model, sites)
        away = torch.full((chains,), torch.inf, dtype=p.mean.dtype, device=p.mean.device)
        mean = p.mean.unsqueeze(1).expand(-1, self.layout.num_rows, -1).clone()
        return State(**stored(sites), q_mean=mean, objective=-away, change=away)

    def step(self, state: State) -> tuple[State, Info]:
        """Integrate every row, update the global sites; return the log joint density of the argument."""
        sites, layout = state.sites(self.model), self.layout
        p = layout.parameters(self.model, sites)
        mode = torch.empty_like(state.q_mean)
        C, _, d = mode.shape
        first, second = mode.new_zeros(C, d), mode.new_zeros(C, d, d)
        objective = log_prior(self.model, sites).clone()
        kept: list[tuple[Modes, Tensor]] = []
        for whole in layout.blocks(C * layout.num_categories * 4):
            found_modes = find_modes(layout, p, whole, state.q_mean[:, whole.rows])
            mode[:, whole.rows] = found_modes.mode
            for modes in found_modes.parts(C * layout.num_categories * nodes_per_row(d, self.nodes)):
                found = integrate(layout, p, modes, self.nodes)
                weights = found.weights
                objective = objective + found.log_evidence.sum(1)
                weighted = (found.z * weights.unsqueeze(1)).flatten(2)
                first = first + weighted.sum(-1)
                second = second + weighted @ found.z.flatten(2).mT
                kept.append((modes, weights))
        updated = update_latent(self.model, sites, layout.num_rows, first, second)

        def points() -> Iterator[Points]:
            for modes, weights in kept:
                yield Points(modes.block, node_places(modes, self.nodes), weights)

        updated |= update_decoder(self.model, layout, sites, points)
        change = (objective - state.objective).abs() / objective.abs().clamp(min=1e-12)
        return State(**stored(sites | updated), q_mean=mode, objective=objective, change=change), Info(objective)

    def residual(self, state: State) -> Float[Tensor, C]:
        """Return the relative change of the objective."""
        return state.change

    def draws(self, state: State) -> Values:
        """Return the sites."""
        return state.sites(self.model)
