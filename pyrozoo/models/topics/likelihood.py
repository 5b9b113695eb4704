"""The likelihood of documents given their topics, and how the tokens of each word are shared among topics.

With s_dv = sum_k theta_dk beta_kv, log p(n_d) = log N_d! - sum_v log n_dv! + sum_v n_dv log s_dv: only listed words are
ever visited. Of n_dv tokens, n_dv theta_dk beta_kv / s_dv are expected to be from topic k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import constraints as C
from torch import Tensor

from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.data.documents import Documents
from pyrozoo.math.multinomial import allot
from pyrozoo.models.topics.dirichlet import expected_log
from pyrozoo.program.whole import Whole

KERNELS = Kernels(__file__)

CHUNK, ROWS, VECTOR = 64, 32, 64
"""Words that the kernel takes at a time, its blocks of documents or words, and bytes of its vectors."""

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


@dataclass(frozen=True)
class WordFactors:
    """What documents need of q(beta), Dirichlet with these concentrations.

    Attributes:
        shape: lambda, word by word.
        factors: exp E log beta, with zeros behind the last topic; None: where no kernel runs.
        psi: sum over all of E log beta_kv.
        kept: What KL(q(beta) || prior) has of q alone: sum_k [log Gamma(sum_v lambda_kv) - sum_v log Gamma(lambda_kv)
            + sum_v lambda_kv E log beta_kv].
        logs: E log beta where it is known; else it follows from lambda.
    """

    shape: Float[Tensor, "C V K"]
    factors: Float[Tensor, "C V W"] | None
    psi: Float[Tensor, C]
    kept: Float[Tensor, C]
    logs: Float[Tensor, "C V K"] | None = None

    @classmethod
    def of(cls, shape: Float[Tensor, "C V K"]) -> WordFactors:
        """Work them out."""
        total = shape.sum(1)
        if not KERNELS.serve(shape):
            logs = expected_log(shape, 1)
            kept = total.lgamma().sum(-1) - shape.lgamma().sum((1, 2)) + (shape * logs).sum((1, 2))
            return cls(shape, None, logs.sum((1, 2)), kept)
        (C, V, K), shape = shape.shape, shape.contiguous()
        of_total, width = torch.digamma(total), whole(K, shape)
        factors, sums = shape.new_empty(C, V, width), shape.new_empty(C, -(-V // ROWS), 3, K)
        scratch, scale = shape.new_empty(threads() * 2 * width), (-of_total).exp()
        for chain in range(C):
            KERNELS("factors", shape.dtype, shape[chain], scale[chain], factors[chain], sums[chain], scratch, V, K,
                    width, threads())  # fmt: skip
        psi, weighted, logs = sums.double().sum(1).unbind(1)
        kept = total.double().lgamma() - logs + weighted - total * of_total
        return cls(shape, factors, (psi - V * of_total).sum(-1).to(shape), kept.sum(-1).to(shape))

    @classmethod
    def known(cls, logs: Float[Tensor, "C V K"]) -> WordFactors:
        """Return what documents need of log beta that is known: there is no q."""
        served, more = KERNELS.serve(logs), whole(logs.shape[-1], logs) - logs.shape[-1]
        factors = torch.nn.functional.pad(logs.exp(), (0, more)).contiguous() if served else None
        return cls(logs, factors, logs.new_zeros(len(logs)), logs.new_zeros(len(logs)), logs)

    @property
    def log_factors(self) -> Float[Tensor, "C V K"]:
        """E log beta."""
        return expected_log(self.shape, 1) if self.logs is None else self.logs

    def gap(self, b: Float[Tensor, C]) -> Float[Tensor, C]:
        """Return KL(q(beta) || Dirichlet(b, ..., b)), summed over topics."""
        _, V, K = self.shape.shape
        return self.kept - b * self.psi - K * ((V * b).lgamma() - V * b.lgamma())


def whole(K: int, like: Tensor) -> int:
    """Return how many numbers the fewest whole vectors hold that hold K."""
    lanes = VECTOR // like.itemsize
    return -(-K // lanes) * lanes


@dataclass(frozen=True)
class Fitted:
    """Documents after some updates of q(theta), Dirichlet(gamma).

    Attributes:
        gamma: After the last update.
        of_words: Expected tokens of each word and topic, from which it was made; None: nobody asked.
        bound: Of the gamma given, with q(z) at its optimum: log arrangements + sum_v n_dv log s_dv - KL(theta), summed.
        logs: Sum over documents of E log theta at the last gamma.
        change: Mean change of gamma_k in the last update, of the document in which it is greatest.
    """

    gamma: Float[Tensor, "C D K"]
    of_words: Float[Tensor, "C V K"] | None
    bound: Float[Tensor, C]
    logs: Float[Tensor, "C K"]
    change: Float[Tensor, C]


def fit_documents(
    gamma: Float[Tensor, "C D K"], words: WordFactors, alpha: Float[Tensor, "C K"], data: Documents, *, steps: int = 1,
    tol: float = 0.0, of_words: bool = True,
) -> Fitted:  # fmt: skip
    """Update q(z) and then q(theta) of documents, so many times, or until the mean change of gamma_k is ``tol``."""
    prior = alpha.sum(-1).lgamma() - alpha.lgamma().sum(-1)
    base = data.log_arrangements.sum() + gamma.shape[1] * prior
    if words.factors is not None and KERNELS.serve(gamma, words.factors, alpha, data.counts):
        found, lowest = _fitted_by_kernel(gamma, words, alpha, data, steps, tol, of_words)
        if not len(data.counts) or float(lowest) >= LOWEST[gamma.dtype]:
            return replace(found, bound=found.bound + base)
    log_beta, bound, shares = words.log_factors, None, None
    for _ in range(steps):
        log_theta = expected_log(gamma, 2)
        of_documents, shares, evidence = shared(log_theta, log_beta, data)
        if bound is None:
            own = gamma.sum(-1).lgamma().sum(-1) - gamma.lgamma().sum((1, 2))
            own = own + ((gamma - alpha.unsqueeze(1)) * log_theta).sum((1, 2))
            bound = evidence - own + gamma.shape[1] * prior
        new = alpha.unsqueeze(1) + of_documents
        change = (new - gamma).abs().mean(-1).amax(-1) if gamma.shape[1] else gamma.new_zeros(len(gamma))
        gamma = new
        if float(change.max()) <= tol:
            break
    assert bound is not None
    return Fitted(gamma, shares, bound, expected_log(gamma, 2).sum(1), change)


def _fitted_by_kernel(
    gamma: Float[Tensor, "C D K"], words: WordFactors, alpha: Float[Tensor, "C K"], data: Documents, steps: int,
    tol: float, of_words: bool,
) -> tuple[Fitted, Float[Tensor, ""]]:  # fmt: skip
    (C, D, K), V, dtype, pattern, n = gamma.shape, words.shape.shape[1], gamma.dtype, data.pattern, data.counts
    assert words.factors is not None
    width, gamma, alpha, number = words.factors.shape[-1], gamma.contiguous(), alpha.contiguous(), threads()
    new, bound, lowest, change = torch.empty_like(gamma), *(gamma.new_empty(C, D) for _ in range(3))
    logs, sums = gamma.new_empty(C, -(-D // ROWS), K), gamma.new_empty(C, V, K) if of_words else None
    theta, ratio, scratch = gamma.new_empty(D, width), n.new_empty(len(n)), n.new_empty(number * (5 * width + CHUNK))
    for chain in range(C):
        KERNELS(
            "documents", dtype, gamma[chain], words.factors[chain], alpha[chain], n, pattern.starts, pattern.columns,
            new[chain], theta, ratio, bound[chain], lowest[chain], change[chain], logs[chain], scratch, D, K, width,
            steps, tol, number,
        )  # fmt: skip
        if sums is not None:
            KERNELS(
                "words", dtype, theta, ratio, words.factors[chain], pattern.transposed.starts,
                pattern.transposed.columns, pattern.by_column, sums[chain], scratch, V, K, width, number,
            )  # fmt: skip
    most = change.amax(1) if D else gamma.new_zeros(C)
    found = Fitted(new, sums, bound.double().sum(1).to(gamma), logs.double().sum(1).to(gamma), most)
    return found, lowest.min() if D else lowest.new_zeros(())
