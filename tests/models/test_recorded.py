"""What people read of fits, as it was recorded: tables, figures, pictures and movies of known draws.

No solver is asked: draws are a truth with some noise. ``python -m tests.models.test_recorded`` records anew, after a
change that is meant to change what is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws
from pyrozoo.core.seeds import seeded
from pyrozoo.data.simulate import simulate_data
from pyrozoo.models.potts_grid.view import exact_answers
from pyrozoo.run import catalog
from tests.case import case
from tests.described import Lines, described, other, written

pytestmark = pytest.mark.usefixtures("unchecked")

RECORD = Path(__file__).with_name("recorded.json")
MADE_WITH = "torch", "numpy", "pandas", "matplotlib"
MODELS = catalog.models()

JUST = 6
"""Rows, columns and limits, where as much is shown as there is."""

SHAPE = {"rows": 12, "columns": 6, "sequences": 4, "steps": 9}


@dataclass(frozen=True)
class Variant:
    """How a fit is made.

    Attributes:
        settings: Of the model, beside those of its case.
        shape: Of the data, beside ``SHAPE`` and that of the case.
        change: What else is done to the data, old and new.
        hide: Share of entries that are hidden.
        missing: Share that nobody knows, where a container may miss any.
        test: Whether there are new rows.
        truth: Whether the truth is known.
        kind: What the draws are.
        method: What the method is called.
        objective: What its objective is.
        expect: What the method knows beyond its draws.
        most: Limit of whatever has one; 0: its own.
        noise: Share of a draw from the prior in every draw.
        beside: Changes of the variant that make the fits that it is compared with.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    shape: Mapping[str, int] = field(default_factory=dict)
    change: Callable[[Any], Any] = lambda data: data
    hide: float = 0.2
    missing: float = 0.1
    test: bool = True
    truth: bool = True
    kind: Any = "samples"
    method: str = "gibbs"
    objective: str = "log_joint"
    expect: Callable[[Fit], dict[str, Tensor]] = lambda fit: {}
    most: int = 0
    noise: float = 0.15
    beside: tuple[Mapping[str, Any], ...] = ()


def about(data: Any) -> Any:
    """Give documents what is known about them: few levels, and many numbers."""
    years = np.random.default_rng(0).permutation(data.shape[0]) / 2
    places = [("here", "there", "away")[i % 3] for i in range(data.shape[0])]
    return replace(data, about={"place": places, "year": years})


def exposed(data: Any) -> Any:
    return replace(data, exposure=torch.linspace(0.5, 2.0, data.shape[0], dtype=torch.float64))


def uneven(data: Any) -> Any:
    """Multiply a column, so that one scale does not do for all."""
    return replace(data, values=data.values * torch.where(torch.arange(data.shape[1]) == 1, 100.0, 1.0))


def constant(data: Any) -> Any:
    return replace(data, values=torch.ones_like(data.values))


