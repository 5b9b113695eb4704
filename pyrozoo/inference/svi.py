"""Stochastic variational inference with a hand-built guide, through Pyro's SVI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pandas as pd
import pyro
import pyro.poutine as poutine
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NumericalError, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.loop import LoopSettings, Process, drive
from pyrozoo.inference.state import affordable, thinned
from pyrozoo.inference.watching import DRAWS, watch
from pyrozoo.program.trace import plate_depth

Guide = Callable[[Any], None]


class _Stochastic(Process):
    """Short runs from several starts, then the best of them to convergence (Biernacki et al. 2003, CSDA 41)."""

    def __init__(
        self, model: Model, data: Any, make_guide: Callable[[Model, Any], Guide], *, max_steps: int,
        learning_rate: float, final_learning_rate: float, batch_size: int | None, particles: int, restarts: int,
        restart_steps: int, window: int, tol: float,
    ):  # fmt: skip
        self.model, self.data, self.make_guide = model, data, make_guide
        # A guide for local sites that the model sums out names the program that keeps them.
        self.program = make_guide.program(model) if hasattr(make_guide, "program") else model
        self.max_steps, self.window, self.tol = max_steps, window, tol
        self.restarts, self.restart_steps = restarts, restart_steps if restarts > 1 else 0
        self.batch_size = min(batch_size or data.parts, data.parts)
        # A guide whose divergences from the prior have a closed form says so.
        loss = make_guide.loss(model) if hasattr(make_guide, "loss") else TraceEnum_ELBO
        self.elbo = loss(
            num_particles=particles, max_plate_nesting=plate_depth(self.program, data), strict_enumeration_warning=False
        )
        # The rate decays geometrically over max_steps.
        self.adam = {"lr": learning_rate, "lrd": final_learning_rate ** (1 / max_steps)}
        self.total = self.restarts * self.restart_steps + max_steps
        self.figures: dict[str, Tensor] = {}
        # Predictive densities are looked at after every epoch, or where that is a step, every window.
        epoch = -(-data.parts // self.batch_size)
        self.look = epoch if epoch > 1 else window

    def start(self) -> None:
        self.restart, self.step, self.steps = 0, 0, 0
        self.scouting = self.restart_steps > 0
        self.recent: list[float] = []
        self.smoothed: list[float] = []
        self.scores: list[float] = []
        self.best: dict[str, Any] = {}
        self.ended: Status | None = None
        self.order = torch.empty(0, dtype=torch.long)
        self._new_guide()

    def _new_guide(self) -> None:
        pyro.clear_param_store()
        self.guide = self.make_guide(self.model, self.data)
        self._new_optimiser()

    def _new_optimiser(self) -> None:
        self.optimiser = ClippedAdam(dict(self.adam))
        self.svi = SVI(self.program, self.guide, self.optimiser, loss=self.elbo)

    def _batch(self) -> Any:
        if self.batch_size == self.data.parts:
            return self.data
        if len(self.order) < self.batch_size:  # a new epoch
            self.order = torch.randperm(self.data.parts)
        index, self.order = self.order[: self.batch_size], self.order[self.batch_size :]
        return self.data.part(index)

    def advance(self) -> Tensor:
        value = -self.svi.step(self._batch())
        if value != value:
            raise NumericalError(f"svi: the ELBO is not a number at step {self.step}; lower inference.learning_rate")
        self.recent.append(value)
        self.step += 1
        self.steps += 1
        row = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
        row[self.restart] = value
        self._watch()
        if self.scouting:
            if self.step == self.restart_steps:
                self._end_scouting()
        elif self.step % self.window == 0:
            self.smoothed.append(sum(self.recent) / len(self.recent))
            self.recent = []
            if len(self.smoothed) > 1 and abs(self.smoothed[-1] - self.smoothed[-2]) <= self.tol * abs(
                self.smoothed[-1]
            ):
                self.ended = "converged"
        if not self.scouting and self.step >= self.max_steps:
            self.ended = self.ended or "max_iterations"
        return row

    def _watch(self) -> None:
        self.figures = {}
        if type(self.model).watched is Model.watched or self.steps % self.look:
            return
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # a look changes nothing of the run
            draws = _values(_traces(self.guide, self.data, DRAWS), self.model)
        for name, value in watch(self.model, draws, self.data).items():
            self.figures[name] = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
            self.figures[name][self.restart] = value[0]

    def watched(self) -> dict[str, Tensor]:
        return self.figures

    def _end_scouting(self) -> None:
        late = self.recent[len(self.recent) // 2 :]
        self.scores.append(sum(late) / len(late))
        if self.scores[-1] == max(self.scores):
            self.best = _parameters()
        self.recent, self.step = [], 0
        if self.restart + 1 < self.restarts:
            self.restart += 1
            self._new_guide()
        else:
            self.scouting = False
            self.restart = self.scores.index(max(self.scores))
            _set_parameters(self.best)
            self._new_optimiser()

    def settle(self) -> None:
        """When cut short among the short runs, take the best of those that ended."""
        if self.scouting and self.scores:
            self.restart = self.scores.index(max(self.scores))
            _set_parameters(self.best)

    def status(self) -> Status | None:
        return self.ended

    def resumable(self) -> bool:
        return True

    def state(self) -> dict[str, Any]:
        plain = ("restart", "step", "steps", "scouting", "recent", "smoothed", "scores", "best", "ended", "order")
        return {
            **{name: getattr(self, name) for name in plain},
            "parameters": _parameters(),
            "optimiser": self.optimiser.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        parameters, optimiser = state.pop("parameters"), state.pop("optimiser")
        for name, value in state.items():
            setattr(self, name, value)
        self._new_guide()
        self.guide(self.data)  # registers the parameters with their constraints
        _set_parameters(parameters)
        self.optimiser.set_state(optimiser)


def _parameters() -> dict[str, Tensor]:
    """Return the unconstrained parameters of Pyro's store, copied."""
    return {name: value.detach().clone() for name, value in pyro.get_param_store().named_parameters()}


