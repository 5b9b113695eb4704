"""The distributions of the program: inverse Wishart covariances, answers given the latent vector and without it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import biject_to, constraints, transforms

from pyrozoo.math.linear_algebra import standard_normal
from pyrozoo.math.multinomial import cumulated
from pyrozoo.program.whole import Whole


class _CovarianceMatrix(constraints.Constraint):
    """Symmetric positive definite matrices; Torch's own constraint of that name has no Jacobian."""

    event_dim = 2
    is_discrete = False

    def check(self, value: Tensor) -> Tensor:
        symmetric = torch.isclose(value, value.mT, atol=1e-6).flatten(-2).all(-1)
        return symmetric & (torch.linalg.cholesky_ex(value)[1] == 0)


covariance_matrix = _CovarianceMatrix()


class CovarianceTransform(transforms.Transform):
    """d (d + 1) / 2 real numbers -> Sigma = L L^T: the lower triangle of L row by row, its diagonal as logarithms.

    |d Sigma / d x| = 2^d prod_i L_ii^(d - i + 2), i from 1: the product of the Jacobians of L L^T (Gupta and Nagar
    1999, Matrix Variate Distributions, theorem 1.3.4) and of exp.
    """

    domain = constraints.real_vector
    codomain = covariance_matrix
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        L = self._lower(x)
        return L @ L.mT

    def _inverse(self, y: Tensor) -> Tensor:
        L = torch.linalg.cholesky(y)
        i, j = torch.tril_indices(y.shape[-1], y.shape[-1], device=y.device)
        values = L[..., i, j]
        return torch.where(i == j, values.clamp(min=1e-300).log(), values)

    @staticmethod
    def _lower(x: Tensor) -> Tensor:
        d = _side(x.shape[-1])
        i, j = torch.tril_indices(d, d, device=x.device)
        values = torch.where(i == j, x.clamp(max=300).exp(), x)
        flat = x.new_zeros(*x.shape[:-1], d * d).index_copy(-1, i * d + j, values)
        return flat.unflatten(-1, (d, d))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the logarithm of the Jacobian."""
        d = _side(x.shape[-1])
        place = torch.arange(d, device=x.device)
        power = (d - place + 1).to(x.dtype)
        return d * math.log(2) + (x[..., place * (place + 3) // 2] * power).sum(-1)

    def forward_shape(self, shape: Any) -> torch.Size:
        """Return the shape of Sigma."""
        d = _side(shape[-1])
        return torch.Size((*shape[:-1], d, d))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """Return the shape of the numbers."""
        d = shape[-1]
        return torch.Size((*shape[:-2], d * (d + 1) // 2))


def _side(length: int) -> int:
    return (math.isqrt(8 * length + 1) - 1) // 2


@biject_to.register(_CovarianceMatrix)
def _(_: _CovarianceMatrix) -> CovarianceTransform:
    return CovarianceTransform()


class InverseWishart(Whole):
    """Sigma ~ IW(nu, psi I): density prop. to |Sigma|^-(nu + d + 1)/2 exp(-psi tr(Sigma^-1) / 2).

    Args:
        degrees: nu > d - 1.
        scale: psi > 0, a number.
        dimension: d.
    """

    support = covariance_matrix
    has_rsample = True

    def __init__(self, degrees: Tensor, scale: Tensor, dimension: int):
        self.degrees, self.scale = degrees, scale
        super().__init__((), (dimension, dimension))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw by Bartlett's decomposition of Sigma^-1 (Anderson 2003, section 7.2)."""
        d = self.event_shape[-1]
        lower = standard_normal(self.scale.new_empty(*sample_shape, d, d)).tril(-1)
        half = 0.5 * (self.degrees - torch.arange(d, dtype=self.scale.dtype, device=self.scale.device))
        chi = (2 * dist.Gamma(half, torch.ones_like(half)).rsample(sample_shape)).sqrt()
        factor = torch.linalg.inv(lower + torch.diag_embed(chi))
        return self.scale * factor.mT @ factor

    def log_prob(self, value: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch"]:
        """Return the log density over the lower triangle of Sigma."""
        d, nu = self.event_shape[-1], self.degrees
        factor = torch.linalg.cholesky(value)
        log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        trace = torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1).sum(-1)
        return (
            0.5 * nu * d * (self.scale.log() - math.log(2)) - torch.mvlgamma(0.5 * nu, d)
            - 0.5 * (nu + d + 1) * log_determinant - 0.5 * self.scale * trace
        )  # fmt: skip


