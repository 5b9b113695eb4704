"""CAVI on minibatches of rows: nothing is kept of a row once it has been seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import minibatches
from pyrozoo.contracts.minibatches import Minibatch, toward
from pyrozoo.contracts.solver import Info
from pyrozoo.core.settings import not_negative, whole
from pyrozoo.models.poisson_mf import cavi
from pyrozoo.models.poisson_mf.factors import expected_rate, fit_rows, rates_rate
from pyrozoo.models.poisson_mf.likelihood import column_exposure
from pyrozoo.models.poisson_mf.posterior import Posterior

FINAL_STEPS = 200
"""Most updates of q(theta_n) once q(eta) is final."""


@dataclass(frozen=True)
class Options(minibatches.Options):
    """What the solver can be told, beside how q(eta) moves.

    Attributes:
        local_steps: Most updates of q(theta_n) per minibatch.
        local_tol: Mean relative change of E theta_n below which they stop.
    """

    local_steps: int = whole()
    local_tol: float = not_negative()


@dataclass(frozen=True)
class State:
    """q(eta), Gamma (shape, rate), per restart, and how many minibatches it has seen."""

    column_shape: Float[Tensor, "C M K"]
    column_rate: Float[Tensor, "C M K"]
    seen: Float[Tensor, C]


@dataclass(frozen=True)
class HierarchicalState(State):
    """The same with the rate of q(omega)."""

    column_rates_rate: Float[Tensor, "C M"]


class Solver(cavi.Solver, objective="elbo_estimate", monotone=False, state=State, by_row=(), streams=True):
    """Stochastic variational inference with natural gradients (Hoffman, Blei, Wang and Paisley 2013, JMLR 14).

    A step is one pass over the rows in minibatches. For each, q(theta_n) of its rows is brought to its optimum given
    q(eta), and q(eta) moves toward what it would be if all rows were like these: lambda <- (1 - rho) lambda + rho
    (column_shape + N / B sum over the batch), with rho = (t + delay)^-forgetting at minibatch t = 1, 2, ... Beside the
    data, which it reads batch by batch, it needs memory for q(eta) and one minibatch, however many rows there are.

    The objective is the sum of the minibatches' bounds, each at the q(eta) that it met, less KL(eta) at the end of the
    pass: an estimate of the ELBO that lags behind it by a pass and becomes exact as q(eta) comes to rest.

    Settings are those of ``Options``.

    Raises:
        SettingError: A setting out of range.
    """

    def __init__(
        self, posterior: Posterior, batch_size: int = 256, delay: float = 1.0, forgetting: float = 0.51,
        local_steps: int = 30, local_tol: float = 1e-3,
    ):  # fmt: skip
        super().__init__(posterior)
        self.options = Options(batch_size, delay, forgetting, local_steps, local_tol)
        self.full_class = self.state_class
        self.state_class = HierarchicalState if self.model.hierarchical else State

    def init(self, chains: int) -> Any:
        """Return q(eta) as CAVI starts it."""
        m, zero = self.model, self.data.values.new_zeros(chains)
        random = 0.5 + self.posterior.uniform(2, chains, self.data.shape[1], m.num_factors)
        return self.of_columns(m.column_shape * random[0], m.column_rate * random[1], zero)

    def step(self, state: Any) -> tuple[Any, Info]:
        """Pass over all rows in a random order of minibatches; return the estimate of the ELBO."""
        total = self.data.values.new_zeros(len(state.seen))
        for batch in minibatches.minibatches(self.posterior, self.options.batch_size):
            state, bound = self.see(state, batch)
            total = total + bound
        return state, Info(total + self.columns(state).bound)

    def see(self, state: Any, batch: Minibatch) -> tuple[Any, Float[Tensor, C]]:
        """Fit the rows of a minibatch and move q(eta); return their part of the bound."""
        m, own, columns = self.model, self.options, self.columns(state)

        def fitted(part: Posterior) -> tuple[Tensor, ...]:
            rows = fit_rows(m, columns.log, columns.mean, part.data, steps=own.local_steps, tol=own.local_tol)
            return rows.of_columns, column_exposure(rows.shape / rows.rate, part.data), rows.bound

        (of_columns, exposure, bound), scale = batch.total(fitted)
        d = expected_rate(m, m.column_shape, m.column_rate, vars(state).get("column_rates_rate"))
        rho = own.weight(state.seen)
        shape = toward(state.column_shape, m.column_shape + scale * of_columns, rho)
        rate = toward(state.column_rate, d + scale * exposure, rho)
        return self.of_columns(shape, rate, state.seen + 1), bound

    def of_columns(self, shape: Tensor, rate: Tensor, seen: Tensor) -> Any:
        """Return a state, with q(omega) at its optimum when the model is hierarchical."""
        m = self.model
        omega = [rates_rate(m, m.column_rate, shape / rate)] if m.hierarchical else []
        return self.state_class(shape, rate, seen, *omega)

    def finish(self, state: Any) -> cavi.State:
        """Return CAVI's state with q(theta) of every row at its optimum given q(eta)."""
        columns, tol = self.columns(state), self.options.local_tol / 10
        found = [
            fit_rows(self.model, columns.log, columns.mean, self.data.batch(index), steps=FINAL_STEPS, tol=tol)
            for index in torch.arange(self.data.shape[0], device=state.seen.device).split(self.options.batch_size)
        ]
        rest = {name: value for name, value in vars(state).items() if name != "seen"}
        if self.model.hierarchical:
            rest["row_rates_rate"] = torch.cat([rows.rates_rate for rows in found if rows.rates_rate is not None], 1)
        shape = torch.cat([rows.shape for rows in found], 1)
        rate = torch.cat([rows.rate.expand_as(rows.shape) for rows in found], 1)
        return self.full_class(row_shape=shape, row_rate=rate, **rest)
