"""poisson_mf: which pictures a fit gets, what they show, and that odd data and odd names do not break them."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import poisson

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.picture import Picture
from pyrozoo.data.triplets import Triplets
from pyrozoo.drawing import labels
from pyrozoo.drawing.tables import best
from pyrozoo.models.poisson_mf import queries, view
from pyrozoo.models.poisson_mf.model import PoissonMF

pytestmark = pytest.mark.filterwarnings("error")
NAN = float("nan")
GENERATOR = np.random.default_rng(0)
COUNTS = GENERATOR.poisson(GENERATOR.gamma(0.5, 2.0, (40, 2)) @ GENERATOR.gamma(0.5, 2.0, (2, 30))).astype(float)
ODD_NAMES = [
    "久石譲", "Сплин", "AC$DC $x$", "two\nlines\tand a tab", "", "\x00\ud800", "久石譲 (live)", "🎵🎶", "हिन्दी", "שלום",
    "\\frac$ \\$ ^_{", "%s {0}", "W" * 50, "a name that goes on and on", "= !", "久" * 30,
]  # fmt: skip


def fake(data: Triplets, factors: int = 3, draws: int = 4) -> Fit:
    """Return a fit that nobody computed: factors at random."""
    generator, (N, M) = torch.Generator().manual_seed(0), data.shape
    like = {"generator": generator, "dtype": data.values.dtype}
    values = {
        "row_factors": torch.rand(1, draws, N, factors, **like) ** 3,
        "column_factors": torch.rand(1, draws, M, factors, **like) ** 3,
    }
    model = PoissonMF(factors, 0.5, 1.0, 0.5, 1.0, False, 1.0)
    trace = pd.DataFrame({"iteration": [1], "chain": [0], "objective": [0.0], "seconds": [0.1]})
    runs = pd.DataFrame({"chain": [0], "objective": [0.0], "iterations": [1], "status": ["converged"]})
    posterior = Posterior.of(model, data)
    return Fit(posterior, "cavi", "variational", Draws(values), trace, runs, "converged", "elbo", 0.0, 1, 0.1, 0)


def named(fit: Fit) -> dict[str, Picture]:
    """Return the pictures by name."""
    result = {picture.name: picture for picture in view.View().pictures(fit)}
    for picture in result.values():
        assert picture.caption.endswith(".")
        assert "nan" not in picture.caption
    return result


def draw(*pictures: Picture) -> None:
    """Draw pictures; warnings are errors in this file."""
    for picture in pictures:
        picture.figure.savefig(io.BytesIO(), format="png", dpi=40)


def with_truth(data: Triplets, factors: int = 2) -> Triplets:
    generator = torch.Generator().manual_seed(1)
    shapes = zip(("row_factors", "column_factors"), data.shape, strict=True)
    truth = {site: torch.rand(size, factors, generator=generator, dtype=torch.float64) for site, size in shapes}
    return dataclasses.replace(data, truth=truth)


def texts(picture: Picture) -> list[str]:
    """Return what is written in the first axes of a picture."""
    axes = picture.figure.axes[0]
    return [text.get_text() for text in (*axes.texts, *axes.get_xticklabels())]


# Which pictures -------------------------------------------------------------------------------------------------------


def test_hidden_zeros_are_not_ranked():
    row, column = np.argwhere(COUNTS == 0)[0]
    found = named(fake(Triplets.of(COUNTS).hide(torch.tensor([[row, column]]))))
    assert "holdout" in found
    assert "ranking" not in found


@pytest.mark.parametrize("columns", [30, 29])
def test_truth_of_another_shape_is_no_truth(columns):
    truth = {"row_factors": torch.ones(40, 2), "column_factors": torch.ones(columns, 2)}
    found = named(fake(dataclasses.replace(Triplets.of(COUNTS), truth=truth)))
    assert ("true factor" in found["rates"].caption) == (columns == 30)


# What they show -------------------------------------------------------------------------------------------------------


def test_genres_are_those_of_the_table():
    data = Triplets.of(COUNTS)
    fit = fake(data)
    frame = queries.genres(fit.aligned.means(), data, view.LISTED)
    axes = named(fit)["genres"].figure.axes
    assert len(axes) == 3
    shares = frame.groupby("factor")["share"].first()
    for axis, k in zip(axes, shares.sort_values(ascending=False).index, strict=True):
        part = frame[frame["factor"] == k]
        assert [text.get_text() for text in axis.texts[::2]] == part["column"].tolist()
        assert [text.get_text() for text in axis.texts[1::2]] == [*map(labels.percent, part["weight"])]
        assert [bar.get_width() for bar in axis.patches] == pytest.approx(part["weight"] / part["weight"].max())
        assert axis.get_title(loc="left") == f"factor {k}: {shares[k]:.0%} of all"


def test_many_factors_show_the_largest():
    found = named(fake(Triplets.of(COUNTS), factors=view.MOST_FACTORS + 1))
    assert len(found["genres"].figure.axes) == view.MOST_GENRES
    assert "12 largest of 21 factors" in found["genres"].caption
    assert "20 largest of 21 factors" in found["loadings"].caption
    assert found["loadings"].figure.axes[0].images[0].get_array().shape[0] == view.MOST_FACTORS


def test_loadings():
    data = Triplets.of(COUNTS)
    fit = fake(data)
    theta, eta = (fit.aligned.means()[site] for site in ("row_factors", "column_factors"))
    order = theta.sum(0).argsort(descending=True)
    picture = named(fit)["loadings"]
    columns = [data.column_labels.index(label) for label in texts(picture)]
    assert len(columns) == len(set(columns)) <= 3 * view.LISTED
    left, right = (axes.images[0].get_array() for axes in picture.figure.axes[:2])
    assert np.allclose(left, eta[columns][:, order].T)
    assert set(eta[:, order[0]].argsort(descending=True)[: view.LISTED].tolist()) == set(columns[: view.LISTED])
    assert np.allclose(right.sum(0), 1)
    assert right.shape == (3, 40)
    assert (np.diff(right.argmax(0)) >= 0).all()
    assert "√ scale" in picture.figure.axes[2].get_ylabel()


def test_rates_are_true_and_inferred():
    data = with_truth(Triplets.of(COUNTS))
    fit = fake(data)
    true = data.truth["row_factors"] @ data.truth["column_factors"].T
    theta, eta = fit.draws["row_factors"][0], fit.draws["column_factors"][0]
    axes = view._true_rates(fit, *data.truth.values()).figure.axes
    first, second = (each.images[0] for each in axes[:2])
    assert first.norm.vmin == second.norm.vmin
    assert first.norm.vmax == second.norm.vmax
    low = first.norm.vmin
    for image, rates in ((first, true), (second, (theta @ eta.mT).mean(0))):
        assert image.get_array().shape == (40, 30)
        assert np.allclose(np.sort(image.get_array().ravel()), np.sort(rates.numpy().clip(min=low).ravel()))
    points = axes[2].lines[0].get_xydata()
    assert np.allclose(points[:, 0].clip(min=low), first.get_array().ravel())
    assert np.allclose(points[:, 1].clip(min=low), second.get_array().ravel())
    # Rows of the first image follow each other by their largest true factor.
    of_rows = data.truth["row_factors"] * data.truth["column_factors"].sum(0)
    place = [int((true.clip(min=low) - torch.as_tensor(np.asarray(first.get_array())[i, :1])).abs().min(1)[0].argmin())
             for i in range(40)]  # fmt: skip
    assert (of_rows[place].argmax(1).diff() != 0).sum() == 1


def test_listed_counts_against_expected():
    data = Triplets.of(COUNTS)
    fit = fake(data)
    theta, eta = fit.draws["row_factors"][0], fit.draws["column_factors"][0]
    row, column = data.values[:, :2].long().unbind(1)
    points = view._listed_rates(fit).figure.axes[0].lines[0].get_xydata()
    assert len(points) == len(data.values)
    assert np.allclose(points[:, 1], data.counts)
    expected = (theta @ eta.mT).mean(0)[row, column].numpy()
    assert np.allclose(points[:, 0], expected.clip(min=points[:, 0].min()))


def test_counting_cells_loses_none(monkeypatch):
    monkeypatch.setattr(view, "MOST_POINTS", 50)
    data = with_truth(Triplets.of(COUNTS))
    truth = view._true_rates(fake(data), *data.truth.values())
    for picture, axes, cells in ((view._listed_rates(fake(data)), 0, len(data.values)), (truth, 2, COUNTS.size)):
        draw(picture)
        squares = picture.figure.axes[axes].collections[0].get_array()
        assert np.nansum(np.ma.filled(squares, NAN)) == cells


@pytest.mark.parametrize("of", ["all", "listed"])
def test_holdout(of, monkeypatch):
    monkeypatch.setattr(view, "MOST_INTERVALS", 60)
    data = Triplets.of(COUNTS).hold_out(0.3, 0, of)
    assert data.hidden is not None
    fit = fake(data)
    picture = view._holdout(fit)
    left = picture.figure.axes[0]
    points = np.concatenate([line.get_xydata() for line in left.lines if line.get_marker() == "."])
    assert len(points) == 60 < len(data.hidden.values)
    assert set(points[:, 0].round()) <= set(data.hidden.values.tolist())
    assert np.isin(points[:, 1], fit.prediction(data).mean.numpy()).all()
    inside = {tuple(each) for each in left.lines[0].get_xydata()}
    for line in left.collections:
        for (x, low), (_, high) in line.get_segments():
            held = low <= round(x) <= high
            assert held == any(x == at for at, _ in inside)
    if of == "all":
        bars = [bar.get_height() for bar in picture.figure.axes[1].patches]
        assert sum(bars) == len(data.hidden.values)


@pytest.mark.parametrize(("largest", "scale"), [(view.LINEAR, "linear"), (view.LINEAR + 1, "symlog")])
def test_axes_of_large_counts_are_logarithmic(largest, scale):
    data = Triplets.of(np.full((6, 5), float(largest))).hide(torch.tensor([[0, 0]]))
    fit = fake(data)
    fit.draws["row_factors"] *= 1e-3
    left = view._holdout(fit).figure.axes[0]
    assert (left.get_xscale(), left.get_yscale()) == (scale, scale)


def test_equal_counts_lie_side_by_side():
    moved = view._spread(np.array([0.0, 0, 0, 1, 2, 2]))
    assert np.allclose(moved, [-0.24, 0, 0.24, 1, 1.82, 2.18])


@pytest.mark.parametrize("most", [2000, 7])
def test_recall_is_that_of_the_metrics(most, monkeypatch):
    monkeypatch.setattr(queries, "MOST_ROWS", most)
    data = Triplets.of(COUNTS).hold_out(0.3, 0)
    fit = fake(data)
    picture = view._ranking(fit)
    lines = {line.get_label(): line.get_ydata() for line in picture.figure.axes[0].lines}
    assert lines["the fit"][queries.RANKED - 1] == pytest.approx(view.View().metrics(fit)["recall_at_20"])
    assert ("rows, evenly chosen" in picture.caption) == (most == 7)
    for curve in lines.values():
        assert len(curve) == 30
        assert (np.diff(curve) > -1e-12).all()
        assert curve[-1] == pytest.approx(1)


def test_large_data_stay_small():
    N, M = 100_000, 20_000
    generator = np.random.default_rng(0)
    cells = np.unique(np.stack([generator.integers(0, N, 50_000), generator.integers(0, M, 50_000)], 1), axis=0)
    values = torch.as_tensor(np.concatenate([cells, np.ones((len(cells), 1))], 1))
    names = [[f"{word} {i}" for i in range(size)] for word, size in (("row", N), ("column", M))]
    data = Triplets(values, *names).hide(torch.as_tensor(cells[:20]), at_random=False)
    for each in (data, with_truth(data)):
        found = named(fake(each, factors=2, draws=1))
        assert set(found) == {"genres", "loadings", "rates", "holdout", "ranking"}
        assert found["loadings"].figure.axes[1].images[0].get_array().shape == (2, view.MOST_SHARES)
        for axes in found["rates"].figure.axes:
            assert all(image.get_array().size <= 100_000 for image in axes.images)


# Odd names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fallbacks", [(), labels.FALLBACKS])
def test_odd_names(fallbacks, monkeypatch):
    monkeypatch.setattr(labels, "FALLBACKS", fallbacks)
    data = Triplets.of(COUNTS[:20, : len(ODD_NAMES)]).hold_out(0.2, 0)
    data = dataclasses.replace(data, column_labels=ODD_NAMES, row_labels=[f"{name} $" for name in (ODD_NAMES * 2)[:20]])
    found = named(fake(data))
    draw(found["genres"], found["loadings"])


def test_labels(monkeypatch):
    monkeypatch.setattr(labels, "FALLBACKS", ())
    expected = ["□ column 0", "Сплин", r"AC\$DC \$x\$", "two lines and a tab", "column 4", "column 5", "□□□ (live)",
                "□ column 7", "□ column 8"]  # fmt: skip
    assert [labels.drawable(name, i) for i, name in enumerate(ODD_NAMES[:9])] == expected
    assert labels.drawable("W" * 50, 0) == "W" * 21 + "…"
    assert labels.drawable("a name that goes on and on", 0) == "a name that goes on a…"
    assert labels.drawable("x" * 22, 0) == "x" * 22
    assert labels.drawable("", 3, "row") == "row 3"


def test_percentages():
    parts = [1.0, 0.123, 0.0996, 0.0994, 0.0123, 0.00994, 0.0001, 0.00001, 0.0]
    assert [labels.percent(part) for part in parts] == [
        "100%", "12%", "10%", "9.9%", "1.2%", "0.99%", "0.01%", "<0.01%", "0%",
    ]  # fmt: skip


def test_wide_letters_count_twice(monkeypatch):
    monkeypatch.setattr(labels, "_fonts", lambda fallbacks: (["DejaVu Sans"], frozenset(range(0x110000))))
    assert labels.drawable("久" * 30, 0) == "久" * 10 + "…"
    assert labels.drawable("久" * 11, 0) == "久" * 11


def test_fonts_are_those_that_are_there():
    families, letters = labels._fonts(("No such font", "DejaVu Serif"))
    assert families == ["DejaVu Sans", "DejaVu Serif"]
    assert {ord("a"), ord("Я"), ord(labels.LACKING), ord("…"), ord("√")} <= letters
    assert ord("久") not in letters


# Odd data -------------------------------------------------------------------------------------------------------------


HOLES = np.where(np.add.outer(np.arange(40), np.arange(30)) % 4 == 0, NAN, COUNTS)
ODD = {
    "one row": Triplets.of(COUNTS[:1]).hold_out(0.3, 0),
    "one column": Triplets.of(COUNTS[:, :1]).hold_out(0.3, 0),
    "one cell": Triplets.of(np.array([[3.0]])),
    "one cell, hidden": Triplets.of(np.array([[3.0]])).hide(torch.tensor([[0, 0]])),
    "all zeros": Triplets.of(np.zeros((6, 5))),
    "all zeros, some hidden": Triplets.of(np.zeros((6, 5))).hold_out(0.3, 0),
    "all ones": Triplets.of(np.ones((6, 5))).hold_out(0.3, 0),
    "holes": Triplets.of(HOLES),
    "holes, some hidden": Triplets.of(HOLES).hold_out(0.3, 0, "listed"),
    "huge": Triplets.of(COUNTS * 1e7).hold_out(0.3, 0),
    "single precision": Triplets.of(COUNTS).hold_out(0.3, 0).to("cpu", torch.float32),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_data(name):
    data = ODD[name]
    found = named(fake(data))
    expected = {"genres", "loadings"} | ({"rates"} if len(data.values) else set())
    if data.hidden is not None:
        expected |= {"holdout"}
        if (data.hidden.values > 0).any() and data.shape[1] > 1:
            expected |= {"ranking"}
    assert set(found) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("truth", [False, True])
def test_odd_data_are_drawn(name, truth):
    data = with_truth(ODD[name], 1) if truth else ODD[name]
    found = named(fake(data, 1 if truth else 3))
    assert "rates" in found or not len(data.values)
    draw(*found.values())


def test_factors_that_are_zero():
    fit = fake(Triplets.of(np.zeros((6, 5))), 2, 1)
    fit.draws["row_factors"].zero_()
    found = named(fit)
    assert found["genres"].figure.axes[0].get_title(loc="left").endswith(": 0% of all")
    draw(*found.values())


def test_quantiles_of_poisson_counts():
    rates = np.geomspace(1e-6, 5e4, 300)
    for share in (0.05, 0.5, 0.95):
        np.testing.assert_array_equal(
            view._poisson_quantile(np.full_like(rates, share), rates), poisson.ppf(share, rates)
        )


def test_the_best_columns_are_those_of_a_whole_sort_equals_too():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (40, 30), generator=generator).double() / 7  # many are equal
    known = torch.rand(40, 30, generator=generator) < 0.4
    for count in (1, 5, 12, 25, 40):  # more than some rows, and than all, have that are unknown
        order = [sorted(range(30), key=lambda j, i=i: (bool(known[i, j]), -float(scores[i, j]), j)) for i in range(40)]
        assert best(scores, known, count).tolist() == [each[:count] for each in order]
