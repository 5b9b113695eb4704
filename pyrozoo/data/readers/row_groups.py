"""Parquet files and folders of them, row group by row group: what is not asked for is not read, and nothing is held."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pyrozoo.core.errors import DataError, first_line
from pyrozoo.data.readers.arrow import column_of, numeric
from pyrozoo.data.readers.cells import is_number, is_text, named
from pyrozoo.data.readers.guard import readable
from pyrozoo.data.readers.identifiers import DENSE, nameless, ordered
from pyrozoo.data.readers.labels import Labels
from pyrozoo.data.readers.raw import existing
from pyrozoo.data.readers.words import no_column

ENDINGS = (".parquet", ".pq")
"""Of Parquet files in a folder."""

GROUP = 2**20
"""Lines of a row group that is written."""

HELD = 2**24
"""Lines that ``arrange`` holds at a time; distinct cells that are gathered before they are put together."""


@dataclass(frozen=True)
class RowGroup:
    """A part of a file that can be read alone.

    Attributes:
        file: Where it is.
        place: Which of the file's row groups it is, from 0.
        rows: How many lines it has.
    """

    file: Path
    place: int
    rows: int


@dataclass(frozen=True)
class RowGroups:
    """A Parquet file, or all Parquet files of a folder, in the order of their names; numbers in names count.

    Attributes:
        name: What messages call it.
        schema: Names and types of its columns, which all files share.
        groups: Its row groups.
    """

    name: str
    schema: pa.Schema
    groups: tuple[RowGroup, ...]

    @classmethod
    def open(cls, path: str | Path) -> RowGroups:
        """Look at the ends of files, which say what is in them; no line is read.

        Raises:
            DataError: There is no such file, none that is Parquet, or files whose columns differ.
        """
        path = existing(path)
        files = parquet_files(path) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path.name} is a folder without a Parquet file")
        schemas, groups = [], []
        for file in files:
            with readable(_called(path, file), "Parquet file"), pq.ParquetFile(file, memory_map=True) as opened:
                schemas.append(opened.schema_arrow)
                counts = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
            groups += [RowGroup(file, i, count) for i, count in enumerate(counts)]
        return cls(path.name, _together(path, files, schemas), tuple(groups))

    @cached_property
    def starts(self) -> np.ndarray:
        """Return the place of the first line of each group among all lines, and at the end how many there are."""
        return np.r_[0, np.cumsum([each.rows for each in self.groups], dtype=np.int64)]

    @property
    def rows(self) -> int:
        """Return how many lines there are."""
        return int(self.starts[-1])

    def tables(self, chosen: Iterable[int] | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read row groups, one at a time.

        Args:
            chosen: Their places, from 0, in the order in which they come; None: all.
            columns: The columns to read; None: all.

        Raises:
            DataError: There is no such column, or a file is damaged.
        """
        for each in columns or ():
            self._check(each)
        schema = self.schema if columns is None else pa.schema([self.schema.field(each) for each in columns])
        groups = self.groups if chosen is None else [self.groups[i] for i in chosen]
        for file, its in groupby(groups, key=lambda group: group.file):
            with readable(file.name, "Parquet file"), pq.ParquetFile(file, memory_map=True) as opened:
                for group in its:
                    table = opened.read_row_group(group.place, schema.names)
                    yield table.select(schema.names).cast(schema)

    def shares(self, parts: int) -> list[range]:
        """Return which groups each of several readers takes: neighbours, with about equally many lines.

        Raises:
            DataError: There are fewer groups than readers.
        """
        if parts > len(self.groups):
            raise DataError(
                f"{self.name} has {len(self.groups)} row groups, fewer than {parts}: write smaller ones, in Python by "
                f"pyarrow.parquet.write_table(table, FILE, row_group_size={max(1, self.rows // (4 * parts))})"
            )
        middles = (self.starts[:-1] + self.starts[1:]) / 2
        ends = [int(np.searchsorted(middles, self.rows * (i + 1) / parts)) for i in range(parts)]
        for i in range(parts):  # each has one, whatever their sizes
            ends[i] = min(max(ends[i], (ends[i - 1] if i else 0) + 1), len(self.groups) - (parts - 1 - i))
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def order(self, column: str, chosen: Iterable[int] | None = None) -> Order:
        """Find the labels in a column of a list, in their order, in one pass that holds only distinct cells.

        Raises:
            DataError: There is no such column, it holds what names nothing, or a cell is missing.
        """
        return Order.of(self._distinct(column, chosen, apart=False))

    def rows_order(self, column: str, chosen: Iterable[int] | None = None) -> Order:
        """Find the labels of rows, as ``order`` does, where all lines of a row are in one group.

        Raises:
            DataError: As ``order``; or a row has lines in several groups.
        """
        return Order.of(self._distinct(column, chosen, apart=True))

    def _distinct(self, column: str, chosen: Iterable[int] | None, *, apart: bool) -> pa.Array:
        """Return the distinct cells of a column; with ``apart`` no two groups may share one."""
        self._check(column)
        which = range(len(self.groups)) if chosen is None else list(chosen)
        known: list[pa.Array] = []
        held, last = 0, 0
        for group, table in zip(which, self.tables(which, [column]), strict=True):
            cells = plain_cells(table.column(0))
            if nameless(cells).any():
                at = int(self.starts[group]) + int(nameless(_whole(table.column(0))).argmax()) + 1
                raise DataError(f"{self.name}: row {at} has no cell in column {column!r}, which names rows or columns")
            known.append(cells)
            held += len(cells)
            if held > 2 * last + HELD:
                known = [self._merged(known, column, apart)]
                held = last = len(known[0])
        return self._merged(known, column, apart)

    def _merged(self, known: Sequence[pa.Array], column: str, apart: bool) -> pa.Array:
        every = pa.concat_arrays(known)
        found = pc.unique(every)
        if apart and len(found) < len(every):
            codes = numeric(pa.chunked_array([pc.index_in(every, value_set=found)]), np.int64)
            cell = named(found[int(np.bincount(codes).argmax())].as_py())
            raise DataError(
                f"{self.name}: row {cell!r} (column {column!r}) has lines in several row groups; in Python, "
                f"pyrozoo.data.readers.row_groups.arrange({self.name!r}, 'arranged.parquet', row={column!r}) writes a "
                "file in which no row has"
            )
        return found

    def _check(self, column: str) -> None:
        if column not in self.schema.names:
            raise DataError(f"{self.name}: {no_column(column, self.schema.names, 'columns')}")
        kind = self.schema.field(column).type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            raise DataError(f"{self.name}: column {column!r} holds {kind}, which no model reads")


