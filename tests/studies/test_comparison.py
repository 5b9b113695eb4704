"""Verdict cards: planted faults turn their own line, and nothing is held against a correct fit."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import pyrozoo
from pyrozoo.command.sweep import runs_of
from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import HandBuilt, Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.table import Table
from pyrozoo.diagnostics.card import LEVELS
from pyrozoo.diagnostics.compare import compare, error_curve
from pyrozoo.diagnostics.metrics import evaluate
from pyrozoo.diagnostics.predictive import checks, tail
from pyrozoo.diagnostics.verdict import Thresholds, verdict
from pyrozoo.report import __main__ as rebuild_command
from tests.case import case
from tests.command.test_command import run

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")

CHAINS, DRAWS = 4, 500
ITS = case("zip_mixture")


@cache
def posterior() -> Draws:
    """Return independent draws from the exact posterior of the tiny instance, [1, many, *event]."""
    return ITS.oracle().draws


def some(part: int, chains: int = CHAINS) -> Draws:
    """Return one of several disjoint sets of exact draws, as chains."""
    size = chains * DRAWS
    chosen = {site: value[0, part * size : (part + 1) * size] for site, value in posterior().items()}
    return {site: value.unflatten(0, (chains, DRAWS)).clone() for site, value in chosen.items()}


def fit_of(method: str, draws: Draws, kind: str = "samples", **changes) -> Fit:
    """Return a fit with given draws, all figures evaluated."""
    rows = [(i, c, -20.0, i / DRAWS) for c in range(len(draws["weights"])) for i in range(1, DRAWS + 1)]
    trace = pd.DataFrame(rows, columns=["iteration", "chain", "objective", "seconds"])
    parts = {
        "posterior": Posterior.of(ITS.model, ITS.tiny), "method": method, "kind": kind, "draws": Draws(draws),
        "trace": trace,
        "runs": pd.DataFrame({"chain": [0], "objective": [-20.0], "iterations": [DRAWS], "status": ["completed"]}),
        "status": "completed", "objective_name": "mean_log_joint", "objective": -20.0, "iterations": DRAWS,
        "seconds": 1.0, "seed": 0,
    }  # fmt: skip
    fit = Fit(**{**parts, **changes})
    fit.metrics = evaluate(fit)
    return fit


def known(fit: Fit) -> dict:
    """Return the fields of a fit, without what was computed from them."""
    return {field.name: getattr(fit, field.name) for field in dataclasses.fields(Fit) if field.name[0] != "_"}


@cache
def reference() -> Fit:
    return fit_of("exact", some(0), "exact", log_q=torch.zeros(CHAINS, DRAWS))


def card(fit: Fit, **limits) -> dict[str, tuple[str, str]]:
    """Return what a fit's card says beside the exact answer: about -> (level, sentence)."""
    result = compare([fit, reference()], limits=Thresholds(**limits))
    lines = result.cards[0]
    assert len({line.about for line in lines}) == len(lines)
    return {line.about: (line.level, line.sentence) for line in lines}


def test_a_correct_sampler_passes():
    lines = card(fit_of("right", some(1)))
    assert lines["reference"] == ("pass", "Held to exact: independent draws from the posterior itself.")
    bad = {about: line for about, line in lines.items() if line[0] != "pass"}
    assert not bad
    assert {"status", "means", "spread", "intervals", "R-hat", "ESS", "LOO", "time"} <= set(lines)


def test_a_posterior_that_is_too_narrow_is_found():
    draws = {site: 0.35 * value + 0.65 * value.mean((0, 1)) for site, value in some(1).items()}
    lines = card(fit_of("narrow", draws))
    assert lines["spread"][0] == "fail"
    assert "intervals are too short" in lines["spread"][1]
    assert lines["intervals"][0] in ("warn", "fail")
    assert lines["R-hat"][0] == "pass", "the chains agree: nothing but a reference can tell"


