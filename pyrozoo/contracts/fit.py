"""What a fit is: the result of a method, and what is computed from it once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.moments import Moment
from pyrozoo.contracts.posterior import MOST_POINTWISE, Part, Posterior
from pyrozoo.contracts.solver import Kind
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.prediction import Prediction

Status = Literal["converged", "completed", "max_iterations", "objective_decreased", "interrupted"]
"""How a fit ended. A sampler that drew all it was asked for is ``completed``: whether it converged, R-hat says."""

SOLVER = "solver."
"""What the names of a solver's options begin with among the metrics of a fit."""

MOST_KEPT_POINTWISE = 20_000_000
"""Draws times units of the pointwise log-likelihoods that a fit keeps; draws are thinned to stay below."""

MOST_EFFORT = 1e11
"""Multiplications that they may take; draws are thinned to stay below: a few seconds on a small machine."""

MOST_WHOLE_EFFORT = 4e9
"""The same of the likelihood of all units, where those that are looked at do not do."""

MOST_HELD_OUT = 200_000
"""Hidden entries whose prediction is judged; of more, so many are chosen evenly."""


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
        moments: What the state said at some steps of the run, in order; the last is that of the fit. Of rows in shards
            there are none.
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
    moments: Sequence[Moment] = ()
    _predictions: list[tuple[Any, Prediction]] = field(default_factory=list, init=False, repr=False, compare=False)
    _once: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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

    @property
    def looked_at(self) -> Part:
        """The units that stand for all."""
        return self.posterior.looked_at

    @cached_property
    def pointwise(self) -> tuple[int, Tensor]:
        """A step, and log p(unit | draw) of one draw in so many, [chain, draw, unit], at the units looked at."""
        chains, part = self.draws.shape[0], self.looked_at
        units = part.posterior.units
        step = self._step(units, part.posterior.effort, MOST_EFFORT)
        blocks = part.draws(self.draws.every(step)).blocks(MOST_POINTWISE // (chains * max(1, units)))
        return step, torch.cat([part.posterior.pointwise(block) for block in blocks], 1)

    def _step(self, units: int, effort: float, most: float) -> int:
        """Return one draw in how many can be looked at: units and multiplications of one are given."""
        chains, count = self.draws.shape
        drawn = chains * count
        return min(count, math.ceil(max(drawn * units / MOST_KEPT_POINTWISE, drawn * effort / most, 1)))

    @cached_property
    def log_likelihood(self) -> Tensor:
        """Log p(data | draw) of those draws, [chain, draw]: of the units looked at, scaled up to all, unless exact."""
        step, pointwise = self.pointwise
        if self.looked_at.units is None:
            return pointwise.sum(-1)
        if self.posterior.adds_quickly:
            return self.posterior.log_likelihood(self.draws.every(step))
        return pointwise.sum(-1) * self.looked_at.scale

    @cached_property
    def log_joint(self) -> tuple[int, Tensor]:
        """A step, and log p(data, draw) of one draw in so many, [chain, draw], of all units."""
        step, pointwise = self.pointwise
        if self.looked_at.units is None:
            return step, self.posterior.log_density(self.draws.every(step), pointwise)
        if not self.posterior.adds_quickly:
            step = max(step, self._step(self.posterior.units, self.posterior.effort, MOST_WHOLE_EFFORT))
        return step, self.posterior.log_density(self.draws.every(step))

    @cached_property
    def invariants(self) -> Draws:
        """Invariants of those draws that ``pointwise`` chose."""
        return Draws(self.posterior.invariants(self.draws.every(self.pointwise[0]), self.log_likelihood))

    @cached_property
    def aligned(self) -> Draws:
        """The draws with labels, signs and rotations brought onto each other."""
        return Draws(self.posterior.align(self.draws))

    def at(self, moment: Moment, toward: Values | None = None) -> Fit:
        """Return the fit as it was at a moment: with its draws, for whatever is asked of a fit.

        Args:
            moment: The moment.
            toward: The draws that its own are aligned to, such as those of the moment after; None: those of the fit.
        """
        own = {each.name: getattr(self, each.name) for each in fields(Fit) if each.init}
        gone: dict[str, Any] = {"log_q": None, "sampler": None, "sample_stats": {}, "expectations": {}, "moments": ()}
        mean = sum(moment.objective) / len(moment.objective) if moment.objective else math.nan
        known = {"draws": moment.draws, "iterations": moment.step, "seconds": moment.seconds, "objective": mean}
        then = Fit(**{**own, **gone, **known, "metrics": {}, "notes": []})
        vars(then)["aligned"] = Draws(self.posterior.align(then.draws, self.aligned if toward is None else toward))
        return then

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what is computed of the fit once, for all who ask by a key."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

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

    @cached_property
    def held_out(self) -> tuple[Prediction, Any]:
        """What is said of the hidden entries of the data, and these: of many an even choice."""
        data, hidden = self.data, self.data.hidden
        if len(hidden.values) <= MOST_HELD_OUT:
            return self.prediction(data), hidden
        at = evenly(len(hidden.values), MOST_HELD_OUT).to(hidden.values.device)
        for known, prediction in self._predictions:
            if known is data:
                return prediction.at(at), hidden.at(at)
        return self.posterior.on(replace(data, hidden=hidden.at(at))).predict(self.draws), hidden.at(at)

    @property
    def model_name(self) -> str:
        """The name of the model."""
        return self.model.name

    def __str__(self) -> str:
        return (
            f"{self.model_name} by {self.method}: {self.kind}, {self.status} after {self.iterations} iterations in "
            f"{self.seconds:.2f} s, {self.objective_name.replace('_', ' ')} {self.objective:.3f}"
        )
