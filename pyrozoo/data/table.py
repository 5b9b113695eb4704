"""Table: rows by columns of numbers with missing values and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.types import DataError, Prediction, SettingError


@dataclass(frozen=True)
class Hidden:
    """Entries whose true value is known but not shown to a fit. All of shape [entry]."""

    rows: Tensor
    columns: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class Table:
    """N rows by D columns; NaN is a missing value.

    Attributes:
        values: [N, D] floating point, NaN where unobserved.
        row_labels: N names.
        column_labels: D names.
        name: Where the data came from.
        hidden: Held-out entries of these rows (NaN in ``values``).
        test: New rows, never fitted, with hidden entries to complete.
        truth: Site -> value, when the table was simulated.
        total_rows: Rows of the whole table when this one is a minibatch of it.
        row_index: Which rows of the whole table a minibatch holds.
        image_shape: (height, width) when rows are images and columns their pixels, line by line from the top.

    Raises:
        DataError: The columns are not height x width pixels.
    """

    values: Tensor
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    name: str = "table"
    hidden: Hidden | None = None
    test: Table | None = None
    truth: Mapping[str, Tensor] = field(default_factory=dict)
    total_rows: int | None = None
    row_index: Tensor | None = None
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.image_shape is not None and math.prod(self.image_shape) != self.shape[1]:
            height, width = self.image_shape
            raise DataError(
                f"{self.name}: images of {height} x {width} pixels need {height * width} columns, not {self.shape[1]}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Return (N, D)."""
        return self.values.shape[0], self.values.shape[1]

    @cached_property
    def observed(self) -> Tensor:
        """Return which entries are observed, [N, D] bool."""
        return ~torch.isnan(self.values)

    @cached_property
    def filled(self) -> Tensor:
        """Return the values with 0 in place of missing, for use under a mask, [N, D]."""
        return torch.nan_to_num(self.values, nan=0.0)

    @cached_property
    def rows(self) -> Tensor:
        """Return the index of each row in the whole table, [N]."""
        return torch.arange(self.shape[0], device=self.values.device) if self.row_index is None else self.row_index

    @property
    def units(self) -> int:
        """Return how many independent units a minibatch is drawn from."""
        return self.shape[0]

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates: dimension -> labels."""
        return {"row": self.row_labels, "column": self.column_labels}

    @property
    def dims(self) -> tuple[str, str]:
        """Return the names of the two axes."""
        return "row", "column"

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

    @cached_property
    def missing(self) -> Table | None:
        """Return the table with its missing cells as hidden entries of unknown value, or None when there is none."""
        known = self.observed.clone()
        if self.hidden is not None:
            known[self.hidden.rows, self.hidden.columns] = True
        row, column = (~known).nonzero(as_tuple=True)
        return replace(self, hidden=Hidden(row, column, self.values[row, column])) if len(row) else None

    def first(self, count: int) -> Table:
        """Return the first rows as a table of their own, without hidden entries."""
        rows = self.values[:count], self.row_labels[:count]
        return Table(*rows, self.column_labels, self.name, image_shape=self.image_shape)

    def batch(self, index: Tensor) -> Table:
        """Return a minibatch of rows that remembers the size of the whole."""
        return Table(
            self.values[index],
            [self.row_labels[i] for i in index.tolist()],
            self.column_labels,
            self.name,
            total_rows=self.shape[0] if self.total_rows is None else self.total_rows,
            row_index=self.rows[index],
            image_shape=self.image_shape,
        )

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Table:
        """Return the table on another device and in another precision."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        hidden = self.hidden and Hidden(move(self.hidden.rows), move(self.hidden.columns), move(self.hidden.values))
        return replace(
            self,
            values=move(self.values),
            hidden=hidden,
            test=self.test and self.test.to(device, dtype),
            truth={site: move(value) for site, value in self.truth.items()},
            row_index=None if self.row_index is None else move(self.row_index),
        )

    def hold_out(self, fraction: float, seed: int) -> Table:
        """Hide a random fraction of the observed entries; every column keeps at least one.

        Args:
            fraction: In [0, 1).
            seed: Of the choice.

        Returns:
            The table with those entries missing and kept in ``hidden``, beside those that are there already.

        Raises:
            SettingError: If the fraction is out of range.
        """
        if not 0 <= fraction < 1:
            raise SettingError(f"data.holdout is {fraction}; it must be in [0, 1)")
        if fraction == 0:
            return self
        generator = np.random.default_rng(seed)
        rows, columns = (index.cpu().numpy() for index in self.observed.nonzero(as_tuple=True))
        order = generator.permutation(len(rows))
        # The first entry of each column in the random order stays: a column must not lose all that is known of it.
        _, first = np.unique(columns[order], return_index=True)
        movable = np.delete(order, first)
        chosen = np.sort(movable[: round(fraction * len(order))])
        row, column = (torch.as_tensor(each[chosen], device=self.values.device) for each in (rows, columns))
        return self.hide(row, column)

    def hide(self, rows: Tensor, columns: Tensor) -> Table:
        """Return the table with observed entries missing and kept in ``hidden``, beside those that are there already.

        Args:
            rows: Where the entries are, [entry].
            columns: The same, [entry].
        """
        if not len(rows):
            return self
        values, known = self.values.clone(), self.values[rows, columns]
        values[rows, columns] = torch.nan
        if self.hidden is not None:
            rows, columns = torch.cat([self.hidden.rows, rows]), torch.cat([self.hidden.columns, columns])
            known = torch.cat([self.hidden.values, known])
            order = (rows * self.shape[1] + columns).argsort()  # the order in which a run directory gives them back
            rows, columns, known = rows[order], columns[order], known[order]
        return replace(self, values=values, hidden=Hidden(rows, columns, known))

    def predictions(self, prediction: Prediction) -> pd.DataFrame:
        """Return a prediction of the hidden entries as a table with labels: true value, mean, 90% interval."""
        hidden = self.hidden
        assert hidden is not None
        return pd.DataFrame(
            {
                "row": [self.row_labels[i] for i in hidden.rows.tolist()],
                "column": [self.column_labels[i] for i in hidden.columns.tolist()],
                "true": hidden.values.cpu(),
                "mean": prediction.mean.cpu(),
                "lower_90": prediction.lower.cpu(),
                "upper_90": prediction.upper.cpu(),
            }
        )

    def checked(self) -> Table:
        """Return the table itself when it is usable at all.

        Raises:
            DataError: No rows or columns, or an infinite value.
        """
        if 0 in self.shape:
            raise DataError(f"{self.name}: the table is empty ({self.shape[0]} rows, {self.shape[1]} columns)")
        self.refuse(torch.isinf(self.values), "is infinite")
        return self

    def refuse_empty_columns(self) -> None:
        """Raise DataError naming a column without any value: nothing can be learned of it."""
        empty = (~self.observed.any(0)).nonzero().flatten().tolist()
        if empty:
            raise DataError(f"{self.name}: column {self.column_labels[empty[0]]!r} has no observed value")

    def refuse(self, bad: Tensor, what: str) -> None:
        """Raise DataError naming the first cell where ``bad`` [N, D] is true."""
        if bad.any():
            row, column = (int(i) for i in bad.nonzero()[0])
            raise DataError(
                f"{self.name}: row {self.row_labels[row]!r}, column {self.column_labels[column]!r}: "
                f"{self.values[row, column].item():g} {what}"
            )

    @classmethod
    def blank(cls, rows: int, columns: int) -> Table:
        """Return a table of the given shape in which nothing is observed, to simulate into."""
        if rows < 1 or columns < 1:
            raise SettingError(f"data.rows and data.columns must be at least 1, not {rows} and {columns}")
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
        if hasattr(source, "columns") and hasattr(source, "index"):
            for column in source.columns[source.columns.duplicated()]:
                raise DataError(f"{name}: column name {str(column)!r} appears twice")
            arrays = [_numbers(source[column].to_numpy(na_value=np.nan), f"{name}: column {str(column)!r}")
                      for column in source.columns]  # fmt: skip
            array = np.stack(arrays, 1) if arrays else np.empty((len(source), 0))
            values = torch.as_tensor(array)
            return cls(values, [str(i) for i in source.index], [str(c) for c in source.columns], name).checked()
        if isinstance(source, Tensor):
            source = source.detach().cpu().numpy()
        array = source if np.ma.isMaskedArray(source) else np.asarray(source)
        if array.ndim != 2:
            raise DataError(f"{name}: the array must have two axes (rows, columns), not shape {array.shape}")
        values = torch.as_tensor(_numbers(array, name))
        return cls(values, labels("row", len(array)), labels("column", array.shape[1]), name).checked()

    @classmethod
    def restore(
        cls, observed: np.ndarray, extra: Mapping[str, np.ndarray], coords: Mapping[str, Sequence[str]]
    ) -> Table:
        """Rebuild a table from the arrays of a run directory (what ``inference_data`` stored of it)."""
        height_width = extra.get("image_shape")
        shape = None if height_width is None else (int(height_width[0]), int(height_width[1]))

        def part(values: np.ndarray, hidden: np.ndarray | None, rows: Sequence[str], name: str) -> Table:
            found = None
            if hidden is not None:
                known = torch.as_tensor(hidden)
                row, column = (~known.isnan()).nonzero(as_tuple=True)
                found = Hidden(row, column, known[row, column])
            return cls(torch.as_tensor(values), rows, coords["column"], name, hidden=found, image_shape=shape)

        table = part(observed, extra.get("hidden"), coords["row"], "table")
        if "test_observed" not in extra:
            return table
        return replace(
            table, test=part(extra["test_observed"], extra.get("test_hidden"), coords["test_row"], "test rows")
        )


def labels(word: str, count: int) -> list[str]:
    """Return default labels, ``row_0``, ``row_1``, ..."""
    return [f"{word}_{i}" for i in range(count)]


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    """Return float64 values, or raise DataError naming where they are not numbers."""
    if np.ma.isMaskedArray(array):
        array = np.ma.filled(array.astype(np.float64), np.nan)
    if array.dtype.kind in "fiub":
        return array.astype(np.float64)
    if array.dtype.kind in "cmM":
        raise DataError(f"{where} holds {array.dtype} values, not numbers")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} holds values that are not numbers ({error})") from None
