"""What solvers by EM share: the global sites in their states, and M-steps.

The latent distribution is updated in closed form, loadings and hidden units by Newton steps on weighted points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import PointSolver
from pyrozoo.core.draws import Values
from pyrozoo.math.newton import Evaluated, maximise
from pyrozoo.models.categorical_fa.layout import LARGEST, SMALLEST, Block, Layout, Parameters
from pyrozoo.models.categorical_fa.likelihood import moments
from pyrozoo.models.categorical_fa.model import CategoricalFA
from pyrozoo.models.categorical_fa.posterior import Posterior
from pyrozoo.program.inverse_wishart import InverseWishart

STEPS, ROUNDS = 1, 3
"""Newton steps of an M-step: the next E-step moves its goal anyway (Lange 1995, J. R. Stat. Soc. B 57). Rounds of mean
given covariance and covariance given mean, which converge at once where rows are many."""


@dataclass(frozen=True)
class Globals:
    """The global sites of every restart; a site that the model does not have has no elements."""

    loadings: Float[Tensor, "C F E"]
    intercepts: Float[Tensor, "C F_intercepts"]
    latent_mean: Float[Tensor, "C d_mean"]
    latent_covariance: Float[Tensor, "C d_rows d_columns"]
    hidden_weights: Float[Tensor, "C H d_hidden"]
    hidden_biases: Float[Tensor, "C H_biases"]


RANKS = {"loadings": 3, "intercepts": 2, "latent_mean": 2, "latent_covariance": 3, "hidden_weights": 3,
         "hidden_biases": 2}  # fmt: skip


class EM(PointSolver):
    """What solvers by EM have in common: states that hold the global sites, and the M-step on points."""

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.layout = posterior.layout

    def start(self, chains: int) -> tuple[dict[str, Tensor], Float[Tensor, "C N d"]]:
        """Return starting values: fields of a state, q's mean of every row (the prior's) among them; its variance."""
        sites = self.posterior.initial(chains)
        p = self.layout.parameters(sites)
        spread = p.covariance.diagonal(dim1=-2, dim2=-1)

        def rows(part: Posterior) -> tuple[tuple[Tensor, Tensor], Any]:
            mean = p.mean.unsqueeze(1).expand(-1, part.layout.num_rows, -1).clone()
            return (mean, spread.unsqueeze(1).expand_as(mean)), ()

        (mean, variance), _ = self.posterior.over_rows(rows)
        return {**self.stored(sites), "q_mean": mean}, variance

    def stored(self, sites: Values) -> dict[str, Any]:
        """Return the fields of ``Globals`` for these sites."""
        first = next(iter(sites.values()))
        none = {site: torch.zeros(len(first), *[0] * (rank - 1)).to(first) for site, rank in RANKS.items()}
        return {**none, **sites}

    def sites(self, state: Any) -> dict[str, Tensor]:
        """Return the sites that the model has, [C, *event]."""
        return {site: getattr(state, site) for site in self.posterior.sites}

    def maximise(
        self, sites: Values, first: Float[Tensor, "C d"], second: Float[Tensor, "C d d"],
        points: Mapping[Posterior, Callable[[], Iterator[Points]]],
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return the sites after an M-step, given sum E z and sum E z z^T over rows, and points that stand for q.

        Args:
            sites: Their values before it.
            first: sum E z.
            second: sum E z z^T.
            points: Of each shard of the rows, block by block.
        """

        def total(function: Callable[[Iterator[Points]], Any]) -> Any:
            return self.posterior.total(lambda part: function(points[part]()))

        latent = update_latent(self.model, sites, self.posterior.rows, first, second)
        return {**sites, **latent, **update_decoder(self.model, self.layout, sites, total)}


