"""What a posterior of potts_grid can be asked: starting points, the likelihood, what labels and rotations leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.grid import Grid
from pyrozoo.models.potts_grid.distributions import PottsField
from pyrozoo.models.potts_grid.likelihood import log_channel_normaliser
from pyrozoo.models.potts_grid.model import PottsGrid
from pyrozoo.models.potts_grid.prediction import predict


class Posterior(HandBuilt):
    """PottsGrid given Grid."""

    model: PottsGrid
    data: Grid
    sites: ClassVar[Mapping[str, tuple[str, ...]]] = {"label": ("row", "column")}
    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        "label_share": ("label",),
        "equal_neighbours": (),
        "log_potential": (),
        # Expectations that methods know beyond their draws:
        "label_probability": ("row", "column", "label"),
        "most_probable": ("row", "column"),
        "neighbours_probability": ("label", "neighbour"),
    }
    observed: ClassVar[str] = "image"
    unit: ClassVar[str] = "pixel"

    def check(self) -> None:
        """Raise DataError unless the data are an image of labels, no more than the model has."""
        if not isinstance(self.data, Grid):
            raise DataError(f"potts_grid needs an image of labels, not {type(self.data).__name__.lower()}")
        self.data.checked()
        K = self.model.labels(self.data)
        if self.data.num_levels > K:
            self.data.refuse(self.data.filled >= K, f"is a label beyond the {K} that the model has (model.num_labels)")
            names = ", ".join(self.data.level_names[:8])
            raise DataError(
                f"{self.data.name} has {self.data.num_levels} labels ({names}), more than the {K} of the model (model.num_labels)"
            )

    def initial(self, chains: int) -> Values:
        """Return labels at random, pixel by pixel."""
        shape = (chains, *self.data.shape)
        return {"label": torch.randint(self.model.labels(self.data), shape, device=self.data.values.device)}

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_ij | y_ij) of every pixel, line by line; 0 where it is missing."""
        matches = draws["label"] == self.data.filled.long()
        strength = self.model.observation_strength * matches.to(self.data.values.dtype)
        logs = strength - log_channel_normaliser(self.model.observation_strength, self.model.labels(self.data))
        return torch.where(self.data.observed, logs, logs.new_zeros(())).flatten(-2)

    def align(self, draws: Values, reference: Values | None = None) -> Values:
        """Return the draws: labels mean what the image says, and nothing is left free."""
        return draws

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return the share of every label and of edges between equal ones, and two log densities.

        ``log_likelihood`` of the image, and ``log_potential``, c 1[...] + J of the whole labelling.
        """
        label, dtype = draws["label"], self.data.values.dtype
        height, width = self.data.shape
        edges = height * (width - 1) + (height - 1) * width
        equal = (label[..., :, :-1] == label[..., :, 1:]).sum((-2, -1)) + (label[..., :-1, :] == label[..., 1:, :]).sum(
            (-2, -1)
        )
        likelihood = self.log_likelihood(draws) if log_likelihood is None else log_likelihood
        prior = PottsField(self.model.coupling_matrix(self.data), self.data.shape).log_prob(label)
        share = [(label == k).sum((-2, -1)) / self.data.units for k in range(self.model.labels(self.data))]
        constant = log_channel_normaliser(self.model.observation_strength, self.model.labels(self.data)) * int(
            self.data.observed.sum()
        )
        return {
            "log_likelihood": likelihood,
            "label_share": torch.stack(share, -1).to(dtype),
            "equal_neighbours": (equal / max(edges, 1)).to(dtype),
            "log_potential": prior + likelihood + constant,
        }

    def predict(self, draws: Values) -> Prediction:
        """Predict hidden pixels given all others: the label as a number."""
        return predict(self.model.observation_strength, self.model.labels(self.data), draws, self.data)
