"""Pictures of several fits side by side: a method has one colour in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import evenly
from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.accuracy import Accuracy
from pyrozoo.diagnostics.card import listed
from pyrozoo.diagnostics.choice import MEASURES
from pyrozoo.diagnostics.compare import ROUNDING, Comparison, judged, varied_fields
from pyrozoo.diagnostics.outline import outline
from pyrozoo.diagnostics.planes import Planes
from pyrozoo.drawing.panels import grid, panels
from pyrozoo.studies.compare.accuracy import accuracy_picture
from pyrozoo.studies.compare.colors import MOST_NAMED, color_of
from pyrozoo.studies.compare.planes import plane_picture

CHOOSE_BY = ("elbo_labels", "elbo", "loo_elpd", "holdout_elpd", "bic", "objective", "train_nll", "test_nll")
"""Figures by which a hyper-parameter may be chosen, or seen to overfit."""

LESS_IS_BETTER = ("bic", "train_nll", "test_nll")

MOST_FORESTED = 18
MOST_DENSITIES = 6
BEYOND = 10.0
"""Reference sds at which larger errors are drawn."""


def comparison_pictures(comparison: Comparison, plane: Planes | None, accuracy: Accuracy | None) -> list[Picture]:
    """Return the pictures of a comparison."""
    against, work = partial(plane_picture, plane), partial(accuracy_picture, accuracy)
    makers = (_errors, against, work, _spread, _densities, _forest, _race, _quality, _distances)
    return [*_choices(comparison), *(made for make in makers if (made := make(comparison)) is not None)]


def _titled(axes: Axes, title: str, below: str, **style: Any) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(below, **style)


def _beside(axes: Axes) -> None:
    """Put the legend outside, once for all panels."""
    axes.legend(bbox_to_anchor=(1, 1), loc="upper left", frameon=False, fontsize=9)


def _choices(comparison: Comparison) -> list[Picture]:
    """Draw what there is to choose by against every numeric hyper-parameter that the fits vary, such as K."""
    table, pictures = comparison.table, []
    measures = [m for m in CHOOSE_BY if m in table and table[m].notna().any()]
    measures = [m for m in measures if m != "elbo" or "elbo_labels" not in measures]  # the same, but for log K!
    for name in varied_fields(comparison.fits):
        if not pd.api.types.is_numeric_dtype(table[name]) or not measures:
            continue
        figure, every = grid(len(measures), 3, (3.2, 2.8))
        for axes, measure in zip(every, measures, strict=True):
            for i, (method, part) in enumerate(table.groupby("method", sort=False)):
                line = part.sort_values(name)
                axes.plot(line[name], line[measure], "o-", ms=3, color=f"C{i}", label=str(method))
            axes.set_title(MEASURES.get(measure, measure.replace("_", " ")), fontsize=10)
            axes.set_xlabel(name.replace("_", " "), fontsize=8)
        every[0].legend(fontsize=8)
        taken = comparison.choice
        said = f"{taken.sentence} " if taken is not None and taken.name == name else ""
        few = [m.replace("_", " ") for m in measures if m in LESS_IS_BETTER]
        less = f"Higher is better{f', but of {listed(few)}' if few else ''}."
        pictures.append(Picture(f"choice_{name}", said + less, figure))
    return pictures


def _held_to(comparison: Comparison) -> list[str]:
    """Return the fits that are held to a reference other than themselves."""
    pairs = zip(comparison.names, comparison.references, strict=True)
    return [name for name, reference in pairs if reference is not None and reference != name]


def _rows(comparison: Comparison) -> Mapping[str, pd.DataFrame]:
    """Return the invariants of every fit."""
    return {str(name): frame for name, frame in comparison.invariants.groupby("fit", sort=False)}


def _references(comparison: Comparison) -> str:
    named = list(dict.fromkeys(each for each in comparison.references if each is not None))
    return named[0] if len(named) == 1 else "its reference"


def _errors(comparison: Comparison) -> Picture | None:
    others, rows = _held_to(comparison), _rows(comparison)
    if not others:
        return None
    figure, (left, right) = panels(9, max(2.6, 1.3 + 0.34 * len(others)), 1, 2, sharey=True)
    generator = np.random.default_rng(0)
    for i, name in enumerate(others):
        part = judged(rows[name], comparison.fit(name).kind)
        at = i + generator.uniform(-0.22, 0.22, len(part))
        style: dict[str, Any] = {"color": color_of(comparison, name), "ms": 4, "alpha": 0.8}
        left.plot(part["error_in_sd"].clip(-BEYOND, BEYOND), at, ".", **style)
        if part["sd_ratio"].notna().any():
            right.plot(part["sd_ratio"].clip(1 / BEYOND, BEYOND), at, ".", **style)
        else:
            right.text(1, i, "no spread", ha="center", va="center", fontsize=8, color="0.5")
    good, spread = comparison.limits.mean_good, comparison.limits.spread_good
    left.axvspan(-good, good, color="0.9", zorder=0)
    right.axvspan(spread, 1 / spread, color="0.9", zorder=0)
    right.set_xscale("log")
    low, high = right.get_xlim()
    right.set_xlim(min(low, 0.45), max(high, 2.2))
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10) if right.get_xlim()[0] <= t <= right.get_xlim()[1]]
    right.set_xticks(ticks, [f"{t:g}" for t in ticks])
    right.minorticks_off()
    _titled(left, "Means", "error of the mean, in sds of the reference")
    _titled(right, "Spread", "sd / sd of the reference")
    left.set_yticks(range(len(others)), others, fontsize=9)
    left.invert_yaxis()
    return Picture(
        "errors",
        f"Each dot is an invariant, held to {_references(comparison)}. Means in the grey band are good enough. "
        "Spread left of the band: intervals are too short; right of it: too long. "
        f"Errors beyond {BEYOND:g} are drawn at {BEYOND:g}.",
        figure,
    )


def _spread(comparison: Comparison) -> Picture | None:
    """Draw the sds of parameters and invariants against the reference's."""
    others = [n for n in _held_to(comparison) if comparison.fit(n).kind != "point"]
    if not others or len(comparison.names) > MOST_NAMED:
        return None
    figure, row = panels(9, 4, 1, 2)
    titles = ("Invariants", "Parameters, labels and rotations aligned")
    for axes, frame, title in zip(row, (comparison.invariants, comparison.parameters), titles, strict=True):
        known = frame[(frame["sd"] > 0) & (frame["reference_sd"] > 0)]
        for name in others:
            part = known[known["fit"] == name]
            part = part.iloc[evenly(len(part), 400).numpy()]
            style: dict[str, Any] = {"ms": 6, "mew": 0, "alpha": 0.9, "color": color_of(comparison, name)}
            axes.plot(part["reference_sd"], part["sd"], ".", label=name, **style)
        if len(known):
            both = known[["sd", "reference_sd"]]
            ends = [both.min().min() / 1.3, both.max().max() * 1.3]
            axes.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
            axes.fill_between(ends, [0.5 * e for e in ends], ends, color="0.93", zorder=0, lw=0)
            axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
            if ends[1] < 20 * ends[0]:  # every tick between powers of ten would be named, over each other
                for axis in (axes.xaxis, axes.yaxis):
                    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
                    axis.set_minor_formatter(NullFormatter())
        _titled(axes, title, "sd by the reference", fontsize=9)
    row[0].set_ylabel("sd by the method", fontsize=9)
    _beside(row[1])
    return Picture(
        "spread",
        "Each dot is an sd. Below the line a method's intervals are too short. The grey wedge ends at half the "
        "reference's sd. Mean-field approximations fall into it where unknowns are correlated.",
        figure,
    )