def test_a_posterior_that_is_too_wide_is_found():
    base = some(1)
    draws = {**base, "rate": (base["rate"].log() + 1.5 * torch.randn(base["rate"].shape, dtype=torch.float64)).exp()}
    lines = card(fit_of("wide", draws))
    assert lines["spread"][0] in ("warn", "fail")
    assert "intervals are too long" in lines["spread"][1]


@pytest.mark.parametrize(("size", "level"), [(0.0, "pass"), (0.6, "warn"), (2.5, "fail")])
def test_a_shifted_posterior_is_found(size, level):
    base = some(1)
    draws = {**base, "rate": base["rate"] + size * base["rate"].std((0, 1))}
    found, sentence = card(fit_of("shifted", draws))["means"]
    assert found == level
    assert ("too high" in sentence or "too low" in sentence) == (found != "pass") or found == "pass"
    if size:
        assert "column_mean" in sentence or "column_variance" in sentence or "log_likelihood" in sentence


def test_a_small_bias_of_a_sampler_shows_in_monte_carlo_errors():
    base = some(1)
    long = {site: value[:, : 24 * DRAWS].unflatten(1, (CHAINS, -1))[0] for site, value in posterior().items()}
    draws = {**long, "rate": long["rate"] + 0.12 * base["rate"].std((0, 1))}
    others = {
        site: value[:, 48 * DRAWS : 72 * DRAWS].unflatten(1, (CHAINS, -1))[0] for site, value in posterior().items()
    }
    whole = fit_of("exact", others, "exact", log_q=torch.zeros(CHAINS, 6 * DRAWS))
    result = compare([fit_of("biased", draws), fit_of("right", long), whole])
    biased, right = ({line.about: line for line in lines}["means"] for lines in result.cards[:2])
    assert biased.level == "warn"
    assert "Monte Carlo standard errors off" in biased.sentence
    assert right.level == "pass"


def test_a_stuck_chain_is_found():
    draws = some(1)
    for value in draws.values():
        value[0] = value[0, int(draws["rate"][0].sum((1, 2)).argmax())]  # one chain stays where the rates are largest
    lines = card(fit_of("stuck", draws))
    assert lines["R-hat"][0] == "fail"
    assert "Chains disagree" in lines["R-hat"][1]
    assert lines["ESS"][0] == "warn"


def test_label_switching_is_told_from_a_wrong_answer():
    one, other = some(1), some(2)
    steady, switched = (Posterior.of(ITS.model, ITS.tiny).align(draws, one) for draws in (one, other))
    for value in switched.values():
        value[1] = value[1].flip(1)  # the components of one chain have each other's labels
    fits = [fit_of("steady", steady), fit_of("switched", switched)]
    result = compare(fits, reference=fits[0])
    steady, switched = ({line.about: line for line in lines} for lines in result.cards[:2])
    assert "labels" not in steady
    assert switched["labels"].level == "pass", "nothing is wrong with such a fit"
    assert "never raw ones" in switched["labels"].sentence
    assert switched["R-hat"].level == "pass"
    assert switched["means"].level == "pass"
    rate = result.parameters[result.parameters["fit"] == result.names[1]].set_index("quantity")
    rate = rate.filter(like="rate", axis=0)
    assert rate["error_in_sd"].abs().max() < 0.25, "aligned"
    assert rate["raw_error_in_sd"].abs().max() > 3 * rate["error_in_sd"].abs().max(), "as they are"


def test_what_the_reference_holds_for_certain():
    """Pixels that leave no doubt: rounding is no spread, and a chain in another place is far off."""
    settings = {"data": "pattern", "rows": 4, "columns": 5, "observation_strength": 60.0, "progress": False}
    quick = {"gibbs": {"warmup": 100, "thin": 1}}
    fits = [pyrozoo.fit("potts_grid", m, **settings, **quick.get(m, {})) for m in ("exact", "gibbs", "cavi")]
    lost = Fit(**{**known(fits[1]), "draws": Draws({"label": (fits[1].draws["label"] + 1) % 3})})
    lost.metrics = evaluate(lost)
    result = compare([*fits, lost])
    about = [{line.about: line for line in lines} for lines in result.cards]
    assert [each["means"].level for each in about[1:3]] == ["pass", "pass"]
    assert about[3]["means"].level == "fail"
    assert "where the reference has no doubt" in about[3]["means"].sentence
    assert result.invariants["error_in_sd"].abs().max() <= 1000


