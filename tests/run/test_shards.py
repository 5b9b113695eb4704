"""Rows in shards are read range by range: the answers of a reading of the whole, from a part of it."""

from __future__ import annotations

import weakref
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import pyrozoo
from pyrozoo.command.files import problem_of
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.minibatches import Left
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.core.world import World
from pyrozoo.data.readers import source
from pyrozoo.data.readers.row_groups import RowGroups
from pyrozoo.run import catalog, shards
from pyrozoo.run.names import model_of
from pyrozoo.run.shards import Ranges
from tests.case import refused
from tests.elsewhere import AWAY
from tests.test_devices import on

QUICK = {"max_iterations": 5, "restarts": 2, "progress": False, "shards": 4, "seed": 1}


@pytest.fixture
def folder(tmp_path):
    """A folder of two Parquet files, a table of counts with holes, in row groups of 7 lines."""
    generator = np.random.default_rng(0)
    values = generator.poisson(2, (50, 3)).astype(float)
    values[generator.random(values.shape) < 0.1] = np.nan
    for name, part in (("a", values[:30]), ("b", values[30:])):
        table = pa.table({f"c{j}": pa.array(part[:, j], from_pandas=True) for j in range(3)})
        (tmp_path / "table").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "table" / f"{name}.parquet", row_group_size=7)
    return tmp_path / "table"


@pytest.fixture
def entries(tmp_path):
    """A Parquet file of a list of counts, every row in one of its row groups, rows in no order."""
    generator = np.random.default_rng(1)
    rows = np.repeat(generator.permutation(40), 5)
    columns = np.concatenate([generator.choice(12, 5, replace=False) for _ in range(40)])
    table = pa.table({"who": rows, "what": [f"w{j}" for j in columns], "times": generator.poisson(2, 200) + 1})
    pq.write_table(table, tmp_path / "list.parquet", row_group_size=25)
    return tmp_path / "list.parquet"


def ranges(path, model: str, **more: object) -> Ranges | None:
    return Ranges.of({"path": str(path), "source": "file", **more}, model_of(catalog.model_settings(model)))


class Second(World):
    """The second of three processes, of which the others meet no mistake."""

    def agreed(self, function):
        return [function()]


def same(one, other) -> None:
    assert one.objective == other.objective
    assert all(value.equal(other.draws[site]) for site, value in one.draws.items())
    assert list(one.data.row_labels) == list(other.data.row_labels)
    assert list(one.data.column_labels) == list(other.data.column_labels)


def read_whole():
    return mock.patch.object(shards, "Ranges", mock.Mock(of=lambda *_, **__: None))


def test_a_folder_is_read_range_by_range(folder):
    """Each of three processes opens the groups of its own rows; what is fitted is what a whole reading gives."""
    found = ranges(folder, "zip_mixture")
    seen: list[int] = []
    with mock.patch.object(RowGroups, "tables", autospec=True, side_effect=RowGroups.tables) as tables:
        count, (part,) = found.parts(3, Second(1, 3))
        seen += [i for call in tables.call_args_list for i in call.args[1]]
    assert (count, part.shape) == (50, (17, 3))
    assert seen == [2, 3, 4, 5]
    assert part.row_labels[0] == "row_16"
    settings = {"num_components": 2, "holdout": 0.0, **QUICK}
    one = pyrozoo.fit("zip_mixture", "em", folder, **settings)
    with read_whole():
        same(one, pyrozoo.fit("zip_mixture", "em", folder, **settings))


def test_a_list_is_read_range_by_range(entries):
    columns = {"row": "who", "column": "what", "value": "times"}
    assert ranges(entries, "poisson_mf") is None, "which columns say what is not named"
    found = ranges(entries, "poisson_mf", **columns)
    _, parts = found.parts(4, World())
    assert [part.shape for part in parts] == [(10, 12)] * 4
    settings = {"num_factors": 2, "holdout": 0.0, **columns, **QUICK}
    one = pyrozoo.fit("poisson_mf", "cavi", entries, **settings)
    with read_whole():
        same(one, pyrozoo.fit("poisson_mf", "cavi", entries, **settings))


def test_cells_are_held_out_shard_by_shard(folder):
    fit = pyrozoo.fit("zip_mixture", "em", folder, num_components=2, holdout=0.2, **QUICK)
    assert len(fit.data.hidden.values) == pytest.approx(0.2 * int(fit.data.observed.sum() / 0.8), abs=4)
    assert np.isfinite(fit.metrics["holdout_rmse"])


def test_what_is_wrong_is_said(folder, entries):
    table = pq.read_table(entries)
    pq.write_table(table.take(np.random.default_rng(0).permutation(200)), entries, row_group_size=25)
    columns = {"row": "who", "column": "what", "value": "times"}
    said = refused(DataError, pyrozoo.fit, "poisson_mf", "cavi", entries, **columns, num_factors=2, **QUICK)
    assert "has lines in several row groups" in said
    for path in folder.glob("*"):
        table = pq.read_table(path)
        pq.write_table(table.set_column(1, "c1", pa.nulls(len(table), pa.float64())), path)
    said = refused(DataError, pyrozoo.fit, "zip_mixture", "em", folder, num_components=2, **QUICK)
    assert "'c1'" in said