@dataclass(frozen=True)
class Order:
    """Labels of one axis of a list, in the order in which a reading of the whole list has them.

    Attributes:
        labels: The labels.
        cells: The distinct cells that they are made of.
        at: The place of each of these among the labels.
    """

    labels: Labels
    cells: pa.Array
    at: np.ndarray

    @classmethod
    def of(cls, cells: pa.Array) -> Order:
        """Put distinct cells in order: those of several readers together, ``pyarrow.concat_arrays``, too."""
        cells = pc.unique(cells)
        at, labels = ordered(cells)
        return cls(labels, cells, at)

    def places(self, column: pa.ChunkedArray) -> np.ndarray:
        """Return the place of each cell's label, int64; -1 where a cell has none of them."""
        if is_text(column) or not is_number(column):
            found = pc.index_in(plain_column(column), value_set=self.cells)
            at = numeric(found, np.int64)  # -1 where there is none
            return np.r_[self.at, -1][at]
        if self._counted is not None:
            low, place = self._counted
            at = numeric(column, np.int64) - low
            there = (at >= 0) & (at < len(place))
            return place[at] if there.all() else np.where(there, place[at.clip(0, len(place) - 1)], -1)
        sorted_cells, order = self._sorted
        values = numeric(column, sorted_cells.dtype.type)
        at = np.searchsorted(sorted_cells, values).clip(max=max(0, len(sorted_cells) - 1))
        there = sorted_cells[at] == values if len(sorted_cells) else np.zeros(len(values), bool)
        return np.where(there, self.at[order[at]], -1) if len(sorted_cells) else np.full(len(values), -1)

    @cached_property
    def _counted(self) -> tuple[int, np.ndarray] | None:
        """Return the least whole number and the place of each from there on; None: cells are no such, or too far."""
        if not len(self.cells) or not pa.types.is_integer(self.cells.type):
            return None
        values = numeric(pa.chunked_array([self.cells]), np.int64)
        low, high = int(values.min()), int(values.max())
        if high - low > DENSE * len(values) + GROUP:
            return None
        place = np.full(high - low + 1, -1)
        place[values - low] = self.at
        return low, place

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        whole = pa.types.is_integer(self.cells.type)
        values = numeric(pa.chunked_array([self.cells]), np.int64 if whole else np.float64)
        order = values.argsort(kind="stable")
        return values[order], order


