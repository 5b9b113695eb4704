"""The colour of a method, which is the same in all pictures of a comparison."""

from __future__ import annotations

from pyrozoo.diagnostics.compare import Comparison

MOST_NAMED = 12
"""Fits that a picture can tell apart by colour and name."""


def color_of(comparison: Comparison, name: str) -> str:
    """Return the colour of a fit, as matplotlib calls it."""
    return f"C{comparison.names.index(name) % 10}"
