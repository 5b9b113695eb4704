"""A run that is killed at any moment goes on to the same bits, and loses no more than its checkpoints stand for."""

from __future__ import annotations

import io
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrozoo
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.errors import DataError
from pyrozoo.inference import loop
from tests.case import refused

pytestmark = [pytest.mark.usefixtures("undrawn", "unchecked"),
              pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs that are killed are forks")]  # fmt: skip


def rates(x: torch.Tensor) -> None:
    """Counts of two columns: every conditional is conjugate."""
    with pyro.plate("column", x.shape[1]):
        rate = pyro.sample("rate", dist.Gamma(x.new_tensor(2.0), x.new_tensor(1.0)))
        with pyro.plate("row", len(x)):
            pyro.sample("x", dist.Poisson(rate), obs=x)


X = torch.tensor([[1.0, 4.0], [2.0, 6.0], [0.0, 5.0], [3.0, 9.0]], dtype=torch.float64)
ZIP = {"rows": 25, "columns": 3, "num_components": 2}
EVERY = 4

RUNS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "optimise": ("zip_mixture", "em", {**ZIP, "restarts": 4, "max_iterations": 30, "tol": 0.0}),
    "sample": ("zip_mixture", "gibbs", {**ZIP, "chains": 2, "warmup": 6, "draws": 24, "thin": 1}),
    "svi": ("zip_mixture", "svi", {**ZIP, "restarts": 3, "restart_steps": 6, "max_steps": 30, "draws": 20}),
    "laplace": ("zip_mixture", "laplace", {**ZIP, "restarts": 2, "max_iterations": 20, "draws": 20}),
    "nuts": ("zip_mixture", "nuts", {**ZIP, "chains": 3, "warmup": 4, "draws": 4, "backend": "pyro"}),
    "derived gibbs": (rates, "gibbs", {"args": (X,), "chains": 2, "warmup": 4, "draws": 20, "thin": 1}),
    "derived cavi": (rates, "cavi", {"args": (X,), "restarts": 2, "max_iterations": 25, "tol": 0.0, "draws": 20}),
}
"""Engine -> model, method, settings: small, and of one length whatever they find."""


def start(engine: str, **more: Any) -> Fit:
    model, method, settings = RUNS[engine]
    return pyrozoo.fit(model, method, progress=False, **settings, **more)


def counted(told: Callable[[int], object]) -> Callable[..., Any]:
    """Return what takes the place of the progress bar, and tells how many iterations have been made."""
    return lambda *_, **__: nullcontext(SimpleNamespace(disable=True, update=told))


def killed(directory: Path, engine: str, after: int, delay: float) -> int:
    """Kill a run some time after so many iterations; return how many it had made."""
    read, write = os.pipe()
    if not (pid := os.fork()):
        try:
            os.close(read)
            sys.stdout = sys.stderr = io.StringIO()
            loop.bar = counted(lambda made: os.write(write, b"." * made))
            start(engine, directory=directory, checkpoint_every=EVERY)
        finally:
            os._exit(0)
    os.close(write)
    made = 0
    while made < after and (news := os.read(read, 1000)):
        made += len(news)
    until = time.perf_counter() + delay
    while time.perf_counter() < until:  # asleep it would wake too late to hit a write
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while news := os.read(read, 1000):
        made += len(news)
    os.close(read)
    return made


def same(one: Fit, other: Fit) -> None:
    """Hold a fit to another in every bit but the seconds."""
    assert set(one.draws) == set(other.draws)
    assert all(torch.equal(value, other.draws[site]) for site, value in one.draws.items())
    assert (one.objective, one.status, one.iterations) == (other.objective, other.status, other.iterations)
    assert one.trace.drop(columns="seconds").equals(other.trace.drop(columns="seconds"))
    assert one.runs.equals(other.runs)
    figures, others = ({k: v for k, v in fit.metrics.items() if "second" not in k} for fit in (one, other))
    assert figures == others


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("engine", RUNS)
def test_a_killed_run_goes_on_to_the_same_bits(engine, times, tmp_path, monkeypatch):
    total = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "bar", counted(lambda made: [next(total) for _ in range(made)]))
        whole = start(engine)
    rng, most = np.random.default_rng(len(engine)), next(total)
    model, _, settings = RUNS[engine]
    again = {"model": model, "args": settings["args"]} if "args" in settings else {}
    for i in range(times):
        directory = tmp_path / str(i)
        made = killed(directory, engine, int(rng.integers(1, most)), float(rng.exponential(0.002)))
        saved = loop.read_checkpoint(directory / "checkpoint.pt")
        kept = sum(len(chain["vectors"]) for chain in saved["process"]["finished"].values()) if engine == "nuts" else 0
        lost = made - (kept or saved["iterations"] * (engine != "nuts"))
        assert 0 <= lost <= (EVERY if engine != "nuts" else 8 + EVERY), "of nuts a chain is begun anew"
        same(pyrozoo.resume(directory, progress=False, **again), whole)


def test_what_is_computed_at_once_has_no_checkpoints(tmp_path):
    pyrozoo.fit("factor_analysis", "ppca", rows=20, columns=4, num_factors=1, holdout=0, missing=0, progress=False,
                directory=tmp_path, checkpoint_every=1)  # fmt: skip
    assert "no checkpoint" in refused(DataError, pyrozoo.resume, tmp_path)
