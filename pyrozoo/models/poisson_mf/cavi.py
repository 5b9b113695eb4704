"""Coordinate ascent variational inference, sparse: time and memory go with the listed cells, never with N x M x K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma

from pyrozoo.contracts import solver
from pyrozoo.models.poisson_mf.factors import Factor, expected_rate, factor, rates_given, rates_shape
from pyrozoo.models.poisson_mf.likelihood import column_exposure, expected_total, row_exposure, shared
from pyrozoo.models.poisson_mf.posterior import Posterior


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


BY_ROW = "row_shape", "row_rate", "row_rates_rate"


class Solver(
    solver.Solver, kind="variational", objective="elbo", monotone=True, state=State, by_row=BY_ROW, graph=True
):
    """CAVI (Gopalan, Hofman and Blei 2015, section 3; the plain model: Cemgil 2009, section 3).

    With A = exp E log theta, B = exp E log eta and s = A B^T at the listed cells, R = x / s: the expected counts of
    factors are A * (R B) by row and B * (R^T A) by column. The objective is the ELBO of the state before the step with
    q(z) at its optimum: sum_{x > 0} (x log s - log x!) - sum over observed cells of E theta . E eta - KL(theta) -
    KL(eta) (- KL(xi) - KL(omega)).
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.state_class = HierarchicalState if self.model.hierarchical else State

    def init(self, chains: int) -> State:
        """Return Gamma parameters drawn Uniform(0.5, 1.5) times the prior's."""
        m = self.model

        def random(part: Posterior, shape: float, rate: float, size: int) -> tuple[Tensor, Tensor]:
            shapes, rates = (v * (0.5 + part.uniform(chains, size, m.num_factors)) for v in (shape, rate))
            return shapes, rates

        rows, _ = self.posterior.over_rows(lambda part: (random(part, m.row_shape, m.row_rate, part.data.shape[0]), ()))
        columns = random(self.posterior, m.column_shape, m.column_rate, self.data.shape[1])
        return self.with_rates(rows[0] / rows[1], rows, columns)

    def with_rates(self, theta: Tensor | None, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Any:
        """Return the state, q(xi) and q(omega) at their optimum given E theta and E eta where the model has them.

        Args:
            theta: E theta; None: the model has no q(xi).
            rows: Shape and rate of q(theta).
            columns: Of q(eta).
        """
        given = [] if theta is None else rates_given(self.model, theta, columns[0] / columns[1])
        return self.state_class(*rows, *columns, *(rate for _, rate in given))

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update q(z), then q(theta), q(eta), q(xi), q(omega); return the ELBO of the argument."""
        m, given, columns = self.model, vars(state), self.columns(state)
        column_factors, of_all = columns.log.exp(), columns.mean.sum(-2, keepdim=True)
        whole = self.posterior.whole_vectors(column_factors)

        def update(part: Posterior, shape: Tensor, rate: Tensor, xi: Tensor | None) -> tuple[Any, Any]:
            data, rows = part.data, self.rows(shape, rate, xi)
            of_rows, of_columns, evidence = shared(
                rows.log.exp(), column_factors, data, (rows.log, columns.log), whole
            )  # fmt: skip
            bound = evidence - expected_total(rows.mean, columns.mean, data, of_all) + rows.bound
            b = expected_rate(m, m.row_shape, m.row_rate, xi)
            row_shape, row_rate = m.row_shape + of_rows, b + row_exposure(columns.mean, data, of_all)
            theta = row_shape / row_rate
            kept = theta if m.hierarchical else None
            return (kept, (row_shape, row_rate)), (bound, of_columns, column_exposure(theta, data))

        (theta, rows), (bound, of_columns, exposure) = self.posterior.over_rows(
            update, state.row_shape, state.row_rate, given.get("row_rates_rate")
        )
        d = expected_rate(m, m.column_shape, m.column_rate, given.get("column_rates_rate"))
        new = self.with_rates(theta, rows, (m.column_shape + of_columns, d + exposure))
        return new, solver.Info(bound + columns.bound)

    def rows(self, shape: Tensor, rate: Tensor, xi: Tensor | None) -> Factor:
        """Return what is needed of q(theta), of its shape and rate, and of the rate of q(xi)."""
        return factor(self.model, shape, rate, self.model.row_shape, self.model.row_rate, xi)

    def columns(self, state: Any) -> Factor:
        """Return what is needed of q(eta), of any state that holds it."""
        m, xi = self.model, vars(state).get("column_rates_rate")
        return factor(m, state.column_shape, state.column_rate, m.column_shape, m.column_rate, xi)

    def factors(self, state: State) -> dict[str, Gamma]:
        """Return q of every site."""
        m, rows = self.model, Gamma(state.row_shape, state.row_rate)
        q = {"row_factors": rows, "column_factors": Gamma(state.column_shape, state.column_rate)}
        if isinstance(state, HierarchicalState):
            xi, omega = state.row_rates_rate, state.column_rates_rate
            q["row_rates"] = Gamma(torch.full_like(xi, rates_shape(m, m.row_shape)), xi)
            q["column_rates"] = Gamma(torch.full_like(omega, rates_shape(m, m.column_shape)), omega)
        return q

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        return solver.Answer(q=solver.Independent(self.factors(state)))
