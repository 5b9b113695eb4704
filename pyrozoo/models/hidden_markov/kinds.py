"""The kinds of emissions, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyrozoo.models.hidden_markov.emissions import (
    AutoregressiveEmission,
    CategoricalEmission,
    Emission,
    GaussianEmission,
    PoissonEmission,
)
from pyrozoo.models.hidden_markov.full import FullEmission

KINDS: Mapping[str, type[Emission]] = {
    "gaussian": GaussianEmission, "full": FullEmission, "autoregressive": AutoregressiveEmission,
    "poisson": PoissonEmission, "categorical": CategoricalEmission,
}  # fmt: skip


def emission_of(model: Any) -> type[Emission]:
    """Return the kind of emission of a model."""
    return KINDS[model.emission]
