"""Laplace variational inference of the correlated topic model, and the delta method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.contracts import solver
from pyrozoo.contracts.solver import Info
from pyrozoo.core.draws import Values
from pyrozoo.core.settings import whole
from pyrozoo.math.linear_algebra import covariance_factor, standard_normal
from pyrozoo.models.topics.correlated import Weights, blocks, curvature, fit_documents
from pyrozoo.models.topics.covariance import NormalInverseWishart
from pyrozoo.models.topics.dirichlet import expected_log, gap
from pyrozoo.models.topics.likelihood import shares
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.models.topics.start import Start, started

Words = Literal["collapsed", "variational"]


@dataclass(frozen=True)
class Options(Start):
    """What the solver can be told in numbers, beside how it starts.

    Attributes:
        held: Steps at first that hold the covariance.
        local_steps: Most steps of a document's logits in one of the solver's.
    """

    held: int = whole(0)
    local_steps: int = whole()


@dataclass(frozen=True)
class State:
    """q(eta_d) = N(logits_d, V_d), q(beta_k) = Dirichlet(lambda_k), word by word, and q(mu, Sigma) by mean and scale.

    ``sweeps`` counts steps, and ``objective`` is that of the state before.
    """

    logits: Float[Tensor, "C D d"]
    words: Float[Tensor, "C V K"]
    mean: Float[Tensor, "C d"]
    scale: Float[Tensor, "C d d"]
    sweeps: Float[Tensor, C]
    objective: Float[Tensor, C]


@dataclass(frozen=True)
class Finished:
    """q: logits with a factor of their covariance, and lambda; mu and Sigma are drawn given logits."""

    logits: Float[Tensor, "C D d"]
    factor: Float[Tensor, "C D d d"]
    words: Float[Tensor, "C V K"]


class Solver(solver.Solver, kind="variational", objective="elbo_laplace", state=State, by_row=("logits",)):
    """Laplace variational inference (Wang and Blei 2013, JMLR 14, section 4.2), with q for everything.

    A step takes documents towards the mode of their logits, with V = [N (diag theta - theta theta^T) + E Sigma^-1]^-1
    (``correlated``), then updates q(beta), Dirichlet, and q(mu, Sigma), normal-inverse-Wishart, in closed form. The
    objective is the ELBO of the state before the step, the log joint density of a document's words and logits replaced
    by its expansion to second order around the mean of q: it is no bound, and may fall.

    The answer is q(beta) q(eta) p(mu, Sigma | eta): given logits, mean and covariance are known exactly.

    Args:
        variant: ``laplace``: q's mean is the mode; ``delta``: it maximises the objective given V (section 3.2).
        words: ``collapsed``: a token is shared among topics by what the other tokens say of words, to order zero
            (Asuncion, Welling, Smyth and Teh 2009, UAI); ``variational``: by exp E log beta, which lets words that are
            seldom hold on to the topic that they have.
        start: Where lambda starts, as ``start.Start`` says.
        sweeps: Of that start, if it is gibbs.
        held: Steps at first that hold the covariance at four times that of the prior: before topics differ, documents
            seem to be alike, and a covariance that says so keeps them there.
        local_steps: Most steps of a document's logits in one of the solver's.

    Raises:
        NotApplicable: The prior is not logistic normal.
        SettingError: A setting out of range.
    """

    def __init__(
        self, posterior: Posterior, *, variant: Literal["laplace", "delta"] = "laplace", words: Words = "collapsed",
        start: str = "gibbs", sweeps: int = 50, held: int = 5, local_steps: int = 5,
    ):  # fmt: skip
        super().__init__(posterior)
        posterior.needs("logistic_normal", "laplace_em")
        self.options = Options(start, sweeps, False, held, local_steps)
        self.delta, self.collapsed = variant == "delta", words == "collapsed"
        self.prior = NormalInverseWishart.prior(self.model, self.data.values)

    def init(self, chains: int) -> State:
        """Return logits and mean at 0, the covariance held, and lambda from where the options say."""
        d = self.model.num_topics - 1
        words = self.model.word_concentration + started(self.posterior, self.options, chains)
        none, zero = words.new_zeros(chains), words.new_zeros(chains, d)
        logits, _ = self.posterior.over_rows(lambda part: (words.new_zeros(chains, part.data.shape[0], d), ()))
        return State(logits, words, zero, self.wide.expand(chains, d, d).contiguous(), none, none - torch.inf)

    @property
    def wide(self) -> Float[Tensor, "d d"]:
        """The scale at which E Sigma^-1 is that of four times the prior's mean of Sigma."""
        expected = self.prior.scale / self.model.prior_documents
        return 4 * expected * self.full(self.prior.mean, self.prior.scale).degrees

    def full(self, mean: Tensor, scale: Tensor) -> NormalInverseWishart:
        """Return q(mu, Sigma) of all documents."""
        D, prior = self.posterior.rows, self.prior
        return NormalInverseWishart(mean, scale, prior.count + D, prior.degrees + D)

    def step(self, state: State) -> tuple[State, Info]:
        """Update q(eta), then q(beta) and q(mu, Sigma); return the objective of the argument."""
        q, b = self.full(state.mean, state.scale), self.model.word_concentration
        precision = q.precision

        def update(part: Posterior, logits: Tensor) -> tuple[Tensor, Any]:
            found = [
                fit_documents(
                    Weights.of(state.words[c], self.collapsed), state.mean[c], precision[c], part.data, logits[c],
                    steps=self.options.local_steps, delta=self.delta,
                )
                for c in range(len(logits))
            ]  # fmt: skip
            sums = tuple(torch.stack([getattr(f, name) for f in found]) for name in SUMS)
            return torch.stack([f.logits for f in found]), sums

        logits, (value, of_words, first, second) = self.posterior.over_rows(update, state.logits)
        objective = value + self.of_globals(q, state.words)
        new = self.prior.given(self.posterior.rows, first, second)
        holds = state.sweeps + 1 < self.options.held
        scale = torch.where(holds[:, None, None], self.wide, new.scale)
        change = (objective - state.objective).abs() / objective.abs().clamp(min=1e-12)
        residual = torch.where(state.sweeps <= self.options.held, torch.inf, change)
        return State(logits, b + of_words, new.mean, scale, state.sweeps + 1, objective), Info(objective, residual)

    def of_globals(self, q: NormalInverseWishart, words: Float[Tensor, "C V K"]) -> Float[Tensor, C]:
        """Return what the objective has beside documents: expectations over q(mu, Sigma), and divergences."""
        D, d = self.posterior.rows, self.model.num_topics - 1
        prior = words.new_full((words.shape[1], 1), self.model.word_concentration)
        of_words = gap(words, prior, expected_log(words, 1), 1)
        return 0.5 * D * (q.expected_log_determinant - d / q.count) - q.gap(self.prior) - of_words

    def finish(self, state: State) -> Finished:
        """Return q with a factor of the covariance of every document's logits."""
        precision, d = self.full(state.mean, state.scale).precision, state.logits.shape[-1]
        factor = state.logits.new_empty(*state.logits.shape, d)
        for c, logits in enumerate(state.logits):
            for part in blocks(self.data, logits):
                theta = shares(logits[part.rows])[:, :-1]
                factor[c, part.rows] = covariance_factor(curvature(theta, part.lengths, precision[c]))
        return Finished(state.logits, factor, state.words)

    def answer(self, state: Finished) -> solver.Answer:
        """Return q, and what its means say of hidden tokens."""
        q = Joint(self.prior, **{f.name: getattr(state, f.name) for f in fields(state)})
        known = partial(self.posterior.of_means, shares(state.logits[0]), state.words[0])
        return solver.Answer(q=q, prediction=known)


