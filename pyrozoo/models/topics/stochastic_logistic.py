"""Laplace variational inference of the correlated topic model on minibatches of documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.minibatches import Minibatch, Options, minibatches, toward
from pyrozoo.contracts.solver import Info
from pyrozoo.core.draws import evenly
from pyrozoo.models.topics import laplace_em
from pyrozoo.models.topics.correlated import Found, Weights, fit_documents
from pyrozoo.models.topics.covariance import NormalInverseWishart
from pyrozoo.models.topics.laplace_em import SUMS, Finished
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.models.topics.start import started

LOOKED_AT = 5000
"""Documents, evenly chosen, from which a run starts."""

ROUNDS = 3
"""Curvatures that a document is given on its way from the mean."""


@dataclass(frozen=True)
class State:
    """q(beta), Dirichlet, word by word; sum E eta and sum E eta eta^T over documents; and minibatches seen."""

    words: Float[Tensor, "C V K"]
    first: Float[Tensor, "C d"]
    second: Float[Tensor, "C d d"]
    seen: Float[Tensor, C]


class Solver(laplace_em.Solver, kind="variational", objective="elbo_estimate", state=State, by_row=(), streams=True):
    """The steps of ``laplace_em`` with natural gradients on minibatches (Hoffman and others 2013, JMLR 14).

    A step is one pass over the documents. For each minibatch, logits of its documents climb from the mean to their
    mode; then lambda, sum E eta and sum E eta eta^T move toward what they would be if all documents were like these:
    they are natural parameters of q(beta) and q(mu, Sigma). Beside the data it needs memory for these and one
    minibatch. The objective is the sum of the minibatches' parts of that of ``laplace_em``, each at the q that it met.

    Args:
        posterior: With correlated topics.
        how: ``start`` and ``sweeps``.
        moves: How q moves.
        local_steps: Most steps of a document's logits with one curvature, of which there are three.
    """

    def __init__(self, posterior: Posterior, how: dict[str, Any], moves: Options, local_steps: int):
        super().__init__(posterior, held=0, local_steps=local_steps, **how)
        self.moves = moves

    def init(self, chains: int) -> Any:
        """Return lambda from some of the documents, and moments that make the covariance four times the prior's."""
        rows, some = self.data.shape[0], self.posterior
        if rows > LOOKED_AT:
            some = self.posterior.on(self.data.only(evenly(rows, LOOKED_AT).to(self.data.values.device)))
        words = started(some, self.options, chains) * (self.posterior.rows / some.rows)
        second = (self.wide - self.prior.scale).expand(chains, -1, -1).contiguous()
        none = words.new_zeros(chains)
        return State(self.model.word_concentration + words, second[:, 0] * 0, second, none)

    def known(self, state: Any) -> NormalInverseWishart:
        """Return q(mu, Sigma)."""
        return self.prior.given(self.posterior.rows, state.first, state.second)

    def step(self, state: Any) -> tuple[Any, Info]:
        """Pass over all documents in a random order of minibatches; return the estimate of the objective."""
        total = state.words.new_zeros(len(state.seen))
        for batch in minibatches(self.posterior, self.moves.batch_size):
            state, value = self.see(state, batch)
            total = total + value
        return state, Info(total + self.of_globals(self.known(state), state.words))

    def see(self, state: Any, batch: Minibatch) -> tuple[Any, Float[Tensor, C]]:
        """Fit the documents of a minibatch and move q; return their part of the objective."""
        q = self.known(state)
        mean, precision = q.mean, q.precision

        def fitted(part: Posterior) -> tuple[Tensor, ...]:
            found = [self.fit(part, state.words[c], mean[c], precision[c]) for c in range(len(mean))]
            return tuple(torch.stack([getattr(f, name) for f in found]) for name in SUMS)

        (value, of_words, first, second), scale = batch.total(fitted)
        rho, b = self.moves.weight(state.seen), self.model.word_concentration
        words = toward(state.words, b + scale * of_words, rho)
        moments = toward(state.first, scale * first, rho), toward(state.second, scale * second, rho)
        return State(words, *moments, seen=state.seen + 1), value

    def fit(
        self, part: Posterior, words: Float[Tensor, "V K"], mean: Float[Tensor, d], precision: Float[Tensor, "d d"]
    ) -> Found:
        """Bring logits of some documents from the mean to their mode."""
        weights = Weights.of(words, self.collapsed)
        logits = mean.expand(part.data.shape[0], -1).contiguous()
        for _ in range(ROUNDS):
            found = fit_documents(
                weights, mean, precision, part.data, logits, steps=self.options.local_steps, delta=self.delta
            )
            logits = found.logits
        return found

    def finish(self, state: Any) -> Finished:
        """Return what ``laplace_em`` does, logits of every document at their mode."""
        q = self.known(state)
        logits = [
            self.fit(self.posterior, state.words[c], q.mean[c], q.precision[c]).logits for c in range(len(q.mean))
        ]
        none = state.words.new_zeros(len(logits))
        return super().finish(laplace_em.State(torch.stack(logits), state.words, q.mean, q.scale, none, none))
