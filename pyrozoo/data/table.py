"""Table: rows by columns of numbers with missing values and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.container import (
    TOO_LARGE,
    Arrays,
    Cells,
    Stored,
    array_of,
    numbered,
    numeric,
    refuse_twice,
    too_large,
)
from pyrozoo.data.known_rows import noted


@dataclass(frozen=True, eq=False)
class Table(Cells):
    """N rows by D columns; NaN is a missing value. ``values`` has shape [N, D].

    Attributes:
        image_shape: (height, width) when rows are images and columns their pixels, line by line from the top.

    Raises:
        DataError: The columns are not height x width pixels.
    """

    name: str = "table"
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.image_shape is not None and math.prod(self.image_shape) != self.shape[1]:
            size, needed = "{} x {}".format(*self.image_shape), math.prod(self.image_shape)
            raise DataError(f"{self.name}: images of {size} pixels need {needed} columns, not {self.shape[1]}")

    def with_test(self, test: Table) -> Table:
        """Return the table with new rows beside it, or raise DataError when they have not as many columns."""
        if test.shape[1] != self.shape[1]:
            raise DataError(f"the new rows have {test.shape[1]} columns where {self.name} has {self.shape[1]}")
        self._check_exposure_of(test)
        new = replace(test, column_labels=self.column_labels, image_shape=self.image_shape)
        return replace(self, test=new, notes=noted(self, new))

    def with_image_shape(self, image_shape: Sequence[int]) -> Table:
        """Return the table, and its test rows, as images of a height and a width, or raise SettingError."""
        if len(image_shape) != 2 or not all(isinstance(side, int) and side > 0 for side in image_shape):
            sides = "two positive whole numbers: height, width"
            raise SettingError(f"data.image_shape is {list(image_shape)}; it must be {sides}")
        shape = image_shape[0], image_shape[1]
        return replace(self, image_shape=shape, test=self.test and replace(self.test, image_shape=shape))

    def with_noise(self, noise: float, seed: int) -> Table:
        """Return the table with independent Gaussian noise of this standard deviation on its observed values."""
        if not noise >= 0:
            raise SettingError(f"data.noise is {noise}; it must be at least 0")
        drawn = self.noise_of(seed).standard_normal(self.shape) * noise
        return replace(self, values=self.values + torch.as_tensor(drawn).to(self.values))

    def checked(self) -> Table:
        """Return the table itself, or raise DataError when it has no rows or columns, or an infinite value."""
        self.refuse_empty("the table")
        self.refuse(torch.isinf(self.values), "is infinite")
        self.refuse(too_large(self.values), TOO_LARGE)
        self.check_exposure()
        return self

    def refuse_empty_columns(self) -> None:
        """Raise DataError naming a column without any value: nothing can be learned of it."""
        if empty := (~self.observed.any(0)).nonzero().flatten().tolist():
            raise DataError(f"{self.name}: column {self.column_labels[empty[0]]!r} has no observed value")

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return the values; hidden entries, test rows and the shape of images beside them."""
        observed, extra = super().stored(site)
        if self.image_shape is not None:
            extra["image_shape"] = ("height_width",), np.array(self.image_shape)
        return observed, extra

    @classmethod
    def of(cls, source: Any, name: str = "table") -> Table:
        """Make a table of an array, a tensor or a pandas DataFrame (whose index and columns become labels).

        Raises:
            DataError: Not two-dimensional, not numbers, or unusable (see ``checked``).
        """
        if isinstance(source, Table):
            return source.checked()
        if hasattr(source, "columns") and hasattr(source, "index"):
            refuse_twice(source.columns, name)
            columns = {str(column): source[column].to_numpy(na_value=np.nan) for column in source.columns}
            arrays = [numeric(array, f"{name}: column {column!r}") for column, array in columns.items()]
            array = np.stack(arrays, 1) if arrays else np.empty((len(source), 0))
            return cls(torch.as_tensor(array), [str(i) for i in source.index], [*columns], name).checked()
        array = array_of(source, name, "a table (rows by columns)")
        return cls(*numbered(numeric(array, name)), name).checked()

    @classmethod
    def _own(cls, extra: Stored, coords: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        return {"image_shape": tuple(map(int, extra["image_shape"]))} if "image_shape" in extra else {}
