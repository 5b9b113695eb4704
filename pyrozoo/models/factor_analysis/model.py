"""Bayesian factor analysis: its Pyro program and the functions of its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.container import MOST_PAIRED
from pyrozoo.data.table import Table
from pyrozoo.math.alignment import log_orbit, procrustes, rotations
from pyrozoo.math.moments import column_moments, row_mean_quantiles
from pyrozoo.models.factor_analysis.distributions import RowNormal
from pyrozoo.models.factor_analysis.likelihood import BLOCK_ELEMENTS, Layout, point_columns
from pyrozoo.models.factor_analysis.queries import predict

LARGEST = {torch.float64: 1e100, torch.float32: 1e12}
"""Values whose squares and products can still be added up."""

START_ROWS = 2000
"""Rows behind a starting point."""


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

    sites: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "loadings": ("column", "factor"),
        "mean": ("column",),
        "noise_variance": ("column",),
    }
    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        "column_mean": ("column",),
        "column_variance": ("column",),
        "communality": ("column",),
        "covariance": ("pair",),
    }
    observed_site: ClassVar[str] = "values"
    container: ClassVar[type] = Table
    unit: ClassVar[str] = "row"

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

    def check(self, data: Table) -> None:
        """Raise DataError unless every column has a value and no value is too large to square."""
        if not isinstance(data, Table):
            raise DataError(f"factor_analysis needs a table (rows by columns), not {type(data).__name__}")
        data.checked().refuse_empty_columns()
        for part in (data, *([data.test] if data.test is not None else [])):
            limit = LARGEST[part.values.dtype]
            part.refuse(part.filled.abs() > limit, f"is too large (at most {limit:g} in this precision)")

    def initial(self, data: Table, chains: int) -> Draws:
        """Return starting values: principal axes of random halves of the rows, holes at the mean, turned at random.

        Random halves and random turns make chains differ; the likelihood has one mode but for rotations, so that
        starts close to it lose nothing and spare hundreds of sweeps.
        """
        layout, like, M = Layout.of(data), data.values, self.num_factors
        N, D = data.shape
        # A column without variation has noise of the prior's scale rather than none.
        count = layout.observations.clamp(min=1)
        variance = (layout.squares.to(like) + self.noise_degrees * self.noise_scale) / (count + self.noise_degrees)
        loadings = (
            0.1 * (variance / M).sqrt()[:, None] * torch.randn(chains, D, M, dtype=like.dtype, device=like.device)
        )
        for chain in range(chains):
            rows = torch.randperm(N, device=like.device)[: max(min(N, 2), min(N // 2, START_ROWS))]
            some = layout.values[rows]
            _, size, axes = torch.svd_lowrank(some, q=min(M + 5, *some.shape), niter=2)
            rank = min(M, len(size))
            turn = torch.linalg.qr(torch.randn(M, M, dtype=like.dtype, device=like.device))[0]
            principal = axes[:, :rank] * size[:rank] / max(1, len(rows)) ** 0.5
            loadings[chain] += principal @ turn[:rank]
        explained = loadings.square().sum(-1)
        return {
            "loadings": loadings,
            "mean": layout.offset.expand(chains, D).clone(),
            "noise_variance": torch.maximum(variance - explained, 0.1 * variance),
        }

    def pointwise_log_likelihood(self, draws: Draws, data: Table) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_n | loadings, mean, noise_variance) of every row, the factors summed out."""
        layout = Layout.of(data)
        flat = [draws[site].flatten(0, 1) for site in ("loadings", "mean", "noise_variance")]
        at_once = max(1, BLOCK_ELEMENTS // (len(layout.sizes) * (self.num_factors + 1) ** 2))
        parts = zip(*(value.split(at_once) for value in flat), strict=True)
        pointwise = torch.cat([layout.pointwise(point_columns(W, mean, noise, layout)) for W, mean, noise in parts])
        return pointwise.unflatten(0, draws["mean"].shape[:2])

    def effort(self, data: Table) -> float:
        """Return the multiplications of the likelihood of one draw: a product with the mask and N factorisations."""
        patterns, groups = Layout.of(data).seen.shape
        M = self.num_factors
        return 0.5 * patterns * groups * M**2 + patterns * M**3 + 2.0 * data.values.numel() * M

    def canonical(self, draws: Draws, reference: Draws | None = None) -> Draws:
        """Turn the factors, draw by draw: toward the reference's mean, else onto each other and to principal axes."""
        shape = draws["mean"].shape[:2]
        if reference is None:
            scaled = _scaled(draws)
            turn = rotations(scaled)
        else:
            turn = procrustes(_scaled(draws), _scaled(reference).mean(0))
        turned = draws["loadings"].flatten(0, 1) @ turn
        return {"loadings": turned.unflatten(0, shape), **{s: draws[s] for s in self.sites if s != "loadings"}}

    def symmetry(self, values: Mapping[str, Tensor]) -> tuple[int, float]:
        """Return dimension and log volume of the orbit {W R: R orthogonal}."""
        return log_orbit(values["loadings"].mT @ values["loadings"]) if self.isotropic else (0, 0.0)

    def invariants(self, draws: Draws, data: Table, log_likelihood: Tensor | None = None) -> Draws:
        """Return quantities that no rotation changes.

        ``log_likelihood``; per column ``column_mean``, ``column_variance`` and ``communality``, the share of the
        variance that the factors explain; and, for up to 30 columns, every ``covariance`` between two of them.
        """
        W, noise = draws["loadings"], draws["noise_variance"]
        explained = W.square().sum(-1)
        result = {
            "log_likelihood": self.log_likelihood(draws, data) if log_likelihood is None else log_likelihood,
            "column_mean": draws["mean"],
            "column_variance": explained + noise,
            "communality": explained / (explained + noise),
        }
        D = W.shape[-2]
        if 1 < D <= MOST_PAIRED:
            i, j = torch.tril_indices(D, D, -1, device=W.device)
            result["covariance"] = (W @ W.mT)[..., i, j]
        return result

    def checks(self, values: Tensor, data: Table) -> Draws:
        """Return mean, sd and skewness of columns, and quantiles of rows' means: what is not normal shows in them."""
        seen = values.where(data.observed, torch.nan)
        mean, variance, skewness = column_moments(seen)
        return {
            "column_mean": mean,
            "column_sd": variance.sqrt(),
            "column_skewness": skewness,
            "row_mean": row_mean_quantiles(seen),
        }

    def predict(self, draws: Draws, data: Table) -> Prediction:
        """Predict hidden values from the observed values of the same row."""
        return predict(draws, data)


def _scaled(draws: Draws) -> Float[Tensor, "S D M"]:
    """Return loadings in units of the noise: the rotation of the factors that the data know best."""
    noise = draws["noise_variance"].flatten(0, 1)
    # Relative to the draw's own level, so that a draw of small noise does not outweigh the others.
    level = torch.exp(0.5 * noise.log().mean(-1, keepdim=True))
    return draws["loadings"].flatten(0, 1) * (level / noise.sqrt()).unsqueeze(-1)
