"""EM for the posterior mode, every restart in one batch."""

from __future__ import annotations

from pyrozoo.contracts.solver import Answer, Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.models.my_model.point import State, log_prior, statistics
from pyrozoo.models.my_model.posterior import Posterior


class Solver(SolverContract, kind="point", objective="log_joint", monotone=True, state=State):
    """EM for the posterior mode (Dempster, Laird and Rubin 1977, J. R. Stat. Soc. B 39, section 1.2 with a prior).

    The objective is log p(data, parameters) of the state before the step, rows' latent variables summed out: a
    by-product of the E-step.

    Raises:
        SettingError: Hyper-parameters for which the M-step has no maximum inside.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        ...  # FILL refuse: self.model.refuse("field", "em needs ...") where a hyper-parameter leaves no maximum

    def init(self, chains: int) -> State:
        """Return random starting points."""
        return State(**self.posterior.initial(chains))

    def step(self, state: State) -> tuple[State, Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        logits = self.posterior.logits(vars(state))
        info = Info(logits.logsumexp(-1).sum(-1) + log_prior(self.posterior, state))
        share = logits.softmax(-1)  # the E-step: p(z_i = k | x_i, state), [C, N, values]
        ...  # FILL m_step: return State(the maximum over parameters of E log p(data, z, parameters)), info

    def answer(self, state: State) -> Answer:
        """Return the point itself."""
        return Answer(point=vars(state))
