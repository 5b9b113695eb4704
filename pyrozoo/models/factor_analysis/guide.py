"""The hand-built guide of SVI: the shape of the complete-data posterior."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from pyrozoo.data.table import Table
from pyrozoo.models.factor_analysis.em import Solver
from pyrozoo.models.factor_analysis.likelihood import Layout
from pyrozoo.models.factor_analysis.posterior import Posterior

STEPS = 5
"""EM iterations before the first gradient."""


class Guide:
    """q(sigma_d^2) inverse gamma; q(w_d, mu_d | sigma_d^2) normal of covariance sigma_d^2 L L^T, one L for all columns.

    That is the posterior of complete data given the factors, where one G serves all columns. The mean is drawn first
    and the loadings given it. The noise is parametrised by its scale and its degrees of freedom. If the program keeps
    the factors, q of them is their exact conditional.

    Args:
        posterior: The model given the whole table, or a minibatch that stands for it; starting values are a few EM
            steps from a random start (torch's global generator).
    """

    streams = True

    def __init__(self, posterior: Posterior):
        model, data = posterior.model, posterior.data
        state = Solver(posterior).after(STEPS)
        self.posterior, self.model, like = posterior, model, state.mean
        M, N = model.num_factors, data.total_rows or data.shape[0]
        precision = torch.block_diag(
            model.loadings_prior_precision(like) + N * torch.eye(M, dtype=like.dtype, device=like.device),
            like.new_tensor([[model.scales[0] + N]]),
        )
        factor = torch.linalg.cholesky(torch.linalg.inv(precision))
        degrees = model.noise_degrees + (N / data.shape[0]) * data.observed.sum(0).to(like)
        self.start = {
            "loadings_mean": (state.loadings[0], constraints.real),
            "mean_mean": (state.mean[0], constraints.real),
            "loadings_factor": (factor[:M, :M], constraints.lower_cholesky),
            "mean_scale": (factor[M, M], constraints.positive),
            "slope": (like.new_zeros(M), constraints.real),
            "noise_scale": (state.noise_variance[0], constraints.positive),
            "noise_degrees": (degrees, constraints.positive),
        }

    def __call__(self, data: Table) -> None:
        """Sample the global sites, and the factors where the program has them."""
        q = {name: pyro.param(name, value, constraint=where) for name, (value, where) in self.start.items()}
        half = 0.5 * q["noise_degrees"]
        with pyro.plate("column", data.shape[1], dim=-1):
            noise = pyro.sample("noise_variance", dist.InverseGamma(half, half * q["noise_scale"]))
            sd = noise.sqrt()
            mean = pyro.sample("mean", dist.Normal(q["mean_mean"], sd * q["mean_scale"]))
            given = q["loadings_mean"] + (mean - q["mean_mean"]).unsqueeze(-1) * q["slope"]
            loadings = pyro.sample(
                "loadings", dist.MultivariateNormal(given, scale_tril=sd[:, None, None] * q["loadings_factor"])
            )
        if self.model.sum_out_factors:
            return
        rows, whole = data.shape[0], self.posterior
        layout = whole.layout if data is whole.data else Layout.of(data)
        point = {"loadings": loadings[None], "mean": mean[None], "noise_variance": noise[None]}
        centre, covariance = layout.conditionals(layout.known(point))
        with pyro.plate("row", data.total_rows or rows, subsample=torch.arange(rows, device=mean.device), dim=-1):
            pyro.sample("factors", dist.MultivariateNormal(centre[0], covariance[0]))
