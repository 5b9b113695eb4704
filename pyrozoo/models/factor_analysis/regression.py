"""The columns given the rows: one normal-inverse-gamma regression per column, solved by group of columns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.math.branches import holds
from pyrozoo.math.linear_algebra import cholesky_solved, safe_cholesky, standard_normal
from pyrozoo.models.factor_analysis.likelihood import Layout, Moments
from pyrozoo.models.factor_analysis.model import FactorAnalysis

log = logging.getLogger(__name__)

CANCELLED = 1e-3
"""Share of a column's sum of squares below which a residual computed in single precision as a difference is noise."""


@dataclass(frozen=True)
class Regression:
    """A distribution of (w_d, mu_d, sigma_d^2), normal-inverse-gamma, with C chains.

    beta_d | sigma_d^2 ~ N(mean_d, sigma_d^2 precision_g^-1) and sigma_d^2 ~ InvGamma(degrees_d / 2, scale_d / 2), where
    g is the group of column d. Coefficients are relative to the layout's offset; all is in double precision.

    Attributes:
        layout: The table.
        factor: Lower Cholesky factor of the precision of every group.
        mean: Coefficients, the last of which is mu_d - offset_d.
        scale: nu s^2: the residual sum of squares, what the priors add included.
        degrees: nu.
    """

    layout: Layout
    factor: Float[Tensor, "C G A A"]
    mean: Float[Tensor, "C D A"]
    scale: Float[Tensor, "C D"]
    degrees: Float[Tensor, D]

    def away(self, beta: Float[Tensor, "C D A"]) -> Float[Tensor, "C D"]:
        """Return (beta - mean)^T precision (beta - mean) of every column."""
        away, L = beta - self.mean, self.factor
        if not self.layout.few_groups:
            return (away.unsqueeze(-2) @ L[:, self.layout.group]).squeeze(-2).square().sum(-1)
        result = away.new_empty(away.shape[:-1])
        for g, columns in enumerate(self.layout.members):
            result[:, columns] = (away[:, columns] @ L[:, g]).square().sum(-1)
        return result

    def log_density(self, beta: Float[Tensor, "C D A"], noise_variance: Float[Tensor, "C D"]) -> Float[Tensor, C]:
        """Return the log density of coefficients and noise variances, summed over columns."""
        log_determinant = 2 * (self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1))[:, self.layout.group]
        size, quadratic = beta.shape[-1], self.away(beta)
        normal = 0.5 * (log_determinant - size * (2 * math.pi * noise_variance).log() - quadratic / noise_variance)
        a, b = self.degrees / 2, self.scale / 2
        gamma = a * b.log() - torch.lgamma(a) - (a + 1) * noise_variance.log() - b / noise_variance
        return (normal + gamma).sum(-1)

    def draw(self) -> tuple[Float[Tensor, "C D A"], Float[Tensor, "C D"]]:
        """Draw beta_d and sigma_d^2 as one block."""
        noise, standard = draw_noise(self.scale, self.degrees), standard_normal(self.mean)
        return self.mean + noise.sqrt().unsqueeze(-1) * spread(self.factor, standard, self.layout), noise

    def sample(self) -> Values:
        """Return one draw per chain by site, in the precision of the table."""
        beta, noise = (value.to(self.layout.values) for value in self.draw())
        return self.layout.point(beta, noise)

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log density of one draw per chain."""
        beta = self.layout.coefficients(values)
        return self.log_density(beta.double(), values["noise_variance"].double()).to(beta)


class Prior:
    """The prior of the columns as a normal-inverse-gamma, hand-written, relative to the offset, in double precision.

    Args:
        model: Hyper-parameters.
        layout: The table.

    Attributes:
        precision: P of the coefficients, [A, A].
        mean: Their mean, beta0, [D, A].
        degrees: nu0.
        scale: nu0 s0^2.
    """

    def __init__(self, model: FactorAnalysis, layout: Layout):
        self.layout, like = layout, layout.offset.double()
        mean_precision, noise_scale = model.scales
        corner = layout.offset.new_tensor([[mean_precision]]).double()
        self.precision = torch.block_diag(model.loadings_prior_precision(like), corner)
        self.mean = torch.cat([like.new_zeros(len(like), model.num_factors), -like.unsqueeze(-1)], -1)
        self.degrees, self.scale = float(model.noise_degrees), model.noise_degrees * noise_scale

    @cached_property
    def root(self) -> Float[Tensor, "A A"]:
        """The lower Cholesky factor of the precision."""
        return torch.linalg.cholesky(self.precision)

    def away(self, beta: Float[Tensor, "*C D A"], columns: Tensor | slice = slice(None)) -> Float[Tensor, "*C D"]:
        """Return (beta - beta0)^T P (beta - beta0) of every column, or of some."""
        away = beta - self.mean[columns]
        return ((away @ self.precision) * away).sum(-1)

    def log_density(self, beta: Float[Tensor, "C D A"], noise_variance: Float[Tensor, "C D"]) -> Float[Tensor, C]:
        """Return the log density of coefficients and noise variances; a test holds it to the Pyro program."""
        factor = self.root.expand(len(beta), len(self.layout.sizes), -1, -1)
        scale = self.mean.new_full(beta.shape[:-1], self.scale)
        degrees = self.mean.new_full(beta.shape[1:2], self.degrees)
        regression = Regression(self.layout, factor, self.mean.expand(len(beta), -1, -1), scale, degrees)
        return regression.log_density(beta.double(), noise_variance.double()).to(beta.dtype)

    def regress(
        self, moments: Moments, squares: Float[Tensor, "C D"] | None = None,
        observations: Float[Tensor, "C D"] | None = None, *, residual: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Regression:  # fmt: skip
        """Regress the columns on the rows' factors.

        nu = nu0 + n_d and nu s^2 = nu0 s0^2 + sum x^2 + beta0^T P beta0 - mean^T precision mean.

        Args:
            moments: What the rows tell.
            squares: Sums of squares of the columns where they are not the layout's (imputed cells, some of the rows).
            observations: Observed values of the columns where they are not the layout's (some of the rows).
            residual: When the factors are known, what adds up squared residuals, [C, K], given coefficients [C, K, A]
                and columns [K], where their sum cancelled in single precision.
        """
        factor = safe_cholesky(self.precision + moments.groups.double(), "the precision of the loadings")
        right = moments.cross.double() + self.mean @ self.precision
        mean = solve(factor, right, self.layout)
        before = self.scale + (self.layout.squares if squares is None else squares.double())
        before = before + self.away(torch.zeros_like(self.mean))
        scale = before - (right * mean).sum(-1)
        if moments.cross.dtype == torch.float32:
            few = (scale < CANCELLED * before).any(0)
            lost = few[:0] if holds(~few.any()) else few.nonzero().flatten()
            if len(lost) and residual is not None:
                beta = mean[:, lost]
                scale[:, lost] = residual(beta, lost) + self.away(beta, lost) + self.scale
            elif len(lost):
                log.warning("%d columns have noise too small for dtype=float32; use dtype=float64", len(lost))
        degrees = self.degrees + (self.layout.observations if observations is None else observations).double()
        # Never below what the prior alone contributes: everything added to it is a sum of squares.
        return Regression(self.layout, factor, mean, scale.clamp(min=self.scale), degrees)


def solve(factor: Float[Tensor, "C G A A"], right: Float[Tensor, "C D A"], layout: Layout) -> Float[Tensor, "C D A"]:
    """Return precision_g^-1 right_d for every column d, g its group."""
    return _by_group(lambda L, b: cholesky_solved(b, L), factor, right, layout)


def spread(factor: Float[Tensor, "C G A A"], noise: Float[Tensor, "C D A"], layout: Layout) -> Float[Tensor, "C D A"]:
    """Return L_g^-T noise_d: of covariance precision_g^-1 when the noise is standard normal."""
    return _by_group(lambda L, b: torch.linalg.solve_triangular(L.mT, b, upper=True), factor, noise, layout)


def _by_group(function: Callable[[Tensor, Tensor], Tensor], factor: Tensor, right: Tensor, layout: Layout) -> Tensor:
    if layout.few_groups:  # one factor, many right-hand sides
        result = torch.empty_like(right)
        for g, columns in enumerate(layout.members):
            result[:, columns] = function(factor[:, g], right[:, columns].mT).mT
        return result
    return function(factor[:, layout.group], right.unsqueeze(-1)).squeeze(-1)


def draw_noise(scale: Float[Tensor, "C D"], degrees: Float[Tensor, "*C D"]) -> Float[Tensor, "C D"]:
    """Draw sigma_d^2 ~ InvGamma(degrees / 2, scale / 2), above zero."""
    shape = (degrees / 2).expand_as(scale)
    gamma = torch.distributions.Gamma(shape, torch.ones_like(shape), validate_args=False)
    return (scale / 2 / gamma.sample().clamp(min=torch.finfo(scale.dtype).tiny)).clamp(max=torch.finfo(scale.dtype).max)
