"""New rows as their reader has them, in the form of the fitted data: columns by label, problems all at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.core.errors import DataError, NotApplicable
from pyrozoo.data.coding import label_of
from pyrozoo.data.container import Data, array_of, labels, refuse_twice
from pyrozoo.data.readers import layout as readers
from pyrozoo.data.readers.cells import numbers as spelled_numbers
from pyrozoo.data.readers.raw import chunked
from pyrozoo.data.readers.source import read_rows
from pyrozoo.data.readers.words import bare, place, role_of
from pyrozoo.data.responses import Responses
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import NAMES, Triplets

MOST_SAID = 20
"""Problems, or names, that one message lists."""

Layout = Mapping[str, Any]
"""How a file is laid out: settings of data, such as delimiter and row_labels."""


@dataclass(frozen=True)
class New:
    """New rows, as their reader has them and as the fit does.

    Attributes:
        frame: The reader's own table, with columns of the fit that it lacks; or the reader's list.
        part: The rows in the container of the fit's data, over its columns.
        rows: Of the cells that are asked about: their rows in ``part``, [cell].
        columns: Their columns in ``part``, [cell].
        lines: Where they are in ``frame``, [cell].
        names: What ``frame`` calls the fit's columns; of a list, the column of its values.
        absent: Those that the reader's table lacks.
        listed: Whether it is a list of row, column and value.
        spelled: Label of a row in ``part`` -> the reader's own.
        notes: What the reader should know.
        called: Of a list: its column of rows.
    """

    frame: pd.DataFrame
    part: Any
    rows: Tensor
    columns: Tensor
    lines: np.ndarray
    names: Sequence[Any]
    absent: Sequence[Any]
    listed: bool
    spelled: Mapping[str, Any]
    notes: tuple[str, ...]
    called: str = "row"


class Problems:
    """What is wrong with new rows, collected and said in one line."""

    def __init__(self, where: str):
        self.where, self.said = where, list[str]()

    def add(self, problem: str) -> None:
        """Add one."""
        self.said.append(problem)

    def end(self) -> None:
        """Raise DataError when there are any."""
        if self.said:
            more = f" (and {len(self.said) - MOST_SAID} more)" if len(self.said) > MOST_SAID else ""
            raise DataError(f"{self.where}: {' '.join('; '.join(self.said[:MOST_SAID]).split())}{more}")


def read_new(fit: Fit, new: Any, layout: Layout) -> New:
    """Bring new rows into the form of a fit's data.

    Args:
        fit: The fit.
        new: A file's path, a DataFrame, an array or a container, laid out as the fitted data.
        layout: How files are laid out.

    Raises:
        DataError: They cannot be read, or the model cannot use them.
        NotApplicable: The model's data have no rows, or rows with parameters that only a fit can give them.
    """
    data = fit.data
    if not isinstance(data, Table | Survey | Triplets):
        raise NotApplicable(
            f"{fit.model_name} is fitted to {type(data).__name__.lower()}: there are no rows, and so no new ones"
        )
    own = _own(fit, new, layout)
    where = own.where
    if not len(own.frame):
        raise DataError(f"{where}: there are no rows")
    table = _regressed if isinstance(data, Responses) else _table
    read = table if not isinstance(data, Triplets) else _list if _is_list(own.frame, data, layout) else _matrix
    found = read(own, data, layout)
    if data.exposure is not None:
        found = replace(found, part=replace(found.part, exposure=_exposure(new, found, layout, own)))
    if isinstance(found.part, Triplets):
        there: Any = data.to("cpu", data.values.dtype)
        known = there.with_test(found.part.to("cpu", data.values.dtype))
        found = replace(found, part=known.test, notes=(*found.notes, *known.notes[len(there.notes) :]))
    else:
        found.part.checked()
    device, dtype = data.values.device, data.values.dtype
    part = found.part.to(device, dtype)
    fit.posterior.on(replace(data, test=part)).check()
    if not isinstance(fit.posterior, HandBuilt):
        _check_shared(fit, part)
    return replace(found, part=part, rows=found.rows.to(device), columns=found.columns.to(device))


@dataclass(frozen=True)
class Own:
    """The reader's own table of new rows.

    Attributes:
        frame: The table.
        where: What messages call it.
        decimal: The decimal mark of its text.
        codes: Column -> the numbers behind its labels, where its file has both.
    """

    frame: pd.DataFrame
    where: str = "the new rows"
    decimal: str = "."
    codes: Mapping[str, np.ndarray] = field(default_factory=dict)


def _own(fit: Fit, new: Any, layout: Layout) -> Own:
    """Return the reader's own table."""
    data = fit.data
    if isinstance(new, str | Path):
        frame, decimal, codes = read_rows(new, _of_new(layout, Path(new)), _known(data, layout))
        return Own(frame, Path(new).name, decimal, codes)
    frame, where = _in_python(data, new)
    if layout.get("transpose"):
        frame = frame.T.infer_objects()
    return Own(frame, where)


