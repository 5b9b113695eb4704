"""The BUGS examples: Gibbs sampling derived from the program against JAGS, Pyro's NUTS and ours.

``python -m benchmarks bugs`` needs JAGS (Debian's package ``jags``); ``python -m benchmarks.bugs rats pumps`` does some
examples and prints the table of the docs. All are measured in CPU seconds, whatever else the machine does; ours and
JAGS's include finding the conditionals and compiling. Effective samples are those of the worst published quantity.
With PYROZOO_BUGS set to a folder, finished runs are kept there and not done again: all of them take an hour or two.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pyro
import torch
from pyro.infer import MCMC, NUTS

from benchmarks import bugs_peers
from benchmarks.harness import Row
from benchmarks.nuts import _alone
from pyrozoo import nuts
from pyrozoo.contracts.model import Program
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.data.arguments import Arguments
from pyrozoo.inference.derived import gibbs
from pyrozoo.program.conditionals.cells import Joint, near
from tests.bugs import programs
from tests.bugs.example import Example, apart, examples

CHAINS = 32
SWEEPS: dict[str, tuple[int, int]] = {"lsat": (200, 200), "inhalers": (300, 300), "epil": (500, 500)}
"""Example -> sweeps to warm up, and kept, where they are not ``USUAL``: large ones."""
USUAL = (1000, 1000)

JAGS: dict[str, tuple[int, int]] = {"lsat": (200, 500), "inhalers": (500, 2000), "epil": (1000, 3000)}
USUAL_JAGS = (2000, 10_000)

PYRO = ("rats", "pumps", "equiv", "stacks_normal", "surgical_alike", "seeds")
"""Examples that Pyro's own NUTS samples here: it takes minutes for each."""
PYRO_WARMUP, PYRO_DRAWS = 200, 300

UNCOMPILED = ("inhalers",)
"""Examples that our NUTS has no C for, as they sort: Pyro's kernel would take hours."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """One sampler on one example.

    Attributes:
        seconds: CPU seconds.
        draws: Quantity -> draws, [chain, draw].
    """

    seconds: float
    draws: Arrays

    def of(self, measure: Any) -> dict[str, float]:
        """Return a measure of every quantity."""
        return {name: float(measure(np.asarray(value))) for name, value in self.draws.items()}

    @property
    def effective(self) -> float:
        """Effective samples of the worst quantity."""
        return min(self.of(az.ess).values())

    @property
    def rhat(self) -> float:
        """R-hat of the worst quantity."""
        return max(self.of(az.rhat).values())

    @property
    def rate(self) -> float:
        """Effective samples a CPU second."""
        return self.effective / self.seconds


def quantities(example: Example, sites: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return the quantities of draws, site -> [chain, draw, *shape]."""
    return {name: value.numpy() for name, value in example.quantities(sites).items()}


def spent() -> float:
    """Return the CPU seconds of this process and of compilers that it has called."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def ours(example: Example, warmup: int, sweeps: int) -> Run:
    """Sample by derived Gibbs."""
    started = spent()
    solver = gibbs.Solver(Posterior.of(Program(example.run), Arguments(args=())))
    state, kept = solver.init(CHAINS), []
    for sweep in range(warmup + sweeps):
        state, _ = solver.step(state)
        state = solver.settled(state) if sweep == warmup - 1 else state
        if sweep >= warmup:
            kept.append(example.quantities(solver.layout.values(state)))
    seconds = spent() - started
    return Run(seconds, {name: torch.stack([each[name] for each in kept], 1).numpy() for name in kept[0]})


def _start() -> None:
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(0)
    pyro.enable_validation(False)


def _ours(name: str, cache: str, pipe: Any) -> None:
    os.environ["XDG_CACHE_HOME"] = cache
    _start()
    run = ours(examples(programs)[name], *SWEEPS.get(name, USUAL))
    pipe.send(([run.seconds], dict(run.draws)))


def _compiled(name: str, cache: str, pipe: Any) -> None:
    os.environ["XDG_CACHE_HOME"] = cache
    _start()
    example = examples(programs)[name]
    started = spent()
    found = nuts(example.program, list(example.data.values()), draws=1000, warmup=1000, seed=0, progress=False)
    seconds = spent() - started
    sites = {str(site): torch.from_numpy(value.values) for site, value in found.posterior.items()}
    pipe.send(([seconds], quantities(example, sites)))


def _pyros(name: str, pipe: Any) -> None:
    _start()
    example = examples(programs)[name]
    mcmc = MCMC(NUTS(example.program), num_samples=PYRO_DRAWS, warmup_steps=PYRO_WARMUP, disable_progbar=True)
    started = spent()
    mcmc.run(*example.data.values())
    seconds = spent() - started
    pipe.send(([seconds], quantities(example, mcmc.get_samples(group_by_chain=True))))


def alone(function: Any, *arguments: Any) -> Run:
    """Run a sampler in a process of its own."""
    (seconds,), draws = _alone(function, *arguments)
    return Run(seconds, draws)


def kept(name: str, sampler: str, run: Callable[[], Run]) -> Run:
    """Return a run, as it was kept if it was."""
    if not (folder := os.environ.get("PYROZOO_BUGS")):
        return run()
    path = Path(folder, f"{name}-{sampler}.npz")
    if not path.is_file():
        found = run()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, seconds=np.array(found.seconds), **{f"of {n}": value for n, value in found.draws.items()})
    with np.load(path) as arrays:
        draws = {each.removeprefix("of "): arrays[each] for each in arrays if each.startswith("of ")}
        return Run(float(arrays["seconds"]), draws)


def by_gibbs(name: str) -> Run:
    """Sample by derived Gibbs, compiled anew."""
    with tempfile.TemporaryDirectory() as cache:
        return alone(_ours, name, cache)


def by_jags(name: str) -> Run:
    """Sample by JAGS."""
    example = examples(programs)[name]
    _start()
    asked = list(example.quantities(Joint(example.run, None).draw(one=near)))
    return Run(*bugs_peers.jags(example, asked, *JAGS.get(name, USUAL_JAGS)))


def by_nuts(name: str) -> Run:
    """Sample by our NUTS, compiled anew."""
    with tempfile.TemporaryDirectory() as cache:
        return alone(_compiled, name, cache)


def by_pyro(name: str) -> Run:
    """Sample by Pyro's NUTS."""
    return alone(_pyros, name)


