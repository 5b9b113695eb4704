"""Run directories that the first house wrote are read, and resumed to the bits that it would have reached."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import pyrozoo
from tests.case import case
from tests.test_golden import GOLDEN, digest, machine

HERE = Path(__file__).parent / "earlier"


def recorded(name: str) -> dict[str, str]:
    return json.loads(GOLDEN.read_text())["fits"][name]


def test_a_run_directory_is_read():
    fit = pyrozoo.load(HERE / "cavi")
    assert digest(fit.draws) == recorded("zip_mixture-cavi")["draws"]
    assert fit.data.same(case("zip_mixture").tiny)
    assert {line.about for line in fit.verdict} >= {"status", "ELBO"}
    assert {"components", "clusters"} <= set(fit.tables)


@pytest.mark.usefixtures("unchecked")
def test_a_checkpoint_is_resumed(tmp_path):
    """Its states hold a residual, which those of today leave to what only watches."""
    golden = json.loads(GOLDEN.read_text())
    if golden["machine"] != machine():
        pytest.skip("recorded on another machine, which rounds otherwise")
    shutil.copytree(HERE / "bp", tmp_path / "run")
    fit = pyrozoo.resume(tmp_path / "run", data=case("potts_grid").tiny)
    assert digest(fit.draws) == recorded("potts_grid-bp")["draws"]
    assert repr(fit.objective) == recorded("potts_grid-bp")["objective"]
