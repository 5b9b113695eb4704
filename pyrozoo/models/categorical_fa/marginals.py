"""What the model says of any row: shares of categories, association of items, and row probabilities on a plain grid."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.data.survey import Survey
from pyrozoo.math.association import cramers_v
from pyrozoo.models.categorical_fa.layout import BLOCK, Layout
from pyrozoo.models.categorical_fa.likelihood import integrals
from pyrozoo.models.categorical_fa.quadrature import normal_rule

if TYPE_CHECKING:
    from pyrozoo.models.categorical_fa.model import CategoricalFA

PRIOR_NODES = {1: 61, 2: 21, 3: 13}
"""Nodes per dimension for integrals over the prior, which answers do not narrow."""

GRID_REACH, GRID_POINTS = 8.0, 401
"""Reach of the plain grid in standard deviations of the prior, and its points."""


def _over_prior(
    model: CategoricalFA, draws: Values, data: Survey, function: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return function(probabilities [S, P, G] at nodes of the prior, weights [G]) of all draws, [chain, draw, ...]."""
    layout = Layout.of(model, data)
    shape = next(iter(draws.values())).shape[:2]
    t, w = normal_rule(model.latent_dimension, data.values, PRIOR_NODES.get(model.latent_dimension))
    flat = {site: draws[site].flatten(0, 1) for site in model.sites}
    at_once = max(1, BLOCK // (layout.num_categories * max(len(w), layout.num_categories)))
    found = []
    for start in range(0, shape.numel(), at_once):
        p = layout.parameters(model, {site: value[start : start + at_once] for site, value in flat.items()})
        z = p.mean.unsqueeze(-1) + torch.linalg.cholesky(p.covariance) @ t
        logits = p.logits(p.features(z))
        prob, _ = layout.softmax(logits)
        found.append(function(prob[:, layout.place], w))
    return torch.cat(found).unflatten(0, shape)


def marginal_probabilities(model: CategoricalFA, draws: Values, data: Survey) -> Float[Tensor, "chain draw P"]:
    """Return the probability of every category of every item for a row of which nothing is known."""
    return _over_prior(model, draws, data, lambda prob, w: prob @ w)


def associations(model: CategoricalFA, draws: Values, data: Survey) -> Float[Tensor, "chain draw D D"]:
    """Return Cramér's V of every pair of items in the population that the model describes."""

    def of_joint(prob: Tensor, w: Tensor) -> Tensor:
        return cramers_v((prob * w) @ prob.mT, data.categories)

    return _over_prior(model, draws, data, of_joint)


def log_evidence_of_rows(
    model: CategoricalFA, draws: Mapping[str, Tensor], data: Survey, values: Float[Tensor, "N D"]
) -> Float[Tensor, N]:
    """Return log p(answers) of rows for the program.

    In one dimension on a path of its own, which the likelihood is held to: an evenly spaced grid in units of the
    prior's spread, without modes and curvatures. Beyond it, where such grids are too large, by the likelihood's rule.

    Args:
        model: The model.
        draws: Site -> value.
        data: Gives the items.
        values: Answers, NaN where missing.
    """
    d, like = model.latent_dimension, values
    if d > 1:
        layout = Layout.of(model, dataclasses.replace(data, values=values, hidden=None, test=None))
        p = layout.parameters(model, {site: draws[site].unsqueeze(0) for site in model.sites})
        return torch.cat([nodes.log_evidence for nodes in integrals(layout, p)], 1).squeeze(0)
    t = torch.linspace(-GRID_REACH, GRID_REACH, GRID_POINTS, dtype=like.dtype, device=like.device).unsqueeze(-1)
    log_weight = math.log(2 * GRID_REACH / (GRID_POINTS - 1)) - 0.5 * t.square().sum(-1) - 0.5 * math.log(2 * math.pi)
    scale = draws["latent_covariance"].sqrt() if "latent_covariance" in draws else 1.0
    z = draws.get("latent_mean", like.new_zeros(d)) + t * scale
    total = log_weight.expand(len(values), -1)
    for item, log_prob in enumerate(model.answers(draws, data, z).log_table()):
        seen = ~values[:, item].isnan()
        code = values[:, item].nan_to_num(nan=0.0).long()
        total = total + torch.where(seen[:, None], log_prob.mT[code], 0.0)
    return total.logsumexp(-1)
