"""Table: rows by columns of numbers with missing values and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.container import (
    NOISE_STREAM,
    Arrays,
    Cells,
    Data,
    Hidden,
    check_not_empty,
    check_size,
    labels,
    numeric,
)


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
            height, width = self.image_shape
            raise DataError(
                f"{self.name}: images of {height} x {width} pixels need {height * width} columns, not {self.shape[1]}"
            )

    def with_test(self, test: Table) -> Table:
        """Return the table with new rows beside it.

        Raises:
            DataError: They do not have the same columns.
        """
        if test.shape[1] != self.shape[1]:
            raise DataError(f"the new rows have {test.shape[1]} columns where {self.name} has {self.shape[1]}")
        return replace(self, test=replace(test, column_labels=self.column_labels, image_shape=self.image_shape))

    def with_image_shape(self, image_shape: Sequence[int]) -> Table:
        """Return the table, and its test rows, as images of a height and a width.

        Raises:
            SettingError: Not two positive whole numbers.
            DataError: The columns are not height x width pixels.
        """
        if len(image_shape) != 2 or not all(isinstance(side, int) and side > 0 for side in image_shape):
            raise SettingError(
                f"data.image_shape is {list(image_shape)}; it must be two positive whole numbers: height, width"
            )
        shape = image_shape[0], image_shape[1]
        test = self.test and replace(self.test, image_shape=shape)
        return replace(self, image_shape=shape, test=test)

    def with_noise(self, noise: float, seed: int) -> Table:
        """Return the table with independent Gaussian noise of this standard deviation on its observed values.

        Raises:
            SettingError: The standard deviation is negative.
        """
        if not noise >= 0:
            raise SettingError(f"data.noise is {noise}; it must be at least 0")
        drawn = np.random.default_rng((seed, NOISE_STREAM)).standard_normal(self.shape)
        drawn *= noise
        return replace(self, values=self.values + torch.as_tensor(drawn).to(self.values))

    def checked(self) -> Table:
        """Return the table itself when it is usable at all.

        Raises:
            DataError: No rows or columns, or an infinite value.
        """
        check_not_empty(self, "the table")
        self.refuse(torch.isinf(self.values), "is infinite")
        return self

    def refuse_empty_columns(self) -> None:
        """Raise DataError naming a column without any value: nothing can be learned of it."""
        empty = (~self.observed.any(0)).nonzero().flatten().tolist()
        if empty:
            raise DataError(f"{self.name}: column {self.column_labels[empty[0]]!r} has no observed value")

    def statistics(self, values: Tensor, site: str) -> Arrays:
        """Return the table itself: predictive checks look at every value."""
        return {site: (self.dims, values.float().cpu().numpy())}

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return the values; hidden entries, test rows and the shape of images beside them."""
        observed, extra = super().stored(site)
        if self.image_shape is not None:
            extra["image_shape"] = ("height_width",), np.array(self.image_shape)
        return observed, extra

    @classmethod
    def blank(cls, rows: int, columns: int) -> Table:
        """Return a table of the given shape in which nothing is observed, to simulate into."""
        check_size(rows, columns)
        values = torch.full((rows, columns), torch.nan, dtype=torch.float64)
        return cls(values, labels("row", rows), labels("column", columns), "simulated")

    @classmethod
    def of(cls, source: Any, name: str = "table") -> Table:
        """Make a table of an array, a tensor or a pandas DataFrame (whose index and columns become labels).

        Raises:
            DataError: Not two-dimensional, not numbers, or unusable (see ``checked``).
        """
        if isinstance(source, Table):
            return source.checked()
        if isinstance(source, Data):
            raise DataError(f"{source.name}: a table (rows by columns) is needed, not {type(source).__name__.lower()}")
        if hasattr(source, "columns") and hasattr(source, "index"):
            for column in source.columns[source.columns.duplicated()]:
                raise DataError(f"{name}: column name {str(column)!r} appears twice")
            arrays = [numeric(source[column].to_numpy(na_value=np.nan), f"{name}: column {str(column)!r}")
                      for column in source.columns]  # fmt: skip
            array = np.stack(arrays, 1) if arrays else np.empty((len(source), 0))
            values = torch.as_tensor(array)
            return cls(values, [str(i) for i in source.index], [str(c) for c in source.columns], name).checked()
        if isinstance(source, Tensor):
            source = source.detach().cpu().numpy()
        array = source if np.ma.isMaskedArray(source) else np.asarray(source)
        if array.ndim != 2:
            raise DataError(f"{name}: the array must have two axes (rows, columns), not shape {array.shape}")
        values = torch.as_tensor(numeric(array, name))
        return cls(values, labels("row", len(array)), labels("column", array.shape[1]), name).checked()

    @classmethod
    def restore(
        cls, observed: Mapping[str, np.ndarray], extra: Mapping[str, np.ndarray], coords: Mapping[str, Sequence[str]],
        site: str,
    ) -> Table:  # fmt: skip
        """Rebuild a table from what ``stored`` returned."""
        height_width = extra.get("image_shape")
        shape = None if height_width is None else (int(height_width[0]), int(height_width[1]))

        def part(values: np.ndarray, hidden: np.ndarray | None, rows: Sequence[str], name: str) -> Table:
            known = Hidden.of_cells(hidden)
            return cls(torch.as_tensor(values), rows, coords["column"], name, hidden=known, image_shape=shape)

        table = part(observed[site], extra.get("hidden"), coords["row"], "table")
        if "test_observed" not in extra:
            return table
        return replace(
            table, test=part(extra["test_observed"], extra.get("test_hidden"), coords["test_row"], "test rows")
        )
