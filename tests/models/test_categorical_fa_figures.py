"""categorical_fa: which pictures a fit gets, what they show, and that odd surveys do not break them."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation

import pyrozoo
from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.picture import Picture
from pyrozoo.data.survey import Survey
from pyrozoo.models.categorical_fa import figures, synthesis
from pyrozoo.models.categorical_fa.queries import scores
from pyrozoo.models.categorical_fa.view import View
from tests.models.test_categorical_fa import make

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("unchecked")]
NAN = float("nan")
FOUR = {"association", "marginals", "categories", "uncertainty"}


@pytest.fixture(autouse=True)
def few_judged_rows(monkeypatch):
    monkeypatch.setattr(synthesis, "JUDGED_ROWS", 500)


def answers(rows: int, sizes: tuple[int, ...], missing: float = 0.0, levels=None, names=None) -> Survey:
    """Return a survey in which answers go together: all follow one random number per row."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(rows, 1))
    latent = common + generator.normal(size=(rows, len(sizes)))
    codes = np.stack([pd.qcut(column, size, labels=False) for column, size in zip(latent.T, sizes, strict=True)], 1)
    codes = np.where(generator.uniform(size=codes.shape) < missing, NAN, codes)
    levels = levels or [[f"level {k}" for k in range(size)] for size in sizes]
    names = names or [f"item_{i}" for i in range(len(sizes))]
    return Survey(torch.as_tensor(codes), [str(u) for u in range(rows)], names, levels=levels)


def fake(data: Survey, draws: int = 1, **model) -> Fit:
    """Return a fit that nobody computed: draws near the start."""
    posterior = Posterior.of(make(**model), data)
    torch.manual_seed(0)
    values = posterior.initial(draws)
    if "loadings" in values:
        values["loadings"] = 2 * values["loadings"][:1] + 0.1 * values["loadings"]
    trace = pd.DataFrame({"iteration": [1], "chain": [0], "objective": [0.0], "seconds": [0.1]})
    runs = pd.DataFrame({"chain": [0], "objective": [0.0], "iterations": [1], "status": ["converged"]})
    kind = "point" if draws == 1 else "variational"
    chain = Draws({site: value.unsqueeze(0) for site, value in values.items()})
    return Fit(posterior, "vem", kind, chain, trace, runs, "converged", "bound", 0.0, 1, 0.1, 0)


def named(fit: Fit) -> dict[str, Picture]:
    """Return the pictures by name."""
    result = {picture.name: picture for picture in View().pictures(fit)}
    for picture in result.values():
        assert picture.caption.endswith(".")
        assert "nan" not in picture.caption
    return result


def one(name: str, fit: Fit) -> Picture:
    """Return one picture, the others left out: they take their time."""
    others = {other: lambda *_: None for other in FOUR - {name}}
    with mock.patch.multiple(figures, **others):
        (picture,) = [each for each in View().pictures(fit) if each is not None]
    assert picture.name == name
    return picture


def smallest_font(figure: Figure) -> float:
    texts = [text for text in figure.findobj(lambda each: hasattr(each, "get_fontsize")) if text.get_text()]
    return min(text.get_fontsize() for text in texts)


def drawn(fit: Fit) -> dict[str, Picture]:
    """Return the pictures by name after drawing every one of them; warnings are errors in this file."""
    result = named(fit)
    for picture in result.values():
        draw(picture)
    return result


def draw(picture: Picture) -> None:
    """Lay a picture out, as rendering does."""
    if picture.name != "categories":  # it lays itself out
        picture.figure.draw_without_rendering()
    assert smallest_font(picture.figure) >= 7


@cache
def fitted(method: str = "vem", holdout: float = 0.0, **settings) -> Fit:
    settings = {"progress": False, "max_iterations": 20, "restarts": 1, "rows": 60, **settings}
    truth = settings.pop("truth", None)
    if truth:
        settings["truth"] = dict(truth)
    return pyrozoo.fit("categorical_fa", method, holdout=holdout, **settings)


