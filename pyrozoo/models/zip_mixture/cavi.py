"""Coordinate ascent variational inference with conjugate factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma, kl_divergence

from pyrozoo.contracts.fit import Kind
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Draws
from pyrozoo.data.table import Table
from pyrozoo.math.exponential_family import expected_log_beta, expected_log_dirichlet, expected_log_gamma
from pyrozoo.models.zip_mixture.likelihood import Layout, natural_weights, zero_is_on
from pyrozoo.models.zip_mixture.model import ZipMixture

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


class Solver(SolverContract):
    """CAVI (Bishop 2006, section 10.2, with q(z, b) = q(z) prod_d q(b_d | z)).

    The objective is the ELBO with q(z, b) at its optimum for the state before the step:
    sum_i log sum_k rho_ik - KL(pi) - KL(omega) - KL(lambda).
    """

    kind: ClassVar[Kind] = "variational"
    objective_name: ClassVar[str] = "elbo"
    objective_of: ClassVar[Literal["before", "after"]] = "before"
    monotone: ClassVar[bool] = True
    state_class: Any = State

    def __init__(self, model: ZipMixture, data: Table):
        self.model, self.data = model, data
        self.layout = Layout.of(data)
        like = data.values
        self.alpha = model.concentration(like)
        self.prior_on = Beta(like.new_tensor(model.on_prob_alpha), like.new_tensor(model.on_prob_beta))
        self.prior_rate = Gamma(like.new_tensor(model.rate_shape), like.new_tensor(model.rate_rate))

    def init(self, chains: int) -> State:
        """Return factors centred on random starting points, each component worth a few rows."""
        m, start = self.model, self.model.initial(self.data, chains)
        on = INITIAL_ROWS * start["on_prob"]
        return State(
            self.alpha + INITIAL_ROWS * start["weights"],
            m.on_prob_alpha + on,
            m.on_prob_beta + INITIAL_ROWS - on,
            m.rate_shape + on * start["rate"],
            m.rate_rate + on,
        )

    def step(self, state: State) -> tuple[State, Float[Tensor, C]]:
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
        return new, evidence - self.divergence(state)

    def divergence(self, state: State) -> Float[Tensor, C]:
        """Return KL(q || p) summed over the three groups of parameters."""
        pi, omega, lam = self.factors(state)
        return (
            kl_divergence(pi, Dirichlet(self.alpha.expand_as(state.concentration)))
            + kl_divergence(omega, self.prior_on).sum((-1, -2))
            + kl_divergence(lam, self.prior_rate).sum((-1, -2))
        )

    def factors(self, state: State) -> tuple[Dirichlet, Beta, Gamma]:
        """Return q(pi), q(omega), q(lambda)."""
        return Dirichlet(state.concentration), Beta(state.on_alpha, state.on_beta), Gamma(state.shape, state.rate)

    def draws(self, state: State) -> Draws:
        """Return one draw from q per chain, kept inside the open support."""
        pi, omega, lam = self.factors(state)
        tiny, eps = torch.finfo(state.rate.dtype).tiny, torch.finfo(state.rate.dtype).eps
        return {
            "weights": pi.sample(),
            "on_prob": omega.sample().clamp(tiny, 1 - eps / 2),
            "rate": lam.sample().clamp(min=tiny),
        }

    def log_q(self, state: State, draws: Draws) -> Float[Tensor, C]:
        """Return log q of one draw per chain."""
        pi, omega, lam = self.factors(state)
        return (
            pi.log_prob(draws["weights"])
            + omega.log_prob(draws["on_prob"]).sum((-1, -2))
            + lam.log_prob(draws["rate"]).sum((-1, -2))
        )
