"""What people read of a fit, held to known draws: tables, baselines and predictions worked out by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.minibatches import minibatches
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.view import view_of
from pyrozoo.core.draws import Draws
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.container import Hidden
from pyrozoo.data.documents import Documents
from pyrozoo.data.grid import Grid
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.responses import Responses
from pyrozoo.data.sequences import Sequences
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.categorical_fa import mc_em, synthesis
from pyrozoo.models.categorical_fa.laplace_em import Solver as LaplaceEM
from pyrozoo.models.categorical_fa.maximisation import log_prior
from pyrozoo.models.categorical_fa.queries import response, scores
from pyrozoo.models.categorical_fa.synthesis import marginal_tv, synthesize
from pyrozoo.models.factor_analysis.queries import cells
from pyrozoo.models.factor_analysis.view import _shares
from pyrozoo.models.gaussian_mf import queries as ratings
from pyrozoo.models.gaussian_mf.view import _baseline
from pyrozoo.models.logistic_regression.model import LogisticRegression
from pyrozoo.models.logistic_regression.view import _ends
from pyrozoo.models.poisson_mf import queries as counts
from pyrozoo.models.poisson_mf import view as counts_view
from pyrozoo.models.poisson_mf.stochastic_cavi import Solver as StochasticCAVI
from pyrozoo.models.potts_grid.exact import Solver as Exact
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.messages import Passing, State
from pyrozoo.models.potts_grid.model import PottsGrid
from pyrozoo.models.topics import queries as topics
from tests.case import case
from tests.models.test_categorical_fa import make

NAN = math.nan
pytestmark = pytest.mark.usefixtures("unchecked")


def tensor(values: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)


def fit_of(model: Any, data: Any, kind: str = "samples", **sites: Any) -> Fit:
    """Return a fit with these draws, [draw, *event], in one chain."""
    draws = Draws({site: torch.as_tensor(np.asarray(value))[None] for site, value in sites.items()})
    trace = pd.DataFrame({"iteration": [], "chain": [], "objective": [], "seconds": []})
    return Fit(Posterior.of(model, data), "by_hand", kind, draws, trace, trace.iloc[:, :3], "completed", "log_joint",
               0.0, 1, 1.0, 0)  # fmt: skip


def mixture(**changes: Any) -> Fit:
    """Return a mixture of three columns with two components, of which the first has 3/4 of the rows."""
    model = dataclasses.replace(case("zip_mixture").model, num_components=2, weight_concentration=1.5)
    data = Table.of(pd.DataFrame([[1, 0, 7], [0, 4, 2]], index=["x", "y"], columns=["a", "b", "c"]))
    on, rate = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    return fit_of(model, dataclasses.replace(data, **changes), weights=[[0.75, 0.25]], on_prob=[on], rate=[rate])


def test_profiles_of_components_have_the_labels_of_their_columns():
    table = view_of(mixture().model).tables(mixture())["components"].sort_values("weight", ascending=False)
    assert table["weight"].tolist() == [0.75, 0.25]
    for name, values in {
        "on_prob[a]": [0.1, 0.4],
        "on_prob[c]": [0.3, 0.6],
        "rate[a]": [1, 4],
        "rate[b]": [2, 5],
    }.items():
        assert table[name].tolist() == values, name


def test_the_naive_mean_is_of_what_test_rows_show():
    """1, 3 and 2, 4 are seen, 5 is hidden, one is missing: mean 2.5, so the naive error is 2.5."""
    test = Table.of(pd.DataFrame([[1, 5, 3], [2, 4, NAN]], columns=["a", "b", "c"]))
    test = test.hide(torch.tensor([0]), torch.tensor([1]))
    found = view_of(mixture().model).metrics(mixture(test=test))
    assert found["naive_rmse"] == pytest.approx(2.5)
    assert found["completion_rmse"] > 0
    assert view_of(mixture().model).metrics(mixture()) == {}
    exposed = dataclasses.replace(test, exposure=tensor([2.0, 1.0]))
    fit = mixture(test=exposed, exposure=tensor([1.0, 1.0]))
    # 10 counts in 2 * 2 + 2 * 1 = 6 units of exposure, of which the hidden cell has 2.
    assert view_of(fit.model).metrics(fit)["naive_rmse"] == pytest.approx(5 - 2 * 10 / 6)


def test_the_clusters_of_rows_are_bayes_rule():
    """(0, 4, 2): the ratio of both components' densities, cell by cell."""
    fit = mixture()
    table = view_of(fit.model).tables(fit)["clusters"].set_index("row")
    on, rate, w = (fit.draws[site][0, 0].numpy() for site in ("on_prob", "rate", "weights"))
    for row, x in {"x": (1, 0, 7), "y": (0, 4, 2)}.items():
        joint = []
        for k in range(2):
            cells = [on[k, d] * math.exp(-rate[k, d]) * rate[k, d] ** n / math.factorial(n) + (1 - on[k, d]) * (n == 0)
                     for d, n in enumerate(x)]  # fmt: skip
            joint.append(w[k] * math.prod(cells))
        # Labels of components may change places.
        share = sorted(np.divide(joint, sum(joint)))
        assert sorted(table.loc[row, ["probability[0]", "probability[1]"]]) == pytest.approx(share)
        assert table.loc[row, f"probability[{int(table.loc[row, 'cluster'])}]"] == pytest.approx(share[1])


def test_synthetic_rows_come_in_chunks_and_are_as_many_as_asked(monkeypatch):
    model, data = make(1), Survey.of(pd.DataFrame({"a": ["x", "y", "x"], "b": ["p", "p", "q"]}))
    fit = fit_of(model, data, loadings=[[[1.0], [0.5]]], intercepts=[[0.0, 0.0]])
    monkeypatch.setattr(synthesis, "CHUNK", 4)
    assert [len(rows) for rows in synthesis.synthesize(fit, 10)] == [4, 4, 2]


