"""The exact answer for a few tokens: every way in which they can be from the topics is enumerated."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.models.topics.dirichlet import above_zero
from pyrozoo.models.topics.posterior import Posterior

MOST = 2_000_000
"""Numbers that the list of all ways may hold."""


class Solver(solver.ExactSolver):
    """Enumeration of z: given it, theta and beta are Dirichlet and integrate out in closed form.

    p(n, z) = prod_d N_d! / prod z_dvk! B(alpha + N_d) / B(alpha) prod_k B(b + N_k) / B(b), B the normaliser of a
    Dirichlet distribution.

    Raises:
        NotApplicable: The prior is not Dirichlet, or there are too many ways; the message says how many.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        posterior.needs("dirichlet", "exact")
        K, counts = self.model.num_topics, self.data.counts.tolist()
        ways = math.prod(math.comb(int(count) + K - 1, K - 1) for count in counts)
        if ways * sum(self.data.shape) * K > MOST:
            few = "give a few documents of a few tokens, or use inference=gibbs"
            many = f"{ways:.3g}" if ways < 1e12 else "more than 1e12"
            raise NotApplicable(f"exact would enumerate {many} ways to share the tokens among topics; {few}")

    @cached_property
    def ways(self) -> tuple[Float[Tensor, "way D K"], Float[Tensor, "way V K"], Float[Tensor, way]]:
        """Tokens of each document and topic, of each word and topic, and log p(n, z) of each way."""
        (D, V), K, like = self.data.shape, self.model.num_topics, self.data.values
        documents, words = like.new_zeros(1, D, K), like.new_zeros(1, V, K)
        logs = torch.lgamma(self.data.lengths + 1).sum().expand(1)
        for row, column, count in self.data.values.tolist():
            parts = like.new_tensor(compositions(int(count), K))
            total = len(documents) * len(parts)

            def crossed(tokens: Tensor, at: int, parts: Tensor = parts, total: int = total) -> Tensor:
                new = tokens[:, None].expand(-1, len(parts), -1, -1).clone()
                new[:, :, at] += parts
                return new.reshape(total, *tokens.shape[1:])

            documents, words = crossed(documents, int(row)), crossed(words, int(column))
            logs = (logs[:, None] - torch.lgamma(parts + 1).sum(-1)).flatten()
        alpha, b = self.model.alpha(like), like.new_full((V,), self.model.word_concentration)
        for prior, tokens in ((alpha, documents), (b, words.mT)):
            logs = logs + (normaliser(prior + tokens) - normaliser(prior)).sum(-1)
        return documents, words, logs

    def evidence(self) -> Float[Tensor, ""]:
        """Enumerate all ways and add them up."""
        return self.ways[2].logsumexp(0)

    def draw(self, count: int) -> Values:
        """Draw independently: a way, then theta and beta given it."""
        documents, words, logs = self.ways
        chosen = torch.multinomial(logs.softmax(0), count, replacement=True)
        m, like = self.model, self.data.values
        shapes = m.word_concentration + words[chosen].mT, m.alpha(like) + documents[chosen]
        return dict(zip(("topic_words", "document_topics"), map(above_zero, shapes), strict=True))


def compositions(count: int, parts: int) -> list[list[int]]:
    """Return every way to write a count as a sum of so many whole numbers."""
    if parts == 1:
        return [[count]]
    return [[first, *rest] for first in range(count + 1) for rest in compositions(count - first, parts - 1)]


def normaliser(shape: Float[Tensor, "*b K"]) -> Float[Tensor, "*b"]:
    """Return log B(shape) = sum log Gamma(shape_k) - log Gamma(sum shape_k)."""
    return torch.lgamma(shape).sum(-1) - torch.lgamma(shape.sum(-1))
