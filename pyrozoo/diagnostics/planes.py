"""q against p in a plane: the pair of quantities on which fits differ most, and regions of highest density in it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyro
import torch
from contourpy import contour_generator
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.errors import NotApplicable
from pyrozoo.diagnostics.compare import LEFT_OUT_OF_POINTS, ROUNDING, Comparison, groups_of, named
from pyrozoo.diagnostics.outline import outline
from pyrozoo.program.trace import priors

MOST_DRAWS = 2000
"""Draws of a fit that are looked at, evenly chosen."""

MOST_SCALARS = 200
"""Scalars of which the pair is chosen; of more, so many are looked at, evenly chosen within every site."""

MOST_CHOICE = 10
"""Quantities that a page offers."""

FARTHEST = 5.0
"""Distance at which fits count as far apart: one that is hopeless should not choose the plane for all others."""

MASSES = (0.9, 0.5)
"""Probabilities of the regions whose edges are drawn."""

SAME = 0.9999
"""Correlation beyond which two quantities are one."""

BINS = 96
"""Cells of the grid of a density, along each axis."""

CELLS = 81
"""The same of an exact posterior."""

Line = np.ndarray
"""A closed or open polygon, [point, 2]."""


@dataclass(frozen=True)
class Planes:
    """Draws of several fits of one posterior, in aligned coordinates.

    Attributes:
        names: The fits.
        fits: The fits.
        base: The reference, or None.
        quantities: Names of scalars, at most ``MOST_CHOICE``; the first two are the pair on which fits differ most.
        draws: Fit -> [draw, quantity]; of a point estimate one row.
        distance: How far apart fits are in the plane of the first two (see ``distances``).
    """

    names: tuple[str, ...]
    fits: tuple[Fit, ...]
    base: str | None
    quantities: tuple[str, ...]
    draws: dict[str, np.ndarray]
    distance: float

    @cached_property
    def windows(self) -> np.ndarray:
        """What is shown of each quantity, [quantity, 2]: all of the reference, of others what is not too far off."""
        spread = [each for each in self.draws.values() if len(each) > 1]
        base = self.draws[self.base] if self.base is not None else np.concatenate(spread or list(self.draws.values()))
        low, middle, high = np.quantile(base, [0.004, 0.5, 0.996], axis=0)
        sd = np.maximum(base.std(0), 1e-6 * np.maximum(np.abs(middle), 1e-6))
        for each in self.draws.values():
            ends = np.quantile(each, [0.01, 0.99], axis=0)
            low, high = np.minimum(low, ends[0]), np.maximum(high, ends[1])
        low, high = np.maximum(low, middle - 7 * sd), np.minimum(high, middle + 7 * sd)
        room = 0.06 * (high - low)
        return np.stack([low - room, high + room], 1)

    def lines(self, name: str, first: int, second: int) -> list[list[Line]]:
        """Return the edges of a fit's regions of highest density, for each of ``MASSES``; of a point none."""
        draws = self.draws[name][:, [first, second]]
        return [] if len(draws) < 2 else regions(draws)

    @cached_property
    def exact(self) -> list[list[Line]]:
        """The edges of the exact posterior's regions, on a grid, where the program has two parameters; else none."""
        return exact_regions(self.fits[0], self.quantities, self.windows)


def planes_of(comparison: Comparison) -> Planes | None:
    """Return the draws of the fits of a comparison in a few quantities; None: there are no two that vary.

    Of fits of several posteriors, as in a sweep over K, those of the one that has most fits.
    """
    group = max(groups_of(comparison.fits), key=len)
    names, fits = [comparison.names[i] for i in group], [comparison.fits[i] for i in group]
    base = comparison.references[group[0]]
    if base is not None and not comparison.table["reference_judges"].get(comparison.names.index(base), 1):
        base = None
    known = _aligned(fits, names.index(base) if base is not None else 0)
    labels = list(known[0])
    values = [np.stack([each[label] for label in labels], 1) if labels else np.zeros((1, 0)) for each in known]
    at = names.index(base) if base is not None else None
    scale = _scale(values, at)
    varies = np.flatnonzero(np.isfinite(scale))
    if len(varies) < 2:
        return None
    labels, values = [labels[i] for i in varies], [each[:, varies] for each in values]
    apart = distances([each / scale[varies] for each in values], at)
    order = _order(apart, labels, _alike(values, at))
    if len(order) < 2:
        return None
    return Planes(
        names=tuple(names), fits=tuple(fits), base=base, quantities=tuple(labels[i] for i in order),
        draws={name: each[:, order] for name, each in zip(names, values, strict=True)},
        distance=float(apart[order[0], order[1]]),
    )  # fmt: skip


def _aligned(fits: Sequence[Fit], anchor: int) -> list[dict[str, np.ndarray]]:
    """Return some draws of some scalars of every fit, components aligned to one of them: name -> [draw].

    Where no parameter is a real number, as with labels of pixels, they are the invariants.
    """
    whole = outline(fits[anchor]).draws.some(MOST_DRAWS)
    if not any(value.is_floating_point() for value in whole.values()):
        return [_scalars(each, _without_likelihood(outline(each).invariants.some(MOST_DRAWS))) for each in fits]
    canonical = fits[anchor].posterior.align(whole)
    found = []
    for fit in fits:
        draws = outline(fit).draws.some(MOST_DRAWS).to(whole)
        found.append(_scalars(fit, Draws(fit.posterior.align(draws, canonical))))
    return found


