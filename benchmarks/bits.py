"""Fits in many processes have the bits of one: a table of hashes, with processes killed in the middle.

``python -m benchmarks.bits`` fits by every method that runs on rows in shards, and starts torchrun for each way: 1, 2
and 4 processes; 4 of which one is killed (SIGKILL) in the middle, so that torchrun starts all again and they go on from
the last checkpoint; 4 that stop in the middle, and 2 that go on. ``python -m benchmarks.bits zip_mixture.em ...`` does
so for some methods.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch

from pyrozoo.core.world import close, world
from pyrozoo.run import catalog
from pyrozoo.run.fit import Run, configuration

WAYS = {
    "1": [(1, "")],
    "2": [(2, "")],
    "4": [(4, "")],
    "4, one killed": [(4, "kill")],
    "4, then 2": [(4, "stop"), (2, "")],
}
"""Name -> numbers of processes, one after the other, and what happens in the middle of their fits."""

MIDDLE, EVERY = 8, 3
"""The step in which it happens, and steps between checkpoints."""

SETTINGS = {
    "optimise": {"restarts": 2, "max_iterations": 12, "tol": 0.0},
    "sample": {"chains": 2, "warmup": 2, "draws": 10, "thin": 1},
    "direct": {},
}
"""Engine -> settings of its fits."""

SHARDS, ROWS = 16, 400


class Stopped(Exception):
    """A fit that another number of processes goes on with."""


def methods() -> list[tuple[str, str]]:
    """Return model and name of every method that runs on rows in shards."""
    pairs = [(model, method) for model in catalog.models() for method in catalog.methods(model)]
    solvers = [pair for pair in pairs if catalog.settings("inference", pair[1])["needs"] == "solver"]
    return [(model, method) for model, method in solvers if catalog.part(model, method).Solver.by_row is not None]


def bits(model: str, method: str, place: Path, event: str) -> str:
    """Return a hash of the draws of a fit, which goes on where it was stopped.

    Args:
        model: Its name.
        method: Likewise.
        place: A directory for this fit alone.
        event: ``kill`` the last process in the middle, the first time; ``stop`` all; nothing.
    """
    engine, solver = catalog.settings("inference", method)["engine"], catalog.part(model, method).Solver
    more = {"solver": {"fill": "mean"}} if method in ("pca", "ppca") else {}
    config = configuration(
        model, method, None, {**SETTINGS[engine], "rows": ROWS}, shards=SHARDS, checkpoint_every=EVERY, progress=False,
        threads=1, **more,
    )  # fmt: skip
    step, steps = solver.step, [0]

    def counted(self: Any, state: Any) -> Any:
        steps[0] += 1
        if steps[0] == (1 if engine == "direct" else MIDDLE):
            _happen(event, place)
        return step(self, state)

    with mock.patch.object(solver, "step", counted):
        resume = (place / "checkpoint.pt").is_file()
        fit = Run.from_config(config, directory=place, resume=resume).fit()
    draws = b"".join(fit.draws[site].contiguous().numpy().tobytes() for site in sorted(fit.draws))
    return hashlib.sha256(draws + repr(fit.objective).encode()).hexdigest()


def _happen(event: str, place: Path) -> None:
    if event == "stop":
        raise Stopped
    mark = place / "killed"
    if event == "kill" and world().rank == world().size - 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def work(directory: Path, event: str, chosen: list[str]) -> None:
    """Fit by all methods, in one of several processes; what has been fitted is not fitted again."""
    for name in chosen:
        place = directory / name
        place.mkdir(exist_ok=True)
        if (found := place / "bits").is_file():
            continue
        try:
            done = bits(*name.split("."), place, event)
        except Stopped:
            continue
        if world().rank == 0:
            found.write_text(done)
    close()


def hashes(directory: Path, way: str, chosen: list[str]) -> dict[str, str]:
    """Return method -> hash of one way."""
    for processes, event in WAYS[way]:
        launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        restarts = len(chosen) if event == "kill" else 0
        command = [sys.executable, "-m", *launch, f"--max-restarts={restarts}", "-m", "benchmarks.bits"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        asked = json.dumps([str(directory), event, chosen])
        done = subprocess.run([*command, "--work", asked], env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        if event == "kill":
            assert len(list(directory.glob("*/killed"))) == len(chosen), "not all have been killed"
    return {name: (directory / name / "bits").read_text() for name in chosen}


def main() -> int:
    """Print the table; return how many methods have other bits in some way."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--work"]:
        directory, event, chosen = json.loads(sys.argv[2])
        work(Path(directory), event, chosen)
        return 0
    chosen = sys.argv[1:] or [f"{model}.{method}" for model, method in methods()]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, way in enumerate(WAYS):
            (directory := Path(folder) / str(i)).mkdir()
            found[way] = hashes(directory, way, chosen)
    frame = pd.DataFrame(found)
    odd = frame.nunique(axis=1) > 1
    print(frame.map(lambda each: each[:12]).assign(alike=~odd).to_string())
    return int(odd.sum())


if __name__ == "__main__":
    sys.exit(main())
