"""Gibbs sampling with all chains in one batch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical
from torch.nn.functional import one_hot

from pyrozoo.contracts.fit import Kind
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Draws
from pyrozoo.data.table import Table
from pyrozoo.models.my_model.model import MyModel
from pyrozoo.models.my_model.point import State, draws_of, log_prior, logits, statistics

# FILL imports: what your lines need beside these


class Solver(SolverContract):
    """Gibbs: rows' latent variables given the parameters, then the parameters given them.

    The objective is log p(data, parameters) of the state before the sweep, rows' latent variables summed out.
    """

    kind: ClassVar[Kind] = "samples"
    objective_name: ClassVar[str] = "log_joint"
    objective_of: ClassVar[Literal["before", "after"]] = "before"
    monotone: ClassVar[bool] = False
    state_class: Any = State

    def __init__(self, model: MyModel, data: Table):
        self.model, self.data = model, data

    def init(self, chains: int) -> State:
        """Return random starting points."""
        return State(**self.model.initial(self.data, chains))

    def step(self, state: State) -> tuple[State, Float[Tensor, C]]:
        """Do one sweep; return the log joint of the argument."""
        found = logits(state, self.data)
        objective = found.logsumexp(-1).sum(-1) + log_prior(self.model, state)
        drawn = one_hot(Categorical(logits=found).sample(), found.shape[-1]).to(found.dtype)  # [C, N, values]
        ...  # FILL draw: return State(a draw of every site given statistics(drawn, self.data)), objective

    def draws(self, state: State) -> Draws:
        """Return the parameters."""
        return draws_of(state)
