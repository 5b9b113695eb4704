"""What is known of the posterior of gaussian_mf: starting points, the likelihood, invariants, predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt, LeftOut
from pyrozoo.contracts.values import check_moderate
from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.ratings import Ratings
from pyrozoo.math.alignment import log_orbit
from pyrozoo.models.gaussian_mf import point
from pyrozoo.models.gaussian_mf.likelihood import Listed, expected, fitted, linear
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.gaussian_mf.queries import log_densities, noise_variance, predictive

BLOCK = 2**22
"""Ratings, over draws, whose density is computed at a time."""

GATHER = 50
"""Multiplications that finding the factors of a rating, and adding it to its row, are worth."""

MOST_LEFT_OUT = 2e9
"""Numbers, over draws, that cross-validation looks at; of more draws than that, so many are chosen evenly."""


class Posterior(HandBuilt):
    """A Gaussian matrix factorization given ratings."""

    model: GaussianMF
    data: Ratings
    observed = "ratings"
    unit = "row"
    wants = "ratings (row, column, rating)"
    invariant_dims: ClassVar = {
        "log_likelihood": (), "noise_variance": (), "row_prediction": ("row",), "column_prediction": ("column",),
        "cell_prediction": ("cell",),
    }  # fmt: skip

    @cached_property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites that the options ask for."""
        result: dict[str, tuple[str, ...]] = {}
        if self.model.learn_noise:
            result["noise_variance"] = ()
        if self.model.hierarchical:
            for name in ("row", "column"):
                result |= {f"{name}_precision": ("factor", "factor_"), f"{name}_mean": ("factor",)}
        result |= {"row_factors": ("row", "factor"), "column_factors": ("column", "factor")}
        if self.model.offsets:
            result |= {"mean": (), "row_offsets": ("row",), "column_offsets": ("column",)}
        return result

    centre: float | None = None
    """What ratings are held above, of some rows of many; None: their mean."""

    def of_shard(self, data: Ratings) -> Posterior:
        """Return the posterior of one shard of the rows, whose ratings are held above what those of others are."""
        found = super().of_shard(data)
        found.centre = self.listed.centre
        return found

    @cached_property
    def listed(self) -> Listed:
        """The ratings as the solvers' products want them."""
        return Listed(self.data, self.model.offsets, self.centre)

    @cached_property
    def variance(self) -> float:
        """The variance of the ratings, or where all are equal what their noise is expected to have: what is usual."""
        return float(self.data.counts.var(correction=0)) or self.model.noise_variance

    @property
    def factor_scale(self) -> float:
        """Return the scale of factors whose products have that variance."""
        return (self.variance / self.model.num_factors) ** 0.25

    def check(self) -> None:
        """Raise DataError unless there are ratings whose squares the precision can add up."""
        super().check()
        for part in self.data.with_new_rows:
            check_moderate(part, part.counts)

    def initial(self, chains: int) -> Values:
        """Return starting values: factors from normals whose products have the spread of the ratings, no offsets."""
        K, like, r = self.model.num_factors, self.data.values, self.data.counts
        sizes = dict(zip(("row", "column"), self.data.shape, strict=True))
        variance, scale, normal = self.variance, self.factor_scale, partial(self.normal, chains)
        result = {f"{side}_factors": scale * normal(size, K) for side, size in sizes.items()}
        if self.model.learn_noise:
            result["noise_variance"] = like.new_full((chains,), variance) * (0.5 + torch.rand(chains).to(like))
        if self.model.hierarchical:
            for side in sizes:
                eye = torch.eye(K, dtype=like.dtype, device=like.device)
                result[f"{side}_precision"] = (eye / scale**2).repeat(chains, 1, 1)
                result[f"{side}_mean"] = like.new_zeros(chains, K)
        if self.model.offsets:
            result["mean"] = r.mean().expand(chains).clone()
            result |= {f"{side}_offsets": 0.1 * variance**0.5 * normal(size) for side, size in sizes.items()}
        return {site: result[site] for site in self.sites}

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return the log density of each row's ratings given all parameters."""
        data, draws, parts = self.data, Draws(draws), []
        per_row = data.pattern.starts.diff().to(data.values.dtype)
        for part in draws.flat_blocks(at_once(BLOCK, data.values) // max(len(data.values), 1)):
            s = noise_variance(self.model, part).unsqueeze(-1)
            squares = data.pattern.row_sums((data.counts - fitted(part, data.pattern)).square())
            parts.append(-0.5 * (squares / s + per_row * (2 * math.pi * s).log()))
        return torch.cat(parts).unflatten(0, draws.shape)

    @property
    def left_out(self) -> LeftOut:
        """Every row: its own factors and offset, which have seen it, are integrated out."""
        return LeftOut("row", self.units, self._rowwise)

    def _rowwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        draws, size = Draws(draws), max(1, self.units * (self.model.num_factors + 1) ** 2 + len(self.data.values))
        draws = draws.every(math.ceil(draws.shape[0] * draws.shape[1] * size / MOST_LEFT_OUT))
        parts = [
            point.marginal(self.model, self.listed, self.data, point.complete(self.model, part))
            for part in draws.flat_blocks(max(1, at_once(BLOCK, self.data.values) // size))
        ]
        return torch.cat(parts).unflatten(0, draws.shape)

    @property
    def effort(self) -> float:
        """Return the multiplications of one likelihood: one per rating and factor, and ``GATHER``."""
        return float((self.model.num_factors + GATHER) * len(self.data.values))

    def orbit(self, values: Values) -> tuple[int, float]:
        """Return dimension and log volume of the orbit {(U R, V R): R orthogonal}."""
        U, V = values["row_factors"], values["column_factors"]
        scale = len(U) * self.model.row_factor_variance + len(V) * self.model.column_factor_variance
        return log_orbit(U.mT @ U + V.mT @ V, scale)

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that no rotation changes.

        ``log_likelihood``; ``noise_variance`` when it is learned; what is predicted on average for each row
        (``row_prediction``) and column, over all pairs, and for the pairs ``Ratings.cells``.
        """
        U, V, mean, a, b = linear(draws)
        mean = mean.unsqueeze(-1)
        return {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            **({"noise_variance": draws["noise_variance"]} if self.model.learn_noise else {}),
            "row_prediction": (U @ V.mean(-2).unsqueeze(-1)).squeeze(-1) + mean + a + b.mean(-1, keepdim=True),
            "column_prediction": (V @ U.mean(-2).unsqueeze(-1)).squeeze(-1) + mean + b + a.mean(-1, keepdim=True),
            "cell_prediction": expected(draws, self.data.cells),
        }

    def predict(self, draws: Values) -> Prediction:
        """Predict hidden ratings."""
        hidden = self.hidden
        return predictive(self.model, draws, torch.stack([hidden.rows, hidden.columns], 1), hidden.values)

    def watched(self, draws: Values) -> dict[str, Tensor]:
        """Return log predictive densities of ratings fitted, set aside and held out, ``Ratings.watched``."""
        return {
            name: log_densities(self.model, draws, pairs, ratings)
            for name, (pairs, ratings) in self.data.watched.items()
        }
