"""New rows of a list that are not new: what a fitted row of the same label has is theirs, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pyrozoo.data.container import labels

NAMED = 3
"""Rows that a note names."""


def rows_by_label(data: Any, new: Any) -> Tensor:
    """Return for each new row the place of the row of ``data`` that has its label, or -1, [n].

    A label that two rows of ``data`` share says nothing.
    """
    place: dict[str, int] = {}
    for i, label in enumerate(data.row_labels):
        place[label] = -1 if label in place else i
    found = [place.get(label, -1) for label in new.row_labels]
    return torch.tensor(found, dtype=torch.long, device=new.values.device)


def shared(data: Any, entries: Tensor, new: Any, place: Tensor) -> Tensor:
    """Return how many listed cells of each new row are among ``entries`` [entry, 3] with the same value, [n].

    Args:
        data: What the entries are of.
        entries: Row, column and value.
        new: New rows over the same columns.
        place: Where each of them is among the rows of ``data``, or -1.
    """
    width, rows = data.shape[1], new.values[:, 0].long()
    mine = (entries[:, 0] * width + entries[:, 1]).long()
    order = mine.argsort()
    wanted = place[rows] * width + new.values[:, 1].long()
    if not len(mine):
        return torch.zeros_like(place)
    at = order[torch.searchsorted(mine[order], wanted).clamp(max=len(mine) - 1)]
    same = (mine[at] == wanted) & (entries[at, 2] == new.values[:, 2]) & (place[rows] >= 0)
    return torch.bincount(rows[same], minlength=len(place))


def fitted_rows(data: Any, new: Any) -> Tensor:
    """Return for each new row the place of the row of ``data`` with its label and just its cells, or -1, [n]."""
    place, total = rows_by_label(data, new), _counts(new.values, len(new.row_labels))
    mine = _counts(data.values, len(data.row_labels))[place.clamp(min=0)]
    again = (place >= 0) & (total == mine) & (shared(data, data.values, new, place) == total)
    if data.exposure is not None:
        again = again & (data.exposure[place.clamp(min=0)] == new.exposure)
    return torch.where(again, place, -1)


def joined(data: Any, new: Any) -> tuple[Any, str | None]:
    """Give new rows what the rows of ``data`` with their labels have, and say so.

    What a new row says itself goes first. Rows that nobody named (``new.numbered``) are those of ``data`` only when
    they have just their cells, held-out ones among them.

    Args:
        data: What is fitted.
        new: New rows over the same columns, in the same order.

    Returns:
        The new rows, and a note, if any are known.
    """
    place = rows_by_label(data, new)
    if new.numbered or list(new.row_labels) == labels("row", len(new.row_labels)):
        place = torch.where(_whole(data, new, place), place, -1)
    known = (place >= 0).nonzero().flatten()
    if not len(known):
        return new, None
    width, old = data.shape[1], data.batch(place[known])

    def moved(entries: Tensor) -> Tensor:
        entries = entries.clone()
        entries[:, 0] = known[entries[:, 0].long()].to(entries.dtype)
        return entries

    def places(pairs: Tensor) -> Tensor:
        return (pairs[:, 0] * width + pairs[:, 1]).long()

    own = [places(new.values)]
    own += [] if new.hidden is None else [new.hidden.rows * width + new.hidden.columns]  # asked of the fit: not told
    more = moved(old.values)
    values = torch.cat([new.values, more[~torch.isin(places(more), torch.cat(own))]])
    values = values[places(values).argsort()]
    gone = [] if new.unobserved is None else [new.unobserved]
    gone += [] if old.unobserved is None else [moved(old.unobserved)]
    unobserved = torch.cat(gone).unique(dim=0) if gone else None
    if unobserved is not None:
        unobserved = unobserved[~torch.isin(places(unobserved), places(values))]
        unobserved = unobserved if len(unobserved) else None
    note = f"{_counted(new, known)}: what the fit has of these is theirs, too"
    return replace(new, values=values, unobserved=unobserved), note


def noted(data: Any, test: Any) -> tuple[str, ...]:
    """Return the notes of a table with new rows beside it: that some are fitted, too.

    What is said of a new row follows from its cells alone, so that nothing else is done about it. Rows that only
    numbers name are fitted ones when all of them have the same cells there.
    """
    place = rows_by_label(data, test)
    known = place >= 0
    if all(label.removeprefix("row_").isdecimal() for label in test.row_labels):
        mine, theirs = data.values[place.clamp(min=0)], test.values.to(data.values)
        same = known.all() and bool(((mine == theirs) | (mine.isnan() & theirs.isnan())).all())
        known = known & same
    if not known.any():
        return data.notes
    said = "figures of them are not of rows that the fit has not seen"
    return (*data.notes, f"{_counted(test, known.nonzero().flatten())}; {said}")


def _counted(new: Any, known: Tensor) -> str:
    """Return how many new rows, and which, have labels of fitted ones."""
    total = len(new.row_labels)
    names = ", ".join(repr(new.row_labels[i]) for i in known[:NAMED].tolist()) + (", ..." if len(known) > NAMED else "")
    count = f"{len(known)} of {total} new rows" if len(known) < total else "the new rows"
    return f"{count} have labels of fitted rows ({names})"


def _whole(data: Any, new: Any, place: Tensor) -> Tensor:
    """Return which new rows have just the cells that ``data`` have of that row, hidden ones among them, [n] bool."""
    entries = data.values
    if data.hidden is not None:
        cells = data.hidden.rows, data.hidden.columns, data.hidden.values
        hidden = torch.stack([each.to(entries) for each in cells], 1)
        entries = torch.cat([entries, hidden[(hidden[:, 2] != 0) | data.lists_zeros]])
    total = _counts(new.values, len(place))
    mine = _counts(entries, len(data.row_labels))[place.clamp(min=0)]
    return (total > 0) & (total == mine) & (shared(data, entries, new, place) == total)


def _counts(entries: Tensor, rows: int) -> Tensor:
    return torch.bincount(entries[:, 0].long(), minlength=rows)
