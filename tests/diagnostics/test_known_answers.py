"""What is chosen, timed, counted and said of fits: a few numbers, the answer beside them, at either side of a limit."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pyrozoo
from pyrozoo.diagnostics import accuracy, compare, metrics, planes, predictive
from pyrozoo.diagnostics.accuracy import Accuracy, _Curve, _held, _Noise, _noise, _places, _size, _spaced, _Target
from pyrozoo.diagnostics.answer import Told, avoided, believe, judgeable, rhat
from pyrozoo.diagnostics.card import MOST_SHOWN, Card, Line, listed, named, overall, sds, worst
from pyrozoo.diagnostics.choice import _difference, _methods
from pyrozoo.diagnostics.compare import MOMENTS_OF_TIME, ROUNDING, _against, _means, _pairwise, _spread, clock, judged
from pyrozoo.diagnostics.outline import invariants_at, outline
from pyrozoo.diagnostics.planes import Planes, _wasserstein, distances
from pyrozoo.diagnostics.predictive import Sets, _known, _of_prior, affordable
from pyrozoo.diagnostics.verdict import Thresholds, graded, verdict
from tests.diagnostics.test_accuracy import CHAIN, from_draws, searching
from tests.diagnostics.test_accuracy import found as accuracy_found
from tests.diagnostics.test_by_hand import FINE, approximated, told
from tests.diagnostics.test_planes import normal
from tests.diagnostics.test_scaled_and_swapped import doubles, entries
from tests.diagnostics.test_verdict import CAVI, HELD, SAMPLES, SHORT, about, rows

pytestmark = pytest.mark.usefixtures("unchecked")


# Accuracy -------------------------------------------------------------------------------------------------------------


def one_line(
    errors: list[float], size: float = 0.0, repeats: float = 0.0, theirs: float = 0.0, kind: str = "samples",
    share: float = 1.0,
) -> Any:  # fmt: skip
    """Return error and band of errors whose noise has a size, and whose repetitions all are one number."""
    count = len(errors)

    def noise(of: float, value: float) -> _Noise:
        return _Noise(np.full(count, of), np.full((7, count), value))

    curve = _Curve(SimpleNamespace(kind=kind), pd.DataFrame(), None, {}, own=False)
    return curve._line(np.array(errors), noise(size, repeats), np.full(count, share), noise(theirs, 0.0))


def test_a_band_about_an_error():
    """Errors 0.3 and -0.4: sqrt(0.125); what is left of them without noise is kept, and the noise is put on it."""
    error = math.sqrt(0.125)
    assert one_line([0.3, -0.4]) == pytest.approx((error, error, error)), "no noise, no band"
    assert one_line([0.5, 0.5], 0.3, 0.1) == pytest.approx((0.5, 0.5, 0.5)), "0.5 * sqrt(1 - 0.36) + 0.1"
    assert one_line([0.5, 0.5], 0.15, 0.05, share=2) == pytest.approx((0.5, 0.5, 0.5)), (
        "twice as noisy with fewer draws"
    )
    assert one_line([0.5, 0.5], 0.0, 0.1, 0.3) == pytest.approx((0.5, 0.5, 0.5)), "whoever's noise it is"
    assert one_line([0.2, 0.2], 0.5, 0.1) == pytest.approx((0.2, 0.1, 0.1)), "all of it is noise"
    assert one_line([0.0, 0.0], 0.0, 0.1) == pytest.approx((0.0, 0.1, 0.1))
    assert all(math.isnan(each) for each in one_line([math.nan, 0.1]))
    rest = math.sqrt(1 - 2 * 0.36)
    assert one_line([1.0, 1.0], 0.6, 0.0, kind="variational") == pytest.approx((0.8, rest, rest)), "taken off of all"
    assert one_line([0.2, 0.2], 0.5, 0.0, 0.1, "variational")[0] == pytest.approx(0.1), "down to what can be told"
    assert one_line([0.05, 0.05], 0.5, 0.0, 0.1, "variational")[0] == pytest.approx(0.05)


def test_the_ends_of_a_band_are_quantiles():
    """Repetitions 0, 1, ..., 199 on an error of nothing: its band goes from 5% of them to 95%."""
    noise = _Noise(np.zeros(1), np.arange(200.0)[:, None])
    curve = _Curve(SimpleNamespace(kind="samples"), pd.DataFrame(), None, {}, own=False)
    assert curve._line(np.zeros(1), noise, np.ones(1), _Noise.none(1)) == pytest.approx((0.0, 9.95, 189.05), rel=1e-3)


def test_noise_of_means_and_of_spreads():
    """Of x and -x means err against each other, and spreads alike; sizes are those of the table, in the reference's."""
    x = np.random.default_rng(0).normal(size=(2, 300, 1))
    lines = pd.DataFrame({"mcse": [0.2, math.nan], "reference_sd": [2.0, 1.0], "sd_error": [0.05, math.nan]})
    mean, sd = (_noise(np.concatenate([x, -x], 2), lines, of, seed=0) for of in ("mean", "sd"))
    assert mean.size.tolist() == [0.1, 0.0]
    assert sd.size.tolist() == [0.05, 0.0]
    lines = lines.fillna(0.3)
    mean, sd = (_noise(np.concatenate([x, -x], 2) + 5, lines, of, seed=0).repeats for of in ("mean", "sd"))
    assert np.corrcoef(mean.T)[0, 1] == pytest.approx(-1)
    assert np.corrcoef(sd.T)[0, 1] == pytest.approx(1)
    again, other = (_noise(x, lines.iloc[:1], "mean", seed=seed).repeats for seed in (0, 1))
    assert again[:, 0] == pytest.approx(mean[:, 0])
    assert abs(np.corrcoef(again[:, 0], other[:, 0])[0, 1]) < 0.3, "of other seeds"
    assert _size(np.array([3.0, 4.0, 0.0])) == pytest.approx(5 / math.sqrt(3))
    assert _Noise.of(np.ones((10, 1)), np.ones(1), 0).repeats.tolist() == [[0.0]] * accuracy.REPEATS, (
        "a constant has none"
    )


