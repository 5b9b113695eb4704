"""Cards and answers from figures worked out by hand: what is said, at which level, in how many words."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pyrozoo
from pyrozoo.command.jobs import describe
from pyrozoo.data.triplets import Triplets
from pyrozoo.diagnostics.answer import Told, believe
from pyrozoo.diagnostics.card import MOST_SHOWN, Card, Line, listed, overall
from pyrozoo.diagnostics.choice import choose
from pyrozoo.diagnostics.compare import _means, _spread, _surely, _timed
from pyrozoo.diagnostics.predictive import prior_conflict
from pyrozoo.diagnostics.verdict import Thresholds, verdict
from pyrozoo.run.fit import Run, configuration

SAMPLES: dict[str, Any] = {
    "kind": "samples", "method": "gibbs", "status": "completed", "iterations": 5501, "seconds": 3.0, "chains": 4,
    "draws": 1000, "rhat_max": 1.004, "rhat_max_raw": 2.0, "rhat_max_invariants": 1.003,
    "ess_bulk_min_invariants": 922.0, "ess_tail_min_invariants": 1764.0, "ess_per_second": 294.0,
    "loo_elpd": -100.0, "loo_se": 9.0, "loo_bad_khat_share": 0.0, "loo_unit": "row",
}  # fmt: skip
HELD: dict[str, Any] = {
    "reference": "gibbs", "reference_is": "R-hat 1.003, 922 effective draws", "reference_good": 1,
    "reference_judges": 1, "is_reference": 0, "reference_seconds": 42.0, "invariants": 12, "quantities": 3,
    "mean_error": -2.1, "mean_error_mcse": 0.05, "mean_error_of": "log_likelihood", "mean_error_median": 0.04,
    "mean_error_rest": 0.06, "means_off": "log_likelihood", "means_far": "log_likelihood", "mean_mcse_worst": 0.05,
    "mean_standard_errors": 42.0, "mean_standard_errors_of": "log_likelihood",
}  # fmt: skip
CAVI: dict[str, Any] = {
    "kind": "variational", "method": "cavi", "status": "converged", "iterations": 90, "seconds": 3.0, "khat": 2.0,
    "khat_threshold": 0.67, "elbo": -120.0, "elbo_se": 0.1, **HELD,
}  # fmt: skip
SHORT: dict[str, Any] = {
    "sd_ratio_median": 0.4, "quantities_spread": 3, "narrowest": 0.1, "narrowest_at_most": 0.11,
    "narrowest_of": "column_mean[a]", "widest": 0.5, "widest_at_least": 0.4, "widest_of": "log_likelihood",
    "spread_narrow": "log_likelihood, column_mean, column_zero", "spread_wide": "",
    "spread_far": "log_likelihood, column_mean", "overlap_median": 0.94, "overlap_least": 0.23,
    "overlap_least_of": "log_likelihood",
}  # fmt: skip


def about(metrics: dict[str, Any], **limits: float) -> dict[str, Line]:
    return {line.about: line for line in verdict(metrics, Thresholds(**limits))}


def test_one_quantity_that_is_off_is_named_and_fails_nobody():
    card = verdict(CAVI)
    assert card.level == "warn"
    assert card.answer == "Use its means, within 0.06 sd of gibbs's, 14 times faster; do not use its log_likelihood."
    (means,) = [line for line in card if line.about == "means"]
    said = "the mean of log_likelihood is 2.10 ± 0.05 sd too low. Other means are within 0.06 sd."
    assert means == Line("warn", "means", f"Do not use log_likelihood: {said}")
    two = {**CAVI, "means_off": "log_likelihood, column_mean", "means_far": "log_likelihood, column_mean"}
    assert verdict(two).level == "fail"
    assert verdict(two).answer == "Do not use this fit: the mean of log_likelihood is 2.10 sd off."


def test_intervals_that_are_too_short_are_told_and_the_means_stay_of_use():
    card = verdict({**CAVI, **SHORT})
    assert card.level == "warn"
    assert card.answer.endswith("do not use its log_likelihood or its intervals.")
    lines = about({**CAVI, **SHORT})
    assert lines["spread"].level == "fail"
    assert lines["spread"].sentence == (
        "Its intervals are too short: the sd of column_mean[a] is 0.10 times the reference's. Do not use them."
    )
    said = "Intervals typically overlap the reference's by 94%; worst 23% (log_likelihood)."
    assert lines["intervals"] == Line("pass", "intervals", said)


def test_a_sweep_begins_with_which_to_believe():
    gibbs = {**SAMPLES, **HELD, "is_reference": 1}
    del gibbs["mean_error"]
    told = [Told(name, m, verdict(m)) for name, m in (("gibbs", gibbs), ("cavi", {**CAVI, **SHORT}))]
    assert told[0].card.level == "pass"
    assert believe(told) == (
        "Believe gibbs. cavi's means are within 0.06 sd, 14 times faster; do not use its log_likelihood and intervals."
    )
    stuck = {**gibbs, "reference_good": 0, "reference_judges": 0, "reference_is": "R-hat 1.470, 8 effective draws"}
    poor = [Told(name, m, verdict(m)) for name, m in (("gibbs", stuck), ("cavi", {**CAVI, "reference_judges": 0}))]
    said = "Believe none yet: the best sampler, gibbs, has not converged (R-hat 1.470, 8 effective draws)."
    assert believe(poor) == said
    lines = {line.about: line for line in poor[1].card}
    assert lines["reference"].sentence == "The reference, gibbs, has not converged. Ignore differences from it."
    assert "means" not in lines, "nothing is held against a fit"


def test_chains():
    assert verdict(SAMPLES).answer == "Believe this fit: its chains agree (R-hat 1.003, 922 effective draws)."
    assert verdict(SAMPLES).level == "pass"
    apart = about({**SAMPLES, "rhat_max_invariants": 1.47})["R-hat"]
    said = "Chains disagree even after relabelling: R-hat is 1.470. Run longer, or compare their modes."
    assert apart == Line("fail", "R-hat", said)
    few = {**SAMPLES, "ess_tail_min_invariants": 120.0}
    assert about(few)["ESS"] == Line("warn", "ESS", "Only 120 effective draws, and 400 are wanted: run longer.")
    assert about(few, ess=100)["ESS"].level == "pass"
    near = "Nearly there (R-hat 1.003, 120 effective draws): run it 4 times longer before you believe it."
    assert verdict(few).answer == near, "1.2 * 400 / 120"
    assert "mixes badly" in verdict({**SAMPLES, "ess_tail_min_invariants": 12.0}).answer
    assert about({**SAMPLES, "divergences": 40})["divergences"].level == "warn", "1% of 4000"
    assert about({**SAMPLES, "divergences": 41})["divergences"].level == "fail"
    still = {name: value for name, value in SAMPLES.items() if "rhat" not in name and "ess_" not in name}
    assert about(still)["R-hat"].sentence.startswith("Every draw is the same")
    assert about({**still, "chains": 2})["R-hat"].sentence.startswith("Every draw is the same")
    assert about({**still, "chains": 1})["R-hat"].sentence.startswith("One chain")
    assert about({**still, "draws": 4})["R-hat"].sentence.startswith("Every draw is the same")
    assert about({**still, "draws": 3})["R-hat"].sentence.startswith("One chain")


@pytest.mark.parametrize(
    ("share", "level", "says"),
    [
        (0.0, "pass", "LOO is reliable for every row: -100.0 ± 9.0."),
        (0.002, "pass", "LOO is reliable for all but 0.2% of the rows: -100.0 ± 9.0."),
        (0.02, "warn", "LOO is unreliable for 2.0% of the rows."),
        (0.2, "warn", "LOO is unreliable for 20.0% of the rows: hold entries out instead (data.holdout=0.1)."),
    ],
)
def test_loo(share, level, says):
    assert about({**SAMPLES, "loo_bad_khat_share": share})["LOO"] == Line(level, "LOO", says)


@pytest.mark.parametrize(
    ("figures", "level", "says"),
    [
        ({"holdout_rmse": 1.02, "baseline_rmse": 0.98}, "warn", "the baseline (RMSE 1.020 against 0.980)"),
        ({"holdout_rmse": 0.97, "baseline_rmse": 0.98}, "pass", "better than the baseline: RMSE 0.970 against 0.980."),
        ({"holdout_elpd": -2.0, "baseline_elpd": -1.9}, "warn", "log density -2.000 against -1.900"),
        ({"holdout_elpd": -1.8, "baseline_elpd": -1.9}, "pass", "log density -1.800 against -1.900"),
        ({"completion_rmse": 1.2, "naive_rmse": 1.33}, "pass", "better than the naive mean: RMSE 1.200 against 1.330."),
    ],
)  # fmt: skip
def test_a_fit_that_loses_to_its_baseline_is_told_so(figures, level, says):
    line = about({**SAMPLES, **figures})["baseline"]
    assert line.level == level
    assert says in line.sentence
    assert ("no better than its baseline" in verdict({**SAMPLES, **figures}).answer) == (level == "warn")


def test_coverage_of_few_entries_is_said_and_not_judged():
    few = about({**SAMPLES, "holdout_coverage_90": 0.5, "holdout_entries": 40})["coverage"]
    assert few == Line("pass", "coverage", "90% intervals hold 20 of 40 hidden entries: too few to judge.")
    assert about({**SAMPLES, "holdout_coverage_90": 0.5, "holdout_entries": 100})["coverage"].level == "warn"


def test_what_simulated_data_miss_is_said_with_its_side():
    missed = {"check_zeros_p": 0.0099, "check_zeros_distance": 9.0, "check_zeros_bias": 8.0, "check_mean_p": 0.6}
    lines = about({**SAMPLES, **missed, "check_mean_distance": 1.0})
    assert lines["predictive checks"].sentence == "Simulated data look like yours in mean."
    first = next(line for line in verdict({**SAMPLES, **missed, "check_mean_distance": 1.0}) if line.level == "fail")
    assert first.sentence == "Simulated data never have zeros as high as yours (p = 0.0099)."
    card = verdict({**SAMPLES, **missed, "check_mean_distance": 1.0, "check_zeros_bias": -8.0})
    assert "as low as yours" in "".join(line.sentence for line in card)
    assert card.level == "warn", "the model misses it, whatever the method"
    assert card.answer.endswith("The model misses the zeros of your data.")


def test_a_prior_on_another_scale_names_the_setting():
    cure = "set model.rate_rate=null (0.0012 in place of 1)"
    conflict = {
        "prior_conflict_p": 0.0099,
        "prior_conflict_excess": 3.0,
        "prior_conflict_of": "column_mean",
        "prior_conflict_setting": cure,
    }
    card = verdict({**SAMPLES, **conflict})
    (line,) = [line for line in card if line.about == "prior"]
    assert line == Line("warn", "prior", f"Data drawn from the prior never have column mean like yours: {cure}.")
    assert card.answer.endswith(f"Its prior never draws data like yours: {cure}.")
    assert about({**SAMPLES, **conflict, "prior_conflict_p": 0.02})["prior"].level == "pass"
    assert about({**SAMPLES, **conflict, "prior_conflict_excess": 1.1})["prior"].level == "pass"


def test_a_card_is_short_and_what_does_not_pass_comes_first():
    lines = [Line("pass", "status", "Fine.")] * 8 + [Line("fail", "LOO", "Not."), Line("warn", "ESS", "Few.")]
    card = Card("Believe it.", tuple(lines))
    assert [line.level for line in card.shown] == ["fail", "warn", *["pass"] * (MOST_SHOWN - 2)]
    assert len(card.shown) + len(card.folded) == len(card) == 10
    assert len(str(card).splitlines()) == 8
    assert card.level == overall(lines) == "warn", "LOO is no reason to throw a fit away"
    assert str(card).startswith("Believe it.\n  fail  LOO: Not.")
    assert listed(["a", "b", "c", "d"], 3) == "a, b and 2 more"


def test_no_sentence_has_more_than_thirty_words():
    ends = ("converged", "completed", "max_iterations", "objective_decreased", "interrupted")
    more: list[dict[str, Any]] = [
        {}, {"rhat_max_invariants": 1.03}, {"rhat_max_invariants": 1e6}, {"rhat_max": 1.3}, {"divergences": 300},
        {"ebfmi_min": 0.1}, {"loo_bad_khat_share": 0.013}, {"loo_bad_khat_share": 0.5}, {"holdout_impossible": 3},
        {"holdout_loss": 0.3, "holdout_best": "gibbs K=3", "holdout_elpd": -1.0}, {"elbo_gap": 3.0, "elbo_gap_se": 0.1,
        "evidence_is": "draws of svi, weighted; at least -120.00 ± 0.10"}, {"mean_off_by": 0.3},
        {"means_off": "", "means_far": ""}, {"nearest": "a", "nearest_distance": 0.1, "farthest": "b",
        "farthest_distance": 5.0, "reference_judges": 0}, {"reference_is": "none", "reference": ""},
    ]  # fmt: skip
    for base, status, extra in itertools.product((SAMPLES, CAVI, {**CAVI, **SHORT}), ends, more):
        card = verdict({**base, "status": status, **extra})
        for text in (card.answer, *(line.sentence for line in card)):
            for sentence in re.split(r"(?<=[.:;]) ", text):
                assert len(sentence.split()) <= 30, sentence
                assert "nan" not in sentence.lower().split()


def rows(quantities: list[str], **columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"quantity": quantities, "mean": 0.0, "reference_mean": 0.0, "reference_sd": 1.0, **columns})
    return frame.assign(overlap_90=0.9)


def test_quantities_are_judged_by_kind():
    frame = rows(["log_likelihood", "column_mean[a]", "column_mean[b]", "share"], error_in_sd=[2.0, 0.1, -0.4, 0.02],
                 error_mcse=[0.1, 0.01, 0.06, 0.01])  # fmt: skip
    found = _means(frame, Thresholds())
    assert (found["means_off"], found["means_far"], found["quantities"]) == ("log_likelihood", "log_likelihood", 3)
    assert found["mean_error_rest"] == 0.4, "surely off by no more than 0.22"
    assert "mean_off_by" not in found
    certain = frame.assign(reference_sd=0.0, mean=[0.3, 0.0, 0.0, 0.0])
    assert _means(certain, Thresholds())["mean_off_by"] == 0.3


def test_a_spread_of_zero_is_too_short_and_a_vague_one_says_nothing():
    frame = rows(["a", "b"], sd_ratio=[0.0, 0.1], sd_ratio_se=[0.02, 0.4])
    found = _spread(frame, Thresholds())
    assert (found["narrowest"], found["narrowest_of"], found["spread_far"]) == (0.0, "a", "a")
    assert _spread(frame.iloc[1:], Thresholds()) == {}


@dataclass(frozen=True)
class Mixture:
    """A stand-in for a model with a number of components."""

    num_components: int
    without_data = ()


def sweep(differences: dict[int, tuple[float, float]], **figures: dict[int, float]) -> tuple[list[Any], list[Told]]:
    """Return fits whose hidden entries' log densities differ from those of K = 1 by mean and sd, 200 entries each."""
    noise = np.random.default_rng(0).normal(size=200)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    fits, told = [], []
    for K, (mean, sd) in differences.items():
        density = torch.as_tensor(-1.0 + mean + sd * noise)
        own = {name: values[K] for name, values in figures.items()}
        known = {name: value for name, value in SAMPLES.items() if name != "loo_elpd"}
        metrics = {**known, **own} | ({"holdout_elpd": float(density.mean())} if not own else {})
        fits.append(SimpleNamespace(
            model=Mixture(K), method="gibbs", metrics=metrics, data=None,
            held_out=(SimpleNamespace(scores=density), None),
        ))  # fmt: skip
        told.append(Told(f"gibbs num_components={K}", metrics, verdict(metrics)))
    return fits, told


