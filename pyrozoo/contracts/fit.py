"""What a fit is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.model import MOST_POINTWISE, Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.prediction import Prediction

Kind = Literal["point", "variational", "samples", "exact"]
"""What a fit's draws are: one best value, draws from an approximation q, (Markov chain) samples, independent draws from
the posterior itself."""


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
    """The result of an engine.

    Attributes:
        model: The model fitted.
        method: The method's name (em, cavi, gibbs, svi, nuts, laplace, ...).
        kind: What the draws are.
        data: The data fitted, hidden entries hidden.
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

    model: Model
    method: str
    kind: Kind
    data: Any
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
    expectations: Draws = field(default_factory=dict)
    log_q: Tensor | None = None
    sampler: Callable[[int], tuple[Draws, Tensor]] | None = None
    metrics: dict[str, float | int | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _pointwise: tuple[int, Tensor] | None = field(default=None, repr=False, compare=False)
    _invariants: Draws | None = field(default=None, repr=False, compare=False)
    _predictions: list[tuple[Any, Prediction]] = field(default_factory=list, repr=False, compare=False)

    def pointwise(self) -> tuple[int, Tensor]:
        """Return a step and log p(unit | draw) of one draw in so many, [chain, draw, unit]; computed once."""
        if self._pointwise is None:
            chains, count = next(iter(self.draws.values())).shape[:2]
            step = math.ceil(max(count * self.data.units / MOST_KEPT_POINTWISE, self._effort() / MOST_EFFORT, 1))
            step = min(count, step)
            draws = {site: value[:, ::step] for site, value in self.draws.items()}
            size = max(1, MOST_POINTWISE // (chains * self.data.units))
            blocks = [{s: v[:, i : i + size] for s, v in draws.items()} for i in range(0, -(-count // step), size)]
            parts = [self.model.pointwise_log_likelihood(block, self.data) for block in blocks]
            self._pointwise = step, torch.cat(parts, 1)
        return self._pointwise

    def _effort(self) -> float:
        chains, count = next(iter(self.draws.values())).shape[:2]
        return chains * count * self.model.effort(self.data)

    def invariants(self) -> Draws:
        """Return the model's invariants of those draws that ``pointwise`` chose, computed once."""
        if self._invariants is None:
            step, pointwise = self.pointwise()
            draws = {site: value[:, ::step] for site, value in self.draws.items()}
            self._invariants = self.model.invariants(draws, self.data, pointwise.sum(-1))
        return self._invariants

    def knows(self, data: Any, prediction: Prediction) -> None:
        """Take a prediction of the hidden entries of ``data`` that was made while fitting."""
        self._predictions.append((data, prediction))

    def predict(self, data: Any) -> Prediction:
        """Predict the hidden entries of ``data``, once: figures, tables and pictures all ask."""
        for known, prediction in self._predictions:
            if known is data:
                return prediction
        self.knows(data, self.model.predict(self.draws, data))
        return self._predictions[-1][1]

    @property
    def model_name(self) -> str:
        """Return the name of the model: of the folder it stands in."""
        return type(self.model).__module__.split(".")[-2]

    def __str__(self) -> str:
        return (
            f"{self.model_name} by {self.method}: {self.kind}, {self.status} after {self.iterations} iterations in "
            f"{self.seconds:.2f} s, {self.objective_name.replace('_', ' ')} {self.objective:.3f}"
        )
