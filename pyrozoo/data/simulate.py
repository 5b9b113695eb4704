"""Data drawn from a model's own Pyro program, with the truth kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.table import Table


def simulate_data(
    model: Model, *, seed: int, missing: float = 0.0, given: Mapping[str, Tensor] | None = None, blank: Any = None,
    **shape: Any,
) -> Any:  # fmt: skip
    """Draw a data set from the prior predictive of a model.

    Args:
        model: The model.
        seed: Of the simulation.
        missing: Probability that an entry is missing, completely at random.
        given: Sites held at a value; the others are drawn from their priors.
        blank: Data of the shape to simulate, in place of ``shape``: what is not observed of them stays as it is.
        **shape: What the model's container needs, such as ``rows``, ``columns`` and ``categories``.

    Returns:
        The model's container, filled; ``truth`` holds every site, local ones included.

    Raises:
        SettingError: If ``missing`` is out of range.
    """
    if not 0 <= missing < 1:
        raise SettingError(f"data.missing is {missing}; it must be in [0, 1)")
    blank = (model.container or Table).blank(**shape) if blank is None else blank
    posterior = Posterior.of(model.given(None), blank)  # what stands in the blank is no data
    with seeded(seed):
        sites = posterior.simulate(given)
    whole = posterior.filled(sites)
    # Holding out and losing an entry are one operation; lost entries are simply not kept.
    lost = whole.hold_out(missing, seed + 1) if missing else whole
    truth = {name: torch.as_tensor(value) for name, value in sites.items() if name not in posterior.observed_names}
    return replace(lost, hidden=None, truth=truth)
