"""Coordinate ascent variational inference, sparse: time and memory go with the listed cells, never with N x M x K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Values
from pyrozoo.math.special import GammaFunctions
from pyrozoo.models.poisson_mf.factors import Factor, factor, rates_rate, rates_shape
from pyrozoo.models.poisson_mf.likelihood import column_exposure, expected_total, row_exposure, shared


@dataclass(frozen=True)
class State:
    """q(theta) and q(eta), Gamma (shape, rate), per restart; a rate that all rows share is held once."""

    row_shape: Float[Tensor, "C N K"]
    row_rate: Float[Tensor, "C N_or_1 K"]
    column_shape: Float[Tensor, "C M K"]
    column_rate: Float[Tensor, "C M_or_1 K"]


@dataclass(frozen=True)
class HierarchicalState(State):
    """The same with the rates of q(xi) and q(omega), whose shapes are known: rate_shape + K row_shape."""

    row_rates_rate: Float[Tensor, "C N"]
    column_rates_rate: Float[Tensor, "C M"]


class Solver(SolverContract, kind="variational", objective="elbo", monotone=True, state=State):
    """CAVI (Gopalan, Hofman and Blei 2015, section 3; the plain model: Cemgil 2009, section 3).

    With A = exp E log theta, B = exp E log eta and s = A B^T at the listed cells, R = x / s: the expected counts of
    factors are A * (R B) by row and B * (R^T A) by column. The objective is the ELBO of the state before the step with
    q(z) at its optimum: sum_{x > 0} (x log s - log x!) - sum over observed cells of E theta . E eta - KL(theta) -
    KL(eta) (- KL(xi) - KL(omega)).
    """

    def __init__(self, posterior: Posterior):
        model, data = posterior.model, posterior.data
        self.posterior, self.model, self.data = posterior, model, data
        self.state_class = HierarchicalState if model.hierarchical else State
        self.rows, self.columns = GammaFunctions(), GammaFunctions()

    def init(self, chains: int) -> State:
        """Return Gamma parameters drawn Uniform(0.5, 1.5) times the prior's."""
        m, (N, M), like = self.model, self.data.shape, self.data.values

        def around(value: float, rows: int) -> Tensor:
            return value * (0.5 + torch.rand(chains, rows, m.num_factors, dtype=like.dtype, device=like.device))

        state = State(
            around(m.row_shape, N), around(m.row_rate, N), around(m.column_shape, M), around(m.column_rate, M)
        )
        if not m.hierarchical:
            return state
        rates = (
            rates_rate(m, m.row_rate, state.row_shape / state.row_rate),
            rates_rate(m, m.column_rate, state.column_shape / state.column_rate),
        )
        return HierarchicalState(**vars(state), row_rates_rate=rates[0], column_rates_rate=rates[1])

    def step(self, state: State) -> tuple[State, Info]:
        """Update q(z), then q(theta), q(eta), q(xi), q(omega); return the ELBO of the argument."""
        m, data = self.model, self.data
        rows, columns = self.row_factor(state), self.column_factor(state)
        of_rows, of_columns, evidence = shared(rows.log.exp(), columns.log.exp(), data, (rows.log, columns.log))
        elbo = evidence - expected_total(rows.mean, columns.mean, data) + rows.bound + columns.bound
        b, d = self.expected_rates(state)
        row_shape, row_rate = m.row_shape + of_rows, b + row_exposure(columns.mean, data)
        theta = row_shape / row_rate
        column_shape, column_rate = m.column_shape + of_columns, d + column_exposure(theta, data)
        new = State(row_shape, row_rate, column_shape, column_rate)
        if not m.hierarchical:
            return new, Info(elbo)
        rates = rates_rate(m, m.row_rate, theta), rates_rate(m, m.column_rate, column_shape / column_rate)
        return HierarchicalState(**vars(new), row_rates_rate=rates[0], column_rates_rate=rates[1]), Info(elbo)

    def expected_rates(self, state: State) -> tuple[Tensor | float, Tensor | float]:
        """Return E xi and E omega, to be broadcast over factors, or the fixed rates."""
        m = self.model
        if not isinstance(state, HierarchicalState):
            return m.row_rate, m.column_rate
        return (
            (rates_shape(m, m.row_shape) / state.row_rates_rate).unsqueeze(-1),
            (rates_shape(m, m.column_shape) / state.column_rates_rate).unsqueeze(-1),
        )

    def row_factor(self, state: State) -> Factor:
        """Return what is needed of q(theta)."""
        rates = state.row_rates_rate if isinstance(state, HierarchicalState) else None
        return factor(
            self.model, state.row_shape, state.row_rate, self.model.row_shape, self.model.row_rate, rates, self.rows
        )

    def column_factor(self, state: Any) -> Factor:
        """Return what is needed of q(eta), of any state that holds it."""
        rates = state.column_rates_rate if self.model.hierarchical else None
        m = self.model
        return factor(m, state.column_shape, state.column_rate, m.column_shape, m.column_rate, rates, self.columns)

    def factors(self, state: State) -> dict[str, Gamma]:
        """Return q of every site."""
        m = self.model
        q = {
            "row_factors": Gamma(state.row_shape, state.row_rate),
            "column_factors": Gamma(state.column_shape, state.column_rate),
        }
        if isinstance(state, HierarchicalState):
            for name, shape, rate in (
                ("row_rates", m.row_shape, state.row_rates_rate),
                ("column_rates", m.column_shape, state.column_rates_rate),
            ):
                q[name] = Gamma(torch.full_like(rate, rates_shape(m, shape)), rate)
        return q

    def draws(self, state: State) -> Values:
        """Return one draw from q per chain, kept above 0."""
        tiny = torch.finfo(state.row_shape.dtype).tiny
        return {site: q.sample().clamp(min=tiny) for site, q in self.factors(state).items()}

    def log_q(self, state: State, draws: Values) -> Float[Tensor, C]:
        """Return log q of one draw per chain."""
        logs = [q.log_prob(draws[site]).flatten(1).sum(-1) for site, q in self.factors(state).items()]
        return torch.stack(logs).sum(0)
