"""Chains of the No-U-Turn sampler over a flat density: Pyro's kernel in Python, or nutpie's over compiled C."""

from __future__ import annotations

import abc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pyro.infer import NUTS
from torch import Tensor

from pyrozoo.compiler.captured import CapturedDensity
from pyrozoo.compiler.density import CompiledDensity, Memory
from pyrozoo.core.errors import NumericalError

STATISTICS = {
    "lp": "logp",
    "energy": "energy",
    "diverging": "diverging",
    "step_size": "step_size",
    "tree_depth": "depth",
    "n_steps": "n_steps",
    "acceptance_rate": "mean_tree_accept",
}
"""ArviZ's name of a statistic -> nutpie's."""

DTYPES = {"diverging": torch.bool, "n_steps": torch.long}
"""Of statistics that are not real numbers."""

BESIDE = 1e-2


@dataclass(frozen=True)
class Plan:
    """What every chain does.

    Attributes:
        warmup: Adaptation steps (step size and diagonal mass matrix).
        draws: Draws after them.
        target_accept_prob: Target of the step size adaptation.
        max_tree_depth: At most 2^depth leapfrog steps a draw.
        seed: Chain i has a seed of its own, made of this and i.
    """

    warmup: int
    draws: int
    target_accept_prob: float
    max_tree_depth: int
    seed: int

    def chain_seed(self, chain: int) -> int:
        """Return the seed of a chain."""
        return int(np.random.SeedSequence(self.seed, spawn_key=(chain,)).generate_state(1)[0])


