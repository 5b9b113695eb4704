"""factor_analysis: a Gibbs sweep against the textbook way, imputing against summing out, and its cost as data grow."""

from __future__ import annotations

import time
from collections.abc import Iterator

import arviz as az
import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Row, alone, in_turns
from pyrozoo import catalog
from pyrozoo.data.named import read_named
from pyrozoo.data.source import prepared
from pyrozoo.data.table import Table
from pyrozoo.models.factor_analysis import gibbs
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.program import seeded

FACTORS, SWEEPS = 50, 5


def model(factors: int = FACTORS) -> FactorAnalysis:
    return FactorAnalysis(**{**_defaults(), "num_factors": factors})


def _defaults() -> dict:
    return {name: value for name, value in catalog.settings("model", "factor_analysis").items() if name != "name"}


def masked_mnist(model: FactorAnalysis) -> Table:
    """Return the data of experiment=mnist_masked."""
    settings = catalog.settings("data", "mnist") | {"noise": 3.0, "masks": ["line", "circle", "speckle"]}
    common = ("holdout", "seed", "image_shape", "noise", "masks", "mask_line_distance", "mask_circle_spread",
              "mask_circle_radius", "mask_speckle")  # fmt: skip
    table = prepared(read_named(settings), model, **{name: settings[name] for name in common})
    return table.to("cpu", torch.float32)


def textbook_sweep(x: Tensor, missing: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> tuple[Tensor, ...]:
    """One sweep with its conditionals as they are written down: a solve for every row and for every feature."""
    m = model()
    (N, D), M = x.shape, W.shape[1]
    eye = torch.eye(M)
    z = torch.empty(N, M)
    for n in range(N):
        J = eye + W.T @ (W / s[:, None])
        mean = torch.linalg.solve(J, W.T @ ((x[n] - mu) / s))
        z[n] = torch.distributions.MultivariateNormal(mean, precision_matrix=J).sample()
    W, mu, s = W.clone(), mu.clone(), s.clone()
    for d in range(D):
        G = z.T @ z + m.loadings_precision * eye
        mean = torch.linalg.solve(G, z.T @ (x[:, d] - mu[d]))
        W[d] = torch.distributions.MultivariateNormal(mean, precision_matrix=G / s[d]).sample()
        residual = x[:, d] - z @ W[d]
        mu[d] = torch.normal(residual.sum() / (N + m.mean_precision), (s[d] / (N + m.mean_precision)).sqrt())
        scale = (residual - mu[d]).square().sum() + m.loadings_precision * W[d].square().sum()
        scale = scale + m.mean_precision * mu[d] ** 2 + m.noise_degrees * m.noise_scale
        s[d] = scale / 2 / torch.distributions.Gamma((m.noise_degrees + N + M + 1) / 2, 1.0).sample()
    filled = torch.normal(z @ W.T + mu, s.sqrt().expand(N, D))
    return torch.where(missing, filled, x), W, mu, s


def sweeps_of(rows: int, columns: int, factors: int, count: int) -> None:
    """Run sweeps on noise with a tenth missing: what they cost does not depend on the values."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(rows, columns)).astype(np.float32)
    values[generator.random(values.shape) < 0.1] = np.nan
    solver = gibbs.Solver(model(factors), Table.of(values).to("cpu", torch.float32))
    with seeded(0):
        state = solver.init(1)
        for _ in range(count):
            state, _ = solver.step(state)


def effective_per_second(table: Table, how: str, warmup: int, sweeps: int) -> tuple[float, float]:
    """Return seconds a sweep, and the least bulk ESS a second of mean, noise and W W^T of 60 pixels spread over the image."""
    solver = gibbs.Solver(model(), table, missing=how)  # type: ignore[arg-type]
    busy = (table.filled.square().sum(0) > 1e6).nonzero().flatten()
    pixels = busy[torch.linspace(0, len(busy) - 1, 60).long()]
    kept = []
    with seeded(0):
        state = solver.init(1)
        for _ in range(warmup):
            state, _ = solver.step(state)
        started = time.perf_counter()
        for _ in range(sweeps):
            state, _ = solver.step(state)
            W = state.loadings[0, pixels]
            parts = [
                state.mean[0, pixels],
                state.noise_variance[0, pixels].log(),
                W.square().sum(1),
                (W[1:] * W[:-1]).sum(1),
            ]
            kept.append(torch.cat(parts))
        seconds = time.perf_counter() - started
    values = torch.stack(kept).double().numpy()
    ess = np.array([az.ess(values[None, :, i], method="bulk") for i in range(values.shape[1])])
    return seconds / sweeps, float(np.quantile(ess, 0.1)) / seconds


def rows() -> Iterator[Row]:
    table = masked_mnist(model())
    solver = gibbs.Solver(model(), table)
    with seeded(0):
        state = solver.init(1)
        missing = torch.isnan(table.values)
        x = torch.where(missing, (table.filled.sum(0) / table.observed.sum(0)), table.filled)

        def ours() -> None:
            step = state
            for _ in range(SWEEPS):
                step, _ = solver.step(step)

        def theirs() -> None:
            textbook_sweep(x, missing, state.loadings[0], state.mean[0], state.noise_variance[0])

        fast, slow = in_turns(ours, theirs)
    yield Row(
        "factor_analysis Gibbs sweep, masked MNIST 10,000 x 784, M=50, float32", fast / SWEEPS,
        "a solve per row and per feature, PyTorch, float32", slow,
    )  # fmt: skip
    results = {how: effective_per_second(table, how, warmup, sweeps) for how, warmup, sweeps in
               (("impute", 300, 600), ("marginal", 30, 100))}  # fmt: skip
    for how, (seconds, rate) in results.items():
        yield Row(
            f"factor_analysis Gibbs, masked MNIST, missing={how}, seconds a sweep", seconds, "", None,
            f"{rate:.2f} effective draws a second (bulk, the worst tenth of 239 invariants)",
        )  # fmt: skip
    for count in (1_000, 10_000, 100_000):
        yield _growth(count, 100, 20)
    for columns in (10, 100, 1_000):
        yield _growth(10_000, columns, 20)
    for factors in (2, 20, 200):
        yield _growth(10_000, 300, factors)


def _growth(count: int, columns: int, factors: int) -> Row:
    seconds, peak = alone(sweeps_of, count, columns, factors, 20)
    task = f"factor_analysis Gibbs, N={count}, D={columns}, M={factors}, 20 sweeps, float32"
    return Row(task, seconds, "", None, "data included", peak)
