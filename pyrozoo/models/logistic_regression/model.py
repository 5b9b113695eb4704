"""Logistic regression: its hyper-parameters and its Pyro program; linear regression is another likelihood of it."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.settings import flag, one_of, positive
from pyrozoo.data.responses import Responses


@dataclass(frozen=True)
class LogisticRegression(Model):
    r"""Regression of a response on covariates.

    Story, for rows i = 1..N, covariates x_i, an intercept among them, and coefficients beta::

        bernoulli  beta_j ~ N(0, s_j^2),                                      y_i ~ Bernoulli(1 / (1 + exp(-x_i' beta)))
        normal     v ~ InvGamma(nu / 2, nu t^2 / 2), beta_j ~ N(0, v s_j^2),  y_i ~ N(x_i' beta, v)

    Covariates are from their means in units of their sds, unless they are 0 or 1 only; so is y of ``normal``. A missing
    response is summed out. Covariates are known: nothing is said of them. Gelman et al. 2013, chapters 14 and 16.

    Attributes:
        likelihood: ``bernoulli`` of a response 0 or 1: logistic regression; ``normal`` of a number: linear regression.
        intercept: Whether there is one; it is the first coefficient then.
        standardize: Whether columns are taken from their means in units of their sds.
        intercept_scale: s of the intercept; of ``normal`` in units of the noise's sd.
        coefficient_scale: s of every other coefficient, likewise.
        noise_degrees: nu: how many rows the prior of the noise is worth.
        noise_scale: t: the sd of the noise that it expects.
    """

    likelihood: str = one_of("bernoulli", "normal")
    intercept: bool = flag()
    standardize: bool = flag()
    intercept_scale: float = positive()
    coefficient_scale: float = positive()
    noise_degrees: float = positive()
    noise_scale: float = positive()

    @property
    def linear(self) -> bool:
        """Whether the response is a number."""
        return self.likelihood == "normal"

    def design(self, data: Responses) -> Float[Tensor, "N P"]:
        """Return the covariates as coefficients see them, the intercept's first."""
        covariates = data.standard() if self.standardize else data.covariates
        return torch.cat([torch.ones_like(data.values), covariates], 1) if self.intercept else covariates

    def scales(self, like: Tensor, size: int) -> Float[Tensor, P]:
        """Return s of the coefficients."""
        found = like.new_full((size,), self.coefficient_scale)
        if self.intercept:
            found[0] = self.intercept_scale
        return found

    def unit(self, data: Responses) -> tuple[Tensor, Tensor]:
        """Return where the response is measured from, and in which unit."""
        if self.linear and self.standardize:
            return data.centre[-1], data.unit[-1]
        return data.centre.new_zeros(()), data.centre.new_ones(())

    def __call__(self, data: Responses) -> None:
        """Run the program; the rows may be a minibatch."""
        design, N = self.design(data), data.shape[0]
        scales = self.scales(design, design.shape[1])
        if self.linear:
            half = design.new_tensor(self.noise_degrees / 2)
            variance = pyro.sample("noise_variance", dist.InverseGamma(half, half * self.noise_scale**2))
            scales = scales * variance.sqrt()
        beta = pyro.sample("coefficients", dist.Normal(torch.zeros_like(scales), scales).to_event(1))
        mean = (design @ beta).unsqueeze(-1)
        if self.linear:
            centre, unit = self.unit(data)
            response = dist.Normal(centre + unit * mean, unit * variance.sqrt())
        else:
            response = dist.Bernoulli(logits=mean)
        rows = pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=design.device), dim=-2)
        with rows, pyro.plate("column", 1, dim=-1):
            pyro.sample("response", response.mask(data.observed), obs=data.filled)
