"""Solver states as batches of chains: choose, join, and show as plain tensors; and what their draws may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Solver
from pyrozoo.core.draws import Draws, Values


def take(state: Any, chains: Tensor) -> Any:
    """Return a state holding the given chains, in that order (repeats allowed)."""
    return replace(state, **{f.name: getattr(state, f.name)[chains] for f in fields(state)})


def repeated(state: Any, count: int) -> Any:
    """Return a one-chain state as so many chains, each a view of the one: for who only reads them."""
    one = {f.name: getattr(state, f.name) for f in fields(state)}
    return replace(state, **{name: value.expand(count, *value.shape[1:]) for name, value in one.items()})


def bytes_of(state: Any) -> int:
    """Return how many bytes the tensors of a state take."""
    return sum(getattr(state, f.name).numel() * getattr(state, f.name).element_size() for f in fields(state))


def join(states: list[Any]) -> Any:
    """Return the chains of several states as one state."""
    first = states[0]
    return replace(first, **{f.name: torch.cat([getattr(s, f.name) for s in states]) for f in fields(first)})


def reported(posterior: Posterior, solver: Solver, state: Any) -> Any:
    """Return a state of rows in shards with those rows that are reported on, of all processes."""
    shards = posterior.shards
    assert shards is not None
    rows = {name: shards.gathered(getattr(state, name)) for name in solver.by_row or () if hasattr(state, name)}
    return replace(state, **rows)


def of_rows(parts: Sequence[Any], names: Sequence[str], taken: Callable[[list[Tensor]], Tensor]) -> Any:
    """Return what ``plain`` states of several processes say of the rows of one.

    Args:
        parts: The states, alike but for rows.
        names: The fields that have a value for every row; of others the first state's is that of all.
        taken: From such a field in every state to that of the one.
    """
    first = parts[0]
    if isinstance(first, list):
        return [of_rows(each, names, taken) for each in zip(*parts, strict=True)]
    if not isinstance(first, dict):
        return first
    each = {key: [part[key] for part in parts] for key in first}
    return {key: taken(known) if key in names else of_rows(known, names, taken) for key, known in each.items()}


def plain(value: Any) -> Any:
    """Return dataclasses as dicts by field, at any depth, and tuples as lists: what a checkpoint may hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Draws | dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def revived(state: Any, saved: dict[str, Any]) -> Any:
    """Make a solver's state again from what ``plain`` said; what earlier versions kept beside it is left out."""
    return state(**{f.name: saved[f.name] for f in fields(state)})


def affordable(draws: int, one: Values, megabytes: float | None) -> int:
    """Return how many draws, at most ``draws``, fit into so many megabytes; one has the size of ``one``."""
    if megabytes is None:
        return draws
    size = sum(value.numel() * value.element_size() for value in one.values())
    return int(max(1, min(draws, megabytes * 1e6 // max(size, 1))))


def thinned(kept: int, draws: int, megabytes: float | None) -> list[str]:
    """Say what was not kept, if anything."""
    return [f"{kept} of {draws} draws are kept, within {megabytes:g} MB (posterior_megabytes)"] if kept < draws else []
