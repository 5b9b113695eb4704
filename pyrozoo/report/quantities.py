"""The plane of two quantities in which fits move most: where each is, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.view import view_of
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.movie import Columns, Layer, Scene, ellipse
from pyrozoo.diagnostics.compare import named

MOST_SCALARS, MOST_DOTS, MOST_DRAWS = 200, 300, 50
"""Scalars of which the pair is chosen, draws of the base that are dots, and draws of a q at a moment: of more some,
evenly."""

RADIUS = (2 * np.log(10)) ** 0.5
"""Mahalanobis distance within which 90% of a normal plane lie."""

ALIKE = 0.98
"""Correlation over the run beyond which two quantities say the same."""

FARTHEST = 7.0
"""Sds of the base that a picture shows around its middle, at most."""

TAIL = 6
"""Moments that a chain's line goes back."""

Shot = tuple[Scene, list[list[Columns]]]


def plane(fits: Sequence[Fit], thens: Sequence[Sequence[Fit]], base: Fit | None) -> list[Shot]:
    """Return a scene for each fit, all in one plane: that of the pair of real quantities that moves most.

    Args:
        fits: The fits.
        thens: Each as it was at some moments, aligned.
        base: Draws that are shown under all of them; None: under each its own.

    Returns:
        None of them where no two parameters are real numbers.
    """
    names, way = _ways(thens)
    if len(names) < 2:
        return []
    under = [_under(base if base is not None and alike(base, fit) else fit, then[-1])
             for fit, then in zip(fits, thens, strict=True)]  # fmt: skip
    dots = [_chosen(names, each) if each is not None else None for each in under]
    first, second = _pair(way, dots)
    at = [first, second]
    windows = _windows([np.stack([each.mean(0)[at] for each in frames]) for frames in way],
                       [each[:, at] for each in dots if each is not None])  # fmt: skip
    shots = []
    for fit, frames, known in zip(fits, way, dots, strict=True):
        layers, moving = _layers(fit.kind, [each[:, at] for each in frames], None if known is None else known[:, at])
        scene = Scene(
            "a pair of quantities", _caption(fit.kind, known is not None, base is not None), names[first],
            names[second], layers, windows[0], windows[1],
        )  # fmt: skip
        shots.append((scene, moving))
    return shots


def _caption(kind: str, dots: bool, others: bool) -> str:
    under = ("Grey: draws of the reference. " if others else "Grey: draws of the fit at its end. ") if dots else ""
    here = {
        "point": "The dot is the point, the line its way.",
        "samples": "A colour is a chain: where it is, where it has been.",
    }
    return under + here.get(kind, "Dots are draws from q, the line holds 90% of a normal one.")


def _ways(thens: Sequence[Sequence[Fit]]) -> tuple[list[str], list[list[np.ndarray]]]:
    """Return names of scalars that all fits have, and of each fit at each moment draws of them, [draw, scalar]."""
    known = [[_scalars(then, then.aligned) for then in each] for each in thens]
    names = [name for name in known[0][0] if all(name in each[0] for each in known)]
    return names, [[np.stack([one[name] for name in names], 1) if names else np.zeros((1, 0)) for one in each]
                   for each in known]  # fmt: skip


