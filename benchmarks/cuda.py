"""Steps on a CUDA device against what the card can do: ``python -m benchmarks.cuda [CASE ...] [--device D] [--check]``.

A case builds its data on the device, makes a few steps, and times the next ones with the device's own clock. Its floor
is the larger of two times: the bytes that must come from memory or go there over the card's bandwidth, and additions
and multiplications over its rate without tensor cores. ``--check`` holds kernels to the PyTorch code beside them, on
small and awkward inputs. One case that fails leaves the others alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.graphs import PATIENCE, Steps

BANDWIDTH, RATE = 3.0e12, {torch.float32: 6.0e13, torch.float64: 3.0e13}
"""Bytes a second that a copy moves on an H100 (HBM3), and float operations a second of its ordinary units."""

SECONDS, MOST = 0.6, 30
"""Of timing a case one way at most, and steps."""


@dataclass(frozen=True)
class Case:
    """A step, and what it must do.

    Attributes:
        task: What it is.
        solver: Whose step it is.
        chains: Restarts or chains.
        bytes: That come from memory or go there.
        operations: Additions and multiplications.
    """

    task: str
    solver: Any
    chains: int
    bytes: float
    operations: float

    def floor(self, dtype: torch.dtype) -> float:
        """Return seconds below which no step gets."""
        return max(self.bytes / BANDWIDTH, self.operations / RATE[dtype])


def listed(events: int, height: int, width: int, power: float, device: str) -> tuple[Tensor, Tensor]:
    """Return the distinct cells [n, 2] that events meet, rows uniform, columns by a power law, and events of each."""
    share = torch.arange(1, width + 1, device=device, dtype=torch.float64) ** -power
    edges = (share / share.sum()).cumsum(0)
    columns = torch.searchsorted(edges, torch.rand(events, device=device, dtype=torch.float64)).clamp_(max=width - 1)
    rows = torch.randint(height, (events,), device=device)
    place, counts = (rows * width + columns).unique(return_counts=True)
    return torch.stack([place // width, place % width], 1), counts


def poisson(method: str, device: str, dtype: torch.dtype, scale: float) -> Case:
    from pyrozoo.data.triplets import Triplets
    from pyrozoo.models.poisson_mf import cavi, gibbs
    from pyrozoo.models.poisson_mf.model import PoissonMF

    height, width, K = int(100_000 * scale), int(20_000 * scale), 50
    cells, counts = listed(int(11_500_000 * scale), height, width, 1.3, device)
    values = torch.cat([cells, counts[:, None]], 1).to(dtype)
    data = Triplets(values, range(height), range(width))
    posterior = Posterior.of(PoissonMF(K, 1.0, 0.5, 1.0, 0.5, False, 1.0), data)
    size, n, numbers = values.element_size(), len(cells), (height + width) * K
    # Rows' factors are read once, columns' once for each cell, and what each column gets comes from there.
    return Case(
        f"poisson_mf {method}, {height} x {width}, {n} cells with {int(counts.sum())} counts, K={K}",
        {"cavi": cavi, "gibbs": gibbs}[method].Solver(posterior), 1,
        bytes=n * (8 + size) + 2 * n * K * size + 7 * numbers * size, operations=6.0 * K * n,
    )  # fmt: skip


def gaussian(device: str, dtype: torch.dtype, scale: float) -> Case:
    from pyrozoo.data.ratings import Ratings
    from pyrozoo.models.gaussian_mf import gibbs
    from pyrozoo.models.gaussian_mf.model import GaussianMF

    height, width, K = int(100_000 * scale), int(10_000 * scale), 16
    cells, _ = listed(int(10_050_000 * scale), height, width, 0.0, device)
    ratings = torch.randint(1, 6, (len(cells), 1), device=device)
    data = Ratings(torch.cat([cells, ratings], 1).to(dtype), range(height), range(width))
    model = GaussianMF(K, None, None, None, True, 1.0, True, None, None, False, None, 1.0)
    n, L, size = len(cells), K + 1, data.values.element_size()
    # Of both sides: each rating, its place, and the numbers of the other side; sums of each row.
    return Case(
        f"gaussian_mf gibbs, {height} x {width}, {n} ratings, K={K}", gibbs.Solver(Posterior.of(model, data)), 1,
        bytes=2 * n * (8 + size) + n * L * size + 2 * (height + width) * L * (L + 3) / 2 * size,
        operations=2.0 * n * L * (L + 3),
    )  # fmt: skip


def table(device: str, dtype: torch.dtype, scale: float) -> Case:
    from pyrozoo.data.table import Table
    from pyrozoo.models.factor_analysis import gibbs
    from pyrozoo.models.factor_analysis.model import FactorAnalysis

    rows, columns, M, chains = int(10_000 * scale), 784, 50, 4
    loadings = torch.randn(columns, M, device=device, dtype=dtype)
    x = torch.randn(rows, M, device=device, dtype=dtype) @ loadings.T + torch.randn(rows, columns, device=device)
    model = FactorAnalysis(M, "independent", 0.1, None, None, 1.1, None, True)
    size, factors = x.element_size(), chains * rows * M
    return Case(
        f"factor_analysis gibbs, {rows} x {columns}, M={M}, {chains} chains",
        gibbs.Solver(Posterior.of(model, Table(x.to(dtype), range(rows), range(columns)))), chains,
        bytes=(2 * rows * columns + 8 * factors) * size, operations=4.0 * columns * factors + 2.0 * factors * M * 3,
    )  # fmt: skip


def mixture(method: str, device: str, dtype: torch.dtype, scale: float) -> Case:
    from pyrozoo.data.table import Table
    from pyrozoo.models.zip_mixture import em, gibbs
    from pyrozoo.models.zip_mixture.model import ZipMixture

    rows, columns, K, restarts = int(100_000 * scale), 50, 10, 10
    rate = 5 * torch.rand(K, columns, device=device) + 0.2
    which = torch.randint(K, (rows,), device=device)
    x = torch.poisson(rate[which]) * (torch.rand(rows, columns, device=device) < 0.7)
    data = Table(x.to(dtype), range(rows), range(columns))
    design, size = rows * 2 * columns, data.values.element_size()
    return Case(
        f"zip_mixture {method}, {rows} x {columns}, K={K}, {restarts} restarts",
        {"em": em, "gibbs": gibbs}[method].Solver(Posterior.of(ZipMixture(K, 2.0, 2.0, 2.0, 2.0, 1.0), data)), restarts,
        # Responsibilities are made and used once, which two products cannot do without writing them.
        bytes=(2 * design + 2 * rows * restarts * K) * size, operations=4.0 * design * K * restarts,
    )  # fmt: skip


def grid(method: str, device: str, dtype: torch.dtype, scale: float) -> Case:
    from pyrozoo.data.grid import Grid
    from pyrozoo.models.potts_grid import bp, gibbs
    from pyrozoo.models.potts_grid.model import PottsGrid

    side, K = int(1000 * scale**0.5), 3
    at = torch.arange(side, device=device)
    clean = (at[:, None] // 60 + at // 75) % K
    noisy = torch.where(torch.rand(side, side, device=device) < 0.2, torch.randint_like(clean, K), clean)
    posterior = Posterior.of(PottsGrid(K, 2.0, None, 0.8), Grid(noisy.to(dtype), range(side), range(side)))
    return Case(
        f"potts_grid {method}, {side} x {side} x {K}", {"bp": bp, "gibbs": gibbs}[method].Solver(posterior), 1,
        # Of messages; labels are a ninth.
        bytes=9 * K * side**2 * torch.finfo(dtype).bits // 8, operations=(8.0 * K**2 + 20 * K) * side**2,
    )  # fmt: skip


CASES: dict[str, Callable[[str, torch.dtype, float], Case]] = {
    "poisson_cavi": partial(poisson, "cavi"),
    "poisson_gibbs": partial(poisson, "gibbs"),
    "gaussian": gaussian,
    "fa": table,
    "zip": partial(mixture, "em"),
    "zip_gibbs": partial(mixture, "gibbs"),
    "potts": partial(grid, "bp"),
    "potts_gibbs": partial(grid, "gibbs"),
}


class Clock:
    """Seconds of calls on a device: of CUDA by its events, of the CPU by its clock."""

    def __init__(self, device: str):
        self.cuda = device.startswith("cuda")

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def median(self, step: Callable[[], Any]) -> tuple[float, int]:
        """Return the median seconds of a step, and how many were made."""
        times, marks, started = [], [], time.perf_counter()
        while len(times) + len(marks) < MOST and time.perf_counter() - started < SECONDS:
            before = time.perf_counter()
            if self.cuda:
                marks.append([torch.cuda.Event(enable_timing=True) for _ in range(2)])
                marks[-1][0].record()
                step()
                marks[-1][1].record()
                if time.perf_counter() - started > SECONDS / 2 or len(marks) == 1:
                    self.wait()
            else:
                step()
                times.append(time.perf_counter() - before)
        self.wait()
        times += [first.elapsed_time(last) / 1e3 for first, last in marks]
        return sorted(times)[len(times) // 2], len(times)


def launches(step: Callable[[], Any], device: str, most: int) -> tuple[int, float, list[str]]:
    """Return how much a step launches, for how many seconds the device works, and what takes longest."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.startswith("cuda")
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
        step()
        if cuda:
            torch.cuda.synchronize()
    total: dict[str, list[float]] = {}
    for event in found.events():
        if (event.device_type == torch.autograd.DeviceType.CUDA) != cuda:
            continue
        taken = event.time_range.elapsed_us() if cuda else event.self_cpu_time_total
        total.setdefault(event.name, []).append(taken)
    longest = sorted(total.items(), key=lambda each: -sum(each[1]))[:most]
    lines = [f"{sum(taken) / 1e3:9.3f} ms  {len(taken):5d} x  {name[:110]}" for name, taken in longest]
    counts = [len(taken) for taken in total.values()]
    return sum(counts), sum(sum(taken) for taken in total.values()) / 1e6, lines


