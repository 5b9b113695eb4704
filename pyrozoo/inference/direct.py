"""The engine of closed forms: one step gives the answer."""

from __future__ import annotations

from typing import Any

import pandas as pd
from torch import Tensor

from pyrozoo.inference.loop import LoopSettings, Process, drive
from pyrozoo.inference.optimise import draw_from
from pyrozoo.inference.state import affordable, thinned
from pyrozoo.math.mixture import RunningPrediction
from pyrozoo.program import seeded
from pyrozoo.types import Fit, Model, SettingError, Solver, Status


class _Once(Process):
    """One solver, one step."""

    total = 1

    def __init__(self, solver: Solver):
        self.solver = solver

    def start(self) -> None:
        self.current, self.done = self.solver.init(1), False

    def advance(self) -> Tensor:
        self.current, objective = self.solver.step(self.current)
        self.done = True
        return objective.detach().cpu().double()

    def status(self) -> Status | None:
        return "completed" if self.done else None

    def resumable(self) -> bool:
        return False  # there is nothing to go on from

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        self.start()


def direct(
    model: Model, data: Any, solver: Solver, *, method: str, loop: LoopSettings, draws: int = 1
) -> Fit:  # fmt: skip
    """Compute a closed form.

    Args:
        model: The model.
        data: The data.
        solver: Its step is the whole computation; the objective belongs to the state after it.
        method: Its name.
        loop: Seed and progress; there are no checkpoints.
        draws: Independent draws of an exact posterior; a point is one draw.

    Returns:
        The answer.
    """
    if draws < 1:
        raise SettingError(f"inference.draws is {draws}; it must be at least 1")
    process = _Once(solver)
    run = drive(process, loop, method)
    objective = float(run.trace["objective"].iloc[-1])
    fit = Fit(
        model=model,
        method=method,
        kind=solver.kind,
        data=data,
        draws={},
        trace=run.trace,
        runs=pd.DataFrame({"chain": [0], "objective": [objective], "iterations": [1], "status": [run.status]}),
        status=run.status,
        objective_name=solver.objective_name,
        objective=objective,
        iterations=1,
        seconds=run.seconds,
        seed=loop.seed,
        expectations={name: value[0] for name, value in solver.expectations(process.current).items()},
    )
    with seeded(loop.seed):
        one = solver.draws(process.current)
    fit.draws = {site: value.unsqueeze(1) for site, value in one.items()}
    if solver.kind == "exact":
        fit.sampler = lambda count: draw_from(solver, process.current, count)
        kept = affordable(draws, one, loop.megabytes)
        fit.notes += thinned(kept, draws, loop.megabytes)
        with seeded(loop.seed):
            fit.draws, fit.log_q = fit.sampler(kept)
    hidden = data.hidden
    predictive = solver.predictive(process.current) if hidden is not None and len(hidden.values) else None
    if predictive is not None:
        known = RunningPrediction(hidden.values)
        known.add(*predictive)
        fit.knows(data, known.prediction())
    return fit
