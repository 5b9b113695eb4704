"""topics: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from scipy.special import gammaln, logsumexp

from pyrozoo.data.documents import Documents
from pyrozoo.models.topics.model import Topics
from pyrozoo.run import catalog
from tests.case import Case, Oracle
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
CASE = replace(CASE, variants={method: variant(CASE) for method in ("laplace_em", "vem")})
