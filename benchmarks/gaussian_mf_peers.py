"""The peer of gaussian_mf, for an environment of its own: myFM, without pyrozoo.

``python gaussian_mf_peers.py DATA.npz OUT.npz FACTORS SWEEPS`` fits ``train`` [entry, 3] with a tenth and with all of
the sweeps, with priors of their own for rows and columns and its defaults otherwise, and writes the seconds of one
sweep (the difference, so that what is done once is not in it) and its predictions of ``test`` [entry, 2] averaged over
the second half of the sweeps.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version

import numpy as np
from scipy import sparse


def main() -> None:
    from myfm import MyFMRegressor

    path, out, factors, sweeps = sys.argv[1:]
    with np.load(path) as arrays:
        train, test, shape = arrays["train"], arrays["test"], arrays["shape"]

    def design(pairs: np.ndarray) -> sparse.csr_matrix:
        index = np.stack([pairs[:, 0], shape[0] + pairs[:, 1]], 1).astype(np.int64)
        starts = np.arange(0, index.size + 1, 2)
        return sparse.csr_matrix((np.ones(index.size), index.ravel(), starts), (len(pairs), int(shape.sum())))

    X, y, seconds = design(train), train[:, 2], []
    for count in (max(1, int(sweeps) // 10), int(sweeps)):
        model = MyFMRegressor(rank=int(factors), random_seed=0)
        started = time.perf_counter()
        model.fit(X, y, n_iter=count, n_kept_samples=max(1, count // 2), group_shapes=shape.tolist())
        seconds.append(time.perf_counter() - started)
    each = (seconds[1] - seconds[0]) / (int(sweeps) - max(1, int(sweeps) // 10))
    np.savez(out, seconds=each, mean=model.predict(design(test)), version=f"myFM {version('myfm')}")


if __name__ == "__main__":
    main()
