"""Stochastic variational inference, through Pyro's SVI: with a hand-built guide, or an automatic one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, cast

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from pyro.optim import ClippedAdam
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.minibatches import Left, minibatches
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NumericalError, SettingError
from pyrozoo.core.seeds import seeded, undisturbed
from pyrozoo.core.settings import between, not_negative, one_of, positive, whole
from pyrozoo.inference.loop import Process, drive, fit_of, last_objectives
from pyrozoo.inference.moments import tell_moments
from pyrozoo.inference.state import affordable, thinned
from pyrozoo.inference.watching import DRAWS, watch, watches
from pyrozoo.program.trace import log_density_at

Guide = Callable[[Any], Any]

RESTART = "number of the restart"
"""What a state that was kept has beside the parameters."""

DRAWN = 20
"""Draws that a moment has: each is a run of the guide."""

FAMILIES = {
    "mean_field": AutoNormal,
    "multivariate": AutoMultivariateNormal,
    "low_rank": AutoLowRankMultivariateNormal,
}
"""Pyro's automatic guides: normals in unconstrained space, with independent sites, a full covariance, or a few
directions of it."""


def automatic(family: str, posterior: Posterior) -> Guide:
    """Return one of Pyro's automatic guides for a program, at a starting point of the posterior's."""
    start = {site: value[0] for site, value in posterior.initial(1).items()}
    exposed = poutine.block(posterior.program, expose=list(posterior.sites))
    return FAMILIES[family](exposed, init_loc_fn=init_to_value(values=start))


class DensityElbo:
    """The ELBO of an automatic guide, from the program's density with discrete sites summed out.

    What Pyro's own enumerating ELBO says, without a run of its machinery for every site: ten times faster where there
    are many. The gradient goes through the guide's reparameterised draws.

    Args:
        posterior: The posterior.
        particles: Draws from q per gradient.
    """

    def __init__(self, posterior: Posterior, particles: int):
        self.posterior, self.particles = posterior, particles

    def __call__(self, program: Any, guide: Guide, data: Any) -> Tensor:
        """Return minus the ELBO of fresh draws, with its gradient."""
        total: Any = 0.0
        for _ in range(self.particles):
            trace: Any = poutine.trace(guide).get_trace(data)
            values = {site: trace.nodes[site]["value"] for site in self.posterior.sites}
            joint = log_density_at(self.posterior.program, values, data, self.posterior.depth)
            total = total + joint - _log_q(trace, self.posterior)
        return -total / self.particles

    def loss(self, program: Any, guide: Guide, data: Any) -> float:
        """Return minus the ELBO of fresh draws."""
        return float(self(program, guide, data).detach())


@dataclass
class State:
    """Where a run is, but for Pyro's parameters and optimiser.

    Attributes:
        restart: The number of the start at work.
        step: Steps of it.
        steps: Of all.
        scouting: Whether short runs go on.
        recent: ELBOs since the last window.
        smoothed: Means of windows.
        scores: What short runs reached.
        best: Parameters of the best of them.
        ended: How the run ended.
        order: What is left of an epoch: rows that come next,
        later: and chunks whose rows come then (``Left``).
    """

    restart: int = 0
    step: int = 0
    steps: int = 0
    scouting: bool = False
    recent: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    ended: Status | None = None
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    later: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))


class _Stochastic(Process):
    """Short runs from several starts, then the best of them to convergence (Biernacki et al. 2003, CSDA 41)."""

    now: State

    def __init__(self, posterior: Posterior, make_guide: Any, settings: Svi):
        self.posterior, self.make_guide, self.settings = _standing_for_all(posterior), make_guide, settings
        self.whole = posterior.shards is None
        self.data = posterior.data if posterior.shards is None else posterior.shards.parts[0].data
        # A guide for local sites that the model sums out names the program that keeps them.
        whole = config_enumerate(posterior.program, default="parallel")
        self.program = make_guide.program(posterior.model) if hasattr(make_guide, "program") else whole
        self.restart_steps = settings.restart_steps if settings.restarts > 1 else 0
        parts = self.data.parts
        self.batch_size = min(settings.batch_size or parts, parts)
        self.elbo = self._elbo()
        # The rate decays geometrically over max_steps.
        self.adam = {"lr": settings.learning_rate, "lrd": settings.final_learning_rate ** (1 / settings.max_steps)}
        self.total = settings.restarts * self.restart_steps + settings.max_steps
        self.figures: dict[str, Tensor] = {}
        # Predictive densities are looked at after every epoch, or where that is a step, every window.
        epoch = -(-parts // self.batch_size)
        self.look = epoch if epoch > 1 else settings.window

    def _elbo(self) -> Any:
        make, posterior, particles = self.make_guide, self.posterior, self.settings.particles
        if isinstance(make, partial):
            return DensityElbo(posterior, particles)
        # A guide whose divergences from the prior have a closed form says so.
        loss = make.loss(posterior.model) if hasattr(make, "loss") else TraceEnum_ELBO
        own = type(posterior)(self.program, posterior.data) if hasattr(make, "program") else posterior
        return loss(num_particles=particles, max_plate_nesting=own.depth, strict_enumeration_warning=False)

    def start(self) -> None:
        self.now = State(scouting=self.restart_steps > 0)
        self._new_guide()

    def _new_guide(self) -> None:
        pyro.clear_param_store()
        self.guide = self.make_guide(self.posterior)
        with undisturbed():  # a guide's parameters are made when it is first called: a checkpoint before has none
            self.guide(self.posterior.data)
        self._new_optimiser()

    def _new_optimiser(self) -> None:
        self.optimiser = ClippedAdam(dict(self.adam))
        self.svi = SVI(self.program, self.guide, self.optimiser, loss=self.elbo)

    def _batch(self) -> Any:
        now = self.now
        if self.whole and self.batch_size == self.data.parts:
            return self.data
        index, left = Left(now.order, now.later).next(self.data, self.batch_size)
        if len(index) < self.batch_size:  # a new epoch
            index, left = Left.all_of(self.data).next(self.data, self.batch_size)
        now.order, now.later = left.rows, left.chunks
        return self.data.part(index)

    def advance(self) -> Tensor:
        now, settings = self.now, self.settings
        value = -self.svi.step(self._batch())
        if value != value:
            raise NumericalError(f"svi: the ELBO is not a number at step {now.step}; lower inference.learning_rate")
        now.recent.append(value)
        now.step += 1
        now.steps += 1
        row = torch.full((settings.restarts,), torch.nan, dtype=torch.float64)
        row[now.restart] = value
        self._watch()
        if now.scouting:
            if now.step == self.restart_steps:
                self._end_scouting()
        elif now.step % settings.window == 0:
            now.smoothed.append(sum(now.recent) / len(now.recent))
            now.recent = []
            if len(now.smoothed) > 1:
                before, last = now.smoothed[-2:]
                now.ended = "converged" if abs(last - before) <= settings.tol * abs(last) else now.ended
        if not now.scouting and now.step >= settings.max_steps:
            now.ended = now.ended or "max_iterations"
        return row

    def _watch(self) -> None:
        self.figures = {}
        if not watches(self.posterior) or self.now.steps % self.look:
            return
        with torch.no_grad(), undisturbed():  # a look changes nothing of the run
            draws = _values(_traces(self.guide, self.posterior.data, DRAWS), self.posterior)
        for name, value in watch(self.posterior, draws).items():
            self.figures[name] = torch.full((self.settings.restarts,), torch.nan, dtype=torch.float64)
            self.figures[name][self.now.restart] = value[0]

    def watched(self) -> dict[str, Tensor]:
        return self.figures

    def recorded(self) -> dict[str, Tensor] | None:
        return {RESTART: torch.tensor(self.now.restart), **_constrained()}

    def passes(self) -> float:
        return self.now.steps * self.settings.particles * self.batch_size / self.data.parts

    def _end_scouting(self) -> None:
        now = self.now
        late = now.recent[len(now.recent) // 2 :]
        now.scores.append(sum(late) / len(late))
        if now.scores[-1] == max(now.scores):
            now.best = _parameters()
        now.recent, now.step = [], 0
        if now.restart + 1 < self.settings.restarts:
            now.restart += 1
            self._new_guide()
        else:
            now.scouting = False
            self.settle()
            self._new_optimiser()

    def settle(self) -> None:
        """Take the best of the short runs that ended."""
        if self.now.scores:
            self.now.restart = self.now.scores.index(max(self.now.scores))
            _set_parameters(self.now.best)

    def status(self) -> Status | None:
        return self.now.ended

    def checkpoint(self) -> dict[str, Any]:
        return super().checkpoint() | {"parameters": _parameters(), "optimiser": self.optimiser.get_state()}

    def restore(self, saved: dict[str, Any]) -> None:
        parameters, optimiser = saved.pop("parameters"), saved.pop("optimiser")
        self.now = State(**saved)
        self._new_guide()  # which has the parameters with their constraints
        _set_parameters(parameters)
        self.optimiser.set_state(optimiser)

    def losses(self, posterior: Posterior, count: int) -> Tensor:
        """Return minus the ELBO under at least so many draws, each of all the data.

        Where rows are in files, it is that of the rows that are reported on, each minibatch under a draw of its own: of
        every pass over them, or of every minibatch if one pass is enough.
        """
        reported = _reported(posterior)
        several = not self.whole and self.batch_size < reported.rows
        rounds = -(-count // -(-reported.rows // self.batch_size)) if several else count
        found = []
        for _ in range(rounds):
            batches = minibatches(reported, self.batch_size) if several else ()
            data = (batch.taken(reported) for batch in batches) if several else (reported.data,)
            found.append([self.elbo.loss(self.program, self.guide, each) for each in data])
        losses = torch.tensor(found, dtype=torch.float64)
        return losses.mean(1) if rounds > 1 else losses[0]


def _standing_for_all(posterior: Posterior) -> Posterior:
    """Return the posterior itself; of rows in files that of some of them, as of a minibatch."""
    if posterior.shards is None:
        return posterior
    return posterior.on(replace(posterior.data, total_rows=posterior.rows))


def _reported(posterior: Posterior) -> Posterior:
    """Return the posterior itself; of rows in files that of those that are reported on, as of a minibatch."""
    if posterior.shards is None:
        return posterior
    seen = posterior.shards.seen
    found: Posterior = seen.on(replace(seen.data, total_rows=posterior.rows))
    return found


def _parameters() -> dict[str, Tensor]:
    """Return the unconstrained parameters of Pyro's store, copied."""
    return {name: value.detach().clone() for name, value in pyro.get_param_store().named_parameters()}


