"""New rows of a fit: the reader's own table back, with holes filled, clusters, factors or recommendations beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.view import View, view_of
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.container import Hidden
from pyrozoo.data.documents import Documents
from pyrozoo.data.known_rows import fitted_rows
from pyrozoo.data.readers.layout import Wanted, layout_of
from pyrozoo.data.readers.source import own_table
from pyrozoo.data.survey import Survey
from pyrozoo.data.texts import read_documents
from pyrozoo.data.triplets import Triplets
from pyrozoo.run.new_rows import CHANGED, MOST_SAID, Layout, New, read_new
from pyrozoo.run.reference import load_run
from pyrozoo.store.answer import (
    DIGITS,
    answered,
    beside,
    check_ending,
    probability,
    rounded,
    short,
    write_answer,
)

ANSWERS = ("predict", "fill", "assign", "recommend")
"""What can be asked of a fit about new rows."""


def answer(fit: Fit, what: str | None, new: Any, layout: Layout, count: int = 10, digits: int | None = None) -> Any:
    """Return a table that answers about new rows.

    Args:
        fit: The fit.
        what: One of ``ANSWERS``; None: all that suits the model.
        new: The rows; for recommendations also labels of fitted ones, or None for all of these.
        layout: How files are laid out.
        count: Recommendations per row.
        digits: Significant digits of what is answered; None: all.

    Raises:
        NotApplicable: The model does not answer that.
    """
    view = view_of(fit.model)
    if what == "recommend":
        return _recommended(fit, view, new, layout, count, digits)
    if isinstance(fit.data, Documents) and (found := _of_texts(fit, view, what, new, layout, digits)) is not None:
        return found
    asked = read_new(fit, new, layout)
    what = "assign" if what is None and isinstance(asked.part, Documents) else what
    if what is None and isinstance(asked.part, Triplets) and not (asked.listed and len(asked.lines)):
        return _recommended(fit, view, asked, layout, count, digits)
    if what == "assign":
        said = _assigned(fit, view, asked)
        if not len(said.columns):
            raise NotApplicable(f"{fit.model_name} has neither components nor factors to assign rows to")
        return _noted(beside(_rows_of(asked), short(said, digits)), asked.notes)
    found = _predicted(fit, view, asked)
    frame = _filled(asked, found, what == "fill", digits)
    if what != "fill":
        ends = _intervals(asked, frame, found, digits)
        frame = beside(frame.drop(columns=asked.names).iloc[asked.lines] if asked.listed else frame, ends)
    if what is None and not isinstance(asked.part, Triplets):
        frame = beside(frame, short(view.rows(fit, asked.part), digits))
    nothing = [] if len(asked.lines) else ["nothing is missing, so there is nothing to predict"]
    return _noted(frame, [*asked.notes, *([] if what is None else nothing)])


def score(
    directory: str | Path, new: Any, output: str | Path | None = None, *, answer: str | None = None, count: int = 10,
    **layout: Any,
) -> pd.DataFrame:  # fmt: skip
    """Answer about new rows with a saved fit.

    Args:
        directory: The run directory.
        new: The rows, laid out as the fitted data: a file's path, a DataFrame, an array or a container. Columns are
            matched by label, in any order.
        output: A file to write, .csv, .tsv, .xlsx or .parquet, with answers of 4 significant digits.
        answer: ``predict``, ``fill``, ``assign`` or ``recommend``, as the methods of a fit are called; None: all that
            suits the model.
        count: Recommendations per row.
        **layout: How a file is laid out where it differs from the fitted one: ``delimiter``, ``header``,
            ``row_labels``, ``row``, ``column``, ``value``.

    Returns:
        The reader's own table with the answers beside it, as it stands in the file.

    Raises:
        DataError: No run directory, or rows that the model cannot use.
        SettingError: No such answer, or a file's name with another ending.
        NotApplicable: The model does not answer that.
    """
    if output is not None:
        check_ending(output)
    if answer is not None and answer not in ANSWERS:
        raise SettingError(f"answer is {answer!r}; it must be one of {', '.join(ANSWERS)}, or null")
    fit, _, config = load_run(Path(directory))
    digits = None if output is None else DIGITS
    found = _answer(fit, answer, new, laid_out(config, layout), count, digits)
    if output is not None:
        write_answer(output, found)
    return found


def _of_texts(fit: Fit, view: View, what: str | None, new: Any, layout: Layout, digits: int | None) -> Any:
    """Return the topics of new texts beside them; None: the source holds no texts."""
    stated = layout_of(layout)
    texts = read_documents(new, stated, fit.data)
    if texts is None:
        return None
    if what not in (None, "assign"):
        raise NotApplicable(f"texts are not asked for cells: type answer=assign, or leave answer={what} out")
    known: Any = fit.data.with_test(texts.to("cpu", fit.data.values.dtype)).test
    said = short(view.rows(fit, known.to(fit.data.values.device, fit.data.values.dtype)), digits)
    own = pd.DataFrame({"document": list(texts.row_labels)})
    if stated.text is not None:
        own = pd.DataFrame(own_table(new, stated, Wanted())).reset_index(drop=True)
    return _noted(beside(own, said), texts.notes)


_answer = answer  # whose name ``score`` gives to its setting


def laid_out(settings: Mapping[str, Any], changes: Layout) -> Layout:
    """Return how files are laid out: as the fitted one was, with changes."""
    return {**(settings.get("data") or {}), **changes, CHANGED: tuple(changes)}


# Predictions ----------------------------------------------------------------------------------------------------------


def _predicted(fit: Fit, view: View, new: New) -> Prediction:
    """Predict the cells that are asked about; rows that say no more than fitted ones are predicted as these."""
    part, like = new.part, fit.data.values

    def ask(data: Any, rows: Tensor, at: Tensor) -> Prediction:
        hidden = Hidden(rows[at], new.columns[at], like.new_full((len(at),), torch.nan))
        return fit.posterior.on(replace(data, hidden=hidden)).predict(view.draws_of(fit, data))

    every = torch.arange(len(new.rows), device=like.device)
    if not len(every):
        return Prediction.joined([], like)
    if not isinstance(part, Triplets):
        return ask(part, new.rows, every)
    place = fitted_rows(fit.data, part)[new.rows]
    known, others = (each.nonzero().flatten() for each in (place >= 0, place < 0))
    parts = [ask(fit.data, place, known)] if len(known) else []
    parts += [ask(part, new.rows, others)] if len(others) else []
    return Prediction.joined(parts, like).at(torch.cat([known, others]).argsort())


def _intervals(new: New, frame: pd.DataFrame, found: Any, digits: int | None) -> pd.DataFrame:
    """Return what stands beside a filled table: intervals, or of a survey probabilities, of columns with holes.

    A cell that has a value has it for both ends, and the probability 1.
    """
    ends, added = {"lower_90": found.lower, "upper_90": found.upper}, {}
    if new.listed:
        ends = {"mean": found.mean, **ends}
        return pd.DataFrame({name: rounded(value, digits) for name, value in ends.items()})
    for j, name in enumerate(new.names):
        at = (new.columns == j).nonzero().flatten()
        lines = new.lines[at.cpu().numpy()]
        if not len(at):
            continue
        if isinstance(new.part, Survey):
            known = new.part.values[:, j].cpu().numpy()
            each = np.eye(len(new.part.levels[j]))[np.nan_to_num(known).astype(int)]
            each[lines] = found.probabilities[at][:, : each.shape[1]].cpu().numpy()
            added[f"{name}_probability"] = probability(each.max(1), digits)
            for level, column in zip(new.part.levels[j], each.T, strict=True):
                added[f"probability[{name}={level}]"] = probability(column, digits)
            continue
        for end, value in ends.items():
            column = frame[name].to_numpy(dtype=float, copy=True)
            column[lines] = rounded(value[at], digits)
            added[f"{name}_{end}"] = column
    return pd.DataFrame(added, index=range(len(frame)))


def _filled(new: New, found: Any, typed: bool, digits: int | None) -> pd.DataFrame:
    """Return the reader's table with its holes filled.

    Args:
        new: The rows.
        found: What is predicted of the holes.
        typed: Whether a column of whole numbers stays one.
        digits: Significant digits of what is filled in.
    """
    frame, survey = new.frame.copy(), new.part if isinstance(new.part, Survey) else None
    for j, name in enumerate(new.names):
        at = slice(None) if new.listed else (new.columns == j).nonzero().flatten().cpu().numpy()
        lines = new.lines[at]
        if not len(lines):
            continue
        if survey is not None:
            best = found.probabilities[torch.as_tensor(at)].argmax(1).tolist()
            frame[name] = answered(frame[name], lines, [survey.levels[j][k] for k in best])
            continue
        mean, own = found.mean.cpu().numpy()[at], frame[name]
        if typed and pd.api.types.is_integer_dtype(own.dtype):
            column = own.copy()
            column.iloc[lines] = np.rint(mean).astype(int)
            frame[name] = column.astype("int64")
            continue
        values = own.to_numpy(dtype=float, na_value=np.nan, copy=True)
        values[lines] = rounded(mean, digits)
        frame[name] = values
    return frame


# Rows -----------------------------------------------------------------------------------------------------------------


def _rows_of(new: New) -> pd.DataFrame:
    """Return what stands before what is said of rows: the reader's table, or of a list its labels of rows."""
    if not new.listed:
        return new.frame.drop(columns=new.absent)
    return pd.DataFrame({new.called: [new.spelled.get(label, label) for label in new.part.row_labels]})


