"""Bayesian regression: the last column of a table from the others.

python -m pyrozoo model=examples/bayesian_regression.py inference=nuts data=table data.path=houses.csv
pyrozoo.fit(BayesianRegression(), "nuts", data=frame)
"""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pyro.distributions as dist

from pyrozoo import Model, Table, positive


@dataclass(frozen=True)
class BayesianRegression(Model):
    """Normal linear regression.

    Attributes:
        slope_scale: Prior standard deviation of the slopes, and of the intercept.
        noise_scale: Scale of the half-normal prior of the noise's standard deviation.
    """

    slope_scale: float = positive(default=2.0)
    noise_scale: float = positive(default=1.0)

    def __call__(self, data: Table) -> None:
        """Run the program. Covariates are a site too, so that data can be simulated of nothing but their size."""
        x, y = data.filled[:, :-1], data.filled[:, -1]
        covariate = pyro.plate("covariate", x.shape[1], dim=-1)
        with pyro.plate("table", len(x), dim=-2), covariate:
            x = pyro.sample("covariates", dist.Normal(x.new_zeros(()), 1.0), obs=x)
        with covariate:
            slope = pyro.sample("slope", dist.Normal(x.new_zeros(()), self.slope_scale))
        intercept = pyro.sample("intercept", dist.Normal(x.new_zeros(()), self.slope_scale))
        noise = pyro.sample("noise", dist.HalfNormal(x.new_tensor(self.noise_scale)))
        with pyro.plate("row", len(x), dim=-1):
            pyro.sample("response", dist.Normal(intercept + x @ slope, noise), obs=y)
