"""Rows and columns in another order: every figure, table and name follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.view import view_of
from pyrozoo.core.draws import Draws
from pyrozoo.data.responses import Responses
from pyrozoo.data.triplets import Triplets
from tests.models.test_recorded import MODELS, Variant, fit_of

pytestmark = pytest.mark.usefixtures("unchecked")

CHANCE = {"num_clusters", "clusters"}
"""Tables and figures that are drawn: of clusters that have a row."""

SIDES = {"row": 0, "column": 1}


def permuted(data: Any, side: str, order: torch.Tensor) -> Any:
    """Return data with its rows, or its columns, in an order."""
    axis = SIDES[side]
    labels = {f"{side}_labels": [getattr(data, f"{side}_labels")[i] for i in order.tolist()]}
    if isinstance(data, Responses):
        labels["covariates"] = data.covariates[order]
    if not isinstance(data, Triplets):
        return replace(data, values=data.values.index_select(axis, order), **labels)
    values = data.values.clone()
    values[:, axis] = order.argsort()[values[:, axis].long()].to(values)
    keys = values[:, 0] * data.shape[1] + values[:, 1]
    return replace(data, values=values[keys.argsort()], **labels)


def turned(fit: Fit, side: str, order: torch.Tensor) -> Fit:
    """Return a fit with the rows, or the columns, of its data and draws in an order."""
    posterior = Posterior.of(fit.model, permuted(fit.data, side, order))
    draws = {}
    for site, dims in fit.posterior.sites.items():
        value = fit.draws[site]
        for axis, dim in enumerate(dims, 2):
            value = value.index_select(axis, order) if dim.strip("_") == side else value
        draws[site] = value
    return replace(fit, posterior=posterior, draws=Draws(draws))


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without intervals, which have luck in them, and lists that have ties, in an order of its words."""
    kept = table[[name for name in table if not any(word in name for word in ("lower", "upper", "top_lift"))]]
    words = [name for name in kept if kept[name].dtype.kind not in "f"]
    return kept.sort_index(axis=1).sort_values(words, ignore_index=True)


@pytest.mark.parametrize("model", [name for name in MODELS if name not in ("potts_grid", "hidden_markov")])
def test_what_is_said_of_rows_and_columns_follows_their_names(model):
    """Of images and sequences the order means something; of coefficients and categories columns are no dimension."""
    fit = fit_of(model, Variant(hide=0.0, test=False, missing=0.0, kind="variational"))
    follows(fit, "row")
    if any("column" in dims for dims in fit.posterior.sites.values()):
        follows(fit, "column")


def follows(fit: Fit, side: str) -> None:
    """Hold tables, rows and figures of a fit to those of another order."""
    order = torch.as_tensor(np.random.default_rng(1).permutation(fit.data.shape[SIDES[side]]))
    view, other = view_of(fit.model), turned(fit, side, order)
    one, two = view.tables(fit), view.tables(other)
    assert list(one) == list(two)
    for name in set(one) - CHANCE:
        pd.testing.assert_frame_equal(plain(one[name]), plain(two[name]), rtol=1e-5, atol=1e-8, check_dtype=False)
    place = order if side == "row" else torch.arange(fit.data.shape[0])
    rows = view.rows(fit, fit.data).iloc[place.tolist()].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, view.rows(other, other.data), rtol=1e-5, atol=1e-8)
    own, theirs = view.metrics(fit), view.metrics(other)
    assert list(own) == list(theirs)
    for name in set(own) - CHANCE:
        assert own[name] == pytest.approx(theirs[name], rel=1e-5), name
