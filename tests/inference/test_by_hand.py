"""Engines driven by hand: solvers that count, whose draws, averages, statuses and seconds are known beforehand."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyro
import pytest
import torch
from torch import Tensor

import pyrozoo
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.solver import Answer, Info, Solver
from pyrozoo.core.errors import NumericalError
from pyrozoo.inference import direct, laplace, loop, nuts, optimise, sample, starts, svi
from pyrozoo.inference.chains import Chain, Plan
from pyrozoo.inference.derived.gibbs import Solver as DerivedGibbs
from pyrozoo.inference.loop import Process, drive, last_objectives
from pyrozoo.inference.state import affordable, bytes_of, join, plain, repeated, take, thinned
from pyrozoo.inference.watching import RunningDensity, due


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Count:
    """The number of steps that every chain has made."""

    steps: Tensor


class Counting(Solver, kind="point", objective="log_joint", state=Count, by_row=()):
    """A solver whose state, and answer, is the number of its steps; its objective is a function of that."""

    def __init__(self, of: str = "result", objective: Any = lambda steps: steps, chains: Tensor | None = None):
        self.objective_of, self.objective, self.first = of, objective, chains
        self.posterior = posterior()

    def init(self, chains: int) -> Count:
        return Count(torch.zeros(chains, dtype=torch.float64) if self.first is None else self.first)

    def step(self, state: Count) -> tuple[Count, Info]:
        new = Count(state.steps + 1)
        at = state if self.objective_of == "argument" else new
        return new, Info(self.objective(at.steps), predictive=lambda: (at.steps,))

    def answer(self, state: Count) -> Answer:
        return Answer(point={"steps": state.steps})


class Averaging:
    """What averages predictions: it remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[list[float]] = []

    def sweep(self, steps: Tensor) -> dict[str, Tensor]:
        return {"sweep": steps}

    def add(self, steps: Tensor) -> None:
        self.given.append(steps.tolist())

    def average(self) -> dict[str, float]:
        return {"average": sum(each[0] for each in self.given) / len(self.given)}


def posterior(hidden: int = 0) -> Any:
    data = SimpleNamespace(hidden=SimpleNamespace(values=range(hidden)), values=torch.zeros(1))
    return SimpleNamespace(shards=None, by_row=(), data=data, running_prediction=Averaging)