def test_thresholds_move_the_verdict():
    base = some(1)
    fit = fit_of("shifted", {**base, "rate": base["rate"] + 2.5 * base["rate"].std((0, 1))})
    assert card(fit)["means"][0] == "fail"
    assert card(fit, mean_bad=9.0)["means"][0] == "warn"
    assert "Monte Carlo standard errors off" in card(fit, mean_good=9.0, mean_bad=9.0)["means"][1]
    assert card(fit, mean_good=9.0, mean_bad=9.0, mean_standard_errors=1e6)["means"][0] == "pass"
    with pytest.raises(SettingError, match=r"verdict\.mean_good"):
        Thresholds(mean_good=2.0)
    with pytest.raises(SettingError, match="positive"):
        Thresholds(ess=0)
    with pytest.raises(SettingError, match="no such setting"):
        pyrozoo.compare([fit], means=3.0)


def test_elbo_is_held_to_the_evidence():
    """With the posterior for q, the ELBO is the evidence. Log q that is 3 too high is a gap of 3."""
    its = case("zip_mixture")
    draws = {site: value[:1, :300] for site, value in some(2).items()}
    log_q = Posterior.of(its.model, its.tiny).log_joint(draws) - its.oracle().log_evidence
    fits = [fit_of(name, draws, "variational", log_q=log_q + gap) for name, gap in (("exactly", 0.0), ("off", 3.0))]
    result = compare(fits)
    one, other = ({line.about: line for line in lines}["ELBO"] for lines in result.cards)
    assert (one.level, other.level) == ("pass", "warn")
    assert result.table["elbo_gap"].to_numpy() == pytest.approx([0.0, 3.0], abs=1e-6)
    assert result.table["log_evidence"].to_numpy() == pytest.approx([its.oracle().log_evidence] * 2, abs=1e-6)


def test_exact_evidence_comes_first():
    settings = {"data": "pattern", "rows": 5, "columns": 6, "observation_strength": 1.0, "progress": False}
    fits = [pyrozoo.fit("potts_grid", method, **settings) for method in ("exact", "cavi")]
    result = pyrozoo.compare(fits)
    line = {line.about: line for line in result.cards[1]}["ELBO"]
    assert "exact, by exact" in line.sentence
    assert result.table["elbo_gap"][1] > 0


def test_the_reference_is_the_best_there_is():
    good, short = fit_of("good", some(1)), fit_of("short", {s: v[:, :60] for s, v in some(2).items()})
    approximate = fit_of("approximate", {s: v[:1] for s, v in some(3).items()}, "variational",
                         log_q=torch.zeros(1, DRAWS))  # fmt: skip
    assert compare([short, good, approximate]).reference == "good"
    assert compare([short, good, reference()]).reference == "exact"
    poor = compare([short, approximate])
    assert poor.reference == "short"
    about = {line.about: line for line in poor.cards[1]}
    assert about["reference"].level == "warn"
    assert about["reference"].sentence.startswith(
        "The reference, short, has not converged. Ignore differences from it."
    )
    assert not {"means", "spread", "intervals"} & set(about), "nothing is held against a fit"
    assert len(poor.pairwise) == 1
    assert poor.answer.startswith("Believe none yet: the best sampler, short, has not converged")
    stored = compare([short, approximate], reference=good)
    assert stored.reference == "good (stored)"
    assert [line.level for line in stored.cards[1] if line.about == "reference"] == ["pass"]


