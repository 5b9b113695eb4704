"""Run directories, comparisons and pages, through the Python interface."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from types import SimpleNamespace

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch

import pyrozoo
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.data.table import Table
from pyrozoo.diagnostics.compare import compare
from pyrozoo.diagnostics.verdict import verdict
from pyrozoo.report import html
from pyrozoo.report.plates import draw_plates

pytestmark = pytest.mark.usefixtures("unchecked")  # the laws look at all shapes

SIZES = {"rows": 80, "columns": 4, "num_components": 2, "progress": False}
FILES = {
    "posterior.nc",
    "trace.csv",
    "metrics.json",
    "summary.csv",
    "report.html",
    "runs.csv",
    ".hydra",
    "tables",
    "figures",
}


@cache
def fitted():
    return [
        pyrozoo.fit("zip_mixture", "em", **SIZES),
        pyrozoo.fit("zip_mixture", "cavi", draws=300, **SIZES),
        pyrozoo.fit("zip_mixture", "gibbs", warmup=50, draws=200, thin=2, **SIZES),
    ]


@pytest.fixture
def fits():
    """Return fits that no test changes."""
    return fitted()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def saved(fits, folder, monkeypatch):
    """Return the fits' run directories, written once; of pictures of one name one is rendered."""
    rendered, png = {}, html.png

    def once(picture):
        rendered[picture.name] = rendered.get(picture.name) or png(picture)
        return rendered[picture.name]

    monkeypatch.setattr(html, "png", once)
    return [folder / fit.method if (folder / fit.method).exists() else fit.save(folder / fit.method) for fit in fits]


@pytest.mark.quick
def test_run_directory_is_complete_and_comes_back(fits, saved):
    for fit, directory in zip(fits, saved, strict=True):
        assert {path.name for path in directory.iterdir()} == FILES
        metrics = json.loads((directory / "metrics.json").read_text())
        assert {"model", "method", "kind", "status", "objective_name", "objective", "iterations", "seconds", "seed",
                "holdout_elpd", "holdout_rmse"} <= set(metrics)  # fmt: skip
        assert list(pd.read_csv(directory / "trace.csv")) == ["iteration", "chain", "objective", "seconds"]
        assert {"components.csv", "clusters.csv", "holdout.csv"} <= {p.name for p in (directory / "tables").iterdir()}
        figures = {path.stem for path in (directory / "figures").iterdir()}
        assert {"objective", "posterior", "components", "affinity", "model", "predictive", "holdout"} <= figures
        assert figures == set(fit.pictures)
        assert {path.stem for path in (directory / "tables").iterdir()} == set(fit.tables)
        assert repr(fit).startswith(f"zip_mixture by {fit.method}: {fit.kind}")
        assert "\n" not in repr(fit)
        data = az.from_netcdf(str(directory / "posterior.nc"))
        assert list(data.posterior["column"].values) == list(fit.data.column_labels)
        assert list(data.log_likelihood["row"].values) == list(fit.data.row_labels)
        back = pyrozoo.load(directory)
        assert back.metrics == fit.metrics
        for site, value in fit.draws.items():
            assert torch.equal(back.draws[site], value)
        hidden = back.posterior.predict(back.draws)
        torch.testing.assert_close(hidden.mean, fit.posterior.predict(fit.draws).mean)


def test_loo_works_on_what_is_stored(fits, saved):
    for fit, directory in zip(fits[1:], saved[1:], strict=True):
        data = az.from_netcdf(str(directory / "posterior.nc"))
        assert az.loo(data).elpd_loo == pytest.approx(float(fit.metrics["loo_elpd"]), abs=1.0)


def test_loo_smooths_weights_however_few_draws_there_are():
    """Continuous weights are smoothed; those of discrete sites, which take few values, are averaged as they are."""
    fit = pyrozoo.fit("zip_mixture", "gibbs", warmup=20, draws=20, thin=1, chains=1, **SIZES)
    with np.errstate(all="ignore"):
        expected = az.loo(fit.inference_data, reff=None).elpd_loo
    assert fit.metrics["loo_elpd"] == pytest.approx(float(expected), abs=1e-6)
    field = pyrozoo.fit("potts_grid", "exact", rows=5, columns=6, draws=500, observation_strength=1.0, progress=False)
    logs = field.pointwise[1][0]
    plain = np.log(len(logs)) - torch.logsumexp(-logs, 0).numpy()
    assert field.metrics["loo_elpd"] == pytest.approx(plain.sum(), abs=1e-9)


