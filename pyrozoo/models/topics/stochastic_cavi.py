"""CAVI of latent Dirichlet allocation on minibatches of documents: nothing is kept of one once it has been seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import minibatches
from pyrozoo.contracts.minibatches import Minibatch, toward
from pyrozoo.contracts.solver import Info
from pyrozoo.core.draws import evenly
from pyrozoo.core.settings import not_negative, whole
from pyrozoo.models.topics import cavi, stochastic_logistic
from pyrozoo.models.topics.likelihood import Fitted, WordFactors, fit_documents
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.models.topics.start import started

FINAL_STEPS = 200
"""Most updates of q(theta_d) once q(beta) is final."""

MOST_LOGIT_STEPS = 5
"""Most steps of a document's logits with one curvature, of correlated topics."""

LOOKED_AT = 5000
"""Documents, evenly chosen, from which a run starts."""


@dataclass(frozen=True)
class Options(minibatches.Options):
    """What the solver can be told, beside how it starts and how q(beta) moves.

    Attributes:
        local_steps: Most updates of q(theta_d) per minibatch.
        local_tol: Mean change of gamma_dk below which they stop.
    """

    local_steps: int = whole()
    local_tol: float = not_negative()


@dataclass(frozen=True)
class State:
    """q(beta), Dirichlet, word by word, per restart, and how many minibatches it has seen."""

    words: Float[Tensor, "C V K"]
    seen: Float[Tensor, C]


class Solver(cavi.Solver, objective="elbo_estimate", monotone=False, state=State, by_row=(), streams=True):
    """Stochastic variational inference with natural gradients (Hoffman, Blei, Wang and Paisley 2013, JMLR 14).

    A step is one pass over the documents in minibatches. For each, q(theta_d) of its documents is brought to its
    optimum given q(beta), and q(beta) moves toward what it would be if all documents were like these: lambda <-
    (1 - rho) lambda + rho (b + D / S sum over the batch of n_dv phi_dvk), rho = (t + delay)^-forgetting at minibatch
    t = 1, 2, ... Beside the data, which it reads batch by batch, it needs memory for q(beta) and one minibatch. A run
    starts from some of the documents.

    The objective is the sum of the minibatches' bounds, each at the q(beta) that it met, less KL(beta) at the end of
    the pass: an estimate of the ELBO that lags behind it by a pass and becomes exact as q(beta) comes to rest.

    Settings are those of ``Options`` and of ``start.Start``. The correlated topic model takes the steps of
    ``laplace_em`` (``stochastic_logistic``), and does not look at ``local_tol``.

    Raises:
        SettingError: A setting out of range.
    """

    def __new__(
        cls, posterior: Posterior, start: str = "gibbs", sweeps: int = 50, batch_size: int = 256, delay: float = 1.0,
        forgetting: float = 0.51, local_steps: int = 30, local_tol: float = 1e-3,
    ) -> Any:  # fmt: skip
        """Make the solver for the model's prior."""
        if cls is not Solver or not posterior.model.correlated:
            return super().__new__(cls)
        moves = Options(batch_size, delay, forgetting, local_steps, local_tol)
        how = {"start": start, "sweeps": sweeps}
        return stochastic_logistic.Solver(posterior, how, moves, min(local_steps, MOST_LOGIT_STEPS))

    def __init__(
        self, posterior: Posterior, start: str = "gibbs", sweeps: int = 50, batch_size: int = 256, delay: float = 1.0,
        forgetting: float = 0.51, local_steps: int = 30, local_tol: float = 1e-3,
    ):  # fmt: skip
        super().__init__(posterior, start, sweeps)
        self.start, self.own = self.options, Options(batch_size, delay, forgetting, local_steps, local_tol)
        self.state_class = State

    def init(self, chains: int) -> Any:
        """Return q(beta) as CAVI starts it, from some of the documents."""
        rows = self.data.shape[0]
        some = self.posterior
        if rows > LOOKED_AT:
            some = self.posterior.on(self.data.only(evenly(rows, LOOKED_AT).to(self.data.values.device)))
        words = started(some, self.start, chains) * (self.posterior.rows / some.rows)
        return State(self.model.word_concentration + words, self.data.values.new_zeros(chains))

    def step(self, state: Any) -> tuple[Any, Info]:
        """Pass over all documents in a random order of minibatches; return the estimate of the ELBO."""
        total = self.data.values.new_zeros(len(state.seen))
        for batch in minibatches.minibatches(self.posterior, self.own.batch_size):
            state, bound = self.see(state, batch)
            total = total + bound
        b = self.model.concentrations(self.data.values, len(state.seen))[1]
        return state, Info(total - WordFactors.of(state.words).gap(b))

    def see(self, state: Any, batch: Minibatch) -> tuple[Any, Float[Tensor, C]]:
        """Fit the documents of a minibatch and move q(beta); return their part of the bound."""
        words = WordFactors.of(state.words)

        def fitted(part: Posterior) -> tuple[Tensor, ...]:
            found = self.fit(part, words, self.own.local_steps, self.own.local_tol)
            # The bound is that of the gamma given: it is brought up to that which was found.
            settled = fit_documents(found.gamma, words, self.alphas(words), part.data)
            assert settled.of_words is not None
            return settled.of_words, settled.bound

        (of_words, bound), scale = batch.total(fitted)
        rho = self.own.weight(state.seen)
        new = toward(state.words, self.model.word_concentration + scale * of_words, rho)
        return State(new, state.seen + 1), bound

    def alphas(self, words: WordFactors) -> Float[Tensor, "C K"]:
        """Return alpha of each chain."""
        return self.model.concentrations(words.shape, len(words.shape))[0]

    def fit(self, part: Posterior, words: WordFactors, steps: int, tol: float) -> Fitted:
        """Bring q(theta) of some documents to its optimum from equal shares."""
        alpha = self.alphas(words)
        gamma = alpha.unsqueeze(1) + (part.data.lengths / self.model.num_topics)[:, None]
        return fit_documents(gamma, words, alpha, part.data, steps=steps, tol=tol, of_words=False)

    def finish(self, state: Any) -> cavi.State:
        """Return CAVI's state with q(theta) of every document at its optimum given q(beta)."""
        words, tol = WordFactors.of(state.words), self.own.local_tol / 10
        index = torch.arange(self.data.shape[0], device=state.seen.device)
        found = [
            self.fit(self.posterior.on(self.data.batch(some)), words, FINAL_STEPS, tol).gamma
            for some in index.split(self.own.batch_size)
        ]
        return cavi.State(torch.cat(found, 1), state.words)
