"""Gibbs sampling of the correlated topic model, all chains in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet, MultivariateNormal

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.math.linear_algebra import safe_cholesky
from pyrozoo.models.topics import laplace_em
from pyrozoo.models.topics.covariance import NormalInverseWishart
from pyrozoo.models.topics.dirichlet import above_zero
from pyrozoo.models.topics.likelihood import pointwise, shares
from pyrozoo.models.topics.polya_gamma import draw_logits
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.models.topics.sweeps import draw

STEPS = 10
"""Steps of ``laplace_em`` that a chain starts from."""


@dataclass(frozen=True)
class State:
    """The sites."""

    topic_words: Float[Tensor, "C K V"]
    logit_covariance: Float[Tensor, "C d d"]
    logit_mean: Float[Tensor, "C d"]
    document_logits: Float[Tensor, "C D d"]


class Solver(PointSolver, kind="samples", objective="log_joint", state=State):
    """Gibbs with Polya-Gamma augmentation (Chen, Zhu, Wang, Zheng and Zhang 2013, NIPS 26).

    A step draws which topic each token is from, z_i = k prop. to theta_dk beta_kv; ``sweeps`` times the logits of one
    topic after another (``polya_gamma``, exact whatever the length of a document); mu and Sigma given all logits,
    normal-inverse-Wishart; and beta_k ~ Dirichlet(b + N_k). The objective is log p(words, eta, mu, Sigma, beta) of the
    state before the step, z summed out.

    Args:
        posterior: With correlated topics.
        sweeps: Over the logits in each step.
    """

    def __init__(self, posterior: Posterior, sweeps: int):
        super().__init__(posterior)
        posterior.needs("logistic_normal", "gibbs")
        self.sweeps = max(1, sweeps)
        self.prior = NormalInverseWishart.prior(self.model, self.data.values)

    def init(self, chains: int) -> State:
        """Return logits after a few steps of ``laplace_em``, and all else drawn given these."""
        found = self.near(chains)
        given = self.prior.given(found.logits.shape[1], found.logits.sum(1), found.logits.mT @ found.logits)
        mean, covariance = given.sample()
        return State(above_zero(found.words.mT), covariance, mean, found.logits)

    def near(self, chains: int) -> laplace_em.State:
        """Return the state of ``laplace_em``."""
        solver = laplace_em.Solver(self.posterior)
        state = solver.init(chains)
        for _ in range(STEPS):
            state, _ = solver.step(state)
        return state

    def step(self, state: State) -> tuple[State, Info]:
        """Draw z, eta, mu and Sigma, beta in turn; return the log joint of the argument."""
        logits = state.document_logits
        objective = self.log_joint(state)
        of_documents, of_words = self.allot(state)
        factor = safe_cholesky(state.logit_covariance, "the covariance of logits")
        precision = torch.cholesky_inverse(factor)
        for _ in range(self.sweeps):
            logits = draw_logits(logits, of_documents, state.logit_mean, precision)
        given = self.prior.given(logits.shape[1], logits.sum(1), logits.mT @ logits)
        mean, covariance = given.sample()
        shape = self.words_given(of_words)
        new = State(above_zero(shape), covariance, mean, logits)

        def predictive() -> tuple[Tensor, ...]:
            beta = shape / shape.sum(-1, keepdim=True)
            return (self.posterior.hidden_probabilities({"topic_words": beta, "document_logits": logits}),)

        return new, Info(objective, predictive=None if self.data.hidden is None else predictive)

    def words_given(self, of_words: Float[Tensor, "C V K"]) -> Float[Tensor, "C K V"]:
        """Return the Dirichlet parameters of beta given how many tokens of words are from which topic."""
        return self.model.word_concentration + of_words.mT

    def allot(self, state: State) -> tuple[Float[Tensor, "C D K"], Float[Tensor, "C V K"]]:
        """Draw z; return tokens of documents and topics, and of words and topics."""
        theta, beta = shares(state.document_logits), state.topic_words.mT.contiguous()
        return draw(theta, beta, self.data, 0, self.model.alpha(theta), self.model.word_concentration)

    def log_joint(self, state: State) -> Float[Tensor, C]:
        """Return log p(words, eta, mu, Sigma, beta)."""
        beta, logits, mean = state.topic_words, state.document_logits, state.logit_mean
        of_words = pointwise(shares(logits), beta, self.data).sum(-1)
        prior = torch.full_like(beta[0, 0], self.model.word_concentration)
        of_beta = Dirichlet(prior, validate_args=False).log_prob(beta).sum(-1)
        factor = safe_cholesky(state.logit_covariance, "the covariance of logits")
        normal = MultivariateNormal(mean[:, None], scale_tril=factor[:, None], validate_args=False)
        of_logits = normal.log_prob(logits).sum(-1)
        return of_words + of_beta + of_logits + self.prior.log_prob(mean, state.logit_covariance)
