"""The reader's own table back: holes filled and marked, and beside each line what the fit says of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import DataError, NotApplicable
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.container import Hidden
from pyrozoo.data.readers.cells import numbers
from pyrozoo.data.readers.raw import chunked
from pyrozoo.data.readers.reading import Reading
from pyrozoo.data.responses import Responses
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.store.answer import DIGITS, answered, beside, probability, rounded, short, unindexed, write_answer

NAMES = ("results.csv", "results.xlsx")
"""The files of a run directory that hold the reader's table."""

MOST_FILLED = 2_000_000
"""Holes that are filled; of a table with more none is."""

MOST_LINES, MOST_CELLS = 2_000_000, 10_000_000
"""Lines and cells of the reader's table up to which a run directory has it back as CSV ..."""

MOST_SHEET_LINES, MOST_SHEET_CELLS = 200_000, 2_000_000
"""... and as .xlsx, which programs open slowly when it is large."""


@dataclass(frozen=True)
class Results:
    """The reader's own table with what the fit says.

    Attributes:
        frame: Their columns in their order and type, holes filled, and beside them what is said of each line; of a
            table the last column names the columns that were filled in this line.
        marked: Line and place of the cells that were filled.
        filled: A line per filled cell, with how sure it is; empty where none was.
        notes: What could not be done.
    """

    frame: pd.DataFrame
    marked: frozenset[tuple[int, int]] = frozenset()
    filled: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()

    def write(self, path: str | Path) -> Path:
        """Write them, by the ending of the file's name; .xlsx has colours, and a sheet that says how sure cells are."""
        if Path(path).suffix.lower() != ".xlsx":
            return write_answer(path, self.frame)
        sheets = {"filled": self.filled} if len(self.filled) else {}
        frame = self.frame.iloc[:, :-1] if FILLED in self.frame.attrs else self.frame
        return write_answer(path, frame, self.marked, sheets)


FILLED = "filled"
"""The column that names filled columns, if there is one: an attribute of the table says so."""


def of_a_reader(reading: Reading | None, data: Any) -> bool:
    """Return whether data are lines that a reader has: of a picture, and of arrays, there is nothing to give back."""
    return reading is not None and isinstance(data, Table | Survey | Triplets)


def too_large(reading: Reading, data: Any) -> str | None:
    """Return why a run directory does not get the reader's table, if it is too large, before it is read again."""
    if reading.asked is not None and not len(reading.asked):
        lines = data.shape[0]  # one for each row
    else:
        lines = len(data.values) if reading.lines is None else len(reading.lines)
    cells = lines * (len(reading.left_out) + (3 if reading.asked is not None else len(reading.places)))
    if lines <= MOST_LINES and cells <= MOST_CELLS:
        return None
    size = f"{lines} lines" if lines > MOST_LINES else f"{cells} cells"
    most = MOST_LINES if lines > MOST_LINES else MOST_CELLS
    return f"{NAMES[0]} is left out: {size} are more than {most}; fit.save_results(PATH) writes it all the same"


def write_results(fit: Fit, reading: Reading, directory: Path, *, sheet: bool = True) -> None:
    """Write the reader's table into a run directory, as far as sizes allow; notes say what not.

    Args:
        fit: The fit.
        reading: How its data were read.
        directory: The run directory.
        sheet: Whether it is written as .xlsx, too, beside CSV.
    """
    if said := too_large(reading, fit.data):
        fit.notes.append(said)
        return
    found = results_of(fit, reading)
    if not len(found.frame.columns):
        return
    fit.notes += [note for note in found.notes if note not in fit.notes]
    found.write(directory / NAMES[0])
    if not sheet:
        return
    if len(found.frame) > MOST_SHEET_LINES or found.frame.size > MOST_SHEET_CELLS:
        more = f"{NAMES[1]} is left out: the table is large; fit.save_results(PATH) writes it all the same"
        fit.notes += [more] if more not in fit.notes else []
        return
    found.write(directory / NAMES[1])


def results_of(fit: Fit, reading: Reading, digits: int | None = DIGITS) -> Results:
    """Return the reader's own table with what a fit says of its lines.

    A table gets its holes filled: whole numbers stay whole, categories are spelled as the reader's are. Cells that were
    held out are known, and stay as they are, as does all that was left out. Of a list, lines without a value get a
    prediction; a list without such lines has one line per row in its place.

    Args:
        fit: The fit.
        reading: How its data were read.
        digits: Significant digits of what is added; None: all.

    Raises:
        DataError: The source is not there any more, or is not what it was.
        NotApplicable: The data have no lines.
    """
    data = fit.data
    if not of_a_reader(reading, data):
        raise NotApplicable(f"{data.name} has no lines of a reader's to give back")
    if reading.asked is None and reading.lines is not None and len(reading.lines) == data.shape[0]:
        return _table(fit, reading, digits)
    if reading.asked is not None and len(reading.asked) and isinstance(data, Triplets):
        return _list(fit, reading, digits)
    name = _name_of_rows(reading)
    said = short(view_of(fit.model).rows(fit, data), digits)
    return Results(beside(pd.DataFrame({name: list(data.row_labels)}), said))


