"""Alignment of labels and rotations: what brings draws onto a pivot."""

from __future__ import annotations

import math

import numpy as np
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
        order[rest] = least_assignment(cost[rest])
    return order


def least_assignment(cost: Float[Tensor, "S K K"]) -> Int[Tensor, "S K"]:
    """Return for each row of every matrix the column that it has where the sum is least, each column once.

    Shortest augmenting paths with potentials (Jonker and Volgenant 1987, Computing 38), all matrices at once.

    Args:
        cost: Finite.
    """
    table, (S, K) = cost.double().cpu().numpy(), cost.shape[:2]
    # Column 0 stands before all: the row that is being placed has it. Row 0 is none.
    rows, u, v = np.zeros((S, K + 1), int), np.zeros((S, K + 1)), np.zeros((S, K + 1))
    for i in range(1, K + 1):
        rows[:, 0] = i
        at, way, used = np.zeros(S, int), np.zeros((S, K + 1), int), np.zeros((S, K + 1), bool)
        least, busy = np.full((S, K + 1), np.inf), np.arange(S)
        while len(busy):
            used[busy, at[busy]] = True
            row, taken = rows[busy, at[busy]], used[busy]
            reduced = table[busy, row - 1] - u[busy, row][:, None] - v[busy, 1:]
            nearer = np.pad(~taken[:, 1:] & (reduced < least[busy, 1:]), ((0, 0), (1, 0)))
            least[busy] = np.where(nearer, np.pad(reduced, ((0, 0), (1, 0))), least[busy])
            way[busy] = np.where(nearer, at[busy][:, None], way[busy])
            step = np.where(taken, np.inf, least[busy])
            at[busy] = step.argmin(1)
            step = step.min(1, keepdims=True)
            u[busy[:, None], rows[busy]] += np.where(taken, step, 0)
            v[busy] -= np.where(taken, step, 0)
            least[busy] -= np.where(taken, 0, step)
            busy = busy[rows[busy, at[busy]] != 0]
        busy = np.arange(S)
        while len(busy):
            before = way[busy, at[busy]]
            rows[busy, at[busy]] = rows[busy, before]
            at[busy] = before
            busy = busy[before != 0]
    return torch.from_numpy(rows[:, 1:].argsort(1)).to(cost.device)


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
