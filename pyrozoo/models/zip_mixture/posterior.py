"""What is known of the posterior of zip_mixture: starting points, the likelihood, invariants, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.contracts.values import check_counts
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.table import Table
from pyrozoo.math.moments import column_moments, row_mean_quantiles
from pyrozoo.models.zip_mixture.cellwise import Cellwise
from pyrozoo.models.zip_mixture.likelihood import LARGEST_FLOAT32_COUNT, Layout
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.models.zip_mixture.overdispersion import log_excess
from pyrozoo.models.zip_mixture.queries import BLOCK_ELEMENTS, MOST_DRAWS, predict_cells

MOST_ELEMENTS = 10**9
"""Entries times draws times components of a prediction; draws are thinned to stay below (a minute's work)."""


class Posterior(HandBuilt):
    """A mixture of zero-inflated Poissons given a table of counts."""

    model: ZipMixture
    data: Table
    observed = "counts"
    unit = "row"
    wants = "a table (rows by columns)"
    invariant_dims: ClassVar = {
        "log_likelihood": (), "column_mean": ("column",), "column_zero": ("column",), "column_variance": ("column",),
        "same_component": (),
    }  # fmt: skip

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites; sizes are among them where counts are negative binomial."""
        cells = {"on_prob": ("component", "column"), "rate": ("component", "column")}
        return {"weights": ("component",), **cells, **({"size": cells["rate"]} if self.model.overdispersed else {})}

    @cached_property
    def layout(self) -> Any:
        """The table as the likelihood wants it: a ``Layout``, or ``Cellwise`` where that does not hold."""
        alike = self.data.exposure is None and not self.model.overdispersed
        return Layout.of(self.data) if alike else Cellwise.of(self.data)

    @cached_property
    def mean_exposure(self) -> float:
        """The mean exposure of a row."""
        return 1.0 if self.data.exposure is None else float(self.data.exposure.mean())

    @cached_property
    def alpha(self) -> Float[Tensor, K]:
        """The Dirichlet concentration of the weights."""
        return self.model.concentration(self.data.values)

    def check(self) -> None:
        """Raise DataError unless every observed value is a count that the precision can hold."""
        super().check()
        self.data.refuse_empty_columns()
        for part in self.data.with_new_rows:
            check_counts(part, part.filled, LARGEST_FLOAT32_COUNT)

    def initial(self, chains: int) -> Values:
        """Return starting values: each component half-way between a random row and the column means.

        Components at data points are spread as the data are, and shrinking them toward the middle keeps every row
        explainable; of prior draws, random responsibilities and this, this reached the best mode most often.
        """
        data, K, (N, D) = self.data, self.model.num_components, self.data.shape
        observed, counts = data.observed.to(data.values.dtype), data.filled
        total = seen = observed.sum(0)
        if data.exposure is not None:
            seen, counts = (observed * data.exposure[:, None]).sum(0), data.filled / data.exposure[:, None]
        mean, positive = data.filled.sum(0) / seen, (data.filled > 0).sum(0) / total
        # Random rows without replacement per chain; more components than rows repeat them.
        order = torch.rand(chains, N, device=data.values.device).argsort(1)
        picked = order[:, torch.arange(K, device=order.device) % N]
        rows = torch.where(data.observed, counts, mean)[picked]
        start = {
            "weights": data.values.new_full((chains, K), 1 / K),
            "on_prob": (0.5 * (rows > 0) + 0.5 * positive).clamp(0.05, 0.95),
            "rate": (0.5 + self.uniform(chains, K, D)) * 0.5 * (rows + mean) + 0.1 / self.mean_exposure,
        }
        if self.model.overdispersed:
            start["size"] = (0.5 + self.uniform(chains, K, D)) * self.model.size_shape / self.model.size_rate
        return start

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_i | weights, on_prob, rate) of every row, the assignment summed out."""
        logs = self.layout.row_log_evidence(self.layout.given(Draws(draws).flat()))
        return logs.unflatten(0, draws["weights"].shape[:2])

    @property
    def effort(self) -> float:
        """Return the multiplications of one likelihood: a product with three numbers a cell, and exponentials."""
        (N, D), K = self.data.shape, self.model.num_components
        return float(N * K * (3 * D + 12)) * (20 if self.model.overdispersed or self.data.exposure is not None else 1)

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that no relabelling changes.

        ``log_likelihood``; per column the model's ``column_mean`` E[x], ``column_zero`` P(x = 0) and
        ``column_variance``, of a row of exposure 1; and ``same_component``, the probability that two new rows share a
        component.
        """
        pi, omega, lam = draws["weights"].unsqueeze(-1), draws["on_prob"], draws["rate"]
        mean, log_zero, more = (pi * omega * lam).sum(-2), -lam, lam
        if self.model.overdispersed:
            log_zero, more = log_excess(torch.zeros_like(lam), lam, draws["size"]), lam + lam / draws["size"]
        return {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            "column_mean": mean,
            "column_zero": (pi * (1 + omega * torch.expm1(log_zero))).sum(-2),
            "column_variance": (pi * omega * lam * (1 + more)).sum(-2) - mean.square(),
            "same_component": draws["weights"].square().sum(-1),
        }

    def checks(self, replica: Tensor) -> Values:
        """Return mean, share of zeros and dispersion (variance over mean) of columns, and quantiles of rows' means."""
        seen = replica.where(self.data.observed, torch.nan)
        mean, variance, _ = column_moments(seen)
        return {
            "column_mean": mean,
            "zeros": (seen == 0).sum(0) / self.data.observed.sum(0).clamp(min=1),
            "dispersion": torch.where(mean > 0, variance / mean.clamp(min=1e-300), 1.0),
            "row_mean": row_mean_quantiles(seen),
        }

    def dispersion(self, replica: Tensor, values: Values) -> Float[Tensor, ""]:
        """Return squared residuals over variances, both given the clusters of rows.

        Of each column the sum of r_ik (x - E)^2 over the sum of r_ik V, with the responsibilities r of these data at
        the values, and E and V the mean and variance of a cell of component k; their mean over columns, weighed by how
        well a Poisson column of the data's mean would know it, 1 / (2 + 1 / mean).
        """
        data = replace(self.data, values=replica.where(self.data.observed, torch.nan))
        layout, on, rate = self.on(data).layout, values["on_prob"], values["rate"]
        given = layout.given({site: value[None] for site, value in values.items()})
        r = torch.cat([layout.responsibilities(given, rows)[0][:, 0] for rows in layout.blocks(given[-1].numel())])
        x, seen = data.filled, data.observed.to(rate.dtype)
        e = seen if data.exposure is None else seen * data.exposure[:, None]
        exposed, squared, mean = r.T @ e, r.T @ (e * e), on * rate  # [K, D]
        residual = r.T @ (x * x) - 2 * mean * (r.T @ (e * x)) + mean.square() * squared
        more = 1 - on if "size" not in values else 1 - on + 1 / values["size"]
        variance = mean * exposed + mean * rate * more * squared
        column = self.data.filled.sum(0) / seen.sum(0).clamp(min=1)
        weight = column / (2 * column + 1)
        ratio = residual.sum(0) / variance.sum(0).clamp(min=torch.finfo(rate.dtype).tiny)
        return (weight * ratio).sum() / weight.sum().clamp(min=torch.finfo(rate.dtype).tiny)

    @property
    def to_disperse(self) -> tuple[str, str]:
        """What counts are, and what to type where they vary more: negative binomial ones, or more clusters."""
        if self.model.overdispersed:
            return "negative binomial", f"raise model.num_components={self.model.num_components}"
        return "Poisson", "set model.overdispersed=true"

    def predict(self, draws: Values) -> Prediction:
        """Predict hidden counts, in their order, from the observed counts of the same row.

        E[x | x_obs] = sum_k p(k | x_obs) omega_k lambda_k, averaged over draws, with intervals.
        """
        hidden, K, count = self.hidden, self.model.num_components, len(self.hidden.rows)
        flat = Draws(draws).some(min(MOST_DRAWS, max(50, MOST_ELEMENTS // (count * K + 1)))).flat()
        values = max(200, min(MOST_DRAWS, 10**8 // (count + 1)))
        step = max(1, BLOCK_ELEMENTS // (max(len(flat["weights"]), values) * K))
        cells = zip(*(each.split(step) for each in (hidden.rows, hidden.columns, hidden.values)), strict=True)
        with seeded(0):  # a query of one fit always answers the same
            return Prediction.joined([predict_cells(self, flat, values, *each) for each in cells], hidden.values)