def as_a_graph(steps: Steps, step: Callable[[], None], clock: Clock, floor: float) -> str:
    """Time steps that are a graph, and say how long one takes, or that there is none."""
    try:
        for _ in range(PATIENCE + 2):
            step()
        clock.wait()
        if not steps.captured:
            return "; no graph"
        seconds, _ = clock.median(step)
        return f"; as a graph {seconds * 1e3:.3f} ms, {seconds / floor:.1f} times"
    except Exception as error:  # what is known so far is said
        steps.captured = False
        return f"; a graph fails: {short(error).splitlines()[-1]}"


def timed(name: str, device: str, dtype: torch.dtype, scale: float, most: int) -> None:
    """Time a case, its kernels launched one by one and, where its solver can, as a graph, and print what is found."""
    clock = Clock(device)
    with seeded(0):
        case = CASES[name](device, dtype, scale)
        held, steps = [case.solver.init(case.chains)], Steps(case.solver)

        def eager() -> None:
            held[0] = case.solver.step(held[0])[0]

        def graph() -> None:
            held[0] = steps(held[0])[0]

        eager()
        clock.wait()
        with alone():
            if clock.cuda:
                torch.cuda.reset_peak_memory_stats()
            floor = case.floor(dtype)
            one_by_one, _ = clock.median(eager)
            said = f"{name}: {one_by_one * 1e3:.3f} ms one by one, {one_by_one / floor:.1f} times the floor"
            if steps.captured:
                said += as_a_graph(steps, graph, clock, floor)
            memory = f", peak {torch.cuda.max_memory_allocated() / 1e6:.0f} MB" if clock.cuda else ""
            number, busy, lines = launches(graph if steps.captured else eager, device, most)
    finite = all(bool(torch.isfinite(value).all()) for value in vars(held[0]).values())
    print(
        f"{said}; floor {floor * 1e3:.3f} ms; {number} launches, {busy * 1e3:.3f} ms busy{memory}; {case.task}, {dtype}"
        f"{'' if finite else '; NOT FINITE'}"
    )
    for line in lines:
        print(f"    {line}")


