"""Gaussian matrix factorization: its Pyro program and the functions of its draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.ratings import Ratings
from pyrozoo.math.alignment import log_orbit, procrustes, rotations
from pyrozoo.models.gaussian_mf.distributions import ListedNormal
from pyrozoo.models.gaussian_mf.likelihood import fitted, linear, pointwise
from pyrozoo.models.gaussian_mf.prediction import expected, log_densities, predict

LARGEST = {torch.float64: 1e100, torch.float32: 1e12}
"""Ratings whose squares can still be added up."""


@dataclass(frozen=True)
class GaussianMF(Model):
    r"""Bayesian (Gaussian) matrix factorization of ratings.

    Story, for rows (users) i = 1..N, columns (items) j = 1..M, factors k = 1..K, and the listed pairs (i, j) only::

        row_factors     u_i  ~ N(0, row_factor_variance I)              [row, factor]
        column_factors  v_j  ~ N(0, column_factor_variance I)           [column, factor]
        ratings         r_ij ~ N(mu + a_i + b_j + u_i . v_j, s^2)       [entry]

    The noise variance s^2 is ``noise_variance``, or with ``learn_noise`` a site::

        noise_variance  s^2  ~ InvGamma(noise_shape, noise_shape noise_variance)

    mu, a and b are 0, or with ``offsets`` sites::

        mean            mu   ~ N(0, mean_variance)
        row_offsets     a_i  ~ N(0, offset_variance)                    [row]
        column_offsets  b_j  ~ N(0, offset_variance)                    [column]

    With ``hierarchical`` (Salakhutdinov and Mnih 2008, ICML) the factors of rows have a mean and a precision of their
    own, and likewise those of columns::

        row_precision   Lambda ~ Wishart(nu, I / (nu row_factor_variance))      [factor, factor]
        row_mean        m      ~ N(0, (mean_strength Lambda)^-1)                [factor]
        row_factors     u_i    ~ N(m, Lambda^-1)

    Which pairs are rated is taken to say nothing about the ratings. Factors are known up to a rotation: U R and V R say
    the same. Compare predictions; factors are turned onto each other before they are.

    Attributes:
        num_factors: K, at least 1.
        row_factor_variance: s_u^2, positive.
        column_factor_variance: s_v^2, positive.
        noise_variance: s^2 in squared units of the ratings, positive; where its prior puts it when it is learned.
        learn_noise: Whether the noise variance is a site.
        noise_shape: Shape of its prior, positive: half the number of ratings that it is worth.
        offsets: Whether there are a mean and offsets of rows and columns.
        mean_variance: Prior variance of the mean, positive.
        offset_variance: Prior variance of the offsets, positive.
        hierarchical: Whether means and precisions of the factors are sites.
        degrees_of_freedom: nu, above K - 1; None is K + 2.
        mean_strength: How many rows the prior of the mean is worth, positive.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    num_factors: int
    row_factor_variance: float
    column_factor_variance: float
    noise_variance: float
    learn_noise: bool
    noise_shape: float
    offsets: bool
    mean_variance: float
    offset_variance: float
    hierarchical: bool
    degrees_of_freedom: float | None
    mean_strength: float

    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        "noise_variance": (),
        "row_prediction": ("row",),
        "column_prediction": ("column",),
        "cell_prediction": ("cell",),
    }
    observed_site: ClassVar[str] = "ratings"
    container: ClassVar[type] = Ratings
    unit: ClassVar[str] = "row"

    def __post_init__(self) -> None:
        if not isinstance(self.num_factors, int) or isinstance(self.num_factors, bool) or self.num_factors < 1:
            raise SettingError(f"model.num_factors is {self.num_factors!r}; it must be a whole number >= 1")
        for name in (
            "row_factor_variance", "column_factor_variance", "noise_variance", "noise_shape", "mean_variance",
            "offset_variance", "mean_strength",
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise SettingError(f"model.{name} is {value!r}; it must be a positive number")
        if self.degrees_of_freedom is not None and not self.num_factors - 1 < self.degrees_of_freedom < math.inf:
            raise SettingError(
                f"model.degrees_of_freedom is {self.degrees_of_freedom}; it must be above num_factors - 1 = "
                f"{self.num_factors - 1}"
            )

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites that the options ask for."""
        result: dict[str, tuple[str, ...]] = {}
        if self.learn_noise:
            result["noise_variance"] = ()
        if self.hierarchical:
            for name in ("row", "column"):
                result |= {f"{name}_precision": ("factor", "factor_"), f"{name}_mean": ("factor",)}
        result |= {"row_factors": ("row", "factor"), "column_factors": ("column", "factor")}
        if self.offsets:
            result |= {"mean": (), "row_offsets": ("row",), "column_offsets": ("column",)}
        return result

    @property
    def wishart_degrees(self) -> float:
        """Return nu."""
        return self.num_factors + 2.0 if self.degrees_of_freedom is None else float(self.degrees_of_freedom)

    def factor_variance(self, side: str) -> float:
        """Return s_u^2 (``side`` is row) or s_v^2 (column)."""
        return self.row_factor_variance if side == "row" else self.column_factor_variance

    def __call__(self, data: Ratings) -> None:
        """Run the program. Ratings may be a minibatch."""
        like, K = data.values, self.num_factors
        sizes = dict(zip(("row", "column"), data.shape, strict=True))
        plates = {side: pyro.plate(side, size, dim=-1) for side, size in sizes.items()}
        noise = like.new_tensor(self.noise_variance)
        if self.learn_noise:
            shape = like.new_tensor(self.noise_shape)
            noise = pyro.sample("noise_variance", dist.InverseGamma(shape, shape * self.noise_variance))
        drawn = {}
        for side, plate in plates.items():
            eye = torch.eye(K, dtype=like.dtype, device=like.device)
            prior: Any = dist.Normal(
                like.new_zeros(K), like.new_full((K,), self.factor_variance(side)).sqrt()
            ).to_event(1)
            if self.hierarchical:
                nu = like.new_tensor(self.wishart_degrees)
                scale = eye * (self.wishart_degrees * self.factor_variance(side)) ** -0.5
                precision = pyro.sample(f"{side}_precision", dist.Wishart(nu, scale_tril=scale))
                centre = dist.MultivariateNormal(like.new_zeros(K), precision_matrix=self.mean_strength * precision)
                prior = dist.MultivariateNormal(pyro.sample(f"{side}_mean", centre), precision_matrix=precision)
            with plate:
                drawn[f"{side}_factors"] = pyro.sample(f"{side}_factors", prior)
        if self.offsets:
            zero = like.new_zeros(())
            drawn["mean"] = pyro.sample("mean", dist.Normal(zero, self.mean_variance**0.5))
            for side, plate in plates.items():
                with plate:
                    drawn[f"{side}_offsets"] = pyro.sample(
                        f"{side}_offsets", dist.Normal(zero, self.offset_variance**0.5)
                    )
        if not len(data.values):
            return
        total = len(data.values) if data.total_entries is None else data.total_entries
        with pyro.plate("entry", total, subsample=torch.arange(len(data.values), device=like.device), dim=-1):
            pyro.sample("ratings", ListedNormal(fitted(drawn, data.pattern), noise, data.values), obs=data.values)

    def check(self, data: Ratings) -> None:
        """Raise DataError unless there are ratings whose squares the precision can add up."""
        if not isinstance(data, Ratings):
            raise DataError(f"gaussian_mf needs ratings (row, column, rating), not {type(data).__name__}")
        for part in (data, *([data.test] if data.test is not None else [])):
            limit = LARGEST[part.values.dtype]
            part.refuse(part.counts.abs() > limit, f"is too large (at most {limit:g} in this precision)")

    def initial(self, data: Ratings, chains: int) -> Draws:
        """Return starting values: factors from normals whose products have the spread of the ratings, no offsets."""
        (N, M), K, like = data.shape, self.num_factors, data.values
        r = data.counts
        variance = float(r.var(correction=0)) or self.noise_variance
        scale = (variance / K) ** 0.25
        result = {
            name: scale * torch.randn(chains, size, K, dtype=like.dtype, device=like.device)
            for name, size in (("row_factors", N), ("column_factors", M))
        }
        if self.learn_noise:
            result["noise_variance"] = like.new_full((chains,), variance) * (0.5 + torch.rand(chains).to(like))
        if self.hierarchical:
            for side in ("row", "column"):
                eye = torch.eye(K, dtype=like.dtype, device=like.device)
                result[f"{side}_precision"] = (eye / scale**2).repeat(chains, 1, 1)
                result[f"{side}_mean"] = like.new_zeros(chains, K)
        if self.offsets:
            result["mean"] = r.mean().expand(chains).clone()
            for name, size in (("row_offsets", N), ("column_offsets", M)):
                result[name] = 0.1 * variance**0.5 * torch.randn(chains, size, dtype=like.dtype, device=like.device)
        return {site: result[site] for site in self.sites}

    def pointwise_log_likelihood(self, draws: Draws, data: Ratings) -> Float[Tensor, "chain draw N"]:
        """Return the log density of each row's ratings given all parameters."""
        shape = draws["row_factors"].shape[:2]
        flat = {site: value.flatten(0, 1) for site, value in draws.items()}
        return pointwise(self, flat, data).unflatten(0, shape)

    def effort(self, data: Ratings) -> float:
        """Return the multiplications of one likelihood: one per rating and factor."""
        return float(self.num_factors * len(data.values))

    def canonical(self, draws: Draws, reference: Draws | None = None) -> Draws:
        """Turn the factors, draw by draw: toward the reference's mean, else onto each other and to principal axes."""
        shape = draws["row_factors"].shape[:2]
        turn = rotations(_stacked(draws)) if reference is None else procrustes(
            _stacked(draws), _stacked(reference).mean(0)
        )  # fmt: skip
        turn = turn.unflatten(0, shape)
        result = dict(draws)
        for side in ("row", "column"):
            result[f"{side}_factors"] = draws[f"{side}_factors"] @ turn
            if self.hierarchical:
                result[f"{side}_mean"] = (draws[f"{side}_mean"].unsqueeze(-2) @ turn).squeeze(-2)
                result[f"{side}_precision"] = turn.mT @ draws[f"{side}_precision"] @ turn
        return result

    def symmetry(self, values: Mapping[str, Tensor]) -> tuple[int, float]:
        """Return dimension and log volume of the orbit {(U R, V R): R orthogonal}."""
        U, V = values["row_factors"], values["column_factors"]
        scale = len(U) * self.row_factor_variance + len(V) * self.column_factor_variance
        return log_orbit(U.mT @ U + V.mT @ V, scale)

    def invariants(self, draws: Draws, data: Ratings, log_likelihood: Tensor | None = None) -> Draws:
        """Return quantities that no rotation changes.

        ``log_likelihood``; ``noise_variance`` when it is learned; what is predicted on average for each row
        (``row_prediction``) and column, over all pairs, and for the pairs ``Ratings.cells``.
        """
        U, V, mean, a, b = linear(draws)
        mean = mean.unsqueeze(-1)
        return {
            "log_likelihood": self.log_likelihood(draws, data) if log_likelihood is None else log_likelihood,
            **({"noise_variance": draws["noise_variance"]} if self.learn_noise else {}),
            "row_prediction": (U @ V.mean(-2).unsqueeze(-1)).squeeze(-1) + mean + a + b.mean(-1, keepdim=True),
            "column_prediction": (V @ U.mean(-2).unsqueeze(-1)).squeeze(-1) + mean + b + a.mean(-1, keepdim=True),
            "cell_prediction": expected(draws, data.cells),
        }

    def predict(self, draws: Draws, data: Ratings) -> Prediction:
        """Predict hidden ratings."""
        return predict(self, draws, data)

    def watched(self, draws: Draws, data: Ratings) -> dict[str, Tensor]:
        """Return log predictive densities of ratings fitted, set aside and held out, ``Ratings.watched``."""
        return {name: log_densities(self, draws, pairs, ratings) for name, (pairs, ratings) in data.watched.items()}


def _stacked(draws: Draws) -> Float[Tensor, "S T K"]:
    """Return row and column factors one below the other, each side weighing the same."""
    sides = [draws[site].flatten(0, 1) for site in ("row_factors", "column_factors")]
    return torch.cat([side / side.shape[-2] ** 0.5 for side in sides], -2)
