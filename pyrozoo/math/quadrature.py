"""Expectations under a standard normal distribution as weighted sums over points."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

PRODUCTS = 3
"""Dimensions up to which products of Gauss-Hermite rules are taken."""

NEGLIGIBLE = 1e-13
"""Nodes with less than this share of the weight are left out beyond one dimension: the corners of the grid."""


@cache
def _rule(dimension: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    if dimension <= PRODUCTS:
        point, weight = np.polynomial.hermite_e.hermegauss(nodes)
        weight = weight / weight.sum()
        grid = np.array(list(itertools.product(point, repeat=dimension)))
        product = np.prod(list(itertools.product(weight, repeat=dimension)), axis=1)
        keep = product > (NEGLIGIBLE if dimension > 1 else 0.0)
        return grid[keep].T, product[keep] / product[keep].sum()
    sobol = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=0).draw(nodes, dtype=torch.float64)
    points = torch.special.ndtri(sobol.clamp(1e-12, 1 - 1e-12)).numpy()
    return points.T, np.full(len(points), 1 / len(points))


def normal_rule(dimension: int, like: Tensor, nodes: int) -> tuple[Float[Tensor, "d G"], Float[Tensor, G]]:
    """Return points t and weights w with sum_g w_g f(t_g) about E f(t), t ~ N(0, I).

    Gauss-Hermite products up to three dimensions (Golub and Welsch 1969, Mathematics of Computation 23), beyond them
    scrambled Sobol points, always the same ones.

    Args:
        dimension: d.
        like: A tensor of the precision and device wanted.
        nodes: Per dimension, or points beyond three dimensions.
    """
    points, weights = _rule(dimension, nodes)
    return like.new_tensor(points), like.new_tensor(weights)


def cubature(dimension: int, like: Tensor) -> Float[Tensor, "d G"]:
    """Return 2d points of equal weight, exact under N(0, I) for polynomials of degree three (Stroud 1971, rule 3-1)."""
    eye = torch.eye(dimension, dtype=like.dtype, device=like.device)
    return dimension**0.5 * torch.cat([eye, -eye], 1)
