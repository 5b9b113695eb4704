"""What every container of data has: labels, hidden entries, test rows, minibatches. Table and Triplets are two."""

from __future__ import annotations

import abc
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, NoReturn, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.readers.labels import Labels, some

Arrays = dict[str, tuple[tuple[str, ...], np.ndarray]]
"""Name -> (names of dimensions, array), as ArviZ stores it."""

Stored = Mapping[str, np.ndarray]
"""The same as it comes back: name -> array."""

NOISE_STREAM = 1

PER_ROW = ("row_index", "exposure")
"""What containers have of each row beside its values."""

NAMED = 5
"""Rows that one message names."""


_NOT_HELD = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return a text with what neither HDF5 nor UTF-8 can hold, NUL and halves of surrogate pairs, replaced."""
    return _NOT_HELD.sub("�", text)


def all_storable(names: Sequence[Any]) -> np.ndarray:
    """Return names as such texts: those of Arrow, which are UTF-8, in one step."""
    if isinstance(names, Labels) and not names.has("\x00"):
        return names.arrow().to_numpy(zero_copy_only=False)
    return np.array([storable(str(name)) for name in names], dtype=object)


@dataclass(frozen=True)
class Hidden:
    """Entries whose true value is known but not shown to a fit. Tensors of shape [entry].

    Attributes:
        rows: Where they are.
        columns: Where they are.
        values: What they are.
        at_random: Whether they were chosen whatever their value. Intervals are not held to their coverage otherwise.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    at_random: bool = True

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Hidden:
        """Return the entries on another device and in another precision."""
        rows, columns, values = self.rows.to(device), self.columns.to(device), self.values.to(device, dtype)
        return replace(self, rows=rows, columns=columns, values=values)

    def at(self, index: Tensor) -> Hidden:
        """Return some of the entries, in an order."""
        return replace(self, rows=self.rows[index], columns=self.columns[index], values=self.values[index])

    def joined(self, other: Hidden | None, columns: int) -> Hidden:
        """Return both sets of entries, row by row, which is the order in which a run directory gives them back."""
        if other is None:
            return self
        rows, cells = torch.cat([self.rows, other.rows]), torch.cat([self.columns, other.columns])
        order = (rows * columns + cells).argsort()
        values = torch.cat([self.values, other.values])
        return Hidden(rows[order], cells[order], values[order], self.at_random and other.at_random)

    def stored(self, name: str) -> Arrays:
        """Return the entries as arrays for a run directory."""
        array = torch.stack([each.double() for each in (self.rows, self.columns, self.values)], 1).cpu().numpy()
        return {name: ((f"{name}_entry", "triplet"), array), f"{name}_at_random": ((), np.asarray(int(self.at_random)))}

    @classmethod
    def of_cells(cls, cells: np.ndarray | None, at_random: bool = True) -> Hidden | None:
        """Rebuild what ``Cells.hidden_cells`` returned, if anything."""
        if cells is None:
            return None
        known = torch.as_tensor(cells)
        row, column = (~known.isnan()).nonzero(as_tuple=True)
        return cls(row, column, known[row, column], at_random)

    @classmethod
    def restore(cls, arrays: Stored, name: str, dtype: torch.dtype) -> Hidden | None:
        """Rebuild what ``stored`` returned; None where there is nothing of that name."""
        if name not in arrays:
            return None
        row, column, value = torch.as_tensor(arrays[name]).unbind(1)
        return cls(row.long(), column.long(), value.to(dtype), bool(arrays[f"{name}_at_random"]))


