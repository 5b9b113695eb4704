"""Priors and their posteriors given sums over rows: sticks of the weights, normal-inverse-Wishart components.

Of ``tied`` all means share one covariance, of ``spherical`` all columns of a component share one variance; a variance
is a covariance of one column. Means are relative to the prior's location. Gelman et al. 2013, section 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.math.linear_algebra import safe_cholesky, standard_normal
from pyrozoo.models.gaussian_mixture.likelihood import Known, Sums
from pyrozoo.models.gaussian_mixture.model import GaussianMixture
from pyrozoo.program.covariances import InverseWisharts, digammas
from pyrozoo.program.stick_breaking import StickBreaking


@dataclass(frozen=True)
class State:
    """q of the sites per restart: sticks Beta(on, rest); covariance (degrees, spread), mean (mean, precision)."""

    on: Float[Tensor, "C sticks"]
    rest: Float[Tensor, "C sticks"]
    mean: Float[Tensor, "C K D"]
    precision: Float[Tensor, "C K cells"]
    degrees: Float[Tensor, C * groups]
    spread: Float[Tensor, C * form]


@dataclass(frozen=True)
class Components:
    """The distribution that a state is, of a model's sites, [C, *event]; the prior is one of a single chain.

    Attributes:
        model: The model.
        location: What means are relative to.
        state: Its parameters.
    """

    model: GaussianMixture
    location: Float[Tensor, D]
    state: State

    @classmethod
    def prior(cls, model: GaussianMixture, like: Float[Tensor, "N D"]) -> Components:
        """Return the prior."""
        K, D, number = model.num_components, like.shape[-1], like.new_tensor
        weights, spread = model.weights(like), model.spread(like, D)
        spread = spread if model.covariance_type == "tied" else spread.expand(K, *spread.shape)
        groups = spread.shape[:-2] if model.matrices else spread.shape
        zero, precision = like.new_zeros(1, K, D), like.new_full((1, K, 1), model.mean_precision)
        degrees = like.new_full((1, *groups), model.degrees)
        state = State(weights.on[None], weights.rest[None], zero, precision, degrees, spread[None])
        return cls(model, number(model.location).expand(D), state)

    def given(self, sums: Sums) -> Components:
        """Return the posterior, given sums over the rows of each component: this is the prior."""
        s, form = self.state, self.model.covariance_type
        weights = self.weights.given(sums.counts)
        precision = s.precision + sums.seen
        mean = sums.total / precision
        if self.model.matrices:
            squares = sums.second - precision.unsqueeze(-1) * mean.unsqueeze(-1) * mean.unsqueeze(-2)
        else:
            squares = (sums.second - precision * mean.square()).clamp(min=0)
        seen = sums.counts if self.model.matrices else sums.seen
        if form == "tied":
            squares, seen = squares.sum(1), seen.sum(1)
        elif form == "spherical":
            squares, seen = squares.sum(-1), seen.sum(-1)
        return self.at(State(weights.on, weights.rest, mean, precision, s.degrees + seen, s.spread + squares))

    def at(self, state: State) -> Components:
        """Return the same of another state."""
        return replace(self, state=state)

    @property
    def weights(self) -> StickBreaking:
        """The distribution of the weights."""
        return StickBreaking(self.state.on, self.state.rest)

    @property
    def size(self) -> int:
        """Columns of a covariance: 1 of variances."""
        return len(self.location) if self.model.matrices else 1

    @property
    def covariance(self) -> InverseWisharts:
        """The distribution of the covariances, as matrices."""
        return InverseWisharts(self.state.degrees + (self.size - 1), self._matrix(self.state.spread))

    def _matrix(self, value: Tensor) -> Tensor:
        return value if self.model.matrices else value[..., None, None]

    def each(self, group: Tensor) -> Tensor:
        """Return something of each covariance for every component and, of variances, column: [C, K, cells]."""
        return group if group.ndim == 3 else group.reshape(len(group), -1, 1)

    def factor(self, covariance: Tensor) -> Float[Tensor, "C k D D"]:
        """Return Cholesky factors of matrices, one for each component or for all."""
        factor = safe_cholesky(covariance, "a covariance")
        return factor if factor.ndim == 4 else factor.unsqueeze(1)

    @property
    def mode(self) -> Values:
        """The sites where their density is highest."""
        s, m = self.state, self.model
        means = {"tied": m.num_components, "spherical": len(self.location)}.get(m.covariance_type, 1)
        degrees = s.degrees + (2 * self.size + means)
        # The last weight has no stick; of a Dirichlet its concentration is what the last stick leaves.
        powers = (
            torch.cat([s.on, s.rest[..., -1:]], -1) - 1 if m.num_components > 1 else torch.ones_like(s.mean[..., 0])
        )
        weights = powers.clamp(min=0) / powers.clamp(min=0).sum(-1, keepdim=True)
        return {"weights": weights, "mean": s.mean + self.location, "covariance": _over(s.spread, degrees)}

    def sample(self) -> Values:
        """Return one draw per chain."""
        drawn = self.covariance.rsample()
        noise, root = standard_normal(self.state.mean), self.state.precision.sqrt()
        if self.model.matrices:
            away = (self.factor(drawn) @ noise.unsqueeze(-1)).squeeze(-1)
        else:
            drawn = drawn[..., 0, 0]
            away = self.each(drawn).sqrt() * noise
        mean = self.location + self.state.mean + away / root
        return {"weights": self.weights.rsample(), "mean": mean, "covariance": drawn}

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log density of one point per chain."""
        s, covariance = self.state, self._matrix(values["covariance"])
        away = values["mean"] - self.location - s.mean
        if self.model.matrices:
            factor = self.factor(covariance)
            away = torch.linalg.solve_triangular(factor, away.unsqueeze(-1), upper=False).squeeze(-1)
            logs = factor.diagonal(dim1=-2, dim2=-1).log()
        else:
            variance = self.each(values["covariance"])
            away, logs = away / variance.sqrt(), 0.5 * variance.log()
        normal = 0.5 * (s.precision / (2 * torch.pi)).log() - logs - 0.5 * s.precision * away.square()
        parts = (
            self.covariance.log_prob(covariance).reshape(len(away), -1).sum(1),
            self.weights.log_prob(values["weights"]),
        )
        return normal.sum((1, 2)) + parts[0] + parts[1]

    def known(self) -> Known:
        """Return what rows see of it: as if values were these, E log p(x | z) and E log pi are what they would be."""
        s, q, D = self.state, self.covariance, len(self.location)
        nu = q.degrees
        bonus = 0.5 * (digammas(nu, self.size) - self.size * (nu / 2).log())
        spread = _over(s.spread, nu)
        if self.model.matrices:
            weights = self.weights.expected_log + self.each(bonus)[..., 0] - D / (2 * s.precision[..., 0])
            return Known(weights, s.mean, spread if spread.ndim == 4 else spread.unsqueeze(1))
        return Known(self.weights.expected_log, s.mean, self.each(spread), self.each(bonus) - 0.5 / s.precision)

    def divergence(self, prior: Components) -> Float[Tensor, C]:
        """Return KL(self || prior)."""
        s, p, q = self.state, prior.state, self.covariance
        away = s.mean - p.mean
        if self.model.matrices:
            away = (
                torch.linalg.solve_triangular(self.factor(s.spread), away.unsqueeze(-1), upper=False)
                .squeeze(-1)
                .square()
            )
            away = away * self.each(q.degrees)
        else:
            away = away.square() * self.each(q.degrees / s.spread)
        ratio = p.precision / s.precision
        normal = 0.5 * (ratio - 1 - ratio.log() + p.precision * away)
        parts = q.divergence(prior.covariance).reshape(len(away), -1).sum(1), self.weights.divergence(prior.weights)
        return normal.sum((1, 2)) + parts[0] + parts[1]


def _over(spread: Tensor, degrees: Tensor) -> Tensor:
    return spread / degrees[(..., *[None] * (spread.ndim - degrees.ndim))]
