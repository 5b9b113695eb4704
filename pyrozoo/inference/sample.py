"""The engine of Gibbs samplers: all chains in one batch, warm-up, thinning, draws into preallocated storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info, Solver
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.errors import NumericalError
from pyrozoo.core.settings import whole
from pyrozoo.inference.graphs import Steps
from pyrozoo.inference.loop import Process, drive, fit_of, last_objectives
from pyrozoo.inference.moments import tell_moments
from pyrozoo.inference.state import affordable, plain, revived, thinned
from pyrozoo.inference.watching import LEAST, RunningDensity, watches


@dataclass
class State:
    """Where all chains are.

    Attributes:
        current: The sampler's state.
        sweeps: Sweeps made.
        draws: Draws to keep of every chain: fewer than asked of a large model, from as many sweeps.
        thin: Sweeps per kept draw.
        kept: Draws kept so far.
        storage: Site -> [chain, draw, *event].
        log_joint: Of kept draws, [chain, draw].
        predicted: The running average of predictive distributions of hidden entries.
        density: The running average of predictive densities that are watched.
    """

    current: Any
    sweeps: int
    draws: int
    thin: int
    kept: int
    storage: dict[str, Tensor]
    log_joint: Tensor
    predicted: Any
    density: RunningDensity


class _Sampling(Process):
    """All chains of one sampler."""

    now: State
    fixed = True

    def __init__(self, posterior: Posterior, solver: Solver, settings: Sample, megabytes: float | None):
        self.posterior, self.solver, self.settings, self.megabytes = posterior, solver, settings, megabytes
        self.step = Steps(solver)
        self.shards, self.by_row = posterior.shards, solver.by_row or ()
        self.grown_by_row = () if posterior.shards is None else posterior.by_row
        hidden = posterior.data.hidden
        self.hidden = hidden if hidden is not None and len(hidden.values) else None
        # A state is kept by the step that evaluates it; where that is the step after, one more sweep is needed.
        extra = solver.objective_of == "argument"
        self.total = settings.warmup + settings.draws * settings.thin + extra
        self.figures: dict[str, Tensor] = {}
        self.written = 0
        self.evaluated: Any = None

    def start(self) -> None:
        asked, current = self.settings.draws, self.solver.init(self.settings.chains)
        current = current if self.settings.warmup else self.solver.settled(current)
        draws = affordable(asked, self._reported(self.solver.answer(current).draws(), whole=True), self.megabytes)
        log_joint = torch.full((self.settings.chains, draws), torch.nan, dtype=torch.float64)
        thin = self.settings.thin * asked // draws
        self.now = State(current, 0, draws, thin, 0, {}, log_joint, None, RunningDensity())

    def advance(self) -> Tensor:
        now, before, warmup = self.now, self.now.current, self.settings.warmup
        now.current, info = self.step(before)
        early = self.solver.objective_of == "argument"
        evaluated, age = (before, now.sweeps) if early else (now.current, now.sweeps + 1)
        now.sweeps += 1
        self.evaluated = evaluated
        if now.sweeps == warmup:
            now.current = self.solver.settled(now.current)
        objective = info.objective.detach().cpu().double()
        if not torch.isfinite(objective).all():
            raise NumericalError(f"the sampler's log density is not finite after {now.sweeps} sweeps")
        if age > warmup and (age - warmup) % now.thin == 0 and now.kept < now.draws:
            self._keep(evaluated, objective)
        self.figures = {}
        self._predict(info, age)
        self._watch(evaluated, age)
        return objective

    def _keep(self, state: Any, objective: Tensor) -> None:
        now = self.now
        for site, value in self._reported(self.solver.answer(state).draws()).items():
            if site not in now.storage:
                now.storage[site] = value.new_empty((len(value), now.draws, *value.shape[1:]))
            now.storage[site][:, now.kept] = value
        now.log_joint[:, now.kept] = objective
        now.kept += 1

    def _reported(self, draws: Values, *, whole: bool = False) -> Values:
        """Return draws with the rows that are kept: all, or of rows in shards those that are reported on.

        Args:
            draws: Site -> [chain, *event].
            whole: Whether to return them of all processes, or of this one.
        """
        shards = self.posterior.shards
        if shards is None:
            return draws
        of = shards.gathered if whole else shards.chosen
        return {site: of(value) if site in self.posterior.by_row else value for site, value in draws.items()}

    def _watch(self, state: Any, age: int) -> None:
        """Average predictive densities over sweeps, from the first one, and anew from the end of the warm-up."""
        if not watches(self.posterior):
            return
        draws = {site: value.unsqueeze(1) for site, value in self.solver.answer(state).draws().items()}
        if logs := self.posterior.watched(draws):
            if age == self.settings.warmup + 1:
                self.now.density = RunningDensity()
            self.now.density.add(logs)
            if self.now.density.count >= LEAST:
                self.figures |= self.now.density.figures()

    def _predict(self, info: Info, age: int) -> None:
        """Average the predictive of hidden entries over all sweeps after warm-up, and watch its error."""
        if self.hidden is None or info.predictive is None:
            return
        if self.now.predicted is None:
            self.now.predicted = self.posterior.running_prediction()
        predictive, predicted = info.predictive(), self.now.predicted
        self.figures = {name: value.cpu().double() for name, value in predicted.sweep(*predictive).items()}
        if age > self.settings.warmup:
            predicted.add(*predictive)
            for name, value in predicted.average().items():
                self.figures[name] = torch.full((self.settings.chains,), value, dtype=torch.float64)

    def watched(self) -> dict[str, Tensor]:
        return self.figures

    def recorded(self) -> dict[str, Tensor] | None:
        return dict(self.solver.answer(self.evaluated).draws())

    def passes(self) -> float:
        return float(self.now.sweeps * self.settings.chains)

    def kept(self) -> int:
        return self.now.kept

    def status(self) -> Status | None:
        return "completed" if self.now.sweeps >= self.total else None

    def result(self) -> tuple[dict[str, Tensor], Tensor]:
        """Return the draws kept so far; before any is kept, the current state, so that a partial result is valid."""
        now = self.now
        if now.kept:
            return {site: value[:, : now.kept] for site, value in now.storage.items()}, now.log_joint[:, : now.kept]
        draws = self._reported(self.solver.answer(now.current).draws())
        return {site: value.unsqueeze(1) for site, value in draws.items()}, now.log_joint[:, :1]

    def grown(self) -> dict[str, Tensor]:
        first, self.written = self.written, self.now.kept
        new = first < self.written
        return {site: value[:, first : self.written] for site, value in self.now.storage.items()} if new else {}

    def checkpoint(self) -> dict[str, Any]:
        now = self.now
        return plain(now) | {
            "storage": {},
            "predicted": now.predicted.state() if now.predicted else {},
            "density": now.density.state(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        storage: dict[str, Tensor] = {}
        predicted, density = None, RunningDensity()
        density.restore(saved["density"])
        if saved["predicted"] and self.hidden is not None:
            predicted = self.posterior.running_prediction()
            predicted.restore(saved["predicted"])
        current = revived(self.solver.state_class, saved["current"])
        rest = {"current": current, "storage": storage, "predicted": predicted, "density": density}
        self.now, self.written = State(**{**saved, **rest}), 0
        self._put(saved["storage"], 0)  # earlier versions kept all draws there

    def regrow(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        for part in parts:
            self.written += self._put(part, self.written)

    def _put(self, part: Mapping[str, Tensor], first: int) -> int:
        """Put draws [chain, draw, *event] into the storage, from a place on; return how many there are of a chain."""
        for site, value in part.items():
            if site not in self.now.storage:
                shape, device = (len(value), self.now.draws, *value.shape[2:]), self.posterior.data.values.device
                self.now.storage[site] = value.new_empty(shape, device=device)
            self.now.storage[site][:, first : first + value.shape[1]] = value
        return next((value.shape[1] for value in part.values()), 0)


@dataclass(frozen=True, kw_only=True)
class Sample(Method):
    """Run a hand-built sampler: draws [chain, draw, ...], with the log joint of each in ``sample_stats["lp"]``.

    Attributes:
        chains: Chains, run as one batch.
        warmup: Sweeps thrown away.
        draws: Draws kept per chain.
        thin: Sweeps per kept draw.
    """

    needs: ClassVar = "solver"
    chains: int = whole()
    warmup: int = whole(0)
    draws: int = whole()
    thin: int = whole()

    def __call__(self, posterior: Posterior, loop: Loop) -> Fit:
        """Fit the posterior."""
        solver: Solver = self.part(posterior, **self.options)
        process = _Sampling(posterior, solver, self, loop.megabytes)
        run = drive(process, loop, f"{self.name} ({self.chains} chains)")
        kept, log_joint = process.result()
        if posterior.shards is not None:
            gathered = posterior.shards.world.gathered
            kept = {s: torch.cat(gathered(v), 2) if s in posterior.by_row else v for s, v in kept.items()}
            posterior = posterior.shards.seen
        last, partial = last_objectives(run.trace, self.chains), bool(log_joint.isnan().any())
        fit = fit_of(
            self, posterior, run, loop, {"objective": last, "iterations": run.iterations, "status": run.status},
            kind=solver.kind, draws=kept, objective_name=f"mean_{solver.objective_name}",
            objective=float(run.trace.groupby("chain")["objective"].last().mean() if partial else log_joint.mean()),
            metrics={"warmup": self.warmup}, notes=thinned(process.now.draws, self.draws, loop.megabytes),
            sample_stats={} if partial else {"lp": log_joint},
        )  # fmt: skip
        if process.now.predicted is not None and process.now.predicted.count:
            fit.knows(posterior.data, process.now.predicted.prediction())
        tell_moments(fit, run.recorder, process.passes(), _states)
        return fit


def _states(values: Values, _: int) -> Draws:
    """Return what a sampler's state says: one draw of every chain, whatever number is wanted."""
    return Draws({site: value.unsqueeze(1) for site, value in values.items()})
