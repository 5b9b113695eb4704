"""factor_analysis: which pictures a fit gets, what they say, and that odd tables do not break them."""

from __future__ import annotations

import dataclasses
import io
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import pyrozoo
from pyrozoo.contracts.fit import Fit, Kind
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.view import view_of
from pyrozoo.core.draws import Draws
from pyrozoo.core.picture import Picture
from pyrozoo.data.table import Table
from pyrozoo.drawing import predictions
from pyrozoo.models.factor_analysis import view
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from tests.models.test_factor_analysis import make

NAN = float("nan")


def low_rank(rows: int, columns: int, rank: int = 2) -> np.ndarray:
    generator = np.random.default_rng(0)
    signal = generator.normal(size=(rows, rank)) @ generator.normal(size=(rank, columns))
    return signal + 0.3 * generator.normal(size=(rows, columns))


def fake(data: Table, factors: int = 2, draws: int = 1, kind: Kind = "point") -> Fit:
    """Return a fit that nobody computed: draws near the moments of the columns."""
    generator, D = torch.Generator().manual_seed(0), data.shape[1]
    like = {"generator": generator, "dtype": data.values.dtype}
    values = {
        "loadings": torch.randn(1, draws, D, factors, **like),
        "mean": 0.1 * torch.randn(1, draws, D, **like),
        "noise_variance": 0.5 + torch.rand(1, draws, D, **like),
    }
    trace = pd.DataFrame({"iteration": [1], "chain": [0], "objective": [0.0], "seconds": [0.1]})
    runs = pd.DataFrame({"chain": [0], "objective": [0.0], "iterations": [1], "status": ["converged"]})
    posterior = Posterior.of(make(factors), data)
    return Fit(posterior, "em", kind, Draws(values), trace, runs, "converged", "log_joint", 0.0, 1, 0.1, 0)


def named(fit: Fit) -> dict[str, Picture]:
    """Return the pictures by name."""
    result = {picture.name: picture for picture in view_of(fit.model).pictures(fit)}
    for picture in result.values():
        assert picture.caption.endswith(".")
        assert "nan" not in picture.caption
    return result


