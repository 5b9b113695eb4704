"""Rows in shards: the same answers as rows together, whatever the number of processes."""

from __future__ import annotations

import hashlib
import itertools
import os
import traceback
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.shards import Shards, edges_of
from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.core.world import Sum, World, close, nodes_of, shares, world
from pyrozoo.data import shards as module
from pyrozoo.data.shards import some_rows, split, together
from pyrozoo.data.simulate import simulate_data
from pyrozoo.inference.state import reported, take
from pyrozoo.models.categorical_fa import mc_em
from pyrozoo.run import catalog
from pyrozoo.run.fit import Run, configuration
from tests.case import PAIRS, case, pairs, refused, solver_class

SHARDED = [
    (model, method)
    for model, method in (*pairs(engine="optimise"), *pairs(engine="sample"), *pairs(engine="direct"))
    if solver_class(model, method).by_row is not None
]
VARIANTS = {
    "zip_mixture": [{}, {"overdispersed": True}],
    "poisson_mf": [{}, {"hierarchical": True}],
    "categorical_fa": [{}, {"intercepts": False}, {"loadings": "fixed", "latent_dimension": 2}, {"hidden_units": 3}],
    "factor_analysis": [
        {},
        {"num_factors": 2, "prior": "matrix_normal", "loadings_covariance": (1.0, 0.5)},
        {"solver.missing": "marginal"},
    ],
    "gaussian_mf": [{"offsets": False, "learn_noise": False}, {}, {"hierarchical": True}],
}
"""Model -> settings of models, and of solvers, with which solvers go other ways."""

FILLED = {"fill": "mean"}
OPTIONS = {
    "stochastic_cavi": {"batch_size": 10**6, "local_tol": 0.0}, "stochastic_em": {"batch_size": 10**6},
    "pca": FILLED, "ppca": FILLED,
}  # fmt: skip
"""Options under which a method does the same with rows in shards."""

AXES = "pca", "ppca"
"""Methods whose loadings have any sign."""

REFUSED = {("cavi", "overdispersed"), ("mle", "hierarchical")}
REFUSED |= {(method, "hidden_units") for method in ("vem", "mc_em", "beta_prior")}
REFUSED |= {(method, "solver.missing") for method in ("em", "stochastic_em", "cavi", *AXES)}
"""Methods that cannot have a setting."""

CASES = [
    pytest.param(model, method, variant, id=f"{model}-{method}-{number}")
    for model, method in SHARDED
    for number, variant in enumerate(VARIANTS.get(model, [{}]))
    if not any((method, option) in REFUSED for option in variant)
]
REPLICAS, MOST_SIGMAS = 300, 5.5


