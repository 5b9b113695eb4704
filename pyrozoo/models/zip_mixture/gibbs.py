"""Gibbs sampling with all chains in one batch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma

from pyrozoo.contracts.fit import Kind
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Draws
from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture.likelihood import Layout, weights_of, zero_is_on
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.models.zip_mixture.point import State, draws_of, log_prior


class Solver(SolverContract):
    """Blocked Gibbs: z with b summed out, then b | z, then the parameters (van Dyk and Park 2008, JASA 103).

    The objective is log p(X, Theta) of the state before the sweep, z and b summed out.
    """

    kind: ClassVar[Kind] = "samples"
    objective_name: ClassVar[str] = "log_joint"
    objective_of: ClassVar[Literal["before", "after"]] = "before"
    monotone: ClassVar[bool] = False
    state_class: Any = State

    def __init__(self, model: ZipMixture, data: Table):
        self.model, self.data = model, data
        self.layout = Layout.of(data)
        self.alpha = model.concentration(data.values)

    def init(self, chains: int) -> State:
        """Return random starting points (``ZipMixture.initial``)."""
        return State(**self.model.initial(self.data, chains))

    def step(self, state: State) -> tuple[State, Float[Tensor, C]]:
        """Do one sweep; return the log joint of the argument."""
        weights = weights_of(self.draws(state), self.layout)
        # z_i | x, Theta: p(z_i = k) prop. to pi_k prod_{d observed} p(x_id | k)
        sums, counts, evidence = self.layout.expected_statistics(weights, state.weights.log(), sample=True)
        return self.draw_parameters(state, sums, counts), evidence + log_prior(self.model, state)

    def draw_parameters(self, state: State, sums: Float[Tensor, "C K F"], counts: Float[Tensor, "C K"]) -> State:
        """Draw b given z, then the parameters given both."""
        m = self.model
        total, positive, zero = sums.chunk(3, -1)
        phi = zero_is_on(state.on_prob.log(), state.rate, torch.log1p(-state.on_prob))
        # Only the number of b = 1 among the zeros of a component matters, and it is Binomial(n0_kd, phi_kd).
        on = positive + torch.binomial(zero.round(), phi)
        off = (positive + zero - on).clamp(min=0)
        tiny, eps = torch.finfo(phi.dtype).tiny, torch.finfo(phi.dtype).eps
        return State(
            Dirichlet(self.alpha + counts).sample(),
            Beta(m.on_prob_alpha + on, m.on_prob_beta + off).sample().clamp(tiny, 1 - eps / 2),
            Gamma(m.rate_shape + total, m.rate_rate + on).sample().clamp(min=tiny),
        )

    def draws(self, state: State) -> Draws:
        """Return the parameters."""
        return draws_of(state)
