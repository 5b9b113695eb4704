"""Pages and notebooks read aloud: no sentence is long."""

from __future__ import annotations

import re
from collections.abc import Iterator

import jupytext
import pytest

from notebooks.__main__ import HERE, names
from pyrozoo.core.paths import PACKAGE

HOME = PACKAGE.parent
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").rglob("*.md"))]
LONGEST = 30
"""Words that a listener can hold."""


def long_ones(text: str) -> Iterator[str]:
    """Yield the long sentences of prose; code, mathematics, tables and headings are not read aloud."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|^[|#].*?$", "", text, flags=re.S | re.M)
    text = re.sub(r"\$[^$]*\$|`[^`]*`", "it", text)
    for block in re.split(r"\n\s*\n|\n(?=- |\d+\. )", text):
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(block.split())):
            if len(sentence.split()) > LONGEST:
                yield sentence


def test_a_long_sentence_is_found():
    words = " ".join(["word"] * 31)
    assert list(long_ones(f"Short.\n{words}.")) == [f"{words}."]
    assert list(long_ones(f"| {words} |\n\n```text\n{words}\n```\n# {words}\nShort `{words}`.")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page):
    assert list(long_ones(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("name", names())
def test_notebooks(name):
    cells = [cell for cell in jupytext.read(HERE / f"{name}.py").cells if cell.cell_type == "markdown"]
    assert [long for cell in cells for long in long_ones(cell.source)] == []
