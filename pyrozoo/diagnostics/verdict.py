"""What to believe of one fit, line by line: pass, warn or fail, with the reason in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["pass", "warn", "fail"]

RHAT_GOOD, RHAT_BAD = 1.01, 1.05
ESS_ENOUGH = 400
EBFMI_ENOUGH = 0.3
"""Betancourt (2016, arXiv:1604.00695): below it a chain's energy moves too little from draw to draw."""
COVERAGE_GOOD = (0.87, 0.93)


@dataclass(frozen=True)
class Line:
    """One line of a verdict."""

    level: Level
    about: str
    sentence: str


def verdict(metrics: Mapping[str, Any]) -> list[Line]:
    """Judge a fit by its figures.

    Args:
        metrics: As ``diagnostics.metrics.evaluate`` returns them.

    Returns:
        Lines in order of importance.
    """
    lines = [_status(metrics)]
    kind = metrics["kind"]
    if kind == "point":
        lines.append(
            Line("warn", "uncertainty", "A point estimate has none: no intervals for parameters, no R-hat, no LOO.")
        )
    if kind == "exact":
        lines.append(Line("pass", "exact", "The posterior itself: nothing is approximated but by the number of draws."))
    if "rhat_max" in metrics:
        lines += [_rhat(metrics), _ess(metrics)]
    elif kind == "samples":
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
        lines.append(_ebfmi(metrics))
    if "khat" in metrics:
        lines.append(_khat(metrics))
    if "loo_bad_khat_share" in metrics:
        lines.append(_loo(metrics))
    if metrics.get("holdout_impossible"):
        count = metrics["holdout_impossible"]
        lines.append(
            Line("fail", "held out", f"The fit gives probability 0 to {count} hidden entries: it is overfitted.")
        )
    if "holdout_coverage_90" in metrics and metrics["holdout_entries"] >= 100:
        coverage = metrics["holdout_coverage_90"]
        good = COVERAGE_GOOD[0] <= coverage <= COVERAGE_GOOD[1]
        lines.append(
            Line(
                "pass" if good else "warn",
                "coverage",
                f"90% predictive intervals hold {coverage:.1%} of {metrics['holdout_entries']} hidden entries.",
            )
        )
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


def _rhat(metrics: Mapping[str, Any]) -> Line:
    raw, aligned, invariants = metrics["rhat_max_raw"], metrics["rhat_max"], metrics["rhat_max_invariants"]
    figures = (
        f"R-hat is at most {invariants:.3f} on invariants, {aligned:.3f} on aligned and {raw:.3f} on raw parameters"
    )
    if invariants > RHAT_BAD:
        return Line("fail", "R-hat", f"{figures}: the chains disagree on quantities that labels cannot explain.")
    if invariants > RHAT_GOOD:
        return Line("warn", "R-hat", f"{figures}: run longer.")
    if aligned > RHAT_BAD:
        return Line(
            "warn", "R-hat", f"{figures}: predictions agree, single components do not (another mode, or alignment)."
        )
    if raw > RHAT_BAD:
        return Line("pass", "R-hat", f"{figures}: the difference is label switching only.")
    return Line("pass", "R-hat", f"{figures}.")


def _ess(metrics: Mapping[str, Any]) -> Line:
    ess = min(metrics["ess_bulk_min_invariants"], metrics["ess_tail_min_invariants"])
    enough = ess >= ESS_ENOUGH
    return Line(
        "pass" if enough else "warn",
        "ESS",
        f"At least {ess:.0f} effective draws for every invariant"
        + (f" ({metrics['ess_per_second']:.0f} a second)." if enough else f"; {ESS_ENOUGH} are wanted: run longer."),
    )


def _ebfmi(metrics: Mapping[str, Any]) -> Line:
    value = metrics["ebfmi_min"]
    if value >= EBFMI_ENOUGH:
        return Line("pass", "E-BFMI", f"E-BFMI is at least {value:.2f}: momenta reach all levels of energy.")
    return Line(
        "warn", "E-BFMI",
        f"E-BFMI is {value:.2f} in the worst chain ({EBFMI_ENOUGH} is wanted): tails are heavier than momenta reach; "
        "run longer, or state the model in other parameters.",
    )  # fmt: skip


def _loo(metrics: Mapping[str, Any]) -> Line:
    share = metrics["loo_bad_khat_share"]
    level: Level = "pass" if share == 0 else "warn" if share < 0.1 else "fail"
    sentence = f"{share:.1%} of the units have a Pareto k-hat too high for LOO to be trusted."
    if metrics.get("khat", 0.0) >= metrics.get("khat_threshold", 1.0):
        # LOO reweights draws as if they were the posterior's; a q that is too narrow makes it optimistic.
        sentence += (
            " Its draws are q's, which misses part of the posterior: this LOO is not comparable with a sampler's."
        )
        level = "warn" if level == "pass" else level
    return Line(level, "LOO", sentence)


def _khat(metrics: Mapping[str, Any]) -> Line:
    khat, limit = metrics["khat"], metrics["khat_threshold"]
    if khat < limit:
        return Line(
            "pass", "k-hat", f"Pareto k-hat is {khat:.2f} (limit {limit:.2f}): q is close enough to reweight to p."
        )
    return Line(
        "warn",
        "k-hat",
        f"Pareto k-hat is {khat:.2f} (limit {limit:.2f}): q misses part of p; use its means, not its spread.",
    )
