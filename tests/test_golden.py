"""Fits as they were recorded: what is meant to change no figure changes no bit of what a small fit says.

``python -m tests.test_golden`` records anew, after a change that is meant to change figures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import pyrozoo
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.errors import UserError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.simulate import simulate_data
from pyrozoo.diagnostics.metrics import known
from pyrozoo.run import catalog
from tests.case import PAIRS, case
from tests.inference import test_derived, test_derived_gibbs

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
ONE = {**PYRO, "warmup": 2, "chains": 1}
HIDDEN = {"holdout": 0.2}
SHORT = {"warmup": 6, "draws": 4}
FITS: dict[str, tuple[Any, str, Mapping[str, Any]]] = {
    **{f"{model}-{method}": (model, method, {}) for model, method in PAIRS},
    "zip_mixture-nuts-pyro": ("zip_mixture", "nuts", PYRO),
    "categorical_fa-vem-hidden": ("categorical_fa", "vem", HIDDEN),
    "factor_analysis-gibbs-hidden": ("factor_analysis", "gibbs", HIDDEN),
    "gaussian_mf-cavi-hidden": ("gaussian_mf", "cavi", HIDDEN),
    "poisson_mf-gibbs-hidden": ("poisson_mf", "gibbs", HIDDEN),
    "potts_grid-bp-hidden": ("potts_grid", "bp", HIDDEN),
    "zip_mixture-gibbs-hidden": ("zip_mixture", "gibbs", HIDDEN),
    **{f"{each}-gibbs-derived": (getattr(test_derived_gibbs, each)(), "gibbs", {})
       for each in ("Line", "Batches", "Seeds", "Pumps", "Kinds", "Steps")},
    **{f"Clusters-{method}-derived": (test_derived.Clusters(), method, {}) for method in ("cavi", "em", "svi")},
    "Curved-em-derived": (test_derived.Curved(), "em", {}),
    "Curved-gibbs-derived": (test_derived.Curved(), "gibbs", {}),
    "Clusters-gibbs-derived": (test_derived.Clusters(), "gibbs", {}),
    "Curved-gibbs-slice": (test_derived.Curved(), "gibbs", {"solver": {"other": "slice"}}),
    "Batches-gibbs-alone": (test_derived_gibbs.Batches(), "gibbs", {"solver": {"interweave": False}}),
    "Batches-gibbs-unwritten": (test_derived_gibbs.Batches(), "gibbs", SHORT),
    "Seeds-gibbs-unwritten": (test_derived_gibbs.Seeds(), "gibbs", SHORT),
    # What small fits of every pair leave out: an end by the tolerance, few draws for want of memory, chains in C.
    "zip_mixture-em-ends": ("zip_mixture", "em", {"restarts": 5, "max_iterations": 500, "tol": 1e-5, "moments": 9}),
    "zip_mixture-gibbs-thinned": ("zip_mixture", "gibbs", {"posterior_megabytes": 2e-3, "thin": 3, "moments": 5}),
    "zip_mixture-svi-ends": ("zip_mixture", "svi", {"max_steps": 300, "window": 20, "tol": 1e-2, "particles": 2}),
    "zip_mixture-svi-batches": ("zip_mixture", "svi", {"batch_size": 3, "restarts": 3}),
    "zip_mixture-svi-multivariate": ("zip_mixture", "svi", {"family": "multivariate"}),
    "zip_mixture-nuts-laplace": ("zip_mixture", "nuts", {"start": "laplace", "moments": 9, "target_accept_prob": 0.9}),
    "zip_mixture-nuts-auto": ("zip_mixture", "nuts", {**ONE, "backend": "auto", "start": "prior"}),
}  # fmt: skip
"""Name -> model, method, and settings beside those of the method; without kernels in C where a name says so."""

CHANGES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "categorical_fa": (
        {"latent_dimension": 2}, {"hidden_units": 2}, {"intercepts": False},
        {"latent_dimension": 2, "loadings": "fixed"},
    ),
    "factor_analysis": ({"num_factors": 3}, {"num_factors": 2, "prior": "matrix_normal"}),
    "gaussian_mf": (
        {"num_factors": 3, "offsets": True}, {"num_factors": 2, "offsets": False, "learn_noise": False},
        {"num_factors": 2, "hierarchical": True},
    ),
    "gaussian_mixture": (
        *({"num_components": 3, "covariance_type": each} for each in ("full", "tied", "diagonal", "spherical")),
        {"num_components": 3, "weight_prior": "stick_breaking"},
    ),
    "hidden_markov": tuple(
        {"num_components": 3, "emission": each}
        for each in ("gaussian", "full", "autoregressive", "poisson", "categorical")
    ),
    "logistic_regression": (
        {"intercept": False}, {"likelihood": "normal"}, {"likelihood": "normal", "standardize": False},
    ),
    "poisson_mf": ({"num_factors": 3}, {"num_factors": 2, "hierarchical": True}),
    "potts_grid": ({"num_labels": 4, "coupling": None, "coupling_strength": 0.4},),
    "topics": ({"num_topics": 3}, {"num_topics": 3, "prior": "logistic_normal"}),
    "zip_mixture": ({"num_components": 3, "weight_concentration": 1.5}, {"num_components": 2, "overdispersed": True}),
}  # fmt: skip
"""Model -> what each of several larger fits, of three components or factors, with holes and hidden cells, has other."""

SHAPES: Mapping[str, Mapping[str, int]] = {
    "categorical_fa": {"rows": 12, "columns": 4, "categories": 3},
    "gaussian_mixture": {"rows": 12, "columns": 2},
    "hidden_markov": {"sequences": 3, "steps": 6, "columns": 2},
    "logistic_regression": {"rows": 12, "columns": 2},
    "topics": {"rows": 6, "columns": 7, "tokens": 12},
}
"""Model -> sizes of the data of those; others have 10 rows and 5 columns."""

OPTIONS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "categorical_fa-beta_prior": ({"estimate_scale": True},),
    "categorical_fa-laplace_em": ({"variant": "delta"},),
    "categorical_fa-mc_em": ({"draws": 6, "burn_in": 3},),
    "categorical_fa-vem": ({"zeta": "per_row"},),
    "factor_analysis-cavi": ({"expand": False},),
    "factor_analysis-gibbs": ({"missing": "marginal"}, {"update": "single_site"}, {"plain": True}),
    "factor_analysis-stochastic_em": ({"batch_size": 4, "delay": 2.0, "forgetting": 0.8},),
    "gaussian_mixture-gibbs": ({"collapsed": True},),
    "logistic_regression-ep": ({"schedule": "sequential"}, {"damping": 0.5}),
    "poisson_mf-stochastic_cavi": ({"batch_size": 4, "delay": 2.0, "forgetting": 0.8, "local_steps": 2},),
    "potts_grid-bp": ({"damping": 0.0},),
    "potts_grid-max_product": ({"damping": 0.2},),
    "topics-cavi": ({"start": "random"}, {"empirical_bayes": True, "local_steps": 3}),
    "topics-cvb0": ({"start": "random"},),
    "topics-gibbs": ({"sweeps": 1},),
    "topics-laplace_em": ({"variant": "delta"}, {"words": "variational", "start": "random"}),
    "topics-stochastic_cavi": (
        {"start": "random", "batch_size": 2, "delay": 2.0, "forgetting": 0.8, "local_steps": 2},
    ),
    "topics-vem": ({"start": "random", "local_steps": 2},),
    "zip_mixture-stochastic_em": ({"batch_size": 4, "delay": 2.0, "forgetting": 0.8},),
}
"""Model and method -> options of the solver, each for one more of those fits."""


FEW = {"optimise": {"max_iterations": 12}, "svi": {"max_steps": 12, "restart_steps": 4, "window": 4}}
"""Engine -> how long those fits are."""


def larger() -> Iterator[tuple[str, str, str, Mapping[str, Any], Mapping[str, Any]]]:
    """Return name, model, method, changes of the model, and settings, of fits of other models and other options."""
    for model, changes in CHANGES.items():
        for method in (name for name in catalog.methods(model) if name not in ("laplace", "nuts")):
            few = FEW.get(catalog.settings("inference", method)["engine"], {})
            same = model == "topics" and method in ("laplace_em", "vem")  # which have the second prior only
            for i, change in enumerate(changes[:1] if same else changes):
                yield f"{model}-{method}-{i}", model, method, change, few
                for k, options in enumerate(OPTIONS.get(f"{model}-{method}", ())):
                    yield f"{model}-{method}-{i}-{k}", model, method, change, {**few, "solver": options}
    for method in ("em", "cavi", "gibbs"):
        yield f"zip_mixture-{method}-exposure", "zip_mixture", method, {}, {}
        yield f"poisson_mf-{method}-exposure", "poisson_mf", method, {}, {}


LARGER = {name: rest for name, *rest in larger()}


def versions() -> dict[str, str]:
    """Return what decides which random numbers are drawn."""
    return {"torch": torch.__version__, "numpy": np.__version__, "machine": platform.machine()}


RELATIVE, SIZES, TILTS = 1e-6, 1e-9, 1e-6
"""How near figures must come: processors round sums otherwise in their last place, and steps carry that on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
    """What is remembered of numbers, tensors, tables and text, at any depth.

    Attributes:
        exactly: A digest of names, shapes, whole numbers and text.
        sums: Of each array of other numbers, a weighted sum of their sizes, and how much of it is left of that of
            the numbers themselves: the weights tell places apart.
    """

    exactly: str
    sums: list[float]

    @classmethod
    def of(cls, value: Any) -> Recorded:
        """Return what is remembered of something."""
        sha, sums = hashlib.sha256(), list[float]()

        def add(each: Any) -> None:
            if isinstance(each, Mapping):
                for name in sorted(each):
                    sha.update(f"{name}: ".encode())
                    add(each[name])
            elif isinstance(each, pd.DataFrame):
                add({str(column): each[column].to_numpy() for column in each})
            elif isinstance(each, Tensor):
                add(each.detach().cpu().contiguous().numpy())
            elif isinstance(each, float):
                add(np.array(each))
            elif isinstance(each, np.ndarray | np.generic) and each.dtype != object:
                array = np.ascontiguousarray(each)
                sha.update(f"{list(array.shape)} {array.dtype.str} ".encode())
                if array.dtype.kind == "f":
                    sha.update(np.isfinite(array).tobytes())
                    sums.extend(summed(array))
                else:
                    sha.update(array.tobytes())
            elif isinstance(each, (list, tuple, np.ndarray)):
                sha.update(f"{len(each)} ".encode())
                for one in each:
                    add(one)
            elif dataclasses.is_dataclass(each):
                add({one.name: getattr(each, one.name) for one in dataclasses.fields(each)})
            else:
                sha.update(f"{each!r} ".encode())

        add(value)
        return cls(sha.hexdigest()[:16], sums)

    def __str__(self) -> str:
        return " ".join([self.exactly, *map(repr, self.sums)])

    def __eq__(self, text: Any) -> bool:
        """Return whether this is what a text remembers, but for how processors round."""
        exactly, *numbers = str(text).split()
        sums, mine = (np.array(each, dtype=np.float64).reshape(-1, 2) for each in (numbers, self.sums))
        near = exactly == self.exactly and np.abs(sums - mine) <= RELATIVE * np.abs(sums) + np.array([SIZES, TILTS])
        return bool(np.all(near))


