"""Emissions that are normal with a whole covariance matrix, missing cells of a row summed out given the others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Normal

from pyrozoo.core.draws import Values
from pyrozoo.math.linear_algebra import inverted, lower_factor, standard_normal
from pyrozoo.models.hidden_markov.emissions import GaussianEmission
from pyrozoo.program.covariances import InverseWisharts, log_determinant


class Known(NamedTuple):
    """The log density of a row: constant - (x - mean)^T precision (x - mean) / 2, cells that are missing summed out."""

    constant: Float[Tensor, "C K"]
    mean: Float[Tensor, "C K D"]
    precision: Float[Tensor, "C K D D"]


@dataclass(frozen=True)
class Pattern:
    """Rows that miss the same cells.

    Attributes:
        rows: Which rows.
        seen: The columns that they have.
        missing: Those that they miss.
    """

    rows: Int[Tensor, n]
    seen: Int[Tensor, o]
    missing: Int[Tensor, m]

    def conditional(self, known: Known, x: Float[Tensor, "N D"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is seen less its mean, [C, K, n, o], the mean of what is missing, and its precision's factor."""
        of = known.precision[..., self.missing, :]
        away = x[self.rows][:, self.seen] - known.mean[..., None, self.seen]
        factor = lower_factor(of[..., self.missing])
        pull = torch.cholesky_solve(of[..., self.seen], factor)
        return away, known.mean[..., None, self.missing] - away @ pull.mT, factor

    def log_density(self, known: Known, x: Float[Tensor, "N D"]) -> Float[Tensor, "n C K"]:
        """Return the log densities of the rows."""
        across = known.precision[..., self.seen, :]
        away = x[self.rows][:, self.seen] - known.mean[..., None, self.seen]
        own, constant = across[..., self.seen], known.constant
        if len(self.missing):
            factor = lower_factor(known.precision[..., self.missing, :][..., self.missing])
            half = torch.linalg.solve_triangular(factor, across[..., self.missing].mT, upper=False)
            own = own - half.mT @ half
            constant = constant - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        squares = (away @ lower_factor(own)).square().sum(-1)
        constant = constant - 0.5 * len(self.seen) * math.log(2 * math.pi)
        return (constant.unsqueeze(-1) - 0.5 * squares).permute(2, 0, 1)


