"""Predictive densities that engines write into the trace while they run, where a model asks for it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Values

DRAWS = 100
"""Draws from q behind a predictive density."""

LEAST = 5
"""States of a chain that an average needs before it is worth a look."""

GROWTH = 1.15
"""Where a look costs many iterations, each waits until there are so many times as many iterations."""


def due(iteration: int) -> bool:
    """Return whether a run that looks ever more seldom looks after this iteration, counted from 1."""
    return int(math.log(iteration) / math.log(GROWTH)) > int(math.log(max(1, iteration - 1)) / math.log(GROWTH)) or (
        iteration == 1
    )


def watch(posterior: Posterior, draws: Values) -> dict[str, Tensor]:
    """Return minus the mean log predictive density of each part, averaged over draws: name -> [chain]."""
    return {
        f"{name}_nll": _nll(logs.double().logsumexp(1) - math.log(logs.shape[1]))
        for name, logs in posterior.watched(draws).items()
    }


def _nll(logs: Tensor) -> Tensor:
    return -logs.mean(-1).cpu()


def watches(posterior: Posterior) -> bool:
    """Return whether there is anything to watch."""
    return type(posterior).watched is not Posterior.watched and posterior.shards is None


class RunningDensity:
    """Predictive densities averaged over the states of a chain, one state at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.total: dict[str, Tensor] = {}

    def add(self, logs: Values) -> None:
        """Add the log densities [chain, 1, entry] of one state per chain."""
        self.count += 1
        for name, value in logs.items():
            new = value[:, 0].double()
            self.total[name] = torch.logaddexp(self.total[name], new) if name in self.total else new

    def figures(self) -> dict[str, Tensor]:
        """Return minus the mean log of the average density, name -> [chain]."""
        return {f"{name}_nll": _nll(total - math.log(self.count)) for name, total in self.total.items()}

    def state(self) -> dict[str, Any]:
        """Return plain tensors for a checkpoint."""
        return {"count": self.count, "total": self.total}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what ``state`` returned."""
        self.count, self.total = state["count"], state["total"]
