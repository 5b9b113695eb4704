"""What is known of the posterior of gaussian_mixture: starting points, the likelihood, invariants, predictions."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.contracts.values import check_moderate
from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.container import MOST_PAIRED
from pyrozoo.data.table import Table
from pyrozoo.math.moments import column_moments, row_mean_quantiles
from pyrozoo.models.gaussian_mixture.conjugate import Components
from pyrozoo.models.gaussian_mixture.likelihood import BLOCK_ELEMENTS, MATRIX_ELEMENTS, Known, Layout
from pyrozoo.models.gaussian_mixture.model import GaussianMixture

START_ROWS, MOST_DRAWS = 2000, 400
"""Rows behind a starting point, and draws behind predictions."""


class Posterior(HandBuilt):
    """A Gaussian mixture given a table of real numbers."""

    model: GaussianMixture
    data: Table
    observed = "values"
    unit = "row"
    wants = "a table (rows by columns)"
    invariant_dims: ClassVar = {
        "log_likelihood": (), "column_mean": ("column",), "column_log_sd": ("column",), "same_component": (),
        "explained": ("column",), "correlation": ("pair",),
    }  # fmt: skip

    @property
    def sites(self) -> Any:
        """Return the global sites."""
        one, pair = ("component", "column"), ("column", "column_")
        types = {"full": ("component", *pair), "tied": pair, "diagonal": one, "spherical": ("component",)}
        return {"weights": ("component",), "mean": one, "covariance": types[self.model.covariance_type]}

    @cached_property
    def prior(self) -> Components:
        """The priors, to which sums over rows are conjugate."""
        return Components.prior(self.model, self.data.values)

    @cached_property
    def layout(self) -> Layout:
        """The table as the likelihood wants it."""
        return Layout.of(self.data, self.prior.location, self.model.matrices)

    def known(self, points: Values) -> Known:
        """Return what rows see of points, site -> [chains, *event]."""
        covariance, form = points["covariance"], self.model.covariance_type
        alone = {"tied": 1, "spherical": -1}.get(form)
        covariance = covariance if alone is None else covariance.unsqueeze(alone)
        weights = points["weights"].clamp(min=torch.finfo(covariance.dtype).tiny)
        return Known(weights.log(), points["mean"] - self.prior.location, covariance)

    def check(self) -> None:
        """Raise DataError unless every column has a value, none too large to square, and settings one for each."""
        super().check()
        self.data.refuse_empty_columns()
        for part in self.data.with_new_rows:
            check_moderate(part, part.filled)
        for name in ("location", "scale"):
            given = getattr(self.model, name)
            if isinstance(given, tuple) and len(given) != (D := self.data.shape[1]):
                said = f"model.{name} has {len(given)} numbers and {self.data.name} {D} columns"
                raise DataError(f"{said}; state one number, as many as columns, or null")

    def initial(self, chains: int) -> Values:
        """Return starting values: means at rows far from each other, as k-means++ chooses them, spread as the prior.

        Arthur and Vassilvitskii 2007, SODA; of at most ``START_ROWS`` rows, holes at the columns' means.
        """
        K, (N, D), like = self.model.num_components, self.data.shape, self.data.values
        rows = torch.randperm(N, device=like.device)[:START_ROWS]
        middle, variance, _ = column_moments(self.data.values)
        scale = variance.where(variance > 0, 1.0).sqrt()
        x = torch.where(self.data.observed[rows], (self.data.filled[rows] - middle) / scale, 0.0)
        far, picked = like.new_ones(chains, len(x)), []
        for _ in range(K):
            # As many rows as components or fewer: any will do
            chosen = torch.multinomial(torch.where(far.amax(-1, keepdim=True) > 0, far, 1.0), 1)
            picked.append(x[chosen.squeeze(-1)])
            away = (x - picked[-1].unsqueeze(1)).square().sum(-1)
            far = away if len(picked) == 1 else torch.minimum(far, away)
        # What a cluster of this share of the data has for a variance, and the prior.
        share, nu = K ** (-2 / D), self.model.degrees
        within = self.model.spread(like, D).diagonal() if self.model.matrices else self.model.spread(like, D).expand(D)
        within = (within + N * share * variance) / (nu + N)
        mean = middle + scale * (torch.stack(picked, 1) + 0.1 * share**0.5 * self.normal(chains, K, D))
        sizes = {"full": within.diag().expand(K, D, D), "tied": within.diag(), "diagonal": within.expand(K, D)}
        covariance = sizes.get(self.model.covariance_type, within.mean().expand(K))
        covariance = covariance.expand(chains, *covariance.shape).clone()
        return {"weights": like.new_full((chains, K), 1 / K), "mean": mean, "covariance": covariance}

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_i | weights, mean, covariance) of every row, the assignment summed out."""
        K, N = self.model.num_components, self.data.shape[0]
        step = max(1, at_once(16 * BLOCK_ELEMENTS, self.data.values) // (K * min(N, 2**10)))
        parts = (self.layout.by_row(self.known(part), _evidence) for part in Draws(draws).flat_blocks(step))
        return torch.cat(list(parts)).unflatten(0, draws["weights"].shape[:2])

    @property
    def effort(self) -> float:
        """Return the multiplications of one likelihood: a product, and for every pattern of holes an inverse."""
        (N, D), K = self.data.shape, self.model.num_components
        return float(
            N * K * 4 * D if not self.model.matrices else N * K * (D * D + 12) + len(self.layout.seen) * K * D**3
        )

    def moments(self, draws: Values) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and covariance of a row, [..., D] and [..., D, D], and the covariance of component means."""
        pi, mean, form = draws["weights"], draws["mean"], self.model.covariance_type
        covariance = draws["covariance"]
        if not self.model.matrices:
            covariance = self.model.variances(covariance).expand_as(mean).diag_embed()
        within = covariance if form == "tied" else (pi[..., None, None] * covariance).sum(-3)
        centre = (pi.unsqueeze(-1) * mean).sum(-2)
        away = mean - centre.unsqueeze(-2)
        between = (pi.unsqueeze(-1) * away).mT @ away
        return centre, within + between, between

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that no relabelling changes.

        ``log_likelihood``; per column the model's ``column_mean``, ``column_log_sd`` and ``explained``, the share of
        the variance that lies between components; ``same_component``, the probability that two new rows share one;
        and, for up to 30 columns, every ``correlation`` of two.
        """
        centre, covariance, between = self.moments(draws)
        sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        result = {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            "column_mean": centre,
            "column_log_sd": sd.log(),
            "same_component": draws["weights"].square().sum(-1),
            "explained": between.diagonal(dim1=-2, dim2=-1) / sd.square(),
        }
        D = centre.shape[-1]
        if 1 < D <= MOST_PAIRED:
            i, j = torch.tril_indices(D, D, -1, device=sd.device)
            result["correlation"] = covariance[..., i, j] / (sd[..., i] * sd[..., j])
        return result

    def checks(self, replica: Tensor) -> Values:
        """Return mean, sd and skewness of columns, and quantiles of rows' means."""
        seen = replica.where(self.data.observed, torch.nan)
        mean, variance, skewness = column_moments(seen)
        parts = {"column_mean": mean, "column_sd": variance.sqrt(), "column_skewness": skewness}
        return {**parts, "row_mean": row_mean_quantiles(seen)}

    def predict(self, draws: Values) -> Prediction:
        """Predict hidden values, in their order, from the observed values of the same row: a mixture of normals.

        x_id | observed: sum_k p(k | observed) N(mean of k given the others, its variance), averaged over draws.
        Intervals are quantiles of draws of it.
        """
        hidden, K, D = self.hidden, self.model.num_components, self.data.shape[1]
        work = len(hidden.rows) * K * (D**3 if self.model.matrices else 1)
        flat = Draws(draws).some(max(40, min(MOST_DRAWS, 10**9 // (work + 1)))).flat()
        step = max(1, MATRIX_ELEMENTS // (len(flat["weights"]) * K * (D * D if self.model.matrices else 1)))
        cells = zip(*(each.split(step) for each in (hidden.rows, hidden.columns, hidden.values)), strict=True)
        with seeded(0):  # a query of one fit always answers the same
            return Prediction.joined([self._cells_given_rows(flat, *each) for each in cells], hidden.values)

    def _cells_given_rows(self, flat: Values, rows: Tensor, columns: Tensor, truth: Tensor) -> Prediction:
        known, part = self.known(flat), self.on(self.data.batch(rows))
        share = part.layout.by_row(known, lambda logits: logits.softmax(1))  # [S, K, entry]
        mean, variance = part.layout.conditional(known, columns)
        mean = mean + self.prior.location[columns]
        normal, each = Normal(mean, variance.sqrt(), validate_args=False), share / len(share)
        log_density = (normal.log_prob(truth) + each.log()).flatten(0, 1).logsumexp(0)
        weights = each.flatten(0, 1).T
        picked = torch.multinomial(weights, 2 * MOST_DRAWS, replacement=True).T
        values = mean.flatten(0, 1).gather(0, picked)
        values = values + variance.flatten(0, 1).gather(0, picked).sqrt() * torch.randn_like(values)
        lower, upper = torch.quantile(values, values.new_tensor([0.05, 0.95]), dim=0)
        moments = (each * mean).sum((0, 1)), lower, upper, log_density, (each * normal.cdf(truth)).sum((0, 1))
        return Prediction(*moments)


def _evidence(logits: Float[Tensor, "C K n"]) -> Float[Tensor, "C n"]:
    return logits.logsumexp(1)
