"""EM for the posterior mode, every restart in one batch; its state, a point per chain, is that of Gibbs too."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.models.my_model.posterior import Posterior


@dataclass(frozen=True)
class State:
    """Parameters per chain."""

    ...  # FILL state: `site: Float[Tensor, "C ..."]`, a line per global site, chains first


def log_prior(posterior: Posterior, state: State) -> Float[Tensor, C]:
    """Return log p(parameters) by the program's priors, none of which depends on another site."""
    nodes = posterior.first_trace.nodes
    logs = [nodes[site]["fn"].log_prob(value) for site, value in vars(state).items()]
    return sum(log.reshape(len(log), -1).sum(1) for log in logs)


def statistics(share: Float[Tensor, "C N values"], posterior: Posterior) -> tuple[Tensor, ...]:
    """Return what the parameters' conditionals need of the rows: sums over rows weighted by shares of values."""
    x, seen = posterior.data.filled, posterior.seen
    ...  # FILL statistics: return [C, ...] each, matrix products [C, values, N] x [N, D]; missing cells add 0


class Solver(PointSolver, kind="point", objective="log_joint", monotone=True, state=State):
    """EM for the posterior mode (Dempster, Laird and Rubin 1977, J. R. Stat. Soc. B 39, section 1.2 with a prior).

    The objective is log p(data, parameters) of the state before the step, rows' latent variables summed out: a
    by-product of the E-step.

    Raises:
        SettingError: Hyper-parameters for which the M-step has no maximum inside.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        ...  # FILL refuse: self.model.refuse("field", "em needs ...") where a hyper-parameter leaves no maximum

    def step(self, state: State) -> tuple[State, Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        logits = self.posterior.logits(vars(state))
        info = Info(logits.logsumexp(-1).sum(-1) + log_prior(self.posterior, state))
        share = logits.softmax(-1)  # the E-step: p(z_i = k | x_i, state), [C, N, values]
        ...  # FILL m_step: return State(the maximum over parameters of E log p(data, z, parameters)), info
