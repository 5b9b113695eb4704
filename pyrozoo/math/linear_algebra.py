"""Linear algebra that says when it had to help."""

from __future__ import annotations

import logging
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyrozoo.compiler.cuda import CudaKernels, power_of_two
from pyrozoo.compiler.kernels import switched_on
from pyrozoo.core.errors import NumericalError
from pyrozoo.math.branches import holds, may_branch

log = logging.getLogger(__name__)

CUDA, MOST_IN_REGISTERS, MOST_SWEEPS, WARPS = CudaKernels(__file__), 64, 14, 4
"""Rows of a matrix, and sweeps, up to which eigenvectors are found on CUDA by a kernel, and its warps."""

PRODUCTS, ORTHOGONAL = 14, 1e-12
"""Steps to the root of a matrix, and how far from orthogonal, or from the identity, what they come to may be."""

JITTERS = (1e-10, 1e-8, 1e-6, 1e-4)


def safe_cholesky(matrix: Float[Tensor, "*batch n n"], what: str = "a matrix") -> Float[Tensor, "*batch n n"]:
    """Return the lower Cholesky factor, with the least relative jitter on the diagonal that makes it exist.

    Args:
        matrix: Symmetric.
        what: Its name in messages.

    Raises:
        NumericalError: Not positive definite even with a jitter of 1e-4 times the mean diagonal.
    """
    if not may_branch():
        return torch.linalg.cholesky_ex(matrix)[0]
    factor, info = torch.linalg.cholesky_ex(matrix)
    if _exists(factor, info):
        return factor
    scale = matrix.diagonal(dim1=-2, dim2=-1).abs().mean(-1)[..., None, None]
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for jitter in JITTERS:
        factor, info = torch.linalg.cholesky_ex(matrix + jitter * scale * eye)
        if _exists(factor, info):
            log.warning("%s needed a jitter of %g times its mean diagonal to be factored", what, jitter)
            return factor
    raise NumericalError(f"{what} is not positive definite")


def _exists(factor: Tensor, info: Tensor) -> bool:
    """Return whether all factors exist: one question, as a device is waited for."""
    return holds((info == 0).all() & torch.isfinite(factor).all())


