"""Predictions averaged over draws one at a time: a mixture of normals that is never stored."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from pyrozoo.core.prediction import Prediction

NORMAL_95 = 1.6448536269514722


class RunningPrediction:
    """The average of normal predictives over states and chains, in five numbers per hidden entry.

    Args:
        truth: The true values of the hidden entries, [entry].
    """

    def __init__(self, truth: Tensor):
        self.truth, self.count = truth, 0
        self.sums = {name: torch.zeros_like(truth, dtype=torch.float64) for name in ("mean", "second", "pit")}
        self.log_density = torch.full_like(truth, -torch.inf, dtype=torch.float64)

    def add(self, mean: Tensor, variance: Tensor) -> None:
        """Add one state: mean and variance [chains, entry]."""
        component = Normal(mean, variance.sqrt(), validate_args=False)
        self.count += len(mean)
        self.sums["mean"] += mean.sum(0)
        self.sums["second"] += (variance + mean.square()).sum(0)
        self.sums["pit"] += component.cdf(self.truth).sum(0)
        self.log_density = torch.logaddexp(self.log_density, component.log_prob(self.truth).double().logsumexp(0))

    def sweep(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return figures of one state, which need not be added, name -> [chains]."""
        return {"sweep_rmse": (mean - self.truth).square().mean(1).sqrt()}

    def average(self) -> dict[str, float]:
        """Return figures of the average so far: the root mean squared error of the mean."""
        return {"average_rmse": float((self.sums["mean"] / self.count - self.truth).square().mean().sqrt())}

    def prediction(self) -> Prediction:
        """Return the prediction; its interval is that of a normal with the mixture's mean and variance."""
        mean = self.sums["mean"] / self.count
        spread = (self.sums["second"] / self.count - mean.square()).clamp(min=0).sqrt() * NORMAL_95
        log_density = self.log_density - math.log(self.count)
        values = mean, mean - spread, mean + spread, log_density, self.sums["pit"] / self.count
        return Prediction(*(value.to(self.truth.dtype) for value in values))

    def state(self) -> dict[str, Any]:
        """Return plain tensors for a checkpoint."""
        return {"count": self.count, "sums": self.sums, "log_density": self.log_density}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what ``state`` returned."""
        self.count, self.sums, self.log_density = state["count"], state["sums"], state["log_density"]