@pytest.fixture(autouse=True)
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call steps as they are, and watch nothing."""
    for engine in (sample, optimise):
        monkeypatch.setattr(engine, "Steps", lambda solver: solver.step)
        monkeypatch.setattr(engine, "watches", lambda posterior: False)


def sampled(of: str, megabytes: float | None = None, hidden: int = 0, **settings: int) -> sample._Sampling:
    asked = sample.Sample(name="gibbs", **{"chains": 2, "warmup": 3, "draws": 3, "thin": 2, **settings})
    process = sample._Sampling(posterior(hidden), Counting(of), asked, megabytes)
    process.start()
    return process


@pytest.mark.parametrize(("of", "total"), [("result", 9), ("argument", 10)])
def test_every_second_draw_after_three_is_kept(of, total):
    """Of sweeps 4, 5, 6, ... the fifth, seventh and ninth; one more where a step looks at its argument."""
    process = sampled(of, hidden=2)
    assert process.total == total
    averages = []
    while process.status() is None:
        process.advance()
        averages.append(process.watched().get("average", row(math.nan, math.nan))[0].item())
    draws, log_joint = process.result()
    assert draws["steps"].tolist() == [[5, 7, 9]] * 2
    assert log_joint.tolist() == [[5, 7, 9]] * 2
    assert process.now.sweeps == total
    # Predictions are averaged over every sweep after the warm-up: 4, then (4 + 5) / 2, ...
    assert process.now.predicted.given == [[n, n] for n in range(4, 10)]
    first = total - 6
    assert all(math.isnan(each) for each in averages[:first])
    assert averages[first:] == [4, 4.5, 5, 5.5, 6, 6.5]


def test_before_any_draw_is_kept_the_current_state_is_the_answer():
    process = sampled("result")
    for _ in range(4):
        process.advance()
    draws, log_joint = process.result()
    assert draws["steps"].tolist() == [[4], [4]]
    assert log_joint.isnan().tolist() == [[True], [True]]
    assert process.fixed, "how long it takes can be said"
    process.advance()
    assert process.result()[0]["steps"].tolist() == [[5], [5]]


def test_draws_that_do_not_fit_are_thinned_over_the_same_sweeps():
    """A draw of two chains takes 16 bytes: of six within 48 bytes three, four sweeps apart where two were asked for."""
    process = sampled("result", megabytes=48e-6, draws=6)
    while process.status() is None:
        process.advance()
    assert process.result()[0]["steps"].tolist() == [[7, 11, 15]] * 2


def test_what_grew_is_what_is_new():
    process = sampled("result")
    seen = []
    for _ in range(9):
        process.advance()
        seen.append(process.grown().get("steps", torch.zeros(2, 0)).tolist()[0])
    assert seen == [[], [], [], [], [5], [], [7], [], [9]]
    again = sampled("result")
    again.restore(plain(process.now) | {"storage": {}, "predicted": {}, "density": RunningDensity().state()})
    again.regrow([{"steps": row(5, 7).expand(2, 2)}, {"steps": row(9).expand(2, 1)}])
    assert again.result()[0]["steps"].tolist() == [[5, 7, 9]] * 2
    assert again.grown() == {}


def optimised(of: str, objective: Any, restarts: int = 2, tol: float = 1e-3, **other: Any) -> optimise._Optimisation:
    solver = Counting(of, objective, **{name: value for name, value in other.items() if name == "chains"})
    solver.monotone = other.get("monotone", False)
    process = optimise._Optimisation(posterior(), solver, restarts, other.get("most", 50), tol)
    process.start()
    return process


@pytest.mark.parametrize("of", ["result", "argument"])
def test_a_restart_s_state_is_the_one_of_its_objective(of):
    """Two restarts, at 0 and at 10, climb to 5 and 12 and stay: each ends where its objective first repeats itself."""
    process = optimised(
        of, lambda steps: torch.where(steps < 8, steps.clamp(max=5), steps.clamp(max=12)), chains=row(0, 9)
    )
    while process.status() is None:
        process.advance()
    final = process.final().steps
    assert process.now.objective.tolist() == [5, 12]
    assert final.tolist() == [6, 13], "the first state whose objective is that of the one before"
    assert process.best() == 1
    assert process.status() == "converged"
    steps = {"result": [6, 4], "argument": [7, 5]}[of]
    assert process.now.iterations.tolist() == steps
    assert process.now.codes.tolist() == [0, 0]


def test_a_fall_is_told_and_never_called_converged():
    process = optimised("result", lambda steps: -(steps - 3).abs(), monotone=True, chains=row(0, 2))
    while process.status() is None:
        process.advance()
    assert process.status() == "objective_decreased"
    assert process.now.objective.tolist() == [-1, -1]
    assert process.final().steps.tolist() == [4, 4]
    same = optimised("result", lambda steps: -(steps - 3).abs(), monotone=False, most=9)
    while same.status() is None:
        same.advance()
    assert (same.status(), same.now.iterations.tolist()) == ("max_iterations", [9, 9]), "it may fall"


def test_no_tolerance_asks_for_more_than_the_precision_holds():
    """A change of 1e-13 of the objective is rounding in double precision, whatever the tolerance."""
    process = optimised("result", lambda steps: 1 + 1e-13 * steps, tol=0.0)
    process.advance()
    process.advance()
    assert process.status() == "converged"
    coarse = optimised("result", lambda steps: 1 + 1e-3 * steps, tol=1e-4, most=5)
    while coarse.status() is None:
        coarse.advance()
    assert coarse.status() == "max_iterations"
    wrong = optimised("result", lambda steps: steps * math.nan)
    with pytest.raises(NumericalError, match="after 0 iterations"):
        wrong.advance()


class Ticking(Process):
    """Something of five iterations, each of which takes the clock a second."""

    total = 5

    @dataclass
    class Now:
        done: int = 0

    def start(self) -> None:
        self.now = Ticking.Now()

    def advance(self) -> Tensor:
        self.now.done += 1
        return row(float(self.now.done))

    def status(self) -> Any:
        return "completed" if self.now.done >= self.total else None

    def restore(self, saved: dict[str, Any]) -> None:
        self.now = Ticking.Now(**saved)


def test_a_resumed_run_has_the_seconds_of_all_its_parts(tmp_path, monkeypatch):
    """A clock that is a second later at every look: what the resumed part says goes on from what was saved."""
    clock = itertools.count(100.0)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    settings = Loop(progress=False, checkpoint=tmp_path / "checkpoint.pt", checkpoint_every=1)
    part = Ticking()
    part.total = 3
    first = drive(part, settings, "part")
    saved = loop.read_checkpoint(settings.checkpoint)
    assert saved["iterations"] == 3
    assert 3 <= saved["elapsed"] <= first.seconds
    rest = drive(Ticking(), replace(settings, resume=True), "rest")
    assert rest.trace["objective"].tolist() == [1, 2, 3, 4, 5]
    assert rest.trace["iteration"].tolist() == [1, 2, 3, 4, 5]
    assert rest.trace["seconds"].is_monotonic_increasing
    assert rest.trace["seconds"].iloc[:3].tolist() == first.trace["seconds"].tolist()
    assert rest.trace["seconds"].iloc[3] > saved["elapsed"]
    assert rest.seconds > saved["elapsed"] + 2
    assert (rest.iterations, rest.status) == (5, "completed")


def test_the_last_objectives_of_chains():
    trace = pd.DataFrame({"chain": [0, 2, 0, 2], "objective": [1.0, 2.0, 3.0, 4.0]})
    found = last_objectives(trace, 3)
    assert (found[0], found[2]) == (3, 4)
    assert math.isnan(found[1])


def scout(scores: list[list[float]]) -> Any:
    """Run short runs that see these ELBOs, and return what stands for the process after them."""
    made: list[int] = []
    now = svi.State(scouting=True)
    process = SimpleNamespace(now=now, settings=SimpleNamespace(restarts=len(scores)), made=made, chosen=None)
    process._new_guide = lambda: made.append(now.restart)
    process._new_optimiser = lambda: None
    process.settle = lambda: svi._Stochastic.settle(process)
    for each in scores:
        now.recent, now.step = list(each), len(each)
        svi._Stochastic._end_scouting(process)
    return process


def test_the_best_of_the_short_runs_goes_on(monkeypatch):
    """Scores are means of the later half: -3, -1 and -2, whatever came before."""
    parameters = iter("abc")
    monkeypatch.setattr(svi, "_parameters", lambda: next(parameters))
    kept: list[Any] = []
    monkeypatch.setattr(svi, "_set_parameters", kept.append)
    process = scout([[9.0, 9.0, -2.0, -4.0], [-99.0, -99.0, 0.0, -2.0], [7.0, 7.0, -2.0, -2.0]])
    assert process.now.scores == [-3, -1, -2]
    assert process.now.restart == 1
    assert kept == ["b"]
    assert process.made == [1, 2], "a guide of its own for each of the others"
    assert not process.now.scouting
    assert (process.now.recent, process.now.step) == ([], 0)


def test_an_elbo_has_the_standard_error_of_its_draws(monkeypatch):
    """Losses 1, 3, 5 and 7: ELBO -4, sd sqrt(20 / 3), standard error half of it."""
    monkeypatch.setattr(svi._Stochastic, "losses", lambda self, posterior, count: row(1, 3, 5, 7))
    fit = pyrozoo.fit("zip_mixture", "svi", rows=6, columns=2, num_components=2, progress=False, max_steps=3,
                      restarts=2, restart_steps=2, window=2, draws=2, evaluation_draws=4)  # fmt: skip
    assert fit.objective == -4
    assert fit.metrics["objective_se"] == pytest.approx(math.sqrt(20 / 3) / 2)
    # Two short runs of two steps each, and three steps of the better one.
    assert sorted(fit.runs["iterations"]) == [2, 5]
    assert sorted(fit.runs["status"]) == ["max_iterations", "max_iterations"]
    assert len(pyro.get_param_store().keys()) == 0, "the caller's store is as it was"


def test_windows_say_when_a_stochastic_bound_is_at_rest():
    """Means of windows of two: -10, -5 and -5.02, a change of 0.4%."""
    now = svi.State()
    for tol, ends in ((0.005, [None] * 5 + ["converged"]), (0.003, [None] * 5 + ["max_iterations"])):
        values = iter([10.0, 10.0, 4.0, 6.0, 5.02, 5.02])
        now = svi.State()
        process = SimpleNamespace(
            now=now, svi=SimpleNamespace(step=lambda batch, values=values: next(values)), _batch=lambda: None,
            settings=SimpleNamespace(restarts=1, window=2, tol=tol, max_steps=6), _watch=lambda: None,
        )  # fmt: skip
        found = []
        for _ in range(6):
            objective = svi._Stochastic.advance(process)
            found.append(now.ended)
        assert found == ends
        assert now.smoothed == [-10, -5, pytest.approx(-5.02)]
        assert objective.tolist() == [-5.02]


def test_predictive_densities_are_averaged_inside_the_logarithm():
    """Densities 1/2 and 1/4, and 1 twice: -ln(3/8) and 0, of which the mean is told."""
    average = RunningDensity()
    for value in (0.5, 0.25):
        average.add({"test": torch.tensor([[[value, 1.0]]]).log()})
    assert average.figures()["test_nll"].tolist() == pytest.approx([-math.log(3 / 8) / 2])
    assert [n for n in range(1, 30) if due(n)][:3] == [1, 2, 3]
    looks = [n for n in range(1, 2000) if due(n)]
    assert all(later / sooner < 1.15**2 for sooner, later in itertools.pairwise(looks[10:]))
    assert len(looks) == pytest.approx(math.log(2000) / math.log(1.15), abs=12)


def test_states_are_batches_of_chains():
    state = Count(row(1, 2, 3))
    assert take(state, torch.tensor([2, 0, 2])).steps.tolist() == [3, 1, 3]
    assert join([state, Count(row(4))]).steps.tolist() == [1, 2, 3, 4]
    assert repeated(Count(row(7)), 3).steps.tolist() == [7, 7, 7]
    assert bytes_of(state) == 24
    one = {"a": torch.zeros(2, 5, dtype=torch.float64)}  # 80 bytes
    assert [affordable(10, one, megabytes) for megabytes in (None, 1.0, 800e-6, 799e-6, 1e-9)] == [10, 10, 10, 9, 1]
    assert thinned(3, 10, 2.0) == ["3 of 10 draws are kept, within 2 MB (posterior_megabytes)"]
    assert thinned(10, 10, 2.0) == []


def test_a_gaussian_at_a_mode_has_the_density_that_it_draws_from():
    """Precision [[4, 1], [1, 2]] about (1, -1): covariance [[2, -1], [-1, 4]] / 7, and log q of every draw."""
    precision, mode = torch.tensor([[4.0, 1.0], [1.0, 2.0]]).double(), row(1, -1)
    space = SimpleNamespace(size=2, constrain=lambda values: values, unflatten=lambda vector: {"x": vector},
                            log_jacobian=lambda vector: vector.new_tensor(0.5))  # fmt: skip
    gaussian = laplace.Gaussian(space, ["x"], mode, torch.linalg.cholesky(precision))
    torch.manual_seed(0)
    draws, log_q = gaussian.sample(4000)
    x = draws["x"][0]
    expected = torch.distributions.MultivariateNormal(mode, precision_matrix=precision)
    torch.testing.assert_close(log_q[0], expected.log_prob(x) - 0.5)
    torch.testing.assert_close(x.mean(0), mode, atol=0.05, rtol=0)
    torch.testing.assert_close(x.T.cov(), torch.tensor([[2.0, -1.0], [-1.0, 4.0]]).double() / 7, atol=0.06, rtol=0)
    assert float(gaussian.log_determinant) == pytest.approx(math.log(7))


def test_newton_steps_end_at_the_mode_of_a_normal():
    """From (3, 3) to (1, -1) with minus the Hessian that the density has."""
    precision, mode = torch.tensor([[4.0, 1.0], [1.0, 2.0]]).double(), row(1, -1)

    def density(x: Tensor) -> Tensor:
        return -0.5 * (x - mode) @ precision @ (x - mode)

    start = row(3, 3)
    point, value, hessian = laplace._newton(density, start, float(density(start)), 0)
    torch.testing.assert_close(point, mode, atol=1e-8, rtol=0)
    assert value == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(hessian, precision)


class Settling(Counting):
    """The same with a residual, 1 over the steps made."""

    def step(self, state: Count) -> tuple[Count, Info]:
        new, info = super().step(state)
        return new, Info(info.objective, residual=1 / new.steps)


@pytest.mark.parametrize(
    ("solver", "most", "ends"),
    [(Counting(), 9, (1, "completed")), (Settling(), 9, (4, "converged")), (Settling(), 3, (3, "max_iterations"))],
)  # fmt: skip
def test_what_is_exact_takes_one_step_or_as_many_as_its_residual_asks(solver, most, ends):
    process = direct._Direct(solver, most, 0.25)
    process.start()
    while process.status() is None:
        objective = process.advance()
    assert (process.steps, process.status()) == ends
    assert objective.tolist() == process.now.steps.tolist() == [ends[0]]


def test_a_path_ends_in_the_normal_that_it_goes_through():
    """Of a normal of mean 5 and sd 3 one step of L-BFGS tells the curvature: draws have that mean and sd."""
    torch.manual_seed(0)

    def gradient(x: Tensor) -> tuple[float, Tensor]:
        return float(-0.5 * ((x - 5) / 3).square().sum()), -(x - 5) / 9

    draws = starts.pathfinder(gradient, row(-4), 4000)
    assert draws.shape == (4000, 1)
    assert float(draws.mean()) == pytest.approx(5, abs=4 * 3 / math.sqrt(4000))
    assert float(draws.std()) == pytest.approx(3, rel=0.05)
    assert starts.pathfinder(gradient, row(-4)).shape == (1,)
    nowhere = starts.pathfinder(lambda x: (-math.inf, torch.zeros_like(x)), row(-4), 3)
    assert nowhere.tolist() == [[-4]] * 3


def test_draws_of_a_chain_come_after_its_warm_up():
    chain = Chain(torch.arange(5.0)[:, None], {"lp": torch.arange(5.0)}, torch.arange(5.0))
    vectors, statistics = chain.after(2)
    assert vectors.flatten().tolist() == statistics["lp"].tolist() == [2, 3, 4]
    seeds = {Plan(1, 1, 0.8, 10, seed).chain_seed(chain) for seed in (0, 1) for chain in range(4)}
    assert len(seeds) == 8, "every chain of every seed has its own"


def test_values_are_drawn_as_often_as_they_are_probable():
    """Of three values with 0.6, 0.3 and 0.1, to four standard errors of 20,000 draws: of two no sign would show."""
    share = row(0.6, 0.3, 0.1)
    evaluation = SimpleNamespace(cells=lambda site, now, points, terms: {"prior": share.log()[points.long() - 5]})
    structure: Any = SimpleNamespace(site="z", values=row(5.0, 6.0, 7.0), colours=(), owners=None, terms=("z",))
    drawn = DerivedGibbs._discrete(
        SimpleNamespace(evaluation=evaluation), structure, {"z": torch.full((20_000, 1), 5.0)}
    )
    for value, probability in zip((5, 6, 7), share.tolist(), strict=True):
        error = math.sqrt(probability * (1 - probability) / 20_000)
        assert float((drawn == value).double().mean()) == pytest.approx(probability, abs=4 * error)


@pytest.mark.parametrize(
    ("sizes", "chains", "draws", "warm"), [((10, 5), [0], 8, 2), ((10, 7), [0, 1], 5, 2), ((2, 1), [0, 1], 1, 1)]
)
def test_chains_that_were_cut_short(sizes, chains, draws, warm, monkeypatch):
    """After two of warm-up: 8 draws of one rather than 2 * 3; 2 * 5 rather than 8; the last positions before any."""
    monkeypatch.setattr(nuts, "Way", SimpleNamespace(of=lambda *arguments: None))
    finished = {
        k: SimpleNamespace(
            vectors=torch.stack([row(k, i) for i in range(size)]), statistics={"lp": torch.arange(float(size))}
        )
        for k, size in enumerate(sizes)
    }
    run: Any = SimpleNamespace(
        cut={}, sampler=SimpleNamespace(finished=finished), plan=SimpleNamespace(warmup=2), origin=0
    )
    (kept, figures), (before, _) = nuts._Nuts.result(run)
    assert kept[:, 0, 0].tolist() == chains
    assert (kept.shape[1], before.shape[1]) == (draws, warm)
    shortest = min(sizes[k] for k in chains)
    assert kept[0, -1, 1] == shortest - 1
    assert figures["lp"][0].tolist() == kept[0, :, 1].tolist()
