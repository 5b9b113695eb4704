"""Sequences: rows that follow each other in time, of one sequence or of many, with holes and gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.container import Data, array_of, numeric, refuse_twice
from pyrozoo.data.container import labels as numbered_labels
from pyrozoo.data.table import Table
from pyrozoo.math.markov_chains import Steps

KEYS = ("sequence", "time")
"""Columns that say whose a row is, and when it was."""

MARK = " t="
"""What stands between both in a row's label, such as ``patient 7 t=3``."""

MOST_STEPS, FREE_STEPS = 100, 1_000_000
"""Steps of time for each row, and in any case: of more gaps than that the unit of time is wrong."""


@dataclass(frozen=True, eq=False)
class Sequences(Table):
    """N rows by D columns; each row is a step of a sequence. NaN is a missing value; ``values`` has shape [N, D].

    A row's label says where it stands: ``a t=3`` is step 3 of sequence ``a``. Rows may come in any order. A step
    without a row is a gap: time goes on there, and nothing is observed. Rows whose labels say nothing of time are one
    sequence, in their order.
    """

    name: str = "sequences"
    keys: ClassVar[tuple[str, ...]] = KEYS

    @cached_property
    def _places(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return the names of sequences, and of each row its sequence and its time."""
        named = [str(label).rpartition(MARK) for label in self.row_labels]
        if not all(mark and _whole(time) for _, mark, time in named):
            return [self.name], np.zeros(len(named), np.int64), np.arange(len(named))
        codes, names = pd.factorize(np.array([name for name, _, _ in named], dtype=object))
        return [str(name) for name in names], codes, np.array([int(time) for *_, time in named], dtype=np.int64)

    @property
    def sequence_labels(self) -> list[str]:
        """Return the names of the sequences, in the order in which they come."""
        return self._places[0]

    @property
    def sequence(self) -> Int[Tensor, N]:
        """Return which sequence each row is of."""
        return torch.as_tensor(self._places[1], device=self.values.device)

    @property
    def time(self) -> Int[Tensor, N]:
        """Return at which step each row is, as its label counts."""
        return torch.as_tensor(self._places[2], device=self.values.device)

    @cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return first and last time of each sequence."""
        names, codes, time = self._places
        first, last = np.full(len(names), np.iinfo(np.int64).max), np.full(len(names), np.iinfo(np.int64).min)
        np.minimum.at(first, codes, time)
        np.maximum.at(last, codes, time)
        return first, last

    @cached_property
    def steps(self) -> Steps:
        """Where the steps of time stand, those in gaps included, one sequence after another."""
        first, last = self._ends
        return Steps(torch.as_tensor(last - first + 1, device=self.values.device))

    @cached_property
    def place(self) -> Int[Tensor, N]:
        """The step that each row is."""
        first = torch.as_tensor(self._ends[0], device=self.values.device)
        return self.steps.starts[self.sequence] + self.time - first[self.sequence]

    @cached_property
    def row_at(self) -> Int[Tensor, T]:
        """The row of every step, -1 in gaps."""
        found = torch.full((self.steps.count,), -1, device=self.values.device)
        found[self.place] = torch.arange(self.shape[0], device=found.device)
        return found

    @cached_property
    def before(self) -> Int[Tensor, N]:
        """The row one step before each, -1 where there is none."""
        first = torch.as_tensor(self._ends[0], device=self.values.device)
        found = self.row_at[(self.place - 1).clamp(min=0)]
        return torch.where(self.time > first[self.sequence], found, -1)

    @property
    def units(self) -> int:
        """Return the number of sequences."""
        return len(self.sequence_labels)

    @property
    def size(self) -> str:
        """Return the size of the data in words."""
        return f"{self.units} sequences, {super().size}"

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates: dimension -> labels."""
        return super().coords | {"sequence": self.sequence_labels}

    def of_sequences(self, index: Tensor) -> Self:
        """Return the rows of some sequences as data of their own, without hidden entries."""
        wanted = torch.zeros(self.units, dtype=torch.bool, device=self.values.device)
        wanted[index.to(wanted.device)] = True
        return self.only(wanted[self.sequence].nonzero().flatten())

    def first(self, count: int) -> Self:
        """Return the first sequences as data of their own, without hidden entries."""
        return self.of_sequences(torch.arange(min(count, self.units)))

    def part(self, index: Tensor) -> Self:
        """Return a minibatch of sequences that remembers how many there are."""
        return replace(self.of_sequences(index), total_rows=self.total_rows or self.units)

    def with_test(self, test: Table) -> Self:
        """Return the data with new sequences beside them."""
        found: Any = super().with_test(type(self).of(test))
        return found

    def checked(self) -> Self:
        """Return the data themselves, or raise DataError: also of a step that two rows are at, or far too many gaps."""
        super().checked()
        names, codes, time = self._places
        twice = pd.DataFrame({"sequence": codes, "time": time}).duplicated()
        if twice.any():
            at = int(twice.to_numpy().argmax())
            raise DataError(f"{self.name}: sequence {names[codes[at]]!r} has two rows at time {time[at]}")
        steps = int((self._ends[1] - self._ends[0] + 1).sum())
        if steps > MOST_STEPS * len(codes) + FREE_STEPS:
            said = f"{steps:,} steps of time for {len(codes):,} rows"
            raise DataError(f"{self.name}: {said}: time must count steps; divide it by the usual distance of two rows")
        return self

    @classmethod
    def blank(cls, sequences: int, steps: int, columns: int = 1) -> Self:  # type: ignore[override]
        """Return sequences of the given shape in which nothing is observed, to simulate into.

        Args:
            sequences: S.
            steps: Of each.
            columns: D.

        Raises:
            SettingError: There is nothing to simulate.
        """
        for word, number in (("sequences", sequences), ("steps", steps), ("columns", columns)):
            if number < 1:
                raise SettingError(f"data.{word} must be at least 1, not {number}")
        return cls._joined([np.full((steps, columns), np.nan)] * sequences, "simulated")

    @classmethod
    def of(cls, source: Any, name: str = "sequences", *, sequence: str = KEYS[0], time: str = KEYS[1]) -> Self:
        """Make sequences of a long table, of arrays, or of a table whose row labels say where rows stand.

        Args:
            source: A DataFrame or table with a row for every step, whose columns ``sequence`` and ``time`` say whose
                and when (either may lack: rows then follow each other, or are of one sequence); a list of arrays
                [steps, column] or [steps], one for each sequence, or a dictionary of them; or an array [sequence, step,
                column] or [step, column].
            name: What to call them in messages.
            sequence: The column that says which sequence a row is of: text or numbers.
            time: The column that says which step: whole numbers, in which a step more is 1 more.

        Raises:
            DataError: Not numbers, a time that is not whole, or unusable (see ``checked``).
        """
        if isinstance(source, cls):
            return source.checked()
        if isinstance(source, Mapping):
            return cls._joined(list(source.values()), name, [str(each) for each in source])
        if isinstance(source, Data) and not isinstance(source, Table):
            raise DataError(f"{source.name}: sequences are needed, not {type(source).__name__.lower()}")
        if isinstance(source, list | tuple) and source and all(np.ndim(each) for each in source):
            return cls._joined(source, name)
        if not isinstance(source, Table) and not hasattr(source, "columns") and np.ndim(source) == 3:
            return cls._joined(list(np.asarray(source)), name)
        if hasattr(source, "columns") and hasattr(source, "index"):
            refuse_twice(source.columns, name)
            frame = source.rename(columns={sequence: KEYS[0], time: KEYS[1]})
            labels = cls.placed(frame, name)
            source = Table.of(frame.drop(columns=[key for key in KEYS if key in frame.columns]), name)
            source = source if labels is None else replace(source, row_labels=labels)
        return cls._of_table(Table.of(source, name)).checked()

    @classmethod
    def placed(cls, frame: pd.DataFrame, name: str) -> Sequence[str] | None:
        """Return labels that say where rows of a long table stand, by its columns ``sequence`` and ``time``.

        Raises:
            DataError: A row has no sequence, or a time that is not whole.
        """
        own = {str(each).strip(): each for each in frame.columns}
        if not own.keys() & set(KEYS):
            return None
        owner = frame[own[KEYS[0]]] if KEYS[0] in own else pd.Series(name, index=frame.index)
        if (lost := owner.isna().to_numpy()).any():
            raise DataError(f"{name}: row {int(lost.argmax()) + 1} has no {KEYS[0]}")
        names = [f"{each:g}" if isinstance(each, float) else str(each) for each in owner.tolist()]
        if KEYS[1] not in own:
            when = pd.Series(names).groupby(names).cumcount().to_numpy()
        else:
            when = numeric(frame[own[KEYS[1]]].to_numpy(), f"{name}: column {KEYS[1]!r}")
            if (bad := ~(when == np.round(when))).any():
                said = f"{when[int(bad.argmax())]:g} is not a whole number; time counts steps"
                raise DataError(f"{name}: row {int(bad.argmax()) + 1}, column {KEYS[1]!r}: {said}")
        return [f"{owned}{MARK}{int(t)}" for owned, t in zip(names, when, strict=True)]

    @classmethod
    def _of_table(cls, table: Table) -> Self:
        """Return a table as sequences: columns ``sequence`` and ``time`` place its rows, unless their labels do."""
        found = [str(each) for each in table.column_labels]
        keep = [j for j, each in enumerate(found) if each not in KEYS]
        labels: Sequence[str] | None = table.row_labels
        if len(keep) < len(found) and not all(MARK in str(each) for each in table.row_labels):
            keys = {each: table.values[:, j].cpu().numpy() for j, each in enumerate(found) if each in KEYS}
            labels = cls.placed(pd.DataFrame(keys), table.name)
        index, called = torch.as_tensor(keep, device=table.values.device), [table.column_labels[j] for j in keep]
        beside: dict[str, Any] = {"truth": table.truth, "notes": table.notes, "exposure": table.exposure}
        made = cls(table.values[:, index], labels or [], called, table.name, **beside)
        if table.hidden is not None:
            place = torch.full((table.shape[1],), -1).index_put((index.cpu(),), torch.arange(len(keep)))
            column = place[table.hidden.columns.cpu()].to(index.device)
            made = replace(made, hidden=replace(table.hidden, columns=column).at((column >= 0).nonzero().flatten()))
        return made if table.test is None else replace(made, test=cls.of(table.test))

    @classmethod
    def _joined(cls, arrays: Sequence[Any], name: str, names: Sequence[str] | None = None) -> Self:
        """Return arrays, one for each sequence, one below the other."""
        each = [numeric(array_of(part, name, "sequences", matrix=False), name) for part in arrays]
        each = [part[:, None] if part.ndim == 1 else part for part in each]
        names = names or [str(label) for label in numbered_labels("sequence", len(each))]
        widths = {part.shape[1] if part.ndim == 2 else -1 for part in each}
        if len(widths) != 1 or -1 in widths:
            raise DataError(f"{name}: every sequence must be an array [step, column], of as many columns as the others")
        labels = [f"{own}{MARK}{t}" for own, part in zip(names, each, strict=True) for t in range(len(part))]
        values = torch.as_tensor(np.concatenate(each))
        return cls(values, labels, numbered_labels("column", values.shape[1]), name)


def _whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
