"""Coordinate ascent variational inference with conjugate factors."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma

from pyrozoo.contracts import solver
from pyrozoo.core.errors import NotApplicable
from pyrozoo.math.exponential_family import expected_log_beta, expected_log_dirichlet, expected_log_gamma
from pyrozoo.models.zip_mixture.likelihood import Parameters, Sums
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
    def given(cls, posterior: Posterior, sums: Sums) -> State:
        """Return conjugate factors, given sums over each component's rows."""
        m = posterior.model
        beta = m.on_prob_alpha + sums.on, m.on_prob_beta + (sums.seen - sums.on).clamp(min=0)
        return cls(posterior.alpha + sums.counts, *beta, m.rate_shape + sums.total, m.rate_rate + sums.exposed)

    @property
    def q(self) -> solver.Independent:
        """The factors as one distribution."""
        on = Beta(self.on_alpha, self.on_beta, validate_args=False)
        weights = Dirichlet(self.concentration, validate_args=False)
        rate = Gamma(self.shape, self.rate, validate_args=False)
        return solver.Independent({"weights": weights, "on_prob": on, "rate": rate})


class Solver(solver.Solver, kind="variational", objective="elbo", monotone=True, state=State, by_row=(), graph=True):
    """CAVI (Bishop 2006, section 10.2, with q(z, b) = q(z) prod_d q(b_d | z)).

    The objective is the ELBO with q(z, b) at its optimum for the state before the step:
    sum_i log sum_k rho_ik - KL(pi) - KL(omega) - KL(lambda).

    Raises:
        NotApplicable: Counts are negative binomial: no factor is conjugate to their sizes.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        if self.model.overdispersed:
            said = "model.overdispersed=true has sizes to which no factor of cavi is conjugate"
            raise NotApplicable(f"{said}; use inference=em, gibbs, svi, nuts or laplace")
        m, number = self.model, self.data.values.new_tensor
        on = Beta(number(m.on_prob_alpha), number(m.on_prob_beta))
        rate = Gamma(number(m.rate_shape), number(m.rate_rate))
        self.prior = {"weights": Dirichlet(posterior.alpha), "on_prob": on, "rate": rate}

    def init(self, chains: int) -> State:
        """Return factors centred on random starting points, each component worth a few rows."""
        m, start = self.model, self.posterior.start(chains)
        on = INITIAL_ROWS * start["on_prob"]
        exposed = on * self.posterior.mean_exposure
        beta = m.on_prob_alpha + on, m.on_prob_beta + INITIAL_ROWS - on
        weights = self.posterior.alpha + INITIAL_ROWS * start["weights"]
        return State(weights, *beta, m.rate_shape + exposed * start["rate"], m.rate_rate + exposed)

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update q(z, b), then q(pi), q(omega), q(lambda); return the ELBO of the argument."""
        log_on, log_off = expected_log_beta(state.on_alpha, state.on_beta)
        log_rate, rate = expected_log_gamma(state.shape, state.rate), state.shape / state.rate
        known = Parameters(log_rate, rate, log_on, log_off, expected_log_dirichlet(state.concentration))
        sums, evidence = self.posterior.total(lambda part: part.layout.expect(known))
        return State.given(self.posterior, sums), solver.Info(evidence - state.q.divergence(self.prior))

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        return solver.Answer(q=state.q)
