"""What the states of the EM solvers have in common: the global sites, those that are none of the model's left empty."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Values

if TYPE_CHECKING:
    from pyrozoo.models.categorical_fa.model import CategoricalFA


@dataclass(frozen=True)
class Globals:
    """The global sites of every restart; a site that the model does not have has no elements."""

    loadings: Float[Tensor, "C F E"]
    intercepts: Float[Tensor, "C F_intercepts"]
    latent_mean: Float[Tensor, "C d_mean"]
    latent_covariance: Float[Tensor, "C d_rows d_columns"]
    hidden_weights: Float[Tensor, "C H d_hidden"]
    hidden_biases: Float[Tensor, "C H_biases"]

    def sites(self, model: CategoricalFA) -> Values:
        """Return the sites that the model has, [C, *event]."""
        return {site: getattr(self, site) for site in model.sites}


def stored(sites: Values) -> dict[str, Any]:
    """Return the fields of ``Globals`` for these sites."""
    first = next(iter(sites.values()))
    ranks = {"loadings": 3, "intercepts": 2, "latent_mean": 2, "latent_covariance": 3, "hidden_weights": 3,
             "hidden_biases": 2}  # fmt: skip
    assert list(ranks) == [f.name for f in fields(Globals)]
    return {s: sites.get(s, torch.zeros(len(first), *[0] * (rank - 1)).to(first)) for s, rank in ranks.items()}
