"""What can be asked of a fitted factorization: predictions of pairs, what to recommend, new rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.ratings import Ratings
from pyrozoo.drawing.tables import TOP, of_pairs, recommended
from pyrozoo.math.mixture import RunningPrediction
from pyrozoo.models.gaussian_mf import point
from pyrozoo.models.gaussian_mf.likelihood import Listed, expected, linear
from pyrozoo.models.gaussian_mf.model import GaussianMF

MOST_DRAWS, SCORE_DRAWS = 1000, 100
"""Posterior draws used by a prediction, of which more change nothing that a reader could see; and behind the expected
ratings of whole rows."""

BLOCK = 2**22
"""Numbers of gathered factors held at a time."""


def noise_variance(model: GaussianMF, draws: Values) -> Float[Tensor, "*b"]:
    """Return s^2 of every draw."""
    U = draws["row_factors"]
    return draws.get("noise_variance", U.new_tensor(model.noise_variance).expand(U.shape[:-2]))


def log_densities(
    model: GaussianMF, draws: Values, pairs: Int[Tensor, "entry 2"], truth: Float[Tensor, entry]
) -> Float[Tensor, "*b entry"]:
    """Return log N(r | expected, s^2) of some ratings for every draw."""
    s = noise_variance(model, draws).unsqueeze(-1)
    return -0.5 * ((truth - expected(draws, pairs)).square() / s + (2 * math.pi * s).log())


def predictive(
    model: GaussianMF, draws: Values, pairs: Int[Tensor, "entry 2"], truth: Float[Tensor, entry]
) -> Prediction:
    """Predict ratings: mean, 90% interval, log density and PIT of a mixture of normals over draws.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event].
        pairs: Rows and columns, in any order.
        truth: Their ratings; NaN where nobody knows them.
    """
    some, parts = Draws(draws).some(MOST_DRAWS), []
    per_block = max(1, BLOCK // model.num_factors)
    for index in torch.arange(len(pairs)).split(max(1, min(per_block, 2**16))) if len(pairs) else ():
        running = RunningPrediction(truth[index])
        for part in some.flat_blocks(per_block // len(index)):
            running.add(expected(part, pairs[index]), noise_variance(model, part)[:, None])
        parts.append(running.prediction())
    return Prediction.joined(parts, truth)


def predictions(
    model: GaussianMF, draws: Values, data: Ratings, pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:  # fmt: skip
    """Predict the ratings of chosen pairs.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event].
        data: Its labels.
        pairs: Labels of a row and of a column.

    Returns:
        One line per pair: mean and 90% predictive interval.

    Raises:
        DataError: A label that the data do not have.
    """
    places = [{label: i for i, label in enumerate(names)} for names in (data.row_labels, data.column_labels)]
    for pair in pairs:
        for label, place, what in zip(pair, places, ("row", "column"), strict=True):
            if label not in place:
                raise DataError(f"{data.name} has no {what} {label!r}")
    index = torch.tensor([[place[label] for label, place in zip(pair, places, strict=True)] for pair in pairs])
    index = index.reshape(-1, 2)  # also where there are none
    return of_pairs(data, index, _unknown(model, draws, data, index))


def _unknown(model: GaussianMF, draws: Values, data: Ratings, pairs: Tensor) -> Prediction:
    """Predict pairs whose ratings nobody knows."""
    return predictive(model, draws, pairs, data.values.new_full((len(pairs),), torch.nan))


def recommend(
    model: GaussianMF, draws: Values, data: Ratings, rows: list[int] | None = None, count: int = TOP, seen: bool = False
) -> pd.DataFrame:
    """Recommend columns to rows: those that a row has not rated, by expected rating.

    Args:
        model: The model.
        draws: Site -> [chain, draw, *event], with a row factor for every row of the data.
        data: What has been rated.
        rows: Which rows; None: all, or an even choice of very many.
        count: Columns per row.
        seen: Whether columns that the row has rated follow after all others.

    Returns:
        One line per row and rank: mean and 90% predictive interval of the rating, and whether it was rated.
    """
    some = Draws(draws).some(SCORE_DRAWS)
    U, V, mean, a, b = linear(some.flat())

    def score(index: Tensor) -> Tensor:
        """Return means over draws of u_i . v_j, one product per draw: never draws x rows x columns."""
        total = b.mean(0) + (a[:, index] + mean[:, None]).mean(0)[:, None]
        for u, v in zip(U[:, index], V, strict=True):
            total.addmm_(u, v.T, alpha=1 / len(U))
        return total

    return recommended(data, score, lambda each: _unknown(model, some, data, each), rows, count, seen, "rated")


def fold_in(posterior: Posterior, draws: Values, rows: Ratings, most: int = SCORE_DRAWS) -> Draws:
    """Give new rows factors and offsets without fitting anew.

    For every draw of all else, a new row's factors have a normal conditional in closed form and are drawn from it.

    Args:
        posterior: What was fitted.
        draws: Site -> [chain, draw, *event] of the fit.
        rows: New rows; their columns are matched by label.
        most: Draws used.

    Returns:
        Draws with the row factors (and offsets) of the new rows, [1, draw, *event], for ``recommend`` and others.
    """
    model, rows, few = posterior.model, posterior.data.matched(rows), Draws(draws).some(most).flat()
    times = max(1, most // len(few["column_factors"]))  # of a point the rows alone are drawn again and again
    some = {site: value.repeat_interleave(times, 0) for site, value in few.items()}
    with seeded(0):
        # A state of as many chains as draws, of which only the rows are not yet known: these depend on all else.
        V, n = some["column_factors"], rows.shape[0]
        start = {"row_factors": V.new_zeros(len(V), n, V.shape[-1]), "row_offsets": V.new_zeros(len(V), n)}
        state = point.complete(model, {site: (start if site in start else some)[site] for site in posterior.sites})
        conditional, _ = point.conditional(model, Listed(rows, model.offsets), state, "row")
        state = point.with_block(state, "row", conditional.draw("the precision of a new row's factors"))
    return Draws({site: getattr(state, site).unsqueeze(0) for site in posterior.sites})
