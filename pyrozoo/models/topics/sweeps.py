"""Topics of tokens, drawn: given theta and beta, or with both summed out, one token after the other."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.data.documents import Documents
from pyrozoo.math.multinomial import allot
from pyrozoo.models.topics.likelihood import BLOCK

KERNELS = Kernels(__file__)

LANES = 16
"""Topics that the kernel looks at together."""

MOST_TOKENS = 2**28
"""Tokens, over chains, up to which each has a topic of its own; of more, counts are allotted."""


def whole(K: int) -> int:
    """Return the number of topics with as many behind them as fill the kernel's lanes."""
    return -(-K // LANES) * LANES


def draw(
    theta: Float[Tensor, "C D K"], beta: Float[Tensor, "C V K"], data: Documents, sweeps: int, alpha: Float[Tensor, K],
    b: float,
) -> tuple[Float[Tensor, "C D K"], Float[Tensor, "C V K"]]:  # fmt: skip
    """Draw z given theta and beta, then by so many collapsed sweeps; return tokens of documents and of words by topic.

    Each of these leaves p(z | words) as it is (Griffiths and Steyvers 2004). Sweeps need the kernel: where none runs,
    and where counts are so large that tokens cannot each have a topic, z is drawn given theta and beta only.
    """
    tokens = float(data.lengths.sum())
    if not (len(data.counts) and KERNELS.serve(theta, beta, data.counts) and len(theta) * tokens <= MOST_TOKENS):
        return allotted(theta, beta, data)
    return _drawn(theta, beta, data, int(tokens), sweeps, alpha, b)


def _drawn(
    theta: Float[Tensor, "C D K"], beta: Float[Tensor, "C V K"], data: Documents, tokens: int, sweeps: int,
    alpha: Float[Tensor, K], b: float,
) -> tuple[Float[Tensor, "C D K"], Float[Tensor, "C V K"]]:  # fmt: skip
    (C, D, K), V, width, single = theta.shape, beta.shape[1], whole(theta.shape[-1]), torch.float32
    more = (0, width - K)
    of_documents, of_words = (torch.nn.functional.pad(each.to(single), more).contiguous() for each in (theta, beta))
    topics = torch.empty(C, tokens, dtype=torch.int32)
    seeds = torch.randint(1, 2**62, (C, 4))  # from torch's generator: the kernel's own starts there
    KERNELS(
        "sweeps", single, alpha.to(single).contiguous(), data.pattern.starts, data.pattern.columns, data.counts.long(),
        seeds, topics, of_words, of_documents, torch.empty(C, 4 * width, dtype=single), C, D, V, K, width, tokens,
        sweeps, float(b), threads(),
    )  # fmt: skip
    return of_documents[..., :K].to(theta), of_words[..., :K].to(theta)


def allotted(
    theta: Float[Tensor, "C D K"], beta: Float[Tensor, "C V K"], data: Documents
) -> tuple[Float[Tensor, "C D K"], Float[Tensor, "C V K"]]:
    """Draw how the tokens of every listed word are shared among topics given theta and beta; return the sums."""
    of_documents, of_words = torch.zeros_like(theta), torch.zeros_like(beta)
    cells: tuple[Int[Tensor, cell], ...] = (data.pattern.rows, data.pattern.columns, data.counts)
    step = max(1, BLOCK // (theta.shape[0] * theta.shape[2]))
    for i, j, count in zip(*(each.split(step) for each in cells), strict=True):
        z, _ = allot(count.expand(len(theta), -1), theta[:, i] * beta[:, j])
        of_documents.index_add_(1, i, z)
        of_words.index_add_(1, j, z)
    return of_documents, of_words