def _in_python(data: Any, new: Any) -> tuple[pd.DataFrame, str]:
    """Return a table that somebody holds in Python, and what messages call it."""
    where = "the new rows"
    if isinstance(new, pd.Series):
        new = new.to_frame().T.infer_objects()
    if isinstance(new, dict) or (isinstance(new, list) and new and isinstance(new[0], dict)):
        new = pd.DataFrame(new)
    if isinstance(new, pd.DataFrame):
        return new, where
    if isinstance(new, Triplets):
        known = [new.values] if new.unobserved is None else [
            new.values, torch.nn.functional.pad(new.unobserved.to(new.values), (0, 1), value=math.nan)
        ]  # fmt: skip
        row, column, value = torch.cat(known).cpu().numpy().T
        names = (np.asarray(each, dtype=object) for each in (new.row_labels, new.column_labels))
        spelled = [each[at.astype(int)] for each, at in zip(names, (row, column), strict=True)]
        return pd.DataFrame(dict(zip(NAMES, (*spelled, value), strict=True))), new.name
    if isinstance(new, Survey | Responses):
        return new.frame(), new.name
    if isinstance(new, Table):
        values = new.values.cpu().numpy()
        return pd.DataFrame(values, index=list(new.row_labels), columns=list(new.column_labels)), new.name
    if isinstance(new, Data):
        raise DataError(
            f"{new.name}: new rows laid out as the fitted data are needed, not {type(new).__name__.lower()}"
        )
    array = array_of(new.toarray() if hasattr(new, "tocoo") else new, where, "a table (rows by columns)")
    if array.shape[1] != data.shape[1]:
        raise DataError(f"{where} have {array.shape[1]} columns where the fit has {data.shape[1]}; give a DataFrame")
    return pd.DataFrame(np.ma.filled(array.astype(float), np.nan) if np.ma.isMaskedArray(array) else array), where


WRITTEN = ("header", "delimiter", "encoding", "decimal", "key")
"""How a file is written: a file of new rows has it of the fitted one where both are of one format ..."""

LAID_OUT = ("missing", "row_labels", "transpose")
"""... and this whatever its format."""

CHANGED = "changed"
"""What a layout calls the names of what is said of new rows themselves."""


def _of_new(layout: Layout, path: Path) -> readers.Layout:
    alike = Path(str(layout.get("path") or "")).suffix.lower() == path.suffix.lower()
    names = [*LAID_OUT, *(WRITTEN if alike else set(WRITTEN) & {*layout.get(CHANGED, ())})]
    return readers.layout_of({name: layout[name] for name in names if name in layout})


def _known(data: Any, layout: Layout) -> set[str]:
    """Return names that a header of new rows may hold."""
    roles = (layout.get(each) for each in (*NAMES, "row_labels"))
    explained = {column for column, _ in data.coding} if isinstance(data, Responses) else set()
    return {*explained, *map(str, data.column_labels), *(str(each) for each in roles if each is not None)}


def _match(frame: pd.DataFrame, data: Any, where: str) -> tuple[list[Any], list[str]]:
    """Return what the reader calls each of the fit's columns, None where it is not there, and notes."""
    own: dict[str, Any] = {str(each).strip(): each for each in frame.columns}
    units = Counter(map(bare, own))  # a unit in a name of either side, such as Sales [EUR], makes no difference
    alike = {bare(each): name for each, name in own.items() if units[bare(each)] == 1}
    theirs = Counter(bare(str(label)) for label in data.column_labels)
    names = [
        own.get(str(label), alike.get(bare(str(label))) if theirs[bare(str(label))] == 1 else None)
        for label in data.column_labels
    ]
    if all(name is None for name in names):
        count, usual = frame.shape[1], labels("column", frame.shape[1])
        unnamed = isinstance(frame.columns, pd.RangeIndex) or list(frame.columns) == usual
        if count != data.shape[1] or not (unnamed or list(data.column_labels) == usual):
            needed, has = _named(data.column_labels), _named(list(frame.columns))
            raise DataError(f"{where}: none of the columns of the fit is there ({needed}); there are {has}")
        return list(frame.columns), []
    refuse_twice([each for each in map(str, frame.columns) if each.strip() in set(data.column_labels)], where)
    absent = [label for label, name in zip(data.column_labels, names, strict=True) if name is None]
    there = set(names)
    unseen = [each for each in frame.columns if each not in there]
    notes = [f"not among the fit's columns, and left as they are: {_named(unseen)}"] if unseen else []
    return names, [*notes, *([f"columns that are not there, taken as missing: {_named(absent)}"] if absent else [])]


