"""A point in parameter space per chain: the state of EM and of Gibbs, and its density."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Draws
from pyrozoo.data.table import Table
from pyrozoo.models.my_model.model import MyModel, log_joint_of_rows

# FILL imports: what your lines need beside these


@dataclass(frozen=True)
class State:
    """Parameters per chain."""

    ...  # FILL state: `site: Float[Tensor, "C ..."]`, a line per global site, chains first


def draws_of(state: State) -> Draws:
    """Return the point by site, [chains, *event]."""
    return dict(vars(state))


def logits(state: State, data: Table) -> Float[Tensor, "C N values"]:
    """Return log p(x_i, z_i = k | state) of every row and every value k of its latent variable."""
    return log_joint_of_rows({site: value.unsqueeze(1) for site, value in draws_of(state).items()}, data).squeeze(1)


def log_prior(model: MyModel, state: State) -> Float[Tensor, C]:
    """Return log p(parameters), summed by hand; a law holds it to the program."""
    ...  # FILL log_prior: the log density of every global site, summed over all axes but the first


def statistics(share: Float[Tensor, "C N values"], data: Table) -> tuple[Tensor, ...]:
    """Return what the parameters' conditionals need of the rows: sums over rows weighted by shares of values."""
    ...  # FILL statistics: [C, ...] each, matrix products [C, values, N] x [N, D]; missing cells add 0
