"""What is shown of a fitted regression: coefficients, the curve or line with its band, and two of them on a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.picture import Picture
from pyrozoo.drawing.labels import short
from pyrozoo.drawing.panels import array, grid, panels
from pyrozoo.drawing.predictions import completions
from pyrozoo.models.logistic_regression.exact import Solver as Exact

MOST_DRAWS, MOST_POINTS, MOST_BARS, ACROSS, FINE = 1000, 2000, 40, 3, 121
"""Draws behind what is said of rows; rows that are points; coefficients that are drawn; panels in a line; points of a
curve, and of each side of a map."""

HOLDS = 0.86, 0.39
"""What a normal distribution of two numbers has within 2 sds of its mean, and within 1."""

GREYS = "0.92", "0.8", "0.62"
"""Of the rest of the posterior, and of these."""

TURN = np.linspace(0, 2 * np.pi, 121)


class View(view.View):
    """Tables and pictures of a regression."""

    main = ("coefficients", "curve", "line", "plane")

    def tables(self, fit: Fit) -> view.Tables:
        """Return the coefficients, what is said of rows, and predictions of hidden and missing responses."""
        return view.Tables({"coefficients": partial(_coefficients, fit)}) | self.predicted(fit)

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return the probability of each row's response, or its mean, and where 90% of the draws have it."""
        posterior: Any = fit.posterior if part is fit.data else fit.posterior.on(part)
        every = posterior.probability(Draws(fit.draws).some(MOST_DRAWS).flat()).flatten(0, -2)
        named = "mean" if fit.model.linear else f"probability[{part.response}={_one(part)}]"
        said = {named: array(every.mean(0))}
        if len(every) > 1:
            low, high = torch.quantile(every, every.new_tensor([0.05, 0.95]), dim=0)
            said |= {f"{named}_lower_90": array(low), f"{named}_upper_90": array(high)}
        return pd.DataFrame(said, index=range(len(part.row_labels)))

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return the curve or line, two coefficients on a plane, all of them, and predictions of what was hidden."""
        what = "response" if fit.model.linear else "class"
        own = (partial(each, fit) for each in (_curve, _line, _plane, _bars))
        return view.Pictures(*own, partial(completions, fit, self.hiding(fit), what))

    def compared_pictures(self, fits: Sequence[Fit], names: Sequence[str]) -> list[Picture]:
        """Return every method on the plane of two coefficients."""
        same = [fit for fit in fits if _two(fit) and fit.model == fits[0].model and fit.data.same(fits[0].data)]
        if len(same) < 2:
            return []
        called = [name for fit, name in zip(fits, names, strict=True) if any(fit is each for each in same)]
        return [_planes(same, called)]


def _one(data: Any) -> str:
    """Return what a response of 1 is called."""
    return data.levels[1] if data.levels[1:] else "1"


def _names(fit: Fit) -> list[str]:
    return list(fit.data.coords["coefficient" if fit.model.intercept else "covariate"])


def _two(fit: Fit) -> bool:
    return fit.draws["coefficients"].shape[-1] == 2 and fit.posterior.shards is None


def _flat(fit: Fit) -> Tensor:
    return fit.draws["coefficients"].flatten(0, 1)


def _in_units(fit: Fit, beta: np.ndarray) -> np.ndarray:
    """Return coefficients, [draw, P], in the units of the table's columns; the intercept is where they are 0."""
    centre, unit = (array(each) for each in (fit.data.centre, fit.data.unit))
    if not fit.model.standardize:
        centre, unit = np.zeros_like(centre), np.ones_like(unit)
    ours, scale = (array(each) for each in fit.model.unit(fit.data))
    slopes = beta[:, fit.model.intercept :] / unit[:-1] * scale
    if not fit.model.intercept:
        return slopes
    return np.column_stack([ours + scale * beta[:, 0] - slopes @ centre[:-1], slopes])


def _coefficients(fit: Fit) -> pd.DataFrame:
    """Return the coefficients: of a column in units of its sd, and of one unit of it."""
    beta = array(_flat(fit))
    units = _in_units(fit, beta)
    said = {"coefficient": _names(fit), "mean": beta.mean(0)}
    if len(beta) > 1:
        low, high = np.quantile(beta, [0.05, 0.95], axis=0)
        said |= {"sd": beta.std(0), "lower_90": low, "upper_90": high}
    said["per_unit"] = units.mean(0)
    if not fit.model.linear:
        with np.errstate(over="ignore"):
            said["odds_ratio"] = np.exp(np.median(units, 0))
    return pd.DataFrame(said)


