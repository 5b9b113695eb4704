"""What stands around a fit: CPU seconds and peak memory of each stage of whole commands, short fits of large data.

``python -m benchmarks.stages [CASE ...] [--small]`` prints a line per case: reading, the fit, InferenceData, figures,
all that is written, the whole and its bound. Sizes that are a hundredth (``--small``) show what does not grow.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from benchmarks.harness import Row, peak_megabytes
from benchmarks.reading import ratings

STAGES = ("imports", "read", "fit", "inference_data", "keep", "evaluate", "write")


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        model: The model.
        method: The method.
        size: Rows, entries, or pixels along a side.
        data: (path without ending, size) -> the path of a file of data.
        settings: Of method, model and data.
    """

    model: str
    method: str
    size: int
    data: Callable[[Path, int], Path]
    settings: Mapping[str, Any] = field(default_factory=dict)


def factors(path: Path, size: int, holes: float = 0.0) -> Path:
    """Write a table of 100 columns that ten factors and noise make."""
    generator, columns = np.random.default_rng(0), [f"c{j}" for j in range(100)]
    loadings, path, parts = generator.normal(size=(10, 100)), path.with_suffix(".parquet"), 0
    with pq.ParquetWriter(path, pa.schema([(name, pa.float64()) for name in columns])) as writer:
        while parts < size:
            count = min(100_000, size - parts)
            values = generator.normal(size=(count, 10)) @ loadings + generator.normal(size=(count, 100))
            values[generator.random(values.shape) < holes] = np.nan
            writer.write_table(pa.table(dict(zip(columns, values.T, strict=True))))
            parts += count
    return path


def clusters(path: Path, size: int) -> Path:
    """Write a table of counts in 20 columns, of five kinds of rows."""
    generator = np.random.default_rng(0)
    rate = generator.gamma(2.0, 2.0, (5, 20))[generator.integers(0, 5, size)]
    counts = generator.poisson(rate) * (generator.random(rate.shape) < 0.7)
    arrow_csv.write_csv(pa.table({f"c{j}": counts[:, j] for j in range(20)}), path.with_suffix(".csv"))
    return path.with_suffix(".csv")


def listed(path: Path, size: int, ending: str) -> Path:
    """Write a list of ratings."""
    path, table = path.with_suffix(ending), ratings(size)
    (arrow_csv.write_csv if ending == ".csv" else pq.write_table)(table, path)
    return path


