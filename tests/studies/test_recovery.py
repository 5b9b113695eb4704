"""Recovery studies: what they compute, what they write, and how they go on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import pyrozoo
from pyrozoo.core.errors import DataError, NotApplicable, NumericalError, SettingError
from pyrozoo.run import catalog
from pyrozoo.studies.recover import run as recovery
from pyrozoo.studies.recover.judge import COLUMNS, plus_minus, recovered, sentences, shares, summarise
from tests.command.test_command import run

pytestmark = pytest.mark.usefixtures("unchecked")

SMALL = ["recovery.simulations=2", "recovery.rows=40", "recovery.methods=vem,exact", "threads=1"]
LADDER = catalog.settings("experiment", "shrinkage_ladder")["recovery"]
STUDY = {
    "model": "categorical_fa",
    "simulations": 2,
    "seed": 0,
    "sites": ["latent_covariance"],
    "methods": {"vem": {"max_iterations": 5}, "exact": {"max_iterations": 3}},
    "settings": [
        {
            "name": "two dimensions",
            "model": {"latent_dimension": 2, "loadings": "fixed", "intercepts": False},
            "shape": {"rows": 40, "columns": 6, "categories": 3},
            "truth": {"latent_mean": [0.0, 0.0], "latent_covariance": [[1.0, 0.5], [0.5, 1.0]]},
        }
    ],
}
ZIP = {
    "model": "zip_mixture",
    "simulations": 2,
    "seed": 0,
    "sites": ["rate"],
    "methods": {"em": {"restarts": 2, "max_iterations": 20}, "vem": {}},
    "settings": [
        {
            "name": "small",
            "model": {"num_components": 2},
            "shape": {"rows": 60, "columns": 2},
            "truth": {"rate": [[1.0, 1.0], [9.0, 9.0]], "on_prob": [[0.9, 0.9], [0.9, 0.9]], "weights": [0.5, 0.5]},
        }
    ],
}


@pytest.fixture
def quick(monkeypatch):
    """Leave out of the ladder what has two dimensions: it takes most of the time."""
    few = LADDER | {"settings": [each for each in LADDER["settings"] if each["model"]["latent_dimension"] == 1]}
    whole = catalog.settings
    monkeypatch.setattr(
        catalog, "settings", lambda g, n: {"recovery": few} if n == "shrinkage_ladder" else whole(g, n)
    )  # fmt: skip


def rows(method, values, truth=1.0, setting="A", quantity="s[0, 0]", status="converged"):
    return [
        dict(zip(COLUMNS, (setting, i, method, "point", status, 2.0, quantity, value, truth, ""), strict=True))
        for i, value in enumerate(values)
    ]


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Check that all but the time is the same to the last bit."""
    pd.testing.assert_frame_equal(a.drop(columns="seconds"), b.drop(columns="seconds"), check_exact=True)


def test_summary_is_what_a_hand_computes():
    frame = pd.DataFrame([*rows("vem", [0.4, 0.6, 0.8]), *rows("exact", [0.9, 1.2, 1.2], status="max_iterations")])
    summary = summarise(frame).set_index("method")
    vem, exact = summary.loc["vem"], summary.loc["exact"]
    assert (vem["data_sets"], vem["truth"], vem["seconds"], vem["unfinished"]) == (3, 1.0, 2.0, 0)
    np.testing.assert_allclose([vem["mean"], vem["sd"], vem["se"]], [0.6, 0.2, 0.2 / 3**0.5])
    np.testing.assert_allclose([vem["bias"], vem["z"]], [-0.4, -0.4 / (0.2 / 3**0.5)])
    # Paired: -0.5, -0.6, -0.4
    np.testing.assert_allclose([vem["difference"], vem["difference_se"]], [-0.5, 0.1 / 3**0.5])
    assert vem["reference"] == "exact"
    assert np.isnan(exact["difference"])
    assert exact["unfinished"] == 3
    share = shares(frame).set_index("method")["share"]
    np.testing.assert_allclose([share["vem"], share["exact"]], [0.6, 1.1])


