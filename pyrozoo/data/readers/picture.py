"""Images of labels from files: of any kind that Pillow reads, or arrays and tables of labels or grey values."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image

from pyrozoo.core.errors import DataError, SettingError, UserError, first_line
from pyrozoo.data.labelled import Labelled, check_colours, of_image
from pyrozoo.data.readers.layout import Layout

ARRAYS = (".npy", ".npz")
"""Endings of arrays; any other file is an image."""


MOST_PIXELS = 50_000_000
"""Of an image: of one that says that it has more nothing is unpacked."""


def read_picture(
    path: str | Path, layout: Layout | None = None, *, colours: int | None = None, key: str | None = None
) -> Labelled:  # fmt: skip
    """Read an image file, each of whose colours becomes a label, dark ones first; transparent pixels are missing.

    .npy and .npz files hold labels or grey values, or for arrays of three axes one plane per label. So do images of
    more than eight bits a pixel.

    Args:
        path: The file.
        layout: What is said of it: ``colours``, ``key`` and ``missing``.
        colours: Reduce the image to so many colours or grey values first; None: each is a label.
        key: The array to take from an .npz file with several.

    Returns:
        The labels; ``levels`` are the colours, or the values.

    Raises:
        DataError: No such file, not an image, or more labels than an image can have.
        SettingError: ``colours`` is out of range, or a setting has no meaning for the file.
    """
    layout = layout or Layout(key=key)
    colours = layout.colours if colours is None else colours
    check_colours(colours)
    path = Path(path)
    if not path.is_file():
        raise DataError(f"data.path: there is no file {path}")
    ending = path.suffix.lower()
    missing = tuple(layout.missing or ())
    if ending in ARRAYS:
        # Arrays and tables are read where tables are, which takes longer to import than Pillow.
        from pyrozoo.data.readers.arrays import read_numpy

        array = read_numpy(path, None if layout.key is None else str(layout.key))
        return Labelled.of(array, path.name, colours=colours, missing=missing)
    if layout.key is not None:
        raise SettingError(f"data.key has no meaning for a {ending or 'image'} file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    size = f"{image.width} x {image.height} pixels"
                    raise DataError(f"{path.name} has {size}; at most {MOST_PIXELS} are read: make it smaller first")
                image.load()
                return of_image(image, path.name, colours)
    except UserError:
        raise
    except Exception as error:  # of corrupt bytes Pillow may raise anything
        raise DataError(f"{path.name} is not a readable image ({first_line(error)})") from None
