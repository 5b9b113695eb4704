"""Special functions, many at a time."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
"""B_2, B_4, ..."""

LARGEST = {torch.float64: 1e37, torch.float32: 1e9}
"""Beyond these the product of the recurrence leaves the range of floats."""


CACHED = 2**18
"""Arguments beyond which the terms leave the processor's cache, and passing over them takes longer than torch's own."""


class GammaFunctions:
    """Digamma and log Gamma of the same arguments together, in vector instructions; torch's go one by one.

    Both by recurrence, log Gamma(x) = log Gamma(x + n) - log (x (x + 1) ... (x + n - 1)), to where Stirling's series is
    as exact as the precision (Abramowitz and Stegun 1964, 6.1.40, 6.1.34, 6.3.18, 6.3.6); the product is a polynomial
    in t = x (x + n - 1), and its logarithmic derivative is the sum of 1 / (x + i). Results are written to memory that
    the next call with the same shape writes to again: fresh memory for every term takes longer than the arithmetic.
    """

    def __init__(self) -> None:
        self.memory: dict[tuple[torch.Size, torch.dtype, torch.device], list[Tensor]] = {}

    def __call__(self, x: Float[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
        """Return digamma(x) and log Gamma(x) for x > 0, valid until the next call with the same shape."""
        if x.is_cuda or not 0 < x.numel() <= CACHED or float(x.max()) > LARGEST[x.dtype]:
            return torch.digamma(x), torch.lgamma(x)
        key = x.shape, x.dtype, x.device
        if key not in self.memory:
            self.memory.clear()
            self.memory[key] = [torch.empty_like(x) for _ in range(7)]
        psi, log_gamma, t, product, slope, y, r = self.memory[key]
        double = x.dtype == torch.float64
        shift, terms = (8, 7) if double else (4, 4)
        torch.add(x, shift - 1, out=t).mul_(x)
        if double:  # t (t + 6) (t + 10) (t + 12) = t^4 + 28 t^3 + 252 t^2 + 720 t
            torch.add(t, 28, out=product).mul_(t).add_(252).mul_(t).add_(720).mul_(t)
            torch.mul(t, 4, out=slope).add_(84).mul_(t).add_(504).mul_(t).add_(720)
        else:  # t (t + 2)
            torch.add(t, 2, out=product).mul_(t)
            torch.mul(t, 2, out=slope).add_(2)
        torch.mul(x, 2, out=t).add_(shift - 1)
        slope.div_(product).mul_(t)
        torch.add(x, shift, out=y)
        torch.reciprocal(y, out=r)
        torch.mul(r, r, out=t)
        psi.fill_(-BERNOULLI[terms - 1] / (2 * terms))
        log_gamma.fill_(BERNOULLI[terms - 1] / (2 * terms * (2 * terms - 1)))
        for k in range(terms - 1, 0, -1):
            psi.mul_(t).add_(-BERNOULLI[k - 1] / (2 * k))
            log_gamma.mul_(t).add_(BERNOULLI[k - 1] / (2 * k * (2 * k - 1)))
        log_gamma.mul_(r).sub_(y).sub_(product.log_())
        psi.mul_(t).sub_(r, alpha=0.5).sub_(slope)
        torch.log(y, out=t)
        psi.add_(t)
        log_gamma.add_(y.sub_(0.5).mul_(t)).add_(0.5 * math.log(2 * math.pi))
        return psi, log_gamma
