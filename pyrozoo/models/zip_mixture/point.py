"""A point in parameter space per chain: the state of EM and of Gibbs, and its prior density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.models.zip_mixture.model import ZipMixture


@dataclass(frozen=True)
class State:
    """Parameters per chain."""

    weights: Float[Tensor, "C K"]
    on_prob: Float[Tensor, "C K D"]
    rate: Float[Tensor, "C K D"]


def log_prior(model: ZipMixture, state: State) -> Float[Tensor, C]:
    """Return log p(Theta), hand-summed; a test holds it to the Pyro program."""
    like = state.rate
    tiny, eps = torch.finfo(like.dtype).tiny, torch.finfo(like.dtype).eps
    # A mode at the boundary has coefficient 0 there: a value inside by less than rounding keeps 0 * log 0 at 0.
    weights, on = state.weights.clamp(min=tiny), state.on_prob.clamp(tiny, 1 - eps / 2)
    a, b, e, f = model.on_prob_alpha, model.on_prob_beta, model.rate_shape, model.rate_rate
    # Written out: torch's Beta goes through a stacked Dirichlet, which costs a tenth of an EM iteration.
    beta = (a - 1) * on.log() + (b - 1) * torch.log1p(-on)
    gamma = (e - 1) * state.rate.log() - f * state.rate
    constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + e * math.log(f) - math.lgamma(e)
    dirichlet = Dirichlet(model.concentration(like), validate_args=False)
    return dirichlet.log_prob(weights) + (beta + gamma + constant).sum((-1, -2))
