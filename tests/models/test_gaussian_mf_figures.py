"""gaussian_mf: which pictures a fit gets, what they say, and that odd ratings do not break them."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import torch

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.picture import Picture
from pyrozoo.data.ratings import Ratings
from pyrozoo.models.gaussian_mf.view import View
from tests.models.test_gaussian_mf import MODEL, PLAIN

NAN = float("nan")


def ratings(rows: int = 30, columns: int = 6) -> Ratings:
    values = np.random.default_rng(0).normal(size=(rows, columns))
    values[values > 1] = NAN
    return Ratings.of(values)


def fake(data: Ratings, model=MODEL, draws: int = 3) -> Fit:
    """Return a fit that nobody computed."""
    torch.manual_seed(0)
    posterior = Posterior.of(model, data)
    one = [posterior.initial(1) for _ in range(draws)]
    values = Draws({site: torch.stack([each[site] for each in one], 1) for site in posterior.sites})
    trace = pd.DataFrame({"iteration": [1, 2, 3], "chain": 0, "objective": [0.0, 1, 2], "seconds": [0.1, 0.2, 0.3]})
    trace["train_nll"], trace["test_nll"] = [3.0, 2, 1], [3.0, NAN, 2]
    runs = pd.DataFrame({"chain": [0], "objective": [0.0], "iterations": [3], "status": ["completed"]})
    return Fit(posterior, "gibbs", "samples", values, trace, runs, "completed", "log_joint", 0.0, 3, 0.3, 0)


def named(fit: Fit) -> dict[str, Picture]:
    """Return the pictures by name, each of which can be drawn."""
    result = {picture.name: picture for picture in View().pictures(fit)}
    for picture in result.values():
        picture.figure.savefig(io.BytesIO(), format="png", dpi=30)
    return result


def test_pictures_are_those_that_the_fit_and_the_data_have_something_for():
    held = ratings().hold_out(0.2, 0)
    assert list(named(fake(held))) == ["densities", "holdout", "activity", "columns", "offsets"]
    assert list(named(fake(ratings(), PLAIN))) == ["densities", "columns"]
    without = dataclasses.replace(fake(ratings(), PLAIN), trace=pd.DataFrame({"iteration": [1], "chain": [0]}))
    assert list(named(without)) == ["columns"]


def test_curves_are_the_traces():
    left = named(fake(ratings().hold_out(0.2, 0)))["densities"].figure.axes[0]
    assert [line.get_label() for line in left.lines] == ["train", "test"]
    assert left.lines[0].get_ydata().tolist() == [3, 2, 1]
    assert left.lines[1].get_xdata().tolist() == [1, 3], "where nobody looked there is no point"


def test_the_error_in_the_title_is_that_of_the_prediction():
    fit = fake(ratings().hold_out(0.2, 0))
    error = (fit.prediction(fit.data).mean - fit.data.hidden.values).square().mean().sqrt()
    assert f"RMSE {float(error):.4g}" in named(fit)["holdout"].figure.axes[0].get_title()


def test_offsets_are_those_of_their_columns():
    fit = fake(ratings())
    axes = named(fit)["offsets"].figure.axes[0]
    mean = fit.draws["column_offsets"].mean((0, 1))
    order = mean.argsort(descending=True)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"column_{j}" for j in order.tolist()]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), mean[order].numpy())


@pytest.mark.parametrize(
    "data",
    [
        Ratings.of(np.array([[2.0]])),
        Ratings.of(np.array([[1.0, 2.0], [3.0, NAN], [2.0, 1.0]])).hold_out(0.4, 0),
        Ratings.of_columns(["a", "b"], ["cost in $", "$^{"], [1, 2]),
        Ratings.of(np.full((50, 40), 3.0)).hold_out(0.1, 0),
        Ratings.of(np.arange(20000.0).reshape(200, 100)).hold_out(0.3, 0),
    ],
    ids=["one", "few", "markup", "equal", "many"],
)
@pytest.mark.parametrize("factors", [1, 3])
def test_odd_ratings_do_not_break_them(data, factors):
    assert named(fake(data, dataclasses.replace(MODEL, num_factors=factors)))
