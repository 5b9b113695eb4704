"""Logarithms of sums and expected logarithms; Kullback-Leibler divergences come from torch.distributions."""

from __future__ import annotations

import torch
from torch import Tensor


def log_sum_of_two(a: Tensor, b: Tensor) -> Tensor:
    """Return log(e^a + e^b) with finite derivatives; the second of torch.logaddexp is NaN for distant a and b."""
    return torch.maximum(a, b) + torch.nn.functional.softplus(-(a - b).abs())


def expected_log_dirichlet(concentration: Tensor) -> Tensor:
    """Return E[log p_k] for p ~ Dirichlet(concentration), over the last axis (Bishop 2006, eq. B.21)."""
    return torch.digamma(concentration) - torch.digamma(concentration.sum(-1, keepdim=True))


def expected_log_beta(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[log p] and E[log(1 - p)] for p ~ Beta(alpha, beta)."""
    total = torch.digamma(alpha + beta)
    return torch.digamma(alpha) - total, torch.digamma(beta) - total


def expected_log_gamma(shape: Tensor, rate: Tensor) -> Tensor:
    """Return E[log x] for x ~ Gamma(shape, rate) (Bishop 2006, eq. B.30)."""
    return torch.digamma(shape) - torch.log(rate)
