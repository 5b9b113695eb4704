"""The open door: models and programs from outside of the package, through every room."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import sys
from functools import cache
from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate

import pyrozoo
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.paths import PACKAGE
from pyrozoo.core.seeds import seeded
from pyrozoo.data.simulate import simulate_data
from pyrozoo.run import own
from pyrozoo.testing import check
from pyrozoo.testing.laws import prior_draws
from tests.case import refused
from tests.command.test_command import run

EXAMPLES = PACKAGE.parent / "examples"
QUIET = {"progress": False}
SHORT = {"svi": {"max_steps": 400, "draws": 200}, "laplace": {"draws": 200, "restarts": 3},
         "nuts": {"warmup": 300, "draws": 300, "chains": 2}}  # fmt: skip
pytestmark = pytest.mark.usefixtures("unchecked")


@cache
def example(name: str):
    """Import an example as a user would: it is in no package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def model(name: str, **changes):
    (found,) = (c for c in vars(example(name)).values() if isinstance(c, type) and c.__module__ == name)
    return found(**changes)


SIZES = {
    "gaussian_mixture": {"rows": 60, "columns": 2},
    "bayesian_regression": {"rows": 40, "columns": 3},
    "hidden_markov": {"rows": 8, "columns": 8},
}


@pytest.mark.parametrize("name", SIZES)
def test_examples_are_one_short_file(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 80


@pytest.mark.parametrize("name", SIZES)
def test_the_laws_hold_for_models_from_outside(name):
    check(model(name), **{"rows": 6, "columns": SIZES[name]["columns"]})


# Densities against independent answers --------------------------------------------------------------------------------


def test_the_mixture_sums_holes_and_components_out():
    its = model("gaussian_mixture")
    data = simulate_data(its, seed=1, rows=12, columns=3, missing=0.3)
    draws = prior_draws(Posterior.of(its, data), 5)
    found = Posterior.of(its, data).pointwise(draws)[0]
    for draw, row in zip(draws.each(), found, strict=True):
        logs = torch.distributions.Normal(draw["mean"], draw["precision"].rsqrt()).log_prob(data.filled[:, None, :])
        by_component = (logs * data.observed[:, None, :]).sum(-1) + draw["weights"].log()
        torch.testing.assert_close(row, by_component.logsumexp(1), rtol=1e-10, atol=1e-10)


def test_the_markov_chain_is_summed_out_by_the_forward_algorithm():
    its = model("hidden_markov", num_states=3)
    data = simulate_data(its, seed=2, rows=5, columns=7, missing=0.2)
    draws = prior_draws(Posterior.of(its, data), 4)
    found = Posterior.of(its, data).pointwise(draws)[0]
    for draw, rows in zip(draws.each(), found, strict=True):
        alpha = torch.full((5, 3), -math.log(3), dtype=torch.float64)
        for t in range(7):
            emitted = torch.distributions.Normal(draw["level"], draw["noise"]).log_prob(data.filled[:, t, None])
            alpha = alpha + emitted * data.observed[:, t, None]
            last = alpha.logsumexp(1)
            alpha = (alpha.unsqueeze(2) + draw["transition"].log()).logsumexp(1)
        torch.testing.assert_close(rows, last, rtol=1e-10, atol=1e-10)


def test_hidden_cells_are_predicted_given_the_rest_of_their_row():
    """A mixture at one known point: the predictive mean of a hidden cell is that of the row's own components."""
    its = model("gaussian_mixture")
    whole = simulate_data(its, seed=3, rows=400, columns=2)
    data = whole.hold_out(0.3, 4)
    point = {site: data.truth[site][None, None] for site in ("weights", "precision", "mean")}
    many = Draws({site: value.expand(1, 100, *value.shape[2:]) for site, value in point.items()})
    found = Posterior.of(its, data).predict(many)
    mean, precision, weights = (data.truth[site] for site in ("mean", "precision", "weights"))
    logs = torch.distributions.Normal(mean, precision.rsqrt()).log_prob(data.filled[:, None, :])
    r = ((logs * data.observed[:, None, :]).sum(-1) + weights.log()).softmax(1)
    expected = (r[data.hidden.rows] * mean[:, data.hidden.columns].T).sum(1)
    # A hundred draws of the component, each with the other's mean: a binomial standard error.
    share = r[data.hidden.rows, 0]
    error = ((share * (1 - share) / 100).sqrt() + 0.01) * (mean[0] - mean[1]).abs()[data.hidden.columns]
    assert ((found.mean - expected).abs() <= 5 * error).all()
    inside = ((found.pit > 0.05) & (found.pit < 0.95)).double().mean()
    assert abs(float(inside) - 0.9) < 3 * math.sqrt(0.09 / len(expected)) + 0.01


def test_the_automatic_guides_elbo_is_pyros():
    its = model("gaussian_mixture")
    data = simulate_data(its, seed=1, rows=10, columns=2)
    posterior = Posterior.of(its, data)
    from pyrozoo.inference.svi import DensityElbo, automatic

    with pyro.get_param_store().scope(), seeded(0), pyro.validation_enabled(False):
        guide = automatic("mean_field", posterior)
        guide(data)
        program = config_enumerate(posterior.program, default="parallel")
        theirs = TraceEnum_ELBO(max_plate_nesting=posterior.depth, strict_enumeration_warning=False)
        for seed in range(3):
            torch.manual_seed(seed)
            ours = DensityElbo(posterior, 1).loss(program, guide, data)
            torch.manual_seed(seed)
            assert ours == pytest.approx(theirs.loss(program, guide, data), rel=1e-6)


# Fits, comparisons, calibrations --------------------------------------------------------------------------------------


@cache
def fitted(name: str, method: str):
    return pyrozoo.fit(model(name), method, data_seed=1, **SIZES[name], **SHORT[method], **QUIET,
                       **({"holdout": 0.0} if name == "bayesian_regression" else {}))  # fmt: skip


ENOUGH = {"rhat_good": 1.2, "rhat_bad": 1.5, "ess": 20}
"""What is asked of the short chains of these tests, so that others are held to them."""


@pytest.mark.parametrize("name", SIZES)
def test_every_method_fits_them_and_a_comparison_judges(name):
    fits = [fitted(name, method) for method in SHORT]
    assert [fit.kind for fit in fits] == ["variational", "variational", "samples"]
    assert all(np.isfinite(value.numpy()).all() for fit in fits for value in fit.draws.values())
    result = pyrozoo.compare(fits, **ENOUGH)
    assert result.reference == "nuts"
    levels = result.verdicts.loc["laplace"]
    assert levels["means"] in ("pass", "warn")
    assert fits[2].metrics["divergences"] == 0


@pytest.mark.parametrize("family", ["mean_field", "multivariate", "low_rank"])
def test_automatic_guides_by_name(family):
    fit = pyrozoo.fit(model("bayesian_regression"), "svi", family=family, holdout=0.0, **SIZES["bayesian_regression"],
                      **SHORT["svi"], **QUIET)  # fmt: skip
    assert fit.metrics["khat"] < 1
    again = fit.sample(5)
    assert {site: value.shape[:2] for site, value in again.items()} == dict.fromkeys(fit.draws, (1, 5))


def test_the_regression_finds_the_conjugate_answer():
    """With the noise known (a narrow prior cannot say it exactly, a long chain can), slopes are least squares' own."""
    fit = fitted("bayesian_regression", "nuts")
    x, y = fit.data.replaced["covariates"], fit.data.replaced["response"]
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    noise = fit.draws["noise"].flatten()
    solved = []
    for s in noise[:: max(1, len(noise) // 200)]:
        precision = design.T @ design / s**2 + torch.eye(3, dtype=x.dtype) / 4
        solved.append(torch.linalg.solve(precision, design.T @ y / s**2))
    expected = torch.stack(solved).mean(0)
    mine = torch.cat([fit.draws["slope"].mean((0, 1)), fit.draws["intercept"].mean()[None]])
    spread = torch.cat([fit.draws["slope"].flatten(0, 1).std(0), fit.draws["intercept"].std()[None]])
    assert ((mine - expected).abs() < 0.3 * spread).all()


def test_calibration_passes_and_sees_a_planted_bug():
    its, sizes = model("bayesian_regression"), {"rows": 8, "columns": 2}
    quick = {"simulations": 20, "chains": 2, "warmup": 150, "draws": 60, "seed": 3, **sizes, **QUIET}
    good = pyrozoo.calibrate(its, "nuts", **quick)
    assert "fail" not in {line.level for line in good.sentences}, str(good)
    wrong = pyrozoo.calibrate(Overconfident(), "nuts", **quick)
    assert (wrong.summary.set_index("quantity").loc["noise", "p"]) < 0.01, str(wrong)


@dataclasses.dataclass(frozen=True)
class Overconfident(pyrozoo.Model):
    """Plant: data are simulated with twice the noise that the fit is told of, by looking whether there are any."""

    def __call__(self, data) -> None:
        noise = pyro.sample("noise", dist.HalfNormal(torch.tensor(1.0).double()))
        simulated = not data.replaced and not data.observed.any()
        with pyro.plate("row", data.shape[0], dim=-1):
            pyro.sample("response", dist.Normal(0.0, noise * (2 if simulated else 1)), obs=data.filled[:, 0])


class Leaky(type(model("gaussian_mixture"))):
    """Plant: holes are not masked."""

    def __call__(self, data) -> None:
        super().__call__(dataclasses.replace(data, values=data.filled))


def test_a_law_sees_what_is_not_masked():
    with pytest.raises(AssertionError, match="empty row"):
        check(Leaky(), rows=6, columns=2, methods=())


def test_the_law_of_wrong_settings_sees_a_setting_that_nobody_checks():
    @dataclasses.dataclass(frozen=True)
    class Careless(type(model("bayesian_regression"))):
        def __post_init__(self) -> None: ...

        @classmethod
        def check(cls, values) -> None: ...

    with pytest.raises(AssertionError, match="nobody minds"):
        check(Careless(), rows=6, columns=2, methods=())


# Plain Pyro functions -------------------------------------------------------------------------------------------------


def eight_schools(J, sigma, y=None):
    """As Pyro's example has it, with the centred parameterisation written out."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("J", J):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        return pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


SCHOOLS = (8, torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
           torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]))  # fmt: skip


def gmm(data):
    """As Pyro's tutorial on Gaussian mixtures has it: K = 2, a shared scale, the assignment enumerated."""
    weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
    with pyro.plate("components", 2):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(data)):
        assignment = pyro.sample("assignment", dist.Categorical(weights))
        pyro.sample("obs", dist.Normal(locs[assignment], scale), obs=data)


POINTS = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])


