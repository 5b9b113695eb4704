"""The hand-built guide of SVI: independent normals for the global sites and for every row's latent vector."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import constraints
from torch import Tensor

from pyrozoo.data.survey import Survey
from pyrozoo.models.categorical_fa.laplace_em import Solver
from pyrozoo.models.categorical_fa.model import CategoricalFA
from pyrozoo.models.categorical_fa.posterior import Posterior
from pyrozoo.program.inverse_wishart import CovarianceTransform

STEPS, SCALE = 3, 0.1
"""Laplace EM iterations before the first gradient; standard deviation of the global sites at the start."""


class Guide:
    """Independent normals, for global sites and latent vectors.

    q of loadings, intercepts, mean and hidden units; of Sigma by its Cholesky factor, the diagonal as logarithms; and
    of z_u, with a mean and a scale per row and dimension. The program keeps the latent vectors: their bound needs no
    quadrature.

    Args:
        posterior: The model given the whole survey; starting values are a few EM steps from a random start (torch's
            global generator).
    """

    def __init__(self, posterior: Posterior):
        solver = Solver(posterior)
        state = solver.after(STEPS)
        self.posterior, self.sites = posterior, {site: value[0] for site, value in solver.sites(state).items()}
        if "latent_covariance" in self.sites:
            self.sites["latent_covariance"] = CovarianceTransform().inv(self.sites["latent_covariance"])
        self.start_rows(state.q_mean[0])

    @staticmethod
    def program(model: CategoricalFA) -> CategoricalFA:
        """Return the program that keeps the latent vectors."""
        return dataclasses.replace(model, sum_out_latent=False)

    def start_rows(self, mode: Float[Tensor, "N d"]) -> None:
        """Take starting values of the rows' latent vectors."""
        self.mode = mode

    def rows(self, data: Survey) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
        """Return mean and scale of q(z_u) of the rows of a minibatch."""
        mean = pyro.param("row_mean", self.mode)
        scale = pyro.param("row_scale", torch.full_like(self.mode, 0.5), constraint=constraints.positive)
        return mean[data.rows], scale[data.rows]

    def _normal(self, site: str) -> Any:
        value = self.sites[site]
        mean = pyro.param(f"{site}_mean", value)
        scale = pyro.param(f"{site}_scale", torch.full_like(value, SCALE), constraint=constraints.positive)
        return dist.Normal(mean, scale)

    def __call__(self, data: Survey) -> None:
        """Sample the global sites and the latent vectors."""
        for plate, sites in (("contrast", ("loadings", "intercepts")), ("hidden", ("hidden_weights", "hidden_biases"))):
            there = [site for site in sites if site in self.sites]
            if there:
                with pyro.plate(plate, len(self.sites[there[0]]), dim=-1):
                    for site in there:
                        pyro.sample(site, self._normal(site).to_event(self.sites[site].ndim - 1))
        if "latent_mean" in self.sites:
            pyro.sample("latent_mean", self._normal("latent_mean").to_event(1))
        if "latent_covariance" in self.sites:
            free = self._normal("latent_covariance").to_event(1)
            pyro.sample("latent_covariance", dist.TransformedDistribution(free, [CovarianceTransform()]))
        mean, scale = self.rows(data)
        index = torch.arange(len(mean), device=mean.device)
        with pyro.plate("row", data.total_rows or len(mean), subsample=index, dim=-1):
            pyro.sample("latent", dist.Normal(mean, scale).to_event(1))
