"""The potentials of a field given its image, and independent pixels, which most solvers end in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.data.grid import Grid
from pyrozoo.math.multinomial import choose
from pyrozoo.models.potts_grid.model import PottsGrid, pairs


@dataclass(frozen=True)
class Potentials:
    """exp(score(y)) is what p(y | image) is proportional to; its sum over all y is Z.

    Attributes:
        unary: c 1[y_ij = x_ij] where x_ij is observed, else 0, [H, W, K].
        coupling: J, [K, K].
        normaliser: log of what the channel divides by, summed over observed pixels: log Z less this is the program's
            log evidence.
    """

    unary: Tensor
    coupling: Tensor
    normaliser: float

    @classmethod
    def of(cls, model: PottsGrid, data: Grid) -> Potentials:
        """Prepare the potentials in the precision of the data."""
        labels = torch.arange(model.labels(data), device=data.values.device)
        unary = model.strength * (data.values.unsqueeze(-1) == labels).to(data.values.dtype)
        normaliser = model.log_channel_normaliser(data) * int(data.observed.sum())
        return cls(unary, model.coupling_matrix(data), normaliser)

    def score(self, label: Int[Tensor, "*batch H W"]) -> Float[Tensor, "*batch"]:
        """Return the log potential of labellings."""
        chosen = self.unary.expand(*label.shape, -1).gather(-1, label.unsqueeze(-1)).squeeze(-1)
        return chosen.sum((-2, -1)) + pairs(label, self.coupling)

    def log_joint(self, label: Int[Tensor, "*batch H W"]) -> Float[Tensor, "*batch"]:
        """Return the program's log density of labellings and image."""
        return self.score(label) - self.normaliser

    def expected_score(self, prob: Float[Tensor, "*batch H W K"]) -> Float[Tensor, "*batch"]:
        """Return the expected log potential when pixels are independent with these probabilities."""
        right = (prob[..., :, :-1, :] @ self.coupling * prob[..., :, 1:, :]).sum((-3, -2, -1))
        below = (prob[..., :-1, :, :] @ self.coupling * prob[..., 1:, :, :]).sum((-3, -2, -1))
        return (prob * self.unary).sum((-3, -2, -1)) + right + below


@dataclass(frozen=True)
class Pixels:
    """A joint distribution of independent pixels, prob [C, H, W, K]."""

    prob: Tensor

    def sample(self) -> Values:
        """Draw one labelling per chain."""
        return {"label": choose(self.prob)}

    def log_prob(self, values: Values) -> Float[Tensor, C]:
        """Return the log probability of one labelling per chain."""
        return self.prob.gather(-1, values["label"].unsqueeze(-1)).squeeze(-1).log().sum((-2, -1))


def shares(label: Int[Tensor, "S ..."], labels: int, dtype: torch.dtype) -> Float[Tensor, "... K"]:
    """Return the share of every label over the first axis: 1 or 0 for a point."""
    return torch.stack([(label == k).to(dtype).mean(0) for k in range(labels)], -1)
