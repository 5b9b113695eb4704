"""Maximum likelihood: no priors, which shows the overfitting that averaging over the posterior does not have."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.errors import SettingError
from pyrozoo.models.gaussian_mf import em
from pyrozoo.models.gaussian_mf.point import Point, log_prior
from pyrozoo.models.gaussian_mf.posterior import Posterior

FLAT = 100.0
"""Prior variances are taken so many times as large: a ridge that decides only what the ratings leave open."""

LEAST_NOISE = 1e-4
"""Share of the ratings' variance below which the noise variance does not fall: with enough factors nothing is left."""

PENALISED = ("row_factors", "column_factors", "mean", "row_offsets", "column_offsets")


class Solver(em.Solver, objective="penalised_log_likelihood"):
    """Alternating least squares with a ridge that only what the ratings leave open can feel.

    A row with fewer ratings than factors, or none, has no unique fit; the ridge picks the smallest. With
    ``learn_noise`` the noise variance is the mean squared residual. The objective is the log likelihood less the
    ridge's penalty.

    Raises:
        SettingError: The model is hierarchical: means and precisions of factors are nothing but priors.
    """

    def __init__(self, posterior: Posterior):
        model, data = posterior.model, posterior.data
        if model.hierarchical:
            raise SettingError("mle has no priors to learn: use model.hierarchical=false")
        names = ("row_factor_variance", "column_factor_variance", "mean_variance", "offset_variance")
        flat = replace(model, **{name: FLAT * getattr(model, name) for name in names})
        wide = Posterior(flat, data)
        wide.shards = posterior.shards
        super().__init__(wide)
        variance = float(data.counts.double().var(correction=0))
        self.least = LEAST_NOISE * variance or LEAST_NOISE * model.noise_variance

    def sweep(self, state: Point) -> tuple[Point, Float[Tensor, C]]:
        """Fit rows, columns, mean and noise in turn; return the penalised log likelihood of the result."""
        state, objective = super().sweep(state)
        fixed = replace(self.model, learn_noise=False)
        nothing = replace(state, **{name: torch.zeros_like(getattr(state, name)) for name in PENALISED})
        before, of_fixed, of_nothing = (
            log_prior(model, self.posterior, each)
            for model, each in ((self.model, state), (fixed, state), (fixed, nothing))
        )
        return state, (objective.double() - before + (of_fixed - of_nothing)).to(objective.dtype)

    def noise(self, rss: Float[Tensor, C]) -> Float[Tensor, C]:
        """Return the mean squared residual."""
        return (rss / self.extent.size).clamp(min=self.least)