def _named(names: Sequence[Any]) -> str:
    more = f" and {len(names) - MOST_SAID} more" if len(names) > MOST_SAID else ""
    return ", ".join(map(str, names[:MOST_SAID])) + more


def _columns(
    own: Own, data: Any, layout: Layout
) -> tuple[pd.DataFrame, list[Any], list[Any], np.ndarray, list[str]]:  # fmt: skip
    """Return the table with all of the fit's columns, their names, those that were absent, numbers or codes, notes."""
    frame, where, missing = own.frame, own.where, layout.get("missing") or ()
    names, notes = _match(frame, data, where)
    values, problems = np.full((len(frame), len(names)), np.nan), Problems(where)
    changed: dict[Any, Any] = {}
    for j, (name, label) in enumerate(zip(names, data.column_labels, strict=True)):
        if name is None:
            names[j], changed[label] = label, np.nan
            continue

        def cell(i: int, label: str = label) -> str:
            return f"row {str(frame.index[i])!r}, column {label!r}"

        if isinstance(data, Survey):
            values[:, j] = _codes(frame[name], data.levels[j], cell, problems, {str(each).strip() for each in missing})
            continue
        if (coded := own.codes.get(str(name))) is not None:
            values[:, j] = coded
        else:
            values[:, j] = numbers(frame[name], cell, problems, missing, own.decimal)
        labelled = coded is not None and not np.isnan(values[:, j]).any()
        if not pd.api.types.is_numeric_dtype(frame[name]) and not labelled:
            whole = bool((np.isnan(values[:, j]) | (values[:, j] == np.rint(values[:, j]))).all())
            changed[name] = pd.array(values[:, j], dtype="Int64" if whole else "float64")
    problems.end()
    frame, absent = frame.copy(), [each for each in changed if each not in frame.columns]
    for name, each in changed.items():
        frame[name] = each
    return frame, names, absent, values, notes


def numbers(
    column: pd.Series, cell: Callable[[int], str], problems: Problems, missing: Sequence[Any] = (), decimal: str = "."
) -> np.ndarray:  # fmt: skip
    """Return the numbers of a column as the reader finds them, NaN where one is missing; ``cell`` names a cell."""
    if pd.api.types.is_numeric_dtype(column):
        return spelled_numbers(chunked(column.to_numpy(dtype=np.float64, na_value=np.nan)), missing=missing)[0]
    cells = column.astype(object).where(column.notna(), None).to_list()
    text = [isinstance(each, str) for each in cells if each is not None]
    if any(text) and not all(text):  # some are numbers already, whatever the decimal mark of the others
        cells = [each if each is None or isinstance(each, str) else str(each).replace(".", decimal) for each in cells]
    values, bad = spelled_numbers(chunked(cells), decimal, missing)
    for i in np.flatnonzero(np.isnan(values)).tolist() if bad.spelled else ():
        if cells[i] is not None and str(cells[i]).strip() in bad.spelled:
            problems.add(f"{cell(i)}: {cells[i]!r} is not a number")
    return values


def _codes(
    column: pd.Series, levels: Sequence[str], cell: Callable[[int], str], problems: Problems,
    missing: Collection[str] = (),
) -> np.ndarray:  # fmt: skip
    """Return the codes of the answers of a column, NaN where one is missing."""
    place, values = {level: float(code) for code, level in enumerate(levels)}, np.full(len(column), np.nan)
    for i, each in enumerate(column.astype(object)):
        try:
            label = None if each is None or each is pd.NA or each is pd.NaT else label_of(each)
        except ValueError as error:
            problems.add(f"{cell(i)}: {each!r} {error}")
            continue
        if label is not None and label in missing:
            continue
        if label is not None and label not in place:
            problems.add(f"{cell(i)}: {label!r} is a category never seen in training; it knows {', '.join(levels)}")
        elif label is not None:
            values[i] = place[label]
    return values


