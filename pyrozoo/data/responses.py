"""Responses: a column of numbers, or of one of two categories, that the other columns of a table explain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.settings import suggestion
from pyrozoo.data.container import TOO_LARGE, Arrays, Data, Stored, check_size, labels, refuse_twice, too_large
from pyrozoo.data.known_rows import noted
from pyrozoo.data.readers.layout import MOST_LEVELS
from pyrozoo.data.readers.reading import MOST_SAID
from pyrozoo.data.readers.words import place
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table

Coding = Sequence[tuple[str, Sequence[str]]]
"""Columns -> the names of their categories, in order; none: numbers."""


@dataclass(frozen=True, eq=False)
class Responses(Table):
    """N rows of one response; NaN is a missing one. ``values`` has shape [N, 1].

    What explains it, the covariates, is known of every row. A column of K categories is K - 1 covariates, each 1 in the
    rows of its category; the first category has none.

    Attributes:
        covariates: As they are in the table, [N, P].
        coding: The columns that they come from.
        levels: Names of the two categories that the response has, 0 and 1; empty: numbers.
        centre: Means of the covariates and, last, of the response, [P + 1]; 0 of columns that are 0 or 1, and where
            nothing is known.
        unit: Their sds; 1 likewise.
    """

    name: str = "responses"
    covariates: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    coding: Coding = ()
    levels: Sequence[str] = ()
    centre: Tensor = field(default_factory=lambda: torch.zeros(1))
    unit: Tensor = field(default_factory=lambda: torch.ones(1))

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "coding", tuple((str(name), tuple(levels)) for name, levels in self.coding))
        object.__setattr__(self, "levels", tuple(self.levels))

    @cached_property
    def covariate_labels(self) -> list[str]:
        """Return the names of the covariates: of a category ``column=category``."""
        named = [[f"{name}={level}" for level in levels[1:]] if levels else [name] for name, levels in self.coding]
        return [label for each in named for label in each]

    @property
    def response(self) -> str:
        """Return the name of the response."""
        return str(self.column_labels[0])

    @property
    def size(self) -> str:
        """Return the size of the data in words."""
        return f"{self.shape[0]} rows, {self.covariates.shape[1]} covariates"

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates: those of coefficients are the covariates, with an intercept before them or not."""
        names = self.covariate_labels
        return super().coords | {"covariate": names, "coefficient": ["intercept", *names]}

    def standard(self, covariates: Tensor | None = None) -> Float[Tensor, "N P"]:
        """Return covariates, these or others, from their centres in their units."""
        given = self.covariates if covariates is None else covariates
        return (given - self.centre[:-1]) / self.unit[:-1]

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Return the data on another device and in another precision."""
        own = {name: getattr(self, name).to(device, dtype) for name in ("covariates", "centre", "unit")}
        return replace(super().to(device, dtype), **own)

    def first(self, count: int) -> Self:
        """Return the first rows as data of their own, without hidden entries."""
        return replace(super().first(count), covariates=self.covariates[:count])

    def batch(self, index: Tensor) -> Self:
        """Return a minibatch of rows that remembers the size of the whole."""
        return replace(super().batch(index), covariates=self.covariates[index])

    def same(self, other: Any) -> bool:
        """Return whether other data have the same responses and covariates."""
        alike = isinstance(other, Responses) and self.coding == other.coding
        return alike and super().same(other) and bool(torch.allclose(self.covariates, other.covariates.to(self.values)))

    def checked(self) -> Self:
        """Return the data themselves, or raise DataError: also of a covariate that is missing or infinite."""
        super().checked()
        bad = (~self.covariates.isfinite() | too_large(self.covariates)).nonzero()
        if len(bad):
            row, column = (int(i) for i in bad[0])
            called = f"{self.name}: row {self.row_labels[row]!r}, column {self.covariate_labels[column]!r}"
            if bool(self.covariates[row, column].isinf()):
                raise DataError(f"{called} is infinite")
            if bool(too_large(self.covariates[row, column])):
                raise DataError(f"{called} {TOO_LARGE}")
            said = "has no value, and a regression says nothing of what explains"
            rows = len(bad[:, 0].unique())
            more = f" ({rows} such rows)" if rows > 1 else ""
            raise DataError(f"{called} {said}{more}: fill it, or leave out the row (exclude_rows) or column (exclude)")
        return self

    def with_test(self, test: Table) -> Self:
        """Return the data with new rows beside them; their covariates are matched by name."""
        alike = isinstance(test, Responses) and test.coding == self.coding
        new: Any = test if alike else self.like(Responses.of(test).frame())
        self._check_exposure_of(new)
        new = replace(new, column_labels=self.column_labels, centre=self.centre, unit=self.unit)
        return replace(self, test=new, notes=noted(self, new))

    def frame(self) -> pd.DataFrame:
        """Return the table: covariates, numbers or names of categories, and the response, last."""
        columns, at = dict[str, Any](), 0
        for name, levels in self.coding:
            width = len(levels) - 1 if levels else 1
            part = self.covariates[:, at : at + width].cpu().numpy()
            code = (part @ np.arange(1, width + 1)).astype(int)
            columns[name] = np.array(levels, dtype=object)[code] if levels else part[:, 0]
            at += width
        codes = self.values[:, 0].cpu().numpy()
        named = [self.levels[int(each)] if each == each else None for each in codes] if self.levels else codes
        return pd.DataFrame({**columns, self.response: named}, index=list(self.row_labels))

    def like(self, frame: pd.DataFrame, name: str = "the new rows") -> Self:
        """Return new rows, coded as these; without the response's column it is missing.

        Raises:
            DataError: A column is not there, or has a category that these do not.
        """
        own = {str(each).strip(): each for each in frame.columns}
        if absent := [column for column, _ in self.coding if column not in own]:
            raise DataError(f"{name}: there is no column {absent[0]!r}; {suggestion(absent[0], list(own))}")
        parts = [_coded(frame[own[column]], column, levels, name) for column, levels in self.coding]
        values = np.full(len(frame), np.nan)
        if self.response in own:
            values = _codes(frame[own[self.response]], self.response, self.levels, name)
        covariates = torch.as_tensor(np.concatenate([np.empty((len(frame), 0)), *parts], 1))
        called = labels("row", len(frame)) if isinstance(frame.index, pd.RangeIndex) else list(map(str, frame.index))
        new = self._bare(values=torch.as_tensor(values)[:, None], row_labels=called, exposure=None)
        return replace(new, name=name, covariates=covariates, total_rows=None, row_index=None, replaced={}).checked()

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return the responses; covariates and what is known of them, hidden entries and test rows beside them."""
        observed, extra = super().stored(site)
        for prefix, part in zip(("", "test_"), self.with_new_rows, strict=False):
            extra[f"{prefix}covariates"] = (f"{prefix}row", "covariate"), part.covariates.cpu().numpy()
        for name in ("centre", "unit"):
            extra[name] = ("covariate_or_response",), getattr(self, name).cpu().numpy()
        coding = json.dumps({"coding": self.coding, "levels": self.levels})
        return observed, extra | {"coding": ((), np.array(coding))}

    @classmethod
    def restore(cls, observed: Stored, extra: Stored, coords: Mapping[str, Sequence[str]], site: str) -> Self:
        """Rebuild the data from what ``stored`` returned and the labels of its dimensions."""
        found = super().restore(observed, extra, coords, site)
        known = json.loads(str(extra["coding"]))
        own: dict[str, Any] = {name: torch.as_tensor(extra[name]) for name in ("centre", "unit")}
        own |= {"levels": known["levels"], "coding": known["coding"]}
        test = found.test and replace(found.test, covariates=torch.as_tensor(extra["test_covariates"]), **own)
        return replace(found, test=test, covariates=torch.as_tensor(extra["covariates"]), **own)

    @classmethod
    def blank(cls, rows: int, columns: int = 1) -> Self:
        """Return rows without a response, to simulate into; covariates are spread evenly like standard normal ones.

        They are the same whatever the seed: a regression takes them as given (Sobol points).

        Args:
            rows: N.
            columns: P.
        """
        check_size(rows, max(columns, 1))
        if columns < 0:
            raise SettingError(f"data.columns must be at least 0, not {columns}")
        points = torch.zeros(rows, 0, dtype=torch.float64)
        if columns:
            points = torch.quasirandom.SobolEngine(columns, scramble=True, seed=0).draw(rows, dtype=torch.float64)
            points = torch.special.ndtri(points.clamp(1e-6, 1 - 1e-6))
        nothing = torch.full((rows, 1), torch.nan, dtype=torch.float64)
        known: dict[str, Any] = {"centre": torch.zeros(columns + 1).double(), "unit": torch.ones(columns + 1).double()}
        coding = tuple((f"x{j + 1}", ()) for j in range(columns))
        return cls(nothing, labels("row", rows), ["y"], "simulated", covariates=points, coding=coding, **known)

    @classmethod
    def of(cls, source: Any, name: str = "responses", *, response: str | int | None = None,
           most_levels: int = MOST_LEVELS) -> Self:  # fmt: skip
        """Make responses of a DataFrame, a table, an array, or a pair of covariates and response.

        Args:
            source: A column of it is the response; of the others, numbers are covariates as they are, and text is a
                column of categories.
            name: What to call the source in messages.
            response: The response's column, by name or position; None: the last.
            most_levels: Categories that a column may have.

        Raises:
            DataError: No such column, a response of more than two categories, a covariate that is missing.
        """
        if isinstance(source, cls):
            return source.checked()
        if isinstance(source, Data) and not isinstance(source, Table):
            raise DataError(f"{source.name}: a table is needed, not {type(source).__name__.lower()}")
        if isinstance(source, tuple) and len(source) == 2 and np.ndim(source[0]) == 2 and np.ndim(source[1]) == 1:
            source = np.column_stack([np.asarray(each) for each in source])
        if not hasattr(source, "columns") or not hasattr(source, "index"):
            table = Table.of(source, name)
            values = table.values.cpu().numpy()
            source = pd.DataFrame(values, index=list(table.row_labels), columns=list(table.column_labels))
        refuse_twice(source.columns, name)
        names = [str(each).strip() for each in source.columns]
        at = (len(names) - 1) if response is None else place(response, names)
        if at is None or not 0 <= at < len(names):
            raise DataError(
                f"{name}: data.response={response}: there is no such column; {suggestion(str(response), names)}"
            )
        return cls._of_frame(source, names, at, name, most_levels)

    @classmethod
    def _of_frame(cls, frame: pd.DataFrame, names: Sequence[str], at: int, name: str, most_levels: int) -> Self:
        columns = [column for _, column in frame.items()]
        coded = _categories(columns, names, name, most_levels)
        levels, values = coded.get(at) or ((), _numbers(columns[at], names[at], name))
        if len(levels) > 2:
            said = f"has {len(levels)} categories ({', '.join(levels[:5])}): two are needed, or numbers"
            raise DataError(f"{name}: the response {names[at]!r} {said}; data.response names another column")
        others = [j for j in range(len(names)) if j != at]
        coding = tuple((names[j], coded[j][0] if j in coded else ()) for j in others)
        parts = [_ones(*coded[j]) if j in coded else _numbers(columns[j], names[j], name)[:, None] for j in others]
        covariates = np.concatenate([np.empty((len(frame), 0)), *parts], 1)
        rows = labels("row", len(frame)) if isinstance(frame.index, pd.RangeIndex) else list(map(str, frame.index))
        centre, unit = _scales(np.column_stack([covariates, values]))
        notes = [f"the response is {names[at]!r} (data.response)"]
        if levels:
            notes.append(f"of {names[at]!r}, {levels[-1]!r} is 1" + (f" and {levels[0]!r} is 0" if levels[1:] else ""))
        for column, known in [each for each in coding if each[1]][:MOST_SAID]:
            notes.append(f"the categories of {column!r} are compared with {known[0]!r}")
        if (more := sum(bool(known) for _, known in coding) - MOST_SAID) > 0:
            notes.append(f"the categories of {more} more columns are compared with their first")
        return cls(
            torch.as_tensor(values)[:, None], rows, [names[at]], name, covariates=torch.as_tensor(covariates),
            coding=coding, levels=levels, centre=torch.as_tensor(centre), unit=torch.as_tensor(unit),
            notes=tuple(notes),
        ).checked()  # fmt: skip


