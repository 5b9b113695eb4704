"""The guide of SVI for my_model."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.distributions import constraints

from pyrozoo.data.table import Table
from pyrozoo.models.my_model.model import MyModel

# FILL imports: what your lines need beside these


class Guide:
    """q of the global sites; the row's latent variable is enumerated in the program.

    Args:
        model: The model.
        data: The whole table; starting values are drawn from torch's global generator.
    """

    def __init__(self, model: MyModel, data: Table):
        self.model, self.start = model, {site: value[0] for site, value in model.initial(data, 1).items()}

    def __call__(self, data: Table) -> None:
        """Sample the global sites, in plates named and placed as the program's."""
        columns = pyro.plate("column", data.shape[1], dim=-1)
        ...  # FILL q: for every site pyro.param(name, start, constraint=...), then pyro.sample(site, ...)
