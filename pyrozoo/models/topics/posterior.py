"""What is known of the posterior of topics: starting points, the likelihood, invariants, held-out tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Binomial

from pyrozoo.contracts.posterior import HandBuilt, LeftOut
from pyrozoo.contracts.values import check_counts
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.documents import Documents
from pyrozoo.models.topics.likelihood import pointwise, proportions
from pyrozoo.models.topics.model import Topics

LARGEST_FLOAT32_COUNT = 2**24
"""Larger counts are not whole numbers in single precision."""

MOST_PRODUCTS = 2**22
"""Probabilities of words, over draws, held at a time."""

GATHER = 100
"""Multiplications that finding the probabilities of a word and its logarithm are worth."""

MOST_LEFT_OUT = 1000
"""Tokens that are left out, one at a time, by cross-validation."""

PRIORS = {"dirichlet": "latent Dirichlet allocation", "logistic_normal": "the correlated topic model"}


class Posterior(HandBuilt):
    """Topics given Documents."""

    model: Topics
    data: Documents
    observed = "words"
    unit = "row"
    wants = "documents (document, word, count)"
    invariant_dims: ClassVar = {
        "log_likelihood": (), "word_share": ("column",), "document_purity": ("row",), "word_probability": ("cell",),
        "mean_topic_words": ("topic", "column"), "mean_document_topics": ("row", "topic"),
    }  # fmt: skip

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites, with the names of their dimensions."""
        words = {"topic_words": ("topic", "column")}
        if not self.model.correlated:
            return {**words, "document_topics": ("row", "topic")}
        covariance = {"logit_covariance": ("contrast", "contrast_"), "logit_mean": ("contrast",)}
        return {**words, **covariance, "document_logits": ("row", "contrast")}

    def needs(self, prior: str, method: str) -> None:
        """Raise NotApplicable unless the model has the prior that a method is for."""
        if self.model.prior != prior:
            raise NotApplicable(f"{method} is for {PRIORS[prior]}: type model.prior={prior}, or choose another method")

    def check(self) -> None:
        """Raise DataError unless every listed value is a count that the precision can hold."""
        super().check()
        for part in self.data.with_new_rows:
            check_counts(part, part.counts, LARGEST_FLOAT32_COUNT)

    def initial(self, chains: int) -> Values:
        """Return starting values: topics that are the words' shares in all documents times Uniform(0.5, 1.5)."""
        (D, V), K, m = self.data.shape, self.model.num_topics, self.model
        words = (self.data.word_totals + 1) * (0.5 + self.uniform(chains, K, V))
        beta = words / words.sum(-1, keepdim=True)
        if m.correlated:
            eye = torch.eye(K - 1, dtype=beta.dtype, device=beta.device)
            covariance = (m.logit_variance * (eye + 1)).expand(chains, -1, -1).contiguous()
            logits = 0.2 * (self.uniform(chains, D, K - 1) - 0.5)
            zero = beta.new_zeros(chains, K - 1)
            found = {"logit_covariance": covariance, "logit_mean": zero, "document_logits": logits}
            return {"topic_words": beta, **found}
        theta = 0.5 + self.uniform(chains, D, K)
        return {"topic_words": beta, "document_topics": theta / theta.sum(-1, keepdim=True)}

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(n_d | theta_d, beta) of every document."""
        theta, beta = proportions(draws), draws["topic_words"]
        if self.data.row_index is not None:
            theta = theta.index_select(-2, self.data.row_index)
        shape, step = theta.shape[:2], max(1, MOST_PRODUCTS // max(1, len(self.data.values)))
        blocks = zip(theta.flatten(0, 1).split(step), beta.flatten(0, 1).split(step), strict=True)
        return torch.cat([pointwise(one, its, self.data) for one, its in blocks]).unflatten(0, shape)

    @property
    def left_out(self) -> LeftOut:
        """Every token; of many, so many chosen at random. A document left out would take its own topics with it."""
        return LeftOut("token", int(self.data.lengths.sum()), self._tokenwise)

    def _tokenwise(self, draws: Values) -> Float[Tensor, "chain draw token"]:
        total, ends = int(self.data.lengths.sum()), self.data.counts.double().cumsum(0).cpu()
        count = min(total, MOST_LEFT_OUT)
        chosen = np.sort(np.random.default_rng(0).choice(total, count, replace=False))
        at = torch.searchsorted(ends, torch.as_tensor(chosen, dtype=torch.float64), right=True)
        cells = self.data.values[at.clamp(max=max(0, len(ends) - 1)).to(self.data.values.device), :2].long()
        tiny = torch.finfo(self.data.values.dtype).tiny
        return word_probabilities(draws, cells).clamp(min=tiny).log()

    @property
    def effort(self) -> float:
        """Return the multiplications of one likelihood: for each listed word K, and ``GATHER``."""
        return float((self.model.num_topics + GATHER) * len(self.data.values))

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that relabelling does not change.

        ``log_likelihood``; ``word_share``, how often each word is expected; ``document_purity``; and
        ``word_probability``, of the cells ``Triplets.cells``.
        """
        found = self.model.symmetry.invariants(Draws(draws), self.sites)
        return {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            **{name: value for name, (_, value) in found.items()},
            "word_probability": word_probabilities(draws, self.data.cells),
        }

    def simulated_numbers(self, values: Values) -> float:
        """Return how many numbers listed cells have at most: three each, of no more than are tokens."""
        return min(3 * float(self.data.lengths.sum()), self.most_numbers)

    @property
    def most_numbers(self) -> float:
        """Every cell may be listed."""
        return 3.0 * math.prod(self.data.shape)

    def predict(self, draws: Values) -> Prediction:
        """Predict the hidden tokens of each document, whose number is known, given those that are seen.

        The log density of an entry is that of one of its tokens, and its weight how many there are. Intervals and PIT
        are those of their number, binomial given the number of hidden tokens of the document.
        """
        probability = self.hidden_probabilities(draws).flatten(0, 1)  # [draw, entry]
        return predictive(probability, self.hidden.values, self.hidden_lengths)

    def hidden_probabilities(self, draws: Values) -> Float[Tensor, "*b entry"]:
        """Return the probability of one hidden token of each entry."""
        return word_probabilities(draws, torch.stack([self.hidden.rows, self.hidden.columns], 1))

    def of_means(self, documents: Float[Tensor, "D K"], words: Float[Tensor, "V K"]) -> Prediction:
        """Predict the hidden tokens where q(theta) and q(beta), Dirichlet, are independent: by their means."""
        means = {
            "document_topics": documents / documents.sum(-1, keepdim=True),
            "topic_words": (words / words.sum(0)).mT,
        }
        return predictive(self.hidden_probabilities(means)[None], self.hidden.values, self.hidden_lengths)

    def means(self, documents: Float[Tensor, "C D K"], words: Float[Tensor, "C V K"]) -> Values:
        """Return the means of q(theta) and q(beta), Dirichlet, as ``Answer.expectations``."""
        theta, beta = (each / each.sum(-1, keepdim=True) for each in (documents, words.mT))
        return {"mean_document_topics": theta, "mean_topic_words": beta}

    def running_prediction(self) -> RunningTokens:
        """Return what averages probabilities of hidden tokens over states."""
        return RunningTokens(self.hidden.values, self.hidden_lengths)

    @property
    def hidden_lengths(self) -> Float[Tensor, entry]:
        """How many tokens of an entry's document are hidden."""
        hidden = self.hidden
        return hidden.values.new_zeros(self.data.shape[0]).index_add(0, hidden.rows, hidden.values)[hidden.rows]