def test_page_is_self_contained(fits, saved):
    text = (saved[1] / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text), "nothing is fetched"
    assert "k-hat" in text
    assert text.index(fits[1].verdict.answer) < text.index("<h1>"), "the answer first"
    assert "Dirichlet" in text


def test_a_field_too_large_to_be_drawn_from_its_prior_has_its_plates():
    fit = pyrozoo.fit("potts_grid", "icm", rows=20, columns=20, progress=False)
    with pytest.raises(NotApplicable):
        fit.posterior.prior_draw()
    assert {text.get_text() for text in draw_plates(fit.posterior).axes[0].texts} >= {"label", "image"}


@pytest.mark.parametrize("value", [torch.full((2, 50), 3.7), -1e6 + 1e-9 * torch.rand(2, 50, dtype=torch.float64)])
def test_traces_of_what_hardly_moves_are_drawn(value):
    from pyrozoo.report.pictures import _traces

    drawn = _traces(SimpleNamespace(invariants={"log_likelihood": value})).figure
    assert sum(patch.get_path().vertices[:, 1].max() for patch in drawn.axes[1].patches) >= 50


@pytest.mark.usefixtures("undrawn")
def test_labels_with_markup_are_escaped(tmp_path):
    frame = pd.DataFrame({"<script>alert(1)</script>": [0, 1, 2, 5], 'b,"c"': [3, 0, 0, 1]})
    fit = pyrozoo.fit("zip_mixture", "em", data=frame, num_components=1, restarts=1, progress=False)
    directory = fit.save(tmp_path / "run")
    assert "<script>alert" not in (directory / "report.html").read_text(encoding="utf-8")
    table = pd.read_csv(directory / "tables" / "components.csv")
    assert 'rate[b,"c"]' in table


@pytest.mark.usefixtures("undrawn")
def test_budget_thins_and_says_so(tmp_path):
    """All of 200 draws would take 0.9 MB, and what is no draw takes 0.2 MB."""
    fit = pyrozoo.fit("zip_mixture", "gibbs", warmup=10, draws=200, thin=1, posterior_megabytes=0.2, **SIZES)
    directory = fit.save(tmp_path / "run")
    assert (directory / "posterior.nc").stat().st_size < 500_000
    assert "draw in" in az.from_netcdf(str(directory / "posterior.nc")).attrs["notes"]
    assert "draw in" in (directory / "report.html").read_text(encoding="utf-8")
    assert fit.draws["rate"].shape[1] == 200, "the fit itself keeps all"


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([0, 1e-7, 3e-8], "All 3 restarts end at the same optimum, within 0.1: fewer would do."),
        ([0, 0.05, 3.0, 4.0], "2 of 4 restarts reach the best optimum, within 0.1; the others stop below it."),
        ([0, 0.2, 3.0], "Only one of 3 restarts reaches the best optimum."),
    ],
)
def test_what_is_said_of_restarts_follows_from_where_they_end(gaps, said):
    from pyrozoo.report.pictures import ALIKE, _restarts

    picture = _restarts(SimpleNamespace(runs=pd.DataFrame({"objective": -5.0 - np.array(gaps)})))
    assert picture.caption.startswith(said)
    assert picture.figure.axes[0].get_xlim()[1] >= ALIKE, "rounding is not drawn as if it were a difference"


def test_damaged_directories_are_named(saved, tmp_path):
    with pytest.raises(DataError, match=r"metrics\.json"):
        pyrozoo.load(tmp_path)
    directory = shutil.copytree(saved[0], tmp_path / "run")
    (directory / "posterior.nc").write_bytes(b"cut")
    with pytest.raises(DataError, match="cannot be read"):
        pyrozoo.load(directory)


