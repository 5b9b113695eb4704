"""The peer of poisson_mf, for an environment of its own: hpfrec, without pyrozoo.

``python poisson_mf_peers.py DATA.npz OUT.npz FACTORS FEW MANY THREADS`` fits ``rows``, ``columns``, ``values`` twice,
with FEW and with MANY iterations, its defaults otherwise, and writes the seconds of one iteration (the difference, so
that what is done once is not in it) and the expected factors after MANY.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version

import numpy as np
import pandas as pd


def main() -> None:
    from hpfrec import HPF

    path, out, factors, few, many, threads = sys.argv[1:]
    with np.load(path) as arrays:
        frame = pd.DataFrame(
            {"UserId": arrays["rows"], "ItemId": arrays["columns"], "Count": arrays["values"].astype(np.float32)}
        )
    seconds = []
    for iterations in (int(few), int(many)):
        model = HPF(
            k=int(factors), maxiter=iterations, stop_crit="maxiter", check_every=iterations, ncores=int(threads),
            reindex=False, verbose=False, random_seed=1, keep_data=False, produce_dicts=False,
        )  # fmt: skip
        started = time.perf_counter()
        model.fit(frame.copy())
        seconds.append(time.perf_counter() - started)
    each = (seconds[1] - seconds[0]) / (int(many) - int(few))
    np.savez(out, seconds=each, theta=model.Theta, beta=model.Beta, version=f"hpfrec {version('hpfrec')}")


if __name__ == "__main__":
    main()