def _assigned(fit: Fit, view: View, new: New) -> pd.DataFrame:
    """Return what is said of new rows; of those that say no more than fitted ones, what is said of these."""
    said = view.rows(fit, new.part)
    if not isinstance(new.part, Triplets):
        return said
    place = fitted_rows(fit.data, new.part).cpu().numpy()
    own = view.rows(fit, fit.data) if (place >= 0).any() else said
    if list(own.columns) == list(said.columns):  # a point is not unsure of its own rows, but of new ones
        said.loc[place >= 0] = own.iloc[place[place >= 0]].to_numpy()
    return said


def _recommended(
    fit: Fit, view: View, new: Any, layout: Layout, count: int, digits: int | None
) -> pd.DataFrame:  # fmt: skip
    """Return one line per row and rank; rows that say no more than fitted ones are recommended to as these."""
    data: Any = fit.data
    if not view.recommends:
        raise NotApplicable(f"{fit.model_name} recommends nothing: poisson_mf and gaussian_mf do")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise SettingError(f"count is {count!r}; it must be a whole number >= 1")
    if new is None or _are_labels(new, data):
        rows = list(range(data.shape[0])) if new is None else _places(data, new)
        return _noted(_ranked([view.recommend(fit, fit.draws, data, rows, count)], {}, digits), [])
    asked: New = new if isinstance(new, New) else read_new(fit, new, layout)
    place = fitted_rows(data, asked.part)
    known, others = ((place >= 0).nonzero().flatten().tolist(), (place < 0).nonzero().flatten().tolist())
    parts = [view.recommend(fit, fit.draws, data, place[known].tolist(), count)] if known else []
    if others:
        parts.append(view.recommend(fit, view.draws_of(fit, asked.part), asked.part, others, count))
    found = _ranked(parts, asked.spelled, digits)
    order = {asked.spelled.get(label, label): i for i, label in enumerate(asked.part.row_labels)}
    return _noted(
        found.sort_values("row", key=lambda rows: rows.map(order), kind="stable", ignore_index=True), asked.notes
    )


