"""Parts of engines by themselves, with answers that are known beforehand."""

from __future__ import annotations

import json
import math
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pyrozoo
from pyrozoo.compiler.tape import Untraceable
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.model import Program
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Answer, Info
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NumericalError
from pyrozoo.core.world import World
from pyrozoo.data.arguments import Arguments
from pyrozoo.inference import chains, graphs, held, laplace, loop, moments, nuts, optimise, svi
from pyrozoo.inference.chains import Chain, Plan, PyroSampler
from pyrozoo.inference.derived import gibbs, slices, state, together, trees
from pyrozoo.inference.journal import Journal
from pyrozoo.inference.loop import Process, drive
from pyrozoo.inference.moments import Recorded, Recorder
from pyrozoo.inference.state import affordable
from pyrozoo.program.conditionals.cells import Joint
from tests.inference.test_by_hand import Count, Counting, Ticking, row


def chain(size: int, begun: float, **statistics: Tensor) -> Chain:
    """Return a chain whose n-th position is n, and whose iterations take a second each."""
    numbers = torch.arange(float(size)).double()
    return Chain(numbers[:, None], {"lp": -numbers, **statistics}, begun + numbers)


# Chains of NUTS -------------------------------------------------------------------------------------------------------


def test_passes_of_chains_are_their_gradients_or_else_their_iterations():
    """Two chains of 3 and 1 leapfrog steps an iteration; earlier versions did not count them."""
    counted = [chain(4, 10.0, n_steps=torch.full((4,), n)) for n in (3, 1)]
    way = nuts.Way.of(counted, 3, origin=8.0)
    assert way.passes.tolist() == [4, 8, 12]
    assert nuts.Way.of([chain(4, 10.0), chain(4, 14.0)], 3, origin=8.0).passes.tolist() == [2, 4, 6]
    assert way.vectors[:, :, 0].tolist() == [[0, 1, 2]] * 2
    assert way.objective.tolist() == [[0, -1, -2]] * 2
    assert way.share.tolist() == [0, 0.5, 1]
    assert way.begun == 2, "the earlier chain began two seconds after the run"
    assert nuts.Way.of(counted, 3, origin=11.0).begun == 0


def test_gradients_are_compared_by_the_largest_component():
    """Of (1000, 1) in double precision 1e-5 may be missed anywhere, and 2e-5 may not; of the value a part of 1e-10."""

    class Given:
        single = False

        def __init__(self, value: float, slope: float):
            self.value, self.slope = value, slope

        def __call__(self, point: Tensor) -> tuple[float, Tensor]:
            return 500 * float(point[0]) * 2 + float(point[1]) + self.value, row(1000, 1 + self.slope)

    def space(vector: Tensor) -> Tensor:
        return 1000 * vector[0] + vector[1]

    def apart(value: float = 0.0, slope: float = 0.0, at: tuple[float, float] = (0.0, 0.5)) -> bool:
        return nuts.differ(space, Given(value, slope), row(*at)[None])

    assert not apart()
    assert not apart(slope=0.9e-5)
    assert apart(slope=2e-5)
    assert apart(slope=-2e-5)
    assert not apart(value=0.9e-10)
    assert apart(value=2e-10), "of values below 1 the difference counts itself"
    assert not apart(value=2e-8, at=(1, 0)), "of 1000 a part of 1e-10 is 1e-7"
    assert apart(value=2e-7, at=(1, 0))
    assert not apart(value=math.nan, at=(math.nan, 0)), "where the program has none there is nothing to compare"


def test_chains_of_one_kernel_after_another():
    """Of three chains the first is known: the others have so many iterations, with leapfrog steps that were made."""
    asked = []

    def density(vector: Tensor) -> Tensor:
        asked.append(1)
        return -0.5 * vector.square().sum()

    known = chain(5, 0.0)
    sampler = PyroSampler(density, torch.ones(3, 2).double(), Plan(2, 3, 0.8, 3, 0), {0: known})
    seen = [sampler.iterations()]
    assert sampler.unfinished() == {}
    while len(sampler.finished) < 3:
        before = len(asked)
        sampler.advance()
        seen.append(sampler.iterations())
        if len(seen) == 4:
            ((number, cut),) = sampler.unfinished().items()
            assert (number, len(cut.vectors)) == (1, 3)
            assert cut.statistics["n_steps"][-1] == len(asked) - before
    assert seen == list(range(5, 16))
    assert sampler.finished[0] is known
    assert [len(sampler.finished[k].vectors) for k in (1, 2)] == [5, 5]
    for k in (1, 2):
        done = sampler.finished[k]
        torch.testing.assert_close(done.statistics["lp"], -0.5 * done.vectors.square().sum(1))
        assert done.statistics["diverging"].dtype == torch.bool
        assert done.seconds.diff().ge(0).all()
    assert not sampler.finished[1].vectors.equal(sampler.finished[2].vectors)


