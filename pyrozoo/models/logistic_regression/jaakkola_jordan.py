"""The bound of Jaakkola and Jordan: a quadratic below the logistic function, touching it where it helps most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyrozoo.contracts import solver
from pyrozoo.contracts.solver import Answer, Independent, Info
from pyrozoo.core.errors import NotApplicable
from pyrozoo.math.natural_normal import NaturalNormal
from pyrozoo.math.polya_gamma import moments
from pyrozoo.models.logistic_regression.posterior import Posterior


@dataclass(frozen=True)
class State:
    """Where the bound of each row touches its likelihood, per restart."""

    xi: Float[Tensor, "C N"]


class NormalSolver(solver.Solver):
    """A solver whose q is normal, and whose state says something of every row.

    Raises:
        NotApplicable: The likelihood is normal.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        if posterior.model.linear:
            raise NotApplicable("of model.likelihood=normal nothing need be approximated: use inference=exact")

    def answer(self, state: Any) -> Answer:
        """Return q, of a state or as ``finish`` returned it."""
        q = state if isinstance(state, NaturalNormal) else self.finish(state)
        return Answer(q=Independent({"coefficients": q.distribution}))


class Solver(NormalSolver, kind="variational", objective="log_evidence_bound", monotone=True, state=State):
    """Variational logistic regression (Jaakkola and Jordan 2000, Statistics and Computing 10; Bishop 2006, 10.6).

    log sigma(psi) >= log sigma(xi) + (psi - xi) / 2 - lambda(xi) (psi^2 - xi^2), lambda(xi) = tanh(xi / 2) / (4 xi), so
    that q is normal; then xi_i^2 = E_q (x_i' beta)^2. It is mean field with Polya-Gamma variables: q(omega) q(beta)
    (Durante and Rigon 2019, Statistical Science 34). The objective, below the log evidence, is that of the state before
    the step.
    """

    def init(self, chains: int) -> State:
        """Return bounds that touch anywhere."""
        return State(self.posterior.normal(chains, self.data.shape[0]).exp())

    def finish(self, state: State) -> NaturalNormal:
        """Return q: the optimum for where the bounds touch."""
        return NaturalNormal.of(self.posterior.precision(moments(state.xi)[0]), self.posterior.pull)

    def step(self, state: State) -> tuple[State, Info]:
        """Update q, then where the bounds touch; return the bound of the argument."""
        p, q, xi = self.posterior, self.finish(state), state.xi
        rows = (logsigmoid(xi) - xi / 2 + 0.5 * moments(xi)[0] * xi.square()) * p.seen
        whole = (q.mean @ p.pull) + p.prior_precision.log().sum() - q.log_determinant
        mean, variance = q.along(p.design)
        return State((variance + mean.square()).sqrt()), Info(rows.sum(-1) + 0.5 * whole)
