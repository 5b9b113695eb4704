"""Gibbs sampling with all chains in one batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.models.zip_mixture import cavi
from pyrozoo.models.zip_mixture.em import State, log_prior
from pyrozoo.models.zip_mixture.likelihood import zero_is_on


class Solver(PointSolver, kind="samples", objective="log_joint", state=State):
    """Blocked Gibbs: z with b summed out, then b | z, then the parameters (van Dyk and Park 2008, JASA 103).

    The objective is log p(X, Theta) of the state before the sweep, z and b summed out.
    """

    def step(self, state: State) -> tuple[State, Info]:
        """Do one sweep; return the log joint of the argument."""
        layout = self.posterior.layout
        # z_i | x, Theta: p(z_i = k) prop. to pi_k prod_{d observed} p(x_id | k)
        sums, counts, evidence = layout.expected_statistics(layout.given(vars(state)), sample=True)
        return self.draw_parameters(state, sums, counts), Info(evidence + log_prior(self.model, state))

    def draw_parameters(self, state: State, sums: Float[Tensor, "C K F"], counts: Float[Tensor, "C K"]) -> State:
        """Draw b given z, then the parameters given both."""
        total, positive, zero = sums.chunk(3, -1)
        phi = zero_is_on(state.on_prob.log(), state.rate, torch.log1p(-state.on_prob))
        # Only the number of b = 1 among the zeros of a component matters, and it is Binomial(n0_kd, phi_kd).
        on = positive + torch.binomial(zero.round(), phi)
        return State(**cavi.State.given(self.posterior, counts, total, on, positive + zero).q.sample())