def panels(picture: Picture):
    return [axes for axes in picture.figure.axes if axes.get_title()]


# Which pictures -------------------------------------------------------------------------------------------------------


def test_fits_have_four_pictures():
    fit = fitted(columns=5, missing=0.3)
    found = named(fit)
    assert set(found) == FOUR
    error, naive = (fit.metrics[f"{name}_association_error"] for name in ("mean", "independent"))
    assert f"{error:.3f} off on average; independent columns are {naive:.3f} off" in found["association"].caption


def test_one_item_has_no_association():
    found = drawn(fake(answers(30, (3,))))
    assert set(found) == FOUR - {"association"}


# What they show -------------------------------------------------------------------------------------------------------


def test_association_of_data_synthetic_rows_and_their_difference():
    data = answers(60, (2, 3, 4, 2, 3), 0.1)
    fit = fake(data)
    seen, synthetic = data.cramers_v().numpy(), data.cramers_v(synthesis.judged(fit)).numpy()
    order = figures.item_order(seen)
    assert sorted(order) == list(range(5))
    shown = panels(one("association", fit))
    for axes, matrix in zip(shown, (seen, synthetic, synthetic - seen), strict=True):
        (image,) = axes.images
        expected = matrix[np.ix_(order, order)]
        off = ~np.eye(5, dtype=bool)
        assert np.array_equal(image.get_array()[off], expected[off])
        assert image.get_array().mask.diagonal().all()
        assert [label.get_text() for label in axes.get_xticklabels()] == [f"item_{i}" for i in order]
    assert shown[2].images[0].get_clim()[0] == -shown[2].images[0].get_clim()[1]


def test_items_that_go_together_stand_together():
    association = np.full((6, 6), 0.1)
    for block in ([0, 3, 5], [1, 2, 4]):
        association[np.ix_(block, block)] = 0.8
    order = figures.item_order(association).tolist()
    assert {frozenset(order[:3]), frozenset(order[3:])} == {frozenset({0, 3, 5}), frozenset({1, 2, 4})}


def test_pairs_that_nobody_answers_are_blank():
    codes = answers(40, (2, 3, 3)).values.clone()
    codes[:20, 0], codes[20:, 1] = NAN, NAN
    data = dataclasses.replace(answers(40, (2, 3, 3)), values=codes)
    picture = one("association", fake(data))
    assert "Grey where no row answers both" in picture.caption
    order = figures.item_order(data.cramers_v().numpy()).tolist()
    assert panels(picture)[0].images[0].get_array().mask[order.index(0), order.index(1)]


def test_what_chance_gives_is_said():
    data = answers(4000, (2, 3))
    generator = np.random.default_rng(1)
    shuffled = np.stack([generator.permutation(column) for column in data.values.numpy().T], 1)
    few = [data.cramers_v(torch.as_tensor(shuffled[i : i + 50]))[0, 1] for i in range(0, 4000, 50)]
    # sqrt(E V^2) of a 2 x 3 table is sqrt(2 / 50).
    assert np.sqrt(np.mean(np.square(few))) == pytest.approx(0.2, rel=0.15)
    assert "a V of about 0.20" in one("association", fake(answers(50, (2, 3)))).caption


def test_bars_are_shares():
    data = answers(50, (2, 4, 3), 0.2)
    fit = fake(data)
    picture = one("marginals", fit)
    both = zip(synthesis.shares(data, data.values), synthesis.shares(data, synthesis.judged(fit)), strict=True)
    for axes, (seen, synthetic) in zip(panels(picture), both, strict=True):
        width = [[bar.get_width() for bar in bars] for bars in axes.containers if hasattr(bars, "patches")]
        assert np.allclose(width[0], seen)
        assert np.allclose(width[1], synthetic)
        assert axes.get_xlim()[1] > max(*width[0], *width[1])
    moved = f"On average {synthesis.marginal_tv(data, synthesis.judged(fit)):.1%} of an item's answers"
    assert moved in picture.caption


