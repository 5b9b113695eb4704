"""A palette by coverage: few colours that leave no distinct colour out, however rare, in a noisy picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

DEAD, FAR, NEARBY, LEAST = {1: 2.5, 3: 3.6}, 1.5, 0.75, 4.0
"""How far pixels may be from their colour at no cost: in sds of the noise, by the number of channels (99 and 98 of 100
are); what is farther, times this, does not move it; the least such distance where there is no noise, of 256."""

CELLS, CANDIDATES, SWEEPS, SWAPPED, BLOCK = 48, 1500, 10, 16, 2_000_000
"""Cells along each axis of the histogram; its fullest parts that may become colours; passes over the colours; up to how
many colours each is tried in another place; distances that are held at a time."""

Pixels = np.ndarray
"""[H, W, D] float64: D = 3 for colours, 1 for grey values."""


def palette(pixels: Pixels, seen: np.ndarray, count: int) -> np.ndarray:
    """Choose colours for a picture of noisy flat areas.

    The cost of a choice is the mean of max(0, d - r)^2, d the distance of a pixel to the nearest colour and r what the
    noise explains, which is read off neighbouring pixels. What is within the noise costs nothing, so that a second
    colour for a common area gains less than one for a rare area. Pixels between two neighbours, in place and in colour,
    are mixtures along a border, and have no say unless they are part of an area of their own. Colours are added one
    after another where the cost falls most, then each is tried in every other place (partitioning around medoids,
    Kaufman and Rousseeuw 1990), then moved to the mean of their pixels.

    Args:
        pixels: The picture.
        seen: Which pixels count, [H, W].
        count: How many colours, fewer than the picture has.

    Returns:
        The colours, [count, D], the most common first.
    """
    scale = float(np.ptp(pixels[seen], axis=0).max()) or 1.0
    noise = _noise(pixels, seen)
    free = max(DEAD[pixels.shape[-1]] * noise, LEAST / 256 * scale)
    chosen = pixels[seen & ~(_mixtures(pixels, 2 * free) & ~_flat(pixels, FAR * free))]
    if len(chosen) < seen.sum() / 4:  # a picture of nothing but borders
        chosen = pixels[seen]
    places, weights = _histogram(chosen, max(scale / CELLS, noise / 2))
    candidates, held = _histogram(chosen, max(scale / CELLS, free / 2))
    if len(candidates) < count:
        candidates, held = places, weights
    candidates = _peaks(places, weights, candidates[np.argsort(-held, kind="stable")[:CANDIDATES]], count, free)
    return _moved(places, weights, candidates[_medoids(places, weights, candidates, count, free)], FAR * free)


def nearest(pixels: Pixels, colours: np.ndarray) -> np.ndarray:
    """Return the number of the nearest colour of every pixel, [H, W]."""
    flat = pixels.reshape(-1, pixels.shape[-1])
    return _nearest(flat, colours)[0].reshape(pixels.shape[:-1])


def _noise(pixels: Pixels, seen: np.ndarray) -> float:
    """Return the sd of the noise of a channel, from the median difference of neighbours: most are of one area."""
    across = np.abs(np.diff(pixels, axis=1))[seen[:, 1:] & seen[:, :-1]]
    down = np.abs(np.diff(pixels, axis=0))[seen[1:] & seen[:-1]]
    both = np.concatenate([across, down])
    return float(np.sqrt(np.mean((np.median(both, 0) / 0.954) ** 2))) if len(both) else 0.0  # 0.954 = 0.6745 sqrt(2)


def _flat(pixels: Pixels, apart: float) -> np.ndarray:
    """Return which pixels have eight neighbours that are no farther than this in colour, [H, W]."""
    height, width = pixels.shape[:2]
    flat = np.zeros((height, width), dtype=bool)
    inner = flat[1:-1, 1:-1]
    inner[:] = True
    for down, across in np.ndindex(3, 3):
        other = pixels[down : height - 2 + down, across : width - 2 + across]
        inner &= np.square(other - pixels[1:-1, 1:-1]).sum(-1) <= apart**2
    return flat


def _mixtures(pixels: Pixels, apart: float) -> np.ndarray:
    """Return which pixels lie between two neighbours on opposite sides that are so far apart, in colour too, [H, W]."""
    height, width = pixels.shape[:2]
    mixed = np.zeros((height, width), dtype=bool)
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (0, 3), (3, 0)):
        if height <= 2 * down or width <= 2 * abs(across):
            continue
        rows, columns = slice(down, height - down), slice(abs(across), width - abs(across))
        before, after = (
            pixels[rows.start + s * down : rows.stop + s * down, columns.start + s * across : columns.stop + s * across]
            for s in (-1, 1)
        )
        middle, line = pixels[rows, columns] - before, after - before
        length = np.square(line).sum(-1)
        along = (middle * line).sum(-1) / np.maximum(length, 1e-12)
        off = np.square(middle - along[..., None] * line).sum(-1)
        end = np.minimum(along, 1 - along) * np.sqrt(length)  # how far it is from the nearer end
        mixed[rows, columns] |= (length > apart**2) & (end > apart / 4) & (off < (apart / 2) ** 2)
    return mixed


def _histogram(chosen: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of the cells that hold pixels, [cell, D], and the share of pixels in them."""
    cell = np.floor((chosen - chosen.min(0)) / step).astype(np.int64)
    code = cell @ (int(cell.max()) + 1) ** np.arange(cell.shape[1])
    _, which, held = np.unique(code, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(which, axis) for axis in chosen.T], 1)
    return sums / held[:, None], held / len(chosen)


