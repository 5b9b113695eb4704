"""Shape annotations are checked in every test: jaxtyping's import hook with beartype."""

import base64
import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
from jaxtyping import install_import_hook

import tests.typecheck  # the hook finds the checker by its name
from tests import costs

# Two workers on two cores: one torch thread each, and the same bits whatever the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
assert tests.typecheck
install_import_hook("pyrozoo.models", "tests.typecheck.checker")
install_import_hook("pyrozoo.math", "tests.typecheck.checker")
jaxtyping.jaxtyped = tests.typecheck.sparing(jaxtyping.jaxtyped)  # the hook decorates by that name
# The same examples in every run, and none of them timed; others every night: `pytest --hypothesis-profile nightly`.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile("steady")
# A shell starts its background jobs with Ctrl-C ignored, which tests send.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


gc.disable()  # until tests are collected: what is imported is no garbage


def pytest_collection_finish() -> None:
    """Look for garbage, but seldom: among thousands of imported modules it takes a seventh of the time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)
    gc.enable()


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave cases that take long to the slow suite, as a trial found them (``tests/costs.py``)."""
    if costs.TRIAL in os.environ:
        return
    stated = ("slow", "quick")
    others = {item.nodeid: item for item in items if not any(map(item.get_closest_marker, stated))}
    for name in costs.too_long(map(costs.Case.of, others.values()), costs.recorded()):
        others[name].add_marker(pytest.mark.slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what only a card can do where there is none.

    Stored tensors, true graphs and compiled Triton kernels have no stand-in. All else that these tests ask is asked on
    every machine, too: of a device that is not there (``tests.elsewhere``), and of kernels by their interpreter.
    """
    import torch

    if item.get_closest_marker("cuda") is not None and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device; what needs none is tested on the stand-in of tests/elsewhere.py")


@pytest.fixture
def need() -> Callable[[str], Path]:
    """Return a function that finds the file of a named data set.

    It skips the test where PYROZOO_DATA holds no such file: the terms of these data do not let the project carry them.
    """
    from pyrozoo.run import catalog

    def find(name: str) -> Path:
        settings = catalog.settings("data", name)
        names = (settings["file"], *settings.get("alternatives", ()))
        folder = os.environ.get("PYROZOO_DATA")
        for file in names if folder else ():
            if Path(str(folder), file).is_file():
                return Path(str(folder), file)
        pytest.skip(f"PYROZOO_DATA holds none of {', '.join(names)}; their terms do not let the project carry them")

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Leave shapes unchecked in tests that ask for it, in what modules share too, which comes before their fixtures."""
    asked = getattr(item, "fixturenames", ())
    jaxtyping.config.update("jaxtyping_disable", "unchecked" in asked and "checked" not in asked)
    result = yield
    jaxtyping.config.update("jaxtyping_disable", False)
    return result


@pytest.fixture
def unchecked() -> None:
    """Leave shapes unchecked, which doubles the speed of thousands of small steps; every step is checked elsewhere."""


@pytest.fixture
def checked() -> None:
    """Check shapes all the same, in a module that leaves them unchecked."""


@pytest.fixture(autouse=True, scope="session")
def few() -> Iterator[None]:
    """Simulate few data sets from every fit, too few for predictive checks: tests of those say how many they want."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("store.inference_data.PRIOR_DRAWS", "diagnostics.predictive.SIMULATIONS"):
            patch.setattr(f"pyrozoo.{name}", 8)
        yield


@pytest.fixture(autouse=True, scope="session")
def strict() -> Iterator[None]:
    """Raise what would be a note: a fault that loses no fit is a fault."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyrozoo.core.errors.NOTED", ())
        yield


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make notes of faults, as users see them."""
    monkeypatch.setattr("pyrozoo.core.errors.NOTED", (Exception,))


@pytest.fixture(autouse=True)
def begun() -> None:
    """Begin every test with torch's own generator in one state, whatever ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pictures but do not render them: tests of reports do."""
    blank = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
    )
    monkeypatch.setattr("pyrozoo.report.html.png", lambda picture: blank)
    monkeypatch.setattr("pyrozoo.report.movie.Movie.embedded", lambda movie: "")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
