"""Gibbs sampling with Polya-Gamma variables, all chains in one batch."""

from __future__ import annotations

from typing import Any

from pyrozoo.contracts.solver import Info
from pyrozoo.math import polya_gamma
from pyrozoo.math.natural_normal import NaturalNormal
from pyrozoo.models.logistic_regression.em import LinearState, PointOf, State


class Solver(PointOf, kind="samples", objective="log_joint", state=State):
    """Gibbs: omega_i ~ PG(1, x_i' beta), then beta given them (Polson, Scott and Windle 2013, JASA 108, section 3.1).

    Given omega the likelihood is normal: beta ~ N(A^-1 X'(y - 1/2), A^-1), A = P + X' Omega X. Of linear regression a
    sweep is an independent draw. The objective is that of the state before the sweep.
    """

    def step(self, state: Any) -> tuple[Any, Info]:
        """Do one sweep; return the log joint of the argument."""
        info, p = Info(self.objective(state)), self.posterior
        if p.model.linear:
            return LinearState(*p.conjugate[1].expanded(len(state.coefficients)).sample()), info
        omega = polya_gamma.draw(p.linear(vars(state)))
        return State(NaturalNormal.of(p.precision(omega), p.pull).draw()), info
