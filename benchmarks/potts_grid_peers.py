"""The peers of potts_grid, for an environment of their own, without pyrozoo: PGMax (on JAX) and pgmpy.

``python potts_grid_peers.py pgmax DATA.npz OUT.npz`` sends ``sweeps`` rounds of messages over the field of ``unary``
[H, W, K] and ``coupling`` [K, K], undamped, and writes the seconds of the first call, of later ones, and the beliefs.
``python potts_grid_peers.py pgmpy DATA.npz OUT.npz`` calibrates a junction tree of the same field and writes the
seconds, the most memory it had, and the marginal probabilities of two pixels.
"""

from __future__ import annotations

import resource
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np

ROUNDS = 7


def pgmax(unary: np.ndarray, coupling: np.ndarray, sweeps: int) -> dict[str, Any]:
    import jax
    from pgmax import fgraph, fgroup, infer, vgroup

    height, width, labels = unary.shape
    pixels = vgroup.NDVarArray(num_states=labels, shape=(height, width))
    graph = fgraph.FactorGraph(variable_groups=pixels)
    edges = [[pixels[i, j], pixels[i, j + 1]] for i in range(height) for j in range(width - 1)]
    edges += [[pixels[i, j], pixels[i + 1, j]] for i in range(height - 1) for j in range(width)]
    graph.add_factors(fgroup.PairwiseFactorGroup(variables_for_factors=edges, log_potential_matrix=coupling))
    inferer = infer.build_inferer(graph.bp_state, backend="bp")
    start = inferer.init(evidence_updates={pixels: unary})

    @jax.jit
    def run(arrays: Any) -> Any:
        return inferer.run(arrays, num_iters=sweeps, damping=0.0, temperature=1.0)

    seconds = []
    for _ in range(1 + ROUNDS):
        started = time.perf_counter()
        arrays = jax.block_until_ready(run(start))
        seconds.append(time.perf_counter() - started)
    marginals = infer.get_marginals(inferer.get_beliefs(arrays))[pixels]
    return {
        "first": seconds[0],
        "seconds": sorted(seconds[1:])[ROUNDS // 2],
        "marginals": np.asarray(marginals),
        "version": f"PGMax {version('pgmax')} on JAX {version('jax')}",
    }


def pgmpy(unary: np.ndarray, coupling: np.ndarray, sweeps: int) -> dict[str, Any]:
    from pgmpy.factors.discrete import DiscreteFactor
    from pgmpy.inference import BeliefPropagation
    from pgmpy.models import DiscreteMarkovNetwork

    height, width, labels = unary.shape
    network = DiscreteMarkovNetwork()
    names = [[f"{i},{j}" for j in range(width)] for i in range(height)]
    pairs = [(names[i][j], names[i][j + 1]) for i in range(height) for j in range(width - 1)]
    pairs += [(names[i][j], names[i + 1][j]) for i in range(height - 1) for j in range(width)]
    network.add_edges_from(pairs)
    network.add_factors(*(DiscreteFactor(pair, [labels, labels], np.exp(coupling)) for pair in pairs))
    for i in range(height):
        for j in range(width):
            network.add_factors(DiscreteFactor([names[i][j]], [labels], np.exp(unary[i, j])))
    started = time.perf_counter()
    inference = BeliefPropagation(network)
    inference.calibrate()
    seconds = time.perf_counter() - started
    marginals = np.full_like(unary, np.nan)
    for i, j in ((0, 0), (height // 2, width // 2)):  # each takes as long as all of ours
        found = inference.query([names[i][j]], show_progress=False)
        marginals[i, j] = found.values / found.values.sum()
    return {
        "seconds": seconds,
        "marginals": marginals,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": f"pgmpy {version('pgmpy')}",
    }


def main() -> None:
    peer, path, out = sys.argv[1:]
    with np.load(path) as arrays:
        given = arrays["unary"], arrays["coupling"], int(arrays["sweeps"])
    np.savez(out, **{"pgmax": pgmax, "pgmpy": pgmpy}[peer](*given))


if __name__ == "__main__":
    main()
