"""The engine of EM, CAVI and their kin: iterate a solver until its objective stands still, all restarts at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Solver
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NumericalError
from pyrozoo.core.seeds import seeded, undisturbed
from pyrozoo.core.settings import not_negative, whole
from pyrozoo.inference.graphs import Steps
from pyrozoo.inference.loop import Process, drive, fit_of
from pyrozoo.inference.moments import tell_moments
from pyrozoo.inference.state import affordable, bytes_of, join, plain, repeated, reported, revived, take, thinned
from pyrozoo.inference.watching import DRAWS, due, watch, watches

MONOTONE_TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}
"""A fall of a monotone objective beyond this, relative, is no rounding."""

MOST_BYTES = 2**28
"""Of states in whose place views of one stand, while draws from their q are made."""

ACTIVE = "numbers of restarts"
"""What a state that was kept has beside its own fields."""

STATUSES: tuple[Status, ...] = ("converged", "max_iterations", "objective_decreased", "interrupted")


@dataclass
class State:
    """Where all restarts are.

    Attributes:
        current: The solver's state of those that go on.
        evaluated: The state that their last objective belongs to.
        active: Their numbers.
        objective: The last objective of every restart.
        residual: The last residual of every restart.
        iterations: Of every restart.
        codes: Places in ``STATUSES``.
        finished: Numbers and states of those that are done.
    """

    current: Any
    evaluated: Any
    active: Tensor
    objective: Tensor
    residual: Tensor
    iterations: Tensor
    codes: Tensor
    finished: list[Any] = field(default_factory=list)


class _Optimisation(Process):
    """All restarts of one solver; those that are done leave the batch."""

    now: State

    def __init__(self, posterior: Posterior, solver: Solver, restarts: int, max_iterations: int, tol: float):
        self.posterior, self.solver, self.step = posterior, solver, Steps(solver)
        self.restarts, self.total, self.tol = restarts, max_iterations, tol
        self.shards, self.by_row = posterior.shards, solver.by_row or ()

    def start(self) -> None:
        begin = self.solver.init(self.restarts)
        nothing = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
        counts = torch.zeros(self.restarts, dtype=torch.long)
        codes = torch.full((self.restarts,), STATUSES.index("max_iterations"))
        self.now = State(begin, begin, torch.arange(self.restarts), nothing, nothing.clone(), counts, codes)

    def advance(self) -> Tensor:
        now, before = self.now, self.now.current
        now.current, info = self.step(before)
        now.evaluated = before if self.solver.objective_of == "argument" else now.current
        tolerance = MONOTONE_TOLERANCE[info.objective.dtype]
        # One number a restart: NumPy, on the same memory, takes a fraction of what PyTorch takes for an operation.
        objective, active = info.objective.detach().cpu().double().numpy(), now.active.numpy()
        if np.isnan(objective).any():
            raise NumericalError(f"the objective is not a number after {int(now.iterations.max())} iterations")
        last, row = now.objective.numpy(), np.full(self.restarts, np.nan)
        with np.errstate(invalid="ignore"):
            change, scale = objective - last[active], np.abs(objective)
            fell = (change < -tolerance * scale) if self.solver.monotone else np.zeros(len(change), dtype=bool)
            # The tolerance cannot ask for more than the precision holds.
            still = ~fell & (np.abs(change) <= max(self.tol, tolerance) * scale)
        last[active] = row[active] = objective
        now.iterations.numpy()[active] += 1
        if info.residual is not None:
            now.residual[now.active] = info.residual.detach().cpu().double()
            still = ~fell & (now.residual[now.active] <= self.tol).numpy()
        self._watch()
        if (fell | still).any():
            self._leave(torch.from_numpy(fell), torch.from_numpy(still))
        return torch.from_numpy(row)

    def _leave(self, fell: Tensor, still: Tensor) -> None:
        """Take restarts that are done out of the batch."""
        now, done = self.now, fell | still
        now.codes[now.active[fell]] = STATUSES.index("objective_decreased")
        now.codes[now.active[still]] = STATUSES.index("converged")
        now.finished.append((now.active[done], take(now.evaluated, done.nonzero().flatten())))
        rest = (~done).nonzero().flatten()
        now.active = now.active[rest]
        now.current, now.evaluated = take(now.current, rest), take(now.evaluated, rest)

    def _watch(self) -> None:
        """Look at predictive densities: of the point after every iteration, of draws from q ever more seldom."""
        self.figures: dict[str, Tensor] = {}
        variational = self.solver.kind == "variational"
        if not watches(self.posterior) or (variational and not due(int(self.now.iterations.max()))):
            return
        with undisturbed():  # a look changes nothing of the run
            answer = self.solver.answer(self.solver.finish(self.now.evaluated))
            looks = [answer.draws() for _ in range(DRAWS if variational else 1)]
        draws = Draws({site: torch.stack([look[site] for look in looks], 1) for site in looks[0]})
        for name, value in watch(self.posterior, draws).items():
            self.figures[name] = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
            self.figures[name][self.now.active] = value

    def watched(self) -> dict[str, Tensor]:
        return self.figures

    def recorded(self) -> dict[str, Tensor] | None:
        # No step writes into its argument, so that the state itself is kept: nothing is copied.
        now = self.now
        return {ACTIVE: now.active, **plain(now.evaluated)} if len(now.active) else None

    def passes(self) -> float:
        return float(self.now.iterations.sum())  # a step is a pass over all the data, in minibatches or not

    def settled(self) -> int:
        done = torch.ones(self.restarts, dtype=torch.bool)
        done[self.now.active] = False
        if not done.any():
            return 0
        return int(self.now.iterations[self.now.objective.where(done, -torch.inf).nan_to_num(nan=-torch.inf).argmax()])

    def told(self, content: Mapping[str, Tensor], count: int, best: int) -> Draws:
        """Return what a state that was kept says of a restart: the point, or so many draws from its q."""
        at = (content[ACTIVE] == best).nonzero().flatten()
        return said(self.solver, take(revived(self.solver.state_class, dict(content)), at), count)

    def status(self) -> Status | None:
        if len(self.now.active) and int(self.now.iterations.max()) < self.total:
            return None
        # One restart whose bound fell means a wrong update: nothing of the run may be called converged.
        if (self.now.codes == STATUSES.index("objective_decreased")).any():
            return "objective_decreased"
        return STATUSES[int(self.now.codes[self.best()])]

    def best(self) -> int:
        return int(self.now.objective.nan_to_num(nan=-torch.inf).argmax())

    def final(self) -> Any:
        """Return the last evaluated state of every restart, in order."""
        now = self.now
        parts = [*now.finished, *([(now.active, now.evaluated)] if len(now.active) else [])]
        return take(join([state for _, state in parts]), torch.cat([index for index, _ in parts]).argsort())

    def restore(self, saved: dict[str, Any]) -> None:
        make = self.solver.state_class
        states = {name: revived(make, saved.pop(name)) for name in ("current", "evaluated")}
        finished = [(index, revived(make, each)) for index, each in saved.pop("finished")]
        self.now = State(**states, **saved, finished=finished)


@dataclass(frozen=True, kw_only=True)
class Optimise(Method):
    """Iterate a solver from many random starts until the objective's relative change is below a tolerance.

    The fit is the best restart: one point, or draws from q (more from ``Fit.sampler``); ``objective_decreased`` when a
    monotone objective fell in any restart.

    Attributes:
        restarts: Random starts, run as one batch; the best is the fit, all are kept in ``Fit.runs``.
        max_iterations: At most.
        tol: Relative change of the objective (or the solver's own residual) below which a restart is done.
        draws: Draws from q to keep; of a variational solver only.
    """

    needs: ClassVar = "solver"
    restarts: int = whole()
    max_iterations: int = whole()
    tol: float = not_negative()
    draws: int = whole(default=1)

    def __call__(self, posterior: Posterior, loop: Loop) -> Fit:
        """Fit the posterior."""
        solver: Solver = self.part(posterior, **self.options)
        process = _Optimisation(posterior, solver, self.restarts, self.max_iterations, self.tol)
        run = drive(process, loop, f"{self.name} ({self.restarts} restarts)")
        now, best = process.now, process.best()
        codes = now.codes.clone()
        if run.status == "interrupted":
            codes[now.active] = STATUSES.index("interrupted")
        state = take(process.final(), torch.tensor([best]))
        if posterior.shards is not None:
            state, posterior = reported(posterior, solver, state), posterior.reported
            solver = solver.of_reported(posterior, **self.options)
        state = solver.finish(state)
        answer = solver.answer(state)
        fit = fit_of(
            self, posterior if answer.model is None else Posterior.of(answer.model, posterior.data), run, loop,
            {"objective": now.objective, "iterations": now.iterations, "status": [STATUSES[code] for code in codes]},
            kind=solver.kind, objective_name=solver.objective_name, objective=float(now.objective[best]),
            iterations=int(now.iterations[best]),
            expectations={name: value[0] for name, value in answer.expectations.items()},
        )  # fmt: skip
        if not now.residual[best].isnan():
            fit.metrics["residual"] = float(now.residual[best])
        if solver.kind == "point":
            fit.draws = Draws({site: value.unsqueeze(1) for site, value in answer.draws().items()})
        else:
            keep_draws(fit, solver, state, self.draws, loop)
        hidden = posterior.data.hidden
        if answer.prediction is not None and hidden is not None and len(hidden.values):
            fit.knows(fit.data, answer.prediction())
        tell_moments(fit, run.recorder, process.passes(), partial(process.told, best=best), [best])
        return fit


def keep_draws(fit: Fit, solver: Solver, state: Any, count: int, loop: Loop) -> None:
    """Keep as many draws of a one-chain state's q as memory allows, and the way to more."""
    fit.sampler = lambda number: draw_from(solver, state, number)
    with seeded(loop.seed):
        one = solver.answer(state).draws()
    kept = affordable(count, one, loop.megabytes)
    fit.notes += thinned(kept, count, loop.megabytes)
    with seeded(loop.seed):
        fit.draws, fit.log_q = fit.sampler(kept)


def said(solver: Solver, state: Any, count: int) -> Draws:
    """Return what a one-chain state says: the point, or so many draws from its q."""
    state = solver.finish(state)
    if solver.kind != "point":
        return draw_from(solver, state, count)[0]
    return Draws({site: value.unsqueeze(1) for site, value in solver.answer(state).draws().items()})


def draw_from(solver: Solver, state: Any, count: int) -> tuple[Draws, Tensor]:
    """Draw ``count`` times from the q of a one-chain state: once from each of as many views of it, in blocks."""
    block = max(1, MOST_BYTES // max(1, bytes_of(state)))
    draws, logs = [], []
    for start in range(0, count, block):
        answer = solver.answer(repeated(state, min(block, count - start)))
        draws.append(answer.draws())
        logs.append(answer.log_q(draws[-1]))
    return Draws({site: torch.cat([d[site] for d in draws]).unsqueeze(0) for site in draws[0]}), torch.cat(logs)[None]
