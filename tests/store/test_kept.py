"""Nothing is lost after a fit: it is saved before anything is made of it, and a fault in that is a note."""

from __future__ import annotations

import errno
import resource
from contextlib import contextmanager

import pytest
import torch

import pyrozoo
from pyrozoo.contracts.posterior import HandBuilt, Posterior
from pyrozoo.contracts.view import View
from pyrozoo.core.paths import replacing
from pyrozoo.models.poisson_mf import queries
from pyrozoo.report import __main__ as report
from tests.command.test_command import run

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")

SMALL = {"rows": 40, "columns": 4, "num_components": 2, "progress": False}
COMMAND = ["model=zip_mixture", "data.rows=40", "data.columns=4", "model.num_components=2", "progress=false"]


def fail(*arguments, **more):
    raise ZeroDivisionError("of no rows")


def broken_as(address):
    """Return a function that fails, called as the one at an address."""

    def failing(*arguments, **more):
        fail()

    failing.__name__ = address.rpartition(".")[2]
    return failing


@pytest.fixture(scope="module")
def fitted():
    return pyrozoo.fit("zip_mixture", "em", **SMALL)


@pytest.fixture
def fit(fitted):
    """A fit of which nothing has been made yet but its InferenceData."""
    kept = fitted.groups
    result = pyrozoo.Result.of(fitted, fitted.settings, kept)
    result.notes = []
    return result