def _chance(fit: Fit) -> str:
    if fit.model.linear:
        return short(fit.data.response)
    return f"P({short(fit.data.response)} = {short(_one(fit.data))})"


def _some(fit: Fit) -> tuple[np.ndarray, np.ndarray, str]:
    """Return covariates and responses of rows that are points, and what a caption says of them."""
    chosen = evenly(fit.data.shape[0], MOST_POINTS).to(fit.data.values.device)
    more = f" {len(chosen)} of {fit.data.shape[0]} rows, evenly chosen." if len(chosen) < fit.data.shape[0] else ""
    return array(fit.data.covariates[chosen]), array(fit.data.values[chosen, 0]), more


def _told(fit: Fit, covariates: np.ndarray) -> np.ndarray:
    """Return the probability, or the mean, at covariates [n, P] by every draw, [draw, n]."""
    like, count = fit.data.values, len(covariates)
    new = fit.data.batch(torch.zeros(count, dtype=torch.long, device=like.device))
    posterior: Any = fit.posterior.on(replace(new, covariates=torch.as_tensor(covariates).to(like)))
    return array(posterior.probability(Draws(fit.draws).some(MOST_DRAWS).flat()).flatten(0, -2))


def _curve(fit: Fit) -> Picture | None:
    """Draw the response against the only covariate, with the curve and its band."""
    if fit.data.covariates.shape[1] != 1 or not len(fit.data.values):
        return None
    x, y, more = _some(fit)
    room = 0.1 * (np.ptp(x) or 1.0)
    at = np.linspace(x.min() - room, x.max() + room, FINE)
    every = _told(fit, at[:, None])
    figure, axes = panels(6.4, 3.6)
    if len(every) > 1:
        axes.fill_between(at, *np.quantile(every, [0.05, 0.95], axis=0), color="C0", alpha=0.2, lw=0)
    axes.plot(at, every.mean(0), color="C0", lw=2)
    jitter = 0.0 if fit.model.linear else np.random.default_rng(0).uniform(-0.03, 0.03, len(y))
    axes.plot(x[:, 0], y + jitter, "o", ms=4, color="0.25", alpha=0.6, mew=0)
    axes.set(xlabel=short(fit.data.covariate_labels[0]), ylabel=_chance(fit))
    band = "; the band holds 90% of the draws" if len(every) > 1 else ""
    return Picture("curve", f"What is expected of a row{band}: it is widest where there are few rows.{more}", figure)


