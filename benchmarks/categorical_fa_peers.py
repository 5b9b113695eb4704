"""The peers of categorical_fa, for an environment of their own, without pyrozoo: SDV's Gaussian copula and its CTGAN.

``python categorical_fa_peers.py copula|ordinal|ctgan DATA.csv OUT.csv ROWS`` fits the synthesizer, its defaults, to a
table whose columns are all categorical (an empty cell is a missing answer), writes ROWS synthetic rows and prints one
line of JSON: the seconds of fitting and of sampling, the most memory it had, and the version. Imports are not timed.
Both peers take missing for one more category and synthesize it; such cells are written empty. ``ordinal`` is the
copula told that categories come in alphabetical order, which for graded answers it cannot know by itself.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from contextlib import redirect_stdout
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

TABLE = "answers"


def copula(metadata: Any) -> Any:
    """No seed to set: what is random in its fit, it seeds from the data."""
    from sdv.single_table import GaussianCopulaSynthesizer

    return GaussianCopulaSynthesizer(metadata)


def ctgan(metadata: Any) -> Any:
    """Its fit draws from the global generators of NumPy and torch."""
    import torch
    from sdv.single_table import CTGANSynthesizer

    np.random.seed(0)  # noqa: NPY002 - the generator it uses
    torch.manual_seed(0)
    return CTGANSynthesizer(metadata)


def main() -> None:
    peer, path, out, rows = sys.argv[1:]
    data = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sdv.metadata import Metadata

        metadata = Metadata()
        metadata.add_table(TABLE)
        for column in data.columns:
            kind: dict[str, Any] = {"sdtype": "categorical"}
            if peer == "ordinal":
                levels = sorted(data[column].dropna().unique())
                kind = {"sdtype": "ordinal", "range_values": levels, "range_is_nullable": True}
            metadata.add_column(column, TABLE, **kind)
        synthesizer = {"copula": copula, "ordinal": copula, "ctgan": ctgan}[peer](metadata)
        started = time.perf_counter()
        synthesizer.fit({TABLE: data})
        fitted = time.perf_counter()
        synthetic = synthesizer.sample(int(rows))[TABLE]  # from a seed that SDV fixes itself
        sampled = time.perf_counter()
    synthetic.to_csv(out, index=False)
    result = {
        "fit_seconds": fitted - started,
        "sample_seconds": sampled - fitted,
        "version": f"SDV {version('sdv')}",
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
