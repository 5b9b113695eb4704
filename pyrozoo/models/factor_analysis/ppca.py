"""Probabilistic principal component analysis in closed form."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.data.table import Table
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.models.factor_analysis.pca import Fill, filled, noise_floor, spectrum
from pyrozoo.models.factor_analysis.point import State, draws_of
from pyrozoo.types import Draws, Kind
from pyrozoo.types import Solver as SolverContract


class Solver(SolverContract):
    """Maximum likelihood of W and one noise variance for all columns (Tipping and Bishop 1999, J. R. Stat. Soc. B 61).

    W = U_M (Lambda_M - s^2 I)^1/2 with s^2 the mean of the discarded eigenvalues of the covariance; no priors. At most
    D - 1 factors are used. The objective is the log-likelihood.

    Args:
        fill: What to put in place of missing values: ``mean`` of the column or ``constant``; None refuses them.
        constant: The constant.
    """

    kind: ClassVar[Kind] = "point"
    objective_name: ClassVar[str] = "log_likelihood"
    objective_of: ClassVar[Literal["before", "after"]] = "after"
    monotone: ClassVar[bool] = True
    state_class: ClassVar[type] = State

    def __init__(self, model: FactorAnalysis, data: Table, *, fill: Fill | None = None, constant: float = 0.0):
        self.model, self.data = model, data
        self.values = filled(data, fill, constant, "ppca")

    def init(self, chains: int) -> State:
        """Return zeros: a closed form needs no start."""
        (_, D), like = self.data.shape, self.values
        zeros = like.new_zeros(chains, D)
        return State(like.new_zeros(chains, D, self.model.num_factors), zeros, zeros)

    def step(self, state: State) -> tuple[State, Float[Tensor, C]]:
        """Return the maximum of the likelihood, and its logarithm."""
        mean, axes, variances = spectrum(self.values)
        N, D = self.values.shape
        kept = min(self.model.num_factors, D - 1)
        floor = noise_floor(variances)
        noise = variances[kept:].mean().clamp(min=floor)
        loadings = torch.zeros_like(state.loadings[0])
        loadings[:, :kept] = axes[:, :kept] * (variances[:kept] - noise).clamp(min=0).sqrt()
        # -N/2 (D log 2 pi + log|C| + tr(C^-1 S)) in the eigenvalues of C and S
        modelled = torch.cat([torch.maximum(variances[:kept], noise), noise.expand(D - kept)])
        objective = -0.5 * N * (D * math.log(2 * math.pi) + modelled.log().sum() + (variances / modelled).sum())
        chains = len(state.mean)
        new = State(*(each.expand(chains, *each.shape) for each in (loadings, mean, noise.expand(D))))
        return new, objective.expand(chains)

    def draws(self, state: State) -> Draws:
        """Return the point."""
        return draws_of(state)
