"""What to believe of one fit, line by line: pass, warn or fail, with the reason in a sentence."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyrozoo.core.errors import SettingError

Level = Literal["pass", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("pass", "warn", "fail")

SURE = 3.0
"""Monte Carlo standard errors that are taken off an error before it is held against a fit."""

MANY = 100
"""Hidden entries from which on the coverage of intervals is judged."""


@dataclass(frozen=True)
class Thresholds:
    """Where pass ends and where fail begins; ``conf/config.yaml`` states them under ``verdict``.

    Attributes:
        rhat_good: R-hat up to which chains agree (Vehtari et al. 2021).
        rhat_bad: R-hat beyond which they do not.
        ess: Effective draws, bulk and tail, of every invariant: enough for an R-hat and a quantile to be believed.
        ebfmi: Energy Bayesian fraction of missing information (Betancourt 2016, arXiv:1604.00695).
        khat: Largest Pareto k-hat of an approximation and of LOO; null: min(1 - 1/log10 S, 0.7) for S draws (Vehtari
            et al. 2024, eq. 13).
        loo_bad: Share of units with a k-hat beyond it from which on LOO is of no use.
        coverage_low: Least share of hidden entries in 90% intervals, but for two standard errors.
        coverage_high: Largest share of them, but for the same.
        holdout_loss: Nats per hidden entry by which the log predictive density may fall short of the best fit's.
        check_good: Tail probability of a predictive check down to which the data look like simulated ones.
        check_bad: Tail probability below which they do not.
        mean_good: Error of the mean of an invariant, in sds of the reference, that does not matter (Stan's benchmarks).
        mean_bad: Error that makes a mean useless.
        mean_standard_errors: Monte Carlo standard errors by which two samplers of one posterior may differ.
        spread_good: Ratio of sds (or of 1 over it) down to which intervals are good.
        spread_bad: Ratio below which they mislead.
        overlap_good: Intersection over union of 90% intervals, median over invariants, down to which they agree.
        overlap_bad: Overlap below which they do not.
        elbo_gap: Nats by which an ELBO may fall short of the log evidence: the divergence of q from the posterior.
        time_error: Error of the mean, in sds, that is timed.
    """

    rhat_good: float = 1.01
    rhat_bad: float = 1.05
    ess: float = 400
    ebfmi: float = 0.3
    khat: float | None = None
    loo_bad: float = 0.1
    coverage_low: float = 0.87
    coverage_high: float = 0.93
    holdout_loss: float = 0.05
    check_good: float = 0.05
    check_bad: float = 0.01
    mean_good: float = 0.25
    mean_bad: float = 1.0
    mean_standard_errors: float = 5.0
    spread_good: float = 0.8
    spread_bad: float = 0.5
    overlap_good: float = 0.7
    overlap_bad: float = 0.4
    elbo_gap: float = 1.0
    time_error: float = 0.25

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise SettingError(f"verdict.{field.name} is {value}; it must be positive")
        for small, large in (
            ("rhat_good", "rhat_bad"), ("check_bad", "check_good"), ("mean_good", "mean_bad"),
            ("spread_bad", "spread_good"), ("overlap_bad", "overlap_good"), ("coverage_low", "coverage_high"),
        ):  # fmt: skip
            if getattr(self, small) > getattr(self, large):
                raise SettingError(f"verdict.{small} is {getattr(self, small)}; it must be at most verdict.{large}")


USUAL = Thresholds()

ORDER = ("status", "reference", "means", "spread", "intervals", "uncertainty", "exact", "R-hat", "labels", "ESS",
         "divergences", "E-BFMI", "k-hat", "ELBO", "LOO", "held out", "coverage", "predictive checks",
         "time")  # fmt: skip
"""What lines are about, in the order of a card."""


@dataclass(frozen=True)
class Line:
    """One line of a verdict.

    Attributes:
        level: pass, warn or fail.
        about: What is judged, in a word or two.
        sentence: Why.
    """

    level: Level
    about: str
    sentence: str


def worst(lines: list[Line]) -> Level:
    """Return the worst level of a card."""
    return max((line.level for line in lines), key=LEVELS.index, default="pass")


def graded(value: float, good: float, bad: float) -> Level:
    """Grade a figure of which less is better."""
    return "pass" if value <= good else "warn" if value <= bad else "fail"


def verdict(metrics: Mapping[str, Any], limits: Thresholds = USUAL) -> list[Line]:
    """Judge a fit by its figures.

    Args:
        metrics: As ``diagnostics.metrics.evaluate`` returns them; with those of ``diagnostics.compare`` beside them
            where the fit stands beside others.
        limits: Where pass ends and fail begins.

    Returns:
        Lines in order of importance.
    """
    return [line for judge in JUDGES for line in judge(metrics, limits)]


Figures = Mapping[str, Any]
Lines = Iterator[Line]

ENDINGS: Mapping[str, tuple[Level, str]] = {
    "converged": ("pass", "Stopped by its own rule after {} iterations."),
    "completed": ("pass", "All {} iterations were made."),
    "max_iterations": ("warn", "Not converged after {} iterations: allow more, or loosen the tolerance."),
    "objective_decreased": (
        "fail", "The objective fell, which it never may: an update is wrong. Do not use this fit.",
    ),
    "interrupted": ("warn", "Interrupted after {} iterations: a partial result."),
}  # fmt: skip
"""What is said of a fit's status."""


def _status(metrics: Figures, limits: Thresholds) -> Lines:
    level, sentence = ENDINGS[metrics["status"]]
    yield Line(level, "status", sentence.format(metrics["iterations"]))


def _against_reference(metrics: Figures, limits: Thresholds) -> Lines:
    """Judge means, spread and intervals of invariants against the reference; say so where there is none."""
    if "reference_is" not in metrics:
        return
    name, what, good = metrics["reference"], metrics["reference_is"], metrics.get("reference_good")
    if what == "none":
        yield Line("warn", "reference", _pairwise(metrics))
    elif metrics.get("is_reference"):
        poor = "The best there is to hold others to, but no good reference"
        yield Line("pass" if good else "warn", "reference", f"{'This is the reference' if good else poor}: {what}.")
    else:
        poor = f"Held to {name}, which is no good reference: {what}. Errors against it are no better than it is."
        yield Line("pass" if good else "warn", "reference", f"Held to {name}: {what}." if good else poor)
        yield from (*_means(metrics, limits), *_spread(metrics, limits), *_intervals(metrics, limits))


def _pairwise(metrics: Figures) -> str:
    said = "No exact answer, no sampler and no stored reference to compare with: nothing says which fit is right."
    if "nearest" not in metrics:
        return said
    near, far = (f"{metrics[f'{word}_distance']:.2f} sd" for word in ("nearest", "farthest"))
    nearest = f"The invariants of {metrics['nearest']} are nearest to this fit's (typically {near} apart)"
    return f"{said} {nearest}, those of {metrics['farthest']} farthest ({far})."


def _means(metrics: Figures, limits: Thresholds) -> Lines:
    if "mean_error" not in metrics:
        return
    error, noise, which = metrics["mean_error"], metrics["mean_error_mcse"], metrics["mean_error_of"]
    far = f"{_sds(abs(error))} ± {_sds(noise)} reference sds too {'high' if error > 0 else 'low'}"
    worst_of = f"the worst of {metrics['invariants']} invariants (median {_sds(metrics['mean_error_median'])})"
    said = f"The mean of {which} is {far}, {worst_of}"
    level, off = graded(max(0.0, abs(error) - SURE * noise), limits.mean_good, limits.mean_bad), 0.0
    end = {
        "pass": f": at most {limits.mean_good:g} sd, allowing for Monte Carlo error.",
        "warn": f": more than {limits.mean_good:g} sd; good enough for a first look.",
        "fail": f": more than {limits.mean_bad:g} sd. Do not trust its means.",
    }[level]
    if level == "pass":
        off = metrics["mean_standard_errors"] if metrics["kind"] in ("samples", "exact") else 0.0
        if off > limits.mean_standard_errors:
            so = f"{off:.1f} Monte Carlo standard errors off: one of the two has not converged, or is wrong."
            level, end = "warn", f"; that of {metrics['mean_standard_errors_of']} is {so}"
        elif SURE * metrics["mean_mcse_worst"] > limits.mean_bad:
            level, end = "warn", ": too few effective draws to say."
    yield Line(level, "means", said + end)


def _sds(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else "more than 1000"


def _spread(metrics: Figures, limits: Thresholds) -> Lines:
    if "narrowest" not in metrics:
        return
    said = f"The median ratio of its sds to the reference's is {_sds(metrics['sd_ratio_median'])}"
    good, bad = limits.spread_good, limits.spread_bad
    # Monte Carlo error is in the fit's favour: the ratio's logarithm moved by so many standard errors.
    low = graded(-metrics["narrowest_at_most"], -good, -bad)
    high = graded(metrics["widest_at_least"], 1 / good, 1 / bad)
    level = max(low, high, key=LEVELS.index)
    if level == "pass":
        end = f": all between {good:g} and {1 / good:g}."
    elif LEVELS.index(low) >= LEVELS.index(high):
        end = f"; of {metrics['narrowest_of']} it is {metrics['narrowest']:.2f}: too sure of itself. "
        end += "Do not use its intervals." if level == "fail" else "Its intervals are too short."
    else:
        wide = f"it is {_sds(metrics['widest'])}: not sure enough, its intervals are too long."
        end = f"; of {metrics['widest_of']} {wide}"
    yield Line(level, "spread", said + end)


def _intervals(metrics: Figures, limits: Thresholds) -> Lines:
    if "overlap_median" in metrics:
        value, least = metrics["overlap_median"], f"the least, {metrics['overlap_least']:.0%}"
        yield Line(
            graded(-value, -limits.overlap_good, -limits.overlap_bad), "intervals",
            f"90% intervals share {value:.0%} of what they and the reference's cover together (median; {least}, for "
            f"{metrics['overlap_least_of']}).",
        )  # fmt: skip


def _kind(metrics: Figures, limits: Thresholds) -> Lines:
    if metrics["kind"] == "point":
        said = "A point estimate has none: no intervals for parameters, no R-hat, no LOO."
        yield Line("warn", "uncertainty", said)
    if metrics["kind"] == "exact":
        said = "The posterior itself: nothing is approximated but by the number of draws."
        yield Line("pass", "exact", said)


def _chains(metrics: Figures, limits: Thresholds) -> Lines:
    if metrics["kind"] != "samples":
        return
    if "rhat_max" in metrics:
        yield from (*_rhat(metrics, limits), _ess(metrics, limits))
    else:
        yield Line("warn", "R-hat", "One chain, or too few draws: nothing can be said about convergence.")
    if metrics.get("divergences"):
        said = f"{metrics['divergences']} divergent transitions: parts of the posterior were missed."
        yield Line("fail", "divergences", said)
    if "ebfmi_min" in metrics:
        value = metrics["ebfmi_min"]
        poor = (
            f"E-BFMI is {value:.2f} in the worst chain ({limits.ebfmi:g} is wanted): tails are heavier than momenta "
            "reach; run longer, or state the model in other parameters."
        )
        good = f"E-BFMI is at least {value:.2f}: momenta reach all levels of energy."
        yield Line("pass", "E-BFMI", good) if value >= limits.ebfmi else Line("warn", "E-BFMI", poor)


def _rhat(metrics: Figures, limits: Thresholds) -> Lines:
    raw, aligned, invariants = metrics["rhat_max_raw"], metrics["rhat_max"], metrics["rhat_max_invariants"]
    figures = f"R-hat is at most {_large(invariants)} on invariants and {_large(aligned)} on aligned parameters"
    level = graded(invariants, limits.rhat_good, limits.rhat_bad)
    end = {
        "pass": f": chains agree (up to {limits.rhat_good:g}).",
        "warn": f": more than {limits.rhat_good:g}; run longer.",
        "fail": f": more than {limits.rhat_bad:g}. The chains disagree on what labels cannot explain: one is stuck, or "
        "none has converged.",
    }[level]
    if level == "pass" and aligned > limits.rhat_bad:
        level, end = "warn", ": predictions agree, single components do not (another mode, or alignment)."
    yield Line(level, "R-hat", figures + end)
    if raw > limits.rhat_bad and aligned <= limits.rhat_bad:
        yield Line(
            "warn", "labels",
            f"R-hat of raw parameters is {_large(raw)}: components switch labels, or turn, from chain to chain or "
            "within one. Never average raw draws; aligned ones and invariants are what is judged here.",
        )  # fmt: skip


def _large(value: float) -> str:
    return f"{value:.3f}" if value < 1000 else "infinite"


def _ess(metrics: Figures, limits: Thresholds) -> Line:
    bulk, tail = metrics["ess_bulk_min_invariants"], metrics["ess_tail_min_invariants"]
    said = f"At least {bulk:.0f} effective draws for every invariant, {tail:.0f} in the tails"
    if min(bulk, tail) < limits.ess:
        return Line("warn", "ESS", f"{said}; {limits.ess:g} are wanted: run longer.")
    # A fit from elsewhere has no time.
    pace = f" ({metrics['ess_per_second']:.0f} a second)" if "ess_per_second" in metrics else ""
    return Line("pass", "ESS", f"{said}{pace}.")


def _khat_limit(metrics: Figures, limits: Thresholds) -> float:
    return float(metrics["khat_threshold"]) if limits.khat is None else limits.khat


def _khat(metrics: Figures, limits: Thresholds) -> Lines:
    if "khat" in metrics:
        khat, limit = metrics["khat"], _khat_limit(metrics, limits)
        poor = "q misses part of p. Its draws cannot be reweighted, and its spread is not to be trusted."
        end = "q is close enough to reweight to p." if khat < limit else poor
        said = f"Pareto k-hat is {khat:.2f} (limit {limit:.2f}): {end}"
        yield Line("pass" if khat < limit else "warn", "k-hat", said)


def _elbo(metrics: Figures, limits: Thresholds) -> Lines:
    if "elbo" not in metrics:
        return
    said = f"The ELBO is {metrics['elbo']:.2f}" + (f" ± {metrics['elbo_se']:.2f}" if "elbo_se" in metrics else "")
    if "elbo_gap" not in metrics:
        yield Line("pass", "ELBO", f"{said}; the evidence is not known.")
        return
    gap, noise = metrics["elbo_gap"], metrics["elbo_gap_se"]
    below = f"{round(gap, 2) + 0.0:.2f} ± {noise:.2f} nats below the log evidence ({metrics['evidence_is']})"
    level: Level = "pass" if gap - SURE * noise <= limits.elbo_gap else "warn"
    yield Line(level, "ELBO", f"{said}, {below}: the divergence of q from the posterior.")


def _loo(metrics: Figures, limits: Thresholds) -> Lines:
    if "loo_bad_khat_share" not in metrics:
        return
    share = metrics["loo_bad_khat_share"]
    # A figure that cannot be used is no fault of the fit.
    level: Level = "pass" if share == 0 else "warn"
    units = f"{share:.1%} of the units have" if share else "no unit has"
    sentence = f"{units} a Pareto k-hat too high for it to be trusted"
    if "loo_elpd" in metrics:
        figure = f"{metrics['loo_elpd']:.1f} ± {metrics['loo_se']:.1f}"
        sentence = f"the log predictive density by LOO is {figure}; {sentence}"
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    if share >= limits.loo_bad:
        sentence += " Do not use it: hold entries out instead (data.holdout)."
    if metrics.get("khat", 0.0) >= (_khat_limit(metrics, limits) if "khat_threshold" in metrics else 1.0):
        # LOO reweights draws as if they were the posterior's; a q that is too narrow makes it optimistic.
        level, why = "warn", "this LOO is not comparable with a sampler's."
        sentence += f" Its draws are q's, which misses part of the posterior: {why}"
    yield Line(level, "LOO", sentence)


def _held_out(metrics: Figures, limits: Thresholds) -> Lines:
    if count := metrics.get("holdout_impossible"):
        said = f"The fit gives probability 0 to {count} hidden entries: it is overfitted."
        yield Line("fail", "held out", said)
    elif "holdout_loss" in metrics:
        loss = metrics["holdout_loss"]
        said = f"Log predictive density of hidden entries: {metrics['holdout_elpd']:.3f} each"
        best = f", {loss:.3f} below {metrics['holdout_best']}" if loss > 0 else ", the best of all"
        yield Line("pass" if loss <= limits.holdout_loss else "warn", "held out", f"{said}{best}.")
    if "holdout_coverage_90" in metrics and metrics["holdout_entries"] >= MANY:
        coverage, count = metrics["holdout_coverage_90"], metrics["holdout_entries"]
        noise = 2 * math.sqrt(0.9 * 0.1 / count)
        good = limits.coverage_low - noise <= coverage <= limits.coverage_high + noise
        said = f"90% predictive intervals hold {coverage:.1%} of {count} hidden entries."
        yield Line("pass" if good else "warn", "coverage", said)


def _checks(metrics: Figures, limits: Thresholds) -> Lines:
    """Judge posterior predictive checks: one line for each that does not pass, one for those that do."""
    fine = []
    for name in [found[1] for found in (re.fullmatch(r"check_(.+)_p", key) for key in metrics) if found]:
        p, word = metrics[f"check_{name}_p"], name.replace("_", " ")
        level = graded(-p, -limits.check_good, -limits.check_bad)
        if level == "pass":
            fine.append(word)
            continue
        yield Line(
            level, "predictive checks",
            f"In {word} the data are {metrics[f'check_{name}_distance']:.1f} sds from data simulated from the fit "
            f"(p = {p:.2g}): the model, or this fit of it, misses what the data show.",
        )  # fmt: skip
    if fine:
        listed = " and ".join([", ".join(fine[:-1]), fine[-1]]) if len(fine) > 1 else fine[0]
        yield Line("pass", "predictive checks", f"Data simulated from the fit look like the data in {listed}.")


def _time(metrics: Figures, limits: Thresholds) -> Lines:
    within = f"within {limits.time_error:g} sd of the reference"
    if "never_within" in metrics:
        yield Line("warn", "time", f"Never had all means {within}, in {metrics['seconds']:.3g} s.")
    elif "seconds_to_error" in metrics:
        yield Line("pass", "time", f"All means {within} after {metrics['seconds_to_error']:.3g} s.")


JUDGES: tuple[Callable[[Figures, Thresholds], Lines], ...] = (
    _status, _against_reference, _kind, _chains, _khat, _elbo, _loo, _held_out, _checks, _time,
)  # fmt: skip
"""What looks at a fit, in order of importance."""
