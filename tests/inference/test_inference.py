"""What all engines share: interruption, checkpoints, resuming, refusal of settings out of range."""

from __future__ import annotations

import importlib
import os
import signal
import time

import numpy as np
import pytest
import torch

import pyrozoo
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, NotApplicable, NumericalError, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.grid import Grid
from pyrozoo.inference.loop import Process, drive, read_checkpoint
from pyrozoo.inference.optimise import draw_from
from pyrozoo.inference.state import bytes_of, take
from pyrozoo.math.linear_algebra import safe_cholesky
from pyrozoo.math.multinomial import choose
from pyrozoo.models.potts_grid import bp
from pyrozoo.models.potts_grid.model import PottsGrid

pytestmark = pytest.mark.usefixtures("unchecked")  # the laws look at all shapes

SIZES = {"rows": 60, "columns": 4, "num_components": 3, "progress": False}
RUNS = {
    "em": {"restarts": 6, "max_iterations": 60, "tol": 0.0},
    "cavi": {"restarts": 6, "max_iterations": 60, "tol": 0.0, "draws": 20},
    "gibbs": {"chains": 3, "warmup": 20, "draws": 30, "thin": 2},
    "svi": {"max_steps": 60, "restarts": 3, "restart_steps": 15, "window": 20, "draws": 20, "evaluation_draws": 5},
    "laplace": {"restarts": 4, "max_iterations": 30, "draws": 20},
    "nuts": {"chains": 3, "warmup": 8, "draws": 10, "max_tree_depth": 3},
}


def same(a, b):
    assert a.status == b.status
    assert a.objective == b.objective
    for site, value in a.draws.items():
        assert torch.equal(value, b.draws[site]), site
    assert a.trace[["iteration", "chain", "objective"]].equals(b.trace[["iteration", "chain", "objective"]])


def interrupt_at(monkeypatch, iteration):
    """Press Ctrl-C in the middle of a given iteration of any engine."""

    def driving(process, settings, description):
        advance, count = process.advance, 0

        def counted():
            nonlocal count
            count += 1
            if count == iteration:
                os.kill(os.getpid(), signal.SIGINT)
            return advance()

        process.advance = counted
        return drive(process, settings, description)

    for engine in ("optimise", "sample", "svi", "laplace", "nuts"):
        monkeypatch.setattr(importlib.import_module(f"pyrozoo.inference.{engine}"), "drive", driving)


@pytest.mark.parametrize("at", [31, *(pytest.param(at, marks=pytest.mark.slow) for at in (5, 47))])
@pytest.mark.parametrize("method", sorted(RUNS))
def test_interrupted_then_resumed_is_the_uninterrupted_run(method, at, tmp_path, monkeypatch, undrawn):
    whole = pyrozoo.fit("zip_mixture", method, seed=3, **SIZES, **RUNS[method])
    with monkeypatch.context() as patch:
        interrupt_at(patch, at)
        part = pyrozoo.fit(
            "zip_mixture", method, seed=3, checkpoint_every=7, directory=tmp_path, **SIZES, **RUNS[method]
        )
    assert part.status == "interrupted"
    assert len(part.trace) < len(whole.trace)
    assert all(torch.isfinite(value).all() for value in part.draws.values())
    part.save(tmp_path)  # the partial result is a valid one
    assert pyrozoo.load(tmp_path).status == "interrupted"
    same(pyrozoo.resume(tmp_path), whole)


def test_resume_changes_only_what_leaves_the_run_the_same(tmp_path):
    run = {"max_iterations": 20, "tol": 0.0, "checkpoint_every": 5, "directory": tmp_path}
    data = [[1, 0], [0, 3], [2, 2], [0, 4]]
    pyrozoo.fit("zip_mixture", "em", data=data, num_components=2, progress=False, **run)
    with pytest.raises(SettingError, match="restarts"):
        pyrozoo.resume(tmp_path, data=data, restarts=3)
    with pytest.raises(SettingError, match="given its data in Python"):
        pyrozoo.resume(tmp_path)
    assert pyrozoo.resume(tmp_path, data=data, max_iterations=30).iterations == 30


