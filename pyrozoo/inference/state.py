"""Solver states as batches of chains: choose, join, and show as plain tensors; and what their draws may take."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from pyrozoo.core.draws import Draws


def take(state: Any, chains: Tensor) -> Any:
    """Return a state holding the given chains, in that order (repeats allowed)."""
    return replace(state, **{f.name: getattr(state, f.name)[chains] for f in fields(state)})


def join(states: list[Any]) -> Any:
    """Return the chains of several states as one state."""
    first = states[0]
    return replace(first, **{f.name: torch.cat([getattr(s, f.name) for s in states]) for f in fields(first)})


def as_dict(state: Any) -> dict[str, Tensor]:
    """Return a state as plain tensors by field."""
    return {f.name: getattr(state, f.name) for f in fields(state)}


def affordable(draws: int, one: Draws, megabytes: float) -> int:
    """Return how many draws, at most ``draws``, fit into so many megabytes; one has the size of ``one``."""
    size = sum(value.numel() * value.element_size() for value in one.values())
    return int(max(1, min(draws, megabytes * 1e6 // max(size, 1))))


def thinned(kept: int, draws: int, megabytes: float) -> list[str]:
    """Say what was not kept, if anything."""
    return [f"{kept} of {draws} draws are kept, within {megabytes:g} MB (posterior_megabytes)"] if kept < draws else []
