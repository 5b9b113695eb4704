"""The choice of a hyper-parameter over a sweep, such as K: the smallest value that nothing beats beyond its noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyrozoo.contracts.fit import Fit
from pyrozoo.diagnostics.answer import Told
from pyrozoo.diagnostics.card import listed
from pyrozoo.diagnostics.metrics import loo_by_unit

ERRORS = 2.0
"""Standard errors of a paired difference within which two values cannot be told apart."""

MEASURES: Mapping[str, str] = {
    "holdout_elpd": "log density of hidden entries", "loo_elpd": "LOO", "elbo_labels": "ELBO + log K!", "elbo": "ELBO",
    "bic": "BIC",
}  # fmt: skip
"""What there is to choose by, the best first -> what it is called."""


@dataclass(frozen=True)
class Choice:
    """What a sweep over a hyper-parameter says.

    Attributes:
        name: The hyper-parameter.
        value: The smallest value that nothing beats beyond its noise.
        measure: What it was chosen by.
        method: The method whose fits were compared.
        sentence: What to take, and what is within noise of it.
        group: The places of the fits with that value.
    """

    name: str
    value: Any
    measure: str
    method: str
    sentence: str
    group: tuple[int, ...]


def choose(fits: Sequence[Fit], varied: Sequence[str], told: Sequence[Told]) -> Choice | None:
    """Choose a value of the one numeric hyper-parameter that a sweep varies, or nothing.

    Values are compared by the best measure there is, of the method that is the reference of most of them, in paired
    differences: of hidden entries, of units of LOO. A mixture's ELBO is that of one of K! equal modes, and log K! is
    added to it.
    """
    numeric = [name for name in varied if all(_is_number(getattr(fit.model, name)) for fit in fits)]
    if len(varied) != 1 or len(numeric) != 1:
        return None
    (name,) = numeric
    found = ((measure, method) for measure in MEASURES for method in _methods(told))
    for measure, method in found:
        by = {getattr(f.model, name): f for f in reversed(fits) if f.method == method and measure in f.metrics}
        if len(by) > 1:
            return _chosen(name, measure, method, by, fits)
    return None


def _methods(told: Sequence[Told]) -> list[str]:
    """Return the methods, those first that are to be believed."""
    references = [fit.metrics["method"] for fit in told if fit.metrics.get("is_reference")]
    good = [fit.metrics["method"] for fit in told if fit.card.level == "pass"]
    return list(dict.fromkeys([*references, *good, *(str(fit.metrics["method"]) for fit in told)]))


def _chosen(name: str, measure: str, method: str, by: Mapping[Any, Fit], fits: Sequence[Fit]) -> Choice:
    sign = -1 if measure == "bic" else 1
    best = max(by, key=lambda value: sign * float(by[value].metrics[measure]))
    alike = [best]
    for value in by:
        gap, noise = _difference(by[best], by[value], measure)
        if value != best and gap <= ERRORS * noise:
            alike.append(value)
    take, *others = sorted(alike)
    words = f"by the {MEASURES[measure]} of {method}"
    within = listed([f"{value:g}" for value in others], len(by))
    noisy = f"; {within} {'is' if len(others) == 1 else 'are'} within its noise" if others else ""
    group = tuple(i for i, fit in enumerate(fits) if getattr(fit.model, name) == take)
    return Choice(name, take, measure, method, f"Take {name}={take:g}, {words}{noisy}.", group)


def _difference(best: Fit, other: Fit, measure: str) -> tuple[float, float]:
    """Return by how much one fit is ahead of another, and the standard error of that."""
    pairs = None
    if measure == "holdout_elpd":
        pairs = [fit.held_out[0].scores.double().cpu().numpy() for fit in (best, other)]
    elif measure == "loo_elpd":
        pairs = [loo_by_unit(fit)[0] for fit in (best, other)]
    if pairs is not None:
        apart = pairs[0] - pairs[1]
        return float(apart.mean()), float(apart.std(ddof=1) / math.sqrt(len(apart))) if len(apart) > 1 else math.inf
    noise = math.hypot(*(float(fit.metrics.get("elbo_se", 0.0)) for fit in (best, other)))
    return abs(float(best.metrics[measure]) - float(other.metrics[measure])), noise


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
