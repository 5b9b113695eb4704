"""A Gaussian mixture with holes: rows of numbers, some of them missing, in clusters.

python -m pyrozoo model=examples/gaussian_mixture.py inference=nuts
pyrozoo.fit(GaussianMixture(num_components=3), "nuts", data=table)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex

from pyrozoo import Model, Relabel, Table, positive, whole


@dataclass(frozen=True)
class GaussianMixture(Model):
    """Mixture of Gaussians with a precision for every column of every component.

    Attributes:
        num_components: How many clusters.
        concentration: Dirichlet concentration of their weights.
        spread: How far the means lie apart, in standard deviations of their component.
        shape: Gamma shape of the precisions.
    """

    num_components: int = whole(default=2)
    concentration: float = positive(default=5.0)
    spread: float = positive(default=5.0)
    shape: float = positive(default=5.0)

    dims: ClassVar = {"weights": ("component",)}

    @property
    def symmetry(self) -> Relabel:
        """Components can be exchanged."""
        return Relabel("component", weight="weights")

    def __call__(self, data: Table) -> None:
        """Run the program: the mean's prior depends on the precision, and the assignment is summed out."""
        x, K, D = data.filled, self.num_components, data.shape[1]
        weights = pyro.sample("weights", dist.Dirichlet(x.new_full((K,), self.concentration)))
        column = pyro.plate("column", D, dim=-1)
        with pyro.plate("component", K, dim=-2), column:
            precision = pyro.sample("precision", dist.Gamma(x.new_tensor(self.shape), x.new_tensor(self.shape)))
            mean = pyro.sample("mean", dist.Normal(x.new_zeros(()), self.spread / precision.sqrt()))
        with pyro.plate("row", data.shape[0], dim=-2):
            z = pyro.sample("assignment", dist.Categorical(weights))
            with column:
                at = torch.arange(D)
                cell = dist.Normal(Vindex(mean)[z, at], Vindex(precision)[z, at].rsqrt())
                pyro.sample("values", cell.mask(data.observed), obs=x)
