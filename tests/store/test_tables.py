"""Tables that people send on: aligned, without holes, with their own labels and sensible digits."""

from __future__ import annotations

import dataclasses
import io
import math

import arviz as az
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam

import pyrozoo
from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Program
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.picture import Picture
from pyrozoo.data.arguments import Arguments
from pyrozoo.data.container import storable
from pyrozoo.diagnostics.metrics import information
from pyrozoo.program.density import ProgramDensity
from pyrozoo.report.html import Sentences
from pyrozoo.store import run_directory
from pyrozoo.store.answer import write_answer
from pyrozoo.store.inference_data import to_groups
from pyrozoo.store.run_directory import summarise
from pyrozoo.store.tables import write_table
from tests.case import case
from tests.elsewhere import AWAY, a_device

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")


def with_draws(fit, kind, **draws):
    """Return a fit with other draws, and the group of InferenceData that holds them."""
    result = pyrozoo.Result.of(fit, fit.settings)
    for name in ("pointwise", "invariants", "aligned", "groups"):
        vars(result).pop(name, None)
    result.draws, result.kind = Draws(draws), kind
    sites = {site: list(dims) for site, dims in fit.posterior.sites.items()}
    labels = {dim: list(names) for dim, names in fit.data.coords.items() if dim in ("row", "column")}
    return result, az.from_dict(posterior={s: v.numpy() for s, v in draws.items()}, coords=labels, dims=sites)


def by_hand(program, y, kind, **draws):
    """Return a fit of a program with draws of one's own."""
    posterior = Posterior.of(Program(program, "hand"), Arguments(args=(y,)))
    known = {"trace": pd.DataFrame(), "runs": pd.DataFrame(), "status": "completed", "objective_name": "log_joint"}
    return Fit(posterior=posterior, method="hand", kind=kind, objective=0.0, iterations=1, seconds=1.0, seed=0,
               draws={site: torch.as_tensor(value).double() for site, value in draws.items()}, **known)  # fmt: skip


def test_a_table_has_six_digits_whole_counts_and_no_nan(tmp_path):
    frame = pd.DataFrame({
        "name": ["0.123456789", "a,b", "1e-9"], "part": [0.123456789, 1 / 3, math.nan],
        "large": [1234567.8, -2.5, 1e-9], "count": [3.0, math.nan, 12345678.0],
        "whole": [1, 2, 3], "known": [True, False, True],
    })  # fmt: skip
    write_table(tmp_path / "a.csv", frame)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "name,part,large,count,whole,known",
        "0.123456789,0.123457,1234568,3,1,True",
        '"a,b",0.333333,-2.5,,2,False',
        "1e-9,,1e-9,12345678,3,True",
    ]
    write_table(tmp_path / "b.csv", frame, digits=None)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "b.csv"), frame)
    write_table(tmp_path / "d.csv", frame[["part", "count"]].convert_dtypes())
    assert (tmp_path / "d.csv").read_text().split() == ["part,count", "0.123457,3", "0.333333,", ",12345678"]
    single = pd.DataFrame({"x": torch.tensor([0.1, 1e-30, 16777216.0]).numpy()})
    write_table(tmp_path / "c.csv", single)
    assert (tmp_path / "c.csv").read_text().split() == ["x", "0.1", "1e-30", "16777216"]


def test_lines_are_what_pandas_writes(tmp_path, monkeypatch):
    """Whatever their types: dates, categories, mixtures; in batches, quoted where they must be."""
    monkeypatch.setattr("pyrozoo.store.lines.BATCH", 3)
    frame = pd.DataFrame({
        "a,b": ["x", None, 'q"', "l\nm", "; "], "i": pd.array([1, None, 3, 4, -5], dtype="Int64"),
        "f": [1e10, 123456789012.5, -0.5, math.inf, math.nan], "c": pd.Categorical(["u, v", "w", None, "w", "w"]),
        "day": pd.to_datetime(["2020-01-01", None, "2020-01-03", "2021-01-01", "1800-05-05"]),
        "mixed": [1, "two", None, 2.5, True], "truth": pd.array([True, None, False, True, True], dtype="boolean"),
        "single": np.array([0.1, 3e-5, math.nan, 7, 1e30], np.float32),
    })  # fmt: skip
    path = write_answer(tmp_path / "a.csv", frame)
    expected = frame.to_csv(index=False, float_format=lambda value: repr(float(value)).removesuffix(".0"))
    pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(io.StringIO(expected)), rtol=1e-6)
    assert path.read_text().splitlines()[1] == 'x,1,10000000000,"u, v",2020-01-01,1,True,0.1'
    monkeypatch.setattr("pyrozoo.store.lines._joined", lambda cells, separator: b"%d" % len(cells[0]))
    assert write_answer(tmp_path / "b.csv", frame).read_bytes() == b"132", "no more than a batch is held at a time"


