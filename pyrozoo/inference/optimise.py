"""The engine of EM, CAVI and their kin: iterate a solver until its objective stands still, all restarts at once."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.solver import Solver
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NumericalError, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.loop import LoopSettings, Process, drive
from pyrozoo.inference.state import affordable, as_dict, join, take, thinned
from pyrozoo.inference.watching import DRAWS, due, watch

MONOTONE_TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}
"""A fall of a monotone objective beyond this, relative, is no rounding."""

STATUSES: tuple[Status, ...] = ("converged", "max_iterations", "objective_decreased", "interrupted")


class _Optimisation(Process):
    """All restarts of one solver; those that are done leave the batch."""

    def __init__(self, model: Model, data: Any, solver: Solver, restarts: int, max_iterations: int, tol: float):
        self.model, self.data, self.solver = model, data, solver
        self.restarts, self.total, self.tol = restarts, max_iterations, tol

    def start(self) -> None:
        self.current = self.solver.init(self.restarts)
        self.evaluated = self.current  # the state that the last objective belongs to
        self.active = torch.arange(self.restarts)
        self.objective = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
        self.residual = self.objective.clone()
        self.iterations = torch.zeros(self.restarts, dtype=torch.long)
        self.codes = torch.full((self.restarts,), STATUSES.index("max_iterations"))
        self.finished: list[tuple[Tensor, Any]] = []

    def advance(self) -> Tensor:
        before = self.current
        self.current, objective = self.solver.step(before)
        self.evaluated = before if self.solver.objective_of == "before" else self.current
        tolerance = MONOTONE_TOLERANCE[objective.dtype]
        objective = objective.detach().cpu().double()
        if objective.isnan().any():
            raise NumericalError(f"the objective is not a number after {int(self.iterations.max())} iterations")
        change, scale = objective - self.objective[self.active], objective.abs()
        self.objective[self.active] = objective
        self.iterations[self.active] += 1
        fell = (change < -tolerance * scale) if self.solver.monotone else torch.zeros_like(change, dtype=torch.bool)
        # The tolerance cannot ask for more than the precision holds.
        still = ~fell & (change.abs() <= max(self.tol, tolerance) * scale)
        if (residual := self.solver.residual(self.current)) is not None:
            self.residual[self.active] = residual.detach().cpu().double()
            still = ~fell & (self.residual[self.active] <= self.tol)
        row = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
        row[self.active] = objective
        self._watch()
        done = fell | still
        if done.any():
            self.codes[self.active[fell]] = STATUSES.index("objective_decreased")
            self.codes[self.active[still]] = STATUSES.index("converged")
            self.finished.append((self.active[done], take(self.evaluated, done.nonzero().flatten())))
            rest = (~done).nonzero().flatten()
            self.active = self.active[rest]
            self.current, self.evaluated = take(self.current, rest), take(self.evaluated, rest)
        return row

    def _watch(self) -> None:
        """Look at predictive densities: of the point after every iteration, of draws from q ever more seldom."""
        self.figures: dict[str, Tensor] = {}
        variational = self.solver.kind == "variational"
        if type(self.model).watched is Model.watched or (variational and not due(int(self.iterations.max()))):
            return
        with torch.random.fork_rng(devices=[]):  # a look changes nothing of the run
            state = self.solver.finish(self.evaluated)
            looks = [self.solver.draws(state) for _ in range(DRAWS if variational else 1)]
        draws = {site: torch.stack([look[site] for look in looks], 1) for site in looks[0]}
        for name, value in watch(self.model, draws, self.data).items():
            self.figures[name] = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
            self.figures[name][self.active] = value

    def watched(self) -> dict[str, Tensor]:
        return self.figures

    def status(self) -> Status | None:
        if len(self.active) and int(self.iterations.max()) < self.total:
            return None
        # One restart whose bound fell means a wrong update: nothing of the run may be called converged.
        if (self.codes == STATUSES.index("objective_decreased")).any():
            return "objective_decreased"
        return STATUSES[int(self.codes[self.best()])]

    def best(self) -> int:
        return int(self.objective.nan_to_num(nan=-torch.inf).argmax())

    def final(self) -> Any:
        """Return the last evaluated state of every restart, in order."""
        parts = [*self.finished, *([(self.active, self.evaluated)] if len(self.active) else [])]
        return take(join([state for _, state in parts]), torch.cat([index for index, _ in parts]).argsort())

    def resumable(self) -> bool:
        return True

    def state(self) -> dict[str, Any]:
        return {
            "current": as_dict(self.current),
            "evaluated": as_dict(self.evaluated),
            "active": self.active,
            "objective": self.objective,
            "residual": self.residual,
            "iterations": self.iterations,
            "codes": self.codes,
            "finished": [[index, as_dict(state)] for index, state in self.finished],
        }

    def restore(self, state: dict[str, Any]) -> None:
        make = self.solver.state_class
        self.current, self.evaluated = make(**state["current"]), make(**state["evaluated"])
        self.active, self.objective, self.residual = state["active"], state["objective"], state["residual"]
        self.iterations, self.codes = state["iterations"], state["codes"]
        self.finished = [(index, make(**each)) for index, each in state["finished"]]


def optimise(
    model: Model, data: Any, solver: Solver, *, method: str, restarts: int, max_iterations: int, tol: float,
    loop: LoopSettings, draws: int = 0,
) -> Fit:  # fmt: skip
    """Iterate a solver from many random starts until the objective's relative change is below a tolerance.

    Args:
        model: The model.
        data: The data.
        solver: EM, CAVI, belief propagation, variational EM ...
        method: Its name.
        restarts: Random starts, run as one batch; the best is the fit, all are kept in ``Fit.runs``.
        max_iterations: At most.
        tol: Relative change of the objective (or the solver's own residual) below which a restart is done.
        loop: Seed, progress, checkpoints.
        draws: Draws from q to keep; needed for a variational solver, and for no other.

    Returns:
        The best restart: one point, or draws from q (more from ``Fit.sampler``). ``objective_decreased`` when a
        monotone objective fell in any restart.
    """
    if tol < 0:
        raise SettingError(f"inference.tol is {tol}; it must not be negative")
    least = {"restarts": restarts, "max_iterations": max_iterations}
    for name, value in (least | {"draws": draws} if solver.kind == "variational" else least).items():
        if value < 1:
            raise SettingError(f"inference.{name} is {value}; it must be at least 1")
    process = _Optimisation(model, data, solver, restarts, max_iterations, tol)
    run = drive(process, loop, f"{method} ({restarts} restarts)")
    codes = process.codes.clone()
    if run.status == "interrupted":
        codes[process.active] = STATUSES.index("interrupted")
    best = process.best()
    state = solver.finish(take(process.final(), torch.tensor([best])))
    fit = Fit(
        model=solver.estimated(state) or model,
        method=method,
        kind=solver.kind,
        data=data,
        draws={},
        trace=run.trace,
        runs=pd.DataFrame(
            {
                "chain": range(restarts),
                "objective": process.objective,
                "iterations": process.iterations,
                "status": [STATUSES[code] for code in codes],
            }
        ),
        status=run.status,
        objective_name=solver.objective_name,
        objective=float(process.objective[best]),
        iterations=int(process.iterations[best]),
        seconds=run.seconds,
        seed=loop.seed,
    )
    if not process.residual[best].isnan():
        fit.metrics["residual"] = float(process.residual[best])
    fit.expectations = {name: value[0] for name, value in solver.expectations(state).items()}
    if solver.kind == "point":
        fit.draws = {site: value.unsqueeze(1) for site, value in solver.draws(state).items()}
        return fit
    fit.sampler = lambda count: draw_from(solver, state, count)
    with seeded(loop.seed):
        one = solver.draws(state)
    kept = affordable(draws, one, loop.megabytes)
    fit.notes += thinned(kept, draws, loop.megabytes)
    with seeded(loop.seed):
        fit.draws, fit.log_q = fit.sampler(kept)
    return fit


def draw_from(solver: Solver, state: Any, count: int) -> tuple[Draws, Tensor]:
    """Draw ``count`` times from the q of a one-chain state: repeat the chain, draw once from each."""
    repeated = take(state, torch.zeros(count, dtype=torch.long))
    draws = solver.draws(repeated)
    log_q = solver.log_q(repeated, draws)
    return {site: value.unsqueeze(0) for site, value in draws.items()}, log_q.unsqueeze(0)