# Kernels against the code beside them -----------------------------------------------------------------------------


def zip_checks(device: str, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
    from pyrozoo.data.table import Table
    from pyrozoo.models.zip_mixture.likelihood import Layout

    for N, D, K, C, holes in ((1, 1, 1, 1, False), (5, 3, 1, 2, True), (1000, 50, 10, 10, False), (777, 7, 3, 4, True)):
        x = torch.poisson(3 * torch.rand(N, D, device=device, dtype=dtype))
        if holes:
            x[torch.rand(N, D, device=device) < 0.2] = torch.nan
        layout = Layout.of(Table(x, range(N), range(D)))
        points = {"rate": 0.1 + 3 * torch.rand(C, K, D, device=device, dtype=dtype)}
        points["on_prob"] = torch.rand(C, K, D, device=device, dtype=dtype)
        points["weights"] = torch.rand(C, K, device=device, dtype=dtype).softmax(-1)
        given = layout.given(points)
        yield f"expected statistics {N} x {D}, K={K}, C={C}", partial(layout.expected_statistics, given)


def potts_checks(device: str, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
    from pyrozoo.models.potts_grid.likelihood import Potentials
    from pyrozoo.models.potts_grid.messages import Passing

    for C, K, H, W in ((2, 3, 5, 7), (1, 3, 23, 29), (1, 2, 1, 1), (2, 1, 4, 3), (1, 6, 33, 2)):
        coupling = torch.rand(K, K, device=device, dtype=dtype)
        unary = 2 * torch.rand(H, W, K, device=device, dtype=dtype)
        for damping, maximise in ((0.3, False), (0.0, False), (0.3, True)) if K == 3 else ((0.3, False),):
            passing = Passing(Potentials(unary, coupling + coupling.T, 0.0), damping, maximise)
            with seeded(1):
                state = passing.start(C)
                with switched(False):
                    state = passing.sweep(passing.sweep(state)[0])[0]
            sweep = partial(passing.sweep, state)
            yield f"sweep {C} x {K} x {H} x {W}, damping {damping}, {'max' if maximise else 'sum'}", sweep


def ragged(height: int, width: int, cells: int, device: str) -> tuple[Tensor, Tensor]:
    """Return rows and columns of cells: every third row empty, the first one full."""
    rows = torch.randint(height, (cells,), device=device)
    rows = rows[rows % 3 != 1]
    place = (rows * width + torch.randint(width, rows.shape, device=device)).unique()
    place = torch.cat([torch.arange(width, device=device), place]).unique()
    return place // width, place % width


def gaussian_checks(device: str, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
    from pyrozoo.data.ratings import Ratings
    from pyrozoo.models.gaussian_mf.likelihood import Block, Listed
    from pyrozoo.models.gaussian_mf.point import Conditional

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    for N, M, cells, K, C, offsets in (
        (1, 20, 20, 1, 1, True),
        (300, 700, 4000, 16, 1, True),
        (90, 2000, 3000, 5, 2, False),
        (40, 900, 900, 33, 3, False),
    ):
        i, j = ragged(N, M, cells, device)
        values = torch.stack([i.to(dtype), j.to(dtype), normal(len(i))], 1)
        pairs = Listed(Ratings(values, range(N), range(M)), offsets)
        for side, n in (("row", M), ("column", N)):
            block = Block(normal(K + offsets, C, n))
            label = f"regress {side}s {N} x {M}, K={K}, C={C}, offsets {offsets}"
            yield label, partial(pairs.regress, side, block)
    for L, C, n in ((1, 1, 1), (3, 2, 5), (6, 4, 1000), (17, 1, 333), (17, 2, 4097), (40, 1, 65)):
        root = normal(C * n, L, L + 2)
        precision = (root @ root.mT + torch.eye(L, device=device, dtype=dtype)).permute(1, 2, 0).reshape(L, L, C, n)
        conditional, noise = Conditional(precision.contiguous(), normal(L, C, n)), normal(L, C, n)
        yield f"solve {L} x {L}, C={C}, n={n}, drawn", partial(conditional._solved, noise, "a")
        yield f"solve {L} x {L}, C={C}, n={n}, mode", partial(conditional._solved, None, "a")


def poisson_checks(device: str, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
    from pyrozoo.data.triplets import Triplets
    from pyrozoo.models.poisson_mf.likelihood import shared

    for N, M, cells, K, C in ((1, 20, 20, 1, 1), (90, 2000, 3000, 5, 2), (300, 700, 4000, 50, 1), (40, 90, 900, 70, 3)):
        i, j = ragged(N, M, cells, device)
        counts = torch.randint(1, 9, (len(i),), device=device)
        data = Triplets(torch.stack([i, j, counts], 1).to(dtype), range(N), range(M))
        theta, eta = (torch.rand(C, n, K, device=device, dtype=dtype) + 0.01 for n in (N, M))
        yield f"shared {N} x {M}, K={K}, C={C}", partial(shared, theta, eta, data)


def allotment(device: str, dtype: torch.dtype, rows: int, K: int) -> Iterator[tuple[str, float]]:
    """Yield deviations of random allotments from the multinomial's law, in standard errors; sums must be exact.

    Of all cells of a count together, Pearson's statistic of their sums by factor; cell by cell, its mean, K - 1, which
    draws that go together within a cell would move.
    """
    from pyrozoo.data.triplets import Triplets
    from pyrozoo.models.poisson_mf.likelihood import allotted

    sizes = torch.tensor([1, 2, 3, 6, 11, 300], device=device)
    i = torch.arange(len(sizes) * rows, device=device)
    counts = sizes[i % len(sizes)]
    data = Triplets(torch.stack([i, 0 * i, counts], 1).to(dtype), range(len(i)), range(1))
    eta = torch.rand(1, 1, K, device=device, dtype=dtype) + 0.2
    eta[..., 1] = 0
    theta = torch.rand(1, len(i), 1, device=device, dtype=dtype).expand(-1, -1, K) + 0.1
    z, of_columns, evidence = allotted(theta, eta, data)
    s, z = (theta * eta).sum(-1)[0].double(), z[0].double()
    assert torch.equal(z.sum(-1), counts.double()), "counts of rows are lost"
    assert torch.equal(of_columns[0, 0].double(), z.sum(0)), "counts of columns are lost"
    assert not z[:, 1].any(), "a factor of weight 0 has counts"
    exact = (counts * s.log() - torch.lgamma(counts.double() + 1)).sum()
    assert abs(float(evidence) / float(exact) - 1) < 1e-4, "the sum of x log s is wrong"
    weights = eta[0, 0].double()[eta[0, 0] > 0]
    p, free = weights / weights.sum(), len(weights) - 1
    for size in sizes.tolist():
        mine = z[counts == size][:, eta[0, 0] > 0]
        expected = size * p
        pearson = float(((mine.sum(0) - rows * expected).square() / (rows * expected)).sum())
        yield f"sums of counts of {size}", (pearson - free) / (2 * free) ** 0.5
        each = ((mine - expected).square() / expected).sum(1)
        variance = 2 * free + (float((1 / p).sum()) - (free + 1) ** 2 - 2 * free) / size
        yield f"cells of counts of {size}", (float(each.mean()) - free) / (max(variance, 1e-9) / rows) ** 0.5


def table_checks(device: str, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
    from pyrozoo.math.linear_algebra import cholesky_solved, eigenvectors, symmetric_root

    def spectrum(matrix: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = eigenvectors(matrix)
        return values, vectors @ (values.unsqueeze(-1) * vectors.mT)

    if dtype == torch.float32:
        return
    for C, n in ((1, 1), (2, 3), (3, 8), (4, 50), (2, 64)):
        root = torch.randn(C, n, n + 1, device=device, dtype=dtype)
        matrix = root @ root.mT * torch.logspace(0, 3, n, device=device, dtype=dtype)
        matrix = matrix + matrix.mT + 4e3 * n * torch.eye(n, device=device, dtype=dtype)
        yield f"eigenvectors of {C} x {n} x {n}", partial(spectrum, matrix)
        if n == 8:
            turned = torch.linalg.qr(matrix)[0]
            for what, sizes in (("equal", 1 + 1e-11 * torch.arange(n)), ("far apart", 10.0 ** -torch.arange(n))):
                awkward = turned @ (sizes.to(matrix).unsqueeze(-1) * turned.mT)
                yield f"eigenvectors of values that are {what}", partial(spectrum, (awkward + awkward.mT) / 2)
        near = torch.eye(n, device=device, dtype=dtype) * 1.5 + 0.1 * torch.randn_like(matrix) / n**0.5
        yield f"roots of {C} x {n} x {n}", partial(symmetric_root, near)
        factor, right = torch.linalg.cholesky(matrix), torch.randn(C, n, 3, device=device, dtype=dtype)
        yield f"systems of {C} x {n} x {n}", partial(cholesky_solved, right, factor)


CHECKS = {
    "fa": table_checks,
    "zip": zip_checks,
    "potts": potts_checks,
    "gaussian": gaussian_checks,
    "poisson": poisson_checks,
}


def leaves(value: Any) -> Iterator[Tensor]:
    """Go through the tensors of nested tuples and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif value is not None and not isinstance(value, bool | int | float | str):
        for each in value if isinstance(value, tuple | list) else vars(value).values():
            yield from leaves(each)


def difference(one: Any, other: Any) -> float:
    """Return the largest difference of two results in units of the largest number of each tensor."""
    worst = 0.0
    for mine, oracle in zip(leaves(one), leaves(other), strict=True):
        assert mine.shape == oracle.shape, f"{tuple(mine.shape)} in place of {tuple(oracle.shape)}"
        if oracle.numel():
            scale = float(oracle.abs().max().clamp(min=1e-6))
            gap = float((mine.double() - oracle.double()).abs().max()) / scale
            worst = max(worst, gap if gap == gap else float("inf"))
    return worst


def check(name: str, device: str) -> None:
    """Hold the kernels of a model to their oracle, in both precisions: a line for all, and one for each that is bad."""
    good, bad, worst = 0, [], {torch.float64: 0.0, torch.float32: 0.0}
    for dtype in (torch.float64, torch.float32) if name == "poisson" else ():
        for K in (3, 50):
            with seeded(0):
                for what, errors in allotment(device, dtype, 2000, K):
                    good += abs(errors) < 4.5
                    bad += [] if abs(errors) < 4.5 else [f"{what}, K={K}, {dtype}: {errors:.1f} standard errors"]
    for dtype, most in ((torch.float64, 1e-11), (torch.float32, 2e-4)):
        with seeded(0):
            for what, function in CHECKS[name](device, dtype):
                try:
                    with switched(False):
                        oracle = function()
                    with switched(True):
                        first, again = function(), function()
                    gap, same = difference(first, oracle), difference(again, first) == 0.0
                    worst[dtype] = max(worst[dtype], gap)
                    good += gap < most and same
                    told = f"{what}, {dtype}: {gap:.1e}{'' if same else ', not the same twice'}"
                    bad += [] if gap < most and same else [told]
                except Exception as error:  # the others go on
                    bad.append(f"{what}, {dtype}: {short(error)}")
    gaps = ", ".join(f"{gap:.1e} in {str(dtype).removeprefix('torch.')}" for dtype, gap in worst.items())
    print(f"{name}: {good} good, {len(bad)} BAD; largest difference {gaps}")
    for each in bad:
        print(f"    BAD {each}")


def short(error: Exception) -> str:
    """Return a traceback in a few lines."""
    lines = traceback.format_exception(error, limit=-4)
    return "".join(lines)[-1800:].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}, or of the checks {', '.join(CHECKS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--check", action="store_true", help="compare kernels with the code beside them")
    parser.add_argument("--off", action="store_true", help="time the PyTorch code alone")
    parser.add_argument("--scale", type=float, default=1.0, help="of the data, 1 for the sizes of the table")
    parser.add_argument("--top", type=int, default=0, help="lines of each profile, after all else")
    given = parser.parse_args()
    dtype = getattr(torch, given.dtype)
    logging.basicConfig(format="    %(message)s")
    logging.getLogger("pyrozoo").setLevel(logging.INFO)  # why steps are no graph, or kernels do not run
    named = given.cases or list(CHECKS if given.check else CASES)
    if len(named) > 1 and given.device.startswith("cuda"):
        apart(named, [each for each in sys.argv[1:] if each not in given.cases])
        return
    for name in named:
        started = time.perf_counter()
        try:
            if given.check:
                check(name, given.device)
            else:
                with switched(not given.off):
                    timed(name, given.device, dtype, given.scale, given.top)
        except Exception as error:  # the others go on
            print(f"{name}: failed\n    {short(error)}")
        print(f"    ({name} took {time.perf_counter() - started:.1f} s)", flush=True)


TURN = "PYROZOO_TURN"
"""The environment variable that names a folder in which processes say that they are ready, and take turns."""


@contextmanager
def alone() -> Iterator[None]:
    """Wait until all processes that were started together are ready, and no other does what is to be timed."""
    if TURN not in os.environ:
        yield
        return
    import fcntl

    folder = Path(os.environ[TURN])
    (folder / f"ready {os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)
    with (folder / "turn").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def apart(names: list[str], options: list[str]) -> None:
    """Run each case in a process of its own: a capture that fails leaves a device in a state that others would meet.

    All start at once, as starting takes longest; cases that are timed then take turns, checks do not.
    """
    print(torch.cuda.get_device_name(), "with torch", torch.__version__, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: Path(folder) / name for name in names}
        given = os.environ if "--check" in options else {**os.environ, TURN: folder}
        processes = []
        for name, path in outputs.items():
            command = [sys.executable, "-m", "benchmarks.cuda", name, *options]
            with path.open("w") as file:
                processes.append(subprocess.Popen(command, env=given, stdout=file, stderr=subprocess.STDOUT))
        while any(p.poll() is None and not (Path(folder) / f"ready {p.pid}").exists() for p in processes):
            time.sleep(0.1)
        (Path(folder) / "go").touch()
        details = []
        for process, path in zip(processes, outputs.values(), strict=True):
            process.wait()
            for line in path.read_text().splitlines():
                (details.append if line.startswith(" ") else print)(line)
        print("\n".join(details), flush=True)


if __name__ == "__main__":
    main()