def log_prior(model: CategoricalFA, sites: Values) -> Float[Tensor, C]:
    """Return the log prior density of the global sites, [C, *event], as the program states it."""
    scales = {
        "loadings": model.loading_scale, "intercepts": model.intercept_scale, "latent_mean": model.mean_scale,
        "hidden_weights": 1.0, "hidden_biases": 1.0,
    }  # fmt: skip
    total = next(iter(sites.values())).new_zeros(())
    for site, value in sites.items():
        if site == "latent_covariance":
            nu, psi = (value.new_tensor(each) for each in model.covariance_prior)
            total = total + InverseWishart(nu, psi, model.latent_dimension).log_prob(value)
            continue
        flat = value.flatten(1)
        normal = -math.log(scales[site]) - 0.5 * math.log(2 * math.pi)
        total = total - 0.5 * (flat / scales[site]).square().sum(1) + normal * flat.shape[1]
    return total


def update_latent(
    model: CategoricalFA, sites: Values, count: int, first: Float[Tensor, "C d"], second: Float[Tensor, "C d d"]
) -> dict[str, Tensor]:
    """Return mean and covariance of the latent vector at their joint mode, given sum E z and sum E z z^T over rows."""
    if model.intercepts and model.loadings == "free":
        return {}
    d = model.latent_dimension
    mean = sites.get("latent_mean", torch.zeros_like(first))
    eye = torch.eye(d, dtype=first.dtype, device=first.device)
    covariance = sites.get("latent_covariance", eye.expand_as(second))
    nu, psi = model.covariance_prior
    for _ in range(ROUNDS):
        if "latent_mean" in sites:
            # (N Sigma^-1 + I / s^2) mu = Sigma^-1 sum E z, multiplied by Sigma.
            left = count * eye + covariance / model.mean_scale**2
            mean = torch.linalg.solve(left, first.unsqueeze(-1)).squeeze(-1)
        if "latent_covariance" in sites:
            cross = mean.unsqueeze(-1) * first.unsqueeze(-2)
            around = second - cross - cross.mT + count * mean.unsqueeze(-1) * mean.unsqueeze(-2)
            covariance = (psi * eye + around) / (nu + count + d + 1)
    found = {"latent_mean": mean, "latent_covariance": covariance}
    return {site: value for site, value in found.items() if site in sites}


@dataclass(frozen=True)
class Points:
    """Values of z that stand for the distribution of the latent vectors of some rows.

    Attributes:
        block: The rows.
        z: The values.
        weights: Their weights, one sum per row.
    """

    block: Block
    z: Float[Tensor, "C d B G"]
    weights: Float[Tensor, "C B G"]


Total = Callable[[Callable[[Iterator[Points]], Any]], Any]
"""Adds up what a function says of the points of all rows: nested tensors."""


def update_decoder(model: CategoricalFA, layout: Layout, sites: Values, total: Total) -> dict[str, Tensor]:
    """Return loadings and intercepts, then hidden units, after Newton steps up their expected log joint density."""
    found: dict[str, Tensor] = {}
    if model.loadings == "free" or model.intercepts:
        found = _update_contrasts(model, layout, sites, total)
    if model.hidden_units:
        found |= _update_hidden(model, layout, {**sites, **found}, total)
    return found


def _update_contrasts(model: CategoricalFA, layout: Layout, sites: Values, total: Total) -> dict[str, Tensor]:
    """Multinomial logistic regression of every item on the points, items of equal size in one batch."""
    p = layout.parameters(sites)
    E, free = p.beta.shape[-1], model.loadings == "free"
    kept = slice(0 if free else E, E + model.intercepts)
    whole = torch.cat([p.beta, p.offset.unsqueeze(-1)], -1)
    for items, place in layout.slices():
        regression = _Regression(model, layout, p, total, items, place)
        contrasts = whole[:, place].unflatten(1, (items.stop - items.start, -1))[:, :, :-1, kept]
        x = maximise(regression.evaluate, contrasts.clone().flatten(2), STEPS)[0]
        contrasts.copy_(x.unflatten(2, contrasts.shape[2:]))
    found = {"loadings": whole[..., :E][:, layout.free]} if free else {}
    return found | ({"intercepts": whole[..., E][:, layout.free]} if model.intercepts else {})


