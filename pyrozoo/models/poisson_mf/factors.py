"""Gamma factors of q: means, expected logs, their part of the bound; and q(theta_n) of rows given q(eta)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.data.triplets import Triplets
from pyrozoo.math.special import digamma, gamma_functions
from pyrozoo.models.poisson_mf.likelihood import expected_total, row_exposure, row_shares, shared
from pyrozoo.models.poisson_mf.model import PoissonMF


@dataclass(frozen=True)
class Factor:
    """What is needed of q(theta), or of q(eta): its mean, E log, and its part of the bound."""

    mean: Float[Tensor, "C N K"]
    log: Float[Tensor, "C N K"]
    bound: Float[Tensor, C]


@dataclass(frozen=True)
class Rows:
    """q(theta_n) of some rows at its optimum given q(eta), their part of the bound, and counts by column and factor.

    ``rates_rate`` is that of q(xi_n) when the model is hierarchical.
    """

    shape: Float[Tensor, "C N K"]
    rate: Float[Tensor, "C N_or_1 K"]
    rates_rate: Float[Tensor, "C N"] | None
    bound: Float[Tensor, C]
    of_columns: Float[Tensor, "C M K"]


def rates_shape(model: PoissonMF, factor_shape: float) -> float:
    """Return the shape of q(xi_n): rate_shape + K row_shape."""
    return model.rate_shape + model.num_factors * factor_shape


def rates_rate(model: PoissonMF, mean: float, factors: Float[Tensor, "C N K"]) -> Float[Tensor, "C N"]:
    """Return the rate of q(xi_n): rate_shape / mean + sum_k E theta_nk."""
    return model.rate_shape / mean + factors.sum(-1)


def rates_given(model: PoissonMF, theta: Tensor, eta: Tensor) -> list[tuple[float, Tensor]]:
    """Return shape and rate of xi and of omega given factors [C, N, K] and [C, M, K], or their means.

    Without the hierarchy there are none.
    """
    sides = (model.row_shape, model.row_rate, theta), (model.column_shape, model.column_rate, eta)
    return [(rates_shape(model, a), rates_rate(model, mean, x)) for a, mean, x in sides if model.hierarchical]


def factors_given(
    model: PoissonMF, side: int, counts: Tensor, exposure: Tensor, rates: Tensor | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return shape and rate of theta, side 0, or of eta, 1, given how counts are shared among factors.

    Args:
        model: The model.
        side: Which.
        counts: Of each row, or column, and factor.
        exposure: What the rates of its cells are, summed up, for a factor of 1.
        rates: xi or omega; None: there are none.
    """
    a, b = ((model.row_shape, model.row_rate), (model.column_shape, model.column_rate))[side]
    return a + counts, (b if rates is None else rates.unsqueeze(-1)) + exposure


def expected_rate(model: PoissonMF, a: float, b: float, xi: Tensor | None) -> Tensor | float:
    """Return E xi, to be broadcast over factors, or the fixed rate; arguments are those of ``factor``."""
    return b if xi is None else (rates_shape(model, a) / xi).unsqueeze(-1)


def factor(model: PoissonMF, shape: Tensor, rate: Tensor, a: float, b: float, xi: Tensor | None) -> Factor:
    """Return mean and E log of a Gamma factor, and E log p - E log q of it and of the rates above it.

    For each cell a E log xi - log Gamma(a) + log Gamma(shape) + (a - shape) digamma(shape) - a log rate
    - E xi E theta + shape.

    Args:
        model: The model.
        shape: Of q.
        rate: Of q; one row stands for all when they share it.
        a: Shape of the prior.
        b: Rate of the prior, or the mean of the rates.
        xi: Rate of q(xi), when the model is hierarchical.
    """
    K, cells = shape.shape[-1], shape[0].numel()
    psi, log_gamma = gamma_functions(shape)
    log_rate, mean = rate.log(), shape / rate
    bound = (
        log_gamma.sum((-1, -2))
        + a * psi.sum((-1, -2))
        - torch.linalg.vecdot(shape.flatten(1), psi.flatten(1))
        + shape.sum((-1, -2))
        - a * log_rate.sum((-1, -2)) * (shape.shape[-2] / rate.shape[-2])
        - math.lgamma(a) * cells
    )
    if xi is None:
        bound = bound + a * math.log(b) * cells - b * mean.sum((-1, -2))
    else:
        xi_shape, c = rates_shape(model, a), model.rate_shape
        expected, log_xi = xi_shape / xi, torch.digamma(shape.new_full((), xi_shape)) - xi.log()
        own = (  # E log p(xi) - E log q(xi)
            c * math.log(c / b) - math.lgamma(c) + math.lgamma(xi_shape) - xi_shape * xi.log()
            + (c - xi_shape) * log_xi - (c / b) * expected + xi_shape
        )  # fmt: skip
        bound = bound + (a * K * log_xi + own - expected * mean.sum(-1)).sum(-1)
    return Factor(mean, psi - log_rate, bound)


def fit_rows(
    model: PoissonMF, log_eta: Float[Tensor, "C M K"], mean_eta: Float[Tensor, "C M K"], rows: Triplets, *,
    steps: int, tol: float,
) -> Rows:  # fmt: skip
    """Bring q(theta_n), and q(xi_n), of some rows to its optimum given q(eta).

    Args:
        model: The model.
        log_eta: E log eta.
        mean_eta: E eta.
        rows: Their counts.
        steps: Most updates.
        tol: Mean relative change of E theta_n below which they stop.
    """
    m, K = model, model.num_factors
    eta, exposure = log_eta.exp(), row_exposure(mean_eta, rows)
    # Every factor starts with an equal share of the row's count.
    share = rows.pattern.row_sums(rows.counts) / K
    shape = (m.row_shape + share)[:, None].expand(len(eta), len(share), K)
    rate, xi = m.row_rate + exposure, None
    previous = shape / rate
    for _ in range(steps):
        if m.hierarchical:
            xi = rates_rate(m, m.row_rate, previous)
            rate = expected_rate(m, m.row_shape, m.row_rate, xi) + exposure
        logs = digamma(shape) - rate.log()
        shape = m.row_shape + row_shares(logs.exp(), eta, rows, (logs, log_eta))
        mean = shape / rate
        change = (mean - previous).abs().sum() / mean.sum()
        previous = mean
        if change < tol:
            break
    if m.hierarchical:
        xi = rates_rate(m, m.row_rate, previous)
    theta = factor(m, shape, rate, m.row_shape, m.row_rate, xi)
    _, of_columns, evidence = shared(theta.log.exp(), eta, rows, (theta.log, log_eta))
    bound = evidence - expected_total(theta.mean, mean_eta, rows) + theta.bound
    return Rows(shape, rate, xi, bound, of_columns)
