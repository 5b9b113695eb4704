"""Sweeps whose jobs run in parallel: by joblib, and by submitit as on a cluster."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from omegaconf import OmegaConf

import pyrozoo
from pyrozoo.command import arguments, compose, sweep
from tests.command.test_command import run

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")

TWO = ["-m", "model=zip_mixture", "data.rows=30", "data.columns=3", "inference=em,cavi"]


def only_sweep(folder: Path) -> Path:
    (found,) = folder.glob("outputs/sweeps/*")
    return found


def as_a_module(*arguments: str) -> tuple[int, str, str]:
    """Run ``python -m pyrozoo``, whose functions are those of ``__main__`` to the jobs' processes."""
    started = [sys.executable, "-m", "pyrozoo", *arguments]
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_a_parallel_sweep_is_a_comparison(here, capfd, launcher):
    """Each job has its own seed, its own directory and a process of its own."""
    arguments = [*TWO, "inference.max_iterations=5", "report=none", f"hydra/launcher={launcher}"]
    code, out, err = as_a_module(*arguments) if launcher == "joblib" else run(capfd, *arguments)
    assert (code, err) == (0, "")
    directory = only_sweep(here)
    assert out.splitlines()[-1] == str(directory.relative_to(here) / "report.html")
    table = pd.read_csv(directory / "comparison.csv")
    assert table["method"].tolist() == ["em", "cavi"]
    assert table["seed"].tolist() == [0, 1]
    assert table["iterations"].tolist() == [5, 5]
    assert [path.name for path in sweep.runs_of(directory)] == ["0_zip_mixture_em", "1_zip_mixture_cavi"]
    assert (directory / ".submitit").is_dir() == (launcher == "submitit_local")


@pytest.fixture
def act(here, monkeypatch):
    """Return a function that sets what the second job of a sweep does once the first has finished."""
    done = pyrozoo.fit("zip_mixture", "em", rows=30, columns=3, progress=False).save(here / "done")
    whole = here / "whole"  # a copy's metrics.json is there before the rest is

    def install(what) -> None:
        def execute(config, directory, **arguments):
            if config.inference.name == "em":
                shutil.copytree(done, directory, dirs_exist_ok=True)  # a fit, without the time that one takes
                whole.touch()
                return 0
            while not whole.exists():
                time.sleep(0.05)
            return what()

        monkeypatch.setattr(compose, "execute", execute)

    cloudpickle.register_pickle_by_value(compose)  # a job's process would import the command as it stands
    yield install
    cloudpickle.unregister_pickle_by_value(compose)
    get_reusable_executor().shutdown(kill_workers=True)


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_a_killed_job_is_named(here, capfd, act, launcher):
    act(lambda: os.kill(os.getpid(), signal.SIGKILL))
    code, out, err = run(capfd, *TWO, f"hydra/launcher={launcher}")
    assert code == 2
    assert err.startswith("pyrozoo: failed: 1_zip_mixture_cavi: killed from outside (out of memory?)")
    assert err.count("\n") == 1
    directory = only_sweep(here)
    assert out.splitlines()[-1] == str(directory.relative_to(here) / "report.html")
    table = pd.read_csv(directory / "comparison.csv")
    assert table["method"].tolist() == ["em", "cavi"]
    assert table["status"].tolist()[1] == "failed"
    assert "killed" in table["error"][1]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=str)
def test_an_interrupted_sweep_reports_what_has_finished(here, capfd, act, number):
    def interrupt() -> None:
        os.kill(os.getppid(), number)
        signal.pause()  # until it is killed

    act(interrupt)
    code, _, err = run(capfd, *TWO, "hydra/launcher=joblib")
    assert (code, err) == (130, "")
    table = pd.read_csv(only_sweep(here) / "comparison.csv")
    assert table["status"].tolist() == ["converged", "interrupted"]


def test_a_launcher_that_is_not_installed(here, capsys, monkeypatch):
    monkeypatch.setattr(arguments, "find_spec", lambda name: None)
    code, _, err = run(capsys, *TWO, "hydra/launcher=submitit_slurm")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'pyrozoo[cluster]'" in err


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("PYTHONWARNINGS", "")
    jobs = sweep.count_jobs(["model=zip_mixture", "inference=em,cavi", "model.num_components=1,2,3", "seed=range(2)"])
    assert jobs == 12
    for jobs, workers in ((12, 8), (3, 3)):
        config = OmegaConf.create({"hydra": {"launcher": {"n_jobs": -1}}})
        sweep.share_cores(config, jobs)
        assert config.hydra.launcher.n_jobs == workers
    config.hydra.launcher.n_jobs = 2
    sweep.share_cores(config, 12)
    assert config.hydra.launcher.n_jobs == 2, "what is asked for stays"
    assert "OMP_NUM_THREADS" not in os.environ, "joblib sees to it"
    sweep.share_cores(OmegaConf.create({"hydra": {"launcher": {}}}), 3)
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_what_is_no_job_is_left_out(tmp_path):
    for name in ("10_b_c", "2_a_b", ".submitit", "2026-11-22", "figures"):
        (tmp_path / name / (".hydra" if name != "figures" else "x")).mkdir(parents=True)
    assert [path.name for path in sweep.runs_of(tmp_path)] == ["2_a_b", "10_b_c", "2026-11-22"]
