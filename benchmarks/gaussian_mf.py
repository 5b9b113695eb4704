"""gaussian_mf on Jester: a Gibbs sweep against the textbook's and myFM's, and what each method predicts how fast.

myFM runs in an environment of its own, whose Python ``PYROZOO_PEERS`` names; Jester is found in ``PYROZOO_DATA``.
"""

from __future__ import annotations

import dataclasses
import math
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
from benchmarks.harness import Row, in_turns
from pyrozoo.core.seeds import seeded
from pyrozoo.data.named import read_named
from pyrozoo.data.ratings import Ratings
from pyrozoo.models.gaussian_mf import gibbs
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.gaussian_mf.posterior import Posterior
from pyrozoo.run import catalog

FACTORS, SWEEPS = 5, 100
MODEL = GaussianMF(FACTORS, 5.0, 5.0, 16.0, False, 1.0, False, 100.0, 1.0, False, None, 1.0)
FULL = dataclasses.replace(MODEL, learn_noise=True, offsets=True, offset_variance=5.0, hierarchical=True)
TASK = f"jester, K={FACTORS}, a tenth held out"


def jester(dtype: torch.dtype) -> Ratings:
    return read_named(catalog.settings("data", "jester")).hold_out(0.1, 0).to("cpu", dtype)


def rmse(mean: Any, data: Ratings) -> float:
    return float((torch.as_tensor(mean).double() - data.hidden.values.double()).square().mean().sqrt())


class Ours:
    """100 sweeps from a random start, timed without the predictions; the mean of the last 50 of what is held out."""

    def __init__(self, model: GaussianMF, data: Ratings):
        self.model, self.data = model, data

    def __call__(self) -> None:
        with seeded(0):
            solver = gibbs.Solver(Posterior(self.model, self.data))
            state, total = solver.init(1), 0
            sweeping = 0.0
            for sweep in range(SWEEPS):
                started = time.perf_counter()
                state, _ = solver.step(state)
                sweeping += time.perf_counter() - started
                if sweep >= SWEEPS // 2:
                    total = total + solver.predictive(state)[0][0]
        self.sweep = sweeping / SWEEPS
        self.rmse = rmse(total / (SWEEPS // 2), self.data)


class Textbook:
    """The same as papers state it: one batch of K x K systems per side, their matrices by one product of the mask."""

    def __init__(self, model: GaussianMF, data: Ratings):
        self.model, self.data = model, data

    def side(self, mask: Tensor, ratings: Tensor, other: Tensor, variance: float) -> Tensor:
        K, noise = other.shape[1], self.model.noise_variance
        outer = (other[:, :, None] * other[:, None]).flatten(1)
        precision = (mask @ outer).unflatten(1, (K, K)) / noise + torch.eye(K, dtype=other.dtype) / variance
        factor = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve((ratings @ other / noise)[..., None], factor)
        away = torch.linalg.solve_triangular(factor.mT, torch.randn_like(mean), upper=True)
        return (mean + away)[..., 0]

    def __call__(self) -> None:
        data, m = self.data, self.model
        mask = data.values.new_zeros(data.shape)
        ratings = mask.clone()
        i, j = data.values[:, :2].long().unbind(1)
        mask[i, j], ratings[i, j] = 1, data.counts
        with seeded(0):
            start = Posterior(m, data).initial(1)
            U, V, total = start["row_factors"][0], start["column_factors"][0], 0
            for sweep in range(SWEEPS):
                U = self.side(mask, ratings, V, m.row_factor_variance)
                V = self.side(mask.T, ratings.T, U, m.column_factor_variance)
                if sweep >= SWEEPS // 2:
                    total = total + (U[data.hidden.rows] * V[data.hidden.columns]).sum(1)
        self.rmse = rmse(total / (SWEEPS // 2), data)


def myfm(data: Ratings) -> dict[str, Any] | None:
    """Run myFM in its own environment; None where there is none."""
    python = os.environ.get("PYROZOO_PEERS")
    if not python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "data.npz"), Path(folder, "out.npz")
        hidden = torch.stack([data.hidden.rows, data.hidden.columns], 1).numpy()
        np.savez(given, train=data.values.double().numpy(), test=hidden, shape=np.array(data.shape))
        script = Path(__file__).with_name("gaussian_mf_peers.py")
        subprocess.run([python, str(script), str(given), str(found), str(FACTORS), str(SWEEPS)], check=True)
        with np.load(found) as arrays:
            return {name: arrays[name] for name in arrays.files}


def rows() -> Iterator[Row]:
    for dtype in (torch.float32, torch.float64):
        data, name = jester(dtype), str(dtype).removeprefix("torch.")
        ours, theirs = Ours(MODEL, data), Textbook(MODEL, data)
        mine, textbook = in_turns(ours, theirs)
        yield Row(
            f"gaussian_mf Gibbs, {TASK}, {SWEEPS} sweeps and predictions, {name}", mine,
            "one batched Cholesky per side, the mask dense, PyTorch", textbook,
            f"test RMSE {ours.rmse:.4f}; theirs {theirs.rmse:.4f}",
        )  # fmt: skip
    data = jester(torch.float32)
    if (peer := myfm(data)) is not None:
        theirs = float(peer["seconds"])
        for what, model in (("fixed noise, no offsets", MODEL), ("all options, as myFM has", FULL)):
            ours = Ours(model, data)
            sweeps = []
            for _ in range(3):
                ours()
                sweeps.append(ours.sweep)
            yield Row(
                f"gaussian_mf Gibbs sweep, {TASK}, float32, {what}", sorted(sweeps)[1], str(peer["version"]), theirs,
                f"{SWEEPS} sweeps: test RMSE {ours.rmse:.4f}; theirs {rmse(peer['mean'], data):.4f}",
            )  # fmt: skip
    quiet = {"holdout": 0.1, "data": "jester", "progress": False}
    for method, settings in METHODS.items():
        # In single precision the last digits of a mode's objective hide that it still rises.
        dtype = "float64" if method in ("em", "mle") else "float32"
        fit = pyrozoo.fit(MODEL, method, dtype=dtype, **quiet, **settings)
        nll, error = fit.metrics["test_nll"], fit.metrics["test_rmse"]
        yield Row(
            f"gaussian_mf {method}, {TASK}, {dtype}, the engine's whole run", fit.seconds, "", None,
            f"test NLL {nll:.4f}, RMSE {error:.4f}, train NLL {fit.metrics['train_nll']:.4f}; "
            f"{fit.iterations} iterations, {fit.status}",
        )  # fmt: skip
        assert math.isfinite(nll)


METHODS = {
    "gibbs": {"chains": 1, "warmup": 50, "draws": 50, "thin": 1},
    "svi": {
        "batch_size": 40_000, "max_steps": 410, "learning_rate": 0.2, "final_learning_rate": 0.05, "restarts": 1,
        "window": 410, "evaluation_draws": 10, "draws": 200,
    },
    "cavi": {"restarts": 1, "max_iterations": 100, "draws": 200},
    "em": {"restarts": 1, "max_iterations": 100, "tol": 1e-8},
    "mle": {"restarts": 1, "max_iterations": 100, "tol": 1e-8},
}  # fmt: skip
