"""Data drawn from a model's own Pyro program, with the truth kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.errors import SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.program.trace import simulate


def simulate_data(
    model: Model, *, seed: int, missing: float = 0.0, given: Mapping[str, Tensor] | None = None, **shape: Any
) -> Any:
    """Draw a data set from the prior predictive of a model.

    Args:
        model: The model.
        seed: Of the simulation.
        missing: Probability that an entry is missing, completely at random.
        given: Sites held at a value; the others are drawn from their priors.
        **shape: What the model's container needs, such as ``rows``, ``columns`` and ``categories``.

    Returns:
        The model's container, filled; ``truth`` holds every site, local ones included.

    Raises:
        SettingError: If ``missing`` is out of range.
    """
    if not 0 <= missing < 1:
        raise SettingError(f"data.missing is {missing}; it must be in [0, 1)")
    blank = model.container.blank(**shape)
    with seeded(seed):
        sites = simulate(model, blank, given)
    values = sites.pop(model.observed_site)
    # Holding out and losing an entry are one operation; lost entries are simply not kept.
    lost = replace(blank, values=values).hold_out(missing, seed + 1)
    return replace(lost, hidden=None, truth={name: torch.as_tensor(value) for name, value in sites.items()})
