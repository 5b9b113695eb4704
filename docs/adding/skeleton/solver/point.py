"""A point in parameter space per chain: the state of EM and of Gibbs, its prior density, sums over rows."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pyrozoo.models.my_model.posterior import Posterior


@dataclass(frozen=True)
class State:
    """Parameters per chain."""

    ...  # FILL state: `site: Float[Tensor, "C ..."]`, a line per global site, chains first


def log_prior(posterior: Posterior, state: State) -> Float[Tensor, C]:
    """Return log p(parameters) by the program's priors, none of which depends on another site."""
    nodes = posterior.first_trace.nodes
    logs = [nodes[site]["fn"].log_prob(value) for site, value in vars(state).items()]
    return sum(log.reshape(len(log), -1).sum(1) for log in logs)


def statistics(share: Float[Tensor, "C N values"], posterior: Posterior) -> tuple[Tensor, ...]:
    """Return what the parameters' conditionals need of the rows: sums over rows weighted by shares of values."""
    x, seen = posterior.data.filled, posterior.seen
    ...  # FILL statistics: return [C, ...] each, matrix products [C, values, N] x [N, D]; missing cells add 0
