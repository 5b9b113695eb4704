"""The peers of factor_analysis, for an environment of their own: mofapy2, bayespy and scikit-learn, without pyrozoo.

``python factor_analysis_peers.py PEER DATA.npz OUT.json SECONDS`` fits K = 50 factors to ``values`` (NaN where hidden)
and writes the root mean squared error on the hidden entries after every iteration. Seconds are those of fitting:
initialisation is in them, imports and evaluation are not.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np

FACTORS = 50
PATIENCE = 12  # iterations after the best, to see whether the error drifts upward


class EnoughError(Exception):
    """The time is up, or the error has long been at its best."""


class Clock:
    """Seconds of fitting, and the error at each of them."""

    def __init__(self, data: dict[str, np.ndarray], limit: float):
        self.data, self.limit, self.records = data, limit, []
        self.mean = np.nanmean(data["values"], 0)
        self.started, self.away = 0.0, 0.0

    def start(self) -> None:
        """Start to count; a peer calls this when its imports are done."""
        self.started = time.perf_counter()

    def look(self, scores: np.ndarray, loadings: np.ndarray, mean: np.ndarray | None = None) -> None:
        """Record the error of scores @ loadings.T + mean, and stop when that is enough."""
        now = time.perf_counter()
        seconds = now - self.started - self.away
        rows, columns = self.data["rows"], self.data["columns"]
        predicted = (scores @ loadings.T + (self.mean if mean is None else mean))[rows, columns]
        error = float(np.sqrt(np.mean((predicted - self.data["truth"]) ** 2)))
        self.records.append({"seconds": seconds, "iteration": len(self.records) + 1, "rmse": error})
        best = int(np.argmin([record["rmse"] for record in self.records]))
        self.away += time.perf_counter() - now
        if seconds > self.limit or len(self.records) - 1 - best >= PATIENCE:
            raise EnoughError


def sklearn(clock: Clock) -> None:
    """FactorAnalysis after filling with column means, its defaults; its EM cannot be stepped, so one record."""
    from sklearn.decomposition import FactorAnalysis

    clock.start()
    values = clock.data["values"]
    filled = np.where(np.isnan(values), clock.mean, values)
    model = FactorAnalysis(FACTORS, random_state=0)
    scores = model.fit_transform(filled)
    clock.look(scores, model.components_.T, model.mean_)


def mofapy2(clock: Clock) -> None:
    """One view, one group, Gaussian; no sparsity, no automatic relevance determination: plain factor analysis.

    Its tutorial has spike and slab and automatic relevance determination on; both off is the plain model. It starts
    from its PCA of the filled data and centres the columns itself. The bound is never evaluated on the way.
    """
    from mofapy2.run.entry_point import entry_point

    clock.start()
    ent = entry_point()
    ent.set_data_options(scale_views=False, scale_groups=False)
    ent.set_data_matrix([[clock.data["values"].copy()]], likelihoods=["gaussian"])
    ent.set_model_options(
        factors=FACTORS, spikeslab_weights=False, spikeslab_factors=False, ard_weights=False, ard_factors=False
    )
    ent.set_train_options(
        iter=1000, convergence_mode="slow", freqELBO=100_000, startELBO=100_000, seed=1, quiet=True, verbose=False
    )
    ent.build()
    nodes, schedule = ent.model.getNodes(), ent.train_opts["schedule"]
    last = nodes[schedule[-1]]
    update = last.update

    def watched(*arguments: object) -> None:
        update(*arguments)
        clock.look(nodes["Z"].getExpectation(), nodes["W"].getExpectation()[0])

    last.update = watched
    ent.run()


def bayespy(clock: Clock) -> None:
    """Its PCA demo: automatic relevance determination, one noise precision, rotations; centred columns."""
    from bayespy import nodes
    from bayespy.inference.vmp import transformations
    from bayespy.inference.vmp.vmp import VB

    clock.start()
    np.random.seed(0)  # noqa: NPY002 - the generator it uses
    y = (clock.data["values"] - clock.mean).T
    D, N = y.shape
    alpha = nodes.Gamma(1e-2, 1e-2, plates=(FACTORS,), name="alpha")
    W = nodes.GaussianARD(0, alpha, shape=(FACTORS,), plates=(D, 1), name="W")
    X = nodes.GaussianARD(0, 1, shape=(FACTORS,), plates=(1, N), name="X")
    F = nodes.SumMultiply("i,i", W, X, name="F")
    tau = nodes.Gamma(1e-2, 1e-2, name="tau")
    Y = nodes.GaussianARD(F, tau, name="Y")
    X.initialize_from_random()
    W.initialize_from_random()
    Q = VB(Y, F, W, X, tau, alpha)
    mask = ~np.isnan(y)
    Q["Y"].observe(np.where(mask, y, 0.0), mask=mask)
    rotation = transformations.RotationOptimizer(
        transformations.RotateGaussianARD(Q["W"], Q["alpha"]), transformations.RotateGaussianARD(Q["X"]), FACTORS
    )
    Q.callback = rotation.rotate
    while True:
        Q.update(repeat=1, verbose=False)
        clock.look(Q["X"].get_moments()[0][0], Q["W"].get_moments()[0][:, 0])


PEERS: dict[str, Callable[[Clock], None]] = {"sklearn": sklearn, "mofapy2": mofapy2, "bayespy": bayespy}
PACKAGES = {"sklearn": "scikit-learn"}


def main() -> None:
    peer, path, out, limit = sys.argv[1:]
    with np.load(path) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    clock = Clock(data, float(limit))
    with suppress(EnoughError):
        PEERS[peer](clock)
    name = PACKAGES.get(peer, peer)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"version": f"{name} {version(name)}", "megabytes": megabytes, "records": clock.records}
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