class RunningTokens:
    """Probabilities of hidden tokens, averaged over states and chains.

    Args:
        counts: How many tokens each entry stands for.
        lengths: Of how many.
    """

    def __init__(self, counts: Float[Tensor, entry], lengths: Float[Tensor, entry]):
        self.counts, self.lengths, self.count = counts, lengths, 0
        self.total = torch.zeros_like(counts, dtype=torch.float64)

    def add(self, probability: Float[Tensor, "C entry"]) -> None:
        """Add one state."""
        self.count += len(probability)
        self.total += probability.double().sum(0)

    def _score(self, probability: Float[Tensor, "*c entry"]) -> Float[Tensor, "*c"]:
        logs = probability.clamp(min=torch.finfo(probability.dtype).tiny).log()
        return (logs * self.counts.to(logs)).sum(-1) / self.counts.sum().clamp(min=1)

    def sweep(self, probability: Float[Tensor, "C entry"]) -> dict[str, Tensor]:
        """Return the mean log probability of a token at one state."""
        return {"sweep_log_probability": self._score(probability)}

    def average(self) -> dict[str, float]:
        """Return it of the average so far."""
        return {"average_log_probability": float(self._score(self.total / self.count))}

    def prediction(self) -> Prediction:
        """Return the prediction."""
        mean = (self.total / self.count).to(self.counts)
        return predictive(mean[None], self.counts, self.lengths)

    def state(self) -> dict[str, Any]:
        """Return plain tensors for a checkpoint."""
        return {"count": self.count, "total": self.total}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what ``state`` returned."""
        self.count, self.total = state["count"], state["total"]


def word_probabilities(draws: Values, cells: Tensor) -> Float[Tensor, "*b cell"]:
    """Return sum_k theta_dk beta_kv of cells (document, word), [cell, 2]."""
    theta, beta = proportions(draws), draws["topic_words"]
    blocks, K = [], beta.shape[-2]
    step = max(1, MOST_PRODUCTS // max(1, math.prod(beta.shape[:-2]) * K))
    for some in cells.split(step):
        own = theta.index_select(-2, some[:, 0])
        blocks.append((own * beta.index_select(-1, some[:, 1]).mT).sum(-1))
    return torch.cat(blocks, -1) if blocks else theta.new_zeros(*theta.shape[:-2], 0)


def predictive(
    probability: Float[Tensor, "draw entry"], counts: Float[Tensor, entry], lengths: Float[Tensor, entry]
) -> Prediction:
    """Return the prediction of numbers of hidden tokens.

    Args:
        probability: Of one token, at each draw.
        counts: How many there are.
        lengths: Of how many.
    """
    mean = probability.mean(0)
    with seeded(0):
        draws = Binomial(lengths, probability.clamp(0, 1), validate_args=False).sample()
        tiny = torch.finfo(mean.dtype).tiny
        found = Prediction.of_counts(mean * lengths, mean.clamp(min=tiny).log(), draws, counts)
    return replace(found, weight=counts)
