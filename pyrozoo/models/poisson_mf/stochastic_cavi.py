"""CAVI on minibatches of rows: nothing is kept of a row once it has been seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import SettingError
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.poisson_mf import cavi
from pyrozoo.models.poisson_mf.factors import fit_rows, rates_rate, rates_shape
from pyrozoo.models.poisson_mf.likelihood import column_exposure

FINAL_STEPS = 200
"""Most updates of q(theta_n) once q(eta) is final."""


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


class Solver(cavi.Solver, objective="elbo_estimate", monotone=False, state=State):
    """Stochastic variational inference with natural gradients (Hoffman, Blei, Wang and Paisley 2013, JMLR 14).

    A step is one pass over the rows in minibatches. For each, q(theta_n) of its rows is brought to its optimum given
    q(eta), and q(eta) moves toward what it would be if all rows were like these: lambda <- (1 - rho) lambda + rho
    (column_shape + N / B sum over the batch), with rho = (t + delay)^-forgetting at minibatch t = 1, 2, ... Beside the
    data, which it reads batch by batch, it needs memory for q(eta) and one minibatch, however many rows there are.

    The objective is the sum of the minibatches' bounds, each at the q(eta) that it met, less KL(eta) at the end of the
    pass: an estimate of the ELBO that lags behind it by a pass and becomes exact as q(eta) comes to rest.

    Args:
        model: The model.
        data: The data.
        batch_size: Rows per minibatch.
        delay: tau, how much early minibatches are held back, not negative.
        forgetting: kappa, in (0.5, 1], how fast later ones count for less.
        local_steps: Most updates of q(theta_n) per minibatch.
        local_tol: Mean relative change of E theta_n below which they stop.

    Raises:
        SettingError: A setting out of range.
    """

    def __init__(
        self, posterior: Posterior, batch_size: int = 256, delay: float = 1.0, forgetting: float = 0.51,
        local_steps: int = 30, local_tol: float = 1e-3,
    ):  # fmt: skip
        model, data = posterior.model, posterior.data
        for name, value in (("batch_size", batch_size), ("local_steps", local_steps)):
            if value < 1:
                raise SettingError(f"solver.{name} is {value}; it must be at least 1")
        if not 0.5 < forgetting <= 1:
            raise SettingError(f"solver.forgetting is {forgetting}; it must be in (0.5, 1]")
        for name, number in (("delay", delay), ("local_tol", local_tol)):
            if number < 0:
                raise SettingError(f"solver.{name} is {number}; it must not be negative")
        super().__init__(posterior)
        self.full_class = self.state_class
        self.state_class = HierarchicalState if model.hierarchical else State
        self.batch_size, self.delay, self.forgetting = batch_size, delay, forgetting
        self.local_steps, self.local_tol = local_steps, local_tol

    def init(self, chains: int) -> Any:
        """Return q(eta) as CAVI starts it."""
        m, M, like = self.model, self.data.shape[1], self.data.values
        random = 0.5 + torch.rand(2, chains, M, m.num_factors, dtype=like.dtype, device=like.device)
        shape, rate = m.column_shape * random[0], m.column_rate * random[1]
        seen = like.new_zeros(chains)
        if not m.hierarchical:
            return State(shape, rate, seen)
        return HierarchicalState(shape, rate, seen, rates_rate(m, m.column_rate, shape / rate))

    def step(self, state: Any) -> tuple[Any, Info]:
        """Pass over all rows in a random order of minibatches; return the estimate of the ELBO."""
        N = self.data.shape[0]
        total = self.data.values.new_zeros(len(state.seen))
        for index in torch.randperm(N, device=self.data.values.device).split(self.batch_size):
            state, bound = self.see(state, self.data.batch(index), N / len(index))
            total = total + bound
        return state, Info(total + self.column_factor(state).bound)

    def see(self, state: Any, batch: Triplets, scale: float) -> tuple[Any, Float[Tensor, C]]:
        """Fit the rows of a minibatch and move q(eta); return their part of the bound."""
        m, columns = self.model, self.column_factor(state)
        rows = fit_rows(m, columns.log, columns.mean, batch, steps=self.local_steps, tol=self.local_tol)
        theta = rows.shape / rows.rate
        rho = (state.seen + 1 + self.delay).pow(-self.forgetting)[:, None, None]
        d: Tensor | float = m.column_rate
        if m.hierarchical:
            d = (rates_shape(m, m.column_shape) / state.column_rates_rate).unsqueeze(-1)
        shape = state.column_shape + rho * (m.column_shape + scale * rows.of_columns - state.column_shape)
        rate = state.column_rate + rho * (d + scale * column_exposure(theta, batch) - state.column_rate)
        new = State(shape, rate, state.seen + 1)
        if m.hierarchical:
            new = HierarchicalState(**vars(new), column_rates_rate=rates_rate(m, m.column_rate, shape / rate))
        return new, rows.bound

    def finish(self, state: Any) -> cavi.State:
        """Return CAVI's state with q(theta) of every row at its optimum given q(eta)."""
        columns, N = self.column_factor(state), self.data.shape[0]
        found = [
            fit_rows(
                self.model,
                columns.log,
                columns.mean,
                self.data.batch(index),
                steps=FINAL_STEPS,
                tol=self.local_tol / 10,
            )
            for index in torch.arange(N, device=state.seen.device).split(self.batch_size)
        ]
        rest = {name: value for name, value in vars(state).items() if name != "seen"}
        if self.model.hierarchical:
            rest["row_rates_rate"] = torch.cat([rows.rates_rate for rows in found if rows.rates_rate is not None], 1)
        shape = torch.cat([rows.shape for rows in found], 1)
        rate = torch.cat([rows.rate.expand_as(rows.shape) for rows in found], 1)
        return self.full_class(row_shape=shape, row_rate=rate, **rest)
