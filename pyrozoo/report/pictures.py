"""Pictures that every model has: the objective, restarts, parameters, traces, predictive checks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.view import Pictures
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.picture import Picture
from pyrozoo.drawing.panels import panels

ALIKE = 0.1
"""Difference of objectives below which two restarts are said to end at the same optimum."""

MOST_LINES = 40
MOST_POINTS = 2000


def standard_pictures(fit: Fit, data: Mapping[str, Any]) -> Pictures:
    """Return the pictures that need nothing of the model but its contract."""
    pictures = [partial(_objective, fit)] if len(fit.trace) > 1 else []  # a closed form has no path
    if len(fit.runs) > 1 and fit.kind != "samples":
        pictures.append(partial(_restarts, fit))
    if any(value.is_floating_point() for value in fit.draws.values()):  # labels are the model's own to draw
        pictures.append(partial(_posterior, fit))
    if fit.kind == "samples" and fit.draws[next(iter(fit.draws))].shape[1] > 1:
        pictures.append(partial(_traces, fit))
    if "posterior_predictive" in data:
        sets = data["posterior_predictive"]
        whole = fit.posterior.observed in sets and sets[fit.posterior.observed].ndim == 4
        pictures.append(partial(_predictive, fit, data) if whole else partial(_totals, fit, data))
    return Pictures(*pictures)


def _objective(fit: Fit) -> Picture:
    figure, (left, right) = panels(9, 3.4, 1, 2, sharey=True)
    lines = list(fit.trace.groupby("chain"))
    shown = [lines[i] for i in evenly(len(lines), MOST_LINES)]
    best = int(np.nanargmax(fit.runs["objective"].to_numpy())) if len(fit.runs) and fit.kind != "samples" else None
    for chain, line in shown + [each for each in lines if each[0] == best]:
        style: dict[str, Any] = {"color": "C0", "lw": 0.8, "alpha": 0.5}
        if chain == best:
            style = {"color": "C3", "lw": 1.8, "zorder": 3}
        left.plot(line["iteration"], line["objective"], **style)
        right.plot(line["seconds"], line["objective"], **style)
    if len(fit.trace):
        # The first steps of an optimisation are far below the rest and would flatten all that matters.
        values = fit.trace["objective"].to_numpy()
        low, high = np.quantile(values, [0.02, 1.0])
        left.set_ylim(low - 0.05 * (high - low + 1e-9), high + 0.05 * (high - low + 1e-9))
    name = fit.objective_name.replace("mean_", "").replace("_", " ")
    left.set(xlabel="iteration", ylabel=name, title=f"{fit.method}: {name} by iteration")
    right.set(xlabel="seconds", title="and by time")
    what = "chains" if fit.kind == "samples" else "restarts; the best is red"
    return Picture("objective", f"The {name} of {len(lines)} {what}; the lowest 2% of its values are cut off.", figure)


def _restarts(fit: Fit) -> Picture:
    figure, axes = panels(6, 3)
    gaps = (fit.runs["objective"].max() - fit.runs["objective"]).dropna()
    bins = min(30, max(5, len(gaps) // 4))
    axes.hist(gaps, bins=bins, range=(0, max(float(gaps.max()), ALIKE)), color="C0")  # below ALIKE is no difference
    axes.set(xlabel="below the best restart", ylabel="restarts", title=f"Where {len(gaps)} restarts ended")
    axes.yaxis.get_major_locator().set_params(integer=True)
    return Picture("restarts", _reached(int((gaps < ALIKE).sum()), len(gaps)), figure)


def _reached(best: int, count: int) -> str:
    """Say how many restarts reach the best optimum, and what follows."""
    if best == count:
        return f"All {count} restarts end at the same optimum, within {ALIKE:g}: fewer would do."
    if best == 1:
        return f"Only one of {count} restarts reaches the best optimum. There may be a better one: try more restarts."
    return f"{best} of {count} restarts reach the best optimum, within {ALIKE:g}; the others stop below it."


def _posterior(fit: Fit) -> Picture:
    aligned = fit.aligned
    truth, thinned = _truth(fit, aligned), False
    figure = Figure(figsize=(9, 2.2 * len(aligned)), layout="constrained")
    for axes, (site, value) in zip(np.atleast_1d(figure.subplots(len(aligned), 1)), aligned.items(), strict=True):
        flat = value.flatten(0, 1).reshape(-1, max(1, value[0, 0].numel())).double().cpu().numpy()
        size = flat.shape[1]
        x = evenly(size, MOST_POINTS).numpy()
        thinned |= len(x) < size
        flat = flat[:, x]
        if fit.kind != "point":
            low, high = np.quantile(flat, [0.05, 0.95], axis=0)
            axes.vlines(x, low, high, color="C0", lw=2, alpha=0.6)
        axes.plot(x, flat.mean(0), "o", color="C0", ms=3)
        if site in truth:
            axes.plot(x, truth[site].flatten().cpu().numpy()[x], "x", color="C3", ms=4)
        shape = value.shape[2:]
        if len(shape) == 2 and shape[0] <= MOST_LINES:
            for edge in range(1, shape[0]):
                axes.axvline(edge * shape[1] - 0.5, color="0.85", lw=0.8)
        axes.set(title=site, xlim=(-0.5, size - 0.5))
        axes.set_xlabel(" by ".join(fit.posterior.sites[site]), fontsize=8)
        axes.set_xticks([])
    spread = "" if fit.kind == "point" else " with 90% intervals,"
    crosses = " Red crosses are the truth of the simulation." if truth else ""
    every = "Parameters, evenly chosen," if thinned else "Every parameter" + ("" if spread else ",")
    return Picture("posterior", f"{every}{spread} labels and rotations aligned.{crosses}", figure)


def _truth(fit: Fit, aligned: Draws) -> Values:
    """Return the global sites of a simulation with the labels of the fit; empty when unknown or of another size."""
    known = {site: fit.data.truth[site][None, None] for site in aligned if site in fit.data.truth}
    if len(known) < len(aligned) or any(known[site].shape[2:] != aligned[site].shape[2:] for site in aligned):
        return {}
    return fit.posterior.align(known, reference=aligned)


def _traces(fit: Fit) -> Picture:
    invariants = {name: value for name, value in fit.invariants.items() if value.ndim == 2}
    figure = Figure(figsize=(9, 2.2 * len(invariants)), layout="constrained")
    rows = figure.subplots(len(invariants), 2, squeeze=False, width_ratios=[3, 1])
    for (line, histogram), (name, value) in zip(rows, invariants.items(), strict=True):
        chains = value.double().cpu().numpy()
        low, high = chains.min(), chains.max()
        room = max(0.0, 1e-9 * max(1.0, abs(high)) - (high - low))  # bins of a constant need a width
        for chain in chains:
            line.plot(chain, lw=0.6, alpha=0.8)
            histogram.hist(chain, bins=30, range=(low - room, high + room), histtype="step")
        line.set(title=name.replace("_", " "), xlabel="draw")
    said = "Quantities that labels cannot change, a colour per chain. Chains should lie over each other."
    return Picture("traces", said, figure)


def _predictive(fit: Fit, data: Mapping[str, Any]) -> Picture:
    observed = _own(fit, data, fit.posterior.observed)
    seen = ~np.isnan(observed)
    simulated = data["posterior_predictive"][fit.posterior.observed].values[0]
    figure, (left, right) = panels(9, 3.2, 1, 2)
    top = int(np.nanquantile(observed, 0.999)) + 2
    bins = np.arange(top + 1) - 0.5 if top <= 60 else np.linspace(observed[seen].min(), observed[seen].max(), 41)
    actual, *densities = (np.histogram(each[seen], bins, density=True)[0] for each in (observed, *simulated))
    centres = (bins[1:] + bins[:-1]) / 2
    left.bar(centres, actual, width=np.diff(bins) * 0.9, color="0.8", label="data")
    _bars(left, centres, np.stack(densities), label="simulated, 90%")
    left.set(xlabel=fit.posterior.observed, title="All values")
    left.legend()
    actual = np.nanmean(observed, axis=0)
    low, high = _bars(right, actual, np.nanmean(np.where(seen, simulated, np.nan), axis=1))
    ends = [min(actual.min(), low.min()), max(actual.max(), high.max())]
    right.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
    right.set(xlabel="data", ylabel="simulated, 90%", title="Column means")
    return Picture("predictive", f"{AGAINST}. Points should sit on bars and on the line.", figure)


def _own(fit: Fit, data: Mapping[str, Any], name: str) -> np.ndarray:
    """Return a statistic of the data, of those units that data were simulated for."""
    sets, posterior = data["posterior_predictive"], fit.posterior
    part = posterior.some_units(sets.sizes.get(posterior.unit, posterior.units)).posterior
    if part is not posterior:
        return np.asarray(part.statistics(part.own)[name][1])
    return data["observed_data"][name].values


AGAINST = "Data simulated from the fit against the data"


def _bars(axes: Axes, at: np.ndarray, simulated: np.ndarray, **style: Any) -> tuple[np.ndarray, np.ndarray]:
    """Draw the median and 90% of what was simulated, [simulation, value]; return the ends."""
    low, middle, high = np.quantile(simulated, [0.05, 0.5, 0.95], axis=0)
    axes.errorbar(at, middle, [middle - low, high - middle], fmt=".", color="C0", **style)
    return low, high


def _totals(fit: Fit, data: Mapping[str, Any]) -> Picture:
    """Draw every statistic of the data against the same of simulated data: one panel each."""
    sets = {str(name): value.values[0] for name, value in data["posterior_predictive"].items()}
    figure, row = panels(3.6 * len(sets), 3.4, 1, len(sets), squeeze=False)
    for axes, (name, simulated) in zip(row[0], sets.items(), strict=True):
        observed = _own(fit, data, name)
        if simulated.ndim > 1:
            seen = ~np.isnan(observed)
            observed, simulated = observed[seen], simulated[:, seen]
        title = name.replace("_", " ")
        if simulated.ndim == 1:
            axes.hist(simulated, bins=20, color="C0")
            axes.axvline(observed.item(), color="C3")
            axes.set(title=title, xlabel="simulated; the data are red", yticks=[])
            axes.locator_params(axis="x", nbins=4)
            continue
        at = evenly(len(observed), MOST_POINTS).numpy()
        low, high = _bars(axes, observed[at], simulated[:, at], ms=3, lw=0.6)
        top = max(float(observed.max()), float(high.max()), 1.0)
        bottom = min(float(observed.min()), float(low.min()), 0.0)
        axes.plot([bottom, top], [bottom, top], color="0.6", lw=0.8, zorder=0)
        if top > 100:
            axes.set(xscale="symlog", yscale="symlog")
        axes.set(title=title, xlabel="data", ylabel="simulated, 90%")
    return Picture("predictive", f"{AGAINST}. Points should sit on the line, red in the heap.", figure)