def _regressed(own: Own, data: Any, layout: Layout) -> New:
    """Return new rows of a regression: what explains is matched by name, and the response may not be there."""
    part, name, frame = data.like(own.frame, own.where), data.response, own.frame.copy()
    there = {str(each).strip(): each for each in frame.columns}
    called = there.get(name, name)
    if name not in there or not pd.api.types.is_numeric_dtype(frame[called]):
        frame[called] = part.values[:, 0].numpy()
    rows, columns = part.values.isnan().nonzero(as_tuple=True)
    explained = {column for column, _ in data.coding}
    unseen = [each for spelled, each in there.items() if spelled != name and spelled not in explained]
    notes = (f"not among the fit's columns, and left as they are: {_named(unseen)}",) if unseen else ()
    absent = [] if name in there else [name]
    return New(frame, part, rows, columns, rows.numpy(), [called], absent, False, {}, notes)


def _table(own: Own, data: Any, layout: Layout) -> New:
    frame, names, absent, array, notes = _columns(own, data, layout)
    placed, values, where = data.placed(frame, own.where), torch.as_tensor(array), own.where
    index = [str(each) for each in (_index(frame, data) if placed is None else placed)]
    part = replace(
        data, values=values, row_labels=index, name=where, hidden=None, test=None, truth={}, total_rows=None,
        row_index=None, notes=(), replaced={}, exposure=None,
    )  # fmt: skip
    rows, columns = values.isnan().nonzero(as_tuple=True)
    return New(frame, part, rows, columns, rows.numpy(), names, absent, False, {}, tuple(notes))


def _matrix(own: Own, data: Any, layout: Layout) -> New:
    frame, names, absent, array, notes = _columns(own, data, layout)
    called, where = _index(frame, data), own.where
    numbered = isinstance(called, pd.RangeIndex) or not called.is_unique
    index = [str(each) for each in called] if called.is_unique else labels("row", len(frame))
    row, column = (each.flatten() for each in np.indices(array.shape))
    part = data.of_new(np.asarray(index, dtype=object)[row], column, array.flatten(), name=where, numbered=numbered)
    rows, columns = (torch.as_tensor(each) for each in np.isnan(array).nonzero())
    spelled = dict(zip(index, called, strict=True))
    return New(frame, part, rows, columns, rows.numpy(), names, absent, False, spelled, tuple(notes))


def _index(frame: pd.DataFrame, data: Any) -> pd.Index:
    """Return what names the rows of a table: a column that has labels of fitted rows, where its index only counts."""
    if not isinstance(frame.index, pd.RangeIndex):
        return frame.index
    known, taken = {*data.row_labels}, {*data.column_labels}
    if known == {*labels("row", len(known))} or known == {*map(str, range(len(known)))}:
        return frame.index  # numbers say nothing of who they are
    for name in frame.columns:
        column = frame[name]
        if str(name) in taken or pd.api.types.is_float_dtype(column) or column.isna().any() or not column.is_unique:
            continue
        if not known.isdisjoint(map(str, column)):
            return pd.Index(column)
    return frame.index


def _exposure(new: Any, found: New, layout: Layout, own: Own) -> Tensor:
    """Return the exposure of new rows [row]: a container's own, or a column of the reader's table.

    Raises:
        DataError: There is none, or it is no number.
    """
    like = found.part.values
    if isinstance(new, Data) and new.exposure is not None:
        known = dict(zip(new.row_labels, new.exposure, strict=True))
        listed = isinstance(found.part, Triplets)
        return (torch.stack([known[each] for each in found.part.row_labels]) if listed else new.exposure).to(like)
    name, frame, where, problems = layout.get("exposure"), found.frame, own.where, Problems(own.where)
    at = None if name is None else place(name, [*map(str, frame.columns)])
    if at is None:
        has = "they have none" if name is None else f"they have no column {name!r}"
        raise DataError(f"{where}: the fitted rows have an exposure, and {has}: type data.exposure=COLUMN")
    missing = layout.get("missing") or ()
    values = numbers(frame.iloc[:, at], lambda i: f"line {i + 1}, column {name!r}", problems, missing, own.decimal)
    problems.end()
    if found.listed:  # a row has it in every line
        rows = _places_of(frame, layout, where)["row"]
        stated = {_label(cell, set()): value for cell, value in zip(frame.iloc[:, rows], values, strict=True)}
        values = np.array([stated[label] for label in found.part.row_labels])
    return torch.tensor(values).to(like)  # a copy: pandas lets nobody write into its own


def _is_list(frame: pd.DataFrame, data: Any, layout: Layout) -> bool:
    """Return whether a table is a list of row, column and value rather than the matrix itself."""
    names, asked = [str(each) for each in frame.columns], [layout.get("row"), layout.get("column")]
    if all(each is not None and str(each) in names for each in asked) or {"row", "column"} <= set(names):
        return True
    if len(names) < 2 or set(names) & set(data.column_labels):
        return False
    return layout.get("source") in ("triplets", "ratings") or (len(names) <= 4 and len(names) != data.shape[1])


