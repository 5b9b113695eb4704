"""Survey: rows by columns of categories, each column with its own, with missing answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.settings import suggestion
from pyrozoo.data.coding import AMBIGUOUS, Codes, as_number, label_of, of_frame
from pyrozoo.data.container import MOST_PAIRED, Arrays, Coded, Stored, array_of, check_size, labels, refuse_twice
from pyrozoo.data.kinds import Kind, kinds_of, types_of
from pyrozoo.data.known_rows import noted
from pyrozoo.data.readers.blocks import Block
from pyrozoo.data.readers.layout import MOST_LEVELS
from pyrozoo.data.table import Table
from pyrozoo.math.association import cramers_v, pair_counts, starts


@dataclass(frozen=True, eq=False)
class Survey(Coded):
    """N rows by D columns of categories; NaN is a missing answer. ``values`` [N, D] holds codes, whole numbers from 0.

    Attributes:
        levels: The names of every column's categories, in the order of their codes; empty: numbered, up to the largest
            code of the column.
        kinds: What each column was, whose type synthetic rows get back; empty: nobody knows.

    Raises:
        DataError: Not one list of levels per column, or a level that a column has twice.
    """

    name: str = "survey"
    levels: Sequence[Sequence[str]] = ()
    kinds: Sequence[Kind] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = self.levels if len(self.levels) else self._numbered()
        object.__setattr__(self, "levels", tuple(tuple(str(level) for level in each) for each in levels))
        if len(self.levels) != self.shape[1]:
            raise DataError(f"{self.name}: levels of {len(self.levels)} columns are given, of {self.shape[1]}")
        for column, each in zip(self.column_labels, self.levels, strict=True):
            if len(set(each)) < len(each):
                twice = next(level for level in each if each.count(level) > 1)
                raise DataError(f"{self.name}: column {column!r} has the category {twice!r} twice")

    def _numbered(self) -> list[list[str]]:
        """Return numbers as levels, as many as the codes ask for; ``checked`` refuses codes that are none."""
        largest = torch.nan_to_num(self.values, nan=0.0).clamp(0, MOST_LEVELS - 1)
        most = largest.max(0).values.tolist() if len(largest) else [0] * self.shape[1]
        if self.hidden is not None:
            for column, value in zip(self.hidden.columns.tolist(), self.hidden.values.tolist(), strict=True):
                most[column] = max(most[column], min(value, MOST_LEVELS - 1))
        return [[str(level) for level in range(int(each) + 1)] for each in most]

    @cached_property
    def categories(self) -> tuple[int, ...]:
        """Return how many categories each column has, [D]."""
        return tuple(len(each) for each in self.levels)

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates: every category of every column, and the same without each column's last one."""
        pairs = zip(self.column_labels, self.levels, strict=True)
        named = [[f"{column}={level}" for level in each] for column, each in pairs]
        ends = {"category": None, "contrast": -1}
        return super().coords | {dim: [name for each in named for name in each[:end]] for dim, end in ends.items()}

    def codes_of(self, given: Mapping[str, Any]) -> dict[int, int]:
        """Return column's index -> code of what is given as column's name -> level's name, or raise SettingError."""
        columns, found = [str(label) for label in self.column_labels], {}
        for name, value in given.items():
            if str(name) not in columns:
                raise SettingError(_line(f"{self.name} has no column {name!r}; {suggestion(str(name), columns)}"))
            column = columns.index(str(name))
            try:
                level = label_of(value)
            except ValueError:
                level = None
            if level not in self.levels[column]:
                known = suggestion(level or "", self.levels[column])
                raise SettingError(_line(f"{self.name}: column {name!r} has no category {value!r}; {known}"))
            found[column] = self.levels[column].index(level)
        return found

    def recoded(self, levels: Sequence[Sequence[str]]) -> Survey:
        """Return the survey with codes that count other levels, which must hold all that occur; hidden entries too."""
        new: list[float] = []
        for mine, other in zip(self.levels, levels, strict=True):
            place = {level: float(code) for code, level in enumerate(other)}
            new += [*(place.get(level, torch.nan) for level in mine), torch.nan]
        code, sizes = torch.tensor(new).to(self.values), torch.tensor(self.categories, device=self.values.device)
        first = starts([size + 1 for size in self.categories], self.values.device)

        def translated(old: Tensor, first: Tensor, sizes: Tensor) -> Tensor:
            return code[first + torch.minimum(old.nan_to_num(nan=0.0).long(), sizes)].where(~old.isnan(), torch.nan)

        values, hidden = translated(self.values, first, sizes), self.hidden
        column, row = (values.isnan() & self.observed).T.nonzero(as_tuple=True)
        unknown = [(int(column[0]), 0, int(row[0]), self.values[row[0], column[0]])] if len(row) else []
        if hidden is not None:
            found = translated(hidden.values, first[hidden.columns], sizes[hidden.columns])
            bad = (found.isnan() & ~hidden.values.isnan()).nonzero().flatten()
            unknown += [(int(hidden.columns[i]), 1, int(hidden.rows[i]), hidden.values[i]) for i in bad]
            hidden = replace(hidden, values=found)
        if unknown:
            at, _, row_, old = min(unknown, key=lambda each: each[:2])
            level, known = self.levels[at][int(old)], ", ".join(map(repr, levels[at]))
            raise DataError(f"{self.cell(row_, at)}: {level!r} is a category never seen in training; it knows {known}")
        return replace(self, values=values, hidden=hidden, levels=levels)

    def with_test(self, test: Survey) -> Survey:
        """Return the survey with new rows beside it, whose categories are matched by name.

        Raises:
            DataError: They do not have the same columns, or have a category that this survey does not.
        """
        if test.shape[1] != self.shape[1]:
            raise DataError(f"the new rows have {test.shape[1]} columns where {self.name} has {self.shape[1]}")
        mine, theirs = ([str(label) for label in each.column_labels] for each in (self, test))
        if labels("column", self.shape[1]) not in (mine, theirs):
            for one, other in zip(mine, theirs, strict=True):
                if one != other:
                    raise DataError(f"the new rows have column {other!r} where {self.name} has {one!r}")
        named = replace(test, column_labels=self.column_labels).recoded(self.levels)
        return replace(self, test=named, notes=noted(self, named))

    def checked(self) -> Survey:
        """Return the survey itself, or raise DataError: no cells, two columns of one name, a value that is no code."""
        self.check_codes("the survey", "codes of categories")
        refuse_twice(self.column_labels, self.name)
        sizes = torch.tensor(self.categories).to(self.values)
        self.refuse(self.observed & (self.filled >= sizes), "is too large for a code of its column's categories")
        names = self.coords["category"]
        if len(set(names)) < len(names):  # such as 'a' with 'b=c' and 'a=b' with 'c'
            twice = pd.Series(names)[pd.Series(names).duplicated()].iloc[0]
            raise DataError(f"{self.name}: two columns have a category that is called {twice!r}; rename one of them")
        return self

    def refuse_degenerate(self) -> None:
        """Raise DataError naming a column without any answer, or with one category: nothing can be learned of it."""
        for column, seen, each in zip(self.column_labels, self.observed.any(0).tolist(), self.levels, strict=True):
            if not seen:
                raise DataError(f"{self.name}: column {column!r} has no answer at all: nothing can be learned of it")
            if len(each) < 2:
                why = f"has one category only ({each[0]!r}): nothing can be learned of it"
                raise DataError(f"{self.name}: column {column!r} {why}")

    def same(self, other: Any) -> bool:
        """Return whether other data have the same categories and values, missing where these miss them."""
        return super().same(other) and other.levels == self.levels

    def frame(self, values: Tensor | None = None) -> pd.DataFrame:
        """Return answers by name: a DataFrame of categorical columns, in which what is missing is NaN.

        Args:
            values: Codes, [n, D]; None: those of the survey, under its row labels.
        """
        codes = (self.values if values is None else values).detach().cpu()
        whole = codes.nan_to_num(nan=-1.0).to(torch.int16).numpy()
        index = pd.Index(list(self.row_labels)) if values is None else pd.RangeIndex(len(whole))
        named = enumerate(pd.Index(list(each), dtype=object) for each in self.levels)
        columns = {column: pd.Categorical.from_codes(whole[:, column], categories=each) for column, each in named}
        return pd.DataFrame(columns, index=index).set_axis(list(self.column_labels), axis=1)

    def typed(self, values: Tensor) -> pd.DataFrame:
        """Return answers as their reader has them: each column of its own type, as far as that is known.

        Whole numbers and truth values are of types that know holes where there are any.

        Args:
            values: Codes, [n, D]; NaN where there is none.
        """
        if not self.kinds:
            return self.frame(values)
        codes = values.detach().cpu().nan_to_num(nan=-1.0).to(torch.int16).numpy()
        each = zip(self.kinds, self.levels, codes.T, strict=True)
        columns = {place: kind.column(its, levels) for place, (kind, levels, its) in enumerate(each)}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(codes))).set_axis(list(self.column_labels), axis=1)

    def holes(self, count: int, generator: np.random.Generator) -> Tensor:
        """Draw which answers are missing, [count, D] bool: each row has the holes of a row of the survey.

        So columns have holes as often as here, and together as here. What was held out is no hole.
        """
        seen = self.observed.clone()
        if self.hidden is not None:
            seen[self.hidden.rows, self.hidden.columns] = True
        return ~seen[torch.as_tensor(generator.integers(len(seen), size=count), device=seen.device)]

    def cramers_v(self, values: Tensor | None = None) -> Tensor:
        """Return Cramér's V of every pair of columns over the rows that answer both, [D, D] (see ``math.association``).

        Args:
            values: Codes, [n, D]; None: those of the survey.
        """
        codes, sizes = self.values if values is None else values, self.categories
        return cramers_v(pair_counts(codes, sizes), sizes)

    def statistics(self, values: Tensor, site: str) -> Arrays:
        """Return each category's share of its column's answers, and Cramér's V of each pair of up to 30 columns.

        Both are of the cells that the survey observes, in simulated values too: who is asked what, or answers, is not
        the program's to say.
        """
        codes = values.to(self.values)
        if codes.shape == self.shape:
            codes = codes.where(self.observed, torch.nan)
        sizes, seen = self.categories, ~codes.isnan()
        total = sum(sizes)
        place = torch.where(seen, codes + starts(sizes, codes.device), total).long()  # what is missing is cut off
        counts = torch.bincount(place.flatten(), minlength=total + 1)[:total].double()
        answers = torch.repeat_interleave(seen.sum(0), torch.tensor(sizes, device=codes.device))
        result: Arrays = {"answer_share": (("category",), (counts / answers.clamp(min=1)).cpu().numpy())}
        if 2 <= self.shape[1] <= MOST_PAIRED:
            row, column = torch.tril_indices(self.shape[1], self.shape[1], -1)
            result["association"] = ("pair",), self.cramers_v(codes).cpu()[row, column].numpy()
        return result

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return the codes; how many categories each column has, hidden entries and test rows beside them."""
        observed, extra = super().stored(site)
        if self.kinds:
            extra["kinds"] = ("column",), np.array([each.text for each in self.kinds])
        return observed, extra | {"categories": (("column",), np.array(self.categories))}

    @classmethod
    def _own(cls, extra: Stored, coords: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        names, pairs = iter(coords["category"]), zip(coords["column"], extra["categories"].tolist(), strict=True)
        levels = [[next(names).removeprefix(f"{column}=") for _ in range(count)] for column, count in pairs]
        return {"levels": levels, "kinds": [Kind.from_text(str(each)) for each in extra.get("kinds", ())]}

    @classmethod
    def blank(cls, rows: int, columns: int, categories: int | list[int] = 3) -> Survey:
        """Return a survey of the given shape in which nothing is observed, to simulate into.

        Args:
            rows: N.
            columns: D.
            categories: How many every column has, or a number for each.

        Raises:
            SettingError: There is nothing to simulate, or not 2 to ``MOST_LEVELS`` categories of every column.
        """
        check_size(rows, columns)
        sizes = [categories] * columns if isinstance(categories, int) else list(categories)
        if len(sizes) != columns:
            raise SettingError(f"data.categories lists {len(sizes)} numbers; there are {columns} columns")
        for size in sizes:
            if not 2 <= size <= MOST_LEVELS:
                raise SettingError(f"data.categories holds {size}; it must be from 2 to {MOST_LEVELS}")
        return replace(super().blank(rows, columns), levels=[[str(i) for i in range(size)] for size in sizes])

    @classmethod
    def of(cls, source: Any, name: str = "survey", most_levels: int = MOST_LEVELS) -> Survey:
        """Make a survey of a pandas DataFrame (whose index and columns become labels), an array, a tensor or a table.

        Every column is one of categories, be they text, numbers, or true and false. Ordered are numbers as numbers,
        text too when all of it looks like numbers and otherwise alphabetically; a pandas Categorical keeps its order,
        without categories that do not occur. Text is stripped. NaN, None and text in ``MISSING`` are missing answers.

        A column of one category, or without any, is let through: new rows may have such; see ``refuse_degenerate``.

        Raises:
            DataError: Not two-dimensional, a cell that is no category, a column with more than ``most_levels`` of them,
                or unusable (see ``checked``).
        """
        if isinstance(source, Survey):
            return source.checked()
        if isinstance(source, Table):
            return cls._of_table(source)
        if hasattr(source, "columns") and hasattr(source, "index"):
            return cls._of_frame(
                source, [str(i) for i in source.index], [str(c) for c in source.columns], name, most_levels
            )
        array = array_of(source, name, "a survey (rows by columns)")
        if array.dtype.kind not in "biufOUT":
            raise DataError(f"{name} holds {array.dtype} values, not categories")
        if np.ma.isMaskedArray(array):
            mask, array = np.ma.getmaskarray(array), array.data.astype(object)
            array[mask] = None
        frame = pd.DataFrame(array, dtype=array.dtype if array.dtype == object else None)
        return cls._of_frame(frame, labels("row", len(array)), labels("column", array.shape[1]), name, most_levels)

    @classmethod
    def _of_table(cls, table: Table) -> Survey:
        """Make a survey of a table's numbers, hidden ones and test rows among them."""
        values = table.checked().values.clone()
        if table.hidden is not None:  # a category that only hidden entries have is one all the same
            values[table.hidden.rows, table.hidden.columns] = table.hidden.values.to(values)
        found = cls._of_frame(pd.DataFrame(values.cpu().numpy()), table.row_labels, table.column_labels, table.name)
        found = replace(found, notes=(*table.notes, *found.notes), kinds=())
        if table.hidden is not None:
            found = found.hide(table.hidden.rows.cpu(), table.hidden.columns.cpu())
            if found.hidden is not None:
                found = replace(found, hidden=replace(found.hidden, at_random=table.hidden.at_random))
        return found if table.test is None else found.with_test(cls._of_table(table.test))

    @classmethod
    def _of_frame(
        cls, frame: pd.DataFrame, row_labels: Sequence[str], column_labels: Sequence[str], name: str,
        most_levels: int = MOST_LEVELS,
    ) -> Survey:  # fmt: skip
        found = cls.of_blocks(of_frame(frame), row_labels, column_labels, name, most_levels)
        return replace(found, kinds=kinds_of(types_of(frame), found.levels))

    @classmethod
    def of_blocks(
        cls, blocks: Iterable[Block], row_labels: Sequence[str], column_labels: Sequence[str], name: str,
        most_levels: int = MOST_LEVELS,
    ) -> Survey:  # fmt: skip
        """Make a survey of columns of cells, as ``of`` does.

        Args:
            blocks: The cells.
            row_labels: N names.
            column_labels: D names.
            name: What to call the source in messages.
            most_levels: Categories that a column may have.
        """
        refuse_twice(column_labels, name)
        codes = Codes.of(blocks, len(row_labels), len(column_labels))
        for column, found in enumerate(codes.levels):
            if column in codes.wrong:
                row, what = codes.wrong[column]
                raise DataError(f"{name}: row {row_labels[row]!r}, column {column_labels[column]!r}: {what}")
            if len(found) > most_levels:
                about = (
                    "it looks like a numeric column; cut it into classes (pandas.cut), or leave it out by data.columns"
                    if all(as_number(level) is not None for level in found)
                    else "are they identifiers or free text? merge some, or leave it out by data.columns"
                )
                raise DataError(
                    f"{name}: column {column_labels[column]!r} has {len(found)} categories, more than {most_levels}: "
                    f"{about} (data.most_levels)"
                )
        survey = cls(torch.as_tensor(codes.values), row_labels, column_labels, name, levels=codes.levels).checked()
        silent = int((~survey.observed.any(1)).sum())
        notes = [f"{silent} rows of {name} have no answer"] if silent else []
        if codes.ambiguous:
            said = f"are spelled {AMBIGUOUS!r}, which is taken for a missing answer"
            notes.append(f"{codes.ambiguous} answers of {name} {said}")
        return replace(survey, notes=tuple(notes)) if notes else survey


def _line(message: str) -> str:
    """Return a message as one line: names of a user's own may hold line breaks."""
    return " ".join(message.split())