def drawn(fit: Fit) -> dict[str, Picture]:
    """Return the pictures by name after drawing every one of them, without a warning."""
    result = named(fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for picture in result.values():
            picture.figure.savefig(io.BytesIO(), format="png", dpi=40)
    return result


def images(rows: int = 30, shape: tuple[int, int] = (4, 5)) -> Table:
    return Table.of(low_rank(rows, shape[0] * shape[1])).with_image_shape(shape)


# Which pictures -------------------------------------------------------------------------------------------------------


def test_many_columns_have_no_correlation_and_no_labels():
    found = named(fake(Table.of(low_rank(20, view.MOST_CORRELATED + 1)), factors=3))
    assert set(found) == {"factors", "mean_and_noise", "scree"}
    assert "correlation" in named(fake(Table.of(low_rank(20, view.MOST_CORRELATED))))


def test_sampling_has_errors_by_sweep():
    settings = {"chains": 2, "warmup": 4, "draws": 4, "thin": 1, "num_factors": 2, "progress": False}
    fit = pyrozoo.fit("factor_analysis", "gibbs", data=low_rank(40, 6), holdout=0.1, **settings)
    picture = named(fit)["reconstruction_error"]
    naive = view_of(fit.model).metrics(fit)["mean_imputation_rmse"]
    assert f"{fit.trace['average_rmse'].iloc[-1]:.4g}, where means of columns give {naive:.4g}" in picture.caption
    left, right = picture.figure.axes
    assert left.get_xlabel() == "sweep"
    assert right.get_xlabel() == "seconds"
    assert len(left.lines) == 2 + 1 + 1  # a line per chain, their average, means of columns


def test_test_rows_with_hidden_values():
    test = Table.of(low_rank(8, 6)).hold_out(0.2, 1)
    assert "completion" in named(fake(Table.of(low_rank(40, 6)).with_test(test)))
    assert "completion" not in named(fake(Table.of(low_rank(40, 6)).with_test(Table.of(low_rank(8, 6)))))


# What they show -------------------------------------------------------------------------------------------------------


def test_filled_pixels_are_those_of_the_prediction():
    table = images().hold_out(0.2, 0)
    fit = fake(table)
    rows = torch.tensor([3, 17, 29])
    mean, sd = view._fill(fit, rows)
    missing = table.values[rows].isnan()
    assert torch.equal(~mean.isnan(), missing)
    assert torch.equal(~sd.isnan(), missing)
    assert torch.allclose(mean[missing], view.completed(fit, table)[rows][missing])
    model, W = fit.model, fit.draws["loadings"][0, 0]
    assert isinstance(model, FactorAnalysis)
    assert model.isotropic
    seen = ~missing[0]
    noise = fit.draws["noise_variance"][0, 0]
    precision = torch.eye(2, dtype=W.dtype) + W[seen].mT @ (W[seen] / noise[seen, None])
    spread = (noise + (W @ torch.linalg.inv(precision) * W).sum(-1)).sqrt()
    assert torch.allclose(sd[0][missing[0]], spread[missing[0]])


def test_pixels_that_nobody_knows_are_filled_too():
    values = low_rank(30, 20)
    values[::3, 4:7] = NAN
    unknown = Table.of(values).with_image_shape((4, 5))
    picture = named(fake(unknown))["reconstruction"]
    assert len([axes for axes in picture.figure.axes if axes.get_ylabel() == "truth"]) == 0
    both = unknown.hold_out(0.1, 0)
    fit, rows = fake(both), torch.arange(0, 30, 3)
    mean, _ = view._fill(fit, rows)
    assert torch.allclose(mean.nan_to_num(), torch.where(both.observed, 0.0, view.completed(fit, both))[rows])
    assert "truth" in [axes.get_ylabel() for axes in named(fit)["reconstruction"].figure.axes]


def test_images_shown_have_holes_of_every_kind():
    table = images(60, (10, 10))
    holes = torch.zeros(60, 10, 10, dtype=torch.bool)
    holes[:20, ::3, ::3] = True
    holes[20:40, 4] = True
    holes[40:50, 3:7, 3:7] = True
    chosen = view._images_to_show(holes.flatten(1), table)
    assert len(chosen) == view.MOST_IMAGES == len(set(chosen.tolist()))
    assert [int(((chosen >= low) & (chosen < low + 20)).sum()) for low in (0, 20, 40)] == [4, 4, 2]
    assert chosen.max() < 50  # the last ten have no holes


def test_scree_counts_components():
    table = Table.of(low_rank(200, 20, 3)).hold_out(0.3, 0)
    shares = np.linalg.svd((x := low_rank(200, 20, 3)) - x.mean(0), compute_uv=False) ** 2
    needed = int(np.argmax(np.cumsum(shares) / shares.sum() >= 0.9)) + 1
    caption = named(fake(table))["scree"].caption
    assert f"{needed} with true data" in caption
    assert "means in place of holes" in caption


@pytest.mark.parametrize("shape", [(7, 30), (30, 7)])
def test_spectrum_of_wide_and_tall_tables(shape):
    values = low_rank(*shape)
    expected = np.linalg.svd(values - values.mean(0), compute_uv=False) ** 2
    shares = view._variance_shares(torch.as_tensor(values))
    assert np.allclose(shares[:7], (expected / expected.sum())[:7])


def test_spectra_of_large_tables_take_some_rows(monkeypatch):
    table = Table.of(low_rank(50, 4))
    monkeypatch.setattr(view, "MOST_ROWS", 10)
    assert view._rows_for_spectrum(table).tolist() == [0, 5, 11, 16, 22, 27, 33, 38, 44, 49]
    assert "10 of 50 rows" in named(fake(table))["scree"].caption
    assert len(view._rows_for_spectrum(Table.blank(1, 4))) == 1


def test_columns_of_uneven_scales_are_standardised():
    values = low_rank(50, 6) * np.array([1, 1, 1, 1, 1, 1e4])
    found = named(fake(Table.of(values).hold_out(0.1, 0)))
    assert "standardised" in found["scree"].caption
    assert "in sds of its column" in found["holdout"].figure.axes[0].get_xlabel()
    assert "standardised" not in named(fake(Table.of(low_rank(50, 6))))["scree"].caption


def test_wild_predictions_are_counted_not_named(monkeypatch):
    table = Table.of(low_rank(100, 10)).hold_out(0.3, 0)
    fit = fake(table)
    prediction = fit.prediction(table)
    prediction.mean[7] = 1e6
    monkeypatch.setattr(predictions, "MOST_POINTS", 100)
    monkeypatch.setattr(predictions, "OUTSIDE", 0.01)
    holdout = named(fit)["holdout"]
    assert "beyond the axes" in holdout.caption
    assert holdout.figure.axes[0].get_xlim()[1] < 1000


# Odd tables -----------------------------------------------------------------------------------------------------------


def one_hidden(table: Table, row: int = 0) -> Table:
    return table.hide(torch.tensor([row]), torch.tensor([0]))


ODD = {
    "one row": Table.of(low_rank(1, 5)),
    "one column": Table.of(low_rank(20, 1)),
    "one cell": Table.of(np.array([[1.0]])),
    "one column, a hidden entry": one_hidden(Table.of(low_rank(20, 1))),
    "two rows": one_hidden(Table.of(low_rank(2, 5))),
    "constant column": Table.of(np.concatenate([low_rank(20, 3), np.full((20, 1), 7.0)], 1)).hold_out(0.2, 0),
    "all constant": Table.of(np.full((20, 4), 7.0)).hold_out(0.2, 0),
    "one image": images(1),
    "one image with a hole": one_hidden(images(2)),
    "images of one line": images(20, (1, 12)).hold_out(0.1, 0),
    "images of one pixel": images(20, (1, 1)).hold_out(0.1, 0),
    "tall images": images(20, (16, 1)).hold_out(0.1, 0),
    "blank images": Table.of(np.zeros((20, 12))).with_image_shape((3, 4)).hold_out(0.2, 0),
    "hidden rows": Table.of(low_rank(20, 4)).hide(
        torch.arange(2).repeat_interleave(4), torch.arange(4).repeat(2)
    ),
    "hidden images": images(20, (2, 2)).hide(torch.arange(2).repeat_interleave(4), torch.arange(4).repeat(2)),
    "single precision": images().hold_out(0.1, 0).to("cpu", torch.float32),
    "long labels": dataclasses.replace(
        Table.of(low_rank(20, 3)), column_labels=["a very long label " * 5, r"$\no$ $x_1", "naïve_é"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_tables(name):
    table = ODD[name]
    found = drawn(fake(table))
    assert {"factors", "mean_and_noise"} <= set(found)
    assert ("holdout" in found) == (table.hidden is not None)


@pytest.mark.parametrize("method", ["em", "pca"])
def test_more_factors_than_columns(method):
    fit = pyrozoo.fit("factor_analysis", method, data=low_rank(20, 3), num_factors=5, progress=False)
    assert set(drawn(fit)) == {"factors", "mean_and_noise", "scree", "correlation"}


def test_many_factors_show_the_largest():
    found = named(fake(images(), factors=view.MOST_FACTORS + 3))
    assert "the 25 largest of 28 factors" in found["factors"].caption