def test_quantities_that_count_vary_and_are_not_the_likelihood():
    known = pd.DataFrame({"quantity": ["a", "log_likelihood", "b", "c", "d"], "mean": [1.0, -5.0, -2.0, 0.0, -1.0],
                          "sd": [0.1, 2.0, 1e-10, 0.0, 2e-9]})  # fmt: skip
    assert _places(known).tolist() == [0, 4]
    target = _Target(pd.DataFrame({"mean": [1.0, -3.0], "sd": [2.0, 0.5]}), np.array([0, 1]))
    assert target.standardised(CHAIN[:2]).tolist() == [[0, 1], [1, -1]]
    assert _held(np.array([1e-9, 0.5, 1e9])).tolist() == [1e-3, 0.5, 1e3]


def test_a_table_of_accuracies_by_hand():
    work = {"seconds": [1.0, 2.0, 3.0], "steps": [10, 20, 30], "passes": [math.nan] * 3}
    one = pd.DataFrame({"fit": "a", **work, "error_mean": [0.5, 0.2, 0.05], "error_sd": [0.05, 0.4, 0.2]})
    other = pd.DataFrame({"fit": "b", **work, "error_mean": [0.2, 0.2, 0.2], "error_sd": math.nan})
    table = Accuracy(pd.concat([one, other]), {"mean": 0.03, "sd": 0.1}, 2, "a").table
    assert table["fit"].tolist() == ["a", "b"]
    assert table["error_mean"].tolist() == [0.05, 0.2]
    assert table["steps_to_mean_0.3"].tolist() == [20, 10]
    assert table["seconds_to_mean_0.1"].tolist()[0] == 3
    assert table["seconds_to_sd_0.3"].tolist()[0] == 3, "below for good"
    assert table[["seconds_to_mean_0.1", "seconds_to_sd_0.3"]].iloc[1].isna().all()
    assert {name.partition("_to_")[2] for name in table if "_to_" in name} == {"mean_0.3", "mean_0.1", "sd_0.3"}, (
        "errors that are told from none"
    )


def test_a_reference_that_is_a_search_says_how_well_it_knows_itself():
    result = pyrozoo.compare([from_draws(CHAIN, sampling_time=4.0)], reference=searching())
    found = result.accuracy
    assert found is not None
    own = found.curves[found.curves["fit"] == found.base]
    assert own[["seconds", "steps", "passes"]].to_numpy() == pytest.approx(np.array([[1.2, 12, 36]])), (
        "of its last moment"
    )
    for of in ("mean", "sd"):
        ends = own[[f"error_{of}_low", f"error_{of}", f"error_{of}_high"]].to_numpy()
        assert ends == pytest.approx(np.full((1, 3), found.floors[of]))
    assert found.floors["mean"] == pytest.approx(4000**-0.5, rel=0.01)


def test_a_search_without_moments_has_its_end():
    fit = searching()
    ends = accuracy_found(fit).curves
    fit.moments = []
    alone = accuracy_found(fit).curves
    its, last = alone[alone["fit"] == alone["fit"].iloc[0]], ends[ends["fit"] == ends["fit"].iloc[0]].iloc[-1]
    assert its[["seconds", "steps"]].to_numpy().tolist() == [[pytest.approx(1.2), 12]]
    assert its["passes"].isna().all()
    for column in ("error_mean", "error_sd", "error_mean_low", "error_sd_high"):
        assert its[column].iloc[0] == pytest.approx(last[column])


def test_only_what_is_held_to_one_reference_is_shown():
    stuck = pyrozoo.compare([from_draws(CHAIN), from_draws(CHAIN + 1)])
    assert accuracy.accuracy_of(stuck) is None, "nothing has converged"
    sure = pyrozoo.compare([from_draws(CHAIN)], reference=from_draws(np.repeat(CHAIN[:1], 8, 0)))
    assert accuracy.accuracy_of(sure) is None, "of what is certain"


def test_times_are_24_in_equal_ratios():
    assert MOMENTS_OF_TIME == 24
    every: Any = [SimpleNamespace(step=step) for step in range(24)]
    assert _spaced(every) == every
    few = _spaced([*every, SimpleNamespace(step=24)])
    assert len(few) < 24
    assert (few[0].step, few[-1].step) == (0, 24)
    long = np.random.default_rng(0).normal(size=(20_000, 2))
    its = accuracy_found(from_draws(long)).curves
    steps = its[its["fit"] == its["fit"].iloc[0]]["steps"].to_numpy()
    wanted = np.geomspace(1, 10_000, 24).round()
    assert steps == pytest.approx(np.unique(wanted))


# Comparisons ----------------------------------------------------------------------------------------------------------


def moments_of(*quantities: str, mean: Any = 0.0, sd: Any = 1.0, fit: str = "a") -> pd.DataFrame:
    frame = pd.DataFrame({"fit": fit, "quantity": [*quantities]}).assign(mean=mean, sd=sd, mcse=0.0, sd_error=0.01)
    return frame.assign(lower_90=frame["mean"] - frame["sd"], upper_90=frame["mean"] + frame["sd"])


