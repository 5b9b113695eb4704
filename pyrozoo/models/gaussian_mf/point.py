"""A point in parameter space per chain, its density, and what its parts are given all others.

Gibbs draws rows, columns and what stands above them from their conditionals, EM takes modes, CAVI averages. Row i given
the columns: precision Lambda + tau sum x x^T, mean its inverse times (Lambda m + tau sum x (r - mu - b)), tau = 1 / s^2
(Salakhutdinov and Mnih 2008, eq. 11 to 13).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Values
from pyrozoo.data.ratings import Ratings
from pyrozoo.math.linear_algebra import inverted, lower_factor, signed
from pyrozoo.math.small_systems import blocks, factored, forward_, inverses, log_determinants, solved
from pyrozoo.models.gaussian_mf.likelihood import Block, Extent, Listed, Regressions, Side, residuals
from pyrozoo.models.gaussian_mf.model import GaussianMF

SIDES: tuple[Side, Side] = ("row", "column")
RIDGE = 1e-12
"""Relative ridge under second moments that are inverted: of fewer rows than factors."""

OTHER: dict[Side, Side] = {"row": "column", "column": "row"}


@dataclass(frozen=True)
class Point:
    """Parameters per chain; what the model's options leave out has its fixed value."""

    row_factors: Float[Tensor, "C N K"]
    column_factors: Float[Tensor, "C M K"]
    mean: Float[Tensor, C]
    row_offsets: Float[Tensor, "C N"]
    column_offsets: Float[Tensor, "C M"]
    noise_variance: Float[Tensor, C]
    row_mean: Float[Tensor, "C K"]
    column_mean: Float[Tensor, "C K"]
    row_precision: Float[Tensor, "C K K"]
    column_precision: Float[Tensor, "C K K"]


@cache
def state_class(sites: tuple[str, ...]) -> type:
    """Return the class of states of a model: its sites per chain, and nothing else."""
    return make_dataclass("State", [(site, Tensor) for site in sites], frozen=True)


def complete(model: GaussianMF, known: Values) -> Point:
    """Add to the sites of a model what its options leave out."""
    U, V = known["row_factors"], known["column_factors"]
    chains, K = len(U), model.num_factors
    fixed = {
        "mean": U.new_zeros(chains),
        "row_offsets": U.new_zeros(()).expand(U.shape[:2]),
        "column_offsets": V.new_zeros(()).expand(V.shape[:2]),
        "noise_variance": U.new_full((chains,), model.noise_variance),
    }
    for side in SIDES:
        fixed[f"{side}_mean"] = U.new_zeros(chains, K)
        precision = torch.eye(K, dtype=U.dtype, device=U.device) / model.factor_variance(side)
        fixed[f"{side}_precision"] = precision.expand(chains, K, K)
    return Point(**{**fixed, **known})


def over(posterior: Posterior, side: Side, function: Callable[..., Any], *values: Tensor) -> tuple[Any, Any]:
    """Do for the rows, which may be in shards, or for the columns what ``Posterior.over_rows`` does."""
    if side == "column":
        return function(*values)
    return posterior.over_rows(lambda _, *given: function(*given), *values)


def count(posterior: Posterior, side: Side) -> int:
    """Return how many rows, or columns, there are."""
    return posterior.rows if side == "row" else posterior.data.shape[1]


def block(model: GaussianMF, state: Point, side: Side) -> Block:
    """Return factors and offsets of one side."""
    offsets = getattr(state, f"{side}_offsets") if model.offsets else None
    return Block.of(getattr(state, f"{side}_factors"), offsets)


def with_block(state: Point, side: Side, w: Float[Tensor, "L C n"]) -> Point:
    """Return the state with factors and offsets of one side replaced."""
    K = state.row_mean.shape[-1]
    offsets = w[K].contiguous() if len(w) > K else w.new_zeros(()).expand(w.shape[1:])
    return replace(state, **{f"{side}_factors": w[:K].permute(1, 2, 0).contiguous(), f"{side}_offsets": offsets})


