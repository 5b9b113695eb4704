"""Labelled: an image of labels before any tensor is made: of arrays of numbers or texts, planes, or colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.palette import nearest, palette

MOST_LABELS = 256
"""Labels of an image; one with more is no image of labels."""

FEW_LABELS, MOST_CELLS = 32, 3_000_000
"""Labels that an image of any size may have; labels times pixels of one with more: belief propagation holds some 400
bytes for each."""

LARGEST = 1e100
"""Beyond it squares of differences overflow."""

NAMED = 8
"""Labels that a note lists."""

LUMINANCE = np.array([299, 587, 114])
"""Weights of red, green and blue, in thousandths (ITU-R BT.601)."""

SPOKEN = "array.argmax(2) of planes with one label each, np.asarray(image.convert('RGB')) of a colour picture"


@dataclass(frozen=True, eq=False)
class Labelled:
    """An image whose pixels have labels.

    Attributes:
        name: What messages call it.
        values: The labels, whole numbers from 0, NaN where a pixel is missing, [H, W] float64.
        levels: Their names; of colours ``#rrggbb``.
        notes: What a reader should know.
    """

    name: str
    values: np.ndarray
    levels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, source: Any, name: str = "grid", *, colours: int | None = None, missing: Sequence[Any] = ()
    ) -> Labelled:
        """Give a label to every distinct value of an array [H, W], or every colour, or every plane of one [H, W, K].

        Values 0 to K - 1 are labels already. Of others, numbers or texts, each distinct one is a label, in order, and
        names it. Of planes the largest says the label, the first of equal ones; a pixel without a largest one, all
        zero, is missing, and so are NaN, masked values, None, and the usual spellings of nothing in texts. Bytes
        [H, W, 3] and [H, W, 4] that are not one-hot are colours.

        Args:
            source: The array, or an image of Pillow.
            name: What messages call it.
            colours: Reduce colours or grey values to so many (see ``palette``).
            missing: Values that stand for none, beside these.

        Raises:
            DataError: Another number of axes, no labels, too many, or planes that may as well be colours.
            SettingError: ``colours`` is out of range, or there is nothing to reduce.
        """
        check_colours(colours)
        if hasattr(source, "getbands"):
            return of_image(source, name, colours)
        array = _array(source, name)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[..., 0]
        if array.ndim == 3 and array.shape[2] > 0:
            if _is_picture(array, name):
                return _of_bytes(array, name, colours)
            if colours is not None:
                raise SettingError(f"data.colours has no meaning for {name}: it has one plane per label")
            return _of_planes(array, name)
        if array.ndim != 2:
            axes = "two axes (rows, columns) or three (with one plane per label)"
            raise DataError(f"{name}: the array must have {axes}, not shape {array.shape}")
        return of_values(array, name, colours, missing)


def check_colours(colours: int | None) -> None:
    """Raise SettingError unless a picture can be reduced to so many colours."""
    if colours is not None and not 1 <= colours <= MOST_LABELS:
        raise SettingError(f"data.colours is {colours}; it must be from 1 to {MOST_LABELS}, or null")


def _array(source: Any, name: str) -> np.ndarray:
    if hasattr(source, "detach"):
        source = source.detach().cpu().numpy()
    try:
        array = source if np.ma.isMaskedArray(source) else np.asarray(source)
    except ValueError:
        raise DataError(f"{name}: the rows have different lengths") from None
    if array.dtype.kind in "cmMV":
        raise DataError(f"{name} holds {array.dtype} values, not numbers")
    return array


# Values ---------------------------------------------------------------------------------------------------------------


def of_values(array: np.ndarray, name: str, colours: int | None = None, missing: Sequence[Any] = ()) -> Labelled:
    """Give a label to every distinct value of an array [H, W] of numbers, booleans or texts."""
    if array.dtype.kind == "b":
        values, words = _plain(array), ["False", "True"]
    elif array.dtype.kind in "iuf":
        values, words = _plain(array), []
    else:
        values, words = _spelled(array, name)
    for code in missing:
        gone = (
            words.index(str(code)) if str(code) in words else code if not words and not isinstance(code, str) else None
        )
        values = np.where(values == gone, math.nan, values) if gone is not None else values
    if np.isinf(values).any():
        raise DataError(f"{_cell(name, np.isinf(values))} is infinite")
    seen = ~np.isnan(values)
    known = np.unique(values[seen])
    if colours is not None and len(known) > colours:
        if words:
            raise SettingError(f"data.colours has no meaning for {name}: its values are texts, not grey values")
        return _few_greys(values, seen, colours, name)
    if not words and np.array_equal(known, np.arange(len(known))):
        refuse_many(len(known), seen.size, name, "values")
        return Labelled(name, values, tuple(f"label_{k}" for k in range(len(known))))
    refuse_many(len(known), seen.size, name, "values")
    _refuse_measured(values, seen, known, name, words)
    if words:
        names = [words[int(code)] for code in known]
        notes: tuple[str, ...] = ()
    else:
        names = _spellings(known)
        notes = (f"the {len(known)} values of {name} are its labels: {_listed(names)}",)
    codes = np.full(values.shape, math.nan)
    codes[seen] = np.searchsorted(known, values[seen])
    return Labelled(name, codes, tuple(names), notes)


def _plain(array: np.ndarray) -> np.ndarray:
    return np.ma.filled(array.astype(np.float64), math.nan)


def _spelled(array: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """Return texts as numbers where all of them spell one, else numbers of words, in order, and the words."""
    if np.ma.isMaskedArray(array):
        array = np.ma.filled(array.astype(object), None)
    flat = [None if each is None or each != each else str(each).strip() for each in array.ravel().tolist()]
    flat = [None if each is None or each.lower() in NOTHING else each for each in flat]
    spelled = sorted({each for each in flat if each is not None})
    numbers = {each: _number(each) for each in spelled}
    if all(each is not None for each in numbers.values()):
        lookup: dict[Any, Any] = numbers
        words: list[str] = []
    else:
        refuse_many(len(spelled), len(flat), name, "texts")
        lookup, words = {each: k for k, each in enumerate(spelled)}, spelled
    values = np.array([math.nan if each is None else lookup[each] for each in flat], dtype=np.float64)
    return values.reshape(array.shape), words


NOTHING = ("", "na", "n/a", "nan", "null", "none", "<na>")
"""Texts that are no label, in small letters."""


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _spellings(known: np.ndarray) -> list[str]:
    names = [f"{value:.6g}" if abs(value) < 1e6 else f"{value:.15g}" for value in known.tolist()]
    return names if len(set(names)) == len(names) else [repr(value) for value in known.tolist()]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _cell(name: str, bad: np.ndarray) -> str:
    row, column = np.argwhere(bad)[0]
    return f"{name}: row 'row_{row}', column 'column_{column}'"


def refuse_many(count: int, pixels: int, name: str, what: str) -> None:
    """Raise DataError when an image has too many labels, before anything of that size is made."""
    if count <= FEW_LABELS or (count <= MOST_LABELS and count * pixels <= MOST_CELLS):
        return
    over = f"more than {MOST_LABELS}" if count > MOST_LABELS else f"which is too many for {pixels} pixels"
    cure = "give at most 256 of them" if what == "texts" else "data.colours=4 reduces it to four"
    raise DataError(f"{name} has {count} distinct {what}, {over} for an image of labels; {cure}")


def _refuse_measured(values: np.ndarray, seen: np.ndarray, known: np.ndarray, name: str, words: Sequence[str]) -> None:
    """Raise DataError when values look measured, or negative ones may stand for missing pixels."""
    repeats = 2 * len(known) <= seen.sum()
    if words:
        if not repeats:
            said = f"{len(known)} different ones in {int(seen.sum())} pixels"
            raise DataError(f"{name} holds texts that are not numbers and hardly repeat ({said}): labels are needed")
        return
    broken = seen & (values != np.round(values))
    if broken.any() and not repeats:
        value = f"{values[broken][0]:g}"
        raise DataError(
            f"{_cell(name, broken)}: {value} is not a whole number, and values hardly repeat: labels are needed "
            "(data.colours=4 groups grey values)"
        )
    negative = seen & (values < 0)
    if negative.any() and known.tolist() != [-1.0, 1.0] and not broken.any():
        value = f"{values[negative][0]:g}"
        raise DataError(
            f"{_cell(name, negative)}: {value} is negative; set data.missing=[{value}] if it stands for no label, or "
            "count labels from 0"
        )


def _few_greys(values: np.ndarray, seen: np.ndarray, colours: int, name: str) -> Labelled:
    """Reduce grey values to a few."""
    if np.abs(values[seen]).max() > LARGEST:
        large = seen & (np.abs(values) > LARGEST)
        raise DataError(f"{_cell(name, large)}: {values[large][0]:g} is too large for a grey value")
    centres = np.sort(palette(np.where(seen, values, 0.0)[..., None], seen, colours), axis=0)
    code = nearest(np.where(seen, values, 0.0)[..., None], centres)
    used = np.unique(code[seen])
    # A label is called by its most common value where that is most of it, else by the middle.
    names = _spellings(np.array([_typical(values[seen & (code == k)][:, None])[0] for k in used]))
    codes = np.full(values.shape, math.nan)
    codes[seen] = np.searchsorted(used, code[seen])
    return Labelled(name, codes, tuple(names), (f"the values of {name} were reduced to {len(used)}: {_listed(names)}",))


def _typical(pixels: np.ndarray) -> np.ndarray:
    """Return the most common of values [n, D] where half of them or more have it, else their medians."""
    distinct, held = np.unique(pixels, axis=0, return_counts=True)
    return distinct[held.argmax()] if 2 * held.max() >= len(pixels) else np.median(pixels, axis=0)


# Planes ---------------------------------------------------------------------------------------------------------------


def _is_picture(array: np.ndarray, name: str) -> bool:
    """Return whether an array [H, W, C] holds colours, and not one plane per label.

    Raises:
        DataError: It may be either.
    """
    channels = array.shape[2]
    if channels > 4 or array.dtype.kind not in "iuf" or array.size == 0:
        return False
    values = _plain(array)
    known = values[~np.isnan(values)]
    if ((known == 0) | (known == 1)).all():
        return False
    alone = ((np.nan_to_num(values) != 0).sum(2) <= 1).all()
    if array.dtype == np.uint8:
        if alone and channels > 1 and (np.nan_to_num(values) == 0).all(2).any():
            said = "black pixels (a colour picture), or pixels without a label (planes)"
            raise DataError(f"{name}: its pixels of zeros are {said}: give {SPOKEN}")
        return True
    if channels not in (3, 4) or alone:
        return False
    whole = bool((known == np.round(known)).all())
    colours = bool(known.min() >= 0 and known.max() <= (255 if whole else 1))
    sums = values.sum(2)
    if colours and not np.allclose(sums[~np.isnan(sums)], 1.0, atol=1e-3):
        scaled = "array.astype(np.uint8)" if whole else "(255 * array).astype(np.uint8)"
        raise DataError(
            f"{name}: {channels} planes of numbers from 0 to {known.max():g} are a colour picture, or one plane per "
            f"label: give {scaled} of a picture, array.argmax(2) of planes"
        )
    return False


def _of_planes(array: np.ndarray, name: str) -> Labelled:
    """Take the label of the largest plane."""
    try:
        planes = _plain(array)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} holds values that are not numbers ({error})") from None
    tied = (planes == planes.max(2, keepdims=True)).sum(2)
    gone = np.isnan(planes).any(2) | (planes == 0).all(2)
    notes: tuple[str, ...] = ()
    if double := int(((tied > 1) & ~gone).sum()):
        notes = (f"{double} pixels of {name} have two labels: the first is taken",)
    refuse_many(planes.shape[2], gone.size, name, "planes")
    values = np.where(gone, math.nan, np.nan_to_num(planes).argmax(2).astype(np.float64))
    used = 0 if gone.all() else int(np.nanmax(values)) + 1  # planes after the last one in use name nothing
    return Labelled(name, values, tuple(f"label_{k}" for k in range(used)), notes)


# Colours --------------------------------------------------------------------------------------------------------------


def _of_bytes(array: np.ndarray, name: str, colours: int | None) -> Labelled:
    """Take bytes for grey values and transparency, for colours, or for both."""
    filled = np.ma.filled(array, 0)
    seen: np.ndarray = np.logical_not(np.ma.getmaskarray(array).any(2))
    rgb = filled[..., :3] if array.shape[2] > 2 else filled[..., :1].repeat(3, 2)
    notes: tuple[str, ...] = (f"{name} is taken for a colour picture, {' x '.join(map(str, array.shape))} bytes",)
    if array.shape[2] in (2, 4):
        seen = seen & (filled[..., -1] > 0)
        notes += _faint(filled[..., -1], name)
    return of_colours(rgb, seen, name, colours, notes)


def _faint(alpha: np.ndarray, name: str) -> tuple[str, ...]:
    """Return a note on pixels that are partly transparent."""
    count = int(((alpha > 0) & (alpha < 255)).sum())
    return (f"{count} pixels of {name} are partly transparent: their colour is taken as it is",) if count else ()


def of_image(image: Any, name: str, colours: int | None = None) -> Labelled:
    """Give a label to every colour of an image of Pillow, or every value of one that holds numbers; the first frame."""
    notes: tuple[str, ...] = ()
    if (frames := getattr(image, "n_frames", 1)) > 1:
        image.seek(0)
        notes = (f"{name} has {frames} pictures: the first is read",)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float64)
        clear = image.info.get("transparency")
        found = of_values(values, name, colours, [clear] if isinstance(clear, int) else ())
        return Labelled(name, found.values, found.levels, notes + found.notes)
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "La", "RGBa"):
        notes += (f"the colours of {name} are {image.mode}: they are read as red, green and blue",)
        image = image.convert("RGB")
    elif any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        notes += (f"the colours of {name} have 16 bits a channel: the first eight are read",)
    pixels = np.asarray(image.convert("RGBA"))
    alpha = pixels[..., 3]
    return of_colours(pixels[..., :3], alpha > 0, name, colours, notes + _faint(alpha, name))


def of_colours(
    rgb: np.ndarray, seen: np.ndarray, name: str, colours: int | None, notes: tuple[str, ...] = ()
) -> Labelled:  # fmt: skip
    """Give a label to every colour, dark ones first; reduced to a few by their coverage where that is asked for.

    Args:
        rgb: Bytes, [H, W, 3].
        seen: Which pixels are not missing, [H, W].
        name: What messages call it.
        colours: How many labels at most; None: as many as there are colours.
        notes: What is known already.
    """
    code = rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    known, label = np.unique(code[seen], return_inverse=True)
    if colours is not None and len(known) > colours:
        pixels = rgb.astype(np.float64)
        near = nearest(pixels, palette(pixels, seen, colours))[seen]
        used, label = np.unique(near, return_inverse=True)
        typical = np.array([np.round(_typical(rgb[seen][near == k])) for k in used], dtype=np.int64)
        parts, distinct = typical, len(known)
        names = ["#{:02x}{:02x}{:02x}".format(*part) for part in parts.tolist()]
        if len(set(names)) < len(names):  # two labels of one name
            names = [f"{each}_{k}" for k, each in enumerate(names)]
        notes += (f"the {distinct} colours of {name} were reduced to {len(used)}",)
    else:
        refuse_many(len(known), seen.size, name, "colours")
        parts = np.stack([known >> 16, known >> 8 & 255, known & 255], 1)
        names = [f"#{each:06x}" for each in known]
    order = np.lexsort((parts @ np.array([1 << 16, 1 << 8, 1]), parts @ LUMINANCE))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    values = np.full(seen.shape, math.nan)
    values[seen] = rank[label]
    return Labelled(name, values, tuple(names[i] for i in order), notes)
