"""Linear algebra that says when it had to help."""

from __future__ import annotations

import logging

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.types import NumericalError

log = logging.getLogger(__name__)

JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)


def safe_cholesky(matrix: Float[Tensor, "*batch n n"], what: str = "a matrix") -> Float[Tensor, "*batch n n"]:
    """Return the lower Cholesky factor, with the least relative jitter on the diagonal that makes it exist.

    Args:
        matrix: Symmetric.
        what: Its name in messages.

    Raises:
        NumericalError: Not positive definite even with a jitter of 1e-4 times the mean diagonal.
    """
    scale = matrix.diagonal(dim1=-2, dim2=-1).abs().mean(-1)[..., None, None]
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for jitter in JITTERS:
        factor, info = torch.linalg.cholesky_ex(matrix + jitter * scale * eye)
        if not info.any() and torch.isfinite(factor).all():
            if jitter:
                log.warning("%s needed a jitter of %g times its mean diagonal to be factored", what, jitter)
            return factor
    raise NumericalError(f"{what} is not positive definite")
