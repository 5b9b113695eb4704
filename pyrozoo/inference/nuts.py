"""The No-U-Turn sampler, in compiled code wherever the program allows it, else by Pyro's kernel."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyro
import torch
from torch import Tensor

from pyrozoo.compiler.captured import CapturedDensity
from pyrozoo.compiler.density import CompiledDensity
from pyrozoo.compiler.tape import Untraceable
from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.moments import Moment
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.devices import LARGE
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.errors import NumericalError, SettingError
from pyrozoo.core.seeds import undisturbed
from pyrozoo.core.settings import between, one_of, whole
from pyrozoo.inference.chains import Chain, CompiledSampler, Plan, PyroSampler, Sampler
from pyrozoo.inference.loop import Process, Run, drive, fit_of, last_objectives
from pyrozoo.inference.moments import budget, early
from pyrozoo.inference.starts import Gradient, pathfinder
from pyrozoo.inference.state import affordable
from pyrozoo.math.branches import without_branches
from pyrozoo.program.density import FlatDensity
from pyrozoo.program.trace import refuse_large

log = logging.getLogger(__name__)

BACKENDS = ("auto", "nutpie", "pyro")

WORTH_COMPILING = 200
"""Iterations of all chains together above which compiling, a second or three, takes less time than it saves."""

AGREEMENT = {torch.float64: (1e-10, 1e-8), torch.float32: (1e-4, 1e-3)}
"""How far, relatively, value and gradient of compiled and recorded density may be apart."""

CHECKS = 3
JITTER = 0.1

Drawn = tuple[Tensor, dict[str, Tensor]]
"""Vectors [chain, draw, size], and statistics by ArviZ's names [chain, draw]."""

STEEP = -1.0
"""Slope of the log density against the log of the distance above which no integral exists."""

FAR = (1e6, 1e9)
NEARER = (30.0, 3000.0)
"""Standard deviations of the draws, where chains have shown what is far."""

SUSPICIOUS = 1.05
DIRECTIONS = 5
DEEP = 30.0
"""How far below the start a plateau lies that no chain ever finds: transforms clamp their ends there."""


def eager(space: FlatDensity) -> Gradient:
    """Return log density and gradient as PyTorch computes them."""

    def gradient(vector: Tensor) -> tuple[float, Tensor]:
        leaf = vector.detach().clone().requires_grad_(True)
        value = space(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), slope

    return gradient


def compiled(space: FlatDensity, starts: Tensor) -> CompiledDensity | CapturedDensity:
    """Compile a density, or capture it on a card, and hold it to the program at the starts and beside them.

    Args:
        space: The density.
        starts: Vectors [chain, size] where it is finite.

    Raises:
        Untraceable: It cannot be compiled, or is another one away from where it was recorded.
    """
    with without_branches():
        make = CompiledDensity if space.device.type == "cpu" else CapturedDensity
        density = make(space, starts[0].to(space.device))
    with undisturbed():
        torch.manual_seed(0)
        away = JITTER * torch.randn(CHECKS, starts.shape[1], dtype=starts.dtype)
    if differ(space, density, torch.cat([starts, starts[torch.arange(CHECKS) % len(starts)] + away])):
        raise Untraceable("its course depends on values of its sites (compiled and program differ)")
    return density


def differ(space: FlatDensity, density: CompiledDensity | CapturedDensity, points: Tensor) -> bool:
    """Return whether the compiled density or its gradient is another than the program's at any of some points."""
    truth = eager(space)
    of_value, of_gradient = AGREEMENT[torch.float32 if density.single else points.dtype]
    for point in points:
        value, slope = truth(point)
        if not (math.isfinite(value) and torch.isfinite(slope).all()):
            continue
        found, found_slope = density(point)
        near = abs(found - value) <= of_value * max(1.0, abs(value))
        size = slope.abs().max().clamp(min=1.0).double()
        if not near or not bool(((found_slope - slope).abs() <= of_gradient * size).all()):
            return True
    return False