@dataclass(frozen=True, eq=False)
class Data(abc.ABC):
    """N rows by D (or M) columns of numbers, however they are stored.

    Attributes:
        values: The numbers; the container says how they are laid out.
        row_labels: N names.
        column_labels: D names.
        name: Where the data came from.
        hidden: Held-out entries, unobserved in ``values``.
        test: New rows, never fitted.
        truth: Site -> value, when the data were simulated.
        total_rows: Rows of the whole when this is a minibatch of it.
        row_index: Which rows of the whole a minibatch holds.
        notes: What a reader of results should know about how the data were read.
        replaced: Observed site -> what stands in the place of its value: data simulated from a program of one's own.
        exposure: What each row was exposed to, [N], positive: hours of watching, depth of sequencing, inhabitants. Of
            models that can use it (``Model.uses_exposure``) the expected counts of a row are in proportion to it. None:
            1 for every row.
    """

    values: Tensor
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    name: str = "data"
    hidden: Hidden | None = None
    test: Self | None = None
    truth: Mapping[str, Tensor] = field(default_factory=dict)
    total_rows: int | None = None
    row_index: Tensor | None = None
    notes: tuple[str, ...] = ()
    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    exposure: Tensor | None = None

    keys: ClassVar[tuple[str, ...]] = ()
    """Columns of a reader's own table that say where its rows belong (``placed``), whatever they hold."""

    @classmethod
    def placed(cls, frame: pd.DataFrame, name: str) -> Sequence[str] | None:
        """Return labels for the rows of a reader's own table by its columns ``keys``; None: it has none of them."""
        return None

    @property
    def numbers(self) -> int:
        """Return how many numbers the values are."""
        return self.values.numel()

    @property
    def size(self) -> str:
        """Return the size of the data in words."""
        return " by ".join(f"{count} {dim}s" for count, dim in zip(self.shape, self.dims, strict=True))

    @property
    def with_new_rows(self) -> tuple[Self, ...]:
        """Return the data, and new rows that are never fitted, if any."""
        return (self,) if self.test is None else (self, self.test)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns."""
        return len(self.row_labels), len(self.column_labels)

    @property
    def empty(self) -> bool:
        """Return whether nothing is observed, as in data to simulate into."""
        return not self.values.numel()

    @property
    def units(self) -> int:
        """Return how many units the pointwise log-likelihood has."""
        return self.shape[0]

    @cached_property
    def rows(self) -> Tensor:
        """Return the index of each row in the whole, [N]."""
        return torch.arange(self.shape[0], device=self.values.device) if self.row_index is None else self.row_index

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates: dimension -> labels."""
        return {"row": self.row_labels, "column": self.column_labels}

    @property
    def dims(self) -> tuple[str, str]:
        """Return the names of the two axes."""
        return "row", "column"

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Return the data on another device and in another precision."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        moved: dict[str, Any] = {
            name: {site: move(value) for site, value in getattr(self, name).items()} for name in ("truth", "replaced")
        }
        moved |= {name: (part := getattr(self, name)) and part.to(device, dtype) for name in ("hidden", "test")}
        moved |= {name: None if (rows := getattr(self, name)) is None else move(rows) for name in PER_ROW}
        return replace(self, values=move(self.values), **moved)

    def with_exposure(self, exposure: Any) -> Self:
        """Return the data with an exposure for each row, of numbers in the order of the rows.

        Raises:
            DataError: Not one positive finite number for each row.
        """
        numbers = numeric(np.asarray(exposure), f"{self.name}: data.exposure")
        found = replace(self, exposure=torch.as_tensor(numbers).to(self.values))
        found.check_exposure()
        return found

    def exposure_of(self, rows: Any) -> Tensor | None:
        """Return the exposure of some rows, by index or slice; None where all have 1."""
        return None if self.exposure is None else self.exposure[rows]

    def check_exposure(self) -> None:
        """Raise DataError unless every row, old and new, has a positive finite exposure, or none has any."""
        for part in self.with_new_rows:
            if part.exposure is None:
                continue
            shape, rows = tuple(part.exposure.shape), part.shape[0]
            if shape != (rows,):
                said = f"data.exposure has shape {shape}; give one number for each of the {rows} rows"
                raise DataError(f"{part.name}: {said}")
            bad = (~(part.exposure.isfinite() & (part.exposure > 0))).nonzero().flatten().tolist()
            if bad:
                named = ", ".join(f"row {part.row_labels[i]!r} has {part.exposure[i].item():g}" for i in bad[:NAMED])
                more = f" (and {len(bad) - NAMED} more)" if len(bad) > NAMED else ""
                cure = "give a positive number, 1 for what is usual, or leave the row out"
                raise DataError(f"{part.name}: data.exposure must be positive and finite: {named}{more}; {cure}")

    def _check_exposure_of(self, test: Data) -> None:
        """Raise DataError when only one of the fitted rows and new rows has an exposure."""
        if (self.exposure is None) != (test.exposure is None):
            which = "rows have no exposure and the new rows have" if self.exposure is None else "rows have an exposure"
            both = "" if self.exposure is None else " and the new rows have none"
            raise DataError(f"{test.name}: the fitted {which}{both}: give data.exposure for both, or for neither")

    def _same_exposure(self, other: Data) -> bool:
        if self.exposure is None or other.exposure is None:
            return self.exposure is other.exposure
        return alike(self.exposure, other.exposure)

    def _stored_exposure(self) -> Arrays:
        parts = zip(("", "test_"), self.with_new_rows, strict=False)
        return {
            f"{prefix}exposure": ((f"{prefix}row",), part.exposure.cpu().numpy())
            for prefix, part in parts
            if part.exposure is not None
        }

    def storable(self) -> Self:
        """Return the data with labels that a file can hold."""
        named = {axis: getattr(self, axis) for axis in ("row_labels", "column_labels")}
        changes: dict[str, Any] = {
            axis: [storable(label) for label in labels]
            for axis, labels in named.items()
            if (labels.has("\0") if isinstance(labels, Labels) else any(map(_NOT_HELD.search, labels)))
        }
        if self.test is not None and (test := self.test.storable()) is not self.test:
            changes["test"] = test
        return replace(self, **changes) if changes else self

    @classmethod
    def _meaningless(cls, setting: str) -> NoReturn:
        raise SettingError(f"data{setting} has no meaning for {cls.__name__.lower()}")

    def with_image_shape(self, image_shape: Sequence[int]) -> Self:
        """Return the data with rows as images; of others than a table it is refused."""
        self._meaningless(".image_shape")

    def with_noise(self, noise: float, seed: int) -> Self:
        """Return the data with noise on what is observed; refused unless the container says what that is."""
        self._meaningless(".noise")

    @staticmethod
    def noise_of(seed: int) -> np.random.Generator:
        """Return what noise is drawn from: one seed serves noise, masks and hold-out, each by a stream of its own."""
        return np.random.default_rng((seed, NOISE_STREAM))

    def set_aside(self, fraction: float, seed: int) -> Self:
        """Return the data with a random fraction set aside to follow a fit by; of others than ratings it is refused."""
        self._meaningless(".validation")

    def predictions(self, prediction: Prediction) -> pd.DataFrame:
        """Return a prediction of the hidden entries as a table with labels: true value, mean, 90% interval."""
        hidden, likely = self.hidden, prediction
        assert hidden is not None
        names: dict[str, Any] = {
            "row": some(self.row_labels, hidden.rows),
            "column": some(self.column_labels, hidden.columns),
        }
        figures = {"true": hidden.values, "mean": likely.mean, "lower_90": likely.lower, "upper_90": likely.upper}
        return pd.DataFrame(names | {name: value.cpu() for name, value in figures.items()})

    def cell(self, row: int, column: int) -> str:
        """Return how an error message names a cell."""
        return f"{self.name}: row {self.row_labels[row]!r}, column {self.column_labels[column]!r}"

    @property
    def missing(self) -> Self | None:
        """Return the data with the cells that nobody knows as hidden entries, or None when there is none."""
        return None

    def first(self, count: int) -> Self:
        """Return fewer units, without hidden entries, on which the program has the same global sites."""
        return self

    @abc.abstractmethod
    def batch(self, index: Tensor) -> Self:
        """Return a minibatch of rows that remembers the size of the whole."""

    @property
    def chunks(self) -> int:
        """Return how many chunks the parts lie in: what is in memory is one."""
        return 1

    def of_chunk(self, chunk: int) -> Tensor:
        """Return which parts lie in a chunk."""
        return torch.arange(self.parts)

    def pieces(self) -> Iterator[Self]:
        """Go through the rows, each once, as data of their own: what is in memory is one piece."""
        yield self

    def only(self, index: Tensor) -> Self:
        """Return some rows as data of their own, without hidden entries."""
        return replace(self.batch(index), total_rows=None, row_index=None)

    @property
    def parts(self) -> int:
        """Return how many parts stochastic gradients choose from: rows, unless a container has smaller ones."""
        return self.units

    def part(self, index: Tensor) -> Self:
        """Return a minibatch of such parts."""
        return self.batch(index)

    def hold_out(self, fraction: float, seed: int, of: Literal["all", "listed"] = "all") -> Self:
        """Hide a random fraction of the observed entries, beside those that are hidden already.

        Args:
            fraction: In [0, 1).
            seed: Of the choice.
            of: ``all`` observed entries, or only those that are listed (where a container leaves zeros out).

        Raises:
            SettingError: If the fraction is out of range, or data of this kind cannot be held out.
        """
        check_fraction(fraction)
        return self._meaningless(".holdout") if fraction else self

    def with_test(self, test: Any) -> Self:
        """Return the data with new rows beside them, or raise DataError when their columns do not fit."""
        raise DataError(f"{self.name}: new rows have no meaning for {type(self).__name__.lower()}")

    def refuse_empty(self, what: str) -> None:
        """Raise DataError unless the data have rows and columns."""
        if 0 in self.shape:
            raise DataError(f"{self.name}: {what} is empty ({self.shape[0]} rows, {self.shape[1]} columns)")

    def checked(self) -> Self:
        """Return the data themselves when they are usable at all, or raise DataError."""
        return self

    def same(self, other: Any) -> bool:
        """Return whether other data are the same, entry by entry, with the same entries hidden."""
        if not isinstance(other, type(self)) or other.shape != self.shape:
            return False
        return alike(self.values, other.values) and self._same_exposure(other)

    def statistics(self, values: Tensor, site: str) -> Arrays:
        """Return what predictive checks look at, of these data or of simulated ones.

        Args:
            values: Like ``Data.values``.
            site: The name of the observed site.
        """
        return {site: (self.dims, values.float().cpu().numpy())}

    @abc.abstractmethod
    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return all of the data as arrays for a run directory: what is observed, and what else is known."""

    @classmethod
    @abc.abstractmethod
    def restore(cls, observed: Stored, extra: Stored, coords: Mapping[str, Sequence[str]], site: str) -> Self:
        """Rebuild the data from what ``stored`` returned and the labels of its dimensions."""

    @classmethod
    def blank(cls, rows: int, columns: int) -> Self:
        """Return data of the given shape to simulate into; refused where a size alone does not say enough."""
        cls._meaningless("=simulated")

    @classmethod
    @abc.abstractmethod
    def of(cls, source: Any, name: str = "data") -> Self:
        """Make the container of what a user has in Python, or raise DataError when it cannot be used."""


MOST_PAIRED = 30
"""Columns up to which all pairs of them are looked at: their covariance, or how they go together."""


@dataclass(frozen=True, eq=False)
class Cells(Data):
    """Data with a value for every row and column, NaN where it is missing; ``values`` has shape [N, D]."""

    columns_stand_alone: ClassVar[bool] = True
    """Whether nothing can be learned of a column without any value, so that none may lose all."""

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates; of up to 30 columns all pairs, too, row by row of the lower triangle."""
        known, names = super().coords, [str(label) for label in self.column_labels]
        if not 2 <= len(names) <= MOST_PAIRED:
            return known
        return known | {"pair": [f"{one} & {other}" for i, other in enumerate(names) for one in names[:i]]}

    @cached_property
    def observed(self) -> Tensor:
        """Return which entries are observed, [N, D] bool."""
        return ~torch.isnan(self.values)

    @property
    def empty(self) -> bool:
        """Return whether no cell has a value."""
        return not bool(self.observed.any())

    @cached_property
    def filled(self) -> Tensor:
        """Return the values with 0 in place of missing, for use under a mask, [N, D]."""
        return torch.nan_to_num(self.values, nan=0.0)

    @cached_property
    def missing(self) -> Self | None:
        """Return the data with their missing cells as hidden entries of unknown value, or None when there is none."""
        if self.replaced:  # simulated sites that are no cells stand in the place of the values
            return None
        known = self.observed.clone()
        if self.hidden is not None:
            known[self.hidden.rows, self.hidden.columns] = True
        row, column = (~known).nonzero(as_tuple=True)
        return replace(self, hidden=Hidden(row, column, self.values[row, column])) if len(row) else None

    def _bare(self, **changes: Any) -> Self:
        """Return other rows with the same columns, and nothing known beside them."""
        return replace(self, hidden=None, test=None, truth={}, notes=(), **changes)

    def first(self, count: int) -> Self:
        """Return the first rows as data of their own, without hidden entries."""
        some = slice(count)
        first = {"values": self.values[some], "row_labels": self.row_labels[some], "exposure": self.exposure_of(some)}
        return self._bare(**first, total_rows=None, row_index=None)

    def batch(self, index: Tensor) -> Self:
        """Return a minibatch of rows that remembers the size of the whole."""
        names, total = some(self.row_labels, index), self.total_rows or self.shape[0]
        rows = {"values": self.values[index], "row_index": self.rows[index], "exposure": self.exposure_of(index)}
        return self._bare(row_labels=names, total_rows=total, **rows)

    def hold_out(self, fraction: float, seed: int, of: Literal["all", "listed"] = "all") -> Self:
        """Hide a random fraction of the observed entries (see ``Data``); where columns stand alone each keeps one.

        All that is observed is listed: ``of`` makes no difference.
        """
        check_fraction(fraction)
        if fraction == 0:
            return self
        observed, width = self.observed.flatten().cpu().numpy(), self.shape[1]
        cells = None if observed.all() else counted(np.flatnonzero(observed))  # None: all of them
        order = shuffled(len(observed) if cells is None else len(cells), seed)
        # The first entry of each column in the random order stays, or of all.
        first = _first_of_each(order, cells, width) if self.columns_stand_alone else np.zeros(1, np.int64)
        count = round(fraction * len(order))
        chosen = np.sort(np.delete(order[: count + len(first)], first[first < count + len(first)])[:count])
        places = torch.as_tensor((chosen if cells is None else cells[chosen]).astype(np.int64)).to(self.values.device)
        return self.hide(places // width, places % width)

    def hide(self, rows: Tensor, columns: Tensor) -> Self:
        """Return the data with observed entries missing and kept in ``hidden``, beside those that are there already."""
        if not len(rows):
            return self
        values, found = self.values.clone(), Hidden(rows, columns, self.values[rows, columns])
        values[rows, columns] = torch.nan
        return replace(self, values=values, hidden=found.joined(self.hidden, self.shape[1]))

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return the values; hidden entries and test rows beside them."""
        extra = self._stored_exposure()
        if self.test is not None:
            extra["test_observed"] = ("test_row", "column"), self.test.values.cpu().numpy()
        for prefix, part in zip(("", "test_"), self.with_new_rows, strict=False):
            if part.hidden is not None:
                extra[f"{prefix}hidden"] = (f"{prefix}row", "column"), part.hidden_cells()
                if not part.hidden.at_random:
                    extra[f"{prefix}hidden_at_random"] = (), np.asarray(0)
        return {site: (self.dims, self.values.cpu().numpy())}, extra

    def hidden_cells(self) -> np.ndarray:
        """Return the hidden entries in their places and NaN elsewhere, [N, D], for a run directory."""
        assert self.hidden is not None
        cells = torch.full_like(self.values, torch.nan)
        cells[self.hidden.rows, self.hidden.columns] = self.hidden.values
        return cells.cpu().numpy()

    def refuse(self, bad: Tensor, what: str) -> None:
        """Raise DataError naming the first cell where ``bad`` [N, D] is true."""
        if bad.any():
            row, column = (int(i) for i in bad.nonzero()[0])
            raise DataError(f"{self.cell(row, column)}: {self.values[row, column].item():g} {what}")

    def same(self, other: Any) -> bool:
        """Return whether other data have the same values, missing where these miss them."""
        if other is self:
            return True
        if not isinstance(other, type(self)) or other.shape != self.shape:
            return False
        values = (each.values.nan_to_num(nan=-1.5) for each in (self, other))
        return alike(*values) and self._same_exposure(other)

    @classmethod
    def restore(cls, observed: Stored, extra: Stored, coords: Mapping[str, Sequence[str]], site: str) -> Self:
        """Rebuild the data from what ``stored`` returned and the labels of its dimensions."""

        def part(values: np.ndarray, prefix: str, **more: Any) -> Any:
            hidden = Hidden.of_cells(extra.get(f"{prefix}hidden"), f"{prefix}hidden_at_random" not in extra)
            more |= {"hidden": hidden, "exposure": exposure_in(extra, prefix), **cls._own(extra, coords)}
            return cls(torch.as_tensor(values), coords[f"{prefix}row"], coords["column"], **more)

        test = part(extra["test_observed"], "test_", name="test rows") if "test_observed" in extra else None
        true = {name.removeprefix("true_"): value for name, value in extra.items() if name.startswith("true_")}
        return part(observed[site], "", test=test, truth={site: torch.as_tensor(value) for site, value in true.items()})

    @classmethod
    def _own(cls, extra: Stored, coords: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Return the container's own fields, of what ``stored`` returned."""
        return {}

    @classmethod
    def blank(cls, rows: int, columns: int) -> Self:
        """Return data of the given shape in which nothing is observed, to simulate into."""
        check_size(rows, columns)
        return cls(*numbered(np.full((rows, columns), np.nan)), "simulated")


@dataclass(frozen=True, eq=False)
class Coded(Cells):
    """Cells whose values are codes, whole numbers from 0."""

    def __post_init__(self) -> None:
        if not self.values.is_floating_point():  # programs draw whole numbers; missing values need NaN
            object.__setattr__(self, "values", self.values.double())

    def check_codes(self, what: str, codes: str) -> None:
        """Raise DataError when there are no cells, or one of them holds no code."""
        self.refuse_empty(what)
        self.refuse(torch.isinf(self.values), "is infinite")
        self.refuse(self.filled < 0, f"is negative; {codes} count from 0")
        self.refuse(self.filled != self.filled.round(), f"is not a whole number; {codes} are needed")


def shuffled(count: int, seed: int) -> np.ndarray:
    """Return 0, 1, ... below a count in a random order, that of ``Generator.permutation``, in half its memory."""
    order = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
    np.random.default_rng(seed).shuffle(order)
    return order


def counted(numbers: np.ndarray) -> np.ndarray:
    """Return whole numbers in sorted order in half their memory where that can hold them."""
    return numbers.astype(np.int32) if len(numbers) and numbers[-1] < 2**31 else numbers


def _first_of_each(order: np.ndarray, cells: np.ndarray | None, width: int) -> np.ndarray:
    """Return where each column that occurs comes first among cells in a random order."""
    first, start, size = np.full(width, -1), 0, 64 * width
    while start < len(order) and (first < 0).any():
        block = order[start : start + size]
        columns, at = np.unique((block if cells is None else cells[block]) % width, return_index=True)
        new = first[columns] < 0
        first[columns[new]] = start + at[new]
        start, size = start + size, 2 * size
    return first[first >= 0]


def exposure_in(extra: Stored, prefix: str) -> Tensor | None:
    """Return the exposure of rows of what ``stored`` returned, if they have any."""
    found = extra.get(f"{prefix}exposure")
    return None if found is None else torch.as_tensor(found)


def labels(word: str, count: int) -> Labels:
    """Return default labels, ``row_0``, ``row_1``, ..."""
    return Labels(range(count), f"{word}_")


def numbered(values: np.ndarray) -> tuple[Tensor, Labels, Labels]:
    """Return values with default labels of their rows and columns."""
    return torch.as_tensor(values), labels("row", len(values)), labels("column", values.shape[1])


def alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, as far as the narrower precision of the two can tell."""
    narrow = torch.float32 if torch.float32 in (one.dtype, other.dtype) else torch.float64
    return torch.equal(one.cpu().to(narrow), other.cpu().to(narrow))


TOO_LARGE = "is too large: sums of squares could not hold it; divide all numbers by a power of ten"


def too_large(values: Tensor) -> Tensor:
    """Return where numbers are so large that sums of their squares may not be finite, in their precision."""
    return values.abs() > torch.finfo(values.dtype).max ** 0.4


def check_fraction(fraction: float, setting: str = "data.holdout") -> None:
    """Raise SettingError unless what is to be hidden is a fraction below 1."""
    if not 0 <= fraction < 1:
        raise SettingError(f"{setting} is {fraction}; it must be in [0, 1)")


def check_size(rows: int, columns: int) -> None:
    """Raise SettingError unless there is something to simulate."""
    if rows < 1 or columns < 1:
        raise SettingError(f"data.rows and data.columns must be at least 1, not {rows} and {columns}")


def refuse_twice(names: Sequence[str], where: str, hint: str = "") -> None:
    """Raise DataError naming a name that two columns have."""
    for name, count in Counter(map(str, names)).items():
        if count > 1:
            raise DataError(f"{where}: column name {name!r} appears twice{hint}")


def array_of(source: Any, name: str, wanted: str, *, matrix: bool = True) -> np.ndarray:
    """Return an array, masked or not, of what a user has.

    Raises:
        DataError: Another container, rows of different lengths, or no matrix where one is needed.
    """
    if isinstance(source, Data):
        raise DataError(f"{source.name}: {wanted} is needed, not {type(source).__name__.lower()}")
    if isinstance(source, Tensor):
        source = source.detach().cpu().numpy()
    try:
        array = source if np.ma.isMaskedArray(source) else np.asarray(source)
    except ValueError:
        raise DataError(f"{name}: the rows have different lengths") from None
    if matrix and array.ndim != 2:
        raise DataError(f"{name}: the array must have two axes (rows, columns), not shape {array.shape}")
    return array


def numeric(array: np.ndarray, where: str) -> np.ndarray:
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
