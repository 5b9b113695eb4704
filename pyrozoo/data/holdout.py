"""Cells and rows that were chosen by hand to be hidden, by label or by place, with every problem named at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.coding import label_of
from pyrozoo.data.container import Cells, Hidden
from pyrozoo.data.documents import Documents
from pyrozoo.data.grid import Grid
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.source import read_frame
from pyrozoo.data.survey import Survey
from pyrozoo.data.triplets import NAMES, Triplets

MOST_SAID = 20
"""Problems that one message names."""


def read_chosen(chosen: Any, layout: Layout) -> list[Any]:
    """Return what is chosen as a list: labels of rows, and tuples of row, column and perhaps a value.

    Args:
        chosen: A file's path, a DataFrame, or such a list.
        layout: How the data's own file is laid out: what its columns are called.

    Raises:
        SettingError: There is no such file, or its columns do not say which is which.
        DataError: It cannot be read.
    """
    where, known = (
        "data.holdout",
        {*NAMES, *(str(name) for axis in NAMES if (name := getattr(layout, axis)) is not None)},
    )
    if isinstance(chosen, str | Path):
        if not Path(chosen).is_file():
            raise SettingError(f"data.holdout is {str(chosen)!r}: neither a fraction, nor a file that there is")
        where, chosen = Path(chosen).name, read_frame(chosen, _of_cells(layout), known, sure=True)
    if not isinstance(chosen, pd.DataFrame):
        return list(chosen)
    names = [str(each) for each in chosen.columns]
    asked = [str(getattr(layout, axis) or axis) for axis in NAMES]
    if len(names) == 1:
        return chosen.iloc[:, 0].tolist()
    if asked[0] in names and asked[1] in names:
        found = [names.index(each) for each in asked if each in names]
    elif len(names) <= len(NAMES):
        found = list(range(len(names)))
    else:
        raise SettingError(f"{where} has {len(names)} columns; call those that are meant {', '.join(NAMES)}")
    return list(zip(*(chosen.iloc[:, each].tolist() for each in found), strict=True))


def _of_cells(layout: Layout) -> Layout:
    """Return how a file of cells is laid out: as the data's own file, but for what that says of columns."""
    return Layout(delimiter=layout.delimiter, encoding=layout.encoding, decimal=layout.decimal)