class _Nuts(Process):
    """Chains of a flat density, from their starts to their draws.

    Args:
        prepare: Makes the density and the starts [chain, size], with torch's global generator.
        backend: ``auto``, ``nutpie`` or ``pyro``.
        chains: How many chains.
        plan: What each does.

    Attributes:
        space: The density.
        backend: The one that runs.
        note: What was chosen, and why.
    """

    fixed = True

    def __init__(self, prepare: Callable[[], tuple[FlatDensity, Tensor]], backend: str, chains: int, plan: Plan):
        self.prepare, self.backend, self.chains, self.plan = prepare, backend, chains, plan
        self.total = chains * (plan.warmup + plan.draws)
        self.note = ""
        self.cut: dict[int, Chain] = {}
        self.saved = 0

    def start(self) -> None:
        self.origin = time.monotonic()
        self.space, starts = self.prepare()
        self._choose(starts, {})

    def _choose(self, starts: Tensor, finished: dict[int, Chain]) -> None:
        """Find out what can run the chains; look at the density before they do."""
        self.starts = starts
        gradient, sampler = eager(self.space), PyroSampler  # type: tuple[Gradient, type[Sampler]]
        reason = "pyro was asked for"
        density: Any = self.space
        if self.backend == "auto" and self.total < WORTH_COMPILING:
            reason = f"{self.total} iterations are too few to be worth compiling"
        elif self.backend != "pyro":
            self._refuse_invalid(gradient)
            try:
                density = compiled(self.space, self.starts)
                gradient, sampler, reason = density, CompiledSampler, ""
            except Untraceable as error:
                reason = f"the program cannot be compiled: {error}"
                if self.backend == "nutpie":
                    raise SettingError(f"backend=nutpie: {reason}; backend=pyro can sample it") from None
                log.warning("nuts runs Pyro's own kernel, which is slow: %s", reason)
        if reason:
            self._refuse_invalid(gradient)
        elif not self.space.proper:
            refuse_improper(self.space, gradient, self.starts[0], torch.eye(self.space.size).unbind())
        self.backend = "pyro" if reason else "nutpie"
        how = "compiled" if self.space.device.type == "cpu" else "as one graph of the card's"
        self.note = f"nuts ran on Pyro's kernel: {reason}" if reason else f"nuts ran {how}, on nutpie"
        self.gradient = gradient
        self.sampler: Sampler = sampler(density, self.starts, self.plan, finished)  # type: ignore[call-arg]

    def _refuse_invalid(self, gradient: Gradient) -> None:
        for start in self.starts:
            value, slope = gradient(start)
            if not math.isfinite(value):
                raise NumericalError(f"nuts: the log density is {value} where a chain starts; try another start")
            if bad := (~torch.isfinite(slope)).nonzero().flatten().tolist():
                raise NumericalError(
                    f"nuts: the gradient of the log density is {float(slope[bad[0]])} at {self.space.where(bad[0])} "
                    "where a chain starts, though the density itself is finite: look for where() around a function "
                    "that overflows, or for the root of 0"
                )

    def advance(self) -> None:
        self.sampler.advance()

    def progress(self, advances: int) -> int:
        return self.sampler.iterations()

    def status(self) -> Status | None:
        return "completed" if len(self.sampler.finished) == self.chains else None

    def stop(self) -> None:
        self.cut = self.sampler.unfinished()

    def history(self) -> pd.DataFrame:
        """Return the trace: iterations are a chain's own, whatever the order in time in which chains made them."""
        known = {**self.sampler.finished, **self.cut}
        columns = [
            {
                "iteration": np.arange(1, 1 + len(chain.vectors)),
                "chain": np.full(len(chain.vectors), number),
                "objective": chain.statistics["lp"].double().numpy(),
                "seconds": chain.seconds.numpy() - self.origin,
            }
            for number, chain in sorted(known.items())
        ]
        frame = pd.concat([pd.DataFrame(each) for each in columns], ignore_index=True)
        return frame.sort_values("iteration", kind="stable", ignore_index=True)

    def resumable(self) -> bool:
        return len(self.sampler.finished) > self.saved or not self.sampler.iterations()

    def checkpoint(self) -> dict[str, Any]:
        self.saved = len(self.sampler.finished)
        finished = {number: chain.state() for number, chain in self.sampler.finished.items()}
        return {"starts": self.starts, "backend": self.backend, "finished": finished, "origin": self.origin}

    def restore(self, saved: dict[str, Any]) -> None:
        state = saved
        finished = {number: Chain(**chain) for number, chain in state["finished"].items()}
        latest = max((float(chain.seconds[-1]) for chain in finished.values()), default=state["origin"])
        self.space, _ = self.prepare()
        shift = time.monotonic() - latest
        for chain in finished.values():
            chain.seconds += shift
        self.origin, self.backend, self.saved = state["origin"] + shift, state["backend"], len(finished)
        self._choose(state["starts"], finished)

    def result(self) -> tuple[Drawn, Drawn]:
        """Return draws, and the warm-up of the same chains.

        Of a run cut short they are those of as many of the longest chains as make the most draws of equal length; one
        cut short within the warm-up gives the last position of every chain.
        """
        known = {**self.cut, **self.sampler.finished}
        warmup = self.plan.warmup
        order = sorted(known, key=lambda number: -len(known[number].vectors))
        sizes = [count * (len(known[number].vectors) - warmup) for count, number in enumerate(order, 1)]
        count = 1 + sizes.index(max(sizes)) if max(sizes) > 0 else len(order)
        chains = [known[number] for number in sorted(order[:count])]
        length = min(len(chain.vectors) for chain in chains)

        def between(first: int, last: int) -> Drawn:
            vectors = torch.stack([chain.vectors[first:last] for chain in chains])
            names = chains[0].statistics
            return vectors, {
                name: torch.stack([chain.statistics[name][first:last] for chain in chains]) for name in names
            }

        self.way = Way.of(chains, length, self.origin)
        return between(min(warmup, length - 1), length), between(0, min(warmup, length))


