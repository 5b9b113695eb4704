"""Expectation propagation: a normal factor for every row, matched to its likelihood where the other rows leave it."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info
from pyrozoo.core.errors import SettingError
from pyrozoo.math.logistic_normal import tilted
from pyrozoo.math.natural_normal import NaturalNormal
from pyrozoo.models.logistic_regression.jaakkola_jordan import NormalSolver
from pyrozoo.models.logistic_regression.posterior import Posterior

SCHEDULES = ("parallel", "sequential")


@dataclass(frozen=True)
class State:
    """The factor exp(-tau_i psi^2 / 2 + nu_i psi) of each row, psi = x_i' beta."""

    tau: Float[Tensor, "C N"]
    nu: Float[Tensor, "C N"]


class Solver(NormalSolver, kind="variational", objective="log_evidence_ep", state=State):
    """Expectation propagation (Minka 2001, UAI; Rasmussen and Williams 2006, section 3.6).

    Each factor is taken out of q (the cavity), its row's likelihood is put in, and the factor is what gives q the
    moments of that: those of one number, x_i' beta, by quadrature. Converged when they agree to the tolerance, means in
    sds of q and variances in parts. The objective estimates the log evidence, and is no bound.

    Args:
        posterior: The model given responses.
        schedule: ``parallel``: all factors at once; ``sequential``: one row after another, q updated after each.
        damping: Share of the old factor in the new one, in [0, 1); more of it where parallel factors go round.

    Raises:
        SettingError: No such schedule, or damping out of range.
    """

    def __init__(self, posterior: Posterior, schedule: str = "parallel", damping: float = 0.2):
        super().__init__(posterior)
        if schedule not in SCHEDULES:
            raise SettingError(f"solver.schedule is {schedule!r}; it must be {' or '.join(SCHEDULES)}")
        if not 0 <= damping < 1:
            raise SettingError(f"solver.damping is {damping}; it must be in [0, 1)")
        self.schedule, self.damping = schedule, damping

    def init(self, chains: int) -> State:
        """Start from factors that say nothing, and from weak ones at random."""
        shape = chains, self.data.shape[0]
        tau = 0.1 * self.posterior.uniform(*shape) * self.posterior.seen
        tau[0] = 0.0
        return State(tau, tau * self.posterior.normal(*shape))

    def finish(self, state: State) -> NaturalNormal:
        """Return q: the prior times all factors."""
        return NaturalNormal.of(self.posterior.precision(state.tau), state.nu @ self.posterior.design)

    def step(self, state: State) -> tuple[State, Info]:
        """Match every factor once; return the estimate of the log evidence of the argument."""
        p, q = self.posterior, self.finish(state)
        mean, variance = q.along(p.design)
        new, moments, scales = matched(mean, variance, state, p.response, p.seen)
        off = ((moments[0] - mean) / variance.sqrt()).abs() + (moments[1] / variance - 1).abs()
        whole = (q.mean * (state.nu @ p.design)).sum(-1) + p.prior_precision.log().sum() - q.log_determinant
        info = Info((scales * p.seen).sum(-1) + 0.5 * whole, (off * p.seen).amax(-1))
        return (self._damped(state, new) if self.schedule == "parallel" else self._one_by_one(state, q)), info

    def _damped(self, old: State, new: State) -> State:
        keep = self.damping
        return State(keep * old.tau + (1 - keep) * new.tau, keep * old.nu + (1 - keep) * new.nu)

    def _one_by_one(self, state: State, q: NaturalNormal) -> State:
        """Match one factor after another; q follows by updates of rank one."""
        p, covariance, mean = self.posterior, q.covariance, q.mean
        tau, nu = state.tau.clone(), state.nu.clone()
        for i in p.seen.nonzero().flatten().tolist():
            along, one = covariance @ p.design[i], slice(i, i + 1)  # [C, P]
            variance, centre, old = along @ p.design[i], mean @ p.design[i], State(tau[:, one], nu[:, one])
            new, *_ = matched(centre[:, None], variance[:, None], old, p.response[one], p.seen[one])
            new = self._damped(old, new)
            more, pull = (new.tau - old.tau)[:, 0], (new.nu - old.nu)[:, 0]
            tau[:, one], nu[:, one] = new.tau, new.nu
            gain = along / (1 + more * variance).unsqueeze(-1)
            mean = mean + gain * (pull - more * centre).unsqueeze(-1)
            covariance = covariance - more[:, None, None] * gain.unsqueeze(-1) * along.unsqueeze(-2)
        return State(tau, nu)


def matched(
    mean: Float[Tensor, "C n"], variance: Float[Tensor, "C n"], old: State, response: Float[Tensor, n],
    seen: Float[Tensor, n],
) -> tuple[State, tuple[Tensor, Tensor], Tensor]:  # fmt: skip
    """Put each row's likelihood in the place of its factor.

    Returns:
        The factors that have the moments of that, these moments, and log scales with which the old factors have the
        mass of the likelihood.
    """
    precision = (1 / variance - old.tau).clamp(min=1e-12)
    centre = (mean / variance - old.nu) / precision
    log_mass, middle, spread = tilted(centre, 1 / precision, (2 * response - 1).expand_as(centre))
    new = State((1 / spread - precision).clamp(min=0) * seen, (middle / spread - centre * precision) * seen)
    both = old.tau + precision
    square = (centre * precision + old.nu).square() / both - centre.square() * precision
    return new, (middle, spread), log_mass + 0.5 * (both / precision).log() - 0.5 * square
