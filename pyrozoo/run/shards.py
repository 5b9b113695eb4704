"""Rows in shards from files: each process reads the row groups of Parquet files that hold its own rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.seeds import seed_of
from pyrozoo.core.world import World
from pyrozoo.data.coding import in_order
from pyrozoo.data.contained import contained
from pyrozoo.data.container import Cells
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers.arrow import numeric
from pyrozoo.data.readers.columnar import table_raw
from pyrozoo.data.readers.labels import Labels, joined
from pyrozoo.data.readers.layout import KINDS, Layout, layout_of
from pyrozoo.data.readers.reading import Entries, Reading
from pyrozoo.data.readers.row_groups import ENDINGS, Order, RowGroups, parquet_files
from pyrozoo.data.readers.source import read_raw
from pyrozoo.data.shards import check_rows, in_shards, own_rows
from pyrozoo.data.streamed import Chunks, Streamed, streamed
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.run.source import PREPARATION, USUAL_HOLDOUT, wanted_of

HEAD = 1000
"""Lines that say how a file is laid out."""

WHOLE = ("transpose", "exclude_rows", "frequency", "time", "holdout_after", "row_label", "column_label", "exposure")
"""Settings of files that only a reading of the whole knows what to do with."""


@dataclass(frozen=True)
class Ranges:
    """Rows of a Parquet file or a folder of them, which are read range by range.

    Attributes:
        groups: The files.
        layout: What is said of them.
        container: The class of data that the model takes.
        head: How the first lines would be read.
        model: The model, which checks what it gets.
        levels: The categories of every column, of categories.
    """

    groups: RowGroups
    layout: Layout
    container: Any
    head: Reading
    model: Model
    levels: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any], model: Model, *, stream: bool = False) -> Ranges | None:
        """Return the rows that settings of data describe; None where a process must read all of them.

        It must read all of what is not Parquet, of categories, whose names only all rows know, unless they stream, and
        where settings need all rows: ``WHOLE``, noise, masks, cells held out by hand, or columns of a list that are not
        named.
        """
        path = settings.get("path")
        known = {name: settings.get(name, usual) for name, usual in PREPARATION.items()}
        plain = all(
            known[name] == usual for name, usual in PREPARATION.items() if name not in ("holdout", "holdout_of", "seed")
        )
        if path is None or settings.get("test_path") is not None or not plain or not _parquet(Path(path)):
            return None
        layout, container = (
            layout_of({k: v for k, v in settings.items() if k not in {*PREPARATION, "source"}}),
            model.container,
        )
        if any(name in layout.stated for name in WHOLE) or isinstance(known["holdout"], str | Sequence):
            return None
        known_as = (Table, Triplets, Survey) if stream else (Table, Triplets)
        if not (isinstance(container, type) and issubclass(container, known_as)):
            return None
        groups = RowGroups.open(path)
        first = next(iter(groups.tables([0])), None) if groups.rows else None
        if first is None:
            return None
        wanted = wanted_of(model, settings["source"], container)
        head = read_raw(table_raw(first.slice(0, HEAD), groups.name, "Parquet", layout), layout, wanted).checked()
        found = cls(groups, layout, container, head, model)
        listed = head.facts["layout"] == "list"
        if listed != issubclass(container, Triplets) or (listed and not found.named):
            return None
        return found._with_levels() if issubclass(container, Survey) else found

    def _with_levels(self) -> Ranges | None:
        """Find the categories that all rows have; None where their order is not that of their names."""
        if any(pa.types.is_dictionary(self.groups.schema.field(name).type) for name in self.head.columns):
            return None
        found = [set[str]() for _ in self.head.columns]
        for lines in self._inside(range(self.groups.rows)).values():
            for names, levels in zip(found, self._table(lines).levels, strict=True):
                names |= {*levels}
        levels = tuple(map(in_order, found))
        for column, each in zip(self.head.columns, levels, strict=True):
            if len(each) > self.layout.most_levels:
                said = f"column {column!r} has {len(each)} categories, more than {self.layout.most_levels}"
                raise DataError(f"{self.groups.name}: {said}: leave it out by data.columns (data.most_levels)")
        return replace(self, levels=levels)

    @property
    def listed(self) -> bool:
        """Return whether the rows are those of a list."""
        return issubclass(self.container, Triplets)

    @property
    def named(self) -> bool:
        """Return whether the layout names the columns of a list."""
        return all(isinstance(each, str) for each in (self.layout.row, self.layout.column, self.layout.value))

    def parts(self, shards: int, world: World, *, stream: bool = False) -> tuple[int, list[Any]]:
        """Return how many rows there are in all, and those of each shard of this process as data.

        Args:
            shards: How many shards there are in all.
            world: The processes.
            stream: Whether to leave the rows in their files until a minibatch asks for them.
        """
        if self.listed:
            return self._lists(shards, world, stream)
        rows = self.groups.rows
        check_rows(rows, shards, world)
        read = self._streamed_table if stream else self._table
        return rows, self._read(read, own_rows(rows, shards, world), world)

    @staticmethod
    def _read(part: Callable[[range], Any], places: Sequence[range], world: World) -> list[Any]:
        """Read the parts of this process; what is wrong in one is said by all."""
        found: list[Any] = []
        world.agreed(lambda: found.extend(part(place) for place in places))
        return found

    def _inside(self, place: range) -> dict[int, range]:
        """Return which lines of each group are among those of a range, of groups that have any."""
        starts = self.groups.starts.tolist()
        edges = ((max(place.start, start), min(place.stop, stop)) for start, stop in pairwise(starts))
        return {i: range(*edge) for i, edge in enumerate(edges) if edge[0] < edge[1]}

    def _table(self, place: range) -> Any:
        """Read the lines of a range, as a reading of the whole would."""
        tables, starts, inside = [], self.groups.starts, self._inside(place)
        for (i, lines), table in zip(inside.items(), self.groups.tables(inside), strict=True):
            tables.append(table.slice(lines.start - int(starts[i]), len(lines)))
        raw = table_raw(pa.concat_tables(tables), self.groups.name, "Parquet", self.layout)
        found = read_raw(raw, replace(self.layout, columns=list(self.head.columns)), self.head.wanted)
        found.notes = list(self.head.notes)
        data = contained(found, self.container)
        if self.levels:
            data = replace(data.recoded(self.levels), kinds=())
        if not self.head.numbered:
            return data
        return replace(data, row_labels=Labels(range(place.start, place.stop), "row_"))

    def _streamed_table(self, place: range) -> Streamed:
        """Return the rows of a range, which stay in their row groups; where a column names them it is read."""
        lines = list(self._inside(place).values())
        names: Any = Labels(place, "row_")
        if not self.head.numbered:
            names = joined([self._table(each).row_labels for each in lines])
        starts = torch.tensor([0, *(each.stop - place.start for each in lines)])
        chunks = Chunks(starts, lambda chunk: self._table(lines[chunk]))
        return self._left(names, list(self.head.columns), chunks, len(place) * len(self.head.columns))

    def _left(self, rows: Sequence[str], columns: Sequence[str], chunks: Chunks, numbers: int) -> Streamed:
        """Return rows that are left in their files."""
        values = torch.zeros(0, 3 if self.listed else len(columns), dtype=torch.float64)
        about: dict[str, Any] = {"name": self.groups.name, "notes": tuple(self.head.notes)}
        about |= {"levels": self.levels} if self.levels else {}
        found: Streamed = streamed(self.container)(values, rows, columns, source=chunks, numbers=numbers, **about)
        return found

    def _lists(self, shards: int, world: World, stream: bool) -> tuple[int, list[Any]]:
        """Read the lines of the rows of each shard: labels are put in one order by all processes together."""
        mine = self._share(world)
        rows, columns = self._orders(mine, world)
        count = len(rows.labels)
        check_rows(count, shards, world)
        spans = {i: span for each in world.gathered(self._spans(mine, rows)) for i, span in each.items()}
        read = partial(self._streamed if stream else self._part, rows=rows, columns=columns, spans=spans)
        return count, self._read(read, own_rows(count, shards, world), world)

    def _share(self, world: World) -> range:
        groups = len(self.groups.groups)
        return range(groups * world.rank // world.size, groups * (world.rank + 1) // world.size)

    def _orders(self, mine: range, world: World) -> tuple[Order, Order]:
        """Return the labels of rows and of columns in all groups; each process looks at its own groups."""
        layout: Any = self.layout

        def distinct() -> tuple[pa.Array, pa.Array]:
            if not mine:
                kinds = [self.groups.schema.field(name).type for name in (layout.row, layout.column)]
                return pa.array([], kinds[0]), pa.array([], kinds[1])
            return self.groups.rows_order(layout.row, mine).cells, self.groups.order(layout.column, mine).cells

        rows, columns = zip(*world.agreed(distinct), strict=True)
        order = Order.of(pa.concat_arrays(rows))
        if len(order.cells) < sum(map(len, rows)):
            self.groups.rows_order(layout.row)  # says which row has lines in several groups
        return order, Order.of(pa.concat_arrays(columns))

    def _spans(self, mine: range, rows: Order) -> dict[int, tuple[int, int]]:
        """Return the first and last row of each group of this process."""
        layout: Any = self.layout
        places = (rows.places(table.column(0)) for table in self.groups.tables(mine, [layout.row]))
        return {i: (int(at.min()), int(at.max())) for i, at in zip(mine, places, strict=True) if len(at)}

    def _part(self, place: range, rows: Order, columns: Order, spans: Mapping[int, tuple[int, int]]) -> Any:
        found = list(self._entries(_overlapping(spans, place), place, rows, columns)) or [
            tuple(np.zeros(0, np.int64) for _ in range(3))
        ]
        i, j, values = (np.concatenate(each) for each in zip(*found, strict=True))
        entries = Entries(i, rows.labels[place.start : place.stop], j, columns.labels, values.astype(np.float64))
        repeated: Any = self.layout.repeated
        return self.container.of_entries(entries, name=self.groups.name, repeated=repeated)

    def _streamed(self, place: range, rows: Order, columns: Order, spans: Mapping[int, tuple[int, int]]) -> Streamed:
        """Return the rows of a range, which stay in their row groups; the column that names them is read."""
        layout: Any = self.layout
        which, found, lines = _overlapping(spans, place), dict[int, np.ndarray](), 0
        for i, table in zip(which, self.groups.tables(which, [layout.row]), strict=True):
            at = rows.places(table.column(0))
            at = at[(at >= place.start) & (at < place.stop)] - place.start
            if len(at):
                found[i], lines = np.unique(at), lines + len(at)
        groups, there = list(found), list(found.values())

        def read(chunk: int) -> Any:
            (i, j, values), own = next(self._entries([groups[chunk]], place, rows, columns)), there[chunk]
            names = Labels.of([rows.labels[place.start + row] for row in own.tolist()])
            entries = Entries(np.searchsorted(own, i), names, j, columns.labels, values)
            made = self.container.of_entries(entries, name=self.groups.name, repeated=layout.repeated)
            Posterior.of(self.model, made).check()
            if made.unobserved is not None:
                at = [int(each) for each in made.unobserved[0]]
                raise DataError(f"{made.cell(*at)} has no value, and stream=true takes none: leave stream out")
            return made

        starts = torch.tensor([0, *np.cumsum([len(own) for own in there])])
        chunks = Chunks(starts, read, torch.as_tensor(np.concatenate([*there, np.zeros(0, np.int64)])))
        return self._left(rows.labels[place.start : place.stop], columns.labels, chunks, 3 * lines)

    def _entries(
        self, which: Sequence[int], place: range, rows: Order, columns: Order
    ) -> Iterator[tuple[np.ndarray, ...]]:
        layout: Any = self.layout
        for table in self.groups.tables(which, [layout.row, layout.column, layout.value]):
            at = rows.places(table.column(0))
            inside = (at >= place.start) & (at < place.stop)
            if inside.any():
                there = table.filter(pa.array(inside))
                yield at[inside] - place.start, columns.places(there.column(1)), numeric(there.column(2), np.float64)


def _overlapping(spans: Mapping[int, tuple[int, int]], place: range) -> list[int]:
    """Return the row groups that may have a row of a range."""
    return [i for i, (first, last) in sorted(spans.items()) if first < place.stop and last >= place.start]


def _parquet(path: Path) -> bool:
    return bool(parquet_files(path)) if path.is_dir() else path.is_file() and path.suffix.lower() in ENDINGS


def read_in_shards(
    settings: Mapping[str, Any], model: Model, shards: int, world: World, like: Tensor, *, stream: bool = False
) -> Posterior | None:
    """Return the posterior of rows in shards, of which this process has read its own; None: it must read all rows.

    A part of the cells is held out shard by shard, as ``data.holdout`` says.

    Args:
        settings: Of the data.
        model: The model.
        shards: How many there are in all.
        world: The processes.
        like: A tensor on the device and in the precision that is asked for.
        stream: Whether the rows stay in their files until a minibatch asks for them.

    Raises:
        DataError: The rows cannot be read or used.
        SettingError: Fewer shards than processes, or more than pairs of rows; or what cannot be streamed.
    """
    ranges = Ranges.of(settings, model, stream=stream) if settings.get("source") in (*KINDS, "file") else None
    fraction, seed = settings.get("holdout"), settings.get("seed", 0)
    if fraction is None:
        fraction = USUAL_HOLDOUT if ranges is not None and ranges.container is Ratings else 0.0
    if stream and (ranges is None or fraction):
        raise SettingError(
            "stream=true reads Parquet files, row group by row group: give data=FILE or FOLDER and data.holdout=0, of "
            f"lists data.row, data.column and data.value=COLUMN, and none of data.{', data.'.join(WHOLE)}"
        )
    if ranges is None:
        return None
    rows, parts = ranges.parts(shards, world, stream=stream)
    if stream:  # each holds what it has read: there is one of each
        parts = [part.to(like.device, like.dtype) for part in parts]
    if not (stream and ranges.listed):  # of lists every chunk is looked at when it is read
        seen = world.agreed(partial(_check, model, parts))
        if not ranges.listed:
            _check_columns(seen, parts[0])
    of = settings.get("holdout_of") or ("listed" if ranges.listed else "all")
    places = zip(parts, own_rows(rows, shards, world), strict=True)
    held = [part.hold_out(fraction, seed_of(seed, place.start), of) if fraction else part for part, place in places]
    moved = held if stream else [part.to(like.device, like.dtype) for part in held]
    return in_shards(model, moved, rows, shards, world)


def _check(model: Model, parts: Sequence[Any]) -> Tensor | None:
    """Look at all rows of this process; return which columns of cells have a value."""
    seen, posterior = [], None
    for piece in (piece for part in parts for piece in part.pieces()):
        some = _usable(piece)
        posterior = Posterior.of(model, some) if posterior is None else posterior.on(some)
        posterior.check()
        seen += [piece.observed.any(0)] if isinstance(piece, Cells) else []
    return torch.stack(seen).any(0) if seen else None


def _usable(part: Any) -> Any:
    """Return a part of which no column is empty: it need not be so in every shard."""
    if not isinstance(part, Cells) or bool(part.observed.any(0).all()):
        return part
    values = part.values.clone()
    values[0, ~part.observed.any(0)] = 0
    return replace(part, values=values)


def _check_columns(seen: Sequence[Any], like: Any) -> None:
    """Raise DataError naming a column that is empty in all shards, of what each process has seen."""
    there = torch.stack(list(seen)).any(0)
    if not there.all():
        label = like.column_labels[int((~there).nonzero()[0])]
        raise DataError(f"{like.name}: column {label!r} has no value in any row; leave it out (data.exclude)")
