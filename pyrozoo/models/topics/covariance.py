"""Mean and covariance of logits: normal-inverse-Wishart, as prior and given the logits of documents.

Sigma ~ IW(nu, S), density prop. to |Sigma|^-(nu + d + 1)/2 exp(-tr(S Sigma^-1) / 2); mu | Sigma ~ N(m, Sigma / kappa).
Of the prior nu = K + c, S = c s^2 (I + 1 1^T), m = 0, kappa = c (Gelman and others 2013, Bayesian Data Analysis, 3.6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma

from pyrozoo.math.linear_algebra import safe_cholesky, standard_normal
from pyrozoo.models.topics.model import Topics


@dataclass(frozen=True)
class NormalInverseWishart:
    """The distribution of mu and Sigma, of each chain.

    Attributes:
        mean: m.
        scale: S.
        count: kappa.
        degrees: nu.
    """

    mean: Float[Tensor, "*C d"]
    scale: Float[Tensor, "*C d d"]
    count: float
    degrees: float

    @classmethod
    def prior(cls, model: Topics, like: Tensor) -> NormalInverseWishart:
        """Return that of the model."""
        d, (nu, psi) = model.num_topics - 1, model.covariance_prior
        eye = torch.eye(d, dtype=like.dtype, device=like.device)
        return cls(like.new_zeros(d), psi * (eye + 1), model.prior_documents, nu)

    def given(
        self, documents: int, first: Float[Tensor, "*C d"], second: Float[Tensor, "*C d d"]
    ) -> NormalInverseWishart:
        """Return what it becomes given sum eta and sum eta eta^T over documents, or their expectations; m is 0 here."""
        count = self.count + documents
        mean = first / count
        scale = self.scale + second - count * mean[..., :, None] * mean[..., None, :]
        return NormalInverseWishart(mean, 0.5 * (scale + scale.mT), count, self.degrees + documents)

    @property
    def factor(self) -> Float[Tensor, "*C d d"]:
        """Return the lower Cholesky factor of S."""
        return safe_cholesky(self.scale, "the scale of the logits' covariance")

    @property
    def precision(self) -> Float[Tensor, "*C d d"]:
        """Return E Sigma^-1 = nu S^-1."""
        return self.degrees * torch.cholesky_inverse(self.factor)

    def half_degrees(self) -> Float[Tensor, d]:
        """Return (nu + 1 - i) / 2 for i = 1..d."""
        d = self.mean.shape[-1]
        return 0.5 * (self.degrees - torch.arange(d, dtype=self.mean.dtype, device=self.mean.device))

    @property
    def expected_log_determinant(self) -> Float[Tensor, "*C"]:
        """Return E log |Sigma^-1|."""
        d = self.mean.shape[-1]
        return torch.digamma(self.half_degrees()).sum() + d * math.log(2) - log_determinant(self.factor)

    def gap(self, prior: NormalInverseWishart) -> Float[Tensor, "*C"]:
        """Return KL(self || prior)."""
        d, nu, before, factor = self.mean.shape[-1], self.degrees, prior.degrees, self.factor
        inverse = torch.cholesky_inverse(factor)
        ratio, away = prior.count / self.count, self.mean - prior.mean
        square = prior.count * nu * (away * (inverse @ away[..., None])[..., 0]).sum(-1)
        of_mean = 0.5 * (d * (ratio - 1 - math.log(ratio)) + square)
        trace = (prior.scale * inverse).sum((-2, -1))
        volumes = log_determinant(factor) - log_determinant(prior.factor)
        gammas = torch.lgamma(prior.half_degrees()).sum() - torch.lgamma(self.half_degrees()).sum()
        slope = 0.5 * (nu - before) * torch.digamma(self.half_degrees()).sum()
        return of_mean + 0.5 * before * volumes + 0.5 * nu * (trace - d) + gammas + slope

    def sample(self) -> tuple[Float[Tensor, "*C d"], Float[Tensor, "*C d d"]]:
        """Draw mu and Sigma, this by Bartlett's decomposition of its inverse (Anderson 2003, section 7.2)."""
        shape, like = self.scale.shape, self.scale
        lower = standard_normal(like.new_empty(shape)).tril(-1)
        half = self.half_degrees().expand(shape[:-1])
        chi = (2 * Gamma(half, torch.ones_like(half), validate_args=False).sample()).sqrt()
        bartlett = lower + torch.diag_embed(chi)  # Sigma^-1 = R^-T A A^T R^-1, S = R R^T
        root = torch.linalg.solve_triangular(bartlett, self.factor.mT, upper=False).mT  # Sigma = root root^T
        noise = standard_normal(like.new_empty(shape[:-1]))[..., None]
        return self.mean + (root @ noise)[..., 0] / math.sqrt(self.count), root @ root.mT

    def log_prob(self, mean: Float[Tensor, "*C d"], covariance: Float[Tensor, "*C d d"]) -> Float[Tensor, "*C"]:
        """Return the log density of mu and Sigma."""
        d, nu, factor = self.mean.shape[-1], self.degrees, safe_cholesky(covariance, "a covariance of logits")
        inverse, volume = torch.cholesky_inverse(factor), log_determinant(factor)
        away = mean - self.mean
        square = self.count * (away * (inverse @ away[..., None])[..., 0]).sum(-1)
        trace = (self.scale * inverse).sum((-2, -1))
        normal = 0.5 * d * math.log(self.count / (2 * math.pi)) - 0.5 * volume - 0.5 * square
        constant = 0.5 * nu * (log_determinant(self.factor) - d * math.log(2))
        constant = constant - 0.25 * d * (d - 1) * math.log(math.pi) - torch.lgamma(self.half_degrees()).sum()
        return normal + constant - 0.5 * (nu + d + 1) * volume - 0.5 * trace


def log_determinant(factor: Float[Tensor, "*C d d"]) -> Float[Tensor, "*C"]:
    """Return log |L L^T|."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
