"""Accuracy against work: errors by hand, curves that are known in closed form, bands that hold what they say."""

from __future__ import annotations

import dataclasses
import math

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import pyrozoo
from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.moments import Moment
from pyrozoo.core.draws import Draws
from pyrozoo.diagnostics.accuracy import Accuracy, accuracy_of, until
from pyrozoo.diagnostics.compare import Comparison
from pyrozoo.diagnostics.metrics import known
from pyrozoo.studies.compare.foreign import Foreign, adopted
from pyrozoo.studies.compare.page import ComparisonResult
from tests.diagnostics.test_planes import normal
from tests.inference.test_inference import interrupt_at

pytestmark = pytest.mark.usefixtures("unchecked")

MEAN, SD = np.array([1.0, -3.0]), np.array([2.0, 0.5])
"""Of the reference's quantities a and b, exactly."""

SIZE = 4000


def from_draws(draws: np.ndarray, chains: int = 2, stats: dict | None = None, **attributes) -> az.InferenceData:
    """Return draws [draw, quantity] as chains of the quantities a, b, ..."""
    named = {"abcdefgh"[k]: column.reshape(chains, -1) for k, column in enumerate(draws.T)}
    return az.from_dict(named, sample_stats=stats, posterior_attrs=attributes)


def reference() -> az.InferenceData:
    exactly = normal(MEAN, np.diag(SD**2) * (SIZE - 1) / SIZE, SIZE)
    return from_draws(exactly, 4, sampling_time=9.0)


def compared(*data: az.InferenceData | Fit) -> Comparison:
    return pyrozoo.compare([*data], reference=reference())


def found(*data: az.InferenceData | Fit) -> Accuracy:
    result = accuracy_of(compared(*data))
    assert result is not None
    return result


def curve(accuracy: Accuracy, place: int = 0) -> pd.DataFrame:
    names = list(dict.fromkeys(accuracy.curves["fit"]))
    return accuracy.curves[accuracy.curves["fit"] == names[place]].reset_index(drop=True)


ENDS = ("_low", "", "_high")

CHAIN = np.array(
    [[1.0, -2.5], [3.0, -3.5], [5.0, -3.0], [1.0, -3.0], [2.0, -2.0], [0.0, -3.0], [1.0, -1.0], [3.0, -3.0]]
)
"""Draws of two chains, four of each."""


def test_errors_of_a_chain_by_hand():
    its = curve(found(from_draws(CHAIN, sampling_time=4.0)))
    for t, (mean, sd) in enumerate(zip(its["error_mean"], its["error_sd"], strict=True), 1):
        seen = np.concatenate([CHAIN[:t], CHAIN[4 : 4 + t]])
        assert mean == pytest.approx(math.sqrt((((seen.mean(0) - MEAN) / SD) ** 2).mean()))
        assert sd == pytest.approx(math.sqrt((np.log(seen.std(0, ddof=1) / SD) ** 2).mean()))
    # Of both first draws: a is 1.5, a quarter of an sd off; b is -2.25, one sd and a half.
    assert its["error_mean"][0] == pytest.approx(math.sqrt((0.25**2 + 1.5**2) / 2))
    assert len(its) == 4
    assert curve(found(from_draws(CHAIN, 1, sampling_time=4.0)))["steps"].tolist() == [2, 3, 4, 5, 6, 7, 8], (
        "one draw has no sd"
    )


def test_what_the_two_errors_see():
    """A shift is an error of means alone, a stretch of spreads alone; each in the reference's own units."""
    shifted = curve(found(from_draws(normal(MEAN + 3 * SD, np.diag(SD**2), 1000), sampling_time=1.0))).iloc[-1]
    assert shifted["error_mean"] == pytest.approx(3.0)
    assert shifted["error_sd"] < 1e-3
    narrow = curve(found(from_draws(normal(MEAN, np.diag(SD**2) / 16, 1000), sampling_time=1.0))).iloc[-1]
    assert narrow["error_mean"] < 1e-6
    assert narrow["error_sd"] == pytest.approx(math.log(4), abs=1e-3)


def searching(kind: str = "variational", steps: int = 12, draws: int = 30, *, anew: bool = False) -> Fit:
    """Return a search whose q after step t is a normal of mean m* + 2^-t s* and sd (1 + 2^-t) s*, of few draws.

    Their random numbers are the same at every step, or made ``anew``, as where draws are rejected.
    """
    (ours, *_), _ = adopted([from_draws(normal(MEAN, np.diag(SD**2), 1000), 1, sampling_time=1.0), reference()], None)
    noise = torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    noise = (noise - noise.mean(0)) / noise.std(0)

    def q(t: int, count: int) -> Draws:
        first = (t - 1) * count if anew and count < SIZE else 0
        standard = torch.zeros(1, 2) if kind == "point" else noise[first : first + count] * (1 + 2.0**-t)
        values = torch.as_tensor(MEAN) + torch.as_tensor(SD) * (2.0**-t + standard)
        return Draws(a=values[None, :, 0], b=values[None, :, 1])

    moments = [Moment(t, 0.1 * t, 3.0 * t, (), 0, lambda count, t=t: q(t, count), draws) for t in range(1, steps + 1)]
    fields = {each.name: getattr(ours, each.name) for each in dataclasses.fields(Fit) if each.name[0] != "_"}
    more = {"kind": kind, "draws": q(steps, SIZE), "moments": moments, "seconds": 0.1 * steps, "metrics": {}}
    fit = Foreign(**{**fields, **more, "iterations": steps})
    fit.metrics = known(fit)
    return fit


