r"""Variational EM: z_u ~ N(lambda_u, diag v_u), and a bound on the expected normaliser.

For every zeta > 0, log y <= y / zeta - 1 + log zeta, so that with exp terms e_ik = exp(lambda.beta_ik + a_ik +
sum_s beta_iks^2 v_s / 2), whose sum over k is the expected normaliser of item i,

    E log p(x_u | z_u) >= sum_ik x_ik (lambda.beta_ik + a_ik) - sum_i m_i [ sum_k e_ik / zeta_i - 1 + log zeta_i ].

The best zeta is that sum (``per_item``), or its mean over the row's answers where all items share one (``per_row``).
Putting the best zeta in, the bound is jointly concave in lambda and log v: log-sum-exp of convex functions is convex.
Blei and Lafferty 2007, Annals of Applied Statistics 1, have one zeta per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.contracts.solver import Info
from pyrozoo.math.linear_algebra import pack, packed_outer, unpack
from pyrozoo.math.newton import DECREMENT, MOST_ITERATIONS, Evaluated, maximise
from pyrozoo.models.categorical_fa.layout import Block, Layout, Numbers, Parameters, Vectors
from pyrozoo.models.categorical_fa.likelihood import moments
from pyrozoo.models.categorical_fa.maximisation import EM, STEPS, Globals, log_prior, update_latent
from pyrozoo.models.categorical_fa.posterior import Posterior

Zeta = Literal["per_item", "per_row"]

KERNELS = Kernels(__file__)


@dataclass(frozen=True)
class State(Globals):
    """The global sites, and q(z_u) = N(lambda_u, diag v_u) of the last E-step, where the next one starts."""

    q_mean: Float[Tensor, "C N d"]
    q_variance: Float[Tensor, "C N d"]


BY_ROW = "q_mean", "q_variance"


class Solver(EM, kind="point", objective="log_joint_bound", monotone=True, state=State, by_row=BY_ROW):
    """Variational EM (Blei and Lafferty 2007, Annals of Applied Statistics 1), all rows and restarts in one batch.

    E-step: lambda and log v by Newton's method on the bound with the best zeta put in (``evaluate_rows``). M-step: mean
    and covariance of the latent vector in closed form; contrasts, zeta held, by Newton steps that take each category by
    itself. The objective is the bound plus the log prior of the global sites before the step, q(z) at its best for
    them: a lower bound of the log joint density, so the fit is a point.

    Args:
        zeta: ``per_item``, or ``per_row``: one zeta for all answers of a row, which is looser.

    Raises:
        NotApplicable: The model has hidden units: the bound takes logits that are linear in z.
    """

    def __init__(self, posterior: Posterior, *, zeta: Zeta = "per_item"):
        posterior.refuse_hidden("vem", "its bound needs logits that are linear in the latent vector")
        super().__init__(posterior)
        self.zeta = zeta

    def init(self, chains: int) -> State:
        """Return starting values of the sites (``Posterior.initial``) and q at the prior."""
        fields, variance = self.start(chains)
        return State(**fields, q_variance=variance.clone())

    def step(self, state: State) -> tuple[State, Info]:
        """Update q(z), then the global sites; return the bound on the log joint density of the argument."""
        sites = self.sites(state)
        p = self.layout.parameters(sites)

        def expect(part: Posterior, mean: Tensor, variance: Tensor) -> tuple[Any, Any]:
            mean, variance, value = maximise_rows(part.layout, p, mean, variance, self.zeta)
            second = mean.mT @ mean + torch.diag_embed(variance.sum(1))
            return (mean, variance), (value.sum(1), mean.sum(1), second)

        (mean, variance), (value, first, second) = self.posterior.over_rows(expect, state.q_mean, state.q_variance)
        objective = log_prior(self.model, sites) + value
        found = update_latent(self.model, sites, self.posterior.rows, first, second)
        if self.model.loadings == "free" or self.model.intercepts:
            found |= _Contrasts(self, p, mean, variance).updated()
        return State(**self.stored({**sites, **found}), q_mean=mean, q_variance=variance), Info(objective)


def exponents(p: Parameters, mean: Vectors, variance: Vectors) -> Float[Tensor, "C P B"]:
    """Return log e_ik."""
    return p.logits(mean.mT) + 0.5 * p.beta.square() @ variance.mT


def evaluate_rows(layout: Layout, block: Block, p: Parameters, x: Float[Tensor, "C B d2"], zeta: Zeta) -> Evaluated:
    """Return the bound of every row at (lambda, log v) and the best zeta, its gradient, and minus its Hessian."""
    d = x.shape[-1] // 2
    mean, theta = x[..., :d], x[..., d:]
    variance = theta.exp()
    logs = exponents(p, mean, variance)
    weight, log_zeta = layout.weights(logs, block.answers, zeta == "per_row")
    features = torch.cat([p.beta, 0.5 * p.beta.square()], -1)
    if zeta == "per_item":
        expected, inner = moments(layout, block.answers, weight, features)
    else:
        expected, inner = _row_moments(block.answers.sum(0), weight, features)
    linear = block.counts.T @ p.beta
    precision = torch.linalg.inv(p.covariance)
    away = mean - p.mean.unsqueeze(1)
    pulled = away @ precision
    diagonal = precision.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
    value = (linear * mean).sum(-1) + p.offset @ block.counts - (block.answers * log_zeta).sum(1)
    value = value - 0.5 * (away * pulled).sum(-1) - 0.5 * (diagonal * variance).sum(-1) + 0.5 * theta.sum(-1)
    value = value + 0.5 * d - 0.5 * torch.logdet(p.covariance).unsqueeze(-1)
    slope = expected[..., d:] + 0.5 * diagonal
    gradient = torch.cat([linear - expected[..., :d] - pulled, 0.5 - variance * slope], -1)
    scale = torch.cat([torch.ones_like(mean), variance], -1)
    curvature = inner * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    curvature[..., :d, :d] += precision.unsqueeze(1)
    curvature[..., d:, d:] += torch.diag_embed(variance * slope)
    return value, gradient, curvature


def _row_moments(count: Tensor, weight: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum w phi and its covariance times the row's answers, with one zeta for the row."""
    first = weight.mT @ features
    second = weight.mT @ packed_outer(features, features)
    second = second - packed_outer(first, first) / count.clamp(min=1).unsqueeze(-1)
    return first, unpack(second, features.shape[-1])


