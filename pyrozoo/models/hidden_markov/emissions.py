"""What states say of steps: densities, conjugate factors and simulation of each kind of emission."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical, Dirichlet, Gamma, Normal, Poisson

from pyrozoo.contracts.solver import Independent
from pyrozoo.core.draws import Values
from pyrozoo.data.sequences import Sequences
from pyrozoo.math.exponential_family import expected_log_dirichlet, expected_log_gamma
from pyrozoo.math.linear_algebra import pack, packed_outer, unpack
from pyrozoo.math.moments import column_moments
from pyrozoo.math.multinomial import choose
from pyrozoo.math.normal_inverse_gamma import NormalInverseGamma
from pyrozoo.math.special import log_factorial

BY_COLUMN = ("state", "column")


@dataclass(eq=False)
class Emission(abc.ABC):
    """The emission of a model, given sequences: linear in what ``features`` has of each row.

    Subclasses say which features a row has, so that log p(x_i | k) = features_i . natural_k + base_i, whose sums over
    the rows of a state are all that its parameters are learned from.

    Attributes:
        model: The model.
        data: The sequences.
    """

    model: Any
    data: Sequences
    sites: ClassVar[Mapping[str, tuple[str, ...]]]

    def having(self, values: Tensor) -> Emission:
        """Return the same for other values, 0 where they are missing."""
        if values is self.data.filled:
            return self
        return replace(self, data=replace(self.data, values=values.where(self.data.observed, torch.nan)))

    @property
    def like(self) -> Tensor:
        """A tensor of the data's precision and device."""
        return self.data.values

    @cached_property
    def seen(self) -> Float[Tensor, "N D"]:
        """1 where there is a value, 0 where not."""
        return self.data.observed.to(self.like.dtype)

    @property
    @abc.abstractmethod
    def features(self) -> Float[Tensor, "N F"]:
        """What the density of a row depends on."""

    @property
    @abc.abstractmethod
    def base(self) -> Float[Tensor, N]:
        """What of it does not depend on the state."""

    @property
    def plates(self) -> Any:
        """Of states and columns, in the program."""
        found = contextlib.ExitStack()
        found.enter_context(pyro.plate("state", self.model.num_components, dim=-2))
        found.enter_context(pyro.plate("column", self.data.shape[1], dim=-1))
        return found

    @abc.abstractmethod
    def sample(self) -> dict[str, Tensor]:
        """Run the emission's part of the program; return its sites."""

    @abc.abstractmethod
    def natural(self, values: Values) -> Any:
        """Return what features are multiplied with, [C, K, F], at values of the sites, site -> [C, *event]."""

    @abc.abstractmethod
    def expected_natural(self, factor: Any) -> Any:
        """Return its expectation under a factor."""

    @abc.abstractmethod
    def conjugate(self, sums: Float[Tensor, "C K F"]) -> Any:
        """Return the factor of the sites given sums of features over the rows of each state."""

    @property
    def prior_factor(self) -> Any:
        """The prior of the sites, of one chain."""
        return self.conjugate(self.like.new_zeros(1, self.model.num_components, self.features.shape[-1]))

    @abc.abstractmethod
    def mode(self, factor: Any) -> Values:
        """Return where the factor's density is highest."""

    @abc.abstractmethod
    def initial(self, rows: Int[Tensor, "C K"]) -> Values:
        """Return starting values of the sites, at rows of the data."""

    @abc.abstractmethod
    def draw(self, at: Values) -> Float[Tensor, "*b D"]:
        """Draw rows, given the parameters of each, site -> [*b, *event of a state]."""

    def simulate(self, values: Values, state: Int[Tensor, N]) -> Float[Tensor, "N D"]:
        """Draw the rows of the data, given the state of each."""
        return self.draw({site: values[site][state] for site in self.sites})

    def following(self, at: Values, before: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """Draw rows, given the parameters of each and the values before."""
        return self.draw(at)

    @abc.abstractmethod
    def cells(self, values: Values, rows: Int[Tensor, E], columns: Int[Tensor, E]) -> Any:
        """Return the distribution of some cells in every state, of shape [E, C, K], at values of the sites."""

    @staticmethod
    @abc.abstractmethod
    def features_of(flat: Values) -> Float[Tensor, "S K P"]:
        """Return what describes each state, for matching."""

    def log_density(self, natural: Any) -> Float[Tensor, "T C K"]:
        """Return log p(x_t | k) of every step, 0 in gaps."""
        C, K, F = natural.shape
        logs = torch.addmm(self.base.unsqueeze(-1), self.features, natural.reshape(C * K, F).T)
        return self.by_step(logs.unflatten(-1, (C, K)))

    def by_step(self, rows: Float[Tensor, "N C K"]) -> Float[Tensor, "T C K"]:
        """Return rows where their steps are, and 0 in gaps."""
        if self.in_order:
            return rows
        return rows.new_zeros(self.data.steps.count, *rows.shape[1:]).index_copy(0, self.data.place, rows)

    @cached_property
    def in_order(self) -> bool:
        """Whether each row is the step of its number: there are no gaps."""
        return torch.equal(self.data.place, torch.arange(self.data.steps.count, device=self.like.device))

    def sums(self, probability: Float[Tensor, "T C K"], natural: Any, draw: bool = False) -> Float[Tensor, "C K F"]:
        """Return the sums of features over the rows of each state.

        Args:
            probability: Of states, or 1 for the one that was drawn.
            natural: What it was found by.
            draw: Whether what features need and is missing is drawn, too, rather than expected.
        """
        rows = probability if self.in_order else probability[self.data.place]
        return (rows.flatten(1).T @ self.features).unflatten(0, rows.shape[1:])


class CategoricalEmission(Emission):
    """Levels, numbered from 0, independent given the state."""

    sites: ClassVar = {"probability": (*BY_COLUMN, "level")}

    @cached_property
    def features(self) -> Float[Tensor, "N F"]:
        """1 for the level that a cell has."""
        hot = torch.nn.functional.one_hot(self.data.filled.long(), self.model.num_levels).to(self.like.dtype)
        return (hot * self.seen.unsqueeze(-1)).flatten(1)

    @cached_property
    def base(self) -> Float[Tensor, N]:
        """Nothing."""
        return self.like.new_zeros(len(self.like))

    def sample(self) -> dict[str, Tensor]:
        """Sample probabilities."""
        prior = dist.Dirichlet(self.like.new_full((self.model.num_levels,), self.model.level_concentration))
        with self.plates:
            return {"probability": pyro.sample("probability", prior)}

    def natural(self, values: Values) -> Float[Tensor, "C K F"]:
        """Return log p; a level that a state never has is very improbable."""
        p = values["probability"]
        return p.clamp(min=torch.finfo(p.dtype).tiny).log().flatten(2)

    def expected_natural(self, factor: Any) -> Float[Tensor, "C K F"]:
        """Return E log p."""
        return expected_log_dirichlet(factor.q["probability"].concentration).flatten(2)

    def conjugate(self, sums: Float[Tensor, "C K F"]) -> Independent:
        """Return Dirichlet factors."""
        counts = sums.unflatten(-1, (-1, self.model.num_levels))
        return Independent({"probability": Dirichlet(self.model.level_concentration + counts, validate_args=False)})

    def mode(self, factor: Any) -> Values:
        """Return (n + c - 1) / sum (n + c - 1)."""
        return {"probability": dirichlet_mode(factor.q["probability"].concentration)}

    def initial(self, rows: Int[Tensor, "C K"]) -> Values:
        """Return the shares of the levels, drawn toward those of a row."""
        L = self.model.num_levels
        hot = self.features.unflatten(-1, (-1, L))
        share = (hot.sum(0) + 1) / (hot.sum((0, 2)).unsqueeze(-1) + L)
        start = 0.5 * share + 0.5 * torch.where(hot[rows].sum(-1, keepdim=True) > 0, hot[rows], share)
        start = start * (0.5 + torch.rand_like(start))
        return {"probability": start / start.sum(-1, keepdim=True)}

    def draw(self, at: Values) -> Float[Tensor, "*b D"]:
        """Draw levels."""
        return choose(at["probability"].contiguous()).to(self.like.dtype)

    def cells(self, values: Values, rows: Int[Tensor, E], columns: Int[Tensor, E]) -> Any:
        """Return categorical distributions."""
        return Categorical(values["probability"][:, :, columns].permute(2, 0, 1, 3), validate_args=False)

    @staticmethod
    def features_of(flat: Values) -> Float[Tensor, "S K P"]:
        """Return square roots of probabilities."""
        return flat["probability"].sqrt().flatten(2)


class PoissonEmission(Emission):
    """Counts, independent given the state."""

    sites: ClassVar = {"rate": BY_COLUMN}

    @cached_property
    def features(self) -> Float[Tensor, "N F"]:
        """Counts, and 1 where there is one."""
        return torch.cat([self.data.filled, self.seen], 1)

    @cached_property
    def base(self) -> Float[Tensor, N]:
        """Minus the sum of log x!."""
        return -log_factorial(self.data.filled).sum(1)

    @property
    def prior(self) -> tuple[float, Tensor]:
        """Shape and rates [D] of the Gamma prior."""
        return self.model.rate_shape, self.model.rate_shape / self.like.new_tensor(self.model.scale)

    def sample(self) -> dict[str, Tensor]:
        """Sample rates."""
        shape, rate = self.prior
        with self.plates:
            return {"rate": pyro.sample("rate", dist.Gamma(torch.full_like(rate, shape), rate))}

    def natural(self, values: Values) -> Float[Tensor, "C K F"]:
        """Return log r and -r."""
        return torch.cat([values["rate"].log(), -values["rate"]], -1)

    def expected_natural(self, factor: Any) -> Float[Tensor, "C K F"]:
        """Return E log r and -E r."""
        q = factor.q["rate"]
        return torch.cat([expected_log_gamma(q.concentration, q.rate), -q.mean], -1)

    def conjugate(self, sums: Float[Tensor, "C K F"]) -> Independent:
        """Return Gamma factors."""
        (shape, rate), (total, count) = self.prior, sums.chunk(2, -1)
        return Independent({"rate": Gamma(shape + total, rate + count, validate_args=False)})

    def mode(self, factor: Any) -> Values:
        """Return (a - 1) / b."""
        q = factor.q["rate"]
        return {"rate": ((q.concentration - 1) / q.rate).clamp(min=torch.finfo(q.rate.dtype).tiny)}

    def initial(self, rows: Int[Tensor, "C K"]) -> Values:
        """Return rates half-way between a row and the columns' means."""
        mean = self.data.filled.sum(0) / self.seen.sum(0).clamp(min=1)
        row = torch.where(self.data.observed, self.data.filled, mean)[rows]
        return {"rate": 0.5 * (row + mean) * (0.5 + torch.rand_like(row)) + 0.05 * mean.mean() + 1e-3}

    def draw(self, at: Values) -> Float[Tensor, "*b D"]:
        """Draw counts."""
        return torch.poisson(at["rate"])

    def cells(self, values: Values, rows: Int[Tensor, E], columns: Int[Tensor, E]) -> Any:
        """Return Poisson distributions."""
        return Poisson(values["rate"][:, :, columns].permute(2, 0, 1), validate_args=False)

    @staticmethod
    def features_of(flat: Values) -> Float[Tensor, "S K P"]:
        """Return square roots of rates."""
        return flat["rate"].sqrt()


class GaussianEmission(Emission):
    """Numbers, normal and independent given the state.

    Features are in units of the column: large numbers keep their digits.
    """

    sites: ClassVar = {"variance": BY_COLUMN, "mean": BY_COLUMN}

    @cached_property
    def unit(self) -> tuple[Float[Tensor, D], Float[Tensor, D]]:
        """Mean and sd of the columns, in which features are measured."""
        mean, variance, _ = column_moments(self.data.values)
        varies = variance > torch.finfo(mean.dtype).eps * mean.square()
        return mean, torch.where(varies, variance, 1.0).sqrt()

    @cached_property
    def covariates(self) -> Float[Tensor, "N D P"]:
        """What the mean of a cell is a linear function of: 1, where it is observed."""
        return self.seen.unsqueeze(-1)

    @cached_property
    def features(self) -> Float[Tensor, "N F"]:
        """Per column x^2, x u and the lower triangle of u u^T, of cells x and their covariates u."""
        x = ((self.data.filled - self.unit[0]) / self.unit[1] * self.seen).unsqueeze(-1)
        u = self.covariates
        return torch.cat([x * x, x * u, packed_outer(u, u)], -1).flatten(1)

    @cached_property
    def base(self) -> Float[Tensor, N]:
        """Of the units: minus the sum of log sd, and of log 2 pi / 2."""
        return -self.seen @ (self.unit[1].log() + 0.5 * math.log(2 * math.pi))

    @property
    def prior(self) -> NormalInverseGamma:
        """The prior of coefficients and variances in those units."""
        m, (mean, sd), D = self.model, self.unit, self.data.shape[1]
        location, scale = (self.like.new_tensor(each).expand(D) for each in (m.location, m.scale))
        centre = torch.zeros_like(self.covariates[0])
        centre[:, 0] = (location - mean) / sd
        strength = torch.full_like(centre, m.mean_precision)
        strength[:, 1:] *= (scale / sd).square().unsqueeze(-1)
        half = self.like.new_full((D,), m.degrees / 2)
        return NormalInverseGamma(centre, strength.diag_embed(), half, half * (scale / sd).square())

    def sample(self) -> dict[str, Tensor]:
        """Sample variances, then means."""
        m, number = self.model, self.like.new_tensor
        half = number(m.degrees / 2).expand(self.data.shape[1])
        with self.plates:
            variance = pyro.sample("variance", dist.InverseGamma(half, half * number(m.scale).square()))
            mean = pyro.sample("mean", dist.Normal(number(m.location), (variance / m.mean_precision).sqrt()))
            return {"variance": variance, "mean": mean, **self.sample_more(variance)}

    def sample_more(self, variance: Tensor) -> dict[str, Tensor]:
        """Sample what else there is, inside the plates: nothing."""
        return {}

    def natural(self, values: Values) -> Any:
        """Return what log v, 1 / v, b / v and b b^T / v say."""
        v, b = self._inward(values)
        outer = b.unsqueeze(-1) * b.unsqueeze(-2)
        return _natural(v.log(), 1 / v, b / v.unsqueeze(-1), outer / v[..., None, None])

    def expected_natural(self, factor: Any) -> Any:
        """Return the same of their expectations."""
        return _natural(*factor.q.expected)

    def _inward(self, values: Values) -> tuple[Tensor, Tensor]:
        """Return variances and coefficients in units of the columns."""
        mean, sd = self.unit
        coefficients = [(values["mean"] - mean) / sd, *([values["slope"]] if "slope" in values else [])]
        return values["variance"] / sd.square(), torch.stack(coefficients, -1)

    def outward(self, coefficients: Float[Tensor, "C K D P"], variance: Float[Tensor, "C K D"]) -> Values:
        """Return sites of coefficients and variances in units of the columns."""
        mean, sd = self.unit
        sites = {"variance": variance * sd.square(), "mean": mean + sd * coefficients[..., 0]}
        return sites if coefficients.shape[-1] == 1 else {**sites, "slope": coefficients[..., 1]}

    def conjugate(self, sums: Float[Tensor, "C K F"]) -> Any:
        """Return normal inverse Gamma factors."""
        P = self.covariates.shape[-1]
        xx, xu, lower = sums.unflatten(-1, (self.data.shape[1], -1)).split([1, P, P * (P + 1) // 2], -1)
        uu = unpack(lower, P)
        return NormalFactor(self, self.prior.given(uu[..., 0, 0], xx.squeeze(-1), xu, uu))

    def mode(self, factor: Any) -> Values:
        """Return centres, and the variances that go with them."""
        return self.outward(*factor.q.mode)

    def initial(self, rows: Int[Tensor, "C K"]) -> Values:
        """Return means half-way between a row and the columns' means, and half the columns' variances."""
        mean, sd = self.unit
        x = torch.where(self.data.observed, self.data.filled, mean)[rows]
        start = {"mean": mean + 0.7 * (x - mean) + 0.1 * sd * torch.randn_like(x)}
        start["variance"] = sd.square() * (0.25 + 0.5 * torch.rand_like(x))
        return start if "slope" not in self.sites else {**start, "slope": 0.2 * torch.randn_like(x)}

    def draw(self, at: Values) -> Float[Tensor, "*b D"]:
        """Draw rows."""
        return at["mean"] + at["variance"].sqrt() * torch.randn_like(at["mean"])

    def cells(self, values: Values, rows: Int[Tensor, E], columns: Int[Tensor, E]) -> Any:
        """Return normal distributions."""
        mean, variance = (values[site][:, :, columns].permute(2, 0, 1) for site in ("mean", "variance"))
        return Normal(mean, variance.sqrt(), validate_args=False)

    @staticmethod
    def features_of(flat: Values) -> Float[Tensor, "S K P"]:
        """Return means in units of a typical sd, and logarithms of sds."""
        logs = 0.5 * flat["variance"].log()
        return torch.cat([flat["mean"] / logs.mean((0, 1)).exp(), logs, *[flat[s] for s in flat if s == "slope"]], -1)


class AutoregressiveEmission(GaussianEmission):
    """Numbers whose mean follows the value before."""

    sites: ClassVar = {**GaussianEmission.sites, "slope": BY_COLUMN}

    @cached_property
    def away(self) -> Float[Tensor, "N D"]:
        """How far the values before are from their location; 0 where there is none."""
        before = self.data.before
        there = (before >= 0).unsqueeze(-1) & self.data.observed[before]
        return torch.where(there, self.data.filled[before] - self.like.new_tensor(self.model.location), 0.0)

    @cached_property
    def covariates(self) -> Float[Tensor, "N D P"]:
        """1 and how far the value before is away, where a cell is observed."""
        return torch.stack([self.seen, self.seen * self.away / self.unit[1]], -1)

    def sample_more(self, variance: Tensor) -> dict[str, Tensor]:
        """Sample slopes."""
        scale = (variance / self.model.mean_precision).sqrt() / self.like.new_tensor(self.model.scale)
        return {"slope": pyro.sample("slope", dist.Normal(torch.zeros_like(scale), scale))}

    def following(self, at: Values, before: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """Draw rows; a value before that is missing is at its location."""
        return self.draw(at) + at["slope"] * (before - self.like.new_tensor(self.model.location)).nan_to_num(nan=0.0)

    def simulate(self, values: Values, state: Int[Tensor, N]) -> Float[Tensor, "N D"]:
        """Draw rows, one step after the other."""
        location, data = self.like.new_tensor(self.model.location), self.data
        x, slope = super().simulate(values, state), values["slope"][state]
        for t, at in data.steps.forward():
            rows = data.row_at[at]
            rows = rows[rows >= 0]
            if t and len(rows):
                before = data.before[rows]
                x[rows] += slope[rows] * torch.where((before >= 0).unsqueeze(-1), x[before] - location, 0.0)
        return x

    def cells(self, values: Values, rows: Int[Tensor, E], columns: Int[Tensor, E]) -> Any:
        """Return normal distributions given the values before."""
        q, away = super().cells(values, rows, columns), self.away[rows, columns][:, None, None]
        return Normal(q.loc + values["slope"][:, :, columns].permute(2, 0, 1) * away, q.scale, validate_args=False)


@dataclass(frozen=True)
class NormalFactor:
    """Normal inverse Gamma factors, as sites of a Gaussian emission.

    Attributes:
        emission: The emission, whose units they are in.
        q: The factors.
    """

    emission: GaussianEmission
    q: NormalInverseGamma

    def sample(self) -> Values:
        """Return one draw per chain, site -> [C, K, D]."""
        return self.emission.outward(*self.q.sample())

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log density of the sites."""
        (variance, b), sd = self.emission._inward(values), self.emission.unit[1]
        logs = self.q.log_prob(b, variance) - 3 * sd.log()  # of the units: sd for a mean, sd^2 for a variance
        return logs.flatten(1).sum(1)

    def divergence(self, other: NormalInverseGamma) -> Float[Tensor, C]:
        """Return KL(self || other)."""
        return self.q.divergence(other).flatten(1).sum(1)


def _natural(log_v: Tensor, precision: Tensor, pull: Tensor, outer: Tensor) -> Float[Tensor, "C K F"]:
    """Return -(log v + x^2 / v - 2 x u . b / v + u^T (b b^T / v) u) / 2 as coefficients of features."""
    twice = outer + outer.tril(-1)  # of the lower triangle what is off the diagonal counts twice
    lower = pack(twice)
    constant = torch.nn.functional.pad(log_v.unsqueeze(-1), (0, lower.shape[-1] - 1))  # u_0 u_0 is 1 where observed
    return torch.cat([-0.5 * precision.unsqueeze(-1), pull, -0.5 * (lower + constant)], -1).flatten(2)


def dirichlet_mode(concentration: Float[Tensor, "*b K"]) -> Float[Tensor, "*b K"]:
    """Return where a Dirichlet density is highest; without any count above a flat prior, its middle."""
    above = (concentration - 1).clamp(min=0)
    total = above.sum(-1, keepdim=True)
    return torch.where(total > 0, above / total, 1 / concentration.shape[-1])