def test_a_search_whose_errors_are_known_in_closed_form():
    """Thirty draws of each q would be a fifth of an sd off; with a control variate they are not.

    The noise of 4000 independent draws is taken off, down to what the reference can tell.
    """
    result = found(searching())
    its, t = curve(result), np.arange(1, 13)
    bias, own = 2.0**-t, (1 + 2.0**-t) ** 2 / SIZE
    wanted = np.maximum(np.sqrt(np.clip(bias**2 - own, 0, None)), np.minimum(bias, result.floors["mean"]))
    assert its["error_mean"].to_numpy() == pytest.approx(wanted, abs=2e-3)
    assert its["error_sd"].to_numpy() == pytest.approx(np.log1p(bias), abs=0.005)
    assert its["steps"].tolist() == t.tolist()
    assert its["seconds"].to_numpy() == pytest.approx(0.1 * t)
    assert its["passes"].to_numpy() == pytest.approx(3.0 * t)


def test_noise_of_few_draws_is_no_error_of_a_search():
    """Thirty draws that have nothing in common with the last are 0.18 sd off; q itself is right."""
    its = curve(found(searching(steps=24, anew=True)))
    late = its["error_mean"].to_numpy()[6:-1]
    assert np.sqrt((late**2).mean()) < 0.14
    assert (late < 0.02).mean() > 0.4


def test_a_point_has_no_spread():
    its = curve(found(searching("point")))
    assert its["error_mean"].to_numpy() == pytest.approx(2.0 ** -np.arange(1, 13), abs=1e-9)
    assert its[["error_sd", "error_sd_low", "error_sd_high"]].isna().all().all()


def test_the_reference_says_how_well_it_knows():
    """Of 4000 independent draws the mean is known to 1/√4000 sds, the logarithm of the sd to 1/√8000."""
    result = found(from_draws(CHAIN, sampling_time=4.0))
    assert result.floors["mean"] == pytest.approx(SIZE**-0.5, rel=0.15)
    assert result.floors["sd"] == pytest.approx((2 * SIZE) ** -0.5, rel=0.15)
    assert result.targets("mean") == [0.3, 0.1, 0.03], "an error of 0.01 cannot be told from none"
    assert "seconds_to_mean_0.01" not in result.table


def test_the_reference_is_not_thought_to_be_right_in_the_end():
    """Of T independent draws the first t know a mean to 1/√t sds, though they are nearer to the mean of all T."""
    draws = np.random.default_rng(0).normal(size=(SIZE, 200))
    wide = az.from_dict({"a": draws.reshape(4, -1, 200)})
    accuracy = accuracy_of(pyrozoo.compare([az.from_dict({"a": draws[:40].reshape(2, -1, 200)})], reference=wide))
    assert accuracy is not None
    own = accuracy.curves[accuracy.curves["fit"] == accuracy.base]
    assert len(own) > 10
    drawn = 4 * own["steps"].to_numpy()
    assert drawn * own["error_mean"].to_numpy() ** 2 == pytest.approx(1, abs=0.3)
    late = drawn > 100
    assert (2 * drawn * own["error_sd"].to_numpy() ** 2)[late] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_bands_hold_nine_of_ten_repetitions(shift):
    """Of independent draws whose quantities go together in pairs, without a bias and with one, on the way and last."""
    covariance, generator = np.kron(np.eye(4), [[1.0, 0.6], [0.6, 1.0]]), np.random.default_rng(1)
    every = [from_draws(generator.multivariate_normal(np.full(8, shift), covariance, 200)) for _ in range(30)]
    exactly = from_draws(normal(np.zeros(8), covariance, SIZE), 4)
    accuracy = accuracy_of(pyrozoo.compare(every, reference=exactly))
    assert accuracy is not None
    curves = accuracy.curves.groupby("fit", sort=False)
    for of in ("mean", "sd"):
        for place in (-6, -1):
            ends = [np.array([its[f"error_{of}{end}"].iloc[place] for _, its in curves])[:30] for end in ENDS]
            low, error, high = ends
            # The band of one repetition is to hold the others: the middle one stands for it.
            inside = (error >= np.median(low)) & (error <= np.median(high))
            assert 0.76 < inside.mean() < 1, (of, place)