class _Regression:
    """The expected log joint density of one group of items as a function of their contrasts."""

    def __init__(self, model: CategoricalFA, layout: Layout, p: Parameters, total: Total, items: slice, place: slice):
        self.model, self.layout, self.p, self.total, self.items, self.place = model, layout, p, total, items, place
        self.size = (place.stop - place.start) // (items.stop - items.start)
        self.free = model.loadings == "free"
        scale = [model.loading_scale] * (p.beta.shape[-1] if self.free else 0)
        self.precision = p.beta.new_tensor(scale + [model.intercept_scale] * model.intercepts).pow(-2)
        self.linear: Tensor | None = None

    def _designs(self, points: Iterator[Points]) -> Iterator[tuple[Points, Tensor, Tensor]]:
        """Yield points, their features with a one for the intercept [C, A, Q], and fixed parts of logits."""
        for each in points:
            eta = self.p.features(each.z).flatten(2)
            one = torch.ones_like(eta[:, :1])
            design = torch.cat(([eta] if self.free else []) + ([one] if self.model.intercepts else []), 1)
            given = eta.new_zeros(()) if self.free else self.p.beta[:, self.place] @ eta
            yield each, design, given

    def evaluate(self, x: Float[Tensor, "C items f"]) -> Evaluated:
        """Return value, gradient and minus the Hessian of every item."""
        K = self.size
        coefficients = x.unflatten(2, (K - 1, -1))
        A = coefficients.shape[-1]
        value, expected, curvature, *linear = self.total(lambda points: self._sums(points, coefficients))
        if self.linear is None:
            (self.linear,) = linear
        gradient = self.linear - expected - coefficients * self.precision
        value = value + (self.linear * coefficients).sum((-1, -2))
        value = value - 0.5 * (coefficients.square() * self.precision).sum((-1, -2))
        # Only the lower triangles of the inner matrices have been filled.
        upper = curvature.transpose(3, 5)
        whole_curvature = curvature + upper - curvature * torch.eye(A, dtype=x.dtype, device=x.device)[:, None, :]
        prior = torch.diag_embed(self.precision.repeat(K - 1))
        return value, gradient.flatten(2), whole_curvature.flatten(4).flatten(2, 3) + prior

    def _sums(self, of: Iterator[Points], coefficients: Float[Tensor, "C items k A"]) -> tuple[Tensor, ...]:
        """Return the sums over points of the value, of what answers are expected, of the curvature; once of answers."""
        (C, n, _, A), K = coefficients.shape, self.size
        value = coefficients.new_zeros(C, n)
        expected = torch.zeros_like(coefficients)
        curvature = coefficients.new_zeros(C, n, K - 1, A, K - 1, A)
        linear = torch.zeros_like(coefficients)
        i, j = torch.tril_indices(A, A, device=coefficients.device)
        for points, design, given in self._designs(of):
            weights = points.weights.flatten(1)  # [C, Q]
            G = points.weights.shape[-1]
            answered = points.block.answers[self.items].repeat_interleave(G, 1) * weights.unsqueeze(1)  # [C, n, Q]
            logits = (coefficients.flatten(1, 2) @ design).unflatten(1, (n, K - 1))
            whole = torch.cat([logits, torch.zeros_like(logits[:, :, :1])], 2)
            if not self.free:
                whole = whole + given.unflatten(1, (n, K))
            prob, normaliser = softmax(whole)
            value -= (answered * normaliser).sum(-1)
            if not self.free:
                chosen = points.block.counts[self.place].repeat_interleave(G, 1) * weights.unsqueeze(1)
                value += (chosen * given).sum(-1).unflatten(1, (n, K)).sum(-1)
            prob = prob[:, :, :-1]
            weighted = prob * answered.unsqueeze(2)
            expected += (weighted.flatten(1, 2) @ design.mT).unflatten(1, (n, K - 1))
            outer = (design[:, i] * design[:, j]).mT  # [C, Q, T]
            for k in range(K - 1):
                for m in range(k + 1):
                    each = weighted[:, :, k] * ((1.0 if k == m else 0.0) - prob[:, :, m])
                    block = each @ outer
                    for a, b in ((k, m), (m, k)):
                        curvature[:, :, a, i, b, j] = curvature[:, :, a, i, b, j] + block
                        if a == b:
                            break
            if self.linear is None:
                chosen = points.block.counts[self.place].unflatten(0, (n, K))[:, :-1].flatten(0, 1)
                mean = (design * weights.unsqueeze(1)).unflatten(2, (-1, G)).sum(-1)  # [C, A, B]
                linear += (chosen @ mean.mT).unflatten(1, (n, K - 1))
        return value, expected, curvature, *([linear] if self.linear is None else [])


