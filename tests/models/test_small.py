"""What every model shows of data that are as small, as full or as equal as they can be."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import pyrozoo
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import UserError
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.run import catalog

SHAPES = [(1, 1), (1, 3), (3, 1), (3, 2)]
CONTAINERS = {"poisson_mf": Triplets, "gaussian_mf": Ratings, "zip_mixture": Table, "factor_analysis": Table}
QUICK = {"restarts": 1, "max_iterations": 5, "progress": False}
pytestmark = pytest.mark.usefixtures("unchecked")


def data_of(model: str, shape: tuple[int, int], kind: str):
    """Return data without a zero or a hole: all different, all one, or all rows but the first hidden."""
    values = np.ones(shape) if kind == "equal" else np.arange(1.0, 1 + shape[0] * shape[1]).reshape(shape)
    if kind != "one row left":
        return values
    pairs = torch.cartesian_prod(torch.arange(1, shape[0]), torch.arange(shape[1]))
    data = CONTAINERS[model].of(values)
    return data.hide(pairs) if isinstance(data, Triplets) else data.hide(*pairs.T)


KINDS = [(model, kind) for model in catalog.models() for kind in ("full", "equal")]
KINDS += [(model, "one row left") for model in CONTAINERS]


@pytest.mark.parametrize(("model", "kind"), KINDS)
def test_every_table_and_picture_is_made(model, kind):
    method = next(each for each in ("cavi", "em", "vem") if each in catalog.methods(model))
    for shape in SHAPES:
        if kind == "one row left" and shape[0] == 1:
            continue
        try:
            fit = pyrozoo.fit(model, method, data=data_of(model, shape, kind), **QUICK)
        except UserError:
            continue  # refused by name: a survey of one answer, say
        view = view_of(fit.model)
        view.metrics(fit)
        for table in view.tables(fit).values():
            assert not table.select_dtypes("number").isna().any().any()
        for picture in view.pictures(fit):
            if shape == (1, 1):  # drawing takes most of the time
                picture.figure.savefig(io.BytesIO(), format="png", dpi=30)
        plt.close("all")


@pytest.mark.parametrize("model", ["poisson_mf", "gaussian_mf"])
def test_where_nothing_is_left_the_recommendations_are_empty(model):
    full = np.arange(1.0, 25.0).reshape(6, 4)
    fit = pyrozoo.fit(model, "cavi", data=full, **QUICK)
    table = view_of(fit.model).tables(fit)["recommendations"]
    assert len(table) == 0
    assert table.columns[:6].tolist() == ["row", "rank", "column", "mean", "lower_90", "upper_90"]
