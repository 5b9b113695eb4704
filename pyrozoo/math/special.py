"""Special functions, many at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.compiler.kernels import Kernels, threads

KERNELS = Kernels(__file__)


MOST_LOOKED_UP = 2**16
"""Up to this count a table of log factorials costs less than they do, cell by cell."""


def log_factorial(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return log x! of counts, each of which is computed once where they are small."""
    if not x.numel() or not (most := float(x.max())) < MOST_LOOKED_UP:
        return torch.lgamma(x + 1)
    table = torch.lgamma(torch.arange(1, int(most) + 2, dtype=x.dtype, device=x.device))
    return table.index_select(0, x.long().flatten()).view_as(x)


def digamma(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the derivative of log Gamma at x > 0."""
    if not KERNELS.serve(x):
        return torch.digamma(x)
    x = x.contiguous()
    psi = torch.empty_like(x)
    KERNELS("gamma_functions", x.dtype, x, psi, None, x.numel(), threads())
    return psi


def gamma_functions(x: Float[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return digamma(x) and log Gamma(x) for x > 0."""
    if not KERNELS.serve(x):
        return torch.digamma(x), torch.lgamma(x)
    x = x.contiguous()
    psi, log_gamma = torch.empty_like(x), torch.empty_like(x)
    KERNELS("gamma_functions", x.dtype, x, psi, log_gamma, x.numel(), threads())
    return psi, log_gamma