def test_references_that_are_none(tmp_path):
    fit = fit_of("fit", some(1))
    point = fit_of("em", {s: v[:1, :1] for s, v in some(0).items()}, "point")
    with pytest.raises(SettingError, match="point estimate"):
        compare([fit], reference=point)
    other = Fit(**{**known(reference()), "posterior": Posterior.of(ITS.model, Table.of(ITS.tiny.values + 1))})
    with pytest.raises(SettingError, match="other data"):
        compare([fit], reference=other)
    with pytest.raises(SettingError, match="other hyper-parameters"):
        compare(
            [fit],
            reference=Fit(
                **{
                    **known(reference()),
                    "posterior": Posterior.of(dataclasses.replace(ITS.model, rate_rate=2.0), ITS.tiny),
                }
            ),
        )


def test_nothing_to_hold_to_is_said_and_pairs_are_compared():
    base = some(1)
    fits = [
        fit_of(name, {s: v[:1] + (shift if s == "rate" else 0) for s, v in base.items()}, "variational",
               log_q=torch.zeros(1, DRAWS))
        for name, shift in (("one", 0.0), ("near", 0.1), ("far", 5.0))
    ]  # fmt: skip
    result = compare(fits)
    assert result.reference is None
    (line,) = [line for line in result.cards[0] if line.about == "reference"]
    assert line.level == "warn"
    assert "Nearest is near" in line.sentence
    assert result.answer.startswith("Nothing here says which fit is right: add inference=gibbs or nuts. one and near")
    assert len(result.pairwise) == 3
    far = result.pairwise.set_index(["fit", "other"])["median_distance"]
    assert far["one", "far"] > far["one", "near"]


def test_points_are_not_held_to_the_mean_of_the_log_likelihood():
    point = fit_of("em", {s: v.mean((0, 1), keepdim=True) for s, v in some(0).items()}, "point")
    result = compare([point, reference()])
    assert "log_likelihood" not in str(result.table["mean_error_of"][0])
    assert "uncertainty" in {line.about for line in result.cards[0]}


def test_time_to_an_error():
    """Means of independent draws come within 0.25 sd after some tens; a biased sampler never does."""
    right = fit_of("right", some(1), metrics={"warmup": 250})
    base = some(2)
    wrong = fit_of("wrong", {**base, "rate": base["rate"] + 2 * base["rate"].std((0, 1))})
    result = compare([right, wrong, reference()])
    curve = result.curves[0]
    assert curve["seconds"].is_monotonic_increasing
    assert curve["seconds"].iloc[0] > 0.49, "warm-up takes its time, too"
    assert curve["seconds"].iloc[-1] == pytest.approx(1.0)
    assert 0.49 < result.table["seconds_to_error"][0] < 1.0
    assert np.isnan(result.table["seconds_to_error"][1])
    assert result.table["never_within"][1] == 1
    own = error_curve(
        right, result.invariants.query("fit == 'right'").assign(reference_mean=lambda f: f["mean"]), own=True
    )
    assert own["error"].iloc[-1] > 0.2 * own["error"].iloc[-5], "its own mean is not the truth"


def test_tail_probabilities_are_uniform_when_the_model_is_right():
    generator = torch.Generator().manual_seed(0)

    def p(values: int, factor: float) -> float:
        sets = torch.randn(101, values, generator=generator, dtype=torch.float64)
        return tail(sets[0] * factor, sets[1:])[0]

    for values in (1, 7):
        right = [p(values, 1.0) for _ in range(400)]
        assert stats.kstest(right, "uniform").pvalue > 1e-3
        assert np.median([p(values, 4.0) for _ in range(50)]) < 0.05
    constant = torch.ones(20, 3, dtype=torch.float64)
    assert tail(constant[0], constant)[0] == 1.0
    assert tail(constant[0] + 0.1, constant)[0] < 0.05


