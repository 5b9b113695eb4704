"""The guide of SVI for my_model."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from pyrozoo.data.table import Table
from pyrozoo.models.my_model.posterior import Posterior


class Guide:
    """q of the global sites; the row's latent variable is enumerated in the program.

    Args:
        posterior: The model given the whole table; starting values are drawn from torch's global generator.
    """

    def __init__(self, posterior: Posterior):
        self.model = posterior.model
        self.start = {site: value[0] for site, value in posterior.initial(1).items()}

    def __call__(self, data: Table) -> None:
        """Sample the global sites, in plates named and placed as the program's."""
        columns = pyro.plate("column", data.shape[1], dim=-1)
        ...  # FILL q: for every site pyro.param(name, start, constraint=...), then pyro.sample(site, ...)
