"""New rows of a fit: the reader's own table back, with the right answers beside it."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from functools import cache

import numpy as np
import openpyxl
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy.special import gammaln

import pyrozoo
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.paths import PACKAGE
from pyrozoo.core.picture import Picture
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.survey import Survey
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.gaussian_mf import queries as ratings_queries
from pyrozoo.models.poisson_mf import queries as counts_queries
from tests.case import refused
from tests.command.test_command import run

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")
NAN = np.nan
QUIET = {"progress": False}
RNG = np.random.default_rng(3)
COUNTS = pd.DataFrame(
    np.concatenate([RNG.poisson([2, 9, 1], (15, 3)), RNG.poisson([8, 1, 5], (15, 3))]),
    columns=list("abc"),
    index=[f"s{i}" for i in range(30)],
)
MEASURED = pd.DataFrame(
    RNG.normal(size=(40, 1)) * [1.0, -2.0, 0.5] + RNG.normal(size=(40, 3)) * 0.4 + [3, 0, 10], columns=list("xyz")
)
ANSWERS = pd.DataFrame({"tea": ["yes", "no", "yes", None] * 10, "score": [1, 2, 3, 2] * 10, "sure": [True, False] * 20})
LIST = pd.DataFrame(
    [(100 + i, f"c{j}", int(RNG.integers(1, 9))) for i in range(20) for j in RNG.choice(8, 4, replace=False)],
    columns=["row", "column", "value"],
)
NEW = pd.DataFrame({"c": [1, 4, None], "site": ["x", "y", "z"], "a": [2, None, 9]}, index=["n1", "n2", "n3"])


@cache
def mixture():
    return pyrozoo.fit("zip_mixture", "em", data=COUNTS, num_components=2, **QUIET)


@cache
def factors():
    return pyrozoo.fit("factor_analysis", "em", data=MEASURED, num_factors=1, **QUIET)


@cache
def survey():
    return pyrozoo.fit("categorical_fa", "vem", data=ANSWERS, latent_dimension=1, max_iterations=20, **QUIET)


@cache
def listed(model: str):
    method = {"poisson_mf": "cavi", "gaussian_mf": "em"}[model]
    return pyrozoo.fit(model, method, data=LIST, num_factors=2, restarts=1, max_iterations=60, **QUIET)


LISTED = pytest.mark.parametrize("model", ["poisson_mf", "gaussian_mf"])


def have(frame: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(frame["row"].astype(str), frame["column"], strict=True))


# Tables ---------------------------------------------------------------------------------------------------------------


def responsibilities(fit, row: dict[str, float]) -> np.ndarray:
    """Return p(component | the counts of one row) by hand."""
    weight, on, rate = (fit.aligned[site][0, 0].numpy() for site in ("weights", "on_prob", "rate"))
    log = np.log(weight)
    for name, x in row.items():
        j = "abc".index(name)
        poisson = np.exp(x * np.log(rate[:, j]) - rate[:, j] - gammaln(x + 1))
        log = log + np.log(on[:, j] * poisson + (1 - on[:, j]) * (x == 0))
    found = np.exp(log - log.max())
    return found / found.sum()


def test_fitted_rows_as_new_ones_have_the_clusters_of_the_fits_own_table():
    fit = mixture()
    found = fit.assign(COUNTS[["c", "a", "b"]])
    own = fit.tables["clusters"].set_index("row")
    pd.testing.assert_frame_equal(found[own.columns], own, check_names=False, check_exact=True)
    assert list(found.columns) == ["c", "a", "b", "cluster", "probability", "probability[0]", "probability[1]"]
    assert (found["probability"] == found[["probability[0]", "probability[1]"]].max(axis=1)).all()


def test_clusters_and_counts_of_new_rows_are_those_by_hand():
    fit = mixture()
    found, filled = fit.assign(NEW), fit.predict(NEW)
    on, rate = (fit.aligned[site][0, 0].numpy() for site in ("on_prob", "rate"))
    for name, row in (("n1", {"a": 2, "c": 1}), ("n2", {"c": 4}), ("n3", {"a": 9})):
        p = responsibilities(fit, row)
        np.testing.assert_allclose(found.loc[name, ["probability[0]", "probability[1]"]].astype(float), p, rtol=1e-8)
        assert found.loc[name, "cluster"] == p.argmax()
        assert filled.loc[name, "b"] == pytest.approx(float((p * on[:, 1] * rate[:, 1]).sum()), rel=1e-8)
    assert found["site"].tolist() == ["x", "y", "z"]
    assert found.attrs["notes"] == [
        "not among the fit's columns, and left as they are: site",
        "columns that are not there, taken as missing: b",
    ]
    assert (filled["a_lower_90"] <= filled["a"]).all()
    assert filled.loc["n1", ["a", "a_lower_90", "a_upper_90"]].tolist() == [2, 2, 2], "what is known is known"
    assert not filled.drop(columns="site").isna().any().any()


def test_holes_are_filled_by_the_conditional_mean_of_a_normal():
    fit = factors()
    W, mu, noise = (fit.draws[site][0, 0].numpy() for site in ("loadings", "mean", "noise_variance"))
    S = W @ W.T + np.diag(noise)
    new = pd.DataFrame([[2.5, NAN, 10.5], [NAN, NAN, 9.0], [1.0, 2.0, 9.5]], columns=list("xyz"), index=[7, 3, 9])
    filled, found = fit.fill(new), fit.predict(new[["z", "y", "x"]])
    for row, hole, seen in ((7, [1], [0, 2]), (3, [0, 1], [2])):
        K = S[np.ix_(hole, seen)] @ np.linalg.inv(S[np.ix_(seen, seen)])
        mean = mu[hole] + K @ (new.loc[row].to_numpy()[seen] - mu[seen])
        sd = np.sqrt(np.diag(S[np.ix_(hole, hole)] - K @ S[np.ix_(seen, hole)]))
        names = [list("xyz")[j] for j in hole]
        np.testing.assert_allclose(filled.loc[row, names].astype(float), mean, rtol=1e-9)
        np.testing.assert_allclose(found.loc[row, names].astype(float), mean, rtol=1e-9)
        for end, z in (("lower_90", -1.6448536), ("upper_90", 1.6448536)):
            np.testing.assert_allclose(
                found.loc[row, [f"{n}_{end}" for n in names]].astype(float), mean + z * sd, rtol=1e-6
            )
    pd.testing.assert_series_equal(filled.loc[9], new.loc[9])
    assert list(found.columns) == ["z", "y", "x", "x_lower_90", "x_upper_90", "y_lower_90", "y_upper_90"]
    assert filled.index.tolist() == [7, 3, 9]


def test_types_are_kept():
    whole = mixture().fill(NEW.assign(a=NEW["a"].astype("Int64")))
    assert whole["a"].dtype == np.int64
    assert whole["c"].dtype == np.float64
    new = pd.DataFrame({"score": [1, None, 3], "sure": [True, None, False], "tea": pd.Categorical([None, "no", "no"])})
    filled = survey().fill(new)
    assert filled["score"].dtype == np.float64, "as pandas reads whole numbers with holes"
    assert filled["sure"].dtype == bool
    assert filled["tea"].dtype == "category"
    assert filled["tea"].tolist() == ["yes", "no", "no"]
    assert survey().fill(new[["sure"]])["score"].dtype == np.int64


def test_answers_are_those_of_new_rows_in_a_fits_own_table():
    new = pd.DataFrame({"sure": [True, None, False], "tea": [None, "no", "yes"], "score": [1, None, 3]})
    fit = pyrozoo.fit(
        "categorical_fa", "vem", data=ANSWERS, test=new[["tea", "score", "sure"]], latent_dimension=1,
        max_iterations=20, **QUIET,
    )  # fmt: skip
    found, table = survey().predict(new), fit.tables["test_missing"]
    assert len(table) == 3
    for line in table.itertuples():
        row = int(line.row)
        assert str(found.loc[row, line.column]).removesuffix(".0") == line.answer
        assert found.loc[row, f"{line.column}_probability"] == pytest.approx(line.probability, rel=1e-9)
    shares = found[[f"probability[score={k}]" for k in (1, 2, 3)]]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares.loc[0].tolist() == [1, 0, 0]


def test_all_problems_are_named_at_once():
    new = pd.DataFrame({"tea": ["purple", "no", "yes"], "score": [1, 9, "few"]}, index=["r", "s", "t"])
    assert refused(DataError, survey().predict, new) == (
        "the new rows: row 'r', column 'tea': 'purple' is a category never seen in training; it knows no, yes; "
        "row 's', column 'score': '9' is a category never seen in training; it knows 1, 2, 3; "
        "row 't', column 'score': 'few' is a category never seen in training; it knows 1, 2, 3"
    )
    wrong = refused(DataError, mixture().assign, pd.DataFrame({"a": ["x", "2"], "b": ["y", "-"]}))
    assert wrong == (
        "the new rows: row '0', column 'a': 'x' is not a number; row '0', column 'b': 'y' is not a number; "
        "row '1', column 'b': '-' is not a number"
    )
    assert "-1 is negative" in refused(DataError, mixture().assign, pd.DataFrame({"a": [-1]}))
    none = refused(DataError, mixture().assign, pd.DataFrame({"q": [1]}))
    assert none == "the new rows: none of the columns of the fit is there (a, b, c); there are q"
    assert "there are no rows" in refused(DataError, mixture().assign, NEW[:0])
    assert "2 columns where the fit has 3" in refused(DataError, mixture().assign, np.ones((4, 2)))


def test_arrays_and_containers_are_taken_as_tables():
    fit, array = mixture(), COUNTS.to_numpy(dtype=float)
    known = fit.assign(COUNTS)["probability[0]"].to_numpy()
    for new in (array, torch.tensor(array), pyrozoo.Table.of(COUNTS), fit.data):
        np.testing.assert_array_equal(fit.assign(new)["probability[0]"], known)
    np.testing.assert_array_equal(fit.assign(COUNTS.iloc[3])["probability[0]"], known[3:4])


def test_what_a_model_does_not_answer_is_one_line():
    assert "recommends nothing" in refused(NotApplicable, factors().recommend, MEASURED)
    image = pyrozoo.fit("potts_grid", "icm", data=np.array([[0, 1], [1, 1]]), **QUIET)
    assert "there are no rows" in refused(NotApplicable, image.predict, np.array([[0, 1]]))


def test_factors_of_fitted_rows_as_new_ones_are_those_of_the_fits_own_table():
    for fit, table, own in ((factors(), MEASURED, "factors"), (survey(), ANSWERS, "scores")):
        found, known = fit.assign(table), fit.tables[own]
        np.testing.assert_allclose(found["factor[0]"], known["mean[0]"], rtol=1e-9)
        np.testing.assert_allclose(found["factor_sd[0]"], known["sd[0]"], rtol=1e-9)
        assert list(found.columns) == [*table.columns, "factor[0]", "factor_sd[0]"]


def test_a_program_without_components_and_factors_says_so():
    model = example("gaussian_mixture").GaussianMixture()
    fit = pyrozoo.fit(model, "laplace", data=MEASURED[["x", "y"]], draws=10, restarts=1, **QUIET)
    assert refused(NotApplicable, fit.assign, MEASURED) == (
        "gaussian_mixture has neither components nor factors to assign rows to"
    )


# Files of new rows ----------------------------------------------------------------------------------------------------


def test_a_file_of_new_rows_is_read_as_the_fitted_one(tmp_path):
    """Units in its names, a decimal comma, codes of missing cells, turned round, another format: the same answers."""
    named = MEASURED.round(3).rename(columns={"x": "x [kg]", "y": "y (m)"})
    fit = pyrozoo.fit("factor_analysis", "em", data=named, num_factors=1, missing=["-", -99], **QUIET)
    new = MEASURED.round(3).head(4).astype(object)
    new.loc[1, "y"], new.loc[2, "z"] = "-", -99
    known = fit.predict(new.replace({"-": NAN, -99: NAN}).astype(float))
    new.to_csv(tmp_path / "new.csv", sep=";", index=False)
    text = (tmp_path / "new.csv").read_text().replace(".", ",")
    (tmp_path / "new.csv").write_text(text)
    new.to_excel(tmp_path / "new.xlsx", index=False)
    new.T.to_csv(tmp_path / "turned.csv", header=["a", "b", "c", "d"])
    for found in (
        fit.predict(tmp_path / "new.csv"), fit.predict(tmp_path / "new.xlsx"),
        fit.predict(tmp_path / "turned.csv", transpose=True),
    ):  # fmt: skip
        for name in known:
            np.testing.assert_allclose(found[name].astype(float), known[name], rtol=1e-9)


def test_labels_of_a_statistics_file_are_numbers_where_numbers_are_needed(tmp_path):
    import pyreadstat

    labels = {name: {0.0: "none", 1.0: "one", 2.0: "two", 9.0: "many"} for name in ("a", "b")}
    counts = pd.DataFrame(RNG.choice([0.0, 1.0, 2.0, 9.0], (20, 2)), columns=["a", "b"])
    pyreadstat.write_sav(counts, str(tmp_path / "old.sav"), variable_value_labels=labels)
    pyreadstat.write_sav(counts.head(5), str(tmp_path / "new.sav"), variable_value_labels=labels)
    fit = pyrozoo.fit("zip_mixture", "em", data=tmp_path / "old.sav", num_components=2, **QUIET)
    np.testing.assert_array_equal(fit.data.values, counts)
    found = fit.assign(tmp_path / "new.sav")
    assert found["cluster"].tolist() == fit.tables["clusters"]["cluster"].tolist()[:5]
    assert set(found["a"]) <= set(labels["a"].values()), "their own cells"


def test_codes_of_missing_answers_are_holes_of_new_rows_too():
    coded = pd.DataFrame({"p": [1, 2, -9, 2] * 8, "q": [0, 1, 1, 0] * 8})
    fit = pyrozoo.fit("categorical_fa", "vem", data=coded, missing=[-9], latent_dimension=1, max_iterations=5, **QUIET)
    found = fit.predict(pd.DataFrame({"p": [-9, 1], "q": [1, -9]}))
    assert found["p"].isin([1, 2]).all()
    assert found["q"].isin([0, 1]).all()


def test_new_texts_get_topics(tmp_path):
    for folder, texts in (("old", ["cat dog cat", "dog dog", "sun moon", "moon sun sun"]), ("new", ["cat sun bird"])):
        (tmp_path / folder).mkdir()
        for i, text in enumerate(texts):
            (tmp_path / folder / f"{folder}{i}.txt").write_text(text)
    settings = {"num_factors": 2, "restarts": 1, "max_iterations": 20, **QUIET}
    fit = pyrozoo.fit("poisson_mf", "cavi", data=tmp_path / "old", **settings)
    found = fit.assign(tmp_path / "new")
    assert found["row"].tolist() == ["new0"]
    assert list(found.columns) == ["row", "factor[0]", "factor[1]", "factor_sd[0]", "factor_sd[1]"]
    assert found.attrs["notes"] == ["not among the fit's columns, lines left out: bird"]


def test_a_column_of_labels_of_fitted_rows_names_new_ones():
    counts = COUNTS.rename_axis("site").reset_index()
    fit = pyrozoo.fit("poisson_mf", "cavi", data=counts, num_factors=1, restarts=1, max_iterations=9, **QUIET)
    found = fit.recommend(counts.head(3).assign(a=0))
    assert not have(found) & {(f"s{i}", name) for i in range(3) for name in "bc" if counts[name][i] > 0}
    assert "have labels of fitted rows ('s0', 's1', 's2')" in found.attrs["notes"][-1]


def test_an_exposure_is_asked_for():
    counts = COUNTS.assign(hours=np.linspace(1, 2, 30))
    fit = pyrozoo.fit("zip_mixture", "em", data=counts, num_components=2, exposure="hours", **QUIET)
    same = fit.assign(counts.head(4))
    own = fit.tables["clusters"].set_index("row").loc[same.index]
    np.testing.assert_allclose(same["probability[0]"], own["probability[0]"], rtol=1e-9)
    assert "they have no column 'hours': type data.exposure=COLUMN" in refused(DataError, fit.assign, COUNTS)
    renamed = fit.assign(counts.head(4).rename(columns={"hours": "time"}), exposure="time")
    np.testing.assert_array_equal(renamed["probability[0]"], same["probability[0]"])


# Lists ----------------------------------------------------------------------------------------------------------------


@LISTED
def test_nobody_is_recommended_what_they_have(model):
    fit, old = listed(model), have(LIST)
    assert not have(fit.recommend(count=9)) & old
    assert not have(fit.recommend([103, "104"], count=9)) & old
    new = pd.DataFrame({"row": [103, 103, 999], "column": ["c0", "c1", "c2"], "value": [2, 3, 4]})
    found = fit.recommend(new, count=9)
    assert not have(found) & (old | have(new))
    assert found["row"].unique().tolist() == [103, 999]
    assert len(found) == 8 - len({c for r, c in old | have(new) if r == "103"}) + 7, "all that is left"
    assert found.groupby("row")["rank"].apply(list).map(lambda ranks: ranks == [*range(1, len(ranks) + 1)]).all()
    assert "1 of 2 new rows have labels of fitted rows ('103')" in found.attrs["notes"][0]


@LISTED
def test_fitted_rows_as_new_ones_are_recommended_what_the_fits_own_table_says(model):
    fit = listed(model)
    new = LIST[LIST["row"].isin([105, 111])]
    own = fit.tables["recommendations"]
    for found in (fit.recommend(new), fit.recommend([105, 111])):
        own_rows = own[own["row"].isin(["105", "111"])]
        assert list(zip(found["row"].astype(str), found["column"], strict=True)) == (
            list(zip(own_rows["row"], own_rows["column"], strict=True))
        )
        np.testing.assert_allclose(found["mean"], own_rows["mean"], rtol=1e-12)


@LISTED
def test_pairs_of_fitted_rows_are_predicted_by_their_own_factors(model):
    fit = listed(model)
    pairs = pd.DataFrame({"row": [100, 119], "column": ["c3", "c7"], "when": ["may", "june"]}, index=[5, 9])
    found = fit.predict(pairs)
    data, d = fit.data, fit.draws
    i, j = [data.row_labels.index(r) for r in ("100", "119")], [data.column_labels.index(c) for c in ("c3", "c7")]
    mean = (d["row_factors"][..., i, :] * d["column_factors"][..., j, :]).sum(-1)
    if model == "gaussian_mf":
        mean = mean + d["mean"].unsqueeze(-1) + d["row_offsets"][..., i] + d["column_offsets"][..., j]
    np.testing.assert_allclose(found["mean"], mean.mean((0, 1)), rtol=1e-9)
    assert found.index.tolist() == [5, 9]
    assert list(found.columns) == ["row", "column", "when", "mean", "lower_90", "upper_90"]
    assert found["when"].tolist() == ["may", "june"]


@LISTED
def test_unseen_columns_of_a_list_are_left_out_with_a_note(model):
    new = pd.DataFrame({"row": ["v", "v", "w"], "column": ["c1", "what", "c2"], "value": [3, 1, NAN]})
    found = listed(model).predict(new)
    assert have(found) == {("w", "c2")}
    assert found.attrs["notes"][0] == "not among the fit's columns, lines left out: what"
    message = refused(DataError, listed(model).predict, pd.DataFrame({"row": ["v"], "column": ["what"]}))
    assert message == "the new rows: no line names a column that the fit has"
    twice = refused(DataError, listed("gaussian_mf").predict, pd.concat([new, new]))
    assert "row 'v', column 'c1' is listed 2 times" in twice


@LISTED
def test_a_matrix_of_a_list_is_filled(model):
    fit = listed(model)
    matrix = LIST.pivot(index="row", columns="column", values="value").loc[[101, 102]]
    found = fit.predict(matrix)
    assert not found.isna().any().any()
    seen = matrix.notna()
    np.testing.assert_array_equal(found[matrix.columns].where(seen), matrix)
    hole = matrix.columns[matrix.loc[101].isna()][0]
    pair = fit.predict(pd.DataFrame({"row": [101], "column": [hole]}))
    assert found.loc[101, hole] == pytest.approx(float(pair["mean"].iloc[0]), rel=1e-9)


@LISTED
def test_a_row_of_which_nothing_is_known_is_predicted_by_the_columns(model):
    """Without a warning, by the prior of a row: there is nothing else to go by."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = listed(model).predict(pd.DataFrame({"row": ["new"] * 8, "column": [f"c{j}" for j in range(8)]}))
    model, d = listed(model).model, listed(model).draws
    V = d["column_factors"].flatten(0, 1)[:100]
    if model.name == "poisson_mf":
        rate = model.row_shape / model.row_rate
        mean, variance = rate * V.sum(-1).mean(0), rate / model.row_rate * V.square().sum(-1).mean(0)
    else:
        mean = (d["mean"].unsqueeze(-1) + d["column_offsets"]).flatten(0, 1).mean(0)
        variance = model.row_factor_variance * V.square().sum(-1).mean(0) + model.offset_variance
    error = variance.sqrt() / 10  # of the mean of 100 draws
    assert (abs(found["mean"].to_numpy() - mean.numpy()) < 4 * error.numpy()).all()
    assert (found["upper_90"] - found["lower_90"] > 20 * error.numpy()).all(), "a point, too, is unsure of a new row"


