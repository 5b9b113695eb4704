"""Alignment of labels and rotations: what brings draws onto a pivot."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def match_components(features: Float[Tensor, "S K P"], pivot: Float[Tensor, "K P"]) -> Int[Tensor, "S K"]:
    """Match the components of every draw to those of a pivot with the least total squared distance.

    The Hungarian assignment, draw by draw (Stephens 2000, J. R. Stat. Soc. B 62, section 4, with a squared-error loss).

    Args:
        features: What describes each component, on comparable scales.
        pivot: The same for the pivot.

    Returns:
        Order [S, K]: component ``order[s, k]`` of draw s is the pivot's component k.
    """
    cost = torch.cdist(pivot.expand(features.shape[0], -1, -1), features).square()
    order = cost.argmin(2)
    # Where each component of the pivot has another one nearest, this is the least total.
    rest = (order.sort(1).values != torch.arange(order.shape[1], device=order.device)).any(1)
    if bool(rest.any()):
        from scipy.optimize import linear_sum_assignment  # which takes half a second to load

        found = [linear_sum_assignment(each)[1].tolist() for each in cost[rest].cpu().numpy()]
        order[rest] = torch.as_tensor(found, device=order.device)
    return order


def relabelling(features: Float[Tensor, "S K P"], sweeps: int = 3) -> Int[Tensor, "S K"]:
    """Bring draws onto each other without a reference: match to a pivot, make their mean the new pivot, again.

    Args:
        features: What describes each component, on comparable scales.
        sweeps: Rounds; the first pivot is the last draw.

    Returns:
        Order [S, K] as in ``match_components``.
    """
    pivot = features[-1]
    for _ in range(sweeps):
        order = match_components(features, pivot)
        pivot = torch.take_along_dim(features, order.unsqueeze(-1), 1).mean(0)
    return order


def procrustes(matrices: Float[Tensor, "S D K"], pivot: Float[Tensor, "D K"]) -> Float[Tensor, "S K K"]:
    """Return the orthogonal matrices that bring each matrix closest to the pivot, in squared error.

    With U s V^T the singular value decomposition of matrix^T pivot, U V^T (Schönemann 1966, Psychometrika 31).

    Args:
        matrices: Loadings of every draw.
        pivot: Where to.

    Returns:
        Rotations R (reflections included): ``matrices @ R`` is aligned.
    """
    left, _, right = torch.linalg.svd(matrices.mT @ pivot, full_matrices=False)
    return left @ right


def rotations(matrices: Float[Tensor, "S D K"], sweeps: int = 3) -> Float[Tensor, "S K K"]:
    """Bring draws onto each other without a reference, then their mean onto its principal axes, largest first.

    Generalised Procrustes: rotate to a pivot, make their mean the new pivot, again (Gower 1975, Psychometrika 40).
    Signs are such that every column of the mean has a positive sum of cubes: its largest entries are positive.

    Args:
        matrices: Loadings of every draw, divided by the noise's standard deviation so that columns weigh alike.
        sweeps: Rounds; the first pivot is the last draw.
    """
    pivot = matrices[-1]
    for _ in range(sweeps):
        turn = procrustes(matrices, pivot)
        pivot = (matrices @ turn).mean(0)
    axes = torch.linalg.eigh(pivot.mT @ pivot).eigenvectors.flip(1)  # largest first
    sign = torch.where((pivot @ axes).pow(3).sum(0) < 0, -1.0, 1.0).to(pivot.dtype)
    return turn @ (axes * sign)


ZERO_LENGTH = 1e-8
"""Share of the largest squared length below which a factor is zero."""


def log_orbit(gram: Float[Tensor, "K K"], scale: float = 0.0) -> tuple[int, float]:
    """Return dimension and log volume of the orbit {W R: R orthogonal} from W^T W.

    Its tangent vectors W (E_ij - E_ji) are orthogonal with squared lengths l_i + l_j, l the eigenvalues of W^T W. With
    r of them positive, R counts up to turns of the rest, and the volume of O(K) / O(K - r) is
    prod_{m = K - r + 1..K} 2 pi^(m/2) / Gamma(m/2) where such vectors of I have length 1.

    Args:
        gram: W^T W.
        scale: A squared length that is not small, for when all of W may be zero.
    """
    K = len(gram)
    level = torch.linalg.eigvalsh(gram).clamp(min=0).flip(0)
    rank = int((level > ZERO_LENGTH * level[0].clamp(min=max(scale, 1e-30))).sum())
    i, j = torch.tril_indices(K, K, -1)
    moved = j < rank  # j < i, and levels fall: the larger of the two is positive
    half_log_pi = 0.5 * math.log(math.pi)
    sphere = sum(math.log(2) + m * half_log_pi - math.lgamma(0.5 * m) for m in range(K - rank + 1, K + 1))
    lengths = 0.5 * (level[i[moved]] + level[j[moved]]).log().sum()
    return int(moved.sum()), float(sphere + lengths)
