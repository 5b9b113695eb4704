"""What a posterior of gaussian_mf can be asked: starting points, the likelihood, what labels and rotations leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.ratings import Ratings
from pyrozoo.math.alignment import log_orbit, procrustes, rotations
from pyrozoo.models.gaussian_mf.likelihood import linear, pointwise
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.gaussian_mf.prediction import expected, log_densities, predict

LARGEST = {torch.float64: 1e100, torch.float32: 1e12}
"""Ratings whose squares can still be added up."""


class Posterior(HandBuilt):
    """GaussianMF given Ratings."""

    model: GaussianMF
    data: Ratings
    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        "noise_variance": (),
        "row_prediction": ("row",),
        "column_prediction": ("column",),
        "cell_prediction": ("cell",),
    }
    observed: ClassVar[str] = "ratings"
    unit: ClassVar[str] = "row"

    @property
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

    def check(self) -> None:
        """Raise DataError unless there are ratings whose squares the precision can add up."""
        if not isinstance(self.data, Ratings):
            raise DataError(f"gaussian_mf needs ratings (row, column, rating), not {type(self.data).__name__}")
        for part in (self.data, *([self.data.test] if self.data.test is not None else [])):
            limit = LARGEST[part.values.dtype]
            part.refuse(part.counts.abs() > limit, f"is too large (at most {limit:g} in this precision)")

    def initial(self, chains: int) -> Values:
        """Return starting values: factors from normals whose products have the spread of the ratings, no offsets."""
        (N, M), K, like = self.data.shape, self.model.num_factors, self.data.values
        r = self.data.counts
        variance = float(r.var(correction=0)) or self.model.noise_variance
        scale = (variance / K) ** 0.25
        result = {
            name: scale * torch.randn(chains, size, K, dtype=like.dtype, device=like.device)
            for name, size in (("row_factors", N), ("column_factors", M))
        }
        if self.model.learn_noise:
            result["noise_variance"] = like.new_full((chains,), variance) * (0.5 + torch.rand(chains).to(like))
        if self.model.hierarchical:
            for side in ("row", "column"):
                eye = torch.eye(K, dtype=like.dtype, device=like.device)
                result[f"{side}_precision"] = (eye / scale**2).repeat(chains, 1, 1)
                result[f"{side}_mean"] = like.new_zeros(chains, K)
        if self.model.offsets:
            result["mean"] = r.mean().expand(chains).clone()
            for name, size in (("row_offsets", N), ("column_offsets", M)):
                result[name] = 0.1 * variance**0.5 * torch.randn(chains, size, dtype=like.dtype, device=like.device)
        return {site: result[site] for site in self.sites}

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return the log density of each row's ratings given all parameters."""
        shape = draws["row_factors"].shape[:2]
        flat = {site: value.flatten(0, 1) for site, value in draws.items()}
        return pointwise(self, flat, self.data).unflatten(0, shape)

    @property
    def effort(self) -> float:
        """Return the multiplications of one likelihood: one per rating and factor."""
        return float(self.model.num_factors * len(self.data.values))

    def align(self, draws: Values, reference: Values | None = None) -> Values:
        """Turn the factors, draw by draw: toward the reference's mean, else onto each other and to principal axes."""
        shape = draws["row_factors"].shape[:2]
        turn = rotations(_stacked(draws)) if reference is None else procrustes(
            _stacked(draws), _stacked(reference).mean(0)
        )  # fmt: skip
        turn = turn.unflatten(0, shape)
        result = dict(draws)
        for side in ("row", "column"):
            result[f"{side}_factors"] = draws[f"{side}_factors"] @ turn
            if self.model.hierarchical:
                result[f"{side}_mean"] = (draws[f"{side}_mean"].unsqueeze(-2) @ turn).squeeze(-2)
                result[f"{side}_precision"] = turn.mT @ draws[f"{side}_precision"] @ turn
        return result

    def orbit(self, values: Mapping[str, Tensor]) -> tuple[int, float]:
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
        return predict(self, draws, self.data)

    def watched(self, draws: Values) -> dict[str, Tensor]:
        """Return log predictive densities of ratings fitted, set aside and held out, ``Ratings.watched``."""
        return {
            name: log_densities(self, draws, pairs, ratings) for name, (pairs, ratings) in self.data.watched.items()
        }


def _stacked(draws: Values) -> Float[Tensor, "S T K"]:
    """Return row and column factors one below the other, each side weighing the same."""
    sides = [draws[site].flatten(0, 1) for site in ("row_factors", "column_factors")]
    return torch.cat([side / side.shape[-2] ** 0.5 for side in sides], -2)