@contextmanager
def no_file_beyond(size):
    """Let the system refuse to write more than so many bytes into a file, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def directory_of(folder):
    return next(path.parent for path in folder.rglob("posterior.nc"))


VIEW = "pyrozoo.models.zip_mixture.view."
STORE = "pyrozoo.store.run_directory."


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    ("broken", "what", "lacking"),
    [
        (f"{VIEW}_clusters", "the table clusters", "tables/clusters.csv"),
        (f"{VIEW}View.tables", "the tables", "tables/clusters.csv"),
        (f"{VIEW}_affinity", "the picture affinity", "figures/affinity.png"),
        (f"{VIEW}View.pictures", "the model's own pictures", "figures/affinity.png"),
        ("pyrozoo.report.pictures._posterior", "the picture posterior", "figures/posterior.png"),
        (f"{STORE}draw_plates", "the picture plates", "figures/model.png"),
        (f"{STORE}html.png", "the picture posterior", "figures/posterior.png"),
        (f"{STORE}summarise", "the table summary", "summary.csv"),
        (f"{STORE}html.page", "the page report.html", "report.html"),
        ("pyrozoo.run.fit.judge", "the verdict", None),
    ],
)
def test_a_fault_in_what_is_made_of_a_fit_is_a_note(broken, what, lacking, fit, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(broken, broken_as(broken))
        directory = fit.save(tmp_path / "run")
    (note,) = [note for note in fit.notes if note.startswith(f"{what} could not be made")]
    assert "ZeroDivisionError, of no rows" in note
    made = {"summary.csv", "report.html", "tables/components.csv", "figures/objective.png", "figures/components.png"}
    there = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    few = {"the tables": "tables", "the model's own pictures": "figures/comp"}.get(what, "figures" * ("png" in broken))
    assert {name for name in made - {lacking} if not (few and name.startswith(few))} <= there
    assert lacking not in there
    again = pyrozoo.load(directory)
    assert torch.equal(again.draws["rate"], fit.draws["rate"])
    assert again.metrics == fit.metrics
    if lacking:
        assert f"python -m pyrozoo.report {directory} tries again" in note
        if lacking != "report.html":
            assert note.split(":")[0] in (directory / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    if what in ("the table clusters", "the page report.html"):
        report.rebuild([str(directory)])
        assert (directory / lacking).is_file()
        assert note not in (directory / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    ("method", "broken", "what", "lost"),
    [
        ("em", "held_out", "the figures of what was held out", "holdout_rmse"),
        ("cavi", "loo", "the figures of LOO", "loo_elpd"),
        ("cavi", "approximation", "the figures of the approximation", "elbo"),
        ("gibbs", "convergence", "the figures of convergence", "rhat_max"),
        ("em", "checks", "the predictive checks", None),
        ("em", "view_of", "the model's own figures", None),
    ],
)
def test_a_fault_in_a_figure_leaves_the_others(method, broken, what, lost, monkeypatch):
    few = {"cavi": {"draws": 50}, "gibbs": {"draws": 20, "warmup": 5}}.get(method, {})
    whole = pyrozoo.fit("zip_mixture", method, **SMALL, **few)
    broke = (lambda model: type("Broken", (View,), {"metrics": fail})()) if broken == "view_of" else fail
    monkeypatch.setattr(f"pyrozoo.diagnostics.metrics.{broken}", broke)
    fit = pyrozoo.fit("zip_mixture", method, **SMALL, **few)
    (note,) = [note for note in fit.notes if "could not be made" in note]
    assert note == f"{what} could not be made: ZeroDivisionError, of no rows"
    assert lost is None or lost in whole.metrics
    assert lost not in fit.metrics
    assert {"holdout_elpd", "objective"} - {lost and "holdout_elpd" if "held" in what else lost} <= set(fit.metrics)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    ("broken", "group", "what"),
    [
        ("pointwise", "log_likelihood", "the log-likelihoods of units"),
        ("replica", "posterior_predictive", "data simulated from the fit"),
        ("prior_draw", "prior", "draws from the prior"),
        ("statistics", "posterior_predictive", "statistics of the data"),
    ],
)
def test_a_fault_in_what_is_stored_beside_the_draws_is_a_note(broken, group, what, tmp_path, monkeypatch):
    fit = pyrozoo.fit("zip_mixture", "em", **SMALL)
    vars(fit).pop("pointwise", None)
    monkeypatch.setattr(HandBuilt if broken == "statistics" else type(fit.posterior), broken, fail)
    assert issubclass(type(fit.posterior), Posterior)
    directory = fit.save(tmp_path / "run")
    assert any(note.startswith(f"{what} could not be made") for note in fit.notes)
    monkeypatch.undo()
    again = pyrozoo.load(directory)
    assert group not in again.inference_data
    assert torch.equal(again.draws["rate"], fit.draws["rate"])
    assert again.data.same(fit.data)


@pytest.mark.usefixtures("lenient")
def test_the_command_says_what_could_not_be_made(here, capsys, monkeypatch):
    """The flagship case: nothing is left to recommend, and quantiles are taken of nothing."""
    monkeypatch.setattr(queries, "recommend", lambda *_: torch.quantile(torch.empty(0), 0.5))
    short = ["inference.restarts=1", "moments=0", "progress=false"]
    code, out, _ = run(capsys, "model=poisson_mf", "inference=em", "data.rows=6", "data.columns=4", *short)
    assert code == 0
    assert "the table recommendations could not be made: RuntimeError, quantile() input tensor must be non-empty" in out
    directory = directory_of(here)
    assert (directory / "tables" / "genres.csv").is_file()
    assert len(pyrozoo.load(directory).draws["row_factors"])


@pytest.mark.parametrize("when", ["evaluate", "tables_of"])
def test_ctrl_c_after_the_fit_keeps_it(when, here, capsys, monkeypatch):
    def stopped(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"pyrozoo.{'run.fit' if when == 'evaluate' else 'store.run_directory'}.{when}", stopped)
        assert run(capsys, *COMMAND, "inference=em", "seed=2")[0] == 130
    directory = directory_of(here)
    assert not (directory / "report.html").exists()
    expected = pyrozoo.fit("zip_mixture", "em", seed=2, **SMALL)
    again = pyrozoo.load(directory)
    assert torch.equal(again.draws["rate"], expected.draws["rate"])
    figures = {name: value for name, value in expected.metrics.items() if name != "seconds"}
    assert {name: value for name, value in again.metrics.items() if name != "seconds"} == figures
    report.rebuild([str(directory)])
    assert (directory / "report.html").is_file()
    assert pyrozoo.load(directory).metrics == again.metrics


def test_a_full_disk_is_one_line(here, capsys):
    with no_file_beyond(4096):
        code, _, err = run(capsys, *COMMAND, "inference=em")
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("pyrozoo: File too large: ")
    assert "posterior.nc" in err
    assert not list(here.rglob("*.nc")), "nothing half written is left"


def test_a_disk_that_is_full_once_the_fit_is_saved(here, capsys, monkeypatch):
    """Its report is larger than the draws."""
    monkeypatch.setattr("pyrozoo.report.html.png", lambda picture: bytes(1_000_000))
    with no_file_beyond(500_000):
        code, _, err = run(capsys, *COMMAND, "inference=em")
    assert code == 2
    assert err.count("\n") == 1
    directory = directory_of(here)
    assert f"(the fit is kept: python -m pyrozoo.report {directory} makes the rest)" in err
    assert "holdout_elpd" in pyrozoo.load(directory).metrics
    assert not list(here.rglob(".*.png")), "no temporary file is left"


def test_a_full_disk_while_a_checkpoint_is_written(here, capsys):
    """Torch's own writer says "unexpected pos 576 vs 534"."""
    with no_file_beyond(4096):
        code, _, err = run(capsys, *COMMAND, "data.rows=400", "inference=em", "checkpoint_every=1")
    assert code == 2
    assert err.count("\n") == 1
    assert "File too large" in err
    assert "checkpoint.pt" in err


@pytest.mark.parametrize("named", [True, False])
def test_what_cannot_be_written_names_the_file(tmp_path, named):
    path = tmp_path / "folder" / "file.csv"
    with pytest.raises(OSError, match="No space left on device") as caught, replacing(path) as temporary:
        raise OSError(errno.ENOSPC, "No space left on device", *([str(temporary)] if named else []))
    assert caught.value.filename == str(path)