SUMS = "value", "of_words", "first", "second"


LOG_2_PI = math.log(2 * math.pi)


class Rest:
    """What every q has in common: q(beta), and p(mu, Sigma | eta)."""

    prior: NormalInverseWishart
    words: Float[Tensor, "C V K"]

    @property
    def beta(self) -> Dirichlet:
        """q(beta)."""
        return Dirichlet(self.words.mT, validate_args=False)

    def given(self, logits: Float[Tensor, "C D d"]) -> NormalInverseWishart:
        """Return p(mu, Sigma | eta)."""
        return self.prior.given(logits.shape[1], logits.sum(1), logits.mT @ logits)

    def with_logits(self, logits: Float[Tensor, "C D d"]) -> Values:
        """Return one draw per chain, given logits."""
        mean, covariance = self.given(logits).sample()
        beta = self.beta.sample().clamp(min=torch.finfo(logits.dtype).tiny)
        rest = {"logit_covariance": covariance, "logit_mean": mean, "document_logits": logits}
        return {"topic_words": beta, **rest}

    def of_rest(self, values: Mapping[str, Tensor]) -> Float[Tensor, C]:
        """Return the log density of all but logits."""
        both = values["logit_mean"], values["logit_covariance"]
        of_words = self.beta.log_prob(values["topic_words"]).sum(-1)
        return self.given(values["document_logits"]).log_prob(*both) + of_words


@dataclass(frozen=True)
class Joint(Rest):
    """q(beta) q(eta) p(mu, Sigma | eta)."""

    prior: NormalInverseWishart
    logits: Float[Tensor, "C D d"]
    factor: Float[Tensor, "C D d d"]
    words: Float[Tensor, "C V K"]

    def sample(self) -> Values:
        """Return one draw per chain."""
        noise = standard_normal(self.logits)
        return self.with_logits(self.logits + (self.factor @ noise[..., None])[..., 0])

    def log_prob(self, values: Mapping[str, Tensor]) -> Float[Tensor, C]:
        """Return the log density of one draw per chain."""
        away = (values["document_logits"] - self.logits)[..., None]
        noise = torch.linalg.solve_triangular(self.factor, away, upper=False)[..., 0]
        volume = self.factor.diagonal(dim1=-2, dim2=-1).log().sum((-2, -1))
        size = noise.shape[1] * noise.shape[2]
        normal = -0.5 * noise.square().sum((-2, -1)) - volume - 0.5 * size * LOG_2_PI
        return normal + self.of_rest(values)
