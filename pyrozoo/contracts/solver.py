"""What a solver is."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal

from torch import Tensor

from pyrozoo.contracts.fit import Kind
from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws


class Solver(abc.ABC):
    """A hand-built algorithm for one model: prepared once, then init, step, step, ...

    The state is a frozen dataclass holding only what the next step needs; every tensor in it has a leading chain
    axis: restarts for EM and CAVI, chains for Gibbs. ``step`` returns a new state and leaves its argument as it was.
    Options of a solver are keyword arguments of its constructor.

    Attributes:
        kind: What the result is.
        objective_name: What the objective of ``step`` is.
        objective_of: Whether that objective belongs to the state before or after the step.
        monotone: Whether the objective may never fall.
        state_class: The dataclass of its states; options of the model may choose it.
    """

    kind: ClassVar[Kind]
    objective_name: ClassVar[str]
    objective_of: ClassVar[Literal["before", "after"]]
    monotone: ClassVar[bool]
    state_class: Any

    @abc.abstractmethod
    def init(self, chains: int) -> Any:
        """Return the starting state of ``chains`` independent chains, from torch's global generator."""

    @abc.abstractmethod
    def step(self, state: Any) -> tuple[Any, Tensor]:
        """Return the next state and the objective of every chain, [chains]."""

    @abc.abstractmethod
    def draws(self, state: Any) -> Draws:
        """Return site -> [chains, *event]: the point, one draw from q per chain, or the sampler's values."""

    def predictive(self, state: Any) -> tuple[Tensor, Tensor] | None:
        """Return mean and variance of the normal predictive of every hidden entry given the state, [chains, entry].

        For solvers that know them as a by-product, such as samplers that impute; engines average them over all sweeps
        after warm-up, where predicting anew from kept draws would cost more than the fit. None: predict from draws.
        """
        return None

    def finish(self, state: Any) -> Any:
        """Return what ``draws`` and ``log_q`` take in the end: the state, or more where that leaves something out."""
        return state

    def residual(self, state: Any) -> Tensor | None:
        """Return what must fall below the tolerance for convergence, [chains], of a state that ``step`` returned.

        None: the relative change of the objective.
        """
        return None

    def estimated(self, state: Any) -> Model | None:
        """Return the model with hyper-parameters that the method has estimated in place of its own, if any."""
        return None

    def expectations(self, state: Any) -> Draws:
        """Return expectations that the method knows beyond what draws say, name -> [chains, *event].

        Their names and dimensions are among the model's ``invariant_dims``; for most methods there is nothing.
        """
        return {}

    def log_q(self, state: Any, draws: Draws) -> Tensor:
        """Return log q(draws), [chains], for variational and exact states."""
        raise NotImplementedError(f"{type(self).__module__} is not a variational solver")