def test_pairs_are_of_data_sets_that_both_have():
    frame = pd.DataFrame([*rows("vem", [0.4, 0.6, 99.0]), *rows("nuts", [0.9, 1.2])])
    summary = summarise(frame).set_index("method")
    assert summary.loc["vem", "reference"] == "nuts"
    np.testing.assert_allclose(summary.loc["vem", "difference"], -0.55)
    alone = summarise(pd.DataFrame(rows("vem", [0.4, 0.6])))
    assert alone["reference"].tolist() == [""]
    assert alone["difference"].isna().all()


def test_shares_are_slopes_over_all_quantities():
    frame = pd.DataFrame([*rows("vem", [0.5, 0.7], 1.0), *rows("vem", [1.0, 1.4], 2.0, quantity="s[1, 1]")])
    share = shares(frame).iloc[0]
    np.testing.assert_allclose([share["share"], share["se"]], [0.6, 0.1])


def test_sentences_follow_the_numbers():
    few = [*rows("exact", [0.9, 1.0, 1.1]), *rows("vem", [0.5, 0.51, 0.52]), *rows("svi", [1.6, 1.61, 1.62])]
    more = [*rows("exact", [1.0, 0.9, 1.1], setting="B"), *rows("vem", [0.9, 0.91, 0.92], setting="B")]
    told = sentences(pd.DataFrame([*few, *more]))
    assert told["Against the truth"][1] == (
        "A: more than 3 standard errors below the truth: vem; above it: svi; within: exact."
    )
    assert told["Against exact on the same data sets"][0] == "A: vem -0.49 ± 0.05, svi +0.61 ± 0.05."
    assert told["From setting to setting"] == [
        "exact recovers 100% to 100% of the truth: the settings do not differ by more than their noise.",
        "vem recovers most of the truth, 91%, in 'B', and least, 51%, in 'A'.",
    ]
    assert "From 3 data sets" in told["Against the truth"][0]
    one = sentences(pd.DataFrame(rows("vem", [0.5])))
    assert one["Against the truth"][1] == "A: one data set says nothing about bias."
    assert list(one) == ["Against the truth"]
    two = [*rows("vem", [0.5, 0.51]), *rows("vem", [1.0, 1.1], quantity="s[1, 1]")]
    line = sentences(pd.DataFrame(two))["Against the truth"][1]
    assert "below the truth: vem (s[0, 0]); above it: none; within: none" in line


def test_symmetric_sites_are_told_by_a_draw():
    """Of two by two loadings two numbers differ; a covariance is symmetric."""
    setting = {"name": "a", "model": {"num_factors": 2}, "shape": {"rows": 5, "columns": 2}, "truth": {}}
    found = recovery._prepare({"model": "factor_analysis", "sites": ["loadings"]}, setting, None, None)
    assert found.symmetric == frozenset()
    (ours,) = STUDY["settings"]
    assert "latent_covariance" in recovery._prepare(STUDY, ours, None, None).symmetric


def test_who_recovers_the_truth_in_a_sentence():
    good, bad = rows("exact", [0.9, 1.0, 1.1]), rows("vem", [0.5, 0.51, 0.52])
    also = rows("nuts", [1.1, 0.95, 1.0])
    assert recovered(pd.DataFrame(good)) == "exact recovers the truth within noise."
    assert recovered(pd.DataFrame([*good, *also])) == "exact and nuts recover the truth within noise."
    assert recovered(pd.DataFrame([*good, *bad])) == (
        "exact recovers the truth within noise. vem does not, for some quantities."
    )
    assert recovered(pd.DataFrame(bad)) == "No method recovers all of the truth."
    assert recovered(pd.DataFrame(good[:1])) == "One data set says nothing about bias: simulate more."
    half = [*good, *rows("exact", [0.5, 0.51, 0.52], setting="B")]
    assert recovered(pd.DataFrame(half)) == "No method recovers all of the truth.", "in every setting"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(0.927, 0.014, "0.93 ± 0.01"), (0.0095, 0.0004, "0.0095 ± 0.0004"), (0.5, np.nan, "0.50"), (2, 4, "2.00 ± 4.00")],
)
def test_numbers_are_as_exact_as_their_errors(value, error, text):
    assert plus_minus(value, error) == text


