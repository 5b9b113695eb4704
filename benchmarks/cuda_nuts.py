"""NUTS on a card: ours, as one graph of it or compiled for the CPU, against NumPyro's on the same card.

``python -m benchmarks.cuda_nuts [TASK ROWS ...]`` prints, for every task and number of rows, seconds with and without
compiling and effective samples a second of the worst quantity. ``PYROZOO_NUMPYRO`` names the Python that has NumPyro.
``--gradients TASK ROWS ...`` prints how long one gradient takes instead, alone and while all chains ask for theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch

from benchmarks.nuts import CHAINS, GROUPS, PROGRAMS, Arrays, zip_mixture_by_hand, zoo
from pyrozoo import nuts
from pyrozoo.compiler.captured import CapturedDensity
from pyrozoo.compiler.density import CompiledDensity
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.devices import called
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.math.branches import without_branches
from pyrozoo.math.mixing import ess
from pyrozoo.program.density import ProgramDensity

ITERATIONS = int(os.environ.get("PYROZOO_ITERATIONS", "300"))
"""Of the warm-up, and as many draws."""

SHORTEST = 0.05
"""Seconds that are long enough to be timed."""

USUAL = ("zip_mixture", "1000", "zip_mixture", "50000", "hierarchy", "1000", "hierarchy", "100000")
MOST_ON_THE_CPU = 100_000
"""Rows above which the CPU is left out: it would take minutes."""


def data_of(task: str, rows: int) -> Arrays:
    """Return the data of a task."""
    if task == "zip_mixture":
        return {"x": simulate_data(zoo(), rows=rows, columns=10, seed=0, missing=0.0).values.numpy()}
    random = np.random.default_rng(0)
    group, x = np.arange(rows) % GROUPS, random.standard_normal(rows)
    line = np.array([1.0, -0.5]) + np.array([1.0, 0.4]) * random.standard_normal((GROUPS, 2))
    return {"x": x, "group": group, "y": line[group, 0] + line[group, 1] * x + 0.7 * random.standard_normal(rows)}


def effective(task: str, draws: Arrays) -> float:
    """Return the effective samples of the worst quantity that no relabelling changes."""
    sites: Any = {name: torch.from_numpy(np.asarray(value, dtype=np.float64)) for name, value in draws.items()}
    if task == "zip_mixture":  # of a few rows: who is with whom is known by the parameters
        sites = {name: sites[name] for name in ("weights", "on_prob", "rate")}
        sites = Posterior.of(zoo(), Table.of(data_of(task, 20)["x"])).invariants(sites)
    return min(float(ess(value).min()) for value in sites.values())


def ours(task: str, data: Arrays, device: str) -> tuple[list[float], Arrays, str]:
    """Return seconds of two runs, the draws of the second, and what ran."""
    args = [torch.from_numpy(value).to(device) for value in data.values()]
    seconds = []
    for seed in (0, 1):
        started = time.perf_counter()
        found = nuts(
            PROGRAMS[task], args, draws=ITERATIONS, warmup=ITERATIONS, chains=CHAINS, seed=seed, backend="nutpie",
            log_density=zip_mixture_by_hand if task == "zip_mixture" else None, progress=False,
        )  # fmt: skip
        seconds.append(time.perf_counter() - started)
    return seconds, {str(name): value.values for name, value in found.posterior.items()}, found.attrs["note"]


def theirs(task: str, data: Arrays, python: str) -> tuple[list[float], Arrays, str]:
    """Return the same of NumPyro."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "data.npz"), Path(folder, "found.npz")
        whole: Any = {n: v.astype(np.int64) if task == "zip_mixture" else v for n, v in data.items()}
        np.savez(given, **whole)
        script = [python, str(Path(__file__).with_name("nuts_peers.py")), task, str(given), str(found)]
        subprocess.run([*script, str(ITERATIONS), "vectorized"], check=True, stdout=sys.stderr)
        arrays = dict(np.load(found))
    return arrays.pop("seconds").tolist(), arrays, f"NumPyro {arrays.pop('version')}"


def gradients(task: str, data: Arrays, device: str) -> tuple[float, float]:
    """Return microseconds of a gradient, alone and of all chains at once (a core each where compiled)."""
    args = [torch.from_numpy(value).to(device) for value in data.values()]
    space = ProgramDensity(PROGRAMS[task], args, None, zip_mixture_by_hand if task == "zip_mixture" else None)
    at = torch.zeros(space.size, dtype=torch.float64)
    with without_branches(), pyro.validation_enabled(False):
        density = (CompiledDensity if device == "cpu" else CapturedDensity)(space, at.to(device))

    def some(number: int) -> None:
        for _ in range(number):
            density(at)

    number = 1
    while True:  # until it lasts long enough to be timed
        started = time.perf_counter()
        some(number)
        if (alone := time.perf_counter() - started) > SHORTEST:
            break
        number *= 4
    if device == "cpu":
        return alone / number * 1e6, alone / number * 1e6
    with ThreadPoolExecutor(CHAINS) as pool:
        started = time.perf_counter()
        list(pool.map(some, [number] * CHAINS))
        together = time.perf_counter() - started
    return alone / number * 1e6, together / number * 1e6


def print_gradients(asked: list[str]) -> None:
    """Print a line per task and number of rows."""
    for task, rows in zip(asked[::2], asked[1::2], strict=True):
        data = data_of(task, int(rows))
        numbers = sum(value.size for value in data.values())
        said = []
        for device in ("cpu", "cuda"):
            alone, together = gradients(task, data, device)
            said.append(f"{device} {alone:.0f} us alone, {together:.0f} us where {CHAINS} chains ask")
        print(f"{task}, {rows} rows, {numbers} numbers: {'; '.join(said)}", flush=True)


def main() -> None:
    """Print a line per task and way."""
    if sys.argv[1:2] == ["--gradients"]:
        return print_gradients(sys.argv[2:])
    asked = sys.argv[1:] or USUAL
    print(called(torch.device("cuda")), f"{CHAINS} chains of {ITERATIONS} + {ITERATIONS}", flush=True)
    for task, rows in zip(asked[::2], asked[1::2], strict=True):
        data = data_of(task, int(rows))
        devices = ("cpu", "cuda") if int(rows) <= MOST_ON_THE_CPU else ("cuda",)
        ways: list[tuple[str, Any, str]] = [(f"ours, {device}", ours, device) for device in devices]
        if python := os.environ.get("PYROZOO_NUMPYRO"):
            ways.append(("NumPyro, cuda", theirs, python))
        for way, function, last in ways:
            try:
                (first, second), draws, note = function(task, data, last)
            except Exception as error:  # the others are worth their time
                print(f"{task} {rows} {way}: {type(error).__name__} {str(error)[:300]}", flush=True)
                continue
            worth = effective(task, draws)
            rate = f"{worth:.0f} effective, {worth / second:.1f} a second"
            print(f"{task} {rows} {way}: {first:.2f} s, again {second:.2f} s, {rate} ({note})", flush=True)


if __name__ == "__main__":
    main()
