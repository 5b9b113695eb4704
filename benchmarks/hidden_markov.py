"""hidden_markov: Baum-Welch against hmmlearn and dynamax from the same start, with the same priors.

The peers run in an environment of their own, whose Python ``PYROZOO_PEERS`` names.
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

from benchmarks.harness import Row
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.seeds import seeded
from pyrozoo.data.sequences import Sequences
from pyrozoo.models.hidden_markov import em
from pyrozoo.models.hidden_markov.model import HiddenMarkov
from pyrozoo.models.hidden_markov.queries import smooth_at

SEQUENCES, STEPS, COLUMNS, STATES, ITERATIONS, ROUNDS = 100, 1000, 3, 5, 30, 3
MODEL = HiddenMarkov(STATES, "gaussian", 1.0, 1.0, 2.0, None, None, 0.1, 3.0, 1.5, 1.1, None)


def simulated() -> np.ndarray:
    """Draw sequences whose states overlap and last for ten steps, [S, T, D]."""
    rng = np.random.default_rng(0)
    rows = 0.9 * np.eye(STATES) + 0.1 * rng.dirichlet(np.ones(STATES), STATES)
    means, cumulative = rng.normal(0, 2, (STATES, COLUMNS)), rows.cumsum(1)
    state = np.zeros((SEQUENCES, STEPS), int)
    state[:, 0] = rng.integers(STATES, size=SEQUENCES)
    for t in range(1, STEPS):
        below = cumulative[state[:, t - 1], :-1] < rng.random(SEQUENCES)[:, None]
        state[:, t] = below.sum(1)
    return means[state] + rng.standard_normal((SEQUENCES, STEPS, COLUMNS))


class Ours:
    """EM from one start."""

    def __init__(self, x: np.ndarray):
        self.posterior: Any = Posterior.of(MODEL, Sequences.of(x))
        self.solver: Any = em.Solver(self.posterior)
        with seeded(0):
            self.start = self.solver.state_class(**self.posterior._scattered(1))

    def __call__(self) -> None:
        state = self.start
        for _ in range(ITERATIONS):
            state, _ = self.solver.step(state)

    def seconds(self) -> float:
        """Time an iteration, alone."""
        started = time.perf_counter()
        self()
        return (time.perf_counter() - started) / ITERATIONS

    def log_likelihoods(self) -> np.ndarray:
        """Return log p(X | Theta) before each iteration."""
        state, found = self.start, []
        for _ in range(ITERATIONS):
            found.append(float(smooth_at(self.posterior, vars(state)).log_evidence.sum()))
            state, _ = self.solver.step(state)
        return np.array(found)

    def given(self, x: np.ndarray) -> dict[str, Any]:
        """Return what a peer needs: data, start and priors."""
        m, start = self.posterior.model, {site: value[0].numpy() for site, value in vars(self.start).items()}
        return {
            **start, "x": x.reshape(-1, COLUMNS), "lengths": np.full(SEQUENCES, STEPS), "iterations": ITERATIONS,
            "first": m.initial_concentration, "rows": 1 + m.stay_concentration * np.eye(STATES), "degrees": m.degrees,
            "location": np.array(m.location), "mean_precision": m.mean_precision,
            "squares": m.degrees * np.square(m.scale),
        }  # fmt: skip


def rows() -> Iterator[Row]:
    """Compare seconds of an iteration, and the likelihoods on the way."""
    x = simulated()
    ours = Ours(x)
    ours()
    python, logs = os.environ.get("PYROZOO_PEERS"), ours.log_likelihoods()
    task = f"hidden_markov EM, {SEQUENCES} x {STEPS} steps, D={COLUMNS}, K={STATES}, one iteration"
    if not python:
        yield Row(task, ours.seconds(), "none: PYROZOO_PEERS is not set", None)
        return
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **ours.given(x))
        for peer in ("hmmlearn_scaling", "hmmlearn", "dynamax"):
            mine, theirs = [], []
            for _ in range(ROUNDS):
                mine.append(ours.seconds())
                script = Path(__file__).with_name("hidden_markov_peers.py")
                subprocess.run([python, script, peer, source, target], check=True)
                with np.load(target) as file:
                    found = dict(file)
                theirs.append(float(found["seconds"]))
            name = str(found["version"]) + (", implementation='scaling'" if peer == "hmmlearn_scaling" else "")
            if peer == "dynamax":
                note = (
                    f"at the start log-likelihoods differ by {abs(found['at_start'] / logs[0] - 1):.0e} of themselves"
                )
                note += "; its emission has no prior; compiled before"
            else:
                note = f"log-likelihoods of {ITERATIONS} iterations differ by at most "
                note += f"{np.abs(found['log_likelihood'] / logs - 1).max():.0e} of themselves; same start, same priors"
            yield Row(task, sorted(mine)[ROUNDS // 2], name, sorted(theirs)[ROUNDS // 2], note)