@pytest.mark.usefixtures("undrawn")
def test_comparison(fits, tmp_path):
    result = pyrozoo.compare(fits)
    assert list(result.table["fit"]) == ["em", "cavi", "gibbs"]
    assert result.reference == "gibbs"
    assert result.table["rhat_max"].isna().tolist() == [True, True, False], "only samples have an R-hat"
    assert result.table["khat"].isna().tolist() == [True, False, True]
    ours = result.invariants.query("fit == 'cavi'").set_index("quantity")
    assert ours["error_in_sd"].abs().median() < 1
    assert "column_mean[column_2]" in ours.index
    assert {"weights[0]", "rate[1, column_3]"} <= set(result.parameters["quantity"])
    own = result.invariants.query("fit == 'gibbs'")
    assert np.allclose(own["error_in_sd"], 0)
    assert np.allclose(own["sd_ratio"], 1)
    directory = result.save(tmp_path / "all")
    assert {"comparison.csv", "report.html", "parameters.csv", "invariants.csv"} <= {
        p.name for p in directory.iterdir()
    }
    assert "gibbs" in str(result)


def test_a_notebook_shows_verdicts_and_pictures(fits, tmp_path):
    comparison = pyrozoo.compare(fits)
    comparison.save(tmp_path)
    cards = pd.read_csv(tmp_path / "cards.csv")
    pd.testing.assert_frame_equal(comparison.reasons, cards, check_dtype=False)
    assert list(comparison.verdicts.index) == ["em", "cavi", "gibbs"]
    for fit, row in comparison.verdicts.iterrows():
        levels = cards.loc[cards["fit"] == fit, "level"]
        assert row["overall"] == max(levels, key=["pass", "warn", "fail"].index)
        assert set(row[row != ""]) <= {"pass", "warn", "fail"}
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == set(comparison.pictures)
    assert comparison._repr_html_().count(">fail<") == (comparison.verdicts == "fail").sum().sum()
    assert comparison.pictures["errors"]._repr_png_().startswith(b"\x89PNG")
    assert "errors: " in repr(comparison.pictures["errors"])


def test_fits_in_single_and_double_precision_stand_side_by_side(fits):
    rng = np.random.default_rng(0)
    table = Table.of(rng.normal(size=(60, 1)) * [1.0, 0.8, -0.9, 0.7] + 0.5 * rng.normal(size=(60, 4)))
    assert table.same(table.to("cpu", torch.float32)), "decimals that single precision rounds"
    one, other = (
        pyrozoo.fit("factor_analysis", "em", data=table, num_factors=1, restarts=2, dtype=dtype, progress=False)
        for dtype in ("float64", "float32")
    )
    parameters = pyrozoo.compare([one, other]).parameters
    means = [parameters.loc[parameters["fit"] == name, "mean"].to_numpy() for name in parameters["fit"].unique()]
    np.testing.assert_allclose(*means, atol=0.02)


def test_comparison_aligns_labels(fits):
    flipped = pyrozoo.Result.of(fits[2], fits[2].settings)
    flipped.draws = Draws({site: value.flip(2) for site, value in fits[2].draws.items()})
    frame = compare([fits[2], flipped]).parameters
    a, b = (frame[frame["fit"] == name]["mean"].to_numpy() for name in frame["fit"].unique())
    np.testing.assert_allclose(a, b)


@pytest.mark.usefixtures("undrawn")
def test_comparison_over_the_number_of_components(tmp_path):
    sizes = {**SIZES, "warmup": 50, "draws": 100, "thin": 1}
    fits = [pyrozoo.fit("zip_mixture", "gibbs", **{**sizes, "num_components": k}) for k in (1, 2)]
    result = pyrozoo.compare(fits)
    assert result.table["num_components"].tolist() == [1, 2]
    assert result.references == result.names, "each number of components has a posterior, and a reference, of its own"
    result.save(tmp_path / "all")
    assert (tmp_path / "all" / "figures" / "choice_num_components.png").is_file()
    assert result.pictures["choice_num_components"]._repr_png_()


def test_fits_of_different_data_are_not_compared(fits):
    other = pyrozoo.fit("zip_mixture", "em", data_seed=1, **SIZES)
    with pytest.raises(SettingError, match="different data"):
        pyrozoo.compare([fits[0], other])