def test_the_smallest_k_within_noise_is_taken():
    """4 is ahead of 3 by 0.003 ± 0.2 / sqrt(200) = 0.014; 2 is behind by 0.203 ± 0.014."""
    fits, told = sweep({2: (0.0, 0.0), 3: (0.2, 0.0), 4: (0.203, 0.2)})
    choice = choose(fits, ["num_components"], told)
    assert choice is not None
    assert (choice.value, choice.group) == (3, (1,))
    assert choice.sentence == (
        "Take num_components=3, by the log density of hidden entries of gibbs; 4 is within its noise."
    )
    sure, told = sweep({2: (0.0, 0.0), 3: (0.2, 0.0), 4: (0.3, 0.2)})
    choice = choose(sure, ["num_components"], told)
    assert choice is not None
    assert choice.sentence == "Take num_components=4, by the log density of hidden entries of gibbs."
    assert choose(fits, [], told) is None


def test_information_criteria_choose_the_least_and_bounds_the_most():
    points = {1: (0.0, 0.0), 2: (0.0, 0.0)}
    low, high = {1: -50.0, 2: -40.0}, {1: -40.0, 2: -50.0}
    for name, values, best in (("bic", low, 1), ("bic", high, 2), ("elbo", low, 2), ("elbo_labels", high, 1)):
        fits, told = sweep(points, **{name: values})
        choice = choose(fits, ["num_components"], told)
        assert choice is not None
        assert choice.value == best, name