def test_what_diverges_is_said_to():
    """A density that drops by a billion one step aside: every trajectory ends there."""

    def cliff(vector: Tensor) -> Tensor:
        return torch.where(vector.detach().abs() < 1e-9, 0.0, -1e9).sum() + 0.0 * vector.sum()

    sampler = PyroSampler(cliff, torch.zeros(1, 1).double(), Plan(0, 2, 0.8, 3, 0))
    while not sampler.finished:
        sampler.advance()
    assert sampler.finished[0].statistics["diverging"].tolist() == [True, True]


def test_a_start_is_tried_first_and_then_its_neighbourhood():
    """It is asked again where a start cannot be used: the next ones are a hundredth away, whatever the seed."""
    sampler: Any = SimpleNamespace(starts=np.full((2, 4000), 7.0), density=SimpleNamespace(size=4000))
    start = chains.CompiledSampler._start_of(sampler, 1)
    assert start(3).tolist() == [7.0] * 4000
    again = start(3) - 7
    assert again.std() == pytest.approx(0.01, rel=0.1)
    assert abs(again.mean()) < 1e-3
    other = start(4) - 7
    assert not np.array_equal(again, other)
    assert other.std() == pytest.approx(0.01, rel=0.1)


def test_split_chains_that_have_not_met():
    """Halves of two chains with means -1 and 1 and variances 0.5 * 4 / 3: R-hat by its formula; 1 of what is alike."""
    one = row(0, 2, 0, 2, 0, 2, 0, 2)
    apart = torch.stack([one - 2, one])[..., None]
    # Within: 4/3. Between, of the means -1, 1, -1, 1: 4/3. (4 - 1) / 4 + 1.
    assert float(nuts._rhat(apart)) == pytest.approx(math.sqrt(0.75 + 1))
    assert float(nuts._rhat(torch.stack([one, one])[..., None])) == pytest.approx(math.sqrt(0.75))


def test_starts_at_draws_of_another_fit_are_beside_them():
    """Two of four draws of 100 numbers, moved by a tenth over the root of their count."""
    values = torch.arange(4.0).double()[None, :, None].expand(1, 4, 100)
    space: Any = SimpleNamespace(sites=("x",), unconstrain=lambda given: given, flatten=lambda given: given["x"])
    starts = nuts.beside(space, Draws({"x": values, "y": values}), 2)
    assert starts.mean(1).round().tolist() == [0, 3]
    assert float((starts - starts.mean(1, keepdim=True).round()).std()) == pytest.approx(0.01, rel=0.2)


def test_what_is_flat_far_away_is_improper():
    """Densities of x alone, of (x, y) on a grid of the axes: flat, falling too slowly, falling fast enough."""
    space: Any = SimpleNamespace(where="ab".__getitem__)
    cases = {
        "flat in b": lambda x, y: -0.5 * x**2,
        "slower than 1 over b": lambda x, y: -0.5 * x**2 - 0.9 * np.log1p(abs(y)),
        "only upwards": lambda x, y: -0.5 * x**2 - (0.5 * y**2 if y < 0 else 0.0),
        "only downwards": lambda x, y: -0.5 * x**2 - (0.5 * y**2 if y > 0 else 0.0),
    }
    for name, value in {**cases, "": lambda x, y: -0.5 * x**2 - 1.1 * np.log1p(abs(y))}.items():

        def gradient(point: Tensor, value: Any = value) -> tuple[float, Tensor]:
            return float(value(*point.tolist())), point

        if name:
            with pytest.raises(NumericalError, match="along b,"):
                nuts.refuse_improper(space, gradient, row(0, 0), torch.eye(2).unbind())
        else:
            nuts.refuse_improper(space, gradient, row(0, 0), torch.eye(2).unbind())


