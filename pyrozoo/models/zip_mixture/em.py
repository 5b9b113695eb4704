"""EM for the posterior mode, every restart in one batch; its state, a point per chain, is that of Gibbs too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.contracts.solver import Info
from pyrozoo.core.draws import Values
from pyrozoo.models.zip_mixture.likelihood import Parameters, Sums, zero_is_on
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.models.zip_mixture.overdispersion import best_rate, best_size
from pyrozoo.models.zip_mixture.posterior import Posterior


@dataclass(frozen=True)
class State:
    """Parameters per chain."""

    weights: Float[Tensor, "C K"]
    on_prob: Float[Tensor, "C K D"]
    rate: Float[Tensor, "C K D"]


@dataclass(frozen=True)
class OverdispersedState(State):
    """The same with the sizes of negative binomials."""

    size: Float[Tensor, "C K D"]


class PointSolver(solver.PointSolver, state=State):
    """A solver whose state is a point."""

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.state_class = OverdispersedState if self.model.overdispersed else State


def log_prior(model: ZipMixture, state: State) -> Float[Tensor, C]:
    """Return log p(Theta), hand-summed; a test holds it to the Pyro program."""
    like = state.rate
    tiny, eps = torch.finfo(like.dtype).tiny, torch.finfo(like.dtype).eps
    # A mode at the boundary has coefficient 0 there: a value inside by less than rounding keeps 0 * log 0 at 0.
    weights, on = state.weights.clamp(min=tiny), state.on_prob.clamp(tiny, 1 - eps / 2)
    a, b, e, f = model.on_prob_alpha, model.on_prob_beta, model.rate_shape, model.rate_rate
    # Written out: torch's own distributions cost a tenth of an EM iteration each.
    beta = (a - 1) * on.log() + (b - 1) * torch.log1p(-on)
    gamma = (e - 1) * state.rate.log() - f * state.rate
    constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + e * math.log(f) - math.lgamma(e)
    if isinstance(state, OverdispersedState):
        s, t = model.size_shape, model.size_rate
        gamma = gamma + (s - 1) * state.size.log() - t * state.size + (s * math.log(t) - math.lgamma(s))
    alpha = model.concentration(like)
    dirichlet = torch.xlogy(alpha - 1, weights).sum(-1) + torch.lgamma(alpha.sum(-1)) - torch.lgamma(alpha).sum(-1)
    return dirichlet + (beta + gamma + constant).sum((-1, -2))


class Solver(PointSolver, kind="point", objective="log_joint", monotone=True, state=State, by_row=(), graph=True):
    """EM for the MAP (Dempster, Laird and Rubin 1977, J. R. Stat. Soc. B 39, section 1.2 with a prior).

    The objective is log p(X, Theta) of the state before the step, where the bound is tight: a by-product of the E-step.

    Raises:
        SettingError: A hyper-parameter below 1, for which the modes of the M-step do not exist.
    """

    at_least_one = "weight_concentration", "on_prob_alpha", "on_prob_beta", "rate_shape", "size_shape"

    def step(self, state: State) -> tuple[State, Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        known = Parameters.of(vars(state))
        sums, evidence = self.posterior.total(lambda part: part.layout.expect(known))
        return self.state_class(**self.maximise(state, sums)), Info(evidence + log_prior(self.model, state))

    def maximise(self, state: State, sums: Sums) -> Values:
        """Do the M-step: return the sites, given expected sums over all rows, and the state that they were taken at."""
        m, alpha = self.model, self.posterior.alpha
        # pi_k prop. to sum_i r_ik + alpha_k - 1
        weights = (sums.counts + alpha - 1) / (self.posterior.rows + alpha.sum() - m.num_components)
        # omega_kd = (sum r b + a0 - 1) / (sum_{observed} r + a0 + b0 - 2); 0/0, a component without rows under a flat
        # prior, keeps its value
        free = sums.seen + (m.on_prob_alpha + m.on_prob_beta - 2)
        on_prob = torch.where(free > 0, (sums.on + m.on_prob_alpha - 1) / free, state.on_prob).clamp(0, 1)
        return {"weights": weights.clamp(min=0), "on_prob": on_prob, **self._best_rates(state, sums)}

    def _best_rates(self, state: State, sums: Sums) -> Values:
        """Return the rates, and the sizes where counts are negative binomial, that the M-step comes to."""
        m, tiny = self.model, torch.finfo(sums.total.dtype).tiny
        # lambda_kd = (sum r x + e0 - 1) / (sum r b E g + f0), never below the smallest float: 0 * log 0 is no number
        rate = ((sums.total + m.rate_shape - 1) / (sums.exposed + m.rate_rate)).clamp(min=tiny)
        if not isinstance(state, OverdispersedState):
            return {"rate": rate}
        # Of the two ways to fill in what is missing, g or lambda g, the one that knows more of lambda.
        apart = state.size > state.rate * self.posterior.mean_exposure
        rate = torch.where(apart, rate, best_rate(m, state.rate, state.size, sums).clamp(min=tiny))
        size = best_size(m, state.size, sums, torch.where(apart, 1.0, state.rate / rate)).clamp(min=tiny)
        return {"rate": rate, "size": size}

    def bound_terms(self, state: State) -> dict[str, Float[Tensor, C]]:
        """Return the four terms of the bound with q(z, b) at its optimum; their sum is the objective.

        ``log_likelihood`` E_q log p(X | B, Z), ``log_latent`` E_q log p(B, Z), ``entropy`` H(q), ``log_prior``
        log p(Theta). For teaching: it builds the responsibilities whole.
        """
        layout, given = self.posterior.layout, self.posterior.layout.given(vars(state))
        r, _ = layout.responsibilities(given, slice(None))
        total, positive, zero = layout.expected_statistics(given)[0].chunk(3, -1)
        phi = zero_is_on(state.on_prob.log(), state.rate, torch.log1p(-state.on_prob))
        on = positive + phi * zero
        constant, xlogy = -torch.lgamma(self.data.filled + 1), torch.xlogy
        of_b = xlogy(on, state.on_prob) + xlogy((1 - phi) * zero, 1 - state.on_prob)
        sure_of_b = zero * (xlogy(phi, phi) + xlogy(1 - phi, 1 - phi))
        return {
            "log_likelihood": (xlogy(total, state.rate) - on * state.rate).sum((-1, -2)) + constant.sum(),
            "log_latent": xlogy(r.sum(0), state.weights).sum(-1) + of_b.sum((-1, -2)),
            "entropy": -xlogy(r, r).sum((0, 2)) - sure_of_b.sum((-1, -2)),
            "log_prior": log_prior(self.model, state),
        }
