"""The columns given the rows: one normal-inverse-gamma regression per column, solved by group of columns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.linear_algebra import safe_cholesky, standard_normal
from pyrozoo.models.factor_analysis.likelihood import Layout, Moments
from pyrozoo.models.factor_analysis.model import FactorAnalysis

log = logging.getLogger(__name__)

CANCELLED = 1e-3
"""Share of a column's sum of squares below which a residual computed in single precision as a difference is noise."""


@dataclass(frozen=True)
class Regression:
    """p(w_d, mu_d, sigma_d^2 | rows), normal-inverse-gamma, with C chains.

    beta_d | sigma_d^2 ~ N(mean_d, sigma_d^2 precision_g^-1) and sigma_d^2 ~ InvGamma(degrees_d / 2, scale_d / 2), where
    g is the group of column d. Coefficients are relative to the layout's offset.

    Attributes:
        factor: Lower Cholesky factor of the precision of every group.
        mean: Coefficients, the last of which is mu_d - offset_d.
        scale: nu s^2: the residual sum of squares, what the priors add included.
        degrees: nu.
    """

    factor: Float[Tensor, "C G A A"]
    mean: Float[Tensor, "C D A"]
    scale: Float[Tensor, "C D"]
    degrees: Float[Tensor, D]


def prior(model: FactorAnalysis, layout: Layout) -> tuple[Float[Tensor, "A A"], Float[Tensor, "D A"]]:
    """Return precision and mean of the prior of the coefficients, relative to the offset, in double precision."""
    precision = torch.block_diag(
        model.loadings_prior_precision(layout.offset.double()),
        layout.offset.new_tensor([[model.mean_precision]]).double(),
    )
    mean = precision.new_zeros(len(layout.offset), len(precision))
    mean[:, -1] = -layout.offset.double()
    return precision, mean


def regress(
    model: FactorAnalysis, layout: Layout, moments: Moments, squares: Float[Tensor, "C D"] | None = None,
    observations: Float[Tensor, D] | None = None, *, known: tuple[Tensor, Tensor | None] | None = None,
) -> Regression:  # fmt: skip
    """Regress the columns on the rows' factors, in double precision.

    nu = nu0 + n_d and nu s^2 = nu0 s0^2 + sum x^2 + beta0^T P beta0 - mean^T precision mean, P the prior precision.

    Args:
        model: Hyper-parameters.
        layout: The table.
        moments: What the rows tell.
        squares: Sums of squares of the columns where they are not the layout's (imputed cells).
        observations: Cells per column where they are not the layout's.
        known: When the factors are known, cells [(C,) N, D] and which of them count (None: all), to add up the
            residuals themselves where their sum cancelled in single precision.
    """
    precision, mean0 = prior(model, layout)
    factor = safe_cholesky(precision + moments.groups.double(), "the precision of the loadings")
    right = moments.cross.double() + mean0 @ precision
    mean = solve(factor, right, layout)
    before = nu0_s0(model) + (layout.squares if squares is None else squares.double())
    before = before + (mean0 @ precision * mean0).sum(-1)
    scale = before - (right * mean).sum(-1)
    degrees = model.noise_degrees + (layout.observations if observations is None else observations).double()
    if moments.cross.dtype == torch.float32:
        lost = (scale < CANCELLED * before).any(0).nonzero().flatten()
        if len(lost) and known is not None:
            scale[:, lost] = _added_up(model, layout, moments.factors, mean, lost, *known)
        elif len(lost):
            log.warning("%d columns have noise too small for dtype=float32; use dtype=float64", len(lost))
    # Never below what the prior alone contributes: everything added to it is a sum of squares.
    return Regression(factor, mean, scale.clamp(min=nu0_s0(model)), degrees)


def nu0_s0(model: FactorAnalysis) -> float:
    """Return nu0 s0^2."""
    return model.noise_degrees * model.noise_scale


def _added_up(
    model: FactorAnalysis, layout: Layout, factors: Tensor, mean: Tensor, columns: Tensor, values: Tensor,
    observed: Tensor | None,
) -> Tensor:  # fmt: skip
    """Return nu s^2 of some columns as a sum of squared residuals."""
    precision, mean0 = prior(model, layout)
    chosen = mean[:, columns]
    fitted = factors.double() @ chosen[..., :-1].mT + chosen[..., -1].unsqueeze(1)
    residual = values[..., columns].double() - fitted
    if observed is not None:
        residual = torch.where(observed[:, columns], residual, 0.0)
    away = chosen - mean0[columns]
    return residual.square().sum(1) + ((away @ precision) * away).sum(-1) + nu0_s0(model)


