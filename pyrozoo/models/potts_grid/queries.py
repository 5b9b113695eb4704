"""What can be asked of draws of a restored image, and of its potentials: probabilities, exact answers, predictions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.grid import Grid
from pyrozoo.models.potts_grid import elimination
from pyrozoo.models.potts_grid.elimination import Eliminated
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.model import PottsGrid

MOST_WORK = 1e8
"""Multiplications that exact answers may take beside a fit: a few seconds."""


def shares(draws: Values, labels: int, dtype: torch.dtype) -> Float[Tensor, "H W K"]:
    """Return the share of draws in which a pixel has every one of K labels, 1 or 0 for a point."""
    label = draws["label"].flatten(0, 1)
    return torch.stack([(label == k).to(dtype).mean(0) for k in range(labels)], -1)


def exact_answers(model: PottsGrid, data: Grid) -> tuple[float, Float[Tensor, "H W K"]] | None:
    """Return log Z and the exact marginals where they can be had beside a fit, else None."""
    labels = model.labels(data)
    if elimination.work(data.shape, labels) > MOST_WORK or not elimination.fits(data.shape, labels):
        return None
    potentials = Potentials.of(model, data.to(data.values.device, torch.float64))
    eliminated = Eliminated(potentials.unary, potentials.coupling)
    return float(eliminated.log_z), eliminated.marginals().label


def predict(draws: Values, data: Grid, model: PottsGrid) -> Prediction:
    """Predict the labels seen at hidden pixels: p(x = l) = mean over draws of p(x = l | y).

    Args:
        draws: Site -> [chain, draw, *event].
        data: Its hidden pixels are predicted.
        model: How many labels there are, and what the channel does to them.

    Returns:
        The prediction of every hidden pixel, labels taken as numbers.
    """
    hidden = data.hidden
    if hidden is None:
        raise ValueError("the image hides no pixels")
    labels, dtype = model.labels(data), hidden.values.dtype
    clean = shares({"label": draws["label"][:, :, hidden.rows, hidden.columns]}, labels, dtype)  # [entry, K]
    other = torch.exp(-torch.as_tensor(model.log_channel_normaliser(data), dtype=dtype))
    # Seen as it is, or as any label at all with equal probability.
    prob = other + clean * (1 - labels * other)
    values = torch.arange(labels, dtype=dtype, device=prob.device)
    cumulative = prob.cumsum(-1)
    truth = hidden.values.long().clamp(0, labels - 1)
    at = prob.gather(-1, truth.unsqueeze(-1)).squeeze(-1)
    below = cumulative.gather(-1, truth.unsqueeze(-1)).squeeze(-1) - at

    def quantile(level: float) -> Tensor:
        return (cumulative < level).sum(-1).clamp(max=labels - 1).to(dtype)

    with seeded(0):  # a query of one fit always answers the same
        pit = below + torch.rand_like(at) * at
    return Prediction((prob * values).sum(-1), quantile(0.05), quantile(0.95), at.log(), pit)
