"""What to believe of one fit: a card of lines that pass, warn or fail, and the answer in one sentence before them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyrozoo.core.errors import SettingError
from pyrozoo.diagnostics.answer import answer, judgeable, overdispersed, rhat
from pyrozoo.diagnostics.card import ORDER, Card, Level, Line, listed, named, sds
from pyrozoo.math.mixing import LEAST

SURE = 3.0
"""Monte Carlo standard errors that are taken off an error before it is held against a fit."""

MANY = 100
"""Hidden entries from which on the coverage of intervals is judged."""

EXCESS = 1.25
"""Distance of the data from what the prior draws, in units of the farthest draw, from which on the two conflict."""

DIVERGENT = 0.01
"""Share of divergent transitions from which on a sampler is not to be believed."""


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
        loo_good: Share of units with a k-hat beyond it up to which LOO can be used: k-hats are estimates, too.
        loo_bad: Share of them from which on LOO is of no use.
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
    loo_good: float = 0.005
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
            ("rhat_good", "rhat_bad"), ("loo_good", "loo_bad"), ("check_bad", "check_good"), ("mean_good", "mean_bad"),
            ("spread_bad", "spread_good"), ("overlap_bad", "overlap_good"), ("coverage_low", "coverage_high"),
        ):  # fmt: skip
            if getattr(self, small) > getattr(self, large):
                raise SettingError(f"verdict.{small} is {getattr(self, small)}; it must be at most verdict.{large}")


USUAL = Thresholds()


def verdict(metrics: Mapping[str, Any], limits: Thresholds = USUAL) -> Card:
    """Judge a fit by its figures.

    Args:
        metrics: As ``diagnostics.metrics.evaluate`` returns them; with those of ``diagnostics.compare`` beside them
            where the fit stands beside others.
        limits: Where pass ends and fail begins.

    Returns:
        The answer and its lines, the most important first.
    """
    lines = [line for judge in JUDGES for line in judge(metrics, limits)]
    ordered = tuple(sorted(lines, key=lambda line: ORDER.index(line.about)))
    return Card(answer(metrics, ordered, limits.ess), ordered)


Figures = Mapping[str, Any]
Lines = Iterator[Line]


def graded(value: float, good: float, bad: float) -> Level:
    """Grade a figure of which less is better."""
    return "pass" if value <= good else "warn" if value <= bad else "fail"


ENDINGS: Mapping[str, tuple[Level, str]] = {
    "converged": ("pass", "It stopped by its own rule after {} iterations."),
    "completed": ("pass", "It made all {} iterations."),
    "max_iterations": ("warn", "It had not converged after {} iterations: allow more, or loosen inference.tol."),
    "objective_decreased": ("fail", "Its objective fell, which it never may: an update is wrong."),
    "interrupted": ("warn", "It was interrupted after {} iterations: this is a partial result."),
}
"""What is said of a fit's status."""


def _status(metrics: Figures, limits: Thresholds) -> Lines:
    level, sentence = ENDINGS[metrics["status"]]
    yield Line(level, "status", sentence.format(metrics["iterations"]))


def _against_reference(metrics: Figures, limits: Thresholds) -> Lines:
    """Judge means, spread and intervals of invariants against the reference; say so where there is none to judge by."""
    if "reference_is" not in metrics:
        return
    name, what, good = metrics["reference"], metrics["reference_is"], metrics.get("reference_good")
    if what == "none":
        said = "Nothing says which fit is right: no exact answer, no sampler, no stored reference."
        yield Line("warn", "reference", f"{said}{_nearest(metrics)}")
    elif metrics.get("is_reference"):
        poor = f"The best sampler here, and it has not converged: {what}."
        yield Line("pass", "reference", f"This is the reference: {what}.") if good else Line("warn", "reference", poor)
    elif not judgeable(metrics):
        said = f"The reference, {name}, has not converged. Ignore differences from it."
        yield Line("warn", "reference", f"{said}{_nearest(metrics)}")
    else:
        yield Line("pass" if good else "warn", "reference", f"Held to {name}: {what}.")
        yield from (*_means(metrics, limits), *_spread(metrics, limits), *_intervals(metrics, limits))


def _nearest(metrics: Figures) -> str:
    if "nearest" not in metrics:
        return ""
    near, far = (f"{metrics[f'{word}_distance']:.2f} sd" for word in ("nearest", "farthest"))
    return f" Nearest is {metrics['nearest']} ({near}), farthest {metrics['farthest']} ({far})."


