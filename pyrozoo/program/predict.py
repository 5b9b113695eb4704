"""Predictions of hidden cells from the program itself: the observed site's distribution at the draws, as a mixture."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.infer import config_enumerate, infer_discrete
from torch import Tensor

from pyrozoo.core.draws import Draws
from pyrozoo.core.prediction import Prediction
from pyrozoo.program.trace import Program

RUNS = 100
"""Runs of the program behind a prediction, each at a draw; one draw, such as a point, is run again and again."""

REPEATS = 10
"""Values drawn in each of them, for intervals."""


def predict_cells(
    program: Program, sites: Sequence[str], draws: Draws, data: Any, depth: int, truth: Tensor, hidden: Any
) -> Prediction:  # fmt: skip
    """Predict hidden cells; discrete sites are drawn given the observed cells.

    Args:
        program: The program.
        sites: Its observed sites: one for all cells, or one for every column.
        draws: Site -> [chain, draw, *event].
        data: Its argument, hidden cells masked.
        depth: What its plates take.
        truth: The data's values with those of the hidden cells in their places.
        hidden: The hidden cells.

    Returns:
        A mixture over draws, cell by cell.
    """
    at = hidden.rows, hidden.columns
    columns = [truth] if len(sites) == 1 else list(truth.unbind(1))
    means, logs, samples = [], [], []
    few = list(draws.some(RUNS).each())
    for draw in few * math.ceil(RUNS / len(few)):
        conditioned = config_enumerate(poutine.condition(program, data=draw), default="parallel")
        drawn = infer_discrete(conditioned, first_available_dim=-1 - depth, temperature=1)
        with warnings.catch_warnings():  # a program without discrete sites is none to be warned of
            warnings.filterwarnings("ignore", message="infer_discrete found no sample sites")
            nodes: Any = poutine.trace(drawn).get_trace(data).nodes
        found = [_bare(nodes[site]["fn"], column) for site, column in zip(sites, columns, strict=True)]
        means.append(_joined([each.mean for each in found])[at])
        logs.append(_joined([each.log_prob(column) for each, column in zip(found, columns, strict=True)])[at])
        samples += [_joined([each.sample() for each in found])[at] for _ in range(REPEATS)]
    values = torch.stack(samples)
    ends = torch.quantile(values, values.new_tensor([0.05, 0.95]), dim=0, interpolation="nearest")
    x = hidden.values
    less, equal = (values < x).to(x.dtype).mean(0), (values == x).to(x.dtype).mean(0)
    log_density = torch.stack(logs).logsumexp(0) - math.log(len(logs))
    return Prediction(torch.stack(means).mean(0), ends[0], ends[1], log_density, less + torch.rand_like(x) * equal)


def _bare(fn: Any, like: Tensor) -> Any:
    """Return a distribution without its mask, of the shape of the cells."""
    while hasattr(fn, "_mask"):
        fn = fn.base_dist
    return fn.expand(like.shape)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(list(parts), 1)
