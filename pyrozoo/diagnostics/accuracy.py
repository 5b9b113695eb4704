"""Accuracy against work: how far the means and the spreads of a method are from the reference's at any time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.moments import Moment
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.diagnostics.compare import (
    LEFT_OUT_OF_POINTS,
    MOMENTS_OF_TIME,
    MOST_SDS,
    ROUNDING,
    Comparison,
    clock,
)
from pyrozoo.diagnostics.metrics import MOST_SCALARS
from pyrozoo.diagnostics.outline import invariants_at, outline

WORK = ("seconds", "steps", "passes")
"""What work is counted in."""

OF = ("mean", "sd")

_Both = Mapping[str, np.ndarray]
"""Of means, and of log sds."""

TARGETS = (0.3, 0.1, 0.03, 0.01)
"""Errors until which work is counted."""

REPEATS = 200
"""Repetitions of the noise behind a band."""

LOOKED_AT = 400
"""Draws that the noise of a fit is made of."""

ENDS = (0.05, 0.95)
"""Quantiles that a band ends at."""

COLUMNS = ("fit", *WORK, *(f"error_{of}{end}" for of in OF for end in ("", "_low", "_high")))


@dataclass(frozen=True)
class Accuracy:
    """How the errors of the fits of a comparison fall with work.

    With m and s the mean and the sd of a quantity by a method, from all that it has by a time, and m* and s* those by
    the reference, over the invariants of the model but its log-likelihood::

        error_mean = root mean square of (m - m*) / s*
        error_sd = root mean square of log(s / s*)

    A sampler's are of its draws so far, of all chains; warm-up counts as work, and its states are no draws. Those of
    what optimises are of its q, or of its point, which has no sd, at that time.

    Attributes:
        curves: A line per fit and time: fit, the work by then, and the errors. ``_low`` and ``_high`` are the ends of a
            band in which nine of ten repetitions of method and reference, with other seeds, would lie.
        floors: The reference's own Monte Carlo error of means and of spreads: the size of error below which nothing can
            be said, by ``mean`` and ``sd``.
        quantities: How many.
        base: The reference.
    """

    curves: pd.DataFrame
    floors: dict[str, float]
    quantities: int
    base: str

    @cached_property
    def table(self) -> pd.DataFrame:
        """A line per fit: its last errors, and the work until they stay below ``TARGETS`` that can be told apart."""
        rows = []
        for name, curve in self.curves.groupby("fit", sort=False):
            row: dict[str, object] = {"fit": name}
            row |= {f"error_{of}": curve[f"error_{of}"].iloc[-1] for of in OF}
            for of in OF:
                for target in self.targets(of):
                    for unit in WORK:
                        row[f"{unit}_to_{of}_{target:g}"] = until(curve[unit], curve[f"error_{of}"], target)
            rows.append(row)
        return pd.DataFrame(rows)

    def targets(self, of: str) -> list[float]:
        """Return the errors that the reference can tell from none."""
        return [target for target in TARGETS if target > self.floors[of]]


def until(work: pd.Series, error: pd.Series, target: float) -> float:
    """Return the work after which an error stays below a target; NaN: it does not, or there is no such error."""
    late = np.flatnonzero(~(error.to_numpy() < target))
    first = late[-1] + 1 if len(late) else 0
    return float(work.iloc[first]) if first < len(work) else math.nan


@dataclass(frozen=True)
class _Noise:
    """The Monte Carlo error of all draws of a fit, of means and of log sds, in the reference's sds.

    Attributes:
        size: Standard errors, [quantity].
        repeats: Errors as other seeds would have them, correlated as the draws are, [repetition, quantity].
    """

    size: np.ndarray
    repeats: np.ndarray

    @classmethod
    def of(cls, influence: np.ndarray, size: np.ndarray, seed: int) -> _Noise:
        """Return that of a statistic whose sensitivity to single draws is known, [draw, quantity], up to scale."""
        some = influence[evenly(len(influence), LOOKED_AT).numpy()]
        some = some - some.mean(0)
        unit = some / np.maximum(np.sqrt((some**2).sum(0)), 1e-300)
        drawn = np.random.default_rng(seed).normal(size=(REPEATS, len(some))) @ unit
        return cls(size, drawn * size)

    @classmethod
    def none(cls, quantities: int) -> _Noise:
        """Return no noise."""
        return cls(np.zeros(quantities), np.zeros((REPEATS, quantities)))


def accuracy_of(comparison: Comparison) -> Accuracy | None:
    """Return how errors fall with work; None: there is no reference that has converged, or nothing to hold to it.

    Of fits of several posteriors, as in a sweep over K, those held to the first reference.
    """
    base = comparison.reference
    if base is None:
        return None
    known = comparison.invariants[comparison.invariants["fit"] == base]
    if not comparison.table["reference_judges"].get(comparison.names.index(base), 1):
        return None
    places = _places(known)
    if not len(places):
        return None
    target = _Target(known.iloc[places], places)
    reference = _values(comparison.fit(base), places, target)
    noises = {of: _noise(reference, target.rows, of, seed=0) for of in OF}
    curves = []
    for name, fit, its in zip(comparison.names, comparison.fits, comparison.references, strict=True):
        if its != base:
            continue
        rows = comparison.invariants[comparison.invariants["fit"] == name].iloc[places]
        own = _Curve(fit, rows, target, noises, own=name == base).frame()
        curves.append(own.assign(fit=name))
    whole = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=list(COLUMNS))
    floors = {of: _size(noises[of].size) for of in OF}
    return Accuracy(whole[list(COLUMNS)], floors, len(places), base) if len(whole) else None


def _places(known: pd.DataFrame) -> np.ndarray:
    """Return the places of the quantities that count: invariants of which the reference is not certain."""
    varies = known["sd"].to_numpy() > ROUNDING * known["mean"].abs().to_numpy()
    own = known["quantity"].to_numpy() != LEFT_OUT_OF_POINTS
    places = np.flatnonzero(varies & own)
    return places[evenly(len(places), MOST_SCALARS).numpy()]


@dataclass(frozen=True)
class _Target:
    """What the reference says of the quantities that count: its lines of the table, and their places."""

    rows: pd.DataFrame
    places: np.ndarray

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """Return values [..., quantity] in the reference's sds from its means."""
        return (values - self.rows["mean"].to_numpy()) / self.rows["sd"].to_numpy()