def posteriors(model: str, method: str, variant: dict[str, object]) -> tuple[Posterior, Posterior]:
    """Return the posterior of small data with holes, and the same in three shards, where few rows stand for all."""
    its = case(model, method)
    of = replace(its.model, **variant)
    data = simulate_data(of, seed=1, missing=0.1, **its.larger)
    data = some_rows(data, torch.arange(50))
    whole = Posterior.of(of, data)
    with mock.patch.object(module, "MOST_SAMPLED", data.values.numel() // 3):
        found = split(whole, 3, World())
    assert found.data.shape[0] < 20
    return found.of_shard(data), found  # what is left to the data is decided by the same rows


def alike(like: torch.Tensor) -> torch.Tensor:
    """Return normal numbers [C, N, ...], the same for every row, so that rows in shards get those of rows together."""
    drawn = torch.randn(like.shape[2:], generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    return drawn.expand(like.shape)


@pytest.mark.usefixtures("unchecked")  # the laws look at all shapes
@pytest.mark.parametrize(("model", "method", "variant"), CASES)
def test_a_step_on_shards_is_the_step_on_all_rows(model, method, variant):
    """Points and factors to rounding; draws, which come of other streams, on average."""
    own = {name.removeprefix("solver."): value for name, value in variant.items() if name.startswith("solver.")}
    make, options = solver_class(model, method), {**OPTIONS.get(method, {}), **own}
    of = {name: value for name, value in variant.items() if not name.startswith("solver.")}
    whole, shards = (make(each, **options) for each in posteriors(model, method, of))
    with seeded(0):
        state = whole.init(2)
        for _ in range(3):
            state, _ = whole.step(state)
    if whole.kind == "samples":
        state = take(state, torch.zeros(REPLICAS, dtype=torch.long))
    with mock.patch.object(torch, "randperm", torch.arange), mock.patch.object(mc_em, "standard_normal", alike):
        with seeded(1):
            one, info = whole.step(state)
        with seeded(2):
            other, found = shards.step(state)
    if whole.kind != "samples" or whole.objective_of == "argument":
        torch.testing.assert_close(found.objective, info.objective, rtol=1e-12, atol=1e-9)
    for name, value in vars(one).items():
        theirs = getattr(other, name).expand_as(value)
        if name == "loadings" and method in AXES:
            value, theirs = value @ value.mT, theirs @ theirs.mT
        if whole.kind != "samples":
            # Newton's method stops for a block of rows together, and hidden units leave it more to do.
            near = {"rtol": 1e-6, "atol": 1e-6} if "hidden_units" in variant else {"rtol": 1e-11, "atol": 1e-12}
            torch.testing.assert_close(theirs, value, **near)
            continue
        error = ((value.var(0) + theirs.var(0)) / REPLICAS).sqrt().clamp(min=1e-12)
        z = (value.mean(0) - theirs.mean(0)) / error
        assert z.abs().max() < MOST_SIGMAS, (name, z)


@pytest.mark.parametrize(("model", "method"), SHARDED)
def test_a_start_on_shards_has_the_shape_of_one_on_all_rows(model, method):
    whole, shards = (
        solver_class(model, method)(each, **OPTIONS.get(method, {})) for each in posteriors(model, method, {})
    )
    with seeded(0):
        one, other = whole.init(2), shards.init(2)
    assert {name: value.shape for name, value in vars(one).items()} == {
        name: value.shape for name, value in vars(other).items()
    }
    for name in shards.by_row:
        if hasattr(other, name):
            assert getattr(other, name).shape[1] in (1, 50)


@pytest.mark.parametrize("model", ["factor_analysis", "zip_mixture", "gaussian_mf"])
def test_what_is_reported_is_the_q_of_all_rows(model):
    variant = {"hierarchical": True} if model == "gaussian_mf" else {}  # what stands above rows has seen all of them
    _, posterior = posteriors(model, "cavi", variant)
    solver = solver_class(model, "cavi")(posterior)
    with seeded(0):
        state, _ = solver.step(solver.init(2))
    other = solver.of_reported(posterior.reported)
    assert other.posterior is posterior.reported
    draws = []
    for each, at in ((solver, state), (other, reported(posterior, solver, state))):
        with seeded(1):
            draws.append(each.answer(at).draws())
    assert all(torch.equal(draws[0][site], draws[1][site]) for site in draws[0])


def test_what_stands_above_rows_has_seen_all_of_them():
    with mock.patch.object(module, "MOST_REPORTED", 90):
        _, posterior = posteriors("gaussian_mf", "cavi", {"hierarchical": True})
    assert posterior.reported.rows < 50
    solver = solver_class("gaussian_mf", "cavi")(posterior)
    with seeded(0):
        state, _ = solver.step(solver.init(2))
    seen = reported(posterior, solver, state)
    q = solver.of_reported(posterior.reported).answer(seen).q
    assert seen.rows.shape[1] == posterior.reported.rows
    assert q.noise_shape == solver.noise_shape
    assert q.above("row").degrees == posterior.model.wishart_degrees + 50


def test_sums_follow_one_tree():
    """Any split of the shards among processes adds up the same bits, which a plain sum would not."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(1000, generator=generator) for _ in range(13)]
    before = [each.clone() for each in values]

    def added(processes: int) -> torch.Tensor:
        total = Sum()
        for share in shares(13, processes):
            mine = Sum()
            for shard in share:
                mine.add((0, shard), [values[shard]])
                assert len(mine.parts) + len(mine.spare) <= 5, "a logarithm of the shards"
            assert [node for node, _ in mine.parts] == nodes_of(share)
            for node, parts in mine.parts:
                total.add(node, parts)
        return total.total()[0]

    whole = added(1)
    assert all(torch.equal(added(processes), whole) for processes in (2, 3, 4, 13))
    assert all(map(torch.equal, values, before)), "sums are made in memory of their own"
    torch.testing.assert_close(whole, torch.stack(values).sum(0))
    assert not torch.equal(whole, torch.stack(values).sum(0))


def test_rows_taken_apart_and_put_together_are_the_same():
    for name in ("zip_mixture", "poisson_mf"):
        data = simulate_data(case(name).model, seed=2, missing=0.2, **case(name).larger).hold_out(0.1, 3)
        edges = edges_of(data.shape[0], 4)
        parts = [some_rows(data, torch.arange(*edge)) for edge in pairwise(edges)]
        again = together(parts)
        assert again.same(data)
        assert list(again.row_labels) == list(data.row_labels)
        for field in ("rows", "columns", "values"):
            assert torch.equal(getattr(again.hidden, field), getattr(data.hidden, field))


def test_what_cannot_be_in_shards_is_refused():
    data = {"rows": 20, "columns": 3}
    for method, error, said in (
        ("svi", NotApplicable, "svi of zip_mixture does not run on rows in shards"),
        ("em", SettingError, "shards is 11; 20 rows make at most 10"),
    ):
        config = configuration("zip_mixture", method, None, data, shards=11)
        assert said in refused(error, Run.from_config, config)


def started(rank: int, size: int, port: int, directory: Path, methods) -> int:
    """Start one of the processes that fit together, as torchrun would, but from here: nothing is imported anew."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.environ |= {
            "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
        }  # fmt: skip
        world.cache_clear()
        found = fingerprints(directory, methods)
        if rank == 0:
            (directory / "found.txt").write_text(found)
        close()
        code = 0
    except BaseException:
        (directory / f"error-{rank}.txt").write_text(traceback.format_exc())
    finally:
        os._exit(code)


RESUMED = ("zip_mixture", "em"), ("poisson_mf", "cavi"), ("poisson_mf", "gibbs"), ("factor_analysis", "gibbs")
"""Methods of each engine, with and without something by row, in states and in draws."""


ENGINES = {
    "optimise": {"max_iterations": 4, "restarts": 2},
    "sample": {"chains": 2, "warmup": 1, "draws": 3},
    "direct": {},
}
"""Engine -> settings of short fits."""


def own_settings(model: str, method: str) -> dict[str, object]:
    """Return the settings with which a model is one that a method is for."""
    usual, its = (vars(each.model) for each in (case(model), case(model, method)))
    return {name: value for name, value in its.items() if value != usual[name]}


def fingerprints(directory, methods, runs=(False, True)) -> str:
    """Return a line for every method: a hash of the draws of a short fit, of some also resumed from a checkpoint."""
    lines = []
    for model, method in methods:
        place = directory / f"{model}-{method}"
        place.mkdir(exist_ok=True)
        engine = ENGINES[catalog.settings("inference", method)["engine"]]
        sizes = {name: value for name, value in case(model).larger.items() if name != "rows"}
        config = configuration(
            model, method, None, {**own_settings(model, method), **sizes, **engine, "rows": 40},
            shards=5, checkpoint_every=3, progress=False, solver=FILLED if method in AXES else {},
        )  # fmt: skip
        for resume in runs if (model, method) in RESUMED else (False,):
            fit = Run.from_config(config, directory=place, resume=resume).fit()
            bits = b"".join(fit.draws[site].contiguous().numpy().tobytes() for site in sorted(fit.draws))
            lines.append(f"{model} {method} {hashlib.sha256(bits).hexdigest()} {fit.objective!r}")
    return "\n".join(lines)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks")
@pytest.mark.parametrize("methods", [RESUMED, pytest.param(SHARDED, marks=pytest.mark.slow)], ids=["some", "all"])
def test_two_processes_get_the_bits_of_one(methods, tmp_path):
    """Also from a checkpoint, which each of them writes for its own rows, and one goes on with."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    torch.set_num_threads(1)
    # First: what it imports and compiles, forks need not.
    expected = fingerprints(tmp_path / "one", methods).splitlines()
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [started(rank, 2, store.port, tmp_path / "two", methods) for rank in range(2)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes]
    assert ends == [0, 0], [path.read_text() for path in (tmp_path / "two").glob("error-*.txt")]
    lines = (tmp_path / "two" / "found.txt").read_text().splitlines()
    assert lines == expected
    assert len(lines) == len(set(lines)) + len(RESUMED), "a resumed fit is the fit that was not stopped"
    alone = fingerprints(tmp_path / "two", RESUMED, (True,)).splitlines()
    assert set(alone) <= set(lines), "a fit of two processes that one goes on with"


def test_rows_of_other_processes_are_taken_up():
    """Whatever the numbers of processes, rows come in order, those that are reported on, too."""
    rows, count = torch.arange(50), 7
    chosen = evenly(50, 20)
    for before, after in itertools.product((1, 2, 3, 4, 7), repeat=2):
        worlds = {size: [World(rank, size) for rank in range(size)] for size in (before, after)}
        seen = SimpleNamespace(data=chosen)
        own = {size: [Shards(each, count, 50, (), (), seen) for each in worlds[size]] for size in worlds}
        spans = [(each.share.start * 50 // count, each.share.stop * 50 // count) for each in own[before]]
        whole = [rows[start:stop][None] for start, stop in spans]
        some = [chosen[(chosen >= start) & (chosen < stop)][None, None] for start, stop in spans]
        for values, options, expected in ((whole, {}, rows), (some, {"axis": 2, "chosen": True}, chosen)):
            found = [
                each.taken([values[i] for i in each.holders(before)], before, **options).flatten()
                for each in own[after]
            ]
            assert torch.equal(torch.cat(found), expected)


def test_methods_of_the_large_models_run_on_shards():
    """What the documentation promises."""
    promised = {("zip_mixture", "em"), ("zip_mixture", "cavi"), ("zip_mixture", "gibbs"), ("poisson_mf", "cavi")}
    assert promised <= set(SHARDED) <= set(PAIRS)
