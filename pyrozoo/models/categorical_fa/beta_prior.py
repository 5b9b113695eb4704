r"""Variational inference for loadings, too: independent normals for latent vectors, loadings and intercepts.

With z_us ~ N(l, v) and beta_iks ~ N(p, w) independent, E exp(sum_s z_us beta_iks) = prod_s f(l, v, p, w),

    f = (1 - v w)^(-1/2) exp( (p^2 v + 2 p l + l^2 w) / (2 (1 - v w)) ),

finite for v w < 1 only. An intercept is the loading of a coordinate that is one in every row: l = 1, v = 0. The
normaliser is bounded as in ``vem.py``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import solver
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.math.linear_algebra import standard_normal
from pyrozoo.math.newton import Evaluated, maximise
from pyrozoo.models.categorical_fa.layout import Block
from pyrozoo.models.categorical_fa.posterior import Posterior

STEPS, MOST, SMALL = 3, 0.999, 0.05
"""Newton steps for rows given contrasts, and for contrasts given rows, between updates of zeta; what the product v w
may come up to in a trial step, for beyond 1 there is no expectation; variance of loadings at the start."""

Normals = tuple[Float[Tensor, "C _ A"], Float[Tensor, "C _ A"]]
"""Means and variances of independent normals, of rows or of contrasts."""


@dataclass(frozen=True)
class State:
    """q of rows, contrasts, and the latent mean, per restart; A is d, and one more with intercepts.

    Attributes:
        row_mean: l.
        row_variance: v.
        contrast_mean: p, loadings and then the intercept.
        contrast_variance: w.
        centre_mean: Of q(mu); empty with intercepts.
        centre_variance: The same.
        loading_scale: gamma, where it is estimated; else empty.
    """

    row_mean: Float[Tensor, "C N d"]
    row_variance: Float[Tensor, "C N d"]
    contrast_mean: Float[Tensor, "C F A"]
    contrast_variance: Float[Tensor, "C F A"]
    centre_mean: Float[Tensor, "C e"]
    centre_variance: Float[Tensor, "C e"]
    loading_scale: Float[Tensor, "C estimates"]


class Solver(solver.Solver, kind="variational", objective="elbo", of="result", monotone=True, state=State):
    """Variational inference with fully factorised normals for rows, loadings, intercepts and the latent mean.

    In turn: zeta and rows, zeta and contrasts, the latent mean, gamma; each raises the same bound, Newton steps with
    all rows (contrasts) in one batch. The objective is the bound on the log evidence after the step.

    Args:
        estimate_scale: Estimate gamma^2 = mean of E beta^2 as well (empirical Bayes); the fit's model then has it in
            the place of ``loading_scale``.

    Raises:
        NotApplicable: Loadings are fixed, or there are hidden units.
    """

    def __init__(self, posterior: Posterior, *, estimate_scale: bool = False):
        if posterior.model.loadings == "fixed":
            raise NotApplicable("beta_prior is about loadings, and model.loadings=fixed states them")
        posterior.refuse_hidden("beta_prior", "its expectations need logits that are linear in the latent vector")
        super().__init__(posterior)
        self.layout, self.estimate_scale, self.shift = posterior.layout, estimate_scale, self.model.intercepts

    def init(self, chains: int) -> State:
        """Return starting values (``Posterior.initial``) with small variances; rows at the prior, narrowed."""
        sites = self.posterior.initial(chains)
        mean = sites["loadings"]
        if self.shift:
            mean = torch.cat([mean, sites["intercepts"].unsqueeze(-1)], -1)
        rows = mean.new_zeros(chains, self.layout.num_rows, self.model.latent_dimension)
        centre = sites.get("latent_mean", mean.new_zeros(chains, 0))
        start = rows if self.shift else rows + centre.unsqueeze(1)
        scale = mean.new_full((chains, int(self.estimate_scale)), float(self.model.loading_scale))
        small = min(SMALL, self.model.loading_scale**2, self.model.intercept_scale**2)
        return State(start, torch.full_like(rows, 0.5), mean, torch.full_like(mean, small), centre,
                     torch.full_like(centre, small), scale)  # fmt: skip

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update q(z), q(beta, a), q(mu) and gamma; return the bound of the result."""
        model, d = self.model, self.model.latent_dimension
        rows = self._whole_rows(state.row_mean, state.row_variance)
        contrasts = state.contrast_mean, state.contrast_variance
        centre = state.centre_mean if state.centre_mean.shape[1] else state.row_mean.new_zeros(len(state.row_mean), d)
        for block, part, weight, _ in self._parts(rows, contrasts, d):
            linear, at = block.counts[self.layout.free].T @ contrasts[0], (slice(None), block.rows)
            found = _ascend(part, contrasts, weight, linear, centre.unsqueeze(1), rows[0].new_ones(d), d)
            rows[0][at], rows[1][at] = found
        scales = [self._scale(state).expand(-1, d)]
        if self.shift:
            scales.append(torch.full_like(scales[0][:, :1], model.intercept_scale))
        precision = torch.cat(scales, -1).pow(-2).unsqueeze(1)
        contrasts = self._ascend_contrasts(rows, contrasts, precision)
        mean, variance = rows[0][..., :d].clone(), rows[1][..., :d].clone()
        centre, spread, scale = state.centre_mean, state.centre_variance, state.loading_scale
        if not self.shift:
            each = 1 / (self.layout.num_rows + model.mean_scale**-2)
            centre, spread = mean.sum(1) * each, torch.full_like(spread, each)
        if self.estimate_scale:
            second = contrasts[0][..., :d].square() + contrasts[1][..., :d]
            scale = second.mean((1, 2)).sqrt().unsqueeze(-1)
        new = State(mean, variance, *contrasts, centre, spread, scale)
        return new, solver.Info(self.bound(new))

    def _scale(self, state: State) -> Float[Tensor, "C 1"]:
        """Return gamma."""
        if self.estimate_scale:
            return state.loading_scale
        return state.row_mean.new_full((len(state.row_mean), 1), float(self.model.loading_scale))

    def _whole_rows(self, mean: Tensor, variance: Tensor) -> Normals:
        """Return means and variances of rows with the constant coordinate of the intercepts, copied."""
        if not self.shift:
            return mean.clone(), variance.clone()
        one = torch.ones_like(mean[..., :1])
        return torch.cat([mean, one], -1), torch.cat([variance, torch.zeros_like(one)], -1)

    def _parts(self, rows: Normals, contrasts: Normals, size: int) -> Iterator[tuple[Block, Normals, Tensor, Tensor]]:
        """Go through blocks of rows, with q of them, log (m_ui / zeta_ui) for every contrast, and log zeta at its best.

        The last two are [C, B, F] and [C, I, B].
        """
        layout = self.layout
        for block in layout.blocks(len(rows[0]) * layout.num_categories * (size + 2)):
            part = rows[0][:, block.rows], rows[1][:, block.rows]
            # The last categories have e = 1.
            zeta = layout.log_sums(layout.scattered(log_expectation(part, contrasts).mT))
            yield block, part, layout.log_weights(block.answers, zeta).mT, zeta

    def _ascend_contrasts(self, rows: Normals, contrasts: Normals, precision: Tensor) -> Normals:
        linear, weights, A = torch.zeros_like(contrasts[0]), [], contrasts[0].shape[-1]
        for block, part, weight, _ in self._parts(rows, contrasts, A):
            weights.append(weight.mT)
            linear += block.counts[self.layout.free] @ part[0]
        zero = torch.zeros_like(linear[:, :1])
        return _ascend(contrasts, rows, torch.cat(weights, -1), linear, zero, precision[:, 0], A)

    def bound(self, state: State) -> Float[Tensor, C]:
        """Return the evidence lower bound, zeta at its best."""
        model, d = self.model, self.model.latent_dimension
        rows = self._whole_rows(state.row_mean, state.row_variance)
        contrasts = state.contrast_mean, state.contrast_variance
        total = state.row_mean.new_zeros(len(state.row_mean))
        for block, part, _, zeta in self._parts(rows, contrasts, d):
            linear = block.counts[self.layout.free].T @ contrasts[0]
            total = total + (linear * part[0]).sum((1, 2)) - (block.answers * zeta).sum((1, 2))
        centre, spread = state.centre_mean.unsqueeze(1), state.centre_variance.unsqueeze(1)
        if self.shift:
            centre = spread = torch.zeros_like(state.row_mean[:, :1])
        total = total - _divergence(state.row_mean, state.row_variance, centre, torch.ones_like(centre), spread)
        loadings = state.contrast_mean[..., :d], state.contrast_variance[..., :d]
        scale = self._scale(state).unsqueeze(-1).expand(-1, 1, d)
        total = total - _divergence(*loadings, torch.zeros_like(scale), scale)
        if self.shift:
            intercepts = state.contrast_mean[..., d:], state.contrast_variance[..., d:]
            wide = torch.full_like(intercepts[0][:, :1], model.intercept_scale)
            return total - _divergence(*intercepts, torch.zeros_like(wide), wide)
        wide = torch.full_like(centre, model.mean_scale)
        return total - _divergence(centre, spread, torch.zeros_like(wide), wide)

    def finish(self, state: State) -> State:
        """Return the state without its rows, of which q of the global sites knows nothing."""
        return dataclasses.replace(state, row_mean=state.row_mean[:, :0], row_variance=state.row_variance[:, :0])

    def answer(self, state: State) -> solver.Answer:
        """Return q of the global sites, and the model with the scale of the loadings that was estimated, if it was."""
        model = None
        if self.estimate_scale:
            model = dataclasses.replace(self.model, loading_scale=float(state.loading_scale[0]))
        return solver.Answer(q=Factors(state, self.model.latent_dimension, self.shift), model=model)


