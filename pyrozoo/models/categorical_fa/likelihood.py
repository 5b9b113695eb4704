"""Rows given their latent vector, its posterior mode and curvature, and the integral over it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Draws, Values
from pyrozoo.math.linear_algebra import covariance_factor, lower_factor, packed_outer, unpack
from pyrozoo.math.newton import Evaluated, maximise
from pyrozoo.math.quadrature import normal_rule
from pyrozoo.models.categorical_fa.layout import BLOCK, Block, Layout, Matrices, Numbers, Parameters, Vectors

NODES = {1: 61, 2: 11, 3: 9}
"""Nodes per dimension, up to three dimensions.

Loadings of standard normal size leave errors of at most 1e-11 in the log probability of a row of five answers in one
dimension, of 1e-3 in two (1e-4 on average) and of a few 1e-3 in three: the step from one category to another is what
polynomials follow slowly. Rows of many answers, whose posterior is near normal, are off by less.
"""

POINTS = 1024
"""Quasi-random points beyond three dimensions."""


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


def evaluate_rows(layout: Layout, block: Block, p: Parameters, z: Vectors) -> Evaluated:
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
    mode: Vectors
    factor: Matrices
    log_joint: Numbers

    def parts(self, per_row: int) -> Iterator[Modes]:
        """Go through the rows, as many at a time as ``per_row`` numbers for each allow."""
        step = max(1, at_once(BLOCK, self.mode) // max(1, per_row))
        for start in range(0, self.mode.shape[1], step):
            at = slice(start, start + step)
            first = self.block.rows.start + start
            rows = slice(first, min(first + step, self.block.rows.stop))
            block = Block(rows, self.block.counts[:, at], self.block.answers[:, at])
            yield Modes(block, self.mode[:, at], self.factor[:, at], self.log_joint[:, at])


def find_modes(layout: Layout, p: Parameters, block: Block, start: Vectors | None = None) -> Modes:
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
    def log_evidence(self) -> Numbers:
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
    d = modes.mode.shape[-1]
    t, _ = normal_rule(d, modes.mode, nodes or NODES.get(d, POINTS))
    return (modes.mode.detach().unsqueeze(-1) + modes.factor.detach() @ t).transpose(1, 2)


def integrate(layout: Layout, p: Parameters, modes: Modes, nodes: int | None = None) -> Nodes:
    """Integrate over z_u with nodes around its mode, as wide as its curvature says.

    Adaptive Gauss-Hermite quadrature (Naylor and Smith 1982, Applied Statistics 31; for items Schilling and Bock 2005,
    Psychometrika 70) up to three dimensions, importance sampling with quasi-random points beyond them. Where nodes are
    has no influence on the integral but for its error, so derivatives do not go through it.
    """
    d = modes.mode.shape[-1]
    t, w = normal_rule(d, modes.mode, nodes or NODES.get(d, POINTS))
    factor, z = modes.factor.detach(), node_places(modes, nodes)
    volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    # w / phi(t): weights for the integral of a function instead of its expectation.
    reference = w.log() + 0.5 * t.square().sum(0) + 0.5 * d * math.log(2 * math.pi)
    terms = log_likelihood(layout, modes.block, p, z) + log_normal(p, z) + reference + volume
    return Nodes(modes.block, z, terms)


def nodes_per_row(dimension: int, nodes: int | None = None) -> int:
    """Return how many nodes an integral over one row's latent vector takes."""
    return normal_rule(dimension, torch.empty(0), nodes or NODES.get(dimension, POINTS))[1].numel()


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
    for part in Draws(draws).flat_blocks(4 * at_once(BLOCK, layout.like) // max(1, work)):
        yield layout.parameters(part)


def pointwise(layout: Layout, draws: Values) -> Float[Tensor, "S N"]:
    """Return log p(x_u | draw) of every row at S draws, chains one after another, the latent vector summed out."""
    each = (torch.cat([nodes.log_evidence for nodes in integrals(layout, p)], 1) for p in split_draws(draws, layout))
    return torch.cat(list(each))


def effort(layout: Layout) -> float:
    """Return the multiplications of the likelihood of one draw: every node of every row sees every category."""
    # An exponential is worth a dozen of them.
    return float(layout.num_rows * layout.num_categories) * (nodes_per_row(layout.dimension) + 10) * 12