def hold_out_chosen(data: Any, chosen: Sequence[Any]) -> Any:
    """Return data with chosen cells hidden from a fit, and known to its evaluation.

    Args:
        data: Cells or triplets.
        chosen: Labels of rows, all of whose listed cells are meant, and tuples of row, column and perhaps the true
            value, which the data need not have. A label may be a place where labels are no numbers.

    Raises:
        DataError: Labels that there are not, cells without a value, or chosen twice: all of them.
        SettingError: Data that have no cells to hide.
    """
    if isinstance(data, Documents):
        return _hold_out_documents(data, chosen)
    if not isinstance(data, Cells | Triplets):
        raise SettingError(f"data.holdout has no meaning for {type(data).__name__.lower()}")
    problems: list[str] = []
    cells, rows = _asked(data, chosen, problems)
    listed, values = _listed(data)
    width, whole = data.shape[1], np.isin(listed // data.shape[1], rows)
    for row in sorted({*rows} - {*(listed[whole] // width).tolist()}):
        problems.append(f"row {data.row_labels[row]!r} has no value")
    places = np.array([i * width + j for i, j, _ in cells], dtype=np.int64)
    truth, at = np.array([value for _, _, value in cells], dtype=np.float64), np.searchsorted(listed, places)
    at = at.clip(max=max(0, len(listed) - 1))
    there = listed[at] == places if len(listed) else np.zeros(len(places), dtype=bool)
    known = np.where(there, values[at], _absent(data, places)) if len(listed) else np.full(len(places), np.nan)
    places, truth = np.r_[places, listed[whole]], np.r_[np.where(np.isnan(truth), known, truth), values[whole]]

    def cell(place: int) -> str:
        return f"row {data.row_labels[place // width]!r}, column {data.column_labels[place % width]!r}"

    problems += [f"{cell(place)} has no value" for place in places[np.isnan(truth)].tolist()]
    problems += [
        f"{cell(place)} is chosen twice" for place in np.unique(places[pd.Series(places).duplicated()]).tolist()
    ]
    if not len(chosen):
        problems.append("nothing is chosen")
    elif not problems and np.isin(listed, places).all():
        problems.append("nothing is left to fit")
    if problems:
        more = f" (and {len(problems) - MOST_SAID} more)" if len(problems) > MOST_SAID else ""
        raise DataError(f"data.holdout: {' '.join('; '.join(problems[:MOST_SAID]).split())}{more}")
    order = places.argsort()
    pairs = torch.as_tensor(np.stack([places[order] // width, places[order] % width], 1))
    return _hide(data, pairs, torch.as_tensor(truth[order]).to(data.values))


def _hold_out_documents(data: Documents, chosen: Sequence[Any]) -> Documents:
    """Hide half of the tokens of documents chosen by label."""
    problems: list[str] = []
    if cells := [each for each in chosen if not isinstance(each, str | int | float | np.generic)]:
        said = "of documents tokens are held out, not words: it must be labels of documents, or a fraction of them"
        raise SettingError(f"data.holdout holds {cells[0]!r}; {said}")
    places = _places(data.row_labels)
    found = {place for each in chosen if (place := _place(each, places, "document", problems)) is not None}
    short = [place for place in sorted(found) if float(data.lengths[place]) < 2]
    problems += [f"document {data.row_labels[place]!r} has fewer than two tokens" for place in short]
    if problems or not found:
        raise DataError(f"data.holdout: {'; '.join(problems[:MOST_SAID]) or 'nothing is chosen'}")
    return data.hide_halves(torch.tensor(sorted(found)), np.random.default_rng(0))


def _asked(data: Any, chosen: Sequence[Any], problems: list[str]) -> tuple[list[tuple[int, int, float]], list[int]]:
    """Return the places of cells that are asked for, with true values or NaN, and those of whole rows."""
    places = [_places(labels) for labels in (data.row_labels, data.column_labels)]
    cells, rows = [], []
    for each in chosen:
        one = isinstance(each, str | int | float | np.generic)
        if not one and not (isinstance(each, list | tuple) and 2 <= len(each) <= 3):
            raise SettingError(f"data.holdout holds {each!r}; it must be row, column and perhaps value, or a row")
        row, *rest = [each] if one else each
        i = _place(row, places[0], "row", problems)
        if one:
            rows += [] if i is None else [i]
            continue
        j = _place(rest[0], places[1], "column", problems)
        if i is not None and j is not None:
            given = math.nan if len(rest) < 2 or _missing(rest[1]) else _value(data, i, j, rest[1], problems)
            cells.append((i, j, given))
    return cells, rows


def _hide(data: Any, pairs: Tensor, truth: Tensor) -> Any:
    rows, columns = pairs.unbind(1)
    hidden = Hidden(rows, columns, truth, at_random=False).joined(data.hidden, data.shape[1])
    if isinstance(data, Cells):
        values = data.values.clone()
        values[rows, columns] = torch.nan
        return replace(data, values=values, hidden=hidden)
    width, mine = data.shape[1], data.values[:, :2].long()
    stay = ~torch.isin(mine[:, 0] * width + mine[:, 1], rows * width + columns)
    gone = pairs if data.unobserved is None else torch.cat([data.unobserved, pairs]).unique(dim=0)
    return replace(data, values=data.values[stay], unobserved=gone, hidden=hidden)


def _listed(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the cells that the data list, in order, and their values."""
    if isinstance(data, Triplets):
        entries = data.values.numpy()
        return (entries[:, 0] * data.shape[1] + entries[:, 1]).astype(np.int64), entries[:, 2]
    rows, columns = data.observed.nonzero(as_tuple=True)
    return (rows * data.shape[1] + columns).numpy(), data.values[rows, columns].numpy()


def _absent(data: Any, places: np.ndarray) -> np.ndarray:
    """Return the values of cells that are not listed: zero where absent pairs are, unless nobody observed them."""
    if not isinstance(data, Triplets) or data.lists_zeros:
        return np.full(len(places), np.nan)
    gone: Any = (
        [] if data.unobserved is None else (data.unobserved[:, 0] * data.shape[1] + data.unobserved[:, 1]).numpy()
    )
    return np.where(np.isin(places, gone), np.nan, 0.0)


def _places(labels: Sequence[str]) -> dict[str, int]:
    """Return label -> place; where no label is a whole number, a whole number is a place."""
    found = {str(label): i for i, label in enumerate(labels)}
    if not any(label.isdecimal() for label in found):
        found = {str(i): i for i in range(len(labels))} | found
    return found


def _place(label: Any, places: Mapping[str, int], axis: str, problems: list[str]) -> int | None:
    spelled = str(label).strip()
    if spelled not in places and isinstance(label, float) and label.is_integer():
        spelled = str(int(label))
    if spelled not in places:
        problems.append(f"there is no {axis} {spelled!r}")
    return places.get(spelled)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or bool(pd.isna(value))


def _value(data: Any, row: int, column: int, value: Any, problems: list[str]) -> float:
    """Return the number, or the code, of a true value."""
    where = f"row {data.row_labels[row]!r}, column {data.column_labels[column]!r}"
    if isinstance(data, Survey | Grid):
        levels = list(data.levels[column]) if isinstance(data, Survey) else data.level_names
        if (level := label_of(value)) in levels:
            return float(levels.index(level))
        problems.append(f"{where}: {level!r} is none of {', '.join(map(str, levels))}")
        return 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        problems.append(f"{where}: {value!r} is not a number")
        return 0.0