def _line(fit: Fit) -> Picture | None:
    """Draw the plane of two covariates with the probability of a class, and where draws have the line between both."""
    if fit.data.covariates.shape[1] != 2 or fit.model.linear:
        return None
    x, y, more = _some(fit)
    low, high = x.min(0), x.max(0)
    room = 0.1 * np.where(high > low, high - low, 1.0)
    sides = [np.linspace(a, b, FINE) for a, b in zip(low - room, high + room, strict=True)]
    mesh = np.stack(np.meshgrid(*sides), -1)
    every = _told(fit, mesh.reshape(-1, 2)).reshape(-1, FINE, FINE)
    figure, axes = panels(6.2, 4.6)
    image = axes.contourf(*sides, every.mean(0), levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
    figure.colorbar(image, ax=axes, label=_chance(fit))
    if len(every) > 1:
        for one in every[array(evenly(len(every), 25)).astype(int)]:
            axes.contour(*sides, one, levels=[0.5], colors="0.3", linewidths=0.5, alpha=0.5)
    axes.contour(*sides, every.mean(0), levels=[0.5], colors="k", linewidths=2)
    for value, color in ((0, "C0"), (1, "C3")):
        axes.plot(*x[y == value].T, "o", ms=4, color=color, mec="w", mew=0.4)
    axes.set(xlabel=short(fit.data.covariate_labels[0]), ylabel=short(fit.data.covariate_labels[1]))
    said = "Either class is as likely on the black line; thin ones are draws, which part where there are few rows."
    return Picture("line", said + more, figure)


def _bars(fit: Fit) -> Picture:
    """Draw the coefficients with their intervals, the largest first."""
    beta, names = array(_flat(fit)), _names(fit)
    order = np.argsort(-np.abs(beta.mean(0)))[:MOST_BARS][::-1]
    figure, axes = panels(6.4, 1.2 + 0.24 * len(order))
    place = np.arange(len(order))
    if len(beta) > 1:
        for wide, (low, high) in ((1.2, (0.05, 0.95)), (3.5, (0.25, 0.75))):
            axes.hlines(place, *np.quantile(beta[:, order], [low, high], axis=0), color="C0", lw=wide)
    axes.plot(beta.mean(0)[order], place, "o", color="C0", ms=5)
    axes.axvline(0, color="0.6", lw=0.8)
    axes.set_yticks(place, [short(names[j]) for j in order])
    axes.set(xlabel="coefficient, in units of its column's sd" if fit.model.standardize else "coefficient")
    more = f" The largest {len(order)} of {len(names)}." if len(order) < len(names) else ""
    said = "Means, halves and 90% of the draws." if len(beta) > 1 else "A point: there are no intervals."
    return Picture("coefficients", f"{said} What crosses 0 may be nothing.{more}", figure)


# The plane of two coefficients ----------------------------------------------------------------------------------------


def _exact(fit: Fit) -> Exact:
    posterior: Any = fit.posterior
    return fit.once("exact", lambda: Exact(posterior))


def _ends(fits: Sequence[Fit]) -> np.ndarray:
    """Return where a map of the posterior and of fits ends, [2, 2]."""
    mean, covariance = (array(each) for each in _exact(fits[0]).moments)
    sd = np.sqrt(np.diag(covariance))
    low, high = [mean - 4.2 * sd], [mean + 4.2 * sd]
    for fit in fits:
        centre = array(_flat(fit)).mean(0)
        low.append(centre - 0.3 * sd)
        high.append(centre + 0.3 * sd)
    return np.stack([np.min(low, 0), np.max(high, 0)])


def _map(axes: Axes, fit: Fit, ends: np.ndarray) -> None:
    """Draw the posterior itself: regions of highest density that hold 39, 86 and 99% of it."""
    sides = [np.linspace(low, high, FINE) for low, high in ends.T]
    points = np.stack(np.meshgrid(*sides), -1).reshape(-1, 2)
    logs = array(_exact(fit).log_density(torch.as_tensor(points).to(fit.data.values))).reshape(FINE, FINE)
    share = np.exp(logs - logs.max())
    order = np.sort(share.ravel())[::-1]
    held = order.cumsum() / order.sum()
    levels = sorted({order[np.searchsorted(held, part)] for part in (*HOLDS, 0.99)})
    axes.contourf(*sides, share, levels=[*levels, 1.01], colors=GREYS)
    axes.set(xlim=ends[:, 0], ylim=ends[:, 1])


def _over(axes: Axes, fit: Fit, color: str = "C3") -> None:
    """Draw what a fit says: a point, the draws of a chain, or the ellipse of q."""
    beta = array(_flat(fit))
    if fit.kind == "point":
        axes.plot(*beta.mean(0), "x", color=color, ms=9, mew=2)
        return
    if fit.kind in ("samples", "exact"):
        axes.plot(*beta[array(evenly(len(beta), 300)).astype(int)].T, ".", color=color, ms=3, alpha=0.6, mew=0)
    root = np.linalg.cholesky(np.cov(beta.T) + 1e-12 * np.eye(2))
    for far, wide in ((1, 1.0), (2, 2.0)):
        axes.plot(*(beta.mean(0)[:, None] + far * root @ np.stack([np.cos(TURN), np.sin(TURN)])), color=color, lw=wide)
    axes.plot(*beta.mean(0), "+", color=color, ms=9)


def _named(axes: Axes, fit: Fit) -> None:
    axes.set(xlabel=short(_names(fit)[0]), ylabel=short(_names(fit)[1]))


def _plane(fit: Fit) -> Picture | None:
    if not _two(fit):
        return None
    figure, axes = panels(5.2, 4.4)
    _map(axes, fit, _ends([fit]))
    _over(axes, fit)
    _named(axes, fit)
    said = "Grey: where 39, 86 and 99% of the exact posterior lie. Red: the fit, ellipses of its mean and covariance"
    return Picture("plane", f"{said} at 1 and 2 sds. One that is too small is too sure.", figure)


def _planes(fits: Sequence[Fit], names: Sequence[str]) -> Picture:
    figure, every = grid(len(fits), ACROSS, (3.4, 3.0), sharex=True, sharey=True)
    ends = _ends(fits)
    for axes, fit, name in zip(every, fits, names, strict=True):
        _map(axes, fit, ends)
        _over(axes, fit)
        _named(axes, fit)
        axes.label_outer()
        axes.set_title(name, fontsize=10)
    said = "Grey: the exact posterior, where 39, 86 and 99% of it lie; red: each method, at 1 and 2 sds."
    return Picture("planes", f"{said} Look at where the middle is first, then at the size, then at the tilt.", figure)