def _without_likelihood(draws: Draws) -> Draws:
    return Draws({name: value for name, value in draws.items() if name != LEFT_OUT_OF_POINTS})


def _scalars(fit: Fit, draws: Draws) -> dict[str, np.ndarray]:
    """Return an even choice of the scalars of every site that is a real number, name -> [draw]."""
    real = {site: value for site, value in draws.items() if value.is_floating_point()}
    total = sum(value[0, 0].numel() for value in real.values())
    found: dict[str, np.ndarray] = {}
    for site, value in real.items():
        flat = value.flatten(0, 1).flatten(1).double().cpu() if value.ndim > 2 else value.flatten().double()[:, None]
        count = flat.shape[1]
        at = evenly(count, count if total <= MOST_SCALARS else max(1, MOST_SCALARS * count // total)).tolist()
        labels = named(site, outline(fit).labels[site])
        found |= {labels[i]: flat[:, i].cpu().numpy() for i in at}
    return found


def _scale(values: Sequence[np.ndarray], base: int | None) -> np.ndarray:
    """Return the reference's sds, or without one the typical sd of fits that have any; NaN of what is constant."""
    spread = [values[base]] if base is not None else [each for each in values if len(each) > 1]
    if not spread:
        spread = [np.concatenate(values)]
    sds = np.stack([each.std(0) for each in spread])
    sizes = np.stack([np.abs(each.mean(0)) for each in spread])
    sd = np.median(sds, 0)
    return np.where((sds > ROUNDING * sizes).any(0) & (sd > 0), sd, np.nan)


def distances(values: Sequence[np.ndarray], base: int | None) -> np.ndarray:
    """Return how far apart fits are in the plane of every two quantities, [quantity, quantity].

    It is the Wasserstein distance of normal approximations in two dimensions (Dowson and Landau 1982, Journal of
    Multivariate Analysis 12)::

        d² = |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^(1/2))

    It counts means, spreads and correlations in one unit, the reference's sd; a point has no spread. Distances count up
    to ``FARTHEST``, and are averaged over the fits with a spread.

    Args:
        values: For each fit, [draw, quantity], in units of the reference's sds.
        base: The reference, to which the others are held; None: to each other.
    """
    means = [each.mean(0) for each in values]
    covariances = [np.atleast_2d(np.cov(each.T, ddof=0)) for each in values]
    spread = [i for i, each in enumerate(values) if len(each) > 1 and i != base]
    others = spread or [i for i in range(len(values)) if i != base]
    pairs = list(itertools.combinations(others, 2)) if base is None else [(i, base) for i in others]
    total = np.zeros_like(covariances[0])
    for i, j in pairs:
        total += np.minimum(_wasserstein(means[i] - means[j], covariances[i], covariances[j]), FARTHEST)
    if not pairs:  # one fit: what it says of a plane at all is how its quantities go together
        total += np.abs(covariances[0] - np.diag(np.diag(covariances[0])))
    np.fill_diagonal(total, -1.0)
    return total / max(1, len(pairs))


def _wasserstein(shift: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the distance in every plane; of two matrices tr (A B)^(1/2) = (tr AB + 2 (det A det B)^(1/2))^(1/2)."""
    a, b = np.diag(one), np.diag(other)
    trace = a[:, None] * b[:, None] + a * b + 2 * one * other
    determinants = np.clip(np.outer(a, a) - one**2, 0, None) * np.clip(np.outer(b, b) - other**2, 0, None)
    cross = np.sqrt(np.clip(trace + 2 * np.sqrt(determinants), 0, None))
    square = np.add.outer(shift**2, shift**2) + np.add.outer(a + b, a + b) - 2 * cross
    return np.sqrt(np.clip(square, 0, None))


def _alike(values: Sequence[np.ndarray], base: int | None) -> np.ndarray:
    """Return which quantities are one and the same up to scale, such as a covariance twice, or two shares that add up.

    They are so in the reference, or in the first fit with a spread, [quantity, quantity].
    """
    one = values[base] if base is not None else next((each for each in values if len(each) > 2), values[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(np.corrcoef(one.T)) > SAME if len(one) > 2 else np.eye(one.shape[1], dtype=bool)


def _order(apart: np.ndarray, labels: Sequence[str], alike: np.ndarray) -> list[int]:
    """Return the quantities to offer: the pair farthest apart, the foremost of every other site, and then the rest.

    Of several that are alike one is offered.
    """
    apart = np.where(alike, -1.0, apart)
    pair = [int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape)]
    best = np.argsort(-apart.max(1), kind="stable").tolist()
    seen = {labels[i].partition("[")[0] for i in pair}
    foremost = []
    for i in best:
        site = labels[i].partition("[")[0]
        if site not in seen:
            seen.add(site)
            foremost.append(i)
    order: list[int] = []
    for i in dict.fromkeys([*sorted(pair), *foremost, *best]):
        if not alike[i, order].any():
            order.append(int(i))
    return order[:MOST_CHOICE]


def regions(draws: np.ndarray) -> list[list[Line]]:
    """Return the edges of the smallest regions that hold each of ``MASSES`` of the draws [draw, 2].

    The density is a kernel density estimate whose kernel has the shape of the draws' covariance, a little narrower than
    Scott's rule says, which is made for one normal hump; the level is the quantile of the density at the draws
    themselves (Hyndman 1996, The American Statistician 50).
    """
    from scipy.ndimage import gaussian_filter

    mean, covariance = draws.mean(0), np.cov(draws.T)
    root = np.linalg.cholesky(covariance + np.diag(1e-8 * np.diag(covariance) + 1e-300))
    white = np.linalg.solve(root, (draws - mean).T).T
    width = 0.85 * len(draws) ** (-1 / 6)
    low, high = np.quantile(white, [0.001, 0.999], axis=0)
    edges = [np.linspace(a - 4 * width, b + 4 * width, BINS + 1) for a, b in zip(low, high, strict=True)]
    counts = np.histogram2d(white[:, 0], white[:, 1], bins=(edges[0], edges[1]))[0]
    step = np.array([each[1] - each[0] for each in edges])
    density = gaussian_filter(counts, width / step, mode="constant")
    inside = [np.clip(((white[:, k] - edges[k][0]) / step[k]).astype(int), 0, BINS - 1) for k in (0, 1)]
    levels = np.quantile(density[inside[0], inside[1]], [1 - mass for mass in MASSES])
    x, y = ((each[1:] + each[:-1]) / 2 for each in edges)
    return [[mean + line @ root.T for line in _contour(x, y, density, level)] for level in levels]


def _contour(x: np.ndarray, y: np.ndarray, density: np.ndarray, level: float) -> list[Line]:
    """Return the lines of a level of a density [x, y]; specks are left out."""
    lines = contour_generator(x, y, density.T).lines(level)
    whole = max((len(each) for each in lines), default=0)
    return [np.asarray(each) for each in lines if len(each) >= max(5, 0.05 * whole)]


def exact_regions(fit: Fit, quantities: Sequence[str], windows: np.ndarray) -> list[list[Line]]:
    """Return the edges of the regions of the exact posterior of a program with two real parameters, from a grid.

    Args:
        fit: A fit of it.
        quantities: Names of the parameters, x and y.
        windows: Where the grid lies, [quantity, 2].
    """
    sites = outline(fit).draws
    if sites.scalars != 2 or not all(value.is_floating_point() for value in sites.values()):
        return []
    x, y = (np.linspace(low, high, CELLS) for low, high in windows[:2])
    points = np.stack([each.ravel() for each in np.meshgrid(x, y, indexing="ij")], 1)
    try:
        density = _density_at(fit, quantities, points).reshape(CELLS, CELLS)
    except NotApplicable:  # draws from elsewhere come without a program
        return []
    held = np.sort(density.ravel())[::-1]
    levels = [float(held[np.searchsorted(held.cumsum(), mass * held.sum())]) for mass in MASSES]
    return [_contour(x, y, density, level) for level in levels]


def _density_at(fit: Fit, quantities: Sequence[str], points: np.ndarray) -> np.ndarray:
    """Return the posterior density at points [point, 2] up to a factor; 0 where a parameter cannot be."""
    names = {name: (site, place) for site, value in outline(fit).draws.items()
             for place, name in enumerate(named(site, outline(fit).labels[site]))}  # fmt: skip
    draws = Draws()
    for site, value in fit.draws.items():
        columns = [(names[q][1], points[:, k]) for k, q in enumerate(quantities[:2]) if names[q][0] == site]
        stacked = np.stack([column for _, column in sorted(columns, key=lambda pair: pair[0])], 1)
        draws[site] = torch.as_tensor(stacked).to(value).reshape(1, len(points), *value.shape[2:])
    fit.posterior.log_density(fit.draws.some(1))
    inside = _inside(fit.posterior, draws)
    logs = np.full(len(points), -np.inf)
    with torch.no_grad():
        some = Draws({site: value[:, inside] for site, value in draws.items()})
        logs[inside.numpy()] = fit.posterior.log_density(some).flatten().double().cpu().numpy()
    logs = np.nan_to_num(logs, nan=-np.inf)
    return np.exp(logs - logs.max())


def _inside(posterior: Posterior, draws: Draws) -> Tensor:
    """Return which draws [1, draw, *event] are where the priors allow them to be, [draw]."""
    first = next(draws.each())
    found = priors(posterior.program, posterior.sites, first, posterior.few, posterior.depth)
    whole = torch.ones(draws.shape[1], dtype=torch.bool)
    with pyro.validation_enabled(False):
        for site, prior in found.items():
            fits = torch.as_tensor(prior.support.check(draws[site][0]))
            whole &= fits.reshape(len(fits), -1).all(1).cpu()
    return whole
