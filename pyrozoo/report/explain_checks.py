"""What must hold of a whole method: a step is the program's, the objective rises, and it ends where slopes are zero."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import blocks_of, step_of
from pyrozoo.core.errors import UserError
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.held import averages_of, block_is_derived, step_is_derived
from pyrozoo.inference.optimise import MONOTONE_TOLERANCE
from pyrozoo.inference.state import take
from pyrozoo.program.conditionals.held import AGREE
from pyrozoo.report.explanation import Check

NAMES = {"elbo": "ELBO"}

STEPS, MOST, MOST_DERIVED = 30, 500, 100
"""Steps whose objective is looked at, and at most to a fixed point: those of a derived method take longer."""

STILL, FLAT = 1e-13, 1e-4
"""Relative change of the objective at a fixed point; slopes there, over those at the start."""


def checks_of(posterior: Posterior, method: str, solver: Any, built: bool, seed: int) -> list[Check]:
    """Return what must hold of a method.

    Args:
        posterior: A model given few data.
        method: ``gibbs``, ``em`` or ``cavi``.
        solver: Of the method; None: there is none.
        built: Whether it is built by hand; else it follows from the program itself.
        seed: Of its states.
    """
    if solver is None:
        return []
    with seeded(seed), pyro.validation_enabled(False):
        if method == "gibbs":
            return _blocks(posterior, solver, seed) if built else []
        start = take(solver.init(2), torch.tensor([1]))
        path, end, rests = _path(solver, start, MOST if built else MOST_DERIVED)
        steps = _steps(solver, method, seed, end, rests) if built else []
        return [*steps, path, *_ended(posterior, solver, start, end, rests)]


def _blocks(posterior: Posterior, solver: Any, seed: int) -> list[Check]:
    """Return whether sites that are drawn together come from the program's density."""
    found = []
    holes = not bool(getattr(posterior.data, "observed", torch.ones(())).all())
    for block in blocks_of(posterior):
        if block.method != "gibbs" or (holes and block.complete is not None and block.complete(posterior.model)):
            continue
        difference = block_is_derived(solver, block, seed)
        sites = ", ".join(site for site in block.sites if site in posterior.sites)
        found.append(
            Check(
                f"The density that {sites} are drawn from together is the program's, up to a constant",
                _difference(difference), difference < AGREE,
            )
        )  # fmt: skip
    return found


def _steps(solver: Any, method: str, seed: int, end: Any, rests: bool) -> list[Check]:
    """Return whether a step from a random state goes where the program says, and one of CAVI from where it ends."""
    step = step_of(solver.model, method)
    try:
        averages = averages_of(solver, step)
        found = step_is_derived(solver, method, seed, averages)
        last = step_is_derived(solver, method, seed, averages, end) if method == "cavi" else {}
    except UserError as error:
        return [Check("A step of the hand-built solver is held to the program", f"not here: {error}")]
    said = {
        "em": "Where the hand-built M-step takes {}, the expected log joint has no slope",
        "cavi": "After a hand-built step log q of {} is the expected log joint, up to a constant",
    }[method]
    objective = found.pop("objective", None)
    checks = [Check(said.format(sites), _difference(each), each < AGREE) for sites, each in found.items()]
    if objective is not None:
        told = "The ELBO that the hand-built solver reports is that of its q under the program"
        checks.append(Check(told, _difference(objective), objective < AGREE))
    if last:
        said, most = (
            "Where CAVI ends, it is so under q itself: no change of a factor raises the ELBO",
            max(last.values()),
        )
        checks.append(_of_end(said, _difference(most), most < FLAT, rests))
    return checks


def _difference(value: float) -> str:
    return f"largest relative difference {value:.1e}"


def _of_end(said: str, found: str, holds: bool, rests: bool) -> Check:
    """Return a check of a state at rest; of one that is not yet it is only told."""
    return Check(said, found, holds) if rests else Check(said, f"not at rest yet: {found}")


def _path(solver: Any, start: Any, most: int) -> tuple[Check, Any, bool]:
    """Return whether the objective rises, the state in which it ends, and whether that is at rest."""
    state, rests = start, False
    objectives: list[float] = []
    while not rests and len(objectives) <= most:
        state, info = solver.step(state)
        objectives.append(float(info.objective[0]))
        rests = len(objectives) > STEPS and abs(objectives[-1] - objectives[-2]) <= STILL * abs(objectives[-1])
    first = torch.tensor(objectives[: STEPS + 1], dtype=torch.float64)
    falls = float((first.diff() / first[1:].abs()).min())
    name = NAMES.get(solver.objective_name, solver.objective_name.replace("_", " "))
    check = Check(
        f"The objective ({name}) falls in none of the first {STEPS} steps",
        f"from {objectives[0]:.4f} to {float(first[-1]):.4f}, and after {len(objectives) - 1} to {objectives[-1]:.4f}",
        falls > -MONOTONE_TOLERANCE[torch.float64],
    )  # fmt: skip
    return check, state, rests


def _ended(posterior: Posterior, solver: Any, start: Any, end: Any, rests: bool) -> list[Check]:
    """Return whether the program's log joint has no slope where a point has come to."""
    if solver.kind != "point":
        return []
    before, after = (_slope(posterior, solver.answer(each).draws()) for each in (start, end))
    said = "Where EM ends, the program's log joint has no slope, by automatic differentiation"
    found = f"the largest is {after:.1e}, and was {before:.1e} where it began"
    return [_of_end(said, found, after < FLAT * max(1.0, before), rests)]


def _slope(posterior: Posterior, values: dict[str, Tensor]) -> float:
    """Return the largest slope of the log joint along unconstrained values of the sites, of one chain."""
    point = {site: values[site][0].detach() for site in posterior.sites}
    space = posterior.density(point)
    leaf = space.flatten(space.unconstrain(point)).detach().requires_grad_(True)
    with torch.enable_grad():
        total = space(leaf) - space.log_jacobian(leaf)
        (slope,) = torch.autograd.grad(total, leaf)
    return float(slope.abs().max())
