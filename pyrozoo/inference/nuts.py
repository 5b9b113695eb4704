"""The No-U-Turn sampler: Pyro's kernel, driven by the zoo's own loop."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyro
import torch
from pyro.infer import NUTS
from torch import Tensor

from pyrozoo.inference.loop import LoopSettings, Process, drive
from pyrozoo.program import Unconstrained, refuse_large
from pyrozoo.types import Draws, Fit, Model, SettingError, Status


class _Chains(Process):
    """Chains one after another. Pyro's kernel has no state to save: a checkpoint keeps every finished chain."""

    def __init__(
        self, model: Model, data: Any, *, chains: int, warmup: int, draws: int, target_accept_prob: float,
        max_tree_depth: int, max_unknowns: int, seed: int,
    ):  # fmt: skip
        self.model, self.data, self.seed = model, data, seed
        self.chains, self.warmup, self.draws = chains, warmup, draws
        self.options = {"target_accept_prob": target_accept_prob, "max_tree_depth": max_tree_depth}
        self.max_unknowns = max_unknowns
        self.space: Unconstrained | None = None
        self.total = chains * (warmup + draws)

    def start(self) -> None:
        self.finished: list[dict[str, Tensor]] = []
        self._begin()

    def _begin(self) -> None:
        """Start the next chain, from its own seed, so that it is the same whether or not others ran before it."""
        torch.manual_seed(self.seed + 1_000_003 * (len(self.finished) + 1))
        start = {site: value[0] for site, value in self.model.initial(self.data, 1).items()}
        if self.space is None:
            refuse_large("nuts", {site: value[None] for site, value in start.items()}, self.max_unknowns)
            self.space = Unconstrained(self.model, self.data, start)
        self.kernel = NUTS(potential_fn=self.space.potential, **self.options)
        self.position = self.space.unconstrain(start)
        self.kernel.initial_params = self.position
        self.kernel.setup(self.warmup)
        self.step = 0
        self.kept: list[dict[str, Tensor]] = []

    def advance(self) -> Tensor:
        divergences = len(self.kernel._divergences)
        self.position = self.kernel.sample(self.position)
        potential = torch.as_tensor(self.kernel._potential_energy_last)
        self.step += 1
        assert self.space is not None
        row = torch.full((self.chains,), torch.nan, dtype=torch.float64)
        row[len(self.finished)] = -float(potential)
        if self.step > self.warmup:
            with torch.no_grad():
                values = self.space.constrain(self.position)
                values["lp"] = -potential.double()
                values["diverging"] = torch.tensor(len(self.kernel._divergences) > divergences)
                values["step_size"] = torch.as_tensor(float(self.kernel.step_size))
            self.kept.append({name: value.detach().clone() for name, value in values.items()})
        if self.step == self.warmup + self.draws:
            self.finished.append(_stacked(self.kept))
            if len(self.finished) < self.chains:
                self._begin()
        return row

    def status(self) -> Status | None:
        return "completed" if len(self.finished) == self.chains else None

    def result(self) -> dict[str, Tensor]:
        """Return [chain, draw, ...]; a run cut short gives its finished chains, else what the first one has."""
        if self.finished:
            return {name: torch.stack([chain[name] for chain in self.finished]) for name in self.finished[0]}
        assert self.space is not None
        kept = self.kept or [self.space.constrain({n: v.detach() for n, v in self.position.items()})]
        return {name: value.unsqueeze(0) for name, value in _stacked(kept).items()}

    def resumable(self) -> bool:
        return self.step == 0  # between chains

    def state(self) -> dict[str, Any]:
        return {"finished": self.finished}

    def restore(self, state: dict[str, Any]) -> None:
        self.finished = state["finished"]
        self._begin()


def _stacked(draws: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}


def nuts(
    model: Model, data: Any, *, method: str, chains: int, warmup: int, draws: int, target_accept_prob: float,
    max_tree_depth: int, max_unknowns: int, loop: LoopSettings,
) -> Fit:  # fmt: skip
    """Run NUTS (Hoffman and Gelman 2014, JMLR 15) on a program with its discrete sites summed out.

    Args:
        model: The model.
        data: The data.
        method: The method's name.
        chains: Chains; each starts at a point of ``model.initial`` and has its own seed.
        warmup: Adaptation steps (step size and diagonal mass matrix), thrown away.
        draws: Draws kept per chain.
        target_accept_prob: Target of the step size adaptation.
        max_tree_depth: At most 2^depth leapfrog steps a draw.
        max_unknowns: Limit on the size of the problem.
        loop: Seed, progress, checkpoints (after every finished chain).

    Returns:
        Draws with ``lp``, ``diverging`` and ``step_size`` per draw.

    Raises:
        NotApplicable: More unknowns than the limit.
    """
    for name, value, least in (
        ("chains", chains, 1),
        ("warmup", warmup, 1),
        ("draws", draws, 1),
        ("max_tree_depth", max_tree_depth, 1),
    ):
        if value < least:
            raise SettingError(f"inference.{name} is {value}; it must be at least {least}")
    if not 0 < target_accept_prob < 1:
        raise SettingError(f"inference.target_accept_prob is {target_accept_prob}; it must be in (0, 1)")
    process = _Chains(
        model, data, chains=chains, warmup=warmup, draws=draws, target_accept_prob=target_accept_prob,
        max_tree_depth=max_tree_depth, max_unknowns=max_unknowns, seed=loop.seed,
    )  # fmt: skip
    with pyro.validation_enabled(False):  # doubles the speed; the program was run with it on
        run = drive(process, loop, f"{method} ({chains} chains)")
    result = process.result()
    kept: Draws = {site: result[site] for site in model.sites}
    stats: Draws = {name: result[name] for name in ("lp", "diverging", "step_size") if name in result}
    by_chain = run.trace.groupby("chain")["objective"]
    return Fit(
        model=model,
        method=method,
        kind="samples",
        data=data,
        draws=kept,
        trace=run.trace,
        runs=pd.DataFrame(
            {
                "chain": range(chains),
                "objective": [by_chain.last().get(chain, float("nan")) for chain in range(chains)],
                "iterations": [int(by_chain.size().get(chain, 0)) for chain in range(chains)],
                "status": ["completed" if chain < len(process.finished) else "interrupted" for chain in range(chains)],
            }
        ),
        status=run.status,
        objective_name="mean_log_density_unconstrained",
        objective=float(stats["lp"].mean()) if "lp" in stats else float(run.trace["objective"].iloc[-1]),
        iterations=run.iterations,
        seconds=run.seconds,
        seed=loop.seed,
        sample_stats=stats,
    )
