"""NUTS: any Pyro program, compiled or by Pyro's kernel, against references, and what it says of bad ones."""

import json
import math
import os
import re
import signal
import threading
from functools import cache
from pathlib import Path

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

import pyrozoo
from pyrozoo.core.errors import NotApplicable, NumericalError, SettingError
from pyrozoo.inference import chains, nuts

pytestmark = pytest.mark.usefixtures("unchecked")  # the laws look at all shapes

QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# Four posteriors of posteriordb, as Pyro programs ---------------------------------------------------------------------


def eight_schools(y, sigma, centred=False):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        if centred:
            theta = pyro.sample("theta", dist.Normal(mu, tau))
        else:
            t = pyro.sample("t", dist.Normal(0.0, 1.0))
            theta = pyro.deterministic("theta", mu + tau * t)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def gauss_mix(y):
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    pyro.factor("prior_of_mu", dist.Normal(0.0, 2.0).log_prob(mu).sum())
    with pyro.plate("part", 2):
        sigma = pyro.sample("sigma", dist.HalfNormal(2.0))
    theta = pyro.sample("theta", dist.Beta(5.0, 5.0))
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Categorical(torch.stack([theta, 1 - theta])), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(mu[z], sigma[z]), obs=y)


def gauss_mix_by_hand(sites, y):
    """Return the log joint density with the assignments summed out, as a user would write it."""
    mu, sigma, theta = sites["mu"], sites["sigma"], sites["theta"]
    prior = dist.Normal(0.0, 2.0).log_prob(mu).sum() + dist.HalfNormal(2.0).log_prob(sigma).sum()
    parts = dist.Normal(mu, sigma).log_prob(y[:, None]) + torch.stack([theta, 1 - theta]).log()
    return prior + dist.Beta(5.0, 5.0).log_prob(theta) + parts.logsumexp(1).sum()


def kidscore(score, iq):
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (2,)))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("child", len(score)):
        pyro.sample("score", dist.Normal(beta[0] + beta[1] * iq, sigma), obs=score)


