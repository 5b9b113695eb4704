"""Variational inference of the correlated topic model with a bound on the normaliser of the topics of a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.contracts.solver import Info
from pyrozoo.core.draws import Values
from pyrozoo.math.linear_algebra import inverse_and_log_determinant, standard_normal
from pyrozoo.models.topics import laplace_em
from pyrozoo.models.topics.correlated import Columns, Found, Part, Weights, blocks, climb, curvature
from pyrozoo.models.topics.covariance import NormalInverseWishart
from pyrozoo.models.topics.laplace_em import LOG_2_PI, SUMS, Rest
from pyrozoo.models.topics.likelihood import shares, with_last
from pyrozoo.models.topics.posterior import Posterior

SPREAD_STEPS = 8
"""Newton steps of log nu^2, which need three to five."""


@dataclass(frozen=True)
class State(laplace_em.State):
    """The same with the variances nu_d^2 of q(eta_d) = N(logits_d, diag nu_d^2)."""

    spread: Float[Tensor, "C D d"]


@dataclass(frozen=True)
class Finished:
    """q: logits with their variances, and lambda; mu and Sigma are drawn given logits."""

    logits: Float[Tensor, "C D d"]
    spread: Float[Tensor, "C D d"]
    words: Float[Tensor, "C V K"]


BY_ROW = "logits", "spread"


class Solver(laplace_em.Solver, kind="variational", objective="elbo", monotone=True, state=State, by_row=BY_ROW):
    """Variational inference with independent logits (Blei and Lafferty 2007, Annals of Applied Statistics 1).

    For every zeta > 0, E log sum_k exp(eta_k) <= sum_k exp(lambda_k + nu_k^2 / 2) / zeta - 1 + log zeta; the best zeta
    is that sum, and is put in. A step takes lambda of every document toward the maximum of

        sum_v n_v log sum_k exp(lambda_k) beta_kv - N log sum_k exp(lambda_k + nu_k^2 / 2)
        - (lambda - mu)^T E Sigma^-1 (lambda - mu) / 2

    (``correlated``), log nu_k^2 by Newton's method, then q(beta) and q(mu, Sigma) to theirs. The objective is the bound
    of the state before the step; it never falls. As q has no correlations and the normaliser's bound pulls nu down,
    correlations of topics come out too small: ``laplace_em`` and ``gibbs`` do not have that fault.

    Args:
        start: Where lambda starts, as ``start.Start`` says.
        sweeps: Of that start, if it is gibbs.
        local_steps: Most steps of a document's logits in one of the solver's.

    Raises:
        NotApplicable: The prior is not logistic normal.
        SettingError: A setting out of range.
    """

    def __init__(self, posterior: Posterior, *, start: str = "gibbs", sweeps: int = 50, local_steps: int = 5):
        posterior.needs("logistic_normal", "vem")
        super().__init__(posterior, words="variational", start=start, sweeps=sweeps, held=0, local_steps=local_steps)

    def init(self, chains: int) -> State:
        """Return logits at 0 with the prior's variance."""
        start = vars(super().init(chains))
        spread = torch.full_like(start["logits"], 2 * self.model.logit_variance)
        return State(**start, spread=spread)

    def step(self, state: Any) -> tuple[State, Info]:
        """Update q(eta), then q(beta) and q(mu, Sigma); return the bound of the argument."""
        q = self.full(state.mean, state.scale)
        precision = q.precision

        def update(part: Posterior, logits: Tensor, spread: Tensor) -> tuple[Any, Any]:
            found = [
                fit_documents(
                    Weights.of(state.words[c], False), state.mean[c], precision[c], part, logits[c], spread[c],
                    self.options.local_steps,
                )
                for c in range(len(logits))
            ]  # fmt: skip
            sums = tuple(torch.stack([getattr(f, name) for f, _ in found]) for name in SUMS)
            return (torch.stack([f.logits for f, _ in found]), torch.stack([v for _, v in found])), sums

        (logits, spread), (value, of_words, first, second) = self.posterior.over_rows(
            update, state.logits, state.spread
        )
        objective = value + self.of_globals(q, state.words)
        new = self.prior.given(self.posterior.rows, first, second)
        words = self.model.word_concentration + of_words
        return State(logits, words, new.mean, new.scale, state.sweeps + 1, objective, spread), Info(objective)

    def finish(self, state: Any) -> Any:
        """Return q."""
        return Finished(state.logits, state.spread, state.words)

    def answer(self, state: Any) -> solver.Answer:
        """Return q, and what its means say of hidden tokens."""
        q = Joint(self.prior, **{f.name: getattr(state, f.name) for f in fields(state)})
        known = partial(self.posterior.of_means, shares(state.logits[0]), state.words[0])
        return solver.Answer(q=q, prediction=known)


