"""Gaussian matrix factorization: its hyper-parameters and its Pyro program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Derived, Model
from pyrozoo.contracts.symmetry import Rotate
from pyrozoo.core.draws import Values
from pyrozoo.core.settings import flag, positive, whole
from pyrozoo.data.ratings import Ratings
from pyrozoo.models.gaussian_mf.likelihood import ListedNormal, fitted

NOISE, OFFSETS = 1 / 2, 1 / 8
"""Shares of the ratings' spread that are expected of the noise, and of the offsets of either side; the rest is the
factors'."""

WIDE = 10.0
"""Prior variance of the mean in mean squares of the ratings: it pulls the mean nowhere."""


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

    Prior variances of None are taken from the ratings (``from_data``), so that a change of their unit changes nothing
    but the unit of the answer.

    Attributes:
        num_factors: K, at least 1.
        row_factor_variance: s_u^2, positive, or None.
        column_factor_variance: s_v^2, positive, or None.
        noise_variance: s^2 in squared units of the ratings, positive, or None; where its prior puts it when it is
            learned.
        learn_noise: Whether the noise variance is a site.
        noise_shape: Shape of its prior, positive: half the number of ratings that it is worth.
        offsets: Whether there are a mean and offsets of rows and columns.
        mean_variance: Prior variance of the mean, positive, or None.
        offset_variance: Prior variance of the offsets, positive, or None.
        hierarchical: Whether means and precisions of the factors are sites.
        degrees_of_freedom: nu, above K - 1; None is K + 2.
        mean_strength: How many rows the prior of the mean is worth, positive.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    without_data: ClassVar[Mapping[str, float]] = {
        "row_factor_variance": 1.0, "column_factor_variance": 1.0, "noise_variance": 1.0, "mean_variance": 100.0,
        "offset_variance": 1.0,
    }  # fmt: skip

    # A declared range is no default, which mypy does not know. What may be None is a number in every posterior: Any.
    num_factors: int = whole()
    row_factor_variance: Any = positive(optional=True)
    column_factor_variance: Any = positive(optional=True)
    noise_variance: Any = positive(optional=True)
    learn_noise: bool = flag()
    noise_shape: float = positive()
    offsets: bool = flag()
    mean_variance: Any = positive(optional=True)
    offset_variance: Any = positive(optional=True)
    hierarchical: bool = flag()
    degrees_of_freedom: float | None = positive(optional=True)
    mean_strength: float = positive()

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.num_factors - 1
        if self.degrees_of_freedom is not None and self.degrees_of_freedom <= least:
            self.refuse("degrees_of_freedom", f"it must be above num_factors - 1 = {least}")

    @property
    def symmetry(self) -> Rotate:
        """Factors can be turned and reflected; the precision of their prior is turned on both sides."""
        return Rotate("factor", _stacked)

    @property
    def wishart_degrees(self) -> float:
        """Return nu."""
        return self.num_factors + 2.0 if self.degrees_of_freedom is None else float(self.degrees_of_freedom)

    def from_data(self, data: Ratings) -> Mapping[str, Derived]:
        """Return prior variances that expect ratings to spread as they do: half is noise, a quarter offsets.

        The rest is the products of factors. The spread is the variance of the ratings, or without offsets, where
        nothing else makes their mean, the mean of their squares; then the factors have the other half.
        """
        ratings = data.counts.double()
        square = float(ratings.square().mean())
        spread, word = square, "mean square of the ratings"
        share, factors = 1 - NOISE, f"sqrt(half the {word} / num_factors)"
        if self.offsets:
            spread, word = float(ratings.var(correction=0)), "variance of the ratings"
            share, factors = 1 - NOISE - 2 * OFFSETS, f"sqrt(a quarter of the {word} / num_factors)"
        each = Derived((share * spread / self.num_factors) ** 0.5, factors)
        return {
            "row_factor_variance": each,
            "column_factor_variance": each,
            "noise_variance": Derived(NOISE * spread, f"half the {word}"),
            "mean_variance": Derived(WIDE * square, "10 times the mean square of the ratings"),
            "offset_variance": Derived(OFFSETS * spread, f"an eighth of the {word}"),
        }

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


def _stacked(flat: Values) -> Float[Tensor, "S T K"]:
    """Return row and column factors one below the other, each side weighing the same."""
    return torch.cat([flat[site] / flat[site].shape[-2] ** 0.5 for site in ("row_factors", "column_factors")], -2)
