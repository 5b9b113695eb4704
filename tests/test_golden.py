"""Draws as they were recorded: what is meant to change no figure changes no bit of a small fit.

``python -m tests.test_golden`` records anew, after a change that is meant to change figures.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pyrozoo
from pyrozoo.core.errors import UserError
from tests.case import PAIRS, case

GOLDEN = Path(__file__).with_name("golden.json")
COMMON = {"seed": 0, "device": "cpu", "dtype": "float64", "threads": 1, "progress": False}

OPTIMISE = {"restarts": 2, "max_iterations": 40}
SVI = {"max_steps": 40, "restarts": 2, "restart_steps": 5, "window": 10, "draws": 30, "evaluation_draws": 20}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "beta_prior": {**OPTIMISE, "draws": 30},
    "bp": {**OPTIMISE, "draws": 30},
    "cavi": {**OPTIMISE, "draws": 30},
    "cvb0": {**OPTIMISE, "draws": 30},
    "em": OPTIMISE,
    "exact": {"draws": 30, "max_iterations": 40},
    "gibbs": {"chains": 2, "warmup": 20, "draws": 20, "thin": 2},
    "ep": {**OPTIMISE, "draws": 30},
    "icm": OPTIMISE,
    "jaakkola_jordan": {**OPTIMISE, "draws": 30},
    "laplace": {"restarts": 2, "max_iterations": 100, "draws": 30},
    "laplace_em": OPTIMISE,
    "max_product": OPTIMISE,
    "mc_em": {"restarts": 1, "max_iterations": 20},
    "mle": OPTIMISE,
    "nuts": {"backend": "nutpie", "chains": 2, "warmup": 20, "draws": 10, "max_tree_depth": 5},
    "pca": {"solver": {"fill": "mean"}},
    "ppca": {"solver": {"fill": "mean"}},
    "stochastic_cavi": {**OPTIMISE, "draws": 30},
    "stochastic_em": OPTIMISE,
    "svi": SVI,
    "vae": {**SVI, "batch_size": 16},
    "vem": OPTIMISE,
}
"""Method -> its settings in every fit recorded; a method without a line is fitted as conf says."""

PYRO = {"backend": "pyro", "warmup": 10, "draws": 5, "max_tree_depth": 4}
HIDDEN = {"holdout": 0.2}
FITS: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    **{f"{model}-{method}": (model, method, {}) for model, method in PAIRS},
    "zip_mixture-nuts-pyro": ("zip_mixture", "nuts", PYRO),
    "categorical_fa-vem-hidden": ("categorical_fa", "vem", HIDDEN),
    "factor_analysis-gibbs-hidden": ("factor_analysis", "gibbs", HIDDEN),
    "gaussian_mf-cavi-hidden": ("gaussian_mf", "cavi", HIDDEN),
    "poisson_mf-gibbs-hidden": ("poisson_mf", "gibbs", HIDDEN),
    "potts_grid-bp-hidden": ("potts_grid", "bp", HIDDEN),
    "zip_mixture-gibbs-hidden": ("zip_mixture", "gibbs", HIDDEN),
}
"""Name -> model, method, and settings beside those of the method."""


def machine() -> dict[str, str]:
    """Return what decides how figures are rounded."""
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def digest(values: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: of their names, shapes, and bits."""
    sha = hashlib.sha256()
    for name in sorted(values):
        array = values[name].detach().cpu().contiguous().numpy()
        array = array.astype(array.dtype.newbyteorder("<"))
        sha.update(f"{name} {list(array.shape)} {array.dtype.str} ".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def fitted(name: str) -> dict[str, str]:
    """Return what is recorded of a fit: its draws, objective and end, or why it is refused."""
    model, method, more = FITS[name]
    its = case(model, method)
    threads = torch.get_num_threads()
    try:
        fit = pyrozoo.fit(its.model, method, data=its.tiny, **{**COMMON, **SETTINGS.get(method, {}), **more})
    except UserError as error:
        return {"refused": str(error)}
    finally:
        torch.set_num_threads(threads)
    result = {"draws": digest(fit.draws), "objective": repr(float(fit.objective)), "status": fit.status}
    return result | ({"predicted": digest({"mean": fit.prediction(fit.data).mean})} if "holdout" in more else {})


def record() -> None:
    """Write what every fit gives now."""
    fits = {name: fitted(name) for name in FITS}
    GOLDEN.write_text(json.dumps({"machine": machine(), "fits": fits}, indent=1) + "\n", encoding="utf-8")


def recorded() -> dict[str, Any]:
    """Return what has been recorded."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", FITS)
def test_fits_are_as_recorded(name):
    golden = recorded()
    if golden["machine"] != machine():
        pytest.skip(f"recorded on {golden['machine']}, this is {machine()}: other machines round otherwise")
    assert name in golden["fits"], "not recorded yet: python -m tests.test_golden"
    assert fitted(name) == golden["fits"][name]


def test_what_is_recorded_is_what_is_fitted():
    assert set(recorded()["fits"]) == set(FITS), "python -m tests.test_golden records anew"


if __name__ == "__main__":
    record()
