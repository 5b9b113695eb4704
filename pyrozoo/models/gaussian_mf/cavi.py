"""Coordinate ascent variational inference: q of every row and every column is normal, all in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma, Normal

from pyrozoo.contracts import solver
from pyrozoo.core.draws import Values
from pyrozoo.math.linear_algebra import inverted, unpack
from pyrozoo.math.small_systems import blocks, factored, forward_
from pyrozoo.models.gaussian_mf.likelihood import Block, Extent, Regressions, Side, residuals
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.gaussian_mf.point import SIDES, Conditional, NormalWishart, block, complete, over
from pyrozoo.models.gaussian_mf.posterior import Posterior

START = 0.1
"""Variance of q at the start, as a share of the factors' own."""


@dataclass(frozen=True)
class State:
    """q per restart: normal for w_i = (u_i, a_i), w_j and mu, inverse gamma for s^2, normal-Wishart above the factors.

    Covariances are lower triangles, F = L (L + 1) / 2. What the model's options leave out is known: its variance is 0.
    """

    rows: Float[Tensor, "C N L"]
    rows_covariance: Float[Tensor, "C N F"]
    columns: Float[Tensor, "C M L"]
    columns_covariance: Float[Tensor, "C M F"]
    mean: Float[Tensor, C]
    mean_variance: Float[Tensor, C]
    noise_scale: Float[Tensor, C]
    row_centre: Float[Tensor, "C K"]
    row_inverse_scale: Float[Tensor, "C K K"]
    column_centre: Float[Tensor, "C K"]
    column_inverse_scale: Float[Tensor, "C K K"]


@dataclass(frozen=True)
class Summed:
    """Sums over one side, [C, ...], from which what stands above it is made, and its part of the bound.

    Attributes:
        log_precision: Of the log determinants of precisions.
        first: Of E u.
        second: Of E u u^T.
        squares: Of E u^2, where nothing stands above.
        offsets: Of E a, where there are offsets.
    """

    log_precision: Float[Tensor, C]
    first: Float[Tensor, "C K"]
    second: Float[Tensor, "C K K"]
    squares: Float[Tensor, C]
    offsets: Float[Tensor, C] | None

    @classmethod
    def of(cls, model: GaussianMF, side: Block, log_precision: Float[Tensor, C]) -> Summed:
        """Sum up one side, or some rows."""
        K = model.num_factors
        u = side.mean[:K].double()
        assert side.covariance is not None
        covariance = side.covariance[:K, :K].double()
        second = torch.einsum("kcn,lcn->ckl", u, u) + covariance.sum(-1).permute(2, 0, 1)
        squares = u.square().sum((0, 2)) + covariance.diagonal().sum((-1, -2))
        offsets = side.mean[-1].double().sum(1) if model.offsets else None
        return cls(log_precision, u.sum(-1).T.contiguous(), second, squares, offsets)


BY_ROW = "rows", "rows_covariance"


