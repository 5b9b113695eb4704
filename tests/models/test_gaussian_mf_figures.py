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
from pyrozoo.models.gaussian_mf.view import View, _baseline, _biases
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


def listed(*triplets: tuple[int, int, float], hidden: tuple[int, int] = (0, 0)) -> Ratings:
    rows, columns = 1 + max(t[0] for t in triplets), 1 + max(t[1] for t in triplets)
    values = np.full((rows, columns), NAN)
    for i, j, rating in triplets:
        values[i, j] = rating
    return Ratings.of(values).hide(torch.tensor([hidden]))


def test_biases_are_shrunk_by_what_is_noise():
    """By hand: groups (1, 3), (5, 7) about 4: within 2, between (16 - 2) / (4 - 2) = 7, lambda 2 / 7."""
    values, group = torch.tensor([-3.0, -1, 1, 3]).double(), torch.tensor([0, 0, 1, 1])
    expected = 4 / (2 + 2 / 7)
    torch.testing.assert_close(_biases(values, group, 3), torch.tensor([-expected, expected, 0.0]).double())
    # Two groups of equal means say nothing of a difference, nor do groups of one value.
    assert not _biases(values, torch.tensor([0, 1, 1, 0]), 2).any()
    assert not _biases(values, torch.arange(4), 4).any()


def test_the_baseline_is_the_mean_and_shrunk_biases_of_columns_and_rows():
    """By hand: columns (1, 3), (5, 7) have biases -1.75 and 1.75; what they leave, row by row, says nothing of rows."""
    data = listed((0, 0, 1.0), (1, 0, 3.0), (0, 1, 5.0), (1, 1, 7.0), (2, 1, 100.0), hidden=(2, 1))
    left = torch.tensor([1 - 4 + 1.75, 5 - 4 - 1.75, 3 - 4 + 1.75, 7 - 4 - 1.75]).double()
    rows = _biases(left, torch.tensor([0, 0, 1, 1]), 3)
    assert rows[0] < 0 < rows[1]
    assert float(_baseline(data)) == pytest.approx(4 + 1.75)
    other = listed((0, 0, 1.0), (1, 0, 3.0), (0, 1, 5.0), (1, 1, 7.0), hidden=(1, 1))
    assert len(_baseline(other)) == 1


@pytest.mark.parametrize("biased", [0.0, 0.5])
def test_the_baseline_is_no_worse_than_the_mean(biased):
    """With two ratings per row, whether or not rows and columns differ; undamped means lose by a tenth and more."""
    damped, undamped = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        ratings = 3.5 + biased * (rng.normal(size=(300, 1)) + rng.normal(size=200)) + rng.normal(size=(300, 200))
        ratings[rng.random(ratings.shape) > 0.014] = NAN
        data = Ratings.of(ratings).hold_out(0.3, 0)
        truth, mean = data.hidden.values, data.counts.mean()
        known = data.statistics(data.values, "ratings")
        row, column = (torch.as_tensor(known[f"mean_by_{name}"][1]) for name in ("row", "column"))
        means = row[data.hidden.rows] + column[data.hidden.columns] - mean
        guesses = (_baseline(data), means, mean)
        error, raw, of_mean = (float((each - truth).square().mean().sqrt()) for each in guesses)
        damped.append(error / of_mean)
        undamped.append(raw / of_mean)
    assert np.mean(damped) < (0.97 if biased else 1.01)
    assert np.mean(undamped) > 1.1