@dataclass(frozen=True)
class Conditional:
    """Precision, of which only the lower triangle means anything, and precision times mean of every w_i's normal."""

    precision: Float[Tensor, "L L C n"]
    pull: Float[Tensor, "L C n"]

    @classmethod
    def of(
        cls, model: GaussianMF, found: Regressions, prior: Float[Tensor, "C K K"], centre: Float[Tensor, "C K"],
        tau: Float[Tensor, C], mean: Float[Tensor, C],
    ) -> Conditional:  # fmt: skip
        """Combine what the ratings say with the prior.

        Args:
            model: Its options, and the prior of offsets.
            found: Sums over the listed pairs.
            prior: Lambda, or its expectation.
            centre: m, or its expectation.
            tau: E 1 / s^2.
            mean: mu, beyond what the sums have taken off (``Listed.centre``); not looked at without offsets.
        """
        pull = (prior @ centre.unsqueeze(-1)).squeeze(-1)
        if model.offsets:
            prior, pull = torch.nn.functional.pad(prior, (0, 1, 0, 1)), torch.nn.functional.pad(pull, (0, 1))
            prior[:, -1, -1] = 1 / model.offset_variance
        L, shape = len(found.dot), found.dot.shape[1:]
        precision = tau.new_empty(L, L, *shape)
        for i in range(L):
            start = i * (i + 1) // 2
            torch.mul(found.gram[start : start + i + 1], tau[:, None], out=precision[i, : i + 1])
            precision[i, : i + 1].add_(prior[:, i, : i + 1].T[..., None])
        dot = found.dot - mean[:, None] * found.gram[-L:] if model.offsets else found.dot
        return cls(precision, (dot * tau[:, None]).add_(pull.T[..., None]))

    def draw(self, what: str) -> Float[Tensor, "L C n"]:
        """Draw every w_i."""
        return self._solved(torch.randn_like(self.pull), what)

    def mode(self, what: str) -> Float[Tensor, "L C n"]:
        """Return the mean of every w_i."""
        return self._solved(None, what)

    def evidence(self, what: str) -> Float[Tensor, "C n"]:
        """Return the log of the integral of exp(pull . w - w . precision w / 2) over every w_i, less that of 2 pi's."""
        L, shape = len(self.pull), self.pull.shape
        A, b = self.precision.reshape(L, L, -1), self.pull.reshape(L, -1)
        result = torch.empty_like(b[0])
        for part in blocks(L, b.shape[1], b):
            factor = factored(A[..., part], what)
            half = forward_(factor, b[:, part].clone()).square().sum(0)
            result[part] = 0.5 * (half - log_determinants(factor))
        return result.reshape(shape[1:])

    def _solved(self, noise: Tensor | None, what: str) -> Tensor:
        """Return A^-1 b + L^-T noise with A = L L^T."""
        L, shape = len(self.pull), self.pull.shape
        A, b = self.precision.reshape(L, L, -1), self.pull.reshape(L, -1)
        return solved(A, b, None if noise is None else noise.reshape(L, -1), what).reshape(shape)

    def moments(self, what: str) -> tuple[Block, Float[Tensor, C]]:
        """Return means and covariances of every w_i, and the sum of their log determinants of precision by chain."""
        L, shape = len(self.pull), self.pull.shape
        A, b = self.precision.reshape(L, L, -1), self.pull.reshape(L, -1)
        covariance, logs = torch.empty_like(A), torch.empty_like(b[0])
        for part in blocks(L, b.shape[1], b):
            factor = factored(A[..., part], what)
            covariance[..., part] = inverses(factor)
            logs[part] = log_determinants(factor)
        mean = (covariance * b).sum(1)
        block = Block(mean.reshape(shape), covariance.reshape(L, *shape))
        return block, logs.reshape(shape[1:]).double().sum(-1)


