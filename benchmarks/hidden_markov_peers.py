"""The peers of hidden_markov, for an environment of their own, without pyrozoo: hmmlearn, and dynamax (on JAX).

``python hidden_markov_peers.py hmmlearn DATA.npz OUT.npz`` runs so many iterations of EM from the start that the file
holds, with the same priors, and writes the seconds of an iteration and the log-likelihood before each. ``dynamax`` does
the same with its Gaussian HMM of diagonal covariances, maximum likelihood in all but the chain.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np


def hmmlearn(given: dict[str, Any], implementation: str) -> dict[str, Any]:
    from hmmlearn.hmm import GaussianHMM

    K, iterations = len(given["initial"]), int(given["iterations"])
    model = GaussianHMM(
        K, "diag", n_iter=iterations, tol=-np.inf, init_params="", implementation=implementation,
        startprob_prior=given["first"], transmat_prior=given["rows"], means_prior=given["location"],
        means_weight=given["mean_precision"], covars_prior=given["squares"], covars_weight=given["degrees"] + 4,
        min_covar=0.0,
    )  # fmt: skip
    model.startprob_, model.transmat_ = given["initial"], given["transition"]
    model.means_, model.covars_ = given["mean"], given["variance"]
    started, cpu = time.perf_counter(), time.process_time()
    model.fit(given["x"], given["lengths"])
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    found = np.array(model.monitor_.history)
    called = f"hmmlearn {version('hmmlearn')}"
    return {"seconds": seconds / len(found), "cpu": cpu / len(found), "log_likelihood": found, "version": called}


def dynamax(given: dict[str, Any]) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    from dynamax.hidden_markov_model import DiagonalGaussianHMM

    K, D, iterations = len(given["initial"]), given["x"].shape[1], int(given["iterations"])
    x = jnp.asarray(given["x"]).reshape(len(given["lengths"]), -1, D)  # of one length
    model = DiagonalGaussianHMM(
        K, D, initial_probs_concentration=given["first"], transition_matrix_concentration=jnp.asarray(given["rows"]),
    )  # fmt: skip
    start = {"initial_probs": given["initial"], "transition_matrix": given["transition"]}
    start |= {"emission_means": given["mean"], "emission_scale_diags": np.sqrt(given["variance"])}
    params, props = model.initialize(
        jax.random.PRNGKey(0), **{name: jnp.asarray(value) for name, value in start.items()}
    )
    at_start = float(sum(jax.vmap(lambda each: model.marginal_log_prob(params, each))(x)))
    seconds = []
    for _ in range(3):  # the first compiles
        started = time.perf_counter()
        _, logs = model.fit_em(params, props, x, num_iters=iterations, verbose=False)
        jax.block_until_ready(logs)
        seconds.append(time.perf_counter() - started)
    called = f"dynamax {version('dynamax')} on JAX {version('jax')}"
    return {"seconds": min(seconds[1:]) / iterations, "log_likelihood": np.asarray(logs), "at_start": at_start,
            "version": called}  # fmt: skip


if __name__ == "__main__":
    what, source, target = sys.argv[1:]
    with np.load(source) as file:
        arrays = dict(file)
    arguments = {"hmmlearn": (hmmlearn, "log"), "hmmlearn_scaling": (hmmlearn, "scaling"), "dynamax": (dynamax,)}[what]
    np.savez(target, **arguments[0](arrays, *arguments[1:]))