class Solver(
    solver.Solver,
    kind="variational",
    objective="elbo",
    of="result",
    monotone=True,
    state=State,
    by_row=BY_ROW,
    graph=True,
):
    """CAVI: q(U) q(V) q(mu) q(s^2) q(m, Lambda), each row's and each column's block with a full covariance.

    Row i: S_i^-1 = E Lambda + E tau sum E x x^T, m_i = S_i (E Lambda m + E tau sum E x (r - mu - b)) (Lim and Teh 2007,
    KDD Cup workshop, section 3). A constant is moved between the mean and the offsets where that raises the bound. The
    objective is the ELBO of the state after the step.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        size = posterior.total(lambda part: torch.tensor(len(part.data.values)))
        self.extent, self.counts = Extent(int(size), posterior.listed.centre), (posterior.rows, self.data.shape[1])

    @property
    def noise_shape(self) -> float:
        """Return the shape of q(s^2)."""
        return float(self.model.noise_shape + 0.5 * self.extent.size)

    def of_reported(self, posterior: Any, **options: Any) -> Solver:
        """Return the solver of rows that are reported on: what stands above them is what all rows have made it."""
        found: Solver = super().of_reported(posterior, **options)
        found.extent, found.counts = self.extent, self.counts
        return found

    def count(self, side: Side) -> int:
        """Return how many rows, or columns, there are."""
        return self.counts[SIDES.index(side)]

    def init(self, chains: int) -> State:
        """Return q around random starting points, narrower than they spread."""
        model = self.model
        start = complete(model, self.posterior.start(chains))
        parts: dict[str, Tensor] = {}
        for side in SIDES:
            factors = getattr(start, f"{side}_factors")
            w = block(model, start, side).mean.permute(1, 2, 0).contiguous()
            i, j = torch.tril_indices(w.shape[-1], w.shape[-1], device=w.device)
            _, squares = over(self.posterior, side, lambda each: ((), each.square().sum()), factors)
            variance = START * (squares / (chains * self.count(side) * model.num_factors))
            parts[f"{side}s"] = w
            parts[f"{side}s_covariance"] = (variance * (i == j)).expand(*w.shape[:2], -1).clone()
            parts[f"{side}_centre"] = getattr(start, f"{side}_mean")
            # E Lambda = degrees W is that of the start.
            precision = getattr(start, f"{side}_precision")
            parts[f"{side}_inverse_scale"] = self.degrees(side) * inverted(precision)
        nothing = torch.zeros_like(start.mean)
        shape = self.noise_shape if model.learn_noise else 1.0
        return State(**parts, mean=start.mean, mean_variance=nothing, noise_scale=shape * start.noise_variance)

    def degrees(self, side: Side) -> float:
        """Return the degrees of freedom of q(Lambda) above one side; 1 where Lambda is known."""
        return self.model.wishart_degrees + self.count(side) if self.model.hierarchical else 1.0

    def tau(self, state: State) -> Float[Tensor, C]:
        """Return E 1 / s^2."""
        return (self.noise_shape if self.model.learn_noise else 1.0) / state.noise_scale

    def block(self, state: State, side: Side) -> Block:
        """Return means and covariances of one side, the row as last axis."""
        mean, packed = getattr(state, f"{side}s"), getattr(state, f"{side}s_covariance")
        covariance = unpack(packed, mean.shape[-1])
        return Block(mean.permute(2, 0, 1).contiguous(), covariance.permute(2, 3, 0, 1).contiguous())

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update q of rows, columns, mean, noise and of what stands above; return the ELBO of the result."""
        model, columns = self.model, self.block(state, "column")

        def update(part: Posterior) -> tuple[Any, Any]:
            rows, summed = self.regressed(state, "row", part.listed.regress("row", columns))
            return _packed(rows), (summed, part.listed.regress("column", rows))

        (w, covariance), (of_rows, found) = self.posterior.over_rows(update)
        columns, of_columns = self.regressed(state, "column", found)
        sums: dict[Side, Summed] = {"row": of_rows, "column": of_columns}
        rss, first = residuals(columns, found)
        mean, variance = state.mean.double(), state.mean_variance.double()
        if model.offsets:
            tau, middle, n = self.tau(state).double(), self.extent.centre, self.extent.size
            precision = 1 / model.mean_variance + tau * n
            away, variance = (tau * first - middle / model.mean_variance) / precision, 1 / precision
            rss = (rss - 2 * away * first + n * (away.square() + variance)).clamp(min=0)
            mean = middle + away
            for side, offsets in zip(SIDES, (w[..., -1], columns.mean[-1]), strict=True):
                mean = self.shift(mean, side, sums[side], offsets)
        scale = state.noise_scale.double()
        if model.learn_noise:
            scale = model.noise_shape * model.noise_variance + 0.5 * rss
        new = {"mean": mean, "mean_variance": variance, "noise_scale": scale, "rows": w, "rows_covariance": covariance}
        new["columns"], new["columns_covariance"] = _packed(columns)
        bounds = []
        for side, summed in sums.items():
            prior = model.factor_variance(side)
            above = NormalWishart.of(model, prior, summed.first, summed.second, self.count(side))
            squares = over(self.posterior, side, self._offset_squares, new[f"{side}s"], new[f"{side}s_covariance"])[1]
            bounds.append(self.side_bound(side, summed, above, squares))
            if model.hierarchical:
                new[f"{side}_centre"], new[f"{side}_inverse_scale"] = above.mean, above.inverse_scale
        elbo = self.ratings_bound(rss, scale) + sum(bounds)
        if model.offsets:
            elbo = elbo - 0.5 * (
                math.log(model.mean_variance) + (mean.square() + variance) / model.mean_variance - 1 - variance.log()
            )
        like = state.mean.dtype
        return replace(state, **{name: value.to(like) for name, value in new.items()}), solver.Info(elbo.to(like))

    def regressed(self, state: State, side: Side, found: Regressions) -> tuple[Block, Summed]:
        """Return q of one side, or of some rows, given sums over the ratings."""
        prior = self.degrees(side) * inverted(getattr(state, f"{side}_inverse_scale"))
        centre, away = getattr(state, f"{side}_centre"), state.mean - self.extent.centre
        conditional = Conditional.of(self.model, found, prior, centre, self.tau(state), away)
        each, logs = conditional.moments(f"the precision of a {side}'s factors")
        return each, Summed.of(self.model, each, logs)

    def shift(self, mean: Float[Tensor, C], side: Side, summed: Summed, offsets: Float[Tensor, "C n"]) -> Tensor:
        """Move a constant from the offsets to the mean, in place, where it raises the bound; return the mean."""
        m = self.model
        precision = 1 / m.mean_variance + self.count(side) / m.offset_variance
        by = (summed.offsets / m.offset_variance - mean / m.mean_variance) / precision
        offsets -= by[:, None].to(offsets.dtype)
        return mean + by

    def _offset_squares(self, w: Float[Tensor, "C n L"], covariance: Float[Tensor, "C n F"]) -> tuple[Any, Any]:
        """Return the sum of E a^2 over some rows, or over the columns."""
        if not self.model.offsets:
            return (), ()
        return (), (w[..., -1].contiguous().double().square() + covariance[..., -1].contiguous().double()).sum(-1)

    def ratings_bound(self, rss: Float[Tensor, C], scale: Float[Tensor, C]) -> Float[Tensor, C]:
        """Return E log p(ratings | all), and E log p - E log q of the noise variance, at its optimum."""
        m, n = self.model, self.extent.size
        if not m.learn_noise:
            return _log_zero_mean(n, rss, m.noise_variance)
        a, shape = m.noise_shape, self.noise_shape
        constant = a * math.log(a * m.noise_variance) - math.lgamma(a) + math.lgamma(shape)
        return constant - 0.5 * n * math.log(2 * math.pi) - shape * scale.log()

    def side_bound(
        self, side: Side, summed: Summed, above: NormalWishart, offset_squares: Tensor
    ) -> Float[Tensor, C]:  # fmt: skip
        """Return E log p - E log q of one side's factors and offsets, and of what stands above them at its optimum."""
        m, n, variance = self.model, self.count(side), self.model.factor_variance(side)
        K, L = m.num_factors, m.num_factors + m.offsets
        bound = 0.5 * (n * L * (1 + math.log(2 * math.pi)) - summed.log_precision)
        if m.hierarchical:
            before = NormalWishart.prior(m, variance, above.mean)
            bound = bound - 0.5 * n * K * math.log(2 * math.pi) + above.log_constant - before.log_constant
        else:
            bound = bound + _log_zero_mean(n * K, summed.squares, variance)
        return bound + _log_zero_mean(n, offset_squares, m.offset_variance) if m.offsets else bound

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        return solver.Answer(q=Q(self.posterior, self.noise_shape, self.counts, state))


