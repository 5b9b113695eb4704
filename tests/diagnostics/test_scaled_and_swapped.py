"""Figures when their data are scaled, shifted, doubled, reversed or swapped: what must follow, and what must stay."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyrozoo.core.errors import NotApplicable
from pyrozoo.diagnostics import metrics, predictive
from pyrozoo.diagnostics.accuracy import _controlled, _Noise, _regression, _spaced, until
from pyrozoo.diagnostics.answer import Told, believe
from pyrozoo.diagnostics.card import Line, overall, sds
from pyrozoo.diagnostics.choice import _difference, _is_number, choose
from pyrozoo.diagnostics.compare import MOST_SDS, _against, _means, _moments, _pairwise, _sd_error, _spread
from pyrozoo.diagnostics.planes import FARTHEST, _alike, _order, _scalars, _scale, distances
from pyrozoo.diagnostics.predictive import _conflict, affordable, chosen, overdispersion, prior_conflict, tail
from pyrozoo.diagnostics.verdict import Thresholds, verdict
from tests.diagnostics.test_by_hand import LN2, five, looked, told
from tests.diagnostics.test_verdict import CAVI, SAMPLES, Mixture, rows, sweep


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Predictive checks ----------------------------------------------------------------------------------------------------

SIMULATED = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + doubles(5, -2, 1)
SEEN = doubles(7.0, -2.5, 1.0)


@pytest.mark.parametrize("check", [tail, _conflict])
def test_checks_do_not_know_units_places_or_order(check):
    """Other units, another origin, another order of the simulations and of the values: the same answer."""
    p, distance = check(SEEN, SIMULATED)
    assert 0 < p < 1
    same = [
        (SEEN * 100, SIMULATED * 100), (-SEEN, -SIMULATED), (SEEN[[2, 0, 1]], SIMULATED[:, [2, 0, 1]]),
        (SEEN, SIMULATED.flip(0)), (SEEN - 50, SIMULATED - 50), (SEEN.repeat(2), SIMULATED.repeat(1, 2)),
    ]  # fmt: skip
    for seen, simulated in same:
        assert check(seen, simulated) == (pytest.approx(p), pytest.approx(distance))


def test_a_tail_left_one_out_by_a_loop():
    """Every simulation against centre and sd of the others, as the data against those of all."""
    far = float(((SEEN - SIMULATED.mean(0)) / SIMULATED.std(0)).square().mean())
    count = 0
    for i in range(len(SIMULATED)):
        others = torch.cat([SIMULATED[:i], SIMULATED[i + 1 :]])
        count += float(((SIMULATED[i] - others.mean(0)) / others.std(0)).square().mean()) >= far
    assert tail(SEEN, SIMULATED) == (pytest.approx((1 + count) / 41), pytest.approx(math.sqrt(far)))


def test_a_conflict_is_told_in_units_of_the_farthest_simulation():
    """Simulations -2, 0, 2 about 0, data at 6: three times as far; logarithms only of what is all positive."""
    simulated = doubles(-2, 0, 2).repeat(10)[:, None]
    assert _conflict(doubles(6), simulated)[1] == pytest.approx(3)
    assert _conflict(doubles(16), simulated + 10)[1] != pytest.approx(3), "8, 10 and 12 are compared by logarithms"
    assert _conflict(doubles(-4), simulated + 10)[1] == pytest.approx(7), "but not with a number below 0"


def counting(own: list[float], simulated: list[float]) -> dict[str, Any]:
    """Return what is said of counts that vary so at each draw."""
    spreads = iter(own)
    posterior = SimpleNamespace(own=None, dispersion=lambda data, at: next(spreads), to_disperse=("Poisson", "set a"))
    draws = SimpleNamespace(shape=(1, len(own)), flat=lambda: {"x": torch.zeros(len(own))})
    part: Any = SimpleNamespace(posterior=posterior, draws=lambda given: given)
    fit: Any = SimpleNamespace(draws=draws)
    return overdispersion(fit, part, simulated)


def test_counts_that_vary_more():
    """Own mean 3 against 1, 2, 3, 4: as much in two of four, 3 / 2.5 times; twice of each is the same."""
    found = counting([2.0, 4.0, 3.0, 3.0], [1.0, 2.0, 3.0, 4.0])
    assert found == {"overdispersion_p": 3 / 5, "overdispersion_ratio": pytest.approx(1.2),
                     "overdispersion_of": "Poisson", "overdispersion_setting": "set a"}  # fmt: skip
    assert counting([4.0, 8.0, 6.0, 6.0], [2.0, 4.0, 6.0, 8.0]) == found
    assert counting([3.0] * 4, [0.0] * 4) == {}, "nothing is simulated that varies"
    assert counting([3.0] * 4, [1.0, math.inf, 1.0, 1.0]) == {}


@pytest.mark.parametrize(
    ("cure", "missed", "found"),
    [("set model.a=1", {}, "b"), ("raise it", {}, "b"), ("raise it", {"check_b_p": 0.05}, "a"),
     ("raise it", {"check_b_p": 0.051}, "b"), ("set model.a=1", {"check_b_p": 0.01}, "b"),
     ("raise it", {"check_a_p": 0.0, "check_b_p": 0.0}, None)],
)  # fmt: skip
def test_which_statistic_conflicts_with_the_prior(cure, missed, found, monkeypatch):
    """``b`` is farther off than ``a``; what the model misses anyway is left out, unless a setting was stated."""
    monkeypatch.setattr(predictive, "SIMULATIONS", 100)
    sets = [{"a": doubles(x), "b": doubles(x)} for x in np.linspace(-1, 1, 21)]
    posterior = SimpleNamespace(own=None, checks=lambda data: {"a": doubles(2), "b": doubles(4)})
    drawn = SimpleNamespace(checks=sets, part=SimpleNamespace(posterior=posterior))
    monkeypatch.setattr(predictive, "of_prior", lambda fit: drawn)
    fit: Any = SimpleNamespace(model=SimpleNamespace(to_rescale=lambda data: cure), data=None)
    said = prior_conflict(fit, missed)
    assert said.get("prior_conflict_of") == found
    if found:
        assert said["prior_conflict_excess"] == pytest.approx({"a": 2, "b": 4}[found])
        assert said["prior_conflict_p"] == pytest.approx(1 / 22)
        assert said["prior_conflict_setting"] == cure

    def undrawn(fit):
        raise NotApplicable("no")

    monkeypatch.setattr(predictive, "of_prior", undrawn)
    assert prior_conflict(fit, missed) == {}


def test_draws_are_chosen_evenly_and_a_point_again_and_again():
    draws: Any = SimpleNamespace(shape=(2, 3), flat=lambda: {"x": torch.arange(6)})
    assert [int(each["x"]) for each in chosen(draws, 3)] == [0, 2, 5]
    point: Any = SimpleNamespace(shape=(1, 1), flat=lambda: {"x": torch.zeros(1)})
    assert len([*chosen(point, 4)]) == 4


def test_data_of_nothing_can_be_simulated():
    posterior: Any = SimpleNamespace(data=SimpleNamespace(values=torch.zeros(0), shape=(0, 0)), units=0)
    assert affordable(posterior, 0.0)[1] == predictive.SIMULATIONS


# Cards and answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "level"),
    [([], "pass"), ([("pass", "means")], "pass"), ([("pass", "means"), ("warn", "LOO")], "warn"),
     ([("warn", "means")], "warn"), ([("pass", "ESS"), ("fail", "LOO")], "warn"), ([("fail", "spread")], "warn"),
     ([("fail", "means"), ("pass", "ESS")], "fail"), ([("fail", "R-hat")], "fail"), ([("fail", "status")], "fail")],
)  # fmt: skip
def test_levels_of_a_card_whatever_the_order(lines, level):
    card = [Line(each, about, "") for each, about in lines]
    assert overall(card) == overall(card[::-1]) == level


def test_distances_as_they_are_read():
    assert [sds(x) for x in (0.004, -2.1, 999.994, MOST_SDS, -MOST_SDS)] == [
        "0.00", "2.10", "999.99", "more than 1000", "more than 1000",
    ]  # fmt: skip


def test_the_most_important_line_is_the_first():
    order = [line.about for line in verdict({**SAMPLES, **CAVI, "kind": "samples", "ebfmi_min": 0.1})]
    assert order.index("status") < order.index("R-hat") < order.index("ESS") < order.index("reference")
    assert order.index("means") < order.index("k-hat") < order.index("ELBO") < order.index("LOO")
    assert order[-1] == "E-BFMI"


def test_fits_of_several_methods_are_called_by_them():
    """Where settings are shared methods tell fits apart; not where two have one, or one is stored."""
    best = told("gibbs", is_reference=1, reference_judges=1)
    other = told("cavi")
    long = [Told("gibbs K=2", best.metrics, best.card), Told("cavi K=2", other.metrics, other.card)]
    assert believe(long) == believe([best, other])
    twice = [long[0], Told("gibbs K=2 seed=1", {**other.metrics, "method": "gibbs"}, other.card)]
    assert believe(twice).startswith("Believe gibbs K=2. gibbs K=2 seed=1's means")
    stored = [Told("gibbs (stored)", best.metrics, best.card), long[1]]
    assert believe(stored).startswith("Believe gibbs (stored). cavi K=2's means")
    assert believe(long[::-1]) == believe(long), "whatever the order"


def test_swapped_fits_change_signs_and_invert_ratios():
    """The one is too high by what the other is too low by, in its own sds; widths are reciprocal, overlap is shared."""

    def one(name: str, mean: float, sd: float) -> pd.DataFrame:
        return pd.DataFrame({"fit": [name], "quantity": ["a"], "mean": [mean], "sd": [sd], "mcse": [0.01],
                             "sd_error": [0.01], "lower_90": [mean - sd], "upper_90": [mean + sd],
                             "raw_mean": [mean + 1]})  # fmt: skip

    a, b = one("a", 1.0, 2.0), one("b", 4.0, 1.0)
    there, back = _against(a, b).iloc[0], _against(b, a).iloc[0]
    assert there["error_in_sd"] * 1.0 == -back["error_in_sd"] * 2.0 == -3
    assert (there["raw_error_in_sd"], back["raw_error_in_sd"]) == (-2, 2)
    assert there["sd_ratio"] == 1 / back["sd_ratio"] == 2
    assert there["overlap_90"] == back["overlap_90"] == 0, "[-1, 3] and [3, 5]"
    assert there["error_mcse"] * 1.0 == pytest.approx(back["error_mcse"] * 2.0)
    scaled = _against(*(each.assign(**{c: 7 * each[c] for c in ("mean", "sd", "mcse", "lower_90", "upper_90")})
                        for each in (a, b))).iloc[0]  # fmt: skip
    for column in ("error_in_sd", "error_mcse", "sd_ratio", "overlap_90"):
        assert scaled[column] == pytest.approx(there[column]), "in other units"
    assert _pairwise([a, b])["median_distance"].tolist() == _pairwise([b, a])["median_distance"].tolist() == [2.0]


def test_the_most_doubtful_of_errors_is_named_by_its_standard_errors():
    frame = rows(["a", "b", "c"], error_in_sd=[0.2, -0.1, 0.24], error_mcse=[0.1, 0.01, 0.2])
    found = _means(frame, Thresholds())
    assert (found["mean_standard_errors"], found["mean_standard_errors_of"]) == (pytest.approx(10), "b")
    assert (found["mean_error"], found["mean_error_of"]) == (-0.1, "b"), "surely off"
    assert found["mean_error_median"] == pytest.approx(0.2)
    turned = _means(frame.iloc[::-1].reset_index(drop=True).assign(error_in_sd=-frame["error_in_sd"].to_numpy()[::-1]),
                    Thresholds())  # fmt: skip
    assert (turned["mean_error"], turned["mean_error_of"]) == (0.1, "b")


def test_sd_ratios_are_judged_but_for_three_standard_errors():
    """0.7 and 1.4 with 4% of noise are 0.79 and 1.24 at best: the first is narrow, the second no more than 1 / 0.8."""
    found = _spread(rows(["a", "b"], sd_ratio=[0.7, 1.4], sd_ratio_se=[0.04, 0.04]), Thresholds())
    assert found["narrowest_at_most"] == pytest.approx(0.7 * math.exp(0.12))
    assert found["widest_at_least"] == pytest.approx(1.4 / math.exp(0.12))
    assert (found["spread_narrow"], found["spread_wide"], found["spread_far"]) == ("a", "", "")
    sure = _spread(rows(["a", "b"], sd_ratio=[0.45, 2.2], sd_ratio_se=[0.01, 0.01]), Thresholds())
    assert (sure["spread_narrow"], sure["spread_wide"], sure["spread_far"]) == ("a", "b", "a, b")
    assert sure["sd_ratio_median"] == pytest.approx(1.325)


# Standard errors ------------------------------------------------------------------------------------------------------


def test_four_times_the_data_halve_standard_errors():
    """LOO's total is four times as large and its error twice; a quarter of the entries says as much of each."""
    logs = torch.randn(1, 400, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.1 - 1
    one, four = (metrics.loo(looked(torch.cat([logs] * n, 2), "variational")) for n in (1, 4))
    assert four["loo_elpd"] == pytest.approx(4 * one["loo_elpd"])
    assert four["loo_p"] == pytest.approx(4 * one["loo_p"])
    assert four["loo_se"] == pytest.approx(2 * one["loo_se"])
    shifted = metrics.loo(looked(logs + LN2, "variational"))
    assert shifted["loo_elpd"] == pytest.approx(one["loo_elpd"] + 6 * LN2)
    prediction, hidden = five()
    found = metrics.holdout(prediction, hidden)
    back = torch.arange(4, -1, -1)
    assert metrics.holdout(prediction.at(back), hidden.at(back)) == pytest.approx(found), "whatever the order"


def test_the_error_of_an_sd():
    """Of independent normals 1 / sqrt(2 n) of it; of a fair coin none: its kurtosis is 1; the unit does not matter."""
    flat = torch.randn(20_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sd = flat.std(0)
    found = _sd_error(flat, sd, sd / 20_000**0.5)
    assert float(found) == pytest.approx(1 / math.sqrt(40_000), rel=0.05)
    torch.testing.assert_close(_sd_error(9 * flat, 9 * sd, 9 * sd / 20_000**0.5), found)
    coin = doubles(0, 1).repeat(500)[:, None]
    assert float(_sd_error(coin, coin.std(0), coin.std(0) / 1000**0.5)) < 1e-3


def test_moments_of_a_point_have_no_spread():
    fit: Any = SimpleNamespace(kind="point", outline=SimpleNamespace(labels={"x": (["u", "v"],)}))
    found = _moments("a", fit, {"x": doubles(1, 2)[None, None]})
    assert found["quantity"].tolist() == ["x[u]", "x[v]"]
    assert found["mean"].tolist() == [1, 2]
    assert found[["sd", "mcse", "lower_90"]].isna().all().all()
    fit.kind = "variational"
    some = _moments("a", fit, {"x": torch.arange(21.0)[None, :, None] * doubles(1, 10)})
    assert some["lower_90"].tolist() == pytest.approx([1, 10])
    assert some["upper_90"].tolist() == pytest.approx([19, 190])
    assert some["mcse"].tolist() == pytest.approx((some["sd"] / math.sqrt(21)).tolist())


# The choice of a number -----------------------------------------------------------------------------------------------


def entries(*scores: float, **figures: float) -> Any:
    return SimpleNamespace(held_out=(SimpleNamespace(scores=doubles(*scores)), None), metrics=figures)


def test_paired_differences_of_entries():
    """1, 2, 3, 6 ahead: 3, with sd sqrt(14 / 3), so sqrt(14 / 12) of their mean; one entry alone says nothing."""
    one, other = entries(1, 3, 5, 9), entries(0, 1, 2, 3)
    assert _difference(one, other, "holdout_elpd") == (pytest.approx(3), pytest.approx(math.sqrt(14 / 12)))
    assert _difference(other, one, "holdout_elpd") == (pytest.approx(-3), pytest.approx(math.sqrt(14 / 12)))
    assert _difference(entries(1), entries(0), "holdout_elpd") == (1, math.inf)
    doubled = _difference(entries(*[1, 3, 5, 9] * 2), entries(*[0, 1, 2, 3] * 2), "holdout_elpd")
    assert doubled == (pytest.approx(3), pytest.approx(math.sqrt(28 / 7 / 8)))
    bounds = entries(elbo=-5.0, elbo_se=0.3), entries(elbo=-7.0, elbo_se=0.4)
    assert _difference(*bounds, "elbo") == (2, pytest.approx(0.5))
    assert _difference(entries(bic=5.0), entries(bic=7.0), "bic") == (2, 0)


def test_a_choice_is_of_one_number():
    fits, known = sweep({2: (0.0, 0.0), 3: (0.2, 0.1)})
    assert choose(fits, ["num_components"], known) is not None
    assert choose(fits, ["num_components", "num_components"], known) is None, "of two at once"
    assert choose(fits[:1], ["num_components"], known[:1]) is None, "one value is no sweep"
    assert choose(fits[::-1], ["num_components"], known[::-1]).value == 3
    for fit in fits:
        fit.model = Mixture(str(fit.model.num_components))
    assert choose(fits, ["num_components"], known) is None, "words have no order"
    assert [_is_number(x) for x in (1, 1.5, True, "1", None)] == [True, True, False, False, False]
    mixed, known = sweep({2: (0.0, 0.0), 3: (0.2, 0.1), 4: (0.5, 0.1)})
    mixed[2].method = "em"
    choice = choose(mixed, ["num_components"], known)
    assert (choice.value, choice.method) == (3, "gibbs"), "of one method"


def test_of_equal_numbers_the_smaller_is_taken():
    fits, known = sweep({2: (0.0, 0.0), 3: (0.0, 0.0), 4: (0.0, 0.0)}, bic={2: 9.0, 3: 7.0, 4: 7.0})
    for some in (slice(None), slice(None, None, -1)):
        choice = choose(fits[some], ["num_components"], known[some])
        assert choice is not None
        assert choice.sentence == "Take num_components=3, by the BIC of gibbs; 4 is within its noise."


# Accuracy and planes --------------------------------------------------------------------------------------------------


def test_work_until_an_error_equals_its_target():
    work = pd.Series([1.0, 2.0, 3.0])
    assert math.isnan(until(work, pd.Series([0.5, 0.2, 0.1]), 0.1)), "below, not at it"
    assert until(work, pd.Series([0.5, 0.2, 0.1]), 0.11) == 3


def test_slopes_of_a_regression():
    """Values that are half of others plus noise at right angles: slope 1/2, and the noise is what is left of both."""
    x, e = np.array([1.0, 1, -1, -1]), np.array([1.0, -1, 1, -1])
    values, others = (0.5 * x + 0.25 * e)[:, None] + 7, x[:, None] - 3
    slope, noise = _regression(values, others, 100)
    rest = 0.0625 / 0.3125
    assert slope == pytest.approx([0.5])
    assert noise == pytest.approx([math.sqrt(rest * 100 / 4 + 1 - rest)])
    assert _regression(3 * values, others, 100)[0] == pytest.approx([1.5])
    assert _regression(values, 2 * others, 100)[0] == pytest.approx([0.25])
    assert _regression(values, others[:3], 100) == (pytest.approx([0]), pytest.approx([5]))
    assert _regression(values, 0 * others, 100)[0] == pytest.approx([0]), "a constant explains nothing"


def test_few_draws_are_corrected_by_many_of_the_same_numbers():
    """A shift and a stretch of the pilot: mean and sd are those of the same shift and stretch of the many draws."""
    many = np.random.default_rng(0).normal(size=(4000, 2)) * [1, 3] + [2, 0]
    pilot = many[:30]
    found, noise = _controlled(0.5 * pilot + 1, pilot, many)
    assert found["mean"] == pytest.approx(0.5 * many.mean(0) + 1)
    assert np.exp(found["sd"]) == pytest.approx(0.5 * many.std(0, ddof=1), rel=0.01)
    assert noise["mean"] == pytest.approx([0.5 * pilot[:, k].std(ddof=1) / many[:, k].std(ddof=1) for k in (0, 1)])
    assert noise["sd"] == pytest.approx([1, 1])
    alone, none = _controlled(pilot[:1], pilot[:1], many)
    assert alone["mean"] == pytest.approx(pilot[0])
    assert np.isnan(alone["sd"]).all()
    assert none["mean"] == pytest.approx([0, 0])


def test_noise_has_its_size_and_its_correlation():
    influence = np.random.default_rng(0).normal(size=(300, 1)) * [1.0, -5.0]
    noise = _Noise.of(influence, np.array([0.1, 0.3]), seed=1)
    assert noise.repeats.std(0) == pytest.approx([0.1, 0.3], rel=0.2)
    assert np.corrcoef(noise.repeats.T)[0, 1] == pytest.approx(-1)
    assert _Noise.none(2).repeats.shape == noise.repeats.shape


def test_moments_are_told_in_equal_ratios():
    every: Any = [SimpleNamespace(step=step) for step in range(0, 1001)]
    steps = [each.step for each in _spaced(every)]
    assert (steps[0], steps[-1]) == (0, 1000)
    assert 10 < len(steps) <= 24
    assert steps == sorted(set(steps))
    late = np.diff(np.log(steps[-6:]))
    assert late == pytest.approx(late.mean(), rel=0.05)
    assert _spaced(every[:5]) == every[:5]


def test_distances_do_not_know_the_order_of_fits():
    one = np.random.default_rng(0).normal(size=(50, 3))
    other, third = one * [1, 2, 1] + [0, 1, 0], one - [3, 0, 0]
    whole = distances([one, other, third], None)
    assert distances([third, one, other], None) == pytest.approx(whole)
    pairs = [distances([a, b], None) for a, b in ((one, other), (one, third), (other, third))]
    assert whole[0, 1] == pytest.approx(np.mean([each[0, 1] for each in pairs]))
    assert distances([one, other], 0) == pytest.approx(distances([one, other], 1))
    assert distances([one, one + 1e6], None)[0, 1] == FARTHEST
    alone = distances([one], None)
    covariance = np.cov(one.T, ddof=0)
    assert alone[0, 2] == pytest.approx(abs(covariance[0, 2])), "of one fit how quantities go together"
    points = distances([one[:1], one[:1] + np.array([3, 4, 0])], None)
    assert points[0, 1] == pytest.approx(5), "of points alone how far they are"


def test_quantities_are_offered_by_site_and_once():
    labels = ["a[0]", "a[1]", "b[0]", "b[1]", "c"]
    apart = np.zeros((5, 5))
    for i, j, value in ((1, 2, 5.0), (0, 3, 4.0), (3, 4, 1.0), (0, 1, 0.5)):
        apart[i, j] = apart[j, i] = value
    same = np.zeros((5, 5), bool)
    assert _order(apart, labels, same) == [1, 2, 4, 0, 3], "the pair, the site that it lacks, and the rest"
    same[0, 2] = same[2, 0] = True
    assert _order(apart, labels, same) == [1, 2, 4, 3], "the first of those that are one"
    x = np.random.default_rng(0).normal(size=100)
    alike = _alike([np.stack([x, 3 - 2 * x, x**2], 1)], 0)
    assert alike[0, 1]
    assert not alike[0, 2]
    assert _alike([np.ones((1, 3))], None).tolist() == np.eye(3, dtype=bool).tolist()


def test_scales_are_the_reference_s_or_typical_ones():
    one, other = np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[0.0, 0.0], [6.0, 8.0]])
    assert _scale([one, other], 0)[0] == 1
    assert np.isnan(_scale([one, other], 0)[1]), "constant in the reference"
    assert _scale([one, other], None).tolist() == [2, 2], "medians of 1 and 3, of 0 and 4"
    assert _scale([one[:1], one[1:]], None)[0] == 1, "points, taken together"
    rounding = np.array([[-5.0, 5.0], [-5.0 - 1e-12, 5.0 - 1e-12], [-5.0, 5.0]])
    assert np.isnan(_scale([rounding], 0)).all(), "of either sign"


def test_many_scalars_are_looked_at_by_site(monkeypatch):
    """Of 30 and 10 and 1 numbers eight: five, one and one, the first and the last of each where there are two."""
    monkeypatch.setattr("pyrozoo.diagnostics.planes.MOST_SCALARS", 8)
    labels = {"a": ([str(i) for i in range(30)],), "b": ([str(i) for i in range(10)],), "c": (), "n": ()}
    fit: Any = SimpleNamespace(outline=SimpleNamespace(labels=labels))
    draws: Any = {"a": torch.arange(60.0).reshape(1, 2, 30), "b": torch.zeros(1, 2, 10), "c": torch.ones(1, 2),
                  "n": torch.ones(1, 2, dtype=torch.long)}  # fmt: skip
    found = _scalars(fit, draws)
    assert list(found) == ["a[0]", "a[7]", "a[14]", "a[22]", "a[29]", "b[0]", "c"]
    assert found["a[7]"].tolist() == [7, 37]
    monkeypatch.setattr("pyrozoo.diagnostics.planes.MOST_SCALARS", 41)
    assert len(_scalars(fit, draws)) == 41
