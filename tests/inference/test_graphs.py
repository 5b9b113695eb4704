"""Steps as graphs: what is copied, when one is captured, and what happens when an assumption fails."""

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyrozoo.compiler import captured as captured_module
from pyrozoo.compiler.tape import Untraceable
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.core.seeds import seeded
from pyrozoo.inference import graphs
from pyrozoo.inference.graphs import PATIENCE, Steps
from pyrozoo.math.branches import assuming, holds
from pyrozoo.run import catalog
from tests.case import PAIRS, case, solver_class

GRAPHS = [
    (model, method)
    for model, method in PAIRS
    if catalog.settings("inference", method)["needs"] == "solver" and solver_class(model, method).graph
]
ASKING = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero"}
"""Operations whose answer the host waits for."""


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
    for i in range(1, PATIENCE + 4):
        state, _ = step(state)
        assert len(captured) == (i > PATIENCE)
    state = State(state.x[:1])
    for _ in range(PATIENCE + 1):
        state, _ = step(state)
    assert len(captured) == 2
    assert float(state.x) == 2.0 ** (40 - 2 * PATIENCE - 4)


def test_a_graph_that_computes_something_else_is_not_used(captured, monkeypatch):
    """What the host decides anew at every step stands still in a graph."""
    step, counts = steps(), iter(range(100))

    def moving(state):
        assert holds(torch.tensor(True))
        return State(state.x + next(counts)), Info(state.x.sum(-1))

    monkeypatch.setattr(step.solver, "step", moving)
    new, _ = step(State(torch.tensor([[1.0]])))
    assert not step.captured
    assert float(new.x) == 1 + next(counts) - 1


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


class Unasked(TorchDispatchMode):
    """Refuse to tell the host what a tensor holds."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        assert operation.overloadpacket.__name__ not in ASKING, f"{operation} asks a tensor"
        return operation(*args, **(kwargs or {}))


def prepared(model, method, device="cpu"):
    its = case(model)
    solver = solver_class(model, method)(Posterior.of(its.model, its.tiny.to(device, torch.float64)))
    with seeded(0):
        state = solver.init(2)
        for _ in range(2):
            state, _ = solver.step(state)
    return solver, state


@pytest.mark.parametrize(("model", "method"), GRAPHS)
def test_steps_that_can_be_graphs_ask_tensors_nothing(model, method):
    solver, state = prepared(model, method)
    if model == "factor_analysis":
        solver.plain = True  # moves of single columns, in small tables alone, ask which they are
    with assuming() as noted, Unasked():
        _, info = solver.step(state)
    assert all(bool(each) for each in noted)
    assert torch.isfinite(info.objective).all()


@pytest.mark.cuda
@pytest.mark.parametrize(("model", "method"), GRAPHS)
def test_graphs_step_as_the_solver_does_on_a_card(model, method, caplog):
    caplog.set_level("INFO", "pyrozoo")
    solver, begin = prepared(model, method, "cuda")
    if model == "factor_analysis":
        solver.plain = True
    objectives = []
    for step in (solver.step, Steps(solver)):
        state, seen = begin, []
        with seeded(1):
            for _ in range(PATIENCE + 4):
                state, info = step(state)
                seen.append(info.objective)
        objectives.append(torch.stack(seen))
    assert step.captured, caplog.text
    assert step._graph is not None
    torch.testing.assert_close(*objectives, rtol=1e-9, atol=1e-9)


def test_a_capture_that_fails_leaves_random_numbers_as_they_were(monkeypatch):
    """Of CUDA what is asked, without a card."""
    state, kept = object(), []
    generator = SimpleNamespace(clone_state=lambda: state, graphsafe_set_state=kept.append)

    @contextlib.contextmanager
    def graph(_):
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    fake = {"Stream": MagicMock, "current_stream": MagicMock(), "current_device": lambda: 0, "CUDAGraph": MagicMock}
    fake |= {"default_generators": [generator], "stream": lambda _: contextlib.nullcontext(), "graph": graph}
    for name, value in fake.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(captured_module, "waiting_refused", contextlib.nullcontext)
    with pytest.raises(Untraceable, match="not permitted when stream is capturing"):
        captured_module.capture(lambda: torch.zeros(2) + 1)
    assert kept == [state]