@pytest.mark.parametrize("scale", [0.1, 1000.0])
def test_a_prior_that_does_not_know_the_data_s_scale_is_found(scale, monkeypatch):
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 100)
    rng = np.random.default_rng(0)
    values = scale * (0.9 * rng.normal(size=(200, 1)) + 0.436 * rng.normal(size=(200, 6)))
    stated, derived = (
        pyrozoo.fit("factor_analysis", "em", data=values, num_factors=1, noise_scale=each, restarts=2, progress=False)
        for each in (10.0, None)
    )
    assert {line.about: line.level for line in stated.verdict}["prior"] == "warn"
    assert "set model.noise_scale=null" in stated.verdict.answer
    assert {line.about: line.level for line in derived.verdict}["prior"] == "pass"
    assert any(note.startswith("model.noise_scale is") for note in derived.notes)


def test_priors_that_data_were_drawn_from_do_not_conflict(monkeypatch):
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 100)
    settings = {"rows": 100, "columns": 4, "restarts": 1, "max_iterations": 3, "num_components": 2}
    config = configuration("zip_mixture", "em", None, settings)
    for seed in range(6):
        config["data"]["seed"] = seed
        fit = Run.from_config(config).fit()
        conflict = prior_conflict(fit, {})  # nothing is left out since the fit misses it, too
        assert conflict
        assert about({**CAVI, **conflict})["prior"].level == "pass"


