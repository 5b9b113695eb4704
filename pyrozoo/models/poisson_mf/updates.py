"""What Gibbs says of the conditionals of rates; those of factors take the shares of factors in the counts beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.updates import Update
from pyrozoo.core.draws import Values
from pyrozoo.models.poisson_mf.factors import rates_given, rates_rate, rates_shape


def rates(side: int) -> Callable[[Any, Values], Sequence[Tensor]]:
    """Return what says shape and rate of the rates of rows, 0, or of columns, 1."""

    def parameters(solver: Any, values: Values) -> Sequence[Tensor]:
        shape, rate = rates_given(solver.model, values["row_factors"], values["column_factors"])[side]
        return [torch.full_like(rate, shape), rate]

    return parameters


UPDATES = tuple(
    Update(f"{side}_rates", ("gibbs",), rates(i), (rates_given, rates_shape, rates_rate))
    for i, side in enumerate(("row", "column"))
)
