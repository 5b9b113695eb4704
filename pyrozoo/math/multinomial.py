"""Multinomial draws with a total of their own for each row, which torch does not have, and draws of one of several."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

FEW = 8
"""Categories up to which going through them one by one is faster than a sum over them."""


def allot(
    counts: Float[Tensor, "*b"], weights: Float[Tensor, "*b K"]
) -> tuple[Float[Tensor, "*b K"], Float[Tensor, "*b"]]:
    """Share counts among K parts at random, in proportion to weights: Multinomial(counts, weights / sum).

    By halves: a count is split by one binomial between the first and the second half of the parts, and so on down.
    That takes log2 K calls for all counts together, and adds weights without ever subtracting them.

    Args:
        counts: Whole numbers, as floats.
        weights: Not negative; where all are 0 the parts are equal.

    Returns:
        The parts, and the sums of the weights.
    """
    K = weights.shape[-1]
    level = torch.nn.functional.pad(weights, (0, 2 ** max(0, (K - 1).bit_length()) - K))
    halves = []
    while level.shape[-1] > 1:
        left = level[..., ::2]
        level = left + level[..., 1::2]
        halves.append((left, level))
    parts = counts.unsqueeze(-1)
    for left, whole in reversed(halves):
        share = torch.where(whole > 0, left / whole, 0.5).clamp_(max=1.0)
        drawn = torch.binomial(parts.contiguous(), share)
        parts = torch.stack([drawn, parts - drawn], -1).flatten(-2)
    return parts[..., :K], level.squeeze(-1)


def cumulated(values: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
    """Return cumulative sums over the last axis.

    A card adds up a short axis slowly where its numbers lie side by side, and all others at once where they do not.
    """
    if values.device.type != "cuda":
        return values.cumsum(-1)
    return values.movedim(-1, 0).contiguous().cumsum(0).movedim(0, -1)


def choose(prob: Float[Tensor, "*batch K"]) -> Int[Tensor, "*batch"]:
    """Draw one of K for each, by inverting cumulative sums, from torch's global generator: one uniform each, not K."""
    # Batches that are views of one, of stride 0, have one cumulative sum.
    cumulative = cumulated(prob if prob.stride(0) else prob[:1])
    uniform = torch.rand(prob.shape[:-1], dtype=prob.dtype, device=prob.device)
    # Scaled by the total, so that rounding cannot choose one beyond the last.
    scaled = uniform * cumulative[..., -1]
    if prob.shape[-1] > FEW or prob.device.type == "cuda":
        return (cumulative[..., :-1] <= scaled.unsqueeze(-1)).sum(-1)
    chosen = torch.zeros_like(scaled, dtype=torch.long)
    for k in range(prob.shape[-1] - 1):
        chosen += cumulative[..., k] <= scaled
    return chosen