def summed(array: np.ndarray) -> tuple[float, float]:
    """Return the two sums that are remembered of an array, to ten digits."""
    finite = array.ravel().astype(np.float64)
    weighted = np.where(np.isfinite(finite), finite, 0.0) * np.linspace(1, 2, array.size)
    size = float(np.abs(weighted).sum())
    return float(f"{size:.10g}"), round(float(weighted.sum()) / size, 10) if size else 0.0


def said(fit: Fit) -> dict[str, Any]:
    """Return what is read of a fit, but for its seconds: of each kind by itself, so that what changed has a name."""
    several = fit.moments[:: max(1, len(fit.moments) // 4)]
    with seeded(1):
        more = fit.sampler(2) if fit.sampler is not None else ()
    return {
        "objective": Recorded.of(float(fit.objective)),
        "status": fit.status,
        "draws": Recorded.of(fit.draws),
        "about": Recorded.of([{**fit.metrics, "seconds": 0}, fit.iterations, fit.notes]),
        "trace": Recorded.of(fit.trace.drop(columns="seconds")),
        "runs": Recorded.of(fit.runs),
        "beside": Recorded.of([fit.sample_stats, fit.expectations, fit.log_q, more]),
        "moments": Recorded.of([(m.step, m.passes, m.objective, m.kept, m.count, m.sample(2)) for m in several]),
        "densities": Recorded.of([fit.pointwise, fit.log_likelihood, fit.log_joint]),
        "quantities": Recorded.of([fit.invariants, fit.aligned]),
        "simulated": Recorded.of(simulated(fit)),
    }


def simulated(fit: Fit) -> Any:
    """Return starts of the posterior, and what data simulated at a draw say."""
    first = {site: value[0, 0] for site, value in fit.draws.items()}
    with seeded(2):
        start, replica = fit.posterior.initial(2), fit.posterior.replica(first)
    return [
        start, fit.posterior.statistics(replica), fit.posterior.checks(replica),
        fit.posterior.dispersion(replica, first), fit.posterior.orbit(first),
    ]  # fmt: skip


def asked(name: str) -> tuple[Any, str, Any, Mapping[str, Any]]:
    """Return model, method, data and further settings of a fit."""
    if name in LARGER:
        named, method, change, more = LARGER[name]
        model = dataclasses.replace(case(named, method).model, **change)
        sizes = SHAPES.get(named, {"rows": 10, "columns": 5})
        data = simulate_data(model, seed=2, missing=0.0 if named in ("topics", "potts_grid") else 0.1, **sizes)
        if name.endswith("exposure"):
            data = dataclasses.replace(data, exposure=torch.linspace(0.5, 2.0, 10).double())
        return model, method, data, {**HIDDEN, **more}
    model, method, more = FITS[name]
    if isinstance(model, str):
        its = case(model, method)
        return its.model, method, its.tiny, more
    return model, method, simulate_data(model, seed=1, rows=5, columns=6), more


def fitted(name: str) -> dict[str, str]:
    """Return what is recorded of a fit, or why it is refused."""
    model, method, data, more = asked(name)
    threads = torch.get_num_threads()
    try:
        # Figures are tested elsewhere.
        with switched(not name.endswith("unwritten")), patch("pyrozoo.run.fit.evaluate", known):
            fit = pyrozoo.fit(model, method, data=data, **{**COMMON, **SETTINGS.get(method, {}), **more})
        result = said(fit)
    except UserError as error:
        return {"refused": str(error)}
    finally:
        torch.set_num_threads(threads)
    hides = fit.data.hidden is not None and len(fit.data.hidden.values)
    return result | ({"predicted": Recorded.of(fit.prediction(fit.data))} if hides else {})


def record() -> None:
    """Write what every fit gives now."""
    fits = {name: {kind: str(each) for kind, each in fitted(name).items()} for name in (*FITS, *LARGER)}
    GOLDEN.write_text(json.dumps({"versions": versions(), "fits": fits}, indent=1) + "\n", encoding="utf-8")


def recorded() -> dict[str, Any]:
    """Return what has been recorded."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", [*FITS, *LARGER])
def test_fits_are_as_recorded(name):
    golden = recorded()
    # Others draw other numbers; those that the project is installed with are held to the record by the test below.
    if golden["versions"] != versions():
        pytest.skip(f"recorded with {golden['versions']}, these are {versions()}: they draw other random numbers")
    assert name in golden["fits"], "not recorded yet: python -m tests.test_golden"
    expected, found = golden["fits"][name], fitted(name)
    assert {kind for kind in expected if found.get(kind) != expected[kind]} == set()
    assert set(found) == set(expected)


def test_the_record_is_of_the_versions_that_the_project_is_installed_with():
    pinned = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for name in ("torch", "numpy"):
        version = recorded()["versions"][name].split("+")[0]
        assert f"{name}=={version}" in pinned, "python -m tests.test_golden records anew"


def test_what_is_recorded_is_what_is_fitted():
    assert set(recorded()["fits"]) == {*FITS, *LARGER}, "python -m tests.test_golden records anew"


def test_what_is_remembered_tells_figures_apart():
    values = torch.tensor([[1.0, -2.0], [3.0, torch.nan]], dtype=torch.float64)
    known = str(Recorded.of({"a": values, "b": 7, "c": ["text", 0.5]}))
    same = [{"a": values * (1 + 1e-9), "b": 7, "c": ["text", 0.5]}]
    others = [
        {"a": values.flip(0), "b": 7, "c": ["text", 0.5]}, {"a": values * (1 + 1e-5), "b": 7, "c": ["text", 0.5]},
        {"a": -values, "b": 7, "c": ["text", 0.5]}, {"a": values.T, "b": 7, "c": ["text", 0.5]},
        {"a": values.nan_to_num(), "b": 7, "c": ["text", 0.5]}, {"a": values.float(), "b": 7, "c": ["text", 0.5]},
        {"a": values, "b": 8, "c": ["text", 0.5]}, {"a": values, "b": 7, "c": ["texts", 0.5]},
        {"a": values, "b": 7, "c": ["text", 0.51]}, {"d": values, "b": 7, "c": ["text", 0.5]},
    ]  # fmt: skip
    assert [Recorded.of(each) == known for each in same] == [True]
    assert [Recorded.of(each) == known for each in others] == [False] * len(others)


if __name__ == "__main__":
    record()