def test_what_is_flat_across_sites_is_improper_where_chains_have_not_met():
    """A density of the difference alone: chains wander along the sum. With a normal sum, however wide, it is proper."""
    torch.manual_seed(0)
    space: Any = SimpleNamespace(size=2, where="ab".__getitem__)
    noise = torch.randn(2, 20, 2).double()
    apart, met = noise + torch.tensor([[[0.0]], [[20.0]]]), noise

    def look(vectors: Tensor, sum_precision: float) -> None:
        def gradient(point: Tensor) -> tuple[float, Tensor]:
            difference, total = point[0] - point[1], sum_precision * point.sum()
            slope = torch.stack([-difference - total, difference - total])
            return float(-0.5 * difference**2 - 0.5 * total * point.sum()), slope

        nuts.refuse_flat(space, gradient, vectors)

    with pytest.raises(NumericalError, match="along a line through a, b,"):
        look(apart, 0.0)
    look(met, 0.0)
    look(apart[:, :3], 0.0)
    look(apart, 1e-3)


def test_chains_are_looked_at_where_nobody_says_that_there_is_an_integral(monkeypatch):
    """Of the zoo's models the priors are proper; of another program nobody knows."""
    looked = []
    monkeypatch.setattr(nuts, "refuse_flat", lambda space, gradient, vectors: looked.append(tuple(vectors.shape)))
    few = {"backend": "pyro", "warmup": 2, "draws": 3, "chains": 1, "max_tree_depth": 2, "progress": False}

    def program(seen: Tensor) -> None:
        x = pyro.sample("x", dist.Normal(seen.new_zeros(()), 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=seen)

    pyrozoo.fit("zip_mixture", "nuts", rows=4, columns=2, num_components=2, **few)
    assert looked == []
    pyrozoo.fit(program, "nuts", args=(row(1)[0],), **few)
    assert looked == [(1, 3, 1)]


def test_nothing_more_is_tried_at_a_mode():
    """A normal of precision 1/4, whose mode one step finds: a second look sees that there is nothing to gain."""
    calls = []

    def density(x: Tensor) -> Tensor:
        calls.append(1)
        return -(x - 3).square().sum() / 8

    point, _, hessian = laplace._newton(density, row(0, 0), -9 / 4, 0)
    assert point.tolist() == pytest.approx([3, 3])
    assert hessian.tolist() == [[0.25, 0], [0, 0.25]]
    assert len(calls) <= 6


def test_the_evidence_of_a_ring_counts_its_whole_length():
    """A ridge of precision 100 around the circle of radius 1 holds 2 pi sqrt(2 pi / 100), wherever it is looked at."""

    class Ring(SimpleNamespace):
        def __call__(self, vector: Tensor) -> Tensor:
            return -50 * (vector.square().sum().sqrt() - 1) ** 2 + 3

    ring: Any = Ring(size=2, unflatten=lambda vector: {"x": vector}, constrain=lambda values: values)
    for angle in (0.3, 2.0):
        point = 1.2 * row(math.cos(angle), math.sin(angle))
        process: Any = SimpleNamespace(
            best=lambda: 1, space=ring,
            posterior=SimpleNamespace(orbit=lambda values: (1, math.log(2 * math.pi)), sites=["x"]),
            now=SimpleNamespace(points=torch.stack([row(9, 9), point]), values=row(-9, float(ring(point)))),
        )  # fmt: skip
        gaussian, value, objective = laplace.Laplace._gaussian(None, process, False)
        assert value == pytest.approx(3)
        assert objective == pytest.approx(3 + math.log(2 * math.pi) + 0.5 * math.log(2 * math.pi / 100))
        torch.testing.assert_close(gaussian.mode, point / 1.2, rtol=1e-6, atol=0)
        torch.testing.assert_close(
            gaussian.factor @ gaussian.factor.mT, 100 * torch.eye(2).double(), rtol=1e-4, atol=1e-4
        )


# The loop -------------------------------------------------------------------------------------------------------------


class Stumbling(Ticking):
    def advance(self) -> Tensor:
        raise NumericalError("it stumbles")


def test_there_is_a_checkpoint_before_the_first_iteration(tmp_path):
    settings = Loop(progress=False, checkpoint=tmp_path / "checkpoint.pt", checkpoint_every=5)
    with pytest.raises(NumericalError, match="it stumbles"):
        drive(Stumbling(), settings, "")
    assert loop.read_checkpoint(settings.checkpoint)["iterations"] == 0


def test_checkpoints_are_written_every_so_many_iterations(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(loop, "write_part", lambda path, content, done, together: written.append(done))
    settings = Loop(progress=False, checkpoint=tmp_path / "checkpoint.pt", checkpoint_every=2)
    drive(Ticking(), settings, "")
    assert written == [0, 2, 4]


class Leaping(Ticking):
    """Three iterations at a time, of which it says so; it can be taken up only after an even number of leaps."""

    total = 12

    def progress(self, advances: int) -> int:
        return 3 * advances

    def resumable(self) -> bool:
        return self.now.done % 2 == 0

    def status(self) -> Any:
        return "completed" if self.now.done >= 4 else None


def test_a_checkpoint_that_is_due_waits_until_it_can_be_taken_up(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(loop, "write_part", lambda path, content, done, together: written.append(done))
    settings = Loop(progress=False, checkpoint=tmp_path / "checkpoint.pt", checkpoint_every=8)
    run = drive(Leaping(), settings, "")
    assert written == [0, 4], "8 is passed within the third leap"
    assert run.iterations == 12
    assert run.trace["iteration"].tolist() == [1, 2, 3, 4]


def test_all_processes_stop_where_one_is_interrupted(monkeypatch):
    """What any process says counts: this one has heard of nothing."""
    asked = []

    def any_of(mine: bool) -> bool:
        asked.append(mine)
        return len(asked) == 2

    together = SimpleNamespace(rank=0, size=1, any=any_of)
    monkeypatch.setattr(loop, "world", lambda: together)
    run = drive(Ticking(), Loop(progress=False), "")
    assert (run.status, run.iterations, asked) == ("interrupted", 2, [False, False])


def test_how_long_it_takes_is_said_of_what_has_a_fixed_length(monkeypatch):
    looks = []
    monkeypatch.setattr(loop, "Forecast", lambda *given: SimpleNamespace(look=looks.append))
    drive(Ticking(), Loop(progress=False), "")
    assert looks == []
    monkeypatch.setattr(Ticking, "fixed", True)
    drive(Ticking(), Loop(progress=False), "")
    assert looks == [1, 2, 3, 4, 5]
    assert nuts._Nuts.fixed
    assert not any(each.fixed for each in (Process, optimise._Optimisation, svi._Stochastic))


def test_a_journal_is_read_by_what_its_format_says(tmp_path):
    """Eight bytes of length, a description in JSON, numbers: twice, and nothing that comes after what counts."""
    path, content = tmp_path / "checkpoint.log", b""
    for numbers in ([1.0, 2.0], [3.0]):
        described = json.dumps([["x", "<f8", [len(numbers)]], ["n", "<i8", [1, 1]]]).encode()
        content += len(described).to_bytes(8, "little") + described + np.array(numbers).tobytes()
        content += np.array([len(numbers)], "<i8").tobytes()
    journal = Journal.beside(tmp_path / "checkpoint.pt", World())
    path.write_bytes(content + b"of a run that was killed")
    state_of = {"end": len(content), "check": zlib.crc32(content)}
    journal.read(state_of)
    assert [each["x"].tolist() for each in journal.entries] == [[1, 2], [3]]
    assert [each["n"].tolist() for each in journal.entries] == [[[2]], [[1]]]
    assert journal.state() == state_of
    journal.append({"x": torch.tensor([4.0, 5.0]).double(), "none": torch.zeros(0)})
    again = Journal.beside(tmp_path / "checkpoint.pt", World())
    again.read(journal.state())
    assert [each["x"].tolist() for each in again.entries] == [[1, 2], [3], [4, 5]]
    assert path.stat().st_size == journal.end
    assert Journal.beside(tmp_path / "checkpoint.pt", World(1, 3)).path.name == "checkpoint.3.1.log"


# States on the way, and what they take --------------------------------------------------------------------------------


def kept(step: int, size: int = 1) -> Recorded:
    return Recorded(step, 0.0, 0.0, 0, row(0), {"x": torch.zeros(size).double()})


def test_states_that_just_fit_are_all_kept():
    """Of 24 bytes three of one number: an eighth of 192 bytes of draws."""
    recorder = Recorder(60, 192e-6)
    for step in (1, 2, 3):
        recorder.add(kept(step))
    assert [each.step for each in recorder.states] == [1, 2, 3]
    assert recorder.notes() == []
    recorder.add(kept(4))
    assert [each.step for each in recorder.states] == [1, 2, 4]
    assert recorder.notes() == ["3 states are kept on the way, within 2.4e-05 MB (posterior_megabytes)"]
    assert not recorder.due(5)
    assert recorder.due(6)


def test_a_recorder_of_few_states_keeps_no_early_ones():
    recorder = Recorder(2, None)
    for step in range(1, 9):
        if recorder.due(step):
            recorder.add(kept(step))
    assert [each.step for each in recorder.states] == [1, 8]
    assert (recorder.every, recorder.early) == (8, False)
    assert not any(recorder.due(step) for step in (9, 12, 15))
    empty = Recorder(2, None)
    empty.every, empty.early = 8, False
    assert empty.due(3), "the first is always wanted"


def test_a_megabyte_is_a_million_bytes():
    assert moments.budget(None) == 25
    assert moments.budget(8.0) == 1
    assert Recorder(1, 8.0).limit == 1e6
    assert affordable(10, {"nothing": torch.zeros(0)}, 1.0) == 10


def test_draws_are_made_in_blocks_that_fit(monkeypatch):
    """States of 8 bytes: two at a time within 16, one at a time where none fits."""
    made = []

    class Drawing(Counting):
        kind = "variational"

        def answer(self, state: Count) -> Answer:
            made.append(len(state.steps))
            return SimpleNamespace(draws=lambda: {"x": state.steps}, log_q=lambda draws: draws["x"])

    for most, blocks in ((16, [2, 2, 1]), (1, [1] * 5), (8, [1] * 5), (100, [5])):
        made.clear()
        monkeypatch.setattr(optimise, "MOST_BYTES", most)
        draws, log_q = optimise.draw_from(Drawing(), Count(row(3)), 5)
        assert made == blocks
        assert draws["x"].tolist() == log_q.tolist() == [[3] * 5]


# Stochastic variational inference -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "losses"), [(1, [1, 2, 3]), (3, [1, 2, 3]), (4, [2, 5]), (7, [2, 5, 8])])
def test_losses_of_rows_in_files_are_of_every_minibatch_or_of_every_pass(count, losses, monkeypatch):
    """Ten rows in minibatches of four are three a pass: of one pass each is a loss, of more each pass's mean."""
    values = iter(range(1, 100))
    reported: Any = SimpleNamespace(rows=10, data="whole")
    monkeypatch.setattr(svi, "_reported", lambda posterior: posterior)
    batch = SimpleNamespace(taken=lambda posterior: "part")
    monkeypatch.setattr(svi, "minibatches", lambda posterior, size: [batch] * 3)
    given = []

    def loss(program: Any, guide: Any, data: Any) -> float:
        given.append(data)
        return next(values)

    process: Any = SimpleNamespace(whole=False, batch_size=4, elbo=SimpleNamespace(loss=loss), program=None, guide=None)
    assert svi._Stochastic.losses(process, reported, count).tolist() == losses
    assert set(given) == {"part"}
    given.clear()
    process.whole = True
    assert len(svi._Stochastic.losses(process, reported, count)) == count
    assert given == ["whole"] * count
    process.whole, process.batch_size = False, 10
    given.clear()
    assert len(svi._Stochastic.losses(process, reported, count)) == count
    assert set(given) == {"whole"}


# Graphs of a card -----------------------------------------------------------------------------------------------------


def test_a_graph_may_differ_in_one_of_a_hundred_numbers():
    """Of 200 numbers two may be others, three may not; nor may there be others in number."""

    def step(state: Count) -> tuple[Count, Info]:
        return Count(torch.ones(200).double()), Info(row(1))

    def graph(others: int = 0, by: float = 1.0, objective: tuple[float, ...] = (1,)) -> Any:
        value = torch.ones(200).double()
        value[:others] += by
        return lambda state: (Count(value), Info(row(*objective)))

    graphs._hold(graph(), step, Count(row(0)))
    graphs._hold(graph(2), step, Count(row(0)))
    graphs._hold(graph(200, 1e-8), step, Count(row(0)))
    for wrong in (graph(3), graph(200, 1e-6), graph(objective=(1, 1)), graph(objective=(2,))):
        with pytest.raises(Untraceable):
            graphs._hold(wrong, step, Count(row(0)))


# Derived methods ------------------------------------------------------------------------------------------------------


def test_sites_are_fields_whatever_they_are_called():
    """Words of Python, and what no name may have: a state has all of them, and what is tuned beside."""
    layout = state.Layout(["x", "lambda", "a.b"], ["steps"])
    assert layout.names == {"x": "x", "lambda": "lambda_", "a.b": "a_b"}
    values = {"x": row(1), "lambda": row(2), "a.b": row(3)}
    made = layout.state(values, {"steps": row(4)})
    assert layout.values(made) == values
    assert layout.rest(made) == {"steps": row(4)}
    assert made.lambda_.tolist() == [2]
    assert made.tuned_steps.tolist() == [4]


def test_cells_belong_to_the_elements_that_labels_say():
    """Rows of kinds 0, 2, 1, none, 0: a density of each of three levels, of its own rows and of its prior."""
    seen = row(1, 2, 3, 4, 5)

    def program(_: Any = None) -> None:
        with pyro.plate("kind", 3):
            level = pyro.sample("level", dist.Normal(seen.new_zeros(()), 1.0))
        padded = torch.cat([level, seen.new_zeros(1)])
        with pyro.plate("row", 5):
            label = pyro.sample("label", dist.Categorical(seen.new_full((4,), 0.25)), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(padded[label].exp(), 1.0), obs=seen)

    slicer = gibbs.Solver(Posterior.of(Program(program), Arguments(args=())), other="slice").slicers["level"]
    labels, level = torch.tensor([[0, 2, 1, 3, 0]]), row(0.1, -0.2, 0.3)[None]
    values = {"label": labels, "level": level}
    ready = slicer._ready(values)
    assert ready["y"].tolist() == labels.tolist()
    found = slicer._density(values, level[None], ready)[0, 0]
    normal = torch.distributions.Normal
    of_rows = normal(level[0].exp()[torch.tensor([0, 2, 1, 0, 0])], 1.0).log_prob(seen)
    expected = normal(0.0, 1.0).log_prob(level[0]) + torch.stack([of_rows[0] + of_rows[4], of_rows[2], of_rows[1]])
    torch.testing.assert_close(found, expected)


def test_a_block_is_told_from_a_wrong_one_by_any_of_its_points():
    """A standard normal: its own density is derived, one that is off at a single point is not."""

    def program(_: Any = None) -> None:
        pyro.sample("x", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))

    posterior = Posterior.of(Program(program), Arguments(args=()))
    for off in (0.0, 0.5, math.nan):
        asked: list[int] = []

        def log_prob(point: Any, off: float = off, asked: list[int] = asked) -> Tensor:
            asked.append(1)
            return torch.distributions.Normal(0.0, 1.0).log_prob(point["x"]).sum() + (off if len(asked) == 3 else 0)

        q = SimpleNamespace(sample=lambda: {"x": torch.randn(1, 3).double()}, log_prob=log_prob)
        block: Any = SimpleNamespace(program=None, distribution=lambda solver, values, q=q: q)
        found = held.block_is_derived(SimpleNamespace(posterior=posterior), block)
        assert found < 1e-12 if off == 0 else found > 0.01


def test_slices_are_drawn_from_their_density():
    """Of a standard normal, from draws of it: mean, variance and fourth moment stay, within four standard errors."""
    torch.manual_seed(0)
    point = torch.randn(20_000).double()
    for _ in range(3):
        start = point.clone()

        def density(*ts: Tensor, start: Tensor = start) -> Tensor:
            return torch.stack([-0.5 * (start + t).square() for t in ts])

        point = start + slices._slice(density, (20_000,), start)
    assert (point != start).double().mean() > 0.99
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert float((point**power).mean()) == pytest.approx(expected, abs=4 * math.sqrt(variance / 20_000))


def test_what_is_tuned_follows_dual_averaging():
    """One transition with acceptance 0.3, where 0.8 is wanted: error 0.5 / 11, step e^(log 1 - 20 * error)."""
    started = trees.Tuning.started(torch.tensor([[3.0, 0.0], [4.0, 0.0]]).double(), 1)
    # Root mean squares of the gradients are sqrt(12.5) and 0, which counts as 1e-6; scales are at most 1.
    assert started.metric[0, 0].tolist() == pytest.approx([12.5**-0.25, 1.0])
    assert float(started.step) == pytest.approx(0.1)
    places, gradients = torch.tensor([[1.0, 5.0], [3.0, 5.0]]).double(), torch.tensor([[0.0, 2.0], [4.0, 2.0]]).double()
    after = started.after(row(0.2, 0.4), places, gradients)
    error = 0.5 / 11
    expected = math.log(0.1) + math.log(10) - error / 0.05
    assert math.log(float(after.step)) == pytest.approx(expected)
    assert float(after.steps[0, 1]) == pytest.approx(expected), "the average of one"
    assert float(after.steps[0, 2]) == pytest.approx(error)
    assert after.metric[0, 1].tolist() == [2, 5], "means of places"
    assert after.metric[0, 2].tolist() == [2, 0], "sums of squares about them"
    assert after.metric[0, 3].tolist() == [2, 2]
    assert after.metric[0, 4].tolist() == [8, 0]
    assert after.dense[0, 1].tolist() == [[2]]
    more = after.after(row(0.8, 0.8), places + 2, gradients)
    assert more.metric[0, 1].tolist() == [3, 6]
    assert more.metric[0, 2].tolist() == [8, 4], "of 1, 3, 3, 5 about 3, and of 5, 5, 7, 7 about 6"
    assert more.dense[0, 1].tolist() == [[8]]
    settled = more.settled()
    assert float(settled.steps[0, 0]) == float(more.steps[0, 1])
    assert settled.after(row(0, 0), places, gradients) is settled


def test_a_metric_is_the_scales_that_draws_show():
    """Sixteen transitions of two chains whose places have variances 4 and 1/4 and gradients the inverse ones."""
    torch.manual_seed(0)
    tuning = trees.Tuning.started(torch.ones(2, 3).double(), 1)
    scale = row(2, 0.5, 1)
    for _ in range(16):
        places = scale * torch.randn(2, 3).double()
        tuning = tuning.after(row(0.8, 0.8), places, -places / scale**2)
    assert tuning.metric[0, 0].tolist() == pytest.approx(scale.tolist()), "exact for normal coordinates"
    assert float(tuning.dense[0, 0]) == pytest.approx(2, rel=0.3)
    assert (float(tuning.steps[0, 4]), float(tuning.steps[0, 5])) == (0, 32), "the next window is twice as long"
    assert tuning.metric[0, 1:].abs().max() == 0
    momentum = torch.ones(1, 3).double()
    along, back = tuning.along(momentum), tuning.back(momentum)
    factor = float(tuning.dense[0, 0])
    assert along.tolist() == back.tolist() == [[factor, *tuning.metric[0, 0, 1:].tolist()]]


def test_a_trajectory_turns_where_an_end_goes_back():
    """Where the sum of momenta, less half of both ends, is along neither: of 1, -1, 1 it is 0, of 1, -0.5, 1 a half."""

    def turns(*momenta: float) -> bool:
        return bool(trees.turning(row(momenta[0])[None], row(momenta[-1])[None], row(sum(momenta))[None]))

    assert turns(1, 1, -3)
    assert turns(-3, 1, 1)
    assert not turns(1, 1, 1)
    assert not turns(-1, -1, -1)
    assert not turns(1, -0.5, 1)
    assert turns(1, -1, 1), "what has gone nowhere turns"


@pytest.mark.parametrize(
    ("of_value", "of_slope", "taken"), [(0, 0, True), (5e-9, 5e-9, True), (4e-8, 0, False), (0, 4e-8, False)]
)
def test_a_compiled_density_is_the_program_s_or_is_not_used(of_value, of_slope, taken, monkeypatch):
    """Of log densities and slopes near 0 a difference of 5e-9 is rounding, and one of 4e-8 is another program."""

    class Compiled:
        def __init__(self, density: Any, flat: Tensor):
            self.density = density

        def __call__(self, flat: Tensor) -> tuple[float, Tensor]:
            with torch.enable_grad():
                leaf = flat.clone().requires_grad_(True)
                value = self.density(leaf)
                (slope,) = torch.autograd.grad(value, leaf)
            return float(value.detach()) + of_value, slope + of_slope

    def program(_: Any = None) -> None:
        x = pyro.sample("x", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))
        pyro.factor("shifted", 0.25 * (x**2).sum() + 1.5 * math.log(2 * math.pi))

    monkeypatch.setattr(together, "CompiledDensity", Compiled)
    joint = Joint(program, None)
    moved = together.Together(joint, ["x"], [])
    values = {"x": torch.zeros(2, 3).double()}
    vectors = moved.vectors(values)
    moved.compile(vectors, values)
    assert (moved.compiled is not None) == taken