def autoregression(y, order):
    alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
    with pyro.plate("lag", order):
        beta = pyro.sample("beta", dist.Normal(0.0, 10.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    mean = alpha + sum(beta[k] * y[order - 1 - k : len(y) - 1 - k] for k in range(order))
    with pyro.plate("time", len(y) - order):
        pyro.sample("y", dist.Normal(mean, sigma), obs=y[order:])


PROBLEMS = {
    "eight_schools": ("eight_schools-eight_schools_noncentered", eight_schools, ("y", "sigma"), {}),
    "eight_schools_centred": (
        "eight_schools-eight_schools_noncentered", eight_schools, ("y", "sigma"),
        {"kwargs": {"centred": True}, "target_accept_prob": 0.99, "draws": 6000},
    ),
    "low_dim_gauss_mix": ("low_dim_gauss_mix-low_dim_gauss_mix", gauss_mix, ("y",), {}),
    "low_dim_gauss_mix_by_hand": (
        "low_dim_gauss_mix-low_dim_gauss_mix", gauss_mix, ("y",), {"log_density": gauss_mix_by_hand}
    ),
    "kidscore_momiq": ("kidiq-kidscore_momiq", kidscore, ("kid_score", "mom_iq"), {}),
    "arK": ("arK-arK", autoregression, ("y", "K"), {}),
}  # fmt: skip


@cache
def posteriordb():
    # As all data that the project does not carry; CI has them, and there these tests run.
    file = Path(os.environ.get("PYROZOO_DATA", "")) / "posteriordb_subset.json"
    if not os.environ.get("PYROZOO_DATA") or not file.is_file():
        pytest.skip("PYROZOO_DATA holds no posteriordb_subset.json")
    return json.loads(file.read_text())


def problem(name):
    key, program, columns, options = PROBLEMS[name]
    entry = posteriordb()[key]
    data = [entry["data"][column] for column in columns]
    return program, [torch.tensor(d, dtype=torch.float64) if isinstance(d, list) else d for d in data], options, entry


@pytest.mark.parametrize("name", PROBLEMS)
def test_posteriordb(name):
    program, args, options, entry = problem(name)
    result = pyrozoo.nuts(program, args, seed=1, backend="nutpie", **{"draws": 2000, **options}, **QUIET)
    for parameter, reference in entry["reference"].items():
        if not isinstance(reference, dict):
            continue
        base, place = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", parameter).groups()
        draws = result.posterior[base].values
        draws = draws if place is None else draws[..., int(place) - 1]
        ess = float(az.ess(draws))
        assert ess > 40  # of the centred program there are few: its tau is a funnel's neck
        # The reference figures come from 10,000 draws.
        error = math.hypot(draws.std() / math.sqrt(ess), reference["sd"] / 100)
        assert abs(draws.mean() - reference["mean"]) < 5 * error, parameter
        spread = math.sqrt(float(az.ess(draws, method="sd")))
        assert abs(draws.std() / reference["sd"] - 1) < 6 / spread, parameter
        for quantile in (5, 95):
            found, expected = np.quantile(draws, quantile / 100), reference[f"q{quantile:02d}"]
            assert abs(found - expected) < 0.25 * reference["sd"], parameter


# What a result holds --------------------------------------------------------------------------------------------------


def regression(x, y=None):
    with pyro.plate("column", x.shape[1]):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    noise = pyro.sample("noise", dist.Gamma(2.0, 2.0))
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("row", len(x)):
        mean = pyro.deterministic("mean", x @ slope + weights[0])
        pyro.sample("y", dist.Normal(mean, noise), obs=y)


X = torch.linspace(-1, 1, 24, dtype=torch.float64).view(12, 2).sin()
Y = X @ torch.tensor([0.5, -1.0], dtype=torch.float64) + torch.linspace(-1, 1, 12, dtype=torch.float64).cos()
ARGS = X, Y
SHORT = {"draws": 100, "warmup": 100, "chains": 2, **QUIET}


def test_results_have_names_dimensions_and_statistics():
    result = pyrozoo.nuts(regression, ARGS, keep_warmup=True, coords={"column": ["a", "b"]}, **SHORT)
    posterior = result.posterior
    assert posterior["slope"].dims == ("chain", "draw", "column")
    assert list(posterior["column"].values) == ["a", "b"]
    assert posterior["weights"].dims == ("chain", "draw", "weights_dim_0")
    assert posterior["mean"].dims == ("chain", "draw", "row")
    assert result.observed_data["y"].dims == ("row",)
    assert set(result.sample_stats) == {
        "lp", "energy", "diverging", "step_size", "tree_depth", "n_steps", "acceptance_rate",
    }  # fmt: skip
    assert result.warmup_posterior["slope"].shape == (2, 100, 2)
    assert result.warmup_sample_stats["lp"].shape == (2, 100)
    assert (posterior["noise"] > 0).all()
    np.testing.assert_allclose(posterior["weights"].sum("weights_dim_0"), 1)
    expected = posterior["slope"].values @ X.numpy().T + posterior["weights"].values[..., :1]
    np.testing.assert_allclose(posterior["mean"].values, expected)
    assert result.attrs["backend"] == "nutpie"
    assert result.attrs["status"] == "completed"
    # lp is the log density in unconstrained space, energy its negative and the kinetic energy.
    assert (result.sample_stats["energy"] >= -result.sample_stats["lp"]).all()


def test_lp_is_the_programs_log_density():
    def program():
        pyro.sample("x", dist.Normal(2.0, 3.0))

    for backend in ("nutpie", "pyro"):
        result = pyrozoo.nuts(program, backend=backend, **SHORT)
        x = torch.tensor(result.posterior["x"].values)
        torch.testing.assert_close(torch.tensor(result.sample_stats["lp"].values), dist.Normal(2.0, 3.0).log_prob(x))


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_backends_agree(long):
    ours = pyrozoo.nuts(regression, ARGS, backend="nutpie", draws=2000, warmup=500, chains=2, **QUIET)
    size = {"draws": 400, "warmup": 300} if long else {"draws": 40, "warmup": 30, "max_tree_depth": 3}
    theirs = pyrozoo.nuts(regression, ARGS, backend="pyro", chains=2, **size, **QUIET)
    for site in ("slope", "noise", "weights"):
        means = [result.posterior[site].mean(("chain", "draw")).values for result in (ours, theirs)]
        errors = [az.mcse(result, var_names=[site])[site].values for result in (ours, theirs)]
        assert (np.abs(means[0] - means[1]) < 5 * np.hypot(*errors)).all()


def test_the_same_seed_gives_the_same_draws_whatever_the_number_of_chains():
    few, many, other = (
        pyrozoo.nuts(regression, ARGS, seed=seed, **{**SHORT, "chains": chains}, start=start)
        for seed, chains in ((3, 2), (3, 3), (4, 2))
        for start in [{"slope": [0.1, 0.2], "noise": 1.0, "weights": [0.2, 0.3, 0.5]}]
    )
    again = pyrozoo.nuts(regression, ARGS, seed=3, **SHORT, start={
        "slope": [0.1, 0.2], "noise": 1.0, "weights": [0.2, 0.3, 0.5]
    })  # fmt: skip
    assert (few.posterior["slope"].values == again.posterior["slope"].values).all()
    assert many.posterior["slope"].shape[0] == 3
    assert not (few.posterior["slope"].values == other.posterior["slope"].values).any()
    chains_differ = few.posterior["slope"].values
    assert not (chains_differ[0] == chains_differ[1]).any()


def test_auto_says_what_it_chose(caplog):
    short = pyrozoo.nuts(regression, ARGS, **{**SHORT, "draws": 5, "warmup": 5})
    assert short.attrs["backend"] == "pyro"
    assert "too few" in short.attrs["note"]
    assert pyrozoo.nuts(regression, ARGS, **SHORT).attrs["backend"] == "nutpie"
    assert not caplog.records


def branching():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x if x > 0 else 2 * x, 1.0), obs=torch.tensor(0.5))


