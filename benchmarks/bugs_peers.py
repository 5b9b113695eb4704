"""JAGS on an example of ``tests/bugs``, by its command line: data and chains are text files in a folder of its own."""

from __future__ import annotations

import math
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from tests.bugs.example import Example

CHAINS = 4

SCRIPT = """load glm
model in "model.txt"
data in "data.txt"
compile, nchains({chains})
{starts}
initialize
adapt 1000
update {warmup}
{monitors}
update {draws}
coda *
"""


def written(values: Mapping[str, Tensor]) -> str:
    """Return arrays as R's ``dump`` writes them."""
    lines = []
    for name, value in values.items():
        by_column = value.permute(tuple(range(value.ndim))[::-1]).flatten().tolist()
        flat = ["NA" if math.isnan(x) else repr(x) for x in by_column]
        if value.ndim == 0:
            lines.append(f'"{name}" <- {flat[0]}')
        elif value.ndim == 1:
            lines.append(f'"{name}" <- c({", ".join(flat)})')
        else:
            lines.append(f'"{name}" <- structure(c({", ".join(flat)}), .Dim = c({", ".join(map(str, value.shape))}))')
    return "\n".join(lines) + "\n"


def version() -> str:
    """Return the version of JAGS, or "" where it is not installed."""
    if shutil.which("jags") is None:
        return ""
    said = subprocess.run(["jags"], input="", capture_output=True, text=True, check=False).stdout
    return said.split()[3] if said.startswith("Welcome") else "?"


def jags(
    example: Example, names: list[str], warmup: int, draws: int, seed: int = 1
) -> tuple[float, dict[str, np.ndarray]]:
    """Sample an example.

    Args:
        example: The example.
        names: What to keep, by its name in the model.
        warmup: Iterations after 1000 of adaptation.
        draws: Iterations kept of each of four chains.
        seed: Of the first chain; others have the following ones.

    Returns:
        CPU seconds, compiling and reading data included, and name -> draws, [chain, draw].
    """
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        (folder / "model.txt").write_text(example.model)
        (folder / "data.txt").write_text(written(example.model_data or example.data))
        starts = []
        for chain in range(1, CHAINS + 1):
            own = f'".RNG.name" <- "base::Mersenne-Twister"\n".RNG.seed" <- {seed + chain}\n'
            (folder / f"starts{chain}.txt").write_text(written(example.starts) + own)
            starts.append(f'parameters in "starts{chain}.txt", chain({chain})')
        script = SCRIPT.format(
            chains=CHAINS, starts="\n".join(starts), warmup=warmup, draws=draws,
            monitors="\n".join(f"monitor {name}" for name in names),
        )  # fmt: skip
        (folder / "script.txt").write_text(script)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = subprocess.run(["jags", "script.txt"], cwd=folder, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not (folder / "CODAindex.txt").is_file():
            raise RuntimeError(f"JAGS: {ran.stdout[-800:]}{ran.stderr[-800:]}")
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        chains = [np.loadtxt(folder / f"CODAchain{chain}.txt")[:, 1] for chain in range(1, CHAINS + 1)]
        index = [line.split() for line in (folder / "CODAindex.txt").read_text().splitlines()]
    found = {name: np.stack([chain[int(a) - 1 : int(b)] for chain in chains]) for name, a, b in index}
    return seconds, {name: found[name] for name in names}