def test_shares_of_many_items_are_points():
    data = answers(40, (3,) * (figures.MOST_BARS + 1))
    fit = fake(data)
    (axes,) = one("marginals", fit).figure.axes
    x, y = axes.lines[0].get_data()
    assert np.allclose(x, torch.cat(synthesis.shares(data, data.values)))
    assert np.allclose(y, torch.cat(synthesis.shares(data, synthesis.judged(fit))))


def test_directions_are_loadings_centred_per_item():
    data = answers(60, (2, 3, 3))
    fit = fake(data, latent_dimension=2)
    (axes,) = one("categories", fit).figure.axes
    loadings = fit.aligned["loadings"][0, 0]
    whole = torch.cat(
        [loadings[:1], torch.zeros(1, 2), loadings[1:3], torch.zeros(1, 2), loadings[3:], torch.zeros(1, 2)]
    )
    centred = torch.cat([part - part.mean(0) for part in whole.split([2, 3, 3])]).numpy()
    tips = np.array([line.get_xydata()[1] for line in axes.lines if len(line.get_xydata()) == 2][:8])
    # Longest first, and all by one factor.
    centred = centred[np.argsort(-np.linalg.norm(centred, axis=1), kind="stable")]
    assert np.allclose(tips, centred * (tips[0, 0] / centred[0, 0]))
    points = axes.lines[0].get_xydata()
    assert np.allclose(points, scores(fit.posterior.layout, fit.aligned)[0])


def test_shared_loadings_are_drawn_once_around_the_mean():
    data = answers(60, (3,) * 4)
    fit = fake(data, latent_dimension=2, loadings="fixed", intercepts=False)
    (axes,) = one("categories", fit).figure.axes
    lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2][:3]
    mean = fit.draws["latent_mean"][0, 0].numpy()
    assert all(np.allclose(line[0], mean) for line in lines)
    stated = np.array([[2, -1], [-1, 2], [-1, -1]]) / 3
    offset = np.array([line[1] - mean for line in lines])
    assert np.allclose(offset / np.linalg.norm(offset[0]), stated / np.linalg.norm(stated[0]))


@pytest.mark.parametrize("hidden", [0, 3])
def test_curves_are_probabilities(hidden):
    data = answers(60, (2, 3, 4))
    fit = fake(data, draws=5, hidden_units=hidden)
    shown = panels(one("categories", fit))
    draws = {site: value[0] for site, value in fit.aligned.items()}
    z = torch.linspace(-3, 3, figures.CURVE_POINTS, dtype=torch.float64).unsqueeze(-1)
    blank = dataclasses.replace(data, values=torch.zeros(len(z), 3, dtype=torch.float64), row_labels=list(map(str, z)))
    each = [fit.model.answers({s: v[i] for s, v in draws.items()}, blank, z).log_table() for i in range(5)]
    for i, axes in enumerate(shown):
        expected = torch.stack([table[i].exp() for table in each]).mean(0).numpy()
        below = expected.cumsum(1)
        for k, band in enumerate(band for band in axes.collections if isinstance(band, PolyCollection)):
            path = band.get_paths()[0].vertices
            at = path[np.isclose(path[:, 0], 0.0, atol=1e-9)]
            assert at[:, 1].max() == pytest.approx(below[60, k])
            assert at[:, 1].min() == pytest.approx(below[60, k] - expected[60, k])


def test_curves_of_items_alike_are_one():
    fit = fake(answers(60, (2,) * 5), loadings="fixed", intercepts=False, latent_dimension=1)
    assert [axes.get_title() for axes in panels(one("categories", fit))] == ["every item"]
    fit = fake(answers(60, (2,) * 5), loadings="fixed", intercepts=True, latent_dimension=1)
    assert len(panels(one("categories", fit))) == 5