def counts(path: Path, size: int) -> Path:
    """Write a list of counts: rows uniform, columns by a power law; a fifth as many columns as rows."""
    generator, rows = np.random.default_rng(0), max(100, size // 100)
    columns = max(20, rows // 5)
    weights = 1 / np.arange(1, columns + 1) ** 0.8
    column = generator.choice(columns, int(1.35 * size), p=weights / weights.sum())
    keys = np.unique(generator.integers(0, rows, len(column)) * columns + column)
    keys = np.sort(generator.permutation(keys)[:size])
    table = pa.table({
        "user": keys // columns, "item": keys % columns, "plays": 1 + generator.poisson(1.0, len(keys)),
    })  # fmt: skip
    pq.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def survey(path: Path, size: int) -> Path:
    """Write 30 questions of four answers that two traits decide."""
    generator = np.random.default_rng(0)
    traits, slopes = generator.normal(size=(size, 2)), generator.normal(size=(2, 30, 4))
    logits = np.einsum("nf,fqk->nqk", traits, slopes) + generator.gumbel(size=(size, 30, 4))
    answers = np.array(list("abcd"))[logits.argmax(-1)]
    pd.DataFrame(answers).add_prefix("q").to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def picture(path: Path, size: int) -> Path:
    """Write an image of four labels in stripes, a tenth of its pixels at random."""
    generator = np.random.default_rng(0)
    image = (np.add.outer(np.arange(size), np.arange(size)) * 8 // size) % 4
    noise = generator.integers(0, 4, image.shape)
    np.save(path.with_suffix(".npy"), np.where(generator.random(image.shape) < 0.1, noise, image))
    return path.with_suffix(".npy")


SWEEPS = {"warmup": 10, "draws": 10, "thin": 1}
CASES = {
    "factor_analysis_1e3": Case("factor_analysis", "gibbs", 1_000, factors, SWEEPS | {"num_factors": 10}),
    "factor_analysis_1e5": Case("factor_analysis", "gibbs", 100_000, factors, SWEEPS | {"num_factors": 10}),
    "factor_analysis_1e6": Case("factor_analysis", "gibbs", 1_000_000, factors, SWEEPS | {"num_factors": 10}),
    "factor_analysis_holes": Case(
        "factor_analysis", "gibbs", 100_000, partial(factors, holes=0.05), SWEEPS | {"num_factors": 10}
    ),
    "gaussian_mf_1e7": Case(
        "gaussian_mf", "gibbs", 10_000_000, partial(listed, ending=".csv"),
        {"warmup": 3, "draws": 5, "thin": 1, "num_factors": 5, "holdout": 0.1},
    ),
    "gaussian_mf_25e6": Case(
        "gaussian_mf", "gibbs", 25_000_000, partial(listed, ending=".parquet"),
        {"warmup": 3, "draws": 5, "thin": 1, "num_factors": 5, "holdout": 0.1},
    ),
    "poisson_mf_1e7": Case(
        "poisson_mf", "cavi", 10_000_000, counts, {"restarts": 1, "max_iterations": 10, "num_factors": 10}
    ),
    "poisson_mf_3e7": Case(
        "poisson_mf", "cavi", 30_000_000, counts, {"restarts": 1, "max_iterations": 10, "num_factors": 10}
    ),
    "categorical_fa_1e4": Case("categorical_fa", "vem", 10_000, survey, {"max_iterations": 6, "latent_dimension": 2}),
    "potts_grid_200": Case("potts_grid", "bp", 200, picture),
    "zip_mixture_1e6": Case("zip_mixture", "em", 1_000_000, clusters, {"max_iterations": 12, "restarts": 10}),
}  # fmt: skip


def _stages(model: str, method: str, path: Path, settings: Mapping[str, Any], directory: Path, pipe: Any) -> None:
    """Run one command stage by stage, and send CPU seconds and peak megabytes of each."""
    done: dict[str, tuple[float, float]] = {}

    def stage(name: str, work: Callable[[], Any]) -> Any:
        _forget_peak()
        started = time.process_time()
        result = work()
        done[name] = time.process_time() - started, peak_megabytes()
        return result

    from pyrozoo.diagnostics.metrics import evaluate
    from pyrozoo.run.fit import Result, Run, configuration

    done["imports"] = time.process_time(), peak_megabytes()
    config = configuration(model, method, str(path), settings, progress=False)
    run = stage("read", lambda: Run.from_config(config, directory=directory))
    result = Result.of(stage("fit", run.fit), config)
    result.reading, result.origin = run.reading, run.origin
    stage("inference_data", lambda: result.groups)
    stage("keep", lambda: result.keep(directory))
    result.metrics = stage("evaluate", lambda: evaluate(result))
    stage("write", lambda: result.save(directory))
    pipe.send((done, result.notes))


def _forget_peak() -> None:
    """Let the system count this process's peak memory anew, where it can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measured(case: Case, size: int) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Return CPU seconds and peak megabytes by stage, of a process of its own, and the notes of the fit."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = case.data(Path(folder) / "data", size)
        receive, send = context.Pipe(False)
        arguments = (case.model, case.method, path, case.settings, Path(folder) / "run", send)
        process = context.Process(target=_stages, args=arguments)
        process.start()
        send.close()
        try:
            return receive.recv()
        finally:
            process.join()


def bound(stages: Mapping[str, tuple[float, float]]) -> float:
    """Return the CPU seconds that a whole command may take: three times reading and the fit, and five."""
    return 3 * (stages["read"][0] + stages["fit"][0]) + 5


def rows() -> Iterator[Row]:
    """Yield a row per command: CPU seconds of all but reading and the fit, against these."""
    for name, case in CASES.items():
        stages, _ = measured(case, case.size)
        around = sum(stages[each][0] for each in ("inference_data", "keep", "evaluate", "write"))
        note = ", ".join(f"{each} {seconds:.1f}" for each, (seconds, _) in stages.items())
        most = max(megabytes for _, megabytes in stages.values())
        within = stages["read"][0] + stages["fit"][0]
        yield Row(f"{name}: all but reading and fit, CPU seconds", around, "reading and fit", within, note, most)


def main() -> None:
    """Print a line per case named, or of all."""
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(CASES)
    print(f"{'CPU s / peak MB':24}", *(f"{each:>15}" for each in STAGES), f"{'whole':>8} {'bound':>8}")
    for name in names:
        case = CASES[name]
        size = max(200, case.size // 100) if "--small" in sys.argv and case.model != "potts_grid" else case.size
        stages, notes = measured(case, size)
        whole = sum(seconds for seconds, _ in stages.values())
        each = (f"{seconds:8.1f} {megabytes:6.0f}" for seconds, megabytes in (stages[stage] for stage in STAGES))
        print(f"{name:24}", *each, f"{whole:8.1f} {bound(stages):8.1f}", flush=True)
        if "--notes" in sys.argv:
            print(*(f"    {note}" for note in notes), sep="\n", flush=True)


if __name__ == "__main__":
    main()
