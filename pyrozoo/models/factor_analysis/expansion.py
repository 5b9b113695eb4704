"""Parameter expansion: moves along what the likelihood cannot see, where EM and CAVI creep.

Shifting and turning the factors, z' = R (z - b), while w' = R^-T w and mu' = mu + w . b, leaves every x_n as likely as
it was; only the priors of z, w and mu notice. The best b, then the best R given b, have closed forms (Liu, Rubin and
Wu 1998, Biometrika 85; for variational factors Luttinen and Ilin 2010, Neurocomputing 73).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.linear_algebra import safe_cholesky, signed


def expansion(
    rows: Float[Tensor, "C A A"], columns: Float[Tensor, "C A A"], loadings_precision: float | None,
    mean_precision: float, exponent: float,
) -> tuple[Float[Tensor, "C A A"], Float[Tensor, "C A A"]]:  # fmt: skip
    """Return T and its inverse: beta' = T beta says the same as beta and is likelier a priori.

    With A = sum_n E[(z - b)(z - b)^T] and B = sum_d E[w w^T / sigma^2], the terms that notice R are
    -1/2 tr(R A R^T) - kappa/2 tr(R^-T B R^-1) + n log|R|. Their maximum over Q = R^T R solves
    Q A Q - n Q - kappa B = 0: with A = L L^T and kappa L^T B L = U c U^T, Q = L^-T U y U^T L^-1 where
    y^2 - n y - c = 0.

    Args:
        rows: sum over rows of E[a a^T], a = (z, 1).
        columns: sum over columns of E[beta beta^T / sigma^2], where the mean in beta is the whole mu, without offset.
        loadings_precision: kappa; None (a prior that is not the same in all directions) only shifts.
        mean_precision: lambda0.
        exponent: n, how often log|R| counts: N for a point; N - D where the entropy of q(W) counts too.
    """
    M, N = rows.shape[-1] - 1, rows[..., -1, -1]
    A, z = rows[..., :M, :M], rows[..., :M, -1]
    B, cross = columns[..., :M, :M], columns[..., :M, -1]
    eye = torch.eye(M, dtype=rows.dtype, device=rows.device)
    # The best shift: (N I + lambda0 B) b = sum_n E[z_n] - lambda0 sum_d E[w mu / sigma^2]
    shift = torch.linalg.solve(N[:, None, None] * eye + mean_precision * B, z - mean_precision * cross)
    T = torch.eye(M + 1, dtype=rows.dtype, device=rows.device).repeat(len(rows), 1, 1)
    inverse = T.clone()
    T[:, -1, :M], inverse[:, -1, :M] = shift, -shift
    if loadings_precision is None:
        return T, inverse
    A = A - shift.unsqueeze(-1) * z.unsqueeze(-2) - z.unsqueeze(-1) * shift.unsqueeze(-2)
    A = A + N[:, None, None] * shift.unsqueeze(-1) * shift.unsqueeze(-2)
    L = safe_cholesky(A, "the second moment of the factors")
    c, U = torch.linalg.eigh(loadings_precision * L.mT @ B @ L)
    U, c = signed(U), c.clamp(min=1e-12)
    root = (exponent**2 + 4 * c).sqrt()
    y = 0.5 * (exponent + root) if exponent >= 0 else 2 * c / (root - exponent)  # both without cancellation
    # R = y^1/2 U^T L^-1, so R^-T = y^-1/2 U^T L^T and R^T = L^-T U y^1/2
    back = y.rsqrt().unsqueeze(-1) * (U.mT @ L.mT)
    forth = torch.linalg.solve_triangular(L.mT, U * y.sqrt().unsqueeze(-2), upper=True)
    turn, unturn = T.new_zeros(T.shape), T.new_zeros(T.shape)
    turn[:, :M, :M], unturn[:, :M, :M] = back, forth
    turn[:, -1, -1] = unturn[:, -1, -1] = 1
    return turn @ T, inverse @ unturn