@dataclass(frozen=True)
class NormalWishart:
    """p(m, Lambda | factors): m ~ N(mean, (strength Lambda)^-1), Lambda ~ Wishart(degrees, inverse_scale^-1)."""

    mean: Float[Tensor, "C K"]
    strength: float
    degrees: float
    inverse_scale: Float[Tensor, "C K K"]

    @classmethod
    def prior(cls, model: GaussianMF, variance: float, like: Tensor) -> NormalWishart:
        """Return the prior above factors of a variance, for one chain, in the precision of ``like``."""
        K, nu = model.num_factors, model.wishart_degrees
        eye = torch.eye(K, dtype=like.dtype, device=like.device)
        return cls(like.new_zeros(1, K), model.mean_strength, nu, (nu * variance * eye).unsqueeze(0))

    @classmethod
    def of(
        cls, model: GaussianMF, variance: float, first: Float[Tensor, "C K"], second: Float[Tensor, "C K K"], count: int
    ) -> NormalWishart:
        """Return the conditional given the sum of E u and of E u u^T over ``count`` rows (eq. 14 of the paper)."""
        start = cls.prior(model, variance, first)
        mean = first / (start.strength + count)
        inverse = start.inverse_scale + second - first.unsqueeze(-1) * mean.unsqueeze(-2)
        return cls(mean, start.strength + count, start.degrees + count, 0.5 * (inverse + inverse.mT))

    def draw(self) -> tuple[Float[Tensor, "C K"], Float[Tensor, "C K K"]]:
        """Draw m and Lambda, the latter by Bartlett's decomposition."""
        C, K = self.mean.shape
        like = self.mean
        # Lambda = F B B^T F^T with F F^T = W and B lower triangular.
        half = lower_factor(inverted(self.inverse_scale))
        degrees = self.degrees - torch.arange(K, dtype=like.dtype, device=like.device)
        diagonal = torch.distributions.Chi2(degrees, validate_args=False).sample((C,)).sqrt()
        bartlett = torch.randn(C, K, K, dtype=like.dtype, device=like.device).tril(-1) + torch.diag_embed(diagonal)
        root = half @ bartlett
        noise = torch.randn(C, K, 1, dtype=like.dtype, device=like.device)
        # root root^T = Lambda, so that root^-T noise has covariance Lambda^-1.
        away = torch.linalg.solve_triangular(root.mT, noise, upper=True).squeeze(-1)
        return self.mean + away / self.strength**0.5, root @ root.mT

    def mode(self) -> tuple[Float[Tensor, "C K"], Float[Tensor, "C K K"]]:
        """Return the joint mode: Lambda = (degrees - K) W, to which m's own density adds a half of log |Lambda|."""
        return self.mean, (self.degrees - self.mean.shape[1]) * inverted(self.inverse_scale)

    @property
    def log_constant(self) -> Float[Tensor, C]:
        """Return the log of the density's normalising constant."""
        K, half = self.mean.shape[1], 0.5 * self.degrees
        gammas = 0.25 * K * (K - 1) * math.log(math.pi) + sum(math.lgamma(half - 0.5 * k) for k in range(K))
        scale = K * math.log(2) - torch.logdet(self.inverse_scale)
        return 0.5 * K * math.log(2 * math.pi / self.strength) + half * scale + gammas

    def log_prob(self, mean: Float[Tensor, "C K"], precision: Float[Tensor, "C K K"]) -> Float[Tensor, C]:
        """Return log p(m, Lambda)."""
        away = (mean - self.mean).unsqueeze(-1)
        quadratic = self.strength * (away.mT @ precision @ away).flatten()
        trace = (self.inverse_scale * precision).sum((-1, -2))
        power = 0.5 * (self.degrees - mean.shape[1])
        return power * torch.logdet(precision) - 0.5 * (quadratic + trace) - self.log_constant