def arrange(source: str | Path, target: str | Path, *, row: str, size: int = GROUP) -> RowGroups:
    """Write a list of row, column and value so that the lines of each row are in one row group, rows in their order.

    The source is read as often as ``HELD`` lines go into it, so that it may be larger than memory.

    Args:
        source: A Parquet file, or a folder of them.
        target: The file to write.
        row: The column that says which row.
        size: Lines of a row group; one has more where a row has.

    Returns:
        The file that was written.

    Raises:
        DataError: It cannot be read, has no such column, or would write over itself.
    """
    groups, target = RowGroups.open(source), Path(target)
    if any(target.resolve() == each.file.resolve() for each in groups.groups):
        raise DataError(f"{target.name} is what is read: write another file")
    order = groups.order(row)
    counts = np.zeros(len(order.labels), np.int64)
    for table in groups.tables(columns=[row]):
        counts += np.bincount(order.places(table.column(0)), minlength=len(counts))
    with pq.ParquetWriter(target, groups.schema) as writer:
        for first, last in _spans(counts, HELD):
            parts = []
            for table in groups.tables():
                at = order.places(table.column(row))
                inside = (at >= first) & (at < last)
                parts.append((table.filter(column_of(inside).chunk(0)), at[inside]))
            every, at = pa.concat_tables([each for each, _ in parts]), np.concatenate([each for _, each in parts])
            every = every.take(column_of(at.argsort(kind="stable")).chunk(0))
            start = 0
            for low, high in _spans(counts[first:last], size):
                length = int(counts[first + low : first + high].sum())
                writer.write_table(every.slice(start, length), row_group_size=max(1, length))
                start += length
    return RowGroups.open(target)


def _spans(counts: np.ndarray, size: int) -> list[tuple[int, int]]:
    """Cut rows into runs of at most ``size`` lines, or of one row that has more."""
    ends, found, start = np.cumsum(counts), [], 0
    while start < len(counts):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + size, side="right")))
        found.append((start, end))
        start = end
    return found


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of categories as what they are called; of others itself."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def plain_cells(column: pa.ChunkedArray) -> pa.Array:
    """Return the distinct cells of a column, missing ones among them."""
    found = pc.unique(plain_column(column))
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(plain_column(column).chunks)


# Folders --------------------------------------------------------------------------------------------------------------


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder and of the folders in it, in the order of their names.

    What begins with a point or an underscore is none, as those who write folders of Parquet have it.
    """
    found = [path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()]
    shown = [path for path in found if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
    return sorted(shown, key=lambda path: _natural(path.relative_to(folder).as_posix()))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return what sorts part-2 before part-10."""
    return [(0, int(each), "") if each.isdecimal() else (1, 0, each) for each in re.split(r"([0-9]+)", name) if each]


def _called(path: Path, file: Path) -> str:
    return file.name if file == path else f"{path.name}/{file.relative_to(path).as_posix()}"


def _together(path: Path, files: Sequence[Path], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the schema that files share: the names of the first, types that hold those of all."""
    first = schemas[0]
    for file, schema in zip(files, schemas, strict=True):
        if other := sorted({*first.names} ^ {*schema.names}):
            which = "has no" if other[0] in first.names else "has a"
            raise DataError(
                f"{_called(path, file)} {which} column {other[0]!r}, unlike {_called(path, files[0])}: all files of a "
                "folder need the same columns"
            )
        try:
            first = pa.unify_schemas([first, schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"{_called(path, file)} holds other types than {_called(path, files[0])} ({first_line(error)})"
            ) from None
    return first