def images(data: Any) -> Any:
    return replace(data, image_shape=(2, data.shape[1] // 2))


def beliefs(fit: Fit) -> dict[str, Tensor]:
    found = exact_answers(fit)
    assert found is not None
    count = found[1].shape[-1]
    return {"label_probability": found[1], "neighbours_probability": torch.eye(count) / 2 + 0.1}


def topic_means(fit: Fit) -> dict[str, Tensor]:
    return {
        f"mean_{site}": value[0, 1].flip(-1 if site == "document_topics" else 0) for site, value in fit.draws.items()
    }


POINT: Any = {"kind": "point", "method": "em"}
Q: Any = {"kind": "variational", "method": "cavi", "objective": "elbo"}
WIDE = {"rows": 45, "columns": 45}
ALWAYS = {
    "hidden": Variant(),
    "point": Variant(**POINT, hide=0.0, truth=False, test=False, missing=0.0),
    "few": Variant(**Q, most=3),
    "just": Variant(shape={"rows": JUST, "columns": JUST, "sequences": JUST, "steps": JUST}, most=JUST),
}
"""Variants of every model."""

MORE: dict[str, dict[str, Variant]] = {
    "categorical_fa": {
        "fixed": Variant({"loadings": "fixed", "latent_dimension": 2}, beside=(POINT, Q)),
        "two": Variant({"latent_dimension": 2}, {"categories": 4}, beside=(POINT,), **Q),
        "hidden units": Variant({"hidden_units": 2, "intercepts": False}, **POINT),
        "one item": Variant(shape={"columns": 1}, hide=0.0),
        "many": Variant(shape=WIDE),
    },
    "factor_analysis": {
        "images": Variant({"num_factors": 3}, change=images),
        "few images": Variant({"num_factors": 3}, change=images, most=3),
        "few hidden": Variant({"num_factors": 2}, hide=0.03, test=False, most=3),
        "only missing": Variant(change=images, hide=0.0, missing=0.3, shape={"columns": 4}),
        "whole images": Variant({"num_factors": 11}, {"columns": 12}, images, hide=0.0, missing=0.0, **POINT),
        "uneven": Variant({"num_factors": 2}, change=uneven, truth=False),
        "constant": Variant({"num_factors": 2}, change=constant, hide=0.0, missing=0.0, test=False),
        "many": Variant({"num_factors": 6}, WIDE, test=False),
        "wide": Variant({"num_factors": 2}, {"rows": 10, "columns": 62}, test=False, **POINT),
    },
    "gaussian_mf": {
        "validated": Variant(change=lambda data: data.set_aside(0.2, 1), **Q),
        "one": Variant({"num_factors": 1, "offsets": False}, **POINT),
        "many": Variant(shape=WIDE, **POINT),
    },
    "gaussian_mixture": {
        "sticks": Variant({"weight_prior": "stick_breaking", "num_components": 3, "covariance_type": "spherical"}),
        "tied": Variant({"covariance_type": "tied"}, **Q),
        "one column": Variant({"covariance_type": "diagonal"}, {"columns": 1}),
        "many": Variant({"covariance_type": "diagonal"}, WIDE, kind="point"),
    },
    "hidden_markov": {
        **{each: Variant({"emission": each}) for each in ("full", "autoregressive", "poisson")},
        "categorical": Variant({"emission": "categorical", "num_levels": 3}),
        "one column": Variant(shape={"columns": 1, "sequences": 8}, **Q),
    },
    "logistic_regression": {
        "two": Variant(shape={"columns": 2}),
        "slopes": Variant({"intercept": False, "standardize": False}, {"columns": 2}, beside=(POINT, Q), noise=-9.0),
        "one": Variant(shape={"columns": 1}, beside=(POINT,), **Q),
        "line": Variant({"likelihood": "normal"}, {"columns": 1}, beside=({"settings": {}},), **Q),
        "many": Variant({"likelihood": "normal"}, {"rows": 30, "columns": 45}),
    },
    "poisson_mf": {
        "listed": Variant({"hierarchical": True}, change=lambda data: data.hold_out(0.3, 0, "listed"), hide=0.0,
                          truth=False),
        "exposed": Variant(change=exposed, test=False, **Q),
        "many": Variant({"num_factors": 5}, {"rows": 62, "columns": 62}, truth=False, test=False),
        "one": Variant({"num_factors": 1}, {"rows": 5, "columns": 1}, test=False),
    },
    "potts_grid": {
        "hidden": Variant(beside=({"kind": "exact"},)),
        "lone": Variant(beside=(Q,), **POINT),
        "two": Variant({"num_labels": 2, "coupling": ((0.8, 0.2), (0.2, 0.6))}, beside=({"kind": "samples"},), **Q),
        "exact": Variant(kind="exact", objective="log_evidence", expect=beliefs, beside=(POINT, Q)),
    },
    "topics": {
        "about": Variant({"num_topics": 4}, change=about, test=False),
        "correlated": Variant({"prior": "logistic_normal", "num_topics": 3}),
        "many, few shown": Variant({"num_topics": 8}, most=3, test=False),
        "expected": Variant(expect=topic_means, **Q),
        "choice": Variant(beside=({"settings": {"num_topics": 4}},), test=False, **Q),
        "many": Variant({"num_topics": 22}, {"rows": 70}, test=False, **POINT),
    },
    "zip_mixture": {
        "exposed": Variant(change=exposed),
        "overdispersed": Variant({"overdispersed": True}, **Q),
        "many": Variant(shape=WIDE, **POINT),
    },
}  # fmt: skip
"""Further variants of a model: whatever makes a table, a picture or a sentence appear that the others have not."""

NAMES = [f"{model}-{name}" for model in MODELS for name in ALWAYS | MORE.get(model, {})]


def data_of(model: str, of: Any, how: Variant) -> tuple[Any, Mapping[str, Tensor]]:
    """Return data with hidden entries and new rows, and the truth."""
    sizes = {**case(model).larger, **SHAPE, **how.shape}
    shape = {name: sizes[name] for name in case(model).larger}
    missing = how.missing if hasattr(of.container, "observed") else 0.0
    data, new = (simulate_data(of, seed=seed, missing=missing, **shape) for seed in (3, 4))
    columns = [f"{'zyxwvutsr'[j % 9]} is what column {j} is called" for j in range(data.shape[1])]
    truth, new = data.truth, replace(new, row_labels=[f"new {label}" for label in new.row_labels])
    data, new = (how.change(replace(each, column_labels=columns)) for each in (data, new))
    data = data if how.truth else replace(data, truth={})
    data = data.hold_out(how.hide, 0) if how.hide else data
    if how.test and model != "potts_grid":  # an image has no new rows
        data = data.with_test(replace(new, hidden=None) if model == "topics" else new.hold_out(0.3, 1))
    return data, truth


def noisy(truth: Mapping[str, Tensor], posterior: Posterior, noise: float) -> dict[str, Tensor]:
    """Return the truth mixed with a draw from the prior; of labels some are those of the draw."""
    drawn = posterior.simulate()

    def mixed(site: str) -> Tensor:
        own = truth.get(site, drawn[site])
        if own.is_floating_point():
            return (1 - noise) * own + noise * drawn[site]
        return torch.where(torch.rand(own.shape) < 0.8, own, drawn[site])

    return {site: mixed(site) for site in posterior.sites}


def told(chains: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a trace with all that pictures of a run look for, and its runs."""
    step, chain = np.tile(np.arange(1, 9), chains), np.repeat(np.arange(chains), 8)
    trace = pd.DataFrame({"iteration": step, "chain": chain, "objective": -1 / step, "seconds": 0.3 * step + chain})
    for i, name in enumerate(("train_nll", "validation_nll", "test_nll", "sweep_rmse", "average_rmse")):
        trace[name] = 1 + 0.1 * i + (1 + 0.2 * chain) * (chains > 1) / (step + i)
    runs = {"chain": range(chains), "objective": np.arange(chains) - 3.0, "iterations": 8, "status": "completed"}
    return trace, pd.DataFrame(runs)


def fit_of(model: str, how: Variant) -> Fit:
    """Return a fit whose draws are the truth with noise."""
    its = case(model).model
    free = {"location": 0.2, "scale": 1.0} if "location" in its.values() else {}
    data, truth = data_of(model, replace(its, **{**free, **how.settings}), how)
    posterior = Posterior.of(replace(its, **{**free, **how.settings}).given(data), data)
    chains, draws = {"samples": (2, 4), "point": (1, 1)}.get(how.kind, (1, 6))
    with seeded(5):
        every = [noisy(truth, posterior, how.noise) for _ in range(chains * draws)]
    found = {site: torch.stack([each[site] for each in every]).unflatten(0, (chains, draws)) for site in every[0]}
    fit = Fit(
        posterior, how.method, how.kind, Draws(found), *told(chains), "completed", how.objective, -12.5, 7, 1.5, 0
    )
    fit.expectations, fit.metrics = how.expect(fit), {"holdout_elpd": -1.25 * len(found)}
    return fit


def modules(model: str) -> list[ModuleType]:
    """Return the modules that say what is read of a model's fits."""
    folder = f"pyrozoo.models.{model}"
    found = [f"{folder}.{name}" for name in ("view", "queries", "synthesis", "figures")]
    return [import_module(name) for name in found if find_spec(name)]


def limits(module: ModuleType) -> dict[str, Any]:
    """Return the numbers that say how much a module shows, and other constants."""
    return {name: value for name, value in vars(module).items() if name.isupper() and not isinstance(value, ModuleType)}


def spelled(model: str) -> Lines:
    """Return the constants of a model's modules, numbers to their last digit."""
    parts = {each.__name__: limits(each).items() for each in modules(model)}
    exact = (bool, int, float, str, tuple)
    return {name: [[f"{key} {value!r}" if isinstance(value, exact) else [key, value]] for key, value in each]
            for name, each in parts.items()}  # fmt: skip


@contextmanager
def shown(model: str, most: int) -> Iterator[None]:
    """Show at most so much of whatever has a limit, and hold as little as possible at a time."""
    drawing = [import_module(f"pyrozoo.drawing.{name}") for name in ("predictions", "scenes", "tables")]
    with pytest.MonkeyPatch.context() as patch:
        for module in (*modules(model), *drawing):
            for name, value in limits(module).items():
                if isinstance(value, int) and name.startswith(("MOST_", "BLOCK")):
                    patch.setattr(module, name, 1 if name.startswith("BLOCK") else most)
        yield


def found(name: str) -> Lines:
    """Return what is read of a fit."""
    model, variant = name.split("-", 1)
    how = (ALWAYS | MORE.get(model, {}))[variant]
    fits = [fit_of(model, each) for each in (how, *(replace(how, **dict(other)) for other in how.beside))]
    if not how.most:
        return described(*fits) | spelled(model)
    with shown(model, how.most):
        return described(*fits)


def record() -> None:
    """Write what is read of every fit now."""
    about = {"made with": {name: version(name) for name in MADE_WITH}}
    fits = {name: written(found(name)) for name in NAMES}
    RECORD.write_text(json.dumps(about | {"fits": fits}, indent=0) + "\n", encoding="utf-8")


def recorded() -> dict[str, Any]:
    """Return what has been recorded."""
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    # Each draws and rounds in its own way; those that the project is installed with are held to the record below.
    if known["made with"] != (now := {name: version(name) for name in MADE_WITH}):
        pytest.skip(f"recorded with {known['made with']}, these are {now}: others draw and round otherwise")
    return known


def test_the_record_is_of_the_versions_that_the_project_is_installed_with():
    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    made = json.loads(RECORD.read_text(encoding="utf-8"))["made with"]
    for name, its in made.items():
        assert f"{name}=={its.split('+')[0]}" in pinned, "python -m tests.models.test_recorded records anew"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_of_a_fit_is_as_recorded(name):
    known = recorded()["fits"]
    assert name in known, "not recorded yet: python -m tests.models.test_recorded"
    assert other(known[name], found(name)) == []


if __name__ == "__main__":
    record()
