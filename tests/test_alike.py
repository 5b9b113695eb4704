"""The same answer by another way, for every model and method: without kernels, and of data in another order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.seeds import seeded
from pyrozoo.data.container import Cells, Hidden
from pyrozoo.data.simulate import simulate_data
from pyrozoo.run import catalog
from pyrozoo.testing import laws
from tests.case import case, pairs, solver_class
from tests.models.test_read import fit_of

pytestmark = pytest.mark.usefixtures("unchecked")

SIZES = ("num_components", "num_factors", "num_topics", "latent_dimension")
STEPPED = [*pairs(engine="optimise"), *pairs(engine="sample")]
OWN_NUMBERS = {("topics", "gibbs"), ("topics", "stochastic_cavi")}
"""Solvers whose kernels draw random numbers of their own."""


def stepped(model: str, method: str, on: bool) -> dict[str, Any]:
    """Return the state and the objective after two steps, with kernels or without, from one start."""
    its = case(model, method)
    solver = solver_class(model, method)(Posterior.of(its.model, its.tiny))
    with seeded(0):
        with switched(False):
            state = solver.init(3)
        with switched(on):
            for _ in range(2):
                state, info = solver.step(state)
    return {f.name: getattr(state, f.name) for f in dataclasses.fields(state)} | {"objective": info.objective}


@pytest.mark.parametrize(("model", "method"), [pair for pair in STEPPED if pair not in OWN_NUMBERS])
def test_kernels_do_what_pytorch_does(model, method):
    with_them, without = stepped(model, method, True), stepped(model, method, False)
    for name, value in without.items():
        torch.testing.assert_close(
            with_them[name], value, rtol=1e-7, atol=1e-7, msg=lambda said, name=name: f"{name}: {said}"
        )


@pytest.mark.parametrize(("model", "method"), STEPPED)
def test_what_a_step_predicts_is_what_is_hidden(model, method):
    """A by-product is of every hidden entry, and of nothing where nothing is hidden."""
    its = case(model, method)
    for hides in (False, True) if hasattr(its.tiny, "hide") else (False,):
        data = its.tiny.hold_out(0.3, 1) if hides else its.tiny
        solver = solver_class(model, method)(Posterior.of(its.model, data))
        with seeded(0):
            predictive = solver.step(solver.init(2))[1].predictive
        assert predictive is None or hides
        for each in predictive() if predictive is not None else ():
            assert each.isfinite().all()
            assert each.shape[:2] == (2, len(data.hidden.values))


SIZED = [(m, name) for m in catalog.models() for name in SIZES if hasattr(case(m).model, name)]


def of_three(model: str, name: str, method: str = "") -> Posterior:
    """Return the posterior of a model with three components or factors, given larger data with holes."""
    its = case(model, method)
    plain = {"weight_concentration": 1.5} if hasattr(its.model, "weight_concentration") else {}
    data = simulate_data(its.model, seed=5, missing=0.2, **its.larger)
    return Posterior.of(dataclasses.replace(its.model, **{name: 3}, **plain), data)


@pytest.mark.parametrize(("model", "name"), SIZED)
def test_densities_of_three_are_the_program_s(model, name):
    """The last of two is also the second: three tell them apart."""
    laws.one_density(of_three(model, name))


JOINTS = [(model, method, name) for model, method in STEPPED for its, name in SIZED
          if its == model and solver_class(model, method).objective_name == "log_joint"]  # fmt: skip


@pytest.mark.parametrize(("model", "method", "name"), JOINTS)
def test_objectives_of_three_are_the_program_s_joint(model, method, name):
    laws.objective_is_the_joint(solver_class(model, method)(of_three(model, name, method)))


def turned(data: Any, rows: bool = True, columns: bool = True) -> Any:
    """Return data with rows and columns in reverse order, under their labels."""
    R, C = data.shape
    at, across = (np.arange(n)[::-1].copy() if on else np.arange(n) for n, on in ((R, rows), (C, columns)))
    changes: dict[str, Any] = {
        "row_labels": [data.row_labels[i] for i in at], "column_labels": [data.column_labels[j] for j in across],
    }  # fmt: skip
    if isinstance(data, Cells):
        changes["values"] = data.values[at.tolist()][:, across.tolist()]
    else:
        listed = data.values.clone()
        listed[:, 0], listed[:, 1] = (
            torch.as_tensor(order)[listed[:, k].long()].to(listed) for k, order in ((0, at), (1, across))
        )
        changes["values"] = listed[(listed[:, 0] * C + listed[:, 1]).argsort()]
        if data.unobserved is not None:
            one, other = data.unobserved.T
            cells = torch.stack([torch.as_tensor(at)[one], torch.as_tensor(across)[other]], 1)
            changes["unobserved"] = cells[(cells[:, 0] * C + cells[:, 1]).argsort()]
    if hasattr(data, "covariates"):
        changes["covariates"] = data.covariates[at.tolist()]
    if getattr(data, "levels", ()) and len(data.levels) == C and hasattr(data, "kinds"):
        changes["levels"] = tuple(data.levels[j] for j in across)
    if (hidden := data.hidden) is not None:
        places = torch.as_tensor(at)[hidden.rows], torch.as_tensor(across)[hidden.columns]
        changes["hidden"] = Hidden(*places, hidden.values, hidden.at_random)
    return dataclasses.replace(data, **changes)


def followed(
    values: Mapping[str, torch.Tensor], dims: Mapping[str, Sequence[str]], old: Any, new: Any
) -> dict[str, torch.Tensor]:
    """Return values whose dimensions have labels in the order of other data; of a pair the order does not matter."""
    result = {}
    for name, value in values.items():
        if "cell" in dims.get(name, ()):  # of which some are chosen
            continue
        for axis, dim in enumerate(dims.get(name, ()), 2):
            own, theirs = ([sorted(each.split(" & ")) for each in data.coords.get(dim.rstrip("_"), ())]
                           for data in (old, new))  # fmt: skip
            if own:
                value = value.index_select(axis, torch.tensor([own.index(label) for label in theirs]))
        result[name] = value
    return result


def both(model: str) -> tuple[Fit, Fit]:
    """Return a fit of data with draws from the prior, and the same of the data turned round."""
    its = case(model)
    old = its.tiny if model in ("topics", "logistic_regression") else its.tiny.hold_out(0.3, 1)
    new = turned(old, rows=model != "hidden_markov")  # steps follow each other
    by_column = {name: value[::-1] for name in ("location", "scale")
                 if isinstance(value := getattr(its.model, name, None), tuple)}  # fmt: skip
    with seeded(7):
        drawn = [Posterior.of(its.model, old).simulate() for _ in range(6)]
    sites = Posterior.of(its.model, old).sites
    draws = {site: torch.stack([one[site] for one in drawn])[None] for site in sites}
    moved = followed(draws, sites, old, new)
    return (
        fit_of(its.model, old, **{site: value[0] for site, value in draws.items()}),
        fit_of(dataclasses.replace(its.model, **by_column), new, **{site: value[0] for site, value in moved.items()}),
    )


DRAWN = (
    "forecast",
    "num_clusters",
    "synthetic_share",
    "synthetic_cramers_v",
    "lower_90",
    "upper_90",
    "top_frex",
    "top_lift",
)
"""Tables and columns of tables that are simulated, each place with its own random numbers, or have ties."""


@pytest.mark.parametrize("model", catalog.models())
def test_labels_follow_rows_and_columns(model):
    one, other = both(model)
    torch.testing.assert_close(one.posterior.log_density(one.draws), other.posterior.log_density(other.draws))
    dims = one.posterior.invariant_dims
    invariants = followed(one.invariants, dims, one.data, other.data)
    for name, value in invariants.items():
        torch.testing.assert_close(other.invariants[name], value, msg=lambda said, name=name: f"{name}: {said}")
    tables, theirs = view_of(one.model).tables(one), view_of(other.model).tables(other)
    for name in tables:
        try:
            table = tables[name]
        except NotApplicable:
            continue
        if name not in DRAWN:
            same(table, theirs[name])


def same(table: pd.DataFrame, other: pd.DataFrame) -> None:
    """Hold two tables to each other whose rows and columns may stand in another order."""
    assert set(table.columns) == set(other.columns)
    columns = sorted(set(table.columns) - {*DRAWN})
    words = [c for c in columns if not pd.api.types.is_float_dtype(table[c])]
    numbers = [c for c in columns if c not in words]
    if "other_column" in columns:
        pair = ["column", "other_column"]
        table, other = (each.assign(**dict(zip(pair, np.sort(each[pair].astype(str)).T, strict=True)))
                        for each in (table, other))  # fmt: skip
    a, b = (each[columns].sort_values(words or columns).reset_index(drop=True) for each in (table, other))
    assert a[words].astype(str).equals(b[words].astype(str))
    np.testing.assert_allclose(a[numbers].to_numpy(), b[numbers].to_numpy(), rtol=1e-6, atol=1e-9)