def _ranked(parts: Sequence[pd.DataFrame], spelled: Mapping[str, Any], digits: int | None) -> pd.DataFrame:
    found = pd.concat(parts, ignore_index=True)
    for name in ("mean", "lower_90", "upper_90"):
        found[name] = rounded(found[name], digits)
    found["row"] = [spelled.get(label, label) for label in found["row"]]
    return found


def _are_labels(new: Any, data: Any) -> bool:
    """Return whether what is given are labels of rows: one, or a list of them."""
    if isinstance(new, str):
        return new in set(data.row_labels) or not Path(new).suffix
    if isinstance(new, int | np.integer):
        return True
    if isinstance(new, pd.Index | np.ndarray) and new.ndim != 1:
        return False
    plain = isinstance(new, list | tuple | pd.Index | np.ndarray)
    return plain and all(isinstance(each, str | int | np.integer) for each in new)


def _places(data: Any, new: Any) -> list[int]:
    """Return the places of fitted rows that are asked for by label.

    Raises:
        DataError: Labels that no fitted row has.
    """
    wanted: Iterable[Any] = [new] if isinstance(new, str | int | np.integer) else new
    place = {label: i for i, label in enumerate(data.row_labels)}
    named = list(dict.fromkeys(str(each) for each in wanted))
    if unknown := [each for each in named if each not in place]:
        more = f" (and {len(unknown) - MOST_SAID} more)" if len(unknown) > MOST_SAID else ""
        raise DataError(f"no fitted row is called {', '.join(map(repr, unknown[:MOST_SAID]))}{more}")
    return [place[each] for each in named]


def _noted(frame: pd.DataFrame, notes: Sequence[str]) -> pd.DataFrame:
    frame = frame.copy()
    frame.attrs["notes"] = list(notes)
    return frame