def test_work_until_an_error_is_reached_for_good():
    work, error = pd.Series([1.0, 2, 3, 4, 5]), pd.Series([0.5, 0.05, 0.2, 0.05, 0.01])
    assert until(work, error, 0.1) == 4, "not 2: it is larger again"
    assert until(work, error, 1.0) == 1
    assert math.isnan(until(work, error, 0.001))
    assert math.isnan(until(work, error * np.nan, 0.1))
    assert found(searching()).table["steps_to_mean_0.1"][0] == 4, "2^-3 is 0.125"
    assert found(searching()).table["seconds_to_sd_0.3"][0] == pytest.approx(0.2), "log 1.25 is 0.22"


def test_warm_up_is_work_and_its_states_are_no_draws():
    """A hundred steps, three seconds, a thousand gradients; then four draws, each of a second and ten gradients."""
    stats = {"seconds": 3.0 + np.arange(1, 5) + np.array([[0.0], [-0.5]]), "n_steps": np.full((2, 4), 5)}
    data = from_draws(CHAIN, stats=stats, sampling_time=7.0, tuning_steps=100)
    its = curve(found(data))
    assert its["seconds"].tolist() == [4, 5, 6, 7], "when the last of the chains has them"
    assert its["steps"].tolist() == [101, 102, 103, 104]
    assert its["passes"].isna().all(), "nobody counted those of the warm-up"
    data.add_groups(warmup_sample_stats=xr.Dataset({"n_steps": (("chain", "draw"), np.full((2, 100), 5))}))
    assert curve(found(data))["passes"].tolist() == [1010, 1020, 1030, 1040]
    plain = from_draws(CHAIN, sampling_time=7.0, tuning_steps=100)
    fit = adopted([plain], None)[0][0]
    assert curve(found(plain))["seconds"].to_numpy() == pytest.approx(7 * np.arange(101, 105) / 104)
    assert any("evenly" in note for note in fit.notes)


def test_times_as_pymc_writes_them():
    starts = 1000.0 + np.array([[3.0, 4, 5, 6], [3.5, 4.5, 5.5, 6]])
    stats = {"perf_counter_start": starts, "perf_counter_diff": np.full((2, 4), 1.0)}
    its = curve(found(from_draws(CHAIN, stats=stats, sampling_time=7.0, tuning_steps=2)))
    assert its["seconds"].tolist() == [4.5, 5.5, 6.5, 7.0]


def test_without_times_there_are_steps():
    its = curve(found(from_draws(CHAIN)))
    assert its["seconds"].isna().all()
    assert its["steps"].tolist() == [1, 2, 3, 4]


def test_nothing_is_held_to_a_reference_that_has_not_converged():
    stuck = normal(MEAN, np.diag(SD**2), 200)
    stuck[:100] += 5
    result = pyrozoo.compare([from_draws(CHAIN), from_draws(stuck)])
    assert accuracy_of(result) is None


def test_seconds_of_a_resumed_run(tmp_path, monkeypatch):
    """The seconds before the interruption count, and those between do not."""
    settings = {"rows": 20, "columns": 2, "num_components": 1, "warmup": 10, "draws": 90, "thin": 1, "progress": False}
    with monkeypatch.context() as patch:
        interrupt_at(patch, 60)
        pyrozoo.fit("zip_mixture", "gibbs", directory=tmp_path, checkpoint_every=10, **settings)
    path = tmp_path / "checkpoint.pt"
    saved = torch.load(path, weights_only=False)
    saved["elapsed"] += 1000.0
    torch.save(saved, path)
    again = pyrozoo.resume(tmp_path)
    best = pyrozoo.fit("zip_mixture", "gibbs", seed=1, **{**settings, "draws": 500})
    accuracy = pyrozoo.compare([again], reference=best).accuracy
    assert accuracy is not None
    its = curve(accuracy)
    early, late = its[its["steps"] < 60], its[its["steps"] > 62]
    assert early["seconds"].max() < 900
    assert late["seconds"].min() > 1000
    assert late["seconds"].max() == pytest.approx(again.seconds)


def test_the_page_has_curves_tables_and_the_picture(tmp_path):
    result = ComparisonResult.of(compared(from_draws(CHAIN, sampling_time=4.0), searching()))
    result.save(tmp_path)
    curves = pd.read_csv(tmp_path / "accuracy.csv")
    assert set(curves["fit"]) == set(result.names)
    assert list(pd.read_csv(tmp_path / "accuracy_reached.csv")["fit"]) == list(dict.fromkeys(curves["fit"]))
    assert (tmp_path / "figures" / "accuracy.png").is_file()
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "seconds to mean 0.1" in text
    assert "cannot be told from none" in text
