"""Predictive counts of cells, from draws of the factors."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.triplets import Triplets
from pyrozoo.math.sparse import Pattern

MOST_DRAWS = 1000
"""Posterior draws used by a prediction; more change nothing that a reader could see."""

PREDICTIVE_DRAWS = 1000
"""Values behind a predictive interval; with very many cells fewer, but never below 200 (quantiles to about 2%)."""

BLOCK = 2**22
"""Rates held at a time."""


def factors(draws: Values, most: int = MOST_DRAWS) -> tuple[Float[Tensor, "S N K"], Float[Tensor, "S M K"]]:
    """Return row and column factors of at most so many draws, thinned evenly over chains."""
    theta, eta = (draws[site].flatten(0, 1) for site in ("row_factors", "column_factors"))
    keep = torch.linspace(0, len(theta) - 1, min(len(theta), most)).round().long()
    return theta[keep], eta[keep]


def cell_rates(
    theta: Float[Tensor, "*b N K"], eta: Float[Tensor, "*b M K"], cells: Int[Tensor, "cell 2"]
) -> Float[Tensor, "*b cell"]:
    """Return theta_n . eta_m at cells, which must be sorted by row."""
    return Pattern.of(cells[:, 0], cells[:, 1], theta.shape[-2], eta.shape[-2]).sampled(theta, eta)


def predict(draws: Values, data: Triplets) -> Prediction:
    """Predict the hidden counts of the data, in their order.

    Args:
        draws: Site -> [chain, draw, *event].
        data: With hidden entries.

    Raises:
        ValueError: It hides none.
    """
    hidden = data.hidden
    if hidden is None:
        raise ValueError("the data hide no entries")
    return predictive(*factors(draws), torch.stack([hidden.rows, hidden.columns], 1), hidden.values)


def predictive(
    theta: Float[Tensor, "S N K"], eta: Float[Tensor, "S M K"], cells: Int[Tensor, "cell 2"], x: Float[Tensor, cell]
) -> Prediction:
    """Predict counts: a mixture over draws of Poissons.

    Args:
        theta: Row factors of every draw.
        eta: Column factors.
        cells: Rows and columns, in any order.
        x: Their true counts; NaN where nobody knows them.
    """
    order = (cells[:, 0] * eta.shape[1] + cells[:, 1]).argsort()
    S, total = len(theta), max(200, min(PREDICTIVE_DRAWS, 4 * 10**7 // (len(cells) + 1)))
    repeats = -(-total // S)
    step = max(1, BLOCK // (S * repeats))
    parts: list[tuple[Tensor, ...]] = []
    with seeded(0):  # a query of one fit always answers the same
        for index in order.split(step):
            parts.append(_block(cell_rates(theta, eta, cells[index]), x[index], repeats))
    back = order.argsort()
    joined = (torch.cat(part) if parts else x.new_zeros(0) for part in zip(*parts, strict=True))
    return Prediction(*(part[back] for part in joined)) if parts else Prediction(*[x.new_zeros(0)] * 5)


def _block(rates: Float[Tensor, "S cell"], x: Float[Tensor, cell], repeats: int) -> tuple[Tensor, ...]:
    """Return mean, ends of the 90% interval, log density and randomised PIT of some cells."""
    tiny = torch.finfo(rates.dtype).tiny
    log_mass = torch.xlogy(x, rates.clamp(min=tiny)) - rates - torch.lgamma(x + 1)
    counts = torch.poisson(rates.repeat(repeats, 1))
    ends = torch.quantile(counts, counts.new_tensor([0.05, 0.95]), dim=0, interpolation="nearest")
    less, equal = (counts < x).to(x.dtype).mean(0), (counts == x).to(x.dtype).mean(0)
    log_density = log_mass.logsumexp(0) - math.log(len(rates))
    return rates.mean(0), ends[0], ends[1], log_density, less + torch.rand_like(x) * equal


def expected_rates(theta: Float[Tensor, "S n K"], eta: Float[Tensor, "S M K"]) -> Float[Tensor, "n M"]:
    """Return posterior mean rates of whole rows: n x M numbers, so choose the rows."""
    total = theta.new_zeros(theta.shape[1], eta.shape[1])
    for a, b in zip(theta, eta, strict=True):
        total.addmm_(a, b.T)
    return total / len(theta)