def _values(fit: Fit, places: np.ndarray, target: _Target, draws: Draws | None = None) -> np.ndarray:
    """Return draws of the quantities, standardised, [chain, draw, quantity]: of the fit, or those that are given."""
    found = outline(fit).invariants if draws is None else invariants_at(fit, draws)
    whole = torch.cat([value.flatten(2) if value.ndim > 2 else value.unsqueeze(2) for value in found.values()], 2)
    return target.standardised(whole[:, :, places.tolist()].double().cpu().numpy())


def _noise(values: np.ndarray, rows: pd.DataFrame, of: str, seed: int) -> _Noise:
    """Return the noise of all of a fit's draws, standardised, whose lines of the table are known."""
    flat = values.reshape(-1, values.shape[-1])
    away = flat - flat.mean(0)
    if of == "mean":
        size = rows["mcse"].to_numpy() / np.maximum(rows["reference_sd"].to_numpy(), 1e-300)
        return _Noise.of(away, np.nan_to_num(size), seed)
    return _Noise.of(away**2, np.nan_to_num(rows["sd_error"].to_numpy()), seed)


def _size(errors: np.ndarray) -> float:
    return float(np.sqrt((errors**2).mean()))


@dataclass(frozen=True)
class _Curve:
    """The errors of one fit at some times.

    Attributes:
        fit: The fit.
        rows: Its lines of the table.
        target: What the reference says.
        noises: The noise of the reference, of means and of log sds.
        own: Whether the fit is the reference.
    """

    fit: Fit
    rows: pd.DataFrame
    target: _Target
    noises: dict[str, _Noise]
    own: bool

    def frame(self) -> pd.DataFrame:
        """Return the work and the errors, a line per time."""
        if self.fit.kind == "samples":
            return self._sampled()
        return self._searched() if not self.own else self._reference()

    def _sampled(self) -> pd.DataFrame:
        """Return the errors of the draws so far."""
        values = _values(self.fit, self.target.places, self.target)
        chains, count = values.shape[:2]
        at = np.unique(np.geomspace(1, count, MOMENTS_OF_TIME).round().astype(int))
        at = at[at * chains > 1]
        total = (chains * at)[:, None]
        means = values.sum(0).cumsum(0)[at - 1] / total
        squares = (values**2).sum(0).cumsum(0)[at - 1] / total
        sds = np.sqrt(np.maximum(squares - means**2, 0) * total / (total - 1))
        noises = {of: _noise(values, self.rows, of, seed=1) for of in OF}
        work, shares = clock(self.fit, at / count), np.sqrt(count / at)[:, None]
        logs = np.log(_held(sds))
        if self.own:
            # The variance of the mean of t among T draws about that of all is 1/t - 1/T of one draw's, not 1/t.
            known = np.sqrt(1 - at / count)[:-1, None]
            work, shares, means, logs = work.iloc[:-1], shares[:-1], means[:-1] / known, logs[:-1] / known
        return self._lines(work, {"mean": means, "sd": logs}, noises, {"mean": shares, "sd": shares})

    def _searched(self) -> pd.DataFrame:
        """Return the errors of q, or of the point, at moments; the last are those of the fit itself.

        A moment has few draws from q. They are made from the same random numbers as those of the last moment, of which
        the fit has many more draws: these are a control variate.
        """
        last = _values(self.fit, self.target.places, self.target)
        last = last.reshape(-1, last.shape[-1])
        moments = _spaced(self.fit.moments)
        pilot = self._draws(moments[-1]) if moments else last
        found = [_controlled(self._draws(moment), pilot, last) for moment in moments[:-1]]
        found.append(_controlled(last, last, last))
        work = pd.DataFrame([(m.seconds, m.step, m.passes) for m in moments], columns=list(WORK))
        if not moments:
            work = pd.DataFrame([(self.fit.seconds, self.fit.iterations, np.nan)], columns=list(WORK))
        noises = {of: _noise(last[None], self.rows, of, seed=1) for of in OF}
        errors, shares = ({of: np.stack([each[of] for each in part]) for of in OF} for part in zip(*found, strict=True))
        return self._lines(work, errors, noises, shares)

    def _reference(self) -> pd.DataFrame:
        """Return what a reference that is no sampler says of itself: its own Monte Carlo error, when it is there."""
        errors = {f"error_{of}{end}": _size(self.noises[of].size) for of in OF for end in ("", "_low", "_high")}
        passes = self.fit.moments[-1].passes if self.fit.moments else np.nan
        work = dict(zip(WORK, (self.fit.seconds, self.fit.iterations, passes), strict=True))
        return pd.DataFrame([{**work, **errors}])

    def _draws(self, moment: Moment) -> np.ndarray:
        values = _values(self.fit, self.target.places, self.target, moment.draws)
        return values.reshape(-1, values.shape[-1])

    def _lines(
        self, work: pd.DataFrame, errors: _Both, noises: Mapping[str, _Noise], shares: _Both
    ) -> pd.DataFrame:  # fmt: skip
        """Return the work with the errors of means and of log sds, and with their bands.

        Args:
            work: A line per time.
            errors: Of means and of log sds, [time, quantity].
            noises: The noise of all of the fit's draws.
            shares: The noise at each time in units of that, [time, quantity].
        """
        result = work.reset_index(drop=True)
        for of in OF:
            known = errors[of].clip(-MOST_SDS, MOST_SDS)
            theirs = _Noise.none(known.shape[1]) if self.own else self.noises[of]
            lines = [self._line(each, noises[of], share, theirs) for each, share in zip(known, shares[of], strict=True)]
            result[[f"error_{of}", f"error_{of}_low", f"error_{of}_high"]] = lines
        return result

    def _line(
        self, errors: np.ndarray, noise: _Noise, share: np.ndarray, theirs: _Noise
    ) -> tuple[float, float, float]:  # fmt: skip
        """Return the root mean square of errors [quantity], and where other seeds would put it.

        What is left of the errors when the noise is taken off is kept, and noise is put on it anew: Monte Carlo errors
        are normal, and correlated as the draws are. A sampler's noise is its error. A search knows its q, and draws
        from that are only how it is measured: their noise is taken off, down to what the reference can tell.
        """
        square, own = float((errors**2).mean()), float(((noise.size * share) ** 2).mean())
        if not math.isfinite(square):
            return math.nan, math.nan, math.nan
        rest = max(0.0, 1 - (own + float((theirs.size**2).mean())) / square) if square else 0.0
        drawn = ((errors * math.sqrt(rest) + noise.repeats * share + theirs.repeats[::-1]) ** 2).mean(1)
        found = np.sqrt(np.array([square, *np.quantile(drawn, ENDS)]))
        if self.fit.kind != "samples":
            found = np.maximum(np.sqrt(np.maximum(found**2 - own, 0)), np.minimum(found, _size(theirs.size)))
        error, low, high = found.tolist()
        return error, low, high


