"""factor_analysis: a Gibbs sweep against the textbook way, imputing against summing out, and its cost as data grow."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Row, alone, in_turns
from pyrozoo.core.draws import evenly
from pyrozoo.core.seeds import seeded
from pyrozoo.data.named import read_named
from pyrozoo.data.table import Table
from pyrozoo.models.factor_analysis import em, gibbs
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.models.factor_analysis.posterior import Posterior
from pyrozoo.run import catalog
from pyrozoo.run.source import PREPARATION, prepared

FACTORS, SWEEPS = 50, 5


def model(factors: int = FACTORS) -> FactorAnalysis:
    return FactorAnalysis(**{**_defaults(), "num_factors": factors})


def _defaults() -> dict:
    usual = {name: value for name, value in catalog.settings("model", "factor_analysis").items() if name != "name"}
    return {**usual, "loadings_precision": 0.01, "mean_precision": 0.01, "noise_scale": 10.0}  # of mnist_masked


def masked_mnist(model: FactorAnalysis) -> Table:
    """Return the data of experiment=mnist_masked."""
    settings = catalog.settings("data", "mnist") | {"noise": 3.0, "masks": ["line", "circle", "speckle"]}
    preparation = {name: settings.get(name, usual) for name, usual in PREPARATION.items()}
    table = prepared(read_named(settings), model, **preparation)
    return table.to("cpu", torch.float32)


def textbook_batch(x: Tensor, missing: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> tuple[Tensor, ...]:
    """One sweep as a course hands it out: a solve and a multivariate normal per row and per feature, in one batch."""
    m = model()
    (N, D), M = x.shape, W.shape[1]
    eye, normal = torch.eye(M), torch.distributions.MultivariateNormal
    J = (eye + W.T @ (W / s[:, None])).expand(N, M, M)
    z = normal(torch.linalg.solve(J, ((x - mu) / s) @ W), precision_matrix=J).sample()
    G = (z.T @ z + m.loadings_precision * eye).expand(D, M, M)
    W = normal(torch.linalg.solve(G, (x - mu).T @ z), precision_matrix=G / s[:, None, None]).sample()
    residual = x - z @ W.T
    mu = torch.normal(residual.sum(0) / (N + m.mean_precision), (s / (N + m.mean_precision)).sqrt())
    return _noise_and_holes(x, missing, z, W, mu, (residual - mu).square().sum(0))


def textbook_with_care(x: Tensor, missing: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> tuple[Tensor, ...]:
    """The same with one Cholesky factor per row and per feature that serves both the mean and the noise."""
    m = model()
    (N, D), M = x.shape, W.shape[1]
    eye = torch.eye(M)
    J = (eye + W.T @ (W / s[:, None])).expand(N, M, M).contiguous()
    L = torch.linalg.cholesky(J)
    mean = torch.cholesky_solve((((x - mu) / s) @ W).unsqueeze(-1), L)
    z = (mean + torch.linalg.solve_triangular(L.mT, torch.randn(N, M, 1), upper=True)).squeeze(-1)
    G = (z.T @ z + m.loadings_precision * eye).expand(D, M, M).contiguous()
    L = torch.linalg.cholesky(G)
    mean = torch.cholesky_solve(((x - mu).T @ z).unsqueeze(-1), L)
    noise = torch.linalg.solve_triangular(L.mT, torch.randn(D, M, 1), upper=True)
    W = (mean + s.sqrt()[:, None, None] * noise).squeeze(-1)
    residual = x - z @ W.T
    mu = residual.sum(0) / (N + m.mean_precision) + (s / (N + m.mean_precision)).sqrt() * torch.randn(D)
    return _noise_and_holes(x, missing, z, W, mu, (residual - mu).square().sum(0))


def textbook_loop(x: Tensor, missing: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> tuple[Tensor, ...]:
    """The same as it is taught: a loop over rows, a loop over features, a multivariate normal for each."""
    m = model()
    (N, D), M = x.shape, W.shape[1]
    eye, z = torch.eye(M), torch.empty(x.shape[0], W.shape[1])
    normal = torch.distributions.MultivariateNormal
    for n in range(N):
        J = eye + W.T @ (W / s[:, None])
        z[n] = normal(torch.linalg.solve(J, W.T @ ((x[n] - mu) / s)), precision_matrix=J).sample()
    W, mu, squares = W.clone(), mu.clone(), torch.empty(D)
    for d in range(D):
        G = z.T @ z + m.loadings_precision * eye
        W[d] = normal(torch.linalg.solve(G, z.T @ (x[:, d] - mu[d])), precision_matrix=G / s[d]).sample()
        residual = x[:, d] - z @ W[d]
        mu[d] = torch.normal(residual.sum() / (N + m.mean_precision), (s[d] / (N + m.mean_precision)).sqrt())
        squares[d] = (residual - mu[d]).square().sum()
    return _noise_and_holes(x, missing, z, W, mu, squares)


def _noise_and_holes(
    x: Tensor, missing: Tensor, z: Tensor, W: Tensor, mu: Tensor, squares: Tensor
) -> tuple[Tensor, ...]:
    m, (N, D) = model(), x.shape
    scale = squares + m.loadings_precision * W.square().sum(1) + m.mean_precision * mu**2
    scale = scale + m.noise_degrees * m.noise_scale
    half = torch.full((D,), (m.noise_degrees + N + W.shape[1] + 1) / 2)
    s = scale / 2 / torch.distributions.Gamma(half, 1.0).sample()
    return torch.where(missing, torch.normal(z @ W.T + mu, s.sqrt().expand(N, D)), x), W, mu, s


def sweeps_of(rows: int, columns: int, factors: int, count: int) -> None:
    """Run sweeps on noise with a tenth missing: what they cost does not depend on the values."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(rows, columns)).astype(np.float32)
    values[generator.random(values.shape) < 0.1] = np.nan
    solver = gibbs.Solver(Posterior(model(factors), Table.of(values).to("cpu", torch.float32)))
    with seeded(0):
        state = solver.init(1)
        for _ in range(count):
            state, _ = solver.step(state)