class FullEmission(GaussianEmission):
    """Numbers, normal given the state, with a covariance of its own."""

    sites: ClassVar = {"covariance": ("state", "column", "column_"), "mean": ("state", "column")}

    @cached_property
    def patterns(self) -> list[Pattern]:
        """Rows by what they miss; those that have nothing are left out."""
        kinds, which = self.data.observed.unique(dim=0, return_inverse=True)
        found = [(kind, (which == i).nonzero().flatten()) for i, kind in enumerate(kinds) if bool(kind.any())]
        return [Pattern(rows, kind.nonzero().flatten(), (~kind).nonzero().flatten()) for kind, rows in found]

    def sample(self) -> dict[str, Tensor]:
        """Sample covariances, then means."""
        m, number, D = self.model, self.like.new_tensor, self.data.shape[1]
        spread = (m.degrees * number(m.scale).square()).expand(D).diag()
        with pyro.plate("state", m.num_components, dim=-1):
            covariance = pyro.sample("covariance", InverseWisharts(number(m.degrees + D - 1), spread))
            factor = torch.linalg.cholesky_ex(covariance)[0] / math.sqrt(m.mean_precision)
            normal = dist.MultivariateNormal(number(m.location).expand(D), scale_tril=factor, validate_args=False)
            return {"covariance": covariance, "mean": pyro.sample("mean", normal)}

    def natural(self, values: Values) -> Known:
        """Return constants, means and precisions."""
        covariance = values["covariance"]
        return Known(-0.5 * log_determinant(covariance), values["mean"], inverted(covariance))

    def expected_natural(self, factor: Any) -> Known:
        """Return what the expected log density is."""
        return factor.known()

    def log_density(self, natural: Known) -> Float[Tensor, "T C K"]:
        """Return log p(x_t | k) of every step, 0 in gaps."""
        rows = natural.constant.new_zeros(self.data.shape[0], *natural.constant.shape)
        for pattern in self.patterns:
            rows = rows.index_copy(0, pattern.rows, pattern.log_density(natural, self.data.filled))
        return self.by_step(rows)

    def sums(self, probability: Float[Tensor, "T C K"], natural: Known, draw: bool = False) -> Float[Tensor, "C K F"]:
        """Return how many rows a state has, and sums of x and x x^T, away from the columns' means."""
        rows, centre = probability[self.data.place], self.unit[0]
        total = torch.zeros_like(natural.precision), torch.zeros_like(natural.mean), torch.zeros_like(natural.constant)
        for pattern, x, more in self._complete(natural, draw):
            share = rows[pattern.rows].permute(1, 2, 0)  # [C, K, n]
            x = x - centre
            weighted, count = share.unsqueeze(-1) * x, share.sum(-1)
            outer = weighted.mT @ x
            if more is not None:
                outer[..., pattern.missing[:, None], pattern.missing] += count[..., None, None] * more
            total = total[0] + outer, total[1] + weighted.sum(-2), total[2] + count
        return torch.cat([total[0].flatten(-2), total[1], total[2].unsqueeze(-1)], -1)

    def _complete(self, natural: Known, draw: bool) -> Iterator[tuple[Pattern, Tensor, Tensor | None]]:
        """Fill in what rows miss, in every state, [C, K, n, D], by its mean, with its covariance, or by a draw."""
        for pattern in self.patterns:
            x = self.data.filled[pattern.rows]
            if not len(pattern.missing):
                yield pattern, x.expand(*natural.constant.shape, *x.shape), None
                continue
            _, mean, factor = pattern.conditional(natural, self.data.filled)
            whole = x.repeat(*natural.constant.shape, 1, 1)
            if draw:
                noise = standard_normal(mean)
                mean = mean + torch.linalg.solve_triangular(factor.mT, noise.mT, upper=True).mT
            whole[..., pattern.missing] = mean
            yield pattern, whole, None if draw else torch.cholesky_inverse(factor)

    def conjugate(self, sums: Float[Tensor, "C K F"]) -> NormalInverseWishart:
        """Return normal inverse Wishart factors."""
        D, m, number = self.data.shape[1], self.model, self.like.new_tensor
        outer, total, count = sums.split([D * D, D, 1], -1)
        centre = number(m.location).expand(D) - self.unit[0]
        strength = m.mean_precision + count
        mean = (m.mean_precision * centre + total) / strength
        spread = (m.degrees * number(m.scale).square()).expand(D).diag() + outer.unflatten(-1, (D, D))
        spread = spread + m.mean_precision * torch.outer(centre, centre)
        spread = spread - strength.unsqueeze(-1) * mean.unsqueeze(-1) * mean.unsqueeze(-2)
        covariance = InverseWisharts(m.degrees + D - 1 + count.squeeze(-1), 0.5 * (spread + spread.mT))
        return NormalInverseWishart(covariance, mean + self.unit[0], strength.squeeze(-1))

    @property
    def prior_factor(self) -> NormalInverseWishart:
        """The prior of the sites, of one chain."""
        D = self.data.shape[1]
        return self.conjugate(self.like.new_zeros(1, self.model.num_components, D * D + D + 1))

    def mode(self, factor: NormalInverseWishart) -> Values:
        """Return where the factor's density is highest."""
        q, D = factor.covariance, self.data.shape[1]
        return {"covariance": q.scale / (q.degrees + D + 2)[..., None, None], "mean": factor.mean}

    def initial(self, rows: Int[Tensor, "C K"]) -> Values:
        """Return what the diagonal emission begins with, nothing correlated."""
        start = super().initial(rows)
        return {"covariance": start["variance"].diag_embed(), "mean": start["mean"]}

    def draw(self, at: Values) -> Float[Tensor, "*b D"]:
        """Draw rows."""
        noise = standard_normal(at["mean"]).unsqueeze(-1)
        return at["mean"] + (lower_factor(at["covariance"]) @ noise).squeeze(-1)

    def cells(self, values: Values, rows: Int[Tensor, E], columns: Int[Tensor, E]) -> Any:
        """Return normal distributions given the other cells of the row."""
        natural, (C, K) = self.natural(values), values["mean"].shape[:2]
        mean = values["mean"][:, :, columns].permute(2, 0, 1).clone()
        variance = values["covariance"][:, :, columns, columns].permute(2, 0, 1).clone()
        for pattern in self.patterns:
            mine = torch.isin(rows, pattern.rows).nonzero().flatten()
            if not len(mine):
                continue
            own = Pattern(rows[mine], pattern.seen, pattern.missing)
            _, means, factor = own.conditional(natural, self.data.filled)
            place = (pattern.missing == columns[mine].unsqueeze(-1)).long().argmax(-1)  # among those that are missing
            spread = torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1)
            index = place.expand(C, K, -1).unsqueeze(-1)
            mean[mine] = means.gather(-1, index).squeeze(-1).permute(2, 0, 1)
            variance[mine] = spread[..., place].permute(2, 0, 1)
        return Normal(mean, variance.sqrt(), validate_args=False)

    @staticmethod
    def features_of(flat: Values) -> Float[Tensor, "S K P"]:
        """Return means in units of a typical sd, and logarithms of sds."""
        variance = flat["covariance"].diagonal(dim1=-2, dim2=-1)
        return GaussianEmission.features_of({"mean": flat["mean"], "variance": variance})


