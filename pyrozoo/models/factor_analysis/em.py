"""EM for the posterior mode, missing values and factors summed out, every restart in one batch."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.core.draws import Values
from pyrozoo.models.factor_analysis.expansion import expansion
from pyrozoo.models.factor_analysis.likelihood import Moments
from pyrozoo.models.factor_analysis.posterior import Posterior
from pyrozoo.models.factor_analysis.regression import Prior


@dataclass(frozen=True)
class State:
    """Parameters per chain: what EM, PCA and PPCA find."""

    loadings: Float[Tensor, "C D M"]
    mean: Float[Tensor, "C D"]
    noise_variance: Float[Tensor, "C D"]


class Solver(PointSolver, kind="point", objective="log_joint", monotone=True, state=State, by_row=()):
    """EM for the MAP of loadings, mean and noise (Rubin and Thayer 1982, Psychometrika 47, with priors and holes).

    E-step: z_n | observed x_n. M-step: a ridge regression per column on its observed rows, then
    sigma_d^2 = nu s^2 / (nu0 + n_d + M + 3), the mode of the normal-inverse-gamma. Each step ends with a parameter
    expansion (``expansion.py``). The objective is log p(X, Theta) of the state before the step.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.layout, self.prior = posterior.columns, Prior(self.model, posterior.columns)
        self.kappa = self.model.loadings_precision if self.model.isotropic else None

    def step(self, state: State) -> tuple[State, Info]:
        """Do one E-step and M-step; return the objective of the argument."""
        columns = self.layout.known(vars(state))
        moments = self.posterior.moments(columns)
        objective = moments.evidence + self.prior.log_density(columns.coefficients, state.noise_variance)
        sites, _ = self.maximise(moments)
        return State(**sites), Info(objective)

    def maximise(
        self, moments: Moments, squares: Float[Tensor, "C D"] | None = None,
        observations: Float[Tensor, "C D"] | None = None,
    ) -> tuple[Values, Float[Tensor, "C A A"]]:  # fmt: skip
        """Do the M-step, given what all rows tell of the columns.

        Args:
            moments: What they tell.
            squares: Sums of squares of the columns where they are not the layout's.
            observations: Observed values of the columns where they are not the layout's.

        Returns:
            The sites, and what the expansion makes of E[a]: a times it is what the factors are from now on.
        """
        found, like = self.prior.regress(moments, squares, observations), self.layout.offset
        noise = found.scale / (found.degrees + found.mean.shape[-1] + 2)
        beta = found.mean.clone()
        beta[..., -1] += self.layout.offset
        turn, unturn = expansion(
            moments.total.double(), beta.mT @ (beta / noise.unsqueeze(-1)), self.kappa, self.model.mean_precision,
            float(self.posterior.rows),
        )  # fmt: skip
        beta = (beta @ turn.mT).to(like)
        return {"loadings": beta[..., :-1], "mean": beta[..., -1], "noise_variance": noise.to(like)}, unturn
