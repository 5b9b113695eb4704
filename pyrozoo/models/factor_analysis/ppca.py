"""Probabilistic principal component analysis in closed form."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from pyrozoo.contracts.solver import Info
from pyrozoo.models.factor_analysis import pca
from pyrozoo.models.factor_analysis.em import State


class Solver(pca.Solver, objective="log_likelihood"):
    """Maximum likelihood of W and one noise variance for all columns (Tipping and Bishop 1999, J. R. Stat. Soc. B 61).

    W = U_M (Lambda_M - s^2 I)^1/2 with s^2 the mean of the discarded eigenvalues of the covariance; no priors. At most
    D - 1 factors are used. The objective is the log-likelihood.

    Args:
        fill: What to put in place of missing values: ``mean`` of the column or ``constant``; None refuses them.
        constant: The constant.
    """

    method: ClassVar[str] = "ppca"

    def step(self, state: State) -> tuple[State, Info]:
        """Return the maximum of the likelihood, and its logarithm."""
        mean, axes, variances, _ = self.spectrum()
        N, D = self.posterior.rows, self.data.shape[1]
        kept = min(self.model.num_factors, D - 1, axes.shape[1])
        floor = pca.noise_floor(variances)
        noise = variances[kept:].mean().clamp(min=floor)
        loadings = torch.zeros_like(state.loadings[0])
        loadings[:, :kept] = axes[:, :kept] * (variances[:kept] - noise).clamp(min=0).sqrt()
        # -N/2 (D log 2 pi + log|C| + tr(C^-1 S)) in the eigenvalues of C and S
        modelled = torch.cat([torch.maximum(variances[:kept], noise), noise.expand(D - kept)])
        objective = -0.5 * N * (D * math.log(2 * math.pi) + modelled.log().sum() + (variances / modelled).sum())
        # Without a predictive: hidden entries are predicted from the draw, given the observed ones of their row.
        return self.every_chain(state, loadings, mean, noise.expand(D)), Info(objective.expand(len(state.mean)))