def _list(own: Own, data: Any, layout: Layout) -> New:
    frame, where = own.frame, own.where
    at, problems, notes = _places_of(frame, layout, where), Problems(where), []
    name = frame.columns[at["value"]] if "value" in at else "value"
    frame = frame if "value" in at else frame.assign(value=np.nan)
    known: dict[str, int] = {str(label): j for j, label in enumerate(data.column_labels)}

    def cell(i: int) -> str:
        return f"line {i + 1}"

    theirs = {"row": set(data.row_labels), "column": set(known)}
    spelled = {axis: [_label(cell, its) for cell in frame.iloc[:, at[axis]]] for axis, its in theirs.items()}
    for axis, each in spelled.items():
        for i, label in enumerate(each):
            if label is None:
                problems.add(f"{cell(i)} has no {axis}")
    values = numbers(frame[name], cell, problems, layout.get("missing") or (), own.decimal)
    problems.end()
    place = np.array([known.get(label or "", -1) for label in spelled["column"]])
    unseen = list(dict.fromkeys(str(spelled["column"][i]) for i in np.flatnonzero(place < 0)))
    if unseen:
        notes.append(f"not among the fit's columns, lines left out: {_named(unseen)}")
    unknown = layout.get("unknown")
    kept = np.flatnonzero((place >= 0) & (True if unknown is None else values != unknown))
    if not len(kept):
        raise DataError(f"{where}: no line names a column that the fit has")
    rows = np.asarray(spelled["row"], dtype=object)[kept]
    part = data.of_new(rows, place[kept], values[kept], name=where, repeated=layout.get("repeated"))
    index = {label: i for i, label in enumerate(part.row_labels)}
    lines = kept[np.isnan(values[kept])]
    row, column = (torch.as_tensor(each, dtype=torch.long) for each in (
        [index[str(spelled["row"][i])] for i in lines], place[lines]
    ))  # fmt: skip
    theirs_of = dict(zip(map(str, spelled["row"]), frame.iloc[:, at["row"]], strict=True))
    called = str(frame.columns[at["row"]])
    return New(frame, part, row, column, lines, [name], [], True, theirs_of, (*notes, *part.notes), called)


def _places_of(frame: pd.DataFrame, layout: Layout, where: str) -> dict[str, int]:
    """Return the places of the columns that say row, column and, if any does, value."""
    names, problems = [str(each) for each in frame.columns], Problems(where)
    called = {role_of(name): i for i, name in reversed([*enumerate(names)])}
    found: dict[str, int] = {}
    for usual, axis in enumerate(NAMES):
        label, asked = layout.get(f"{axis}_label"), layout.get(axis)
        asked = label if label is not None and str(label) in names else asked
        by_name = called.get(axis, None if {"row", "column"} <= {*called} else usual)
        at = by_name if asked is None else place(asked, names)
        if axis == "value" and (at is None or at >= len(names) or (asked is None and at in found.values())):
            continue
        if at is None:
            problems.add(f"there is no column {str(asked)!r}; it has {_named(names)}")
            continue
        found[axis] = at
    problems.end()
    if len(set(found.values())) < len(found):
        raise DataError(f"{where}: row, column and value must be three different columns, of {_named(names)}")
    return found


def _label(cell: Any, known: set[str]) -> str | None:
    """Return how a list's row or column is called, as the fit calls it; None where the cell is empty."""
    if isinstance(cell, str):
        return cell if cell in known else cell.strip() or None
    if cell is None or pd.isna(cell):
        return None
    if str(cell) in known:
        return str(cell)
    whole = isinstance(cell, float | np.floating) and float(cell).is_integer()
    return str(int(cell)) if whole else str(cell)


def _check_shared(fit: Fit, part: Any) -> None:
    """Refuse a program that gives rows parameters of their own: draws say nothing of new ones."""
    many = torch.arange(len(fit.data.row_labels) + 1) % len(part.row_labels)
    again = replace(part, values=part.values[many], row_labels=labels("row", len(many)))
    nodes = fit.posterior.on(again).first_trace.nodes
    for site, value in fit.draws.items():
        if site not in nodes or nodes[site]["value"].shape != value.shape[2:]:
            raise NotApplicable(
                f"{fit.model_name} gives every row parameters of its own ({site}): fit new rows with it"
            )
