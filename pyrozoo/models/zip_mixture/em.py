"""EM for the posterior mode, every restart in one batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Answer, Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.errors import SettingError
from pyrozoo.models.zip_mixture.likelihood import weights_of, zero_is_on
from pyrozoo.models.zip_mixture.point import State, log_prior
from pyrozoo.models.zip_mixture.posterior import Posterior


class Solver(SolverContract, kind="point", objective="log_joint", monotone=True, state=State):
    """EM for the MAP (Dempster, Laird and Rubin 1977, J. R. Stat. Soc. B 39, section 1.2 with a prior).

    The objective is log p(X, Theta) of the state before the step, where the bound is tight: a by-product of the E-step.

    Raises:
        SettingError: A hyper-parameter below 1, for which the modes of the M-step do not exist.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        for name in ("weight_concentration", "on_prob_alpha", "on_prob_beta", "rate_shape"):
            value = getattr(self.model, name)
            if min(value if isinstance(value, tuple) else (value,)) < 1:
                raise SettingError(f"model.{name} is {value}; em needs >= 1, below which the posterior has no mode")
        self.layout, self.alpha = posterior.layout, self.model.concentration(self.data.values)

    def init(self, chains: int) -> State:
        """Return random starting points (``Posterior.initial``)."""
        return State(**self.posterior.initial(chains))

    def step(self, state: State) -> tuple[State, Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        sums, counts, evidence = self.layout.expected_statistics(
            weights_of(vars(state), self.layout), state.weights.log()
        )
        return self._maximise(state, sums, counts), Info(evidence + log_prior(self.model, state))

    def _maximise(self, state: State, sums: Tensor, counts: Tensor) -> State:
        m, (N, K) = self.model, (self.data.shape[0], self.model.num_components)
        total, positive, zero = sums.chunk(3, -1)
        phi = zero_is_on(state.on_prob.log(), state.rate, torch.log1p(-state.on_prob))
        on = positive + phi * zero  # sum_i r_ik E[b_id | z_i = k]
        # pi_k prop. to sum_i r_ik + alpha_k - 1
        weights = (counts + self.alpha - 1) / (N + self.alpha.sum() - K)
        # omega_kd = (sum r b + a0 - 1) / (sum_{observed} r + a0 + b0 - 2); 0/0, a component without rows under a flat
        # prior, keeps its value
        free = positive + zero + (m.on_prob_alpha + m.on_prob_beta - 2)
        on_prob = torch.where(free > 0, (on + m.on_prob_alpha - 1) / free, state.on_prob).clamp(0, 1)
        # lambda_kd = (sum r x + e0 - 1) / (sum r b + f0), never below the smallest float: log 0 times 0 is not a number
        rate = ((total + m.rate_shape - 1) / (on + m.rate_rate)).clamp(min=torch.finfo(total.dtype).tiny)
        return State(weights.clamp(min=0), on_prob, rate)

    def answer(self, state: State) -> Answer:
        """Return the point itself."""
        return Answer(point=vars(state))

    def bound_terms(self, state: State) -> dict[str, Float[Tensor, C]]:
        """Return the four terms of the bound with q(z, b) at its optimum; their sum is the objective.

        ``log_likelihood`` E_q log p(X | B, Z), ``log_latent`` E_q log p(B, Z), ``entropy`` H(q), ``log_prior``
        log p(Theta). For teaching: it builds the responsibilities whole.
        """
        log_on, log_off = state.on_prob.log(), torch.log1p(-state.on_prob)
        weights = weights_of(vars(state), self.layout)
        r, _ = self.layout.responsibilities(weights, state.weights.log(), slice(None))
        sums, _, _ = self.layout.expected_statistics(weights, state.weights.log())
        total, positive, zero = sums.chunk(3, -1)
        phi = zero_is_on(log_on, state.rate, log_off)
        on = positive + phi * zero
        constant = -torch.lgamma(self.data.filled + 1)
        return {
            "log_likelihood": (torch.xlogy(total, state.rate) - on * state.rate).sum((-1, -2)) + constant.sum(),
            "log_latent": (
                torch.xlogy(r.sum(0), state.weights).sum(-1)
                + (torch.xlogy(on, state.on_prob) + torch.xlogy((1 - phi) * zero, 1 - state.on_prob)).sum((-1, -2))
            ),
            "entropy": -torch.xlogy(r, r).sum((0, 2))
            - (zero * (torch.xlogy(phi, phi) + torch.xlogy(1 - phi, 1 - phi))).sum((-1, -2)),
            "log_prior": log_prior(self.model, state),
        }
