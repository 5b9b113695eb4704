"""Coordinate ascent variational inference of latent Dirichlet allocation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.contracts import solver
from pyrozoo.contracts.solver import Info
from pyrozoo.models.topics.dirichlet import expected_log, gap
from pyrozoo.models.topics.likelihood import shared
from pyrozoo.models.topics.posterior import Posterior


@dataclass(frozen=True)
class State:
    """q(theta_d) = Dirichlet(gamma_d) and q(beta_k) = Dirichlet(lambda_k), of each restart; lambda word by word."""

    gamma: Float[Tensor, "C D K"]
    words: Float[Tensor, "C V K"]


class Solver(solver.Solver, kind="variational", objective="elbo", monotone=True, state=State, by_row=("gamma",)):
    """CAVI for LDA (Blei, Ng and Jordan 2003, section 5; q(beta): Hoffman, Blei and Bach 2010, NIPS 23).

    q(z) = phi prop. to exp(E log theta_dk + E log beta_kv); gamma_dk = alpha_k + sum_v n_dv phi_dvk; lambda_kv = b +
    sum_d n_dv phi_dvk. The objective is the ELBO of the state before the step with q(z) at its optimum: log N_d! -
    sum_v log n_dv! + sum_v n_dv log sum_k exp(E log theta_dk + E log beta_kv) - KL(theta) - KL(beta).

    Raises:
        NotApplicable: The prior is not Dirichlet.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        posterior.needs("dirichlet", "cavi")

    def init(self, chains: int) -> State:
        """Return gamma at equal shares, and lambda from the posterior's starting topics."""
        start, K = self.posterior.initial(chains), self.model.num_topics

        def rows(part: Posterior) -> tuple[Tensor, Any]:
            lengths = part.data.lengths
            return (self.alpha + (lengths / K)[:, None]).expand(chains, -1, -1).contiguous(), ()

        gamma, _ = self.posterior.over_rows(rows)
        total = self.data.lengths.sum() * self.posterior.rows / max(1, self.data.shape[0]) / K
        return State(gamma, self.model.word_concentration + total * start["topic_words"].mT.contiguous())

    @property
    def alpha(self) -> Float[Tensor, K]:
        """The prior of a document's topics."""
        return self.model.alpha(self.data.values)

    def step(self, state: State) -> tuple[State, Info]:
        """Update q(z), then q(theta) and q(beta); return the ELBO of the argument."""
        b, log_beta = self.model.word_concentration, expected_log(state.words, 1)

        def update(part: Posterior, gamma: Tensor) -> tuple[Tensor, Any]:
            log_theta = expected_log(gamma, 2)
            of_documents, of_words, evidence = shared(log_theta, log_beta, part.data)
            bound = evidence - gap(gamma, self.alpha, log_theta, 2)
            return self.alpha + of_documents, (of_words, bound)

        gamma, (of_words, bound) = self.posterior.over_rows(update, state.gamma)
        prior = torch.full_like(state.words[0, :, 0], b)[:, None]
        return State(gamma, b + of_words), Info(bound - gap(state.words, prior, log_beta, 1))

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        q = {"topic_words": Dirichlet(state.words.mT), "document_topics": Dirichlet(state.gamma)}
        return solver.Answer(q=solver.Independent(q))
