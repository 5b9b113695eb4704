"""Correlated topics given words and their prior: the mode of every document's logits, and the curvature there.

Of a document with n_v tokens of word v, N in all, and weights beta_kv of words in topics, with theta = softmax(eta, 0),

    f(eta) = sum_v n_v log sum_k theta_k beta_kv - (eta - mu)^T Sigma^-1 (eta - mu) / 2,

whose gradient is s - N theta - Sigma^-1 (eta - mu), s_k = sum_v n_v phi_vk the tokens that topic k is expected to have.
With phi held, as variational inference has it (Wang and Blei 2013, JMLR 14, section 4.2), minus the Hessian is
N (diag theta - theta theta^T) + Sigma^-1, always positive definite; its inverse V is the covariance of q(eta), and V
times the gradient is a step that cannot overshoot by much. f itself, with phi summed out, need not be concave.

Words come in two ways (``Weights``): beta = exp E log beta of a Dirichlet q(beta), or beta summed out to order zero
(Asuncion, Welling, Smyth and Teh 2009, UAI): the expected counts lambda of words in topics, less that of the token at
hand. Then phi_vk = theta_k (lambda_kv - phi_vk) / Lambda_k / p, so phi_vk = theta_k lambda_kv / (Lambda_k p + theta_k)
with p such that phi adds up to 1: nothing needs to be kept of a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.core.blocks import at_once
from pyrozoo.data.documents import Documents
from pyrozoo.math.linear_algebra import inverse_and_log_determinant
from pyrozoo.models.topics.dirichlet import expected_log
from pyrozoo.models.topics.likelihood import shares, with_last

KERNELS = Kernels(__file__)

BLOCK = 2**21
"""Numbers of the covariances worked on at a time."""

ROUNDS, DOCUMENTS, VECTOR = 6, 8, 64
"""Of the search for p; documents that a thread takes at once; bytes of a vector: as in the C file."""

SMALLEST = 1e-37


@dataclass(frozen=True)
class Weights:
    """Weights of words in topics.

    Attributes:
        words: beta, or lambda where beta is summed out, [V, K].
        size: Lambda_k = sum_v lambda_kv where it is; None where not.
        own: exp E log beta, which the bound on the evidence takes.
    """

    words: Float[Tensor, "V K"]
    size: Float[Tensor, K] | None
    own: Float[Tensor, "V K"]

    @classmethod
    def of(cls, words: Float[Tensor, "V K"], collapsed: bool) -> Weights:
        """Return what q(beta_k) = Dirichlet(lambda_k) says.

        Args:
            words: lambda, word by word.
            collapsed: Whether beta is summed out.
        """
        own = expected_log(words[None], 1)[0].exp()
        return cls(words, words.sum(0), own) if collapsed else cls(own, None, own)


@dataclass(frozen=True)
class Found:
    """What documents say, at the logits that were given (value, left) and at those that were found.

    Attributes:
        logits: Found.
        spread: q's variances where q is diagonal.
        value: Sum over documents of E log p(words | eta) - (eta - mu)^T Sigma^-1 (eta - mu) / 2 + log |V| / 2: what
            the bound has of them, but for constants.
        of_words: Expected tokens of words and topics.
        first: sum E eta.
        second: sum E eta eta^T.
        left: Twice what first steps promised to gain, the most of any document.
    """

    logits: Float[Tensor, "D d"]
    value: Tensor
    of_words: Float[Tensor, "V K"]
    first: Float[Tensor, d]
    second: Float[Tensor, "d d"]
    left: Tensor


def fit_documents(
    weights: Weights, mean: Float[Tensor, d], precision: Float[Tensor, "d d"], data: Documents,
    logits: Float[Tensor, "D d"], *, steps: int, delta: bool = False,
) -> Found:  # fmt: skip
    """Climb towards the mode of every document's logits, with the curvature of where it starts.

    Args:
        weights: Of words.
        mean: mu.
        precision: Sigma^-1, or its expectation.
        data: The documents.
        logits: Where to start.
        steps: Most steps of a document.
        delta: Climb f - tr(N (diag theta - theta theta^T) V) / 2 instead, V being held: the delta method (Wang and Blei
            2013, section 3.2).
    """
    found, (V, K) = torch.empty_like(logits), weights.words.shape
    of_words, spread = Columns.empty(weights), torch.zeros_like(precision)
    value = data.log_arrangements.sum()
    left = value.new_zeros(())
    for part in blocks(data, logits):
        start = logits[part.rows]
        theta = shares(start)[:, :-1]
        covariance, log_determinant = inverse_and_log_determinant(curvature(theta, part.lengths, precision))
        found[part.rows], evidence, gain = climb(
            weights, mean, precision, part, start, covariance, of_words, steps=steps, delta=delta
        )
        spread = spread + covariance.sum(0)
        away = start - mean
        value = value + (evidence - 0.5 * ((away @ precision) * away).sum(-1) - 0.5 * log_determinant).sum()
        left = torch.maximum(left, gain.max())
    second = spread + found.T @ found
    return Found(found, value, of_words.total(V, K), found.sum(0), second, left)


def curvature(
    theta: Float[Tensor, "B d"], lengths: Float[Tensor, B], precision: Float[Tensor, "d d"]
) -> Float[Tensor, "B d d"]:
    """Return N (diag theta - theta theta^T) + Sigma^-1 of each document."""
    tokens = theta * lengths[:, None]
    result = precision - tokens[:, :, None] * theta[:, None, :]
    result.diagonal(dim1=-2, dim2=-1).add_(tokens)
    return result


def drawn(
    theta: Float[Tensor, "B d"], lengths: Float[Tensor, B], covariance: Float[Tensor, "B d d"]
) -> Float[Tensor, "B d"]:
    """Return the gradient in eta of - N tr((diag theta - theta theta^T) V) / 2, V being held."""
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    turned = (covariance @ theta[..., None])[..., 0]
    inner, outer = (theta * diagonal).sum(-1, keepdim=True), (theta * turned).sum(-1, keepdim=True)
    return -0.5 * lengths[:, None] * theta * (diagonal - inner - 2 * (turned - outer))


@dataclass(frozen=True)
class Part:
    """Some documents, one after the other.

    Attributes:
        rows: Which.
        starts: Where the words of each begin, and their end, from 0.
        words: Of every listed word, its place in the vocabulary.
        counts: How often it occurs.
        lengths: Tokens of each document.
    """

    rows: slice
    starts: Tensor
    words: Tensor
    counts: Tensor
    lengths: Tensor


def blocks(data: Documents, logits: Float[Tensor, "D d"]) -> Iterator[Part]:
    """Yield so many documents that their covariances stay near."""
    starts, (D, d) = data.pattern.starts, logits.shape
    step = max(DOCUMENTS, at_once(BLOCK, logits) // d**2)
    for first in range(0, D, step):
        rows = slice(first, min(first + step, D))
        ends = starts[rows.start : rows.stop + 1]
        cells = slice(int(ends[0]), int(ends[-1]))
        yield Part(
            rows, (ends - ends[0]).contiguous(), data.pattern.columns[cells], data.counts[cells].contiguous(),
            data.lengths[rows],
        )  # fmt: skip


def whole(size: int, like: Tensor) -> int:
    """Return a size in whole vectors."""
    lanes = VECTOR // like.element_size()
    return -(-size // lanes) * lanes


@dataclass
class Columns:
    """Expected tokens of words and topics, added up by ``climb``; weights in whole vectors for a kernel."""

    sums: Tensor
    words: Tensor
    size: Tensor | None
    own: Tensor | None

    @classmethod
    def empty(cls, weights: Weights) -> Columns:
        """Begin to add up."""
        K, words = weights.words.shape[1], weights.words
        if not KERNELS.serve(words):
            return cls(torch.zeros_like(words), words, weights.size, weights.own)
        fill = whole(K, words) - K
        padded = torch.nn.functional.pad(words, (0, fill))
        size = own = None
        if weights.size is not None:
            size = torch.nn.functional.pad(weights.size, (0, fill), value=1.0)
            own = torch.nn.functional.pad(weights.own, (0, fill)).contiguous()
        return cls(torch.zeros_like(padded), padded.contiguous(), size, own)

    def total(self, V: int, K: int) -> Float[Tensor, "V K"]:
        """Return the sums."""
        return self.sums[:V, :K].contiguous()


def climb(
    weights: Weights, mean: Float[Tensor, d], precision: Float[Tensor, "d d"], part: Part, start: Float[Tensor, "B d"],
    covariance: Float[Tensor, "B d d"], columns: Columns, *, steps: int, delta: bool = False,
    offset: Float[Tensor, "B K"] | None = None,
) -> tuple[Float[Tensor, "B d"], Float[Tensor, B], Float[Tensor, B]]:  # fmt: skip
    """Take steps V g that raise f of every document, and add up its expected tokens by word and topic.

    Args:
        weights: Of words.
        mean: mu.
        precision: Sigma^-1.
        part: The documents.
        start: Where their logits are.
        covariance: V.
        columns: What tokens are added to.
        steps: Most of a document.
        delta: f less N tr((diag theta - theta theta^T) V) / 2 is to rise instead.
        offset: Added to the logits in the normaliser, which is then log sum_k exp(eta_k + offset_k).

    Returns:
        Where logits come to; sum_v n_v log sum_k exp(eta_k) beta_kv less N times the normaliser, and the square of the
        first gradient in the metric of V, both where they were.
    """
    if not KERNELS.serve(start, columns.sums, part.counts, precision, covariance):
        return _climb(weights, mean, precision, part, start, covariance, columns, steps, delta, offset)
    logits, (B, d), width = start.clone(memory_format=torch.contiguous_format), start.shape, columns.sums.shape[1]
    evidence, left = start.new_empty(B), start.new_empty(B)
    room = whole(int(part.starts.diff().max()), start)
    scratch = start.new_empty(threads() * (11 * width + 2 * room + DOCUMENTS * ((room + 1) * width + room)))
    KERNELS(
        "climb", start.dtype, columns.words, columns.size, columns.own, offset, part.counts, part.starts,
        part.words, mean.contiguous(), precision.contiguous(), covariance.contiguous(), logits, evidence, left,
        columns.sums, scratch, B, d + 1, width, room, steps, int(delta), threads(),
    )  # fmt: skip
    return logits, evidence, left


def _climb(
    weights: Weights, mean: Tensor, precision: Tensor, part: Part, start: Tensor, covariance: Tensor,
    columns: Columns, steps: int, delta: bool, offset: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Do the same in PyTorch, all documents at a time."""
    rows = torch.repeat_interleave(torch.arange(len(start), device=start.device), part.starts.diff())
    near, evidence = weights.words[part.words], None
    zero, tiny = start.new_zeros(len(start)), SMALLEST
    if weights.size is not None:
        theta, size = shares(start)[rows], weights.size
        evidence = zero.index_add(
            0, rows, part.counts * (theta * weights.own[part.words]).sum(-1).clamp(min=tiny).log()
        )
        p = (theta * near / size).sum(-1, keepdim=True)
        for _ in range(ROUNDS):
            p = p * (theta * near / (size * p + theta)).sum(-1, keepdim=True)
        near = near * p / (size * p + theta)

    def evaluate(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        full = with_last(logits)
        moved = full if offset is None else full + offset
        theta, normaliser = full.softmax(-1), part.lengths * (full.logsumexp(-1) - moved.logsumexp(-1))
        p = (theta[rows] * near).sum(-1).clamp(min=tiny)
        phi = theta[rows] * near * (part.counts / p)[:, None]
        of_topics = torch.zeros_like(full).index_add(0, rows, phi)
        away = logits - mean
        of_words = zero.index_add(0, rows, part.counts * p.log()) + normaliser
        gradient = of_topics - part.lengths[:, None] * moved.softmax(-1)
        gradient = gradient[:, :-1] - away @ precision
        value = of_words - 0.5 * ((away @ precision) * away).sum(-1)
        if delta:
            value = value - 0.5 * (curvature(theta[:, :-1], part.lengths, 0 * precision) * covariance).sum((-2, -1))
            gradient = gradient + drawn(theta[:, :-1], part.lengths, covariance)
        return value, gradient, of_words, phi

    logits, (value, gradient, of_words, phi) = start, evaluate(start)
    first, length, left = of_words, torch.ones_like(zero), None
    for taken in range(steps + 1):
        step = (covariance @ gradient[..., None])[..., 0]
        gain = (step * gradient).sum(-1)
        left = gain if left is None else left
        if taken == steps:
            break
        rounding = torch.finfo(start.dtype).eps * (1 + value.abs())
        tried = logits + length[:, None] * step
        found = evaluate(tried)
        moved = (found[0] >= value - rounding) & (gain * length > 1e-2 * rounding)
        length = torch.where(moved, 1.0, 0.25 * length)
        logits = torch.where(moved[:, None], tried, logits)
        value, gradient = torch.where(moved, found[0], value), torch.where(moved[:, None], found[1], gradient)
        phi = torch.where(moved[rows][:, None], found[3], phi)
    columns.sums.index_add_(0, part.words, phi)
    assert left is not None
    return logits, first if evidence is None else evidence, left
