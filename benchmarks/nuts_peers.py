"""NumPyro's NUTS, for an environment of its own, without pyrozoo: ``python nuts_peers.py TASK DATA.npz OUT.npz``.

The tasks are the programs of ``benchmarks/nuts.py`` in NumPyro. Four chains of 1000 + 1000 iterations, or as many as a
fourth argument says, in float64, one device per chain (of its ways to run chains the fastest on two cores) or, where
the fifth argument is ``vectorized``, all on one; run twice: OUT holds draws by site, the seconds of the first run,
which compiles, and of the second, which does not. Imports are not timed.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpyro

CHAINS = 4
numpyro.set_host_device_count(CHAINS)
numpyro.enable_x64()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402


def zip_mixture(x, components=3):
    rows, columns = x.shape
    weights = numpyro.sample("weights", dist.Dirichlet(2.0 * jnp.ones(components)))
    column = numpyro.plate("column", columns, dim=-1)
    with numpyro.plate("component", components, dim=-2), column:
        on_prob = numpyro.sample("on_prob", dist.Beta(2.0, 2.0))
        rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    with numpyro.plate("row", rows, dim=-2):
        z = numpyro.sample("z", dist.Categorical(weights), infer={"enumerate": "parallel"})
        with column:
            at = jnp.arange(columns)
            counts = dist.ZeroInflatedPoisson(1 - on_prob[z, at], rate=rate[z, at])
            numpyro.sample("counts", counts, obs=x)


def eight_schools(y, sigma):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(y)):
        t = numpyro.sample("t", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu + tau * t, sigma), obs=y)


def hierarchy(x, group, y, groups=50):
    mean = numpyro.sample("mean", dist.Normal(0.0, 5.0).expand([2]).to_event(1))
    spread = numpyro.sample("spread", dist.HalfNormal(2.0).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(2.0))
    with numpyro.plate("group", groups):
        away = numpyro.sample("away", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    line = mean + spread * away
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(line[group, 0] + line[group, 1] * x, noise), obs=y)


def main() -> None:
    task, data, out, iterations, method = (*sys.argv[1:], "1000", "parallel")[:5]
    arrays = {name: jnp.asarray(value) for name, value in np.load(data).items()}
    mcmc = MCMC(
        NUTS(globals()[task]), num_warmup=int(iterations), num_samples=int(iterations), num_chains=CHAINS,
        chain_method=method, progress_bar=False,
    )  # fmt: skip
    seconds = []
    for seed in (0, 1):
        started = time.perf_counter()
        mcmc.run(jax.random.PRNGKey(seed), **arrays)
        draws = {name: np.asarray(value) for name, value in mcmc.get_samples(group_by_chain=True).items()}
        seconds.append(time.perf_counter() - started)
    np.savez(Path(out), seconds=np.array(seconds), version=np.array(version("numpyro")), **draws)


if __name__ == "__main__":
    main()