@LISTED
def test_rows_of_a_list_have_a_line_each_with_factors(model):
    fit = listed(model)
    new = pd.DataFrame({"row": [999, 999, 998], "column": ["c0", "c1", "c2"], "value": [2, 3, 4]})
    found = fit.assign(new)
    assert found["row"].tolist() == [999, 998]
    assert {"factor[0]", "factor[1]", "factor_sd[0]", "factor_sd[1]"} <= set(found.columns)
    assert not found.isna().any().any()
    assert (found[["factor_sd[0]", "factor_sd[1]"]] > 0).all().all()
    some = LIST[LIST["row"].isin([103, 107])]
    known, own = fit.assign(some), fit.aligned.means()["row_factors"][[fit.data.row_labels.index("103")]]
    if fit.kind == "variational":  # of a point rows are folded in again: it says nothing of how sure it is
        np.testing.assert_allclose(known.loc[0, ["factor[0]", "factor[1]"]].astype(float), own[0], rtol=1e-9)
    else:
        sd = known.loc[0, ["factor_sd[0]", "factor_sd[1]"]].to_numpy(float)
        assert (abs(known.loc[0, ["factor[0]", "factor[1]"]].to_numpy(float) - own[0].numpy()) < 0.5 * sd).all()


def test_labels_that_no_fitted_row_has_are_named_at_once():
    assert refused(DataError, listed("gaussian_mf").recommend, ["100", "5", "nobody"]) == (
        "no fitted row is called '5', 'nobody'"
    )
    assert "count is 0" in refused(SettingError, listed("gaussian_mf").recommend, 100, 0)