@dataclass(frozen=True)
class Way:
    """What chains did from their start on, iteration by iteration.

    Attributes:
        vectors: Positions, [chain, iteration, size].
        objective: Log densities, [chain, iteration].
        passes: Gradients by then, of all chains, [iteration].
        share: Of the chains' own time, what had gone by, [iteration]: chains that ran one after another, or side by
            side, count as if they had gone on together.
        begun: Seconds before the first iteration.
    """

    vectors: Tensor
    objective: Tensor
    passes: Tensor
    share: Tensor
    begun: float

    @classmethod
    def of(cls, chains: Sequence[Chain], length: int, origin: float) -> Way:
        """Return that of the first iterations of some chains."""
        seconds = torch.stack([each.seconds[:length] for each in chains])
        spent = (seconds - seconds[:, :1]).sum(0)
        none = torch.ones(length, dtype=torch.long)  # chains of earlier versions did not count
        steps = sum(each.statistics.get("n_steps", none)[:length].double() for each in chains)
        return cls(
            torch.stack([each.vectors[:length] for each in chains]),
            torch.stack([each.statistics["lp"][:length] for each in chains]), torch.as_tensor(steps).cumsum(0),
            spent / spent[-1].clamp(min=1e-12), max(0.0, float(seconds[:, 0].min()) - origin),
        )  # fmt: skip

    def moments(self, fit: Fit, space: FlatDensity, warmup: int, loop: Loop) -> list[Moment]:
        """Return evenly chosen iterations as moments of a fit; the last is the fit's own last draw."""
        length = self.vectors.shape[1]
        most = min(loop.moments, affordable(length, {"": self.vectors[:, 0]}, budget(loop.megabytes)))
        found, first = [], [i for i in range(length) if early(i + 1)]
        if most > 2 * len(first):  # as loops keep them
            chosen = sorted({*evenly(length, most - len(first)).tolist(), *first})
        else:
            chosen = evenly(length, most).tolist()
        for i in chosen:
            objective = tuple(float(value) for value in self.objective[:, i])
            seconds = self.begun + float(self.share[i]) * max(0.0, fit.seconds - self.begun)
            kept, vectors = max(0, i + 1 - warmup), self.vectors[:, i : i + 1].clone()
            sample = partial(_drawn, fit, kept) if kept else partial(_mapped, fit, space, vectors)
            found.append(Moment(i + 1, seconds, float(self.passes[i]), objective, kept, sample))
        return found