def test_points_are_told_apart_by_a_tenth_of_their_size():
    """Means 10 and 12, -10 and -12: a tenth of 11; where one has an sd that is the unit; nothing about zero."""
    points = [
        moments_of("a", "b", "c", mean=[x, -x, 0.0], sd=math.nan, fit=name) for name, x in (("p", 10.0), ("q", 12.0))
    ]
    (line,) = _pairwise(points).to_dict("records")
    assert line == {"fit": "p", "other": "q", "median_distance": pytest.approx(2 / 1.1),
                    "largest_distance": pytest.approx(2 / 1.1), "largest_of": "a"}  # fmt: skip
    spread = moments_of("a", "b", "c", mean=0.0, sd=[4.0, 2.0, 0.0], fit="s")
    lines = _pairwise([*points, spread]).set_index(["fit", "other"])
    assert lines.loc[("p", "q"), "median_distance"] == pytest.approx(0.75), "2 of 4, 2 of 2"
    assert lines.loc[("q", "s"), "largest_distance"] == pytest.approx(6)
    assert lines.loc[("q", "s"), "largest_of"] == "b"
    assert _pairwise([moments_of("a", mean=0.0, sd=math.nan)] * 2).empty, "of nothing but zeros"


def test_rounding_is_a_billionth_of_the_mean():
    """A reference that is sure up to 0.9e-9 of its mean has no spread to compare with; one of 1.1e-9 has."""
    assert ROUNDING == 1e-9
    for mean in (-4.0, 4.0):
        frame = moments_of("a", mean=mean * (1 + 1e-9), sd=2e-9 * 4)
        sure, unsure = (_against(frame, moments_of("a", mean=mean, sd=4 * sd)).iloc[0] for sd in (0.9e-9, 1.1e-9))
        assert math.isnan(sure["sd_ratio"])
        assert sure["error_in_sd"] == pytest.approx(math.copysign(1, mean), rel=1e-5), "in units of the rounding"
        assert unsure["sd_ratio"] == pytest.approx(2 / 1.1, rel=1e-5)
    assert _against(moments_of("a", mean=1.0), moments_of("a", sd=0.0)).isna().iloc[0]["error_in_sd"], (
        "zero for certain"
    )
    far = _against(moments_of("a", mean=-1e9), moments_of("a")).iloc[0]
    assert far["error_in_sd"] == -1000
    assert "raw_error_in_sd" not in far


def test_what_is_sure_is_said_by_how_much():
    frame = rows(["a", "b"], error_in_sd=[900.0, 1.0], error_mcse=[0.0, 0.0]).assign(
        mean=[3.5, 0.0], reference_mean=[4.0, 0.0], reference_sd=[4e-9, 1.0]
    )
    assert _means(frame, Thresholds())["mean_off_by"] == -0.5
    assert "mean_off_by" not in _means(frame.assign(reference_sd=[5e-9, 1.0]), Thresholds())
    exact = rows(["a"], error_in_sd=[0.5], error_mcse=[1e-6])
    assert _means(exact, Thresholds())["mean_standard_errors"] == 0, "rounding is no noise"
    assert _means(exact.assign(error_mcse=1.1e-6), Thresholds())["mean_standard_errors"] > 1e5
    limit = rows(["a", "b"], error_in_sd=[0.55, -1.3], error_mcse=[0.1, 0.1])
    found = _means(limit, Thresholds())
    assert (found["means_off"], found["means_far"], found["mean_error_rest"]) == ("b", "", 0.55), "0.25 and 1 after 0.3"
    assert (found["invariants"], found["quantities"], found["mean_mcse_worst"]) == (2, 2, 0.1)
    further = _means(limit.assign(error_in_sd=[0.56, -1.31]), Thresholds())
    assert (further["means_off"], further["means_far"], further["mean_error_rest"]) == ("a, b", "b", 0.0)


def test_ratios_that_say_nothing_are_left_out():
    """A relative error of 0.3 is too vague; of the others the extremes after three errors, and both limits' sides."""
    frame = rows(["a", "b", "c"], sd_ratio=[0.1, 0.6, 1.5], sd_ratio_se=[0.3, 0.29, 0.0])
    found = _spread(frame, Thresholds())
    assert (found["narrowest_of"], found["widest_of"]) == ("b", "c")
    assert found["quantities_spread"] == 2
    assert found["sd_ratio_median"] == pytest.approx(1.05)
    at = {"a": 0.8, "b": 0.79, "c": 1.25, "d": 1.26, "e": 0.5, "f": 0.49, "g": 2.0, "h": 2.01}
    found = _spread(rows([*at], sd_ratio=[*at.values()], sd_ratio_se=0.0), Thresholds())
    assert found["spread_narrow"] == "b, e, f"
    assert found["spread_wide"] == "d, g, h"
    assert found["spread_far"] == "f, h"
    overlaps = rows(["a", "b", "c"], sd_ratio=1.0, sd_ratio_se=0.0).assign(overlap_90=[0.9, 0.3, math.nan])
    found = _spread(overlaps, Thresholds())
    assert (found["overlap_median"], found["overlap_least"], found["overlap_least_of"]) == (0.6, 0.3, "b")
    assert "overlap_median" not in _spread(overlaps.assign(overlap_90=math.nan), Thresholds())


def test_points_are_not_held_to_the_likelihood():
    frame = rows(["log_likelihood", "a", "b"], error_in_sd=[1.0, math.nan, 2.0])
    assert judged(frame, "point")["quantity"].tolist() == ["b"]
    assert judged(frame, "samples")["quantity"].tolist() == ["log_likelihood", "b"]


