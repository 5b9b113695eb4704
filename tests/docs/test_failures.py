"""Failures staged on purpose: each shows by a number, and the good method beside it does not fail."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import yaml

import pyrozoo
from notebooks.__main__ import names, read
from pyrozoo.core.paths import CONF
from pyrozoo.run import catalog

pytestmark = pytest.mark.usefixtures("unchecked")

STAGED = [name for name in catalog.options("experiment") if name.startswith("failure_")]
FEWER: Mapping[str, Mapping[str, Any]] = {
    "svi": {"max_steps": 600, "restarts": 1},
    "gibbs": {"warmup": 100, "draws": 300, "thin": 1},
    "em": {"restarts": 3},
}
"""Less work than the experiment does, enough for the failure to show."""


def values(text: str) -> list[Any]:
    """Return what is swept: commas inside of brackets divide nothing."""
    return yaml.safe_load(f"[{text}]")


@cache
def fits_of(name: str) -> dict[tuple[Any, ...], Any]:
    """Fit what an experiment's sweep asks for: swept values -> fit."""
    sweep = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))["sweep"]
    stated = {key: values(text) for key, _, text in (word.partition("=") for word in sweep)}
    (model,) = stated.pop("model")
    (data,) = stated.pop("data", [catalog.default_data(model)])
    swept = {key: each for key, each in stated.items() if len(each) > 1 or key == "inference"}
    fixed = {key.partition(".")[2]: each[0] for key, each in stated.items() if key not in swept}
    found = {}
    for chosen in itertools.product(*swept.values()):
        settings = dict(zip(swept, chosen, strict=True))
        method = settings.pop("inference")
        own = {key.partition(".")[2]: value for key, value in settings.items()}
        found[chosen] = pyrozoo.fit(
            model, method, data=data, progress=False, **{**FEWER.get(method, {}), **fixed, **own}
        )
    return found


def spread(fit: Any) -> np.ndarray:
    return fit.draws["coefficients"].flatten(0, 1).std(0).numpy()


def test_mean_field_is_too_sure_of_a_tilted_posterior():
    fits = fits_of("failure_mean_field")
    exact, ep, mean_field = (spread(fits[(method,)]) for method in ("exact", "ep", "svi"))
    assert (mean_field < 0.6 * exact).all()
    assert (np.abs(ep / exact - 1) < 0.15).all()


def test_labels_change_places():
    metrics = fits_of("failure_labels")[("gibbs",)].metrics
    assert float(metrics["rhat_max_raw"]) > 1.5
    assert float(metrics["rhat_max"]) < 1.05


def test_a_bound_is_highest_where_the_posterior_is_narrow():
    fits = fits_of("failure_bound")
    scales = sorted({scale for scale, _ in fits})
    best = {m: max(scales, key=lambda s: fits[s, m].objective) for m in ("exact", "ep", "jaakkola_jordan")}
    assert best["jaakkola_jordan"] < best["exact"] == best["ep"]
    for scale in scales[1:]:
        exact, ep, bound = (fits[scale, method] for method in ("exact", "ep", "jaakkola_jordan"))
        assert bound.objective < exact.objective - 0.5
        assert (spread(bound) < 0.8 * spread(exact)).all()
        assert abs(ep.objective - exact.objective) < 0.1


def test_a_sampler_is_stuck():
    fits = fits_of("failure_stuck")
    exact, gibbs = fits[("exact",)], fits[("gibbs",)]
    share = gibbs.invariants["label_share"][..., 0]
    assert float(gibbs.metrics["rhat_max"]) > 1.5
    assert float((share.mean(1) - 0.5).abs().min()) > 0.3, "each chain stays on one side"
    assert abs(float(exact.invariants["label_share"][..., 0].mean()) - 0.5) < 0.1, "either side is as likely"


def test_a_prior_fights_the_data():
    fits = fits_of("failure_prior")
    wrong, right = fits[1.0, "em"], fits[None, "em"]
    assert float(wrong.metrics["holdout_elpd"]) < float(right.metrics["holdout_elpd"]) - 1
    assert wrong.model.to_rescale(wrong.data).startswith("set model.rate_rate=null"), "what its card says to type"


def test_a_point_is_too_sure():
    fits = fits_of("failure_point")
    sure, right, score = {}, {}, {}
    for (method,), fit in fits.items():
        said = fit.tables["holdout"]
        sure[method] = float(np.maximum(said["mean"], 1 - said["mean"]).mean())
        right[method] = float((said["mean"].round() == said["true"]).mean())
        score[method] = float(fit.metrics["holdout_elpd"])
    assert sure["em"] > right["em"] + 0.15
    assert score["em"] < score["ep"] - 0.15
    assert sure["em"] - right["em"] > sure["ep"] - right["ep"]


@pytest.mark.parametrize("name", STAGED)
def test_each_says_what_to_look_for_and_has_a_notebook(name):
    first = (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# A failure, staged: ")
    assert "Look at " in first
    assert name in names()
    assert "**Look for" in read(name).cells[0].source
