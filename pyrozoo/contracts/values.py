"""What values of data a model can use: checks that models of the same kind of numbers share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LARGEST = {torch.float64: 1e100, torch.float32: 1e12}
"""Numbers whose squares and products can still be added up."""


def check_counts(part: Any, values: Tensor, largest: float) -> None:
    """Raise DataError unless values are counts.

    Args:
        part: The data, or new rows.
        values: Those of them that are looked at, in a form that ``part.refuse`` takes.
        largest: The largest count that single precision can hold.
    """
    part.refuse(values < 0, "is negative; counts are needed")
    part.refuse(values != values.round(), "is not a whole number; counts are needed")
    if values.dtype == torch.float32:
        part.refuse(values > largest, "is too large for dtype=float32; use dtype=float64")


def check_moderate(part: Any, values: Tensor) -> None:
    """Raise DataError unless the squares of values can be added up; arguments are those of ``check_counts``."""
    limit = LARGEST[values.dtype]
    part.refuse(values.abs() > limit, f"is too large (at most {limit:g} in this precision)")
