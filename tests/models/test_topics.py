"""topics: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import gammaln, logsumexp

import pyrozoo
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.documents import Documents, completion
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.texts import read_documents
from pyrozoo.models.topics import cavi, cvb0, dirichlet, gibbs, likelihood, queries, start, stochastic_cavi, sweeps
from pyrozoo.models.topics.model import Topics
from pyrozoo.models.topics.posterior import predictive
from pyrozoo.program.inverse_wishart import InverseWishart
from pyrozoo.run import catalog
from tests.case import Case, Oracle, refused
from tests.models.test_topics_correlated import variant

NAN = float("nan")
HUGE = np.array([[1e9, 0, 3], [0, 1e7, 1], [1, 0, 0]])
MODEL = Topics(2, "dirichlet", 0.8, 0.6, 1.0, 1.0)
CORRELATED = Topics(2, "logistic_normal", 0.8, 0.6, 1.0, 1.0)
TINY = Documents.of(np.array([[2, 0, 1.0], [0, 3, 1]]))
QUIET = {"progress": False}


def splits(counts: np.ndarray, K: int) -> list[np.ndarray]:
    """Return every way in which the tokens of cells [cell] can be from K topics, [cell, K]."""

    def of(count: int) -> list[tuple[int, ...]]:
        every = itertools.product(range(count + 1), repeat=K - 1)
        return [(*first, count - sum(first)) for first in every if sum(first) <= count]

    return [np.array(each) for each in itertools.product(*(of(int(count)) for count in counts))]


@cache
def exact() -> Oracle:
    """Enumerate every allotment of tokens to topics; given it, theta and beta are Dirichlet and integrate out."""
    m, x, (D, V) = MODEL, TINY.values.numpy(), TINY.shape
    K, a, b = m.num_topics, m.document_concentration, m.word_concentration

    def log_dirichlet(shape: np.ndarray) -> np.ndarray:
        return gammaln(shape).sum(-1) - gammaln(shape.sum(-1))

    logs, allotments = [], []
    for z in splits(x[:, 2], K):
        of_documents, of_words = np.zeros((D, K)), np.zeros((V, K))
        np.add.at(of_documents, x[:, 0].astype(int), z)
        np.add.at(of_words, x[:, 1].astype(int), z)
        total = gammaln(of_documents.sum(1) + 1).sum() - gammaln(z + 1).sum()
        total += (log_dirichlet(a + of_documents) - log_dirichlet(np.full((D, K), a))).sum()
        total += (log_dirichlet(b + of_words.T) - log_dirichlet(np.full((K, V), b))).sum()
        logs.append(total)
        allotments.append((of_documents, of_words.T))
    evidence, generator, S = logsumexp(logs), np.random.default_rng(0), 100_000
    counts = generator.multinomial(S, np.exp(np.array(logs) - evidence))

    def dirichlet(shape: np.ndarray, count: int) -> np.ndarray:
        gamma = generator.gamma(shape, size=(count, *shape.shape))
        return gamma / gamma.sum(-1, keepdims=True)

    drawn = [
        (dirichlet(a + of_documents, count), dirichlet(b + of_words, count))
        for (of_documents, of_words), count in zip(allotments, counts, strict=True)
        if count
    ]
    order = generator.permutation(S)
    theta, beta = (torch.as_tensor(np.concatenate(each)[order])[None] for each in zip(*drawn, strict=True))
    return Oracle(float(evidence), {"topic_words": beta, "document_topics": theta})


class ForgetsPrior(gibbs.Solver):
    """Plant: what the prior says of documents is left out of their conditional."""

    def conditionals(self, of_documents, of_words):
        words, documents = super().conditionals(of_documents, of_words)
        return words, (documents - self.model.document_concentration).clamp(min=1e-3)


class CountsItself(gibbs.Solver):
    """Plant: a token votes for its own topic twice."""

    def conditionals(self, of_documents, of_words):
        return super().conditionals(of_documents, 2 * of_words)


class IgnoresData(gibbs.Solver):
    """Plant: draws from the prior, whatever the data; parameter ranks alone would pass it."""

    def conditionals(self, of_documents, of_words):
        return super().conditionals(0 * of_documents, 0 * of_words)


SVI = {"max_steps": 300, "restarts": 2, "restart_steps": 20, "window": 100, "draws": 200, "evaluation_draws": 100}
CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"rows": 3, "columns": 3, "tokens": 4},
    larger={"rows": 60, "columns": 30, "tokens": 40},
    settings={
        "cavi": {"restarts": 5},
        "cvb0": {"restarts": 3},
        "exact": {"draws": 2000},
        "stochastic_cavi": {"restarts": 2, "max_iterations": 100, "tol": 1e-7},
        "gibbs": {"warmup": 100, "draws": 300, "thin": 1},
        "svi": SVI,
        "nuts": {"chains": 2, "warmup": 30, "draws": 30, "max_tree_depth": 5},
        "laplace": {"restarts": 3, "draws": 200},
    },
    bugs={"prior": ForgetsPrior, "twice": CountsItself, "data": IgnoresData},
    # What is hidden are tokens that occur: intervals of their numbers say nothing of words without any.
    fills=frozenset(catalog.methods("topics")),
    elbo_gap=5.0,
    laplace_error=3.0,
    bad={
        "negative": (np.array([[1, -2.0], [0, 3]]), "column_1"),
        "fraction": (np.array([[1, 2.0], [0.5, 3]]), "row_1"),
        "infinite": (np.array([[1, np.inf], [0, 3]]), "column_1"),
        "no count": (np.array([[1, NAN], [0, 3]]), "leave the word out"),
        "empty": (np.empty((0, 3)), "empty"),
        "no columns": (np.empty((3, 0)), "empty"),
        "one axis": (np.array([1.0, 2]), "two axes"),
        "text": (np.array([["a", "b"], ["c", "d"]]), "not numbers"),
    },
    odd={
        "one document": np.array([[0, 3.0, 1]]),
        "one word": np.array([[4.0], [3], [1]]),
        "one cell": np.array([[4.0]]),
        "no tokens": np.zeros((4, 3)),
        "empty documents and words": np.array([[0, 0, 0.0], [0, 5, 0], [0, 0, 0]]),
        "repeated triplets": pd.DataFrame({"row": [2, 1, 2, 1], "column": ["b", "a", "b", "c"], "value": [1, 2, 3, 0]}),
    },
)
CASE = dataclasses.replace(CASE, variants={method: variant(CASE) for method in ("laplace_em", "vem")})


def larger(**model: object) -> Posterior:
    """Return documents of three topics, simulated."""
    of = dataclasses.replace(MODEL, num_topics=3, **model)
    return Posterior.of(of, simulate_data(of, seed=3, rows=40, columns=25, tokens=60))


# Documents ------------------------------------------------------------------------------------------------------------


def test_half_of_the_tokens_of_some_documents_are_hidden_and_none_is_lost():
    data = larger().data
    found = data.hold_out(0.25, 0)
    hidden = found.hidden
    whole = torch.zeros(data.shape, dtype=torch.float64)
    for part, counts in (
        (found.values[:, :2].long(), found.counts),
        (torch.stack([hidden.rows, hidden.columns], 1), hidden.values),
    ):
        whole.index_put_(tuple(part.T), counts, accumulate=True)
    expected = torch.zeros_like(whole)
    expected[data.pattern.rows, data.pattern.columns] = data.counts
    assert torch.equal(whole, expected)
    assert len(hidden.rows.unique()) == 10
    assert (found.lengths[hidden.rows.unique()] == 30).all()
    assert not hidden.at_random
    assert found.missing is None


def test_hidden_tokens_are_a_random_half():
    """Of a document of 30 tokens of one word and 10 of another, a quarter of the hidden ones are of the other."""
    data = Documents.of(np.tile([[30.0, 10.0]], (4000, 1)))
    hidden = data.hold_out(0.999, 1).hidden
    of_other = hidden.values[hidden.columns == 1]
    assert abs(float(of_other.sum()) / 20 / len(hidden.rows.unique()) - 0.25) < 4 * (0.25 * 0.75 / 20 / 4000) ** 0.5


def test_documents_can_be_chosen_by_label_and_cells_cannot():
    data = larger().data
    fit = pyrozoo.fit(MODEL, "exact", data=TINY, holdout=["row_0"], **QUIET, draws=10)
    assert fit.data.hidden.rows.unique().tolist() == [0]
    message = refused(SettingError, pyrozoo.fit, MODEL, "cavi", data=data, holdout=[["document_0", "word_1"]], **QUIET)
    assert "labels of documents" in message
    assert "no document 'x'" in refused(DataError, pyrozoo.fit, MODEL, "cavi", data=data, holdout=["x"], **QUIET)


def test_the_score_is_the_mean_over_tokens_and_over_documents():
    data = larger().data.hold_out(0.5, 0)
    fit = pyrozoo.fit(MODEL, "cavi", data=data, **QUIET, draws=20, restarts=2)
    prediction, tokens = fit.prediction(fit.data), data.hidden.values
    micro = float((prediction.log_density * tokens).sum() / tokens.sum())
    assert fit.metrics["holdout_elpd"] == pytest.approx(micro)
    means, counts, _ = completion(data.hidden, prediction.log_density)
    assert fit.metrics["holdout_macro"] == pytest.approx(float(means.mean()))
    assert float((means * counts).sum() / counts.sum()) == pytest.approx(micro)
    # q's predictive has a closed form: means of theta and beta, which are independent.
    theta, beta = fit.expectations["mean_document_topics"], fit.expectations["mean_topic_words"]
    logs = (theta @ beta)[data.hidden.rows, data.hidden.columns].log()
    torch.testing.assert_close(logs, prediction.log_density)


TEXTS = {"body": ["The cat sat. A cat!", "Dogs and a dog run", "cat dog cat", ""], "party": ["x", "y", "x", "y"]}


def test_texts_in_a_table_become_documents(tmp_path):
    said = Layout(text="body", least_documents=1, most_share=1.0)
    found = read_documents(pd.DataFrame(TEXTS), said)
    assert list(found.column_labels) == ["cat", "dog", "dogs", "run", "sat"]
    assert found.values.tolist() == [[0, 0, 2], [0, 4, 1], [1, 1, 1], [1, 2, 1], [1, 3, 1], [2, 0, 2], [2, 1, 1]]
    assert list(found.about["party"]) == ["x", "y", "x", "y"]
    assert "1 documents of the data have none of these words" in found.notes
    pd.DataFrame(TEXTS).to_csv(tmp_path / "posts.csv", index=False)
    assert read_documents(tmp_path / "posts.csv", said).same(found)
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, text in enumerate(TEXTS["body"]):
        (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    whole = read_documents(folder, dataclasses.replace(said, text=None))
    assert whole.same(found)
    assert list(whole.row_labels) == ["0.txt", "1.txt", "2.txt", "3.txt"]


def test_documents_in_the_format_of_lda_c(tmp_path):
    (tmp_path / "x.ldac").write_text("2 0:1 2:3\n0\n1 1:2\n", encoding="utf-8")
    (tmp_path / "words.txt").write_text("a\nb\nc\n", encoding="utf-8")
    found = read_documents(tmp_path / "x.ldac", Layout(vocabulary=str(tmp_path / "words.txt")))
    assert found.values.tolist() == [[0, 0, 1], [0, 2, 3], [2, 1, 2]]
    assert list(found.column_labels) == ["a", "b", "c"]
    assert found.shape == (3, 3)
    (tmp_path / "x.ldac").write_text("2 0:1\n", encoding="utf-8")
    assert "line 1 is not 'M word:count" in refused(DataError, read_documents, tmp_path / "x.ldac", Layout())


def test_wrong_texts_are_refused():
    frame = pd.DataFrame(TEXTS)
    assert "it has 'body', 'party'" in refused(SettingError, read_documents, frame, Layout(text="bdy"))
    message = refused(DataError, read_documents, frame, Layout(text="body", least_documents=3, most_share=1.0))
    assert "lower data.least_documents" in message
    message = refused(SettingError, pyrozoo.fit, "poisson_mf", "cavi", data=frame, text="body", **QUIET)
    assert "data.text is for documents" in message
    arrays = {"start": [0, 1], "word": [3], "count": [1], "vocabulary": ["a"]}
    assert "places in the vocabulary" in refused(DataError, Documents.of_arrays, arrays)


def test_new_documents_keep_the_words_that_are_known_and_get_topics():
    frame = pd.DataFrame({"body": ["ball team goal"] * 8 + ["bank stock market"] * 8})
    new = pd.DataFrame({"body": ["ball goal unheard", "stock bank"]})
    fit = pyrozoo.fit(
        "topics", "gibbs", data=frame, text="body", num_topics=2, most_share=1.0, test=new, chains=1, warmup=20,
        draws=50, thin=1, **QUIET,
    )  # fmt: skip
    assert any("20.0% of the tokens of the new documents" in note for note in fit.notes + list(fit.data.notes))
    shares = fit.tables["test_document_topics"][["topic[0]", "topic[1]"]].to_numpy()
    old = fit.tables["document_topics"][["topic[0]", "topic[1]"]].to_numpy()
    assert shares[0].argmax() == old[0].argmax() != shares[1].argmax()


# Mathematics ----------------------------------------------------------------------------------------------------------


def test_lambda_is_that_of_scikit_learn_from_the_same_state():
    """One batch update: q(theta) to convergence given exp E log beta, then lambda = b + expected counts."""
    from sklearn.decomposition import LatentDirichletAllocation

    posterior = larger()
    data, K, (alpha, b) = posterior.data, 3, (0.8, 0.6)
    X = np.zeros(data.shape)
    X[data.pattern.rows, data.pattern.columns] = data.counts
    theirs = LatentDirichletAllocation(
        K, doc_topic_prior=alpha, topic_word_prior=b, learning_method="batch", max_iter=1, random_state=0,
        max_doc_update_iter=5000, mean_change_tol=1e-13,
    )  # fmt: skip
    theirs._init_latent_vars(data.shape[1], dtype=np.float64)
    words = torch.as_tensor(theirs.components_.T.copy())[None]
    theirs._em_step(X, total_samples=len(X), batch_update=True)
    factors, one = likelihood.WordFactors.of(words), torch.full((1, K), alpha, dtype=torch.float64)
    gamma = likelihood.fit_documents(
        torch.ones(1, *data.shape[:1], K).double(), factors, one, data, steps=5000, tol=1e-13
    )
    torch.testing.assert_close(b + gamma.of_words[0].mT, torch.as_tensor(theirs.components_), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("make", [cavi.Solver, cvb0.Solver])
def test_kernels_do_what_pytorch_does(make, dtype):
    posterior = larger(document_concentration=0.3)
    posterior = posterior.on(posterior.data.to("cpu", dtype))
    solver = make(posterior, **({"empirical_bayes": True} if make is cavi.Solver else {}))
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 2e-4, "atol": 2e-4}
    with seeded(0):
        state = solver.init(2)
    for _ in range(3):
        mine, info = solver.step(state)
        with switched(False):
            theirs, other = solver.step(state)
        for name, value in vars(mine).items():
            torch.testing.assert_close(value, getattr(theirs, name), **close)
        torch.testing.assert_close(info.objective, other.objective, **close)
        state = mine


def test_factors_too_small_for_floats_are_worked_out_from_logarithms():
    data = Documents.of(np.array([[3.0, 0], [0, 5]]))
    gamma = torch.tensor([[[1e-3, 4.0], [4.0, 1e-3]]], dtype=torch.float64)
    words = torch.tensor([[[4.0, 1e-3], [1e-3, 4.0]]], dtype=torch.float64)
    alpha = torch.full((1, 2), 1e-3, dtype=torch.float64)
    found = likelihood.fit_documents(gamma, likelihood.WordFactors.of(words), alpha, data)
    with switched(False):
        slow = likelihood.fit_documents(gamma, likelihood.WordFactors.of(words), alpha, data)
    assert found.gamma.isfinite().all()
    torch.testing.assert_close(found.gamma, slow.gamma)
    torch.testing.assert_close(found.bound, slow.bound)


@pytest.mark.parametrize("estimate", [False, True])
@pytest.mark.parametrize("local_steps", [1, 4])
def test_the_bound_never_falls_with_concentrations_and_more_local_steps(estimate, local_steps):
    solver = cavi.Solver(larger(), "random", 1, estimate, local_steps)
    with seeded(0), torch.no_grad():
        state, before = solver.init(3), torch.full((3,), -torch.inf).double()
        for _ in range(60):
            state, info = solver.step(state)
            assert (info.objective >= before - 1e-9 * info.objective.abs()).all()
            before = info.objective


def test_estimated_concentrations_are_where_the_bound_is_largest():
    solver = cavi.Solver(larger(), empirical_bayes=True)
    with seeded(0), torch.no_grad():
        state = solver.after(400)
        best = solver.step(state)[1].objective
        for field, factor in itertools.product(("alpha", "concentration"), (0.98, 1.02)):
            moved = dataclasses.replace(state, **{field: getattr(state, field) * factor})
            assert (solver.step(moved)[1].objective < best).all()
        model = solver.answer(state).model
    assert len(model.document_concentration) == 3
    assert model.word_concentration == pytest.approx(float(state.concentration[0]))


def test_best_dirichlets_match_moments_of_logs():
    """The maximum of the likelihood: E log under it is the mean of the logs (Minka 2000)."""
    generator = torch.Generator().manual_seed(0)
    logs = -5 * torch.rand(3, 4, generator=generator, dtype=torch.float64) - 1.5
    shapes = dirichlet.best_shapes(torch.ones(3, 4).double(), logs)
    inside = (shapes > 1.01 * dirichlet.LEAST).all(1) & (shapes < 0.99 * dirichlet.MOST).all(1)
    assert inside.any()
    found = torch.digamma(shapes) - torch.digamma(shapes.sum(1, keepdim=True))
    torch.testing.assert_close(found[inside], logs[inside], rtol=1e-8, atol=1e-8)
    b = dirichlet.best_shape(torch.ones(1).double(), torch.tensor([-7.0]).double(), 20)
    torch.testing.assert_close(torch.digamma(b) - torch.digamma(20 * b), torch.tensor([-7.0]).double())


def test_a_minibatch_of_all_at_full_step_is_cavi_with_documents_at_their_optimum():
    posterior = larger()
    solver = stochastic_cavi.Solver(posterior, batch_size=10**6, delay=0.0, local_steps=3000, local_tol=1e-12)
    full = cavi.Solver(posterior, local_steps=3000)
    with seeded(0), torch.no_grad():
        state = solver.init(1)
        new, info = solver.step(state)
        gamma = torch.ones(1, 40, 3).double()
        settled = full.step(cavi.State(gamma, state.words))[0]
        torch.testing.assert_close(new.words, settled.words, rtol=1e-6, atol=1e-6)
        bound = full.step(cavi.State(settled.gamma, state.words))[1].objective
        gap = [likelihood.WordFactors.of(w).gap(torch.tensor([0.6]).double()) for w in (state.words, new.words)]
        torch.testing.assert_close(info.objective, bound + gap[0] - gap[1], rtol=1e-8, atol=1e-6)


def test_sweeps_leave_the_posterior_of_topics_as_it_is():
    """Sweeps go from any topics to those of p(z | words), whatever theta and beta they began with."""
    data, K = TINY, 2
    alpha, b = torch.full((K,), 0.8, dtype=torch.float64), 0.6
    chains = 4000
    theta = torch.full((chains, 2, K), 0.5, dtype=torch.float64)
    beta = torch.full((chains, 3, K), 1 / 3, dtype=torch.float64)
    with seeded(0):
        documents, words = sweeps.draw(theta, beta, data, 20, alpha, b)
    assert torch.equal(documents.sum(-1), data.lengths.expand(chains, -1))
    assert torch.equal(words.sum(-1), data.word_totals.expand(chains, -1))
    oracle = exact().draws
    expected = float((oracle["document_topics"] ** 2).sum(-1).mean())
    # E sum_k theta_dk^2 given z, for Dirichlet theta | z.
    shape = alpha + documents
    total = shape.sum(-1, keepdim=True)
    found = (shape * (shape + 1) / (total * (total + 1))).sum(-1).mean(-1)
    assert abs(float(found.mean()) - expected) < 5 * (float(found.std()) / chains**0.5 + 1e-3)


def test_huge_counts_give_finite_fits():
    for method in ("cavi", "cvb0", "stochastic_cavi", "gibbs"):
        short = {"warmup": 2, "draws": 4, "thin": 1} if method == "gibbs" else {"max_iterations": 5, "restarts": 1}
        fit = pyrozoo.fit(MODEL, method, data=HUGE, **short, **QUIET)
        assert all(value.isfinite().all() for value in fit.draws.values())


@pytest.mark.parametrize("how", ["gibbs", "anchors", "random"])
def test_starts_hold_all_tokens(how):
    posterior = larger()
    with seeded(0):
        found = start.started(posterior, start.Start(how, 5, False), 2)
    torch.testing.assert_close(found.sum((1, 2)), posterior.data.lengths.sum().expand(2))
    assert (found >= 0).all()


def test_anchor_words_find_topics_that_have_some():
    """Three topics, each with a word of its own: anchors are these, and topics are theirs."""
    generator = np.random.default_rng(0)
    beta = np.array([[0.4, 0, 0, 0.3, 0.3, 0], [0, 0.4, 0, 0.3, 0, 0.3], [0, 0, 0.4, 0, 0.3, 0.3]])
    theta = generator.dirichlet(np.full(3, 0.3), 1500)
    data = Documents.of(np.stack([generator.multinomial(60, each) for each in theta @ beta]).astype(float))
    with seeded(0):
        found = start.anchored(data, 3).T.numpy()
    order = found[:, :3].argmax(1)
    assert sorted(order) == [0, 1, 2]
    assert np.abs(found - beta[order]).max() < 0.05


def test_covariances_of_contrasts_know_no_order():
    """IW(nu, psi (I + 1 1^T)): its density is that of another order of the topics, and it integrates to 1."""
    prior = InverseWishart(torch.tensor(6.0).double(), torch.tensor(2.0).double(), 3, contrasts=True)
    with seeded(0):
        sigma = prior.rsample(torch.Size([5]))
    contrast = torch.tensor([[-1.0, 1, 0], [-1, 0, 1], [-1, 0, 0]]).double()  # against the first in place of the last
    torch.testing.assert_close(prior.log_prob(contrast @ sigma @ contrast.mT), prior.log_prob(sigma))
    one = InverseWishart(torch.tensor(3.0).double(), torch.tensor(1.5).double(), 1, contrasts=True)
    grid = torch.linspace(-12, 14, 4000, dtype=torch.float64)
    mass = torch.trapezoid(one.log_prob(grid.exp()[:, None, None]).exp() * grid.exp(), grid)
    assert float(mass) == pytest.approx(1, abs=1e-6)


def test_topics_of_the_other_prior_are_relabelled_as_all_k_of_them():
    posterior = Posterior.of(
        dataclasses.replace(CORRELATED, num_topics=3),
        simulate_data(dataclasses.replace(CORRELATED, num_topics=3), seed=0, rows=6, columns=5, tokens=9),
    )
    draws = {site: value[None].repeat(1, 4, *[1] * (value.ndim - 1)) for site, value in posterior.initial(1).items()}
    moved = posterior.align(draws)
    for density in (posterior.log_joint, posterior.log_likelihood):
        torch.testing.assert_close(density(moved), density(draws))


@pytest.mark.parametrize("method", ["cavi", "cvb0"])
def test_methods_for_lda_are_refused_for_the_correlated_model(method):
    message = refused(NotApplicable, pyrozoo.fit, CORRELATED, method, data=TINY, **QUIET)
    assert "type model.prior=dirichlet" in message


def test_too_many_ways_are_refused():
    message = refused(NotApplicable, pyrozoo.fit, MODEL, "exact", data=larger().data, **QUIET)
    assert "inference=gibbs" in message


def test_concentrations_of_each_topic_must_be_as_many():
    assert "2 (model.num_topics)" in refused(
        SettingError, dataclasses.replace, MODEL, document_concentration=(1.0,) * 3
    )


# What is shown --------------------------------------------------------------------------------------------------------


def test_words_are_scored_as_their_definitions_say():
    data = Documents.of(np.array([[4.0, 1, 0], [0, 1, 4]]))
    beta = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)
    share = torch.tensor([5.0, 3, 5]) / 13
    torch.testing.assert_close(queries.lift(beta, data), beta / share.double())
    # Of topic 0 exclusivity .4, .86, .67 has ranks 1, 3, 2 of 3, frequency 3, 2, 1.
    found = queries.frex(torch.tensor([[0.6, 0.3, 0.1], [0.9, 0.05, 0.05]], dtype=torch.float64))
    torch.testing.assert_close(found[0], torch.tensor([1 / 2, 4 / 5, 4 / 9]).double())
    # Words 0, 1, 2 of topic 0 occur in 3, 2, 1 documents, 0 and 1 in two together: pairs (1, 0), (2, 0), (2, 1).
    data = Documents.of(np.array([[4.0, 1, 0], [2, 0, 0], [1, 1, 4]]))
    logs = np.log([(2 + 1) / 3, (1 + 1) / 3, (1 + 1) / 2])
    assert float(queries.coherence(beta, data)[0]) == pytest.approx(logs.sum())


@pytest.mark.usefixtures("unchecked")  # a fit is more than this
def test_correlations_of_logits_are_those_of_their_distance_from_their_mean():
    sigma = torch.tensor([[1.0, 0.2], [0.2, 2.0]], dtype=torch.float64)
    fit: Any = SimpleNamespace(aligned={"logit_covariance": sigma[None, None]})
    S = np.pad(sigma.numpy(), (0, 1))  # the last logit is 0
    C = S - S.mean(0) - S.mean(1)[:, None] + S.mean()
    expected = C / np.sqrt(np.outer(np.diag(C), np.diag(C)))
    np.testing.assert_allclose(queries.correlations(fit)[1].numpy(), expected)


def test_prevalence_is_the_mean_share_of_each_level():
    of = dataclasses.replace(MODEL, num_topics=3)
    data = dataclasses.replace(
        larger().data, about={"party": ["x", "y"] * 20, "day": np.arange(40.0), "id": [*map(str, range(40))]}
    )
    fit = pyrozoo.fit(of, "gibbs", data=data, chains=1, warmup=5, draws=20, thin=1, **QUIET)
    table = fit.tables["prevalence_party"]
    mean = fit.aligned["document_topics"][0, :, ::2].mean((0, 1))
    own = table[table["party"] == "x"]["share"]
    np.testing.assert_allclose(own, mean.numpy())
    theta = fit.aligned["document_topics"][0, :, ::2].numpy()
    away = 1.6449 * np.sqrt(theta.mean(1).var(0) + theta.mean(0).var(0) / 20)  # draws, and which documents there are
    np.testing.assert_allclose(table[table["party"] == "x"]["upper_90"] - own, away, rtol=1e-4)
    assert table[["share", "lower_90", "upper_90"]].notna().all(axis=None)
    assert "prevalence_day" in fit.tables
    assert "prevalence_id" not in fit.tables
    assert {"topics", "shares", "quality", "correlations", "prevalence_party"} <= {
        p.name for p in view_of(of).pictures(fit)
    }


def test_correlations_of_shares_have_ones_on_the_diagonal():
    fit = pyrozoo.fit(
        dataclasses.replace(MODEL, num_topics=3), "cavi", data=larger().data, draws=20, restarts=1, **QUIET
    )
    lower, mean, upper = queries.correlations(fit)
    torch.testing.assert_close(mean.diagonal(), torch.ones(3).double())
    assert (lower <= mean + 1e-12).all()
    assert (mean <= upper + 1e-12).all()


def test_new_texts_get_topics_from_a_saved_run(tmp_path):
    frame = pd.DataFrame({"body": ["ball team goal"] * 8 + ["bank stock market"] * 8, "party": ["x", "y"] * 8})
    fit = pyrozoo.fit("topics", "cvb0", data=frame, text="body", num_topics=2, most_share=1.0, restarts=1, **QUIET)
    fit.save(tmp_path / "run")
    new = pd.DataFrame({"body": ["ball goal unheard", "stock bank"], "party": ["z", "z"]})
    found = pyrozoo.score(tmp_path / "run", new)
    assert list(found.columns[:2]) == ["body", "party"]
    assert found["topic[0]"].round().tolist() in ([0, 1], [1, 0])
    message = refused(NotApplicable, pyrozoo.score, tmp_path / "run", new, answer="fill")
    assert "answer=assign" in message


def test_a_word_that_cannot_be_has_a_finite_score():
    """Of probability 0 in both draws, and of 1/2 in the mean of two: none expected, and two of four."""
    found = predictive(
        torch.tensor([[0.0, 0.25], [0.0, 0.75]]).double(), torch.zeros(2).double(), torch.full((2,), 4.0).double()
    )
    assert found.mean.tolist() == [0, 2]
    assert -750 < float(found.log_density[0]) < -700
    assert float(found.log_density[1]) == pytest.approx(float(torch.tensor(0.5).log()))


def test_of_many_documents_some_say_where_to_start(monkeypatch):
    """Of forty documents ten are looked at, where no more are to be: counts are four times theirs."""
    posterior, seen = larger(), []

    def started(some, *_):
        seen.append(some.rows)
        return torch.ones(1, 3, 25)

    monkeypatch.setattr(stochastic_cavi, "started", started)
    for most, rows in ((10, 10), (40, 40), (50, 40)):
        monkeypatch.setattr(stochastic_cavi, "LOOKED_AT", most)
        state = stochastic_cavi.Solver(posterior).init(1)
        assert seen.pop() == rows
        words = next(value for value in vars(state).values() if value.shape == (1, 3, 25))
        torch.testing.assert_close(words, torch.full_like(words, posterior.model.word_concentration + 40 / rows))


def test_no_word_stands_for_two_topics():
    """Words that are all alike span nothing of one another: each is taken once."""
    rows = torch.tensor([[1.0, 0.0]] * 4)
    found = start._anchors(rows, torch.ones(4), torch.full((4,), 100), 3)
    assert len(set(found.tolist())) == 3