def conditional(model: GaussianMF, listed: Listed, state: Point, side: Side) -> tuple[Conditional, Regressions]:
    """Return p(w_i | all else) of one side, and the sums that it is made of."""
    found = listed.regress(side, block(model, state, OTHER[side]))
    return given(model, found, listed.centre, state, side), found


def given(model: GaussianMF, found: Regressions, centre: float, state: Point, side: Side) -> Conditional:
    """Return p(w_i | all else) of one side from the sums over ratings, which are held above ``centre``."""
    above = getattr(state, f"{side}_precision"), getattr(state, f"{side}_mean")
    return Conditional.of(model, found, *above, 1 / state.noise_variance, state.mean - centre)


def marginal(model: GaussianMF, listed: Listed, data: Ratings, state: Point) -> Float[Tensor, "C N"]:
    """Return the log density of each row's ratings given all but its own factors and offset: it is normal."""
    found, _ = conditional(model, listed, state, "row")
    precision, centre, s = state.row_precision, state.row_mean.unsqueeze(-1), state.noise_variance.unsqueeze(-1)
    before = torch.logdet(precision) - (centre.mT @ precision @ centre).flatten()
    if model.offsets:
        before = before - math.log(model.offset_variance)
    away = data.counts - state.mean[:, None] - state.column_offsets.index_select(-1, data.pattern.columns)
    count = torch.bincount(data.pattern.rows, minlength=data.shape[0]).to(s.dtype)
    fixed = before.unsqueeze(-1) - data.pattern.row_sums(away.square()) / s - count * (2 * math.pi * s).log()
    return found.evidence("the precision of a row's factors") + 0.5 * fixed


def shift(model: GaussianMF, posterior: Posterior, state: Point, side: Side, spread: float) -> Point:
    """Move a constant between the mean and the offsets of one side, which the likelihood does not see.

    Its conditional given all else is normal: ``spread`` 1 draws from it, 0 takes its mode. Without this move, mean and
    offsets hold each other fast.
    """
    name = f"{side}_offsets"
    offsets = getattr(state, name)
    _, total = over(posterior, side, lambda each: ((), each.sum(1)), offsets)
    precision = 1 / model.mean_variance + count(posterior, side) / model.offset_variance
    centre = (total / model.offset_variance - state.mean / model.mean_variance) / precision
    by = centre + spread * precision**-0.5 * torch.randn_like(centre)
    return replace(state, mean=state.mean + by, **{name: offsets - by[:, None]})


def slide(model: GaussianMF, posterior: Posterior, state: Point, side: Side, spread: float) -> Point:
    """Move a vector between the factors of one side, their mean with them, and the offsets of the other.

    For every c, (u_i + c) . v_j + (b_j - c . v_j) says what u_i . v_j + b_j did. In the hierarchical model m moves
    along, so that u_i - m stays as it was. The conditional of c given all else is normal: ``spread`` 1 draws from it, 0
    takes its mode.
    """
    factors, mean, offsets = f"{side}_factors", f"{side}_mean", f"{OTHER[side]}_offsets"
    other, m, like = (
        (getattr(state, f"{OTHER[side]}_factors"), getattr(state, offsets)),
        getattr(state, mean),
        state.mean.dtype,
    )

    def said(V: Tensor, b: Tensor) -> tuple[Any, Any]:
        V = V.double()
        return (), (V.mT @ V, V.mT @ b.double().unsqueeze(-1))

    _, (second, cross) = over(posterior, OTHER[side], said, *other)
    m, above = m.double(), model.mean_strength * getattr(state, f"{side}_precision").double()
    if not model.hierarchical:  # the factors themselves are held to 0
        n, (_, total) = count(posterior, side), over(posterior, side, _total, getattr(state, factors))
        above, m = n / model.mean_strength * above, total / n
    precision = above + second / model.offset_variance
    pull = cross / model.offset_variance - above @ m.unsqueeze(-1)
    root = torch.linalg.cholesky(precision)
    by = torch.cholesky_solve(pull, root)
    if spread:
        by = by + spread * torch.linalg.solve_triangular(root.mT, torch.randn_like(by), upper=True)

    def against(V: Tensor, b: Tensor) -> tuple[Any, Any]:
        return (b.double() - (V.double() @ by).squeeze(-1)).to(like), ()

    moved = {offsets: over(posterior, OTHER[side], against, *other)[0]}
    moved[factors] = getattr(state, factors) + by.mT.to(like)
    return replace(state, **moved, **({mean: (m + by.squeeze(-1)).to(like)} if model.hierarchical else {}))