def test_nothing_left_to_recommend_is_no_mistake():
    full = pd.DataFrame(np.arange(1, 25).reshape(6, 4), columns=list("abcd"))
    for model, method in (("poisson_mf", "cavi"), ("gaussian_mf", "em")):
        fit = pyrozoo.fit(model, method, data=full, num_factors=1, restarts=1, max_iterations=5, **QUIET)
        assert fit.recommend([0, 1]).empty
        assert fit.recommend(full.head(2)).empty


@pytest.mark.parametrize(
    ("queries", "kind", "model"), [(counts_queries, Triplets, "poisson_mf"), (ratings_queries, Ratings, "gaussian_mf")]
)
def test_new_rows_of_ones_own_are_folded_in_whatever_columns_they_list(queries, kind, model):
    fit = listed(model)
    new = kind.of_columns(["v", "w", "v"], ["c5", "c2", "c1"], [4, 2, 3])
    assert new.shape == (2, 3)
    draws = queries.fold_in(fit.posterior, fit.draws, new)
    assert draws["row_factors"].shape[2:] == (2, 2)
    again = queries.fold_in(fit.posterior, fit.draws, fit.data.with_test(new).test)
    assert torch.equal(draws["row_factors"], again["row_factors"])


@LISTED
def test_test_rows_with_labels_of_fitted_rows_are_these(model):
    """What the fit has of them is theirs, too, whatever else the new rows list; what was held out is not told."""
    test = pd.DataFrame({"row": [100, 100, 7], "column": ["c0", "c1", "c2"], "value": [2, 3, 4]})
    fit = pyrozoo.fit(
        model, "cavi", data=LIST, test=test, num_factors=2, restarts=1, max_iterations=5, draws=20, **QUIET
    )  # fmt: skip
    assert not have(fit.tables["test_recommendations"]) & (have(LIST) | have(test))
    said = "1 of 2 new rows have labels of fitted rows ('100'): what the fit has of these is theirs, too"
    assert said in fit.data.notes
    whole = pd.DataFrame(RNG.poisson(0.7, (12, 9)) * 1.0, columns=[f"c{j}" for j in range(9)])
    fit = pyrozoo.fit(
        model, "cavi", data=whole, test=whole.head(5), holdout=0.2, num_factors=2, restarts=1, max_iterations=5,
        draws=20, **QUIET,
    )  # fmt: skip
    names = {(str(i), f"c{j}") for i, j in np.argwhere(whole.to_numpy() > 0)}
    assert not have(fit.tables["test_recommendations"]) & names
    found = fit.recommend(whole.head(5))  # whose cells are those of the fit and the held-out ones
    assert "the new rows have labels of fitted rows ('0', '1', '2', ...)" in found.attrs["notes"][0]
    assert not have(found) & names


