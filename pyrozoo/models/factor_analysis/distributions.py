"""The marginal distribution of rows with holes."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints


class RowNormal(dist.TorchDistribution):
    """x_n ~ N(mean, W W^T + diag(noise)), of which only the observed entries count in ``log_prob``.

    Samples are whole rows. N x D x M numbers when something is missing: for programs and tests; solvers do without.

    Args:
        loadings: W.
        mean: mu.
        noise_variance: sigma^2.
        observed: Which entries have a value.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, loadings: Float[Tensor, "D M"], mean: Float[Tensor, D], noise_variance: Float[Tensor, D],
        observed: Bool[Tensor, "N D"],
    ):  # fmt: skip
        self.loadings, self.mean_, self.noise_variance, self.observed = loadings, mean, noise_variance, observed
        super().__init__(observed.shape[:-1], observed.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RowNormal:
        """Return the distribution itself: its rows are a batch already."""
        if torch.Size(batch_shape) != self.batch_shape:
            raise NotImplementedError("rows of a table cannot be expanded")
        return self

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw whole rows."""
        whole = dist.LowRankMultivariateNormal(self.mean_, self.loadings, self.noise_variance, validate_args=False)
        return whole.rsample(torch.Size(sample_shape) + self.batch_shape)

    def log_prob(self, value: Float[Tensor, "N D"]) -> Float[Tensor, N]:
        """Return the log density of the observed entries of every row."""
        if self.observed.all():
            rows = dist.LowRankMultivariateNormal(self.mean_, self.loadings, self.noise_variance, validate_args=False)
            return rows.log_prob(value)
        # An entry with no loadings, at its mean, with variance 1 / 2 pi, has log density 0.
        seen = self.observed
        rows = dist.LowRankMultivariateNormal(
            torch.where(seen, self.mean_, 0.0),
            torch.where(seen.unsqueeze(-1), self.loadings, 0.0),
            torch.where(seen, self.noise_variance, 1 / (2 * math.pi)),
            validate_args=False,
        )
        return rows.log_prob(torch.where(seen, value, 0.0))
