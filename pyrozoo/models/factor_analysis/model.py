"""Bayesian factor analysis: its hyper-parameters and its Pyro program."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

from pyrozoo.contracts.model import Derived, Model
from pyrozoo.contracts.symmetry import Rotate, Sites
from pyrozoo.core.draws import Values
from pyrozoo.core.settings import flag, one_of, positive, stated, whole
from pyrozoo.data.table import Table
from pyrozoo.program.whole import Whole

WEAK, SHARE, ROUNDING = 0.01, 0.1, 1e-13
"""Of settings derived from data: prior precision of a mean in units of the noise, where the mean is near 0; share of
noise in a column's variance; share of a column's mean square below which its variance is rounding."""


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
        mean_precision: lambda0, positive: the same for the mean; None derives it from the data.
        noise_degrees: nu0, positive: how many observations the prior of the noise is worth.
        noise_scale: s0^2, positive: where it puts the noise variance; None derives it from the data.
        sum_out_factors: Whether the program sums the factors out, or keeps them as a site.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    without_data: ClassVar[Mapping[str, float]] = {"mean_precision": 0.01, "noise_scale": 1.0}

    # A declared range is no default, which mypy does not know.
    num_factors: int = whole()
    prior: Literal["independent", "matrix_normal"] = one_of("independent", "matrix_normal")
    loadings_precision: float = positive()
    loadings_covariance: Sequence[float] | Sequence[Sequence[float]] | None = stated()
    mean_precision: float | None = positive(optional=True)
    noise_degrees: float = positive()
    noise_scale: float | None = positive(optional=True)
    sum_out_factors: bool = flag()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loadings_covariance is None:
            return
        if self.prior != "matrix_normal":
            self.refuse("loadings_covariance", "it needs model.prior=matrix_normal")
        try:
            given = torch.tensor(self.loadings_covariance, dtype=torch.float64)
        except ValueError:  # rows of different lengths
            given = torch.empty(0)
        M = self.num_factors
        if given.shape not in ((M,), (M, M)):
            self.refuse("loadings_covariance", f"it must be {M} variances, or {M} by {M} numbers")
        matrix = given if given.ndim == 2 else given.diag()
        if not torch.allclose(matrix, matrix.T) or torch.linalg.cholesky_ex(matrix)[1]:
            self.refuse("loadings_covariance", "it is not a covariance matrix (symmetric, positive definite)")
        frozen = tuple(tuple(row) if isinstance(row, list) else row for row in given.tolist())
        object.__setattr__(self, "loadings_covariance", frozen)

    def from_data(self, data: Table) -> Mapping[str, Derived]:
        """Return lambda0 and s0^2 in the units of the data.

        One number serves columns of all sizes, so it is that of the smallest: a prior too large would drown a column,
        one too small hardly counts.
        """
        mean, variance = _moments(data)
        varies = variance > ROUNDING * (mean.square() + variance)
        mean, variance = mean[varies], variance[varies]
        share = variance / (mean.square() + variance)
        return {
            "mean_precision": Derived(
                WEAK * float(share.min()) if len(share) else WEAK,
                f"{WEAK} x the smallest ratio, over columns that vary, of variance to mean square",
            ),
            "noise_scale": Derived(
                SHARE * len(variance) / float((1 / variance).sum()) if len(variance) else 1.0,
                f"{SHARE} x the harmonic mean of the variances of columns that vary",
            ),
        }

    @property
    def scales(self) -> tuple[float, float]:
        """lambda0 and s0^2, which ``given`` has taken from the data where they were left to them."""
        if self.mean_precision is None or self.noise_scale is None:
            self.refuse("noise_scale", "it and mean_precision are left to the data, which Posterior.of asks")
        return self.mean_precision, self.noise_scale

    @property
    def symmetry(self) -> Rotate:
        """Factors can be turned; the prior of the loadings notices unless it is isotropic."""
        return (Rotate if self.isotropic else _Held)("factor", _scaled)

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
        half, (mean_precision, noise_scale) = like.new_tensor(0.5 * self.noise_degrees), self.scales
        scale = torch.linalg.cholesky(torch.linalg.inv(self.loadings_prior_precision(like)))
        with pyro.plate("column", D, dim=-1):
            noise = pyro.sample("noise_variance", dist.InverseGamma(half, half * noise_scale))
            mean = pyro.sample("mean", dist.Normal(0.0, (noise / mean_precision).sqrt()))
            zero, root = like.new_zeros(self.num_factors), noise.sqrt()[..., None, None] * scale
            loadings = pyro.sample("loadings", dist.MultivariateNormal(zero, scale_tril=root))
        with pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=like.device), dim=-1):
            if self.sum_out_factors:
                pyro.sample("values", RowNormal(loadings, mean, noise, data.observed), obs=data.filled)
                return
            standard = dist.Normal(like.new_zeros(self.num_factors), 1.0).to_event(1)
            z = pyro.sample("factors", standard)
            cells = dist.Normal(z @ loadings.mT + mean, noise.sqrt()).mask(data.observed)
            pyro.sample("values", cells.to_event(1), obs=data.filled)


def _moments(data: Table) -> tuple[Float[Tensor, D], Float[Tensor, D]]:
    """Return mean and variance of the observed values of every column, in double precision."""
    count = data.observed.sum(0).clamp(min=1)
    mean = data.filled.double().sum(0) / count
    return mean, torch.where(data.observed, data.filled.double() - mean, 0.0).square().sum(0) / count


class _Held(Rotate):
    """Turns that the likelihood leaves free and the prior does not: there is no orbit of equal density."""

    def orbit(self, values: Values, sites: Sites) -> tuple[int, float]:
        """Return no dimension."""
        return 0, 0.0


def _scaled(flat: Values) -> Float[Tensor, "S D M"]:
    """Return loadings in units of the noise: the rotation of the factors that the data know best."""
    noise = flat["noise_variance"]
    # Relative to the draw's own level, so that a draw of small noise does not outweigh the others.
    level = torch.exp(0.5 * noise.log().mean(-1, keepdim=True))
    return flat["loadings"] * (level / noise.sqrt()).unsqueeze(-1)


class RowNormal(Whole):
    """x_n ~ N(mean, W W^T + diag(noise)), of which only the observed entries count in ``log_prob``.

    Samples are whole rows. N x D x M numbers when something is missing: for programs and tests; solvers do without.

    Args:
        loadings: W.
        mean: mu.
        noise_variance: sigma^2.
        observed: Which entries have a value.
    """

    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, loadings: Float[Tensor, "D M"], mean: Float[Tensor, D], noise_variance: Float[Tensor, D],
        observed: Bool[Tensor, "N D"],
    ):  # fmt: skip
        self.loadings, self.mean_, self.noise_variance, self.observed = loadings, mean, noise_variance, observed
        super().__init__(observed.shape[:-1], observed.shape[-1:])

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw whole rows."""
        shape = torch.Size(sample_shape) + self.batch_shape
        return _normal(self.mean_, self.loadings, self.noise_variance).rsample(shape)

    def log_prob(self, value: Float[Tensor, "N D"]) -> Float[Tensor, N]:
        """Return the log density of the observed entries of every row."""
        mean, loadings, noise, seen = self.mean_, self.loadings, self.noise_variance, self.observed
        if not seen.all():
            # An entry with no loadings, at its mean, with variance 1 / 2 pi, has log density 0.
            mean, loadings = torch.where(seen, mean, 0.0), torch.where(seen.unsqueeze(-1), loadings, 0.0)
            noise, value = torch.where(seen, noise, 1 / (2 * math.pi)), torch.where(seen, value, 0.0)
        return _normal(mean, loadings, noise).log_prob(value)


def _normal(mean: Tensor, loadings: Tensor, noise: Tensor) -> Any:
    return dist.LowRankMultivariateNormal(mean, loadings, noise, validate_args=False)
