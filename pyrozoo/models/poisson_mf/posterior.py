"""What a posterior of poisson_mf can be asked: starting points, the likelihood, what labels and rotations leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.triplets import Triplets
from pyrozoo.math.alignment import match_components, relabelling
from pyrozoo.models.poisson_mf.likelihood import LARGEST_FLOAT32_COUNT, pointwise
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.models.poisson_mf.prediction import cell_rates, predict

MOST_RATES = 2**22
"""Rates of listed cells, over draws, held at a time."""


class Posterior(HandBuilt):
    """PoissonMF given Triplets."""

    model: PoissonMF
    data: Triplets
    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        "total": (),
        "row_total": ("row",),
        "column_total": ("column",),
        "cell_rate": ("cell",),
    }
    observed: ClassVar[str] = "counts"
    unit: ClassVar[str] = "row"

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites; rates of rows and columns are among them when the model is hierarchical."""
        factors = {"row_factors": ("row", "factor"), "column_factors": ("column", "factor")}
        return {**factors, "row_rates": ("row",), "column_rates": ("column",)} if self.model.hierarchical else factors

    def check(self) -> None:
        """Raise DataError unless every listed value is a count that the precision can hold."""
        if not isinstance(self.data, Triplets):
            raise DataError(f"poisson_mf needs triplets (row, column, count), not {type(self.data).__name__}")
        self.data.checked()
        for part in (self.data, *([self.data.test] if self.data.test is not None else [])):
            x = part.counts
            part.refuse(x < 0, "is negative; counts are needed")
            part.refuse(x != x.round(), "is not a whole number; counts are needed")
            if x.dtype == torch.float32:
                part.refuse(x > LARGEST_FLOAT32_COUNT, "is too large for dtype=float32; use dtype=float64")

    def initial(self, chains: int) -> Values:
        """Return starting values: factors all of one size that gives the data's mean, times Uniform(0.5, 1.5)."""
        (N, M), K, like = self.data.shape, self.model.num_factors, self.data.values
        mean = max(float(self.data.counts.sum()), 1.0) / (N * M)
        scale = (mean / K) ** 0.5
        result = {
            "row_factors": scale * (0.5 + torch.rand(chains, N, K, dtype=like.dtype, device=like.device)),
            "column_factors": scale * (0.5 + torch.rand(chains, M, K, dtype=like.dtype, device=like.device)),
        }
        if self.model.hierarchical:
            for name, shape, rate in (
                ("row", self.model.row_shape, self.model.row_rate),
                ("column", self.model.column_shape, self.model.column_rate),
            ):
                total = result[f"{name}_factors"].sum(-1)
                result[f"{name}_rates"] = (self.model.rate_shape + K * shape) / (self.model.rate_shape / rate + total)
        return result

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_n | theta_n, eta) of every row."""
        theta = draws["row_factors"]
        if self.data.row_index is not None:
            theta = theta.index_select(-2, self.data.row_index)
        shape, eta = theta.shape[:2], draws["column_factors"]
        unknown = 0 if self.data.unobserved is None else len(self.data.unobserved)
        step = max(1, MOST_RATES // max(1, len(self.data.values) + unknown))
        blocks = zip(theta.flatten(0, 1).split(step), eta.flatten(0, 1).split(step), strict=True)
        return torch.cat([pointwise(a, b, self.data) for a, b in blocks]).unflatten(0, shape)

    @property
    def effort(self) -> float:
        """Return the multiplications of one likelihood: one per listed or unobserved cell and factor."""
        unknown = 0 if self.data.unobserved is None else len(self.data.unobserved)
        return float(self.model.num_factors * (len(self.data.values) + unknown))

    def align(self, draws: Values, reference: Values | None = None) -> Values:
        """Scale factors so that each column of eta sums to 1; relabel them, toward the reference or by falling mass."""
        shape = draws["row_factors"].shape[:2]
        theta, eta = (draws[site].flatten(0, 1) for site in ("row_factors", "column_factors"))
        theta, eta = _scaled(theta, eta)
        features = eta.sqrt().mT
        if reference is None:
            order = relabelling(features)
            mass = torch.take_along_dim(theta.sum(-2), order, 1).mean(0)
            order = order[:, mass.argsort(descending=True)]
        else:
            pivot = _scaled(*(reference[site].flatten(0, 1) for site in ("row_factors", "column_factors")))[1]
            order = match_components(features, pivot.sqrt().mT.mean(0))
        index = order.unsqueeze(1)
        moved = {
            "row_factors": torch.take_along_dim(theta, index, 2),
            "column_factors": torch.take_along_dim(eta, index, 2),
        }
        return {**draws, **{site: value.unflatten(0, shape) for site, value in moved.items()}}

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that neither relabelling nor scale changes.

        ``log_likelihood``; the expected ``total`` of all cells, ``row_total`` and ``column_total``; and ``cell_rate``,
        the rates of the cells ``Triplets.cells``.
        """
        theta, eta = draws["row_factors"], draws["column_factors"]
        rows = (theta * eta.sum(-2, keepdim=True)).sum(-1)
        return {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            "total": rows.sum(-1),
            "row_total": rows,
            "column_total": (eta * theta.sum(-2, keepdim=True)).sum(-1),
            "cell_rate": cell_rates(theta, eta, self.data.cells),
        }

    def checks(self, replica: Tensor) -> Values:
        """Return totals of rows and of columns, the share of zeros, and the variance over the mean of all cells."""
        result = super().checks(replica)
        mean = result["row_total"].sum() / max(self.data.observed_cells, 1)
        square = self.data.seen(replica)[:, 2].double().square().sum().cpu() / max(self.data.observed_cells, 1)
        return result | {"dispersion": (square - mean**2) / mean.clamp(min=1e-300)}

    def predict(self, draws: Values) -> Prediction:
        """Predict hidden counts."""
        return predict(draws, self.data)


def _scaled(theta: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
    """Move scale from eta to theta so that every column of eta [S, M, K] sums to 1."""
    total = eta.sum(-2, keepdim=True).clamp(min=torch.finfo(eta.dtype).tiny)
    return theta * total, eta / total
