"""Figures of fits worked out by hand: a few numbers, and the answer beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import constraints

from pyrozoo.core.draws import Draws
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.container import Hidden
from pyrozoo.diagnostics import metrics
from pyrozoo.diagnostics.answer import Told, believe, faster
from pyrozoo.diagnostics.card import Card, Line, listed, worst
from pyrozoo.diagnostics.compare import (
    _against,
    _evidence,
    _held_out,
    _names,
    _nearest,
    _pairwise,
    _reference,
    _settled,
    error_curve,
    groups_of,
    varied_fields,
)  # fmt: skip
from pyrozoo.diagnostics.outline import _some
from pyrozoo.diagnostics.predictive import _conflict, affordable, tail
from pyrozoo.diagnostics.verdict import Thresholds, verdict
from pyrozoo.math.mixing import ess
from tests.diagnostics.test_verdict import CAVI, HELD, SAMPLES, SHORT, about, rows

LN2 = math.log(2)


def five(at_random: bool = True) -> tuple[Prediction, Hidden]:
    """Return predictions of five entries: errors 0, 1, 2, -2 and 4, densities -1 to -5, and their PITs."""
    truth = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    mean = truth + torch.tensor([0.0, 1.0, 2.0, -2.0, 4.0])
    log_density, pit = -truth, torch.tensor([0.04, 0.05, 0.5, 0.95, 0.96])
    places = torch.zeros(5, dtype=torch.long)
    return Prediction(mean, mean, mean, log_density, pit), Hidden(places, places, truth, at_random)


def test_held_out_entries():
    """RMSE sqrt((0 + 1 + 4 + 4 + 16) / 5) = sqrt(5), mean log density -3, three PITs of five in [0.05, 0.95]."""
    prediction, hidden = five()
    found = metrics.holdout(prediction, hidden)
    assert found["holdout_rmse"] == pytest.approx(math.sqrt(5))
    assert prediction.rmse(hidden.values) == pytest.approx(math.sqrt(5))
    assert found["holdout_elpd"] == pytest.approx(-3)
    assert found["holdout_coverage_90"] == pytest.approx(0.6)
    assert (found["holdout_impossible"], found["holdout_entries"]) == (0, 5)
    assert "holdout_coverage_90" not in metrics.holdout(*five(at_random=False))
    impossible = Prediction(**{**vars(prediction), "log_density": torch.tensor([-1.0, -math.inf, -1, -1, -math.inf])})
    assert metrics.holdout(impossible, hidden)["holdout_impossible"] == 2
    some = SimpleNamespace(held_out=(prediction, hidden), data=SimpleNamespace(hidden=SimpleNamespace(values=range(9))))
    assert metrics.held_out(some)["holdout_of"] == 9
    some.data.hidden.values = range(5)
    assert "holdout_of" not in metrics.held_out(some)


def test_entries_that_stand_for_several_count_as_often():
    """(1 * -1 + 3 * -2) / 4 = -1.75."""
    prediction = Prediction(*[torch.zeros(2)] * 3, torch.tensor([-1.0, -2.0]), torch.full((2,), 0.5),
                            weight=torch.tensor([1.0, 3.0]))  # fmt: skip
    assert float(prediction.scores.mean()) == pytest.approx(-1.75)


def looked(logs: torch.Tensor, kind: str = "samples", total: int | None = None) -> Any:
    """Return a stand-in of a fit with log-likelihoods [chain, draw, unit] of its units, or of some of ``total``."""
    posterior = SimpleNamespace(left_out=None, unit="row", units=logs.shape[2] if total is None else total)
    return SimpleNamespace(pointwise=(1, logs), posterior=posterior, looked_at=SimpleNamespace(posterior=posterior),
                           kind=kind)  # fmt: skip


def test_loo_of_two_values_is_the_harmonic_mean():
    """Likelihoods 1/2 and 1/4 as often: 1/mean(2, 4) = 1/3 without the unit, mean 3/8 with it.

    Of two units, the second with 1/2 throughout: sum ln 1/3 + ln 1/2, standard error sqrt(2) sd = |difference|.
    """
    one = torch.tensor([0.5, 0.25] * 100).log()
    logs = torch.stack([one, torch.full_like(one, -LN2)], -1).unsqueeze(0)
    found = metrics.loo(looked(logs, "variational"))
    assert found["loo_elpd"] == pytest.approx(-math.log(3) - LN2)
    assert found["loo_p"] == pytest.approx(math.log(3 / 8) + math.log(3))
    # 2 * population sd / sqrt(2) of two numbers a distance apart
    assert found["loo_se"] == pytest.approx((math.log(3) - LN2) / math.sqrt(2))
    assert (found["loo_bad_khat_share"], found["loo_unit"]) == (0, "row")
    assert "loo_units" not in found
    of_many = metrics.loo(looked(logs, "variational", total=20))
    assert of_many["loo_elpd"] == pytest.approx(10 * found["loo_elpd"])
    assert of_many["loo_se"] == pytest.approx(10 * found["loo_se"])
    assert (of_many["loo_units"], of_many["loo_of"]) == (2, 20)


def test_few_values_are_trusted_when_they_are_worth_draws():
    """One draw of 200 with 1e-6 of the others' likelihood has nearly all the weight: worth one draw."""
    one = torch.zeros(1, 200, 1)
    one[0, 0] = math.log(1e-6)
    assert metrics.loo(looked(one))["loo_bad_khat_share"] == 1
    assert metrics.loo(looked(torch.zeros(1, 200, 1)))["loo_bad_khat_share"] == 0
    assert metrics.loo(looked(torch.zeros(1, 20, 1)))["loo_bad_khat_share"] == 0, "as many as there are"