def test_rows_that_only_numbers_name_are_known_by_their_cells():
    """A frame whose rows are numbered from 0 again holds other rows, unless they are the same."""
    frame = pd.DataFrame([[1.0, 0, 2], [0, 3, 0], [4, 0, 0]], columns=list("abc"))
    data = Triplets.of(frame)
    assert data.with_test(Triplets.of(frame.iloc[:2])).notes[0].startswith("the new rows have labels of fitted rows")
    others = data.with_test(Triplets.of(frame.iloc[1:].reset_index(drop=True)))
    assert others.notes == ()
    assert len(others.test.values) == 2
    named = frame.set_axis(["u", "v", "w"])
    known = Triplets.of(named).with_test(Triplets.of(pd.DataFrame([[0, 5.0, 0]], columns=list("abc"), index=["u"])))
    assert known.test.values.tolist() == [[0, 0, 1], [0, 1, 5], [0, 2, 2]]


def test_new_rows_of_a_table_that_are_fitted_are_noted():
    said = "; figures of them are not of rows that the fit has not seen"
    table = pyrozoo.Table.of(COUNTS)
    notes = table.with_test(pyrozoo.Table.of(COUNTS.iloc[[3, 5]].rename({"s5": "t"}))).notes
    assert notes == ("1 of 2 new rows have labels of fitted rows ('s3')" + said,)
    numbered = pyrozoo.Table.of(COUNTS.reset_index(drop=True))
    same, others = (pyrozoo.Table.of(COUNTS.iloc[at].reset_index(drop=True)) for at in (slice(2), slice(1, 3)))
    assert numbered.with_test(same).notes == ("the new rows have labels of fitted rows ('0', '1')" + said,)
    assert numbered.with_test(others).notes == ()
    survey = Survey.of(ANSWERS)
    assert len(survey.with_test(Survey.of(ANSWERS.head(4))).notes) == 1
    assert survey.with_test(Survey.of(ANSWERS.iloc[1:5].reset_index(drop=True))).notes == ()


