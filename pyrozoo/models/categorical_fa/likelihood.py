"""Rows given their latent vector, its posterior mode and curvature, and the integral over it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Draws, Values
from pyrozoo.math.linear_algebra import covariance_factor, lower_factor, packed_outer, unpack
from pyrozoo.math.newton import Evaluated, maximise
from pyrozoo.models.categorical_fa.layout import BLOCK, Block, Layout, Parameters

NODES = {1: 61, 2: 11, 3: 9}
"""Nodes per dimension, up to three dimensions.

Loadings of standard normal size leave errors of at most 1e-11 in the log probability of a row of five answers in one
dimension, of 1e-3 in two (1e-4 on average) and of a few 1e-3 in three: the step from one category to another is what
polynomials follow slowly. Rows of many answers, whose posterior is near normal, are off by less.
"""

NEGLIGIBLE, POINTS = 1e-13, 1024
"""Share of the weight below which nodes are left out beyond one dimension, the corners of the grid; quasi-random points
beyond three dimensions."""


@cache
def _rule(dimension: int, nodes: int | None) -> tuple[np.ndarray, np.ndarray]:
    if dimension in NODES:
        point, weight = np.polynomial.hermite_e.hermegauss(nodes or NODES[dimension])
        weight = weight / weight.sum()
        grid = np.array(list(itertools.product(point, repeat=dimension)))
        product = np.prod(list(itertools.product(weight, repeat=dimension)), axis=1)
        keep = product > (NEGLIGIBLE if dimension > 1 else 0.0)
        return grid[keep].T, product[keep] / product[keep].sum()
    sobol = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=0).draw(nodes or POINTS, dtype=torch.float64)
    points = torch.special.ndtri(sobol.clamp(1e-12, 1 - 1e-12)).numpy()
    return points.T, np.full(len(points), 1 / len(points))


def normal_rule(
    dimension: int, like: Tensor, nodes: int | None = None
) -> tuple[Float[Tensor, "d G"], Float[Tensor, G]]:
    """Return points t and weights w with sum_g w_g f(t_g) about E f(t), t ~ N(0, I).

    Gauss-Hermite products up to three dimensions (Golub and Welsch 1969, Mathematics of Computation 23), beyond them
    scrambled Sobol points, always the same ones.

    Args:
        dimension: d.
        like: A tensor of the precision and device wanted.
        nodes: Per dimension, or points beyond three dimensions; None: ``NODES``, ``POINTS``.
    """
    points, weights = _rule(dimension, nodes)
    return like.new_tensor(points), like.new_tensor(weights)


def cubature(dimension: int, like: Tensor) -> Float[Tensor, "d G"]:
    """Return 2d points of equal weight, exact under N(0, I) for polynomials of degree three (Stroud 1971, rule 3-1)."""
    eye = torch.eye(dimension, dtype=like.dtype, device=like.device)
    return dimension**0.5 * torch.cat([eye, -eye], 1)


def log_likelihood(
    layout: Layout, block: Block, p: Parameters, z: Float[Tensor, "C d B *G"]
) -> Float[Tensor, "C B *G"]:
    """Return log p(answers of a row | z)."""
    eta = p.features(z)
    chosen = (p.beta.mT @ block.counts).reshape(*eta.shape[:2], -1, *[1] * (eta.ndim - 3))
    constant = (p.offset @ block.counts).reshape(len(eta), -1, *[1] * (eta.ndim - 3))
    normaliser = layout.log_sums(p.logits(eta))
    answers = block.answers.reshape(*block.answers.shape, *[1] * (eta.ndim - 3))
    return (eta * chosen).sum(1) + constant - (normaliser * answers).sum(1)


def moments(
    layout: Layout, answers: Float[Tensor, "I B"], weight: Float[Tensor, "C P B"], features: Float[Tensor, "C P n"]
) -> tuple[Float[Tensor, "C B n"], Float[Tensor, "C B n n"]]:
    """Return sum_ik w phi and sum_i m_i Cov_i(phi), the covariance over categories k with probabilities w_ik / m_i."""
    n = features.shape[-1]
    second = weight.mT @ packed_outer(features, features)
    by_item = [layout.sums(weight * features[..., s, None]) for s in range(n)]  # m times the mean
    over = [each / answers.clamp(min=1) for each in by_item]
    for place, (s, t) in enumerate((a, b) for a in range(n) for b in range(a + 1)):
        second[..., place] -= (by_item[s] * over[t]).sum(1)
    return weight.mT @ features, unpack(second, n)


def evaluate_rows(layout: Layout, block: Block, p: Parameters, z: Float[Tensor, "C B d"]) -> Evaluated:
    r"""Return log p(x_u, z_u) of every row, its gradient in z, and minus its Hessian.

    With pi = softmax(beta eta(z)) and J = d eta / dz::

        gradient   J^T sum_ik (x - m pi) beta - Sigma^-1 (z - mu)
        - Hessian  J^T [ sum_i m_i Cov_pi(beta_i) ] J + Sigma^-1 - sum_h r_h d^2 eta_h / dz^2,   r = sum (x - m pi) beta

    where only hidden units have the last term. Where it makes the matrix indefinite it is left out (Gauss-Newton), so
    that steps still climb.
    """
    points = z.mT
    eta = p.features(points)
    logits = p.logits(eta)
    weight, normaliser = layout.weights(logits, block.answers)
    expected, inner = moments(layout, block.answers, weight, p.beta)
    residual = block.counts.T @ p.beta - expected  # [C, B, E]
    value = (eta.mT * (block.counts.T @ p.beta)).sum(-1) + p.offset @ block.counts
    value = value - (normaliser * block.answers).sum(1)
    factor = lower_factor(p.covariance)
    precision = torch.cholesky_inverse(factor).unsqueeze(1)
    away = z - p.mean.unsqueeze(1)
    pulled = (precision @ away.unsqueeze(-1)).squeeze(-1)
    d = z.shape[-1]
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    value = value - 0.5 * ((away * pulled).sum(-1) + log_determinant + d * math.log(2 * math.pi))
    if not p.biases.shape[1]:
        return value, residual - pulled, inner + precision
    hidden = eta[:, d:].mT  # [C, B, H]
    slope = 1 - hidden.square()
    jacobian = slope.unsqueeze(-1) * p.weights.unsqueeze(1)  # [C, B, H, d]
    whole = torch.cat([torch.eye(d, dtype=z.dtype, device=z.device).expand(*z.shape[:2], d, d), jacobian], 2)
    gradient = (whole.mT @ residual.unsqueeze(-1)).squeeze(-1) - pulled
    gauss = whole.mT @ inner @ whole + precision
    bend = residual[..., d:] * -2 * hidden * slope  # times w_h w_h^T
    exact = gauss - torch.einsum("cbh,chs,cht->cbst", bend, p.weights, p.weights)
    definite = (torch.linalg.cholesky_ex(exact)[1] == 0)[..., None, None]
    return value, gradient, torch.where(definite, exact, gauss)


@dataclass(frozen=True)
class Modes:
    """Where the posterior of each row's latent vector has its mode, and how it curves there.

    Attributes:
        block: The rows.
        mode: The mode.
        factor: L with L L^T = (- Hessian)^-1, lower triangular.
        log_joint: log p(x_u, z_u) there.
    """

    block: Block
    mode: Float[Tensor, "C B d"]
    factor: Float[Tensor, "C B d d"]
    log_joint: Float[Tensor, "C B"]

    def parts(self, per_row: int) -> Iterator[Modes]:
        """Go through the rows, as many at a time as ``per_row`` numbers for each allow."""
        step = max(1, BLOCK // max(1, per_row))
        for start in range(0, self.mode.shape[1], step):
            at = slice(start, start + step)
            first = self.block.rows.start + start
            rows = slice(first, min(first + step, self.block.rows.stop))
            block = Block(rows, self.block.counts[:, at], self.block.answers[:, at])
            yield Modes(block, self.mode[:, at], self.factor[:, at], self.log_joint[:, at])


def find_modes(
    layout: Layout, p: Parameters, block: Block, start: Float[Tensor, "C B d"] | None = None
) -> Modes:  # fmt: skip
    """Find the mode of z_u for some rows by Newton's method; from the prior mean, unless told where to start."""
    if start is None:
        start = p.mean.unsqueeze(1).expand(-1, block.counts.shape[1], -1)
    mode, (value, _, curvature) = maximise(lambda z: evaluate_rows(layout, block, p, z), start)
    return Modes(block, mode, covariance_factor(curvature), value)


