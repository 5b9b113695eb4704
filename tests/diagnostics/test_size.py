"""What looks at a fit costs a bounded amount whatever the number of rows: an even choice of units stands for all."""

from __future__ import annotations

import math

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp

import pyrozoo
from pyrozoo.contracts import posterior as contract
from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.view import named
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.data.triplets import Triplets
from pyrozoo.diagnostics import metrics, predictive
from pyrozoo.math.pareto import leave_one_out, tail_shapes
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.report.pictures import standard_pictures
from pyrozoo.store.inference_data import Labels, to_groups
from tests.case import case

pytestmark = pytest.mark.usefixtures("unchecked")  # the laws look at all shapes

FIT = {"progress": False, "restarts": 1, "max_iterations": 20}
PAIRS = {
    "zip_mixture": ("em", {"rows": 90, "columns": 4, "num_components": 2}),
    "factor_analysis": ("cavi", {"rows": 90, "columns": 5, "num_factors": 1, "draws": 40}),
    "poisson_mf": ("cavi", {"rows": 90, "columns": 30, "num_factors": 2, "draws": 40}),
    "gaussian_mf": ("cavi", {"rows": 90, "columns": 12, "num_factors": 2, "draws": 40}),
    "categorical_fa": ("vem", {"rows": 90, "columns": 4}),
    "potts_grid": ("bp", {"rows": 12, "columns": 13, "draws": 40}),
}


def bounded(patch):
    """Let few units stand for all, and few numbers be simulated."""
    for name in ("MOST_UNITS", "FEWEST_UNITS"):
        patch.setattr(contract, name, 40)
    patch.setattr(predictive, "SIMULATIONS", 20)
    patch.setattr(predictive, "MOST_SIMULATED", 20 * 120)


@pytest.fixture(scope="module", params=PAIRS)
def fit(request):
    """Return a fit that is looked at so."""
    method, settings = PAIRS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        bounded(patch)
        return pyrozoo.fit(request.param, method, **FIT, **settings, seed=1)


def test_units_looked_at_say_what_all_say_of_them(fit):
    """Of these units log-likelihoods are those of the whole data; sums are scaled up, unless exact ones are quick."""
    part, whole, (step, found) = fit.looked_at, fit.posterior, fit.pointwise
    assert found.shape[-1] == part.posterior.units == 40
    assert part.units.equal(evenly(whole.units, 40))
    every = whole.pointwise(fit.draws.every(step))
    torch.testing.assert_close(found, every[..., part.units])
    scaled = every.sum(-1) if whole.adds_quickly else found.sum(-1) * (whole.units / 40)
    torch.testing.assert_close(fit.log_likelihood, scaled)
    torch.testing.assert_close(fit.invariants["log_likelihood"], scaled)
    _, joint = fit.log_joint
    torch.testing.assert_close(joint, whole.log_density(fit.draws.every(fit.log_joint[0]), None))
    data = to_groups(fit)
    assert data["log_likelihood"].sizes[whole.unit] == 40
    if whole.unit == "row":
        names = [fit.data.row_labels[i] for i in part.units.tolist()]
        assert list(data["log_likelihood"]["row"].values) == names
    assert f"of 40 of {whole.units} {whole.unit}s, evenly chosen" in " ".join(fit.notes)


def test_information_criteria_of_large_data_are_those_of_the_units_looked_at(fit, monkeypatch):
    exact = metrics.information(fit)
    if fit.model_name not in ("zip_mixture", "categorical_fa"):
        return
    whole = float(fit.posterior.pointwise(fit.draws).sum())
    assert exact["aic"] == pytest.approx(-2 * whole + 2 * exact["free_parameters"])
    assert "information_units" not in exact
    monkeypatch.setattr(metrics, "MOST_WHOLE_EFFORT", 1)
    found = metrics.information(fit)
    assert found["information_units"] == 40
    assert found["aic"] == pytest.approx(-2 * float(fit.pointwise[1].sum()) * 90 / 40 + 2 * exact["free_parameters"])
    assert found["bic"] - found["aic"] == pytest.approx(exact["bic"] - exact["aic"])


def test_labels_that_nothing_has_are_not_made():
    class Unmade:
        def __len__(self):
            return 10**9

    labels = Labels({"row": Unmade(), "column": "ab"})
    assert "row" in labels
    assert "entry" not in labels
    assert list(labels["column"]) == ["a", "b"]