def solve(factor: Float[Tensor, "C G A A"], right: Float[Tensor, "C D A"], layout: Layout) -> Float[Tensor, "C D A"]:
    """Return precision_g^-1 right_d for every column d, g its group."""
    return _by_group(lambda L, b: torch.cholesky_solve(b, L), factor, right, layout)


def spread(factor: Float[Tensor, "C G A A"], noise: Float[Tensor, "C D A"], layout: Layout) -> Float[Tensor, "C D A"]:
    """Return L_g^-T noise_d: of covariance precision_g^-1 when the noise is standard normal."""
    return _by_group(lambda L, b: torch.linalg.solve_triangular(L.mT, b, upper=True), factor, noise, layout)


def _by_group(function: Callable[[Tensor, Tensor], Tensor], factor: Tensor, right: Tensor, layout: Layout) -> Tensor:
    if layout.few_groups:  # one factor, many right-hand sides
        result = torch.empty_like(right)
        for g, columns in enumerate(layout.members()):
            result[:, columns] = function(factor[:, g], right[:, columns].mT).mT
        return result
    return function(factor[:, layout.group], right.unsqueeze(-1)).squeeze(-1)


def log_normal_inverse_gamma(
    regression: Regression, layout: Layout, beta: Float[Tensor, "C D A"], noise_variance: Float[Tensor, "C D"]
) -> Float[Tensor, C]:
    """Return the log density of coefficients and noise variances, summed over columns."""
    away = beta - regression.mean
    L = regression.factor
    if layout.few_groups:
        quadratic = torch.empty_like(noise_variance)
        for g, columns in enumerate(layout.members()):
            quadratic[:, columns] = (away[:, columns] @ L[:, g]).square().sum(-1)
    else:
        quadratic = (away.unsqueeze(-2) @ L[:, layout.group]).squeeze(-2).square().sum(-1)
    log_determinant = 2 * (L.diagonal(dim1=-2, dim2=-1).log().sum(-1))[:, layout.group]
    size = beta.shape[-1]
    normal = 0.5 * (log_determinant - size * (2 * math.pi * noise_variance).log() - quadratic / noise_variance)
    a, b = regression.degrees / 2, regression.scale / 2
    gamma = a * b.log() - torch.lgamma(a) - (a + 1) * noise_variance.log() - b / noise_variance
    return (normal + gamma).sum(-1)


def log_prior(
    model: FactorAnalysis, layout: Layout, beta: Float[Tensor, "C D A"], noise_variance: Float[Tensor, "C D"]
) -> Float[Tensor, C]:
    """Return the log prior density of coefficients (relative to the offset) and noise variances, hand-summed."""
    precision, mean0 = prior(model, layout)
    degrees = precision.new_full((len(mean0),), float(model.noise_degrees))
    start = Regression(
        torch.linalg.cholesky(precision).expand(len(beta), len(layout.sizes), -1, -1),
        mean0.expand(len(beta), -1, -1),
        precision.new_full((len(beta), len(mean0)), nu0_s0(model)),
        degrees,
    )
    return log_normal_inverse_gamma(start, layout, beta.double(), noise_variance.double()).to(beta.dtype)


def draw_noise(scale: Float[Tensor, "C D"], degrees: Float[Tensor, "*C D"]) -> Float[Tensor, "C D"]:
    """Draw sigma_d^2 ~ InvGamma(degrees / 2, scale / 2), above zero."""
    gamma = torch.distributions.Gamma((degrees / 2).expand_as(scale), 1.0, validate_args=False)
    return (scale / 2 / gamma.sample().clamp(min=torch.finfo(scale.dtype).tiny)).clamp(max=torch.finfo(scale.dtype).max)


def draw_columns(found: Regression, layout: Layout) -> tuple[Float[Tensor, "C D A"], Float[Tensor, "C D"]]:
    """Draw (w_d, mu_d - offset_d) and sigma_d^2 as one normal-inverse-gamma block."""
    noise_variance = draw_noise(found.scale, found.degrees)
    standard = standard_normal(found.mean)
    return found.mean + noise_variance.sqrt().unsqueeze(-1) * spread(found.factor, standard, layout), noise_variance
