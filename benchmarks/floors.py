"""Hot loops against what this machine can do: bytes that must come from memory, multiplications, special functions.

The floor of a step is the bytes that it must read and write over the machine's bandwidth, plus its multiplications over
the rate of large matrix products, plus its special functions at the rate of vector instructions: what takes them one
after another takes no less. ``rates`` measures the machine. Loops are timed with kernels and with PyTorch code beside
them, in turns, in CPU seconds of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.categorical_fa import model as survey_model
from benchmarks.categorical_fa import simulated
from benchmarks.harness import Row
from benchmarks.poisson_mf import model as factor_model
from benchmarks.poisson_mf import synthetic, triplets
from benchmarks.potts_grid import MODEL
from benchmarks.zip_mixture import model as mixture
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.seeds import seeded
from pyrozoo.data.grid import pattern
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.math.special import gamma_functions
from pyrozoo.models.categorical_fa import vem
from pyrozoo.models.factor_analysis import gibbs as table_gibbs
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.models.gaussian_mf import gibbs as ratings_gibbs
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.poisson_mf import cavi
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.messages import Passing
from pyrozoo.models.zip_mixture import em
from pyrozoo.run import catalog

BYTES = {torch.float64: 8, torch.float32: 4}


@dataclass(frozen=True)
class Rates:
    """What one core does in a second.

    Attributes:
        memory: Bytes read and written, from memory.
        cache: The same, of 256 KB.
        product: Additions and multiplications of a large matrix product.
        exp: Exponentials, one of a vector of them.
        gamma: Pairs of digamma and log Gamma.
        normal: Standard normal numbers.
    """

    memory: float
    cache: float
    product: float
    exp: float
    gamma: float
    normal: float


def seconds(function: Callable[[], Any], rounds: int = 5) -> float:
    """Return the fewest CPU seconds of several calls, after one."""
    function()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def rates(dtype: torch.dtype) -> Rates:
    """Measure them."""

    def triad(numbers: int, times: int) -> float:
        a, b, c = (torch.rand(numbers, dtype=dtype) for _ in range(3))
        taken = seconds(lambda: [torch.add(a, b, alpha=3.0, out=c) for _ in range(times)])
        return 3 * numbers * BYTES[dtype] * times / taken

    square, x = torch.rand(1500, 1500, dtype=dtype), torch.rand(2**15, dtype=dtype) * 20
    out = torch.empty_like(x)
    return Rates(
        memory=triad(2**24, 2), cache=triad(2**18 // (3 * BYTES[dtype]), 1000),
        product=2 * 1500**3 / seconds(lambda: square @ square),
        exp=100 * len(x) / seconds(lambda: [torch.exp(x, out=out) for _ in range(100)]),
        gamma=100 * len(x) / seconds(lambda: [gamma_functions(x) for _ in range(100)]),
        normal=100 * len(x) / seconds(lambda: [torch.randn(len(x), dtype=dtype) for _ in range(100)]),
    )  # fmt: skip


@dataclass(frozen=True)
class Loop:
    """A step, and what it must do.

    Attributes:
        task: What it is.
        step: Does it once.
        bytes: That come from memory or go there.
        operations: Additions and multiplications.
        exp: Exponentials and logarithms.
        gamma: Pairs of digamma and log Gamma.
        normal: Standard normal numbers.
    """

    task: str
    step: Callable[[], Any]
    bytes: float
    operations: float
    exp: float = 0
    gamma: float = 0
    normal: float = 0

    def floor(self, of: Rates) -> float:
        """Return seconds below which no step gets."""
        special = self.exp / of.exp + self.gamma / of.gamma + self.normal / of.normal
        return self.bytes / of.memory + self.operations / of.product + special


def against_floor(loop: Loop, of: Rates, rounds: int = 3) -> Row:
    """Time a step with kernels and without, in turns."""
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(loop.step, 1))
        with switched(False):
            theirs.append(seconds(loop.step, 1))
    floor, best, without = loop.floor(of), min(ours), min(theirs)
    moved = f"{loop.bytes / 1e6:.0f} MB, {loop.operations / 1e9:.2f} GF"
    note = f"floor {floor * 1e3:.1f} ms ({moved}); {best / floor:.1f} times the floor, in PyTorch {without / floor:.1f}"
    return Row(f"{loop.task}, CPU seconds of one step", best, "the same in PyTorch", without, note=note)


def factors(cells: tuple[Any, ...], K: int, dtype: torch.dtype, height: int = 100_000, width: int = 20_000) -> Loop:
    """CAVI of poisson_mf: each cell's column and count are read, and each factor and what is made of it, once."""
    solver = cavi.Solver(Posterior.of(factor_model(K), triplets(cells, dtype, height, width)))
    with seeded(0):
        state = solver.init(1)
    listed, numbers, size = len(cells[0]), (height + width) * K, BYTES[dtype]
    return Loop(
        f"poisson_mf cavi, {height} x {width}, {listed} cells, K={K}, {dtype}", lambda: solver.step(state),
        # The shape is read; digamma, log Gamma, mean and expected log are made, the new shape and rate written.
        bytes=listed * (8 + size) + 7 * numbers * size, operations=6.0 * K * listed, exp=listed + 2 * numbers,
        gamma=numbers,
    )  # fmt: skip


