"""Counts that vary more than Poisson ones: the negative binomial's density, and the M-step of its rates and sizes.

A count that is on is Poisson(E lambda g) with a factor g ~ Gamma(r, r) of its own. With g summed out it is negative
binomial, of mean m = E lambda and variance m + m^2 / r. Given the count g ~ Gamma(r + x, r + m), so that g can be what
is missing in EM; h = lambda g ~ Gamma(r, r / lambda) says the same. Where r > m the first leaves less unknown of
lambda, elsewhere the second: the share of the information that is missing is m / (r + m), or r / (r + m). Both are
lower bounds that touch the likelihood where they are made, for every component and column by itself, so that either may
be taken at any step (Meng and van Dyk 1997, J. R. Stat. Soc. B 59, on working parameters).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.models.zip_mixture.likelihood import Sums
from pyrozoo.models.zip_mixture.model import ZipMixture

Cells = Float[Tensor, "C K D"]

NEWTON = 40
"""Most steps of Newton's method for a size; five or six are the rule."""

LARGEST_SIZE = 1e12
"""Beyond it nothing tells a negative binomial from a Poisson distribution."""


def log_excess(x: Tensor, mean: Tensor, size: Tensor | None) -> Tensor:
    """Return log p(x) - x log m + log x! of a count of mean m: -m of Poisson counts, which have no size."""
    if size is None:
        return -mean
    return torch.lgamma(x + size) - torch.lgamma(size) - x * size.log() - (x + size) * torch.log1p(mean / size)


def best_rate(model: ZipMixture, rate: Cells, size: Cells, sums: Sums) -> Cells:
    """Return the rates that maximise the bound in which h = lambda g is missing, given the sizes.

    With W = sum b and H = sum b E h the bound is -W r log lambda - r H / lambda + (e0 - 1) log lambda - f0 lambda.
    """
    assert sums.factors is not None
    b, c, f = size * sums.on - model.rate_shape + 1, size * rate * sums.factors, model.rate_rate
    root = (b.square() + 4 * f * c).sqrt()
    # Of the two forms of the root of f lambda^2 + b lambda - c the one that does not cancel.
    return torch.where(b > 0, 2 * c / (b + root), (root - b) / (2 * f))


def best_size(model: ZipMixture, size: Cells, sums: Sums, change: Cells) -> Cells:
    """Return the sizes that maximise W (r log r - log Gamma(r)) + r S + (s0 - 1) log r - t0 r, by Newton's method.

    Args:
        model: The model.
        size: Where to begin.
        sums: W = sum b, and the sums of b E g and b E log g.
        change: Rate before over rate after, where h = lambda g is what is missing; else 1. S = sum b E log g + W log
            change - change sum b E g.
    """
    assert sums.factors is not None
    assert sums.log_factors is not None
    W, s, t = sums.on, model.size_shape, model.size_rate
    S = sums.log_factors + W * change.log() - change * sums.factors
    r = size.clamp(max=LARGEST_SIZE)
    for _ in range(NEWTON):
        slope = W * (r.log() + 1 - torch.digamma(r)) + S + (s - 1) / r - t
        curved = W * (1 / r - torch.polygamma(1, r)) - (s - 1) / r.square()
        # In 1 / r the slope is nearly straight.
        inverse = 1 / r + slope / (r.square() * curved)
        new = 1 / torch.maximum(torch.minimum(inverse, 10 / r), 0.1 / r)
        if bool(((new - r).abs() <= 1e-12 * r).all()):
            break
        r = new
    return r