def _set_parameters(values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in pyro.get_param_store().named_parameters():
            parameter.copy_(values[name])


def _traces(guide: Guide, data: Any, count: int) -> list[Any]:
    return [poutine.trace(guide).get_trace(data) for _ in range(count)]


def _values(traces: list[Any], model: Model) -> Draws:
    """Return site -> [1, count, *event]."""
    return {s: torch.stack([cast(Tensor, t.nodes[s]["value"]) for t in traces]).unsqueeze(0) for s in model.sites}


def _log_q(trace: Any, model: Model) -> Tensor:
    """Return log q of the global sites."""
    trace.compute_log_prob(lambda name, _: name in model.sites)
    return torch.stack([trace.nodes[site]["log_prob_sum"] for site in model.sites]).sum()


def svi(
    model: Model, data: Any, make_guide: Callable[[Model, Any], Guide], *, method: str, max_steps: int,
    learning_rate: float, final_learning_rate: float, batch_size: int | None, particles: int, restarts: int,
    restart_steps: int, window: int, tol: float, draws: int, evaluation_draws: int, loop: LoopSettings,
) -> Fit:  # fmt: skip
    """Maximise the ELBO by stochastic gradients.

    Args:
        model: The model; discrete sites marked for enumeration are summed out.
        data: The data, with ``parts`` and ``part`` for minibatches.
        make_guide: (model, data) -> guide, with starting values from torch's global generator.
        method: The method's name.
        max_steps: Gradient steps at most, after the short runs.
        learning_rate: Of Adam with clipped gradients, at the start.
        final_learning_rate: The same at ``max_steps``, as a fraction.
        batch_size: Rows (or ratings) per minibatch, or None for all.
        particles: Draws from q per gradient.
        restarts: Random starts; each runs ``restart_steps`` and the best goes on.
        restart_steps: See there.
        window: Steps per smoothing window.
        tol: Relative change between the means of two windows below which the run is done.
        draws: Draws from q to keep.
        evaluation_draws: Draws for the final ELBO, on all the data; its standard error is ``metrics["objective_se"]``.
        loop: Seed, progress, checkpoints.

    Returns:
        Draws from q with their log density.
    """
    limits = {"max_steps": max_steps, "particles": particles, "restarts": restarts, "restart_steps": restart_steps,
              "window": window, "draws": draws, "evaluation_draws": evaluation_draws}  # fmt: skip
    if batch_size is not None:
        limits["batch_size"] = batch_size
    for name, value in limits.items():
        if value < 1:
            raise SettingError(f"inference.{name} is {value}; it must be at least 1")
    if tol < 0:
        raise SettingError(f"inference.tol is {tol}; it must not be negative")
    if learning_rate <= 0 or not 0 < final_learning_rate <= 1:
        raise SettingError("inference.learning_rate must be positive and inference.final_learning_rate in (0, 1]")
    with pyro.get_param_store().scope():  # the store is global
        process = _Stochastic(
            model, data, make_guide, max_steps=max_steps, learning_rate=learning_rate,
            final_learning_rate=final_learning_rate, batch_size=batch_size, particles=particles, restarts=restarts,
            restart_steps=restart_steps, window=window, tol=tol,
        )  # fmt: skip
        with pyro.validation_enabled(False):  # doubles the speed; the program was run with it on
            run = drive(process, loop, method)
        process.settle()
        guide = process.guide
        with seeded(loop.seed), torch.no_grad():
            guide(data)
            constrained = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
            losses = torch.tensor([process.elbo.loss(process.program, guide, data) for _ in range(evaluation_draws)])
    objective = -losses.double().mean().item()

    def sampler(count: int) -> tuple[Draws, Tensor]:
        with torch.no_grad(), pyro.get_param_store().scope():
            for name, value in constrained.items():
                pyro.param(name, value)
            traces = _traces(guide, data, count)
            return _values(traces, model), torch.stack([_log_q(trace, model) for trace in traces]).unsqueeze(0)

    with seeded(loop.seed):
        one = sampler(1)[0]
    affords = affordable(draws, one, loop.megabytes)
    with seeded(loop.seed):
        kept, log_q = sampler(affords)
    last = run.trace.groupby("chain")["objective"].last()
    winner = process.restart
    return Fit(
        model=model,
        method=method,
        kind="variational",
        data=data,
        draws=kept,
        trace=run.trace,
        runs=pd.DataFrame(
            {
                "chain": range(restarts),
                "objective": [last.get(chain, float("nan")) for chain in range(restarts)],
                "iterations": [int((run.trace["chain"] == chain).sum()) for chain in range(restarts)],
                "status": [run.status if chain == winner else "max_iterations" for chain in range(restarts)],
            }
        ),
        status=run.status,
        objective_name="elbo",
        objective=objective,
        iterations=run.iterations,
        seconds=run.seconds,
        seed=loop.seed,
        log_q=log_q,
        sampler=sampler,
        notes=thinned(affords, draws, loop.megabytes),
        metrics={"objective_se": float(losses.double().std() / evaluation_draws**0.5) if evaluation_draws > 1 else 0.0},
    )
