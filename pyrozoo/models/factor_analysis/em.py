"""EM for the posterior mode, missing values and factors summed out, every restart in one batch."""

from __future__ import annotations

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.contracts.solver import Solver as SolverContract
from pyrozoo.core.draws import Values
from pyrozoo.models.factor_analysis.expansion import expansion
from pyrozoo.models.factor_analysis.likelihood import Layout
from pyrozoo.models.factor_analysis.point import State, columns_of, draws_of
from pyrozoo.models.factor_analysis.regression import log_prior, regress


class Solver(SolverContract, kind="point", objective="log_joint", monotone=True, state=State):
    """EM for the MAP of loadings, mean and noise (Rubin and Thayer 1982, Psychometrika 47, with priors and holes).

    E-step: z_n | observed x_n. M-step: a ridge regression per column on its observed rows, then
    sigma_d^2 = nu s^2 / (nu0 + n_d + M + 3), the mode of the normal-inverse-gamma. Each step ends with a parameter
    expansion (``expansion.py``). The objective is log p(X, Theta) of the state before the step.
    """

    def __init__(self, posterior: Posterior):
        model, data = posterior.model, posterior.data
        self.model, self.data, self.layout = model, data, Layout.of(data)
        self.kappa = model.loadings_precision if model.isotropic else None

    def init(self, chains: int) -> State:
        """Return random starting points (``FactorAnalysis.initial``)."""
        return State(**self.posterior.initial(chains))

    def step(self, state: State) -> tuple[State, Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        columns = columns_of(state, self.layout)
        moments = self.layout.moments(columns)
        objective = moments.evidence + log_prior(self.model, self.layout, columns.coefficients, state.noise_variance)
        found = regress(self.model, self.layout, moments)
        noise = found.scale / (found.degrees + found.mean.shape[-1] + 2)
        beta = found.mean.clone()
        beta[..., -1] += self.layout.offset
        turn, _ = expansion(
            moments.total.double(), beta.mT @ (beta / noise.unsqueeze(-1)), self.kappa, self.model.mean_precision,
            float(self.data.shape[0]),
        )  # fmt: skip
        beta = (beta @ turn.mT).to(state.mean)
        return State(beta[..., :-1], beta[..., -1], noise.to(state.mean)), Info(objective)

    def draws(self, state: State) -> Values:
        """Return the point itself."""
        return draws_of(state)