def stepping():
    """Draw no random number and read no value as a tensor operation, and yet go by values."""
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    loud = float(np.abs(x.detach().numpy()).sum()) > 0.6
    pyro.factor("more", -x.square() if loud else torch.zeros(()))


def random():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.factor("noise", 0.0 * torch.randn(()) * x)


@pytest.mark.parametrize(("program", "reason"), [(branching, "depends on values"), (random, "random numbers")])
def test_programs_that_cannot_be_compiled_run_on_pyro_and_say_so(program, reason, caplog):
    result = pyrozoo.nuts(program, **{**SHORT, "max_tree_depth": 3})
    assert result.attrs["backend"] == "pyro"
    assert re.search(reason, result.attrs["note"])
    assert reason in caplog.text
    assert len(caplog.records) == 1
    with pytest.raises(SettingError, match=f"backend=nutpie.*{reason}.*backend=pyro"):
        pyrozoo.nuts(program, backend="nutpie", **SHORT)


def test_a_density_that_goes_by_values_unseen_is_caught_at_random_points():
    result = pyrozoo.nuts(stepping, **{**SHORT, "chains": 4, "max_tree_depth": 3})
    assert "depends on values" in result.attrs["note"]


def far_off():
    """Change course where no start is, but draws are."""
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    loud = abs(float(x.detach().numpy())) < 40
    pyro.factor("more", -0.5 * (x - 50) ** 2 * 100 if loud else -0.5 * (x - 50) ** 2 * 99)


def test_a_density_that_goes_by_values_is_caught_at_draws():
    with pytest.raises(NumericalError, match="differ at a draw; use backend=pyro"):
        pyrozoo.nuts(far_off, start={"x": 1.0}, **SHORT)


def test_a_planted_bug_in_the_compiled_density_is_caught(monkeypatch):
    call = chains.CompiledDensity.__call__
    monkeypatch.setattr(
        chains.CompiledDensity, "__call__", lambda self, x: (call(self, x)[0], call(self, x)[1] * (1 + 1e-6))
    )
    with pytest.raises(SettingError, match="compiled and program differ"):
        pyrozoo.nuts(regression, ARGS, backend="nutpie", **SHORT)


# Programs that NUTS cannot help ---------------------------------------------------------------------------------------


def funnel():
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    with pyro.plate("dimension", 9):
        pyro.sample("x", dist.Normal(0.0, (v / 2).exp()))


def discrete():
    pyro.sample("z", dist.Categorical(torch.ones(3)))


def counting():
    pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("n", dist.Poisson(3.0))


def moving():
    x = pyro.sample("x", dist.Uniform(0.0, 1.0))
    pyro.sample("y", dist.Uniform(0.0, x))


def subsampling():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 10, subsample_size=3):
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.zeros(3))


def flat():
    pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.ImproperUniform(constraints.real_vector, (), (2,)))


def flat_across():
    a = pyro.sample("a", dist.ImproperUniform(constraints.real, (), ()))
    b = pyro.sample("b", dist.ImproperUniform(constraints.real, (), ()))
    pyro.sample("y", dist.Normal(a + b, 1.0), obs=torch.tensor(0.3))


def root():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.factor("trap", torch.where(x.abs() < 100, torch.zeros(()), (x.abs() - 100).sqrt()))


def impossible():
    pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.factor("never", torch.tensor(-math.inf))