def test_clocks_of_samplers():
    """Ten sweeps of warm-up and ten that count, from second 1 to 21: a half of the draws after 15 sweeps, at 16 s."""
    parts = np.array([0.0, 0.5, 1.0])
    trace = pd.DataFrame({"chain": [0] * 20 + [1] * 20, "seconds": np.linspace(1, 21, 40)})
    fit: Any = SimpleNamespace(seconds=21.0, trace=trace, metrics={"warmup": 10}, moments=[])
    found = clock(fit, parts)
    assert found["seconds"].tolist() == [11, 16, 21]
    assert found["steps"].tolist() == [10, 15, 20]
    assert found["passes"].isna().all()
    fit.metrics = {"warmup": 99}
    assert clock(fit, parts)["steps"].tolist() == [20, 20, 20], "no more warm-up than there was"
    fit.metrics = {}
    assert clock(fit, parts)["seconds"].tolist() == [1, 11, 21]
    fit.trace = trace.iloc[:0]
    assert clock(fit, parts)["seconds"].tolist() == [0, 10.5, 21], "evenly, where nothing is known"
    assert clock(fit, parts)["steps"].isna().all()
    known = [SimpleNamespace(step=s, seconds=s**2 / 4, passes=3.0 * s, kept=max(0, s - 4)) for s in (0, 2, 4, 6, 8)]
    fit.metrics, fit.moments = {"warmup": 4}, known
    found = clock(fit, parts)
    assert found["steps"].tolist() == [4, 6, 8]
    assert found["seconds"].tolist() == [4, 9, 16]
    assert found["passes"].tolist() == [12, 18, 24]
    fit.metrics = {"warmup": 99}
    assert clock(fit, parts)["steps"].tolist() == [8, 8, 8]
    fit.moments, fit.metrics = known[:1], {}
    assert clock(fit, parts)["seconds"].tolist() == [0, 10.5, 21], "one moment is no clock"


def test_curves_of_searches_have_one_time():
    trace = pd.DataFrame({"seconds": [1.0, 2.0, 3.0], "objective": [-9.0, -0.001, 0.0]})
    fit: Any = SimpleNamespace(kind="variational", seconds=4.0, trace=trace)
    frame = rows(["a", "b"], error_in_sd=[-0.5, 0.2], error_mcse=[0.1, 0.0])
    (line,) = compare.error_curve(fit, frame).to_dict("records")
    assert line == {"seconds": 2, "error": 0.5, "surely": pytest.approx(0.2)}
    assert compare.error_curve(fit, frame, own=True).empty
    assert compare.error_curve(fit, frame.iloc[:0]).empty
    fit.seconds = math.nan
    assert compare.error_curve(fit, frame).empty, "one from elsewhere says no time"


# Cards and answers ----------------------------------------------------------------------------------------------------


def test_cards_show_seven_lines_and_fold_the_others():
    assert MOST_SHOWN == 7
    lines = [Line("pass", f"p{i}", "Fine.") for i in range(6)]
    lines += [Line("warn", "w", "Few."), Line("fail", "f", "Not."), Line("pass", "p6", "Fine.")]
    card = Card("Believe it.", tuple(lines))
    assert [line.about for line in card.shown] == ["f", "w", "p0", "p1", "p2", "p3", "p4"]
    assert [line.about for line in card.folded] == ["p5", "p6"]
    assert card[0] is lines[0]
    assert card[1:3] == (lines[1], lines[2])
    page = card._repr_html_()
    assert "<summary>2 more</summary>" in page
    assert page.index("Not.") < page.index("Few.") < page.index("p0") < page.index("<details>") < page.index("p5")
    short = Card("A <b>", tuple(lines[:7]))
    assert "<details>" not in short._repr_html_()
    assert "<b>A &lt;b&gt;</b>" in short._repr_html_()
    assert str(short).splitlines()[:2] == ["A <b>", "  warn  w: Few."]
    for level in ("pass", "warn", "fail"):
        assert Told("a", {}, Card("", (Line("fail", "x", ""), Line(level, "x", "")))).level_of == {"x": "fail"}
        assert worst([Line(level, "x", ""), Line("pass", "y", "")]) == level
    assert overall(lines[:6]) == "pass"


def test_lists_and_names_as_they_are_read():
    assert listed("abcd") == "a, b and 2 more"
    assert listed("abc") == "a, b and c"
    assert [listed("abcdefg"[:n], 6) for n in (1, 2, 6, 7)] == [
        "a",
        "a and b",
        "a, b, c, d, e and f",
        "a, b, c, d, e and 2 more",
    ]
    assert named("a, b") == ["a", "b"]
    assert named("") == []
    assert [sds(x) for x in (-999.9, 999.9, 1000, 1e9)] == ["999.90", "999.90", *["more than 1000"] * 2]
    assert [rhat(x) for x in (1.0, 999.4, 999.9999, 1000, math.inf)] == [
        "1.000",
        "999.400",
        "1000.000",
        *["infinite"] * 2,
    ]
    assert [graded(x, 1, 2) for x in (0.9, 1, 1.1, 2, 2.1)] == ["pass", "pass", "warn", "warn", "fail"]


