"""Draws of sites."""

from __future__ import annotations

from torch import Tensor

Draws = dict[str, Tensor]
"""Site name -> tensor [chain, draw, *event]; inside solvers [chain, *event]."""