@dataclass
class Chain:
    """What a chain has done so far, warm-up first.

    Attributes:
        vectors: Positions after every iteration, [iteration, size].
        statistics: ArviZ name -> [iteration].
        seconds: Of every iteration, since the clock's own beginning.
    """

    vectors: Tensor
    statistics: dict[str, Tensor]
    seconds: Tensor

    def after(self, warmup: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return vectors and statistics after so many iterations."""
        return self.vectors[warmup:], {name: value[warmup:] for name, value in self.statistics.items()}

    def state(self) -> dict[str, Any]:
        """Return plain tensors."""
        return {"vectors": self.vectors, "statistics": self.statistics, "seconds": self.seconds}


class Sampler(abc.ABC):
    """Runs chains from given starts; those that have finished are known by number.

    Attributes:
        finished: Number -> what a finished chain has done.
    """

    finished: dict[int, Chain]

    @abc.abstractmethod
    def advance(self) -> None:
        """Do a little."""

    @abc.abstractmethod
    def iterations(self) -> int:
        """Return how many iterations all chains have made."""

    @abc.abstractmethod
    def unfinished(self) -> dict[int, Chain]:
        """Stop, and return what chains that are not finished have done."""


class PyroSampler(Sampler):
    """Pyro's kernel, one chain after another."""

    def __init__(
        self, density: Callable[[Tensor], Tensor], starts: Tensor, plan: Plan, finished: dict[int, Chain] | None = None
    ):
        self.density, self.starts, self.plan = density, starts, plan
        self.finished = finished or {}
        self._begin()

    def _begin(self) -> None:
        left = [chain for chain in range(len(self.starts)) if chain not in self.finished]
        self.vectors: list[Tensor] = []
        self.statistics: dict[str, list[float]] = {name: [] for name in ("lp", "diverging", "step_size", "n_steps")}
        self.gradients = 0
        self.seconds: list[float] = []
        if not left:
            return
        self.chain = left[0]
        torch.manual_seed(self.plan.chain_seed(self.chain))
        self.kernel = NUTS(
            potential_fn=self._potential,
            target_accept_prob=self.plan.target_accept_prob, max_tree_depth=self.plan.max_tree_depth,
        )  # fmt: skip
        self.position = {"vector": self.starts[self.chain].detach().clone()}
        self.kernel.initial_params = self.position
        self.kernel.setup(self.plan.warmup)

    def _potential(self, parts: dict[str, Tensor]) -> Tensor:
        """Return what the kernel asks for, with its gradient, at every leapfrog step."""
        self.gradients += 1
        return -self.density(parts["vector"])

    def advance(self) -> None:
        """Make one iteration of one chain."""
        divergences, before = len(self.kernel._divergences), self.gradients
        self.position = self.kernel.sample(self.position)
        self.vectors.append(self.position["vector"].detach().clone())
        self.statistics["lp"].append(-float(torch.as_tensor(self.kernel._potential_energy_last)))
        self.statistics["diverging"].append(len(self.kernel._divergences) > divergences)
        self.statistics["step_size"].append(float(self.kernel.step_size))
        self.statistics["n_steps"].append(self.gradients - before)
        self.seconds.append(time.monotonic())
        if len(self.vectors) == self.plan.warmup + self.plan.draws:
            self.finished[self.chain] = self._chain()
            self._begin()

    def _chain(self) -> Chain:
        statistics = {
            name: torch.tensor(values, dtype=DTYPES.get(name, torch.float64))
            for name, values in self.statistics.items()
        }
        return Chain(torch.stack(self.vectors), statistics, torch.tensor(self.seconds, dtype=torch.float64))

    def iterations(self) -> int:
        """Return how many iterations all chains have made."""
        return sum(len(chain.vectors) for chain in self.finished.values()) + len(self.vectors)

    def unfinished(self) -> dict[int, Chain]:
        """Return what the chain at work has done."""
        return {self.chain: self._chain()} if self.vectors else {}


class CompiledSampler(Sampler):
    """nutpie's sampler (Rust) over a compiled density: as many chains at a time as there are cores.

    Without Python, unless the density is on a card, whom Python asks.
    """

    POLL = 0.02

    def __init__(
        self, density: CompiledDensity | CapturedDensity, starts: Tensor, plan: Plan,
        finished: dict[int, Chain] | None = None,
    ):  # fmt: skip
        self.density, self.plan, self.dtype = density, plan, starts.dtype
        self.starts = starts.detach().double().numpy()
        self.finished = finished or {}
        known = hasattr(os, "sched_getaffinity")  # not on every system
        self.cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
        self.waiting = [chain for chain in range(len(starts)) if chain not in self.finished]
        self.running: dict[int, tuple[Any, Memory]] = {}

    def _begin(self, chain: int) -> None:
        import nutpie
        from nutpie.compile_pymc import CompiledPyMCModel

        memory, size = Memory(self.density, self.plan.warmup + self.plan.draws), self.density.size
        # The model outlives nutpie's threads, and what it holds does: the memory that they write.
        model = CompiledPyMCModel(
            dims={}, compiled_logp_func=SimpleNamespace(address=self.density.address),
            compiled_expand_func=SimpleNamespace(address=self.density.draw_address),
            initial_point_func=self._start_of(chain), shared_data={"memory": memory}, user_data=memory.struct,
            n_expanded=size, shape_info=(["vector"], None, [(size,)]), logp_func=None, expand_func=None,
            _n_dim=size, _shapes={"vector": (size,)}, _coords={},
        )  # fmt: skip
        sampler = nutpie.sample(
            model, chains=1, cores=1, tune=self.plan.warmup, draws=self.plan.draws,
            seed=self.plan.chain_seed(chain), maxdepth=self.plan.max_tree_depth,
            target_accept=self.plan.target_accept_prob, progress_bar=False, blocking=False,
        )  # fmt: skip
        self.running[chain] = sampler, memory

    def _start_of(self, chain: int) -> Callable[[int], np.ndarray]:
        """Return what nutpie asks for a start, and asks again where it cannot use one: a gradient may not be 0."""
        tried: list[int] = []

        def start(seed: int) -> np.ndarray:
            tried.append(seed)
            if len(tried) == 1:
                return self.starts[chain]
            noise = np.random.default_rng(seed).standard_normal(self.density.size)
            return self.starts[chain] + BESIDE * noise

        return start

    def advance(self) -> None:
        """Start chains where cores are free, look for finished ones, and give them time."""
        while self.waiting and len(self.running) < self.cores:
            self._begin(self.waiting.pop(0))
        for chain, (sampler, memory) in list(self.running.items()):
            try:
                ended = sampler.is_finished
            except TimeoutError:  # nutpie's way of saying no
                continue
            except RuntimeError as error:
                raise NumericalError(f"nutpie stopped: {str(error).splitlines()[0]}") from None
            if ended:
                self.finished[chain] = self._chain(sampler.wait(), memory)
                del self.running[chain]
        if self.running:
            time.sleep(self.POLL)

    def _chain(self, result: Any, memory: Memory) -> Chain:
        """Return what nutpie has to say of a chain, warm-up first."""
        parts = [("warmup_posterior", "warmup_sample_stats"), ("posterior", "sample_stats")]
        parts = [(p, s) for p, s in parts if p in result and "vector" in result[p]]
        vectors = np.concatenate([result[posterior]["vector"].values[0] for posterior, _ in parts])
        statistics = {
            name: torch.from_numpy(np.concatenate([result[stats][theirs].values[0] for _, stats in parts]))
            for name, theirs in STATISTICS.items()
        }
        seconds = torch.from_numpy(memory.seconds[: len(vectors)].copy())
        return Chain(torch.from_numpy(vectors).to(self.dtype), statistics, seconds)

    def iterations(self) -> int:
        """Return how many iterations all chains have made."""
        done = sum(len(chain.vectors) for chain in self.finished.values())
        return done + sum(memory.drawn for _, memory in self.running.values())

    def unfinished(self) -> dict[int, Chain]:
        """Stop all chains and return what they have done."""
        stopped = {}
        for chain, (sampler, memory) in self.running.items():
            if memory.drawn:
                stopped[chain] = self._chain(sampler.abort(), memory)
            else:
                sampler.cancel()
        self.running = {}
        return stopped