WHOLE = [
    ({**CAVI, "status": "objective_decreased"}, "Do not use this fit: its objective fell, so an update is wrong."),
    ({**CAVI, "status": "interrupted"},
     "This is a partial result: the fit was interrupted. Resume it before you believe it."),
    ({**CAVI, "status": "max_iterations"},
     "Do not rely on this fit yet: it had not converged when its iterations ended."),
    ({**SAMPLES, "rhat_max_invariants": 1e6}, "Do not believe this fit: its chains disagree (R-hat infinite)."),
    ({**CAVI, "means_far": "a, b"}, "Do not use this fit: the mean of log_likelihood is 2.10 sd off."),
    ({**SAMPLES, "rhat_max_invariants": 1.02},
     "Nearly there (R-hat 1.020, 922 effective draws): run it 2 times longer before you believe it."),
    ({**SAMPLES, "rhat_max": 1.2}, "Believe this fit: its chains agree (R-hat 1.003, 922 effective draws)."),
    ({**SAMPLES, "rhat_max": 1.2, "ess_tail_min_invariants": 0.1},
     "Not there yet (R-hat 1.003, 0 effective draws): this sampler mixes badly here."),
    ({**SAMPLES, "ess_tail_min_invariants": 241.0},
     "Nearly there (R-hat 1.003, 241 effective draws): run it 2 times longer before you believe it."),
    ({**SAMPLES, "ess_tail_min_invariants": 239.0},
     "Nearly there (R-hat 1.003, 239 effective draws): run it 3 times longer before you believe it."),
    ({**SAMPLES, **HELD, **FINE, "mean_standard_errors": 0.0, "mean_mcse_worst": 0.0},
     "Believe this fit: its chains agree (R-hat 1.003, 922 effective draws)."),
    ({**SAMPLES, **HELD, "reference_judges": 0},
     "Believe this fit: its chains agree (R-hat 1.003, 922 effective draws)."),
    ({**SAMPLES, **HELD, **FINE, "mean_standard_errors": 6.0},
     "Its chains agree (R-hat 1.003, 922 effective draws), but not with gibbs: one of the two is wrong."),
    ({**CAVI, **FINE, **SHORT},
     "Use its means, within 0.20 sd of gibbs's, 14 times faster; do not use its intervals."),
    ({**CAVI, **FINE, **SHORT, "spread_narrow": "", "spread_far": "", "overlap_median": 0.5},
     "Use its means, within 0.20 sd of gibbs's, 14 times faster; do not use its intervals."),
    ({**CAVI, **SHORT, "kind": "point"},
     "Use its means, within 0.06 sd of gibbs's, 14 times faster; do not use its log_likelihood."),
    ({**CAVI, **SHORT, "means_off": "a, b, c", "means_far": ""},
     "Its means are rough, 14 times faster; do not use its intervals."),
    ({**CAVI, **FINE, "reference_seconds": 5.0}, "Use its means, within 0.20 sd of gibbs's."),
    ({**CAVI, "reference_is": "none", "khat": 0.66}, "Believe this fit: q is close to the posterior (k-hat 0.66)."),
    ({**CAVI, "kind": "exact", "status": "completed"}, "Believe this fit: it is the posterior itself."),
]  # fmt: skip
"""Figures of a fit, and its answer."""


def test_whole_answers():
    for figures, said in WHOLE:
        assert verdict(figures).answer == said


STILL = {name: value for name, value in SAMPLES.items() if "rhat" not in name and "ess_" not in name}


def test_what_cannot_be_told_of_chains_is_told_by_a_reference():
    assert verdict(STILL).answer == "Do not rely on this fit yet: nothing shows that it has converged."
    assert verdict({**STILL, **HELD, **FINE}).answer == "Use its means, within 0.20 sd of gibbs's, 14 times faster."
    assert verdict({**STILL, **HELD, **FINE, "reference_judges": 0}).answer.startswith("Do not rely on this fit yet")
    held = [("a", 0, 1), ("none", 0, 1), ("a", 1, 1), ("a", 0, 0)]
    names = ("reference_is", "is_reference", "reference_judges")
    assert [judgeable(dict(zip(names, each, strict=True))) for each in held] == [True, False, False, False]
    assert not judgeable({"reference_good": 1})
    assert judgeable({"reference_is": "a", "reference_good": 1})


FAULTS = [
    ({"baseline_rmse": 1.0, "holdout_rmse": 1.1}, "The model predicts no better than its baseline."),
    ({"overdispersion_p": 0.01, "overdispersion_ratio": 3.0, "overdispersion_of": "Poisson",
      "overdispersion_setting": "set a"}, "Counts vary more than Poisson ones: set a."),
    ({"check_a_p": 0.01, "check_a_distance": 3.0, "check_b_c_p": 0.005, "check_b_c_distance": 9.0, "check_d_p": 0.02,
      "check_d_distance": 2.0}, "The model misses the a and b c of your data."),
    ({"check_a_p": 0.011, "check_a_distance": 3.0}, ""),
    ({"overdispersion_p": 0.011, "overdispersion_ratio": 3.0, "overdispersion_of": "Poisson",
      "overdispersion_setting": "set a"}, ""),
    ({"baseline_rmse": 1.1, "holdout_rmse": 1.0}, ""),
]  # fmt: skip


def test_what_is_wrong_with_the_model_stands_last():
    best = told("gibbs", is_reference=1, reference_judges=1)
    for figures, said in FAULTS:
        card = verdict({**SAMPLES, **figures})
        assert card.answer == f"{verdict(SAMPLES).answer} {said}".strip()
        found = believe([dataclasses.replace(best, metrics={**best.metrics, **figures}, card=card), told("cavi")])
        assert found == f"Believe gibbs. cavi's means are within 0.20 sd, 14 times faster. {said}".strip()


