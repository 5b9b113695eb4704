"""The pictures of docs/diagnostics.md: the page shows those that its script draws, and each has a side that fails."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType

import pytest

from pyrozoo.core.paths import PACKAGE

DOCS = PACKAGE.parent / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="docs are no part of an installed package")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diagnostics_of_the_page", DOCS / "diagnostics.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_what_the_script_draws(script):
    text = (DOCS / "diagnostics.md").read_text(encoding="utf-8")
    assert re.findall(r"images/diagnostics_(\w+)\.png", text) == list(script.PICTURES)
    assert {path.stem for path in (DOCS / "images").glob("diagnostics_*.png")} == {
        f"diagnostics_{name}" for name in script.PICTURES
    }


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["khat", "rhat", "ess", "loo", "pit"])
def test_one_side_fails_and_one_passes(script, name):
    figure = script.PICTURES[name]()
    colors = [axes.title.get_color() for axes in figure.axes if axes.get_title()]
    assert colors == [script.BAD, script.GOOD]
