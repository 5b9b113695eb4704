"""What a fit says of entries that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
    """

    mean: Tensor
    lower: Tensor
    upper: Tensor
    log_density: Tensor
    pit: Tensor