def test_same_seed_same_bits_whatever_else_is_run(here):
    first = pyrozoo.recover(STUDY, progress=False)
    assert first.estimates["quantity"].drop_duplicates().tolist() == [
        "latent_covariance[0, 0]", "latent_covariance[1, 0]", "latent_covariance[1, 1]",
    ]  # fmt: skip
    assert first.estimates["truth"].tolist() == 4 * [1.0, 0.5, 1.0]
    same(first.estimates, pyrozoo.recover(STUDY, progress=False).estimates)
    alone = pyrozoo.recover(STUDY, methods=["exact"], simulations=1, progress=False).estimates
    expected = first.estimates.query("method == 'exact' and simulation == 0").reset_index(drop=True)
    same(alone, expected)
    other = pyrozoo.recover(STUDY, methods=["exact"], simulations=1, seed=1, progress=False).estimates
    assert (other["estimate"] != alone["estimate"]).all()
    assert "exact" in str(first)


def test_a_killed_study_goes_on_to_the_same_estimates(here, monkeypatch):
    whole = pyrozoo.recover(STUDY, progress=False, directory="whole")
    fit, fits = recovery.engine_fit, []

    def killed(*arguments, **settings):
        if len(fits) == 2:
            raise KeyboardInterrupt
        fits.append(settings)
        return fit(*arguments, **settings)

    monkeypatch.setattr(recovery, "engine_fit", killed)
    part = pyrozoo.recover(STUDY, progress=False, directory="part")
    assert part.status == "interrupted"
    assert len(part.estimates) == 6
    monkeypatch.setattr(recovery, "engine_fit", lambda *a, **s: fits.append(s) or fit(*a, **s))
    rest = pyrozoo.recover(STUDY, progress=False, directory="part", resume=True)
    assert (rest.status, len(fits)) == ("completed", 4)
    same(rest.estimates, whole.estimates)
    more = pyrozoo.recover(STUDY, progress=False, directory="part", resume=True, simulations=3)
    assert (len(fits), more.study["simulations"]) == (6, 3)
    same(more.estimates.query("simulation < 2").reset_index(drop=True), whole.estimates)
    with pytest.raises(SettingError, match=r"recovery\.seed is not that of the study"):
        pyrozoo.recover(STUDY, directory="part", resume=True, seed=5)
    with pytest.raises(SettingError, match=r"recovery\.rows is not that of the study"):
        pyrozoo.recover(STUDY, directory="part", resume=True, rows=50)
    with pytest.raises(SettingError, match="holds a study already"):
        pyrozoo.recover(STUDY, directory="part")
    with pytest.raises(DataError, match="not a run directory"):
        pyrozoo.recover(STUDY, directory="absent", resume=True)


def test_another_model_aligned_to_the_truth_and_a_method_it_has_not(here):
    result = pyrozoo.recover(ZIP, progress=False)
    refused = result.estimates[result.estimates["status"] == "not_applicable"]
    assert refused["method"].tolist() == ["vem", "vem"]
    assert "zip_mixture has no method vem" in refused["error"].iloc[0]
    summary = result.summary.set_index("quantity")
    assert summary.index.tolist() == ["rate[0, 0]", "rate[0, 1]", "rate[1, 0]", "rate[1, 1]"]
    np.testing.assert_allclose(summary["mean"], summary["truth"], atol=1.5)
    report = (result.save("study") / "report.html").read_text(encoding="utf-8")
    assert "Not applicable" in report
    assert "zip_mixture has no method vem" in report
    assert json.loads(Path("study/metrics.json").read_text())["fits"] == 2
    assert pd.read_csv("study/summary.csv")["method"].tolist() == ["em"] * 4