def test_a_notebook_shows_sentences_whole():
    long = "word " * 40
    table = Sentences({"sentence": [long]})
    assert long.strip() in table._repr_html_()
    assert long.strip() in table[["sentence"]]._repr_html_()


@pytest.fixture(scope="module")
def mixture():
    return pyrozoo.fit("zip_mixture", "em", rows=30, columns=2, num_components=2, progress=False)


def test_the_summary_is_of_aligned_draws(mixture):
    """Two chains with their labels the other way round: raw means are a half."""
    generator = np.random.default_rng(0)
    weight = torch.as_tensor(generator.normal(0.7, 0.01, (1, 50)))
    rate = torch.as_tensor(generator.normal([[9.0, 3.0], [2.0, 5.0]], 0.1, (1, 50, 2, 2)))
    weights, on = torch.stack([weight, 1 - weight], -1), torch.full((2, 50, 2, 2), 0.5)
    one = {"weights": weights, "rate": rate}
    both = {site: torch.cat([value, value.flip(2)]) for site, value in one.items()}
    fit, data = with_draws(mixture, "samples", **both, on_prob=on)
    table = summarise(fit, data).set_index("parameter")
    expected = {"weights[0]": 0.7, "weights[1]": 0.3, "rate[0, column_0]": 9, "rate[0, column_1]": 3,
                "rate[1, column_0]": 2, "rate[1, column_1]": 5, "on_prob[0, column_0]": 0.5}  # fmt: skip
    for name, value in expected.items():
        assert table.loc[name, "mean"] == pytest.approx(value, abs=0.05)
    assert table["r_hat"].max() < 1.05
    assert np.allclose(fit.tables["components"]["weight"], table["mean"].iloc[:2]), "one order everywhere"
    constant = table.loc["on_prob[0, column_0]"]
    assert constant["sd"] == 0
    assert constant[["r_hat", "ess_bulk", "ess_tail", "mcse_mean"]].isna().all(), "a constant has none"
    assert not table.drop(index=[name for name in table.index if name.startswith("on_prob")]).isna().any().any()


def test_large_sites_share_no_coordinate(monkeypatch):
    """Thinned by different steps, two sites of rows left holes in each other."""
    monkeypatch.setattr(run_directory, "MOST_SUMMARISED", 20)
    fit = pyrozoo.fit("gaussian_mf", "em", rows=50, columns=4, num_factors=3, max_iterations=2, progress=False)
    values = {site: torch.randn(2, 5, *value.shape[2:]).double() for site, value in fit.draws.items()}
    values["noise_variance"] = values["noise_variance"].abs()
    fit, data = with_draws(fit, "variational", **values)
    table = summarise(fit, data)
    assert not table.isna().any().any()
    mean = table.set_index("parameter")["mean"]
    raw = {site: value.mean((0, 1)) for site, value in fit.aligned.items()}
    offsets = [name for name in mean.index if name.startswith("row_offsets")]
    assert len(offsets) == 20
    assert {"row_offsets[row_0]", "row_offsets[row_49]"} <= set(offsets)
    for i in (0, 49):
        assert mean[f"row_offsets[row_{i}]"] == pytest.approx(float(raw["row_offsets"][i]))
        for k in range(3):
            assert mean[f"row_factors[row_{i}, {k}]"] == pytest.approx(float(raw["row_factors"][i, k]))
    assert mean["column_factors[column_3, 2]"] == pytest.approx(float(raw["column_factors"][3, 2]))
    assert len(mean) == len(set(mean.index)) == 1 + 18 + 12 + 1 + 20 + 4