def test_of_many_items_those_that_tell_most_have_curves(monkeypatch):
    monkeypatch.setattr(figures, "MOST_ITEMS", 3)
    fit = fake(answers(80, (3,) * 5))
    fit.draws["loadings"][..., 2:6, :] = 0.0
    picture = one("categories", fit)
    titles = [axes.get_title() for axes in panels(picture)]
    assert len(titles) == 3
    assert {"item_0", "item_3", "item_4"} == set(titles)
    assert "the 3 of 5 items" in picture.caption


def test_regions_of_hidden_units(monkeypatch):
    monkeypatch.setattr(figures, "MOST_REGIONS", 2)
    data = answers(60, (3,) * 4)
    fit = fake(data, draws=3, latent_dimension=3, hidden_units=2)
    picture = one("categories", fit)
    assert len(panels(picture)) == 2
    assert "2 of 4 items" in picture.caption
    points = figures.PLANE_POINTS
    assert all(axes.images[0].get_array().shape == (points, points, 3) for axes in panels(picture))


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_uncertainty_beside_the_prior(missing):
    data = answers(50, (3,) * 5, missing)
    fit = fake(data, latent_dimension=2)
    shown = one("uncertainty", fit).figure.axes
    sd = scores(fit.posterior.layout, fit.aligned)[1].numpy()
    told = 1 - (sd**2).mean(0)
    tops = [axes for axes in shown if axes.get_title()]
    assert [axes.get_title() for axes in tops] == [f"latent dimension {s}: answers tell {told[s]:.0%}" for s in (0, 1)]
    assert sum(patch.get_height() for patch in tops[0].patches) == 50
    assert tops[0].lines[0].get_xdata()[0] == 1
    assert len(shown) == (4 if missing else 2)
    if missing:
        x, y = shown[2].lines[0].get_data()
        assert np.array_equal(x.round(), data.observed.sum(1))
        assert np.allclose(y, sd[:, 0])


def test_rows_and_draws_are_bounded(monkeypatch):
    monkeypatch.setattr(figures, "MOST_ROWS", 20)
    monkeypatch.setattr(figures, "MOST_WORK", 1.0)
    fit = fake(answers(60, (3,) * 3), draws=9, latent_dimension=2)
    with mock.patch.object(figures, "scores", wraps=scores) as asked:
        picture = one("categories", fit)
    assert asked.call_args.args[1].shape == (1, figures.LEAST_DRAWS)
    assert "20 of 60" in picture.caption
    assert len(picture.figure.axes[0].lines[0].get_xydata()) == 20


# Several fits ---------------------------------------------------------------------------------------------------------


def test_compared_association():
    fits = [fake(answers(40, (3,) * 4)), fake(answers(40, (2,) * 4)), fake(answers(40, (3,)))]
    (picture,) = View().compared_pictures(fits, ["one", "a method of a very long name indeed", "three"])
    draw(picture)
    shown = panels(picture)
    assert len(shown) == 2  # the third has no pairs
    x, y = shown[0].lines[0].get_data()
    i, j = np.tril_indices(4, -1)
    assert np.allclose(x, fits[0].data.cramers_v()[i, j])
    assert np.allclose(y, fits[0].data.cramers_v(synthesis.judged(fits[0]))[i, j])
    (picture,) = View().compared_pictures([fits[0]] * 10, [str(i) for i in range(10)])
    assert len(panels(picture)) == figures.MOST_FITS
    assert "The first 8 of 10 fits" in picture.caption
    assert View().compared_pictures(fits[2:], ["three"]) == []


