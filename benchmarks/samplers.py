"""Effective draws a second of every model's Gibbs sampler against NUTS on the compiled program, on its default data."""

from __future__ import annotations

from collections.abc import Iterator

import pyrozoo
from benchmarks.harness import Row
from pyrozoo.run import catalog

WANTED = 1000
"""Effective draws that the seconds are those of: the fewest of all invariants, bulk and tail, warm-up counted."""


def rows() -> Iterator[Row]:
    """Yield a row per model that has both: the seconds of Gibbs, and those of NUTS."""
    for model in catalog.models():
        if {"gibbs", "nuts"} <= set(catalog.methods(model)):
            gibbs, nuts = (_of(model, method) for method in ("gibbs", "nuts"))
            yield Row(f"{model} Gibbs, default data: seconds for {WANTED} effective draws of every invariant", gibbs[0],
                      "nuts, compiled", nuts[0], note=f"Gibbs {gibbs[1]}; NUTS {nuts[1]}")  # fmt: skip
        elif "nuts" in catalog.methods(model) or "gibbs" in catalog.methods(model):
            method = "nuts" if "nuts" in catalog.methods(model) else "gibbs"
            seconds, figures = _of(model, method)
            what = f"{model} {method}, default data: seconds for {WANTED} effective draws of every invariant"
            yield Row(what, seconds, "none", None, note=figures)


def _of(model: str, method: str) -> tuple[float, str]:
    """Return the seconds of ``WANTED`` effective draws, and what the fit says of itself."""
    fit = pyrozoo.fit(model, method, threads=2, progress=False)
    found = fit.metrics
    least = min(float(found[f"ess_{part}_min_invariants"]) for part in ("bulk", "tail"))
    rhat = float(found["rhat_max_invariants"])
    figures = f"R-hat {rhat:.4f}, {least:.0f} effective draws in {fit.seconds:.1f} s"
    return fit.seconds * WANTED / least, f"{figures}, {least / fit.seconds:.0f} a second"
