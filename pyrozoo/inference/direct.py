"""The engine of exact answers: one step gives them, or a few until the solver says that nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info, Solver
from pyrozoo.core.draws import Draws
from pyrozoo.core.seeds import seeded
from pyrozoo.core.settings import not_negative, whole
from pyrozoo.inference.loop import Process, drive, fit_of
from pyrozoo.inference.moments import tell_moments
from pyrozoo.inference.optimise import keep_draws, said
from pyrozoo.inference.state import plain, reported, revived


class _Direct(Process):
    """One solver, one start; it is soon done again, so there are no checkpoints."""

    def __init__(self, solver: Solver, max_iterations: int, tol: float):
        self.solver, self.total, self.tol = solver, max_iterations, tol
        self.shards = solver.posterior.shards

    def start(self) -> None:
        self.now, self.steps = self.solver.init(1), 0
        self.evaluated = self.now
        self.info: Info | None = None
        self.ended: Status | None = None

    def advance(self) -> Tensor:
        before = self.now
        self.now, self.info = self.solver.step(before)
        self.evaluated = before if self.solver.objective_of == "argument" else self.now
        self.steps += 1
        if self.info.residual is None:
            self.ended = "completed"
        elif float(self.info.residual) <= self.tol:
            self.ended = "converged"
        elif self.steps >= self.total:
            self.ended = "max_iterations"
        return self.info.objective.detach().cpu().double()

    def recorded(self) -> dict[str, Tensor] | None:
        # What is computed at once has nothing on its way; a start that is no answer would be shown as one.
        return plain(self.evaluated) if self.info is not None and self.info.residual is not None else None

    def passes(self) -> float:
        return float(self.steps)

    def told(self, content: Mapping[str, Tensor], count: int) -> Draws:
        """Return what a state that was kept says: the point, or so many draws from the exact posterior."""
        return said(self.solver, revived(self.solver.state_class, dict(content)), count)

    def status(self) -> Status | None:
        return self.ended

    def resumable(self) -> bool:
        return False

    def restore(self, saved: dict[str, Any]) -> None:
        self.start()


@dataclass(frozen=True, kw_only=True)
class Direct(Method):
    """Compute what needs no approximation.

    A step of the solver is the whole computation, unless it states a residual; then it takes steps until that is small.

    Attributes:
        draws: Independent draws of an exact posterior; a point is one draw.
        max_iterations: Steps at most.
        tol: Residual at which there is nothing more to do.
    """

    needs: ClassVar = "solver"
    draws: int = whole(default=1)
    max_iterations: int = whole(default=1)
    tol: float = not_negative(default=0.0)

    def __call__(self, posterior: Posterior, loop: Loop) -> Fit:
        """Fit the posterior."""
        solver: Solver = self.part(posterior, **self.options)
        process = _Direct(solver, self.max_iterations, self.tol)
        run = drive(process, loop, self.name)
        state = process.now
        if posterior.shards is not None:
            state, posterior = reported(posterior, solver, state), posterior.reported
            solver = solver.of_reported(posterior, **self.options)
        objective, answer = float(run.trace["objective"].iloc[-1]), solver.answer(state)
        fit = fit_of(
            self, posterior, run, loop,
            {"objective": [objective], "iterations": [run.iterations], "status": [run.status]},
            kind=solver.kind, objective_name=solver.objective_name, objective=objective,
            expectations={name: value[0] for name, value in answer.expectations.items()},
        )  # fmt: skip
        if solver.kind == "exact":
            keep_draws(fit, solver, state, self.draws, loop)
        else:
            with seeded(loop.seed):
                fit.draws = Draws({site: value.unsqueeze(1) for site, value in answer.draws().items()})
        hidden, info = posterior.data.hidden, process.info
        if hidden is not None and len(hidden.values) and info is not None and info.predictive is not None:
            known = posterior.running_prediction()
            known.add(*info.predictive())
            fit.knows(posterior.data, known.prediction())
        tell_moments(fit, run.recorder, process.passes(), process.told)
        return fit
