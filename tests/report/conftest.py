"""A browser for pages and movies, one for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")  # a browser that stays open keeps a processor busy
def browser() -> Iterator:
    """Start a browser that is on the path; skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:  # pip cannot install one, and nothing else of the project needs it
        pytest.skip(f"no browser on the path ({', '.join(BROWSERS)})")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()