@pytest.mark.usefixtures("undrawn")
def test_missing_cells_and_new_rows_are_completed(tmp_path):
    generator = np.random.default_rng(0)
    counts = generator.poisson([[1.0, 6, 3]], (50, 3)).astype(float)
    counts[4, 1] = np.nan
    new = pd.DataFrame({"x": [1.0, np.nan], "y": [5.0, 6], "z": [np.nan, 2]}, index=["p", "q"])
    fit = pyrozoo.fit("zip_mixture", "em", data=counts, test=new, num_components=1, progress=False)
    tables = fit.save(tmp_path / "run") / "tables"
    missing = pd.read_csv(tables / "missing.csv")
    assert missing[["row", "column"]].to_numpy().tolist() == [["row_4", "column_1"]]
    assert missing["mean"].iloc[0] == pytest.approx(6, abs=1.0)
    assert pd.read_csv(tables / "test_clusters.csv")["row"].tolist() == ["p", "q"]
    assert pd.read_csv(tables / "test_missing.csv")["row"].tolist() == ["p", "q"]
    with pytest.raises(DataError, match="2 columns where"):
        pyrozoo.fit("zip_mixture", "em", data=counts, test=[[1, 2]], progress=False)


def test_comparison_needs_fits_of_one_model():
    with pytest.raises(SettingError, match="nothing to compare"):
        compare([])


def test_no_sampler_no_reference(fits):
    result = pyrozoo.compare(fits[:2])
    assert result.reference is None
    assert "error_in_sd" not in result.invariants
    assert result.pairwise[["fit", "other"]].to_numpy().tolist() == [["em", "cavi"]]
    for lines in result.cards:
        (line,) = [line for line in lines if line.about == "reference"]
        assert line.level == "warn"
        assert line.sentence.startswith("Nothing says which fit is right")


BASE = {"kind": "samples", "status": "completed", "iterations": 10, "rhat_max_raw": 1.0, "rhat_max": 1.0,
        "rhat_max_invariants": 1.0, "ess_bulk_min_invariants": 900.0, "ess_tail_min_invariants": 900.0,
        "ess_per_second": 10.0, "chains": 4, "draws": 1000}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "about", "level"),
    [
        ({}, "R-hat", "pass"),
        ({"rhat_max_invariants": 1.2}, "R-hat", "fail"),
        ({"rhat_max_raw": 2.0}, "R-hat", "pass"),
        ({"rhat_max": 1.5, "rhat_max_raw": 2.0}, "R-hat", "warn"),
        ({"ess_bulk_min_invariants": 50.0}, "ESS", "warn"),
        ({"divergences": 3}, "divergences", "warn"),
        ({"divergences": 300}, "divergences", "fail"),
        ({"status": "objective_decreased"}, "status", "fail"),
        ({"status": "interrupted"}, "status", "warn"),
        ({"holdout_impossible": 3}, "held out", "fail"),
        ({"holdout_coverage_90": 0.7, "holdout_entries": 500}, "coverage", "warn"),
        ({"loo_bad_khat_share": 0.3}, "LOO", "warn"),
        ({"loo_bad_khat_share": 0.0}, "LOO", "pass"),
        ({"ebfmi_min": 0.9}, "E-BFMI", "pass"),
        ({"ebfmi_min": 0.1}, "E-BFMI", "warn"),
    ],
)
def test_verdict_lines(change, about, level):
    (line,) = [line for line in verdict({**BASE, **change}) if line.about == about]
    assert line.level == level


@pytest.mark.parametrize(("khat", "level"), [(0.2, "pass"), (1.3, "warn")])
def test_verdict_on_khat(khat, level):
    metrics = {"kind": "variational", "status": "converged", "iterations": 3, "khat": khat, "khat_threshold": 0.67,
               "loo_bad_khat_share": 0.0}  # fmt: skip
    lines = {line.about: line for line in verdict(metrics)}
    assert lines["k-hat"].level == level
    assert lines["LOO"].level == level, "draws from a wrong q make LOO optimistic"
