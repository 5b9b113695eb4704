"""poisson_mf: sparse CAVI against the textbook's dense form and hpfrec, minibatches, held-out prediction, growth.

hpfrec runs in an environment of its own, whose Python ``PYROZOO_PEERS`` names; Last.fm is found in ``PYROZOO_DATA``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

import pyrozoo
from benchmarks.harness import Row, alone, in_turns
from pyrozoo.core.seeds import seeded
from pyrozoo.data.named import read_named
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.poisson_mf import cavi, queries, stochastic_cavi
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.models.poisson_mf.posterior import Posterior
from pyrozoo.run import catalog

FACTORS = 40
SCALED = 50
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def model(factors: int = FACTORS) -> PoissonMF:
    return PoissonMF(factors, 1.0, 0.5, 1.0, 0.5, False, 1.0)


def lastfm(dtype: torch.dtype = torch.float64) -> Triplets:
    return read_named(catalog.settings("data", "lastfm")).to("cpu", dtype)


def synthetic(events: int, height: int = 100_000, width: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows (uniform), columns (Zipf 1.3) and counts of the distinct cells among so many events."""
    generator = np.random.default_rng(0)
    share = 1 / np.arange(1, width + 1) ** 1.3
    rows = generator.integers(0, height, events)
    columns = generator.choice(width, events, p=share / share.sum())
    place, counts = np.unique(rows * width + columns, return_counts=True)
    return place // width, place % width, counts


def triplets(cells: tuple[np.ndarray, ...], dtype: torch.dtype, height: int, width: int) -> Triplets:
    values = torch.empty(len(cells[0]), 3, dtype=dtype)
    for axis, column in enumerate(cells):
        values[:, axis] = torch.as_tensor(column).to(dtype)
    return Triplets(values, [str(i) for i in range(height)], [str(j) for j in range(width)])


class Stepper:
    """CAVI that goes on from where it is: each call makes so many steps."""

    def __init__(self, data: Triplets, factors: int, steps: int):
        self.solver, self.steps = cavi.Solver(Posterior(model(factors), data)), steps
        with seeded(0):
            self.state = self.solver.init(1)

    def __call__(self) -> None:
        for _ in range(self.steps):
            self.state, _ = self.solver.step(self.state)


def dense(x: Tensor, state: cavi.State, a: float, b: float) -> cavi.State:
    """One iteration of CAVI as a course hands it out: responsibilities N x M x K, then sums over them."""
    log_theta = torch.digamma(state.row_shape[0]) - state.row_rate[0].log()
    log_eta = torch.digamma(state.column_shape[0]) - state.column_rate[0].log()
    pi = torch.softmax(log_theta[:, None] + log_eta[None], -1)
    z = x[..., None] * pi
    eta = state.column_shape[0] / state.column_rate[0]
    row_shape, row_rate = a + z.sum(1), b + eta.sum(0).expand(len(log_theta), -1)
    column_shape, column_rate = a + z.sum(0), b + (row_shape / row_rate).sum(0).expand(len(log_eta), -1)
    return cavi.State(*(each[None] for each in (row_shape, row_rate, column_shape, column_rate)))


def course(x: Tensor, state: cavi.State, a: float, b: float) -> tuple[cavi.State, float]:
    """The same iteration with its ELBO as it stands: each term an N x M x K expectation, then the Gamma divergences."""
    log_theta = torch.digamma(state.row_shape[0]) - state.row_rate[0].log()
    log_eta = torch.digamma(state.column_shape[0]) - state.column_rate[0].log()
    theta, eta = state.row_shape[0] / state.row_rate[0], state.column_shape[0] / state.column_rate[0]
    logs = log_theta[:, None] + log_eta[None]
    pi = torch.softmax(logs, -1)
    z = x[..., None] * pi
    counts = (z * logs).sum() - (theta[:, None] * eta[None]).sum() - torch.lgamma(x + 1).sum()
    entropy = -torch.xlogy(z, pi).sum()
    prior = torch.distributions.Gamma(*torch.tensor([a, b], dtype=x.dtype))
    q = [torch.distributions.Gamma(s[0], r[0].expand_as(s[0])) for s, r in (
        (state.row_shape, state.row_rate), (state.column_shape, state.column_rate))]  # fmt: skip
    elbo = counts + entropy - sum(torch.distributions.kl_divergence(each, prior).sum() for each in q)
    return dense(x, state, a, b), float(elbo)


