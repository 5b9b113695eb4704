"""What is known of the posterior of poisson_mf: starting points, the likelihood, invariants, predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt, LeftOut
from pyrozoo.contracts.values import check_counts
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.poisson_mf.factors import rates_given
from pyrozoo.models.poisson_mf.likelihood import LARGEST_FLOAT32_COUNT, exposed, pointwise, whole_vectors
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.models.poisson_mf.queries import cell_rates, factors, predictive

MOST_RATES = 2**22
"""Rates of listed cells, over draws, held at a time."""

GATHER = 100
"""Multiplications that finding the factors of a cell, its logarithm and the sum of its row are worth."""

MOST_LEFT_OUT = 1000
"""Cells that are left out, one at a time, by cross-validation."""


class Posterior(HandBuilt):
    """PoissonMF given Triplets."""

    model: PoissonMF
    data: Triplets
    observed = "counts"
    unit = "row"
    wants = "triplets (row, column, count)"
    invariant_dims: ClassVar = {
        "log_likelihood": (), "total": (), "row_total": ("row",), "column_total": ("column",), "cell_rate": ("cell",),
    }  # fmt: skip

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites; rates of rows and columns are among them when the model is hierarchical."""
        factors = {"row_factors": ("row", "factor"), "column_factors": ("column", "factor")}
        return {**factors, "row_rates": ("row",), "column_rates": ("column",)} if self.model.hierarchical else factors

    def check(self) -> None:
        """Raise DataError unless every listed value is a count that the precision can hold."""
        super().check()
        for part in self.data.with_new_rows:
            check_counts(part, part.counts, LARGEST_FLOAT32_COUNT)

    def initial(self, chains: int) -> Values:
        """Return starting values: factors all of one size that gives the data's mean, times Uniform(0.5, 1.5)."""
        (N, M), K = self.data.shape, self.model.num_factors
        exposure = N if self.data.exposure is None else float(self.data.exposure.sum())
        scale = (max(float(self.data.counts.sum()), 1.0) / (exposure * M) / K) ** 0.5
        theta, eta = (scale * (0.5 + self.uniform(chains, size, K)) for size in (N, M))
        rates = [shape / rate for shape, rate in rates_given(self.model, theta, eta)]
        return dict(zip(self.sites, (theta, eta, *rates), strict=True))

    def whole_vectors(self, column_factors: Float[Tensor, "C M K"]) -> Float[Tensor, "C M W"] | None:
        """Return columns as the kernel reads them, for all shards of the rows; None: cell by cell it is less work."""
        cells = len(self.data.values) * self.rows // self.data.shape[0]
        return whole_vectors(column_factors) if cells > self.data.shape[1] else None

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_n | theta_n, eta) of every row."""
        theta = draws["row_factors"]
        if self.data.row_index is not None:
            theta = theta.index_select(-2, self.data.row_index)
        theta = exposed(theta, self.data)
        shape, eta = theta.shape[:2], draws["column_factors"]
        step = max(1, MOST_RATES // max(1, self._visited))
        blocks = zip(theta.flatten(0, 1).split(step), eta.flatten(0, 1).split(step), strict=True)
        return torch.cat([pointwise(a, b, self.data) for a, b in blocks]).unflatten(0, shape)

    @property
    def left_out(self) -> LeftOut:
        """Every observed cell, zero or not; of many, so many chosen at random.

        A row left out would take its own factors with it; of one cell less they are nearly what they are.
        """
        return LeftOut("cell", self.data.observed_cells, self._cellwise)

    def _cellwise(self, draws: Values) -> Float[Tensor, "chain draw cell"]:
        cells, x = self._some_cells()
        blocks = Draws(draws).blocks(max(1, MOST_RATES // max(1, len(cells) * len(draws["row_factors"]))))
        tiny = torch.finfo(x.dtype).tiny
        rates = torch.cat([self.cell_rates(each, cells) for each in blocks], 1)
        return torch.xlogy(x, rates.clamp(min=tiny)) - rates - torch.lgamma(x + 1)

    def cell_rates(self, draws: Values, cells: Int[Tensor, "cell 2"]) -> Float[Tensor, "*b cell"]:
        """Return what is expected of cells, which must be sorted by row."""
        return cell_rates(exposed(draws["row_factors"], self.data), draws["column_factors"], cells)

    def _some_cells(self) -> tuple[Int[Tensor, "cell 2"], Float[Tensor, cell]]:
        """Choose observed cells at random, always the same ones; return them, sorted, and their counts."""
        data, (N, M) = self.data, self.data.shape
        wanted = min(N * M, round(1.5 * MOST_LEFT_OUT * N * M / max(data.observed_cells, 1)))  # some are unobserved
        places = torch.as_tensor(np.random.default_rng(0).choice(N * M, wanted, replace=False), device=data.rows.device)
        if data.unobserved is not None:
            places = places[~torch.isin(places, data.unobserved[:, 0] * M + data.unobserved[:, 1])]
        places = places[:MOST_LEFT_OUT].sort().values
        x, mine = data.values.new_zeros(len(places)), data.pattern.rows * M + data.pattern.columns
        if len(mine):
            at = torch.searchsorted(mine, places).clamp(max=len(mine) - 1)
            x = torch.where(mine[at] == places, data.counts[at], x)
        return torch.stack([places // M, places % M], 1), x

    @property
    def effort(self) -> float:
        """Return the multiplications of one likelihood: for each listed or unobserved cell K, and ``GATHER``."""
        return float((self.model.num_factors + GATHER) * self._visited)

    @property
    def _visited(self) -> int:
        return len(self.data.values) + (0 if self.data.unobserved is None else len(self.data.unobserved))

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that neither relabelling nor scale changes.

        ``log_likelihood``; the expected ``total`` of all cells, ``row_total`` and ``column_total``; and ``cell_rate``,
        the rates of the cells ``Triplets.cells``. All are per unit of exposure.
        """
        totals = self.model.symmetry.invariants(Draws(draws), self.sites)
        return {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            **{name: value for name, (_, value) in totals.items()},
            "cell_rate": cell_rates(draws["row_factors"], draws["column_factors"], self.data.cells),
        }

    def simulated_numbers(self, values: Values) -> float:
        """Return how many numbers listed cells are expected to have at most: three each, of no more than are events."""
        theta, eta = exposed(values["row_factors"], self.data), values["column_factors"]
        return min(3 * float(theta.sum(0) @ eta.sum(0)), self.most_numbers)

    @property
    def most_numbers(self) -> float:
        """Every cell may be listed."""
        return 3.0 * math.prod(self.data.shape)

    def checks(self, replica: Tensor) -> Values:
        """Return totals of rows and of columns, the share of zeros, and the variance over the mean of all cells."""
        result = dict(super().checks(replica))
        mean = result["row_total"].sum() / max(self.data.observed_cells, 1)
        square = self.data.seen(replica)[:, 2].double().square().sum().cpu() / max(self.data.observed_cells, 1)
        return result | {"dispersion": (square - mean**2) / mean.clamp(min=1e-300)}

    def dispersion(self, replica: Tensor, values: Values) -> Float[Tensor, ""]:
        """Return squared residuals over expected counts, given the factors.

        Of each column the sum of (x - s)^2 over the sum of s at the observed cells; their mean over columns, weighed by
        how well a Poisson column of the data's mean would know it, 1 / (2 + 1 / mean).
        """
        listed, columns = self.data.seen(replica), self.data.shape[1]
        theta, eta = exposed(values["row_factors"], self.data), values["column_factors"]
        x, tiny = listed[:, 2], torch.finfo(eta.dtype).tiny
        # (x - s)^2 = s^2 at every cell, and x^2 - 2 x s more at listed ones.
        residual, expected = ((eta @ (theta.T @ theta)) * eta).sum(1), eta @ theta.sum(0)
        if self.data.unobserved is not None:
            lost = cell_rates(theta, eta, self.data.unobserved)
            for total, part in ((residual, lost.square()), (expected, lost)):
                total.index_add_(0, self.data.unobserved[:, 1], -part)
        rates = cell_rates(theta, eta, listed[:, :2].long())
        residual.index_add_(0, listed[:, 1].long(), x * x - 2 * x * rates)
        own = x.new_zeros(columns).index_add(0, self.data.pattern.columns, self.data.counts) / self.data.shape[0]
        weight = own / (2 * own + 1)
        return (weight * residual / expected.clamp(min=tiny)).sum() / weight.sum().clamp(min=tiny)

    @property
    def to_disperse(self) -> tuple[str, str]:
        """What counts are, and what to type where they vary more: more factors may explain it, or clusters of rows."""
        cure = f"raise model.num_factors={self.model.num_factors}, or try model=zip_mixture model.overdispersed=true"
        return "Poisson", cure

    def predict(self, draws: Values) -> Prediction:
        """Predict the hidden counts, in their order."""
        hidden, (theta, eta) = self.hidden, factors(draws)
        cells = torch.stack([hidden.rows, hidden.columns], 1)
        return predictive(exposed(theta, self.data), eta, cells, hidden.values)
