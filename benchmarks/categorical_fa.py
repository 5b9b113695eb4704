"""categorical_fa: the E-step against rows one at a time, large surveys, and synthetic rows against SDV's synthesizers.

SDV runs in an environment of its own (torch, sdv), whose Python ``PYROZOO_SDV`` names; the survey is found in
``PYROZOO_DATA``.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize

import pyrozoo
from benchmarks.harness import Row, alone, in_turns
from pyrozoo.core.seeds import seeded
from pyrozoo.data.named import read_named
from pyrozoo.data.survey import Survey
from pyrozoo.models.categorical_fa import vem
from pyrozoo.models.categorical_fa.layout import Layout, Parameters
from pyrozoo.models.categorical_fa.model import CategoricalFA
from pyrozoo.models.categorical_fa.posterior import Posterior
from pyrozoo.models.categorical_fa.synthesis import association_error, independent, marginal_tv
from pyrozoo.program.trace import simulate
from pyrozoo.run import catalog
from pyrozoo.run.fit import Result

ROWS_ALONE = 20
"""Rows that the textbook's way is timed on; all rows cost it the same."""

SYNTHETIC = 20_000
CHOICES = (("exact", 2, {}), ("exact", 3, {"nodes": 5}), ("laplace_em", 6, {}))
"""Methods, latent dimensions and solver options set beside SDV."""


def model(d: int, **changes: object) -> CategoricalFA:
    settings = catalog.settings("model", "categorical_fa") | {"latent_dimension": d} | changes
    return CategoricalFA(**{key: value for key, value in settings.items() if key != "name"})


def simulated(its: CategoricalFA, rows: int, columns: int, categories: int) -> Survey:
    blank = Survey.blank(rows, columns, categories)
    with seeded(0):
        values = simulate(its, blank)["answers"]
    return Survey(values, blank.row_labels, blank.column_labels, "simulated", levels=blank.levels)


class OneByOne:
    """Variational EM's E-step as course solutions do it: per row, zeta, lambda by conjugate gradients, zeta, v.

    The same bound with one zeta per row; v by L-BFGS on its logarithm, in NumPy and SciPy. Rounds until the row's bound
    changes by less than a millionth.
    """

    def __init__(self, data: Survey, p: Parameters):
        self.beta, self.offset = p.beta[0].numpy(), p.offset[0].numpy()
        self.prior, self.mean = np.linalg.inv(p.covariance[0].numpy()), p.mean[0].numpy()
        layout = model(self.beta.shape[1]).layout(data)
        self.counts = layout.block(slice(0, ROWS_ALONE)).counts.T.numpy()
        self.squares = 0.5 * self.beta**2

    def row(self, x: np.ndarray) -> float:
        d, items = self.beta.shape[1], x.sum()
        lam, v = np.zeros(d), np.ones(d)
        linear, before = x @ self.beta, -np.inf
        for _ in range(100):
            zeta = np.exp(self.beta @ lam + self.offset + self.squares @ v).sum() / items

            def mean_loss(at: np.ndarray, zeta: float = zeta, v: np.ndarray = v) -> tuple[float, np.ndarray]:
                e = np.exp(self.beta @ at + self.offset + self.squares @ v) / zeta
                away = at - self.mean
                value = linear @ at - e.sum() - 0.5 * away @ self.prior @ away
                return -value, -(linear - e @ self.beta - self.prior @ away)

            lam = minimize(mean_loss, lam, jac=True, method="CG").x
            zeta = np.exp(self.beta @ lam + self.offset + self.squares @ v).sum() / items
            fixed = self.beta @ lam + self.offset

            def variance_loss(
                at: np.ndarray, zeta: float = zeta, fixed: np.ndarray = fixed
            ) -> tuple[float, np.ndarray]:
                var = np.exp(at)
                e = np.exp(fixed + self.squares @ var) / zeta
                value = -e.sum() - 0.5 * np.diag(self.prior) @ var + 0.5 * at.sum()
                return -value, -(var * (-(e @ self.squares) - 0.5 * np.diag(self.prior)) + 0.5)

            v = np.exp(minimize(variance_loss, np.log(v), jac=True, method="L-BFGS-B").x)
            zeta = np.exp(self.beta @ lam + self.offset + self.squares @ v).sum() / items
            bound = linear @ lam - items * np.log(zeta)
            away = lam - self.mean
            bound += -0.5 * away @ self.prior @ away - 0.5 * np.diag(self.prior) @ v + 0.5 * np.log(v).sum()
            if bound - before < 1e-6 * abs(bound):
                break
            before = bound
        return bound + x @ self.offset + 0.5 * d + 0.5 * np.linalg.slogdet(self.prior)[1]

    def __call__(self) -> None:
        self.bounds = np.array([self.row(x) for x in self.counts])


def e_steps() -> Iterator[Row]:
    for d, categories in ((2, 3), (5, 4)):
        its = model(d)
        data = simulated(its, 1000, 100, categories)
        posterior = Posterior(its, data)
        layout = posterior.layout
        with seeded(0):
            p = layout.parameters(posterior.initial(1))
        zero = torch.zeros(1, 1000, d, dtype=torch.float64)
        textbook = OneByOne(data, p)

        def ours(layout: Layout = layout, p: Parameters = p, zero: torch.Tensor = zero) -> torch.Tensor:
            return vem.maximise_rows(layout, p, zero, zero + 1, "per_row")[2]

        mine, theirs = in_turns(ours, textbook, 3)
        gap = np.abs(ours()[0, :ROWS_ALONE].numpy() - textbook.bounds)
        yield Row(
            f"categorical_fa VEM E-step, U=1000, I=100, K={categories}, d={d}, from cold", mine,
            "one row at a time, conjugate gradients, SciPy", theirs * 1000 / ROWS_ALONE,
            f"theirs from {ROWS_ALONE} rows; bounds differ by at most {gap.max():.1g} (ours is never lower: "
            f"{bool((ours()[0, :ROWS_ALONE].numpy() - textbook.bounds > -1e-6).all())})",
        )  # fmt: skip


