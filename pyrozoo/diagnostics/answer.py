"""The answer: whether to believe a fit, for what, at what price, in a sentence or two of plain words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyrozoo.diagnostics.card import FATAL, LEVELS, Card, Line, listed, named, sds

Figures = Mapping[str, Any]

NOTICED = 1.0
"""Seconds of the reference from which on it matters that another method is faster."""

SPARE = 1.2
"""What a longer run is asked for beyond the effective draws that are wanted: their number is an estimate."""

FAR = 20
"""Times that a run may have to be longer and still be said to be nearly there."""

MISSED = 0.01
"""Tail probability of a predictive check at which the answer names it."""


def answer(metrics: Figures, lines: Sequence[Line], wanted: float) -> str:
    """Say in a sentence or two whether to believe a fit, for what, and what to do otherwise.

    Args:
        metrics: Its figures.
        lines: Its card.
        wanted: Effective draws that are enough.
    """
    about = {line.about: line for line in reversed(lines)}
    return " ".join(
        filter(None, (_refused(metrics, about) or _believed(metrics, about, wanted), _caveat(about, metrics)))
    )


def _refused(metrics: Figures, about: Mapping[str, Line]) -> str:
    """Say why a fit must not be used, or not yet."""
    failed = {word for word, line in about.items() if line.level == "fail" and word in FATAL}
    if "status" in failed:
        return "Do not use this fit: its objective fell, so an update is wrong."
    if metrics["status"] == "interrupted":
        return "This is a partial result: the fit was interrupted. Resume it before you believe it."
    if "R-hat" in failed:
        return f"Do not believe this fit: its chains disagree (R-hat {rhat(metrics['rhat_max_invariants'])})."
    if "divergences" in failed:
        return f"Do not believe this fit: {metrics['divergences']} of its transitions diverged."
    if "means" in failed:
        return f"Do not use this fit: the mean of {metrics['mean_error_of']} is {sds(metrics['mean_error'])} sd off."
    if "held out" in failed:
        return "Do not use this fit: it gives probability 0 to what happened."
    if metrics["status"] == "max_iterations":
        return "Do not rely on this fit yet: it had not converged when its iterations ended."
    return ""


def _believed(metrics: Figures, about: Mapping[str, Line], wanted: float) -> str:
    if metrics["kind"] == "exact":
        return "Believe this fit: it is the posterior itself."
    if metrics["kind"] == "samples":
        short = {word for word in ("R-hat", "ESS") if word in about and about[word].level != "pass"}
        if "rhat_max" not in metrics:
            if judgeable(metrics) and "mean_error" in metrics:
                return _use(metrics, about)
            return "Do not rely on this fit yet: nothing shows that it has converged."
        figures = f"R-hat {rhat(metrics['rhat_max_invariants'])}, {_least(metrics):.0f} effective draws"
        single = "single components" in about["R-hat"].sentence  # which predictions do not need
        if "ESS" in short or ("R-hat" in short and not single):
            longer = max(2, math.ceil(SPARE * wanted / max(_least(metrics), 1.0)))
            if longer > FAR:
                return f"Not there yet ({figures}): this sampler mixes badly here."
            return f"Nearly there ({figures}): run it {longer} times longer before you believe it."
        if judgeable(metrics) and "means" in about and about["means"].level != "pass":
            return f"Its chains agree ({figures}), but not with {metrics['reference']}: one of the two is wrong."
        return f"Believe this fit: its chains agree ({figures})."
    if judgeable(metrics) and "mean_error" in metrics:
        return _use(metrics, about)
    if metrics["kind"] == "point":
        return "Use it as a best guess: a point has no intervals."
    if about.get("k-hat", Line("warn", "", "")).level == "pass":
        return f"Believe this fit: q is close to the posterior (k-hat {metrics['khat']:.2f})."
    return "Use its means as a first look, not its intervals: q misses part of the posterior."


def _least(metrics: Figures) -> float:
    return min(metrics["ess_bulk_min_invariants"], metrics["ess_tail_min_invariants"])


def _use(metrics: Figures, about: Mapping[str, Line]) -> str:
    """Say what an approximation is good for beside the reference, and what not."""
    off = named(metrics["means_off"])
    close = len(off) < metrics["quantities"]
    within = f"within {sds(metrics['mean_error_rest'])} sd of {metrics['reference']}'s"
    start = f"Use its means, {within}{faster(metrics)}" if close else f"Its means are rough{faster(metrics)}"
    avoid = [f"its {listed(off)}"] if off and close else []
    intervals = (about.get("spread"), about.get("intervals"))
    if metrics["kind"] != "point" and any(line is not None and line.level != "pass" for line in intervals):
        avoid.append("its intervals")
    return f"{start}; do not use {' or '.join(avoid)}." if avoid else f"{start}."


def faster(metrics: Figures) -> str:
    """Say how much less time than the reference a fit took, where it is worth saying."""
    seconds = metrics.get("reference_seconds", math.nan)
    ratio = seconds / max(metrics.get("seconds", math.nan), 1e-9)
    return f", {ratio:.0f} times faster" if ratio >= 2 and seconds >= NOTICED else ""


def _caveat(about: Mapping[str, Line], metrics: Figures) -> str:
    """Say what is wrong with the model, which no method can mend."""
    if "prior" in about and about["prior"].level != "pass":
        return f"Its prior never draws data like yours: {metrics['prior_conflict_setting']}."
    if "baseline" in about and about["baseline"].level != "pass":
        return "The model predicts no better than its baseline."
    if metrics.get("overdispersion_p", 1.0) <= MISSED:
        return f"{overdispersed(metrics)}."
    checks = {key[6:-2].replace("_", " "): float(p) for key, p in metrics.items() if re.fullmatch(r"check_.+_p", key)}
    if checks and min(checks.values()) <= MISSED:
        return f"The model misses the {listed([name for name, p in checks.items() if p <= MISSED])} of your data."
    return ""


def overdispersed(metrics: Figures) -> str:
    """Say that counts vary too much, and what to type."""
    return f"Counts vary more than {metrics['overdispersion_of']} ones: {metrics['overdispersion_setting']}"


def judgeable(metrics: Figures) -> bool:
    """Return whether the fit is held to a reference that can be held against it."""
    there = metrics.get("reference_is", "none") != "none" and not metrics.get("is_reference")
    return bool(there and metrics.get("reference_judges", metrics.get("reference_good")))


def rhat(value: float) -> str:
    """Return an R-hat to be read: chains stuck at different constants have an infinite one."""
    return f"{value:.3f}" if value < 1000 else "infinite"


# Several fits ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A fit as the answer sees it.

    Attributes:
        name: Its name.
        metrics: Its figures, with those beside the reference.
        card: Its verdict.
    """

    name: str
    metrics: Figures
    card: Card

    @property
    def level_of(self) -> Mapping[str, str]:
        """The worst level of what is judged, by name."""
        order = sorted(self.card, key=lambda line: LEVELS.index(line.level))
        return {line.about: line.level for line in order}