def _drawn(fit: Fit, kept: int, _: int) -> Draws:
    """Return the draw of every chain that was the last of so many."""
    return Draws({site: value[:, kept - 1 : kept] for site, value in fit.draws.items()})


def _mapped(fit: Fit, space: FlatDensity, vectors: Tensor, _: int) -> Draws:
    """Return a state of every chain [chain, 1, size] as values of the fit's sites."""
    with pyro.validation_enabled(False), undisturbed():
        values = space.values(vectors)
    return Draws({site: values[site] for site in fit.draws})


@dataclass(frozen=True)
class Sampled:
    """What chains have brought.

    Attributes:
        space: The density.
        starts: Where chains started, [chain, size].
        gradient: Log density and gradient, the fastest there is.
        vectors: Draws, [chain, draw, size].
        statistics: ArviZ name -> [chain, draw].
        warmup: The same of the warm-up.
        finished: The numbers of chains that came to their end.
        backend: ``nutpie`` or ``pyro``.
        note: What ran, and why.
        run: Status, trace and time.
        way: All iterations of the chains that draws are of.
    """

    space: Any
    starts: Tensor
    gradient: Gradient
    vectors: Tensor
    statistics: dict[str, Tensor]
    warmup: Drawn
    finished: frozenset[int]
    backend: str
    note: str
    run: Run
    way: Way


def sample_density(
    prepare: Callable[[], tuple[FlatDensity, Tensor]], backend: str, chains: int, plan: Plan, loop: Loop,
    description: str,
) -> Sampled:  # fmt: skip
    """Run chains of a flat density, compiled where it can be.

    Args:
        prepare: Makes the density and the starts [chain, size], with torch's global generator.
        backend: ``auto``, ``nutpie`` or ``pyro``.
        chains: How many chains.
        plan: What each does.
        loop: Seed, progress, checkpoints.
        description: Shown beside the progress bar.

    Raises:
        SettingError: ``backend=nutpie`` for a density that cannot be compiled.
        NumericalError: The posterior is improper, or density or gradient are not finite where a chain starts.
    """
    process = _Nuts(prepare, backend, chains, plan)
    run = drive(process, loop, description)
    (vectors, statistics), warmup = process.result()
    if isinstance(process.gradient, CompiledDensity | CapturedDensity):
        flat = vectors.flatten(0, 1)
        chosen = evenly(len(flat), CHECKS)
        if differ(process.space, process.gradient, flat[chosen]):
            raise NumericalError("nuts: compiled density and program differ at a draw; use backend=pyro")
    return Sampled(
        process.space, process.starts, process.gradient, vectors, statistics, warmup,
        frozenset(process.sampler.finished), process.backend, process.note, run, process.way,
    )  # fmt: skip


