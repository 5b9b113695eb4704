"""What is known of the posterior of factor_analysis: starting points, the likelihood, invariants, predictions."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.contracts.values import check_moderate
from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.container import MOST_PAIRED
from pyrozoo.data.table import Table
from pyrozoo.math.linear_algebra import signed
from pyrozoo.math.mixture import RunningPrediction
from pyrozoo.math.moments import column_moments, row_mean_quantiles
from pyrozoo.models.factor_analysis.likelihood import BLOCK_ELEMENTS, Columns, Layout, Moments
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.models.factor_analysis.queries import batches, cells

FEW_PATTERNS = 100
"""Patterns of holes up to which the log-likelihood comes from a sum for each."""

START_ROWS = 2000
"""Rows behind a starting point."""


class Posterior(HandBuilt):
    """Factor analysis given a table of real numbers."""

    model: FactorAnalysis
    data: Table
    observed = "values"
    unit = "row"
    wants = "a table (rows by columns)"
    sites: ClassVar = {"loadings": ("column", "factor"), "mean": ("column",), "noise_variance": ("column",)}
    invariant_dims: ClassVar = {
        "log_likelihood": (), "column_mean": ("column",), "column_variance": ("column",), "communality": ("column",),
        "covariance": ("pair",),
    }  # fmt: skip

    offset: Tensor | None = None
    """What columns are held above, of some rows of many; None: their observed means."""

    def of_shard(self, data: Table) -> Posterior:
        """Return the posterior of some of the rows, whose columns are held above what those of others are."""
        found = super().of_shard(data)
        found.offset = self.layout.offset if self.offset is None else self.offset
        return found

    @cached_property
    def layout(self) -> Layout:
        """The table, sorted by what is missing."""
        return Layout.of(self.data, self.offset)

    @cached_property
    def columns(self) -> Layout:
        """What all rows say of the columns: the layout, of rows in shards without their values and patterns."""
        if self.shards is None:
            return self.layout

        def said(part: Posterior) -> tuple[Tensor, Tensor, Tensor]:
            found = []
            for layout in (
                part.layout if data is part.data else part.of_shard(data).layout for data in part.data.pieces()
            ):
                codes = torch.randint(2**62, (len(layout.sizes),)).to(layout.group)
                found.append((codes[layout.group], layout.observations.double(), layout.squares))
            codes, observations, squares = (torch.stack(each).sum(0) for each in zip(*found, strict=True))
            return codes, observations, squares

        # Columns of one group in every shard, and they alone, have the same sum of random numbers.
        codes, observations, squares = self.total(said)
        firsts, group = (codes[:, None] == codes).int().argmax(1).unique(return_inverse=True)
        seen = self.layout.seen.new_ones(1, len(firsts))
        found = replace(self.layout, seen=seen, group=group, starts=torch.tensor([0, self.rows]))
        vars(found).update(observations=observations.to(seen), squares=squares)
        return found

    def moments(self, columns: Columns, *, draw: bool = False) -> Moments:
        """Return what all rows tell of the columns (``Layout.moments``), draws of factors in the table's order.

        Args:
            columns: What is known of the columns, groups being those of ``self.columns``.
            draw: Draw every z_n instead of taking expectations, which are not kept.
        """
        whole = self.columns

        def said(part: Posterior) -> tuple[Any, Moments]:
            found = part.said(columns, whole, draw=draw)
            return found.factors, replace(found, factors=None)

        factors, found = self.over_rows(said)
        return replace(found, factors=factors)

    def said(self, columns: Columns, whole: Layout, *, draw: bool = False) -> Moments:
        """Return what these rows tell of the columns of all rows (``moments``), the groups being those of these."""
        layout = self.layout
        found = layout.moments(columns if layout is whole else whole.regrouped(columns, layout), draw=draw)
        assert found.factors is not None
        groups = found.groups if layout is whole else found.groups[:, layout.group[whole.firsts]]
        return replace(found, groups=groups, factors=found.factors[:, layout.back] if draw else None)

    def check(self) -> None:
        """Raise DataError unless every column has a value and no value is too large to square."""
        super().check()
        self.data.refuse_empty_columns()
        for part in self.data.with_new_rows:
            check_moderate(part, part.filled)

    def initial(self, chains: int) -> Values:
        """Return starting values: principal axes of random halves of the rows, holes at the mean, turned at random.

        Random halves and random turns make chains differ; the likelihood has one mode but for rotations, so that
        starts close to it lose nothing and spare hundreds of sweeps.
        """
        m, layout, like, M, (N, D) = self.model, self.layout, self.data.values, self.model.num_factors, self.data.shape
        # A column without variation has noise of the prior's scale rather than none.
        count = layout.observations.clamp(min=1) + m.noise_degrees
        variance = (layout.squares.to(like) + m.noise_degrees * m.scales[1]) / count
        loadings = 0.1 * (variance / M).sqrt()[:, None] * self.normal(chains, D, M)
        for chain in range(chains):
            rows = torch.randperm(N, device=like.device)[: max(min(N, 2), min(N // 2, START_ROWS))]
            some = layout.values[rows]
            _, size, axes = torch.svd_lowrank(some, q=min(M + 5, *some.shape), niter=2)
            rank = min(M, len(size))
            turn = torch.linalg.qr(self.normal(M, M))[0]
            principal = signed(axes[:, :rank]) * size[:rank] / max(1, len(rows)) ** 0.5
            loadings[chain] += principal @ turn[:rank]
        explained = loadings.square().sum(-1)
        return {
            "loadings": loadings,
            "mean": layout.offset.expand(chains, D).clone(),
            "noise_variance": torch.maximum(variance - explained, 0.1 * variance),
        }

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_n | loadings, mean, noise_variance) of every row, the factors summed out."""
        numbers = len(self.layout.sizes) * (self.model.num_factors + 1) ** 2
        step = max(1, at_once(BLOCK_ELEMENTS, self.layout.values) // numbers)
        parts = (self.layout.known(part) for part in Draws(draws).flat_blocks(step))
        return torch.cat([self.layout.pointwise(part) for part in parts]).unflatten(0, Draws(draws).shape)

    def terms(self, draws: Values) -> Float[Tensor, "chain draw"]:
        """Return the log-likelihood from sums over the rows of every pattern: fewer numbers say the same."""
        return self.layout.evidence(self.layout.known(Draws(draws).flat())).unflatten(0, Draws(draws).shape)

    @property
    def adds_quickly(self) -> bool:
        """Whether few patterns of holes leave few sums over rows."""
        return len(self.layout.counts) <= FEW_PATTERNS

    def log_likelihood(self, draws: Values) -> Float[Tensor, "chain draw"]:
        """Return log p(data | draw), where rows are many from sums over them."""
        if self.looked_at.units is None or not self.adds_quickly:
            return super().log_likelihood(draws)
        size = len(self.layout.counts) * (self.model.num_factors + 1) ** 2 + self.layout.squeezed.values.numel()
        step = max(1, at_once(BLOCK_ELEMENTS, self.layout.values) // size)
        return torch.cat([self.terms(block) for block in Draws(draws).blocks(step)], 1)

    @property
    def effort(self) -> float:
        """Return the multiplications of the likelihood of one draw: a product with the mask and N factorisations."""
        patterns, groups = self.layout.seen.shape
        M = self.model.num_factors
        return 0.5 * patterns * groups * M**2 + patterns * M**3 + 2.0 * self.data.values.numel() * M

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that no rotation changes.

        ``log_likelihood``; per column ``column_mean``, ``column_variance`` and ``communality``, the share of the
        variance that the factors explain; and, for up to 30 columns, every ``covariance`` between two of them.
        """
        W, noise = draws["loadings"], draws["noise_variance"]
        explained = W.square().sum(-1)
        result = {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            "column_mean": draws["mean"],
            "column_variance": explained + noise,
            "communality": explained / (explained + noise),
        }
        D = W.shape[-2]
        if 1 < D <= MOST_PAIRED:
            i, j = torch.tril_indices(D, D, -1, device=W.device)
            result["covariance"] = (W @ W.mT)[..., i, j]
        return result

    def checks(self, replica: Tensor) -> Values:
        """Return mean, sd and skewness of columns, and quantiles of rows' means: what is not normal shows in them."""
        seen = replica.where(self.data.observed, torch.nan)
        mean, variance, skewness = column_moments(seen)
        return {
            "column_mean": mean,
            "column_sd": variance.sqrt(),
            "column_skewness": skewness,
            "row_mean": row_mean_quantiles(seen),
        }

    def predict(self, draws: Values) -> Prediction:
        """Predict hidden values from the observed values of the same row; intervals are a normal's.

        x_nd | observed x_n ~ N(w_d . E z_n + mu_d, w_d^T J_n^-1 w_d + sigma_d^2), a mixture over draws.
        """
        hidden = self.hidden
        rows, position = hidden.rows.unique(return_inverse=True)
        layout = Layout.of(self.data.batch(rows))
        place, order = layout.back[position].sort(stable=True)
        columns, result = hidden.columns[order], RunningPrediction(hidden.values[order])
        for known, noise in batches(draws, layout):
            W = known.coefficients[..., :-1]
            mean, variance = (W.new_empty(len(W), len(place)) for _ in range(2))
            for block, z, covariance in layout.posteriors(known):
                edges = torch.tensor([block.rows.start, block.rows.stop], device=place.device)
                start, stop = torch.searchsorted(place, edges).tolist()
                local, d = place[start:stop] - block.rows.start, columns[start:stop]
                pattern = torch.zeros_like(local) if block.index is None else block.index[local]
                mean[:, start:stop], variance[:, start:stop] = cells(W, z, covariance, local, pattern, d)
            mean += known.coefficients[..., -1][:, columns] + layout.offset[columns]
            result.add(mean, variance + noise[:, columns])
        return result.prediction().at(order.argsort())
