"""What to believe of one fit, line by line: pass, warn or fail, with the reason in a sentence."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
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
    lines = [_status(metrics)]
    kind = metrics["kind"]
    if "reference_is" in metrics:
        lines += _against_reference(metrics, limits)
    if kind == "point":
        lines.append(
            Line("warn", "uncertainty", "A point estimate has none: no intervals for parameters, no R-hat, no LOO.")
        )
    if kind == "exact":
        lines.append(Line("pass", "exact", "The posterior itself: nothing is approximated but by the number of draws."))
    if kind == "samples":
        lines += _chains(metrics, limits)
    if "khat" in metrics:
        lines.append(_khat(metrics, limits))
    if "elbo" in metrics:
        lines.append(_elbo(metrics, limits))
    if "loo_bad_khat_share" in metrics:
        lines.append(_loo(metrics, limits))
    lines += _held_out(metrics, limits)
    lines += _checks(metrics, limits)
    if "seconds_to_error" in metrics or "never_within" in metrics:
        lines.append(_time(metrics, limits))
    return lines


def _status(metrics: Mapping[str, Any]) -> Line:
    status, iterations = metrics["status"], metrics["iterations"]
    sentences: dict[str, tuple[Level, str]] = {
        "converged": ("pass", f"Stopped by its own rule after {iterations} iterations."),
        "completed": ("pass", f"All {iterations} iterations were made."),
        "max_iterations": (
            "warn",
            f"Not converged after {iterations} iterations: allow more, or loosen the tolerance.",
        ),
        "objective_decreased": (
            "fail",
            "The objective fell, which it never may: an update is wrong. Do not use this fit.",
        ),
        "interrupted": ("warn", f"Interrupted after {iterations} iterations: a partial result."),
    }
    level, sentence = sentences[status]
    return Line(level, "status", sentence)


def _against_reference(metrics: Mapping[str, Any], limits: Thresholds) -> list[Line]:
    """Judge means, spread and intervals of invariants against the reference; say so where there is none."""
    name, what = metrics["reference"], metrics["reference_is"]
    if what == "none":
        return [Line("warn", "reference", _pairwise(metrics))]
    if metrics.get("is_reference"):
        good, poor = "This is the reference", "The best there is to hold others to, but no good reference"
        return [_about_reference(metrics, f"{good}: {what}.", f"{poor}: {what}.")]
    poor = f"Held to {name}, which is no good reference: {what}. Errors against it are no better than it is."
    first = _about_reference(metrics, f"Held to {name}: {what}.", poor)
    found = [_means(metrics, limits), _spread(metrics, limits), _intervals(metrics, limits)]
    return [first, *(line for line in found if line is not None)]


def _about_reference(metrics: Mapping[str, Any], good: str, poor: str) -> Line:
    return Line("pass", "reference", good) if metrics["reference_good"] else Line("warn", "reference", poor)


def _pairwise(metrics: Mapping[str, Any]) -> str:
    said = "No exact answer, no sampler and no stored reference to compare with: nothing says which fit is right."
    if "nearest" not in metrics:
        return said
    return (
        f"{said} The invariants of {metrics['nearest']} are nearest to this fit's (typically "
        f"{metrics['nearest_distance']:.2f} sd apart), those of {metrics['farthest']} farthest "
        f"({metrics['farthest_distance']:.2f} sd)."
    )


def _means(metrics: Mapping[str, Any], limits: Thresholds) -> Line | None:
    if "mean_error" not in metrics:
        return None
    error, noise, which = metrics["mean_error"], metrics["mean_error_mcse"], metrics["mean_error_of"]
    way = "high" if error > 0 else "low"
    said = (
        f"The mean of {which} is {_sds(abs(error))} ± {_sds(noise)} reference sds too {way}, "
        f"the worst of {metrics['invariants']} invariants (median {_sds(metrics['mean_error_median'])})"
    )
    level = graded(max(0.0, abs(error) - SURE * noise), limits.mean_good, limits.mean_bad)
    if level == "pass" and metrics["kind"] in ("samples", "exact"):
        off = metrics["mean_standard_errors"]
        if off > limits.mean_standard_errors:
            return Line(
                "warn", "means",
                f"{said}; that of {metrics['mean_standard_errors_of']} is {off:.1f} Monte Carlo standard errors off: "
                "one of the two has not converged, or is wrong.",
            )  # fmt: skip
    if level == "pass" and SURE * metrics["mean_mcse_worst"] > limits.mean_bad:
        return Line("warn", "means", f"{said}: too few effective draws to say.")
    ends = {
        "pass": f": at most {limits.mean_good:g} sd, allowing for Monte Carlo error.",
        "warn": f": more than {limits.mean_good:g} sd; good enough for a first look.",
        "fail": f": more than {limits.mean_bad:g} sd. Do not trust its means.",
    }
    return Line(level, "means", said + ends[level])


def _sds(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else "more than 1000"


def _spread(metrics: Mapping[str, Any], limits: Thresholds) -> Line | None:
    if "narrowest" not in metrics:
        return None
    said = f"The median ratio of its sds to the reference's is {_sds(metrics['sd_ratio_median'])}"
    # Monte Carlo error is in the fit's favour: the ratio's logarithm moved by so many standard errors.
    narrow, wide = metrics["narrowest_at_most"], metrics["widest_at_least"]
    low, high = (
        graded(-narrow, -limits.spread_good, -limits.spread_bad),
        graded(wide, 1 / limits.spread_good, 1 / limits.spread_bad),
    )
    level = max(low, high, key=LEVELS.index)
    if level == "pass":
        return Line("pass", "spread", f"{said}: all between {limits.spread_good:g} and {1 / limits.spread_good:g}.")
    if LEVELS.index(low) >= LEVELS.index(high):
        return Line(
            level, "spread",
            f"{said}; of {metrics['narrowest_of']} it is {metrics['narrowest']:.2f}: too sure of itself. "
            + ("Do not use its intervals." if level == "fail" else "Its intervals are too short."),
        )  # fmt: skip
    return Line(
        level, "spread",
        f"{said}; of {metrics['widest_of']} it is {_sds(metrics['widest'])}: not sure enough, "
        "its intervals are too long.",
    )  # fmt: skip


def _intervals(metrics: Mapping[str, Any], limits: Thresholds) -> Line | None:
    if "overlap_median" not in metrics:
        return None
    value = metrics["overlap_median"]
    return Line(
        graded(-value, -limits.overlap_good, -limits.overlap_bad), "intervals",
        f"90% intervals share {value:.0%} of what they and the reference's cover together (median; the least, "
        f"{metrics['overlap_least']:.0%}, for {metrics['overlap_least_of']}).",
    )  # fmt: skip


def _chains(metrics: Mapping[str, Any], limits: Thresholds) -> list[Line]:
    lines = []
    if "rhat_max" in metrics:
        lines += [*_rhat(metrics, limits), _ess(metrics, limits)]
    else:
        lines.append(Line("warn", "R-hat", "One chain, or too few draws: nothing can be said about convergence."))
    if metrics.get("divergences"):
        lines.append(
            Line(
                "fail",
                "divergences",
                f"{metrics['divergences']} divergent transitions: parts of the posterior were missed.",
            )
        )
    if "ebfmi_min" in metrics:
        lines.append(_ebfmi(metrics, limits))
    return lines


def _rhat(metrics: Mapping[str, Any], limits: Thresholds) -> list[Line]:
    raw, aligned, invariants = metrics["rhat_max_raw"], metrics["rhat_max"], metrics["rhat_max_invariants"]
    figures = f"R-hat is at most {_large(invariants)} on invariants and {_large(aligned)} on aligned parameters"
    level = graded(invariants, limits.rhat_good, limits.rhat_bad)
    ends = {
        "pass": f": chains agree (up to {limits.rhat_good:g}).",
        "warn": f": more than {limits.rhat_good:g}; run longer.",
        "fail": f": more than {limits.rhat_bad:g}. The chains disagree on what labels cannot explain: one is stuck, or "
        "none has converged.",
    }
    if level == "pass" and aligned > limits.rhat_bad:
        level, end = "warn", ": predictions agree, single components do not (another mode, or alignment)."
    else:
        end = ends[level]
    lines = [Line(level, "R-hat", figures + end)]
    if raw > limits.rhat_bad and aligned <= limits.rhat_bad:
        lines.append(
            Line(
                "warn",
                "labels",
                f"R-hat of raw parameters is {_large(raw)}: components switch labels, or turn, from chain to chain or "
                "within one. Never average raw draws; aligned ones and invariants are what is judged here.",
            )
        )
    return lines


def _large(value: float) -> str:
    return f"{value:.3f}" if value < 1000 else "infinite"


def _ess(metrics: Mapping[str, Any], limits: Thresholds) -> Line:
    bulk, tail = metrics["ess_bulk_min_invariants"], metrics["ess_tail_min_invariants"]
    enough = min(bulk, tail) >= limits.ess
    # A fit from elsewhere has no time.
    pace = f" ({metrics['ess_per_second']:.0f} a second)" if "ess_per_second" in metrics else ""
    return Line(
        "pass" if enough else "warn",
        "ESS",
        f"At least {bulk:.0f} effective draws for every invariant, {tail:.0f} in the tails"
        + (f"{pace}." if enough else f"; {limits.ess:g} are wanted: run longer."),
    )


def _ebfmi(metrics: Mapping[str, Any], limits: Thresholds) -> Line:
    value = metrics["ebfmi_min"]
    if value >= limits.ebfmi:
        return Line("pass", "E-BFMI", f"E-BFMI is at least {value:.2f}: momenta reach all levels of energy.")
    return Line(
        "warn", "E-BFMI",
        f"E-BFMI is {value:.2f} in the worst chain ({limits.ebfmi:g} is wanted): tails are heavier than momenta reach; "
        "run longer, or state the model in other parameters.",
    )  # fmt: skip


def _khat_limit(metrics: Mapping[str, Any], limits: Thresholds) -> float:
    return float(metrics["khat_threshold"]) if limits.khat is None else limits.khat


def _khat(metrics: Mapping[str, Any], limits: Thresholds) -> Line:
    khat, limit = metrics["khat"], _khat_limit(metrics, limits)
    if khat < limit:
        return Line(
            "pass", "k-hat", f"Pareto k-hat is {khat:.2f} (limit {limit:.2f}): q is close enough to reweight to p."
        )
    return Line(
        "warn",
        "k-hat",
        f"Pareto k-hat is {khat:.2f} (limit {limit:.2f}): q misses part of p. Its draws cannot be reweighted, and its "
        "spread is not to be trusted.",
    )


def _elbo(metrics: Mapping[str, Any], limits: Thresholds) -> Line:
    said = f"The ELBO is {metrics['elbo']:.2f}"
    if "elbo_se" in metrics:
        said += f" ± {metrics['elbo_se']:.2f}"
    if "elbo_gap" not in metrics:
        return Line("pass", "ELBO", f"{said}; the evidence is not known.")
    gap, noise = metrics["elbo_gap"], metrics["elbo_gap_se"]
    return Line(
        "pass" if gap - SURE * noise <= limits.elbo_gap else "warn", "ELBO",
        f"{said}, {round(gap, 2) + 0.0:.2f} ± {noise:.2f} nats below the log evidence ({metrics['evidence_is']}): the "
        "divergence of q from the posterior.",
    )  # fmt: skip


def _loo(metrics: Mapping[str, Any], limits: Thresholds) -> Line:
    share = metrics["loo_bad_khat_share"]
    # A figure that cannot be used is no fault of the fit.
    level: Level = "pass" if share == 0 else "warn"
    sentence = f"{share:.1%} of the units have a Pareto k-hat too high for it to be trusted"
    if share == 0:
        sentence = "no unit has a Pareto k-hat too high for it to be trusted"
    if "loo_elpd" in metrics:
        sentence = (
            f"the log predictive density by LOO is {metrics['loo_elpd']:.1f} ± {metrics['loo_se']:.1f}; {sentence}"
        )
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    if share >= limits.loo_bad:
        sentence += " Do not use it: hold entries out instead (data.holdout)."
    if metrics.get("khat", 0.0) >= (_khat_limit(metrics, limits) if "khat_threshold" in metrics else 1.0):
        # LOO reweights draws as if they were the posterior's; a q that is too narrow makes it optimistic.
        sentence += (
            " Its draws are q's, which misses part of the posterior: this LOO is not comparable with a sampler's."
        )
        level = "warn"
    return Line(level, "LOO", sentence)


def _held_out(metrics: Mapping[str, Any], limits: Thresholds) -> list[Line]:
    lines = []
    if metrics.get("holdout_impossible"):
        count = metrics["holdout_impossible"]
        lines.append(
            Line("fail", "held out", f"The fit gives probability 0 to {count} hidden entries: it is overfitted.")
        )
    elif "holdout_loss" in metrics:
        loss = metrics["holdout_loss"]
        said = f"Log predictive density of hidden entries: {metrics['holdout_elpd']:.3f} each"
        best = f", {loss:.3f} below {metrics['holdout_best']}" if loss > 0 else ", the best of all"
        lines.append(Line("pass" if loss <= limits.holdout_loss else "warn", "held out", f"{said}{best}."))
    if "holdout_coverage_90" in metrics and metrics["holdout_entries"] >= MANY:
        coverage, noise = metrics["holdout_coverage_90"], 2 * math.sqrt(0.9 * 0.1 / metrics["holdout_entries"])
        good = limits.coverage_low - noise <= coverage <= limits.coverage_high + noise
        lines.append(
            Line(
                "pass" if good else "warn",
                "coverage",
                f"90% predictive intervals hold {coverage:.1%} of {metrics['holdout_entries']} hidden entries.",
            )
        )
    return lines


def _checks(metrics: Mapping[str, Any], limits: Thresholds) -> list[Line]:
    """Judge posterior predictive checks: one line for those that pass, one for each that does not."""
    names = [found[1] for found in (re.fullmatch(r"check_(.+)_p", key) for key in metrics) if found]
    lines, fine = [], []
    for name in names:
        p, word = metrics[f"check_{name}_p"], name.replace("_", " ")
        level = graded(-p, -limits.check_good, -limits.check_bad)
        if level == "pass":
            fine.append(word)
            continue
        lines.append(
            Line(
                level,
                "predictive checks",
                f"In {word} the data are {metrics[f'check_{name}_distance']:.1f} sds from data simulated from the fit "
                f"(p = {p:.2g}): the model, or this fit of it, misses what the data show.",
            )
        )
    if fine:
        lines.append(
            Line("pass", "predictive checks", f"Data simulated from the fit look like the data in {_listed(fine)}.")
        )
    return lines


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _time(metrics: Mapping[str, Any], limits: Thresholds) -> Line:
    within = f"within {limits.time_error:g} sd of the reference"
    if "never_within" in metrics:
        return Line("warn", "time", f"Never had all means {within}, in {metrics['seconds']:.3g} s.")
    return Line("pass", "time", f"All means {within} after {metrics['seconds_to_error']:.3g} s.")
