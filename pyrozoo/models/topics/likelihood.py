"""The likelihood of documents given their topics, and how the tokens of each word are shared among topics.

With s_dv = sum_k theta_dk beta_kv, log p(n_d) = log N_d! - sum_v log n_dv! + sum_v n_dv log s_dv: only listed words are
ever visited. Of n_dv tokens, n_dv theta_dk beta_kv / s_dv are expected to be from topic k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import constraints as C
from torch import Tensor

from pyrozoo.data.documents import Documents
from pyrozoo.math.multinomial import allot
from pyrozoo.program.whole import Whole

LOWEST = {dtype: torch.finfo(dtype).tiny / torch.finfo(dtype).eps for dtype in (torch.float64, torch.float32)}
"""Below these s_dv has lost digits, or is 0."""

BLOCK = 2**18
"""Numbers of a block of listed words by topics: what stays in the cache of one core."""


def with_last(logits: Float[Tensor, "*b L"]) -> Float[Tensor, "*b K"]:
    """Return K logits of K - 1: the last is 0."""
    return torch.cat([logits, torch.zeros_like(logits[..., :1])], -1)


def shares(logits: Float[Tensor, "*b L"]) -> Float[Tensor, "*b K"]:
    """Return theta = softmax(eta, 0)."""
    return torch.softmax(with_last(logits), -1)


def proportions(values: Mapping[str, Tensor]) -> Float[Tensor, "*b D K"]:
    """Return theta of draws or of values, whichever prior they are from."""
    return values["document_topics"] if "document_topics" in values else shares(values["document_logits"])


def pointwise(theta: Float[Tensor, "*b D K"], beta: Float[Tensor, "*b K V"], data: Documents) -> Float[Tensor, "*b D"]:
    """Return log p(n_d | theta_d, beta) of every document."""
    tiny = torch.finfo(theta.dtype).tiny
    s = data.pattern.sampled(theta, beta.mT.contiguous())
    return data.pattern.row_sums(torch.xlogy(data.counts, s.clamp(min=tiny))) + data.log_arrangements


class Words(Whole):
    """n_d ~ Multinomial(N_d, sum_k theta_dk beta_k), independently; a value is a list as ``Documents.values``.

    Batch shape (D,): the log density of every document.

    Args:
        theta: Of each document.
        beta: Of each topic.
        data: Says how many tokens documents have; its own values are recognised and not sorted again.
    """

    support = C.independent(C.nonnegative, 2)

    def __init__(self, theta: Float[Tensor, "D K"], beta: Float[Tensor, "K V"], data: Documents):
        self.theta, self.beta, self.data = theta, beta, data
        super().__init__(theta.shape[:1], data.values.shape)

    def log_prob(self, value: Tensor) -> Float[Tensor, D]:
        """Return the log density of each document."""
        data = self.data if value is self.data.values else replace(self.data, values=torch.as_tensor(value))
        return pointwise(self.theta, self.beta, data)

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "entry 3"]:
        """Draw documents as long as those of the data: how many tokens are from each topic, then their words."""
        with torch.no_grad():
            lengths, (D, V) = self.data.lengths, (len(self.theta), self.beta.shape[1])
            if float(lengths.sum()) > D * V:
                counts = allot(lengths, self.theta @ self.beta)[0]
                row, column = counts.nonzero(as_tuple=True)
                return torch.stack([row.to(counts), column.to(counts), counts[row, column]], 1)
            of_topics = allot(lengths, self.theta)[0].long()
            places = []
            for k in range(of_topics.shape[1]):
                rows = torch.repeat_interleave(torch.arange(D, device=lengths.device), of_topics[:, k])
                if len(rows):
                    places.append(rows * V + torch.multinomial(self.beta[k], len(rows), replacement=True))
            if not places:
                return self.theta.new_zeros(0, 3)
            place, counts = torch.cat(places).unique(return_counts=True)
            return torch.stack([place // V, place % V, counts], 1).to(self.theta.dtype)


def shared(
    log_theta: Float[Tensor, "C D K"], log_beta: Float[Tensor, "C V K"], data: Documents
) -> tuple[Float[Tensor, "C D K"], Float[Tensor, "C V K"], Float[Tensor, C]]:
    """Share the tokens of every word among topics in proportion to theta_dk beta_kv.

    Args:
        log_theta: log theta, or E log theta.
        log_beta: log beta, or E log beta, word by word.
        data: The documents.

    Returns:
        Expected tokens of each document and topic, of each word and topic, and the sum over documents of
        log N_d! - sum_v log n_dv! + sum_v n_dv log s_dv.
    """
    n, pattern, base = data.counts, data.pattern, data.log_arrangements.sum()
    theta, beta = log_theta.exp(), log_beta.exp()
    s = pattern.sampled(theta, beta)
    if not len(n):
        return torch.zeros_like(theta), torch.zeros_like(beta), s.sum(-1) + base
    if bool(s.min() < LOWEST[n.dtype]):
        return _shared_logs(log_theta, log_beta, data)
    ratio = n / s
    of_documents = theta * pattern.times(ratio, beta)
    of_words = beta * pattern.transposed_times(ratio, theta)
    return of_documents, of_words, s.log() @ n + base


def _shared_logs(
    log_theta: Float[Tensor, "C D K"], log_beta: Float[Tensor, "C V K"], data: Documents
) -> tuple[Float[Tensor, "C D K"], Float[Tensor, "C V K"], Float[Tensor, C]]:
    """Do the same from logarithms, word by word: slower, and right however small theta and beta are."""
    of_documents, of_words = torch.zeros_like(log_theta), torch.zeros_like(log_beta)
    evidence = log_theta.new_zeros(len(log_theta)) + data.log_arrangements.sum()
    step = max(1, BLOCK // (log_theta.shape[0] * log_theta.shape[2]))
    for i, j, n in zip(*(x.split(step) for x in (data.pattern.rows, data.pattern.columns, data.counts)), strict=True):
        logs = log_theta[:, i] + log_beta[:, j]
        log_s = logs.logsumexp(-1)
        z = n[:, None] * (logs - log_s[..., None]).exp()
        of_documents.index_add_(1, i, z)
        of_words.index_add_(1, j, z)
        evidence += log_s @ n
    return of_documents, of_words, evidence