def fit_documents(
    weights: Weights, mean: Float[Tensor, d], precision: Float[Tensor, "d d"], part: Posterior,
    logits: Float[Tensor, "D d"], spread: Float[Tensor, "D d"], steps: int,
) -> tuple[Found, Float[Tensor, "D d"]]:  # fmt: skip
    """Raise the bound of every document in lambda, then in nu^2."""
    found, new, (V, K) = torch.empty_like(logits), torch.empty_like(spread), weights.words.shape
    of_words, diagonal = Columns.empty(weights), precision.diagonal()
    value = part.data.log_arrangements.sum()
    left = value.new_zeros(())
    for some in blocks(part.data, logits):
        start, variance = logits[some.rows], spread[some.rows]
        offset = 0.5 * torch.cat([variance, torch.zeros_like(variance[:, :1])], -1)
        expected = (with_last(start) + offset).softmax(-1)[:, :-1]
        covariance, _ = inverse_and_log_determinant(curvature(expected, some.lengths, precision))
        at, evidence, gain = climb(
            weights, mean, precision, some, start, covariance, of_words, steps=steps, offset=offset
        )
        away = start - mean
        of_prior = -0.5 * ((away @ precision) * away).sum(-1) - 0.5 * variance @ diagonal
        # + d / 2, which Laplace's method spends on the curvature.
        value = value + (evidence + of_prior + 0.5 * variance.log().sum(-1) + 0.5 * variance.shape[1]).sum()
        found[some.rows], new[some.rows] = at, fit_spread(at, variance, diagonal, some)
        left = torch.maximum(left, gain.max())
    second = torch.diag_embed(new.sum(0)) + found.T @ found
    return Found(found, value, of_words.total(V, K), found.sum(0), second, left), new


def fit_spread(
    logits: Float[Tensor, "B d"], variance: Float[Tensor, "B d"], diagonal: Float[Tensor, d], some: Part
) -> Float[Tensor, "B d"]:
    """Return nu^2 at which the bound given lambda and zeta is largest, each by itself, from where the best zeta is.

    With t = log nu^2: t / 2 - D_k e^t / 2 - (N / zeta) exp(lambda_k + e^t / 2) is concave in t.
    """
    offset = 0.5 * torch.cat([variance, torch.zeros_like(variance[:, :1])], -1)
    log_zeta = (with_last(logits) + offset).logsumexp(-1, keepdim=True)
    tokens = some.lengths[:, None] * (logits - log_zeta).exp()  # N exp(lambda) / zeta
    t = variance.log()

    def value(t: Tensor) -> Tensor:
        v = t.exp()
        return 0.5 * t - 0.5 * diagonal * v - tokens * (0.5 * v).exp()

    now = value(t)
    for _ in range(SPREAD_STEPS):
        v = t.exp()
        rate = tokens * (0.5 * v).exp()
        slope = 0.5 - 0.5 * diagonal * v - 0.5 * rate * v
        curve = 0.5 * diagonal * v + 0.5 * rate * v * (1 + 0.5 * v)
        tried = t + (slope / curve).clamp(-1.5, 1.5)
        found = value(tried)
        t, now = torch.where(found >= now, tried, t), torch.maximum(found, now)
    return t.exp()


@dataclass(frozen=True)
class Joint(Rest):
    """q(beta) q(eta) p(mu, Sigma | eta), logits independent."""

    prior: NormalInverseWishart
    logits: Float[Tensor, "C D d"]
    spread: Float[Tensor, "C D d"]
    words: Float[Tensor, "C V K"]

    def sample(self) -> Values:
        """Return one draw per chain."""
        return self.with_logits(self.logits + self.spread.sqrt() * standard_normal(self.logits))

    def log_prob(self, values: Mapping[str, Tensor]) -> Float[Tensor, C]:
        """Return the log density of one draw per chain."""
        away = values["document_logits"] - self.logits
        normal = -0.5 * (away.square() / self.spread + self.spread.log() + LOG_2_PI).sum((-2, -1))
        return normal + self.of_rest(values)
