"""Run all benchmarks, or those named: ``python -m benchmarks [zip_mixture ...]``."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pandas as pd
import torch

HERE = Path(__file__).parent
NOT_BENCHMARKS = {
    "__init__",
    "__main__",
    "bits",
    "broken_files",
    "cluster",
    "cuda",
    "cuda_nuts",
    "fuzz",
    "harness",
    "mutants",
    "mutation",
    "planted",
    "scale",
}


def main() -> None:
    if sys.argv[1:2] == ["mutation"]:  # of tests, and with options of its own
        before = dict(os.environ)
        importlib.import_module("tests")  # which says how numbers are rounded: too late for what is loaded
        if os.environ != before:
            os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]])
        importlib.import_module("benchmarks.mutation").main(sys.argv[2:])
        return
    from pyrozoo.store.inference_data import versions

    names = sys.argv[1:] or sorted(
        path.stem for path in HERE.glob("*.py") if path.stem not in NOT_BENCHMARKS and not path.stem.endswith("_peers")
    )
    lines = []
    for name in names:
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            ratio = row.theirs / row.ours if row.theirs else None
            lines.append(
                {
                    "benchmark": name,
                    "task": row.task,
                    "ours_seconds": round(row.ours, 4),
                    "peer": row.peer,
                    "peer_seconds": round(row.theirs, 2) if row.theirs else None,
                    "ratio": round(ratio, 1) if ratio else None,
                    "ours_peak_megabytes": round(row.megabytes) if row.megabytes else None,
                    "note": row.note,
                }
            )
            print(lines[-1], flush=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    about = {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
    }
    table = pd.DataFrame(lines).assign(**about)
    if (HERE / "results.csv").is_file():  # those not measured now stay
        before = pd.read_csv(HERE / "results.csv")
        table = pd.concat([before[~before["benchmark"].isin(names)], table])
    table.sort_values("benchmark", kind="stable").to_csv(HERE / "results.csv", index=False)


if __name__ == "__main__":
    main()
