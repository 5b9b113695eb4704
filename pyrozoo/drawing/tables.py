"""Tables of pairs of rows and columns: predictions of chosen ones, and what to recommend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pyrozoo.core.draws import evenly
from pyrozoo.core.prediction import Prediction

TOP = 10
"""Columns recommended to each row."""

MOST_ROWS = 2000
"""Rows whose recommendations are written; of more, so many are chosen evenly."""

BLOCK = 2**22
"""Scores held at a time."""


def of_pairs(data: Any, pairs: Tensor, prediction: Prediction) -> pd.DataFrame:
    """Return pairs of rows and columns, [entry, 2], by label, with mean and 90% predictive interval."""
    return pd.DataFrame(
        {
            "row": [data.row_labels[i] for i in pairs[:, 0].tolist()],
            "column": [data.column_labels[j] for j in pairs[:, 1].tolist()],
            "mean": prediction.mean.cpu().numpy(),
            "lower_90": prediction.lower.cpu().numpy(),
            "upper_90": prediction.upper.cpu().numpy(),
        }
    )


def listed(data: Any, index: Tensor) -> Tensor:
    """Return which columns some rows list, [n, M]."""
    part = data.batch(index)
    old = torch.zeros(part.shape, dtype=torch.bool, device=data.values.device)
    old[part.pattern.rows, part.pattern.columns] = True
    return old


def best(scores: Tensor, known: Tensor, count: int) -> Tensor:
    """Return so many columns of each row, [n, count]: those unknown with the largest scores, of equals the first.

    Where a row has fewer of them, or of all, those known follow.

    Args:
        scores: Of each column, [n, M].
        known: Which columns are known, [n, M].
        count: Columns per row.
    """
    if bool(((~known).sum(1) < count).any()):
        order = scores.argsort(dim=1, descending=True, stable=True)
        return order.gather(1, known.gather(1, order).to(torch.uint8).argsort(dim=1, stable=True))[:, :count]
    # Whole rows are not sorted, but what is no less than the last of their best, which equals may share.
    unknown = scores.masked_fill(known, -torch.inf)
    rows, columns = (unknown >= unknown.topk(count, dim=1).values[:, -1:]).nonzero(as_tuple=True)
    order = unknown[rows, columns].argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]
    each = torch.bincount(rows, minlength=len(scores))
    first = each.cumsum(0) - each
    return columns[order][first[:, None] + torch.arange(count, device=order.device)]


def recommended(
    data: Any, score: Callable[[Tensor], Tensor], predict: Callable[[Tensor], Prediction], rows: Sequence[int] | None,
    count: int, seen: bool, called: str,
) -> pd.DataFrame:  # fmt: skip
    """Return the columns with the largest scores of every row, among those that it does not list.

    Args:
        data: What has been seen.
        score: Rows [n] -> how good every column is for them, [n, M].
        predict: Pairs [entry, 2] -> their predictions.
        rows: Which rows; None: all, or an even choice of very many.
        count: Columns per row.
        seen: Whether columns that the row lists follow after all others.
        called: What it is called that a row lists a column.

    Returns:
        One line per row and rank: mean and 90% predictive interval, and whether the row lists the column.
    """
    (N, M), found = data.shape, []
    chosen = evenly(N, MOST_ROWS) if rows is None else torch.as_tensor(rows, dtype=torch.long)
    for index in chosen.to(data.values.device).split(max(1, BLOCK // M)):
        known = listed(data, index)
        order = best(score(index), known, count)
        rank = torch.arange(1, order.shape[1] + 1, device=order.device)
        parts = index[:, None].expand_as(order), rank.expand_as(order), order, known.gather(1, order)
        found.append(torch.stack(parts, -1).flatten(0, 1))
    every = torch.cat(found)
    every = every if seen else every[every[:, 3] == 0]
    frame = of_pairs(data, every[:, ::2], predict(every[:, ::2]))
    frame.insert(1, "rank", every[:, 1].cpu().numpy())
    return frame.assign(**{called: every[:, 3].bool().cpu().numpy()})