def _peaks(places: np.ndarray, weights: np.ndarray, candidates: np.ndarray, count: int, free: float) -> np.ndarray:
    """Return the candidates with the most pixels around them of all nearby: between two colours there are fewer."""
    blocks = _blocks(candidates, len(places))
    around = np.concatenate([(_square(block, places) <= (free / 2) ** 2) @ weights for block in blocks])
    near = _square(candidates, candidates) <= (NEARBY * free) ** 2
    peaks = candidates[around >= np.where(near, around, 0.0).max(1)]
    return peaks if len(peaks) >= count else candidates


def _medoids(places: np.ndarray, weights: np.ndarray, candidates: np.ndarray, count: int, free: float) -> list[int]:
    """Return which candidates are chosen: the best one at a time, then each in the best place given the others."""
    blocks = [np.sqrt(_square(block, places)) for block in _blocks(candidates, len(places))]
    cost = np.maximum(0.0, np.concatenate(blocks) - free).astype(np.float32) ** 2  # [candidate, place]

    def best(now: np.ndarray) -> tuple[int, float]:
        left = [np.minimum(block, now) @ weights for block in _blocks(cost, len(places))]
        return int(np.concatenate(left).argmin()), float(np.concatenate(left).min())

    chosen: list[int] = []
    now, total = np.full(len(places), cost.max() + 1, np.float32), np.inf
    for _ in range(count):
        rest, total = best(now)
        if rest in chosen:  # nothing is left to gain: the fullest of the others
            rest = next(i for i in range(len(candidates)) if i not in chosen)
        chosen.append(rest)
        now = np.minimum(now, cost[rest])
    for _ in range(SWEEPS if count <= SWAPPED else 0):
        before = total
        for place in range(count):
            others = cost[chosen[:place] + chosen[place + 1 :]].min(0, initial=cost.max() + 1)
            other, value = best(others)
            if value < total * (1 - 1e-6) and other not in chosen:
                chosen[place], total = other, value
        if total >= before:
            break
    return chosen


def _moved(places: np.ndarray, weights: np.ndarray, colours: np.ndarray, far: float) -> np.ndarray:
    """Move colours to the mean of the pixels that are nearest to them, but for those that are far from it (Lloyd)."""
    for _ in range(SWEEPS):
        which, square = _nearest(places, colours)
        own = np.where(square <= far**2, weights, 0.0)
        mass = np.bincount(which, own, minlength=len(colours))
        sums = np.stack([np.bincount(which, own * axis, minlength=len(colours)) for axis in places.T], 1)
        moved = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-300)[:, None], colours)
        if np.allclose(moved, colours):
            break
        colours = moved
    common = np.bincount(_nearest(places, colours)[0], weights, minlength=len(colours))
    return colours[np.argsort(-common, kind="stable")]


def _nearest(places: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the nearest colour, the first of equally near ones, and the square of its distance."""
    squares = [_square(block, colours) for block in _blocks(places, len(colours))]
    return np.concatenate([each.argmin(1) for each in squares]), np.concatenate([each.min(1) for each in squares])


def _square(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.square(one[:, None] - other).sum(-1)


def _blocks(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    size = max(1, BLOCK // max(1, width))
    return (rows[i : i + size] for i in range(0, len(rows), size))