def test_a_stream_reads_every_row_group_once_in_a_pass(entries):
    """It fits what is fitted in memory, and memory holds a row group or two."""
    columns = {"row": "who", "column": "what", "value": "times"}
    _, (part,) = ranges(entries, "poisson_mf", **columns).parts(1, World(), stream=True)
    _, (whole,) = ranges(entries, "poisson_mf", **columns).parts(1, World())
    index = torch.tensor([31, 4, 17, 5])
    one, other = part.batch(index), whole.batch(index)
    assert torch.equal(one.values, other.values)
    assert list(one.row_labels) == list(other.row_labels)
    assert (one.total_rows, part.numbers) == (40, 600)
    with seeded(0):
        order, left = Left.all_of(part).next(part, 41)
    assert len(left.rows) == len(left.chunks) == 0
    assert sorted(order.tolist()) == list(range(40))
    assert len(part.source.where(order)[0].unique_consecutive()) == 8  # the file has so many row groups
    settings = {"num_factors": 2, "holdout": 0.0, **columns, **QUICK, "shards": 1}
    settings["solver"] = {"batch_size": 100, "local_tol": 0.0}
    streamed = pyrozoo.fit("poisson_mf", "stochastic_cavi", entries, **settings, stream=True)
    held = pyrozoo.fit("poisson_mf", "stochastic_cavi", entries, **settings)
    assert streamed.objective == pytest.approx(held.objective, rel=1e-9)


def in_order():
    """Let minibatches come as rows are numbered, in memory and in files."""
    return mock.patch.object(torch, "randperm", torch.arange)


TABLES = [("zip_mixture", {"num_components": 2}), ("factor_analysis", {"num_factors": 2})]


@pytest.mark.parametrize(("model", "own"), TABLES, ids=[model for model, _ in TABLES])
def test_a_streamed_table_gives_the_bits_of_one_in_memory(folder, model, own, tmp_path):
    """Of the same minibatches, which go across row groups, with holes; also when it is resumed; memory holds few."""
    settings = {"holdout": 0.0, "solver": {"batch_size": 9}, **QUICK, "shards": 1, **own}
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most, table = 0, Ranges._table

    def counted(self, place):
        nonlocal most
        found = table(self, place)
        alive.add(found.values)
        most = max(most, sum(map(len, alive)))
        return found

    with in_order():
        held = pyrozoo.fit(model, "stochastic_em", folder, **settings)
        with mock.patch.object(Ranges, "_table", counted):
            streamed = pyrozoo.fit(model, "stochastic_em", folder, **settings, stream=True)
    same(held, streamed)
    assert len(held.trace) == 10
    assert most <= 3 * 7  # two are held, and one is being read
    kept = {"checkpoint_every": 2, "directory": tmp_path / "run", "stream": True}
    pyrozoo.fit(model, "stochastic_em", folder, **{**settings, "max_iterations": 2}, **kept)
    whole = pyrozoo.fit(model, "stochastic_em", folder, **settings, stream=True)
    same(pyrozoo.resume(tmp_path / "run", max_iterations=5, progress=False), whole)


@pytest.fixture
def answers(tmp_path):
    """A Parquet file of answers in row groups of 7 lines, of which none has all categories."""
    generator = np.random.default_rng(2)
    codes = np.sort(generator.integers(0, 4, (40, 3)), 0)
    words = np.array(["never", "2", "10", "often"])[codes]
    table = pa.table({f"q{j}": pa.array(words[:, j], mask=generator.random(40) < 0.1) for j in range(3)})
    pq.write_table(table, tmp_path / "answers.parquet", row_group_size=7)
    return tmp_path / "answers.parquet"


GUIDED = [
    ("zip_mixture", "svi", "folder", {"num_components": 2}),
    ("factor_analysis", "svi", "folder", {"num_factors": 1}),
    ("categorical_fa", "vae", "answers", {"latent_dimension": 1}),
]
STEPS = {"max_steps": 12, "window": 6, "restarts": 2, "restart_steps": 2, "draws": 5, "evaluation_draws": 4}


STREAMS = [
    *(
        pytest.param(model, method, where, {"batch_size": 9, **STEPS, **own}, marks=pytest.mark.slow)
        for model, method, where, own in GUIDED
    ),
    *(
        (model, "stochastic_em", "folder", {"max_iterations": 3, "solver": {"batch_size": 9}, **own})
        for model, own in TABLES
    ),
]