@dataclass(frozen=True)
class Nodes:
    """The integral over the latent vector of some rows.

    Attributes:
        block: The rows.
        z: Where the integrand was evaluated.
        log_terms: Logarithms of the terms whose sum is p(x_u).
    """

    block: Block
    z: Float[Tensor, "C d B G"]
    log_terms: Float[Tensor, "C B G"]

    @property
    def log_evidence(self) -> Float[Tensor, "C B"]:
        """Return log p(x_u)."""
        return self.log_terms.logsumexp(-1)

    @property
    def weights(self) -> Float[Tensor, "C B G"]:
        """Return the posterior probability of every node."""
        return self.log_terms.softmax(-1)


def log_normal(p: Parameters, z: Float[Tensor, "C d *Q"]) -> Float[Tensor, C * Q]:
    """Return log N(z; mu, Sigma)."""
    factor = lower_factor(p.covariance)
    flat = z.flatten(2) - p.mean.unsqueeze(-1)
    standard = torch.linalg.solve_triangular(factor, flat, upper=False)
    log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    found = -0.5 * standard.square().sum(1) - log_determinant - 0.5 * z.shape[1] * math.log(2 * math.pi)
    return found.reshape(len(z), *z.shape[2:])


def node_places(modes: Modes, nodes: int | None = None) -> Float[Tensor, "C d B G"]:
    """Return the nodes around the modes, without derivatives."""
    t, _ = normal_rule(modes.mode.shape[-1], modes.mode, nodes)
    return (modes.mode.detach().unsqueeze(-1) + modes.factor.detach() @ t).transpose(1, 2)


