"""Coordinate ascent variational inference with conjugate factors."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Distribution, Gamma, kl_divergence

from pyrozoo.contracts.solver import Answer, Independent, Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.math.exponential_family import expected_log_beta, expected_log_dirichlet, expected_log_gamma
from pyrozoo.models.zip_mixture.likelihood import natural_weights, zero_is_on
from pyrozoo.models.zip_mixture.posterior import Posterior

INITIAL_ROWS = 10.0
"""How many rows each starting component is worth: enough to break symmetry, little enough to move."""


@dataclass(frozen=True)
class State:
    """q(pi) Dirichlet, q(omega) Beta, q(lambda) Gamma (shape, rate), per restart."""

    concentration: Float[Tensor, "C K"]
    on_alpha: Float[Tensor, "C K D"]
    on_beta: Float[Tensor, "C K D"]
    shape: Float[Tensor, "C K D"]
    rate: Float[Tensor, "C K D"]


class Solver(SolverContract, kind="variational", objective="elbo", monotone=True, state=State):
    """CAVI (Bishop 2006, section 10.2, with q(z, b) = q(z) prod_d q(b_d | z)).

    The objective is the ELBO with q(z, b) at its optimum for the state before the step:
    sum_i log sum_k rho_ik - KL(pi) - KL(omega) - KL(lambda).
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        m, like = self.model, self.data.values
        self.layout, self.alpha = posterior.layout, m.concentration(like)
        self.prior_on = Beta(like.new_tensor(m.on_prob_alpha), like.new_tensor(m.on_prob_beta))
        self.prior_rate = Gamma(like.new_tensor(m.rate_shape), like.new_tensor(m.rate_rate))

    def init(self, chains: int) -> State:
        """Return factors centred on random starting points, each component worth a few rows."""
        m, start = self.model, self.posterior.initial(chains)
        on = INITIAL_ROWS * start["on_prob"]
        return State(
            self.alpha + INITIAL_ROWS * start["weights"],
            m.on_prob_alpha + on,
            m.on_prob_beta + INITIAL_ROWS - on,
            m.rate_shape + on * start["rate"],
            m.rate_rate + on,
        )

    def step(self, state: State) -> tuple[State, Info]:
        """Update q(z, b), then q(pi), q(omega), q(lambda); return the ELBO of the argument."""
        m = self.model
        log_on, log_off = expected_log_beta(state.on_alpha, state.on_beta)
        log_rate, rate = expected_log_gamma(state.shape, state.rate), state.shape / state.rate
        weights = natural_weights(log_rate, rate, log_on, log_off, self.layout.reference)
        sums, counts, evidence = self.layout.expected_statistics(weights, expected_log_dirichlet(state.concentration))
        total, positive, zero = sums.chunk(3, -1)
        on = positive + zero_is_on(log_on, rate, log_off) * zero
        new = State(
            self.alpha + counts,
            m.on_prob_alpha + on,
            m.on_prob_beta + (positive + zero - on).clamp(min=0),
            m.rate_shape + total,
            m.rate_rate + on,
        )
        return new, Info(evidence - self.divergence(state))

    def divergence(self, state: State) -> Float[Tensor, C]:
        """Return KL(q || p) summed over the three groups of parameters."""
        q = self.factors(state)
        return (
            kl_divergence(q["weights"], Dirichlet(self.alpha.expand_as(state.concentration)))
            + kl_divergence(q["on_prob"], self.prior_on).sum((-1, -2))
            + kl_divergence(q["rate"], self.prior_rate).sum((-1, -2))
        )

    def factors(self, state: State) -> dict[str, Distribution]:
        """Return q(pi), q(omega), q(lambda)."""
        on, rate = Beta(state.on_alpha, state.on_beta), Gamma(state.shape, state.rate)
        return {"weights": Dirichlet(state.concentration), "on_prob": on, "rate": rate}

    def answer(self, state: State) -> Answer:
        """Return q."""
        return Answer(q=Independent(self.factors(state)))
