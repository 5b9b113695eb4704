"""Data stand in their file, not in posterior.nc: runs know where from, and refuse a file that is gone or another."""

from __future__ import annotations

import json

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch

import pyrozoo
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.store import origin
from pyrozoo.store.origin import Origin
from pyrozoo.store.run_directory import CONFIG
from tests.case import refused

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")

QUIET = {"num_components": 2, "max_iterations": 3, "restarts": 1, "progress": False}


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    return pd.DataFrame(generator.poisson(2.0, (30, 3)).astype(float), columns=["a", "b", "c"])


def kept(fit, directory):
    """Keep a fit, without tables and pictures."""
    return fit.save(directory, report="none")


def test_a_file_is_not_copied_and_read_again_for_all_runs(table, tmp_path):
    table.iloc[3, 1] = np.nan
    table.to_csv(tmp_path / "own.csv", index=False)
    fit = pyrozoo.fit("zip_mixture", "em", data=tmp_path / "own.csv", holdout=0.2, **QUIET)
    kept(fit, tmp_path / "run")
    first, second = (pyrozoo.load(tmp_path / "run") for _ in range(2))
    assert first.data is second.data, "read once for both"
    assert first.data.same(fit.data)
    assert torch.equal(first.data.hidden.values, fit.data.hidden.values)
    assert torch.equal(first.draws["rate"], fit.draws["rate"])
    stored = az.from_netcdf(tmp_path / "run" / "posterior.nc")
    assert "constant_data" not in stored.groups(), "what is hidden is in no file"
    assert stored.attrs["whole"] == 0
    assert stored["observed_data"]["counts"].dtype == np.float32, "what simulated data are compared by"
    (tmp_path / "own.csv").rename(tmp_path / "run" / "own.csv")
    (tmp_path / "run" / "own.csv").unlink()
    said = f"{tmp_path / 'run'} was fitted to {tmp_path / 'own.csv'}, which is gone"
    assert refused(DataError, pyrozoo.load, tmp_path / "run") == said
    assert refused(DataError, pyrozoo.score, tmp_path / "run", table) == said


def test_a_resumed_run_has_the_file_that_it_had(table, tmp_path):
    path, run = tmp_path / "own.csv", tmp_path / "run"
    table.to_csv(path, index=False)
    pyrozoo.fit("zip_mixture", "em", data=path, directory=run, checkpoint_every=1, **QUIET)
    table.iloc[::-1].to_csv(path, index=False)
    assert refused(DataError, pyrozoo.resume, run) == f"{run} was fitted to {path}, which is not what it was"


def test_large_data_of_python_are_given_again(table, tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "MOST_STORED", 100)
    fit = pyrozoo.fit("zip_mixture", "em", data=table, **QUIET)
    run = kept(fit, tmp_path / "run")
    assert "load('" in refused(SettingError, pyrozoo.load, run)
    again = pyrozoo.load(run, data=table)
    assert again.data.same(fit.data)
    assert refused(DataError, pyrozoo.load, run, data=table + 1).startswith(f"{run} was fitted to other data than")
    simulated = pyrozoo.fit("zip_mixture", "em", rows=30, columns=3, **QUIET)
    again = pyrozoo.load(kept(simulated, tmp_path / "simulated"))
    assert again.data.same(simulated.data)
    assert json.loads((tmp_path / "simulated" / origin.ORIGIN).read_text())["values"]


def test_small_data_of_python_are_stored(table, tmp_path):
    fit = pyrozoo.fit("zip_mixture", "em", data=table, **QUIET)
    run = kept(fit, tmp_path / "run")
    assert pyrozoo.load(run).data.same(fit.data)
    assert not (run / origin.ORIGIN).exists()
    assert (run / CONFIG).is_file()


def test_a_folder_has_the_hash_of_its_files_and_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    before = origin.hash_of_files(tmp_path)
    assert before == origin.hash_of_files(tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    assert origin.hash_of_files(tmp_path) != before


def test_what_was_given_beside_a_file_is_stored_with_it(table, tmp_path):
    """Nobody else has the new rows."""
    table.to_csv(tmp_path / "own.csv", index=False)
    fit = pyrozoo.fit("zip_mixture", "em", data=tmp_path / "own.csv", test=table, **QUIET)
    (tmp_path / "own.csv").unlink()
    assert pyrozoo.load(kept(fit, tmp_path / "run")).data.test.same(fit.data.test)
    assert Origin.read(tmp_path / "run") is None


def test_fits_of_a_model_of_several_sizes_share_what_they_were_fitted_to(tmp_path):
    np.savetxt(tmp_path / "counts.csv", np.random.default_rng(0).poisson(2.0, (12, 3)), fmt="%d", delimiter=",")
    fitted = []
    for number, changes in enumerate(({"num_components": 2}, {"num_components": 3}, {"holdout": 0.2})):
        fit = pyrozoo.fit(
            "zip_mixture", "em", data=tmp_path / "counts.csv", header=False, restarts=1, max_iterations=2,
            progress=False, **changes,
        )  # fmt: skip
        fitted.append(pyrozoo.load(fit.save(tmp_path / str(number), report="none")).data)
    assert fitted[0] is fitted[1]
    assert fitted[2] is not fitted[0]
    assert fitted[2].hidden is not None
