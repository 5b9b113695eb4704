"""Grid: an image of labels, one per pixel, with missing pixels; and clean images to try models on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.settings import suggestion
from pyrozoo.data.container import Arrays, Coded, Data, Stored, check_fraction, check_size, labels, numbered
from pyrozoo.data.labelled import MOST_LABELS, Labelled
from pyrozoo.data.table import Table


@dataclass(frozen=True, eq=False)
class Grid(Coded):
    """H by W pixels with a label each, a whole number from 0; NaN is a missing pixel. ``values`` has shape [H, W].

    Rows and columns are those of the image. The order of labels means something to a model that says so.

    Attributes:
        levels: Names of the labels (such as colours, ``#ff0000``); empty: numbered, up to the largest in the image.
    """

    name: str = "grid"
    levels: Sequence[str] = ()
    columns_stand_alone: ClassVar[bool] = False

    @property
    def units(self) -> int:
        """Return the number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def num_levels(self) -> int:
        """Return K, how many labels there are; 0 when nothing is known of any."""
        if len(self.levels) or not self.observed.any():
            return len(self.levels)
        return int(self.filled.max()) + 1

    @property
    def level_names(self) -> list[str]:
        """Return the names of the labels, [K]."""
        return list(self.levels or labels("label", self.num_levels))

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates: dimension -> labels."""
        return super().coords | {"level": self.level_names}

    @property
    def parts(self) -> int:
        """Return 1: every pixel depends on its neighbours, so a field cannot be split."""
        return 1

    def part(self, index: Tensor) -> Grid:
        """Return the upper left corner, which is all that a look at a program needs."""
        corner = self.values[:2, :2], self.row_labels[:2], self.column_labels[:2]
        return Grid(*corner, self.name, levels=self.level_names)

    def batch(self, index: Tensor) -> Grid:
        """Refuse: a field cannot be split."""
        raise SettingError("a grid has no minibatches: every pixel depends on its neighbours")

    def first(self, count: int) -> Grid:
        """Return the grid with its first observed pixels, and all others missing."""
        values = torch.full_like(self.values, torch.nan)
        row, column = (index[:count] for index in self.observed.nonzero(as_tuple=True))
        values[row, column] = self.values[row, column]
        return Grid(values, self.row_labels, self.column_labels, self.name, levels=self.level_names)

    def line(self, pixels: Tensor) -> Grid:
        """Return some pixels, by their number line by line, side by side in one line."""
        names = labels("pixel", len(pixels))
        return Grid(self.values.flatten()[pixels][None], ("line",), names, self.name, levels=self.level_names)

    def with_noise(self, noise: float, seed: int) -> Grid:
        """Return the grid with labels flipped at this rate, each to one of the others, and the clean ones as truth."""
        check_fraction(noise, "data.noise")
        if self.num_levels < 2:
            raise DataError(f"{self.name}: labels of an image with {self.num_levels} of them cannot be flipped")
        generator = self.noise_of(seed)
        flipped = torch.as_tensor(generator.random(self.shape) < noise, device=self.values.device)
        others = torch.as_tensor(generator.integers(1, self.num_levels, self.shape)).to(self.values)
        noisy = torch.where(flipped, (self.values + others) % self.num_levels, self.values)
        truth = {} if not self.observed.all() else {"label": self.filled.long()}
        return replace(self, values=noisy, levels=self.level_names, truth=truth | dict(self.truth))

    def with_test(self, test: Any) -> Grid:
        """Refuse: there are no new rows."""
        raise DataError(f"{self.name}: a grid has no new rows to test on")

    def checked(self) -> Grid:
        """Return the grid itself, or raise DataError when it has no pixels, or a value that is no label."""
        self.check_codes("the grid", "labels")
        most = len(self.levels) or MOST_LABELS
        self.refuse(self.filled >= most, f"is too large for a label; there are at most {most}, counted from 0")
        return self

    def statistics(self, values: Tensor, site: str) -> Arrays:
        """Return the share of every label, and of pixels equal to their right and to their lower neighbour."""
        label = values.double().where(self.observed, torch.nan)
        seen = ~label.isnan()
        count = torch.bincount(label[seen].long(), minlength=self.num_levels)[: self.num_levels]
        result: Arrays = {"label_share": (("level",), (count / max(1, int(seen.sum()))).double().cpu().numpy())}
        for name, one, other in (("across", label[:, :-1], label[:, 1:]), ("down", label[:-1], label[1:])):
            if one.numel():
                equal, both = one == other, ~(one.isnan() | other.isnan())
                share = (equal & both).sum().double() / both.sum().clamp(min=1)
                result[f"equal_neighbours_{name}"] = (), share.cpu().numpy()
        return result

    @classmethod
    def _own(cls, extra: Stored, coords: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        return {"levels": coords["level"]}

    @classmethod
    def of(cls, source: Any, name: str = "grid", *, colours: int | None = None) -> Grid:
        """Make a grid of an image whose distinct values, colours or planes are labels (see ``Labelled.of``).

        Args:
            source: The image: read from a file already, an array, an image of Pillow, or a table.
            name: What messages call it.
            colours: Reduce colours or grey values to so many.

        Raises:
            DataError: Another number of axes, or no labels.
        """
        if isinstance(source, Grid):
            return source.checked()
        if isinstance(source, Table):
            found = cls.of(Labelled.of(source.values, source.name, colours=colours))
            return replace(found, row_labels=source.row_labels, column_labels=source.column_labels)
        if isinstance(source, Data):
            raise DataError(f"{source.name}: an image of labels is needed, not {type(source).__name__.lower()}")
        if not isinstance(source, Labelled):
            source = Labelled.of(source, name, colours=colours)
        values = numbered(source.values)
        found = cls(*values, source.name, levels=source.levels, notes=source.notes).checked()
        return replace(found, levels=found.level_names)


def pattern(pattern: str, rows: int, columns: int, num_labels: int, missing: float = 0.0, seed: int = 0) -> Grid:
    """Draw a clean image.

    Args:
        pattern: spiral, stripes or disks.
        rows: Its height in pixels.
        columns: Its width in pixels.
        num_labels: How many labels it has.
        missing: Probability that a pixel is missing.
        seed: Of what is missing.

    Raises:
        SettingError: Unknown pattern, or a size out of range.
    """
    check_size(rows, columns)
    check_fraction(missing, "data.missing")
    if pattern not in PATTERNS:
        raise SettingError(f"data.pattern is {pattern!r}; {suggestion(pattern, PATTERNS)}")
    if not 2 <= num_labels <= MOST_LABELS:
        raise SettingError(f"data.num_labels is {num_labels}; it must be from 2 to {MOST_LABELS}")
    # Coordinates from -1 to 1 along the longer side.
    middle, half = (np.array([rows, columns]) - 1) / 2, max(rows, columns, 2) / 2
    y, x = (np.indices((rows, columns)) - middle[:, None, None]) / half
    label = PATTERNS[pattern](x, y, num_labels) % num_labels
    values = torch.as_tensor(label, dtype=torch.float64)
    names = labels("row", rows), labels("column", columns)
    grid = Grid(values, *names, pattern, levels=labels("label", num_labels)).checked()
    lost = grid.hold_out(missing, seed)
    return replace(lost, hidden=None, truth={"label": torch.as_tensor(label)})


def _spiral(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Arms that turn twice from the middle to the corners."""
    turn = np.arctan2(y, x) / (2 * np.pi) + 2 * np.hypot(x, y)
    return np.floor(turn % 1 * count).astype(int)


def _stripes(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Three rounds of slanted stripes."""
    return np.floor(((x + 0.5 * y) / 2 + 1) * 3 * count / 2).astype(int)


def _disks(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Disks of the labels in turn on a background of the first."""
    size = 4
    cell_x, cell_y = (np.minimum((each + 1) / 2 * size, size - 1e-9) for each in (x, y))
    inside = np.hypot(cell_x % 1 - 0.5, cell_y % 1 - 0.5) < 0.38
    which = 1 + (np.floor(cell_x) + np.floor(cell_y)) % max(1, count - 1)
    return np.where(inside, which, 0).astype(int)


Drawn = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
PATTERNS: Mapping[str, Drawn] = {"spiral": _spiral, "stripes": _stripes, "disks": _disks}
"""Clean images: (x, y, labels) -> labels, before they are taken modulo their number."""
