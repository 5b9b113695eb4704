"""Calibration as a command: what it computes, what it says of right and wrong methods, what it writes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import stats

import pyrozoo
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.posterior import Posterior, posterior_class
from pyrozoo.core.errors import DataError, NotApplicable, NumericalError, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.diagnostics.card import LEVELS
from pyrozoo.inference.laplace import Laplace
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.run import catalog
from pyrozoo.run.fit import engine_fit
from pyrozoo.studies.calibrate import run as calibration
from pyrozoo.studies.calibrate.judge import (
    FITS,
    ecdf_band,
    ecdf_difference,
    effective_draws,
    places,
    scalars,
    scaled_rank,
    sentences,
    summarise,
)
from tests.case import refused
from tests.command.test_command import run

pytestmark = pytest.mark.usefixtures("unchecked")

TINY = {"rows": 3, "columns": 3, "num_labels": 2, "observation_strength": 1.1, "coupling": [[0.5, 0.0], [0.0, 0.2]]}
FIELD = {**TINY, "draws": 49, "progress": False}
TYPED = ["model=potts_grid", "data.rows=3", "data.columns=3", "model.num_labels=2", "model.observation_strength=1.1",
         "model.coupling=[[0.5,0.0],[0.0,0.2]]"]  # fmt: skip
COUNTS = {"rows": 15, "columns": 2, "num_components": 2, "restarts": 1, "progress": False}
EVEN = (np.arange(200) + 0.5) / 200
SHAPES = {
    "calibrated": EVEN,
    "too narrow": stats.beta.ppf(EVEN, 0.5, 0.5),
    "too wide": stats.beta.ppf(EVEN, 2, 2),
    "biased low": EVEN**0.5,
    "biased high": EVEN**2,
    "uneven": (np.array([0, 2, 4, 5, 7, 9])[(EVEN * 6).astype(int)] + EVEN * 6 % 1) / 10,  # four tenths are empty
}


def level(lines, about):
    (found,) = (line for line in lines if line.about == about)
    return found.level


def fits_of(ranks, **changed):
    usual = {"kind": "exact", "status": "completed", "seconds": 1.0, "draws": 49, "effective_draws": np.nan,
             "error": ""}  # fmt: skip
    return pd.DataFrame([{"simulation": i, **usual, **changed} for i in range(len(ranks))], columns=list(FITS))


# Pure functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", SHAPES)
def test_ranks_get_their_word(word):
    ranks = pd.DataFrame({"log_likelihood": SHAPES[word], "rate[0]": EVEN[::-1]})
    table = summarise(ranks, {"log_likelihood"}).set_index("quantity")
    assert table["verdict"].to_dict() == {"log_likelihood": word, "rate[0]": "calibrated"}
    assert table["group"].tolist() == ["invariant", "parameter"]
    lines = sentences(table.reset_index(), fits_of(ranks))
    assert level(lines, "log-likelihood") == ("pass" if word == "calibrated" else "fail")
    assert level(lines, "raw parameters") == "pass"
    assert level(lines, "data sets") == "pass"
    assert all(line.sentence.endswith(".") and "\n" not in line.sentence for line in lines)


def test_summary_is_what_a_hand_computes():
    values = SHAPES["biased low"]
    row = summarise(pd.DataFrame({"x": values}), {"x"}).iloc[0]
    assert row["p_uniform"] == pytest.approx(stats.chisquare(np.histogram(values, 10, (0, 1))[0]).pvalue)
    assert row["mean_rank"] == pytest.approx(2 / 3, abs=1e-3)
    assert row["mean_z"] == pytest.approx((1 / 6) / np.sqrt(1 / 12 / 200), rel=0.01)
    assert row["spread"] == pytest.approx(np.sqrt(12 / 18), abs=0.01)
    assert row["data_sets"] == 200


def test_p_values_are_corrected_for_their_number():
    """Holm: the smallest of n times n, the next times n - 1, never below the one before."""
    generator = np.random.default_rng(0)
    ranks = pd.DataFrame({f"x[{i}]": generator.beta(1 + 0.1 * i, 1, 200) for i in range(3)})
    whole = summarise(ranks, {"x"})
    alone = np.array([summarise(ranks[[name]], {"x"})["p"].iloc[0] for name in ranks])
    order = np.argsort(alone)
    expected = np.minimum(1, np.maximum.accumulate(alone[order] * [3, 2, 1]))
    np.testing.assert_allclose(whole["p"].to_numpy()[order], expected)


def test_false_alarms_are_as_rare_as_stated():
    generator = np.random.default_rng(1)
    warned = [(summarise(pd.DataFrame(generator.random((100, 2))).add_prefix("x"), {"x"})["p"] < 0.05).any()
              for _ in range(60)]  # fmt: skip
    assert sum(warned) < 10


def test_too_few_data_sets_are_not_judged():
    ranks = pd.DataFrame({"log_likelihood": np.full(10, 0.01)})
    table = summarise(ranks, {"log_likelihood"})
    assert table["verdict"].tolist() == ["too few"]
    lines = sentences(table, fits_of(ranks))
    assert [(line.level, line.about) for line in lines] == [("warn", "data sets")]


def test_short_runs_are_told_from_wrong_samplers():
    ranks = pd.DataFrame({name: SHAPES["too narrow"] for name in ("log_likelihood", "mean", "rate[0]")})
    table = summarise(ranks, {"log_likelihood", "mean"})
    right = sentences(table, fits_of(ranks, kind="samples", effective_draws=300.0))
    short = sentences(table, fits_of(ranks, kind="samples", effective_draws=20.0))
    assert (level(right, "invariants"), level(short, "invariants")) == ("fail", "warn")
    assert (level(right, "effective draws"), level(short, "effective draws")) == ("pass", "warn")
    assert level(right, "raw parameters") == "warn", "a chain in one labelling is not wrong for that"
    assert level(sentences(table, fits_of(ranks)), "raw parameters") == "fail"
    shifted = summarise(pd.DataFrame({"mean": SHAPES["biased low"]}), {"mean"})
    assert level(sentences(shifted, fits_of(EVEN, kind="samples", effective_draws=20.0)), "invariants") == "fail"


def test_failures_and_unfinished_fits_are_told():
    fits = fits_of(EVEN)
    fits.loc[:2, "status"] = "max_iterations"
    fits.loc[5:20, "error"] = "not finite"
    table = summarise(pd.DataFrame({"mean": EVEN}), {"mean"})
    lines = sentences(table, fits)
    assert (level(lines, "failures"), level(lines, "convergence")) == ("fail", "warn")
    fits.loc[0, "status"] = "objective_decreased"
    assert level(sentences(table, fits), "convergence") == "fail"


def test_ranks_are_uniform_for_ties_too():
    with seeded(0):
        draws = [torch.randint(3, (2, 7)) for _ in range(2000)]
        ranks = np.array([scaled_rank(each, torch.randint(3, ())) for each in draws])
    assert ranks.min() >= 0
    assert ranks.max() < 1
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3
    # Rounding is no difference: weights that sum to one are all 1 with a single component.
    with seeded(0):
        close = [scaled_rank(torch.ones(9).double(), torch.tensor(1 - 1e-15).double()) for _ in range(200)]
    assert stats.kstest(close, "uniform").pvalue > 1e-3
    assert np.isnan(scaled_rank(torch.tensor([1.0, np.nan]), torch.tensor(0.0)))
    assert np.isnan(scaled_rank(torch.tensor([1.0, 2.0]), torch.tensor(np.nan)))


def test_places_are_evenly_chosen_and_may_be_absent():
    draws = {"a": torch.arange(2 * 3 * 100.0).reshape(2, 3, 10, 10), "b": torch.zeros(2, 3), "c": torch.zeros(2, 3, 20)}
    assert len(places(draws)) == 121
    few = places(draws, 30)
    assert 25 <= len(few) <= 30
    assert {"a[0, 0]", "a[9, 9]", "b", "c[0]", "c[19]"} <= set(few)
    found = scalars({**draws, "c": torch.zeros(2, 3, 5)}, few)
    assert "c[19]" not in found
    assert torch.equal(found["a[9, 9]"], draws["a"][:, :, 9, 9])


def test_the_band_holds_a_uniforms_whole_ecdf():
    points, generator = np.linspace(0.02, 0.98, 49), np.random.default_rng(2)
    low, high = ecdf_band(100, points)
    differences = np.stack([ecdf_difference(generator.random(100), points) for _ in range(400)])
    assert np.mean(((differences >= low) & (differences <= high)).all(1)) == pytest.approx(0.95, abs=0.035)


# Right and wrong posteriors -------------------------------------------------------------------------------------------


def reweighted(config, *, data):
    """Draws from the prior of one component, weighted by the likelihood: the posterior itself, in milliseconds."""
    fit = engine_fit({**config, "inference": {**catalog.settings("inference", "em"), "max_iterations": 1}}, data=data)
    D = data.shape[1]
    with seeded(config["seed"]):
        many = (1, 3000)
        draws = {
            "weights": torch.ones(*many, 1, dtype=torch.float64),
            "on_prob": torch.distributions.Beta(torch.tensor(2.0).double(), 2.0).sample((*many, 1, D)),
            "rate": torch.distributions.Gamma(torch.tensor(2.0).double(), 1.0).sample((*many, 1, D)),
        }
        logs = Posterior.of(fit.model, data).log_likelihood(draws)[0]
        chosen = torch.multinomial((logs - logs.max()).exp(), 200, replacement=True)
    return dataclasses.replace(
        fit, kind="exact", status="completed", draws={site: value[:, chosen] for site, value in draws.items()}
    )


def changed(fit, change):
    draws = {site: change(value) if site != "weights" else value for site, value in fit.draws.items()}
    return dataclasses.replace(fit, draws=draws)


PLANTED = {
    "right": lambda fit: fit,
    "narrow": lambda fit: changed(fit, lambda value: 0.3 * value + 0.7 * value.mean((0, 1))),
    "shifted": lambda fit: changed(fit, lambda value: value**0.6 if value.max() < 1 else value * 1.5),
    "ignoring": None,
}


@pytest.fixture
def planted(monkeypatch):
    def calibrate(name):
        def fitted(config, *, data):
            blind = dataclasses.replace(data, values=torch.full_like(data.values, torch.nan))
            return PLANTED[name](reweighted(config, data=data)) if PLANTED[name] else ignoring(config, data, blind)

        def ignoring(config, data, blind):
            fit = reweighted(config, data=data)
            prior = blind_draws(config, data.shape[1])
            return dataclasses.replace(fit, draws=prior)

        monkeypatch.setattr(calibration, "engine_fit", fitted)
        # Any method that is not a point: the fit is planted.
        return pyrozoo.calibrate(
            "zip_mixture", "cavi", simulations=120, rows=4, columns=1, num_components=1, seed=6, progress=False
        )

    return calibrate


def blind_draws(config, D):
    with seeded(config["seed"]):
        return {
            "weights": torch.ones(1, 200, 1, dtype=torch.float64),
            "on_prob": torch.distributions.Beta(torch.tensor(2.0).double(), 2.0).sample((1, 200, 1, D)),
            "rate": torch.distributions.Gamma(torch.tensor(2.0).double(), 1.0).sample((1, 200, 1, D)),
        }


def test_a_right_posterior_passes(planted):
    result = planted("right")
    assert set(result.summary["verdict"]) == {"calibrated"}
    assert {line.level for line in result.sentences} == {"pass"}
    assert (result.fits["draws"] == 49).all()
    assert "on_prob[0, 0]" in result.ranks, "one component has no labels: raw parameters mean something"
    assert "Calibration of zip_mixture by cavi: 120 data sets, completed" in str(result)


def test_a_narrow_posterior_is_told(planted):
    result = planted("narrow")
    words = result.summary.set_index("quantity")["verdict"]
    assert words["column_mean[0]"] == words["rate[0, 0]"] == "too narrow"
    assert level(result.sentences, "invariants") == "fail"
    assert "too narrow: " in str(result)


def test_a_shifted_posterior_is_told(planted):
    result = planted("shifted")
    words = result.summary.set_index("quantity")["verdict"]
    assert words["column_mean[0]"] == words["rate[0, 0]"] == "biased high"
    assert words["column_zero[0]"] == "biased low"
    assert level(result.sentences, "invariants") == "fail"


def test_a_posterior_that_ignores_the_data_is_seen_by_the_log_likelihood_only(planted):
    result = planted("ignoring")
    words = result.summary.set_index("quantity")["verdict"]
    assert words["log_likelihood"] == "biased low"
    assert set(words.drop("log_likelihood")) == {"calibrated"}
    assert (level(result.sentences, "log-likelihood"), level(result.sentences, "invariants")) == ("fail", "pass")


# Methods of the zoo ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "own"), [("exact", {"draws": 49}), ("gibbs", {"warmup": 10, "draws": 60, "thin": 1}), ("cavi", {})]
)
def test_a_discrete_field(method, own):
    result = pyrozoo.calibrate("potts_grid", method, simulations=30, progress=False, missing=0.2, **TINY, **own)
    assert {"label[0, 0]", "label[2, 2]", "log_likelihood", "label_share[1]", "equal_neighbours"} <= set(result.ranks)
    assert set(result.fits["kind"]) == {{"exact": "exact", "gibbs": "samples", "cavi": "variational"}[method]}
    assert result.ranks.notna().all(axis=None)
    if method != "cavi":
        assert "fail" not in {line.level for line in result.sentences}, str(result)


def test_a_mode_gets_laplaces_gaussian():
    result = pyrozoo.calibrate("zip_mixture", "em", simulations=4, **COUNTS)
    assert set(result.fits["kind"]) == {"variational"}
    assert (result.fits["draws"] == 49).all()
    assert {name.split("[")[0] for name in result.ranks} == set(
        posterior_class(catalog.model_class("zip_mixture")).invariant_dims
    )


def test_laplace_starts_where_it_is_told():
    fit = pyrozoo.fit("zip_mixture", "em", rows=40, columns=2, num_components=2, restarts=3, progress=False)
    starts = {site: value[:, 0] for site, value in fit.draws.items()}

    def laplace(**settings):
        usual = {"name": "laplace", "max_iterations": 500, "tol": 1e-5, "draws": 5, "max_unknowns": 2000}
        return Laplace(**usual, **settings)(fit.posterior, Loop(seed=1, progress=False))

    ours = laplace(restarts=7, starts=starts)
    assert len(ours.runs) == 1
    best = laplace(restarts=6)
    assert ours.objective == pytest.approx(best.objective, abs=1e-4)
    edge = {**starts, "on_prob": torch.ones_like(starts["on_prob"])}
    assert np.isfinite(laplace(restarts=1, starts=edge).objective)


@pytest.mark.parametrize(
    ("model", "method", "why"),
    [
        ("factor_analysis", "pca", "not of the explained variance"),
        ("gaussian_mf", "mle", "not of the penalised log likelihood"),
        ("potts_grid", "icm", "a field of labels is discrete"),
        ("potts_grid", "max_product", "a field of labels is discrete"),
        ("categorical_fa", "vem", "not of the log joint bound"),
        ("categorical_fa", "exact", "Laplace's Gaussian is not to be had"),
        ("zip_mixture", "pca", "zip_mixture has no method pca"),
    ],
)
def test_points_are_refused_before_any_work(monkeypatch, model, method, why):
    monkeypatch.setattr(calibration, "simulate_data", None)
    message = refused(NotApplicable, pyrozoo.calibrate, model, method)
    assert why in message
    if "no method" not in message:
        able = message.rsplit(" by ", 1)[1].split(", ")
        assert method not in able
        assert set(able) <= set(catalog.methods(model))
        assert "svi" in able


def test_the_model_that_is_fitted_simulates():
    """Data come from the settings of the fit: with an offset of 1000 in its prior no default would pass."""
    model = FactorAnalysis(**{**settings_of("factor_analysis"), "num_factors": 1, "noise_scale": 1e6})
    truth, data = calibration._simulated(model, {"rows": 30, "columns": 3, "missing": 0.3}, 0, 0)
    assert float(truth["noise_variance"].min()) > 1e3
    assert 0 < int(data.values.isnan().sum()) < 90
    again, other = (calibration._simulated(model, {"rows": 30, "columns": 3}, 0, number)[1] for number in (0, 1))
    assert not torch.equal(again.values, other.values)


def settings_of(model):
    return {key: value for key, value in catalog.settings("model", model).items() if key != "name"}


def autocorrelated(lag):
    """Fits whose draws take every value ``lag`` times in a row."""
    asked = []

    def fitted(config, *, data):
        own = config["inference"]
        asked.append((own["chains"], own["draws"]))
        fit = engine_fit({**config, "inference": {**own, "warmup": 0, "draws": 1}}, data=data)
        shape = own["chains"], -(-own["draws"] // lag), *fit.draws["label"].shape[2:]
        with seeded(config["seed"]):
            label = torch.randint(2, shape).repeat_interleave(lag, 1)[:, : own["draws"]]
        return dataclasses.replace(fit, draws={"label": label})

    return fitted, asked


@pytest.mark.parametrize(("lag", "runs"), [(1, [(4, 100)]), (50, [(4, 100), (4, 400)]), (2000, [(4, 100), (4, 400)])])
def test_a_sampler_runs_until_its_draws_are_effective_and_no_longer_than_it_may(monkeypatch, lag, runs):
    fitted, asked = autocorrelated(lag)
    monkeypatch.setattr(calibration, "engine_fit", fitted)
    result = pyrozoo.calibrate("potts_grid", "gibbs", simulations=1, progress=False, **TINY, **{"draws": 400})
    assert asked == runs
    effective = float(result.fits["effective_draws"].iloc[0])
    assert (effective >= 100) == (lag == 1)


def test_effective_draws_of_too_few_are_unknown():
    assert np.isnan(effective_draws({"x": torch.zeros(2, 3)}))
    with seeded(0):
        values = torch.randn(4, 200)
    assert 400 < effective_draws({"x": values, "y": values.square()}) < 1200


# Seeds, going on ------------------------------------------------------------------------------------------------------


def same(a, b):
    pd.testing.assert_frame_equal(a.ranks, b.ranks, check_exact=True)
    pd.testing.assert_frame_equal(a.fits.drop(columns="seconds"), b.fits.drop(columns="seconds"), check_exact=True)


def test_same_seed_same_ranks_whatever_else_is_run():
    whole = pyrozoo.calibrate("potts_grid", "exact", simulations=6, **FIELD)
    same(whole, pyrozoo.calibrate("potts_grid", "exact", simulations=6, **FIELD))
    part = pyrozoo.calibrate("potts_grid", "exact", simulations=3, **FIELD)
    pd.testing.assert_frame_equal(part.ranks, whole.ranks.iloc[:3], check_exact=True)
    other = pyrozoo.calibrate("potts_grid", "exact", simulations=3, seed=1, **FIELD)
    assert (other.ranks != part.ranks).all(axis=None)


def test_an_interrupted_calibration_goes_on_to_the_same_ranks(here, monkeypatch):
    whole = pyrozoo.calibrate("potts_grid", "exact", simulations=6, **FIELD)
    real, fits = calibration.engine_fit, []

    def killed(config, *, data):
        if len(fits) == 3:
            raise KeyboardInterrupt
        fits.append(config)
        return real(config, data=data)

    monkeypatch.setattr(calibration, "engine_fit", killed)
    part = pyrozoo.calibrate("potts_grid", "exact", simulations=6, directory="part", **FIELD)
    assert (part.status, len(part.ranks)) == ("interrupted", 3)
    assert len(pd.read_csv("part/ranks.csv")) == 3
    monkeypatch.setattr(calibration, "engine_fit", real)
    rest = pyrozoo.calibrate("potts_grid", "exact", simulations=6, directory="part", resume=True, **FIELD)
    assert rest.status == "completed"
    same(rest, whole)
    more = pyrozoo.calibrate("potts_grid", "exact", simulations=7, directory="part", resume=True, **FIELD)
    pd.testing.assert_frame_equal(more.ranks.iloc[:6], whole.ranks, check_exact=True)
    assert (more.save("part") / "report.html").is_file()
    with pytest.raises(SettingError, match="holds a calibration already"):
        pyrozoo.calibrate("potts_grid", "exact", simulations=7, directory="part", **FIELD)
    with pytest.raises(SettingError, match="seed is not that of the calibration"):
        pyrozoo.calibrate("potts_grid", "exact", directory="part", resume=True, seed=2, **FIELD)
    with pytest.raises(DataError, match="not a run directory"):
        pyrozoo.calibrate("potts_grid", "exact", directory="absent", resume=True, **FIELD)
    with pytest.raises(SettingError, match="needs the directory"):
        pyrozoo.calibrate("potts_grid", "exact", resume=True, **FIELD)


def test_a_data_set_that_cannot_be_fitted_is_left_out(monkeypatch):
    real, count = calibration.engine_fit, []

    def broken(config, *, data):
        count.append(1)
        if len(count) == 2:
            raise NumericalError("not finite")
        return real(config, data=data)

    monkeypatch.setattr(calibration, "engine_fit", broken)
    result = pyrozoo.calibrate("potts_grid", "exact", simulations=4, **FIELD)
    assert result.fits["error"].tolist() == ["", "not finite", "", ""]
    assert result.ranks.loc[1].isna().all()
    assert level(result.sentences, "failures") == "fail"

    def hopeless(config, *, data):
        raise NumericalError("not finite")

    monkeypatch.setattr(calibration, "engine_fit", hopeless)
    message = refused(DataError, pyrozoo.calibrate, "potts_grid", "exact", **FIELD)
    assert "none of the first 5 data sets could be fitted: not finite" in message


# The command ----------------------------------------------------------------------------------------------------------


def test_command_writes_the_directory_and_goes_on(here, capsys):
    code, out, err = run(capsys, "task=calibrate", *TYPED, "inference=exact", "inference.draws=49", "simulations=21")
    assert code == 0, err
    report = Path(out.strip().splitlines()[-1].strip())
    relative = report.relative_to(here).as_posix() if report.is_absolute() else report.as_posix()
    assert re.fullmatch(r"outputs/calibration/potts_grid/exact/\d{4}-\d\d-\d\d_[\d-]+/report.html", relative)
    directory = report.parent
    assert {path.name for path in directory.iterdir()} == {
        ".hydra", "ranks.csv", "calibration.csv", "figures", "report.html",
    }  # fmt: skip
    assert {path.name for path in (directory / "figures").iterdir()} == {"ranks.png", "ecdf.png"}
    text = report.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 2
    assert "http" not in text.replace("http://www.w3.org", "")
    for word in ("log_likelihood", "equal_neighbours", "Holm", "21 data sets (3 rows, 3 columns)"):
        assert word in text
    table = pd.read_csv(directory / "ranks.csv", float_precision="round_trip")
    assert len(table) == 21
    python = pyrozoo.calibrate("potts_grid", "exact", simulations=21, **FIELD)
    assert np.array_equal(table[list(python.ranks)].to_numpy(), python.ranks.to_numpy())
    assert pd.read_csv(directory / "calibration.csv")["quantity"].tolist() == list(python.ranks)
    code, out, err = run(capsys, f"resume={directory}", "simulations=22")
    assert code == 0, err
    again = pd.read_csv(directory / "ranks.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(again.iloc[:21], table, check_exact=True)
    assert len(again) == 22
    code, _, err = run(capsys, f"resume={directory}", "seed=3")
    assert (code, err.count("\n")) == (2, 1)
    assert "simulations, progress, threads" in err


def test_sizes_are_its_own_unless_asked_for(here, capsys):
    typed = ["task=calibrate", "model=zip_mixture", "inference=cavi", "data.columns=2", "--cfg", "job"]
    code, out, err = run(capsys, *typed)
    assert code == 0, err
    config = yaml.safe_load(out)
    assert config["data"] | {"rows": None, "columns": 2, "holdout": 0} == config["data"]
    calibration.fill(config)
    assert config["data"]["rows"] == calibration.SIZES["rows"]
    code, out, _ = run(capsys, "task=calibrate", "model=categorical_fa", "inference=svi", "--cfg", "job")
    assert yaml.safe_load(out)["data"]["categories"] == 3


@pytest.mark.usefixtures("undrawn")
@pytest.mark.slow  # interrupting one from Python is above
def test_ctrl_c_keeps_what_there_is(here, capsys, monkeypatch):
    real, fits = calibration.engine_fit, []

    def killed(config, *, data):
        if len(fits) == 2:
            raise KeyboardInterrupt
        fits.append(config)
        return real(config, data=data)

    monkeypatch.setattr(calibration, "engine_fit", killed)
    arguments = ["task=calibrate", *TYPED, "inference=exact", "simulations=4"]
    code, out, _ = run(capsys, *arguments)
    assert code == 130
    directory = Path(out.strip().splitlines()[-1].strip()).parent
    assert "interrupted" in (directory / "report.html").read_text(encoding="utf-8")
    monkeypatch.setattr(calibration, "engine_fit", real)
    code, out, err = run(capsys, f"resume={directory}")
    assert code == 0, err
    assert len(pd.read_csv(directory / "ranks.csv")) == 4
    fits += [None, None]
    monkeypatch.setattr(calibration, "engine_fit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, _ = run(capsys, *arguments, "outputs=early")
    assert code == 130
    assert not Path("early").exists(), "before the first rank there is nothing to keep"


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_is_one_page(here, capsys):
    code, out, err = run(capsys, "-m", "task=calibrate", *TYPED, "inference=exact,cavi,icm", "simulations=3")
    assert code == 0, err
    report = Path(out.strip().splitlines()[-1].strip())
    table = pd.read_csv(report.parent / "calibration.csv")
    assert table["method"].drop_duplicates().tolist() == ["exact", "cavi"]
    text = report.read_text(encoding="utf-8")
    assert "icm of potts_grid finds a point" in text
    assert "0_potts_grid_exact/report.html" in text
    assert "1_potts_grid_cavi/report.html" in text
    for directory in report.parent.glob("[01]_*"):
        assert (directory / "report.html").is_file()
    configs = [yaml.safe_load(p.read_text()) for p in sorted(report.parent.glob("*/.hydra/config.yaml"))]
    assert [config["seed"] for config in configs] == [0, 0, 0], "all methods see the same data sets"


MISTAKES = [
    (["task=calibrat"], "did you mean 'calibrate'"),
    (["-m", "task=fit,calibrate"], "all runs of a sweep have one task"),
    (["task=fit", "simulations=3"], "simulations=3 is a setting of task=calibrate"),
    (["task=calibrate", "simulations=0"], "simulations is 0"),
    (["task=calibrate", "simulations=many"], "simulations is 'many'"),
    (["task=calibrate", "data=jester"], "data=jester is not simulated"),
    (["task=calibrate", "data=table", "data.path=x.csv"], "data=table is not simulated"),
    (["task=calibrate", "data.holdout=0.1"], "data.holdout is 0.1"),
    (["task=calibrate", "data.truth={num_components: 3}"], "data.truth"),
    (["task=calibrate", "data.seed=3"], "data.seed is 3"),
    (["task=calibrate", "data.rows=0"], "rows"),
    (["task=calibrate", "data.missing=2"], "data.missing is 2"),
    (["task=calibrate", "inference.draws=2"], "inference.draws"),
    (["task=calibrate", "inference.draws=many"], "inference.draws is 'many'"),
    (["task=calibrate", "inference.tol=-1"], "inference.tol is -1"),
    (["task=calibrate", "model.num_components=0"], "model.num_components is 0"),
    (["task=calibrate", "checkpoint_every=3"], "checkpoint_every has no meaning"),
    (["task=calibrate", "seed=-1"], "seed is -1"),
    (["task=calibrate", "data.row=3"], "did you mean 'rows'"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_mistakes_are_one_line_and_leave_nothing(here, capsys, arguments, says):
    code, out, err = run(capsys, *arguments, "model=zip_mixture", "inference=cavi")
    assert code == 2, err
    assert says in err
    assert (out, err.count("\n")) == ("", 1)
    assert not list(here.iterdir())


def test_a_refused_point_leaves_nothing(here, capsys):
    code, _, err = run(capsys, "task=calibrate", *TYPED, "inference=icm")
    assert (code, err.count("\n")) == (2, 1)
    assert "finds a point" in err
    assert not list(here.iterdir())


def test_what_is_no_calibration_is_not_resumed(here, capsys):
    pyrozoo.fit("zip_mixture", "em", directory="run", checkpoint_every=5, max_iterations=2, rows=20, columns=2)
    with pytest.raises(DataError, match="not the directory of a calibration"):
        pyrozoo.calibrate("zip_mixture", "em", directory="run", resume=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "method", "own"),
    [
        ("zip_mixture", "gibbs", {"num_components": 2, "columns": 3}),
        ("zip_mixture", "nuts", {"num_components": 2, "columns": 3}),
        ("factor_analysis", "gibbs", {"num_factors": 1, "columns": 4, "loadings_precision": 1.0, "noise_degrees": 5.0}),
        ("potts_grid", "gibbs", TINY),
    ],
)
def test_samplers_are_calibrated(model, method, own):
    result = pyrozoo.calibrate(model, method, simulations=200, progress=False, **own)
    assert max((line.level for line in result.sentences), key=LEVELS.index) != "fail", str(result)
    assert set(result.summary.query("group == 'invariant'")["verdict"]) == {"calibrated"}, str(result)