def test_relative_efficiency_is_that_of_the_sum():
    """Every draw four times in a row is worth a quarter of them, to 15% with 4 x 1000 of them."""
    logs = torch.randn(4, 1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert metrics._efficiency(looked(logs), logs) == pytest.approx(1, rel=0.15)
    slow = logs.repeat_interleave(4, 1)[:, :1000]
    assert metrics._efficiency(looked(slow), slow) == pytest.approx(0.25, rel=0.2)
    assert metrics._efficiency(looked(slow, "variational"), slow) == 1, "independent draws"
    assert metrics._efficiency(looked(slow[:1]), slow[:1]) == 1, "one chain"
    assert metrics._efficiency(looked(slow), torch.zeros_like(slow)) == 1, "constants have none"


def test_loo_gives_its_smoothing_the_efficiency(monkeypatch):
    asked = []

    def smoothing(logs, efficiency):
        asked.append(efficiency)
        return logs.mean(1), torch.tensor([0.7, 0.71])

    monkeypatch.setattr(metrics, "leave_one_out", smoothing)
    logs = torch.randn(4, 250, 2, generator=torch.Generator().manual_seed(1)).repeat_interleave(4, 1)
    bad = metrics.loo_by_unit(looked(logs))[1]  # 1 - 1 / log10 4000 is 0.72: the limit is 0.7
    assert asked[0] == pytest.approx(0.25, rel=0.25)
    assert bad.tolist() == [False, True]


@pytest.mark.parametrize(("draws", "limit"), [(100, 1 / 2), (1000, 2 / 3), (10_000, 0.7), (10**6, 0.7), (1, 0.0397)])
def test_khat_thresholds(draws, limit):
    """1 - 1 / log10 S, at most 0.7; of ten draws and fewer that of eleven."""
    assert metrics.khat_threshold(draws) == pytest.approx(limit, abs=5e-4)


def approximated(joint: list[float], log_q: list[float], copies: float = 0.0) -> Any:
    symmetry = SimpleNamespace(log_copies=lambda values, sites: copies)
    return SimpleNamespace(
        log_q=torch.tensor([log_q]), log_joint=(1, torch.tensor([joint])), seed=0, draws={"x": torch.zeros(1, 2, 3)},
        model=SimpleNamespace(symmetry=symmetry), posterior=SimpleNamespace(sites={}),
    )  # fmt: skip


def test_an_elbo_and_the_evidence_by_weights():
    """Log ratios -1 and -3: mean -2, sd sqrt(2), standard error 1; ln((e^-1 + e^-3) / 2)."""
    found = metrics.approximation(approximated([-3.0, -4.0], [-2.0, -1.0], LN2))
    assert found["elbo"] == pytest.approx(-2)
    assert found["elbo_labels"] == pytest.approx(-2 + LN2)
    assert found["elbo_se"] == pytest.approx(1)
    mean = (math.exp(-1) + math.exp(-3)) / 2
    assert found["log_evidence_weighted"] == pytest.approx(math.log(mean))
    assert found["log_evidence_weighted_se"] == pytest.approx((math.exp(-1) - math.exp(-3)) / 2 / mean)
    assert "khat" not in found, "fewer than 20 draws"
    same = metrics.approximation(approximated([-5.0] * 20, [-2.0] * 20))
    assert (same["khat"], same["elbo_se"], same["log_evidence_weighted"]) == (0, 0, pytest.approx(-3)), "q is p"
    assert same["khat_threshold"] == pytest.approx(1 - 1 / math.log10(20))
    assert "elbo_labels" not in same
    alone = metrics.approximation(approximated([-5.0], [-2.0]))
    assert alone == {"elbo": -3.0}


def test_the_tail_of_weights_is_heavy_where_q_is_too_narrow():
    """Weights of a normal of sd s against sd 1 have Pareto tails with k = 1 - s^2: 0.75 of s = 1/2."""
    x = 0.5 * torch.randn(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fit = approximated([0.0], [0.0])
    fit.log_joint, fit.log_q = (1, (-0.5 * x**2)[None]), (-2 * x**2 + LN2)[None]
    found = metrics.approximation(fit)
    assert found["khat"] == pytest.approx(0.75, abs=0.15)
    assert found["khat_threshold"] == pytest.approx(0.7)


def chained(**sites: torch.Tensor) -> Any:
    return SimpleNamespace(draws=Draws(sites), aligned=Draws(sites), invariants=Draws(sites), seconds=4.0,
                           sample_stats={})  # fmt: skip


def test_convergence_is_that_of_the_worst():
    """``slow`` repeats each draw four times, and its last chain is 1 too high: its ESS and R-hat are told."""
    quick = torch.randn(4, 400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slow = quick[..., 0].repeat_interleave(4, 1)[:, :400] + torch.tensor([0.0, 0, 0, 1])[:, None]
    found = metrics.convergence(chained(quick=quick, slow=slow))
    for part in ("bulk", "tail"):
        assert found[f"ess_{part}_min"] == pytest.approx(float(ess(slow, part)))
        assert found[f"ess_{part}_min"] < float(ess(quick, part).min())
    assert found["rhat_max"] > 1.1 > metrics.convergence(chained(quick=quick))["rhat_max"]
    assert (found["chains"], found["draws"]) == (4, 400)
    fit = chained(quick=quick)
    fit.aligned = Draws(slow=slow)
    found = metrics.convergence(fit)
    assert found["ess_per_second"] == pytest.approx(float(ess(quick).min()) / 4), "of invariants, which labels leave"
    assert found["rhat_max"] > 1.1 > found["rhat_max_raw"]
    assert "divergences" not in found
    fit.sample_stats = {"diverging": torch.tensor([[True, False], [True, True]])}
    assert metrics.convergence(fit)["divergences"] == 3
    assert metrics.convergence(chained(x=quick[:, :3])) == {"chains": 4, "draws": 3}, "too few to say anything"
    assert "ess_bulk_min" in metrics.convergence(chained(x=quick[:, :4]))
    one = metrics.convergence(chained(x=quick[:1]))
    assert "rhat_max" not in one
    assert "ess_bulk_min" in one


def test_the_energy_of_the_worst_chain():
    """E-BFMI is the mean square of energies' steps over their variance: 2 of independent ones, 0.02 of slow ones."""
    energy = torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    energy[1] = (2 * math.pi * torch.arange(2000) / 60).sin()
    fit = chained(x=torch.randn(2, 8, generator=torch.Generator().manual_seed(0)))
    fit.sample_stats = {"energy": energy}
    expected = float((energy[1].diff() ** 2).mean() / energy[1].var())
    assert metrics.convergence(fit)["ebfmi_min"] == pytest.approx(expected, rel=0.02)


def test_many_scalars_are_chosen_within_every_site():
    """Of 900 and 100 scalars 500 are looked at: 450 and 50."""
    some = metrics.some({"a": torch.arange(900.0).expand(1, 2, 900), "b": torch.zeros(1, 2, 10, 10)})
    assert {name: tuple(value.shape) for name, value in some.items()} == {"a": (1, 2, 450), "b": (1, 2, 50)}
    assert (some["a"][0, 0, 0], some["a"][0, 0, -1]) == (0, 899), "the first and the last among them"
    assert tuple(metrics.some({"a": torch.zeros(1, 2, 900), "b": torch.zeros(1, 2)})["b"].shape) == (1, 2, 1)
    few = {"a": torch.zeros(1, 2, 500)}
    assert metrics.some(few) is few


def test_information_criteria(monkeypatch):
    """L = -10, p = 3, n = 5: AIC 26, BIC 20 + 3 ln 5; a row of two that is in doubt adds 2 ln 2 to it."""
    shares = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    monkeypatch.setattr(metrics, "free_parameters", lambda posterior, point: 3)
    monkeypatch.setattr(metrics, "view_of", lambda model: SimpleNamespace(responsibilities=lambda fit: shares))
    posterior = SimpleNamespace(unit="row", units=5, sites={"x": ("column",)}, adds_quickly=True, effort=1.0)
    fit = SimpleNamespace(
        posterior=posterior, objective_name="log_joint", draws=Draws(x=torch.zeros(1, 1, 2)), model=None,
        log_likelihood=torch.tensor([[-10.0]]), looked_at=SimpleNamespace(units=None),
    )  # fmt: skip
    assert metrics.information(fit) == {
        "free_parameters": 3, "aic": pytest.approx(26), "bic": pytest.approx(20 + 3 * math.log(5)),
        "icl": pytest.approx(20 + 3 * math.log(5) + 2 * LN2),
    }  # fmt: skip
    posterior.sites = {"x": ("row",)}
    assert metrics.information(fit) == {}, "parameters of its own for every row"
    posterior.sites, fit.objective_name = {"x": ("column",)}, "log_likelihood"
    assert metrics.information(fit) == {}


def test_a_check_counts_simulations_that_are_as_far_off():
    """Of 99 simulations 0.5 to 99.5 sds apart none is as far as 1000; all are as far as their middle."""
    simulated = torch.linspace(-3, 3, 99, dtype=torch.float64)[:, None]
    p, distance = tail(torch.tensor([1000.0], dtype=torch.float64), simulated)
    assert p == pytest.approx(1 / 100)
    assert distance == pytest.approx(1000 / float(simulated.std()))
    assert tail(torch.tensor([0.0], dtype=torch.float64), simulated)[0] == 1
    there, back = (tail(torch.tensor([x], dtype=torch.float64), simulated) for x in (2.0, -2.0))
    assert there == pytest.approx(back)
    # 2 is 2.0 of 6/98 = 32.7 steps from the middle: some 16 at either end are farther, less the pull of leaving one out
    assert there[0] == pytest.approx(34 / 100, abs=0.03)
    still = torch.ones(30, 1, dtype=torch.float64)
    assert tail(still[0], still) == (1, 0), "what never varies, and does not in the data"


def test_conflicts_of_scale_are_the_same_up_and_down():
    simulated = torch.tensor([[0.5], [1.0], [2.0]] * 10, dtype=torch.float64)
    up, down = (_conflict(torch.tensor([x], dtype=torch.float64), simulated) for x in (64.0, 1 / 64))
    assert up == pytest.approx(down)
    assert up[1] == pytest.approx(6), "six times as many doublings as the farthest simulation"
    assert up[0] == pytest.approx(1 / 31)


def moments(mean: float, sd: float, name: str = "a", fit: str = "one") -> pd.DataFrame:
    return pd.DataFrame({"fit": [fit], "quantity": [name], "mean": [mean], "sd": [sd], "mcse": [sd / 10],
                         "sd_error": [0.03], "lower_90": [mean - sd], "upper_90": [mean + sd],
                         "raw_mean": [mean], "raw_sd": [sd]})  # fmt: skip


def test_a_fit_against_its_reference():
    """1 ± 2 against 0 ± 4: a quarter sd too high, intervals [-1, 3] within [-4, 4], half as wide."""
    found = _against(moments(1, 2), moments(0, 4)).iloc[0]
    assert found["error_in_sd"] == pytest.approx(0.25)
    assert found["raw_error_in_sd"] == pytest.approx(0.25)
    assert found["sd_ratio"] == pytest.approx(0.5)
    assert found["overlap_90"] == pytest.approx(0.5)
    assert found["error_mcse"] == pytest.approx(math.hypot(0.2, 0.4) / 4)
    assert found["sd_ratio_se"] == pytest.approx(0.03 * math.sqrt(2))
    back = _against(moments(0, 4), moments(1, 2)).iloc[0]
    assert (back["error_in_sd"], back["sd_ratio"]) == (pytest.approx(-0.5), pytest.approx(2))
    assert back["overlap_90"] == pytest.approx(found["overlap_90"]), "two fits overlap each other alike"
    apart = _against(moments(10, 1), moments(0, 1)).iloc[0]
    assert apart["overlap_90"] == 0
    certain = _against(moments(1.5, 0.1), moments(1, 0)).iloc[0]
    assert certain["error_in_sd"] == 1000, "infinitely far from what is certain"
    assert math.isnan(certain["sd_ratio"])


def test_distances_of_pairs():
    """Means 0, 1 and 5 with sd 1 each: 1, 5 and 4 apart; nearest and farthest of each."""
    table = _pairwise([moments(mean, 1, fit=name) for name, mean in (("a", 0), ("b", 1), ("c", 5))])
    assert table["median_distance"].tolist() == [1, 5, 4]
    assert _nearest(table, "a") == {"nearest": "b", "nearest_distance": 1, "farthest": "c", "farthest_distance": 5}
    assert _nearest(table, "c") == {"nearest": "b", "nearest_distance": 4, "farthest": "a", "farthest_distance": 5}
    assert _nearest(table, "d") == {}


def test_losses_against_the_best():
    fits = [SimpleNamespace(metrics={"holdout_elpd": value}) for value in (-2.0, -1.0, -1.5)]
    found = [_held_out(fits, ["a", "b", "c"], i) for i in range(3)]
    assert [each["holdout_loss"] for each in found] == [1, 0, 0.5]
    assert {each["holdout_best"] for each in found} == {"b"}
    assert _held_out(fits[:1], ["a"], 0) == {}


def test_gaps_to_the_evidence():
    weighted = {"elbo": -12.0, "elbo_se": 0.3, "log_evidence_weighted": -10.0, "log_evidence_weighted_se": 0.4,
                "khat": 0.2, "khat_threshold": 0.7}  # fmt: skip
    fits = [SimpleNamespace(metrics=weighted, objective_name="elbo"),
            SimpleNamespace(metrics=weighted | {"log_evidence_weighted": -11.0, "elbo": -11.5}, objective_name="elbo"),
            SimpleNamespace(metrics={"elbo": -9.5, "khat": 0.9, "khat_threshold": 0.7}, objective_name="elbo"),
            SimpleNamespace(metrics={}, objective_name="log_evidence", objective=-9.0)]  # fmt: skip
    found = _evidence(fits, "abcd", [0, 1, 2], 1)
    assert (found["elbo_gap"], found["log_evidence"]) == (1.5, -10), "the highest is the nearest"
    assert found["elbo_gap_se"] == pytest.approx(0.5), "hypot(0.3, 0.4)"
    exact = _evidence(fits, "abcd", [0, 1, 2, 3], 0)
    assert (exact["elbo_gap"], exact["elbo_gap_se"]) == (3, pytest.approx(0.3))
    assert _evidence(fits, "abcd", [2], 2) == {}, "its weights cannot be believed"
    assert _evidence(fits, "abcd", [3], 3) == {}


def test_a_search_is_timed_by_its_objective():
    trace = pd.DataFrame({"seconds": [1.0, 2, 3, 4], "objective": [-9.0, -0.006, -0.004, 0.0]})
    assert _settled(SimpleNamespace(trace=trace, seconds=5.0)) == 3, "within 0.1^2 / 2 of the best"
    assert _settled(SimpleNamespace(trace=trace.iloc[:0], seconds=5.0)) == 5


def test_a_sampler_is_timed_by_its_first_draws(monkeypatch):
    """Draws 3, 1, -1, -3 of a quantity that is 0 ± 2: after t draws 1.5, 1, 0.5 and 0 sds off.

    Ten sweeps of warm-up and ten of draws in 20 seconds after the first: draws come from 13.5 s to 21 s.
    """
    draws = torch.tensor([[3.0, 1, -1, -3]])
    monkeypatch.setattr("pyrozoo.diagnostics.compare.outline", lambda fit: SimpleNamespace(invariants={"a": draws}))
    trace = pd.DataFrame({"chain": [0] * 20, "seconds": np.linspace(1, 21, 20)})
    fit = SimpleNamespace(kind="samples", seconds=21.0, trace=trace, metrics={"warmup": 10}, moments=[])
    frame = rows(["a"], error_in_sd=[0.0], error_mcse=[0.05]).assign(reference_sd=2.0)
    curve = error_curve(fit, frame)
    assert curve["error"].tolist() == [1.5, 1, 0.5, 0]
    assert curve["seconds"].tolist() == pytest.approx([13.5, 16, 18.5, 21])
    assert curve["surely"].tolist() == pytest.approx(
        [1.5 - 0.3, 1 - 0.15 * math.sqrt(2), 0.5 - 0.15 * math.sqrt(4 / 3), 0]
    )
    own = error_curve(fit, frame, own=True)
    assert own["error"].tolist() == pytest.approx([1.5 / math.sqrt(3 / 4), math.sqrt(2), 0.5 / math.sqrt(1 / 4)])
    assert error_curve(SimpleNamespace(kind="exact", seconds=1.0), frame, own=True).empty


@pytest.mark.parametrize(
    ("error", "side"), [(-2.1, "2.10 ± 0.05 sd too low"), (2.1, "2.10 ± 0.05 sd too high")]
)  # fmt: skip
def test_the_side_of_an_error(error, side):
    assert side in about({**CAVI, "mean_error": error})["means"].sentence
    certain = about({**CAVI, "mean_error": error, "mean_off_by": error / 7})["means"].sentence
    assert f"0.3 too {side.split()[-1]}, where the reference has no doubt" in certain


FINE = {"means_off": "", "means_far": "", "mean_error": 0.1, "mean_error_rest": 0.2}
JUDGED = [
    ("status", {"status": "converged"}, "pass"), ("status", {"status": "max_iterations"}, "warn"),
    ("status", {"status": "interrupted"}, "warn"), ("status", {"status": "objective_decreased"}, "fail"),
    ("ESS", {**SAMPLES, "ess_bulk_min_invariants": 400.0}, "pass"),
    ("ESS", {**SAMPLES, "ess_bulk_min_invariants": 399.0}, "warn"),
    ("ESS", {**SAMPLES, "ess_tail_min_invariants": 399.0}, "warn"),
    ("R-hat", {**SAMPLES, "rhat_max_invariants": 1.01}, "pass"),
    ("R-hat", {**SAMPLES, "rhat_max_invariants": 1.0101}, "warn"),
    ("R-hat", {**SAMPLES, "rhat_max_invariants": 1.05}, "warn"),
    ("R-hat", {**SAMPLES, "rhat_max_invariants": 1.051}, "fail"),
    ("R-hat", {**SAMPLES, "rhat_max": 1.05}, "pass"), ("R-hat", {**SAMPLES, "rhat_max": 1.051}, "warn"),
    ("labels", {**SAMPLES, "rhat_max_raw": 1.051}, "pass"), ("labels", {**SAMPLES, "rhat_max_raw": 1.05}, None),
    ("labels", {**SAMPLES, "rhat_max": 1.06}, None),
    ("E-BFMI", {**SAMPLES, "ebfmi_min": 0.3}, "pass"), ("E-BFMI", {**SAMPLES, "ebfmi_min": 0.29}, "warn"),
    ("divergences", {**SAMPLES, "divergences": 0}, None),
    ("held out", {"holdout_loss": 0.05, "holdout_best": "a", "holdout_elpd": -1.0}, "pass"),
    ("held out", {"holdout_loss": 0.051, "holdout_best": "a", "holdout_elpd": -1.0}, "warn"),
    ("held out", {"holdout_impossible": 1}, "fail"), ("held out", {"holdout_impossible": 0}, None),
    ("coverage", {"holdout_coverage_90": 0.87 - 0.06 + 1e-9, "holdout_entries": 100}, "pass"),
    ("coverage", {"holdout_coverage_90": 0.87 - 0.061, "holdout_entries": 100}, "warn"),
    ("coverage", {"holdout_coverage_90": 0.93 + 0.06 - 1e-9, "holdout_entries": 100}, "pass"),
    ("coverage", {"holdout_coverage_90": 0.93 + 0.061, "holdout_entries": 100}, "warn"),
    ("coverage", {"holdout_coverage_90": 0.2, "holdout_entries": 99}, "pass"),
    ("k-hat", {"khat": 0.69, "khat_threshold": 0.7}, "pass"), ("k-hat", {"khat": 0.7, "khat_threshold": 0.7}, "warn"),
    ("ELBO", {"elbo_gap": 1.3, "elbo_gap_se": 0.1, "evidence_is": "exact"}, "pass"),
    ("ELBO", {"elbo_gap": 1.31, "elbo_gap_se": 0.1, "evidence_is": "exact"}, "warn"),
    ("LOO", {**SAMPLES, "loo_bad_khat_share": 0.005}, "pass"),
    ("LOO", {**SAMPLES, "khat": 0.7, "khat_threshold": 0.7}, "warn"),
    ("means", FINE, "pass"), ("means", {**FINE, "kind": "samples", "mean_standard_errors": 5.0}, "pass"),
    ("means", {**FINE, "kind": "samples", "mean_standard_errors": 5.1}, "warn"),
    ("means", {**FINE, "mean_standard_errors": 99.0}, "pass"), ("means", {**FINE, "mean_mcse_worst": 0.34}, "warn"),
    ("means", {**FINE, "mean_mcse_worst": 0.33}, "pass"),
    ("means", {"means_far": "a, b", "means_off": "a, b"}, "fail"), ("means", {"means_far": "a"}, "warn"),
    ("spread", {**SHORT, "spread_narrow": "", "spread_wide": ""}, "pass"),
    ("spread", {**SHORT, "spread_far": "a"}, "warn"), ("spread", {**SHORT, "spread_far": "a, b"}, "fail"),
    ("intervals", {**SHORT, "overlap_median": 0.7}, "pass"), ("intervals", {**SHORT, "overlap_median": 0.69}, "warn"),
    ("intervals", {**SHORT, "overlap_median": 0.4}, "warn"), ("intervals", {**SHORT, "overlap_median": 0.39}, "fail"),
    ("reference", {"reference_is": "none"}, "warn"), ("reference", {"is_reference": 1}, "pass"),
    ("reference", {"is_reference": 1, "reference_good": 0}, "warn"), ("reference", {"reference_judges": 0}, "warn"),
    ("reference", {"reference_good": 0}, "warn"), ("reference", {}, "pass"),
    ("uncertainty", {"kind": "point"}, "pass"), ("exact", {"kind": "exact"}, "pass"),
    ("prior", {"prior_conflict_p": 0.01, "prior_conflict_excess": 1.25, "prior_conflict_of": "a",
               "prior_conflict_setting": "b"}, "warn"),
    *(("predictive checks", {"overdispersion_p": p, "overdispersion_ratio": 3.0, "overdispersion_of": "Poisson",
                             "overdispersion_setting": "set a"}, level)
      for p, level in ((0.05, None), (0.049, "warn"), (0.01, "warn"), (0.009, "fail"))),
    ("predictive checks", {"check_a_p": 0.05, "check_a_distance": 2.0}, "pass"),
    ("predictive checks", {"check_a_p": 0.049, "check_a_distance": 2.0}, "warn"),
    ("predictive checks", {"check_a_p": 0.009, "check_a_distance": 2.0}, "fail"),
]  # fmt: skip
"""What a line is about, the figures of a fit, and its level: at either side of every limit."""


def test_levels_at_either_side_of_a_limit():
    for what, figures, level in JUDGED:
        base = CAVI if "rhat_max" not in figures else {}
        lines = about({**base, **figures})
        assert (lines[what].level if what in lines else None) == level, (what, figures)


SAID = [
    ("spread", {**SHORT, "spread_narrow": "a", "spread_wide": "b, c", "spread_far": ""},
     "too long for b and c: the sd of log_likelihood is 0.50 times"),
    ("spread", {**SHORT, "spread_far": ""},
     "too short for log_likelihood, column_mean and column_zero: the sd of column_mean[a] is 0.10 times"),
    ("spread", {**SHORT, "spread_narrow": "", "spread_wide": ""}, "typically 0.40 times the reference's"),
    ("held out", {"holdout_loss": 0.0, "holdout_best": "a", "holdout_elpd": -1.0}, "-1.000 each, the best of all"),
    ("held out", {"holdout_loss": 0.04, "holdout_best": "a", "holdout_elpd": -1.0}, "-1.000 each, 0.040 below a"),
    ("held out", {"holdout_loss": 0.4, "holdout_best": "a", "holdout_elpd": -1.0},
     "worse than a: log density -1.000 each, 0.400 less"),
    ("ELBO", {}, "The ELBO is -120.00 ± 0.10; the evidence is not known."),
    ("ELBO", {"elbo_gap": 3.0, "elbo_gap_se": 0.1, "evidence_is": "exact"}, "3.00 ± 0.10 nats below"),
    ("means", FINE, "within 0.20 sd of the reference's."),
    ("means", {**FINE, "mean_error": -0.3}, "within 0.30 sd of the reference's."),
    ("means", {"means_far": "a, b", "means_off": "a, b"}, "2 of 3 kinds are more than 1 sd off."),
    ("means", {"means_far": "a", "means_off": "a", "quantities": 1}, "too low. Do not use it."),
    ("means", {"means_far": "", "means_off": "a, b, c"}, "The mean of log_likelihood is 2.10 ± 0.05 sd too low."),
    ("reference", {"reference_is": "none", "nearest": "a", "nearest_distance": 0.1, "farthest": "b",
                   "farthest_distance": 5.0},
     "Nearest is a (0.10 sd), farthest b (5.00 sd)."),
    ("R-hat", {**SAMPLES, "rhat_max_invariants": 1.47, "rhat_max": 1.5, "rhat_max_raw": 1.505},
     "Chains disagree: R-hat"),
    ("ESS", SAMPLES, "At least 922 effective draws of every invariant (294 a second)."),
    ("divergences", {**SAMPLES, "divergences": 3}, "3 of 4000 transitions diverged"),
    ("k-hat", {"khat": 0.5, "khat_threshold": 0.667}, "(k-hat 0.50, limit 0.67)"),
    ("time", {"seconds_to_error": 2.5}, "within 0.25 sd of the reference's after 2.5 s."),
    ("predictive checks", {"overdispersion_p": 0.02, "overdispersion_ratio": 3.0, "overdispersion_of": "Poisson",
                           "overdispersion_setting": "set a"},
     "Counts vary more than Poisson ones: set a. They vary 3 times as much as simulated ones (p = 0.02)."),
    ("predictive checks", {"check_a_p": 0.02, "check_a_distance": 4.0, "check_a_bias": 1.9},
     "rarely have a like yours (p = 0.02)"),
    ("predictive checks", {"check_a_p": 0.02, "check_a_distance": 4.0, "check_a_bias": 2.0}, "have a as high as yours"),
    ("predictive checks", {"check_a_b_p": 0.02, "check_a_b_distance": 4.0, "check_a_b_bias": -2.0},
     "have a b as low as yours"),
]  # fmt: skip


def test_what_a_line_says():
    for what, figures, said in SAID:
        base = CAVI if "rhat_max" not in figures else {}
        assert said in about({**base, **figures})[what].sentence


ANSWERS = [
    ({**SAMPLES, "ess_bulk_min_invariants": 24.0}, "run it 20 times longer"),
    ({**SAMPLES, "ess_bulk_min_invariants": 23.9}, "mixes badly"),
    ({**SAMPLES, "ess_bulk_min_invariants": 399.0}, "run it 2 times longer"),
    ({**CAVI, "kind": "exact"}, "the posterior itself"),
    ({**CAVI, **FINE}, "Use its means, within 0.20 sd of gibbs's, 14 times faster."),
    ({**CAVI, "means_off": "a, b, c", "means_far": ""}, "Its means are rough, 14 times faster."),
    ({**CAVI, **FINE, **SHORT, "kind": "point"}, "14 times faster."),
    ({**CAVI, "reference_is": "none", "khat": 0.3}, "Believe this fit: q is close to the posterior (k-hat 0.30)"),
    ({**CAVI, "reference_is": "none"}, "Use its means as a first look"),
    ({**CAVI, "reference_is": "none", "kind": "point"}, "Use it as a best guess"),
    ({**CAVI, "holdout_impossible": 1}, "gives probability 0"),
    ({**SAMPLES, "divergences": 900}, "900 of its transitions diverged"),
    ({**CAVI, "overdispersion_p": 0.01, "overdispersion_ratio": 3.0, "overdispersion_of": "Poisson",
      "overdispersion_setting": "set a."}, "Counts vary more than Poisson ones: set a."),
    ({**SAMPLES, **HELD}, "Its chains agree (R-hat 1.003, 922 effective draws), but not with gibbs"),
]  # fmt: skip
"""Figures of a fit, and what its answer says."""


def test_answers():
    for figures, said in ANSWERS:
        assert said in verdict(figures).answer


def test_speed_is_worth_saying_from_twice_and_a_second_on():
    assert faster({"reference_seconds": 2.0, "seconds": 1.0}) == ", 2 times faster"
    assert faster({"reference_seconds": 1.9, "seconds": 1.0}) == ""
    assert faster({"reference_seconds": 1.0, "seconds": 0.1}) == ", 10 times faster"
    assert faster({"reference_seconds": 0.9, "seconds": 0.1}) == ""
    assert faster({"seconds": 0.1}) == ""


def test_the_worst_of_lines_and_lists_of_words():
    assert worst([Line("pass", "a", ""), Line("fail", "b", ""), Line("warn", "c", "")]) == "fail"
    assert worst([]) == "pass"
    assert [listed(list("abcd"[:n])) for n in range(5)] == ["", "a", "a and b", "a, b and c", "a, b and 2 more"]


def test_thresholds_are_positive_and_in_order():
    for wrong in ({"ess": 0.0}, {"rhat_good": 1.06}, {"coverage_low": 0.94}, {"spread_bad": 0.9}):
        with pytest.raises(Exception, match=rf"verdict\.{next(iter(wrong))} is"):
            Thresholds(**wrong)
    Thresholds(rhat_good=1.05)


@dataclass(frozen=True)
class Model:
    """A stand-in for a model with two settings."""

    K: int = 2
    rate: float = 1.0
    without_data = ("rate",)


def named_fit(method: str, kind: str = "samples", model: Any = Model(), seed: int = 0, **figures: Any) -> Any:
    return SimpleNamespace(method=method, kind=kind, model=model, seed=seed, metrics=figures)


def test_names_say_what_tells_fits_apart():
    """Methods first; of two of one method their settings, then options of the solver, the seed, and their place."""
    fits = [named_fit("em"), named_fit("cavi")]
    assert _names(fits, None) == ("em", "cavi")
    assert _names(fits, 1) == ("em", "cavi (stored)")
    sizes = [named_fit("em", model=Model(K)) for K in (2, 3)]
    assert _names(sizes, None) == ("em K=2", "em K=3")
    options = [named_fit("bp", **{"solver.damping": d}) for d in (0.1, 0.5)]
    assert _names([*options, named_fit("em", **{"solver.x": 1})], None) == ("bp damping=0.1", "bp damping=0.5", "em")
    assert _names([named_fit("em", seed=s) for s in (4, 7)], None) == ("em seed=4", "em seed=7")
    assert _names([named_fit("em", seed=4)] * 2, None) == ("em seed=4 #0", "em seed=4 #1")


def test_what_a_sweep_varies_leaves_out_what_the_data_decide():
    assert varied_fields([named_fit("em", model=Model(K, 1.0 / K)) for K in (2, 3)]) == ["K"], "rate follows K"
    assert varied_fields([named_fit("em", model=Model(2, r)) for r in (1.0, 2.0)]) == ["rate"], (
        "it is the choice itself"
    )
    both = [named_fit("em", model=Model(K, r)) for K in (2, 3) for r in (1.0, 2.0)]
    assert varied_fields(both) == ["K", "rate"]
    assert groups_of([named_fit("em", model=Model(K)) for K in (2, 3, 2)]) == [[0, 2], [1]]


def chains(bulk: float = 500, rhat: float = 1.0, tail: float = 500, **more: Any) -> Any:
    known = {"rhat_max_invariants": rhat, "ess_bulk_min_invariants": bulk, "ess_tail_min_invariants": tail}
    return named_fit("gibbs", **known, chains=4, draws=1000, **more)


def judge_of(*fits: Any, given: int | None = None) -> tuple[int, bool, bool] | None:
    found = _reference(fits, range(len(fits)), given, Thresholds())
    return None if found is None else (found.index, found.good, found.judges)


def test_what_fits_are_held_to():
    """An exact fit; else the good sampler with the most draws, without divergences if there is one; else the best."""
    point = named_fit("em", "point")
    assert judge_of(point) is None
    assert judge_of(point, chains(), named_fit("exact", "exact")) == (2, True, True)
    assert judge_of(chains(500), chains(600)) == (1, True, True)
    assert judge_of(chains(500), chains(600, divergences=40)) == (0, True, True), "1% of 4000: good, but not first"
    assert judge_of(chains(600, divergences=40)) == (0, True, True)
    assert judge_of(chains(600, divergences=41)) == (0, False, False)
    assert judge_of(chains(399), chains(500, tail=399)) == (0, False, False)
    assert judge_of(chains(500, 1.03), chains(500, 1.02)) == (1, False, False), "the least R-hat"
    assert judge_of(chains(500, 1.01)) == (0, True, True)
    assert judge_of(point, chains(500, 1.3), given=1) == (1, False, False)
    assert judge_of(point, named_fit("exact", "exact"), given=1) == (1, True, True)
    assert judge_of(point, named_fit("svi", "variational"), given=1) == (1, False, True)
    said = _reference([chains(500, 1.0, 450, divergences=1)], [0], None, Thresholds())
    assert said is not None
    assert said.what == "1 divergence, R-hat 1.000, 450 effective draws"


def told(name: str, level: str = "pass", **figures: Any) -> Told:
    metrics = {**CAVI, **FINE, "method": name, **figures}
    return Told(
        name,
        metrics,
        Card("", (Line(level, "means", ""), *([Line("warn", "spread", "")] if figures.get("short") else []))),
    )


def test_the_second_choice_is_whole_and_quick():
    best = told("gibbs", is_reference=1, reference_judges=1)
    wide = told("svi", seconds=1.0, short=True)
    assert believe([best, told("cavi")]) == "Believe gibbs. cavi's means are within 0.20 sd, 14 times faster."
    # One that may be used for everything comes first, where it saves time; and it is said that others agree.
    assert believe([best, told("cavi"), wide]) == ("Believe gibbs. cavi's means are within 0.20 sd, 14 times faster.")
    slow = told("nuts", seconds=41.0)
    assert believe([best, slow, wide]) == (
        "Believe gibbs. svi's means are within 0.20 sd, 42 times faster; do not use its intervals. nuts agrees with it."
    )
    assert believe([best, told("cavi"), slow]) == (
        "Believe gibbs. cavi's means are within 0.20 sd, 14 times faster. cavi and nuts agree with it."
    )
    assert believe([best, told("em", "fail")]) == "Believe gibbs. Do not use em."
    apart = {"nearest_distance": 0.5, "farthest_distance": 2.0}
    lost = [told("a", nearest="b", farthest="c", **apart), told("b", nearest="a", farthest="a", **apart)]
    assert believe(lost).endswith("add inference=gibbs or nuts. The two are 0.50 sd apart.")
    far = told("c", nearest="b", nearest_distance=1.5, farthest="a", farthest_distance=3.0)
    assert believe([*lost, far]).endswith("a and b are nearest (0.50 sd), c and a farthest (3.00 sd).")


def test_how_many_sets_can_be_simulated(monkeypatch):
    """Of 1000 numbers 100 sets; of 250,000 ten million hold 40; of more than 500,000 there is a part of the units."""
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 100)
    data = SimpleNamespace(values=torch.zeros(10), shape=(10, 1))
    asked: list[int] = []

    def some(count: int) -> Any:
        asked.append(count)
        return SimpleNamespace(alone=True, units=range(count), scale=1000 / count)

    posterior = SimpleNamespace(data=data, units=1000, some_units=some)
    assert [affordable(posterior, numbers)[1] for numbers in (1000, 100_000, 250_000, 500_000)] == [100, 100, 40, 20]
    assert not asked
    part, count = affordable(posterior, 1_000_000)
    assert (asked, count) == ([100], 100), "a tenth of the units has 100,000 numbers"
    posterior.some_units = lambda count: SimpleNamespace(alone=False, units=range(count), scale=1.0)
    part, count = affordable(posterior, 1_000_000)
    assert (part.units, count) == (None, 10), "units that do not stand alone"


def test_free_parameters_are_unconstrained_coordinates():
    """A simplex of 3 has 2, a covariance of 3 by 3 has 6 of 9, two positive numbers have 2."""
    simplex, positive = constraints.simplex, constraints.positive
    assert metrics._coordinates(simplex, torch.tensor([0.2, 0.3, 0.5])) == 2
    assert metrics._coordinates(positive, torch.ones(2)) == 2
    assert metrics._coordinates(constraints.positive_definite, torch.eye(3)) == 6
    assert metrics._coordinates(constraints.positive_definite, torch.eye(3).expand(4, 3, 3)) == 24
    assert metrics._coordinates(constraints.positive_definite, torch.eye(3).expand(4, 2, 3, 3)) == 48


def test_outlines_are_lines_of_what_is_large(monkeypatch):
    """Of five rows three, the first and the last among them, under their own labels; of other dimensions all."""
    monkeypatch.setattr("pyrozoo.diagnostics.outline.MOST_LINES", 3)
    fit: Any = SimpleNamespace(data=SimpleNamespace(coords={"row": list("abcde"), "column": ["x", "y"]}))
    value = torch.arange(20.0).reshape(1, 2, 5, 2)
    draws, labels = _some(fit, {"w": value, "s": value[..., 0, 0]}, {"w": ("row", "column"), "s": ()})
    assert labels == {"w": (["a", "c", "e"], ["x", "y"]), "s": ()}
    assert draws["w"].tolist() == value[:, :, [0, 2, 4]].tolist()
    assert draws["s"].tolist() == [[0, 10]]
    _, labels = _some(fit, {"w": value}, {"w": ("factor", "column")})
    assert labels["w"] == (["0", "2", "4"], ["x", "y"]), "places where there are no labels"