def test_a_truth_drawn_from_the_prior_is_compared_by_its_errors(here):
    setting = ZIP["settings"][0] | {"truth": {}}
    result = pyrozoo.recover(ZIP | {"settings": [setting]}, methods=["em"], progress=False)
    assert result.estimates["truth"].nunique() == 8
    summary = result.summary
    assert np.isfinite(summary["bias"]).all()
    assert (result.save("study") / "figures" / "recovery.png").stat().st_size > 10_000


def test_a_mistake_in_a_fit_names_its_place(monkeypatch):
    def broken(*arguments, **settings):
        raise NumericalError("not finite")

    monkeypatch.setattr(recovery, "engine_fit", broken)
    with pytest.raises(NumericalError, match="vem, 'two dimensions', data set 0: not finite"):
        pyrozoo.recover(STUDY, progress=False)

    def refusing(*arguments, **settings):
        raise NotApplicable("too large")

    monkeypatch.setattr(recovery, "engine_fit", refusing)
    assert pyrozoo.recover(STUDY, progress=False).estimates["error"].tolist() == ["too large"] * 4


def changed(**parts):
    return STUDY | {"settings": [STUDY["settings"][0] | parts]}


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ("shrinkage_lader", "did you mean 'shrinkage_ladder'"),
        (STUDY | {"simulations": 0}, "recovery.simulations is 0"),
        (STUDY | {"simulation": 2}, "recovery.simulation: a study has no such setting; did you mean 'simulations'"),
        ({key: value for key, value in STUDY.items() if key != "sites"}, "recovery.sites is missing"),
        (STUDY | {"methods": ["vem"]}, "recovery.methods is ['vem']; it must be names with values"),
        (STUDY | {"methods": {"vemm": {}}}, "did you mean 'vem'"),
        (STUDY | {"methods": {"vem": {"restart": 1}}}, "recovery.methods.vem has no setting 'restart'"),
        (STUDY | {"sites": ["covariance"]}, "there is no site 'covariance'"),
        (STUDY | {"settings": STUDY["settings"] * 2}, "'two dimensions' is there twice"),
        (changed(truth={"latent_mean": [0.0]}), "truth.latent_mean has shape [1], not [2]"),
        (changed(truth={"latent_means": [0.0]}), "did you mean 'latent_mean'"),
        (changed(truth={"latent_mean": ["a", "b"]}), "it must be numbers"),
        (changed(truth={"latent_covariance": [[1.0, 2.0], [2.0, 1.0]]}), "nothing can be simulated"),
        (changed(shape={"rows": 10}), "'two dimensions'"),
        (changed(shape={"rows": 10, "column": 3}), "shape.column"),
        (changed(model={"latent_dimension": 0}), "model.latent_dimension is 0"),
        (changed(models={}), "recovery.settings.models"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_mistakes_in_a_study_name_the_field(study, says):
    with pytest.raises((SettingError, DataError), match=re.escape(says)) as caught:
        pyrozoo.recover(study, progress=False)
    assert "\n" not in str(caught.value)


def test_command(here, capsys, quick):
    code, out, err = run(capsys, "experiment=shrinkage_ladder", *SMALL)
    assert code == 0, err
    *table, last = out.strip().splitlines()
    report = Path(last)
    assert re.fullmatch(r"outputs/recovery/shrinkage_ladder/\d{4}-\d\d-\d\d_[\d-]+/report.html", report.as_posix())
    assert "the truth" in table[0], "the answer first"
    assert {line.split()[0] for line in table[3:]} == {"vem", "exact"}
    directory = report.parent
    assert {path.name for path in directory.iterdir()} == {
        "estimates.csv", "summary.csv", "figures", "report.html", "metrics.json", ".hydra",
    }  # fmt: skip
    study = catalog.settings("experiment", "shrinkage_ladder")["recovery"]
    text = report.read_text(encoding="utf-8")
    for word in (*(s["name"] for s in study["settings"]), "vem", "exact", study["conclusion"].split(",")[0]):
        assert word in text
    assert text.count("data:image/png;base64,") == 1
    assert "http" not in text.replace("http://www.w3.org", "")
    metrics = json.loads((directory / "metrics.json").read_text())
    assert (metrics["experiment"], metrics["fits"], metrics["status"]) == ("shrinkage_ladder", 8, "completed")
    estimates = pd.read_csv(directory / "estimates.csv")
    assert len(estimates) == 2 * 2 * 2
    stored = yaml.safe_load((directory / ".hydra" / "config.yaml").read_text())["recovery"]
    assert {setting["shape"]["rows"] for setting in stored["settings"]} == {40}
    resumed = [f"recovery.resume={directory}", "recovery.methods=vem,laplace_em", "recovery.simulations=1", "threads=1"]
    code, out, err = run(capsys, "experiment=shrinkage_ladder", *resumed)
    assert code == 0, err
    assert out.strip().splitlines()[-1] == str(report)
    again = pd.read_csv(directory / "estimates.csv")
    assert again["method"].drop_duplicates().tolist() == ["vem", "exact", "laplace_em"]
    same(again[again["method"] != "laplace_em"].reset_index(drop=True), estimates)


MISTAKES = [
    (["model=zip_mixture"], "recovery study"),
    (["seed=1"], "did you mean 'recovery.seed'"),
    (["recovery.simulation=2"], "did you mean 'recovery.simulations'"),
    (["-m"], "recovery study"),
    (["recovery.simulations=many"], "recovery.simulations is 'many'"),
    (["recovery.simulations=0"], "recovery.simulations is 0"),
    (["recovery.rows=0"], "rows"),
    (["recovery.methods=vemm"], "did you mean 'vem'"),
    (["recovery.resume=absent"], "absent"),
    (["threads=0"], "threads is 0"),
    (["progress=perhaps"], "config.progress is 'perhaps'"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_mistakes_are_one_line_and_leave_nothing(here, capsys, arguments, says):
    code, out, err = run(capsys, "experiment=shrinkage_ladder", *arguments)
    assert code == 2, err
    assert says in err
    assert (out, err.count("\n")) == ("", 1)
    assert not list(here.iterdir())


def test_no_sweep_holds_a_study(here, capsys):
    code, _, err = run(capsys, "-m", "experiment=shrinkage_ladder,jester_map")
    assert (code, err.count("\n")) == (2, 1)
    assert "runs by itself" in err


def test_interrupted_command_exits_130_with_what_there_is(here, capsys, monkeypatch, quick):
    fit, fits = recovery.engine_fit, []

    def stopped(*arguments, **settings):
        fits.append(fit(*arguments, **settings))
        fits[-1].status = "interrupted" if len(fits) == 3 else fits[-1].status
        return fits[-1]

    monkeypatch.setattr(recovery, "engine_fit", stopped)
    code, out, _ = run(capsys, "experiment=shrinkage_ladder", *SMALL)
    assert code == 130
    directory = Path(out.strip().splitlines()[-1]).parent
    assert json.loads((directory / "metrics.json").read_text())["status"] == "interrupted"
    assert pd.read_csv(directory / "estimates.csv")["method"].tolist() == ["vem", "exact"]
    fits[:] = [None] * 2
    code, out, _ = run(capsys, "experiment=shrinkage_ladder", *SMALL)
    assert (code, out) == (130, "")
    assert len(list(here.glob("outputs/recovery/*/*"))) == 1
