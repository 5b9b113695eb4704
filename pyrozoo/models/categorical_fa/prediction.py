"""What a fit says of single rows: probabilities of answers, and where the row's latent vector is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pyrozoo.core.draws import Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.survey import Survey
from pyrozoo.models.categorical_fa.layout import Layout, Parameters
from pyrozoo.models.categorical_fa.likelihood import Nodes, integrals, split_draws

if TYPE_CHECKING:
    from pyrozoo.models.categorical_fa.model import CategoricalFA

MOST_DRAWS, LEAST_DRAWS = 200, 10
"""Posterior draws behind a prediction: the more the fewer the rows and categories."""

MOST_WORK = 3e9
"""Multiplications that a prediction may take, unless that left fewer than ``LEAST_DRAWS``: several seconds."""


def thinned(model: CategoricalFA, draws: Values, data: Survey) -> Values:
    """Return draws [S, *event], evenly chosen over chains, as many as predictions of these rows can afford."""
    flat = {site: draws[site].flatten(0, 1) for site in model.sites}
    total = len(next(iter(flat.values())))
    most = int(min(MOST_DRAWS, max(LEAST_DRAWS, MOST_WORK / max(1.0, model.effort(data)))))
    keep = torch.linspace(0, total - 1, min(total, most)).round().long()
    return {site: value[keep.to(value.device)] for site, value in flat.items()}


def rows_by_draws(model: CategoricalFA, draws: Values, data: Survey) -> Iterator[tuple[Layout, Parameters, Nodes]]:
    """Integrate all rows under some of the draws."""
    layout = Layout.of(model, data)
    for part in split_draws(model, thinned(model, draws, data), layout):
        p = layout.parameters(model, part)
        for nodes in integrals(layout, p):
            yield layout, p, nodes


def answer_probabilities(model: CategoricalFA, draws: Values, data: Survey) -> Float[Tensor, "N P_data"]:
    """Return the probability of every category of every item given the row's observed answers, averaged over draws."""
    result, count = data.values.new_zeros(len(data.values), sum(data.categories)), 0
    for layout, p, nodes in rows_by_draws(model, draws, data):
        logits = p.logits(p.features(nodes.z))
        prob = (layout.softmax(logits)[0] * nodes.weights.unsqueeze(1)).sum(-1)
        result[nodes.block.rows] += prob.sum(0)[layout.place].T
        count += len(p.beta) if nodes.block.rows.start == 0 else 0
    return result / count


def scores(model: CategoricalFA, draws: Values, data: Survey) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
    """Return mean and standard deviation of the latent vector of rows, old or new, without refitting.

    Args:
        model: The model.
        draws: Values turned onto each other (``CategoricalFA.canonical``).
        data: The rows; those without any answer get the prior.
    """
    like, count = data.values, 0
    first = like.new_zeros(len(like), model.latent_dimension)
    second = torch.zeros_like(first)
    for _, p, nodes in rows_by_draws(model, draws, data):
        weights = nodes.weights.unsqueeze(1)
        first[nodes.block.rows] += (nodes.z * weights).sum(-1).sum(0).T
        second[nodes.block.rows] += (nodes.z.square() * weights).sum(-1).sum(0).T
        count += len(p.beta) if nodes.block.rows.start == 0 else 0
    mean = first / count
    return mean, (second / count - mean.square()).clamp(min=0).sqrt()


def predict(model: CategoricalFA, draws: Values, data: Survey) -> Prediction:
    """Predict hidden answers: p(x_ui = k | observed answers of the row), averaged over draws.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event].
        data: Its hidden answers are predicted; the rows may be new.

    Returns:
        The prediction of every hidden answer, categories taken as numbers from 0.
    """
    hidden = data.hidden
    if hidden is None:
        raise ValueError("the survey hides no answers")
    each = hidden_probabilities(model, draws, data).clamp(min=0)
    cumulative = each.cumsum(-1)
    truth = hidden.values.nan_to_num(nan=0.0).long().unsqueeze(-1)  # missing answers have no truth
    at = each.gather(-1, truth).squeeze(-1)
    below = cumulative.gather(-1, truth).squeeze(-1) - at
    last = torch.tensor(data.categories, device=each.device)[hidden.columns] - 1

    def quantile(share: float) -> Tensor:
        return torch.minimum((cumulative < share).sum(-1), last).to(each.dtype)

    with seeded(0):  # a query of one fit always answers the same
        pit = below + torch.rand_like(at) * at
    mean = (each * torch.arange(each.shape[-1], dtype=each.dtype, device=each.device)).sum(-1)
    return Prediction(mean, quantile(0.05), quantile(0.95), at.log(), pit)


_KNOWN = WeakIdKeyDictionary()


def hidden_probabilities(model: CategoricalFA, draws: Values, data: Survey) -> Float[Tensor, "entry K"]:
    """Return the probability of every category of every hidden answer, -1 beyond the last; computed once.

    Metrics, tables and pictures all ask, and in many dimensions it takes longer than the fit.
    """
    known = _KNOWN.setdefault(next(iter(draws.values())), WeakKeyDictionary())
    if data not in known:
        hidden = data.hidden
        assert hidden is not None
        rows, position = hidden.rows.unique(return_inverse=True)
        prob = answer_probabilities(model, draws, data.batch(rows))
        sizes = torch.tensor(data.categories, device=prob.device)
        starts = (sizes.cumsum(0) - sizes)[hidden.columns].unsqueeze(-1)
        size = sizes[hidden.columns].unsqueeze(-1)
        level = torch.arange(int(sizes.max()), device=prob.device)
        each = prob[position.unsqueeze(-1), starts + torch.minimum(level, size - 1)]
        total = torch.where(level < size, each, 0.0).sum(-1, keepdim=True)
        known[data] = torch.where(level < size, each / total, -1.0)
    return known[data]