def _means(metrics: Figures, limits: Thresholds) -> Lines:
    if "mean_error" not in metrics:
        return
    error, noise, which = metrics["mean_error"], metrics["mean_error_mcse"], metrics["mean_error_of"]
    off, far, count = named(metrics["means_off"]), named(metrics["means_far"]), metrics["quantities"]
    side = "high" if error > 0 else "low"
    worst = f"the mean of {which} is {sds(error)} ± {sds(noise)} sd too {side}"
    if "mean_off_by" in metrics:
        worst = f"the mean of {which} is {abs(metrics['mean_off_by']):.3g} too {side}, where the reference has no doubt"
    if 2 * len(far) > count:
        all_of = (
            f"{len(far)} of {count} kinds are more than {limits.mean_bad:g} sd off" if count > 1 else "Do not use it"
        )
        yield Line("fail", "means", f"Its means are off: {worst}. {all_of[0].upper()}{all_of[1:]}.")
    elif off:
        rest = f" Other means are within {sds(metrics['mean_error_rest'])} sd." if len(off) < count else ""
        only = f"Do not use {listed(far)}: " if far else ""
        first = worst if only else worst[0].upper() + worst[1:]
        yield Line("warn", "means", f"{only}{first}.{rest}")
    else:
        within = f"Its means are within {sds(max(abs(error), metrics['mean_error_rest']))} sd of the reference's"
        astray = metrics["mean_standard_errors"] if metrics["kind"] in ("samples", "exact") else 0.0
        if astray > limits.mean_standard_errors:
            of = f"{metrics['mean_standard_errors_of']} is {astray:.1f} Monte Carlo standard errors off"
            yield Line("warn", "means", f"{within}, but {of}: one of the two is wrong, or has not converged.")
        elif SURE * metrics["mean_mcse_worst"] > limits.mean_bad:
            yield Line("warn", "means", f"{within}, as far as so few effective draws can say.")
        else:
            yield Line("pass", "means", f"{within}.")


def _spread(metrics: Figures, limits: Thresholds) -> Lines:
    if "narrowest" not in metrics:
        return
    median, count = metrics["sd_ratio_median"], metrics["quantities_spread"]
    narrow, wide = named(metrics["spread_narrow"]), named(metrics["spread_wide"])
    far = named(metrics["spread_far"])
    if not narrow and not wide:
        yield Line(
            "pass", "spread", f"Its sds are typically {median:.2f} times the reference's: its intervals are right."
        )
        return
    short = len(narrow) >= len(wide)
    which, value = (metrics[f"{'narrowest' if short else 'widest'}{end}"] for end in ("_of", ""))
    said = f"the sd of {which} is {sds(value)} times the reference's"
    all_of = 2 * len(far) > count
    start = f"Its intervals are too {'short' if short else 'long'}"
    end = ". Do not use them." if all_of else "."
    names = "" if all_of else f" for {listed(narrow if short else wide)}"
    yield Line("fail" if all_of else "warn", "spread", f"{start}{names}: {said}{end}")


def _intervals(metrics: Figures, limits: Thresholds) -> Lines:
    if "overlap_median" in metrics:
        value, least = metrics["overlap_median"], f"{metrics['overlap_least']:.0%} ({metrics['overlap_least_of']})"
        yield Line(
            graded(-value, -limits.overlap_good, -limits.overlap_bad), "intervals",
            f"Intervals typically overlap the reference's by {value:.0%}; worst {least}.",
        )  # fmt: skip


def _kind(metrics: Figures, limits: Thresholds) -> Lines:
    if metrics["kind"] == "point":
        yield Line("pass", "uncertainty", "A point has no intervals, no R-hat and no LOO.")
    if metrics["kind"] == "exact":
        yield Line("pass", "exact", "It is the posterior itself, but for the number of draws.")


def _chains(metrics: Figures, limits: Thresholds) -> Lines:
    if metrics["kind"] != "samples":
        return
    if "rhat_max" in metrics:
        yield from (*_rhat(metrics, limits), _ess(metrics, limits))
    else:
        several = metrics.get("chains", 1) > 1 and metrics.get("draws", 0) >= LEAST
        same = "Every draw is the same: either no chain moved, or there is no doubt. Nothing tells which."
        one = "One chain, or too few draws: nothing says whether it has converged."
        yield Line("warn", "R-hat", same if several else one)
    if count := metrics.get("divergences"):
        total = metrics["chains"] * metrics["draws"]
        said = (
            f"{count} of {total} transitions diverged: parts of the posterior may be missed. Raise target_accept_prob."
        )
        yield Line("fail" if count > DIVERGENT * total else "warn", "divergences", said)
    if "ebfmi_min" in metrics:
        value, wanted = metrics["ebfmi_min"], limits.ebfmi
        poor = f"E-BFMI is {value:.2f}, and {wanted:g} is wanted: tails are too heavy. Run longer, or reparametrise."
        good = f"E-BFMI is at least {value:.2f}: NUTS reaches the tails."
        yield Line("pass", "E-BFMI", good) if value >= wanted else Line("warn", "E-BFMI", poor)