def _own(reading: Reading, lines: int, columns: int) -> tuple[pd.DataFrame, int]:
    """Return the reader's own table, a copy with its index as columns, and how many columns that adds.

    Raises:
        DataError: It is not there any more, or has not so many lines or columns.
    """
    assert reading.own is not None
    try:
        own = reading.own()
    except OSError as error:
        raise DataError(f"{reading.name} cannot be read again ({error.strerror or error})") from None
    own = own.to_frame() if isinstance(own, pd.Series) else own
    if len(own) < lines or len(own.columns) < columns:
        raise DataError(f"{reading.name} is not what it was when it was read")
    own = own.copy()
    if isinstance(own.columns, pd.MultiIndex):
        own.columns = [" / ".join(str(part) for part in each if str(part)) for each in own.columns]
    own.attrs = {}
    frame = unindexed(own)
    return frame, len(frame.columns) - len(own.columns)


def _name_of_rows(reading: Reading) -> str:
    """Return what a list's rows are called: as its column is."""
    return reading.label_column or "row"


# Tables ---------------------------------------------------------------------------------------------------------------


def _table(fit: Fit, reading: Reading, digits: int | None) -> Results:
    data, view = fit.data, view_of(fit.model)
    assert reading.lines is not None
    last = int(reading.lines.max(initial=-1)) + 1
    frame, shift = _own(reading, last, max(reading.places, default=-1) + 1)
    said = short(view.rows(fit, data), digits)
    cells, found, note = _holes(fit)
    frame, marked, details = _filled(frame, reading, shift, data, cells, found, digits)
    named: dict[int, list[str]] = {}
    for line, at in sorted(marked):
        named.setdefault(line, []).append(str(frame.columns[at]))
    said_of = np.full(len(frame), "", dtype=object)
    said_of[[*named]] = [", ".join(each) for each in named.values()]
    if len(said.columns):
        frame = beside(frame, _by_line(said, reading.lines, len(frame)))
    if not len(said.columns) and not marked and note is None:
        return Results(frame.iloc[:, :0])  # nothing to say
    frame = beside(frame, pd.DataFrame({FILLED: said_of}))
    frame.attrs[FILLED] = True
    return Results(frame, frozenset(marked), details, () if note is None else (note,))


def _by_line(said: pd.DataFrame, lines: np.ndarray, count: int) -> pd.DataFrame:
    """Return what is said of rows by the lines that they come from: the first of rows with one line, none of others."""
    row = np.full(count, -1)
    row[lines[::-1]] = np.arange(len(lines))[::-1]
    out = row < 0
    result = said.iloc[row.clip(min=0)].reset_index(drop=True)
    if out.any():
        result = result.astype({name: "Int64" for name, kind in said.dtypes.items() if kind.kind in "iu"})
        result.loc[out] = pd.NA
    return result


def _holes(fit: Fit) -> tuple[np.ndarray, Any, str | None]:
    """Return row and column of the cells that nobody knows, [cell, 2], and their prediction; or why there is none."""
    data, none = fit.data, np.zeros((0, 2), dtype=np.int64)
    part = _unrated(data) if isinstance(data, Triplets) and data.lists_zeros else data.missing
    if part is None or not len(part.hidden.rows):
        return none, None, None
    count = len(part.hidden.rows)
    if count > MOST_FILLED:
        return none, None, f"holes are not filled: there are {count}, more than {MOST_FILLED}"
    try:
        found = fit.prediction(part)
    except NotApplicable:  # as of a program whose sites are no cells
        return none, None, None
    return torch.stack([part.hidden.rows, part.hidden.columns], 1).cpu().numpy(), found, None