def test_the_second_choice_among_several():
    """What may be used for more comes first, where it saves time; then what has fewer means off, and is faster."""
    best = told("gibbs", is_reference=1, reference_judges=1)

    def off(name: str, means: str, level: str = "warn", **figures: Any) -> Told:
        return told(name, level, means_off=means, **figures)

    assert avoided(off("a", "x, y", short=True)) == ["x", "y", "intervals"]
    assert avoided(off("a", "x", short=True, kind="point")) == ["x"]
    likelihood, mean = off("vem", "log_likelihood"), off("em", "column_mean", seconds=1.0)
    assert "em's means are within 0.20 sd, 42 times faster; do not use its column_mean." in believe(
        [best, likelihood, mean]
    )
    assert "vem's means are within 0.20 sd, 14 times faster; do not use its log_likelihood." in believe(
        [best, likelihood]
    )
    assert "em's means" in believe([best, off("vi", "a, b", seconds=0.5), mean]), "fewer are off"
    slow = [off("vi", "a, b", seconds=40.0), off("em", "c", seconds=41.0)]
    assert believe([best, *slow]) == "Believe gibbs. em's means are within 0.20 sd; do not use its c."
    two = [told("vi", seconds=2.0), told("em", seconds=1.0)]
    assert (
        believe([best, *two])
        == "Believe gibbs. em's means are within 0.20 sd, 42 times faster. vi and em agree with it."
    )
    short = {name: value for name, value in SAMPLES.items() if name not in ("method", "kind", "status")}
    sampler = told("nuts", kind="samples", **{**short, **HELD, "ess_tail_min_invariants": 10.0})
    sampler = dataclasses.replace(sampler, card=Card("", (Line("warn", "ESS", ""),)))
    assert believe([best, sampler]) == "Believe gibbs.", "one that should run longer is no second choice"
    assert believe([sampler]) == sampler.card.answer
    assert believe([told("a"), told("b")]) == "Nothing here says which fit is right: add inference=gibbs or nuts."
    some = [told("x", "fail"), told("y", "fail"), told("cavi")]
    assert believe([best, *some]).endswith("14 times faster. Do not use x and y.")


def test_loo_of_draws_that_are_q_s_is_not_compared():
    """Beyond the limit of k-hat, stated or the draws' own; without a k-hat LOO is LOO."""
    base = {**CAVI, "loo_bad_khat_share": 0.0, "loo_unit": "row", "loo_elpd": -3.0, "loo_se": 1.0}
    said = {khat: about({**base, "khat": khat, "khat_threshold": 0.67})["LOO"].level for khat in (0.66, 0.67, 2.0)}
    assert said == {0.66: "pass", 0.67: "warn", 2.0: "warn"}
    assert about({**base, "khat": 0.66, "khat_threshold": 0.67}, khat=0.5)["LOO"].level == "warn"
    assert about({**base, "khat": 0.75, "khat_threshold": 0.67}, khat=0.8)["LOO"].level == "pass"
    plain = {name: value for name, value in base.items() if "khat" not in name or name.startswith("loo")}
    assert about(plain)["LOO"].level == "pass"
    assert about({**plain, "loo_bad_khat_share": 0.0999})["LOO"].sentence.endswith("10.0% of the rows.")
    assert "hold entries out" in about({**plain, "loo_bad_khat_share": 0.1})["LOO"].sentence
    assert about({**plain, "loo_bad_khat_share": 0.0051})["LOO"].level == "warn"


def test_limits_may_be_equal_and_not_zero():
    for small, large in (("rhat_good", "rhat_bad"), ("loo_good", "loo_bad"), ("check_bad", "check_good"),
                         ("mean_good", "mean_bad"), ("spread_bad", "spread_good"), ("overlap_bad", "overlap_good"),
                         ("coverage_low", "coverage_high")):  # fmt: skip
        Thresholds(**{small: 0.5, large: 0.5})
        with pytest.raises(Exception, match=f"verdict.{small} is 0.51; it must be at most verdict.{large}"):
            Thresholds(**{small: 0.51, large: 0.5})
    for field in dataclasses.fields(Thresholds):
        with pytest.raises(Exception, match=f"verdict.{field.name} is 0"):
            Thresholds(**{field.name: 0})
    assert Thresholds().khat is None


# Choices and figures --------------------------------------------------------------------------------------------------


def test_two_entries_have_a_difference():
    """1 and 3 ahead: 2, with sd sqrt(2), so 1 of their mean."""
    assert _difference(entries(1, 3), entries(0, 0), "holdout_elpd") == (2, pytest.approx(1))


def test_methods_are_asked_in_the_order_of_belief():
    def fit(method: str, level: str, **figures: Any) -> Told:
        return Told(method, {"method": method, **figures}, Card("", (Line(level, "means", ""),)))

    fits = [fit("em", "warn"), fit("cavi", "pass"), fit("gibbs", "warn", is_reference=1), fit("cavi", "warn")]
    assert _methods(fits) == ["gibbs", "cavi", "em"]


def test_loo_pairs_units(monkeypatch):
    monkeypatch.setattr("pyrozoo.diagnostics.choice.loo_by_unit", lambda fit: (np.array(fit.logs), None, None))
    one, other = (SimpleNamespace(logs=logs, metrics={}) for logs in ([-1.0, -2, -3], [-2.0, -4, -6]))
    assert _difference(one, other, "loo_elpd") == (pytest.approx(2), pytest.approx(1 / math.sqrt(3)))


def test_numbers_of_the_simulations(monkeypatch):
    """A part of the units gets as many sets as its parameters allow, but twenty; all of them as many as there are."""
    monkeypatch.setattr(predictive, "SIMULATIONS", 100)
    monkeypatch.setattr(predictive, "_simulate", lambda part, at, count, dispersed: count)

    def sets(scalars: int, units: Any = range(3)) -> Any:
        draws = SimpleNamespace(some=lambda count: draws if count == 1 else None, scalars=scalars)
        data = SimpleNamespace(values=torch.zeros(9))
        posterior: Any = SimpleNamespace(few=1, prior_draws=lambda count: [], most_numbers=50, data=data)
        posterior.on = lambda few: posterior
        part = SimpleNamespace(posterior=posterior, units=units, draws=lambda given: given)
        monkeypatch.setattr(predictive, "affordable", lambda posterior, numbers: (part, 100) if numbers == 50 else None)
        fit: Any = SimpleNamespace(posterior=posterior, draws=draws, seed=0, data=data)
        return _of_prior(fit)

    assert [sets(n) for n in (10, 50_000, 100_000, 200_000, 10**6, 10**9)] == [100, 100, 50, 25, 20, 20]
    assert sets(10**9, None) == 100