def peer(cells: tuple[np.ndarray, ...], factors: int, few: int, many: int) -> Callable[[], dict[str, Any]] | None:
    """Return a function that runs hpfrec, or None where there is no environment for it."""
    python = os.environ.get("PYROZOO_PEERS")
    if not python:
        return None

    def run() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path, out = Path(folder) / "data.npz", Path(folder) / "out.npz"
            np.savez(path, rows=cells[0], columns=cells[1], values=cells[2])
            script = Path(__file__).parent / "poisson_mf_peers.py"
            sizes = [str(n) for n in (factors, few, many, torch.get_num_threads())]
            subprocess.run([python, str(script), str(path), str(out), *sizes], check=True, stdout=sys.stderr)
            with np.load(out) as arrays:
                return {name: arrays[name] for name in arrays.files}

    return run


def turn_by_turn(
    steppers: dict[str, Stepper], other: Callable[[], dict[str, Any]], rounds: int
) -> tuple[dict[str, float], float, str]:
    """Time every stepper and the peer in turns; return median seconds an iteration of each, and the peer's version."""
    times: dict[str, list[float]] = {name: [] for name in steppers}
    theirs, name = [], ""
    for stepper in steppers.values():
        stepper()
    for _ in range(rounds):
        for which, stepper in steppers.items():
            started = time.perf_counter()
            stepper()
            times[which].append((time.perf_counter() - started) / stepper.steps)
        found = other()
        theirs.append(float(found["seconds"]))
        name = str(found["version"])
    return {which: float(np.median(each)) for which, each in times.items()}, float(np.median(theirs)), name


def memory(events: int, height: int, width: int, factors: int, steps: int) -> None:
    torch.set_num_threads(2)
    cells = synthetic(events, height, width)
    stepper = Stepper(triplets(cells, torch.float32, height, width), factors, steps)
    del cells
    stepper()


