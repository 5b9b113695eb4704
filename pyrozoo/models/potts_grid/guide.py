"""The guide of SVI: independent pixels, and the bound in closed form."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from pyrozoo.data.grid import Grid
from pyrozoo.models.potts_grid.model import PottsGrid
from pyrozoo.models.potts_grid.posterior import Posterior


class MeanFieldBound(Trace_ELBO):
    """The bound of independent pixels: their expected log potential is a sum over pixels and edges, without draws."""

    def differentiable_loss(self, model: Any, guide: Guide, data: Grid) -> Tensor:
        """Return minus the bound, a scalar."""
        label: Any = poutine.trace(guide).get_trace(data).nodes["label"]["fn"]
        prob, potentials = label.base_dist.probs, guide.potentials
        entropy = -torch.special.xlogy(prob, prob).sum((-3, -2, -1))
        return potentials.normaliser - potentials.expected_score(prob) - entropy

    def loss(self, model: Any, guide: Guide, *args: Any, **kwargs: Any) -> float:
        """Return minus the bound."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args))

    def loss_and_grads(self, model: Any, guide: Guide, *args: Any, **kwargs: Any) -> float:
        """Return minus the bound, and leave its gradient in the parameters."""
        loss = self.differentiable_loss(model, guide, *args)
        loss.backward()
        return float(loss.detach())


class Guide:
    """q(y) independent over pixels, the probabilities being softmax of free numbers.

    The same family as mean field by coordinate ascent: what they reach can be compared number by number.

    Args:
        posterior: The model given an image; logits start as small random numbers (torch's global generator).

    Raises:
        NotApplicable: The coupling forbids pairs, which independent pixels cannot avoid.
    """

    def __init__(self, posterior: Posterior):
        posterior.model.refuse_hard("svi", "which independent pixels cannot avoid; exact and bp can do with it")
        self.potentials = posterior.potentials
        self.start = 0.1 * torch.randn_like(self.potentials.unary)

    @staticmethod
    def loss(model: PottsGrid) -> type[MeanFieldBound]:
        """Return the bound in closed form: gradients of draws of discrete labels would be far too noisy."""
        return MeanFieldBound

    def __call__(self, data: Grid) -> None:
        """Sample the labels."""
        logits = pyro.param("logits", self.start)
        pyro.sample("label", dist.Categorical(logits=logits).to_event(2))