def terrain(is_cont_africa, ruggedness, log_gdp=None):
    """As Pyro's introduction has it: a regression with an interaction, uniform prior of the noise."""
    a = pyro.sample("a", dist.Normal(0.0, 10.0))
    b_a = pyro.sample("bA", dist.Normal(0.0, 1.0))
    b_r = pyro.sample("bR", dist.Normal(0.0, 1.0))
    b_ar = pyro.sample("bAR", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
    mean = a + b_a * is_cont_africa + b_r * ruggedness + b_ar * is_cont_africa * ruggedness
    with pyro.plate("data", len(ruggedness)):
        return pyro.sample("obs", dist.Normal(mean, sigma), obs=log_gdp)


@cache
def nations():
    with seeded(0):
        africa, rugged = (torch.rand(60) < 0.3).float(), 2 * torch.rand(60)
        return africa, rugged, 9.2 - 1.9 * africa - 0.2 * rugged + 0.4 * africa * rugged + 0.9 * torch.randn(60)


PROGRAMS = {"eight_schools": (eight_schools, SCHOOLS), "gmm": (gmm, (POINTS,)), "terrain": (terrain, nations())}


@cache
def of_program(name: str, method: str):
    program, arguments = PROGRAMS[name]
    return pyrozoo.fit(program, method, args=arguments, **SHORT[method], **QUIET)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("method", SHORT)
def test_programs_of_tutorials_are_fitted_as_published(name, method):
    fit = of_program(name, method)
    assert fit.model_name == name
    assert all(value.isfinite().all() for value in fit.draws.values())
    assert {"posterior", "log_likelihood", "observed_data", "posterior_predictive"} <= set(fit.inference_data.groups())


def test_what_the_tutorials_say_is_found():
    schools = of_program("eight_schools", "nuts")
    assert float(schools.draws["mu"].mean()) == pytest.approx(4.4, abs=1.0)
    assert "theta" in schools.inference_data.posterior, "deterministic sites are kept"
    assert schools.posterior.unit == "J"
    assert schools.posterior.units == 8
    assert schools.posterior.replica(next(schools.draws.each()))["obs"].shape == (8,)
    africa, rugged, gdp = nations()
    design = torch.stack([torch.ones(60), africa, rugged, africa * rugged], 1)
    least = torch.linalg.lstsq(design, gdp).solution
    found = torch.stack([of_program("terrain", "nuts").draws[site].mean() for site in ("a", "bA", "bR", "bAR")])
    assert ((found - least).abs() < 0.5).all()
    locs = of_program("gmm", "nuts").draws["locs"].flatten(0, 1).sort(1).values.mean(0)
    assert ((locs - torch.tensor([0.5, 11.0])).abs() < 2).all()


def test_a_program_is_compared_saved_loaded_and_calibrated(tmp_path):
    fits = [of_program("terrain", method) for method in ("laplace", "nuts")]
    assert set(pyrozoo.compare(fits).verdicts.index) == {"laplace", "nuts"}
    fits[1].save(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()
    assert "given in Python" in refused(SettingError, pyrozoo.load, tmp_path / "run")
    again = pyrozoo.load(tmp_path / "run", model=terrain, args=nations())
    torch.testing.assert_close(again.draws["a"], fits[1].draws["a"])
    assert again.posterior.units == 60
    ranks = pyrozoo.calibrate(terrain, "nuts", args=nations(), simulations=2, warmup=100, draws=100, chains=1, **QUIET)
    assert len(ranks.ranks) == 2
    assert "sigma" in ranks.ranks


def test_a_programs_run_is_resumed(tmp_path):
    settings = {"max_steps": 60, "restarts": 1, "draws": 20, "evaluation_draws": 2, **QUIET}
    whole = pyrozoo.fit(terrain, "svi", args=nations(), **settings)
    pyrozoo.fit(
        terrain, "svi", args=nations(), directory=tmp_path, checkpoint_every=20, **{**settings, "max_steps": 60}
    )
    again = pyrozoo.resume(tmp_path, model=terrain, args=nations())
    for site, value in whole.draws.items():
        assert torch.equal(value, again.draws[site])


# What is refused ------------------------------------------------------------------------------------------------------


def wandering(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    if torch.rand(()) < 0.5:
        pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a, 1.0), obs=y)


def test_what_cannot_be_done_is_one_line():
    y = torch.zeros(3)
    assert "args=(...)" in refused(SettingError, pyrozoo.fit, terrain, "nuts", data=y)
    assert "a model takes data" in refused(SettingError, pyrozoo.fit, "zip_mixture", "em", args=(y,))
    assert "has no method vem" in refused(NotApplicable, pyrozoo.fit, terrain, "vem", args=nations())
    assert "is the class" in refused(SettingError, pyrozoo.fit, Overconfident, "nuts")
    assert "batch_size" in refused(SettingError, pyrozoo.fit, terrain, "svi", args=nations(), batch_size=5, **QUIET)
    with seeded(1):
        assert "in some runs only" in refused(NotApplicable, pyrozoo.fit, wandering, "nuts", args=(y,), **QUIET)
    its = model("gaussian_mixture")
    assert "synthetic" in refused(SettingError, pyrozoo.synthesize, fitted("gaussian_mixture", "nuts"), 5)
    with pytest.raises(DataError, match="infinite"):
        pyrozoo.fit(its, "nuts", data=np.array([[1.0, np.inf], [0.0, 2.0]]), **QUIET)


def test_a_gap_that_a_program_takes_for_a_number_is_named():
    values = np.random.default_rng(0).normal(size=(30, 3))
    gappy = values.copy()
    gappy[4, 1] = np.nan
    said = refused(DataError, pyrozoo.fit, model("bayesian_regression"), "laplace", gappy, **QUIET)
    assert "row 'row_4', column 'column_1' has no value, and bayesian_regression takes it for a number" in said
    for hidden in ({"holdout": 0.2}, {"holdout": 0.2, "data_seed": 3}):
        said = refused(NotApplicable, pyrozoo.fit, model("bayesian_regression"), "laplace", values, **hidden, **QUIET)
        assert "type data.holdout=0" in said
    assert "takes it for a number" in refused(DataError, pyrozoo.fit, Leaky(), "laplace", gappy, **QUIET)
    assert pyrozoo.fit(model("gaussian_mixture"), "laplace", gappy, **SHORT["laplace"], **QUIET).status == "converged"


def test_new_rows_are_checked_as_the_data_are():
    heads = pd.DataFrame({"a": [0.0, 1.0, 1.0, 0.0], "b": [1.0, 0.0, 1.0, 0.0]})
    test = heads.assign(b=[1.0, -4.0, 1.0, 0.0])
    assert "column 'b': -4 is outside of the support" in refused(
        DataError, pyrozoo.fit, Coins(), "laplace", heads, test=test, **QUIET
    )


@dataclasses.dataclass(frozen=True)
class Coins(pyrozoo.Model):
    """A coin for every column."""

    def __call__(self, data) -> None:
        with pyro.plate("column", data.shape[1], dim=-1):
            chance = pyro.sample("chance", dist.Beta(data.filled.new_tensor(2.0), 2.0))
            with pyro.plate("row", data.shape[0], dim=-2):
                pyro.sample("heads", dist.Bernoulli(chance).mask(data.observed), obs=data.filled)


# Recovery -------------------------------------------------------------------------------------------------------------

STUDY = {"simulations": 2, "seed": 1, "sites": ["slope", "noise"],
         "methods": {"laplace": {"draws": 100, "restarts": 1}, "nuts": {"draws": 100, "warmup": 100, "chains": 2}},
         "settings": [{"name": "few", "shape": {"rows": 20, "columns": 2}, "truth": {"noise": 0.5, "slope": [1.5]}},
                      {"name": "many", "shape": {"rows": 80, "columns": 2}, "truth": {"noise": 0.5, "slope": [1.5]}}],
         }  # fmt: skip


def test_recovery_of_a_model_from_outside(tmp_path):
    by_file = pyrozoo.recover({**STUDY, "model": str(EXAMPLES / "bayesian_regression.py")}, **QUIET)
    rows = by_file.summary
    assert len(rows) == 2 * 2 * 2  # settings, methods, quantities
    # The standard error of one data set's estimate of a slope of unit covariates is noise / sqrt(rows).
    slopes = by_file.estimates.query("quantity == 'slope[0]' and setting == 'many'")
    assert (slopes["estimate"] - 1.5).abs().max() < 4 * 0.5 / math.sqrt(80)
    by_instance = pyrozoo.recover(STUDY, model=model("bayesian_regression"), **QUIET, directory=tmp_path)
    pd.testing.assert_frame_equal(*(r.estimates.drop(columns="seconds") for r in (by_file, by_instance)))
    more = pyrozoo.recover(
        STUDY, model=model("bayesian_regression"), simulations=3, **QUIET, directory=tmp_path, resume=True
    )
    assert len(more.estimates) == 1.5 * len(by_instance.estimates)
    assert (more.save(tmp_path) / "report.html").stat().st_size > 10_000


def test_recovery_of_a_plain_function():
    def coin(heads):
        chance = pyro.sample("chance", dist.Beta(torch.tensor(2.0), 2.0))
        with pyro.plate("toss", len(heads)):
            pyro.sample("heads", dist.Bernoulli(chance), obs=heads)

    settings = [{"name": "fair", "truth": {"chance": 0.5}}, {"name": "bent", "truth": {"chance": 0.9}}]
    study = {"simulations": 3, "seed": 1, "sites": ["chance"], "methods": {"laplace": {}}, "settings": settings}
    found = pyrozoo.recover(study, model=coin, args=(torch.zeros(400),), **QUIET).estimates
    assert (found["estimate"] - found["truth"]).abs().max() < 4 * math.sqrt(0.25 / 400)
    assert found.groupby("setting", sort=False)["truth"].unique().map(len).tolist() == [1, 1]
    shaped = {**study, "settings": [{**settings[0], "shape": {"rows": 3}}]}
    assert "have their shape" in refused(SettingError, pyrozoo.recover, shaped, model=coin, args=(torch.zeros(4),))
    assert "there is no such file" in refused(SettingError, pyrozoo.recover, {**study, "model": "nothing.py"})


# The command ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
@pytest.mark.quick
def test_a_file_on_the_command_line(here, capsys):
    source = str(EXAMPLES / "gaussian_mixture.py")
    quick = [f"model={source}", "inference=laplace", "inference.restarts=1", "inference.max_iterations=20"]
    quick += ["inference.draws=20", "data.columns=2", "report=none"]
    code, out, _ = run(capsys, "-m", *quick, "model.num_components=2", "data.rows=20", "moments=0", "seed=0,1")
    assert code == 0
    table = pd.read_csv(Path(out.strip().splitlines()[-1]).parent / "comparison.csv")
    assert table["model"].tolist() == ["gaussian_mixture"] * 2
    (directory,) = here.glob("outputs/sweeps/*/1_gaussian_mixture_laplace")
    fit = pyrozoo.load(directory)
    assert type(fit.model).__name__ == "GaussianMixture"
    code, out, _ = run(capsys, "task=calibrate", *quick, "simulations=2", "data.rows=10")
    assert code == 0
    assert "Calibration of gaussian_mixture by laplace" in out


MISTAKES = [
    (["model=nothing.py", "inference=nuts"], "there is no such file"),
    (["model=empty.py", "inference=nuts"], "must define one class of pyrozoo.Model; it defines none"),
    (["model=bare.py", "inference=nuts"], "the field size needs a default"),
    (["model=torn.py", "inference=nuts"], "is not readable Python"),
    (["model=raises.py", "inference=nuts"], "cannot be imported (ValueError: no)"),
    (["model=good.py", "inference=vem"], "good.py has no method vem; it has cavi, em, gibbs, laplace, nuts, svi"),
    (["model=good.py", "inference=nuts", "model.sizee=2"], "did you mean 'size'"),
    (["model=good.py", "inference=nuts", "model.size=0"], "model.size is 0; it must be a whole number >= 1"),
    (["model=unfilled.py", "inference=nuts"], "unfilled.py, line 4: NameError: name 'likelihood' is not defined"),
    (["-m", "model=good.py,zip_mixture", "inference=nuts"], "a sweep can have one such model"),
]
BODY = "    def __call__(self, data):\n        pass\n"
FILES = {
    "empty.py": "x = 1\n",
    "bare.py": f"from pyrozoo import Model\nclass Bare(Model):\n    size: int\n{BODY}",
    "torn.py": "class (:\n",
    "raises.py": f"from pyrozoo import Model\nclass Raises(Model):\n{BODY}raise ValueError('no')\n",
    "unfilled.py": f"from pyrozoo import Model\nclass Unfilled(Model):\n{BODY}".replace("pass", "likelihood(data)"),
    "good.py": "from dataclasses import dataclass\nfrom pyrozoo import Model, whole\n@dataclass(frozen=True)\n"
    f"class Good(Model):\n    size: int = whole(default=2)\n{BODY}",
}


@pytest.mark.parametrize(("typed", "said"), MISTAKES, ids=lambda value: str(value)[:24])
def test_mistakes_with_files_are_one_line(here, capsys, typed, said):
    for name, text in FILES.items():
        Path(name).write_text(text)
    code, _, err = run(capsys, *typed)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not Path("outputs").exists()


def test_models_of_installed_packages(monkeypatch):
    monkeypatch.setattr(own, "installed", lambda: {"mixture": str(EXAMPLES / "gaussian_mixture.py")})
    assert pyrozoo.list_models()["mixture"] == ("cavi", "em", "gibbs", "laplace", "nuts", "svi")
    quick = {"restarts": 1, "max_iterations": 20, "draws": 20}
    fit = pyrozoo.fit("mixture", "laplace", rows=20, columns=2, num_components=2, **quick, **QUIET)
    assert fit.model_name == "gaussian_mixture"


# Fits from elsewhere --------------------------------------------------------------------------------------------------


def test_inference_data_from_elsewhere_is_judged():
    ours = of_program("terrain", "nuts")
    right = az.from_dict({s: v.numpy() for s, v in ours.draws.items()})
    shifted = az.from_dict({s: v.numpy() + (3 * v.numpy().std() if s == "a" else 0) for s, v in ours.draws.items()})
    right.posterior.attrs["inference_library"] = "stan"
    shifted.posterior.attrs["inference_library"] = "numpyro"
    result = pyrozoo.compare([of_program("terrain", "laplace"), right, shifted], reference=ours, **ENOUGH)
    assert result.verdicts.loc["stan", "means"] == "pass"
    assert result.verdicts.loc["numpyro", "means"] != "pass"
    assert "log_likelihood and a:" in result.reasons.query("fit == 'numpyro' and about == 'means'")["sentence"].item()
    assert "no sample_stats" in result.fits[1].notes[0]
    alone = pyrozoo.compare([right, shifted])
    assert set(alone.verdicts.index) == {"stan", "numpyro"}
    lacking = az.from_dict({"a": ours.draws["a"].numpy()})
    assert "has no 'bA'" in refused(SettingError, pyrozoo.compare, [ours, lacking])
    with pytest.raises(SettingError, match="no draws"):
        pyrozoo.compare([ours, az.from_dict(prior={"a": np.zeros((1, 5))})])