def believe(fits: Sequence[Told]) -> str:
    """Say which of several fits of one posterior to believe, for what, at what price."""
    methods = [str(fit.metrics["method"]) for fit in fits]
    if len(set(methods)) == len(fits) and not any(fit.name.endswith("(stored)") for fit in fits):
        short = {fit.name: method for fit, method in zip(fits, methods, strict=True)}  # all else they share
        fits = [replace(fit, name=short[fit.name], metrics=_shortened(fit.metrics, short)) for fit in fits]
    reference = next((fit for fit in fits if fit.metrics.get("is_reference")), None)
    if len(fits) == 1:
        return fits[0].card.answer
    if reference is None:
        return f"Nothing here says which fit is right: add inference=gibbs or nuts.{_alike(fits)}"
    if not reference.metrics["reference_judges"]:
        what = reference.metrics["reference_is"]
        return f"Believe none yet: the best sampler, {reference.name}, has not converged ({what}).{_alike(fits)}"
    held = [fit for fit in fits if fit is not reference and "mean_error" in fit.metrics and not _short_of(fit)]
    bad = [fit.name for fit in held if fit.card.level == "fail"]
    parts = [f"Believe {reference.name}.", _second(reference, [fit for fit in held if fit.name not in bad])]
    parts.append(f"Do not use {listed(bad)}." if bad else "")
    parts.append(_caveat({line.about: line for line in reversed(reference.card)}, reference.metrics))
    return " ".join(filter(None, parts))


def _short_of(fit: Told) -> bool:
    """Return whether a fit is a sampler that should run longer: it is no second choice."""
    return fit.metrics["kind"] == "samples" and any(fit.level_of.get(a, "pass") != "pass" for a in ("R-hat", "ESS"))


def _shortened(metrics: Figures, short: Mapping[str, str]) -> Figures:
    """Return figures in which fits are called by their methods."""
    return {name: short.get(value, value) if isinstance(value, str) else value for name, value in metrics.items()}


def _second(reference: Told, held: Sequence[Told]) -> str:
    """Say which of the others is worth having beside the reference, and what not to use it for."""
    if not held:
        return ""
    whole = [fit for fit in held if not avoided(fit)]
    best = min(whole or held, key=lambda fit: (len(avoided(fit)), fit.metrics.get("seconds", math.inf)))
    quick = [f for f in held if faster(f.metrics) and named(f.metrics["means_off"]) != ["log_likelihood"]] or held
    cheap = min(quick, key=lambda fit: (len(named(fit.metrics["means_off"])), fit.metrics.get("seconds", math.inf)))
    chosen = best if whole and faster(best.metrics) else cheap
    avoid = avoided(chosen)
    within = f"{chosen.name}'s means are within {sds(chosen.metrics['mean_error_rest'])} sd{faster(chosen.metrics)}"
    agree = f" {listed([fit.name for fit in whole])} agree{'s' if len(whole) == 1 else ''} with it." if whole else ""
    if not avoid:
        return f"{within}.{agree if len(whole) > 1 or whole[0] is not chosen else ''}".strip()
    return f"{within}; do not use its {listed(avoid)}.{agree}"


def avoided(fit: Told) -> list[str]:
    """Return what an approximation must not be used for: quantities whose means are off, and intervals."""
    levels = fit.level_of
    intervals = fit.metrics["kind"] != "point" and any(levels.get(a, "pass") != "pass" for a in ("spread", "intervals"))
    return [*named(fit.metrics["means_off"]), *(["intervals"] if intervals else [])]


def _alike(fits: Sequence[Told]) -> str:
    """Say which of several fits are near each other, where no reference judges them."""
    known = [fit for fit in fits if "nearest" in fit.metrics]
    if not known:
        return ""
    near = min(known, key=lambda fit: float(fit.metrics["nearest_distance"]))
    far = max(known, key=lambda fit: float(fit.metrics["farthest_distance"]))
    if len(fits) == 2:
        return f" The two are {near.metrics['nearest_distance']:.2f} sd apart."
    one = f" {near.name} and {near.metrics['nearest']} are nearest ({near.metrics['nearest_distance']:.2f} sd)"
    other = f"{far.name} and {far.metrics['farthest']} farthest ({far.metrics['farthest_distance']:.2f} sd)"
    return f"{one}, {other}."
