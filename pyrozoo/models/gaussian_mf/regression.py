"""p(w_i | all else) of every row, and the normal-Wishart above the rows: Gibbs draws, EM takes modes, CAVI averages.

Row i given the columns: precision Lambda + tau sum x x^T, mean its inverse times (Lambda m + tau sum x (r - mu - b)),
tau = 1 / s^2 (Salakhutdinov and Mnih 2008, eq. 11 to 13).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.small_systems import backward_, blocks, factored, forward_, inverses, log_determinants
from pyrozoo.models.gaussian_mf.likelihood import Block, Regressions
from pyrozoo.models.gaussian_mf.model import GaussianMF


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
            mean: mu; not looked at without offsets.
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

    def _solved(self, noise: Tensor | None, what: str) -> Tensor:
        """Return A^-1 b + L^-T noise with A = L L^T."""
        L, shape = len(self.pull), self.pull.shape
        A, b = self.precision.reshape(L, L, -1), self.pull.reshape(L, -1).clone()
        added = None if noise is None else noise.reshape(L, -1)
        for part in blocks(L, b.shape[1]):
            factor, right = factored(A[..., part], what), b[:, part]
            forward_(factor, right)
            if added is not None:
                right += added[:, part]
            backward_(factor, right)
        return b.reshape(shape)

    def moments(self, what: str) -> tuple[Block, Float[Tensor, C]]:
        """Return means and covariances of every w_i, and the sum of their log determinants of precision by chain."""
        L, shape = len(self.pull), self.pull.shape
        A, b = self.precision.reshape(L, L, -1), self.pull.reshape(L, -1)
        covariance, logs = torch.empty_like(A), torch.empty_like(b[0])
        for part in blocks(L, b.shape[1]):
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
        half = torch.linalg.cholesky(torch.linalg.inv(self.inverse_scale))
        degrees = self.degrees - torch.arange(K, dtype=like.dtype, device=like.device)
        diagonal = torch.distributions.Chi2(degrees, validate_args=False).sample((C,)).sqrt()
        bartlett = torch.randn(C, K, K, dtype=like.dtype, device=like.device).tril(-1) + torch.diag_embed(diagonal)
        root = half @ bartlett
        noise = torch.randn(C, K, 1, dtype=like.dtype, device=like.device)
        # root root^T = Lambda, so that root^-T noise has covariance Lambda^-1.
        away = torch.linalg.solve(root.mT, noise).squeeze(-1)
        return self.mean + away / self.strength**0.5, root @ root.mT

    def mode(self) -> tuple[Float[Tensor, "C K"], Float[Tensor, "C K K"]]:
        """Return the joint mode: Lambda = (degrees - K) W, to which m's own density adds a half of log |Lambda|."""
        return self.mean, (self.degrees - self.mean.shape[1]) * torch.linalg.inv(self.inverse_scale)

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
