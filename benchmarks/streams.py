"""Rows that stay in files: seconds of a pass and peak memory of a process, beside EM of rows in memory.

``python -m benchmarks.streams write FOLDER zip_mixture --rows 10000000 --columns 20``, then ``... stochastic_em FOLDER
zip_mixture`` and ``... em FOLDER zip_mixture``, each in a process of its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.harness import peak_megabytes
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.seeds import seeded
from pyrozoo.core.world import World
from pyrozoo.run import catalog
from pyrozoo.run.names import model_of
from pyrozoo.run.shards import read_in_shards
from pyrozoo.run.source import read

GROUP, FILE = 100_000, 1_000_000
"""Lines of a row group, and of a file."""

MODELS = {"zip_mixture": {"num_components": 5}, "factor_analysis": {"num_factors": 5}}


def write(folder: Path, model: str, rows: int, columns: int) -> None:
    """Write rows drawn from a model of this kind, file by file."""
    folder.mkdir(parents=True)
    fixed = np.random.default_rng(0)
    K, names = 5, [f"c{j}" for j in range(columns)]
    rates, on = fixed.gamma(2.0, 2.0, (K, columns)), fixed.beta(2.0, 2.0, (K, columns))
    loadings, mean = fixed.standard_normal((K, columns)), fixed.standard_normal(columns)
    for number, start in enumerate(range(0, rows, FILE)):
        generator, size = np.random.default_rng((1, number)), min(FILE, rows - start)
        if model == "zip_mixture":
            z = generator.integers(K, size=size)
            values = generator.poisson(rates[z]) * (generator.random((size, columns)) < on[z])
        else:
            values = generator.standard_normal((size, K)) @ loadings + mean
            values = values + 0.5 * generator.standard_normal((size, columns))
        table = pa.table(dict(zip(names, values.T, strict=True)))
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=GROUP)


def prepared(folder: Path, model_name: str, *, stream: bool) -> Posterior:
    """Return the posterior of the rows in a folder."""
    model = model_of({**catalog.model_settings(model_name), **MODELS[model_name]})
    settings = {**catalog.settings("data", "file"), "path": str(folder), "holdout": 0.0}
    if not stream:
        return Posterior.of(model, read(settings, model))
    like = torch.empty(0, dtype=torch.float64)
    found = read_in_shards(settings, model, 1, World(), like, stream=True)
    assert found is not None
    return found


def main() -> None:
    """Write rows, or time passes over them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("write", "em", "stochastic_em"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=MODELS)
    for name, usual in {"rows": 1_000_000, "columns": 20, "passes": 3, "batch": 1000, "restarts": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--in-memory", action="store_true", help="of stochastic_em: rows are read before")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.what == "write":
        write(asked.folder, asked.model, asked.rows, asked.columns)
        return
    imports, started = peak_megabytes(), time.process_time()
    online = asked.what == "stochastic_em"
    posterior = prepared(asked.folder, asked.model, stream=online and not asked.in_memory)
    options = {"batch_size": asked.batch} if online else {}
    solver = catalog.part(asked.model, asked.what).Solver(posterior, **options)
    with seeded(0), torch.no_grad():
        state = solver.init(asked.restarts)
        ready, seconds = time.process_time() - started, []
        for _ in range(asked.passes):
            started = time.process_time()
            state, info = solver.step(state)
            seconds.append(time.process_time() - started)
    each = ", ".join(f"{one:.2f}" for one in seconds)
    print(
        f"{asked.model} {asked.what}{' in memory' if asked.in_memory else ''}: {posterior.rows} x "
        f"{posterior.data.shape[1]}, {asked.restarts} restarts, batch {asked.batch if online else 'all'}: CPU s before "
        f"the first pass {ready:.1f}, of passes {each}; objective {float(info.objective[0]):.4f}; peak MB "
        f"{peak_megabytes():.0f}, imports {imports:.0f}"
    )


if __name__ == "__main__":
    main()
