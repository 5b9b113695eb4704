"""Coordinate ascent variational inference with conjugate factors."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma

from pyrozoo.contracts import solver
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

    @classmethod
    def given(cls, posterior: Posterior, counts: Tensor, total: Tensor, on: Tensor, seen: Tensor) -> State:
        """Return conjugate factors, given sums over each component's rows: of rows, counts, those on and those seen."""
        m = posterior.model
        beta = m.on_prob_alpha + on, m.on_prob_beta + (seen - on).clamp(min=0)
        return cls(posterior.alpha + counts, *beta, m.rate_shape + total, m.rate_rate + on)

    @property
    def q(self) -> solver.Independent:
        """The factors as one distribution."""
        on, rate = Beta(self.on_alpha, self.on_beta), Gamma(self.shape, self.rate)
        return solver.Independent({"weights": Dirichlet(self.concentration), "on_prob": on, "rate": rate})


class Solver(solver.Solver, kind="variational", objective="elbo", monotone=True, state=State):
    """CAVI (Bishop 2006, section 10.2, with q(z, b) = q(z) prod_d q(b_d | z)).

    The objective is the ELBO with q(z, b) at its optimum for the state before the step:
    sum_i log sum_k rho_ik - KL(pi) - KL(omega) - KL(lambda).
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        m, number = self.model, self.data.values.new_tensor
        on = Beta(number(m.on_prob_alpha), number(m.on_prob_beta))
        rate = Gamma(number(m.rate_shape), number(m.rate_rate))
        self.prior = {"weights": Dirichlet(posterior.alpha), "on_prob": on, "rate": rate}

    def init(self, chains: int) -> State:
        """Return factors centred on random starting points, each component worth a few rows."""
        m, start = self.model, self.posterior.initial(chains)
        on = INITIAL_ROWS * start["on_prob"]
        beta = m.on_prob_alpha + on, m.on_prob_beta + INITIAL_ROWS - on
        weights = self.posterior.alpha + INITIAL_ROWS * start["weights"]
        return State(weights, *beta, m.rate_shape + on * start["rate"], m.rate_rate + on)

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update q(z, b), then q(pi), q(omega), q(lambda); return the ELBO of the argument."""
        log_on, log_off = expected_log_beta(state.on_alpha, state.on_beta)
        log_rate, rate = expected_log_gamma(state.shape, state.rate), state.shape / state.rate
        layout = self.posterior.layout
        weights = natural_weights(log_rate, rate, log_on, log_off, layout.reference)
        sums, counts, evidence = layout.expected_statistics((weights, expected_log_dirichlet(state.concentration)))
        total, positive, zero = sums.chunk(3, -1)
        on = positive + zero_is_on(log_on, rate, log_off) * zero
        new = State.given(self.posterior, counts, total, on, positive + zero)
        return new, solver.Info(evidence - state.q.divergence(self.prior))

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        return solver.Answer(q=state.q)