# Programs of one's own ------------------------------------------------------------------------------------------------


def example(name: str):
    path = PACKAGE.parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"scored_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_new_rows_of_a_program_are_predicted_given_what_is_known_of_them():
    two = pd.DataFrame(np.concatenate([RNG.normal(0, 1, (20, 2)), RNG.normal(9, 1, (20, 2))]), columns=["u", "v"])
    model = example("gaussian_mixture").GaussianMixture()
    fit = pyrozoo.fit(model, "laplace", data=two, draws=50, restarts=2, **QUIET)
    found = fit.predict(pd.DataFrame({"v": [9.0, 0.0], "u": [None, None]}))
    np.testing.assert_allclose(found["u"], two.groupby(np.arange(40) < 20)["u"].mean(), atol=0.3)
    assert (found["u_upper_90"] - found["u_lower_90"] < 5).all()


def test_a_program_whose_rows_have_parameters_says_so():
    import pyro
    import pyro.distributions as dist

    class Rows(pyrozoo.Model):
        def __call__(self, data: pyrozoo.Table) -> None:
            with pyro.plate("row", data.shape[0], dim=-2):
                level = pyro.sample("level", dist.Normal(0.0, 3.0))
                with pyro.plate("column", data.shape[1], dim=-1), pyro.poutine.mask(mask=data.observed):
                    pyro.sample("x", dist.Normal(level, 1.0), obs=data.filled)

    Rows.__call__.__annotations__["data"] = pyrozoo.Table
    fit = pyrozoo.fit(Rows(), "laplace", data=MEASURED[:5], draws=5, restarts=1, **QUIET)
    assert refused(NotApplicable, fit.predict, MEASURED[:5]) == (
        "rows gives every row parameters of its own (level): fit new rows with it"
    )


