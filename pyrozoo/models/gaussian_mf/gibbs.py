"""Gibbs sampling: all rows in one batch, then all columns, then what stands above them; all chains at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.models.gaussian_mf import point
from pyrozoo.models.gaussian_mf.likelihood import Extent, Regressions, Side, expected, residuals
from pyrozoo.models.gaussian_mf.point import SIDES, Conditional, NormalWishart, Point
from pyrozoo.models.gaussian_mf.posterior import Posterior
from pyrozoo.models.gaussian_mf.queries import noise_variance

BY_ROW = "row_factors", "row_offsets"


class Solver(PointSolver, kind="samples", objective="log_joint", of="result", by_row=BY_ROW, graph=True):
    """Gibbs (Salakhutdinov and Mnih 2008, section 3.3): rows, columns, mean, noise, means and precisions of factors.

    With offsets a row's factors and its offset are one block, and constants move freely between the mean, the offsets
    and the means of factors. The objective is log p(ratings, all sites) of the state after the step.
    """

    spread: ClassVar[float] = 1.0

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.state_class = point.state_class(tuple(posterior.sites))
        size = posterior.total(lambda part: torch.tensor(len(part.data.values)))
        self.extent = Extent(int(size), posterior.listed.centre)

    def step(self, state: Any) -> tuple[Any, Info]:
        """Draw every block in turn; return the log joint of the result."""
        now, objective = self.sweep(point.complete(self.model, vars(state)))
        new = self.state_class(**{site: getattr(now, site) for site in self.posterior.sites})
        return new, Info(objective, predictive=None if self.data.hidden is None else partial(self.predictive, new))

    def sweep(self, state: Point) -> tuple[Point, Float[Tensor, C]]:
        """Do it."""
        model, extent = self.model, self.extent
        # The columns' sums over the rows hold for all that follows, which leaves rows and columns alone.
        state, found = self.rows(state)
        state = self.columns(state, found)
        if model.offsets:
            state = self.centre(state, found)
        rss = point.squares(extent, model, state, found)
        if model.learn_noise:
            state = replace(state, noise_variance=self.noise(rss).to(state.mean.dtype))
        state = self.unseen(state)
        if model.hierarchical:
            for side in SIDES:
                state = self.above(state, side)
        objective = point.log_likelihood(extent, state, rss) + point.log_prior(model, self.posterior, state)
        return state, objective.to(state.mean.dtype)

    def rows(self, state: Point) -> tuple[Point, Regressions]:
        """Draw factors and offsets of all rows given the columns; return the columns' sums over them, too."""
        model, sites = self.model, self.posterior.by_row

        def draw(part: Posterior) -> tuple[dict[str, Tensor], Regressions]:
            conditional, _ = point.conditional(model, part.listed, state, "row")
            new = point.with_block(state, "row", self.chosen(conditional, "the precision of a row's factors"))
            return {site: getattr(new, site) for site in sites}, part.listed.regress(
                "column", point.block(model, new, "row")
            )  # fmt: skip

        rows, found = self.posterior.over_rows(draw)
        return replace(state, **rows), found

    def columns(self, state: Point, found: Regressions) -> Point:
        """Draw factors and offsets of all columns given the sums over rows."""
        conditional = point.given(self.model, found, self.extent.centre, state, "column")
        return point.with_block(state, "column", self.chosen(conditional, "the precision of a column's factors"))

    def chosen(self, conditional: Conditional, what: str) -> Float[Tensor, "L C n"]:
        """Draw from the conditional."""
        return conditional.draw(what)

    def centre(self, state: Point, found: Regressions) -> Point:
        """Draw the mean given all else."""
        middle, precision = self.mean_posterior(state, found)
        mean = middle + self.spread * torch.randn_like(middle) / precision.sqrt()
        return replace(state, mean=mean.to(state.mean.dtype))

    def mean_posterior(self, state: Point, found: Regressions) -> tuple[Float[Tensor, C], Float[Tensor, C]]:
        """Return mean and precision of the mean's conditional."""
        _, first = residuals(point.block(self.model, state, "column"), found)
        tau, prior, middle = 1 / state.noise_variance.double(), 1 / self.model.mean_variance, self.extent.centre
        precision = prior + tau * self.extent.size
        return middle + (tau * first - prior * middle) / precision, precision

    def noise(self, rss: Float[Tensor, C]) -> Float[Tensor, C]:
        """Draw s^2 ~ InvGamma(noise_shape + n / 2, noise_shape noise_variance + RSS / 2)."""
        shape, scale = self.noise_posterior(rss)
        return scale / torch.distributions.Gamma(shape, torch.ones_like(shape), validate_args=False).sample()

    def noise_posterior(self, rss: Float[Tensor, C]) -> tuple[Float[Tensor, C], Float[Tensor, C]]:
        """Return shape and scale of the noise variance's conditional."""
        a = self.model.noise_shape
        return torch.full_like(rss, a + 0.5 * self.extent.size), a * self.model.noise_variance + 0.5 * rss

    def unseen(self, state: Point) -> Point:
        """Draw what no rating sees: constants between mean, offsets and the factors' means."""
        if self.model.offsets:
            for side in SIDES:
                state = point.shift(self.model, self.posterior, state, side, self.spread)
                if self.model.hierarchical:
                    state = point.slide(self.model, self.posterior, state, side, self.spread)
        return state

    def above(self, state: Point, side: Side) -> Point:
        """Draw mean and precision of one side's factors."""
        variance, sums = self.model.factor_variance(side), point.sums(self.posterior, state, side)
        found = NormalWishart.of(self.model, variance, *sums, point.count(self.posterior, side))
        mean, precision = self.hyper(found)
        like = state.mean.dtype
        return replace(state, **{f"{side}_mean": mean.to(like), f"{side}_precision": precision.to(like)})

    def hyper(self, found: NormalWishart) -> tuple[Tensor, Tensor]:
        """Draw from the normal-Wishart."""
        return found.draw()

    def predictive(self, state: Any) -> tuple[Tensor, Tensor]:
        """Return mean and variance of every hidden rating given the state."""
        hidden = self.data.hidden
        mean = expected(vars(state), torch.stack([hidden.rows, hidden.columns], 1))
        return mean, noise_variance(self.model, vars(state))[:, None].expand_as(mean)