def test_data_are_simulated_for_some_rows_once(fit, monkeypatch):
    bounded(monkeypatch)
    sets, data = predictive.of_fit(fit), to_groups(fit)
    assert sets is predictive.of_fit(fit)
    assert "posterior_predictive" in data
    if fit.model_name == "potts_grid":  # no pixel stands alone
        assert sets.part.posterior is fit.posterior
        return
    found = predictive.checks(fit)
    assert found
    assert all(math.isfinite(value) for value in found.values() if not isinstance(value, str))
    for each, group in ((sets, "posterior_predictive"), (predictive.of_prior(fit), "prior_predictive")):
        assert each.part.posterior.data.shape[0] < fit.data.shape[0]
        assert len(each.checks) == each.count == data[group].sizes["draw"] == 20
    assert "data are simulated for" in " ".join(fit.notes)
    (drawn,) = [make() for make in standard_pictures(fit, data).parts if named(make) in ("predictive", "totals")]
    assert drawn.name == "predictive"


def test_a_prior_without_zeros_lists_few_cells():
    """Ten thousand rows by two thousand columns: data from this prior list every cell, twenty millions of them."""
    rows, columns = 10_000, 2000
    listed = pd.DataFrame({"row": range(rows), "column": np.arange(rows) % columns, "value": 1})
    model = PoissonMF(2, 5.0, 1.0, 5.0, 1.0, False, 1.0)
    posterior = Posterior.of(model, Triplets.of(listed))
    sizes = {"row_factors": (rows, 2), "column_factors": (columns, 2)}
    draws = Draws({site: torch.full((1, 1, *size), 0.005, dtype=torch.float64) for site, size in sizes.items()})
    fit = Fit(posterior, "em", "point", draws, pd.DataFrame(), pd.DataFrame(), "converged", "log_joint", 0.0, 1, 0.0, 0)
    assert posterior.simulated_numbers(next(draws.each())) == pytest.approx(3000)
    assert posterior.most_numbers == 3 * rows * columns
    sets = predictive.of_prior(fit)
    assert float(sets.statistics["share_of_zeros"][1].mean()) < 0.1
    assert sets.count * sets.part.posterior.data.shape[0] * columns <= predictive.MOST_SIMULATED / 3


@pytest.mark.parametrize(("draws", "efficiency"), [(25, 1.0), (400, 0.4), (2000, 1.0)])
def test_pareto_smoothing_of_many_units_is_arviz_one_by_one(draws, efficiency):
    generator = np.random.default_rng(0)
    logs = -generator.gamma(2, 1, (40, draws)) * generator.gamma(1, 1, (40, 1)) - 3
    logs[0], logs[1] = logs[0].round(1), 0.3  # ties, and a constant
    logs[2, : draws // 2] = logs[2, 0]
    weights, shapes = az.psislw(-logs, efficiency)
    elpd, k = leave_one_out(torch.as_tensor(logs), efficiency)
    np.testing.assert_allclose(elpd.numpy(), logsumexp(weights + logs, 1), rtol=1e-7)
    np.testing.assert_allclose(k.numpy(), shapes, rtol=1e-9)
    assert torch.equal(tail_shapes(-torch.as_tensor(logs), efficiency), k)


def test_held_out_entries_are_judged_by_some(monkeypatch):
    fit = pyrozoo.fit("gaussian_mf", "cavi", **FIT, rows=60, columns=12, num_factors=1, holdout=0.3)
    prediction, hidden = fit.held_out
    assert "holdout_of" not in fit.metrics
    monkeypatch.setattr("pyrozoo.contracts.fit.MOST_HELD_OUT", 50)
    for known in (fit._predictions.copy(), []):
        vars(fit).pop("held_out", None)
        fit._predictions[:] = known
        some, which = fit.held_out
        at = evenly(len(hidden.values), 50)
        assert torch.equal(which.values, hidden.values[at])
        torch.testing.assert_close(some.mean, prediction.mean[at])
        assert metrics.held_out(fit)["holdout_of"] == len(hidden.values)
        assert metrics.held_out(fit)["holdout_entries"] == 50


def test_rows_alone_are_data_of_their_own():
    for model in ("zip_mixture", "poisson_mf", "gaussian_mf", "categorical_fa"):
        data = case(model).tiny
        alone = data.only(torch.tensor([0, 1]))
        assert alone.shape == (2, data.shape[1])
        assert alone.total_rows is None
        assert alone.rows.tolist() == [0, 1]
        assert alone.hidden is None