def effective_per_second(table: Table, how: str, warmup: int, sweeps: int) -> tuple[float, float]:
    """Return seconds a sweep, and the worst tenth's bulk ESS a second of mean, noise and W W^T of 60 pixels."""
    solver = gibbs.Solver(Posterior(model(), table), missing=how)
    busy = (table.filled.square().sum(0) > 1e6).nonzero().flatten()
    pixels = busy[evenly(len(busy), 60)]
    kept = []
    with seeded(0):
        state = solver.init(1)
        for _ in range(warmup):
            state, _ = solver.step(state)
        started = time.perf_counter()
        for _ in range(sweeps):
            state, _ = solver.step(state)
            W = state.loadings[0, pixels]
            noise, neighbours = state.noise_variance[0, pixels].log(), (W[1:] * W[:-1]).sum(1)
            kept.append(torch.cat([state.mean[0, pixels], noise, W.square().sum(1), neighbours]))
        seconds = time.perf_counter() - started
    values = torch.stack(kept).double().numpy()
    ess = np.array([az.ess(values[None, :, i], method="bulk") for i in range(values.shape[1])])
    return seconds / sweeps, float(np.quantile(ess, 0.1)) / seconds


def rows() -> Iterator[Row]:
    yield from sweeps()
    yield from growth()
    yield from peers()


def sweeps() -> Iterator[Row]:
    table = masked_mnist(model())
    solver = gibbs.Solver(Posterior(model(), table))
    missing = torch.isnan(table.values)
    x = torch.where(missing, (table.filled.sum(0) / table.observed.sum(0)), table.filled)
    with seeded(0):
        state = solver.init(1)

        def ours() -> None:
            step = state
            for _ in range(SWEEPS):
                step, _ = solver.step(step)

        ways = {
            "in one batch": textbook_batch,
            "in one batch, factors shared": textbook_with_care,
            "in loops": textbook_loop,
        }
        for name, textbook in ways.items():

            def theirs(textbook: Callable[..., Any] = textbook) -> None:
                textbook(x, missing, state.loadings[0], state.mean[0], state.noise_variance[0])

            fast, slow = in_turns(ours, theirs)
            yield Row(
                "factor_analysis Gibbs sweep, masked MNIST 10,000 x 784, M=50, float32", fast / SWEEPS,
                f"a solve per row and per feature, PyTorch, float32, {name}", slow,
            )  # fmt: skip
    results = {how: effective_per_second(table, how, warmup, sweeps) for how, warmup, sweeps in
               (("impute", 300, 600), ("marginal", 30, 100))}  # fmt: skip
    for how, (seconds, rate) in results.items():
        yield Row(
            f"factor_analysis Gibbs, masked MNIST, missing={how}, seconds a sweep", seconds, "", None,
            f"{rate:.2f} effective draws a second (bulk, the worst tenth of 239 invariants)",
        )  # fmt: skip