def _scales(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and sds of columns; 0 and 1 of those that only hold 0 and 1, sd 1 of those without any spread."""
    seen = np.isfinite(columns)
    count = seen.sum(0).clip(min=1)
    mean = np.where(seen, columns, 0).sum(0) / count
    sd = np.sqrt(np.where(seen, (columns - mean) ** 2, 0).sum(0) / count)
    sd = np.where(sd > 1e-10 * np.abs(mean), sd, 1.0)
    binary = (~seen | (columns == 0) | (columns == 1)).all(0)
    return np.where(binary, 0.0, mean), np.where(binary, 1.0, sd)


def _is_number(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column.dtype):  # truth values among them
        return True
    return not isinstance(column.dtype, pd.CategoricalDtype) and all(
        isinstance(each, int | float) or (not isinstance(each, str) and pd.isna(each)) for each in column.array
    )


def _categories(
    columns: Sequence[pd.Series], names: Sequence[str], name: str, most_levels: int
) -> dict[int, tuple[tuple[str, ...], np.ndarray]]:
    """Return place -> categories and codes of the columns that are neither numbers nor without any answer."""
    text = [j for j, column in enumerate(columns) if not _is_number(column)]
    if not text:
        return {}
    frame = pd.DataFrame({j: columns[j].array for j in text}, index=columns[0].index, copy=False)
    frame.columns = pd.Index([names[j] for j in text], dtype=object)
    survey = Survey.of(frame, name, most_levels)
    codes = survey.values.numpy()
    return {
        j: (tuple(found), codes[:, k]) for k, (j, found) in enumerate(zip(text, survey.levels, strict=True)) if found
    }


def _numbers(column: pd.Series, label: str, name: str) -> np.ndarray:
    """Return numbers, NaN where a cell is missing."""
    try:
        return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan).copy()
    except (TypeError, ValueError):
        raise DataError(f"{name}: column {label!r} holds text where numbers are needed") from None


def _codes(column: pd.Series, label: str, levels: Sequence[str], name: str) -> np.ndarray:
    """Return numbers, or the codes of categories, NaN where a cell is missing."""
    if not levels:
        return _numbers(column, label, name)
    if not column.notna().any():
        return np.full(len(column), np.nan)
    array = column.array if isinstance(column.dtype, pd.CategoricalDtype) else column.astype(object).to_numpy()
    survey = Survey.of(pd.DataFrame({label: array}), name)
    if unknown := [each for each in survey.levels[0] if each not in levels]:
        said = f"{unknown[0]!r} is a category never seen in training"
        raise DataError(f"{name}: column {label!r}: {said}; it knows {', '.join(levels)}")
    return survey.recoded([levels]).values[:, 0].numpy() if len(survey.levels[0]) else np.full(len(column), np.nan)


def _coded(column: pd.Series, label: str, levels: Sequence[str], name: str) -> np.ndarray:
    """Return a column as covariates: itself, or a column of 0 and 1 for every category but the first, [N, width]."""
    codes = _codes(column, label, levels, name)
    return _ones(levels, codes) if levels else codes[:, None]


def _ones(levels: Sequence[str], codes: np.ndarray) -> np.ndarray:
    """Return a column of 0 and 1 for every category but the first, [N, width]."""
    ones = (codes[:, None] == np.arange(1, len(levels))).astype(np.float64)
    return np.where(np.isnan(codes)[:, None], np.nan, ones)