def maximise_rows(
    layout: Layout, p: Parameters, mean: Vectors, variance: Vectors, zeta: Zeta
) -> tuple[Vectors, Vectors, Numbers]:
    """Return lambda, v and the bound of every row at its maximum, from where to start."""
    (C, N, d), value = mean.shape, mean.new_empty(mean.shape[:2])
    if KERNELS.serve(mean, variance, *vars(p).values()):
        mean, variance = (each.clone(memory_format=torch.contiguous_format) for each in (mean, variance))
        features = torch.cat([p.beta, 0.5 * p.beta.square()], -1).contiguous()
        KERNELS(
            "maximise_rows", mean.dtype, *_answers(layout), p.beta.contiguous(), p.offset.contiguous(), features,
            packed_outer(features, features), p.mean.contiguous(), torch.linalg.inv(p.covariance).contiguous(),
            torch.logdet(p.covariance), mean, variance, value, C, N, sum(items for items, _ in layout.groups),
            layout.num_categories, d, int(zeta == "per_row"), MOST_ITERATIONS, DECREMENT, threads(),
        )  # fmt: skip
        return mean, variance, value
    start, found = torch.cat([mean, variance.log()], -1), mean.new_empty(C, N, 2 * d)
    for block in layout.blocks(C * layout.num_categories * 4):
        at = slice(None), block.rows
        found[at], (value[at], _, _) = maximise(partial(evaluate_rows, layout, block, p, zeta=zeta), start[at])
    return found[..., :d], found[..., d:].exp(), value


