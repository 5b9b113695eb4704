"""NUTS: effective samples per second against Pyro's own and NumPyro's, from the same programs.

NumPyro runs in an environment of its own (numpyro, funsor), whose Python ``PYROZOO_NUMPYRO`` names. Every run has a
process of its own; ours begin with an empty cache of compiled code, so that compiling is part of the first run and not
of the second, as with NumPyro. Effective samples are those of the worst of the quantities that no relabelling changes.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from benchmarks.harness import Row
from pyrozoo import nuts
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.models.zip_mixture.posterior import Posterior

CHAINS, ITERATIONS = 4, 1000
PYRO_WARMUP, PYRO_DRAWS = 250, 500  # one chain: four of full length would take an hour, at the same rate
GROUPS, ROWS = 50, 1000

Arrays = dict[str, np.ndarray]


def zoo() -> ZipMixture:
    return ZipMixture(3, 2.0, 2.0, 2.0, 2.0, 1.0)


def zip_mixture(x: Tensor) -> None:
    zoo()(Table.of(x.cpu()).to(x.device, x.dtype))


def zip_mixture_by_hand(sites: dict[str, Tensor], x: Tensor) -> Tensor:
    """The zoo's density with the assignments summed out in matrix form."""
    draws = {site: value[None, None] for site, value in sites.items()}
    one, two = x.new_tensor(1.0), x.new_tensor(2.0)
    prior = dist.Dirichlet(two.expand(3)).log_prob(sites["weights"])
    prior = prior + dist.Beta(two, two).log_prob(sites["on_prob"]).sum()
    prior = prior + dist.Gamma(two, one).log_prob(sites["rate"]).sum()
    return prior + _posterior(x).pointwise(draws).sum()


_LAST: list[tuple[Tensor, Posterior]] = []


def _posterior(x: Tensor) -> Posterior:
    """Return the posterior given counts, the same while these are the same."""
    if not _LAST or _LAST[0][0] is not x:
        _LAST[:] = [(x, Posterior(zoo(), Table.of(x.cpu()).to(x.device, x.dtype)))]
    return _LAST[0][1]


def eight_schools(y: Tensor, sigma: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(y.new_tensor(0.0), 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(y.new_tensor(5.0)))
    with pyro.plate("school", len(y)):
        t = pyro.sample("t", dist.Normal(y.new_tensor(0.0), 1.0))
        pyro.sample("y", dist.Normal(mu + tau * t, sigma), obs=y)


def hierarchy(x: Tensor, group: Tensor, y: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(x.new_zeros(2), 5.0).to_event(1))
    spread = pyro.sample("spread", dist.HalfNormal(x.new_full((2,), 2.0)).to_event(1))
    noise = pyro.sample("noise", dist.HalfNormal(x.new_tensor(2.0)))
    with pyro.plate("group", GROUPS):
        away = pyro.sample("away", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    line = mean + spread * away
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(line[group, 0] + line[group, 1] * x, noise), obs=y)


def data_of(task: str) -> Arrays:
    if task == "zip_mixture":
        return {"x": simulate_data(zoo(), rows=300, columns=10, seed=0, missing=0.0).values.numpy()}
    if task == "eight_schools":
        return {"y": np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), "sigma": np.array([15.0, 10, 16, 11, 9, 11, 10, 18])}
    random = np.random.default_rng(0)
    group, x = np.arange(ROWS) % GROUPS, random.standard_normal(ROWS)
    line = np.array([1.0, -0.5]) + np.array([1.0, 0.4]) * random.standard_normal((GROUPS, 2))
    return {"x": x, "group": group, "y": line[group, 0] + line[group, 1] * x + 0.7 * random.standard_normal(ROWS)}


PROGRAMS: dict[str, Callable[..., None]] = {
    "zip_mixture": zip_mixture,
    "eight_schools": eight_schools,
    "hierarchy": hierarchy,
}


def effective(task: str, draws: Arrays, data: Arrays) -> float:
    """Return the effective samples of the worst quantity that says something of the posterior."""
    if task == "zip_mixture":
        sites = {name: torch.from_numpy(np.asarray(draws[name])) for name in ("weights", "on_prob", "rate")}
        posterior = Posterior(zoo(), Table.of(torch.from_numpy(data["x"])))
        draws = {name: value.numpy() for name, value in posterior.invariants(sites).items()}
    return min(float(az.ess(az.convert_to_dataset(value))["x"].min()) for value in draws.values())


