"""Rows that a saved fit scores have the answers that a fit with them would give, as near as theory says.

A point, or an optimum of a bound, of N rows moves by about n / N when n more are fitted (the influence of a row on an
M-estimator is O(1 / N)), and answers are smooth functions of it. So scored and refitted answers of the n rows differ by
at most ``INFLUENCE`` n / N, in units of the spread of what is answered. Where answers are averages over draws, their
Monte Carlo error is added.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import pyrozoo

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")

OLD, NEW = 300, 3
INFLUENCE = 2.0
"""Units by which one row in N may move an answer, times N: what leverages of a few parameters per column add up to."""

BOUND = INFLUENCE * NEW / OLD
MONTE_CARLO = 4 / np.sqrt(100)
"""Four standard errors of a mean of 100 draws, in units of their sd."""

QUIET = {"progress": False}
RNG = np.random.default_rng(12)
ROWS = OLD + NEW
NAMES = [f"s{i}" for i in range(ROWS)]


def two_groups() -> pd.DataFrame:
    rates = np.where((np.arange(ROWS) % 2 == 0)[:, None], [2.0, 9, 1, 6], [8.0, 1, 5, 2])
    return pd.DataFrame(RNG.poisson(rates).astype(float), columns=list("abcd"), index=NAMES)


def one_factor() -> pd.DataFrame:
    z = RNG.normal(size=(ROWS, 1))
    return pd.DataFrame(z * [1.0, -2, 0.5, 1.5] + 0.5 * RNG.normal(size=(ROWS, 4)), columns=list("abcd"), index=NAMES)


def answers() -> pd.DataFrame:
    z = RNG.normal(size=(ROWS, 1))
    codes = (4 * z * [1, -1, 1, 1] + RNG.logistic(size=(ROWS, 4)) > 0).astype(int)
    return pd.DataFrame(np.array(["no", "yes"])[codes], columns=list("abcd"), index=NAMES)


def cells(counts: bool) -> pd.DataFrame:
    """Return a list of rows by 12 columns, of which each row has 9 values, and 3 lines without one."""
    U, V = RNG.gamma(2, 1, (ROWS, 1)), RNG.gamma(2, 1, (12, 1))
    mean = U @ V.T
    values = RNG.poisson(mean) if counts else np.log(mean) + 0.3 * RNG.normal(size=mean.shape)
    for i in range(ROWS):
        gone = RNG.choice(12, 3, replace=False)
        values = np.where((np.arange(ROWS) == i)[:, None] & np.isin(np.arange(12), gone), np.nan, values)
    lines = [(NAMES[i], f"c{j}", float(values[i, j])) for i in range(ROWS) for j in range(12)]
    return pd.DataFrame(lines, columns=["row", "column", "value"])


def pierced(data: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose last rows have a hole each."""
    data = data.copy()
    for i in range(NEW):
        data.iloc[OLD + i, i] = np.nan
    return data


CASES = {
    "zip_mixture": ("em", two_groups, {"num_components": 2}),
    "factor_analysis": ("em", one_factor, {"num_factors": 1}),
    "categorical_fa": ("vem", answers, {"latent_dimension": 1}),
    "poisson_mf": ("cavi", lambda: cells(True), {"num_factors": 1, "restarts": 1, "row": "row", "column": "column"}),
    "gaussian_mf": ("cavi", lambda: cells(False), {"num_factors": 1, "restarts": 1, "row": "row", "column": "column"}),
}


@cache
def fits(model: str, folder: str):
    """Return the fit of the old rows, read back from its run directory, that of all rows, and the new rows."""
    method, make, settings = CASES[model]
    data = make()
    data = data if "value" in data else pierced(data)
    new = data[data["row"].isin(NAMES[OLD:])] if "value" in data else data.iloc[OLD:]
    old = data.drop(new.index)
    saved = pyrozoo.fit(model, method, data=old, **settings, **QUIET).save(f"{folder}/{model}", report="none")
    return pyrozoo.load(saved), pyrozoo.fit(model, method, data=data, **settings, **QUIET), new