BAD = [
    (discrete, NotApplicable, "no continuous latent site"),
    (counting, NotApplicable, "n is a discrete latent site"),
    (moving, NotApplicable, "support of y depends on other sites"),
    (subsampling, NotApplicable, "subsample"),
    (root, NumericalError, "gradient of the log density is nan at x"),
    (impossible, NumericalError, "log density is -inf where a chain starts"),
]
# Looking along every axis is for compiled densities; in Python it would take longer than the chains.
IMPROPER = [(flat, NumericalError, r"improper.*b\[0\]"), (flat_across, NumericalError, "improper.*a, b")]


@pytest.mark.parametrize(
    ("program", "error", "words", "backend"),
    [*((*bad, backend) for bad in BAD for backend in ("auto", "pyro")), *((*bad, "auto") for bad in IMPROPER)],
    ids=lambda value: getattr(value, "__name__", str(value)[:6]),
)
def test_bad_programs_end_with_one_helpful_line(program, error, words, backend):
    with pytest.raises(error, match=words) as caught:
        pyrozoo.nuts(program, backend=backend, **SHORT)
    assert "\n" not in str(caught.value)


def test_a_funnel_is_reported_as_one():
    result = pyrozoo.nuts(funnel, draws=1000, warmup=1000, target_accept_prob=0.6, seed=2, **QUIET)
    assert int(result.sample_stats["diverging"].sum()) > 10
    assert float(az.rhat(result)["v"]) > 1.005 or float(az.ess(result)["v"]) < 400


# Where chains start ---------------------------------------------------------------------------------------------------


def test_starts():
    for start in ("uniform", "prior", "laplace"):
        result = pyrozoo.nuts(regression, ARGS, start=start, **SHORT)
        assert float(az.rhat(result)["noise"]) < 1.1
    given = {"slope": torch.zeros(2, 2), "noise": torch.tensor([0.5, 2.0]), "weights": torch.ones(2, 3) / 3}
    assert float(az.rhat(pyrozoo.nuts(regression, ARGS, start=given, **SHORT))["noise"]) < 1.1


def test_chains_start_where_they_are_told():
    def far_apart():
        x = pyro.sample("x", dist.Normal(0.0, 100.0))
        pyro.factor("modes", torch.logaddexp(-0.5 * (x - 50) ** 2, -0.5 * (x + 50) ** 2))

    for backend in ("nutpie", "pyro"):
        result = pyrozoo.nuts(far_apart, start={"x": [50.0, -50.0]}, backend=backend, **SHORT)
        np.testing.assert_allclose(result.posterior["x"].mean("draw"), [50, -50], atol=1)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("elsewhere", "start is 'elsewhere'"),
        ({"slope": torch.zeros(2)}, "no value of noise, weights"),
        ({"slope": torch.zeros(2), "noise": 1.0, "weights": torch.ones(3) / 3, "w": 1}, "has w"),
        ({"slope": torch.zeros(3), "noise": 1.0, "weights": torch.ones(3) / 3}, r"start\['slope'\] has shape \(3,\)"),
        ({"slope": torch.zeros(2), "noise": -1.0, "weights": torch.ones(3) / 3}, "outside of the support"),
    ],
)
def test_wrong_starts(start, words):
    with pytest.raises(SettingError, match=words):
        pyrozoo.nuts(regression, ARGS, start=start, **SHORT)


def test_a_path_ends_in_the_bulk_of_the_posterior():
    """Hold the pathfinder to a Gaussian whose mean and scales are far from the start."""
    scale = torch.logspace(-2, 2, 9)

    def gradient(x):
        away = (x - 50 * scale) / scale
        return float(-0.5 * away.square().sum()), -away / scale

    torch.manual_seed(1)
    draws = torch.stack([nuts.pathfinder(gradient, torch.zeros(9)) for _ in range(40)])
    z = (draws - 50 * scale) / scale
    assert (z.mean(0).abs() < 1.5).all()
    assert z.abs().max() < 30


def test_a_density_by_hand_that_is_wrong_is_caught():
    _, args, _, _ = problem("low_dim_gauss_mix")
    with pytest.raises(NumericalError, match="log_density and the Pyro program disagree"):
        pyrozoo.nuts(gauss_mix, args, log_density=lambda s, y: gauss_mix_by_hand(s, y) + s["theta"], **SHORT)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backend": "stan"}, "backend is 'stan'"), ({"chains": 0}, "chains is 0"), ({"draws": 0}, "draws is 0"),
        ({"target_accept_prob": 1.0}, "target_accept_prob is 1.0"), ({"max_tree_depth": 0}, "max_tree_depth is 0"),
    ],
)  # fmt: skip
def test_wrong_settings(settings, words):
    with pytest.raises(SettingError, match=words):
        pyrozoo.nuts(regression, ARGS, **{**SHORT, **settings})