class Answers(Whole):
    """Independent categorical answers to items of different numbers of categories, of which the observed ones count.

    Args:
        logits: Of every category of every item, items in the order of the data; or of one item that stands for all.
        observed: Which answers there are.
        sizes: Number of categories of every item.
    """

    support = constraints.real_vector

    def __init__(self, logits: Float[Tensor, "*batch P"], observed: Bool[Tensor, "N D"], sizes: tuple[int, ...]):
        self.observed, self.sizes = observed, sizes
        self.shared = logits.shape[-1] < sum(sizes)
        device, starts = logits.device, torch.tensor([0, *sizes]).cumsum(0)
        # Items of one size together: their places among the items, and logits [*batch, items, categories].
        self.logits: list[tuple[Tensor, Tensor]] = []
        for size in sorted(set(sizes)):
            items = torch.tensor([i for i, each in enumerate(sizes) if each == size])
            if self.shared:
                its = logits.unsqueeze(-2)
            else:
                its = logits[..., (starts[items].unsqueeze(-1) + torch.arange(size)).to(device)]
            self.logits.append((items.to(device), its))
        super().__init__(logits.shape[:-1], [len(sizes)])

    @cached_property
    def groups(self) -> list[tuple[Tensor, Tensor]]:
        """The same with log probabilities, which draws do not need."""
        return [(items, its.log_softmax(-1)) for items, its in self.logits]

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw whole rows, by inverting cumulative probabilities: 15 times as fast as torch's multinomial."""
        like = self.logits[0][1]
        drawn = like.new_empty(*sample_shape, *self.batch_shape, len(self.sizes))
        for items, its in self.logits:
            total = cumulated((its - its.amax(-1, keepdim=True)).exp())
            at = torch.rand(*sample_shape, *self.batch_shape, len(items), 1, dtype=like.dtype, device=like.device)
            drawn[..., items] = (at * total[..., -1:] > total[..., :-1]).sum(-1).to(like.dtype)
        return drawn

    def log_prob(self, value: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Return the log probability of the observed answers of every row."""
        code = torch.where(self.observed, value, 0.0).long()
        total = torch.zeros(self.batch_shape, dtype=self.groups[0][1].dtype, device=code.device)
        for items, logs in self.groups:
            its, seen = code[..., items], self.observed[..., items]
            if self.shared:  # how often a row chose each category says all
                counts = [((its == k) & seen).sum(-1) for k in range(logs.shape[-1])]
                total = total + (torch.stack(counts, -1) * logs.squeeze(-2)).sum(-1)
                continue
            its = its.expand(*self.batch_shape, -1).unsqueeze(-1)
            at = logs.expand(*its.shape[:-1], -1).gather(-1, its).squeeze(-1)
            total = total + torch.where(seen, at, 0.0).sum(-1)
        return total

    def log_table(self) -> list[Float[Tensor, "*batch K"]]:
        """Return log probabilities of the categories of every item."""
        found: dict[int, Tensor] = {}
        for items, logs in self.groups:
            for n, item in enumerate(items.tolist()):
                found[item] = logs[..., 0 if self.shared else n, :]
        return [found[item] for item in range(len(self.sizes))]


class Rows(Whole):
    """Rows of answers with the latent vector summed out.

    Args:
        draw: () -> whole rows, [N, D].
        log_density: Rows [N, D] -> their log probability.
        shape: N and D.
    """

    support = constraints.real_vector

    def __init__(self, draw: Callable[[], Tensor], log_density: Callable[[Tensor], Tensor], shape: tuple[int, int]):
        self.draw, self.log_density = draw, log_density
        super().__init__(shape[:1], shape[1:])

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw whole rows."""
        return self.draw()

    def log_prob(self, value: Float[Tensor, "N D"]) -> Float[Tensor, N]:
        """Return the log probability of every row's observed answers."""
        return self.log_density(value)
