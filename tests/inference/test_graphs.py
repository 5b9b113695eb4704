"""Steps as graphs: what is copied, when one is captured, and what happens when an assumption fails."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pyrozoo.compiler.tape import Untraceable
from pyrozoo.contracts.solver import Info
from pyrozoo.inference import graphs
from pyrozoo.inference.graphs import PATIENCE, Steps
from pyrozoo.math.branches import assuming, holds


@dataclass(frozen=True)
class State:
    x: Tensor


class Halving:
    """Halves numbers; those below 1 become 7, which is decided by looking."""

    graph, kind = True, "samples"

    def __init__(self):
        self.data, self.posterior = SimpleNamespace(values=torch.zeros(1)), SimpleNamespace(shards=None)

    def step(self, state):
        new = state.x / 2 if holds((state.x >= 1).all()) else torch.full_like(state.x, 7.0)
        return State(new), Info(new.sum(-1))


@pytest.fixture
def captured(monkeypatch):
    """Capture nothing: run again what is computed, and write its results where the first ones are."""
    made = []

    def capture(compute):
        (state, info), fine = compute()
        made.append(compute)

        def replay():
            (again, told), well = compute()
            state.x.copy_(again.x), info.objective.copy_(told.objective), fine.copy_(well)

        return replay, ((state, info), fine)

    monkeypatch.setattr(graphs, "capture", capture)
    return made


def steps(**given):
    solver = Halving()
    for name, value in given.items():
        setattr(solver, name, value)
    made = Steps(solver)
    made.captured = True
    return made


def test_a_graph_steps_as_the_solver_and_its_results_stay(captured):
    step, state, seen = steps(), State(torch.tensor([[64.0, 32.0]])), []
    for _ in range(3):
        state, info = step(state)
        seen.append((state, info))
    assert [each.x.tolist() for each, _ in seen] == [[[32, 16]], [[16, 8]], [[8, 4]]]
    assert [float(info.objective) for _, info in seen] == [48, 24, 12]
    assert len(captured) == 1


def test_what_does_not_hold_is_done_step_by_step(captured):
    step, state = steps(), State(torch.tensor([[2.0, 0.5]]))
    state, info = step(state)
    assert state.x.tolist() == [[7, 7]]
    assert float(info.objective) == 14
    assert step(state)[0].x.tolist() == [[3.5, 3.5]]


def test_restarts_that_leave_have_a_graph_of_their_own_after_some_steps(captured):
    step, state = steps(kind="point"), State(torch.full((2, 1), 2.0**40))
    for _ in range(PATIENCE + 3):
        state, _ = step(state)
    assert len(captured) == 1
    state = State(state.x[:1])
    for _ in range(PATIENCE + 1):
        state, _ = step(state)
    assert len(captured) == 2
    assert float(state.x) == 2.0 ** (40 - 2 * PATIENCE - 4)


def test_what_cannot_be_captured_is_stepped(monkeypatch):
    def capture(_):
        raise Untraceable("it waits")

    monkeypatch.setattr(graphs, "capture", capture)
    step = steps()
    assert step(State(torch.ones(1, 1)))[0].x.tolist() == [[0.5]]
    assert not step.captured


def test_conditions_are_looked_at_or_noted():
    assert holds(torch.tensor(True))
    assert not holds(torch.tensor(False))
    with assuming() as noted:
        assert holds(torch.tensor(False))
    assert noted == [torch.tensor(False)]
    assert not Steps(Halving()).captured  # on a CPU
