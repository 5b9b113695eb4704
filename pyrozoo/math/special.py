"""Special functions, many at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.compiler.kernels import Kernels, threads

KERNELS = Kernels(__file__)


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