# Interrupted ----------------------------------------------------------------------------------------------------------


def test_interrupted_chains_keep_their_draws(monkeypatch):
    def wait(sampler):
        advance(sampler)
        if all(memory.drawn > 150 for _, memory in sampler.running.values()):
            os.kill(os.getpid(), signal.SIGINT)

    advance = chains.CompiledSampler.advance
    monkeypatch.setattr(chains.CompiledSampler, "advance", wait)
    monkeypatch.setattr(chains.CompiledSampler, "POLL", 0.001)
    assert threading.current_thread() is threading.main_thread()
    result = pyrozoo.nuts(regression, ARGS, **{**SHORT, "draws": 2_000_000})
    assert result.attrs["status"] == "interrupted"
    assert 1 <= result.posterior.sizes["draw"] < 2_000_000
    assert np.isfinite(result.posterior["slope"]).all()


def test_a_resumed_run_is_the_uninterrupted_one(monkeypatch, tmp_path):
    settings = {"rows": 30, "columns": 3, "num_components": 2, "chains": 3, "warmup": 100, "draws": 100, **QUIET}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)  # one chain at a time
    whole = pyrozoo.fit("zip_mixture", "nuts", backend="nutpie", **settings)

    def wait(sampler):
        advance(sampler)
        if sampler.finished and not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    stopped, advance = [], chains.CompiledSampler.advance
    with monkeypatch.context() as patch:
        patch.setattr(chains.CompiledSampler, "advance", wait)
        part = pyrozoo.fit(
            "zip_mixture", "nuts", backend="nutpie", checkpoint_every=1, directory=tmp_path / "run", **settings
        )
    assert part.status == "interrupted"
    assert part.draws["rate"].shape[0] < 3
    rest = pyrozoo.resume(tmp_path / "run")
    assert rest.status == "completed"
    for site, value in whole.draws.items():
        assert torch.equal(rest.draws[site], value)
    assert len(rest.trace) == 600
    assert rest.trace.drop(columns="seconds").equals(whole.trace.drop(columns="seconds"))
    assert (rest.trace.groupby("chain")["seconds"].diff().dropna() >= 0).all()


# The zoo's models -----------------------------------------------------------------------------------------------------

ZOO = {"rows": 40, "columns": 4, "num_components": 2, "chains": 2, "warmup": 200, "draws": 300, **QUIET}


def test_a_fit_starts_where_another_ended(tmp_path):
    em = pyrozoo.fit("zip_mixture", "em", rows=40, columns=4, num_components=2, restarts=3, **QUIET)
    fit = pyrozoo.fit("zip_mixture", "nuts", start=em, **{**ZOO, "warmup": 1, "draws": 100, "backend": "nutpie"})
    assert float(fit.sample_stats["lp"].min()) > -math.inf
    em.save(tmp_path / "em")
    again = pyrozoo.fit(
        "zip_mixture", "nuts", start=str(tmp_path / "em"), **{**ZOO, "warmup": 1, "draws": 100, "backend": "nutpie"}
    )
    for site, value in fit.draws.items():
        torch.testing.assert_close(again.draws[site], value)


@pytest.mark.parametrize("start", ["prior", "laplace"])
def test_a_zoo_model_starts_from(start):
    fit = pyrozoo.fit("zip_mixture", "nuts", start=start, **ZOO)
    assert fit.metrics["backend"] == "nutpie"
    assert fit.metrics["rhat_max_invariants"] < 1.1


def test_wrong_starts_of_a_zoo_model():
    with pytest.raises(SettingError, match=r"inference\.start is 'elsewhere'; it must be model, prior, laplace"):
        pyrozoo.fit("zip_mixture", "nuts", start="elsewhere", **ZOO)
    other = pyrozoo.fit("zip_mixture", "em", rows=40, columns=4, num_components=3, restarts=2, **QUIET)
    with pytest.raises(SettingError, match="other sites, or others in size"):
        pyrozoo.fit("zip_mixture", "nuts", start=other, **ZOO)


def test_statistics_reach_the_results(tmp_path):
    fit = pyrozoo.fit("zip_mixture", "nuts", **ZOO)
    stats = fit.inference_data.sample_stats
    assert {"lp", "energy", "diverging", "step_size", "tree_depth", "n_steps", "acceptance_rate"} <= set(stats)
    assert "nuts ran compiled, on nutpie" in fit.inference_data.attrs["notes"]
    assert len(fit.trace) == 1000