def test_noise_and_communality_of_columns():
    """Loadings 3 and 4 with noise variances 16 and 9, then 16 and 1: sd 4 and mean 2, communality means of two."""
    model = dataclasses.replace(case("factor_analysis").model, num_factors=1, mean_precision=0.1, noise_scale=1.0)
    data = Table.of(pd.DataFrame(np.arange(8.0).reshape(4, 2) % 3, columns=["a", "b"]))
    fit = fit_of(model, data, loadings=[[[3.0], [4.0]]] * 2, mean=[[1.0, 2.0], [3.0, 6.0]],
                 noise_variance=[[16.0, 9.0], [16.0, 1.0]])  # fmt: skip
    table = view_of(model).tables(fit)["loadings"].set_index("column")
    assert table["mean"].tolist() == [2, 4]
    assert table["noise_sd"].tolist() == [4, 2]
    assert table["communality"].tolist() == pytest.approx([9 / 25, (16 / 25 + 16 / 17) / 2])
    assert np.abs(table["factor[0]"]).tolist() == pytest.approx([3, 4])


def test_each_factor_s_share_of_the_variance():
    """Loadings (3, 0) and (0, 4), noise 16 and 9: 9 and 16 of 50."""
    model = dataclasses.replace(case("factor_analysis").model, num_factors=2, mean_precision=0.1, noise_scale=1.0)
    data = Table.of(np.arange(8.0).reshape(4, 2) % 3)
    fit = fit_of(model, data, loadings=[[[3.0, 0.0], [0.0, 4.0]]], mean=[[0.0, 0.0]], noise_variance=[[16.0, 9.0]])
    assert sorted(_shares(fit)) == pytest.approx([9 / 50, 16 / 50])


ETA, THETA = tensor([[0.5, 0.2], [0.3, 0.2], [0.2, 0.6]]), tensor([[1.0, 3.0], [1.0, 1.0]])
LISTED = Triplets.of_columns(["r", "r", "s"], ["a", "b", "c"], [1, 2, 3])


def test_genres_have_share_weight_and_lift():
    """Factors expect 2 and 4 of all 6; the columns 1.8, 1.4 and 2.8 of them."""
    mean = {"row_factors": THETA, "column_factors": ETA}
    table = counts.genres(mean, LISTED, 2)
    assert table["factor"].tolist() == [0, 0, 1, 1]
    assert table["rank"].tolist() == [1, 2, 1, 2]
    assert table["share"].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert table["column"].tolist() == ["a", "b", "c", "a"]
    assert table["weight"].tolist() == pytest.approx([0.5, 0.3, 0.6, 0.2])
    assert table["lift"].tolist() == pytest.approx([0.5 / 0.3, 0.3 / (1.4 / 6), 0.6 / (2.8 / 6), 0.2 / 0.3])


def test_similar_columns_are_near_in_what_factors_expect_of_them():
    """(1, 0.8), (0.6, 0.8) and (0.4, 2.4), what factors expect: cosines of these, the columns with most first."""
    table = counts.similar({"row_factors": THETA, "column_factors": ETA}, LISTED)
    expect = {"a": (1.0, 0.8), "b": (0.6, 0.8), "c": (0.4, 2.4)}
    assert list(dict.fromkeys(table["column"])) == ["c", "b", "a"]
    for _, line in table.iterrows():
        one, other = (np.array(expect[line[word]]) for word in ("column", "similar"))
        assert line["cosine"] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    assert table["rank"].tolist() == [1, 2] * 3
    assert table.groupby("column")["cosine"].apply(lambda each: each.is_monotonic_decreasing).all()


def test_rates_without_factors_are_row_times_column():
    """[[1, 2], [3, ?]]: mean (6 + 1) / (3 + 1); the row's and the column's parts, damped by five cells of the mean."""
    data = Triplets.of(np.array([[1.0, 2.0], [3.0, 4.0]])).hide(torch.tensor([[1, 1]]))
    mean = 7 / 4
    row, column = (3 + 5 * mean) / (6 * mean), (2 + 5 * mean) / (6 * mean)
    assert counts.independent(data).tolist() == pytest.approx([mean * row * column])


def test_gains_of_a_ranking():
    """First and third of three found: (1 + 1/2) / (1 + 1 / log2 3); of equal scores both share the gain."""
    third = 1 / math.log2(3)
    wanted, score = torch.tensor([[True, False, True]]), tensor([[3.0, 2.0, 1.0]])
    assert counts.discounted_gain(wanted, score).tolist() == pytest.approx([1.5 / (1 + third)])
    assert counts.discounted_gain(torch.tensor([[True, False]]), tensor([[1.0, 1.0]])).tolist() == pytest.approx(
        [(1 + third) / 2]
    )
    assert counts.discounted_gain(wanted, -score).tolist() == pytest.approx([1.5 / (1 + third)]), "symmetric"
    assert counts.discounted_gain(torch.tensor([[True, False]]), tensor([[0.0, 1.0]])).tolist() == pytest.approx(
        [third]
    )