def _unrated(data: Any) -> Any:
    """Return a matrix of ratings with all pairs that have none as hidden entries; too many are counted, not made."""
    N, M = data.shape
    known = [data.values[:, :2].long()]
    for each in (data.hidden, data.validation):
        known += [] if each is None else [torch.stack([each.rows, each.columns], 1)]
    pairs = torch.cat(known)
    if N * M - len(pairs) > MOST_FILLED:
        rows = pairs.new_zeros(1).expand(N * M - len(pairs))
        return replace(data, hidden=Hidden(rows, rows, data.values.new_zeros(1).expand(len(rows))))
    there = torch.zeros(N * M, dtype=torch.bool, device=pairs.device)
    there[pairs[:, 0] * M + pairs[:, 1]] = True
    places = (~there).nonzero().flatten()
    return replace(data, hidden=Hidden(places // M, places % M, data.values.new_full((len(places),), torch.nan)))


def _filled(
    frame: pd.DataFrame, reading: Reading, shift: int, data: Any, cells: np.ndarray, found: Any, digits: int | None
) -> tuple[pd.DataFrame, set[tuple[int, int]], pd.DataFrame]:  # fmt: skip
    """Return the table with holes filled, where they are, and a line for each with how sure it is."""
    assert reading.lines is not None
    marked: set[tuple[int, int]] = set()
    parts: list[pd.DataFrame] = []
    for j in np.unique(cells[:, 1]).tolist():
        at = np.flatnonzero(cells[:, 1] == j)
        lines, first = np.unique(reading.lines[cells[at, 0]], return_index=True)  # of rows with one line the first
        at, where = at[first], reading.places[j] + shift
        own = frame.iloc[:, where]
        if isinstance(data, Survey):
            shares = found.probabilities[torch.as_tensor(at)].cpu().numpy()
            levels = [data.levels[j][k] for k in shares.argmax(1).tolist()]
            column = answered(_blank(own, lines), lines, levels)
            said = {"answer": levels, "probability": probability(shares.max(1), digits)}
        else:
            ends = {name: getattr(found, of).cpu().numpy()[at] for name, of in ENDS.items()}
            if isinstance(data, Responses) and data.levels:
                column = answered(_blank(own, lines), lines, [data.levels[int(each >= 0.5)] for each in ends["mean"]])
            else:
                column = _put(own, lines, ends["mean"], reading, digits)
            said = {name: rounded(value, digits) for name, value in ends.items()}
        frame.isetitem(where, column)
        marked |= {(int(line), where) for line in lines}
        names = {"row": [data.row_labels[i] for i in cells[at, 0].tolist()], "column": data.column_labels[j]}
        parts.append(pd.DataFrame({"line": lines + 1, **names, **said}))
    details = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return frame, marked, details.sort_values("line", kind="stable", ignore_index=True) if parts else details


ENDS = {"mean": "mean", "lower_90": "lower", "upper_90": "upper"}


def _blank(own: pd.Series, lines: np.ndarray) -> pd.Series:
    """Return a column with nothing in the cells to be filled: codes of missing answers are no answers."""
    if own.isna().to_numpy()[lines].all():
        return own
    own = own.astype("Int64") if own.dtype.kind in "iu" else own.astype(object) if own.dtype.kind == "b" else own.copy()
    own.iloc[lines] = None
    return own.infer_objects() if own.dtype == object else own


def _put(own: pd.Series, lines: np.ndarray, mean: np.ndarray, reading: Reading, digits: int | None) -> Any:
    """Return a column of numbers with holes filled, of its own type: whole numbers and truth values are rounded."""
    kind: Any = own.dtype
    if not pd.api.types.is_numeric_dtype(kind):  # truth values are numeric, too
        return _mixed(own, lines, mean, reading, digits)
    if pd.api.types.is_bool_dtype(kind):
        put = mean >= 0.5
    elif pd.api.types.is_integer_dtype(kind):
        ends = np.iinfo(getattr(kind, "numpy_dtype", kind))
        put = np.rint(mean).clip(ends.min, ends.max).astype(ends.dtype)
    else:
        put = rounded(mean, digits).astype(getattr(kind, "numpy_dtype", kind))
    column = own.copy()
    column.iloc[lines] = put
    return column


def _mixed(own: pd.Series, lines: np.ndarray, mean: np.ndarray, reading: Reading, digits: int | None) -> Any:
    """Fill a column that codes of missing cells made one of text: numbers become numbers, and nothing else changes."""
    text = own.astype(object)
    values, _ = numbers(chunked(text.to_list()), reading.facts.get("decimal", "."), reading.layout.missing or ())
    known, gone = ~np.isnan(values), own.isna().to_numpy()
    whole = bool((values[known] == np.rint(values[known])).all()) and bool(known.any())
    put = np.rint(mean) if whole else rounded(mean, digits)
    values[lines] = put
    others = ~known & ~gone
    others[lines] = False
    if not others.any():
        return pd.array(values, dtype="Int64") if whole else values
    spell = int if whole else float
    for i in (*np.flatnonzero(known), *lines):
        text.iloc[i] = spell(values[i])
    return text


# Lists ----------------------------------------------------------------------------------------------------------------


def _list(fit: Fit, reading: Reading, digits: int | None) -> Results:
    """Return a list with the prediction of lines without a value beside them."""
    assert reading.asked is not None
    lines, rows, columns = reading.asked.T
    frame, _ = _own(reading, int(lines.max()) + 1, 2)
    data, width = fit.data, fit.data.shape[1]
    part = data.missing
    if part is None:
        raise DataError(f"{reading.name} is not what it was when it was read")
    if len(part.hidden.rows) > MOST_FILLED:
        return Results(frame, notes=(f"lines without a value are more than {MOST_FILLED}: they are not predicted",))
    found: Prediction = fit.prediction(part)
    keys = (part.hidden.rows * width + part.hidden.columns).cpu().numpy()
    order, wanted = np.argsort(keys, kind="stable"), rows * width + columns
    at = order[np.searchsorted(keys[order], wanted).clip(max=len(keys) - 1)]
    there = keys[at] == wanted  # another line may have the value of a pair
    added: dict[str, np.ndarray] = {}
    for name, of in ENDS.items():
        added[name] = np.full(len(frame), np.nan)
        added[name][lines[there]] = rounded(getattr(found, of).cpu().numpy()[at[there]], digits)
    return Results(beside(frame, pd.DataFrame(added)))