def _answers(layout: Layout) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Return codes or counts, and how many categories each item has."""
    sizes = torch.tensor([size for items, size in layout.groups for _ in range(items)])
    return (layout.codes.contiguous(), None, sizes) if len(layout.codes) else (None, layout.counts.contiguous(), sizes)


class _Contrasts:
    """The bound as a function of the contrasts, zeta held: a sum over categories, so each has a Newton step of its own.

    For category k of item i, with y_u = lambda_u + v_u beta and weights e_u / zeta_ui::

        value      sum_u x_u (lambda_u.beta + a) - sum_u e_u / zeta_u, and the log prior
        gradient   sum_u (x_u lambda_u - e_u / zeta_u y_u) - beta / gamma^2,   sum_u (x_u - e_u / zeta_u) - a / s_a^2
        - Hessian  sum_u e_u / zeta_u ([y_u, 1] [y_u, 1]^T + diag(v_u, 0)) + prior precisions
    """

    def __init__(self, solver: Solver, p: Parameters, mean: Tensor, variance: Tensor):
        self.model, self.posterior, self.p, self.place = solver.model, solver.posterior, p, solver.layout.free
        self.free, self.shift = self.model.loadings == "free", self.model.intercepts
        self.rows: dict[Posterior, _Weighed] = {}

        def weigh(part: Posterior, mean: Tensor, variance: Tensor) -> Tensor:
            self.rows[part] = _Weighed(part.layout, p, mean, variance, solver.zeta)
            return self.rows[part].linear

        self.linear = self.posterior.total(weigh, mean, variance)

    def updated(self) -> dict[str, Tensor]:
        """Return the sites after a few Newton steps."""
        d, place = self.p.mean.shape[-1], self.place
        beta, offset = self.p.beta[:, place], self.p.offset[:, place]
        start = ([beta] if self.free else []) + ([offset.unsqueeze(-1)] if self.shift else [])
        x, _ = maximise(self.evaluate, torch.cat(start, -1), STEPS)
        found = {"loadings": x[..., :d]} if self.free else {}
        return found | ({"intercepts": x[..., -1]} if self.shift else {})

    def evaluate(self, x: Float[Tensor, "C F n"]) -> Evaluated:
        """Return value, gradient and minus the Hessian of every contrast."""
        d, place = self.p.mean.shape[-1], self.place
        beta = x[..., :d] if self.free else self.p.beta[:, place]
        offset = x[..., -1] if self.shift else self.p.offset[:, place]
        whole = torch.cat([beta, offset.unsqueeze(-1)], -1)
        known = beta.contiguous(), offset.contiguous()
        total, summed = self.posterior.total(lambda part: self.rows[part].sums(*known))
        value = (self.linear * whole).sum(-1) - total
        triangle, side = (d + 1) * (d + 2) // 2, d * (d + 1) // 2
        curvature = unpack(summed[..., :triangle], d + 1)
        cross = summed[..., triangle : triangle + d * (d + 1)].unflatten(-1, (d + 1, d))  # sum e [lambda, 1] v^T
        squares = unpack(summed[..., -side:], d)
        tilted = cross * beta.unsqueeze(-2)  # sum e [lambda, 1] (v beta)^T
        curvature[..., :d] += tilted
        curvature[..., :d, :] += tilted.mT
        spread = torch.diag_embed(cross[..., d, :])
        curvature[..., :d, :d] += beta.unsqueeze(-1) * squares * beta.unsqueeze(-2) + spread
        # sum e [y, 1] is the last row of sum e [y, 1] [y, 1]^T.
        precision = x.new_tensor([self.model.loading_scale] * d + [self.model.intercept_scale]).pow(-2)
        gradient = self.linear - curvature[..., d, :] - whole * precision
        value = value - 0.5 * (whole.square() * precision).sum(-1)
        curvature = curvature + torch.diag(precision)
        kept = slice(0 if self.free else d, d + self.shift)
        return value, gradient[..., kept], curvature[..., kept, kept]


class _Weighed:
    """Rows with the weights of their categories, zeta held."""

    def __init__(self, layout: Layout, p: Parameters, mean: Tensor, variance: Tensor, zeta: Zeta):
        self.layout, self.mean, self.variance = layout, mean.contiguous(), variance.contiguous()
        place, self.blocks = layout.free, []
        (C, N, d), self.kernel = mean.shape, KERNELS.serve(mean, variance, p.beta, p.offset)
        if self.kernel:
            codes, _, self.sizes = _answers(self.layout)
            self.log_weight = mean.new_empty(C, len(self.sizes), N)
            linear = mean.new_zeros(C, self.layout.num_categories, d + 1)
            KERNELS(
                "weigh", mean.dtype, codes, self.sizes, p.beta.contiguous(), p.offset.contiguous(), self.mean,
                self.variance, self.log_weight, linear, C, N, len(self.sizes), linear.shape[1], d,
                int(zeta == "per_row"), threads(),
            )  # fmt: skip
            self.linear = linear[:, place]
            return
        self.linear = mean.new_zeros(C, len(place), d + 1)
        for block in self.layout.blocks(len(mean) * self.layout.num_categories):
            m, v = mean[:, block.rows], variance[:, block.rows]
            log_zeta = self.layout.weights(exponents(p, m, v), block.answers, zeta == "per_row")[1]
            weight = self.layout.log_weights(block.answers, log_zeta)
            rows = torch.cat([m, torch.ones_like(m[..., :1])], -1)
            outer = rows.unsqueeze(-1) * rows.unsqueeze(-2)
            features = torch.cat(
                [pack(outer), (rows.unsqueeze(-1) * v.unsqueeze(-2)).flatten(2),
                 pack(v.unsqueeze(-1) * v.unsqueeze(-2))], -1
            )  # fmt: skip
            self.linear += block.counts[place] @ rows
            self.blocks.append((m, v, weight, features))

    def sums(self, beta: Float[Tensor, "C F d"], offset: Float[Tensor, "C F"]) -> tuple[Tensor, Tensor]:
        """Return the sums over rows of e / zeta and of e / zeta times [lambda, 1] and v, and their products, packed."""
        if self.kernel:
            (C, N, d), F = self.mean.shape, beta.shape[1]
            item = torch.arange(len(self.sizes)).repeat_interleave(self.sizes)[self.layout.free]
            sums = beta.new_zeros(C, F, 1 + (d + 1) * (d + 2) // 2 + d * (d + 1) + d * (d + 1) // 2)
            KERNELS(
                "contrasts", beta.dtype, beta, offset, self.mean, self.variance, self.log_weight, item, sums, C, N,
                len(self.sizes), F, d, threads(),
            )  # fmt: skip
            return sums[..., 0], sums[..., 1:]
        total, summed = beta.new_zeros(()), beta.new_zeros(())
        for m, v, weight, features in self.blocks:
            e = (beta @ m.mT + 0.5 * beta.square() @ v.mT + offset.unsqueeze(-1) + weight).exp()
            total, summed = total + e.sum(-1), summed + e @ features
        return total, summed
