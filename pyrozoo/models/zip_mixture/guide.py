"""The hand-built guide of SVI: the same conjugate factors as CAVI, fitted by stochastic gradients."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture.cavi import Solver
from pyrozoo.models.zip_mixture.model import ZipMixture


class Guide:
    """q(weights) Dirichlet, q(on_prob) Beta, q(rate) Gamma; the assignment is enumerated in the model.

    Rates are parametrised by log mean and log shape, whose gradients have one scale for all counts.

    Args:
        model: The model.
        data: The whole table; starting values are CAVI's, from torch's global generator.
    """

    def __init__(self, model: ZipMixture, data: Table):
        state = Solver(model, data).init(1)
        self.model = model
        self.start = {
            "concentration": state.concentration[0],
            "on_alpha": state.on_alpha[0],
            "on_beta": state.on_beta[0],
            "rate_mean": (state.shape / state.rate)[0],
            "rate_shape": state.shape[0],
        }

    def __call__(self, data: Table) -> None:
        """Sample the global sites."""
        q = {
            name: pyro.param(f"{name}_q", value, constraint=constraints.positive) for name, value in self.start.items()
        }
        tiny = torch.finfo(data.values.dtype).tiny
        pyro.sample("weights", dist.Dirichlet(q["concentration"]))
        with (
            pyro.plate("component", self.model.num_components, dim=-2),
            pyro.plate("column", data.shape[1], dim=-1),
        ):
            pyro.sample("on_prob", dist.Beta(q["on_alpha"], q["on_beta"]))
            pyro.sample("rate", dist.Gamma(q["rate_shape"], q["rate_shape"] / q["rate_mean"].clamp(min=tiny)))
