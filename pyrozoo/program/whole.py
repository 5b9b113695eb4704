"""Distributions of whole data: a batch that is what it is, such as all rows of a table at once."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from pyro.distributions import TorchDistribution


class Whole(TorchDistribution):
    """A distribution whose batch cannot be expanded. Subclasses state ``support``, and hand the constructor shapes.

    Args:
        batch_shape: Units that are independent, such as rows.
        event_shape: Shape of one of them.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False

    def __init__(self, batch_shape: Any, event_shape: Any = ()):
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """Return the distribution itself, which has its batch already."""
        if torch.Size(batch_shape) != self.batch_shape:
            said = f"{type(self).__name__} has the batch shape {tuple(self.batch_shape)}"
            raise NotImplementedError(f"{said} and cannot be expanded to {tuple(batch_shape)}")
        return self