def _total(factors: Tensor) -> tuple[Any, Any]:
    return (), factors.double().sum(1)


def traded(model: GaussianMF, posterior: Posterior, state: Point) -> Point:
    """Return the most probable of all U A and V A^-T, whose products are the same, what stands above them at its mode.

    In the basis where the second moments Q of both sides are the same diagonal matrix D, the best A scales each
    direction for itself, by sqrt(b). In the hierarchical model, with mean and precision at their mode, the log prior of
    a side is -n/2 log |p I + Q|, so that b is where -n_u/2 log(p_u + d b) - n_v/2 log(p_v + d / b) is highest: the root
    of a quadratic equation. Otherwise it is -tr Q / 2 p, and b = sqrt(p_u / p_v).
    """
    (u, p_u, n_u), (v, p_v, n_v) = (_moments(model, posterior, state, side) for side in SIDES)
    size = u.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    # Directions that there are too few rows for are 0, and stay it; the ridge gives them a basis.
    root, bad = torch.linalg.cholesky_ex(u + RIDGE * size * torch.eye(len(u[0]), dtype=u.dtype, device=u.device))
    squares, turn = torch.linalg.eigh(root.mT @ v @ root)
    d = squares.clamp(min=0).sqrt()
    d = d.clamp(min=RIDGE**0.5 * d.amax(-1, keepdim=True))
    if model.hierarchical:
        # The positive root of n_u p_v b^2 + (n_u - n_v) d b = n_v p_u, without a difference of what is nearly equal.
        half = 0.5 * (n_u - n_v) * d
        wide = (half.square() + n_u * p_v * n_v * p_u).sqrt()
        b = torch.where(half < 0, (wide - half) / (n_u * p_v), n_v * p_u / (wide + half))
    else:
        b = torch.full_like(d, (p_u / p_v) ** 0.5)
    stretch = (d * b).sqrt().unsqueeze(-2)
    turn = signed(turn)
    ways = torch.linalg.solve_triangular(root.mT, turn, upper=True) * stretch, root @ turn / stretch
    before, after = u.new_zeros(len(u)), u.new_zeros(len(u))
    for each, way, p, n in ((u, ways[0], p_u, n_u), (v, ways[1], p_v, n_v)):
        before, after = before + _profile(model, each, p, n), after + _profile(model, way.mT @ each @ way, p, n)
    better = (bad == 0) & (after > before)
    moved = {}
    for side, way in zip(SIDES, ways, strict=True):
        factors = getattr(state, f"{side}_factors")
        turned = partial(_turned, better=better[:, None, None], way=way.to(factors.dtype))
        moved[f"{side}_factors"], _ = over(posterior, side, turned, factors)
    return replace(state, **moved)


def _turned(factors: Tensor, better: Tensor, way: Tensor) -> tuple[Any, Any]:
    return torch.where(better, factors @ way, factors), ()


def sums(posterior: Posterior, state: Point, side: Side) -> tuple[Float[Tensor, "C K"], Float[Tensor, "C K K"]]:
    """Return the sums of one side's u and u u^T, in double precision."""

    def said(factors: Tensor) -> tuple[Any, Any]:
        factors = factors.double()
        return (), (factors.sum(1), factors.mT @ factors)

    found: tuple[Tensor, Tensor] = over(posterior, side, said, getattr(state, f"{side}_factors"))[1]
    return found