def _ours(task: str, by_hand: bool, data: Arrays, cache: str, pipe: Any) -> None:
    os.environ["XDG_CACHE_HOME"] = cache
    args = [torch.from_numpy(value) for value in data.values()]
    nuts(PROGRAMS["eight_schools"], [torch.zeros(2), torch.ones(2)], draws=1, warmup=1, chains=1)  # imports
    found = []
    for seed in (0, 1):
        started = time.perf_counter()
        result = nuts(
            PROGRAMS[task], args, draws=ITERATIONS, warmup=ITERATIONS, chains=CHAINS, seed=seed, backend="nutpie",
            log_density=zip_mixture_by_hand if by_hand else None, progress=False,
        )  # fmt: skip
        found.append(time.perf_counter() - started)
    pipe.send((found, {str(name): value.values for name, value in result.posterior.items()}))


def _pyros(task: str, data: Arrays, pipe: Any) -> None:
    args = [torch.from_numpy(value) for value in data.values()]
    pyro.set_rng_seed(0)
    pyro.enable_validation(False)
    mcmc = MCMC(NUTS(PROGRAMS[task]), num_samples=PYRO_DRAWS, warmup_steps=PYRO_WARMUP, disable_progbar=True)
    started = time.perf_counter()
    mcmc.run(*args)
    seconds = time.perf_counter() - started
    pipe.send(
        ([seconds], {name: value.detach().numpy() for name, value in mcmc.get_samples(group_by_chain=True).items()})
    )


def _alone(function: Callable[..., None], *arguments: Any) -> tuple[list[float], Arrays]:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(False)
    process = context.Process(target=function, args=(*arguments, send))
    process.start()
    send.close()
    result = receive.recv()
    process.join()
    return result


def _numpyros(task: str, data: Arrays) -> tuple[list[float], Arrays, str] | None:
    python = os.environ.get("PYROZOO_NUMPYRO")
    if not python:
        return None
    script = Path(__file__).with_name("nuts_peers.py")
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "data.npz"), Path(folder, "found.npz")
        whole = {n: v.astype(np.int64) if task == "zip_mixture" else v for n, v in data.items()}
        np.savez(given, **whole)
        subprocess.run([python, str(script), task, str(given), str(found)], check=True, stdout=sys.stderr)
        arrays = dict(np.load(found))
    return arrays.pop("seconds").tolist(), {n: a for n, a in arrays.items() if n != "version"}, str(arrays["version"])


def rows() -> Iterator[Row]:
    for task in PROGRAMS:
        data = data_of(task)
        runs = {}
        for by_hand in (False, True) if task == "zip_mixture" else (False,):
            with tempfile.TemporaryDirectory() as cache:
                (first, second), draws = _alone(_ours, task, by_hand, data, cache)
            name = f"nuts, {task}{', log density by hand' if by_hand else ''}: seconds per 1000 effective samples"
            runs[name] = first, second, effective(task, draws, data)
        if numpyros := _numpyros(task, data):
            (with_compile, without), draws, version = numpyros
            theirs = effective(task, draws, data)
            for name, (first, second, ours) in runs.items():
                for what, mine, other in (("with", first, with_compile), ("without", second, without)):
                    yield Row(
                        f"{name}, {what} compiling", 1000 * mine / ours, f"NumPyro {version}", 1000 * other / theirs,
                        f"{CHAINS} chains of 1000 + 1000; ours {mine:.2f} s, {ours:.0f} effective; "
                        f"NumPyro {other:.2f} s, {theirs:.0f} effective",
                    )  # fmt: skip
        (pyros,), draws = _alone(_pyros, task, data)
        theirs = effective(task, draws, data)
        for name, (first, _, ours) in runs.items():
            yield Row(
                name, 1000 * first / ours, "Pyro's NUTS", 1000 * pyros / theirs,
                f"ours {first:.2f} s with compiling, {ours:.0f} effective; "
                f"Pyro, 1 chain of {PYRO_WARMUP} + {PYRO_DRAWS}, {pyros:.1f} s, {theirs:.0f} effective",
            )  # fmt: skip
