"""Principal component analysis, by the textbook: complete tables, or tables with their holes filled on request."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.core.errors import NotApplicable
from pyrozoo.math.linear_algebra import signed, spectrum
from pyrozoo.models.factor_analysis.em import State
from pyrozoo.models.factor_analysis.posterior import Posterior

Fill = Literal["constant", "mean"]


class Solver(
    PointSolver, kind="point", objective="explained_variance", of="result", monotone=True, state=State, by_row=()
):
    """PCA by singular value decomposition of the centred table (Jolliffe 2002, chapter 3).

    Of rows in shards it is the spectrum of their covariance, a sum over rows; small variances have fewer digits then.

    Loadings are the first M principal axes times the root of their variances; noise is what they leave, column by
    column. The objective is the share of variance explained. Hidden entries are predicted by projecting the filled
    rows, as PCA does: that is the lesson, not a recommendation.

    Args:
        fill: What to put in place of missing values: ``mean`` of the column or ``constant``; None refuses them.
        constant: The constant.

    Raises:
        NotApplicable: Values are missing and ``fill`` does not say what to put there.
    """

    method: ClassVar[str] = "pca"

    def __init__(self, posterior: Posterior, *, fill: Fill | None = None, constant: float = 0.0):
        super().__init__(posterior)
        missing = int(posterior.total(lambda part: (~part.data.observed).sum()))
        if fill is None and missing:
            raise NotApplicable(
                f"{self.method} is exact only without missing values, and {self.data.name} misses {missing}; "
                "solver.fill=mean or solver.fill=constant fills them first (and needs more components: use em, cavi or "
                "gibbs instead)"
            )
        total, seen = posterior.total(lambda part: (part.data.filled.sum(0), part.data.observed.sum(0)))
        self.put = torch.full_like(total, constant) if fill == "constant" else total / seen

    def filled(self, part: Posterior) -> Float[Tensor, "N D"]:
        """Return the values of rows with what is put in the place of missing ones."""
        return torch.where(part.data.observed, part.data.values, self.put)

    def spectrum(self) -> tuple[Float[Tensor, D], Float[Tensor, "D R"], Float[Tensor, D], Float[Tensor, D]]:
        """Return mean, principal axes, their variances, largest first, and the variance of every column."""
        if self.posterior.shards is None:
            values = self.filled(self.posterior)
            return *spectrum(values), values.var(0, correction=0)
        mean = self.posterior.total(lambda part: self.filled(part).sum(0)) / self.posterior.rows

        def said(part: Posterior) -> Tensor:
            away = self.filled(part) - mean
            return away.mT @ away

        covariance = self.posterior.total(said) / self.posterior.rows
        variances, axes = torch.linalg.eigh(covariance)
        return mean, signed(axes.flip(-1)), variances.flip(-1).clamp(min=0), covariance.diagonal()

    def init(self, chains: int) -> State:
        """Return zeros: a closed form needs no start."""
        zeros = self.put.new_zeros(chains, self.data.shape[1])
        return State(zeros.unsqueeze(-1).expand(-1, -1, self.model.num_factors), zeros, zeros)

    def step(self, state: State) -> tuple[State, Info]:
        """Return the principal components and the share of variance that they explain."""
        mean, axes, variances, total = self.spectrum()
        loadings = torch.zeros_like(state.loadings[0])
        kept = min(self.model.num_factors, axes.shape[1])
        loadings[:, :kept] = axes[:, :kept] * variances[:kept].sqrt()
        left = (total - loadings.square().sum(1)).clamp(min=noise_floor(total))
        whole = variances.sum()
        share = variances[:kept].sum() / whole if whole > 0 else torch.ones_like(whole)
        new = self.every_chain(state, loadings, mean, left)
        projection = None if self.posterior.reported.data.hidden is None else partial(self._projected, new)
        return new, Info(share.expand(len(state.mean)), predictive=projection)

    def every_chain(self, state: State, loadings: Tensor, mean: Tensor, noise: Tensor) -> State:
        """Return one solution for as many chains as a state has."""
        return State(*(each.expand(len(state.mean), *each.shape) for each in (loadings, mean, noise)))

    def _projected(self, state: State) -> tuple[Tensor, Tensor]:
        """Return hidden entries of the projection of the filled rows, and what is left of the variance."""
        seen = self.posterior.reported
        hidden = seen.data.hidden
        size = state.loadings.square().sum(1).sqrt()
        axes = torch.where(size.unsqueeze(1) > 0, state.loadings / size.unsqueeze(1).clamp(min=1e-30), 0.0)
        rows, place = hidden.rows.unique(return_inverse=True)
        scores = (self.filled(seen)[rows] - state.mean.unsqueeze(1)) @ axes
        mean = torch.stack([
            (s[place] * a[hidden.columns]).sum(-1) for s, a in zip(scores, axes, strict=True)
        ])  # fmt: skip
        return mean + state.mean[:, hidden.columns], state.noise_variance[:, hidden.columns]


def noise_floor(variance: Tensor) -> float:
    """Return the least noise variance: rounding of the largest column's, so that densities stay finite."""
    eps = torch.finfo(variance.dtype).eps
    return max(float(variance.max()) * eps, torch.finfo(variance.dtype).tiny * 1e10, eps**2)