@pytest.mark.parametrize(
    ("model", "settings", "spoil", "check"),
    [
        ("zip_mixture", {"num_components": 1}, lambda x, r: x + 30 * (r.random(x.shape) < 0.1), "dispersion"),
        ("factor_analysis", {"num_factors": 1}, lambda x, r: np.exp(2 * r.normal(size=x.shape)), "column_skewness"),
        ("poisson_mf", {"num_factors": 1}, lambda x, r: 40 * (r.random(x.shape) < 0.1) + 0 * x, "dispersion"),
    ],
)  # fmt: skip
def test_predictive_checks_find_what_a_model_cannot_do(model, settings, spoil, check, monkeypatch):
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 100)
    generator = np.random.default_rng(1)
    counts = generator.poisson(3.0, (60, 6)).astype(float)
    good = {
        "zip_mixture": counts,
        "factor_analysis": generator.normal(size=(60, 6)),
        "poisson_mf": generator.poisson(generator.gamma(1, 3, (60, 1)) * generator.gamma(1, 1, (1, 6))),
    }[model]
    for data, fits in ((good, True), (spoil(counts, generator), False)):
        fit = pyrozoo.fit(model, "cavi", data=data, restarts=2, draws=200, progress=False, **settings)
        found = {k: v for k, v in fit.metrics.items() if k.startswith("check_") and k.endswith("_p")}
        assert (min(found.values()) > 0.01) == fits, found
        lines = [line for line in verdict(fit.metrics) if line.about.startswith("predictive")]
        assert ("fail" in {line.level for line in lines}) != fits
        if not fits:
            assert any(check.replace("_", " ") in line.sentence and line.level != "pass" for line in lines)


def test_checks_do_not_look_at_cells_that_are_not_observed(monkeypatch):
    fit = fit_of("right", some(1))
    values = ITS.tiny.values.clone()
    filled = torch.where(ITS.tiny.observed, values, 1e6)
    one, other = (Posterior.of(ITS.model, ITS.tiny).checks(each) for each in (values, filled))
    for name in one:
        torch.testing.assert_close(one[name], other[name])
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 30)
    assert checks(fit) == checks(fit) != {}, "the same seed"


def test_statistics_that_the_data_lack_are_left_out(monkeypatch):
    """A model without checks of its own is checked cell by cell, where there is a cell."""
    monkeypatch.setattr(type(Posterior.of(ITS.model, ITS.tiny)), "checks", HandBuilt.checks)
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 30)
    found = checks(fit_of("right", some(1)))
    assert found
    assert all(np.isfinite(value) for value in found.values() if not isinstance(value, str))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Return a sweep of two methods, a job that failed and a job that was killed."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = {"rows": 40, "columns": 3, "num_components": 2, "progress": False}
    for i, (method, own) in enumerate((("em", {}), ("gibbs", {"warmup": 100, "draws": 200, "thin": 1}))):
        fit = pyrozoo.fit("zip_mixture", method, **settings, **own)
        fit.save(folder / f"{i}_zip_mixture_{method}", report="none")
    for name in ("2_zip_mixture_svi", "3_zip_mixture_nuts"):
        (folder / name / ".hydra").mkdir(parents=True)
        config = "model: {name: zip_mixture}\ninference: {name: " + name.rsplit("_", 1)[1] + "}\n"
        (folder / name / ".hydra" / "config.yaml").write_text(config)
    said = '{"model": "zip_mixture", "method": "svi", "status": "failed", "error": "the guide fell over"}'
    (folder / "2_zip_mixture_svi" / "metrics.json").write_text(said)
    return folder


def rebuild(capsys, *arguments: object) -> tuple[int, str, str]:
    before = sys.argv
    sys.argv = ["pyrozoo.report", *map(str, arguments)]
    try:
        code = 0
        rebuild_command.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_reports_are_made_anew_from_directories(sweep, capsys, here):
    code, out, err = rebuild(capsys, sweep)
    assert (code, err) == (0, "")
    text = (sweep / "report.html").read_text(encoding="utf-8")
    assert out.strip() == str(sweep / "report.html")
    assert "the guide fell over" in text
    assert "3_zip_mixture_nuts" in text, "a job that was killed before it could say why"
    table = pd.read_csv(sweep / "comparison.csv")
    assert table["method"].tolist() == ["em", "gibbs", "svi", "nuts"]
    cards = pd.read_csv(sweep / "cards.csv")
    assert set(cards["level"]) <= set(LEVELS)
    assert set(cards["fit"]) == {"em", "gibbs"}
    one = sweep / "0_zip_mixture_em"
    assert rebuild(capsys, one)[0] == 0
    assert "Verdict" in (one / "report.html").read_text(encoding="utf-8")
    code, out, _ = rebuild(capsys, *runs_of(sweep)[:2])
    assert code == 0
    assert Path(out.strip()).parts[:2] == ("outputs", "comparisons")
    assert rebuild(capsys, one, "output=mine")[0] == 0
    assert (here / "mine" / "report.html").is_file()


