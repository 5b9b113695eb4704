"""Shape annotations are checked in every test: jaxtyping's import hook with beartype."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from jaxtyping import install_import_hook

import tests.typecheck  # the hook finds the checker by its name

# Two workers on two cores: one torch thread each, and the same bits whatever the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
assert tests.typecheck
install_import_hook("pyrozoo.models", "tests.typecheck.checker")
install_import_hook("pyrozoo.math", "tests.typecheck.checker")


@pytest.fixture
def course_data() -> Path:
    """Return the folder that holds the course data, or skip."""
    folder = os.environ.get("PYROZOO_DATA")
    if not folder or not (Path(folder) / "zip_mixture_course.npz").is_file():
        pytest.skip("zip_mixture_course.npz is not in PYROZOO_DATA; its terms do not let the project carry it")
    return Path(folder)


@pytest.fixture
def mnist_images() -> None:
    """Skip where there is no MNIST at hand."""
    from pyrozoo import catalog

    settings = catalog.settings("data", "mnist")
    folder = os.environ.get("PYROZOO_DATA")
    names = (settings["file"], *settings["alternatives"])
    if not folder or not any((Path(folder) / name).is_file() for name in names):
        pytest.skip(f"PYROZOO_DATA holds none of {', '.join(names)}; the project does not carry MNIST")


@pytest.fixture
def lastfm_plays() -> None:
    """Skip where the plays of Last.fm are not at hand."""
    folder = os.environ.get("PYROZOO_DATA")
    if not folder or not (Path(folder) / "subsampled_last_fm.csv").is_file():
        pytest.skip("subsampled_last_fm.csv is not in PYROZOO_DATA; its terms do not let the project carry it")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Leave shapes unchecked, which doubles the speed of thousands of small steps; every step is checked elsewhere."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pictures but do not render them, which takes longer than most fits; tests of reports render all."""
    blank = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
    )
    monkeypatch.setattr("pyrozoo.report.html.png", lambda picture: blank)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