@dataclass(frozen=True)
class Q:
    """All factors of q at once, of which a row's factors and its offset are one.

    Attributes:
        posterior: What q approximates.
        noise_shape: The shape of q(s^2).
        counts: How many rows and columns there are, which may be more than are reported on.
        state: All else.
    """

    posterior: Posterior
    noise_shape: float
    counts: tuple[int, int]
    state: State

    def above(self, side: Side) -> NormalWishart:
        """Return q(m, Lambda) of one side."""
        m, n = self.posterior.model, self.counts[SIDES.index(side)]
        centre, inverse_scale = getattr(self.state, f"{side}_centre"), getattr(self.state, f"{side}_inverse_scale")
        return NormalWishart(centre, m.mean_strength + n, m.wishart_degrees + n, inverse_scale)

    def sample(self) -> Values:
        """Return one draw per chain."""
        model, state, draws = self.posterior.model, self.state, {}
        for side in SIDES:
            w = getattr(state, f"{side}s")
            drawn = w + _scaled(getattr(state, f"{side}s_covariance"), torch.randn_like(w))
            draws[f"{side}_factors"] = drawn[..., : model.num_factors].contiguous()
            if model.offsets:
                draws[f"{side}_offsets"] = drawn[..., -1].contiguous()
            if model.hierarchical:
                draws[f"{side}_mean"], draws[f"{side}_precision"] = self.above(side).draw()
        if model.offsets:
            draws["mean"] = state.mean + state.mean_variance.sqrt() * torch.randn_like(state.mean)
        if model.learn_noise:
            shape = torch.full_like(state.mean, self.noise_shape)
            draws["noise_variance"] = state.noise_scale / Gamma(shape, torch.ones_like(shape)).sample()
        return {site: draws[site] for site in self.posterior.sites}

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log density of one draw per chain, in double precision."""
        model, state = self.posterior.model, self.state
        total = torch.zeros_like(state.mean, dtype=torch.float64)
        for side in SIDES:
            drawn = values[f"{side}_factors"]
            if model.offsets:
                drawn = torch.cat([drawn, values[f"{side}_offsets"].unsqueeze(-1)], -1)
            total += _log_normal(getattr(state, f"{side}s_covariance"), drawn - getattr(state, f"{side}s"))
            if model.hierarchical:
                total += self.above(side).log_prob(values[f"{side}_mean"], values[f"{side}_precision"])
        if model.offsets:
            total += Normal(state.mean, state.mean_variance.sqrt()).log_prob(values["mean"])
        if model.learn_noise:
            s, shape, scale = values["noise_variance"].double(), self.noise_shape, state.noise_scale.double()
            total += shape * scale.log() - math.lgamma(shape) - (shape + 1) * s.log() - scale / s
        return total


def _packed(side: Block) -> tuple[Float[Tensor, "C n L"], Float[Tensor, "C n F"]]:
    """Return means and lower triangles of covariances, as states hold them."""
    assert side.covariance is not None
    i, j = torch.tril_indices(len(side.mean), len(side.mean), device=side.mean.device)
    return side.mean.permute(1, 2, 0).contiguous(), side.covariance[i, j].permute(1, 2, 0).contiguous()


def _log_zero_mean(count: int, squares: Tensor, variance: float) -> Tensor:
    """Return the expected log density of so many numbers, N(0, variance), from the expected sum of their squares."""
    return -0.5 * (count * math.log(2 * math.pi * variance) + squares / variance)


def _scaled(packed: Float[Tensor, "C n F"], noise: Float[Tensor, "C n L"]) -> Float[Tensor, "C n L"]:
    """Give standard normal numbers the covariances."""
    result = torch.empty_like(noise.flatten(0, 1))
    for part, factor, x in _factors(packed, noise):
        for k in range(len(x)):
            result[part, k] = x[k] / factor[k, k] + (factor[k, :k] * x[:k]).sum(0)
    return result.reshape(noise.shape)


def _log_normal(packed: Float[Tensor, "C n F"], away: Float[Tensor, "C n L"]) -> Float[Tensor, C]:
    """Return the sum over rows of the log density of N(0, covariance)."""
    logs = torch.empty(away.shape[:2].numel(), dtype=torch.float64, device=away.device)
    for part, factor, x in _factors(packed, away):
        log_scale = factor.diagonal(dim1=0, dim2=1).log().sum(-1)
        logs[part] = (log_scale - 0.5 * forward_(factor, x).square().sum(0)).double()
    return logs.reshape(away.shape[:2]).sum(-1) - 0.5 * math.log(2 * math.pi) * away[0].numel()


def _factors(packed: Float[Tensor, "C n F"], x: Float[Tensor, "C n L"]) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Go through rows of all chains, one after another: where, Cholesky factors [L, L, part], and their x [L, part]."""
    packed, x = packed.flatten(0, 1), x.flatten(0, 1)
    for part in blocks(x.shape[1], len(x), x):
        covariance = unpack(packed[part], x.shape[1]).permute(1, 2, 0).contiguous()
        yield part, factored(covariance, "the covariance of a row's factors"), x[part].T.contiguous()