def integrate(layout: Layout, p: Parameters, modes: Modes, nodes: int | None = None) -> Nodes:
    """Integrate over z_u with nodes around its mode, as wide as its curvature says.

    Adaptive Gauss-Hermite quadrature (Naylor and Smith 1982, Applied Statistics 31; for items Schilling and Bock 2005,
    Psychometrika 70) up to three dimensions, importance sampling with quasi-random points beyond them. Where nodes are
    has no influence on the integral but for its error, so derivatives do not go through it.
    """
    d = modes.mode.shape[-1]
    t, w = normal_rule(d, modes.mode, nodes)
    factor, z = modes.factor.detach(), node_places(modes, nodes)
    volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    # w / phi(t): weights for the integral of a function instead of its expectation.
    reference = w.log() + 0.5 * t.square().sum(0) + 0.5 * d * math.log(2 * math.pi)
    terms = log_likelihood(layout, modes.block, p, z) + log_normal(p, z) + reference + volume
    return Nodes(modes.block, z, terms)


def nodes_per_row(dimension: int, nodes: int | None = None) -> int:
    """Return how many nodes an integral over one row's latent vector takes."""
    return normal_rule(dimension, torch.empty(0), nodes)[1].numel()


def integrals(layout: Layout, p: Parameters, nodes: int | None = None) -> Iterator[Nodes]:
    """Integrate all rows, block by block."""
    fixed = Parameters(*(value.detach() for value in vars(p).values()))
    wide = len(p.beta) * layout.num_categories
    for block in layout.blocks(4 * wide):
        with torch.no_grad():
            modes = find_modes(layout, fixed, block)
        for part in modes.parts(wide * nodes_per_row(p.mean.shape[-1], nodes)):
            yield integrate(layout, p, part, nodes)


def split_draws(draws: Values, layout: Layout) -> Iterator[Parameters]:
    """Go through draws, chains one after another, as many at a time as fit."""
    work = layout.num_categories * nodes_per_row(layout.dimension) * min(layout.num_rows, 64)
    for part in Draws(draws).flat_blocks(4 * BLOCK // max(1, work)):
        yield layout.parameters(part)


def pointwise(layout: Layout, draws: Values) -> Float[Tensor, "S N"]:
    """Return log p(x_u | draw) of every row at S draws, chains one after another, the latent vector summed out."""
    each = (torch.cat([nodes.log_evidence for nodes in integrals(layout, p)], 1) for p in split_draws(draws, layout))
    return torch.cat(list(each))


def effort(layout: Layout) -> float:
    """Return the multiplications of the likelihood of one draw: every node of every row sees every category."""
    # An exponential is worth a dozen of them.
    return float(layout.num_rows * layout.num_categories) * (nodes_per_row(layout.dimension) + 10) * 12
