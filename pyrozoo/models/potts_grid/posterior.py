"""What is known of the posterior of potts_grid: starting points, the likelihood, invariants, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import MOST_POINTWISE, HandBuilt, Part
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.grid import Grid
from pyrozoo.models.potts_grid.likelihood import Potentials, shares
from pyrozoo.models.potts_grid.model import PottsField, PottsGrid, pairs


def _spoken_values(names: Sequence[str]) -> bool:
    """Return whether labels are named by the numbers that an array had in their places."""
    return bool(names) and all(name.lstrip("-").replace(".", "", 1).isdecimal() for name in names)


class Pixels(Part):
    """Pixels of an image, in one line."""

    def draws(self, draws: Values) -> Draws:
        """Return their labels."""
        assert self.units is not None
        return Draws({"label": draws["label"].flatten(-2)[..., self.units].unsqueeze(-2)})


class Posterior(HandBuilt):
    """A hidden Potts field given an image of labels."""

    model: PottsGrid
    data: Grid
    observed = "image"
    unit = "pixel"
    wants = "an image of labels"
    sites: ClassVar = {"label": ("row", "column")}
    invariant_dims: ClassVar = {
        "log_likelihood": (),
        "label_share": ("label",),
        "equal_neighbours": (),
        "log_potential": (),
        # Expectations that methods know beyond their draws:
        "label_probability": ("row", "column", "label"),
        "most_probable": ("row", "column"),
        "neighbours_probability": ("label", "neighbour"),
    }

    @cached_property
    def potentials(self) -> Potentials:
        """What the density of labellings is made of."""
        return Potentials.of(self.model, self.data)

    def check(self) -> None:
        """Raise DataError unless the data are an image of labels, no more than the model has."""
        super().check()
        data, K = self.data, self.model.labels(self.data)
        if data.num_levels > K:
            data.refuse(data.filled >= K, f"is a label beyond the {K} that the model has (model.num_labels)")
            names = ", ".join(data.level_names[:8])
            said = f"{data.num_levels} labels ({names}), more than the {K} of the model (model.num_labels)"
            raise DataError(f"{data.name} has {said}")
        if self.model.coupling is not None and data.num_levels < K and _spoken_values(data.level_names):
            said = f"the values {', '.join(data.level_names[:8])} for labels, where model.coupling has {K} rows"
            cure = f"np.eye({K})[image], one plane per label, says it of labels counted from 0"
            raise DataError(f"{data.name} has {said}: which row is whose? {cure}; or set model.coupling=null")

    def prior_draws(self, count: int) -> list[dict[str, Tensor]]:
        """Draw labellings from the prior, all at once."""
        field = PottsField(self.model.coupling_matrix(self.data), self.data.shape)
        return [{"label": label} for label in field.sample((count,))]

    def initial(self, chains: int) -> Values:
        """Return labels at random, pixel by pixel."""
        shape = (chains, *self.data.shape)
        return {"label": torch.randint(self.model.labels(self.data), shape, device=self.data.values.device)}

    def some_units(self, count: int) -> Part:
        """Return so many pixels, evenly chosen, as an image of one line: for their likelihood, which no edge is in."""
        if count >= self.units:
            return Part(self, None, self.units)
        pixels = evenly(self.units, count).to(self.data.values.device)
        return Pixels(self.on(self.data.line(pixels)), pixels, self.units, alone=False)

    @property
    def adds_quickly(self) -> bool:
        """Yes: the log-likelihood of an image is how many pixels are seen as they are, times a constant."""
        return True

    def log_likelihood(self, draws: Values) -> Float[Tensor, "chain draw"]:
        """Return log p(image | labels)."""
        blocks = Draws(draws).blocks(max(1, MOST_POINTWISE // (len(draws["label"]) * self.units)))
        equal = [(block["label"] == self.data.filled.long()).logical_and_(self.data.observed) for block in blocks]
        count = torch.cat([each.sum((-2, -1), dtype=self.data.values.dtype) for each in equal], 1)
        return self.model.strength * count - self.potentials.normaliser

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_ij | y_ij) of every pixel, line by line; 0 where it is missing."""
        matches = draws["label"] == self.data.filled.long()
        strength = self.model.strength * matches.to(self.data.values.dtype)
        logs = strength - self.model.log_channel_normaliser(self.data)
        return torch.where(self.data.observed, logs, logs.new_zeros(())).flatten(-2)

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return the share of every label and of edges between equal ones, and two log densities.

        ``log_likelihood`` of the image, and ``log_potential``, c 1[...] + J of the whole labelling.
        """
        label, dtype, (height, width) = draws["label"], self.data.values.dtype, self.data.shape
        likelihood = self.log_likelihood(draws) if log_likelihood is None else log_likelihood
        equal = pairs(label, torch.eye(K := self.model.labels(self.data), dtype=dtype, device=label.device))
        edges = height * (width - 1) + (height - 1) * width
        share = [(label == k).to(dtype).mean((-2, -1)) for k in range(K)]
        return {
            "log_likelihood": likelihood,
            "label_share": torch.stack(share, -1),
            "equal_neighbours": equal / max(edges, 1),
            "log_potential": pairs(label, self.potentials.coupling) + likelihood + self.potentials.normaliser,
        }

    def predict(self, draws: Values) -> Prediction:
        """Predict the labels seen at hidden pixels, as numbers: p(x = l) is the mean over draws of p(x = l | y)."""
        hidden, K = self.hidden, self.model.labels(self.data)
        dtype = hidden.values.dtype
        clean = shares(draws["label"].flatten(0, 1)[:, hidden.rows, hidden.columns], K, dtype)  # [entry, K]
        other = torch.exp(-torch.as_tensor(self.model.log_channel_normaliser(self.data), dtype=dtype))
        # Seen as it is, or as any label at all with equal probability.
        return Prediction.of_levels(other + clean * (1 - K * other), hidden.values, K)