def _constrained() -> dict[str, Tensor]:
    """Return the parameters of Pyro's store as a guide uses them, copied: an optimiser writes into them."""
    return {name: value.detach().clone() for name, value in pyro.get_param_store().items()}


def _set_parameters(values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in pyro.get_param_store().named_parameters():
            parameter.copy_(values[name])


@contextmanager
def _within(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Run a block in which Pyro's store holds some parameters, as a guide uses them."""
    with pyro.get_param_store().scope():
        for name, value in parameters.items():
            if name != RESTART:
                pyro.param(name, value)
        yield


def _traces(guide: Guide, data: Any, count: int) -> list[Any]:
    return [poutine.trace(guide).get_trace(data) for _ in range(count)]


def _values(traces: list[Any], posterior: Posterior) -> Draws:
    return Draws.stack([{s: cast(Tensor, t.nodes[s]["value"]).detach() for s in posterior.sites} for t in traces])


def _log_q(trace: Any, posterior: Posterior) -> Tensor:
    """Return log q of the global sites, and of what an automatic guide draws them from."""
    nodes = trace.nodes
    mine = [
        n
        for n, x in nodes.items()
        if n in posterior.sites or (x["type"] == "sample" and x["infer"].get("is_auxiliary"))
    ]
    trace.compute_log_prob(lambda name, _: name in mine)
    return torch.stack([nodes[site]["log_prob_sum"] for site in mine]).sum()


@dataclass(frozen=True, kw_only=True)
class Svi(Method):
    """Maximise the ELBO by stochastic gradients: draws from q with their log density.

    Attributes:
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
        evaluation_draws: Draws for the final ELBO, on all the data (of rows in files, on those that are reported on);
            its standard error is ``metrics["objective_se"]``.
        family: Of Pyro's automatic guides, in place of the model's own.
    """

    needs: ClassVar = "guide"
    max_steps: int = whole()
    learning_rate: float = positive()
    final_learning_rate: float = between(0, 1, "(]")
    batch_size: int | None = whole(optional=True)
    particles: int = whole()
    restarts: int = whole()
    restart_steps: int = whole()
    window: int = whole()
    tol: float = not_negative()
    draws: int = whole()
    evaluation_draws: int = whole()
    family: str | None = one_of(*FAMILIES, optional=True, default=None)

    def streams(self) -> bool:
        """Return whether rows can stay in files: the guide has nothing of a row's own, and there are minibatches."""
        if self.family is not None or not super().streams():
            return False
        if self.batch_size is None:
            raise SettingError("inference.batch_size is null; stream=true needs a number of rows, such as 1000")
        return True

    def __call__(self, posterior: Posterior, loop: Loop) -> Fit:
        """Fit the posterior."""
        own = self.part if self.family is None else None
        make_guide = partial(automatic, self.family or "mean_field") if own is None else own
        if own is None and self.batch_size is not None:
            raise SettingError("inference.batch_size needs a guide of the model's own; leave it out")
        with pyro.get_param_store().scope():  # the store is global
            process = _Stochastic(posterior, make_guide, self)
            with pyro.validation_enabled(False):  # doubles the speed; the program was run with it on
                run = drive(process, loop, self.name)
                if process.now.scouting:  # cut short among the short runs
                    process.settle()
            with seeded(loop.seed), torch.no_grad():
                process.guide(process.posterior.data)
                kept = _constrained()
                losses = process.losses(posterior, self.evaluation_draws)
        return self._fit(posterior, loop, process, run, kept, losses)

    def _fit(
        self, posterior: Posterior, loop: Loop, process: _Stochastic, run: Any, parameters: dict[str, Tensor],
        losses: Tensor,
    ) -> Fit:  # fmt: skip
        guide, data = process.guide, process.posterior.data
        posterior = posterior if posterior.shards is None else posterior.shards.seen

        def sampler(count: int) -> tuple[Draws, Tensor]:
            with torch.no_grad(), _within(parameters):
                traces = _traces(guide, data, count)
                logs = torch.stack([_log_q(trace, posterior) for trace in traces])
                return _values(traces, posterior), logs.unsqueeze(0)

        def told(content: Mapping[str, Tensor], count: int) -> Draws:
            with torch.no_grad(), _within(content), pyro.validation_enabled(False):
                return _values(_traces(guide, data, count), posterior)

        with seeded(loop.seed):
            one = sampler(1)[0]
        affords = affordable(self.draws, one, loop.megabytes)
        with seeded(loop.seed):
            draws, log_q = sampler(affords)
        chains, winner = range(self.restarts), process.now.restart
        runs = {
            "objective": last_objectives(run.trace, self.restarts),
            "iterations": [int((run.trace["chain"] == chain).sum()) for chain in chains],
            "status": [run.status if chain == winner else "max_iterations" for chain in chains],
        }
        error = float(losses.std() / len(losses) ** 0.5) if len(losses) > 1 else 0.0
        fit = fit_of(
            self, posterior, run, loop, runs, kind="variational", draws=draws, objective_name="elbo",
            objective=-losses.mean().item(), log_q=log_q, sampler=sampler,
            notes=thinned(affords, self.draws, loop.megabytes), metrics={"objective_se": error},
        )  # fmt: skip
        # The way of the restart that went on: short runs of others are not this fit's.
        run.recorder.states = [each for each in run.recorder.states if int(each.content[RESTART]) == winner]
        tell_moments(fit, run.recorder, process.passes(), told, [winner], DRAWN)
        return fit
