"""What a fit is: the result of a method, and what is computed from it once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.posterior import MOST_POINTWISE, Posterior
from pyrozoo.contracts.solver import Kind
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction

Status = Literal["converged", "completed", "max_iterations", "objective_decreased", "interrupted"]
"""How a fit ended. A sampler that drew all it was asked for is ``completed``: whether it converged, R-hat says."""

SOLVER = "solver."
"""What the names of a solver's options begin with among the metrics of a fit."""

MOST_KEPT_POINTWISE = 20_000_000
"""Draws times units of the pointwise log-likelihoods that a fit keeps; draws are thinned to stay below."""

MOST_EFFORT = 3e11
"""Multiplications that they may take; draws are thinned to stay below: ten seconds on a small machine."""


@dataclass
class Fit:
    """The result of a method.

    Attributes:
        posterior: What was fitted: the model given the data, hidden entries hidden.
        method: The method's name (em, cavi, gibbs, svi, nuts, laplace, ...).
        kind: What the draws are.
        draws: Site -> [chain, draw, *event].
        trace: Columns iteration, chain, objective, seconds.
        runs: One line per restart or chain: chain, objective, iterations, status. Every restart is kept.
        status: How the fit ended.
        objective_name: What the objective is.
        objective: Its final value (of the best restart).
        iterations: Iterations made (of the best restart).
        seconds: Wall-clock seconds spent in the engine, over all resumed parts.
        seed: The seed.
        sample_stats: ArviZ name -> [chain, draw].
        expectations: Expectations that the method knows beyond what draws say, name -> [*event].
        log_q: log q at the draws of a variational or exact fit, [chain, draw].
        sampler: For a variational or exact fit, n -> (draws, log_q) with fresh draws from q.
        metrics: Flat name -> number or string.
        notes: What a reader of the results should know, such as draws that were not kept.
    """

    posterior: Posterior
    method: str
    kind: Kind
    draws: Draws
    trace: pd.DataFrame
    runs: pd.DataFrame
    status: Status
    objective_name: str
    objective: float
    iterations: int
    seconds: float
    seed: int
    sample_stats: dict[str, Tensor] = field(default_factory=dict)
    expectations: Values = field(default_factory=dict)
    log_q: Tensor | None = None
    sampler: Callable[[int], tuple[Draws, Tensor]] | None = None
    metrics: dict[str, float | int | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _predictions: list[tuple[Any, Prediction]] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.draws = Draws(self.draws)

    @property
    def model(self) -> Any:
        """The model fitted."""
        return self.posterior.model

    @property
    def data(self) -> Any:
        """The data fitted."""
        return self.posterior.data

    @cached_property
    def pointwise(self) -> tuple[int, Tensor]:
        """A step, and log p(unit | draw) of one draw in so many, [chain, draw, unit]."""
        (chains, count), units = self.draws.shape, self.posterior.units
        step = math.ceil(max(count * units / MOST_KEPT_POINTWISE, self._effort() / MOST_EFFORT, 1))
        step = min(count, step)
        blocks = self.draws.every(step).blocks(MOST_POINTWISE // (chains * units))
        return step, torch.cat([self.posterior.pointwise(block) for block in blocks], 1)

    def _effort(self) -> float:
        chains, count = self.draws.shape
        return chains * count * self.posterior.effort

    @cached_property
    def invariants(self) -> Draws:
        """Invariants of those draws that ``pointwise`` chose."""
        step, pointwise = self.pointwise
        return Draws(self.posterior.invariants(self.draws.every(step), pointwise.sum(-1)))

    @cached_property
    def aligned(self) -> Draws:
        """The draws with labels, signs and rotations brought onto each other."""
        return Draws(self.posterior.align(self.draws))

    def knows(self, data: Any, prediction: Prediction) -> None:
        """Take a prediction of the hidden entries of ``data`` that was made while fitting."""
        self._predictions.append((data, prediction))

    def prediction(self, data: Any) -> Prediction:
        """Predict the hidden entries of ``data``, once: figures, tables and pictures all ask."""
        for known, prediction in self._predictions:
            if known is data:
                return prediction
        posterior = self.posterior if data is self.data else self.posterior.on(data)
        self.knows(data, posterior.predict(self.draws))
        return self._predictions[-1][1]

    @property
    def model_name(self) -> str:
        """The name of the model."""
        return self.model.name

    def __str__(self) -> str:
        return (
            f"{self.model_name} by {self.method}: {self.kind}, {self.status} after {self.iterations} iterations in "
            f"{self.seconds:.2f} s, {self.objective_name.replace('_', ' ')} {self.objective:.3f}"
        )