def test_units_that_data_are_simulated_for(monkeypatch):
    """500,000 numbers are 20 sets of all; a number more is one too many; so many units as 100 sets of them allow."""
    monkeypatch.setattr(predictive, "SIMULATIONS", 100)

    def asked(numbers: float, units: int = 1000, alone: bool = True, own: Any = range(3), scale: float = 10.0,
              cells: int = 10) -> Any:  # fmt: skip
        counts: list[int] = []
        part = SimpleNamespace(alone=alone, units=own, scale=scale)
        posterior: Any = SimpleNamespace(data=SimpleNamespace(values=torch.zeros(cells), shape=(10, 1)), units=units,
                                         some_units=lambda count: counts.append(count) or part)  # fmt: skip
        found, count = affordable(posterior, numbers)
        return found is part, count, counts

    assert asked(500_000) == (False, 20, [])
    assert asked(526_320) == (True, 100, [189]), "19 sets: too few"
    assert asked(1e9) == (True, 1, [1]), "at least one"
    assert asked(1e7) == (True, 10, [10]), "a tenth of ten millions, ten times"
    assert asked(1e6, alone=False) == (False, 10, [100])
    assert asked(1e6, own=None) == (False, 10, [100]), "all of them would be too many"
    assert asked(1e12, scale=1e15) == (True, 100, [1])
    assert asked(500_000, own=None, cells=10**6) == (True, 100, [200]), "twenty sets of all of them would do"
    assert asked(500_001, own=None, cells=10**6) == (False, 10, [199])


def test_values_that_data_or_simulations_lack_are_left_out(monkeypatch):
    observed = torch.tensor([1.0, math.nan, 3.0, 4.0])
    sets = [torch.tensor([1.0, 2, 3, 4]), torch.tensor([5.0, 6, math.inf, 8])]
    seen, theirs = _known(observed, sets)
    assert seen.tolist() == [1, 4]
    assert theirs.tolist() == [[1, 4], [5, 8]]
    monkeypatch.setattr(predictive, "MOST_VALUES", 2)
    seen, theirs = _known(torch.arange(9.0), [torch.arange(9.0)])
    assert (seen.tolist(), theirs.tolist()) == ([0, 8], [[0, 8]])


def test_checks_of_a_fit_by_hand(monkeypatch):
    """Simulations -2, 0 and 2, ten times each; data at 4: distance 4 / sd, bias with its sign; nothing of too few."""
    monkeypatch.setattr(predictive, "SIMULATIONS", 100)
    sets = [{"a": doubles(x), "none": doubles(math.nan)} for x in (-2, 0, 2) * 10]
    sd = float(doubles(*(-2, 0, 2) * 10).std())

    def said(seen: float, **more: Any) -> Any:
        posterior = SimpleNamespace(own=None, checks=lambda data: {"a": doubles(seen), "none": doubles(1)})
        part: Any = SimpleNamespace(posterior=posterior)
        fit: Any = SimpleNamespace(once=lambda key, make: Sets(part, more.get("sets", sets), [], {}))
        return predictive.checks(fit)

    assert said(4) == {
        "check_a_p": 1 / 31,
        "check_a_distance": pytest.approx(4 / sd),
        "check_a_bias": pytest.approx(4 / sd),
    }
    assert said(-4) == {**said(4), "check_a_bias": pytest.approx(-4 / sd)}
    assert said(0)["check_a_p"] == 1
    assert said(4, sets=[]) == {}
    monkeypatch.setattr(predictive, "SIMULATIONS", 20)
    assert said(4)
    monkeypatch.setattr(predictive, "SIMULATIONS", 19)
    assert said(4) == {}, "too few to say anything"
    assert Sets(None, sets[:3], [], {}).count == 3
    assert Sets(None, [], [], {"a": (("x",), np.zeros((5, 2)))}).count == 5


def test_few_values_are_fewer_than_twenty():
    """Of 100 draws, 19 values as often as they fit are few, and 20 are many; of 30 draws it is half of them."""
    for draws, values, few in ((100, 20, True), (100, 21, False), (30, 15, True), (30, 16, False), (400, 20, True)):
        logs = (torch.arange(draws) % values).double()[None]
        assert metrics._take_few_values(logs).tolist() == [few], (draws, values)
    both = torch.stack([torch.arange(100).double(), torch.zeros(100).double(), torch.arange(100).double() % 3])
    assert metrics._take_few_values(both).tolist() == [False, True, True]


def test_invariants_of_other_draws_are_the_same_but_for_the_likelihood():
    fit = pyrozoo.fit("zip_mixture", "em", rows=12, columns=2, num_components=2, restarts=1, progress=False)
    own, again = outline(fit).invariants, invariants_at(fit, fit.draws)
    assert list(again) == list(own)
    for name in own:
        assert torch.equal(again[name], torch.zeros(1, 1) if name == "log_likelihood" else own[name]), name