def mixtures(rows: int, columns: int, K: int, restarts: int, dtype: torch.dtype) -> Loop:
    """EM of zip_mixture: the design is read once; two products with it; an exponential for each responsibility."""
    table = simulate_data(mixture(K), rows=rows, columns=columns, seed=0).to("cpu", dtype)
    solver = em.Solver(Posterior.of(mixture(K), table))
    with seeded(0):
        state = solver.init(restarts)
    design = rows * 2 * columns
    return Loop(
        f"zip_mixture em, {rows} x {columns}, K={K}, {restarts} restarts, {dtype}", lambda: solver.step(state),
        bytes=design * BYTES[dtype], operations=4.0 * design * K * restarts, exp=rows * restarts * (K + 1),
    )  # fmt: skip


def surveys(rows: int, columns: int, categories: int, restarts: int, dtype: torch.dtype) -> Loop:
    """VEM of categorical_fa: a survey is read; Newton's method evaluates each row four times, each contrast twice."""
    its = survey_model(1)
    solver = vem.Solver(Posterior.of(its, simulated(its, rows, columns, categories).to("cpu", dtype)))
    state = _after(solver, restarts, 3)
    cells = restarts * rows * columns * categories
    return Loop(
        f"categorical_fa vem, {rows} x {columns} x {categories}, {restarts} restarts, {dtype}",
        lambda: solver.step(state), bytes=2 * 8 * rows * columns, operations=60.0 * cells, exp=6 * cells,
    )  # fmt: skip


def grids(side: int, labels: int, dtype: torch.dtype) -> Loop:
    """BP of potts_grid: each message is read and written, with an exponential and a logarithm of it."""
    passing = Passing(Potentials.of(MODEL, pattern("spiral", side, side, labels).to("cpu", dtype)), 0.3, maximise=False)
    state, pixels = passing.start(1), side**2
    return Loop(
        f"potts_grid bp, {side} x {side} x {labels}, {dtype}", lambda: passing.sweep(state),
        bytes=9 * labels * pixels * BYTES[dtype], operations=(8.0 * labels**2 + 20 * labels) * pixels,
        exp=(9 * labels + 3) * pixels,
    )  # fmt: skip


def ratings(cells: tuple[Any, ...], K: int, chains: int, dtype: torch.dtype, height: int, width: int) -> Loop:
    """Gibbs of gaussian_mf: each rating and its place are read for rows and for columns, and multiplied out."""
    listed, data = len(cells[0]), triplets(cells, dtype, height, width)
    settings = {name: value for name, value in catalog.settings("model", "gaussian_mf").items() if name != "name"}
    model = GaussianMF(**{**settings, "num_factors": K})
    solver = ratings_gibbs.Solver(Posterior.of(model, Ratings(data.values, data.row_labels, data.column_labels, "")))
    state, L = _after(solver, chains, 1), K + 1
    return Loop(
        f"gaussian_mf gibbs, {height} x {width}, {listed} ratings, K={K}, {chains} chains, {dtype}",
        lambda: solver.step(state), bytes=2 * listed * (8 + BYTES[dtype]),
        operations=2.0 * listed * chains * L * (L + 3), normal=chains * L * (height + width),
    )  # fmt: skip


def tables(rows: int, columns: int, M: int, chains: int, dtype: torch.dtype) -> Loop:
    """Gibbs of factor_analysis: a complete table is read twice, in a product each; factors are drawn, moved, used."""
    settings = {name: value for name, value in catalog.settings("model", "factor_analysis").items() if name != "name"}
    model = FactorAnalysis(**{**settings, "num_factors": M})
    table = Table.of(torch.randn(rows, columns, dtype=dtype).numpy())
    solver = table_gibbs.Solver(Posterior.of(model, table.to("cpu", dtype)))
    state, factors = _after(solver, chains, 1), chains * rows * M
    return Loop(
        f"factor_analysis gibbs, {rows} x {columns}, M={M}, {chains} chains, {dtype}", lambda: solver.step(state),
        bytes=(2 * rows * columns + 8 * factors) * BYTES[dtype], operations=4.0 * columns * factors, normal=factors,
    )  # fmt: skip


def _after(solver: Any, chains: int, steps: int) -> Any:
    with seeded(0):
        state = solver.init(chains)
        for _ in range(steps):
            state, _ = solver.step(state)
    return state


def rows() -> Iterator[Row]:
    torch.set_num_threads(1)
    cells = synthetic(25_000_000)
    for dtype in (torch.float64, torch.float32):
        of = rates(dtype)
        machine = (
            f"triad {of.memory / 1e9:.1f} GB/s from memory, {of.cache / 1e9:.1f} in cache; product "
            f"{of.product / 1e9:.0f} GF/s; exp {1e9 / of.exp:.2f} ns, digamma with log Gamma {1e9 / of.gamma:.1f} ns"
        )
        x = torch.rand(10**6, dtype=dtype) * 20
        gamma = Loop(
            f"digamma and log Gamma of a million {dtype}", lambda x=x: gamma_functions(x), 3 * x.nbytes, 0, 0, 1e6
        )
        yield Row(**{**vars(against_floor(gamma, of)), "note": machine})
        yield against_floor(mixtures(100_000, 20, 5, 10, dtype), of)
        for K in (10, 50):
            yield against_floor(factors(cells, K, dtype), of)
        yield against_floor(surveys(10_000, 30, 5, 2, dtype), of)
        for side in (316, 632, 1000):
            yield against_floor(grids(side, 3, dtype), of)
        yield against_floor(ratings(cells, 5, 4, dtype, 100_000, 20_000), of)
        yield against_floor(tables(100_000, 100, 3, 4, dtype), of)