@pytest.mark.parametrize(("model", "method", "where", "own"), GUIDED, ids=[f"{g[0]}-{g[1]}" for g in GUIDED])
def test_gradients_of_streamed_minibatches_are_those_of_rows_in_memory(model, method, where, own, request, tmp_path):
    """Bit for bit, also after a resumption in the middle of a pass."""
    settings = {"holdout": 0.0, "batch_size": 9, "progress": False, "seed": 1, **STEPS, **own}
    path = request.getfixturevalue(where)
    with in_order():
        held = pyrozoo.fit(model, method, path, **settings)
        streamed = pyrozoo.fit(model, method, path, **settings, stream=True)
    assert held.trace["objective"].tolist() == streamed.trace["objective"].tolist()
    assert all(value.equal(streamed.draws[site]) for site, value in held.draws.items())
    assert streamed.data.same(held.data)
    error = streamed.metrics["objective_se"] + held.metrics["objective_se"]
    assert streamed.objective == pytest.approx(held.objective, abs=5 * error)
    kept = {"checkpoint_every": 5, "directory": tmp_path / "run", "stream": True}
    pyrozoo.fit(model, method, path, **{**settings, "max_steps": 7, "final_learning_rate": 1.0}, **kept)
    resumed = pyrozoo.resume(tmp_path / "run", max_steps=12, progress=False)
    whole = pyrozoo.fit(model, method, path, **{**settings, "final_learning_rate": 1.0}, stream=True)
    assert resumed.trace["objective"].tolist() == whole.trace["objective"].tolist()


@pytest.mark.parametrize(("model", "method", "where", "own"), STREAMS)
def test_a_stream_goes_to_another_device(model, method, where, own, request, monkeypatch):
    """Minibatches are read here, and are there: the same bits, on a stand-in for a card."""
    settings = {"holdout": 0.0, "dtype": "float64", "progress": False, "stream": True, "seed": 1, **own}
    path = request.getfixturevalue(where)
    with switched(False):
        here = pyrozoo.fit(model, method, path, **settings)
    with on(AWAY, monkeypatch):
        there = pyrozoo.fit(model, method, path, **settings)
    assert {value.device.type for value in there.draws.values()} == {AWAY.type}
    assert all(value.equal(there.draws[site].cpu()) for site, value in here.draws.items())


def test_names_and_mistakes_of_a_streamed_table(folder, tmp_path):
    tables = {path: pq.read_table(path) for path in folder.glob("*")}
    for path, table in tables.items():
        names = pa.array([f"{path.stem}{i}" for i in range(len(table))])
        pq.write_table(table.add_column(0, "site", names), path, row_group_size=7)
    settings = {"num_components": 2, "holdout": 0.0, **QUICK, "shards": 1, "stream": True}
    fit = pyrozoo.fit("zip_mixture", "stochastic_em", folder, **settings)
    assert list(fit.data.row_labels)[29:31] == ["a29", "b0"]
    for path, table in tables.items():
        pq.write_table(table.set_column(1, "c1", pa.nulls(len(table), pa.float64())), path, row_group_size=7)
    assert "'c1'" in refused(DataError, pyrozoo.fit, "zip_mixture", "stochastic_em", folder, **settings)
    for path, table in tables.items():
        pq.write_table(table.set_column(1, "c1", pa.array(np.full(len(table), 0.5))), path, row_group_size=7)
    assert "0.5" in refused(DataError, pyrozoo.fit, "zip_mixture", "stochastic_em", folder, **settings)


def test_what_cannot_be_streamed_is_refused(entries, folder):
    columns = {"row": "who", "column": "what", "value": "times", "num_factors": 2, "stream": True}
    for method in ("cavi", "svi"):
        assert "needs all rows" in refused(NotApplicable, pyrozoo.fit, "poisson_mf", method, entries, **columns)
    said = refused(SettingError, pyrozoo.fit, "poisson_mf", "stochastic_cavi", entries, **columns, holdout=0.1)
    assert "data.holdout=0" in said
    table = {"num_components": 2, "holdout": 0.0, "stream": True}
    assert "batch_size is null" in refused(SettingError, pyrozoo.fit, "zip_mixture", "svi", folder, **table)
    said = refused(NotApplicable, pyrozoo.fit, "zip_mixture", "svi", folder, **table, batch_size=9, shards=2)
    assert "does not run on rows in shards" in said


def test_nobody_reads_all_rows_ahead_of_a_stream(folder, tmp_path):
    """The command looks at files before it imports what is heavy, but for what is read row group by row group."""
    settings = {"data.path": str(folder), "shards": "null"}
    with mock.patch.object(source, "read_ahead", side_effect=source.read_ahead) as ahead:
        assert problem_of("zip_mixture", "file", settings) is None
        assert ahead.call_count == 1
        for more in ({"stream": "true"}, {"shards": "4"}):
            assert problem_of("zip_mixture", "file", settings | more) is None
        assert ahead.call_count == 1
        (tmp_path / "counts.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
        problem_of("zip_mixture", "file", {"data.path": str(tmp_path / "counts.csv"), "stream": "true"})
    assert ahead.call_count == 2