def refuse_improper(space: FlatDensity, gradient: Gradient, point: Tensor, directions: Any) -> None:
    """Refuse a density that does not fall along a straight line as it must to have an integral.

    Args:
        space: The density.
        gradient: Its value.
        point: Where the lines begin.
        directions: Of the lines.

    Raises:
        NumericalError: There is such a line; the message names the site.
    """
    here = gradient(point)[0]
    for direction in directions:
        for sign in (1.0, -1.0):
            step = sign * direction.to(point.dtype)
            near, far = (gradient(point + distance * step)[0] for distance in FAR)
            if not (math.isfinite(near) and math.isfinite(far)) or far < here - DEEP:
                continue
            if (far - near) / math.log(FAR[1] / FAR[0]) > STEEP:
                worst = int(direction.abs().argmax())
                raise NumericalError(
                    f"the posterior is improper: its density does not fall toward infinity along {space.where(worst)}, "
                    "which neither a prior nor the data hold"
                )


def refuse_flat(space: FlatDensity, gradient: Gradient, vectors: Tensor) -> None:
    """Refuse a density that is flat along a line across sites, which looking along each site does not show.

    Chains that have not met ask for a look at the directions of least curvature.

    Args:
        space: The density.
        gradient: Its value and gradient.
        vectors: Draws, [chain, draw, size].

    Raises:
        NumericalError: It is flat along a line; the message names the sites.
    """
    if vectors.shape[1] < 4 or float(_rhat(vectors.double()).max()) < SUSPICIOUS:
        return
    point, scale = vectors[0, -1].double(), vectors.double().flatten(0, 1).std(0).clamp(min=1e-3)
    columns = []
    for i, unit in enumerate(torch.eye(space.size, dtype=torch.float64)):
        step = 1e-4 * scale[i] * unit
        slopes = [gradient((point + sign * step).to(vectors.dtype))[1].double() for sign in (1, -1)]
        columns.append((slopes[1] - slopes[0]) / (2e-4 * scale[i]))
    hessian = torch.stack(columns)
    if not bool(torch.isfinite(hessian).all()):
        return
    axes = torch.linalg.eigh(0.5 * (hessian + hessian.T))[1].T[:DIRECTIONS]
    away = vectors.double().flatten(0, 1) - point
    for axis in axes:
        spread = float((away @ axis).std()) * axis
        near, far = (gradient((point + factor * spread).to(vectors.dtype))[0] for factor in NEARER)
        here = gradient(point.to(vectors.dtype))[0]
        flat = far > here - DEEP and (far - near) / math.log(NEARER[1] / NEARER[0]) > STEEP
        if math.isfinite(far) and flat:
            parts = [space.where(int(i)) for i in (axis.abs() > 0.3 * axis.abs().max()).nonzero()]
            raise NumericalError(
                f"the posterior is improper: its density does not fall along a line through {', '.join(parts[:4])}, "
                "which neither a prior nor the data hold together"
            )


def _rhat(vectors: Tensor) -> Tensor:
    """Return the split R-hat of every coordinate (Gelman et al. 2013, section 11.4), [size]."""
    half = vectors.shape[1] // 2
    parts = torch.cat([vectors[:, :half], vectors[:, half : 2 * half]])
    within, between = parts.var(1).mean(0), parts.mean(1).var(0)
    return ((half - 1) / half + between / within.clamp(min=1e-300)).sqrt()


@dataclass(frozen=True)
class _Preparation:
    """Makes the density of a posterior and the starts of its chains."""

    posterior: Posterior
    settings: Nuts

    def __call__(self) -> tuple[FlatDensity, Tensor]:
        posterior, chains, start = self.posterior, self.settings.chains, self.settings.start
        own = posterior.initial(chains)
        refuse_large("nuts", sum(value[0].numel() for value in own.values()), self.settings.max_unknowns)
        space = posterior.density({site: value[0] for site, value in own.items()})
        if isinstance(start, dict):
            return space, beside(space, Draws(start), chains)
        if start == "prior":
            values = [posterior.on(self.posterior.few).prior_draw() for _ in range(chains)]
        else:
            values = [{site: value[chain] for site, value in own.items()} for chain in range(chains)]
        vectors = torch.stack([space.flatten(space.unconstrain(value)) for value in values]).detach()
        vectors = vectors.cpu()  # samplers have theirs there; the density alone is on a card
        if start == "laplace":
            vectors = torch.stack([pathfinder(eager(space), vector) for vector in vectors])
        return space, vectors