# Files and the command ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Save fits once, without pictures."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyrozoo.store.run_directory.pictures_of", lambda *_, **__: [Picture("none", "", Figure())])
        for name, fit in (("run", mixture()), ("lists", listed("gaussian_mf")), ("normal", factors())):
            fit.save(folder / name)
    return folder


@pytest.fixture
def saved(here, runs):
    for each in runs.iterdir():
        (here / each.name).symlink_to(each)
    NEW.to_csv(here / "new.csv")
    return here


def test_a_saved_fit_answers_to_the_bit(saved):
    again, lists = pyrozoo.load(saved / "run"), pyrozoo.load(saved / "lists")
    for what in ("predict", "fill", "assign"):
        exact = getattr(mixture(), what)(NEW)
        pd.testing.assert_frame_equal(getattr(again, what)(NEW), exact, check_exact=True)
        pd.testing.assert_frame_equal(pyrozoo.score(saved / "run", NEW, answer=what), exact, check_exact=True)
    new = pd.DataFrame({"row": [103, 999], "column": ["c0", "c2"], "value": [2, 4]})
    exact = listed("gaussian_mf").recommend(new)
    pd.testing.assert_frame_equal(lists.recommend(new), exact, check_exact=True)
    pd.testing.assert_frame_equal(pyrozoo.score(saved / "lists", new), exact, check_exact=True)