def _rhat(metrics: Figures, limits: Thresholds) -> Lines:
    raw, aligned, invariants = metrics["rhat_max_raw"], metrics["rhat_max"], metrics["rhat_max_invariants"]
    level, figure = graded(invariants, limits.rhat_good, limits.rhat_bad), rhat(invariants)
    if level == "fail":
        even = " even after relabelling" if raw > aligned + 0.005 else ""
        said = f"Chains disagree{even}: R-hat is {figure}. Run longer, or compare their modes."
    elif level == "warn":
        said = f"R-hat is {figure}, and {limits.rhat_good:g} is wanted: run longer."
    elif aligned > limits.rhat_bad:
        level = "warn"
        said = f"Predictions agree (R-hat {figure}), single components do not ({rhat(aligned)}): do not read them."
    else:
        said = f"Chains agree: R-hat is at most {figure}, and {rhat(aligned)} of single components."
    yield Line(level, "R-hat", said)
    if raw > limits.rhat_bad and aligned <= limits.rhat_bad:
        said = f"Components change places or turn (raw R-hat {rhat(raw)}): average aligned draws, never raw ones."
        yield Line("pass", "labels", said)


def _ess(metrics: Figures, limits: Thresholds) -> Line:
    least = min(metrics["ess_bulk_min_invariants"], metrics["ess_tail_min_invariants"])
    if least < limits.ess:
        return Line("warn", "ESS", f"Only {least:.0f} effective draws, and {limits.ess:g} are wanted: run longer.")
    # A fit from elsewhere has no time.
    pace = f" ({metrics['ess_per_second']:.0f} a second)" if "ess_per_second" in metrics else ""
    return Line("pass", "ESS", f"At least {least:.0f} effective draws of every invariant{pace}.")


def _khat_limit(metrics: Figures, limits: Thresholds) -> float:
    return float(metrics["khat_threshold"]) if limits.khat is None else limits.khat


def _khat(metrics: Figures, limits: Thresholds) -> Lines:
    if "khat" in metrics:
        figure, limit = f"k-hat {metrics['khat']:.2f}", _khat_limit(metrics, limits)
        good = f"q is close to the posterior ({figure}, limit {limit:.2f}): its draws can be reweighted to it."
        poor = f"q misses part of the posterior ({figure}, limit {limit:.2f}): its means may serve, its spread may not."
        yield Line("pass", "k-hat", good) if metrics["khat"] < limit else Line("warn", "k-hat", poor)


def _elbo(metrics: Figures, limits: Thresholds) -> Lines:
    if "elbo" not in metrics:
        return
    if "elbo_gap" not in metrics:
        noise = f" ± {metrics['elbo_se']:.2f}" if "elbo_se" in metrics else ""
        yield Line("pass", "ELBO", f"The ELBO is {metrics['elbo']:.2f}{noise}; the evidence is not known.")
        return
    gap, noise = metrics["elbo_gap"], metrics["elbo_gap_se"]
    level: Level = "pass" if gap - SURE * noise <= limits.elbo_gap else "warn"
    far = f"{round(gap, 2) + 0.0:.2f} ± {noise:.2f} nats below the log evidence"
    yield Line(level, "ELBO", f"The ELBO lies {far} ({metrics['evidence_is']}).")


def _loo(metrics: Figures, limits: Thresholds) -> Lines:
    if "loo_bad_khat_share" not in metrics:
        return
    share, unit = metrics["loo_bad_khat_share"], metrics.get("loo_unit", "unit")
    if "khat" in metrics and metrics["khat"] >= _khat_limit(metrics, limits):
        # LOO reweights draws as if they were the posterior's; a q that is too narrow makes it optimistic.
        yield Line("warn", "LOO", "Do not compare this LOO with a sampler's: its draws are q's.")
    elif share <= limits.loo_good:
        figure = f": {metrics['loo_elpd']:.1f} ± {metrics['loo_se']:.1f}" if "loo_elpd" in metrics else ""
        which = f"every {unit}" if share == 0 else f"all but {share:.1%} of the {unit}s"
        yield Line("pass", "LOO", f"LOO is reliable for {which}{figure}.")
    else:
        said = f"LOO is unreliable for {share:.1%} of the {unit}s"
        # A figure that cannot be used is no fault of the fit.
        cure = ": hold entries out instead (data.holdout=0.1)." if share >= limits.loo_bad else "."
        yield Line("warn", "LOO", said + cure)