def beside(space: FlatDensity, draws: Draws, chains: int) -> Tensor:
    """Return starts from draws [chain, draw, *event]: evenly chosen, and moved a little, as no two may be the same."""
    flat = list(Draws({site: draws[site] for site in space.sites}).each())
    chosen = evenly(len(flat), chains, again=True)
    vectors = torch.stack([space.flatten(space.unconstrain(flat[int(i)])) for i in chosen]).detach().cpu()
    return vectors + JITTER * torch.randn_like(vectors) / math.sqrt(vectors.shape[1])


@dataclass(frozen=True, kw_only=True)
class Nuts(Method):
    """Run NUTS (Hoffman and Gelman 2014, JMLR 15) on a program with its discrete sites summed out.

    Draws have ``lp``, ``diverging`` and ``step_size``; compiled also ``energy``, ``tree_depth``, ``n_steps`` and
    ``acceptance_rate``. Checkpoints are written after every finished chain.

    Attributes:
        backend: ``nutpie`` compiles the density and runs nutpie's sampler, all cores at once; ``pyro`` runs Pyro's;
            ``auto`` compiles what can be compiled when the run is long enough for it.
        chains: Chains; each has its own seed.
        warmup: Adaptation steps (step size and diagonal mass matrix), thrown away.
        draws: Draws kept per chain.
        start: Where chains start: ``model`` (points of ``Posterior.initial``), ``prior``, ``laplace`` (draws from a
            Gaussian on an optimiser's path) or draws of another fit.
        target_accept_prob: Target of the step size adaptation.
        max_tree_depth: At most 2^depth leapfrog steps a draw.
        max_unknowns: Limit on the size of the problem.
    """

    fewest_on_a_card = LARGE

    backend: str = one_of(*BACKENDS)
    chains: int = whole()
    warmup: int = whole()
    draws: int = whole()
    start: Any = "model"
    target_accept_prob: float = between(0, 1)
    max_tree_depth: int = whole()
    max_unknowns: int = whole()

    def __call__(self, posterior: Posterior, loop: Loop) -> Fit:
        """Fit the posterior.

        Raises:
            NotApplicable: More unknowns than the limit.
            NumericalError: The posterior is improper, or density or gradient are not finite where a chain starts.
        """
        plan = Plan(self.warmup, self.draws, self.target_accept_prob, self.max_tree_depth, loop.seed)
        prepare = _Preparation(posterior, self)
        with pyro.validation_enabled(False):  # doubles the speed; the program was run with it on
            found = sample_density(
                prepare, self.backend, self.chains, plan, loop, f"{self.name} ({self.chains} chains)"
            )
            if not found.space.proper:
                refuse_flat(found.space, found.gradient, found.vectors)
            values = found.space.values(found.vectors)
        run = found.run
        sizes = run.trace.groupby("chain").size()
        runs = {
            "objective": last_objectives(run.trace, self.chains),
            "iterations": [int(sizes.get(chain, 0)) for chain in range(self.chains)],
            "status": ["completed" if c in found.finished else "interrupted" for c in range(self.chains)],
        }
        fit = fit_of(
            self, posterior, run, loop, runs, kind="samples", draws={site: values[site] for site in posterior.sites},
            objective_name="mean_log_density_unconstrained", objective=float(found.statistics["lp"].mean()),
            sample_stats=found.statistics, metrics={"backend": found.backend, "warmup": self.warmup},
            notes=[found.note],
        )  # fmt: skip
        fit.moments = found.way.moments(fit, found.space, self.warmup, loop)
        return fit