def _densities(comparison: Comparison) -> Picture | None:
    """Lay the densities of a few invariants over each other, the ones first on which the fits differ most."""
    if len(comparison.names) > MOST_NAMED or len(set(comparison.references)) > 1:
        return None
    picked = _telling(comparison)
    if not picked:
        return None
    figure, every = grid(len(picked), 3, (3.3, 2.4), (0.0, 0.4))
    rows, base = _rows(comparison), comparison.reference
    for axes, quantity in zip(every, picked, strict=True):
        shown = []
        for name, fit in zip(comparison.names, comparison.fits, strict=True):
            place = int((rows[name]["quantity"] == quantity).to_numpy().argmax())
            row, color = rows[name].iloc[place], color_of(comparison, name)
            if fit.kind == "point" or not row["sd"] > ROUNDING * abs(row["mean"]):
                axes.axvline(row["mean"], color=color, lw=1.4, ls=":", label=name)
                continue
            x, density = _density(fit, place)
            line: dict[str, Any] = {"lw": 2.2, "zorder": 3} if name == base else {"lw": 1.3, "zorder": 2}
            axes.plot(x, density, color=color, label=name, **line)
            if name == base:
                axes.fill_between(x, density, color=color, alpha=0.15, lw=0)
            shown.append((row["mean"] - 4 * row["sd"], row["mean"] + 4 * row["sd"]))
        if shown and base is None:
            axes.set_xlim(*np.median(shown, axis=0))
        elif shown and base is not None:  # what lies farther off than six sds is out of the picture
            row = rows[base][rows[base]["quantity"] == quantity].iloc[0]
            axes.set_xlim(row["mean"] - 6 * row["sd"], row["mean"] + 6 * row["sd"])
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(labelsize=8)
        axes.set_title(_short(quantity), fontsize=9)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    filled = f" {base} is the reference, filled." if base is not None else ""
    return Picture(
        "densities",
        f"Invariants on which methods differ most.{filled} Dotted lines are points. "
        "A curve beside the reference is biased; a taller one is too sure.",
        figure,
    )