def _held_out(metrics: Figures, limits: Thresholds) -> Lines:
    if count := metrics.get("holdout_impossible"):
        yield Line("fail", "held out", f"It gives probability 0 to {count} hidden entries: it is overfitted.")
    elif "holdout_loss" in metrics:
        loss, own = metrics["holdout_loss"], f"log density {metrics['holdout_elpd']:.3f} each"
        if loss > limits.holdout_loss:
            said = f"It predicts hidden entries worse than {metrics['holdout_best']}: {own}, {loss:.3f} less."
            yield Line("warn", "held out", said)
        else:
            best = f"{loss:.3f} below {metrics['holdout_best']}" if loss > 0 else "the best of all"
            yield Line("pass", "held out", f"It predicts hidden entries well: {own}, {best}.")
    if "holdout_coverage_90" in metrics:
        coverage, count = metrics["holdout_coverage_90"], metrics["holdout_entries"]
        if count < MANY:
            said = f"90% intervals hold {round(coverage * count)} of {count} hidden entries: too few to judge."
            yield Line("pass", "coverage", said)
            return
        noise = 2 * math.sqrt(0.9 * 0.1 / count)
        good = limits.coverage_low - noise <= coverage <= limits.coverage_high + noise
        said = f"90% predictive intervals hold {coverage:.1%} of {count} hidden entries."
        yield Line("pass" if good else "warn", "coverage", said)


BASELINES = (
    ("holdout_rmse", "baseline_rmse"), ("holdout_elpd", "baseline_elpd"), ("completion_rmse", "naive_rmse"),
    ("holdout_rmse", "mean_imputation_rmse"),
)  # fmt: skip
"""Figures of fits, and the same of what is predicted without one: of an elpd more is better."""


def _baseline(metrics: Figures, limits: Thresholds) -> Lines:
    for ours, plain in BASELINES:
        if ours in metrics and plain in metrics:
            name, kind = plain.removesuffix("_rmse").removesuffix("_elpd").replace("_", " "), ours.rsplit("_", 1)[1]
            figures = f"{'RMSE' if kind == 'rmse' else 'log density'} {metrics[ours]:.3f} against {metrics[plain]:.3f}"
            worse = (metrics[ours] - metrics[plain]) * (1 if kind == "rmse" else -1) > 0
            the = {"baseline": "the baseline", "naive": "the naive mean"}.get(name, name)
            lost = f"It predicts no better than {the} ({figures}): the model gains nothing."
            won = f"It predicts better than {the}: {figures}."
            yield Line("warn", "baseline", lost) if worse else Line("pass", "baseline", won)
            return


def _checks(metrics: Figures, limits: Thresholds) -> Lines:
    """Judge posterior predictive checks: one line for each that does not pass, one for those that do."""
    fine = []
    if "overdispersion_p" in metrics:
        p, ratio = metrics["overdispersion_p"], metrics["overdispersion_ratio"]
        level = graded(-p, -limits.check_good, -limits.check_bad)
        if level != "pass":
            said = f"{overdispersed(metrics)}. They vary {ratio:.2g} times as much as simulated ones (p = {p:.2g})."
            yield Line(level, "predictive checks", said)
    for name in [found[1] for found in (re.fullmatch(r"check_(.+)_p", key) for key in metrics) if found]:
        p, word = metrics[f"check_{name}_p"], name.replace("_", " ")
        level = graded(-p, -limits.check_good, -limits.check_bad)
        if level == "pass":
            fine.append(word)
            continue
        bias, distance = metrics.get(f"check_{name}_bias", 0.0), metrics[f"check_{name}_distance"]
        like = "like" if abs(bias) < distance / 2 else "as high as" if bias > 0 else "as low as"
        seldom = "never" if level == "fail" else "rarely"
        yield Line(level, "predictive checks", f"Simulated data {seldom} have {word} {like} yours (p = {p:.2g}).")
    if fine:
        yield Line("pass", "predictive checks", f"Simulated data look like yours in {listed(fine, 6)}.")


def _prior(metrics: Figures, limits: Thresholds) -> Lines:
    """Judge whether data drawn from the prior can look like the data, and name the setting to change."""
    if "prior_conflict_p" not in metrics:
        return
    p, what = metrics["prior_conflict_p"], str(metrics["prior_conflict_of"]).replace("_", " ")
    if p > limits.check_bad or metrics["prior_conflict_excess"] < EXCESS:
        yield Line("pass", "prior", "Data drawn from the prior can look like yours.")
        return
    cure = metrics["prior_conflict_setting"]
    yield Line("warn", "prior", f"Data drawn from the prior never have {what} like yours: {cure}.")


def _time(metrics: Figures, limits: Thresholds) -> Lines:
    if "seconds_to_error" in metrics:
        within = f"within {limits.time_error:g} sd of the reference's"
        yield Line("pass", "time", f"Its means were {within} after {metrics['seconds_to_error']:.3g} s.")


JUDGES: tuple[Callable[[Figures, Thresholds], Lines], ...] = (
    _status, _against_reference, _kind, _chains, _khat, _elbo, _loo, _held_out, _baseline, _checks, _prior, _time,
)  # fmt: skip
"""What looks at a fit."""
