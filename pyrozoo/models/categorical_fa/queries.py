"""What a fit says of any row, and of single ones: shares and association, answers, and where latent vectors are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.math.association import cramers_v
from pyrozoo.math.quadrature import normal_rule
from pyrozoo.models.categorical_fa.layout import BLOCK, Layout, Parameters
from pyrozoo.models.categorical_fa.likelihood import POINTS, Nodes, effort, integrals, split_draws

PRIOR_NODES = {1: 61, 2: 21, 3: 13}
"""Nodes per dimension for integrals over the prior, which answers do not narrow."""

MOST_DRAWS, LEAST_DRAWS, MOST_WORK = 200, 10, 3e9
"""Posterior draws behind a prediction, the more the fewer the rows and categories, and at least; multiplications that
it may take, several seconds, unless that left fewer."""


def _over_prior(layout: Layout, draws: Values, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return function(probabilities [S, P, G] at nodes of the prior, weights [G]) of all draws, [chain, draw, ...]."""
    draws, d = Draws(draws), layout.dimension
    t, w = normal_rule(d, layout.like, PRIOR_NODES.get(d, POINTS))
    step = at_once(BLOCK, layout.like) // (layout.num_categories * max(len(w), layout.num_categories))
    found = []
    for part in draws.flat_blocks(step):
        p = layout.parameters(part)
        z = p.mean.unsqueeze(-1) + torch.linalg.cholesky(p.covariance) @ t
        prob, _ = layout.softmax(p.logits(p.features(z)))
        found.append(function(prob[:, layout.place], w))
    return torch.cat(found).unflatten(0, draws.shape)


def marginal_probabilities(layout: Layout, draws: Values) -> Float[Tensor, "chain draw P"]:
    """Return the probability of every category of every item for a row of which nothing is known."""
    return _over_prior(layout, draws, lambda prob, w: prob @ w)


def associations(layout: Layout, draws: Values) -> Float[Tensor, "chain draw D D"]:
    """Return Cramér's V of every pair of items in the population that the model describes."""
    return _over_prior(layout, draws, lambda prob, w: cramers_v((prob * w) @ prob.mT, layout.columns))


def affordable(layout: Layout, draws: Values, most: int, least: int, work: float) -> Draws:
    """Return at most so many draws, evenly chosen, and of them as many as the work allows for these rows."""
    return Draws(draws).some(int(min(most, max(least, work / max(1.0, effort(layout))))))


def _by_draws(layout: Layout, draws: Values) -> Iterator[tuple[Parameters, Nodes]]:
    """Integrate all rows under some of the draws."""
    for p in split_draws(affordable(layout, draws, MOST_DRAWS, LEAST_DRAWS, MOST_WORK), layout):
        for nodes in integrals(layout, p):
            yield p, nodes


def answer_probabilities(layout: Layout, draws: Values) -> Float[Tensor, "N P_data"]:
    """Return the probability of every category of every item given the row's observed answers, averaged over draws."""
    result, count = layout.like.new_zeros(layout.num_rows, len(layout.place)), 0
    for p, nodes in _by_draws(layout, draws):
        prob = (layout.softmax(p.logits(p.features(nodes.z)))[0] * nodes.weights.unsqueeze(1)).sum(-1)
        result[nodes.block.rows] += prob.sum(0)[layout.place].T
        count += len(p.beta) if nodes.block.rows.start == 0 else 0
    return result / count


def scores(layout: Layout, draws: Values) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
    """Return mean and standard deviation of the latent vector of rows, old or new, without refitting.

    Args:
        layout: Of the rows; those without any answer get the prior.
        draws: Draws turned onto each other (``Fit.aligned``).
    """
    first, count = layout.like.new_zeros(layout.num_rows, layout.dimension), 0
    second = torch.zeros_like(first)
    for p, nodes in _by_draws(layout, draws):
        weights = nodes.weights.unsqueeze(1)
        first[nodes.block.rows] += (nodes.z * weights).sum(-1).sum(0).T
        second[nodes.block.rows] += (nodes.z.square() * weights).sum(-1).sum(0).T
        count += len(p.beta) if nodes.block.rows.start == 0 else 0
    mean = first / count
    return mean, (second / count - mean.square()).clamp(min=0).sqrt()


def response(layout: Layout, draws: Values, z: Float[Tensor, "G d"], most: int) -> list[Float[Tensor, "K G"]]:
    """Return the probability of every category of every item at latent vectors, averaged over draws.

    Args:
        layout: Gives the items.
        draws: Draws turned onto each other (``Fit.aligned``).
        z: The latent vectors.
        most: Draws used at most, evenly chosen.
    """
    at, chosen = z.T.to(layout.like).unsqueeze(0), list(Draws(draws).some(most).flat_blocks(1))
    result = torch.zeros(len(layout.place), len(z), dtype=torch.float64)
    for p in map(layout.parameters, chosen):
        prob = layout.softmax(p.logits(p.features(at)))[0][0, layout.place]
        result += prob.double().cpu() / len(chosen)
    return list(result.split(layout.columns))


@dataclass(frozen=True)
class AnswersPrediction(Prediction):
    """A prediction of hidden answers, categories taken as numbers from 0.

    Attributes:
        probabilities: Of every category of every answer, -1 beyond the last, [entry, K].
    """

    probabilities: Float[Tensor, "entry K"]
