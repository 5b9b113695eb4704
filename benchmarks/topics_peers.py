"""The peers of topics, for an environment of their own, without pyrozoo: tomotopy and scikit-learn.

``python topics_peers.py DATA.npz OUT.npz WHO TOPICS ITERATIONS`` fits documents (``start``, ``word``, ``count``,
``size``) by WHO (tomotopy_lda, tomotopy_ct, sklearn_online or sklearn_batch). It writes, at each of ten times, seconds
of the processor in fitting so far, and log probabilities of hidden tokens (``document``, ``token``): at the state then
(``plugin``), and of the states of the second half averaged (``averaged``). One worker; looks in between are not timed.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np

LOOKS = 10


def main() -> None:
    path, out, who, topics, iterations = sys.argv[1:]
    with np.load(path) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    fit = tomotopy if who.startswith("tomotopy") else scikit_learn
    np.savez(out, **fit(data, who, int(topics), int(iterations)))


def probability(data: dict[str, Any], theta: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return the probability of each hidden token."""
    at = np.array_split(np.arange(len(data["token"])), 1 + len(data["token"]) // 2000)
    return np.concatenate([(theta[data["document"][i]] * beta[:, data["token"][i]].T).sum(1) for i in at])


def tomotopy(data: dict[str, Any], who: str, topics: int, iterations: int) -> dict[str, Any]:
    import tomotopy as tp

    start, size = data["start"], int(data["size"])
    model = (tp.LDAModel if who == "tomotopy_lda" else tp.CTModel)(k=topics, seed=1, min_cf=0, rm_top=0)
    held = []
    for d in range(len(start) - 1):
        part = slice(start[d], start[d + 1])
        words = np.repeat(data["word"][part], data["count"][part].astype(int))
        if len(words):
            model.add_doc([str(word) for word in words])
            held.append(d)
    model.train(0)
    order = [int(word) for word in model.used_vocabs]
    tokens, seconds, plugins, averages, states = int(data["count"].sum()), [], [], [], []
    spent = 0.0
    for look in range(LOOKS):
        started = time.process_time()
        model.train(iterations // LOOKS, workers=1)
        spent += time.process_time() - started
        theta = np.full((len(start) - 1, topics), 1 / topics)
        for d, document in zip(held, model.docs, strict=True):
            theta[d] = document.get_topic_dist()
        beta = np.full((topics, size), 1e-12)
        for k in range(topics):
            beta[k, order] = model.get_topic_word_dist(k)
        found = probability(data, theta, beta / beta.sum(1, keepdims=True))
        states = [*states, found] if look >= LOOKS // 2 else [found]
        seconds.append(spent)
        plugins.append(np.log(found))
        averages.append(np.log(np.mean(states, 0)))
    return {"seconds": seconds, "plugin": plugins, "averaged": averages, "speed": tokens * iterations / spent,
            "version": f"tomotopy {version('tomotopy')}"}  # fmt: skip


def scikit_learn(data: dict[str, Any], who: str, topics: int, iterations: int) -> dict[str, Any]:
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import LatentDirichletAllocation

    start = data["start"]
    X = csr_matrix((data["count"], data["word"], start), shape=(len(start) - 1, int(data["size"])))
    model = LatentDirichletAllocation(topics, random_state=0, total_samples=X.shape[0], n_jobs=1, learning_offset=10)
    seconds, plugins, spent, batch = [], [], 0.0, 128
    generator = np.random.default_rng(0)
    for _ in range(LOOKS):
        started = time.process_time()
        for _ in range(max(1, iterations // LOOKS)):
            if who == "sklearn_batch":
                if not hasattr(model, "components_"):
                    model._init_latent_vars(X.shape[1], dtype=np.float64)
                model._em_step(X, X.shape[0], batch_update=True)
                continue
            for rows in np.array_split(generator.permutation(X.shape[0]), -(-X.shape[0] // batch)):
                model.partial_fit(X[rows])
        spent += time.process_time() - started
        beta = model.components_ / model.components_.sum(1, keepdims=True)
        plugins.append(np.log(probability(data, model.transform(X), beta)))
        seconds.append(spent)
    return {"seconds": seconds, "plugin": plugins, "averaged": plugins, "speed": X.sum() * iterations / spent,
            "version": f"scikit-learn {version('scikit-learn')}"}  # fmt: skip


if __name__ == "__main__":
    main()