def _scalars(fit: Fit, draws: Draws) -> dict[str, np.ndarray]:
    """Return some draws of an even choice of the scalars of every site that is a real number, name -> [draw]."""
    real = {site: value for site, value in draws.items() if value.is_floating_point()}
    mine = {site: value for site, value in real.items() if site in view_of(fit.model).moves}
    real = mine if sum(value[0, 0].numel() for value in mine.values()) > 1 else real
    total, found = sum(value[0, 0].numel() for value in real.values()), {}
    for site, value in real.items():
        shape, flat = value.shape[2:], value.flatten(0, 1).flatten(1) if value.ndim > 2 else value.flatten()[:, None]
        count = flat.shape[1]
        at = evenly(count, count if total <= MOST_SCALARS else max(1, MOST_SCALARS * count // total))
        columns = flat[:, at.to(flat.device)].double().cpu().numpy()
        labels = [_labels(fit, dim, size) for dim, size in zip(fit.posterior.sites[site], shape, strict=True)]
        places = np.stack(np.unravel_index(at.numpy(), shape), 1) if shape else np.zeros((1, 0), int)
        for place, column in zip(places, columns.T, strict=True):
            own = [[labels[axis][i]] for axis, i in enumerate(place)]
            found[named(site, own)[0]] = column
    return found


def _labels(fit: Fit, dim: str, size: int) -> Sequence[str]:
    known = fit.data.coords.get(dim, ())
    return [str(each) for each in known] if len(known) == size else [str(i) for i in range(size)]


def alike(one: Fit, other: Fit) -> bool:
    """Return whether fits have the same sites, of the same sizes."""
    shapes = [{site: value.shape[2:] for site, value in fit.draws.items()} for fit in (one, other)]
    return shapes[0] == shapes[1]


def _under(base: Fit, last: Fit) -> dict[str, np.ndarray] | None:
    """Return draws of a fit, aligned to the end of another; None: it is a point."""
    if base.kind == "point":
        return None
    some = base.draws.some(MOST_DOTS).to(last.aligned)
    return _scalars(base, Draws(base.posterior.align(some, last.aligned)))


def _chosen(names: Sequence[str], draws: dict[str, np.ndarray]) -> np.ndarray | None:
    return np.stack([draws[name] for name in names], 1) if all(name in draws for name in names) else None


def _pair(way: Sequence[Sequence[np.ndarray]], dots: Sequence[np.ndarray | None]) -> tuple[int, int]:
    """Return the two quantities that move farthest, in sds of what is under them, and not together."""
    means = [np.stack([each.mean(0) for each in frames]) for frames in way]
    known = [each for each in dots if each is not None]
    scale = np.median([each.std(0) for each in known], 0) if known else np.ones(means[0].shape[1])
    size = np.abs(np.concatenate(means)).mean(0)
    scale = np.maximum(scale, 1e-6 * size + 1e-300) if known else np.maximum(size, 1e-300)
    moved = np.median([np.minimum(np.ptp(each, 0) / scale, 1e3) for each in means], 0)
    if not moved.any():  # one moment: what is widest
        moved = np.median([each.std(0) / np.maximum(size, 1e-300) for each in known], 0) if known else moved
    order = np.argsort(-moved, kind="stable")
    together = np.nan_to_num(np.corrcoef(np.concatenate(means).T)) if sum(map(len, means)) > 2 else np.eye(len(order))
    first = int(order[0])
    other = next((int(i) for i in order[1:] if abs(together[first, i]) < ALIKE), int(order[1]))
    return first, other


def _windows(means: Sequence[np.ndarray], dots: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Return the ends of both axes: dots, and the ways of fits but for starts that are far off."""
    late = np.concatenate([each[len(each) // 6 :] for each in means])
    low, high = late.min(0), late.max(0)
    if dots:
        every = np.concatenate(dots)
        middle, sd = np.median(every, 0), np.maximum(every.std(0), 1e-9)
        low = np.minimum(np.maximum(low, middle - FARTHEST * sd), np.quantile(every, 0.005, axis=0))
        high = np.maximum(np.minimum(high, middle + FARTHEST * sd), np.quantile(every, 0.995, axis=0))
    room = np.maximum(0.08 * (high - low), 1e-3 * np.abs(low) + 1e-9)
    return [(float(a), float(b)) for a, b in zip(low - room, high + room, strict=True)]


def _layers(kind: str, frames: list[np.ndarray], dots: np.ndarray | None) -> tuple[list[Layer], list[list[Columns]]]:
    """Return the layers of a fit in the plane, and what moves of each: draws [draw, 2] at every moment are given."""
    layers, moving = [], []
    nothing: list[Columns] = [{} for _ in frames]
    if dots is not None:
        layers.append(Layer("points", still={"x": dots[:, 0], "y": dots[:, 1]}, size=4, alpha=0.35))
        moving.append(nothing)
    now: list[Columns] = []
    if kind == "samples":
        chains = list(range(len(frames[0])))
        been = [np.concatenate(frames[: i + 1]) for i in range(len(frames))]
        layers += [Layer("points", size=3, alpha=0.5), Layer("lines", size=1.2, alpha=0.7)]
        moving.append([{"x": e[:, 0], "y": e[:, 1], "color": chains * (i + 1)} for i, e in enumerate(been)])
        tails = [np.stack(frames[max(0, i - TAIL) : i + 1]) for i in range(len(frames))]
        moving.append([{"xs": list(e[:, :, 0].T), "ys": list(e[:, :, 1].T), "color": chains} for e in tails])
        now = [{"x": e[:, 0], "y": e[:, 1], "color": chains} for e in frames]
    elif kind == "point":
        points = np.concatenate([each[:1] for each in frames])
        layers.append(Layer("lines", size=1.2, alpha=0.7))
        moving.append(
            [{"xs": [points[: i + 1, 0]], "ys": [points[: i + 1, 1]], "color": [0]} for i in range(len(points))]
        )
        now = [{"x": each[:1, 0], "y": each[:1, 1], "color": [0]} for each in frames]
    else:
        some = [each[evenly(len(each), MOST_DRAWS).numpy()] for each in frames]
        edges = [ellipse(e.mean(0), np.cov(e.T) if len(e) > 1 else np.zeros((2, 2)), RADIUS) for e in frames]
        layers.append(Layer("lines", size=2.5))
        moving.append([{"xs": [x], "ys": [y], "color": [0]} for x, y in edges])
        now = [{"x": each[:, 0], "y": each[:, 1], "color": [0] * len(each)} for each in some]
    layers.append(Layer("points", size=4 if kind not in ("samples", "point") else 10, alpha=0.8))
    return layers, [*moving, now]