def softmax(logits: Float[Tensor, "C n K Q"]) -> tuple[Float[Tensor, "C n K Q"], Float[Tensor, "C n Q"]]:
    """Return probabilities over K and log sum exp, as ``Layout.softmax`` does."""
    e = logits.exp()
    total = e.sum(2)
    if bool(((total > SMALLEST) & (total < LARGEST)).all()):
        return e / total.unsqueeze(2), total.log()
    logs = logits.logsumexp(2)
    return (logits - logs.unsqueeze(2)).exp(), logs


def _update_hidden(model: CategoricalFA, layout: Layout, sites: Values, total: Total) -> dict[str, Tensor]:
    """Gauss-Newton steps for W and b: the curvature is that of the logits' likelihood, seen through the units."""
    H, d = model.hidden_units, model.latent_dimension
    p = layout.parameters(sites)

    def sums(points: Iterator[Points], now: Parameters) -> tuple[Tensor, Tensor, Tensor]:
        C = len(now.weights)
        value, gradient = p.beta.new_zeros(C), p.beta.new_zeros(C, H, d + 1)
        curvature = p.beta.new_zeros(C, H, d + 1, H, d + 1)
        for each in points:
            weights, G = each.weights.flatten(1), each.weights.shape[-1]
            z = each.z.flatten(2)
            eta = now.features(z)
            logits = now.logits(eta)
            answers = each.block.answers.repeat_interleave(G, 1)
            weight, normaliser = layout.weights(logits, answers)
            chosen = (p.beta.mT @ each.block.counts).repeat_interleave(G, 2)  # [C, E, Q]
            constant = (p.offset @ each.block.counts).repeat_interleave(G, 1)
            value = value + (weights * ((eta * chosen).sum(1) + constant - (normaliser * answers).sum(1))).sum(-1)
            expected, inner = moments(layout, answers, weight, p.beta[..., d:])
            slope = 1 - eta[:, d:].square()
            design = torch.cat([z, torch.ones_like(z[:, :1])], 1)
            pull = weights.unsqueeze(1) * slope * (chosen[:, d:] - expected.mT)
            gradient = gradient + pull @ design.mT
            seen = inner * (slope.mT.unsqueeze(-1) * slope.mT.unsqueeze(-2)) * weights[..., None, None]
            curvature = curvature + torch.einsum("cqhk,csq,ctq->chskt", seen, design, design)
        return value, gradient, curvature

    def evaluate(x: Tensor) -> Evaluated:
        W = x.unflatten(1, (H, d + 1))
        now = Parameters(p.beta, p.offset, p.mean, p.covariance, W[..., :d], W[..., d])
        value, gradient, curvature = total(lambda points: sums(points, now))
        size = H * (d + 1)
        eye = torch.eye(size, dtype=x.dtype, device=x.device)
        value, gradient = value - 0.5 * x.square().sum(-1), gradient - W
        return value, gradient.flatten(1), curvature.reshape(len(x), size, size) + eye

    start = torch.cat([p.weights, p.biases.unsqueeze(-1)], -1).flatten(1)
    W = maximise(evaluate, start, STEPS)[0].unflatten(1, (H, d + 1))
    return {"hidden_weights": W[..., :d].contiguous(), "hidden_biases": W[..., d].contiguous()}
