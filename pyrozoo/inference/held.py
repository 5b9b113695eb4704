"""What a step of EM or of CAVI must be, whatever the model: the one that follows from the program."""

from __future__ import annotations

from typing import Any

import pyro
import torch

from pyrozoo.contracts.solver import Solver
from pyrozoo.contracts.updates import Block, Step, step_of
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.state import take
from pyrozoo.math import designs
from pyrozoo.program.conditionals.averages import Averages, Nodes
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.conditional import conditional_at
from pyrozoo.program.conditionals.structure import Structures

POINTS = 6
"""Values of the sites at which two log densities must differ by one constant."""


def step_is_derived(
    solver: Solver, method: str, seed: int = 0, averages: Averages | None = None, at: Any = None
) -> dict[str, float]:  # fmt: skip
    """Hold a step to the program.

    Args:
        solver: Of EM, whose state has the sites, or of CAVI.
        method: ``em`` or ``cavi``.
        seed: Of the state.
        averages: Of the program, where they are known.
        at: A state of one chain where the step does not move, which is then all that is looked at; None: a random one,
            and the step from there.

    Returns:
        Sites -> the largest difference, relative to the size of what is added up; and of CAVI ``objective`` -> that of
        the bound.
    """
    step = step_of(solver.model, method)
    averages = averages_of(solver, step) if averages is None else averages
    with seeded(seed), pyro.validation_enabled(False), torch.no_grad():
        before = take(solver.init(2), torch.tensor([1])) if at is None else at  # the first may be no random one
        after, info = (step.moved or type(solver).step)(solver, before)
        after = after if at is None else at
        if not averages.sites:
            return _mean_field(solver, step, averages, before, after)
        if solver.kind == "point":
            return _em(solver, step, averages, before, after)
        where = before if solver.objective_of == "argument" else after
        bound, told = _bound(solver, step, averages, where), float(info.objective)
        return {**_cavi(solver, step, averages, before, after), "objective": abs(told - bound) / abs(bound)}


def averages_of(solver: Solver, step: Step) -> Averages:
    """Return expectations under the program that a step is of."""
    posterior = solver.posterior
    with seeded(0), torch.no_grad():
        program = posterior.program if step.program is None else step.program(posterior)
        state = solver.init(1)
        more = () if step.local is None else step.local(solver, state)
        return Averages(program, posterior.data, (*solver.answer(state).draws(), *more))


def _em(solver: Solver, step: Step, averages: Averages, before: Any, after: Any) -> dict[str, float]:
    """Return slopes, where EM has come to, of the log joint expected where it was, over the size of their parts."""
    now, new = (solver.answer(state).draws() for state in (before, after))
    factors: list[Nodes] = [{site: now[site]} for site in averages.sites if site in now]
    (local, _), found = averages.locals(factors), {}
    local += [] if step.local is None else [{site: each} for site, each in step.local(solver, before).items()]
    _, weights = averages.weights([*factors, *local])
    for sites in step.order or (tuple(now),):
        now = {**now, **{site: new[site] for site in sites if site in new}}
        at = [{site: now[site]} for site in averages.sites if site in now]
        for site in (site for site in sites if site in now):
            slope, size = averages.slopes(site, [*at, *local], weights)
            found[site] = float((slope.abs() / size.clamp(min=1e-300)).nan_to_num(nan=torch.inf).amax())
    return found


def _cavi(solver: Solver, step: Step, averages: Averages, before: Any, after: Any) -> dict[str, float]:
    """Return by how much the new log q, less the expected log joint, is no constant, over the size of the parts."""
    say, q, found = step.nodes or independent, solver.answer(after).q, {}
    now, new = list(say(solver, before)), list(say(solver, after))
    local, _ = averages.locals(now)
    _, weights = averages.weights([*now, *local])
    assert q is not None
    points = [q.sample() for _ in range(POINTS)]
    for some in [[i] for i in range(len(now))] if step.in_turn else [list(range(len(now)))]:
        rest = [each for i, each in enumerate(now) if i not in some] + local
        sites = [site for i in some for site in now[i]]
        at = [{**points[0], **{site: point[site] for site in sites}} for point in points]
        terms = [averages.expected([*({site: each[site]} for site in sites), *rest], weights) for each in at]
        parts = [[*map(float, term.values()), -float(q.log_prob(each))] for term, each in zip(terms, at, strict=True)]
        change = torch.tensor(parts, dtype=torch.float64).diff(dim=0)
        apart = change.sum(1).abs() / change.abs().sum(1)
        found[", ".join(sites)] = float(apart.nan_to_num(nan=torch.inf).amax())
        for i in some:
            now[i] = new[i]
    return found


def _bound(solver: Solver, step: Step, averages: Averages, state: Any) -> float:
    """Return the ELBO of a state, what is local at its best: log q, too, is linear in the statistics of each factor."""
    factors, q = list((step.nodes or independent)(solver, state)), solver.answer(state).q
    local, entropy = averages.locals(factors)
    total, _ = averages.weights([*factors, *local])
    assert q is not None

    def log_q(some: list[Nodes]) -> float:
        values = averages.combined(some, factors)
        count = len(next(iter(values.values())))
        each = [float(q.log_prob({site: value[i : i + 1] for site, value in values.items()})) for i in range(count)]
        return sum(each) / count

    of_q = sum(log_q([each]) for each in factors) - (len(factors) - 1) * log_q([])
    return float(total) + float(entropy) - of_q


def _mean_field(solver: Solver, step: Step, averages: Averages, before: Any, after: Any) -> dict[str, float]:
    """Return by how much new probabilities of discrete elements are not those given their neighbours' old or new ones.

    Relative differences of probabilities; an element is updated before its neighbours, or after them.
    """
    joint, say, found = averages.joint, step.nodes, {}
    assert say is not None
    structures = Structures.of(joint)
    (old,), (new,) = say(solver, before), say(solver, after)
    for site, probability in new.items():
        either = []
        for each in (old[site], probability):
            places, weights = designs.categorical(each)
            points = joint.candidates[site][places]
            logits = [conditional_at(joint, structures[site], {site: point}).parameters[0] for point in points]
            expected = torch.einsum("r...,r->...", torch.stack(logits), weights).softmax(-1)
            either.append(((probability - expected).abs() / expected).amax(-1))
        found[site] = float(torch.minimum(*either).nan_to_num(nan=torch.inf).amax())
    return found


def block_is_derived(solver: Solver, block: Block, seed: int = 0) -> float:
    """Return by how much the log density of a block, less the log joint, is no constant, relative to the size of both.

    Args:
        solver: The sampler.
        block: What it draws together.
        seed: Of the state.
    """
    posterior = solver.posterior
    program = posterior.program if block.program is None else block.program(posterior)
    with seeded(seed), pyro.validation_enabled(False), torch.no_grad():
        joint = Joint(program, posterior.data)
        values = joint.draw()
        q = block.distribution(solver, {site: value[None] for site, value in values.items()})
        points = [q.sample() for _ in range(POINTS)]
        built = torch.stack([q.log_prob(point).sum() for point in points])
        derived = torch.stack([joint.total({**values, **{s: v[0] for s, v in point.items()}}) for point in points])
    change, expected = built.diff(), derived.diff()
    return float(((change - expected).abs() / (change.abs() + expected.abs())).nan_to_num(nan=torch.inf).amax())


def independent(solver: Solver, state: Any) -> list[Nodes]:
    """Return points of an answer whose sites are independent."""
    q: Any = solver.answer(state).q
    return [{site: designs.of(distribution)[:, 0]} for site, distribution in q.q.items()]
