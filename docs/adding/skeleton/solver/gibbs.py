"""Gibbs sampling with all chains in one batch."""

from __future__ import annotations

import torch
from torch.distributions import Categorical
from torch.nn.functional import one_hot

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.models.my_model.em import State, log_prior, statistics

# FILL imports: what your lines need beside these


class Solver(PointSolver, kind="samples", objective="log_joint", state=State):
    """Gibbs: rows' latent variables given the parameters, then the parameters given them.

    The objective is log p(data, parameters) of the state before the sweep, rows' latent variables summed out.
    """

    def step(self, state: State) -> tuple[State, Info]:
        """Do one sweep; return the log joint of the argument."""
        logits = self.posterior.logits(vars(state))
        info = Info(logits.logsumexp(-1).sum(-1) + log_prior(self.posterior, state))
        drawn = one_hot(Categorical(logits=logits).sample(), logits.shape[-1]).to(logits.dtype)  # [C, N, values]
        ...  # FILL draw: return State(a draw of every site given statistics(drawn, self.posterior)), info
