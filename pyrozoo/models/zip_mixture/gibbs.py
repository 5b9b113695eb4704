"""Gibbs sampling with all chains in one batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma

from pyrozoo.contracts.solver import Answer, Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.models.zip_mixture.likelihood import weights_of, zero_is_on
from pyrozoo.models.zip_mixture.point import State, log_prior
from pyrozoo.models.zip_mixture.posterior import Posterior


class Solver(SolverContract, kind="samples", objective="log_joint", state=State):
    """Blocked Gibbs: z with b summed out, then b | z, then the parameters (van Dyk and Park 2008, JASA 103).

    The objective is log p(X, Theta) of the state before the sweep, z and b summed out.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.layout, self.alpha = posterior.layout, self.model.concentration(self.data.values)

    def init(self, chains: int) -> State:
        """Return random starting points (``Posterior.initial``)."""
        return State(**self.posterior.initial(chains))

    def step(self, state: State) -> tuple[State, Info]:
        """Do one sweep; return the log joint of the argument."""
        weights = weights_of(vars(state), self.layout)
        # z_i | x, Theta: p(z_i = k) prop. to pi_k prod_{d observed} p(x_id | k)
        sums, counts, evidence = self.layout.expected_statistics(weights, state.weights.log(), sample=True)
        return self.draw_parameters(state, sums, counts), Info(evidence + log_prior(self.model, state))

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

    def answer(self, state: State) -> Answer:
        """Return the parameters."""
        return Answer(point=vars(state))
