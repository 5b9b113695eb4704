"""The observed site of the program: a sparse matrix of Poisson counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from pyro.distributions import constraints as C
from torch import Tensor

from pyrozoo.data.triplets import Triplets
from pyrozoo.models.poisson_mf.likelihood import pointwise

BLOCK = 2**22
"""Cells simulated at a time."""

EVENTS_PER_CELL = 0.25
"""With fewer expected events per cell, events are drawn instead of cells."""


class FactorPoisson(TorchDistribution):
    """x_nm ~ Poisson(sum_k theta_nk eta_mk), independently; a value is a list of entries, as ``Triplets.values``.

    Batch shape (N,): the log density of every row. Unobserved pairs count for nothing.

    Args:
        row_factors: theta.
        column_factors: eta.
        data: Says which pairs are unobserved; its own values are recognised and not sorted again.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = C.independent(C.nonnegative, 2)
    has_rsample = False

    def __init__(self, row_factors: Float[Tensor, "N K"], column_factors: Float[Tensor, "M K"], data: Triplets):
        self.row_factors, self.column_factors, self.data = row_factors, column_factors, data
        super().__init__(row_factors.shape[:1], data.values.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> FactorPoisson:
        """Return itself: rows are already the batch."""
        if torch.Size(batch_shape) != self.batch_shape:
            raise NotImplementedError("the rows are the batch; there is no other")
        return self

    def log_prob(self, value: Tensor) -> Float[Tensor, N]:
        """Return the log density of each row."""
        data = self.data if value is self.data.values else replace(self.data, values=torch.as_tensor(value))
        return pointwise(self.row_factors, self.column_factors, data)

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "entry 3"]:
        """Draw a matrix; only its cells that are not 0 are made."""
        with torch.no_grad():
            theta, eta = self.row_factors, self.column_factors
            cells = len(theta) * len(eta)
            if float(theta.sum(0) @ eta.sum(0)) < EVENTS_PER_CELL * cells:
                return _events(theta, eta)
            step = max(1, BLOCK // len(eta))
            parts = []
            for start in range(0, len(theta), step):
                counts = torch.poisson(theta[start : start + step] @ eta.T)
                row, column = counts.nonzero(as_tuple=True)
                where = torch.stack([row + start, column], 1).to(counts.dtype)
                parts.append(torch.cat([where, counts[row, column, None]], 1))
            return torch.cat(parts)


def _events(theta: Tensor, eta: Tensor) -> Tensor:
    """Draw events one by one: their number per factor is Poisson, their rows and columns are independent given it."""
    totals = torch.poisson(theta.sum(0) * eta.sum(0)).long().tolist()
    places = [
        torch.multinomial(theta[:, k], count, replacement=True) * len(eta)
        + torch.multinomial(eta[:, k], count, replacement=True)
        for k, count in enumerate(totals)
        if count
    ]
    if not places:
        return theta.new_zeros(0, 3)
    place, counts = torch.cat(places).unique(return_counts=True)
    return torch.stack([place // len(eta), place % len(eta), counts], 1).to(theta.dtype)
