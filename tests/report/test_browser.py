"""The pages, in a real browser: nothing fails, nothing is fetched, tables sort, phones and paper and dark rooms."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyrozoo

pytestmark = pytest.mark.usefixtures("unchecked")  # the laws look at all shapes

SETTINGS = {"rows": 30, "columns": 3, "num_components": 1, "restarts": 1, "progress": False}
GIBBS = {name: value for name, value in SETTINGS.items() if name != "restarts"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Write one page of every kind, with real pictures."""
    folder = tmp_path_factory.mktemp("pages")
    fits = [
        pyrozoo.fit("zip_mixture", "em", **SETTINGS),
        pyrozoo.fit("zip_mixture", "gibbs", warmup=20, draws=50, thin=1, **GIBBS),
        pyrozoo.fit("zip_mixture", "cavi", draws=200, **SETTINGS),
    ]
    fits[1].save(folder / "gibbs")
    pyrozoo.compare(fits).save(folder / "all")
    pyrozoo.calibrate("zip_mixture", "em", simulations=2, rows=20, columns=2, num_components=1, progress=False).save(
        folder / "calibration"
    )
    return {"run": folder / "gibbs", "comparison": folder / "all", "calibration": folder / "calibration"}


KINDS = ("run", "comparison", "calibration")


@pytest.fixture
def opened(browser, pages):
    """Return a function that opens a page and listens to it; what it complains of fails the test."""
    contexts, complaints = [], []

    def open_page(kind: str, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _listen(request.url, complaints))
        page.goto((pages[kind] / "report.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def _listen(url: str, complaints: list[str]) -> None:
    if not url.startswith(("file:", "data:")):
        complaints.append(f"fetched {url}")


@pytest.mark.parametrize("kind", KINDS)
def test_pages_show_without_complaint(opened, kind):
    page = opened(kind)
    image = np.asarray(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("L"), dtype=float)
    assert image.shape[0] > 800
    assert image.std() > 5, "not a blank page"
    for figure in page.query_selector_all("figure"):
        assert figure.query_selector("img").evaluate("e => e.naturalWidth") > 100
        assert len(figure.query_selector("figcaption").inner_text()) > 15, "a caption says what to look for"
    assert len(page.query_selector_all("figure")) >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_pages_fit_a_phone(opened, kind):
    page = opened(kind, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "only tables scroll sideways"


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_light_and_dark(opened, kind):
    shades = {}
    for scheme in ("light", "dark"):
        page = opened(kind, color_scheme=scheme)
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        shades[scheme] = [sum(int(part) for part in colour[4:-1].split(",")[:3]) for colour in colours]
    assert shades["light"][0] > 700 > 200 > shades["light"][1]
    assert shades["dark"][0] < 150 < 500 < shades["dark"][1]


def test_comparison_prints(opened):
    page = opened("comparison")
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_tables_sort_by_click_and_by_key(opened):
    page = opened("comparison")
    table = page.query_selector_all("table")[1]
    heads = [head.inner_text() for head in table.query_selector_all("thead th")]
    place = heads.index("seconds")

    def column() -> list[float]:
        return [float(row.query_selector_all("td")[place].inner_text()) for row in table.query_selector_all("tbody tr")]

    before = column()
    button = table.query_selector_all("thead th button")[place]
    button.click()
    assert column() == sorted(before)
    button.focus()
    page.keyboard.press("Enter")
    assert column() == sorted(before, reverse=True)
    assert table.query_selector_all("thead th")[place].get_attribute("aria-sort") == "descending"


def test_verdicts_sort_by_level_and_lead_to_their_cards(opened):
    page = opened("comparison")
    table = page.query_selector("table.overview")
    heads = [head.inner_text() for head in table.query_selector_all("thead th")]
    table.query_selector_all("thead th button")[heads.index("ESS")].click()
    cells = [row.query_selector_all("th, td")[heads.index("ESS")].inner_text() for row in
             table.query_selector_all("tbody tr")]  # fmt: skip
    order = {"pass": 0, "warn": 1, "fail": 2, "": 3}
    assert [order[cell] for cell in cells] == sorted(order[cell] for cell in cells)
    link = table.query_selector("tbody a")
    name, target = link.inner_text(), link.get_attribute("href")
    assert name in page.query_selector(target).inner_text()


def test_any_pair_is_chosen_on_the_page_and_fits_are_hidden(opened):
    page = opened("comparison")
    box = page.locator("details.plane")

    def paths() -> list[str]:
        return box.locator("svg path").evaluate_all("all => all.map(each => each.getAttribute('d'))")

    first = paths()
    assert len(first) > 3
    box.locator(".x").select_option("2")
    assert paths() != first
    assert box.locator(".x").input_value() != box.locator(".y").input_value()
    box.locator(".x").select_option(box.locator(".y").input_value())
    assert box.locator(".x").input_value() != box.locator(".y").input_value(), "never a quantity against itself"
    before = len(paths())
    box.locator(".fits button").last.click()
    assert len(paths()) < before