@poutine.reparam(config={"theta": LocScaleReparam(0.0)})
def schools(y):
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfNormal(5.0))
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, 10.0), obs=y)


def test_a_reparameterised_site_is_a_function_of_its_latent_one():
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
    generator = np.random.default_rng(0)
    fit = by_hand(schools, y, "samples", mu=generator.normal(size=(2, 6)), tau=generator.gamma(2, size=(2, 6)),
                  theta_decentered=generator.normal(size=(2, 6, 8)))  # fmt: skip
    data = to_groups(fit)
    assert set(data["posterior"]) == {"mu", "tau", "theta_decentered", "theta"}
    assert set(data["observed_data"]) == {"y"}
    posterior = data["posterior"]
    assert posterior["theta"].dims == ("chain", "draw", "school")
    found = posterior["mu"] + posterior["tau"] * posterior["theta_decentered"]
    np.testing.assert_allclose(posterior["theta"], found, rtol=1e-12)
    assert fit.posterior.units == 8, "theta's own density is no unit"
    each = dist.Normal(torch.as_tensor(posterior["theta"].values), 10.0).log_prob(y)
    torch.testing.assert_close(fit.pointwise[1], each)
    assert {"theta[0]", "theta[7]", "tau"} <= set(summarise(fit, data)["parameter"])
    density = ProgramDensity(schools, (y,))
    assert set(density.observed) == {"y"}
    assert density.derived == {"theta": ["school"]}


# Information criteria ------------------------------------------------------------------------------------------------


def normal(y):
    mean, sd = pyro.sample("mean", dist.Normal(0.0, 100.0)), pyro.sample("sd", dist.HalfNormal(100.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mean, sd), obs=y)


def test_information_criteria_of_a_normal_by_hand():
    y = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    fit = by_hand(normal, y, "point", mean=[[4.0]], sd=[[9.5**0.5]])
    deviance = 4 * math.log(2 * math.pi * 9.5) + 38 / 9.5
    assert information(fit) == pytest.approx(
        {"free_parameters": 2, "aic": deviance + 4, "bic": deviance + 2 * math.log(4)}
    )


def test_information_criteria_of_a_mixture_by_hand(mixture):
    K, D, x = 2, 2, mixture.data.values.numpy()
    assert mixture.metrics["free_parameters"] == K * 2 * D + K - 1
    point = {site: value[0, 0].numpy() for site, value in mixture.draws.items()}
    logs = np.zeros((len(x), K))
    for n, k, d in np.ndindex(len(x), K, D):
        on, rate = point["on_prob"][k, d], point["rate"][k, d]
        if not np.isnan(x[n, d]):  # what is held out
            mass = on * math.exp(-rate) * rate ** x[n, d] / math.factorial(int(x[n, d])) + (1 - on) * (x[n, d] == 0)
            logs[n, k] += math.log(mass)
    joint = np.exp(logs) * point["weights"]
    r = joint / joint.sum(1, keepdims=True)
    bic = -2 * np.log(joint.sum(1)).sum() + 9 * math.log(len(x))
    assert mixture.metrics["bic"] == pytest.approx(bic)
    assert mixture.metrics["aic"] == pytest.approx(bic - 9 * math.log(len(x)) + 18)
    assert mixture.metrics["icl"] == pytest.approx(bic - 2 * (r * np.log(np.maximum(r, 1e-300))).sum())


@pytest.mark.parametrize(
    ("model", "method", "count"),
    [
        ("factor_analysis", "em", lambda fit: 6 * 2 + 6 + 6 - 1),
        ("factor_analysis", "ppca", None),
        ("poisson_mf", "em", None),
        ("gaussian_mf", "em", None),
        ("potts_grid", "icm", None),
    ],
)
def test_turns_are_no_parameters_and_rows_with_their_own_have_no_criterion(model, method, count):
    size = {"num_factors": 2, "columns": 6} if model == "factor_analysis" else {}
    data = {"data": case(model).tiny} if not size else {"rows": 12, "holdout": 0, **size}
    few = {} if method == "ppca" else {"max_iterations": 3}
    fit = pyrozoo.fit(model, method, **data, progress=False, **few)
    assert fit.metrics.get("free_parameters") == (count and count(fit))
    assert ("bic" in fit.metrics) == (count is not None)


