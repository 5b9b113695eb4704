"""The hand-built guide of SVI: independent normals, and what their kin need."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO, TraceMeanField_ELBO

from pyrozoo.data.ratings import Ratings
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.gaussian_mf.point import SIDES
from pyrozoo.models.gaussian_mf.posterior import Posterior

START, LEAST = 0.3, 0.1
"""Scale of q at the start, as a share of the spread of the starting values, which counts as so many units at least."""


class Guide:
    """q(U) q(V) q(mu) q(a) q(b) independent normals, q(s^2) log-normal, q(m) normal, q(Lambda) Wishart.

    Divergences between normals are taken in closed form (``loss``), so that only the ratings' part of the bound is
    estimated from draws (Kingma and Welling 2014, ICLR, appendix B). Parameters are kept in units of the ratings'
    standard deviation, and of the root of it for factors, so that a learning rate means the same in any unit.

    Args:
        posterior: The model given all of the data, whose starting values it takes (torch's global generator).
    """

    def __init__(self, posterior: Posterior):
        self.model, self.shape = posterior.model, posterior.data.shape
        self.start = {site: value[0] for site, value in posterior.initial(1).items()}
        self.unit, self.factor_unit = posterior.variance**0.5, posterior.factor_scale

    @staticmethod
    def loss(model: GaussianMF) -> type:
        """Return Pyro's estimator of the bound; divergences from a Wishart have no closed form there."""
        return TraceEnum_ELBO if model.hierarchical else TraceMeanField_ELBO

    def __call__(self, data: Ratings) -> None:
        """Sample the global sites."""
        model, start = self.model, self.start
        plates = {side: pyro.plate(side, size, dim=-1) for side, size in zip(SIDES, self.shape, strict=True)}

        def normal(site: str, unit: float) -> dist.Normal:
            value = start[site] / unit
            spread = START * value.std(correction=0).clamp(min=LEAST)
            loc = unit * pyro.param(f"{site}_loc", value)
            return dist.Normal(loc, unit * pyro.param(f"{site}_scale", spread.expand_as(value), constraints.positive))

        if model.learn_noise:
            loc = pyro.param("noise_variance_loc", start["noise_variance"].log())
            scale = pyro.param("noise_variance_scale", loc.new_tensor(0.1), constraints.positive)
            pyro.sample("noise_variance", dist.LogNormal(loc, scale))
        for side, plate in plates.items():
            if model.hierarchical:
                precision = start[f"{side}_precision"]
                # nu W = the starting precision.
                degrees = model.wishart_degrees + plate.size
                root = self.factor_unit * torch.linalg.cholesky(precision / degrees)
                nu = pyro.param(
                    f"{side}_degrees", precision.new_tensor(degrees), constraints.greater_than(float(model.num_factors))
                )
                tril = pyro.param(f"{side}_root", root, constraints.lower_cholesky) / self.factor_unit
                pyro.sample(f"{side}_precision", dist.Wishart(nu, scale_tril=tril))
                pyro.sample(f"{side}_mean", normal(f"{side}_mean", self.factor_unit).to_event(1))
            with plate:
                pyro.sample(f"{side}_factors", normal(f"{side}_factors", self.factor_unit).to_event(1))
        if model.offsets:
            pyro.sample("mean", normal("mean", self.unit))
            for side, plate in plates.items():
                with plate:
                    pyro.sample(f"{side}_offsets", normal(f"{side}_offsets", self.unit))
