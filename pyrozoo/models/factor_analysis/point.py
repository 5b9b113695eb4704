"""A point in parameter space per chain: what EM, PCA and PPCA find."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.models.factor_analysis.likelihood import Columns, Layout, point_columns


@dataclass(frozen=True)
class State:
    """Parameters per chain."""

    loadings: Float[Tensor, "C D M"]
    mean: Float[Tensor, "C D"]
    noise_variance: Float[Tensor, "C D"]


def columns_of(state: State, layout: Layout) -> Columns:
    """Return the point as the rows see it."""
    return point_columns(state.loadings, state.mean, state.noise_variance, layout)


def draws_of(state: State) -> Values:
    """Return the point by site."""
    return {"loadings": state.loadings, "mean": state.mean, "noise_variance": state.noise_variance}
