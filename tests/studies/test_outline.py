"""A comparison of run directories reads an outline of each."""

from __future__ import annotations

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import pyrozoo
from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.diagnostics import outline
from pyrozoo.store.groups import Groups
from pyrozoo.store.tables import write_table
from pyrozoo.studies.compare.page import compare_directories

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")


def test_a_comparison_of_directories_is_that_of_the_fits_and_reads_little(tmp_path, monkeypatch):
    monkeypatch.setattr(outline, "MOST_LINES", 20)
    settings = {
        "em": {"max_iterations": 20, "restarts": 2},
        "gibbs": {"warmup": 20, "draws": 40, "thin": 1, "chains": 2},
        "cavi": {"max_iterations": 20, "restarts": 2},
    }
    sizes = {"rows": 30, "columns": 10, "num_factors": 2, "progress": False}
    fits = [pyrozoo.fit("gaussian_mf", name, **sizes, **more) for name, more in settings.items()]
    paths = [fit.save(tmp_path / fit.method, report="none") for fit in fits]
    compared = pyrozoo.compare(fits)
    assert len(compared.parameters) == 3 * ((20 + 10) * 3 + 2), "of 20 rows and 10 columns"

    read, opened = [], Groups.__getitem__
    monkeypatch.setattr(Groups, "__getitem__", lambda self, name: read.append(name) or opened(self, name))
    monkeypatch.setattr(HandBuilt, "log_likelihood", None)
    compare_directories(paths, tmp_path / "all")
    assert not {"posterior", "log_likelihood", "posterior_predictive"} & set(read)
    for name in ("parameters", "invariants"):
        write_table(tmp_path / f"{name}.csv", getattr(compared, name))
        assert_frame_equal(*(pd.read_csv(folder / f"{name}.csv") for folder in (tmp_path, tmp_path / "all")), rtol=1e-5)