def test_compared_covariance_beside_the_truth():
    truth = (("loadings", "fixed"), ("intercepts", False), ("latent_dimension", 2))
    settings = {"loadings": "fixed", "intercepts": False, "latent_dimension": 2, "columns": 5, "truth": truth}
    fit = fitted(**settings)
    several = fake(fit.data, 7, loadings="fixed", intercepts=False, latent_dimension=2)
    other = fake(answers(40, (2,) * 4), latent_dimension=1, loadings="fixed", intercepts=False)  # of another dimension
    found = {p.name: p for p in View().compared_pictures([fit, several, other], ["vem", "draws", "other"])}
    picture = found["latent_covariance"]
    draw(picture)
    axes = picture.figure.axes[0]
    i, j = np.tril_indices(2)
    true = [segment[0, 1] for segment in axes.collections[0].get_segments()]
    assert np.allclose(true, fit.data.truth["latent_covariance"][i, j])
    dots = [line.get_ydata() for line in axes.lines if line.get_marker() == "o"]
    assert len(dots) == 2
    assert np.allclose(dots[0], fit.draws["latent_covariance"][0, 0][i, j])
    assert np.allclose(dots[1], several.draws["latent_covariance"].mean((0, 1))[i, j])
    assert "90% intervals" in picture.caption
    unknown = [fake(answers(40, (3,) * 4), latent_dimension=2, loadings="fixed")]
    assert "the truth is not known" in View().compared_pictures(unknown, ["one"])[1].caption


# Odd surveys ----------------------------------------------------------------------------------------------------------


def without_answers() -> Survey:
    data = answers(30, (3, 2, 4), 0.3)
    data.values[:5] = NAN
    return dataclasses.replace(data, values=data.values)


ODD_NAMES = ["_x", "AC$DC $x$", "two\nlines", "久石譲", "a very long name " * 4, "%s {0} ^_{"]
ODD = {
    "two items": answers(30, (2, 3)),
    "few rows": answers(4, (2, 2, 2)),
    "rows without answers": without_answers(),
    "twenty categories": answers(100, (20, 2)),
    "sixty items": answers(40, (2,) * 60, 0.2),
    "odd names": answers(30, (2, 3) * 3, names=ODD_NAMES,
                         levels=[[f"{name} {k} " * 3 for k in range(size)] for name, size in
                                 zip(ODD_NAMES, (2, 3) * 3, strict=True)]),
    "odd levels alike": answers(30, (6, 6), levels=[ODD_NAMES] * 2),
    "single precision": answers(30, (2, 3)).to("cpu", torch.float32),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "dimension", "hidden"),
    [
        ("two items", 2, 0),
        ("few rows", 1, 0),
        ("rows without answers", 1, 0),
        ("twenty categories", 1, 0),
        ("sixty items", 2, 0),
        ("odd names", 1, 0),
        ("odd names", 2, 0),
        ("odd names", 2, 2),
        ("odd levels alike", 2, 0),
        ("single precision", 2, 2),
    ],
)
def test_odd_surveys(name, dimension, hidden):
    fit = fake(ODD[name], 1 if dimension == 1 else 3, latent_dimension=dimension, hidden_units=hidden)
    assert set(named(fit) if hidden else drawn(fit)) == FOUR


def test_loadings_of_zero():
    fit = fake(answers(30, (3,) * 3), latent_dimension=2)
    fit.draws["loadings"].zero_()
    one("categories", fit)


def test_many_dimensions():
    found = named(fake(answers(40, (3,) * 8), latent_dimension=8))
    assert "The first 6 of 8 dimensions" in found["uncertainty"].caption
    assert "the first two of the latent dimensions" in found["categories"].caption
    one("categories", fake(answers(40, (5,) * 4), latent_dimension=4, loadings="fixed"))


@pytest.mark.parametrize("items", [6, 30])
def test_names_do_not_overlap(items):
    fit = fake(answers(60, tuple(2 + i % 4 for i in range(items))), latent_dimension=2)
    (axes,) = one("categories", fit).figure.axes
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts if isinstance(text, Annotation)]
    assert len(boxes) >= 6
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
