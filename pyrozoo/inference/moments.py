"""States that a loop keeps on its way, evenly chosen though nobody knows where it ends: what a movie shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.moments import DRAWS, Moment, chosen
from pyrozoo.core.draws import Draws
from pyrozoo.core.seeds import seeded

SHARE, MEGABYTES = 1 / 8, 25.0
"""Of the megabytes of draws, what states on the way may take; and what they may where nobody says how many."""

FEW = 20
"""States of which none are kept for being early: there would be no others."""

ABOUT = ("seconds", "passes", "kept", "objective")
"""What is known of a state beside what it is made of."""


def budget(megabytes: float | None) -> float:
    """Return the megabytes of states on the way, where draws may take so many."""
    return MEGABYTES if megabytes is None else megabytes * SHARE


@dataclass(frozen=True)
class Recorded:
    """A state that was kept.

    Attributes:
        step: Iterations made.
        seconds: Since the start.
        passes: Data passes made, of all restarts or chains.
        kept: Draws of each chain kept by then.
        objective: Of every restart or chain, [chain].
        content: What it says is made of these, by name.
    """

    step: int
    seconds: float
    passes: float
    kept: int
    objective: Tensor
    content: Mapping[str, Tensor]

    @property
    def bytes(self) -> int:
        """Return how many bytes the state takes."""
        return sum(each.numel() * each.element_size() for each in self.content.values())


def early(step: int) -> bool:
    """Return whether a step is a power of two: most of what happens at all happens early."""
    return step & (step - 1) == 0


class Recorder:
    """Keeps every k-th state, and those of ``early`` steps; when there are too many, k doubles.

    Where states are too large for that, the early ones are no more than others.

    Args:
        most: States at most; 0 keeps none.
        megabytes: What draws may take; states may take ``SHARE`` of that.
    """

    def __init__(self, most: int, megabytes: float | None):
        self.most, self.limit = most, 1e6 * budget(megabytes)
        self.states: list[Recorded] = []
        self.every, self.bytes, self.written = 1, 0, -1
        self.early, self.cut, self.settled = True, False, 0

    def due(self, step: int) -> bool:
        """Return whether the state after this step is wanted."""
        return self.most > 0 and (self._wanted(step) or not self.states)

    def _wanted(self, step: int) -> bool:
        return step % self.every == 0 or (self.early and early(step))

    def add(self, state: Recorded, settled: int = 0) -> None:
        """Keep a state; none up to ``settled``, the step where the best restart so far ended, makes room for it."""
        self.states.append(state)
        self.bytes += state.bytes
        self.settled = max(self.settled, settled)
        while sum(each.step > self.settled for each in self.states) > self.most:
            self._halve(self.settled)
        while len(self.states) > 1 and self.bytes > self.limit:
            self.cut, self.early = True, False
            self._halve(0)

    def _halve(self, settled: int) -> None:
        first, *rest = self.states
        self.every *= 2
        self.early = self.early and self.most > FEW
        self.states = [first, *(each for each in rest if each.step <= settled or self._wanted(each.step))]
        self.bytes = sum(each.bytes for each in self.states)

    def grown(self) -> dict[str, Tensor]:
        """Return the states that are new since the last call, as tensors by name."""
        result: dict[str, Tensor] = {}
        for each in self.states:
            if each.step > self.written:
                known = {name: torch.as_tensor(getattr(each, name), dtype=torch.float64) for name in ABOUT}
                result |= {f"{each.step} {name}": value for name, value in known.items()}
                result |= {f"{each.step} of {name}": value for name, value in each.content.items()}
        self.written = max((each.step for each in self.states), default=self.written)
        return result

    def settings(self) -> dict[str, Any]:
        """Return what ``restore`` needs to know beside states."""
        known = {"every": self.every, "early": self.early, "cut": self.cut, "settled": self.settled}
        return {**known, "steps": [each.step for each in self.states]}

    def restore(self, settings: Mapping[str, Any], entries: Iterable[Mapping[str, Tensor]]) -> None:
        """Take up what ``settings`` returned, and what ``grown`` did each time."""
        known: dict[int, dict[str, Any]] = {}
        for entry in entries:
            for key, value in entry.items():
                step, _, name = key.partition(" ")
                known.setdefault(int(step), {})[name] = value
        self.every, self.early, self.cut = settings["every"], settings["early"], settings["cut"]
        self.settled = settings["settled"]
        for at in settings["steps"]:
            parts = known[at]
            content = {name.removeprefix("of "): value for name, value in parts.items() if name.startswith("of ")}
            about = (float(parts["seconds"]), float(parts["passes"]), int(parts["kept"]), parts["objective"])
            self.states.append(Recorded(at, *about, content))
        self.bytes = sum(each.bytes for each in self.states)
        self.written = max(known, default=-1)

    def notes(self) -> list[str]:
        """Say what did not fit, if anything."""
        said = f"{len(self.states)} states are kept on the way, within {self.limit / 1e6:g} MB (posterior_megabytes)"
        return [said] if self.cut else []


Telling = Callable[[Mapping[str, Tensor], int], Draws]
"""What a state is made of, and a number of draws -> what it says."""


def tell_moments(
    fit: Fit, recorder: Recorder, passes: float, telling: Telling, chains: Sequence[int] | None = None,
    count: int = DRAWS,
) -> None:  # fmt: skip
    """Give a fit its moments: the states that were kept on the way, and last what the fit itself says.

    Args:
        fit: The fit, with its draws.
        recorder: Has those on the way.
        passes: Data passes made in all.
        telling: What a state says; draws from a q from the fit's seed.
        chains: The restart, or the chains, that the fit is of; None: all.
        count: Draws from a q; of a large model fewer, as many as states may take.
    """
    count = max(1, min(count, int(recorder.limit / (8 * fit.draws.scalars))))
    device = fit.posterior.data.values.device

    def made(state: Recorded) -> Callable[[int], Draws]:
        def sample(number: int) -> Draws:
            with seeded(fit.seed):
                return telling({name: value.to(device) for name, value in state.content.items()}, number)

        return sample

    moments = []
    for each in chosen([each for each in recorder.states if each.step < fit.iterations], recorder.most):
        every = each.objective.tolist()
        objective = every if chains is None else [every[chain] for chain in chains]
        known = tuple(value for value in objective if value == value)
        moments.append(Moment(each.step, each.seconds, each.passes, known, each.kept, made(each), count))
    fit.moments = [*moments, last_moment(fit, passes, count)] if recorder.most else ()
    fit.notes += recorder.notes()


def last_moment(fit: Fit, passes: float, count: int = DRAWS) -> Moment:
    """Return the moment that is the fit itself.

    Args:
        fit: The fit, with its draws.
        passes: Data passes made in all.
        count: Draws from a q.
    """
    samples = fit.kind == "samples"

    def sample(number: int) -> Draws:
        if fit.sampler is None:
            return Draws({site: value[:, -1:] for site, value in fit.draws.items()})
        with seeded(fit.seed):
            return fit.sampler(number)[0]

    objectives = fit.runs["objective"].tolist() if samples else [fit.objective]
    known = tuple(float(value) for value in objectives if value == value)
    kept = fit.draws.shape[1] if samples else 0
    return Moment(fit.iterations, fit.seconds, passes, known, kept, sample, count)


def only_moment(fit: Fit, loop: Loop, passes: float) -> None:
    """Give a fit that is made at once its one moment, which is itself."""
    fit.moments = [last_moment(fit, passes)] if loop.moments else ()
