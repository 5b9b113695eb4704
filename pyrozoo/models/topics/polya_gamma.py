"""Logits of documents drawn one topic after another, all documents at once, by Polya-Gamma augmentation made cheap.

Given the logits of the other topics, that of topic k has the density of a logistic regression with one covariate (Chen,
Zhu, Wang, Zheng and Zhang 2013, NIPS 26): with psi = eta_k - log sum_{j != k} exp(eta_j), of N tokens C from topic k,

    p(eta_k | -) prop. to N(eta_k; m, v) exp(C psi) / (1 + exp(psi))^N.

With omega ~ PG(N, psi) this becomes a normal (Polson, Scott and Windle 2013, JASA 108), but an exact PG(N, psi) is a
sum of N draws. Here omega is drawn from the Gamma distribution q(omega | psi) that has the mean and the variance of
PG(N, psi), then eta_k from the same normal, and the pair is accepted as Metropolis and Hastings have it:
min(1, exp(h(psi') - h(psi))), h(psi) = omega psi^2 / 2 - N log(2 cosh(psi / 2)) + log q(omega | psi). Were q the
Polya-Gamma density, h would not depend on psi. So eta has its exact conditional whatever N, at the cost of one draw.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.polya_gamma import moments


def log_correction(
    psi: Float[Tensor, "*b"], omega: Float[Tensor, "*b"], tokens: Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    """Return h(psi)."""
    mean, variance = moments(psi)
    shape, rate = tokens * mean.square() / variance, mean / variance
    log_gamma = shape * rate.log() - torch.lgamma(shape) + (shape - 1) * omega.log() - rate * omega
    size = psi.abs()
    return 0.5 * omega * psi.square() - tokens * (0.5 * size + torch.log1p(torch.exp(-size))) + log_gamma


def draw_one(
    logit: Float[Tensor, "*b"], others: Float[Tensor, "*b"], count: Float[Tensor, "*b"], tokens: Float[Tensor, "*b"],
    mean: Float[Tensor, "*b"], variance: Float[Tensor, "*b"],
) -> Float[Tensor, "*b"]:  # fmt: skip
    """Draw logits of one topic, which leaves their conditional distribution as it is.

    Args:
        logit: eta_k.
        others: log sum_{j != k} exp(eta_j).
        count: C, tokens from topic k.
        tokens: N; where there are none the draw is from the prior.
        mean: m.
        variance: v.
    """
    tiny, some = torch.finfo(logit.dtype).tiny, tokens > 0
    known = torch.where(some, tokens, 1.0)
    psi = logit - others
    at, spread = moments(psi)
    omega = (torch._standard_gamma(known * at.square() / spread) * (spread / at)).clamp(min=tiny)
    used = torch.where(some, omega, 0.0)
    precision = used + 1 / variance
    middle = (count - 0.5 * tokens + used * others + mean / variance) / precision
    new = middle + torch.randn_like(logit) / precision.sqrt()
    gain = log_correction(new - others, omega, known) - log_correction(psi, omega, known)
    accepted = torch.rand_like(logit).log() < gain
    return torch.where(accepted | ~some, new, logit)


def draw_logits(
    logits: Float[Tensor, "C D d"], counts: Float[Tensor, "C D K"], mean: Float[Tensor, "C d"],
    precision: Float[Tensor, "C d d"],
) -> Float[Tensor, "C D d"]:  # fmt: skip
    """Draw the logits of one topic after another, given the tokens of each topic.

    Args:
        logits: eta, the last being 0.
        counts: Tokens of documents and topics.
        mean: mu.
        precision: Sigma^-1.
    """
    columns, d = list(logits.unbind(-1)), logits.shape[-1]
    tokens, variance = counts.sum(-1), 1 / precision.diagonal(dim1=-2, dim2=-1)
    away = (logits - mean[:, None]) @ precision  # Sigma^-1 (eta - mu), kept up to date
    # log sum exp of the logits behind each, the last among them.
    behind = [torch.zeros_like(tokens)]
    for column in reversed(columns[1:]):
        behind.append(torch.logaddexp(behind[-1], column))
    before = torch.full_like(tokens, -math.inf)
    for k in range(d):
        others = torch.logaddexp(before, behind[d - 1 - k])
        its = variance[:, k, None]
        middle = columns[k] - its * away[..., k]
        new = draw_one(columns[k], others, counts[..., k], tokens, middle, its.expand_as(middle))
        away = away + (new - columns[k])[..., None] * precision[:, None, k]
        columns[k] = new
        before = torch.logaddexp(before, new)
    return torch.stack(columns, -1)
