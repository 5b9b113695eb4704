"""Fits from elsewhere: ArviZ InferenceData as a fit to be judged."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Program
from pyrozoo.contracts.moments import Moment
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.data.arguments import Arguments
from pyrozoo.diagnostics.metrics import convergence

if TYPE_CHECKING:
    import arviz as az


MOST_MOMENTS = 200
"""Draws whose times are kept."""


class DrawsOnly(Posterior):
    """A posterior of which nothing is known but draws: every quantity is an invariant."""

    def __init__(self, model: Any, data: Any, sites: Mapping[str, tuple[str, ...]]):
        super().__init__(model, data)
        self._sites = sites

    @cached_property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """The quantities -> names of their dimensions."""
        return self._sites

    @property
    def observed(self) -> str:
        """A name for what nobody knows."""
        return "data"

    def align(self, draws: Values, reference: Values | None = None) -> Draws:
        """Return the draws."""
        return Draws(draws)

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Draws:
        """Return the draws."""
        return Draws({site: draws[site] for site in self.sites})

    def log_density(self, draws: Values, pointwise: Tensor | None = None) -> Tensor:
        """Refuse: there is no program."""
        raise NotApplicable("draws alone have no density")

    @cached_property
    def invariant_dims(self) -> Mapping[str, tuple[str, ...]]:
        """The same as the sites."""
        return self.sites


class Foreign(Fit):
    """A fit from elsewhere."""

    @cached_property
    def invariants(self) -> Draws:
        """Invariants of all draws: the log-likelihood is computed by our own model, if there is one."""
        return Draws(self.posterior.invariants(self.draws))


def adopted(
    fits: Sequence[Fit | az.InferenceData], reference: Fit | az.InferenceData | None
) -> tuple[list[Fit], Fit | None]:  # fmt: skip
    """Return fits as they are, and InferenceData as fits of the same posterior, or, without any of ours, of draws.

    Raises:
        SettingError: InferenceData without draws, or without a site that the model has.
    """
    whole = [*fits, *([reference] if reference is not None else [])]
    ours = next((each for each in whole if isinstance(each, Fit)), None)
    foreign = [each for each in whole if not isinstance(each, Fit)]
    if not whole:
        return [], None
    posterior = _shared(foreign) if ours is None else ours.posterior
    count = itertools.count(1)
    result = [each if isinstance(each, Fit) else _adopt(each, posterior, ours, next(count)) for each in whole]
    return (result[:-1], result[-1]) if reference is not None else (result, None)


def _shared(foreign: Sequence[az.InferenceData]) -> Posterior:
    """Return a posterior of the quantities that all have, in the same shapes."""
    found = [{str(n): v for n, v in _posterior(each).items()} for each in foreign]
    first = found[0]
    names = [n for n in first if all(n in each and each[n].shape[2:] == first[n].shape[2:] for each in found)]
    if not names:
        raise SettingError("the InferenceData have no quantity in common")
    sites = {name: tuple(str(dim) for dim in first[name].dims[2:]) for name in names}
    return DrawsOnly(Program(None, "draws"), Arguments(), sites)


def _posterior(data: az.InferenceData) -> Any:
    if "posterior" not in data:
        raise SettingError("InferenceData without a group posterior cannot be compared: it has no draws")
    return data["posterior"]


def _adopt(data: az.InferenceData, posterior: Posterior, ours: Fit | None, number: int) -> Fit:
    draws, there = {}, _posterior(data)
    for site in posterior.sites:
        if site not in there:
            has = ", ".join(map(str, there))
            raise SettingError(f"InferenceData {number} has no {site!r} in its posterior; it has {has}")
        value = torch.as_tensor(np.asarray(there[site].values))
        if ours is not None:
            expected = ours.draws[site].shape[2:]
            if value.shape[2:] != expected:
                shapes = f"{tuple(value.shape[2:])}, not {tuple(expected)}"
                raise SettingError(f"InferenceData {number}: {site} has shape {shapes}")
            value = value.to(ours.draws[site].dtype)
        draws[site] = value
    stats: Any = data.get("sample_stats", {})
    # PyMC and others write what they know beside one group or the other.
    attributes = {**data.attrs, **getattr(stats, "attrs", {}), **there.attrs}
    library = str(attributes.get("inference_library", "foreign"))
    known = {name: torch.as_tensor(np.asarray(stats[name].values)) for name in ("diverging", "energy") if name in stats}
    lacking = [name for name in ("sample_stats", "log_likelihood") if name not in data]
    warmup, seconds = int(attributes.get("tuning_steps", 0)), _total(stats, attributes)
    times, evenly_spread = _times(stats, seconds, warmup, next(iter(draws.values())).shape[1])
    fit = Foreign(
        posterior=posterior, method=library, kind="samples", draws=Draws(draws), trace=pd.DataFrame(),
        runs=pd.DataFrame(), status="completed", objective_name="", objective=float("nan"),
        iterations=int(np.prod(next(iter(draws.values())).shape[:2])), seconds=seconds, seed=0, sample_stats=known,
        notes=[f"no {' and no '.join(lacking)} in what was given"] if lacking else [],
        moments=_moments(Draws(draws), warmup, times, _passes(data, warmup)),
    )  # fmt: skip
    if evenly_spread:
        fit.notes.append("draws are taken to have come evenly over sampling_time: no time of each is given")
    about = {name: getattr(fit, name) for name in ("method", "kind", "status", "seed", "iterations")}
    figures = {"model": fit.model_name, **about, **convergence(fit), "warmup": warmup, "seconds": seconds}
    fit.metrics = {n: value for n, value in figures.items() if not (isinstance(value, float) and np.isnan(value))}
    return fit


def _total(stats: Any, attributes: Mapping[str, Any]) -> float:
    """Return the seconds of all chains, warm-up among them; NaN: nothing says."""
    if "sampling_time" in attributes or "seconds" in attributes:
        return float(attributes.get("sampling_time", attributes.get("seconds")))
    if "perf_counter_diff" in stats and "perf_counter_start" in stats:
        starts, spent = (stats[f"perf_counter_{end}"].values for end in ("start", "diff"))
        return float((starts + spent).max() - starts.min())
    return float(stats["seconds"].values.max()) if "seconds" in stats else float("nan")


def _times(stats: Any, total: float, warmup: int, count: int) -> tuple[np.ndarray, bool]:
    """Return when every chain had so many draws, from none to all, and whether they are only thought to come evenly.

    The time of each draw is ``seconds`` since the start, or the end of PyMC's ``perf_counter_start`` and
    ``perf_counter_diff``, among the sample_stats. Of chains that ran one after another the last counts.
    """
    if "seconds" in stats:
        ends = np.asarray(stats["seconds"].values, dtype=float)
    elif "perf_counter_diff" in stats and "perf_counter_start" in stats:
        ends = np.asarray(stats["perf_counter_start"].values + stats["perf_counter_diff"].values, dtype=float)
        ends += total - ends.max()
    else:
        return total * (warmup + np.arange(count + 1)) / (warmup + count), not np.isnan(total)
    last = ends.max(0)
    before = 2 * last[0] - last[1] if count > 1 else last[0]
    return np.concatenate([[max(0.0, before)], last]), False


def _passes(data: az.InferenceData, warmup: int) -> np.ndarray | None:
    """Return the gradients of all chains by the time of so many draws, from none; None: nothing counts them all."""
    stats: Any = data.get("sample_stats", {})
    early: Any = data.get("warmup_sample_stats", {})
    if "n_steps" not in stats or (warmup and "n_steps" not in early):
        return None
    begun = float(early["n_steps"].values.sum()) if warmup else 0.0
    return begun + np.concatenate([[0.0], np.asarray(stats["n_steps"].values, dtype=float).sum(0).cumsum()])


def _moments(draws: Draws, warmup: int, times: np.ndarray, passes: np.ndarray | None) -> list[Moment]:
    """Return evenly chosen draws as moments, first of all the end of the warm-up."""

    def sample(kept: int, _: int) -> Draws:
        return Draws({site: value[:, max(0, kept - 1) : max(1, kept)] for site, value in draws.items()})

    count = draws.shape[1]
    at = evenly(count + 1, MOST_MOMENTS).tolist()
    done = np.full(count + 1, np.nan) if passes is None else passes
    return [Moment(warmup + k, float(times[k]), float(done[k]), (), k, partial(sample, k)) for k in at]
