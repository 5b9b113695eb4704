"""The engine of exact answers: one step gives them, or a few until the solver says that nothing changes."""

from __future__ import annotations

from typing import Any

import pandas as pd
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.solver import Solver
from pyrozoo.core.errors import SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.loop import LoopSettings, Process, drive
from pyrozoo.inference.optimise import draw_from
from pyrozoo.inference.state import affordable, thinned
from pyrozoo.math.mixture import RunningPrediction


class _Direct(Process):
    """One solver, one start."""

    def __init__(self, solver: Solver, max_iterations: int, tol: float):
        self.solver, self.total, self.tol = solver, max_iterations, tol

    def start(self) -> None:
        self.current, self.steps = self.solver.init(1), 0
        self.ended: Status | None = None

    def advance(self) -> Tensor:
        self.current, objective = self.solver.step(self.current)
        self.steps += 1
        residual = self.solver.residual(self.current)
        if residual is None:
            self.ended = "completed"
        elif float(residual) <= self.tol:
            self.ended = "converged"
        elif self.steps >= self.total:
            self.ended = "max_iterations"
        return objective.detach().cpu().double()

    def status(self) -> Status | None:
        return self.ended

    def resumable(self) -> bool:
        return False  # it is soon done again

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        self.start()


def direct(
    model: Model, data: Any, solver: Solver, *, method: str, loop: LoopSettings, draws: int = 1,
    max_iterations: int = 1, tol: float = 0.0,
) -> Fit:  # fmt: skip
    """Compute what needs no approximation.

    Args:
        model: The model.
        data: The data.
        solver: Its step is the whole computation, unless it states a residual; then it takes steps until that is small.
        method: Its name.
        loop: Seed and progress; there are no checkpoints.
        draws: Independent draws of an exact posterior; a point is one draw.
        max_iterations: Steps at most.
        tol: Residual at which there is nothing more to do.

    Returns:
        The answer.
    """
    if draws < 1:
        raise SettingError(f"inference.draws is {draws}; it must be at least 1")
    if max_iterations < 1:
        raise SettingError(f"inference.max_iterations is {max_iterations}; it must be at least 1")
    if tol < 0:
        raise SettingError(f"inference.tol is {tol}; it must not be negative")
    process = _Direct(solver, max_iterations, tol)
    run = drive(process, loop, method)
    objective = float(run.trace["objective"].iloc[-1])
    fit = Fit(
        model=model,
        method=method,
        kind=solver.kind,
        data=data,
        draws={},
        trace=run.trace,
        runs=pd.DataFrame(
            {"chain": [0], "objective": [objective], "iterations": [run.iterations], "status": [run.status]}
        ),
        status=run.status,
        objective_name=solver.objective_name,
        objective=objective,
        iterations=run.iterations,
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
