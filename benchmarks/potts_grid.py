"""potts_grid: sweeps of messages against PGMax and a plain version, exact marginals against pgmpy, and how cost grows.

The peers run in an environment of their own, whose Python ``PYROZOO_PEERS`` names; the flag is found in
``PYROZOO_DATA``.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pyrozoo
from benchmarks.harness import Row, alone, in_turns
from pyrozoo.data.grid import Grid, pattern
from pyrozoo.data.named import read_named
from pyrozoo.math.elimination import Eliminated
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.messages import Passing
from pyrozoo.models.potts_grid.model import PottsGrid
from pyrozoo.run import catalog

MODEL = PottsGrid(3, 10.0, ((10.0, 2.0, 0.0), (2.0, 10.0, 2.0), (0.0, 2.0, 10.0)))
GENTLE = PottsGrid(3, 1.0, ((1.0, 0.2, 0.0), (0.2, 1.0, 0.2), (0.0, 0.2, 1.0)))
"""pgmpy multiplies potentials, not their logarithms: with those of ``MODEL`` it overflows."""

SWEEPS = 30
JUNCTION_SIDE = int(os.environ.get("PYROZOO_JUNCTION_SIDE", "6"))
"""Side of the grid for pgmpy; 7 takes it 23 GB."""


def flag(dtype: torch.dtype) -> Grid:
    return read_named(catalog.settings("data", "potts_flag")).to("cpu", dtype)


class Ours:
    """Undamped sweeps, with Bethe's estimate after each, as the engine makes them."""

    def __init__(self, data: Grid):
        self.passing = Passing(Potentials.of(MODEL, data), 0.0, maximise=False)

    def __call__(self) -> None:
        self.state = self.passing.start(1)
        for _ in range(SWEEPS):
            self.state, self.residual, self.bethe = self.passing.sweep(self.state)


class Plain:
    """Four arrays [H, W, K] of log messages, log-sum-exp over K x K, one direction after the other."""

    def __init__(self, data: Grid):
        potentials = Potentials.of(MODEL, data)
        self.unary, self.J = potentials.unary, potentials.coupling

    def send(self, cavity: Tensor) -> Tensor:
        message = (cavity[..., :, None] + self.J).logsumexp(-2)
        return message - message.logsumexp(-1, keepdim=True)

    def __call__(self) -> None:
        left, right, up, down = (torch.zeros_like(self.unary) for _ in range(4))  # by where they come from
        for _ in range(SWEEPS):
            total = self.unary + left + right + up + down
            new = [torch.zeros_like(self.unary) for _ in range(4)]
            new[0][:, 1:] = self.send(total - right)[:, :-1]
            new[1][:, :-1] = self.send(total - left)[:, 1:]
            new[2][1:] = self.send(total - down)[:-1]
            new[3][:-1] = self.send(total - up)[1:]
            left, right, up, down = new
        self.marginals = (self.unary + left + right + up + down).softmax(-1)


def peer(name: str, model: PottsGrid, data: Grid) -> dict[str, Any] | None:
    """Run a peer in its own environment; None where there is none."""
    python = os.environ.get("PYROZOO_PEERS")
    if not python:
        return None
    potentials = Potentials.of(model, data.to("cpu", torch.float64))
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "data.npz"), Path(folder, "out.npz")
        np.savez(given, unary=potentials.unary.numpy(), coupling=potentials.coupling.numpy(), sweeps=SWEEPS)
        script = Path(__file__).with_name("potts_grid_peers.py")
        subprocess.run([python, str(script), name, str(given), str(found)], check=True)
        with np.load(found) as arrays:
            return {name: arrays[name] for name in arrays.files}


def exactly(data: Grid) -> Tensor:
    """Return exact marginals."""
    potentials = Potentials.of(GENTLE, data)
    return Eliminated(potentials.unary, potentials.coupling).marginals().label


def large() -> None:
    """Fit a million pixels by belief propagation, through the engine."""
    pyrozoo.fit(MODEL, "bp", rows=1000, columns=1000, max_iterations=SWEEPS, draws=1, progress=False)


def rows() -> Iterator[Row]:
    for dtype in (torch.float32, torch.float64):
        data, name = flag(dtype), str(dtype).removeprefix("torch.")
        ours, plain = Ours(data), Plain(data)
        mine, theirs = in_turns(ours, plain, 7)
        task = f"potts_grid BP, flag 100 x 100 x 3, {SWEEPS} sweeps, {name}"
        ends = ours.passing.probability(ours.state)[0]
        gap = float((ends - plain.marginals).abs().max())
        note = f"largest change of a message in the last sweep {float(ours.residual[0]):.2g}; "
        yield Row(task, mine, "plain version, PyTorch", theirs, f"{note}beliefs differ by at most {gap:.1g}")
        if (found := peer("pgmax", MODEL, data)) is not None:
            again, _ = in_turns(ours, lambda: None, 7)  # beside it in time
            gap = float((ends.double() - torch.as_tensor(found["marginals"]).double()).abs().max())
            yield Row(
                task, again, f"{found['version']}, float32, compiled", float(found["seconds"]),
                f"its first call {float(found['first']):.2f} s; beliefs differ by at most {gap:.1g}",
            )  # fmt: skip
    seconds, megabytes = alone(large)
    yield Row(
        f"potts_grid BP, 1000 x 1000 x 3, {SWEEPS} sweeps, float64, fit with everything, imports included", seconds,
        "", None, "", megabytes,
    )  # fmt: skip
    side = JUNCTION_SIDE
    data = pattern("spiral", side, side, 3).with_noise(0.1, 0)
    if (found := peer("pgmpy", GENTLE, data)) is not None:
        mine, _ = in_turns(lambda: exactly(data), lambda: None, 7)
        gap = float((exactly(data) - torch.as_tensor(found["marginals"])).abs().nan_to_num().max())
        yield Row(
            f"potts_grid exact marginals, {side} x {side} x 3", mine, f"{found['version']}, junction tree",
            float(found["seconds"]), f"its memory {float(found['megabytes']):.0f} MB; they differ by at most {gap:.1g}",
        )  # fmt: skip
    for side in (7, 8, 10, 11):
        data = pattern("spiral", side, side, 3).with_noise(0.1, 0)
        started = time.perf_counter()
        exactly(data)
        yield Row(f"potts_grid exact marginals, {side} x {side} x 3", time.perf_counter() - started, "", None)
    for side in (32, 100, 316, 1000):
        data = pattern("spiral", side, side, 3).with_noise(0.1, 0)
        ours = Ours(data)
        mine, _ = in_turns(ours, lambda: None, 3)
        each = 1e9 * mine / SWEEPS / side**2
        yield Row(f"potts_grid BP, {side} x {side} x 3, {SWEEPS} sweeps, float64", mine, "", None,
                  f"{each:.0f} ns per pixel and sweep")  # fmt: skip
