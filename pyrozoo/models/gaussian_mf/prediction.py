"""Predictive ratings of pairs, from draws of the factors: mixtures of normals."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.ratings import Ratings
from pyrozoo.math.mixture import RunningPrediction
from pyrozoo.models.gaussian_mf.likelihood import linear

if TYPE_CHECKING:
    from pyrozoo.models.gaussian_mf.model import GaussianMF

MOST_DRAWS = 1000
"""Posterior draws used by a prediction; more change nothing that a reader could see."""

BLOCK = 2**22
"""Numbers of gathered factors held at a time."""


def expected(draws: Values, pairs: Int[Tensor, "entry 2"]) -> Float[Tensor, "*b entry"]:
    """Return mu + a_i + b_j + u_i . v_j of pairs in any order; for many pairs take them in blocks."""
    U, V, mean, a, b = linear(draws)
    i, j = pairs.unbind(1)
    product = (U.index_select(-2, i) * V.index_select(-2, j)).sum(-1)
    if "mean" not in draws:
        return product
    return product + mean.unsqueeze(-1) + a.index_select(-1, i) + b.index_select(-1, j)


def noise_variance(model: GaussianMF, draws: Values) -> Float[Tensor, "*b"]:
    """Return s^2 of every draw."""
    U = draws["row_factors"]
    fixed = U.new_tensor(model.noise_variance).expand(U.shape[:-2])
    return draws.get("noise_variance", fixed)


def thinned(draws: Values, most: int = MOST_DRAWS) -> Values:
    """Return at most so many draws, evenly chosen over chains, [1, draw, *event]."""
    flat = {site: value.flatten(0, 1) for site, value in draws.items()}
    total = len(flat["row_factors"])
    keep = torch.linspace(0, total - 1, min(total, most)).round().long()
    return {site: value[keep].unsqueeze(0) for site, value in flat.items()}


def predict(model: GaussianMF, draws: Values, data: Ratings) -> Prediction:
    """Predict the hidden ratings of the data, in their order.

    Raises:
        ValueError: The data hide none.
    """
    if data.hidden is None:
        raise ValueError("the data hide no entries")
    pairs = torch.stack([data.hidden.rows, data.hidden.columns], 1)
    return predictive(model, draws, pairs, data.hidden.values)


def predictive(
    model: GaussianMF, draws: Values, pairs: Int[Tensor, "entry 2"], truth: Float[Tensor, entry]
) -> Prediction:
    """Predict ratings: mean, 90% interval, log density and PIT of a mixture of normals over draws.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event].
        pairs: Rows and columns, in any order.
        truth: Their ratings; NaN where nobody knows them.
    """
    some = thinned(draws)
    variance = noise_variance(model, some)[0, :, None]
    count = len(variance)
    parts = []
    per_block = max(1, BLOCK // model.num_factors)
    for index in torch.arange(len(pairs)).split(max(1, min(per_block, 2**16))):
        running = RunningPrediction(truth[index])
        step = max(1, per_block // len(index))
        for start in range(0, count, step):
            part = {site: value[0, start : start + step] for site, value in some.items()}
            running.add(expected(part, pairs[index]), variance[start : start + step])
        parts.append(running.prediction())
    if not parts:
        return Prediction(*[truth.new_zeros(0)] * 5)
    return Prediction(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Prediction)})


def log_densities(
    model: GaussianMF, draws: Values, pairs: Int[Tensor, "entry 2"], truth: Float[Tensor, entry]
) -> Float[Tensor, "chain draw entry"]:
    """Return log N(r | expected, s^2) of some ratings for every draw."""
    s = noise_variance(model, draws).unsqueeze(-1)
    return -0.5 * ((truth - expected(draws, pairs)).square() / s + (2 * math.pi * s).log())