# Labels --------------------------------------------------------------------------------------------------------------

NASTY = [r"$\frac{", "$a$ and $b$", "a\x00b", "\ud800 half", "two\nlines", "x" * 500, "שלום עולם", "", "_hidden", "🦉",
         "a\tb", r"50\% $", "NaN", "%s {0} {x}", "^_{", "<b>&amp;"]  # fmt: skip


def test_what_no_file_can_hold_is_replaced():
    assert storable("a\x00b\udfff") == "a�b�"
    assert storable(r"$\frac{" + "שלום🦉") == r"$\frac{" + "שלום🦉"


METHODS = {"zip_mixture": "em", "factor_analysis": "em", "categorical_fa": "laplace_em", "poisson_mf": "cavi",
           "gaussian_mf": "cavi", "potts_grid": "icm"}  # fmt: skip


def labelled(model, data):
    """Return data with labels that are hard to draw and to store, some of them twice."""
    rows, columns = ([NASTY[i % len(NASTY)] for i in range(start, start + n)]
                     for start, n in zip((0, 3), data.shape, strict=True))  # fmt: skip
    if model in ("poisson_mf", "gaussian_mf", "zip_mixture"):
        data = data.hold_out(0.2, 0)
    return dataclasses.replace(data, row_labels=rows, column_labels=columns, name="$\\frac{\x00", test=None)


@pytest.mark.parametrize("model", METHODS)
def test_labels_of_any_letters_and_tensors_on_a_device(model, tmp_path, monkeypatch):
    """Whole runs, to the page: no label fails, and no operation mixes the device's tensors with others."""
    monkeypatch.setattr("pyrozoo.report.html.png", drawn)
    monkeypatch.setattr("pyrozoo.store.inference_data.PRIOR_DRAWS", 2)
    monkeypatch.setattr("pyrozoo.run.fit.device_of", lambda *_: AWAY)
    monkeypatch.setattr("pyrozoo.store.run_directory.draw_plates", lambda posterior: Figure())  # it has its own tensors
    data = labelled(model, case(model).tiny)
    with a_device():
        few = {"max_iterations": 3, "draws": 5} if METHODS[model] == "cavi" else {"max_iterations": 3}
        fit = pyrozoo.fit(case(model).model, METHODS[model], data=data, progress=False, **few)
        assert {value.device for value in fit.draws.values()} == {AWAY}
        directory = fit.save(tmp_path / "run")
    again = pyrozoo.load(directory)
    for axis in ("row_labels", "column_labels"):
        assert list(getattr(again.data, axis)) == [storable(label) for label in getattr(data, axis)]
    for name, table in again.tables.items():
        assert len(pd.read_csv(directory / "tables" / f"{name}.csv", keep_default_na=False)) == len(table)


def drawn(picture):
    """Lay a picture out and draw it, as small as it can be."""
    picture.figure.set_dpi(20)
    picture.figure.draw_without_rendering()
    return b"\x89PNG"


def test_a_mixture_of_devices_is_found():
    with a_device():
        there = torch.arange(3.0).to(AWAY)
        assert (there + 1).tolist() == [1, 2, 3]
        assert there[torch.tensor([2])].tolist() == [2], "indices may be elsewhere"
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            torch.repeat_interleave(torch.arange(3), there.long())


def test_texts_of_pictures_are_words():
    """Between two dollars matplotlib sets formulas, and this is none; the powers on its own axes are."""
    figure = Figure()
    axes = figure.subplots()
    figure.suptitle(NASTY[0] + "$")
    axes.plot([1, 100], [1, 2], label=r"$\frac{$")
    axes.set(title=r"$\frac{$", xlabel=r"$\frac{$", xscale="log")
    axes.set_yticks([1, 2], [r"$\frac{$", "$a$"])
    axes.annotate(r"$\frac{$", (1, 1))
    axes.legend()
    assert Picture("words", "", figure)._repr_png_().startswith(b"\x89PNG")
    assert [label.get_text() for label in axes.get_yticklabels()] == [r"\$\frac{\$", r"\$a\$"]
    assert axes.get_xticklabels()[0].get_text().startswith("$")
