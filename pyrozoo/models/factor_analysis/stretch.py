"""A sampler's move along what the likelihood cannot see: a linear map of the factors against the loadings."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.linear_algebra import eigenvectors, safe_cholesky, signed, standard_normal, symmetric_root


def stretch(
    factors: Float[Tensor, "C M M"], loadings: Float[Tensor, "C M M"], exponent: float
) -> tuple[Float[Tensor, "C M M"], Float[Tensor, "C M M"]]:
    """Draw R of z' = R z, W' = W R^-1, which no value notices; return it and its inverse.

    A Gibbs step along a group (Liu and Sabatti 2000, Biometrika 87). The priors of z and W say of Q = R^T R, with
    respect to the group's invariant measure dQ / |Q|^((M + 1) / 2), that its density is proportional to
    |Q|^(n / 2) exp(-tr(Q A) / 2 - tr(Q^-1 B) / 2): a matrix generalised inverse Gaussian. It is
    proposed whatever stands there now, and accepted by Metropolis, in the basis where the mode of Q is the identity and
    A and B are diagonal, a and b with a = n + b; there Q = L^T L, L lower triangular. R is the symmetric root of Q: as
    neither density nor proposal knows a direction, any root that turns with the state leaves the posterior as it is.

    Args:
        factors: A = sum over rows of z z^T.
        loadings: B = kappa0 sum over columns of w w^T / sigma^2.
        exponent: n = N - D, how often log|R| counts in the volume of (z, W).
    """
    n, M = exponent, factors.shape[-1]
    root = safe_cholesky(factors, "the second moment of the factors")
    c, U = eigenvectors(root.mT @ loadings @ root)
    U, c = signed(U), c.clamp(min=1e-12)
    far = (n**2 + 4 * c).sqrt()
    a = 0.5 * (n + far) if n >= 0 else 2 * c / (far - n)  # both without cancellation
    b = c / a
    # To the basis: K = a^1/2 U^T root^-1. The state itself stands at L0 there, L0^T L0 = K^-T K^-1.
    back = root @ (U * a.rsqrt().unsqueeze(-2))  # K^-1
    here = safe_cholesky((back.mT @ back).flip((-1, -2)), "the second moment of the factors").flip((-1, -2)).mT
    power = n + torch.arange(1 - M, 1, dtype=a.dtype, device=a.device)  # of L_jj, with d log L_jj
    proposal = _Proposal(a, b, power)
    there = proposal.draw()
    gain = [_log_density(a, b, power, L) - proposal.log_density(L) for L in (there, here)]
    accepted = torch.rand_like(a[:, 0]).log() < gain[0] - gain[1]
    moved = there @ torch.linalg.solve_triangular(root, (U * a.sqrt().unsqueeze(-2)).mT, upper=False, left=False)
    R, inverse = symmetric_root(moved)
    eye = torch.eye(M, dtype=a.dtype, device=a.device)
    return torch.where(accepted[:, None, None], R, eye), torch.where(accepted[:, None, None], inverse, eye)


def _log_density(a: Tensor, b: Tensor, power: Tensor, L: Float[Tensor, "C M M"]) -> Float[Tensor, C]:
    """Return the target's log density of L, with respect to its elements below the diagonal and log L_jj."""
    eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
    inverse = torch.linalg.solve_triangular(L, eye, upper=False)
    traces = (a.unsqueeze(-2) * L.square() + b.unsqueeze(-1) * inverse.square()).sum((-1, -2))
    return (power * L.diagonal(dim1=-2, dim2=-1).log()).sum(-1) - 0.5 * traces


class _Proposal:
    """L_jj^2 gamma or, as often, inverse gamma; then L_ij ~ N(0, 1 / (a_j + b_i / (L_ii L_jj)^2)).

    Both have the mode and the curvature of the target in log L_jj; each has one tail above the target's.
    """

    def __init__(self, a: Tensor, b: Tensor, power: Tensor):
        self.a, self.b = a, b
        self.mode = 0.5 * (power + (power**2 + 4 * a * b).sqrt()) / a
        self.shape = 0.5 * (a * self.mode + b / self.mode)

    def _precision(self, squares: Tensor) -> Tensor:
        return self.a.unsqueeze(-2) + self.b.unsqueeze(-1) / (squares.unsqueeze(-1) * squares.unsqueeze(-2))

    def draw(self) -> Float[Tensor, "C M M"]:
        """Draw L."""
        gamma = torch.distributions.Gamma(self.shape, self.shape, validate_args=False).sample()
        gamma = gamma.clamp(min=torch.finfo(gamma.dtype).tiny)
        squares = self.mode * torch.where(torch.rand_like(gamma) < 0.5, gamma, 1 / gamma)
        precision = self._precision(squares)
        return (standard_normal(precision) * precision.rsqrt()).tril(-1) + torch.diag_embed(squares.sqrt())

    def log_density(self, L: Float[Tensor, "C M M"]) -> Float[Tensor, C]:
        """Return the log density, but for constants."""
        squares = L.diagonal(dim1=-2, dim2=-1).square()
        away = squares / self.mode
        diagonal = self.shape * torch.stack([away.log() - away, -away.log() - 1 / away])
        precision = self._precision(squares)
        below = (0.5 * (precision.log() - precision * L.square())).tril(-1).sum((-1, -2))
        return diagonal.logsumexp(0).sum(-1) + below