def growth() -> Iterator[Row]:
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


def hidden_tenth() -> Table:
    """Return MNIST / 255: the pixels that vary, a random tenth of all entries hidden."""
    entry = catalog.settings("data", "mnist")
    values = read_named(entry).values.numpy() / 255
    values = values[:, values.std(0) > 0]
    rows, columns = np.nonzero(np.random.default_rng(0).random(values.shape) < 0.1)
    return Table.of(values).hide(torch.as_tensor(rows), torch.as_tensor(columns))


def trajectory(table: Table, iterations: int) -> list[tuple[float, float]]:
    """Return seconds of EM and the error on hidden entries after every iteration; evaluation is not timed.

    The prior says that all pixels have one noise variance, as bayespy's PCA does: noise per pixel is the better
    density, but what it weights down are just the pixels that a squared error counts.
    """
    hidden = table.hidden
    assert hidden is not None
    analysis = FactorAnalysis(
        **{**_defaults(), "num_factors": FACTORS, "noise_degrees": 1e6, "noise_scale": 0.015, "loadings_precision": 1.0}
    )
    found, away, started = [], 0.0, time.perf_counter()
    posterior = Posterior(analysis, table)
    solver = em.Solver(posterior)
    with seeded(0):
        state = solver.init(1)
        for _ in range(iterations):
            state, _ = solver.step(state)
            now = time.perf_counter()
            mean = posterior.predict({s: v.unsqueeze(1) for s, v in solver.answer(state).draws().items()}).mean
            found.append((now - started - away, float((mean - hidden.values).square().mean().sqrt())))
            away += time.perf_counter() - now
    return found


def peers() -> Iterator[Row]:
    """Compare seconds to a given error with libraries in an environment of their own.

    ``PYROZOO_PEERS`` names its Python; without it there is no comparison.

    ``python -m venv peers && peers/bin/pip install mofapy2==0.7.5 bayespy==0.6.6 scikit-learn==1.9.1``
    """
    python = os.environ.get("PYROZOO_PEERS")
    if not python:
        return
    table = hidden_tenth()
    hidden = table.hidden
    assert hidden is not None
    path = trajectory(table.to("cpu", torch.float32), 30)
    means = (table.filled.sum(0) / table.observed.sum(0))[hidden.columns]
    fill = float((means - hidden.values).square().mean().sqrt())
    lowest, (seconds, end) = min(error for _, error in path), path[-1]
    last = f"ours reaches {lowest:.4f} and has {end:.4f} after {len(path)} iterations, {seconds:.0f} s"
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "data.npz"), Path(folder, "out.json")
        np.savez(data, values=table.values, rows=hidden.rows, columns=hidden.columns, truth=hidden.values)
        for peer, limit in (("sklearn", 600), ("mofapy2", 60), ("bayespy", 300)):
            script = Path(__file__).with_name("factor_analysis_peers.py")
            subprocess.run([python, script, peer, data, out, str(limit)], check=True, stdout=subprocess.DEVNULL)
            result = json.loads(out.read_text())
            records = [(record["seconds"], record["rmse"]) for record in result["records"]]
            best = min(error for _, error in records)
            # At its best, and on the way there, where it still gets better quickly.
            for target in dict.fromkeys((next(error for _, error in records if error < 1.02 * best), best)):
                reached = next((seconds for seconds, error in path if error <= target), None)
                if reached is None:
                    continue
                theirs = next(seconds for seconds, error in records if error <= target)
                yield Row(
                    f"factor analysis, MNIST/255, a tenth hidden (mean fill {fill:.4f}), K=50: to RMSE {target:.4f}",
                    reached, result["version"], theirs,
                    f"its best is {best:.4f}, after {len(records)} iterations {records[-1][1]:.4f}; {last}",
                )  # fmt: skip
