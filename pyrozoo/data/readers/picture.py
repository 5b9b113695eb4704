"""Images of labels from files: of any kind that Pillow reads, or arrays and tables of numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pyrozoo.core.errors import DataError, SettingError, first_line
from pyrozoo.data.grid import MOST_LABELS, Grid
from pyrozoo.data.readers.arrays import NUMPY, read_numpy
from pyrozoo.data.readers.delimited import existing
from pyrozoo.data.readers.table import read_table


def read_picture(path: str | Path, *, colours: int | None = None, key: str | None = None) -> Grid:
    """Read an image file, each of whose colours becomes a label, dark ones first; transparent pixels are missing.

    .npy, .npz, .csv and .tsv files hold labels, or for arrays of three axes one plane per label.

    Args:
        path: The file.
        colours: Reduce the image to so many colours first (median cut); None: each colour is a label.
        key: The array to take from an .npz file with several.

    Returns:
        The grid; ``levels`` are the colours.

    Raises:
        DataError: No such file, not an image, or more than ``MOST_LABELS`` colours.
        SettingError: ``colours`` is out of range, or has no meaning for the file.
    """
    path = existing(path)
    ending = path.suffix.lower()
    if ending in (*NUMPY, ".csv", ".tsv"):
        if colours is not None:
            raise SettingError(f"data.colours has no meaning for a {ending} file")
        source = read_numpy(path, key) if ending in NUMPY else read_table(path, header=False)
        return replace(Grid.of(source, path.name), name=path.name)
    if key is not None:
        raise SettingError(f"data.key has no meaning for a {ending or 'image'} file")
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path.name} is not a readable image ({first_line(error)})") from None
    seen = np.asarray(pixels)[..., 3] > 0
    if colours is not None:
        if not 1 <= colours <= MOST_LABELS:
            raise SettingError(f"data.colours is {colours}; it must be from 1 to {MOST_LABELS}, or null")
        pixels = pixels.convert("RGB").quantize(colours, dither=Image.Dither.NONE).convert("RGB")
    rgb = np.asarray(pixels)[..., :3].astype(np.int64)
    palette, label = np.unique(rgb[seen] @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
    if len(palette) > MOST_LABELS:
        raise DataError(
            f"{path.name} has {len(palette)} colours, more than {MOST_LABELS}; data.colours=4 reduces it to four"
        )
    parts = np.stack([palette >> 16, palette >> 8 & 255, palette & 255], 1)
    rank = np.empty(len(palette), dtype=np.int64)
    order = np.lexsort((palette, parts @ np.array([299, 587, 114])))  # by luminance (ITU-R BT.601)
    rank[order] = np.arange(len(palette))
    values = np.full(seen.shape, np.nan)
    values[seen] = rank[label]
    names = [f"#{palette[i]:06x}" for i in order]
    return replace(Grid.of(values, path.name), levels=names)
