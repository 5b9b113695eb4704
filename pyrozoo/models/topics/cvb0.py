"""Collapsed variational inference of latent Dirichlet allocation, of zeroth order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.contracts import solver
from pyrozoo.contracts.solver import Info
from pyrozoo.models.topics.likelihood import BLOCK
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.models.topics.start import Start, started

KERNELS = Kernels(__file__)

LEAST = {torch.float64: 1e-150, torch.float32: 1e-18}
"""Weights, and what they are made of, stay above these."""


@dataclass(frozen=True)
class State:
    """phi, the share of each topic in a token of each listed word, of each restart."""

    shares: Float[Tensor, "C cell K"]


class Solver(solver.Solver, kind="variational", objective="log_likelihood_at_means", monotone=False, state=State):
    """CVB0 (Asuncion, Welling, Smyth and Teh 2009, UAI 25): theta and beta are summed out before q(z) factorises.

    phi_dvk prop. to (N_dk - phi_dvk + alpha_k)(N_vk - phi_dvk + b) / (N_k - phi_dvk + V b), expected counts without the
    token itself; all tokens of a step see the counts that the step before left. q(theta) and q(beta) are the
    conditionals at the expected counts, Dirichlet(alpha + N_d) and Dirichlet(b + N_k). The objective is log p(words
    | E theta, E beta) of the state before the step, which need not rise; a run is done when a token moves by less than
    ``tol`` from topic to topic. Concentrations are not estimated: from expected counts, which are smoother than counts,
    they come out far too large. Settings are ``start`` and ``sweeps`` of ``start.Start``.

    Raises:
        NotApplicable: The prior is not Dirichlet.
        SettingError: A setting out of range.
    """

    def __init__(self, posterior: Posterior, start: str = "gibbs", sweeps: int = 50):
        super().__init__(posterior)
        posterior.needs("dirichlet", "cvb0")
        self.options = Start(start, sweeps, False)

    def init(self, chains: int) -> State:
        """Return shares that fit the tokens of topics that the options say."""
        words = self.model.word_concentration + started(self.posterior, self.options, chains)
        beta = words / words.sum(1, keepdim=True)
        shares = beta[:, self.data.pattern.columns]
        return State(shares / shares.sum(-1, keepdim=True).clamp(min=torch.finfo(beta.dtype).tiny))

    def counts(self, shares: Float[Tensor, "C cell K"]) -> tuple[Float[Tensor, "C D K"], Float[Tensor, "C V K"]]:
        """Return expected tokens of each document and topic, and of each word and topic."""
        (D, V), (C, _, K), pattern = self.data.shape, shares.shape, self.data.pattern
        of_documents, of_words = shares.new_zeros(C, D, K), shares.new_zeros(C, V, K)
        for some in self.blocks(shares):
            tokens = shares[:, some] * self.data.counts[some, None]
            of_documents.index_add_(1, pattern.rows[some], tokens)
            of_words.index_add_(1, pattern.columns[some], tokens)
        return of_documents, of_words

    def concentrations(self, chains: int) -> tuple[Float[Tensor, "C K"], Float[Tensor, C]]:
        """Return alpha and b of each chain."""
        return self.model.concentrations(self.data.values, chains)

    def blocks(self, shares: Float[Tensor, "C cell K"]) -> list[slice]:
        """Return slices of cells that stay in the cache."""
        step = max(1, BLOCK // (shares.shape[0] * shares.shape[2]))
        return [slice(first, first + step) for first in range(0, shares.shape[1], step)]

    def step(self, state: State) -> tuple[State, Info]:
        """Update phi of all tokens; return the argument's objective."""
        served = len(self.data.counts) and KERNELS.serve(state.shares, self.data.counts)
        new, objective, moved = (self._passed if served else self._by_blocks)(state)
        tokens = self.data.counts.sum().clamp(min=1)
        return State(new), Info(objective + self.data.log_arrangements.sum(), moved / (2 * tokens))

    def _passed(self, state: State) -> tuple[Tensor, ...]:
        """Return new shares, the sum of n log s at the means, and how far tokens move."""
        (C, _, K), (D, V), like = state.shares.shape, self.data.shape, state.shares
        shares, pattern = like.contiguous(), self.data.pattern
        new, documents, words = torch.empty_like(shares), like.new_empty(C, D, K), like.new_empty(C, V, K)
        objective, moved = like.new_empty(C), like.new_empty(C)
        KERNELS(
            "cvb0", like.dtype, shares, *self.concentrations(C), self.data.counts,
            pattern.starts, pattern.columns, new, documents, words, objective, moved, like.new_empty(C, 6 * K), C, D, V,
            K, threads(),
        )  # fmt: skip
        return new, objective, moved

    def _by_blocks(self, state: State) -> tuple[Tensor, ...]:
        """Do the same without the kernel."""
        V, pattern, n = self.data.shape[1], self.data.pattern, self.data.counts
        C, tiny = len(state.shares), LEAST[n.dtype]
        documents, words = self.counts(state.shares)
        alpha, b = (each.unsqueeze(1) for each in self.concentrations(C))
        b = b.unsqueeze(-1)
        total = words.sum(1, keepdim=True)
        theta = (documents + alpha) / (documents + alpha).sum(-1, keepdim=True)
        beta = (words + b) / (total + V * b)
        new, moved, objective = torch.empty_like(state.shares), n.new_zeros(C), n.new_zeros(C)
        for some in self.blocks(state.shares):
            i, j, own = pattern.rows[some], pattern.columns[some], state.shares[:, some]
            weights = (documents[:, i] - own + alpha).clamp(min=tiny) * (words[:, j] - own + b).clamp(min=tiny)
            weights = weights / (total - own + V * b).clamp(min=tiny)
            found = weights / weights.sum(-1, keepdim=True).clamp(min=tiny)
            new[:, some] = found
            moved += (found - own).abs().sum(-1) @ n[some]
            objective += (theta[:, i] * beta[:, j]).sum(-1).clamp(min=tiny).log() @ n[some]
        return new, objective, moved

    def answer(self, state: State) -> solver.Answer:
        """Return q of theta and beta, and what it says of hidden tokens."""
        documents, words = self.counts(state.shares)
        gamma, words = documents + self.model.alpha(documents), words + self.model.word_concentration
        q: dict[str, Any] = {"topic_words": Dirichlet(words.mT), "document_topics": Dirichlet(gamma)}
        means, known = self.posterior.means(gamma, words), partial(self.posterior.of_means, gamma[0], words[0])
        return solver.Answer(q=solver.Independent(q), expectations=means, prediction=known)
