"""Run directories that the first house wrote are read, and resumed to the bits that it would have reached."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from torch import Tensor

import pyrozoo
from tests.case import case

HERE = Path(__file__).parent / "earlier"
CAVI = "04b61d0f0120bf6907f29ba96deb4fd38d874bd4a0699d06837c6223ec5a1735"
BP = "b42a2786f3b5175d7bc2b0a0d38d161af16cfb5b09f8c3a6e01c77d3535a81d3"
"""Digests of the draws that they hold, and would have reached."""


def digest(values: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: of their names, shapes, and bits, as it was taken then."""
    sha = hashlib.sha256()
    for name in sorted(values):
        array = values[name].detach().cpu().contiguous().numpy()
        array = array.astype(array.dtype.newbyteorder("<"))
        sha.update(f"{name} {list(array.shape)} {array.dtype.str} ".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def test_a_run_directory_is_read():
    fit = pyrozoo.load(HERE / "cavi")
    assert digest(fit.draws) == CAVI
    assert fit.data.same(case("zip_mixture").tiny)
    assert {line.about for line in fit.verdict} >= {"status", "ELBO"}
    assert {"components", "clusters"} <= set(fit.tables)


@pytest.mark.usefixtures("unchecked")
def test_a_checkpoint_is_resumed(tmp_path):
    """Its states hold a residual, which those of today leave to what only watches."""
    shutil.copytree(HERE / "bp", tmp_path / "run")
    fit = pyrozoo.resume(tmp_path / "run", data=case("potts_grid").tiny)
    assert digest(fit.draws) == BP
