"""Where methods for latent Dirichlet allocation start: from a few collapsed sweeps, from anchor words, or at random."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.core.settings import Settings, flag, one_of, whole
from pyrozoo.data.documents import Documents
from pyrozoo.models.topics.model import Topics
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.models.topics.sweeps import draw

DIRECTIONS, FEWEST_DOCUMENTS, UPDATES = 500, 10, 200
"""Random directions that co-occurrences are projected onto, documents that an anchor is in, updates of words."""


@dataclass(frozen=True)
class Start(Settings):
    """How a solver of latent Dirichlet allocation starts, and whether it finds the concentrations.

    Attributes:
        start: ``gibbs``: collapsed sweeps from a random start; ``anchors``: anchor words; ``random``.
        sweeps: Sweeps, of gibbs.
        empirical_bayes: Whether alpha, of each topic, and b are those that make the bound largest.
    """

    prefix: ClassVar[str] = "solver."
    start: str = one_of("gibbs", "anchors", "random")
    sweeps: int = whole()
    empirical_bayes: bool = flag()


def started(posterior: Posterior, how: Start, chains: int) -> Float[Tensor, "C V K"]:
    """Return tokens of each word and topic, of each chain, to start from: scaled to those of all documents."""
    return _tokens(posterior, how, chains) * (posterior.rows / max(1, posterior.data.shape[0]))


def _tokens(posterior: Posterior, how: Start, chains: int) -> Float[Tensor, "C V K"]:
    data, K = posterior.data, posterior.model.num_topics
    if how.start == "anchors":
        beta = anchored(data, K).expand(chains, -1, -1) * (0.95 + 0.1 * posterior.uniform(chains, data.shape[1], K))
        return beta / beta.sum(1, keepdim=True).clamp(min=1e-300) * (float(data.lengths.sum()) / K)
    beta = posterior.initial(chains)["topic_words"].mT
    if how.start == "random":
        return beta * (float(data.lengths.sum()) / K)
    theta = beta.new_full((chains, data.shape[0], K), 1 / K)
    alpha = posterior.model.alpha(data.values)
    return draw(theta, beta.contiguous(), data, how.sweeps, alpha, posterior.model.word_concentration)[1]


def anchored(data: Documents, K: int) -> Float[Tensor, "V K"]:
    """Return topics from anchor words (Arora et al. 2013, ICML 28): words that, if they occur, are of one topic.

    Rows of the matrix of how words occur together, scaled to sum to 1, are convex combinations of those of the anchors.
    They are projected onto random directions; anchors are the rows farthest from the span of those before; the weights
    of each row, p(topic | word), are found by exponentiated gradients.
    """
    pattern, n, lengths, (D, V) = data.pattern, data.counts, data.lengths, data.shape
    scale = torch.where(lengths >= 2, 1 / (lengths * (lengths - 1)).clamp(min=1), 0.0).sqrt()[pattern.rows]
    by_word, by = pattern.transposed, pattern.by_column
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")
        documents = torch.sparse_csr_tensor(pattern.starts, pattern.columns, n * scale, (D, V))
        words = torch.sparse_csr_tensor(by_word.starts, by_word.columns, (n * scale)[by], (V, D))
    twice = n.new_zeros(V).index_add(0, pattern.columns, n * scale.square())[:, None]

    def together(right: Float[Tensor, "V P"]) -> Float[Tensor, "V P"]:
        return words @ (documents @ right) - twice * right

    directions = torch.randn(V, min(V, DIRECTIONS), dtype=n.dtype, device=n.device) / min(V, DIRECTIONS) ** 0.5
    share = together(n.new_ones(V, 1)).clamp(min=0)
    rows = together(directions) / share.clamp(min=torch.finfo(n.dtype).tiny)
    chosen = _anchors(rows, share.squeeze(1), torch.bincount(pattern.columns, minlength=V), K)
    weights = _combined(rows, rows[chosen])
    beta = weights * share + torch.finfo(n.dtype).tiny
    return beta / beta.sum(0)


def _anchors(rows: Float[Tensor, "V P"], share: Float[Tensor, V], documents: Int[Tensor, V], K: int) -> Int[Tensor, K]:
    """Return words whose rows are far from the span of one another, of those that are in many documents."""
    least = FEWEST_DOCUMENTS
    while least and int(((documents >= least) & (share > 0)).sum()) < 2 * K:
        least //= 2
    able = ((documents >= least) & (share > 0)).nonzero().flatten()
    if len(able) < K:
        able = torch.arange(len(share), device=share.device)
    left, found = rows[able].clone(), list[int]()
    for _ in range(K):
        size = left.square().sum(1)
        for each in found:
            size[each] = -1
        if len(found) == len(size):  # fewer words than topics
            found.append(found[len(found) % max(1, len(size))])
            continue
        at = int(size.argmax())
        if found:
            unit = left[at] / left[at].norm().clamp(min=1e-300)
            left = left - torch.outer(left @ unit, unit)
        else:
            left = left - left[at]
        found.append(at)
    return able[torch.tensor(found, device=able.device)]


def _combined(rows: Float[Tensor, "V P"], anchors: Float[Tensor, "K P"]) -> Float[Tensor, "V K"]:
    """Return weights, each row summing to 1, with which the anchors come closest to the rows."""
    square, products = anchors @ anchors.mT, rows @ anchors.mT
    weights = rows.new_full((len(rows), len(anchors)), 1 / len(anchors))
    step = 2 / square.abs().max().clamp(min=1e-300)
    for _ in range(UPDATES):
        slope = 2 * (weights @ square - products)
        slope = slope - (slope * weights).sum(1, keepdim=True)
        weights = torch.softmax(weights.clamp(min=1e-300).log() - step * slope, 1)
    return weights


def estimated(model: Topics, state: Any) -> Topics:
    """Return the model with the concentrations of a state of one chain."""
    alpha, b = tuple(state.alpha[0].double().tolist()), float(state.concentration[0])
    return model.with_concentrations(alpha, b)
