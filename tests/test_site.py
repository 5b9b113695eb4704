"""The documentation is built with warnings as errors, and shows what it should."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pyrozoo import catalog
from pyrozoo.paths import PACKAGE

HOME = PACKAGE.parent
pytestmark = pytest.mark.skipif(not (HOME / "mkdocs.yml").is_file(), reason="docs are no part of an installed package")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    target = tmp_path_factory.mktemp("site")
    build(load_config(str(HOME / "mkdocs.yml"), site_dir=str(target), strict=True))
    return target


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs)["src"] or "")


def test_it_builds_without_a_warning_and_every_picture_is_there(site):
    pages = list(site.rglob("index.html"))
    assert len(pages) > 30
    for page in pages:
        parser = _Sources()
        parser.feed(page.read_text(encoding="utf-8"))
        for source in parser.found:
            assert source.startswith("data:") or (page.parent / source).is_file(), (page, source)


@pytest.mark.parametrize("model", catalog.models())
def test_models_are_in_the_gallery_with_a_page_that_has_everything(site, model):
    gallery = (site / "index.html").read_text(encoding="utf-8")
    assert f'href="models/{model}/"' in gallery
    text = (site / "models" / model / "index.html").read_text(encoding="utf-8")
    for method in catalog.methods(model):
        assert f"<code>{method}</code>" in text, "the table of methods"
    for setting in set(catalog.settings("model", model)) - {"name"}:
        assert f"<code>model.{setting}</code>" in text, "the table of settings"
    for heading in ("the-model", "methods", "settings", "figures-to-expect", "references"):
        assert f'id="{heading}"' in text
    assert "arithmatex" in text
    assert "gallery.png" in text


def test_nothing_that_a_page_asks_of_the_code_is_left_over(site):
    for page in site.rglob("index.html"):
        assert not re.search(r"<!-- (?!.*\bblock\b)[a-z ]+ -->", page.read_text(encoding="utf-8")), page
