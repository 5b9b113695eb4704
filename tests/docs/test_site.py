"""The documentation is built with warnings as errors, and shows what it should."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from notebooks.__main__ import INSTALL, names
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
    """What a browser loads with a page: pictures, scripts, style sheets, icons and frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("img", "script", "iframe", "video", "source"):
            self.found += [given["src"] or ""] if "src" in given else []
        elif tag == "link" and set((given.get("rel") or "").split()) & LOADED:
            self.found.append(given["href"] or "")


LOADED = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}
"""Links that are loaded; others only name a page."""


def test_what_a_page_loads_is_found():
    parser = _Sources()
    parser.feed(
        '<link rel="preload stylesheet" href="a"><script src=b></script><script>c</script><link rel=next href=d>'
    )
    assert parser.found == ["a", "b"]


@pytest.mark.quick
def test_it_builds_without_a_warning_and_shows_what_it_should(tmp_path, monkeypatch):
    """One test, since building takes most of its time; a third of that the theme reads every page to be searched."""
    monkeypatch.setattr("material.plugins.search.plugin.SearchIndex.add_entry_from_context", lambda index, page: None)
    site = built(tmp_path / "site")
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("index.html")}
    assert len(pages) > 30
    for page, text in pages.items():
        parser = _Sources()
        parser.feed(text)
        for source in parser.found:  # nothing is loaded from elsewhere: a class room may have no network
            path = page.parent / source.partition("?")[0]
            assert source.startswith("data:") or path.is_file(), (page, source)
        asked = re.findall(r"<!-- (?!.*\bblock\b)[a-z ]+ -->", text)
        assert not asked, f"{page}: what it asks of the code is not there"
        assert "arithmatex" not in text, f"{page}: a formula is not drawn"
    for sheet in site.rglob("*.css"):
        for source in re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", sheet.read_text(encoding="utf-8")):
            assert source.startswith(("data:", "#")) or (sheet.parent / source).is_file(), (sheet, source)
    for model in catalog.models():
        check_model(site, model)
    for name in names():
        check_notebook(site, name)


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
    assert "<math" in text
    assert "gallery.png" in text


def check_notebook(site: Path, name: str) -> None:
    """Check that a notebook's page offers the notebook, which installs what it needs, and Colab."""
    text = (site / "notebooks" / name / "index.html").read_text(encoding="utf-8")
    assert f'href="../{name}.ipynb"' in text
    assert "https://colab.research.google.com" in text
    assert INSTALL not in text.partition("</h1>")[2].partition("<h2")[0], "which readers of the page need not"
    assert 'src="movie-1.html"' in text
    assert (site / "notebooks" / name / "movie-1.html").is_file()
    notebook = nbformat.read(site / "notebooks" / f"{name}.ipynb", 4)
    assert next(cell for cell in notebook.cells if cell.cell_type == "code").metadata["tags"] == [INSTALL]
