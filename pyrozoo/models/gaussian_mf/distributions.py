"""The observed site of the program: ratings of listed pairs."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from pyro.distributions import constraints as C
from torch import Tensor


class ListedNormal(TorchDistribution):
    """r_e ~ N(mean_e, variance) for listed pairs e; a value is a list of entries, as ``Ratings.values``.

    Batch shape (entry,), event shape (3,): row, column, rating.

    Args:
        mean: Of each pair.
        variance: Of the noise, a scalar.
        entries: Whose rows and columns a draw has.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = C.real_vector
    has_rsample = False

    def __init__(self, mean: Float[Tensor, entry], variance: Float[Tensor, ""], entries: Float[Tensor, "entry 3"]):
        self.normal, self.pairs = Normal(mean, variance.sqrt(), validate_args=False), entries[:, :2]
        super().__init__(mean.shape, torch.Size((3,)), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ListedNormal:
        """Return itself: the pairs are already the batch."""
        if torch.Size(batch_shape) != self.batch_shape:
            raise NotImplementedError("the listed pairs are the batch; there is no other")
        return self

    def log_prob(self, value: Tensor) -> Float[Tensor, entry]:
        """Return the log density of each rating."""
        return self.normal.log_prob(value[..., 2])

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "entry 3"]:
        """Draw a rating for every listed pair."""
        with torch.no_grad():
            return torch.cat([self.pairs, self.normal.sample().unsqueeze(-1)], 1)