def shares(stepper: Stepper) -> str:
    """Say what the time of an iteration goes into, from the profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        stepper()
    events = found.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    groups = {
        "one pass over the cells": ("kernel shared",),
        "A B^T at the cells": ("aten::sparse_sampled_addmm",),
        "R B and R^T A": ("aten::addmm", "aten::copy_", "aten::_convert_indices_from_csr_to_coo"),
        "R by column": ("aten::index_select",),
        "digamma and lgamma": ("aten::digamma", "aten::lgamma", "kernel gamma_functions"),
    }
    parts = {
        name: sum(event.self_cpu_time_total for event in events if event.key in keys) / total
        for name, keys in groups.items()
    }
    parts["arithmetic on the factors"] = 1 - sum(parts.values())
    return ", ".join(f"{name} {part:.0%}" for name, part in parts.items() if part > 0) + " of the time"


def minibatch_memory(height: int, batches: int) -> None:
    """Hold the data of so many rows, ten plays each, and go through so many minibatches of them."""
    torch.set_num_threads(2)
    data = triplets(synthetic(10 * height, height, 2_000), torch.float32, height, 2_000)
    solver = stochastic_cavi.Solver(Posterior(model(20), data))
    state = solver.init(1)
    data.batch(torch.arange(1))  # where rows begin is looked up once
    order = torch.arange(height)[None]
    for i in range(batches):
        state, _ = solver.see(state, order, i, -(-height // solver.options.batch_size))


def rows() -> Iterator[Row]:
    yield from on_lastfm()
    yield from on_synthetic()
    yield from minibatches()
    yield from memory_of_minibatches()
    yield from held_out()
    yield from growth()


def on_lastfm() -> Iterator[Row]:
    task = f"poisson_mf CAVI, Last.fm 999 x 2000, 40,141 listed, K={FACTORS}, one iteration"
    data = lastfm()
    steppers = {name: Stepper(lastfm(dtype), FACTORS, 100) for name, dtype in PRECISIONS.items()}
    for stepper in steppers.values():
        stepper()
    x = torch.zeros(data.shape, dtype=torch.float64)
    x[data.pattern.rows, data.pattern.columns] = data.counts
    ours = steppers["float64"]
    start = ours.state
    # The same start gives the same update: a benchmark of two different answers would say nothing.
    ahead = dense(x, start, 1.0, 0.5)
    torch.testing.assert_close(ahead.column_shape, ours.solver.step(start)[0].column_shape, rtol=1e-9, atol=1e-9)
    assert abs(course(x, start, 1.0, 0.5)[1] / float(ours.solver.step(start)[1].objective) - 1) < 1e-9
    for name, theirs in (("without its ELBO", dense), ("with its ELBO term by term", course)):
        for precision, stepper in steppers.items():
            y, at = x.to(PRECISIONS[precision]), stepper.state
            fast, slow = in_turns(stepper, lambda y=y, at=at, theirs=theirs: theirs(y, at, 1.0, 0.5))
            yield Row(f"{task}, {precision}", fast / 100, f"N x M x K tensors, PyTorch, {precision}, {name}", slow,
                      "ours has its ELBO")  # fmt: skip
    other = peer((data.pattern.rows.numpy(), data.pattern.columns.numpy(), data.counts.numpy()), FACTORS, 50, 250)
    if other is not None:
        times, theirs, name = turn_by_turn(steppers, other, 3)
        for which, seconds in times.items():
            what = f"{shares(steppers[which])}; theirs is float32 and has no ELBO"
            yield Row(f"{task}, {which}", seconds, name, theirs, what)
    started = time.perf_counter()
    with seeded(0):
        state = ours.solver.init(5)
    for _ in range(200):
        state, info = ours.solver.step(state)
    final = (info.objective / data.counts.sum()).tolist()
    yield Row(
        "poisson_mf CAVI, Last.fm, K=40, 5 starts x 200 iterations, float64", time.perf_counter() - started, "", None,
        f"ELBO per count {min(final):.4f} to {max(final):.4f}",
    )  # fmt: skip


def on_synthetic() -> Iterator[Row]:
    cells = synthetic(9_900_000)
    task = f"poisson_mf CAVI, 100,000 x 20,000, {len(cells[0]):,} listed, K={SCALED}, one iteration"
    steppers = {name: Stepper(triplets(cells, dtype, 100_000, 20_000), SCALED, 4) for name, dtype in PRECISIONS.items()}
    _, peak = alone(memory, 9_900_000, 100_000, 20_000, SCALED, 3)
    other = peer(cells, SCALED, 1, 3)
    if other is None:
        return
    times, theirs, name = turn_by_turn(steppers, other, 2)
    for which, seconds in times.items():
        note = f"{shares(steppers[which])}; theirs is float32 and has no ELBO"
        yield Row(f"{task}, {which}", seconds, name, theirs, note, peak if which == "float32" else None)


def minibatches() -> Iterator[Row]:
    """Passes over the rows until the exact ELBO is within 1% of what 200 iterations of the batch reach."""
    posterior, passes = Posterior(model(), lastfm()), {}
    batch = cavi.Solver(posterior)
    with seeded(0):
        state = batch.init(1)
    path = []
    started = time.perf_counter()
    for _ in range(200):
        state, info = batch.step(state)
        path.append(float(info.objective))
    wanted = path[-1] - 0.01 * abs(path[-1])
    passes["batch"] = next(i + 1 for i, value in enumerate(path) if value >= wanted)
    theirs = (time.perf_counter() - started) * passes["batch"] / 200
    solver = stochastic_cavi.Solver(posterior)
    seconds = 0.0
    with seeded(0):
        own = solver.init(1)
        count = 0
        while count < 100:
            count += 1
            started = time.perf_counter()
            own, _ = solver.step(own)
            seconds += time.perf_counter() - started
            if float(batch.step(solver.finish(own))[1].objective) >= wanted:
                break
    yield Row(
        "poisson_mf stochastic_cavi, Last.fm, K=40, to within 1% of the batch's ELBO after 200 iterations", seconds,
        "our own cavi on all rows", theirs,
        f"{count} passes over the data, cavi {passes['batch']}; minibatches of {solver.options.batch_size} rows",
    )  # fmt: skip


def memory_of_minibatches() -> Iterator[Row]:
    for height in (10_000, 100_000, 1_000_000):
        _, least = alone(minibatch_memory, height, 0)
        seconds, peak = alone(minibatch_memory, height, 30)
        yield Row(
            f"poisson_mf stochastic_cavi, {height:,} x 2,000, 10 plays a row, K=20, 30 minibatches of 256, float32",
            seconds, "", None, f"peak with the data alone {least:.0f} MB; simulation and imports included", peak,
        )  # fmt: skip


def held_out() -> Iterator[Row]:
    """A tenth of the listed plays hidden: log density of each, and how they are ranked among the unseen."""
    settings: dict[str, dict[str, Any]] = {
        "Gamma(1, 0.5) both": {"row_rate": 0.5, "column_rate": 0.5},
        "Gamma(5, 0.5) rows, Gamma(1, 0.5) columns": {"row_shape": 5.0, "row_rate": 0.5, "column_rate": 0.5},
        "hierarchical, shapes 0.3": {
            "hierarchical": True, "row_shape": 0.3, "column_shape": 0.3, "rate_shape": 0.3,
        },
    }  # fmt: skip
    fit, lines = None, []
    for name, each in settings.items():
        fit = pyrozoo.fit(
            "poisson_mf", "cavi", data="lastfm", holdout=0.1, num_factors=FACTORS, restarts=1, max_iterations=200,
            draws=200, progress=False, **each,
        )  # fmt: skip
        lines.append((name, fit))
    assert fit is not None
    data, hidden = fit.data, fit.data.hidden
    totals = data.statistics(data.values, "counts")
    row, column = totals["row_total"][1], totals["column_total"][1]
    popular = (row[hidden.rows] + 1) * (column[hidden.columns] + 1) / row.sum()
    popularity = float(stats.poisson.logpmf(hidden.values.numpy(), popular).mean())
    others = [
        f"popularity (Poisson of row total x column total / total): elpd {popularity:.1f}, "
        f"ndcg@20 {fit.metrics['popularity_ndcg_at_20']:.4f}"
    ]
    theirs = None
    if other := peer((data.pattern.rows.numpy(), data.pattern.columns.numpy(), data.counts.numpy()), FACTORS, 1, 200):
        found = other()
        theta, beta = (torch.as_tensor(found[name]).double() for name in ("theta", "beta"))
        rates = (theta[hidden.rows] * beta[hidden.columns]).sum(1)
        density = float(stats.poisson.logpmf(hidden.values.numpy(), rates.clamp(min=1e-300).numpy()).mean())
        ranked = queries.ranking(data, lambda index: theta[index] @ beta.T)
        others.append(f"{found['version']}: elpd {density:.1f}, ndcg@20 {ranked['ndcg_at_20']:.4f}")
        theirs = float(found["seconds"]) * 200
    for name, each in lines:
        figures = f"elpd {each.metrics['holdout_elpd']:.1f}, ndcg@20 {each.metrics['ndcg_at_20']:.4f}"
        yield Row(
            f"poisson_mf CAVI, Last.fm, a tenth of the plays hidden, K=40, 200 iterations, float64, {name}",
            each.seconds, "hpfrec, 200 iterations" if theirs else "", theirs, f"{figures}; {'; '.join(others)}",
        )  # fmt: skip


def growth() -> Iterator[Row]:
    note = "simulation and imports included"
    sizes = [
        *((events, 10_000, 20) for events in (10_000, 100_000, 1_000_000)),
        *((1_000_000, 10_000, factors) for factors in (2, 200)),
        *((100_000, height, 20) for height in (1_000, 100_000)),
    ]
    for events, height, factors in sizes:
        seconds, peak = alone(memory, events, height, 2_000, factors, 20)
        task = f"poisson_mf CAVI, {height:,} x 2,000, {events:,} events, K={factors}, 20 iterations, float32"
        yield Row(task, seconds, "", None, note, peak)
