"""What a fit says of entries that it has not seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from pyrozoo.core.seeds import seeded


@dataclass(frozen=True)
class Prediction:
    """What a fit says of entries that it has not seen. All tensors have shape [entry].

    Attributes:
        mean: Posterior predictive mean.
        lower: Lower end of the central 90% predictive interval.
        upper: Upper end of it.
        log_density: Log predictive density of the true value, averaged over draws inside the log.
        pit: Randomised probability integral transform of the true value: uniform when the predictive is calibrated,
            also for discrete data (Czado, Gneiting and Held 2009, Biometrics 65).
        weight: How many observations each entry stands for, such as the hidden tokens of a word, whose log density is
            that of one of them; None: one.
    """

    mean: Tensor
    lower: Tensor
    upper: Tensor
    log_density: Tensor
    pit: Tensor
    weight: Tensor | None = field(default=None, kw_only=True)

    @property
    def scores(self) -> Tensor:
        """Return log densities times how much each entry counts: their mean is that over observations, [entry]."""
        if self.weight is None:
            return self.log_density
        return self.log_density * (self.weight / self.weight.mean())

    @classmethod
    def joined(cls, parts: Iterable[Prediction], like: Tensor) -> Prediction:
        """Return predictions of blocks of entries as one; of no entry at all where there is no block."""
        each = [part._tensors for part in parts]
        if not each:
            return Prediction(*[like.new_zeros(0)] * 5)
        return Prediction(**{name: torch.cat([part[name] for part in each]) for name in each[0]})

    @property
    def _tensors(self) -> dict[str, Tensor]:
        known = {each.name: getattr(self, each.name) for each in fields(Prediction)}
        return {name: value for name, value in known.items() if value is not None}

    def at(self, index: Tensor) -> Prediction:
        """Return the prediction of some entries, in an order."""
        return Prediction(**{name: value[index] for name, value in self._tensors.items()})

    def rmse(self, truth: Tensor) -> float:
        """Return the root mean squared error of the means."""
        return (self.mean - truth).square().mean().sqrt().item()

    @classmethod
    def of_counts(cls, mean: Tensor, log_density: Tensor, counts: Tensor, truth: Tensor) -> Prediction:
        """Predict counts from draws of them.

        Args:
            mean: As above.
            log_density: The same.
            counts: Predictive draws, [draw, entry].
            truth: True counts, [entry]; the PIT is randomised by torch's global generator.
        """
        lower, upper = torch.quantile(counts, counts.new_tensor([0.05, 0.95]), dim=0, interpolation="nearest")
        less, equal = ((counts < truth).to(truth.dtype).mean(0), (counts == truth).to(truth.dtype).mean(0))
        return Prediction(mean, lower, upper, log_density, less + torch.rand_like(truth) * equal)

    @classmethod
    def of_levels(cls, prob: Tensor, truth: Tensor, sizes: Tensor | int) -> Prediction:
        """Predict levels, as numbers from 0, from their probabilities.

        Args:
            prob: Of every level, 0 beyond the last of an entry, [entry, level].
            truth: The true levels, [entry]; anything where nobody knows them.
            sizes: Number of levels of every entry.
        """
        level, last = torch.arange(prob.shape[1], device=prob.device), torch.as_tensor(sizes, device=prob.device) - 1
        cumulative = prob.cumsum(-1)
        true = torch.minimum(truth.nan_to_num(nan=0.0).long().clamp(min=0), last).unsqueeze(-1)
        at = prob.gather(-1, true).squeeze(-1)
        below = cumulative.gather(-1, true).squeeze(-1) - at
        lower, upper = (torch.minimum((cumulative < end).sum(-1), last).to(prob.dtype) for end in (0.05, 0.95))
        with seeded(0):  # a query of one fit always answers the same
            pit = below + torch.rand_like(at) * at
        return Prediction((prob * level.to(prob.dtype)).sum(-1), lower, upper, at.log(), pit)