@cache
def _indices(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows and columns of the lower triangle, row by row, their place in the square, and the way back."""
    i, j = torch.tril_indices(size, size, device=device)
    back = torch.empty(size, size, dtype=torch.long, device=device)
    back[i, j] = back[j, i] = torch.arange(len(i), device=device)
    return i, j, i * size + j, back.flatten()


def pack(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch t"]:
    """Return the lower triangle of symmetric matrices, row by row: t = n (n + 1) / 2 numbers instead of n^2."""
    _, _, place, _ = _indices(matrix.shape[-1], matrix.device)
    return matrix.flatten(-2).index_select(-1, place)


def unpack(packed: Float[Tensor, "*batch t"], size: int) -> Float[Tensor, "*batch n n"]:
    """Return symmetric matrices of ``size`` rows from (the first entries of) their packed lower triangles."""
    back = _indices(size, packed.device)[3]
    return packed.index_select(-1, back).unflatten(-1, (size, size))


def packed_outer(left: Float[Tensor, "*batch n"], right: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch t"]:
    """Return the packed lower triangle of left right^T, for use where it is symmetric (left = c right)."""
    i, j, _, _ = _indices(left.shape[-1], left.device)
    return left.index_select(-1, i) * right.index_select(-1, j)


def eigenvectors(matrix: Float[Tensor, "C n n"]) -> tuple[Float[Tensor, "C n"], Float[Tensor, "C n n"]]:
    """Return eigenvalues in ascending order, and eigenvectors as columns, of positive semi-definite matrices."""
    size = matrix.shape[-1]
    if size <= MOST_IN_REGISTERS and matrix.dtype == torch.float64 and CUDA.serve(matrix):
        matrix, vectors = matrix.contiguous(), torch.empty_like(matrix.contiguous())
        values = matrix.new_empty(len(matrix), size)
        width = power_of_two(size)
        CUDA("jacobi", (len(matrix),), matrix, vectors, values, size, MOST_SWEEPS, WIDTH=width, num_warps=WARPS)
        eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
        if holds(((vectors.mT @ vectors - eye).abs() < ORTHOGONAL).all()):
            values, order = values.sort(-1)
            return values, vectors.gather(-1, order.unsqueeze(-2).expand_as(vectors))
    return torch.linalg.eigh(matrix)


def symmetric_root(matrix: Float[Tensor, "C n n"]) -> tuple[Float[Tensor, "C n n"], Float[Tensor, "C n n"]]:
    """Return R = (A^T A)^(1/2), symmetric, and its inverse, of invertible matrices A.

    On CUDA, where singular values of small matrices take hundreds of launches, by products.
    """
    if matrix.device.type == "cuda" and switched_on():
        root, inverse, fine = root_by_products(matrix)
        if holds(fine):
            return root, inverse
    _, size, axes = torch.linalg.svd(matrix)
    return axes.mT @ (size.unsqueeze(-1) * axes), axes.mT @ (axes / size.unsqueeze(-1))


def root_by_products(
    matrix: Float[Tensor, "C n n"]
) -> tuple[Float[Tensor, "C n n"], Float[Tensor, "C n n"], Bool[Tensor, ""]]:  # fmt: skip
    """Return what ``symmetric_root`` does, and whether the steps were enough: not so of matrices far from orthogonal.

    Newton's and Schulz's iteration (Higham 2008, Functions of Matrices, section 6.7): from Y = A^T A and Z = I,
    Y <- Y (3 I - Z Y) / 2 and Z <- (3 I - Z Y) Z / 2.
    """
    eye, square = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device), matrix.mT @ matrix
    scale = square.abs().sum(-1).amax(-1)[:, None, None]  # no eigenvalue is larger
    Y, Z = square / scale, eye.expand_as(square)
    for _ in range(PRODUCTS):
        T = 1.5 * eye - 0.5 * (Z @ Y)
        Y, Z = Y @ T, T @ Z
    return Y * scale.sqrt(), Z / scale.sqrt(), ((Z @ Y - eye).abs() < ORTHOGONAL).all()


def cholesky_solved(right: Float[Tensor, "*batch n m"], factor: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*b n m"]:
    """Return (L L^T)^-1 B; on CUDA in two steps, which take no library that waits for the host."""
    if right.device.type != "cuda":
        return torch.cholesky_solve(right, factor)
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)


def inverted(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """Return inverses of symmetric positive definite matrices; on CUDA by what does not wait for the host."""
    if matrix.device.type != "cuda":
        return torch.linalg.inv(matrix)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return cholesky_solved(eye.expand_as(matrix), torch.linalg.cholesky_ex(matrix)[0])


def lower_factor(matrix: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
    """Return the lower Cholesky factor, not a number where there is none.

    Samplers try points where there is none, and take a density that is not a number for a divergence; a solver's
    objective that is not a number is an error of its engine. A jitter would hide both.
    """
    factor, info = torch.linalg.cholesky_ex(matrix)
    return torch.where((info > 0)[..., None, None], torch.nan, factor)


def covariance_factor(curvature: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
    """Return L with L L^T the inverse of a symmetric positive definite matrix."""
    flipped = lower_factor(curvature.flip((-1, -2))).flip((-1, -2))  # upper: U U^T
    eye = torch.eye(curvature.shape[-1], dtype=curvature.dtype, device=curvature.device)
    return torch.linalg.solve_triangular(flipped, eye.expand_as(curvature), upper=True).mT


TIED = 1e-6
"""Relative difference below which two elements of an axis count as equally large."""


def signed(axes: Float[Tensor, "*batch D R"]) -> Float[Tensor, "*batch D R"]:
    """Return axes, in columns, the first of whose largest elements is positive: libraries leave their signs open."""
    size = axes.abs()
    large = size >= (1 - TIED) * size.amax(-2, keepdim=True)
    order = torch.arange(axes.shape[-2], 0, -1, device=axes.device).unsqueeze(-1)
    first = (large * order).argmax(-2, keepdim=True)
    return axes * torch.where(axes.gather(-2, first) < 0, -1.0, 1.0).to(axes.dtype)


def spectrum(values: Float[Tensor, "N D"]) -> tuple[Float[Tensor, D], Float[Tensor, "D R"], Float[Tensor, D]]:
    """Return mean, principal axes (as many as rows or columns) and variances around the mean / N, largest first."""
    N, D = values.shape
    mean = values.mean(0)
    # A tall matrix has the singular values and axes of its R factor.
    centred = values - mean if N < D else torch.linalg.qr(values - mean, mode="r")[1]
    _, size, axes = torch.linalg.svd(centred, full_matrices=False)
    variances = values.new_zeros(D)
    variances[: len(size)] = size.square() / N
    return mean, signed(axes.mT), variances


LEAF = 8


def inverse_and_log_determinant(
    matrix: Float[Tensor, "*batch n n"], what: str = "a matrix"
) -> tuple[Float[Tensor, "*batch n n"], Float[Tensor, "*batch"]]:
    """Invert many small symmetric positive definite matrices.

    By halves (Schur complements), so that nearly all work is batched matrix products: three times as fast as a batched
    Cholesky factor and its inverse for thousands of 50 x 50 matrices.

    Raises:
        NumericalError: Not positive definite, even with the jitter of ``safe_cholesky``.
    """
    inverse, log_determinant = _by_halves(matrix)
    if may_branch() and not holds(torch.isfinite(log_determinant).all()):
        factor = safe_cholesky(matrix, what)
        return torch.cholesky_inverse(factor), 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return inverse, log_determinant


def _by_halves(matrix: Tensor) -> tuple[Tensor, Tensor]:
    size = matrix.shape[-1]
    if size <= LEAF or matrix.shape[:-2].numel() == 1:
        factor, info = torch.linalg.cholesky_ex(matrix)
        log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return torch.cholesky_inverse(factor), torch.where(info == 0, log_determinant, torch.nan)
    half = size // 2
    a, b, d = matrix[..., :half, :half], matrix[..., :half, half:], matrix[..., half:, half:]
    inverse_a, log_a = _by_halves(a)
    ab = inverse_a @ b
    inverse_s, log_s = _by_halves(d - b.mT @ ab)
    corner = ab @ inverse_s
    result = torch.empty_like(matrix)
    result[..., :half, :half] = inverse_a + corner @ ab.mT
    result[..., :half, half:] = -corner
    result[..., half:, :half] = -corner.mT
    result[..., half:, half:] = inverse_s
    return result, log_a + log_s


def standard_normal(like: Tensor) -> Tensor:
    """Return standard normal numbers in the shape of a tensor, contiguous: other layouts are drawn ten times slower."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device)
