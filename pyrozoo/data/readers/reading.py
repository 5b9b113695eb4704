"""What a source holds and how it would be used, before anything is fitted: guesses, problems, and what to type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pyrozoo.core.errors import DataError, shortened
from pyrozoo.data.readers.blocks import Block
from pyrozoo.data.readers.layout import Layout, Wanted
from pyrozoo.data.readers.words import as_typed, listed

MOST_SAID = 20
"""Problems that one line says."""


@dataclass
class Entries:
    """A list: places of rows and columns among their names, and values; NaN is none. Arrays of shape [entry]."""

    rows: np.ndarray
    row_names: Sequence[str]
    columns: np.ndarray
    column_names: Sequence[str]
    values: np.ndarray
    late: np.ndarray | None = None
    """Which entries are held out by time."""


@dataclass
class Reading:
    """What a source holds, and how it would be used.

    Attributes:
        name: What messages call it.
        format: What it is.
        wanted: What the model's data are.
        layout: What is said of it.
        facts: What was found of how it is written: name -> value.
        notes: Guesses, and what a reader should know: one line each.
        problems: What cannot be read: one line each.
        advice: Settings that would mend the problems: name -> value as it is typed, or a set of names.
        columns: Names of the columns taken.
        left_out: Names of columns that are not -> why.
        rows: Names of the rows.
        numbered: Whether rows have no names but their numbers.
        in_python: Whether the source is no file.
        label_column: The column that names the rows, if one does.
        values: The numbers of a table, [row, column]; NaN is missing.
        answers: The cells of a table of categories.
        entries: A list.
        image: A picture of labels.
        coded: Of a table of numbers and categories: columns of text, and their places.
        exposure: Of each row.
        lines: For each row, or entry, its line among all of the source's.
        places: For each column taken, its place among all of the source's.
        asked: Of a list: line, row and column of the lines without a value, [line, 3].
        own: Makes the reader's own table, a pandas DataFrame with all of its columns (see ``source.own_table``).
        types: Says the types of its columns (see ``source.own_types``).
    """

    name: str
    format: str
    wanted: Wanted
    layout: Layout
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    advice: dict[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    rows: Sequence[str] = ()
    numbered: bool = False
    in_python: bool = False
    label_column: str | None = None
    values: np.ndarray | None = None
    answers: Sequence[Block] | None = None
    entries: Entries | None = None
    image: Any = None
    coded: dict[str, int] = field(default_factory=dict)
    exposure: np.ndarray | None = None
    lines: np.ndarray | None = None
    places: Sequence[int] = ()
    asked: np.ndarray | None = None
    own: Callable[[], Any] | None = None
    types: Callable[[], list[tuple[Any, bool, str]]] | None = None

    def suggest(self, setting: str, *values: Any) -> None:
        """Remember what to type: of a setting that takes a list each value is added."""
        if setting in ("missing", "exclude", "exclude_rows"):
            self.advice.setdefault(setting, dict.fromkeys(getattr(self.layout, setting) or ()))
            self.advice[setting] |= dict.fromkeys(values)
        else:
            self.advice.setdefault(setting, values[0])

    def refused(self) -> str | None:
        """Return what is wrong, all of it in one line, and what to type; None: nothing."""
        if not self.problems:
            return None
        said = list(dict.fromkeys(self.problems))
        more = f" (and {len(said) - MOST_SAID} more)" if len(said) > MOST_SAID else ""
        text = f"{self.name}: {' '.join('; '.join(said[:MOST_SAID]).split())}{more}"
        return f"{text}. Type: {self.typed()}" if self.advice else text

    def typed(self) -> str:
        """Return the settings that would mend the problems, as they are typed: of a frame, in Python."""
        if self.in_python:
            plain = {name: list(value) if isinstance(value, dict) else value for name, value in self.advice.items()}
            return ", ".join(f"{name}={value!r}" for name, value in plain.items()).replace("'false'", "False")
        return " ".join(as_typed(name, value) for name, value in self.advice.items())

    @property
    def listed(self) -> bool:
        """Return whether it is a list."""
        return self.entries is not None or self.asked is not None

    def emptied(self) -> Reading:
        """Return the reading without the cells that became data: what is left says how they were read."""
        self.taken()
        return replace(self, values=None, answers=None, image=None)

    def taken(self) -> Entries | None:
        """Return the list, and let go of it but for the pairs that it asks about: lists may fill the memory."""
        entries, self.entries = self.entries, None
        if entries is not None:
            at = np.flatnonzero(np.isnan(entries.values))
            lines = at if self.lines is None else self.lines[at]
            self.asked = np.stack([lines, entries.rows[at], entries.columns[at]], 1)
        return entries

    def checked(self) -> Reading:
        """Return the reading itself, or raise DataError with all that is wrong."""
        if said := self.refused():
            raise DataError(said)
        return self

    def __str__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        lines = [f"{self.name}: {self.format}{f' ({facts})' if facts else ''}"]
        if self.image is not None:
            height, width = self.image.values.shape
            lines += [f"  {height} x {width} pixels", f"  {len(self.image.levels)} labels: {listed(self.image.levels)}"]
        else:
            named = f" named by {self.label_column!r}" if self.label_column else ""
            lines += [f"  {len(self.rows)} rows{named}", f"  {len(self.columns)} columns: {listed(self.columns)}"]
        if self.entries is not None:
            lines += [f"  {len(self.entries.values)} pairs"]
        lines += [f"  left out  {name}: {why}" for name, why in self.left_out.items()]
        lines += [f"  note  {note}" for note in self.notes]
        lines += [f"  problem  {problem}" for problem in self.problems]
        lines = [shortened(line) for line in lines]  # but for what is typed
        lines += [f"  type  {self.typed()}"] if self.advice and self.problems else []
        return "\n".join(lines)

    __repr__ = __str__