def test_weights_that_vary_by_rounding_are_constant():
    """By a billionth of the log ratios' mean, or of 1 where that is less."""

    def khat(span: float, mean: float) -> float:
        fit = approximated([0.0], [0.0])
        fit.log_joint = 1, (torch.linspace(0, span, 40, dtype=torch.float64) + mean)[None]
        fit.log_q = torch.zeros(1, 40, dtype=torch.float64)
        return float(metrics.approximation(fit)["khat"])

    for mean, limit in ((0.0, 1e-9), (0.5, 1e-9), (5.0, 5e-9), (-5.0, 5e-9)):
        assert khat(0.95 * limit, mean) == 0
        assert khat(1.05 * limit, mean) != 0


def test_loo_takes_twenty_draws():
    fit = pyrozoo.fit("zip_mixture", "cavi", rows=12, columns=2, num_components=1, draws=20, restarts=1, progress=False)
    for count in (20, 19):
        some = pyrozoo.Result.of(fit, fit.settings)
        for name in ("pointwise", "invariants", "aligned", "log_joint", "log_likelihood", "outline"):
            vars(some).pop(name, None)
        some.draws, some.log_q, some.metrics = fit.draws.some(count), fit.log_q[:, :count], {}
        found = metrics.evaluate(some)
        assert ("loo_elpd" in found) == (count == 20)
        assert "elbo" in found
        assert "rhat_max" not in found
    some.kind, some.draws = "point", fit.draws
    assert not {"loo_elpd", "elbo"} & {*metrics.evaluate(some)}


# Planes ---------------------------------------------------------------------------------------------------------------


def test_distances_of_normals_that_are_both_correlated():
    """Against the matrix square root: correlations 0.8 and -0.5, sds 1 and 2, 3 and 1."""
    from scipy import linalg

    a, b = np.array([[1, 1.6], [1.6, 4]]), np.array([[9, -1.5], [-1.5, 1]])
    root = linalg.sqrtm(linalg.sqrtm(a) @ b @ linalg.sqrtm(a)).real
    wanted = math.sqrt(0.25 + 1 + np.trace(a + b - 2 * root))
    assert _wasserstein(np.array([0.5, -1.0]), a, b)[0, 1] == pytest.approx(wanted)
    assert _wasserstein(np.zeros(2), a, a)[0, 1] == pytest.approx(0, abs=1e-7)
    assert _wasserstein(np.zeros(2), 4 * a, a)[0, 1] == pytest.approx(math.sqrt(5)), "sds twice as large: |S^(1/2)|"
    draws = [normal([0, 0], each) for each in (a, b)]
    assert distances(draws, 0)[0, 1] == pytest.approx(math.sqrt(np.trace(a + b - 2 * root)), rel=1e-6)
    assert distances([*draws, draws[1]], 0)[0, 1] == pytest.approx(distances(draws, 0)[0, 1]), "of the others the mean"
    assert (np.diag(distances(draws, 0)) < 0).all(), "one quantity is no plane"


def shown(*draws: np.ndarray, base: str | None = None) -> np.ndarray:
    known = {"abc"[k]: each for k, each in enumerate(draws)}
    return Planes(tuple(known), (), base, ("x",), known, 0.0).windows


def test_windows_hold_the_reference_and_what_is_near():
    """0, 1, ..., 1000 is shown from 4 to 996 and 6% more; what lies 7 sds off is cut there."""
    base = np.arange(1001.0)[:, None]
    room = 0.06 * 992
    assert shown(base, base=None)[0].tolist() == pytest.approx([4 - room, 996 + room])
    wide = shown(base, base * 2, base="a")[0]
    assert wide.tolist() == pytest.approx([4 - 0.06 * 1976, 1980 + 0.06 * 1976]), "of others from 1% to 99%"
    far = shown(base, base + 1e6, base="a")[0]
    high = 500 + 7 * base.std()
    assert far.tolist() == pytest.approx([4 - 0.06 * (high - 4), high + 0.06 * (high - 4)])
    low = shown(base, base - 1e6, base="a")[0]
    assert 1000 - low[::-1] == pytest.approx(far), "on either side"
    assert shown(base, base[:1], base=None)[0].tolist() == pytest.approx([0 - 0.06 * 996, 996 + 0.06 * 996]), (
        "points count"
    )
    still = shown(np.full((5, 1), 3.0))[0]
    assert still.tolist() == [3, 3], "a constant has no room"


def test_a_draw_far_outside_is_in_no_region():
    draws = np.concatenate([normal([0, 0], np.eye(2)), [[12.0, -12.0]]])
    for lines in planes.regions(draws):
        assert np.abs(np.concatenate(lines)).max() < 4
    few = planes.regions(normal([0, 0], np.eye(2), 30))
    assert [len(lines) > 0 for lines in few] == [True, True]


def test_edges_are_those_of_the_pair_that_is_asked():
    draws = normal([0, 5, 0], np.diag([1.0, 1.0, 9.0]))
    found = Planes(("a", "p"), (), "a", ("x", "y", "z"), {"a": draws, "p": draws[:1]}, 0.0)
    (edge,) = (max(lines, key=len) for lines in found.lines("a", 1, 2)[:1])
    assert edge[:, 0].mean() == pytest.approx(5, abs=0.3)
    assert np.ptp(edge[:, 1]) / np.ptp(edge[:, 0]) == pytest.approx(3, rel=0.1)
    assert found.lines("p", 1, 2) == [], "a point has no region"


def test_fits_of_the_larger_group_and_a_base_that_judges(monkeypatch):
    assert planes.planes_of(pyrozoo.compare([from_draws(np.ones((8, 3)))] * 2)) is None, "nothing varies"
    result = pyrozoo.compare([from_draws(CHAIN), from_draws(CHAIN + 1)])
    found = planes.planes_of(result)
    assert found is not None
    assert found.base is None, "of two samplers that have not converged"
    assert found.names == result.names
