"""Studies by a few numbers: ranks, corrections, words, shares of a truth, times of foreign draws, and what is said."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import stats

import pyrozoo
from pyrozoo.core.errors import SettingError
from pyrozoo.diagnostics.card import Line
from pyrozoo.store.run_directory import CONFIG
from pyrozoo.studies.calibrate import judge as ranks
from pyrozoo.studies.compare import accuracy as drawn
from pyrozoo.studies.compare.colors import MOST_NAMED, color_of
from pyrozoo.studies.compare.foreign import MOST_MOMENTS, adopted
from pyrozoo.studies.compare.planes import MOST_DOTS, MOST_POINTS, UNITS, plane_page, plane_picture, planes
from pyrozoo.studies.recover import judge as recovered
from pyrozoo.studies.study import Study
from tests.case import refused
from tests.diagnostics.test_accuracy import CHAIN, from_draws, reference, searching
from tests.diagnostics.test_planes import compared, normal

pytestmark = pytest.mark.usefixtures("unchecked")


# Ranks ----------------------------------------------------------------------------------------------------------------


def test_scaled_ranks_lie_where_the_truth_lies():
    """Of four draws, two below the truth: from 2/5 to 3/5; a tie may go either way, and rounding is one."""
    draws = torch.tensor([[1.0, 2.0], [4.0, 5.0]], dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for truth, low, high in ((3.0, 0.4, 0.6), (0.0, 0.0, 0.2), (9.0, 0.8, 1.0), (2.0, 0.2, 0.6),
                                 (2.0 * (1 + 1e-15), 0.2, 0.6)):  # fmt: skip
            found = [ranks.scaled_rank(draws, torch.tensor(truth, dtype=torch.float64)) for _ in range(200)]
            assert low <= min(found) < low + 0.02
            assert high - 0.02 < max(found) < high
        assert math.isnan(ranks.scaled_rank(draws, torch.tensor(math.nan)))
        assert math.isnan(ranks.scaled_rank(torch.tensor([1.0, math.nan]), torch.tensor(1.0)))
        whole = [ranks.scaled_rank(torch.tensor([1, 1, 1]), torch.tensor(1)) for _ in range(200)]
    assert min(whole) < 0.05
    assert max(whole) > 0.95, "all are ties"
    assert set(ranks.scaled_ranks({"a": draws, "b": draws}, {"a": torch.tensor(3.0)})) == {"a"}


def test_elements_of_draws_and_where_they_are():
    draws = {"w": torch.arange(12.0).reshape(1, 2, 2, 3), "s": torch.zeros(1, 2), "none": torch.zeros(1, 2, 0)}
    found = ranks.places(draws)
    assert [*found] == ["w[0, 0]", "w[0, 1]", "w[0, 2]", "w[1, 0]", "w[1, 1]", "w[1, 2]", "s"]
    assert found["w[1, 2]"] == ("w", (1, 2))
    assert [*ranks.places(draws, 7)] == [*found]
    assert [*ranks.places(draws, 4)] == ["w[0, 0]", "w[0, 2]", "w[1, 2]", "s"], "three of six, and one of one"
    values = ranks.scalars(draws, {**found, "w[2, 0]": ("w", (2, 0)), "v": ("v", ())})
    assert [*values] == [*found], "what is not there is left out"
    assert values["w[1, 2]"].tolist() == [[5, 11]]
    assert math.isnan(ranks.effective_draws({"x": torch.zeros(1, 3), "y": torch.zeros(1, 3)}))


def test_three_tests_of_ranks():
    """Twenty ranks (i + 1/2) / 20: five in each of four bins, the mean 1/2; the spread a little above 1."""
    even = (np.arange(20) + 0.5) / 20
    found = ranks._tests(even)
    assert found["p_uniform"] == pytest.approx(1)
    assert found["mean_rank"] == pytest.approx(0.5)
    assert found["mean_z"] == pytest.approx(0, abs=1e-12)
    variance = 12 * even.var(ddof=1)
    assert found["spread"] == pytest.approx(math.sqrt(variance))
    assert found["spread_z"] == pytest.approx((variance - 1) / math.sqrt(0.04))
    assert (found["p"], found["data_sets"]) == (1, 20)
    high = ranks._tests(0.5 + even / 2)
    assert high["mean_z"] == pytest.approx(0.25 * math.sqrt(240))
    z = max(abs(high["mean_z"]), abs(high["spread_z"]))
    assert high["p"] == pytest.approx(min(1, 3 * min(high["p_uniform"], 2 * stats.norm.sf(z))))
    assert ranks._tests(1 - (0.5 + even / 2))["mean_z"] == pytest.approx(-high["mean_z"])
    few = ranks._tests(even[:19])
    assert math.isnan(few["p"])
    assert not math.isnan(few["mean_z"])
    assert math.isnan(ranks._tests(even[:1])["spread"])
    assert [ranks.bins_for(n) for n in (1, 80, 99, 100, 399, 400, 419, 420, 9999)] == [4, 4, 4, 5, 19, 20, 20, 20, 20]


def test_corrected_p_values():
    """0.01, 0.04, 0.03 of three: 3 * 0.01, then 2 * 0.03, and 0.04 no less than that before it."""
    assert ranks._holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    found = ranks._holm(np.array([0.5, np.nan, 0.6]))
    assert found[[0, 2]].tolist() == [1, 1]
    assert np.isnan(found[1])
    assert np.isnan(ranks._holm(np.array([np.nan]))).all()


def row(p: float = 0.01, mean_z: float = 0.0, spread_z: float = 0.0, **more: Any) -> Any:
    return SimpleNamespace(p=p, mean_z=mean_z, spread_z=spread_z, **more)


def test_words_of_ranks():
    """What is too high in rank lies above its draws, which lie below the truth."""
    for figures, word in (
        (row(math.nan), "too few"), (row(0.05, 9), "calibrated"), (row(0.049, 9), "biased low"),
        (row(mean_z=-9), "biased high"), (row(spread_z=9), "too narrow"), (row(spread_z=-9), "too wide"),
        (row(mean_z=1.9, spread_z=-1.9), "uneven"), (row(mean_z=2), "biased low"),
        (row(mean_z=3, spread_z=3), "biased low"),
        (row(mean_z=-3, spread_z=3.1), "too narrow"), (row(mean_z=-4, spread_z=-3), "biased high"),
        (row(spread_z=-2), "too wide"), (row(mean_z=0.5, spread_z=2.0), "too narrow"),
    ):  # fmt: skip
        assert ranks._word(figures) == word, figures


def fits(count: int = 100, **columns: Any) -> pd.DataFrame:
    known = {
        "kind": "samples",
        "status": "completed",
        "seconds": 1.0,
        "draws": 50,
        "effective_draws": 60.0,
        "error": "",
    }
    return pd.DataFrame({"simulation": range(count), **known, **columns})


def judged(**columns: Any) -> pd.DataFrame:
    known = {"group": "invariant", "verdict": "calibrated", "p": 0.5}
    return pd.DataFrame({"quantity": ["log_likelihood", "a", "b"], **known, **columns})


def said(summary: pd.DataFrame, of: pd.DataFrame) -> dict[str, Line]:
    return {line.about: line for line in ranks.sentences(summary, of)}


def test_what_a_calibration_says():
    lines = said(judged(), fits())
    assert lines["data sets"] == Line(
        "pass", "data sets", "100 data sets show a spread that is off by 13% or more; smaller faults need more of them."
    )
    assert said(judged(), fits(99))["data sets"].level == "warn"
    assert lines["invariants"] == Line("pass", "invariants", "All 2 are calibrated (smallest corrected p = 0.5).")
    assert lines["log-likelihood"].sentence.endswith("(p = 0.5): the data are used.")
    assert lines["effective draws"] == Line(
        "pass", "effective draws", "Every fit made at least as many as the 50 draws that are ranked."
    )
    assert {*said(judged(), fits(19))} == {"data sets", "effective draws"}, "too few to judge"
    assert "invariants" in said(judged(), fits(20))
    one = said(judged().iloc[:2], fits())["invariants"]
    assert one.sentence == "It is calibrated (smallest corrected p = 0.5)."
    bad = judged(verdict=["biased low", "too narrow", "too narrow"], p=[0.01, 0.0009, 0.04])
    lines = said(bad, fits())
    assert lines["invariants"].level == "fail"
    assert lines["invariants"].sentence == "2 of 2 are not calibrated; too narrow: a, b (smallest p = 0.0009)."
    assert lines["log-likelihood"].level == "warn"
    assert lines["log-likelihood"].sentence.startswith(
        "Most draws explain the data worse than the truth does (p = 0.01)"
    )
    short = fits(effective_draws=[10.0] * 11 + [60.0] * 89)
    assert said(bad, short)["invariants"].level == "warn", "short runs alone look too narrow"
    assert said(bad, fits(effective_draws=[10.0] * 10 + [60.0] * 90))["invariants"].level == "fail"
    both = bad.assign(verdict=["biased low", "too narrow", "biased high"])
    assert said(both, short)["invariants"].level == "fail"
    assert said(bad.assign(p=[0.5, 0.001, 0.5]), fits())["invariants"].level == "warn"
    raw = bad.assign(group="parameter")
    assert said(raw, fits())["raw parameters"] == Line(
        "warn", "raw parameters", "3 of 3 are not calibrated; too narrow: a, b; biased low: log_likelihood (smallest "
        "p = 0.0009). Chains that stay in one labelling do that; invariants decide.",
    )  # fmt: skip
    assert said(raw, fits(kind="variational"))["raw parameters"].level == "fail"
    many = pd.DataFrame({"quantity": list("abcde"), "group": "invariant", "verdict": "too wide", "p": 1e-20})
    sentence = said(many, fits())["invariants"].sentence
    assert sentence == "5 of 5 are not calibrated; too wide: a, b, c and 2 more (smallest p < 1e-16)."
    few = said(judged(), short)["effective draws"]
    assert few.level == "warn"
    assert few.sentence.startswith(
        "11 of 100 fits made fewer than the 50 draws that are ranked (the median of these 10)"
    )
    assert "effective draws" not in said(judged(), fits(effective_draws=math.nan))


def test_what_a_calibration_says_of_fits_that_failed():
    lines = said(judged(), fits(error=["x"] * 5 + [""] * 95))
    assert lines["failures"].level == "warn"
    assert lines["failures"].sentence.startswith("5 of 100 data sets could not be fitted")
    assert said(judged(), fits(error=["x"] * 6 + [""] * 94))["failures"].level == "fail"
    assert "95 data sets" in lines["data sets"].sentence
    odd = said(judged(), fits(status=["max_iterations"] * 2 + ["converged"] * 98))["convergence"]
    assert odd == Line("warn", "convergence", "2 of 100 fits ended before they had converged.")
    fell = said(judged(), fits(status=["objective_decreased", "max_iterations"] + ["converged"] * 98))["convergence"]
    assert fell.level == "fail"
    assert "; in 1 the objective fell" in fell.sentence


def test_bands_of_ranks():
    low, high = ranks.histogram_band(400, 20)
    assert stats.binom.cdf(high, 400, 0.05) - stats.binom.cdf(low - 1, 400, 0.05) >= 0.99
    assert low < 20 < high
    points = np.array([0.25, 0.5, 1.0])
    assert ranks.ecdf_difference(np.array([0.9, 0.1, 0.25, 0.3]), points).tolist() == pytest.approx([0.25, 0.25, 0])


# Recovery -------------------------------------------------------------------------------------------------------------


def estimates(*rows: tuple[str, int, str, float, float], quantity: str = "a") -> pd.DataFrame:
    """Return estimates of one quantity: setting, data set, method, estimate and truth."""
    about = {"kind": "point", "status": "converged", "seconds": 2.0, "quantity": quantity, "error": ""}
    names = ("setting", "simulation", "method", "estimate", "truth")
    return pd.DataFrame([{**about, **dict(zip(names, each, strict=True))} for each in rows])[[*recovered.COLUMNS]]


def test_a_study_of_three_data_sets():
    """em: 1, 3, 2 of truth 1: bias 1, sd 1; exact: 1, 1, 1; so em is 0, 2, 1 apart from it."""
    em = [("s", i, "em", x, 1.0) for i, x in enumerate((1.0, 3.0, 2.0))]
    frame = estimates(*em, *(("s", i, "exact", 1.0, 1.0) for i in range(3)))
    frame.loc[1, "status"] = "max_iterations"
    table = recovered.summarise(frame).set_index("method")
    found = table.loc["em"]
    assert (found["mean"], found["bias"], found["sd"], found["truth"], found["data_sets"]) == (2, 1, 1, 1, 3)
    assert found["se"] == pytest.approx(1 / math.sqrt(3))
    assert found["z"] == pytest.approx(math.sqrt(3))
    assert (found["unfinished"], found["seconds"], found["reference"]) == (1, 2, "exact")
    assert (found["difference"], found["difference_se"]) == (1, pytest.approx(1 / math.sqrt(3)))
    assert math.isnan(table.loc["exact", "difference"])
    assert math.isnan(table.loc["exact", "z"]), "of no noise there is no z"
    share = recovered.shares(frame).set_index("method").loc["em"]
    assert (share["share"], share["se"], share["data_sets"]) == (2, pytest.approx(1 / math.sqrt(3)), 3)
    alone = recovered.summarise(estimates(em[0])).iloc[0]
    assert math.isnan(alone["se"])
    assert alone["bias"] == 0
    both = pd.concat([estimates(("s", 0, "em", 2.0, 1.0)), estimates(("s", 0, "em", 4.0, 3.0), quantity="b")])
    assert recovered.shares(both)["share"].tolist() == [pytest.approx(14 / 10)], "(2 * 1 + 4 * 3) / (1 + 9)"
    assert recovered.shares(estimates(("s", 0, "em", 2.0, 0.0)))["share"].isna().all(), "nothing to recover"
    gone = frame.assign(status="not_applicable", error="why")
    assert recovered.fitted(gone).empty
    assert recovered.refused(pd.concat([frame, gone])).to_dict("records") == [
        {"setting": "s", "method": "em", "error": "why"}, {"setting": "s", "method": "exact", "error": "why"},
    ]  # fmt: skip
    assert [recovered.reference(each) for each in (["em", "nuts"], ["nuts", "exact"], ["em"])] == [
        "nuts",
        "exact",
        None,
    ]


def noisy(
    method: str, shift: float, count: int = 10, setting: str = "s", sign: float = 1.0
) -> list[tuple[str, int, str, float, float]]:
    """Return estimates about ``1 + shift``, half of them 1 higher and half 1 lower: standard error 1 / 3."""
    return [(setting, i, method, 1 + shift + sign * (-1) ** i, 1.0) for i in range(count)]


def test_sentences_of_a_study_and_swapped_methods():
    """Three standard errors are 1: 1.1 is beyond them, 0.9 within; swapped methods swap sides."""
    low, high, fair = noisy("em", -1.1), noisy("cavi", 1.1), noisy("vem", 0.9)
    lines = recovered.sentences(estimates(*low, *high, *fair))
    assert lines == {
        "Against the truth": ["s: more than 3 standard errors below the truth: em; above it: cavi; within: vem."]
    }
    swapped = recovered.sentences(estimates(*noisy("em", 1.1), *noisy("cavi", -1.1), *fair))
    assert swapped["Against the truth"] == [
        "s: more than 3 standard errors below the truth: cavi; above it: em; within: vem."
    ]
    frame = estimates(*low, *high, *fair)
    assert recovered.recovered(frame) == "vem recovers the truth within noise. em and cavi do not, for some quantities."
    assert recovered.recovered(estimates(*fair)) == "vem recovers the truth within noise."
    assert recovered.recovered(estimates(*low)) == "No method recovers all of the truth."
    assert recovered.recovered(estimates(*fair, *noisy("em", 0.0))) == "vem and em recover the truth within noise."
    assert recovered.recovered(estimates(low[0])) == "One data set says nothing about bias: simulate more."
    few = recovered.sentences(estimates(*noisy("em", 0.0, 9)))["Against the truth"]
    assert few[0] == "From 9 data sets, a standard error is little more than a guess: 10 or more would do."
    one = recovered.sentences(estimates(low[0]))["Against the truth"]
    assert one[0].startswith("From 1 data set, ")
    assert one[1] == "s: one data set says nothing about bias."
    two = pd.concat([estimates(*low), estimates(*noisy("em", 0.0), quantity="b")])
    assert "below the truth: em (a); above it: none; within: none." in recovered.sentences(two)["Against the truth"][0]


def test_sentences_about_a_reference_and_about_settings():
    exact, em = noisy("exact", 0.0), noisy("em", 0.5, sign=-1.0)
    lines = recovered.sentences(estimates(*exact, *em))
    assert lines["Against exact on the same data sets"] == ["s: em +0.50 ± 0.67."]
    two = pd.concat([estimates(*exact, *em), estimates(*exact, *noisy("em", -0.9, sign=-1.0), quantity="b")])
    assert recovered.sentences(two)["Against exact on the same data sets"] == [
        "s: largest differences em -0.90 ± 0.67 (b)."
    ]
    settings = estimates(*noisy("em", -0.5, setting="few"), *noisy("em", 3.0, setting="many"))
    assert recovered.sentences(settings)["From setting to setting"] == [
        "em recovers most of the truth, 400%, in 'many', and least, 50%, in 'few'."
    ]
    alike = estimates(*noisy("em", -0.5, setting="few"), *noisy("em", 0.5, setting="many"))
    assert recovered.sentences(alike)["From setting to setting"] == [
        "em recovers 50% to 150% of the truth: the settings do not differ by more than their noise."
    ]
    assert [recovered.plus_minus(*each) for each in ((1.234, 0.5), (1.234567, 0.004), (1.2, 0.0), (1.2, math.nan),
                                                    (1.23456789, 1e-9), (1.25, 0.01), (5.0, 20.0))] == [
        "1.23 ± 0.50", "1.235 ± 0.004", "1.20 ± 0.00", "1.20", "1.234568 ± 0.000000", "1.25 ± 0.01", "5.00 ± 20.00",
    ]  # fmt: skip
    assert recovered.plus_minus(1.0, 0.5, signed=True) == "+1.00 ± 0.50"


def test_a_study_goes_on_from_its_directory(tmp_path):
    def study(directory: Any) -> Study:
        return Study("calibration", directory, "ranks.csv", "simulations")

    assert study(None).asked(False) is None
    assert refused(SettingError, study(None).asked, True) == "resume needs the directory of the calibration"
    assert study(tmp_path).asked(True) == study(tmp_path).asked(False) == tmp_path
    assert not study(None).begun(False)
    assert not study(tmp_path).begun(False)
    assert not study(tmp_path).begun(True)
    (tmp_path / "ranks.csv").write_text("")
    assert study(tmp_path).begun(True)
    assert "resume goes on with it" in refused(SettingError, study(tmp_path).begun, False)
    study(None).remember({"a": 1})
    for config, again, kept in (({"b": "é", "a": 1}, False, {"b": "é", "a": 1}), ({"a": 2}, False, {"b": "é", "a": 1}),
                                ({"a": 3}, True, {"a": 3})):  # fmt: skip
        study(tmp_path).remember(config, again=again)
        text = (tmp_path / CONFIG).read_text(encoding="utf-8")
        assert [*yaml.safe_load(text).items()] == [*kept.items()], "in its order"
        assert "\\x" not in text, "letters as they are"
    assert "seed is not that of the calibration in" in refused(SettingError, study(tmp_path).refuse, "seed")
    seen: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise KeyboardInterrupt
        seen.append(item)

    whole = {"total": 3, "done": 0, "what": "", "shown": False}
    assert study(None).carry_out([1, 2], work, **whole) == "completed"
    assert study(None).carry_out([4, 3, 5], work, **whole) == "interrupted"
    assert seen == [1, 2, 4]


# Draws from elsewhere -------------------------------------------------------------------------------------------------


def of(*data: az.InferenceData, **more: Any) -> list[Any]:
    return adopted([*data], more.get("reference"))[0]


def test_what_is_known_of_draws_from_elsewhere():
    data = from_draws(CHAIN, sampling_time=4.0, tuning_steps=4, inference_library="stan")
    (fit,) = of(data)
    assert (fit.method, fit.kind, fit.seconds, fit.iterations, fit.metrics["warmup"]) == ("stan", "samples", 4, 8, 4)
    assert fit.notes[0] == "no sample_stats and no log_likelihood in what was given"
    assert fit.notes[1:] == ["draws are taken to have come evenly over sampling_time: no time of each is given"]
    assert [(each.step, each.seconds, each.kept) for each in fit.moments] == [
        (4 + k, 4 * (4 + k) / 8, k) for k in range(5)
    ]
    assert fit.moments[0].draws["a"].tolist() == [[1.0], [2.0]], "at the end of the warm-up nothing else is known"
    assert fit.moments[3].draws["a"].tolist() == [[5.0], [1.0]]
    plain = of(from_draws(CHAIN))[0]
    assert math.isnan(plain.seconds)
    assert "seconds" not in plain.metrics
    assert (plain.method, len(plain.notes)) == ("foreign", 1)
    energy = {"energy": np.ones((2, 4)), "diverging": np.eye(2, 4) == 1, "lp": np.zeros((2, 4))}
    known = of(from_draws(CHAIN, stats=energy))[0]
    assert {*known.sample_stats} == {"energy", "diverging"}
    assert known.metrics["divergences"] == 2
    assert known.notes == ["no log_likelihood in what was given"]
    long = of(from_draws(np.random.default_rng(0).normal(size=(2000, 1)), sampling_time=1.0))[0]
    assert len(long.moments) == MOST_MOMENTS == 200
    assert (long.moments[0].kept, long.moments[-1].kept) == (0, 1000)


def test_seconds_of_draws_from_elsewhere():
    """Attributes first; else from the first start to the last end; else the largest time there is."""
    seconds = np.array([[1.0, 2, 3, 4], [1.5, 2.5, 3.5, 5]])
    ends = {"perf_counter_start": seconds + 99, "perf_counter_diff": np.full((2, 4), 0.5)}
    assert of(from_draws(CHAIN, stats={"seconds": seconds}, seconds=7.0))[0].seconds == 7
    assert of(from_draws(CHAIN, stats={"seconds": seconds}))[0].seconds == 5
    fit = of(from_draws(CHAIN, stats=ends))[0]
    assert fit.seconds == pytest.approx(4.5)
    assert [each.seconds for each in fit.moments] == pytest.approx([0, 1, 2, 3, 4.5]), "as late as the last"
    half = {"perf_counter_start": ends["perf_counter_start"]}
    assert math.isnan(of(from_draws(CHAIN, stats=half))[0].seconds)
    timed = of(from_draws(CHAIN, stats={"seconds": seconds}))[0]
    assert [each.seconds for each in timed.moments] == pytest.approx([0.5, 1.5, 2.5, 3.5, 5])
    late = of(from_draws(CHAIN, stats={"seconds": seconds * [[1, 3, 3, 3]]}))[0]
    assert late.moments[0].seconds == 0, "no earlier than the start"
    assert not [note for note in timed.notes if "evenly" in note]


def test_quantities_that_all_have():
    one = az.from_dict({"a": np.zeros((1, 4)), "b": np.zeros((1, 4, 2)), "c": np.zeros((1, 4))})
    other = az.from_dict({"b": np.zeros((1, 5, 3)), "c": np.zeros((1, 5)), "a": np.zeros((1, 5))})
    fits = of(one, other)
    assert [[*fit.draws] for fit in fits] == [["a", "c"], ["a", "c"]], "of one shape"
    assert "no quantity in common" in refused(SettingError, of, one, az.from_dict({"z": np.zeros((1, 4))}))
    assert "no draws" in refused(SettingError, of, az.InferenceData())
    assert adopted([], None) == ([], None)
    given, held = adopted([one], other)
    assert ([*given[0].draws], [*held.draws]) == (["a", "c"], ["a", "c"])
    ours = pyrozoo.fit("zip_mixture", "em", rows=8, columns=2, num_components=1, restarts=1, progress=False)
    lacking = az.from_dict({"rate": np.ones((1, 4, 1, 2))})
    assert "InferenceData 1 has no" in refused(SettingError, of, ours, lacking)
    shapes = {site: np.ones((1, 4, *value.shape[2:]), np.float32) for site, value in ours.draws.items()}
    made = of(ours, az.from_dict(shapes))[1]
    assert {value.dtype for value in made.draws.values()} == {torch.float64}
    assert [*made.draws] == [*ours.draws]
    wrong = {**shapes, "rate": np.ones((1, 4, 2, 2))}
    assert "InferenceData 1: rate has shape (2, 2), not (1, 2)" in refused(SettingError, of, ours, az.from_dict(wrong))


# Pictures and pages ---------------------------------------------------------------------------------------------------


def test_pictures_of_accuracy_have_a_panel_per_kind_of_work():
    result = pyrozoo.compare([from_draws(CHAIN, sampling_time=4.0), searching()], reference=reference())
    picture = drawn.accuracy_picture(result.accuracy, result)
    axes = picture.figure.axes
    assert len(axes) == 6, "means and spreads against seconds, steps and passes"
    assert [each.get_xlabel() for each in axes[3:]] == [drawn.WORK_NAMED[unit] for unit in drawn.WORK]
    assert [each.get_ylabel() for each in (axes[0], axes[3])] == ["error of means, in sds", "error of spreads, in sds"]
    assert {each.get_xscale() for each in axes} == {each.get_yscale() for each in axes} == {"log"}
    names = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert set(names) <= set(result.names)
    floors = [sorted({line.get_ydata()[0] for line in each.lines if len(set(line.get_ydata())) == 1}) for each in axes]
    assert result.accuracy.floors["mean"] in floors[0]
    assert result.accuracy.floors["sd"] in floors[3]
    assert axes[0].get_ylim()[0] <= result.accuracy.floors["mean"] / 2
    plain = pyrozoo.compare([from_draws(CHAIN)], reference=from_draws(normal([1.0, -3.0], np.eye(2), 4000), 4))
    few = drawn.accuracy_picture(plain.accuracy, plain)
    assert len(few.figure.axes) == 2, "steps alone are known"
    page = drawn.accuracy_page(result.accuracy)
    assert "seconds to mean 0.1" in page["table"]["columns"]
    assert drawn.accuracy_page(None) is drawn.accuracy_picture(None, result) is None
    many: Any = SimpleNamespace(names=["x"] * (MOST_NAMED + 1))
    assert drawn.accuracy_picture(result.accuracy, many) is None
    assert MOST_NAMED == 12
    assert [color_of(SimpleNamespace(names=[*"abcdefghijkl"]), name) for name in "ajkl"] == ["C0", "C9", "C0", "C1"]
    point = pyrozoo.compare([searching("point")], reference=reference())
    assert "A point has no spread." in drawn.accuracy_picture(point.accuracy, point).caption
    assert "A point has no spread." not in picture.caption


def test_points_and_lines_of_planes():
    """A point is a cross where it is; what lies outside is told; a page rounds to thousandths of a window."""
    base, other = normal([0, 5], np.eye(2)), normal([0, 5], 0.2 * np.eye(2), seed=1)
    result = compared(base, other)
    found = planes(result)
    picture = plane_picture(found, result)
    (axes,) = picture.figure.axes[:1]
    assert (axes.get_xlim(), axes.get_ylim()) == (tuple(found.windows[0]), tuple(found.windows[1]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == found.quantities[:2]
    dots = next(line for line in axes.lines if line.get_marker() == ".")
    assert len(dots.get_xdata()) == MOST_DOTS == 700
    edges = [line for line in axes.lines if line.get_marker() != "."]
    assert all(np.ptp(line.get_xdata()) < 4 and abs(line.get_xdata().mean()) < 0.5 for line in edges)
    page = plane_page(found, result)
    assert page["quantities"] == ["a", "b"]
    assert len(page["dots"]) == 2
    assert all(len(line) <= 2 * MOST_POINTS for fit in page["fits"] for level in fit["lines"]["0-1"] for line in level)
    assert {each["point"] for each in page["fits"]} == {None}
    assert (page["units"], page["base"]) == (UNITS, result.reference)
    alone = pyrozoo.compare([from_draws(base)])
    assert planes(alone) is None, "one fit is no comparison"
    away = searching("point")
    pair = pyrozoo.compare([away], reference=reference())
    shown = planes(pair)
    point = next(each for each in plane_page(shown, pair)["fits"] if each["point"] is not None)
    assert point["lines"] == {}
    low, high = shown.windows.T
    assert point["point"] == np.round((shown.draws[point["name"]][0] - low) / (high - low) * UNITS).astype(int).tolist()
    text = plane_picture(shown, pair)
    assert "A cross is a point." in text.caption
    assert "A cross is a point." not in picture.caption
    crosses = [line for each in text.figure.axes for line in each.lines if line.get_marker() == "X"]
    assert [crosses[0].get_xdata()[0], crosses[0].get_ydata()[0]] == shown.draws[point["name"]][0, :2].tolist()
    assert not [each for each in text.figure.axes if any(t.get_text() == "outside" for t in each.texts)]
    shown.draws[point["name"]][0] += 1e3
    lost = plane_picture(shown, pair)
    assert [t.get_text() for each in lost.figure.axes for t in each.texts] == ["outside"]