def test_files_are_read_and_written_as_tables(saved):
    exact = mixture().predict(NEW).join(mixture().assign(NEW).iloc[:, 3:])
    for ending in ("csv", "tsv", "xlsx", "parquet"):
        out = saved / f"scored.{ending}"
        pyrozoo.score("run", "new.csv", out)
        found = {"csv": pd.read_csv, "tsv": pd.read_table, "xlsx": pd.read_excel, "parquet": pd.read_parquet}[ending](
            out
        )
        assert list(found.columns) == ["row", *exact.columns]
        assert found["row"].tolist() == ["n1", "n2", "n3"]
        assert found["b"].tolist() == [float(f"{value:.4g}") for value in exact["b"]], "four digits"
        assert found["probability"].tolist() == exact["probability"].round(4).tolist()
    for ending, write in (("xlsx", NEW.to_excel), ("parquet", NEW.to_parquet)):
        write(saved / f"new.{ending}")
        pd.testing.assert_frame_equal(
            pyrozoo.score("run", f"new.{ending}", answer="assign").iloc[:, -4:],
            mixture().assign(NEW).iloc[:, -4:], check_names=False, check_exact=True, check_index_type=False,
        )  # fmt: skip
    lines = (saved / "scored.csv").read_text().splitlines()
    assert lines[1].startswith("n1,1,x,2,"), "whole numbers are written as such"
    assert "must end in .csv" in refused(SettingError, pyrozoo.score, "run", "new.csv", "scored.doc")


