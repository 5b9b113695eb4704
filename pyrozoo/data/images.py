"""Tables of images: rows are images, columns pixels; and masks that hide part of every image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.settings import suggestion
from pyrozoo.data.container import labels
from pyrozoo.data.table import Table

KINDS = ("line", "circle", "speckle")
"""Of masks."""

BLOCK = 1024
"""Images masked at a time: distances of all pixels of all images at once would be many times the data."""

MASK_STREAM = 2
"""One seed serves noise, masks and hold-out; each of them draws from a stream of its own."""


def image_table(images: np.ndarray, name: str) -> Table:
    """Make a table of images [N, height, width]: rows image_0, ...; columns pixel_<line>_<place in it>.

    Raises:
        DataError: Not three axes.
    """
    if images.ndim != 3:
        raise DataError(f"{name}: images must have three axes (image, height, width), not shape {images.shape}")
    count, height, width = images.shape
    pixels = [f"pixel_{i}_{j}" for i in range(height) for j in range(width)]
    values = torch.as_tensor(images.reshape(count, -1).astype(np.float64))
    return Table(values, labels("image", count), pixels, name, image_shape=(height, width))


def mask_images(
    table: Table, kinds: Sequence[str], *, seed: int, line_distance: float, circle_spread: float,
    circle_radius: Sequence[float], speckle: float,
) -> Table:  # fmt: skip
    """Hide part of every image; the kinds of masks share the images evenly, in random order.

    line: pixels near a line through the middle of the image, its direction uniform. circle: pixels in a circle around a
    random place, radius = offset + Gamma(shape, rate). speckle: every pixel by itself.

    Args:
        table: Images.
        kinds: Some of line, circle, speckle.
        seed: Of all that is random here.
        line_distance: Pixels nearer to the line than this are missing.
        circle_spread: Standard deviation of the centre about the middle of the image, down and across, in pixels.
        circle_radius: Offset in pixels, shape, and rate in 1/pixels; pixels nearer to the centre are missing.
        speckle: Probability that a pixel is missing.

    Returns:
        The table with masked entries hidden. Every column keeps at least one of its observed values.

    Raises:
        SettingError: An unknown kind, no images, or a parameter out of range.
    """
    if not kinds:
        raise SettingError(f"data.masks is empty; it must be null, or a list of some of {', '.join(KINDS)}")
    for kind in kinds:
        if kind not in KINDS:
            raise SettingError(f"data.masks has no kind {kind!r}; {suggestion(str(kind), KINDS)}")
    if table.image_shape is None:
        raise SettingError(f"data.masks needs images; set data.image_shape to the height and width of {table.name}'s")
    radius = "three numbers: an offset of at least 0, a positive shape, a positive rate"
    for name, value, holds, wanted in (
        ("line_distance", line_distance, line_distance > 0, "positive"),
        ("circle_spread", circle_spread, circle_spread >= 0, "at least 0"),
        ("circle_radius", list(circle_radius), _is_radius(circle_radius), radius),
        ("speckle", speckle, 0 <= speckle < 1, "in [0, 1)"),
    ):
        if not holds:
            raise SettingError(f"data.mask_{name} is {value}; it must be {wanted}")
    generator = np.random.default_rng((seed, MASK_STREAM))
    count, height, width = table.shape[0], *table.image_shape
    kind_of = generator.permutation(np.arange(count) % len(kinds))
    # Drawn for all images, whatever their kind: what is random about an image does not depend on the other kinds.
    angles = generator.uniform(0, np.pi, count)
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    centres = middle + circle_spread * generator.standard_normal((count, 2))
    offset, shape, rate = circle_radius
    radii = offset + generator.gamma(shape, 1 / rate, count)
    draw: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "line": lambda i: line_masks((height, width), angles[i], line_distance),
        "circle": lambda i: circle_masks((height, width), centres[i], radii[i]),
        "speckle": lambda i: generator.random((len(i), height * width)) < speckle,
    }
    observed = table.observed.cpu().numpy()
    masked = np.zeros(table.shape, bool)
    for number, kind in enumerate(kinds):
        images = np.flatnonzero(kind_of == number)
        for start in range(0, len(images), BLOCK):
            block = images[start : start + BLOCK]
            masked[block] = draw[kind](block)
    masked &= observed
    # Columns that would lose all are few, unless there are few images.
    for column in np.flatnonzero(observed.any(0) & (masked.sum(0) == observed.sum(0))):
        masked[generator.choice(np.flatnonzero(observed[:, column])), column] = False
    rows, columns = (torch.as_tensor(index, device=table.values.device) for index in masked.nonzero())
    return table.hide(rows, columns)


def line_masks(image_shape: tuple[int, int], angles: np.ndarray, distance: float) -> np.ndarray:
    """Return which pixels, [N, height * width], are nearer than so much to a line through the middle of the image.

    ``angles`` [N] are those of the lines from horizontal, in radians.
    """
    down, across = (np.arange(side) - (side - 1) / 2 for side in image_shape)
    away = np.cos(angles)[:, None, None] * down[:, None] - np.sin(angles)[:, None, None] * across
    return (np.abs(away) < distance).reshape(len(angles), -1)


def circle_masks(image_shape: tuple[int, int], centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return which pixels, [N, height * width], are in circles.

    ``centres`` [N, 2] are down and across, in pixels from the middle of the top left pixel; ``radii`` [N] in pixels.
    """
    down, across = ((np.arange(side) - centres[:, [axis]]) ** 2 for axis, side in enumerate(image_shape))
    inside = down[:, :, None] + across[:, None, :] < (radii**2)[:, None, None]
    return inside.reshape(len(radii), -1)


def _is_radius(value: Sequence[float]) -> bool:
    if len(value) != 3 or not all(isinstance(each, int | float) and math.isfinite(each) for each in value):
        return False
    return value[0] >= 0 and value[1] > 0 and value[2] > 0