@pytest.mark.parametrize("method", ["cavi", "gibbs", "nuts"])
def test_the_earliest_interrupt_leaves_a_valid_result(method, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        fit = pyrozoo.fit("zip_mixture", method, **SIZES, **RUNS[method])
    assert fit.status == "interrupted"
    fit.save(tmp_path / "run")
    assert pyrozoo.load(tmp_path / "run").status == "interrupted"


def test_numpy_scalars_are_numbers(tmp_path):
    settings = {"num_components": np.int64(2), "rate_rate": np.float64(1), "weight_concentration": np.ones(2) * 2}
    fit = pyrozoo.fit("zip_mixture", "em", rows=30, columns=3, progress=False, **settings)
    fit.save(tmp_path / "run")


def test_second_interrupt_is_pythons_own():
    class Stuck(Process):
        total = 3

        def start(self): ...

        def status(self):
            return None

        def advance(self):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        drive(Stuck(), Loop(progress=False), "stuck")


def test_checkpoints_are_plain_and_checked(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(DataError, match="no checkpoint"):
        read_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="not a readable checkpoint"):
        read_checkpoint(path)
    torch.save({"iterations": 1, "evil": os.system}, path)
    with pytest.raises(DataError, match="not a readable checkpoint"):
        read_checkpoint(path)


def test_the_callers_signal_handler_is_restored():
    before = signal.getsignal(signal.SIGINT)
    pyrozoo.fit("zip_mixture", "em", restarts=1, max_iterations=3, **SIZES)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ("em", {"restarts": 0}, "inference.restarts"),
        ("em", {"restarts": "many"}, r"inference.restarts is 'many'; it must be a whole number"),
        ("em", {"tol": "small"}, "inference.tol"),
        ("gibbs", {"thin": 0}, "inference.thin"),
        ("gibbs", {"chains": 0}, "inference.chains"),
        ("svi", {"learning_rate": -1.0}, "learning_rate"),
        ("svi", {"batch_size": 0}, "batch_size"),
        ("nuts", {"target_accept_prob": 1.5}, "target_accept_prob"),
        ("laplace", {"restarts": 0}, "inference.restarts"),
        ("em", {"restart": 3}, "did you mean 'restarts'"),
        ("em", {"dtype": "float16"}, "dtype"),
        ("em", {"device": "tpu"}, "device"),
        ("em", {"checkpoint_every": 0, "directory": "x"}, "checkpoint_every"),
        ("em", {"checkpoint_every": 5}, "go together"),
        ("em", {"tol": float("nan")}, "inference.tol"),
        ("em", {"tol": -1.0}, "inference.tol"),
        ("em", {"seed": -1}, "seed is -1"),
        ("em", {"data_seed": -1}, "data.seed"),
        ("em", {"missing": "abc"}, "data.missing"),
        ("em", {"posterior_megabytes": float("inf")}, "posterior_megabytes"),
        ("nuts", {"max_tree_depth": 0}, "max_tree_depth"),
        ("em", {"holdout": 2.0}, "holdout"),
        ("em", {"rows": 0}, "rows"),
        ("em", {"data": "no_such_thing"}, "no_such_thing"),
        ("emm", {}, "did you mean 'em'"),
    ],
)
def test_settings_out_of_range_are_named(method, settings, says):
    with pytest.raises(SettingError, match=says):
        pyrozoo.fit("zip_mixture", method, **settings)


@pytest.mark.parametrize("method", ["nuts", "laplace"])
def test_too_large_a_problem_is_refused_with_the_limit(method):
    with pytest.raises(NotApplicable, match="limited to 10 unknowns"):
        pyrozoo.fit("zip_mixture", method, max_unknowns=10, progress=False)


def test_float32_refuses_counts_that_it_cannot_hold():
    with pytest.raises(DataError, match=r"dtype=float32.*float64"):
        pyrozoo.fit("zip_mixture", "em", data=[[1e7, 2], [3, 4]], dtype="float32")


@pytest.mark.slow
def test_minibatches_estimate_the_same_elbo():
    sizes = {"rows": 400, "columns": 5, "num_components": 2, "progress": False, "seed": 1}
    run = {"max_steps": 400, "restarts": 1, "window": 200, "draws": 100, "evaluation_draws": 50, "tol": 0.0}
    whole = pyrozoo.fit("zip_mixture", "svi", **sizes, **run)
    batches = pyrozoo.fit("zip_mixture", "svi", batch_size=64, **sizes, **run)
    assert batches.objective == pytest.approx(whole.objective, rel=0.01)
    noise = batches.trace["objective"].tail(100).mean()
    assert noise == pytest.approx(batches.objective, rel=0.02), "minibatch gradients are scaled to the whole"


def test_every_restart_is_kept():
    fit = pyrozoo.fit("zip_mixture", "em", restarts=9, **SIZES)
    assert len(fit.runs) == 9
    assert fit.objective == fit.runs["objective"].max()
    assert set(fit.trace["chain"]) == set(range(9))
    for chain, row in fit.runs.set_index("chain").iterrows():
        path = fit.trace[fit.trace["chain"] == chain]
        assert (len(path), path["objective"].iloc[-1]) == (row["iterations"], row["objective"])


def test_safe_cholesky(caplog):
    matrix = torch.ones(3, 3).double()
    factor = safe_cholesky(matrix, "ones")
    assert "ones needed a jitter" in caplog.text
    torch.testing.assert_close(factor @ factor.T, matrix, atol=1e-3, rtol=0)
    with pytest.raises(NumericalError, match="minus one"):
        safe_cholesky(-torch.eye(2).double(), "minus one")


def test_draws_from_q_copy_no_state(monkeypatch):
    """Chains of a state that draws are made from are views of one, in blocks; the blocks draw as one would."""
    posterior = Posterior.of(PottsGrid(3, 2.0, None, 0.8), Grid.of(np.arange(600).reshape(20, 30) % 3))
    solver, seen = bp.Solver(posterior), []
    state, answer = solver.after(3), solver.answer
    monkeypatch.setattr(solver, "answer", lambda state: seen.append(state.messages) or answer(state))
    with seeded(0):
        copied = answer(take(state, torch.zeros(50, dtype=torch.long)))
        draws = copied.draws()
    with seeded(0):
        whole, _ = draw_from(solver, state, 50)
    monkeypatch.setattr("pyrozoo.inference.optimise.MOST_BYTES", 8 * bytes_of(state))
    with seeded(0):
        blocks, log_q = draw_from(solver, state, 50)
    assert [len(each) for each in seen] == [50, 8, 8, 8, 8, 8, 8, 2]
    assert all(each.stride(0) == 0 for each in seen)
    assert torch.equal(whole["label"][0], draws["label"])
    assert torch.equal(blocks["label"][0], draws["label"])
    assert torch.equal(log_q[0], copied.log_q(draws))


def test_choosing_one_of_few_is_choosing_by_cumulative_sums():
    prob = torch.rand(7, 40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for many in (prob, prob[:1].expand(9, -1, -1), prob.repeat(1, 1, 4), prob[0, 0]):
        with seeded(1):
            chosen = choose(many)
        with seeded(1):
            uniform = torch.rand(many.shape[:-1], dtype=torch.float64)
        cumulative = many.cumsum(-1)
        assert torch.equal(chosen, (cumulative[..., :-1] <= (uniform * cumulative[..., -1]).unsqueeze(-1)).sum(-1))
