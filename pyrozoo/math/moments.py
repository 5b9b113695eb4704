"""Statistics of a table with holes: what predictive checks of tables look at."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

ROW_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Rows of a table are exchangeable, so that data simulated anew have no row in common with it: quantiles have."""


def column_moments(
    values: Float[Tensor, "N D"],
) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Return mean, variance and skewness of every column over the cells that are not NaN; 0 where there is nothing."""
    seen = ~values.isnan()
    count = seen.sum(0).clamp(min=1)
    mean = values.nan_to_num(nan=0.0).sum(0) / count
    centred = torch.where(seen, values - mean, 0.0)
    variance = centred.square().sum(0) / count
    third = centred.pow(3).sum(0) / count
    return mean, variance, torch.where(variance > 0, third / variance.clamp(min=1e-300).pow(1.5), 0.0)


def row_mean_quantiles(values: Float[Tensor, "N D"]) -> Float[Tensor, " quantile"]:
    """Return quantiles (``ROW_QUANTILES``) of the means of rows over the cells that are not NaN."""
    means = values.nanmean(1)
    means = means[~means.isnan()]
    # sorted by hand: torch.quantile refuses more than 16 million rows
    place = torch.tensor(ROW_QUANTILES, device=values.device) * (len(means) - 1)
    return means.sort().values[place.round().long()]
