"""Prediction of hidden pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.grid import Grid
from pyrozoo.models.potts_grid.likelihood import log_channel_normaliser


def predict(strength: float, labels: int, draws: Values, data: Grid) -> Prediction:
    """Predict the labels seen at hidden pixels: p(x = l) = mean over draws of p(x = l | y).

    Args:
        strength: c of the channel.
        labels: K.
        draws: Site -> [chain, draw, *event].
        data: Its hidden pixels are predicted.

    Returns:
        The prediction of every hidden pixel, labels taken as numbers.
    """
    hidden = data.hidden
    if hidden is None:
        raise ValueError("the image hides no pixels")
    label = draws["label"].flatten(0, 1)[:, hidden.rows, hidden.columns]
    dtype = hidden.values.dtype
    clean = torch.stack([(label == k).to(dtype).mean(0) for k in range(labels)], -1)  # [entry, K]
    other = torch.exp(-torch.as_tensor(log_channel_normaliser(strength, labels), dtype=dtype))
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
