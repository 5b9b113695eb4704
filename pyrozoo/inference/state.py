"""Solver states as batches of chains: choose, join, and show as plain tensors."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor


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
