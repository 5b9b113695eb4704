"""The documentation is built with warnings as errors, and shows what it should."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pyrozoo.core.paths import PACKAGE
from pyrozoo.run import catalog

HOME = PACKAGE.parent
pytestmark = pytest.mark.skipif(not (HOME / "mkdocs.yml").is_file(), reason="docs are no part of an installed package")


def built(target: Path) -> Path:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(HOME / "mkdocs.yml"), site_dir=str(target), strict=True))
    return target


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs)["src"] or "")


def test_it_builds_without_a_warning_and_shows_what_it_should(tmp_path):
    """One test, since building takes most of its time."""
    site = built(tmp_path / "site")
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("index.html")}
    assert len(pages) > 30
    for page, text in pages.items():
        parser = _Sources()
        parser.feed(text)
        for source in parser.found:
            assert source.startswith("data:") or (page.parent / source).is_file(), (page, source)
        asked = re.findall(r"<!-- (?!.*\bblock\b)[a-z ]+ -->", text)
        assert not asked, f"{page}: what it asks of the code is not there"
    for model in catalog.models():
        check_model(site, model)


def check_model(site: Path, model: str) -> None:
    """Check that a model is in the gallery, and that its page has everything."""
    assert f'href="models/{model}/"' in (site / "index.html").read_text(encoding="utf-8")
    text = (site / "models" / model / "index.html").read_text(encoding="utf-8")
    for method in catalog.methods(model):
        assert f"<code>{method}</code>" in text, "the table of methods"
    for setting in set(catalog.settings("model", model)) - {"name"}:
        assert f"<code>model.{setting}</code>" in text, "the table of settings"
    for heading in ("the-model", "methods", "settings", "figures-to-expect", "references"):
        assert f'id="{heading}"' in text
    assert "arithmatex" in text
    assert "gallery.png" in text