def large(method: str) -> None:
    """Fit 100,000 rows of 50 items, through the engine with everything."""
    its = model(2)
    data = simulated(its, 100_000, 50, 4)
    pyrozoo.fit(its, method, data=data, max_iterations=10, restarts=1, progress=False)


def survey() -> Survey:
    return read_named(catalog.settings("data", "election"))


def split(data: Survey) -> tuple[Survey, Survey]:
    """Return four fifths of the rows to train on, and the others."""
    order = np.random.default_rng(0).permutation(len(data.values))
    cut = round(0.8 * len(order))

    def part(index: np.ndarray) -> Survey:
        rows = [data.row_labels[i] for i in index]
        return Survey(data.values[index], rows, data.column_labels, data.name, levels=data.levels)

    return part(order[:cut]), part(order[cut:])


def judged(data: Survey, values: torch.Tensor) -> str:
    return f"error of V {association_error(data, values):.4f}, of shares {marginal_tv(data, values):.4f}"


def codes(data: Survey, frame: pd.DataFrame) -> torch.Tensor:
    columns = zip(data.column_labels, data.levels, strict=True)
    found = [pd.Categorical(frame[name], categories=list(levels)).codes.astype(float) for name, levels in columns]
    values = np.stack(found, 1)
    return torch.as_tensor(np.where(values < 0, np.nan, values))


def fitted(train: Survey, test: Survey, method: str, d: int, solver: dict[str, int]) -> Result:
    quick = {"tol": 1e-6} if method == "exact" else {"restarts": 1, "tol": 1e-7}
    return pyrozoo.fit(
        "categorical_fa", method, data=train, test=test, latent_dimension=d, solver=solver, progress=False, **quick
    )


def synthetic() -> Iterator[Row]:
    train, test = split(survey())
    floor = independent(train, SYNTHETIC, 0)
    sdv = dict(peers(train))
    for method, d, solver in CHOICES:
        fit = fitted(train, test, method, d, solver)
        started = time.perf_counter()
        rows = codes(train, pyrozoo.synthesize(fit, SYNTHETIC))
        drawing = time.perf_counter() - started
        joint, alone_joint = (fit.metrics[name] for name in ("test_joint_elpd", "independent_test_joint_elpd"))
        note = (
            f"{judged(train, rows)}; {drawing:.2f} s for {SYNTHETIC} rows; joint log density of a held-out row "
            f"{joint:.3f} (independent columns {alone_joint:.3f}, with {judged(train, floor)})"
        )
        for name, (seconds, values) in sdv.items():
            yield Row(f"categorical_fa {method}, d={d}, election ({len(train.values)} rows), fit", fit.seconds, name,
                      seconds, f"ours: {note}; theirs: {judged(train, values)}")  # fmt: skip
        if not sdv:
            yield Row(f"categorical_fa {method}, d={d}, election, fit", fit.seconds, "", None, note)
    with tempfile.TemporaryDirectory() as folder:
        fit = fitted(train, test, "exact", 2, {})
        path = Path(folder, "rows.csv")
        started = time.perf_counter()
        pyrozoo.synthesize(fit, 1_000_000, path=path, progress=False)
        seconds = time.perf_counter() - started
        with path.open() as file:
            lines = sum(1 for _ in file) - 1
        yield Row("categorical_fa, 1,000,000 synthetic rows of 12 columns into a CSV file", seconds, "", None,
                  f"{lines} rows, {path.stat().st_size / 1e6:.0f} MB")  # fmt: skip


def peers(train: Survey) -> Iterator[tuple[str, tuple[float, torch.Tensor]]]:
    python = os.environ.get("PYROZOO_SDV")
    if not python:
        return
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "data.csv"), Path(folder, "out.csv")
        train.frame(train.values).to_csv(given, index=False)
        script = Path(__file__).with_name("categorical_fa_peers.py")
        for name, title in (("copula", "GaussianCopula"), ("ordinal", "GaussianCopula, ordinal"), ("ctgan", "CTGAN")):
            command = [python, str(script), name, str(given), str(found), str(SYNTHETIC)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            about = json.loads(done.stdout.strip().splitlines()[-1])
            values = codes(train, pd.read_csv(found, dtype=str))
            yield f"{about['version']} {title}", (float(about["fit_seconds"]), values)


def rows() -> Iterator[Row]:
    yield from e_steps()
    yield from synthetic()
    for method in ("vem", "laplace_em"):
        seconds, megabytes = alone(large, method)
        yield Row(f"categorical_fa {method}, 100,000 x 50 x 4, d=2, 10 iterations, simulation and imports included",
                  seconds, "", None, "", megabytes)  # fmt: skip
    for count in (1_000, 10_000, 100_000):
        its = model(2)
        data = simulated(its, count, 20, 4)
        fit = pyrozoo.fit(its, "vem", data=data, max_iterations=5, restarts=1, progress=False)
        yield Row(f"categorical_fa vem, {count} x 20 x 4, d=2, 5 iterations", fit.seconds, "", None,
                  f"{1e9 * fit.seconds / 5 / count / 80:.0f} ns per row, category and iteration")  # fmt: skip
