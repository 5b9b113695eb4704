"""Triplets: a sparse matrix as (row, column, value), with labels and with pairs that nobody observed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.container import (
    TOO_LARGE,
    Arrays,
    Data,
    Hidden,
    Stored,
    alike,
    check_fraction,
    check_size,
    exposure_in,
    labels,
    shuffled,
    too_large,
)
from pyrozoo.data.known_rows import joined
from pyrozoo.data.readers.arrow import holds
from pyrozoo.data.readers.labels import some
from pyrozoo.data.readers.lists import told_apart
from pyrozoo.data.readers.reading import Entries
from pyrozoo.data.table import Table
from pyrozoo.math.sparse import Pattern

Repeated = Literal["sum", "mean", "last", "refuse"]
"""What to do with a pair that is listed more than once."""

_DONE = {"sum": "values were summed", "mean": "values were averaged", "last": "the last value counts"}

NAMES = ("row", "column", "value")

MOST_HIDDEN = 5_000_000
"""Cells that may be held out; of a larger matrix only listed ones can be, which are few."""

LARGEST_FLOAT32_INDEX = 2**24
"""Rows or columns that single precision can number."""

CELLS = 200
"""Cells whose rates are compared between methods."""


@dataclass(frozen=True, eq=False)
class Triplets(Data):
    """N rows by M columns, of which the cells that are not 0 are listed: an absent pair is a true zero.

    ``values`` has shape [entry, 3]: row, column and value of each listed cell, sorted by row, then by column, each pair
    once and no zeros.

    Attributes:
        unobserved: Pairs that are neither zero nor listed but unknown, hidden ones included, [pair, 2], sorted; None:
            there are none.
        numbered: Whether rows have no names but their numbers, which say nothing of who they are.
    """

    name: str = "triplets"
    unobserved: Tensor | None = None
    numbered: bool = False

    lists_zeros: ClassVar[bool] = False
    """Whether 0 is a value like any other, and an absent pair unknown instead."""

    usually: ClassVar[Repeated] = "sum"
    """What to do with a repeated pair unless it is said."""

    @cached_property
    def counts(self) -> Tensor:
        """Return the values of the listed cells, [entry]."""
        return self.values[:, 2].contiguous()

    @cached_property
    def counts_by_column(self) -> Tensor:
        """Return the same by column, then by row, [entry]."""
        return self.counts[self.pattern.by_column]

    @cached_property
    def largest(self) -> float:
        """Return the largest of them; 0 of none."""
        return float(self.counts.max()) if len(self.counts) else 0.0

    @cached_property
    def log_factorials(self) -> Tensor:
        """Return log x! of the listed cells, [entry]."""
        return torch.lgamma(self.counts + 1)

    @cached_property
    def log_factorial(self) -> Tensor:
        """Return the sum of them, a scalar."""
        return self.log_factorials.sum()

    @cached_property
    def pattern(self) -> Pattern:
        """Return where the listed cells are."""
        return Pattern.of(self.values[:, 0].long(), self.values[:, 1].long(), *self.shape)

    @cached_property
    def unobserved_pattern(self) -> Pattern | None:
        """Return where the unobserved cells are, or None when there are none, in no shard."""
        if self.unobserved is None:
            return None
        return Pattern.of(self.unobserved[:, 0], self.unobserved[:, 1], *self.shape)

    @cached_property
    def observed_exposure(self) -> Tensor:
        """Return the exposure of the observed cells of each column, zeros among them, [M]."""
        rows = self.values.new_ones(self.shape[0]) if self.exposure is None else self.exposure.to(self.values.dtype)
        total = rows.sum().expand(self.shape[1])
        if self.unobserved is None:
            return total
        return total.index_add(0, self.unobserved[:, 1], -rows[self.unobserved[:, 0]])

    @property
    def observed_cells(self) -> int:
        """Return how many cells are observed, zeros among them."""
        return math.prod(self.shape) - (0 if self.unobserved is None else len(self.unobserved))

    def seen(self, values: Tensor) -> Tensor:
        """Return those of listed cells, [entry, 3], such as simulated ones, that these data observe."""
        if self.unobserved is None:
            return values
        places = _places(values[:, :2].long(), self.shape[1])
        return values[~torch.isin(places, _places(self.unobserved, self.shape[1]))]

    @cached_property
    def missing(self) -> Self | None:
        """Return the data with unobserved pairs that nobody knows as hidden entries, or None when there are none."""
        if self.unobserved is None:
            return None
        unknown = self.unobserved
        if self.hidden is not None:
            known = _places(torch.stack([self.hidden.rows, self.hidden.columns], 1), self.shape[1])
            unknown = unknown[~torch.isin(_places(unknown, self.shape[1]), known)]
        if not len(unknown):
            return None
        values = self.values.new_full((len(unknown),), torch.nan)
        return replace(self, hidden=Hidden(unknown[:, 0], unknown[:, 1], values))

    @cached_property
    def cells(self) -> Tensor:
        """Return cells to compare methods by, half of them listed ones, evenly chosen, [cell, 2], sorted."""
        N, M = self.shape
        at = evenly(len(self.values), CELLS // 2).to(self.values.device)
        listed = self.values[at, :2].long()
        generator = torch.Generator().manual_seed(0)
        count = min(CELLS // 2, N * M)
        others = torch.stack([torch.randint(size, (count,), generator=generator) for size in (N, M)], 1)
        return torch.cat([listed, others.to(listed.device)]).unique(dim=0)

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates: dimension -> labels."""
        cells = [f"{self.row_labels[i]} | {self.column_labels[j]}" for i, j in self.cells.tolist()]
        return {**super().coords, "cell": cells}

    def first(self, count: int) -> Self:
        """Return the data without hidden entries: rows have parameters of their own, so none can be left out."""
        return replace(self, hidden=None, test=None)

    def batch(self, index: Tensor) -> Self:
        """Return a minibatch of rows that remembers the size of the whole."""
        index = index.to(self.values.device)
        values, gone = _take_rows(self.pattern, index, self.values), None
        if self.unobserved is not None and self.unobserved_pattern is not None:
            taken = _take_rows(self.unobserved_pattern, index, self.unobserved)
            gone = taken
        return type(self)(
            values, some(self.row_labels, index), self.column_labels, self.name, row_index=self.rows[index],
            total_rows=self.shape[0] if self.total_rows is None else self.total_rows, unobserved=gone,
            exposure=self.exposure_of(index),
        )  # fmt: skip

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Return the data on another device and in a precision that can number their rows and columns."""
        if dtype == torch.float32 and max(self.shape) > LARGEST_FLOAT32_INDEX:
            raise DataError(f"{self.name}: {max(self.shape)} labels are too many for dtype=float32; use dtype=float64")
        moved = super().to(device, dtype)
        return moved if self.unobserved is None else replace(moved, unobserved=self.unobserved.to(device))

    def hold_out(self, fraction: float, seed: int, of: Literal["all", "listed"] = "all") -> Self:
        """Hide a random fraction of the observed cells, zeros included, or of the listed ones.

        Args:
            fraction: In [0, 1).
            seed: Of the choice.
            of: ``all`` cells, which is fair to zeros and costs a number per cell; or ``listed`` ones, as is usual for
                recommendations, where what is hidden is known not to be zero.

        Raises:
            SettingError: If the fraction is out of range, or the cells are too many.
        """
        check_fraction(fraction)
        if fraction == 0:
            return self
        N, M = self.shape
        if of == "listed":
            chosen = np.sort(shuffled(len(self.values), seed)[: round(fraction * len(self.values))])
            return self._hide_listed(torch.as_tensor(chosen, device=self.values.device), at_random=False)
        else:
            count = round(fraction * N * M)
            if count > MOST_HIDDEN:
                digits = 1 - math.floor(math.log10(MOST_HIDDEN / (N * M)))
                most = f"at most {math.floor(MOST_HIDDEN / (N * M) * 10**digits) / 10**digits:.2g}"
                many = f"data.holdout would hide {count} of {N} x {M} cells, most of them zeros"
                raise SettingError(f"{many}; use data.holdout_of=listed, or {most}")
            places = torch.as_tensor(
                np.sort(np.random.default_rng(seed).choice(N * M, count, replace=False)), device=self.values.device
            )
            if self.unobserved is not None:
                places = places[~torch.isin(places, _places(self.unobserved, M))]
            pairs = torch.stack([places // M, places % M], 1)
        return self.hide(pairs)

    def hide(self, pairs: Tensor, at_random: bool = True) -> Self:
        """Return the data with observed cells unobserved and kept in ``hidden``.

        Args:
            pairs: Rows and columns, [pair, 2], sorted, each once.
            at_random: Whether they were chosen whatever their value.
        """
        if not len(pairs):
            return self
        M = self.shape[1]
        places, mine = _places(pairs, M), _places(self.values[:, :2].long(), M)
        at = torch.searchsorted(mine, places).clamp(max=max(0, len(mine) - 1))
        listed = mine[at] == places if len(mine) else torch.zeros_like(places, dtype=torch.bool)
        values, keep = self.values.new_zeros(len(pairs)), torch.ones(len(mine), dtype=torch.bool, device=mine.device)
        values[listed], keep[at[listed]] = self.values[at[listed], 2], False
        return self._without(keep, Hidden(pairs[:, 0], pairs[:, 1], values, at_random))

    def _hide_listed(self, at: Tensor, at_random: bool = True) -> Self:
        """Return the data with some of their listed cells, by their sorted places, unobserved and in ``hidden``."""
        if not len(at):
            return self
        keep = torch.ones(len(self.values), dtype=torch.bool, device=self.values.device)
        keep[at] = False
        chosen = self.values[at]
        return self._without(keep, Hidden(chosen[:, 0].long(), chosen[:, 1].long(), chosen[:, 2].clone(), at_random))

    def _without(self, keep: Tensor, hidden: Hidden) -> Self:
        """Return the listed cells that are kept, and others hidden."""
        pairs, M = torch.stack([hidden.rows, hidden.columns], 1), self.shape[1]
        gone = pairs if self.unobserved is None else _sorted(torch.cat([self.unobserved, pairs]), M)[0]
        return replace(self, values=self.values[keep], unobserved=gone, hidden=hidden.joined(self.hidden, M))

    def with_test(self, test: Any) -> Self:
        """Return the data with new rows beside them, their columns matched by label.

        Rows with labels of rows that the data have are these (see ``data.known_rows``), which a note says.

        Raises:
            DataError: They list a column that the data do not have.
        """
        place = {label: i for i, label in enumerate(self.column_labels)}
        unknown = [label for label in test.column_labels if label not in place]
        if unknown and list(test.column_labels) == labels("column", test.shape[1]) and test.shape[1] == self.shape[1]:
            place, unknown = dict(zip(test.column_labels, range(test.shape[1]), strict=True)), []
        if unknown:
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            which = f"column {unknown[0]!r}, which {self.name} does not have{more}"
            raise DataError(f"{test.name}: the new rows list {which}")
        self._check_exposure_of(test)
        order = torch.tensor([place[label] for label in test.column_labels], dtype=torch.long)

        def moved(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
            return _sorted(torch.stack([rows, order[columns]], 1), self.shape[1])

        pairs, at = moved(*test.values[:, :2].long().unbind(1))
        values = torch.cat([pairs.to(test.values.dtype), test.values[at, 2:]], 1)
        unobserved, hidden = test.unobserved, test.hidden
        if unobserved is not None:
            unobserved = moved(*unobserved.unbind(1))[0]
        if hidden is not None:
            cells, at = moved(hidden.rows, hidden.columns)
            hidden = replace(hidden, rows=cells[:, 0], columns=cells[:, 1], values=hidden.values[at])
        new = replace(test, values=values, column_labels=self.column_labels, unobserved=unobserved, hidden=hidden)
        new, note = joined(self, new)
        return replace(self, test=new, notes=self.notes if note is None else (*self.notes, note))

    def matched(self, rows: Any) -> Self:
        """Return new rows over the columns of these data, in their order."""
        if list(rows.column_labels) == list(self.column_labels):
            return rows
        found: Any = self.with_test(rows).test
        return found

    def checked(self) -> Self:
        """Return the data themselves, or raise DataError when there are no rows or columns, or an infinite value."""
        self.refuse_empty("the matrix")
        self.refuse_infinite()
        self.check_exposure()
        return self

    def refuse_infinite(self) -> None:
        """Raise DataError naming a cell with an infinite value."""
        ends = self.values[:, 2].aminmax() if len(self.values) else ()
        if any(bool(torch.isinf(end)) for end in ends):
            self.refuse(torch.isinf(self.counts), "is infinite")
        if any(bool(too_large(end)) for end in ends):
            self.refuse(too_large(self.counts), TOO_LARGE)

    def refuse(self, bad: Tensor, what: str) -> None:
        """Raise DataError naming the first listed cell where ``bad`` [entry] is true."""
        if bad.any():
            row, column, value = self.values[bad][0].tolist()
            raise DataError(f"{self.cell(int(row), int(column))}: {value:g} {what}")

    def same(self, other: Any) -> bool:
        """Return whether other triplets list the same cells and values, with the same pairs unobserved."""
        if other is self:
            return True
        if not isinstance(other, Triplets) or other.shape != self.shape:
            return False
        pairs = [self.values.new_zeros(0, 2) if u is None else u for u in (self.unobserved, other.unobserved)]
        return alike(self.values, other.values) and alike(*pairs) and self._same_exposure(other)

    def statistics(self, values: Tensor, site: str) -> Arrays:
        """Return the totals of rows and of columns, and the share of zeros, over the observed cells."""
        values = self.seen(values)
        counts = values[:, 2].double()
        result: Arrays = {}
        for axis, (name, size) in enumerate(zip(self.dims, self.shape, strict=True)):
            total = counts.new_zeros(size).index_add(0, values[:, axis].long(), counts)
            result[f"{name}_total"] = (name,), total.cpu().numpy()
        return result | {"share_of_zeros": ((), np.asarray(1 - len(counts) / max(self.observed_cells, 1)))}

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return the listed cells; unobserved and hidden ones and test rows beside them."""
        extra = self._stored_exposure()
        if self.test is not None:
            extra["test_entries"] = ("test_entry", "triplet"), self.test.values.cpu().numpy()
            # Something with the dimension of the new rows, so that their labels are stored.
            name = "mean_by_row" if self.lists_zeros else "row_total"
            extra[f"test_{name}"] = ("test_row",), self.test.statistics(self.test.values, site)[name][1]
        for prefix, part in zip(("", "test_"), self.with_new_rows, strict=False):
            if part.unobserved is not None:
                extra[f"{prefix}unobserved"] = (f"{prefix}pair", "row_column"), part.unobserved.cpu().numpy()
            if part.hidden is not None:
                extra |= part.hidden.stored(f"{prefix}hidden")
        return {site: (("entry", "triplet"), self.values.cpu().numpy())}, extra

    @classmethod
    def restore(cls, observed: Stored, extra: Stored, coords: Mapping[str, Sequence[str]], site: str) -> Self:
        """Rebuild the data from what ``stored`` returned."""

        def part(array: np.ndarray, prefix: str, **more: Any) -> Any:
            values, pairs = torch.as_tensor(array), extra.get(f"{prefix}unobserved")
            more["hidden"] = Hidden.restore(extra, f"{prefix}hidden", values.dtype)
            more["unobserved"] = None if pairs is None else torch.as_tensor(pairs)
            more["exposure"] = exposure_in(extra, prefix)
            return cls(values, coords[f"{prefix}row"], coords["column"], **more)

        test = part(extra["test_entries"], "test_", name="test rows") if "test_entries" in extra else None
        return part(observed[site], "", test=test)

    @classmethod
    def blank(cls, rows: int, columns: int) -> Self:
        """Return a matrix of zeros of the given shape, to simulate into."""
        check_size(rows, columns)
        empty = torch.zeros(0, 3, dtype=torch.float64)
        return cls(empty, labels("row", rows), labels("column", columns), "simulated")

    @classmethod
    def of(cls, source: Any, name: str = "triplets") -> Self:
        """Make triplets of what a user has.

        Args:
            source: A pandas DataFrame with exactly the columns row, column and value (labels and numbers); any other
                frame, array, tensor or table is the matrix itself, in which NaN is unobserved; or a SciPy sparse
                matrix.
            name: What to call it in messages.

        Raises:
            DataError: Not numbers, or unusable (see ``checked``).
        """
        if isinstance(source, cls) and type(source) is cls:
            return source.checked()
        if isinstance(source, Triplets):
            theirs, ours = ("zero", "unknown") if cls.lists_zeros else ("unknown", "zero")
            kind, needed = (each.__name__.lower() for each in (type(source), cls))
            absent = f"an absent pair is {theirs} in {kind}; this model needs {needed}, where it is {ours}"
            raise DataError(f"{source.name}: {absent}: use data={needed}")
        if isinstance(source, pd.DataFrame) and sorted(map(str, source.columns)) == sorted(NAMES):
            return cls.of_columns(*(source[each] for each in NAMES), name=name)
        if hasattr(source, "tocoo"):
            if source.ndim != 2:
                raise DataError(f"{name}: the matrix must have two axes (rows, columns), not shape {source.shape}")
            matrix = source.tocoo()
            found = _listed(matrix.row, matrix.col, _numbers(matrix.data, name), "sum")
            rows, columns = (labels(word, size) for word, size in zip(NAMES, matrix.shape, strict=False))
            return cls._assembled(*found[:3], rows, columns, name, ()).checked()
        if isinstance(source, Tensor) and source.layout != torch.strided:
            raise DataError(f"{name}: the tensor must be dense; a sparse matrix may be one of SciPy's")
        table = source if isinstance(source, Table) else Table.of(source, name)
        listed = table.observed if cls.lists_zeros else table.observed.logical_and(table.filled != 0)
        row, column = listed.nonzero(as_tuple=True)
        values = torch.cat([torch.stack([row, column], 1).to(table.values.dtype), table.values[row, column, None]], 1)
        hidden, unobserved = table.hidden, (~table.observed).nonzero()
        if cls.lists_zeros:  # all absent pairs are unknown, and none was asked about but those that are hidden
            pairs = unobserved[:0] if hidden is None else torch.stack([hidden.rows, hidden.columns], 1)
            unobserved = _sorted(pairs, table.shape[1])[0]
        test = None if table.test is None else cls.of(table.test)
        return cls(
            values, table.row_labels, table.column_labels, table.name, hidden=hidden, test=test, truth=table.truth,
            notes=table.notes, unobserved=unobserved if len(unobserved) else None,
            numbered=isinstance(getattr(source, "index", None), pd.RangeIndex), exposure=table.exposure,
        ).checked()  # fmt: skip

    @classmethod
    def of_columns(
        cls, rows: Any, columns: Any, values: Any, *, name: str = "", repeated: Repeated | None = None,
        row_labels: Mapping[str, str] | None = None, column_labels: Mapping[str, str] | None = None,
    ) -> Self:  # fmt: skip
        """Make triplets of three columns of equal length, in any order.

        Args:
            rows: What tells rows apart: numbers or text.
            columns: The same for columns.
            values: Numbers; NaN says that the pair is unobserved, 0 says nothing but of ratings.
            name: What to call them in messages.
            repeated: Whether the values of a pair listed more than once are summed or averaged (a note says how many
                were), or the data refused, which is usual for ratings.
            row_labels: What to call the rows, by their text; None: by their text.
            column_labels: The same for columns.

        Raises:
            DataError: No entries, a missing name, not numbers, or a repeated pair where it is refused.
        """
        name, repeated = name or cls.name, repeated or cls.usually
        arrays = [np.asarray(rows, dtype=object), np.asarray(columns, dtype=object), np.asarray(values)]
        if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 1:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise DataError(f"{name}: rows, columns and values must be three lists of one length, not {shapes}")
        if not len(arrays[0]):
            raise DataError(f"{name}: the list is empty")
        (i, row_names), (j, column_names) = (_numbered(arrays[axis], NAMES[axis], name) for axis in (0, 1))
        names, numbers = (row_names, column_names), _numbers(arrays[2], name)
        if (bad := np.isinf(numbers)).any():
            at = int(bad.argmax())
            raise DataError(f"{name}: row {names[0][i[at]]!r}, column {names[1][j[at]]!r}: {numbers[at]:g} is infinite")
        row, column, value, notes = _once(i, j, numbers, repeated, names, name)
        given = zip(names, (row_labels or {}, column_labels or {}), strict=True)
        called, headed = (told_apart([known.get(each, each) for each in own], own) for own, known in given)
        return cls._assembled(row, column, value, called, headed, name, notes).checked()

    def of_new(
        self, rows: Sequence[str], columns: np.ndarray, values: np.ndarray, *, name: str,
        repeated: Repeated | None = None, numbered: bool = False,
    ) -> Self:  # fmt: skip
        """Make new rows over the columns of these data.

        Args:
            rows: The label of the row of each entry.
            columns: The place of its column among those of these data.
            values: Its number; NaN asks for it.
            name: What to call them in messages.
            repeated: As ``of_columns`` has it.
            numbered: Whether the rows have no names but their numbers.

        Raises:
            DataError: A repeated pair where it is refused.
        """
        codes, found = pd.factorize(np.asarray(rows, dtype=object))
        names, asked = [str(each) for each in found], (list(map(str, found)), self.column_labels)
        row, column, value, notes = _once(codes, columns, values, repeated or self.usually, asked, name)
        made = self._assembled(row, column, value, names, self.column_labels, name, notes)
        return replace(made, numbered=numbered)

    @classmethod
    def of_entries(
        cls, entries: Entries, *, name: str = "", repeated: Repeated | None = None, dtype: str = "float64"
    ) -> Self:  # fmt: skip
        """Make triplets of a list that was read: places among names, and values.

        Args:
            entries: The list; what is ``late`` in it is hidden.
            name: What to call it in messages.
            repeated: As ``of_columns`` has it.
            dtype: The precision: ``float32`` where that can hold the values, and number rows and columns.

        Raises:
            DataError: A repeated pair where it is refused.
        """
        name, names = name or cls.name, (entries.row_names, entries.column_names)
        asked, pairs = (entries.rows, entries.columns, entries.values), None
        if entries.late is not None:
            listed = entries.late & ~np.isnan(entries.values) & ((entries.values != 0) | cls.lists_zeros)
            places = np.unique(entries.rows[listed].astype(np.int64) * len(names[1]) + entries.columns[listed])
            pairs = torch.as_tensor(np.stack([places // len(names[1]), places % len(names[1])], 1))
        del entries  # a list may be as large as memory allows: nothing of it is held twice
        rows, columns, values, notes = _once(*asked, repeated or cls.usually, names, name)
        del asked
        made = cls._assembled(rows, columns, values, *names, name, notes, dtype)
        del rows, columns, values
        return made.checked() if pairs is None else made.checked().hide(pairs, at_random=False)

    @classmethod
    def _assembled(
        cls, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, row_labels: Sequence[str],
        column_labels: Sequence[str], name: str, notes: tuple[str, ...], dtype: str = "float64",
    ) -> Self:  # fmt: skip
        unknown = np.isnan(values)
        listed = ~unknown if cls.lists_zeros else ~unknown & (values != 0)
        pairs = torch.as_tensor(np.stack([rows[unknown], columns[unknown]], 1)) if unknown.any() else None
        if not listed.all():
            rows, columns, values = rows[listed], columns[listed], values[listed]
        single = max(len(row_labels), len(column_labels)) <= LARGEST_FLOAT32_INDEX and holds(values)
        entries = np.empty((len(rows), 3), dtype if single else "float64")
        entries[:, 0], entries[:, 1], entries[:, 2] = rows, columns, values
        return cls(torch.as_tensor(entries), row_labels, column_labels, name, unobserved=pairs, notes=notes)


def _numbered(column: np.ndarray, what: str, name: str) -> tuple[np.ndarray, list[str]]:
    """Return the place of each entry among the names, and the names: by number where all are numbers, else by text."""
    codes, found = pd.factorize(column)
    spelled = [str(each) for each in found]
    if (lost := (codes < 0) | np.array([*(not each for each in spelled), True])[codes]).any():
        raise DataError(f"{name}: entry {int(lost.argmax()) + 1} has no {what}")
    numbers = [float(each) if _is_number(each) else math.nan for each in spelled]
    order = [0.0] * len(numbers) if any(map(math.isnan, numbers)) else numbers
    names = [name for _, name in sorted({*zip(order, spelled, strict=True)})]
    place = {each: i for i, each in enumerate(names)}
    return np.array([place[each] for each in spelled])[codes], names


def _numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Return the values of a list as numbers, NaN where they are missing."""
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    if values.dtype.kind in "cmM":
        raise DataError(f"{name}: the values are {values.dtype}, not numbers")
    given = np.where(pd.isna(values), np.nan, values.astype(object))
    try:
        return given.astype(np.float64)
    except (TypeError, ValueError):
        at = next(i for i, each in enumerate(given) if not _is_number(each))
        value = values[at].item() if isinstance(values[at], np.generic) else values[at]
        raise DataError(f"{name}: entry {at + 1}: the value {' '.join(repr(value).split())} is not a number") from None


def _is_number(value: Any) -> bool:
    try:
        np.asarray([value], dtype=object).astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _listed(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, repeated: Repeated
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int] | None]:
    """Sort entries, and sum or average repeated pairs or take their last; one missing value makes a pair's sum missing.

    Returns:
        Rows, columns, values, and of a repeated pair, if there is one, row, column and how often.
    """
    rows, columns, values = _in_order(rows, columns, values)
    new = np.ones(len(rows), dtype=bool)
    np.logical_or(rows[1:] != rows[:-1], columns[1:] != columns[:-1], out=new[1:])
    if new.all():
        return rows, columns, values, None
    starts = np.flatnonzero(new)
    counts = np.diff([*starts, len(rows)])
    worst = starts[counts.argmax()]
    again = int(rows[worst]), int(columns[worst]), int(counts.max())
    if repeated == "last":
        return rows[new], columns[new], values[starts + counts - 1], again
    together = np.add.reduceat(values, starts)
    return rows[new], columns[new], together / counts if repeated == "mean" else together, again


def _in_order(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort entries by row, then by column, those of a pair in their order: by counting, in a pass for each."""
    if not len(rows):
        return rows, columns, values
    ahead = rows[1:] == rows[:-1]
    ahead &= columns[1:] >= columns[:-1]
    ahead |= rows[1:] > rows[:-1]
    if ahead.all():
        return rows, columns, values
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    if sum(shape) > 4 * len(rows) + 1000:  # counting would cost more than the entries
        order = np.lexsort((columns, rows))
        return rows[order], columns[order], values[order]
    from scipy.sparse import coo_array

    matrix = coo_array((values, (rows, columns)), shape=shape)
    matrix.has_canonical_format = True  # so that nothing is summed
    found = matrix.tocsc().tocsr()
    return np.repeat(np.arange(shape[0]), np.diff(found.indptr)), found.indices, found.data


def _once(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, repeated: Repeated,
    names: tuple[Sequence[str], Sequence[str]], name: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:  # fmt: skip
    """Sort entries, each pair once, with a note where pairs were repeated, or refuse them."""
    row, column, value, again = _listed(rows, columns, values, repeated)
    if again is None:
        return row, column, value, ()
    if repeated == "refuse":
        where = f"row {names[0][again[0]]!r}, column {names[1][again[1]]!r}"
        cure = "data.repeated=sum adds them up, mean averages them, last takes the last"
        raise DataError(f"{name}: {where} is listed {again[2]} times; {cure}")
    count = len(values) - len(value)
    return row, column, value, (f"{count} entries repeat a pair of row and column: {_DONE[repeated]} (data.repeated)",)


def _places(pairs: Tensor, width: int) -> Tensor:
    return pairs[:, 0] * width + pairs[:, 1]


def _sorted(pairs: Tensor, width: int) -> tuple[Tensor, Tensor]:
    order = _places(pairs, width).argsort()
    return pairs[order], order


def _take_rows(pattern: Pattern, index: Tensor, entries: Tensor) -> Tensor:
    """Return the entries [entry, ...] of some rows, the first number of each replaced by its row's new place."""
    starts, lengths = pattern.starts[index], pattern.starts.diff()[index]
    place = torch.repeat_interleave(torch.arange(len(index), device=index.device), lengths)
    offset = torch.arange(len(place), device=index.device) - (lengths.cumsum(0) - lengths)[place]
    taken = entries[starts[place] + offset].clone()
    taken[:, 0] = place.to(taken.dtype)
    return taken