def test_a_mixture_s_bound_is_that_of_one_of_its_equal_modes():
    settings = {"rows": 40, "columns": 3, "restarts": 1, "draws": 100, "progress": False}
    fits = [pyrozoo.fit("zip_mixture", "cavi", num_components=K, **settings) for K in (1, 3)]
    apart = [fit.metrics["elbo_labels"] - fit.metrics["elbo"] for fit in fits if "elbo_labels" in fit.metrics]
    assert apart == pytest.approx([np.log(6)]), "log 3!, and nothing for one component"


def test_time_and_means_take_the_same_errors_off():
    """A mean that is 0.3 sd off by chance alone (its Monte Carlo error is 0.1) is not "never within 0.25 sd"."""
    assert _surely(np.array([0.3, 0.3]), np.array([0.1, 0.01])) == pytest.approx([0.0, 0.27])
    curve = pd.DataFrame({"seconds": [1.0, 2.0], "error": [0.9, 0.3], "surely": [0.5, 0.0]})
    assert _timed(curve, 0.25) == {"seconds_to_error": 2.0}
    assert _timed(curve.assign(surely=[0.5, 0.27]), 0.25) == {"never_within": 1}
    assert "time" not in about({**CAVI, "never_within": 1}), "the line of the means says it"


def test_notes_stand_where_people_look(tmp_path):
    data = Triplets.of_columns(["a", "a", "b", "b"], ["x", "x", "y", "x"], [1, 2, 3, 1])
    fit = pyrozoo.fit("poisson_mf", "em", data=data, num_factors=1, restarts=1, progress=False)
    assert data.notes[0] in fit.notes, "before anything is written"
    page = (fit.save(tmp_path / "run") / "report.html").read_text(encoding="utf-8")
    again = pyrozoo.load(tmp_path / "run")
    for note in (data.notes[0], next(n for n in fit.notes if n.startswith("model.row_rate is"))):
        assert note in fit.notes
        assert note in again.notes
        assert note in describe(fit, tmp_path)
        assert note in page
        assert note in fit._repr_html_()