def test_recall_of_a_ranking():
    """Of a row that lists one of four columns and hides two, one is the first recommended, the other the third."""
    data = Triplets.of(np.array([[5.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])).hide(torch.tensor([[0, 1], [0, 3]]))
    by_hand = tensor([[9.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    found = counts.recall_curves(data, (lambda index: by_hand[index],), 3)
    assert found[0].tolist() == pytest.approx([1 / 2, 1 / 2, 1])
    assert found[1].tolist() == pytest.approx([1 / 3, 2 / 3, 1]), "by chance, among three that are not listed"
    ranked = counts.ranking(data, lambda index: by_hand[index])
    assert ranked["recall_at_20"] == 1
    assert ranked["ndcg_at_20"] == pytest.approx(1.5 / (1 + 1 / math.log2(3)))
    one = Triplets.of(np.array([[1.0], [2.0]])).hide(torch.tensor([[0, 0]]))
    assert counts.ranking(one, lambda index: torch.ones(len(index), 1)) == {"recall_at_20": 1}, "nothing to order"


def rated(**changes: Any) -> Any:
    return dataclasses.replace(
        case("gaussian_mf").model, num_factors=1, learn_noise=False, noise_variance=4.0, **changes
    )


def test_fixed_noise_is_a_variance():
    """Off by 2 with s^2 = 4: -1/2 - ln(2 pi 4) / 2; the 90% interval is 1.645 sds of 2 to either side."""
    draws = Draws(row_factors=tensor([[[[3.0]]]]), column_factors=tensor([[[[2.0]]]]))
    model, pair = rated(offsets=False), torch.tensor([[0, 0]])
    expected = -0.5 - 0.5 * math.log(8 * math.pi)
    assert ratings.log_densities(model, draws, pair, tensor([8.0])).flatten().tolist() == pytest.approx([expected])
    found = ratings.predictive(model, draws, pair, tensor([8.0]))
    assert float(found.mean) == pytest.approx(6)
    assert float(found.log_density) == pytest.approx(expected)
    assert float(found.lower) == pytest.approx(6 - 2 * 1.6449, abs=2e-3)
    assert float(found.upper) == pytest.approx(6 + 2 * 1.6449, abs=2e-3)
    assert float(found.pit) == pytest.approx(0.84134, abs=1e-4), "one sd above the mean"


def test_predictions_in_blocks_are_those_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    draws = Draws({f"{side}_factors": torch.randn(1, 6, n, 1, generator=generator).double()
                   for side, n in (("row", 4), ("column", 3))})  # fmt: skip
    pairs, truth = torch.cartesian_prod(torch.arange(4), torch.arange(3)), torch.arange(12.0).double()
    whole = ratings.predictive(rated(offsets=False), draws, pairs, truth)
    monkeypatch.setattr(ratings, "BLOCK", 5)
    parts = ratings.predictive(rated(offsets=False), draws, pairs, truth)
    for name, value in vars(whole).items():
        if value is not None:
            torch.testing.assert_close(getattr(parts, name), value)


@pytest.mark.parametrize("axis", [0, 1])
def test_baselines_of_ratings_follow_rows_and_columns(axis):
    """Ratings that depend on the row alone, or on the column alone, are what the baseline predicts."""
    effect = np.array([1.0, 2.0, 6.0])
    values = np.repeat(effect[:, None], 3, 1) if axis == 0 else np.repeat(effect[None], 3, 0)
    places = torch.tensor([0, 2])
    hidden = Hidden(places, places, tensor([0.0, 0.0]))
    assert _baseline(Ratings.of(values), hidden).tolist() == pytest.approx([1, 6])
    noisy = Ratings.of(np.tile(effect, (3, 1)).T + np.array([[0, 1, -1], [1, -1, 0], [-1, 0, 1.0]]))
    below, above = _baseline(noisy, hidden).tolist()
    # SSW = 6, 6 free, within 1; between (3 * 14 - 2) / (9 - 3) = 20/3: shrunk by 3 / (3 + 0.15).
    assert (below, above) == (pytest.approx(3 - 2 * 3 / 3.15), pytest.approx(3 + 3 * 3 / 3.15))


def test_recommendations_are_those_not_rated_the_best_first():
    data = Ratings.of_columns(["r", "r", "s"], ["a", "b", "c"], [1.0, 2.0, 3.0])
    draws = Draws(row_factors=tensor([[[[1.0], [-1.0]]]]), column_factors=tensor([[[[1.0], [2.0], [3.0]]]]))
    table = ratings.recommend(rated(offsets=False), draws, data, count=2)
    assert table[["row", "rank", "column"]].to_numpy().tolist() == [["r", 1, "c"], ["s", 1, "a"], ["s", 2, "b"]]
    assert table["mean"].tolist() == pytest.approx([3, -1, -2])
    every = ratings.recommend(rated(offsets=False), draws, data, count=3, seen=True)
    assert every["column"].tolist() == ["c", "b", "a", "a", "b", "c"]
    assert every["rated"].tolist() == [False, True, True, False, False, True]
    chosen = ratings.predictions(rated(offsets=False), draws, data, [("s", "b"), ("r", "c")])
    assert chosen["mean"].tolist() == pytest.approx([-2, 3])


def test_pixels_have_the_labels_of_their_places():
    data = Grid(
        tensor([[0, 1, NAN], [2, 0, 1]]), ["top", "bottom"], ["left", "middle", "right"], levels=["x", "y", "z"]
    )
    label = torch.tensor([[0, 1, 2], [2, 2, 1]])
    fit = fit_of(PottsGrid(3, 2.0, None, 0.8), data, "point", label=label[None])
    table = view_of(fit.model).tables(fit)["pixels"]
    assert table["row"].tolist() == ["top"] * 3 + ["bottom"] * 3
    assert table["column"].tolist() == ["left", "middle", "right"] * 2
    assert table["seen"].tolist() == ["x", "y", "", "z", "x", "y"]
    assert table["label"].tolist() == ["x", "y", "z", "z", "z", "y"]
    assert table["probability_z"].tolist() == [0, 0, 1, 1, 1, 0]
    hidden = dataclasses.replace(data, hidden=Hidden(torch.tensor([0, 1]), torch.tensor([2, 1]), tensor([2.0, 0.0])))
    fit = fit_of(
        fit.model, dataclasses.replace(hidden, truth={"label": label.clone().fill_(2)}), "point", label=label[None]
    )
    found = view_of(fit.model).metrics(fit)
    assert (found["holdout_accuracy"], found["label_accuracy"]) == (0.5, 0.5)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("maximise", [True, False])
def test_damping_is_the_share_of_the_old_message(kernel, maximise):
    """A sweep with damping 0.2 lies a fifth of the way back from one without to where it began."""
    generator = torch.Generator().manual_seed(0)
    unary, J = torch.randn(4, 5, 3, generator=generator).double(), 0.8 * torch.eye(3).double()
    plain, damped = (Passing(Potentials(unary, J, 0.0), d, maximise) for d in (0.0, 0.2))
    old = plain.start(2)
    with switched(kernel):
        new, moved, _ = plain.sweep(old)
        slow, less, _ = damped.sweep(State(old.messages.clone()))
    torch.testing.assert_close(slow.messages, 0.8 * new.messages + 0.2 * old.messages)
    torch.testing.assert_close(less, 0.8 * moved)


def answered(codes: Any, sizes: tuple[int, ...]) -> Survey:
    codes = tensor(codes)
    labels = [f"row_{i}" for i in range(len(codes))], [f"item_{i}" for i in range(codes.shape[1])]
    return Survey(codes, *labels, "survey", levels=[[str(k) for k in range(size)] for size in sizes])


def test_latent_scores_are_mean_and_sd_of_a_row_s_posterior():
    """By a sum over a grid: of two draws, one of which turns the answers round, the mean and sd of their mixture."""
    z = np.linspace(-8, 8, 4001)
    data, given = (
        answered([[0, 2], [1, 0], [NAN, 1]], (2, 3)),
        [((1.5, 0.7, -0.4), (0.2, 0.1, 0.5)), ((0.3, 1.0, 0.2), (-0.5, 0.0, 0.3))],
    )
    draws = Draws(
        loadings=tensor([[np.array(b)[:, None] for b, _ in given]]), intercepts=tensor([[a for _, a in given]])
    )
    mean, sd = scores(make().layout(data), draws)
    for row, codes in enumerate(data.values.tolist()):
        first = second = 0.0
        for b, a in given:
            logits = [np.stack([b[0] * z + a[0], 0 * z]), np.stack([b[1] * z + a[1], b[2] * z + a[2], 0 * z])]
            density = np.exp(-0.5 * z**2)
            for each, code in zip(logits, codes, strict=True):
                if code == code:
                    density = density * (np.exp(each) / np.exp(each).sum(0))[int(code)]
            density /= density.sum()
            first, second = first + (density * z).sum() / 2, second + (density * z**2).sum() / 2
        assert float(mean[row, 0]) == pytest.approx(first, abs=1e-5)
        assert float(sd[row, 0]) == pytest.approx(math.sqrt(second - first**2), abs=1e-5)
    curves = response(make().layout(data), draws, tensor([[0.0], [1.0]]), 10)
    at_one = [1 / (1 + math.exp(-(b[0] + a[0]))) for b, a in given]
    assert float(curves[0][0, 1]) == pytest.approx(sum(at_one) / 2)
    assert curves[1].sum(0).tolist() == pytest.approx([1, 1])


def test_predictions_of_levels():
    """Levels 0, 1, 2 with 0.04, 0.5 and 0.46: mean 1.42, 90% between levels 1 and 2; of two levels 0.5 each."""
    prob = tensor([[0.04, 0.5, 0.46], [0.5, 0.5, 0.0]])
    found = Prediction.of_levels(prob, tensor([1.0, 1.0]), torch.tensor([3, 2]))
    assert found.mean.tolist() == pytest.approx([1.42, 0.5])
    assert (found.lower.tolist(), found.upper.tolist()) == ([1, 0], [2, 1])
    assert found.log_density.tolist() == pytest.approx([math.log(0.5)] * 2)
    assert 0.04 <= float(found.pit[0]) <= 0.54
    assert 0.5 <= float(found.pit[1]) <= 1


def test_laplace_s_evidence_is_exact_where_answers_say_nothing_of_the_latent_vector():
    """With loadings 0 all that is left is the answers' own probability."""
    data = answered([[0, 2], [1, 0], [NAN, 1]], (2, 3))
    for d in (1, 2):
        solver = LaplaceEM(Posterior.of(make(d), data))
        state = dataclasses.replace(solver.init(1), loadings=tensor(np.zeros((1, 3, d))),
                                    intercepts=tensor([[0.4, -0.2, 0.3]]))  # fmt: skip
        two = 1 / (1 + math.exp(-0.4))
        three = np.exp([-0.2, 0.3, 0.0]) / np.exp([-0.2, 0.3, 0.0]).sum()
        expected = math.log(two * three[2] * (1 - two) * three[0] * three[1])
        prior = log_prior(solver.model, solver.sites(state))
        found = solver.step(state)[1].objective
        assert float(found - prior) == pytest.approx(expected)


def test_averages_over_iterations_are_means_of_what_came_since_the_burn_in():
    torch.manual_seed(0)
    solver = mc_em.Solver(Posterior.of(make(), answered([[0, 2], [1, 0], [0, 1], [1, 2]], (2, 3))), draws=4, burn_in=3)
    state, seen, change = solver.init(1), [], []
    for _ in range(6):
        state, info = solver.step(state)
        seen.append(torch.cat([value.flatten(1) for value in solver.sites(state).values()], 1))
        change.append(float(info.residual))
        since = torch.stack(seen[3:] or seen[-1:]).mean(0)
        torch.testing.assert_close(state.average, since)
    assert [value == math.inf for value in change] == [True] * 4 + [False] * 2, "one iterate is no average"


def test_a_minibatch_stands_for_all_rows():
    """Four rows that are alike, two in each minibatch: where a step of one takes all, it is that of all four."""
    model = case("poisson_mf").model
    values = np.tile([[3.0, 1.0, 0.0]], (4, 1))
    half, whole = (
        StochasticCAVI(
            Posterior.of(model, Triplets.of(values)), batch_size=size, delay=0.0, local_steps=200, local_tol=0.0
        )
        for size in (2, 4)
    )
    torch.manual_seed(0)
    start = half.init(1)
    moved = [
        solver.see(start, next(iter(minibatches(solver.posterior, size))))[0]
        for solver, size in ((half, 2), (whole, 4))
    ]
    torch.testing.assert_close(moved[0].column_shape, moved[1].column_shape)
    torch.testing.assert_close(moved[0].column_rate, moved[1].column_rate)


def blobs(test: Any = None) -> Fit:
    """Return two components of two columns: at (0, 0) with unit covariance, at (10, 10) with sds 2 and 3."""
    model = dataclasses.replace(case("gaussian_mixture").model, num_components=2, covariance_type="full",
                                location=0.0, scale=1.0, degrees=4.0)  # fmt: skip
    data = Table.of(pd.DataFrame([[1.0, 0.0], [10, 13], [NAN, -2]], index=["x", "y", "z"], columns=["a", "b"]))
    covariance = [[[1.0, 0.0], [0.0, 1.0]], [[4.0, 0.0], [0.0, 9.0]]]
    return fit_of(model, dataclasses.replace(data, test=test), weights=[[0.75, 0.25]],
                  mean=[[[0.0, 0.0], [10.0, 10.0]]], covariance=[covariance])  # fmt: skip


def test_components_and_outliers_of_a_mixture_of_normals():
    """Rows 1 of two unit sds, 1 of two sds, 2 of one sd out: chi-squared of two degrees, of two, and of one."""
    fit = blobs()
    tables = view_of(fit.model).tables(fit)
    profile = tables["components"].sort_values("weight", ascending=False)
    for name, values in {"mean[a]": [0, 10], "mean[b]": [0, 10], "sd[a]": [1, 2], "sd[b]": [1, 3]}.items():
        assert profile[name].tolist() == values, name
    clusters = tables["clusters"].set_index("row")
    within = 1 - math.exp(-0.5)
    one = math.erf(2 / math.sqrt(2))
    assert clusters["outlier"].tolist() == pytest.approx([within, within, one], abs=1e-3)
    assert clusters.loc["x", "cluster"] == clusters.loc["z", "cluster"] != clusters.loc["y", "cluster"]
    assert tables["num_clusters"]["probability"].tolist() == pytest.approx([0, 1])
    beside = view_of(fit.model).rows(fit, fit.data)
    assert beside.columns.tolist() == ["cluster", "probability", "outlier", "probability[0]", "probability[1]"]
    assert beside["probability"].tolist() == beside[["probability[0]", "probability[1]"]].max(axis=1).tolist()
    assert view_of(fit.model).metrics(fit) == {"clusters": 2}
    new = Table.of(pd.DataFrame([[10.0, 10.0]], index=["w"], columns=["a", "b"]))
    test = view_of(fit.model).tables(blobs(new))["test_clusters"]
    assert (test["row"].tolist(), test["outlier"].tolist()) == (["w"], [pytest.approx(0, abs=1e-6)])


def hidden_chain() -> Fit:
    """Return two states, at 0 and at 100, of one sequence of four steps: 0, 0, 1, 1."""
    model = dataclasses.replace(
        case("hidden_markov").model, num_components=2, emission="gaussian", location=0.0, scale=1.0
    )
    data = Sequences.of(pd.DataFrame({"sequence": ["s"] * 4, "time": [3, 4, 5, 6], "a": [0.0, 1.0, 100.0, 99.0]}))
    return fit_of(model, data, initial=[[0.7, 0.3]], transition=[[[0.75, 0.25], [0.1, 0.9]]], mean=[[[0.0], [100.0]]],
                  variance=[[[4.0], [9.0]]])  # fmt: skip


def test_states_paths_and_forecasts_of_a_chain():
    """A state that stays with 3/4 lasts four steps; from the second the next is the second with 0.9, then 0.835."""
    fit = hidden_chain()
    tables = view_of(fit.model).tables(fit)
    states = tables["states"].sort_values("mean[a]")
    assert states["steps"].tolist() == pytest.approx([4, 10])
    assert states["steps_lower_90"].tolist() == pytest.approx([4, 10])
    assert states["share"].tolist() == pytest.approx([0.5, 0.5])
    assert states["first"].tolist() == pytest.approx([0.7, 0.3])
    assert states["sd[a]"].tolist() == pytest.approx([2, 3])
    low, high = states["state"]
    moves = tables["transitions"].set_index(["from", "to"])["probability"]
    assert [moves[low, high], moves[high, low]] == pytest.approx([0.25, 0.1])
    paths = tables["paths"]
    assert (paths["time"].tolist(), paths["state"].tolist()) == ([3, 4, 5, 6], [low, low, high, high])
    sequences = tables["sequences"]
    assert (sequences["rows"].tolist(), sequences["sequence"].tolist()) == ([4], ["s"])
    assert sequences["log_density_by_row"].tolist() == pytest.approx([sequences["log_density"][0] / 4])
    normal = torch.distributions.Normal
    cells = (0.0, 0.0, 2.0), (1.0, 0.0, 2.0), (100.0, 100.0, 3.0), (99.0, 100.0, 3.0)
    path = math.log(0.7 * 0.75 * 0.25 * 0.9) + sum(float(normal(m, s).log_prob(tensor(x))) for x, m, s in cells)
    assert sequences["log_density"].tolist() == pytest.approx([path]), "no other path matters"
    ahead = tables["forecast"]
    assert ahead["time"].tolist()[:3] == [7, 8, 9]
    second = 0.9 * 0.9 + 0.1 * 0.25
    assert ahead[f"probability[{high}]"].tolist()[:2] == pytest.approx([0.9, second])
    assert ahead["a"].tolist()[:2] == pytest.approx([90, 83.5], abs=5), "four errors of 1000 draws of 0 or 100"
    assert ahead["a_lower_90"].iloc[0] < 6 < 94 < ahead["a_upper_90"].iloc[0]
    assert view_of(fit.model).metrics(fit) == {"state_certainty": pytest.approx(1), "states_visited": 2}


def test_words_of_topics_by_hand():
    """Two topics of three words: shares, lift against all documents, exclusivity, and what goes together."""
    data = Documents.of(pd.DataFrame([[4, 0, 0], [4, 2, 2]], index=["d", "e"], columns=["u", "v", "w"]))
    beta = tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    # Totals 8, 2 and 2, each with one more, of 15.
    assert topics.lift(beta, data)[0].tolist() == pytest.approx([0.5 / (9 / 15), 0.3 / (3 / 15), 0.2 / (3 / 15)])
    # Ranks of exclusivity 5/6, 1/2, 1/4 and of frequency in the first topic: 3/3, 2/3, 1/3 both.
    assert topics.frex(beta)[0].tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    assert topics.frex(tensor([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]]))[0].tolist() == pytest.approx(
        [2 / (3 / 1 + 1), 2 / (3 / 3 + 3 / 2), 2 / (3 / 2 + 3 / 1)]
    )
    assert topics.top(beta, 2).tolist() == [[0, 1], [2, 1]]
    # Documents with u: 2, v: 1, w: 1; all pairs together in one: u-v and u-w by u, then v-w by v.
    assert topics.coherence(beta, data)[0].item() == pytest.approx(2 * math.log(2 / 2) + math.log(2 / 1))
    assert topics.coherence(beta, data)[1].item() == pytest.approx(3 * math.log(2 / 1))


def test_rows_drawn_given_an_answer_have_the_others_of_its_posterior():
    """Two answers that go together by loadings 3: by a sum over a grid, to four standard errors of 8000 rows."""
    data = answered([[0, 2], [1, 0], [0, 1]], (2, 3))
    b, a = (3.0, 2.0, -2.0), (0.5, 0.0, 0.0)
    fit = fit_of(make(), data, "point", loadings=[np.array(b)[:, None]], intercepts=[a])
    torch.manual_seed(0)
    rows = torch.cat(list(synthesize(fit, 8000, {"item_1": "0"})))
    z = np.linspace(-8, 8, 4001)
    three = np.exp([b[1] * z + a[1], b[2] * z + a[2], 0 * z])
    weight = np.exp(-0.5 * z**2) * three[0] / three.sum(0)
    first = (weight / weight.sum() / (1 + np.exp(-(b[0] * z + a[0])))).sum()
    assert (rows[:, 1] == 0).all()
    assert float((rows[:, 0] == 0).double().mean()) == pytest.approx(
        first, abs=4 * math.sqrt(first * (1 - first) / 8000)
    )


def test_factors_and_hidden_cells_are_conditional_normals():
    """Loadings 2 and 3, noise 4 and 1: of x_1 = 3 above mean 1, z has 2 * 2 / 8 and variance 4 / 8; x_2 follows it."""
    model = dataclasses.replace(case("factor_analysis").model, num_factors=1, mean_precision=0.1, noise_scale=1.0)
    data = Table.of(pd.DataFrame([[3.0, 9.0], [1.0, 2.0]], index=["r", "s"], columns=["a", "b"]))
    hidden = data.hide(torch.tensor([0]), torch.tensor([1]))
    fit = fit_of(model, hidden, loadings=[[[2.0], [3.0]]], mean=[[1.0, 5.0]], noise_variance=[[4.0, 1.0]])
    found = fit.prediction(fit.data)
    mean, variance = 5 + 3 * 0.5, 9 * 0.5 + 1
    assert float(found.mean) == pytest.approx(mean)
    assert float(found.log_density) == pytest.approx(
        -0.5 * (9 - mean) ** 2 / variance - 0.5 * math.log(2 * math.pi * variance)
    )
    assert float(found.upper - found.lower) == pytest.approx(2 * 1.6449 * math.sqrt(variance), rel=1e-3)
    said = view_of(model).rows(fit, fit.data)
    assert abs(said.iloc[0, 0]) == pytest.approx(0.5)
    assert said.iloc[0, 1] == pytest.approx(math.sqrt(0.5))
    table = view_of(model).tables(fit)["holdout"]
    assert table[["row", "column", "true"]].to_numpy().tolist() == [["r", "b", 9]]


def test_counts_are_mixtures_of_poissons_over_draws():
    """Rates 2 and 6 of two draws, 3 counted: mean 4, density the mean of both masses."""
    theta, eta = tensor([[[1.0], [2.0]], [[3.0], [1.0]]]), tensor([[[2.0]], [[2.0]]])
    found = counts.predictive(theta, eta, torch.tensor([[1, 0], [0, 0]]), tensor([3.0, 3.0]))
    masses = [[4, 2], [2, 6]]
    for entry, rates in enumerate(masses):
        mass = [math.exp(-rate) * rate**3 / 6 for rate in rates]
        assert float(found.mean[entry]) == pytest.approx(sum(rates) / 2)
        assert float(found.log_density[entry]) == pytest.approx(math.log(sum(mass) / 2))
    below = sum(math.exp(-rate) * rate**n / math.factorial(n) for rate in masses[1] for n in range(3)) / 2
    assert below - 0.08 < float(found.pit[1]) < below + mass[0] / 2 + mass[1] / 2 + 0.08, "to the error of 1000 draws"


def test_new_rows_of_counts_have_a_gamma_posterior():
    """One factor: theta given eta is Gamma(a + 5, b + 0.6 + 0.4), to four standard errors of 100 draws."""
    model = dataclasses.replace(
        case("poisson_mf").model, num_factors=1, row_rate=2.0, column_rate=1.0, hierarchical=False
    )
    old = Triplets.of_columns(["r", "s"], ["a", "b"], [1, 1])
    draws = Draws(row_factors=tensor([[[[1.0], [1.0]]]]), column_factors=tensor([[[[0.6], [0.4]]]]))
    new = Triplets.of_columns(["t", "t"], ["a", "b"], [2, 3])
    found = counts.fold_in(Posterior.of(model, old), draws, new)
    theta = found["row_factors"].flatten()
    shape = model.row_shape + 5
    assert len(theta) == 100
    assert float(theta.mean()) == pytest.approx(shape / 3, abs=4 * math.sqrt(shape) / 3 / 10)
    assert float(theta.std()) == pytest.approx(math.sqrt(shape) / 3, rel=0.3)
    assert found["column_factors"].shape == (1, 100, 2, 1)


def test_new_rows_of_ratings_have_a_normal_posterior():
    """U given v = (1, 2), r = (3, 5), s^2 = 4: precision 1 / t + 5 / 4, mean 13 / 4 over it."""
    model = rated(offsets=False)
    old = Ratings.of_columns(["r", "s"], ["a", "b"], [1.0, 1.0])
    draws = Draws(row_factors=tensor([[[[1.0], [1.0]]]]), column_factors=tensor([[[[1.0], [2.0]]]]))
    found = ratings.fold_in(Posterior.of(model, old), draws, Ratings.of_columns(["t", "t"], ["a", "b"], [3.0, 5.0]))
    u, precision = found["row_factors"].flatten(), 1 / model.row_factor_variance + 5 / 4
    assert len(u) == 100
    assert float(u.mean()) == pytest.approx(13 / 4 / precision, abs=4 / math.sqrt(precision) / 10)
    assert float(u.std()) == pytest.approx(1 / math.sqrt(precision), rel=0.3)


def test_marginals_of_a_grid_are_shares_of_its_labellings():
    """Two by two pixels of three labels: by a sum over all 81 labellings."""
    model = PottsGrid(3, 1.1, ((-0.3, 0.2, 0.8), (0.2, 0.6, 0.1), (0.8, 0.1, -0.3)), None)
    data = Grid(tensor([[0, 1], [NAN, 2]]), ["a", "b"], ["x", "y"], levels=["0", "1", "2"])
    solver = Exact(Posterior.of(model, data))
    solver.step(solver.init(1))
    unary, coupling = solver.potentials.unary.numpy(), np.array(model.coupling)
    edges = [((0, 0), (0, 1)), ((1, 0), (1, 1)), ((0, 0), (1, 0)), ((0, 1), (1, 1))]
    label, pairs, total, best = np.zeros((2, 2, 3)), np.zeros((3, 3)), 0.0, (-math.inf, None)
    for flat in itertools.product(range(3), repeat=4):
        z = np.reshape(flat, (2, 2))
        score = sum(unary[i, j, z[i, j]] for i in (0, 1) for j in (0, 1)) + sum(coupling[z[a], z[b]] for a, b in edges)
        weight, best = math.exp(score), max(best, (score, flat))
        total += weight
        for i, j in itertools.product((0, 1), repeat=2):
            label[i, j, z[i, j]] += weight
        for a, b in edges:  # in either direction
            pairs[z[a], z[b]] += weight / 8
            pairs[z[b], z[a]] += weight / 8
    found = solver.expectations
    torch.testing.assert_close(found["label_probability"], tensor(label / total))
    torch.testing.assert_close(found["neighbours_probability"], tensor(pairs / total))
    assert found["most_probable"].flatten().tolist() == list(best[1])


def test_quantiles_of_counts_are_those_of_scipy():
    share, rate = (
        each.flatten() for each in np.meshgrid([0.001, 0.05, 0.5, 0.95, 0.999], [1e-9, 0.03, 1.0, 7.3, 900.0])
    )
    found = counts_view._poisson_quantile(share, rate)
    assert found.tolist() == stats.poisson.ppf(share, rate).tolist()


def test_new_documents_are_counted_by_the_words_that_are_known():
    data = Documents.of(pd.DataFrame([[1, 0, 2], [3, 1, 0]], index=["d", "e"], columns=["u", "v", "w"]))
    test = Documents.of(pd.DataFrame([[4, 5, 0], [0, 2, 1]], index=["f", "g"], columns=["w", "x", "u"]))
    found = data.with_test(test)
    words = list(found.column_labels)
    assert words == ["u", "v", "w"]
    cells = {(found.test.row_labels[int(i)], words[int(j)]): n for i, j, n in found.test.values.tolist()}
    assert cells == {("f", "w"): 4, ("g", "u"): 1}
    assert any("58.3% of the tokens" in note for note in found.notes), "7 of 12"


def test_the_most_correlated_topics_come_first(monkeypatch):
    mean = tensor([[1, 0.2, -0.5], [0.2, 1, 0.9], [-0.5, 0.9, 1]])
    monkeypatch.setattr(topics, "correlations", lambda fit: (mean - 0.1, mean, mean + 0.1))
    table = topics.correlation_table(None)
    assert table[["topic", "other"]].to_numpy().tolist() == [[1, 2], [0, 1], [0, 2]]
    assert table["correlation"].tolist() == pytest.approx([0.9, 0.2, -0.5])
    assert (table["upper_90"] - table["lower_90"]).tolist() == pytest.approx([0.2] * 3)


def test_probabilities_of_answers_and_their_normaliser():
    """Two questions of two answers and one of three, in groups: by a softmax of each; also where exp overflows."""
    layout = Posterior.of(make(), answered([[0, 2, 1], [1, 0, 0], [0, 1, 1]], (2, 3, 2))).layout
    logits = torch.randn(1, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for some in (logits, logits + 800):
        prob, logs = layout.softmax(some)
        torch.testing.assert_close(layout.log_sums(some), logs)
        start = 0
        for each in (part for group in layout.by_item(prob) for part in group.unbind(1)):
            assert each.sum(1).allclose(torch.ones(1, 4, dtype=torch.float64))
            start += each.shape[1]
        assert start == 7
        torch.testing.assert_close(prob.log() - some, -layout.spread(logs))


def test_coefficients_of_a_regression_and_their_odds():
    """Draws 1 and 3 of a slope: mean 2, sd 1, ends 1.1 and 2.9; of one unit of a column with sd s all is 1 / s."""
    its = case("logistic_regression")
    sites = Posterior.of(its.model, its.tiny).sites
    beta = [[0.5, 1.0], [1.5, 3.0]]
    fit = fit_of(its.model, its.tiny, coefficients=beta)
    assert list(sites) == ["coefficients"]
    table = view_of(fit.model).tables(fit)["coefficients"].set_index("coefficient")
    slope, s = table.iloc[-1], float(its.tiny.unit[0])
    assert table["mean"].tolist() == [1, 2]
    assert table["sd"].tolist() == [0.5, 1]
    assert (slope["lower_90"], slope["upper_90"]) == (pytest.approx(1.1), pytest.approx(2.9))
    assert slope["per_unit"] == pytest.approx(2 / s)
    assert slope["odds_ratio"] == pytest.approx(math.exp(2 / s))
    said = view_of(fit.model).rows(fit, fit.data)
    x = (its.tiny.covariates[:, 0] - its.tiny.centre[0]) / its.tiny.unit[0]
    each = [1 / (1 + np.exp(-(a + b * x.numpy()))) for a, b in beta]
    assert said.iloc[:, 0].tolist() == pytest.approx(list(np.mean(each, 0)))
    assert said.iloc[:, 1].tolist() == pytest.approx(list(np.quantile(each, 0.05, 0)))
    assert said.iloc[:, 2].tolist() == pytest.approx(list(np.quantile(each, 0.95, 0)))


def test_shares_of_synthetic_rows_differ_by_their_total_variation():
    """0.5, 0.5 against 0.75, 0.25, and one column that agrees: half the sum of distances, whichever is higher."""
    survey = answered([[0, 0], [1, 0], [0, 1], [1, 1]], (2, 2))
    for codes in ([[0, 0], [0, 1], [0, 0], [1, 1]], [[1, 0], [1, 1], [1, 0], [0, 1]]):
        assert marginal_tv(survey, tensor(codes)) == pytest.approx((0.25 + 0) / 2)


def test_a_changed_fit_computes_its_figures_anew():
    fit = mixture()
    assert fit.once("figure", lambda: 1) == fit.once("figure", lambda: 2) == 1
    assert dataclasses.replace(fit, method="another").once("figure", lambda: 3) == 3


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
@pytest.mark.parametrize("standardize", [True, False])
def test_coefficients_per_unit_say_of_a_table_what_the_others_say_of_its_standard_form(likelihood, standardize):
    said = [-6.0, 3.0, 3.0, 12.0] if likelihood == "normal" else [0.0, 1.0, 1.0, 1.0]
    data = Responses.of((np.array([[3.0, 10], [5, 40], [7, 10], [9, 80]]), np.array(said)))
    model, beta = LogisticRegression(likelihood, True, standardize, 2.5, 2.5, 1.0, 1.0), tensor([0.5, -1.0, 2.0])
    noise = {"noise_variance": tensor([1.0])} if model.linear else {}
    told = view_of(model).tables(fit_of(model, data, coefficients=beta[None], **noise))["coefficients"]["per_unit"]
    centre, unit = (3.0, 40.5**0.5) if model.linear and standardize else (0.0, 1.0)  # of the response
    mean = centre + unit * (model.design(data) @ beta)
    np.testing.assert_allclose(told[0] + data.covariates @ told[1:].to_numpy(), mean)


def test_moments_of_cells_are_those_of_each_though_memory_has_room_for_none(monkeypatch):
    monkeypatch.setattr("pyrozoo.models.factor_analysis.queries.at_once", lambda *_: 1)
    generator = torch.Generator().manual_seed(0)
    W, z, root = (torch.randn(1, n, *more, generator=generator) for n, more in ((30, (2,)), (20, (2,)), (20, (2, 2))))
    row, column = torch.tensor([0, 7, 19]), torch.tensor([29, 0, 4])
    mean, variance = cells(W, z, root @ root.mT, row, row, column)
    for k, (n, d) in enumerate(zip(row, column, strict=True)):
        torch.testing.assert_close(mean[0, k], W[0, d] @ z[0, n])
        torch.testing.assert_close(variance[0, k], (W[0, d] @ root[0, n]).square().sum())


def test_a_map_shows_the_posterior_and_fits_far_from_it():
    """By 4.2 standard deviations around the posterior, and 0.3 around a fit."""
    data = Responses.of((np.arange(8.0)[:, None], np.array([0.0, 0, 1, 0, 1, 0, 1, 1])))
    model = LogisticRegression("bernoulli", True, True, 2.5, 2.5, 1.0, 1.0)
    near, far = (_ends([fit_of(model, data, coefficients=[each])]) for each in ([0.0, 1.0], [100.0, -100.0]))
    middle, sd = near.mean(0), (near[1] - near[0]) / 8.4
    np.testing.assert_allclose(far, [[middle[0] - 4.2 * sd[0], -100 - 0.3 * sd[1]], [100 + 0.3 * sd[0], near[1, 1]]])
