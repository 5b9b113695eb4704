"""EM for the posterior mode, every restart in one batch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.fit import Kind
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import SettingError
from pyrozoo.data.table import Table
from pyrozoo.models.my_model.model import MyModel
from pyrozoo.models.my_model.point import State, draws_of, log_prior, logits, statistics


class Solver(SolverContract):
    """EM for the posterior mode (Dempster, Laird and Rubin 1977, J. R. Stat. Soc. B 39, section 1.2 with a prior).

    The objective is log p(data, parameters) of the state before the step, rows' latent variables summed out: a
    by-product of the E-step.

    Raises:
        SettingError: Hyper-parameters for which the M-step has no maximum inside.
    """

    kind: ClassVar[Kind] = "point"
    objective_name: ClassVar[str] = "log_joint"
    objective_of: ClassVar[Literal["before", "after"]] = "before"
    monotone: ClassVar[bool] = True
    state_class: Any = State

    def __init__(self, model: MyModel, data: Table):
        ...  # FILL refuse: raise SettingError(f"model.FIELD is {value}; em needs ...")
        self.model, self.data = model, data

    def init(self, chains: int) -> State:
        """Return random starting points."""
        return State(**self.model.initial(self.data, chains))

    def step(self, state: State) -> tuple[State, Float[Tensor, C]]:
        """Do one E-step and M-step; return the objective of the argument."""
        found = logits(state, self.data)
        objective = found.logsumexp(-1).sum(-1) + log_prior(self.model, state)
        share = found.softmax(-1)  # the E-step: p(z_i = k | x_i, state), [C, N, values]
        ...  # FILL m_step: return State(the maximum of E log p(data, z, parameters) over parameters), objective

    def draws(self, state: State) -> Draws:
        """Return the point itself."""
        return draws_of(state)