def _held(spread: np.ndarray) -> np.ndarray:
    """Return sds, or variances, in the reference's, within what is told apart."""
    return np.clip(spread, 1 / MOST_SDS, MOST_SDS)


def _spaced(moments: Sequence[Moment]) -> list[Moment]:
    """Return moments at steps in about equal ratios, the first and the last among them."""
    if len(moments) <= MOMENTS_OF_TIME:
        return list(moments)
    steps = np.array([max(each.step, 0.5) for each in moments])
    wanted = np.geomspace(steps[0], steps[-1], MOMENTS_OF_TIME)
    return [moments[i] for i in sorted({int(np.abs(np.log(steps / each)).argmin()) for each in wanted})]


def _controlled(draws: np.ndarray, pilot: np.ndarray, many: np.ndarray) -> tuple[dict[str, np.ndarray], ...]:
    """Return means and log sds of few draws [draw, quantity], and how noisy they are, with a control variate.

    Args:
        draws: Few draws, or one, which has no sd.
        pilot: As few, of another distribution, made from the same random numbers.
        many: Many draws of that one.

    Returns:
        ``mean`` and ``sd``, [quantity]; and the standard errors of both over those of ``many``.
    """
    if len(draws) < 2:
        none = np.full(draws.shape[1], np.nan)
        return {"mean": draws.mean(0), "sd": none}, {"mean": np.zeros_like(none), "sd": none}
    spread, base, whole = (np.maximum(each.std(0, ddof=1), 1e-150) for each in (draws, pilot, many))
    away, others = (draws - draws.mean(0)) / spread, (pilot - pilot.mean(0)) / base
    slope, more = _regression(away, others, len(many))
    mean = draws.mean(0) + spread * slope * (many.mean(0) - pilot.mean(0)) / base
    noisy = {"mean": more * spread / whole}
    # The same of squares about the mean, which are to have the mean 1; a variance stays positive.
    slope, noisy["sd"] = _regression(away**2, others**2, len(many))
    factor = 1 + slope * ((whole / base) ** 2 - 1)
    return {"mean": mean, "sd": np.log(_held(spread)) + 0.5 * np.log(np.clip(factor, 0.1, 10.0))}, noisy


def _regression(values: np.ndarray, others: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes of values on others, [draw, quantity], and the noise of a mean that is corrected by them.

    It is in units of that of so many values without a correction.
    """
    if len(values) != len(others):
        return np.zeros(values.shape[1]), np.full(values.shape[1], math.sqrt(count / len(values)))
    values, others = values - values.mean(0), others - others.mean(0)
    size, square = (others**2).sum(0), (values**2).sum(0)
    slope = (values * others).sum(0) / np.maximum(size, 1e-300)
    rest = np.clip(1 - slope**2 * size / np.maximum(square, 1e-300), 0, 1)
    return slope, np.sqrt(rest * count / len(values) + 1 - rest)