@dataclass(frozen=True)
class NormalInverseWishart:
    """covariance ~ inverse Wishart, mean | covariance ~ N(mean, covariance / strength) (Gelman 2013, section 3.6)."""

    covariance: Any  # InverseWisharts
    mean: Float[Tensor, "C K D"]
    strength: Float[Tensor, "C K"]

    @property
    def q(self) -> NormalInverseWishart:
        """Itself."""
        return self

    def known(self) -> Known:
        """Return what the expected log density of a row is."""
        q, D = self.covariance, self.mean.shape[-1]
        precision = q.degrees[..., None, None] * inverted(q.scale)
        return Known(-0.5 * (q.mean_log_determinant + D / self.strength), self.mean, precision)

    def sample(self) -> Values:
        """Return one draw per chain."""
        covariance = self.covariance.sample()
        noise = standard_normal(self.mean).unsqueeze(-1) / self.strength.sqrt()[..., None, None]
        return {"covariance": covariance, "mean": self.mean + (lower_factor(covariance) @ noise).squeeze(-1)}

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log density of the sites."""
        covariance, D = values["covariance"], self.mean.shape[-1]
        away = (values["mean"] - self.mean).unsqueeze(-1)
        square = torch.linalg.solve_triangular(lower_factor(covariance), away, upper=False).square().sum((-2, -1))
        normal = D * (self.strength.log() - math.log(2 * math.pi)) - log_determinant(covariance)
        return (self.covariance.log_prob(covariance) + 0.5 * (normal - self.strength * square)).sum(-1)

    def divergence(self, other: NormalInverseWishart) -> Float[Tensor, C]:
        """Return KL(self || other)."""
        D, ratio, away = self.mean.shape[-1], other.strength / self.strength, (self.mean - other.mean).unsqueeze(-1)
        square = (away.mT @ self.known().precision @ away).squeeze((-2, -1))
        normal = 0.5 * (D * (ratio - 1 - ratio.log()) + other.strength * square)
        return (self.covariance.divergence(other.covariance) + normal).sum(-1)
