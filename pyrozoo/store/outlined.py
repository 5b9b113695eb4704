"""What a comparison reads of a run directory instead of all draws: an outline of the fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, Values
from pyrozoo.diagnostics.outline import Outline, outline
from pyrozoo.store.groups import DRAWN, Groups

PARAMETERS, INVARIANTS = "outline_posterior", "outline_invariants"
"""Groups of some of the parameters, where there are many, and of invariants."""


def add_outline(groups: Groups, fit: Fit, step: int) -> None:
    """Add the outline of a fit, one of its draws in so many; of parameters only where it is not all of them."""
    found = outline(fit)
    if found.draws.scalars < fit.draws.scalars:
        _add(groups, PARAMETERS, found.draws.every(step), found)
    _add(groups, INVARIANTS, found.invariants, found)


def _add(groups: Groups, name: str, draws: Values, found: Outline) -> None:
    arrays = {each: value.detach().cpu().numpy() for each, value in draws.items()}
    dims = {each: [f"{each}_at_{i}" for i in range(array.ndim - len(DRAWN))] for each, array in arrays.items()}
    coords = {dim: labels for each in arrays for dim, labels in zip(dims[each], found.labels[each], strict=True)}
    groups.add(name, arrays, dims, coords)


def read_outline(groups: Groups, sites: Sequence[str]) -> Outline | None:
    """Return what ``add_outline`` wrote; None: this file has none, since an earlier version wrote it.

    Args:
        groups: As read.
        sites: The parameters.
    """
    if INVARIANTS not in groups:
        return None
    whole = PARAMETERS if PARAMETERS in groups else "posterior"
    parts, labels = [], {}
    for group, names in ((groups[whole], sites), (groups[INVARIANTS], list(groups[INVARIANTS]))):
        arrays = {str(name): group[name] for name in names}
        parts.append(Draws({name: torch.as_tensor(np.asarray(array.values)) for name, array in arrays.items()}))
        for name, array in arrays.items():
            own = (array.coords[dim].values.tolist() for dim in array.dims[len(DRAWN) :])
            labels[name] = tuple([str(label) for label in each] for each in own)
    return Outline(parts[0], parts[1], labels)
