"""A solver's step on CUDA as one graph: a single launch, where hundreds of small ones take longer than what they do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pyrozoo.compiler.captured import capture
from pyrozoo.compiler.kernels import switched_on
from pyrozoo.compiler.tape import Untraceable
from pyrozoo.contracts.shards import leaves, rebuilt
from pyrozoo.contracts.solver import Info, Solver
from pyrozoo.core.seeds import undisturbed
from pyrozoo.math.branches import assuming

log = logging.getLogger(__name__)

PATIENCE = 5
"""Steps with as many restarts before a graph is captured, which takes as long as some: those that are done leave.
Chains of a sampler stay, and their draws must not depend on where a run was resumed: they do not wait."""

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-7}
"""How far, relatively, numbers of a graph and of the step that it was made from may be apart."""

STRAY = 0.01
"""Share of numbers that may be further apart: draws that rounding decides otherwise, and what follows from them."""


class Steps:
    """The steps of a solver: on CUDA as a graph, where the solver says that they can be (``Solver.graph``).

    Args:
        solver: The solver.
    """

    def __init__(self, solver: Solver):
        self.solver, self._count = solver, 0
        self._graph: _Graph | None = None
        self._key: tuple[Any, ...] = ()
        there = solver.data.values.device.type == "cuda" and solver.posterior.shards is None
        self.captured = there and solver.graph and switched_on()

    def __call__(self, state: Any) -> tuple[Any, Info]:
        """Do a step."""
        if not self.captured:
            return self.solver.step(state)
        key = tuple((tuple(each.shape), each.dtype) for each in leaves(state))
        if key != self._key:
            self._graph, self._key, self._count = None, key, 0
        self._count += 1
        if self._graph is None:
            if self.solver.kind != "samples" and self._count <= PATIENCE:
                return self.solver.step(state)
            try:
                self._graph = _Graph(self.solver.step, state)
                _hold(self._graph, self.solver.step, state)
            except Untraceable as error:
                log.info("steps are no graph: %s", error)
                self.captured = False
                return self.solver.step(state)
        return self._graph(state)


def _hold(graph: Callable[[Any], tuple[Any, Info]], step: Callable[[Any], tuple[Any, Info]], state: Any) -> None:
    """Hold a graph to the step that it was made from, at one state and with the same random numbers.

    Sums in another order may decide a few of many draws otherwise: ``STRAY`` is how many.

    Raises:
        Untraceable: It computes something else.
    """
    results = []
    for each in (step, graph):
        with undisturbed():
            new, info = each(state)
        results.append([info.objective, *leaves(new)])
    for expected, found in zip(*results, strict=True):
        near = TOLERANCE[torch.float64 if expected.dtype == torch.float64 else torch.float32]
        away = ~torch.isclose(found.double(), expected.double(), rtol=near, atol=near, equal_nan=True)
        if found.shape != expected.shape or float(away.double().mean()) > STRAY:
            raise Untraceable("the graph computes something else")


class _Graph:
    """A step from a state of some shapes.

    Args:
        step: The step.
        state: Such a state.

    Raises:
        Untraceable: It cannot be captured.
    """

    def __init__(self, step: Callable[[Any], tuple[Any, Info]], state: Any):
        self.step, self.given = step, [each.clone() for each in leaves(state)]
        self._state = rebuilt(state, iter(self.given))
        with undisturbed():  # runs before the capture draw what no step draws
            self._replay, found = capture(self._computed)
        (self._new, self._info), self._fine = found

    def _computed(self) -> tuple[tuple[Any, Info], Tensor | None]:
        """Do the step, and tell whether what it took to hold does."""
        with assuming() as noted:
            result = self.step(self._state)
        return result, torch.stack(noted).all() if noted else None

    def __call__(self, state: Any) -> tuple[Any, Info]:
        """Do the step; what ``Info.predictive`` of its result returns holds until the next one."""
        for mine, given in zip(self.given, leaves(state), strict=True):
            mine.copy_(given)
        self._replay()
        if self._fine is not None and not bool(self._fine):
            return self.step(state)
        new, info = self._new, self._info
        residual = None if info.residual is None else info.residual.clone()
        copies = (each.clone() for each in leaves(new))
        return rebuilt(new, copies), replace(info, objective=info.objective.clone(), residual=residual)
