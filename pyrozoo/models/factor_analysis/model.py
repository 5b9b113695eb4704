"""Bayesian factor analysis: its Pyro program and the functions of its draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.errors import SettingError
from pyrozoo.data.table import Table
from pyrozoo.models.factor_analysis.distributions import RowNormal


@dataclass(frozen=True)
class FactorAnalysis(Model):
    r"""Bayesian factor analysis.

    Story, for rows n = 1..N, columns d = 1..D, factors m = 1..M::

        noise_variance  sigma_d^2 ~ scaled inverse chi^2(nu0, s0^2)              [column]  (squared units of the column)
        loadings        w_d       ~ N(0, sigma_d^2 I / kappa0)                   [column, factor]
        mean            mu_d      ~ N(0, sigma_d^2 / lambda0)                    [column]
        factors         z_n       ~ N(0, I)                                      [row, factor]
        values          x_nd      ~ N(w_d . z_n + mu_d, sigma_d^2)               [row, column]

    so that x_n ~ N(mu, W W^T + diag(sigma^2)). Scaled inverse chi^2(nu, s^2) is InvGamma(nu / 2, nu s^2 / 2). A missing
    value is summed out. With ``prior=matrix_normal``, W ~ MN(0, diag(sigma^2), Sigma_c): Sigma_c takes the place of
    I / kappa0. W is known up to a rotation: W R and R^T z say the same (Bishop 2006, section 12.2.4; Geweke and
    Zhou 1996, Review of Financial Studies 9).

    Attributes:
        num_factors: M, at least 1; it may exceed the number of columns.
        prior: Of the loadings: ``independent`` or ``matrix_normal``.
        loadings_precision: kappa0, positive: prior precision of loadings in units of the noise.
        loadings_covariance: Sigma_c for ``matrix_normal``: M variances, or M by M; None is I / kappa0.
        mean_precision: lambda0, positive: the same for the mean.
        noise_degrees: nu0, positive: how many observations the prior of the noise is worth.
        noise_scale: s0^2, positive: where it puts the noise variance.
        sum_out_factors: Whether the program sums the factors out, or keeps them as a site.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    num_factors: int
    prior: Literal["independent", "matrix_normal"]
    loadings_precision: float
    loadings_covariance: Sequence[float] | Sequence[Sequence[float]] | None
    mean_precision: float
    noise_degrees: float
    noise_scale: float
    sum_out_factors: bool

    def __post_init__(self) -> None:
        if not isinstance(self.num_factors, int) or isinstance(self.num_factors, bool) or self.num_factors < 1:
            raise SettingError(f"model.num_factors is {self.num_factors!r}; it must be a whole number >= 1")
        if self.prior not in ("independent", "matrix_normal"):
            raise SettingError(f"model.prior is {self.prior!r}; it must be independent or matrix_normal")
        for name in ("loadings_precision", "mean_precision", "noise_degrees", "noise_scale"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise SettingError(f"model.{name} is {value!r}; it must be a positive number")
        if self.loadings_covariance is not None:
            self._check_covariance()

    def _check_covariance(self) -> None:
        if self.prior != "matrix_normal":
            raise SettingError("model.loadings_covariance needs model.prior=matrix_normal")
        try:
            given = torch.tensor(self.loadings_covariance, dtype=torch.float64)
        except (TypeError, ValueError):
            given = torch.empty(0)
        M = self.num_factors
        if given.shape not in ((M,), (M, M)):
            raise SettingError(f"model.loadings_covariance must be {M} variances, or {M} by {M} numbers")
        matrix = given if given.ndim == 2 else given.diag()
        if not torch.allclose(matrix, matrix.T) or torch.linalg.cholesky_ex(matrix)[1]:
            raise SettingError("model.loadings_covariance is not a covariance matrix (symmetric, positive definite)")
        plain = given.tolist()
        frozen = tuple(tuple(row) if isinstance(row, list) else row for row in plain)
        object.__setattr__(self, "loadings_covariance", frozen)

    @property
    def isotropic(self) -> bool:
        """Whether the prior of the loadings is the same in every direction."""
        return self.loadings_covariance is None

    def loadings_prior_precision(self, like: Tensor) -> Float[Tensor, "M M"]:
        """Return Sigma_c^-1, which is kappa0 I for the independent prior."""
        if self.loadings_covariance is None:
            return self.loadings_precision * torch.eye(self.num_factors, dtype=like.dtype, device=like.device)
        given = like.new_tensor(self.loadings_covariance)
        return torch.linalg.inv(given if given.ndim == 2 else given.diag())

    def __call__(self, data: Table) -> None:
        """Run the program. Rows may be a minibatch."""
        like, (N, D) = data.values, data.shape
        half = like.new_tensor(0.5 * self.noise_degrees)
        scale = torch.linalg.cholesky(torch.linalg.inv(self.loadings_prior_precision(like)))
        with pyro.plate("column", D, dim=-1):
            noise = pyro.sample("noise_variance", dist.InverseGamma(half, half * self.noise_scale))
            mean = pyro.sample("mean", dist.Normal(0.0, (noise / self.mean_precision).sqrt()))
            loadings = pyro.sample(
                "loadings",
                dist.MultivariateNormal(
                    like.new_zeros(self.num_factors), scale_tril=noise.sqrt()[..., None, None] * scale
                ),
            )
        with pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=like.device), dim=-1):
            if self.sum_out_factors:
                pyro.sample("values", RowNormal(loadings, mean, noise, data.observed), obs=data.filled)
                return
            standard = dist.Normal(like.new_zeros(self.num_factors), 1.0).to_event(1)
            z = pyro.sample("factors", standard)
            cells = dist.Normal(z @ loadings.mT + mean, noise.sqrt()).mask(data.observed)
            pyro.sample("values", cells.to_event(1), obs=data.filled)
