"""What a run directory keeps of the states on the way: what each of them said, as draws."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.moments import Moment, chosen
from pyrozoo.core.draws import Draws
from pyrozoo.store.groups import DRAWN, Groups

MOMENTS = "moments"
"""The group, and its first dimension."""

FEWEST = 20
"""Draws from q that a moment has at least, where more take more room than there is."""

ABOUT = {"step": int, "seconds": float, "passes": float, "kept": int}


def add_moments(groups: Groups, fit: Fit, budget: float, notes: list[str]) -> None:
    """Add the moments of a fit: what does not fit into a number of bytes is fewer draws from q, then fewer moments.

    Args:
        groups: Gets them.
        fit: The fit.
        budget: Bytes.
        notes: Gets what was left out.
    """
    if not fit.moments:
        return
    one = fit.moments[-1].draws
    size, (chains, count) = 8 * one.scalars, one.shape
    drawn = min(count, max(FEWEST, int(budget / (size * chains * len(fit.moments)))))
    room = int(budget / (size * chains * drawn))
    moments = chosen(fit.moments, room)
    if len(moments) < len(fit.moments):
        notes.append(f"{len(moments)} of {len(fit.moments)} moments of the fit are stored, within {budget / 1e6:g} MB")
    if not moments:
        return
    draws = [each.draws for each in moments]
    arrays = {s: np.stack([each[s][:, :drawn].detach().cpu().numpy() for each in draws]) for s in one}
    variables = {
        s: ((MOMENTS, *DRAWN, *(f"{s}_at_{i}" for i in range(value.ndim - 3))), value) for s, value in arrays.items()
    }
    known: dict[str, Any] = {name: (MOMENTS, np.array([getattr(each, name) for each in moments])) for name in ABOUT}
    width = max(len(each.objective) for each in moments)
    objective = np.full((len(moments), width), np.nan)
    for i, each in enumerate(moments):
        objective[i, : len(each.objective)] = each.objective
    known["objective"] = ((MOMENTS, "objective_at"), objective)
    groups[MOMENTS] = xr.Dataset(variables, known)


def read_moments(groups: Groups, sites: Sequence[str]) -> list[Moment]:
    """Return what ``add_moments`` wrote; earlier versions wrote none.

    Args:
        groups: As read.
        sites: Those that a fit has.
    """
    if MOMENTS not in groups:
        return []
    stored, result = groups[MOMENTS], []
    for i in range(stored.sizes[MOMENTS]):
        about = {name: kind(stored[name].values[i]) for name, kind in ABOUT.items()}
        objective = tuple(value for value in stored["objective"].values[i].tolist() if value == value)
        result.append(Moment(**about, objective=objective, sample=partial(_read, stored, i, tuple(sites))))
    return result


def _read(stored: xr.Dataset, at: int, sites: Sequence[str], _: int) -> Draws:
    return Draws({site: torch.as_tensor(np.asarray(stored[site].values[at])) for site in sites})
