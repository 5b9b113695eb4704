"""Pages read aloud: no sentence of an answer, a card, a caption or a note is long."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import pyrozoo

pytestmark = pytest.mark.usefixtures("unchecked", "undrawn")

LONGEST = 30
"""Words that a listener can hold."""

READ = ("p", "li", "figcaption", "summary")
QUICK = {"progress": False, "seed": 0}
FITS = {
    "zip_mixture": ("em", {"rows": 30, "columns": 3, "num_components": 2, "restarts": 3, "holdout": 0.1}),
    "factor_analysis": ("em", {"rows": 30, "columns": 4, "num_factors": 2, "restarts": 1}),
    "poisson_mf": ("cavi", {"rows": 20, "columns": 8, "num_factors": 2, "holdout": 0.1, "draws": 100}),
    "gaussian_mf": ("em", {"rows": 20, "columns": 8, "num_factors": 2, "holdout": 0.1, "restarts": 2}),
    "potts_grid": ("icm", {"rows": 5, "columns": 6}),
    "categorical_fa": ("exact", {"rows": 40, "columns": 4, "latent_dimension": 1, "draws": 50}),
}  # fmt: skip
"""Model -> a method and settings that take no time: one page of each."""


class Spoken(HTMLParser):
    """What is read of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self.open = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in READ:
            self.open += 1
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in READ:
            self.open -= 1

    def handle_data(self, data: str) -> None:
        if self.open:
            self.blocks[-1] += data


def long_ones(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?])\s+", " ".join(text.split())) if len(s.split()) > LONGEST]


def check_page(page: Path) -> None:
    spoken = Spoken()
    spoken.feed(page.read_text(encoding="utf-8"))
    assert len(spoken.blocks) > 5
    assert [long for block in spoken.blocks for long in long_ones(block)] == []


def test_a_long_sentence_is_found():
    assert long_ones("Short. " + "word " * 31) == [" ".join(["word"] * 31)]
    assert long_ones("Short. " + "word " * 30) == []


@pytest.mark.parametrize("model", FITS)
def test_pages_of_fits(here, model):
    method, settings = FITS[model]
    pyrozoo.fit(model, method, **settings, **QUICK).save(here / "run")
    check_page(here / "run" / "report.html")


def test_pages_of_comparisons_and_calibrations(here):
    sizes = {"rows": 30, "columns": 3, "num_components": 2, "holdout": 0.1, **QUICK}
    fits = [pyrozoo.fit("zip_mixture", m, **sizes, draws=draws) for m, draws in (("gibbs", 30), ("cavi", 100))]
    pyrozoo.compare([*fits, pyrozoo.fit("zip_mixture", "em", **sizes)]).save(here / "all")
    check_page(here / "all" / "report.html")
    pyrozoo.calibrate("zip_mixture", "em", simulations=2, rows=20, columns=2, num_components=1, progress=False).save(
        here / "calibration"
    )
    check_page(here / "calibration" / "report.html")
