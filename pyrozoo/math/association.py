"""Association of categorical columns: how often pairs of categories occur together, and Cramér's V of each pair.

Codes of categories count from 0 in each column; all categories of all columns, in order, are one axis of length P.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 2**22
"""Numbers of the indicators built at a time; rows of a block stay below 2^24, up to which float32 counts exactly."""


def starts(sizes: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Return where the categories of each column begin on the axis of all of them, [D] int."""
    widths = torch.tensor([0, *sizes], device=device)
    return widths.cumsum(0)[:-1]


def pair_counts(codes: Float[Tensor, "N D"], sizes: Sequence[int]) -> Float[Tensor, "P P"]:
    """Return in how many rows each two categories occur together.

    Only rows in which both columns are observed can have both, so a block of the result is the pair's contingency
    table; the block of a column with itself is diagonal. Rows go through in blocks: memory does not grow with N.

    Args:
        codes: Whole numbers below ``sizes``; NaN is missing.
        sizes: How many categories each column has.
    """
    total, first = sum(sizes), starts(sizes, codes.device)
    result = torch.zeros(total, total, dtype=torch.float64, device=codes.device)
    for block in codes.split(max(1, BLOCK // (total + 1))):
        # What is missing goes to a category of its own, which is then cut off.
        place = torch.where(block.isnan(), total, block + first).long()
        indicators = torch.zeros(len(block), total + 1, device=codes.device).scatter_(1, place, 1.0)[:, :total]
        result += indicators.mT @ indicators
    return result


def cramers_v(counts: Float[Tensor, "*b P P"], sizes: Sequence[int]) -> Float[Tensor, "*b D D"]:
    """Return Cramér's V of every pair of columns: sqrt(chi^2 / (n min(I - 1, J - 1))), without correction of its bias.

    I and J are how many categories of either column occur in the pair's table (Cramér 1946, Mathematical Methods of
    Statistics, section 21.9). V is 0 where either is below 2, and 1 on the diagonal.

    Args:
        counts: What ``pair_counts`` returns, or joint probabilities in their place.
        sizes: How many categories each column has.
    """
    device = counts.device
    column = torch.repeat_interleave(torch.arange(len(sizes), device=device), torch.tensor(sizes, device=device).long())
    member = torch.nn.functional.one_hot(column, len(sizes)).to(counts)  # [P, D]
    margins = counts @ member  # of a category, in its table with each column: [P, D]
    n = member.mT @ margins
    spread = margins[..., column]  # the margin of the first category of a pair in the pair's table, [P, P]
    whole = n[..., column, :][..., column]
    expected = torch.where(whole > 0, spread * spread.mT / whole, 0.0)
    deviation = torch.where(expected > 0, (counts - expected).square() / expected, 0.0)
    chi_squared = member.mT @ deviation @ member
    occurring = member.mT @ (margins > 0).to(counts)
    freedom = torch.minimum(occurring, occurring.mT) - 1
    result = torch.where(freedom > 0, chi_squared / (n * freedom), 0.0).sqrt().clamp(max=1.0)
    result.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return result