def _moments(
    model: GaussianMF, posterior: Posterior, state: Point, side: Side
) -> tuple[Float[Tensor, "C K K"], float, float]:
    """Return the second moments Q of one side that its prior looks at, and p and n of that prior (``_profile``)."""
    variance, (first, second) = model.factor_variance(side), sums(posterior, state, side)
    if not model.hierarchical:
        return second, variance, 1.0
    found = NormalWishart.of(model, variance, first, second, count(posterior, side))
    p = model.wishart_degrees * variance
    eye = torch.eye(model.num_factors, dtype=second.dtype, device=second.device)
    return found.inverse_scale - p * eye, p, found.degrees - model.num_factors


def _profile(model: GaussianMF, Q: Float[Tensor, "C K K"], p: float, n: float) -> Float[Tensor, C]:
    """Return the log prior of one side's factors, but for a constant, with what stands above them at its mode."""
    if not model.hierarchical:
        return -0.5 * Q.diagonal(dim1=-2, dim2=-1).sum(-1) / p
    return -0.5 * n * torch.logdet(Q + p * torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device))


def log_likelihood(extent: Extent, state: Point, rss: Float[Tensor, C]) -> Float[Tensor, C]:
    """Return log p(ratings | all) from the residual sum of squares."""
    s = state.noise_variance.double()
    return -0.5 * (extent.size * (2 * math.pi * s).log() + rss / s)


def squares(extent: Extent, model: GaussianMF, state: Point, found: Regressions) -> Float[Tensor, C]:
    """Return the residual sum of squares; ``found`` are the regressions of the columns on the state's rows."""
    total, first = residuals(block(model, state, "column"), found)
    mean = state.mean.double() - extent.centre
    return (total - 2 * mean * first + extent.size * mean.square()).clamp(min=0) if model.offsets else total


def log_prior(model: GaussianMF, posterior: Posterior, state: Point) -> Float[Tensor, C]:
    """Return log p of all sites, hand-summed in double precision; a test holds it to the Pyro program."""
    total = torch.zeros(len(state.mean), dtype=torch.float64, device=state.mean.device)

    def said(factors: Tensor, offsets: Tensor, mean: Tensor) -> tuple[Any, Any]:
        away = factors - mean.unsqueeze(1)
        logs = _log_normal(offsets.double(), model.offset_variance).sum(-1) if model.offsets else None
        return (), ((away.mT @ away).double(), logs)

    for side in SIDES:
        values = (getattr(state, f"{side}_{name}") for name in ("factors", "offsets"))
        _, (second, logs) = over(posterior, side, partial(said, mean=getattr(state, f"{side}_mean")), *values)
        precision = getattr(state, f"{side}_precision").double()
        K, n = model.num_factors, count(posterior, side)
        # Of a fixed precision it is known without factors of a matrix.
        log_determinant = torch.logdet(precision) if model.hierarchical else -K * math.log(model.factor_variance(side))
        total += 0.5 * (n * (log_determinant - K * math.log(2 * math.pi)))
        total -= 0.5 * (precision * second).sum((-1, -2))
        if model.hierarchical:
            above = NormalWishart.prior(model, model.factor_variance(side), precision)
            total += above.log_prob(getattr(state, f"{side}_mean").double(), precision)
        if model.offsets:
            total += logs
    if model.offsets:
        total += _log_normal(state.mean.double(), model.mean_variance)
    if model.learn_noise:
        a, b, s = model.noise_shape, model.noise_shape * model.noise_variance, state.noise_variance.double()
        total += a * math.log(b) - math.lgamma(a) - (a + 1) * s.log() - b / s
    return total


def _log_normal(x: Tensor, variance: float) -> Tensor:
    return -0.5 * (x.square() / variance + math.log(2 * math.pi * variance))