@dataclass(frozen=True)
class Factors:
    """q of loadings and intercepts, which are drawn together, or of loadings and the latent mean."""

    state: State
    d: int
    shift: bool

    def sample(self) -> Values:
        """Return one draw per chain."""
        state = self.state
        contrasts = state.contrast_mean + state.contrast_variance.sqrt() * standard_normal(state.contrast_mean)
        if self.shift:
            return {"loadings": contrasts[..., : self.d], "intercepts": contrasts[..., self.d]}
        centre = state.centre_mean + state.centre_variance.sqrt() * standard_normal(state.centre_mean)
        return {"loadings": contrasts, "latent_mean": centre}

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log density of one draw per chain."""
        state, contrasts = self.state, values["loadings"]
        if self.shift:
            contrasts = torch.cat([contrasts, values["intercepts"].unsqueeze(-1)], -1)
        total = _log_normal(contrasts, state.contrast_mean, state.contrast_variance).sum((1, 2))
        if self.shift:
            return total
        return total + _log_normal(values["latent_mean"], state.centre_mean, state.centre_variance).sum(1)


def _log_normal(value: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * ((value - mean).square() / variance + variance.log() + math.log(2 * math.pi))


def _divergence(
    mean: Tensor, variance: Tensor, centre: Tensor, scale: Tensor, spread: Tensor | float = 0.0
) -> Float[Tensor, C]:
    """Return sum KL( N(mean, variance) || N(centre, scale^2) ), the centre uncertain by a variance ``spread``."""
    ratio = (variance + spread) / scale.square()
    each = ratio + ((mean - centre) / scale).square() - 1 - variance.log() + 2 * scale.log()
    return 0.5 * each.sum((1, 2))


def log_expectation(rows: Normals, contrasts: Normals) -> Float[Tensor, "C B F"]:
    """Return log E exp(z_u . beta_k) for independent normals, infinite where some product of variances reaches 1."""
    (mean, variance), (centre, spread) = rows, contrasts
    total = mean @ centre.mT
    if not bool((variance > 0).any()):
        return total + 0.5 * mean.square() @ spread.mT
    for s in range(mean.shape[-1]):
        m, v = mean[..., s].unsqueeze(-1), variance[..., s].unsqueeze(-1)  # m is l above
        p, w = centre[..., s].unsqueeze(-2), spread[..., s].unsqueeze(-2)
        product = v * w
        inside = product < 1
        left = torch.where(inside, 1 - product, 1.0)
        # (p^2 v + 2 p l + l^2 w) / (2 (1 - v w)) is p l plus what is left of it.
        each = (p.square() * v + 2 * p * m * product + m.square() * w) / (2 * left) - 0.5 * left.log()
        total = total + torch.where(inside, each, torch.inf)
    return total


def evaluate_side(
    x: Float[Tensor, "C B A2"], fixed: Normals, other: Normals,
    weight: Float[Tensor, "C B F"], linear: Float[Tensor, "C B A"], centre: Tensor, precision: Tensor, open_: int,
) -> Evaluated:  # fmt: skip
    r"""Return the part of the bound that depends on one side (rows, or contrasts), its gradient and curvature.

    At means l and log variances of the first ``open_`` coordinates, the others ``fixed``; with e_k = exp(weight_k) f_k
    and, of log f in each coordinate,

        d/dl = (p + l w) / (1 - v w),      d2/dl2 = w / (1 - v w),      d2/dl dv = w (p + l w) / (1 - v w)^2,
        d/dv = w / (2 (1 - v w)) + (d/dl)^2 / 2,      d2/dv2 = w^2 / (2 (1 - v w)^2) + w (d/dl)^2 / (1 - v w).

    e is convex in (l, v), so minus the Hessian is the sum of positive parts, but for log v, of which the part that may
    be negative is left out.
    """
    mean = torch.cat([x[..., :open_], fixed[0][..., open_:]], -1)
    variance = torch.cat([x[..., open_:].exp(), fixed[1][..., open_:]], -1)
    e = (log_expectation((mean, variance), other) + weight).exp()
    v = variance[..., :open_]
    away = mean[..., :open_] - centre[..., :open_]
    prior = precision[..., :open_]
    prior = prior.unsqueeze(-2) if prior.ndim == 2 else prior
    value = (linear * mean).sum(-1) - e.sum(-1) - 0.5 * (prior * (away.square() + v)).sum(-1)
    value = value + 0.5 * v.log().sum(-1)
    slopes, bends = [], []
    for s in range(open_):
        p, w = other[0][..., s].unsqueeze(-2), other[1][..., s].unsqueeze(-2)
        m, var = mean[..., s].unsqueeze(-1), variance[..., s].unsqueeze(-1)  # l and v above
        left = (1 - var * w).clamp(min=1 - MOST)
        first = (p + m * w) / left
        slopes.append((first, w / (2 * left) + 0.5 * first.square()))
        bends.append((w / left, w * first / left, 0.5 * (w / left).square() + w * first.square() / left))
    features = [each[0] for each in slopes] + [each[1] for each in slopes]
    expected = torch.stack([(e * each).sum(-1) for each in features], -1)
    size = 2 * open_
    inner = x.new_empty(*x.shape[:-1], size, size)
    for a in range(size):
        for b in range(a + 1):
            product = features[a] * features[b]
            if a == b:
                product = product + bends[a % open_][0 if a < open_ else 2]
            elif a - b == open_:
                product = product + bends[b][1]
            inner[..., a, b] = inner[..., b, a] = (e * product).sum(-1)
    gradient_l = linear[..., :open_] - expected[..., :open_] - prior * away
    slope_v = -expected[..., open_:] - 0.5 * prior
    gradient = torch.cat([gradient_l, v * slope_v + 0.5], -1)
    scale = torch.cat([torch.ones_like(v), v], -1)
    curvature = inner * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    extra = torch.cat([prior.expand_as(v), -v * slope_v], -1)
    return value, gradient, curvature + torch.diag_embed(extra)


def _ascend(
    side: Normals, other: Normals, weight: Tensor, linear: Tensor, centre: Tensor, precision: Tensor, open_: int
) -> Normals:  # fmt: skip
    """Return means and variances of one side after a few Newton steps; trial steps out of the domain are shortened."""
    start = torch.cat([side[0][..., :open_], side[1][..., :open_].log()], -1)
    x, _ = maximise(lambda at: evaluate_side(at, side, other, weight, linear, centre, precision, open_), start, STEPS)
    mean = torch.cat([x[..., :open_], side[0][..., open_:]], -1)
    return mean, torch.cat([x[..., open_:].exp(), side[1][..., open_:]], -1)
