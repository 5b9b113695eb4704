"""The engine of Gibbs samplers: all chains in one batch, warm-up, thinning, draws into preallocated storage."""

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
from pyrozoo.inference.loop import LoopSettings, Process, drive
from pyrozoo.inference.state import affordable, as_dict, thinned
from pyrozoo.inference.watching import LEAST, RunningDensity
from pyrozoo.math.mixture import RunningPrediction


class _Sampling(Process):
    """All chains of one sampler."""

    def __init__(
        self, model: Model, solver: Solver, data: Any, chains: int, warmup: int, draws: int, thin: int, megabytes: float
    ):  # fmt: skip
        self.model, self.data, self.megabytes = model, data, megabytes
        self.hidden = data.hidden if data.hidden is not None and len(data.hidden.values) else None
        self.solver, self.chains, self.warmup, self.draws, self.thin = solver, chains, warmup, draws, thin
        # A state is kept by the step that evaluates it; where that is the step after, one more sweep is needed.
        self.total = warmup + draws * thin + (solver.objective_of == "before")

    def start(self) -> None:
        self.current = self.solver.init(self.chains)
        # Fewer draws are kept of a large model, from as many sweeps.
        asked, self.draws = self.draws, affordable(self.draws, self.solver.draws(self.current), self.megabytes)
        self.thin = self.thin * asked // self.draws
        self.sweeps, self.kept = 0, 0
        self.storage: Draws = {}
        self.predicted: RunningPrediction | None = None
        self.density = RunningDensity()
        self.figures: dict[str, Tensor] = {}
        self.log_joint = torch.full((self.chains, self.draws), torch.nan, dtype=torch.float64)

    def advance(self) -> Tensor:
        before = self.current
        self.current, objective = self.solver.step(before)
        if self.solver.objective_of == "before":
            evaluated, age = before, self.sweeps
        else:
            evaluated, age = self.current, self.sweeps + 1
        self.sweeps += 1
        objective = objective.detach().cpu().double()
        if not torch.isfinite(objective).all():
            raise NumericalError(f"the sampler's log density is not finite after {self.sweeps} sweeps")
        if age > self.warmup and (age - self.warmup) % self.thin == 0 and self.kept < self.draws:
            values = self.solver.draws(evaluated)
            for site, value in values.items():
                if site not in self.storage:
                    self.storage[site] = value.new_empty((self.chains, self.draws, *value.shape[1:]))
                self.storage[site][:, self.kept] = value
            self.log_joint[:, self.kept] = objective
            self.kept += 1
        self.figures = {}
        self._predict(evaluated, age)
        self._watch(evaluated, age)
        return objective

    def _watch(self, state: Any, age: int) -> None:
        """Average predictive densities over sweeps, from the first one, and anew from the end of the warm-up."""
        draws = {site: value.unsqueeze(1) for site, value in self.solver.draws(state).items()}
        if logs := self.model.watched(draws, self.data):
            if age == self.warmup + 1:
                self.density = RunningDensity()
            self.density.add(logs)
            if self.density.count >= LEAST:
                self.figures |= self.density.figures()

    def _predict(self, state: Any, age: int) -> None:
        """Average the predictive of hidden entries over all sweeps after warm-up, and watch its error."""
        if self.hidden is None or (predictive := self.solver.predictive(state)) is None:
            return
        if self.predicted is None:
            self.predicted = RunningPrediction(self.hidden.values)
        error = (predictive[0] - self.hidden.values).square().mean(1).sqrt()
        self.figures = {"sweep_rmse": error.cpu().double()}
        if age > self.warmup:
            self.predicted.add(*predictive)
            self.figures["average_rmse"] = torch.full_like(self.figures["sweep_rmse"], self.predicted.error())

    def watched(self) -> dict[str, Tensor]:
        return self.figures

    def status(self) -> Status | None:
        return "completed" if self.sweeps >= self.total else None

    def result(self) -> tuple[Draws, Tensor]:
        """Return the draws kept so far; before any is kept, the current state, so that a partial result is valid."""
        if self.kept:
            return {site: value[:, : self.kept] for site, value in self.storage.items()}, self.log_joint[:, : self.kept]
        draws = {site: value.unsqueeze(1) for site, value in self.solver.draws(self.current).items()}
        return draws, self.log_joint[:, :1]

    def resumable(self) -> bool:
        return True

    def state(self) -> dict[str, Any]:
        return {
            "current": as_dict(self.current),
            "sweeps": self.sweeps,
            "draws": self.draws,
            "thin": self.thin,
            "kept": self.kept,
            "storage": {site: value[:, : self.kept].clone() for site, value in self.storage.items()},
            "log_joint": self.log_joint,
            "predicted": self.predicted.state() if self.predicted else {},
            "density": self.density.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.current = self.solver.state_class(**state["current"])
        self.sweeps, self.kept, self.log_joint = state["sweeps"], state["kept"], state["log_joint"]
        self.draws, self.thin = state["draws"], state["thin"]
        self.storage = {}
        for site, value in state["storage"].items():
            self.storage[site] = value.new_empty((self.chains, self.draws, *value.shape[2:]))
            self.storage[site][:, : self.kept] = value
        self.predicted, self.figures, self.density = None, {}, RunningDensity()
        self.density.restore(state["density"])
        if state["predicted"] and self.hidden is not None:
            self.predicted = RunningPrediction(self.hidden.values)
            self.predicted.restore(state["predicted"])


def sample(
    model: Model, data: Any, solver: Solver, *, method: str, chains: int, warmup: int, draws: int, thin: int,
    loop: LoopSettings,
) -> Fit:  # fmt: skip
    """Run a hand-built sampler.

    Args:
        model: The model.
        data: The data.
        solver: The sampler.
        method: Its name.
        chains: Chains, run as one batch.
        warmup: Sweeps thrown away.
        draws: Draws kept per chain.
        thin: Sweeps per kept draw.
        loop: Seed, progress, checkpoints.

    Returns:
        Draws [chain, draw, ...] with the log joint of each in ``sample_stats["lp"]``.
    """
    for name, value, least in (("chains", chains, 1), ("warmup", warmup, 0), ("draws", draws, 1), ("thin", thin, 1)):
        if value < least:
            raise SettingError(f"inference.{name} is {value}; it must be at least {least}")
    process = _Sampling(model, solver, data, chains, warmup, draws, thin, loop.megabytes)
    run = drive(process, loop, f"{method} ({chains} chains)")
    kept, log_joint = process.result()
    last = run.trace.groupby("chain")["objective"].last()
    fit = Fit(
        model=model,
        method=method,
        kind=solver.kind,
        data=data,
        draws=kept,
        trace=run.trace,
        runs=pd.DataFrame(
            {
                "chain": range(chains),
                "objective": [last.get(chain, float("nan")) for chain in range(chains)],
                "iterations": run.iterations,
                "status": run.status,
            }
        ),
        status=run.status,
        objective_name=f"mean_{solver.objective_name}",
        objective=float(last.mean() if log_joint.isnan().any() else log_joint.mean()),
        iterations=run.iterations,
        seconds=run.seconds,
        seed=loop.seed,
        metrics={"warmup": warmup},
        notes=thinned(process.draws, draws, loop.megabytes),
        sample_stats={} if log_joint.isnan().any() else {"lp": log_joint},
    )
    if process.predicted is not None and process.predicted.count:
        fit.knows(data, process.predicted.prediction())
    return fit
