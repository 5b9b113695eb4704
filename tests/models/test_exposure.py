"""Rows with an exposure: zip_mixture and poisson_mf, held to the laws and to oracles of their own."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

import pyrozoo
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.container import Hidden
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.diagnostics.compare import _moments
from pyrozoo.models.poisson_mf import likelihood
from pyrozoo.models.poisson_mf import queries as factor_queries
from pyrozoo.models.zip_mixture.cellwise import Cellwise
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.run import catalog
from pyrozoo.testing import laws
from pyrozoo.testing.samplers import geweke
from tests.case import case, refused, solver_class
from tests.models import test_poisson_mf, test_zip_mixture

NAN = float("nan")
USES = [name for name in catalog.models() if case(name).model.uses_exposure]
MODELS = [
    *((name, case(name).model) for name in USES),
    ("poisson_mf", test_poisson_mf.HIERARCHICAL),
    ("zip_mixture", dataclasses.replace(test_zip_mixture.MODEL, overdispersed=True)),
]
ORACLES = {"zip_mixture": test_zip_mixture.enumerated, "poisson_mf": test_poisson_mf.enumerated}
TINY = {"zip_mixture": (0.5, 2.0, 1.0, 3.0, 0.25), "poisson_mf": (2.0, 0.5, 3.0)}
SOLVERS = [(name, method) for name in USES for method in catalog.methods(name) if method in ("em", "cavi", "gibbs")]
SOLVERS += [("poisson_mf", "stochastic_cavi"), ("zip_mixture", "stochastic_em")]
pytestmark = pytest.mark.usefixtures("unchecked")


def exposures(rows: int) -> torch.Tensor:
    return torch.tensor(([0.5, 1, 2, 3, 0.7] * rows)[:rows]).double()


def exposed(data, exposure=None):
    return dataclasses.replace(data, exposure=exposures(data.shape[0]) if exposure is None else exposure)


def simulated(model, rows: int = 30, columns: int = 5, missing: float = 0.2):
    return simulate_data(model, seed=5, blank=exposed(model.container.blank(rows, columns)), missing=missing)


def tiny(name: str):
    return exposed(case(name).tiny, torch.tensor(TINY[name]).double())


# Density and solvers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "model"), MODELS)
def test_laws_hold_with_an_exposure(name, model, checked):
    posterior = Posterior.of(model, simulated(model))
    laws.one_density(posterior)
    laws.a_gradient(posterior)
    laws.symmetric(posterior)
    for method in ("em", "gibbs"):
        laws.objective_is_the_joint(solver_class(name, method)(posterior))
    for method in ("em", "cavi") if not getattr(model, "overdispersed", False) else ("em",):
        laws.never_falls(solver_class(name, method)(posterior))


@pytest.mark.parametrize(("name", "method"), SOLVERS)
def test_an_exposure_of_ones_is_none(name, method, checked):
    """Though zip_mixture goes other ways with it: cell by cell rather than by products of matrices."""
    model = case(name).model
    plain = dataclasses.replace(simulated(model), exposure=None)
    ones = exposed(plain, torch.ones(plain.shape[0]).double())
    one, other = (solver_class(name, method)(Posterior.of(model, data)) for data in (plain, ones))
    with seeded(0):
        state = one.init(3)
    with seeded(1):
        expected, info = one.step(state)
    with seeded(1):
        found, same = other.step(state)
    torch.testing.assert_close(same.objective, info.objective, rtol=1e-12, atol=1e-12)
    if method != "gibbs":  # whose draws come in another order
        for field in dataclasses.fields(expected):
            a, b = (getattr(each, field.name) for each in (found, expected))
            torch.testing.assert_close(a, b.expand_as(a), rtol=1e-11, atol=1e-12)
    draws = laws.prior_draws(one.posterior, 4)
    torch.testing.assert_close(other.posterior.pointwise(draws), one.posterior.pointwise(draws), rtol=1e-12, atol=1e-12)
    assert model.derived(ones) == model.derived(plain)


@pytest.mark.parametrize(
    ("name", "method"), [(n, x) for n in USES for x in ("gibbs", "nuts", "cavi", "svi", "laplace")]
)
def test_fits_agree_with_the_oracle(name, method):
    its, data, oracle = case(name), tiny(name), ORACLES[name](TINY[name])
    quick = {"gibbs": {"chains": 16, "draws": 300, "warmup": 200}, "nuts": {"draws": 400, "warmup": 300, "chains": 4}}
    backend = {"backend": "nutpie"} if method == "nuts" else {}
    fit = pyrozoo.fit(
        its.model, method, data=data, progress=False, **{**its.settings[method], **quick.get(method, {}), **backend}
    )
    if method in ("gibbs", "nuts"):
        posterior = Posterior.of(its.model, data)
        found = _moments("ours", fit, posterior.invariants(fit.draws)).set_index("quantity")
        truth = posterior.invariants(Draws(oracle.draws))
        mean = np.concatenate([value[0].mean(0).flatten().numpy() for value in truth.values()])
        sd = np.concatenate([value[0].std(0).flatten().numpy() for value in truth.values()])
        error = (found["mean"].to_numpy() - mean) / np.hypot(found["mcse"], sd / math.sqrt(100_000))
        assert np.abs(error).max() < 5, dict(zip(found.index, error, strict=True))
    elif method == "laplace":
        assert fit.objective == pytest.approx(oracle.log_evidence, abs=its.laplace_error)
    else:
        slack = 4 * float(fit.metrics["elbo_se"])
        assert oracle.log_evidence - its.elbo_gap - slack <= fit.metrics["elbo"] <= oracle.log_evidence + slack


@pytest.mark.parametrize("name", USES)
def test_the_oracle_is_the_programs_evidence(name):
    """By importance sampling from the prior: both are statements of one program."""
    posterior = Posterior.of(case(name).model, tiny(name))
    draws = laws.prior_draws(posterior, 3000)
    weights = posterior.log_likelihood(draws)[0]
    found = float(weights.logsumexp(0)) - math.log(len(weights))
    error = float((weights - found).exp().std()) / math.sqrt(len(weights))
    assert ORACLES[name](TINY[name]).log_evidence == pytest.approx(found, abs=5 * error)


def without(name: str):
    """Plant: a sampler to which every row has exposure 1."""

    def make(posterior):
        return solver_class(name, "gibbs")(posterior.on(dataclasses.replace(posterior.data, exposure=None)))

    return make


@pytest.mark.parametrize("bug", [False, True])
@pytest.mark.parametrize("name", USES)
def test_geweke_with_an_exposure(name, bug):
    its = case(name)
    blank = its.model.container.blank(**its.shape)
    blank = exposed(blank, {"zip_mixture": 4, "poisson_mf": 0.25}[name] * exposures(blank.shape[0]))
    make = without(name) if bug else solver_class(name, "gibbs")
    z = geweke(its.model, blank, make, sweeps=600, seed=11, lose=its.lose).abs().max()
    assert (z > 4.5) == bug, z


@pytest.mark.parametrize("bug", [False, True])
@pytest.mark.parametrize("name", USES)
def test_rates_are_per_unit_of_exposure(name, bug):
    """Ten times the exposure under a tenth of the rates is the same data: so says every method that ends in a point."""
    model = case(name).model
    if name == "zip_mixture":
        model = dataclasses.replace(model, num_components=1, weight_concentration=2.0)
    else:
        model = dataclasses.replace(model, num_factors=1)
    data = simulated(model, 60, 4, missing=0.1)
    cells = torch.tensor([[0, 1], [3, 2], [7, 0]])
    data = data.hide(*cells.T) if isinstance(data, Table) else data.hide(cells)
    rate = "rate_rate" if name == "zip_mixture" else "row_rate"
    scaled = dataclasses.replace(model, **{rate: 10 * getattr(model, rate)})
    fits = [
        pyrozoo.fit(its, "em", data=each, progress=False, restarts=1, tol=1e-14, max_iterations=4000)
        for its, each in ((model, data), (scaled, exposed(data, (1 if bug else 10) * data.exposure)))
    ]
    one, other = (fit.prediction(fit.data) for fit in fits)
    alike = torch.allclose(one.mean, other.mean, rtol=1e-5)
    assert alike != bug, (one.mean, other.mean)


# Predictions ----------------------------------------------------------------------------------------------------------


def test_zip_predictions_use_the_rows_own_exposure():
    """Against a direct sum over components and counts, for one hidden cell of each of two rows."""
    model = ZipMixture(3, 2.0, 2.0, 2.0, 2.0, 1.0)
    data = simulated(model)
    hidden = [tuple(int(i) for i in data.observed.nonzero()[at]) for at in (7, 40)]
    data = data.hide(*(torch.tensor(each) for each in zip(*sorted(hidden), strict=True)))
    draws = laws.prior_draws(Posterior.of(model, data), 1)
    prediction = Posterior.of(model, data).predict(draws)
    draw = {site: value[0, 0] for site, value in draws.items()}
    counts = torch.arange(400).double()
    for at, (row, column) in enumerate(sorted(hidden)):
        on, rate = draw["on_prob"], draw["rate"] * data.exposure[row]
        mass = on * torch.distributions.Poisson(rate).log_prob(data.filled[row]).exp() + (1 - on) * (
            data.filled[row] == 0
        )
        r = torch.softmax(torch.where(data.observed[row], mass.log(), 0.0).sum(-1) + draw["weights"].log(), 0)
        pmf = on[:, column, None] * torch.distributions.Poisson(rate[:, column, None]).log_prob(counts).exp()
        pmf[:, 0] += 1 - on[:, column]
        pmf = (r[:, None] * pmf).sum(0)
        assert float(prediction.mean[at]) == pytest.approx(float((pmf * counts).sum()), rel=1e-9)
        assert float(prediction.log_density[at]) == pytest.approx(float(pmf[int(data.hidden.values[at])].log()))
        assert abs(int(prediction.upper[at]) - int((pmf.cumsum(0) < 0.95).sum())) <= 1


def test_factor_predictions_and_baseline_use_the_rows_own_exposure():
    model = test_poisson_mf.MODEL
    data = simulated(model, missing=0.0).hide(torch.tensor([[0, 1], [3, 2]]))
    draws = laws.prior_draws(Posterior.of(model, data), 1)
    prediction = Posterior.of(model, data).predict(draws)
    theta, eta = draws["row_factors"][0, 0], draws["column_factors"][0, 0]
    rates = data.exposure[[0, 3]] * (theta[[0, 3]] * eta[[1, 2]]).sum(1)
    torch.testing.assert_close(prediction.mean, rates)
    double = exposed(data, 2 * data.exposure)
    torch.testing.assert_close(factor_queries.independent(double), factor_queries.independent(data))
    one = dataclasses.replace(data, hidden=Hidden(torch.tensor([0, 2]), torch.tensor([1, 1]), torch.zeros(2).double()))
    blind = Triplets.of(np.outer(data.exposure.numpy(), [2.0, 3, 1, 4, 5]).round(12) * 10)
    even = dataclasses.replace(blind, hidden=one.hidden, exposure=data.exposure)
    found = factor_queries.independent(even)
    torch.testing.assert_close(found / data.exposure[[0, 2]], torch.full((2,), 30.0).double(), rtol=0.05, atol=0)


def test_new_rows_are_folded_in_by_their_exposure():
    """Given eta, sum_k E theta_k (b + E_n sum_m eta_mk) is K a and all counts: of a row and of a tenth of it."""
    model = case("poisson_mf").model
    data = simulated(model, 40, 6, missing=0.0)
    fit = pyrozoo.fit(model, "cavi", data=data, restarts=2, draws=200, progress=False)
    cells = torch.stack([torch.zeros(6), torch.arange(6), 100 * torch.arange(1, 7)], 1).double()
    once = Triplets(cells, ["new"], data.column_labels, exposure=torch.ones(1).double())
    tenth = dataclasses.replace(once, values=cells * torch.tensor([1, 1, 0.1]), exposure=torch.full((1,), 0.1).double())
    for rows in (once, tenth):
        found = factor_queries.fold_in(fit.posterior, fit.draws, rows)
        rate = model.row_rate + rows.exposure * found["column_factors"].sum(-2)
        total = (found["row_factors"][:, :, 0] * rate).sum(-1).mean()
        expected = model.num_factors * model.row_shape + float(rows.counts.sum())
        assert float(total) == pytest.approx(expected, rel=0.03)
    assert likelihood.row_exposure(torch.ones(1, 6, 2).double(), tenth).flatten().tolist() == pytest.approx([0.6] * 2)


@pytest.mark.parametrize("name", USES)
def test_a_fit_goes_to_disk_and_scores_new_rows_with_their_exposure(name, tmp_path):
    model = case(name).model
    data = simulated(model, 30, 5)
    whole = data.with_test(dataclasses.replace(data.first(30) if name == "zip_mixture" else data.batch(
        torch.arange(3)), row_labels=[f"new_{i}" for i in range(30 if name == "zip_mixture" else 3)], total_rows=None,
        row_index=None, truth={}))  # fmt: skip
    fit = pyrozoo.fit(model, "em", data=whole, restarts=2, holdout=0.1, progress=False)
    assert math.isfinite(fit.metrics["holdout_elpd"])
    again = pyrozoo.load(fit.save(tmp_path / "run"))
    assert torch.equal(again.data.exposure, data.exposure)
    assert torch.equal(again.data.test.exposure, whole.test.exposure)
    frame = again.data.test
    if name == "zip_mixture":
        given = Table.of(np.array([[1, NAN, 2, 0, 3], [1, NAN, 2, 0, 3]]))
        given = dataclasses.replace(given, column_labels=frame.column_labels, exposure=torch.tensor([1.0, 3]))
        with_hours = given.exposure.numpy()
        import pandas as pd

        table = pd.DataFrame(given.values.numpy(), columns=list(given.column_labels)).assign(hours=with_hours)
        expected = again.predict(given)[given.column_labels[1]]
        found = again.predict(table, exposure="hours")[given.column_labels[1]]
        assert found.tolist() == pytest.approx(expected.tolist())
        assert found[1] > 1.5 * found[0]
        said = refused(DataError, again.predict, table.drop(columns="hours"))
        assert "data.exposure=COLUMN" in said


# Data -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Table, Triplets])
def test_an_exposure_goes_where_its_rows_go(kind):
    data = exposed(kind.of(np.arange(1.0, 13).reshape(4, 3)))
    part = data.batch(torch.tensor([2, 0]))
    assert part.exposure.tolist() == [2.0, 0.5]
    assert data.to("cpu", torch.float32).exposure.dtype == torch.float32
    assert not data.same(dataclasses.replace(data, exposure=None))
    assert not data.same(exposed(data, 2 * data.exposure))
    assert data.same(exposed(data))
    assert data.first(2).exposure.shape == (len(data.first(2).row_labels),)
    whole = data.with_test(dataclasses.replace(part, row_labels=["x", "y"]))
    observed, extra = whole.stored("counts")
    arrays = [{name: array for name, (_, array) in each.items()} for each in (observed, extra)]
    coords = {"row": data.row_labels, "column": data.column_labels, "test_row": ["x", "y"]}
    back = kind.restore(*arrays, coords, "counts")
    assert back.same(data)
    assert back.test.exposure.tolist() == [2.0, 0.5]
    older = {name: array for name, array in arrays[1].items() if "exposure" not in name}
    assert kind.restore(arrays[0], older, coords, "counts").exposure is None
    bare, new = (dataclasses.replace(each, exposure=None) for each in (data, part))
    for one, other in ((data, new), (bare, part)):
        assert "data.exposure" in refused(DataError, one.with_test, other)


def test_a_table_with_an_exposure_becomes_triplets_with_one():
    data = exposed(Table.of(np.arange(1.0, 13).reshape(4, 3)))
    assert torch.equal(Triplets.of(data).exposure, data.exposure)


@pytest.mark.parametrize("name", USES)
def test_bad_exposures_are_refused_by_row(name):
    counts = Table.of(np.arange(1.0, 13).reshape(4, 3))
    for bad, named in (([1, 0, 2, -1], ("row_1", "row_3")), ([1, NAN, 2, 1], ("row_1",)), ([1.0, 2], ("4 rows",))):
        data = exposed(counts, torch.tensor(bad).double())
        said = refused(DataError, pyrozoo.fit, name, "em", data=data, progress=False)
        assert all(each in said for each in ("data.exposure", *named))


def test_an_exposure_is_given_as_any_numbers():
    counts = Table.of(np.arange(1.0, 7).reshape(3, 2)).to("cpu", torch.float32)
    for given in ([1, 2, 4], np.array([1.0, 2, 4]), torch.tensor([1, 2, 4])):
        found = counts.with_exposure(given).exposure
        assert (found.tolist(), found.dtype) == ([1.0, 2.0, 4.0], torch.float32)
    for bad, said in ((["a", "b", "c"], "not numbers"), ([1, 0, 2], "row_1"), ([1.0], "3 rows")):
        assert said in refused(DataError, counts.with_exposure, bad)


@pytest.mark.parametrize("name", [name for name in catalog.models() if case(name).model.container is Table])
def test_a_model_without_use_for_an_exposure_says_so(name):
    if name in USES:
        return
    data = exposed(Table.of(np.arange(1.0, 13).reshape(4, 3)))
    said = refused(DataError, pyrozoo.fit, name, catalog.methods(name)[0], data=data, progress=False)
    assert f"{name} has no use for an exposure (data.exposure)" in said
    assert all(each in said for each in USES)


def test_rates_priors_are_per_unit_of_exposure():
    """Counts 2, 4 and 6 in 1, 2 and 3 hours are 2 an hour."""
    data = exposed(Table.of(np.array([[2.0, 0], [4, NAN], [6, 0]])), torch.tensor([1.0, 2, 3]).double())
    model = ZipMixture(2, 2.0, 2.0, 2.0, 3.0, None)
    assert Posterior.of(model, data).model.rate_rate == pytest.approx(3 / 2)
    assert "per unit of exposure" in model.derived(data)["rate_rate"].how
    assert isinstance(Posterior.of(model, data).layout, Cellwise)
    factors = dataclasses.replace(test_poisson_mf.MODEL, row_rate=None, column_rate=1.0)
    mean = 12 / (6 + 4)
    expected = factors.num_factors * factors.row_shape * factors.column_shape / mean
    assert Posterior.of(factors, Triplets.of(data)).model.row_rate == pytest.approx(expected, rel=1e-2)
