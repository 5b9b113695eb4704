"""Movies, in a real browser: they play, seek, and end with the fit; what they show is what the fit says."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import pyrozoo
from pyrozoo.core.errors import NotApplicable
from pyrozoo.report.movie import Movie
from pyrozoo.report.quantities import RADIUS
from pyrozoo.run import catalog
from tests.case import PAIRS, case
from tests.test_laws import short

pytestmark = pytest.mark.usefixtures("unchecked")

ITERATIVE = [pair for pair in PAIRS if catalog.settings("inference", pair[1])["engine"] not in ("laplace",)]


def fitted(model: str, method: str):
    """Return a quick fit."""
    its = case(model, method)
    settings = {**its.settings[method], **short(model, method)}
    return pyrozoo.fit(its.model, method, data=its.tiny, progress=False, **settings)


@pytest.fixture
def opened(browser, tmp_path):
    """Return a function that opens a movie and listens to it; what it complains of fails the test."""
    contexts, complaints = [], []

    def open_movie(movie: Movie, size=(1280, 720), motion="reduce"):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion=motion)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url[:4] == "http" else None)
        page.goto(movie.save(tmp_path / "movie.html").as_uri())
        page.wait_for_selector("body[data-ready=yes]")
        return page

    yield open_movie
    for context in contexts:
        context.close()
    assert not complaints


def shown(page, key: str) -> dict[str, list[float]]:
    """Return the columns that a layer shows now."""
    return json.loads(page.evaluate(f"JSON.stringify(sources[{key!r}].data)"))


def ends_with_the_fit(page, fit, movie: Movie) -> None:
    """Hold what the page shows at its end to the fit itself."""
    film = movie.films[0]
    said = page.inner_text(".film h2 span")
    assert f"step {fit.iterations if fit.method != 'nuts' else film.moments[-1].step} " in said
    for number, (scene, frames) in enumerate(film.scenes):
        for k, layer in enumerate(scene.layers):
            last, columns = frames[k][-1], shown(page, f"0-{number}-{k}")
            if layer.kind == "points" and "x" in last:
                assert np.allclose(columns["x"], last["x"], rtol=1e-3, atol=1e-9, equal_nan=True)
                assert len(columns["color"]) == len(columns["x"])


def plays(page, fit, movie: Movie) -> None:
    """Go through a movie by keys and by hand."""
    ends_with_the_fit(page, fit, movie)
    last = len(movie.films[0].moments) - 1
    page.keyboard.press("Home")
    assert page.input_value("#seek") == "0"
    page.keyboard.press("ArrowRight")
    assert page.input_value("#seek") == str(min(1, last))
    page.fill("#seek", str(last // 2))
    assert f"moment {last // 2 + 1} of {last + 1}" in page.inner_text("#now")
    page.keyboard.press("End")
    ends_with_the_fit(page, fit, movie)


@pytest.mark.parametrize(("model", "method"), ITERATIVE)
def test_every_method_has_a_movie_that_ends_with_the_fit(model, method):
    fit = fitted(model, method)
    movie = fit.movie()
    assert len(movie.page) < 3_000_000
    then = movie.films[0].thens[-1]
    for site, value in fit.draws.items() if fit.sampler is None else ():
        assert torch.equal(then.draws[site], value[:, -1:]), site


@pytest.mark.parametrize(("model", "method"), ITERATIVE)
def test_movies_play(model, method, opened):
    fit = fitted(model, method)
    movie = fit.movie()
    plays(opened(movie), fit, movie)


def test_points_are_where_their_draws_are_and_ellipses_hold_ninety_percent():
    fit = pyrozoo.fit("gaussian_mixture", "cavi", rows=60, columns=2, num_components=2, restarts=1, progress=False)
    scene, frames = fit.movie().films[0].scenes[1]
    names = re.findall(r"mean\[(\d), column_(\d)\]", scene.x + scene.y)
    then = fit.at(fit.moments[-1])
    own = torch.stack([then.aligned["mean"][0, :, int(k), int(d)] for k, d in names], 1).numpy()
    assert np.allclose(np.stack([frames[2][-1]["x"], frames[2][-1]["y"]], 1), own)
    edge = np.stack([frames[1][-1]["xs"][0], frames[1][-1]["ys"][0]], 1) - own.mean(0)
    distance = np.einsum("ni,ij,nj->n", edge, np.linalg.inv(np.cov(own.T)), edge) ** 0.5
    assert np.allclose(distance, RADIUS)


def program(data):
    import pyro
    import pyro.distributions as dist

    loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("unit", len(data)):
        pyro.sample("value", dist.Normal(loc, scale), obs=data)


def test_own_programs_play_side_by_side(opened):
    data = torch.tensor([1.0, 2.0, 4.0, 3.0])
    quick = {"args": (data,), "progress": False}
    fits = [
        pyrozoo.fit(program, "svi", max_steps=60, restarts=1, draws=50, evaluation_draws=5, **quick),
        pyrozoo.fit(program, "nuts", warmup=30, draws=30, chains=2, **quick),
    ]
    movie = Movie(fits, base=fits[1])
    page = opened(movie, (390, 844))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".film").count() == 2
    page.keyboard.press("Home")
    page.select_option("#over", "seconds")
    assert "after" in page.inner_text("#now")
    page.keyboard.press("End")
    ends_with_the_fit(page, fits[0], movie)
    scene, _ = movie.films[0].scenes[0]
    assert {scene.x, scene.y} == {"loc", "scale"}


def test_motion_begins_by_itself_unless_it_is_not_wanted(opened):
    movie = fitted("zip_mixture", "em").movie()
    page = opened(movie, motion="no-preference")
    page.wait_for_function("document.querySelector('#play').getAttribute('aria-label') === 'pause'")
    page.keyboard.press(" ")
    assert page.get_attribute("#play", "aria-label") == "play"
    page = opened(movie)
    assert page.locator("#play").is_hidden()
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    assert page.input_value("#seek") == "1"


def test_what_has_no_moments_says_what_to_type():
    fit = pyrozoo.fit("zip_mixture", "em", rows=20, columns=2, num_components=1, restarts=1, moments=0, progress=False)
    with pytest.raises(NotApplicable, match="moments=60"):
        fit.movie()


def test_a_report_and_a_notebook_have_the_movie():
    movie = fitted("zip_mixture", "em").movie()
    assert movie._repr_html_().startswith('<iframe class="movie"')