def test_reference_and_thresholds_of_a_rebuilt_report(sweep, capsys, here):
    gibbs, em = sweep / "1_zip_mixture_gibbs", sweep / "0_zip_mixture_em"
    assert rebuild(capsys, em, f"reference={gibbs}")[0] == 0
    assert "The reference, gibbs (stored), has not converged" in (em / "report.html").read_text(encoding="utf-8")
    content = ("verdict.rhat_good=2", "verdict.rhat_bad=3", "verdict.ess=5")
    assert rebuild(capsys, em, f"reference={gibbs}", "verdict.mean_good=50", "verdict.mean_bad=50", *content)[0] == 0
    text = (em / "report.html").read_text(encoding="utf-8")
    assert "Use its means, within" in text
    assert "gibbs (stored)&#39;s" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "'nowhere' is not a directory"),
        (["."], "holds neither a run nor a sweep"),
        (["reference=x"], "at least one run directory"),
        ([".", "verdict.mean_good=much"], "must be a number"),
    ],
)
def test_mistakes_of_the_report_command_are_one_line(arguments, says, capsys, here):
    code, out, err = rebuild(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err


def test_the_report_command_from_a_shell():
    done = subprocess.run([sys.executable, "-m", "pyrozoo.report"], capture_output=True, text=True, check=True)
    assert "one sweep directory" in done.stdout


QUICK = ["inference.warmup=20", "inference.draws=100", "inference.thin=1"]


def test_sweep_with_a_stored_reference(here, capsys):
    small = ["model=zip_mixture", "data.rows=40", "data.columns=3", "model.num_components=2", "report=none"]
    small += ["moments=0", "verdict.time_error=0.5"]
    code, _, err = run(capsys, *small, "inference=gibbs", *QUICK, "hydra.run.dir=best")
    assert code == 0, err
    code, out, err = run(capsys, "-m", *small, "inference=em,cavi", "reference=best")
    assert code == 0, err
    directory = Path(out.strip().splitlines()[-1]).parent
    table = pd.read_csv(directory / "comparison.csv")
    assert table["fit"].tolist() == ["em", "cavi", "gibbs (stored)"]
    assert set(table["reference"]) == {"gibbs (stored)"}
    assert "within 0.5 sd" in pd.read_csv(directory / "cards.csv")["sentence"].str.cat()
    assert out.strip().splitlines()[-2].startswith(("Believe gibbs (stored).", "Believe none yet"))
    code, out, err = run(capsys, *small, "inference=em", "reference=best")
    assert code == 0, err
    assert "gibbs (stored)" in out
    for argument, says in (
        ("reference=nowhere", "not a finished run directory"),
        ("verdict.mean_good=-1", "verdict.mean_good"),
        ("data.seed=5", "other data"),
    ):
        code, _, err = run(
            capsys, *small, "inference=em", *(["reference=best"] if "data" in argument else []), argument
        )
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_fits_of_several_data_sets_are_compared_set_by_set(here, capsys):
    small = ["model=zip_mixture", "data.rows=30", "data.columns=3", "model.num_components=1", "inference.restarts=1"]
    code, out, err = run(capsys, "-m", *small, "inference=em", "data.seed=0,1", "report=none")
    assert code == 0, err
    directory = Path(out.strip().splitlines()[-1]).parent
    assert {path.name for path in directory.glob("invariants*.csv")} == {
        "invariants_zip_mixture_1.csv", "invariants_zip_mixture_2.csv",
    }  # fmt: skip


def test_a_reference_that_cannot_be_read(here):
    with pytest.raises(DataError, match=r"no metrics\.json"):
        pyrozoo.compare([reference()], reference=here)