def test_own_figures_keep_their_digits(saved):
    new = pd.DataFrame({"x": [1234.56789, NAN], "y": [1.0, 2.0], "z": [10.0, 10.0]})
    found = pyrozoo.score("normal", new, "out.csv")
    assert found["x"][0] == 1234.56789
    assert found["x"][1] == float(f"{found['x'][1]:.4g}")
    assert {"factor[0]", "factor_sd[0]"} <= set(found.columns)


def test_labels_are_text_in_a_spreadsheet(saved):
    odd = ["=1+1", "+1", "-1", "@x", "=cmd|' /C calc'!A0", "tab\x07"]
    pyrozoo.score("run", pd.DataFrame({"a": [1] * 6, "=b": odd}, index=odd), "out.xlsx", answer="assign")
    sheet = openpyxl.load_workbook("out.xlsx").active
    lines = list(sheet.iter_rows())
    assert [cell.data_type for line in lines for cell in line].count("f") == 0
    assert [line[0].value for line in lines[1:]] == [*odd[:5], "tab"]
    assert lines[0][2].value == "=b"


def test_the_command(saved, capsys):
    code, out, err = run(capsys, "score=run", "data.path=new.csv", "output=mine.xlsx")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "3 rows",
        "  note  not among the fit's columns, and left as they are: site",
        "  note  columns that are not there, taken as missing: b",
        "  mine.xlsx",
    ]
    assert len(pd.read_excel("mine.xlsx")) == 3
    code, _, _ = run(capsys, "score=lists", "answer=recommend", "count=2")
    assert code == 0
    assert pd.read_csv("scored.csv").groupby("row").size().eq(2).all()
    for typed, said in (
        (["score=nowhere", "data.path=new.csv"], "score=nowhere is not a finished run directory (no metrics.json)"),
        (["score=run"], "score run=RUN_DIRECTORY needs data=FILE: the new rows, laid out as the fitted data"),
        (["score=run", "data.path=no.csv"], "data.path: there is no file no.csv"),
        (
            ["score=run", "data.path=new.csv", "output=x.doc"],
            "output=x.doc: its name must end in .csv, .tsv, .xlsx, .parquet",
        ),
        (
            ["score=run", "data.path=new.csv", "answer=recommend"],
            "zip_mixture recommends nothing: poisson_mf and gaussian_mf do",
        ),
    ):
        assert run(capsys, *typed) == (2, "", f"pyrozoo: {said}\n")
    code, _, err = run(capsys, "score=run", "data.path=new.csv", "inference=em")
    assert code == 2
    assert "inference=em: score run=RUN_DIRECTORY takes no such setting" in err
