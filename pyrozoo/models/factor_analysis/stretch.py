"""A sampler's move along what the likelihood cannot see: factors and loadings stretched and turned against each other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.linear_algebra import safe_cholesky, standard_normal


def stretch(
    factors: Float[Tensor, "C M M"], loadings: Float[Tensor, "C M M"], exponent: float
) -> tuple[Float[Tensor, "C M M"], Float[Tensor, "C M M"]]:
    """Draw R of z' = R z, W' = W R^-1, which no value notices; return it and its inverse.

    A Gibbs step along a group (Liu and Sabatti 2000, Biometrika 87). The priors of z and W say of Q = R^T R, with
    respect to the group's invariant measure dQ / |Q|^((M + 1) / 2), that its density is proportional to
    |Q|^(n / 2) exp(-tr(Q A) / 2 - tr(Q^-1 B) / 2): a matrix generalised inverse Gaussian. It is drawn by an
    independent Metropolis proposal. In the basis where the mode of Q is the identity, A and B are diagonal there, a
    and b with a = n + b. With Q = L^T L, L lower triangular, the proposal has independent L_ij ~ N(0, 1 / (a_j + b_i))
    and L_jj^2 gamma of the target's mode and curvature. R is the symmetric root of Q: as the density and the proposal
    know no direction, any choice that turns with the state leaves the posterior as it is.

    Args:
        factors: A = sum over rows of z z^T.
        loadings: B = kappa0 sum over columns of w w^T / sigma^2.
        exponent: n = N - D, how often log|R| counts in the volume of (z, W).
    """
    n, M = exponent, factors.shape[-1]
    root = safe_cholesky(factors, "the second moment of the factors")
    c, U = torch.linalg.eigh(root.mT @ loadings @ root)
    c = c.clamp(min=1e-12)
    far = (n**2 + 4 * c).sqrt()
    a = 0.5 * (n + far) if n >= 0 else 2 * c / (far - n)  # both without cancellation
    b = c / a
    # To the basis: K = a^1/2 U^T root^-1. The state itself stands at L0 there, L0^T L0 = K^-T K^-1.
    back = root @ (U * a.rsqrt().unsqueeze(-2))  # K^-1
    here = safe_cholesky((back.mT @ back).flip((-1, -2)), "the second moment of the factors").flip((-1, -2)).mT
    power = n + torch.arange(1 - M, 1, dtype=a.dtype, device=a.device)  # of L_jj, less one
    mode = 0.5 * (power + (power**2 + 4 * a * b).sqrt()) / a
    shape = 0.5 * (a * mode + b / mode)
    gamma = torch.distributions.Gamma(shape, shape / mode, validate_args=False)
    precision = a.unsqueeze(-2) + b.unsqueeze(-1)
    there = (standard_normal(precision) * precision.rsqrt()).tril(-1) + torch.diag_embed(gamma.sample().sqrt())

    def weight(L: Tensor) -> Tensor:
        squares, diagonal = L.square(), L.diagonal(dim1=-2, dim2=-1).square()
        inverse = torch.linalg.solve_triangular(L, torch.eye(M, dtype=L.dtype, device=L.device), upper=False)
        # tr(Q A) + tr(Q^-1 B), less the proposal's squares below the diagonal
        less = (a.unsqueeze(-2) * squares + b.unsqueeze(-1) * inverse.square() - (precision * squares).tril(-1)).sum((-1, -2))
        return -0.5 * less + ((0.5 * power - shape) * diagonal.log() + shape / mode * diagonal).sum(-1)

    accepted = torch.rand(len(a), dtype=a.dtype, device=a.device).log() < weight(there) - weight(here)
    moved = there @ torch.linalg.solve_triangular(root, (U * a.sqrt().unsqueeze(-2)).mT, upper=False, left=False)
    _, size, axes = torch.linalg.svd(moved)
    eye = torch.eye(M, dtype=a.dtype, device=a.device)
    R = torch.where(accepted[:, None, None], axes.mT @ (size.unsqueeze(-1) * axes), eye)
    inverse = torch.where(accepted[:, None, None], axes.mT @ (axes / size.unsqueeze(-1)), eye)
    return R, inverse