SAMPLERS = {"gibbs": by_gibbs, "JAGS": by_jags, "nuts": by_nuts, "Pyro": by_pyro}


def against(run: Run, other: Run) -> float:
    """Return by how many Monte Carlo errors two runs differ, at most."""
    means, spreads = other.of(np.mean), other.of(np.std)
    of_mean, of_sd = other.of(az.mcse), other.of(lambda x: az.mcse(x, method="sd"))
    return apart(run.draws, {n: (means[n], of_mean[n]) for n in means}, {n: (spreads[n], of_sd[n]) for n in spreads})


def runs(name: str, samplers: Iterable[str] = SAMPLERS) -> tuple[Example, dict[str, Run]]:
    """Sample one example by everybody."""
    without = {"Pyro": name not in PYRO, "nuts": name in UNCOMPILED}
    asked = [sampler for sampler in samplers if not without.get(sampler)]
    return examples(programs)[name], {each: kept(name, each, partial(SAMPLERS[each], name)) for each in asked}


def names() -> list[str]:
    """Return the examples that have a model for JAGS."""
    return [name for name, example in examples(programs).items() if example.model]


def rows() -> Iterator[Row]:
    """Measure all examples."""
    if not (version := bugs_peers.version()):
        print("JAGS is not installed: apt-get install jags", file=sys.stderr)
        return
    peers = {"JAGS": f"JAGS {version}", "nuts": "our NUTS, compiled", "Pyro": "Pyro's NUTS"}
    for name in names():
        _, found = runs(name)
        mine = found["gibbs"]
        for key, who in peers.items():
            if key in found:
                other = found[key]
                yield Row(
                    f"derived Gibbs, {name}: CPU seconds per 1000 effective samples", 1000 / mine.rate, who,
                    1000 / other.rate, f"{said(mine)}; {who} {said(other)}; means and sds differ by at most "
                    f"{against(mine, other):.1f} Monte Carlo errors",
                )  # fmt: skip


def said(run: Run) -> str:
    """Return a run in words."""
    chains = len(next(iter(run.draws.values())))
    return f"{chains} chains, {run.seconds:.1f} s, {run.effective:.0f} effective, R-hat {run.rhat:.3f}"


def line(name: str, example: Example, found: Mapping[str, Run]) -> str:
    """Return a line of the docs' table."""
    mine, published = found["gibbs"], example.from_published(found["gibbs"].draws)
    kept = sum(family is not None for family in example.families.values())
    cells = [
        name, f"{kept} of {len(example.families)}", f"{mine.rhat:.3f}", "" if published is None else f"{published:.1f}",
        f"{against(mine, found['JAGS']):.1f}",
        *(f"{found[key].rate:,.0f}" if key in found else "" for key in ("gibbs", "JAGS", "nuts", "Pyro")),
        f"{found['nuts'].rhat:.3f}" if "nuts" in found else "",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table of the docs."""
    print("| program | sites with a family | R-hat | published | JAGS | gibbs | JAGS | nuts | Pyro | R-hat of nuts |")
    for name in sys.argv[1:] or names():
        try:
            example, found = runs(name)
            print(line(name, example, found), flush=True)
            for key, run in found.items():
                print(f"    {key}: {said(run)}", file=sys.stderr, flush=True)
        except Exception as error:  # the rest goes on
            print(f"{name}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