def of_table(model: str, folder: str, change=lambda new: new) -> tuple[np.ndarray, np.ndarray, float]:
    """Return what is said of the holes, scored and refitted, and its spread: of columns, or 1 of probabilities."""
    fit, again, new = fits(model, folder)
    missing = again.tables["missing"].set_index(["row", "column"])
    scored = fit.predict(change(new))
    found, truth = [], []
    for i in range(NEW):
        name = "abcd"[i]
        if model == "categorical_fa":
            line = missing.loc[NAMES[OLD + i], name]
            found.append(scored.loc[NAMES[OLD + i], f"probability[{name}={line['answer']}]"])
            truth.append(line["probability"])
        else:
            found.append(scored.loc[NAMES[OLD + i], name])
            truth.append(missing.loc[(NAMES[OLD + i], name), "mean"])
    spread = 1.0 if model == "categorical_fa" else float(again.data.values.nanmedian(0).values.std() + 1)
    return np.array(found, float), np.array(truth, float), spread


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("refit"))


TABLES = ["zip_mixture", "factor_analysis", "categorical_fa"]
LISTS = ["poisson_mf", "gaussian_mf"]


@pytest.mark.parametrize("model", TABLES)
def test_holes_are_filled_as_by_a_fit_with_these_rows(model, folder):
    found, truth, spread = of_table(model, folder)
    assert abs(found - truth).max() < BOUND * spread


@pytest.mark.parametrize("model", TABLES)
def test_columns_in_a_wrong_order_are_seen(model, folder):
    """Rows whose columns were mixed up differ by more than the bound: the law can fail."""
    found, truth, spread = of_table(
        model, folder, lambda new: new.set_axis([*"dcba"], axis=1)[[*"abcd"]].where(new.notna())
    )
    assert not abs(found - truth).max() < BOUND * spread


def test_clusters_are_those_of_a_fit_with_these_rows(folder):
    fit, again, new = fits("zip_mixture", folder)
    own = again.tables["clusters"].set_index("row").loc[new.index]
    scored = fit.assign(new)
    order = [int(each.aligned.means()["rate"][0, 0] > each.aligned.means()["rate"][1, 0]) for each in (fit, again)]
    mine, theirs = (table[f"probability[{k}]"].to_numpy() for table, k in zip((scored, own), order, strict=True))
    assert abs(mine - theirs).max() < BOUND


@pytest.mark.parametrize("model", ["factor_analysis", "categorical_fa"])
def test_factors_are_those_of_a_fit_with_these_rows(model, folder):
    fit, again, new = fits(model, folder)
    own = again.results.set_index("row" if "row" in again.results else again.results.columns[0]).loc[new.index]
    scored = fit.assign(new)
    mine, theirs = (table["factor[0]"].to_numpy(float) for table in (scored, own))
    sign = np.sign((mine * theirs).sum())
    assert abs(sign * mine - theirs).max() < BOUND
    assert abs(scored["factor_sd[0]"] - own["factor_sd[0]"].astype(float)).max() < BOUND


@pytest.mark.parametrize("model", LISTS)
def test_pairs_are_predicted_as_by_a_fit_with_these_rows(model, folder):
    """Scored means are averages over 100 draws of a row's factors: their Monte Carlo error is added to the bound."""
    fit, again, new = fits(model, folder)
    scored, refitted = fit.predict(new), again.predict(new[new["value"].isna()])
    spread = (refitted["upper_90"] - refitted["lower_90"]).to_numpy() / 3.29 + 1e-9
    gap = abs(scored["mean"].to_numpy() - refitted["mean"].to_numpy())
    assert len(gap) == 3 * NEW
    assert (gap < (BOUND + MONTE_CARLO) * spread).all()
    wrong = fit.predict(new.assign(value=3 * new["value"] + 5))
    assert not (abs(wrong["mean"].to_numpy() - refitted["mean"].to_numpy()) < (BOUND + MONTE_CARLO) * spread).all()