def _telling(comparison: Comparison) -> list[str]:
    """Return the quantities on which fits differ most, the log-likelihood always among them."""
    wide = comparison.invariants.groupby("quantity", sort=False)
    sd = wide["sd"].median()
    known = sd[sd > 0].index
    apart = (wide["mean"].max() - wide["mean"].min())[known] / sd[known]
    ratio = np.log(wide["sd"].max()[known] / wide["sd"].min()[known])
    order = (apart + ratio).sort_values(ascending=False, kind="stable").index.tolist()
    return sorted(order, key=lambda quantity: quantity != "log_likelihood")[:MOST_DENSITIES]


def _density(fit: Fit, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a kernel density estimate of one invariant, by its place among all scalars."""
    import arviz as az

    for value in outline(fit).invariants.values():
        size = value[0, 0].numel()
        if place < size:
            return az.kde(value.reshape(*value.shape[:2], size)[..., place].double().cpu().numpy().ravel())
        place -= size
    raise IndexError(place)


def _short(text: str, most: int = 34) -> str:
    """Leave out the middle of a long name: its ends tell it from others."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - most // 2 + 1 :]}"


def _forest(comparison: Comparison) -> Picture | None:
    frame = comparison.invariants
    if len(comparison.names) > MOST_NAMED or len(set(comparison.references)) > 1:
        return None
    quantities = frame["quantity"].drop_duplicates().tolist()
    picked = [quantities[i] for i in evenly(len(quantities), MOST_FORESTED)]
    centred, count = comparison.reference or comparison.names[0], len(picked)
    figure, axes = panels(9, (0.2 + 0.045 * len(comparison.names)) * count + 1.4)
    base = frame[frame["fit"] == centred].drop_duplicates("quantity").set_index("quantity").reindex(picked)
    centre, scale = base["mean"], base["sd"].where(base["sd"] > 0).fillna(base["mean"].abs() * 0.1 + 1e-9)
    for i, name in enumerate(comparison.names):
        part = frame[frame["fit"] == name].drop_duplicates("quantity").set_index("quantity").reindex(picked)
        y = np.arange(count) + 0.7 * (i / max(1, len(comparison.names) - 1) - 0.5)
        color = color_of(comparison, name)
        x, low, high = ((part[c] - centre) / scale for c in ("mean", "lower_90", "upper_90"))
        axes.hlines(y, low.clip(-BEYOND, BEYOND), high.clip(-BEYOND, BEYOND), color=color, lw=1.4)
        axes.plot(x.clip(-BEYOND, BEYOND), y, "o", ms=3.5, color=color, label=name)
    for edge in range(1, count):
        axes.axhline(edge - 0.5, color="0.93", lw=0.8, zorder=0)
    axes.set_yticks(np.arange(count), [_short(q) for q in picked], fontsize=8)
    axes.set_ylim(count - 0.5, -0.5)
    axes.axvline(0, color="0.7", lw=0.8, zorder=0)
    axes.set_xlabel(f"distance from {centred}, in its sds (beyond {BEYOND:g} drawn at {BEYOND:g})")
    _beside(axes)
    return Picture(
        "forest",
        f"Means and 90% intervals of invariants, in sds of {centred}. Intervals should cover 0 and be as long as "
        f"those of {centred}.",
        figure,
    )


def _race(comparison: Comparison) -> Picture | None:
    """Draw objectives against seconds."""
    named = [n for n, fit in zip(comparison.names, comparison.fits, strict=True) if len(fit.trace)]
    if not named or len(comparison.names) > MOST_NAMED:
        return None
    figure, axes = panels(8, 3.8)
    levels = []
    for name in named:
        fit = comparison.fit(name)
        line = _progress(fit)
        objective = fit.objective_name.replace("mean_", "").replace("_", " ")
        color, style = color_of(comparison, name), ("-", "--", ":")[comparison.names.index(name) // 10 % 3]
        seconds, level = line["seconds"].clip(lower=1e-4), float(line["objective"].iloc[-1])
        axes.plot(seconds, line["objective"], style, label=f"{name}: {objective}", color=color, lw=1.3)
        axes.plot(seconds.iloc[-1], level, "o", ms=4, color=color)
        levels.append(level)
    low, high = min(levels), max(levels)
    room = max(high - low, 1e-3 * abs(high), 1e-9)
    axes.set(xscale="log", ylim=(low - 1.5 * room, high + 0.3 * room), xlabel="seconds", ylabel="objective")
    axes.set_title("Objective", fontsize=11)
    _beside(axes)
    said = "What each method climbs, against the clock. Do not compare heights; compare when curves flatten."
    return Picture("race", said, figure)


def _progress(fit: Fit) -> pd.DataFrame:
    """Return the best objective over restarts so far, or of a sampler the mean over chains, in the order of time."""
    trace = fit.trace[["seconds", "objective", "iteration"]].dropna().sort_values("seconds").reset_index(drop=True)
    if fit.kind == "samples":
        return trace.groupby(trace.index // max(1, len(trace) // 200)).mean()
    return trace.assign(objective=trace["objective"].cummax()) if fit.kind != "exact" else trace


def _quality(comparison: Comparison) -> Picture | None:
    """Draw what a user of predictions looks at, against the seconds that it took."""
    table, metrics = comparison.table, ("holdout_elpd", "completion_elpd", "loo_elpd")
    metric = next((m for m in metrics if m in table and table[m].notna().any()), None)
    if metric is None:
        return None
    figure, axes = panels(9, 3.2)
    named = "fit" if len(table) <= MOST_NAMED else "method"
    for i, (name, part) in enumerate(table.groupby(named, sort=False)):
        if part[metric].notna().any():
            color = color_of(comparison, str(name)) if named == "fit" else f"C{i % 10}"
            axes.plot(part["seconds"], part[metric], "o", color=color, label=name)
    axes.set(xscale="log", xlabel="seconds", ylabel=metric.replace("_", " "))
    axes.set_title("Prediction against time", fontsize=11)
    _beside(axes)
    return Picture("quality", "Up is better, left is faster.", figure)


def _distances(comparison: Comparison) -> Picture | None:
    """Draw how far fits without a reference are from each other."""
    frame = comparison.pairwise
    names = [n for n in comparison.names if n in {*frame["fit"], *frame["other"]}]
    if not 2 <= len(names) <= MOST_NAMED:
        return None
    apart = np.full((len(names), len(names)), np.nan)
    for one, other, distance in zip(frame["fit"], frame["other"], frame["median_distance"], strict=True):
        i, j = names.index(one), names.index(other)
        apart[i, j] = apart[j, i] = distance
    figure, axes = panels(1.6 + 0.75 * len(names), 1.2 + 0.55 * len(names))
    most = max(2.0, float(np.nanmax(apart)))
    axes.imshow(apart, cmap="Blues", vmin=0, vmax=most, aspect="auto")
    for i, j in zip(*np.nonzero(~np.isnan(apart)), strict=True):
        color = "white" if apart[i, j] > 0.6 * most else "0.2"
        axes.text(j, i, f"{apart[i, j]:.2f}", ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_title("Distances", fontsize=11)
    return Picture(
        "distances",
        "Typical (median) distance between the means of two fits, in sds. Nothing here says which is right: fits that "
        "agree may all be wrong.",
        figure,
    )
